//! What the supervisor makes of what it finds when it starts: adopt, count a death, or resume after a reboot.

use super::Draft;
use super::action::{Action, How};
use super::event::HostFacts;
use super::stage::Stage;
use super::world::{AgentRecord, Life, LoopRecord, NextSession, Turn, Turns};
use crate::supervisor::agents::{Prompt, Session};
use crate::supervisor::config::HostKind;
use crate::supervisor::names::LoopName;
use serde_json::json;

impl Draft<'_> {
    /// Decides once per loop, when its tmux server was asked for the first time.
    pub(super) fn adopt(&mut self, name: &LoopName, facts: HostFacts) {
        if self.rebooted(name) {
            self.after_reboot(name);
            return;
        }
        // A start of the supervisor before may be on its way still, also one that it had given up itself.
        self.given_up(name);
        let Some(l) = self.w.loops.get(name) else { return };
        match facts.agent {
            Some(_) => self.adopt_running(name, &facts),
            None => match &l.record.agent {
                // `@epoch` is set in the same tmux call as the respawn: it tells whether the intent was carried out.
                Some(agent) if facts.epoch == Some(agent.epoch) => {
                    let cause = facts.death.unwrap_or(super::world::DeathCause::Unknown);
                    let told = agent.told;
                    self.enter_dying_for_adoption(name, told);
                    self.account_death(name, cause, "while no supervisor ran");
                    self.clear(name);
                }
                // It ran, and the pane knows nothing of it: the server is another one, or frozen and asked nothing.
                Some(AgentRecord { process: Some(_), told, .. }) => {
                    let told = *told;
                    self.journal(
                        Some(name),
                        "adopt",
                        "its agent ended with its tmux server while no supervisor ran; no crash is counted",
                        json!({ "server": facts.server.pid }),
                        None,
                    );
                    self.ended_without_crash(name, told);
                    self.clear(name);
                }
                Some(agent) => {
                    let evidence = json!({ "intended": agent.epoch, "pane": facts.epoch });
                    self.forget_intent(name);
                    self.journal(
                        Some(name),
                        "adopt",
                        "a start was intended and never made; the next start takes its place",
                        evidence,
                        None,
                    );
                    self.clear(name);
                }
                None => self.clear(name),
            },
        }
    }

    fn enter_dying_for_adoption(&mut self, name: &LoopName, told: Option<super::stage::StopWhy>) {
        // A supervisor that ended on purpose took its loops with it or left them; a death since then is no crash.
        let told = told.or(self.w.ended_before.map(|_| super::stage::StopWhy::Shutdown));
        self.enter(name, Stage::Dying { since: self.now, told });
    }

    /// The pane runs something: ours, by its epoch, or not.
    pub(super) fn adopt_running(&mut self, name: &LoopName, facts: &HostFacts) {
        let now = self.now;
        let boot_id = self.w.boot_id.clone();
        let (Some(process), Some(epoch)) = (facts.agent, facts.epoch) else {
            // The placeholder of a new pane still prints, or an operator ran something there by hand. Neither is an
            // agent of ours, and both are in its place.
            self.forget_intent(name);
            self.clear(name);
            return;
        };
        let Some(l) = self.get_mut(name) else { return };
        l.record.boot_id = boot_id;
        l.record.epoch = l.record.epoch.max(epoch);
        let known = l.record.agent.take().filter(|agent| agent.epoch == epoch);
        let mut agent = known.unwrap_or_else(|| AgentRecord {
            epoch,
            process: None,
            started: now,
            // Not known: shown as an older definition, which a restart mends.
            hash: String::new(),
            phase: None,
            gate: None,
            turns: Turns::Untold,
            session: Session::Fresh { uuid: l.record.session.clone().unwrap_or_default(), prompt: Prompt::Kickoff },
            told: None,
            transcript: None,
            turn_began: None,
            children_oom_killed: 0,
        });
        agent.process = Some(process);
        let told = agent.told.take();
        // What it said of itself before, it said to an earlier supervisor.
        let startup = match agent.turns {
            Turns::Untold => super::world::Startup::Found,
            Turns::Busy | Turns::Over => super::world::Startup::Ready,
        };
        l.life = Life { startup, ..Life::new(now, "found running") };
        match agent.turns {
            Turns::Untold => {}
            Turns::Busy => l.life.turn = Turn::Busy { since: now },
            Turns::Over => l.life.turn = Turn::Idle { since: now },
        }
        l.record.agent = Some(agent);
        self.enter(name, Stage::Up { since: now });
        self.journal(
            Some(name),
            "adopt",
            "its agent runs, started by an earlier supervisor; nothing was touched",
            json!({ "pid": process.pid, "epoch": epoch }),
            None,
        );
        if self.w.global.frozen.is_some() {
            // The earlier supervisor may have died half-way through the freeze.
            self.push(Action::Freeze(name.clone()));
        }
        // The earlier supervisor was about to end it.
        if let Some(why) = told.filter(|why| *why != super::stage::StopWhy::Shutdown) {
            self.end(name, why);
        }
    }

    /// There is no tmux server. What the record names may run all the same: it is cleared away.
    pub(super) fn adopt_without_host(&mut self, name: &LoopName) {
        if self.rebooted(name) {
            self.after_reboot(name);
            return;
        }
        let told = self.w.loops.get(name).and_then(|l| l.record.agent.as_ref()).and_then(|a| a.told);
        self.ended_without_crash(name, told);
        self.given_up(name);
        self.clear(name);
    }

    pub(super) fn rebooted(&self, name: &LoopName) -> bool {
        self.w.loops.get(name).is_some_and(|l| l.record.boot_id != self.w.boot_id)
    }

    /// The machine was off in between: resume without backoff and without counting a crash.
    fn after_reboot(&mut self, name: &LoopName) {
        let boot_id = self.w.boot_id.clone();
        let Some(l) = self.get_mut(name) else { return };
        let before = std::mem::replace(&mut l.record.boot_id, boot_id.clone());
        let agent = l.record.agent.as_ref().map(|agent| agent.told);
        l.record.budget.reset();
        if let Some(told) = agent {
            self.journal(
                Some(name),
                "reboot",
                "the machine was rebooted; the loop resumes without backoff, and no crash is counted",
                json!({ "boot_id": boot_id, "before": before }),
                None,
            );
            self.ended_without_crash(name, told);
        }
        self.clear(name);
    }

    /// An intent of which it is known that no process came of it.
    pub(super) fn forget_intent(&mut self, name: &LoopName) {
        let Some(l) = self.get_mut(name) else { return };
        l.record.agent = None;
    }

    /// The agent ended with its session host or its machine: nothing is counted, the session goes on.
    pub(super) fn ended_without_crash(&mut self, name: &LoopName, told: Option<super::stage::StopWhy>) {
        let now = self.now;
        let names_session = self.config(name).is_some_and(|c| c.capabilities.names_session);
        let Some(l) = self.get_mut(name) else { return };
        if let Some(agent) = l.record.agent.take() {
            // What it was doing is over, also for a drain that waits for its turn's end.
            l.life = Life { last_sign: None, ..Life::new(now, "ended") };
            l.record.session = Some(session_uuid(&agent.session));
            (l.record.session_phase, l.record.session_gate) = (agent.phase, agent.gate);
            l.record.next_session = match told {
                Some(super::stage::StopWhy::ContextFull) => NextSession::Handoff,
                Some(super::stage::StopWhy::Phase | super::stage::StopWhy::PlanComplete) => NextSession::Kickoff,
                _ if names_session => agent.resumable(),
                // A power cut in the very moment of the birth: whether the session exists is not known. A resume
                // that fails ends in a fresh session with the hand-off prompt.
                _ => NextSession::Resume,
            };
        }
    }

    /// A loop that the config no longer names: its agent would run for ever with nobody looking after it.
    pub(super) fn orphan(&mut self, name: &LoopName, record: &LoopRecord) {
        let same_boot = record.boot_id == self.w.boot_id;
        if record.server.is_none() && record.agent.is_none() {
            // It was ended at an earlier start; the record stays for its epoch, should the loop come back.
            return;
        }
        let mut ended = record.clone();
        ended.server = None;
        ended.session = ended.agent.take().map(|agent| session_uuid(&agent.session)).or(ended.session);
        self.push(Action::SaveLoop(name.clone(), Box::new(ended)));
        let (why, next) = match self.w.config.host {
            HostKind::Direct => ("the config no longer names this loop; its session is ended", None),
            HostKind::Systemd => {
                let next = format!("`systemctl disable --now cc-ci-session@{name}.service` ends its tmux server");
                ("the config no longer names this loop; its agent is ended", Some(next))
            }
        };
        let evidence = json!({ "server": record.server.map(|s| s.pid), "epoch": record.epoch });
        self.journal(Some(name), "retire", why, evidence, next);
        self.push(Action::RetireHost(name.clone(), record.server.filter(|_| same_boot)));
    }

    /// Asks a loop's server again.
    pub(super) fn probe_again(&mut self, name: &LoopName) {
        self.push(Action::ProbeHost(name.clone(), How::Ask));
    }
}

/// The uuid of a session.
pub(super) fn session_uuid(session: &Session) -> String {
    match session {
        Session::Fresh { uuid, .. } | Session::Resume { uuid } => uuid.clone(),
    }
}
