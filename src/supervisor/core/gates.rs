//! Phases, and the handshake by which one ends: the Builder claims, the Adversary passes or fails.

use super::Draft;
use super::action::Action;
use super::death::RESUME_GRACE;
use super::event::Caller;
use super::stage::{Stage, StageKind};
use super::world::{PhaseMove, RequestId, Startup, Turn};
use crate::supervisor::config::{AdvanceOn, LoopConfig, OnPhase, Role};
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
    // ---- the index ----

    pub(super) fn phase_loaded(&mut self, index: usize, note: Option<String>) {
        self.w.phase = Some(index);
        if self.w.gate.phase != index {
            // A crash between the move and the gate, or a value set by hand.
            self.set_gate(GateState::Open);
            if self.w.complete() {
                let what = super::view::phase_view(&self.w).text();
                self.notify("complete", None, what, "loops that follow phases are held".to_owned());
            }
        }
        if let Some(note) = note {
            self.journal(None, "phase-loaded", &note, json!({ "index": index }), None);
            self.notify("phase", None, note, "see `supervisor phase show`".to_owned());
        }
    }

    /// Moves the index: journalled first, then durable, then [`Draft::phase_moved`].
    pub(super) fn move_phase(&mut self, to: usize, by: &str, request: Option<RequestId>) {
        let Some(from) = self.w.phase else { return };
        self.w.phase_move = Some(PhaseMove { from, to, by: by.to_owned(), request });
        self.push(Action::MovePhase { from, to, by: by.to_owned() });
    }

    pub(super) fn phase_moved(&mut self, result: Result<(), String>) {
        let Some(moved) = self.w.phase_move.take() else { return };
        match result {
            Err(why) => {
                self.journal(
                    None,
                    "phase-move-failed",
                    &why,
                    json!({ "from": moved.from, "to": moved.to, "by": moved.by }),
                    Some("the phase stays where it was".to_owned()),
                );
                self.notify("phase", None, format!("the phase could not be moved: {why}"), String::new());
                if let Some(request) = moved.request {
                    let message = format!("moving the phase from {} to {}: {why}", moved.from, moved.to);
                    self.refuse(request, Refusal::Failed, message);
                }
            }
            Ok(()) => {
                self.w.phase = Some(moved.to);
                self.set_gate(GateState::Open);
                let view = super::view::phase_view(&self.w);
                let what = view.text();
                if self.w.complete() {
                    self.notify("complete", None, what, "loops that follow phases are held".to_owned());
                } else {
                    self.notify("phase", None, what, format!("moved by {}", moved.by));
                }
                if let Some(request) = moved.request {
                    self.reply(request, Response::Phase(view));
                }
            }
        }
    }

    /// Tells an agent of a phase that it does not know of yet, also one that was down, shut or adopted when it moved.
    pub(super) fn settle_phase(&mut self, name: &LoopName, config: &LoopConfig) {
        if !config.follows_phases || config.on_phase != OnPhase::Nudge || self.w.complete() {
            return;
        }
        let current = self.w.phase;
        let Some(l) = self.w.loops.get(name) else { return };
        let (Stage::Up { since }, Some(agent)) = (&l.stage, &l.record.agent) else { return };
        // An agent of which the phase is not known, such as one found with only its epoch, is left alone.
        if agent.phase.is_none() || agent.phase == current || l.life.phase_said == current {
            return;
        }
        match l.life.turn {
            // A text typed now would answer what it asks a person.
            Turn::Person { .. } => return,
            // One that tells nothing is up after its grace at the latest.
            Turn::Unknown => {
                let at = since.plus(RESUME_GRACE).boot;
                if !self.due(at) {
                    return;
                }
            }
            Turn::Busy { .. } | Turn::Tool { .. } | Turn::Idle { .. } | Turn::Overloaded { .. } => {}
        }
        if let Some(l) = self.get_mut(name) {
            l.life.phase_said = current;
            // One that acknowledges knows of it when it does: if it dies before, the next one is told.
            if let Some(agent) = l.record.agent.as_mut().filter(|_| !config.capabilities.acknowledges) {
                agent.phase = current;
            }
        }
        let view = super::view::phase_view(&self.w);
        let (index, plan) = (view.index.unwrap_or(0), view.plan.unwrap_or_default());
        self.say(name, &format!("Phase {index} begins. Its plan: {plan}"));
    }

    /// Tells whoever's turn it is, also a loop that was down, shut, adopted or asked a person when the word fell: a pair
    /// of which one waits for what was lost stands still for `gate_patience`.
    pub(super) fn settle_gate_word(&mut self, name: &LoopName, config: &LoopConfig) {
        let Some((at, text)) = config.role.and_then(|role| self.w.gate.word_for(role)) else { return };
        let Some(l) = self.w.loops.get(name) else { return };
        let (Stage::Up { .. }, Some(agent)) = (&l.stage, &l.record.agent) else { return };
        if self.w.complete() || agent.gate == Some(at) || l.life.gate_said == Some(at) {
            return;
        }
        let acknowledges = config.capabilities.acknowledges;
        // One text at a time, so that what is taken is known.
        let free = l.life.typed.is_none() && l.life.kept.is_none();
        let coming = acknowledges && l.life.startup == Startup::Coming;
        if !free || coming || matches!(l.life.turn, Turn::Person { .. }) {
            return;
        }
        // It may not read its terminal yet; what fell while it ran it can take.
        let grace = agent.started.plus(RESUME_GRACE).boot;
        if !acknowledges && l.life.turn == Turn::Unknown && at < agent.started.wall && !self.due(grace) {
            return;
        }
        if let Some(l) = self.get_mut(name) {
            l.life.gate_said = Some(at);
            if let Some(agent) = l.record.agent.as_mut().filter(|_| !acknowledges) {
                agent.gate = Some(at);
            }
        }
        self.say(name, &text);
    }

    fn say_if_up(&mut self, name: &LoopName, text: &str) {
        let up = self.w.loops.get(name).is_some_and(|l| l.stage.kind() == StageKind::Up);
        if up && self.w.global.frozen.is_none() && !self.account_shut(name) {
            self.say(name, text);
        }
    }

    pub(super) fn phase_file_differs(&mut self, found: &str) {
        let current = self.w.phase.unwrap_or(0);
        let what = format!("the index file says {found:?} while the phase is {current}; it is not followed");
        let next = "use `supervisor phase set N`; at the next start a well-formed value is taken as yours".to_owned();
        self.journal(None, "phase-file-differs", &what, json!({ "found": found }), Some(next.clone()));
        self.notify("phase", None, what, next);
    }

    pub(super) fn phase_request(&mut self, request: RequestId, caller: &Caller, to: Option<usize>) {
        let (Some(phases), Some(from)) = (self.w.config.phases.clone(), self.w.phase) else {
            self.refuse(request, Refusal::Usage, "moving the phase: the config has no `[phases]`; add `plans`");
            return;
        };
        if self.w.phase_move.is_some() {
            self.refuse(request, Refusal::NotNow, "moving the phase: another move is under way; try again");
            return;
        }
        let total = phases.plans.len();
        let to = to.unwrap_or(from.saturating_add(1));
        if to > total {
            let message = if from >= total {
                format!("moving the phase: all {total} plans are done; go back with `supervisor phase set N`")
            } else {
                format!("moving the phase to {to}: there are {total} plans, so 0 to {total} (complete) are possible")
            };
            self.refuse(request, Refusal::Usage, message);
            return;
        }
        self.move_phase(to, &caller.text(), Some(request));
    }

    // ---- gates ----

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

    fn set_gate(&mut self, state: GateState) {
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
        // Who is still being looked for would not hear it.
        let adopting = |name: &LoopName| self.w.loops.get(name).is_some_and(|l| l.stage.kind() == StageKind::Adopting);
        if turn.iter().any(adopting) {
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
