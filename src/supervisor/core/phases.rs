//! Phases: the index, and who is told of it.

use super::Draft;
use super::action::Action;
use super::death::RESUME_GRACE;
use super::event::Caller;
use super::gates::GateState;
use super::stage::Stage;
use super::world::{PhaseMove, RequestId, Turn};
use crate::supervisor::config::{LoopConfig, OnPhase};
use crate::supervisor::control::protocol::{Refusal, Response};
use crate::supervisor::names::LoopName;
use serde_json::json;

impl Draft<'_> {
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
}
