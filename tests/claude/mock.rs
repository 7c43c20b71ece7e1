//! A mock of the model's API on loopback: answers what the test says, and remembers what was asked.

use crate::cli_kit::http::{Events, Received, Script, now, send, serve};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a request for a message is answered with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A text, at once.
    Text,
    /// The start of a text, and the rest after that long.
    Slow(Duration),
    /// A Bash call with this command; once its result is there, a text.
    Tool(String),
    /// A question to the user.
    Question,
    /// 429 of a plan: its five hours are used up and reset after that many seconds.
    Limit(u64),
    /// 429 without a word on resets.
    BareLimit,
    /// 401 unless this token comes.
    Login(String),
    /// 529.
    Overloaded,
    /// The connection ends in the middle of the stream.
    Cut,
    /// A text, and the usage of a context that is nearly full.
    Full,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub struct Request {
    /// Without `Bearer `.
    pub token: String,
    /// Its messages.
    pub messages: Vec<Value>,
    /// With tools: a turn. Without: a title and such, which claude asks for by the way.
    pub turn: bool,
}

impl Request {
    /// Whether any of its messages has this text in it.
    pub fn has(&self, text: &str) -> bool {
        self.messages.iter().any(|m| m.to_string().contains(text))
    }
}

/// The server; it ends with the test's process.
#[derive(Clone)]
pub struct Mock {
    pub url: String,
    script: Arc<Mutex<Script<Answer, Request>>>,
}

impl Mock {
    pub fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::new(Answer::Text)));
        let serving = Arc::clone(&script);
        Self { url: serve(move |stream| answer_one(&serving, stream)), script }
    }

    /// Every turn from now on is answered so.
    pub fn always(&self, answer: Answer) {
        self.script.lock().unwrap().always(answer);
    }

    /// The next turn is answered so, the ones after it as before.
    pub fn once(&self, answer: Answer) {
        self.script.lock().unwrap().next.push_back(answer);
    }

    /// The turns that were asked for.
    pub fn turns(&self) -> Vec<Request> {
        self.script.lock().unwrap().requests.iter().filter(|r| r.turn).cloned().collect()
    }

    /// The last turn with this text anywhere in its messages.
    pub fn turn_with(&self, text: &str) -> Option<Request> {
        self.turns().into_iter().rev().find(|r| r.has(text))
    }
}

fn answer_one(script: &Mutex<Script<Answer, Request>>, stream: &TcpStream) -> Option<()> {
    let received = Received::read(stream)?;
    if !received.is("POST /v1/messages") || received.is("POST /v1/messages/count_tokens") {
        return send::<&str>(stream, 200, &[], &json!({}));
    }
    let (asked, token) = (&received.body, received.token());
    let turn = asked["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    let messages = asked["messages"].as_array().cloned().unwrap_or_default();
    let results = messages.last().is_some_and(|m| m.to_string().contains("tool_result"));
    let request = Request { token: token.clone(), messages, turn };
    let answer = script.lock().unwrap().answer(request, turn && !results);
    let refuse = |status, kind: &str, message: &str| send::<&str>(stream, status, &[], &error(kind, message));
    match answer {
        Answer::Limit(seconds) => send(stream, 429, &limit(seconds), &error("rate_limit_error", "exceeded")),
        Answer::BareLimit => refuse(429, "rate_limit_error", "slow down"),
        Answer::Login(good) if good != token => refuse(401, "authentication_error", "invalid token"),
        Answer::Overloaded => refuse(529, "overloaded_error", "Overloaded"),
        _ if asked["stream"] != true => send::<&str>(stream, 200, &[], &whole(asked)),
        answer => stream_answer(stream, asked, if turn { answer } else { Answer::Text }, results),
    }
}

/// `None`: the connection is over afterwards.
fn stream_answer(out: &TcpStream, asked: &Value, answer: Answer, results: bool) -> Option<()> {
    let mut events = Events::begin(out)?;
    let call = |name: &str, input: Value| {
        let id = format!("toolu_{}", now().as_nanos());
        let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
        (block, json!({ "type": "input_json_delta", "partial_json": input.to_string() }), "tool_use")
    };
    let (block, delta, stop) = match &answer {
        Answer::Tool(command) if !results => call("Bash", json!({ "command": command, "description": "a test" })),
        Answer::Question if !results => call(
            "AskUserQuestion",
            json!({ "questions": [{ "question": "Which colour?", "header": "Colour", "multiSelect": false,
                "options": [{ "label": "Red", "description": "r" }, { "label": "Blue", "description": "b" }] }] }),
        ),
        _ => {
            (json!({ "type": "text", "text": "" }), json!({ "type": "text_delta", "text": "mock answer" }), "end_turn")
        }
    };
    let mut message = whole(asked);
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    if matches!(answer, Answer::Full) {
        message["usage"]["input_tokens"] = json!(199_000);
    }
    events.send("message_start", json!({ "message": message }))?;
    events.send("content_block_start", json!({ "index": 0, "content_block": block }))?;
    match answer {
        Answer::Slow(for_) => std::thread::sleep(for_),
        Answer::Cut => return None,
        _ => {}
    }
    events.send("content_block_delta", json!({ "index": 0, "delta": delta }))?;
    events.send("content_block_stop", json!({ "index": 0 }))?;
    let usage = json!({ "output_tokens": 5 });
    events.send("message_delta", json!({ "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": usage }))?;
    events.send("message_stop", json!({}))?;
    None
}

fn whole(asked: &Value) -> Value {
    json!({ "id": format!("msg_{}", now().as_nanos()), "type": "message", "role": "assistant", "model": asked["model"],
        "content": [{ "type": "text", "text": "mock answer" }], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0 } })
}

fn error(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}

fn limit(seconds: u64) -> Vec<(String, String)> {
    let reset = (now().as_secs() + seconds).to_string();
    let week = (now().as_secs() + 86_400).to_string();
    [
        ("status", "rejected"),
        ("reset", &reset),
        ("representative-claim", "five_hour"),
        ("5h-status", "rejected"),
        ("5h-reset", &reset),
        ("5h-utilization", "1.0"),
        ("7d-status", "allowed"),
        ("7d-reset", &week),
        ("7d-utilization", "0.4"),
    ]
    .map(|(key, value)| (format!("anthropic-ratelimit-unified-{key}"), value.to_owned()))
    .into()
}
