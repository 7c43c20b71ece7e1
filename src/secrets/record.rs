//! What was placed, so that it can be removed when no manifest names it any more. Nothing of a content is in it, and no
//! hash of one: many secrets are so short that a hash gives them away.

use super::manifest::{SecretName, UnitName};
use super::worker::Stamp;
use crate::support::durable::{self, Read};
use anyhow::Context;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const FORMAT: &str = "placed-secrets";
const VERSION: u64 = 1;

/// What was placed, by path, and which units were not told yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// By path.
    pub placed: BTreeMap<PathBuf, Placed>,
    /// Still to be restarted.
    pub restart: BTreeSet<UnitName>,
    /// Still to be reloaded.
    pub reload: BTreeSet<UnitName>,
}

/// A placed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its name in the manifest of that time.
    pub secret: SecretName,
    /// Its owner.
    pub uid: u32,
    /// What the file is known by: the newest last. Two, when a run was cut off between writing this and renaming.
    pub stamps: Vec<Stamp>,
    /// When: milliseconds since the Unix epoch.
    pub at: i64,
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("placed.json")
}

impl Record {
    /// Reads it; one that was never written is empty. A damaged one is set aside, and then nothing is known.
    ///
    /// # Errors
    /// When it cannot be read, or a newer version wrote it.
    pub fn read(state_dir: &Path) -> anyhow::Result<(Self, Option<String>)> {
        Self::take(durable::read_json(&file(state_dir), FORMAT, VERSION)?, state_dir)
    }

    /// Like [`Record::read`], but changes nothing.
    ///
    /// # Errors
    /// As there.
    pub fn inspect(state_dir: &Path) -> anyhow::Result<(Self, Option<String>)> {
        Self::take(durable::inspect_json(&file(state_dir), FORMAT, VERSION)?, state_dir)
    }

    fn take(read: Read<Self>, state_dir: &Path) -> anyhow::Result<(Self, Option<String>)> {
        let shown = file(state_dir);
        let shown = shown.display();
        Ok(match read {
            Read::Current(record) => (record, None),
            Read::Absent => (Self::default(), None),
            Read::Recovered { value, why, .. } => {
                (value, Some(format!("reading `{shown}`: it {why}; its previous version is used")))
            }
            Read::Lost { why, .. } => {
                let text = format!("reading `{shown}`: it {why}; what was placed before is not known, so not pruned");
                (Self::default(), Some(text))
            }
        })
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn write(&self, state_dir: &Path) -> anyhow::Result<()> {
        Ok(durable::write_json(&file(state_dir), FORMAT, VERSION, self)?)
    }
}

/// One placer at a time: two would take each other's temporary files for left-overs.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held until it is dropped")] OwnedFd);

impl Lock {
    /// Takes it; `None` when another placer has it. Makes the state folder.
    ///
    /// # Errors
    /// When the folder or the lock cannot be made.
    pub fn take(state_dir: &Path) -> anyhow::Result<Option<Self>> {
        durable::create_folder(state_dir)?;
        let path = state_dir.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR);
        let fd = opened.with_context(|| format!("opening the lock `{}`", path.display()))?;
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(fd))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("locking `{}`", path.display())),
        }
    }
}
