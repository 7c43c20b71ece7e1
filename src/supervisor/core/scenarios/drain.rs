//! Bringing every loop to a safe point.

use super::*;
use crate::supervisor::core::event::Caller;

fn quiet_pair() -> Machine {
    let mut m = Machine::tame(pair());
    m.run(MINUTE);
    m.outside.mood = Mood::Silent;
    for place in m.places.values_mut() {
        if let Some(agent) = place.pane().and_then(|pane| pane.agent.as_mut()) {
            agent.mood = Mood::Silent;
        }
    }
    m
}

fn drain(m: &mut Machine, seconds: u64) -> u64 {
    let request = m.ask(Request::Drain { timeout_ms: seconds * 1000 });
    m.run(NOW);
    request
}

#[test]
fn loops_at_a_safe_point_are_held_there_until_a_start_of_all() {
    let mut m = quiet_pair();
    let request = drain(&mut m, 60);
    assert!(done(m.replies.remove(&request))[0].contains("safe point"));
    assert_eq!((m.hold("builder"), m.told("drained")), (Some(HoldKind::Drained), 1));
    m.reboot();
    m.run(HOUR);
    assert_eq!(m.hold("adversary"), Some(HoldKind::Drained));
    done(m.order(Request::Start { which: Which::All }));
    assert_eq!((m.stage("builder"), m.stage("adversary")), (StageKind::Up, StageKind::Up));
}

#[test]
fn a_start_of_one_loop_waits_for_the_end_of_the_drain() {
    let mut m = quiet_pair();
    m.signal("adversary", Signal::PromptAccepted);
    drain(&mut m, 60);
    let start = || Request::Start { which: Which::Loops(vec![name("builder")]) };
    let (kind, message) = refused(m.order(start()));
    assert!(kind == Refusal::NotNow && message.contains("`supervisor start --all`"), "{message}");
    assert_eq!(m.hold("builder"), Some(HoldKind::Drained));
    m.run(2 * MINUTE);
    done(m.order(start()));
    assert_eq!((m.stage("builder"), m.hold("builder")), (StageKind::Up, None));
}

#[test]
fn a_drain_waits_for_the_turns_end_and_a_clean_clone() {
    let mut m = quiet_pair();
    m.signal("adversary", Signal::PromptAccepted);
    m.outside.unsafe_clones.insert(name("adversary"));
    drain(&mut m, 600);
    m.run(MINUTE);
    assert_eq!((m.stage("adversary"), m.hold("builder")), (StageKind::Up, Some(HoldKind::Drained)));
    m.signal("adversary", Signal::TurnEnded);
    m.run(MINUTE);
    assert_eq!(m.stage("adversary"), StageKind::Up, "its clone is not clean");
    m.outside.unsafe_clones.clear();
    m.run(2 * SECOND);
    assert_eq!(m.hold("adversary"), Some(HoldKind::Drained));
}

#[test]
fn only_a_loop_that_is_not_safe_as_it_is_is_asked_and_once() {
    let mut m = quiet_pair();
    m.outside.unsafe_clones.insert(name("adversary"));
    drain(&mut m, 600);
    m.run(MINUTE);
    assert_eq!((m.typed("builder").len(), m.typed("adversary").len()), (0, 1));
    assert_eq!((m.hold("builder"), m.stage("adversary")), (Some(HoldKind::Drained), StageKind::Up));
}

#[test]
fn a_drain_that_times_out_names_what_is_not_safe_and_keeps_the_others_held() {
    let mut m = quiet_pair();
    m.signal("adversary", Signal::PromptAccepted);
    let request = drain(&mut m, 60);
    m.run(MINUTE);
    let (kind, message) = refused(m.replies.remove(&request));
    assert!(kind == Refusal::NotNow && message.contains("adversary: its turn has not ended"), "{message}");
    assert_eq!((m.stage("adversary"), m.hold("builder")), (StageKind::Up, Some(HoldKind::Drained)));
    m.signal("adversary", Signal::TurnEnded);
    m.run(HOUR);
    assert_eq!(m.stage("adversary"), StageKind::Up, "the drain is over");
}

#[test]
fn a_claim_keeps_both_sides_from_being_drained() {
    let mut m = quiet_pair();
    m.ask_as(Caller::Inside { name: name("builder"), epoch: Some(1) }, Request::GateClaim { commit: None });
    drain(&mut m, 600);
    m.run(MINUTE);
    assert_eq!((m.stage("builder"), m.stage("adversary")), (StageKind::Up, StageKind::Up));
    m.ask_as(Caller::Inside { name: name("adversary"), epoch: Some(1) }, Request::GateFail { reason: None });
    m.run(2 * SECOND);
    assert_eq!((m.hold("builder"), m.hold("adversary")), (Some(HoldKind::Drained), Some(HoldKind::Drained)));
}

#[test]
fn a_loop_whose_server_died_in_its_turn_can_be_drained() {
    let mut m = quiet_pair();
    m.outside.hosts = Hosts::Broken;
    m.signal("builder", Signal::PromptAccepted);
    m.place("builder").server_dies();
    m.run(NOW);
    let request = drain(&mut m, 60);
    m.run(5 * SECOND);
    done(m.replies.remove(&request));
}

#[test]
fn a_freeze_in_a_drain_ends_no_agent() {
    let mut m = quiet_pair();
    m.outside.unsafe_clones.extend([name("builder"), name("adversary")]);
    let request = drain(&mut m, 60);
    m.order(Request::Freeze);
    m.outside.unsafe_clones.clear();
    m.run(HOUR);
    assert_eq!((m.stage("builder"), refused(m.replies.remove(&request)).0), (StageKind::Up, Refusal::NotNow));
}

#[test]
fn a_drain_is_refused_while_frozen() {
    let mut m = quiet_pair();
    m.order(Request::Freeze);
    let request = drain(&mut m, 60);
    assert_eq!(refused(m.replies.remove(&request)).0, Refusal::NotNow);
}

#[test]
fn a_stopped_loop_counts_as_drained() {
    let mut m = quiet_pair();
    m.order(Request::Stop { which: these(&["builder"]) });
    let request = drain(&mut m, 60);
    done(m.replies.remove(&request));
    assert_eq!(m.hold("builder"), Some(HoldKind::Stopped));
}
