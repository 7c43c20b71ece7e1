//! A laboratory with the real codex CLI and a mock of the model's API. No login is needed, read or written: HOME is the
//! laboratory's own. Where the CLI cannot be had, tests are skipped and say why.

#![allow(dead_code, clippy::unwrap_used, reason = "a test kit, of which each test binary uses a part")]

pub mod mock;

use crate::cli_kit;
use crate::support::{Agent, Lab};
use mock::Mock;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The folder with the installed CLI, or why there is none.
fn installed() -> &'static Result<PathBuf, String> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    INSTALLED.get_or_init(|| cli_kit::install("codex", "CC_CI_CODEX_DIR", "codex-cli"))
}

/// A laboratory whose loops can be of the agent `codex`, and the API that they talk to.
pub struct CodexLab {
    pub lab: Lab,
    pub api: Mock,
}

impl CodexLab {
    /// `None`, and a line that says why, where the CLI cannot be had.
    pub fn new(test: &str, tables: &str) -> Option<Self> {
        let lab = cli_kit::lab(test, installed(), tables)?;
        let api = Mock::start();
        // A clone, so that a first start would ask whether it is trusted.
        assert!(Command::new("git").args(["init", "-q"]).arg(lab.path("ws")).status().unwrap().success());
        std::fs::create_dir_all(lab.path("home/.codex")).unwrap();
        let config = format!(
            "model = \"gpt-5\"\nmodel_provider = \"mock\"\n\n[model_providers.mock]\nname = \"mock\"\n\
             base_url = \"{}\"\nwire_api = \"responses\"\nenv_key = \"MOCK_KEY\"\n\
             request_max_retries = 1\nstream_max_retries = 1\n",
            api.url
        );
        std::fs::write(lab.path("home/.codex/config.toml"), config).unwrap();
        let codex = Self { lab, api };
        codex.key("first-key");
        Some(codex)
    }

    /// The same, with the daemon running.
    pub fn start(test: &str, tables: &str) -> Option<Self> {
        let mut codex = Self::new(test, tables)?;
        codex.lab.start();
        Some(codex)
    }

    /// Puts a key into the loops' env file.
    pub fn key(&self, key: &str) {
        std::fs::write(self.lab.path("ws/codex.env"), format!("MOCK_KEY={key}\n")).unwrap();
    }

    /// Waits until the loop's agent runs, in a later epoch than this.
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
            let turns = self.api.turns();
            let count = turns.len();
            turns.into_iter().rev().find(|r| r.input.contains(text)).ok_or_else(|| format!("{count} turns"))
        })
    }

    /// What `supervisor doctor` says of a loop.
    pub fn doctor(&self, name: &str) -> String {
        cli_kit::doctor(&self.lab, name)
    }

    pub fn screen(&self, name: &str) -> String {
        cli_kit::screen(&self.lab, name)
    }

    /// The session of a loop, as the last start or the agent itself told it.
    pub fn session(&self, name: &str) -> String {
        let start = self.lab.decisions("start", Some(name)).pop().unwrap();
        start["evidence"]["session"]["uuid"].as_str().unwrap().to_owned()
    }
}

impl Drop for CodexLab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            cli_kit::print_screens(&self.lab);
        }
    }
}

/// A loop of the agent `codex`, with more keys.
pub fn codex_loop(name: &str, more: &str) -> String {
    format!(
        "[loops.{name}]\nagent = \"codex\"\nworkdir = \".\"\nkickoff = \"kickoff.md\"\nhandoff = \"handoff.md\"\n\
         args = [\"--dangerously-bypass-approvals-and-sandbox\"]\nenv_files = [\"codex.env\"]\n{more}\n"
    )
}
