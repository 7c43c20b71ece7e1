//! What systemd is told by the real binary, over a socket of the test's own.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use rustix::process::Signal;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};
use support::script::a_loop;
use support::{DEADLINE, Lab, read, when};

struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// Listens for a laboratory whose daemon is not started yet.
    fn of(lab: &mut Lab, watchdog: Option<Duration>) -> Self {
        let path = lab.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        lab.options.env.push(("NOTIFY_SOCKET".into(), path.to_str().unwrap().into()));
        if let Some(limit) = watchdog {
            lab.options.env.push(("WATCHDOG_USEC".into(), limit.as_micros().to_string()));
        }
        Self { socket }
    }

    /// The next message within this time.
    fn hears_within(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut bytes = [0; 4096];
        match self.socket.recv(&mut bytes) {
            Ok(n) => Some(String::from_utf8(bytes[..n].to_vec()).unwrap().trim_end().to_owned()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// All until the message that is waited for.
    fn hears(&self, what: &str) -> Vec<String> {
        self.hears_before(Instant::now() + DEADLINE, what)
    }

    fn hears_before(&self, deadline: Instant, what: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while Instant::now() < deadline {
            let Some(message) = self.hears_within(Duration::from_secs(1)) else { continue };
            heard.push(message);
            if heard.last().is_some_and(|message| message.contains(what)) {
                return heard;
            }
        }
        panic!("waited for {what:?}, heard {heard:?}");
    }
}

#[test]
fn ready_is_told_once_and_only_when_every_loop_runs_or_is_held_with_a_reason() {
    let slow = "needs = [\"slow\"]\n";
    let need = "[needs.slow]\ncommand = [\"sh\", \"-c\", \"sleep 1; echo not there >&2; exit 1\"]\n";
    let tables = [&a_loop("builder", "agent.sh", ""), &a_loop("adversary", "agent.sh", slow), need].concat();
    let mut lab = Lab::new(&tables);
    let manager = Manager::of(&mut lab, None);
    lab.start();
    let before = manager.hears("READY=1");
    let status = lab.status();
    let stands = |name: &str| status.loops.iter().find(|l| l.name.as_str() == name).unwrap();
    assert_eq!(stands("builder").state, "up", "{before:?}");
    let held = &stands("adversary").holds[0].what;
    assert!(held.ends_with(": not there"), "{held}: {before:?}");
    assert!(before[..before.len() - 1].iter().all(|message| message.starts_with("STATUS=")), "{before:?}");
    lab.end(Signal::TERM);
    let after = manager.hears("STOPPING=1");
    assert!(!after.iter().any(|message| message.contains("READY")), "{after:?}");
}

#[test]
fn the_status_is_one_line_that_changes_with_the_loops() {
    let mut lab = Lab::new(&format!("{}{}", a_loop("builder", "agent.sh", ""), a_loop("adversary", "agent.sh", "")));
    let manager = Manager::of(&mut lab, None);
    lab.start();
    assert_eq!(manager.hears("2 up").last().unwrap(), "STATUS=2 loops: 2 up");
    lab.cli(&["stop", "builder"]);
    let heard = manager.hears("1 held");
    assert_eq!(heard.last().unwrap(), "STATUS=2 loops: 1 up, 1 held (builder: stopped by the operator)");
    let mut said = heard.clone();
    said.dedup();
    assert_eq!(said, heard, "the same line twice in a row");
}

#[test]
fn what_a_decision_leads_to_is_told_then_and_not_at_the_next_event() {
    let mut lab = Lab::new(&a_loop("builder", "litter.sh", ""));
    let manager = Manager::of(&mut lab, None);
    lab.start();
    lab.running("builder");
    lab.cli(&["stop", "builder"]);
    // Nothing happens after the last of what it left behind is gone; the next that is due comes in 25 s or later.
    let limit = Duration::from_secs(20);
    manager.hears_before(Instant::now() + limit, "1 held (builder: stopped by the operator)");
}

#[test]
fn the_watchdog_is_fed_for_as_long_as_the_event_loop_turns() {
    let mut lab = Lab::new(&a_loop("builder", "agent.sh", ""));
    let manager = Manager::of(&mut lab, Some(Duration::from_millis(400)));
    // Nothing else is waited for: the socket holds eleven messages, and what comes then is lost.
    lab.spawn_only();
    manager.hears("READY=1");
    for _ in 0..5 {
        manager.hears("WATCHDOG=1");
    }
    lab.signal(Signal::STOP);
    while manager.hears_within(Duration::from_millis(900)).is_some() {}
    assert_eq!(manager.hears_within(Duration::from_millis(900)), None, "it is fed by something else");
    lab.signal(Signal::CONT);
    manager.hears("WATCHDOG=1");
}

#[test]
fn a_service_manager_that_reads_nothing_holds_nothing_up_and_is_told_the_rest_when_it_reads() {
    let mut lab = Lab::new(&a_loop("builder", "agent.sh", ""));
    let manager = Manager::of(&mut lab, Some(Duration::from_millis(20)));
    lab.start();
    // The socket holds eleven messages, and the watchdog is fed a hundred times a second.
    lab.wait_for("the daemon to say that nobody listens", || {
        let said = read(&lab.path("stderr"));
        when(said.contains("telling the service manager"), said)
    });
    lab.cli(&["stop", "builder"]);
    manager.hears("1 held (builder: stopped by the operator)");
}

#[test]
fn a_service_manager_with_an_abstract_socket_is_told() {
    let mut lab = Lab::new(&a_loop("builder", "agent.sh", ""));
    let name = format!("cc-ci-test-{}", lab.path("notify").display());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager { socket: UnixDatagram::bind_addr(&address).unwrap() };
    lab.options.env.push(("NOTIFY_SOCKET".into(), format!("@{name}")));
    lab.start();
    manager.hears("READY=1");
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let mut lab = Lab::new(&a_loop("builder", "agent.sh", ""));
    let manager = Manager::of(&mut lab, Some(Duration::from_millis(100)));
    lab.options.env.push(("WATCHDOG_PID".into(), "1".into()));
    lab.start();
    let before = manager.hears("READY=1");
    lab.end(Signal::TERM);
    let heard = [before, manager.hears("STOPPING=1")].concat();
    assert!(!heard.iter().any(|message| message.contains("WATCHDOG")), "{heard:?}");
}
