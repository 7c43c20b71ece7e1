//! `supervisor agent NAME --epoch N --spec FILE`: what turns a pane's fresh process into the agent. Owns the launch spec
//! that the daemon leaves for it.

use super::agents::Seed;
use super::cgroup::Unit;
use super::env_file;
use super::environment::{self, Variables};
use super::names::LoopName;
use super::seeds;
use crate::support::process;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The agent is the one to go when memory runs out, not tmux, the supervisor or sshd (0); 1000 would be "always me".
const OOM_SCORE_ADJ: &str = "500";

/// Everything about one start that is not secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchSpec {
    /// Whose agent.
    #[serde(rename = "loop")]
    pub name: LoopName,
    /// Which start.
    pub epoch: u64,
    /// The program and its arguments; a relative program is looked for in `workdir`.
    pub argv: Vec<String>,
    /// Where it runs.
    pub workdir: PathBuf,
    /// Variables beyond the allow-list.
    pub env: Vec<(String, String)>,
    /// Files of more variables, which may be secret.
    pub env_files: Vec<PathBuf>,
    /// Values of the user's own files that are written where they are missing.
    #[serde(default)]
    pub seeds: Vec<Seed>,
    /// The supervisor's control socket.
    pub socket: PathBuf,
    /// The supervisor's config file.
    pub config: PathBuf,
}

/// Why no agent was started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The spec is another start's.
    #[error(
        "start agent of `{name}`: epoch {asked} is superseded, the launch spec is of epoch {found}; nothing to do, the \
         supervisor has moved on"
    )]
    Superseded {
        /// Whose.
        name: LoopName,
        /// In the command line.
        asked: u64,
        /// In the spec.
        found: u64,
    },
    /// The spec is another loop's.
    #[error("start agent of `{asked}`: the launch spec is of `{found}`; `supervisor restart {asked}` writes it anew")]
    OtherLoop {
        /// In the command line.
        asked: LoopName,
        /// In the spec.
        found: LoopName,
    },
    /// A file or folder that it needs cannot be used.
    #[error("{doing} `{}`: {cause}; {remedy}", path.display())]
    Path {
        /// Begins the sentence.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
        /// Ends the sentence.
        remedy: &'static str,
    },
    /// The spec does not parse.
    #[error("read launch spec `{}`: {cause}; `supervisor restart` writes it anew", path.display())]
    Spec {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: serde_json::Error,
    },
    /// An env file does not parse. Does not hold the line: it may be a secret.
    #[error("read env file `{}:{}`: the line {}", path.display(), cause.line, cause.fault)]
    EnvFile {
        /// Which.
        path: PathBuf,
        /// Where and why.
        cause: env_file::BadLine,
    },
    /// It would run outside of the cgroup by which it is limited and ended.
    #[error(
        "start agent of `{name}`: join its own cgroup: {cause}; the supervisor clears it away and tries again, or \
         `systemctl restart cc-ci-session@{name}.service` makes it anew"
    )]
    Cgroup {
        /// Whose.
        name: LoopName,
        /// Why not.
        cause: io::Error,
    },
    /// There is no program in the spec.
    #[error("start agent of `{0}`: its launch spec names no program; set `command` in `[loops.{0}]`")]
    NoProgram(LoopName),
    /// The program cannot be executed.
    #[error("start `{program}` in `{}`: {cause}; check that it is there and executable for this user", workdir.display())]
    Exec {
        /// The program.
        program: String,
        /// Where.
        workdir: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl LaunchError {
    /// What the process exits with: 75 (EX_TEMPFAIL) for a superseded start, 127 or 126 for a program that is not there
    /// or not executable, as shells do, else 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            LaunchError::Superseded { .. } => 75,
            LaunchError::Exec { cause, .. } if cause.kind() == io::ErrorKind::NotFound => 127,
            LaunchError::Exec { .. } => 126,
            _ => 2,
        }
    }
}

impl LaunchSpec {
    /// Where the spec of a loop is: in its session's folder, which `supervisor session` made.
    pub fn path(session_dir: &Path) -> PathBuf {
        session_dir.join("launch.json")
    }

    /// Leaves the spec in `session_dir`, mode 0600, whole or not at all. Not synced: after a power cut nothing that
    /// would read it is left, and the folder is on a tmpfs.
    ///
    /// # Errors
    /// When the folder is missing or full.
    pub fn write(&self, session_dir: &Path) -> io::Result<PathBuf> {
        let path = Self::path(session_dir);
        let within = |e: io::Error| io::Error::new(e.kind(), format!("write launch spec `{}`: {e}", path.display()));
        // Unique name, O_EXCL, 0600.
        let mut file = tempfile::NamedTempFile::new_in(session_dir).map_err(within)?;
        // In one piece: each part of it would be a system call.
        let json = serde_json::to_vec(self).map_err(|e| within(e.into()))?;
        file.write_all(&json).map_err(within)?;
        file.persist(&path).map_err(|e| within(e.error))?;
        Ok(path)
    }

    /// The command that the pane runs: `supervisor agent NAME --epoch N --spec FILE`.
    pub fn command(&self, supervisor: &Path, spec: &Path) -> Vec<String> {
        let text = |p: &Path| p.to_string_lossy().into_owned();
        let epoch = self.epoch.to_string();
        [&text(supervisor), "agent", self.name.as_str(), "--epoch", &epoch, "--spec", &text(spec)]
            .map(str::to_owned)
            .into()
    }

    /// The agent's whole environment, from `inherited`, the caller's own, and the content of the env files.
    ///
    /// # Errors
    /// An env file that cannot be read or parsed.
    pub(super) fn environment(&self, inherited: Variables) -> Result<Variables, LaunchError> {
        let mut vars = inherited;
        vars.extend(self.env.iter().map(|(k, v)| (k.into(), v.into())));
        for path in &self.env_files {
            let bytes = std::fs::read(path).map_err(|cause| LaunchError::Path {
                doing: "read env file",
                path: path.clone(),
                cause,
                remedy: "put it there, or take it out of `env_files`",
            })?;
            let more = env_file::parse(&bytes).map_err(|cause| LaunchError::EnvFile { path: path.clone(), cause })?;
            vars.extend(more);
        }
        // Last: left-overs are found by these, so no file may change them.
        vars.insert("CC_CI_LOOP".into(), self.name.as_str().into());
        vars.insert("CC_CI_EPOCH".into(), self.epoch.to_string().into());
        vars.insert("CC_CI_SOCKET".into(), self.socket.clone().into());
        vars.insert("CC_CI_CONFIG".into(), self.config.clone().into());
        Ok(vars)
    }
}

/// Becomes the agent. On return nothing was started.
///
/// # Errors
/// Every [`LaunchError`]; print it to stderr, which is the pane and the log.
pub fn run(name: &LoopName, epoch: u64, spec: &Path) -> Result<Infallible, LaunchError> {
    let bytes = std::fs::read(spec).map_err(|cause| LaunchError::Path {
        doing: "read launch spec",
        path: spec.to_owned(),
        cause,
        remedy: "this command is run by the supervisor only: use `supervisor start`",
    })?;
    let launch: LaunchSpec =
        serde_json::from_slice(&bytes).map_err(|cause| LaunchError::Spec { path: spec.to_owned(), cause })?;
    if launch.name != *name {
        return Err(LaunchError::OtherLoop { asked: name.clone(), found: launch.name });
    }
    if launch.epoch != epoch {
        return Err(LaunchError::Superseded { name: name.clone(), asked: epoch, found: launch.epoch });
    }
    let Some((program, args)) = launch.argv.split_first() else { return Err(LaunchError::NoProgram(name.clone())) };
    if let Err(e) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ) {
        // It runs as well without; only the choice of whom to kill is worse.
        eprintln!("supervisor: set oom_score_adj of `{name}` to {OOM_SCORE_ADJ}: {e}; it is started all the same");
    }
    join_cgroup(name)?;
    let environment = launch.environment(environment::allowed(std::env::vars_os()))?;
    std::env::set_current_dir(&launch.workdir).map_err(|cause| LaunchError::Path {
        doing: "enter workdir",
        path: launch.workdir.clone(),
        cause,
        remedy: "create it, or correct `workdir`",
    })?;
    // Here and not in the daemon: only here the agent's HOME is known, and the daemon waits for no lock.
    if let Err(e) = seeds::write(&launch.seeds, &environment) {
        // A dialog may wait for a person then, which an agent that does not come up is said to.
        eprintln!("supervisor: {e}; it is started all the same");
    }
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(&environment);
    // exec gives SIGPIPE, which Rust ignores, its default back; tmux has reset the others before it starts a pane, all but
    // SIGTTIN and SIGTTOU, which every program in a tmux pane has ignored.
    // Test: an_agent_gets_default_signals_and_nothing_beyond_the_allow_list.
    let cause = command.exec();
    Err(LaunchError::Exec { program: program.clone(), workdir: launch.workdir.clone(), cause })
}

/// Into the agent's own cgroup, where its session's unit has one for it.
fn join_cgroup(name: &LoopName) -> Result<(), LaunchError> {
    let failed = |cause| LaunchError::Cgroup { name: name.clone(), cause };
    let Some(unit) = Unit::of_server(process::own_pid()).map_err(failed)? else { return Ok(()) };
    for e in unit.join().map_err(failed)? {
        eprintln!("supervisor: memory limit of `{name}`: {e}; it is started all the same, with the limit of its unit");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn spec(dir: &Path) -> LaunchSpec {
        LaunchSpec {
            name: "builder".parse().unwrap(),
            epoch: 7,
            argv: vec!["/nonexistent/agent".into()],
            workdir: dir.to_owned(),
            env: vec![("A".into(), "spec".into()), ("CC_CI_LOOP".into(), "other".into())],
            env_files: vec![dir.join("env")],
            seeds: Vec::new(),
            socket: "/run/x/control.sock".into(),
            config: "/etc/x.toml".into(),
        }
    }

    #[test]
    fn a_spec_survives_the_file_and_only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = spec(dir.path()).write(dir.path()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(serde_json::from_slice::<LaunchSpec>(&std::fs::read(&path).unwrap()).unwrap(), spec(dir.path()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    fn env_files_win_over_the_spec_but_neither_changes_the_marker() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("env"), "A=file\nCC_CI_SOCKET=/evil\n").unwrap();
        let env = spec(dir.path()).environment(Variables::new()).unwrap();
        let get = |k: &str| env.get(OsStr::new(k)).unwrap().to_str().unwrap();
        assert_eq!((get("A"), get("CC_CI_LOOP"), get("CC_CI_EPOCH")), ("file", "builder", "7"));
        assert_eq!((get("CC_CI_SOCKET"), get("CC_CI_CONFIG")), ("/run/x/control.sock", "/etc/x.toml"));
    }

    #[test]
    fn an_env_file_that_is_wrong_is_named_with_its_line_and_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("env"), "A=1\nhunter2\n").unwrap();
        let err = spec(dir.path()).environment(Variables::new()).unwrap_err();
        let text = format!("{err} {err:?}");
        assert!(err.to_string().contains("/env:2`: the line has no `=`"), "{err}");
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(err.exit_code(), 2);
    }

    #[test]
    fn a_missing_env_file_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let err = spec(dir.path()).environment(Variables::new()).unwrap_err().to_string();
        assert!(err.starts_with("read env file `") && err.ends_with("take it out of `env_files`"), "{err}");
    }

    #[test]
    fn a_superseded_epoch_and_another_loop_start_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = spec(dir.path()).write(dir.path()).unwrap();
        let err = run(&"builder".parse().unwrap(), 6, &path).unwrap_err();
        assert_eq!(err.exit_code(), 75);
        assert!(err.to_string().contains("epoch 6 is superseded, the launch spec is of epoch 7"), "{err}");
        let err = run(&"adversary".parse().unwrap(), 7, &path).unwrap_err();
        assert!(matches!(err, LaunchError::OtherLoop { .. }));
    }

    #[test]
    fn the_panes_command_names_loop_epoch_and_spec() {
        let argv = spec(Path::new("/w")).command(Path::new("/bin/supervisor"), Path::new("/r/launch.json"));
        assert_eq!(argv, ["/bin/supervisor", "agent", "builder", "--epoch", "7", "--spec", "/r/launch.json"]);
    }
}
