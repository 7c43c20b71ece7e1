//! Refusals that no event told: found in the session's file, or on the screen.

use super::*;
use crate::supervisor::agents::{Capabilities, Evidence};
use crate::supervisor::core::testing::machine::Machine;

/// A loop that answers nothing by itself and is in a turn of a session that is written down.
fn working() -> Machine {
    let capabilities = Capabilities { evidence: Evidence::RecordsAndScreen, ..talker().capabilities };
    let mut m = silent(LoopConfig { capabilities, ..talker() });
    m.signal("builder", Signal::Session { uuid: "u".into(), transcript: Some("/h/u.jsonl".into()) });
    m.signal("builder", Signal::PromptAccepted);
    m.starts.clear();
    m
}

fn limit(m: &Machine, evidence: &str) -> Signal {
    Signal::UsageLimit { resets_at: Some(m.now.plus(HOUR).wall), evidence: evidence.into() }
}

fn write(m: &mut Machine, signal: Signal) {
    let at = m.now.wall;
    m.outside.records.insert(name("builder"), (at, signal));
}

#[test]
fn a_limit_that_only_the_sessions_file_tells_holds_the_account() {
    let mut m = working();
    m.run(SECOND);
    let signal = limit(&m, "429");
    write(&mut m, signal);
    m.run(3 * SECOND);
    assert_eq!(m.told("usage-limit"), 1);
    assert!(m.journal.iter().any(|e| e.decision == "evidence"));
    m.run(HOUR + 31 * SECOND);
    assert_eq!((m.starts.len(), m.typed("builder").len()), (0, 1), "told to go on, and not restarted");
}

#[test]
fn a_refusal_of_an_earlier_turn_is_not_met_again() {
    let mut m = working();
    m.run(SECOND);
    let signal = limit(&m, "429");
    write(&mut m, signal.clone());
    m.signal("builder", signal);
    m.run(HOUR + 31 * SECOND);
    // It goes on, and its file has had no record since.
    m.signal("builder", Signal::PromptAccepted);
    m.signal("builder", Signal::ToolStarted);
    m.signal("builder", Signal::ToolEnded);
    m.run(5 * MINUTE);
    assert_eq!(m.told("usage-limit"), 1);
    assert!(m.world.as_ref().unwrap().global.accounts.is_empty());
}

#[test]
fn an_agent_that_died_of_a_limit_is_not_started_into_it() {
    let mut m = working();
    m.run(SECOND);
    let signal = limit(&m, "429");
    write(&mut m, signal);
    m.dies("builder", EXIT);
    assert_eq!(m.hold("builder"), Some(HoldKind::UsageLimit));
    assert_eq!(m.starts.len(), 0);
}

#[test]
fn the_sessions_file_is_looked_at_less_and_less_often_and_not_while_idle() {
    let mut m = working();
    m.run(MINUTE);
    let looks = |m: &Machine| m.world.as_ref().unwrap().loops[&name("builder")].life.looks.times;
    assert!((4..=6).contains(&looks(&m)), "{}", looks(&m));
    m.signal("builder", Signal::TurnEnded);
    m.run(10 * MINUTE);
    assert_eq!(looks(&m), 0);
}

#[test]
fn the_screen_is_the_last_resort_and_what_was_told_before_is_old_on_it() {
    let mut m = working();
    let signal = limit(&m, "5-hour limit reached");
    m.outside.screens.insert(name("builder"), signal.clone());
    m.run(29 * MINUTE);
    assert_eq!(m.told("usage-limit"), 0);
    m.run(2 * MINUTE);
    assert_eq!(m.told("usage-limit"), 1);
    let mut m = working();
    let signal = limit(&m, "5-hour limit reached");
    m.outside.screens.insert(name("builder"), signal.clone());
    m.signal("builder", signal);
    m.run(HOUR + 31 * SECOND);
    m.signal("builder", Signal::PromptAccepted);
    m.signal("builder", Signal::ToolStarted);
    m.signal("builder", Signal::ToolEnded);
    m.run(31 * MINUTE);
    assert_eq!(m.told("usage-limit"), 1, "the old text was taken for a new limit");
}

#[test]
fn a_session_that_names_itself_is_begun_again_if_it_died_before_its_first_prompt() {
    let capabilities = Capabilities { names_session: true, ..talker().capabilities };
    let mut m = silent(LoopConfig { capabilities, ..talker() });
    m.dies("builder", EXIT);
    assert!(matches!(m.starts.last().unwrap().session, Session::Fresh { prompt: Prompt::Kickoff, .. }));
    m.signal("builder", Signal::Session { uuid: "its-own".into(), transcript: None });
    m.signal("builder", Signal::PromptAccepted);
    m.run(11 * MINUTE);
    m.dies("builder", EXIT);
    assert_eq!(m.starts.last().unwrap().session, Session::Resume { uuid: "its-own".into() });
}
