//! The world as a supervisor that does not run any more wrote it down, and which of its processes still run. Changes
//! nothing.

use crate::supervisor::config::Config;
use crate::supervisor::core::first_world;
use crate::supervisor::core::gates::Gate;
use crate::supervisor::core::holds::HoldKind;
use crate::supervisor::core::stage::Stage;
use crate::supervisor::core::view::{self, DaemonState, ExplainView, LoopView, StatusView};
use crate::supervisor::core::world::{GlobalRecord, HostStatus, LoopRecord, World};
use crate::supervisor::journal;
use crate::supervisor::names::LoopName;
use crate::supervisor::phase_file::{self, Access, PhaseLoad};
use crate::supervisor::store::{Store, StoreError, StoreView};
use crate::support::clock::Now;
use crate::support::durable::Read;
use crate::support::process::BootId;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::sync::Arc;

const REMEDY: &str = "start the supervisor with `supervisor run`, or `systemctl start cc-ci-orchestrator`";

/// What is known.
#[derive(Debug)]
pub struct LastKnown {
    /// The world, its agents as they are and everything else as it was.
    pub world: World,
    /// What could not be read, a sentence each.
    pub notes: Vec<String>,
    now: Now,
}

/// Reads the state files.
pub fn read(config: Config) -> anyhow::Result<LastKnown> {
    let now = Now::read();
    let boot_id = BootId::read().context("finding out which boot this is")?;
    let mut notes = Vec::new();
    let state_dir = config.state_dir.clone();
    let store = match Store::open_readonly(&state_dir) {
        Ok(store) => Some(store),
        // Never started: every loop is as good as new.
        Err(StoreError::Missing(_)) => None,
        Err(e) => return Err(e.into()),
    };
    let mut records = BTreeMap::new();
    for name in config.loops.keys() {
        if let Some(record) = load(&store, &mut notes, |s| s.load_loop::<LoopRecord>(name))? {
            records.insert(name.clone(), record);
        }
    }
    let global: GlobalRecord = load(&store, &mut notes, StoreView::load_global)?.unwrap_or_default();
    let gate: Gate = load(&store, &mut notes, StoreView::load_gate)?.unwrap_or_default();
    let phase = phase(&config, &mut notes)?;
    let record = |name: &LoopName| records.get(name).cloned();
    let mut world = first_world(Arc::new(config), boot_id.clone(), 0, now, record, global, gate);
    world.phase = world.config.phases.as_ref().and(phase);
    for l in world.loops.values_mut().map(Arc::make_mut) {
        let same_boot = l.record.boot_id == boot_id;
        let alive = |id: Option<crate::support::process::ProcId>| -> anyhow::Result<_> {
            Ok(match id.filter(|_| same_boot) {
                Some(id) if id.is_alive()? => Some(id),
                _ => None,
            })
        };
        let agent = alive(l.record.agent.as_ref().and_then(|a| a.process))?;
        if let Some(server) = alive(l.record.server)? {
            l.host.status = HostStatus::Ready { server, since: now, misses: 0 };
        }
        l.stage = match (&l.record.agent, agent) {
            (Some(record), Some(_)) => Stage::Up { since: record.started },
            _ => Stage::Down { since: now },
        };
    }
    Ok(LastKnown { world, notes, now })
}

fn load<T, E>(
    store: &Option<StoreView>,
    notes: &mut Vec<String>,
    read: impl FnOnce(&StoreView) -> Result<Read<T>, E>,
) -> Result<Option<T>, E> {
    let Some(store) = store else { return Ok(None) };
    Ok(match read(store)? {
        Read::Current(value) => Some(value),
        Read::Recovered { value, why, .. } => {
            notes.push(format!("{why}; the version before it is shown"));
            Some(value)
        }
        Read::Lost { why, .. } => {
            notes.push(why);
            None
        }
        Read::Absent => None,
    })
}

fn phase(config: &Config, notes: &mut Vec<String>) -> anyhow::Result<Option<usize>> {
    let Some(phases) = &config.phases else { return Ok(None) };
    let last = journal::last_phase(&config.state_dir)?;
    Ok(match phase_file::load(last, &phases.index_file, phases.plans.len(), Access::Looker)? {
        PhaseLoad::Absent => Some(0),
        PhaseLoad::AsJournalled(index) | PhaseLoad::SetByFile { index, .. } => Some(index),
        PhaseLoad::MoveUnfinished { to, .. } => Some(to),
        PhaseLoad::Recovered { index, why, .. } => {
            notes.push(why);
            Some(index)
        }
        PhaseLoad::Lost { why, .. } => {
            notes.push(why);
            None
        }
    })
}

impl LastKnown {
    /// For `status`.
    pub fn status(&self) -> StatusView {
        let mut status = view::status(&self.world, self.now);
        status.daemon = DaemonState::Down;
        for l in &mut status.loops {
            self.mend(l);
        }
        status
    }

    /// For `explain`; `name` is in the config.
    pub fn explain(&self, name: &LoopName) -> anyhow::Result<ExplainView> {
        let explain = view::explain(&self.world, name, self.now);
        let mut explain = explain.with_context(|| format!("there is no loop `{name}` in the config"))?;
        self.mend(&mut explain.view);
        explain.doing = match explain.view.pid {
            Some(pid) => {
                format!("its agent (pid {pid}, epoch {}) still runs, and no supervisor watches it", explain.view.epoch)
            }
            None if explain.view.epoch == 0 => "was never started".to_owned(),
            None => "down: its agent does not run, nor does a supervisor".to_owned(),
        };
        let held = explain.view.holds.iter().map(|h| format!("held then: {}", h.what));
        explain.next = std::iter::once(format!("nothing before a supervisor runs: {REMEDY}")).chain(held).collect();
        Ok(explain)
    }

    /// What only a running supervisor can know goes; what it would do first comes.
    fn mend(&self, l: &mut LoopView) {
        let record = self.world.loops.get(&l.name).map(|l| &l.record);
        let same_boot = record.is_some_and(|r| r.boot_id == self.world.boot_id);
        l.holds.retain(|hold| match hold.kind {
            // Timed by the clock of another boot.
            HoldKind::Backoff | HoldKind::CrashLoop => same_boot,
            kind => kind < HoldKind::NoSessionHost,
        });
        (l.last_sign, l.sign, l.turn) = (None, None, None);
        if l.pid.is_some() {
            l.waits_for = Some("a supervisor: it runs unwatched".to_owned());
            return;
        }
        let death = record.and_then(|r| r.last_death.as_ref()).map(|d| d.at.wall);
        let hold = l.holds.first();
        l.since = hold.map_or(death, |hold| hold.since);
        l.state = if hold.is_some() { "held" } else { "down" }.to_owned();
        l.waits_for = Some(match hold {
            Some(hold) => format!("a supervisor; then: {}", hold.what),
            None => "a supervisor".to_owned(),
        });
    }
}
