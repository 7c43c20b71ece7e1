//! Looking for what no event told: refusals, and texts that were taken within a turn. In the end of a session's file, and
//! on the screen. What they say is the adapter's.

use super::Daemon;
use super::tasks::Purpose;
use crate::supervisor::core::event::{Event, Source};
use crate::supervisor::names::LoopName;
use crate::supervisor::{records, tmux};
use crate::support::child::Finished;
use crate::support::clock::Now;
use serde_json::Value;
use std::io::ErrorKind;
use std::path::Path;

impl Daemon {
    pub(super) fn read_records(&mut self, name: &LoopName, epoch: u64, path: &Path, since: i64) {
        let Some(config) = self.config.loops.get(name) else { return };
        let records = records_of(name, path, records::TAIL);
        let signals = config.adapter.read_records(&records, since, Now::read().wall);
        self.queue.push_back(Event::EvidenceRead { name: name.clone(), epoch, source: Source::Records, signals });
    }

    pub(super) fn look_for_text(&mut self, name: &LoopName, epoch: u64, path: &Path, text: String, since: i64) {
        let Some(config) = self.config.loops.get(name) else { return };
        let found = config.adapter.took_within_turn(&records_of(name, path, records::TURN), &text, since);
        self.queue.push_back(Event::TextLookedFor { name: name.clone(), epoch, text, found });
    }

    pub(super) fn read_screen(&mut self, name: &LoopName, epoch: u64) {
        let purpose = Purpose::Screen { name: name.clone(), epoch };
        if let Err(why) = self.tmux(name, &tmux::capture(), purpose) {
            tracing::warn!("{name}: reading its screen: {why}");
        }
    }

    pub(super) fn screen_told(&mut self, name: LoopName, epoch: u64, ended: &Finished) {
        match tmux::read_done(ended) {
            Ok(()) => {}
            Err(tmux::Failure::Overdue) => return self.queue.push_back(Event::HostMute { name }),
            Err(why) => return tracing::warn!("{name}: reading its screen: {why}"),
        }
        let Some(config) = self.config.loops.get(&name) else { return };
        let signals = config.adapter.read_screen(&String::from_utf8_lossy(&ended.stdout), Now::read().wall);
        self.queue.push_back(Event::EvidenceRead { name, epoch, source: Source::Screen, signals });
    }
}

fn records_of(name: &LoopName, path: &Path, limit: u64) -> Vec<Value> {
    match records::tail(path, limit) {
        Ok(records) => records,
        // It is written with the first turn.
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        Err(e) => {
            tracing::warn!("{name}: reading its session `{}`: {e}", path.display());
            Vec::new()
        }
    }
}
