//! What a review of the daemon found: faults of its surroundings that once kept it, or a loop, from going on.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use rustix::process::Signal;
use support::Lab;
use support::script::{self, a_loop};

fn one() -> String {
    a_loop("builder", "agent.sh", "")
}

#[test]
fn a_supervisor_that_is_told_to_end_while_a_session_host_comes_up_ends() {
    let mut lab = Lab::new(&one());
    std::fs::create_dir(lab.path("bin")).unwrap();
    script::write(&lab.path("bin"), "tmux", "echo $$ >@dir@/made; exec sleep 100000\n");
    let path = std::env::var("PATH").unwrap();
    lab.options.env.push(("PATH".into(), format!("{}:{path}", lab.path("bin").display())));
    lab.start();
    let made = lab.wait_for("the session host", || {
        support::read(&lab.path("bin/made")).trim().parse::<i32>().map_err(|e| e.to_string())
    });
    lab.end(Signal::TERM);
    assert_eq!(cc_ci::support::process::ProcId::of(made).unwrap(), None, "its session host was left behind");
}
