//! A full disk under the state and the logs: said clearly, nothing torn, running agents untouched, all well when space returns.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::{Request, Response};
use rustix::process::Signal;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use support::script::a_loop;
use support::{Lab, loop_name, only, read, when};

/// A small filesystem of its own. Made before the laboratory, so that it goes after it.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// `None` where nothing can be mounted, which is said.
    fn mount() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("ccdisk").tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=0750", "tmpfs"]).arg(dir.path());
        let why = match mount.output() {
            Ok(out) if out.status.success() => return Some(Self { dir }),
            Ok(out) => String::from_utf8_lossy(&out.stderr).trim().to_owned(),
            Err(e) => e.to_string(),
        };
        println!("skipped: a full disk needs a mount of its own: {why}");
        None
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).unwrap();
        for size in [65536, 4096, 512, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    /// Fills it once nothing is being saved: what is would leave room behind.
    fn fill_behind(&self, lab: &Lab) {
        lab.running("builder");
        lab.running("adversary");
        // Answered when all is durable.
        lab.done(Request::Thaw);
        self.fill();
    }

    /// Fills it but for so many blocks, so that another write than the first one fails.
    fn fill_but(&self, blocks: u64) {
        self.fill();
        let file = File::options().write(true).open(self.filler()).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len((len / 4096).saturating_sub(blocks) * 4096).unwrap();
    }

    fn empty(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn lab(&self, tables: &str) -> Lab {
        let mut lab = Lab::new(tables);
        lab.state = self.dir.path().join("state");
        lab.configure(tables);
        lab
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

fn two(more: &str) -> String {
    format!("{}{}", a_loop("builder", "agent.sh", more), a_loop("adversary", "agent.sh", more))
}

/// Each file of the state is whole.
fn assert_nothing_torn(lab: &Lab) {
    let mut files = vec![lab.state("global.json"), lab.state("gate.json")];
    files.extend(["builder", "adversary"].map(|name| lab.state(&format!("loops/{name}.json"))));
    for file in files.into_iter().filter(|file| file.exists()) {
        let text = read(&file);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}: {text:?}", file.display());
    }
}

#[test]
fn a_stop_that_cannot_be_made_durable_is_refused_and_works_when_space_returns() {
    let Some(disk) = Disk::mount() else { return };
    let mut lab = disk.lab(&two(""));
    lab.start();
    let agents = (lab.running("builder"), lab.running("adversary"));
    disk.fill_behind(&lab);
    for request in [
        Request::Stop { which: only("builder") },
        Request::Restart { which: only("builder") },
        Request::Freeze,
        Request::Drain { timeout_ms: 1000 },
    ] {
        let why = lab.not_done(request.clone());
        assert!(why.contains("No space left on device") && why.contains("nothing was changed"), "{request:?}: {why}");
        assert!(why.contains(lab.state.to_str().unwrap()), "{why}");
    }
    assert_eq!((lab.running("builder"), lab.running("adversary")), agents);
    assert!(lab.view("builder").holds.is_empty());
    assert_nothing_torn(&lab);
    let told = lab.wait_for("the operator to be told", || {
        let told = lab.notifications();
        told.iter().find(|n| n.to_string().contains("No space left")).cloned().ok_or(told)
    });
    assert!(lab.status().unwritable.is_some(), "{told}");
    disk.empty();
    lab.wait_for("the state to be writable", || match lab.status().unwritable {
        None => Ok(()),
        Some(why) => Err(why),
    });
    lab.done(Request::Stop { which: only("builder") });
    assert!(!agents.0.is_alive());
    lab.kill_and_restart();
    lab.held("builder", "stopped by the operator");
    assert_eq!(lab.running("adversary"), agents.1);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn an_agent_that_dies_while_the_disk_is_full_comes_back_when_space_returns() {
    let Some(disk) = Disk::mount() else { return };
    let mut lab = disk.lab(&two(""));
    lab.start();
    let agents = (lab.running("builder"), lab.running("adversary"));
    disk.fill_behind(&lab);
    agents.0.signal(Signal::KILL);
    let held = lab.held("builder", "No space left on device");
    assert_eq!(lab.starts("builder").len(), 1, "started without its epoch being durable: {held:?}");
    assert_eq!(lab.running("adversary"), agents.1);
    // A supervisor that dies now must not lose or double anything either.
    lab.kill();
    assert_nothing_torn(&lab);
    disk.empty();
    lab.start();
    lab.running_after("builder", agents.0.epoch);
    assert_eq!(lab.running("adversary"), agents.1);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_held_start_goes_on_by_itself_when_space_returns() {
    let Some(disk) = Disk::mount() else { return };
    let mut lab = disk.lab(&two(""));
    lab.start();
    let agent = lab.running("builder");
    disk.fill_behind(&lab);
    agent.signal(Signal::KILL);
    lab.held("builder", "No space left on device");
    disk.empty();
    lab.running_after("builder", agent.epoch);
    assert_eq!(lab.doubles(), "");
    let deaths = lab.wait_for("the kept entries of the journal", || {
        let deaths = lab.decisions("restart", Some("builder"));
        if deaths.len() == 1 { Ok(deaths) } else { Err(deaths) }
    });
    assert_eq!(deaths[0]["evidence"]["pid"], agent.id.pid);
}

#[test]
fn the_log_of_a_running_agent_goes_on_when_space_returns() {
    let Some(disk) = Disk::mount() else { return };
    let mut lab = disk.lab(&two(""));
    lab.start();
    let agent = lab.running("builder");
    let run = |what: &str| lab.done(Request::Nudge { name: loop_name("builder"), text: format!("run {what}") });
    disk.fill_behind(&lab);
    // More than what the last block of the log has room for.
    run("head -c 20000 /dev/zero | tr '\\0' x");
    lab.await_pipe_end("builder", agent.server);
    disk.empty();
    let begun = std::time::Instant::now();
    let mut number = 0;
    lab.wait_for("output in the log again", || {
        if begun.elapsed().as_millis() / 500 >= number {
            number += 1;
            run(&format!("echo found{number}"));
        }
        when(read(&lab.state("logs/builder.log")).contains("\nfound"), read(&lab.state("logs/builder.log")))
    });
    assert_eq!(lab.running("builder"), agent);
}

#[test]
fn a_supervisor_that_begins_on_a_full_disk_says_so_and_loses_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let mut lab = disk.lab(&format!("{}{}", support::script::PHASES, two("")));
    lab.start();
    let agents = (lab.running("builder"), lab.running("adversary"));
    lab.done(Request::PhaseSet { index: 2 });
    lab.kill();
    disk.fill();
    // Whether it refuses or runs on what it can read, it must say why, and touch no agent.
    lab.spawn_only();
    lab.wait_for("the fault to be said", || when(lab.stderr().contains("No space left"), lab.stderr()));
    assert!(agents.0.is_alive() && agents.1.is_alive());
    lab.kill();
    disk.empty();
    assert_nothing_torn(&lab);
    lab.start();
    assert_eq!((lab.running("builder"), lab.running("adversary")), agents);
    assert_eq!((lab.status().phase.unwrap().index, lab.index()), (Some(2), "2\n".to_owned()));
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_phase_that_cannot_be_written_does_not_move() {
    let Some(disk) = Disk::mount() else { return };
    let index = disk.dir.path().join("idx/.phase-idx");
    let phases = support::script::PHASES.replace("plans =", &format!("index_file = \"{}\"\nplans =", index.display()));
    let mut lab = disk.lab(&format!("{phases}{}", two("")));
    lab.start();
    lab.running("builder");
    lab.done(Request::PhaseSet { index: 1 });
    disk.fill_behind(&lab);
    let why = lab.not_done(Request::PhaseAdvance);
    assert!(why.contains("No space left on device"), "{why}");
    assert_eq!((lab.status().phase.unwrap().index, read(&index)), (Some(1), "1\n".to_owned()));
    lab.kill();
    assert_eq!(read(&index), "1\n");
    disk.empty();
    lab.start();
    assert_eq!(lab.status().phase.unwrap().index, Some(1));
    lab.done(Request::PhaseAdvance);
    assert_eq!((lab.status().phase.unwrap().index, read(&index)), (Some(2), "2\n".to_owned()));
}

#[test]
fn whichever_write_fails_what_was_answered_is_what_the_next_supervisor_finds() {
    let Some(disk) = Disk::mount() else { return };
    let mut lab = disk.lab(&two(""));
    lab.start();
    let adversary = lab.running("adversary");
    let (mut done, mut refused) = (0, 0);
    for blocks in (0..12).chain(0..4) {
        let agent = lab.running("builder");
        disk.fill_but(blocks);
        let answer = lab.call(Request::Stop { which: only("builder") });
        lab.kill();
        assert_nothing_torn(&lab);
        disk.empty();
        lab.start();
        match answer {
            Response::Done { .. } => {
                done += 1;
                lab.held("builder", "stopped by the operator");
                assert!(!agent.is_alive());
                lab.done(Request::Start { which: only("builder") });
            }
            Response::Refused { message, .. } => {
                refused += 1;
                assert!(message.contains("No space left on device"), "{message}");
                assert_eq!(lab.running("builder"), agent, "{blocks} blocks left");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused: this tested one side only");
    assert_eq!(lab.running("adversary"), adversary);
    assert_eq!(lab.doubles(), "");
}
