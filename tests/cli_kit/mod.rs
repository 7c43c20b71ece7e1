//! What the laboratories of real CLIs share: the installed program, what the daemon says of a loop, its screen; and in
//! [`http`] the part of their mocks that no API has to itself. No login is needed, read or written.

#![allow(dead_code, clippy::unwrap_used, reason = "a test kit, of which each test binary uses a part")]

pub mod http;

use crate::support::{Agent, Lab};
use cc_ci::support::process::ProcId;
use std::path::PathBuf;
use std::process::Command;

/// The folder with the installed CLI, or why there is none. `variable` may name another folder than `target/FOLDER`.
pub fn install(cli: &str, variable: &str, folder: &str) -> Result<PathBuf, String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let cache = std::env::var_os(variable).map_or_else(|| root.join("target").join(folder), PathBuf::from);
    let script = root.join("tests/cli_kit/install.sh");
    let done = Command::new("sh").arg(script).arg(cli).arg(cache).output().map_err(|e| format!("running sh: {e}"))?;
    if done.status.success() {
        Ok(PathBuf::from(String::from_utf8_lossy(&done.stdout).trim()))
    } else {
        Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
    }
}

/// A laboratory with this program in the daemon's PATH, and prompts that name the loop. Where the CLI cannot be had:
/// `None`, and a line that says why the test is skipped.
pub fn lab(test: &str, program: &Result<PathBuf, String>, tables: &str) -> Option<Lab> {
    let program = match program {
        Ok(program) => program,
        Err(why) => {
            eprintln!("skipped: {test}: {why}");
            return None;
        }
    };
    let mut lab = Lab::new(tables);
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    lab.options.env.push(("PATH".to_owned(), path));
    std::fs::write(lab.path("ws/kickoff.md"), "KICKOFF of {loop}: begin.\n").unwrap();
    std::fs::write(lab.path("ws/handoff.md"), "HANDOFF of {loop}: take over.\n").unwrap();
    Some(lab)
}

/// Waits until the loop's agent runs, in a later epoch than this.
#[track_caller]
pub fn up_after(lab: &Lab, name: &str, epoch: u64) -> Agent {
    lab.wait_for(&format!("{name} to be up after epoch {epoch}"), || {
        let view = match lab.try_status() {
            Ok(status) => status.loops.into_iter().find(|l| l.name.as_str() == name).unwrap(),
            Err(e) => return Err(format!("{e}")),
        };
        let (Some(pid), Some(server)) = (view.pid, view.server_pid) else { return Err(format!("{view:?}")) };
        match ProcId::of(pid).unwrap() {
            Some(id) if view.state == "up" && view.epoch > epoch => Ok(Agent { epoch: view.epoch, id, server }),
            _ => Err(format!("{view:?}")),
        }
    })
}

/// Waits until the loop's turn is this.
#[track_caller]
pub fn turn(lab: &Lab, name: &str, turn: &str) {
    lab.wait_for(&format!("the turn of {name} to be {turn}"), || {
        let view = lab.view(name);
        if view.turn.as_deref() == Some(turn) { Ok(()) } else { Err(format!("{view:?}\n{}", screen(lab, name))) }
    });
}

/// What `supervisor doctor` says of a loop.
pub fn doctor(lab: &Lab, name: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    command.args(["doctor", "--config"]).arg(lab.config());
    command.env_clear().env("HOME", lab.path("home")).envs(lab.options.env.iter().cloned());
    let said = String::from_utf8_lossy(&command.output().unwrap().stdout).replace("\n       ", " ");
    said.lines().filter(|l| l.contains(&format!("{name}: "))).map(|l| format!("{l}\n")).collect()
}

/// What a loop's pane shows.
pub fn screen(lab: &Lab, name: &str) -> String {
    let mut command = Command::new("tmux");
    command.arg("-S").arg(lab.tmux_socket(name)).args(["capture-pane", "-p", "-t", "%0"]);
    let text = command.output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines().filter(|l| !l.trim().is_empty()).collect::<Vec<_>>().join("\n")
}

/// For a test that failed.
pub fn print_screens(lab: &Lab) {
    for name in std::fs::read_dir(lab.path("run/session")).into_iter().flatten().flatten() {
        let name = name.file_name().into_string().unwrap();
        eprintln!("--- screen of {name}\n{}", screen(lab, &name));
    }
}
