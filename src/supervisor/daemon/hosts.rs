//! Session hosts: made, found, watched, killed; and the pidfds of agents and log pipes.

use super::Daemon;
use super::looks::is_missing;
use super::tasks::{Purpose, Retry};
use crate::supervisor::config::HostKind;
use crate::supervisor::core::action::How;
use crate::supervisor::core::event::{Event, HostFacts};
use crate::supervisor::core::world::{DeathCause, HostStatus, Loop};
use crate::supervisor::leftovers;
use crate::supervisor::names::LoopName;
use crate::supervisor::session::{self, SessionSpec};
use crate::supervisor::session_watch::SessionEvent;
use crate::supervisor::tmux::{self, Failure, Probe};
use crate::support::clock::Now;
use crate::support::process::{self, Delivery, ProcId, tree};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at a server that is coming up.
pub(super) const COMING_RETRY_MS: u64 = 20;
/// A server that lives without a socket, a pane or a finished placeholder gets this many looks (2 s).
const COMING_TRIES: u32 = 100;
/// Between two attempts to run tmux, or to watch a process, where the machine does not let us.
const CANNOT_ASK_MS: u64 = 5_000;
/// How long the event loop stands still for a session host that was killed: it ends within milliseconds.
const CHILD_ENDS_WITHIN: Duration = Duration::from_millis(200);

impl Daemon {
    pub(super) fn socket(&self, name: &LoopName) -> PathBuf {
        session::socket(&self.config.runtime_dir, name)
    }

    /// Looks for a loop's tmux server.
    pub(super) fn probe_host(&mut self, name: &LoopName, how: How) {
        match how {
            How::Ask => self.probe(name, 0),
            How::Record => self.probe_by_record(name),
        }
    }

    pub(super) fn probe(&mut self, name: &LoopName, tries: u32) {
        let under_way = |p: &Purpose| matches!(p, Purpose::Probe { name: other, .. } if other == name);
        if self.tasks.iter().any(|t| under_way(&t.purpose)) {
            return;
        }
        self.retries.retain(|(_, r)| !matches!(r, Retry::Probe { name: other, .. } if other == name));
        match self.socket(name).try_exists() {
            Ok(true) => {
                let purpose = Purpose::Probe { name: name.clone(), tries };
                if let Err(why) = self.tmux(name, &tmux::probe(), purpose) {
                    self.cannot_ask(name, tries, why);
                }
            }
            Ok(false) => self.no_answer(name.clone(), tries, "its tmux socket is missing"),
            Err(e) => self.no_answer(name.clone(), tries, &format!("looking for its tmux socket: {e}")),
        }
    }

    /// tmux is missing, or no process or descriptor is left to run it. That says nothing of a server that lives: what
    /// runs in it must not be taken for lost and killed.
    fn cannot_ask(&mut self, name: &LoopName, tries: u32, why: String) {
        if self.living_server(name).is_some() {
            tracing::error!("{name}: asking its tmux server: {why}; tried again, it is left alone until then");
            self.retry(CANNOT_ASK_MS, Retry::Probe { name: name.clone(), tries });
        } else {
            self.queue.push_back(Event::HostDown { name: name.clone(), why });
        }
    }

    /// The server that is watched or, in this boot, recorded, while it lives.
    fn living_server(&self, name: &LoopName) -> Option<ProcId> {
        // One of another boot is nobody.
        let here = |l: &&Arc<Loop>| l.record.boot_id == self.world.boot_id;
        let recorded = self.world.loops.get(name).filter(here).and_then(|l| l.record.server);
        let known = self.servers.get(name).map(|(server, _)| *server).or(recorded);
        known.filter(|server| server.is_alive().unwrap_or(false))
    }

    /// A frozen loop's server answers nobody: what the record names must do.
    fn probe_by_record(&mut self, name: &LoopName) {
        let Some(l) = self.world.loops.get(name) else { return };
        let alive = |id: &ProcId| id.is_alive().unwrap_or(false);
        let server = l.record.server.filter(alive);
        let agent = l.record.agent.as_ref();
        let process = agent.and_then(|a| a.process).filter(alive);
        let epoch = agent.map(|a| a.epoch);
        let Some(server) = server else {
            let why = "the tmux server that the record names is gone".to_owned();
            self.queue.push_back(Event::HostDown { name: name.clone(), why });
            return;
        };
        let facts = HostFacts { server, agent: process, epoch, death: None, piped: true };
        self.host_is_up(name, facts);
    }

    pub(super) fn probed(&mut self, name: LoopName, tries: u32, answer: Result<Probe, Failure>) {
        let probe = match answer {
            Ok(probe) => probe,
            Err(Failure::Overdue) => {
                self.queue.push_back(Event::HostMute { name });
                return;
            }
            Err(why) => {
                self.no_answer(name, tries, &why.to_string());
                return;
            }
        };
        // Removed after the client had connected: that was told, once, while this look was under way.
        if self.world.global.frozen.is_none() && is_missing(&self.socket(&name)) {
            self.retry(0, Retry::Probe { name: name.clone(), tries: 0 });
        }
        let server = match ProcId::of(probe.server) {
            Ok(Some(server)) => server,
            Ok(None) | Err(_) => {
                self.no_answer(name, tries, "its tmux server died");
                return;
            }
        };
        let Some(pane) = probe.pane else {
            if tries < COMING_TRIES {
                // Its conf is still being read, or the operator killed the pane.
                self.retry(COMING_RETRY_MS, Retry::Probe { name, tries: tries + 1 });
            } else {
                self.watch_server(&name, server);
                self.queue.push_back(Event::PaneGone { name, server });
            }
            return;
        };
        let running = match (pane.status, pane.signal) {
            // tmux has reaped it: whoever has that pid now is somebody else.
            (Some(_), _) | (_, Some(_)) => None,
            (None, None) => ProcId::of(pane.pid).ok().flatten(),
        };
        if running.is_some() && pane.epoch.is_none() && tries < COMING_TRIES {
            // The placeholder still prints.
            self.retry(COMING_RETRY_MS, Retry::Probe { name, tries: tries + 1 });
            return;
        }
        let death = match (pane.status, pane.signal) {
            (_, Some(signal)) => Some(self.found_dead(&name, server, pane.epoch, DeathCause::Killed { signal })),
            (Some(status), None) => Some(DeathCause::Exited { status }),
            (None, None) => None,
        };
        if running.is_none() && death.is_none() && pane.epoch.is_some() && tries < COMING_TRIES {
            // tmux missed its end, see `death_told`.
            self.signal_server(&name, server, Signal::CHILD);
            self.retry(COMING_RETRY_MS, Retry::Probe { name, tries: tries + 1 });
            return;
        }
        let piped = pane.pipe == tmux::Pipe::Open;
        self.host_is_up(&name, HostFacts { server, agent: running, epoch: pane.epoch, death, piped });
    }

    /// It died while no supervisor ran.
    fn found_dead(&mut self, name: &LoopName, server: ProcId, epoch: Option<u64>, cause: DeathCause) -> DeathCause {
        self.watch_server(name, server);
        match epoch {
            Some(epoch) => self.killed_by_whom(name, epoch, cause),
            None => cause,
        }
    }

    fn host_is_up(&mut self, name: &LoopName, facts: HostFacts) {
        self.watch_server(name, facts.server);
        let (agent, epoch) = (facts.agent, facts.epoch);
        self.queue.push_back(Event::HostUp { name: name.clone(), facts });
        if let (Some(process), Some(epoch)) = (agent, epoch) {
            self.watch_agent(name, epoch, process);
            self.watch_pipe(name);
        }
    }

    /// A server that lives without its socket makes it again on SIGUSR1; a living child of ours is still coming up.
    fn no_answer(&mut self, name: LoopName, tries: u32, why: &str) {
        let lives = self.living_server(&name);
        let coming = self.children.contains_key(&name);
        if tries < COMING_TRIES && (lives.is_some() || coming) {
            if let Some(server) = lives.filter(|_| tries % 10 == 0) {
                self.mend_session_dir(&name);
                self.signal_server(&name, server, Signal::USR1);
            }
            self.retry(COMING_RETRY_MS, Retry::Probe { name, tries: tries + 1 });
            return;
        }
        let event = match lives {
            // It lives, has no socket and does not make one: as good as hung.
            Some(_) => Event::HostMute { name },
            None => Event::HostDown { name, why: why.to_owned() },
        };
        self.queue.push_back(event);
    }

    /// A tidy-up that takes the socket may take its folder too, in which nobody can make it again, and the folder above,
    /// without which no new socket is seen.
    fn mend_session_dir(&mut self, name: &LoopName) {
        let folder = session::session_dir(&self.config.runtime_dir, name);
        let found = self.watch.mend().and_then(|found| session::make_private_dir(&folder).map(|()| found));
        match found {
            Ok(found) => found.into_iter().for_each(|(name, event)| self.session_event(&name, event)),
            Err(e) => tracing::error!("{name}: making its session folder again: {e}"),
        }
    }

    pub(super) fn retry(&mut self, after_ms: u64, retry: Retry) {
        self.retries.push((Now::read().boot.saturating_add(after_ms), retry));
    }

    pub(super) fn signal_server(&self, name: &LoopName, server: ProcId, signal: Signal) {
        match process::send(server, signal) {
            Ok(Delivery::Sent | Delivery::AlreadyGone) => {}
            Err(e) => tracing::warn!("{name}: signal {signal:?} to its tmux server {}: {e}", server.pid),
        }
    }

    pub(super) fn session_spec(&self, name: &LoopName) -> SessionSpec {
        SessionSpec {
            name: name.clone(),
            runtime_dir: self.config.runtime_dir.clone(),
            log: self.store.layout().log(name),
            host: self.config.host,
        }
    }

    /// Makes a session host; systemd makes its own, and the socket watch tells when it is there.
    pub(super) fn spawn_host(&mut self, name: &LoopName) {
        if self.config.host == HostKind::Systemd {
            // A socket that is not there yet is told by the watch.
            if !is_missing(&self.socket(name)) {
                self.probe(name, 0);
            }
            return;
        }
        if let Some((child, pidfd)) = self.children.remove(name) {
            // One that was made earlier and never answered: it holds the session's lock.
            self.end_child(name, child, &pidfd);
        }
        self.mend_session_dir(name);
        let command = session::command(&self.options.supervisor, &self.session_spec(name));
        let spawned = session::spawn(command, &self.host_log(name)).and_then(|mut child| {
            // Also of one that has failed already: its end is told like any other's, with what it said.
            match rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
                Ok(pidfd) => Ok((child, pidfd)),
                // Without one nobody would see its end.
                Err(e) => child.kill().and_then(|()| child.wait()).and(Err(e.into())),
            }
        });
        match spawned {
            Ok(made) => drop(self.children.insert(name.clone(), made)),
            Err(e) => self.queue.push_back(Event::HostDown { name: name.clone(), why: e.to_string() }),
        }
    }

    /// Kills and reaps a session host of ours. One that sleeps in the kernel and does not end is not waited for: its lock
    /// keeps another server of the loop from starting until it has.
    pub(super) fn end_child(&self, name: &LoopName, mut child: std::process::Child, pidfd: &OwnedFd) {
        // It is our own child and not reaped, so its pid is still its own.
        let ended = child.kill().and_then(|()| match super::poll::readable_within(pidfd, CHILD_ENDS_WITHIN) {
            true => child.wait().map(drop),
            false => Err(std::io::Error::other("it was killed and has not ended")),
        });
        if let Err(e) = ended {
            tracing::warn!("{name}: ending its session host {}: {e}", child.id());
        }
    }

    pub(super) fn host_log(&self, name: &LoopName) -> PathBuf {
        self.store.layout().logs().join(format!("{name}.host.log"))
    }

    /// A session host that we made has ended.
    pub(super) fn child_ended(&mut self, name: &LoopName) {
        let Some((mut child, _)) = self.children.remove(name) else { return };
        let status = match child.wait() {
            Ok(status) => status.to_string(),
            Err(e) => e.to_string(),
        };
        let coming = self.world.loops.get(name).is_some_and(|l| matches!(l.host.status, HostStatus::Coming { .. }));
        if !coming || self.servers.contains_key(name) {
            // It was a server that answered: that one's own pidfd tells.
            return;
        }
        // It never came to be a tmux server that answers; what it said last is why.
        let log = std::fs::read_to_string(self.host_log(name)).unwrap_or_default();
        let why = log.lines().rev().find(|line| !line.trim().is_empty()).map_or(status, str::to_owned);
        self.queue.push_back(Event::HostDown { name: name.clone(), why });
    }

    pub(super) fn watch_server(&mut self, name: &LoopName, server: ProcId) {
        if self.servers.get(name).is_some_and(|(known, _)| *known == server) {
            return;
        }
        match process::open_pidfd(server) {
            Ok(Some(pidfd)) => {
                self.servers.insert(name.clone(), (server, pidfd));
                self.find_unit(name, server);
            }
            Ok(None) => self.retry(0, Retry::Probe { name: name.clone(), tries: 0 }),
            Err(e) => {
                tracing::error!("{name}: watching its tmux server {}: {e}; tried again", server.pid);
                self.retry(CANNOT_ASK_MS, Retry::Probe { name: name.clone(), tries: 0 });
            }
        }
    }

    pub(super) fn server_ended(&mut self, name: &LoopName) {
        let Some((server, _)) = self.servers.remove(name) else { return };
        self.agents.remove(name);
        self.pipes.remove(name);
        self.tasks.retain(|t| !t.purpose.is_for_host(name));
        self.retries
            .retain(|(_, r)| !matches!(r, Retry::Probe { name: n, .. } | Retry::Death { name: n, .. } if n == name));
        let why = format!("its tmux server {} died", server.pid);
        self.drop_texts(name, &why);
        self.queue.push_back(Event::HostDown { name: name.clone(), why });
    }

    pub(super) fn session_event(&mut self, name: &LoopName, event: SessionEvent) {
        let Some(l) = self.world.loops.get(name) else { return };
        match (event, &l.host.status) {
            // Before the connections of the same round: what it is about came before what they tell.
            (SessionEvent::EventLeft, _) => {
                if let Some(config) = self.config.loops.get(name) {
                    self.queue.extend(super::missed::take(&self.config, name, config.adapter));
                }
            }
            (SessionEvent::Appeared, HostStatus::Ready { .. } | HostStatus::Killed) => {}
            (SessionEvent::Appeared, _) => self.probe(name, 0),
            (SessionEvent::Removed, HostStatus::Ready { .. }) if self.world.global.frozen.is_none() => {
                tracing::warn!("{name}: its tmux socket was removed; the server is told to make it again");
                self.probe(name, 0);
            }
            (SessionEvent::Removed, _) => {}
        }
    }

    pub(super) fn watch_agent(&mut self, name: &LoopName, epoch: u64, agent: ProcId) {
        if self.agents.get(name).is_some_and(|(_, known, _)| *known == agent) {
            return;
        }
        match process::open_pidfd(agent) {
            Ok(Some(pidfd)) => drop(self.agents.insert(name.clone(), (epoch, agent, pidfd))),
            Ok(None) => self.queue.push_back(Event::AgentGone { name: name.clone(), epoch }),
            Err(e) => {
                // Its end would never be seen: the answer to this look has it watched again.
                tracing::error!("{name}: watching its agent {}: {e}; tried again", agent.pid);
                self.retry(CANNOT_ASK_MS, Retry::Probe { name: name.clone(), tries: 0 });
            }
        }
    }

    pub(super) fn agent_ended(&mut self, name: &LoopName) {
        if let Some((epoch, _, _)) = self.agents.remove(name) {
            self.queue.push_back(Event::AgentGone { name: name.clone(), epoch });
        }
    }

    /// The log's pipe is a child of the server with the variable that names it.
    pub(super) fn watch_pipe(&mut self, name: &LoopName) {
        let Some((server, _)) = self.servers.get(name) else { return };
        // A child that is gone meanwhile is not it.
        let is_pipe = |id: &ProcId| leftovers::is_pipe(name, id.pid, server.pid).unwrap_or(false);
        let found = tree::children(server.pid).unwrap_or_default().into_iter().find(is_pipe);
        if let Some(pipe) = found {
            if self.pipes.get(name).is_none_or(|(known, _)| *known != pipe) {
                if let Ok(Some(pidfd)) = process::open_pidfd(pipe) {
                    self.pipes.insert(name.clone(), (pipe, pidfd));
                }
            }
        }
    }

    pub(super) fn pipe_ended(&mut self, name: &LoopName) {
        self.pipes.remove(name);
        // A pipe that was opened anew replaces the old one, which then ends.
        self.watch_pipe(name);
        if !self.pipes.contains_key(name) {
            self.queue.push_back(Event::PipeClosed { name: name.clone() });
        }
    }
}

impl Purpose {
    /// Whether it is moot once the loop's tmux server is gone.
    fn is_for_host(&self, name: &LoopName) -> bool {
        match self {
            Self::Probe { name: n, .. } | Self::Death { name: n, .. } | Self::Respawn { name: n, .. } => n == name,
            Self::Unit { name: n, .. } | Self::Repipe { name: n } | Self::Screen { name: n, .. } => n == name,
            // Somebody waits for its answer.
            Self::Nudge { .. } | Self::Need { .. } | Self::Safety { .. } | Self::Notify => false,
        }
    }
}
