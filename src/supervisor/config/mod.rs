//! What the operator wrote, checked and with every default filled in. This file has the types only: `read` and what it
//! uses is pure; `check`, `file` and `programs` look at the machine.

pub mod check;
mod cross;
mod file;
mod hash;
pub mod keys;
mod loops;
pub mod placeholders;
pub mod programs;
mod read;

pub use crate::support::config::report;
use crate::support::config::walk;
pub use check::LARGEST_PROMPT;
pub use file::{NotFound, find, read_file, read_text};
pub use read::{ConfigErrors, Loaded, read, read_with};

use super::agents::{Adapter, Capabilities};
use super::names::{AccountName, LoopName, NeedName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A whole configuration. Every path is absolute.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that this was read from.
    pub file: PathBuf,
    /// The folder that the loops' workdirs, plans and prompts are relative to.
    pub workspace: PathBuf,
    /// Where what must survive a reboot is kept.
    pub state_dir: PathBuf,
    /// Where sockets are; on a tmpfs.
    pub runtime_dir: PathBuf,
    /// Who keeps the tmux servers.
    pub host: HostKind,
    /// The program (and its arguments) that gets each notification as one JSON object on stdin; empty: none.
    pub notify: Vec<String>,
    /// No agent is started while MemAvailable + SwapFree / 2 is below this many bytes; 0: no limit.
    pub min_free_memory: u64,
    /// The least time between the starts of two agents, but for an immediate restart.
    pub start_stagger: Duration,
    /// The ordered plans; `None` when the config has no `[phases]`.
    pub phases: Option<PhasesConfig>,
    /// The loops by name.
    pub loops: BTreeMap<LoopName, Arc<LoopConfig>>,
    /// What loops need before they start, by name.
    pub needs: BTreeMap<NeedName, NeedConfig>,
}

/// Who keeps the tmux servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostKind {
    /// The unit `cc-ci-session@NAME.service`.
    Systemd,
    /// The supervisor spawns them itself.
    Direct,
}

/// `[phases]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhasesConfig {
    /// The file that holds the index of the current plan.
    pub index_file: PathBuf,
    /// The plans in order, as absolute paths.
    pub plans: Vec<PathBuf>,
    /// What moves the index forward.
    pub advance_on: AdvanceOn,
    /// A claim without verdict, or a fail without new claim, for this long nudges whoever's turn it is.
    pub gate_patience: Duration,
}

/// What moves the phase index forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdvanceOn {
    /// A passed gate does.
    GatePass,
    /// Only `phase advance` and `phase set`.
    Manual,
}

/// `[loops.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopConfig {
    /// The adapter that knows this kind of agent.
    pub adapter: &'static dyn Adapter,
    /// What that adapter can do, for the deciding code, which knows no agent by name.
    pub capabilities: Capabilities,
    /// The program and its arguments, for the `command` adapter; placeholders not yet filled in.
    pub command: Vec<String>,
    /// More arguments for an agent that brings its own program; placeholders not yet filled in.
    pub args: Vec<String>,
    /// Where the agent runs.
    pub workdir: PathBuf,
    /// The prompt file of a fresh session.
    pub kickoff: Option<PathBuf>,
    /// The prompt file of a fresh session that takes over from one that was lost or full; default: the kickoff.
    pub handoff: Option<PathBuf>,
    /// Files of `KEY=value` lines put into the agent's environment.
    pub env_files: Vec<PathBuf>,
    /// What must be there before a start.
    pub needs: Vec<NeedName>,
    /// Loops of one account share usage limits and login.
    pub account: AccountName,
    /// Its part in gates.
    pub role: Option<Role>,
    /// Held once the last plan is done.
    pub follows_phases: bool,
    /// What a move of the phase does to a running agent.
    pub on_phase: OnPhase,
    /// No sign of life for this long is a stall; `None`: never.
    pub stall_after: Option<Duration>,
    /// An agent that ran this long has proved itself: backoff and deaths start anew.
    pub stable_after: Duration,
    /// Waiting for a person this long is notified.
    pub attention_after: Duration,
    /// How many deaths within which time are a crash loop.
    pub crash_loop: CrashLoop,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
    /// A planned restart at a turn's end when the agent uses more bytes than this.
    pub restart_above: Option<u64>,
    /// What a changed definition does to a running agent.
    pub on_change: OnChange,
    /// What is said to an agent whose turn ended and that did nothing since.
    pub on_idle: Option<OnIdle>,
    /// SHA-256 of everything that makes a running agent differ, in hex.
    pub hash: String,
}

/// A loop's part in gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Claims that a phase is done.
    Claims,
    /// Passes or fails a claim.
    Verifies,
}

/// `crash_loop = { deaths = 5, within = "15m" }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashLoop {
    /// This many deaths …
    pub deaths: u32,
    /// … within this time.
    pub within: Duration,
}

/// What a changed definition does to a running agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnChange {
    /// Nothing; the next start takes it.
    NextStart,
    /// A planned restart when its turn has ended.
    TurnEnd,
    /// A planned restart at once.
    Now,
}

/// What a move of the phase does to a running agent that follows phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnPhase {
    /// It is told the new plan.
    Nudge,
    /// A planned restart with a fresh session when its turn has ended.
    Restart,
}

/// `on_idle = { nudge = "…", after = "2m" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnIdle {
    /// The text; placeholders not yet filled in.
    pub nudge: String,
    /// How long after the turn's end.
    pub after: Duration,
}

/// `[needs.NAME]`: exactly one way to find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NeedConfig {
    /// There when this exits with 0.
    Command(Vec<String>),
    /// There when this systemd unit is active.
    Unit(String),
    /// There when `host:port` accepts a connection.
    Tcp(String),
    /// There when this file exists.
    File(PathBuf),
}
