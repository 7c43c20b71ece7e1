//! `supervisor session NAME`: becomes the session host of one loop. Owns the layout of its folder and the command with
//! which the supervisor runs it in direct mode.

use super::config::HostKind;
use super::environment;
use super::names::LoopName;
use super::tmux;
use crate::support::private_file;
use crate::support::process::{Delivery, ProcId, send};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags};
use rustix::process::Signal;
use std::convert::Infallible;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The name of a session's socket in its folder.
pub const SOCKET: &str = "tmux.sock";

/// Held by the session's tmux server for as long as it lives, with its pid in it.
const LOCK: &str = "server.lock";

/// The longest path that a socket can have on Linux, in bytes, without the NUL.
const MAX_SOCKET_PATH: usize = 107;

/// The folder of all sessions.
pub fn sessions_dir(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("session")
}

/// The folder of one loop's session.
pub fn session_dir(runtime_dir: &Path, name: &LoopName) -> PathBuf {
    sessions_dir(runtime_dir).join(name.as_str())
}

/// The socket of one loop's tmux server.
pub fn socket(runtime_dir: &Path, name: &LoopName) -> PathBuf {
    session_dir(runtime_dir, name).join(SOCKET)
}

/// What a session host must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSpec {
    /// Whose.
    pub name: LoopName,
    /// Where its folder is made.
    pub runtime_dir: PathBuf,
    /// Where the pane's output goes.
    pub log: PathBuf,
    /// Who keeps the server.
    pub host: HostKind,
}

/// Why there is no session host.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The agents would have all rights.
    #[error("start session `{0}`: this is root; set `User=` in the unit, agents must not run as root")]
    Root(LoopName),
    /// Another server holds the loop.
    #[error(
        "start session `{name}`: a tmux server of this loop lives already ({how}); stop it first with `tmux -S {} \
         kill-server`", socket.display()
    )]
    Lives {
        /// Whose.
        name: LoopName,
        /// How it is known.
        how: &'static str,
        /// Its socket, there or not.
        socket: PathBuf,
    },
    /// The socket's path does not fit.
    #[error(
        "start session `{name}`: the socket path `{}` has {} bytes and {MAX_SOCKET_PATH} are the limit; choose a shorter \
         `runtime_dir`", socket.display(), socket.as_os_str().len()
    )]
    SocketPath {
        /// Whose.
        name: LoopName,
        /// Too long.
        socket: PathBuf,
    },
    /// A file or folder cannot be made.
    #[error("{doing} `{}`: {cause}; check that this user may write there", path.display())]
    Path {
        /// Begins the sentence.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The kernel refused what a session host needs.
    #[error("start session `{name}`: {doing}: {cause}; this needs Linux 5.4 or later")]
    System {
        /// Whose.
        name: LoopName,
        /// What was asked.
        doing: &'static str,
        /// Why not.
        cause: io::Error,
    },
    /// There is no tmux.
    #[error("start `tmux` for session `{name}`: {cause}; install tmux 3.3a or later and have it in PATH")]
    Tmux {
        /// Whose.
        name: LoopName,
        /// Why.
        cause: io::Error,
    },
}

/// Becomes the tmux server of `spec.name`. On return there is none.
///
/// # Errors
/// Every [`SessionError`].
pub fn run(spec: &SessionSpec) -> Result<Infallible, SessionError> {
    let name = &spec.name;
    if rustix::process::geteuid().is_root() {
        match spec.host {
            HostKind::Systemd => return Err(SessionError::Root(name.clone())),
            HostKind::Direct => eprintln!("supervisor: session `{name}` and its agents run as root; use another user"),
        }
    }
    let dir = session_dir(&spec.runtime_dir, name);
    let socket = dir.join(SOCKET);
    if socket.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(SessionError::SocketPath { name: name.clone(), socket });
    }
    let system = |doing| move |e: Errno| SessionError::System { name: name.clone(), doing, cause: e.into() };
    make_private_dir(&dir).map_err(|cause| SessionError::Path { doing: "create folder", path: dir.clone(), cause })?;
    let lock = claim(spec, &dir, &socket)?;
    let conf = dir.join("tmux.conf");
    private_file::write(&conf, &tmux::conf(name, &spec.log)).map_err(|cause| SessionError::Path {
        doing: "write",
        path: conf.clone(),
        cause,
    })?;
    make_log(&spec.log).map_err(|cause| SessionError::Path { doing: "create log", path: spec.log.clone(), cause })?;
    if spec.host == HostKind::Direct {
        leave_session(name);
    }
    // Double-forked children of the agent come to tmux instead of init, and are found below it. Lasts through exec.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(system("become subreaper"))?;
    // Whatever our own starter left open would be held for as long as this server lives, a lock or the end of a pipe
    // included (tried: tmux closes nothing for itself, only for its panes).
    close_fds::set_fds_cloexec_threadsafe(3, &[lock.as_raw_fd()]);

    let mut vars = environment::allowed(std::env::vars_os());
    // Unreadable: then what the environment says must do.
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    environment::complete(&mut vars, &passwd, rustix::process::geteuid().as_raw());
    let mut command = Command::new("tmux");
    command.args(["-D", "-S"]).arg(&socket).arg("-f").arg(&conf).env_clear().envs(&vars).current_dir("/");
    Err(SessionError::Tmux { name: name.clone(), cause: command.exec() })
}

/// Proves that no other server lives for this loop. The lock's descriptor is inherited by the tmux server and by nothing
/// else, since tmux closes it in its panes and pipes: it is held exactly as long as the server lives, with its socket or
/// without.
fn claim(spec: &SessionSpec, dir: &Path, socket: &Path) -> Result<File, SessionError> {
    let name = &spec.name;
    let lives = |how| SessionError::Lives { name: name.clone(), how, socket: socket.to_owned() };
    let path = dir.join(LOCK);
    let at = |cause| SessionError::Path { doing: "lock", path: path.clone(), cause };
    let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(at)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            call_back(&path, socket);
            return Err(lives("it holds `server.lock`"));
        }
        Err(e) => return Err(at(e.into())),
    }
    rustix::io::fcntl_setfd(&lock, FdFlags::empty()).map_err(|e| at(e.into()))?;
    // This process becomes the server. Only for `call_back`: without it a server whose socket is gone is not found.
    if let Err(e) = lock.set_len(0).and_then(|()| writeln!(&lock, "{}", std::process::id())) {
        eprintln!("supervisor: writing the pid to `{}`: {e}", path.display());
    }
    // One that was started without us has no lock. A socket that nobody listens on is what a killed server leaves.
    match UnixStream::connect(socket) {
        Ok(_) => Err(lives("it answers on its socket")),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(lock),
        Err(cause) => Err(SessionError::Path { doing: "look for a server at", path: socket.to_owned(), cause }),
    }
}

/// The pid of the tmux server of a session, as it wrote it when it began. It may have ended since.
pub fn last_server(runtime_dir: &Path, name: &LoopName) -> Option<i32> {
    locked_by(&session_dir(runtime_dir, name).join(LOCK))
}

/// What cannot be read names nobody.
fn locked_by(lock: &Path) -> Option<i32> {
    std::fs::read_to_string(lock).ok()?.trim().parse().ok()
}

/// Has the living server make its socket again, in case it was removed and nobody knows the server any more but its lock:
/// the supervisor finds it by the socket. One that was left stopped goes on; while loops are frozen no session starts.
fn call_back(lock: &Path, socket: &Path) {
    let Some(server) = locked_by(lock).and_then(|pid| ProcId::of(pid).ok().flatten()) else { return };
    // The pid may be somebody else's by now; only a server of this socket has it in its argv.
    let argv = std::fs::read(format!("/proc/{}/cmdline", server.pid)).unwrap_or_default();
    if argv.split(|b| *b == 0).any(|arg| arg == socket.as_os_str().as_bytes()) {
        for signal in [Signal::CONT, Signal::USR1] {
            if let Err(e) = send(server, signal) {
                eprintln!("supervisor: {signal:?} to the tmux server {}: {e}", server.pid);
            }
        }
    }
}

fn leave_session(name: &LoopName) {
    if let Err(e) = rustix::process::setsid() {
        // Somebody ran this by hand: it works, but dies with the terminal.
        eprintln!("supervisor: session `{name}` stays in its starter's terminal session: {e}");
    }
}

fn make_log(log: &Path) -> io::Result<()> {
    if let Some(folder) = log.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o640).open(log).map(drop)
}

/// Makes a folder and its parents for this user and, to look at, its group.
///
/// # Errors
/// When it cannot be made; that it is there already is fine.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(dir)
        .map_err(|e| io::Error::new(e.kind(), format!("create folder `{}`: {e}", dir.display())))
}

/// The name of [`missed_events`].
pub const MISSED_EVENTS: &str = "missed-events.jsonl";

/// Where `supervisor event` leaves what no supervisor was there to hear, or none in time; read at once, or by the next one
/// when it begins. A line of JSON each: `{"epoch":7,"event":…}`. Whoever writes or empties it has it locked (flock).
pub fn missed_events(runtime_dir: &Path, name: &LoopName) -> PathBuf {
    session_dir(runtime_dir, name).join(MISSED_EVENTS)
}

/// Tells the tmux server `server` to look for children that ended. Call it when an agent's pidfd fired, before each probe
/// for the cause, and before a respawn that follows: a tmux with utempter (Debian's) loses the SIGCHLD of a process that
/// ends while it runs the utempter helper, and then the cause never comes (tried: about one death in a hundred).
///
/// # Errors
/// When the kernel refuses.
pub fn remind_to_reap(server: ProcId) -> io::Result<Delivery> {
    send(server, Signal::CHILD)
}

/// The command of a session host: `supervisor session NAME --runtime-dir D --log F --host KIND`.
pub fn command(supervisor: &Path, spec: &SessionSpec) -> Command {
    let mut command = Command::new(supervisor);
    command.args(["session", spec.name.as_str(), "--runtime-dir"]).arg(&spec.runtime_dir).arg("--log").arg(&spec.log);
    command.args([
        "--host",
        match spec.host {
            HostKind::Systemd => "systemd",
            HostKind::Direct => "direct",
        },
    ]);
    command
}

/// Runs `command` as a child of the daemon, in direct mode: nothing on stdin, what it says (it and tmux say something
/// only when they fail) to `host_log`, anew each time. Watch its pidfd and reap it. Not in a process group of its own:
/// it makes a session of its own, which a group's leader cannot.
///
/// # Errors
/// When the log cannot be made or the program not be started.
pub fn spawn(mut command: Command, host_log: &Path) -> io::Result<Child> {
    let at = |e: io::Error| io::Error::new(e.kind(), format!("create log `{}`: {e}", host_log.display()));
    if let Some(folder) = host_log.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(at)?;
    }
    let log = OpenOptions::new().create(true).write(true).truncate(true).mode(0o640).open(host_log).map_err(at)?;
    let errors = log.try_clone().map_err(at)?;
    command.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir("/");
    command.spawn().map_err(|e| {
        let program = command.get_program().to_string_lossy();
        io::Error::new(e.kind(), format!("start session host `{program}`: {e}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_that_does_not_fit_is_told_with_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let spec = SessionSpec {
            name: "builder".parse().unwrap(),
            runtime_dir: dir.path().join("r".repeat(90)),
            log: dir.path().join("log"),
            host: HostKind::Direct,
        };
        let err = run(&spec).unwrap_err().to_string();
        assert!(err.contains(" bytes and 107 are the limit; choose a shorter `runtime_dir`"), "{err}");
    }

    #[test]
    fn the_hosts_command_says_where_and_how() {
        let spec = SessionSpec {
            name: "builder".parse().unwrap(),
            runtime_dir: "/run/x".into(),
            log: "/var/x/builder.log".into(),
            host: HostKind::Direct,
        };
        let command = command(Path::new("/bin/supervisor"), &spec);
        let args: Vec<_> = command.get_args().map(|a| a.to_str().unwrap()).collect();
        let want = "session builder --runtime-dir /run/x --log /var/x/builder.log --host direct";
        assert_eq!(args.join(" "), want);
    }
}
