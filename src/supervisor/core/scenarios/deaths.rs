//! An agent that exits or is killed.

use super::*;

#[test]
fn a_first_death_is_restarted_at_once() {
    let mut m = one(talker());
    m.run(MINUTE);
    m.dies("builder", EXIT);
    assert_eq!((m.stage("builder"), m.started("builder")), (StageKind::Up, 2));
    assert!(m.decided("restart"));
    assert_eq!(m.notes.len(), 0, "{:?}", m.notes);
}

#[test]
fn two_deaths_in_a_row_are_restarted_at_once_a_third_after_one_to_two_seconds_a_fourth_after_two_to_four() {
    let mut m = one(talker());
    for free in 1..=2 {
        m.dies("builder", EXIT);
        assert_eq!((m.hold("builder"), m.stage("builder")), (None, StageKind::Up), "death {free}");
    }
    for low in [1, 2] {
        m.dies("builder", EXIT);
        assert_eq!(m.hold("builder"), Some(HoldKind::Backoff));
        let before = m.started("builder");
        m.run(low * SECOND - Duration::from_millis(1));
        assert_eq!(m.started("builder"), before, "before {low} s");
        m.run(low * SECOND + Duration::from_millis(1));
        assert_eq!(m.started("builder"), before + 1, "after {} s", 2 * low);
    }
}

#[test]
fn five_deaths_in_the_window_are_a_crash_loop_with_one_notification_and_a_retry() {
    let mut m = one(talker());
    let mut deaths = 0;
    while m.hold("builder") != Some(HoldKind::CrashLoop) {
        assert!(deaths < 5, "not held after {deaths} deaths");
        if m.stage("builder") == StageKind::Up {
            m.dies("builder", EXIT);
            deaths += 1;
        } else {
            m.run_to_wake();
        }
    }
    assert_eq!((deaths, m.told("crash-loop")), (5, 1));
    // Half-open: one try after a third of the window, and the next after twice that.
    let before = m.started("builder");
    m.run(5 * MINUTE - SECOND);
    assert_eq!(m.started("builder"), before);
    m.run(31 * SECOND);
    assert_eq!(m.started("builder"), before + 1);
    m.dies("builder", EXIT);
    m.run(10 * MINUTE - SECOND);
    assert_eq!(m.started("builder"), before + 1);
    m.run(2 * MINUTE);
    assert_eq!((m.started("builder"), m.told("crash-loop")), (before + 2, 1));
    // It lives now: said once, and everything starts anew.
    m.run(10 * MINUTE);
    assert_eq!(m.told("recovered"), 1);
    m.dies("builder", EXIT);
    assert_eq!(m.stage("builder"), StageKind::Up);
}

#[test]
fn an_agent_that_proved_itself_is_restarted_at_once_again() {
    let mut m = one(talker());
    m.dies("builder", EXIT);
    m.run(10 * MINUTE);
    m.dies("builder", EXIT);
    assert_eq!(m.stage("builder"), StageKind::Up);
}

#[test]
fn an_oom_kill_is_restarted_and_told_with_its_limit_and_peak() {
    let mut m = one(talker());
    m.dies("builder", DeathCause::Oom { limit: Some(GIB), peak: Some(GIB - 1) });
    assert_eq!((m.stage("builder"), m.told("oom")), (StageKind::Up, 1));
    assert!(m.notes[0].summary.contains("limit 1024 MiB, peak 1023 MiB"), "{}", m.notes[0].summary);
}

#[test]
fn a_child_killed_for_memory_is_told_and_nothing_is_restarted() {
    let mut m = one(LoopConfig { restart_above: Some(GIB), ..talker() });
    m.place("builder").oom_children = 2;
    m.run(2 * MINUTE);
    assert_eq!((m.started("builder"), m.told("oom")), (1, 1));
}

#[test]
fn what_an_agent_leaves_behind_is_killed_before_the_next_start() {
    let mut m = one(talker());
    m.place("builder").children = 3;
    m.dies("builder", EXIT);
    assert_eq!((m.place("builder").children, m.stage("builder")), (0, StageKind::Up));
    assert!(m.decided("leftovers-killed"));
}

#[test]
fn a_death_resumes_the_session() {
    let mut m = one(talker());
    m.run(MINUTE);
    m.dies("builder", EXIT);
    let Session::Fresh { uuid, prompt: Prompt::Kickoff } = m.starts[0].session.clone() else { panic!() };
    assert_eq!(m.starts[1].session, Session::Resume { uuid });
}

#[test]
fn an_agent_that_cannot_resume_begins_afresh_each_time() {
    let mut m = one(program());
    m.dies("builder", EXIT);
    assert!(matches!(m.starts[1].session, Session::Fresh { prompt: Prompt::Kickoff, .. }));
}

#[test]
fn a_resume_that_dies_at_once_is_followed_by_a_fresh_session_with_the_hand_off() {
    let mut m = one(talker());
    m.run(MINUTE);
    m.dies("builder", EXIT);
    m.dies("builder", EXIT);
    m.run(2 * SECOND);
    assert!(matches!(m.starts[2].session, Session::Fresh { prompt: Prompt::Handoff, .. }), "{:?}", m.starts[2]);
}

#[test]
fn an_unknown_cause_is_handled_as_killed() {
    let mut m = one(talker());
    m.dies("builder", DeathCause::Unknown);
    assert_eq!((m.stage("builder"), m.decided("restart")), (StageKind::Up, true));
}

#[test]
fn the_immediate_restart_is_not_staggered() {
    let mut m = Machine::tame(Config { start_stagger: 5 * SECOND, ..pair() });
    m.run(5 * SECOND);
    assert_eq!((m.stage("adversary"), m.stage("builder")), (StageKind::Up, StageKind::Up));
    m.dies("adversary", EXIT);
    assert_eq!(m.stage("adversary"), StageKind::Up);
}
