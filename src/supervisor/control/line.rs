//! One JSON object a line, both ways: its limits, and a request read strictly. Pure.

use super::protocol::{Call, Request, Response};
use serde_json::Value;

/// The longest request, its newline not counted: an agent's event with a long text in it is some ten KiB.
pub(super) const MAX_CALL: usize = 1 << 20;

/// The longest answer: a status of the most loops that a config can have is well below one MiB.
pub(super) const MAX_RESPONSE: usize = 16 << 20;

/// Why a line is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadCall {
    /// Whoever wrote it does not speak this protocol.
    #[error("reading a request: it is no JSON object ({0}); send one JSON object a line")]
    NoJson(String),
    /// It is JSON, but this supervisor knows no such request.
    #[error(
        "reading a request: {0}; see `supervisor --help` for what can be asked, and whether both are of one version"
    )]
    Unknown(String),
}

/// Reads a request. serde ignores fields of a variant that it does not know; here they are faults, since a misspelt
/// one would be a wish that silently does not count.
pub(super) fn read_call(line: &[u8]) -> Result<Call, BadCall> {
    let value: Value = serde_json::from_slice(line).map_err(|e| BadCall::NoJson(e.to_string()))?;
    if !value.is_object() {
        return Err(BadCall::NoJson("it is another kind of value".into()));
    }
    let call: Call = serde_json::from_value(value.clone()).map_err(|e| BadCall::Unknown(e.to_string()))?;
    if let Some(field) = unknown_field(&value, &call.request) {
        let what = value["request"]["do"].as_str().unwrap_or_default();
        return Err(BadCall::Unknown(format!("unknown field `{field}` of the request `{what}`")));
    }
    Ok(call)
}

/// The first field of the request that was not taken: what was taken is written again.
fn unknown_field(asked: &Value, request: &Request) -> Option<String> {
    let taken = serde_json::to_value(request).ok()?;
    let fields = asked.get("request")?.as_object()?;
    fields.keys().find(|field| taken.get(field.as_str()).is_none()).cloned()
}

/// An answer as a line, newline included.
pub(super) fn write_response(response: &Response) -> Vec<u8> {
    // Only a map with keys that are no text fails, which no answer has; still, the caller must be told something.
    write(response).unwrap_or_else(|_| {
        br#"{"answer":"refused","kind":"failed","message":"the answer cannot be written as JSON"}"#.iter().copied()
            .chain([b'\n']).collect()
    })
}

/// A value as a line, newline included.
pub(super) fn write(value: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{Refusal, Which};
    use super::*;

    fn requests() -> Vec<Request> {
        let name: crate::supervisor::names::LoopName = "builder".parse().unwrap();
        let some = || Which::Loops(vec![name.clone()]);
        vec![
            Request::Status,
            Request::Explain { name: name.clone() },
            Request::Start { which: Which::All },
            Request::Stop { which: some() },
            Request::Restart { which: some() },
            Request::Freeze,
            Request::Thaw,
            Request::Drain { timeout_ms: 7 },
            Request::Attach { name: name.clone() },
            Request::Nudge { name: name.clone(), text: "go\non \u{1b}".into() },
            Request::PhaseShow,
            Request::PhaseSet { index: 2 },
            Request::PhaseAdvance,
            Request::GateShow,
            Request::GateClaim { commit: Some("abc".into()) },
            Request::GateClaim { commit: None },
            Request::GatePass,
            Request::GateFail { reason: Some("no".into()) },
            Request::Event { event: serde_json::json!({ "do": "x", "a": [null, 1.5, "\n"] }) },
            Request::Event { event: Value::Null },
        ]
    }

    #[test]
    fn every_request_survives_a_line() {
        for request in requests() {
            for (from, epoch) in [(None, None), (Some("builder".parse().unwrap()), Some(u64::MAX))] {
                let call = Call { from, epoch, request: request.clone() };
                let line = write(&call).unwrap();
                assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1, "{call:?}");
                assert_eq!(read_call(&line[..line.len() - 1]), Ok(call));
            }
        }
    }

    #[test]
    fn every_answer_survives_a_line() {
        let answers = [
            Response::Done { lines: vec!["a\nb".into()] },
            Response::Refused { kind: Refusal::NotNow, message: "x".into() },
        ];
        for answer in answers {
            assert_eq!(serde_json::from_slice::<Response>(&write_response(&answer)).unwrap(), answer);
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let cases = [
            ("hello", "it is no JSON object (expected value at line 1 column 1)"),
            ("[]", "it is no JSON object (it is another kind of value)"),
            (r#"{"request":{"do":"dance"}}"#, "unknown variant `dance`, expected one of `status`"),
            (r#"{"request":{"do":"status","loud":1}}"#, "unknown field `loud` of the request `status`"),
            (r#"{"request":{"do":"explain","name":"a","naem":"b"}}"#, "unknown field `naem` of the request `explain`"),
            (r#"{"request":{"do":"explain"}}"#, "missing field `name`"),
            (r#"{"request":{"do":"explain","name":"../x"}}"#, "use 1 to 32 of a-z"),
            (r#"{"request":{"do":"status"},"form":"a"}"#, "unknown field `form`"),
            (r#"{"do":"status"}"#, "unknown field `do`"),
        ];
        for (line, part) in cases {
            let error = read_call(line.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("reading a request: ") && error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn nesting_without_end_is_refused_and_does_not_overflow_the_stack() {
        let deep = format!(r#"{{"request":{{"do":"event","event":{}"#, "[".repeat(500_000));
        assert!(matches!(read_call(deep.as_bytes()), Err(BadCall::NoJson(_))));
    }
}
