//! The control socket as both ends see it, and the asking end.

use super::state::StatusView;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An answer is never near this.
const LONGEST: u64 = 4 << 20;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Everything.
    Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Status(Box<StatusView>),
    Error(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no socket, or nobody listens on it.
    #[error(
        "asking the proxy at `{}`: it is not running; start it with `systemctl start cc-ci-tailscaled`, or \
         `proxy-shim run`", .0.display()
    )]
    NotRunning(PathBuf),
    /// There is somebody, but no answer in time.
    #[error(
        "asking the proxy at `{}`: no answer in time; it is busy or hung, see `journalctl -u cc-ci-tailscaled`",
        .0.display()
    )]
    TimedOut(PathBuf),
    /// Anything else.
    #[error("asking the proxy at `{}`: {cause}; is it of another version? restart it", socket.display())]
    Other {
        /// Where it was asked.
        socket: PathBuf,
        /// Why.
        cause: String,
    },
}

/// Where the socket is.
pub fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("control.sock")
}

/// Asks a running proxy for everything.
///
/// # Errors
/// [`ControlError`].
pub fn status(runtime_dir: &Path, within: Duration) -> Result<StatusView, ControlError> {
    let socket = socket_path(runtime_dir);
    let line = exchange(&socket, within).map_err(|e| match e.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ControlError::NotRunning(socket.clone()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ControlError::TimedOut(socket.clone()),
        _ => ControlError::Other { socket: socket.clone(), cause: e.to_string() },
    })?;
    match serde_json::from_slice(&line) {
        Ok(Answer::Status(view)) => Ok(*view),
        Ok(Answer::Error(words)) => Err(ControlError::Other { socket, cause: words }),
        Err(e) => Err(ControlError::Other { socket, cause: e.to_string() }),
    }
}

fn exchange(socket: &Path, within: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + within;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // connect(2) to one that hangs waits for as long as this says.
    set_socket_timeout(&fd, Timeout::Send, Some(within))?;
    connect(&fd, &SocketAddrUnix::new(socket)?)?;
    let mut stream = UnixStream::from(fd);
    stream.write_all(b"{\"do\":\"status\"}\n")?;
    let mut line = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while !line.ends_with(b"\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(io::Error::other("it hung up before it answered")),
            Ok(n) => line.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if line.len() as u64 > LONGEST {
            return Err(io::Error::other("the answer is longer than any answer is"));
        }
    }
    Ok(line)
}
