//! Clients and destinations that mean harm, by the hundred: others go on, and nothing is left open or allocated.

#![allow(clippy::unwrap_used, reason = "a test")]

mod proxy_kit;

use proxy_kit::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Nothing is open any more, and no more descriptors are than at the start (what it keeps for the next stream: pipes).
fn assert_all_is_given_back(lab: &Lab, descriptors: usize) {
    lab.wait_for("all connections to be gone", || match lab.status().connections.open {
        0 => Ok(()),
        n => Err(n),
    });
    const SPARE_PIPES: usize = 2 * 32;
    let now = lab.descriptors();
    assert!(now <= descriptors + SPARE_PIPES, "{descriptors} descriptors before, {now} after");
}

fn others_live(lab: &Lab) {
    let mut stream = lab.socks(echo());
    stream.write_all(b"alive").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"alive");
}

#[test]
fn random_handshakes_are_refused_one_after_the_other() {
    let lab = Lab::direct();
    let before = lab.descriptors();
    let mut random = fastrand::Rng::with_seed(1055);
    for n in 0..2_000 {
        let mut bytes = vec![0; random.usize(1..40)];
        random.fill(&mut bytes);
        match n % 3 {
            0 => drop(bytes.splice(0..0, [5, 1, 0])),
            1 => drop(bytes.splice(0..0, *b"CONNECT ")),
            _ => {}
        }
        let mut stream = lab.raw();
        // It may have ended the connection in the middle of it.
        let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 600, "{bytes:02x?}: {answer:02x?}");
    }
    others_live(&lab);
    assert_all_is_given_back(&lab, before);
}

#[test]
fn hundreds_of_slow_and_half_open_clients_harm_no_other_and_are_ended_in_time() {
    // Time enough for the good client among them, also on a busy machine.
    let lab = Lab::with("upstream = \"direct\"\nhandshake_timeout = \"10s\"\n");
    let before = lab.descriptors();
    let mut slow: Vec<TcpStream> = (0..400).map(|_| lab.raw()).collect();
    for (n, stream) in slow.iter_mut().enumerate() {
        let parts: [&[u8]; 4] = [b"\x05", b"\x05\x01\x00\x05", b"CONN", b""];
        stream.write_all(parts[n % 4]).unwrap();
    }
    others_live(&lab);
    for stream in &mut slow {
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        // An end or a reset: both are an end.
        assert!(!read.is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "it is not ended");
        assert!(rest.len() <= 2);
    }
    assert_all_is_given_back(&lab, before);
}

#[test]
fn two_thousand_connections_at_once_are_served_and_given_back() {
    // The limits of a single one are not meant for two thousand at once on two busy cores.
    let limits = "handshake_timeout = \"1m\"\ndial_timeout = \"1m\"\n";
    let lab = Lab::with(&format!("upstream = \"direct\"\nmax_connections = 1500\n{limits}"));
    let (before, memory) = (lab.descriptors(), lab.memory());
    let port = destination_for_many();
    let mut all: Vec<TcpStream> = (0..2_000).map(|_| lab.raw()).collect();
    let [high, low] = port.to_be_bytes();
    for stream in &mut all {
        stream.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, high, low]).unwrap();
    }
    // The last five hundred have their turn when the first are done.
    for mut stream in all {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..4], [5, 0, 5, 0]);
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut answer[..1]).unwrap();
    }
    assert_all_is_given_back(&lab, before);
    assert_eq!(lab.status().connections.failed, 0);
    let after = lab.memory();
    assert!(after < memory + 16 * 1024, "{memory} KiB before, {after} KiB after");
}

/// One thread for all: two thousand threads are too many for a test machine.
fn destination_for_many() -> u16 {
    use rustix::event::{PollFd, PollFlags, poll};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        loop {
            let mut fds: Vec<PollFd<'_>> = open.iter().map(|s| PollFd::new(s, PollFlags::IN)).collect();
            fds.push(PollFd::new(&listener, PollFlags::IN));
            poll(&mut fds, None).unwrap();
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            let mut kept = Vec::new();
            for (mut stream, ready) in open.drain(..).zip(&ready) {
                let mut byte = [0; 1];
                // One byte, one answer; then or at its end it is done.
                let done = *ready && (stream.read(&mut byte).unwrap_or(0) == 0 || stream.write_all(&byte).is_err());
                if !done {
                    kept.push(stream);
                }
            }
            open = kept;
            if *ready.last().unwrap() {
                open.push(listener.accept().unwrap().0);
            }
        }
    });
    port
}

#[test]
fn a_destination_that_never_reads_stops_nobody_else() {
    let lab = Lab::direct();
    let before = lab.descriptors();
    let mute = destination(|mut stream| {
        // Until the client is gone.
        std::thread::sleep(Duration::from_millis(500));
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let chunk = pattern(1 << 20);
    let mut stuck: Vec<TcpStream> = (0..10).map(|_| lab.socks(mute)).collect();
    for stream in &mut stuck {
        stream.set_write_timeout(Some(Duration::from_millis(10))).unwrap();
        while stream.write_all(&chunk).is_ok() {}
    }
    others_live(&lab);
    drop(stuck);
    assert_all_is_given_back(&lab, before);
}

#[test]
fn resets_in_mid_stream_from_either_side_leave_nothing_behind() {
    let lab = Lab::direct();
    let before = lab.descriptors();
    let flood = destination(|mut stream| while stream.write_all(&[7; 65536]).is_ok() {});
    let drops = destination(|mut stream| {
        let _ = stream.read(&mut [0; 1000]);
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    for n in 0..100 {
        let mut stream = lab.socks(if n % 2 == 0 { flood } else { drops });
        if n % 2 == 0 {
            stream.read_exact(&mut vec![0; 300_000]).unwrap();
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        } else {
            while stream.write_all(&[7; 65536]).is_ok() {}
        }
    }
    others_live(&lab);
    assert_all_is_given_back(&lab, before);
}
