//! Another SOCKS5 proxy as the way out: real servers, killed and back; who waits, who is told what; `check` and `status`.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::result_large_err, reason = "what was seen last is shown whole when a wait fails")]

mod proxy_kit;

use cc_ci::proxy::state::Link;
use proxy_kit::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

fn upstream(port: u16, more: &str) -> String {
    format!("upstream = \"socks5\"\nsocks5 = {{ address = \"127.0.0.1:{port}\" }}\nhold_for = \"50s\"\n{more}")
}

/// microsocks on that port, listening; its number among the lab's others.
fn start(lab: &mut Lab, port: u16) -> usize {
    let other = lab.also(microsocks(port));
    lab.wait_for("microsocks", || TcpStream::connect(("127.0.0.1", port)).map(drop));
    other
}

#[test]
fn when_the_way_out_dies_open_connections_end_and_new_ones_wait_for_the_next() {
    if !has("microsocks") {
        return;
    }
    let port = free_port();
    let mut lab = Lab::new();
    let first = start(&mut lab, port);
    lab.configure(&upstream(port, "[probes.echo]\ntarget = \"127.0.0.1:1\"\n"));
    lab.start();
    let echo = echo();
    let mut open = lab.socks(echo);
    say(&mut open, b"before");
    lab.kill(first);
    assert!(matches!(open.read(&mut [0; 1]), Ok(0) | Err(_)), "the open one ends");
    let waiting: Vec<_> = (0..5u8).map(|n| client(&lab, echo, &[n; 100])).collect();
    lab.wait_for("five to wait", || match lab.status().connections.waiting {
        5 => Ok(()),
        n => Err(n),
    });
    start(&mut lab, port);
    for client in waiting {
        client.join().unwrap();
    }
    assert_eq!(lab.status().connections.waiting, 0);
}

#[test]
fn a_client_is_held_no_longer_than_told_and_then_told_why() {
    let port = free_port();
    let lab = Lab::with(&upstream(port, "").replace("50s", "300ms"));
    let out = lab.connect(&[], 22, b"");
    let why =
        format!("the proxy has no way out, waited 300ms: nothing listens at the upstream proxy `127.0.0.1:{port}`");
    assert!(said(&out).ends_with(&format!(": {why}\n")), "{}", said(&out));
    assert_eq!(lab.status().failures.pop().unwrap().why, why);
}

#[test]
fn an_upstream_that_accepts_and_says_nothing_is_away_and_not_an_answer() {
    let mute = destination(std::mem::forget);
    let config = upstream(mute, "handshake_timeout = \"5s\"\n").replace("50s", "300ms");
    let lab = Lab::with(&config);
    let out = lab.connect(&[], 22, b"");
    assert!(said(&out).contains("said nothing for 5s"), "{}", said(&out));
    lab.wait_for("it to be called away", || match lab.status().link {
        Link::Away { why, .. } if why.contains("said nothing for 5s") => Ok(()),
        other => Err(other),
    });
}

#[test]
fn names_are_left_to_the_upstream_and_its_refusal_is_passed_on() {
    let port = destination(|mut stream| {
        stream.read_exact(&mut [0; 3]).unwrap();
        stream.write_all(&[5, 0]).unwrap();
        let mut request = [0; 100];
        let n = stream.read(&mut request).unwrap();
        if n > 0 {
            assert_eq!(&request[..n], b"\x05\x01\x00\x03\x13only.known.upstream\x00\x16");
            stream.write_all(b"\x05\x02\x00\x01\0\0\0\0\0\0").unwrap();
        }
    });
    let lab = Lab::with(&upstream(port, ""));
    let proxy = lab.address().to_string();
    let out = lab.command(&["connect", "--proxy", &proxy, "only.known.upstream", "22"]).output().unwrap();
    assert!(said(&out).contains("the proxy's rules do not allow this destination (code 2)"), "{}", said(&out));
}

#[test]
fn real_socks_servers_take_what_it_sends() {
    let mut lab = Lab::new();
    let port = free_port();
    if has("danted") {
        let config = format!(
            "logoutput: {0}/dante.log\ninternal: 127.0.0.1 port = {port}\nexternal: lo\nsocksmethod: none\n\
             clientmethod: none\nclient pass {{ from: 0/0 to: 0/0 }}\nsocks pass {{ from: 0/0 to: 0/0 }}\n",
            lab.dir.path().display()
        );
        std::fs::write(lab.path("danted.conf"), config).unwrap();
        let mut command = Command::new("danted");
        command.arg("-f").arg(lab.path("danted.conf")).arg("-p").arg(lab.path("danted.pid"));
        let other = lab.also(command);
        lab.wait_for("danted", || TcpStream::connect(("127.0.0.1", port)).map(drop));
        lab.configure(&upstream(port, ""));
        lab.start();
        let out = lab.connect(&[], answers_after_the_end(100_000), b"question");
        assert!(out.stdout == [b"8 ".as_slice(), &pattern(100_000)].concat(), "{}", out.stdout.len());
        // Its workers end by SIGTERM only.
        let id = cc_ci::support::process::ProcId::of(lab.other_pid(other)).unwrap().unwrap();
        cc_ci::support::process::send(id, rustix::process::Signal::TERM).unwrap();
        lab.wait_for("danted's end", || match TcpStream::connect(("127.0.0.1", port)) {
            Ok(_) => Err("it listens"),
            Err(_) => Ok(()),
        });
    }
}

#[test]
fn check_names_each_link_and_its_exit_code_is_all_that_quiet_gives() {
    let mut lab = Lab::new();
    let ssh = destination(|mut stream| stream.write_all(b"SSH-2.0-x\r\n").unwrap());
    let web = destination(|mut stream| stream.write_all(b"220 mail\r\n").unwrap());
    let probes = format!(
        "upstream = \"direct\"\n[probes.git]\ntarget = \"127.0.0.1:{ssh}\"\nexpect = \"SSH-\"\n[probes.mail]\n\
         target = \"127.0.0.1:{web}\"\nfirst_byte = true\n"
    );
    lab.configure(&probes);
    let (code, text) = lab.cli(&["check"]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("nothing listens there; start it with `systemctl start cc-ci-tailscaled`"), "{text}");
    assert_eq!(lab.cli(&["check", "--quiet"]), (3, String::new()));
    lab.start();
    let port = lab.port;
    let want = format!(
        "ok     port 127.0.0.1:{port}: it is there, and it is a SOCKS5 proxy\nok     way out: direct is up\n\
         ok     probe git (127.0.0.1:{ssh}): connected, and it said what was expected\n\
         ok     probe mail (127.0.0.1:{web}): connected, and bytes came\n"
    );
    lab.check(&[], |said| *said == (0, want.clone()));
    lab.check(&["--quiet"], |said| *said == (0, String::new()));
    lab.configure(&probes.replace("first_byte = true", "expect = \"SSH-\""));
    let wrong =
        format!("WRONG  probe mail (127.0.0.1:{web}): it said `220 `, which is not how `SSH-` begins; see whether");
    lab.check(&[], |(code, text)| *code == 1 && text.contains(&wrong));
    // A check is no failure of a client.
    assert_eq!(lab.status().failures, []);
}

#[test]
fn check_says_away_with_the_remedy_and_tries_no_probe() {
    let port = free_port();
    let lab = Lab::with(&upstream(port, "[probes.x]\ntarget = \"127.0.0.1:1\"\n"));
    let away = |lab: &Lab| match lab.status().link {
        Link::Away { .. } => Ok(()),
        other => Err(other),
    };
    lab.wait_for("away", || away(&lab));
    let away = format!(
        "WRONG  way out: socks5 127.0.0.1:{port} is away: nothing listens at the upstream proxy `127.0.0.1:{port}`; see \
         to the proxy at `127.0.0.1:{port}`\nWRONG  probes: not tried: there is no way out; mend what is above\n"
    );
    lab.check(&[], |(code, text)| *code == 3 && text.ends_with(&away));
}

#[test]
fn status_tells_connections_bytes_failures_and_probes_in_text_and_in_json() {
    let echo = echo();
    let lab = Lab::with(&format!("upstream = \"direct\"\n[probes.echo]\ntarget = \"127.0.0.1:{echo}\"\n"));
    let mut open = lab.socks(echo);
    say(&mut open, b"four");
    lab.connect(&[], 1, b"");
    let view = lab.wait_for("the probe and the end of the refused one", || match lab.status() {
        view if view.probes["echo"].passed.is_some() && view.connections.open == 1 => Ok(view),
        view => Err(view),
    });
    assert_eq!((view.connections.open, view.connections.total, view.connections.failed), (1, 2, 1));
    assert_eq!((view.connections.bytes_up, view.connections.bytes_down), (4, 4));
    assert_eq!(view.probes["echo"].passed, Some(true));
    let (code, text) = lab.cli(&["status"]);
    assert_eq!(code, 0);
    for part in ["way out      up for ", "1 open of at most 1024, 2 in all, 1 failed", "4B up, 4B down"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("127.0.0.1:1: `127.0.0.1:1` refused the connection"), "{text}");
    let (code, json) = lab.cli(&["status", "--json"]);
    assert_eq!(code, 0);
    let read: cc_ci::proxy::state::StatusView = serde_json::from_str(&json).unwrap();
    assert_eq!(read.failures, view.failures);
    let gone = Lab::new();
    gone.configure("upstream = \"direct\"\n");
    assert_eq!(gone.cli(&["status"]).0, 3);
}
