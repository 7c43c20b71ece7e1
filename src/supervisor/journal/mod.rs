//! The journal: one line of JSON for each decision, with its evidence. Owns how lines get to the disk whole, what
//! happens when it is full, and rotation; not what is decided.

mod line;
mod read;
mod rotate;
#[cfg(test)]
mod tests;

pub use line::Entry;
pub use read::{Filter, Reader, last_phase, read, tail};

use super::phase_file::LastPhase;
use crate::support::clock::Now;
use crate::support::durable::{DurableError, create_folder, step};
use line::{Origin, encode};
use rotate::{CURRENT, LIMIT};
use serde_json::json;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Lines kept in memory while they cannot be written: a full disk for a day of normal work. With lines at their
/// longest this is 16 MiB.
const MAX_WAITING: usize = 256;

/// Whether an entry must survive a power cut before the work goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// On disk when `append` returns `Ok`; on `Err` the entry is taken back, so it does not show up later (unless the
    /// disk fails in such a way that it can be written but neither synced nor cut off).
    Yes,
    /// Given to the kernel; kept in memory and written later if even that fails.
    No,
}

/// What became of an entry that need not be synced.
#[derive(Debug)]
#[must_use]
pub enum Appended {
    /// It is in the file.
    Written,
    /// It could not be written, for this reason; it waits in memory for the next `append` or `flush`.
    Kept(DurableError),
}

/// The journal, opened for writing by the one supervisor that holds the state's lock.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    file: File,
    tail: Tail,
    waiting: VecDeque<Line>,
    dropped: u64,
    last_phase: Option<Entry>,
    /// The size in bytes above which a file is rotated …
    limit: u64,
    /// … or the next size at which it is tried again.
    rotate_above: u64,
}

/// How the file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Whole,
    /// With part of a line that could not be cut off, so the next line starts with a newline.
    Torn,
}

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    /// The entry itself if it is about the phase.
    phase: Option<Entry>,
}

impl Journal {
    /// Opens `journal.jsonl` in `dir`, creating both if missing. Part of a line at the end, which a power cut leaves,
    /// is cut off and journalled as `journal-tail-dropped`.
    pub fn open(dir: &Path) -> Result<Self, DurableError> {
        create_folder(dir)?;
        let last_phase = read::last_phase_entry(dir)?;
        let file = open_file(dir, last_phase.as_ref())?;
        let mut journal = Self {
            dir: dir.to_owned(),
            file,
            tail: Tail::Whole,
            waiting: VecDeque::new(),
            dropped: 0,
            last_phase,
            limit: LIMIT,
            rotate_above: LIMIT,
        };
        if let Some(tail) = journal.drop_torn_tail()? {
            let why = format!("the last line was torn, as a power cut does; {} bytes of it were dropped", tail.len());
            let start: String = String::from_utf8_lossy(&tail).chars().take(200).collect();
            let entry = Entry::new(Now::read(), "journal-tail-dropped", why)
                .with_evidence(json!({ "bytes": tail.len(), "start": start }));
            tracing::warn!("{}", entry.why);
            if let Appended::Kept(cause) = journal.append(&entry, Sync::No)? {
                tracing::warn!("{cause}");
            }
        }
        Ok(journal)
    }

    /// Adds an entry. Entries that wait in memory are written first, so the order is kept.
    ///
    /// With [`Sync::No`] never an error because of the disk: see [`Appended::Kept`].
    pub fn append(&mut self, entry: &Entry, sync: Sync) -> Result<Appended, DurableError> {
        let line = Line {
            bytes: encode(entry, Origin::Here)
                .map_err(|cause| DurableError::Encode { path: self.dir.join(CURRENT), cause })?,
            phase: LastPhase::of(entry).map(|_| entry.clone()),
        };
        let written = self.flush(entry.at).and_then(|()| self.write(&line, sync));
        match (written, sync) {
            (Ok(()), _) => Ok(Appended::Written),
            (Err(cause), Sync::Yes) => Err(cause),
            (Err(cause), Sync::No) => {
                if self.waiting.len() == MAX_WAITING {
                    self.waiting.pop_front();
                    self.dropped += 1;
                }
                self.waiting.push_back(line);
                Ok(Appended::Kept(cause))
            }
        }
    }

    /// Writes what waits in memory, oldest first, after an entry `journal-dropped` if some had to be given up.
    pub fn flush(&mut self, now: Now) -> Result<(), DurableError> {
        if self.dropped > 0 {
            let why = format!("{} older entries could not be written in time and are lost", self.dropped);
            let entry = Entry::new(now, "journal-dropped", why).with_evidence(json!({ "dropped": self.dropped }));
            let bytes = encode(&entry, Origin::Here)
                .map_err(|cause| DurableError::Encode { path: self.dir.join(CURRENT), cause })?;
            self.write(&Line { bytes, phase: None }, Sync::No)?;
            self.dropped = 0;
        }
        while let Some(line) = self.waiting.pop_front() {
            if let Err(cause) = self.write(&line, Sync::No) {
                self.waiting.push_front(line);
                return Err(cause);
            }
        }
        Ok(())
    }

    /// How many entries wait in memory or were given up, because they could not be written.
    pub fn unwritten(&self) -> u64 {
        self.waiting.len() as u64 + self.dropped
    }

    /// What the journal last said about the phase index.
    pub fn last_phase(&self) -> Option<LastPhase> {
        // The latest may still wait in memory.
        let waiting = self.waiting.iter().rev().find_map(|line| line.phase.as_ref());
        waiting.or(self.last_phase.as_ref()).and_then(LastPhase::of)
    }

    fn write(&mut self, line: &Line, sync: Sync) -> Result<(), DurableError> {
        self.make_room(line.bytes.len() as u64)?;
        let before = self.stat()?.len();
        let newline: &[u8] = if self.tail == Tail::Torn { b"\n" } else { b"" };
        let bytes = [newline, &line.bytes].concat();
        let written = match retry_interrupted(|| rustix::io::write(&self.file, &bytes)) {
            Ok(n) if n == bytes.len() => Ok(()),
            // A regular file takes less than all only when there is no room for the rest.
            Ok(_) => Err(DurableError::io("appending to", &self.path(), rustix::io::Errno::NOSPC)),
            Err(cause) => Err(DurableError::io("appending to", &self.path(), cause)),
        };
        step("journal: written");
        let done = written.and_then(|()| match sync {
            Sync::Yes => self.file.sync_data().map_err(|cause| DurableError::io("syncing", &self.path(), cause)),
            Sync::No => Ok(()),
        });
        if let Err(cause) = done {
            self.take_back(before, bytes.len() as u64);
            return Err(cause);
        }
        if sync == Sync::Yes {
            step("journal: synced");
        }
        self.tail = Tail::Whole;
        if line.phase.is_some() {
            self.last_phase.clone_from(&line.phase);
        }
        Ok(())
    }

    /// Cuts off what a failed append left, or remembers that it could not.
    fn take_back(&mut self, before: u64, length: u64) {
        match self.file.metadata() {
            Ok(now) if now.len() == before => {}
            // A whole line whose sync failed ends in a newline, so it cannot be glued to the next.
            Ok(now) => {
                if let Err(cause) = self.file.set_len(before) {
                    tracing::warn!("cutting a torn line off `{}`: {cause}", self.path().display());
                    self.tail = if now.len() == before + length { Tail::Whole } else { Tail::Torn };
                }
            }
            Err(cause) => {
                tracing::warn!("looking at `{}`: {cause}", self.path().display());
                self.tail = Tail::Torn;
            }
        }
    }

    /// Rotates when the line would make the file too large, and starts a new file when somebody removed this one.
    fn make_room(&mut self, length: u64) -> Result<(), DurableError> {
        let now = self.stat()?;
        if now.nlink() > 0 {
            if now.len() == 0 || now.len() + length <= self.rotate_above {
                return Ok(());
            }
            self.rotate_above = match rotate::rotate(&self.dir, self.last_phase.as_ref()) {
                Ok(()) => self.limit,
                // A journal that is too long is better than none; tried again some way further on.
                Err(cause) => {
                    tracing::warn!("rotating the journal: {cause}");
                    now.len() + self.limit / 64
                }
            };
        }
        self.file = open_file(&self.dir, self.last_phase.as_ref())?;
        if self.stat()?.ino() != now.ino() {
            self.tail = Tail::Whole;
        }
        Ok(())
    }

    /// Cuts off and returns what follows the last newline. A whole entry there lost only its newline, which it gets.
    fn drop_torn_tail(&mut self) -> Result<Option<Vec<u8>>, DurableError> {
        let path = self.path();
        let failed = |cause| DurableError::io("looking at the end of", &path, cause);
        let length = self.stat()?.len();
        let mut end = Vec::new();
        let mut start = length;
        while start > 0 && !end.contains(&b'\n') {
            let from = start.saturating_sub(8192);
            let mut block = vec![0; usize::try_from(start - from).unwrap_or(8192)];
            self.file.read_exact_at(&mut block, from).map_err(failed)?;
            end.splice(0..0, block);
            start = from;
        }
        let tail = end.split_off(end.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1));
        if tail.is_empty() {
            return Ok(None);
        } else if line::decode(&tail).is_ok() {
            self.tail = Tail::Torn;
            return Ok(None);
        }
        self.file
            .set_len(length - tail.len() as u64)
            .map_err(|c| DurableError::io("dropping a torn line of", &path, c))?;
        Ok(Some(tail))
    }

    fn path(&self) -> PathBuf {
        self.dir.join(CURRENT)
    }

    fn stat(&self) -> Result<std::fs::Metadata, DurableError> {
        self.file.metadata().map_err(|cause| DurableError::io("looking at", &self.path(), cause))
    }
}

/// Opens the current file, making it if it is missing.
fn open_file(dir: &Path, phase: Option<&Entry>) -> Result<File, DurableError> {
    match rotate::create_if_missing(dir, phase) {
        // An empty file needs no space, and the older files still have the entry about the phase: the next rotation
        // carries it over.
        Err(cause) if cause.is_no_space() => tracing::warn!("{cause}"),
        other => other?,
    }
    let path = dir.join(CURRENT);
    let opened = OpenOptions::new().read(true).append(true).create(true).mode(rotate::MODE).open(&path);
    opened.map_err(|cause| DurableError::io("opening", &path, cause))
}

fn retry_interrupted(mut call: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<usize> {
    loop {
        match call().map_err(io::Error::from) {
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
