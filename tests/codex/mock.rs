//! A mock of OpenAI's Responses API on loopback: answers what the test says, and remembers what was asked.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

#[derive(Default)]
struct State {
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
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
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
        if !head.starts_with("POST /v1/responses") {
            return send(stream, 404, &[], &json!({ "error": { "message": "there is only /v1/responses" } }));
        }
        let key = field("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned();
        let turn = field("x-codex-turn-metadata").is_some_and(|m| m.contains(r#""thread_source":"user""#));
        let last = asked["input"].as_array().and_then(|i| i.last()).map(|i| i["type"] == "function_call_output");
        let results = last == Some(true);
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(Request { key: key.clone(), input: asked["input"].to_string(), turn });
            let then = state.then.clone().unwrap_or(Answer::Text);
            if turn && !results { state.next.pop_front().unwrap_or(then) } else { then }
        };
        match answer {
            Answer::Limit(seconds) => {
                let reset = (now().as_secs() + seconds).to_string();
                let headers = [
                    ("x-codex-primary-used-percent", "100.0"),
                    ("x-codex-primary-window-minutes", "300"),
                    ("x-codex-primary-reset-at", &reset),
                ];
                let error = json!({ "type": "usage_limit_reached", "message": "The usage limit has been reached",
                    "plan_type": "plus", "resets_at": now().as_secs() + seconds });
                send(stream, 429, &headers, &json!({ "error": error }))
            }
            Answer::Login(good) if good != key => {
                let error = json!({ "code": "invalid_api_key", "message": "Incorrect API key provided" });
                send(stream, 401, &[], &json!({ "error": error }))
            }
            Answer::Overloaded => {
                let error = json!({ "code": "server_is_overloaded", "message": "overloaded" });
                send(stream, 503, &[], &json!({ "error": error }))
            }
            answer => self.stream(stream, answer, results),
        }
    }

    fn stream(&self, mut out: &TcpStream, answer: Answer, results: bool) -> Option<()> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        out.write_all(head.as_bytes()).ok()?;
        let mut event = |kind: &str, mut data: Value| {
            data["type"] = json!(kind);
            out.write_all(format!("event: {kind}\ndata: {data}\n\n").as_bytes()).and_then(|()| out.flush()).ok()
        };
        event("response.created", json!({ "response": { "id": "resp_1" } }))?;
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
        event("response.output_item.done", json!({ "item": item }))?;
        let tokens = if matches!(answer, Answer::Full) { 257_000 } else { 10 };
        let usage = json!({ "input_tokens": tokens, "input_tokens_details": null, "output_tokens": 5,
            "output_tokens_details": null, "total_tokens": tokens + 5 });
        event("response.completed", json!({ "response": { "id": "resp_1", "usage": usage } }))?;
        // Closed by the other side or by us: it is over.
        let _ = out.shutdown(std::net::Shutdown::Both);
        None
    }
}

fn send(mut out: &TcpStream, status: u16, headers: &[(&str, &str)], body: &Value) -> Option<()> {
    let body = body.to_string();
    let more: String = headers.iter().map(|(key, value)| format!("{key}: {value}\r\n")).collect();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n");
    out.write_all(format!("{head}{body}").as_bytes()).and_then(|()| out.flush()).ok()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
