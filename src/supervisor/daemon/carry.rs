//! Carrying out what the core decided, in its order.

use super::{Daemon, Ending};
use crate::supervisor::config::HostKind;
use crate::supervisor::core::action::{Action, Clearing};
use crate::supervisor::core::event::Event;
use crate::supervisor::core::stage::Force;
use crate::supervisor::journal::{Appended, Entry, Sync};
use crate::supervisor::leftovers::Leftovers;
use crate::supervisor::names::LoopName;
use crate::supervisor::phase_file;
use crate::supervisor::tmux;
use crate::support::clock::Now;
use crate::support::process::{self, Delivery, ProcId};
use rustix::process::Signal;
use std::collections::VecDeque;
use std::time::Duration;

use super::tasks::Purpose;

/// How long the end of a session is waited for when the supervisor itself ends or has a loop less: tmux ends within
/// milliseconds; one that does not is killed.
const RETIRE: Duration = Duration::from_secs(2);

/// How long the processes of one session are killed again and again. Those that can be are gone within milliseconds.
const RETIRE_ALL: Duration = Duration::from_secs(5);

/// How long a supervisor that ends waits for the programs that tell the operator.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Between two looks at them, if none of them says anything.
const LAST_LOOK: Duration = Duration::from_millis(100);

impl Daemon {
    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.carry_out_one(action);
        }
    }

    fn carry_out_one(&mut self, action: Action) {
        match action {
            Action::Become(world) => self.world = *world,
            Action::SaveLoop(..) | Action::SaveGlobal(_) | Action::SaveGate(_) => self.mark(&action),
            Action::Journal(entry) => self.write_down(&entry),
            Action::Notify(notification) => {
                let name = notification.loop_name.as_ref().map(|n| format!("{n}: ")).unwrap_or_default();
                tracing::warn!("{name}{}; {}", notification.summary, notification.detail);
                match serde_json::to_vec(&notification) {
                    Ok(json) => self.notify(json),
                    Err(e) => tracing::error!("writing a notification as JSON: {e}"),
                }
            }
            Action::ProbeHost(name, how) => self.probe_host(&name, how),
            Action::SpawnHost(name) => self.spawn_host(&name),
            Action::KillHost(name, server) => {
                self.watch_server(&name, server);
                self.signal_server(&name, server, Signal::KILL);
            }
            Action::RetireHost(name, server) => self.retire_host(&name, server),
            Action::Start(start) => self.to_start.push_back(start),
            Action::ReadDeath(name, epoch) => self.read_death(&name, epoch, Now::read().boot, 0),
            Action::Clear(name, agent) => self.clear(&name, agent),
            Action::End(name, agent, force) => self.end_agent(&name, agent, force),
            Action::Freeze(name) => self.freeze(&name),
            Action::Thaw(name) => self.thaw(&name),
            Action::Repipe(name) => self.repipe(&name),
            Action::Nudge { name, text, request, clearing } => {
                let keys = match clearing {
                    Clearing::Nothing => &[],
                    Clearing::InTheWay => self.clearing_keys(&name),
                };
                self.texts.entry(name.clone()).or_default().push_back((tmux::send_text(keys, &text), request));
                self.type_next(&name);
            }
            Action::ClearTheWay(name) => {
                let keys = self.clearing_keys(&name);
                if !keys.is_empty() {
                    self.texts.entry(name.clone()).or_default().push_back((tmux::send_keys(keys), None));
                    self.type_next(&name);
                }
            }
            Action::LookAtTranscript { name, epoch, path } => {
                // One that cannot be looked at is as good as none: both are said to the operator.
                let size = std::fs::metadata(&path).ok().map(|meta| meta.len());
                self.queue.push_back(Event::TranscriptSeen { name, epoch, size });
            }
            Action::ReadRecords { name, epoch, path, since } => self.read_records(&name, epoch, &path, since),
            Action::LookForText { name, epoch, path, text, since } => {
                self.look_for_text(&name, epoch, &path, text, since)
            }
            Action::ReadScreen { name, epoch } => self.read_screen(&name, epoch),
            Action::Sample(name, epoch) => self.sample(&name, epoch),
            Action::ProbeNeed(need) => self.probe_need(&need),
            Action::ReadMemory => self.read_memory(),
            Action::ReadSafety(name) => self.read_safety(&name),
            Action::MovePhase { from, to, by } => self.move_phase(from, to, &by),
            Action::Reply(request, response) => self.answer(request, &response),
            Action::Exit => self.ending = Ending::Yes,
        }
    }

    fn clearing_keys(&self, name: &LoopName) -> &'static [&'static str] {
        self.config.loops.get(name).map_or(&[], |c| c.adapter.clearing_keys())
    }

    /// Types the next text into a loop's pane, once the one before has been: each is typed in parts, and two at once
    /// would be one line.
    pub(super) fn type_next(&mut self, name: &LoopName) {
        let typing = |p: &Purpose| matches!(p, Purpose::Nudge { name: n, .. } if n == name);
        while !self.tasks.iter().any(|running| typing(&running.purpose)) {
            let Some((call, request)) = self.texts.get_mut(name).and_then(VecDeque::pop_front) else { return };
            let purpose = Purpose::Nudge { name: name.clone(), request };
            if let Err(why) = self.tmux(name, &call, purpose) {
                self.queue.push_back(Event::NudgeSent { name: name.clone(), result: Err(why), request });
            }
        }
    }

    /// What waits to be typed was meant for an agent that is gone.
    pub(super) fn drop_texts(&mut self, name: &LoopName, why: &str) {
        for (_, request) in self.texts.remove(name).unwrap_or_default() {
            self.queue.push_back(Event::NudgeSent { name: name.clone(), result: Err(why.to_owned()), request });
        }
    }

    fn write_down(&mut self, entry: &Entry) {
        let name = entry.loop_name.as_ref().map(|n| format!("{n}: ")).unwrap_or_default();
        let next = entry.next.as_ref().map(|n| format!("; {n}")).unwrap_or_default();
        tracing::info!("{name}{}: {}{next}", entry.decision, entry.why);
        match self.journal.append(entry, Sync::No) {
            Ok(Appended::Written) => {}
            // Said once by the records that cannot be written either; here it waits in memory.
            Ok(Appended::Kept(cause)) => tracing::warn!("{cause}"),
            Err(e) => tracing::error!("{e}"),
        }
    }

    fn move_phase(&mut self, from: usize, to: usize, by: &str) {
        let Some(phases) = &self.config.phases else { return };
        let now = Now::read();
        let file = phases.index_file.clone();
        // What is dirty is written before, so that the index file's own syncs are the last ones: no later one may hide
        // a missing one there.
        self.save_dirty();
        let result = phase_file::move_to(&mut self.journal, &file, from, to, by, now);
        self.phase_said = None;
        let result = result.map_err(|e| format!("{:#}", anyhow::Error::from(e)));
        // Before anything else: the world must not be behind the file.
        self.queue.push_front(Event::PhaseMoved(result));
    }

    /// SIGTERM goes to the agent's process group, as a terminal's hangup would; SIGKILL to everything of the loop, which
    /// the clearing that follows repeats until nothing is left.
    fn end_agent(&mut self, name: &LoopName, agent: ProcId, force: Force) {
        let result = match force {
            Force::Term => process::signal_group(agent, Signal::TERM),
            Force::Kill => process::signal_group(agent, Signal::KILL).and_then(|_| process::send(agent, Signal::KILL)),
        };
        match result {
            Ok(Delivery::Sent | Delivery::AlreadyGone) => {}
            Err(e) => tracing::error!("{name}: ending its agent {}: {e}", agent.pid),
        }
    }

    pub(super) fn repipe(&mut self, name: &LoopName) {
        let log = self.store.layout().log(name);
        if let Err(why) = self.tmux(name, &tmux::pipe(name, &log), Purpose::Repipe { name: name.clone() }) {
            tracing::warn!("{name}: opening its log pipe: {why}");
        }
    }

    /// Ends a session for good. The one place that waits: the supervisor is ending or has just begun, and every loop
    /// that it looks after is not yet or no longer running.
    fn retire_host(&mut self, name: &LoopName, recorded: Option<ProcId>) {
        // One that was made and has not answered yet is known as our child only.
        let child = self.children.get(name).and_then(|(child, _)| ProcId::of(process::pid_of(child)).ok().flatten());
        let server = self.servers.get(name).map(|(server, _)| *server).or(child).or(recorded);
        let socket = crate::supervisor::control::socket_path(&self.config.runtime_dir);
        let set = Leftovers { name, control_socket: &socket, server, agent: None, marked: None };
        if let Some(server) = server {
            self.signal_server(name, server, Signal::CONT);
            // While it lives it is the subreaper: what was double-forked without the marker is found below it only.
            kill_all(name, &set);
            if self.config.host == HostKind::Systemd {
                // systemd's to end; it would only start it again.
                return;
            }
            self.signal_server(name, server, Signal::TERM);
            if !gone_within(server, RETIRE) {
                tracing::warn!("{name}: its tmux server {} did not end and is killed", server.pid);
                self.signal_server(name, server, Signal::KILL);
                gone_within(server, RETIRE);
            }
        }
        // The server is gone: what carries the loop's marker goes too.
        kill_all(name, &set);
        self.servers.remove(name);
        if let Some((child, pidfd)) = self.children.remove(name) {
            self.end_child(name, child, &pidfd);
        }
    }

    /// The last thing.
    pub(super) fn end(&mut self) {
        self.tell_stopping();
        self.save_dirty();
        if let Err(e) = self.journal.flush(Now::read()) {
            tracing::error!("{e}");
        }
        // Dropped, they would be killed before the operator was told.
        self.tasks.retain(|running| running.purpose == Purpose::Notify);
        let until = Now::read().plus(LAST_WORDS).boot;
        while !self.tasks.is_empty() && Now::read().boot < until {
            super::poll::any_ready_within(&self.tasks, LAST_LOOK);
            self.progress_tasks(Now::read());
        }
    }
}

/// Kills a set until nothing of it is left but what may not be killed, or the time is over: something that forks faster
/// than it dies, or that sleeps in the kernel, must not keep the supervisor from ending.
fn kill_all(name: &LoopName, set: &Leftovers) {
    let until = Now::read().plus(RETIRE_ALL).boot;
    loop {
        match set.kill_round() {
            Ok(round) if round.found.len() == round.refused.len() => break,
            Ok(round) if Now::read().boot >= until => {
                let pids: Vec<_> = round.found.iter().map(|id| id.pid.to_string()).collect();
                tracing::error!("{name}: left alone although they still run: pids {}", pids.join(", "));
                break;
            }
            Ok(round) => {
                for id in round.found {
                    let left = until.saturating_sub(Now::read().boot);
                    gone_within(id, RETIRE.min(Duration::from_millis(left)));
                }
            }
            Err(e) => {
                tracing::error!("{name}: looking for what is left of it: {e}");
                break;
            }
        }
    }
}

/// Waits until a process is gone; says whether it is.
fn gone_within(id: ProcId, limit: Duration) -> bool {
    let Ok(Some(pidfd)) = process::open_pidfd(id) else { return true };
    super::poll::readable_within(&pidfd, limit)
}
