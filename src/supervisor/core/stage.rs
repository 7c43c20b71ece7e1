//! Where a loop's agent is in its life: the states, and the one table of what may follow what.

use crate::support::clock::Now;
use serde::{Deserialize, Serialize};

/// Where a loop's agent is in its life.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// The supervisor has just started and does not know yet what runs.
    Adopting,
    /// Proven: neither an agent nor a left-over of one runs. The only stage that a start begins in.
    Down {
        /// Since when.
        since: Now,
    },
    /// The intent is durable and tmux was told to start it.
    Starting {
        /// Since when.
        since: Now,
        /// Whether tmux still answers for that.
        respawn: Respawn,
    },
    /// It runs.
    Up {
        /// Since when.
        since: Now,
    },
    /// It was told to end.
    Stopping {
        /// Since when.
        since: Now,
        /// Why.
        why: StopWhy,
        /// How hard.
        force: Force,
    },
    /// Its process is gone; what it died of is being read.
    Dying {
        /// Since when.
        since: Now,
        /// Why it was told to end, if it was.
        told: Option<StopWhy>,
    },
    /// What it left behind is being killed.
    Clearing {
        /// Since when.
        since: Now,
    },
}

/// What is known of the command that starts an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Respawn {
    /// It is under way: nothing that the server says of its pane meanwhile tells what comes of it.
    Sent,
    /// It was refused, or not answered in time: what the server says next decides.
    Unsure,
}

/// How hard an agent was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// SIGTERM.
    Term,
    /// SIGKILL, after the loop's `stop_timeout`.
    Kill,
}

/// Why the supervisor ended an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopWhy {
    /// `supervisor stop`.
    Operator,
    /// `supervisor restart`.
    OperatorRestart,
    /// `supervisor drain`, at its safe point.
    Drain,
    /// No sign of life, also after a nudge.
    Stall,
    /// More memory than `restart_above`.
    Memory,
    /// Its definition changed.
    Change,
    /// The phase moved and the loop says `on_phase = "restart"`.
    Phase,
    /// The last plan is done.
    PlanComplete,
    /// Its context is full.
    ContextFull,
    /// The account can be used again, and this process still has the old token.
    Login,
    /// The supervisor is ending and takes its loops with it.
    Shutdown,
}

impl StopWhy {
    /// Whether such an end takes part in backoff and crash-loop counting. A stall always does, and an agent that
    /// fills its memory or context before it proved itself does too: else a second path would restart around the
    /// crash-loop guard.
    pub fn counts_as_death(self, proved_itself: bool) -> bool {
        match self {
            Self::Stall => true,
            Self::Memory | Self::ContextFull => !proved_itself,
            Self::Operator
            | Self::OperatorRestart
            | Self::Drain
            | Self::Change
            | Self::Phase
            | Self::PlanComplete
            | Self::Login
            | Self::Shutdown => false,
        }
    }

    /// For a sentence that begins "ended because".
    pub fn text(self) -> &'static str {
        match self {
            Self::Operator => "the operator stopped it",
            Self::OperatorRestart => "the operator restarted it",
            Self::Drain => "it was drained at a safe point",
            Self::Stall => "it gave no sign of life",
            Self::Memory => "it used more memory than restart_above",
            Self::Change => "its definition changed",
            Self::Phase => "the phase moved",
            Self::PlanComplete => "the last plan is done",
            Self::ContextFull => "its context was full",
            Self::Login => "its account has a new login",
            Self::Shutdown => "the supervisor is ending",
        }
    }
}

/// A stage without what it carries: the table's rows and columns, and the word that `status` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // each is documented at `Stage`
pub enum StageKind {
    Adopting,
    Down,
    Starting,
    Up,
    Stopping,
    Dying,
    Clearing,
}

impl StageKind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Adopting, Self::Down, Self::Starting, Self::Up, Self::Stopping, Self::Dying, Self::Clearing];

    /// The table. Missing on purpose: nothing but `Down` leads to `Starting`, and nothing but `Clearing` leads to
    /// `Down`, so an agent starts only where no other can be left; `Dying` never leads straight to `Down`, since a
    /// dead agent's children may live.
    pub fn may_become(self, next: Self) -> bool {
        use StageKind::*;
        matches!(
            (self, next),
            (Adopting, Up | Dying | Clearing)
                | (Down, Starting | Clearing)
                // `Up` also when a respawn was refused because an earlier one had gone through after all.
                | (Starting, Up | Dying | Clearing)
                | (Up, Stopping | Dying | Clearing)
                | (Stopping, Dying | Clearing)
                | (Dying, Clearing)
                | (Clearing, Down)
        )
    }
}

impl Stage {
    /// Without what it carries.
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Adopting => StageKind::Adopting,
            Self::Down { .. } => StageKind::Down,
            Self::Starting { .. } => StageKind::Starting,
            Self::Up { .. } => StageKind::Up,
            Self::Stopping { .. } => StageKind::Stopping,
            Self::Dying { .. } => StageKind::Dying,
            Self::Clearing { .. } => StageKind::Clearing,
        }
    }

    /// Whether an agent's process may exist.
    pub fn may_have_agent(&self) -> bool {
        !matches!(self.kind(), StageKind::Down)
    }
}

#[cfg(test)]
mod tests {
    use super::StageKind::{self, *};

    #[test]
    fn only_down_leads_to_starting_and_only_clearing_to_down() {
        for from in StageKind::ALL {
            assert_eq!(from.may_become(Starting), from == Down, "{from:?} -> Starting");
            assert_eq!(from.may_become(Down), from == Clearing, "{from:?} -> Down");
            assert!(!from.may_become(Adopting), "{from:?} -> Adopting");
            assert!(!from.may_become(from), "{from:?} -> itself");
        }
    }

    #[test]
    fn every_stage_leads_to_down_in_the_end() {
        for from in StageKind::ALL {
            let mut reached = vec![from];
            let mut i = 0;
            while i < reached.len() {
                for next in StageKind::ALL {
                    if reached[i].may_become(next) && !reached.contains(&next) {
                        reached.push(next);
                    }
                }
                i += 1;
            }
            assert!(reached.contains(&Down), "{from:?} never ends");
        }
    }
}
