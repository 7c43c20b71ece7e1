//! The daemon: gathers events, has the core decide, carries out the actions. It decides nothing by itself.
//!
//! One thread, one `poll(2)`. Nothing in it waits for another process: tmux, git, probes and notifications are children
//! with a deadline, deaths are pidfds, sockets that come and go are inotify events.

mod caller;
mod carry;
mod clearing;
mod clients;
mod deaths;
mod evidence;
mod hosts;
mod launching;
mod looks;
mod manager;
mod missed;
mod patience;
mod poll;
mod saving;
mod startup;
mod tasks;
mod units;

use super::config::Config;
use super::control::server::{ConnectionId, Server};
use super::core::action::{Action, Start};
use super::core::decide;
use super::core::event::{Event, Leave};
use super::core::world::{RequestId, World};
use super::journal::Journal;
use super::names::LoopName;
use super::session_watch::SessionWatch;
use super::store::Store;
use crate::support::clock::Now;
use crate::support::process::ProcId;
use clearing::Clearing;
use saving::Dirty;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tasks::Running;

/// How long events are dealt with before the daemon looks at what has come meanwhile.
const AT_A_STRETCH: Duration = Duration::from_millis(5);

/// How the daemon is run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Begin with this phase instead of the recorded one.
    pub from_phase: Option<usize>,
    /// What a SIGINT or SIGTERM does to the sessions.
    pub leave: Leave,
    /// The `supervisor` binary, for session hosts, agents and probes.
    pub supervisor: PathBuf,
}

/// Runs until told to end.
///
/// # Errors
/// When it cannot begin: another supervisor holds the state, the state is of a newer version, the phase is lost, a
/// socket cannot be made. Nothing was started, stopped or lost then. Later faults are said and lived with.
pub fn run(config: Config, options: RunOptions) -> anyhow::Result<()> {
    let mut daemon = startup::begin(Arc::new(config), options)?;
    while daemon.turn()? == Turn::On {}
    daemon.end();
    Ok(())
}

/// Whether the daemon goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    On,
    Over,
}

/// Whether a decision told the daemon to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    Yes,
}

/// Whether an event was decided about: one may come up only while the queue is worked off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decided {
    Nothing,
    Something,
}

/// Whether what was dirty is durable now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saved {
    Yes,
    No,
}

struct Daemon {
    config: Arc<Config>,
    options: RunOptions,
    world: World,
    store: Store,
    journal: Journal,
    /// Events that came up while carrying out actions; taken before anything else is waited for.
    queue: VecDeque<Event>,
    ending: Ending,
    tasks: Vec<Running>,
    /// Texts that wait to be typed into each loop's pane, and whom to answer.
    texts: BTreeMap<LoopName, VecDeque<(super::tmux::Call, Option<RequestId>)>>,
    /// Notifications that wait for one of the few places for notify programs.
    notifications: VecDeque<Vec<u8>>,
    /// The living agents: epoch, process, pidfd.
    agents: BTreeMap<LoopName, (u64, ProcId, OwnedFd)>,
    /// The living tmux servers.
    servers: BTreeMap<LoopName, (ProcId, OwnedFd)>,
    /// Those of them that this supervisor made, to be reaped.
    children: BTreeMap<LoopName, (Child, OwnedFd)>,
    /// The cgroups of session units.
    units: BTreeMap<LoopName, units::SessionUnit>,
    /// The service manager, if it waits to be told.
    told: Option<manager::Told>,
    /// The log pipes of living panes.
    pipes: BTreeMap<LoopName, (ProcId, OwnedFd)>,
    clearing: BTreeMap<LoopName, Clearing>,
    /// Those of them whose next round is due.
    to_clear: BTreeSet<LoopName>,
    /// Starts that were decided, in their order.
    to_start: VecDeque<Start>,
    /// What is to be done again at a moment, in milliseconds since boot.
    retries: Vec<(u64, tasks::Retry)>,
    dirty: Dirty,
    watch: SessionWatch,
    server: Server,
    /// Whom to answer.
    requests: BTreeMap<RequestId, ConnectionId>,
    next_request: RequestId,
    signals: SignalPipes,
    /// The next round of housekeeping, in milliseconds since boot.
    housekeeping: u64,
    /// What the index file said that the operator was told of.
    phase_said: Option<String>,
}

/// The read ends that signals write a byte to.
struct SignalPipes {
    /// SIGINT and SIGTERM.
    end: UnixStream,
    /// SIGHUP; `None` where it is ignored.
    hangup: Option<UnixStream>,
}

impl Daemon {
    /// Has the core decide about each event until none is left, then makes durable what is not yet. After a moment of
    /// that it stops, so that whoever asks meanwhile need not wait for a hundred loops that start; what is left in the
    /// queue is gone on with after a look at what has come.
    fn settle(&mut self) -> Decided {
        let until = Instant::now() + AT_A_STRETCH;
        let mut decided = Decided::Nothing;
        loop {
            let Some(event) = self.queue.pop_front() else {
                self.clear_waiting();
                self.start_waiting(until);
                if self.queue.is_empty() {
                    self.save_dirty();
                }
                if self.queue.is_empty() {
                    // Starts that wait go on after a look at what has come.
                    return decided;
                }
                continue;
            };
            let now = Now::read();
            if let Event::Asked { request, what, .. } = &event {
                // An answer may rest on what an earlier decision could not save: "it is stopped" must hold after a
                // power cut too.
                if what.promises() && self.save_dirty_first(*request) == Saved::No {
                    continue;
                }
            }
            let actions = decide(&self.world, event.clone(), now);
            decided = Decided::Something;
            match event {
                // What cannot be made durable is not done, and is said to whoever asked.
                Event::Asked { request, .. } => self.carry_out_asked(request, actions),
                _ => self.carry_out(actions),
            }
            if self.ending == Ending::No && !self.queue.is_empty() && Instant::now() >= until {
                return decided;
            }
        }
    }

    /// Refuses the request if not.
    fn save_dirty_first(&mut self, request: RequestId) -> Saved {
        if !self.dirty.anything() {
            return Saved::Yes;
        }
        let Some(error) = self.save_dirty() else { return Saved::Yes };
        self.refuse_unsaved(request, &error);
        Saved::No
    }

    fn refuse_unsaved(&mut self, request: RequestId, error: &str) {
        let kind = super::control::protocol::Refusal::Failed;
        let message = format!("{error}; nothing was changed");
        self.answer(request, &super::control::protocol::Response::Refused { kind, message });
    }

    fn carry_out_asked(&mut self, request: RequestId, actions: Vec<Action>) {
        if let Err(error) = self.save_now(&actions) {
            // What was written of it before the failure must not be found by the next start either: the world, which
            // stays as it is, is written over it, and the failure is known until that has gone well.
            actions.iter().for_each(|action| self.mark(action));
            self.refuse_unsaved(request, &error);
            return;
        }
        // What is durable already needs not be written again.
        let rest = actions.into_iter().filter(|action| !action.is_save());
        self.carry_out(rest.collect());
    }
}
