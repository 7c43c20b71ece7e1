//! What must be true where systemd keeps the sessions: units that run and come back at boot, a cgroup for each agent.

use super::super::tool;
use super::Finding;
use crate::supervisor::cgroup::Unit;
use crate::supervisor::config::{Config, HostKind};
use crate::supervisor::names::LoopName;
use crate::supervisor::{session, tmux};
use crate::support::process::ProcId;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

const SUPERVISOR: &str = "cc-ci-orchestrator.service";
/// systemd answers at once, or not at all.
const WITHIN: Duration = Duration::from_secs(5);

/// Looks at the units; nothing in direct mode.
pub fn examine(config: &Config) -> Vec<Finding> {
    if config.host != HostKind::Systemd {
        return Vec::new();
    }
    let mut found = Vec::new();
    if !config.runtime_dir.exists() {
        let text = format!(
            "runtime_dir `{}` is not there, and a session makes it only where it may",
            config.runtime_dir.display()
        );
        found.push(Finding::wrong(text, "`systemd-tmpfiles --create`; it is in tmpfiles.d/cc-ci-orchestrator.conf"));
    }
    found.extend(unit(SUPERVISOR));
    for name in config.loops.keys() {
        found.extend(unit(&format!("cc-ci-session@{name}.service")));
        found.extend(cgroup(config, name));
    }
    found
}

/// What `systemctl VERB UNIT` answers in a word, whatever its exit status says of it.
fn word(verb: &str, unit: &str) -> Result<String, String> {
    let mut command = Command::new("systemctl");
    command.args([verb, unit]);
    let done = tool::run(command, WITHIN).map_err(|e| e.to_string())?;
    match String::from_utf8_lossy(&done.stdout).trim() {
        "" => tool::said(Ok(done)),
        word => Ok(word.to_owned()),
    }
}

fn unit(unit: &str) -> Vec<Finding> {
    judge(unit, word("is-active", unit), word("is-enabled", unit))
}

fn judge(unit: &str, active: Result<String, String>, enabled: Result<String, String>) -> Vec<Finding> {
    let active = match active {
        Ok(word) if word == "active" => Finding::ok(format!("{unit} is active")),
        Ok(word) => {
            Finding::wrong(format!("{unit} is {word}"), format!("`systemctl start {unit}`; see `journalctl -u {unit}`"))
        }
        Err(why) => Finding::wrong(format!("{unit}: {why}"), "is systemd what runs this machine?"),
    };
    match enabled.as_deref() {
        // NixOS has no [Install]: there it is wanted or not by what the modules say.
        Ok("disabled" | "not-found") => {
            let text = format!("{unit} does not come back at boot");
            vec![active, Finding::wrong(text, format!("`systemctl enable {unit}`"))]
        }
        _ => vec![active],
    }
}

fn cgroup(config: &Config, name: &LoopName) -> Option<Finding> {
    let probe = tool::run(tmux::probe().command(&session::socket(&config.runtime_dir, name)), WITHIN).ok()?;
    // One that does not answer is said with the loop.
    let server = tmux::read_probe(&probe).ok()?.server;
    ProcId::of(server).ok().flatten()?;
    let owner = std::fs::metadata(format!("/proc/{server}")).ok()?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        let text = format!("{name}: whether its agent has a cgroup of its own is seen by uid {owner} only");
        return Some(Finding::note(text, "run this as the supervisor's user"));
    }
    Some(match Unit::of_server(server) {
        Ok(Some(unit)) if unit.is_of_a_user() => {
            let text = format!("{name}: its session is in a user's slice, which ends with the user's last login");
            Finding::wrong(text, "use the system's units; then no user needs to linger")
        }
        Ok(Some(_)) => Finding::ok(format!("{name}: its agent has a cgroup of its own; no user needs to linger")),
        Ok(None) => {
            let text =
                format!("{name}: its session has no delegated cgroup: its memory limit is the tmux server's too");
            Finding::wrong(
                text,
                "systemd 254 or later, `Delegate=yes` and `DelegateSubgroup=tmux` in the unit, cgroup v2",
            )
        }
        Err(e) => Finding::wrong(format!("{name}: {e}"), "mount /proc and /sys/fs/cgroup"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_unit_that_is_down_or_gone_after_a_boot_is_wrong() {
        let judge = |active: &str, enabled: &str| -> Vec<Level> {
            let found = judge("x.service", Ok(active.to_owned()), Ok(enabled.to_owned()));
            found.into_iter().map(|finding| finding.level).collect()
        };
        assert_eq!(judge("active", "enabled"), [Level::Ok]);
        assert_eq!(judge("active", "linked"), [Level::Ok]);
        assert_eq!(judge("activating", "disabled"), [Level::Wrong, Level::Wrong]);
    }

    #[test]
    fn a_machine_without_systemctl_is_wrong_and_says_why() {
        let found = judge("x.service", Err("No such file".into()), Err("No such file".into()));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].text, "x.service: No such file");
    }
}
