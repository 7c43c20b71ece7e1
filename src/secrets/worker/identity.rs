//! Giving up root for good, and keeping what is in memory from getting out.

use super::Refusal;
use crate::secrets::manifest::accounts::Identity;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

/// What could not be done against secrets in core dumps and debuggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("switching core dumps off: {0}; please report this")]
pub struct Hardening(rustix::io::Errno);

/// No core dump, and nobody but root may look into this process.
///
/// # Errors
/// What the operating system says.
pub fn harden() -> Result<(), Hardening> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(Hardening)?;
    // With a core_pattern that is a pipe the limit does not count; this does. Also against ptrace and /proc/PID/mem.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Hardening)
}

/// Becomes that user for good. Who is not root stays who it is, and can be asked for nothing else.
pub(super) fn take(identity: &Identity) -> Result<(), Refusal> {
    let Identity { uid, gid, primary, groups, name } = identity;
    let failed = |e: nix::Error| {
        Refusal::new(format!("becoming the user `{name}`: {}; let it have CAP_SETUID and CAP_SETGID", e.desc()))
    };
    // Whatever is created here is nobody else's until it is said so.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let own = nix::unistd::geteuid();
    if own.is_root() {
        // The file's group among them: else its owner may not give the file to it.
        let groups: Vec<Gid> = groups.iter().chain([gid]).copied().map(Gid::from_raw).collect();
        setgroups(&groups).map_err(failed)?;
        let (uid, primary) = (Uid::from_raw(*uid), Gid::from_raw(*primary));
        setresgid(primary, primary, primary).map_err(failed)?;
        setresuid(uid, uid, uid).map_err(failed)?;
        if !uid.is_root() && setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
            return Err(Refusal::new(format!("becoming the user `{name}`: root came back; please report this")));
        }
    } else if own.as_raw() != *uid {
        let text = format!("becoming the user `{name}`: only root can become another user; run it as root");
        return Err(Refusal::new(text));
    }
    // A change of user resets both. Where the parent may not signal us, the end of our stdin does the same.
    harden().map_err(|e| Refusal::new(e.to_string()))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| Refusal::new(format!("tying the worker to its parent: {e}; please report this")))
}
