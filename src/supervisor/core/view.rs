//! What a person or a script is shown of the world. The shape is documented in docs/status.md.

use super::gates::{Gate, GateState};
use super::holds::{Ends, Hold, holds};
use super::stage::{Stage, StageKind};
use super::world::{HostStatus, Loop, NeedState, Stall, Turn, World};
use crate::supervisor::config::OnChange;
use crate::supervisor::names::LoopName;
use crate::support::clock::{Now, format_time};
use crate::support::units::short_duration;
use serde::{Deserialize, Serialize};

/// The version of the shape of `status --json`; grows when a field changes its meaning or goes away.
pub const STATUS_VERSION: u32 = 1;

/// What every loop is doing. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// [`STATUS_VERSION`].
    pub version: u32,
    /// When this was true.
    pub at: i64,
    /// Whether a daemon answered.
    pub daemon: DaemonState,
    /// Since when everything is frozen.
    pub frozen: Option<i64>,
    /// Why the state cannot be written, while it cannot.
    #[serde(default)]
    pub unwritable: Option<String>,
    /// Until when a drain is waited for.
    pub draining_until: Option<i64>,
    /// The current phase; absent without `[phases]`.
    pub phase: Option<PhaseView>,
    /// Its gate; absent without `[phases]`.
    pub gate: Option<GateView>,
    /// Accounts that are not simply open, a line each.
    pub accounts: Vec<AccountView>,
    /// What loops need.
    pub needs: Vec<NeedView>,
    /// The loops.
    pub loops: Vec<LoopView>,
}

/// Whether a daemon answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaemonState {
    /// It did; everything is as it is now.
    Running,
    /// It did not; what is shown is what it wrote last.
    Down,
}

/// One loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopView {
    /// Its name.
    pub name: LoopName,
    /// The word for its state: `up`, `held`, `starting`, `stopping`, `clearing`, `adopting`, `frozen`, `down`.
    pub state: String,
    /// Since when.
    pub since: Option<i64>,
    /// The phase that its agent works in.
    pub phase: Option<usize>,
    /// Its epoch.
    pub epoch: u64,
    /// Restarts after deaths since the loop exists.
    pub restarts: u64,
    /// Memory of the agent and its children, in bytes.
    pub memory: Option<u64>,
    /// The agent's process.
    pub pid: Option<i32>,
    /// Its tmux server's process.
    pub server_pid: Option<i32>,
    /// The last sign of life.
    pub last_sign: Option<i64>,
    /// What it was.
    pub sign: Option<String>,
    /// Its turn: `busy`, `tool`, `idle`, `person`, `overloaded`, `unknown`.
    pub turn: Option<String>,
    /// What it waits for, in a few words.
    pub waits_for: Option<String>,
    /// Why it is not running, the one to show first.
    pub holds: Vec<Hold>,
    /// Whether its agent runs an older definition than the config has.
    pub older_definition: bool,
    /// What it died of last.
    pub last_death: Option<String>,
}

/// One account that is not simply open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountView {
    /// Its name.
    pub name: String,
    /// What is wrong, until when.
    pub text: String,
    /// The next try.
    pub release_at: i64,
}

/// One need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeedView {
    /// Its name.
    pub name: String,
    /// `there`, `missing`, `unknown`.
    pub state: String,
    /// Since when.
    pub since: Option<i64>,
    /// What the probe said.
    pub why: Option<String>,
}

/// The current phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseView {
    /// Zero-based; `total` means complete. Absent while it is not loaded, or without `[phases]`.
    pub index: Option<usize>,
    /// How many plans there are.
    pub total: usize,
    /// The current plan's file.
    pub plan: Option<String>,
    /// Whether the last plan is done.
    pub complete: bool,
}

impl PhaseView {
    /// One line.
    pub fn text(&self) -> String {
        match (self.index, &self.plan) {
            (None, _) => "no phases".to_owned(),
            (Some(_), _) if self.complete => format!("all {} phases are complete", self.total),
            (Some(index), plan) => {
                format!("phase {index} (of 0 to {}): {}", self.total.saturating_sub(1), plan.as_deref().unwrap_or("?"))
            }
        }
    }
}

/// The gate of the current phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateView {
    /// The gate.
    #[serde(flatten)]
    pub gate: Gate,
    /// What advances the phase.
    pub advance_on: crate::supervisor::config::AdvanceOn,
}

impl GateView {
    /// One line.
    pub fn text(&self) -> String {
        let phase = self.gate.phase;
        let commit = |c: &Option<String>| c.as_deref().map(|c| format!(" at {c}")).unwrap_or_default();
        match &self.gate.state {
            GateState::Open => format!("phase {phase}: nothing is claimed"),
            GateState::Claimed { by, commit: c, .. } => format!("phase {phase}: claimed by {by}{}", commit(c)),
            GateState::Failed { by, commit: c, reason, .. } => {
                let reason = reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
                format!("phase {phase}: the claim{} was failed by {by}{reason}", commit(c))
            }
            GateState::Passed { by, commit: c, .. } => format!("phase {phase}: passed by {by}{}", commit(c)),
        }
    }
}

/// What one loop is doing, and what comes next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// The loop.
    #[serde(flatten)]
    pub view: LoopView,
    /// Since when and what, in a sentence.
    pub doing: String,
    /// What happens next and when, a line each.
    pub next: Vec<String>,
}

/// The phase.
pub fn phase_view(world: &World) -> PhaseView {
    let plans = world.config.phases.as_ref().map(|p| p.plans.as_slice()).unwrap_or_default();
    let plan = world.phase.and_then(|index| plans.get(index)).map(|plan| plan.display().to_string());
    PhaseView { index: world.phase, total: plans.len(), plan, complete: world.complete() }
}

/// The gate.
pub fn gate_view(world: &World) -> GateView {
    let advance_on =
        world.config.phases.as_ref().map_or(crate::supervisor::config::AdvanceOn::Manual, |p| p.advance_on);
    let index = world.phase.unwrap_or(0);
    let gate =
        if world.gate.phase == index { world.gate.clone() } else { Gate { phase: index, state: GateState::Open } };
    GateView { gate, advance_on }
}

/// Everything.
pub fn status(world: &World, now: Now) -> StatusView {
    let has_phases = world.config.phases.is_some();
    StatusView {
        version: STATUS_VERSION,
        at: now.wall,
        daemon: DaemonState::Running,
        frozen: world.global.frozen.map(|n| n.wall),
        unwritable: world.unwritable.clone(),
        draining_until: world.global.drain.map(|d| d.until),
        phase: has_phases.then(|| phase_view(world)),
        gate: has_phases.then(|| gate_view(world)),
        accounts: world
            .global
            .accounts
            .iter()
            .map(|(name, account)| {
                let what = match account.fault {
                    super::accounts::Fault::Limit => "usage limit reached",
                    super::accounts::Fault::Login => "not logged in",
                };
                let next = match &account.trial {
                    Some(trial) => format!("being tried with {}", trial.candidate),
                    None => format!("tried again at {}", format_time(account.release_at)),
                };
                AccountView {
                    name: name.to_string(),
                    text: format!("{what} ({}); {next}", account.evidence),
                    release_at: account.release_at,
                }
            })
            .collect(),
        needs: world
            .needs
            .iter()
            .map(|(name, need)| {
                let (state, since, why) = match &need.state {
                    NeedState::Unknown => ("unknown", None, None),
                    NeedState::There { since } => ("there", Some(since.wall), None),
                    NeedState::Missing { since, why } => ("missing", Some(since.wall), Some(why.clone())),
                };
                NeedView { name: name.to_string(), state: state.to_owned(), since, why }
            })
            .collect(),
        loops: world.loops.iter().map(|(name, l)| loop_view(world, name, l, now)).collect(),
    }
}

/// The word for a loop's state.
pub fn state_word(world: &World, name: &LoopName, now: Now) -> &'static str {
    let Some(l) = world.loops.get(name) else { return "unknown" };
    match l.stage.kind() {
        StageKind::Adopting => "adopting",
        StageKind::Starting => "starting",
        StageKind::Up if world.global.frozen.is_some() => "frozen",
        StageKind::Up => "up",
        StageKind::Stopping => "stopping",
        StageKind::Dying | StageKind::Clearing => "clearing",
        StageKind::Down if holds(world, name, now).is_empty() => "down",
        StageKind::Down => "held",
    }
}

fn loop_view(world: &World, name: &LoopName, l: &Loop, now: Now) -> LoopView {
    let live = !matches!(l.stage.kind(), StageKind::Down | StageKind::Clearing | StageKind::Adopting);
    let agent = l.record.agent.as_ref().filter(|_| live);
    let config = world.config.loops.get(name);
    let holds = if matches!(l.stage, Stage::Down { .. }) { holds(world, name, now) } else { Vec::new() };
    let since = match &l.stage {
        Stage::Adopting => None,
        Stage::Up { .. } => agent.map(|a| a.started.wall),
        Stage::Down { since } => holds.first().and_then(|h| h.since).or(Some(since.wall)),
        Stage::Starting { since, .. }
        | Stage::Stopping { since, .. }
        | Stage::Dying { since, .. }
        | Stage::Clearing { since } => Some(since.wall),
    };
    let older = matches!((agent, config), (Some(agent), Some(config)) if agent.hash != config.hash);
    let up = l.stage.kind() == StageKind::Up;
    LoopView {
        name: name.clone(),
        state: state_word(world, name, now).to_owned(),
        since,
        phase: agent.and_then(|a| a.phase),
        epoch: l.live_epoch().unwrap_or(l.record.epoch),
        restarts: l.record.restarts,
        memory: l.life.memory.map(|(bytes, _)| bytes).filter(|bytes| up && *bytes > 0),
        pid: agent.and_then(|a| a.process).map(|p| p.pid),
        server_pid: match l.host.status {
            HostStatus::Ready { server, .. } => Some(server.pid),
            _ => None,
        },
        last_sign: l.life.last_sign.map(|n| n.wall).filter(|_| up),
        sign: up.then(|| l.life.sign.clone()),
        turn: up.then(|| turn_word(&l.life.turn).to_owned()),
        waits_for: waits_for(world, name, l, &holds, older),
        holds,
        older_definition: older,
        last_death: l.record.last_death.as_ref().map(|d| format!("{} at {}", d.cause, format_time(d.at.wall))),
    }
}

fn turn_word(turn: &Turn) -> &'static str {
    match turn {
        Turn::Unknown => "unknown",
        Turn::Busy { .. } => "busy",
        Turn::Tool { .. } => "tool",
        Turn::Idle { .. } => "idle",
        Turn::Person { .. } => "person",
        Turn::Overloaded { .. } => "overloaded",
    }
}

fn waits_for(world: &World, name: &LoopName, l: &Loop, holds: &[Hold], older: bool) -> Option<String> {
    if let Some(hold) = holds.first() {
        let ends = match &hold.ends {
            Ends::Time { at } => format!(", until {}", format_time(*at)),
            Ends::Operator { .. } | Ends::Condition { .. } => String::new(),
        };
        return Some(format!("{}{ends}", hold.what));
    }
    if !matches!(l.stage, Stage::Up { .. }) {
        return None;
    }
    let config = world.config.loops.get(name)?;
    if let Some(account) = world.account(config).filter(|a| a.holds(name) != super::accounts::Gatekeeping::Free) {
        let what = match account.fault {
            super::accounts::Fault::Limit => "usage limit",
            super::accounts::Fault::Login => "login",
        };
        return Some(format!("{what} of account {}, until {}", config.account, format_time(account.release_at)));
    }
    match &l.life.turn {
        Turn::Person { what, .. } => return Some(format!("a person: {what}")),
        Turn::Overloaded { .. } => return Some("an overloaded server".to_owned()),
        Turn::Unknown | Turn::Busy { .. } | Turn::Tool { .. } | Turn::Idle { .. } => {}
    }
    if l.life.undelivered == super::world::Said::Yes {
        return Some("a person: what is typed does not reach it".to_owned());
    }
    match l.life.stall {
        Stall::Suspected { .. } => return Some("a sign of life (stall suspected)".to_owned()),
        Stall::Nudged { .. } => return Some("a sign of life (nudged)".to_owned()),
        Stall::None => {}
    }
    if let Some(why) = l.life.end_after_turn {
        return Some(format!("its turn's end: {}", why.text()));
    }
    if world.global.drain.is_some() {
        return Some(format!("a safe point: {}", l.unsafe_because.as_deref().unwrap_or("being looked at")));
    }
    older.then(|| "runs an older definition".to_owned())
}

/// One loop in full; `None` for a name that the config does not have.
pub fn explain(world: &World, name: &LoopName, now: Now) -> Option<ExplainView> {
    let (l, config) = world.get(name)?;
    let view = loop_view(world, name, l, now);
    let since = view.since.map(|at| format!(" since {}", format_time(at))).unwrap_or_default();
    let doing = match &l.stage {
        Stage::Down { .. } => match view.holds.first() {
            Some(hold) => format!("held{since}: {}", hold.what),
            None => format!("down{since}, about to start"),
        },
        Stage::Up { .. } if world.global.frozen.is_some() => format!("stopped in place{since} (frozen)"),
        Stage::Up { .. } => {
            let silent = l.life.last_sign.map(|at| short_duration(now.since(at))).unwrap_or_default();
            format!(
                "up{since}, pid {}, epoch {}; turn: {}; last sign of life {silent} ago ({})",
                view.pid.unwrap_or(0),
                view.epoch,
                turn_word(&l.life.turn),
                l.life.sign
            )
        }
        Stage::Stopping { why, .. } => format!("being ended{since} because {}", why.text()),
        Stage::Adopting => "being looked for".to_owned(),
        Stage::Starting { .. } => format!("being started{since}"),
        Stage::Dying { .. } | Stage::Clearing { .. } => format!("what its agent left behind is being cleared{since}"),
    };
    let mut next: Vec<String> = view.holds.iter().map(hold_line).collect();
    if let Stage::Up { since } = &l.stage {
        let since = l.record.agent.as_ref().map_or(*since, |agent| agent.started);
        next.extend(next_of_running(l, config, since, now, view.older_definition));
    } else if let Stage::Stopping { since, .. } = &l.stage {
        next.push(format!("SIGKILL at {} if it still runs", format_time(since.plus(config.stop_timeout).wall)));
    }
    if next.is_empty() {
        next.push("nothing is due; the next event decides".to_owned());
    }
    Some(ExplainView { view, doing, next })
}

fn hold_line(hold: &Hold) -> String {
    match &hold.ends {
        Ends::Time { at } => format!("{}: ends at {}", hold.what, format_time(*at)),
        Ends::Operator { command } => format!("{}: ended by `{command}`", hold.what),
        Ends::Condition { text } => format!("{}: ends when {text}", hold.what),
    }
}

fn next_of_running(
    l: &Loop,
    config: &crate::supervisor::config::LoopConfig,
    since: Now,
    now: Now,
    older: bool,
) -> Vec<String> {
    let mut next = Vec::new();
    if let (Some(stall), Some(sign)) = (config.stall_after, l.life.last_sign) {
        if matches!(l.life.turn, Turn::Unknown | Turn::Busy { .. }) {
            let at = format_time(sign.plus(stall).wall);
            next.push(format!("without a sign of life by {at} it is looked at, nudged, then restarted"));
        }
    }
    if let (Some(on_idle), Turn::Idle { since }) = (&config.on_idle, &l.life.turn) {
        let at = format_time(since.plus(on_idle.after).wall);
        next.push(format!("nudged as idle from {at} on: {:?}", on_idle.nudge));
    }
    if let Turn::Person { since, what } = &l.life.turn {
        let at = format_time(since.plus(config.attention_after).wall);
        next.push(format!("it waits for a person ({what}); notified at {at}, never killed for it"));
    }
    if !l.record.budget.is_clean() {
        let at = since.plus(config.stable_after);
        let left = at.boot.saturating_sub(now.boot);
        if left > 0 {
            next.push(format!("counts as stable again at {}", format_time(at.wall)));
        }
    }
    if let Some(why) = l.life.end_after_turn {
        next.push(format!("restarted when its turn has ended, because {}", why.text()));
    }
    if older {
        next.push(match config.on_change {
            OnChange::NextStart => {
                "it runs an older definition; the next start takes the new one (`supervisor restart`)".to_owned()
            }
            OnChange::TurnEnd | OnChange::Now => "restarted with the new definition when its turn has ended".to_owned(),
        });
    }
    let death = if l.record.budget.next_is_free() { "at once" } else { "after a backoff" };
    next.push(format!("if it dies it is started again {death}"));
    next
}
