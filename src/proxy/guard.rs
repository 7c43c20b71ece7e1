//! Children that never outlive this program, however it ends: `proxy-shim child` asks the kernel for a SIGKILL at its
//! parent's death and then becomes the child. (Between fork and exec the same would need unsafe code.)

use crate::support::process::own_pid;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use tokio::process::Command;

/// What a child gets of this program's environment; also all of tailscale's own variables but a key.
const KEPT: &[&str] = &[
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// A command that becomes `argv`, program first. To be spawned by the main thread: the kernel watches the thread that
/// forked, not the process.
pub fn command(argv: &[OsString]) -> Command {
    // Not its path, under which an upgrade may have put another or none.
    let mut command = Command::new("/proc/self/exe");
    command.arg("child").arg("--parent").arg(own_pid().to_string()).arg("--").args(argv);
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_kept(name)));
    command
}

fn is_kept(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    KEPT.contains(&name) || name.starts_with("TS_") && !name.contains("KEY")
}

/// Becomes `argv`. Returns only what kept it from that.
///
/// # Errors
/// When the parent is gone already, or the program cannot be started.
pub fn become_child(parent: i32, argv: &[OsString]) -> io::Result<Infallible> {
    let Some((program, args)) = argv.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no program to start"));
    };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before the kernel was asked.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        return Err(io::Error::other("whoever started this is gone"));
    }
    let e = std::process::Command::new(program).args(args).exec();
    Err(io::Error::new(e.kind(), format!("starting `{}`: {e}", program.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_gets_what_it_needs_and_no_key() {
        for (name, kept) in [("PATH", true), ("TS_DEBUG", true), ("TS_AUTHKEY", false), ("TS_AUTH_KEY", false)] {
            assert_eq!(is_kept(OsStr::new(name)), kept, "{name}");
        }
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY", "SECRET"] {
            assert!(!is_kept(OsStr::new(name)), "{name}");
        }
    }
}
