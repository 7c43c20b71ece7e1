//! What a running agent was told of the supervisor that started it holds with the next one, whose program is another file.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Lab, script};

/// The daemon is started from a copy of the program, as each version of it is on NixOS.
fn run_by(lab: &mut Lab, copy: &Path) {
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_supervisor"), copy).unwrap();
    // What would have been run is `$1`.
    let exec = format!("shift; exec '{}' \"$@\"", copy.display());
    lab.options.by = ["/bin/sh", "-c", &exec, "sh"].map(str::to_owned).to_vec();
}

/// What the CLI was told to run at each event.
fn hook_of(lab: &Lab) -> String {
    let text = std::fs::read_to_string(lab.path("run/session/builder/claude-settings.json")).unwrap();
    let settings: Value = serde_json::from_str(&text).unwrap();
    settings["hooks"]["UserPromptSubmit"][0]["hooks"][0]["command"].as_str().unwrap().to_owned()
}

#[test]
fn hooks_of_an_agent_reach_the_supervisor_after_the_file_of_the_one_that_started_it_is_gone() {
    let mut lab = Lab::new("[loops.builder]\nagent = \"claude\"\nworkdir = \".\"\nkickoff = \"plans/0.md\"\n");
    script::write(lab.path("").as_path(), "claude", "echo \"start $CC_CI_EPOCH $$\" >>'@dir@/starts.builder'\ncat\n");
    let path = format!("{}:{}", lab.path("").display(), std::env::var("PATH").unwrap());
    lab.options.env.push(("PATH".to_owned(), path));
    lab.options.args.push("--leave-sessions".to_owned());

    let old = lab.path("old/supervisor");
    run_by(&mut lab, &old);
    lab.start();
    let agent = lab.running("builder");
    let hook = hook_of(&lab);
    lab.end(Signal::TERM);
    std::fs::remove_file(&old).unwrap();
    let new = lab.path("new/supervisor");
    run_by(&mut lab, &new);
    lab.start();
    assert_eq!(lab.running("builder").id, agent.id, "the agent ran on");

    // A hook has a second for all of it, which a busy machine may take; told twice is told.
    lab.wait_for("the hook to get through", || {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{hook} --verbose")]).env("CC_CI_LOOP", "builder").env("CC_CI_SOCKET", lab.socket());
        shell.env("CC_CI_EPOCH", agent.epoch.to_string());
        let mut shell = shell.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = shell.stdin.take().unwrap();
        let written = stdin.write_all(br#"{"hook_event_name":"UserPromptSubmit"}"#);
        drop(stdin);
        let out = shell.wait_with_output().unwrap();
        if written.is_ok() && out.status.success() && out.stderr.is_empty() { Ok(()) } else { Err(out) }
    });
    assert_eq!(lab.view("builder").turn.as_deref(), Some("busy"));
}
