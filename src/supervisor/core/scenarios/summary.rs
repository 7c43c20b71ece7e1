//! What systemd is told of the world.

use super::*;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::stage::Stage;
use crate::supervisor::core::summary::{is_settled, line};
use std::sync::Arc;

fn told(m: &Machine) -> String {
    line(m.world.as_ref().unwrap(), m.now)
}

fn settled(m: &Machine) -> bool {
    is_settled(m.world.as_ref().unwrap(), m.now)
}

#[test]
fn the_line_counts_what_runs_and_names_what_waits_and_for_what() {
    let mut m = Machine::tame(pair());
    m.run(10 * SECOND);
    assert_eq!(told(&m), "2 loops: 2 up; phase 0 of 0 to 2");
    m.ask(Request::Stop { which: these(&["builder"]) });
    m.run(10 * SECOND);
    assert_eq!(told(&m), "2 loops: 1 up, 1 held (builder: stopped by the operator); phase 0 of 0 to 2");
    m.ask(Request::Freeze);
    assert!(told(&m).contains("1 held") && told(&m).contains("1 frozen"), "{}", told(&m));
}

#[test]
fn loops_are_settled_once_each_runs_or_is_held_for_a_reason() {
    let mut m = Machine::tame(pair());
    m.run(10 * SECOND);
    assert!(settled(&m));
    m.outside.hosts = Hosts::Broken;
    m.place("builder").server_dies();
    m.run(9 * SECOND);
    assert!(!settled(&m), "it is not known yet whether its server comes");
    m.run(SECOND);
    assert!(settled(&m), "{}", told(&m));
    m.run(7 * SECOND);
    assert!(settled(&m), "it was settled while its server was absent, and is not while it is looked for again");
}

#[test]
fn a_loop_that_is_not_found_yet_is_not_settled_and_one_that_cannot_be_cleared_away_is_waited_for_no_longer() {
    let m = one(talker());
    let mut world = m.world.clone().unwrap();
    let stage = |world: &mut crate::supervisor::core::world::World, stage| {
        Arc::make_mut(world.loops.get_mut(&name("builder")).unwrap()).stage = stage;
    };
    stage(&mut world, Stage::Adopting);
    assert!(!is_settled(&world, m.now));
    stage(&mut world, Stage::Clearing { since: m.now });
    assert!(!is_settled(&world, m.now));
    assert!(is_settled(&world, m.now.plus(10 * SECOND)));
}

#[test]
fn children_that_were_killed_for_memory_are_remembered_over_a_restart_of_the_supervisor() {
    let mut m = one(talker());
    let epoch = m.seen("builder").record.epoch;
    let sampled = |children_oom_killed| Event::Sampled {
        name: name("builder"),
        epoch,
        output_at: None,
        memory: None,
        children_oom_killed,
    };
    m.feed(sampled(2));
    m.feed(sampled(0));
    m.feed(sampled(1));
    assert_eq!(m.told("oom"), 2);
    m.kill_supervisor(SECOND);
    m.run(10 * SECOND);
    assert_eq!(m.seen("builder").record.agent.as_ref().unwrap().children_oom_killed, 3);
    m.dies("builder", EXIT);
    m.run(10 * SECOND);
    assert_eq!(m.seen("builder").record.agent.as_ref().unwrap().children_oom_killed, 0, "another agent");
}
