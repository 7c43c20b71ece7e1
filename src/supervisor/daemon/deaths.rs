//! What an agent died of.

use super::Daemon;
use super::hosts::COMING_RETRY_MS;
use super::tasks::{Purpose, Retry};
use crate::supervisor::config::HostKind;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::stage::Stage;
use crate::supervisor::core::world::DeathCause;
use crate::supervisor::names::LoopName;
use crate::supervisor::tmux::{self, Failure, Probe};
use crate::support::child::{End, Finished};
use crate::support::clock::Now;
use crate::support::process::ProcId;
use crate::support::process::ended::{self, Ended};
use rustix::process::Signal;
use std::process::Command;

/// tmux learns of a death a moment after the pidfd does: asked again soon, then less soon.
const DEATH_RETRY_MS: [u64; 6] = [1, 2, 5, 20, 50, 100];
/// How long tmux is asked for the cause of a death before it is called unknown.
const DEATH_PATIENCE_MS: u64 = 1_000;
/// It is asked so many times however long its answers take.
const ASKED_AT_LEAST: u32 = 3;
/// systemd answers within milliseconds, but for the seconds of a daemon-reload.
const UNIT_DEADLINE_MS: u64 = 10_000;

impl Daemon {
    /// What an agent died of: from the kernel if it was killed, which is told at once, else from tmux.
    pub(super) fn read_death(&mut self, name: &LoopName, epoch: u64, since: u64, tries: u32) {
        if let Some(signal) = self.killed_by(name, epoch) {
            let cause = self.killed_by_whom(name, epoch, DeathCause::Killed { signal });
            self.death_known(name, epoch, cause, self.pipes.contains_key(name));
            return;
        }
        let purpose = Purpose::Death { name: name.clone(), epoch, since, tries };
        if let Err(why) = self.tmux(name, &tmux::probe(), purpose) {
            tracing::warn!("{name}: {why}");
            self.death_unknown(name, epoch);
        }
    }

    /// The signal that killed the agent of this epoch, while tmux has not reaped it. Not of SIGHUP and not of an exit: that
    /// is also how it ends when its terminal goes because the tmux server is being ended, which is no death of the
    /// agent; tmux, which then answers no more, must be asked.
    fn killed_by(&self, name: &LoopName, epoch: u64) -> Option<i32> {
        let agent = self.world.loops.get(name)?.record.agent.as_ref().filter(|agent| agent.epoch == epoch)?;
        match ended::how(agent.process?) {
            Ok(Some(Ended::Killed(signal))) if signal != Signal::HUP.as_raw() => Some(signal),
            Ok(_) => None,
            Err(e) => {
                tracing::warn!("{name}: looking at how its agent ended: {e}; its tmux server is asked");
                None
            }
        }
    }

    fn death_unknown(&mut self, name: &LoopName, epoch: u64) {
        let cause = DeathCause::Unknown;
        self.queue.push_back(Event::DeathRead { name: name.clone(), epoch, cause, piped: true });
    }

    pub(super) fn death_told(
        &mut self,
        name: LoopName,
        epoch: u64,
        since: u64,
        tries: u32,
        ended: &crate::support::child::Finished,
    ) {
        let pane = match tmux::read_probe(ended) {
            Ok(Probe { pane: Some(pane), .. }) => pane,
            Ok(Probe { pane: None, server, .. }) => {
                if let Ok(Some(server)) = ProcId::of(server) {
                    self.queue.push_back(Event::PaneGone { name, server });
                } else {
                    self.death_unknown(&name, epoch);
                }
                return;
            }
            Err(Failure::Overdue) => {
                self.queue.push_back(Event::HostMute { name });
                return;
            }
            Err(_) if Now::read().boot < since + DEATH_PATIENCE_MS => {
                // The server is dying too, which its pidfd tells in a moment and which is no crash of the agent, or its
                // socket is gone, which is mended by a look.
                if tries == 0 {
                    self.probe(&name, 0);
                }
                self.retry(COMING_RETRY_MS, Retry::Death { name, epoch, since, tries: tries + 1 });
                return;
            }
            Err(_) => {
                self.death_unknown(&name, epoch);
                self.probe(&name, 0);
                return;
            }
        };
        let piped = pane.pipe == tmux::Pipe::Open;
        let cause = match (pane.status, pane.signal) {
            _ if pane.epoch != Some(epoch) => DeathCause::Unknown,
            (_, Some(signal)) => self.killed_by_whom(&name, epoch, DeathCause::Killed { signal }),
            (Some(status), None) => DeathCause::Exited { status },
            // A first answer may come late.
            (None, None) if tries < ASKED_AT_LEAST || Now::read().boot < since + DEATH_PATIENCE_MS => {
                // The helper that tmux runs for utmp when a pane ends (libutempter) has SIGCHLD ignored meanwhile: tmux
                // 3.3a misses the death and leaves the zombie. Told again it looks; it has answered, so the helper is
                // over.
                if let Some((server, _)) = self.servers.get(&name) {
                    self.signal_server(&name, *server, Signal::CHILD);
                }
                let wait = DEATH_RETRY_MS[(tries as usize).min(DEATH_RETRY_MS.len() - 1)];
                self.retry(wait, Retry::Death { name, epoch, since, tries: tries + 1 });
                return;
            }
            (None, None) => DeathCause::Unknown,
        };
        self.death_known(&name, epoch, cause, piped);
    }

    /// A stop of the session's unit sends SIGTERM to the agent and to its tmux server, of which the agent may be the first
    /// to end: that is no crash, and what the kernel and tmux tell of it is the same. systemd knows.
    fn death_known(&mut self, name: &LoopName, epoch: u64, cause: DeathCause, piped: bool) {
        let like_a_stop = match cause {
            DeathCause::Killed { signal } => signal == Signal::TERM.as_raw(),
            DeathCause::Exited { .. } => true,
            DeathCause::Oom { .. } | DeathCause::Unknown => false,
        };
        let stage = self.world.loops.get(name).map(|l| &l.stage);
        let counts = matches!(stage, Some(Stage::Dying { told: None, .. }));
        if self.config.host == HostKind::Systemd && like_a_stop && counts {
            let unit = format!("cc-ci-session@{name}.service");
            let mut command = Command::new("systemctl");
            command.args(["is-active", "--", &unit]);
            let purpose = Purpose::Unit { name: name.clone(), epoch, cause: cause.clone(), piped };
            match self.spawn(command, None, UNIT_DEADLINE_MS, purpose) {
                Ok(()) => return,
                Err(why) => tracing::warn!("{name}: asking whether its session is being stopped: {why}"),
            }
        }
        self.queue.push_back(Event::DeathRead { name: name.clone(), epoch, cause, piped });
    }

    pub(super) fn unit_told(&mut self, name: LoopName, epoch: u64, cause: DeathCause, piped: bool, ended: &Finished) {
        if ended.end == End::Overdue {
            tracing::warn!("{name}: asking whether its session is being stopped: no answer");
        }
        match String::from_utf8_lossy(&ended.stdout).trim() {
            // Its tmux server's end is told by the pidfd, in a moment or when systemd kills it.
            "deactivating" | "inactive" | "failed" | "activating" => {
                tracing::info!("{name}: its agent {cause}: the session is being stopped");
            }
            _ => self.queue.push_back(Event::DeathRead { name, epoch, cause, piped }),
        }
    }
}
