//! An agent that died is started again; one that dies again and again is held; a silent one is nudged, then restarted.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::Request;
use rustix::process::Signal;
use support::script::a_loop;
use support::{Lab, loop_name, only, when};

fn one(script: &str, more: &str) -> String {
    a_loop("builder", script, more)
}

#[test]
fn an_agent_that_exits_is_started_again_and_its_status_is_told() {
    let lab = Lab::start_with(&one("agent.sh", ""));
    let first = lab.running("builder");
    lab.done(Request::Nudge { name: loop_name("builder"), text: "exit 3".into() });
    let second = lab.running_after("builder", first.epoch);
    assert_eq!(second.epoch, first.epoch + 1);
    assert_eq!(second.server, first.server, "the tmux server was replaced");
    assert!(!first.is_alive());
    let view = lab.view("builder");
    assert_eq!(view.restarts, 1);
    assert!(view.last_death.as_ref().unwrap().starts_with("exited with status 3"), "{view:?}");
    assert_eq!(lab.await_decision("restart", Some("builder"))["evidence"]["pid"], first.id.pid);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn an_agent_killed_by_a_signal_is_started_again_and_the_signal_is_told() {
    for (signal, text) in [(Signal::KILL, "was killed by SIGKILL"), (Signal::TERM, "was killed by SIGTERM")] {
        let lab = Lab::start_with(&one("agent.sh", ""));
        let first = lab.running("builder");
        first.signal(signal);
        lab.running_after("builder", first.epoch);
        let death = lab.view("builder").last_death.unwrap();
        assert!(death.starts_with(text), "{death}");
        assert_eq!(lab.doubles(), "");
    }
}

#[test]
fn the_cause_of_every_one_of_many_deaths_is_told() {
    // The kernel tells that it was killed; of a hangup tmux is asked, which misses some: `death_told` tells it again.
    let lab = Lab::start_with(&one("agent.sh", "stable_after = \"1ms\"\n"));
    let mut agent = lab.running("builder");
    for round in 0..30 {
        agent.signal([Signal::KILL, Signal::HUP, Signal::TERM][round % 3]);
        agent = lab.running_after("builder", agent.epoch);
        let death = lab.view("builder").last_death.unwrap();
        assert!(death.starts_with("was killed by SIG"), "round {round}: {death}");
    }
    assert_eq!(lab.doubles(), "");
}

#[test]
fn an_agent_that_ignores_sighup_is_gone_before_the_next_one_starts() {
    let lab = Lab::start_with(&one("hup-deaf.sh", "stop_timeout = \"1s\"\n"));
    let mut before = lab.running("builder");
    for round in 1..=3 {
        let server = cc_ci::support::process::ProcId::of(before.server).unwrap().unwrap();
        // Nobody sees it die, so that what is seen next is what the supervisor did.
        lab.signal(Signal::STOP);
        cc_ci::support::process::send(server, Signal::KILL).unwrap();
        lab.wait_for("the server's end", || when(!server.is_alive().unwrap(), "it lives"));
        assert!(before.is_alive(), "it died with its terminal: this tests nothing");
        lab.signal(Signal::CONT);
        let after = lab.running_after("builder", before.epoch);
        assert_ne!(after.server, before.server);
        assert!(!before.is_alive(), "round {round}: two agents");
        before = after;
    }
    assert_eq!(lab.doubles(), "");
    assert_eq!(lab.view("builder").restarts, 0, "a lost session host was counted as a crash of the agent");
}

#[test]
fn an_agent_that_does_not_end_when_told_is_killed_and_restarted() {
    let lab = Lab::start_with(&one("deaf.sh", "stop_timeout = \"1s\"\n"));
    let first = lab.running("builder");
    lab.done(Request::Restart { which: only("builder") });
    let second = lab.running_after("builder", first.epoch);
    assert!(!first.is_alive());
    assert_eq!((second.epoch, lab.view("builder").restarts), (first.epoch + 1, 0));
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_crash_loop_is_held_told_once_and_tried_again_by_itself() {
    let lab = Lab::new(&one("fragile.sh", "crash_loop = { deaths = 3, within = \"6s\" }\nstable_after = \"8s\"\n"));
    std::fs::write(lab.path("broken"), "").unwrap();
    let mut lab = lab;
    lab.start();
    let told = lab.await_notified("crash-loop");
    assert!(told["summary"].as_str().unwrap().contains("exited with status 7"), "{told}");
    let hold = lab.held("builder", "");
    assert_eq!(serde_json::to_value(hold.holds[0].kind).unwrap(), "crash-loop", "{hold:?}");
    let retried = lab.wait_for("a half-open retry", || {
        let starts = lab.starts("builder");
        if starts.len() >= 5 { Ok(starts) } else { Err(starts) }
    });
    assert_eq!(lab.notified("crash-loop").len(), 1);
    // It has looked at the file by now.
    lab.held("builder", "crash loop");
    std::fs::remove_file(lab.path("broken")).unwrap();
    let agent = lab.running_after("builder", retried.last().unwrap().0);
    lab.wait_for("the hold to be over", || {
        let last = lab.journal().into_iter().rfind(|e| e["loop"] == "builder").unwrap();
        let next = lab.call(Request::Explain { name: loop_name("builder") });
        when(format!("{next:?}").contains("started again at once"), format!("{last} {next:?}"))
    });
    assert!(agent.is_alive());
    assert_eq!(lab.notified("crash-loop").len(), 1);
}

#[test]
fn a_crash_loop_survives_the_supervisor_and_a_start_by_the_operator_ends_it() {
    let mut lab = Lab::new(&one("fragile.sh", "crash_loop = { deaths = 3, within = \"10m\" }\n"));
    std::fs::write(lab.path("broken"), "").unwrap();
    lab.start();
    lab.await_notified("crash-loop");
    let starts = lab.starts("builder").len();
    lab.kill_and_restart();
    lab.held("builder", "");
    assert_eq!(lab.starts("builder").len(), starts);
    assert_eq!(lab.notified("crash-loop").len(), 1);
    std::fs::remove_file(lab.path("broken")).unwrap();
    lab.done(Request::Start { which: only("builder") });
    lab.running("builder");
}

#[test]
fn a_silent_agent_is_nudged_and_then_restarted_and_one_that_answers_is_not() {
    let talks = "command = [\"/bin/sh\", \"-c\", \". @dir@/agent.sh & while :; do echo .; sleep 0.3; done\"]";
    let config = format!(
        "{}[loops.talker]\nagent = \"command\"\nworkdir = \".\"\n{talks}\nstall_after = \"5s\"\n",
        one("agent.sh", "stall_after = \"5s\"\n")
    );
    let lab = Lab::start_with(&config);
    let first = lab.running("builder");
    lab.wait_for("the nudge", || when(lab.said("builder").contains("Are you still there?"), lab.said("builder")));
    lab.running_after("builder", first.epoch);
    let order: Vec<String> = lab
        .journal()
        .iter()
        .filter(|e| e["loop"] == "builder")
        .filter_map(|e| e["decision"].as_str().map(str::to_owned))
        .filter(|d| ["stall-suspected", "nudge", "stall-restart"].contains(&d.as_str()))
        .collect();
    let restarted = order.iter().position(|d| d == "stall-restart").unwrap();
    assert_eq!(order[restarted - 2..=restarted], ["stall-suspected", "nudge", "stall-restart"]);
    lab.await_notified("stall");
    assert_eq!(lab.decisions("nudge", Some("talker")).len(), 0);
    assert_eq!(lab.view("talker").epoch, 1);
}
