//! A loop's tmux server dies, hangs, loses its socket, or an operator works in it: the loop comes back, the others wait for nothing.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::Request;
use cc_ci::support::process::{ProcId, send, tree};
use rustix::process::Signal;
use std::process::Command;
use support::script::{self, a_loop};
use support::{Lab, loop_name, only, read, when};

fn two(script: &str) -> String {
    format!("{}{}", a_loop("builder", script, "stop_timeout = \"1s\"\n"), a_loop("adversary", "agent.sh", ""))
}

fn signal(pid: i32, signal: Signal) {
    send(ProcId::of(pid).unwrap().unwrap(), signal).unwrap();
}

fn tmux(lab: &Lab, name: &str, args: &[&str]) -> String {
    let out = Command::new("tmux").arg("-S").arg(lab.tmux_socket(name)).args(args).env_remove("TMUX").output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The pids that the messy agent wrote, once it wrote so many.
fn children(lab: &Lab, count: usize) -> Vec<i32> {
    lab.wait_for("the children", || {
        let pids: Vec<i32> = read(&lab.path("children")).lines().filter_map(|line| line.parse().ok()).collect();
        if pids.len() == count { Ok(pids) } else { Err(pids) }
    })
}

fn living(pids: &[i32]) -> Vec<ProcId> {
    pids.iter().filter_map(|pid| ProcId::of(*pid).unwrap()).filter(|id| id.is_alive().unwrap()).collect()
}

#[test]
fn a_killed_server_is_replaced_and_the_other_loop_is_not_touched() {
    let lab = Lab::start_with(&two("agent.sh"));
    let (builder, adversary) = (lab.running("builder"), lab.running("adversary"));
    signal(builder.server, Signal::KILL);
    let after = lab.running_after("builder", builder.epoch);
    assert_ne!(after.server, builder.server);
    assert!(!builder.is_alive());
    assert_eq!(lab.running("adversary"), adversary);
    assert_eq!(lab.view("builder").restarts, 0, "counted as a crash");
    lab.await_decision("session-host-lost", Some("builder"));
}

#[test]
fn a_hung_server_is_killed_after_two_deadlines_and_delays_no_other_loop() {
    let lab = Lab::start_with(&two("agent.sh"));
    let (mut builder, mut other) = (lab.running("builder"), lab.running("adversary"));
    let hung = || lab.decisions("session-host-hung", Some("builder"));
    // A restart while the other one hangs, whose two deadlines take 4 s: a machine that took as long for it has shown
    // nothing. A fifth death in a row would be a crash loop.
    let shown = (0..3).any(|earlier| {
        signal(builder.server, Signal::STOP);
        builder.signal(Signal::KILL);
        other.signal(Signal::KILL);
        other = lab.running_after("adversary", other.epoch);
        let shown = hung().len() == earlier;
        let told = lab.wait_for("the hung server to be told", || hung().get(earlier).cloned().ok_or_else(hung));
        assert_eq!(told["evidence"]["server"], builder.server);
        let after = lab.running_after("builder", builder.epoch);
        assert_ne!(after.server, builder.server);
        builder = after;
        shown
    });
    assert!(shown, "the other loop waited for the hung one, each time");
    assert_eq!(lab.running("adversary"), other);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_hung_server_with_a_living_agent_is_found_when_somebody_wants_in() {
    let lab = Lab::start_with(&two("hup-deaf.sh"));
    let builder = lab.running("builder");
    signal(builder.server, Signal::STOP);
    lab.done(Request::Attach { name: loop_name("builder") });
    let after = lab.running_after("builder", builder.epoch);
    assert_ne!(after.server, builder.server);
    assert!(!builder.is_alive());
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_removed_socket_comes_back_and_the_agent_lives_on() {
    let lab = Lab::start_with(&two("agent.sh"));
    let builder = lab.running("builder");
    for _ in 0..3 {
        std::fs::remove_file(lab.tmux_socket("builder")).unwrap();
        lab.wait_for("the socket", || when(lab.tmux_socket("builder").exists(), "missing"));
    }
    assert_eq!(lab.running("builder"), builder);
    lab.done(Request::Nudge { name: loop_name("builder"), text: "hello".into() });
    lab.wait_for("the nudge", || when(lab.said("builder").contains("hello"), lab.said("builder")));
    assert_eq!(lab.starts("builder").len(), 1);
}

#[test]
fn a_socket_that_is_removed_again_while_it_is_being_looked_at_comes_back_too() {
    let mut lab = Lab::new(&two("agent.sh"));
    let path = std::env::var("PATH").unwrap();
    std::fs::create_dir(lab.path("slow")).unwrap();
    // A client that has its answer does not end while `hold` is there.
    let client = format!(
        "PATH='{path}'\ncase $1 in -D) exec tmux \"$@\" ;; esac\ntmux \"$@\"\nstatus=$?\n\
         while [ -e '@dir@/hold' ]; do echo >'@dir@/held'; sleep 0.01; done\nexit $status\n"
    );
    script::write(&lab.path("slow"), "tmux", &client);
    lab.options.env.push(("PATH".into(), format!("{}:{path}", lab.path("slow").display())));
    lab.start();
    let builder = lab.running("builder");
    std::fs::write(lab.path("slow/hold"), "").unwrap();
    std::fs::remove_file(lab.tmux_socket("builder")).unwrap();
    lab.wait_for("a client that saw it again", || when(lab.path("slow/held").exists(), "not yet"));
    std::fs::remove_file(lab.tmux_socket("builder")).unwrap();
    std::fs::remove_file(lab.path("slow/hold")).unwrap();
    lab.wait_for("the socket", || when(lab.tmux_socket("builder").exists(), "missing"));
    assert_eq!(lab.running("builder"), builder);
}

#[test]
fn a_socket_that_was_removed_while_no_supervisor_ran_comes_back() {
    let mut lab = Lab::start_with(&two("agent.sh"));
    let builder = lab.running("builder");
    lab.kill();
    std::fs::remove_file(lab.tmux_socket("builder")).unwrap();
    lab.start();
    assert_eq!(lab.running("builder"), builder);
    lab.wait_for("the socket", || when(lab.tmux_socket("builder").exists(), "missing"));
}

#[test]
fn a_server_that_no_record_names_and_whose_socket_is_gone_is_found_by_its_lock() {
    let mut lab = Lab::start_with(&two("agent.sh"));
    let builder = lab.running("builder");
    lab.kill();
    std::fs::remove_file(lab.tmux_socket("builder")).unwrap();
    // As after a supervisor that died before it wrote down which server there is.
    let record = lab.state("loops/builder.json");
    let mut value: serde_json::Value = serde_json::from_str(&read(&record)).unwrap();
    let server = value.as_object_mut().unwrap().values_mut().find_map(|v| v.get_mut("server")).unwrap();
    *server = serde_json::Value::Null;
    std::fs::write(&record, value.to_string()).unwrap();
    lab.start();
    lab.wait_for("its server to be known again", || {
        let view = lab.view("builder");
        if view.server_pid == Some(builder.server) { Ok(()) } else { Err(Box::new(view)) }
    });
    lab.running("builder");
    assert_eq!(lab.doubles(), "");
}

#[test]
fn an_operator_who_opens_windows_confuses_nothing() {
    let mut lab = Lab::start_with(&two("agent.sh"));
    let builder = lab.running("builder");
    tmux(&lab, "builder", &["new-window", "-d", "sleep 100000"]);
    tmux(&lab, "builder", &["split-window", "-d", "-t", "%0", "sleep 100000"]);
    tmux(&lab, "builder", &["select-window", "-t", ":1"]);
    lab.kill_and_restart();
    assert_eq!(lab.running("builder"), builder);
    lab.done(Request::Nudge { name: loop_name("builder"), text: "for the agent".into() });
    lab.wait_for("the nudge", || when(lab.said("builder").contains("for the agent"), lab.said("builder")));
    builder.signal(Signal::KILL);
    let after = lab.running_after("builder", builder.epoch);
    assert_eq!(after.server, builder.server);
    let pane = tmux(&lab, "builder", &["display-message", "-p", "-t", "%0", "#{pane_pid}"]);
    assert_eq!(pane.trim(), after.id.pid.to_string());
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_killed_pane_is_replaced_with_its_server() {
    for script in ["agent.sh", "hup-deaf.sh"] {
        let lab = Lab::start_with(&two(script));
        let (builder, adversary) = (lab.running("builder"), lab.running("adversary"));
        tmux(&lab, "builder", &["kill-pane", "-t", "%0"]);
        let after = lab.running_after("builder", builder.epoch);
        assert_ne!(after.server, builder.server, "{script}");
        assert!(!builder.is_alive(), "{script}");
        assert_eq!((lab.doubles(), lab.running("adversary")), (String::new(), adversary), "{script}");
    }
}

#[test]
fn what_an_agent_leaves_behind_is_gone_before_the_next_one_and_after_a_stop() {
    let lab = Lab::start_with(&two("messy.sh"));
    let first = lab.running("builder");
    let left = children(&lab, 2);
    assert_eq!(living(&left).len(), 2);
    lab.done(Request::Nudge { name: loop_name("builder"), text: "exit 0".into() });
    let second = lab.running_after("builder", first.epoch);
    assert_eq!(living(&left), []);
    assert_eq!(lab.doubles(), "");
    let left = children(&lab, 4);
    lab.done(Request::Restart { which: only("builder") });
    lab.running_after("builder", second.epoch);
    assert_eq!(living(&left), []);
    let left = children(&lab, 6);
    assert_eq!(living(&left).len(), 2);
    lab.done(Request::Stop { which: only("builder") });
    assert_eq!(living(&left), []);
    // tmux may be at its own end of the pane still: it runs a helper for utmp.
    lab.wait_for("only the log's pipe to be left", || {
        let kept = tree::descendants(second.server).unwrap();
        if kept.len() == 1 { Ok(()) } else { Err(kept) }
    });
    assert_eq!(lab.doubles(), "");
}

#[test]
fn nothing_of_the_daemons_environment_reaches_the_server_and_nothing_but_the_env_file_the_agent() {
    let seeds =
        ["CLAUDECODE", "CLAUDE_CODE_CHILD_SESSION", "TMUX", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "SECRET"];
    let mut lab = Lab::new(&a_loop("builder", "agent.sh", "env_files = [\"env\"]\n"));
    std::fs::write(lab.path("ws/env"), "API_KEY=a-secret-value\n").unwrap();
    lab.options.env = seeds.map(|name| (name.to_owned(), "seeded-value".to_owned())).into();
    lab.start();
    let agent = lab.running("builder");
    let of = |pid, file| String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap()).into_owned();
    for pid in [agent.id.pid, agent.server] {
        let environ = of(pid, "environ");
        assert!(environ.contains("PATH="), "{environ}");
        for name in seeds {
            assert!(!environ.split('\0').any(|var| var.starts_with(&format!("{name}="))), "{environ}");
        }
        assert!(!environ.contains("seeded-value"));
    }
    assert!(of(agent.id.pid, "environ").contains("API_KEY=a-secret-value"));
    let global = tmux(&lab, "builder", &["show-environment", "-g"]);
    let session = tmux(&lab, "builder", &["show-environment", "-t", "builder"]);
    agent.signal(Signal::KILL);
    lab.running_after("builder", agent.epoch);
    let everything = [of(agent.server, "environ"), of(agent.server, "cmdline"), global, session, lab.stderr()];
    for text in everything {
        assert!(!text.contains("a-secret-value") && !text.contains("seeded-value"), "{text}");
    }
    for id in support::reaper::all(&lab.path("")) {
        // It may have ended meanwhile.
        let line = tree::cmdline(id.pid).unwrap();
        assert!(!String::from_utf8_lossy(&line).contains("a-secret-value"));
    }
    let mut grep = Command::new("grep");
    grep.args(["-rlE", "a-secret-value|seeded-value"]);
    let out = grep.args([lab.path("state"), lab.path("run"), lab.path("stderr")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "", "a secret is in a file");
}
