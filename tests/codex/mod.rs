//! A laboratory with the real codex CLI and a mock of the model's API. No login is needed, read or written: HOME is the
//! laboratory's own. Where the CLI cannot be had, tests are skipped and say why.

#![allow(dead_code, clippy::unwrap_used, reason = "a test kit, of which each test binary uses a part")]

pub mod mock;

use crate::support::{Agent, Lab};
use cc_ci::support::process::ProcId;
use mock::Mock;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The folder with the installed CLI, or why there is none.
fn installed() -> &'static Result<PathBuf, String> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let cache = std::env::var_os("CC_CI_CODEX_DIR").map_or_else(|| root.join("target/codex-cli"), PathBuf::from);
        let script = root.join("tests/codex/install.sh");
        let done = Command::new("sh").arg(script).arg(cache).output().map_err(|e| format!("running sh: {e}"))?;
        if done.status.success() {
            Ok(PathBuf::from(String::from_utf8_lossy(&done.stdout).trim()))
        } else {
            Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
        }
    })
}

/// A laboratory whose loops can be of the agent `codex`, and the API that they talk to.
pub struct CodexLab {
    pub lab: Lab,
    pub api: Mock,
}

impl CodexLab {
    /// `None`, and a line that says why, where the CLI cannot be had.
    pub fn new(test: &str, tables: &str) -> Option<Self> {
        let program = match installed() {
            Ok(program) => program,
            Err(why) => {
                eprintln!("skipped: {test}: {why}");
                return None;
            }
        };
        let api = Mock::start();
        let mut lab = Lab::new(tables);
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        lab.options.env.push(("PATH".to_owned(), path));
        std::fs::write(lab.path("ws/kickoff.md"), "KICKOFF of {loop}: begin.\n").unwrap();
        std::fs::write(lab.path("ws/handoff.md"), "HANDOFF of {loop}: take over.\n").unwrap();
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
        self.lab.wait_for(&format!("{name} to be up after epoch {epoch}"), || {
            let view = match self.lab.try_status() {
                Ok(status) => status.loops.into_iter().find(|l| l.name.as_str() == name).unwrap(),
                Err(e) => return Err(format!("{e}")),
            };
            let (Some(pid), Some(server)) = (view.pid, view.server_pid) else { return Err(format!("{view:?}")) };
            match ProcId::of(pid).unwrap() {
                Some(id) if view.state == "up" && view.epoch > epoch => Ok(Agent { epoch: view.epoch, id, server }),
                _ => Err(format!("{view:?}")),
            }
        })
    }

    /// Waits until the loop's turn is this.
    #[track_caller]
    pub fn turn(&self, name: &str, turn: &str) {
        self.lab.wait_for(&format!("the turn of {name} to be {turn}"), || {
            let view = self.lab.view(name);
            if view.turn.as_deref() == Some(turn) { Ok(()) } else { Err(format!("{view:?}\n{}", self.screen(name))) }
        });
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
        command.args(["doctor", "--config"]).arg(self.lab.config());
        command.env_clear().env("HOME", self.lab.path("home")).envs(self.lab.options.env.iter().cloned());
        let said = String::from_utf8_lossy(&command.output().unwrap().stdout).replace("\n       ", " ");
        said.lines().filter(|l| l.contains(&format!("{name}: "))).map(|l| format!("{l}\n")).collect()
    }

    pub fn screen(&self, name: &str) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.lab.tmux_socket(name)).args(["capture-pane", "-p", "-t", "%0"]);
        let text = command.output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        text.lines().filter(|l| !l.trim().is_empty()).collect::<Vec<_>>().join("\n")
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
            for name in std::fs::read_dir(self.lab.path("run/session")).into_iter().flatten().flatten() {
                let name = name.file_name().into_string().unwrap();
                eprintln!("--- screen of {name}\n{}", self.screen(&name));
            }
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
