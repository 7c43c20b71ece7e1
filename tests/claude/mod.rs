//! A laboratory with the real claude CLI and a mock of the model's API. No login is needed, read or written: HOME is the
//! laboratory's own. Where the CLI cannot be had, tests are skipped and say why.

#![allow(dead_code, clippy::unwrap_used, reason = "a test kit, of which each test binary uses a part")]

pub mod mock;

use crate::cli_kit;
use crate::support::{Agent, Lab, read, when};
use mock::Mock;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The folder with the installed CLI, or why there is none.
fn installed() -> &'static Result<PathBuf, String> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    INSTALLED.get_or_init(|| cli_kit::install("claude", "CC_CI_CLAUDE_DIR", "claude-code"))
}

/// A laboratory whose loops can be of the agent `claude`, and the API that they talk to.
pub struct ClaudeLab {
    pub lab: Lab,
    pub api: Mock,
}

impl ClaudeLab {
    /// `None`, and a line that says why, where the CLI cannot be had.
    pub fn new(test: &str, tables: &str) -> Option<Self> {
        let mut lab = cli_kit::lab(test, installed(), tables)?;
        let api = Mock::start();
        // Would break every agent if it got through.
        lab.options.env.push(("CLAUDECODE".to_owned(), "1".to_owned()));
        lab.options.env.push(("CLAUDE_CODE_CHILD_SESSION".to_owned(), "1".to_owned()));
        let claude = Self { lab, api };
        claude.token("sk-ant-oat01-first");
        Some(claude)
    }

    /// The same, with the daemon running.
    pub fn start(test: &str, tables: &str) -> Option<Self> {
        let mut claude = Self::new(test, tables)?;
        claude.lab.start();
        Some(claude)
    }

    /// Puts a login into the loops' env file.
    pub fn token(&self, token: &str) {
        // IS_SANDBOX: tests run as root, for whom claude refuses to skip permissions.
        let text = format!(
            "ANTHROPIC_BASE_URL={}\nCLAUDE_CODE_OAUTH_TOKEN={token}\nIS_SANDBOX=1\nCLAUDE_CODE_MAX_RETRIES=1\n",
            self.api.url
        );
        std::fs::write(self.lab.path("ws/claude.env"), text).unwrap();
    }

    /// Waits until the loop's agent runs.
    #[track_caller]
    pub fn up(&self, name: &str) -> Agent {
        self.up_after(name, 0)
    }

    /// The same, of a later epoch than this.
    #[track_caller]
    pub fn up_after(&self, name: &str, epoch: u64) -> Agent {
        cli_kit::up_after(&self.lab, name, epoch)
    }

    /// Waits until the loop's turn is this.
    #[track_caller]
    pub fn turn(&self, name: &str, turn: &str) {
        cli_kit::turn(&self.lab, name, turn);
    }

    /// Waits until the API was asked for a turn with this text in it.
    #[track_caller]
    pub fn asked(&self, text: &str) -> mock::Request {
        self.lab.wait_for(&format!("a turn with `{text}`"), || {
            self.api.turn_with(text).ok_or_else(|| format!("{} turns", self.api.turns().len()))
        })
    }

    /// Waits for so many turns with this text as the last prompt.
    #[track_caller]
    pub fn asked_times(&self, text: &str, times: usize) {
        self.lab.wait_for(&format!("{times} turns with `{text}`"), || {
            let found = self.api.turns().iter().filter(|r| r.has(text)).count();
            when(found >= times, format!("{found}"))
        });
    }

    /// The session of a loop, from its agent's arguments.
    pub fn session(&self, agent: Agent) -> String {
        let args = std::fs::read(format!("/proc/{}/cmdline", agent.id.pid)).unwrap();
        let args: Vec<String> = args.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        let at = args.iter().position(|a| a == "--session-id" || a == "--resume").unwrap();
        args[at + 1].clone()
    }

    /// The transcript of a session, wherever it is.
    pub fn transcript(&self, session: &str) -> PathBuf {
        let projects = self.lab.path("home/.claude/projects");
        let found = std::fs::read_dir(projects).unwrap().flatten().map(|d| d.path().join(format!("{session}.jsonl")));
        found.into_iter().find(|path| path.exists()).unwrap()
    }

    /// Waits until this is in the transcript: the CLI writes what happened a moment after it tells of it, and an agent
    /// killed before that has nothing to resume.
    #[track_caller]
    pub fn written(&self, agent: Agent, wanted: &str) {
        let session = self.session(agent);
        let file = |p: PathBuf| p.join(format!("{session}.jsonl"));
        self.lab.wait_for(&format!("the transcript to have `{wanted}`"), || {
            let dirs = std::fs::read_dir(self.lab.path("home/.claude/projects")).into_iter().flatten().flatten();
            let text: String = dirs.map(|d| file(d.path())).filter(|p| p.exists()).map(|p| read(&p)).collect();
            when(text.contains(wanted), text)
        });
    }

    /// What `supervisor doctor` says of a loop.
    pub fn doctor(&self, name: &str) -> String {
        cli_kit::doctor(&self.lab, name)
    }

    pub fn screen(&self, name: &str) -> String {
        cli_kit::screen(&self.lab, name)
    }
}

impl Drop for ClaudeLab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            cli_kit::print_screens(&self.lab);
            eprintln!("--- {}", read(&self.lab.path("home/.claude.json")).chars().take(600).collect::<String>());
        }
    }
}

/// A loop of the agent `claude`, with more keys.
pub fn claude_loop(name: &str, more: &str) -> String {
    format!(
        "[loops.{name}]\nagent = \"claude\"\nworkdir = \".\"\nkickoff = \"kickoff.md\"\nhandoff = \"handoff.md\"\n\
         args = [\"--dangerously-skip-permissions\"]\nenv_files = [\"claude.env\"]\n{more}\n"
    )
}
