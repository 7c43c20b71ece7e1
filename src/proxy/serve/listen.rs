//! The port: handed over by systemd, or opened here.

use crate::proxy::config::Config;
use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};

/// Clients that are not yet accepted; the kernel cuts it to net.core.somaxconn.
const BACKLOG: u32 = 4096;

/// A listening socket that a service manager handed over (`LISTEN_FDS`).
///
/// # Errors
/// When what it handed over is none, or more than one.
pub fn inherited() -> anyhow::Result<Option<std::net::TcpListener>> {
    let mut fds = ListenFd::from_env();
    if fds.len() > 1 {
        bail!("taking the socket that was handed over: there are {}; give one `ListenStream=` only", fds.len());
    }
    fds.take_tcp_listener(0).context("taking the socket that was handed over: it must be a TCP `ListenStream=`")
}

/// The listener: the one handed over, else a new one.
///
/// # Errors
/// When the port cannot be had, or the one handed over is reached from beyond loopback without leave.
pub fn listen(config: &Config, inherited: Option<std::net::TcpListener>) -> anyhow::Result<TcpListener> {
    if let Some(listener) = inherited {
        let address = listener.local_addr().context("asking for the address of the socket that was handed over")?;
        // The config's own `listen` was held against `allow_remote` when it was read.
        if !address.ip().is_loopback() && config.listen.ip().is_loopback() {
            bail!(
                "listening on `{address}`, which was handed over: it is not loopback; use a loopback `ListenStream=`, \
                 or set `listen` to it with `allow_remote = true`"
            );
        }
        listener.set_nonblocking(true).context("preparing the socket that was handed over")?;
        return TcpListener::from_std(listener).context("taking the socket that was handed over");
    }
    let address = config.listen;
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Connections of the one before that are still closing do not keep the port.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "listening on `{address}`: another program has this port; find it with `ss -ltnp 'sport = :{}'`, or set \
             `listen`",
            address.port()
        ),
        _ => anyhow::anyhow!("listening on `{address}`: {e}; set `listen` to an address of this machine"),
    })
}

/// Each client takes two descriptors, and four more while it streams; the usual limit of 1,024 is for programs that
/// still use select(2).
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Not allowed: then there is room for fewer clients, and the rest waits.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
