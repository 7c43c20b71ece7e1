//! Looks at what the core asks about: needs, free memory, a loop's output and memory, its clone, the index file.

use super::Daemon;
use super::tasks::{GIT_DEADLINE_MS, Purpose, said};
use crate::supervisor::core::event::Event;
use crate::supervisor::names::{LoopName, NeedName};
use crate::supervisor::needs;
use crate::supervisor::pane_log::{self, Rotation};
use crate::supervisor::phase_file::{self, Observed};
use crate::support::child::{End, Finished};
use crate::support::clock::{Now, millis};
use crate::support::process::{memory, tree};
use procfs::Current;
use std::path::Path;
use std::process::Command;

/// Between two rounds of housekeeping. Nothing in it is urgent: log sizes, the index file, state that was not written.
const HOUSEKEEPING_MS: u64 = 60_000;

/// What `git` found, as the script's exit status.
const NO_CLONE: i32 = 10;
const GIT_FAILED: i32 = 11;
const NOT_CLEAN: i32 = 12;
const NOT_PUSHED: i32 = 13;

/// Clean and pushed, without taking a lock that the agent's own git may want. A folder that is no clone is told from
/// one that git will not read (another owner, a broken config): that one is not safe.
const SAFETY_SCRIPT: &str = r#"
error=$(git rev-parse --git-dir 2>&1 >/dev/null) || {
  case $error in *"not a git repository"*) exit 10 ;; esac
  echo "$error" >&2; exit 11
}
changes=$(git status --porcelain) || exit 11
[ -z "$changes" ] || { echo "$changes" | head -n 3 | tr '\n' ' ' >&2; exit 12; }
[ -n "$(git remote)" ] || exit 0
git rev-parse --quiet --verify HEAD >/dev/null || exit 0
[ -n "$(git for-each-ref --count=1 --contains HEAD refs/remotes)" ] || exit 13
"#;

impl Daemon {
    pub(super) fn probe_need(&mut self, need: &NeedName) {
        let Some(config) = self.config.needs.get(need).cloned() else { return };
        let (command, what) = match needs::probe(&config, &self.config.workspace, &self.options.supervisor) {
            needs::Probe::Known(found) => {
                self.queue.push_back(Event::NeedProbed { need: need.clone(), found });
                return;
            }
            needs::Probe::Run { command, what } => (command, what),
        };
        let purpose = Purpose::Need { need: need.clone(), what };
        if let Err(why) = self.spawn(command, None, millis(needs::WITHIN), purpose) {
            self.queue.push_back(Event::NeedProbed { need: need.clone(), found: Err(why) });
        }
    }

    pub(super) fn read_memory(&mut self) {
        let free = match procfs::Meminfo::current() {
            // MemAvailable is there since Linux 3.14; without it nothing can be judged, and nothing is held.
            Ok(info) => info.mem_available.unwrap_or(u64::MAX / 2).saturating_add(info.swap_free / 2),
            Err(e) => {
                tracing::warn!("reading /proc/meminfo: {e}; no start is held for memory");
                u64::MAX
            }
        };
        self.queue.push_back(Event::MemoryRead { free });
    }

    pub(super) fn sample(&mut self, name: &LoopName, epoch: u64) {
        let seen = self.look_at(name, epoch);
        self.queue.push_back(seen);
    }

    fn look_at(&self, name: &LoopName, epoch: u64) -> Event {
        let now = Now::read();
        let log = self.store.layout().log(name);
        let modified = std::fs::metadata(&log).and_then(|meta| meta.modified()).ok();
        // No log: no output that could be seen. The wall clock's distance is put on the boot clock.
        let output_at = modified.and_then(|at| {
            let wall = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
            let ago = now.wall.saturating_sub(i64::try_from(wall).ok()?);
            Some(now.boot.saturating_sub(u64::try_from(ago).unwrap_or(0)))
        });
        let wanted = self.config.loops.get(name).is_some_and(|c| c.restart_above.is_some());
        let memory = match self.memory_in_unit(name) {
            None if wanted => self.memory_of(name),
            found => found,
        };
        let children_oom_killed = self.children_killed(name);
        Event::Sampled { name: name.clone(), epoch, output_at, memory, children_oom_killed }
    }

    /// Output is no event, so it is looked for before somebody is told of the last sign of life.
    pub(super) fn sample_all(&mut self) {
        let seen = self.agents.iter().map(|(name, (epoch, ..))| self.look_at(name, *epoch)).collect();
        self.queue.push_back(Event::Together(seen));
    }

    fn memory_of(&self, name: &LoopName) -> Option<u64> {
        let (_, agent, _) = self.agents.get(name)?;
        // A process that ends while it is looked at is not counted; nothing to tell a person.
        let mut all = tree::descendants(agent.pid).ok()?;
        all.push(*agent);
        memory::memory(&all).ok().map(|memory| memory.bytes)
    }

    pub(super) fn read_safety(&mut self, name: &LoopName) {
        let Some(config) = self.config.loops.get(name) else { return };
        let mut command = Command::new("sh");
        command.args(["-c", SAFETY_SCRIPT]).current_dir(&config.workdir);
        command.env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(variable);
        }
        let purpose = Purpose::Safety { name: name.clone() };
        if let Err(why) = self.spawn(command, None, GIT_DEADLINE_MS, purpose) {
            self.queue.push_back(Event::SafetyRead { name: name.clone(), found: Err(why) });
        }
    }

    pub(super) fn safety_told(&mut self, name: LoopName, ended: &Finished) {
        let text = said("git", ended).unwrap_or_else(|| "git failed".to_owned());
        let found = match ended.end {
            End::Overdue => Err("git did not answer within 30 s".to_owned()),
            End::Exited(status) => match status.code() {
                Some(0 | NO_CLONE) => Ok(()),
                Some(NOT_CLEAN) => Err(format!("its clone is not clean ({})", text.trim_start_matches("git: "))),
                Some(NOT_PUSHED) => Err("its last commit is not pushed".to_owned()),
                Some(GIT_FAILED) | Some(_) | None => Err(text),
            },
        };
        self.queue.push_back(Event::SafetyRead { name, found });
    }

    /// What is looked at now and then.
    pub(super) fn housekeeping(&mut self, now: Now) {
        self.housekeeping = now.boot.saturating_add(HOUSEKEEPING_MS);
        let names: Vec<LoopName> = self.world.loops.keys().cloned().collect();
        for name in names {
            let log = self.store.layout().log(&name);
            match pane_log::rotate(&log, pane_log::MAX_BYTES, pane_log::KEEP) {
                Ok(Rotation::NotNeeded | Rotation::Rotated) => {}
                Err(e) => tracing::warn!("{name}: {e}"),
            }
            // Rotated, or removed by somebody: the pipe writes to the old file. tmux pipes no dead pane, and a frozen one
            // answers nobody; a start pipes anew by itself.
            if self.agents.contains_key(&name) && self.world.global.frozen.is_none() && is_missing(&log) {
                self.repipe(&name);
            }
        }
        if let Err(e) = self.journal.flush(now) {
            tracing::warn!("{e}");
        }
        match self.server.mend() {
            Ok(false) => {}
            Ok(true) => tracing::warn!("the control socket was removed; it is there again"),
            Err(e) => tracing::error!("{e}"),
        }
        self.look_at_phase_file();
    }

    /// A value that somebody wrote meanwhile is said once and not followed.
    fn look_at_phase_file(&mut self) {
        let (Some(phases), Some(index)) = (&self.config.phases, self.world.phase) else { return };
        let found = match phase_file::observe(&phases.index_file, phases.plans.len()) {
            Ok(Observed::Index(found)) if found == index => None,
            Ok(Observed::Index(found)) => Some(found.to_string()),
            Ok(Observed::Absent) => Some("nothing: it is missing".to_owned()),
            Ok(Observed::Foreign(why)) => Some(format!("something that {why}")),
            Err(e) => {
                tracing::warn!("{e}");
                return;
            }
        };
        if found != self.phase_said {
            self.phase_said.clone_from(&found);
            if let Some(found) = found {
                self.queue.push_back(Event::PhaseFileDiffers { found });
            }
        }
    }
}

/// Whether there is certainly no such file.
pub(super) fn is_missing(log: &Path) -> bool {
    // Whatever keeps us from looking is no proof.
    matches!(log.try_exists(), Ok(false))
}
