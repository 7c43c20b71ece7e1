//! A laboratory: the real `supervisor` binary with real tmux servers, in a temporary folder of its own. Writes configs,
//! starts, kills and asks the daemon, waits for what is to come, and ends every process that came of it.

#![allow(dead_code, clippy::unwrap_used, reason = "a test kit, of which each test binary uses a part")]
#![allow(clippy::result_large_err, reason = "what was seen last is shown whole when a wait fails")]

pub mod evidence;
pub mod reaper;
pub mod script;
pub mod unit;

use cc_ci::supervisor::control::protocol::{Call, Request, Response, Which};
use cc_ci::supervisor::core::view::{LoopView, StatusView};
use cc_ci::supervisor::names::LoopName;
use cc_ci::support::process::{ProcId, send};
use rustix::process::Signal;
use serde_json::Value;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes this long; a machine with two busy cores is given time.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at what cannot be awaited.
const LOOK: Duration = Duration::from_millis(10);

/// How a daemon is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// More arguments of `run`.
    pub args: Vec<String>,
    /// More variables of its environment.
    pub env: Vec<(String, String)>,
    /// What runs it: a program and its arguments, which ends in becoming the supervisor.
    pub by: Vec<String>,
}

/// The one place that knows how `run` is called.
fn run_command(config: &Path, options: &Options) -> Command {
    let mut argv = options.by.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_supervisor")]);
    let mut command = Command::new(argv.next().unwrap());
    command.args(argv).args(["run", "--config"]).arg(config).args(&options.args);
    command
}

/// An agent that runs, as the supervisor and the agent itself say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agent {
    pub epoch: u64,
    pub id: ProcId,
    pub server: i32,
}

impl Agent {
    pub fn signal(&self, signal: Signal) {
        send(self.id, signal).unwrap();
    }

    pub fn is_alive(&self) -> bool {
        self.id.is_alive().unwrap()
    }
}

pub struct Lab {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
    pub options: Options,
    /// Where the state is, when not in the folder itself.
    pub state: PathBuf,
}

impl Lab {
    /// A folder with the scripts that agents are, and a config with these tables; `@dir@` in it becomes the folder.
    pub fn new(tables: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("cc").tempdir().unwrap();
        let state = dir.path().join("state");
        let lab = Self { dir, daemon: None, options: Options::default(), state };
        for folder in ["ws/plans", "home"] {
            fs::create_dir_all(lab.path(folder)).unwrap();
        }
        for plan in 0..4 {
            fs::write(lab.path(&format!("ws/plans/{plan}.md")), "do it\n").unwrap();
        }
        script::write_all(lab.dir.path());
        lab.configure(tables);
        lab
    }

    /// The same, with the daemon running.
    pub fn start_with(tables: &str) -> Self {
        let mut lab = Self::new(tables);
        lab.start();
        lab
    }

    /// Writes the config anew.
    pub fn configure(&self, tables: &str) {
        let head = "workspace = \"@dir@/ws\"\nstate_dir = \"@state@\"\nruntime_dir = \"@dir@/run\"\n\
                    notify = [\"@dir@/notify.sh\"]\n";
        let stagger = if tables.contains("start_stagger") { "" } else { "start_stagger = \"0s\"\n" };
        self.write_config(&format!("{head}{stagger}{tables}"));
    }

    /// Writes the whole config.
    pub fn write_config(&self, text: &str) {
        let text = text.replace("@dir@", self.dir.path().to_str().unwrap());
        fs::write(self.config(), text.replace("@state@", self.state.to_str().unwrap())).unwrap();
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn config(&self) -> PathBuf {
        self.path("supervisor.toml")
    }

    pub fn state(&self, file: &str) -> PathBuf {
        self.state.join(file)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/control.sock")
    }

    pub fn tmux_socket(&self, name: &str) -> PathBuf {
        self.path(&format!("run/session/{name}/tmux.sock"))
    }

    fn spawn(&self) -> Child {
        let stderr = OpenOptions::new().create(true).append(true).open(self.path("stderr")).unwrap();
        let mut command = run_command(&self.config(), &self.options);
        command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", self.path("home"));
        command.env("LC_ALL", "C").envs(self.options.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).current_dir(self.dir.path());
        command.spawn().unwrap()
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        self.spawn_only();
        self.answers();
    }

    /// Starts the daemon and waits for nothing.
    pub fn spawn_only(&mut self) {
        assert!(self.daemon.is_none(), "it runs already");
        self.daemon = Some(self.spawn());
    }

    /// Waits until the daemon answers.
    pub fn answers(&mut self) {
        let begun = Instant::now();
        while self.try_status().is_err() {
            if let Some(status) = self.daemon.as_mut().unwrap().try_wait().unwrap() {
                panic!("the daemon ended: {status}");
            }
            assert!(begun.elapsed() < DEADLINE, "the daemon does not answer");
            std::thread::sleep(LOOK);
        }
    }

    /// Runs the daemon where it is expected to refuse; its exit code and what it said.
    pub fn refused(&self) -> (i32, String) {
        let before = fs::metadata(self.path("stderr")).map_or(0, |m| m.len() as usize);
        let mut child = self.spawn();
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                let said = fs::read(self.path("stderr")).unwrap();
                return (status.code().unwrap_or(-1), String::from_utf8_lossy(&said[before..]).into_owned());
            }
            if begun.elapsed() > DEADLINE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it runs, and should have refused");
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Runs another verb of the binary as the operator; its exit code and all that it said.
    pub fn cli(&self, args: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
        command.args(args).arg("--config").arg(self.config()).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", self.path("home"));
        let out = command.current_dir(self.dir.path()).output().unwrap();
        let said = [out.stdout, out.stderr].concat();
        (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
    }

    pub fn daemon_pid(&self) -> i32 {
        i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap()
    }

    pub fn has_daemon(&self) -> bool {
        self.daemon.is_some()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Sends a signal and waits for the end.
    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.daemon.as_mut().unwrap().try_wait().unwrap() {
                self.daemon = None;
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "the daemon does not end");
            std::thread::sleep(LOOK);
        }
    }

    pub fn signal(&self, signal: Signal) {
        let id = ProcId::of(self.daemon_pid()).unwrap().unwrap();
        send(id, signal).unwrap();
    }

    /// SIGKILL and a new one.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.start();
    }

    pub fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(stream)
    }

    pub fn try_call(&self, request: Request) -> io::Result<Response> {
        self.try_call_from(None, request)
    }

    pub fn try_call_from(&self, from: Option<&str>, request: Request) -> io::Result<Response> {
        let mut stream = self.connect()?;
        let call = Call { from: from.map(|name| name.parse().unwrap()), epoch: None, request };
        stream.write_all(format!("{}\n", serde_json::to_string(&call)?).as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    /// What it answers.
    pub fn call(&self, request: Request) -> Response {
        self.try_call(request.clone()).unwrap_or_else(|e| panic!("{request:?}: {e}"))
    }

    /// Asks for what must be done.
    pub fn done(&self, request: Request) -> Vec<String> {
        match self.call(request.clone()) {
            Response::Done { lines } => lines,
            Response::Phase(view) => vec![view.text()],
            Response::Gate(view) => vec![view.text()],
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// Asks for what must be refused; why.
    pub fn not_done(&self, request: Request) -> String {
        match self.call(request.clone()) {
            Response::Refused { message, .. } => message,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// An event of an agent, as `supervisor event --loop NAME` brings it.
    pub fn event(&self, name: &str, event: Value) {
        let answer = self.try_call_from(Some(name), Request::Event { event }).unwrap();
        assert!(matches!(answer, Response::Done { .. }), "{answer:?}");
    }

    pub fn try_status(&self) -> io::Result<StatusView> {
        match self.try_call(Request::Status)? {
            Response::Status(status) => Ok(*status),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    pub fn status(&self) -> StatusView {
        self.try_status().unwrap()
    }

    pub fn view(&self, name: &str) -> LoopView {
        self.status().loops.into_iter().find(|l| l.name.as_str() == name).unwrap()
    }

    /// Asks until it is told; else says what it saw last. What the daemon thinks is shown as the test ends.
    #[track_caller]
    pub fn wait_for<T, D: Debug>(&self, what: &str, ask: impl FnMut() -> Result<T, D>) -> T {
        wait_for(DEADLINE, what, ask)
    }

    /// Waits until the loop runs, and its agent has said so itself.
    #[track_caller]
    pub fn running(&self, name: &str) -> Agent {
        self.running_after(name, 0)
    }

    /// The same, of a later epoch than this.
    #[track_caller]
    pub fn running_after(&self, name: &str, epoch: u64) -> Agent {
        self.wait_for(&format!("{name} to run after epoch {epoch}"), || {
            let view = match self.try_status() {
                Ok(status) => status.loops.into_iter().find(|l| l.name.as_str() == name).unwrap(),
                Err(e) => return Err(format!("{e}")),
            };
            let (Some(pid), Some(server)) = (view.pid, view.server_pid) else { return Err(format!("{view:?}")) };
            let said = self.starts(name).last().is_some_and(|last| *last == (view.epoch, pid));
            match ProcId::of(pid).unwrap() {
                Some(id) if view.state == "up" && view.epoch > epoch && said => {
                    Ok(Agent { epoch: view.epoch, id, server })
                }
                _ => Err(format!("{view:?}, starts {:?}", self.starts(name))),
            }
        })
    }

    /// Waits until the loop is held, and its first hold says this.
    #[track_caller]
    pub fn held(&self, name: &str, what: &str) -> LoopView {
        self.wait_for(&format!("{name} to be held: {what}"), || {
            let view = self.view(name);
            let held = view.state == "held" && view.holds.iter().any(|hold| hold.what.contains(what));
            if held { Ok(view) } else { Err(Box::new(view)) }
        })
    }
}

/// One loop, as requests name it.
pub fn only(name: &str) -> Which {
    Which::Loops(vec![loop_name(name)])
}

pub fn loop_name(name: &str) -> LoopName {
    name.parse().unwrap()
}

/// Asks until it is told; else says what it saw last.
#[track_caller]
pub fn wait_for<T, D: Debug>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Result<T, D>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(found) => return found,
            Err(seen) if begun.elapsed() > deadline => panic!("waited for {what}; saw last: {seen:?}"),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

/// `Ok` when it holds.
pub fn when(holds: bool, else_seen: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(else_seen.into()) }
}

/// A file's text; empty when there is none.
pub fn read(path: &Path) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

pub fn append(path: &Path, bytes: &[u8]) {
    File::options().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// Whether it ended by this signal or by itself with 0.
pub fn ended_well(status: ExitStatus) -> bool {
    status.success() && status.signal().is_none()
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        if let Some(daemon) = self.daemon.take() {
            reaper::end_daemon(daemon);
        }
        reaper::end_all(self.dir.path());
    }
}
