//! What agents tell of themselves reaches the supervisor that runs, or the next one; what is typed reaches the agent.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::Request;
use cc_ci::supervisor::session::missed_events;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::Command;
use std::time::Duration;
use support::{Lab, loop_name, script};

fn listener() -> Lab {
    let lab = Lab::start_with(&script::a_loop("builder", "agent.sh", ""));
    lab.running("builder");
    lab
}

/// As an agent's hook says it.
fn hook(lab: &Lab, epoch: u64, event: &str) {
    let mut hook = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    hook.arg("event").env("CC_CI_LOOP", "builder").env("CC_CI_EPOCH", epoch.to_string());
    // Not by a pipe: it waits half a second for the first byte.
    std::fs::write(lab.path("event"), event).unwrap();
    hook.env("CC_CI_SOCKET", lab.socket()).stdin(File::open(lab.path("event")).unwrap());
    assert!(hook.status().unwrap().success());
}

#[test]
fn a_turns_end_that_no_supervisor_heard_is_known_to_the_next_one() {
    let mut lab = listener();
    let epoch = lab.view("builder").epoch;
    lab.event("builder", json!({ "signal": "prompt-accepted" }));
    assert_eq!(lab.view("builder").turn.as_deref(), Some("busy"));
    lab.kill();
    hook(&lab, epoch, r#"{"signal":"turn-ended"}"#);
    lab.start();
    lab.running("builder");
    assert_eq!(lab.view("builder").turn.as_deref(), Some("idle"));
    assert_eq!(lab.view("builder").epoch, epoch, "it was only told of");
}

#[test]
fn what_a_hook_left_after_the_supervisor_had_looked_is_heard_all_the_same() {
    let lab = listener();
    let epoch = lab.view("builder").epoch;
    // Its hook found no listener, and wrote when the next supervisor had read already.
    for (signal, turn) in [("prompt-accepted", "busy"), ("turn-ended", "idle")] {
        let line = json!({ "epoch": epoch, "event": { "signal": signal } });
        let left = missed_events(&lab.path("run"), &loop_name("builder"));
        let mut left = OpenOptions::new().create(true).append(true).open(left).unwrap();
        flock(&left, FlockOperation::LockExclusive).unwrap();
        left.write_all(format!("{line}\n").as_bytes()).unwrap();
        flock(&left, FlockOperation::Unlock).unwrap();
        drop(left);
        lab.wait_for(turn, || {
            let found = lab.view("builder").turn;
            if found.as_deref() == Some(turn) { Ok(()) } else { Err(found) }
        });
    }
}

#[test]
fn a_file_of_missed_events_that_somebody_keeps_locked_is_read_later_and_costs_nothing_meanwhile() {
    let lab = listener();
    let event = json!({ "epoch": lab.view("builder").epoch, "event": { "signal": "turn-ended" } });
    let path = missed_events(&lab.path("run"), &loop_name("builder"));
    let keeps = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    flock(&keeps, FlockOperation::LockExclusive).unwrap();
    std::fs::write(&path, format!("{event}\n")).unwrap();
    let ticks = || {
        let stat = procfs::process::Process::new(lab.daemon_pid()).and_then(|daemon| daemon.stat()).unwrap();
        stat.utime + stat.stime
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(1));
    assert_ne!(lab.view("builder").turn.as_deref(), Some("idle"), "it was not locked: this tests nothing");
    // Half of what a second has.
    assert!(ticks() - before < procfs::ticks_per_second() / 2, "{} ticks in a second", ticks() - before);
    flock(&keeps, FlockOperation::Unlock).unwrap();
    drop(keeps);
    lab.wait_for("the event", || {
        let turn = lab.view("builder").turn;
        if turn.as_deref() == Some("idle") { Ok(()) } else { Err(turn) }
    });
}

#[test]
fn what_an_earlier_agent_told_nobody_is_not_taken_for_the_present_ones() {
    let mut lab = listener();
    lab.event("builder", json!({ "signal": "prompt-accepted" }));
    let epoch = lab.view("builder").epoch;
    lab.kill();
    hook(&lab, epoch - 1, r#"{"signal":"turn-ended"}"#);
    lab.start();
    lab.running("builder");
    assert_eq!(lab.view("builder").turn.as_deref(), Some("busy"));
}

#[test]
fn texts_that_come_at_once_are_typed_one_after_the_other() {
    let lab = listener();
    let texts: Vec<String> = (0..4).map(|n| format!("text number {n}")).collect();
    std::thread::scope(|scope| {
        for text in &texts {
            let lab = &lab;
            scope.spawn(move || lab.done(Request::Nudge { name: loop_name("builder"), text: text.clone() }));
        }
    });
    let heard = lab.wait_for("four lines", || {
        let heard = lab.said("builder");
        if heard.lines().count() >= texts.len() { Ok(heard) } else { Err(heard) }
    });
    // Which of them is first nobody promises.
    let mut lines: Vec<&str> = heard.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, texts);
}
