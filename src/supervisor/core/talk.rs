//! What is typed into an agent and whether it arrived. For agents that acknowledge what reaches them: keys go into
//! dialogs, and into an exhausted account.

use super::Draft;
use super::action::{Action, Clearing};
use super::stage::Stage;
use super::world::{Loop, Said, Startup, Turn, Typed, Until, Waiter};
use crate::supervisor::agents::Evidence;
use crate::supervisor::control::protocol::{Refusal, Response};
use crate::supervisor::core::world::RequestId;
use crate::supervisor::names::LoopName;
use crate::support::clock::millis;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A text that reached an idle agent is acknowledged within a second; a machine that swaps takes longer.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(10);
/// An agent that took a text within its turn has written that down by then: the turn has ended.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);
/// After this many times it is not the keys that were lost.
const ACK_TRIES: u32 = 3;
/// Whoever asked is answered by then, whatever becomes of the agent.
const ACK_ANSWER: Duration = Duration::from_secs(50);
/// A resumed agent goes on by itself if a death has cut its turn; after this it is told to.
const BY_ITSELF: Duration = Duration::from_secs(8);

/// The dialog of a refusal opens a moment after it is told. While it is open, nothing else is told.
pub(super) const DIALOG_AFTER: Duration = Duration::from_secs(2);

/// Whether somebody was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    Yes,
    NobodyWaits,
}

impl Draft<'_> {
    /// Closes the dialog that a refusal has opened: it waits for a person, eats what is typed, and hides the status line
    /// that tells the exact reset. Done also while the account is shut.
    pub(super) fn settle_dialog(&mut self, name: &LoopName) {
        let Some(at) = self.w.loops.get(name).and_then(|l| l.life.clear_at) else { return };
        if !self.due(at) {
            return;
        }
        let Some(l) = self.get_mut(name) else { return };
        l.life.clear_at = None;
        if matches!(l.life.turn, Turn::Idle { .. }) {
            self.push(Action::ClearTheWay(name.clone()));
        }
    }

    /// Types something into a loop's pane on the supervisor's own account.
    pub(super) fn say(&mut self, name: &LoopName, text: &str) {
        let acknowledges = self.config(name).is_some_and(|c| c.capabilities.acknowledges);
        let Some(l) = self.get_mut(name) else { return };
        let busy_with_person = matches!(l.life.turn, Turn::Person { .. });
        if acknowledges && (busy_with_person || l.life.startup == Startup::Coming) {
            // Enter would answer the question, or the dialog of a first start.
            l.life.kept = Some(text.to_owned());
            let why = if busy_with_person { "it waits for a person" } else { "it has not said that it is up" };
            let next = Some("typed when it can take it".to_owned());
            self.journal(Some(name), "nudge-kept", why, json!({ "text": text }), next);
            return;
        }
        self.type_in(name, text.to_owned(), None);
    }

    /// Types a text and, where the agent acknowledges, waits for that.
    pub(super) fn type_in(&mut self, name: &LoopName, text: String, request: Option<RequestId>) {
        let now = self.now;
        let acknowledges = self.config(name).is_some_and(|c| c.capabilities.acknowledges);
        let Some(l) = self.get_mut(name) else { return };
        let clearing = std::mem::replace(&mut l.life.clearing, Clearing::Nothing);
        if acknowledges {
            // Both are in its queue then.
            let gate = l.life.typed.as_ref().and_then(|typed| typed.gate);
            let (since, at) = (now.wall, now.boot);
            l.life.typed = Some(Typed { text: text.clone(), request, since, at, looked: None, tries: 1, gate });
            self.due(now.plus(ACK_WAIT).boot);
        }
        self.push(Action::Nudge { name: name.clone(), text, request, clearing });
    }

    pub(super) fn nudge_sent(&mut self, name: &LoopName, result: Result<(), String>, request: Option<RequestId>) {
        let now = self.now;
        let up = self.w.loops.get(name).is_some_and(|l| matches!(l.stage, Stage::Up { .. }));
        let Some(l) = self.get_mut(name) else { return };
        if let super::world::Stall::Nudged { at } = &mut l.life.stall {
            // Typing takes a while, and the terminal echoes until its end: the time to answer begins there.
            *at = now.boot;
        }
        let busy = matches!(l.life.turn, Turn::Busy { .. } | Turn::Tool { .. });
        let took = l.life.took.take().filter(|(by, _)| Some(*by) == request);
        let waits = match &mut l.life.typed {
            Some(typed) if result.is_ok() => {
                typed.at = now.boot;
                up && request.is_some() && typed.request == request && !busy
            }
            typed => {
                *typed = None;
                false
            }
        };
        if let Err(why) = &result {
            let why = format!("a nudge could not be typed: {why}");
            self.journal(Some(name), "nudge-failed", &why, json!({ "error": why }), None);
        }
        let Some(request) = request else { return };
        if let Some((_, how)) = took.filter(|_| result.is_ok()) {
            // It was faster than the client that typed.
            self.done(request, vec![took_it(name, how)]);
            return;
        }
        match result {
            Ok(()) if waits => {
                let deadline = now.boot.saturating_add(millis(ACK_ANSWER));
                self.w.waiters.push(Waiter { request, until: Until::Acknowledged(name.clone()), deadline });
            }
            Ok(()) if busy => {
                self.done(request, vec![format!("typed into {name}'s pane; it takes it when its turn lets it")])
            }
            Ok(()) => self.done(request, vec![format!("typed into {name}'s pane")]),
            Err(why) => self.refuse(
                request,
                Refusal::Failed,
                format!("nudging `{name}`: {why}; see `supervisor explain {name}`"),
            ),
        }
    }

    /// A prompt reached it.
    pub(super) fn acknowledged(&mut self, name: &LoopName) {
        let Some(l) = self.get_mut(name) else { return };
        l.life.startup = Startup::Ready;
        l.record.short_resumes = 0;
        if l.life.typed.is_none() {
            // A text on the phase or the gate that was given up can be told now.
            (l.life.phase_said, l.life.gate_said) = (None, None);
        }
        self.taken(name, "its turn began");
    }

    fn taken(&mut self, name: &LoopName, how: &'static str) {
        let Some(l) = self.get_mut(name) else { return };
        l.record.go_on = None;
        l.life.undelivered = Said::No;
        let Some(typed) = l.life.typed.take() else { return };
        if let (Some(agent), None) = (&mut l.record.agent, &l.life.kept) {
            agent.phase = l.life.phase_said.or(agent.phase);
        }
        match (typed.gate, &mut l.record.agent) {
            (Some(_), Some(agent)) => agent.gate = typed.gate,
            // It was typed before, and lost or given up.
            (None, Some(agent)) if l.life.gate_said != agent.gate => l.life.gate_said = None,
            _ => {}
        }
        let answer = Response::Done { lines: vec![took_it(name, how)] };
        if self.answer_typed(&typed, answer) == Answered::NobodyWaits {
            // The client that typed it has not ended yet; then it is answered.
            if let Some(l) = self.get_mut(name) {
                l.life.took = typed.request.map(|request| (request, how));
            }
        }
    }

    fn answer_typed(&mut self, typed: &Typed, answer: Response) -> Answered {
        let Some(request) = typed.request else { return Answered::NobodyWaits };
        let before = self.w.waiters.len();
        self.w.waiters.retain(|waiter| waiter.request != request);
        if self.w.waiters.len() == before {
            return Answered::NobodyWaits;
        }
        self.reply(request, answer);
        Answered::Yes
    }

    /// Whether it is yet to take what was typed: that begins its next turn. An account that cannot be used takes nothing.
    pub(super) fn text_waits(&self, name: &LoopName) -> bool {
        let waits = |l: &Arc<Loop>| l.life.typed.is_some() || l.life.kept.is_some();
        self.w.loops.get(name).is_some_and(waits) && !self.account_shut(name)
    }

    /// The agent is gone, and with it what waited in its queue.
    pub(super) fn text_lost(&mut self, name: &LoopName) {
        let Some(typed) = self.get_mut(name).and_then(|l| l.life.typed.take()) else { return };
        let why = "it ended before it had said that it took the text";
        self.journal(Some(name), "nudge-undelivered", why, json!({ "text": typed.text, "tries": typed.tries }), None);
        let message = format!("nudging `{name}`: {why}; see `supervisor explain {name}`");
        self.answer_typed(&typed, Response::Refused { kind: Refusal::Failed, message });
    }

    /// What is due about the above. Not called while the account is shut.
    pub(super) fn settle_talk(&mut self, name: &LoopName) {
        let Some(l) = self.w.loops.get(name) else { return };
        let free = l.life.turn.takes_text();
        if let Some(typed) = l.life.typed.clone().filter(|_| free) {
            self.settle_typed(name, typed);
            return;
        }
        let can_take = !matches!(l.life.turn, Turn::Person { .. }) && l.life.startup != Startup::Coming;
        if let Some(text) = l.life.kept.clone().filter(|_| can_take) {
            if let Some(l) = self.get_mut(name) {
                l.life.kept = None;
            }
            self.type_in(name, text, None);
            return;
        }
        let (Some(text), Some(at)) = (l.record.go_on.clone(), l.life.ready_at) else { return };
        if matches!(l.life.turn, Turn::Idle { .. }) && self.due(at.saturating_add(millis(BY_ITSELF))) {
            if let Some(l) = self.get_mut(name) {
                l.life.ready_at = None;
            }
            let why = "it was resumed after a refusal and did not go on by itself";
            self.journal(Some(name), "nudge", why, json!({ "text": text }), None);
            self.type_in(name, text, None);
        }
    }

    /// A text that waited for the end of a turn begins the next one, which is told; what was taken between two tools of
    /// that turn is told by the session's file only. So that is asked before a text is typed again, and soon: a drain
    /// waits for it.
    fn settle_typed(&mut self, name: &LoopName, typed: Typed) {
        let (soon, late) = (typed.at.saturating_add(millis(WRITTEN_WITHIN)), typed.at.saturating_add(millis(ACK_WAIT)));
        let Some((l, config)) = self.w.get(name) else { return };
        let path = l.record.agent.as_ref().and_then(|agent| agent.transcript.clone());
        let (Some(path), Some(epoch), true) = (path, l.live_epoch(), config.capabilities.evidence != Evidence::None)
        else {
            if self.due(late) {
                self.type_again(name, typed);
            }
            return;
        };
        let next = match typed.looked {
            // The answer comes.
            Some(looked) if looked >= late => return,
            Some(looked) if looked >= soon => late,
            Some(_) | None => soon,
        };
        if !self.due(next) {
            return;
        }
        let now = self.now;
        let (text, since) = (typed.text.clone(), typed.since);
        if let Some(l) = self.get_mut(name) {
            l.life.typed = Some(Typed { looked: Some(now.boot), ..typed });
        }
        self.due(late);
        self.push(Action::LookForText { name: name.clone(), epoch, path, text, since });
    }

    pub(super) fn text_looked_for(&mut self, name: &LoopName, epoch: u64, text: &str, found: bool) {
        let Some(l) = self.w.loops.get(name).filter(|l| l.live_epoch() == Some(epoch)) else { return };
        let Some(typed) = l.life.typed.clone().filter(|typed| typed.text == text) else { return };
        let free = l.life.turn.takes_text();
        if found {
            let why = "its session's file shows that it took the text within its turn";
            self.journal(Some(name), "nudge-taken", why, json!({ "text": text }), None);
            self.taken(name, "within the turn that it was in");
        } else if self.due(typed.at.saturating_add(millis(ACK_WAIT))) {
            if free && !self.account_shut(name) {
                self.type_again(name, typed);
            } else if let Some(l) = self.get_mut(name) {
                // Asked again when it could be typed again.
                l.life.typed = Some(Typed { looked: None, ..typed });
            }
        }
    }

    fn type_again(&mut self, name: &LoopName, typed: Typed) {
        let now = self.now;
        let evidence = json!({ "text": typed.text, "tries": typed.tries });
        if typed.tries < ACK_TRIES {
            let Some(l) = self.get_mut(name) else { return };
            l.life.typed = Some(Typed { tries: typed.tries + 1, at: now.boot, looked: None, ..typed.clone() });
            let action =
                Action::Nudge { name: name.clone(), text: typed.text, request: None, clearing: Clearing::InTheWay };
            self.push(action);
            let next = Some("what may be in its way is cleared, and it is typed again".to_owned());
            self.journal(Some(name), "nudge-again", "a nudge was typed and not taken", evidence, next);
            self.due(now.plus(ACK_WAIT).boot);
            return;
        }
        let Some(l) = self.get_mut(name) else { return };
        l.life.typed = None;
        let said = std::mem::replace(&mut l.life.undelivered, Said::Yes);
        let why = format!("a nudge was typed {} times and never taken", typed.tries);
        let mend = format!("something is in its way: `supervisor attach {name}`");
        self.journal(Some(name), "nudge-undelivered", &why, evidence, Some(mend.clone()));
        if said == Said::No {
            self.notify("nudge", Some(name), format!("{name}: {why}"), mend.clone());
        }
        let message = format!("nudging `{name}`: it was typed {} times and never taken; {mend}", typed.tries);
        self.answer_typed(&typed, Response::Refused { kind: Refusal::Failed, message });
    }
}

fn took_it(name: &LoopName, how: &str) -> String {
    format!("{name} took it: {how}")
}
