//! What agents told while no supervisor ran, or while this one answered nobody in time.

use crate::supervisor::agents::Adapter;
use crate::supervisor::config::Config;
use crate::supervisor::core::event::Event;
use crate::supervisor::names::LoopName;
use crate::supervisor::session::missed_events;
use crate::support::clock::Now;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// What a loop's agent left, which is not there any more then.
pub(super) fn take(config: &Config, name: &LoopName, adapter: &dyn Adapter) -> Vec<Event> {
    let path = missed_events(&config.runtime_dir, name);
    let text = match empty(&path) {
        Ok(text) => text,
        Err(e) => {
            tracing::warn!("{name}: reading what its agent told meanwhile in `{}`: {e}", path.display());
            return Vec::new();
        }
    };
    let told = String::from_utf8_lossy(&text);
    // Anything else in it was not written by `supervisor event`.
    let lines = told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines
        .map(|line| Event::Signals {
            name: name.clone(),
            epoch: line["epoch"].as_u64(),
            signals: adapter.read_event(&line["event"], Now::read().wall),
        })
        .collect()
}

/// Emptied and not removed: a hook that has it open writes to it still. It is opened for writing only when there is
/// something to empty, and locked: the watch on its folder tells of each writer, this one too.
fn empty(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        // A hook is writing, or was stopped in the midst of it: the watch tells when it closes the file.
        Err(Errno::WOULDBLOCK) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    if !text.is_empty() {
        OpenOptions::new().write(true).open(path)?.set_len(0)?;
    }
    Ok(text)
}
