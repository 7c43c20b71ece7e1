//! The real claude CLI under the supervisor: fresh start, hooks, nudges, resume after each kind of death, dialogs.

#![allow(clippy::unwrap_used, reason = "a test")]

mod claude;
mod cli_kit;
mod support;

use cc_ci::supervisor::control::protocol::Request;
use claude::mock::Answer;
use claude::{ClaudeLab, claude_loop};
use rustix::process::Signal;
use std::time::Duration;
use support::{loop_name, when};

fn nudge(name: &str, text: &str) -> Request {
    Request::Nudge { name: loop_name(name), text: text.into() }
}

#[test]
fn a_fresh_session_gets_its_kickoff_tells_of_its_turn_and_takes_a_nudge() {
    let Some(c) = ClaudeLab::start("fresh start", &claude_loop("builder", "")) else { return };
    c.up("builder");
    assert!(c.asked("KICKOFF of builder").messages.len() < 4);
    c.turn("builder", "idle");
    let said = c.lab.done(nudge("builder", "now the\nsecond thing"));
    assert!(said[0].contains("took it"), "{said:?}");
    let asked = c.asked("now the second thing");
    assert!(asked.has("KICKOFF of builder"), "the nudge came into another conversation");
    c.turn("builder", "idle");
    assert_eq!(c.lab.notifications(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_nudge_that_is_taken_between_two_tools_is_not_typed_again() {
    let Some(mut c) = ClaudeLab::new("nudge in mid-tool", &claude_loop("builder", "")) else { return };
    let told = c.lab.path("ws/told");
    c.api.once(Answer::Tool(format!("while [ ! -e {} ]; do sleep 0.1; done", told.display())));
    c.lab.start();
    c.up("builder");
    c.turn("builder", "tool");
    c.lab.done(nudge("builder", "look to\nthe left"));
    c.lab.wait_for("the text in its queue", || {
        let screen = c.screen("builder");
        when(screen.contains("look to the left"), screen)
    });
    std::fs::write(&told, "").unwrap();
    c.asked("look to the left");
    c.lab.wait_for("the word that it was taken", || {
        when(!c.lab.decisions("nudge-taken", Some("builder")).is_empty(), format!("{:?}", c.lab.journal()))
    });
    c.turn("builder", "idle");
    assert!(c.lab.decisions("nudge-again", None).is_empty(), "typed again");
    assert!(c.api.turns().iter().all(|turn| turn.has("KICKOFF")), "it came into another conversation");
}

#[test]
fn a_killed_agent_is_resumed_and_the_api_sees_the_earlier_turns() {
    let Some(c) = ClaudeLab::start("SIGKILL, then resume", &claude_loop("builder", "")) else { return };
    let first = c.up("builder");
    c.turn("builder", "idle");
    c.lab.done(nudge("builder", "remember the word GRANITE"));
    c.asked("GRANITE");
    c.turn("builder", "idle");
    let session = c.session(first);
    c.written(first, "GRANITE");
    first.signal(Signal::KILL);
    let second = c.up_after("builder", first.epoch);
    assert_eq!(c.session(second), session, "another session");
    c.turn("builder", "idle");
    c.lab.done(nudge("builder", "and now the word BASALT"));
    let asked = c.asked("BASALT");
    assert!(asked.has("GRANITE") && asked.has("KICKOFF"), "the earlier turns are gone");
}

#[test]
fn a_turn_that_the_agents_death_cut_is_taken_up_again() {
    let Some(c) = ClaudeLab::new("SIGKILL in mid-tool", &claude_loop("builder", "")) else { return };
    let mut c = c;
    c.api.once(Answer::Tool("sleep 300".into()));
    c.lab.start();
    let first = c.up("builder");
    c.turn("builder", "tool");
    c.written(first, "sleep 300");
    first.signal(Signal::KILL);
    c.up_after("builder", first.epoch);
    c.turn("builder", "idle");
    c.lab.wait_for("a second turn of the conversation", || {
        let turns = c.api.turns();
        when(turns.len() >= 2 && turns.last().unwrap().has("KICKOFF"), format!("{}", turns.len()))
    });
    assert_eq!(c.lab.view("builder").restarts, 1);
}

#[test]
fn a_supervisor_killed_in_mid_turn_finds_the_agent_again_and_hears_of_the_turns_end() {
    let Some(mut c) = ClaudeLab::new("supervisor killed in mid-turn", &claude_loop("builder", "")) else { return };
    c.api.once(Answer::Slow(Duration::from_secs(6)));
    c.lab.start();
    let first = c.up("builder");
    c.turn("builder", "busy");
    c.lab.kill_and_restart();
    let found = c.up("builder");
    assert_eq!((found.id, found.epoch), (first.id, first.epoch));
    c.turn("builder", "idle");
    assert_eq!(c.api.turns().len(), 1, "the turn was run twice");
}

#[test]
fn a_transcript_that_cannot_be_resumed_ends_in_a_fresh_session_with_the_handoff() {
    let Some(c) = ClaudeLab::start("torn transcript", &claude_loop("builder", "")) else { return };
    let first = c.up("builder");
    c.turn("builder", "idle");
    c.written(first, "mock answer");
    let session = c.session(first);
    std::fs::write(c.transcript(&session), "\0\0\0{\"type\":\"us").unwrap();
    first.signal(Signal::KILL);
    let asked = c.asked("HANDOFF of builder");
    assert!(!asked.has("KICKOFF"), "the old conversation is there after all");
    c.turn("builder", "idle");
    assert_ne!(c.session(c.up("builder")), session);
    assert!(!c.lab.decisions("resume-failed", Some("builder")).is_empty());
}

#[test]
fn two_loops_in_one_workdir_keep_their_sessions_apart() {
    let tables = format!("{}{}", claude_loop("builder", ""), claude_loop("adversary", ""));
    let Some(c) = ClaudeLab::start("two loops, one workdir", &tables) else { return };
    for name in ["builder", "adversary"] {
        let first = c.up(name);
        c.turn(name, "idle");
        c.written(first, "mock answer");
        first.signal(Signal::KILL);
        c.up_after(name, first.epoch);
        c.turn(name, "idle");
    }
    for (name, other) in [("builder", "adversary"), ("adversary", "builder")] {
        let word = format!("word for {name}");
        c.lab.done(nudge(name, &word));
        let asked = c.asked(&word);
        assert!(asked.has(&format!("KICKOFF of {name}")) && !asked.has(&format!("KICKOFF of {other}")));
    }
}

#[test]
fn a_dialog_that_the_user_wants_is_said_and_nothing_is_typed_into_it() {
    let Some(mut c) = ClaudeLab::new("dialog", &claude_loop("builder", "")) else { return };
    let workdir = c.lab.path("ws").canonicalize().unwrap();
    let own = serde_json::json!({ "hasCompletedOnboarding": true,
        "projects": { workdir.to_str().unwrap(): { "hasTrustDialogAccepted": false } } });
    std::fs::write(c.lab.path("home/.claude.json"), own.to_string()).unwrap();
    c.lab.start();
    c.up("builder");
    let why = c.lab.not_done(nudge("builder", "hello"));
    assert!(why.contains("has not said that it is up"), "{why}");
    let text = support::wait_for(2 * support::DEADLINE, "a notification", || {
        c.lab.notified("attention").pop().ok_or_else(|| c.screen("builder"))
    });
    assert!(text["summary"].as_str().unwrap().contains("a dialog may wait"), "{text}");
    assert!(c.screen("builder").contains("trust this folder"), "{}", c.screen("builder"));
    assert!(c.api.turns().is_empty());
}

#[test]
fn a_question_is_told_as_waiting_for_a_person() {
    let Some(mut c) = ClaudeLab::new("question", &claude_loop("builder", "attention_after = \"1s\"\n")) else { return };
    c.api.once(Answer::Question);
    c.lab.start();
    c.turn("builder", "person");
    let text = c.lab.await_notified("attention");
    assert!(text["summary"].as_str().unwrap().contains("Which colour?"), "{text}");
}

#[test]
fn the_doctor_tells_of_the_cli_its_login_dialogs_hooks_and_sessions() {
    let Some(c) = ClaudeLab::start("doctor", &claude_loop("builder", "")) else { return };
    c.up("builder");
    c.turn("builder", "idle");
    let said = c.doctor("builder");
    for line in [
        "ok     builder: no first-start dialog is in its way",
        "(Claude Code)",
        "ok     builder: its login is there",
        "ok     builder: its hooks reach the supervisor (tried)",
        "ok     builder: its transcripts can be written",
    ] {
        assert!(said.contains(line), "no `{line}` in:\n{said}");
    }
    assert_eq!(c.lab.view("builder").turn.as_deref(), Some("idle"), "the doctor's event was taken for the agent's");
    assert!(!said.contains("sk-ant"), "a token was shown");
    std::fs::write(c.lab.path("ws/claude.env"), "IS_SANDBOX=1\n").unwrap();
    let said = c.doctor("builder");
    assert!(said.contains("wrong  builder: its login"), "{said}");
}

#[test]
fn an_idle_agent_is_kept_going_also_by_a_new_supervisor() {
    let tables = claude_loop("builder", "on_idle = { nudge = \"go on with {loop}\", after = \"5s\" }\n");
    let Some(mut c) = ClaudeLab::start("on_idle", &tables) else { return };
    c.asked("go on with builder");
    c.turn("builder", "idle");
    c.lab.kill_and_restart();
    let before = c.api.turns().len();
    c.lab.wait_for("another nudge", || when(c.api.turns().len() > before, format!("{before}")));
    assert_eq!(c.lab.view("builder").epoch, 1);
}
