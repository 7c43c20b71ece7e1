//! `tools/install.sh` and the units that it installs.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const UNITS: [&str; 2] = ["cc-ci-orchestrator.service", "cc-ci-session@.service"];

fn install(destdir: &Path, more: &[&str]) -> (bool, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/install.sh");
    let mut command = Command::new("/bin/sh");
    command.arg(script).arg("--destdir").arg(destdir).args(["--binary", env!("CARGO_BIN_EXE_supervisor")]);
    let out = command.args(more).output().unwrap();
    (out.status.success(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
}

/// Every file below a folder, with its mode.
fn files(dir: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                todo.push(entry.path());
            } else {
                let path = Path::new("/").join(entry.path().strip_prefix(dir).unwrap());
                found.insert(path, meta.permissions().mode() & 0o777);
            }
        }
    }
    found
}

/// The version of systemd-analyze; `None`, and a line that says so, without one that knows the units' settings.
fn analyze() -> Option<()> {
    let version = Command::new("systemd-analyze").arg("--version").output();
    let text = version.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    match text.split(' ').nth(1).and_then(|number| number.parse::<u32>().ok()) {
        Some(254..) => Some(()),
        _ => {
            eprintln!("skipped: there is no systemd-analyze of systemd 254 or later");
            None
        }
    }
}

#[test]
fn it_installs_the_program_and_units_that_run_it_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let (done, said) = install(dir.path(), &["--prefix", "/opt/cc"]);
    assert!(done, "{said}");
    let want = [
        ("/opt/cc/bin/supervisor", 0o755),
        ("/opt/cc/lib/systemd/system/cc-ci-orchestrator.service", 0o644),
        ("/opt/cc/lib/systemd/system/cc-ci-session@.service", 0o644),
        ("/opt/cc/lib/sysusers.d/cc-ci-orchestrator.conf", 0o644),
        ("/opt/cc/lib/tmpfiles.d/cc-ci-orchestrator.conf", 0o644),
    ];
    assert_eq!(files(dir.path()), want.map(|(path, mode)| (path.into(), mode)).into());
    for unit in UNITS {
        let text = fs::read_to_string(dir.path().join("opt/cc/lib/systemd/system").join(unit)).unwrap();
        assert!(
            text.contains(
                "
ExecStart=/opt/cc/bin/supervisor "
            ),
            "{text}"
        );
        assert!(!text.contains("@bindir@"), "{text}");
    }
    assert!(said.contains("systemctl enable --now cc-ci-session@LOOP"), "{said}");
}

#[test]
fn a_second_run_changes_no_config_and_says_what_an_upgrade_needs() {
    let dir = tempfile::tempdir().unwrap();
    assert!(install(dir.path(), &[]).0);
    let config = dir.path().join("etc/cc-ci-orchestrator/supervisor.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "mine\n").unwrap();
    let before = files(dir.path());
    let (done, said) = install(dir.path(), &[]);
    assert!(done && said.contains("systemctl restart cc-ci-orchestrator"), "{said}");
    assert_eq!(files(dir.path()), before);
    assert_eq!(fs::read_to_string(&config).unwrap(), "mine\n");
}

#[test]
fn what_cannot_be_installed_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for (more, why) in [
        (["--prefix", "usr"], "give a whole path"),
        (["--prefix", "/a b"], "give a whole path"),
        (["--binary", "/no/such"], "`/no/such` is not there; build it"),
        (["--color", "no"], "unknown argument `--color`"),
    ] {
        let (done, said) = install(dir.path(), &more);
        assert!(!done && said.contains(why), "{more:?}: {said}");
    }
    assert_eq!(files(dir.path()), BTreeMap::new());
}

#[test]
fn the_units_are_valid_and_the_supervisor_is_exposed_to_at_most_3() {
    let Some(()) = analyze() else { return };
    let dir = tempfile::tempdir().unwrap();
    assert!(install(dir.path(), &["--prefix", dir.path().to_str().unwrap(), "--destdir", ""]).0);
    let unit = |name: &str| dir.path().join("lib/systemd/system").join(name);
    let run = |args: &[&str], unit: PathBuf| {
        let out = Command::new("systemd-analyze").args(args).arg(unit).output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    for name in UNITS {
        let (fine, said) = run(&["verify", "--man=no", "--recursive-errors=no"], unit(name));
        assert!(fine && said.trim().is_empty(), "{said}");
    }
    let (fine, said) = run(&["security", "--offline=true", "--threshold=30", "--no-pager"], unit(UNITS[0]));
    assert!(fine, "{said}");
}

/// The settings of a unit: `Section.Key=value`, a line each, comments left out.
fn settings(unit: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("modules/units").join(unit)).unwrap();
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => section = name.to_owned(),
            None => found.push(format!("{section}.{line}")),
        }
    }
    found
}

fn assert_has(unit: &str, wanted: &[&str], never: &[&str]) {
    let found = settings(unit);
    for line in wanted {
        assert!(found.iter().any(|have| have == line), "{unit} lacks {line}");
    }
    for key in never {
        assert!(!found.iter().any(|have| have.starts_with(&format!("Service.{key}="))), "{unit} has {key}");
    }
}

#[test]
fn each_unit_has_what_keeps_agents_alive_and_nothing_that_would_end_them() {
    let both = [
        "Unit.StartLimitIntervalSec=0",
        "Service.User=agent",
        "Service.Restart=always",
        "Service.RestartSec=100ms",
        "Service.RestartSteps=8",
        "Service.RestartMaxDelaySec=30s",
        "Service.TimeoutStopSec=20s",
        "Install.WantedBy=multi-user.target",
    ];
    let session = [
        "Unit.Before=cc-ci-orchestrator.service",
        "Unit.X-StopOnRemoval=false",
        "Service.X-RestartIfChanged=false",
        "Service.Type=exec",
        "Service.Delegate=yes",
        "Service.DelegateSubgroup=tmux",
        "Service.OOMPolicy=continue",
        "Service.UnsetEnvironment=XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS",
    ];
    // RuntimeDirectory= is removed with the unit, with the sockets in it; PrivateTmp= hides the agents' files.
    let never = ["RuntimeDirectory", "PrivateTmp", "PAMName", "ProtectControlGroups"];
    assert_has(UNITS[1], &[&both[..], &session[..]].concat(), &never);
    let supervisor = ["Service.Type=notify", "Service.WatchdogSec=30s"];
    let never = ["RuntimeDirectory", "ProtectControlGroups", "ProcSubset", "PrivateUsers", "RemoveIPC"];
    assert_has(UNITS[0], &[&both[..], &supervisor[..]].concat(), &never);
}
