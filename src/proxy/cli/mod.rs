//! The command line of `proxy-shim`: what can be said, which file does it, and the one place that says what went wrong.

mod check;
mod connect;
mod status;

use super::config::{self, Config, ConfigErrors, NotFound};
use super::connect::ConnectError;
use super::control::ControlError;
use super::{guard, serve};
use crate::support::log;
use crate::support::units::parse_duration;
use anyhow::Context as _;
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const EXIT_CODES: &str = "\
Exit codes:
  0  fine
  1  failed; stderr says what and what to do about it
  2  the command line or the config makes no sense
  3  not now: timed out, or the proxy is not running

The config is --config, else $CC_CI_PROXY_CONFIG, ./proxy-shim.toml, /etc/cc-ci-orchestrator/proxy-shim.toml.
`connect` needs none.";

/// One loopback port, SOCKS5 and HTTP CONNECT, that is always there in front of a way out that is not
#[derive(Debug, Parser)]
#[command(name = "proxy-shim", version, after_long_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// The config file [default: $CC_CI_PROXY_CONFIG, ./proxy-shim.toml,
    /// /etc/cc-ci-orchestrator/proxy-shim.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground: the port, the way out behind it, its probes
    Run,
    /// Connect to HOST PORT through the proxy; for ssh's ProxyCommand
    Connect(connect::Args),
    /// Look at each link from here to the probes' destinations, and say how to mend it
    Check(check::Args),
    /// Show what the running proxy knows: the way out, connections, failures, probes
    Status(status::Args),
    /// Internal: become a program that ends with its parent
    Child(ChildArgs),
}

/// Arguments of `child`.
#[derive(Debug, clap::Args)]
struct ChildArgs {
    /// Who started it
    #[arg(long, value_name = "PID")]
    parent: i32,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "ARGV")]
    argv: Vec<OsString>,
}

/// What went wrong where nothing more is to be said than this, with its exit code.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// All was said; only the exit code is left.
    #[error("something is wrong")]
    Said(u8),
}

/// Reads the command line. On `Err` everything was said: help, version, or what is wrong with it.
///
/// # Errors
/// The exit code.
pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(args).map_err(|e| {
        // Printing fails when nobody reads, and then nobody is left to be told.
        let _ = e.print();
        ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2))
    })
}

/// The whole command line, for what is generated from it (completions, the manual).
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what the command line says, and says what went wrong.
pub fn run(cli: Cli) -> ExitCode {
    match done(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(text) = text(&error) {
                // Not eprintln!, which panics when nobody reads stderr; then nobody is left to be told, either.
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

fn done(cli: Cli) -> anyhow::Result<()> {
    let Cli { config, command } = cli;
    match command {
        Command::Run => {
            let config = load(config)?;
            // A log that nobody reads must not stop the relays, so its lines go through a thread; the last ones come
            // before the error.
            let log = log::to_stderr(log::Through::Thread);
            let done = serve::run(config);
            drop(log);
            done
        }
        Command::Connect(args) => connect::run(args),
        Command::Check(args) => check::run(&load(config)?, &args),
        Command::Status(args) => status::run(&load(config)?, &args),
        Command::Child(args) => match guard::become_child(args.parent, &args.argv)? {},
    }
}

fn load(explicit: Option<PathBuf>) -> anyhow::Result<Config> {
    let cwd = std::env::current_dir().context("finding the current folder")?;
    let file = config::find(explicit.as_deref(), std::env::var_os("CC_CI_PROXY_CONFIG").as_deref(), &cwd)?;
    let parsed = config::read_file(&file)?;
    for warning in &parsed.warnings {
        // As above.
        let _ = writeln!(std::io::stderr(), "{warning}\n");
    }
    Ok(parsed.value)
}

/// 0 fine, 1 failed, 2 bad usage or config, 3 not now.
fn exit_code(error: &anyhow::Error) -> u8 {
    let of = |cause: &(dyn std::error::Error + 'static)| {
        if let Some(fault) = cause.downcast_ref::<Fault>() {
            return Some(match fault {
                Fault::Usage(_) => 2,
                Fault::Said(code) => *code,
            });
        }
        if cause.is::<ConfigErrors>() || cause.is::<NotFound>() {
            return Some(2);
        }
        if let Some(e) = cause.downcast_ref::<ConnectError>() {
            return Some(if e.is_not_now() { 3 } else { 1 });
        }
        cause.downcast_ref::<ControlError>().map(|e| match e {
            ControlError::NotRunning(_) | ControlError::TimedOut(_) => 3,
            ControlError::Other { .. } => 1,
        })
    };
    error.chain().find_map(of).unwrap_or(1)
}

/// What is printed on stderr; `None` when nothing is left to be said.
fn text(error: &anyhow::Error) -> Option<String> {
    if let Some(Fault::Said(_)) = error.downcast_ref() {
        return None;
    }
    let whole = format!("{error:#}");
    // The faults of a config come each with its excerpt; our name belongs before the sentence that sums them up.
    Some(match (error.downcast_ref(), whole.rsplit_once("\n\n")) {
        (Some(ConfigErrors::Faults { .. }), Some((faults, sum))) => format!("{faults}\n\nproxy-shim: {sum}"),
        _ => format!("proxy-shim: {whole}"),
    })
}

/// A duration of the command line.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|e| e.to_string())
}

/// Prints to stdout; a reader who has read enough is no fault.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Fault::Said(0).into()),
        written => written.context("writing to stdout"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
