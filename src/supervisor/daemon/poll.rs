//! The one place that waits: every descriptor that can tell something, until the next moment at which something is due.

use super::tasks::{Retry, Running};
use super::{Daemon, Decided, Ending, Turn};
use crate::supervisor::control;
use crate::supervisor::core::event::{Event, Leave};
use crate::supervisor::names::LoopName;
use crate::support::clock::Now;
use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::Duration;

/// Whose descriptor it is.
#[derive(Debug, Clone)]
enum Token {
    End,
    Hangup,
    Watch,
    Control(control::server::Token, PollFlags),
    Task,
    Agent(LoopName),
    Server(LoopName),
    Child(LoopName),
    Pipe(LoopName),
    Clear(LoopName),
    Memory(LoopName),
}

impl Daemon {
    /// Deals with the events at hand, waits for the next, and takes it in.
    pub(super) fn turn(&mut self) -> anyhow::Result<Turn> {
        if self.settle() == Decided::Something {
            self.tell_manager();
        }
        if self.ending == Ending::Yes {
            return Ok(Turn::Over);
        }
        let ready = self.wait()?;
        for token in ready {
            self.take_in(token)?;
        }
        self.due(Now::read());
        Ok(Turn::On)
    }

    fn wait(&self) -> anyhow::Result<Vec<Token>> {
        let mut tokens = vec![Token::End, Token::Watch];
        let mut fds = vec![PollFd::new(&self.signals.end, PollFlags::IN), PollFd::new(&self.watch, PollFlags::IN)];
        if let Some(hangup) = &self.signals.hangup {
            tokens.push(Token::Hangup);
            fds.push(PollFd::new(hangup, PollFlags::IN));
        }
        for (token, fd, flags) in self.server.poll_fds() {
            tokens.push(Token::Control(token, flags));
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        for running in &self.tasks {
            for (fd, flags) in running.task.poll_fds() {
                tokens.push(Token::Task);
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
        }
        for (name, (_, _, fd)) in &self.agents {
            tokens.push(Token::Agent(name.clone()));
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        for (name, (_, fd)) in &self.servers {
            tokens.push(Token::Server(name.clone()));
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        for (name, (_, fd)) in &self.children {
            tokens.push(Token::Child(name.clone()));
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        for (name, (_, fd)) in &self.pipes {
            tokens.push(Token::Pipe(name.clone()));
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        for (name, clearing) in &self.clearing {
            // The first is enough: the next round looks at all.
            if let Some(events) = &clearing.events {
                tokens.push(Token::Clear(name.clone()));
                fds.push(PollFd::new(events, PollFlags::PRI));
            } else if let Some(fd) = clearing.pidfds.first() {
                tokens.push(Token::Clear(name.clone()));
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
        }
        for (name, unit) in &self.units {
            if let Some(events) = unit.tells() {
                tokens.push(Token::Memory(name.clone()));
                fds.push(PollFd::new(events, PollFlags::PRI));
            }
        }
        let timeout = self.timeout(Now::read());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(e) => return Err(e).context("waiting for events"),
        }
        let ready = fds.iter().zip(tokens).filter(|(fd, _)| !fd.revents().is_empty()).map(|(fd, token)| match token {
            Token::Control(token, _) => Token::Control(token, fd.revents()),
            token => token,
        });
        Ok(ready.collect())
    }

    /// Until the next moment at which something is due.
    fn timeout(&self, now: Now) -> Option<Timespec> {
        if !self.queue.is_empty() || self.can_start() {
            return Some(Timespec::default());
        }
        let tasks = self.tasks.iter().map(|running| running.task.deadline());
        let retries = self.retries.iter().map(|(at, _)| *at);
        let control = self.server.wake_at();
        let alive = self.told.as_ref().and_then(|told| told.alive_at);
        let next = tasks.chain(retries).chain(control).chain(self.world.wake_at).chain(alive);
        let next = next.chain([self.housekeeping]).min()?;
        let left = next.saturating_sub(now.boot);
        Some(Timespec {
            tv_sec: i64::try_from(left / 1000).unwrap_or(i64::MAX),
            tv_nsec: (left % 1000 * 1_000_000) as _,
        })
    }

    fn take_in(&mut self, token: Token) -> anyhow::Result<()> {
        match token {
            Token::End => {
                drain(&mut self.signals.end);
                self.queue.push_back(Event::Shutdown(self.options.leave));
            }
            Token::Hangup => {
                self.signals.hangup.as_mut().map(drain);
                // A terminal that is closed is no wish to stop the loops.
                self.queue.push_back(Event::Shutdown(Leave::Sessions));
            }
            Token::Watch => {
                for (name, event) in self.watch.read_events().context("reading the watch on the session folders")? {
                    self.session_event(&name, event);
                }
            }
            Token::Control(token, events) => {
                let incoming = self.server.ready(token, events, Now::read().boot);
                self.incoming(incoming);
            }
            // Looked at together below: an index is only good until the first one ends.
            Token::Task => {}
            Token::Agent(name) => self.agent_ended(&name),
            Token::Server(name) => self.server_ended(&name),
            Token::Child(name) => self.child_ended(&name),
            Token::Pipe(name) => self.pipe_ended(&name),
            Token::Clear(name) => drop(self.to_clear.insert(name)),
            Token::Memory(name) => self.killed_for_memory(&name),
        }
        Ok(())
    }

    /// Everything that is due, and the children that ended.
    fn due(&mut self, now: Now) {
        self.progress_tasks(now);
        let (due, later) = std::mem::take(&mut self.retries).into_iter().partition(|(at, _)| now.boot >= *at);
        self.retries = later;
        for (_, retry) in due {
            match retry {
                Retry::Probe { name, tries } => self.probe(&name, tries),
                Retry::Death { name, epoch, since, tries } => self.read_death(&name, epoch, since, tries),
                Retry::Clear { name } => drop(self.to_clear.insert(name)),
                Retry::Freeze { name } => self.freeze(&name),
                Retry::Victim { name } => self.look_for_victims(&name),
                Retry::Save => drop(self.save_dirty()),
            }
        }
        self.tell_alive(now);
        let gone = self.server.expire(now.boot);
        self.incoming(gone);
        if now.boot >= self.housekeeping {
            self.housekeeping(now);
        }
        // Any event looks at what is due.
        if self.queue.is_empty() && self.world.wake_at.is_some_and(|at| now.boot >= at) {
            self.queue.push_back(Event::Tick);
        }
    }

    pub(super) fn progress_tasks(&mut self, now: Now) {
        let mut ended = Vec::new();
        let mut index = 0;
        while index < self.tasks.len() {
            let running = &mut self.tasks[index];
            let finished = match running.task.progress() {
                Ok(None) => {
                    running.be_patient(now.boot);
                    running.task.kill_overdue(now.boot)
                }
                other => other,
            };
            match finished {
                Ok(None) => index += 1,
                Ok(Some(finished)) => ended.push((self.tasks.remove(index).purpose, finished)),
                Err(e) => {
                    // Its pipes cannot be read: as if it had missed its deadline. Dropping it kills and reaps it.
                    tracing::error!("reading what a child says: {e}");
                    let finished = crate::support::child::Finished {
                        end: crate::support::child::End::Overdue,
                        stdout: Vec::new(),
                        stderr: Vec::new(),
                    };
                    ended.push((self.tasks.remove(index).purpose, finished));
                }
            }
        }
        for (purpose, finished) in ended {
            self.task_ended(purpose, &finished);
        }
    }
}

fn drain(pipe: &mut std::os::unix::net::UnixStream) {
    let mut bytes = [0; 64];
    // Empty or not: whoever is woken by it has been told.
    while pipe.read(&mut bytes).is_ok_and(|n| n > 0) {}
}

/// Waits until one of these children has something to tell.
pub(super) fn any_ready_within(tasks: &[Running], limit: Duration) {
    let fds = tasks.iter().flat_map(|running| running.task.poll_fds());
    let mut fds: Vec<PollFd<'_>> = fds.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
    let timeout = Timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos().into() };
    // Interrupted or not: the caller looks at all of them and at the clock.
    let _ = poll(&mut fds, Some(&timeout));
}

/// Waits for one descriptor; says whether it became readable.
pub(super) fn readable_within(fd: &impl AsFd, limit: Duration) -> bool {
    let until = std::time::Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(n) => return n > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
