//! Making records durable: at once where an action must not happen without, else when the events at hand are dealt with.

use super::Daemon;
use super::tasks::Retry;
use crate::supervisor::core::action::Action;
use crate::supervisor::core::event::Event;
use crate::supervisor::names::LoopName;
use crate::support::clock::Now;
use std::collections::BTreeSet;

/// Between two attempts to write state that could not be written: a full disk is seldom emptied within seconds.
const RETRY_MS: u64 = 5_000;

/// What of the world is not durable yet.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    loops: BTreeSet<LoopName>,
    global: Durability,
    gate: Durability,
    failed: Durability,
}

/// Whether something is as it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Durability {
    /// It is.
    #[default]
    Clean,
    /// It is not.
    Dirty,
}

impl Dirty {
    /// Whether anything is not durable yet.
    pub(super) fn anything(&self) -> bool {
        !self.loops.is_empty() || self.global == Durability::Dirty || self.gate == Durability::Dirty
    }
}

impl Daemon {
    /// Makes every record of a decision durable before any of it happens.
    pub(super) fn save_now(&mut self, actions: &[Action]) -> Result<(), String> {
        for action in actions {
            let saved = match action {
                Action::SaveLoop(name, record) => self.store.save_loop(name, record.as_ref()),
                Action::SaveGlobal(record) => self.store.save_global(record.as_ref()),
                Action::SaveGate(record) => self.store.save_gate(record.as_ref()),
                _ => Ok(()),
            };
            saved.map_err(|e| format!("{:#}", anyhow::Error::from(e)))?;
        }
        // Every one of them is durable, so carrying out the rest must not write them again.
        for action in actions {
            match action {
                Action::SaveLoop(name, _) => drop(self.dirty.loops.remove(name)),
                Action::SaveGlobal(_) => self.dirty.global = Durability::Clean,
                Action::SaveGate(_) => self.dirty.gate = Durability::Clean,
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes that something must be made durable soon.
    pub(super) fn mark(&mut self, action: &Action) {
        match action {
            // A loop that the config no longer names is in no world to be saved from later.
            Action::SaveLoop(name, record) if !self.world.loops.contains_key(name) => {
                if let Err(e) = self.store.save_loop(name, record.as_ref()) {
                    tracing::error!("{e}");
                }
            }
            Action::SaveLoop(name, _) => drop(self.dirty.loops.insert(name.clone())),
            Action::SaveGlobal(_) => self.dirty.global = Durability::Dirty,
            Action::SaveGate(_) => self.dirty.gate = Durability::Dirty,
            _ => {}
        }
    }

    /// Makes one loop's record durable, for what must not happen otherwise.
    pub(super) fn save_loop(&mut self, name: &LoopName) -> Result<(), String> {
        if !self.dirty.loops.contains(name) {
            return Ok(());
        }
        let Some(l) = self.world.loops.get(name) else { return Ok(()) };
        self.store.save_loop(name, &l.record).map_err(|e| format!("{:#}", anyhow::Error::from(e)))?;
        self.dirty.loops.remove(name);
        Ok(())
    }

    /// Makes everything durable that is not. A failure is said once, tried again later, and returned.
    pub(super) fn save_dirty(&mut self) -> Option<String> {
        let mut failure = None;
        for name in self.dirty.loops.clone() {
            failure = self.save_loop(&name).err().or(failure);
        }
        if self.dirty.global == Durability::Dirty {
            match self.store.save_global(&self.world.global) {
                Ok(()) => self.dirty.global = Durability::Clean,
                Err(e) => failure = Some(format!("{:#}", anyhow::Error::from(e))),
            }
        }
        if self.dirty.gate == Durability::Dirty {
            match self.store.save_gate(&self.world.gate) {
                Ok(()) => self.dirty.gate = Durability::Clean,
                Err(e) => failure = Some(format!("{:#}", anyhow::Error::from(e))),
            }
        }
        match &failure {
            Some(error) => {
                if self.dirty.failed == Durability::Clean {
                    tracing::error!("{error}");
                    self.queue.push_back(Event::StateWritten(Err(error.clone())));
                }
                self.dirty.failed = Durability::Dirty;
                if !self.retries.iter().any(|(_, retry)| *retry == Retry::Save) {
                    self.retries.push((Now::read().boot + RETRY_MS, Retry::Save));
                }
            }
            None if self.dirty.failed == Durability::Dirty => {
                self.dirty.failed = Durability::Clean;
                self.queue.push_back(Event::StateWritten(Ok(())));
            }
            None => {}
        }
        failure
    }
}
