//! Examples: one behaviour of design.md §4.2 to §4.4 each, on a machine where everything is at once and nothing fails
//! but what the example breaks.

mod accounts;
mod adoption;
mod deaths;
mod drain;
mod evidence;
mod hosts;
mod life;
mod operator;
mod phases;
mod starts;
mod summary;
mod talk;

use super::holds::HoldKind;
use super::stage::StageKind;
use super::testing::machine::Machine;
use super::testing::place::{Hosts, Mood, Storage};
use super::testing::{GIB, HOUR, MINUTE, name, pair, program, single, talker};
use super::world::DeathCause;
use crate::supervisor::agents::{Prompt, Session, Signal};
use crate::supervisor::config::{Config, LoopConfig};
use crate::supervisor::control::protocol::{Refusal, Request, Response, Which};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const NOW: Duration = Duration::ZERO;
const EXIT: DeathCause = DeathCause::Exited { status: 1 };

/// One loop, `builder`, that runs.
fn one(config: LoopConfig) -> Machine {
    let m = Machine::tame(single(config));
    assert_eq!(m.stage("builder"), StageKind::Up);
    m
}

/// One loop that says nothing by itself.
fn silent(config: LoopConfig) -> Machine {
    let mut m = Machine::tame(single(config));
    m.outside.mood = Mood::Silent;
    m.reboot();
    assert_eq!(m.stage("builder"), StageKind::Up);
    m
}

fn these(names: &[&str]) -> Which {
    Which::Loops(names.iter().map(|n| name(n)).collect())
}

fn refused(response: Option<Response>) -> (Refusal, String) {
    match response {
        Some(Response::Refused { kind, message }) => (kind, message),
        other => panic!("not refused: {other:?}"),
    }
}

fn done(response: Option<Response>) -> Vec<String> {
    match response {
        Some(Response::Done { lines }) => lines,
        other => panic!("not done: {other:?}"),
    }
}
