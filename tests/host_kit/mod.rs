//! A real session host in a temporary folder, driven by the library as the daemon drives it. The two programs that run
//! inside it, `supervisor session` and `supervisor agent`, are this test binary run again: see [`reexecuted`].

#![allow(dead_code, reason = "each test binary uses a part")]

use cc_ci::supervisor::config::HostKind;
use cc_ci::supervisor::launch::{self, LaunchSpec};
use cc_ci::supervisor::leftovers::{Leftovers, Round};
use cc_ci::supervisor::names::LoopName;
use cc_ci::supervisor::session::{self, SessionSpec};
use cc_ci::supervisor::session_watch::{SessionEvent, SessionWatch};
use cc_ci::supervisor::tmux::{self, Call, Pane, Probe};
use cc_ci::support::child::{Finished, Task};
use cc_ci::support::clock::Now;
use cc_ci::support::process::{ProcId, open_pidfd, send};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Says to a re-executed test binary what it is to be.
const ROLE: &str = "CC_CI_TEST_ROLE";

/// Asks until it is told, for a minute at most; then shows what it saw last.
pub fn wait_for<T, D: Debug>(what: &str, mut ask: impl FnMut() -> Result<T, D>) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() > Duration::from_secs(60) => panic!("waited for {what}, saw {seen:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The body of each test binary's `reexecuted` test: nothing, unless this is a re-execution; then it does not return.
pub fn reexecuted() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split('\n').collect();
    let (error, code) = match words.as_slice() {
        ["session", name, runtime_dir, log] => {
            let (runtime_dir, log) = (runtime_dir.into(), log.into());
            let spec = SessionSpec { name: name.parse().unwrap(), runtime_dir, log, host: HostKind::Direct };
            (session::run(&spec).unwrap_err().to_string(), 2)
        }
        ["agent", name, epoch, spec] => {
            let error = launch::run(&name.parse().unwrap(), epoch.parse().unwrap(), Path::new(spec)).unwrap_err();
            (error.to_string(), error.exit_code())
        }
        other => panic!("no such role: {other:?}"),
    };
    eprintln!("supervisor: {error}");
    std::process::exit(code.into());
}

fn this_binary() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

pub struct Host {
    pub dir: tempfile::TempDir,
    pub name: LoopName,
    pub server: ProcId,
    pub watch: SessionWatch,
    child: Child,
}

impl Host {
    /// A host whose placeholder has come and gone.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// The same, with `more` done to the command that becomes the server.
    pub fn start_with(more: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name: LoopName = "builder".parse().unwrap();
        let mut watch = SessionWatch::new(&dir.path().join("run")).unwrap();
        let mut command = session_command(dir.path(), &name);
        more(&mut command);
        let mut child = session::spawn(command, &dir.path().join("host.log")).unwrap();
        let Some(server) = ProcId::of(cc_ci::support::process::pid_of(&child)).unwrap() else {
            panic!("the host ended: {:?} {}", child.wait(), read(&dir.path().join("host.log")));
        };
        let told = await_event(&mut watch);
        assert_eq!(told, [(name.clone(), SessionEvent::Appeared)], "host log: {}", read(&dir.path().join("host.log")));
        let host = Self { dir, name, server, watch, child };
        wait_for("the placeholder's end", || {
            session::remind_to_reap(server).unwrap();
            match host.try_probe() {
                Ok(probe) if probe.pane.as_ref().is_some_and(|p| p.status.is_some()) => Ok(()),
                other => Err(other),
            }
        });
        host
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn runtime_dir(&self) -> PathBuf {
        self.path("run")
    }

    pub fn socket(&self) -> PathBuf {
        session::socket(&self.runtime_dir(), &self.name)
    }

    pub fn control_socket(&self) -> PathBuf {
        self.path("run/control.sock")
    }

    pub fn log(&self) -> PathBuf {
        self.path("it's 100% #[the] log")
    }

    pub fn call(&self, call: &Call) -> Finished {
        let deadline = Now::read().plus(Duration::from_secs(60)).boot;
        let mut task = Task::spawn(call.command(&self.socket()), call.input.clone(), deadline).unwrap();
        loop {
            if let Some(done) = task.progress().unwrap() {
                return done;
            }
            if let Some(done) = task.kill_overdue(Now::read().boot).unwrap() {
                return done;
            }
            let fds = task.poll_fds();
            let mut fds: Vec<_> = fds.into_iter().map(|(fd, events)| PollFd::from_borrowed_fd(fd, events)).collect();
            rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap();
        }
    }

    pub fn try_probe(&self) -> Result<Probe, tmux::Failure> {
        tmux::read_probe(&self.call(&tmux::probe()))
    }

    pub fn pane(&self) -> Pane {
        self.try_probe().unwrap().pane.unwrap()
    }

    pub fn screen(&self) -> String {
        let mut call = tmux::probe();
        call.args = ["capture-pane", "-p", "-J", "-t", "%0"].map(Into::into).into();
        String::from_utf8(self.call(&call).stdout).unwrap()
    }

    pub fn spec(&self, epoch: u64, argv: &[&str]) -> LaunchSpec {
        LaunchSpec {
            name: self.name.clone(),
            epoch,
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            workdir: self.dir.path().to_owned(),
            env: Vec::new(),
            seeds: Vec::new(),
            env_files: Vec::new(),
            socket: self.control_socket(),
            config: self.path("supervisor.toml"),
        }
    }

    /// The pane's command, as `LaunchSpec::command` gives it for the real binary.
    pub fn agent_argv(&self, spec: &LaunchSpec) -> Vec<String> {
        let file = spec.write(&session::session_dir(&self.runtime_dir(), &self.name)).unwrap();
        let role = format!("{ROLE}=agent\n{}\n{}\n{}", spec.name, spec.epoch, file.display());
        ["env", &role, &this_binary(), "--exact", "reexecuted", "--nocapture"].map(str::to_owned).into()
    }

    pub fn respawn(&self, spec: &LaunchSpec) -> Result<i32, tmux::Failure> {
        let argv = self.agent_argv(spec);
        tmux::read_respawn(&self.call(&tmux::respawn(spec.epoch, &spec.workdir, &argv, None)))
    }

    /// Starts a shell script as the agent and waits until it has made the file `ready`.
    pub fn run(&self, epoch: u64, script: &str) -> ProcId {
        let _ = std::fs::remove_file(self.path("ready"));
        // A server that has answered may still have output of the last one to drain.
        let pid = wait_for("the pane to be free", || self.respawn(&self.spec(epoch, &["/bin/sh", "-c", script])));
        wait_for("the agent to be ready", || if self.path("ready").exists() { Ok(()) } else { Err(self.screen()) });
        ProcId::of(pid).unwrap().unwrap()
    }

    pub fn leftovers(&self) -> Leftovers<'_> {
        // One path for the life of a test.
        let control_socket: &'static Path = Box::leak(self.control_socket().into_boxed_path());
        Leftovers { name: &self.name, control_socket, server: Some(self.server), agent: None, marked: None }
    }

    /// Waits for its end, and for tmux to have reaped it.
    pub fn await_death(&self, agent: ProcId) -> Pane {
        await_end(agent);
        self.await_cause(agent.pid)
    }

    /// Waits until tmux tells why the process with this pid ended.
    pub fn await_cause(&self, pid: i32) -> Pane {
        wait_for("tmux to tell the cause", || {
            session::remind_to_reap(self.server).unwrap();
            let pane = self.pane();
            if pane.pid == pid && pane.status.or(pane.signal).is_some() { Ok(pane) } else { Err(pane) }
        })
    }

    pub fn kill_server(&mut self) {
        send(self.server, Signal::KILL).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = send(self.server, Signal::KILL);
        // Frozen by a test that failed or not: SIGKILL ends it.
        for with_server in [true, false] {
            let mut leftovers = self.leftovers();
            leftovers.server = leftovers.server.filter(|_| with_server);
            while leftovers.kill_round().is_ok_and(|round| !round.found.is_empty()) {}
        }
        let _ = self.child.wait();
    }
}

pub fn session_command(dir: &Path, name: &LoopName) -> Command {
    let mut command = Command::new(this_binary());
    let log = dir.join("it's 100% #[the] log");
    command.args(["--exact", "reexecuted", "--nocapture"]);
    command.env(ROLE, format!("session\n{name}\n{}\n{}", dir.join("run").display(), log.display()));
    command
}

pub fn await_event(watch: &mut SessionWatch) -> Vec<(LoopName, SessionEvent)> {
    wait_for("a socket event", || {
        let mut fds = [PollFd::new(&*watch, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap();
        let told = watch.read_events().unwrap();
        if told.is_empty() { Err("nothing") } else { Ok(told) }
    })
}

pub fn await_end(id: ProcId) {
    if let Some(pidfd) = open_pidfd(id).unwrap() {
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ready = rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).unwrap();
        assert_eq!(ready, 1, "{id} still runs");
    }
}

/// Rounds until one finds nothing, as the daemon does; what the first found.
pub fn until_none(mut round: impl FnMut() -> Round) -> Vec<ProcId> {
    let mut first = None;
    wait_for("a round that finds nothing", || {
        let round = round();
        assert_eq!(round.refused, []);
        first.get_or_insert_with(|| round.found.clone());
        if round.found.is_empty() { Ok(()) } else { Err(round.found) }
    });
    first.unwrap()
}

pub fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

pub fn pid_in(path: &Path) -> ProcId {
    wait_for("a pid in a file", || match read(path).trim().parse::<i32>() {
        Ok(pid) => Ok(ProcId::of(pid).unwrap().unwrap()),
        Err(e) => Err(e),
    })
}
