//! To the proxy and through it, and in words which of the links failed.

use crate::proxy::client::{Answers, BadAnswer, GREETING, Step};
use crate::proxy::socks::{Code, write_request};
use crate::proxy::target::{Host, Target};
use crate::support::units::short_duration;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Between two attempts to reach a proxy that is not there yet.
const RETRY: Duration = Duration::from_millis(50);
/// What is no proxy may wait for a request in its own language. It then has this long to answer one.
const HTTP_ANSWERS_WITHIN: Duration = Duration::from_millis(500);
/// The longest single read: the rest of a reply with a name in it.
const LONGEST_READ: usize = 258;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The proxy.
    pub proxy: Target,
    /// Where to, through it.
    pub target: Target,
    /// How long to wait for a proxy that is not there.
    pub wait: Duration,
    /// How long proxy and destination together may take once the proxy is there.
    pub timeout: Duration,
}

/// Which link failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens where the proxy should.
    #[error(
        "connecting to the proxy `{proxy}`: it is down, nothing listens there{}; start it with `systemctl start \
         cc-ci-tailscaled`, or wait for it with `--wait 30s`", how_long(*.waited)
    )]
    ProxyDown {
        /// The proxy.
        proxy: Target,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It cannot be reached for another reason.
    #[error("connecting to the proxy `{proxy}`: {cause}; see `proxy-shim check`")]
    ProxyUnreached {
        /// The proxy.
        proxy: Target,
        /// Why.
        cause: io::Error,
    },
    /// It accepted and says nothing.
    #[error(
        "waiting for the proxy `{proxy}`: it accepted the connection, but did not {missing} within {}; see \
         `proxy-shim check`, or give more time with `--timeout`", short_duration(*within)
    )]
    Mute {
        /// The proxy.
        proxy: Target,
        /// What is missing.
        missing: &'static str,
        /// The time that it had.
        within: Duration,
    },
    /// It ended the connection.
    #[error("talking to the proxy `{proxy}`: it hung up before it had answered; see `proxy-shim status`")]
    HungUp {
        /// The proxy.
        proxy: Target,
    },
    /// It is no SOCKS5 proxy.
    #[error("talking to the proxy `{proxy}`: {cause}")]
    NoProxy {
        /// The proxy.
        proxy: Target,
        /// What it is.
        cause: BadAnswer,
    },
    /// It could not connect.
    #[error("connecting to `{target}` through the proxy `{proxy}`: {words}")]
    Refused {
        /// The proxy.
        proxy: Target,
        /// Where to.
        target: Target,
        /// What it said.
        code: Code,
        /// The same in words.
        words: String,
    },
}

fn how_long(waited: Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(" (waited {})", short_duration(waited)) }
}

impl ConnectError {
    /// Whether trying again later may help as it is: exit code 3.
    pub fn is_not_now(&self) -> bool {
        match self {
            Self::ProxyDown { .. } | Self::Mute { .. } | Self::HungUp { .. } => true,
            Self::Refused { code, .. } => *code == Code::TimedOut,
            Self::ProxyUnreached { .. } | Self::NoProxy { .. } => false,
        }
    }
}

/// Connects. Of what the destination sends not one byte was read.
///
/// # Errors
/// [`ConnectError`].
pub fn dial(wanted: &Wanted) -> Result<TcpStream, ConnectError> {
    let stream = reach(wanted)?;
    let deadline = Instant::now() + wanted.timeout;
    let talk = Talk { wanted, stream: &stream, deadline };
    // Not needed for anything but speed.
    let _ = stream.set_nodelay(true);
    talk.write(&GREETING)?;
    let mut answers = Answers::default();
    const GREETED: &str = "answer the SOCKS greeting";
    let mut missing = GREETED;
    loop {
        match answers.step() {
            Ok(Step::Read(most)) => {
                let mut buffer = [0; LONGEST_READ];
                let n = talk.read(&mut buffer[..most.min(LONGEST_READ)], missing).map_err(|e| match e {
                    ConnectError::Mute { proxy, .. } if missing == GREETED && speaks_http(&proxy) => {
                        ConnectError::NoProxy { proxy, cause: BadAnswer::Http }
                    }
                    other => other,
                })?;
                answers.feed(&buffer[..n]);
            }
            Ok(Step::Ask) => {
                talk.write(&write_request(&wanted.target))?;
                missing = "say whether it could connect";
            }
            Ok(Step::End(reply)) if reply.code == Code::Succeeded => break,
            Ok(Step::End(reply)) => {
                let (proxy, target) = (wanted.proxy.clone(), wanted.target.clone());
                return Err(ConnectError::Refused { proxy, words: reply.text(&target), target, code: reply.code });
            }
            Err(cause) => return Err(ConnectError::NoProxy { proxy: wanted.proxy.clone(), cause }),
        }
    }
    let none = stream.set_read_timeout(None).and_then(|()| stream.set_write_timeout(None));
    none.map_err(|cause| ConnectError::ProxyUnreached { proxy: wanted.proxy.clone(), cause })?;
    Ok(stream)
}

/// To the proxy, waiting for it as long as told.
fn reach(wanted: &Wanted) -> Result<TcpStream, ConnectError> {
    let proxy = || wanted.proxy.clone();
    let began = Instant::now();
    loop {
        let cause = match connect(&wanted.proxy, wanted.timeout) {
            Ok(stream) => return Ok(stream),
            Err(e) => e,
        };
        match cause.kind() {
            ErrorKind::ConnectionRefused if began.elapsed() < wanted.wait => std::thread::sleep(RETRY),
            ErrorKind::ConnectionRefused => {
                return Err(ConnectError::ProxyDown { proxy: proxy(), waited: wanted.wait });
            }
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                let missing = "let the connection in";
                return Err(ConnectError::Mute { proxy: proxy(), missing, within: wanted.timeout });
            }
            _ => return Err(ConnectError::ProxyUnreached { proxy: proxy(), cause }),
        }
    }
}

fn connect(proxy: &Target, within: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match &proxy.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, proxy.port)],
        Host::Name(name) => (name.as_str(), proxy.port).to_socket_addrs()?.collect(),
    };
    let mut last = io::Error::new(ErrorKind::NotFound, "its name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, within) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Whether what is mute to a SOCKS greeting is an HTTP server that waits for the end of a line. Asked on a connection of
/// its own: a proxy that is only slow must not find a second message in its first.
fn speaks_http(proxy: &Target) -> bool {
    let ask = || -> io::Result<[u8; 5]> {
        let mut stream = connect(proxy, HTTP_ANSWERS_WITHIN)?;
        stream.set_read_timeout(Some(HTTP_ANSWERS_WITHIN))?;
        stream.write_all(b"OPTIONS * HTTP/1.0\r\n\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    // Whatever goes wrong here, it was mute before, and that is said then.
    ask().is_ok_and(|answer| answer == *b"HTTP/")
}

struct Talk<'a> {
    wanted: &'a Wanted,
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Talk<'_> {
    fn left(&self, missing: &'static str) -> Result<Duration, ConnectError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let Wanted { proxy, timeout, .. } = self.wanted;
        if left.is_zero() {
            Err(ConnectError::Mute { proxy: proxy.clone(), missing, within: *timeout })
        } else {
            Ok(left)
        }
    }

    fn failed(&self, cause: io::Error, missing: &'static str) -> ConnectError {
        let proxy = self.wanted.proxy.clone();
        match cause.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                ConnectError::Mute { proxy, missing, within: self.wanted.timeout }
            }
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => ConnectError::HungUp { proxy },
            _ => ConnectError::ProxyUnreached { proxy, cause },
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), ConnectError> {
        let missing = "take the request";
        let left = self.left(missing)?;
        let written = self.stream.set_write_timeout(Some(left)).and_then(|()| (&mut &*self.stream).write_all(bytes));
        written.map_err(|e| self.failed(e, missing))
    }

    fn read(&self, buffer: &mut [u8], missing: &'static str) -> Result<usize, ConnectError> {
        loop {
            let left = self.left(missing)?;
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| (&mut &*self.stream).read(buffer));
            match read {
                Ok(0) => return Err(ConnectError::HungUp { proxy: self.wanted.proxy.clone() }),
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e, missing)),
            }
        }
    }
}
