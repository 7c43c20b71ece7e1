//! `.phase-idx`, the index of the current plan: how it is read, written and recovered. The journal is the second
//! witness: each move is journalled before it is made. What a move means is decided elsewhere.

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use super::journal::{Appended, Entry, Journal, Sync};
use crate::support::clock::Now;
use crate::support::durable::{self, DurableError, previous};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Anyone may read which phase it is, as with the old scripts' file.
const MODE: u32 = 0o644;

const MOVE: &str = "phase-move";
const SETTLED: &str = "phase-settled";
const SET_BY_FILE: &str = "phase-set-by-file";

/// What an entry of the journal says about the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastPhase {
    /// The file was meant to move, and nothing says that it did.
    Moving {
        /// From this index …
        from: usize,
        /// … to this one.
        to: usize,
    },
    /// The file had this index.
    Settled(usize),
}

impl LastPhase {
    /// `None` when the entry is about something else.
    pub fn of(entry: &Entry) -> Option<Self> {
        let number = |key| entry.evidence.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        match entry.decision.as_str() {
            MOVE => Some(Self::Moving { from: number("from")?, to: number("to")? }),
            SETTLED | SET_BY_FILE => Some(Self::Settled(number("index")?)),
            _ => None,
        }
    }

    /// Where the index is or was meant to be.
    fn target(self) -> usize {
        match self {
            Self::Moving { to, .. } => to,
            Self::Settled(index) => index,
        }
    }
}

/// What was found at a start, and so what the caller does: see each.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum PhaseLoad {
    /// Neither file nor journal knows of a phase: a first start. The caller calls [`finish`] with 0.
    Absent,
    /// The file has what the journal says.
    AsJournalled(usize),
    /// The file has another good index than the journal's last: the operator's, or an old script's. The caller calls
    /// [`accept`] and notifies.
    SetByFile {
        /// The file's.
        index: usize,
        /// The journal's, if it has one.
        last: Option<usize>,
    },
    /// A move was journalled and not made. The caller calls [`finish`] with `to`.
    MoveUnfinished {
        /// The file's index, or what it was to be when it is not there yet.
        from: usize,
        /// Where it was to move.
        to: usize,
    },
    /// The file is missing, torn or foreign; the index is known all the same. The caller calls [`finish`] with it and
    /// notifies.
    Recovered {
        /// The journal's last, else the previous version's.
        index: usize,
        /// Where the bad file is now; `None` when it is missing, or only looked at.
        set_aside: Option<PathBuf>,
        /// What is wrong with the file and where the index is from.
        why: String,
    },
    /// The file is bad and no good index is known: nothing that follows phases can run until the operator sets one.
    Lost {
        /// Where the bad file is now; `None` when it is missing, or only looked at.
        set_aside: Option<PathBuf>,
        /// What is wrong.
        why: String,
    },
}

/// Whether a bad file is moved out of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// By the supervisor that holds the state's lock.
    Owner,
    /// By anyone else: nothing is changed.
    Looker,
}

/// What the file holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// A good index.
    Index(usize),
    /// There is no file.
    Absent,
    /// Something else, said in words, as in "is empty".
    Foreign(String),
}

/// Reads an index of at most `plan_count`, which means complete; the error says what is wrong, as in "is empty".
pub fn parse(bytes: &[u8], plan_count: usize) -> Result<usize, String> {
    let digits = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if digits.is_empty() {
        return Err("is empty".into());
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        let shown: String = String::from_utf8_lossy(bytes).chars().take(40).collect();
        return Err(format!("has {shown:?} instead of a decimal index"));
    }
    // Only a number too large for the type fails here, which is above any number of plans.
    match std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()) {
        Some(index) if index <= plan_count => Ok(index),
        _ => {
            let shown = String::from_utf8_lossy(&digits[..digits.len().min(40)]);
            Err(format!("has the index {shown}, above {plan_count}, the number of plans"))
        }
    }
}

/// Moves the index: the journal is told first and synced, then the file is written durably, and nothing is synced
/// after that, so that no later sync can make up for one that is missing there. The journal's `phase-settled` is a
/// convenience: without it, the next start compares the two.
///
/// `by` is who or what moved it, as in "gate pass by adversary". On an error the file is as it was, unless only the
/// sync of its folder failed; the journal then says what the file has.
pub fn move_to(
    journal: &mut Journal,
    file: &Path,
    from: usize,
    to: usize,
    by: &str,
    at: Now,
) -> Result<(), DurableError> {
    let intent = Entry::new(at, MOVE, format!("the phase index moves from {from} to {to}: {by}"))
        .with_evidence(json!({ "from": from, "to": to, "by": by }));
    let _written = journal.append(&intent, Sync::Yes)?;
    write(file, to).inspect_err(|cause| {
        // The move was refused, so the next start must not finish it: the journal takes it back. If the file cannot
        // be read either, or this entry does not reach the disk, finishing it is right after all: it was asked for.
        if let Ok(Observed::Index(index)) = observe(file, usize::MAX) {
            settle(journal, index, &format!("the phase index stays {index}: {cause}"), at);
        } else if from == 0 {
            settle(journal, 0, &format!("the phase index stays 0: {cause}"), at);
        }
    })?;
    settle(journal, to, &format!("the phase index is {to}"), at);
    Ok(())
}

/// Writes the index that a start found to be right, and journals it as settled.
pub fn finish(journal: &mut Journal, file: &Path, index: usize, at: Now) -> Result<(), DurableError> {
    write(file, index)?;
    settle(journal, index, &format!("the phase index is {index}"), at);
    Ok(())
}

/// Journals that the operator's value in the file is the index from now on.
pub fn accept(journal: &mut Journal, index: usize, last: Option<usize>, at: Now) -> Result<(), DurableError> {
    let before = last.map_or_else(|| "nothing was journalled before".to_owned(), |last| format!("it was {last}"));
    let entry = Entry::new(at, SET_BY_FILE, format!("the phase index was set by file to {index}; {before}"))
        .with_evidence(json!({ "index": index, "last": last }));
    let _written = journal.append(&entry, Sync::Yes)?;
    Ok(())
}

/// Finds the index at a start from the file and from what the journal last said (`last`).
///
/// The journal comes before the file's previous version: that one is older than the last settled index whenever the
/// file was torn after a move that went well. It is used when the journal is lost.
pub fn load(
    last: Option<LastPhase>,
    file: &Path,
    plan_count: usize,
    access: Access,
) -> Result<PhaseLoad, DurableError> {
    let why = match (observe(file, plan_count)?, last) {
        (Observed::Index(index), Some(LastPhase::Moving { from, to })) if index == from && to <= plan_count => {
            // A move to where it is (`phase set` to the same index) has nothing left to do.
            return Ok(if from == to { PhaseLoad::AsJournalled(to) } else { PhaseLoad::MoveUnfinished { from, to } });
        }
        (Observed::Index(index), last) => {
            let last = last.map(LastPhase::target);
            let known = last == Some(index);
            return Ok(if known { PhaseLoad::AsJournalled(index) } else { PhaseLoad::SetByFile { index, last } });
        }
        (Observed::Absent, last) => match (observe(&previous(file), plan_count)?, last) {
            (Observed::Absent, None) => return Ok(PhaseLoad::Absent),
            // The very first move, before which there is no file.
            (Observed::Absent, Some(LastPhase::Moving { from, to })) if to <= plan_count => {
                return Ok(PhaseLoad::MoveUnfinished { from, to });
            }
            _ => "is missing".to_owned(),
        },
        (Observed::Foreign(why), _) => why,
    };
    let why = format!("`{}` {why}", file.display());
    let (index, from) = match last {
        Some(last) if last.target() <= plan_count => {
            (Some(last.target()), "the journal's last index is used".to_owned())
        }
        Some(LastPhase::Moving { from, to }) if from <= plan_count => {
            (Some(from), format!("the journal's move to {to}, above {plan_count}, the number of plans, is left out"))
        }
        // Any older index would run plans again that are done.
        Some(last) => (None, format!("the journal's last index, {}, is above the number of plans", last.target())),
        None => match observe(&previous(file), plan_count)? {
            Observed::Index(index) => (Some(index), "the journal has none, the previous version is used".to_owned()),
            Observed::Absent => (None, "neither the journal nor a previous version has one".to_owned()),
            Observed::Foreign(why) => (None, format!("the journal has none, and the previous version {why}")),
        },
    };
    let set_aside = match access {
        Access::Owner if observe(file, plan_count)? != Observed::Absent => Some(durable::set_aside(file)?),
        Access::Owner | Access::Looker => None,
    };
    let why = format!("{why}; {from}");
    Ok(match index {
        Some(index) => PhaseLoad::Recovered { index, set_aside, why },
        None => PhaseLoad::Lost { set_aside, why },
    })
}

/// Looks at the file, changing nothing: while the supervisor runs, a changed value is reported and not followed.
pub fn observe(file: &Path, plan_count: usize) -> Result<Observed, DurableError> {
    Ok(match durable::read_bytes(file)? {
        None => Observed::Absent,
        Some(bytes) => match parse(&bytes, plan_count) {
            Ok(index) => Observed::Index(index),
            Err(why) => Observed::Foreign(why),
        },
    })
}

fn write(file: &Path, index: usize) -> Result<(), DurableError> {
    durable::write(file, format!("{index}\n").as_bytes(), MODE)
}

/// Not synced, and a full disk keeps it in memory: nothing depends on it.
fn settle(journal: &mut Journal, index: usize, why: &str, at: Now) {
    let entry = Entry::new(at, SETTLED, why).with_evidence(json!({ "index": index }));
    match journal.append(&entry, Sync::No) {
        Ok(Appended::Written) => {}
        Ok(Appended::Kept(cause)) | Err(cause) => tracing::warn!("{cause}"),
    }
}
