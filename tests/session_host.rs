//! Session hosts and the start of agents in them, with a real tmux.

#![allow(clippy::unwrap_used, reason = "a test")]

mod host_kit;

use cc_ci::supervisor::pane_log::{self, Rotation};
use cc_ci::supervisor::session;
use cc_ci::supervisor::session_watch::SessionEvent;
use cc_ci::supervisor::tmux::{self, Call, Failure, Keys, Pipe};
use cc_ci::support::process::{send, tree};
use host_kit::{Host, await_event, read, session_command, wait_for};
use rustix::process::Signal;
use std::time::{Duration, Instant};

#[test]
fn reexecuted() {
    host_kit::reexecuted();
}

/// Variables that each have broken an agent or a session elsewhere.
const SEEDED: [&str; 6] =
    ["CLAUDECODE", "CLAUDE_CODE_CHILD_SESSION", "TMUX", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "SECRET"];

fn raw(args: &[&str]) -> Call {
    Call { args: args.iter().map(Into::into).collect(), input: None }
}

#[test]
fn a_fresh_session_has_one_dead_pane_that_says_what_to_ask() {
    let host = Host::start();
    let probe = host.try_probe().unwrap();
    assert_eq!((probe.server, probe.windows, probe.panes), (host.server.pid, 1, 1));
    let pane = probe.pane.unwrap();
    assert_eq!((pane.status, pane.signal, pane.epoch, pane.pipe), (Some(0), None, None, Pipe::Open));
    wait_for("the placeholder's text", || match host.screen() {
        screen if screen.contains("`supervisor explain builder` says") => Ok(()),
        screen => Err(screen),
    });
    let keys = String::from_utf8(host.call(&raw(&["list-keys"])).stdout).unwrap();
    assert_eq!(keys.trim(), "bind-key -T root C-] detach-client");
    let size = host.call(&raw(&["display-message", "-p", "-t", "%0", "#{window_width}x#{window_height}"])).stdout;
    assert_eq!(size, b"200x50\n");
    assert_eq!(read(&host.path("host.log")).lines().filter(|l| l.contains("tmux")).count(), 0);
}

#[test]
fn the_server_is_its_own_session_and_has_no_descriptor_or_variable_of_its_starter() {
    let host = Host::start_with(|command| {
        let mut through = std::process::Command::new("/bin/sh");
        through
            .args(["-c", "exec 9</etc/hostname; exec \"$@\"", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        through.envs(command.get_envs().map(|(k, v)| (k, v.unwrap()))).envs(SEEDED.map(|k| (k, "seed")));
        *command = through;
    });
    let pid = host.server.pid;
    assert_eq!(rustix::process::getsid(rustix::process::Pid::from_raw(pid)).unwrap().as_raw_nonzero().get(), pid);
    let environ = String::from_utf8(tree::environ(pid).unwrap().unwrap()).unwrap();
    assert!(environ.contains("PATH="), "{environ}");
    assert!(!environ.contains("seed") && !environ.contains("CC_CI"), "{environ}");
    let descriptors: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .map(|to| to.display().to_string())
        .collect();
    assert!(descriptors.iter().any(|d| d.ends_with("server.lock")), "{descriptors:?}");
    assert!(!descriptors.iter().any(|d| d == "/etc/hostname"), "{descriptors:?}");
}

#[test]
fn an_agent_starts_with_its_epoch_and_a_second_one_is_refused() {
    let host = Host::start();
    let agent = host.run(7, "touch ready; exec sleep 1000");
    let pane = host.pane();
    assert_eq!((pane.pid, pane.epoch, pane.status, pane.signal), (agent.pid, Some(7), None, None));
    assert_eq!(host.respawn(&host.spec(8, &["/bin/true"])), Err(Failure::StillActive));
    assert_eq!(host.pane().epoch, Some(7), "a refused start changed the epoch");
    assert!(agent.is_alive().unwrap());
    assert_eq!(read(format!("/proc/{}/oom_score_adj", agent.pid).as_ref()).trim(), "500");
}

#[test]
fn the_exit_status_and_the_signal_of_an_agent_are_told_apart() {
    let host = Host::start();
    let agent = host.run(1, "touch ready; read line; exit 3");
    tmux::read_done(&host.call(&tmux::send_text(&[], "go"))).unwrap();
    let pane = host.await_death(agent);
    assert_eq!((pane.status, pane.signal), (Some(3), None));
    let agent = host.run(2, "touch ready; exec sleep 1000");
    send(agent, Signal::KILL).unwrap();
    let pane = host.await_death(agent);
    assert_eq!((pane.pid, pane.status, pane.signal, pane.epoch), (agent.pid, None, Some(9), Some(2)));
}

#[test]
fn an_agent_gets_default_signals_and_nothing_beyond_the_allow_list() {
    let host = Host::start_with(|command| {
        command.envs(SEEDED.map(|k| (k, "seed")));
    });
    std::fs::write(host.path("env"), "export FROM_FILE='a value'\n").unwrap();
    let mut spec =
        host.spec(7, &["/bin/sh", "-c", "cat /proc/$$/environ >env.out; cat /proc/self/status >ready; sleep 1000"]);
    spec.env = vec![("FROM_SPEC".into(), "x".into())];
    spec.env_files = vec![host.path("env")];
    host.respawn(&spec).unwrap();
    wait_for("the agent", || if read(&host.path("ready")).contains("SigCgt") { Ok(()) } else { Err(host.screen()) });
    let environ = read(&host.path("env.out"));
    let mut keys: Vec<&str> = environ.split_terminator('\0').map(|v| v.split('=').next().unwrap()).collect();
    keys.retain(|k| !k.starts_with("LC_"));
    keys.sort_unstable();
    let allowed = ["COLORTERM", "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TZ", "USER"];
    let given = ["CC_CI_CONFIG", "CC_CI_EPOCH", "CC_CI_LOOP", "CC_CI_SOCKET", "FROM_FILE", "FROM_SPEC"];
    let odd: Vec<_> = keys.iter().filter(|k| !allowed.contains(k) && !given.contains(k)).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert!(given.iter().all(|g| keys.contains(g)), "{keys:?}");
    assert!(environ.contains("TERM=tmux-256color\0") && environ.contains("FROM_FILE=a value\0"), "{environ}");
    let status = read(&host.path("ready"));
    let mask = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // tmux itself leaves these ignored in all of its panes.
    let by_tmux = [Signal::TTIN, Signal::TTOU].iter().map(|s| 1 << (s.as_raw() - 1)).sum::<u64>();
    assert_eq!((mask("SigBlk:"), mask("SigIgn:") & 0x7fff_ffff & !by_tmux), (0, 0), "{status}");
}

#[test]
fn hostile_arguments_reach_the_program_byte_for_byte() {
    let host = Host::start();
    let hostile = [
        "",
        " ",
        "a b",
        ";",
        "a;",
        "a\\;",
        "\\",
        "\\;",
        ";;",
        "'",
        "\"",
        "#{pid}",
        "$(touch x)",
        "${HOME}",
        "`x`",
        "l1\nl2",
        "-k",
        "--",
        "-t",
        "%0",
        "ünï ☃",
        "{",
        "}",
        "~",
        "%Y",
        "#(touch x)",
        "\t\u{1b}[31m",
        "*",
        "&&",
        "\n",
        "é;",
    ];
    let mut argv = vec!["/bin/sh", "-c", "cat /proc/$$/cmdline >out; touch done", "sh"];
    argv.extend(hostile);
    let want: String = argv.iter().map(|a| format!("{a}\0")).collect();
    // To tmux itself, and through the launch spec.
    let own: Vec<String> = argv.iter().map(|a| (*a).to_owned()).collect();
    let through_spec = host.agent_argv(&host.spec(2, &argv));
    for (epoch, argv) in [(1, own), (2, through_spec)] {
        let answer = host.call(&tmux::respawn(epoch, host.dir.path(), &argv, None));
        let pid = tmux::read_respawn(&answer).unwrap();
        wait_for("the arguments", || if host.path("done").exists() { Ok(()) } else { Err(host.screen()) });
        assert_eq!(read(&host.path("out")), want);
        host.await_cause(pid);
        std::fs::remove_file(host.path("done")).unwrap();
    }
    assert!(!host.path("x").exists(), "something was run by a shell");
}

#[test]
fn a_launch_that_fails_says_why_in_the_log_and_shows_no_secret() {
    let host = Host::start();
    let mut spec = host.spec(1, &["/nonexistent/agent"]);
    let pid = host.respawn(&spec).unwrap();
    let pane = host.await_cause(pid);
    assert_eq!(pane.status, Some(127));
    std::fs::write(host.path("env"), "hunter2\n").unwrap();
    spec.env_files = vec![host.path("env")];
    spec.epoch = 2;
    host.respawn(&spec).unwrap();
    wait_for("the reason in the log", || {
        let log = read(&host.log());
        let all = log.contains("start `/nonexistent/agent` in `") && log.contains("/env:1`: the line has no `=`");
        if all { Ok(()) } else { Err(log) }
    });
    assert!(!read(&host.log()).contains("hunter2"));
}

#[test]
fn a_text_is_typed_as_one_line_even_in_copy_mode() {
    let host = Host::start();
    host.run(1, "touch ready; IFS= read -r line; printf '%s' \"$line\" >out; touch done; sleep 1000");
    assert!(host.call(&raw(&["copy-mode", "-t", "%0"])).end.is_success());
    assert_eq!(host.pane().keys, Keys::Mode);
    let text = format!("-l \"; kill-server\nx #{{pid}} $(x) ${{HOME}} 'é' \\ ;\t☃ {} end;", "ab☃".repeat(500));
    let started = Instant::now();
    tmux::read_done(&host.call(&tmux::send_text(&[], &text))).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200), "Enter came together with the text");
    wait_for("the line", || if host.path("done").exists() { Ok(()) } else { Err(host.screen()) });
    assert_eq!(read(&host.path("out")), text.replace(['\n', '\t'], " "));
    assert_eq!(host.pane().keys, Keys::Agent);
}

#[test]
fn a_removed_socket_is_told_and_comes_back_on_sigusr1() {
    let mut host = Host::start();
    let agent = host.run(1, "touch ready; exec sleep 1000");
    std::fs::remove_file(host.socket()).unwrap();
    assert_eq!(await_event(&mut host.watch), [(host.name.clone(), SessionEvent::Removed)]);
    assert_eq!(host.try_probe(), Err(Failure::NoServer));
    send(host.server, Signal::USR1).unwrap();
    assert_eq!(await_event(&mut host.watch), [(host.name.clone(), SessionEvent::Appeared)]);
    let probe = wait_for("an answer", || host.try_probe());
    assert_eq!((probe.server, probe.pane.unwrap().pid), (host.server.pid, agent.pid));
}

#[test]
fn a_second_server_is_refused_with_and_without_a_socket_and_a_stale_socket_is_no_hindrance() {
    let mut host = Host::start();
    let second = |host: &Host| {
        let log = host.path("second.log");
        let status = session::spawn(session_command(host.dir.path(), &host.name), &log).unwrap().wait().unwrap();
        (status.code(), read(&log))
    };
    let (code, said) = second(&host);
    assert!(code == Some(2) && said.contains("lives already (it holds `server.lock`)"), "{code:?} {said}");
    std::fs::remove_file(host.socket()).unwrap();
    let (code, said) = second(&host);
    assert!(code == Some(2) && said.contains("lives already"), "{code:?} {said}");
    send(host.server, Signal::USR1).unwrap();
    wait_for("the socket", || host.try_probe());
    assert_eq!(host.try_probe().unwrap().server, host.server.pid);
    // A server that somebody else started there has no lock.
    std::fs::remove_file(host.path("run/session/builder/server.lock")).unwrap();
    let (code, said) = second(&host);
    assert!(code == Some(2) && said.contains("it answers on its socket"), "{code:?} {said}");

    host.kill_server();
    assert!(host.socket().exists(), "the stale socket that this is about");
    let mut child = session::spawn(session_command(host.dir.path(), &host.name), &host.path("third.log")).unwrap();
    let probe = wait_for("a new server", || host.try_probe());
    assert_eq!(probe.server, cc_ci::support::process::pid_of(&child));
    assert!(tmux::read_done(&host.call(&tmux::kill_server())).is_ok());
    child.wait().unwrap();
}

#[test]
fn output_goes_on_in_a_new_log_after_rotation_and_a_dead_pipe_is_seen_and_mended() {
    let host = Host::start();
    let agent = host.run(1, "touch ready; while read line; do echo \"got $line\"; done");
    let say = |word: &str| {
        tmux::read_done(&host.call(&tmux::send_text(&[], word))).unwrap();
        wait_for("the answer in the log", || {
            let log = read(&host.log());
            if log.contains(&format!("got {word}")) { Ok(()) } else { Err(log) }
        });
    };
    say("one");
    assert_eq!(pane_log::rotate(&host.log(), 1, 3).unwrap(), Rotation::Rotated);
    tmux::read_done(&host.call(&tmux::pipe(&host.name, &host.log()))).unwrap();
    say("two");
    assert!(!read(&host.log()).contains("one") && read(&pane_log::numbered(&host.log(), 1)).contains("got one"));

    let pipe = wait_for("the old pipe's end", || {
        let others: Vec<_> = tree::children(host.server.pid).unwrap().into_iter().filter(|id| *id != agent).collect();
        if let [pipe] = others[..] { Ok(pipe) } else { Err(others) }
    });
    send(pipe, Signal::KILL).unwrap();
    host_kit::await_end(pipe);
    // tmux sees it when it writes there next.
    tmux::read_done(&host.call(&tmux::send_text(&[], "lost"))).unwrap();
    wait_for("tmux to see it", || match host.pane().pipe {
        Pipe::Closed => Ok(()),
        Pipe::Open => Err(()),
    });
    send(agent, Signal::KILL).unwrap();
    host.await_death(agent);
    let spec = host.spec(2, &["/bin/sh", "-c", "echo third; sleep 1000"]);
    let argv = host.agent_argv(&spec);
    let call = tmux::respawn(2, &spec.workdir, &argv, Some((&host.name, &host.log())));
    tmux::read_respawn(&host.call(&call)).unwrap();
    wait_for("the output", || {
        let log = read(&host.log());
        if log.contains("third") { Ok(()) } else { Err(log) }
    });
    assert_eq!(host.pane().pipe, Pipe::Open);
}

#[test]
fn tmux_that_is_reminded_tells_the_cause_of_every_death() {
    let host = Host::start();
    for epoch in 1..100 {
        let argv = ["/bin/sh", "-c", ":", "sh"].map(str::to_owned);
        let call = tmux::respawn(epoch, host.dir.path(), &argv, None);
        let pid = wait_for("the pane to drain", || tmux::read_respawn(&host.call(&call)));
        assert_eq!(host.await_cause(pid).status, Some(0));
    }
}

#[test]
fn a_server_that_hangs_misses_the_deadline_and_a_dead_one_is_gone() {
    let mut host = Host::start();
    send(host.server, Signal::STOP).unwrap();
    let mut task = cc_ci::support::child::Task::spawn(tmux::probe().command(&host.socket()), None, 0).unwrap();
    let done = task.kill_overdue(1).unwrap().unwrap();
    assert_eq!(tmux::read_probe(&done), Err(Failure::Overdue));
    host.kill_server();
    assert_eq!(host.try_probe(), Err(Failure::NoServer));
    assert_eq!(host.respawn(&host.spec(1, &["true"])), Err(Failure::NoServer));
}

#[test]
fn a_server_whose_session_was_killed_has_no_pane() {
    let host = Host::start();
    assert!(host.call(&raw(&["kill-session", "-t", "builder"])).end.is_success());
    assert_eq!(host.try_probe().unwrap().pane, None);
    assert_eq!(host.respawn(&host.spec(1, &["true"])), Err(Failure::NoPane));
    assert!(host.call(&raw(&["new-session", "-d", "-s", "other", "sleep", "1000"])).end.is_success());
    assert_eq!(host.try_probe().unwrap().pane, None);
    assert_eq!(host.respawn(&host.spec(1, &["true"])), Err(Failure::NoPane));
}
