//! A worker runs with the rights of the target's owner, who may stop or kill it at any moment: nothing hangs, the loss is
//! told by name, and what is there stays whole.

#![allow(clippy::unwrap_used, reason = "a test")]

mod secrets_kit;

use cc_ci::secrets::content::Content;
use cc_ci::secrets::manifest::accounts::Identity;
use cc_ci::secrets::worker::link::{LinkError, Worker};
use cc_ci::secrets::worker::{Answer, Difference, Request, State, Sync, Target};
use rustix::process::{Pid, Signal, kill_process};
use secrets_kit::{Lab, SECRET, Said, USER, rights};
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_secs(1);
/// For one that is to do its work, whatever else the machine and its disk do.
const LONG: Duration = Duration::from_secs(60);

fn start(patience: Duration) -> Worker {
    let user = Identity { uid: USER, gid: USER, primary: USER, groups: vec![], name: USER.to_string() };
    let end = Instant::now() + LONG;
    loop {
        match Worker::start_as(Path::new(env!("CARGO_BIN_EXE_secrets-placer")), patience, &user) {
            // A short patience is meant for what comes after the start.
            Err(LinkError::Silent { .. }) if Instant::now() < end => {}
            started => return started.unwrap().unwrap(),
        }
    }
}

fn signal(pid: u32, signal: Signal) -> rustix::io::Result<()> {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal)
}

fn target(lab: &Lab) -> Target {
    Target { path: lab.path("home/.testenv"), uid: USER, gid: USER, mode: 0o600 }
}

fn secret(text: &str) -> Content {
    Content::new(text.as_bytes().to_vec())
}

/// A zombie is one that only its parent still knows.
fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_for(what: &str, mut seen: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !seen() {
        assert!(Instant::now() < end, "{what} did not come to pass");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_stopped_worker_is_given_up_by_name_and_ended() {
    let Some(lab) = Lab::simple() else { return };
    let mut worker = start(SHORT);
    let pid = worker.pid();
    signal(pid, Signal::STOP).unwrap();
    let begun = Instant::now();
    let lost = worker.ask(Request::Inspect(target(&lab)), Some(&secret("x"))).unwrap_err();
    assert!(begun.elapsed() >= SHORT);
    assert_eq!(
        lost.to_string(),
        format!(
            "waiting for the worker of `{USER}`: no answer within 1 s, as if somebody had stopped it (SIGSTOP) or a disk \
             hung; end that, and try again"
        )
    );
    drop(worker);
    wait_for("the end of the worker", || !runs(pid));
}

#[test]
fn a_worker_that_is_stopped_while_it_is_told_a_content_is_given_up_too() {
    let Some(lab) = Lab::simple() else { return };
    let mut worker = start(SHORT);
    signal(worker.pid(), Signal::STOP).unwrap();
    // More than a pipe takes.
    let large = Content::new(vec![b'x'; 1 << 20]);
    let lost = worker.ask(Request::Stage(target(&lab), Sync::Each), Some(&large)).unwrap_err();
    assert!(matches!(lost, LinkError::Silent { .. }), "{lost}");
    assert!(!lab.path("home/.testenv").exists());
}

#[test]
fn of_a_worker_that_is_killed_before_its_last_order_the_old_file_stays() {
    let Some(lab) = Lab::simple() else { return };
    let path = lab.path("home/.testenv");
    fs::write(&path, "old").unwrap();
    chown(&path, Some(USER), Some(USER)).unwrap();
    let mut worker = start(LONG);
    let staged = worker.ask(Request::Stage(target(&lab), Sync::Each), Some(&secret("new"))).unwrap().unwrap();
    assert!(matches!(staged, Answer::Staged(_)), "{staged:?}");
    signal(worker.pid(), Signal::KILL).unwrap();
    let lost = worker.ask(Request::Commit, None).unwrap_err().to_string();
    // Whichever of the two pipes tells it first.
    assert!(lost.starts_with(&format!("asking the worker of `{USER}`: it ended (")), "{lost}");
    assert!(lost.ends_with("), as if somebody had killed it; end that, and try again"), "{lost}");
    assert_eq!(lab.read("home/.testenv"), "old");
    // Its successor finds what it left, and clears it away.
    let mut worker = start(LONG);
    let Answer::Found(State::Differs(found)) =
        worker.ask(Request::Inspect(target(&lab)), Some(&secret("new"))).unwrap().unwrap()
    else {
        panic!("nothing differs");
    };
    assert!(found.contains(&Difference::Leftover) && found.contains(&Difference::Content), "{found:?}");
    worker.ask(Request::Stage(target(&lab), Sync::Each), Some(&secret("new"))).unwrap().unwrap();
    assert_eq!(worker.ask(Request::Commit, None).unwrap(), Ok(Answer::Committed(vec![])));
    assert_eq!((lab.read("home/.testenv").as_str(), rights(&path)), ("new", (USER, USER, 0o600)));
    assert_eq!(fs::read_dir(lab.path("home")).unwrap().count(), 1);
}

/// The placer's child that has become the user, once there is one; `None` when the placer ended before.
fn worker_of(placer: &mut Child) -> Option<u32> {
    let mut found = None;
    let children = format!("/proc/{0}/task/{0}/children", placer.id());
    wait_for("a worker", || {
        // One that has ended meanwhile is none.
        let status = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let of_user = |pid: &u32| status(pid).contains(&format!("Uid:\t{USER}\t"));
        let all = fs::read_to_string(&children).unwrap_or_default();
        found = all.split_whitespace().map(|pid| pid.parse().unwrap()).find(of_user);
        found.is_some() || placer.try_wait().unwrap().is_some()
    });
    found
}

#[test]
fn a_placer_whose_worker_is_killed_at_any_moment_tells_it_and_leaves_whole_files() {
    let Some(lab) = Lab::new() else { return };
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let content = |round: usize, name: &str| format!("{round} {name} {SECRET}\n").repeat(2000);
    lab.manifest(&names.iter().map(|name| lab.entry(name, &format!("home/{name}"), "")).collect::<Vec<_>>());
    names.iter().for_each(|name| drop(lab.source(name, content(0, name))));
    lab.place();
    let (mut lost, mut round) = (0, 0);
    // More rounds only if this thread was late each time that it wanted to kill one.
    while round < 20 || (lost == 0 && round < 60) {
        round += 1;
        names.iter().for_each(|name| drop(lab.source(name, content(round, name))));
        let mut placer = lab.command("place").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(pid) = worker_of(&mut placer) {
            // Not awaiting anything: any moment is meant.
            std::thread::sleep(Duration::from_millis(4 * u64::try_from(round % 20).unwrap()));
            // It may have ended by then.
            let _ = signal(pid, Signal::KILL);
        }
        let said = Said::of(placer.wait_with_output().unwrap());
        if said.code != 0 {
            assert!(matches!(said.code, 1 | 3), "{said:?}");
            assert!(said.err.contains(&format!("asking the worker of `{USER}`: it ended (")), "{said:?}");
            lost += 1;
        }
        for name in &names {
            let found = lab.read(&format!("home/{name}"));
            assert!((0..=round).any(|old| found == content(old, name)), "{name} is torn: {} bytes", found.len());
        }
        lab.place();
        names.iter().for_each(|name| assert!(lab.read(&format!("home/{name}")) == content(round, name), "{name}"));
    }
    assert!(lost > 0, "no worker was killed in time");
    assert_eq!(fs::read_dir(lab.path("home")).unwrap().count(), names.len(), "nothing is left beside them");
}
