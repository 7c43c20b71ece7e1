//! One entry of the journal and how it is written as a line. Pure.

use crate::supervisor::names::LoopName;
use crate::support::clock::Now;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A text longer than this many bytes is cut: a screen of output is evidence, a log is not.
const MAX_TEXT: usize = 4096;

/// A line longer than this loses its evidence. Far below the size at which the journal rotates.
const MAX_LINE: usize = 64 * 1024;

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Now,
    /// For which loop; `None` when it is about all of them.
    #[serde(rename = "loop")]
    pub loop_name: Option<LoopName>,
    /// The epoch of the loop's agent.
    pub epoch: Option<u64>,
    /// One word in kebab-case: `restart`, `hold`, `phase-move`.
    pub decision: String,
    /// A sentence for a person.
    pub why: String,
    /// What it was decided on.
    #[serde(default)]
    pub evidence: Value,
    /// What happens next and when.
    pub next: Option<String>,
}

impl Entry {
    /// An entry about no loop in particular, with no evidence.
    pub fn new(at: Now, decision: &str, why: impl Into<String>) -> Self {
        Self {
            at,
            loop_name: None,
            epoch: None,
            decision: decision.to_owned(),
            why: why.into(),
            evidence: Value::Null,
            next: None,
        }
    }

    /// The same with this evidence.
    #[must_use]
    pub fn with_evidence(mut self, evidence: Value) -> Self {
        self.evidence = evidence;
        self
    }
}

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Origin {
    /// It was appended to this file.
    #[default]
    Here,
    /// It is repeated from the file before, which rotation will delete some day.
    Carried,
}

impl Origin {
    fn is_here(&self) -> bool {
        *self == Self::Here
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Decoded {
    /// For people only; `at` is what counts.
    time: String,
    #[serde(flatten)]
    pub entry: Entry,
    #[serde(default, skip_serializing_if = "Origin::is_here")]
    pub origin: Origin,
}

/// The line, newline included. Too long texts are cut, which is said in them.
pub(super) fn encode(entry: &Entry, origin: Origin) -> serde_json::Result<Vec<u8>> {
    let mut entry = entry.clone();
    cut(&mut entry.decision);
    cut(&mut entry.why);
    entry.next.iter_mut().for_each(cut);
    cut_all(&mut entry.evidence);
    let mut line = to_line(&entry, origin)?;
    if line.len() > MAX_LINE {
        entry.evidence = json!({ "cut": format!("{} bytes of evidence were too long", line.len()) });
        line = to_line(&entry, origin)?;
    }
    Ok(line)
}

fn to_line(entry: &Entry, origin: Origin) -> serde_json::Result<Vec<u8>> {
    // Out of range only if the clock is set to before -9999 or after 9999, and then `at` still tells it.
    let time = jiff::Timestamp::from_millisecond(entry.at.wall).map_or_else(|_| "?".to_owned(), |t| format!("{t:.3}"));
    let mut line = serde_json::to_vec(&Decoded { time, entry: entry.clone(), origin })?;
    line.push(b'\n');
    Ok(line)
}

pub(super) fn decode(line: &[u8]) -> serde_json::Result<Decoded> {
    serde_json::from_slice(line)
}

fn cut_all(value: &mut Value) {
    match value {
        Value::String(text) => cut(text),
        Value::Array(items) => items.iter_mut().for_each(cut_all),
        Value::Object(fields) => fields.values_mut().for_each(cut_all),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn cut(text: &mut String) {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let rest = text.len() - end;
        text.truncate(end);
        text.push_str(&format!(" … ({rest} bytes more)"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_with_a_time_that_people_can_read() {
        let mut entry = Entry::new(Now { wall: 1_774_000_000_123, boot: 5 }, "restart", "it was killed");
        entry.loop_name = Some("builder".parse().unwrap());
        entry.epoch = Some(3);
        let line = encode(&entry.with_evidence(json!({ "signal": 9 })), Origin::Here).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            concat!(
                r#"{"time":"2026-03-20T09:46:40.123Z","at":{"wall":1774000000123,"boot":5},"loop":"builder","epoch":3,"#,
                r#""decision":"restart","why":"it was killed","evidence":{"signal":9},"next":null}"#,
                "\n"
            )
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters_wherever_they_are() {
        for pad in 0..4 {
            let text = "x".repeat(pad) + &"ä€𝄞".repeat(2000);
            let mut entry = Entry::new(Now::default(), "hold", text.clone());
            entry.next = Some(text.clone());
            let line = encode(&entry.with_evidence(json!({ "a": [text] })), Origin::Here).unwrap();
            assert!(line.len() < 4 * MAX_TEXT, "{}", line.len());
            let back = decode(&line).unwrap().entry;
            let cut = back.evidence["a"][0].as_str().unwrap();
            assert!(text.starts_with(cut.split(" …").next().unwrap()) && cut.ends_with("bytes more)"));
            assert_eq!((back.why.as_str(), back.next.as_deref()), (cut, Some(cut)));
        }
    }

    #[test]
    fn evidence_of_many_texts_is_given_up_and_the_rest_stays() {
        let many = vec!["x".repeat(4000); 100];
        let line = encode(&Entry::new(Now::default(), "hold", "why").with_evidence(json!(many)), Origin::Here).unwrap();
        assert!(line.len() < 1000);
        let back = decode(&line).unwrap().entry;
        assert!(back.why == "why" && back.evidence["cut"].is_string());
    }
}
