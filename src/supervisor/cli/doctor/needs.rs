//! Whether what loops need is there now.

use super::super::tool;
use super::Finding;
use crate::supervisor::config::NeedConfig;
use crate::supervisor::names::NeedName;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The contract's most for a command.
const WITHIN: Duration = Duration::from_secs(10);

/// Probes a need.
pub fn probe(name: &NeedName, need: &NeedConfig, workspace: &Path) -> Finding {
    let (found, mend) = match need {
        NeedConfig::Command(argv) => (command(argv, workspace), format!("run it by hand: `{}`", argv.join(" "))),
        NeedConfig::Unit(unit) => {
            let mut command = Command::new("systemctl");
            command.args(["is-active", "--quiet", "--", unit]);
            let found = tool::said(tool::run(command, WITHIN)).map(drop);
            (found.map_err(|why| format!("{unit} is not active ({why})")), format!("`systemctl status {unit}`"))
        }
        NeedConfig::Tcp(address) => (tcp(address), format!("start what listens on {address}")),
        NeedConfig::File(path) => {
            let found = path.metadata().map(drop).map_err(|e| format!("{}: {e}", path.display()));
            (found, "start what puts it there".to_owned())
        }
    };
    match found {
        Ok(()) => Finding::ok(format!("need {name} is there")),
        Err(why) => Finding::wrong(format!("need {name} is missing: {why}"), mend),
    }
}

fn command(argv: &[String], workspace: &Path) -> Result<(), String> {
    let Some((program, args)) = argv.split_first() else { return Err("its command is empty".to_owned()) };
    let mut command = Command::new(program);
    command.args(args).current_dir(workspace);
    tool::said(tool::run(command, WITHIN)).map(drop)
}

fn tcp(address: &str) -> Result<(), String> {
    let mut last = "it has no address".to_owned();
    for address in address.to_socket_addrs().map_err(|e| e.to_string())? {
        match TcpStream::connect_timeout(&address, WITHIN) {
            Ok(_) => return Ok(()),
            Err(e) => last = e.to_string(),
        }
    }
    Err(last)
}
