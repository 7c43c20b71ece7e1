//! The one decision point: [`decide`]. Pure: no file, process, thread, environment or clock is touched here.
//!
//! Nothing else in the supervisor starts, stops or restarts an agent. An event changes a draft of the world, then
//! [`Draft::settle`] looks at everything once more: what is due, what is held, what can start. Every condition on time
//! goes through [`Draft::due`], which also finds out when to look again, so no timer can be forgotten.

pub mod accounts;
pub mod action;
mod adopt;
pub mod budget;
mod death;
mod drain;
pub mod event;
mod evidence;
pub mod gates;
pub mod holds;
pub mod host;
mod life;
mod operator;
mod phases;
pub mod record;
mod signals;
pub mod stage;
mod start;
mod startup;
pub mod summary;
mod talk;
pub mod view;
pub mod world;

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;

use crate::supervisor::config::LoopConfig;
use crate::supervisor::control::protocol::{Refusal, Response};
use crate::supervisor::journal::Entry;
use crate::supervisor::names::LoopName;
use crate::support::clock::Now;
use action::{Action, How, Notification};
use event::{Event, Leave};
use serde_json::{Value, json};
use stage::{Force, Stage, StopWhy};
use std::sync::Arc;
use std::time::Duration;
use world::{Loop, Mode, RequestId, World};

/// How long a wall-clock deadline may be slept for in one piece: the wall clock can be set, and the machine's boot
/// clock, which timers run on, does not notice.
const WALL_RECHECK_MS: u64 = 60_000;

/// Signals to end that come this close together are one.
const ONE_WISH: Duration = Duration::from_secs(1);

/// When the supervisor ends, what still lives this long after the longest `stop_timeout` sleeps in the kernel or is
/// another user's: waiting longer would only keep the machine from going down.
const UNKILLABLE: Duration = Duration::from_secs(10);

/// What is to be done about `event`. The first action is always [`Action::Become`].
pub fn decide(world: &World, event: Event, now: Now) -> Vec<Action> {
    let mut draft = Draft::new(world, now);
    draft.handle(event);
    draft.settle();
    draft.finish()
}

/// A world being changed by one event.
struct Draft<'a> {
    old: &'a World,
    w: World,
    now: Now,
    actions: Vec<Action>,
    wake: Option<u64>,
}

impl<'a> Draft<'a> {
    fn new(old: &'a World, now: Now) -> Self {
        Self { old, w: old.clone(), now, actions: Vec::new(), wake: None }
    }

    fn finish(mut self) -> Vec<Action> {
        self.w.wake_at = self.wake;
        let mut saves = Vec::new();
        for (name, l) in &self.w.loops {
            if self.old.loops.get(name).is_none_or(|old| !Arc::ptr_eq(old, l) && old.record != l.record) {
                saves.push(Action::SaveLoop(name.clone(), Box::new(l.record.clone())));
            }
        }
        if self.old.global != self.w.global {
            saves.push(Action::SaveGlobal(Box::new(self.w.global.clone())));
        }
        if self.old.gate != self.w.gate {
            saves.push(Action::SaveGate(Box::new(self.w.gate.clone())));
        }
        let mut all = vec![Action::Become(Box::new(self.w))];
        all.append(&mut saves);
        all.append(&mut self.actions);
        all
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Begun => self.begun(),
            Event::Tick => {}
            Event::Shutdown(leave) => self.shutdown(leave),
            Event::HostUp { name, facts } => self.host_up(&name, facts),
            Event::HostDown { name, why } => self.host_down(&name, &why),
            Event::PaneGone { name, server } => self.pane_gone(&name, server),
            Event::HostMute { name } => self.host_mute(&name),
            Event::Started { name, epoch, process } => self.started(&name, epoch, process),
            Event::StartFailed { name, epoch, why } => self.start_failed(&name, epoch, why),
            Event::AgentGone { name, epoch } => self.agent_gone(&name, epoch),
            Event::DeathRead { name, epoch, cause, piped } => self.death_read(&name, epoch, cause, piped),
            Event::Cleared { name, killed } => self.cleared(&name, killed),
            Event::ClearStuck { name, what } => self.clear_stuck(&name, &what),
            Event::FreezeStuck { name, what } => {
                let why = format!("some of it cannot be stopped in place and runs on: {what}");
                self.journal(Some(&name), "freeze-stuck", &why, json!({ "runs": what }), None);
                self.notify("freeze-stuck", Some(&name), format!("{name}: {why}"), "stop it by hand".to_owned());
            }
            Event::StateWritten(result) => self.state_written(result),
            Event::PipeClosed { name } => self.pipe_closed(&name),
            Event::Signals { name, epoch, signals } => self.signals(&name, epoch, signals),
            Event::Sampled { name, epoch, output_at, memory, children_oom_killed } => {
                self.sampled(&name, epoch, output_at, memory, children_oom_killed);
            }
            Event::Together(events) => events.into_iter().for_each(|event| self.handle(event)),
            Event::NeedProbed { need, found } => self.need_probed(&need, found),
            Event::MemoryRead { free } => {
                self.w.memory = world::MemorySample { free, at: Some(self.now.boot) };
            }
            Event::SafetyRead { name, found } => self.safety_read(&name, found),
            Event::NudgeSent { name, result, request } => self.nudge_sent(&name, result, request),
            Event::EvidenceRead { name, epoch, source, signals } => self.evidence_read(&name, epoch, source, signals),
            Event::TextLookedFor { name, epoch, text, found } => self.text_looked_for(&name, epoch, &text, found),
            Event::TranscriptSeen { name, epoch, size } => self.transcript_seen(&name, epoch, size),
            Event::PhaseMoved(result) => self.phase_moved(result),
            Event::PhaseFileDiffers { found } => self.phase_file_differs(&found),
            Event::PhaseLoaded { index, note } => self.phase_loaded(index, note),
            Event::Noted { note } => {
                self.journal(None, "recovered", &note, json!({}), None);
                self.notify("state", None, note, "see `supervisor history`".to_owned());
            }
            // Only written down: a notification about it would fail as well.
            Event::NotifyFailed { why } => {
                let next = Some("`supervisor doctor` tries it".to_owned());
                self.journal(None, "notify-failed", &why, json!({}), next);
            }
            Event::Orphan { name, record } => self.orphan(&name, &record),
            Event::Asked { request, caller, what } => self.asked(request, &caller, what),
            Event::AskerGone { request } => self.w.waiters.retain(|waiter| waiter.request != request),
        }
    }

    /// Looks at everything once more.
    fn settle(&mut self) {
        self.settle_drain();
        self.settle_accounts();
        self.settle_gate();
        let names: Vec<LoopName> = self.w.loops.keys().cloned().collect();
        for name in &names {
            self.settle_host(name);
            self.settle_agent(name);
        }
        self.settle_waiters();
        self.settle_exit(&names);
    }

    fn settle_agent(&mut self, name: &LoopName) {
        match self.w.loops.get(name).map(|l| l.stage.kind()) {
            Some(stage::StageKind::Down) => self.settle_down(name),
            Some(stage::StageKind::Up) => self.settle_up(name),
            // The daemon answers for these: each of its commands has a deadline.
            _ => {}
        }
        // Looked at afterwards: `settle_up` may just have begun an end.
        let Some((l, config)) = self.w.get(name) else { return };
        if let Stage::Stopping { since, force: Force::Term, .. } = l.stage {
            let at = since.plus(config.stop_timeout).boot;
            if self.due(at) {
                self.escalate(name, "it did not end after SIGTERM within stop_timeout");
            }
        }
    }

    fn begun(&mut self) {
        // Also takes back `ended`, so that a death after a crash of this supervisor counts again.
        self.push(Action::SaveGlobal(Box::new(self.w.global.clone())));
        let names: Vec<LoopName> = self.w.loops.keys().cloned().collect();
        for name in names {
            let how = self.how_to_probe(&name);
            self.push(Action::ProbeHost(name, how));
        }
    }

    /// The tmux server of a frozen agent is stopped too (it would let its agent go on), so it answers nobody. One without
    /// an agent is not, and must be asked: what the record says of it may be over.
    fn how_to_probe(&self, name: &LoopName) -> How {
        let stopped = self.w.loops.get(name).is_some_and(|l| {
            let kind = l.stage.kind();
            let found = kind == stage::StageKind::Adopting && l.record.agent.is_some();
            l.record.boot_id == self.w.boot_id && (kind == stage::StageKind::Up || found)
        });
        if self.w.global.frozen.is_some() && stopped { How::Record } else { How::Ask }
    }

    fn shutdown(&mut self, leave: Leave) {
        // Two signals at once are one wish: `timeout` and some terminals send both to the process and to its group.
        let again = self.w.global.ended.is_some_and(|first| self.now.since(first) >= ONE_WISH);
        if self.w.mode != Mode::Running && !again {
            return;
        }
        self.w.mode = match leave {
            Leave::Sessions => Mode::Leaving,
            Leave::Nothing => Mode::StoppingLoops,
        };
        self.w.global.ended = Some(self.now);
        let names: Vec<LoopName> = self.w.loops.keys().cloned().collect();
        if leave == Leave::Nothing {
            for name in &names {
                match self.w.loops.get(name).map(|l| l.stage.kind()) {
                    Some(stage::StageKind::Up) => self.end(name, StopWhy::Shutdown),
                    Some(stage::StageKind::Stopping) if again => {
                        self.escalate(name, "the supervisor was told to end a second time");
                    }
                    _ => {}
                }
            }
        }
        if !again {
            let why = match leave {
                Leave::Sessions => "the supervisor was told to end; the sessions stay and are found again",
                Leave::Nothing => "the supervisor was told to end and stops its loops first",
            };
            self.journal(None, "supervisor-ends", why, json!({}), None);
        }
    }

    fn state_written(&mut self, result: Result<(), String>) {
        match (result.err(), self.w.unwritable.is_some()) {
            (Some(error), said) => {
                self.w.unwritable = Some(error.clone());
                if !said {
                    let next = "tried again every 5 s; until then no agent is started, running ones are left alone";
                    self.journal(None, "state-unwritable", &error, json!({}), Some(next.to_owned()));
                    self.notify("state", None, error, next.to_owned());
                }
            }
            (None, true) => {
                self.w.unwritable = None;
                self.journal(None, "state-writable", "the state can be written again", json!({}), None);
                self.notify("state", None, "the state can be written again".to_owned(), String::new());
            }
            (None, false) => {}
        }
    }

    /// Ends the supervisor when it may.
    fn settle_exit(&mut self, names: &[LoopName]) {
        match self.w.mode {
            Mode::Running => {}
            Mode::Leaving => self.push(Action::Exit),
            Mode::StoppingLoops => {
                let ended = |l: &Loop| matches!(l.stage, Stage::Down { .. } | Stage::Adopting);
                let left: Vec<&str> =
                    self.w.loops.iter().filter(|(_, l)| !ended(l)).map(|(name, _)| name.as_str()).collect();
                let left = left.join(", ");
                let slowest = self.w.config.loops.values().map(|c| c.stop_timeout).max().unwrap_or_default();
                let since = self.w.global.ended.unwrap_or(self.now);
                if !left.is_empty() {
                    if !self.due(since.plus(slowest + UNKILLABLE).boot) {
                        return;
                    }
                    let why = format!("what is left of {left} cannot be killed; the supervisor ends without it");
                    self.journal(None, "supervisor-ends", &why, json!({}), Some("the next one clears it away".into()));
                }
                for name in names {
                    // A server of another boot is nobody.
                    let here = |l: &&Arc<Loop>| l.record.boot_id == self.w.boot_id;
                    let server = self.w.loops.get(name).filter(here).and_then(|l| l.record.server);
                    self.push(Action::RetireHost(name.clone(), server));
                }
                self.push(Action::Exit);
            }
        }
    }

    // ---- what the parts share ----

    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn config(&self, name: &LoopName) -> Option<Arc<LoopConfig>> {
        self.w.config.loops.get(name).cloned()
    }

    fn get_mut(&mut self, name: &LoopName) -> Option<&mut Loop> {
        self.w.loops.get_mut(name).map(Arc::make_mut)
    }

    /// Whether `at` (milliseconds since boot) has come; if not, the next look is then at the latest.
    fn due(&mut self, at: u64) -> bool {
        if self.now.boot >= at {
            return true;
        }
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        false
    }

    /// The same for a moment on the wall clock, in milliseconds since the Unix epoch.
    fn due_wall(&mut self, at: i64) -> bool {
        if self.now.wall >= at {
            return true;
        }
        let left = u64::try_from(at - self.now.wall).unwrap_or(0).min(WALL_RECHECK_MS);
        // Not due: the left time is positive, so this only registers the next look.
        self.due(self.now.boot.saturating_add(left.max(1)))
    }

    /// The same random numbers for the same decision, so that `decide` stays a function of its arguments.
    fn rng(&self, salt: &str) -> fastrand::Rng {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (self.w.seed, salt, self.now.boot).hash(&mut hasher);
        fastrand::Rng::with_seed(hasher.finish())
    }

    /// The one place that changes a stage.
    fn enter(&mut self, name: &LoopName, stage: Stage) {
        let Some(l) = self.get_mut(name) else { return };
        debug_assert!(l.stage.kind().may_become(stage.kind()), "{name}: {:?} -> {stage:?}", l.stage);
        l.stage = stage;
    }

    fn journal(&mut self, name: Option<&LoopName>, decision: &str, why: &str, evidence: Value, next: Option<String>) {
        let epoch = name.and_then(|n| self.w.loops.get(n)).map(|l| l.record.epoch).filter(|epoch| *epoch > 0);
        self.push(Action::Journal(Entry {
            at: self.now,
            loop_name: name.cloned(),
            epoch,
            decision: decision.to_owned(),
            why: why.to_owned(),
            evidence,
            next,
        }));
    }

    fn notify(&mut self, kind: &'static str, name: Option<&LoopName>, summary: String, detail: String) {
        self.push(Action::Notify(Notification { kind, loop_name: name.cloned(), summary, detail }));
    }

    fn reply(&mut self, request: RequestId, response: Response) {
        self.push(Action::Reply(request, response));
    }

    fn done(&mut self, request: RequestId, lines: Vec<String>) {
        self.reply(request, Response::Done { lines });
    }

    fn refuse(&mut self, request: RequestId, kind: Refusal, message: impl Into<String>) {
        self.reply(request, Response::Refused { kind, message: message.into() });
    }

    /// Tells a living agent to end.
    fn end(&mut self, name: &LoopName, why: StopWhy) {
        let now = self.now;
        if self.w.loops.get(name).is_none_or(|l| !matches!(l.stage, Stage::Up { .. })) {
            return;
        }
        if why != StopWhy::Shutdown && self.in_start_grace(name) {
            self.end_when_ready(name, why);
            return;
        }
        let Some(agent) = self.get_mut(name).and_then(|l| l.record.agent.as_mut()) else { return };
        agent.told = Some(why);
        let Some(process) = agent.process else { return };
        self.enter(name, Stage::Stopping { since: now, why, force: Force::Term });
        // A stopped process takes a SIGTERM only when it goes on, and its tmux server has to see it die.
        if self.w.global.frozen.is_some() {
            self.push(Action::Thaw(name.clone()));
        }
        self.push(Action::End(name.clone(), process, Force::Term));
        let patience = self.config(name).map(|c| c.stop_timeout).unwrap_or_default();
        self.journal(
            Some(name),
            "end",
            &format!("told to end because {}", why.text()),
            json!({ "pid": process.pid, "signal": "SIGTERM" }),
            Some(format!("SIGKILL if it still runs after {}", crate::support::units::short_duration(patience))),
        );
    }

    /// Kills an agent that did not end when told to.
    fn escalate(&mut self, name: &LoopName, because: &str) {
        let Some(l) = self.get_mut(name) else { return };
        let Stage::Stopping { force, .. } = &mut l.stage else { return };
        if *force == Force::Kill {
            return;
        }
        *force = Force::Kill;
        let Some(process) = l.record.agent.as_ref().and_then(|agent| agent.process) else { return };
        self.push(Action::End(name.clone(), process, Force::Kill));
        self.journal(Some(name), "kill", because, json!({ "pid": process.pid, "signal": "SIGKILL" }), None);
    }
}

/// A world as it is before anything was looked at.
pub fn first_world(
    config: Arc<crate::supervisor::config::Config>,
    boot_id: crate::support::process::BootId,
    seed: u64,
    now: Now,
    records: impl Fn(&LoopName) -> Option<world::LoopRecord>,
    mut global: world::GlobalRecord,
    gate: gates::Gate,
) -> World {
    let ended = global.ended.take();
    let loops = config
        .loops
        .keys()
        .map(|name| {
            let record = records(name).unwrap_or_else(|| world::LoopRecord::new(boot_id.clone()));
            (name.clone(), Arc::new(Loop::new(record, now)))
        })
        .collect();
    let needs = config
        .needs
        .keys()
        .map(|name| {
            let probe = world::Probe::Idle { last: None, misses: 0 };
            (name.clone(), world::Need { state: world::NeedState::Unknown, probe })
        })
        .collect();
    let phase = config.phases.as_ref().map(|_| 0);
    World {
        config,
        boot_id,
        seed,
        mode: Mode::Running,
        ended_before: ended,
        global,
        gate,
        phase,
        phase_move: None,
        needs,
        unwritable: None,
        memory: world::MemorySample::default(),
        last_start: None,
        loops,
        waiters: Vec::new(),
        wake_at: None,
    }
}
