//! A drain brings every loop to a safe point, judged with real git clones, and changes nothing else.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::{Refusal, Request, Response, Which};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use support::{Lab, when};

fn git(dir: &Path, args: &[&str]) {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=x", "-c", "user.email=x@example.org"]).args(args).current_dir(dir);
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        git.env_remove(variable);
    }
    let out = git.output().unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Two loops in clones of one origin, each with one pushed commit.
fn clones(more: &str) -> Lab {
    let a_loop = |name: &str, role: &str| {
        format!(
            "[loops.{name}]\nagent = \"command\"\nworkdir = \"{name}\"\ncommand = [\"/bin/sh\", \"@dir@/agent.sh\"]\n{role}"
        )
    };
    let tables =
        format!("{more}{}{}", a_loop("builder", "role = \"claims\"\n"), a_loop("adversary", "role = \"verifies\"\n"));
    let mut lab = Lab::new(&tables);
    let (ws, origin) = (lab.path("ws"), lab.path("origin.git"));
    git(&ws, &["init", "-q", "--bare", "-b", "main", origin.to_str().unwrap()]);
    for name in ["builder", "adversary"] {
        git(&ws, &["clone", "-q", origin.to_str().unwrap(), name]);
        git(&ws.join(name), &["checkout", "-q", "-B", name]);
        git(&ws.join(name), &["commit", "-q", "--allow-empty", "-m", "first"]);
        git(&ws.join(name), &["push", "-q", "origin", name]);
    }
    lab.start();
    lab.running("builder");
    lab.running("adversary");
    lab
}

fn drain(lab: &Lab, timeout_ms: u64) -> Result<(), String> {
    match lab.call(Request::Drain { timeout_ms }) {
        Response::Done { .. } => Ok(()),
        Response::Refused { kind: Refusal::NotNow, message } => Err(message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn clean_and_pushed_loops_are_held_until_all_are_started_also_by_a_new_supervisor() {
    let mut lab = clones("");
    drain(&lab, 60_000).unwrap();
    lab.held("builder", "drained");
    lab.held("adversary", "drained");
    lab.kill_and_restart();
    lab.held("builder", "drained");
    lab.done(Request::Start { which: Which::All });
    lab.running_after("builder", 1);
    lab.running_after("adversary", 1);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_dirty_and_an_unpushed_clone_are_named_at_the_timeout_and_go_on() {
    let lab = clones("");
    let (builder, adversary) = (lab.running("builder"), lab.running("adversary"));
    std::fs::write(lab.path("ws/builder/half-done.txt"), "x").unwrap();
    git(&lab.path("ws/adversary"), &["commit", "-q", "--allow-empty", "-m", "second"]);
    let why = lab.wait_for("both to be looked at", || {
        let why = drain(&lab, 5_000).unwrap_err();
        if why.contains("not looked at yet") { Err(why) } else { Ok(why) }
    });
    assert!(why.contains("builder: its clone is not clean") && why.contains("half-done.txt"), "{why}");
    assert!(why.contains("adversary: its last commit is not pushed"), "{why}");
    assert_eq!((lab.running("builder"), lab.running("adversary")), (builder, adversary));
    assert_eq!(lab.status().draining_until, None);
    lab.wait_for("the request to be safe", || when(lab.said("builder").contains("safe point"), lab.said("builder")));
}

#[test]
fn a_loop_that_becomes_safe_in_time_is_drained() {
    let lab = clones("");
    let half = lab.path("ws/builder/half-done.txt");
    std::fs::write(&half, "x").unwrap();
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| drain(&lab, 60_000));
        lab.held("adversary", "drained");
        lab.wait_for("builder to be named", || {
            let view = lab.view("builder");
            when(view.waits_for.as_ref().is_some_and(|w| w.contains("not clean")), format!("{view:?}"))
        });
        std::fs::remove_file(&half).unwrap();
        drained.join().unwrap().unwrap();
    });
    lab.held("builder", "drained");
}

#[test]
fn an_open_claim_keeps_both_sides_from_being_safe() {
    let lab = clones(support::script::PHASES);
    let claim = lab.try_call_from(Some("builder"), Request::GateClaim { commit: Some("abc".into()) }).unwrap();
    assert!(!matches!(claim, Response::Refused { .. }), "{claim:?}");
    let why = drain(&lab, 2_000).unwrap_err();
    for name in ["builder", "adversary"] {
        assert!(why.contains(&format!("{name}: a claim waits for its verdict")), "{why}");
    }
    assert_eq!(lab.starts("builder").len() + lab.starts("adversary").len(), 2);
}

#[test]
fn a_turn_that_has_not_ended_is_waited_for() {
    let lab = clones("");
    let builder = lab.running("builder");
    lab.event("builder", json!({ "signal": "prompt-accepted" }));
    let why = lab.wait_for("the builder alone to be named", || {
        let why = drain(&lab, 2_000).unwrap_err();
        if why.contains("adversary") { Err(why) } else { Ok(why) }
    });
    assert!(why.contains("builder: its turn has not ended"), "{why}");
    lab.held("adversary", "drained");
    assert_eq!(lab.running("builder"), builder);
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| drain(&lab, 60_000));
        lab.wait_for("the drain to begin", || when(lab.status().draining_until.is_some(), "not yet"));
        lab.event("builder", json!({ "signal": "turn-ended" }));
        drained.join().unwrap().unwrap();
    });
    lab.held("builder", "drained");
}

#[test]
fn a_loop_without_a_clone_is_safe_when_its_turn_has_ended() {
    let lab = Lab::start_with(&support::script::a_loop("health", "agent.sh", ""));
    lab.running("health");
    drain(&lab, 60_000).unwrap();
    lab.held("health", "drained");
}

#[test]
fn the_command_exits_with_3_at_the_timeout_and_with_0_when_all_are_safe() {
    let lab = clones("");
    let half = lab.path("ws/builder/half-done.txt");
    std::fs::write(&half, "x").unwrap();
    let (code, said) = lab.wait_for("the clone to be looked at", || {
        let (code, said) = lab.cli(&["drain", "--timeout", "3s"]);
        if said.contains("not looked at yet") { Err(said) } else { Ok((code, said)) }
    });
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("half-done.txt"), "{said}");
    std::fs::remove_file(&half).unwrap();
    let (code, said) = lab.cli(&["drain", "--timeout", "60s"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(lab.cli(&["start", "--all"]).0, 0);
    lab.running_after("builder", 1);
}
