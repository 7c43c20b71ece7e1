//! Phases and gates.

use super::*;
use crate::supervisor::config::{AdvanceOn, OnPhase, PhasesConfig};
use crate::supervisor::core::event::Caller;
use crate::supervisor::core::gates::GateState;
use crate::supervisor::core::testing::acknowledging;
use std::sync::Arc;

fn running() -> Machine {
    running_with(pair())
}

fn running_with(config: Config) -> Machine {
    let mut m = Machine::tame(config);
    m.outside.mood = Mood::Silent;
    m.reboot();
    m.starts.clear();
    for loop_name in ["builder", "adversary"] {
        m.signal(loop_name, Signal::TurnEnded);
    }
    m
}

fn by(m: &mut Machine, loop_name: &str, what: Request) -> Option<Response> {
    let request = m.ask_as(Caller::Inside { name: name(loop_name), epoch: None }, what);
    m.run(NOW);
    m.replies.remove(&request)
}

fn claim(m: &mut Machine) -> Option<Response> {
    by(m, "builder", Request::GateClaim { commit: Some("abc123".into()) })
}

#[test]
fn a_claim_nudges_the_verifier_and_a_pass_moves_the_phase_and_tells_both() {
    let mut m = running();
    assert!(matches!(claim(&mut m), Some(Response::Gate(_))));
    assert!(m.typed("adversary")[0].contains("abc123"));
    assert!(matches!(by(&mut m, "adversary", Request::GatePass), Some(Response::Phase(_))));
    assert_eq!((m.disk.phase, m.disk.gate.phase), (1, 1));
    assert!(m.typed("builder").iter().any(|text| text.contains("/ws/two.md")));
    assert!(m.typed("adversary").iter().any(|text| text.contains("/ws/two.md")));
    assert_eq!((m.told("phase"), m.starts.len()), (1, 0));
}

#[test]
fn a_fail_nudges_the_claimer_and_the_phase_stays() {
    let mut m = running();
    claim(&mut m);
    by(&mut m, "adversary", Request::GateFail { reason: Some("no tests".into()) });
    assert!(m.typed("builder").last().is_some_and(|text| text.contains("no tests")));
    assert!(matches!(m.disk.gate.state, GateState::Failed { .. }));
    assert_eq!(m.disk.phase, 0);
}

fn fail(m: &mut Machine) {
    by(m, "adversary", Request::GateFail { reason: Some("no tests".into()) });
}

fn heard(m: &Machine, loop_name: &str, text: &str) -> usize {
    m.typed(loop_name).iter().filter(|typed| typed.contains(text)).count()
}

#[test]
fn a_verdict_reaches_a_claimer_that_was_down_or_not_yet_adopted_when_it_fell() {
    let mut m = running();
    claim(&mut m);
    m.order(Request::Stop { which: these(&["builder"]) });
    fail(&mut m);
    m.order(Request::Start { which: these(&["builder"]) });
    m.run(MINUTE);
    assert_eq!(heard(&m, "builder", "no tests"), 1);
    claim(&mut m);
    m.kill_supervisor(SECOND);
    // The one that it runs in does not answer the next supervisor for a while.
    hung(&mut m, true);
    m.run(2 * SECOND);
    assert_eq!(m.stage("builder"), StageKind::Adopting);
    fail(&mut m);
    hung(&mut m, false);
    m.run(MINUTE);
    assert_eq!((heard(&m, "builder", "no tests"), m.started("builder")), (2, 1), "it was started anew");
}

fn hung(m: &mut Machine, how: bool) {
    if let Some(server) = m.places.get_mut(&name("builder")).and_then(|place| place.server.as_mut()) {
        server.hung = how;
    }
}

#[test]
fn a_word_of_the_gate_is_told_once_to_a_session_also_over_crashes_and_restarts_of_the_supervisor() {
    let mut m = running();
    claim(&mut m);
    fail(&mut m);
    m.dies("builder", EXIT);
    m.kill_supervisor(SECOND);
    m.run(2 * MINUTE);
    assert!(matches!(m.starts.last().unwrap().session, Session::Resume { .. }));
    assert_eq!(heard(&m, "builder", "no tests"), 1, "{:?}", m.nudges);
}

#[test]
fn a_session_that_begins_within_a_claim_is_told_of_it() {
    let mut m = running();
    claim(&mut m);
    m.order(Request::Restart { which: these(&["adversary"]) });
    m.run(MINUTE);
    assert_eq!(heard(&m, "adversary", "abc123"), 1, "it is in the conversation that was resumed");
    m.signal("adversary", Signal::ContextFull);
    m.signal("adversary", Signal::TurnEnded);
    m.run(MINUTE);
    assert_eq!(heard(&m, "adversary", "abc123"), 2);
}

#[test]
fn a_word_of_the_gate_that_died_with_an_agent_is_told_to_the_next_one() {
    let mut m = Machine::tame(acknowledging(pair(), "builder"));
    m.outside.mood = Mood::Silent;
    m.reboot();
    m.signal("builder", Signal::Ready);
    m.signal("builder", Signal::TurnEnded);
    claim(&mut m);
    fail(&mut m);
    assert_eq!(heard(&m, "builder", "no tests"), 1);
    m.dies("builder", EXIT);
    m.run(SECOND);
    m.signal("builder", Signal::Ready);
    assert_eq!(heard(&m, "builder", "no tests"), 2);
    m.signal("builder", Signal::PromptAccepted);
    m.dies("builder", EXIT);
    m.run(10 * SECOND);
    m.signal("builder", Signal::Ready);
    m.run(MINUTE);
    assert_eq!(heard(&m, "builder", "no tests"), 2, "it is in the conversation that was resumed");
}

#[test]
fn a_claim_is_not_typed_into_the_dialog_of_an_agent_that_does_not_come_up() {
    let mut m = Machine::tame(acknowledging(pair(), "adversary"));
    m.outside.mood = Mood::Silent;
    m.reboot();
    claim(&mut m);
    m.run(10 * MINUTE);
    assert_eq!(heard(&m, "adversary", "abc123"), 0);
    m.signal("adversary", Signal::Ready);
    m.signal("adversary", Signal::PromptAccepted);
    assert_eq!(heard(&m, "adversary", "abc123"), 1);
}

#[test]
fn a_claim_does_not_take_the_place_of_the_first_prompt_of_an_agent_that_is_adopted_before_it_has_it() {
    let mut m = Machine::tame(acknowledging(pair(), "adversary"));
    m.outside.mood = Mood::Silent;
    m.reboot();
    claim(&mut m);
    m.kill_supervisor(SECOND);
    m.run(3 * SECOND);
    assert_eq!((m.stage("adversary"), heard(&m, "adversary", "abc123")), (StageKind::Up, 0));
    m.signal("adversary", Signal::PromptAccepted);
    assert_eq!(heard(&m, "adversary", "abc123"), 1);
}

#[test]
fn a_verdict_that_was_given_up_is_told_again_and_not_taken_for_known_when_another_text_is_taken() {
    let mut m = Machine::tame(acknowledging(pair(), "builder"));
    m.outside.mood = Mood::Silent;
    m.reboot();
    m.signal("builder", Signal::Session { uuid: "u".into(), transcript: Some("/h/u.jsonl".into()) });
    m.signal("builder", Signal::Ready);
    m.signal("builder", Signal::PromptAccepted);
    m.signal("builder", Signal::TurnEnded);
    claim(&mut m);
    fail(&mut m);
    m.run(2 * MINUTE);
    assert_eq!((heard(&m, "builder", "no tests"), m.told("nudge")), (3, 1), "it was not given up");
    m.ask(Request::Nudge { name: name("builder"), text: "hello".into() });
    m.run(SECOND);
    m.signal("builder", Signal::PromptAccepted);
    assert_eq!(heard(&m, "builder", "no tests"), 4);
    m.signal("builder", Signal::TurnEnded);
    m.signal("builder", Signal::PromptAccepted);
    m.signal("builder", Signal::TurnEnded);
    m.run(2 * MINUTE);
    assert_eq!(heard(&m, "builder", "no tests"), 4, "it was told once more after it had taken it");
}

#[test]
fn only_the_claimer_claims_and_only_the_verifier_or_the_operator_judges() {
    let mut m = running();
    refused(by(&mut m, "adversary", Request::GateClaim { commit: None }));
    assert_eq!(refused(m.order(Request::GateClaim { commit: None })).0, Refusal::Failed);
    claim(&mut m);
    refused(by(&mut m, "builder", Request::GatePass));
    assert_eq!(m.disk.phase, 0);
    assert!(matches!(m.order(Request::GatePass), Some(Response::Phase(_))));
}

#[test]
fn nothing_is_judged_that_was_not_claimed() {
    let mut m = running();
    assert_eq!(refused(by(&mut m, "adversary", Request::GatePass)).0, Refusal::NotNow);
    assert_eq!(refused(by(&mut m, "adversary", Request::GateFail { reason: None })).0, Refusal::NotNow);
}

#[test]
fn a_verdict_that_stays_out_is_asked_for_and_then_told() {
    let mut m = running();
    claim(&mut m);
    m.run(HOUR);
    assert_eq!((m.typed("adversary").len(), m.told("gate")), (2, 0));
    m.run(HOUR);
    assert_eq!((m.typed("adversary").len(), m.told("gate")), (2, 1));
    m.run(24 * HOUR);
    assert_eq!(m.told("gate"), 1);
}

#[test]
fn the_patience_with_a_gate_outlives_a_reboot() {
    let mut m = running();
    claim(&mut m);
    m.run(50 * MINUTE);
    m.reboot();
    m.run(10 * MINUTE);
    assert!(m.decided("gate-nudge"));
}

#[test]
fn a_manual_phase_moves_only_by_hand() {
    let mut config = pair();
    config.phases = config.phases.map(|p| PhasesConfig { advance_on: AdvanceOn::Manual, ..p });
    let mut m = running_with(config);
    claim(&mut m);
    by(&mut m, "adversary", Request::GatePass);
    assert!(matches!(m.disk.gate.state, GateState::Passed { .. }));
    assert_eq!(m.disk.phase, 0);
    m.order(Request::PhaseAdvance);
    assert_eq!(m.disk.phase, 1);
}

#[test]
fn a_move_that_cannot_be_made_durable_moves_nothing_and_the_pass_can_be_said_again() {
    let mut m = running();
    claim(&mut m);
    m.outside.storage = Storage::Full;
    assert_eq!(refused(by(&mut m, "adversary", Request::GatePass)).0, Refusal::Failed);
    assert_eq!(m.world.as_ref().unwrap().phase, Some(0));
    m.outside.storage = Storage::Fine;
    assert!(matches!(by(&mut m, "adversary", Request::GatePass), Some(Response::Phase(_))));
    assert_eq!(m.disk.phase, 1);
}

#[test]
fn nothing_is_claimed_or_judged_while_the_phase_moves() {
    let mut m = Machine::new(pair(), 1, 1000);
    m.run(MINUTE);
    m.ask(Request::PhaseAdvance);
    for (loop_name, what) in [("builder", Request::GateClaim { commit: None }), ("adversary", Request::GatePass)] {
        let request = m.ask_as(Caller::Inside { name: name(loop_name), epoch: None }, what);
        assert_eq!(refused(m.replies.remove(&request)).0, Refusal::NotNow);
    }
}

#[test]
fn past_the_last_plan_loops_that_follow_phases_are_held_and_the_operator_is_told_once() {
    let mut m = running();
    m.order(Request::PhaseSet { index: 3 });
    assert_eq!((m.hold("builder"), m.told("complete")), (Some(HoldKind::PlanComplete), 1));
    m.reboot();
    m.run(HOUR);
    assert_eq!((m.starts.len(), m.told("complete")), (0, 1));
    m.order(Request::PhaseSet { index: 1 });
    assert_eq!(m.stage("builder"), StageKind::Up);
    assert!(matches!(m.starts[0].session, Session::Fresh { prompt: Prompt::Kickoff, .. }));
}

#[test]
fn a_crash_right_after_a_move_loses_neither_the_move_nor_the_telling() {
    let mut m = running();
    m.ask(Request::PhaseAdvance);
    // Durable, and the supervisor never learned of it.
    m.kill_supervisor(SECOND);
    m.run(30 * SECOND);
    assert_eq!((m.disk.phase, m.world.as_ref().unwrap().phase), (1, Some(1)));
    assert!(m.typed("builder").iter().any(|text| text.contains("/ws/two.md")), "{:?}", m.nudges);
}

#[test]
fn a_loop_that_was_down_when_the_phase_moved_is_told_of_it_in_its_resumed_session() {
    let mut m = running();
    m.order(Request::Stop { which: these(&["builder"]) });
    m.order(Request::PhaseAdvance);
    m.order(Request::Start { which: these(&["builder"]) });
    assert!(matches!(m.starts[0].session, Session::Resume { .. }));
    m.signal("builder", Signal::Ready);
    assert_eq!(m.typed("builder"), ["Phase 1 begins. Its plan: /ws/two.md"]);
    m.run(HOUR);
    assert_eq!(m.typed("builder").iter().filter(|text| text.contains("Phase 1")).count(), 1);
}

#[test]
fn each_phase_is_told_once() {
    let mut m = running();
    for index in 1..3 {
        m.order(Request::PhaseAdvance);
        m.run(HOUR);
        assert_eq!(m.typed("builder").len(), index, "{:?}", m.nudges);
    }
}

#[test]
fn a_text_is_not_typed_into_a_question_to_a_person() {
    let mut m = running();
    m.signal("builder", Signal::NeedsPerson { what: "a permission".into() });
    m.order(Request::PhaseAdvance);
    assert!(m.typed("builder").is_empty());
    m.signal("builder", Signal::ToolStarted);
    assert_eq!(m.typed("builder").len(), 1);
}

#[test]
fn a_phase_that_restarts_begins_afresh_at_the_turns_end_also_where_the_loop_was_down() {
    let mut config = pair();
    for l in config.loops.values_mut().map(Arc::make_mut) {
        l.on_phase = OnPhase::Restart;
    }
    let mut m = running_with(config);
    m.order(Request::Stop { which: these(&["adversary"]) });
    m.signal("builder", Signal::PromptAccepted);
    m.order(Request::PhaseAdvance);
    assert_eq!(m.starts.len(), 0, "its turn was cut");
    m.signal("builder", Signal::TurnEnded);
    m.order(Request::Start { which: these(&["adversary"]) });
    for start in &m.starts {
        assert!(matches!(start.session, Session::Fresh { prompt: Prompt::Kickoff, .. }), "{start:?}");
    }
    assert_eq!(m.starts.len(), 2);
}

#[test]
fn an_index_that_is_no_phase_is_refused() {
    let mut m = running();
    let (kind, message) = refused(m.order(Request::PhaseSet { index: 4 }));
    assert!(kind == Refusal::Usage && message.contains("0 to 3"), "{message}");
    assert_eq!(m.disk.phase, 0);
}
