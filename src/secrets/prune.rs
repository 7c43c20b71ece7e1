//! Removes what an earlier manifest placed and this one does not name, as its owner, and nothing else.

use super::manifest::Manifest;
use super::manifest::accounts::of_uid;
use super::record::Record;
use super::worker::link::{LinkError, Worker};
use super::worker::{Answer, Removed, Request};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What became of stale files.
#[derive(Debug, Default)]
pub struct Pruning {
    /// A line for each that is gone.
    pub removed: Vec<String>,
    /// Why some are still there.
    pub left: Vec<String>,
}

/// The paths that were placed and that the manifest does not name.
pub fn stale(manifest: &Manifest, record: &Record) -> Vec<PathBuf> {
    let named: BTreeSet<_> = manifest.secrets.values().map(|entry| &entry.path).collect();
    record.placed.keys().filter(|path| !named.contains(path)).cloned().collect()
}

/// Removes them, and takes what is gone out of the record.
///
/// # Errors
/// When a worker is lost.
pub fn prune(manifest: &Manifest, record: &mut Record) -> Result<Pruning, LinkError> {
    let mut pruning = Pruning::default();
    for path in stale(manifest, record) {
        let Some(placed) = record.placed.get(&path) else { continue };
        // Its user may be gone from the machine by now; the number is what the file has.
        let identity = of_uid(placed.uid);
        let request = Request::Remove { path: path.clone(), uid: placed.uid, stamps: placed.stamps.clone() };
        let answer = match Worker::start(&identity)? {
            Ok(mut worker) => worker.ask(request, None)?,
            Err(told) => Err(told),
        };
        let (shown, name) = (path.display(), placed.secret.clone());
        match answer {
            Ok(Answer::Removed(Removed::Now)) => pruning.removed.push(format!("removed `{shown}`, which was `{name}`")),
            Ok(Answer::Removed(Removed::Before)) => {
                pruning.removed.push(format!("`{shown}`, which was `{name}`, was gone already"));
            }
            Ok(Answer::Removed(Removed::Changed)) => {
                let remedy = format!("remove it by hand if nobody needs it: `rm {shown}`");
                pruning
                    .left
                    .push(format!("removing `{shown}`, which was `{name}`: somebody changed it since; {remedy}"));
                continue;
            }
            Ok(other) => {
                pruning.left.push(format!("removing `{shown}`: the worker answered {other:?}; please report this"));
                continue;
            }
            Err(told) => {
                pruning.left.push(format!("removing what was `{name}`: {told}"));
                continue;
            }
        }
        record.placed.remove(&path);
    }
    Ok(pruning)
}
