//! An agent that runs.

use super::*;
use crate::supervisor::config::OnIdle;

#[test]
fn silence_is_looked_at_twice_then_nudged_then_restarted() {
    let mut m = silent(LoopConfig { stall_after: Some(30 * MINUTE), ..talker() });
    m.run(30 * MINUTE);
    assert!(m.decided("stall-suspected"));
    assert!(m.nudges.is_empty());
    m.run(MINUTE);
    assert_eq!(m.typed("builder").len(), 1);
    let before = m.started("builder");
    m.run(5 * MINUTE - SECOND);
    assert_eq!(m.started("builder"), before);
    m.run(2 * SECOND);
    assert_eq!((m.started("builder"), m.told("stall")), (before + 1, 1));
    assert_eq!(m.seen("builder").record.restarts, 1, "a stall takes part in the crash-loop guard");
}

#[test]
fn output_shows_that_it_lives() {
    let mut m = silent(talker());
    for _ in 0..6 {
        m.run(20 * MINUTE);
        m.place("builder").output_at = Some(m.now.boot);
    }
    assert!(!m.decided("stall-suspected"));
}

#[test]
fn the_echo_of_a_nudge_is_no_sign_of_life() {
    let mut m = silent(talker());
    m.run(31 * MINUTE);
    assert_eq!(m.typed("builder").len(), 1);
    m.place("builder").output_at = Some(m.now.boot + 100);
    m.run(6 * MINUTE);
    assert!(m.decided("stall-restart"));
}

#[test]
fn a_tool_in_flight_is_busy_not_hung() {
    let mut m = silent(talker());
    m.signal("builder", Signal::ToolStarted);
    m.run(2 * HOUR - MINUTE);
    assert!(!m.decided("stall-suspected"));
    m.run(2 * MINUTE);
    assert!(m.decided("stall-suspected"), "but not for ever");
}

#[test]
fn an_ended_turn_is_idle_not_hung() {
    let mut m = silent(talker());
    m.signal("builder", Signal::TurnEnded);
    m.run(24 * HOUR);
    assert_eq!((m.decided("stall-suspected"), m.nudges.len()), (false, 0));
}

#[test]
fn an_agent_that_waits_for_a_person_is_told_of_once_and_never_killed() {
    let mut m = silent(talker());
    let before = m.started("builder");
    m.signal("builder", Signal::NeedsPerson { what: "a permission".into() });
    m.run(4 * MINUTE);
    assert_eq!(m.told("attention"), 0);
    // Said again, it is still the same wait.
    m.signal("builder", Signal::NeedsPerson { what: "a permission".into() });
    m.run(MINUTE);
    assert_eq!(m.told("attention"), 1);
    m.run(24 * HOUR);
    assert_eq!((m.told("attention"), m.started("builder")), (1, before));
}

#[test]
fn an_overloaded_server_keeps_the_process_and_tells_it_to_go_on() {
    let mut m = silent(talker());
    let before = m.started("builder");
    m.signal("builder", Signal::Overloaded);
    m.run(29 * SECOND);
    assert!(m.nudges.is_empty());
    m.run(9 * SECOND);
    assert_eq!(m.typed("builder").len(), 1);
    m.signal("builder", Signal::Overloaded);
    m.run(59 * SECOND);
    assert_eq!(m.typed("builder").len(), 1, "the second time it waits twice as long");
    m.run(17 * SECOND);
    assert_eq!((m.typed("builder").len(), m.started("builder")), (2, before));
}

#[test]
fn a_full_context_ends_in_a_fresh_session_with_the_hand_off_at_the_turns_end() {
    let mut m = silent(talker());
    m.signal("builder", Signal::PromptAccepted);
    m.signal("builder", Signal::ContextFull);
    m.run(MINUTE);
    let before = m.started("builder");
    m.signal("builder", Signal::TurnEnded);
    assert_eq!(m.started("builder"), before + 1);
    assert!(matches!(m.starts[before].session, Session::Fresh { prompt: Prompt::Handoff, .. }));
}

#[test]
fn an_idle_agent_is_nudged_at_growing_distances() {
    let on_idle = Some(OnIdle { nudge: "go on".into(), after: 2 * MINUTE });
    let mut m = silent(LoopConfig { on_idle, ..talker() });
    m.signal("builder", Signal::TurnEnded);
    for (minutes, nudges) in [(2, 1), (3, 1), (1, 2), (7, 2), (1, 3)] {
        m.run(minutes * MINUTE);
        assert_eq!(m.typed("builder").len(), nudges);
    }
    // An answer makes it quick again.
    m.signal("builder", Signal::PromptAccepted);
    m.signal("builder", Signal::TurnEnded);
    m.run(2 * MINUTE);
    assert_eq!(m.typed("builder").len(), 4);
}

#[test]
fn a_freeze_keeps_no_idle_nudges_back_to_type_them_all_at_once() {
    let on_idle = Some(OnIdle { nudge: "go on".into(), after: 2 * MINUTE });
    let mut m = silent(LoopConfig { on_idle, ..talker() });
    m.signal("builder", Signal::TurnEnded);
    m.order(Request::Freeze);
    m.run(10 * HOUR);
    m.order(Request::Thaw);
    m.run(MINUTE);
    assert_eq!(m.typed("builder").len(), 0);
    m.run(MINUTE);
    assert_eq!(m.typed("builder").len(), 1);
}

#[test]
fn an_agent_that_uses_too_much_memory_is_restarted_at_its_turns_end() {
    let mut m = silent(LoopConfig { restart_above: Some(GIB), ..talker() });
    m.signal("builder", Signal::PromptAccepted);
    m.place("builder").memory = 2 * GIB;
    m.run(2 * MINUTE);
    let before = m.started("builder");
    assert!(m.decided("planned-restart"));
    m.run(MINUTE);
    assert_eq!(m.started("builder"), before, "not within its turn");
    m.signal("builder", Signal::TurnEnded);
    assert_eq!(m.started("builder"), before + 1);
}

#[test]
fn a_planned_end_that_is_ignored_becomes_a_kill_after_stop_timeout() {
    let mut m = silent(talker());
    if let Some(agent) = m.place("builder").pane().and_then(|pane| pane.agent.as_mut()) {
        agent.mood = Mood::Stubborn;
    }
    let before = m.started("builder");
    m.signal("builder", Signal::TurnEnded);
    m.signal("builder", Signal::ContextFull);
    m.run(10 * SECOND - Duration::from_millis(1));
    assert_eq!(m.stage("builder"), StageKind::Stopping);
    m.run(SECOND);
    assert_eq!((m.decided("kill"), m.started("builder")), (true, before + 1));
}

#[test]
fn a_signal_of_an_earlier_agent_changes_nothing() {
    let mut m = one(talker());
    m.dies("builder", EXIT);
    let before = m.world.clone();
    let (name, signals) = (name("builder"), vec![Signal::LoggedOut { evidence: "401".into() }]);
    m.feed(crate::supervisor::core::event::Event::Signals { name, epoch: Some(1), signals });
    assert_eq!(m.world, before);
}
