//! Places what differs: all is written and on disk before the first name changes, so that what fails changes nothing.

use super::record::{Placed, Record};
use super::source::Item;
use super::survey::{Crew, Stop, odd, told};
use super::worker::{Answer, Request, Stamp, State, Sync};
use std::path::{Path, PathBuf};

/// With more files than this one sync of the whole file system is faster than one each.
const MANY: usize = 16;

/// What was done.
#[derive(Debug, Default)]
pub struct Placing {
    /// A line for each secret that was placed.
    pub placed: Vec<String>,
    /// Why some are not in place though all could be written.
    pub failed: Vec<String>,
}

/// Places every secret that is not as it should be. The record is written before and not after: by then the caller has
/// more to write into it.
///
/// # Errors
/// [`Stop`], and then nothing has changed.
pub fn place(
    crews: &mut [Crew<'_>],
    record: &mut Record,
    state_dir: &Path,
    now: i64,
) -> anyhow::Result<Result<Placing, Stop>> {
    let changed = crews.iter().flat_map(|c| &c.items).filter(|(_, state)| *state != State::Same).count();
    if changed == 0 {
        return Ok(Ok(Placing::default()));
    }
    let staged = match stage(crews, if changed > MANY { Sync::Together } else { Sync::Each }) {
        Ok(staged) => staged,
        Err(stop) => return Ok(Err(stop)),
    };
    // Before the first rename: should power fail then, it is known which files may be ours, and who was not told.
    for (item, stamp) in &staged {
        let fresh = || Placed { secret: item.name.clone(), uid: item.identity.uid, stamps: Vec::new(), at: now };
        let placed = record.placed.entry(item.entry.path.clone()).or_insert_with(fresh);
        let keep = placed.stamps.last().copied().filter(|_| placed.uid == item.identity.uid);
        *placed = Placed { stamps: keep.into_iter().chain([*stamp]).collect(), ..fresh() };
        record.restart.extend(item.entry.try_restart.iter().cloned());
        record.reload.extend(item.entry.reload.iter().cloned());
    }
    record.write(state_dir)?;
    let mut failed: Vec<(PathBuf, String)> = Vec::new();
    for crew in crews.iter_mut() {
        let lost = match crew.worker.ask(Request::Commit, None) {
            Ok(Ok(Answer::Committed(some))) => {
                failed.extend(some);
                continue;
            }
            Ok(Ok(other)) => format!("the worker answered {other:?}; please report this"),
            Ok(Err(told)) => told,
            Err(lost) => lost.to_string(),
        };
        // Nothing is known of any file of this crew; the record keeps both stamps of each.
        failed.extend(crew.items.iter().map(|(item, _)| (item.entry.path.clone(), lost.clone())));
    }
    Ok(Ok(done(crews, staged, failed, record)))
}

fn stage<'i>(crews: &mut [Crew<'i>], sync: Sync) -> Result<Vec<(&'i Item, Stamp)>, Stop> {
    let (mut staged, mut refused) = (Vec::new(), Vec::new());
    for crew in crews.iter_mut() {
        let todo: Vec<&Item> =
            crew.items.iter().filter(|(_, state)| *state != State::Same).map(|(item, _)| *item).collect();
        let asked = todo.iter().map(|item| (Request::Stage(item.target(), sync), Some(&item.content)));
        for (item, answer) in todo.iter().zip(crew.worker.ask_all(asked)?) {
            match answer {
                Ok(Answer::Staged(stamp)) => staged.push((*item, stamp)),
                Ok(other) => refused.push(odd(item, &other)),
                Err(told) => refused.push(format!("placing the secret `{}`: {told}", item.name)),
            }
        }
        if let (Sync::Together, Err(told)) = (sync, crew.worker.ask(Request::Flush, None)?) {
            refused.push(told);
        }
    }
    if refused.is_empty() { Ok(staged) } else { Err(Stop::Refused(refused)) }
}

fn done(
    crews: &[Crew<'_>],
    staged: Vec<(&Item, Stamp)>,
    failed: Vec<(PathBuf, String)>,
    record: &mut Record,
) -> Placing {
    let states: Vec<_> = crews.iter().flat_map(|crew| &crew.items).collect();
    let mut placing = Placing::default();
    for (item, stamp) in staged {
        let path = item.entry.path.as_path();
        if failed.iter().any(|(of, _)| of == path) {
            continue;
        }
        if let Some(placed) = record.placed.get_mut(path) {
            placed.stamps = vec![stamp];
        }
        let why = states.iter().find(|(of, _)| of.name == item.name).map(|(_, state)| told(state, item));
        placing.placed.push(format!("placed `{}` at `{}`: {}", item.name, path.display(), why.unwrap_or_default()));
    }
    placing.failed = failed.into_iter().map(|(_, told)| format!("placing a secret: {told}")).collect();
    placing.failed.dedup();
    placing
}
