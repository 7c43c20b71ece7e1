use super::*;
use crate::supervisor::names::LoopName;
use crate::support::durable::testing::{SmallDisk, names};
use crate::support::durable::watch;
use serde_json::Value;
use std::fs;

fn entry(n: u64) -> Entry {
    Entry { epoch: Some(n), ..Entry::new(Now { wall: 0, boot: n }, "hold", format!("reason {n}")) }
}

fn of_loop(n: u64, name: &str) -> Entry {
    Entry { loop_name: Some(name.parse().unwrap()), ..entry(n) }
}

fn settled(n: usize) -> Entry {
    Entry::new(Now::default(), "phase-settled", "").with_evidence(json!({ "index": n }))
}

fn append(journal: &mut Journal, entry: &Entry) {
    assert!(matches!(journal.append(entry, Sync::No).unwrap(), Appended::Written));
}

fn open_with_limit(dir: &Path, limit: u64) -> Journal {
    let mut journal = Journal::open(dir).unwrap();
    (journal.limit, journal.rotate_above) = (limit, limit);
    journal
}

/// The epochs of all entries, oldest first.
fn epochs(dir: &Path) -> Vec<u64> {
    read(dir, Filter::default()).unwrap().filter_map(|e| e.unwrap().epoch).collect()
}

fn decisions(dir: &Path) -> Vec<String> {
    read(dir, Filter::default()).unwrap().map(|e| e.unwrap().decision).collect()
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), to.path().join(&name)).unwrap();
    }
    to
}

#[test]
fn what_was_appended_is_read_back_in_order_and_by_loop() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(tail(dir.path(), 9, None).unwrap(), []);
    let mut journal = Journal::open(&dir.path().join("new")).unwrap();
    let entries = [of_loop(1, "builder"), entry(2), of_loop(3, "adversary"), of_loop(4, "builder")];
    for e in &entries {
        append(&mut journal, e);
    }
    let dir = dir.path().join("new");
    assert_eq!(read(&dir, Filter::default()).unwrap().collect::<Result<Vec<_>, _>>().unwrap(), entries);
    let builder: LoopName = "builder".parse().unwrap();
    let only = Filter { loop_name: Some(builder.clone()) };
    assert_eq!(read(&dir, only).unwrap().map(|e| e.unwrap().epoch).collect::<Vec<_>>(), [Some(1), Some(4)]);
    assert_eq!(tail(&dir, 3, None).unwrap(), entries[1..]);
    assert_eq!(tail(&dir, 1, Some(&builder)).unwrap(), entries[3..]);
}

#[test]
fn rotation_keeps_three_older_files_and_carries_the_last_phase_entry_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with_limit(dir.path(), 1000);
    append(&mut journal, &settled(5));
    for n in 0..100 {
        append(&mut journal, &entry(n));
        assert_eq!(last_phase(dir.path()).unwrap(), Some(LastPhase::Settled(5)), "after {n}");
    }
    let files = ["journal.jsonl", "journal.jsonl.1", "journal.jsonl.2", "journal.jsonl.3"];
    assert_eq!(names(dir.path()), files);
    assert!(files.iter().all(|f| fs::metadata(dir.path().join(f)).unwrap().len() <= 1000));
    let kept = epochs(dir.path());
    assert!(kept.len() > 12 && kept.len() < 40, "{kept:?}");
    assert!(kept.windows(2).all(|w| w[0] + 1 == w[1]) && kept.last() == Some(&99), "{kept:?}");
    // The repeated entry is no decision of its own.
    assert_eq!(decisions(dir.path()).iter().filter(|d| *d == "phase-settled").count(), 0);
    assert_eq!(tail(dir.path(), 20, None).unwrap().len(), kept.len().min(20));
    assert_eq!(Journal::open(dir.path()).unwrap().last_phase(), Some(LastPhase::Settled(5)));
}

#[test]
fn a_power_cut_at_any_step_of_a_rotation_loses_no_entry_and_no_phase() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with_limit(dir.path(), 600);
    append(&mut journal, &settled(5));
    let mut written = 0;
    let mut looked = 0;
    let images = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    while written < 30 {
        let (from, to) = (dir.path().to_owned(), images.clone());
        let look = move |step| to.borrow_mut().push((step, copy(&from)));
        watch(look, || append(&mut journal, &entry(written)));
        for (step, image) in images.take() {
            let mut after = open_with_limit(image.path(), 600);
            assert_eq!(after.last_phase(), Some(LastPhase::Settled(5)), "{step} of {written}");
            assert_eq!(last_phase(image.path()).unwrap(), Some(LastPhase::Settled(5)), "{step} of {written}");
            // It goes on as if nothing had been, and the files that are kept have no gap.
            append(&mut after, &entry(written + 1));
            let mut kept = epochs(image.path());
            let last = kept.pop().unwrap();
            assert_eq!(last, written + 1, "{step}");
            assert!(kept.windows(2).all(|w| w[0] + 1 == w[1]), "{step} of {written}: {kept:?}");
            assert!(kept.last().is_none_or(|l| l + 1 >= written), "{step} of {written}: {kept:?}");
            assert!(kept.len() as u64 >= written.min(6), "{step} of {written}: {kept:?}");
            looked += 1;
        }
        written += 1;
    }
    assert!(looked > 100);
}

#[test]
fn a_torn_last_line_is_dropped_at_open_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.jsonl");
    for torn in ["{\"time\":\"2026", "\0\0\0\0", &"x".repeat(20_000)] {
        append(&mut Journal::open(dir.path()).unwrap(), &entry(1));
        let whole = fs::read(&file).unwrap();
        fs::write(&file, [&whole, torn.as_bytes()].concat()).unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        append(&mut journal, &entry(2));
        assert!(fs::read(&file).unwrap().starts_with(&whole));
        let said = tail(dir.path(), 2, None).unwrap().remove(0);
        assert_eq!((said.decision.as_str(), &said.evidence["bytes"]), ("journal-tail-dropped", &json!(torn.len())));
        let mut all = read(dir.path(), Filter::default()).unwrap();
        assert!(all.by_ref().all(|e| e.is_ok()) && all.unreadable() == 0);
    }
    // Nothing but a torn line.
    fs::write(&file, "{").unwrap();
    assert_eq!(decisions(dir.path()), [""; 0]);
    Journal::open(dir.path()).unwrap();
    assert_eq!(decisions(dir.path()), ["journal-tail-dropped"]);
}

#[test]
fn a_last_line_that_lost_only_its_newline_stays() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut Journal::open(dir.path()).unwrap(), &entry(1));
    let file = dir.path().join("journal.jsonl");
    let mut bytes = fs::read(&file).unwrap();
    assert_eq!(bytes.pop(), Some(b'\n'));
    fs::write(&file, bytes).unwrap();
    append(&mut Journal::open(dir.path()).unwrap(), &entry(2));
    assert_eq!(epochs(dir.path()), [1, 2]);
}

#[test]
fn lines_that_cannot_be_read_are_skipped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    append(&mut journal, &entry(1));
    let file = dir.path().join("journal.jsonl");
    let bytes = [fs::read(&file).unwrap(), b"torn\n\xff\xfe\n{\"time\":\"x\"}\n".to_vec()].concat();
    fs::write(&file, bytes).unwrap();
    append(&mut Journal::open(dir.path()).unwrap(), &entry(2));
    let mut all = read(dir.path(), Filter::default()).unwrap();
    assert_eq!(all.by_ref().map(|e| e.unwrap().epoch).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert_eq!(all.unreadable(), 3);
    assert_eq!(tail(dir.path(), 9, None).unwrap().len(), 2);
}

#[test]
fn a_line_after_a_torn_one_that_could_not_be_cut_off_is_not_glued_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    append(&mut journal, &entry(1));
    rustix::io::write(&journal.file, b"{\"time\":\"2026").unwrap();
    journal.tail = Tail::Torn;
    append(&mut journal, &entry(2));
    append(&mut journal, &entry(3));
    let mut all = read(dir.path(), Filter::default()).unwrap();
    assert_eq!(all.by_ref().map(|e| e.unwrap().epoch).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
    assert_eq!(all.unreadable(), 1);
}

#[test]
fn on_a_full_disk_entries_wait_in_memory_and_no_line_is_torn() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.path().join("state");
    let mut journal = Journal::open(&dir).unwrap();
    append(&mut journal, &entry(0));
    disk.fill_but(0);
    // The rest of the file's last page is still there, so some fit and one fits in part.
    let mut n = 0;
    let cause = loop {
        n += 1;
        if let Appended::Kept(cause) = journal.append(&entry(n), Sync::No).unwrap() {
            break cause;
        }
    };
    assert!(cause.is_no_space() && n > 5, "{n}: {cause}");
    let said = cause.to_string();
    assert!(said.starts_with(&format!("appending to `{}/journal.jsonl`: No space", dir.display())), "{said}");
    let bytes = fs::read(dir.join("journal.jsonl")).unwrap();
    assert_eq!(bytes.last(), Some(&b'\n'), "a part of a line stayed");
    assert_eq!(epochs(&dir), (0..n).collect::<Vec<_>>());

    // A synced entry is refused and never shows up.
    assert!(journal.append(&entry(999), Sync::Yes).unwrap_err().is_no_space());
    assert_eq!(journal.unwritten(), 1);
    disk.free();
    append(&mut journal, &entry(n + 1));
    assert_eq!(epochs(&dir), (0..=n + 1).collect::<Vec<_>>());
    assert_eq!(journal.unwritten(), 0);
}

#[test]
fn entries_beyond_what_memory_may_hold_are_counted_and_the_count_is_journalled_before_the_rest() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.path().join("state");
    let mut journal = Journal::open(&dir).unwrap();
    let long = |n| entry(n).with_evidence(json!("x".repeat(300)));
    disk.fill_but(0);
    for n in 0..MAX_WAITING as u64 + 3 {
        assert!(matches!(journal.append(&long(n), Sync::No).unwrap(), Appended::Kept(_)));
    }
    assert_eq!(journal.unwritten(), MAX_WAITING as u64 + 3);
    disk.free();
    journal.flush(Now::default()).unwrap();
    let all: Vec<Entry> = read(&dir, Filter::default()).unwrap().map(Result::unwrap).collect();
    assert_eq!((all[0].decision.as_str(), &all[0].evidence["dropped"]), ("journal-dropped", &json!(3)));
    assert_eq!(epochs(&dir), (3..MAX_WAITING as u64 + 3).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_stops_neither_open_nor_rotation() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.path().join("state");
    let mut journal = open_with_limit(&dir, 1000);
    append(&mut journal, &settled(5));
    disk.fill_but(0);
    for n in 0..8 {
        append(&mut journal, &entry(n));
    }
    // It would have rotated, which takes a page for the new file, so it went on in the old one.
    assert_eq!(names(&dir), ["journal.jsonl"]);
    assert_eq!(epochs(&dir), (0..8).collect::<Vec<_>>());

    // As after a power cut between two steps of a rotation.
    fs::rename(dir.join("journal.jsonl"), dir.join("journal.jsonl.1")).unwrap();
    let mut journal = open_with_limit(&dir, 1000);
    assert_eq!(journal.last_phase(), Some(LastPhase::Settled(5)));
    assert!(matches!(journal.append(&entry(8), Sync::No).unwrap(), Appended::Kept(_)));
    disk.free();
    journal.flush(Now::default()).unwrap();
    for n in 9..60 {
        append(&mut journal, &entry(n));
    }
    assert_eq!(last_phase(&dir).unwrap(), Some(LastPhase::Settled(5)));
}

#[test]
fn a_journal_that_somebody_removed_while_running_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    append(&mut journal, &settled(2));
    fs::remove_file(dir.path().join("journal.jsonl")).unwrap();
    append(&mut journal, &entry(7));
    assert_eq!(epochs(dir.path()), [7]);
    assert_eq!(last_phase(dir.path()).unwrap(), Some(LastPhase::Settled(2)));
}

#[test]
fn a_synced_entry_is_synced_before_append_returns() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let steps = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = steps.clone();
    let done = watch(move |step| log.borrow_mut().push(step), || journal.append(&entry(1), Sync::Yes));
    assert!(matches!(done, Ok(Appended::Written)));
    assert_eq!(*steps.borrow(), ["journal: written", "journal: synced"]);
    let line: Value = serde_json::from_slice(&fs::read(dir.path().join("journal.jsonl")).unwrap()).unwrap();
    assert_eq!(line["time"], "1970-01-01T00:00:00.000Z");
}
