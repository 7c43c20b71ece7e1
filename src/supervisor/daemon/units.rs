//! Session units' cgroups: what is in the agent's is killed, stopped in place and measured through it, and who was killed
//! for memory is told by it. Where a server is in none, none of this does anything.

use super::Daemon;
use super::clearing::Round;
use super::tasks::Retry;
use crate::supervisor::cgroup::{self, Freeze, Group, Killed, Present, Unit};
use crate::supervisor::core::event::Event;
use crate::supervisor::core::world::DeathCause;
use crate::supervisor::names::LoopName;
use crate::support::process::{ProcId, State, is_told_to_die};
use rustix::process::Signal;
use std::fs::File;

/// From the kernel's counting of a victim to its having the signal that ends it.
const VICTIM_MS: u64 = 50;
/// Between two looks while there are no victims.
const THROTTLED_MS: u64 = 1_000;

/// The unit that a loop's last tmux server was found in.
pub(super) struct SessionUnit {
    unit: Unit,
    /// Tells of kills for memory; `None` when there is no memory controller, or the unit is gone.
    events: Option<File>,
    watch: Watch,
}

/// Whether the file is waited for. It also tells, a hundred times a second, that the unit is being throttled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    On,
    /// Until it is looked at again.
    Resting,
}

impl SessionUnit {
    /// What has POLLPRI when it is worth a look.
    pub(super) fn tells(&self) -> Option<&File> {
        self.events.as_ref().filter(|_| self.watch == Watch::On)
    }
}

impl Daemon {
    /// Finds the cgroup of a server that is new.
    pub(super) fn find_unit(&mut self, name: &LoopName, server: ProcId) {
        let found = Unit::of_server(server.pid).and_then(|unit| {
            let Some(unit) = unit else { return Ok(None) };
            Ok(Some(SessionUnit { events: unit.memory_events()?, unit, watch: Watch::On }))
        });
        match found {
            Ok(Some(unit)) => drop(self.units.insert(name.clone(), unit)),
            Ok(None) => drop(self.units.remove(name)),
            Err(e) => {
                tracing::warn!(
                    "{name}: looking for its unit's cgroup: {e}; its processes are found by descent instead"
                );
                self.units.remove(name);
            }
        }
    }

    fn agent_group(&self, name: &LoopName) -> Option<Group> {
        self.units.get(name).map(|found| found.unit.agent())
    }

    /// The loop whose unit a process is in.
    pub(super) fn unit_with(&self, pid: i32) -> Option<&LoopName> {
        if self.units.is_empty() {
            return None;
        }
        // One that is gone is in none.
        let path = cgroup::path_of(pid).ok().flatten()?;
        self.units.iter().find(|(_, found)| found.unit.has(&path)).map(|(name, _)| name)
    }

    /// One round of killing what is in the agent's cgroup.
    pub(super) fn kill_in_unit(&self, name: &LoopName) -> Round {
        let Some(group) = self.agent_group(name) else { return Round::Empty };
        match group.kill_round() {
            Ok(Killed::Nothing) => Round::Empty,
            Ok(Killed::Some { found, events }) => Round::Killed { found, events },
            Err(e) => {
                tracing::error!("{name}: killing what its agent left behind: {e}; it is looked for by descent instead");
                Round::Empty
            }
        }
    }

    /// Stops the agent in place; `No` when it is in no cgroup of its own.
    pub(super) fn freeze_unit(&mut self, name: &LoopName) -> Present {
        let (Some(found), Some((_, agent, _))) = (self.units.get(name), self.agents.get(name)) else {
            return Present::No;
        };
        if !found.unit.has_in_agent(agent.pid).unwrap_or(false) {
            return Present::No;
        }
        let group = found.unit.agent();
        match group.freeze(Freeze::Stop).and_then(|present| Ok((present, group.is_frozen()?))) {
            Ok((Present::No, _)) => Present::No,
            Ok((Present::Yes, true)) => Present::Yes,
            // It takes a moment: looked at again.
            Ok((Present::Yes, false)) => {
                self.freeze_again(name);
                Present::Yes
            }
            Err(e) => {
                tracing::error!("{name}: stopping its cgroup in place: {e}; its processes are stopped one by one");
                Present::No
            }
        }
    }

    /// Lets the agent go on; `No` when it was not stopped by its cgroup.
    pub(super) fn thaw_unit(&self, name: &LoopName) -> Present {
        let Some(group) = self.agent_group(name) else { return Present::No };
        match group.freeze(Freeze::GoOn) {
            Ok(present) => present,
            Err(e) => {
                tracing::error!("{name}: letting its cgroup go on: {e}");
                Present::No
            }
        }
    }

    /// Whether its tmux server was stopped with the agent, as it is where there is no cgroup.
    pub(super) fn server_is_stopped(&self, name: &LoopName) -> bool {
        let server = self.servers.get(name).map(|(server, _)| *server);
        // One that cannot be looked at is told to go on: that harms nobody.
        server.is_some_and(|server| server.state().map_or(true, |state| state == State::Stopped))
    }

    /// Memory of all in the agent's cgroup; `None` without one.
    pub(super) fn memory_in_unit(&self, name: &LoopName) -> Option<u64> {
        self.agent_group(name)?.memory().unwrap_or_else(|e| {
            tracing::warn!("{name}: {e}");
            None
        })
    }

    /// The kernel killed something in a unit for memory. What, is looked at in a moment.
    pub(super) fn killed_for_memory(&mut self, name: &LoopName) {
        let Some(found) = self.units.get_mut(name) else { return };
        match found.events.as_mut().map(cgroup::reread) {
            Some(Ok(Some(_))) => {}
            // The unit is gone, or will not be read: it would be readable for ever.
            Some(Ok(None) | Err(_)) | None => found.events = None,
        }
        found.watch = Watch::Resting;
        let wait = if self.children_killed(name) > 0 { VICTIM_MS } else { THROTTLED_MS };
        let retry = Retry::Victim { name: name.clone() };
        if !self.retries.iter().any(|(_, other)| *other == retry) {
            self.retry(wait, retry);
        }
    }

    /// Tells of children that were killed, if it was children: an agent that is being killed itself tells by its death.
    pub(super) fn look_for_victims(&mut self, name: &LoopName) {
        if let Some(found) = self.units.get_mut(name) {
            found.watch = Watch::On;
        }
        let Some((epoch, ..)) = self.agents.get(name) else { return };
        if self.children_killed(name) > 0 {
            let epoch = *epoch;
            self.sample(name, epoch);
        }
    }

    /// How many children of a living agent were killed for memory and not told of yet.
    pub(super) fn children_killed(&self, name: &LoopName) -> u64 {
        let (Some((epoch, agent, _)), Some(group)) = (self.agents.get(name), self.agent_group(name)) else { return 0 };
        // What cannot be looked at counts as ending: its death decides.
        if is_told_to_die(*agent).unwrap_or(true) { 0 } else { self.new_kills(name, *epoch, &group) }
    }

    /// Kills for memory in the agent's cgroup beyond those that were told of.
    fn new_kills(&self, name: &LoopName, epoch: u64, group: &Group) -> u64 {
        let agent =
            self.world.loops.get(name).and_then(|l| l.record.agent.as_ref()).filter(|agent| agent.epoch == epoch);
        let told = agent.map_or(0, |agent| agent.children_oom_killed);
        match group.oom_kills() {
            Ok(all) => all.saturating_sub(told),
            Err(e) => {
                tracing::warn!("{name}: {e}");
                0
            }
        }
    }

    /// A SIGKILL that came from the kernel for memory is told as such.
    pub(super) fn killed_by_whom(&self, name: &LoopName, epoch: u64, cause: DeathCause) -> DeathCause {
        let killed = matches!(cause, DeathCause::Killed { signal } if signal == Signal::KILL.as_raw());
        let Some(group) = self.agent_group(name).filter(|group| killed && self.new_kills(name, epoch, group) > 0)
        else {
            return cause;
        };
        let figure = |read: std::io::Result<Option<u64>>| {
            read.unwrap_or_else(|e| {
                tracing::warn!("{name}: {e}");
                None
            })
        };
        DeathCause::Oom { limit: figure(group.limit()), peak: figure(group.peak()) }
    }

    /// The cgroup cannot be told by the event alone: says what is known.
    pub(super) fn clear_is_stuck(&mut self, name: &LoopName, found: impl Iterator<Item = ProcId>) {
        let what = found.map(|id| format!("pid {} (killed, and still there)", id.pid)).collect::<Vec<_>>().join(", ");
        self.queue.push_back(Event::ClearStuck { name: name.clone(), what });
    }
}
