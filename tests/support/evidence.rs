//! What a laboratory has to show: starts, doubles, notifications, the journal; all of it when a test fails.

use super::{Lab, read};
use cc_ci::support::process::tree;
use serde_json::Value;
use std::path::Path;

impl Lab {
    /// The epoch and the pid of each agent of a loop that came up, as they wrote them.
    pub fn starts(&self, name: &str) -> Vec<(u64, i32)> {
        let parse = |line: &str| {
            let mut words = line.strip_prefix("start ")?.split(' ');
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        read(&self.path(&format!("starts.{name}"))).lines().filter_map(parse).collect()
    }

    /// Agents that came up while another one of their loop, or a child of one, still lived.
    pub fn doubles(&self) -> String {
        read(&self.path("doubles"))
    }

    /// What was typed into an agent of a loop.
    pub fn said(&self, name: &str) -> String {
        read(&self.path(&format!("said.{name}")))
    }

    /// What the operator was told.
    pub fn notifications(&self) -> Vec<Value> {
        read(&self.path("notified")).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Those of a kind.
    pub fn notified(&self, kind: &str) -> Vec<Value> {
        self.notifications().into_iter().filter(|n| n["kind"] == kind).collect()
    }

    /// Waits until the operator was told of this kind of thing.
    #[track_caller]
    pub fn await_notified(&self, kind: &str) -> Value {
        self.wait_for(&format!("a notification of the kind {kind}"), || {
            self.notified(kind).into_iter().next().ok_or_else(|| self.notifications())
        })
    }

    pub fn journal(&self) -> Vec<Value> {
        read(&self.state("journal.jsonl")).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The journal's entries with this decision, of a loop or of all.
    pub fn decisions(&self, decision: &str, name: Option<&str>) -> Vec<Value> {
        let fits = |entry: &Value| entry["decision"] == decision && name.is_none_or(|name| entry["loop"] == name);
        self.journal().into_iter().filter(fits).collect()
    }

    /// Waits until this was decided and journalled.
    #[track_caller]
    pub fn await_decision(&self, decision: &str, name: Option<&str>) -> Value {
        self.wait_for(&format!("the decision {decision} of {name:?}"), || {
            self.decisions(decision, name).pop().ok_or("not journalled")
        })
    }

    /// Waits until the loop's log has no pipe any more.
    #[track_caller]
    pub fn await_pipe_end(&self, name: &str, server: i32) {
        let mark = format!("{}={name}", cc_ci::supervisor::tmux::PIPE_VAR);
        self.wait_for("the end of the log's pipe", || {
            let pipes = tree::children(server).unwrap().into_iter().filter(|id| {
                let environ = tree::environ(id.pid).ok().flatten().unwrap_or_default();
                environ.split(|b| *b == 0).any(|var| var == mark.as_bytes())
            });
            let pipes: Vec<_> = pipes.collect();
            let told = self.decisions("log-pipe-closed", Some(name)).len();
            if pipes.is_empty() || told > 0 { Ok(()) } else { Err(pipes) }
        });
    }

    pub fn stderr(&self) -> String {
        read(&self.path("stderr"))
    }

    /// The index file, as it is.
    pub fn index(&self) -> String {
        read(&self.path("ws/.cc-ci-logs/.phase-idx"))
    }

    /// All of it, on stderr.
    pub fn show(&self) {
        let status = match self.try_status() {
            Ok(status) => serde_json::to_string_pretty(&status).unwrap_or_default(),
            Err(e) => e.to_string(),
        };
        eprintln!("--- status\n{status}");
        for (what, file, lines) in [
            ("the daemon's stderr", self.path("stderr"), 60),
            ("the journal", self.state("journal.jsonl"), 25),
            ("notifications", self.path("notified"), 20),
            ("doubles", self.path("doubles"), 20),
        ] {
            eprintln!("--- {what}, the end\n{}", tail(&file, lines));
        }
    }
}

fn tail(file: &Path, count: usize) -> String {
    let text = std::fs::read(file).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
