//! What must be true of one loop: its clone and its session host.

use super::super::tool::{self, git};
use super::{Daemon, Finding};
use crate::supervisor::config::{Config, HostKind, LoopConfig};
use crate::supervisor::environment::allowed;
use crate::supervisor::names::LoopName;
use crate::supervisor::{session, tmux};
use crate::support::process::{ProcId, tree};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// Variables that each have broken an agent or moved it elsewhere. (What an adapter sets for its agent is not among
/// them.)
const HARMFUL: [&str; 6] =
    ["CLAUDECODE", "CLAUDE_CODE_CHILD_SESSION", "TMUX", "TMUX_PANE", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"];

/// Looks at a loop.
pub fn examine(config: &Config, name: &LoopName, l: &LoopConfig, daemon: Daemon) -> Vec<Finding> {
    let mut found = clone(name, l);
    let socket = session::socket(&config.runtime_dir, name);
    if !socket.exists() {
        let text = format!("{name}: there is no tmux socket `{}`", socket.display());
        found.push(match (config.host, daemon) {
            (HostKind::Direct, Daemon::Silent) => Finding::note(text, "`supervisor run` makes it"),
            (HostKind::Direct, Daemon::Answers) => Finding::wrong(text, format!("see `supervisor explain {name}`")),
            (HostKind::Systemd, _) => Finding::wrong(text, format!("`systemctl start cc-ci-session@{name}`")),
        });
        return found;
    }
    let probe = tool::run(tmux::probe().command(&socket), Duration::from_secs(2));
    let probe = probe.map_err(|e| e.to_string()).and_then(|done| tmux::read_probe(&done).map_err(|e| e.to_string()));
    let restart = match config.host {
        HostKind::Direct => format!("see `supervisor explain {name}`"),
        HostKind::Systemd => format!("see `systemctl status cc-ci-session@{name}` and `supervisor explain {name}`"),
    };
    let probe = match probe {
        Ok(probe) => probe,
        Err(why) => {
            found.push(Finding::wrong(format!("{name}: its session host does not answer: {why}"), restart));
            return found;
        }
    };
    if (probe.windows, probe.panes) == (1, 1) {
        found.push(Finding::ok(format!("{name}: its session host lives (pid {})", probe.server)));
    } else {
        let text = format!("{name}: its session host has {} windows and {} panes", probe.windows, probe.panes);
        found.push(Finding::wrong(text, format!("close all but the agent's: `supervisor attach {name}`")));
    }
    let beyond = |vars: Vec<OsString>| {
        let pairs = vars.iter().map(|key| (key.clone(), OsString::new()));
        let kept = allowed(pairs);
        // `_` and PWD and such come from a shell in between and do no harm.
        vars.into_iter()
            .filter(|key| !kept.contains_key(key) && !matches!(key.to_str(), Some("_" | "PWD" | "OLDPWD" | "SHLVL")))
            .collect()
    };
    found.push(environment(name, "its session host", probe.server, beyond));
    if let Some(pane) = &probe.pane {
        // Between two agents the pane has the pid of the last one.
        if pane.status.is_none() && matches!(ProcId::of(pane.pid), Ok(Some(_))) {
            let harmful =
                |vars: Vec<OsString>| vars.into_iter().filter(|key| HARMFUL.iter().any(|bad| key == bad)).collect();
            found.push(environment(name, "its agent", pane.pid, harmful));
        }
        found.push(match pane.pipe {
            tmux::Pipe::Open => Finding::ok(format!("{name}: what its agent prints reaches the log")),
            tmux::Pipe::Closed => {
                let text = format!("{name}: what its agent prints does not reach the log");
                Finding::wrong(text, format!("`supervisor restart {name}` opens the pipe again; is the disk full?"))
            }
        });
    }
    found
}

fn clone(name: &LoopName, l: &LoopConfig) -> Vec<Finding> {
    let shown = l.workdir.display();
    match git(&l.workdir, &["rev-parse", "--is-inside-work-tree"]) {
        Err(why) => {
            let text = format!("{name}: its workdir `{shown}` is no git clone that can be used: {why}");
            vec![Finding::note(text, "fine if it needs none; a drain then only waits for its turn to end")]
        }
        Ok(_) => match git(&l.workdir, &["config", "user.name"]) {
            Ok(user) if !user.is_empty() => vec![Finding::ok(format!("{name}: commits in `{shown}` as {user}"))],
            _ => {
                let text = format!("{name}: git does not know as whom to commit in `{shown}`");
                let mend = format!("`git -C {shown} config user.name NAME`, and user.email");
                vec![Finding::wrong(text, mend)]
            }
        },
    }
}

/// Whether the environment of a process has none of what `bad` picks. Names only: values may be secret.
fn environment(name: &LoopName, whose: &str, pid: i32, bad: impl Fn(Vec<OsString>) -> Vec<OsString>) -> Finding {
    let bytes = match tree::environ(pid) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let text = format!("{name}: the environment of {whose} (pid {pid}) is hidden");
            return Finding::note(text, "run this as the supervisor's user");
        }
        Err(e) => return Finding::note(format!("{name}: {e}"), "run this as the supervisor's user"),
    };
    let key = |var: &[u8]| OsString::from_vec(var.split(|b| *b == b'=').next().unwrap_or_default().to_vec());
    let vars = bytes.split(|b| *b == 0).filter(|var| !var.is_empty()).map(key).collect();
    let bad = bad(vars);
    if bad.is_empty() {
        return Finding::ok(format!("{name}: the environment of {whose} is clean"));
    }
    let names = bad.iter().map(|key| key.to_string_lossy()).collect::<Vec<_>>().join(", ");
    Finding::wrong(
        format!("{name}: the environment of {whose} has {names}"),
        format!(
            "it was not started by the supervisor or its unit: `supervisor stop {name}`, end its tmux server, start it"
        ),
    )
}
