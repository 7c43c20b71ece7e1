use super::*;
use crate::supervisor::journal::{Filter, last_phase, read};
use crate::support::durable::testing::{SmallDisk, names};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const PLANS: usize = 5;

struct Place {
    dir: tempfile::TempDir,
    journal: Journal,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("state")).unwrap();
        let file = dir.path().join("logs/.phase-idx");
        Self { dir, journal, file }
    }

    /// At index `n`, by moves from 0.
    fn at(n: usize) -> Self {
        let mut place = Self::new();
        finish(&mut place.journal, &place.file, 0, Now::default()).unwrap();
        (0..n).for_each(|from| place.advance(from));
        place
    }

    fn advance(&mut self, from: usize) {
        move_to(&mut self.journal, &self.file, from, from + 1, "a test", Now::default()).unwrap();
    }

    /// As a new process would.
    fn load(&self) -> PhaseLoad {
        let last = last_phase(&self.dir.path().join("state")).unwrap();
        load(last, &self.file, PLANS, Access::Owner).unwrap()
    }

    fn intend(&mut self, from: usize, to: usize) {
        let intent = Entry::new(Now::default(), MOVE, "").with_evidence(json!({ "from": from, "to": to }));
        let _written = self.journal.append(&intent, Sync::Yes).unwrap();
    }
}

#[test]
fn an_index_is_digits_with_or_without_a_newline_up_to_the_number_of_plans() {
    for (good, index) in [("0\n", 0), ("0", 0), ("5\n", 5), ("003\n", 3)] {
        assert_eq!(parse(good.as_bytes(), PLANS), Ok(index), "{good:?}");
    }
    for (bad, why) in [
        ("", "is empty"),
        ("\n", "is empty"),
        ("6\n", "has the index 6, above 5, the number of plans"),
        ("-1\n", r#"has "-1\n" instead of a decimal index"#),
        ("+1", r#"has "+1" instead of a decimal index"#),
        ("1\n\n", r#"has "1\n\n" instead of a decimal index"#),
        ("1\r\n", r#"has "1\r\n" instead of a decimal index"#),
        (" 1", r#"has " 1" instead of a decimal index"#),
        ("1 # x", r#"has "1 # x" instead of a decimal index"#),
        ("\0\0", r#"has "\0\0" instead of a decimal index"#),
        ("99999999999999999999999", "has the index 99999999999999999999999, above 5, the number of plans"),
    ] {
        assert_eq!(parse(bad.as_bytes(), PLANS).unwrap_err(), why, "{bad:?}");
    }
    assert!(parse(b"\xff", PLANS).is_err());
}

#[test]
fn a_first_start_has_no_phase_and_the_next_one_finds_it_as_journalled() {
    let mut place = Place::new();
    assert_eq!(place.load(), PhaseLoad::Absent);
    finish(&mut place.journal, &place.file, 0, Now::default()).unwrap();
    assert_eq!(place.load(), PhaseLoad::AsJournalled(0));
    assert_eq!(fs::read(&place.file).unwrap(), b"0\n");
}

#[test]
fn a_move_is_journalled_before_and_after_and_the_file_is_what_the_old_scripts_read() {
    let place = Place::at(2);
    assert_eq!(fs::read(&place.file).unwrap(), b"2\n");
    assert_eq!(fs::read(previous(&place.file)).unwrap(), b"1\n");
    assert_eq!(fs::metadata(&place.file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(place.load(), PhaseLoad::AsJournalled(2));
    let all = read(&place.dir.path().join("state"), Filter::default()).unwrap();
    let all: Vec<Entry> = all.map(Result::unwrap).collect();
    let said: Vec<_> = all.iter().map(|e| (e.decision.as_str(), e.why.as_str())).collect();
    assert_eq!(
        said[3..],
        [("phase-move", "the phase index moves from 1 to 2: a test"), ("phase-settled", "the phase index is 2")]
    );
    assert_eq!(all[3].evidence, json!({ "from": 1, "to": 2, "by": "a test" }));
}

#[test]
fn an_index_that_an_old_script_wrote_in_place_is_the_operators() {
    let mut place = Place::new();
    fs::create_dir(place.file.parent().unwrap()).unwrap();
    fs::write(&place.file, "3\n").unwrap();
    assert_eq!(place.load(), PhaseLoad::SetByFile { index: 3, last: None });
    accept(&mut place.journal, 3, None, Now::default()).unwrap();
    assert_eq!(place.load(), PhaseLoad::AsJournalled(3));
    place.advance(3);
    fs::write(&place.file, "1").unwrap();
    assert_eq!(observe(&place.file, PLANS).unwrap(), Observed::Index(1));
    assert_eq!(place.load(), PhaseLoad::SetByFile { index: 1, last: Some(4) });
    accept(&mut place.journal, 1, Some(4), Now::default()).unwrap();
    assert_eq!(place.load(), PhaseLoad::AsJournalled(1));
}

#[test]
fn a_move_that_was_journalled_and_not_made_is_finished() {
    let mut place = Place::at(1);
    place.intend(1, 2);
    assert_eq!(place.load(), PhaseLoad::MoveUnfinished { from: 1, to: 2 });
    finish(&mut place.journal, &place.file, 2, Now::default()).unwrap();
    assert_eq!(place.load(), PhaseLoad::AsJournalled(2));
    // Made, but the journal did not hear of it.
    place.intend(2, 3);
    fs::write(&place.file, "3\n").unwrap();
    assert_eq!(place.load(), PhaseLoad::AsJournalled(3));
    // The operator wrote another one meanwhile.
    fs::write(&place.file, "5\n").unwrap();
    assert_eq!(place.load(), PhaseLoad::SetByFile { index: 5, last: Some(3) });
    // There never was a file.
    let mut place = Place::new();
    place.intend(0, 1);
    assert_eq!(place.load(), PhaseLoad::MoveUnfinished { from: 0, to: 1 });
}

#[test]
fn a_move_to_where_it_is_leaves_nothing_to_finish() {
    let mut place = Place::at(2);
    place.intend(2, 2);
    assert_eq!(place.load(), PhaseLoad::AsJournalled(2));
}

#[test]
fn a_torn_or_foreign_file_is_set_aside_and_the_last_journalled_index_used() {
    for bad in ["", "x", "9\n", "\0\0"] {
        let place = Place::at(2);
        fs::write(&place.file, bad).unwrap();
        let last = place.journal.last_phase();
        let looked = load(last, &place.file, PLANS, Access::Looker).unwrap();
        assert!(matches!(looked, PhaseLoad::Recovered { index: 2, set_aside: None, .. }), "{looked:?}");
        let PhaseLoad::Recovered { index, set_aside: Some(aside), why } = place.load() else { panic!("{bad:?}") };
        assert_eq!((index, fs::read_to_string(aside).unwrap().as_str()), (2, bad));
        assert!(why.ends_with("; the journal's last index is used"), "{why}");
        // A second start before the caller wrote it finds the same.
        assert!(matches!(place.load(), PhaseLoad::Recovered { index: 2, set_aside: None, .. }));
    }
}

#[test]
fn a_torn_file_during_a_move_is_finished_to_where_it_was_going() {
    let mut place = Place::at(2);
    place.intend(2, 3);
    fs::write(&place.file, "").unwrap();
    assert!(matches!(place.load(), PhaseLoad::Recovered { index: 3, .. }));
}

#[test]
fn without_a_journal_the_previous_version_is_used_and_without_that_it_is_lost() {
    let place = Place::at(2);
    fs::remove_file(place.dir.path().join("state/journal.jsonl")).unwrap();
    fs::write(&place.file, "").unwrap();
    let PhaseLoad::Recovered { index: 1, why, .. } = place.load() else { panic!() };
    assert!(why.ends_with("is empty; the journal has none, the previous version is used"), "{why}");

    fs::write(&place.file, "").unwrap();
    fs::write(previous(&place.file), "").unwrap();
    let PhaseLoad::Lost { set_aside: Some(_), why } = place.load() else { panic!() };
    assert!(why.ends_with("is empty; the journal has none, and the previous version is empty"), "{why}");
    fs::remove_file(previous(&place.file)).unwrap();
    fs::write(&place.file, "").unwrap();
    assert!(matches!(place.load(), PhaseLoad::Lost { set_aside: Some(_), .. }));
}

#[test]
fn a_missing_file_is_no_first_start_when_anything_knows_better() {
    let place = Place::at(2);
    fs::remove_file(&place.file).unwrap();
    assert!(matches!(place.load(), PhaseLoad::Recovered { index: 2, set_aside: None, .. }));
    fs::remove_file(previous(&place.file)).unwrap();
    assert!(matches!(place.load(), PhaseLoad::Recovered { index: 2, set_aside: None, .. }));
}

#[test]
fn plans_taken_out_of_the_config_never_bring_an_older_index_back() {
    let place = Place::at(4);
    let last = place.journal.last_phase();
    let found = load(last, &place.file, 3, Access::Looker).unwrap();
    let PhaseLoad::Lost { why, .. } = found else { panic!("{found:?}") };
    assert!(why.ends_with("the journal's last index, 4, is above the number of plans"), "{why}");
}

#[test]
fn a_move_on_a_full_disk_is_refused_and_not_finished_by_the_next_start() {
    let Some(disk) = SmallDisk::mount() else { return };
    // Once the journal is on the full disk, and once the file is.
    for (state, logs) in [(true, false), (false, true)] {
        disk.free();
        let elsewhere = tempfile::tempdir().unwrap();
        let on = |full| if full { disk.path() } else { elsewhere.path() };
        let state = on(state).join("state");
        let file = on(logs).join("logs/.phase-idx");
        let mut journal = Journal::open(&state).unwrap();
        finish(&mut journal, &file, 0, Now::default()).unwrap();
        move_to(&mut journal, &file, 0, 1, "a test", Now::default()).unwrap();
        disk.fill_but(0);
        // The rest of the journal's last page still takes lines.
        let filler = Entry::new(Now::default(), "hold", "x".repeat(100));
        while matches!(journal.append(&filler, Sync::No).unwrap(), Appended::Written) && journal_is_short(&state) {}

        let refused = move_to(&mut journal, &file, 1, 2, "a test", Now::default()).unwrap_err();
        assert!(refused.is_no_space() && refused.to_string().contains("; free space there"), "{refused}");
        assert_eq!(fs::read(&file).unwrap(), b"1\n");
        assert_eq!(names(file.parent().unwrap()), [".phase-idx", ".phase-idx.prev"]);
        let last = last_phase(&state).unwrap();
        assert_eq!(load(last, &file, PLANS, Access::Owner).unwrap(), PhaseLoad::AsJournalled(1));

        disk.free();
        move_to(&mut journal, &file, 1, 2, "a test", Now::default()).unwrap();
        let last = last_phase(&state).unwrap();
        assert_eq!(load(last, &file, PLANS, Access::Owner).unwrap(), PhaseLoad::AsJournalled(2));
        drop(journal);
        fs::remove_dir_all(&state).unwrap();
    }
}

fn journal_is_short(state: &Path) -> bool {
    fs::metadata(state.join("journal.jsonl")).unwrap().len() < 8000
}
