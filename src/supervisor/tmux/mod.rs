//! What is said to a session host's tmux and how its answers are read. Pure: it starts no process; the daemon runs each [`Call`] as a `support::child::Task`. Only what tmux 3.3a and 3.5a both have is used.

mod conf;
mod quote;

pub use conf::{DETACH_KEY, conf};

use super::names::LoopName;
use crate::support::child::{End, Finished};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The pane of a session: the first and only one of its server. Never the session's name, which could be renamed.
pub const PANE: &str = "%0";

/// Names the process that writes a loop's log, so that it is told from the agent's processes.
pub const PIPE_VAR: &str = "CC_CI_PIPE";

/// The most of a text in one `send-keys`, in bytes.
const CHUNK: usize = 500;

/// Between a nudge's text and its Enter, in seconds: an agent that gets both in one read takes the whole as a paste,
/// with a line break in it that sends nothing.
const BEFORE_ENTER: &str = "0.2";

/// One call of the tmux client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The commands, after the options that say which server.
    pub args: Vec<OsString>,
    /// What it gets on stdin.
    pub input: Option<Vec<u8>>,
}

impl Call {
    fn new(args: &[&str]) -> Self {
        Self { args: args.iter().map(OsString::from).collect(), input: None }
    }

    /// The client that says this to the server at `socket`. It starts no server, reads no config, and has nothing in
    /// its environment but what it needs.
    pub fn command(&self, socket: &Path) -> Command {
        let mut command = client(socket);
        command.args(&self.args);
        command
    }
}

/// A tmux client for the server at `socket`, without a command yet.
pub fn client(socket: &Path) -> Command {
    // Found here: with a bare name and a PATH of its own, the standard library forks the daemon instead of letting the
    // child borrow its memory until the exec, and tries each folder with an exec.
    let mut command = Command::new(find("tmux").unwrap_or_else(|| "tmux".into()));
    command.env_clear().env("LC_CTYPE", "C.UTF-8").current_dir("/");
    // Where `tmux` itself is found.
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.args(["-N", "-u", "-f", "/dev/null", "-S"]).arg(socket);
    command
}

/// Where PATH has this program. Looked for each time: an update may move it.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // A relative folder would be looked for from another one once the child has changed to its own.
    let mut candidates = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(program));
    // What cannot be looked at is passed over, as exec does.
    let runs = |file: &PathBuf| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok();
    candidates.find(runs)
}

/// Why tmux did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody listens on the socket.
    #[error("no tmux server answers on the socket")]
    NoServer,
    /// There is a server, but no pane `%0`.
    #[error("the tmux server has no pane {PANE}")]
    NoPane,
    /// Something runs in the pane, or its output is not drained yet.
    #[error("the pane is still active")]
    StillActive,
    /// Nothing runs in the pane, so nothing can be typed into it or piped from it.
    #[error("nothing runs in the pane")]
    NothingRuns,
    /// The client was killed at its deadline.
    #[error("the tmux server did not answer in time")]
    Overdue,
    /// Anything else, in tmux's words.
    #[error("tmux: {0}")]
    Other(String),
}

/// What runs behind a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The server's pid.
    pub server: i32,
    /// How many windows it has; one is right.
    pub windows: usize,
    /// How many panes it has; one is right.
    pub panes: usize,
    /// Pane `%0`, if it is there.
    pub pane: Option<Pane>,
}

/// What tmux knows of pane `%0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pane {
    /// The process that was started in it last, dead or alive.
    pub pid: i32,
    /// Its exit status, once tmux has reaped it and it exited.
    pub status: Option<i32>,
    /// The signal that ended it, once tmux has reaped it and it was killed.
    pub signal: Option<i32>,
    /// Whether its output goes to the log.
    pub pipe: Pipe,
    /// The epoch of the agent that was started in it last; `None` while it is the placeholder.
    pub epoch: Option<u64>,
    /// Whether its keys reach the agent.
    pub keys: Keys,
}

/// Whether a pane's output goes to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// It does.
    Open,
    /// It does not: never asked for, or the pipe's process ended (a full disk does that).
    Closed,
}

/// Where a pane's keys go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// To the agent.
    Agent,
    /// To a mode of tmux, such as copy-mode.
    Mode,
}

/// Asks for everything that adoption and a death need, in one call. Also what is called after a death, until `status`
/// or `signal` is there; before each such call, `session::remind_to_reap`.
pub fn probe() -> Call {
    Call::new(&[
        "display-message",
        "-p",
        "server #{pid}",
        ";",
        "list-panes",
        "-a",
        "-F",
        "pane #{pane_id} #{window_id} #{pane_pid} s#{pane_dead_status} k#{pane_dead_signal} #{pane_pipe} e#{@epoch} \
         #{pane_in_mode}",
    ])
}

/// Reads the answer to [`probe`].
///
/// # Errors
/// [`Failure::NoServer`], [`Failure::Overdue`], or [`Failure::Other`] with an answer that makes no sense; a server
/// without a pane is no error.
pub fn read_probe(answer: &Finished) -> Result<Probe, Failure> {
    let failure = failure(answer);
    // With no session left, list-panes fails, yet the server has answered.
    if !matches!(failure, None | Some(Failure::NoPane)) {
        return Err(failure.unwrap_or(Failure::NoServer));
    }
    let text = String::from_utf8_lossy(&answer.stdout);
    let odd = || Failure::Other(format!("unexpected answer `{}`", text.trim()));
    let mut lines = text.lines();
    let server = lines.next().and_then(|l| l.strip_prefix("server ")?.parse().ok()).ok_or_else(odd)?;
    let (mut windows, mut panes, mut pane) = (BTreeSet::new(), BTreeSet::new(), None);
    for line in lines {
        let fields: Vec<&str> = line.split(' ').collect();
        let ["pane", id, window, rest @ ..] = fields.as_slice() else { return Err(odd()) };
        windows.insert((*window).to_owned());
        panes.insert((*id).to_owned());
        if *id == PANE {
            pane = Some(read_pane(rest).ok_or_else(odd)?);
        }
    }
    Ok(Probe { server, windows: windows.len(), panes: panes.len(), pane })
}

fn read_pane(fields: &[&str]) -> Option<Pane> {
    let [pid, status, signal, pipe, epoch, mode] = fields else { return None };
    Some(Pane {
        pid: pid.parse().ok()?,
        status: empty_or(status.strip_prefix('s')?)?,
        signal: empty_or(signal.strip_prefix('k')?)?,
        pipe: if *pipe == "1" { Pipe::Open } else { Pipe::Closed },
        epoch: empty_or(epoch.strip_prefix('e')?)?,
        keys: if *mode == "0" || mode.is_empty() { Keys::Agent } else { Keys::Mode },
    })
}

/// `Some(None)` for an empty field, `None` for one that is no number.
fn empty_or<T: std::str::FromStr>(field: &str) -> Option<Option<T>> {
    if field.is_empty() { Some(None) } else { field.parse().ok().map(Some) }
}

/// Starts `argv` in the pane and marks it with the epoch; tmux refuses while anything runs there. With `pipe`, the
/// loop's name and log, the pane's output is piped anew: last, since tmux pipes no dead pane, yet before it reads the
/// first of the output, since it does so only between calls.
///
/// tmux starts the pane in `/` if it cannot enter `workdir`; `supervisor agent` enters it again and says so if it fails.
pub fn respawn(epoch: u64, workdir: &Path, argv: &[String], pipe: Option<(&LoopName, &Path)>) -> Call {
    let mut call = Call::new(&["respawn-pane", "-t", PANE, "-c"]);
    call.args.push(quote::arg(&OsString::from_vec(quote::format(workdir.as_os_str().as_bytes()))));
    call.args.push("--".into());
    if argv.len() == 1 {
        // A single argument would be run by a shell, which hides the signal that ends the agent.
        call.args.push("env".into());
    }
    call.args.extend(argv.iter().map(|a| quote::arg(OsStr::new(a))));
    let epoch = epoch.to_string();
    let then = [";", "set-option", "-p", "-t", PANE, "@epoch", &epoch, ";"];
    let tell = ["display-message", "-p", "-t", PANE, "#{pane_pid}"];
    call.args.extend(then.into_iter().chain(tell).map(OsString::from));
    if let Some((name, log)) = pipe {
        call.args.push(";".into());
        call.args.extend(self::pipe(name, log).args);
    }
    call
}

/// Reads the answer to [`respawn`]: the new process's pid. That it is piped too shows in the next [`probe`].
///
/// # Errors
/// Every [`Failure`]. After [`Failure::Overdue`] the agent may have been started all the same: probe for its epoch.
pub fn read_respawn(answer: &Finished) -> Result<i32, Failure> {
    let text = String::from_utf8_lossy(&answer.stdout);
    // Once there is a pid the agent runs, whatever came after.
    text.trim()
        .parse()
        .map_err(|_| failure(answer).unwrap_or_else(|| Failure::Other(format!("unexpected answer `{}`", text.trim()))))
}

/// Types `text` into the pane and sends Enter: out of any mode first, as one line, literally, the Enter as a key of its
/// own. Takes 0.2 s, and as much for each of `first`, keys that are sent before. On stdin, since a client's argv is
/// limited to 16 KB.
pub fn send_text(first: &[&str], text: &str) -> Call {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut script = keys_script(first);
    for chunk in chunks(flat.trim()) {
        script.extend(format!("send-keys -t {PANE} -l -- ").into_bytes());
        script.extend(quote::config(chunk.as_bytes()));
        script.push(b'\n');
    }
    script.extend(format!("run-shell -d {BEFORE_ENTER}\nsend-keys -t {PANE} Enter\n").into_bytes());
    Call { input: Some(script), ..Call::new(&["source-file", "-"]) }
}

/// Sends keys into the pane, out of any mode first. Takes 0.2 s for each.
pub fn send_keys(keys: &[&str]) -> Call {
    Call { input: Some(keys_script(keys)), ..Call::new(&["source-file", "-"]) }
}

fn keys_script(keys: &[&str]) -> Vec<u8> {
    let mut script = format!("copy-mode -q -t {PANE}\n");
    for key in keys {
        // Apart from what follows, or an Escape and a key would be read as Meta and that key.
        script.push_str(&format!("send-keys -t {PANE} {key}\nrun-shell -d {BEFORE_ENTER}\n"));
    }
    script.into_bytes()
}

fn chunks(mut text: &str) -> Vec<&str> {
    let mut chunks = Vec::new();
    while !text.is_empty() {
        let mut end = text.len().min(CHUNK);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (chunk, rest) = text.split_at(end);
        chunks.push(chunk);
        text = rest;
    }
    chunks
}

/// Pipes the pane's output to the end of `log`; a pipe that is open ends first.
pub fn pipe(name: &LoopName, log: &Path) -> Call {
    let mut call = Call::new(&["pipe-pane", "-t", PANE]);
    call.args.push(quote::arg(&pipe_command(name, log)));
    call
}

/// `exec`, so that the log has one process; the variable, so that it is known as such.
fn pipe_command(name: &LoopName, log: &Path) -> OsString {
    let mut command = format!("{PIPE_VAR}={name} exec cat >>").into_bytes();
    command.extend(quote::piped_word(log.as_os_str().as_bytes()));
    OsString::from_vec(command)
}

/// Ends the server and with it the pane. Agents that ignore SIGHUP live on.
pub fn kill_server() -> Call {
    Call::new(&["kill-server"])
}

/// Asks for what the pane shows; lines that the terminal has wrapped are joined.
pub fn capture() -> Call {
    Call::new(&["capture-pane", "-p", "-J", "-t", PANE])
}

/// Reads the answer to a call that says nothing when all is well ([`send_text`], [`pipe`], [`kill_server`]).
///
/// # Errors
/// Every [`Failure`] but [`Failure::StillActive`].
pub fn read_done(answer: &Finished) -> Result<(), Failure> {
    failure(answer).map_or(Ok(()), Err)
}

fn failure(answer: &Finished) -> Option<Failure> {
    let text = String::from_utf8_lossy(&answer.stderr);
    let text = text.trim();
    match answer.end {
        End::Overdue => return Some(Failure::Overdue),
        // A command that came by stdin can fail while the client exits with 0.
        End::Exited(status) if status.success() && text.is_empty() => return None,
        End::Exited(_) => {}
    }
    let says = |words: &[&str]| words.iter().any(|w| text.contains(w));
    Some(if says(&["no server running", "error connecting to", "server exited", "lost server"]) {
        Failure::NoServer
    } else if says(&["still active"]) {
        Failure::StillActive
    } else if says(&["pane has exited"]) {
        Failure::NothingRuns
    } else if says(&["can't find pane", "no current target"]) {
        Failure::NoPane
    } else if let End::Exited(status) = answer.end {
        Failure::Other(if text.is_empty() { status.to_string() } else { text.to_owned() })
    } else {
        Failure::Overdue
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn answer(code: i32, stdout: &str, stderr: &str) -> Finished {
        Finished { end: End::Exited(ExitStatus::from_raw(code << 8)), stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn a_living_an_exited_and_a_killed_pane_are_told_apart() {
        let pane = |fields: &str| {
            read_probe(&answer(0, &format!("server 12\npane %0 @0 34 {fields}\n"), "")).unwrap().pane.unwrap()
        };
        let alive = Pane { pid: 34, status: None, signal: None, pipe: Pipe::Open, epoch: Some(7), keys: Keys::Agent };
        assert_eq!(pane("s k 1 e7 0"), alive);
        assert_eq!(pane("s0 k 1 e7 0"), Pane { status: Some(0), ..alive.clone() });
        assert_eq!(
            pane("s k9 0 e 1"),
            Pane { signal: Some(9), pipe: Pipe::Closed, epoch: None, keys: Keys::Mode, ..alive }
        );
    }

    #[test]
    fn a_server_without_a_session_has_answered() {
        let probe = read_probe(&answer(1, "server 12\n", "no current target\n")).unwrap();
        assert_eq!(probe, Probe { server: 12, windows: 0, panes: 0, pane: None });
    }

    #[test]
    fn more_panes_than_one_are_counted() {
        let probe =
            read_probe(&answer(0, "server 12\npane %1 @0 34 s k 0 e 0\npane %2 @1 35 s k 0 e 0\n", "")).unwrap();
        assert_eq!((probe.windows, probe.panes, probe.pane), (2, 2, None));
    }

    #[test]
    fn each_failure_has_its_own_name() {
        let of = |stderr: &str| read_respawn(&answer(1, "", stderr)).unwrap_err();
        assert_eq!(of("no server running on /x"), Failure::NoServer);
        assert_eq!(of("error connecting to /x (Connection refused)"), Failure::NoServer);
        assert_eq!(of("respawn pane failed: pane b:0.0 still active"), Failure::StillActive);
        assert_eq!(of("can't find pane: %0"), Failure::NoPane);
        assert_eq!(of("target pane has exited"), Failure::NothingRuns);
        assert_eq!(of("no space"), Failure::Other("no space".into()));
        assert_eq!(read_respawn(&answer(0, "junk", "")), Err(Failure::Other("unexpected answer `junk`".into())));
        assert_eq!(read_respawn(&Finished { end: End::Overdue, ..answer(0, "", "") }), Err(Failure::Overdue));
        assert_eq!(read_respawn(&answer(0, "77\n", "")), Ok(77));
    }

    #[test]
    fn a_program_without_arguments_is_not_given_to_a_shell() {
        let call = respawn(1, Path::new("/"), &["claude".into()], None);
        assert_eq!(&call.args[6..8], ["env", "claude"]);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let text = "é".repeat(600);
        let cut = chunks(&text);
        assert!(cut.iter().all(|c| c.len() <= CHUNK));
        assert_eq!(cut.concat(), text);
    }

    #[test]
    fn a_client_has_an_environment_of_its_own_and_starts_no_server() {
        let command = probe().command(Path::new("/run/x.sock"));
        let args: Vec<_> = command.get_args().take(6).collect();
        assert_eq!(args, ["-N", "-u", "-f", "/dev/null", "-S", "/run/x.sock"]);
        let vars: Vec<_> = command.get_envs().map(|(k, _)| k.to_owned()).collect();
        assert_eq!(vars, ["LC_CTYPE", "PATH"]);
    }
}
