//! The folder that must survive a reboot: who may use it, what is where in it, and how it is read and written. What is
//! in the records belongs to the core; the journal and the phase index are beside.

use super::names::LoopName;
use crate::support::durable::{DurableError, Read, create_folder, inspect_json, read_json, sweep, write_json};
use crate::support::process::ProcId;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The version of every record; a change that an older supervisor would misread raises it.
const VERSION: u64 = 1;

/// A child that a killed supervisor had just forked holds its lock until it is exec'd, which is a matter of
/// milliseconds; while the recorded supervisor is dead, the lock is waited for this long.
const CHILD_OF_DEAD: Duration = Duration::from_secs(2);

const LOOP: &str = "loop";
const GLOBAL: &str = "global";
const GATE: &str = "gate";

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another supervisor uses it.
    #[error(
        "locking `{}`: {} is using this state; stop it first (`systemctl stop cc-ci-orchestrator`, or Ctrl-C where it \
         runs), or give this one a `state_dir` of its own",
        path.display(),
        holder(*pid)
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The other supervisor, when it could say so.
        pid: Option<u32>,
    },
    /// There is no such folder.
    #[error("reading the state in `{}`: there is no such folder; start a supervisor with this config first", .0.display())]
    Missing(PathBuf),
    /// A folder or the lock file cannot be used.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another supervisor".to_owned(), |pid| format!("another supervisor (pid {pid})"))
}

/// What is where in the state folder. Pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout of this state folder.
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.to_owned() }
    }

    /// The folder itself, in which the journal is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of the loops' records.
    pub fn loops(&self) -> PathBuf {
        self.dir.join("loops")
    }

    /// A loop's record.
    pub fn loop_record(&self, name: &LoopName) -> PathBuf {
        self.loops().join(format!("{name}.json"))
    }

    /// What is known of no loop in particular: freeze, accounts.
    pub fn global(&self) -> PathBuf {
        self.dir.join("global.json")
    }

    /// The handshake of the current phase.
    pub fn gate(&self) -> PathBuf {
        self.dir.join("gate.json")
    }

    /// The folder of the loops' logs.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// What a loop's pane printed.
    pub fn log(&self, name: &LoopName) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Locked by the one supervisor that uses this state; holds its pid.
    pub fn lock(&self) -> PathBuf {
        self.dir.join("supervisor.lock")
    }
}

/// The state, locked for the one supervisor that may change it.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    /// The kernel releases it when the process ends, however it ends.
    _lock: File,
}

impl Store {
    /// Creates the folders (0750), locks the state and removes what a crash left behind.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let layout = Layout::new(state_dir);
        create_folder(layout.dir())?;
        let lock = lock(&layout.lock())?;
        for folder in [layout.dir().to_owned(), layout.loops(), layout.logs()] {
            create_folder(&folder)?;
            for stale in sweep(&folder)? {
                tracing::info!("removed `{}`, which an interrupted write left", stale.display());
            }
        }
        Ok(Self { layout, _lock: lock })
    }

    /// Looks at the state without lock and without changing anything, also while a supervisor runs.
    pub fn open_readonly(state_dir: &Path) -> Result<StoreView, StoreError> {
        match fs::metadata(state_dir) {
            Ok(_) => Ok(StoreView { layout: Layout::new(state_dir) }),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Err(StoreError::Missing(state_dir.to_owned())),
            Err(cause) => Err(DurableError::io("reading the state in", state_dir, cause).into()),
        }
    }

    /// What is where.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes a loop's record durably.
    pub fn save_loop<T: Serialize>(&self, name: &LoopName, record: &T) -> Result<(), DurableError> {
        write_json(&self.layout.loop_record(name), LOOP, VERSION, record)
    }

    /// Reads a loop's record; a bad one is set aside.
    pub fn load_loop<T: DeserializeOwned>(&self, name: &LoopName) -> Result<Read<T>, DurableError> {
        read_json(&self.layout.loop_record(name), LOOP, VERSION)
    }

    /// Writes what is known of no loop in particular durably.
    pub fn save_global<T: Serialize>(&self, record: &T) -> Result<(), DurableError> {
        write_json(&self.layout.global(), GLOBAL, VERSION, record)
    }

    /// Reads what is known of no loop in particular; a bad record is set aside.
    pub fn load_global<T: DeserializeOwned>(&self) -> Result<Read<T>, DurableError> {
        read_json(&self.layout.global(), GLOBAL, VERSION)
    }

    /// Writes the handshake of the current phase durably.
    pub fn save_gate<T: Serialize>(&self, record: &T) -> Result<(), DurableError> {
        write_json(&self.layout.gate(), GATE, VERSION, record)
    }

    /// Reads the handshake of the current phase; a bad record is set aside.
    pub fn load_gate<T: DeserializeOwned>(&self) -> Result<Read<T>, DurableError> {
        read_json(&self.layout.gate(), GATE, VERSION)
    }

    /// The loops that have a record, sorted, whether they are still configured or not.
    pub fn recorded_loops(&self) -> Result<Vec<LoopName>, DurableError> {
        recorded_loops(&self.layout)
    }
}

/// The state as anyone may look at it.
#[derive(Debug)]
pub struct StoreView {
    layout: Layout,
}

impl StoreView {
    /// What is where.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Reads a loop's record.
    pub fn load_loop<T: DeserializeOwned>(&self, name: &LoopName) -> Result<Read<T>, DurableError> {
        inspect_json(&self.layout.loop_record(name), LOOP, VERSION)
    }

    /// Reads what is known of no loop in particular.
    pub fn load_global<T: DeserializeOwned>(&self) -> Result<Read<T>, DurableError> {
        inspect_json(&self.layout.global(), GLOBAL, VERSION)
    }

    /// Reads the handshake of the current phase.
    pub fn load_gate<T: DeserializeOwned>(&self) -> Result<Read<T>, DurableError> {
        inspect_json(&self.layout.gate(), GATE, VERSION)
    }

    /// The loops that have a record, sorted.
    pub fn recorded_loops(&self) -> Result<Vec<LoopName>, DurableError> {
        recorded_loops(&self.layout)
    }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |doing| move |cause: io::Error| DurableError::io(doing, path, cause);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path);
    let file = opened.map_err(failed("opening the lock"))?;
    let begun = Instant::now();
    while let Err(cause) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if cause != Errno::WOULDBLOCK {
            return Err(failed("locking")(cause.into()).into());
        }
        let pid = read_pid(path)?;
        if begun.elapsed() >= CHILD_OF_DEAD || pid.is_none_or(is_alive) {
            return Err(StoreError::Locked { path: path.to_owned(), pid });
        }
        std::thread::sleep(CHILD_OF_DEAD / 100);
    }
    // Fixed width and no truncation, so that a full disk does not matter once the file has a block. The lock guards;
    // the pid only makes a message better, so it is no reason not to start.
    if let Err(cause) = file.write_all_at(format!("{:>10}\n", std::process::id()).as_bytes(), 0) {
        tracing::warn!("writing the pid to `{}`: {cause}", path.display());
    }
    Ok(file)
}

/// Whether there is such a process, for all that can be told.
fn is_alive(pid: u32) -> bool {
    let look = |pid| ProcId::of(pid)?.map_or(Ok(false), |id| id.is_alive());
    i32::try_from(pid).is_ok_and(|pid| look(pid).unwrap_or(true))
}

/// `None` when the file has no number, which a full disk can cause.
fn read_pid(path: &Path) -> Result<Option<u32>, DurableError> {
    let text = fs::read_to_string(path).map_err(|cause| DurableError::io("reading", path, cause))?;
    Ok(text.trim().parse().ok())
}

fn recorded_loops(layout: &Layout) -> Result<Vec<LoopName>, DurableError> {
    let folder = layout.loops();
    let failed = |cause| DurableError::io("listing", &folder, cause);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(failed(cause)),
    };
    let mut names = std::collections::BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        // A lost current version has its `.prev`; anything else in the folder is no record.
        let name = name.to_str().map(|n| n.strip_suffix(".prev").unwrap_or(n)).and_then(|n| n.strip_suffix(".json"));
        names.extend(name.and_then(|name| name.parse().ok()));
    }
    Ok(names.into_iter().collect())
}

#[cfg(test)]
mod tests;
