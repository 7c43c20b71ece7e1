//! The demo's workspace: a bare repository, two clones, plans, the agents' script, and a config. No setting of the
//! user's own git is read or written.

use super::step::Broken;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the agents are.
const AGENT: &str = include_str!("agent.sh");

/// How many plans there are while it is left running; it is done with them in about half an hour.
const PLANS_TO_KEEP: usize = 50;
/// Of these each plan wants three.
const WORDS: &[&str] = &["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india"];

/// How long the demo goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Two phases, then everything is removed.
    Show,
    /// More phases than are needed, for a person to look at.
    Keep,
}

/// Where things are in the demo's folder.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The folder; its own, and nobody else can look into it.
    pub root: PathBuf,
}

impl Workspace {
    /// Fills an empty folder. `supervisor` is what the agents call.
    pub fn fill(root: &Path, supervisor: &Path, length: Length) -> Result<Self, Broken> {
        let this = Self { root: root.to_owned() };
        let plans = match length {
            Length::Show => 2,
            Length::Keep => PLANS_TO_KEEP,
        };
        let names: Vec<String> = (0..plans).map(|n| format!("plans/plan-{n}.md")).collect();
        let at = |file: &str, e: std::io::Error| Broken::new(format!("writing `{}`: {e}", root.join(file).display()));
        let write = |file: &str, text: &str| fs::write(root.join(file), text).map_err(|e| at(file, e));
        fs::create_dir(root.join("plans")).map_err(|e| at("plans", e))?;
        for (n, name) in names.iter().enumerate() {
            let lines: String = (0..3).map(|k| format!("    {}\n", WORDS[(n * 3 + k) % WORDS.len()])).collect();
            write(name, &format!("# Plan {n}\n\n`sh greet-{n}.sh` prints these lines and nothing else:\n\n{lines}"))?;
        }
        write("agent.sh", AGENT)?;
        this.pace("0.3")?;
        write("demo.env", &env(root, supervisor)?)?;
        // Nothing secret here, but `check` rightly warns of env files that others can read.
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(root.join("demo.env"), private).map_err(|e| at("demo.env", e))?;
        write("supervisor.toml", &config(root, &names))?;

        this.git(".", &["init", "-q", "--bare", "-b", "main", "origin.git"])?;
        for clone in CLONES {
            this.git(".", &["clone", "-q", "origin.git", clone.folder])?;
            this.git(clone.folder, &["config", "user.name", clone.who])?;
            this.git(clone.folder, &["config", "user.email", &format!("{}@demo.invalid", clone.who)])?;
            this.git(clone.folder, &["checkout", "-q", "-B", clone.branch])?;
            this.git(clone.folder, &["commit", "-q", "--allow-empty", "-m", "begin"])?;
            this.git(clone.folder, &["push", "-q", "origin", clone.branch])?;
        }
        Ok(this)
    }

    /// How long the agents take for a piece of work, in seconds as sleep(1) takes them.
    pub fn pace(&self, seconds: &str) -> Result<(), Broken> {
        let file = self.root.join("pace");
        fs::write(&file, seconds).map_err(|e| Broken::new(format!("writing `{}`: {e}", file.display())))
    }

    /// The config.
    pub fn config(&self) -> PathBuf {
        self.root.join("supervisor.toml")
    }

    /// What the supervisor says, all its runs.
    pub fn log(&self) -> PathBuf {
        self.root.join("supervisor.log")
    }

    /// The control socket, as the agents have it.
    pub fn control_socket(&self) -> PathBuf {
        crate::supervisor::control::socket_path(&self.root.join("run"))
    }

    /// What git answers in one of the folders.
    pub fn git(&self, folder: &str, args: &[&str]) -> Result<String, Broken> {
        let mut command = Command::new("git");
        command.args(args).current_dir(self.root.join(folder)).stdin(std::process::Stdio::null());
        command.envs(GIT_ENV).env("LC_ALL", "C");
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(variable);
        }
        let what = || format!("running `git {}` in `{folder}`", args.join(" "));
        let done = command.output().map_err(|e| Broken::new(format!("{}: {e}", what())))?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned());
        }
        let said = String::from_utf8_lossy(&done.stderr);
        Err(Broken::new(format!("{}: {}: {}", what(), done.status, said.trim())))
    }
}

/// A clone and who works in it.
pub struct CloneOf {
    /// Its folder.
    pub folder: &'static str,
    /// The branch that is pushed.
    pub branch: &'static str,
    who: &'static str,
}

/// Both.
pub const CLONES: [CloneOf; 2] = [
    CloneOf { folder: "cc-ci", branch: "main", who: "builder" },
    CloneOf { folder: "cc-ci-adv", branch: "verdicts", who: "adversary" },
];

/// Nothing of the user's or the machine's settings (hooks, signing, another default branch) gets into the demo.
pub const GIT_ENV: [(&str, &str); 3] =
    [("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_TERMINAL_PROMPT", "0")];

fn env(root: &Path, supervisor: &Path) -> Result<String, Broken> {
    let mut text: String = GIT_ENV.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    for (key, path) in [("SUPERVISOR", supervisor.to_owned()), ("PACE", root.join("pace"))] {
        let path = path.display().to_string();
        if path.contains(['\'', '\n']) {
            return Err(Broken::new(format!(
                "putting `{path}` into an env file: it has a quote or a line break in it"
            )));
        }
        text.push_str(&format!("{key}='{path}'\n"));
    }
    Ok(text)
}

fn config(root: &Path, plans: &[String]) -> String {
    // JSON's strings are TOML's basic strings.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let plans: Vec<String> = plans.iter().map(|plan| quoted(plan)).collect();
    let at = |name: &str| quoted(&root.join(name).display().to_string());
    let agent = at("agent.sh");
    format!(
        r#"# Written by `supervisor demo`. A turn that ended while the supervisor was away is one whose end it never heard of:
# the silence of `stall_after` brings such an agent back to mind.
workspace = {workspace}
state_dir = {state}
runtime_dir = {run}
start_stagger = "100ms"

[phases]
plans = [{plans}]

[loops.builder]
agent = "command"
command = ["sh", {agent}, "{{loop}}"]
workdir = "cc-ci"
env_files = ["demo.env"]
role = "claims"
stop_timeout = "2s"
stall_after = "5s"
on_idle = {{ nudge = "go on", after = "200ms" }}

[loops.adversary]
agent = "command"
command = ["sh", {agent}, "{{loop}}"]
workdir = "cc-ci-adv"
env_files = ["demo.env"]
role = "verifies"
stop_timeout = "2s"
stall_after = "5s"
on_idle = {{ nudge = "is there a claim?", after = "3s" }}

[loops.orchestrator]
agent = "command"
command = ["sh", {agent}, "{{loop}}"]
workdir = "."
env_files = ["demo.env"]
follows_phases = false
stop_timeout = "2s"
on_idle = {{ nudge = "how far are they?", after = "3s" }}
"#,
        workspace = quoted(&root.display().to_string()),
        state = at("state"),
        run = at("run"),
        plans = plans.join(", "),
    )
}
