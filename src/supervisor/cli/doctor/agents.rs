//! What the kind of an agent must find: its program, its login, its seeds, its hooks, the folder of its sessions. In
//! the environment that the agent would have.

use super::super::tool;
use super::{Daemon, Finding};
use crate::supervisor::agents::{Check, Launch, LaunchRequest, Session};
use crate::supervisor::config::{Config, LoopConfig};
use crate::supervisor::control::socket_path;
use crate::supervisor::environment::{Variables, allowed, complete};
use crate::supervisor::launch::LaunchSpec;
use crate::supervisor::names::LoopName;
use crate::supervisor::own_link;
use crate::supervisor::seeds::{self, Standing};
use crate::supervisor::session::session_dir;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A CLI that loads a large binary from a cold disk.
const WITHIN: Duration = Duration::from_secs(20);

/// Looks at what a loop's kind of agent needs.
pub fn examine(config: &Config, name: &LoopName, l: &LoopConfig, daemon: Daemon) -> Vec<Finding> {
    let launch = l.adapter.launch(&LaunchRequest {
        command: l.command.clone(),
        args: l.args.clone(),
        session: Session::Resume { uuid: String::new() },
        prompt: None,
        runtime_dir: session_dir(&config.runtime_dir, name),
        supervisor: own_link::path(&config.runtime_dir),
        workdir: l.workdir.canonicalize().unwrap_or_else(|_| l.workdir.clone()),
    });
    let checks = l.adapter.checks(&launch);
    if checks.is_empty() && launch.seeds.is_empty() {
        return Vec::new();
    }
    let env = match environment(config, name, l, &launch) {
        Ok(env) => env,
        Err(why) => return vec![Finding::wrong(format!("{name}: {why}"), "its agent cannot be started without")],
    };
    let mut found = seeds(name, &launch, &env);
    for check in checks {
        found.push(match check {
            Check::Runs { what, argv, mend } => runs(name, what, &argv, mend, &l.workdir, &env),
            Check::HookReaches { command } => hook(name, &command, &env, daemon),
            Check::Folder { what, folder } => self::folder(name, what, seeds::place(&folder, &env)),
        });
    }
    found
}

/// The environment that the agent would have; it may hold secrets, so nothing of it is shown.
fn environment(config: &Config, name: &LoopName, l: &LoopConfig, launch: &Launch) -> Result<Variables, String> {
    let mut inherited = allowed(std::env::vars_os());
    // Without it the session host fills in less, and so does this.
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    complete(&mut inherited, &passwd, rustix::process::geteuid().as_raw());
    let spec = LaunchSpec {
        name: name.clone(),
        // No agent's: what comes with it is dropped.
        epoch: 0,
        argv: Vec::new(),
        workdir: l.workdir.clone(),
        env: launch.env.clone(),
        env_files: l.env_files.clone(),
        seeds: Vec::new(),
        socket: socket_path(&config.runtime_dir),
        config: config.file.clone(),
    };
    spec.environment(inherited).map_err(|e| e.to_string())
}

fn seeds(name: &LoopName, launch: &Launch, env: &Variables) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut missing = 0;
    for seed in &launch.seeds {
        let key = seed.keys.join(".");
        let file = seeds::place(&seed.file, env).map_or_else(|| "a file".to_owned(), |f| format!("`{}`", f.display()));
        match seeds::look(seed, env) {
            Ok(Standing::There) => {}
            Ok(Standing::Missing) => missing += 1,
            Ok(Standing::Other(value)) => found.push(Finding::wrong(
                format!("{name}: {file} has {key} = {value}, so a dialog will wait for a person"),
                format!("set it to {}, or `supervisor attach {name}` and answer it", seed.value),
            )),
            Err(e) => found.push(Finding::wrong(format!("{name}: {e}"), "until then a dialog may wait for a person")),
        }
    }
    if missing > 0 {
        let text =
            format!("{name}: {missing} of {} answers to first-start dialogs are not there yet", launch.seeds.len());
        found.push(Finding::note(text, "the next start writes them"));
    } else if found.is_empty() && !launch.seeds.is_empty() {
        found.push(Finding::ok(format!("{name}: no first-start dialog is in its way")));
    }
    found
}

fn runs(name: &LoopName, what: &str, argv: &[String], mend: String, workdir: &Path, env: &Variables) -> Finding {
    let Some((program, args)) = argv.split_first() else {
        return Finding::wrong(format!("{name}: {what}: no program"), mend);
    };
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env).current_dir(workdir);
    match tool::said(tool::run(command, WITHIN)) {
        Ok(text) => {
            let first = text.lines().next().unwrap_or_default().trim();
            // A line of JSON tells a person nothing, and the rest may name the account.
            let shown = if first.starts_with('{') { "is there" } else { first };
            Finding::ok(format!("{name}: {what} {shown}"))
        }
        Err(why) => Finding::wrong(format!("{name}: {what}: {}", why.lines().next().unwrap_or_default()), mend),
    }
}

/// Runs a hook as the agent would and sees whether the daemon took it.
fn hook(name: &LoopName, command: &str, env: &Variables, daemon: Daemon) -> Finding {
    let text = format!("{name}: its hooks");
    if daemon == Daemon::Silent {
        return Finding::note(format!("{text} reach nobody while no supervisor runs"), "`supervisor run`");
    }
    let mut shell = Command::new("sh");
    // An event that says nothing, of an epoch that no agent has. `event` never fails, so it is asked to speak.
    shell.args(["-c", &format!("echo '{{}}' | {command} --verbose 2>&1")]).env_clear().envs(env);
    match tool::said(tool::run(shell, WITHIN)) {
        Ok(said) if said.trim().is_empty() => Finding::ok(format!("{text} reach the supervisor (tried)")),
        Ok(said) | Err(said) => {
            let mend = "the link `supervisor` in the runtime folder must lead to this program: restart the supervisor";
            Finding::wrong(format!("{text} do not reach the supervisor: {}", said.trim()), mend)
        }
    }
}

fn folder(name: &LoopName, what: &str, path: Option<PathBuf>) -> Finding {
    let Some(path) = path else {
        return Finding::wrong(
            format!("{name}: {what} have no place: HOME is not set"),
            "set `User=` in the unit, or HOME",
        );
    };
    let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    if accessat(CWD, there, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok() {
        return Finding::ok(format!("{name}: {what} can be written to `{}`", path.display()));
    }
    let mend = format!("let this user write to `{}`; without {what} no session can be resumed", there.display());
    Finding::wrong(format!("{name}: {what} cannot be written to `{}`", path.display()), mend)
}
