//! What holds a loop: needs, memory, usage limits, a lost login; and that it goes on by itself.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::{Request, Which};
use cc_ci::supervisor::core::holds::HoldKind;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use rustix::process::Signal;
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use support::script::a_loop;
use support::{Lab, loop_name, only};

fn three(more: &str) -> String {
    ["builder", "adversary", "third"].map(|name| a_loop(name, "agent.sh", more)).concat()
}

/// Holds the loop, releases it by `bring`, and takes the need away again by `take`.
fn a_need_holds_and_releases(need: &str, bring: impl FnOnce(&Lab), take: impl FnOnce(&Lab)) {
    let needs = "needs = [\"thing\"]\n";
    let free = a_loop("free", "agent.sh", "");
    let lab = Lab::start_with(&format!("{}{free}[needs.thing]\n{need}\n", a_loop("builder", "agent.sh", needs)));
    lab.wait_for("the loop to be held for its need alone", || {
        let view = lab.view("builder");
        let kinds: Vec<_> = view.holds.iter().map(|hold| hold.kind).collect();
        if kinds == [HoldKind::Needs] { Ok(()) } else { Err(Box::new(view)) }
    });
    lab.running("free");
    assert_eq!(lab.starts("builder").len(), 0);
    bring(&lab);
    let agent = lab.running("builder");
    take(&lab);
    // Looked at when somebody wants to start: then it is told, and what runs is left alone.
    lab.done(Request::Stop { which: only("free") });
    assert_eq!(lab.running("builder"), agent);
    agent.signal(Signal::KILL);
    lab.wait_for("the loop to go on or to be held", || {
        let view = lab.view("builder");
        if view.epoch > agent.epoch || view.state == "held" { Ok(()) } else { Err(Box::new(view)) }
    });
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_missing_file_holds_a_loop_until_it_is_there() {
    a_need_holds_and_releases(
        "file = \"there\"",
        |lab| std::fs::write(lab.path("ws/there"), "").unwrap(),
        |lab| std::fs::remove_file(lab.path("ws/there")).unwrap(),
    );
}

#[test]
fn a_failing_command_holds_a_loop_until_it_succeeds() {
    a_need_holds_and_releases(
        "command = [\"test\", \"-e\", \"there\"]",
        |lab| std::fs::write(lab.path("ws/there"), "").unwrap(),
        |lab| std::fs::remove_file(lab.path("ws/there")).unwrap(),
    );
}

#[test]
fn a_closed_port_holds_a_loop_until_somebody_listens() {
    // Bound and not listening: nobody else gets the port, and whoever connects is refused.
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().unwrap();
    a_need_holds_and_releases(&format!("tcp = \"{port}\""), |_| net::listen(&listener, 8).unwrap(), |_| {});
}

#[test]
fn a_need_that_goes_away_is_told_stops_nothing_and_holds_the_next_start() {
    let lab = Lab::new(&format!(
        "{}{}[needs.thing]\nfile = \"there\"\n",
        a_loop("builder", "agent.sh", "needs = [\"thing\"]\n"),
        a_loop("adversary", "agent.sh", "needs = [\"thing\"]\n")
    ));
    std::fs::write(lab.path("ws/there"), "").unwrap();
    let mut lab = lab;
    lab.start();
    let (builder, adversary) = (lab.running("builder"), lab.running("adversary"));
    std::fs::remove_file(lab.path("ws/there")).unwrap();
    // A probe that is fresh is believed for 30 s; each start after that looks again.
    let mut agent = builder;
    lab.wait_for("the next start to be held", || {
        lab.done(Request::Restart { which: only("builder") });
        let view = lab.view("builder");
        if view.state == "held" { Ok(()) } else { Err(Box::new(view)) }
    });
    lab.held("builder", "thing");
    lab.await_notified("need");
    assert_eq!(lab.running("adversary"), adversary);
    std::fs::write(lab.path("ws/there"), "").unwrap();
    agent.epoch = lab.view("builder").epoch;
    lab.running_after("builder", agent.epoch);
}

#[test]
fn too_little_memory_holds_the_start_and_says_both_numbers() {
    let mut lab = Lab::start_with(&three(""));
    let agent = lab.running("builder");
    lab.kill();
    lab.configure(&format!("min_free_memory = \"900000G\"\n{}", three("")));
    lab.start();
    assert_eq!(lab.running("builder"), agent);
    agent.signal(Signal::KILL);
    let held = lab.held("builder", "min_free_memory is");
    assert_eq!(held.holds[0].kind, HoldKind::Memory, "{held:?}");
    assert!(held.holds[0].what.ends_with("min_free_memory is 879T"), "{held:?}");
    assert_eq!(lab.starts("builder").len(), 1);
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[test]
fn a_usage_limit_holds_every_loop_of_the_account_over_restarts_and_they_come_back_one_by_one() {
    let other = a_loop("other", "agent.sh", "account = \"second\"\n");
    let mut lab = Lab::start_with(&format!("{}{other}", three("")));
    let names = ["builder", "adversary", "third"];
    let agents = names.map(|name| lab.running(name));
    let other = lab.running("other");
    let reset = now_ms() + 3_600_000;
    lab.event("builder", json!({ "signal": "usage-limit", "resets_at": reset, "evidence": "5-hour limit reached" }));
    lab.await_notified("usage-limit");
    for round in 0..2 {
        let status = lab.status();
        assert_eq!(status.accounts.len(), 1, "{round}: {:?}", status.accounts);
        assert!(status.accounts[0].text.contains("5-hour limit reached"));
        assert!(status.accounts[0].release_at >= reset);
        for name in names {
            let view = lab.view(name);
            assert!(view.waits_for.as_ref().is_some_and(|w| w.contains("usage limit")), "{round}: {view:?}");
        }
        lab.kill_and_restart();
        for name in names {
            lab.running(name);
        }
    }
    // One that dies meanwhile is not started; nothing is typed into the others.
    agents[1].signal(Signal::KILL);
    lab.held("adversary", "limit");
    assert!(lab.not_done(Request::Nudge { name: loop_name("builder"), text: "x".into() }).contains("account"));
    assert_eq!(lab.running("other"), other);
    assert_eq!(lab.view("other").waits_for, None);
    assert_eq!(lab.notified("usage-limit").len(), 1);
    // The operator knows better: one is tried, a good turn lets the next one go.
    lab.done(Request::Start { which: only("adversary") });
    let tried = lab.running_after("adversary", agents[1].epoch);
    assert!(lab.view("builder").waits_for.is_some(), "released all at once");
    lab.event("adversary", json!({ "signal": "turn-ended" }));
    for name in ["builder", "third"] {
        lab.wait_for("the others to be released", || {
            lab.event("builder", json!({ "signal": "turn-ended" }));
            lab.event("third", json!({ "signal": "turn-ended" }));
            let view = lab.view(name);
            if view.waits_for.is_none() { Ok(()) } else { Err(Box::new(view)) }
        });
    }
    lab.wait_for("the account to be open", || {
        let accounts = lab.status().accounts;
        if accounts.is_empty() { Ok(()) } else { Err(accounts) }
    });
    assert_eq!((lab.running("builder"), lab.running("third"), lab.running("adversary")), (agents[0], agents[2], tried));
}

#[test]
fn a_usage_limit_ends_at_its_reset_by_itself() {
    let lab = Lab::start_with(&a_loop("builder", "agent.sh", ""));
    let agent = lab.running("builder");
    lab.event("builder", json!({ "signal": "usage-limit", "resets_at": now_ms() + 5_000, "evidence": "limit" }));
    agent.signal(Signal::KILL);
    lab.held("builder", "limit");
    // The reset has a jitter of up to 30 s.
    lab.running_after("builder", agent.epoch);
}

#[test]
fn a_lost_login_holds_the_account_until_one_loop_shows_a_good_turn() {
    let mut lab = Lab::start_with(&three(""));
    let agents = ["builder", "adversary", "third"].map(|name| lab.running(name));
    lab.event("third", json!({ "signal": "logged-out", "evidence": "authentication_failed" }));
    let told = lab.await_notified("login");
    assert!(told["detail"].as_str().unwrap().contains("supervisor start --all"), "{told}");
    agents[0].signal(Signal::KILL);
    lab.held("builder", "log");
    lab.kill_and_restart();
    lab.held("builder", "log");
    lab.done(Request::Start { which: Which::All });
    lab.wait_for("one to be tried and to show a good turn", || {
        for name in ["builder", "adversary", "third"] {
            if lab.view(name).state == "up" {
                lab.event(name, json!({ "signal": "turn-ended" }));
            }
        }
        let accounts = lab.status().accounts;
        if accounts.is_empty() { Ok(()) } else { Err(accounts) }
    });
    lab.running_after("builder", agents[0].epoch);
    assert_eq!(lab.notified("login").len(), 1);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn an_agent_above_its_memory_is_restarted_when_its_turn_has_ended() {
    let lab = Lab::start_with(&a_loop("builder", "agent.sh", "stable_after = \"1ms\"\nrestart_above = \"40M\"\n"));
    let agent = lab.running("builder");
    lab.event("builder", json!({ "signal": "prompt-accepted" }));
    let eat = "run head -c 60000000 /dev/zero | tail -c 60000000 | (sleep 100000; cat) &";
    lab.done(Request::Nudge { name: loop_name("builder"), text: eat.into() });
    lab.wait_for("its memory to be seen", || {
        // Whoever asks for the status has it looked at.
        let view = lab.view("builder");
        if lab.decisions("planned-restart", Some("builder")).is_empty() { Err(Box::new(view)) } else { Ok(()) }
    });
    assert_eq!(lab.running("builder"), agent, "restarted in the middle of its turn");
    lab.event("builder", json!({ "signal": "turn-ended" }));
    lab.running_after("builder", agent.epoch);
    assert_eq!((lab.view("builder").restarts, lab.doubles()), (0, String::new()));
}

#[test]
fn a_workdir_that_is_missing_holds_its_loop_only_until_it_is_there() {
    let away = a_loop("away", "agent.sh", "").replace("workdir = \".\"", "workdir = \"later\"");
    let lab = Lab::start_with(&format!("{}{away}", a_loop("builder", "agent.sh", "")));
    lab.running("builder");
    let seen = lab.wait_for("the missing folder to be named", || {
        let view = lab.view("away");
        if format!("{view:?}").contains("later") || view.last_death.is_some() { Ok(view) } else { Err(Box::new(view)) }
    });
    assert_eq!(lab.starts("away").len(), 0, "{seen:?}");
    std::fs::create_dir(lab.path("ws/later")).unwrap();
    lab.running("away");
    assert_eq!(lab.view("builder").epoch, 1);
}
