//! What the daemon is to do. It does these in order and nothing else.

use super::gates::Gate;
use super::stage::Force;
use super::world::{GlobalRecord, LoopRecord, Pipe, RequestId};
use crate::supervisor::agents::Session;
use crate::supervisor::control::protocol::Response;
use crate::supervisor::journal::Entry;
use crate::supervisor::names::{LoopName, NeedName};
use crate::support::process::ProcId;
use serde::Serialize;
use std::path::PathBuf;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The decision changed the world to this; what of it must survive is saved by the actions that follow.
    Become(Box<super::world::World>),
    /// Make this durable. A [`Action::Start`] or [`Action::Reply`] behind it must not happen if it fails. What an earlier
    /// decision could not save is saved first: a request that failed half-way has left records that say more than the
    /// world, and the next one, which finds nothing to change, would promise what a crash takes back.
    SaveLoop(LoopName, Box<LoopRecord>),
    /// Likewise.
    SaveGlobal(Box<GlobalRecord>),
    /// Likewise.
    SaveGate(Box<Gate>),
    /// Write this down.
    Journal(Entry),
    /// Tell the operator.
    Notify(Notification),
    /// Look for the loop's tmux server and say [`super::Event::HostUp`] or `HostDown`.
    ProbeHost(LoopName, How),
    /// Make the loop's tmux server (direct mode), or wait for it (systemd).
    SpawnHost(LoopName),
    /// SIGKILL to this tmux server.
    KillHost(LoopName, ProcId),
    /// End the loop's tmux server for good, with all that is in it.
    RetireHost(LoopName, Option<ProcId>),
    /// Start an agent: write its launch spec, `respawn-pane`.
    Start(Start),
    /// Ask tmux what the agent died of.
    ReadDeath(LoopName, u64),
    /// Kill what the agent left behind until nothing is left; itself too, if its server died before it.
    Clear(LoopName, Option<ProcId>),
    /// Tell the agent to end.
    End(LoopName, ProcId, Force),
    /// Stop the loop's processes in place.
    Freeze(LoopName),
    /// Let them go on.
    Thaw(LoopName),
    /// Open the pane's pipe into the log again.
    Repipe(LoopName),
    /// Type a text into the pane.
    Nudge {
        /// Whose.
        name: LoopName,
        /// What.
        text: String,
        /// Whom to answer when it was typed.
        request: Option<RequestId>,
        /// What is done before.
        clearing: Clearing,
    },
    /// Send the adapter's keys for what may be in the way.
    ClearTheWay(LoopName),
    /// Look how large a transcript is and say [`super::Event::TranscriptSeen`].
    LookAtTranscript {
        /// Whose.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
        /// Where.
        path: PathBuf,
    },
    /// Read the end of a session's file and say [`super::Event::EvidenceRead`].
    ReadRecords {
        /// Whose.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
        /// Where.
        path: PathBuf,
        /// Older records are of an earlier turn; in milliseconds since the Unix epoch.
        since: i64,
    },
    /// Look for a text that was typed in the end of a session's file and say [`super::Event::TextLookedFor`].
    LookForText {
        /// Whose.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
        /// Where.
        path: PathBuf,
        /// The text.
        text: String,
        /// It was typed then, in milliseconds since the Unix epoch.
        since: i64,
    },
    /// Read the screen and say [`super::Event::EvidenceRead`].
    ReadScreen {
        /// Whose.
        name: LoopName,
        /// Its epoch.
        epoch: u64,
    },
    /// Look when there was output last, and at memory.
    Sample(LoopName, u64),
    /// Probe a need.
    ProbeNeed(NeedName),
    /// Read free memory.
    ReadMemory,
    /// Look whether the loop's clone is clean and pushed.
    ReadSafety(LoopName),
    /// Journal this move, then make it durable, then say [`super::Event::PhaseMoved`].
    MovePhase {
        /// From.
        from: usize,
        /// To.
        to: usize,
        /// On whose behalf.
        by: String,
    },
    /// Answer a request.
    Reply(RequestId, Response),
    /// End the supervisor.
    Exit,
}

/// What is done before a text is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clearing {
    /// Nothing: the agent works, or takes prompts.
    Nothing,
    /// The adapter's keys for what may be in the way.
    InTheWay,
}

impl Action {
    /// Whether it makes something durable.
    pub fn is_save(&self) -> bool {
        matches!(self, Self::SaveLoop(..) | Self::SaveGlobal(_) | Self::SaveGate(_))
    }
}

/// How to look for a tmux server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Ask it.
    Ask,
    /// By the process identities of the record only: a frozen loop's server is stopped and answers nobody.
    Record,
}

/// One start.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Whose.
    pub name: LoopName,
    /// Its epoch.
    pub epoch: u64,
    /// Its session.
    pub session: Session,
    /// The phase, for placeholders.
    pub phase: Option<usize>,
    /// Whether the pipe into the log must be opened again.
    pub pipe: Pipe,
}

/// What the operator is told, as the `notify` program gets it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notification {
    /// A word for filters: `crash-loop`, `login`, `attention`, …
    pub kind: &'static str,
    /// Whose.
    #[serde(rename = "loop", skip_serializing_if = "Option::is_none")]
    pub loop_name: Option<LoopName>,
    /// One line.
    pub summary: String,
    /// What to do about it, or what happens next.
    pub detail: String,
}
