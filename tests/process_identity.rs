//! A process that calls exec from a thread other than its first, again and again, watched from outside.

#![allow(clippy::unwrap_used, reason = "a test")]

use cc_ci::support::process::{ProcId, pid_of};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const HOPS: &str = "CC_CI_TEST_HOPS";

/// Executes itself as often as told; the test harness runs this in a thread of its own.
#[test]
fn hop() {
    let Ok(hops) = std::env::var(HOPS) else { return };
    let left = hops.parse::<u32>().unwrap().checked_sub(1).unwrap_or_else(|| std::process::exit(0));
    let error = itself().env(HOPS, left.to_string()).exec();
    panic!("{error}");
}

fn itself() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "hop"]);
    command
}

#[test]
fn a_process_never_seems_gone_while_a_thread_of_it_calls_exec() {
    let mut child = itself().env(HOPS, "300").stdout(Stdio::null()).spawn().unwrap();
    let it = ProcId::of(pid_of(&child)).unwrap().unwrap();
    let mut gone = None;
    while child.try_wait().unwrap().is_none() {
        for _ in 0..100 {
            match (ProcId::of(it.pid).unwrap(), gone) {
                (None, _) => gone = Some(it),
                (Some(now), None) => assert_eq!(now, it, "the start time is kept by exec"),
                (Some(now), Some(_)) => panic!("{now} was gone and lives"),
            }
        }
    }
    assert!(child.wait().unwrap().success());
}
