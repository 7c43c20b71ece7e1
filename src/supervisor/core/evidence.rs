//! Refusals that no event told, or whose event was lost: looked for in the session's file while an agent is silent in a
//! turn and when it died in one, and on the screen as the last resort. How they are read is the adapter's.

use super::Draft;
use super::action::Action;
use super::event::Source;
use super::stage::Stage;
use super::world::{HostStatus, Looks, Startup, Turn};
use crate::supervisor::agents::{Evidence, Signal};
use crate::supervisor::config::LoopConfig;
use crate::supervisor::names::LoopName;
use crate::support::clock::millis;
use serde_json::json;
use std::time::Duration;

/// A refusal is written down a moment after the last event before it. Doubles with each look that finds nothing …
const LOOK_MIN: Duration = Duration::from_secs(2);
/// … up to this: a model may think for minutes, and each look reads a file.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// Texts of refusals that are kept to tell an old one on the screen; an agent meets one or two in its life.
const KNOWN: usize = 8;

impl Looks {
    /// Keeps the text of a refusal that was told.
    pub(super) fn remember(&mut self, evidence: &str) {
        if !self.known.iter().any(|known| known == evidence) {
            self.known.push(evidence.to_owned());
            let more = self.known.len().saturating_sub(KNOWN);
            self.known.drain(..more);
        }
    }
}

impl Draft<'_> {
    /// Looks into the session's file now and then while an agent works and says nothing.
    pub(super) fn settle_evidence(&mut self, name: &LoopName, config: &LoopConfig) {
        if config.capabilities.evidence == Evidence::None {
            return;
        }
        let Some(l) = self.w.loops.get(name) else { return };
        let (Some(sign), Some(epoch)) = (l.life.last_sign, l.live_epoch()) else { return };
        if !in_a_turn(&l.life.turn) || l.life.startup == Startup::Coming && l.life.turn == Turn::Unknown {
            return;
        }
        let Some((path, since)) = l.record.agent.as_ref().and_then(|a| Some((a.transcript.clone()?, a.turn_since())))
        else {
            return;
        };
        let wait = LOOK_MAX.min(LOOK_MIN.saturating_mul(1 << l.life.looks.times.min(8)));
        let from = l.life.looks.last.unwrap_or(0).max(sign.boot);
        if !self.due(from.saturating_add(millis(wait))) {
            return;
        }
        let now = self.now;
        if let Some(l) = self.get_mut(name) {
            l.life.looks.last = Some(now.boot);
            l.life.looks.times = l.life.looks.times.saturating_add(1);
        }
        self.push(Action::ReadRecords { name: name.clone(), epoch, path, since });
        self.due(now.plus(wait).boot);
    }

    /// The last resort.
    pub(super) fn read_screen(&mut self, name: &LoopName) {
        let Some((l, config)) = self.w.get(name) else { return };
        let ready = matches!((&l.stage, &l.host.status), (Stage::Up { .. }, HostStatus::Ready { .. }));
        let (Evidence::RecordsAndScreen, Some(epoch), true) = (config.capabilities.evidence, l.live_epoch(), ready)
        else {
            return;
        };
        self.push(Action::ReadScreen { name: name.clone(), epoch });
    }

    pub(super) fn evidence_read(&mut self, name: &LoopName, epoch: u64, source: Source, signals: Vec<Signal>) {
        let Some(l) = self.w.loops.get(name) else { return };
        // A screen keeps what was told long ago.
        let old = |signal: &Signal| match (source, signal) {
            (Source::Screen, Signal::UsageLimit { evidence, .. }) => l.life.looks.known.contains(evidence),
            _ => false,
        };
        if signals.is_empty() || signals.iter().any(old) {
            return;
        }
        let (why, lives) = match (source, l.live_epoch()) {
            (Source::Screen, Some(live)) if live == epoch => ("its screen shows what no event has told", true),
            (Source::Records, Some(live)) if live == epoch => ("its session's file tells what no event has", true),
            // It died of it, and nothing was started since.
            (Source::Records, None) if l.record.epoch == epoch => ("it died with what its session's file tells", false),
            _ => return,
        };
        // An event has told meanwhile.
        if lives && !in_a_turn(&l.life.turn) {
            return;
        }
        let evidence = json!({ "signals": signals, "source": format!("{source:?}").to_lowercase() });
        self.journal(Some(name), "evidence", why, evidence, None);
        if lives {
            return self.signals(name, Some(epoch), signals);
        }
        for signal in signals {
            self.signal_of_the_dead(name, signal);
        }
    }
}

/// Whether the end of its turn may have been missed.
fn in_a_turn(turn: &Turn) -> bool {
    matches!(turn, Turn::Busy { .. } | Turn::Tool { .. } | Turn::Unknown)
}
