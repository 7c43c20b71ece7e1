//! The command line: what can be said, and which file does it. One verb, or a small family, a file.

mod attach;
mod check;
mod context;
mod demo;
mod doctor;
mod event;
mod explain;
pub mod fault;
mod gate;
mod history;
mod internal;
mod last_known;
mod out;
mod phase;
mod run;
mod status;
mod tool;
mod wish;

use crate::support::outlet::Outlet;
use clap::{CommandFactory, Parser, Subcommand};
use context::Context;
use fault::Fault;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

const EXIT_CODES: &str = "\
Exit codes:
  0  fine
  1  failed; stderr says what and what to do about it
  2  the command line or the config makes no sense
  3  not now: timed out, not safe, or no supervisor is running

The config is --config, else $CC_CI_CONFIG, ./supervisor.toml, /etc/cc-ci-orchestrator/supervisor.toml.
See everything work in a temporary folder with `supervisor demo`.";

/// Keeps coding agents running through reboots, crashes, limits and lost networks, and says what they wait for
///
/// Each agent (a loop of the config) runs in a tmux server of its own. Without a subcommand this is `supervisor run`.
#[derive(Debug, Parser)]
#[command(name = "supervisor", version, after_long_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// The config file [default: $CC_CI_CONFIG, ./supervisor.toml, /etc/cc-ci-orchestrator/supervisor.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Options of `run`, which is also done without a subcommand")]
    run: run::RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    fn is_daemon(&self) -> bool {
        matches!(self.command, None | Some(Command::Run(_)))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground: start every loop and keep it running
    Run(run::RunArgs),
    /// Check the config and show what would run
    Check(check::Args),
    /// Show everything at work in a temporary folder, with shell agents and git
    Demo(demo::Args),
    /// Show what every loop is doing and what it waits for
    Status(status::Args),
    /// Explain one loop: what it does, what was decided last and why, what happens next
    Explain(explain::Args),
    /// Show what the supervisor decided, newest last
    History(history::Args),
    /// Attach this terminal to a loop's agent
    Attach(attach::Args),
    /// Show what a loop's agent printed
    Logs(attach::LogsArgs),
    /// Type a text into a loop's agent
    Nudge(wish::NudgeArgs),
    /// Start loops, and end whatever an operator or a backoff held them for
    Start(wish::Which),
    /// Stop loops until they are started again, also over a reboot
    Stop(wish::Which),
    /// Stop loops and start them again
    Restart(wish::Which),
    /// Stop all agents in place and start none until `thaw`, also over a reboot
    Freeze,
    /// End a freeze: agents go on where they were
    Thaw,
    /// Bring every loop to a safe point (turn ended, work pushed) and hold it
    Drain(wish::DrainArgs),
    /// Show or move the current phase (which plan the loops work on)
    #[command(subcommand)]
    Phase(phase::Verb),
    /// Show the gate of the current phase, or claim, pass or fail it
    Gate(gate::Args),
    /// Pass an agent's event from stdin to the supervisor; for hooks, never fails
    Event(event::Args),
    /// Look whether everything that must be true on this machine is
    Doctor,
    /// Internal: become the tmux server of a loop
    Session(internal::SessionArgs),
    /// Internal: become the agent of a loop, in its tmux pane
    Agent(internal::AgentArgs),
    /// Internal: find out whether HOST:PORT accepts a connection, for `needs`
    ProbeTcp(internal::ProbeTcpArgs),
}

/// Reads the command line. On `Err` everything was said: help, version, or what is wrong with it.
///
/// # Errors
/// The exit code.
pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    Cli::try_parse_from(&args).map_err(|e| {
        // Printing fails when nobody reads, and then nobody is left to be told.
        let _ = e.print();
        // An agent takes exit code 2 of a hook as a veto on its turn.
        let hook = args.get(1).is_some_and(|verb| verb == "event");
        let code = if hook { 0 } else { e.exit_code() };
        ExitCode::from(u8::try_from(code).unwrap_or(2))
    })
}

/// How long the last lines of a daemon that ends are waited for, should nobody read them.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where the library's log lines go; dropped, what waits is written.
#[derive(Debug)]
pub struct Log(Option<Outlet>);

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(outlet) = &self.0 {
            outlet.flush_within(LAST_LINES);
        }
    }
}

/// Sends what the library logs to stderr, with times unless the journal adds them. The daemon's lines go through a
/// thread: a stderr that nobody reads must not stop it.
pub fn log_to_stderr(cli: &Cli) -> Log {
    let to = tracing_subscriber::fmt().with_target(false).with_max_level(tracing::Level::INFO);
    let to = to.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // Without a thread it is as it is for every other program.
    let outlet = if cli.is_daemon() { Outlet::new(std::io::stderr()).ok() } else { None };
    let writer = match outlet.clone() {
        Some(outlet) => BoxMakeWriter::new(move || outlet.clone()),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let to = to.with_writer(writer);
    // Set by systemd exactly when stdout or stderr goes to its journal (systemd.exec(5)).
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        to.without_time().init();
    } else {
        to.init();
    }
    Log(outlet)
}

/// Runs the verb.
///
/// # Errors
/// What [`fault::report`] prints.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let context = Context::new(cli.config);
    let Some(command) = cli.command else { return run::run(&context, &cli.run) };
    if let (Some(option), false) = (cli.run.first(), matches!(command, Command::Run(_))) {
        let message = format!("reading the command line: `{option}` is of `run` only; leave it out, or the subcommand");
        return Err(Fault::Usage(message).into());
    }
    match command {
        Command::Run(args) => return run::run(&context, &args.or(cli.run)),
        Command::Check(args) => check::run(&context, &args)?,
        Command::Demo(args) => return demo::run(&args),
        Command::Status(args) => status::run(&context, &args)?,
        Command::Explain(args) => explain::run(&context, &args)?,
        Command::History(args) => history::run(&context, &args)?,
        Command::Attach(args) => attach::run(&context, &args)?,
        Command::Logs(args) => attach::logs(&context, &args)?,
        Command::Nudge(args) => wish::nudge(&context, args)?,
        Command::Start(which) => wish::start(&context, &which)?,
        Command::Stop(which) => wish::stop(&context, &which)?,
        Command::Restart(which) => wish::restart(&context, &which)?,
        Command::Freeze => wish::freeze(&context)?,
        Command::Thaw => wish::thaw(&context)?,
        Command::Drain(args) => wish::drain(&context, &args)?,
        Command::Phase(verb) => phase::run(&context, &verb)?,
        Command::Gate(args) => gate::run(&context, &args)?,
        Command::Event(args) => event::run(&context, &args),
        Command::Doctor => doctor::run(&context)?,
        Command::Session(args) => return internal::session(&context, &args),
        Command::Agent(args) => return Ok(internal::agent(&context, &args)),
        Command::ProbeTcp(args) => return internal::probe_tcp(&args),
    }
    Ok(ExitCode::SUCCESS)
}

/// The whole command line, for what is generated from it (completions, the manual).
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn options_of_run_work_with_and_without_the_word() {
        for args in [
            &["--resume-phase", "--config", "/x"][..],
            &["run", "--resume-phase", "--config", "/x"],
            &["--resume-phase", "run", "--config", "/x"],
            &["--config", "/x", "run", "--resume-phase"],
        ] {
            let cli = Cli::try_parse_from([&["supervisor"], args].concat()).unwrap();
            assert_eq!(cli.config, Some("/x".into()), "{args:?}");
        }
        let cli = Cli::try_parse_from(["supervisor", "--from-phase", "2", "status"]).unwrap();
        let error = run(cli).unwrap_err();
        assert_eq!(fault::exit_code(&error), 2);
        assert!(error.to_string().contains("`--from-phase` is of `run` only"), "{error}");
    }
}
