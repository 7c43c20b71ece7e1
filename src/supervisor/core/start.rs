//! From `Down` to `Up`: what a start waits for, what it begins with, and what becomes of it.

use super::Draft;
use super::action::{Action, Start};
use super::event::{HostFacts, NotStarted};
use super::holds::{fresh_memory, fresh_need, lasting, passing, stagger_until};
use super::stage::{Respawn, Stage};
use super::world::{AgentRecord, HostStatus, Life, Need, NeedState, NextSession, Pipe, Probe, StartFailure, Turns};
use crate::supervisor::agents::{Prompt, Session};
use crate::supervisor::config::OnPhase;
use crate::supervisor::names::{LoopName, NeedName};
use crate::support::clock::millis;
use crate::support::process::ProcId;
use serde_json::json;
use std::time::Duration;

/// Between two probes of a missing need: quick while it is likely to come up, slow when it takes long.
const NEED_RETRY_MIN: Duration = Duration::from_secs(1);
/// Likewise; an outage that lasts hours costs at most this much after its end.
const NEED_RETRY_MAX: Duration = Duration::from_secs(30);
/// Between two looks at free memory while a start waits for it.
const MEMORY_RETRY: Duration = Duration::from_secs(5);
/// A start that was given up without an answer is looked for once more after this: longer than any deadline of a tmux
/// command, so what comes of it has come.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The longest time between two attempts at a start that fails before there is an agent (a full disk, a missing prompt).
const START_RETRY_MAX: Duration = Duration::from_secs(60);

impl Draft<'_> {
    /// Starts the agent if nothing holds it; else prepares what it waits for and notes when to look again.
    pub(super) fn settle_down(&mut self, name: &LoopName) {
        self.settle_given_up(name);
        let Some((l, config)) = self.w.get(name) else { return };
        let (not_before, retry_at) = (l.record.budget.not_before(), l.start_failure.as_ref().map(|f| f.retry_at));
        let lasts = !lasting(&self.w, name, l, config, self.now).is_empty();
        if lasts {
            self.due(not_before);
            if let Some(at) = retry_at {
                self.due(at);
            }
            return;
        }
        for need in config.needs.clone() {
            self.probe_if_due(&need);
        }
        self.read_memory_if_due();
        let Some((l, config)) = self.w.get(name) else { return };
        let stagger = stagger_until(&self.w, l, self.now);
        let free = passing(&self.w, name, l, config, self.now).is_empty();
        if let Some(at) = stagger {
            self.due(at);
        }
        if free {
            self.start(name);
        }
    }

    /// A start tells by itself that something runs already; a loop that is held has nothing else to tell it.
    fn settle_given_up(&mut self, name: &LoopName) {
        let Some(l) = self.w.loops.get(name) else { return };
        // Without a server there is nobody to ask; a new one tells by itself what runs in it.
        let (Some(at), HostStatus::Ready { .. }) = (l.look_again, &l.host.status) else { return };
        // Also in a freeze: it stopped only what was up, so an agent that comes of this would run through it.
        if !self.due(at) {
            return;
        }
        if let Some(l) = self.get_mut(name) {
            l.look_again = None;
        }
        self.probe_again(name);
    }

    fn probe_if_due(&mut self, name: &NeedName) {
        let Some(need) = self.w.needs.get(name).cloned() else { return };
        let Probe::Idle { last, misses } = need.probe else { return };
        if matches!(need.state, NeedState::There { .. }) && fresh_need(&self.w, name, self.now) {
            return;
        }
        let wait = match misses {
            0 => Duration::ZERO,
            n => NEED_RETRY_MAX.min(NEED_RETRY_MIN.saturating_mul(1 << (n - 1).min(5))),
        };
        if self.due(last.map_or(0, |at| at.saturating_add(millis(wait)))) {
            if let Some(need) = self.w.needs.get_mut(name) {
                need.probe = Probe::InFlight { misses };
            }
            self.push(Action::ProbeNeed(name.clone()));
        }
    }

    fn read_memory_if_due(&mut self) {
        if self.w.config.min_free_memory == 0 {
            return;
        }
        let enough = self.w.memory.free >= self.w.config.min_free_memory;
        if enough && fresh_memory(&self.w, self.now) {
            return;
        }
        let wait = if enough { Duration::ZERO } else { MEMORY_RETRY };
        let asked = self.actions.iter().any(|action| matches!(action, Action::ReadMemory));
        if self.due(self.w.memory.at.map_or(0, |at| at.saturating_add(millis(wait)))) && !asked {
            self.push(Action::ReadMemory);
        }
    }

    pub(super) fn need_probed(&mut self, name: &NeedName, found: Result<(), String>) {
        let now = self.now;
        let Some(need) = self.w.needs.get(name).cloned() else { return };
        let misses = match need.probe {
            Probe::InFlight { misses } | Probe::Idle { misses, .. } => misses,
        };
        let (state, misses) = match (found, need.state) {
            (Ok(()), NeedState::There { since }) => (NeedState::There { since }, 0),
            (Ok(()), before) => {
                let was = matches!(before, NeedState::Missing { .. });
                if was {
                    self.journal(None, "need-there", &format!("{name} is there"), json!({ "need": name }), None);
                }
                (NeedState::There { since: now }, 0)
            }
            (Err(why), NeedState::Missing { since, .. }) => {
                (NeedState::Missing { since, why }, misses.saturating_add(1))
            }
            (Err(why), before) => {
                let went = matches!(before, NeedState::There { .. });
                let evidence = json!({ "need": name, "probe": why });
                let next = Some("loops that need it and do not run yet wait; running ones are left alone".to_owned());
                self.journal(None, "need-missing", &format!("{name} is not there: {why}"), evidence, next);
                if went {
                    self.notify(
                        "need",
                        None,
                        format!("{name} went away: {why}"),
                        "running agents are left alone; loops that start wait for it".to_owned(),
                    );
                }
                (NeedState::Missing { since: now, why }, misses.saturating_add(1))
            }
        };
        self.w.needs.insert(name.clone(), Need { state, probe: Probe::Idle { last: Some(now.boot), misses } });
    }

    fn start(&mut self, name: &LoopName) {
        let now = self.now;
        let boot_id = self.w.boot_id.clone();
        let Some(config) = self.config(name) else { return };
        let mut rng = self.rng(&format!("session of {name}"));
        let phase = if config.follows_phases { self.w.phase } else { None };
        let Some(l) = self.get_mut(name) else { return };
        let epoch = l.record.epoch.saturating_add(1);
        let resumable = l.record.session.clone().filter(|_| config.capabilities.resumes);
        // The phase may have moved since the last session heard of it.
        let moved = phase.is_some() && l.record.session_phase.is_some_and(|known| Some(known) != phase);
        let next = match l.record.next_session {
            NextSession::Resume | NextSession::Handoff if moved && config.on_phase == OnPhase::Restart => {
                NextSession::Kickoff
            }
            next => next,
        };
        let (mut knows, mut gate) = (phase, None);
        let session = match (next, resumable) {
            (NextSession::Resume, Some(uuid)) => {
                // It is told of the phase once it is up.
                knows = l.record.session_phase.filter(|_| moved).or(phase);
                gate = l.record.session_gate;
                Session::Resume { uuid }
            }
            (next, _) => {
                let prompt = if next == NextSession::Handoff { Prompt::Handoff } else { Prompt::Kickoff };
                let uuid = uuid::Builder::from_random_bytes(rng.u128(..).to_le_bytes()).into_uuid().to_string();
                Session::Fresh { uuid, prompt }
            }
        };
        l.record.epoch = epoch;
        l.record.boot_id = boot_id;
        l.record.agent = Some(AgentRecord {
            epoch,
            process: None,
            started: now,
            hash: config.hash.clone(),
            phase: knows,
            gate,
            turns: Turns::Untold,
            session: session.clone(),
            told: None,
            transcript: None,
            turn_began: None,
            children_oom_killed: 0,
        });
        let pipe = l.pipe;
        l.look_again = None;
        self.enter(name, Stage::Starting { since: now, respawn: Respawn::Sent });
        self.w.last_start = Some(now.boot);
        self.push(Action::Start(Start { name: name.clone(), epoch, session, phase, pipe }));
    }

    pub(super) fn started(&mut self, name: &LoopName, epoch: u64, process: ProcId) {
        let now = self.now;
        let Some(l) = self.get_mut(name) else { return };
        if l.live_epoch() != Some(epoch) || !matches!(l.stage, Stage::Starting { .. }) {
            return;
        }
        if let Some(agent) = &mut l.record.agent {
            agent.process = Some(process);
        }
        if let HostStatus::Ready { misses, .. } = &mut l.host.status {
            *misses = 0;
        }
        l.pipe = Pipe::Open;
        l.start_failure = None;
        l.life = Life::new(now, "started");
        let session = l.record.agent.as_ref().map(|agent| agent.session.clone());
        self.enter(name, Stage::Up { since: now });
        self.journal(
            Some(name),
            "start",
            "nothing holds it",
            json!({ "pid": process.pid, "epoch": epoch, "session": session }),
            None,
        );
        if self.w.global.frozen.is_some() {
            self.push(Action::Freeze(name.clone()));
        }
    }

    /// What became of a start must be asked of the server.
    pub(super) fn unsure(&mut self, name: &LoopName) {
        if let Some(Stage::Starting { respawn, .. }) = self.get_mut(name).map(|l| &mut l.stage) {
            *respawn = Respawn::Unsure;
        }
    }

    /// After `pane busy` or no answer at all: the server was asked what runs there.
    pub(super) fn start_settled(&mut self, name: &LoopName, facts: HostFacts) {
        if facts.agent.is_some() {
            self.adopt_running(name, &facts);
            return;
        }
        // Nothing runs, and yet tmux refused: the pane still drains output into a pipe that does not take it.
        self.push(Action::Repipe(name.clone()));
        let epoch = self.w.loops.get(name).map_or(0, |l| l.record.epoch);
        self.given_up(name);
        let error = "tmux did not start it: its pane is not free (it may still drain output)".to_owned();
        self.fail_start(name, epoch, error, Duration::from_millis(200));
    }

    pub(super) fn start_failed(&mut self, name: &LoopName, epoch: u64, why: NotStarted) {
        let Some(l) = self.w.loops.get(name) else { return };
        if l.live_epoch() != Some(epoch) || !matches!(l.stage, Stage::Starting { .. }) {
            return;
        }
        match why {
            NotStarted::PaneBusy => {
                self.unsure(name);
                self.probe_again(name);
            }
            // No process came of the intent, so its session does not exist and must not be resumed.
            NotStarted::NoHost(why) => {
                self.forget_intent(name);
                self.host_down(name, &why);
            }
            NotStarted::NoPane(server) => {
                self.forget_intent(name);
                self.pane_gone(name, server);
            }
            NotStarted::Error(error) => {
                let tries = l.start_failure.as_ref().map_or(0, |f| f.tries);
                let wait = START_RETRY_MAX.min(Duration::from_secs(1 << tries.min(6)));
                self.fail_start(name, epoch, error, wait);
            }
        }
    }

    /// A start was given up, and whether tmux still carries it out is not known.
    pub(super) fn given_up(&mut self, name: &LoopName) {
        let at = self.now.plus(LOOK_AGAIN).boot;
        if let Some(l) = self.get_mut(name) {
            l.look_again = Some(at);
        }
    }

    fn fail_start(&mut self, name: &LoopName, epoch: u64, error: String, wait: Duration) {
        let now = self.now;
        let Some(l) = self.get_mut(name) else { return };
        let tries = l.start_failure.as_ref().map_or(0, |f| f.tries).saturating_add(1);
        let new = l.start_failure.as_ref().is_none_or(|f| f.error != error);
        l.start_failure = Some(StartFailure { error: error.clone(), tries, retry_at: now.plus(wait).boot });
        self.forget_intent(name);
        self.clear(name);
        if new {
            self.journal(
                Some(name),
                "start-failed",
                &error,
                json!({ "epoch": epoch, "tries": tries }),
                Some(format!("tried again after {}", crate::support::units::short_duration(wait))),
            );
        }
        // The first failure may be a passing one that nobody has to know of.
        if tries == 3 {
            self.notify("start-failed", Some(name), format!("{name}: {error}"), "it is tried again".to_owned());
        }
    }
}
