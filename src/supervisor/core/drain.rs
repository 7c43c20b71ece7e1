//! Bringing every loop to a safe point and holding it there.
//!
//! Safe is: its turn has ended, its clone is clean, its last commit is pushed, and no claim is open. A claim that waits
//! for its verdict keeps both sides from being safe: the verifier must live to judge it. For the same reason the verifier
//! is held last: whoever may claim until its own turn has ended needs somebody to judge that claim.

use super::Draft;
use super::action::Action;
use super::gates::GateState;
use super::stage::{Stage, StageKind, StopWhy};
use super::world::{Drain, Loop, RequestId, Safety, Said, Until, Waiter, Wish};
use crate::supervisor::config::Role;
use crate::supervisor::control::protocol::Refusal;
use crate::supervisor::names::LoopName;
use crate::support::clock::millis;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How often the clone of a loop that is not safe yet is looked at: git on a large clone costs tens of milliseconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a loop is asked that is not safe as it is.
const ASK: &str = "Please come to a safe point: finish or drop what is half done, commit, push, then end your turn.";

impl Draft<'_> {
    pub(super) fn drain(&mut self, request: RequestId, timeout: Duration) {
        let now = self.now;
        if self.w.global.frozen.is_some() {
            self.refuse(request, Refusal::NotNow, "drain: everything is frozen; run `supervisor thaw` first");
            return;
        }
        self.w.global.drain = Some(Drain { since: now, until: now.plus(timeout).wall });
        self.w.waiters.push(Waiter { request, until: Until::Drained, deadline: now.plus(timeout).boot });
        self.journal(
            None,
            "drain",
            "the operator wants every loop at a safe point",
            json!({ "timeout_ms": millis(timeout) }),
            Some("each loop is held as soon as it is safe".to_owned()),
        );
        let names: Vec<LoopName> = self.w.loops.keys().cloned().collect();
        for name in names {
            if let Some(l) = self.get_mut(&name) {
                l.unsafe_because = None;
                l.safety = Safety::Idle(None);
                l.drain_asked = Said::No;
                // One whose turn is over may be safe as it is: it is looked at first, and spared a turn for nothing.
                if !l.life.turn.is_over() {
                    self.ask_for_safe_point(&name);
                }
            }
        }
    }

    /// Once in a drain.
    fn ask_for_safe_point(&mut self, name: &LoopName) {
        if self.account_shut(name) {
            return;
        }
        let Some(l) = self.get_mut(name) else { return };
        if l.stage.kind() == StageKind::Up && l.drain_asked == Said::No {
            l.drain_asked = Said::Yes;
            self.say(name, ASK);
        }
    }

    /// Whether a loop is where a drain wants it.
    fn drained(&self, name: &LoopName) -> bool {
        self.w.loops.get(name).is_some_and(|l| {
            let held = l.record.drained.is_some() || matches!(l.record.wish, Wish::Stop { .. });
            held && l.stage.kind() == StageKind::Down
        })
    }

    pub(super) fn settle_drain(&mut self) {
        let Some(drain) = self.w.global.drain else { return };
        let names: Vec<LoopName> = self.w.loops.keys().cloned().collect();
        if names.iter().all(|name| self.drained(name)) {
            self.w.global.drain = None;
            self.journal(None, "drained", "every loop is at a safe point and held there", json!({}), None);
            self.notify(
                "drained",
                None,
                "every loop is at a safe point and held there".to_owned(),
                "`supervisor start --all` ends it".to_owned(),
            );
            return;
        }
        if self.due_wall(drain.until) {
            self.w.global.drain = None;
            let unsafe_ones = self.unsafe_loops();
            self.journal(
                None,
                "drain-timeout",
                "not every loop came to a safe point in time; the others stay held",
                json!({ "not_safe": unsafe_ones }),
                Some("`supervisor start --all` releases the held ones".to_owned()),
            );
            return;
        }
        // A stopped agent comes to no safe point, and none is ended in a freeze but by the operator.
        if self.w.global.frozen.is_some() {
            return;
        }
        for name in names {
            self.drain_one(&name);
        }
    }

    /// Each loop that is not where the drain wants it, and why.
    pub(super) fn unsafe_loops(&self) -> Vec<String> {
        let open = |(name, l): (&LoopName, &Arc<Loop>)| {
            let why = l.unsafe_because.clone().unwrap_or_else(|| match l.life.turn.is_over() {
                true => "not looked at yet".to_owned(),
                false => "its turn has not ended".to_owned(),
            });
            format!("{name}: {why}")
        };
        self.w.loops.iter().filter(|(name, _)| !self.drained(name)).map(open).collect()
    }

    /// Whether this loop would be missed by one that can still claim.
    fn may_have_to_judge(&self, name: &LoopName) -> bool {
        let verifies = self.w.config.loops.get(name).is_some_and(|c| c.role == Some(Role::Verifies));
        let claims = self.w.phase.is_some() && !self.w.complete();
        verifies && claims && self.by_role(Role::Claims).iter().any(|claimer| !self.drained(claimer))
    }

    fn drain_one(&mut self, name: &LoopName) {
        if self.drained(name) {
            return;
        }
        let may_have_to_judge = self.may_have_to_judge(name);
        let claim_open = matches!(self.w.gate.state, GateState::Claimed { .. });
        let takes_part = self.w.config.loops.get(name).is_some_and(|c| c.role.is_some());
        let text_waits = self.text_waits(name);
        let Some(l) = self.get_mut(name) else { return };
        let waits_for = match l.stage {
            Stage::Up { .. } if !l.life.turn.is_over() => Some("its turn has not ended"),
            Stage::Up { .. } if text_waits => Some("it has not taken what was typed"),
            Stage::Up { .. } | Stage::Down { .. } if claim_open && takes_part => Some("a claim waits for its verdict"),
            Stage::Up { .. } if may_have_to_judge => Some("who claims is not at a safe point yet"),
            Stage::Up { .. } | Stage::Down { .. } => None,
            _ => return,
        };
        if let Some(why) = waits_for {
            l.unsafe_because = Some(why.to_owned());
            return;
        }
        let Safety::Idle(last) = l.safety else { return };
        if !self.due(last.map_or(0, |at| at.saturating_add(millis(LOOK_EVERY)))) {
            return;
        }
        if let Some(l) = self.get_mut(name) {
            l.safety = Safety::InFlight;
        }
        self.push(Action::ReadSafety(name.clone()));
    }

    pub(super) fn safety_read(&mut self, name: &LoopName, found: Result<(), String>) {
        let now = self.now;
        let draining = self.w.global.drain.is_some() && self.w.global.frozen.is_none();
        let claim_open = matches!(self.w.gate.state, GateState::Claimed { .. });
        let takes_part = self.w.config.loops.get(name).is_some_and(|c| c.role.is_some());
        let text_waits = self.text_waits(name);
        let Some(l) = self.get_mut(name) else { return };
        l.safety = Safety::Idle(Some(now.boot));
        match found {
            Err(why) => {
                l.unsafe_because = Some(why);
                if draining {
                    self.ask_for_safe_point(name);
                }
            }
            // It went on while git looked, or a claim came: what git saw is no longer true.
            Ok(()) if !draining || (claim_open && takes_part) || !l.life.turn.is_over() || text_waits => {}
            Ok(()) => {
                l.unsafe_because = None;
                if !matches!(l.stage, Stage::Up { .. } | Stage::Down { .. }) {
                    return;
                }
                l.record.drained = Some(now);
                self.journal(
                    Some(name),
                    "hold",
                    "drained: its turn has ended, its clone is clean and pushed, no claim is open",
                    json!({}),
                    Some("held until `supervisor start --all`".to_owned()),
                );
                self.end(name, StopWhy::Drain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Caller, Event};
    use super::super::world::{LoopRecord, Turn, World};
    use super::super::{decide, first_world};
    use super::*;
    use crate::supervisor::config;
    use crate::supervisor::control::protocol::Request;
    use crate::support::clock::Now;
    use crate::support::process::BootId;
    use std::path::Path;
    use std::sync::Arc;

    const CONFIG: &str = r#"
        workspace = "/w"
        [phases]
        plans = ["plan.md"]
        [loops.builder]
        agent = "command"
        command = ["b"]
        workdir = "b"
        role = "claims"
        [loops.adversary]
        agent = "command"
        command = ["a"]
        workdir = "a"
        role = "verifies"
    "#;

    fn now(boot: u64) -> Now {
        Now { wall: 1_000_000 + i64::try_from(boot).unwrap(), boot: 1_000_000 + boot }
    }

    fn name(text: &str) -> LoopName {
        text.parse().unwrap()
    }

    fn up(turn: Turn) -> World {
        let config = Arc::new(config::read(CONFIG, Path::new("/x.toml")).unwrap().config);
        let boot = BootId::read().unwrap();
        let record = |_: &LoopName| Some(LoopRecord::new(boot.clone()));
        let mut world = first_world(config, boot.clone(), 1, now(0), record, Default::default(), Default::default());
        for l in world.loops.values_mut().map(Arc::make_mut) {
            l.stage = Stage::Up { since: now(0) };
            l.life.turn = Turn::Idle { since: now(0) };
        }
        Arc::make_mut(world.loops.get_mut(&name("builder")).unwrap()).life.turn = turn;
        world
    }

    /// Whose clones are looked at next, and the world after that.
    fn looked_at(world: &World, event: Event, at: u64) -> (Vec<String>, World) {
        let actions = decide(world, event, now(at));
        let names = actions.iter().filter_map(|a| match a {
            Action::ReadSafety(name) => Some(name.to_string()),
            _ => None,
        });
        let Some(Action::Become(next)) = actions.first() else { panic!("{actions:?}") };
        (names.collect(), (**next).clone())
    }

    fn drain() -> Event {
        let what = Request::Drain { timeout_ms: 60_000 };
        Event::Asked { request: 1, caller: Caller::Operator { names: None, epoch: None }, what }
    }

    #[test]
    fn the_verifier_is_held_after_all_who_may_still_claim() {
        let (looked, mut world) = looked_at(&up(Turn::Busy { since: now(0) }), drain(), 1);
        assert_eq!(looked, Vec::<String>::new(), "the builder is in its turn and may claim at its end");
        let why = world.loops[&name("adversary")].unsafe_because.as_deref();
        assert_eq!(why, Some("who claims is not at a safe point yet"));

        let builder = Arc::make_mut(world.loops.get_mut(&name("builder")).unwrap());
        builder.record.drained = Some(now(2));
        builder.stage = Stage::Down { since: now(2) };
        let (looked, _) = looked_at(&world, Event::Tick, 3);
        assert_eq!(looked, ["adversary"]);
    }

    #[test]
    fn a_claimer_waits_for_no_verifier() {
        let (looked, _) = looked_at(&up(Turn::Idle { since: now(0) }), drain(), 1);
        assert_eq!(looked, ["builder"]);
    }
}
