//! What a manifest can say, and each fault of one with its place and remedy.

use super::*;
use crate::support::config::parse::ConfigErrors;
use std::path::Path;

fn entry(lines: &str) -> String {
    format!("[secrets.a]\npath = \"/srv/x/a\"\nowner = \"root\"\nsource = \"/run/secrets/a\"\n{lines}\n")
}

fn manifest(text: &str) -> Manifest {
    read(text, Path::new("/m.toml")).unwrap_or_else(|e| panic!("{e}")).value
}

/// The faults of a text: their line, message and help.
fn faults(text: &str) -> Vec<(usize, String, String)> {
    match read(text, Path::new("/m.toml")) {
        Err(ConfigErrors::Faults { diagnostics, .. }) => {
            diagnostics.into_iter().map(|d| (d.line, d.message, d.help)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// The only fault of a text.
#[track_caller]
fn fault(text: &str) -> (usize, String, String) {
    let mut all = faults(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

#[test]
fn a_manifest_is_read_with_its_defaults() {
    let read = manifest(&entry(""));
    assert_eq!(read.state_dir, Path::new("/var/lib/cc-ci-secrets"));
    assert_eq!(read.age_key_file, Path::new("/var/lib/sops-nix/key.txt"));
    let a = &read.secrets[&SecretName("a".into())];
    assert_eq!((a.mode, a.format, a.group.clone()), (0o400, Format::Any, None));
    assert_eq!((a.sops_key.as_str(), &a.owner), ("a", &Account::Name("root".into())));
}

#[test]
fn a_full_entry_is_read() {
    let read = manifest(
        "[secrets.\"incus.crt\"]\npath = \"/srv/./x//c\"\nowner = \"1000\"\ngroup = \"incus\"\nmode = \"0640\"\n\
         credential = \"crt\"\nsops_key = \"incus/crt\"\nformat = \"pem-certificate\"\nprivate_key = \"key\"\n\
         try_restart = [\"a@b.service\"]\nreload = [\"c.socket\"]\n[secrets.key]\npath = \"/srv/x/k\"\nowner = \"root\"\n\
         format = \"pem-private-key\"\n",
    );
    let entry = &read.secrets[&SecretName("incus.crt".into())];
    let unit = |name: &str| UnitName::try_from(name.to_owned()).unwrap();
    let expected = Entry {
        source: Some(Source::Credential("crt".into())),
        sops_key: "incus/crt".into(),
        path: "/srv/x/c".into(),
        owner: Account::Id(1000),
        group: Some(Account::Name("incus".into())),
        mode: 0o640,
        format: Format::PemCertificate,
        required_keys: vec![],
        private_key: Some(SecretName("key".into())),
        try_restart: vec![unit("a@b.service")],
        reload: vec![unit("c.socket")],
    };
    assert_eq!(*entry, expected);
}

#[test]
fn an_unknown_key_is_refused_and_the_one_that_was_meant_is_named() {
    let (line, message, help) = fault(&entry("moed = \"0400\""));
    assert_eq!((line, message.as_str()), (5, "unknown key `moed` in `[secrets.a]`"));
    assert!(help.starts_with("did you mean `mode`? "), "{help}");
}

#[test]
fn all_faults_are_told_at_once() {
    let text = "bogus = 1\n[secrets.A]\npath = \"relative\"\nmode = \"0666\"\nformat = \"pem\"\n";
    let lines: Vec<_> = faults(text).into_iter().map(|(line, message, _)| format!("{line}: {message}")).collect();
    assert_eq!(
        lines,
        [
            "1: unknown key `bogus` at the top level",
            "2: missing key `owner` in `[secrets.A]`",
            "2: `A` cannot be the name of a secret",
            "3: `path` must be an absolute path: `relative`",
            "4: the mode `0666` is wider than `0640`",
            "5: unknown value `pem` for `format`",
        ]
    );
}

#[test]
fn a_mode_may_be_0640_at_most_and_lets_the_owner_read() {
    for mode in ["0400", "0440", "0600", "640"] {
        manifest(&entry(&format!("mode = \"{mode}\"")));
    }
    for mode in ["0644", "0660", "0700", "4600", "0601", "0650", "777"] {
        let (_, message, help) = fault(&entry(&format!("mode = \"{mode}\"")));
        assert_eq!(message, format!("the mode `{mode}` is wider than `0640`"));
        assert_eq!(help, "use `0400`, `0440`, `0600` or `0640`; a group can be given by `group`");
    }
    assert_eq!(fault(&entry("mode = \"0200\"")).1, "with the mode `0200` its owner cannot read it");
    for mode in ["64", "0o640", "u=rw", "+640", "00640", "0648"] {
        assert_eq!(fault(&entry(&format!("mode = \"{mode}\""))).1, format!("`{mode}` is no mode"));
    }
}

#[test]
fn a_path_where_no_secret_belongs_is_refused() {
    let long = format!("/srv/{}", "x".repeat(241));
    for (path, expected) in [
        ("/nix/store/x/a", "`/nix/store/x/a` is in the Nix store, which everybody can read"),
        ("/proc/self/x", "`/proc/self/x` is where the kernel's own files are"),
        ("/dev/x", "`/dev/x` is where the kernel's own files are"),
        ("/srv/../etc/x", "`/srv/../etc/x` has `..` in it"),
        ("/srv/x/", "`/srv/x/` names a folder"),
        ("/", "`/` names a folder"),
        (&long, "has a file name of more than 240 bytes"),
        ("/var/lib/cc-ci-secrets/x", "`/var/lib/cc-ci-secrets/x` is the placer's own"),
        ("/var/lib/sops-nix/key.txt", "`/var/lib/sops-nix/key.txt` is the placer's own"),
        ("/run/secrets/a", "`path` and `source` are the same file"),
    ] {
        let (line, message, _) = fault(&entry("").replace("/srv/x/a", path));
        assert!(line == 2 && message.contains(expected), "{path}: {line}: {message}");
    }
}

#[test]
fn no_two_secrets_share_a_path_or_stand_in_each_others_way() {
    let two = |path: &str| format!("{}[secrets.b]\npath = \"{path}\"\nowner = \"root\"\n", entry(""));
    assert_eq!(fault(&two("/srv//x/./a")).1, "`b` and `a` have the same path `/srv/x/a`");
    assert_eq!(fault(&two("/srv/x/a/b")).1, "`/srv/x/a` is a folder for `b` and a file for `a`");
    assert_eq!(manifest(&two("/srv/x/ab")).secrets.len(), 2);
}

#[test]
fn a_source_is_one_and_its_name_is_no_path() {
    assert_eq!(fault(&entry("credential = \"a\"")).1, "a secret has `source` and `credential`");
    for name in ["../a", "", ".."] {
        let text = entry("").replace("source = \"/run/secrets/a\"", &format!("credential = \"{name}\""));
        assert_eq!(fault(&text).1, format!("`{name}` cannot be the name of a credential"));
    }
    assert_eq!(fault(&entry("sops_key = \"a//b\"")).1, "`a//b` is no key in a sops file");
}

#[test]
fn a_loop_is_never_restarted_for_a_secret() {
    for (unit, expected) in [
        ("cc-ci-session@builder.service", "is a loop's unit, and a changed secret never ends an agent's work"),
        ("cc-ci-session@.service", "is a loop's unit"),
        ("cc-ci-s*.service", "is not the name of such a unit"),
        ("cc-ci-session?builder.service", "is not the name of such a unit"),
        ("multi-user.target", "is not the name of such a unit"),
        ("system.slice", "is not the name of such a unit"),
        ("nginx", "is not the name of such a unit"),
        ("--all.service", "is not the name of such a unit"),
        ("a b.service", "is not the name of such a unit"),
        ("cc-ci-secrets.service", "is what places the secrets"),
    ] {
        for key in ["try_restart", "reload"] {
            let (_, message, _) = fault(&entry(&format!("{key} = [\"{unit}\"]")));
            assert!(message.contains(expected), "{unit}: {message}");
        }
    }
}

#[test]
fn keys_of_one_format_mean_nothing_for_another() {
    let told = fault(&entry("required_keys = [\"A\"]"));
    assert_eq!(told.1, "`required_keys` means nothing for the format `any`");
    let told = fault(&entry("format = \"dotenv\"\nrequired_keys = [\"A-B\"]"));
    assert_eq!(told.1, "`A-B` cannot be the name of a variable");
    let told = faults(&entry("private_key = \"a\""));
    assert_eq!(told[0].1, "`private_key` means nothing for the format `any`");
}

#[test]
fn a_certificate_names_a_secret_that_is_a_private_key() {
    let text = |key: &str| {
        entry(&format!("format = \"pem-certificate\"\nprivate_key = \"{key}\""))
            + "[secrets.key]\npath = \"/srv/x/k\"\nowner = \"root\"\n"
    };
    let (line, message, help) = fault(&text("kez"));
    assert_eq!((line, message.as_str(), help.as_str()), (6, "there is no secret `kez`", "did you mean `key`?"));
    assert_eq!(fault(&text("key")).1, "the secret `key` has the format `any`");
}

#[test]
fn an_owner_is_a_name_or_a_number() {
    let with = |owner: &str| entry("").replace("\"root\"", &format!("\"{owner}\""));
    for owner in ["4294967295", "12a", "", "-x", "a:b"] {
        assert_eq!(fault(&with(owner)).1, format!("`{owner}` cannot be an `owner`"));
    }
}

#[test]
fn users_and_groups_that_the_machine_does_not_know_are_told_with_their_place() {
    let text = entry("group = \"no-such-group-here\"")
        + "[secrets.b]\npath = \"/srv/x/b\"\nowner = \"no-such-user-here\"\n\
        [secrets.c]\npath = \"/srv/x/c\"\nowner = \"4000000000\"\n";
    let parsed = read(&text, Path::new("/m.toml")).unwrap();
    let Err(ConfigErrors::Faults { diagnostics, .. }) = accounts::resolve(&parsed, Path::new("/m.toml")) else {
        panic!("taken");
    };
    let told: Vec<_> = diagnostics.iter().map(|d| format!("{}: {}; {}", d.line, d.message, d.help)).collect();
    assert_eq!(
        told,
        [
            "5: there is no group `no-such-group-here` on this machine; create it before, or write another `group`",
            "8: there is no user `no-such-user-here` on this machine; create it before, or write another `owner`",
            "11: the user `4000000000` has no entry in the user database, so no group is known; create it before, or \
             write another `owner`",
        ]
    );
}

#[test]
fn an_identity_is_that_of_the_user_database() {
    let parsed = read(&entry("group = \"4242\""), Path::new("/m.toml")).unwrap();
    let found = accounts::resolve(&parsed, Path::new("/m.toml")).unwrap();
    let root = accounts::Identity { uid: 0, gid: 4242, primary: 0, groups: vec![], name: "root".into() };
    assert_eq!(found.into_values().collect::<Vec<_>>(), [root]);
}

#[test]
fn what_is_no_manifest_file_is_said_with_the_option_that_names_another() {
    let dir = tempfile::tempdir().unwrap();
    let told = |path: &Path| read_file(path).unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "DIR");
    let file = dir.path().join("f");
    assert_eq!(told(&file), "read the config `DIR/f`: it is not there; name another with `--manifest FILE`");
    assert_eq!(told(dir.path()), "read the config `DIR`: it is a folder; name a TOML file with `--manifest FILE`");
    std::fs::File::create(&file).unwrap().set_len((4 << 20) + 1).unwrap();
    assert_eq!(
        told(&file),
        "read the config `DIR/f`: it has 4194305 bytes, of at most 4194304; name a TOML file with `--manifest FILE`"
    );
}
