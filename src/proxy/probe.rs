//! One probe over a connection that stands: sends what is to be sent, waits for what is to come. A way out that
//! connects but brings no bytes is no way out.

use super::config::{Expect, Probe};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Finds out whether the destination is there. Bounded in time by the caller.
///
/// # Errors
/// Why it is not, in words.
pub async fn examine(probe: &Probe, mut stream: TcpStream) -> Result<(), String> {
    let broken = |e: io::Error| format!("connected, then: {e}");
    if !probe.send.is_empty() {
        stream.write_all(&probe.send).await.map_err(broken)?;
    }
    let wanted: &[u8] = match &probe.expect {
        Expect::Connection => return Ok(()),
        Expect::FirstByte => &[],
        Expect::Banner(banner) => banner,
    };
    let mut seen = vec![0; wanted.len().max(1)];
    let mut len = 0;
    while len < seen.len() {
        match stream.read(&mut seen[len..]).await.map_err(broken)? {
            0 if len == 0 => return Err("connected, but it hung up without a byte".to_owned()),
            0 => break,
            n => len += n,
        }
        // What cannot become right is not waited for.
        if !wanted.is_empty() && !wanted.starts_with(&seen[..len]) {
            break;
        }
    }
    if wanted.is_empty() || seen[..len] == *wanted {
        return Ok(());
    }
    let (wanted, seen) = (wanted.escape_ascii(), seen[..len].escape_ascii());
    Err(format!("it said `{seen}`, which is not how `{wanted}` begins"))
}
