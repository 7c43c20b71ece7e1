//! Reading the journal, also while a supervisor writes it.

use super::line::{Decoded, Entry, Origin, decode};
use super::rotate::names;
use crate::supervisor::names::LoopName;
use crate::supervisor::phase_file::LastPhase;
use crate::support::durable::DurableError;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Which entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this loop.
    pub loop_name: Option<LoopName>,
}

impl Filter {
    fn takes(&self, line: &Decoded) -> bool {
        line.origin == Origin::Here && self.loop_name.as_ref().is_none_or(|l| line.entry.loop_name.as_ref() == Some(l))
    }
}

/// The entries of a journal, oldest first. Lines that cannot be read are skipped and counted.
#[derive(Debug)]
pub struct Reader {
    /// Oldest last, so that the next is popped.
    files: Vec<(PathBuf, BufReader<File>)>,
    filter: Filter,
    unreadable: u64,
}

impl Reader {
    /// How many lines were skipped so far because they are torn or foreign.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, DurableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        while let Some((path, file)) = self.files.last_mut() {
            line.clear();
            match file.read_until(b'\n', &mut line) {
                Ok(0) => drop(self.files.pop()),
                Ok(_) => match decode(&line) {
                    Ok(found) if self.filter.takes(&found) => return Some(Ok(found.entry)),
                    Ok(_) => {}
                    Err(_) => self.unreadable += 1,
                },
                Err(cause) => {
                    let error = DurableError::io("reading", path, cause);
                    self.files.pop();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Reads all files of the journal in `dir`; a missing journal has no entries.
pub fn read(dir: &Path, filter: Filter) -> Result<Reader, DurableError> {
    let files = open_all(dir)?.into_iter().map(|(path, file)| (path, BufReader::new(file))).collect();
    Ok(Reader { files, filter, unreadable: 0 })
}

/// The last `n` entries, oldest first; only as many files are read as it takes.
pub fn tail(dir: &Path, n: usize, loop_name: Option<&LoopName>) -> Result<Vec<Entry>, DurableError> {
    let filter = Filter { loop_name: loop_name.cloned() };
    let mut found = newest_first(dir, n, |line| filter.takes(&line).then_some(line.entry))?;
    found.reverse();
    Ok(found)
}

/// What the journal in `dir` last said about the phase index.
pub fn last_phase(dir: &Path) -> Result<Option<LastPhase>, DurableError> {
    Ok(last_phase_entry(dir)?.as_ref().and_then(LastPhase::of))
}

pub(super) fn last_phase_entry(dir: &Path) -> Result<Option<Entry>, DurableError> {
    Ok(newest_first(dir, 1, |line| LastPhase::of(&line.entry).map(|_| line.entry))?.pop())
}

/// At most `n` of what `pick` takes, newest first.
fn newest_first<T>(dir: &Path, n: usize, pick: impl Fn(Decoded) -> Option<T>) -> Result<Vec<T>, DurableError> {
    let mut found = Vec::new();
    for (path, mut file) in open_all(dir)? {
        if found.len() >= n {
            break;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|cause| DurableError::io("reading", &path, cause))?;
        // A torn line is no entry, here as in `Reader`, which counts them.
        let lines = bytes.rsplit(|b| *b == b'\n').filter_map(|line| decode(line).ok());
        found.extend(lines.filter_map(&pick).take(n - found.len()));
    }
    Ok(found)
}

/// All files, newest first. A rotation meanwhile gives a file that is already open its next name, so one that comes
/// twice is left out; opened oldest first, one would be missed.
fn open_all(dir: &Path) -> Result<Vec<(PathBuf, File)>, DurableError> {
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    for path in names(dir) {
        let failed = |cause| DurableError::io("reading", &path, cause);
        match File::open(&path) {
            Ok(file) => {
                let stat = file.metadata().map_err(failed)?;
                if seen.insert((stat.dev(), stat.ino())) {
                    files.push((path, file));
                }
            }
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            Err(cause) => return Err(failed(cause)),
        }
    }
    Ok(files)
}
