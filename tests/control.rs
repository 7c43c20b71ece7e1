//! The control socket under hostile and careless clients, and under agents that ask for what is not theirs.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::Request;
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use support::script::{PHASES, a_loop};
use support::{Lab, loop_name, read, when};

fn two(more: &str) -> String {
    format!("{}{}", a_loop("builder", "agent.sh", more), a_loop("adversary", "agent.sh", more))
}

const PROVEN: &str = "stable_after = \"1ms\"\n";

/// What comes back for these bytes, until the daemon ends the connection or a line came.
fn answer_to(lab: &Lab, bytes: &[u8]) -> String {
    let mut stream = lab.connect().unwrap();
    // It may be closed before all is written.
    let _ = stream.write_all(bytes);
    let mut line = String::new();
    let _ = BufReader::new(stream).read_line(&mut line);
    line
}

#[test]
fn garbage_is_refused_and_says_what_is_expected() {
    let lab = Lab::start_with(&two(""));
    lab.running("builder");
    for (sent, told) in [
        (b"hello\n".as_slice(), "no JSON object"),
        (b"\xff\xfe\x00\n", "no JSON object"),
        (b"[]\n", "no JSON object"),
        (b"{}\n", "request"),
        (b"{\"request\":{\"do\":\"explode\"}}\n", "explode"),
        (b"{\"request\":{\"do\":\"status\",\"colour\":1}}\n", "unknown field `colour`"),
        (b"{\"request\":{\"do\":\"explain\",\"name\":\"../../etc\"}}\n", "name"),
    ] {
        let answer = answer_to(&lab, sent);
        assert!(answer.contains("refused") && answer.contains(told), "{sent:?}: {answer}");
    }
    lab.status();
}

#[test]
fn half_lines_floods_and_two_hundred_clients_hold_up_no_restart() {
    let lab = Lab::start_with(&two(PROVEN));
    let mut agent = lab.running("builder");
    let half: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = lab.connect().unwrap();
            stream.write_all(b"{\"request\":").unwrap();
            stream
        })
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let answer = answer_to(&lab, &vec![b'x'; 10 << 20]);
                assert!(answer.is_empty() || answer.contains("refused"), "{answer}");
            });
        }
        scope.spawn(|| {
            let mut streams: Vec<UnixStream> = (0..200).filter_map(|_| lab.connect().ok()).collect();
            for stream in &mut streams {
                // Those beyond the limit are told so, or closed.
                let _ = stream.write_all(b"{\"request\":{\"do\":\"status\"}}\n");
            }
            let answered = streams.into_iter().filter(|stream| {
                let mut line = String::new();
                BufReader::new(stream).read_line(&mut line).is_ok() && line.contains("\"answer\":\"status\"")
            });
            assert!(answered.count() >= 50);
        });
        for _ in 0..5 {
            agent.signal(Signal::KILL);
            agent = lab.running_after("builder", agent.epoch);
        }
    });
    drop(half);
    lab.running("adversary");
    assert_eq!((lab.doubles(), lab.view("adversary").epoch), (String::new(), 1));
}

#[test]
fn a_client_that_goes_away_before_its_answer_changes_nothing_of_what_it_asked() {
    let lab = Lab::start_with(&two(""));
    let agent = lab.running("builder");
    let mut stream = lab.connect().unwrap();
    stream.write_all(b"{\"request\":{\"do\":\"restart\",\"which\":{\"loops\":[\"builder\"]}}}\n").unwrap();
    drop(stream);
    lab.running_after("builder", agent.epoch);
    assert_eq!(lab.doubles(), "");
}

/// Not a test: what a process inside a loop runs to say a line to the daemon.
#[test]
fn say() {
    let Ok(what) = std::env::var("CC_CI_TEST_SAY") else { return };
    let words: Vec<&str> = what.splitn(3, ' ').collect();
    let mut stream = UnixStream::connect(words[0]).unwrap();
    stream.write_all(format!("{}\n", words[2]).as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).take(1 << 20).read_line(&mut answer).unwrap();
    std::fs::write(format!("{}.part", words[1]), answer).unwrap();
    std::fs::rename(format!("{}.part", words[1]), words[1]).unwrap();
}

/// Has the builder's agent say a line to the daemon, from below itself or from a double-forked child without
/// environment; the answer.
fn said_inside(lab: &Lab, number: usize, how: &str, line: &str) -> String {
    let out = lab.path(&format!("answer.{number}"));
    let me = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nCC_CI_TEST_SAY='{} {} {line}' exec '{}' --exact say --nocapture >/dev/null 2>&1\n",
        lab.socket().display(),
        out.display(),
        me.display()
    );
    let file = lab.path(&format!("say.{number}"));
    std::fs::write(&file, script).unwrap();
    let run = match how {
        "inside" => format!("run sh {}", file.display()),
        _ => format!("run (env -i PATH=\"$PATH\" setsid sh {} </dev/null &)", file.display()),
    };
    lab.done(Request::Nudge { name: loop_name("builder"), text: run });
    lab.wait_for("the answer", || when(out.exists(), "none"));
    read(&out)
}

#[test]
fn an_agent_that_meddles_with_another_loop_is_refused_and_it_is_journalled() {
    let lab = Lab::start_with(&format!("{PHASES}{}", two("")));
    let agents = (lab.running("builder"), lab.running("adversary"));
    let requests = [
        r#"{"do":"stop","which":{"loops":["adversary"]}}"#,
        r#"{"do":"start","which":"all"}"#,
        r#"{"do":"freeze"}"#,
        r#"{"do":"drain","timeout_ms":1000}"#,
        r#"{"do":"phase-set","index":2}"#,
        r#"{"do":"phase-advance"}"#,
    ];
    let mut number = 0;
    for how in ["inside", "double-forked"] {
        for request in requests {
            number += 1;
            // That it says it is the other one helps nothing.
            let line = format!(r#"{{"from":"adversary","request":{request}}}"#);
            let answer = said_inside(&lab, number, how, &line);
            assert!(answer.contains("refused"), "{how} {request}: {answer}");
            assert_eq!(lab.decisions("refused", Some("builder")).len(), number, "{how} {request}");
        }
    }
    let line = r#"{"request":{"do":"status"}}"#;
    assert!(said_inside(&lab, 100, "double-forked", line).contains("\"answer\":\"status\""));
    assert_eq!((lab.running("builder"), lab.running("adversary")), agents);
    let status = lab.status();
    assert_eq!((status.frozen, status.draining_until, status.phase.unwrap().index), (None, None, Some(0)));
}

#[test]
fn a_socket_that_was_removed_is_there_again_and_a_file_in_its_place_is_refused() {
    let mut lab = Lab::start_with(&two(""));
    let agent = lab.running("builder");
    std::fs::remove_file(lab.socket()).unwrap();
    // Nobody can ask it now, but it works on.
    agent.signal(Signal::KILL);
    lab.wait_for("the restart", || when(lab.starts("builder").len() == 2, format!("{:?}", lab.starts("builder"))));
    lab.kill();
    // The daemon may have made it anew.
    if let Err(e) = std::fs::remove_file(lab.socket()) {
        assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
    }
    std::fs::write(lab.socket(), "a file").unwrap();
    let (code, said) = lab.refused();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("control.sock") && said.contains("move it away"), "{said}");
    assert_eq!(read(&lab.socket()), "a file");
    std::fs::remove_file(lab.socket()).unwrap();
    lab.start();
    lab.running("builder");
    assert_eq!(lab.starts("builder").len(), 2);
}

#[test]
fn the_command_is_refused_inside_a_loop_and_its_event_is_taken_and_never_fails() {
    let mut lab = Lab::start_with(&two(""));
    let agent = lab.running("builder");
    lab.running("adversary");
    let supervisor = env!("CARGO_BIN_EXE_supervisor");
    let run = |lab: &Lab, command: &str| {
        let out = lab.path("code");
        let _ = std::fs::remove_file(&out);
        let text = format!("run {command}; echo $? >{0}.part; mv {0}.part {0}", out.display());
        lab.done(Request::Nudge { name: loop_name("builder"), text });
        lab.wait_for("the exit code", || when(out.exists(), "none"));
        read(&out).trim().to_owned()
    };
    assert_eq!(run(&lab, &format!("{supervisor} stop adversary 2>{}", lab.path("why").display())), "1");
    assert!(read(&lab.path("why")).contains("adversary") || read(&lab.path("why")).contains("inside"));
    lab.await_decision("refused", Some("builder"));
    let event = format!("echo '{{\"signal\":\"needs-person\",\"what\":\"a decision\"}}' | {supervisor} event");
    assert_eq!(run(&lab, &event), "0");
    assert_eq!(lab.view("builder").waits_for.as_deref(), Some("a person: a decision"));
    assert_eq!(lab.view("adversary").turn.as_deref(), Some("unknown"));
    // A hook must not fail a turn, also when nobody listens.
    let code = lab.path("code");
    std::fs::remove_file(&code).unwrap();
    let text = format!("run sleep 1; {event}; echo $? >{}", code.display());
    lab.done(Request::Nudge { name: loop_name("builder"), text });
    lab.kill();
    lab.wait_for("the exit code", || when(read(&code).trim() == "0", read(&code)));
    lab.start();
    assert_eq!(lab.running("builder"), agent);
    let (code, said) = lab.cli(&["status"]);
    assert_eq!(code, 0, "{said}");
    lab.kill();
    let (code, said) = lab.cli(&["stop", "builder"]);
    assert_eq!(code, 3, "{said}");
    let (_, said) = lab.cli(&["status"]);
    assert!(said.contains("builder"), "{said}");
}
