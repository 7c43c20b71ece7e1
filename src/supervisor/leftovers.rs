//! Everything that one loop's agent started and that may outlive it, where no cgroup holds it: finds, kills, freezes and
//! thaws it, a round at a time, so that the event loop is never held up. Cgroups will be beside this, not in it.

use super::names::LoopName;
use super::tmux::PIPE_VAR;
use crate::support::process::{Delivery, ProcId, State, open_pidfd, send, send_to, tree};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a freeze waits for the tmux server to be stopped before it stops the rest: it is within microseconds,
/// unless it sleeps in the kernel; then a later round goes on.
const SERVER_STOPS_WITHIN: Duration = Duration::from_millis(2);

/// Whose left-overs.
#[derive(Debug, Clone, Copy)]
pub struct Leftovers<'a> {
    /// The loop.
    pub name: &'a LoopName,
    /// The supervisor's control socket, as agents have it in CC_CI_SOCKET.
    pub control_socket: &'a Path,
    /// The loop's tmux server, if one is known. While it lives, everything below it is the set: it is the subreaper.
    pub server: Option<ProcId>,
    /// The recorded agent; looked at only when the server is dead.
    pub agent: Option<ProcId>,
    /// A look for markers that was taken after the server was gone, to be shared by several loops; needed only then, and
    /// taken anew where there is none.
    pub marked: Option<&'a tree::Marked>,
}

/// What one round did.
#[derive(Debug, Default)]
pub struct Round {
    /// Every process that was there and had to be dealt with. Empty: done.
    pub found: Vec<ProcId>,
    /// For a kill: readable as each one that was signalled ends. Poll for the first, then do the next round.
    pub pidfds: Vec<OwnedFd>,
    /// Those that may not be signalled (another user's, say through sudo), and why. They stay in `found` of every
    /// round, so tell the operator instead of repeating for ever.
    pub refused: Vec<(ProcId, String)>,
}

impl Leftovers<'_> {
    /// The set, in the order of pids: with a living server, every process below it but the log's pipe; with a dead one,
    /// every process with the loop's marker, the recorded agent, and what is below them.
    ///
    /// Do not ask while a `pipe-pane` is under way: a pipe that has not come to its exec yet looks like any other child.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn find(&self) -> io::Result<Vec<ProcId>> {
        let mut set = BTreeSet::new();
        if let Some(server) = self.living_server()? {
            for id in tree::descendants(server.pid)? {
                if !is_pipe(self.name, id.pid, server.pid)? {
                    set.insert(id);
                }
            }
        } else {
            let mut roots = match self.marked {
                Some(marked) => marked.of(self.name.as_str()).to_vec(),
                None => tree::marked(self.name.as_str(), self.control_socket)?,
            };
            if let Some(agent) = self.agent {
                if agent.is_alive()? {
                    roots.push(agent);
                }
            }
            for root in roots {
                set.extend(tree::descendants(root.pid)?);
                set.insert(root);
            }
        }
        // A supervisor that was started from inside the agent it now cleans up after does not end itself.
        let me = crate::support::process::own_pid();
        Ok(set.into_iter().filter(|id| id.pid != me).collect())
    }

    /// SIGKILL to the whole set. Repeat until `found` is empty: what was being forked meanwhile is in the next round.
    ///
    /// # Errors
    /// As [`Leftovers::find`].
    pub fn kill_round(&self) -> io::Result<Round> {
        let mut round = Round::default();
        for id in self.find()? {
            let Some(pidfd) = open_pidfd(id)? else { continue };
            round.found.push(id);
            match send_to(&pidfd, id, Signal::KILL) {
                Ok(Delivery::Sent) => round.pidfds.push(pidfd),
                Ok(Delivery::AlreadyGone) => {}
                Err(e) => round.refused.push((id, e.to_string())),
            }
        }
        Ok(round)
    }

    /// SIGSTOP to the tmux server first, then to all of the set that is not stopped. Repeat until `found` is empty.
    ///
    /// The server first, since tmux answers the stop of a pane's first process with SIGCONT. While it is stopped its
    /// clients hang: ask it nothing until [`Leftovers::thaw`].
    ///
    /// # Errors
    /// As [`Leftovers::find`].
    pub fn freeze_round(&self) -> io::Result<Round> {
        let mut round = Round::default();
        if let Some(server) = self.living_server()? {
            if runs(server)? {
                round.stop(server);
                if !stopped_within(server, SERVER_STOPS_WITHIN)? {
                    return Ok(round);
                }
            }
        }
        for id in self.find()? {
            if runs(id)? {
                round.note(id, send(id, Signal::STOP));
                // With the signal pending it is held where it is. (A shell whose vforked child was stopped before its exec
                // stays there for as long as that child is stopped: tried.)
                if id.state()? != State::InKernel {
                    round.found.push(id);
                }
            }
        }
        Ok(round)
    }

    /// SIGCONT to the set first, then to the tmux server, so that it sees no stopped child when it wakes. One round is
    /// all: nothing that is stopped forks.
    ///
    /// # Errors
    /// As [`Leftovers::find`].
    pub fn thaw(&self) -> io::Result<Round> {
        let mut round = Round::default();
        for id in self.find()?.into_iter().chain(self.living_server()?) {
            round.found.push(id);
            round.note(id, send(id, Signal::CONT));
        }
        Ok(round)
    }

    fn living_server(&self) -> io::Result<Option<ProcId>> {
        match self.server {
            Some(server) if server.is_alive()? => Ok(Some(server)),
            _ => Ok(None),
        }
    }
}

/// Whether `pid` writes the loop's log: a direct child of its server, `sh -c 'CC_CI_PIPE=NAME exec cat >>LOG'`, then `cat`
/// with that variable.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn is_pipe(name: &LoopName, pid: i32, server: i32) -> io::Result<bool> {
    if tree::parent(pid)? != Some(server) {
        return Ok(false);
    }
    let mark = format!("{PIPE_VAR}={name}");
    let environ = tree::environ(pid)?.unwrap_or_default();
    if environ.split(|b| *b == 0).any(|var| var == mark.as_bytes()) {
        return Ok(true);
    }
    let start = format!("{mark} exec cat >>");
    let command = tree::cmdline(pid)?;
    Ok(command.split(|b| *b == 0).nth(2).is_some_and(|script| script.starts_with(start.as_bytes())))
}

impl Round {
    fn stop(&mut self, id: ProcId) {
        self.found.push(id);
        self.note(id, send(id, Signal::STOP));
    }

    fn note(&mut self, id: ProcId, result: io::Result<Delivery>) {
        if let Err(e) = result {
            self.refused.push((id, e.to_string()));
        }
    }
}

fn runs(id: ProcId) -> io::Result<bool> {
    Ok(matches!(id.state()?, State::Alive | State::InKernel))
}

fn stopped_within(id: ProcId, limit: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        if matches!(id.state()?, State::Stopped | State::Gone) {
            return Ok(true);
        }
        if start.elapsed() > limit {
            return Ok(false);
        }
        std::thread::yield_now();
    }
}
