//! What is typed into an agent, and whether it arrived.

use super::*;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::testing::acknowledging;

const TEXT: &str = "come to an end";

/// A builder in a turn of a session that is written down; it takes what is typed when the test says so.
fn working() -> Machine {
    let mut m = Machine::tame(acknowledging(single(talker()), "builder"));
    m.outside.mood = Mood::Silent;
    m.reboot();
    m.signal("builder", Signal::Session { uuid: "u".into(), transcript: Some("/h/u.jsonl".into()) });
    m.signal("builder", Signal::Ready);
    m.signal("builder", Signal::PromptAccepted);
    m
}

fn nudge(m: &mut Machine) {
    let said = done(m.order(Request::Nudge { name: name("builder"), text: TEXT.into() }));
    assert!(said[0].contains("when its turn lets it"), "{said:?}");
}

fn steered(m: &mut Machine) {
    let at = m.now.wall;
    m.outside.steered.insert(name("builder"), (at, TEXT.into()));
}

#[test]
fn a_text_that_was_taken_within_the_turn_is_not_typed_again() {
    let mut m = working();
    nudge(&mut m);
    m.run(5 * SECOND);
    steered(&mut m);
    m.signal("builder", Signal::TurnEnded);
    m.run(3 * SECOND);
    assert!(m.decided("nudge-taken"));
    m.run(MINUTE);
    assert_eq!(m.typed("builder"), [TEXT]);
}

#[test]
fn a_text_that_is_taken_before_the_client_that_typed_it_has_ended_is_said_to_be_taken() {
    let mut m = working();
    m.signal("builder", Signal::TurnEnded);
    m.outside.latency = 1000;
    let request = m.ask(Request::Nudge { name: name("builder"), text: TEXT.into() });
    m.feed(taken(&m));
    assert!(m.replies.is_empty(), "answered before it was typed");
    m.run(2 * SECOND);
    assert_eq!(done(m.replies.remove(&request)), ["builder took it: its turn began"]);
}

fn taken(m: &Machine) -> Event {
    let epoch = m.seen("builder").live_epoch();
    Event::Signals { name: name("builder"), epoch, signals: vec![Signal::PromptAccepted] }
}

#[test]
fn a_text_that_is_written_down_late_is_not_typed_again() {
    let mut m = working();
    nudge(&mut m);
    m.signal("builder", Signal::TurnEnded);
    m.run(5 * SECOND);
    assert!(!m.decided("nudge-taken"));
    steered(&mut m);
    m.run(MINUTE);
    assert_eq!((m.typed("builder"), m.decided("nudge-taken")), (vec![TEXT], true));
}

#[test]
fn a_text_that_nobody_took_is_typed_three_times_and_then_said() {
    let mut m = working();
    // The same words of an earlier turn are not these.
    steered(&mut m);
    m.run(SECOND);
    nudge(&mut m);
    m.run(MINUTE);
    assert_eq!(m.typed("builder").len(), 1, "typed again within the turn");
    m.signal("builder", Signal::TurnEnded);
    m.run(MINUTE);
    assert_eq!((m.typed("builder").len(), m.told("nudge")), (3, 1));
}

#[test]
fn a_text_that_waited_for_the_turns_end_is_taken_by_the_next_turn() {
    let mut m = working();
    nudge(&mut m);
    m.signal("builder", Signal::TurnEnded);
    m.signal("builder", Signal::PromptAccepted);
    m.signal("builder", Signal::TurnEnded);
    m.run(MINUTE);
    assert_eq!((m.typed("builder").len(), m.decided("nudge-taken")), (1, false));
}

#[test]
fn a_drain_waits_for_the_turn_that_its_request_begins() {
    let mut m = working();
    let request = m.ask(Request::Drain { timeout_ms: 600_000 });
    m.run(NOW);
    m.signal("builder", Signal::TurnEnded);
    assert_eq!(m.hold("builder"), None, "ended before it had taken the request");
    m.signal("builder", Signal::PromptAccepted);
    m.run(MINUTE);
    assert_eq!(m.hold("builder"), None, "ended in the turn that the request began");
    m.signal("builder", Signal::TurnEnded);
    m.run(3 * SECOND);
    done(m.replies.remove(&request));
    assert_eq!((m.hold("builder"), m.typed("builder").len()), (Some(HoldKind::Drained), 1));
}

#[test]
fn a_drain_does_not_wait_for_ever_for_an_agent_that_takes_nothing() {
    let mut m = working();
    let request = m.ask(Request::Drain { timeout_ms: 600_000 });
    m.run(NOW);
    m.signal("builder", Signal::TurnEnded);
    m.run(MINUTE);
    done(m.replies.remove(&request));
    assert_eq!((m.hold("builder"), m.told("nudge")), (Some(HoldKind::Drained), 1));
}

#[test]
fn a_planned_end_waits_for_the_turn_that_a_text_in_the_queue_begins() {
    let mut m = working();
    m.starts.clear();
    nudge(&mut m);
    m.signal("builder", Signal::ContextFull);
    m.signal("builder", Signal::TurnEnded);
    m.run(SECOND);
    m.signal("builder", Signal::PromptAccepted);
    m.run(SECOND);
    assert_eq!(m.starts.len(), 0, "ended while it took the text, or in the turn that this began");
    m.signal("builder", Signal::TurnEnded);
    m.run(SECOND);
    assert!(matches!(m.starts[0].session, Session::Fresh { prompt: Prompt::Handoff, .. }));
}

#[test]
fn a_text_that_an_agent_had_not_taken_when_it_died_is_said() {
    let mut m = working();
    nudge(&mut m);
    m.dies("builder", EXIT);
    assert!(m.decided("nudge-undelivered"));
}

#[test]
fn a_phase_that_an_agent_had_not_taken_when_it_died_is_told_to_the_next() {
    let mut m = working();
    m.order(Request::PhaseAdvance);
    m.run(MINUTE);
    let told = |m: &Machine| m.typed("builder").iter().filter(|text| text.contains("Phase 1 begins")).count();
    assert_eq!(told(&m), 1, "told once while it works");
    m.dies("builder", EXIT);
    m.signal("builder", Signal::Ready);
    m.signal("builder", Signal::PromptAccepted);
    m.signal("builder", Signal::TurnEnded);
    m.run(SECOND);
    assert_eq!(told(&m), 2);
    m.signal("builder", Signal::PromptAccepted);
    m.dies("builder", EXIT);
    m.signal("builder", Signal::Ready);
    m.signal("builder", Signal::TurnEnded);
    m.run(MINUTE);
    assert_eq!(told(&m), 2, "it had taken it");
}

#[test]
fn a_phase_that_could_not_be_told_is_told_when_prompts_arrive_again() {
    let mut m = working();
    m.signal("builder", Signal::TurnEnded);
    m.order(Request::PhaseAdvance);
    m.run(HOUR);
    assert_eq!((m.typed("builder").len(), m.told("nudge")), (3, 1));
    // A person closed the dialog that was in the way, and typed something.
    m.signal("builder", Signal::PromptAccepted);
    assert_eq!(m.typed("builder").len(), 4);
}
