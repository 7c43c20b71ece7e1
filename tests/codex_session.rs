//! The real codex CLI under the supervisor: fresh start, hooks, nudges, resume, usage limit, login, overload.

#![allow(clippy::unwrap_used, reason = "a test")]

mod cli_kit;
mod codex;
mod support;

use cc_ci::supervisor::control::protocol::{Request, Which};
use codex::mock::Answer;
use codex::{CodexLab, codex_loop};
use rustix::process::Signal;
use std::time::Duration;
use support::{loop_name, when};

fn nudge(name: &str, text: &str) -> Request {
    Request::Nudge { name: loop_name(name), text: text.into() }
}

#[test]
fn a_fresh_session_gets_its_kickoff_tells_of_its_turn_and_takes_a_nudge() {
    let Some(c) = CodexLab::start("codex: fresh start", &codex_loop("builder", "")) else { return };
    c.up_after("builder", 0);
    c.asked("KICKOFF of builder");
    c.turn("builder", "idle");
    let said = c.lab.done(nudge("builder", "now the\nsecond thing"));
    assert!(said[0].contains("took it"), "{said:?}");
    assert!(c.asked("now the second thing").input.contains("KICKOFF of builder"), "in another conversation");
    c.turn("builder", "idle");
    assert_eq!(c.lab.notifications(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_killed_agent_is_resumed_by_the_session_that_it_named_itself() {
    let Some(c) = CodexLab::start("codex: SIGKILL, then resume", &codex_loop("builder", "")) else { return };
    let first = c.up_after("builder", 0);
    c.turn("builder", "idle");
    let given = c.session("builder");
    c.lab.done(nudge("builder", "remember the word GRANITE"));
    c.asked("GRANITE");
    c.turn("builder", "idle");
    first.signal(Signal::KILL);
    c.up_after("builder", first.epoch);
    assert_ne!(c.session("builder"), given, "the uuid that the supervisor had made up was resumed");
    assert!(c.asked("You were restarted").input.contains("GRANITE"), "the earlier turns are gone");
    c.turn("builder", "idle");
    assert_eq!(c.lab.view("builder").restarts, 1);
}

#[test]
fn an_agent_that_dies_before_it_has_a_session_is_given_its_kickoff_again() {
    let Some(mut c) = CodexLab::new("codex: dead at birth", &codex_loop("builder", "")) else { return };
    let config = c.lab.path("home/.codex/config.toml");
    let good = support::read(&config);
    // It ends with an error before it has begun anything.
    std::fs::write(&config, "model = [").unwrap();
    c.lab.start();
    c.lab.wait_for("a death", || when(c.lab.view("builder").restarts > 0, c.screen("builder")));
    // It may be read at any moment.
    let whole = config.with_extension("whole");
    std::fs::write(&whole, good).unwrap();
    std::fs::rename(&whole, &config).unwrap();
    c.asked("KICKOFF of builder");
    c.turn("builder", "idle");
    assert!(c.lab.decisions("resume-failed", Some("builder")).is_empty(), "a session that never was was resumed");
}

#[test]
fn a_tool_in_flight_is_known_and_its_death_is_taken_up_again() {
    let Some(mut c) = CodexLab::new("codex: SIGKILL in mid-tool", &codex_loop("builder", "")) else { return };
    c.api.once(Answer::Tool("sleep 300".into()));
    c.lab.start();
    let first = c.up_after("builder", 0);
    c.turn("builder", "tool");
    first.signal(Signal::KILL);
    c.up_after("builder", first.epoch);
    assert!(c.asked("You were restarted").input.contains("KICKOFF of builder"));
    c.turn("builder", "idle");
}

#[test]
fn a_usage_limit_that_no_hook_tells_holds_the_account_until_its_reset() {
    let tables = format!("{}{}", codex_loop("builder", ""), codex_loop("adversary", ""));
    let Some(c) = CodexLab::start("codex: usage limit", &tables) else { return };
    let agents = ["adversary", "builder"].map(|name| {
        let agent = c.up_after(name, 0);
        c.turn(name, "idle");
        agent
    });
    c.api.always(Answer::Limit(25));
    c.lab.done(nudge("builder", "work on"));
    let told = c.lab.await_notified("usage-limit");
    assert!(told["summary"].as_str().unwrap().contains("account default"), "{told}");
    let account = c.lab.status().accounts.into_iter().next().unwrap();
    assert!(format!("{account:?}").contains("hit your usage limit"), "{account:?}");
    let waits = c.lab.view("adversary").waits_for.unwrap();
    assert!(waits.contains("usage limit of account default"), "{waits}");
    c.api.always(Answer::Text);
    support::wait_for(3 * support::DEADLINE, "the account to be open", || {
        when(c.lab.status().accounts.is_empty(), format!("{:?}", c.lab.decisions("account-trial", None)))
    });
    c.asked("The usage limit has reset");
    for (name, agent) in ["adversary", "builder"].iter().zip(agents) {
        assert_eq!(c.up_after(name, 0).id, agent.id, "{name} was restarted for a usage limit");
    }
}

#[test]
fn a_refused_key_is_a_lost_login_until_a_new_one_is_proved_by_a_turn() {
    let Some(c) = CodexLab::start("codex: lost login", &codex_loop("builder", "")) else { return };
    c.up_after("builder", 0);
    c.turn("builder", "idle");
    c.api.always(Answer::Login("second-key".into()));
    c.lab.done(nudge("builder", "work on"));
    support::wait_for(2 * support::DEADLINE, "a lost login", || {
        c.lab.notified("login").pop().ok_or_else(|| c.screen("builder"))
    });
    c.key("second-key");
    c.lab.done(Request::Start { which: Which::All });
    support::wait_for(3 * support::DEADLINE, "the account to be open", || {
        when(c.lab.status().accounts.is_empty(), c.screen("builder"))
    });
    assert!(c.api.turns().iter().any(|t| t.key == "second-key"), "no turn has proved the new key");
}

#[test]
fn an_overloaded_server_costs_no_process() {
    let Some(c) = CodexLab::start("codex: overloaded", &codex_loop("builder", "")) else { return };
    let first = c.up_after("builder", 0);
    c.turn("builder", "idle");
    c.api.always(Answer::Overloaded);
    c.lab.done(nudge("builder", "work on"));
    support::wait_for(2 * support::DEADLINE, "the overload to be told", || {
        when(!c.lab.decisions("overloaded", None).is_empty(), c.screen("builder"))
    });
    assert_eq!(c.up_after("builder", 0).id, first.id, "it was restarted");
    assert!(c.lab.status().accounts.is_empty(), "an overload was taken for a limit of the account");
}

#[test]
fn a_supervisor_killed_in_mid_turn_hears_of_the_turns_end() {
    let Some(mut c) = CodexLab::new("codex: supervisor killed", &codex_loop("builder", "")) else { return };
    c.api.once(Answer::Slow(Duration::from_secs(6)));
    c.lab.start();
    let first = c.up_after("builder", 0);
    c.turn("builder", "busy");
    c.lab.kill_and_restart();
    assert_eq!(c.up_after("builder", 0).id, first.id);
    c.turn("builder", "idle");
    assert_eq!(c.api.turns().len(), 1, "the turn was run twice");
}

#[test]
fn the_doctor_tells_of_the_cli_its_login_hooks_and_sessions() {
    let Some(c) = CodexLab::start("codex: doctor", &codex_loop("builder", "")) else { return };
    c.up_after("builder", 0);
    c.turn("builder", "idle");
    let said = c.doctor("builder");
    for line in [
        "codex-cli ",
        "ok     builder: its login auth is provided by the active model provider",
        "ok     builder: its hooks reach the supervisor (tried)",
        "ok     builder: its sessions can be written",
    ] {
        assert!(said.contains(line), "no `{line}` in:\n{said}");
    }
    std::fs::write(c.lab.path("ws/codex.env"), "OTHER=1\n").unwrap();
    let said = c.doctor("builder");
    assert!(said.contains("wrong  builder: its login"), "{said}");
}
