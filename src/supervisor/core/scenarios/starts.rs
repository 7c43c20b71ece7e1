//! What a start waits for.

use super::*;
use crate::supervisor::config::NeedConfig;

fn needy() -> Machine {
    let mut config = single(LoopConfig { needs: vec!["proxy".parse().unwrap()], ..talker() });
    config.needs.insert("proxy".parse().unwrap(), NeedConfig::Tcp("127.0.0.1:1055".into()));
    let mut m = Machine::tame(config);
    m.outside.missing.insert("proxy".parse().unwrap());
    m.reboot();
    m
}

#[test]
fn a_missing_need_holds_the_start_says_which_and_starts_when_it_is_there() {
    let mut m = needy();
    assert_eq!(m.hold("builder"), Some(HoldKind::Needs));
    assert_eq!(m.holds("builder")[0].what, "needs proxy: refused");
    m.run(HOUR);
    m.outside.missing.clear();
    m.run(30 * SECOND);
    assert_eq!(m.stage("builder"), StageKind::Up);
}

#[test]
fn a_need_that_comes_soon_is_noticed_soon() {
    let mut m = needy();
    m.run(2 * SECOND);
    m.outside.missing.clear();
    m.run(2 * SECOND);
    assert_eq!(m.stage("builder"), StageKind::Up);
}

#[test]
fn what_the_operator_starts_waits_for_needs_as_they_are_then() {
    let mut m = needy();
    m.outside.missing.clear();
    m.run(MINUTE);
    m.dies("builder", EXIT);
    assert_eq!(m.stage("builder"), StageKind::Up);
    m.run(SECOND);
    m.outside.missing.insert("proxy".parse().unwrap());
    m.order(Request::Restart { which: these(&["builder"]) });
    m.run(SECOND);
    assert_eq!(m.hold("builder"), Some(HoldKind::Needs));
}

#[test]
fn a_need_that_goes_away_stops_no_running_agent() {
    let mut m = needy();
    m.outside.missing.clear();
    m.run(MINUTE);
    m.outside.missing.insert("proxy".parse().unwrap());
    m.run(HOUR);
    assert_eq!(m.stage("builder"), StageKind::Up);
    m.dies("builder", EXIT);
    assert_eq!((m.hold("builder"), m.told("need")), (Some(HoldKind::Needs), 1));
}

#[test]
fn little_free_memory_holds_the_start_and_leaves_running_loops_alone() {
    let mut m = Machine::tame(Config { min_free_memory: 300 << 20, ..pair() });
    m.outside.free = 100 << 20;
    m.run(3 * SECOND);
    m.dies("builder", EXIT);
    assert_eq!((m.hold("builder"), m.stage("adversary")), (Some(HoldKind::Memory), StageKind::Up));
    assert!(m.holds("builder")[0].what.contains("min_free_memory"), "{:?}", m.holds("builder"));
    m.run(HOUR);
    m.outside.free = GIB;
    m.run(5 * SECOND);
    assert_eq!(m.stage("builder"), StageKind::Up);
}

#[test]
fn starts_are_staggered() {
    let mut m = Machine::tame(Config { start_stagger: 5 * SECOND, ..pair() });
    assert_eq!((m.stage("adversary"), m.hold("builder")), (StageKind::Up, Some(HoldKind::Stagger)));
    m.run(5 * SECOND);
    assert_eq!(m.stage("builder"), StageKind::Up);
}

#[test]
fn a_start_waits_for_the_disk_and_is_told_at_the_third_failure() {
    let mut m = one(talker());
    m.outside.storage = Storage::Full;
    m.dies("builder", EXIT);
    assert_eq!((m.stage("builder"), m.hold("builder")), (StageKind::Down, Some(HoldKind::StartFailed)));
    m.run(10 * SECOND);
    assert_eq!((m.told("start-failed"), m.started("builder")), (1, 1));
    m.outside.storage = Storage::Fine;
    m.run(MINUTE);
    assert_eq!(m.stage("builder"), StageKind::Up);
}
