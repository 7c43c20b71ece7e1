//! What the operator, the loops and the test itself ask of the machine.

use super::machine::Machine;
use super::place::Place;
use crate::supervisor::agents::Signal;
use crate::supervisor::control::protocol::{Refusal, Request, Response, Which};
use crate::supervisor::core::event::{Caller, Event};
use crate::supervisor::core::holds::{Hold, HoldKind, holds};
use crate::supervisor::core::stage::StageKind;
use crate::supervisor::core::world::{DeathCause, Loop, RequestId, Wish};
use crate::supervisor::journal::Entry;
use crate::supervisor::names::LoopName;
use std::time::Duration;

impl Machine {
    /// Something is asked by the operator.
    pub fn ask(&mut self, what: Request) -> RequestId {
        self.ask_as(Caller::Operator { names: None, epoch: None }, what)
    }

    pub fn ask_as(&mut self, caller: Caller, what: Request) -> RequestId {
        self.requests += 1;
        let request = self.requests;
        let patience = if let Request::Drain { timeout_ms } = what { timeout_ms + 1000 } else { 60_000 };
        self.pending.insert(request, (what.clone(), self.now.boot + patience));
        if let (Request::PhaseSet { index }, Caller::Operator { .. }) = (&what, &caller) {
            self.phase_set = Some(*index);
        }
        if let (Request::Start { which } | Request::Restart { which }, Caller::Operator { .. }) = (&what, &caller) {
            let which = which.clone();
            self.promised.retain(|name| matches!(&which, Which::Loops(names) if !names.contains(name)));
        }
        if self.world.is_none() {
            self.pending.remove(&request);
        }
        self.feed(Event::Asked { request, caller, what });
        request
    }

    /// Asked by the operator, and everything that follows at once has happened.
    pub fn order(&mut self, what: Request) -> Option<Response> {
        let request = self.ask(what);
        self.run(Duration::ZERO);
        self.replies.get(&request).cloned()
    }

    pub(super) fn answered(&mut self, request: RequestId, response: Response) {
        let Some((what, _)) = self.pending.remove(&request) else {
            assert!(!self.replies.contains_key(&request), "request {request} was answered twice");
            return;
        };
        let done = !matches!(response, Response::Refused { kind: Refusal::Failed | Refusal::Usage, .. });
        let names = |which: &Which| match which {
            Which::All => self.places.keys().cloned().collect(),
            Which::Loops(names) => names.clone(),
        };
        match &what {
            Request::Stop { which } if done => {
                // Asked for before, and perhaps wanted to run again since.
                let stopped = |name: &LoopName| {
                    let l = self.world.as_ref().and_then(|w| w.loops.get(name));
                    l.is_none_or(|l| matches!(l.record.wish, Wish::Stop { .. }))
                };
                let promised: Vec<LoopName> = names(which).into_iter().filter(stopped).collect();
                self.promised.extend(promised);
            }
            Request::PhaseSet { .. } | Request::PhaseAdvance if done => {
                if let (Response::Phase(view), true) = (&response, self.world.is_some()) {
                    assert_eq!(view.index, Some(self.disk.phase), "the reply says another phase than the file");
                }
            }
            _ => {}
        }
        self.replies.insert(request, response);
    }

    /// The loop, as the supervisor sees it.
    pub fn stage(&self, text: &str) -> StageKind {
        self.world.as_ref().unwrap().loops[&super::name(text)].stage.kind()
    }

    pub fn place(&mut self, text: &str) -> &mut Place {
        self.places.get_mut(&super::name(text)).unwrap()
    }

    /// What the loop's living agent tells, and what follows at once.
    pub fn signal(&mut self, text: &str, signal: Signal) {
        let name = super::name(text);
        let epoch = self.world.as_ref().and_then(|w| w.loops[&name].live_epoch());
        self.feed(Event::Signals { name, epoch, signals: vec![signal] });
        self.run(Duration::ZERO);
    }

    /// The loop's agent dies, and what follows at once.
    pub fn dies(&mut self, text: &str, cause: DeathCause) {
        self.place(text).agent_dies(cause);
        self.run(Duration::ZERO);
    }

    /// What holds the loop.
    pub fn holds(&self, text: &str) -> Vec<Hold> {
        holds(self.world.as_ref().unwrap(), &super::name(text), self.now)
    }

    /// The word of the hold that is shown first.
    pub fn hold(&self, text: &str) -> Option<HoldKind> {
        self.holds(text).first().map(|hold| hold.kind)
    }

    /// How many starts of the loop reached tmux.
    pub fn started(&self, text: &str) -> usize {
        self.starts.iter().filter(|start| start.name.as_str() == text).count()
    }

    /// How many notifications of that kind there were.
    pub fn told(&self, kind: &str) -> usize {
        self.notes.iter().filter(|note| note.kind == kind).count()
    }

    /// Whether the journal has that decision.
    pub fn decided(&self, decision: &str) -> bool {
        self.journal.iter().any(|entry| entry.decision == decision)
    }

    /// What was typed into the loop's pane.
    pub fn typed(&self, text: &str) -> Vec<&str> {
        self.nudges.iter().filter(|(name, _)| name.as_str() == text).map(|(_, text)| text.as_str()).collect()
    }

    /// The loop as the supervisor has it.
    pub fn seen(&self, text: &str) -> &Loop {
        &self.world.as_ref().unwrap().loops[&super::name(text)]
    }

    /// The end of the journal, for a failed check.
    pub(super) fn tail(&self) -> String {
        let from = self.journal.len().saturating_sub(25);
        let line = |e: &Entry| {
            let l = e.loop_name.as_ref().map_or("-", LoopName::as_str).to_owned();
            format!("{:>10} {l} {:?} {}: {}", e.at.boot, e.epoch, e.decision, e.why)
        };
        self.journal[from..].iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
