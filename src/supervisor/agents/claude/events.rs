//! What the CLI's hooks and its status line say. Anything may be missing or of another type: the CLI changes weekly.

use super::super::Signal;
use super::refusal;
use serde_json::Value;

/// How much of a text is kept as evidence, in characters.
const EVIDENCE: usize = 300;

/// Reads the JSON of a hook, or of the status line.
pub fn read(event: &Value, now: i64) -> Vec<Signal> {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("hook_event_name") {
        // The status line is drawn anew with each message: no sign that is worth more than the hooks'.
        // With `type` it is a message of `--output-format stream-json`, which somebody passes on.
        "" if text("type") == "rate_limit_event" => rejected(event).into_iter().collect(),
        "" => window_full(event).into_iter().collect(),
        "SessionStart" => {
            let session = session(event);
            // Compaction begins a session in the middle of a turn.
            let ready = if text("source") == "compact" { Signal::Alive } else { Signal::Ready };
            session.into_iter().chain([ready]).collect()
        }
        "UserPromptSubmit" => vec![Signal::PromptAccepted],
        "PreToolUse" => match text("tool_name") {
            "AskUserQuestion" => vec![Signal::NeedsPerson { what: question(event) }],
            "ExitPlanMode" => vec![Signal::NeedsPerson { what: "it asks to approve its plan".to_owned() }],
            _ => vec![Signal::ToolStarted],
        },
        "PostToolUse" | "PostToolUseFailure" => vec![Signal::ToolEnded],
        "Stop" => vec![Signal::TurnEnded],
        "StopFailure" => refusal::read(text("error"), &shorten(text("last_assistant_message")), now),
        "Notification" => notification(text("notification_type"), text("message")),
        // By hand, it is a person's own business.
        "PreCompact" if text("trigger") == "auto" => vec![Signal::ContextFull],
        // The next session begins at once, in the same process.
        "SessionEnd" if matches!(text("reason"), "clear" | "resume") => vec![],
        "SessionEnd" => vec![Signal::Ending],
        _ => vec![Signal::Alive],
    }
}

fn session(event: &Value) -> Option<Signal> {
    let uuid = event.get("session_id")?.as_str()?.to_owned();
    let transcript = event.get("transcript_path").and_then(Value::as_str).filter(|path| !path.is_empty());
    Some(Signal::Session { uuid, transcript: transcript.map(Into::into) })
}

fn question(event: &Value) -> String {
    let asked = event.pointer("/tool_input/questions/0/question").and_then(Value::as_str);
    asked.map_or_else(|| "it asks a question".to_owned(), |asked| format!("it asks: {}", shorten(asked)))
}

fn notification(kind: &str, message: &str) -> Vec<Signal> {
    let what = |default: &str| if message.is_empty() { default.to_owned() } else { shorten(message) };
    match kind {
        "permission_prompt" => vec![Signal::NeedsPerson { what: what("it asks for a permission") }],
        "agent_needs_input" | "elicitation_dialog" => {
            vec![Signal::NeedsPerson { what: what("it asks for input") }]
        }
        // It says so a minute after a turn's end: for a nudge, not for a person.
        "idle_prompt" => vec![Signal::Waiting],
        // It waits for a reset and goes on by itself; that, its prompt will tell.
        kind if kind.starts_with("quota_auto_resume") => vec![],
        _ => vec![],
    }
}

/// The latest reset of the windows that are used up.
fn window_full(event: &Value) -> Option<Signal> {
    let windows = event.get("rate_limits")?.as_object()?.values();
    let full =
        |window: &&Value| window.get("used_percentage").and_then(Value::as_f64).is_some_and(|used| used >= 100.0);
    let reset = |window: &Value| window.get("resets_at").and_then(Value::as_f64).and_then(refusal::moment);
    windows.filter(full).filter_map(reset).max().map(|resets_at| Signal::WindowFull { resets_at })
}

/// A window that is rejected; a warning is no limit. No interactive session tells this.
fn rejected(event: &Value) -> Option<Signal> {
    let info = event.get("rate_limit_info")?;
    let rejected = info.get("status").and_then(Value::as_str) == Some("rejected");
    let resets_at = info.get("resetsAt").and_then(Value::as_f64).and_then(refusal::moment);
    rejected.then(|| Signal::UsageLimit { resets_at, evidence: shorten(&info.to_string()) })
}

fn shorten(text: &str) -> String {
    text.chars().take(EVIDENCE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(event: Value) -> Vec<Signal> {
        read(&event, 1_795_365_000_000)
    }

    fn hook(name: &str, more: Value) -> Vec<Signal> {
        let mut event = json!({ "hook_event_name": name, "session_id": "u", "cwd": "/ws" });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of(event)
    }

    #[test]
    fn a_turn_is_told_from_its_prompt_to_its_end() {
        assert_eq!(hook("UserPromptSubmit", json!({ "prompt": "x" })), [Signal::PromptAccepted]);
        assert_eq!(hook("PreToolUse", json!({ "tool_name": "Bash" })), [Signal::ToolStarted]);
        assert_eq!(hook("PostToolUse", json!({})), [Signal::ToolEnded]);
        assert_eq!(hook("PostToolUseFailure", json!({})), [Signal::ToolEnded]);
        assert_eq!(hook("Stop", json!({ "last_assistant_message": "done" })), [Signal::TurnEnded]);
    }

    #[test]
    fn a_session_says_who_it_is_and_where_it_writes() {
        let session = Signal::Session { uuid: "u".into(), transcript: Some("/h/u.jsonl".into()) };
        let event = json!({ "source": "resume", "transcript_path": "/h/u.jsonl" });
        assert_eq!(hook("SessionStart", event), [session, Signal::Ready]);
        assert_eq!(hook("SessionStart", json!({ "source": "compact" }))[1], Signal::Alive);
        assert_eq!(hook("SessionEnd", json!({ "reason": "clear" })), []);
        assert_eq!(hook("SessionEnd", json!({ "reason": "prompt_input_exit" })), [Signal::Ending]);
    }

    #[test]
    fn a_person_is_waited_for_at_questions_and_permissions_only() {
        let asks = json!({ "tool_name": "AskUserQuestion", "tool_input": { "questions": [{ "question": "Which?" }] } });
        assert_eq!(hook("PreToolUse", asks), [Signal::NeedsPerson { what: "it asks: Which?".into() }]);
        let permission = json!({ "notification_type": "permission_prompt", "message": "Claude needs your permission" });
        assert_eq!(
            hook("Notification", permission),
            [Signal::NeedsPerson { what: "Claude needs your permission".into() }]
        );
        assert_eq!(hook("Notification", json!({ "notification_type": "idle_prompt" })), [Signal::Waiting]);
        assert_eq!(hook("Notification", json!({ "notification_type": "quota_auto_resume_armed" })), []);
    }

    #[test]
    fn a_context_is_full_when_the_cli_says_so_by_itself() {
        assert_eq!(hook("PreCompact", json!({ "trigger": "auto" })), [Signal::ContextFull]);
        assert_eq!(hook("PreCompact", json!({ "trigger": "manual" })), [Signal::Alive]);
    }

    #[test]
    fn of_the_windows_that_are_used_up_the_latest_reset_counts_and_a_warning_is_no_limit() {
        let line = |five: u32, seven: u32| {
            json!({ "session_id": "u", "rate_limits": {
                "five_hour": { "used_percentage": five, "resets_at": 1_795_365_380 },
                "seven_day": { "used_percentage": seven, "resets_at": 1_795_451_112_000_i64 } } })
        };
        assert_eq!(of(line(99, 40)), []);
        assert_eq!(of(line(100, 40)), [Signal::WindowFull { resets_at: 1_795_365_380_000 }]);
        assert_eq!(of(line(100, 100)), [Signal::WindowFull { resets_at: 1_795_451_112_000 }]);
    }

    #[test]
    fn a_rejected_window_of_the_message_stream_is_a_limit_and_a_warning_is_none() {
        let message = |status: &str, at: i64| {
            json!({ "type": "rate_limit_event", "session_id": "u", "rate_limit_info":
                { "status": status, "resetsAt": at, "rateLimitType": "five_hour" } })
        };
        for at in [1_795_365_380, 1_795_365_380_000] {
            let told = of(message("rejected", at));
            assert!(matches!(&told[..], [Signal::UsageLimit { resets_at: Some(1_795_365_380_000), .. }]), "{told:?}");
        }
        assert_eq!(of(message("allowed_warning", 1_795_365_380)), []);
    }

    #[test]
    fn what_is_not_known_or_makes_no_sense_fails_nothing() {
        assert_eq!(hook("SubagentStop", json!({})), [Signal::Alive]);
        for event in [json!(null), json!("x"), json!([]), json!({ "rate_limits": 3 }), json!({ "hook_event_name": 7 })]
        {
            assert_eq!(of(event), []);
        }
    }
}
