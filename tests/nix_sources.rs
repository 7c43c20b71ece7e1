//! Nix builds and tests from chosen files only (`nix/rust.nix`): whatever the code takes in, and whatever tests read, must be
//! among them. What is missing there fails in a sandbox alone, where nobody of us looks.

#![allow(clippy::unwrap_used, reason = "a test")]

use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The paths of a list in nix/rust.nix, from the root.
fn listed(name: &str) -> Vec<PathBuf> {
    let text = fs::read_to_string(Path::new(ROOT).join("nix/rust.nix")).unwrap();
    let (_, after) = text.split_once(&format!("\n  {name} = [\n")).unwrap();
    let (list, _) = after.split_once("\n  ];").unwrap();
    let paths = Regex::new(r"\.\./([\w./-]+)").unwrap();
    paths.captures_iter(list).map(|found| PathBuf::from(&found[1])).collect()
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every Rust file of the project with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut files = vec![Path::new(ROOT).join("tools/manual.rs")];
    rust_files(&Path::new(ROOT).join("src"), &mut files);
    rust_files(&Path::new(ROOT).join("tests"), &mut files);
    files.into_iter().map(|file| (file.clone(), fs::read_to_string(&file).unwrap())).collect()
}

/// Without `..`, from the root; `None` when it leads out of it.
fn from_root(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain.strip_prefix(ROOT).ok().map(Path::to_owned)
}

/// Those that no listed path is or holds.
fn missing(wanted: BTreeSet<PathBuf>, listed: &[PathBuf]) -> Vec<PathBuf> {
    wanted.into_iter().filter(|path| !listed.iter().any(|listed| path.starts_with(listed))).collect()
}

#[test]
fn what_is_compiled_in_is_among_the_files_that_nix_compiles() {
    let include = Regex::new(r#"include(?:_str|_bytes)?!\(\s*"([^"]+)""#).unwrap();
    let (mut by_code, mut by_tests) = (BTreeSet::new(), BTreeSet::new());
    for (file, text) in sources() {
        let folder = file.parent().unwrap();
        let wanted = if file.starts_with(Path::new(ROOT).join("tests")) { &mut by_tests } else { &mut by_code };
        wanted.extend(include.captures_iter(&text).map(|found| from_root(&folder.join(&found[1])).unwrap()));
    }
    assert!(by_code.contains(Path::new("tests/sops/values.yaml")), "the search finds nothing: {by_code:?}");
    assert!(by_tests.contains(Path::new("docs/secrets.md")), "the search finds nothing: {by_tests:?}");
    let missing_code = missing(by_code, &listed("code"));
    assert!(missing_code.is_empty(), "add to `code` in nix/rust.nix: {missing_code:?}");
    let missing_tests = missing(by_tests, &[listed("code"), listed("included")].concat());
    assert!(missing_tests.is_empty(), "add to `included` in nix/rust.nix: {missing_tests:?}");
}

#[test]
fn what_tests_read_is_among_the_files_that_nix_gives_them() {
    let root = concat!("CARGO_", "MANIFEST_DIR");
    let literal = Regex::new(r#""/?([\w./-]+)""#).unwrap();
    let mut wanted = BTreeSet::new();
    // A file that knows the root may read any file that it names; a word is one of these only where it is joined.
    for (_, text) in sources().into_iter().filter(|(_, text)| text.contains(root)) {
        let names = literal.captures_iter(&text).filter(|found| {
            let before = &text[..found.get(0).unwrap().start()];
            found[1].contains(['/', '.']) || before.ends_with(".join(")
        });
        let names = names.map(|found| PathBuf::from(&found[1])).filter(|name| name.file_name().is_some());
        wanted.extend(names.filter(|name| !name.starts_with("target") && Path::new(ROOT).join(name).exists()));
    }
    assert!(wanted.contains(Path::new("docs/config.md")), "the search finds nothing: {wanted:?}");
    let missing = missing(wanted, &["code", "included", "pages"].map(listed).concat());
    assert!(missing.is_empty(), "add to `pages` in nix/rust.nix: {missing:?}");
}
