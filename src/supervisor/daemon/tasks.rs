//! Children with a deadline: what each is for, and what its end means.

use super::Daemon;
use super::patience::Asked;
use crate::supervisor::core::event::{Event, NotStarted};
use crate::supervisor::core::world::{DeathCause, RequestId};
use crate::supervisor::names::{LoopName, NeedName};
use crate::supervisor::session;
use crate::supervisor::tmux::{self, Failure};
use crate::support::child::{End, Finished, Task};
use crate::support::clock::Now;
use crate::support::process::ProcId;
use std::process::Command;

/// A tmux server answers in milliseconds; one that takes this long is stuck, unless the machine kept it from answering
/// (`patience`). It is asked a second time before it is called hung.
pub(super) const TMUX_DEADLINE_MS: u64 = 2_000;
/// git on a large clone that is not in the page cache.
pub(super) const GIT_DEADLINE_MS: u64 = 30_000;
/// A notification that takes longer is lost anyway.
const NOTIFY_DEADLINE_MS: u64 = 30_000;
/// Notify programs at once; a flapping fault must not fork without end.
const NOTIFY_AT_ONCE: usize = 4;
/// Notifications that wait; the newest ones are dropped beyond, the journal has them all.
const NOTIFY_WAITING: usize = 256;

/// A child under way.
pub(super) struct Running {
    pub(super) task: Task,
    pub(super) purpose: Purpose,
    /// Of a tmux call.
    pub(super) asked: Option<Asked>,
}

impl Running {
    /// Gives a tmux call that is overdue more time if the machine is what keeps it.
    pub(super) fn be_patient(&mut self, now: u64) {
        let Some(asked) = self.asked.filter(|_| now >= self.task.deadline()) else { return };
        if let Some(deadline) = asked.more_time(self.task.pid(), now) {
            self.task.set_deadline(deadline);
        }
    }
}

/// What a child is for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Purpose {
    /// Looking for a tmux server; how often it was not ready yet.
    Probe { name: LoopName, tries: u32 },
    /// Asking what an agent died of, since that moment (milliseconds since boot).
    Death { name: LoopName, epoch: u64, since: u64, tries: u32 },
    /// Asking whether its session is being stopped, where an agent died of this.
    Unit { name: LoopName, epoch: u64, cause: DeathCause, piped: bool },
    /// Starting an agent.
    Respawn { name: LoopName, epoch: u64 },
    /// Opening the log pipe again.
    Repipe { name: LoopName },
    /// Typing a text.
    Nudge { name: LoopName, request: Option<RequestId> },
    /// Reading the screen.
    Screen { name: LoopName, epoch: u64 },
    /// Probing a need.
    Need { need: NeedName, what: String },
    /// Looking at a clone.
    Safety { name: LoopName },
    /// Telling the operator.
    Notify,
}

/// What is to be done again.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Retry {
    /// Look for a tmux server.
    Probe { name: LoopName, tries: u32 },
    /// Ask what an agent died of.
    Death { name: LoopName, epoch: u64, since: u64, tries: u32 },
    /// Another round of killing what is left.
    Clear { name: LoopName },
    /// Another round of stopping in place.
    Freeze { name: LoopName },
    /// Look who was killed for memory.
    Victim { name: LoopName },
    /// Write what is not durable.
    Save,
}

impl Daemon {
    /// Starts a child, to be ended after `deadline_ms`.
    pub(super) fn spawn(
        &mut self,
        command: Command,
        input: Option<Vec<u8>>,
        deadline_ms: u64,
        purpose: Purpose,
    ) -> Result<(), String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let deadline = Now::read().boot.saturating_add(deadline_ms);
        let task = Task::spawn(command, input, deadline).map_err(|e| format!("running `{program}`: {e}"))?;
        self.tasks.push(Running { task, purpose, asked: None });
        Ok(())
    }

    /// Says something to a loop's tmux server.
    pub(super) fn tmux(&mut self, name: &LoopName, call: &tmux::Call, purpose: Purpose) -> Result<(), String> {
        let socket = self.socket(name);
        let server = self.servers.get(name).map(|(server, _)| server.pid);
        // Before it has answered for the first time only it says who it is.
        let server = server.or_else(|| session::last_server(&self.config.runtime_dir, name));
        let asked = Asked::new(Now::read().boot, server);
        self.spawn(call.command(&socket), call.input.clone(), TMUX_DEADLINE_MS, purpose)?;
        if let Some(running) = self.tasks.last_mut() {
            running.asked = Some(asked);
        }
        Ok(())
    }

    pub(super) fn task_ended(&mut self, purpose: Purpose, ended: &Finished) {
        match purpose {
            Purpose::Probe { name, tries } => self.probed(name, tries, tmux::read_probe(ended)),
            Purpose::Death { name, epoch, since, tries } => self.death_told(name, epoch, since, tries, ended),
            Purpose::Unit { name, epoch, cause, piped } => self.unit_told(name, epoch, cause, piped, ended),
            Purpose::Respawn { name, epoch } => self.respawned(name, epoch, tmux::read_respawn(ended)),
            Purpose::Repipe { name } => match tmux::read_done(ended) {
                Ok(()) => self.probe(&name, 0),
                Err(Failure::Overdue) => self.queue.push_back(Event::HostMute { name }),
                Err(why) => tracing::warn!("{name}: opening the log pipe: {why}"),
            },
            Purpose::Nudge { name, request } => {
                let result = tmux::read_done(ended);
                if result == Err(Failure::Overdue) {
                    self.queue.push_back(Event::HostMute { name: name.clone() });
                }
                let result = result.map_err(|why| why.to_string());
                self.queue.push_back(Event::NudgeSent { name: name.clone(), result, request });
                self.type_next(&name);
            }
            Purpose::Screen { name, epoch } => self.screen_told(name, epoch, ended),
            Purpose::Need { need, what } => {
                let found = match ended.end {
                    End::Exited(status) if status.success() => Ok(()),
                    End::Exited(status) => Err(said(&what, ended).unwrap_or_else(|| format!("{what}: {status}"))),
                    End::Overdue => Err(format!("{what}: no answer within 10 s")),
                };
                self.queue.push_back(Event::NeedProbed { need, found });
            }
            Purpose::Safety { name } => self.safety_told(name, ended),
            Purpose::Notify => {
                if !ended.end.is_success() {
                    let what = self.config.notify.first().cloned().unwrap_or_default();
                    let why = said(&what, ended).unwrap_or_else(|| format!("{what}: {:?}", ended.end));
                    self.queue.push_back(Event::NotifyFailed { why });
                }
                self.notify_next();
            }
        }
    }

    fn respawned(&mut self, name: LoopName, epoch: u64, answer: Result<i32, Failure>) {
        let why = match answer {
            Ok(pid) => {
                // An agent that is dead already has no identity to read any more; its death is told right behind.
                let process = match ProcId::of(pid) {
                    Ok(Some(process)) => process,
                    Ok(None) | Err(_) => ProcId { pid, start: 0 },
                };
                self.queue.push_back(Event::Started { name: name.clone(), epoch, process });
                self.watch_agent(&name, epoch, process);
                self.watch_pipe(&name);
                return;
            }
            Err(Failure::StillActive) => NotStarted::PaneBusy,
            Err(Failure::Overdue) => {
                // It may have gone through all the same: the core asks what runs there.
                self.queue.push_back(Event::HostMute { name });
                return;
            }
            Err(Failure::NoServer) => {
                self.probe(&name, 0);
                NotStarted::NoHost("its tmux server does not answer".to_owned())
            }
            Err(Failure::NoPane) => match self.servers.get(&name) {
                Some((server, _)) => NotStarted::NoPane(*server),
                None => NotStarted::NoHost("its tmux server has lost the loop's pane".to_owned()),
            },
            // Not said by a respawn; if it ever is, it is tried again like anything else that tmux says.
            Err(why @ Failure::NothingRuns) => NotStarted::Error(why.to_string()),
            Err(Failure::Other(text)) => NotStarted::Error(format!("starting it with tmux: {text}")),
        };
        self.queue.push_back(Event::StartFailed { name, epoch, why });
    }

    /// Hands a notification to the operator's program.
    pub(super) fn notify(&mut self, json: Vec<u8>) {
        if self.config.notify.is_empty() {
            return;
        }
        if self.notifications.len() >= NOTIFY_WAITING {
            tracing::warn!("too many notifications wait for `{}`; one is dropped", self.config.notify[0]);
            return;
        }
        self.notifications.push_back(json);
        self.notify_next();
    }

    fn notify_next(&mut self) {
        while self.tasks.iter().filter(|t| t.purpose == Purpose::Notify).count() < NOTIFY_AT_ONCE {
            let Some(json) = self.notifications.pop_front() else { return };
            let Some((program, args)) = self.config.notify.split_first() else { return };
            let mut command = Command::new(program);
            command.args(args).current_dir(&self.config.workspace);
            if let Err(why) = self.spawn(command, Some(json), NOTIFY_DEADLINE_MS, Purpose::Notify) {
                self.queue.push_back(Event::NotifyFailed { why });
            }
        }
    }
}

/// The last line that a child said, stderr before stdout.
pub(super) fn said(what: &str, ended: &Finished) -> Option<String> {
    [&ended.stderr, &ended.stdout].into_iter().find_map(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
        Some(format!("{what}: {}", line.trim()))
    })
}
