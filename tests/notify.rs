//! The operator's notify program hangs, fails or is missing: no loop waits for it, and it is said.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::Request;
use rustix::process::Signal;
use support::Lab;
use support::script::{PHASES, a_loop};

/// Has ten notifications sent, and an agent killed meanwhile.
fn with_notify(argv: &str) -> Lab {
    let tables = format!("{PHASES}{}", a_loop("builder", "agent.sh", ""));
    let mut lab = Lab::new(&tables);
    let config = std::fs::read_to_string(lab.config()).unwrap();
    let ours = config.lines().find(|line| line.starts_with("notify")).unwrap();
    lab.write_config(&config.replace(ours, &format!("notify = {argv}")));
    lab.start();
    let agent = lab.running("builder");
    for round in 0..10 {
        lab.done(Request::PhaseSet { index: round % 2 });
        lab.done(Request::PhaseSet { index: 3 });
    }
    agent.signal(Signal::KILL);
    lab.running_after("builder", agent.epoch);
    lab
}

#[test]
fn a_notify_program_that_hangs_holds_up_nothing_and_ends_with_the_supervisor() {
    let mut lab = with_notify("[\"sleep\", \"100000\"]");
    lab.kill_and_restart();
    lab.running("builder");
}

#[test]
fn a_notify_program_that_fails_is_said_with_what_it_said() {
    let lab = with_notify("[\"sh\", \"-c\", \"cat >/dev/null; echo no network >&2; exit 4\"]");
    let entry = lab.await_decision("notify-failed", None);
    assert!(entry["why"].as_str().unwrap().contains("no network"), "{entry}");
}

#[test]
fn a_notify_program_that_reads_nothing_or_is_not_there_is_said() {
    let lab = with_notify("[\"true\"]");
    assert!(lab.decisions("notify-failed", None).is_empty(), "{:?}", lab.decisions("notify-failed", None));
    let lab = with_notify("[\"/no/such/program\"]");
    let entry = lab.await_decision("notify-failed", None);
    assert!(entry["why"].as_str().unwrap().contains("/no/such/program"), "{entry}");
}
