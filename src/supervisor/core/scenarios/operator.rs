//! What the operator asks for, and what loops may not.

use super::*;
use crate::supervisor::core::event::{Caller, Event, Leave};

#[test]
fn a_stop_outlives_the_supervisor_and_the_machine() {
    let mut m = Machine::tame(pair());
    done(m.order(Request::Stop { which: these(&["builder"]) }));
    m.kill_supervisor(SECOND);
    m.run(HOUR);
    m.reboot();
    m.run(HOUR);
    assert_eq!((m.hold("builder"), m.stage("adversary")), (Some(HoldKind::Stopped), StageKind::Up));
    assert_eq!(m.started("builder"), 1);
    let lines = done(m.order(Request::Start { which: these(&["builder"]) }));
    assert_eq!((lines.len(), m.stage("builder")), (1, StageKind::Up));
}

#[test]
fn a_stop_is_answered_when_the_agent_is_gone_or_its_patience_is() {
    let mut m = silent(talker());
    if let Some(agent) = m.place("builder").pane().and_then(|pane| pane.agent.as_mut()) {
        agent.mood = Mood::Stubborn;
    }
    let request = m.ask(Request::Stop { which: Which::All });
    m.run(9 * SECOND);
    assert_eq!(m.replies.get(&request), None);
    m.run(SECOND);
    assert_eq!(done(m.replies.remove(&request)), ["builder: stopped"]);
}

#[test]
fn a_stop_while_the_start_is_under_way_ends_what_comes_of_it() {
    let mut m = Machine::new(single(talker()), 1, 300);
    while m.stage("builder") != StageKind::Starting {
        m.run(Duration::from_millis(1));
    }
    m.ask(Request::Stop { which: Which::All });
    m.run(5 * SECOND);
    assert_eq!((m.place("builder").agents().len(), m.hold("builder")), (0, Some(HoldKind::Stopped)));
}

#[test]
fn a_restart_is_one_wish_and_no_crash() {
    let mut m = one(talker());
    let lines = done(m.order(Request::Restart { which: Which::All }));
    assert!(lines[0].contains("epoch 2"), "{lines:?}");
    assert_eq!((m.started("builder"), m.seen("builder").record.restarts), (2, 0));
}

#[test]
fn a_restart_of_a_loop_that_is_being_started_is_answered_by_that_start() {
    let mut m = Machine::new(single(talker()), 1, 300);
    while m.stage("builder") != StageKind::Starting {
        m.run(Duration::from_millis(1));
    }
    let request = m.ask(Request::Restart { which: Which::All });
    m.run(SECOND);
    assert!(done(m.replies.remove(&request))[0].contains("epoch 1"));
}

#[test]
fn a_start_ends_a_crash_loop_hold() {
    let mut m = one(talker());
    while m.hold("builder") != Some(HoldKind::CrashLoop) {
        if m.stage("builder") == StageKind::Up { m.dies("builder", EXIT) } else { m.run_to_wake() }
    }
    done(m.order(Request::Start { which: Which::All }));
    assert_eq!(m.stage("builder"), StageKind::Up);
    m.dies("builder", EXIT);
    assert_eq!(m.stage("builder"), StageKind::Up, "with a clean slate");
}

#[test]
fn a_start_that_is_held_says_by_what() {
    let mut m = one(talker());
    m.order(Request::Freeze);
    m.order(Request::Stop { which: Which::All });
    let lines = done(m.order(Request::Start { which: Which::All }));
    assert_eq!(lines, ["builder: held: frozen by the operator"]);
}

#[test]
fn a_freeze_holds_starts_over_a_reboot_until_the_thaw() {
    let mut m = Machine::tame(pair());
    done(m.order(Request::Freeze));
    assert!(m.place("builder").frozen && m.place("adversary").frozen);
    m.reboot();
    m.run(HOUR);
    assert_eq!((m.hold("builder"), m.starts.len()), (Some(HoldKind::Frozen), 2));
    done(m.order(Request::Thaw));
    assert_eq!((m.stage("builder"), m.stage("adversary")), (StageKind::Up, StageKind::Up));
}

#[test]
fn stall_clocks_stand_still_in_a_freeze() {
    let mut m = silent(talker());
    m.run(29 * MINUTE);
    m.order(Request::Freeze);
    m.run(HOUR);
    m.order(Request::Thaw);
    m.run(29 * MINUTE);
    assert!(!m.decided("stall-suspected"));
    m.run(MINUTE);
    assert!(m.decided("stall-suspected"));
}

#[test]
fn an_agent_that_is_killed_in_a_freeze_is_accounted_for_and_stays_down_until_the_thaw() {
    let mut m = one(talker());
    m.order(Request::Freeze);
    m.dies("builder", DeathCause::Killed { signal: 9 });
    assert_eq!(m.hold("builder"), Some(HoldKind::Frozen));
    assert_eq!(m.seen("builder").record.restarts, 1);
    m.order(Request::Thaw);
    assert_eq!(m.stage("builder"), StageKind::Up);
}

#[test]
fn a_frozen_agent_can_be_stopped() {
    let mut m = one(talker());
    m.order(Request::Freeze);
    done(m.order(Request::Stop { which: Which::All }));
    assert_eq!(m.place("builder").agents().len(), 0);
}

#[test]
fn from_inside_a_loop_nothing_starts_stops_freezes_drains_or_moves_the_phase() {
    let mut m = Machine::tame(pair());
    let requests = [
        Request::Start { which: Which::All },
        Request::Stop { which: Which::All },
        Request::Restart { which: Which::All },
        Request::Freeze,
        Request::Thaw,
        Request::Drain { timeout_ms: 1000 },
        Request::PhaseSet { index: 2 },
        Request::PhaseAdvance,
    ];
    for what in requests {
        let before = m.world.clone();
        let request = m.ask_as(Caller::Inside { name: name("builder"), epoch: Some(1) }, what.clone());
        let (kind, message) = refused(m.replies.remove(&request));
        assert!(kind == Refusal::Failed && message.contains("from inside the loop `builder`"), "{message}");
        assert_eq!(m.world, before, "{what:?}");
    }
}

#[test]
fn a_nudge_reaches_only_a_loop_that_can_hear_it() {
    let mut m = one(talker());
    let nudge = || Request::Nudge { name: name("builder"), text: "hello".into() };
    assert_eq!(done(m.order(nudge())), ["typed into builder's pane"]);
    m.order(Request::Freeze);
    assert!(refused(m.order(nudge())).1.contains("frozen"));
    m.order(Request::Thaw);
    m.order(Request::Stop { which: Which::All });
    assert_eq!(refused(m.order(nudge())).0, Refusal::NotNow);
    assert_eq!(m.typed("builder"), ["hello"]);
}

#[test]
fn an_unknown_loop_is_refused_and_nothing_else_is_done() {
    let mut m = one(talker());
    let (kind, message) = refused(m.order(Request::Stop { which: these(&["builder", "bilder"]) }));
    assert_eq!((kind, m.stage("builder")), (Refusal::Usage, StageKind::Up));
    assert!(message.contains("`bilder`") && message.contains("builder"), "{message}");
}

#[test]
fn a_request_that_cannot_be_made_durable_fails_and_does_nothing() {
    let mut m = one(talker());
    m.outside.storage = Storage::Full;
    assert_eq!(refused(m.order(Request::Stop { which: Which::All })).0, Refusal::Failed);
    m.run(MINUTE);
    assert_eq!(m.stage("builder"), StageKind::Up);
}

#[test]
fn a_shutdown_that_takes_its_loops_along_ends_them_first_and_they_start_again_with_the_next() {
    let mut m = Machine::tame(pair());
    m.feed(Event::Shutdown(Leave::Nothing));
    m.run(NOW);
    assert!(m.world.is_none() && m.places.values().all(|place| place.server.is_none()));
    m.run(SECOND);
    assert_eq!((m.stage("builder"), m.seen("builder").record.restarts), (StageKind::Up, 0));
}

#[test]
fn a_shutdown_in_the_middle_of_an_adoption_ends_what_is_found_too() {
    let mut m = Machine::new(pair(), 5, 300);
    m.run(5 * SECOND);
    for _ in 0..20 {
        m.kill_supervisor(NOW);
        m.run(Duration::from_millis(100));
        m.feed(Event::Shutdown(Leave::Nothing));
        m.run(5 * SECOND);
        // It ended, and the next one has brought everything up again.
        assert_eq!((m.stage("builder"), m.stage("adversary")), (StageKind::Up, StageKind::Up));
    }
}

#[test]
fn a_shutdown_that_leaves_the_sessions_ends_at_once_and_touches_nothing() {
    let mut m = one(talker());
    m.feed(Event::Shutdown(Leave::Sessions));
    assert!(m.world.is_none());
    assert_eq!(m.place("builder").agents().len(), 1);
}
