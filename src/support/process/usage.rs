//! How long a process had a processor and how long it waited for one: tells one that is stuck from one that is starved.

use super::{about, read_unless_gone};
use procfs::FromRead;
use std::io;

/// Since the process began. All zero for one that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Nanoseconds with a processor; 0 on a kernel without CONFIG_SCHED_INFO.
    pub ran: u64,
    /// Nanoseconds in wait for one; 0 as above.
    pub waited: u64,
    /// What it does now.
    pub now: Doing,
}

/// What a process does at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Doing {
    /// It has a processor or waits for one, or for a disk: memory that was swapped out comes from there.
    Something,
    /// It waits for something else, is stopped or is gone.
    #[default]
    Nothing,
}

/// Of the first thread of `pid`: enough for tmux, which has one.
///
/// # Errors
/// When its `/proc` entry is there but cannot be read.
pub fn usage(pid: i32) -> io::Result<Usage> {
    let path = format!("/proc/{pid}/stat");
    let Some(bytes) = read_unless_gone(&path)? else { return Ok(Usage::default()) };
    let stat = procfs::process::Stat::from_read(bytes.as_slice())
        .map_err(|e| about(&path, &io::Error::new(io::ErrorKind::InvalidData, e.to_string())))?;
    let now = if matches!(stat.state, 'R' | 'D') { Doing::Something } else { Doing::Nothing };
    let times = read_unless_gone(&format!("/proc/{pid}/schedstat"))?.unwrap_or_default();
    let (ran, waited) = read_times(&String::from_utf8_lossy(&times)).unwrap_or_default();
    Ok(Usage { ran, waited, now })
}

/// `time on the processor, time in wait for it, timeslices` (Documentation/scheduler/sched-stats.rst).
fn read_times(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_ascii_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::{own_pid, pid_of};
    use super::*;

    #[test]
    fn who_asks_has_a_processor() {
        let usage = usage(own_pid()).unwrap();
        // The first thread of the test program, which waits for the others.
        assert!(usage.ran > 0 || usage.now == Doing::Something, "{usage:?}");
    }

    #[test]
    fn a_sleeper_does_nothing_and_one_that_counts_does_something() {
        let mut counts = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut sleeps = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let until = |pid: i32, what: Doing| {
            let begun = std::time::Instant::now();
            while usage(pid).unwrap().now != what {
                assert!(begun.elapsed().as_secs() < 60, "{:?}", usage(pid));
                std::thread::yield_now();
            }
        };
        until(pid_of(&counts), Doing::Something);
        until(pid_of(&sleeps), Doing::Nothing);
        for child in [&mut counts, &mut sleeps] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn the_times_of_schedstat_are_read() {
        assert_eq!(read_times("1234 56 7\n"), Some((1234, 56)));
        assert_eq!(read_times(""), None);
    }
}
