//! What each format takes and refuses: examples, and properties over random contents.

use super::*;
use crate::supervisor::env_file;
use age::secrecy::ExposeSecret;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use ssh_key::{Algorithm, LineEnding, PrivateKey, rand_core::OsRng};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// 2026-11-22 18:00 UTC.
const NOW: i64 = 1_795_370_400;
const DAY: i64 = 86_400;

fn judge(format: Format, bytes: impl AsRef<[u8]>) -> Result<Vec<String>, Bad> {
    check(format, &Content::new(bytes.as_ref().to_vec()), &[], NOW)
}

#[track_caller]
fn refused(format: Format, bytes: impl AsRef<[u8]>) -> String {
    judge(format, bytes).expect_err("it was taken").to_string()
}

/// A certificate valid from and to these days from now, and its key.
fn pair(from: i64, to: i64) -> (String, String) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let mut params = CertificateParams::new(vec!["incus.test".to_owned()]).unwrap();
    let at = |day: i64| rcgen::date_time_ymd(2026, 11, 22) + std::time::Duration::from_secs(18 * 3600) + days(day);
    (params.not_before, params.not_after) = (at(from), at(to));
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn days(n: i64) -> std::time::Duration {
    std::time::Duration::from_secs(u64::try_from(n * DAY).unwrap())
}

static SSH: LazyLock<String> = LazyLock::new(|| {
    PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap().to_openssh(LineEnding::LF).unwrap().to_string()
});
static PEM_KEY: LazyLock<String> = LazyLock::new(|| KeyPair::generate().unwrap().serialize_pem());
static AGE: LazyLock<String> =
    LazyLock::new(|| age::x25519::Identity::generate().to_string().expose_secret().to_owned());

#[test]
fn an_empty_secret_is_refused_in_every_format() {
    for (name, format) in NAMES {
        for nothing in ["", "\n", " \n\t"] {
            assert_eq!(refused(*format, nothing), "it is empty; write the secret into its source", "{name}");
        }
    }
}

#[test]
fn a_dotenv_must_set_what_is_required() {
    let required = ["TOKEN".to_owned(), "USER".to_owned()];
    let judge =
        |text: &str| check(Format::Dotenv, &Content::new(text.into()), &required, NOW).map_err(|e| e.to_string());
    assert_eq!(judge("TOKEN=a\nexport USER='b'\nOTHER=\n"), Ok(vec![]));
    let add = "add each as `KEY=value`, or take it out of `required_keys`";
    assert_eq!(judge("OTHER=x"), Err(format!("it does not set `TOKEN`, `USER`; {add}")));
    assert_eq!(judge("#TOKEN=x\nUSER=x"), Err(format!("it does not set `TOKEN`; {add}")));
    let empty = "it sets `TOKEN` to nothing; write the value, or take it out of `required_keys`";
    assert_eq!(judge("TOKEN=x\nUSER=x\nTOKEN=''"), Err(empty.to_owned()));
    let bad =
        "as an env file it is wrong in line 2: has no `=` right after the variable name; write `KEY=value`; mend it";
    assert_eq!(judge("TOKEN=x\nhunter2"), Err(bad.to_owned()));
}

#[test]
fn an_ssh_key_is_taken_as_ssh_itself_would() {
    let key = SSH.as_str();
    assert_eq!(judge(Format::SshPrivateKey, key), Ok(vec![]));
    // As Go's and Python's libraries break lines.
    for width in [64, 76] {
        let body: String = key.lines().filter(|l| !l.starts_with('-')).collect();
        let lines: Vec<_> = body.as_bytes().chunks(width).map(|l| std::str::from_utf8(l).unwrap()).collect();
        let (begin, end) = (key.lines().next().unwrap(), key.lines().last().unwrap());
        assert_eq!(judge(Format::SshPrivateKey, format!("{begin}\n{}\n{end}\n", lines.join("\n"))), Ok(vec![]));
    }
    assert_eq!(judge(Format::SshPrivateKey, PEM_KEY.as_str()), Ok(vec![]));
    assert_eq!(
        refused(Format::SshPrivateKey, key.trim_end()),
        "its last line has no line break, without which ssh does not load it; add one"
    );
    let public = PrivateKey::from_openssh(key).unwrap().public_key().to_openssh().unwrap();
    assert!(refused(Format::SshPrivateKey, public + "\n").starts_with("it is a public key; "));
    let sealed = PrivateKey::from_openssh(key).unwrap().encrypt(&mut OsRng, "hunter2").unwrap();
    let sealed = sealed.to_openssh(LineEnding::LF).unwrap();
    assert!(refused(Format::SshPrivateKey, sealed.as_str()).starts_with("it is protected by a passphrase"));
}

#[test]
fn a_certificate_is_taken_while_it_is_valid_and_its_end_is_said_fourteen_days_ahead() {
    let judge = |from, to| judge(Format::PemCertificate, pair(from, to).0).map_err(|e| e.to_string());
    assert_eq!(judge(0, 15), Ok(vec![]));
    assert_eq!(judge(0, 14), Ok(vec!["it expires at 2026-12-06 18:00:00Z; renew it before".to_owned()]));
    let expired = "it expired at 2026-11-22 18:00:00Z; renew it, and put the new one into its source";
    assert_eq!(judge(0, 0), Err(expired.to_owned()));
    let early = "it is valid from 2026-11-23 18:00:00Z on only; is this machine's clock right?";
    assert_eq!(judge(1, 90), Ok(vec![early.to_owned()]));
}

#[test]
fn each_certificate_of_a_chain_must_be_valid() {
    let (leaf, root) = (pair(0, 100).0, pair(0, 0).0);
    let told = refused(Format::PemCertificate, format!("{leaf}{root}"));
    assert!(told.starts_with("certificate 2 of its chain expired at "), "{told}");
}

#[test]
fn a_certificate_must_be_for_its_private_key() {
    let ((cert, key), (_, other)) = (pair(0, 100), pair(0, 100));
    assert_eq!(matches(cert.as_bytes(), key.as_bytes(), NOW), Ok(()));
    let told = matches(cert.as_bytes(), other.as_bytes(), NOW).unwrap_err().to_string();
    assert_eq!(told, "it is for another private key; put the two of one pair into their sources");
}

#[test]
fn private_keys_of_every_usual_kind_are_taken() {
    for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(kind).unwrap().serialize_pem();
        assert_eq!(judge(Format::PemPrivateKey, &key), Ok(vec![]));
        assert_eq!(judge(Format::PemPrivateKey, format!("Bag Attributes\n{key}")), Ok(vec![]));
    }
}

#[test]
fn what_is_no_single_readable_private_key_is_refused() {
    let key = PEM_KEY.as_str();
    let twice = refused(Format::PemPrivateKey, format!("{key}{key}"));
    assert_eq!(twice, "it has more than one private key; keep the one that is meant");
    let none = refused(Format::PemPrivateKey, pair(0, 100).0);
    assert!(none.starts_with("it has no private key; "), "{none}");
    let sealed = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(refused(Format::PemPrivateKey, sealed).starts_with("it is protected by a passphrase"));
    assert!(refused(Format::PemCertificate, key).starts_with("it has no certificate; "));
}

#[test]
fn an_age_identity_is_taken_with_the_comments_of_its_generator() {
    let file = format!("# created: 2026-11-22\n# public key: age1xyz\n\n{}\n", *AGE);
    assert_eq!(judge(Format::AgeIdentity, file), Ok(vec![]));
    let public = age::x25519::Identity::generate().to_public().to_string();
    assert!(refused(Format::AgeIdentity, &public).starts_with("line 1 is an age public key"));
    assert!(refused(Format::AgeIdentity, "# only\n").starts_with("it has no age secret key"));
    let plugin = "AGE-PLUGIN-YUBIKEY-1QQQ";
    assert!(refused(Format::AgeIdentity, plugin).contains("of a kind that cannot be used here"));
    assert!(refused(Format::AgeIdentity, "age-encryption.org/v1\n-> x").starts_with("it is encrypted itself"));
}

#[test]
fn json_is_taken_whole_or_not_at_all() {
    assert_eq!(judge(Format::Json, "{\"a\": [1, null]}\n"), Ok(vec![]));
    let told = refused(Format::Json, "{\"hunter2\": tru}");
    assert_eq!(told, "it is no JSON from line 1, column 16 on; try it with `jq . FILE`");
}

/// A dotenv line as a careful writer makes it, whatever is in the value.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

/// The program that it is for, asked about the same file.
#[test]
fn every_kind_of_key_that_ssh_keygen_makes_is_taken_and_what_it_cannot_read_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let keygen =
        |args: &[&str]| Command::new("ssh-keygen").args(args).current_dir(dir.path()).stdin(Stdio::null()).output();
    if keygen(&["-?"]).is_err() {
        eprintln!("skipped: ssh-keygen is not installed");
        return;
    }
    for kind in [&["ed25519"][..], &["ecdsa", "-b", "384"], &["rsa", "-b", "2048"], &["rsa", "-b", "2048", "-m", "PEM"]]
    {
        let made = keygen(&[&["-q", "-N", "", "-C", "a comment", "-f", "key", "-t"], kind].concat()).unwrap();
        assert!(made.status.success(), "{made:?}");
        let path = dir.path().join("key");
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(judge(Format::SshPrivateKey, &whole), Ok(vec![]), "{kind:?}");
        for (what, changed) in
            [("no last line break", &whole[..whole.len() - 1]), ("a part", &whole[..whole.len() / 2])]
        {
            std::fs::write(&path, changed).unwrap();
            let theirs = keygen(&["-y", "-f", "key"]).unwrap().status.success();
            let ours = judge(Format::SshPrivateKey, changed).is_ok();
            assert!(!ours, "{kind:?}, {what}");
            assert!(!theirs || kind.contains(&"PEM"), "{kind:?}, {what}: ssh-keygen reads it");
        }
        for name in ["key", "key.pub"] {
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_content_makes_a_check_panic_or_shows_in_its_verdict(
        start in prop::sample::select(vec!["", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\n",
            "-----BEGIN PRIVATE KEY-----\n", "AGE-SECRET-KEY-1", "{\"", "K='"]),
        secret in "[a-zA-Z0-9+/]{12,60}",
        end in prop::sample::select(vec!["", "\n", "\n-----END OPENSSH PRIVATE KEY-----\n", "\n-----END CERTIFICATE-----\n",
            "\n-----END PRIVATE KEY-----\n", "'", "\"}"]),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut content = format!("{start}{secret}{end}").into_bytes();
        content.extend(bytes);
        for (_, format) in NAMES {
            let told = format!("{:?}", judge(*format, &content));
            prop_assert!(!told.contains(&secret), "{}", told);
        }
    }

    #[test]
    fn a_dotenv_is_taken_exactly_when_the_loops_can_load_it(text in "([A-Z_0-9]{0,3}[=' \"\\\\$#\n]{0,3}[a-z]{0,3}\n?){0,6}") {
        let loads = env_file::parse(text.as_bytes()).is_ok();
        let taken = judge(Format::Dotenv, &text).is_ok();
        prop_assert_eq!(taken, loads && !text.trim().is_empty());
    }

    #[test]
    fn every_value_can_be_required_and_is_found_in_a_dotenv(
        pairs in prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,8}", "[^\0]{1,20}", 1..6)
    ) {
        let text: String = pairs.iter().map(|(key, value)| format!("{key}={}\n", quoted(value))).collect();
        let required: Vec<_> = pairs.keys().cloned().collect();
        prop_assert_eq!(check(Format::Dotenv, &Content::new(text.clone().into()), &required, NOW), Ok(vec![]));
        let missing = [required, vec!["zz".to_owned()]].concat();
        prop_assert!(check(Format::Dotenv, &Content::new(text.into()), &missing, NOW).is_err());
    }

    #[test]
    fn an_ssh_key_with_a_byte_wrong_is_refused(at in any::<prop::sample::Index>(), with in prop::char::range('a', 'z')) {
        let key = SSH.as_str();
        // Behind that is the padding.
        let body: Vec<usize> = key.match_indices(|c: char| c.is_ascii_alphanumeric()).map(|(i, _)| i).filter(|i| (36..300).contains(i)).collect();
        let at = body[at.index(body.len())];
        let mut changed = key.to_owned();
        changed.replace_range(at..=at, &with.to_string());
        prop_assume!(changed != key);
        prop_assert!(judge(Format::SshPrivateKey, changed).is_err());
    }

    #[test]
    fn a_key_that_was_cut_off_is_refused(at in any::<prop::sample::Index>()) {
        for (format, whole) in [(Format::SshPrivateKey, &*SSH), (Format::PemPrivateKey, &*PEM_KEY), (Format::AgeIdentity, &*AGE)] {
            let end = at.index(whole.trim_end().len());
            let mut part = whole[..end].to_owned();
            part.push('\n');
            prop_assert!(judge(format, &part).is_err(), "{} of {} bytes", end, format.name());
        }
    }

    #[test]
    fn an_age_key_with_a_letter_wrong_is_refused(at in 16usize..74, with in prop::sample::select("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L".chars().collect::<Vec<_>>())) {
        let mut changed = AGE.clone();
        changed.replace_range(at..=at, &with.to_string());
        prop_assume!(changed != *AGE);
        let told = refused(Format::AgeIdentity, &changed);
        prop_assert!(told.starts_with("line 1 is no age secret key"), "{}", told);
    }

    #[test]
    fn json_that_a_writer_wrote_is_taken_and_a_part_of_it_is_not(
        map in prop::collection::btree_map(".{0,8}", prop::option::of(".{0,8}"), 1..5), at in any::<prop::sample::Index>()
    ) {
        let text = serde_json::to_vec(&map).unwrap();
        prop_assert!(judge(Format::Json, &text).is_ok());
        prop_assert!(judge(Format::Json, &text[..at.index(text.len())]).is_err());
    }
}
