//! Torn, empty, foreign and newer state files and hostile configs: which let it start, which make it refuse, and that a refusal
//! starts and loses nothing.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use cc_ci::supervisor::control::protocol::Request;
use rustix::process::Signal;
use std::fs;
use support::script::{PHASES, a_loop};
use support::{Agent, Lab, only, read};

fn two(more: &str) -> String {
    format!("{PHASES}{}{}", a_loop("builder", "agent.sh", more), a_loop("adversary", "agent.sh", more))
}

/// A laboratory whose daemon was killed, with both agents running, a phase set, and some history.
fn killed() -> (Lab, Agent, Agent) {
    let mut lab = Lab::start_with(&two(""));
    let builder = lab.running("builder");
    lab.done(Request::PhaseSet { index: 1 });
    lab.done(Request::PhaseSet { index: 2 });
    let adversary = lab.running("adversary");
    lab.kill();
    (lab, builder, adversary)
}

const BAD: [(&str, &[u8]); 4] = [
    ("empty", b""),
    ("torn", b"{\"version\":1,\"kind\":\"loop\",\"da"),
    ("foreign", b"<html>not found</html>\n"),
    ("zeros", &[0; 512]),
];

/// The files beside it that were set aside.
fn set_aside(file: &std::path::Path) -> usize {
    let name = format!("{}.foreign-", file.file_name().unwrap().to_str().unwrap());
    fs::read_dir(file.parent().unwrap())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(&name))
        .count()
}

#[test]
fn a_bad_record_of_a_loop_is_set_aside_and_the_previous_one_is_used() {
    for (what, content) in BAD {
        let (mut lab, builder, adversary) = killed();
        let record = lab.state("loops/builder.json");
        fs::write(&record, content).unwrap();
        lab.start();
        assert_eq!((lab.running("builder"), lab.running("adversary")), (builder, adversary), "{what}");
        assert_eq!(set_aside(&record), 1, "{what}");
        lab.wait_for("the operator to be told", || {
            let told = lab.notifications();
            let said = told.iter().any(|n| n.to_string().contains("record of loop builder"));
            if said { Ok(()) } else { Err(told) }
        });
        assert_eq!(lab.starts("builder").len(), 1, "{what}");
        // It is looked after as before.
        builder.signal(Signal::KILL);
        lab.running_after("builder", builder.epoch);
        assert_eq!(lab.doubles(), "", "{what}");
    }
}

#[test]
fn a_loop_whose_record_is_lost_altogether_stays_stopped_until_told() {
    let (mut lab, builder, adversary) = killed();
    for entry in fs::read_dir(lab.state("loops")).unwrap().flatten() {
        if entry.file_name().to_str().unwrap().starts_with("builder") {
            fs::write(entry.path(), "nothing of ours").unwrap();
        }
    }
    lab.start();
    lab.held("builder", "stopped by the operator");
    assert!(!builder.is_alive(), "held, and runs");
    assert_eq!(lab.running("adversary"), adversary);
    lab.wait_for("the operator to be told", || {
        let told = lab.notifications();
        if told.iter().any(|n| n.to_string().contains("supervisor start builder")) { Ok(()) } else { Err(told) }
    });
    lab.done(Request::Start { which: only("builder") });
    lab.running_after("builder", builder.epoch);
    assert_eq!(lab.doubles(), "");
}

#[test]
fn bad_global_state_and_a_bad_gate_are_set_aside_and_told() {
    for file in ["global.json", "gate.json"] {
        for (what, content) in BAD {
            let (mut lab, builder, adversary) = killed();
            fs::write(lab.state(file), content).unwrap();
            lab.start();
            assert_eq!((lab.running("builder"), lab.running("adversary")), (builder, adversary), "{file} {what}");
            assert_eq!(set_aside(&lab.state(file)), 1, "{file} {what}");
            assert_eq!(lab.status().phase.unwrap().index, Some(2), "{file} {what}");
        }
    }
}

#[test]
fn a_state_file_of_a_newer_version_makes_it_refuse_and_touches_nothing() {
    for file in ["loops/builder.json", "global.json", "gate.json"] {
        let (mut lab, builder, adversary) = killed();
        if !lab.state(file).exists() {
            // Written only once there is something to say.
            lab.start();
            lab.done(Request::Freeze);
            lab.done(Request::Thaw);
            lab.kill();
        }
        let path = lab.state(file);
        let before = read(&path);
        if before.is_empty() {
            fs::write(&path, "{\"version\":1,\"kind\":\"gate\",\"data\":{}}").unwrap();
        }
        let newer = read(&path).replace("\"version\":1", "\"version\":2").replace("\"version\": 1", "\"version\": 2");
        fs::write(&path, &newer).unwrap();
        let journal = read(&lab.state("journal.jsonl"));
        let (code, said) = lab.refused();
        assert_eq!(code, 1, "{file}: {said}");
        assert!(said.contains(path.to_str().unwrap()) && said.contains("version"), "{file}: {said}");
        assert_eq!((read(&path), read(&lab.state("journal.jsonl"))), (newer, journal), "{file}");
        assert!(builder.is_alive() && adversary.is_alive(), "{file}");
        assert_eq!(lab.starts("builder").len(), 1);
    }
}

#[test]
fn a_bad_phase_index_is_set_aside_and_the_last_phase_is_used() {
    for content in ["", "banana\n", "-1\n", "9\n", "1 2\n", "1\n\n", "\u{feff}1\n"] {
        let (mut lab, builder, _) = killed();
        let file = lab.path("ws/.cc-ci-logs/.phase-idx");
        fs::write(&file, content).unwrap();
        lab.start();
        assert_eq!((lab.status().phase.unwrap().index, lab.index()), (Some(2), "2\n".to_owned()), "{content:?}");
        assert_eq!(set_aside(&file), 1, "{content:?}");
        lab.wait_for("the operator to be told", || {
            let told = lab.notifications();
            if told.iter().any(|n| n.to_string().contains("phase index")) { Ok(()) } else { Err(told) }
        });
        assert_eq!(lab.running("builder"), builder);
    }
}

#[test]
fn a_removed_phase_index_is_written_again() {
    let (mut lab, ..) = killed();
    fs::remove_file(lab.path("ws/.cc-ci-logs/.phase-idx")).unwrap();
    lab.start();
    assert_eq!((lab.status().phase.unwrap().index, lab.index()), (Some(2), "2\n".to_owned()));
}

#[test]
fn an_unknowable_phase_makes_it_refuse_and_names_the_file_and_the_remedy() {
    let lab = Lab::new(&two(""));
    let file = lab.path("ws/.cc-ci-logs/.phase-idx");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "banana\n").unwrap();
    for _ in 0..2 {
        let (code, said) = lab.refused();
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(file.to_str().unwrap()) && said.contains("--from-phase"), "{said}");
        assert_eq!(read(&file), "banana\n");
    }
    assert_eq!((lab.starts("builder").len(), lab.tmux_socket("builder").exists()), (0, false));
}

#[test]
fn a_torn_or_foreign_journal_loses_no_whole_line_and_stops_nothing() {
    for tail in [&b"{\"time\":\"2026-11"[..], b"\0\0\0\0", b"no json at all\n", b"\xff\xfe\n"] {
        let (mut lab, builder, adversary) = killed();
        let before = lab.journal();
        support::append(&lab.state("journal.jsonl"), tail);
        lab.start();
        assert_eq!((lab.running("builder"), lab.running("adversary")), (builder, adversary));
        assert_eq!(lab.status().phase.unwrap().index, Some(2));
        let after = lab.journal();
        assert_eq!(after[..before.len()], before);
        lab.await_decision("adopt", Some("builder"));
    }
}

#[test]
fn hostile_configs_are_refused_with_their_place_and_start_nothing() {
    let good = format!("workspace = \"@dir@/ws\"\nstate_dir = \"@state@\"\nruntime_dir = \"@dir@/run\"\n{}", two(""));
    let faults = [
        ("[loops.builder\n".to_owned(), ":1:"),
        (format!("colour = 1\n{good}"), "`colour`"),
        (good.replace("agent.sh\"]", "agent.sh\"]\nstall_after = 5"), "stall_after"),
        (good.replace("[loops.builder]", "[loops.\"../../etc\"]"), "../../etc"),
        (good.replace("agent = \"command\"", "agent = \"oracle\""), "oracle"),
        (good.replace("workspace = \"@dir@/ws\"", "workspace = \"relative\""), "relative"),
        (good.replace("[loops.adversary]", "needs = [\"moon\"]\n[loops.adversary]"), "moon"),
        ("\u{0}".repeat(100), ":1:"),
        (String::new(), "loops"),
    ];
    for (text, named) in faults {
        let lab = Lab::new(&two(""));
        lab.write_config(&text);
        let (code, said) = lab.refused();
        assert_eq!(code, 2, "{text}\n{said}");
        assert!(said.contains(named), "{named}: {said}");
        assert!(said.contains("supervisor.toml:"), "no place: {said}");
        assert!(!lab.state.exists() && !lab.path("run").exists(), "{named}: something was made");
    }
}
