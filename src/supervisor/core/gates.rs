//! The handshake by which a phase ends: the Builder claims, the Adversary passes or fails.

use super::Draft;
use super::death::RESUME_GRACE;
use super::event::Caller;
use super::stage::{Stage, StageKind};
use super::world::{RequestId, Startup, Turn};
use crate::supervisor::config::{AdvanceOn, LoopConfig, Role};
use crate::supervisor::control::protocol::{Refusal, Response};
use crate::supervisor::names::LoopName;
use crate::support::units::short_duration;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The gate of one phase.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gate {
    /// Of this phase; one of another phase than the current is as good as open.
    pub phase: usize,
    /// How far the handshake is.
    #[serde(flatten)]
    pub state: GateState,
}

/// How far the handshake is. Times are in milliseconds since the Unix epoch: they outlive boots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum GateState {
    /// Nobody has claimed anything.
    #[default]
    Open,
    /// Claimed: it is the verifier's turn.
    Claimed {
        /// By whom.
        by: String,
        /// The commit.
        commit: Option<String>,
        /// When.
        at: i64,
        /// How far the patience has been used up.
        #[serde(default)]
        patience: Patience,
    },
    /// Failed: it is the claimer's turn.
    Failed {
        /// By whom.
        by: String,
        /// The commit that was claimed.
        commit: Option<String>,
        /// Why.
        reason: Option<String>,
        /// When.
        at: i64,
        /// How far the patience has been used up.
        #[serde(default)]
        patience: Patience,
    },
    /// Passed, with `advance_on = "manual"`; else the move of the phase takes its place.
    Passed {
        /// By whom.
        by: String,
        /// The commit.
        commit: Option<String>,
        /// When.
        at: i64,
    },
}

/// How far the patience with whoever's turn it is has been used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Patience {
    /// It is not.
    #[default]
    Fresh,
    /// They were nudged.
    Nudged,
    /// The operator was told.
    Notified,
}

impl Gate {
    /// What a loop of this role must know, and when it came to that, in milliseconds since the Unix epoch.
    fn word_for(&self, role: Role) -> Option<(i64, String)> {
        match (&self.state, role) {
            (GateState::Claimed { by, commit, at, .. }, Role::Verifies) => {
                let what = claims(by, self.phase, commit.as_deref());
                let how = "Verify it, then run `supervisor gate pass` or `supervisor gate fail --reason \"…\"`.";
                Some((*at, format!("{what}. {how}")))
            }
            (GateState::Failed { by, reason, at, .. }, Role::Claims) => {
                let what = fails(by, self.phase, reason.as_deref());
                Some((*at, format!("{what}. Mend it, push, then run `supervisor gate claim` again.")))
            }
            (GateState::Passed { at, .. }, Role::Claims) => Some((*at, passed(self.phase))),
            (GateState::Open | GateState::Claimed { .. } | GateState::Failed { .. } | GateState::Passed { .. }, _) => {
                None
            }
        }
    }
}

fn claims(by: &str, phase: usize, commit: Option<&str>) -> String {
    let text = commit.map(|commit| format!(" in commit {commit}")).unwrap_or_default();
    format!("{by} claims phase {phase}{text}")
}

fn fails(by: &str, phase: usize, reason: Option<&str>) -> String {
    let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{by} fails the claim of phase {phase}{because}")
}

fn passed(phase: usize) -> String {
    format!("The claim of phase {phase} passed.")
}

impl Draft<'_> {
    /// The loops of a role.
    pub(super) fn by_role(&self, role: Role) -> Vec<LoopName> {
        self.w.config.loops.iter().filter(|(_, c)| c.role == Some(role)).map(|(n, _)| n.clone()).collect()
    }

    /// Whether the caller may act for the role; else the request is refused.
    fn in_role(&mut self, request: RequestId, caller: &Caller, role: Role, what: &str) -> bool {
        let (word, others) = match role {
            Role::Claims => ("claims", self.by_role(Role::Claims)),
            Role::Verifies => ("verifies", self.by_role(Role::Verifies)),
        };
        let list = others.iter().map(LoopName::as_str).collect::<Vec<_>>().join(", ");
        let message = match (caller.loop_name(), role) {
            (Some(name), _) if others.contains(name) => return self.gate_usable(request, what),
            (None, Role::Verifies) => return self.gate_usable(request, what),
            (None, Role::Claims) => {
                format!("gate {what}: only a loop with role \"{word}\" ({list}) may; name it with `--loop`")
            }
            (Some(name), _) => format!("gate {what}: `{name}` has not the role \"{word}\"; {list} has"),
        };
        self.refuse(request, Refusal::Failed, message);
        false
    }

    fn gate_usable(&mut self, request: RequestId, what: &str) -> bool {
        if self.w.phase.is_none() {
            let message =
                format!("gate {what}: the config has no `[phases]`, so there is nothing to claim; add `plans`");
            self.refuse(request, Refusal::Usage, message);
            return false;
        }
        if self.w.phase_move.is_some() {
            self.refuse(request, Refusal::NotNow, format!("gate {what}: the phase is being moved; try again"));
            return false;
        }
        if self.w.complete() {
            let message = format!("gate {what}: the last plan is done; go back with `supervisor phase set N`");
            self.refuse(request, Refusal::NotNow, message);
            return false;
        }
        true
    }

    pub(super) fn gate_claim(&mut self, request: RequestId, caller: &Caller, commit: Option<String>) {
        if !self.in_role(request, caller, Role::Claims, "claim") {
            return;
        }
        let by = caller.text();
        let phase = self.w.phase.unwrap_or(0);
        let at = self.now.wall;
        self.set_gate(GateState::Claimed { by: by.clone(), commit: commit.clone(), at, patience: Patience::Fresh });
        let what = claims(&by, phase, commit.as_deref());
        self.journal(caller.loop_name(), "gate-claim", &what, json!({ "phase": phase, "commit": commit }), None);
        self.gate_answer(request);
    }

    pub(super) fn gate_pass(&mut self, request: RequestId, caller: &Caller) {
        if !self.in_role(request, caller, Role::Verifies, "pass") {
            return;
        }
        let GateState::Claimed { commit, .. } = self.w.gate.state.clone() else {
            self.refuse_no_claim(request, "pass");
            return;
        };
        let by = caller.text();
        let phase = self.w.phase.unwrap_or(0);
        self.journal(
            caller.loop_name(),
            "gate-pass",
            &format!("{by} passes phase {phase}"),
            json!({ "phase": phase, "commit": commit }),
            None,
        );
        // With an advance the gate stays claimed until the move is durable: if it fails, the pass can be said again.
        let advance = self.w.config.phases.as_ref().is_some_and(|p| p.advance_on == AdvanceOn::GatePass);
        if advance {
            // The gate of the next phase says nothing of it; that this one begins is told by itself.
            for claimer in self.by_role(Role::Claims) {
                self.say_if_up(&claimer, &passed(phase));
            }
            self.move_phase(phase.saturating_add(1), &format!("{by} (gate passed)"), Some(request));
        } else {
            self.set_gate(GateState::Passed { by, commit, at: self.now.wall });
            self.gate_answer(request);
        }
    }

    pub(super) fn set_gate(&mut self, state: GateState) {
        self.w.gate = Gate { phase: self.w.phase.unwrap_or(0), state };
    }

    pub(super) fn gate_fail(&mut self, request: RequestId, caller: &Caller, reason: Option<String>) {
        if !self.in_role(request, caller, Role::Verifies, "fail") {
            return;
        }
        let GateState::Claimed { commit, .. } = self.w.gate.state.clone() else {
            self.refuse_no_claim(request, "fail");
            return;
        };
        let by = caller.text();
        let phase = self.w.phase.unwrap_or(0);
        let what = fails(&by, phase, reason.as_deref());
        self.set_gate(GateState::Failed {
            by,
            commit: commit.clone(),
            reason: reason.clone(),
            at: self.now.wall,
            patience: Patience::Fresh,
        });
        let evidence = json!({ "phase": phase, "commit": commit, "reason": reason });
        self.journal(caller.loop_name(), "gate-fail", &what, evidence, None);
        self.gate_answer(request);
    }

    fn refuse_no_claim(&mut self, request: RequestId, what: &str) {
        let message = format!("gate {what}: nothing is claimed in this phase; see `supervisor gate show`");
        self.refuse(request, Refusal::NotNow, message);
    }

    pub(super) fn gate_answer(&mut self, request: RequestId) {
        let view = super::view::gate_view(&self.w);
        self.reply(request, Response::Gate(view));
    }

    /// Tells whoever's turn it is, also a loop that was down, shut, adopted or asked a person when the word fell: a pair
    /// of which one waits for what was lost stands still for `gate_patience`.
    pub(super) fn settle_gate_word(&mut self, name: &LoopName, config: &LoopConfig) {
        if self.w.phase != Some(self.w.gate.phase) {
            return;
        }
        let Some((at, text)) = config.role.and_then(|role| self.w.gate.word_for(role)) else { return };
        let Some(l) = self.w.loops.get(name) else { return };
        let (Stage::Up { .. }, Some(agent)) = (&l.stage, &l.record.agent) else { return };
        if self.w.complete() || agent.gate == Some(at) || l.life.gate_said == Some(at) {
            return;
        }
        let acknowledges = config.capabilities.acknowledges;
        // One text at a time, so that what is taken is known.
        let free = l.life.typed.is_none() && l.life.kept.is_none();
        let unknown = l.life.turn == Turn::Unknown;
        // Where it is overdue a dialog may be open.
        let coming =
            acknowledges && (l.life.startup == Startup::Coming || (l.life.startup == Startup::Overdue && unknown));
        if !free || coming || matches!(l.life.turn, Turn::Person { .. }) {
            return;
        }
        // It may not read its terminal yet, or be about to be given its first prompt, of which the text would take the
        // place. One that tells nothing can take what fell while it ran.
        let grace = agent.started.plus(RESUME_GRACE).boot;
        if unknown && (acknowledges || at < agent.started.wall) && !self.due(grace) {
            return;
        }
        if let Some(l) = self.get_mut(name) {
            l.life.gate_said = Some(at);
            if let Some(agent) = l.record.agent.as_mut().filter(|_| !acknowledges) {
                agent.gate = Some(at);
            }
        }
        self.say(name, &text);
        if let Some(typed) = self.get_mut(name).and_then(|l| l.life.typed.as_mut()) {
            typed.gate = Some(at);
        }
    }

    fn say_if_up(&mut self, name: &LoopName, text: &str) {
        let up = self.w.loops.get(name).is_some_and(|l| l.stage.kind() == StageKind::Up);
        if up && self.w.global.frozen.is_none() && !self.account_shut(name) {
            self.say(name, text);
        }
    }

    /// The two-sided wait is the classic deadlock of such pairs: whoever's turn it is hears of it, then the operator.
    pub(super) fn settle_gate(&mut self) {
        let Some(phases) = self.w.config.phases.clone() else { return };
        if self.w.global.frozen.is_some() || self.w.complete() {
            return;
        }
        let (role, at, patience) = match &self.w.gate.state {
            GateState::Claimed { at, patience, .. } => (Role::Verifies, *at, *patience),
            GateState::Failed { at, patience, .. } => (Role::Claims, *at, *patience),
            GateState::Open | GateState::Passed { .. } => return,
        };
        let step = match patience {
            Patience::Fresh => 1,
            Patience::Nudged => 2,
            Patience::Notified => return,
        };
        let wait = phases.gate_patience.saturating_mul(step);
        let until = at.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        if !self.due_wall(until) {
            return;
        }
        let turn = self.by_role(role);
        // Who is still being looked for would not hear it; that has its limit, since the operator must.
        let adopting = |name: &LoopName| self.w.loops.get(name).is_some_and(|l| l.stage.kind() == StageKind::Adopting);
        let latest = at.saturating_add(i64::try_from((phases.gate_patience * 2).as_millis()).unwrap_or(i64::MAX));
        if turn.iter().any(adopting) && !self.due_wall(latest) {
            return;
        }
        let whose = turn.iter().map(LoopName::as_str).collect::<Vec<_>>().join(", ");
        let view = super::view::gate_view(&self.w).text();
        let what = format!("{view} for {}; it is {whose}'s turn", short_duration(wait));
        let next = match patience {
            Patience::Fresh => {
                for name in &turn {
                    self.say_if_up(name, &format!("{view}. It is your turn: see `supervisor gate show`."));
                }
                self.journal(
                    None,
                    "gate-nudge",
                    &what,
                    json!({ "turn": whose }),
                    Some("the operator hears of it next".into()),
                );
                Patience::Nudged
            }
            Patience::Nudged | Patience::Notified => {
                self.journal(None, "gate-stuck", &what, json!({ "turn": whose }), None);
                self.notify("gate", None, what, "see `supervisor gate show` and `supervisor explain`".to_owned());
                Patience::Notified
            }
        };
        if let GateState::Claimed { patience, .. } | GateState::Failed { patience, .. } = &mut self.w.gate.state {
            *patience = next;
        }
        if next == Patience::Nudged {
            self.due_wall(at.saturating_add(i64::try_from((wait * 2).as_millis()).unwrap_or(i64::MAX)));
        }
    }
}
