//! `host = "systemd"`, with a test in systemd's place: servers come and go by themselves, and agents are in cgroups.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::Request;
use cc_ci::support::process::{ProcId, State, send};
use rustix::process::Signal;
use std::process::Command;
use support::script::{self, a_loop};
use support::unit::{Unit, is_in, procs};
use support::{Agent, Lab, loop_name, only, read, when};

/// A loop `builder` whose server runs in a unit's cgroup.
fn lab(script: &str) -> Option<(Lab, Unit, Agent)> {
    let mut unit = Unit::new()?;
    let mut lab = Lab::new(&format!("host = \"systemd\"\n{}", a_loop("builder", script, "stop_timeout = \"1s\"\n")));
    unit.start(&lab.config(), "builder");
    lab.start();
    let agent = lab.running("builder");
    Some((lab, unit, agent))
}

/// The same, with a `systemctl` that says this of every unit, and writes down what it was asked.
fn lab_whose_units_are(word: &str) -> Option<(Lab, Unit, Agent)> {
    let mut unit = Unit::new()?;
    let mut lab = Lab::new(&format!("host = \"systemd\"\n{}", a_loop("builder", "agent.sh", "")));
    std::fs::create_dir(lab.path("bin")).unwrap();
    script::write(&lab.path("bin"), "systemctl", &format!("echo \"$*\" >>@dir@/asked; echo {word}; exit 3\n"));
    let path = std::env::var("PATH").unwrap();
    lab.options.env.push(("PATH".into(), format!("{}:{path}", lab.path("bin").display())));
    unit.start(&lab.config(), "builder");
    lab.start();
    let agent = lab.running("builder");
    Some((lab, unit, agent))
}

#[test]
fn an_agent_that_ends_before_its_server_when_the_session_is_stopped_has_not_crashed() {
    let Some((lab, mut unit, agent)) = lab_whose_units_are("deactivating") else { return };
    agent.signal(Signal::TERM);
    lab.wait_for("the question", || {
        let asked = read(&lab.path("bin/asked"));
        when(asked == "is-active -- cc-ci-session@builder.service\n", asked)
    });
    lab.wait_for("the answer", || when(lab.stderr().contains("the session is being stopped"), lab.stderr()));
    unit.kill_server();
    unit.start(&lab.config(), "builder");
    lab.running_after("builder", agent.epoch);
    assert_eq!((lab.view("builder").restarts, lab.decisions("restart", None).len()), (0, 0));
    assert_eq!(lab.doubles(), "");
}

#[test]
fn an_agent_that_ends_while_its_session_goes_on_has_crashed() {
    let Some((lab, _unit, agent)) = lab_whose_units_are("active") else { return };
    agent.signal(Signal::TERM);
    let next = lab.running_after("builder", agent.epoch);
    assert_eq!((next.server, lab.view("builder").restarts), (agent.server, 1));
}

#[test]
fn an_agent_is_in_a_cgroup_of_its_own_beside_its_tmux_server() {
    let Some((lab, _unit, agent)) = lab("agent.sh") else { return };
    assert!(is_in(agent.id.pid, "/agent") && is_in(agent.server, "/tmux"));
    assert_eq!(read(format!("/proc/{}/oom_score_adj", agent.id.pid).as_ref()).trim(), "500");
    agent.signal(Signal::KILL);
    let next = lab.running_after("builder", agent.epoch);
    assert!(is_in(next.id.pid, "/agent"));
    assert!(lab.view("builder").last_death.unwrap().starts_with("was killed by SIGKILL"));
}

#[test]
fn what_has_neither_parent_nor_marker_any_more_ends_with_its_agent() {
    let Some((lab, mut unit, agent)) = lab("messy.sh") else { return };
    let children = lab.wait_for("two children", || {
        let pids: Vec<i32> = read(&lab.path("children")).lines().filter_map(|pid| pid.parse().ok()).collect();
        if pids.len() == 2 { Ok(pids) } else { Err(pids) }
    });
    let children: Vec<ProcId> = children.into_iter().map(|pid| ProcId::of(pid).unwrap().unwrap()).collect();
    // With the server gone there is no subreaper: by descent and by marker the second child is not found.
    unit.kill_server();
    lab.wait_for("the children's end", || {
        when(!children.iter().any(|id| id.is_alive().unwrap()), format!("{children:?} in {:?}", procs(&unit.agent())))
    });
    lab.wait_for("the cgroup's end", || when(!unit.agent().exists(), "it is there"));
    unit.start(&lab.config(), "builder");
    let next = lab.running_after("builder", agent.epoch);
    assert_ne!(next.server, agent.server);
    assert_eq!(lab.view("builder").restarts, 0, "a lost session host was counted as a crash of the agent");
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_frozen_agent_is_stopped_by_its_cgroup_and_its_server_answers_on() {
    let Some((mut lab, unit, agent)) = lab("litter.sh") else { return };
    let frozen = || read(&unit.agent().join("cgroup.events")).contains("frozen 1");
    lab.done(Request::Freeze);
    lab.wait_for("the freeze", || when(frozen(), "it runs"));
    let server = ProcId::of(agent.server).unwrap().unwrap();
    assert_ne!(server.state().unwrap(), State::Stopped);
    lab.kill_and_restart();
    lab.wait_for("the adoption", || when(lab.view("builder").pid == Some(agent.id.pid), "not yet"));
    assert!(frozen(), "a new supervisor let it go on");
    lab.done(Request::Thaw);
    lab.wait_for("the thaw", || when(!frozen(), "it is stopped"));
    lab.done(Request::Nudge { name: loop_name("builder"), text: "go on".into() });
    lab.wait_for("it to hear", || when(read(&lab.path("said.builder")).contains("go on"), "nothing"));
    assert!(agent.is_alive());
}

#[test]
fn a_frozen_agent_that_is_stopped_by_the_operator_ends() {
    let Some((lab, unit, agent)) = lab("deaf.sh") else { return };
    lab.done(Request::Freeze);
    lab.wait_for("the freeze", || when(read(&unit.agent().join("cgroup.events")).contains("frozen 1"), "it runs"));
    lab.done(Request::Stop { which: only("builder") });
    assert!(!agent.is_alive());
    lab.wait_for("the cgroup's end", || when(!unit.agent().exists(), "it is there"));
}

#[test]
fn a_caller_in_a_sessions_cgroup_is_inside_of_it_wherever_it_comes_from() {
    let Some((lab, unit, agent)) = lab("agent.sh") else { return };
    let stop = |first: &str| {
        let script = format!("{first}exec \"$0\" stop builder --config \"$1\"");
        let binary = env!("CARGO_BIN_EXE_supervisor");
        let out = Command::new("/bin/sh").args(["-c", &script, binary]).arg(lab.config()).env_clear().output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (done, why) = stop(&format!("echo $$ >{}; ", unit.agent().join("cgroup.procs").display()));
    assert!(!done && why.contains("refused, since it comes from inside the loop `builder`"), "{why}");
    assert!(agent.is_alive());
    assert!(stop("").0, "the operator is outside");
}

#[test]
fn an_absent_session_host_is_held_with_the_command_that_starts_it_and_found_when_it_comes() {
    let Some((lab, mut unit, agent)) = lab("agent.sh") else { return };
    unit.kill_server();
    let view = lab.held("builder", "no session host");
    let ends = format!("{:?}", view.holds);
    assert!(ends.contains("systemctl start cc-ci-session@builder.service"), "{ends}");
    assert_eq!(lab.decisions("session-host-lost", Some("builder")).len(), 1, "each look was written down");
    unit.start(&lab.config(), "builder");
    assert_eq!(lab.running_after("builder", agent.epoch).epoch, agent.epoch + 1);
    assert_eq!(lab.view("builder").restarts, 0);
}

#[test]
fn a_hung_server_is_killed_and_the_next_one_is_systemds() {
    let Some((lab, mut unit, agent)) = lab("agent.sh") else { return };
    let server = ProcId::of(agent.server).unwrap().unwrap();
    send(server, Signal::STOP).unwrap();
    // Asked twice, it misses both deadlines.
    let _ = lab.call(Request::Nudge { name: loop_name("builder"), text: "hello".into() });
    unit.server_ended();
    lab.await_decision("session-host-hung", Some("builder"));
    unit.start(&lab.config(), "builder");
    lab.running_after("builder", agent.epoch);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_supervisor_that_is_told_to_end_leaves_sessions_and_agents() {
    let Some((mut lab, _unit, agent)) = lab("agent.sh") else { return };
    assert!(support::ended_well(lab.end(Signal::TERM)));
    assert!(agent.is_alive());
    lab.start();
    assert_eq!(lab.running("builder"), agent);
    assert_eq!(lab.decisions("supervisor-ends", None).len(), 1);
}

#[test]
fn a_loop_that_left_the_config_loses_its_agent_and_keeps_its_server_for_systemd() {
    let Some((mut lab, _unit, agent)) = lab("agent.sh") else { return };
    lab.end(Signal::TERM);
    lab.configure(&format!("host = \"systemd\"\n{}", a_loop("other", "agent.sh", "")));
    lab.start();
    lab.wait_for("the agent's end", || when(!agent.is_alive(), "it lives"));
    assert!(ProcId::of(agent.server).unwrap().is_some());
    let entry = lab.await_decision("retire", Some("builder"));
    assert!(
        entry["next"].as_str().unwrap().contains("systemctl disable --now cc-ci-session@builder.service"),
        "{entry}"
    );
}

#[test]
fn a_session_of_root_is_refused_under_systemd() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be refused as root");
        return;
    }
    let lab = Lab::new(&a_loop("builder", "agent.sh", ""));
    let (code, said) = lab.cli(&["session", "builder", "--host", "systemd"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("this is root; set `User=` in the unit"), "{said}");
}
