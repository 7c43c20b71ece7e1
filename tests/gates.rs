//! The handshake of a phase when one side does not do its part: it is nudged, then the operator is told; nobody is restarted.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::{Request, Response};
use support::script::{PHASES, a_loop};
use support::{Lab, when};

/// A claimer and a verifier whose gate's patience is a second.
fn pair() -> Lab {
    let phases = PHASES.replace("\"manual\"", "\"gate-pass\"\ngate_patience = \"1s\"");
    let (claims, verifies) = ("role = \"claims\"\n", "role = \"verifies\"\n");
    let lab = Lab::start_with(&format!(
        "{phases}{}{}",
        a_loop("builder", "agent.sh", claims),
        a_loop("adversary", "agent.sh", verifies)
    ));
    lab.running("builder");
    lab.running("adversary");
    lab
}

fn from(lab: &Lab, name: &str, request: Request) {
    let answer = lab.try_call_from(Some(name), request).unwrap();
    assert!(!matches!(answer, Response::Refused { .. }), "{answer:?}");
}

#[test]
fn a_claim_without_a_verdict_nudges_the_verifier_and_then_tells_the_operator_also_after_a_restart() {
    let mut lab = pair();
    let agents = (lab.running("builder"), lab.running("adversary"));
    from(&lab, "builder", Request::GateClaim { commit: Some("abc".into()) });
    lab.kill_and_restart();
    let told = lab.await_notified("gate");
    assert!(told["summary"].as_str().unwrap().contains("it is adversary's turn"), "{told}");
    lab.wait_for("the nudge", || when(lab.said("adversary").contains("It is your turn"), lab.said("adversary")));
    assert!(!lab.said("builder").contains("It is your turn"));
    assert_eq!((lab.running("builder"), lab.running("adversary")), agents);
    assert_eq!((lab.notified("gate").len(), lab.index()), (1, "0\n".to_owned()));
}

#[test]
fn a_failed_claim_without_a_new_one_nudges_the_claimer() {
    let lab = pair();
    from(&lab, "builder", Request::GateClaim { commit: None });
    from(&lab, "adversary", Request::GateFail { reason: Some("red".into()) });
    lab.wait_for("the operator to hear whose turn it is", || {
        let told = lab.notified("gate");
        if told.iter().any(|n| n.to_string().contains("it is builder's turn")) { Ok(()) } else { Err(told) }
    });
    lab.wait_for("the nudge", || when(lab.said("builder").contains("It is your turn"), lab.said("builder")));
}

#[test]
fn an_operator_may_pass_a_claim_and_the_last_pass_completes_the_plan() {
    let lab = pair();
    assert!(lab.not_done(Request::GatePass).contains("claim"), "nothing was claimed");
    for phase in 0..4 {
        assert_eq!(lab.index(), format!("{phase}\n"));
        from(&lab, "builder", Request::GateClaim { commit: None });
        lab.done(Request::GatePass);
        lab.wait_for("the next phase", || when(lab.index() == format!("{}\n", phase + 1), lab.index()));
    }
    lab.held("builder", "");
    lab.held("adversary", "");
    lab.await_notified("complete");
}
