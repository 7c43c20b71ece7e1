//! docs/secrets.md: its manifest is sound, its tables are those of the reader, its commands are in the help.

#![allow(clippy::unwrap_used, reason = "a test")]

use cc_ci::secrets::format::NAMES;
use cc_ci::secrets::manifest::{keys, read};
use std::path::Path;
use std::process::Command;

const PAGE: &str = include_str!("../docs/secrets.md");

/// The first block that is set in by four spaces and starts with this.
fn block(start: &str) -> String {
    let lines = PAGE.lines().skip_while(|line| line.trim() != start);
    lines.take_while(|l| l.is_empty() || l.starts_with("    ")).map(|l| format!("{}\n", l.trim())).collect()
}

#[test]
fn the_manifest_that_is_shown_is_sound() {
    let read = read(&block("[secrets.testenv]"), Path::new("docs/secrets.md")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(read.value.secrets.len(), 4);
    assert_eq!(read.warnings, []);
}

#[test]
fn every_key_and_format_is_explained_with_its_value_and_default() {
    for key in keys::TABLES.iter().flat_map(|table| table.keys) {
        let default = match key.default {
            plain if plain.starts_with(['"', '[']) => format!("`{plain}`"),
            words => words.to_owned(),
        };
        let row = format!("| `{}` | {} | {default} | ", key.name, key.form);
        assert!(PAGE.contains(&row), "no row {row}");
    }
    for (name, _) in NAMES {
        assert!(PAGE.contains(&format!("| `{name}` | ")), "{name}");
    }
    let rows = PAGE.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, keys::TABLES.iter().map(|table| table.keys.len()).sum::<usize>() + NAMES.len());
}

#[test]
fn every_command_that_is_shown_is_in_the_help_with_its_options() {
    let mut seen = 0;
    for line in PAGE.lines().map(str::trim).filter(|line| line.starts_with("secrets-placer ")) {
        let mut words = line.split("  #").next().unwrap().split_whitespace().skip(1);
        let verb = words.next().unwrap();
        let help = Command::new(env!("CARGO_BIN_EXE_secrets-placer")).args([verb, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains(&format!("secrets-placer {verb}")), "{line}:\n{help}");
        for option in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{line}: no {option} in:\n{help}");
        }
        seen += 1;
    }
    assert!(seen >= 7, "only {seen} commands found");
}

/// systemd has openat2 fail under that setting, since it cannot look into its arguments; checks/secrets runs the unit itself.
#[test]
fn the_unit_does_not_take_openat2_away() {
    let unit = include_str!("../modules/units/cc-ci-secrets.service");
    assert!(!unit.lines().any(|line| line.starts_with("RestrictSUIDSGID=")), "{unit}");
    assert!(unit.lines().any(|line| line == "SystemCallFilter=@system-service"), "{unit}");
}
