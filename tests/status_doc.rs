//! docs/status.md says what `supervisor status --json` is: its example is one, and every field is explained.

#![allow(clippy::unwrap_used, reason = "a test")]

use cc_ci::supervisor::core::holds::HoldKind;
use cc_ci::supervisor::core::view::{STATUS_VERSION, StatusView};
use serde_json::Value;
use std::collections::BTreeSet;

fn doc() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/status.md")).unwrap()
}

fn example(doc: &str) -> Value {
    let (_, rest) = doc.split_once("```json\n").unwrap();
    serde_json::from_str(rest.split_once("```").unwrap().0).unwrap()
}

/// The fields that the section has a row for.
fn rows(doc: &str, section: &str) -> BTreeSet<String> {
    let start = doc.find(&format!("\n{section}\n")).unwrap_or_else(|| panic!("no section `{section}`"));
    let body = &doc[start + section.len() + 2..];
    let body = &body[..body.find("\n##").unwrap_or(body.len())];
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    body.lines().filter_map(row).collect()
}

fn keys<'a>(objects: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    objects.into_iter().flat_map(|o| o.as_object().unwrap().keys().cloned()).collect()
}

#[test]
fn the_example_is_a_status_and_has_all_of_it() {
    let example = example(&doc());
    let status: StatusView = serde_json::from_value(example.clone()).unwrap();
    assert_eq!(status.version, STATUS_VERSION);
    // What is written again has every field of the types, so one that the example lacks or invents shows here.
    assert_eq!(serde_json::to_value(&status).unwrap(), example);
}

#[test]
fn every_field_is_explained_and_no_other() {
    let doc = doc();
    let status: StatusView = serde_json::from_value(example(&doc)).unwrap();
    let all = serde_json::to_value(&status).unwrap();
    let loops = all["loops"].as_array().unwrap();
    let holds: Vec<&Value> = loops.iter().flat_map(|l| l["holds"].as_array().unwrap()).collect();
    let sections = [
        ("## Fields", keys([&all])),
        ("### phase", keys([&all["phase"]])),
        ("### gate", keys([&all["gate"]])),
        ("### accounts", keys(all["accounts"].as_array().unwrap())),
        ("### needs", keys(all["needs"].as_array().unwrap())),
        ("### loops", keys(loops)),
        ("### holds", keys(holds.iter().copied())),
    ];
    for (section, fields) in sections {
        assert!(!fields.is_empty());
        assert_eq!(rows(&doc, section), fields, "in the section `{section}`");
    }
    for field in keys(holds.iter().map(|h| &h["ends"])) {
        assert!(doc.contains(&format!("`{field}`")), "`{field}` of `ends`");
    }
}

#[test]
fn every_kind_of_hold_is_named() {
    let doc = doc();
    let row = doc.lines().find(|l| l.starts_with("| `kind` |")).unwrap();
    for word in row.split('`').skip(3).step_by(2) {
        serde_json::from_value::<HoldKind>(word.into()).unwrap_or_else(|e| panic!("`{word}`: {e}"));
    }
    // serde lists every variant when it is given one that is none.
    let error = serde_json::from_value::<HoldKind>("?".into()).unwrap_err().to_string();
    for word in error.split('`').skip(3).step_by(2) {
        assert!(row.contains(&format!("`{word}`")), "`{word}` is missing");
    }
}
