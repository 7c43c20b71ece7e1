//! What must be true of every decision and of every state between two of them.

use super::machine::Machine;
use crate::supervisor::core::accounts::Gatekeeping;
use crate::supervisor::core::action::Action;
use crate::supervisor::core::budget::BACKOFF_MAX;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::holds::{Ends, Hold, HoldKind, holds, lasting};
use crate::supervisor::core::stage::{Force, Stage};
use crate::supervisor::core::startup::READY_WITHIN;
use crate::supervisor::core::talk::ACK_WAIT;
use crate::supervisor::core::world::{HostStatus, Loop, Mode, Probe, Said, Startup, Turn, Wish, World};
use crate::supervisor::core::{decide, host::ABSENT_SAID};
use crate::supervisor::names::LoopName;
use crate::support::clock::{Now, millis};

/// A crash loop's longest interval: four windows and a tenth.
const RETRY_MAX_WINDOWS: u32 = 5;

pub(super) fn decision(m: &Machine, old: &World, event: &Event, new: &World, actions: &[Action]) {
    let now = m.now;
    assert!(new.wake_at.is_none_or(|at| at > now.boot), "{event:?}: the next look is not in the future");
    stale_changes_nothing(old, event, new, now);
    for action in actions {
        if let Action::Start(start) = action {
            started(m, old, new, &start.name, now);
        }
    }
    for waiter in &new.waiters {
        assert!(waiter.deadline > now.boot, "{waiter:?} is overdue");
        wakes(new, waiter.deadline, "the deadline of a request");
    }
    told_of_new_holds(old, new, actions);
    for (name, l) in &new.loops {
        match &l.stage {
            Stage::Down { .. } => down(m, new, name, l, actions),
            Stage::Stopping { since, force: Force::Term, .. } => {
                let patience = new.config.loops[name].stop_timeout;
                wakes(new, since.plus(patience).boot, &format!("{name}: SIGKILL after stop_timeout"));
            }
            Stage::Up { .. } => up(m, new, name, l, actions),
            _ => {}
        }
        let (before, after) = (&old.loops[name].record, &l.record);
        assert!(after.epoch >= before.epoch, "the epoch of {name} went back");
        if matches!(before.wish, Wish::Stop { .. }) && after.wish == Wish::Run {
            assert!(matches!(event, Event::Asked { .. }), "{event:?} took back the stop of {name}");
        }
    }
}

fn notified(actions: &[Action], kind: &str, name: Option<&LoopName>) -> bool {
    actions.iter().any(|action| {
        matches!(action, Action::Notify(n) if n.kind == kind && (name.is_none() || n.loop_name.as_ref() == name))
    })
}

fn stale_changes_nothing(old: &World, event: &Event, new: &World, now: Now) {
    let (name, epoch) = match event {
        Event::Signals { name, epoch: Some(epoch), .. }
        | Event::Started { name, epoch, .. }
        | Event::StartFailed { name, epoch, .. }
        | Event::AgentGone { name, epoch }
        | Event::DeathRead { name, epoch, .. }
        | Event::Sampled { name, epoch, .. } => (name, *epoch),
        _ => return,
    };
    if old.loops[name].live_epoch() == Some(epoch) {
        return;
    }
    // What is due at this moment happens whatever the event is.
    let without = decide(old, Event::Tick, now);
    let Some(Action::Become(without)) = without.first() else { unreachable!() };
    assert_eq!(**without, *new, "{event:?} is stale and changed something");
}

/// A start, checked against what was true before the decision and not by what it decided.
fn started(m: &Machine, old: &World, new: &World, name: &LoopName, now: Now) {
    let l = &new.loops[name];
    let kinds: Vec<HoldKind> = lasting(new, name, l, &new.config.loops[name], now).iter().map(|h| h.kind).collect();
    assert!(kinds.is_empty(), "{name} was started while held: {kinds:?}");
    assert!(!m.promised.contains(name), "{name} was started although its stop was promised\n{}", m.tail());
    assert!(new.global.frozen.is_none() && l.record.drained.is_none() && new.mode == Mode::Running);
    assert_eq!(l.record.epoch, old.loops[name].record.epoch + 1);
    let before = &old.loops[name];
    assert!(now.boot >= before.record.budget.not_before().min(l.record.budget.not_before()), "{name}: before its time");
}

fn told_of_new_holds(old: &World, new: &World, actions: &[Action]) {
    for (name, l) in &new.loops {
        let before = &old.loops[name];
        if before.record.budget.crash_loop().is_none() && l.record.budget.crash_loop().is_some() {
            assert!(notified(actions, "crash-loop", Some(name)), "the crash loop of {name} was not notified");
        }
        if before.host.said == Said::No && l.host.said == Said::Yes {
            assert!(notified(actions, "session-host", Some(name)), "the missing host of {name} was not notified");
        }
        if before.life.undelivered == Said::No && l.life.undelivered == Said::Yes {
            assert!(notified(actions, "nudge", Some(name)), "the lost nudge of {name} was not notified");
        }
        if before.life.startup == Startup::Coming && l.life.startup == Startup::Overdue {
            assert!(notified(actions, "attention", Some(name)), "that {name} does not come up was not notified");
        }
        if before.life.attention == Said::No && l.life.attention == Said::Yes {
            assert!(notified(actions, "attention", Some(name)));
        }
    }
    for (account, state) in &new.global.accounts {
        if !old.global.accounts.get(account).is_some_and(|a| a.fault == state.fault) {
            let kind = match state.fault {
                crate::supervisor::core::accounts::Fault::Limit => "usage-limit",
                crate::supervisor::core::accounts::Fault::Login => "login",
            };
            assert!(notified(actions, kind, None), "the fault of account {account} was not notified");
        }
    }
    if !old.complete() && new.complete() && old.phase_move.is_some() {
        assert!(notified(actions, "complete", None), "the end of the last plan was not notified");
    }
}

/// The next look is at `at` or before.
fn wakes(world: &World, at: u64, what: &str) {
    assert!(
        world.wake_at.is_some_and(|wake| wake <= at),
        "{what} is due at {at}, and the next look at {:?}",
        world.wake_at
    );
}

fn down(m: &Machine, world: &World, name: &LoopName, l: &Loop, actions: &[Action]) {
    let now = m.now;
    let found = holds(world, name, now);
    assert!(!found.is_empty(), "{name} is down, nothing holds it, and it was not started\n{}", m.tail());
    let by_operator =
        [HoldKind::Ending, HoldKind::Stopped, HoldKind::Frozen, HoldKind::Drained, HoldKind::PlanComplete];
    if found.iter().any(|hold| by_operator.contains(&hold.kind)) {
        return;
    }
    let lasts = !lasting(world, name, l, &world.config.loops[name], now).is_empty();
    for hold in &found {
        // A start later in the same decision staggers those that wait for something else anyhow.
        if hold.kind != HoldKind::Stagger || found.len() == 1 {
            ends(m, world, name, l, actions, hold, lasts);
        }
    }
}

/// Something will look at this hold again.
fn ends(m: &Machine, world: &World, name: &LoopName, l: &Loop, actions: &[Action], hold: &Hold, lasts: bool) {
    let now = m.now;
    let what = format!("{name}: {hold:?}");
    if let Ends::Time { at } = hold.ends {
        let left = u64::try_from(at - now.wall).unwrap_or(0);
        wakes(world, now.boot + left.max(1), &what);
        let most = match hold.kind {
            HoldKind::Backoff => BACKOFF_MAX,
            HoldKind::CrashLoop => world.config.loops[name].crash_loop.within * RETRY_MAX_WINDOWS,
            _ => return,
        };
        assert!(left <= millis(most), "{what} lasts longer than {most:?}");
    }
    match hold.kind {
        HoldKind::AccountTrial => {
            let account = &world.global.accounts[&world.config.loops[name].account];
            let until = account.trial.as_ref().map_or(0, |t| t.until);
            wakes(world, now.boot + u64::try_from(until - now.wall).unwrap_or(0).max(1), &what);
        }
        HoldKind::SessionHostComing | HoldKind::NoSessionHost => match &l.host.status {
            HostStatus::Absent { next, .. } => wakes(world, *next, &what),
            HostStatus::Coming { since } => wakes(world, since.boot + 10_000, &what),
            HostStatus::Probing | HostStatus::Killed | HostStatus::Ready { .. } => {}
        },
        HoldKind::Needs if !lasts => {
            let waits = world.config.loops[name]
                .needs
                .iter()
                .any(|need| matches!(world.needs[need].probe, Probe::InFlight { .. }));
            assert!(waits || world.wake_at.is_some_and(|at| at <= now.boot + 30_000), "{what} is not probed again");
        }
        HoldKind::Memory if !lasts => {
            let asked = actions.iter().any(|a| matches!(a, Action::ReadMemory))
                || m.queue.iter().any(|due| matches!(due.event, Event::MemoryRead { .. }));
            assert!(asked || world.wake_at.is_some_and(|at| at <= now.boot + 5000), "{what} is not looked at again");
        }
        _ => {}
    }
    if let Ends::Operator { .. } = hold.ends {
        assert_eq!(l.host.said, Said::Yes, "{what}: nobody was told");
    }
}

fn up(m: &Machine, world: &World, name: &LoopName, l: &Loop, actions: &[Action]) {
    let now = m.now;
    if world.global.frozen.is_some() || world.mode != Mode::Running {
        return;
    }
    let waits = l.life.end_when_ready.is_some();
    assert!(
        waits || l.record.wish == Wish::Run && l.record.drained.is_none(),
        "{name} is up against the operator's will"
    );
    if !matches!(l.host.status, HostStatus::Ready { .. }) {
        return;
    }
    if world.config.loops[name].capabilities.says_ready && l.life.startup == Startup::Coming {
        if let Stage::Up { since } = l.stage {
            wakes(world, since.plus(READY_WITHIN).boot, &format!("{name}: that it does not come up"));
        }
    }
    let free = l.life.turn.takes_text();
    let shut = world.account(&world.config.loops[name]).is_some_and(|a| a.holds(name) != Gatekeeping::Free);
    let looks = actions.iter().any(|a| matches!(a, Action::LookForText { name: other, .. } if other == name))
        || m.queue.iter().any(|due| matches!(&due.event, Event::TextLookedFor { name: other, .. } if other == name));
    if let (Some(typed), true, false, false) = (&l.life.typed, free, shut, looks) {
        wakes(world, typed.at + millis(ACK_WAIT), &format!("{name}: a text that it did not take"));
    }
    if let (Turn::Person { since, .. }, Said::No) = (&l.life.turn, l.life.attention) {
        let at = since.plus(world.config.loops[name].attention_after).boot;
        assert!(now.boot < at, "{name} waits for a person and nobody was told");
        wakes(world, at, &format!("{name}: attention"));
    }
}

/// Between two events.
pub(super) fn state(m: &Machine) {
    let Some(world) = &m.world else { return };
    for (name, place) in &m.places {
        let alive = place.agents().len();
        assert!(alive <= 1, "{alive} agents of {name} run\n{}", m.tail());
        let l = &world.loops[name];
        if let (Stage::Down { since }, HostStatus::Ready { .. }) = (&l.stage, &l.host.status) {
            let settled = m.now.since(*since) > ABSENT_SAID * 2 && !place.frozen;
            let sane = place.server.as_ref().is_some_and(|s| !s.hung) && world.global.frozen.is_none();
            let unwatched = settled && sane && alive > 0 && m.landings.is_empty();
            assert!(!unwatched, "{name} is down, and an agent of it runs unwatched\n{}", m.tail());
        }
    }
    for name in &m.promised {
        let wish = |w: Wish| matches!(w, Wish::Stop { .. });
        assert!(wish(world.loops[name].record.wish), "the stop of {name} was undone\n{}", m.tail());
        assert!(m.disk.records.get(name).is_some_and(|r| wish(r.wish)), "the stop of {name} is not durable");
    }
    for (request, (what, latest)) in &m.pending {
        assert!(m.now.boot <= *latest, "request {request} waits for ever: {what:?}\n{}", m.tail());
    }
    if m.begun && !m.dirty {
        for (name, l) in &world.loops {
            assert!(
                m.disk.records.get(name).is_none_or(|r| *r == l.record),
                "the record of {name} is not what is true"
            );
        }
        assert_eq!(m.disk.gate, world.gate, "the gate is not what is true");
        if world.phase_move.is_none() {
            assert_eq!(Some(m.disk.phase), world.phase, "the phase is not what is true");
        }
    }
}
