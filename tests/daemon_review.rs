//! What a review of the daemon found: faults of its surroundings that once kept it, or a loop, from going on.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::Request;
use cc_ci::support::process::{ProcId, send};
use rustix::process::Signal;
use std::os::unix::net::UnixStream;
use support::script::{self, a_loop};
use support::{Lab, loop_name, read, when};

fn one() -> String {
    a_loop("builder", "agent.sh", "")
}

#[test]
fn a_supervisor_that_is_told_to_end_while_a_session_host_comes_up_ends() {
    let mut lab = Lab::new(&one());
    std::fs::create_dir(lab.path("bin")).unwrap();
    script::write(&lab.path("bin"), "tmux", "echo $$ >@dir@/made; exec sleep 100000\n");
    let path = std::env::var("PATH").unwrap();
    lab.options.env.push(("PATH".into(), format!("{}:{path}", lab.path("bin").display())));
    lab.start();
    let made = lab
        .wait_for("the session host", || read(&lab.path("bin/made")).trim().parse::<i32>().map_err(|e| e.to_string()));
    lab.end(Signal::TERM);
    assert_eq!(ProcId::of(made).unwrap(), None, "its session host was left behind");
}

#[test]
fn a_removed_folder_of_all_sessions_comes_back_and_the_agents_live_on() {
    let lab = Lab::start_with(&one());
    let builder = lab.running("builder");
    for folder in ["run/session/builder", "run/session"] {
        // While it is being removed, the supervisor and tmux put things into it again.
        lab.wait_for("the removal", || std::fs::remove_dir_all(lab.path(folder)).map_err(|e| e.to_string()));
        // Made by tmux before it listens.
        lab.wait_for("the socket", || UnixStream::connect(lab.tmux_socket("builder")).map_err(|e| e.to_string()));
        lab.done(Request::Nudge { name: loop_name("builder"), text: folder.into() });
        lab.wait_for("the nudge", || when(lab.said("builder").contains(folder), lab.said("builder")));
    }
    assert_eq!(lab.running("builder"), builder);
    // A new server's socket is seen too.
    builder.signal(Signal::KILL);
    send(ProcId::of(builder.server).unwrap().unwrap(), Signal::KILL).unwrap();
    lab.running_after("builder", builder.epoch);
}

#[test]
fn a_request_that_is_durable_for_one_loop_only_is_taken_back_and_the_failure_ends() {
    let lab = Lab::start_with(&format!("{}{}", one(), a_loop("adversary", "agent.sh", "")));
    lab.running("builder");
    lab.running("adversary");
    let record = |name: &str| lab.state(&format!("loops/{name}.json"));
    let wish = |name: &str| {
        let value: serde_json::Value = serde_json::from_str(&read(&record(name))).unwrap();
        value.pointer("/data/wish").unwrap_or(&value).to_string()
    };
    let before = wish("adversary");
    // A folder in its place cannot be replaced, not even by root. The adversary is written before the builder.
    std::fs::rename(record("builder"), lab.path("aside")).unwrap();
    std::fs::create_dir(record("builder")).unwrap();
    let why = lab.not_done(Request::Stop { which: cc_ci::supervisor::control::protocol::Which::All });
    assert!(why.ends_with("nothing was changed"), "{why}");
    lab.wait_for("the adversary's wish", || when(wish("adversary") == before, wish("adversary")));
    lab.wait_for("the failure in the status", || when(lab.status().unwritable.is_some(), "none"));
    std::fs::remove_dir(record("builder")).unwrap();
    lab.wait_for("the end of the failure", || lab.status().unwritable.map_or(Ok(()), Err));
    assert_eq!(wish("builder"), before);
    assert!(["builder", "adversary"].iter().all(|name| lab.starts(name).len() == 1));
}

#[test]
fn a_living_agent_is_left_alone_while_tmux_cannot_be_run() {
    let mut lab = Lab::start_with(&one());
    let builder = lab.running("builder");
    lab.kill();
    lab.options.env = vec![("PATH".into(), lab.path("home").display().to_string())];
    lab.start();
    lab.wait_for("a word about it", || when(lab.stderr().contains("asking its tmux server"), lab.stderr()));
    assert!(builder.is_alive());
    lab.kill();
    lab.options.env.clear();
    lab.start();
    assert_eq!(lab.running("builder"), builder);
    assert_eq!(lab.starts("builder").len(), 1);
}

#[test]
fn a_log_that_was_rotated_while_the_agent_was_down_is_written_anew_by_the_next() {
    let mut lab = Lab::start_with(&a_loop("builder", "agent.sh", ""));
    let builder = lab.running("builder");
    let which = support::only("builder");
    lab.done(Request::Stop { which: which.clone() });
    lab.kill();
    let log = lab.state("logs/builder.log");
    std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(33 << 20).unwrap();
    lab.start();
    lab.wait_for("the rotation", || when(lab.state("logs/builder.log.1").exists(), "none"));
    lab.done(Request::Start { which });
    let next = lab.running_after("builder", builder.epoch);
    lab.done(Request::Nudge { name: loop_name("builder"), text: "hello".into() });
    lab.wait_for("the log", || when(read(&log).contains("hello"), read(&log)));
    // One that somebody removes while it runs is there again at the next start at the latest.
    std::fs::remove_file(&log).unwrap();
    next.signal(Signal::KILL);
    lab.running_after("builder", next.epoch);
    lab.done(Request::Nudge { name: loop_name("builder"), text: "again".into() });
    lab.wait_for("the log", || when(read(&log).contains("again"), read(&log)));
}

#[test]
fn a_session_host_that_fails_at_once_is_told_in_its_own_words_and_leaves_no_zombie() {
    let mut lab = Lab::new(&one());
    lab.options.env.push(("PATH".into(), lab.path("home").display().to_string()));
    lab.start();
    let told = lab.wait_for("the reason", || {
        let view = lab.view("builder");
        let what = view.holds.first().map(|hold| hold.what.clone()).unwrap_or_default();
        if what.contains("install tmux") { Ok(what) } else { Err(what) }
    });
    assert!(told.contains("no session host"), "{told}");
    let children = format!("/proc/{0}/task/{0}/children", lab.daemon_pid());
    // The program that tells of it may still run; a zombie would stay.
    lab.wait_for("its children to be reaped", || {
        let children = read(std::path::Path::new(&children));
        when(children.trim().is_empty(), children)
    });
}

#[test]
fn the_last_notifications_are_told_before_the_supervisor_ends() {
    let mut lab = Lab::new(&a_loop("builder", "fragile.sh", "crash_loop = { deaths = 2, within = \"10m\" }\n"));
    script::write(&lab.path(""), "notify.sh", "sleep 0.3; line=$(cat); echo \"$line\" >>@dir@notified\n");
    std::fs::write(lab.path("broken"), "").unwrap();
    lab.start();
    lab.held("builder", "crash loop");
    lab.end(Signal::TERM);
    assert_eq!(lab.notified("crash-loop").len(), 1, "{:?}", lab.notifications());
}
