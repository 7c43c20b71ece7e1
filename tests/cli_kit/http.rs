//! A small HTTP server for mocks of models' APIs: requests with a body of JSON, answers as JSON or as server-sent events.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What turns are answered with, and what was asked.
pub struct Script<Answer, Request> {
    /// For the next turns, in order; then `then`.
    pub next: VecDeque<Answer>,
    pub then: Answer,
    pub requests: Vec<Request>,
}

impl<Answer: Clone, Request> Script<Answer, Request> {
    pub fn new(then: Answer) -> Self {
        Self { next: VecDeque::new(), then, requests: Vec::new() }
    }

    /// Every turn from now on is answered so.
    pub fn always(&mut self, answer: Answer) {
        self.next.clear();
        self.then = answer;
    }

    /// Takes a request in. What a CLI asks for by the way, and the results of a tool, meet the same state of the account as a
    /// turn, and no turn's own answer.
    pub fn answer(&mut self, request: Request, new_turn: bool) -> Answer {
        self.requests.push(request);
        let own = if new_turn { self.next.pop_front() } else { None };
        own.unwrap_or_else(|| self.then.clone())
    }
}

/// Serves each connection on a thread of its own until `answer` says that it is over; ends with the test's process.
pub fn serve(answer: impl Fn(&TcpStream) -> Option<()> + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || while answer(&stream).is_some() {});
        }
    });
    url
}

/// A request as it came.
pub struct Received {
    head: String,
    /// `null` where it was no JSON.
    pub body: Value,
}

impl Received {
    /// The next one of a connection; `None` when the other side is done.
    pub fn read(stream: &TcpStream) -> Option<Self> {
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
        let mut received = Self { head, body: Value::Null };
        let mut body = vec![0; received.field("content-length").and_then(|n| n.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        received.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Some(received)
    }

    /// Whether its first line begins so: `POST /v1/messages`.
    pub fn is(&self, begins: &str) -> bool {
        self.head.starts_with(begins)
    }

    /// A header's value; names are compared without case.
    pub fn field(&self, name: &str) -> Option<String> {
        let line = self.head.lines().find(|l| l.to_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    }

    /// What it logs in with, without `Bearer `.
    pub fn token(&self) -> String {
        self.field("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned()
    }
}

/// An answer in one piece.
pub fn send<K: AsRef<str>>(mut out: &TcpStream, status: u16, headers: &[(K, String)], body: &Value) -> Option<()> {
    let body = body.to_string();
    let more: String = headers.iter().map(|(key, value)| format!("{}: {value}\r\n", key.as_ref())).collect();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n");
    out.write_all(format!("{head}{body}").as_bytes()).and_then(|()| out.flush()).ok()
}

/// An answer as server-sent events, after which the connection is over.
pub struct Events<'a>(&'a TcpStream);

impl<'a> Events<'a> {
    pub fn begin(mut out: &'a TcpStream) -> Option<Self> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        out.write_all(head.as_bytes()).ok()?;
        Some(Self(out))
    }

    pub fn send(&mut self, kind: &str, mut data: Value) -> Option<()> {
        data["type"] = json!(kind);
        self.0.write_all(format!("event: {kind}\ndata: {data}\n\n").as_bytes()).and_then(|()| self.0.flush()).ok()
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        // Closed by the other side or by us: it is over.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Since the epoch.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
