//! The other end of the pipe: starts a worker, asks it, and does not wait for one that somebody stopped.

use super::{Answer, Frame, Request};
use crate::secrets::content::Content;
use crate::secrets::manifest::accounts::Identity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A slow disk may take long to sync a thousand files; a worker that was stopped (SIGSTOP) takes for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many answers fit into a pipe whatever they say, so that neither end waits for the other.
const AHEAD: usize = 8;

/// Why a worker did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It could not be started.
    #[error("starting the worker for `{user}`: {cause}; mount /proc if it is not, else try again")]
    Start {
        /// The user that it was for.
        user: String,
        /// What the operating system said.
        cause: io::Error,
    },
    /// It does not answer.
    #[error(
        "waiting for the worker of `{user}`: no answer within {} s, as if somebody had stopped it (SIGSTOP) or a disk hung; \
         end that, and try again",
        patience.as_secs()
    )]
    Silent {
        /// Its user.
        user: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// It ended before it answered.
    #[error("asking the worker of `{user}`: it ended ({cause}), as if somebody had killed it; end that, and try again")]
    Ended {
        /// Its user.
        user: String,
        /// How.
        cause: String,
    },
}

/// A running worker. Dropped, it ends.
#[derive(Debug)]
pub struct Worker {
    user: String,
    patience: Duration,
    child: Child,
    orders: Option<ChildStdin>,
    answers: ChildStdout,
    read: Vec<u8>,
}

impl Worker {
    /// Starts one that has become that user.
    ///
    /// # Errors
    /// [`LinkError`], or within the answer what the worker refused.
    pub fn start(identity: &Identity) -> Result<Result<Self, String>, LinkError> {
        // Our own file, also when a newer version was installed over it meanwhile.
        Self::start_as(Path::new("/proc/self/exe"), PATIENCE, identity)
    }

    /// Like [`Worker::start`], of that program, and given up when it says nothing for `patience`.
    ///
    /// # Errors
    /// As there.
    pub fn start_as(
        program: &Path,
        patience: Duration,
        identity: &Identity,
    ) -> Result<Result<Self, String>, LinkError> {
        let user = identity.name.clone();
        let failed = |cause| LinkError::Start { user: user.clone(), cause };
        let mut command = Command::new(program);
        command.arg0("secrets-placer").arg("worker").env_clear().current_dir("/");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::Error::other("it has no pipes")));
        };
        for fd in [orders.as_fd(), answers.as_fd()] {
            let flags = rustix::fs::fcntl_getfl(fd).map_err(|e| failed(e.into()))?;
            rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
        }
        let mut worker = Self { user: user.clone(), patience, child, orders: Some(orders), answers, read: Vec::new() };
        Ok(worker.ask(Request::Become(identity.clone()), None)?.map(|_| worker))
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// [`LinkError`], or within the answer what the worker refused.
    pub fn ask(&mut self, request: Request, content: Option<&Content>) -> Result<Result<Answer, String>, LinkError> {
        let mut answers = self.ask_all([(request, content)])?;
        Ok(answers.pop().unwrap_or_else(|| Err("asking the worker: no answer; please report this".to_owned())))
    }

    /// Asks many things; an answer for each, in order.
    ///
    /// # Errors
    /// [`LinkError`] when the worker is lost.
    pub fn ask_all<'c>(
        &mut self,
        requests: impl IntoIterator<Item = (Request, Option<&'c Content>)>,
    ) -> Result<Vec<Result<Answer, String>>, LinkError> {
        let mut answers = Vec::new();
        let mut asked = 0;
        for (request, content) in requests {
            self.send(request, content)?;
            asked += 1;
            if asked - answers.len() == AHEAD {
                answers.push(self.answer()?);
            }
        }
        while answers.len() < asked {
            answers.push(self.answer()?);
        }
        Ok(answers)
    }

    fn send(&mut self, request: Request, content: Option<&Content>) -> Result<(), LinkError> {
        let bytes = content.map_or(&[][..], Content::bytes);
        let frame = Frame { request, content: u64::try_from(bytes.len()).unwrap_or(u64::MAX) };
        let mut header = serde_json::to_vec(&frame).map_err(|e| self.ended(&e))?;
        header.push(b'\n');
        for mut part in [header.as_slice(), bytes] {
            while !part.is_empty() {
                let Some(orders) = self.orders.as_mut() else { return Err(self.ended(&"it was told to end")) };
                match orders.write(part) {
                    Ok(written) => part = &part[written..],
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {
                        let ready = wait_until(orders, PollFlags::OUT, Instant::now() + self.patience);
                        self.patient(ready)?;
                    }
                    Err(e) => return Err(self.ended(&e)),
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<Result<Answer, String>, LinkError> {
        loop {
            if let Some(end) = self.read.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|e| self.ended(&e));
            }
            let mut chunk = [0; 16 * 1024];
            match self.answers.read(&mut chunk) {
                Ok(0) => {
                    let cause = match self.child.wait() {
                        Ok(status) => status.to_string(),
                        Err(e) => e.to_string(),
                    };
                    return Err(self.ended(&cause));
                }
                Ok(read) => self.read.extend_from_slice(&chunk[..read]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let ready = wait_until(&self.answers, PollFlags::IN, Instant::now() + self.patience);
                    self.patient(ready)?;
                }
                Err(e) => return Err(self.ended(&e)),
            }
        }
    }

    fn patient(&self, ready: io::Result<bool>) -> Result<(), LinkError> {
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => Err(LinkError::Silent { user: self.user.clone(), patience: self.patience }),
            Err(e) => Err(self.ended(&e)),
        }
    }

    fn ended(&self, cause: &dyn std::fmt::Display) -> LinkError {
        LinkError::Ended { user: self.user.clone(), cause: cause.to_string() }
    }
}

impl Drop for Worker {
    /// The end of its orders is the end of it, unless somebody stopped it; then it is killed if we may, and is left to
    /// systemd else.
    fn drop(&mut self) {
        self.orders = None;
        let end = Instant::now() + Duration::from_secs(2);
        while matches!(wait_until(&self.answers, PollFlags::IN, end), Ok(true)) {
            let mut rest = [0; 4096];
            match self.answers.read(&mut rest) {
                Ok(read) if read > 0 => {}
                _ => {
                    // It closed its end, so it is ending; its exit code tells nothing more.
                    let _ = self.child.wait();
                    return;
                }
            }
        }
        // Both fail only when it has ended meanwhile or may not be killed.
        let _ = self.child.kill();
        let _ = self.child.try_wait();
    }
}

fn wait_until(fd: &impl AsFd, events: PollFlags, end: Instant) -> io::Result<bool> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(0), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(fd, events)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
