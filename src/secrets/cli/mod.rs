//! The command line of `secrets-placer`: what can be said, and which file does it.

mod place;
mod status;

use super::content::{Content, LARGEST};
use super::manifest::accounts::{Identity, resolve};
use super::manifest::{Manifest, SecretName, read_file};
use super::{bootstrap, worker};
use crate::supervisor::cli::fault::{Fault, exit_code};
use crate::support::config::parse::{ConfigErrors, Parsed};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  fine
  1  failed, or (check) something differs; stderr says what and what to do about it
  2  the command line or the manifest makes no sense
  3  not now: another one is at work, or a worker was stopped";

/// Puts decrypted secrets where programs want them, with the right owner and mode, safely and durably
///
/// Everything is validated before anything is placed. No content is ever shown.
#[derive(Debug, Parser)]
#[command(name = "secrets-placer", version, after_long_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Where {
    /// What goes where
    #[arg(long, value_name = "FILE", default_value = "/etc/cc-ci-orchestrator/secrets.toml")]
    manifest: PathBuf,
}

#[derive(Debug, Args)]
struct From {
    #[command(flatten)]
    at: Where,
    /// Take all values from this sops-encrypted YAML or JSON file
    #[arg(long, value_name = "FILE")]
    sops: Option<PathBuf>,
    /// The age key for it [default: the manifest's `age_key_file`]
    #[arg(long, value_name = "FILE", requires = "sops")]
    key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Place what is missing or differs, and tell the units that want to know
    Place(From),
    /// Only report what differs; exit 1 if anything does
    Check {
        #[command(flatten)]
        from: From,
        /// Only what needs no machine: the manifest itself
        #[arg(long)]
        r#static: bool,
    },
    /// Remove what an earlier manifest placed and this one does not name
    Prune(Where),
    /// Show names, paths and states, never contents
    Status {
        #[command(flatten)]
        at: Where,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Put the machine's age key, from stdin, in its place, once it has decrypted the sops file
    BootstrapKey(KeyArgs),
    /// Internal: write files as another user, as told on stdin
    Worker,
}

#[derive(Debug, Args)]
struct KeyArgs {
    /// A file that this key must be able to decrypt
    #[arg(long, value_name = "FILE")]
    sops: PathBuf,
    /// Where it goes
    #[arg(long, value_name = "FILE", default_value = "/var/lib/sops-nix/key.txt")]
    key_file: PathBuf,
    /// Replace a different key that is there
    #[arg(long)]
    replace: bool,
}

/// The whole command line, for what is generated from it (completions, the manual).
pub fn command() -> clap::Command {
    Cli::command()
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

/// Runs the verb and says what went wrong.
pub fn run(cli: Cli) -> ExitCode {
    match worker::harden().map_err(Into::into).and_then(|()| verb(cli.verb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn verb(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Place(from) => place::place(&from),
        Verb::Check { from, r#static: true } => place::check_static(&from.at.manifest),
        Verb::Check { from, r#static: false } => place::check(&from),
        Verb::Prune(at) => place::prune(&at.manifest),
        Verb::Status { at, json } => status::run(&at.manifest, json),
        Verb::BootstrapKey(args) => bootstrap_key(&args),
        Verb::Worker => Ok(worker::run()?),
    }
}

fn report(error: &anyhow::Error) -> ExitCode {
    let code = if error.chain().any(|cause| cause.is::<worker::link::LinkError>()) { 3 } else { exit_code(error) };
    if !matches!(error.downcast_ref(), Some(Fault::Said | Fault::ReaderGone)) {
        let whole = format!("{error:#}");
        match (error.downcast_ref(), whole.rsplit_once("\n\n")) {
            (Some(ConfigErrors::Faults { .. }), Some((faults, sum))) => {
                say(&format!("{faults}\n\nsecrets-placer: {sum}"))
            }
            _ => say(&format!("secrets-placer: {whole}")),
        }
    }
    ExitCode::from(code)
}

/// A line on stderr.
fn say(text: &str) {
    // Not eprintln!, which panics when nobody reads stderr; then nobody is left to be told, either.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The manifest and who its users are; warnings are said.
fn load(file: &Path) -> anyhow::Result<(Manifest, BTreeMap<SecretName, Identity>)> {
    let parsed = parse(file)?;
    let identities = resolve(&parsed, file)?;
    Ok((parsed.value, identities))
}

fn parse(file: &Path) -> anyhow::Result<Parsed<Manifest>> {
    let file = std::path::absolute(file)?;
    let parsed = read_file(&file)?;
    for warning in &parsed.warnings {
        say(&format!("{warning}\n"));
    }
    Ok(parsed)
}

fn bootstrap_key(args: &KeyArgs) -> anyhow::Result<()> {
    let mut stdin = std::io::stdin().lock();
    let doing = "reading the age key from stdin";
    let read = Content::read(&mut stdin, 4096, LARGEST)
        .map_err(|e| Fault::Failed(format!("{doing}: {e}; give it as `<FILE`")))?;
    let key = read.ok_or_else(|| {
        let cause = format!("it has more than {LARGEST} bytes, which no key has");
        Fault::Failed(format!("{doing}: {cause}; give the file that `age-keygen` wrote"))
    })?;
    let path = std::path::absolute(&args.key_file)?;
    let other = if args.replace { bootstrap::Other::Replace } else { bootstrap::Other::Keep };
    let text = match bootstrap::place(&key, &args.sops, &path, other)? {
        bootstrap::Done::Placed => "placed",
        bootstrap::Done::Unchanged => "unchanged",
    };
    let (path, sops) = (path.display(), args.sops.display());
    crate::supervisor::cli::out::print(&format!("{text}: the age key at `{path}`, which decrypts `{sops}`\n"))
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
