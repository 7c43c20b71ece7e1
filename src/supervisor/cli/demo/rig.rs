//! The real supervisor in the demo's folder, driven from outside as a person would, and the removal of all it started.

use super::step::{Broken, Interrupt};
use super::workspace::Workspace;
use crate::supervisor::core::view::{DaemonState, LoopView, StatusView};
use crate::supervisor::journal::Entry;
use crate::support::process::{ProcId, send, tree};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The loops of the demo's config.
pub const LOOPS: [&str; 3] = ["adversary", "builder", "orchestrator"];

/// For a supervisor that was told to end: it stops its loops, which have 2 s each at the same time.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A supervisor, running or not, and its workspace.
pub struct Rig {
    /// This program.
    pub supervisor: PathBuf,
    /// Where it works.
    pub workspace: Workspace,
    /// Looked at in every wait.
    pub interrupt: Interrupt,
    daemon: Option<Child>,
    /// Every process of which anything was said, so that its end can be seen.
    seen: BTreeSet<ProcId>,
}

impl Rig {
    /// Nothing runs yet.
    pub fn new(supervisor: PathBuf, workspace: Workspace, interrupt: Interrupt) -> Self {
        Self { supervisor, workspace, interrupt, daemon: None, seen: BTreeSet::new() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.supervisor);
        command.arg("--config").arg(self.workspace.config()).stdin(Stdio::null());
        // The demo may be run from inside a loop of somebody's real supervisor.
        for variable in ["CC_CI_LOOP", "CC_CI_EPOCH", "CC_CI_SOCKET", "CC_CI_CONFIG", "RESUME_PHASE", "JOURNAL_STREAM"]
        {
            command.env_remove(variable);
        }
        command.envs(super::workspace::GIT_ENV);
        // Ctrl-C in the terminal is for the demo, which then ends what it started in its order.
        command.process_group(0);
        command
    }

    /// `supervisor run`, as a child; its pid.
    pub fn run(&mut self) -> Result<i32, Broken> {
        let file = self.workspace.log();
        let failed = |e: io::Error| Broken::new(format!("starting `supervisor run`: {e}"));
        let log: File = OpenOptions::new().create(true).append(true).open(&file).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        let child = self.command().arg("run").stdout(log).stderr(errors).spawn().map_err(failed)?;
        let pid = crate::support::process::pid_of(&child);
        self.seen.extend(ProcId::of(pid).map_err(failed)?);
        self.daemon = Some(child);
        Ok(pid)
    }

    /// What a verb prints that answers at once.
    pub fn ask(&self, args: &[&str]) -> Result<String, Broken> {
        let done = self.command().args(args).output().map_err(|e| not_run(args, &e))?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        Err(failed(args, done.status, &done.stderr))
    }

    /// Runs a verb that takes its time, unless interrupted.
    pub fn order(&self, args: &[&str]) -> Result<(), Broken> {
        let mut command = self.command();
        let child = command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| not_run(args, &e))?;
        // What it says when it fails fits into the pipe, so it does not wait for us to read it.
        while child.try_wait().map_err(|e| not_run(args, &e))?.is_none() {
            if let Err(interrupted) = self.interrupt.check() {
                // If it has just ended by itself that is as good.
                let _ = child.kill().and_then(|()| child.wait());
                return Err(interrupted);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let done = child.wait_with_output().map_err(|e| not_run(args, &e))?;
        if done.status.success() { Ok(()) } else { Err(failed(args, done.status, &done.stderr)) }
    }

    /// `status --json`.
    pub fn status(&mut self) -> Result<StatusView, Broken> {
        let text = self.ask(&["status", "--json"])?;
        let status: StatusView = serde_json::from_str(&text)
            .map_err(|e| Broken::new(format!("reading what `supervisor status --json` printed: {e}")))?;
        for pid in status.loops.iter().flat_map(|l| [l.pid, l.server_pid]).flatten() {
            self.seen.extend(identify(pid)?);
        }
        Ok(status)
    }

    /// Waits until all loops are up and the rest of what is asked holds too; the loops in the order of [`LOOPS`].
    pub fn wait_up(
        &mut self,
        what: &str,
        also: impl Fn(&[LoopView]) -> bool,
    ) -> Result<(Vec<LoopView>, Duration), Broken> {
        let interrupt = self.interrupt.clone();
        interrupt.wait(what, Duration::from_secs(15), || {
            if let Some(ended) = self.daemon_ended()? {
                return Err(Broken::new(format!("`supervisor run` has ended: {ended}")));
            }
            let status = self.status()?;
            if status.daemon != DaemonState::Running {
                return Ok(None);
            }
            let loops = status.loops;
            let up = loops.len() == LOOPS.len() && loops.iter().all(|l| l.state == "up" && l.pid.is_some());
            Ok((up && also(&loops)).then_some(loops))
        })
    }

    /// The journal, oldest entry first.
    pub fn history(&self) -> Result<Vec<Entry>, Broken> {
        let text = self.ask(&["history", "--json", "-n", "1000"])?;
        text.lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .map_err(|e| Broken::new(format!("reading what `supervisor history --json` printed: {e}")))
    }

    /// The process that runs as `pid` now, noted for the removal.
    pub fn process(&mut self, pid: i32) -> Result<ProcId, Broken> {
        let id = identify(pid)?.ok_or_else(|| Broken::new(format!("there is no process {pid}")))?;
        self.seen.insert(id);
        Ok(id)
    }

    fn daemon_ended(&mut self) -> Result<Option<ExitStatus>, Broken> {
        let Some(child) = &mut self.daemon else { return Ok(None) };
        child.try_wait().map_err(|e| Broken::new(format!("looking after `supervisor run`: {e}")))
    }

    /// Whether there is a supervisor to be ended.
    pub fn runs(&self) -> bool {
        self.daemon.is_some()
    }

    /// SIGKILL to the supervisor itself, and to nothing else; the pid that it had.
    pub fn kill_daemon(&mut self) -> Result<i32, Broken> {
        let Some(mut child) = self.daemon.take() else { return Err(Broken::new("no supervisor runs")) };
        let killed = child.kill().and_then(|()| child.wait());
        killed.map_err(|e| Broken::new(format!("killing `supervisor run`: {e}")))?;
        Ok(crate::support::process::pid_of(&child))
    }

    /// SIGTERM to the supervisor, which stops its loops and ends.
    pub fn stop_daemon(&mut self) -> Result<ExitStatus, Broken> {
        let Some(child) = &self.daemon else { return Err(Broken::new("no supervisor runs")) };
        let failed = |e: io::Error| Broken::new(format!("ending `supervisor run`: {e}"));
        let pid = crate::support::process::pid_of(child);
        if let Some(id) = ProcId::of(pid).map_err(failed)? {
            send(id, Signal::TERM).map_err(failed)?;
        }
        let start = Instant::now();
        loop {
            if let Some(status) = self.daemon_ended()? {
                self.daemon = None;
                return Ok(status);
            }
            if start.elapsed() > ENDS_WITHIN {
                return Err(Broken::new(format!("pid {pid} did not end within {}s of SIGTERM", ENDS_WITHIN.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything of this demo that still runs: what was seen, what carries its marker, its tmux servers, and what is
    /// below any of these.
    pub fn remaining(&self) -> io::Result<BTreeSet<ProcId>> {
        let mut roots = BTreeSet::new();
        for id in &self.seen {
            if id.is_alive()? {
                roots.insert(*id);
            }
        }
        for name in LOOPS {
            roots.extend(tree::marked(name, &self.workspace.control_socket())?);
        }
        roots.extend(self.tmux_servers()?);
        let mut all = roots.clone();
        for root in roots {
            all.extend(tree::descendants(root.pid)?);
        }
        Ok(all)
    }

    /// A server that came up between the last look at the status and an interruption is known by its socket only.
    fn tmux_servers(&self) -> io::Result<Vec<ProcId>> {
        let sockets = self.workspace.root.join("run/session");
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let line = tree::cmdline(pid)?;
            let mut words = line.split(|b| *b == 0);
            let tmux = words.next().is_some_and(|program| program.ends_with(b"tmux"));
            if tmux && words.any(|word| word.starts_with(sockets.as_os_str().as_bytes())) {
                found.extend(ProcId::of(pid)?);
            }
        }
        Ok(found)
    }

    /// Ends everything that this demo started, by its pid. Says what would not end.
    pub fn remove_all(&mut self) -> Result<(), Broken> {
        // Not ended in time: the kill below does it.
        let _ = self.stop_daemon();
        // Reaps it; whether it was there to be killed is seen below.
        let _ = self.kill_daemon();
        let start = Instant::now();
        loop {
            let left = self.remaining().map_err(|e| Broken::new(format!("looking for what still runs: {e}")))?;
            if left.is_empty() {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(5) {
                let list: Vec<String> = left.iter().map(|id| id.pid.to_string()).collect();
                return Err(Broken::new(format!("these still run 5s after SIGKILL: {}", list.join(", "))));
            }
            for id in left {
                // One that has ended meanwhile, or may not be killed, is looked at again above.
                let _ = send(id, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Leaves everything running; the pid of the supervisor, if it runs.
    pub fn leave(&mut self) -> Option<i32> {
        self.daemon.take().map(|child| crate::support::process::pid_of(&child))
    }
}

fn not_run(args: &[&str], cause: &io::Error) -> Broken {
    Broken::new(format!("running `supervisor {}`: {cause}", args.join(" ")))
}

fn failed(args: &[&str], status: ExitStatus, said: &[u8]) -> Broken {
    Broken::new(format!("`supervisor {}`: {status}: {}", args.join(" "), String::from_utf8_lossy(said).trim()))
}

fn identify(pid: i32) -> Result<Option<ProcId>, Broken> {
    ProcId::of(pid).map_err(|e| Broken::new(format!("looking at process {pid}: {e}")))
}
