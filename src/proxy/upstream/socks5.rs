//! Another SOCKS5 proxy as the way out. Names are left to it.

use super::DialError;
use crate::proxy::client::{Answers, BadAnswer, GREETING, Step};
use crate::proxy::socks::{Code, write_request};
use crate::proxy::target::{Host, Target};
use crate::support::units::short_duration;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// The longest single read: the rest of a reply with a name in it.
const LONGEST_READ: usize = 258;

/// Connects through `proxy`.
///
/// # Errors
/// [`DialError::Away`] when the proxy itself cannot be reached, ends or says nothing.
pub async fn dial(
    proxy: &Target,
    target: &Target,
    greeting: Duration,
    within: Duration,
) -> Result<TcpStream, DialError> {
    let (mut stream, mut answers) = greet(proxy, greeting).await?;
    let deadline = Instant::now() + within;
    let reply = timeout_at(deadline, async {
        stream.write_all(&write_request(target)).await.map_err(|e| away(proxy, &e))?;
        read(&mut stream, &mut answers, proxy).await
    });
    match reply.await {
        Ok(Ok(Step::End(reply))) if reply.code == Code::Succeeded => Ok(stream),
        Ok(Ok(Step::End(reply))) => Err(DialError::answer(reply.code, reply.text(target))),
        Ok(Ok(_)) => Err(DialError::Away(format!("the upstream proxy `{proxy}` does not keep to SOCKS5"))),
        Ok(Err(e)) => Err(e),
        Err(_) => {
            let words = format!("`{target}` did not answer the upstream within {}", short_duration(within));
            Err(DialError::answer(Code::TimedOut, words))
        }
    }
}

/// Connects to the proxy and finds it to be one.
///
/// # Errors
/// [`DialError::Away`].
pub async fn greet(proxy: &Target, within: Duration) -> Result<(TcpStream, Answers), DialError> {
    let greeted = timeout_at(Instant::now() + within, async {
        let stream = match &proxy.host {
            Host::Ip(ip) => TcpStream::connect((*ip, proxy.port)).await,
            Host::Name(name) => TcpStream::connect((name.as_str(), proxy.port)).await,
        };
        let mut stream = stream.map_err(|e| away(proxy, &e))?;
        let mut answers = Answers::default();
        stream.write_all(&GREETING).await.map_err(|e| away(proxy, &e))?;
        read(&mut stream, &mut answers, proxy).await?;
        Ok((stream, answers))
    });
    greeted.await.unwrap_or_else(|_| {
        Err(DialError::Away(format!("the upstream proxy `{proxy}` said nothing for {}", short_duration(within))))
    })
}

/// Reads up to the next thing to do.
async fn read(stream: &mut TcpStream, answers: &mut Answers, proxy: &Target) -> Result<Step, DialError> {
    let mut buffer = [0; LONGEST_READ];
    loop {
        match answers.step() {
            Ok(Step::Read(most)) => {
                let n = stream.read(&mut buffer[..most.min(LONGEST_READ)]).await.map_err(|e| away(proxy, &e))?;
                if n == 0 {
                    return Err(DialError::Away(format!("the upstream proxy `{proxy}` hung up")));
                }
                answers.feed(&buffer[..n]);
            }
            Ok(step) => return Ok(step),
            Err(e) => return Err(wrong(proxy, &e)),
        }
    }
}

fn away(proxy: &Target, e: &io::Error) -> DialError {
    DialError::Away(match e.kind() {
        io::ErrorKind::ConnectionRefused => format!("nothing listens at the upstream proxy `{proxy}`"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => format!("the upstream proxy `{proxy}` hung up"),
        _ => format!("the upstream proxy `{proxy}`: {e}"),
    })
}

/// It may be another program that has the port while the proxy is away.
fn wrong(proxy: &Target, e: &BadAnswer) -> DialError {
    DialError::Away(format!("the upstream proxy `{proxy}`: {e}"))
}
