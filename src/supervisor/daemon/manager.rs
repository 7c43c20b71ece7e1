//! What systemd is told of this supervisor, if it waits to be told: from the event loop only, so that one that is stuck
//! says nothing.

use super::Daemon;
use crate::supervisor::core::summary;
use crate::support::clock::{Now, millis};
use crate::support::notify::Manager;

/// The service manager, and when it is to hear from us next.
pub(super) struct Told {
    manager: Manager,
    /// In milliseconds since boot; `None`: it does not watch.
    pub(super) alive_at: Option<u64>,
}

impl Told {
    /// The service manager that started this process, if it wants to be told.
    pub(super) fn from_environment(now: Now) -> Option<Self> {
        let manager = Manager::from_environment()?;
        // At once: the first interval began when this process did.
        let alive_at = manager.alive_every().map(|_| now.boot);
        Some(Self { manager, alive_at })
    }
}

impl Daemon {
    /// After decisions: how it stands, and, once, that every loop is settled.
    pub(super) fn tell_manager(&mut self) {
        let Some(told) = &mut self.told else { return };
        let now = Now::read();
        if !told.manager.knows_ready() && summary::is_settled(&self.world, now) {
            told.manager.ready();
        }
        told.manager.status(&summary::line(&self.world, now));
    }

    /// When it is due: that we are alive, and what it could not be told before.
    pub(super) fn tell_alive(&mut self, now: Now) {
        let Some(told) = &mut self.told else { return };
        let (Some(at), Some(every)) = (told.alive_at, told.manager.alive_every()) else { return };
        if now.boot >= at {
            told.manager.alive();
            told.alive_at = Some(now.boot.saturating_add(millis(every)));
            self.tell_manager();
        }
    }

    pub(super) fn tell_stopping(&mut self) {
        if let Some(told) = &mut self.told {
            told.manager.stopping();
        }
    }
}
