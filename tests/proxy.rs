//! `proxy-shim run` with real clients: what they get through it, how ends and resets are passed on, who may go where.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::result_large_err, reason = "what was seen last is shown whole when a wait fails")]

mod proxy_kit;

use proxy_kit::*;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An HTTP server for one answer a connection.
fn http(body: &'static [u8]) -> u16 {
    destination(move |mut stream| {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
    })
}

#[test]
fn curl_gets_a_page_by_socks_and_by_http_connect_and_by_name() {
    if !has("curl") {
        return;
    }
    let lab = Lab::direct();
    let port = http(b"hello");
    for (scheme, host) in [("socks5h", "localhost"), ("socks5", "127.0.0.1"), ("http", "127.0.0.1")] {
        let proxy = format!("{scheme}://{}", lab.address());
        let url = format!("http://{host}:{port}/");
        let out = Command::new("curl").args(["-sS", "-p", "-x", &proxy, &url]).output().unwrap();
        assert_eq!(said(&out), "hello", "{scheme}");
    }
}

#[test]
fn curl_says_why_there_is_no_connection() {
    if !has("curl") {
        return;
    }
    let lab = Lab::with("upstream = \"direct\"\nallow = [\"*.example:1\", \"127.0.0.1\"]\n");
    let proxy = |scheme: &str| format!("{scheme}://{}", lab.address());
    let curl = |scheme: &str, url: &str| {
        said(&Command::new("curl").args(["-sS", "-p", "-x", &proxy(scheme), url]).output().unwrap())
    };
    assert!(curl("socks5h", "http://127.0.0.1:1/").contains("(5)"));
    assert!(curl("socks5h", &format!("http://{}:1/", no_name())).contains("(4)"));
    assert!(curl("socks5h", "http://localhost:1/").contains("(2)"));
    assert!(curl("http", "http://localhost:1/").contains("403"));
    let plain = Command::new("curl").args(["-sS", "-x", &proxy("http"), "http://127.0.0.1:1/"]).output().unwrap();
    assert!(said(&plain).contains("set the proxy as `socks5h://`"), "{}", said(&plain));
}

#[test]
fn netcats_relay_both_ways_through_it() {
    let lab = Lab::direct();
    let port = echo().to_string();
    let address = lab.address().to_string();
    let clients: [&[&str]; 3] = [
        &["nc", "-N", "-X", "5", "-x", &address, "127.0.0.1", &port],
        &["nc", "-N", "-X", "connect", "-x", &address, "127.0.0.1", &port],
        &["ncat", "--proxy-type", "socks5", "--proxy", &address, "127.0.0.1", &port],
    ];
    for argv in clients {
        if has(argv[0]) {
            let bytes = pattern(300_000);
            let out = feed(Command::new(argv[0]).args(&argv[1..]), &bytes);
            assert!(
                out.stdout == bytes,
                "{argv:?}: {} bytes, {}",
                out.stdout.len(),
                String::from_utf8_lossy(&out.stderr)
            );
        }
    }
}

#[test]
fn an_ipv6_destination_is_reached() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    };
    let lab = Lab::direct();
    let port = listener.local_addr().unwrap().port();
    let server = meanwhile(move || listener.accept().unwrap().0.write_all(b"six").unwrap());
    let proxy = lab.address().to_string();
    let out = lab.command(&["connect", "--proxy", &proxy, "::1", &port.to_string()]).output().unwrap();
    assert_eq!(said(&out), "six");
    server.join().unwrap();
}

#[test]
fn a_request_that_has_ended_gets_its_full_answer() {
    let lab = Lab::direct();
    let size = 3_000_000;
    let port = answers_after_the_end(size);
    let mut stream = lab.socks(port);
    stream.write_all(&pattern(700_000)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [b"700000 ".as_slice(), &pattern(size)].concat());
}

#[test]
fn a_destination_that_has_ended_still_gets_the_rest_of_the_request() {
    let lab = Lab::direct();
    let (tell, told) = std::sync::mpsc::channel();
    let port = destination(move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        tell.send(rest).unwrap();
    });
    let mut stream = lab.socks(port);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"bye");
    let bytes = pattern(2_000_000);
    stream.write_all(&bytes).unwrap();
    drop(stream);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), bytes);
}

#[test]
fn a_stream_that_is_reset_is_reset_for_the_other_side_too_and_does_not_look_ended() {
    let lab = Lab::direct();
    let port = destination(|mut stream| {
        stream.write_all(&pattern(100_000)).unwrap();
        let mut go = [0; 1];
        stream.read_exact(&mut go).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    let mut stream = lab.socks(port);
    let mut bytes = vec![0; 100_000];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, pattern(100_000));
    stream.write_all(b"x").unwrap();
    let error = stream.read(&mut bytes).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_client_that_vanishes_takes_its_connection_with_it_though_the_destination_reads_nothing() {
    let lab = Lab::direct();
    let hold = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let held = hold.clone();
    let port = destination(move |stream| held.lock().unwrap().push(stream));
    let mut stream = lab.socks(port);
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let chunk = pattern(1 << 20);
    while stream.write_all(&chunk).is_ok() {}
    assert_eq!(lab.status().connections.open, 1);
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    let mut other = lab.socks(echo());
    other.write_all(b"others live").unwrap();
    let mut answer = [0; 11];
    other.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"others live");
    drop(other);
    // What it had sent may still be wanted for a while; nobody takes it, and that has its limit.
    drop(lab.wait_for("the destination to have it", || hold.lock().unwrap().pop().ok_or("nothing")));
    lab.wait_for("the connection to be gone", || match lab.status().connections.open {
        0 => Ok(()),
        n => Err(n),
    });
}

#[test]
fn a_connection_over_which_nothing_goes_is_ended_after_its_time_and_a_slow_handshake_too() {
    // Each has a lab of its own: a handshake that is meant to end may take longer on a busy machine.
    let lab = Lab::with("upstream = \"direct\"\nidle_timeout = \"300ms\"\n");
    let mut idle = lab.socks(echo());
    let mut byte = [0; 1];
    assert_eq!(idle.read(&mut byte).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let lab = Lab::with("upstream = \"direct\"\nhandshake_timeout = \"300ms\"\n");
    let mut slow = lab.raw();
    slow.write_all(&[5]).unwrap();
    assert!(matches!(slow.read(&mut byte), Ok(0) | Err(_)));
    let why = lab.status().failures.pop().unwrap().why;
    assert_eq!(why, "the client's handshake took longer than 300ms");
}

#[test]
fn clients_beyond_the_cap_wait_and_are_not_refused() {
    let lab = Lab::with("upstream = \"direct\"\nmax_connections = 2\n");
    let port = echo();
    let first = lab.socks(port);
    let _second = lab.socks(port);
    let mut third = lab.raw();
    third.write_all(&[5, 1, 0]).unwrap();
    assert_eq!(lab.status().connections.open, 2);
    drop(first);
    let mut answer = [0; 2];
    third.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [5, 0]);
}

#[test]
fn a_socket_that_is_handed_over_is_used_and_one_beyond_loopback_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut lab = Lab::new();
    lab.configure("upstream = \"direct\"\n");
    // As systemd does it: descriptor 3, and LISTEN_PID is the pid of the program itself.
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    let run = |lab: &Lab, listener: &TcpListener| {
        let shim = lab.run_command();
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", SHIM]).args(shim.get_args());
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())));
        command.stdout(Stdio::null()).stderr(fs::File::create(lab.path("log")).unwrap());
        command
    };
    let command = run(&lab, &listener);
    lab.spawn(command);
    lab.port = port;
    lab.wait_for("it to answer", || lab.try_status());
    assert_eq!(lab.status().listen, format!("127.0.0.1:{port}"));
    let mut stream = lab.socks(echo());
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    lab.crash();
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let status = run(&lab, &open).status().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(lab.log().contains("which was handed over: it is not loopback"), "{}", lab.log());
}

#[test]
fn a_second_one_and_a_taken_port_are_said_and_end() {
    let mut lab = Lab::direct();
    let out = lab.command(&["run", "--config"]).arg(lab.config()).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("another proxy-shim runs with this `runtime_dir`"), "{}", said(&out));
    lab.crash();
    let _taken = TcpListener::bind(lab.address()).unwrap();
    let out = lab.command(&["run", "--config"]).arg(lab.config()).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("another program has this port"), "{}", said(&out));
}

#[test]
fn after_a_crash_the_next_one_starts_at_once_and_sigterm_ends_it_well() {
    let mut lab = Lab::direct();
    let _open = lab.socks(echo());
    lab.crash();
    lab.start();
    lab.socks(echo());
    assert_eq!(lab.end(), Some(0));
}

#[test]
fn the_service_manager_is_told_ready_status_alive_and_the_end() {
    let mut lab = Lab::new();
    let listener = destination(|mut stream| stream.write_all(b"SSH-2.0-x").unwrap());
    lab.configure(&format!(
        "upstream = \"direct\"\nprobe_every = \"100ms\"\n[probes.ssh]\ntarget = \"127.0.0.1:{listener}\"\nexpect = \"SSH-\"\n"
    ));
    let socket = lab.path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = lab.run_command();
    // Every second: the socket holds eleven messages, and what comes while it is full is lost.
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "2000000");
    lab.spawn(command);
    let mut told = String::new();
    let mut hear = |wanted: &str| {
        while !told.contains(wanted) {
            let mut message = [0; 1024];
            let n = manager.recv(&mut message).unwrap_or_else(|e| panic!("{wanted}: {e}; told: {told}"));
            told.push_str(&String::from_utf8_lossy(&message[..n]));
        }
        told.clone()
    };
    let before = hear("READY=1");
    assert!(!before.contains("1 of 1 probes passed\nREADY"), "{before}");
    hear("STATUS=up; 1 of 1 probes passed");
    hear("WATCHDOG=1");
    lab.signal(rustix::process::Signal::TERM);
    hear("STOPPING=1");
}

#[test]
fn a_service_manager_that_reads_nothing_holds_no_client_up_and_is_told_ready_when_it_reads() {
    let mut lab = Lab::new();
    let mute = destination(std::mem::forget);
    lab.configure(&format!(
        "upstream = \"direct\"\nready_after = \"500ms\"\nprobe_every = \"50ms\"\nprobe_timeout = \"50ms\"\n[probes.mute]\n\
         target = \"127.0.0.1:{mute}\"\nfirst_byte = true\n"
    ));
    let socket = lab.path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = lab.run_command();
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "20000");
    let begun = Instant::now();
    lab.spawn(command);
    lab.wait_for("the proxy to say that nobody listens", || match lab.log() {
        log if log.contains("telling the service manager") => Ok(()),
        log => Err(log),
    });
    lab.socks(echo());
    lab.wait_for("the time after which it is ready in any case", || match begun.elapsed() {
        long if long > Duration::from_secs(1) => Ok(()),
        short => Err(short),
    });
    let mut told = String::new();
    while !told.contains("READY=1") {
        let mut message = [0; 1024];
        let n = manager.recv(&mut message).unwrap_or_else(|e| panic!("{e}; told: {told}"));
        told.push_str(&String::from_utf8_lossy(&message[..n]));
        assert!(begun.elapsed() < DEADLINE, "told: {told}");
    }
}

#[test]
fn ready_is_not_said_while_no_probe_passes_unless_it_takes_too_long() {
    for (config, ready) in [("", false), ("ready_after = \"100ms\"\n", true)] {
        let mut lab = Lab::new();
        let mute = destination(std::mem::forget);
        lab.configure(&format!(
            "upstream = \"direct\"\n{config}probe_every = \"50ms\"\nprobe_timeout = \"50ms\"\n[probes.mute]\n\
             target = \"127.0.0.1:{mute}\"\nfirst_byte = true\n"
        ));
        let socket = lab.path("notify");
        let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut command = lab.run_command();
        lab.spawn(std::mem::replace(command.env("NOTIFY_SOCKET", &socket), Command::new("true")));
        lab.wait_for("three rounds", || match lab.try_status() {
            Ok(view) if view.probes["mute"].passed == Some(false) => Ok(()),
            other => Err(other),
        });
        let mut told = String::new();
        let mut message = [0; 1024];
        if ready {
            manager.set_read_timeout(Some(DEADLINE)).unwrap();
        }
        let begun = Instant::now();
        while !(ready && (told.contains("READY=1") || begun.elapsed() > DEADLINE)) {
            let Ok(n) = manager.recv(&mut message) else { break };
            told.push_str(&String::from_utf8_lossy(&message[..n]));
        }
        assert_eq!(told.contains("READY=1"), ready, "{told}");
        let why = lab.status().probes["mute"].why.clone().unwrap();
        assert_eq!(why, "no answer within 50ms");
    }
}

/// An sshd of the test's own; `None`, and a line that says so, where it cannot run.
fn sshd(lab: &mut Lab) -> Option<u16> {
    if !(has("ssh") && has("ssh-keygen") && Path::new("/usr/sbin/sshd").exists()) {
        eprintln!("skipped: there is no sshd");
        return None;
    }
    let key = |name: &str| {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(lab.path(name));
        assert!(keygen.status().unwrap().success());
    };
    key("host");
    key("user");
    fs::rename(lab.path("user.pub"), lab.path("authorized")).unwrap();
    if rustix::process::geteuid().is_root() && fs::create_dir_all("/run/sshd").is_err() {
        eprintln!("skipped: /run/sshd cannot be made, without which sshd does not run");
        return None;
    }
    let port = free_port();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f", "/dev/null", "-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "PidFile=none"]);
    command.args(["-o", &format!("ListenAddress=127.0.0.1:{port}")]);
    command.args(["-o", &format!("HostKey={}", lab.path("host").display())]);
    command.args(["-o", &format!("AuthorizedKeysFile={}", lab.path("authorized").display())]);
    command.stderr(fs::File::create(lab.path("sshd.log")).unwrap());
    // Its sessions go with it.
    command.process_group(0);
    lab.also(command);
    lab.wait_for("sshd", || std::net::TcpStream::connect(("127.0.0.1", port)).map(drop));
    Some(port)
}

fn ssh(lab: &Lab, port: u16, fdpass: bool) -> Vec<String> {
    let proxy = format!("{SHIM} connect --proxy {}{} %h %p", lab.address(), if fdpass { " --fdpass" } else { "" });
    let mut argv: Vec<String> = ["ssh", "-F", "/dev/null", "-i"].map(str::to_owned).into();
    argv.push(lab.path("user").display().to_string());
    argv.extend(["-p".to_owned(), port.to_string()]);
    for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"] {
        argv.extend(["-o".to_owned(), option.to_owned()]);
    }
    argv.extend(["-o".to_owned(), format!("ProxyCommand={proxy}")]);
    argv.extend(["-o".to_owned(), format!("ProxyUseFdpass={}", if fdpass { "yes" } else { "no" })]);
    argv
}

#[test]
fn ssh_and_git_go_through_connect_with_and_without_fdpass() {
    let mut lab = Lab::direct();
    let Some(port) = sshd(&mut lab) else { return };
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(name);
        }
        command.args(["-c", "init.defaultBranch=main", "-c", "user.name=t", "-c", "user.email=t@t"]).args(args);
        command
    };
    let repo = lab.path("repo").display().to_string();
    assert!(git(&["init", "-q", &repo]).status().unwrap().success());
    assert!(git(&["-C", &repo, "commit", "-q", "--allow-empty", "-m", "x"]).status().unwrap().success());
    for fdpass in [false, true] {
        let argv = ssh(&lab, port, fdpass);
        let bytes = pattern(3_000_000);
        let out = feed(Command::new(&argv[0]).args(&argv[1..]).args(["127.0.0.1", "cat"]), &bytes);
        let log = fs::read_to_string(lab.path("sshd.log")).unwrap();
        assert!(out.stdout == bytes, "fdpass {fdpass}: {} bytes, {}\n{log}", out.stdout.len(), said(&out));
        let to = lab.path(&format!("clone-{fdpass}")).display().to_string();
        let quoted: Vec<String> = argv.iter().map(|word| format!("'{word}'")).collect();
        let out = git(&["clone", "-q", &format!("ssh://127.0.0.1{repo}"), &to])
            .env("GIT_SSH_COMMAND", quoted.join(" "))
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", said(&out));
    }
}

#[test]
fn git_over_http_goes_through_it() {
    if !has("git") || !Path::new("/usr/lib/git-core/git-http-backend").exists() && !has("git-http-backend") {
        return;
    }
    let lab = Lab::direct();
    // What git asks first of a dumb server, which is enough to see that it got there.
    let port = destination(|mut stream| {
        let mut request = [0; 4096];
        let n = stream.read(&mut request).unwrap();
        assert!(request[..n].starts_with(b"GET /r.git/info/refs"));
        let refs = b"0123456789012345678901234567890123456789\trefs/heads/main\n";
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", refs.len());
        stream.write_all(&[head.as_bytes(), refs].concat()).unwrap();
    });
    let proxy = format!("http.proxy=socks5h://{}", lab.address());
    let url = format!("http://127.0.0.1:{port}/r.git");
    let out = Command::new("git").args(["-c", &proxy, "ls-remote", &url]).output().unwrap();
    let text = said(&out);
    assert!(text.contains("0123456789012345678901234567890123456789\trefs/heads/main"), "{text}");
}
