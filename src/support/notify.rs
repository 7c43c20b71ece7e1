//! What the service manager is told (sd_notify(3)): ready, a line of status, alive, stopping. Without one, nothing.

use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

const SOCKET: &str = "NOTIFY_SOCKET";

/// A service manager that waits to be told, from `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
#[derive(Debug)]
pub struct Manager {
    /// How often it must hear that this process is alive; `None`: it does not care.
    watchdog: Option<Duration>,
    ready: Told,
    status: String,
    last: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

impl Manager {
    /// The one that started this process, if it wants to be told.
    pub fn from_environment() -> Option<Self> {
        let wants = std::env::var_os(SOCKET).is_some_and(|socket| !socket.is_empty());
        wants.then(|| Self {
            watchdog: sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()),
            ready: Told::No,
            status: String::new(),
            last: Told::Yes,
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

    /// Says so once. If it cannot be told just now, the next call tells it.
    pub fn ready(&mut self) {
        if self.ready == Told::No {
            self.ready = self.tell(&[NotifyState::Ready]);
        }
    }

    /// One line; said only when it changes. If it cannot be told just now, the next call tells what is so then.
    pub fn status(&mut self, line: &str) {
        // A line break would begin another assignment, `READY=1` say.
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if line != self.status && self.tell(&[NotifyState::Status(&line)]) == Told::Yes {
            self.status = line;
        }
    }

    /// That this process is alive.
    pub fn alive(&mut self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// That it is about to end.
    pub fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// One that does not listen restarts us by its own timeouts; what this process is there for must not suffer for it.
    fn tell(&mut self, states: &[NotifyState<'_>]) -> Told {
        let told = match send(states) {
            Ok(()) => Told::Yes,
            Err(e) => {
                if self.last == Told::Yes {
                    tracing::warn!(
                        "telling the service manager {states:?}: {e}; it is said once until it listens again"
                    );
                }
                Told::No
            }
        };
        self.last = told;
        told
    }
}

/// Fails at once where `sd_notify::notify` waits: when the manager has not read what it was told before.
fn send(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(socket) = std::env::var_os(SOCKET) else { return Ok(()) };
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message.as_bytes(), &address(&socket)?).map(drop)
}

/// A path, or a name in the abstract namespace with an `@` for its zero byte (sd_notify(3)).
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(socket),
    }
}
