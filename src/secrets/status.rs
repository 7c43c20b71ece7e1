//! What is known of each secret without reading any: for a person or a program that may not see contents.

use super::manifest::{Entry, Manifest};
use super::prune::stale;
use super::record::{Placed, Record};
use super::worker::Stamp;
use crate::support::clock::format_time;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// All secrets, and what is left of earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// In the order of their names.
    pub secrets: Vec<SecretStatus>,
    /// Placed by an earlier manifest, named by none now.
    pub stale: Vec<PathBuf>,
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretStatus {
    /// Its name.
    pub name: String,
    /// Where it goes.
    pub path: PathBuf,
    /// Whose it is to be.
    pub owner: String,
    /// The group it is to have; `None`: the owner's.
    pub group: Option<String>,
    /// The permissions it is to have, in octal.
    pub mode: String,
    /// What it must be.
    pub format: &'static str,
    /// How the file is.
    pub state: FileState,
    /// When it was placed; milliseconds since the Unix epoch.
    pub placed_at: Option<i64>,
    /// More about the state, in words.
    pub detail: String,
}

/// How a target's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// The one that was placed, with its owner and mode.
    Placed,
    /// There is none.
    Missing,
    /// Somebody changed it since.
    Changed,
    /// There is one that was not placed by this program.
    Foreign,
    /// It cannot be looked at.
    Unknown,
}

/// Looks at every target's inode, never at its content.
pub fn status(manifest: &Manifest, record: &Record) -> Status {
    let secrets = manifest.secrets.iter().map(|(name, entry)| {
        let placed = record.placed.get(&entry.path);
        let (state, detail) = state(entry, placed);
        SecretStatus {
            name: name.to_string(),
            path: entry.path.clone(),
            owner: entry.owner.to_string(),
            group: entry.group.as_ref().map(ToString::to_string),
            mode: format!("{:04o}", entry.mode),
            format: entry.format.name(),
            state,
            placed_at: placed.map(|placed| placed.at),
            detail,
        }
    });
    Status { secrets: secrets.collect(), stale: stale(manifest, record) }
}

fn state(entry: &Entry, placed: Option<&Placed>) -> (FileState, String) {
    let stat = match look(&entry.path) {
        Err(Errno::NOENT) => return (FileState::Missing, "`secrets-placer place` places it".to_owned()),
        Err(Errno::LOOP) => return (FileState::Unknown, "a symlink is on the way".to_owned()),
        Err(e) => return (FileState::Unknown, std::io::Error::from(e).to_string()),
        Ok(stat) => stat,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return (FileState::Foreign, "it is no file".to_owned());
    }
    let Some(placed) = placed else {
        return (FileState::Foreign, "it was not placed by this program".to_owned());
    };
    let stamp = Stamp::of(&stat);
    if !placed.stamps.contains(&stamp) || stat.st_uid != placed.uid || stat.st_mode & 0o7777 != entry.mode {
        return (FileState::Changed, "somebody changed it since; `secrets-placer check` tells how".to_owned());
    }
    (FileState::Placed, format!("since {}", format_time(placed.at)))
}

fn look(path: &Path) -> rustix::io::Result<Stat> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fstat(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
}
