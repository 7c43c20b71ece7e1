//! An agent's death: its cause, what it counts for, and what it leaves behind.

use super::Draft;
use super::action::Action;
use super::adopt::session_uuid;
use super::budget::Verdict;
use super::stage::{Stage, StageKind, StopWhy};
use super::world::{Death, DeathCause, Life, NextSession};
use crate::supervisor::agents::{Evidence, Session};
use crate::supervisor::names::LoopName;
use crate::support::units::short_duration;
use serde_json::json;
use std::time::Duration;

/// A resumed agent that dies within this and never said that it is ready could not be resumed: the next one is fresh.
pub(super) const RESUME_GRACE: Duration = Duration::from_secs(20);
/// So many resumed agents in a row that die within that time, without taking a prompt, make the session the suspect.
const SHORT_RESUMES: u32 = 3;

impl Draft<'_> {
    pub(super) fn agent_gone(&mut self, name: &LoopName, epoch: u64) {
        let now = self.now;
        let Some(l) = self.w.loops.get(name) else { return };
        if l.live_epoch() != Some(epoch) {
            return;
        }
        let told = match l.stage {
            Stage::Stopping { why, .. } => Some(why),
            Stage::Up { .. } | Stage::Starting { .. } => None,
            Stage::Adopting | Stage::Down { .. } | Stage::Dying { .. } | Stage::Clearing { .. } => return,
        };
        self.enter(name, Stage::Dying { since: now, told });
        // Its tmux server was stopped with it and could not say what it died of.
        if self.w.global.frozen.is_some() {
            self.push(Action::Thaw(name.clone()));
        }
        self.read_death(name);
    }

    pub(super) fn read_death(&mut self, name: &LoopName) {
        let epoch = self.w.loops.get(name).and_then(|l| l.record.agent.as_ref()).map(|agent| agent.epoch);
        if let Some(epoch) = epoch {
            self.push(Action::ReadDeath(name.clone(), epoch));
        }
    }

    pub(super) fn death_read(&mut self, name: &LoopName, epoch: u64, cause: DeathCause, piped: bool) {
        let now = self.now;
        let Some(l) = self.get_mut(name) else { return };
        if l.live_epoch() != Some(epoch) || l.stage.kind() != StageKind::Dying {
            return;
        }
        if let super::world::HostStatus::Ready { misses, .. } = &mut l.host.status {
            *misses = 0;
        }
        if !piped {
            l.pipe = l.pipe.closed(now);
        }
        self.account_death(name, cause, "");
        self.clear(name);
    }

    /// Counts a death, or not, and settles what the next start does.
    pub(super) fn account_death(&mut self, name: &LoopName, cause: DeathCause, where_seen: &str) {
        let now = self.now;
        let Some(config) = self.config(name) else { return };
        let mut rng = self.rng(name.as_str());
        let Some(l) = self.get_mut(name) else { return };
        let Stage::Dying { told, .. } = l.stage else { return };
        self.text_lost(name);
        let Some(l) = self.get_mut(name) else { return };
        let Some(agent) = l.record.agent.take() else { return };
        let epoch = agent.epoch;
        let ran = now.since(agent.started);
        let proved = ran >= config.stable_after;
        // One that says so said it; the rest said something. An agent that could not resume may still say that it ends.
        let ready = match config.capabilities.says_ready {
            true => l.life.startup == super::world::Startup::Ready,
            false => l.life.turn != super::world::Turn::Unknown,
        };
        l.record.session = Some(session_uuid(&agent.session));
        let unheard = !matches!(l.life.turn, super::world::Turn::Idle { .. }) && told.is_none();
        let short = matches!(agent.session, Session::Resume { .. }) && ran < RESUME_GRACE && told.is_none();
        l.record.short_resumes = if short { l.record.short_resumes.saturating_add(1) } else { 0 };
        // It ended by itself and never came up, or came up again and again for nothing. One that was killed meanwhile
        // has a session that is as good as before.
        let refused = !ready && matches!(cause, DeathCause::Exited { .. });
        let lost = short && (refused || l.record.short_resumes >= SHORT_RESUMES);
        (l.record.session_phase, l.record.session_gate) = (agent.phase, agent.gate);
        l.record.next_session = match told {
            Some(StopWhy::ContextFull) => NextSession::Handoff,
            Some(StopWhy::Phase | StopWhy::PlanComplete) => NextSession::Kickoff,
            _ if lost => NextSession::Handoff,
            _ if config.capabilities.names_session => agent.resumable(),
            _ => NextSession::Resume,
        };
        if lost {
            l.record.short_resumes = 0;
            let next = Some("a fresh session with the hand-off prompt".to_owned());
            let evidence = json!({ "session": l.record.session, "cause": cause, "ran": short_duration(ran) });
            self.journal(Some(name), "resume-failed", "its session could not be resumed", evidence, next);
        }
        // It may have met a refusal that it had no time to tell of; read before the next one is started into it.
        if let Some(path) =
            agent.transcript.clone().filter(|_| unheard && config.capabilities.evidence != Evidence::None)
        {
            self.push(Action::ReadRecords { name: name.clone(), epoch, path, since: agent.turn_since() });
        }
        let Some(l) = self.get_mut(name) else { return };
        l.record.last_death = Some(Death { at: now, cause: cause.clone(), ran_ms: crate::support::clock::millis(ran) });
        l.life = Life::new(now, "died");
        l.life.last_sign = None;
        let counts = told.is_none_or(|why| why.counts_as_death(proved));
        let mut evidence = json!({
            "cause": cause, "ran": short_duration(ran),
            "pid": agent.process.map(|p| p.pid), "epoch": epoch,
        });
        if !where_seen.is_empty() {
            evidence["seen"] = json!(where_seen);
        }
        if !counts {
            let why = told.map_or("", StopWhy::text);
            self.journal(Some(name), "ended", &format!("it {cause}; {why}"), evidence, None);
            return;
        }
        let recovered = if proved { l.record.budget.reset() } else { None };
        l.record.restarts = l.record.restarts.saturating_add(1);
        let verdict = l.record.budget.death(now, config.crash_loop, &mut rng);
        let deaths = l.record.budget.deaths();
        evidence["deaths_in_window"] = json!(deaths);
        if recovered.is_some() {
            evidence["crash_loop_ended"] = json!(true);
        }
        let within = short_duration(config.crash_loop.within);
        let (decision, next) = match verdict {
            Verdict::AtOnce => ("restart", "started again at once".to_owned()),
            Verdict::After(delay) => ("backoff", format!("started again after {}", short_duration(delay))),
            Verdict::CrashLoop { retry_in } => {
                ("hold", format!("held as a crash loop; tried again after {}", short_duration(retry_in)))
            }
            Verdict::StillCrashLoop { retry_in } => {
                ("hold", format!("still a crash loop; tried again after {}", short_duration(retry_in)))
            }
        };
        self.journal(Some(name), decision, &format!("the agent {cause}"), evidence, Some(next.clone()));
        if let Verdict::CrashLoop { .. } = verdict {
            self.notify(
                "crash-loop",
                Some(name),
                format!("{name}: {deaths} deaths within {within}, the last: {cause}"),
                format!("{next}; see `supervisor logs {name}`, or start it now with `supervisor start {name}`"),
            );
        } else if let DeathCause::Oom { .. } = cause {
            self.notify("oom", Some(name), format!("{name}: {cause}"), next);
        }
    }

    /// Begins to kill what the agent left behind. From every stage but `Down` with nothing in it.
    pub(super) fn clear(&mut self, name: &LoopName) {
        let now = self.now;
        if self.w.loops.get(name).is_none_or(|l| l.stage.kind() == StageKind::Clearing) {
            return;
        }
        // A server that died may have left the agent itself behind, without the marker if it cleared its environment.
        // One of another boot is nobody: its pid and start time may be anyone's by now.
        let before = self.old.loops.get(name).filter(|l| l.record.boot_id == self.w.boot_id);
        let agent = before.and_then(|l| l.record.agent.as_ref()).and_then(|agent| agent.process);
        self.enter(name, Stage::Clearing { since: now });
        self.push(Action::Clear(name.clone(), agent));
    }

    /// Something that it left behind cannot be killed.
    pub(super) fn clear_stuck(&mut self, name: &LoopName, what: &str) {
        let why = format!("what its agent left behind cannot be killed: {what}");
        let next = Some("tried on; nothing is started beside it".to_owned());
        self.journal(Some(name), "clear-stuck", &why, json!({ "left": what }), next);
        self.notify("clear-stuck", Some(name), format!("{name}: {why}"), "end it by hand".to_owned());
    }

    pub(super) fn cleared(&mut self, name: &LoopName, killed: usize) {
        let now = self.now;
        if self.w.loops.get(name).is_none_or(|l| l.stage.kind() != StageKind::Clearing) {
            return;
        }
        self.enter(name, Stage::Down { since: now });
        if killed > 0 {
            self.journal(
                Some(name),
                "leftovers-killed",
                "processes that the agent left behind were killed before anything else is started",
                json!({ "killed": killed }),
                None,
            );
        }
    }
}
