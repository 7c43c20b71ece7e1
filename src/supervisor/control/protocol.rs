//! What goes over the control socket: one JSON object a line, a [`Call`] one way and a [`Response`] back.

use crate::supervisor::core::view::{ExplainView, GateView, PhaseView, StatusView};
use crate::supervisor::names::LoopName;
use serde::{Deserialize, Serialize};

/// A request and who it says it is from. The daemon finds out by itself whether the caller is inside a loop, and that
/// wins over `from`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The loop that the caller says it is, from `--loop` or `CC_CI_LOOP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<LoopName>,
    /// The epoch of that loop's agent, from `CC_CI_EPOCH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// What is asked.
    pub request: Request,
}

/// What can be asked of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Request {
    /// What every loop is doing.
    Status,
    /// What one loop is doing, and what comes next.
    Explain {
        /// Which.
        name: LoopName,
    },
    /// Run these again: ends an operator's stop, a drain, a backoff and a crash-loop hold.
    Start {
        /// Which.
        which: Which,
    },
    /// Do not run these until told to.
    Stop {
        /// Which.
        which: Which,
    },
    /// Stop and start these, as one wish.
    Restart {
        /// Which.
        which: Which,
    },
    /// Hold all starts, stop all agents in place.
    Freeze,
    /// End a freeze.
    Thaw,
    /// Bring every loop to a safe point and hold it there.
    Drain {
        /// Give up after this many milliseconds.
        timeout_ms: u64,
    },
    /// Make sure that an operator can attach: the socket is there.
    Attach {
        /// Which.
        name: LoopName,
    },
    /// Say something to an agent.
    Nudge {
        /// To whom.
        name: LoopName,
        /// What.
        text: String,
    },
    /// The phase that is current.
    PhaseShow,
    /// Make this phase the current one.
    PhaseSet {
        /// Zero-based; the number of plans means complete.
        index: usize,
    },
    /// Make the next phase the current one.
    PhaseAdvance,
    /// The gate of this phase.
    GateShow,
    /// This phase is done, says a loop that claims.
    GateClaim {
        /// The commit that it is done in.
        #[serde(default)]
        commit: Option<String>,
    },
    /// The claim holds.
    GatePass,
    /// The claim does not hold.
    GateFail {
        /// Why not.
        #[serde(default)]
        reason: Option<String>,
    },
    /// An event of an agent, in its own words.
    Event {
        /// One JSON value; the loop's adapter reads it.
        event: serde_json::Value,
    },
}

impl Request {
    /// Whether its answer promises something that must outlive a power cut; the others only show, tell or type.
    pub fn promises(&self) -> bool {
        match self {
            Self::Start { .. }
            | Self::Stop { .. }
            | Self::Restart { .. }
            | Self::Freeze
            | Self::Thaw
            | Self::Drain { .. }
            | Self::PhaseSet { .. }
            | Self::PhaseAdvance
            | Self::GateClaim { .. }
            | Self::GatePass
            | Self::GateFail { .. } => true,
            Self::Status
            | Self::Explain { .. }
            | Self::Attach { .. }
            | Self::Nudge { .. }
            | Self::PhaseShow
            | Self::GateShow
            | Self::Event { .. } => false,
        }
    }
}

/// All loops, or these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// Every loop of the config.
    All,
    /// These.
    Loops(Vec<LoopName>),
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Response {
    /// Done; a line a fact.
    Done {
        /// For a person.
        lines: Vec<String>,
    },
    /// Not done.
    Refused {
        /// Of which kind.
        kind: Refusal,
        /// What was asked, why not, what to do about it.
        message: String,
    },
    /// To [`Request::Status`].
    Status(Box<StatusView>),
    /// To [`Request::Explain`].
    Explain(Box<ExplainView>),
    /// To the phase requests.
    Phase(PhaseView),
    /// To the gate requests.
    Gate(GateView),
}

/// Why something was not done, as far as the exit code depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// It failed: exit code 1.
    Failed,
    /// The request makes no sense: exit code 2.
    Usage,
    /// Not now (timeout, not safe, not running): exit code 3.
    NotNow,
}
