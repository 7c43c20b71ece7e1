//! What `supervisor check` finds only by looking at the machine, on folders and files made for it.

// The lint's exception for tests does not reach the helpers of a test file.
#![allow(clippy::unwrap_used)]

mod config_kit;

use cc_ci::supervisor::config::check::{Init, Machine, machine};
use cc_ci::supervisor::config::read_with;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A folder in which `ROOT` of a config is, and the machine that the config is checked against.
struct Place {
    dir: tempfile::TempDir,
    machine: Machine,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine { path: Some(dir.path().join("bin").into()), init: Init::Systemd, memory: Some(2 << 30) };
        let place = Self { dir, machine };
        fs::create_dir_all(place.at("w/a")).unwrap();
        place.file("bin/tool", "#!/bin/sh\n", 0o755);
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn file(&self, path: &str, text: impl AsRef<[u8]>, mode: u32) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    /// What the check finds, the folder's path replaced by `ROOT`.
    fn found(&self, text: &str) -> String {
        let root = self.dir.path().to_str().unwrap();
        let top = "workspace = \"ROOT/w\"\nstate_dir = \"ROOT/s\"\nruntime_dir = \"ROOT/r\"\n";
        let text = format!("{top}{text}").replace("ROOT", root);
        let loaded = read_with(&text, Path::new("s.toml"), &config_kit::adapters()).unwrap_or_else(|e| panic!("{e}"));
        let found = machine(&loaded.config, &loaded.source, &self.machine);
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n").replace(root, "ROOT")
    }

    /// Only the first lines and the helps: places are tested elsewhere, and the carets depend on the folder's path.
    fn told(&self, text: &str) -> Vec<String> {
        let found = self.found(text);
        let lines = found
            .lines()
            .filter_map(|l| l.trim_start().strip_prefix("= help: ").or(l.starts_with(['e', 'w']).then_some(l)));
        lines.map(str::to_owned).collect()
    }
}

const PILOT: &str = "[loops.a]\nagent = \"pilot\"\nworkdir = \"a\"\n";

#[test]
fn a_config_that_fits_the_machine_has_no_faults() {
    let place = Place::new();
    place.file("w/k.md", "do {loop} in {workspace}, `{{x}}` and ${y}", 0o644);
    place.file("w/.env", "A=b", 0o600);
    place.file("w/p.md", "a plan with {anything}", 0o644);
    place.file("w/a/x", "#!/bin/sh\n", 0o755);
    let told = place.told(&format!(
        "notify = [\"tool\"]\nmin_free_memory = \"1G\"\n{PILOT}kickoff = \"k.md\"\nenv_files = [\".env\"]\n\
         [loops.b]\nagent = \"command\"\ncommand = [\"./x\"]\nworkdir = \"a\"\nneeds = [\"n\"]\n\
         [loops.c]\nagent = \"command\"\ncommand = [\"./{{loop}}\"]\nworkdir = \"a\"\n\
         [needs.n]\ncommand = [\"a/x\"]\n[phases]\nplans = [\"p.md\"]\n"
    ));
    assert_eq!(told, [""; 0]);
    assert!(!place.at("s").exists() && !place.at("r").exists(), "the check changed something");
}

#[test]
fn a_missing_folder_is_shown_where_it_is_named() {
    let place = Place::new();
    fs::remove_dir(place.at("w/a")).unwrap();
    assert_eq!(
        place.found(PILOT),
        "error: the workdir `ROOT/w/a` is not there\n --> s.toml:6:11\n  |\n6 | workdir = \"a\"\n  |           ^^^\n  \
         = help: make it, or clone into it: `mkdir -p ROOT/w/a`"
    );
    place.file("w/a", "", 0o644);
    assert_eq!(place.told(PILOT), ["error: the workdir `ROOT/w/a` is no folder", "name a folder"]);
}

#[test]
fn prompts_and_plans_must_be_text_files() {
    let place = Place::new();
    fs::create_dir(place.at("w/folder")).unwrap();
    symlink("loop", place.at("w/loop")).unwrap();
    place.file("w/latin1", b"caf\xe9", 0o644);
    place.file("w/long", "x".repeat(128 * 1024), 0o644);
    place.file("w/fits", "x".repeat(128 * 1024 - 1), 0o644);
    place.file("w/empty", "\n", 0o644);
    let with = |kickoff: &str| place.told(&format!("{PILOT}kickoff = \"{kickoff}\"\n"));
    for (file, message, help) in [
        ("none", "`ROOT/w/none` cannot be read: it is not there", "write it, or name another file for `kickoff`"),
        ("folder", "`ROOT/w/folder` cannot be read: it is a folder", "name a text file for `kickoff`"),
        (
            "loop",
            "`ROOT/w/loop` cannot be read: it is a symlink that leads back to itself",
            "name a text file for `kickoff`",
        ),
        (
            "latin1",
            "`ROOT/w/latin1` cannot be read: it is not UTF-8 text from byte 3 on",
            "name a text file for `kickoff`",
        ),
        (
            "long",
            "`ROOT/w/long` cannot be read: it has 131072 bytes, of at most 131071",
            "shorten it: a prompt is one argument, and Linux takes 128 KiB",
        ),
        ("empty", "`ROOT/w/empty` is empty", "write what the agent is to do"),
    ] {
        assert_eq!(with(file), [format!("error: the prompt {message}"), help.to_owned()]);
    }
    assert_eq!(with("fits"), [""; 0]);
    assert_eq!(
        place.told(&format!("[phases]\nplans = [\"fits\", \"none\"]\nadvance_on = \"manual\"\n{PILOT}")),
        ["error: the plan `ROOT/w/none` cannot be read: it is not there", "write it, or name another file in `plans`"]
    );
}

#[test]
fn a_bad_placeholder_of_a_prompt_is_shown_in_the_prompt_once() {
    let place = Place::new();
    place.file("w/k.md", "# Do\n\nRead {paln}, as {loop}.\nSay {phase} {paln}.\n", 0o644);
    let text = format!(
        "[phases]\nplans = [\"k.md\"]\nadvance_on = \"manual\"\n{PILOT}kickoff = \"k.md\"\nhandoff = \"k.md\"\n"
    );
    assert_eq!(
        place.found(&text),
        "error: unknown placeholder `{paln}`\n --> ROOT/w/k.md:3:6\n  |\n3 | Read {paln}, as {loop}.\n  |      ^^^^^^\n  \
         = help: did you mean `{plan}`? for the text itself write `{{paln}}` (prompt of `a`)"
    );
    let other =
        format!("{text}[loops.b]\nagent = \"pilot\"\nworkdir = \".\"\nkickoff = \"k.md\"\nfollows_phases = false\n");
    assert_eq!(
        place.told(&other)[2..],
        [
            "error: `{phase}` has no value: the loop does not follow phases",
            "take `follows_phases = false` out, or the placeholder (prompt of `b`)"
        ]
    );
}

#[test]
fn an_env_file_may_come_later_when_the_loop_waits_for_something() {
    let place = Place::new();
    let text = format!("{PILOT}env_files = [\".env\"]\n");
    assert_eq!(
        place.told(&text),
        [
            "warning: the env file `ROOT/w/.env` is not there, and `a` waits for nothing that brings it",
            "put it there, or let the loop wait: `needs = [\"secrets\"]` with `[needs.secrets]`"
        ]
    );
    assert_eq!(place.told(&format!("{text}needs = [\"s\"]\n[needs.s]\nunit = \"s.service\"\n")), [""; 0]);
    place.file("w/.env", "TOKEN=geheim", 0o644);
    let found = place.found(&text);
    assert!(found.starts_with("warning: everyone can read the env file `ROOT/w/.env`\n"), "{found}");
    assert!(!found.contains("geheim"), "{found}");
}

#[test]
fn programs_must_be_there_and_executable() {
    let place = Place::new();
    place.file("w/a/plain", "#!/bin/sh\n", 0o644);
    place.file("w/a/script", "#!/no/bin/bash\n", 0o755);
    let with = |program: &str| {
        place.told(&format!("[loops.a]\nagent = \"command\"\nworkdir = \"a\"\ncommand = [\"{program}\"]\n"))
    };
    for (program, message, help) in [
        (
            "./none",
            "the program `ROOT/w/a/none` is not there: `./none` is relative to the workdir of `a`",
            "put it there, or write its absolute path",
        ),
        ("/none", "the program `/none` is not there", "install it, or mend the path"),
        (
            "none",
            "the program `none` is in no folder of PATH",
            "install it, or write its absolute path; the supervisor's own PATH counts",
        ),
        ("./plain", "the program `ROOT/w/a/plain` is not executable", "`chmod +x ROOT/w/a/plain`"),
        (
            "./script",
            "the first line of `ROOT/w/a/script` names `/no/bin/bash`, which is not there",
            "write `#!/usr/bin/env bash`",
        ),
    ] {
        assert_eq!(with(program), [format!("error: {message}"), help.to_owned()]);
    }
    let told = place.told(&format!("notify = [\"none\"]\n{PILOT}needs = [\"n\"]\n[needs.n]\ncommand = [\"a/none\"]\n"));
    assert_eq!(told[0], "error: the program `none` is in no folder of PATH");
    assert_eq!(told[2], "error: the program `ROOT/w/a/none` is not there");
}

#[test]
fn the_supervisors_folders_must_be_folders_that_nobody_else_can_change() {
    let place = Place::new();
    place.file("s", "", 0o644);
    fs::create_dir(place.at("r")).unwrap();
    fs::set_permissions(place.at("r"), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(
        place.told(PILOT),
        [
            "error: `state_dir` `ROOT/s` cannot be used: it is no folder",
            "name another folder",
            "error: `runtime_dir` is not safe: everyone can write to `ROOT/r`",
            "close it: `chmod o-w ROOT/r`, or use another folder",
        ]
    );
    fs::remove_file(place.at("s")).unwrap();
    fs::set_permissions(place.at("r"), Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(
        place.told(PILOT)[0],
        "error: `runtime_dir` is not safe: everyone can write to `ROOT/r`",
        "the sticky bit does not keep others from putting a socket there first"
    );
    fs::remove_dir(place.at("r")).unwrap();
    fs::set_permissions(place.dir.path(), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(place.told(PILOT)[0], "error: `runtime_dir` is not safe: everyone can write to `ROOT`");
    fs::set_permissions(place.dir.path(), Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(place.told(PILOT), [""; 0], "the sticky bit makes it safe, as in /tmp");
}

#[test]
fn what_the_machine_can_never_give_is_told() {
    let mut place = Place::new();
    place.machine.init = Init::Other;
    let text = format!(
        "host = \"systemd\"\nmin_free_memory = \"3G\"\n{PILOT}needs = [\"n\"]\n[needs.n]\nunit = \"n.service\"\n"
    );
    assert_eq!(
        place.told(&text),
        [
            "error: `host` is `systemd`, but systemd does not run this machine",
            "use `host = \"direct\"`, or run it under systemd",
            "error: `min_free_memory` is 3G, but the machine can never have more than 2G free",
            "make it smaller; with this no agent is ever started",
            "warning: the unit `n.service` is never active: systemd does not run this machine",
            "use `command`, `tcp` or `file` instead",
        ]
    );
}

#[test]
fn an_index_file_must_be_replaceable() {
    let place = Place::new();
    place.file("w/p.md", "plan", 0o644);
    fs::create_dir_all(place.at("w/.cc-ci-logs/.phase-idx")).unwrap();
    let text = format!("{PILOT}[phases]\nplans = [\"p.md\"]\nadvance_on = \"manual\"\n");
    assert_eq!(place.told(&text)[0], "error: `index_file` `ROOT/w/.cc-ci-logs/.phase-idx` is a folder");
    fs::remove_dir(place.at("w/.cc-ci-logs/.phase-idx")).unwrap();
    symlink("/elsewhere", place.at("w/.cc-ci-logs/.phase-idx")).unwrap();
    assert_eq!(place.told(&text)[0], "error: `index_file` `ROOT/w/.cc-ci-logs/.phase-idx` is no regular file");
}
