//! What the operator says holds: stop, freeze, phases, gates, a changed config; and from inside a loop it is refused.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::{Request, Response, Which};
use cc_ci::support::process::State;
use rustix::process::Signal;
use support::script::{PHASES, a_loop};
use support::{Agent, Lab, loop_name, only, read, when};

fn two(more: &str) -> String {
    format!("{}{}", a_loop("builder", "agent.sh", more), a_loop("adversary", "agent.sh", more))
}

#[test]
fn a_freeze_stops_all_in_place_survives_the_supervisor_and_a_thaw_lets_the_same_go_on() {
    let mut lab = Lab::start_with(&two(""));
    let agents = [lab.running("builder"), lab.running("adversary")];
    let stopped = |agents: &[Agent]| agents.iter().all(|agent| agent.id.state().unwrap() == State::Stopped);
    lab.done(Request::Freeze);
    lab.wait_for("all to be stopped", || when(stopped(&agents), "not yet"));
    lab.kill_and_restart();
    lab.wait_for("the frozen to be adopted", || {
        let views = [lab.view("builder"), lab.view("adversary")];
        if views.iter().all(|view| view.state == "frozen") { Ok(()) } else { Err(Box::new(views)) }
    });
    assert!(stopped(&agents));
    assert!(lab.not_done(Request::Nudge { name: loop_name("builder"), text: "x".into() }).contains("frozen"));
    lab.done(Request::Thaw);
    assert_eq!([lab.running("builder"), lab.running("adversary")], agents);
    lab.wait_for("all to go on", || when(!stopped(&agents), "stopped"));
    lab.done(Request::Nudge { name: loop_name("builder"), text: "good morning".into() });
    lab.wait_for("the nudge", || when(lab.said("builder").contains("good morning"), lab.said("builder")));
    assert_eq!((lab.starts("builder").len(), lab.starts("adversary").len()), (1, 1));
}

#[test]
fn nothing_starts_while_frozen() {
    let mut lab = Lab::new(&two(""));
    lab.start();
    let agent = lab.running("builder");
    lab.running("adversary");
    lab.done(Request::Stop { which: only("adversary") });
    lab.done(Request::Freeze);
    agent.signal(Signal::KILL);
    lab.held("builder", "frozen");
    lab.done(Request::Start { which: only("adversary") });
    lab.held("adversary", "frozen");
    lab.kill_and_restart();
    lab.held("builder", "frozen");
    lab.held("adversary", "frozen");
    lab.done(Request::Thaw);
    lab.running_after("builder", agent.epoch);
    lab.running_after("adversary", 1);
}

#[test]
fn phases_move_when_told_and_the_loops_are_held_after_the_last_one() {
    let config = format!(
        "{PHASES}{}{}",
        a_loop("builder", "agent.sh", "args = [\"{phase_index}\"]\non_phase = \"restart\"\n"),
        a_loop("health", "agent.sh", "follows_phases = false\n")
    );
    let mut lab = Lab::start_with(&config);
    let builder = lab.running("builder");
    lab.running("health");
    assert_eq!((lab.index(), lab.view("builder").phase), ("0\n".to_owned(), Some(0)));
    lab.done(Request::PhaseAdvance);
    assert_eq!(lab.index(), "1\n");
    lab.running_after("builder", builder.epoch);
    lab.wait_for("the new phase", || when(lab.view("builder").phase == Some(1), format!("{:?}", lab.view("builder"))));
    assert!(lab.not_done(Request::PhaseSet { index: 5 }).contains('4'));
    lab.done(Request::PhaseSet { index: 4 });
    lab.held("builder", "");
    lab.await_notified("complete");
    assert!(lab.status().phase.unwrap().complete);
    lab.kill_and_restart();
    lab.held("builder", "");
    lab.running("health");
    assert_eq!(lab.starts("health").len(), 1);
    lab.done(Request::PhaseSet { index: 2 });
    lab.running("builder");
    assert_eq!(lab.index(), "2\n");
}

#[test]
fn an_index_file_that_was_copied_over_is_accepted_at_start_and_told() {
    let mut lab = Lab::start_with(&format!("{PHASES}{}", two("")));
    lab.running("builder");
    lab.done(Request::PhaseSet { index: 1 });
    lab.kill();
    std::fs::write(lab.path("ws/.cc-ci-logs/.phase-idx"), "3\n").unwrap();
    lab.start();
    assert_eq!(lab.status().phase.unwrap().index, Some(3));
    assert!(lab.journal().iter().any(|e| e.to_string().contains("phase set by file")), "not journalled");
    lab.wait_for("the notification", || {
        let told = lab.notifications();
        if told.iter().any(|n| n.to_string().contains("phase set by file")) { Ok(()) } else { Err(told) }
    });
    lab.kill_and_restart();
    assert_eq!((lab.status().phase.unwrap().index, lab.index()), (Some(3), "3\n".to_owned()));
    // Accepted once: the next start knows it.
    let told = lab.decisions("phase-loaded", None);
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn from_phase_overrides_the_index_file() {
    let mut lab = Lab::start_with(&format!("{PHASES}{}", two("")));
    lab.running("builder");
    lab.kill();
    lab.options.args = vec!["--from-phase".into(), "2".into()];
    lab.start();
    assert_eq!((lab.status().phase.unwrap().index, lab.index()), (Some(2), "2\n".to_owned()));
    lab.kill();
    lab.options.args = vec!["--from-phase".into(), "9".into()];
    let (code, said) = lab.refused();
    assert_ne!(code, 0);
    assert!(said.contains("phase 9") && said.contains("0 to 4"), "{said}");
    assert_eq!(lab.index(), "2\n");
}

#[test]
fn a_claim_and_its_verdict_nudge_the_other_side_and_a_pass_moves_the_phase() {
    let phases = PHASES.replace("manual", "gate-pass");
    let config = format!(
        "{phases}{}{}{}",
        a_loop("builder", "agent.sh", "role = \"claims\"\n"),
        a_loop("adversary", "agent.sh", "role = \"verifies\"\n"),
        a_loop("health", "agent.sh", "")
    );
    let mut lab = Lab::start_with(&config);
    let agents = [lab.running("builder"), lab.running("adversary")];
    lab.running("health");
    let from = |lab: &Lab, name, request| lab.try_call_from(Some(name), request).unwrap();
    assert!(matches!(from(&lab, "adversary", Request::GateClaim { commit: None }), Response::Refused { .. }));
    let claim = Request::GateClaim { commit: Some("abc123".into()) };
    assert!(!matches!(from(&lab, "builder", claim), Response::Refused { .. }));
    lab.wait_for("the verifier's nudge", || when(lab.said("adversary").contains("abc123"), lab.said("adversary")));
    assert!(matches!(from(&lab, "health", Request::GatePass), Response::Refused { .. }));
    lab.kill_and_restart();
    assert!(lab.done(Request::GateShow)[0].contains("abc123"));
    from(&lab, "adversary", Request::GateFail { reason: Some("too slow".into()) });
    lab.wait_for("the claimer's nudge", || when(lab.said("builder").contains("too slow"), lab.said("builder")));
    assert_eq!(lab.index(), "0\n");
    from(&lab, "builder", Request::GateClaim { commit: Some("def456".into()) });
    lab.wait_for("the second nudge", || when(lab.said("adversary").contains("def456"), lab.said("adversary")));
    from(&lab, "adversary", Request::GatePass);
    lab.wait_for("the next phase", || when(lab.index() == "1\n", lab.index()));
    assert_eq!(lab.status().phase.unwrap().index, Some(1));
    assert_eq!([lab.running("builder"), lab.running("adversary")], agents);
}

#[test]
fn a_changed_definition_is_shown_and_taken_at_the_next_start_only() {
    let mut lab = Lab::start_with(&two(""));
    let agent = lab.running("builder");
    lab.running("adversary");
    lab.kill();
    lab.configure(&two("args = [\"new\"]\n"));
    lab.start();
    assert_eq!(lab.running("builder"), agent);
    assert!(lab.view("builder").older_definition);
    assert_eq!(lab.view("builder").waits_for.as_deref(), Some("runs an older definition"));
    lab.done(Request::Restart { which: only("builder") });
    let after = lab.running_after("builder", agent.epoch);
    assert!(!lab.view("builder").older_definition);
    let argv = std::fs::read(format!("/proc/{}/cmdline", after.id.pid)).unwrap();
    assert!(argv.ends_with(b"\0new\0"), "{}", String::from_utf8_lossy(&argv));
    lab.running("adversary");
    assert!(lab.view("adversary").older_definition);
}

#[test]
fn on_change_now_restarts_and_a_policy_key_does_not() {
    let mut lab = Lab::start_with(&two("on_change = \"now\"\n"));
    let agent = lab.running("builder");
    lab.kill();
    lab.configure(&two("on_change = \"now\"\nstall_after = \"1h\"\n"));
    lab.start();
    assert_eq!(lab.running("builder"), agent);
    lab.kill();
    lab.configure(&two("on_change = \"now\"\nargs = [\"new\"]\n"));
    lab.start();
    lab.running_after("builder", agent.epoch);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_loop_that_the_config_no_longer_names_is_ended_and_one_that_is_new_is_started() {
    let mut lab = Lab::start_with(&format!("{}{}", two(""), a_loop("old", "messy.sh", "")));
    let old = lab.running("old");
    let builder = lab.running("builder");
    lab.kill();
    lab.configure(&format!("{}{}", two(""), a_loop("new", "agent.sh", "")));
    lab.start();
    lab.running("new");
    assert_eq!(lab.running("builder"), builder);
    lab.wait_for("the old one's end", || when(!old.is_alive(), "it lives"));
    let left = || {
        read(&lab.path("children"))
            .lines()
            .filter_map(|l| l.parse().ok())
            .filter(|pid: &i32| {
                cc_ci::support::process::ProcId::of(*pid).unwrap().is_some_and(|id| id.is_alive().unwrap())
            })
            .count()
    };
    lab.wait_for("its children's end", || when(left() == 0, "some live"));
    lab.await_decision("retire", Some("old"));
    assert!(lab.status().loops.iter().all(|l| l.name.as_str() != "old"));
}

#[test]
fn start_stop_and_restart_of_all_answer_when_it_is_done() {
    let lab = Lab::start_with(&two(""));
    let (builder, adversary) = (lab.running("builder"), lab.running("adversary"));
    assert_eq!(lab.done(Request::Stop { which: Which::All }).len(), 2);
    assert!(!builder.is_alive() && !adversary.is_alive());
    let lines = lab.done(Request::Start { which: Which::All });
    assert!(lines.iter().all(|line| line.contains(": up, pid ")), "{lines:?}");
    let lines = lab.done(Request::Restart { which: Which::All });
    assert!(lines.iter().all(|line| line.contains(": up, pid ")), "{lines:?}");
    assert!(lab.not_done(Request::Stop { which: only("nobody") }).contains("there is no loop `nobody`"));
}
