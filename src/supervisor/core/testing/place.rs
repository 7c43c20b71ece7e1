//! What is on the machine: tmux servers with their panes and agents, the disk, and what is outside of the loops.

use crate::supervisor::agents::Signal;
use crate::supervisor::core::gates::Gate;
use crate::supervisor::core::world::{DeathCause, GlobalRecord, LoopRecord};
use crate::supervisor::names::{LoopName, NeedName};
use crate::support::process::ProcId;
use std::collections::{BTreeMap, BTreeSet};

/// How an agent takes what happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Answers prompts, ends when told to.
    Good,
    /// Answers nothing, ends when told to.
    Silent,
    /// Answers nothing and survives everything but SIGKILL.
    Stubborn,
}

#[derive(Debug, Clone)]
pub struct Proc {
    pub id: ProcId,
    pub epoch: u64,
    pub mood: Mood,
    /// SIGTERM came while it was stopped.
    pub pending_term: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Pane {
    pub agent: Option<Proc>,
    /// The placeholder still prints.
    pub placeholder: Option<ProcId>,
    pub epoch: Option<u64>,
    pub death: Option<DeathCause>,
    pub piped: bool,
    /// That many respawns are refused although nothing runs.
    pub drains: u32,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub id: ProcId,
    pub hung: bool,
    /// It sleeps in the kernel: no signal ends it.
    pub asleep: bool,
    pub pane: Option<Pane>,
}

/// What a loop has on the machine.
#[derive(Debug, Clone, Default)]
pub struct Place {
    pub server: Option<Server>,
    /// Agents whose server died.
    pub strays: Vec<Proc>,
    pub children: usize,
    pub frozen: bool,
    pub output_at: Option<u64>,
    pub memory: u64,
    pub oom_children: u64,
}

impl Place {
    pub fn agents(&self) -> Vec<&Proc> {
        let pane = self.server.as_ref().and_then(|s| s.pane.as_ref()).and_then(|p| p.agent.as_ref());
        self.strays.iter().chain(pane).collect()
    }

    pub fn pane(&mut self) -> Option<&mut Pane> {
        self.server.as_mut()?.pane.as_mut()
    }

    /// The agent of the pane dies.
    pub fn agent_dies(&mut self, cause: DeathCause) {
        if let Some(pane) = self.pane() {
            if pane.agent.take().is_some() {
                pane.death = Some(cause);
            }
        }
    }

    /// The server dies, and with it every agent that minds a hang-up.
    pub fn server_dies(&mut self) {
        if let Some(agent) = self.server.take().and_then(|s| s.pane).and_then(|p| p.agent) {
            if agent.mood == Mood::Stubborn {
                self.strays.push(agent);
            }
        }
        self.frozen = false;
    }
}

/// How new tmux servers come up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    Fine,
    /// They die at once.
    Broken,
    /// They are never heard of.
    Mute,
}

/// Whether saves succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    Fine,
    /// Each save fails as often as not.
    Flaky,
    Full,
}

/// What is outside of the loops.
#[derive(Debug, Clone)]
pub struct Outside {
    pub hosts: Hosts,
    pub storage: Storage,
    pub missing: BTreeSet<NeedName>,
    pub free: u64,
    pub unsafe_clones: BTreeSet<LoopName>,
    /// Commands take up to this many milliseconds; 0: everything is at once and in order.
    pub latency: u64,
    /// New agents are like this.
    pub mood: Mood,
    /// The last refusal in each session's file, and when it was written.
    pub records: BTreeMap<LoopName, (i64, Signal)>,
    /// A text that each session's file shows as taken within a turn, and when it was queued.
    pub steered: BTreeMap<LoopName, (i64, String)>,
    /// What each screen shows.
    pub screens: BTreeMap<LoopName, Signal>,
}

/// What survives everything.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub records: BTreeMap<LoopName, LoopRecord>,
    pub global: GlobalRecord,
    pub gate: Gate,
    pub phase: usize,
}
