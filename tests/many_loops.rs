//! Many loops at once: all run, each once, and whoever asks meanwhile is answered. A stderr that nobody reads stops none.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::{Request, Which};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use support::script::a_loop;
use support::{Lab, ended_well, only, when};

/// More than the daemon starts at once.
const LOOPS: usize = 24;

fn many() -> String {
    (0..LOOPS).map(|n| a_loop(&format!("l{n}"), "agent.sh", "")).collect()
}

#[test]
fn many_loops_that_start_at_once_all_run_and_each_once() {
    let lab = Lab::start_with(&many());
    let pids: BTreeSet<i32> = (0..LOOPS).map(|n| lab.running(&format!("l{n}")).id.pid).collect();
    assert_eq!(pids.len(), LOOPS);
    assert!((0..LOOPS).all(|n| lab.starts(&format!("l{n}")).len() == 1));
    assert_eq!(lab.doubles(), "");
}

#[test]
fn loops_that_are_stopped_while_many_start_have_no_agent() {
    let lab = Lab::start_with(&many());
    lab.done(Request::Stop { which: Which::All });
    let living: Vec<String> =
        lab.status().loops.into_iter().filter_map(|l| l.pid.map(|_| l.name.to_string())).collect();
    assert_eq!(living, [""; 0]);
    // What was decided before must not come later.
    lab.done(Request::Start { which: only("l23") });
    lab.running("l23");
    let living = lab.status().loops.into_iter().filter(|l| l.pid.is_some()).count();
    assert_eq!(living, 1);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn many_tmux_servers_that_are_killed_with_their_agents_alive_are_cleared_and_made_again() {
    let lab = Lab::start_with(&(0..6).map(|n| a_loop(&format!("l{n}"), "hup-deaf.sh", "")).collect::<String>());
    let names: Vec<String> = (0..6).map(|n| format!("l{n}")).collect();
    let before: Vec<_> = names.iter().map(|name| lab.running(name)).collect();
    before
        .iter()
        .for_each(|agent| cc_ci::support::process::send(server(agent.server), Signal::KILL).map(drop).unwrap());
    for (name, agent) in names.iter().zip(&before) {
        lab.running_after(name, agent.epoch);
        assert!(!agent.is_alive(), "{name}");
    }
    assert_eq!(lab.doubles(), "");
}

fn server(pid: i32) -> cc_ci::support::process::ProcId {
    cc_ci::support::process::ProcId::of(pid).unwrap().unwrap()
}

#[test]
fn a_daemon_whose_stderr_nobody_reads_goes_on_and_says_it_later() {
    let mut lab = Lab::new(&a_loop("builder", "agent.sh", ""));
    let fifo = lab.path("stderr");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let mut reader = File::options().read(true).write(true).open(&fifo).unwrap();
    rustix::pipe::fcntl_setpipe_size(&reader, 4096).unwrap();
    lab.start();
    let mut agent = lab.running("builder");
    // Each is some 300 bytes of log lines.
    for _ in 0..20 {
        agent.signal(Signal::KILL);
        agent = lab.running_after("builder", agent.epoch);
        lab.done(Request::Stop { which: only("builder") });
        lab.done(Request::Start { which: only("builder") });
        agent = lab.running_after("builder", agent.epoch);
    }
    let mut bytes = [0; 4096];
    let mut text = String::new();
    while !text.contains("restart: the agent was killed by SIGKILL") {
        let n = reader.read(&mut bytes).unwrap();
        text.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
    }
    when(ended_well(lab.end(Signal::TERM)), "it did not end well").unwrap();
}
