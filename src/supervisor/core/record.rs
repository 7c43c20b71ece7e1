//! What of the world survives the supervisor and a reboot; each type is part of a state file.

use super::accounts::Account;
use super::budget::RestartBudget;
use super::stage::StopWhy;
use crate::supervisor::agents::{Prompt, Session};
use crate::supervisor::names::AccountName;
use crate::support::clock::Now;
use crate::support::process::{BootId, ProcId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What holds for all loops and survives the supervisor and a reboot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GlobalRecord {
    /// `supervisor freeze`, since when.
    #[serde(default)]
    pub frozen: Option<Now>,
    /// `supervisor drain` under way.
    #[serde(default)]
    pub drain: Option<Drain>,
    /// The supervisor ended on purpose at this moment: deaths after that are no crashes.
    #[serde(default)]
    pub ended: Option<Now>,
    /// Limits and login of each account that is not simply open.
    #[serde(default)]
    pub accounts: BTreeMap<AccountName, Account>,
}

/// `supervisor drain` under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Since when.
    pub since: Now,
    /// Given up at this moment, in milliseconds since the Unix epoch (a reboot in between must not extend it).
    pub until: i64,
}

/// What of a loop survives the supervisor and a reboot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopRecord {
    /// The boot that the process identities and the budget are of.
    pub boot_id: BootId,
    /// What the operator wants.
    pub wish: Wish,
    /// Drained at a safe point, since when.
    #[serde(default)]
    pub drained: Option<Now>,
    /// Grows with each start of the agent, for ever.
    pub epoch: u64,
    /// The agent that was last started, or is about to be; `None` once its death was dealt with.
    #[serde(default)]
    pub agent: Option<AgentRecord>,
    /// The uuid of the last session.
    #[serde(default)]
    pub session: Option<String>,
    /// The phase that the last session knows of.
    #[serde(default)]
    pub session_phase: Option<usize>,
    /// The word of the gate that the last session knows of, by its time in milliseconds since the Unix epoch.
    #[serde(default)]
    pub session_gate: Option<i64>,
    /// The tmux server.
    #[serde(default)]
    pub server: Option<ProcId>,
    /// Deaths and what they allow.
    #[serde(default)]
    pub budget: RestartBudget,
    /// What the next start does about the session.
    #[serde(default)]
    pub next_session: NextSession,
    /// Restarts after deaths since the loop exists.
    #[serde(default)]
    pub restarts: u64,
    /// The last death.
    #[serde(default)]
    pub last_death: Option<Death>,
    /// What it is told to go on with after a refusal, until it took a prompt.
    #[serde(default)]
    pub go_on: Option<String>,
    /// Resumed agents in a row that came up and died before they took a prompt.
    #[serde(default)]
    pub short_resumes: u32,
}

/// What the operator wants of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "wish")]
pub enum Wish {
    /// Keep it running.
    Run,
    /// Keep it stopped.
    Stop {
        /// Since when.
        since: Now,
    },
}

/// An agent that was started or is about to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Its epoch.
    pub epoch: u64,
    /// Its process; `None` while only the intent is known.
    #[serde(default)]
    pub process: Option<ProcId>,
    /// When the intent was written.
    pub started: Now,
    /// The hash of the definition that it runs.
    pub hash: String,
    /// The phase that it was started in or told of.
    #[serde(default)]
    pub phase: Option<usize>,
    /// The word of the gate that it was told, by its time in milliseconds since the Unix epoch.
    #[serde(default)]
    pub gate: Option<i64>,
    /// What it last told of its turns.
    #[serde(default)]
    pub turns: Turns,
    /// Its session.
    pub session: Session,
    /// Whether it was told to end, and why.
    #[serde(default)]
    pub told: Option<StopWhy>,
    /// The file that its session is written to, if it said so.
    #[serde(default)]
    pub transcript: Option<PathBuf>,
    /// When its last turn began, in milliseconds since the Unix epoch, as far as it is known.
    #[serde(default)]
    pub turn_began: Option<i64>,
    /// How many of its children the kernel killed for memory, as far as was said.
    #[serde(default)]
    pub children_oom_killed: u64,
}

impl AgentRecord {
    /// What comes after one that names its session itself: a session that nobody told of, or that was never given its
    /// prompt, is begun again.
    pub fn resumable(&self) -> NextSession {
        match (&self.session, self.turns) {
            (Session::Fresh { prompt: Prompt::Kickoff, .. }, Turns::Untold) => NextSession::Kickoff,
            (Session::Fresh { prompt: Prompt::Handoff, .. }, Turns::Untold) => NextSession::Handoff,
            (Session::Fresh { .. } | Session::Resume { .. }, _) => NextSession::Resume,
        }
    }

    /// What is older than this says nothing of its turn; in milliseconds since the Unix epoch.
    pub fn turn_since(&self) -> i64 {
        self.turn_began.unwrap_or(self.started.wall).max(self.started.wall)
    }
}

/// What an agent last told of its turns, as far as the next supervisor must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turns {
    /// It has not yet, and may never.
    #[default]
    Untold,
    /// It is in one: nothing may cut it.
    Busy,
    /// Its last one has ended: it can be spoken to, held and restarted.
    Over,
}

/// What the next start does about the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextSession {
    /// A fresh one with the kickoff.
    #[default]
    Kickoff,
    /// The last one again, where the agent can.
    Resume,
    /// A fresh one with the hand-off prompt.
    Handoff,
}

/// What an agent died of, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// When.
    pub at: Now,
    /// Of what.
    pub cause: DeathCause,
    /// How long it had run, in milliseconds.
    pub ran_ms: u64,
}

/// What an agent died of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "cause")]
pub enum DeathCause {
    /// It exited.
    Exited {
        /// With this status.
        status: i32,
    },
    /// A signal killed it.
    Killed {
        /// This one.
        signal: i32,
    },
    /// The kernel killed it for its memory.
    Oom {
        /// Its limit, in bytes.
        limit: Option<u64>,
        /// The most that it used, in bytes.
        peak: Option<u64>,
    },
    /// tmux did not say; handled as killed.
    Unknown,
}

impl std::fmt::Display for DeathCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited { status } => write!(f, "exited with status {status}"),
            Self::Killed { signal } => match signal_name(*signal) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {signal}"),
            },
            Self::Oom { limit, peak } => {
                write!(f, "was killed by the kernel for its memory")?;
                if let Some(limit) = limit {
                    write!(f, ", limit {} MiB", limit >> 20)?;
                }
                if let Some(peak) = peak {
                    write!(f, ", peak {} MiB", peak >> 20)?;
                }
                Ok(())
            }
            Self::Unknown => write!(f, "died of an unknown cause"),
        }
    }
}

fn signal_name(number: i32) -> Option<&'static str> {
    signal_hook::low_level::signal_name(number)
}

impl LoopRecord {
    /// Of a loop that was never started.
    pub fn new(boot_id: BootId) -> Self {
        Self {
            boot_id,
            wish: Wish::Run,
            drained: None,
            epoch: 0,
            agent: None,
            session: None,
            session_phase: None,
            session_gate: None,
            server: None,
            budget: RestartBudget::default(),
            next_session: NextSession::Kickoff,
            restarts: 0,
            last_death: None,
            go_on: None,
            short_resumes: 0,
        }
    }
}
