//! The daemon's end of the control socket, for a poll(2) loop: who may connect, how many, for how long. What a request
//! does is the daemon's, and so is finding out which loop a caller's pid is inside of.

use super::connection::{Connection, Step};
use super::protocol::{Call, Response};
use rustix::event::PollFlags;
use rustix::net::sockopt::socket_peercred;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The owner and the group; SO_PEERCRED narrows it further.
const MODE: u32 = 0o660;
/// More would be a program that runs wild; a descriptor each, of 1024 by default.
const MOST: usize = 128;
/// A client without a whole line, or that does not read, for so many milliseconds is sent away.
const IDLE: u64 = 60_000;
/// How long no connection is taken after the kernel had no descriptor for one, in milliseconds: else the loop spins.
const BREATH: u64 = 1_000;
/// Connections taken in one round; the rest in the next, so that agents are not kept waiting for them.
const ACCEPTS: usize = 32;

/// One connection, for as long as the daemon runs: numbers are not used again.
pub type ConnectionId = u64;

/// What is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// The socket itself.
    Listener,
    /// A connection.
    Connection(ConnectionId),
}

/// What the clients brought.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    /// A request; it must be answered with [`Server::send`], later if need be. None follows on this connection before.
    Call {
        /// Where it came from.
        from: ConnectionId,
        /// The process that connected.
        peer_pid: i32,
        /// What.
        call: Box<Call>,
    },
    /// A connection is gone; a request on it that was not answered needs no answer any more.
    Gone(ConnectionId),
}

/// The socket, alone.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's name, to know it again.
    identity: (u64, u64),
}

impl Listener {
    /// Makes the socket. One that a dead supervisor left is replaced: the caller holds the lock of the state, so no
    /// living one listens on it.
    ///
    /// # Errors
    /// When something else has that name, or the folder is missing or cannot be written to.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let within = |e: io::Error| io::Error::new(e.kind(), format!("make the socket `{}`: {e}", path.display()));
        match fs::symlink_metadata(path) {
            Ok(kind) if kind.file_type().is_socket() => fs::remove_file(path).map_err(within)?,
            Ok(_) => {
                let cause = "something that is no socket has this name; move it away";
                return Err(within(io::Error::new(ErrorKind::AlreadyExists, cause)));
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(within(e)),
        }
        let socket = UnixListener::bind(path).map_err(within)?;
        // Until here the umask decides, which can only be a moment of more or less: SO_PEERCRED is asked in any case.
        fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(within)?;
        socket.set_nonblocking(true).map_err(within)?;
        let kind = fs::symlink_metadata(path).map_err(within)?;
        Ok(Self { socket, path: path.to_owned(), identity: (kind.dev(), kind.ino()) })
    }

    /// Whether clients still reach this socket by its name.
    pub fn is_there(&self) -> bool {
        // Whatever keeps us from looking keeps clients from connecting.
        fs::symlink_metadata(&self.path).is_ok_and(|kind| (kind.dev(), kind.ino()) == self.identity)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_there() {
            // A socket that stays does no harm: nobody answers, and the next bind replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The socket and its clients.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    connections: BTreeMap<ConnectionId, Connection>,
    next: ConnectionId,
    /// No connection is taken before, in milliseconds since boot.
    paused_until: Option<u64>,
    uid: u32,
}

impl Server {
    /// See [`Listener::bind`].
    ///
    /// # Errors
    /// See there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let listener = Listener::bind(path)?;
        let uid = rustix::process::geteuid().as_raw();
        Ok(Self { listener, connections: BTreeMap::new(), next: 1, paused_until: None, uid })
    }

    /// Makes the socket again if somebody removed or replaced its name; says whether that was so.
    ///
    /// # Errors
    /// See [`Listener::bind`]; the old socket stays then.
    pub fn mend(&mut self) -> io::Result<bool> {
        if self.listener.is_there() {
            return Ok(false);
        }
        self.listener = Listener::bind(&self.listener.path)?;
        Ok(true)
    }

    /// What to poll, and for what.
    pub fn poll_fds(&self) -> Vec<(Token, BorrowedFd<'_>, PollFlags)> {
        let mut fds = Vec::with_capacity(1 + self.connections.len());
        if self.paused_until.is_none() {
            fds.push((Token::Listener, self.listener.socket.as_fd(), PollFlags::IN));
        }
        fds.extend(self.connections.iter().map(|(id, c)| (Token::Connection(*id), c.poll_fd(), c.interest())));
        fds
    }

    /// When [`Server::expire`] has something to do, in milliseconds since boot.
    pub fn wake_at(&self) -> Option<u64> {
        let idle = self.connections.values().filter(|c| c.is_idle()).map(|c| c.active.saturating_add(IDLE)).min();
        idle.into_iter().chain(self.paused_until).min()
    }

    /// Takes what poll(2) reported for `token`; `now` is in milliseconds since boot.
    pub fn ready(&mut self, token: Token, events: PollFlags, now: u64) -> Vec<Incoming> {
        let id = match token {
            Token::Listener => return self.accept(now),
            Token::Connection(id) => id,
        };
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        let step = if events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            connection.on_hangup(now)
        } else {
            let mut step = Step::Nothing;
            if events.contains(PollFlags::OUT) {
                step = connection.on_writable(now);
            }
            if step == Step::Nothing && events.contains(PollFlags::IN) {
                step = connection.on_readable(now);
            }
            step
        };
        self.took(id, step)
    }

    /// Answers the last request of a connection; one that is gone is left alone. What it asked meanwhile comes back.
    pub fn send(&mut self, id: ConnectionId, response: &Response, now: u64) -> Vec<Incoming> {
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        let step = connection.send(response, now);
        self.took(id, step)
    }

    /// Whether answers are still on their way, so that the daemon does not end before they are out.
    pub fn wants_write(&self) -> bool {
        self.connections.values().any(Connection::wants_write)
    }

    /// Sends away who has been silent for too long.
    pub fn expire(&mut self, now: u64) -> Vec<Incoming> {
        self.paused_until = self.paused_until.filter(|until| *until > now);
        let silent = |c: &Connection| c.is_idle() && now >= c.active.saturating_add(IDLE);
        let ids: Vec<ConnectionId> = self.connections.iter().filter(|(_, c)| silent(c)).map(|(id, _)| *id).collect();
        for id in &ids {
            self.connections.remove(id);
        }
        ids.into_iter().map(Incoming::Gone).collect()
    }

    fn took(&mut self, id: ConnectionId, step: Step) -> Vec<Incoming> {
        match step {
            Step::Nothing => Vec::new(),
            Step::Asked(call) => {
                let peer_pid = self.connections.get(&id).map_or(0, Connection::peer_pid);
                vec![Incoming::Call { from: id, peer_pid, call }]
            }
            Step::Gone => {
                self.connections.remove(&id);
                vec![Incoming::Gone(id)]
            }
        }
    }

    fn accept(&mut self, now: u64) -> Vec<Incoming> {
        let mut incoming = Vec::new();
        for _ in 0..ACCEPTS {
            match self.listener.socket.accept() {
                Ok((stream, _)) => incoming.extend(self.welcome(stream, now)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                // The client was gone before it was taken.
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(e) => {
                    tracing::warn!("taking a connection to `{}`: {e}", self.listener.path.display());
                    incoming.extend(self.make_room());
                    self.paused_until = Some(now.saturating_add(BREATH));
                    break;
                }
            }
        }
        incoming
    }

    fn welcome(&mut self, stream: UnixStream, now: u64) -> Vec<Incoming> {
        let peer = socket_peercred(&stream);
        if let Err(e) = stream.set_nonblocking(true) {
            tracing::warn!("taking a connection to `{}`: {e}", self.listener.path.display());
            return Vec::new();
        }
        let mut incoming = Vec::new();
        if self.connections.len() >= MOST {
            incoming.extend(self.make_room());
        }
        let (pid, refusal) = match peer {
            Ok(peer) => (peer.pid.as_raw_nonzero().get(), may_not_ask(peer.uid.as_raw(), self.uid)),
            Err(e) => (0, Some(format!("connecting: who you are cannot be found out: {e}"))),
        };
        let refusal = refusal.or_else(|| {
            let most = format!("connecting: {MOST} requests are waiting for their answers already; try again later");
            (self.connections.len() >= MOST).then_some(most)
        });
        let id = self.next;
        self.next += 1;
        let mut connection = Connection::new(stream, pid, now);
        let Some(message) = refusal else {
            self.connections.insert(id, connection);
            return incoming;
        };
        // It is told as far as the kernel takes it at once, which a short text always is; nobody waits for it to read.
        let _ = connection.dismiss(message, now);
        incoming
    }

    /// Sends away the connection that has been silent for longest, if any is.
    fn make_room(&mut self) -> Option<Incoming> {
        let idle = self.connections.iter().filter(|(_, c)| c.is_idle());
        let id = idle.min_by_key(|(_, c)| c.active).map(|(id, _)| *id)?;
        self.connections.remove(&id);
        Some(Incoming::Gone(id))
    }
}

/// The refusal of a caller of another user than the daemon's and root.
fn may_not_ask(theirs: u32, ours: u32) -> Option<String> {
    let refusal = || format!("connecting: you are uid {theirs}, and only uid {ours} and root may ask; use `sudo -u`");
    (theirs != ours && theirs != 0).then(refusal)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
