//! The real claude CLI at the limits of its account: usage limits, a lost login, an overloaded server; and a drain.

#![allow(clippy::unwrap_used, reason = "a test")]

mod claude;
mod cli_kit;
mod support;

use cc_ci::supervisor::control::protocol::{Request, Which};
use claude::mock::Answer;
use claude::{ClaudeLab, claude_loop};
use std::time::Duration;
use support::{loop_name, when};

fn pair() -> String {
    format!("{}{}", claude_loop("builder", ""), claude_loop("adversary", ""))
}

fn nudge(name: &str, text: &str) -> Request {
    Request::Nudge { name: loop_name(name), text: text.into() }
}

#[test]
fn a_usage_limit_holds_the_account_across_a_restart_and_each_loop_is_released_by_a_turn() {
    let Some(mut c) = ClaudeLab::start("usage limit", &pair()) else { return };
    let names = ["adversary", "builder"];
    let agents = names.map(|name| c.up(name));
    for name in names {
        c.turn(name, "idle");
    }
    c.api.always(Answer::Limit(25));
    c.lab.done(nudge("builder", "work on"));
    let told = c.lab.await_notified("usage-limit");
    assert!(told["summary"].as_str().unwrap().contains("account default"), "{told}");
    for name in names {
        c.lab.wait_for("the limit in status", || {
            let waits = c.lab.view(name).waits_for.unwrap_or_default();
            when(waits.contains("usage limit of account default"), waits)
        });
    }
    let refused = c.lab.not_done(nudge("adversary", "you too"));
    assert!(refused.contains("account cannot be used"), "{refused}");
    // The window's own reset, to the second, arrives with the status line.
    c.lab.wait_for("the exact reset", || {
        when(c.lab.decisions("hold", None).iter().any(|e| e["why"].as_str().unwrap().contains("tells its reset")), "")
    });
    let until = c.lab.status().accounts;
    c.lab.kill_and_restart();
    assert_eq!(c.lab.status().accounts, until, "the hold was lost or moved");
    let before = c.api.turns().len();
    c.api.always(Answer::Text);
    support::wait_for(3 * support::DEADLINE, "the account to be open", || {
        let open = c.lab.status().accounts.is_empty();
        when(open, format!("{:?}", c.lab.decisions("account-trial", None)))
    });
    assert!(c.api.turns().len() > before, "released without a turn");
    assert!(!c.lab.decisions("account-trial", None).is_empty());
    c.asked("The usage limit has reset");
    for (name, agent) in names.iter().zip(agents) {
        assert_eq!(c.up(name).id, agent.id, "{name} was restarted for a usage limit");
    }
    assert_eq!(c.lab.notified("nudge"), Vec::<serde_json::Value>::new());
}

#[test]
fn a_lost_login_holds_the_account_until_a_new_token_is_proved_by_a_turn() {
    let Some(c) = ClaudeLab::start("lost login", &pair()) else { return };
    for name in ["adversary", "builder"] {
        c.up(name);
        c.turn(name, "idle");
    }
    c.api.always(Answer::Login("sk-ant-oat01-second".into()));
    c.lab.done(nudge("builder", "work on"));
    c.lab.await_notified("login");
    let waits = c.lab.view("adversary").waits_for.unwrap();
    assert!(waits.contains("login of account default"), "{waits}");
    c.token("sk-ant-oat01-second");
    c.lab.done(Request::Start { which: Which::All });
    support::wait_for(3 * support::DEADLINE, "the account to be open", || {
        when(c.lab.status().accounts.is_empty(), format!("{:?}", c.lab.decisions("account-trial", None)))
    });
    assert!(c.api.turns().iter().any(|t| t.token == "sk-ant-oat01-second"), "no turn has proved the new token");
    assert_eq!(c.lab.view("builder").restarts, 0, "a new login was counted as a crash");
}

#[test]
fn an_overloaded_server_costs_no_process() {
    let Some(c) = ClaudeLab::start("overloaded", &claude_loop("builder", "")) else { return };
    let first = c.up("builder");
    c.turn("builder", "idle");
    for answer in [Answer::BareLimit, Answer::Overloaded] {
        let seen = c.lab.decisions("overloaded", None).len();
        c.api.always(answer);
        c.lab.done(nudge("builder", "work on"));
        support::wait_for(2 * support::DEADLINE, "the overload to be told", || {
            when(c.lab.decisions("overloaded", None).len() > seen, c.screen("builder"))
        });
    }
    c.api.always(Answer::Text);
    assert_eq!(c.up("builder").id, first.id, "it was restarted");
    assert!(c.lab.status().accounts.is_empty(), "an overload was taken for a limit of the account");
}

#[test]
fn a_connection_that_is_cut_in_the_middle_of_an_answer_costs_no_turn() {
    let Some(mut c) = ClaudeLab::new("cut connection", &claude_loop("builder", "")) else { return };
    c.api.once(Answer::Cut);
    c.lab.start();
    c.up("builder");
    c.asked_times("KICKOFF of builder", 2);
    c.turn("builder", "idle");
}

#[test]
fn a_drain_waits_for_the_end_of_the_turn() {
    let Some(mut c) = ClaudeLab::new("drain", &claude_loop("builder", "")) else { return };
    c.api.once(Answer::Slow(Duration::from_secs(5)));
    c.lab.start();
    let first = c.up("builder");
    c.turn("builder", "busy");
    c.lab.done(Request::Drain { timeout_ms: 60_000 });
    assert!(!first.is_alive());
    // The request waited in the CLI's queue and became a turn of its own, in which the agent commits and pushes.
    let turns = c.api.turns();
    assert_eq!(turns.len(), 2);
    assert!(turns[1].has("come to a safe point"), "ended before the request had reached it");
    let text = support::read(&c.transcript(&session_of(&c)));
    assert_eq!(text.matches("mock answer").count(), 2, "a turn was cut");
    let ends = c.lab.journal().iter().filter(|e| e["decision"] == "end").count();
    assert_eq!(ends, 1, "it was not ended once, at its turn's end");
}

#[test]
fn a_drain_spares_an_agent_that_is_safe_as_it_is_a_turn() {
    let Some(c) = ClaudeLab::start("drain of an idle agent", &claude_loop("builder", "")) else { return };
    let first = c.up("builder");
    c.turn("builder", "idle");
    c.lab.done(Request::Drain { timeout_ms: 60_000 });
    assert!(!first.is_alive());
    assert_eq!(c.api.turns().len(), 1);
}

fn session_of(c: &ClaudeLab) -> String {
    let start = c.lab.decisions("start", Some("builder")).pop().unwrap();
    start["evidence"]["session"]["uuid"].as_str().unwrap().to_owned()
}
