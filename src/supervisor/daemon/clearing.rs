//! What agents leave behind: killed round by round, and stopped in place or let go on, never waited for.

use super::Daemon;
use super::tasks::Retry;
use crate::supervisor::cgroup::Present;
use crate::supervisor::control;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::world::Said;
use crate::supervisor::leftovers::Leftovers;
use crate::supervisor::names::LoopName;
use crate::support::process::{ProcId, tree};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The next round at the latest after this, also if none of those killed was seen to end.
const ROUND_MS: u64 = 50;
/// Rounds that find only what cannot be killed come this far apart.
const STUCK_MS: u64 = 1_000;
/// After so many rounds (5 s at least) what is left does not end although it was killed: it sleeps in the kernel, or
/// forks faster than it dies.
const MANY_ROUNDS: u32 = 100;
/// The same for a cgroup, which tells when it changes: so many changes or seconds.
const MANY_ROUNDS_IN_UNIT: u32 = 5;
/// Rounds in one go: a program that forks without end is met again from the event loop.
const FREEZE_ROUNDS: usize = 20;

/// The killing of what one loop's agent left behind.
pub(super) struct Clearing {
    /// The agent itself, in case its server died before it.
    agent: Option<ProcId>,
    /// The tmux server below which it all ran, if it lived when the clearing was asked for. Not the one that lives now: a
    /// new one may have come meanwhile, and nothing of the old one's is below that.
    server: Option<ProcId>,
    /// Readable as those that were killed end.
    pub(super) pidfds: Vec<OwnedFd>,
    /// Tells when the agent's cgroup is empty.
    pub(super) events: Option<File>,
    killed: BTreeSet<ProcId>,
    rounds: u32,
    said: Said,
}

/// A round in a unit's cgroup.
pub(super) enum Round {
    /// There is none, or nobody in it.
    Empty,
    /// These were told to die; the file tells of what came of it.
    Killed { found: BTreeSet<ProcId>, events: File },
}

impl Daemon {
    fn control_socket(&self) -> PathBuf {
        control::socket_path(&self.config.runtime_dir)
    }

    /// Takes a clearing on. Its rounds come when the decisions at hand are carried out, so that several loops whose tmux
    /// servers are gone share one look at all processes.
    pub(super) fn clear(&mut self, name: &LoopName, agent: Option<ProcId>) {
        let server = self.servers.get(name).map(|(server, _)| *server);
        let (pidfds, killed) = Default::default();
        let clearing = Clearing { agent, server, pidfds, events: None, killed, rounds: 0, said: Said::No };
        self.clearing.insert(name.clone(), clearing);
        self.to_clear.insert(name.clone());
    }

    /// A round for each of those that wait for one.
    pub(super) fn clear_waiting(&mut self) {
        let names = std::mem::take(&mut self.to_clear);
        let serverless = |name: &&LoopName| self.clearing.get(*name).is_some_and(|c| c.server.is_none());
        let serverless = names.iter().filter(serverless).count();
        let marked = match serverless {
            0 | 1 => None,
            // Failed, each looks for itself, and says so.
            _ => tree::Marked::find(&self.control_socket()).ok(),
        };
        for name in names {
            self.clear_round(&name, marked.as_ref());
        }
    }

    /// One round. Over when a round finds nothing.
    fn clear_round(&mut self, name: &LoopName, marked: Option<&tree::Marked>) {
        if !self.clearing.contains_key(name) {
            return;
        }
        // What is in the agent's cgroup first: the rest is what never came to be in it.
        match self.kill_in_unit(name) {
            Round::Empty => {}
            Round::Killed { found, events } => return self.killed_in_unit(name, found, events),
        }
        let socket = self.control_socket();
        let Some(clearing) = self.clearing.get_mut(name) else { return };
        clearing.events = None;
        self.retries.retain(|(_, r)| !matches!(r, Retry::Clear { name: n } if n == name));
        let (server, agent) = (clearing.server, clearing.agent);
        // Of one that had a server the look came too early should that die now.
        let marked = marked.filter(|_| server.is_none());
        let set = Leftovers { name, control_socket: &socket, server, agent, marked };
        let round = match set.kill_round() {
            Ok(round) => round,
            Err(e) => {
                tracing::error!("{name}: looking for what its agent left behind: {e}");
                self.retry(STUCK_MS, Retry::Clear { name: name.clone() });
                return;
            }
        };
        if round.found.is_empty() {
            let killed = clearing.killed.len();
            self.clearing.remove(name);
            self.queue.push_back(Event::Cleared { name: name.clone(), killed });
            return;
        }
        clearing.killed.extend(round.found.iter().copied());
        clearing.rounds = clearing.rounds.saturating_add(1);
        let refused = round.refused.len() == round.found.len();
        let stuck = refused || clearing.rounds > MANY_ROUNDS;
        if stuck && clearing.said == Said::No {
            clearing.said = Said::Yes;
            let what = if refused {
                told(&round.refused)
            } else {
                round
                    .found
                    .iter()
                    .map(|id| format!("pid {} (killed, and still there)", id.pid))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            self.queue.push_back(Event::ClearStuck { name: name.clone(), what });
        }
        // What was gone before the signal reached it has no descriptor to wait for: looked at again at once.
        let wait = match (stuck, round.pidfds.is_empty()) {
            (true, _) => STUCK_MS,
            (false, true) => 1,
            (false, false) => ROUND_MS,
        };
        clearing.pidfds = round.pidfds;
        self.retry(wait, Retry::Clear { name: name.clone() });
    }

    /// Its cgroup tells when it is empty; else it is killed again now and then.
    fn killed_in_unit(&mut self, name: &LoopName, found: BTreeSet<ProcId>, events: File) {
        self.retries.retain(|(_, r)| !matches!(r, Retry::Clear { name: n } if n == name));
        let Some(clearing) = self.clearing.get_mut(name) else { return };
        clearing.events = Some(events);
        clearing.killed.extend(found.iter().copied());
        clearing.rounds = clearing.rounds.saturating_add(1);
        if clearing.rounds > MANY_ROUNDS_IN_UNIT && clearing.said == Said::No {
            clearing.said = Said::Yes;
            self.clear_is_stuck(name, found.into_iter());
        }
        self.retry(STUCK_MS, Retry::Clear { name: name.clone() });
    }

    pub(super) fn freeze_again(&mut self, name: &LoopName) {
        self.retry(ROUND_MS, Retry::Freeze { name: name.clone() });
    }

    /// Stops a loop's processes in place. Without a cgroup its tmux server is stopped too: it would let the agent go on.
    pub(super) fn freeze(&mut self, name: &LoopName) {
        if self.world.global.frozen.is_none() {
            // Thawed while a round was waiting.
            return;
        }
        if self.freeze_unit(name) == Present::Yes {
            return;
        }
        let socket = self.control_socket();
        let server = self.servers.get(name).map(|(server, _)| *server);
        let agent = self.agents.get(name).map(|(_, agent, _)| *agent);
        let set = Leftovers { name, control_socket: &socket, server, agent, marked: None };
        for _ in 0..FREEZE_ROUNDS {
            match set.freeze_round() {
                Ok(round) if round.found.is_empty() => return,
                // Only what we may not stop still runs: asking again and again changes nothing.
                Ok(round) if round.found.iter().all(|id| round.refused.iter().any(|(refused, _)| refused == id)) => {
                    let name = name.clone();
                    self.queue.push_back(Event::FreezeStuck { name, what: told(&round.refused) });
                    return;
                }
                Ok(_) => {}
                Err(e) => {
                    tracing::error!("{name}: stopping it in place: {e}");
                    break;
                }
            }
        }
        self.retry(ROUND_MS, Retry::Freeze { name: name.clone() });
    }

    pub(super) fn thaw(&mut self, name: &LoopName) {
        self.retries.retain(|(_, r)| !matches!(r, Retry::Freeze { name: n } if n == name));
        if self.thaw_unit(name) == Present::Yes && !self.server_is_stopped(name) {
            return;
        }
        let socket = self.control_socket();
        let server = self.servers.get(name).map(|(server, _)| *server);
        let agent = self.agents.get(name).map(|(_, agent, _)| *agent);
        let set = Leftovers { name, control_socket: &socket, server, agent, marked: None };
        match set.thaw() {
            Ok(round) => {
                for (id, why) in round.refused {
                    tracing::error!("{name}: letting pid {} go on: {why}", id.pid);
                }
            }
            Err(e) => tracing::error!("{name}: letting it go on: {e}"),
        }
    }
}

fn told(refused: &[(ProcId, String)]) -> String {
    refused.iter().map(|(id, why)| format!("pid {} ({why})", id.pid)).collect::<Vec<_>>().join(", ")
}
