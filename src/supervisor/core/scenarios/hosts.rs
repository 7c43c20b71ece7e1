//! A loop's tmux server.

use super::*;
use crate::supervisor::config::HostKind;
use crate::supervisor::core::holds::Ends;

#[test]
fn a_lost_session_host_is_no_crash_and_the_session_goes_on() {
    let mut m = one(talker());
    m.run(MINUTE);
    m.place("builder").server_dies();
    m.run(NOW);
    assert_eq!((m.stage("builder"), m.started("builder")), (StageKind::Up, 2));
    assert!(matches!(m.starts[1].session, Session::Resume { .. }));
    let record = &m.seen("builder").record;
    assert_eq!((record.restarts, record.budget.deaths()), (0, 0));
}

#[test]
fn no_session_host_for_ten_seconds_is_a_hold_with_the_command_that_mends_it() {
    let mut m = one(talker());
    m.outside.hosts = Hosts::Broken;
    m.place("builder").server_dies();
    m.run(9 * SECOND);
    assert_eq!((m.hold("builder"), m.told("session-host")), (Some(HoldKind::SessionHostComing), 0));
    m.run(10 * SECOND);
    assert_eq!((m.hold("builder"), m.told("session-host")), (Some(HoldKind::NoSessionHost), 1));
    assert!(matches!(&m.holds("builder")[0].ends, Ends::Operator { command } if command.contains("doctor")));
    m.outside.hosts = Hosts::Fine;
    m.run(40 * SECOND);
    assert_eq!((m.stage("builder"), m.told("session-host")), (StageKind::Up, 2), "back, and said so");
}

#[test]
fn a_session_host_that_is_never_heard_of_is_tried_again_for_ever() {
    let mut m = one(talker());
    m.outside.hosts = Hosts::Mute;
    m.place("builder").server_dies();
    m.run(HOUR);
    assert_eq!(m.told("session-host"), 1);
    m.outside.hosts = Hosts::Fine;
    m.run(MINUTE);
    assert_eq!(m.stage("builder"), StageKind::Up);
}

#[test]
fn a_server_that_misses_two_deadlines_is_killed_and_its_loop_goes_on_in_another() {
    let mut m = one(talker());
    let first = m.place("builder").server.as_ref().map(|s| s.id);
    if let Some(server) = &mut m.place("builder").server {
        server.hung = true;
    }
    m.ask(Request::Attach { name: name("builder") });
    m.run(3 * SECOND);
    assert_eq!(m.started("builder"), 1, "one deadline is not enough");
    m.run(2 * SECOND);
    assert_ne!(m.place("builder").server.as_ref().map(|s| s.id), first);
    assert_eq!((m.stage("builder"), m.seen("builder").record.restarts), (StageKind::Up, 0));
}

#[test]
fn a_killed_server_that_does_not_end_is_a_hold_and_said_once() {
    let mut m = one(talker());
    if let Some(server) = &mut m.place("builder").server {
        (server.hung, server.asleep) = (true, true);
    }
    m.dies("builder", EXIT);
    m.run(5 * SECOND);
    assert_eq!((m.decided("session-host-hung"), m.told("session-host")), (true, 0));
    m.run(MINUTE);
    assert_eq!((m.hold("builder"), m.told("session-host")), (Some(HoldKind::NoSessionHost), 1));
    assert!(m.holds("builder")[0].what.contains("has not ended"));
}

#[test]
fn one_hung_server_does_not_delay_another_loop() {
    let mut m = Machine::tame(pair());
    if let Some(server) = &mut m.place("adversary").server {
        server.hung = true;
    }
    m.dies("adversary", EXIT);
    m.dies("builder", EXIT);
    assert_eq!((m.stage("adversary"), m.stage("builder")), (StageKind::Dying, StageKind::Up));
}

#[test]
fn a_pane_that_an_operator_killed_is_made_anew_with_its_server() {
    let mut m = one(talker());
    let place = m.place("builder");
    place.agent_dies(DeathCause::Killed { signal: 1 });
    if let Some(server) = &mut place.server {
        server.pane = None;
    }
    m.run(NOW);
    assert_eq!((m.stage("builder"), m.decided("pane-gone")), (StageKind::Up, true));
    assert_eq!(m.seen("builder").record.restarts, 0);
}

#[test]
fn a_pane_that_still_drains_is_tried_again_with_a_new_pipe() {
    let mut m = one(talker());
    if let Some(pane) = m.place("builder").pane() {
        pane.drains = 2;
    }
    m.dies("builder", EXIT);
    assert_eq!(m.hold("builder"), Some(HoldKind::StartFailed));
    m.run(SECOND);
    assert_eq!((m.stage("builder"), m.seen("builder").record.restarts), (StageKind::Up, 1));
}

#[test]
fn something_that_runs_in_the_pane_of_a_held_loop_is_cleared_away() {
    let mut m = one(talker());
    done(m.order(Request::Stop { which: Which::All }));
    let stranger = m.new_process();
    if let Some(pane) = m.place("builder").pane() {
        pane.placeholder = Some(stranger);
    }
    m.order(Request::Attach { name: name("builder") });
    assert_eq!(m.place("builder").pane().and_then(|pane| pane.placeholder), None);
    assert_eq!(m.stage("builder"), StageKind::Down);
}

#[test]
fn attaching_while_a_start_is_under_way_does_not_fail_it() {
    let mut m = Machine::new(single(talker()), 3, 500);
    while m.stage("builder") != StageKind::Starting {
        m.run(Duration::from_millis(1));
    }
    for _ in 0..20 {
        m.ask(Request::Attach { name: name("builder") });
    }
    m.run(3 * SECOND);
    assert_eq!((m.stage("builder"), m.started("builder"), m.decided("start-failed")), (StageKind::Up, 1, false));
}

#[test]
fn a_closed_log_pipe_is_opened_again() {
    let mut m = one(talker());
    if let Some(pane) = m.place("builder").pane() {
        pane.piped = false;
    }
    m.feed(crate::supervisor::core::event::Event::PipeClosed { name: name("builder") });
    m.run(NOW);
    assert!(m.place("builder").pane().is_some_and(|pane| pane.piped));
    assert!(m.decided("log-pipe-closed"));
}

#[test]
fn a_server_that_systemd_does_not_bring_back_is_written_down_once_and_names_the_unit() {
    let mut m = Machine::tame(Config { host: HostKind::Systemd, ..single(talker()) });
    m.outside.hosts = Hosts::Broken;
    m.place("builder").server_dies();
    m.run(HOUR);
    assert_eq!(m.journal.iter().filter(|entry| entry.decision == "session-host-lost").count(), 1);
    assert_eq!((m.hold("builder"), m.told("session-host")), (Some(HoldKind::NoSessionHost), 1));
    let unit = "systemctl start cc-ci-session@builder.service";
    assert!(matches!(&m.holds("builder")[0].ends, Ends::Operator { command } if command == unit));
    m.outside.hosts = Hosts::Fine;
    m.run(MINUTE);
    assert_eq!(m.stage("builder"), StageKind::Up);
}
