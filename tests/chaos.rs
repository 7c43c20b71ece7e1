//! Everything at once, in random order: agents, tmux servers and the supervisor die, sockets go away, the operator freezes,
//! stops and starts. When it is over every loop runs once, as the operator last said.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::{Call, Request, Which};
use cc_ci::support::process::{ProcId, send};
use rustix::process::Signal;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;
use support::script::a_loop;
use support::{Lab, only};

const ROUNDS: u32 = 80;
const NAMES: [&str; 3] = ["builder", "adversary", "litter"];

fn kill(pid: i32) {
    if let Ok(Some(id)) = ProcId::of(pid) {
        // Gone meanwhile is fine.
        let _ = send(id, Signal::KILL);
    }
}

/// Asks if there is somebody to ask, and waits for no answer.
fn ask(lab: &Lab, request: Request) {
    if let Ok(mut stream) = lab.connect() {
        let call = Call { from: None, epoch: None, request };
        let _ = stream.write_all(format!("{}\n", serde_json::to_string(&call).unwrap()).as_bytes());
    }
}

#[test]
fn when_the_storm_is_over_every_loop_runs_once() {
    let seed = std::env::var("CC_CI_TEST_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    eprintln!("run it again with CC_CI_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let more = "stop_timeout = \"1s\"\nstable_after = \"1ms\"\ncrash_loop = { deaths = 1000, within = \"1s\" }\n";
    // Not messy.sh: what has neither marker nor server any more is found by a cgroup only.
    let scripts = ["agent.sh", "deaf.sh", "litter.sh"];
    let tables: Vec<String> = NAMES.iter().zip(scripts).map(|(name, script)| a_loop(name, script, more)).collect();
    let mut lab = Lab::start_with(&tables.concat());
    NAMES.iter().for_each(|name| assert_eq!(lab.running(name).epoch, 1));
    let mut clients = Vec::new();
    for round in 0..ROUNDS {
        let name = NAMES[random.usize(..NAMES.len())];
        match random.u8(..20) {
            0..5 => lab.starts(name).last().into_iter().for_each(|(_, pid)| kill(*pid)),
            5..7 => {
                let view = lab.try_status().ok().and_then(|s| s.loops.into_iter().find(|l| l.name.as_str() == name));
                view.and_then(|view| view.server_pid).into_iter().for_each(kill);
            }
            7..11 => {
                lab.kill();
                lab.spawn_only();
            }
            11 => drop(std::fs::remove_file(lab.tmux_socket(name))),
            12 => {
                let mut tmux = std::process::Command::new("tmux");
                tmux.arg("-S").arg(lab.tmux_socket(name)).args(["kill-pane", "-t", "%0"]);
                // Not waited for: in a freeze the server answers after the thaw.
                clients.push(tmux.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
            }
            13 => ask(&lab, Request::Freeze),
            14 => ask(&lab, Request::Thaw),
            15 => ask(&lab, Request::Stop { which: only(name) }),
            16 => ask(&lab, Request::Start { which: only(name) }),
            17 => ask(&lab, Request::Restart { which: only(name) }),
            _ => std::thread::sleep(Duration::from_millis(random.u64(0..300))),
        }
        assert_eq!(lab.doubles(), "", "round {round}");
    }
    lab.answers();
    lab.done(Request::Thaw);
    // Whether there was a pane to kill, or a server, is the storm's business.
    for client in &mut clients {
        client.wait().unwrap();
    }
    lab.done(Request::Start { which: Which::All });
    // What was killed last may seem to live for a moment.
    let agents = lab.wait_for("nothing to change any more", || {
        let agents = NAMES.map(|name| lab.running(name));
        std::thread::sleep(Duration::from_millis(300));
        if NAMES.map(|name| lab.running(name)) == agents { Ok(agents) } else { Err(agents) }
    });
    for (name, (script, agent)) in NAMES.iter().zip(scripts.iter().zip(&agents)) {
        let starts = lab.starts(name);
        assert!(starts.windows(2).all(|two| two[0].0 < two[1].0), "{name}: an epoch came twice: {starts:?}");
        let living: Vec<i32> = support::reaper::all(&lab.path(""))
            .into_iter()
            .map(|id| id.pid)
            .filter(|pid| {
                let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                let here = format!("CC_CI_LOOP={name}");
                environ.split(|b| *b == 0).any(|var| var == here.as_bytes())
            })
            .collect();
        let ours = if *script == "litter.sh" { 2 } else { 1 };
        assert!(living.contains(&agent.id.pid) && living.len() == ours, "{name}: {living:?}, agent {agent:?}");
    }
    assert_eq!(lab.doubles(), "");
}
