//! What a new supervisor makes of what it finds.

use super::*;
use crate::supervisor::config::OnChange;
use crate::supervisor::core::action::Action;
use crate::supervisor::core::decide;
use crate::supervisor::core::event::{Event, Leave};
use crate::supervisor::core::stage::Stage;
use crate::supervisor::core::world::{LoopRecord, Turn, Wish, World};
use crate::support::clock::Now;
use crate::support::process::ProcId;
use std::sync::Arc;

fn killed_for(m: &mut Machine, down: Duration) {
    m.kill_supervisor(down);
    m.run(down);
}

#[test]
fn a_living_agent_is_adopted_and_nothing_is_touched() {
    let mut m = one(talker());
    m.run(MINUTE);
    let agent = m.place("builder").agents()[0].id;
    killed_for(&mut m, SECOND);
    assert_eq!((m.stage("builder"), m.started("builder")), (StageKind::Up, 1));
    assert_eq!(m.place("builder").agents()[0].id, agent);
    assert!(m.nudges.is_empty() && m.decided("adopt"));
}

#[test]
fn an_intent_without_a_process_is_adopted_by_its_epoch() {
    let mut m = one(talker());
    if let Some(agent) = m.disk.records.get_mut(&name("builder")).and_then(|r| r.agent.as_mut()) {
        agent.process = None;
    }
    killed_for(&mut m, SECOND);
    assert_eq!((m.stage("builder"), m.started("builder")), (StageKind::Up, 1));
}

#[test]
fn an_intent_that_was_never_carried_out_is_replaced_by_a_start() {
    let mut m = silent(talker());
    let epoch = m.seen("builder").record.epoch;
    for _ in 0..3 {
        m.dies("builder", EXIT);
    }
    // The save of the intent is the last thing that it does.
    m.kill_after = Some(1);
    m.run_to_wake();
    assert!(m.world.is_none());
    assert_eq!(m.disk.records[&name("builder")].agent.as_ref().map(|a| (a.epoch, a.process)), Some((epoch + 3, None)));
    m.run(30 * SECOND);
    assert_eq!((m.stage("builder"), m.starts.last().map(|s| s.epoch)), (StageKind::Up, Some(epoch + 4)));
    assert_eq!(m.seen("builder").record.restarts, 3, "nothing died");
}

#[test]
fn a_start_that_lands_after_its_supervisor_was_killed_and_the_loop_stopped_is_cleared_away() {
    let mut m = Machine::new(single(talker()), 1, 50);
    while m.stage("builder") != StageKind::Starting {
        m.run(Duration::from_millis(1));
    }
    if let Some(landing) = m.landings.first_mut() {
        landing.at = m.now.boot + 1000;
    }
    m.kill_supervisor(NOW);
    if let Some(record) = m.disk.records.get_mut(&name("builder")) {
        record.wish = Wish::Stop { since: m.now };
    }
    m.run(2 * SECOND);
    assert_eq!(m.place("builder").agents().len(), 1, "it landed behind the new supervisor's back");
    m.run(10 * SECOND);
    assert_eq!((m.place("builder").agents().len(), m.stage("builder")), (0, StageKind::Down));
}

#[test]
fn an_agent_that_came_of_an_earlier_start_is_looked_after_like_any_other() {
    let mut m = silent(talker());
    // A respawn of the supervisor before went through after this one had given it up.
    m.kill_supervisor(NOW);
    let record = m.disk.records.get_mut(&name("builder")).unwrap();
    record.agent = None;
    record.epoch += 1;
    m.run(HOUR);
    assert!(m.decided("stall-suspected") && m.decided("stall-restart"));
}

#[test]
fn a_death_while_no_supervisor_ran_counts() {
    let mut m = one(talker());
    m.kill_supervisor(MINUTE);
    m.dies("builder", EXIT);
    m.run(MINUTE);
    assert_eq!((m.stage("builder"), m.seen("builder").record.restarts), (StageKind::Up, 1));
}

#[test]
fn a_death_after_the_supervisor_ended_on_purpose_is_no_crash() {
    let mut m = one(talker());
    m.feed(Event::Shutdown(Leave::Sessions));
    m.dies("builder", EXIT);
    m.run(MINUTE);
    assert_eq!((m.stage("builder"), m.seen("builder").record.restarts), (StageKind::Up, 0));
    // But only that one: the supervisor runs again.
    m.dies("builder", EXIT);
    assert_eq!(m.seen("builder").record.restarts, 1);
}

#[test]
fn a_reboot_counts_no_crash_and_resumes_the_session_without_backoff() {
    let mut m = one(talker());
    for _ in 0..4 {
        m.dies("builder", EXIT);
        m.run(20 * SECOND);
    }
    let restarts = m.seen("builder").record.restarts;
    m.reboot();
    assert_eq!((m.stage("builder"), m.seen("builder").record.restarts), (StageKind::Up, restarts));
    assert!(matches!(m.starts.last().map(|s| &s.session), Some(Session::Resume { .. })));
    assert_eq!(m.seen("builder").record.budget.deaths(), 0);
    assert!(m.decided("reboot"));
}

#[test]
fn a_reboot_is_not_told_as_the_loss_of_a_tmux_server() {
    let mut m = one(talker());
    assert_eq!(m.stage("builder"), StageKind::Up);
    m.reboot();
    assert_eq!(m.stage("builder"), StageKind::Up);
    assert!(!m.decided("session-host-lost"));
}

#[test]
fn a_server_that_was_replaced_while_no_supervisor_ran_costs_no_session() {
    let mut m = one(talker());
    m.run(MINUTE);
    m.kill_supervisor(MINUTE);
    m.place("builder").server_dies();
    m.spawn_host(&name("builder"));
    m.run(MINUTE);
    assert_eq!((m.stage("builder"), m.seen("builder").record.restarts), (StageKind::Up, 0));
    assert!(matches!(m.starts[1].session, Session::Resume { .. }), "{:?}", m.starts[1]);
}

#[test]
fn a_changed_definition_is_shown_and_taken_at_the_next_start() {
    let mut m = one(talker());
    m.redefine(&name("builder"));
    m.run(HOUR);
    assert_eq!(m.started("builder"), 1);
    let view = crate::supervisor::core::view::explain(m.world.as_ref().unwrap(), &name("builder"), m.now).unwrap();
    assert!(view.view.older_definition);
    m.dies("builder", EXIT);
    assert_eq!(m.seen("builder").record.agent.as_ref().map(|a| a.hash.as_str()), Some("v1x"));
}

#[test]
fn a_changed_definition_waits_for_the_turns_end_of_an_adopted_agent() {
    let mut m = silent(LoopConfig { on_change: OnChange::TurnEnd, ..talker() });
    m.signal("builder", Signal::PromptAccepted);
    let before = m.started("builder");
    m.redefine(&name("builder"));
    m.run(MINUTE);
    assert_eq!(m.started("builder"), before, "its turn was cut");
    m.signal("builder", Signal::TurnEnded);
    assert_eq!(m.started("builder"), before + 1);
}

#[test]
fn a_changed_definition_that_cannot_wait_restarts_at_once_and_counts_no_death() {
    let mut m = one(LoopConfig { on_change: OnChange::Now, ..talker() });
    m.redefine(&name("builder"));
    m.run(NOW);
    assert_eq!((m.started("builder"), m.seen("builder").record.restarts), (2, 0));
}

#[test]
fn an_agent_that_tells_nothing_of_its_turns_is_not_taken_for_busy() {
    let mut m = one(program());
    killed_for(&mut m, SECOND);
    assert_eq!(m.seen("builder").life.turn, Turn::Unknown);
}

#[test]
fn an_end_that_was_begun_is_carried_on_by_the_next_supervisor() {
    let mut m = one(talker());
    // Killed after the stop was saved and before its SIGTERM.
    m.kill_after = Some(2);
    m.ask(Request::Stop { which: Which::All });
    assert_eq!(m.place("builder").agents().len(), 1);
    m.run(MINUTE);
    assert_eq!((m.place("builder").agents().len(), m.hold("builder")), (0, Some(HoldKind::Stopped)));
}

#[test]
fn a_frozen_agent_is_found_by_its_record_and_stays_frozen() {
    let mut m = one(talker());
    m.order(Request::Freeze);
    killed_for(&mut m, SECOND);
    m.run(MINUTE);
    assert_eq!((m.stage("builder"), m.started("builder")), (StageKind::Up, 1));
    assert!(m.place("builder").frozen);
    m.order(Request::Thaw);
    assert!(!m.place("builder").frozen);
}

#[test]
fn a_session_of_a_loop_that_the_config_no_longer_names_is_ended() {
    let mut m = one(talker());
    let mut record = LoopRecord::new(m.boot_id());
    m.feed(Event::Orphan { name: name("gone"), record: Box::new(record.clone()) });
    assert!(!m.decided("retire"), "nothing of it can run");
    record.server = Some(ProcId { pid: 7, start: 7 });
    m.feed(Event::Orphan { name: name("gone"), record: Box::new(record) });
    assert!(m.decided("retire"));
}

#[test]
fn an_agent_whose_turn_had_ended_is_found_idle_and_one_in_its_turn_busy() {
    let mut m = silent(talker());
    m.signal("builder", Signal::PromptAccepted);
    killed_for(&mut m, SECOND);
    assert!(matches!(m.seen("builder").life.turn, Turn::Busy { .. }));
    m.signal("builder", Signal::TurnEnded);
    killed_for(&mut m, SECOND);
    assert!(matches!(m.seen("builder").life.turn, Turn::Idle { .. }));
}

#[test]
fn what_cannot_be_killed_does_not_keep_the_supervisor_from_ending() {
    let m = one(talker());
    let mut world = m.world.clone().unwrap();
    Arc::make_mut(world.loops.get_mut(&name("builder")).unwrap()).stage = Stage::Clearing { since: m.now };
    let ends = |world: &World, event, now| {
        let mut actions = decide(world, event, now);
        let exit = actions.contains(&Action::Exit);
        let Action::Become(next) = actions.remove(0) else { panic!("the first action is the world") };
        (*next, exit)
    };
    let (world, exit) = ends(&world, Event::Shutdown(Leave::Nothing), m.now);
    assert!(!exit, "what is being killed is waited for");
    let at = world.wake_at.expect("it is looked at again");
    assert!(!ends(&world, Event::Tick, Now { boot: at - 1, ..m.now }).1);
    assert!(ends(&world, Event::Tick, Now { boot: at, ..m.now }).1);
}
