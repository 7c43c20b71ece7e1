//! The machine's own network as the way out.

use super::DialError;
use crate::proxy::socks::Code;
use crate::proxy::target::{Host, Target};
use crate::support::units::short_duration;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

/// Connects to the first address that answers.
///
/// # Errors
/// [`DialError`].
pub async fn dial(target: &Target, within: Duration) -> Result<TcpStream, DialError> {
    let deadline = Instant::now() + within;
    let late = || {
        let words = format!("`{target}` did not answer within {}", short_duration(within));
        DialError::answer(Code::TimedOut, words)
    };
    let addresses = timeout_at(deadline, addresses(target)).await.map_err(|_| late())??;
    let mut last = None;
    let many = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for (n, address) in (0..).zip(addresses) {
        // Each has its share of what is left, so that a mute first address does not use up the others' time.
        let share = (deadline - Instant::now()) / (many - n).max(1);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => last = Some(unreached(target, &e)),
            Err(_) => last = Some(late()),
        }
    }
    Err(last.unwrap_or_else(late))
}

async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, DialError> {
    let Host::Name(name) = &target.host else { return Ok(target.address().into_iter().collect()) };
    match lookup_host((name.as_str(), target.port)).await {
        Ok(found) => Ok(found.collect()),
        // getaddrinfo's EAI_AGAIN: no name server answers. std gives its words only.
        Err(e) if e.to_string().contains("Temporary failure") => {
            Err(DialError::Away(format!("no name server answers (looking up `{name}`)")))
        }
        Err(_) => Err(DialError::answer(Code::HostUnreachable, format!("the name `{name}` is unknown"))),
    }
}

fn unreached(target: &Target, e: &io::Error) -> DialError {
    let (code, words) = match e.kind() {
        ErrorKind::ConnectionRefused => (Code::Refused, format!("`{target}` refused the connection")),
        ErrorKind::NetworkUnreachable => {
            (Code::NetworkUnreachable, format!("the network of `{target}` is unreachable"))
        }
        ErrorKind::HostUnreachable => (Code::HostUnreachable, format!("the host of `{target}` is unreachable")),
        ErrorKind::TimedOut => (Code::TimedOut, format!("`{target}` did not answer")),
        ErrorKind::NetworkDown => return DialError::Away("the network is down".to_owned()),
        _ => (Code::Failed, format!("connecting to `{target}`: {e}")),
    };
    DialError::answer(code, words)
}
