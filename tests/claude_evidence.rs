//! The real claude CLI where its hooks tell nothing, or nobody hears them: limits from the transcript and the screen, a
//! context that is full, texts that something eats, a user's file that cannot be written.

#![allow(clippy::unwrap_used, reason = "a test")]

mod claude;
mod cli_kit;
mod support;

use cc_ci::supervisor::control::protocol::Request;
use claude::mock::Answer;
use claude::{ClaudeLab, claude_loop};
use std::process::Command;
use support::{loop_name, when};

fn nudge(name: &str, text: &str) -> Request {
    Request::Nudge { name: loop_name(name), text: text.into() }
}

/// A loop whose CLI takes other settings than the supervisor's: of its hooks, only these are left.
fn with_hooks(hooks: &[&str]) -> String {
    let hook = serde_json::json!([{ "hooks": [{ "type": "command",
        "command": format!("'{}' event", env!("CARGO_BIN_EXE_supervisor")) }] }]);
    let hooks: serde_json::Map<_, _> = hooks.iter().map(|name| ((*name).to_owned(), hook.clone())).collect();
    let settings = serde_json::json!({ "hooks": hooks }).to_string();
    let plain = "args = [\"--dangerously-skip-permissions\"]";
    let args = format!("args = [\"--dangerously-skip-permissions\", \"--settings\", {}]", serde_json::json!(settings));
    claude_loop("builder", "").replace(plain, &args)
}

fn tmux(c: &ClaudeLab, name: &str, args: &[&str]) {
    let mut command = Command::new("tmux");
    command.arg("-S").arg(c.lab.tmux_socket(name)).args(&args[..1]).args(["-t", "%0"]).args(&args[1..]);
    assert!(command.status().unwrap().success());
}

fn type_keys(c: &ClaudeLab, name: &str, keys: &[&str]) {
    tmux(c, name, &[&["send-keys"], keys].concat());
}

#[test]
fn a_limit_whose_hook_never_came_is_read_from_the_transcript() {
    let tables = with_hooks(&["SessionStart", "UserPromptSubmit", "Stop"]);
    let Some(c) = ClaudeLab::start("limit in the transcript", &tables) else { return };
    let first = c.up("builder");
    c.turn("builder", "idle");
    c.api.always(Answer::Limit(20));
    c.lab.done(nudge("builder", "work on"));
    c.lab.await_notified("usage-limit");
    let told = c.lab.decisions("evidence", Some("builder")).pop().unwrap();
    assert_eq!(told["evidence"]["source"], "records", "{told}");
    assert!(told["evidence"]["signals"][0]["evidence"].as_str().unwrap().contains("hit your session limit"), "{told}");
    assert!(told["evidence"]["signals"][0]["resets_at"].is_i64(), "{told}");
    assert_eq!(c.up("builder").id, first.id);
}

#[test]
fn a_limit_of_an_agent_without_any_hook_is_read_from_its_screen() {
    let Some(mut c) = ClaudeLab::new("limit on the screen", &with_hooks(&[])) else { return };
    c.api.always(Answer::Limit(60));
    c.lab.start();
    c.up("builder");
    support::wait_for(3 * support::DEADLINE, "a limit", || {
        when(!c.lab.notified("usage-limit").is_empty(), c.screen("builder"))
    });
    let told = c.lab.decisions("evidence", Some("builder")).pop().unwrap();
    assert_eq!(told["evidence"]["source"], "screen", "{told}");
    assert!(told["evidence"]["signals"][0]["resets_at"].is_i64(), "{told}");
}

#[test]
fn a_full_context_ends_in_a_fresh_session_with_the_handoff() {
    let Some(mut c) = ClaudeLab::new("full context", &claude_loop("builder", "")) else { return };
    c.api.once(Answer::Full);
    c.lab.start();
    let first = c.up("builder");
    c.turn("builder", "idle");
    c.lab.done(nudge("builder", "one more thing"));
    c.asked("HANDOFF of builder");
    c.up_after("builder", first.epoch);
    assert!(!c.lab.decisions("context-full", Some("builder")).is_empty());
}

#[test]
fn a_nudge_that_a_dialog_eats_is_typed_again_and_taken() {
    let Some(c) = ClaudeLab::start("nudge eaten by a dialog", &claude_loop("builder", "")) else { return };
    c.up("builder");
    c.turn("builder", "idle");
    type_keys(&c, "builder", &["-l", "/help"]);
    c.lab.wait_for("the command", || when(c.screen("builder").contains("/help"), c.screen("builder")));
    type_keys(&c, "builder", &["Enter"]);
    c.lab.wait_for("a dialog", || {
        let screen = c.screen("builder");
        when(screen.to_lowercase().contains("esc to cancel"), screen)
    });
    let said = c.lab.done(nudge("builder", "is anyone there"));
    assert!(said[0].contains("took it"), "{said:?}");
    assert!(!c.lab.decisions("nudge-again", Some("builder")).is_empty(), "nothing was in its way");
    c.asked("is anyone there");
}

#[test]
fn a_nudge_that_never_arrives_is_said_in_answer_status_journal_and_notification() {
    let Some(c) = ClaudeLab::start("nudge undelivered", &claude_loop("builder", "")) else { return };
    c.up("builder");
    c.turn("builder", "idle");
    // Nothing that is typed gets through. (tmux lets a process that is stopped go on.)
    tmux(&c, "builder", &["select-pane", "-d"]);
    c.lab.call(nudge("builder", "hello"));
    let told = support::wait_for(2 * support::DEADLINE, "a notification", || {
        c.lab.notified("nudge").pop().ok_or_else(|| c.screen("builder"))
    });
    assert!(told["summary"].as_str().unwrap().contains("typed 3 times and never taken"), "{told}");
    assert_eq!(c.lab.decisions("nudge-undelivered", Some("builder")).len(), 1);
    let waits = c.lab.view("builder").waits_for.unwrap();
    assert!(waits.contains("does not reach it"), "{waits}");
    tmux(&c, "builder", &["select-pane", "-e"]);
    c.lab.done(nudge("builder", "hello again"));
    c.asked("hello again");
    c.lab.wait_for("the agent to be well again", || {
        let view = c.lab.view("builder");
        when(view.waits_for.is_none(), format!("{view:?}"))
    });
}

#[test]
fn a_users_file_that_is_torn_is_said_by_log_doctor_and_notification() {
    let Some(mut c) = ClaudeLab::new("torn user file", &claude_loop("builder", "")) else { return };
    let file = c.lab.path("home/.claude.json");
    let tear = || std::fs::write(&file, "{\"hasCompletedOnboarding\": tr").unwrap();
    tear();
    let said = c.doctor("builder");
    assert!(said.contains("wrong") && said.contains("no JSON object"), "{said}");
    // The doctor has run the CLI, which puts a new file in the place of a torn one.
    tear();
    c.lab.start();
    c.up("builder");
    c.lab.wait_for("a word in the log", || {
        // It is made with the first output.
        let log = std::fs::read_to_string(c.lab.state("logs/builder.log")).unwrap_or_default();
        when(log.contains("it is no JSON object"), log)
    });
    let text = support::wait_for(2 * support::DEADLINE, "a notification", || {
        c.lab.notified("attention").pop().ok_or_else(|| c.screen("builder"))
    });
    assert!(text["summary"].as_str().unwrap().contains("a dialog may wait"), "{text}");
    assert!(c.api.turns().is_empty());
}

#[test]
fn hooks_fail_no_turn_while_no_supervisor_runs() {
    let Some(mut c) = ClaudeLab::start("hooks without a daemon", &claude_loop("builder", "")) else { return };
    let first = c.up("builder");
    c.turn("builder", "idle");
    c.lab.kill();
    c.api.once(Answer::Tool("echo done-by-the-tool".into()));
    type_keys(&c, "builder", &["-l", "use the tool"]);
    support::wait_for(support::DEADLINE, "the text", || {
        when(c.screen("builder").contains("use the tool"), c.screen("builder"))
    });
    type_keys(&c, "builder", &["Enter"]);
    let turns = support::wait_for(support::DEADLINE, "the tool's result", || {
        let turns = c.api.turns();
        if turns.iter().any(|t| t.has("tool_result") && t.has("done-by-the-tool")) {
            Ok(turns)
        } else {
            Err(c.screen("builder"))
        }
    });
    assert!(turns.len() >= 3);
    c.written(first, "done-by-the-tool");
    let screen = c.screen("builder").to_lowercase();
    assert!(!screen.contains("hook error") && !screen.contains("hook failed"), "{screen}");
    c.lab.start();
    assert_eq!(c.up("builder").id, first.id);
    c.turn("builder", "idle");
}
