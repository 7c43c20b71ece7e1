//! The command line of the real binary: help, exit codes, and what holds with no supervisor running.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn supervisor(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    command.current_dir(folder).stdin(Stdio::null());
    for name in ["CC_CI_CONFIG", "CC_CI_SOCKET", "CC_CI_LOOP", "CC_CI_EPOCH", "RESUME_PHASE"] {
        command.env_remove(name);
    }
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    supervisor(folder).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A config of one loop, whose state and runtime folders are below `dir` and not there yet.
fn write_config(dir: &Path) {
    let config = format!(
        "workspace = \"{0}\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\nhost = \"direct\"\n[phases]\n\
         plans = [\"plan-1.md\", \"plan-2.md\"]\nadvance_on = \"manual\"\n[loops.builder]\nagent = \"command\"\nworkdir = \".\"\n\
         command = [\"sh\", \"-c\", \"echo {{loop}} {{phase_index}}; sleep 9\"]\n",
        dir.display()
    );
    std::fs::write(dir.join("supervisor.toml"), config).unwrap();
    for plan in ["plan-1.md", "plan-2.md"] {
        std::fs::write(dir.join(plan), "do it").unwrap();
    }
}

fn with_config() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_config(dir.path());
    dir
}

#[test]
fn every_subcommand_says_in_its_help_what_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    let purposes = [
        ("run", "keep it running"),
        ("check", "what would run"),
        ("demo", "temporary folder"),
        ("status", "what every loop is doing"),
        ("explain", "what happens next"),
        ("history", "decided"),
        ("attach", "Attach this terminal"),
        ("logs", "printed"),
        ("nudge", "Type a text"),
        ("start", "Start loops"),
        ("stop", "Stop loops"),
        ("restart", "start them again"),
        ("freeze", "in place"),
        ("thaw", "End a freeze"),
        ("drain", "safe point"),
        ("phase", "current phase"),
        ("gate", "claim, pass or fail"),
        ("event", "never fails"),
        ("doctor", "must be true"),
        ("session", "Internal:"),
        ("agent", "Internal:"),
    ];
    let main = run(dir.path(), &["--help"]);
    let main_text = text(&main.stdout);
    assert_eq!(code(&main), 0);
    assert!(main_text.contains("Exit codes:") && main_text.contains("3  not now"), "{main_text}");
    for (verb, purpose) in purposes {
        let help = run(dir.path(), &[verb, "--help"]);
        assert_eq!(code(&help), 0, "{verb}");
        assert!(text(&help.stdout).contains(purpose), "{verb}: {}", text(&help.stdout));
        assert!(main_text.lines().any(|l| l.trim_start().starts_with(verb)), "{verb} is not in the main help");
    }
    for verb in [["phase", "set"], ["phase", "advance"], ["gate", "claim"], ["gate", "fail"]] {
        assert_eq!(code(&run(dir.path(), &[verb[0], verb[1], "--help"])), 0, "{verb:?}");
    }
}

#[test]
fn the_version_tells_a_build_for_a_test_from_a_real_one() {
    let dir = tempfile::tempdir().unwrap();
    let said = text(&run(dir.path(), &["--version"]).stdout);
    if cfg!(feature = "test-skip-folder-fsync") {
        assert!(said.contains(" with test-skip-folder-fsync: "), "{said}");
    } else {
        assert_eq!(said, format!("supervisor {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn usage_errors_have_exit_code_2() {
    let dir = with_config();
    for args in [
        &["dance"][..],
        &["status", "--nope"],
        &["start"],
        &["start", "--all", "builder"],
        &["start", "../x"],
        &["explain"],
        &["explain", "nobody"],
        &["nudge", "builder"],
        &["nudge", "builder", " "],
        &["phase", "set", "x"],
        &["drain", "--timeout", "soon"],
        &["status", "--watch"],
        &["attach", "builder"],
        &["history", "nobody"],
        &["--from-phase", "1", "status"],
        &["run", "--from-phase", "3"],
        &["session", "nobody"],
        &["check", "--config", "/nonexistent.toml"],
    ] {
        let output = run(dir.path(), args);
        assert_eq!(code(&output), 2, "{args:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn without_a_config_it_says_where_it_looked_and_names_the_demo() {
    let dir = tempfile::tempdir().unwrap();
    let local = dir.path().canonicalize().unwrap().join("supervisor.toml");
    let want = format!(
        "supervisor: find a config: `--config` is not given, `$CC_CI_CONFIG` is not set, and there is no `{}` and no \
         `/etc/cc-ci-orchestrator/supervisor.toml`; write one of them, or see everything work with `supervisor demo`\n",
        local.display()
    );
    for args in [&[][..], &["run"], &["check"], &["status"], &["start", "--all"], &["history"]] {
        let output = run(dir.path(), args);
        assert_eq!((code(&output), text(&output.stderr)), (2, want.clone()), "{args:?}");
    }
}

#[test]
fn what_needs_a_supervisor_says_how_to_start_one() {
    let dir = with_config();
    let socket = dir.path().join("run/control.sock");
    let want = format!(
        "supervisor: the supervisor is not running here (no answer at `{}`); start it with `supervisor run`, or \
         `systemctl start cc-ci-orchestrator`\n",
        socket.display()
    );
    for args in [
        &["start", "--all"][..],
        &["stop", "builder"],
        &["freeze"],
        &["thaw"],
        &["drain"],
        &["nudge", "builder", "go", "on"],
        &["phase", "set", "1"],
        &["gate", "pass"],
    ] {
        let output = run(dir.path(), args);
        assert_eq!((code(&output), text(&output.stderr)), (3, want.clone()), "{args:?}");
    }
}

#[test]
fn status_and_the_other_lookers_work_without_a_supervisor() {
    let dir = with_config();
    let status = run(dir.path(), &["status"]);
    assert_eq!(code(&status), 0);
    let shown = text(&status.stdout);
    assert!(shown.starts_with("The supervisor is not running; this is what it wrote last; no agent runs;"), "{shown}");
    assert!(
        shown.contains("builder  down   -      -      0      0         -       -          a supervisor"),
        "{shown}"
    );
    let json = run(dir.path(), &["status", "--json"]);
    let view: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((code(&json), &view["daemon"], &view["phase"]["index"]), (0, &"down".into(), &0.into()));
    let explain = run(dir.path(), &["explain", "builder"]);
    assert_eq!(code(&explain), 0);
    assert!(text(&explain.stdout).contains("was never started"), "{}", text(&explain.stdout));
    let phase = run(dir.path(), &["phase", "show"]);
    assert_eq!(text(&phase.stdout), format!("phase 0 (of 0 to 1): {}/plan-1.md\n", dir.path().display()));
    assert_eq!(text(&run(dir.path(), &["gate", "show"]).stdout), "phase 0: nothing is claimed\n");
    assert_eq!(text(&run(dir.path(), &["history"]).stdout), "nothing was decided yet\n");
    assert!(!dir.path().join("state").exists(), "a look changed something");
}

#[test]
fn check_shows_what_would_run_and_every_fault_with_its_place() {
    let dir = with_config();
    let good = run(dir.path(), &["check"]);
    assert_eq!(code(&good), 0, "{}", text(&good.stderr));
    let plan = text(&good.stdout);
    assert!(plan.contains("\nloop builder (command)\n  runs      sh -c 'echo builder 0; sleep 9'\n"), "{plan}");
    std::fs::remove_file(dir.path().join("plan-2.md")).unwrap();
    assert_eq!(code(&run(dir.path(), &["check", "--static"])), 0);
    let bad = run(dir.path(), &["check"]);
    let said = text(&bad.stderr);
    assert_eq!(code(&bad), 2);
    assert!(said.starts_with("error: the plan ") && said.contains("supervisor.toml:6:23"), "{said}");
    assert!(said.lines().last().unwrap().starts_with("supervisor: check the config `"), "{said}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = with_config();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    for args in [&["status"][..], &["status", "--json"], &["check"], &["--help"], &["doctor"]] {
        let output = supervisor(dir.path()).args(args).stdout(writer.try_clone().unwrap()).output().unwrap();
        assert_eq!((code(&output), text(&output.stderr)), (0, String::new()), "{args:?}");
    }
}

fn event(folder: &Path, args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Output {
    let mut command = supervisor(folder);
    command.arg("event").args(args).envs(env.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end before it has read all, or anything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn an_event_never_fails_and_is_silent_unless_asked() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _hung = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let socket = socket.to_str().unwrap();
    let huge = vec![b'x'; 20 << 20];
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [u8]);
    let cases: [Case; 7] = [
        (&[], b"{}"),
        (&[("CC_CI_LOOP", "builder")], b"{}"),
        (&[("CC_CI_LOOP", "../x"), ("CC_CI_SOCKET", "/nonexistent")], b"{}"),
        (&[("CC_CI_LOOP", "builder"), ("CC_CI_SOCKET", "/nonexistent"), ("CC_CI_EPOCH", "x")], b"{}"),
        (&[("CC_CI_LOOP", "builder"), ("CC_CI_SOCKET", "/nonexistent")], b"\xff\0 garbage"),
        (&[("CC_CI_LOOP", "builder"), ("CC_CI_SOCKET", "/nonexistent")], &huge),
        (&[("CC_CI_LOOP", "builder"), ("CC_CI_SOCKET", socket)], b"{\"it\":\"hangs\"}"),
    ];
    for (env, input) in cases {
        let start = Instant::now();
        let silent = event(dir.path(), &[], env, input);
        assert!(start.elapsed() < Duration::from_secs(30), "{env:?}");
        assert_eq!((code(&silent), text(&silent.stderr)), (0, String::new()), "{env:?}");
        let verbose = event(dir.path(), &["--verbose"], env, input);
        assert_eq!(code(&verbose), 0, "{env:?}");
        assert!(text(&verbose.stderr).starts_with("supervisor: passing an event on: "), "{env:?}: {verbose:?}");
    }
    assert_eq!(code(&event(dir.path(), &["--bogus"], &[], b"{}")), 0, "exit code 2 of a hook is a veto");
}

#[test]
fn an_event_whose_stdin_stays_open_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = supervisor(dir.path());
    command.args(["event", "--loop", "builder"]).stdin(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let _open = child.stdin.take();
    assert!(child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn an_event_reaches_the_supervisor_with_its_loop_and_epoch_and_as_a_string_if_it_is_no_json() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (told, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            // One whose time was over hears nothing.
            let told_it = BufReader::new(&stream).read_line(&mut line).is_ok_and(|n| n > 0)
                && stream.write_all(b"{\"answer\":\"done\",\"lines\":[]}\n").is_ok();
            if told_it && told.send(line).is_err() {
                return;
            }
        }
    });
    let call = |event: &str| {
        format!("{{\"from\":\"builder\",\"epoch\":7,\"request\":{{\"do\":\"event\",\"event\":{event}}}}}\n")
    };
    let env = [("CC_CI_LOOP", "builder"), ("CC_CI_EPOCH", "7"), ("CC_CI_SOCKET", socket.to_str().unwrap())];
    for (input, wanted) in [(&b"{\"a\":1}"[..], call("{\"a\":1}")), (b"hello\n", call("\"hello\""))] {
        // It has a second for all of it, which a busy machine may take; then it says so, and is told again.
        let said: Vec<String> = (0..20)
            .map(|_| event(dir.path(), &["--verbose"], &env, input))
            .inspect(|output| assert_eq!(code(output), 0))
            .map(|output| text(&output.stderr))
            .take_while(|said| !said.is_empty())
            .collect();
        assert!(said.len() < 20, "never got through: {said:?}");
        let heard: Vec<String> = lines.try_iter().collect();
        assert!(!heard.is_empty() && heard.iter().all(|line| *line == wanted), "{heard:?}");
    }
}

#[test]
fn a_supervisor_is_reached_although_the_config_has_become_faulty() {
    let dir = with_config();
    std::fs::create_dir(dir.path().join("run")).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(dir.path().join("run/control.sock")).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"{\"answer\":\"done\",\"lines\":[\"thawed\"]}\n").unwrap();
    });
    let file = dir.path().join("supervisor.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{config}bogus = 1\n")).unwrap();
    let output = run(dir.path(), &["thaw"]);
    assert_eq!((code(&output), text(&output.stdout)), (0, "thawed\n".to_owned()));
    assert!(text(&output.stderr).contains("has faults, see `supervisor check`"), "{}", text(&output.stderr));
    server.join().unwrap();
}

#[test]
fn agents_that_outlived_their_supervisor_are_shown_as_unwatched_and_a_stopped_loop_as_held() {
    use cc_ci::supervisor::agents::{Prompt, Session};
    use cc_ci::supervisor::core::world::{AgentRecord, LoopRecord, Wish};
    use cc_ci::supervisor::store::Store;
    use cc_ci::support::clock::Now;
    use cc_ci::support::process::{BootId, ProcId, pid_of};
    let dir = with_config();
    let mut agent = Command::new("sleep").arg("1000").spawn().unwrap();
    let process = ProcId::of(pid_of(&agent)).unwrap();
    let name = "builder".parse().unwrap();
    let mut record = LoopRecord::new(BootId::read().unwrap());
    record.epoch = 7;
    record.agent = Some(AgentRecord {
        epoch: 7,
        process,
        started: Now::read(),
        hash: String::new(),
        phase: Some(1),
        turns: Default::default(),
        session: Session::Fresh { uuid: "u".into(), prompt: Prompt::Kickoff },
        told: None,
        transcript: None,
        turn_began: None,
        children_oom_killed: 0,
        gate: None,
    });
    let store = Store::open(&dir.path().join("state")).unwrap();
    store.save_loop(&name, &record).unwrap();
    let view =
        || -> serde_json::Value { serde_json::from_slice(&run(dir.path(), &["status", "--json"]).stdout).unwrap() };
    let alive = view();
    let builder = &alive["loops"][0];
    assert_eq!((&builder["state"], &builder["pid"]), (&"up".into(), &pid_of(&agent).into()), "{alive}");
    assert!(builder["memory"].as_u64().unwrap() > 10_000 && builder["last_sign"].is_null(), "{alive}");
    assert_eq!(builder["waits_for"], "a supervisor: it runs unwatched");
    let explained = text(&run(dir.path(), &["explain", "builder"]).stdout);
    assert!(explained.contains("still runs, and no supervisor watches it"), "{explained}");

    agent.kill().unwrap();
    agent.wait().unwrap();
    record.wish = Wish::Stop { since: Now::read() };
    store.save_loop(&name, &record).unwrap();
    let dead = view();
    let builder = &dead["loops"][0];
    assert_eq!((&builder["state"], &builder["pid"]), (&"held".into(), &serde_json::Value::Null), "{dead}");
    assert_eq!(builder["holds"].as_array().unwrap().len(), 1, "{dead}");
    assert_eq!(builder["waits_for"], "a supervisor; then: stopped by the operator");
}
