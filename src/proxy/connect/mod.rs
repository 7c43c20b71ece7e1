//! `proxy-shim connect`: one connection through a SOCKS5 proxy, for ssh's ProxyCommand. Blocking code, since it does one
//! thing and starts in a millisecond.

mod dial;
mod pass;
mod stdio;

pub use dial::{ConnectError, Wanted, dial};
pub use pass::pass_socket;
pub use stdio::join_stdio;
