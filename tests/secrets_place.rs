//! `secrets-placer` places, checks, mends and prunes: what an operator sees and what is on the disk.

#![allow(clippy::unwrap_used, reason = "a test")]

mod secrets_kit;

use secrets_kit::{Lab, SECRET, Said, USER, picture, rights};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

#[test]
fn secrets_get_their_owner_group_mode_and_missing_folders() {
    let Some(lab) = Lab::simple() else { return };
    let key = lab.source("key", "k");
    let root = format!(
        "[secrets.root]\nsource = \"{}\"\npath = \"{}\"\nowner = \"root\"\n",
        key.display(),
        lab.path("etc/x").display()
    );
    let entries = [
        lab.entry("testenv", "home/.testenv", "mode = \"0600\""),
        lab.entry("key", "home/.a/b/key", "mode = \"0640\"\ngroup = \"64200\""),
        root,
    ];
    lab.manifest(&entries);
    let said = lab.place();
    assert_eq!(
        lab.plain(&said.out),
        "placed `root` at `LAB/etc/x`: missing\nplaced `testenv` at `LAB/home/.testenv`: missing\n\
         placed `key` at `LAB/home/.a/b/key`: missing\n3 secrets, 3 placed, 0 as they were\n"
    );
    assert_eq!(said.err, "");
    assert_eq!(rights(&lab.path("home/.testenv")), (USER, USER, 0o600));
    assert_eq!(rights(&lab.path("home/.a/b/key")), (USER, 64_200, 0o640));
    assert_eq!(rights(&lab.path("etc/x")), (0, 0, 0o400));
    for folder in ["home/.a", "home/.a/b"] {
        let (uid, _, mode) = rights(&lab.path(folder));
        assert_eq!((uid, mode), (USER, 0o700), "{folder}");
    }
    assert_eq!(lab.read("home/.testenv"), format!("TOKEN={SECRET}\n"));
}

#[test]
fn missing_folders_get_the_owners_own_group_whatever_the_files_group_is() {
    let Some(lab) = Lab::new() else { return };
    let Ok(Some(nobody)) = nix::unistd::User::from_name("nobody") else {
        eprintln!("skipped: there is no user `nobody`");
        return;
    };
    let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
    chown(lab.path("home"), Some(uid), Some(gid)).unwrap();
    lab.source("key", "k");
    let entry = lab.entry("key", "home/.a/b/key", "mode = \"0640\"\ngroup = \"64200\"");
    lab.manifest(&[entry.replace(&format!("owner = \"{USER}\""), "owner = \"nobody\"")]);
    lab.place();
    for folder in ["home/.a", "home/.a/b"] {
        assert_eq!(rights(&lab.path(folder)), (uid, gid, 0o700), "{folder}");
    }
    assert_eq!(rights(&lab.path("home/.a/b/key")), (uid, 64_200, 0o640));
}

#[test]
fn what_is_as_it_should_be_is_not_touched() {
    let Some(lab) = Lab::simple() else { return };
    lab.place();
    let before = picture(&lab.path(""));
    assert_eq!(lab.place().out, "1 secret, 0 placed, 1 as they were\n");
    assert_eq!(picture(&lab.path("")), before);
}

#[test]
fn drift_is_mended_and_said() {
    let Some(lab) = Lab::simple() else { return };
    let path = lab.path("home/.testenv");
    lab.place();
    fs::write(&path, "TOKEN=other\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    chown(&path, Some(USER), Some(64_200)).unwrap();
    let expected = format!("group 64200 instead of {USER}, mode 0644 instead of 0600, another content");
    assert!(lab.place().out.starts_with(&format!("placed `testenv` at `{}`: {expected}\n", path.display())));
    chown(&path, Some(0), Some(0)).unwrap();
    let expected = format!("owner 0 instead of {USER}, group 0 instead of {USER}, unreadable for its owner");
    assert!(lab.place().out.contains(&expected));
    assert_eq!(rights(&path), (USER, USER, 0o600));
    assert_eq!(lab.read("home/.testenv"), format!("TOKEN={SECRET}\n"));
    lab.source("testenv", "TOKEN=new\n");
    assert!(lab.place().out.contains("another content"));
    assert_eq!(lab.read("home/.testenv"), "TOKEN=new\n");
}

#[test]
fn check_changes_nothing_and_fails_on_any_difference() {
    let Some(lab) = Lab::simple() else { return };
    lab.manifest(&[lab.entry("testenv", "home/new/.testenv", "")]);
    let before = picture(&lab.path(""));
    let said = lab.run("check");
    assert_eq!(lab.plain(&said.out), "`testenv` at `LAB/home/new/.testenv`: missing\n1 secret, 1 difference\n");
    assert_eq!((said.code, said.err.as_str()), (1, ""));
    assert_eq!(picture(&lab.path("")), before);
    lab.place();
    assert_eq!(lab.run("check"), Said { code: 0, out: "1 secret, no difference\n".into(), err: String::new() });
}

#[test]
fn one_broken_secret_and_nothing_is_changed() {
    let Some(lab) = Lab::simple() else { return };
    lab.source("env", "A=b\n");
    lab.source("json", "{]");
    let entries = [
        lab.entry("testenv", "home/.testenv", "format = \"dotenv\"\nrequired_keys = [\"USER\"]"),
        lab.entry("env", "home/env", ""),
        lab.entry("json", "home/json", "format = \"json\""),
        lab.entry("gone", "home/gone", ""),
    ];
    lab.manifest(&entries);
    let home = picture(&lab.path("home"));
    let said = lab.run("place");
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert_eq!(
        lab.plain(&said.err),
        "secrets-placer: reading the secret `gone` from `LAB/src/gone`: it is not there; was it decrypted already, and \
         under that name?\n\
         secrets-placer: checking the secret `json` from `LAB/src/json` as `json`: it is no JSON from line 1, column 2 on; \
         try it with `jq . FILE`\n\
         secrets-placer: checking the secret `testenv` from `LAB/src/testenv` as `dotenv`: it does not set `USER`; add each \
         as `KEY=value`, or take it out of `required_keys`\n\
         secrets-placer: checking all secrets first: 3 cannot be placed; nothing was changed\n"
    );
    assert_eq!(picture(&lab.path("home")), home);
}

#[test]
fn a_certificate_for_another_key_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let pair = |_| {
        let key = rcgen::KeyPair::generate().unwrap();
        (rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let [(crt, key), (_, other)] = [0, 1].map(pair);
    lab.source("crt", crt);
    lab.source("key", other);
    let entries = [
        lab.entry("crt", "home/crt", "format = \"pem-certificate\"\nprivate_key = \"key\""),
        lab.entry("key", "home/key", "format = \"pem-private-key\""),
    ];
    lab.manifest(&entries);
    let said = lab.run("place");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("checking the secret `crt` with its private key `key`: it is for another private key"));
    assert_eq!(fs::read_dir(lab.path("home")).unwrap().count(), 0);
    lab.source("key", key);
    lab.place();
}

#[test]
fn a_source_that_is_no_sound_file_is_refused() {
    let Some(lab) = Lab::simple() else { return };
    let source = lab.path("src/testenv");
    let told = || {
        let said = lab.run("place");
        assert_eq!(said.code, 1, "{said:?}");
        said.err.lines().next().unwrap().rsplit_once("testenv`: ").unwrap().1.to_owned()
    };
    fs::remove_file(&source).unwrap();
    fs::create_dir(&source).unwrap();
    assert_eq!(told(), "it is no regular file; name one");
    fs::remove_dir(&source).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &source, rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(told(), "it is no regular file; name one");
    fs::remove_file(&source).unwrap();
    fs::write(&source, vec![b'x'; (1 << 20) + 1]).unwrap();
    assert_eq!(told(), "it has more than 1048576 bytes; name another file");
    assert!(!lab.path("home/.testenv").exists());
}

#[test]
fn a_source_that_everybody_can_read_is_warned_of() {
    let Some(lab) = Lab::simple() else { return };
    fs::set_permissions(lab.path("src/testenv"), Permissions::from_mode(0o644)).unwrap();
    let expected = "warning: checking the secret `testenv` from `LAB/src/testenv`: everybody on this machine can read that \
                    file; `chmod o-r` it\n";
    assert_eq!(lab.plain(&lab.place().err), expected);
}

#[test]
fn a_credential_of_the_service_is_a_source() {
    let Some(lab) = Lab::simple() else { return };
    let text = fs::read_to_string(lab.path("m.toml")).unwrap();
    let source = format!("source = \"{}\"", lab.path("src/testenv").display());
    fs::write(lab.path("m.toml"), text.replace(&source, "credential = \"testenv\"")).unwrap();
    let without = lab.run("place");
    assert_eq!(without.code, 1);
    assert!(without.err.contains("add `LoadCredential=testenv:FILE` to its unit"), "{without:?}");
    let with = lab.command("place").env("CREDENTIALS_DIRECTORY", lab.path("src")).output().unwrap();
    assert_eq!(Said::of(with).code, 0);
    assert_eq!(lab.read("home/.testenv"), format!("TOKEN={SECRET}\n"));
}

#[test]
fn prune_removes_what_was_placed_and_is_named_no_more_and_nothing_else() {
    let Some(lab) = Lab::simple() else { return };
    for name in ["gone", "edited", "replaced"] {
        lab.source(name, SECRET);
    }
    let keep = lab.entry("testenv", "home/.testenv", "");
    let stale = ["gone", "edited", "replaced"].map(|name| lab.entry(name, &format!("home/{name}"), "mode = \"0600\""));
    lab.manifest(&[&stale[..], std::slice::from_ref(&keep)].concat());
    lab.place();
    fs::write(lab.path("home/edited"), "mine").unwrap();
    fs::remove_file(lab.path("home/replaced")).unwrap();
    std::os::unix::fs::symlink(lab.path("src/gone"), lab.path("home/replaced")).unwrap();
    fs::write(lab.path("home/other"), "never placed").unwrap();
    assert_eq!(lab.run("prune").out, "0 removed\n", "all are named");
    lab.manifest(&[keep]);
    let stale = lab.run("check");
    assert_eq!((stale.code, stale.out.matches("an earlier manifest placed it").count()), (1, 3), "{stale:?}");
    let said = lab.run("prune");
    assert_eq!(lab.plain(&said.out), "removed `LAB/home/gone`, which was `gone`\n1 removed\n");
    assert_eq!(
        lab.plain(&said.err),
        "secrets-placer: removing `LAB/home/edited`, which was `edited`: somebody changed it since; remove it by hand if \
         nobody needs it: `rm LAB/home/edited`\n\
         secrets-placer: removing what was `replaced`: looking at `LAB/home/replaced`: it is a symlink, not a file; move it \
         away\n\
         secrets-placer: removing stale secrets: 2 were left; see above\n"
    );
    assert_eq!(said.code, 1);
    let mut names: Vec<_> = fs::read_dir(lab.path("home")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".testenv", "edited", "other", "replaced"]);
    fs::remove_file(lab.path("home/edited")).unwrap();
    fs::remove_file(lab.path("home/replaced")).unwrap();
    assert_eq!(lab.run("prune").code, 0, "what is gone is forgotten");
    assert_eq!(lab.run("check").code, 0);
}

#[test]
fn status_tells_names_and_states_and_no_content() {
    let Some(lab) = Lab::simple() else { return };
    let state = || {
        let said = Said::of(lab.command("status").arg("--json").output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        assert!(!said.out.contains(SECRET));
        serde_json::from_str::<serde_json::Value>(&said.out).unwrap()
    };
    assert_eq!(state()["secrets"][0]["state"], "missing");
    lab.place();
    let placed = state();
    assert_eq!(placed["secrets"][0]["state"], "placed");
    assert_eq!(placed["secrets"][0]["mode"], "0600");
    assert!(lab.run("status").out.starts_with("testenv  placed   "));
    fs::write(lab.path("home/.testenv"), "x").unwrap();
    assert_eq!(state()["secrets"][0]["state"], "changed");
    lab.manifest(&[lab.entry("testenv", "home/elsewhere", "")]);
    assert_eq!(state()["stale"][0], lab.path("home/.testenv").to_str().unwrap());
}

#[test]
fn exit_codes_tell_bad_manifests_and_busy_placers_apart() {
    let Some(lab) = Lab::simple() else { return };
    let code = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_secrets-placer")).args(args).output().unwrap().status.code().unwrap()
    };
    assert_eq!(code(&["bogus"]), 2);
    assert_eq!(code(&["check", "--manifest", "/nowhere"]), 2);
    fs::write(lab.path("bad.toml"), "[secrets.a]\n").unwrap();
    let said = Said::of(
        Command::new(env!("CARGO_BIN_EXE_secrets-placer"))
            .args(["place", "--manifest"])
            .arg(lab.path("bad.toml"))
            .output()
            .unwrap(),
    );
    assert_eq!(said.code, 2);
    assert!(
        lab.plain(&said.err).ends_with("\n\nsecrets-placer: check the config `LAB/bad.toml`: 2 errors\n"),
        "{said:?}"
    );
    assert_eq!(lab.command("check").arg("--static").output().unwrap().status.code(), Some(0));
    lab.place();
    let lock = fs::File::open(lab.path("state/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let said = lab.run("place");
    assert_eq!(said.code, 3);
    assert!(said.err.contains("another secrets-placer is at work"), "{said:?}");
}

/// A systemctl that writes down what it is told, and knows one active unit.
fn with_systemctl(lab: &Lab, verb: &str, fails: bool) -> (Said, String) {
    let bin = lab.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let calls = lab.path("calls");
    let end = if fails { "echo no bus >&2; exit 1" } else { "exit 0" };
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>{}\ncase $1 in is-active) [ \"$4\" = on.service ]; exit;; esac\n{end}\n",
        calls.display()
    );
    fs::write(bin.join("systemctl"), script).unwrap();
    fs::set_permissions(bin.join("systemctl"), Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let said = Said::of(lab.command(verb).env("PATH", path).output().unwrap());
    let told = fs::read_to_string(&calls).unwrap_or_default();
    let _ = fs::remove_file(calls);
    (said, told)
}

#[test]
fn units_are_told_of_a_change_once_and_never_waited_for() {
    let Some(lab) = Lab::simple() else { return };
    let more = "try_restart = [\"a.service\"]\nreload = [\"on.service\", \"off.service\", \"a.service\"]";
    lab.manifest(&[lab.entry("testenv", "home/.testenv", more)]);
    let (said, told) = with_systemctl(&lab, "place", true);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("running `systemctl try-restart a.service`: no bus; do it by hand: "), "{said:?}");
    assert!(told.contains("--no-block try-restart -- a.service"), "{told}");
    let (said, told) = with_systemctl(&lab, "place", false);
    assert_eq!(said.out, "1 secret, 0 placed, 1 as they were\n");
    assert_eq!(
        told, "--no-block try-restart -- a.service\nis-active --quiet -- on.service\n--no-block reload -- on.service\n",
        "what failed is owed; a unit that is off needs nothing"
    );
    assert_eq!(with_systemctl(&lab, "place", false).1, "", "nothing changed");
}

#[test]
fn a_full_disk_changes_nothing() {
    let Some(lab) = Lab::simple() else { return };
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k,mode=755", "cc-test"])
        .arg(lab.path("home"))
        .output();
    if !mount.is_ok_and(|done| done.status.success()) {
        eprintln!("skipped: mounting is not permitted");
        return;
    }
    chown(lab.path("home"), Some(USER), Some(USER)).unwrap();
    lab.source("small", "new");
    lab.source("large", vec![b'x'; 100_000]);
    fs::write(lab.path("home/small"), "old").unwrap();
    chown(lab.path("home/small"), Some(USER), Some(USER)).unwrap();
    lab.manifest(&[lab.entry("small", "home/small", ""), lab.entry("large", "home/zlarge", "")]);
    let said = lab.run("place");
    let left = picture(&lab.path("home")).len();
    let small = lab.read("home/small");
    assert!(Command::new("umount").arg(lab.path("home")).status().unwrap().success());
    assert_eq!((said.code, small.as_str(), left), (1, "old", 2), "{said:?}");
    assert!(said.err.contains("no space left on device; free space there\n"), "{said:?}");
    assert!(said.err.ends_with("nothing was changed\n"));
}

#[test]
fn what_a_run_that_was_cut_off_left_is_cleared_away() {
    let Some(lab) = Lab::simple() else { return };
    lab.place();
    let left = lab.path("home/..testenv.cc-ci-tmp");
    fs::write(&left, SECRET).unwrap();
    chown(&left, Some(USER), Some(USER)).unwrap();
    assert!(lab.place().out.contains("a temporary file of a run that was cut off"));
    assert!(!left.exists());
}

#[test]
fn many_secrets_are_placed_at_once() {
    let Some(lab) = Lab::new() else { return };
    let entries: Vec<_> = (0..60)
        .map(|n| {
            lab.source(&format!("s{n}"), format!("{n} {SECRET}"));
            lab.entry(&format!("s{n}"), &format!("home/f{}/s{n}", n % 3), "")
        })
        .collect();
    lab.manifest(&entries);
    assert!(lab.place().out.ends_with("60 secrets, 60 placed, 0 as they were\n"));
    for n in 0..60 {
        assert_eq!(lab.read(&format!("home/f{}/s{n}", n % 3)), format!("{n} {SECRET}"));
    }
    let inodes: Vec<_> =
        (0..60).map(|n| lab.path(&format!("home/f{}/s{n}", n % 3)).metadata().unwrap().ino()).collect();
    lab.source("s7", "changed");
    assert!(lab.place().out.ends_with("60 secrets, 1 placed, 59 as they were\n"));
    let again: Vec<_> = (0..60).map(|n| lab.path(&format!("home/f{}/s{n}", n % 3)).metadata().unwrap().ino()).collect();
    assert_eq!(inodes.iter().zip(&again).filter(|(a, b)| a != b).count(), 1);
}
