//! `supervisor demo`: what it says when it cannot begin, that an interruption leaves nothing behind, and that what
//! `--keep` leaves runs and goes away as it says. That the demo shows what it claims, the demo itself checks.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{DEADLINE, reaper, wait_for, when};

/// The demo, its temporary folder below `dir`.
fn demo(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    command.arg("demo").env("TMPDIR", dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn entries(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Ends what a failed test leaves.
struct Folder(tempfile::TempDir);

impl Drop for Folder {
    fn drop(&mut self) {
        reaper::end_all(self.0.path());
    }
}

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn send(child: &Child, signal: Signal) {
    let id = cc_ci::support::process::ProcId::of(child.id().try_into().unwrap()).unwrap().unwrap();
    cc_ci::support::process::send(id, signal).unwrap();
}

#[test]
fn without_tmux_it_says_what_to_install_and_makes_nothing() {
    let dir = Folder::new();
    let done = demo(dir.path()).env("PATH", dir.path()).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(done.stderr).unwrap(),
        "supervisor: demo: running `tmux`: it is not in PATH; install it with `apt-get install tmux git`, or `nix shell \
         nixpkgs#tmux nixpkgs#git`\n"
    );
    assert_eq!(entries(dir.path()), [""; 0]);
}

#[test]
fn an_interruption_ends_every_process_and_removes_the_folder() {
    for (signal, after) in [(Signal::INT, "✓ three loops up"), (Signal::TERM, "✓ supervisor killed")] {
        let dir = Folder::new();
        let mut child = demo(dir.path()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with(after)), "{after} was not shown");
        assert!(reaper::all(dir.path()).len() > 6, "the demo, and three tmux servers and agents");
        send(&child, signal);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        drop(lines);
        assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
        assert!(said.starts_with("supervisor: demo: step `") && said.contains(": interrupted\n"), "{said}");
        assert_eq!(reaper::all(dir.path()), BTreeSet::new());
        assert_eq!(entries(dir.path()), [""; 0]);
    }
}

#[test]
fn what_is_kept_runs_on_and_goes_away_as_it_says() {
    let dir = Folder::new();
    let done = demo(dir.path()).arg("--keep").output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    let command = |what: &str| text.lines().find(|l| l.contains(what)).unwrap_or_else(|| panic!("{text}")).trim();
    let sh = |line: &str| Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().unwrap();

    let status = command(" status --watch").trim_end_matches(" --watch").to_owned();
    wait_for(DEADLINE, "all three to be up again", || {
        let table = String::from_utf8(sh(&status).stdout).unwrap();
        when(table.matches(" up ").count() == 3, table)
    });
    // A busy machine needs longer to end it than the line waits.
    let (kill, remove) = command("kill ").split_once("; sleep 3; ").unwrap();
    for (line, left) in [(kill, "all to end"), (remove, "nothing to be left")] {
        let done = sh(line);
        assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
        wait_for(DEADLINE, left, || {
            let runs = reaper::all(dir.path());
            if runs.is_empty() { Ok(()) } else { Err(runs) }
        });
    }
    assert_eq!(entries(dir.path()), [""; 0]);
    assert_eq!(reaper::all(dir.path()), BTreeSet::new());
}
