//! Files that the real sops wrote (tests/sops/README.md), whole and tampered with.

use super::*;
use crate::secrets::format::identities;
use proptest::prelude::*;

const YAML: &str = include_str!("../../../tests/sops/values.yaml");
const JSON: &str = include_str!("../../../tests/sops/values.json");
const REGEX: &str = include_str!("../../../tests/sops/regex.yaml");
const BINARY: &str = include_str!("../../../tests/sops/binary.json");

fn keys() -> Vec<Identity> {
    identities(include_bytes!("../../../tests/sops/key.txt")).unwrap()
}

fn decrypt(text: &str) -> Result<Values, String> {
    Encrypted::read(text).and_then(|file| file.decrypt(&keys())).map_err(|e| e.to_string())
}

fn get(values: &Values, key: &str) -> Result<String, String> {
    values.get(key).map(|content| String::from_utf8(content.bytes().to_vec()).unwrap())
}

#[track_caller]
fn refused(text: &str) -> String {
    match decrypt(text) {
        Ok(_) => panic!("it was taken"),
        Err(told) => told,
    }
}

#[test]
fn every_kind_of_value_of_a_yaml_file_is_decrypted() {
    let values = decrypt(YAML).unwrap();
    for (key, expected) in [
        ("testenv", "GITEA_TOKEN=not-a-real-token\nTS_AUTH_KEY=not-a-real-key\n"),
        ("incus/client_key", "first line\nsecond line"),
        ("incus/port", "8443"),
        ("incus/ratio", "0.25"),
        ("incus/huge", "123456789012345"),
        ("incus/on", "true"),
        ("incus/off", "false"),
        ("incus/when", "2026-11-22T18:00:00Z"),
        ("incus/empty", ""),
        ("list/0", "one"),
        ("list/1", "2"),
        ("list/2/inner", "three"),
        ("ünïcode", "日本"),
        ("region_unencrypted", "eu"),
        ("port_unencrypted", "22"),
        ("float_unencrypted", "1.5"),
        ("on_unencrypted", "true"),
    ] {
        assert_eq!(get(&values, key).as_deref(), Ok(expected), "{key}");
    }
}

#[test]
fn json_and_binary_files_are_decrypted_too() {
    let values = decrypt(JSON).unwrap();
    assert_eq!(get(&values, "testenv").as_deref(), Ok("A=b\n"));
    assert_eq!(get(&values, "incus/list/1").as_deref(), Ok("1"));
    assert_eq!(get(&values, "plain_unencrypted").as_deref(), Ok("17"));
    assert_eq!(get(&decrypt(BINARY).unwrap(), "data").as_deref(), Ok("raw bytes\n"));
}

#[test]
fn a_file_of_which_only_some_values_are_encrypted_and_in_the_mac_is_decrypted() {
    let values = decrypt(REGEX).unwrap();
    assert_eq!(get(&values, "incus/client_key").as_deref(), Ok("first line\nsecond line"));
    assert_eq!(get(&values, "incus/port").as_deref(), Ok("8443"));
    // By its own rule the MAC says nothing of the others.
    assert!(decrypt(&REGEX.replace("port: 8443", "port: 8444")).is_ok());
}

#[test]
fn what_is_no_single_value_is_told() {
    let values = decrypt(YAML).unwrap();
    let missing = "there is no `nowhere`; see which keys there are, they are not encrypted";
    assert_eq!(get(&values, "incus/nowhere"), Err(missing.to_owned()));
    assert_eq!(get(&values, "incus"), Err("it is no single value; name one in it by `sops_key`".to_owned()));
    assert_eq!(get(&values, "incus/nothing"), Err("it is null; give it a value with `sops edit`".to_owned()));
}

#[test]
fn another_key_decrypts_nothing() {
    let other = identities(include_bytes!("../../../tests/sops/other.txt")).unwrap();
    let file = Encrypted::read(YAML).unwrap();
    assert!(file.is_for(&keys()) && !file.is_for(&other));
    let told = file.decrypt(&other).unwrap_err().to_string();
    assert!(told.starts_with("none of its recipients is this machine's key; "), "{told}");
}

#[test]
fn a_changed_file_is_refused() {
    let mac = "its MAC is not that of its values: somebody changed the file; take it from git again";
    assert_eq!(refused(&YAML.replace("region_unencrypted: eu", "region_unencrypted: us")), mac);
    assert_eq!(refused(&YAML.replace("port_unencrypted: 22\n", "")), mac);
    // Each value is whole by itself, and in the place of its list.
    let (one, two) = (line(YAML, "    - ENC[", 0), line(YAML, "    - ENC[", 1));
    assert_eq!(refused(&YAML.replace(one, "@").replace(two, one).replace('@', two)), mac);
    let moved = YAML.replace("    port:", "    part:");
    assert_eq!(refused(&moved), "`incus/part` was changed, or moved from another place; take the file from git again");
    let date = YAML.replace("lastmodified: \"2026", "lastmodified: \"2025");
    assert_eq!(refused(&date), "its MAC cannot be decrypted: somebody changed the file; take it from git again");
    let plain = YAML.replace(line(YAML, "ünïcode:", 0), "ünïcode: plain");
    assert_eq!(refused(&plain), "`ünïcode` is not encrypted, or not by sops; take the file from git again");
    let number = YAML.replace(line(YAML, "ünïcode:", 0), "ünïcode: 5");
    assert_eq!(refused(&number), "`ünïcode` is not encrypted though it should be; encrypt the file anew");
}

fn line<'t>(text: &'t str, start: &str, number: usize) -> &'t str {
    text.lines().filter(|line| line.starts_with(start)).nth(number).unwrap()
}

#[test]
fn a_key_that_is_there_twice_is_refused() {
    let twice = YAML.replace("port_unencrypted: 22\n", "port_unencrypted: 22\nport_unencrypted: 22\n");
    assert!(refused(&twice).starts_with("it is no YAML or JSON of sops"), "{}", refused(&twice));
}

#[test]
fn files_of_kinds_that_cannot_be_read_are_told_by_kind() {
    let with = |more: &str| YAML.replace("    unencrypted_suffix: _unencrypted\n", more);
    assert!(refused("a: b\n").starts_with("it is not encrypted by sops: it has no `sops` key"));
    assert!(refused("{\"a\"").starts_with("it is no YAML or JSON of sops from line 1 on"));
    assert!(refused("a: [\n").starts_with("it is no YAML or JSON of sops"));
    assert!(refused(&with("    shamir_threshold: 2\n")).starts_with("it has key groups"));
    assert!(refused(&with("    encrypted_comment_regex: x\n")).starts_with("it is encrypted by comments"));
    let two = "    encrypted_suffix: a\n    encrypted_regex: b\n";
    assert!(refused(&with(two)).starts_with("it has more than one rule"));
    assert!(refused(&with("    encrypted_regex: \"(\"\n")).starts_with("its regular expression"));
}

#[test]
fn a_file_without_a_rule_has_the_usual_one() {
    assert!(decrypt(&YAML.replace("    unencrypted_suffix: _unencrypted\n", "")).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_changed_letter_of_a_value_goes_unseen(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9]") {
        // Between `data:` and the end of the tag of every value that is not a comment, and of the MAC.
        let spans = YAML.match_indices("ENC[").filter(|(start, _)| !YAML[..*start].ends_with('#'));
        let places: Vec<usize> = spans
            .flat_map(|(start, _)| {
                let end = start + YAML[start..].find(",type:").unwrap();
                (start + 4..end).filter(|i| YAML.as_bytes()[*i].is_ascii_alphanumeric())
            })
            .collect();
        let at = places[at.index(places.len())];
        let mut changed = YAML.to_owned();
        changed.replace_range(at..=at, &with);
        prop_assume!(changed != YAML);
        prop_assert!(decrypt(&changed).is_err());
    }
}
