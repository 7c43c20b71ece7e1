//! Tells systemd's units that a secret changed. Never waits for them: the placer runs before units that would wait for it.

use super::manifest::UnitName;
use super::record::Record;
use std::process::{Command, Stdio};

/// Restarts and reloads what is owed, if it runs. What was done is owed no more; gives what could not be done.
pub fn settle(record: &mut Record) -> Vec<String> {
    let mut failed = Vec::new();
    // What is restarted loads everything.
    let restarted = record.restart.clone();
    record.restart.retain(|unit| keep(systemctl("try-restart", unit), &mut failed));
    record.reload.retain(|unit| {
        !restarted.contains(unit) && keep(is_active(unit).and_then(|_| systemctl("reload", unit)), &mut failed)
    });
    failed
}

fn keep(done: Result<(), Told>, failed: &mut Vec<String>) -> bool {
    match done {
        Ok(()) | Err(Told::NotNeeded) => false,
        Err(Told::Failed(text)) => {
            failed.push(text);
            true
        }
    }
}

enum Told {
    NotNeeded,
    Failed(String),
}

fn is_active(unit: &UnitName) -> Result<(), Told> {
    let done = command().args(["is-active", "--quiet", "--", unit.as_str()]).status();
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Told::NotNeeded),
        Err(e) => Err(Told::Failed(format!("running `systemctl is-active {unit}`: {e}; reload it by hand"))),
    }
}

fn systemctl(verb: &str, unit: &UnitName) -> Result<(), Told> {
    let by_hand = format!("do it by hand: `systemctl {verb} {unit}`");
    let failed = |cause: &str| Told::Failed(format!("running `systemctl {verb} {unit}`: {cause}; {by_hand}"));
    match command().args(["--no-block", verb, "--", unit.as_str()]).stderr(Stdio::piped()).output() {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(failed(String::from_utf8_lossy(&done.stderr).trim())),
        Err(e) => Err(failed(&e.to_string())),
    }
}

fn command() -> Command {
    let mut command = Command::new("systemctl");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
