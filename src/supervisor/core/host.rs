//! A loop's tmux server: there, gone, hung.

use super::Draft;
use super::action::Action;
use super::event::HostFacts;
use super::stage::{Respawn, Stage, StageKind};
use super::world::{HostStatus, Mode, Pipe, Said};
use crate::supervisor::config::HostKind;
use crate::supervisor::names::LoopName;
use crate::support::process::ProcId;
use crate::support::units::short_duration;
use serde_json::json;
use std::time::Duration;

/// A server that lived this long has proved itself: its death is met at once, without backoff.
pub const PROVED: Duration = Duration::from_secs(10);
/// No server for this long is said as a hold of its own and notified.
pub const ABSENT_SAID: Duration = Duration::from_secs(10);
/// The longest time between two attempts to make one; the same as the units' RestartMaxDelaySec.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A server that was made must answer within this.
const COMING_MAX: Duration = Duration::from_secs(10);
/// Said of one that was killed and is still there: its loop has none until the kernel lets it go.
pub const NOT_ENDED: &str = "the old tmux server was killed and has not ended (it sleeps in the kernel: a disk or a \
                             network mount that does not answer)";
/// Between two attempts to open a log pipe that does not stay open (a full disk).
const PIPE_RETRY: Duration = Duration::from_secs(30);
/// A server that misses this many deadlines in a row is hung.
const MUTE_MAX: u32 = 2;

impl Draft<'_> {
    pub(super) fn host_up(&mut self, name: &LoopName, facts: HostFacts) {
        let now = self.now;
        let Some(l) = self.get_mut(name) else { return };
        let told = l.host.said == Said::Yes;
        let since = match l.host.status {
            HostStatus::Ready { server, since, .. } if server == facts.server => since,
            _ => now,
        };
        l.host.status = HostStatus::Ready { server: facts.server, since, misses: 0 };
        l.host.absent_since = None;
        l.host.said = Said::No;
        let replaced = l.record.server.replace(facts.server).is_some_and(|before| before != facts.server);
        l.pipe = if facts.piped { Pipe::Open } else { l.pipe.closed(now) };
        let stage = l.stage.kind();
        let unsure = matches!(l.stage, Stage::Starting { respawn: Respawn::Unsure, .. });
        if told {
            self.notify(
                "session-host",
                Some(name),
                format!("{name}: its tmux server is back"),
                "the loop starts by itself".to_owned(),
            );
        }
        match stage {
            StageKind::Adopting => self.adopt(name, facts),
            StageKind::Starting if unsure => self.start_settled(name, facts),
            // Something runs in the pane that this supervisor did not start: never two agents.
            StageKind::Down if facts.agent.is_some() => {
                self.journal(
                    Some(name),
                    "clear",
                    "something runs in the loop's pane that the supervisor did not start",
                    json!({ "pid": facts.agent.map(|a| a.pid) }),
                    None,
                );
                self.clear(name);
            }
            StageKind::Up | StageKind::Stopping | StageKind::Dying if replaced => {
                self.journal(
                    Some(name),
                    "session-host-lost",
                    "its tmux server is another one now; that is no crash of the agent",
                    json!({ "server": facts.server.pid }),
                    None,
                );
                self.ended_with_host(name);
            }
            // The agent's end is told by its pidfd. What a server says of its pane may be older than the last start.
            _ => {}
        }
    }

    /// The agent is gone with its server, whatever it was about to do.
    fn ended_with_host(&mut self, name: &LoopName) {
        let told = match self.w.loops.get(name).map(|l| &l.stage) {
            Some(Stage::Stopping { why, .. }) => Some(*why),
            Some(Stage::Dying { told, .. }) => *told,
            _ => None,
        };
        // A start on its way may reach the next server instead.
        if self.w.loops.get(name).is_some_and(|l| l.stage.kind() == StageKind::Starting) {
            self.given_up(name);
        }
        self.ended_without_crash(name, told);
        self.clear(name);
    }

    pub(super) fn host_down(&mut self, name: &LoopName, why: &str) {
        let now = self.now;
        let rebooted = self.rebooted(name);
        let Some(l) = self.get_mut(name) else { return };
        let stage = l.stage.kind();
        // systemd makes the servers: that one is still not there is no news.
        let waited = matches!(l.host.status, HostStatus::Absent { .. } | HostStatus::Coming { .. });
        let proved = match l.host.status {
            HostStatus::Ready { since, .. } => now.since(since) >= PROVED,
            HostStatus::Probing => true,
            HostStatus::Absent { .. } | HostStatus::Coming { .. } | HostStatus::Killed => false,
        };
        // A server of another boot is no loss: the reboot is told instead.
        let first = stage == StageKind::Adopting && (rebooted || l.record.server.is_none());
        l.host.tries = if proved { 0 } else { l.host.tries.saturating_add(1) };
        let delay = match l.host.tries {
            0 | 1 => Duration::ZERO,
            n => RETRY_MAX.min(Duration::from_secs(1 << (n - 2).min(5))),
        };
        l.host.status = HostStatus::Absent { next: now.plus(delay).boot, why: why.to_owned() };
        l.host.absent_since.get_or_insert(now);
        let server = l.record.server.take();
        let by_systemd = self.w.config.host == HostKind::Systemd;
        if !first && self.w.mode == Mode::Running && !(by_systemd && waited) {
            self.journal(
                Some(name),
                "session-host-lost",
                "its tmux server is gone; that is no crash of the agent",
                json!({ "evidence": why, "server": server.map(|s| s.pid) }),
                Some(match delay.is_zero() {
                    _ if by_systemd => "systemd starts it again, and the agent follows".to_owned(),
                    true => "a new one is made at once".to_owned(),
                    false => format!("a new one is made after {}", short_duration(delay)),
                }),
            );
        }
        match stage {
            StageKind::Adopting => self.adopt_without_host(name),
            StageKind::Starting | StageKind::Up | StageKind::Stopping | StageKind::Dying => {
                self.ended_with_host(name);
            }
            StageKind::Down | StageKind::Clearing => {}
        }
    }

    pub(super) fn host_mute(&mut self, name: &LoopName) {
        // Only a running agent's server is stopped with it. One whose agent was just being started, ended or died while
        // frozen is not: its silence means what it always does.
        let stopped = self.w.loops.get(name).is_some_and(|l| l.stage.kind() == StageKind::Up);
        if self.w.global.frozen.is_some() && stopped {
            return;
        }
        let how = self.how_to_probe(name);
        let boot_id = self.w.boot_id.clone();
        let Some(l) = self.get_mut(name) else { return };
        let stage = l.stage.kind();
        let (server, misses) = match &mut l.host.status {
            HostStatus::Ready { server, misses, .. } => {
                *misses = misses.saturating_add(1);
                (Some(*server), *misses)
            }
            HostStatus::Probing | HostStatus::Coming { .. } => {
                // It has never answered; the record may know who it is.
                l.host.tries = l.host.tries.saturating_add(1);
                (l.record.server.filter(|_| l.record.boot_id == boot_id), l.host.tries)
            }
            HostStatus::Absent { .. } | HostStatus::Killed => return,
        };
        // It may be the start that was not answered: what the server says next decides.
        self.unsure(name);
        if misses < MUTE_MAX {
            self.push(Action::ProbeHost(name.clone(), how));
            if stage == StageKind::Dying {
                self.read_death(name);
            }
            return;
        }
        let Some(server) = server else {
            self.host_down(name, "a tmux server that never answered and whose pid is not known");
            return;
        };
        let now = self.now;
        if let Some(l) = self.get_mut(name) {
            l.host.status = HostStatus::Killed;
            l.host.absent_since.get_or_insert(now);
        }
        self.journal(
            Some(name),
            "session-host-hung",
            "its tmux server missed two deadlines in a row and is killed",
            json!({ "server": server.pid, "deadline": "2 s", "misses": misses }),
            Some("what it left behind is killed, then a new one is made".to_owned()),
        );
        self.push(Action::KillHost(name.clone(), server));
    }

    /// An operator killed the pane: with it the loop's one place is gone, so the server goes too and is made anew.
    pub(super) fn pane_gone(&mut self, name: &LoopName, server: ProcId) {
        let now = self.now;
        let Some(l) = self.get_mut(name) else { return };
        if l.host.status == HostStatus::Killed {
            return;
        }
        l.host.status = HostStatus::Killed;
        l.host.absent_since.get_or_insert(now);
        l.record.server = Some(server);
        self.journal(
            Some(name),
            "pane-gone",
            "its tmux server lives without the loop's pane; it is killed and made anew",
            json!({ "server": server.pid }),
            None,
        );
        self.push(Action::KillHost(name.clone(), server));
    }

    pub(super) fn pipe_closed(&mut self, name: &LoopName) {
        let now = self.now;
        let Some(l) = self.get_mut(name) else { return };
        if l.pipe != Pipe::Open {
            return;
        }
        l.pipe = l.pipe.closed(now);
        let stage = l.stage.kind();
        self.journal(
            Some(name),
            "log-pipe-closed",
            "the pane's output no longer reaches the log (a full disk ends the pipe, and so does a killed pane)",
            json!({}),
            Some("opened again at once, then every 30 s".to_owned()),
        );
        if stage == StageKind::Up && self.w.global.frozen.is_none() {
            self.probe_again(name);
        }
    }

    /// While an agent runs; a start opens the pipe by itself.
    pub(super) fn settle_pipe(&mut self, name: &LoopName) {
        let now = self.now;
        let Some(l) = self.w.loops.get(name) else { return };
        let (Pipe::Closed { retry_at }, HostStatus::Ready { .. }) = (l.pipe, &l.host.status) else { return };
        if !self.due(retry_at) {
            return;
        }
        if let Some(l) = self.get_mut(name) {
            l.pipe = Pipe::Closed { retry_at: now.plus(PIPE_RETRY).boot };
        }
        self.due(now.plus(PIPE_RETRY).boot);
        self.push(Action::Repipe(name.clone()));
    }

    pub(super) fn settle_host(&mut self, name: &LoopName) {
        if self.w.mode != Mode::Running || self.w.global.frozen.is_some() {
            return;
        }
        let Some(l) = self.w.loops.get(name) else { return };
        match l.host.status {
            HostStatus::Absent { next, .. } => {
                if self.due(next) {
                    let now = self.now;
                    if let Some(l) = self.get_mut(name) {
                        l.host.status = HostStatus::Coming { since: now };
                    }
                    self.due(now.plus(COMING_MAX).boot);
                    self.push(Action::SpawnHost(name.clone()));
                }
            }
            HostStatus::Coming { since } => {
                if self.due(since.plus(COMING_MAX).boot) {
                    self.host_down(name, "a new tmux server did not answer within 10 s");
                    // The next attempt, or the moment of it. Ends: a server that is coming since now is not due.
                    return self.settle_host(name);
                }
            }
            HostStatus::Probing | HostStatus::Ready { .. } | HostStatus::Killed => {}
        }
        self.say_absent(name);
    }

    fn say_absent(&mut self, name: &LoopName) {
        let Some(l) = self.w.loops.get(name) else { return };
        let (Some(since), Said::No) = (l.host.absent_since, l.host.said) else { return };
        if !self.due(since.plus(ABSENT_SAID).boot) {
            return;
        }
        let why = match &self.w.loops.get(name).map(|l| l.host.status.clone()) {
            Some(HostStatus::Absent { why, .. }) => why.clone(),
            Some(HostStatus::Killed) => NOT_ENDED.to_owned(),
            _ => "it does not come up".to_owned(),
        };
        let remedy = host_remedy(self.w.config.host, name);
        self.notify("session-host", Some(name), format!("{name}: no session host: {why}"), remedy);
        if let Some(l) = self.get_mut(name) {
            l.host.said = Said::Yes;
        }
    }
}

impl Pipe {
    /// As closed, to be opened again at once, or when it was planned already.
    pub(super) fn closed(self, now: crate::support::clock::Now) -> Self {
        match self {
            Self::Open => Self::Closed { retry_at: now.boot },
            Self::Closed { .. } => self,
        }
    }
}

/// The command that mends a missing session host.
pub fn host_remedy(host: HostKind, name: &LoopName) -> String {
    match host {
        HostKind::Systemd => format!("systemctl start cc-ci-session@{name}.service"),
        HostKind::Direct => format!("see `supervisor doctor` and the end of logs/{name}.host.log in the state dir"),
    }
}
