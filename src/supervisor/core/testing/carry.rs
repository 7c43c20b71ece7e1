//! Does what a decision says, as the daemon would, on the machine's places and disk.

use super::machine::{Landing, Machine};
use super::place::{Hosts, Mood, Pane, Proc, Server, Storage};
use crate::supervisor::agents::{Session, Signal};
use crate::supervisor::control::protocol::Request;
use crate::supervisor::core::action::{Action, How, Start};
use crate::supervisor::core::event::{Caller, Event, HostFacts, NotStarted, Source};
use crate::supervisor::core::stage::Force;
use crate::supervisor::core::world::{DeathCause, RequestId, World};
use crate::supervisor::names::LoopName;
use crate::support::process::ProcId;
use std::time::Duration;

/// A tmux command's deadline, in milliseconds.
const DEADLINE: u64 = 2000;

impl Machine {
    /// Does one action; `failed`: a save before it in the same decision failed.
    pub(super) fn carry(&mut self, action: Action, failed: bool) {
        match action {
            Action::Become(_) | Action::SaveLoop(..) | Action::SaveGlobal(_) | Action::SaveGate(_) => {}
            Action::Journal(entry) => self.journal.push(entry),
            Action::Notify(note) => self.notes.push(note),
            Action::ProbeHost(name, how) => self.probe(&name, how),
            Action::SpawnHost(name) => self.spawn_host(&name),
            Action::KillHost(name, server) => {
                let place = self.places.get(&name).and_then(|place| place.server.as_ref());
                if place.is_some_and(|s| s.id == server && s.asleep) {
                    return;
                }
                if let Some(place) = self.places.get_mut(&name) {
                    if place.server.as_ref().is_some_and(|s| s.id == server) {
                        place.server_dies();
                    }
                }
                let why = "killed".to_owned();
                if self.told_gone.insert((name.clone(), server)) {
                    self.later(0, Event::HostDown { name, why });
                }
            }
            Action::RetireHost(name, _) => {
                if let Some(place) = self.places.get_mut(&name) {
                    place.server_dies();
                    place.strays.clear();
                    place.children = 0;
                }
            }
            Action::Start(start) if failed => {
                let why = NotStarted::Error("disk full".to_owned());
                self.later(0, Event::StartFailed { name: start.name, epoch: start.epoch, why });
            }
            Action::Start(start) => {
                let at = self.now.boot + self.delay();
                let landing = Landing { at, start, life: self.life, queued: None };
                if self.outside.latency == 0 { self.land(landing) } else { self.landings.push(landing) }
            }
            Action::ReadDeath(name, epoch) => self.read_death(name, epoch),
            Action::Clear(name, _) => {
                let place = self.places.entry(name.clone()).or_default();
                let mut killed = place.children + place.strays.len();
                place.children = 0;
                place.strays.clear();
                if let Some(pane) = place.pane() {
                    killed += usize::from(pane.placeholder.take().is_some());
                    killed += usize::from(pane.agent.take().is_some());
                    pane.death = pane.death.take().or(Some(DeathCause::Killed { signal: 9 }));
                }
                self.later(0, Event::Cleared { name, killed });
            }
            Action::End(name, process, force) => self.end_process(&name, process, force),
            Action::Freeze(name) => {
                if let Some(place) = self.places.get_mut(&name) {
                    place.frozen = place.server.is_some();
                }
            }
            Action::Thaw(name) => self.thaw(&name),
            Action::Repipe(name) => {
                if let Some(pane) = self.places.get_mut(&name).and_then(|p| p.pane()) {
                    pane.piped = true;
                }
            }
            Action::Nudge { name, text, request, .. } => self.type_in(name, text, request),
            Action::ClearTheWay(_) => {}
            Action::LookAtTranscript { name, epoch, .. } => {
                let size = self.rng.bool().then_some(self.now.boot);
                self.later(0, Event::TranscriptSeen { name, epoch, size });
            }
            Action::ReadRecords { name, epoch, since, .. } => {
                let found = self.outside.records.get(&name).filter(|(at, _)| *at > since);
                let signals = found.map(|(_, signal)| signal.clone()).into_iter().collect();
                self.later(0, Event::EvidenceRead { name, epoch, source: Source::Records, signals });
            }
            Action::LookForText { name, epoch, text, since, .. } => {
                let found = self.outside.steered.get(&name).is_some_and(|(at, said)| *at >= since && *said == text);
                self.later(0, Event::TextLookedFor { name, epoch, text, found });
            }
            Action::ReadScreen { name, epoch } => {
                let signals = self.outside.screens.get(&name).cloned().into_iter().collect();
                self.later(0, Event::EvidenceRead { name, epoch, source: Source::Screen, signals });
            }
            Action::Sample(name, epoch) => {
                let Some(place) = self.places.get_mut(&name) else { return };
                let children_oom_killed = std::mem::take(&mut place.oom_children);
                let (output_at, memory) = (place.output_at, Some(place.memory));
                self.later(0, Event::Sampled { name, epoch, output_at, memory, children_oom_killed });
            }
            Action::ProbeNeed(need) => {
                let found = if self.outside.missing.contains(&need) { Err("refused".to_owned()) } else { Ok(()) };
                self.later(0, Event::NeedProbed { need, found });
            }
            Action::ReadMemory => self.later(0, Event::MemoryRead { free: self.outside.free }),
            Action::ReadSafety(name) => {
                let dirty = self.outside.unsafe_clones.contains(&name);
                let found = if dirty { Err("2 files are not committed".to_owned()) } else { Ok(()) };
                self.later(0, Event::SafetyRead { name, found });
            }
            Action::MovePhase { from, to, by } => {
                assert_eq!(from, self.disk.phase, "a move from another phase than the durable one, by {by}");
                assert!(to == from + 1 || self.phase_set == Some(to), "{from} -> {to} by {by}");
                if self.storage_fails() {
                    self.later(0, Event::PhaseMoved(Err("disk full".to_owned())));
                } else {
                    self.disk.phase = to;
                    self.later(0, Event::PhaseMoved(Ok(())));
                }
            }
            Action::Reply(request, response) => self.answered(request, response),
            Action::Exit => {
                // systemd starts it again.
                self.kill_supervisor(Duration::from_secs(1));
            }
        }
    }

    fn storage_fails(&mut self) -> bool {
        match self.outside.storage {
            Storage::Fine => false,
            Storage::Full => true,
            Storage::Flaky => self.rng.bool(),
        }
    }

    pub(super) fn save(&mut self, action: &Action) -> bool {
        if self.storage_fails() {
            return false;
        }
        match action {
            Action::SaveLoop(name, record) => drop(self.disk.records.insert(name.clone(), (**record).clone())),
            Action::SaveGlobal(global) => self.disk.global = (**global).clone(),
            Action::SaveGate(gate) => self.disk.gate = (**gate).clone(),
            _ => {}
        }
        true
    }

    /// The saves of what was asked for, all or nothing done; what was saved before one failed stays saved.
    pub(super) fn save_first(&mut self, actions: &[Action]) -> bool {
        actions.iter().all(|action| match action {
            Action::SaveLoop(..) | Action::SaveGlobal(_) | Action::SaveGate(_) => self.save(action),
            _ => true,
        })
    }

    /// What an earlier decision could not save is saved before anything is promised, or the disk may know better than
    /// the world: a request that failed half-way has left some of its records behind.
    pub(super) fn save_owed(&mut self, old: &World, request: RequestId) -> bool {
        let looks = [Request::Status, Request::PhaseShow, Request::GateShow];
        let promises = self.pending.get(&request).is_some_and(|(what, _)| !looks.contains(what));
        if !self.dirty || !promises {
            return true;
        }
        if self.storage_fails() {
            return false;
        }
        let new = self.world.replace(old.clone());
        self.save_all();
        self.world = new;
        self.later(0, Event::StateWritten(Ok(())));
        true
    }

    pub(super) fn save_all(&mut self) {
        let Some(world) = &self.world else { return };
        self.disk.records = world.loops.iter().map(|(name, l)| (name.clone(), l.record.clone())).collect();
        self.disk.global = world.global.clone();
        self.disk.gate = world.gate.clone();
        self.dirty = false;
    }

    fn probe(&mut self, name: &LoopName, how: How) {
        let Some(place) = self.places.get(name) else { return };
        let name = name.clone();
        let down = |why: &str| Event::HostDown { name: name.clone(), why: why.to_owned() };
        self.told_gone.retain(|(n, _)| *n != name);
        let Some(server) = &place.server else { return self.later(0, down("no tmux server")) };
        if how == How::Record {
            let Some(record) = self.disk.records.get(&name) else { return self.later(0, down("no record")) };
            if record.server != Some(server.id) {
                return self.later(0, down("another tmux server than the record's"));
            }
            let agent = record.agent.as_ref().and_then(|a| Some((a.process?, a.epoch)));
            let agent = agent.filter(|(id, _)| place.agents().iter().any(|p| p.id == *id));
            let facts = HostFacts {
                server: server.id,
                agent: agent.map(|a| a.0),
                epoch: agent.map(|a| a.1),
                death: None,
                piped: true,
            };
            return self.later(0, Event::HostUp { name, facts });
        }
        if server.hung || place.frozen {
            return self.later(DEADLINE, Event::HostMute { name });
        }
        let Some(pane) = &server.pane else {
            let server = server.id;
            return self.later(0, Event::PaneGone { name, server });
        };
        let facts = HostFacts {
            server: server.id,
            agent: pane.agent.as_ref().map(|a| a.id).or(pane.placeholder),
            epoch: pane.epoch,
            death: pane.death.clone(),
            piped: pane.piped,
        };
        self.later(0, Event::HostUp { name, facts });
    }

    pub fn spawn_host(&mut self, name: &LoopName) {
        match self.outside.hosts {
            Hosts::Fine => {}
            Hosts::Broken => {
                let why = "exited with status 1: no space left".to_owned();
                return self.later(0, Event::HostDown { name: name.clone(), why });
            }
            Hosts::Mute => return,
        }
        let id = self.new_process();
        let placeholder = (self.outside.latency > 0 && self.rng.bool()).then(|| self.new_process());
        let Some(place) = self.places.get_mut(name) else { return };
        if place.server.as_ref().is_none_or(|s| s.hung) {
            place.server_dies();
            let pane = Pane { placeholder, piped: true, ..Pane::default() };
            place.server = Some(Server { id, hung: false, asleep: false, pane: Some(pane) });
        }
        self.probe(name, How::Ask);
    }

    /// `respawn-pane` reaches the tmux server.
    pub(super) fn land(&mut self, landing: Landing) {
        let Landing { start, life, queued, .. } = landing;
        let muted = queued.is_some();
        let id = self.new_process();
        let mood = self.outside.mood;
        let told = life == self.life && self.world.is_some();
        let (name, epoch) = (start.name.clone(), start.epoch);
        let Some(place) = self.places.get_mut(&name) else { return };
        if muted && place.server.as_ref().map(|s| s.id) != queued {
            // It died with the queue that it was in.
            return;
        }
        let why = match &mut place.server {
            None => NotStarted::NoHost("no tmux server".to_owned()),
            Some(server) if server.hung || place.frozen => {
                // Its client was ended at the deadline; the server may still have the command in its queue.
                let (at, queued) = (self.now.boot + 1000, Some(server.id));
                if told && !muted {
                    self.later(DEADLINE, Event::HostMute { name });
                }
                return self.landings.push(Landing { at, start, life, queued });
            }
            Some(Server { id, pane: None, .. }) => NotStarted::NoPane(*id),
            Some(Server { pane: Some(pane), .. }) => {
                if pane.agent.is_some() || pane.placeholder.is_some() || pane.drains > 0 {
                    pane.drains = pane.drains.saturating_sub(1);
                    NotStarted::PaneBusy
                } else {
                    pane.agent = Some(Proc { id, epoch, mood, pending_term: false });
                    pane.epoch = Some(epoch);
                    pane.death = None;
                    pane.piped = true;
                    return self.began(&start, id, told && !muted);
                }
            }
        };
        if told && !muted {
            self.later(0, Event::StartFailed { name, epoch, why });
        }
    }

    fn began(&mut self, start: &Start, process: ProcId, told: bool) {
        let name = &start.name;
        let alive = self.places[name].agents().len();
        assert!(alive <= 1, "{alive} agents of {name} run\n{}", self.tail());
        let highest = self.starts.iter().filter(|s| s.name == *name).map(|s| s.epoch).max();
        assert!(highest.is_none_or(|h| start.epoch > h), "epoch {} of {name} after {highest:?}", start.epoch);
        assert!(
            !self.promised.contains(name) || !told,
            "{name} was started although its stop was promised\n{}",
            self.tail()
        );
        self.starts.push(start.clone());
        if let Some(place) = self.places.get_mut(name) {
            place.output_at = Some(self.now.boot);
            place.memory = 100 << 20;
        }
        if told {
            self.later(0, Event::Started { name: name.clone(), epoch: start.epoch, process });
        }
        if self.config.loops[name].capabilities.resumes && self.outside.mood == Mood::Good {
            let (name, epoch) = (name.clone(), start.epoch);
            self.says(&name, epoch, 1000, Signal::Ready);
            if matches!(start.session, Session::Fresh { .. }) {
                self.says(&name, epoch, 1100, Signal::PromptAccepted);
                self.says(&name, epoch, 20_000, Signal::TurnEnded);
            }
        }
    }

    /// The agent itself tells something, through `supervisor event`.
    pub fn says(&mut self, name: &LoopName, epoch: u64, after: u64, signal: Signal) {
        let caller = Caller::Inside { name: name.clone(), epoch: Some(epoch) };
        let event = serde_json::to_value(signal).unwrap();
        self.later(after, Event::Asked { request: 0, caller, what: Request::Event { event } });
    }

    fn read_death(&mut self, name: LoopName, epoch: u64) {
        let Some(place) = self.places.get(&name) else { return };
        let event = match &place.server {
            None => Event::HostDown { name, why: "no tmux server".to_owned() },
            Some(s) if s.hung || place.frozen => return self.later(DEADLINE, Event::HostMute { name }),
            Some(Server { id, pane: None, .. }) => Event::PaneGone { name, server: *id },
            Some(Server { pane: Some(pane), .. }) => {
                let cause = pane.death.clone().unwrap_or(DeathCause::Unknown);
                Event::DeathRead { name, epoch, cause, piped: pane.piped }
            }
        };
        self.later(0, event);
    }

    fn end_process(&mut self, name: &LoopName, process: ProcId, force: Force) {
        let Some(place) = self.places.get_mut(name) else { return };
        let frozen = place.frozen;
        place.strays.retain(|p| p.id != process || (force == Force::Term && p.mood == Mood::Stubborn));
        let Some(agent) = place.pane().and_then(|p| p.agent.as_mut()).filter(|a| a.id == process) else { return };
        match force {
            Force::Kill => place.agent_dies(DeathCause::Killed { signal: 9 }),
            Force::Term if frozen => agent.pending_term = true,
            Force::Term if agent.mood == Mood::Stubborn => {}
            Force::Term => place.agent_dies(DeathCause::Exited { status: 143 }),
        }
    }

    fn thaw(&mut self, name: &LoopName) {
        let Some(place) = self.places.get_mut(name) else { return };
        place.frozen = false;
        let mortal = |a: &Proc| a.pending_term && a.mood != Mood::Stubborn;
        if place.pane().and_then(|p| p.agent.as_ref()).is_some_and(mortal) {
            place.agent_dies(DeathCause::Exited { status: 143 });
        }
    }

    fn type_in(&mut self, name: LoopName, text: String, request: Option<u64>) {
        let Some(place) = self.places.get(&name) else { return };
        let answers = |s: &Server| !s.hung && !place.frozen && s.pane.is_some();
        if !place.server.as_ref().is_some_and(answers) {
            let hung = place.server.is_some();
            let result = Err("the tmux server does not answer".to_owned());
            self.later(DEADLINE, Event::NudgeSent { name: name.clone(), result, request });
            if hung {
                self.later(DEADLINE, Event::HostMute { name });
            }
            return;
        }
        self.nudges.push((name.clone(), text));
        let agent = place.agents().first().map(|a| (a.epoch, a.mood));
        self.later(0, Event::NudgeSent { name: name.clone(), result: Ok(()), request });
        if let (Some((epoch, Mood::Good)), true) = (agent, self.config.loops[&name].capabilities.resumes) {
            self.says(&name, epoch, 100, Signal::PromptAccepted);
            self.says(&name, epoch, 20_000, Signal::TurnEnded);
        }
    }
}
