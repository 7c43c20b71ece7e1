//! A refused turn as the session's file has it: what `StopFailure` would have told.

use super::super::Signal;
use super::refusal;
use crate::support::clock;
use serde_json::Value;

/// Reads the last records. Those of sub-agents (`isSidechain`) are not the loop's own; after a prompt the turn goes on.
pub fn read(records: &[Value], since: i64, now: i64) -> Vec<Signal> {
    let own = |record: &&Value| record["isSidechain"] != true && record["isMeta"] != true;
    let tells = |record: &&Value| matches!(record["type"].as_str(), Some("assistant" | "user"));
    let Some(last) = records.iter().rev().filter(own).find(tells) else { return Vec::new() };
    if last["type"] != "assistant" || last["isApiErrorMessage"] != true {
        return Vec::new();
    }
    let Some(at) = last["timestamp"].as_str().and_then(clock::parse_time).filter(|at| *at > since) else {
        return Vec::new();
    };
    let text = last.pointer("/message/content/0/text").and_then(Value::as_str).unwrap_or_default();
    let error = match (last["error"].as_str(), last["apiErrorStatus"].as_i64()) {
        (Some(error), _) => error,
        (None, Some(429)) => "rate_limit",
        (None, Some(401)) => "authentication_failed",
        (None, _) => "unknown",
    };
    refusal::read_later(error, text, at, now)
}

/// A text that comes in mid-turn is queued and handed to the model with the next tool's result, as an attachment; no hook
/// tells of it (tried with 2.1.197). It carries the time at which it was queued.
pub fn took_within_turn(records: &[Value], text: &str, since: i64) -> bool {
    // It is typed as one line.
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let wanted = words(text);
    records.iter().any(|record| {
        let attached = &record["attachment"];
        let at = attached["timestamp"].as_str().and_then(clock::parse_time);
        attached["type"] == "queued_command"
            && record["isSidechain"] != true
            && at.is_some_and(|at| at >= since)
            && attached["prompt"].as_str().is_some_and(|prompt| words(prompt) == wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// 2026-11-22 15:40:10 UTC.
    const NOW: i64 = 1_795_362_010_000;
    const LIMIT: &str = "You've hit your session limit · resets 3:53pm (UTC)";

    fn refused(error: &str, text: &str, time: &str) -> Value {
        json!({ "type": "assistant", "isSidechain": false, "timestamp": format!("2026-11-22T{time}Z"),
            "isApiErrorMessage": true, "apiErrorStatus": 429, "error": error,
            "message": { "role": "assistant", "content": [{ "type": "text", "text": text }] } })
    }

    fn of(records: &[Value]) -> Vec<Signal> {
        read(records, NOW - 60_000, NOW)
    }

    fn limit() -> Signal {
        Signal::UsageLimit { resets_at: Some(1_795_362_840_000), evidence: LIMIT.into() }
    }

    #[test]
    fn a_refused_turn_is_read_from_its_last_record() {
        let prompt = json!({ "type": "user", "message": { "content": "go on" } });
        let tail = json!({ "type": "system", "subtype": "turn_duration" });
        assert_eq!(of(&[prompt, refused("rate_limit", LIMIT, "15:40:05.123"), tail]), [limit()]);
        let text = "Not logged in · Please run /login";
        let told = of(&[refused("authentication_failed", text, "15:40:05.123")]);
        assert_eq!(told, [Signal::LoggedOut { evidence: text.into() }]);
    }

    #[test]
    fn a_text_that_was_taken_between_two_tools_is_found_by_its_words_and_its_time() {
        let taken = |prompt: &str, side: bool| {
            json!({ "type": "attachment", "isSidechain": side, "attachment": { "type": "queued_command",
                "prompt": prompt, "commandMode": "prompt", "timestamp": "2026-11-22T15:40:05.123Z" } })
        };
        let queued = json!({ "type": "queue-operation", "operation": "enqueue", "content": "now the second thing",
            "timestamp": "2026-11-22T15:40:05.123Z" });
        let typed = NOW - 10_000;
        let found = |record: Value, since| took_within_turn(&[record], "now the\nsecond  thing", since);
        assert!(found(taken("now the second thing", false), typed));
        assert!(!found(taken("now the third thing", false), typed));
        assert!(!found(taken("now the second thing", true), typed), "a sub-agent's");
        assert!(!found(taken("now the second thing", false), NOW), "it was queued before this was typed");
        assert!(!found(queued, typed), "it waits in the queue");
    }

    #[test]
    fn a_sub_agents_refusal_is_not_the_loops_own() {
        let mut side = refused("rate_limit", LIMIT, "15:40:06.000");
        side["isSidechain"] = json!(true);
        let good = json!({ "type": "assistant", "message": { "content": [] } });
        assert_eq!(of(&[good, side.clone()]), []);
        assert_eq!(of(&[refused("rate_limit", LIMIT, "15:40:05.000"), side]), [limit()]);
    }

    #[test]
    fn a_record_of_an_earlier_turn_or_one_that_was_followed_by_a_prompt_says_nothing() {
        assert_eq!(of(&[refused("rate_limit", LIMIT, "15:39:10.000")]), [], "before this turn");
        let prompt = json!({ "type": "user", "message": { "content": "go on" } });
        assert_eq!(of(&[refused("rate_limit", LIMIT, "15:40:05.000"), prompt]), []);
        let mut torn = refused("rate_limit", LIMIT, "15:40:05.000");
        torn["timestamp"] = json!("soon");
        assert_eq!(of(&[torn]), [], "its age is not known");
        assert_eq!(of(&[]), []);
    }

    #[test]
    fn a_limit_that_has_reset_before_it_was_read_holds_nobody() {
        let records = [refused("rate_limit", LIMIT, "15:40:05.000")];
        assert_eq!(read(&records, 0, NOW + 3_600_000), [Signal::Waiting]);
    }
}
