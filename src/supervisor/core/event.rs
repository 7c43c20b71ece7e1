//! What can happen, as the daemon tells it to the core.

use super::world::{DeathCause, LoopRecord, RequestId};
use crate::supervisor::agents::Signal;
use crate::supervisor::control::protocol::Request;
use crate::supervisor::names::{LoopName, NeedName};
use crate::support::process::ProcId;

/// Where a refusal that no event told was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In the session's file.
    Records,
    /// On the screen.
    Screen,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The supervisor has just started; nothing was looked at yet.
    Begun,
    /// Something is due.
    Tick,
    /// SIGINT or SIGTERM.
    Shutdown(Leave),
    /// A loop's tmux server answers.
    HostUp {
        /// Whose.
        name: LoopName,
        /// What it says.
        facts: HostFacts,
    },
    /// A loop's tmux server is gone, or did not come up.
    HostDown {
        /// Whose.
        name: LoopName,
        /// What is known of it.
        why: String,
    },
    /// A loop's tmux server lives, and its pane %0 is gone (an operator killed it).
    PaneGone {
        /// Whose.
        name: LoopName,
        /// Who the server is.
        server: ProcId,
    },
    /// A loop's tmux server did not answer a command in time.
    HostMute {
        /// Whose.
        name: LoopName,
    },
    /// An agent was started.
    Started {
        /// Whose.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
        /// Its process.
        process: ProcId,
    },
    /// An agent could not be started.
    StartFailed {
        /// Whose.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
        /// Why.
        why: NotStarted,
    },
    /// An agent's process is gone.
    AgentGone {
        /// Whose.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
    },
    /// What it died of.
    DeathRead {
        /// Whose.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
        /// Of what.
        cause: DeathCause,
        /// Whether the pane's output still reaches the log.
        piped: bool,
    },
    /// Nothing that the agent left behind is left.
    Cleared {
        /// Whose.
        name: LoopName,
        /// How many were killed.
        killed: usize,
    },
    /// Some of what the agent left behind cannot be killed.
    ClearStuck {
        /// Whose.
        name: LoopName,
        /// What, and why not.
        what: String,
    },
    /// Some of a loop cannot be stopped in place.
    FreezeStuck {
        /// Whose.
        name: LoopName,
        /// What, and why not.
        what: String,
    },
    /// State that had to be made durable was, or was not.
    StateWritten(Result<(), String>),
    /// The pane's output no longer reaches the log.
    PipeClosed {
        /// Whose.
        name: LoopName,
    },
    /// An agent told something.
    Signals {
        /// Whose.
        name: LoopName,
        /// Its epoch, as it says.
        epoch: Option<u64>,
        /// What.
        signals: Vec<Signal>,
    },
    /// What was found when a loop was looked at.
    Sampled {
        /// Which.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
        /// When there was output last, in milliseconds since boot.
        output_at: Option<u64>,
        /// Memory of the agent and its children, in bytes.
        memory: Option<u64>,
        /// Children that the kernel killed for memory since the last look, the agent living on.
        children_oom_killed: u64,
    },
    /// Several that came of one look, to be decided about as one.
    Together(Vec<Event>),
    /// A need was probed.
    NeedProbed {
        /// Which.
        need: NeedName,
        /// Nothing, or why it is not there.
        found: Result<(), String>,
    },
    /// Free memory was read, in bytes.
    MemoryRead {
        /// MemAvailable + SwapFree / 2.
        free: u64,
    },
    /// A loop's clone was looked at.
    SafetyRead {
        /// Which.
        name: LoopName,
        /// Nothing, or what is not safe.
        found: Result<(), String>,
    },
    /// A nudge was typed, or could not be.
    NudgeSent {
        /// To whom.
        name: LoopName,
        /// Nothing, or why not.
        result: Result<(), String>,
        /// Whom to answer.
        request: Option<RequestId>,
    },
    /// A transcript was looked at.
    TranscriptSeen {
        /// Whose.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
        /// Its size in bytes; `None`: it is not there or cannot be looked at.
        size: Option<u64>,
    },
    /// It was looked for a refusal that no event told.
    EvidenceRead {
        /// Whose.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
        /// Where.
        source: Source,
        /// What it says; empty: nothing.
        signals: Vec<Signal>,
    },
    /// A session's file was asked for a text that was typed.
    TextLookedFor {
        /// Whose.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
        /// The text.
        text: String,
        /// Whether it reached the agent within a turn.
        found: bool,
    },
    /// A move of the phase index is durable, or failed and nothing moved.
    PhaseMoved(Result<(), String>),
    /// The index file has another value than the current one while running.
    PhaseFileDiffers {
        /// What it says.
        found: String,
    },
    /// The current index was found at start.
    PhaseLoaded {
        /// It.
        index: usize,
        /// What is worth the journal, if anything.
        note: Option<String>,
    },
    /// Something was found at start that the operator should know.
    Noted {
        /// It.
        note: String,
    },
    /// The operator's notify program failed.
    NotifyFailed {
        /// How.
        why: String,
    },
    /// The state dir holds a loop that the config does not name.
    Orphan {
        /// Which.
        name: LoopName,
        /// What is known of it.
        record: Box<LoopRecord>,
    },
    /// Somebody asks for something.
    Asked {
        /// Whom to answer.
        request: RequestId,
        /// Who asks.
        caller: Caller,
        /// What.
        what: Request,
    },
    /// The connection of a request that is answered later is gone.
    AskerGone {
        /// Which.
        request: RequestId,
    },
}

/// What happens to the sessions when the supervisor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// They stay.
    Sessions,
    /// They are stopped first.
    Nothing,
}

/// What a tmux server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Who it is.
    pub server: ProcId,
    /// The living process of pane %0.
    pub agent: Option<ProcId>,
    /// `@epoch` of pane %0.
    pub epoch: Option<u64>,
    /// What the pane's last process died of, when none lives.
    pub death: Option<DeathCause>,
    /// Whether the pane's output reaches the log.
    pub piped: bool,
}

/// Why an agent could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotStarted {
    /// tmux says that something runs in the pane: look again.
    PaneBusy,
    /// There is no server.
    NoHost(String),
    /// There is a server without pane %0.
    NoPane(ProcId),
    /// The state could not be made durable, a prompt could not be read, … : try again later.
    Error(String),
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody outside of every loop, who may name one with `--loop`.
    Operator {
        /// The loop that was named.
        names: Option<LoopName>,
        /// The epoch that came along.
        epoch: Option<u64>,
    },
    /// A process inside this loop's session.
    Inside {
        /// Which.
        name: LoopName,
        /// The epoch that came along.
        epoch: Option<u64>,
    },
}

impl Caller {
    /// The loop that a request is on behalf of.
    pub fn loop_name(&self) -> Option<&LoopName> {
        match self {
            Self::Operator { names, .. } => names.as_ref(),
            Self::Inside { name, .. } => Some(name),
        }
    }

    /// The epoch that came along.
    pub fn epoch(&self) -> Option<u64> {
        match self {
            Self::Operator { epoch, .. } | Self::Inside { epoch, .. } => *epoch,
        }
    }

    /// For the journal.
    pub fn text(&self) -> String {
        match self {
            Self::Operator { names: None, .. } => "the operator".to_owned(),
            Self::Operator { names: Some(name), .. } => format!("the operator as {name}"),
            Self::Inside { name, .. } => name.to_string(),
        }
    }
}
