//! Usage limits and logins, which loops of one account share.

use super::*;
use crate::supervisor::core::testing::empty;
use std::collections::BTreeMap;

fn limit(m: &Machine, minutes: u32) -> Signal {
    let resets_at = Some(m.now.plus(minutes * MINUTE).wall);
    Signal::UsageLimit { resets_at, evidence: "429".into() }
}

fn refused_login() -> Signal {
    Signal::LoggedOut { evidence: "401".into() }
}

/// Three loops of one account, which answer nothing by themselves, and one of another.
fn shared() -> Machine {
    let other = LoopConfig { account: "other".parse().unwrap(), stall_after: None, ..talker() };
    let loops = BTreeMap::from([
        (name("one"), talker().into()),
        (name("two"), talker().into()),
        (name("three"), talker().into()),
        (name("apart"), other.into()),
    ]);
    let mut m = Machine::tame(Config { loops, ..empty() });
    m.outside.mood = Mood::Silent;
    m.reboot();
    m.starts.clear();
    m
}

#[test]
fn a_usage_limit_holds_every_loop_of_the_account_and_releases_one_by_one() {
    let mut m = shared();
    let signal = limit(&m, 60);
    m.signal("one", signal);
    assert_eq!(m.told("usage-limit"), 1);
    for loop_name in ["one", "two", "three", "apart"] {
        m.dies(loop_name, EXIT);
    }
    assert_eq!(m.stage("apart"), StageKind::Up);
    assert_eq!(m.hold("two"), Some(HoldKind::UsageLimit));
    m.run(HOUR);
    assert_eq!(m.starts.len(), 1, "only the loop of the other account");
    m.run(31 * SECOND);
    // In the order of their names: one, three, two.
    assert_eq!((m.stage("one"), m.hold("three")), (StageKind::Up, Some(HoldKind::AccountTrial)));
    m.signal("one", Signal::ToolStarted);
    assert_eq!((m.stage("three"), m.hold("two")), (StageKind::Up, Some(HoldKind::AccountTrial)));
    m.signal("three", Signal::PromptAccepted);
    m.signal("three", Signal::TurnEnded);
    assert_eq!(m.stage("two"), StageKind::Up);
    m.signal("two", Signal::ToolStarted);
    assert_eq!(m.told("account-open"), 1);
    assert!(m.world.as_ref().unwrap().global.accounts.is_empty());
}

#[test]
fn a_limited_agent_that_lives_is_told_to_go_on_and_not_restarted() {
    let mut m = shared();
    let signal = limit(&m, 60);
    m.signal("one", signal);
    m.run(HOUR + 31 * SECOND);
    assert_eq!((m.starts.len(), m.typed("one").len(), m.typed("two").len()), (0, 1, 0));
}

#[test]
fn a_restart_of_the_supervisor_and_a_reboot_keep_the_limit() {
    let mut m = shared();
    let signal = limit(&m, 60);
    m.signal("one", signal);
    m.kill_supervisor(SECOND);
    m.run(MINUTE);
    m.reboot();
    m.starts.clear();
    for loop_name in ["one", "two", "three"] {
        assert_eq!(m.hold(loop_name), Some(HoldKind::UsageLimit));
    }
    m.run(57 * MINUTE);
    assert_eq!(m.starts.len(), 0);
    m.run(3 * MINUTE);
    assert_eq!(m.starts.len(), 1);
}

#[test]
fn the_latest_of_several_resets_counts_and_it_is_told_once() {
    let mut m = shared();
    for minutes in [60, 90, 30] {
        let signal = limit(&m, minutes);
        m.signal("one", signal);
    }
    m.dies("two", EXIT);
    m.run(90 * MINUTE);
    assert_eq!((m.hold("two"), m.told("usage-limit")), (Some(HoldKind::UsageLimit), 1));
}

#[test]
fn a_limit_without_a_reset_is_probed_at_growing_intervals() {
    let mut m = shared();
    let signal = Signal::UsageLimit { resets_at: None, evidence: "limit".into() };
    m.signal("one", signal.clone());
    m.run(5 * MINUTE);
    assert_eq!(m.typed("one").len(), 1);
    m.signal("one", signal);
    m.run(9 * MINUTE);
    assert_eq!(m.typed("one").len(), 1);
    m.run(MINUTE);
    assert_eq!(m.typed("one").len(), 2);
}

#[test]
fn a_reset_beyond_every_window_is_not_believed() {
    let mut m = shared();
    let signal = limit(&m, 60 * 24 * 30);
    m.signal("one", signal);
    m.run(5 * MINUTE);
    assert_eq!(m.typed("one").len(), 1);
}

#[test]
fn a_candidate_that_is_refused_again_holds_all_again() {
    let mut m = shared();
    let signal = limit(&m, 10);
    m.signal("one", signal);
    m.run(11 * MINUTE);
    let signal = limit(&m, 60);
    m.signal("one", signal);
    m.dies("two", EXIT);
    assert_eq!((m.hold("two"), m.told("usage-limit")), (Some(HoldKind::UsageLimit), 1));
}

#[test]
fn a_candidate_that_tells_nothing_is_not_waited_for_longer_than_five_minutes() {
    let mut m = shared();
    let signal = limit(&m, 10);
    m.signal("one", signal);
    m.dies("two", EXIT);
    m.run(10 * MINUTE + 31 * SECOND);
    assert_eq!(m.hold("two"), Some(HoldKind::AccountTrial));
    // One, then three, then two: five minutes each.
    m.run(10 * MINUTE);
    assert_eq!(m.stage("two"), StageKind::Up);
}

#[test]
fn the_end_of_the_refused_turn_shows_nothing() {
    let mut m = shared();
    let signal = limit(&m, 60);
    m.signal("one", signal);
    m.signal("one", Signal::TurnEnded);
    m.dies("two", EXIT);
    assert_eq!(m.hold("two"), Some(HoldKind::UsageLimit));
}

#[test]
fn an_agent_that_goes_on_by_itself_after_its_limit_opens_the_account() {
    let mut m = shared();
    let signal = limit(&m, 60);
    m.signal("one", signal);
    m.dies("two", EXIT);
    m.signal("one", Signal::PromptAccepted);
    m.signal("one", Signal::TurnEnded);
    m.run(NOW);
    assert_eq!(m.hold("two"), Some(HoldKind::AccountTrial), "three is tried before it");
    m.run(5 * MINUTE);
    assert_eq!(m.stage("two"), StageKind::Up);
}

#[test]
fn a_lost_login_holds_every_loop_with_one_notification_and_a_turn_of_one_releases_the_rest() {
    let mut m = shared();
    m.signal("one", refused_login());
    m.signal("two", refused_login());
    m.dies("three", EXIT);
    assert_eq!((m.told("login"), m.hold("three")), (1, Some(HoldKind::Login)));
    // The operator put a new token in place. One is tried; its process is made anew to take it.
    m.ask(Request::Start { which: Which::All });
    m.run(NOW);
    assert_eq!((m.started("one"), m.started("two"), m.hold("three")), (1, 0, Some(HoldKind::AccountTrial)));
    m.signal("one", Signal::PromptAccepted);
    m.signal("one", Signal::TurnEnded);
    assert_eq!((m.started("two"), m.stage("three")), (1, StageKind::Up));
    assert_eq!(m.seen("one").record.restarts, 0, "a new login is no crash");
}

#[test]
fn one_loops_own_bad_login_is_not_retried_at_every_tool_call_of_another() {
    let mut m = shared();
    m.signal("one", refused_login());
    for _ in 0..50 {
        m.signal("two", Signal::ToolStarted);
        m.signal("two", Signal::TurnEnded);
        m.signal("two", Signal::PromptAccepted);
        m.run(SECOND);
    }
    assert_eq!((m.started("one"), m.told("login"), m.told("account-open")), (0, 1, 0));
}

#[test]
fn a_limited_agent_is_not_taken_for_stalled() {
    let mut m = shared();
    let signal = limit(&m, 300);
    m.signal("one", signal);
    m.signal("two", Signal::PromptAccepted);
    m.run(4 * HOUR);
    assert!(!m.decided("stall-suspected"));
    assert_eq!(m.starts.len(), 0);
}
