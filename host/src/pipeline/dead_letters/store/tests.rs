//! The store against crashes, bounds and streams that were made anew.

use super::*;

fn letter(offset: i64, payload: &[u8]) -> DeadLetter {
    DeadLetter {
        number: 0,
        stage: Stage::Transform,
        transform: "parse".into(),
        plugin: "sha256:00".into(),
        output: None,
        reason: "no closing quote".into(),
        slice: 0,
        offset,
        child: 0,
        source: None,
        arrival: 1,
        failed: 0,
        attempts: 1,
        payload: None,
        payload_base64: None,
        object: None,
        row: None,
    }
    .with_payload(payload)
}

fn open(dir: &Path) -> Store {
    Store::open(dir, 1 << 20, Some("one")).unwrap()
}

fn all(store: &Store) -> Vec<DeadLetter> {
    let mut found = Vec::new();
    store
        .view()
        .each(0, &Filter::default(), |letter| {
            found.push(letter);
            true
        })
        .unwrap();
    found
}

fn numbers(store: &Store) -> Vec<u64> {
    all(store).iter().map(|letter| letter.number).collect()
}

fn removed(numbers: impl IntoIterator<Item = u64>) -> Changes {
    numbers.into_iter().map(|number| (number, Change::Removed)).collect()
}

#[test]
fn rows_that_two_outcomes_of_one_beginning_sealed_are_all_kept_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let of = |slice, offset, child| DeadLetter { slice, child, ..letter(offset, b"x") };
    assert_eq!(store.append(&[of(7, 9, 0)], 1).unwrap().new.len(), 1);
    // Both only sealed: records of slices before, the older ones last.
    let first = [of(10, 8, store.next_sealed_child(10))];
    assert_eq!(store.append(&first, 1).unwrap().new.len(), 1);
    let child = store.next_sealed_child(10);
    let second = [of(10, 3, child), of(10, 3, child + 1)];
    assert_eq!(store.append(&second, 1).unwrap().new.len(), 2);
    // The slice that begins there; then all of them again, as after a crash, also when they went meanwhile.
    assert_eq!(store.append(&[of(10, 10, 0)], 1).unwrap().new.len(), 1);
    store.apply(&removed(1..=5)).unwrap();
    drop(store);
    let mut store = open(dir.path());
    for again in [&first[..], &second, &[of(10, 10, 0)]] {
        assert_eq!(store.append(again, 2).unwrap().new.len(), 0, "{again:?}");
    }
    assert_eq!(store.next_sealed_child(11), SEALED_CHILD);
    // Reopened in the middle of it, it goes on where it was.
    store.append(&[of(11, 4, SEALED_CHILD)], 3).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).next_sealed_child(11), SEALED_CHILD + 1);
}

#[test]
fn letters_appended_twice_are_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    assert_eq!(store.append(&[letter(1, b"a"), letter(2, b"\xff")], 5).unwrap().new.len(), 2);
    assert_eq!(store.append(&[letter(2, b"\xff"), letter(3, b"c")], 6).unwrap().new.len(), 1);
    drop(store);
    let mut store = open(dir.path());
    assert_eq!(store.append(&[letter(2, b"\xff"), letter(3, b"c")], 7).unwrap().new.len(), 0);
    let letters = all(&store);
    let told: Vec<_> = letters.iter().map(|l| (l.number, l.offset, l.failed, l.payload_bytes())).collect();
    assert_eq!(told, [(1, 1, 5, b"a".to_vec()), (2, 2, 5, b"\xff".to_vec()), (3, 3, 6, b"c".to_vec())]);
}

#[test]
fn letters_that_were_removed_do_not_come_back_and_numbers_neither() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let letters = [letter(1, b"a"), letter(2, b"b"), letter(3, b"c")];
    store.append(&letters, 5).unwrap();
    assert_eq!(store.apply(&removed([1, 2, 3, 9])).unwrap(), Applied { removed: 3, changed: 0 });
    drop(store);
    let mut store = open(dir.path());
    // As the recovery of an outcome that the journal still needs would.
    assert_eq!(store.append(&letters, 6).unwrap().new.len(), 0);
    store.append(&[letter(4, b"d")], 6).unwrap();
    assert_eq!(numbers(&store), [4]);
}

#[test]
fn stream_that_was_made_anew_keeps_its_letters_behind_the_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).append(&[letter(1, b"old"), letter(7, b"old")], 5).unwrap();
    for _ in 0..2 {
        let mut store = Store::open(dir.path(), 1 << 20, Some("two")).unwrap();
        store.append(&[letter(1, b"new")], 6).unwrap();
        assert_eq!(numbers(&store), [1, 2, 3]);
    }
}

#[test]
fn store_full_refuses_and_keeps_what_it_has_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), 700, Some("one")).unwrap();
    store.append(&[letter(1, b"a")], 5).unwrap();
    let before = store.bytes();
    let large = [letter(2, &[b'x'; 400])];
    assert!(matches!(store.append(&large, 5).unwrap().full, Some(StoreError::Full { .. })));
    assert_eq!((store.count(), store.bytes()), (1, before));
    assert_eq!(std::fs::metadata(dir.path().join(FIRST)).unwrap().len(), before);
    store.apply(&removed([1])).unwrap();
    assert_eq!(store.bytes(), 0);
    assert_eq!(store.append(&large, 5).unwrap().new.len(), 1);
}

#[test]
fn letters_that_do_not_fit_together_come_in_parts_and_one_always_fits() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), 1_000, Some("one")).unwrap();
    let letters: Vec<_> = (1..=9).map(|n| letter(n, &[b'x'; 200])).collect();
    let mut seen = Vec::new();
    loop {
        let appended = store.append(&letters, 5).unwrap();
        let whole = appended.full.is_none();
        assert!(!appended.new.is_empty() && store.bytes() <= 1_000);
        if let Some(StoreError::Full { needs, bytes, max, .. }) = appended.full {
            // Those that came before it are counted, so that it is plain why it does not fit.
            assert_eq!((bytes, max), (store.bytes(), 1_000));
            assert!(bytes + needs > max && needs > 200, "{needs} bytes beside {bytes}");
        }
        seen.extend(all(&store).iter().map(|letter| letter.offset));
        store.apply(&removed(1..=9)).unwrap();
        if whole {
            break;
        }
    }
    assert_eq!(seen, (1..=9).collect::<Vec<_>>());
    assert_eq!(store.append(&[letter(10, &[b'x'; 5_000])], 5).unwrap().new.len(), 1);
    assert!(store.append(&[letter(11, b"a")], 5).unwrap().full.is_some());
}

#[test]
fn store_with_a_torn_line_cuts_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.append(&[letter(1, b"a")], 5).unwrap();
    let whole = store.bytes();
    drop(store);
    let path = dir.path().join(FIRST);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"number\":2,\"off").unwrap();
    let mut store = open(dir.path());
    assert_eq!(store.bytes(), whole);
    store.append(&[letter(2, b"b")], 5).unwrap();
    assert_eq!(numbers(&store), [1, 2]);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
}

#[test]
fn letter_that_failed_again_stays_under_its_number_with_the_new_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.append(&[letter(1, b"a"), letter(2, b"b")], 5).unwrap();
    let again = |attempts, reason: &str| Change::Again {
        stage: Stage::Encode,
        transform: String::new(),
        plugin: String::new(),
        output: Some("archive".to_owned()),
        reason: reason.to_owned(),
        attempts,
    };
    let changes = Changes::from([(1, again(3, "third"))]);
    assert_eq!(store.apply(&changes).unwrap(), Applied { removed: 0, changed: 1 });
    // The outcome of an earlier attempt, told again after a crash.
    store.apply(&Changes::from([(1, again(2, "second"))])).unwrap();
    drop(store);
    let letters = all(&open(dir.path()));
    assert_eq!(letters.len(), 2);
    let told = (letters[0].number, letters[0].attempts, letters[0].reason.as_str(), letters[0].stage);
    assert_eq!(told, (1, 3, "third", Stage::Encode));
}

#[test]
fn letters_that_are_too_old_go_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for n in 1..=10 {
        store.append(&[letter(n, b"a")], n * 100).unwrap();
    }
    assert_eq!(store.expire(100, u64::MAX).unwrap(), 0);
    assert_eq!(store.expire(401, 2).unwrap(), 2);
    assert_eq!(store.expire(401, u64::MAX).unwrap(), 2);
    assert_eq!(numbers(&store), (5..=10).collect::<Vec<_>>());
    drop(store);
    let mut store = open(dir.path());
    assert_eq!(store.expire(401, u64::MAX).unwrap(), 0);
    assert_eq!(store.expire(i64::MAX, u64::MAX).unwrap(), 6);
    assert_eq!(store.bytes(), 0);
}

#[test]
fn store_of_several_files_is_read_changed_and_emptied_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), 1 << 30, Some("one")).unwrap();
    let large = vec![b'x'; 3 << 20];
    for n in 1..=9 {
        store.append(&[letter(n, &large)], n).unwrap();
    }
    let files = || paths(dir.path()).unwrap().len();
    assert_eq!(files(), 3);
    store.apply(&removed([2, 3, 4, 5, 6])).unwrap();
    assert_eq!(numbers(&store), [1, 7, 8, 9]);
    assert_eq!(files(), 2, "a file that has nothing any more goes");
    drop(store);
    let mut store = Store::open(dir.path(), 1 << 30, Some("one")).unwrap();
    assert_eq!(store.view().numbers(&Filter::default()).unwrap(), [1, 7, 8, 9]);
    store.apply(&removed(1..=9)).unwrap();
    store.append(&[letter(10, b"a")], 10).unwrap();
    assert_eq!(numbers(&store), [10]);
}

#[test]
fn object_is_counted_and_goes_with_its_letter_and_its_batch_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let staged = dir.path().join("staged");
    std::fs::write(&staged, [b'x'; 500]).unwrap();
    let root = dir.path().join("store");
    let mut store = Store::open(&root, 2_000, Some("one")).unwrap();
    let file = store.keep_object(&staged, "batch-1").unwrap();
    let meta = wasmill_deliver::ObjectMeta {
        name: "a/b".into(),
        content_type: "text/plain".into(),
        content_encoding: None,
        batch_id: "batch-1".into(),
        digest: 1,
        body_digest: u128::MAX,
        raw_bytes: 500,
        bytes: 500,
        records: 3,
        stream: "s".into(),
        output: "o".into(),
        arrival: 0,
        first_row: 0,
    };
    let object = super::super::KeptObject { file: file.clone(), meta };
    let kept = DeadLetter { stage: Stage::Delivery, object: Some(object), payload: None, ..letter(7, b"") };
    store.append(std::slice::from_ref(&kept), 5).unwrap();
    assert!(store.bytes() > 500);
    // A crash between the object and its letter leaves this.
    std::fs::write(root.join("objects/batch-2"), "orphan").unwrap();
    drop(store);
    let mut store = Store::open(&root, 2_000, Some("one")).unwrap();
    assert!(store.had_batch("batch-1") && !root.join("objects/batch-2").exists());
    assert_eq!(all(&store)[0].object.as_ref().unwrap().meta.body_digest, u128::MAX);
    store.apply(&removed([1])).unwrap();
    assert_eq!(store.bytes(), 0);
    assert!(!root.join(file).exists());
    drop(store);
    // Its batch would be given up again otherwise: a crash may come before a checkpoint that has it.
    let store = Store::open(&root, 2_000, Some("one")).unwrap();
    assert!(store.had_batch("batch-1") && !store.had_batch("batch-2"));
}

#[test]
fn snapshot_has_its_letters_although_the_file_is_written_anew_and_grows() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for n in 1..=5 {
        store.append(&[letter(n, b"a")], n).unwrap();
    }
    let snapshot = store.snapshot(1).unwrap().unwrap();
    let again = Change::Again {
        stage: Stage::Encode,
        transform: String::new(),
        plugin: String::new(),
        output: None,
        reason: "a longer reason than the one before, so that the file grows".into(),
        attempts: 2,
    };
    let changes = [(1, again.clone()), (2, again.clone()), (3, again), (4, Change::Removed)].into();
    store.apply(&changes).unwrap();
    store.append(&[letter(6, b"a")], 6).unwrap();
    let mut seen = Vec::new();
    snapshot
        .each(1, |line, letter| {
            assert_eq!(serde_json::from_slice::<DeadLetter>(line).unwrap(), letter);
            seen.push((letter.number, letter.attempts));
            true
        })
        .unwrap();
    assert_eq!(seen, [(2, 1), (3, 1), (4, 1), (5, 1)]);
    assert!(snapshot.last && store.snapshot(6).unwrap().is_none());
}

#[test]
fn file_that_is_damaged_is_named_with_its_line_and_what_helps() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).append(&[letter(1, b"a")], 5).unwrap();
    let state = dir.path().join("state.json");
    std::fs::write(&state, "{\"first_number\":0,\n\"next_number\":").unwrap();
    let said = Store::open(dir.path(), 1 << 20, Some("one")).unwrap_err().to_string();
    assert!(said.starts_with(&format!("{} is damaged (EOF", state.display())), "{said}");
    assert!(said.contains("at line 2 column 14") && said.contains("move it away"), "{said}");
    // As it is told to.
    std::fs::remove_file(&state).unwrap();
    assert_eq!(numbers(&open(dir.path())), [1]);
}
