//! Processes by identity: a pid can be used again, a pid with its start time cannot within one boot.
//! Owns reading that identity and signalling by it; [`tree`] finds processes, [`memory`] measures them, [`ended`] tells
//! how they ended.

pub mod ended;
pub mod memory;
pub mod tree;
pub mod usage;

use procfs::FromRead;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Nearly every file of `/proc/PID` that is read here is shorter; an environment may not be.
const PROC_FILE: usize = 4096;

/// Which boot this is: everything that is timed or identified within one boot is worth nothing in another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(String);

impl BootId {
    /// Reads `/proc/sys/kernel/random/boot_id`.
    ///
    /// # Errors
    /// When /proc is not mounted or hidden (`ProcSubset=pid` in a unit does that).
    pub fn read() -> io::Result<Self> {
        const FILE: &str = "/proc/sys/kernel/random/boot_id";
        std::fs::read_to_string(FILE).map(|s| Self(s.trim().to_owned())).map_err(|e| about(FILE, &e))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One process, for ever: its pid and its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcId {
    /// Its number in this pid namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start: u64,
}

impl fmt::Display for ProcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)
    }
}

/// The caller's own pid, in the type that this module uses.
pub fn own_pid() -> i32 {
    Pid::as_raw(Some(rustix::process::getpid()))
}

/// The pid of a child, in the type that this module uses.
pub fn pid_of(child: &std::process::Child) -> i32 {
    Pid::as_raw(Some(Pid::from_child(child)))
}

/// What a process does, as far as supervision cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It can run.
    Alive,
    /// SIGSTOP or a tracer holds it.
    Stopped,
    /// It waits in the kernel for something that no signal interrupts: a disk, or its vforked child. A signal that was
    /// sent to it takes effect before it runs any code of its own again.
    InKernel,
    /// It ended (a zombie that nobody reaped has ended), or another process has its pid now.
    Gone,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The kernel took it.
    Sent,
    /// There was nobody left to take it.
    AlreadyGone,
}

impl ProcId {
    /// The living process with this pid; `None` when there is none (a zombie is none).
    ///
    /// # Errors
    /// When its `/proc` entry is there but cannot be read.
    pub fn of(pid: i32) -> io::Result<Option<Self>> {
        Ok(Stat::read(pid)?.filter(|s| s.state != State::Gone).map(|s| s.id))
    }

    /// What this very process does now.
    ///
    /// # Errors
    /// As [`ProcId::of`].
    pub fn state(self) -> io::Result<State> {
        Ok(Stat::read(self.pid)?.filter(|s| s.id == self).map_or(State::Gone, |s| s.state))
    }

    /// Whether this very process still runs, stopped or not.
    ///
    /// # Errors
    /// As [`ProcId::of`].
    pub fn is_alive(self) -> io::Result<bool> {
        Ok(self.state()? != State::Gone)
    }

    /// The pid in the type that system calls take; `None` for numbers that mean something else to them.
    fn raw(self) -> Option<Pid> {
        // kill(0), kill(-1) and kill(1) would reach a group, everything, or init.
        if self.pid > 1 { Pid::from_raw(self.pid) } else { None }
    }
}

/// Whether this very process has been sent a SIGKILL that it has not yet ended of, or is gone.
///
/// # Errors
/// As [`ProcId::of`].
pub fn is_told_to_die(id: ProcId) -> io::Result<bool> {
    let path = format!("/proc/{}/status", id.pid);
    let Some(bytes) = read_unless_gone(&path)? else { return Ok(true) };
    let status = procfs::process::Status::from_read(bytes.as_slice())
        .map_err(|e| about(&path, &io::Error::new(io::ErrorKind::InvalidData, e.to_string())))?;
    // A thread that has taken it keeps it in the set that all threads share until it is gone.
    Ok((status.sigpnd | status.shdpnd) >> (Signal::KILL.as_raw() - 1) & 1 == 1 || !id.is_alive()?)
}

/// A descriptor that becomes readable when this very process ends; `None` when it has.
///
/// # Errors
/// When the kernel has no descriptor to give.
pub fn open_pidfd(id: ProcId) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = id.raw() else { return Ok(None) };
    let fd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(Errno::SRCH) => return Ok(None),
        Err(e) => return Err(about(&format!("pidfd of {id}"), &e.into())),
    };
    // Open first, look second: now the pid cannot go to another process unseen, since the descriptor pins which one
    // it is, and a start time that matches afterwards says it was the right one all along.
    Ok(id.is_alive()?.then_some(fd))
}

/// Sends `signal` to this very process, never to one that got its pid later.
///
/// # Errors
/// When the kernel refuses, for example for a process of another user.
pub fn send(id: ProcId, signal: Signal) -> io::Result<Delivery> {
    match open_pidfd(id)? {
        Some(fd) => send_to(&fd, id, signal),
        None => Ok(Delivery::AlreadyGone),
    }
}

/// [`send`] through a descriptor that is open already.
///
/// # Errors
/// As [`send`].
pub fn send_to(pidfd: &OwnedFd, id: ProcId, signal: Signal) -> io::Result<Delivery> {
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) => Ok(Delivery::Sent),
        Err(Errno::SRCH) => Ok(Delivery::AlreadyGone),
        Err(e) => Err(about(&format!("signal {} to {id}", signal.as_raw()), &e.into())),
    }
}

/// Sends `signal` to the process group of this very process. Between the look and the signal the group could in
/// theory end and its number be used again; a caller that must be sure uses [`send`] on each process.
///
/// # Errors
/// When the kernel refuses, or the group is the caller's own.
pub fn signal_group(id: ProcId, signal: Signal) -> io::Result<Delivery> {
    let Some(stat) = Stat::read(id.pid)?.filter(|s| s.id == id && s.state != State::Gone) else {
        return Ok(Delivery::AlreadyGone);
    };
    let group = ProcId { pid: stat.group, start: 0 };
    let Some(pgid) = group.raw().filter(|g| *g != rustix::process::getpgrp()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("signal {} to the group of {id}: it is the caller's own group", signal.as_raw()),
        ));
    };
    match rustix::process::kill_process_group(pgid, signal) {
        Ok(()) => Ok(Delivery::Sent),
        Err(Errno::SRCH) => Ok(Delivery::AlreadyGone),
        Err(e) => Err(about(&format!("signal {} to process group {}", signal.as_raw(), stat.group), &e.into())),
    }
}

/// How long `/proc/PID/stat` is read again while it shows no thread at all. When a thread other than the first calls exec,
/// it takes the first one's place, and for an instant the first shows, released and a zombie, while the process lives
/// (tried: one in a hundred execs). Later reads show the new one, or that there is none. The instant is microseconds,
/// but the kernel can be preempted in it.
const SETTLES_WITHIN: Duration = Duration::from_millis(50);

/// What `/proc/PID/stat` says that this module's callers need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) id: ProcId,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) state: State,
}

impl Stat {
    /// `None` when there is no process with that pid.
    pub(crate) fn read(pid: i32) -> io::Result<Option<Self>> {
        let start = Instant::now();
        loop {
            match Self::read_once(pid)? {
                None => return Ok(None),
                Some((stat, 1..)) => return Ok(Some(stat)),
                // What is not proven dead counts as alive.
                Some((stat, _)) if start.elapsed() > SETTLES_WITHIN => {
                    return Ok(Some(Self { state: State::Alive, ..stat }));
                }
                Some(_) => std::thread::yield_now(),
            }
        }
    }

    /// With the number of its threads.
    fn read_once(pid: i32) -> io::Result<Option<(Self, i64)>> {
        let path = format!("/proc/{pid}/stat");
        let Some(bytes) = read_unless_gone(&path)? else { return Ok(None) };
        let stat = procfs::process::Stat::from_read(bytes.as_slice())
            .map_err(|e| about(&path, &io::Error::new(io::ErrorKind::InvalidData, e.to_string())))?;
        let state = match stat.state {
            // The first thread of a process can end before the others: it shows as a zombie, yet the process runs.
            'Z' | 'X' | 'x' if stat.num_threads <= 1 => State::Gone,
            'T' | 't' => State::Stopped,
            'D' => State::InKernel,
            _ => State::Alive,
        };
        let stat_of = Self { id: ProcId { pid, start: stat.starttime }, parent: stat.ppid, group: stat.pgrp, state };
        Ok(Some((stat_of, stat.num_threads)))
    }
}

/// A file of `/proc/PID`; `None` when the process ended before or while it was read.
pub(crate) fn read_unless_gone(path: &str) -> io::Result<Option<Vec<u8>>> {
    // Files there have no size to go by, and a growing buffer costs a read(2) for each time that it grows.
    let mut bytes = Vec::with_capacity(PROC_FILE);
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(about(path, &e)),
    }
}

/// A process that ends between open and read makes the read fail with ESRCH instead of ENOENT.
pub(crate) fn is_gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

pub(crate) fn about(what: &str, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("read `{what}`: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000").spawn().unwrap()
    }

    fn id(child: &Child) -> ProcId {
        ProcId::of(pid_of(child)).unwrap().unwrap()
    }

    #[test]
    fn a_boot_id_is_a_uuid_and_the_same_twice() {
        let id = BootId::read().unwrap();
        assert_eq!(id.to_string().len(), 36);
        assert_eq!(id, BootId::read().unwrap());
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    }

    #[test]
    fn a_zombie_counts_as_gone() {
        let mut child = sleeper();
        let it = id(&child);
        let pidfd = open_pidfd(it).unwrap().unwrap();
        assert!(it.is_alive().unwrap());
        child.kill().unwrap();
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        assert_eq!(ProcId::of(it.pid).unwrap(), None, "not reaped, but gone");
        assert_eq!(it.state().unwrap(), State::Gone);
        assert!(open_pidfd(it).unwrap().is_none());
        assert_eq!(send(it, Signal::TERM).unwrap(), Delivery::AlreadyGone);
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_only_has_the_pid_is_not_signalled() {
        let mut child = sleeper();
        let it = id(&child);
        let other = ProcId { start: it.start + 1, ..it };
        assert_eq!(send(other, Signal::KILL).unwrap(), Delivery::AlreadyGone);
        assert_eq!(signal_group(other, Signal::KILL).unwrap(), Delivery::AlreadyGone);
        assert!(open_pidfd(other).unwrap().is_none());
        assert!(child.try_wait().unwrap().is_none(), "it was killed in place of another");
        assert_eq!(send(it, Signal::KILL).unwrap(), Delivery::Sent);
        child.wait().unwrap();
    }

    #[test]
    fn the_callers_own_group_is_never_signalled() {
        let mut child = sleeper();
        let err = signal_group(id(&child), Signal::KILL).unwrap_err();
        assert!(err.to_string().contains("the caller's own group"), "{err}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_stopped_process_shows_as_stopped() {
        let mut child = sleeper();
        let it = id(&child);
        send(it, Signal::STOP).unwrap();
        rustix::process::waitpid(Pid::from_raw(it.pid), rustix::process::WaitOptions::UNTRACED).unwrap();
        assert_eq!(it.state().unwrap(), State::Stopped);
        assert!(it.is_alive().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn init_and_groups_cannot_be_named() {
        for pid in [-1, 0, 1] {
            assert_eq!(send(ProcId { pid, start: 0 }, Signal::KILL).unwrap(), Delivery::AlreadyGone);
        }
    }
}
