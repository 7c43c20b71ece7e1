//! Clients that mean ill or are broken, against the server in a small poll loop.

use super::*;
use crate::supervisor::control::line::MAX_CALL;
use crate::supervisor::control::protocol::{Refusal, Request};
use rustix::event::{PollFd, Timespec, poll};
use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

const STATUS: &[u8] = b"{\"request\":{\"do\":\"status\"}}\n";

struct Kit {
    dir: tempfile::TempDir,
    server: Server,
    now: u64,
}

impl Kit {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::bind(&dir.path().join("control.sock")).unwrap();
        Self { dir, server, now: 1_000_000 }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn client(&self) -> UnixStream {
        let client = UnixStream::connect(self.path()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }

    /// Everything that is ready now.
    fn turn(&mut self, wait: i64) -> Vec<Incoming> {
        let fds = self.server.poll_fds();
        let tokens: Vec<Token> = fds.iter().map(|(token, ..)| *token).collect();
        let mut fds: Vec<_> = fds.into_iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        poll(&mut fds, Some(&Timespec { tv_sec: wait, tv_nsec: 0 })).unwrap();
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        let ready = tokens.into_iter().zip(ready).filter(|(_, events)| !events.is_empty());
        ready.flat_map(|(token, events)| self.server.ready(token, events, self.now)).collect()
    }

    /// Turns until nothing is ready.
    fn settle(&mut self) -> Vec<Incoming> {
        let mut all = Vec::new();
        let start = Instant::now();
        loop {
            let fds = self.server.poll_fds();
            let mut fds: Vec<_> = fds.into_iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
            if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 0 {
                return all;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "something stays ready for ever");
            all.extend(self.turn(0));
        }
    }

    /// Turns until something came.
    fn next(&mut self) -> Incoming {
        let start = Instant::now();
        loop {
            let mut incoming = self.turn(1);
            assert!(incoming.len() < 2, "{incoming:?}");
            if let Some(one) = incoming.pop() {
                return one;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "nothing came");
        }
    }

    fn next_call(&mut self) -> (ConnectionId, i32, Request) {
        match self.next() {
            Incoming::Call { from, peer_pid, call } => (from, peer_pid, call.request),
            gone @ Incoming::Gone(_) => panic!("{gone:?}"),
        }
    }

    fn answer(&mut self, id: ConnectionId, text: &str) -> Vec<Incoming> {
        self.server.send(id, &Response::Done { lines: vec![text.to_owned()] }, self.now)
    }
}

fn read_answer(client: &mut UnixStream) -> Response {
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
}

fn refusal(client: &mut UnixStream) -> String {
    match read_answer(client) {
        Response::Refused { kind: Refusal::Usage, message } => message,
        other => panic!("{other:?}"),
    }
}

fn assert_closed(client: &mut UnixStream) {
    match client.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("still open: {other:?}"),
    }
}

#[test]
fn a_request_comes_with_the_callers_pid_and_is_answered() {
    let mut kit = Kit::new();
    let mode = fs::metadata(kit.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut client = kit.client();
    client.write_all(STATUS).unwrap();
    let (id, pid, request) = kit.next_call();
    assert_eq!((pid, request), (crate::support::process::own_pid(), Request::Status));
    assert_eq!(kit.answer(id, "hello"), []);
    assert_eq!(read_answer(&mut client), Response::Done { lines: vec!["hello".into()] });
    drop(client);
    assert_eq!(kit.next(), Incoming::Gone(id));
}

#[test]
fn several_requests_of_one_connection_come_one_at_a_time_and_in_order() {
    let mut kit = Kit::new();
    let mut client = kit.client();
    let line = |n| format!("{{\"request\":{{\"do\":\"phase-set\",\"index\":{n}}}}}\n");
    client.write_all((0..3).map(line).collect::<String>().as_bytes()).unwrap();
    let (id, _, first) = kit.next_call();
    assert_eq!(first, Request::PhaseSet { index: 0 });
    assert_eq!(kit.settle(), [], "the second came before the first was answered");
    for n in 1..3 {
        let next = kit.answer(id, "ok");
        let [Incoming::Call { call, .. }] = next.as_slice() else { panic!("{next:?}") };
        assert_eq!(call.request, Request::PhaseSet { index: n });
    }
    assert_eq!(kit.answer(id, "last"), []);
    let mut lines = BufReader::new(client).lines();
    assert!((0..3).all(|_| lines.next().unwrap().unwrap().contains("done")));
}

#[test]
fn half_lines_wait_for_their_other_half_and_no_longer_than_a_minute() {
    let mut kit = Kit::new();
    let (mut slow, mut dead) = (kit.client(), kit.client());
    let (start, end) = STATUS.split_at(9);
    slow.write_all(start).unwrap();
    dead.write_all(start).unwrap();
    assert_eq!(kit.settle(), []);
    slow.write_all(end).unwrap();
    let (id, ..) = kit.next_call();
    assert_eq!(kit.server.wake_at(), Some(kit.now + IDLE));
    kit.now += IDLE - 1;
    assert_eq!(kit.server.expire(kit.now), []);
    dead.write_all(b" ").unwrap();
    assert_eq!(kit.settle(), [], "a byte a minute is no line");
    kit.now += 1;
    let gone = kit.server.expire(kit.now);
    assert!(matches!(gone.as_slice(), [Incoming::Gone(other)] if *other != id), "{gone:?}");
    assert_closed(&mut dead);
    kit.now += 100 * IDLE;
    assert_eq!(kit.server.expire(kit.now), [], "who waits for an answer is not idle");
    assert_eq!(kit.server.wake_at(), None);
    kit.answer(id, "late");
    assert_eq!(read_answer(&mut slow), Response::Done { lines: vec!["late".into()] });
}

#[test]
fn garbage_is_answered_in_words_and_ends_the_connection() {
    for (garbage, part) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "no JSON object"),
        (b"\n", "no JSON object"),
        (b"\xff\xfe\0\n", "no JSON object"),
        (b"{\"request\":{\"do\":\"dance\"}}\n", "unknown variant `dance`"),
    ] {
        let mut kit = Kit::new();
        let mut client = kit.client();
        client.write_all(garbage).unwrap();
        assert!(matches!(kit.settle().as_slice(), [Incoming::Gone(_)]));
        let message = refusal(&mut client);
        assert!(message.contains(part), "{message}");
        assert_closed(&mut client);
    }
}

#[test]
fn a_last_line_without_newline_is_refused_in_words() {
    let mut kit = Kit::new();
    let mut client = kit.client();
    client.write_all(&STATUS[..STATUS.len() - 1]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(matches!(kit.settle().as_slice(), [Incoming::Gone(_)]));
    assert!(refusal(&mut client).contains("no newline"));
}

#[test]
fn who_has_said_all_still_gets_the_answer() {
    let mut kit = Kit::new();
    let mut client = kit.client();
    client.write_all(STATUS).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (id, ..) = kit.next_call();
    assert_eq!(kit.settle(), [], "taken for a hang-up");
    assert_eq!(kit.answer(id, "here"), [Incoming::Gone(id)]);
    assert_eq!(read_answer(&mut client), Response::Done { lines: vec!["here".into()] });
    assert_closed(&mut client);
}

#[test]
fn who_goes_away_while_the_answer_is_awaited_is_noticed() {
    let mut kit = Kit::new();
    let mut client = kit.client();
    client.write_all(&STATUS.repeat(1000)).unwrap();
    let (id, ..) = kit.next_call();
    drop(client);
    assert_eq!(kit.settle(), [Incoming::Gone(id)]);
    assert_eq!(kit.answer(id, "nobody"), []);
}

#[test]
fn ten_megabytes_without_a_newline_are_refused_and_not_kept() {
    let mut kit = Kit::new();
    let mut client = kit.client();
    let sender = std::thread::spawn(move || {
        let sent = client.write_all(&vec![b'x'; 10 << 20]);
        (client, sent)
    });
    let start = Instant::now();
    while !matches!(kit.turn(1).as_slice(), [Incoming::Gone(_)]) {
        let kept = kit.server.connections.values().map(|c| format!("{c:?}").len()).max();
        assert!(start.elapsed() < Duration::from_secs(10) && kept.is_some(), "{kept:?}");
    }
    let (mut client, sent) = sender.join().unwrap();
    assert!(sent.is_err(), "all ten were taken");
    assert!(refusal(&mut client).contains(&format!("longer than {MAX_CALL} bytes")));
}

#[test]
fn the_longest_line_is_taken_and_one_byte_more_is_not() {
    for (more, taken) in [(0, true), (1, false)] {
        let mut kit = Kit::new();
        let mut client = kit.client();
        let frame = "{\"request\":{\"do\":\"event\",\"event\":\"\"}}".len();
        let text = "x".repeat(MAX_CALL - frame + more);
        let sender = std::thread::spawn(move || {
            // Refused, it is closed before all is written.
            let _ = client.write_all(format!("{{\"request\":{{\"do\":\"event\",\"event\":\"{text}\"}}}}\n").as_bytes());
            client
        });
        assert_eq!(matches!(kit.next(), Incoming::Call { .. }), taken);
        sender.join().unwrap();
    }
}

#[test]
fn a_client_that_never_reads_costs_one_answer_and_a_minute() {
    let mut kit = Kit::new();
    let mut client = kit.client();
    client.write_all(&STATUS.repeat(100)).unwrap();
    let (id, ..) = kit.next_call();
    let big = "x".repeat(4 << 20);
    assert_eq!(kit.answer(id, &big), [], "the next request was taken before this answer");
    assert_eq!(kit.settle(), []);
    assert!(kit.server.wants_write());
    kit.now += IDLE;
    assert_eq!(kit.server.expire(kit.now), [Incoming::Gone(id)]);
    assert!(!kit.server.wants_write());
}

#[test]
fn a_long_answer_is_written_as_the_client_reads() {
    let mut kit = Kit::new();
    let mut client = kit.client();
    client.write_all(STATUS).unwrap();
    let (id, ..) = kit.next_call();
    let big = "x".repeat(4 << 20);
    assert_eq!(kit.answer(id, &big), []);
    let reader = std::thread::spawn(move || read_answer(&mut client));
    while !reader.is_finished() {
        kit.turn(1);
    }
    assert_eq!(reader.join().unwrap(), Response::Done { lines: vec![big] });
}

#[test]
fn of_too_many_connections_the_one_that_is_idle_for_longest_goes() {
    let mut kit = Kit::new();
    let mut clients = Vec::new();
    for n in 0..MOST {
        clients.push(kit.client());
        kit.now += 1;
        assert_eq!(kit.settle(), [], "at {n}");
    }
    clients[0].write_all(STATUS).unwrap();
    let (first, ..) = kit.next_call();
    let mut extra = kit.client();
    let gone = kit.settle();
    assert!(matches!(gone.as_slice(), [Incoming::Gone(id)] if *id != first), "{gone:?}");
    assert_eq!(kit.server.connections.len(), MOST);
    assert_closed(&mut clients[1]);
    extra.write_all(STATUS).unwrap();
    assert!(kit.next_call().0 > first);
}

#[test]
fn when_all_connections_wait_for_answers_the_next_is_refused_in_words() {
    let mut kit = Kit::new();
    let mut clients = Vec::new();
    for _ in 0..MOST {
        clients.push(kit.client());
        clients.last_mut().unwrap().write_all(STATUS).unwrap();
        kit.settle();
    }
    let mut extra = kit.client();
    assert_eq!(kit.settle(), []);
    assert!(refusal(&mut extra).contains("128 requests are waiting"));
    assert_closed(&mut extra);
}

#[test]
fn a_dead_supervisors_socket_is_replaced_and_anything_else_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves it, as a dead supervisor does");
    let server = Server::bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(server);
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    let error = Server::bind(&path).unwrap_err().to_string();
    assert!(error.ends_with("something that is no socket has this name; move it away"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_socket_that_somebody_removed_is_made_again() {
    let mut kit = Kit::new();
    assert!(!kit.server.mend().unwrap());
    fs::remove_file(kit.path()).unwrap();
    assert!(kit.server.mend().unwrap());
    let mut client = kit.client();
    client.write_all(STATUS).unwrap();
    kit.next_call();
    assert!(!kit.server.mend().unwrap());
}

#[test]
fn only_the_daemons_user_and_root_may_ask() {
    assert_eq!(may_not_ask(900, 900), None);
    assert_eq!(may_not_ask(0, 900), None);
    assert_eq!(may_not_ask(0, 0), None);
    let refusal = "connecting: you are uid 1000, and only uid 900 and root may ask; use `sudo -u`";
    assert_eq!(may_not_ask(1000, 900).unwrap(), refusal);
    assert!(may_not_ask(1000, 0).is_some());
}
