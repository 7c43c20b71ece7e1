//! The way out through tailscale, with stand-ins for both of its programs (checks/proxy/guest): joining, restarts, ends.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::result_large_err, reason = "what was seen last is shown whole when a wait fails")]

mod proxy_kit;

use cc_ci::proxy::state::{Link, StatusView};
use cc_ci::support::process::{ProcId, send};
use proxy_kit::*;
use rustix::process::Signal;
use std::fs;
use std::net::TcpStream;
use std::time::Instant;

const KEY: &str = "tskey-good";

/// A shim with the stand-ins, not yet started; `None` where there is no SOCKS server for them.
fn lab(key: &str, more: &str) -> Option<Lab> {
    if !has("microsocks") {
        return None;
    }
    let lab = Lab::new();
    let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/checks/proxy/guest/usr/local/bin");
    lab.configure(&format!(
        "upstream = \"tailscale\"\nhold_for = \"50s\"\n{more}[tailscale]\ntailscaled = [\"{stand_in}/tailscaled\"]\n\
         tailscale = [\"{stand_in}/tailscale\"]\nsocks_address = \"127.0.0.1:{}\"\nstate_dir = \"@dir@/ts\"\n\
         auth_key_file = \"@dir@/key\"\nup_args = [\"--hostname=cc-ci\"]\njoin_timeout = \"300ms\"\nrestart_after = 2\n",
        free_port()
    ));
    fs::create_dir(lab.path("ts")).unwrap();
    fs::write(lab.path("key"), format!("{key}\n")).unwrap();
    Some(lab)
}

fn state(lab: &Lab, name: &str) {
    fs::write(lab.path("ts/state"), format!("{name}\n")).unwrap();
}

/// What the stand-in has noted down.
fn noted(lab: &Lab, file: &str) -> Vec<String> {
    fs::read_to_string(lab.path(&format!("ts/{file}"))).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn up(lab: &Lab) -> StatusView {
    lab.wait_for("the way out", || match lab.try_status() {
        Ok(view) if view.link.is_up() => Ok(view),
        other => Err(other),
    })
}

fn away(lab: &Lab, part: &str) -> StatusView {
    lab.wait_for(part, || match lab.try_status() {
        Ok(view) if matches!(&view.link, Link::Away { .. }) && view.link.text().contains(part) => Ok(view),
        other => Err(other),
    })
}

fn goes_through(lab: &Lab) {
    say(&mut lab.socks(echo()), b"through");
}

fn daemon(lab: &Lab) -> ProcId {
    let socket = fs::read_to_string(lab.path("run/tailscaled.sock")).unwrap();
    ProcId::of(socket.lines().nth(1).unwrap().parse().unwrap()).unwrap().unwrap()
}

#[test]
fn without_a_login_it_joins_once_with_the_key_from_its_file_which_shows_nowhere() {
    let Some(mut lab) = lab(KEY, "") else { return };
    lab.start();
    let view = up(&lab);
    assert_eq!(view.backend.as_deref(), Some("Running"));
    goes_through(&lab);
    let file = lab.path("key");
    let want = format!("--reset --timeout=1s --auth-key=file:{} --hostname=cc-ci", file.display());
    assert_eq!(noted(&lab, "ups"), [want]);
    let (_, status) = lab.cli(&["status", "--json"]);
    for (place, text) in
        [("log", lab.log()), ("status", status), ("environment", noted(&lab, "environment").join("\n"))]
    {
        assert!(!text.contains(KEY), "the key is in the {place}: {text}");
    }
    assert_eq!(lab.end(), Some(0));
    // The next one finds itself logged in, and registers no second time.
    lab.start();
    up(&lab);
    assert_eq!(noted(&lab, "ups").len(), 1);
}

#[test]
fn running_is_left_alone_and_stopped_is_told_to_come_up_without_the_key() {
    let Some(mut lab) = lab(KEY, "") else { return };
    state(&lab, "Running");
    lab.start();
    up(&lab);
    // It would have said `up` before its second look, ten seconds later.
    let looks = noted(&lab, "looks").len();
    lab.wait_for("another look", || match noted(&lab, "looks").len() {
        now if now > looks => Ok(()),
        now => Err(now),
    });
    assert_eq!(noted(&lab, "ups"), [""; 0]);
    lab.end();
    state(&lab, "Stopped");
    lab.start();
    up(&lab);
    assert_eq!(noted(&lab, "ups"), ["--reset --timeout=1s --hostname=cc-ci"]);
}

#[test]
fn a_rejected_key_is_said_without_the_key_and_a_better_one_is_tried_by_itself() {
    let Some(mut lab) = lab("tskey-wrong", "") else { return };
    let begun = Instant::now();
    lab.start();
    away(&lab, "tailscale could not join: backend error: invalid key: API key [key] not valid; put a valid auth key");
    let (code, text) = lab.cli(&["check"]);
    assert_eq!(code, 3);
    assert!(text.contains("away: tailscale could not join") && text.contains("tailscale says NeedsLogin"), "{text}");
    assert!(!lab.log().contains("tskey-wrong"), "{}", lab.log());
    fs::write(lab.path("key"), KEY).unwrap();
    up(&lab);
    let (ups, seconds) = (noted(&lab, "ups").len(), begun.elapsed().as_secs());
    assert!(ups >= 2);
    // Two, unless the better key came late.
    assert!(ups as u64 <= 2.max(1 + seconds / 5), "{ups} in {seconds} s, more often than every five seconds");
}

#[test]
fn a_key_that_is_not_there_is_said_with_its_path() {
    let Some(mut lab) = lab(KEY, "") else { return };
    fs::remove_file(lab.path("key")).unwrap();
    lab.start();
    away(&lab, &format!("reading the auth key `{}`: No such file", lab.path("key").display()));
    assert_eq!(noted(&lab, "ups"), [""; 0]);
}

#[test]
fn a_mute_control_server_keeps_nothing_else_from_going_on() {
    let Some(mut lab) = lab(KEY, "") else { return };
    fs::write(lab.path("ts/hang-up"), "").unwrap();
    let begun = Instant::now();
    lab.start();
    lab.wait_for("the attempt", || if noted(&lab, "ups").is_empty() { Err(()) } else { Ok(()) });
    let link = lab.status().link;
    // Looked at late, the attempt may have been given up.
    assert!(matches!(link, Link::Starting { .. }) || begun.elapsed().as_secs() >= 5, "{link:?}");
    away(&lab, "no answer within 5s");
    fs::remove_file(lab.path("ts/hang-up")).unwrap();
    up(&lab);
}

#[test]
fn a_daemon_that_dies_is_started_at_once_and_then_with_growing_pauses() {
    let Some(mut lab) = lab(KEY, "") else { return };
    state(&lab, "Running");
    fs::write(lab.path("ts/die"), "").unwrap();
    lab.start();
    let view = away(&lab, "tailscaled ended (exit status: 2)");
    assert!(view.starts >= 1);
    lab.wait_for("three starts", || match lab.status().starts {
        3.. => Ok(()),
        n => Err(n),
    });
    fs::remove_file(lab.path("ts/die")).unwrap();
    up(&lab);
    goes_through(&lab);
}

#[test]
fn a_killed_daemon_is_noticed_at_once_and_clients_wait_for_the_next() {
    let Some(mut lab) = lab(KEY, "") else { return };
    state(&lab, "Running");
    lab.start();
    up(&lab);
    let mut open = lab.socks(echo());
    fs::write(lab.path("ts/slow"), "").unwrap();
    let before = daemon(&lab);
    cc_ci::support::process::send(before, rustix::process::Signal::KILL).unwrap();
    goes_through(&lab);
    assert_ne!(daemon(&lab), before);
    assert!(matches!(std::io::Read::read(&mut open, &mut [0; 1]), Ok(0) | Err(_)), "the open one ends");
    assert_eq!(lab.status().starts, 2);
}

#[test]
fn probes_that_fail_restart_the_daemon_and_only_when_all_of_them_do() {
    let good = echo();
    let probes = |mute: u16, good: u16| {
        format!(
            "probe_every = \"100ms\"\nprobe_timeout = \"3s\"\nprobes.mute = {{ target = \"127.0.0.1:{mute}\", first_byte \
             = true }}\nprobes.good = {{ target = \"127.0.0.1:{good}\" }}\n"
        )
    };
    let mute = destination(std::mem::forget);
    let Some(mut one) = lab(KEY, &probes(mute, good)) else { return };
    state(&one, "Running");
    one.start();
    // Before its SOCKS server listens no probe passes, and that may go on for long enough for a restart.
    let starts = one.wait_for("one probe to fail and one to pass", || match one.status() {
        view if view.probes["mute"].passed == Some(false) && view.probes["good"].passed == Some(true) => {
            Ok(view.starts)
        }
        view => Err(view),
    });
    let Some(mut all) = lab(KEY, &probes(mute, 1)) else { return };
    state(&all, "Running");
    all.start();
    all.wait_for("a restart", || match all.status().starts {
        2.. => Ok(()),
        n => Err(n),
    });
    // The log is written by a thread.
    all.wait_for("the log to say why", || {
        match all.log().contains("no probe passed in 2 rounds; restarting tailscaled") {
            true => Ok(()),
            false => Err("it does not"),
        }
    });
    assert_eq!(one.status().starts, starts, "one probe that passes is enough");
}

#[test]
fn nobody_is_sent_into_a_daemon_that_is_being_ended() {
    let probe = format!("probes.good = {{ target = \"127.0.0.1:{}\" }}\n", echo());
    let Some(mut lab) = lab(KEY, &format!("probe_every = \"3s\"\nprobe_timeout = \"1s\"\n{probe}")) else { return };
    state(&lab, "Running");
    lab.start();
    up(&lab);
    let old = daemon(&lab);
    // SIGTERM ends one that is stopped only when it goes on; SIGKILL comes five seconds later.
    send(old, Signal::STOP).unwrap();
    away(&lab, "nothing came through tailscaled, it was restarted");
    assert!(old.is_alive().unwrap(), "it was ended first");
    goes_through(&lab);
    assert_eq!(noted(&lab, "starts").len(), 2, "what was wanted of the first was done to the second too");
}

#[test]
fn a_daemon_that_no_longer_answers_is_restarted() {
    let Some(mut lab) = lab(KEY, "") else { return };
    // It never answers, so each look takes its five seconds; six of them.
    fs::write(lab.path("ts/hang-status"), "").unwrap();
    lab.start();
    away(&lab, "tailscaled does not answer (no answer within 5s), it was restarted");
}

#[test]
fn its_end_takes_the_daemon_with_it_however_it_comes() {
    for crash in [false, true] {
        let Some(mut lab) = lab(KEY, "") else { return };
        state(&lab, "Running");
        lab.start();
        up(&lab);
        let daemon = daemon(&lab);
        if crash {
            lab.crash();
        } else {
            assert_eq!(lab.end(), Some(0));
        }
        lab.wait_for("tailscaled's end", || match daemon.is_alive().unwrap() {
            false => Ok(()),
            true => Err("it lives"),
        });
    }
}

#[test]
fn a_program_that_is_not_there_is_said_and_tried_again() {
    let lab = Lab::new();
    lab.configure("upstream = \"tailscale\"\ntailscale = { tailscaled = [\"/no/such/program\"] }\n");
    let mut lab = lab;
    lab.start();
    away(&lab, "tailscaled ended (exit status: 1)");
    assert!(lab.log().contains("starting `/no/such/program`: No such file or directory"), "{}", lab.log());
    assert!(TcpStream::connect(lab.address()).is_ok(), "the port is there all the same");
}
