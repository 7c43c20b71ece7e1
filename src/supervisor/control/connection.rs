//! One client of the control socket: reads lines without ever waiting, one request at a time, and writes answers as
//! fast as the client takes them. Owns no decision about who may connect or how many.

use super::line::{MAX_CALL, read_call, write_response};
use super::protocol::{Call, Refusal, Response};
use rustix::event::PollFlags;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Read at a time; 16 of them a round, so that one client that sends without end does not keep the others waiting.
const CHUNK: usize = 16 * 1024;
const ROUNDS: usize = 16;

/// Where the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The next line is a request.
    Open,
    /// A request was handed out and not answered.
    Asked,
    /// What is in the write buffer is the last that the client gets.
    Closing,
    /// Nothing more happens here.
    Gone,
}

/// What a turn of a connection brought.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing for the daemon.
    Nothing,
    /// A request. There is no other before it is answered.
    Asked(Box<Call>),
    /// The client is gone, or was sent away; drop the connection.
    Gone,
}

/// One client.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    peer_pid: i32,
    input: Vec<u8>,
    /// So much of `input` is known to hold no newline, or it would be searched anew with every byte of a long line.
    searched: usize,
    /// The client has said all that it will; it may still want the answer.
    ended: bool,
    output: Vec<u8>,
    stage: Stage,
    /// The last moment at which a line came, an answer was given or bytes of one were taken; milliseconds since boot.
    pub(super) active: u64,
}

impl Connection {
    /// `stream` must be non-blocking.
    pub(super) fn new(stream: UnixStream, peer_pid: i32, now: u64) -> Self {
        Self {
            stream,
            peer_pid,
            input: Vec::new(),
            searched: 0,
            ended: false,
            output: Vec::new(),
            stage: Stage::Open,
            active: now,
        }
    }

    /// The process that connected.
    pub(super) fn peer_pid(&self) -> i32 {
        self.peer_pid
    }

    pub(super) fn poll_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether there is something to write that the client has not taken.
    pub(super) fn wants_write(&self) -> bool {
        !self.output.is_empty() && self.stage != Stage::Gone
    }

    /// What to poll for; a hang-up is always reported.
    pub(super) fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        // While a request is unanswered, what follows it is left to the kernel's buffer, which makes the client wait.
        // Only so much is read that a client that went away meanwhile is noticed.
        let room = self.input.len() <= if self.stage == Stage::Asked { CHUNK } else { MAX_CALL };
        if !self.ended && room && matches!(self.stage, Stage::Open | Stage::Asked) {
            flags |= PollFlags::IN;
        }
        if self.wants_write() {
            flags |= PollFlags::OUT;
        }
        flags
    }

    /// Whether nothing is owed to this client, so that it may be sent away.
    pub(super) fn is_idle(&self) -> bool {
        self.stage != Stage::Asked
    }

    /// Reads what is there.
    pub(super) fn on_readable(&mut self, now: u64) -> Step {
        let mut chunk = [0; CHUNK];
        for _ in 0..ROUNDS {
            if self.ended || !self.interest().contains(PollFlags::IN) {
                break;
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // A reset: nobody is left to be told.
                Err(_) => return self.gone(),
            }
        }
        self.next(now)
    }

    /// Writes what the client takes.
    pub(super) fn on_writable(&mut self, now: u64) -> Step {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(n) => {
                    self.output.drain(..n);
                    self.active = now;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Step::Nothing,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.gone(),
            }
        }
        self.next(now)
    }

    /// Both directions are closed: nobody is left to be answered.
    pub(super) fn on_hangup(&mut self, now: u64) -> Step {
        // Whatever was sent before the hang-up still counts: `event` does not wait for more than it must.
        match self.stage {
            Stage::Open => match self.on_readable(now) {
                Step::Asked(call) => Step::Asked(call),
                Step::Nothing | Step::Gone => self.gone(),
            },
            Stage::Asked | Stage::Closing | Stage::Gone => self.gone(),
        }
    }

    /// Answers the request that was handed out last, and goes on with what came meanwhile.
    pub(super) fn send(&mut self, response: &Response, now: u64) -> Step {
        if self.stage == Stage::Asked {
            self.stage = Stage::Open;
            self.answer(response, now);
        }
        self.on_writable(now)
    }

    /// Tells the client why it is sent away, and sends it away once it has taken that.
    pub(super) fn dismiss(&mut self, message: String, now: u64) -> Step {
        if matches!(self.stage, Stage::Open | Stage::Asked) {
            self.stage = Stage::Closing;
            self.input = Vec::new();
            self.answer(&Response::Refused { kind: Refusal::Usage, message }, now);
        }
        self.on_writable(now)
    }

    fn answer(&mut self, response: &Response, now: u64) {
        self.output.extend(write_response(response));
        self.active = now;
    }

    fn gone(&mut self) -> Step {
        self.stage = Stage::Gone;
        Step::Gone
    }

    /// The next request, if there is one and the answer before it was taken, so that an answer at most is kept here.
    fn next(&mut self, now: u64) -> Step {
        match self.stage {
            Stage::Gone => return Step::Gone,
            Stage::Closing if self.output.is_empty() => return self.gone(),
            Stage::Open if self.output.is_empty() => {}
            Stage::Closing | Stage::Open | Stage::Asked => return Step::Nothing,
        }
        let Some(end) = self.input[self.searched..].iter().position(|b| *b == b'\n').map(|i| self.searched + i) else {
            self.searched = self.input.len();
            if self.input.len() > MAX_CALL {
                return self.too_long(now);
            }
            if self.ended {
                return self.half(now);
            }
            return Step::Nothing;
        };
        if end > MAX_CALL {
            return self.too_long(now);
        }
        let mut line: Vec<u8> = self.input.drain(..=end).collect();
        line.pop();
        self.searched = 0;
        self.active = now;
        match read_call(&line) {
            Ok(call) => {
                self.stage = Stage::Asked;
                Step::Asked(Box::new(call))
            }
            Err(e) => self.dismiss(e.to_string(), now),
        }
    }

    /// All was said; a line without its newline is none.
    fn half(&mut self, now: u64) -> Step {
        if self.input.is_empty() {
            return self.gone();
        }
        let message = "reading a request: the line has no newline at its end; send one JSON object a line";
        self.dismiss(message.to_owned(), now)
    }

    fn too_long(&mut self, now: u64) -> Step {
        let message = format!("reading a request: it is longer than {MAX_CALL} bytes; send less in one line");
        self.dismiss(message, now)
    }
}
