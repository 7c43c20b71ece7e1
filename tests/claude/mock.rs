//! A mock of the model's API on loopback: answers what the test says, and remembers what was asked.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

#[derive(Default)]
struct State {
    /// For the next turns, in order; then `then`.
    next: VecDeque<Answer>,
    then: Option<Answer>,
    requests: Vec<Request>,
}

/// The server; it ends with the test's process.
#[derive(Clone)]
pub struct Mock {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Mock {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mock = Self { url, state: Arc::default() };
        let serving = mock.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mock = serving.clone();
                std::thread::spawn(move || while mock.answer_one(&stream).is_some() {});
            }
        });
        mock
    }

    /// Every turn from now on is answered so.
    pub fn always(&self, answer: Answer) {
        let mut state = self.state.lock().unwrap();
        state.next.clear();
        state.then = Some(answer);
    }

    /// The next turn is answered so, the ones after it as before.
    pub fn once(&self, answer: Answer) {
        self.state.lock().unwrap().next.push_back(answer);
    }

    /// The turns that were asked for.
    pub fn turns(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.iter().filter(|r| r.turn).cloned().collect()
    }

    /// The last turn with this text anywhere in its messages.
    pub fn turn_with(&self, text: &str) -> Option<Request> {
        self.turns().into_iter().rev().find(|r| r.has(text))
    }

    fn answer_one(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let field = |name: &str| {
            let line = head.lines().find(|l| l.to_lowercase().starts_with(&format!("{name}:")))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let length = field("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let asked: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if !head.starts_with("POST /v1/messages") || head.starts_with("POST /v1/messages/count_tokens") {
            return send(stream, 200, &[], &json!({}));
        }
        let token = field("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned();
        let turn = asked["tools"].as_array().is_some_and(|tools| !tools.is_empty());
        let messages = asked["messages"].as_array().cloned().unwrap_or_default();
        let request = Request { token: token.clone(), messages, turn };
        let results = request.messages.last().is_some_and(|m| m.to_string().contains("tool_result"));
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(request);
            let then = state.then.clone().unwrap_or(Answer::Text);
            // What claude asks for by the way meets the same state of the account, and no turn's own answer.
            if turn && !results { state.next.pop_front().unwrap_or(then) } else { then }
        };
        let streams = asked["stream"] == true;
        match answer {
            Answer::Limit(seconds) => send(stream, 429, &limit(seconds), &error("rate_limit_error", "exceeded")),
            Answer::BareLimit => send(stream, 429, &[], &error("rate_limit_error", "slow down")),
            Answer::Login(good) if good != token => {
                send(stream, 401, &[], &error("authentication_error", "invalid token"))
            }
            Answer::Overloaded => send(stream, 529, &[], &error("overloaded_error", "Overloaded")),
            _ if !streams => send(stream, 200, &[], &whole(&asked)),
            answer => self.stream(stream, &asked, if turn { answer } else { Answer::Text }, results),
        }
    }

    fn stream(&self, mut out: &TcpStream, asked: &Value, answer: Answer, results: bool) -> Option<()> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        out.write_all(head.as_bytes()).ok()?;
        let mut event = |kind: &str, mut data: Value| {
            data["type"] = json!(kind);
            out.write_all(format!("event: {kind}\ndata: {data}\n\n").as_bytes()).and_then(|()| out.flush()).ok()
        };
        let call = |name: &str, input: Value| {
            let id = format!("toolu_{}", nanos());
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
            _ => (
                json!({ "type": "text", "text": "" }),
                json!({ "type": "text_delta", "text": "mock answer" }),
                "end_turn",
            ),
        };
        let mut message = whole(asked);
        message["content"] = json!([]);
        message["stop_reason"] = Value::Null;
        if matches!(answer, Answer::Full) {
            message["usage"]["input_tokens"] = json!(199_000);
        }
        event("message_start", json!({ "message": message }))?;
        event("content_block_start", json!({ "index": 0, "content_block": block }))?;
        match answer {
            Answer::Slow(for_) => std::thread::sleep(for_),
            Answer::Cut => {
                let _ = out.shutdown(std::net::Shutdown::Both);
                return None;
            }
            _ => {}
        }
        event("content_block_delta", json!({ "index": 0, "delta": delta }))?;
        event("content_block_stop", json!({ "index": 0 }))?;
        let usage = json!({ "output_tokens": 5 });
        event("message_delta", json!({ "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": usage }))?;
        event("message_stop", json!({}))?;
        let _ = out.shutdown(std::net::Shutdown::Both);
        None
    }
}

fn whole(asked: &Value) -> Value {
    json!({ "id": format!("msg_{}", nanos()), "type": "message", "role": "assistant", "model": asked["model"],
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

fn send(mut out: &TcpStream, status: u16, headers: &[(String, String)], body: &Value) -> Option<()> {
    let body = body.to_string();
    let more: String = headers.iter().map(|(key, value)| format!("{key}: {value}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{more}\r\n",
        body.len()
    );
    out.write_all(format!("{head}{body}").as_bytes()).and_then(|()| out.flush()).ok()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn nanos() -> u128 {
    now().as_nanos()
}
