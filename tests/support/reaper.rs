//! Ends every process that came of a laboratory: by pid, each known by the laboratory's own folder in what it is.

use cc_ci::support::process::{ProcId, own_pid, send, tree};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// How long a daemon may take to stop its loops after SIGTERM; then it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// SIGTERM, then SIGKILL.
pub fn end_daemon(mut daemon: Child) {
    if let Ok(Some(id)) = ProcId::of(i32::try_from(daemon.id()).unwrap()) {
        let _ = send(id, Signal::CONT);
        let _ = send(id, Signal::TERM);
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if !matches!(daemon.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
}

/// SIGKILL to all of them until none is left.
pub fn end_all(dir: &Path) {
    let begun = Instant::now();
    loop {
        let found = all(dir);
        if found.is_empty() || begun.elapsed() > Duration::from_secs(20) {
            return;
        }
        for id in found {
            let _ = send(id, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every process that has the folder in its argv, environment or working directory, and all below it.
pub fn all(dir: &Path) -> BTreeSet<ProcId> {
    let mut found = BTreeSet::new();
    let text = dir.to_str().unwrap();
    let has = |bytes: &[u8]| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    for pid in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = pid.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if pid == own_pid() {
            continue;
        }
        let part = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let within = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        if !within && !has(&part("cmdline")) && !has(&part("environ")) {
            continue;
        }
        found.extend(ProcId::of(pid).ok().flatten().filter(|id| id.is_alive().unwrap_or(false)));
        for id in tree::descendants(pid).unwrap_or_default() {
            found.insert(id);
        }
    }
    found
}

/// Removes a cgroup once the killed are gone from it.
pub fn until_removed(dir: &Path) {
    let begun = Instant::now();
    while dir.exists() && std::fs::remove_dir(dir).is_err() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
}
