use super::testing::{SmallDisk, names};
use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

fn text(bytes: &[u8]) -> Result<String, String> {
    match std::str::from_utf8(bytes) {
        Ok(t) if t.ends_with('.') => Ok(t.to_owned()),
        _ => Err("is torn".into()),
    }
}

#[test]
fn a_write_keeps_the_version_before_and_leaves_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    for content in ["one.", "two.", "three."] {
        write(&file, content.as_bytes(), 0o640).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "three.");
    assert_eq!(fs::read_to_string(previous(&file)).unwrap(), "two.");
    assert_eq!(names(dir.path()), ["a", "a.prev"]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn missing_parents_are_created_for_the_group_to_look_at_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("x/y/a"), b"one.", 0o640).unwrap();
    for folder in ["x", "x/y"] {
        assert_eq!(fs::metadata(dir.path().join(folder)).unwrap().permissions().mode() & 0o777, 0o750);
    }
}

#[test]
fn at_every_step_of_a_write_a_whole_version_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    for (old, new) in [("", "one."), ("one.", "two."), ("two.", "three.")] {
        let (at, log) = (file.clone(), seen.clone());
        let look = move |step| {
            let found = match inspect(&at, text).unwrap() {
                Read::Current(v) => v,
                Read::Absent => String::new(),
                other => panic!("after `{step}`: {other:?}"),
            };
            assert!(found == old || found == new, "after `{step}`: {found}");
            log.borrow_mut().push(step);
        };
        watch(look, || write(&file, new.as_bytes(), 0o640)).unwrap();
    }
    assert_eq!(seen.borrow().len(), 3 * 7);
}

#[test]
fn a_torn_current_version_is_set_aside_and_the_previous_one_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    for torn in ["", "tor", "\0\0\0\0"] {
        write(&file, b"one.", 0o640).unwrap();
        write(&file, b"two.", 0o640).unwrap();
        fs::write(&file, torn).unwrap();
        assert!(matches!(inspect(&file, text).unwrap(), Read::Recovered { set_aside: None, .. }));
        let Read::Recovered { value, set_aside: Some(aside), why } = read(&file, text).unwrap() else { panic!() };
        assert_eq!((value.as_str(), fs::read_to_string(aside).unwrap().as_str()), ("one.", torn));
        assert_eq!(why, format!("`{}` is torn", file.display()));
        // The file is now missing, which is no loss either, and says so again until it is written.
        assert!(matches!(read(&file, text).unwrap(), Read::Recovered { set_aside: None, .. }));
    }
    let aside = names(dir.path()).into_iter().filter(|n| n.starts_with("a.foreign-")).count();
    assert_eq!(aside, 3, "one was overwritten: {:?}", names(dir.path()));
}

#[test]
fn two_bad_versions_are_lost_and_never_absent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    assert_eq!(read(&file, text).unwrap(), Read::Absent);
    fs::write(&file, "tor").unwrap();
    let Read::Lost { set_aside, why } = read(&file, text).unwrap() else { panic!() };
    assert_eq!(set_aside.len(), 1);
    assert!(why.ends_with("is torn, and has no `.prev`"), "{why}");

    fs::write(&file, "tor").unwrap();
    fs::write(previous(&file), "n").unwrap();
    let Read::Lost { set_aside, .. } = read(&file, text).unwrap() else { panic!() };
    assert_eq!(set_aside.len(), 2);
    assert_eq!(set_aside.iter().map(|p| fs::read_to_string(p).unwrap()).collect::<Vec<_>>(), ["tor", "n"]);

    fs::write(previous(&file), "n").unwrap();
    assert!(matches!(read(&file, text).unwrap(), Read::Lost { .. }));
}

#[test]
fn what_cannot_be_read_is_an_error_and_not_absent() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    assert!(read(&folder, text).unwrap_err().to_string().contains("irectory"));
    assert!(read(&folder.join("x"), text).is_ok_and(|r| r == Read::Absent));
    fs::write(dir.path().join("file"), "x").unwrap();
    assert!(read(&dir.path().join("file/x"), text).is_err());
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(read(&fifo, text).unwrap_err().to_string().contains("no regular file"));
}

#[test]
fn a_state_file_says_what_it_is_and_a_newer_one_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("builder.json");
    type Data = BTreeMap<String, u32>;
    let data: Data = [("epoch".to_owned(), 4)].into();
    write_json(&file, "loop", 1, &data).unwrap();
    assert_eq!(read_json::<Data>(&file, "loop", 1).unwrap(), Read::Current(data.clone()));
    assert_eq!(read_json::<Data>(&file, "loop", 2).unwrap(), Read::Current(data));

    fs::write(&file, r#"{"format":"loop","version":7,"data":{},"more":1}"#).unwrap();
    let refused = read_json::<Data>(&file, "loop", 1).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "reading `{}`: it was written by a newer version (format 7, this one reads 1); \
             run that version, or move the file away",
            file.display()
        )
    );
    assert_eq!(names(dir.path()), ["builder.json"], "it was set aside");
}

#[test]
fn malformed_state_is_set_aside_and_not_taken_for_an_old_version() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.json");
    for (bad, why) in [
        ("", "is empty"),
        ("{\"format\":\"loop\",\"ver", "is malformed: EOF"),
        ("[]", "has the format `none` instead of `loop`"),
        (r#"{"format":"gate","version":9,"data":1}"#, "has the format `gate` instead of `loop`"),
        (r#"{"format":"loop","data":1}"#, "has no version"),
        (r#"{"format":"loop","version":0,"data":1}"#, "has no version"),
        (r#"{"format":"loop","version":"1","data":1}"#, "has no version"),
        (r#"{"format":"loop","version":1}"#, "has no data"),
        (r#"{"format":"loop","version":1,"data":"x"}"#, "is malformed: invalid type"),
    ] {
        fs::write(&file, bad).unwrap();
        let Read::Lost { why: said, .. } = read_json::<u32>(&file, "loop", 1).unwrap() else { panic!("{bad}") };
        assert!(said.contains(why), "{bad}: {said}");
    }
}

#[test]
fn a_bad_current_version_beside_a_newer_previous_one_moves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.json");
    fs::write(&file, "torn").unwrap();
    fs::write(previous(&file), r#"{"format":"loop","version":2,"data":1}"#).unwrap();
    assert!(matches!(read_json::<u32>(&file, "loop", 1), Err(DurableError::Newer { .. })));
    assert_eq!(names(dir.path()), ["a.json", "a.json.prev"]);
}

#[test]
fn a_sweep_removes_stale_temporary_files_of_ours_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(sweep(&dir.path().join("missing")).unwrap(), Vec::<PathBuf>::new());
    for name in [".a.x1.cc-ci-tmp", "a.cc-ci-tmp", ".a.tmp", "a", "a.prev"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    fs::create_dir(dir.path().join(".d.cc-ci-tmp")).unwrap();
    let (_held, temp) = create_temp(dir.path(), "held", 0o600).unwrap();
    assert_eq!(sweep(dir.path()).unwrap(), [dir.path().join(".a.x1.cc-ci-tmp")]);
    assert!(temp.exists(), "a living writer's file was taken");
    assert_eq!(names(dir.path()).len(), 6);
}

#[test]
fn a_full_disk_is_a_clear_error_that_leaves_the_earlier_versions_whole() {
    let Some(disk) = SmallDisk::mount() else { return };
    let file = disk.path().join("state/a");
    write(&file, b"one.", 0o640).unwrap();
    write(&file, b"two.", 0o640).unwrap();
    // 0: no page at all; one page: part of it is written.
    for left in [0, 4096] {
        disk.fill_but(left);
        let full = write(&file, &[b'x'; 9000], 0o640).unwrap_err();
        assert!(full.is_no_space());
        assert_eq!(
            full.to_string(),
            format!(
                "writing the new version of `{f}`: No space left on device (os error 28); free space there \
                 (`df -h {d}` and `df -i {d}` show how much is left)",
                f = file.display(),
                d = disk.path().join("state").display()
            )
        );
        assert_eq!(read(&file, text).unwrap(), Read::Current("two.".to_owned()));
        assert_eq!(fs::read_to_string(previous(&file)).unwrap(), "one.");
        assert_eq!(names(file.parent().unwrap()), ["a", "a.prev"]);
    }
    disk.free();
    write(&file, b"three.", 0o640).unwrap();
    assert_eq!(read(&file, text).unwrap(), Read::Current("three.".to_owned()));
}

#[test]
fn a_torn_file_is_still_set_aside_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else { return };
    let file = disk.path().join("a");
    write(&file, b"one.", 0o640).unwrap();
    write(&file, b"two.", 0o640).unwrap();
    fs::write(&file, "tor").unwrap();
    disk.fill_but(0);
    assert!(matches!(read(&file, text).unwrap(), Read::Recovered { set_aside: Some(_), .. }));
}

#[test]
fn threads_that_write_the_same_file_never_leave_a_torn_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    std::thread::scope(|scope| {
        for writer in 0..4_u8 {
            let file = &file;
            scope.spawn(move || (0..40).for_each(|_| write(file, &payload(writer), 0o640).unwrap()));
        }
        for _ in 0..400 {
            let found = inspect(&file, whole).unwrap();
            assert!(matches!(found, Read::Current(_) | Read::Absent), "{found:?}");
            sweep(dir.path()).unwrap();
        }
    });
    assert_eq!(names(dir.path()), ["a", "a.prev"]);
}

fn payload(writer: u8) -> Vec<u8> {
    vec![b'a' + writer; 20_000]
}

fn whole(bytes: &[u8]) -> Result<u8, String> {
    match bytes.first() {
        Some(first) if bytes.len() == 20_000 && bytes.iter().all(|b| b == first) => Ok(*first),
        _ => Err(format!("is torn after {} bytes", bytes.len())),
    }
}

const CHILD_FILE: &str = "CC_CI_TEST_DURABLE_FILE";
const CHILD_WRITES: &str = "CC_CI_TEST_DURABLE_WRITES";

/// Not a test of its own: what a process that [`child`] starts does.
#[test]
fn child_that_writes() {
    let Some(file) = std::env::var_os(CHILD_FILE) else { return };
    let writes: u32 = std::env::var(CHILD_WRITES).unwrap().parse().unwrap();
    for n in 0..writes {
        write(Path::new(&file), &payload(u8::try_from(n % 20).unwrap()), 0o640).unwrap();
    }
}

fn child(prefix: &[&str], file: &Path, writes: u32) -> Child {
    let test = "support::durable::tests::child_that_writes";
    let myself = std::env::current_exe().unwrap();
    let argv: Vec<_> = prefix.iter().map(Into::into).chain([myself, "--exact".into(), test.into()]).collect();
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).env(CHILD_FILE, file).env(CHILD_WRITES, writes.to_string());
    command.stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_writer_killed_at_any_moment_leaves_a_whole_file_beside_another_writer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    write(&file, &payload(0), 0o640).unwrap();
    let mut other = child(&[], &file, u32::MAX);
    // A test process takes its time to start; by now it writes.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !previous(&file).exists() {
        assert!(std::time::Instant::now() < end, "the other writer writes nothing");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for round in 0..30_u64 {
        let mut killed = child(&[], &file, u32::MAX);
        // No event tells when it is in the middle of a write; it is most of the time, and the rounds differ.
        std::thread::sleep(std::time::Duration::from_millis(5 + round));
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert!(matches!(inspect(&file, whole).unwrap(), Read::Current(_)));
        assert!(whole(&fs::read(previous(&file)).unwrap_or_else(|_| payload(0))).is_ok());
    }
    other.kill().unwrap();
    other.wait().unwrap();
    sweep(dir.path()).unwrap();
    assert_eq!(names(dir.path()), ["a", "a.prev"]);
}

#[test]
fn the_steps_come_in_the_order_that_a_power_cut_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let (file, trace) = (dir.path().join("f/a"), dir.path().join("trace"));
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: no strace");
        return;
    }
    let calls = "trace=write,fsync,link,linkat,rename,renameat,renameat2,mkdir,unlink,unlinkat,ftruncate";
    let traced = child(&["strace", "-f", "-y", "-e", calls, "-o", trace.to_str().unwrap()], &file, 2).wait();
    assert!(traced.unwrap().success());
    let trace = fs::read_to_string(trace).unwrap();
    let folder = dir.path().display().to_string();
    let steps: Vec<String> = trace.lines().filter(|l| l.contains(&folder)).map(|l| short(l, &folder)).collect();
    let folder_synced = if cfg!(feature = "test-skip-folder-fsync") { vec![] } else { vec!["fsync /f"] };
    let temp = "/f/.a.cc-ci-tmp";
    let expected = [
        vec!["mkdir /f".to_owned(), "fsync ".to_owned()],
        vec![format!("write {temp}"), format!("fsync {temp}")],
        vec![format!("linkat /f/a {temp}"), format!("rename {temp} /f/a")],
        folder_synced.iter().map(ToString::to_string).collect(),
        vec![format!("write {temp}"), format!("fsync {temp}")],
        vec![format!("linkat /f/a {temp}"), format!("rename {temp} /f/a"), format!("rename {temp} /f/a.prev")],
        vec![format!("unlink {temp}")],
        folder_synced.iter().map(ToString::to_string).collect(),
    ];
    assert_eq!(steps, expected.concat(), "{trace}");
}

/// `4711 rename("/tmp/x/f/.a.k2jd9s.cc-ci-tmp", "/tmp/x/f/a") = 0` as `rename /f/.a.cc-ci-tmp /f/a`.
fn short(line: &str, folder: &str) -> String {
    let call = line.split_once(' ').unwrap().1.trim_start().split('(').next().unwrap().replace("renameat", "rename");
    let paths = line.split(folder).skip(1).map(|rest| {
        let path = rest.split(['"', '>']).next().unwrap();
        match path.split_once("/.a.") {
            Some((before, _random)) => format!("{before}/.a.cc-ci-tmp"),
            None => path.to_owned(),
        }
    });
    format!("{call} {}", paths.collect::<Vec<_>>().join(" "))
}
