//! The supervisor itself is killed at any moment, and nothing is lost, doubled or moved by it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::{Request, Response};
use rustix::process::Signal;
use std::time::Duration;
use support::script::{PHASES, a_loop};
use support::{Lab, only, when};

const KILLS: u32 = 200;

/// A generator of its own, so that a failure can be run again with the seed that it prints.
fn random() -> fastrand::Rng {
    let seed = std::env::var("CC_CI_TEST_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    eprintln!("run it again with CC_CI_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

#[test]
fn two_hundred_kills_at_random_moments_lose_and_double_no_agent_and_no_phase() {
    // Deaths must not add up to a crash loop or to backoff: what is tested is each single moment.
    let more = "stable_after = \"1ms\"\ncrash_loop = { deaths = 1000, within = \"1s\" }\n";
    let tables = format!("{PHASES}{}{}", a_loop("builder", "agent.sh", more), a_loop("adversary", "hup-deaf.sh", more));
    let mut lab = Lab::start_with(&tables);
    let mut random = random();
    lab.running("builder");
    lab.running("adversary");
    let mut phase = 0;
    for kill in 0..KILLS {
        if !lab.has_daemon() {
            lab.spawn_only();
        }
        // Often enough it gets to the end; mostly it is killed before, wherever it is then.
        if random.u8(..) < 90 {
            lab.answers();
            for name in ["builder", "adversary"] {
                lab.running(name);
            }
            let shown = lab.status().phase.unwrap().index.unwrap();
            assert!(shown == phase || shown == phase + 1, "kill {kill}: the phase went from {phase} to {shown}");
            assert_eq!(lab.index(), format!("{shown}\n"), "kill {kill}");
            phase = shown;
        }
        let victim = if random.bool() { "builder" } else { "adversary" };
        if random.u8(..) < 200 {
            if let Some((_, pid)) = lab.starts(victim).last() {
                // Gone already is fine; the pid is of this very boot and of a minute ago.
                if let Ok(Some(id)) = cc_ci::support::process::ProcId::of(*pid) {
                    let _ = cc_ci::support::process::send(id, Signal::KILL);
                }
            }
        }
        if random.u8(..) < 30 && phase < 3 && lab.has_daemon() {
            // Nobody waits for the answer: the kill comes in between.
            let _ = ask_and_leave(&lab, r#"{"request":{"do":"phase-set","index":N}}"#, phase + 1);
        }
        // Half of them within the deaths and starts that were caused just now, half of them while a new one begins.
        let most = if random.bool() { 60 } else { 160 };
        std::thread::sleep(Duration::from_millis(random.u64(0..=most)));
        lab.kill();
        assert_eq!(lab.doubles(), "", "kill {kill}");
    }
    lab.start();
    for name in ["builder", "adversary"] {
        let agent = lab.running(name);
        let starts = lab.starts(name);
        eprintln!("{name}: {} agents", starts.len());
        assert!(starts.windows(2).all(|two| two[0].0 < two[1].0), "{name}: an epoch came twice: {starts:?}");
        let living = support::reaper::all(lab.path("").as_path())
            .into_iter()
            .filter(|id| cmdline(id.pid).contains(if name == "builder" { "/agent.sh" } else { "/hup-deaf.sh" }))
            .filter(|id| !cmdline(id.pid).contains("tmux"))
            .collect::<Vec<_>>();
        assert_eq!(living, [agent.id]);
    }
    let shown = lab.status().phase.unwrap().index.unwrap();
    assert!(shown == phase || shown == phase + 1, "the phase went from {phase} to {shown}");
    assert_eq!(lab.index(), format!("{shown}\n"));
    assert_eq!(lab.doubles(), "");
    // Each move was journalled first, and none skips.
    let moves: Vec<_> = lab.decisions("phase-move", None).iter().map(|e| e["evidence"].clone()).collect();
    assert!(moves.len() >= shown, "{moves:?}");
}

fn ask_and_leave(lab: &Lab, line: &str, index: usize) -> std::io::Result<()> {
    use std::io::Write;
    lab.connect()?.write_all(format!("{}\n", line.replace('N', &index.to_string())).as_bytes())
}

fn cmdline(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

#[test]
fn a_killed_supervisor_comes_back_to_the_same_agents_and_touches_none() {
    let tables = format!("{}{}", a_loop("builder", "agent.sh", ""), a_loop("adversary", "agent.sh", ""));
    let mut lab = Lab::start_with(&tables);
    let before = (lab.running("builder"), lab.running("adversary"));
    for _ in 0..3 {
        lab.kill_and_restart();
        assert_eq!((lab.running("builder"), lab.running("adversary")), before);
    }
    assert_eq!((lab.starts("builder").len(), lab.starts("adversary").len()), (1, 1));
    // The adopted ones are looked after as before.
    before.0.signal(Signal::KILL);
    let after = lab.running_after("builder", before.0.epoch);
    assert_eq!(after.server, before.0.server);
    assert_eq!(lab.running("adversary"), before.1);
}

#[test]
fn an_agent_that_died_while_no_supervisor_ran_is_told_of_and_started_again() {
    let mut lab = Lab::start_with(&a_loop("builder", "messy.sh", ""));
    let agent = lab.running("builder");
    lab.kill();
    agent.signal(Signal::KILL);
    lab.wait_for("its end", || when(!agent.is_alive(), "it lives"));
    lab.start();
    let after = lab.running_after("builder", agent.epoch);
    assert_eq!((after.epoch, after.server), (agent.epoch + 1, agent.server));
    assert_eq!(lab.doubles(), "");
    assert!(lab.view("builder").last_death.unwrap().starts_with("was killed by SIGKILL"));
}

/// tmux misses the death of one in ten without children (libutempter), and tells it when it is reminded.
#[test]
fn the_cause_of_each_death_while_no_supervisor_ran_is_told() {
    let mut lab = Lab::start_with(&a_loop("builder", "agent.sh", "stable_after = \"1ms\"\n"));
    let mut agent = lab.running("builder");
    for round in 0..20 {
        lab.kill();
        agent.signal(Signal::KILL);
        lab.wait_for("its end", || when(!agent.is_alive(), "it lives"));
        lab.start();
        agent = lab.running_after("builder", agent.epoch);
        let death = lab.view("builder").last_death.unwrap();
        assert!(death.starts_with("was killed by SIGKILL"), "{round}: {death}");
    }
}

#[test]
fn an_agent_whose_server_died_while_no_supervisor_ran_is_gone_before_the_next_one() {
    let mut lab = Lab::start_with(&a_loop("builder", "deaf.sh", "stop_timeout = \"1s\"\n"));
    let agent = lab.running("builder");
    lab.kill();
    let server = cc_ci::support::process::ProcId::of(agent.server).unwrap().unwrap();
    cc_ci::support::process::send(server, Signal::KILL).unwrap();
    lab.wait_for("its end", || when(!server.is_alive().unwrap(), "it lives"));
    assert!(agent.is_alive(), "it died with its terminal: this tests nothing");
    lab.start();
    let after = lab.running_after("builder", agent.epoch);
    assert!(!agent.is_alive());
    assert_ne!(after.server, agent.server);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_stopped_supervisor_goes_on_where_it_was() {
    let lab = Lab::start_with(&a_loop("builder", "agent.sh", ""));
    let agent = lab.running("builder");
    lab.signal(Signal::STOP);
    agent.signal(Signal::KILL);
    lab.wait_for("its end", || when(!agent.is_alive(), "it lives"));
    lab.signal(Signal::CONT);
    lab.running_after("builder", agent.epoch);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn an_operators_stop_outlives_the_supervisor() {
    let tables = format!("{}{}", a_loop("builder", "agent.sh", ""), a_loop("adversary", "agent.sh", ""));
    let mut lab = Lab::start_with(&tables);
    let (agent, other) = (lab.running("builder"), lab.running("adversary"));
    lab.done(Request::Stop { which: only("builder") });
    assert!(!agent.is_alive());
    for ending in [Signal::KILL, Signal::TERM, Signal::HUP] {
        lab.end(ending);
        lab.start();
        lab.held("builder", "stopped by the operator");
        lab.running("adversary");
    }
    assert_eq!(lab.starts("builder").len(), 1);
    assert!(!other.is_alive(), "SIGTERM leaves nothing in direct mode");
    lab.done(Request::Start { which: only("builder") });
    lab.running_after("builder", agent.epoch);
}

#[test]
fn a_stop_that_was_answered_is_kept_however_soon_the_supervisor_dies() {
    let mut lab = Lab::start_with(&a_loop("builder", "agent.sh", ""));
    for _ in 0..5 {
        lab.running("builder");
        assert!(matches!(lab.call(Request::Stop { which: only("builder") }), Response::Done { .. }));
        lab.kill_and_restart();
        lab.held("builder", "stopped by the operator");
        lab.done(Request::Start { which: only("builder") });
    }
    assert_eq!(lab.doubles(), "");
}

#[test]
fn a_second_supervisor_on_the_same_state_refuses_and_names_the_first() {
    let lab = Lab::start_with(&a_loop("builder", "agent.sh", ""));
    let agent = lab.running("builder");
    let (code, said) = lab.refused();
    assert_ne!(code, 0);
    assert!(said.contains(&format!("another supervisor (pid {})", lab.daemon_pid())), "{said}");
    assert_eq!(lab.running("builder"), agent);
    assert_eq!(lab.starts("builder").len(), 1);
}

#[test]
fn a_lock_that_a_child_of_a_dead_supervisor_still_holds_is_waited_for() {
    let mut lab = Lab::start_with(&a_loop("builder", "agent.sh", ""));
    let agent = lab.running("builder");
    lab.kill();
    // As between a fork and its exec, only longer; the file names the killed one.
    let lock = lab.state("supervisor.lock");
    let mut holder = std::process::Command::new("flock")
        .arg(&lock)
        .args(["sh", "-c"])
        .arg(format!("echo >{}; sleep 0.2", lab.path("locked").display()))
        .spawn()
        .unwrap();
    lab.wait_for("the lock to be held", || when(lab.path("locked").exists(), "not yet"));
    lab.start();
    assert_eq!(lab.running("builder"), agent);
    holder.wait().unwrap();
}

#[test]
fn sigterm_stops_the_loops_and_they_come_back_without_a_crash() {
    let mut lab = Lab::start_with(&a_loop("builder", "messy.sh", ""));
    let agent = lab.running("builder");
    assert!(support::ended_well(lab.end(Signal::TERM)));
    assert!(!agent.is_alive());
    lab.wait_for("all processes to be gone", || {
        let left = support::reaper::all(lab.path("").as_path());
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    lab.start();
    lab.running_after("builder", agent.epoch);
    assert_eq!(lab.view("builder").restarts, 0);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn sighup_and_leave_sessions_leave_the_loops_to_the_next_supervisor() {
    let mut lab = Lab::start_with(&a_loop("builder", "agent.sh", ""));
    let agent = lab.running("builder");
    assert!(support::ended_well(lab.end(Signal::HUP)));
    assert!(agent.is_alive());
    lab.options.args = vec!["--leave-sessions".into()];
    lab.start();
    assert_eq!(lab.running("builder"), agent);
    assert!(support::ended_well(lab.end(Signal::TERM)));
    assert!(agent.is_alive());
    lab.options.args.clear();
    lab.start();
    assert_eq!(lab.running("builder"), agent);
    assert_eq!(lab.starts("builder").len(), 1);
}
