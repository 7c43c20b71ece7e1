//! What an agent leaves behind, and freezing it in place, with a real tmux and no cgroup.

#![allow(clippy::unwrap_used, reason = "a test")]

mod host_kit;

use cc_ci::supervisor::tmux::Pipe;
use cc_ci::support::process::{ProcId, State, send, tree};
use host_kit::{Host, await_end, pid_in, read, until_none, wait_for};
use rustix::process::Signal;
use std::time::{Duration, Instant};

#[test]
fn reexecuted() {
    host_kit::reexecuted();
}

/// Leaves a double-forked child in a session of its own, with an empty environment.
const HIDES_A_CHILD: &str = "(env -i PATH=\"$PATH\" setsid sh -c 'echo $$ >hidden; exec sleep 1000' </dev/null >/dev/null 2>&1 &); touch ready; exec sleep 1001";

#[test]
fn a_double_forked_child_without_marker_is_found_below_the_server_and_killed_and_the_pipe_lives_on() {
    let host = Host::start();
    let agent = host.run(1, HIDES_A_CHILD);
    let hidden = pid_in(&host.path("hidden"));
    assert_eq!(tree::parent(hidden.pid).unwrap(), Some(host.server.pid), "the server is no subreaper");
    send(agent, Signal::KILL).unwrap();
    host.await_death(agent);
    let first = until_none(|| host.leftovers().kill_round().unwrap());
    assert_eq!(first, [hidden]);
    assert!(!hidden.is_alive().unwrap());
    assert_eq!(host.pane().pipe, Pipe::Open, "the pipe was taken for a left-over");
    host.run(2, "echo after the killing; touch ready; exec sleep 1000");
    wait_for("output in the log", || {
        let log = read(&host.log());
        if log.contains("after the killing") { Ok(()) } else { Err(log) }
    });
}

#[test]
fn an_agent_that_ignores_sighup_outlives_its_server_and_is_found_by_its_marker() {
    let mut host = Host::start();
    let agent = host.run(1, "trap '' HUP; sleep 1000 & echo $! >child; touch ready; wait; sleep 1000");
    let child = pid_in(&host.path("child"));
    host.kill_server();
    assert!(agent.is_alive().unwrap(), "it died of SIGHUP: this tests nothing");
    let elsewhere = host.path("another/control.sock");
    let mut foreign = host.leftovers();
    foreign.control_socket = &elsewhere;
    assert_eq!(foreign.find().unwrap(), [], "another supervisor's");
    let first = until_none(|| host.leftovers().kill_round().unwrap());
    assert!(first.contains(&agent) && first.contains(&child), "{first:?}");
    assert!(!agent.is_alive().unwrap() && !child.is_alive().unwrap());
}

#[test]
fn a_recorded_agent_that_lost_its_marker_is_found_by_its_identity_and_not_by_its_pid() {
    let mut host = Host::start();
    let agent = host.run(1, "trap '' HUP; touch ready; exec env -i \"$(command -v sleep)\" 1000");
    wait_for("the marker to be gone", || match tree::environ(agent.pid).unwrap() {
        Some(environ) if environ.is_empty() => Ok(()),
        other => Err(other),
    });
    host.kill_server();
    let with = |agent| host_kit_leftovers(&host, agent);
    assert_eq!(with(None), []);
    assert_eq!(with(Some(ProcId { start: agent.start + 1, ..agent })), []);
    assert_eq!(with(Some(agent)), [agent]);
    send(agent, Signal::KILL).unwrap();
    await_end(agent);
}

fn host_kit_leftovers(host: &Host, agent: Option<ProcId>) -> Vec<ProcId> {
    let mut leftovers = host.leftovers();
    leftovers.agent = agent;
    leftovers.find().unwrap()
}

#[test]
fn tmux_wakes_a_stopped_agent_again_unless_the_server_is_stopped_first() {
    let host = Host::start();
    // It counts the SIGCONTs that it gets.
    let agent = host.run(1, "trap 'echo woken >>woken' CONT; touch ready; while :; do sleep 0.02; done");
    send(agent, Signal::STOP).unwrap();
    wait_for("tmux to wake it", || if host.path("woken").exists() { Ok(()) } else { Err(agent.state().unwrap()) });

    std::fs::remove_file(host.path("woken")).unwrap();
    until_none(|| host.leftovers().freeze_round().unwrap());
    let set = host.leftovers().find().unwrap();
    assert!(set.contains(&agent));
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        for id in set.iter().chain([&host.server]) {
            let state = id.state().unwrap();
            assert!(matches!(state, State::Stopped | State::InKernel), "{id} was woken: {state:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!host.path("woken").exists());
    let thawed = host.leftovers().thaw().unwrap();
    assert_eq!(thawed.found.last(), Some(&host.server), "the server comes last");
    wait_for("the agent to go on", || if host.path("woken").exists() { Ok(()) } else { Err(agent.state().unwrap()) });
    assert_eq!(host.pane().pid, agent.pid);
    // In a system call or not, but not stopped.
    assert!(matches!(agent.state().unwrap(), State::Alive | State::InKernel));
}

#[test]
fn a_frozen_loop_can_be_killed() {
    let host = Host::start();
    let agent = host.run(1, HIDES_A_CHILD);
    let hidden = pid_in(&host.path("hidden"));
    until_none(|| host.leftovers().freeze_round().unwrap());
    until_none(|| host.leftovers().kill_round().unwrap());
    assert!(!agent.is_alive().unwrap() && !hidden.is_alive().unwrap());
    host.leftovers().thaw().unwrap();
    assert_eq!(host.await_death(agent).signal, Some(9));
}

#[test]
#[ignore = "a measurement: cargo nextest run --run-ignored only --no-capture how_long"]
fn how_long_a_client_call_a_search_and_a_restart_take() {
    use cc_ci::supervisor::{session, tmux};
    use rustix::event::{PollFd, PollFlags};
    let host = Host::start();
    let show = |what: &str, mut times: Vec<Duration>| {
        times.sort_unstable();
        eprintln!("{what}: median {:?}, worst {:?} of {}", times[times.len() / 2], times[times.len() - 1], times.len());
    };
    let time = |n: usize, mut f: Box<dyn FnMut() + '_>| -> Vec<Duration> {
        (0..n)
            .map(|_| {
                let start = Instant::now();
                f();
                start.elapsed()
            })
            .collect()
    };
    show("one tmux client call (probe)", time(200, Box::new(|| assert!(host.try_probe().is_ok()))));
    show("left-overs below a living server", time(200, Box::new(|| assert!(host.leftovers().find().is_ok()))));
    let mut dead = host.leftovers();
    dead.server = None;
    show("left-overs by marker (scan of /proc)", time(50, Box::new(|| assert!(dead.find().is_ok()))));
    let mut agent = host.run(1, "touch ready; exec sleep 1000");
    let (mut seen, mut cause, mut clean, mut started) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for epoch in 2..102 {
        // What does not depend on the death is there before it.
        let spec = host.spec(epoch, &["sleep", "1000"]);
        let argv = host.agent_argv(&spec);
        let pidfd = cc_ci::support::process::open_pidfd(agent).unwrap().unwrap();
        let start = Instant::now();
        send(agent, Signal::KILL).unwrap();
        rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
        seen.push(start.elapsed());
        loop {
            session::remind_to_reap(host.server).unwrap();
            let pane = host.pane();
            if pane.status.or(pane.signal).is_some() {
                break;
            }
        }
        cause.push(start.elapsed());
        while !host.leftovers().kill_round().unwrap().found.is_empty() {}
        clean.push(start.elapsed());
        let call = tmux::respawn(epoch, &spec.workdir, &argv, None);
        let pid = wait_for("the pane to drain", || tmux::read_respawn(&host.call(&call)));
        started.push(start.elapsed());
        agent = ProcId::of(pid).unwrap().unwrap();
        // It reads its spec before the next one is written.
        wait_for("the program", || match tree::cmdline(pid).unwrap() {
            line if line.starts_with(b"sleep") => Ok(()),
            line => Err(line),
        });
    }
    show("SIGKILL of the agent to its pidfd", seen);
    show("… to the cause", cause);
    show("… to no left-overs", clean);
    show("… to the new pid", started);
}
