//! What is asked over the control socket: by the operator, or by a process inside a loop, which may less.

use super::Draft;
use super::action::Action;
use super::event::Caller;
use super::holds::holds;
use super::stage::{Stage, StageKind, StopWhy};
use super::view;
use super::world::{Probe, RequestId, Startup, Until, Waiter, Wish};
use crate::supervisor::control::protocol::{Refusal, Request, Response, Which};
use crate::supervisor::names::LoopName;
use crate::support::clock::millis;
use serde_json::json;
use std::time::Duration;

/// A `start` or `restart` answers at the latest after this; the loop goes on coming up.
const SETTLE_MAX: Duration = Duration::from_secs(15);

impl Draft<'_> {
    pub(super) fn asked(&mut self, request: RequestId, caller: &Caller, what: Request) {
        if let Some(message) = not_from_inside(caller, &what) {
            let by = caller.text();
            let evidence = json!({ "caller": by, "request": word(&what) });
            self.journal(caller.loop_name(), "refused", &message, evidence, None);
            self.refuse(request, Refusal::Failed, message);
            return;
        }
        match what {
            Request::Status => {
                let view = view::status(&self.w, self.now);
                self.reply(request, Response::Status(Box::new(view)));
            }
            Request::Explain { name } => match view::explain(&self.w, &name, self.now) {
                Some(view) => self.reply(request, Response::Explain(Box::new(view))),
                None => self.refuse(request, Refusal::Usage, self.no_such(&name)),
            },
            Request::Start { which } => self.start_request(request, caller, &which),
            Request::Stop { which } => self.stop_request(request, caller, &which),
            Request::Restart { which } => self.restart_request(request, caller, &which),
            Request::Freeze => self.freeze(request, caller),
            Request::Thaw => self.thaw(request, caller),
            Request::Drain { timeout_ms } => self.drain(request, Duration::from_millis(timeout_ms)),
            Request::Attach { name } => self.attach(request, &name),
            Request::Nudge { name, text } => self.nudge(request, caller, &name, text),
            Request::PhaseShow => {
                let view = view::phase_view(&self.w);
                self.reply(request, Response::Phase(view));
            }
            Request::PhaseSet { index } => self.phase_request(request, caller, Some(index)),
            Request::PhaseAdvance => self.phase_request(request, caller, None),
            Request::GateShow => self.gate_answer(request),
            Request::GateClaim { commit } => self.gate_claim(request, caller, commit),
            Request::GatePass => self.gate_pass(request, caller),
            Request::GateFail { reason } => self.gate_fail(request, caller, reason),
            Request::Event { event } => self.event(request, caller, &event),
        }
    }

    fn no_such(&self, name: &LoopName) -> String {
        let known = self.w.loops.keys().map(LoopName::as_str).collect::<Vec<_>>().join(", ");
        format!("there is no loop `{name}`; the config has {known}")
    }

    /// The loops of a request, or the refusal of one that the config does not have.
    fn which(&mut self, request: RequestId, which: &Which) -> Option<Vec<LoopName>> {
        match which {
            Which::All => Some(self.w.loops.keys().cloned().collect()),
            Which::Loops(names) => {
                if let Some(missing) = names.iter().find(|name| !self.w.loops.contains_key(name)) {
                    let message = self.no_such(missing);
                    self.refuse(request, Refusal::Usage, message);
                    return None;
                }
                Some(names.clone())
            }
        }
    }

    fn start_request(&mut self, request: RequestId, caller: &Caller, which: &Which) {
        let Some(names) = self.which(request, which) else { return };
        match which {
            Which::All => self.w.global.drain = None,
            // It would be held again as soon as it is at a safe point, and who asked would believe that it runs.
            Which::Loops(_) if self.w.global.drain.is_some() => {
                let message = "start: a drain is under way, which would hold it again; end the drain with `supervisor start \
                               --all`, or wait until it is over";
                self.refuse(request, Refusal::NotNow, message);
                return;
            }
            Which::Loops(_) => {}
        }
        for name in &names {
            self.wish_run(name, caller, "operator-start");
        }
        let waits = names
            .iter()
            .filter_map(|name| self.w.loops.get(name).map(|l| (name, l)))
            .map(|(name, l)| match l.stage {
                Stage::Up { .. } | Stage::Starting { .. } | Stage::Adopting => {
                    (name.clone(), l.record.epoch.saturating_sub(1))
                }
                _ => (name.clone(), l.record.epoch),
            })
            .collect();
        self.wait(request, Until::Settled(waits), SETTLE_MAX);
    }

    /// The operator wants it to run: whatever a person or the supervisor's caution put in its way is over.
    fn wish_run(&mut self, name: &LoopName, caller: &Caller, word: &str) {
        let Some(l) = self.get_mut(name) else { return };
        l.record.wish = Wish::Run;
        l.record.drained = None;
        l.start_failure = None;
        if !matches!(l.stage, Stage::Up { .. }) {
            l.record.budget.reset();
        }
        self.try_account_now(name);
        self.probe_needs_now(name);
        self.journal(Some(name), word, &format!("{} wants it to run", caller.text()), json!({}), None);
    }

    /// Whoever starts a loop by hand may just have changed what it needs: what was found before says nothing now.
    fn probe_needs_now(&mut self, name: &LoopName) {
        let Some(config) = self.config(name) else { return };
        for need in &config.needs {
            if let Some(Probe::Idle { last, .. }) = self.w.needs.get_mut(need).map(|need| &mut need.probe) {
                *last = None;
            }
        }
    }

    fn stop_request(&mut self, request: RequestId, caller: &Caller, which: &Which) {
        let Some(names) = self.which(request, which) else { return };
        let now = self.now;
        let mut patience = Duration::ZERO;
        for name in &names {
            let Some(l) = self.get_mut(name) else { continue };
            if !matches!(l.record.wish, Wish::Stop { .. }) {
                l.record.wish = Wish::Stop { since: now };
            }
            let why = format!("{} wants it stopped", caller.text());
            self.journal(
                Some(name),
                "operator-stop",
                &why,
                json!({}),
                Some(format!("it stays stopped, also over a reboot, until `supervisor start {name}`")),
            );
            self.end(name, StopWhy::Operator);
            patience = patience.max(self.config(name).map(|c| c.stop_timeout).unwrap_or_default());
        }
        self.wait(request, Until::Stopped(names), patience + SETTLE_MAX);
    }

    fn restart_request(&mut self, request: RequestId, caller: &Caller, which: &Which) {
        let Some(names) = self.which(request, which) else { return };
        let mut patience = Duration::ZERO;
        let mut waits = Vec::new();
        for name in &names {
            self.wish_run(name, caller, "operator-restart");
            self.end(name, StopWhy::OperatorRestart);
            patience = patience.max(self.config(name).map(|c| c.stop_timeout).unwrap_or_default());
            // One that is being started is new enough.
            let starting = self.w.loops.get(name).is_some_and(|l| l.stage.kind() == StageKind::Starting);
            waits.push((name.clone(), self.epoch_of(name).saturating_sub(u64::from(starting))));
        }
        self.wait(request, Until::Settled(waits), patience + SETTLE_MAX);
    }

    fn freeze(&mut self, request: RequestId, caller: &Caller) {
        if self.w.global.frozen.is_some() {
            self.done(request, vec!["everything is frozen already; `supervisor thaw` ends it".to_owned()]);
            return;
        }
        self.w.global.frozen = Some(self.now);
        self.journal(
            None,
            "freeze",
            &format!("{} wants every agent stopped in place", caller.text()),
            json!({}),
            Some("nothing starts until `supervisor thaw`, also after a reboot".to_owned()),
        );
        let mut count = 0;
        let names: Vec<LoopName> = self.w.loops.keys().cloned().collect();
        for name in names {
            if self.w.loops.get(&name).is_some_and(|l| l.stage.kind() == StageKind::Up) {
                count += 1;
                self.push(Action::Freeze(name));
            }
        }
        self.done(
            request,
            vec![format!(
                "stopped in place: {count} of {} loops; nothing starts until `supervisor thaw`",
                self.w.loops.len()
            )],
        );
    }

    fn thaw(&mut self, request: RequestId, caller: &Caller) {
        let Some(since) = self.w.global.frozen.take() else {
            self.done(request, vec!["nothing is frozen".to_owned()]);
            return;
        };
        let now = self.now;
        let why = format!("{} lets everything go on", caller.text());
        let frozen_for = crate::support::units::short_duration(now.since(since));
        self.journal(None, "thaw", &why, json!({ "frozen_for": frozen_for }), None);
        let names: Vec<LoopName> = self.w.loops.keys().cloned().collect();
        for name in &names {
            let Some(l) = self.get_mut(name) else { continue };
            if l.stage.may_have_agent() {
                // Stall clocks stood still.
                l.life.last_sign = Some(now);
                l.life.stall = super::world::Stall::None;
            }
            // Also without an agent: it may have died while its tmux server was stopped with it.
            self.push(Action::Thaw(name.clone()));
        }
        self.done(request, vec!["agents go on; held loops start".to_owned()]);
    }

    fn attach(&mut self, request: RequestId, name: &LoopName) {
        if !self.w.loops.contains_key(name) {
            let message = self.no_such(name);
            self.refuse(request, Refusal::Usage, message);
        } else if self.w.global.frozen.is_some() {
            let message =
                format!("attaching to `{name}`: it is frozen, its tmux server too; run `supervisor thaw` first");
            self.refuse(request, Refusal::NotNow, message);
        } else {
            // Makes the socket again if it was removed.
            self.probe_again(name);
            self.done(request, Vec::new());
        }
    }

    fn nudge(&mut self, request: RequestId, caller: &Caller, name: &LoopName, text: String) {
        let Some(l) = self.w.loops.get(name) else {
            let message = self.no_such(name);
            self.refuse(request, Refusal::Usage, message);
            return;
        };
        let why_not = if l.stage.kind() != StageKind::Up {
            Some("it does not run")
        } else if self.w.global.frozen.is_some() {
            Some("it is frozen")
        } else if self.account_shut(name) {
            Some("its account cannot be used now, so the text would be lost")
        } else if self.config(name).is_some_and(|c| c.capabilities.acknowledges)
            && matches!(l.life.startup, Startup::Coming)
        {
            Some("it has not said that it is up, so the text would be lost")
        } else {
            None
        };
        if let Some(why_not) = why_not {
            let message = format!("nudging `{name}`: {why_not}; see `supervisor explain {name}`");
            self.refuse(request, Refusal::NotNow, message);
            return;
        }
        let why = format!("{} nudges it", caller.text());
        self.journal(Some(name), "nudge", &why, json!({ "text": text.clone() }), None);
        self.type_in(name, text, Some(request));
    }

    /// Never refused: a hook must not fail a turn.
    fn event(&mut self, request: RequestId, caller: &Caller, event: &serde_json::Value) {
        if let Some(name) = caller.loop_name().cloned() {
            if let Some(config) = self.config(&name) {
                let signals = config.adapter.read_event(event, self.now.wall);
                self.signals(&name, caller.epoch(), signals);
            }
        }
        self.done(request, Vec::new());
    }

    fn wait(&mut self, request: RequestId, until: Until, patience: Duration) {
        let deadline = self.now.boot.saturating_add(millis(patience));
        self.w.waiters.push(Waiter { request, until, deadline });
    }

    /// Answers those whose time has come.
    pub(super) fn settle_waiters(&mut self) {
        let waiters = std::mem::take(&mut self.w.waiters);
        for waiter in waiters {
            let over = self.due(waiter.deadline);
            match self.answer(&waiter, over) {
                Some(response) => self.reply(waiter.request, response),
                None => self.w.waiters.push(waiter),
            }
        }
    }

    fn answer(&self, waiter: &Waiter, over: bool) -> Option<Response> {
        match &waiter.until {
            Until::Drained => {
                if self.w.global.drain.is_some() && !over {
                    return None;
                }
                let open = self.unsafe_loops();
                Some(if open.is_empty() {
                    let lines = vec!["every loop is at a safe point and held; `supervisor start --all` ends it".into()];
                    Response::Done { lines }
                } else {
                    let message = format!(
                        "draining: not safe in time: {}; the others stay held, `supervisor start --all` releases them",
                        open.join("; ")
                    );
                    Response::Refused { kind: Refusal::NotNow, message }
                })
            }
            Until::Stopped(names) => {
                let living: Vec<&str> = names
                    .iter()
                    .filter(|name| self.w.loops.get(name).is_some_and(|l| l.stage.kind() != StageKind::Down))
                    .map(LoopName::as_str)
                    .collect();
                if living.is_empty() {
                    let lines = names.iter().map(|name| format!("{name}: stopped")).collect();
                    return Some(Response::Done { lines });
                }
                over.then(|| Response::Refused {
                    kind: Refusal::NotNow,
                    message: format!(
                        "stopping: {} still runs; it stays told to stop, see `supervisor explain {}`",
                        living.join(", "),
                        living[0]
                    ),
                })
            }
            Until::Acknowledged(name) => over.then(|| Response::Refused {
                kind: Refusal::NotNow,
                message: format!(
                    "nudging `{name}`: it was typed, and {name} has not said that it took it; see `supervisor explain {name}`"
                ),
            }),
            Until::Settled(waits) => {
                let mut lines = Vec::new();
                for (name, above) in waits {
                    let Some(l) = self.w.loops.get(name) else { continue };
                    match l.stage {
                        Stage::Up { .. } if l.record.epoch > *above => {
                            let pid = l.record.agent.as_ref().and_then(|a| a.process).map_or(0, |p| p.pid);
                            lines.push(format!("{name}: up, pid {pid}, epoch {}", l.record.epoch));
                        }
                        Stage::Down { .. } if held(&self.w, name, self.now).is_some() || over => {
                            let why = held(&self.w, name, self.now).unwrap_or_else(|| "not started yet".to_owned());
                            lines.push(format!("{name}: held: {why}"));
                        }
                        _ if over => lines.push(format!("{name}: {}", view::state_word(&self.w, name, self.now))),
                        _ => return None,
                    }
                }
                Some(Response::Done { lines })
            }
        }
    }
}

/// The hold to name, unless it is over in a moment.
fn held(world: &super::world::World, name: &LoopName, now: crate::support::clock::Now) -> Option<String> {
    use super::holds::HoldKind;
    let first = holds(world, name, now).into_iter().next()?;
    let moment = matches!(first.kind, HoldKind::SessionHostComing | HoldKind::Stagger)
        || (first.kind == HoldKind::Needs && first.what.ends_with("being probed"))
        // What was read a while ago is read again before a start.
        || (first.kind == HoldKind::Memory
            && (first.what.ends_with("being read") || world.memory.free >= world.config.min_free_memory));
    (!moment).then_some(first.what)
}

/// Why a request is refused to a process inside a loop. All loops are one Unix user, so this guards against mistakes,
/// not against an attacker.
fn not_from_inside(caller: &Caller, what: &Request) -> Option<String> {
    let Caller::Inside { name, .. } = caller else { return None };
    match what {
        Request::Start { .. }
        | Request::Stop { .. }
        | Request::Restart { .. }
        | Request::Freeze
        | Request::Thaw
        | Request::Drain { .. }
        | Request::PhaseSet { .. }
        | Request::PhaseAdvance => Some(format!(
            "{}: refused, since it comes from inside the loop `{name}`; only the operator may, from outside every loop",
            word(what)
        )),
        Request::Status
        | Request::Explain { .. }
        | Request::Attach { .. }
        | Request::Nudge { .. }
        | Request::PhaseShow
        | Request::GateShow
        | Request::GateClaim { .. }
        | Request::GatePass
        | Request::GateFail { .. }
        | Request::Event { .. } => None,
    }
}

fn word(what: &Request) -> &'static str {
    match what {
        Request::Status => "status",
        Request::Explain { .. } => "explain",
        Request::Start { .. } => "start",
        Request::Stop { .. } => "stop",
        Request::Restart { .. } => "restart",
        Request::Freeze => "freeze",
        Request::Thaw => "thaw",
        Request::Drain { .. } => "drain",
        Request::Attach { .. } => "attach",
        Request::Nudge { .. } => "nudge",
        Request::PhaseShow => "phase show",
        Request::PhaseSet { .. } => "phase set",
        Request::PhaseAdvance => "phase advance",
        Request::GateShow => "gate show",
        Request::GateClaim { .. } => "gate claim",
        Request::GatePass => "gate pass",
        Request::GateFail { .. } => "gate fail",
        Request::Event { .. } => "event",
    }
}
