//! A mock of OpenAI's Responses API on loopback: answers what the test says, and remembers what was asked.

use crate::cli_kit::http::{Events, Received, Script, now, send, serve};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a turn is answered with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A text, at once.
    Text,
    /// The start of an answer, and the rest after that long.
    Slow(Duration),
    /// A shell call with this command; once its result is there, a text.
    Tool(String),
    /// 429 of a plan: its window is used up and resets after that many seconds.
    Limit(u64),
    /// 401 unless this key comes.
    Login(String),
    /// 503.
    Overloaded,
    /// A text, and the usage of a context that is full.
    Full,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub struct Request {
    /// Without `Bearer `.
    pub key: String,
    /// What the model is given.
    pub input: String,
    /// Of a person's session; else a title and such, which codex asks for by the way.
    pub turn: bool,
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
        Self { url: format!("{}/v1", serve(move |stream| answer_one(&serving, stream))), script }
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
}

fn answer_one(script: &Mutex<Script<Answer, Request>>, stream: &TcpStream) -> Option<()> {
    let received = Received::read(stream)?;
    let refuse = |status, error: Value| send::<&str>(stream, status, &[], &json!({ "error": error }));
    if !received.is("POST /v1/responses") {
        return refuse(404, json!({ "message": "there is only /v1/responses" }));
    }
    let (input, key) = (&received.body["input"], received.token());
    let turn = received.field("x-codex-turn-metadata").is_some_and(|m| m.contains(r#""thread_source":"user""#));
    let results = input.as_array().and_then(|i| i.last()).is_some_and(|i| i["type"] == "function_call_output");
    let request = Request { key: key.clone(), input: input.to_string(), turn };
    let answer = script.lock().unwrap().answer(request, turn && !results);
    match answer {
        Answer::Limit(seconds) => {
            let reset = now().as_secs() + seconds;
            let headers = [
                ("used-percent", "100.0".to_owned()),
                ("window-minutes", "300".to_owned()),
                ("reset-at", reset.to_string()),
            ]
            .map(|(key, value)| (format!("x-codex-primary-{key}"), value));
            let error = json!({ "type": "usage_limit_reached", "message": "The usage limit has been reached",
                "plan_type": "plus", "resets_at": reset });
            send(stream, 429, &headers, &json!({ "error": error }))
        }
        Answer::Login(good) if good != key => {
            refuse(401, json!({ "code": "invalid_api_key", "message": "Incorrect API key provided" }))
        }
        Answer::Overloaded => refuse(503, json!({ "code": "server_is_overloaded", "message": "overloaded" })),
        answer => stream_answer(stream, answer, results),
    }
}

/// `None`: the connection is over afterwards.
fn stream_answer(out: &TcpStream, answer: Answer, results: bool) -> Option<()> {
    let mut events = Events::begin(out)?;
    events.send("response.created", json!({ "response": { "id": "resp_1" } }))?;
    if let Answer::Slow(for_) = answer {
        std::thread::sleep(for_);
    }
    let id = now().as_nanos();
    let item = match &answer {
        Answer::Tool(command) if !results => {
            json!({ "type": "function_call", "id": format!("fc_{id}"), "call_id": format!("call_{id}"),
                "name": "exec_command", "arguments": json!({ "cmd": command }).to_string() })
        }
        _ => json!({ "type": "message", "id": format!("msg_{id}"), "role": "assistant",
            "content": [{ "type": "output_text", "text": "mock answer" }] }),
    };
    events.send("response.output_item.done", json!({ "item": item }))?;
    let tokens = if matches!(answer, Answer::Full) { 257_000 } else { 10 };
    let usage = json!({ "input_tokens": tokens, "input_tokens_details": null, "output_tokens": 5,
        "output_tokens_details": null, "total_tokens": tokens + 5 });
    events.send("response.completed", json!({ "response": { "id": "resp_1", "usage": usage } }))?;
    None
}
