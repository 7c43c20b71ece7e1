//! A child process that an event loop never waits for: fed, read, timed and reaped by descriptors that `poll(2)` takes.

use super::process::pid_of;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;

/// More output than this, of each kind, is read (so the child does not block) and dropped. tmux answers with a few
/// hundred bytes; this bounds what a notify or probe command can put into the supervisor's memory.
const KEPT: usize = 64 * 1024;

/// Reads of 8 KiB at a time: together twice what a pipe holds by default.
const READS: usize = 16;

/// How long a drop waits for a killed child to end: nearly always it has within one; only sleep in the kernel takes
/// longer, and then [`UNREAPED`] has it.
const REAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Killed children that had not ended when their task was dropped; each later spawn looks after them.
static UNREAPED: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, or by a signal that was not ours.
    Exited(ExitStatus),
    /// It missed its deadline and was killed with its process group.
    Overdue,
}

impl End {
    /// Whether it ended by itself with status 0.
    pub fn is_success(self) -> bool {
        matches!(self, End::Exited(status) if status.success())
    }
}

/// A task that ended, and what it said (at most 64 KiB of each).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub end: End,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
}

/// A running child. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Task {
    child: Child,
    pidfd: OwnedFd,
    stdin: Option<(ChildStdin, Vec<u8>)>,
    stdout: Capture<ChildStdout>,
    stderr: Capture<ChildStderr>,
    deadline: u64,
    reaped: bool,
}

impl Task {
    /// Starts `command` in a process group of its own, with `input` on its stdin (none: /dev/null), to be ended at
    /// `deadline` (CLOCK_BOOTTIME, milliseconds).
    ///
    /// # Errors
    /// When the program cannot be started, or there are no descriptors left.
    pub fn spawn(mut command: Command, input: Option<Vec<u8>>, deadline: u64) -> io::Result<Self> {
        reap_left();
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|e| {
            io::Error::new(e.kind(), format!("start `{}`: {e}", command.get_program().to_string_lossy()))
        })?;
        match Self::prepare(&mut child, input) {
            Ok((pidfd, stdin, stdout, stderr)) => {
                Ok(Self { child, pidfd, stdin, stdout, stderr, deadline, reaped: false })
            }
            Err(e) => {
                // Without a pidfd nobody would see its end.
                kill_group(&child);
                bury(&child);
                Err(e)
            }
        }
    }

    #[allow(clippy::type_complexity, reason = "the parts of one struct, made before it can be")]
    fn prepare(
        child: &mut Child,
        input: Option<Vec<u8>>,
    ) -> io::Result<(OwnedFd, Option<(ChildStdin, Vec<u8>)>, Capture<ChildStdout>, Capture<ChildStderr>)> {
        let pidfd = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let stdin = match (child.stdin.take(), input) {
            (Some(pipe), Some(bytes)) => {
                set_nonblocking(&pipe)?;
                Some((pipe, bytes))
            }
            _ => None,
        };
        Ok((pidfd, stdin, Capture::new(child.stdout.take())?, Capture::new(child.stderr.take())?))
    }

    /// Its pid, also its process group's.
    pub fn pid(&self) -> i32 {
        pid_of(&self.child)
    }

    /// When it is overdue: CLOCK_BOOTTIME, milliseconds.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Gives it more time, or less.
    pub fn set_deadline(&mut self, deadline: u64) {
        self.deadline = deadline;
    }

    /// What to poll; when one of them is ready, call [`Task::progress`].
    pub fn poll_fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut fds = vec![(self.pidfd.as_fd(), PollFlags::IN)];
        fds.extend(self.stdin.as_ref().map(|(pipe, _)| (pipe.as_fd(), PollFlags::OUT)));
        fds.extend(self.stdout.pipe.as_ref().map(|p| (p.as_fd(), PollFlags::IN)));
        fds.extend(self.stderr.pipe.as_ref().map(|p| (p.as_fd(), PollFlags::IN)));
        fds
    }

    /// Feeds and reads what is possible without waiting. `Some` once the child itself has exited: a grandchild that
    /// keeps the pipes open is not waited for, what is in them by then is taken. Call it no more after that.
    ///
    /// # Errors
    /// When a pipe or the child's status cannot be read; drop the task then.
    pub fn progress(&mut self) -> io::Result<Option<Finished>> {
        self.feed()?;
        // The status first: what the child wrote before it exited is in the pipes by now.
        let status = self.child.try_wait()?;
        self.stdout.drain()?;
        self.stderr.drain()?;
        Ok(status.map(|status| {
            self.reaped = true;
            self.finish(End::Exited(status))
        }))
    }

    /// Kills it with its process group if `now` (CLOCK_BOOTTIME, milliseconds) is at or past its deadline. `Some` at
    /// once, even if the kernel takes its time to end it; drop the task then.
    ///
    /// # Errors
    /// As [`Task::progress`].
    pub fn kill_overdue(&mut self, now: u64) -> io::Result<Option<Finished>> {
        if now < self.deadline {
            return Ok(None);
        }
        // It may have ended in time while nobody looked.
        if let Some(finished) = self.progress()? {
            return Ok(Some(finished));
        }
        kill_group(&self.child);
        Ok(Some(self.finish(End::Overdue)))
    }

    fn finish(&mut self, end: End) -> Finished {
        Finished { end, stdout: std::mem::take(&mut self.stdout.kept), stderr: std::mem::take(&mut self.stderr.kept) }
    }

    fn feed(&mut self) -> io::Result<()> {
        let Some((pipe, bytes)) = &mut self.stdin else { return Ok(()) };
        while !bytes.is_empty() {
            match pipe.write(bytes) {
                Ok(n) => drop(bytes.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // It does not want the rest; its exit status is what counts.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => break,
                Err(e) => return Err(e),
            }
        }
        self.stdin = None;
        Ok(())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        kill_group(&self.child);
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        // An error means only that it is not known to have ended: the try_wait of `bury` decides.
        let _ = rustix::event::poll(&mut fds, Some(&REAP));
        bury(&self.child);
    }
}

/// Reaps it if it has ended, else remembers it.
fn bury(child: &Child) {
    let pid = Pid::from_child(child);
    if !reap(pid) {
        unreaped().push(pid);
    }
}

/// Looks after those that had not ended when they were buried.
fn reap_left() {
    unreaped().retain(|pid| !reap(*pid));
}

fn unreaped() -> std::sync::MutexGuard<'static, Vec<Pid>> {
    // A list of numbers is whole even if a thread panicked while it held it.
    UNREAPED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whether nothing is left to reap.
fn reap(pid: Pid) -> bool {
    // ECHILD: somebody else reaped it.
    !matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(None))
}

fn kill_group(child: &Child) {
    // The child is not reaped yet, so neither its pid nor its group's number can be another's. ESRCH: all are gone.
    let _ = rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL);
}

fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// One output of a child.
#[derive(Debug)]
struct Capture<P> {
    pipe: Option<P>,
    kept: Vec<u8>,
}

impl<P: Read + AsFd> Capture<P> {
    fn new(pipe: Option<P>) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            set_nonblocking(pipe)?;
        }
        Ok(Self { pipe, kept: Vec::new() })
    }

    /// Takes what is there. Reads at most what a pipe can hold, so a child that writes without end cannot keep the
    /// event loop here; poll says at once that there is more.
    fn drain(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut buffer = [0; 8192];
        for _ in 0..READS {
            match pipe.read(&mut buffer) {
                Ok(0) => {
                    self.pipe = None;
                    return Ok(());
                }
                Ok(n) => {
                    let room = KEPT - self.kept.len();
                    self.kept.extend_from_slice(&buffer[..n.min(room)]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::clock::Now;
    use crate::support::process::{ProcId, open_pidfd};
    use std::time::Duration;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn in_a_while() -> u64 {
        Now::read().plus(Duration::from_secs(20)).boot
    }

    fn poll(task: &Task, timeout: Option<Duration>) {
        let fds = task.poll_fds();
        let mut fds: Vec<_> = fds.into_iter().map(|(fd, events)| PollFd::from_borrowed_fd(fd, events)).collect();
        let timeout = timeout.map(|t| Timespec { tv_sec: 0, tv_nsec: i64::from(t.subsec_nanos()) });
        rustix::event::poll(&mut fds, timeout.as_ref()).unwrap();
    }

    fn finish(mut task: Task) -> Finished {
        loop {
            if let Some(finished) = task.progress().unwrap() {
                return finished;
            }
            if let Some(finished) = task.kill_overdue(Now::read().boot).unwrap() {
                return finished;
            }
            poll(&task, Some(Duration::from_millis(500)));
        }
    }

    #[test]
    fn both_outputs_and_the_status_are_told() {
        let done = finish(Task::spawn(sh("echo out; echo err >&2; exit 3"), None, in_a_while()).unwrap());
        assert_eq!((done.stdout.as_slice(), done.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert!(matches!(done.end, End::Exited(s) if s.code() == Some(3)));
        assert!(!done.end.is_success());
    }

    #[test]
    fn a_megabyte_of_input_and_output_flows_and_only_64_kib_are_kept() {
        let input = vec![b'x'; 1 << 20];
        let done = finish(Task::spawn(sh("tee /dev/stderr | wc -c >&2"), Some(input), in_a_while()).unwrap());
        assert!(done.end.is_success());
        assert_eq!(done.stderr.len(), KEPT);
    }

    #[test]
    fn a_child_that_does_not_read_its_input_is_no_error() {
        let done = finish(Task::spawn(sh("exec 0<&-; exit 0"), Some(vec![b'x'; 1 << 20]), in_a_while()).unwrap());
        assert!(done.end.is_success());
    }

    #[test]
    fn a_grandchild_that_keeps_the_pipes_is_not_waited_for() {
        let done = finish(Task::spawn(sh("sleep 1000 & echo $!"), None, in_a_while()).unwrap());
        let grandchild: i32 = String::from_utf8(done.stdout).unwrap().trim().parse().unwrap();
        let id = ProcId::of(grandchild).unwrap().unwrap();
        crate::support::process::send(id, Signal::KILL).unwrap();
    }

    #[test]
    fn an_overdue_child_is_killed_with_its_group_and_leaves_no_zombie() {
        let mut task = Task::spawn(sh("sleep 1000 & echo $!; wait"), None, 5).unwrap();
        assert_eq!(task.kill_overdue(4).unwrap(), None, "it has time yet");
        while task.stdout.kept.is_empty() {
            poll(&task, None);
            assert_eq!(task.progress().unwrap(), None);
        }
        let child = ProcId::of(task.pid()).unwrap().unwrap();
        let grandchild = String::from_utf8(task.stdout.kept.clone()).unwrap().trim().parse().unwrap();
        let pidfd = ProcId::of(grandchild).unwrap().map(|id| open_pidfd(id).unwrap().unwrap()).unwrap();
        let ended = open_pidfd(child).unwrap().unwrap();
        assert_eq!(task.kill_overdue(5).unwrap().unwrap().end, End::Overdue);
        drop(task);
        // On a busy machine it may end only after the drop, and then it is the next spawn that reaps it.
        rustix::event::poll(&mut [PollFd::new(&ended, PollFlags::IN)], None).unwrap();
        reap_left();
        assert!(!std::path::Path::new(&format!("/proc/{}", child.pid)).exists(), "a zombie was left");
        rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
    }

    #[test]
    fn a_child_that_ended_in_time_is_not_overdue_only_because_nobody_looked() {
        let mut task = Task::spawn(sh("echo fine"), None, 5).unwrap();
        rustix::event::poll(&mut [PollFd::new(&task.pidfd, PollFlags::IN)], None).unwrap();
        let done = task.kill_overdue(6).unwrap().unwrap();
        assert!(done.end.is_success());
        assert_eq!(done.stdout, b"fine\n");
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let err = Task::spawn(Command::new("/nonexistent/tmux"), None, 5).unwrap_err();
        assert!(err.to_string().starts_with("start `/nonexistent/tmux`: "), "{err}");
    }

    #[test]
    fn the_descriptors_of_one_task_are_not_inherited_by_the_next() {
        let ls = || {
            let mut command = Command::new("ls");
            command.arg("/proc/self/fd");
            finish(Task::spawn(command, None, in_a_while()).unwrap()).stdout
        };
        // Whoever runs the tests may hand down descriptors of its own; they are in both lists.
        let alone = ls();
        let other = Task::spawn(sh("sleep 1000"), Some(vec![b'x'; 1 << 20]), in_a_while()).unwrap();
        assert_eq!(ls(), alone);
        drop(other);
    }
}
