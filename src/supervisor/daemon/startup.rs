//! From nothing to a daemon that has looked at its state and at nothing else.

use super::{Daemon, Ending, RunOptions, SignalPipes, saving::Dirty};
use crate::supervisor::config::Config;
use crate::supervisor::control::server::Server;
use crate::supervisor::core::event::Event;
use crate::supervisor::core::first_world;
use crate::supervisor::core::gates::Gate;
use crate::supervisor::core::world::{GlobalRecord, LoopRecord, Wish};
use crate::supervisor::journal::{Entry, Journal, Sync};
use crate::supervisor::names::LoopName;
use crate::supervisor::phase_file::{self, Access, PhaseLoad};
use crate::supervisor::session_watch::SessionWatch;
use crate::supervisor::store::Store;
use crate::support::clock::Now;
use crate::support::durable::Read;
use crate::support::process::BootId;
use anyhow::{Context, bail};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Builds the daemon; the events that begin its work are queued.
pub(super) fn begin(config: Arc<Config>, options: RunOptions) -> anyhow::Result<Daemon> {
    let now = Now::read();
    let boot_id = BootId::read().context("reading the boot id")?;
    let store = Store::open(&config.state_dir)?;
    let mut journal = Journal::open(&config.state_dir)?;
    let mut notes = Vec::new();

    let global: GlobalRecord = recovered("global state", store.load_global()?, &mut notes).unwrap_or_default();
    let gate: Gate = recovered("gate", store.load_gate()?, &mut notes).unwrap_or_default();
    let mut records: BTreeMap<LoopName, LoopRecord> = BTreeMap::new();
    let mut orphans = Vec::new();
    for name in store.recorded_loops()? {
        let record = match store.load_loop(&name)? {
            Read::Lost { why, .. } => {
                // What the operator wished is not known: not running is the side to err on, and it is said.
                notes.push(format!(
                    "the record of loop {name} is lost ({why}); it stays stopped until `supervisor start {name}`"
                ));
                let mut record = LoopRecord::new(boot_id.clone());
                record.wish = Wish::Stop { since: now };
                Some(record)
            }
            read => recovered(&format!("record of loop {name}"), read, &mut notes),
        };
        let Some(record) = record else { continue };
        if config.loops.contains_key(&name) {
            records.insert(name, record);
        } else {
            orphans.push((name, record));
        }
    }
    let phase = load_phase(&config, &options, &mut journal, now)?;

    let seed = seed();
    let find = |name: &LoopName| records.get(name).cloned();
    let world = first_world(config.clone(), boot_id.clone(), seed, now, find, global, gate);

    crate::supervisor::session::make_private_dir(&config.runtime_dir)?;
    crate::supervisor::own_link::point(&config.runtime_dir, &options.supervisor)?;
    let watch = SessionWatch::new(&config.runtime_dir).context("watching the session folders")?;
    let server = Server::bind(&crate::supervisor::control::socket_path(&config.runtime_dir))?;
    // Started by nohup: a terminal that goes away is then no reason to end, only to be ignored as before.
    let hangup = if ignored(SIGHUP) { None } else { Some(signal_pipe(&[SIGHUP])?) };
    let signals = SignalPipes { end: signal_pipe(&[SIGINT, SIGTERM])?, hangup };

    let entry = Entry {
        at: now,
        loop_name: None,
        epoch: None,
        decision: "supervisor-begins".to_owned(),
        why: "the supervisor was started".to_owned(),
        evidence: json!({ "pid": std::process::id(), "boot_id": boot_id, "config": config.file }),
        next: Some("what runs is found first; nothing is touched before that".to_owned()),
    };
    if let crate::supervisor::journal::Appended::Kept(cause) = journal.append(&entry, Sync::No)? {
        tracing::warn!("{cause}");
    }

    let mut queue = VecDeque::new();
    if let Some((index, note)) = phase {
        queue.push_back(Event::PhaseLoaded { index, note });
    }
    queue.extend(notes.into_iter().map(|note| Event::Noted { note }));
    for (name, l) in &config.loops {
        // Before anything is looked for: it says where adopted agents are in their turns.
        queue.extend(super::missed::take(&config, name, l.adapter));
    }
    queue.push_back(Event::Begun);
    queue.extend(orphans.into_iter().map(|(name, record)| Event::Orphan { name, record: Box::new(record) }));
    Ok(Daemon {
        config,
        options,
        world,
        store,
        journal,
        queue,
        ending: Ending::No,
        tasks: Vec::new(),
        texts: BTreeMap::new(),
        notifications: VecDeque::new(),
        agents: BTreeMap::new(),
        servers: BTreeMap::new(),
        children: BTreeMap::new(),
        units: BTreeMap::new(),
        told: super::manager::Told::from_environment(now),
        pipes: BTreeMap::new(),
        clearing: BTreeMap::new(),
        to_clear: BTreeSet::new(),
        to_start: VecDeque::new(),
        retries: Vec::new(),
        dirty: Dirty::default(),
        watch,
        server,
        requests: BTreeMap::new(),
        next_request: 0,
        signals,
        housekeeping: now.boot,
        phase_said: None,
    })
}

/// A value that was read, with a note of what had to be done for it; `None` when there never was one or it is lost.
fn recovered<T>(what: &str, read: Read<T>, notes: &mut Vec<String>) -> Option<T> {
    match read {
        Read::Current(value) => Some(value),
        Read::Absent => None,
        Read::Recovered { value, set_aside, why } => {
            let aside = set_aside.map(|p| format!("; it was set aside as {}", p.display())).unwrap_or_default();
            notes.push(format!("the {what} {why}; the previous version is used{aside}"));
            Some(value)
        }
        Read::Lost { why, set_aside } => {
            let aside: Vec<String> = set_aside.iter().map(|p| p.display().to_string()).collect();
            notes.push(format!("the {what} is lost ({why}); it begins anew, set aside: {}", aside.join(", ")));
            None
        }
    }
}

/// The phase to begin with, and what is worth telling.
fn load_phase(
    config: &Config,
    options: &RunOptions,
    journal: &mut Journal,
    now: Now,
) -> anyhow::Result<Option<(usize, Option<String>)>> {
    let Some(phases) = &config.phases else {
        if options.from_phase.is_some() {
            bail!("--from-phase: the config has no `[phases]`; add `plans`");
        }
        return Ok(None);
    };
    let (file, total) = (phases.index_file.as_path(), phases.plans.len());
    let last = journal.last_phase();
    // Only looked at first: a lost index must still be found lost at the next try.
    let mut load = phase_file::load(last, file, total, Access::Looker)?;
    if let (PhaseLoad::Lost { why, .. }, None) = (&load, options.from_phase) {
        bail!(
            "reading the phase index `{}`: {why}, and no earlier value is known; write an index from 0 to {total} into \
             it, or run with `--from-phase N`",
            file.display()
        );
    }
    if matches!(load, PhaseLoad::Recovered { .. } | PhaseLoad::Lost { .. }) {
        load = phase_file::load(last, file, total, Access::Owner)?;
    }
    let (index, note) = match load {
        PhaseLoad::AsJournalled(index) => (index, None),
        PhaseLoad::Absent => {
            phase_file::finish(journal, file, 0, now)?;
            (0, None)
        }
        PhaseLoad::SetByFile { index, last } => {
            phase_file::accept(journal, index, last, now)?;
            let before = last.map(|last| format!(" (it was {last})")).unwrap_or_default();
            (index, Some(format!("phase set by file to {index}{before}")))
        }
        PhaseLoad::MoveUnfinished { from, to } => {
            phase_file::finish(journal, file, to, now)?;
            (to, Some(format!("a move of the phase from {from} to {to} was cut off and is finished")))
        }
        PhaseLoad::Recovered { index, why, .. } => {
            phase_file::finish(journal, file, index, now)?;
            (index, Some(format!("the phase index {why}; phase {index} is used")))
        }
        PhaseLoad::Lost { why, .. } => (0, Some(format!("the phase index {why}"))),
    };
    if let Some(to) = options.from_phase {
        if to > total {
            bail!("--from-phase {to}: there are {total} plans, so 0 to {total} (complete) are possible");
        }
        if to != index {
            phase_file::move_to(journal, file, index, to, "the operator (--from-phase)", now)?;
        }
        return Ok(Some((to, None)));
    }
    Ok(Some((index, note)))
}

/// Jitter and session uuids come from it: different in each run. The hasher's keys are the standard library's own
/// random ones.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// Whether this process was started with a signal ignored. What /proc does not tell counts as not ignored.
fn ignored(signal: i32) -> bool {
    let status = procfs::process::Process::myself().and_then(|me| me.status());
    status.is_ok_and(|status| status.sigign >> (signal - 1) & 1 == 1)
}

/// The read end of a pipe that gets a byte for each of these signals.
fn signal_pipe(signals: &[i32]) -> anyhow::Result<UnixStream> {
    let (read, write) = UnixStream::pair().context("making a pipe for signals")?;
    read.set_nonblocking(true).context("making a pipe for signals")?;
    for signal in signals {
        let write = write.try_clone().context("making a pipe for signals")?;
        signal_hook::low_level::pipe::register(*signal, write).context("waiting for signals")?;
    }
    Ok(read)
}
