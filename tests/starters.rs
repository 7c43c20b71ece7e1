//! What the one who starts the supervisor hands down to it: a umask, signals that are ignored.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use support::Lab;
use support::script::a_loop;

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { [vec![path.clone()], below(&path)].concat() } else { vec![path] })
        .collect()
}

#[test]
fn a_umask_that_allows_everything_makes_nothing_writable_for_others() {
    let mut lab = Lab::new(&a_loop("builder", "agent.sh", ""));
    lab.options.by = ["sh", "-c", "umask 000; exec \"$@\"", "sh"].map(str::to_owned).into();
    lab.start();
    lab.running("builder");
    let mut seen = 0;
    for path in [below(&lab.path("run")), below(&lab.state)].concat() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.file_type().is_symlink() {
            continue;
        }
        seen += 1;
        // The control socket is the group's to use: what a caller may do is checked by who it is.
        let open = if meta.file_type().is_socket() { 0o002 } else { 0o022 };
        let mode = meta.permissions().mode();
        assert_eq!(mode & open, 0, "{} has mode {mode:o}", path.display());
    }
    assert!(seen > 10, "{seen} files");
}

#[test]
fn under_nohup_the_end_of_the_terminal_ends_nothing() {
    let mut lab = Lab::new(&a_loop("builder", "agent.sh", ""));
    lab.options.by = vec!["nohup".to_owned()];
    lab.start();
    let agent = lab.running("builder");
    let daemon = lab.daemon_pid();
    lab.signal(Signal::HUP);
    // It answers after the signal, and is the same process.
    assert_eq!(lab.running("builder"), agent);
    lab.answers();
    let ignored = fs::read_to_string(format!("/proc/{daemon}/status")).unwrap();
    let mask = ignored.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim().to_owned();
    assert_eq!(u64::from_str_radix(&mask, 16).unwrap() & 1, 1, "SIGHUP is no longer ignored: {mask}");
}
