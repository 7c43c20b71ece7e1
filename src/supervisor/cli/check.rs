//! `supervisor check`: every fault of the config at once, else what would run.

use super::context::Context;
use super::out::print;
use crate::supervisor::agents::{LaunchRequest, Prompt, Session};
use crate::supervisor::config::placeholders::{PhaseValues, Values, render};
use crate::supervisor::config::report::{Diagnostic, Severity};
use crate::supervisor::config::{Config, ConfigErrors, HostKind, LoopConfig, NeedConfig, check};
use crate::supervisor::names::LoopName;
use crate::supervisor::phase_file::{Observed, observe};
use crate::supervisor::session::session_dir;
use std::path::Path;

/// Options of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 2 when something is wrong; each fault has its file, line and column, and a remedy.")]
pub struct Args {
    /// Only what needs no machine, for build time: workdirs, plans and programs may be missing
    #[arg(long = "static")]
    only_text: bool,
}

/// Runs `check`.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<()> {
    let loaded = context.load()?;
    let mut diagnostics: Vec<Diagnostic> = loaded.warnings;
    if !args.only_text {
        diagnostics.extend(check::machine(&loaded.config, &loaded.source, &check::Machine::here()));
    }
    if diagnostics.iter().any(|d| d.severity == Severity::Error) {
        return Err(ConfigErrors::Faults { file: loaded.config.file, diagnostics, more: 0 }.into());
    }
    for warning in &diagnostics {
        eprintln!("{warning}\n");
    }
    print(&plan(&loaded.config, args.only_text)?)
}

/// What would run.
fn plan(config: &Config, only_text: bool) -> anyhow::Result<String> {
    let host = match config.host {
        HostKind::Systemd => "systemd (cc-ci-session@LOOP.service)",
        HostKind::Direct => "direct (children of the supervisor)",
    };
    let mut out = format!(
        "config       {}\nworkspace    {}\nstate        {}\nruntime      {}\nsessions by  {host}\n",
        config.file.display(),
        config.workspace.display(),
        config.state_dir.display(),
        config.runtime_dir.display(),
    );
    let mut current = 0;
    if let Some(phases) = &config.phases {
        // The file is not looked at for build time; unreadable or foreign, `run` recovers it or says so.
        current = match observe(&phases.index_file, phases.plans.len()) {
            Ok(Observed::Index(index)) if !only_text => index,
            _ => 0,
        };
        for (index, path) in phases.plans.iter().enumerate() {
            let mark = if index == current { "  <- current" } else { "" };
            out.push_str(&format!("phase {index:<6} {}{mark}\n", path.display()));
        }
    }
    for (name, need) in &config.needs {
        out.push_str(&format!("need {:<7} {}\n", name.as_str(), need_text(need)));
    }
    for (name, l) in &config.loops {
        out.push_str(&one_loop(config, name, l, current)?);
    }
    Ok(out)
}

fn one_loop(config: &Config, name: &LoopName, l: &LoopConfig, current: usize) -> anyhow::Result<String> {
    let plans = config.phases.as_ref().map(|p| p.plans.as_slice()).unwrap_or_default();
    // Past the last plan the loop is held; what it would run is shown with the last one.
    let index = current.min(plans.len().saturating_sub(1));
    let phase = plans.get(index).filter(|_| l.follows_phases).map(|plan| PhaseValues::of(index, plan));
    let workspace = config.workspace.to_string_lossy().into_owned();
    let values = Values { loop_name: name.to_string(), workspace, phase };
    let filled = |list: &[String]| list.iter().map(|text| render(text, &values)).collect::<Result<Vec<_>, _>>();
    let launch = l.adapter.launch(&LaunchRequest {
        command: filled(&l.command)?,
        args: filled(&l.args)?,
        session: Session::Fresh { uuid: "<new uuid>".to_owned(), prompt: Prompt::Kickoff },
        prompt: l.kickoff.as_ref().map(|file| format!("<text of {}>", file.display())),
        runtime_dir: session_dir(&config.runtime_dir, name),
        supervisor: Path::new("supervisor").to_owned(),
        workdir: l.workdir.clone(),
    });
    let mut out = format!("\nloop {name} ({})\n", l.adapter.name());
    let mut line = |key: &str, value: String| out.push_str(&format!("  {key:<9} {value}\n"));
    line("runs", launch.argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "));
    line("in", l.workdir.display().to_string());
    for file in &l.env_files {
        line("env file", file.display().to_string());
    }
    if !l.needs.is_empty() {
        line("needs", l.needs.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", "));
    }
    let follows = match (plans.is_empty(), l.follows_phases) {
        (true, _) => None,
        (false, true) => Some("yes: held when the last plan is done"),
        (false, false) => Some("no: runs whatever the phase"),
    };
    if let Some(follows) = follows {
        line("phases", follows.to_owned());
    }
    Ok(out)
}

fn need_text(need: &NeedConfig) -> String {
    match need {
        NeedConfig::Command(argv) => {
            format!("`{}` exits with 0", argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "))
        }
        NeedConfig::Unit(unit) => format!("the unit {unit} is active"),
        NeedConfig::Tcp(address) => format!("{address} accepts a connection"),
        NeedConfig::File(path) => format!("{} is there", path.display()),
    }
}

/// A word as a shell would take it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
