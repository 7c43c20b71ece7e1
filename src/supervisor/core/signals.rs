//! What agents tell of themselves.

use super::Draft;
use super::accounts::Fault;
use super::action::Clearing;
use super::stage::StopWhy;
use super::world::{Said, Stall, Turn, Turns};
use crate::supervisor::agents::Signal;
use crate::supervisor::names::LoopName;
use crate::support::clock::millis;
use serde_json::json;
use std::time::Duration;

/// The first time an overloaded server is left alone for; doubles.
const OVERLOAD_MIN: Duration = Duration::from_secs(30);
/// The longest such time: overload passes within minutes, and the process is kept all the while.
const OVERLOAD_MAX: Duration = Duration::from_secs(600);

/// What an agent is told after an overload.
pub(super) const OVERLOAD_OVER: &str = "The server was overloaded. Go on where you were.";

/// A text has minutes only and was rounded up; a window's own reset in that minute is the one that was meant.
fn nearest(said: Option<i64>, exact: Option<i64>) -> Option<i64> {
    match (said, exact) {
        (Some(said), Some(exact)) if (0..=120_000).contains(&(said - exact)) => Some(exact),
        (None, exact) => exact,
        (said, _) => said,
    }
}

impl Draft<'_> {
    pub(super) fn signals(&mut self, name: &LoopName, epoch: Option<u64>, signals: Vec<Signal>) {
        let now = self.now;
        let Some(l) = self.get_mut(name) else { return };
        // An event of an earlier agent changes nothing: a stale heartbeat once killed every fresh session, for ever.
        let live = l.live_epoch();
        if live.is_none() || epoch.is_some_and(|epoch| Some(epoch) != live) {
            return;
        }
        for signal in signals {
            let Some(l) = self.get_mut(name) else { return };
            l.life.last_sign = Some(now);
            // The status line tells nothing of its turn.
            let tells = !matches!(signal, Signal::WindowFull { .. });
            if tells && l.life.startup == super::world::Startup::Found {
                l.life.startup = super::world::Startup::Ready;
            }
            signal.word().clone_into(&mut l.life.sign);
            l.life.stall = Stall::None;
            l.life.looks.times = 0;
            self.signal(name, signal);
        }
        self.remember_turn(name);
    }

    /// The turn must be known to the next supervisor: one that took an idle agent for a busy one would never nudge it,
    /// and one that took a busy one for idle would cut its turn. Only what changes is written.
    fn remember_turn(&mut self, name: &LoopName) {
        let Some(l) = self.get_mut(name) else { return };
        let now = match l.life.turn {
            Turn::Unknown => return,
            Turn::Idle { .. } => Turns::Over,
            Turn::Busy { .. } | Turn::Tool { .. } | Turn::Person { .. } | Turn::Overloaded { .. } => Turns::Busy,
        };
        if let Some(agent) = l.record.agent.as_mut().filter(|agent| agent.turns != Turns::Untold) {
            agent.turns = now;
        }
    }

    fn signal(&mut self, name: &LoopName, signal: Signal) {
        let now = self.now;
        let Some(l) = self.get_mut(name) else { return };
        let life = &mut l.life;
        let quiet = [Signal::Alive, Signal::Waiting].contains(&signal)
            || matches!(signal, Signal::NeedsPerson { .. } | Signal::WindowFull { .. } | Signal::Session { .. });
        if !quiet {
            life.attention = Said::No;
        }
        if matches!(signal, Signal::PromptAccepted | Signal::ToolStarted | Signal::TurnEnded) {
            if let Some(agent) = l.record.agent.as_mut().filter(|agent| agent.turns == Turns::Untold) {
                agent.turns = Turns::Busy;
            }
        }
        match signal {
            Signal::Ready => self.ready(name),
            Signal::Session { uuid, transcript } => self.session_told(name, uuid, transcript),
            Signal::Waiting => {
                // For an end of a turn that was told while no supervisor ran.
                if matches!(life.turn, Turn::Unknown | Turn::Busy { .. }) {
                    life.turn = Turn::Idle { since: now };
                }
            }
            Signal::WindowFull { resets_at } => {
                life.window = Some(resets_at);
                self.account_reset_known(name, resets_at);
            }
            Signal::Alive => {
                if matches!(life.turn, Turn::Idle { .. }) {
                    life.turn = Turn::Busy { since: now };
                }
            }
            Signal::PromptAccepted => {
                life.turn = Turn::Busy { since: now };
                if let Some(agent) = &mut l.record.agent {
                    agent.turn_began = Some(now.wall);
                }
                life.idle_nudges = 0;
                self.acknowledged(name);
            }
            Signal::ToolEnded => {
                life.turn = Turn::Busy { since: now };
                life.idle_nudges = 0;
            }
            Signal::ToolStarted => {
                life.turn = Turn::Tool { since: now };
                self.account_good(name);
            }
            Signal::TurnEnded => {
                // The end of a turn that a refusal ended already shows nothing of the account.
                let worked = !matches!(life.turn, Turn::Idle { .. });
                life.turn = Turn::Idle { since: now };
                if let Some(typed) = &mut life.typed {
                    // What was typed meanwhile is taken now.
                    typed.at = now.boot;
                }
                if let super::world::Safety::Idle(at) = &mut l.safety {
                    *at = None;
                }
                if worked {
                    self.account_good(name);
                }
                self.transcript_due(name);
                if self.config(name).is_some_and(|c| c.restart_above.is_some()) {
                    self.sample(name);
                }
            }
            Signal::NeedsPerson { what } => {
                // Said again and again it is one wait: else nobody would ever be told of it.
                let since = if let Turn::Person { since, .. } = life.turn { since } else { now };
                life.turn = Turn::Person { since, what };
            }
            Signal::UsageLimit { resets_at, evidence } => {
                life.turn = Turn::Idle { since: now };
                // A dialog may open now, and what was typed is lost.
                life.clear_at = Some(now.plus(super::talk::DIALOG_AFTER).boot);
                life.clearing = Clearing::InTheWay;
                life.typed = None;
                life.looks.remember(&evidence);
                let exact = life.window.filter(|at| *at > now.wall);
                let resets_at = nearest(resets_at, exact);
                l.record.go_on = Some(super::accounts::LIMIT_OVER.to_owned());
                self.account_fault(name, Fault::Limit, resets_at, &evidence);
            }
            Signal::LoggedOut { evidence } => {
                life.turn = Turn::Idle { since: now };
                life.typed = None;
                l.record.go_on = Some("You are logged in again. Go on where you were.".to_owned());
                self.account_fault(name, Fault::Login, None, &evidence);
            }
            Signal::Overloaded => self.overloaded(name),
            Signal::ContextFull => {
                life.end_after_turn = Some(StopWhy::ContextFull);
                self.journal(
                    Some(name),
                    "context-full",
                    "its context is full",
                    json!({}),
                    Some("a fresh session with the hand-off prompt when its turn has ended".to_owned()),
                );
            }
            Signal::Ending => {
                life.turn = Turn::Idle { since: now };
                self.journal(Some(name), "ending", "the agent says that it means to end", json!({}), None);
            }
        }
    }

    /// What an agent that is gone met of its account, which the next one would meet too.
    pub(super) fn signal_of_the_dead(&mut self, name: &LoopName, signal: Signal) {
        match signal {
            Signal::UsageLimit { resets_at, evidence } => self.account_fault(name, Fault::Limit, resets_at, &evidence),
            Signal::LoggedOut { evidence } => self.account_fault(name, Fault::Login, None, &evidence),
            _ => {}
        }
    }

    pub(super) fn epoch_of(&self, name: &LoopName) -> u64 {
        self.w.loops.get(name).map_or(0, |l| l.record.epoch)
    }

    fn overloaded(&mut self, name: &LoopName) {
        let now = self.now;
        let mut rng = self.rng(name.as_str());
        let Some(l) = self.get_mut(name) else { return };
        let (since, tries) = match l.life.turn {
            Turn::Overloaded { since, tries, .. } => (since, tries.saturating_add(1)),
            _ => (now, 0),
        };
        let base = OVERLOAD_MAX.min(OVERLOAD_MIN.saturating_mul(1 << tries.min(8)));
        let wait = base + Duration::from_millis(rng.u64(0..=millis(base) / 4));
        l.record.go_on = Some(OVERLOAD_OVER.to_owned());
        l.life.turn = Turn::Overloaded { since, tries, until: now.plus(wait).boot };
        self.journal(
            Some(name),
            "overloaded",
            "the server is overloaded; the process is kept",
            json!({ "in_a_row": tries + 1 }),
            Some(format!("told to go on after {}", crate::support::units::short_duration(wait))),
        );
    }
}

impl Signal {
    /// The word that `status` shows as the last sign of life; the same as in its JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Alive => "alive",
            Self::PromptAccepted => "prompt-accepted",
            Self::TurnEnded => "turn-ended",
            Self::ToolStarted => "tool-started",
            Self::ToolEnded => "tool-ended",
            Self::NeedsPerson { .. } => "needs-person",
            Self::UsageLimit { .. } => "usage-limit",
            Self::LoggedOut { .. } => "logged-out",
            Self::Overloaded => "overloaded",
            Self::ContextFull => "context-full",
            Self::Ending => "ending",
            Self::Waiting => "waiting",
            Self::WindowFull { .. } => "window-full",
            Self::Session { .. } => "session",
        }
    }
}
