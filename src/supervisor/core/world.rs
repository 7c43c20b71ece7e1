//! Everything that decisions are made from. Plain data; what of it survives the supervisor is in `record`.

use super::accounts::Account;
use super::action::Clearing;
use super::gates::Gate;
use super::stage::{Stage, StopWhy};
use crate::supervisor::config::placeholders::{PhaseValues, Values};
use crate::supervisor::config::{Config, LoopConfig};
use crate::supervisor::names::{LoopName, NeedName};
use crate::support::clock::Now;
use crate::support::process::{BootId, ProcId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use super::record::{AgentRecord, Death, DeathCause, Drain, GlobalRecord, LoopRecord, NextSession, Turns, Wish};

/// Everything that decisions are made from.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// What the operator wrote.
    pub config: Arc<Config>,
    /// This boot.
    pub boot_id: BootId,
    /// Random, different in each run of the supervisor: jitter and session uuids come from it.
    pub seed: u64,
    /// Whether the supervisor is ending.
    pub mode: Mode,
    /// When the supervisor before this one ended on purpose, if it did: deaths after that are no crashes.
    pub ended_before: Option<Now>,
    /// What holds for all loops and survives.
    pub global: GlobalRecord,
    /// The gate of the current phase; survives.
    pub gate: Gate,
    /// The current phase; `None` when the config has no `[phases]`.
    pub phase: Option<usize>,
    /// A move that the daemon was told to make and has not answered for.
    pub phase_move: Option<PhaseMove>,
    /// What loops need.
    pub needs: BTreeMap<NeedName, Need>,
    /// Why the state cannot be written, while it cannot.
    pub unwritable: Option<String>,
    /// The last look at free memory.
    pub memory: MemorySample,
    /// When an agent was last started, in milliseconds since boot.
    pub last_start: Option<u64>,
    /// The loops of the config.
    pub loops: BTreeMap<LoopName, Arc<Loop>>,
    /// Requests that are answered later.
    pub waiters: Vec<Waiter>,
    /// When the next thing is due, in milliseconds since boot; the result of the last decision.
    pub wake_at: Option<u64>,
}

/// Whether the supervisor is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is not.
    Running,
    /// It stops its loops first (direct mode).
    StoppingLoops,
    /// It leaves at once; the sessions stay.
    Leaving,
}

/// A move of the phase index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseMove {
    /// Where it was.
    pub from: usize,
    /// Where it goes.
    pub to: usize,
    /// On whose behalf, for the journal.
    pub by: String,
    /// Whom to answer.
    pub request: Option<RequestId>,
}

/// A request that the daemon holds a connection open for.
pub type RequestId = u64;

/// A request that is answered later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// Whom to answer.
    pub request: RequestId,
    /// For what it waits.
    pub until: Until,
    /// When it is answered in any case, in milliseconds since boot.
    pub deadline: u64,
}

/// What a request waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// These have no agent.
    Stopped(Vec<LoopName>),
    /// These run with an epoch above the given one, or are held with a reason.
    Settled(Vec<(LoopName, u64)>),
    /// Every loop is drained.
    Drained,
    /// This one takes what was typed into it.
    Acknowledged(LoopName),
}

/// The last look at free memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemorySample {
    /// MemAvailable + SwapFree / 2, in bytes.
    pub free: u64,
    /// When, in milliseconds since boot; `None`: never.
    pub at: Option<u64>,
}

/// Something that loops need before they start.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// What the last probe found.
    pub state: NeedState,
    /// Whether one is under way.
    pub probe: Probe,
}

/// What the last probe of a need found.
#[derive(Debug, Clone, PartialEq)]
pub enum NeedState {
    /// It was not probed yet.
    Unknown,
    /// It is there.
    There {
        /// Since when.
        since: Now,
    },
    /// It is not there.
    Missing {
        /// Since when.
        since: Now,
        /// What the probe said.
        why: String,
    },
}

/// The probing of a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// None is under way.
    Idle {
        /// When the last one ended, in milliseconds since boot; `None`: never.
        last: Option<u64>,
        /// How many found it missing in a row.
        misses: u32,
    },
    /// One is under way.
    InFlight {
        /// How many found it missing in a row before.
        misses: u32,
    },
}

/// One loop.
#[derive(Debug, Clone, PartialEq)]
pub struct Loop {
    /// What survives.
    pub record: LoopRecord,
    /// Where its agent is.
    pub stage: Stage,
    /// Its tmux server.
    pub host: Host,
    /// What its agent does.
    pub life: Life,
    /// Whether its pane's output reaches the log.
    pub pipe: Pipe,
    /// The last start that failed before there was an agent.
    pub start_failure: Option<StartFailure>,
    /// A start that was given up may still go through: the server is asked once more then, in milliseconds since boot.
    pub look_again: Option<u64>,
    /// What keeps it from a safe point, while draining.
    pub unsafe_because: Option<String>,
    /// Whether its clone is being looked at for a drain, and when that was last done.
    pub safety: Safety,
    /// Whether the drain under way has asked it to come to a safe point.
    pub drain_asked: Said,
}

/// Whether a loop's clone is being looked at for a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// It is not; last looked at in milliseconds since boot.
    Idle(Option<u64>),
    /// It is.
    InFlight,
}

/// A start that failed before there was an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    /// What went wrong and what to do about it.
    pub error: String,
    /// How many in a row.
    pub tries: u32,
    /// Tried again then, in milliseconds since boot.
    pub retry_at: u64,
}

/// A loop's tmux server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Where it is.
    pub status: HostStatus,
    /// How many in a row did not come up, or died within [`super::host::PROVED`].
    pub tries: u32,
    /// Since when there is none; `None` while there is one.
    pub absent_since: Option<Now>,
    /// Whether the operator was told that there is none.
    pub said: Said,
}

/// Where a loop's tmux server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostStatus {
    /// It is being looked for.
    Probing,
    /// There is none.
    Absent {
        /// The next one is made then, in milliseconds since boot.
        next: u64,
        /// What the last one said.
        why: String,
    },
    /// One was made and has not answered yet.
    Coming {
        /// Since when.
        since: Now,
    },
    /// It answers.
    Ready {
        /// Who it is.
        server: ProcId,
        /// Since when.
        since: Now,
        /// Commands in a row that it did not answer in time.
        misses: u32,
    },
    /// It is hung and was sent SIGKILL.
    Killed,
}

/// Whether a person was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Not yet.
    No,
    /// Yes.
    Yes,
}

/// Whether a pane's output reaches the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// It does.
    Open,
    /// It ended (a full disk does that silently).
    Closed {
        /// Opened again then, in milliseconds since boot, if no start does it before.
        retry_at: u64,
    },
}

/// What an agent does, as far as it can be told. Volatile: after a restart of the supervisor it starts from what the
/// log's time says.
#[derive(Debug, Clone, PartialEq)]
pub struct Life {
    /// The last sign of life.
    pub last_sign: Option<Now>,
    /// What it was.
    pub sign: String,
    /// Its turn.
    pub turn: Turn,
    /// The stall ladder.
    pub stall: Stall,
    /// Whether the operator was told that it waits for a person.
    pub attention: Said,
    /// Idle nudges without an answer.
    pub idle_nudges: u32,
    /// The last idle nudge.
    pub idle_nudged: Option<Now>,
    /// Memory of it and its children, in bytes, and when it was read.
    pub memory: Option<(u64, Now)>,
    /// Wants to be ended when its turn has.
    pub end_after_turn: Option<StopWhy>,
    /// Is ended when it is up.
    pub end_when_ready: Option<StopWhy>,
    /// Whether it said that it is up.
    pub startup: Startup,
    /// When a resumed one said that, in milliseconds since boot, until it was told to go on.
    pub ready_at: Option<u64>,
    /// A text that was typed and not acknowledged yet.
    pub typed: Option<Typed>,
    /// Whose text it took before the client that typed it had ended, and how.
    pub took: Option<(RequestId, &'static str)>,
    /// A text that is typed when it can take one.
    pub kept: Option<String>,
    /// The phase that it was told of; it knows of it once it has taken a text since.
    pub phase_said: Option<usize>,
    /// The same of the gate's word.
    pub gate_said: Option<i64>,
    /// A dialog that a refusal may have opened is closed then, in milliseconds since boot.
    pub clear_at: Option<u64>,
    /// What the next text needs before it.
    pub clearing: Clearing,
    /// Whether the operator was told that texts do not reach it.
    pub undelivered: Said,
    /// When the window of its account that is used up resets, in milliseconds since the Unix epoch.
    pub window: Option<i64>,
    /// Whether its session is written down.
    pub transcript: Transcript,
    /// Looks for a refusal that nobody told.
    pub looks: Looks,
}

/// Looks for a refusal that nobody told, while an agent is silent in a turn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Looks {
    /// The last one, in milliseconds since boot.
    pub last: Option<u64>,
    /// How many since its last sign of life.
    pub times: u32,
    /// The texts of refusals that were told since it was started: seen again on the screen they are old.
    pub known: Vec<String>,
}

/// Whether an agent that says so has said that it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Startup {
    /// Not yet.
    Coming,
    /// Not yet, and somebody was told.
    Overdue,
    /// It has.
    Ready,
    /// It was found running, and has told nothing since: its turn is a guess.
    Found,
}

/// A text that was typed and not acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    /// It.
    pub text: String,
    /// Whom to answer.
    pub request: Option<RequestId>,
    /// When it was typed first, in milliseconds since the Unix epoch.
    pub since: i64,
    /// When it was typed last, or could first be taken, in milliseconds since boot.
    pub at: u64,
    /// When the session's file was last asked for it, in milliseconds since boot.
    pub looked: Option<u64>,
    /// How often.
    pub tries: u32,
    /// The word of the gate that it is, or was typed behind, by its time.
    pub gate: Option<i64>,
}

/// The file that a session is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transcript {
    /// It has none, or did not tell.
    None,
    /// It is being looked at.
    Asked {
        /// Where.
        path: PathBuf,
        /// Its size before the turn, in bytes; `None` at the first look.
        before: Option<u64>,
    },
    /// It had this size when the session began.
    Known {
        /// Where.
        path: PathBuf,
        /// In bytes; 0 when it was not there.
        size: u64,
    },
    /// A turn ended: it is looked at then.
    Due {
        /// Where.
        path: PathBuf,
        /// Its size before, in bytes.
        size: u64,
        /// When, in milliseconds since boot.
        at: u64,
    },
    /// It grew, or somebody was told that it did not.
    Judged,
}

impl Life {
    /// Of an agent that has just been started or found.
    pub fn new(now: Now, sign: &str) -> Self {
        Self {
            last_sign: Some(now),
            sign: sign.to_owned(),
            turn: Turn::Unknown,
            stall: Stall::None,
            attention: Said::No,
            idle_nudges: 0,
            idle_nudged: None,
            memory: None,
            end_after_turn: None,
            end_when_ready: None,
            startup: Startup::Coming,
            ready_at: None,
            typed: None,
            took: None,
            kept: None,
            phase_said: None,
            gate_said: None,
            clear_at: None,
            clearing: Clearing::Nothing,
            undelivered: Said::No,
            window: None,
            transcript: Transcript::None,
            looks: Looks::default(),
        }
    }
}

/// An agent's turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// It never said; counts as ended where a turn's end is waited for.
    Unknown,
    /// It works.
    Busy {
        /// Since when.
        since: Now,
    },
    /// A tool is in flight.
    Tool {
        /// Since when.
        since: Now,
    },
    /// Its turn ended: the safe point.
    Idle {
        /// Since when.
        since: Now,
    },
    /// It waits for a person.
    Person {
        /// Since when.
        since: Now,
        /// For what.
        what: String,
    },
    /// The server had no room for it; it is told to go on later.
    Overloaded {
        /// Since when.
        since: Now,
        /// How many in a row.
        tries: u32,
        /// It is told to go on then, in milliseconds since boot.
        until: u64,
    },
}

impl Turn {
    /// Whether it may be ended without cutting a turn.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Unknown | Self::Idle { .. })
    }

    /// Whether a text that is typed begins a turn, and so is acknowledged soon.
    pub fn takes_text(&self) -> bool {
        matches!(self, Self::Idle { .. } | Self::Unknown | Self::Overloaded { .. })
    }
}

/// How far a stall has been confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// There is none.
    None,
    /// The first sample found no sign of life; a second one follows.
    Suspected {
        /// Since then, in milliseconds since boot.
        at: u64,
    },
    /// The second one did too, and it was nudged.
    Nudged {
        /// Then, in milliseconds since boot.
        at: u64,
    },
}

impl World {
    /// A loop and its config; `None` for a name that the config does not have.
    pub fn get(&self, name: &LoopName) -> Option<(&Loop, &LoopConfig)> {
        Some((self.loops.get(name)?, self.config.loops.get(name)?))
    }

    /// Whether the last plan is done.
    pub fn complete(&self) -> bool {
        match (self.phase, &self.config.phases) {
            (Some(index), Some(phases)) => index >= phases.plans.len(),
            _ => false,
        }
    }

    /// What the placeholders of a loop's texts stand for.
    pub fn values(&self, name: &LoopName, phase: Option<usize>) -> Values {
        let plans = self.config.phases.as_ref().map(|p| p.plans.as_slice()).unwrap_or_default();
        Values {
            loop_name: name.to_string(),
            workspace: self.config.workspace.display().to_string(),
            phase: phase.and_then(|index| plans.get(index).map(|plan| PhaseValues::of(index, plan))),
        }
    }

    /// The account of a loop; open unless something is recorded.
    pub fn account(&self, config: &LoopConfig) -> Option<&Account> {
        self.global.accounts.get(&config.account)
    }
}

impl Loop {
    /// A loop of which only the record is known.
    pub fn new(record: LoopRecord, now: Now) -> Self {
        Self {
            record,
            stage: Stage::Adopting,
            host: Host { status: HostStatus::Probing, tries: 0, absent_since: None, said: Said::No },
            life: Life::new(now, "none yet"),
            pipe: Pipe::Open,
            start_failure: None,
            look_again: None,
            unsafe_because: None,
            safety: Safety::Idle(None),
            drain_asked: Said::No,
        }
    }

    /// The epoch of the agent that runs or is being started; events of any other one are stale.
    pub fn live_epoch(&self) -> Option<u64> {
        if !self.stage.may_have_agent() {
            return None;
        }
        self.record.agent.as_ref().map(|agent| agent.epoch)
    }
}
