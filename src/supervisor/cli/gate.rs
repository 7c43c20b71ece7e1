//! `supervisor gate`: the handshake by which a phase ends.

use super::context::{Context, QUICK, odd};
use super::fault::Fault;
use super::last_known;
use super::out::{clean, print, print_json};
use super::tool::git;
use super::wish::done;
use crate::supervisor::control::protocol::{Request, Response};
use crate::supervisor::core::view::{self, GateView};
use crate::supervisor::names::LoopName;
use anyhow::Context as _;
use std::env;
use std::path::{Path, PathBuf};

/// Options of `gate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A loop with role \"claims\" claims; one with role \"verifies\", or the operator, passes or fails.\n\
    From inside a loop CC_CI_LOOP says which one it is.\n\nExamples:\n  supervisor gate claim\n  \
    supervisor gate fail --reason \"two tests fail: see notes.md\""
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// On behalf of this loop [default: $CC_CI_LOOP]
    #[arg(long = "loop", value_name = "LOOP", global = true)]
    name: Option<LoopName>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show how far the gate of the current phase is
    Show {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Say that the phase is done, in this commit
    Claim {
        /// The commit: anything that git resolves; it must be pushed
        #[arg(long, value_name = "REV", default_value = "HEAD")]
        commit: String,
    },
    /// Say that the claim holds
    Pass,
    /// Say that the claim does not hold
    Fail {
        /// Why not, for the one who claimed
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// Runs `gate`.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<()> {
    let request = match &args.verb {
        Verb::Show { json } => {
            let gate = show(context)?;
            return if *json { print_json(&gate) } else { print(&line(&gate)) };
        }
        Verb::Claim { commit } => {
            let workdir = workdir(context, args.name.as_ref())?;
            Request::GateClaim { commit: pushed_commit(&workdir, commit)? }
        }
        Verb::Pass => Request::GatePass,
        Verb::Fail { reason } => Request::GateFail { reason: reason.clone() },
    };
    match context.ask_as(args.name.clone(), request, QUICK)? {
        Response::Gate(gate) => print(&line(&gate)),
        other => done(other),
    }
}

fn line(gate: &GateView) -> String {
    format!("{}\n", clean(&gate.text()))
}

fn show(context: &Context) -> anyhow::Result<GateView> {
    match context.ask_if_running(Request::GateShow)? {
        Some(Response::Gate(gate)) => Ok(gate),
        Some(other) => Err(odd(&other)),
        None => Ok(view::gate_view(&last_known::read(context.config()?)?.world)),
    }
}

/// The workdir of the loop that claims; of an operator who names none, the current folder.
fn workdir(context: &Context, named: Option<&LoopName>) -> anyhow::Result<PathBuf> {
    let name = match (named, env::var("CC_CI_LOOP")) {
        (Some(name), _) => name.clone(),
        (None, Ok(name)) => name.parse().map_err(|e| Fault::Usage(format!("reading $CC_CI_LOOP: {e}")))?,
        (None, Err(_)) => return env::current_dir().context("finding the current folder"),
    };
    let config = context.config()?;
    match config.loops.get(&name) {
        Some(l) => Ok(l.workdir.clone()),
        None => Err(Fault::Usage(format!("claiming the gate: there is no loop `{name}` in the config")).into()),
    }
}

/// The full name of the commit; `None` when the folder is no git clone. A commit that is in no remote-tracking branch
/// of a clone with a remote is refused: the verifier works in a clone of its own and would not find it.
fn pushed_commit(workdir: &Path, rev: &str) -> Result<Option<String>, Fault> {
    let shown = workdir.display();
    match git(workdir, &["rev-parse", "--is-inside-work-tree"]) {
        Ok(_) => {}
        // Other errors (git is missing, dubious ownership) must not let a claim go without its commit.
        Err(e) if e.contains("not a git repository") => return Ok(None),
        Err(e) => return Err(Fault::Failed(format!("looking at the clone `{shown}`: {}", clean(&e)))),
    }
    let commit = git(workdir, &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{rev}^{{commit}}")])
        .map_err(|_| Fault::Failed(format!("claiming `{rev}`: there is no such commit in `{shown}`; commit first")))?;
    let asked = |args: &[&str]| {
        git(workdir, args).map_err(|e| Fault::Failed(format!("looking at the clone `{shown}`: {}", clean(&e))))
    };
    if !asked(&["remote"])?.is_empty() && asked(&["branch", "-r", "--contains", &commit])?.is_empty() {
        let short: String = commit.chars().take(12).collect();
        return Err(Fault::Failed(format!(
            "claiming `{short}`: it is in no branch of a remote; push it first: the verifier works in a clone of its own"
        )));
    }
    Ok(Some(commit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn sh(folder: &Path, script: &str) {
        let env = [
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_AUTHOR_NAME", "a"),
            ("GIT_AUTHOR_EMAIL", "a@b"),
            ("GIT_COMMITTER_NAME", "a"),
            ("GIT_COMMITTER_EMAIL", "a@b"),
        ];
        let status = Command::new("sh").args(["-ec", script]).current_dir(folder).envs(env).status().unwrap();
        assert!(status.success(), "{script}");
    }

    #[test]
    fn only_a_pushed_commit_of_a_clone_can_be_claimed() {
        let dir = tempfile::tempdir().unwrap();
        let clone = dir.path().join("clone");
        sh(dir.path(), "git init -q --bare origin.git; git clone -q origin.git clone 2>/dev/null; mkdir plain");
        assert_eq!(pushed_commit(&dir.path().join("plain"), "HEAD"), Ok(None));
        let Err(Fault::Failed(none)) = pushed_commit(&clone, "HEAD") else { panic!() };
        assert!(none.starts_with("claiming `HEAD`: there is no such commit in "), "{none}");
        sh(&clone, "git commit -q --allow-empty -m one");
        let Err(Fault::Failed(unpushed)) = pushed_commit(&clone, "HEAD") else { panic!() };
        assert!(unpushed.ends_with("push it first: the verifier works in a clone of its own"), "{unpushed}");
        sh(&clone, "git push -q origin HEAD:refs/heads/work");
        let commit = pushed_commit(&clone, "HEAD").unwrap().unwrap();
        assert_eq!(commit.len(), 40);
        assert_eq!(pushed_commit(&clone, &commit[..8]).unwrap().as_ref(), Some(&commit));
        assert!(pushed_commit(&clone, "--all").is_err(), "an option, not a commit");
        sh(&clone, "git commit -q --allow-empty -m two");
        assert_eq!(pushed_commit(&clone, "HEAD~1").unwrap(), Some(commit));
        assert!(pushed_commit(&clone, "HEAD").is_err());
    }

    #[test]
    fn a_repository_without_a_remote_has_nowhere_to_push_to() {
        let dir = tempfile::tempdir().unwrap();
        sh(dir.path(), "git init -q; git commit -q --allow-empty -m one");
        assert!(pushed_commit(dir.path(), "HEAD").unwrap().is_some());
    }
}
