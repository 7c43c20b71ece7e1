//! The other end of the control socket: one request, one answer, within a time.

use super::line::{MAX_RESPONSE, write};
use super::protocol::{Call, Response};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or nobody listens on it.
    #[error(
        "the supervisor is not running here (no answer at `{}`); start it with `supervisor run`, or `systemctl start \
         cc-ci-orchestrator`", .0.display()
    )]
    NotRunning(PathBuf),
    /// This user may not connect.
    #[error("asking the supervisor at `{}`: permission denied; run this as the supervisor's user or as root", .0.display())]
    Denied(PathBuf),
    /// There is somebody, but no answer in time.
    #[error(
        "asking the supervisor at `{}`: no answer within {}; it is busy or hung, see `journalctl -u cc-ci-orchestrator`",
        socket.display(), crate::support::units::short_duration(*within)
    )]
    TimedOut {
        /// Where it was asked.
        socket: PathBuf,
        /// How long was waited.
        within: Duration,
    },
    /// It ended before it answered.
    #[error("asking the supervisor at `{}`: it ended before it answered; see `supervisor status`", .0.display())]
    Closed(PathBuf),
    /// The answer is not understood.
    #[error(
        "reading the answer of the supervisor at `{}`: {cause}; is it of another version? `systemctl restart \
         cc-ci-orchestrator` touches no agent", socket.display()
    )]
    Garbled {
        /// Where it was asked.
        socket: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Anything else.
    #[error("asking the supervisor at `{}`: {cause}", socket.display())]
    Io {
        /// Where it was asked.
        socket: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Asks the daemon at `socket` and waits for its answer for `within` at most.
///
/// # Errors
/// [`ClientError`]; a refusal is an answer and no error.
pub fn call(socket: &Path, call: &Call, within: Duration) -> Result<Response, ClientError> {
    let deadline = Instant::now() + within;
    let failed = |cause: io::Error| match cause.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning(socket.to_owned()),
        ErrorKind::PermissionDenied => ClientError::Denied(socket.to_owned()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::TimedOut { socket: socket.to_owned(), within },
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => ClientError::Closed(socket.to_owned()),
        _ => ClientError::Io { socket: socket.to_owned(), cause },
    };
    let mut stream = open(socket, within).map_err(failed)?;
    let line = write(call).map_err(|e| ClientError::Io { socket: socket.to_owned(), cause: e.into() })?;
    stream.set_write_timeout(Some(left(deadline).map_err(failed)?)).map_err(failed)?;
    match stream.write_all(&line) {
        // It refused without reading: its words are there to be read.
        Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
        written => written.map_err(failed)?,
    }
    let answer = read_line(&mut stream, deadline).map_err(failed)?;
    serde_json::from_slice(&answer)
        .map_err(|e| ClientError::Garbled { socket: socket.to_owned(), cause: e.to_string() })
}

/// A daemon that hangs lets connections queue up; connect(2) then waits for as long as the send timeout says.
fn open(path: &Path, within: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&fd, Timeout::Send, Some(within))?;
    loop {
        match connect(&fd, &address) {
            Ok(()) => return Ok(fd.into()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn read_line(stream: &mut UnixStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let n = match stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let end = chunk[..n].iter().position(|b| *b == b'\n');
        line.extend_from_slice(&chunk[..end.unwrap_or(n)]);
        if end.is_some() {
            return Ok(line);
        }
        if line.len() > MAX_RESPONSE {
            return Err(io::Error::new(ErrorKind::InvalidData, "the answer is longer than any answer is"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Request;
    use super::*;
    use std::os::unix::net::UnixListener;

    const STATUS: Call = Call { from: None, epoch: None, request: Request::Status };

    fn ask(socket: &Path, within: Duration) -> ClientError {
        call(socket, &STATUS, within).unwrap_err()
    }

    #[test]
    fn no_socket_and_a_socket_of_a_dead_daemon_both_mean_that_none_runs() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        assert!(matches!(ask(&socket, Duration::from_secs(1)), ClientError::NotRunning(_)));
        drop(UnixListener::bind(&socket).unwrap());
        let error = ask(&socket, Duration::from_secs(1));
        assert!(matches!(error, ClientError::NotRunning(_)));
        let want = format!(
            "the supervisor is not running here (no answer at `{}`); start it with `supervisor run`, or `systemctl start \
             cc-ci-orchestrator`",
            socket.display()
        );
        assert_eq!(error.to_string(), want);
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_waited_for_no_longer_than_told() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let _hung = UnixListener::bind(&socket).unwrap();
        let start = Instant::now();
        assert!(matches!(ask(&socket, Duration::from_millis(50)), ClientError::TimedOut { .. }));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_full_queue_of_a_hung_daemon_does_not_hang_the_client() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&fd, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
        rustix::net::listen(&fd, 0).unwrap();
        let _queued = UnixStream::connect(&socket).unwrap();
        let start = Instant::now();
        assert!(matches!(ask(&socket, Duration::from_millis(50)), ClientError::TimedOut { .. }));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_daemon_that_ends_or_talks_nonsense_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        for (answer, closed) in [("", true), ("half", true), ("what?\n", false)] {
            let listener = UnixListener::bind(&socket).unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = [0; 64];
                let _ = stream.read(&mut line).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let error = ask(&socket, Duration::from_secs(5));
            assert_eq!(matches!(error, ClientError::Closed(_)), closed, "{answer:?}: {error}");
            assert_eq!(matches!(error, ClientError::Garbled { .. }), !closed, "{answer:?}: {error}");
            server.join().unwrap();
            std::fs::remove_file(&socket).unwrap();
        }
    }
}
