//! What the service manager is told (sd_notify(3)): ready, a line of status, alive, stopping. Without one, nothing.

use sd_notify::NotifyState;
use std::time::Duration;

/// A service manager that waits to be told, from `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
#[derive(Debug)]
pub struct Manager {
    /// How often it must hear that this process is alive; `None`: it does not care.
    watchdog: Option<Duration>,
    ready: Told,
    status: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

impl Manager {
    /// The one that started this process, if it wants to be told.
    pub fn from_environment() -> Option<Self> {
        let wants = std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty());
        wants.then(|| Self {
            watchdog: sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()),
            ready: Told::No,
            status: String::new(),
        })
    }

    /// How long to wait from one [`Manager::alive`] to the next: half of what it allows.
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Whether it knows that this process is ready.
    pub fn knows_ready(&self) -> bool {
        self.ready == Told::Yes
    }

    /// Says so once.
    pub fn ready(&mut self) {
        if self.ready == Told::No {
            self.ready = Told::Yes;
            tell(&[NotifyState::Ready]);
        }
    }

    /// One line; said only when it changes.
    pub fn status(&mut self, line: &str) {
        // A line break would begin another assignment, `READY=1` say.
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if line != self.status {
            tell(&[NotifyState::Status(&line)]);
            self.status = line;
        }
    }

    /// That this process is alive.
    pub fn alive(&self) {
        tell(&[NotifyState::Watchdog]);
    }

    /// That it is about to end.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // One that does not listen restarts us by its own timeouts; the loops must not suffer for it.
    if let Err(e) = sd_notify::notify(states) {
        tracing::warn!("telling the service manager {states:?}: {e}");
    }
}
