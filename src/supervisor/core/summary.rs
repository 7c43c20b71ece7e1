//! What the service manager is told of the world: whether every loop is settled, and one line of what `status` says.

use super::holds::{Hold, HoldKind, holds};
use super::stage::Stage;
use super::view::{phase_view, state_word};
use super::world::World;
use crate::supervisor::names::LoopName;
use crate::support::clock::Now;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is left of an agent after this does not end; that is said, and the other loops need not wait for it.
const CLEARED_WITHIN: Duration = Duration::from_secs(10);
/// Waiting loops that are named, with what they wait for.
const NAMED: usize = 3;

/// Whether every loop was adopted, started, or is held with a reason.
pub fn is_settled(world: &World, now: Now) -> bool {
    world.loops.iter().all(|(name, l)| match l.stage {
        Stage::Up { .. } | Stage::Stopping { .. } => true,
        Stage::Clearing { since } => now.since(since) >= CLEARED_WITHIN,
        Stage::Down { .. } => holds(world, name, now).first().is_some_and(says_why),
        Stage::Adopting | Stage::Starting { .. } | Stage::Dying { .. } => false,
    })
}

/// Whether it is known what holds the loop, not only that something is still being looked at.
fn says_why(hold: &Hold) -> bool {
    match hold.kind {
        HoldKind::SessionHostComing => false,
        HoldKind::Needs => !hold.what.ends_with("being probed"),
        HoldKind::Memory => !hold.what.ends_with("being read"),
        _ => true,
    }
}

/// `3 loops: 2 up, 1 held (builder: needs proxy); phase 1 of 0 to 2`.
pub fn line(world: &World, now: Now) -> String {
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    let mut waiting = Vec::new();
    for name in world.loops.keys() {
        let word = state_word(world, name, now);
        *words.entry(word).or_default() += 1;
        if word == "held" {
            waiting.push(name);
        }
    }
    let held = named(world, &waiting, now);
    let counts: Vec<String> = words
        .iter()
        // What runs first, then what does not.
        .rev()
        .map(|(word, n)| format!("{n} {word}{}", if *word == "held" { held.as_str() } else { "" }))
        .collect();
    let loops = world.loops.len();
    let mut line = format!("{loops} loop{}: {}", if loops == 1 { "" } else { "s" }, counts.join(", "));
    let phase = phase_view(world);
    match phase.index {
        Some(_) if phase.complete => line.push_str(&format!("; all {} phases are complete", phase.total)),
        Some(index) => line.push_str(&format!("; phase {index} of 0 to {}", phase.total.saturating_sub(1))),
        None => {}
    }
    if let Some(why) = &world.unwritable {
        line.push_str(&format!("; the state cannot be written: {why}"));
    }
    line
}

fn named(world: &World, waiting: &[&LoopName], now: Now) -> String {
    let mut parts: Vec<String> = waiting
        .iter()
        .take(NAMED)
        .filter_map(|name| holds(world, name, now).into_iter().next().map(|hold| format!("{name}: {}", hold.what)))
        .collect();
    if waiting.len() > NAMED {
        parts.push(format!("and {} more", waiting.len() - NAMED));
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
}
