//! A machine with a virtual clock: tmux servers, panes, agents, left-overs, a disk, and a supervisor that can be
//! killed between any two actions. [`super::carry`] does what a decision says, as the daemon would.

use super::checks;
use super::place::{Disk, Hosts, Mood, Outside, Place, Server, Storage};
use crate::supervisor::config::Config;
use crate::supervisor::control::protocol::{Refusal, Request, Response};
use crate::supervisor::core::action::{Action, Notification, Start};
use crate::supervisor::core::event::Event;
use crate::supervisor::core::stage::Stage;
use crate::supervisor::core::world::{HostStatus, RequestId, World};
use crate::supervisor::core::{decide, first_world};
use crate::supervisor::journal::Entry;
use crate::supervisor::names::LoopName;
use crate::support::clock::Now;
use crate::support::process::{BootId, ProcId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// No honest chain of events at one moment is longer.
const ROUNDS_MAX: u32 = 300;
/// The first moment: 2023-11-14 22:13:20 UTC, five minutes after boot.
const FIRST: Now = Now { wall: 1_700_000_000_000, boot: 300_000 };

#[derive(Debug)]
pub(super) struct Due {
    pub at: u64,
    pub event: Event,
    /// Only of interest while this is the loop's server.
    pub guard: Option<ProcId>,
}

#[derive(Debug)]
pub struct Landing {
    pub at: u64,
    pub start: Start,
    pub life: u64,
    /// It waits in the queue of this server, which did not answer in time.
    pub queued: Option<ProcId>,
}

pub struct Machine {
    pub now: Now,
    pub config: Arc<Config>,
    pub places: BTreeMap<LoopName, Place>,
    pub outside: Outside,
    pub disk: Disk,
    pub world: Option<World>,
    /// The supervisor is killed after this many more actions.
    pub kill_after: Option<usize>,
    /// What was told, over all lives of the supervisor.
    pub journal: Vec<Entry>,
    pub notes: Vec<Notification>,
    pub starts: Vec<Start>,
    pub nudges: Vec<(LoopName, String)>,
    pub replies: BTreeMap<RequestId, Response>,
    pub boots: u32,
    /// Stops that the operator was promised.
    pub(super) promised: BTreeSet<LoopName>,
    /// Requests without an answer, and when they must have one, in milliseconds since boot.
    pub(super) pending: BTreeMap<RequestId, (Request, u64)>,
    pub(super) phase_set: Option<usize>,
    pub(super) rng: fastrand::Rng,
    pub(super) queue: Vec<Due>,
    pub landings: Vec<Landing>,
    pub(super) life: u64,
    pub(super) dirty: bool,
    pub(super) begun: bool,
    pub(super) restart_at: Option<u64>,
    pub(super) told_gone: BTreeSet<(LoopName, ProcId)>,
    pids: i32,
    pub(super) requests: RequestId,
    rounds: (u64, u32),
}

impl Machine {
    /// A machine on which everything is at once and nothing fails, with a supervisor that has just started.
    pub fn tame(config: Config) -> Self {
        Self::new(config, 1, 0)
    }

    pub fn new(config: Config, seed: u64, latency: u64) -> Self {
        let places = config.loops.keys().map(|name| (name.clone(), Place::default())).collect();
        let mut machine = Self {
            now: FIRST,
            config: Arc::new(config),
            places,
            outside: Outside {
                hosts: Hosts::Fine,
                storage: Storage::Fine,
                missing: BTreeSet::new(),
                free: 1 << 30,
                unsafe_clones: BTreeSet::new(),
                latency,
                mood: Mood::Good,
                records: BTreeMap::new(),
                steered: BTreeMap::new(),
                screens: BTreeMap::new(),
            },
            disk: Disk::default(),
            world: None,
            kill_after: None,
            journal: Vec::new(),
            notes: Vec::new(),
            starts: Vec::new(),
            nudges: Vec::new(),
            replies: BTreeMap::new(),
            boots: 1,
            promised: BTreeSet::new(),
            pending: BTreeMap::new(),
            phase_set: None,
            rng: fastrand::Rng::with_seed(seed),
            queue: Vec::new(),
            landings: Vec::new(),
            life: 0,
            dirty: false,
            begun: false,
            restart_at: Some(FIRST.boot),
            told_gone: BTreeSet::new(),
            pids: 100,
            requests: 0,
            rounds: (0, 0),
        };
        machine.run(Duration::ZERO);
        machine
    }

    // ---- time ----

    pub fn run(&mut self, d: Duration) {
        self.watch();
        let end = self.now.plus(d).boot;
        while let Some(next) = self.next_moment() {
            if next > end {
                break;
            }
            self.advance(next);
            self.step();
        }
        self.advance(end);
    }

    /// Until the supervisor's next own moment, or an hour.
    pub fn run_to_wake(&mut self) {
        let wake = self.world.as_ref().and_then(|w| w.wake_at).unwrap_or(self.now.boot + 3_600_000);
        self.run(Duration::from_millis(wake.saturating_sub(self.now.boot)));
    }

    fn advance(&mut self, boot: u64) {
        let d = boot.saturating_sub(self.now.boot);
        self.now = self.now.plus(Duration::from_millis(d));
    }

    /// A server that answers again takes what is in its queue before anything newer.
    fn ripen(&mut self) {
        for landing in &mut self.landings {
            let place = &self.places[&landing.start.name];
            let answers = |s: &Server| !s.hung && !place.frozen && landing.queued == Some(s.id);
            if place.server.as_ref().is_some_and(answers) {
                landing.at = self.now.boot;
            }
        }
    }

    fn next_moment(&mut self) -> Option<u64> {
        self.ripen();
        let wake = self.world.as_ref().and_then(|w| w.wake_at);
        let again = (self.dirty && self.outside.storage == Storage::Fine && self.world.is_some()).then_some(0);
        let queued = self.queue.iter().map(|due| due.at).min();
        let landing = self.landings.iter().map(|l| l.at).min();
        [wake, again, queued, landing, self.restart_at].into_iter().flatten().min()
    }

    fn step(&mut self) {
        let now = self.now.boot;
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            self.start_supervisor();
        } else if self.dirty && self.outside.storage == Storage::Fine && self.world.is_some() {
            self.save_all();
            self.feed(Event::StateWritten(Ok(())));
        } else if let Some(i) = self.pick(self.landings.iter().map(|l| l.at).collect()) {
            let landing = self.landings.remove(i);
            self.land(landing);
        } else if let Some(i) = self.pick(self.queue.iter().map(|due| due.at).collect()) {
            let due = self.queue.remove(i);
            if due.guard.is_none_or(|server| self.knows(&due.event, server)) {
                self.feed(due.event);
            }
        } else if self.world.as_ref().and_then(|w| w.wake_at).is_some_and(|at| at <= now) {
            self.feed(Event::Tick);
        }
    }

    /// One of those that are due: the first on a tame machine, any on a wild one.
    fn pick(&mut self, times: Vec<u64>) -> Option<usize> {
        let due: Vec<usize> = (0..times.len()).filter(|i| times[*i] <= self.now.boot).collect();
        if due.is_empty() {
            return None;
        }
        let at = if self.outside.latency == 0 { 0 } else { self.rng.usize(0..due.len()) };
        Some(due[at])
    }

    fn knows(&self, event: &Event, server: ProcId) -> bool {
        let Event::HostDown { name, .. } = event else { return true };
        self.world.as_ref().and_then(|w| w.loops.get(name)).is_some_and(|l| l.record.server == Some(server))
    }

    // ---- the supervisor ----

    fn start_supervisor(&mut self) {
        let seed = self.rng.u64(..);
        let records = self.disk.records.clone();
        self.life += 1;
        self.begun = false;
        self.dirty = false;
        self.told_gone.clear();
        self.world = Some(first_world(
            self.config.clone(),
            self.boot_id(),
            seed,
            self.now,
            |name| records.get(name).cloned(),
            self.disk.global.clone(),
            self.disk.gate.clone(),
        ));
        self.feed(Event::PhaseLoaded { index: self.disk.phase, note: None });
        self.begun = true;
        self.feed(Event::Begun);
    }

    pub fn boot_id(&self) -> BootId {
        serde_json::from_value(serde_json::json!(format!("boot-{}", self.boots))).unwrap()
    }

    /// SIGKILL; it is started again after that long.
    pub fn kill_supervisor(&mut self, down: Duration) {
        self.world = None;
        self.queue.clear();
        self.pending.clear();
        self.kill_after = None;
        self.restart_at = Some(self.now.plus(down).boot);
    }

    /// The power goes and comes back.
    pub fn reboot(&mut self) {
        self.kill_supervisor(Duration::ZERO);
        self.landings.clear();
        for place in self.places.values_mut() {
            *place = Place::default();
        }
        self.boots += 1;
        self.now = Now { wall: self.now.wall + 30_000, boot: 10_000 };
        self.restart_at = Some(self.now.boot);
        self.run(Duration::ZERO);
    }

    /// A new supervisor with another definition of a loop takes over, as a switch does it.
    pub fn redefine(&mut self, name: &LoopName) {
        let mut config = (*self.config).clone();
        if let Some(l) = config.loops.get_mut(name).map(Arc::make_mut) {
            l.hash.push('x');
        }
        self.config = Arc::new(config);
        self.kill_supervisor(Duration::ZERO);
    }

    /// Decides on an event and does what comes out of it.
    pub fn feed(&mut self, event: Event) {
        let Some(old) = self.world.take() else { return };
        self.rounds =
            if self.rounds.0 == self.now.boot { (self.now.boot, self.rounds.1 + 1) } else { (self.now.boot, 1) };
        assert!(self.rounds.1 <= ROUNDS_MAX, "livelock: {event:?} at {:?}\n{}", self.now, self.tail());
        let actions = decide(&old, event.clone(), self.now);
        let Some(Action::Become(new)) = actions.first() else { panic!("{event:?}: the first action is not Become") };
        checks::decision(self, &old, &event, new, &actions);
        self.world = Some((**new).clone());
        if let Event::Asked { request, .. } = event {
            if !(self.save_owed(&old, request) && self.save_first(&actions)) {
                self.world = Some(old);
                self.dirty = true;
                self.answered(request, Response::Refused { kind: Refusal::Failed, message: "disk full".into() });
                return;
            }
        }
        let asked = matches!(event, Event::Asked { .. });
        let mut failed = false;
        for action in actions.into_iter().skip(1) {
            if let Some(left) = &mut self.kill_after {
                if *left == 0 {
                    let down = self.rng.u64(0..20_000);
                    self.kill_supervisor(Duration::from_millis(down));
                    return;
                }
                *left -= 1;
            }
            let saves = matches!(action, Action::SaveLoop(..) | Action::SaveGlobal(_) | Action::SaveGate(_));
            if saves && !asked {
                failed |= !self.save(&action);
            } else if !saves {
                self.carry(action, failed);
            }
            if self.world.is_none() {
                return;
            }
        }
        if failed {
            self.dirty = true;
            self.later(0, Event::StateWritten(Err("disk full".to_owned())));
        }
        self.watch();
        checks::state(self);
    }

    /// What pidfds tell.
    fn watch(&mut self) {
        let Some(world) = &self.world else { return };
        let mut found = Vec::new();
        for (name, l) in &world.loops {
            let place = &self.places[name];
            if let HostStatus::Ready { server, .. } = l.host.status {
                if place.server.as_ref().is_none_or(|s| s.id != server) {
                    let why = "its tmux server exited".to_owned();
                    found.push((name.clone(), server, Event::HostDown { name: name.clone(), why }, Some(server)));
                }
            }
            let lives = matches!(l.stage, Stage::Up { .. } | Stage::Stopping { .. });
            if let Some((agent, process)) = l.record.agent.as_ref().and_then(|a| Some((a, a.process?))) {
                if lives && !place.agents().iter().any(|p| p.id == process) {
                    let event = Event::AgentGone { name: name.clone(), epoch: agent.epoch };
                    found.push((name.clone(), process, event, None));
                }
            }
        }
        for (name, process, event, guard) in found {
            if self.told_gone.insert((name, process)) {
                let at = self.now.boot + self.delay();
                self.queue.push(Due { at, event, guard });
            }
        }
    }

    /// In a moment, or after about as long as commands take.
    pub(super) fn later(&mut self, least: u64, event: Event) {
        let at = self.now.boot + least + self.delay();
        self.queue.push(Due { at, event, guard: None });
    }

    pub(super) fn delay(&mut self) -> u64 {
        if self.outside.latency == 0 { 0 } else { self.rng.u64(0..=self.outside.latency) }
    }

    pub fn new_process(&mut self) -> ProcId {
        self.pids += 1;
        ProcId { pid: self.pids, start: self.now.boot }
    }
}
