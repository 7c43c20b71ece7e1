//! How a process ended, told by the kernel while nobody has reaped it yet: no question to its parent is needed then.

use super::{ProcId, about, is_gone, read_unless_gone};
use procfs::FromRead;
use std::io;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// How this very process ended; `None` while it lives, once it is reaped, or when the kernel will not tell this user.
///
/// # Errors
/// When its `/proc` entry is there but cannot be read.
pub fn how(id: ProcId) -> io::Result<Option<Ended>> {
    // Who may not trace it reads 0 for the status, which would be a good end. This link asks for the same permission, and
    // one that ended has no program file any more.
    let exe = format!("/proc/{}/exe", id.pid);
    match std::fs::read_link(&exe) {
        Err(e) if is_gone(&e) => {}
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Ok(_) => return Ok(None),
        Err(e) => return Err(about(&exe, &e)),
    }
    let path = format!("/proc/{}/stat", id.pid);
    let Some(bytes) = read_unless_gone(&path)? else { return Ok(None) };
    let stat = procfs::process::Stat::from_read(bytes.as_slice())
        .map_err(|e| about(&path, &io::Error::new(io::ErrorKind::InvalidData, e.to_string())))?;
    let ended = stat.state == 'Z' && stat.num_threads == 1 && stat.starttime == id.start;
    Ok(stat.exit_code.filter(|_| ended).map(Ended::of_wait_status))
}

impl Ended {
    /// From a status as wait(2) gives it. The bit for a core dump is not told.
    fn of_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Exited(status >> 8 & 0xff),
            signal => Self::Killed(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{open_pidfd, own_pid, pid_of, send};
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::Signal;
    use std::process::{Command, Stdio};

    /// What is told of a shell that ran `script` after it was let go on and then `signal`led; also that nothing is told
    /// before it ends, of another with its pid, and after it is reaped.
    fn told(script: &str, signal: Option<Signal>) -> Option<Ended> {
        let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let id = ProcId::of(pid_of(&child)).unwrap().unwrap();
        let pidfd = open_pidfd(id).unwrap().unwrap();
        assert_eq!(how(id).unwrap(), None, "it lives");
        if let Some(signal) = signal {
            send(id, signal).unwrap();
        }
        drop(child.stdin.take());
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
        assert_eq!(how(ProcId { start: id.start + 1, ..id }).unwrap(), None, "another had that pid");
        let told = how(id).unwrap();
        child.wait().unwrap();
        assert_eq!(how(id).unwrap(), None, "it was reaped");
        told
    }

    #[test]
    fn a_process_that_nobody_reaped_tells_its_exit_status() {
        assert_eq!(told("read line; exit 0", None), Some(Ended::Exited(0)));
        assert_eq!(told("read line; exit 203", None), Some(Ended::Exited(203)));
    }

    #[test]
    fn a_process_that_nobody_reaped_tells_the_signal_that_ended_it() {
        assert_eq!(told("read line", Some(Signal::KILL)), Some(Ended::Killed(9)));
        assert_eq!(told("ulimit -c 0; read line", Some(Signal::ABORT)), Some(Ended::Killed(6)));
    }

    #[test]
    fn a_core_dump_does_not_change_the_signal() {
        assert_eq!(Ended::of_wait_status(0x86), Ended::Killed(6));
    }

    #[test]
    fn a_living_process_tells_nothing() {
        assert_eq!(how(ProcId::of(own_pid()).unwrap().unwrap()).unwrap(), None);
    }
}
