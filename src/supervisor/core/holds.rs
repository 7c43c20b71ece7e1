//! Why a loop is not running now: named, dated, explained, with what ends it.

use super::accounts::Gatekeeping;
use super::host::{ABSENT_SAID, NOT_ENDED, host_remedy};
use super::world::{HostStatus, Loop, Mode, NeedState, Wish, World};
use crate::supervisor::config::LoopConfig;
use crate::supervisor::names::LoopName;
use crate::support::clock::Now;
use crate::support::units::{short_duration, short_size};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A look at free memory older than this says nothing about a start.
pub(super) const MEMORY_FRESH: Duration = Duration::from_secs(2);
/// A probe of a need older than this says nothing about a start.
pub(super) const NEED_FRESH: Duration = Duration::from_secs(30);

/// A reason for which a loop is not running now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// A word for scripts.
    pub kind: HoldKind,
    /// For a person: `needs proxy`.
    pub what: String,
    /// Since when, in milliseconds since the Unix epoch, if known.
    pub since: Option<i64>,
    /// What ends it.
    pub ends: Ends,
}

/// The kinds of holds, the ones that last first: the first of a loop's holds is the one that `status` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldKind {
    /// The supervisor is ending.
    Ending,
    /// `supervisor stop`.
    Stopped,
    /// `supervisor freeze`.
    Frozen,
    /// `supervisor drain`.
    Drained,
    /// The last plan is done.
    PlanComplete,
    /// The account is not logged in.
    Login,
    /// The account's usage limit is reached.
    UsageLimit,
    /// The account is tried with another loop first.
    AccountTrial,
    /// Too many deaths.
    CrashLoop,
    /// A death not long ago.
    Backoff,
    /// The start itself failed.
    StartFailed,
    /// No tmux server.
    NoSessionHost,
    /// The tmux server is being made.
    SessionHostComing,
    /// Something that it needs is not there.
    Needs,
    /// Too little free memory.
    Memory,
    /// Another agent was started a moment ago.
    Stagger,
}

/// What ends a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Ends {
    /// This moment, in milliseconds since the Unix epoch.
    Time {
        /// It.
        at: i64,
    },
    /// The operator, with this command.
    Operator {
        /// It.
        command: String,
    },
    /// Something that the supervisor watches.
    Condition {
        /// It, in words.
        text: String,
    },
}

/// Every hold of a loop, the one to show first. Empty means that it can start now.
pub fn holds(world: &World, name: &LoopName, now: Now) -> Vec<Hold> {
    let Some((l, config)) = world.get(name) else { return Vec::new() };
    let mut holds = lasting(world, name, l, config, now);
    holds.extend(passing(world, name, l, config, now));
    holds.sort_by_key(|hold| hold.kind);
    holds
}

/// The holds that do not pass by themselves within moments. While there is one, nothing is probed or prepared.
pub(super) fn lasting(world: &World, name: &LoopName, l: &Loop, config: &LoopConfig, now: Now) -> Vec<Hold> {
    let mut holds = Vec::new();
    let mut add = |kind, what: String, since: Option<i64>, ends| holds.push(Hold { kind, what, since, ends });
    if world.mode != Mode::Running {
        add(
            HoldKind::Ending,
            "the supervisor is ending".into(),
            world.global.ended.map(|n| n.wall),
            Ends::Operator { command: "supervisor run".into() },
        );
    }
    if let Wish::Stop { since } = l.record.wish {
        let command = format!("supervisor start {name}");
        add(HoldKind::Stopped, "stopped by the operator".into(), Some(since.wall), Ends::Operator { command });
    }
    if let Some(since) = world.global.frozen {
        let command = "supervisor thaw".into();
        add(HoldKind::Frozen, "frozen by the operator".into(), Some(since.wall), Ends::Operator { command });
    }
    if let Some(since) = l.record.drained {
        let command = "supervisor start --all".into();
        add(HoldKind::Drained, "drained at a safe point".into(), Some(since.wall), Ends::Operator { command });
    }
    if config.follows_phases && world.complete() {
        let command = "supervisor phase set N".into();
        add(HoldKind::PlanComplete, "the last plan is done".into(), None, Ends::Operator { command });
    }
    if let Some(account) = world.account(config) {
        match account.holds(name) {
            Gatekeeping::Free => {}
            Gatekeeping::Limit { until } => add(
                HoldKind::UsageLimit,
                format!("usage limit of account {}", config.account),
                Some(account.since()),
                Ends::Time { at: until },
            ),
            Gatekeeping::Login { retry } => add(
                HoldKind::Login,
                format!("account {} is not logged in", config.account),
                Some(account.since()),
                Ends::Time { at: retry },
            ),
            Gatekeeping::Trial { candidate } => add(
                HoldKind::AccountTrial,
                format!("account {} is tried with {candidate} first", config.account),
                Some(account.since()),
                Ends::Condition { text: format!("a good turn of {candidate}") },
            ),
        }
    }
    let wall_of = |boot: u64| now.wall.saturating_add(i64::try_from(boot.saturating_sub(now.boot)).unwrap_or(0));
    if let Some(crash) = l.record.budget.crash_loop() {
        if now.boot < crash.retry_at {
            let within = short_duration(config.crash_loop.within);
            let what = format!("crash loop: {} deaths within {within}", config.crash_loop.deaths);
            add(HoldKind::CrashLoop, what, Some(crash.since.wall), Ends::Time { at: wall_of(crash.retry_at) });
        }
    } else if now.boot < l.record.budget.not_before() {
        let what = match &l.record.last_death {
            Some(death) => format!("backoff: {}", death.cause),
            None => "backoff".into(),
        };
        let since = l.record.last_death.as_ref().map(|death| death.at.wall);
        add(HoldKind::Backoff, what, since, Ends::Time { at: wall_of(l.record.budget.not_before()) });
    }
    if let Some(failure) = &l.start_failure {
        if now.boot < failure.retry_at {
            add(HoldKind::StartFailed, failure.error.clone(), None, Ends::Time { at: wall_of(failure.retry_at) });
        }
    }
    holds
}

/// The holds that the supervisor waits out, probing or preparing.
pub(super) fn passing(world: &World, name: &LoopName, l: &Loop, config: &LoopConfig, now: Now) -> Vec<Hold> {
    let mut holds = Vec::new();
    let mut add = |kind, what: String, since: Option<Now>, ends| {
        holds.push(Hold { kind, what, since: since.map(|n| n.wall), ends });
    };
    let absent_long = l.host.absent_since.is_some_and(|s| now.since(s) >= ABSENT_SAID);
    match &l.host.status {
        HostStatus::Ready { .. } => {}
        HostStatus::Killed if absent_long => add(
            HoldKind::NoSessionHost,
            format!("no session host: {NOT_ENDED}"),
            l.host.absent_since,
            Ends::Operator { command: host_remedy(world.config.host, name) },
        ),
        HostStatus::Absent { why, .. } if absent_long => add(
            HoldKind::NoSessionHost,
            format!("no session host: {why}"),
            l.host.absent_since,
            Ends::Operator { command: host_remedy(world.config.host, name) },
        ),
        HostStatus::Coming { .. } if l.host.absent_since.is_some_and(|s| now.since(s) >= ABSENT_SAID) => add(
            HoldKind::NoSessionHost,
            "no session host: it does not come up".into(),
            l.host.absent_since,
            Ends::Operator { command: host_remedy(world.config.host, name) },
        ),
        _ => add(
            HoldKind::SessionHostComing,
            "its tmux server is coming up".into(),
            l.host.absent_since,
            Ends::Condition { text: "the tmux server answers".into() },
        ),
    }
    for need in &config.needs {
        let state = world.needs.get(need).map(|n| (&n.state, fresh_need(world, need, now)));
        match state {
            Some((NeedState::There { .. }, true)) => {}
            Some((NeedState::Missing { since, why }, _)) => add(
                HoldKind::Needs,
                format!("needs {need}: {why}"),
                Some(*since),
                Ends::Condition { text: format!("the probe of {need} succeeds") },
            ),
            _ => add(
                HoldKind::Needs,
                format!("needs {need}: being probed"),
                None,
                Ends::Condition { text: format!("the probe of {need} succeeds") },
            ),
        }
    }
    let least = world.config.min_free_memory;
    if least > 0 && !(fresh_memory(world, now) && world.memory.free >= least) {
        let what = if world.memory.at.is_none() {
            "free memory is being read".into()
        } else {
            format!("{} free, min_free_memory is {}", short_size(world.memory.free), short_size(least))
        };
        add(HoldKind::Memory, what, None, Ends::Condition { text: "memory becomes free".into() });
    }
    if let Some(at) = stagger_until(world, l, now) {
        let left = i64::try_from(at - now.boot).unwrap_or(0);
        let what = "another agent was started a moment ago".into();
        add(HoldKind::Stagger, what, None, Ends::Time { at: now.wall.saturating_add(left) });
    }
    holds
}

/// When the stagger allows this loop's start, if it does not now. The immediate restart after a death is not staggered.
pub(super) fn stagger_until(world: &World, l: &Loop, now: Now) -> Option<u64> {
    let last = world.last_start?;
    let restarted = l.record.budget.deaths() == 1 && l.record.budget.not_before() == 0;
    let at = last.saturating_add(crate::support::clock::millis(world.config.start_stagger));
    (!restarted && now.boot < at).then_some(at)
}

/// Whether the last look at free memory is recent enough for a start.
pub(super) fn fresh_memory(world: &World, now: Now) -> bool {
    world.memory.at.is_some_and(|at| now.boot.saturating_sub(at) <= crate::support::clock::millis(MEMORY_FRESH))
}

/// Whether the last probe of a need is recent enough for a start.
pub(super) fn fresh_need(world: &World, need: &crate::supervisor::names::NeedName, now: Now) -> bool {
    use super::world::Probe;
    world.needs.get(need).is_some_and(|need| match need.probe {
        Probe::Idle { last: Some(at), .. } => now.boot.saturating_sub(at) <= crate::support::clock::millis(NEED_FRESH),
        Probe::Idle { last: None, .. } | Probe::InFlight { .. } => false,
    })
}
