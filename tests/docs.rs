//! What README.md, CONTRIBUTING.md and docs/ show can be done: each config passes the check, each command is there with
//! the options it is shown with, each file they link to exists. (The config in docs/config.md: tests/config.rs; docs/proxy.md: tests/proxy_config.rs.)

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages and their texts.
fn pages() -> Vec<(String, String)> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let top = ["README.md", "CONTRIBUTING.md"].map(|name| root().join(name));
    let mut all: Vec<PathBuf> = docs.chain(top).filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    all.sort();
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    all.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

fn supervisor(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    command.args(args).stdin(Stdio::null()).env_remove("CC_CI_CONFIG").output().unwrap()
}

/// All that is set as code: lines of blocks, fenced or indented, and what is between backquotes elsewhere.
fn code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            found.push(line.trim().to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// The arguments of `supervisor` where that is what the code runs.
fn commands(text: &str) -> Vec<Vec<String>> {
    let args = |code: &String| {
        let code = code.split("  #").next()?.trim();
        let rest = code.strip_prefix("supervisor ").or_else(|| Some(code.split_once("/supervisor ")?.1))?;
        Some(rest.split_whitespace().map(str::to_owned).collect())
    };
    // "`supervisor …`" stands for all of them.
    code(text).iter().filter_map(args).filter(|args: &Vec<String>| args.first().is_some_and(|a| a != "…")).collect()
}

#[test]
fn each_config_that_is_shown_passes_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("supervisor.toml");
    let mut seen = 0;
    for (page, text) in pages().iter().filter(|(page, _)| page != "docs/config.md" && page != "docs/proxy.md") {
        for block in text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            std::fs::write(&file, block).unwrap();
            let done = supervisor(&["check", "--static", "--config", file.to_str().unwrap()]);
            assert!(done.status.success(), "{page}:\n{block}\n{}", String::from_utf8_lossy(&done.stderr));
            seen += 1;
        }
    }
    assert!(seen >= 2, "README.md and docs/operate.md have a config each");
}

#[test]
fn each_command_that_is_shown_is_in_the_help_with_its_options() {
    let mut seen = 0;
    for (page, text) in pages() {
        for args in commands(&text) {
            let shown = args.join(" ");
            // `--config F` may stand before the verb, and the page may talk about an option of no verb.
            let mut words = args.iter().map(String::as_str).peekable();
            while words.peek() == Some(&"--config") {
                words.nth(1);
            }
            let mut path: Vec<&str> = words.peek().filter(|w| !w.starts_with('-')).copied().into_iter().collect();
            if matches!(path.first(), Some(&("phase" | "gate"))) {
                path.extend(words.clone().nth(1).filter(|w| !w.starts_with('-')));
            }
            let done = supervisor(&[path.as_slice(), &["--help"]].concat());
            assert!(done.status.success(), "{page}: `supervisor {shown}`: no such command");
            let help = String::from_utf8(done.stdout).unwrap();
            let has = |option: &str| help.split([' ', ',', '\n', '=', ']', '`']).any(|word| word == option);
            for option in
                args.iter().map(|w| w.trim_end_matches([';', '.'])).filter(|w| w.len() > 1 && w.starts_with('-'))
            {
                assert!(has(option), "{page}: `supervisor {shown}`: no option `{option}` in:\n{help}");
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} commands found");
}

#[test]
fn each_linked_file_is_there() {
    let mut seen = 0;
    for (page, text) in pages() {
        let folder = root().join(&page).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !target.starts_with("http") {
                assert!(folder.join(file).exists(), "{page}: `{target}` is not there");
                seen += 1;
            }
        }
    }
    assert!(seen >= 5, "only {seen} links found");
}

#[test]
fn each_command_of_the_contributors_page_is_a_step_of_the_check() {
    let check = std::fs::read_to_string(root().join("check")).unwrap();
    let page = std::fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let commands: Vec<String> = code(&page).into_iter().filter(|code| code.starts_with("cargo ")).collect();
    assert!(commands.len() >= 4, "{commands:?}");
    for command in commands {
        assert!(check.contains(&command), "`{command}` is no step of ./check");
    }
}
