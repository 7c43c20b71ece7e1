//! Other programs, run for an answer and never for longer than told.

use crate::support::child::{End, Finished, Task};
use crate::support::clock::Now;
use rustix::event::{PollFd, Timespec, poll};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Runs `command` to its end, or for `within` at most.
pub fn run(command: Command, within: Duration) -> io::Result<Finished> {
    let deadline = Now::read().plus(within).boot;
    let mut task = Task::spawn(command, None, deadline)?;
    loop {
        if let Some(done) = task.progress()? {
            return Ok(done);
        }
        let now = Now::read().boot;
        if let Some(done) = task.kill_overdue(now)? {
            return Ok(done);
        }
        let left = Duration::from_millis(deadline.saturating_sub(now).max(1));
        let fds = task.poll_fds();
        let mut fds: Vec<_> = fds.into_iter().map(|(fd, events)| PollFd::from_borrowed_fd(fd, events)).collect();
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// What a git command says about `folder`; the error says why it says nothing.
pub fn git(folder: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(args);
    // A hook or an alias of another repository must not lead this one astray.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    command.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0");
    said(run(command, Duration::from_secs(10)))
}

/// The trimmed stdout of a program that succeeded, else what it complained of.
pub fn said(finished: io::Result<Finished>) -> Result<String, String> {
    let finished = finished.map_err(|e| e.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match finished.end {
        end if end.is_success() => Ok(text(&finished.stdout)),
        End::Overdue => Err("no answer in time".to_owned()),
        End::Exited(status) => match text(&finished.stderr) {
            words if words.is_empty() => Err(status.to_string()),
            words => Err(words),
        },
    }
}
