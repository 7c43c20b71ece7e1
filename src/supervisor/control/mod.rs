//! The control socket: what is said over it, who may say it, and both ends.

pub mod client;
mod connection;
mod line;
pub mod protocol;
pub mod server;

use std::path::{Path, PathBuf};

/// Where the daemon of this runtime folder listens.
pub fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("control.sock")
}
