//! Hands the connected socket over to ssh (`ProxyUseFdpass yes`), which has a Unix socket on our stdout for that.

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::AsFd;

/// Why it could not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// stdout is something else.
    #[error(
        "handing the connection over: stdout is no Unix socket; leave `--fdpass` out, or set `ProxyUseFdpass yes` in \
         ssh's config"
    )]
    NoSocket,
    /// Anything else.
    #[error("handing the connection over: {0}")]
    Io(#[from] io::Error),
}

/// Sends the socket to whoever holds the other end of `to`.
///
/// # Errors
/// [`PassError`].
pub fn pass_socket(socket: &TcpStream, to: impl AsFd) -> Result<(), PassError> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let fds = [socket.as_fd()];
    if !message.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("one descriptor does not fit into a message").into());
    }
    // A descriptor travels with at least one byte; ssh reads exactly one.
    match sendmsg(to, &[IoSlice::new(&[0])], &mut message, SendFlags::NOSIGNAL) {
        Ok(_) => Ok(()),
        Err(rustix::io::Errno::NOTSOCK | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {
            Err(PassError::NoSocket)
        }
        Err(e) => Err(io::Error::from(e).into()),
    }
}
