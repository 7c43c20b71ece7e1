//! `proxy-shim connect` against proxies that are down, mute, wrong or right: what it says, what it hands over.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::result_large_err, reason = "what was seen last is shown whole when a wait fails")]

mod proxy_kit;

use proxy_kit::*;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn connect(proxy: u16, more: &[&str]) -> Output {
    let proxy = format!("127.0.0.1:{proxy}");
    Command::new(SHIM).args(["connect", "--proxy", &proxy]).args(more).stdin(Stdio::null()).output().unwrap()
}

/// A proxy that reads what it is sent and answers each part with these bytes.
fn answering(answers: &'static [&'static [u8]]) -> u16 {
    destination(move |mut stream| {
        for answer in answers {
            let mut request = [0; 600];
            if stream.read(&mut request).unwrap_or(0) == 0 {
                return;
            }
            stream.write_all(answer).unwrap();
        }
        let _ = stream.read(&mut [0; 1]);
    })
}

/// As often as it takes: on a busy machine what answers may have its turn only after the time limit.
fn until(right: impl Fn(&Output) -> bool, ask: impl Fn() -> Output) -> Output {
    let begun = Instant::now();
    loop {
        let out = ask();
        if right(&out) || begun.elapsed() > DEADLINE {
            return out;
        }
    }
}

#[track_caller]
fn says(out: &Output, code: i32, text: &str) {
    assert_eq!(said(out), format!("proxy-shim: {text}\n"));
    assert_eq!(out.status.code(), Some(code));
}

#[test]
fn each_link_that_fails_is_named_with_what_to_do() {
    let port = free_port();
    says(
        &connect(port, &["h.example", "22"]),
        3,
        &format!(
            "connecting to the proxy `127.0.0.1:{port}`: it is down, nothing listens there; start it with `systemctl \
             start cc-ci-tailscaled`, or wait for it with `--wait 30s`"
        ),
    );
    let port = answering(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]);
    says(
        &connect(port, &["h.example", "22"]),
        1,
        &format!(
            "talking to the proxy `127.0.0.1:{port}`: what answers there is an HTTP server, no SOCKS5 proxy; name the \
             proxy's own port"
        ),
    );
    let port = answering(&[b"\x05\x00", b""]);
    says(
        &until(|out| said(out).contains("say whether"), || connect(port, &["--timeout", "200ms", "h.example", "22"])),
        3,
        &format!(
            "waiting for the proxy `127.0.0.1:{port}`: it accepted the connection, but did not say whether it could \
             connect within 200ms; see `proxy-shim check`, or give more time with `--timeout`"
        ),
    );
    let port = destination(drop);
    says(
        &connect(port, &["h.example", "22"]),
        3,
        &format!("talking to the proxy `127.0.0.1:{port}`: it hung up before it had answered; see `proxy-shim status`"),
    );
    let port = answering(&[b"\x05\x00", b"\x05\x04\x00\x01\0\0\0\0\0\0"]);
    says(
        &connect(port, &["h.example", "22"]),
        1,
        &format!(
            "connecting to `h.example:22` through the proxy `127.0.0.1:{port}`: the name is unknown to the proxy, or \
             its host is unreachable (code 4)"
        ),
    );
    says(&connect(port, &["a b", "22"]), 2, "reading the command line: `a b 22` is no host and port");
}

#[test]
fn our_own_proxy_says_why_in_its_own_words() {
    let lab = Lab::with("upstream = \"direct\"\nallow = [\"*.example\", \"127.0.0.1\"]\n");
    let out = |host: &str, port: &str| said(&connect(lab.port, &[host, port]));
    let name = no_name();
    assert!(out(&name, "22").contains(&format!(": the name `{name}` is unknown\n")));
    assert!(out("127.0.0.1", "1").contains(": `127.0.0.1:1` refused the connection\n"));
    assert!(out("other.test", "1").contains(": `other.test:1` is not in the proxy's `allow` list\n"));
}

#[test]
fn a_mute_proxy_is_given_up_at_the_timeout() {
    let port = answering(&[b""]);
    let began = Instant::now();
    let out = connect(port, &["--timeout", "3s", "h.example", "22"]);
    assert_eq!(out.status.code(), Some(3));
    assert!(said(&out).contains("did not answer the SOCKS greeting within 3s"), "{}", said(&out));
    assert!(began.elapsed() >= Duration::from_millis(3000));
}

#[test]
fn an_http_server_that_waits_for_the_end_of_its_line_is_called_one_and_not_mute() {
    let port = destination(|mut stream| {
        let mut request = Vec::new();
        let mut byte = [0; 1];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
            request.push(byte[0]);
        }
        // The asker may have gone.
        let _ = stream.write_all(b"HTTP/1.0 501 Not Implemented\r\n\r\n");
    });
    says(
        &until(|out| out.status.code() != Some(3), || connect(port, &["--timeout", "300ms", "h.example", "22"])),
        1,
        &format!(
            "talking to the proxy `127.0.0.1:{port}`: what answers there is an HTTP server, no SOCKS5 proxy; name the \
             proxy's own port"
        ),
    );
}

#[test]
fn a_proxy_that_is_still_starting_is_waited_for() {
    let port = free_port();
    let client = meanwhile(move || connect(port, &["--wait", "60s", "h.example", "22"]));
    // Its first attempts meet a closed port.
    std::thread::sleep(Duration::from_millis(200));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 3]).unwrap();
    stream.write_all(b"\x05\x00").unwrap();
    let _ = stream.read(&mut [0; 100]).unwrap();
    stream.write_all(b"\x05\x00\x00\x01\0\0\0\0\0\0hello").unwrap();
    drop(stream);
    assert_eq!(said(&client.join().unwrap()), "hello");
}

#[test]
fn what_follows_the_reply_in_the_same_segment_is_not_lost_whatever_the_form_of_the_reply() {
    const REPLIES: [&[u8]; 4] = [
        b"\x05\x00\x00\x01\x0a\0\0\x01\x04\x1fSSH-2.0-banner\r\n",
        b"\x05\x00\x00\x04\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x04\x1fSSH-2.0-banner\r\n",
        b"\x05\x00\x00\x03\x0bexample.org\x04\x1fSSH-2.0-banner\r\n",
        b"\x05\x00\x00\x03\x00\x04\x1fSSH-2.0-banner\r\n",
    ];
    for reply in REPLIES {
        let port = destination(move |mut stream| {
            stream.read_exact(&mut [0; 3]).unwrap();
            stream.write_all(b"\x05\x00").unwrap();
            let _ = stream.read(&mut [0; 600]).unwrap();
            stream.write_all(reply).unwrap();
        });
        assert_eq!(said(&connect(port, &["h.example", "22"])), "SSH-2.0-banner\r\n");
    }
}

#[test]
fn a_request_that_has_ended_gets_its_full_answer() {
    let lab = Lab::direct();
    let size = 2_000_000;
    let out = lab.connect(&[], answers_after_the_end(size), &pattern(500_000));
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stdout == [b"500000 ".as_slice(), &pattern(size)].concat(), "{} bytes", out.stdout.len());
}

#[test]
fn it_ends_when_whoever_reads_it_is_gone() {
    let lab = Lab::direct();
    let port = destination(std::mem::forget);
    let proxy = lab.address().to_string();
    let mut command = lab.command(&["connect", "--proxy", &proxy, "127.0.0.1", &port.to_string()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    lab.wait_for("the connection", || match lab.status().connections.open {
        1 => Ok(()),
        n => Err(n),
    });
    drop(child.stdout.take());
    assert_eq!(lab.wait_for("its end", || child.try_wait().unwrap().ok_or("it runs")).code(), Some(0));
}

/// What ssh does with `ProxyUseFdpass`: one byte, and the descriptor with it.
fn receive(from: &UnixStream) -> TcpStream {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 8];
    let got = recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty()).unwrap();
    assert_eq!(got.bytes, 1, "ssh reads one byte");
    let mut fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<OwnedFd>>(),
        _ => Vec::new(),
    });
    TcpStream::from(fds.next().unwrap())
}

#[test]
fn with_fdpass_the_socket_is_handed_over_with_every_byte_of_the_destination_and_it_ends() {
    let lab = Lab::direct();
    let port = destination(|mut stream| {
        stream.write_all(b"SSH-2.0-banner\r\n").unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        stream.write_all(&rest).unwrap();
    });
    let (ours, theirs) = UnixStream::pair().unwrap();
    let proxy = lab.address().to_string();
    let mut command = lab.command(&["connect", "--fdpass", "--proxy", &proxy, "127.0.0.1", &port.to_string()]);
    let mut child = command.stdout(OwnedFd::from(theirs)).spawn().unwrap();
    drop(command);
    assert!(child.wait().unwrap().success());
    let mut stream = receive(&ours);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"after").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"SSH-2.0-banner\r\nafter");
    assert_eq!((&ours).read(&mut [0; 1]).unwrap(), 0, "nothing but the one message");
}

#[test]
fn fdpass_without_ssh_says_so() {
    let lab = Lab::direct();
    let out = lab.connect(&["--fdpass"], echo(), b"");
    says(
        &out,
        1,
        "handing the connection over: stdout is no Unix socket; leave `--fdpass` out, or set `ProxyUseFdpass yes` in \
         ssh's config",
    );
}
