//! A laboratory for the proxy: the real `proxy-shim` in a temporary folder of its own, destinations on loopback, real
//! clients. Ends every process that it started.

#![allow(dead_code, clippy::unwrap_used, reason = "a test kit, of which each test binary uses a part")]

use cc_ci::proxy::state::StatusView;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Nothing here takes this long; a machine with two busy cores is given time.
pub const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);
pub const SHIM: &str = env!("CARGO_BIN_EXE_proxy-shim");

/// A running shim, and whatever else a test starts.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub port: u16,
    shim: Option<Child>,
    others: Vec<Child>,
}

/// A port at which nothing listens, and which nobody is given by chance: a socket that never listens keeps it until this
/// process ends. Whoever says SO_REUSEADDR, as std and every server here does, can still listen there.
pub fn free_port() -> u16 {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    std::mem::forget(socket);
    address.port()
}

impl Lab {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ps").tempdir().unwrap();
        Self { dir, port: free_port(), shim: None, others: Vec::new() }
    }

    /// With a direct way out, running.
    pub fn direct() -> Self {
        Self::with("upstream = \"direct\"\n")
    }

    /// With that config, running.
    pub fn with(config: &str) -> Self {
        let mut lab = Self::new();
        lab.configure(config);
        lab.start();
        lab
    }

    /// Writes the config; `listen` and `runtime_dir` are the lab's.
    pub fn configure(&self, config: &str) {
        let dir = self.dir.path().display();
        let head = format!("listen = \"127.0.0.1:{}\"\nruntime_dir = \"{dir}/run\"\n", self.port);
        fs::write(self.config(), head + &config.replace("@dir@", &dir.to_string())).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.path("proxy-shim.toml")
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(SHIM);
        command.args(args).env_remove("CC_CI_PROXY_CONFIG").env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        command
    }

    /// `run`, with its log in the file `log`.
    pub fn run_command(&self) -> Command {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(&["run", "--config"]);
        command.arg(self.config()).stdout(Stdio::null()).stderr(log);
        command
    }

    pub fn start(&mut self) {
        self.spawn(self.run_command());
        self.wait_for("it to answer", || self.try_status());
    }

    pub fn spawn(&mut self, mut command: Command) {
        assert!(self.shim.is_none());
        self.shim = Some(command.spawn().unwrap());
    }

    /// Another process, ended with the lab.
    pub fn also(&mut self, mut command: Command) -> usize {
        self.others.push(command.spawn().unwrap());
        self.others.len() - 1
    }

    pub fn other_pid(&self, other: usize) -> i32 {
        i32::try_from(self.others[other].id()).unwrap()
    }

    /// SIGKILL for one of the others.
    pub fn kill(&mut self, other: usize) {
        self.others[other].kill().unwrap();
        self.others[other].wait().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.shim.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.shim.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM; its exit code.
    pub fn end(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        let mut shim = self.shim.take().unwrap();
        self.wait_for("its end", || shim.try_wait().unwrap().ok_or("it runs")).code()
    }

    /// SIGKILL.
    pub fn crash(&mut self) {
        let mut shim = self.shim.take().unwrap();
        shim.kill().unwrap();
        shim.wait().unwrap();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub fn try_status(&self) -> Result<StatusView, String> {
        cc_ci::proxy::control::status(&self.path("run"), Duration::from_secs(5)).map_err(|e| e.to_string())
    }

    pub fn status(&self) -> StatusView {
        self.wait_for("its status", || self.try_status())
    }

    /// Another verb; its exit code and all that it said.
    pub fn cli(&self, args: &[&str]) -> (i32, String) {
        let out = self.command(args).arg("--config").arg(self.config()).output().unwrap();
        (out.status.code().unwrap_or(-1), said(&out))
    }

    /// `check` until it says the right thing: it gives each link three seconds, which a busy machine may not.
    #[track_caller]
    pub fn check(&self, more: &[&str], right: impl Fn(&(i32, String)) -> bool) {
        let check = || match self.cli(&[&["check"], more].concat()) {
            said if right(&said) => Ok(()),
            said => Err(said),
        };
        self.wait_for("`check` to say the right thing", check);
    }

    /// `connect` to that port of loopback, with this on its stdin.
    pub fn connect(&self, args: &[&str], port: u16, input: &[u8]) -> Output {
        let proxy = self.address().to_string();
        let mut command = self.command(&["connect", "--proxy", &proxy]);
        feed(command.args(args).args(["127.0.0.1", &port.to_string()]), input)
    }

    #[track_caller]
    pub fn wait_for<T, D: Debug>(&self, what: &str, mut ask: impl FnMut() -> Result<T, D>) -> T {
        let begun = Instant::now();
        loop {
            match ask() {
                Ok(found) => return found,
                Err(seen) if begun.elapsed() > DEADLINE => {
                    panic!("waited for {what}; saw last: {seen:?}; its log:\n{}", self.log())
                }
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    /// A connection through the shim by SOCKS5, with what the shim answered.
    pub fn socks(&self, port: u16) -> TcpStream {
        let mut stream = self.raw();
        let [high, low] = port.to_be_bytes();
        stream.write_all(&[5, 1, 0]).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer[..2]).unwrap();
        stream.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, high, low]).unwrap();
        stream.read_exact(&mut answer[2..]).unwrap();
        assert_eq!(answer[..4], [5, 0, 5, 0], "{answer:?}; its log:\n{}", self.log());
        stream
    }

    /// A connection to the shim.
    pub fn raw(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Open descriptors of the shim.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Memory of the shim that no other process has, in KiB.
    pub fn memory(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for mut child in self.shim.take().into_iter().chain(self.others.drain(..)) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn said(out: &Output) -> String {
    String::from_utf8_lossy(&[out.stdout.as_slice(), &out.stderr].concat()).into_owned()
}

/// Runs to its end with this on stdin, which then ends.
pub fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end before it has read all.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    out
}

/// Whether that program is there; else a line that says that it is not.
pub fn has(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(program).is_file());
    if !found {
        eprintln!("skipped: `{program}` is not installed");
    }
    found
}

/// A name of which no resolver asks anybody, since none can be that long: whatever the machine's name servers do, it is
/// unknown at once.
pub fn no_name() -> String {
    format!("{}.example", "n".repeat(64))
}

/// A destination on loopback: each connection goes to `serve`, in a thread of its own.
pub fn destination(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    port
}

/// Sends back what it gets, and its end.
pub fn echo() -> u16 {
    destination(|mut stream| {
        let mut copy = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut copy, &mut stream);
        let _ = stream.shutdown(Shutdown::Write);
    })
}

/// Says something to an echo. (Without ending: microsocks would drop the answer.)
pub fn say(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, text);
}

/// A client that says something to the echo as soon as it is connected; it asks at once, and may wait for the answer.
pub fn client(lab: &Lab, echo: u16, text: &[u8]) -> JoinHandle<()> {
    let mut stream = lab.raw();
    let [high, low] = echo.to_be_bytes();
    let text = text.to_vec();
    meanwhile(move || {
        stream.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, high, low]).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..4], [5, 0, 5, 0]);
        say(&mut stream, &text);
    })
}

/// Answers only when the whole request has come and ended, with its length and `size` more bytes.
pub fn answers_after_the_end(size: usize) -> u16 {
    destination(move |mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(format!("{} ", request.len()).as_bytes()).unwrap();
        stream.write_all(&pattern(size)).unwrap();
    })
}

/// Bytes that differ from one place to another.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

/// Runs it in a thread.
pub fn meanwhile<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(work)
}

pub fn microsocks(port: u16) -> Command {
    let mut command = Command::new("microsocks");
    command.args(["-i", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
