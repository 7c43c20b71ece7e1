//! Whether what loops need is there now.

use super::super::tool;
use super::Finding;
use crate::supervisor::config::NeedConfig;
use crate::supervisor::names::NeedName;
use crate::supervisor::needs::{self, Probe};
use std::path::Path;

/// Probes a need.
pub fn probe(name: &NeedName, need: &NeedConfig, workspace: &Path) -> Finding {
    let found = std::env::current_exe().map_err(|e| format!("finding this program's own file: {e}")).and_then(|own| {
        match needs::probe(need, workspace, &own) {
            Probe::Known(found) => found,
            Probe::Run { command, what } => {
                tool::said(tool::run(command, needs::WITHIN)).map(drop).map_err(|why| format!("{what}: {why}"))
            }
        }
    });
    let mend = match need {
        NeedConfig::Command(argv) => format!("run it by hand: `{}`", argv.join(" ")),
        NeedConfig::Unit(unit) => format!("`systemctl status {unit}`"),
        NeedConfig::Tcp(address) => format!("start what listens on {address}"),
        NeedConfig::File(_) => "start what puts it there".to_owned(),
    };
    match found {
        Ok(()) => Finding::ok(format!("need {name} is there")),
        Err(why) => Finding::wrong(format!("need {name} is missing: {why}"), mend),
    }
}
