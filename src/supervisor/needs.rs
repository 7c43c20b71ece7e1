//! How it is found out whether something that loops need is there: one way for the daemon, which runs the probe as a
//! child with a deadline, and for `supervisor doctor`.

use super::config::NeedConfig;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long a probe may take (the contract's most for a command).
pub const WITHIN: Duration = Duration::from_secs(10);

/// What a probe takes.
pub enum Probe {
    /// Nothing: it was found out by a look.
    Known(Result<(), String>),
    /// This program, which exits with 0 when the need is there.
    Run {
        /// It.
        command: Command,
        /// What it is about, for messages.
        what: String,
    },
}

/// The probe of a need. `supervisor` is this program's own file: a connection is tried by a child of its own, since a
/// name may take long to resolve.
pub fn probe(need: &NeedConfig, workspace: &Path, supervisor: &Path) -> Probe {
    match need {
        NeedConfig::File(path) => Probe::Known(match path.try_exists() {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{} is missing", path.display())),
            Err(e) => Err(format!("{}: {e}", path.display())),
        }),
        NeedConfig::Command(argv) => match argv.split_first() {
            None => Probe::Known(Err("its command is empty".to_owned())),
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).current_dir(workspace);
                Probe::Run { command, what: argv.join(" ") }
            }
        },
        NeedConfig::Unit(unit) => {
            let mut command = Command::new("systemctl");
            command.args(["is-active", "--", unit]);
            Probe::Run { command, what: unit.clone() }
        }
        NeedConfig::Tcp(address) => {
            let mut command = Command::new(supervisor);
            command.args(["probe-tcp", "--", address]);
            Probe::Run { command, what: address.clone() }
        }
    }
}
