//! Rotation of the journal: `journal.jsonl`, then `journal.jsonl.1` (newest) to `.3` (oldest).

use super::line::{Entry, Origin, encode};
use crate::support::durable::{self, DurableError, step};
use std::fs;
use std::path::{Path, PathBuf};

pub(super) const CURRENT: &str = "journal.jsonl";

/// The user writes, the group reads.
pub(super) const MODE: u32 = 0o640;

/// Some ten thousand decisions; small enough that `explain` reads a file in some ten milliseconds.
pub(super) const LIMIT: u64 = 4 * 1024 * 1024;

/// How many older files are kept.
const KEEP: u32 = 3;

/// Every name that the journal's files have, newest first.
pub(super) fn names(dir: &Path) -> impl DoubleEndedIterator<Item = PathBuf> {
    (0..=KEEP).map(move |n| numbered(dir, n))
}

fn numbered(dir: &Path, n: u32) -> PathBuf {
    dir.join(if n == 0 { CURRENT.to_owned() } else { format!("{CURRENT}.{n}") })
}

/// Moves the current file to `.1` and starts a new one with the last entry about the phase, so that this outlives the
/// file it was written to.
///
/// A power cut after any step loses no entry but those of the oldest file: a free number in the middle is used up by
/// the next rotation instead of deleting another file for it, and a missing current file is made by the next open,
/// with what the newest older one said about the phase.
pub(super) fn rotate(dir: &Path, phase: Option<&Entry>) -> Result<(), DurableError> {
    let mut free = 1;
    while free < KEEP && exists(&numbered(dir, free))? {
        free += 1;
    }
    for n in (1..free).rev() {
        rename(&numbered(dir, n), &numbered(dir, n + 1))?;
    }
    let (current, older) = (numbered(dir, 0), numbered(dir, 1));
    rename(&current, &older)?;
    create_if_missing(dir, phase).inspect_err(|_| {
        // On a full disk the old file goes on; renaming back needs no space. If even that fails, the journal goes on
        // in an empty file, and the entry is carried over by the next rotation.
        if let Err(cause) = rename(&older, &current) {
            tracing::warn!("{cause}");
        }
    })
}

/// Makes the current file, with the last entry about the phase, unless it is there.
pub(super) fn create_if_missing(dir: &Path, phase: Option<&Entry>) -> Result<(), DurableError> {
    let path = numbered(dir, 0);
    if exists(&path)? {
        return Ok(());
    }
    let first = phase.map(|entry| encode(entry, Origin::Carried)).transpose();
    let first = first.map_err(|cause| DurableError::Encode { path: path.clone(), cause })?;
    durable::write(&path, &first.unwrap_or_default(), MODE)
}

fn exists(path: &Path) -> Result<bool, DurableError> {
    path.try_exists().map_err(|cause| DurableError::io("looking for", path, cause))
}

fn rename(from: &Path, to: &Path) -> Result<(), DurableError> {
    fs::rename(from, to).map_err(|cause| DurableError::io("renaming", from, cause))?;
    step("journal: renamed");
    Ok(())
}
