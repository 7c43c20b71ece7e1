//! `supervisor event`: what an agent's hook runs. It must end in milliseconds and never fail a turn, also when no
//! supervisor runs, so nothing here leads to another exit code than 0.

use super::context::{Context, inherited_socket};
use crate::supervisor::control::client;
use crate::supervisor::control::protocol::{Call, Request};
use crate::supervisor::session;
use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::Value;
use std::env;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write, stdin};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// For all of it. A hook holds its agent up for as long as it runs.
const WITHIN: Duration = Duration::from_secs(1);
/// A larger event is no event.
const LARGEST: usize = 16 << 20;
/// What the daemon takes in one line, less what goes round an event.
const MOST: usize = (1 << 20) - 1024;
/// What is kept of each field of an event above [`MOST`].
const FIELD: usize = 16 * 1024;

/// What is left for the next supervisor grows no further: days without one are no reason to fill a tmpfs.
const MISSED_MOST: u64 = 1 << 20;

/// Emptying the file takes microseconds.
const LOCK_TRIES: u32 = 10;
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Options of `event`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, in an agent's hook:\n  echo '{\"hook_event_name\":\"Stop\"}' | supervisor event\n\n\
    Exits with 0 whatever happens: a hook must not fail an agent's turn.")]
pub struct Args {
    /// Whose event it is [default: $CC_CI_LOOP]
    #[arg(long = "loop", value_name = "LOOP")]
    name: Option<String>,
    /// Say on stderr why an event did not get through
    #[arg(long)]
    verbose: bool,
}

/// Passes the event on.
pub fn run(context: &Context, args: &Args) {
    if let Err(error) = pass_on(context, args) {
        if args.verbose {
            // Nobody reads stderr: then it is as without --verbose.
            let _ = writeln!(std::io::stderr(), "supervisor: passing an event on: {error:#}");
        }
    }
}

fn pass_on(context: &Context, args: &Args) -> anyhow::Result<()> {
    let deadline = Instant::now() + WITHIN;
    if stdin().is_terminal() {
        bail!("stdin is a terminal; pipe the event in: `echo '{{}}' | supervisor event`");
    }
    let name = args.name.clone().or_else(|| env::var("CC_CI_LOOP").ok());
    let Some(name) = name else { bail!("whose it is is not known; set CC_CI_LOOP or give `--loop NAME`") };
    let from = Some(name.parse()?);
    let epoch = env::var("CC_CI_EPOCH").ok().and_then(|epoch| epoch.parse().ok());
    let text = read_stdin(deadline)?;
    let event = read(&text);
    let socket = inherited_socket().map_or_else(|| context.socket(), Ok)?;
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let call = Call { from, epoch, request: Request::Event { event } };
    match client::call(&socket, &call, left) {
        Ok(_) => Ok(()),
        Err(why) => {
            // A supervisor may be restarted at any time: a turn's end that is told just then must not be lost.
            leave(&socket, &call).with_context(|| format!("{why}; leaving it for the supervisor to read later"))?;
            Err(why).context("left for the supervisor to read when it can")
        }
    }
}

/// One write, so that lines of hooks that run at once do not mix.
fn leave(socket: &Path, call: &Call) -> anyhow::Result<()> {
    let (Some(name), Request::Event { event }, Some(runtime_dir)) = (&call.from, &call.request, socket.parent()) else {
        bail!("whose it is, or where, is not known");
    };
    let path = session::missed_events(runtime_dir, name);
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
    // Held for a moment by the one that empties it; for ever by one that was stopped in it, which no hook waits for.
    for _ in 0..LOCK_TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_RETRY),
            Err(e) => return Err(e).with_context(|| format!("locking `{}`", path.display())),
        }
    }
    if file.metadata()?.len() > MISSED_MOST {
        bail!("`{}` is full", path.display());
    }
    let line = format!("{}\n", serde_json::json!({ "epoch": call.epoch, "event": event }));
    file.write_all(line.as_bytes())?;
    // Before it is closed: whoever is told of that must find it free.
    flock(&file, FlockOperation::Unlock).with_context(|| format!("unlocking `{}`", path.display()))
}

/// JSON as it is, anything else as a string. Of an event with the output of a whole build in it the small fields are
/// kept: it says that a turn has ended all the same.
fn read(text: &[u8]) -> Value {
    let event =
        serde_json::from_slice(text).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(text).trim().to_owned()));
    match event {
        event if size(&event) <= MOST => event,
        Value::Object(fields) => {
            let mut left = MOST;
            let small = fields.into_iter().map(|(key, value)| (key, shorten(value))).filter(|(key, value)| {
                let wanted = key.len() + size(value) + 8;
                let fits = wanted <= left.min(2 * FIELD);
                left -= if fits { wanted } else { 0 };
                fits
            });
            Value::Object(small.collect())
        }
        other => shorten(other),
    }
}

fn shorten(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() > FIELD => Value::String(text.chars().take(FIELD / 6).collect()),
        Value::Array(_) if size(&value) > FIELD => Value::Null,
        other => other,
    }
}

fn size(value: &Value) -> usize {
    // A value that came from JSON can be written as JSON.
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}

/// All of stdin, or what is there when time is up: whoever holds it open may hold it open for ever.
fn read_stdin(deadline: Instant) -> anyhow::Result<Vec<u8>> {
    let stdin = stdin();
    let mut text = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now()) / 2;
        let mut fds = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(0) if text.is_empty() => bail!("nothing came on stdin in time"),
            Ok(0) => return Ok(text),
            Ok(_) => {}
            Err(e) => return Err(e).context("waiting for stdin"),
        }
        match rustix::io::read(stdin.as_fd(), &mut chunk) {
            Ok(0) => return Ok(text),
            Ok(n) => text.extend_from_slice(&chunk[..n]),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).context("reading stdin"),
        }
        if text.len() > LARGEST {
            bail!("it is longer than {LARGEST} bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_json_becomes_a_string() {
        assert_eq!(read(b"{\"a\":1}"), json!({ "a": 1 }));
        assert_eq!(read(b"garbage\xff\n"), json!("garbage\u{fffd}"));
        assert_eq!(read(b""), json!(""));
    }

    #[test]
    fn of_an_event_that_is_too_large_the_small_fields_get_through() {
        let big = "\u{1}".repeat(2 << 20);
        let event = json!({ "hook_event_name": "Stop", "last_assistant_message": big, "out": [big], "n": 1 });
        let kept = read(event.to_string().as_bytes());
        assert!(size(&kept) <= MOST);
        assert_eq!((&kept["hook_event_name"], &kept["n"], &kept["out"]), (&json!("Stop"), &json!(1), &Value::Null));
        assert!(kept["last_assistant_message"].as_str().unwrap().len() > 1000);
        let many: serde_json::Map<_, _> = (0..100_000).map(|n| (format!("key{n}"), json!("some text"))).collect();
        assert!(size(&read(Value::Object(many).to_string().as_bytes())) <= MOST);
        assert!(size(&read(json!(big).to_string().as_bytes())) <= MOST);
    }
}
