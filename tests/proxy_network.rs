//! The way out is there and the network behind it is not: who is held, who is told at once, by what the probes say.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::result_large_err, reason = "what was seen last is shown whole when a wait fails")]

mod proxy_kit;

use proxy_kit::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// A SOCKS server on loopback whose network can be cut.
#[derive(Clone, Default)]
struct Upstream {
    /// What it answers to everything while it is cut; 0: it connects.
    cut: Arc<AtomicU8>,
    /// A destination that it never reaches, and what it answers for it.
    dead: Arc<Mutex<(u16, u8)>>,
    /// How often it was asked for anything but the probe's destination.
    asked: Arc<AtomicUsize>,
}

impl Upstream {
    /// With its port; `probe` is the port that asks of the shim itself are for.
    fn start(probe: u16) -> (Self, u16) {
        let upstream = Self::default();
        let served = upstream.clone();
        let port = destination(move |stream| {
            // The shim looks whether it is there, and goes.
            let _ = served.serve(stream, probe);
        });
        (upstream, port)
    }

    fn serve(&self, mut stream: TcpStream, probe: u16) -> std::io::Result<()> {
        stream.read_exact(&mut [0; 3])?;
        stream.write_all(&[5, 0])?;
        let mut request = [0; 10];
        stream.read_exact(&mut request)?;
        let port = u16::from_be_bytes([request[8], request[9]]);
        if port != probe {
            self.asked.fetch_add(1, SeqCst);
        }
        let (dead, answer) = *self.dead.lock().unwrap();
        let code = match self.cut.load(SeqCst) {
            0 if port == dead => answer,
            code => code,
        };
        stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0])?;
        if code != 0 {
            return Ok(());
        }
        let far = TcpStream::connect(("127.0.0.1", port))?;
        let (mut from, mut to) = (stream.try_clone()?, far.try_clone()?);
        meanwhile(move || std::io::copy(&mut from, &mut to));
        let (mut from, mut to) = (far, stream);
        std::io::copy(&mut from, &mut to).map(drop)
    }
}

/// One that would hold a client for longer than a client waits.
fn lab(more: &str) -> (Lab, Upstream) {
    lab_that_holds("1h", more)
}

/// A shim before it, with one probe, which has passed once.
fn lab_that_holds(hold: &str, more: &str) -> (Lab, Upstream) {
    let probe = destination(|mut stream| drop(stream.write_all(b"SSH-2.0-x")));
    let (upstream, port) = Upstream::start(probe);
    let lab = Lab::with(&format!(
        "upstream = \"socks5\"\nsocks5 = {{ address = \"127.0.0.1:{port}\" }}\nhold_for = \"{hold}\"\n{more}[probes.ssh]\n\
         target = \"127.0.0.1:{probe}\"\nexpect = \"SSH-\"\n"
    ));
    lab.wait_for("the probe to pass", || match lab.status().probes["ssh"].passed {
        Some(true) => Ok(()),
        other => Err(other),
    });
    (lab, upstream)
}

#[test]
fn clients_wait_for_a_network_that_is_cut_whatever_the_upstream_calls_it() {
    // 1 is what tailscaled says of everything.
    for code in [1, 3, 4, 6] {
        let (lab, upstream) = lab("");
        upstream.cut.store(code, SeqCst);
        let echo = echo();
        let waiting: Vec<_> = (0..3).map(|_| client(&lab, echo, b"through")).collect();
        lab.wait_for("three to wait", || match lab.status().connections.waiting {
            3 => Ok(()),
            n => Err((code, n, lab.status().failures)),
        });
        assert_eq!(lab.status().probes["ssh"].passed, Some(false), "it looked again before its time");
        upstream.cut.store(0, SeqCst);
        for client in waiting {
            client.join().unwrap();
        }
        assert_eq!(lab.status().failures, []);
    }
}

#[test]
fn a_destination_that_alone_is_away_is_told_at_once_and_asked_for_once() {
    let (lab, upstream) = lab("");
    for (code, words) in [(1, "(code 1)"), (3, "(code 3)"), (4, "(code 4)"), (6, "(code 6)")] {
        *upstream.dead.lock().unwrap() = (9, code);
        upstream.asked.store(0, SeqCst);
        let out = lab.connect(&[], 9, b"");
        assert!(said(&out).trim_end().ends_with(words), "{}", said(&out));
        assert_eq!(upstream.asked.load(SeqCst), 1, "{words}");
    }
    assert_eq!(lab.status().connections.failed, 4);
}

#[test]
fn a_host_that_refuses_is_believed_though_no_probe_passes() {
    let (lab, upstream) = lab("probe_every = \"50ms\"\n");
    upstream.cut.store(5, SeqCst);
    lab.wait_for("the probe to fail", || match lab.status().probes["ssh"].passed {
        Some(false) => Ok(()),
        other => Err(other),
    });
    let out = lab.connect(&[], 9, b"");
    assert!(said(&out).contains("refused the connection: nothing listens on that port (code 5)"), "{}", said(&out));
    assert_eq!(upstream.asked.load(SeqCst), 1);
}

#[test]
fn a_network_that_stays_away_is_said_when_the_time_is_over() {
    let (lab, upstream) = lab_that_holds("5s", "probe_every = \"50ms\"\n");
    upstream.cut.store(3, SeqCst);
    // A look of the client's own could take as long as it is held.
    lab.wait_for("the probe to fail", || match lab.status().probes["ssh"].passed {
        Some(false) => Ok(()),
        other => Err(other),
    });
    let out = lab.connect(&[], 9, b"");
    let words = "the network is unreachable from the proxy (code 3); no probe passes either, waited 5s\n";
    assert!(said(&out).ends_with(words), "{}", said(&out));
    assert!(upstream.asked.load(SeqCst) > 1);
}

#[test]
fn without_probes_each_refusal_is_passed_on_at_once() {
    let (upstream, port) = Upstream::start(1);
    upstream.cut.store(3, SeqCst);
    let lab = Lab::with(&format!(
        "upstream = \"socks5\"\nsocks5 = {{ address = \"127.0.0.1:{port}\" }}\nhold_for = \"1h\"\n"
    ));
    let out = lab.connect(&[], 9, b"");
    assert!(said(&out).ends_with("the network is unreachable from the proxy (code 3)\n"), "{}", said(&out));
    assert_eq!(upstream.asked.load(SeqCst), 1);
}
