//! A disk that fails or is full: what the caller is told is true, then and after the loss of power.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wasmill_buffer::testing::{Fault, FaultyDisk};
use wasmill_buffer::{
    AppendError, Disk, EntryKind, Journal, Options, Position, Records, Recovery, Stream, StreamKey,
    StreamOptions,
};

const FILE: u64 = 16 << 10;

fn open(disk: &FaultyDisk) -> (Journal, Recovery, Stream) {
    let options = Options { file_bytes: FILE, ..Options::default() };
    let (journal, recovery) =
        Journal::open_stepped(Arc::new(disk.clone()), Path::new("/data"), options).unwrap();
    let key = StreamKey { tenant: "t".into(), name: "s".into() };
    let stream =
        journal.drive(journal.stream(&key, StreamOptions { max_bytes: 1 << 30, retention: None })).unwrap();
    (journal, recovery, stream)
}

fn reopen(disk: &FaultyDisk, journal: Journal) -> (Journal, Recovery, Stream) {
    disk.crash();
    drop(journal);
    disk.reboot();
    open(disk)
}

fn put(journal: &Journal, stream: &Stream, text: &str) -> Result<u64, AppendError> {
    journal.drive(stream.append(Records::one(text.to_owned(), 1))).map(|receipt| receipt.first_offset)
}

fn all(stream: &Stream) -> Vec<(u64, String)> {
    let found = stream.try_frames(0, usize::MAX).unwrap();
    assert!(found.lost.is_empty(), "{:?}", found.lost);
    assert_eq!(found.next_offset, stream.durable_end());
    let records = |f: &Arc<wasmill_buffer::Frame>| {
        let base = f.base_offset;
        let text = |r: &[u8]| String::from_utf8(r.to_vec()).unwrap();
        f.records().enumerate().map(|(i, r)| (base + i as u64, text(r))).collect::<Vec<_>>()
    };
    found.frames.iter().flat_map(records).collect()
}

fn texts(pairs: &[(u64, &str)]) -> Vec<(u64, String)> {
    pairs.iter().map(|(offset, text)| (*offset, (*text).to_owned())).collect()
}

#[test]
fn sync_failed_is_unknown_and_its_offsets_are_never_given_away_again() {
    for seed in 0..20 {
        let disk = FaultyDisk::new(seed);
        let (journal, _, stream) = open(&disk);
        assert_eq!(put(&journal, &stream, "a").unwrap(), 0);
        disk.fail_next(&[Fault::Sync]);
        let three = Records::new("xyz", vec![1, 2, 3], 1);
        assert!(matches!(journal.drive(stream.append(three)), Err(AppendError::Unknown)));
        assert_eq!((stream.durable_end(), stream.next_offset()), (1, 4));
        assert_eq!(stream.try_frames(1, 100).unwrap().next_offset, 1);
        assert_eq!(put(&journal, &stream, "b").unwrap(), 4);
        let kept = texts(&[(0, "a"), (4, "b")]);
        assert_eq!(all(&stream), kept);
        // A reader that stands in the gap passes over it.
        assert_eq!(stream.try_frames(2, 100).unwrap().frames[0].base_offset, 4);
        assert!(stream.try_frames(2, 100).unwrap().lost.is_empty());
        let (journal, recovery, stream) = reopen(&disk, journal);
        assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "{recovery:?}");
        assert_eq!(all(&stream), kept);
        assert_eq!(put(&journal, &stream, "c").unwrap(), 5);
    }
}

#[test]
fn offsets_passed_over_at_the_end_stay_so_after_reopen() {
    let disk = FaultyDisk::new(1);
    let (journal, _, stream) = open(&disk);
    put(&journal, &stream, "a").unwrap();
    disk.fail_next(&[Fault::Sync]);
    assert!(matches!(put(&journal, &stream, "x"), Err(AppendError::Unknown)));
    // A new file, whose snapshot says what was passed over.
    journal.drive(stream.checkpoint("", 0, Position(0), true)).unwrap();
    let (journal, recovery, stream) = reopen(&disk, journal);
    assert!(recovery.lost.is_empty(), "{recovery:?}");
    assert_eq!((stream.durable_end(), stream.next_offset()), (1, 2));
    assert_eq!(put(&journal, &stream, "b").unwrap(), 2);
    assert_eq!(all(&stream), texts(&[(0, "a"), (2, "b")]));
}

#[test]
fn write_failed_is_refused_and_never_found_again() {
    for seed in 0..20 {
        for fault in [Fault::Write, Fault::ShortWrite] {
            let disk = FaultyDisk::new(seed);
            let (journal, _, stream) = open(&disk);
            put(&journal, &stream, "a").unwrap();
            disk.fail_next(&[fault]);
            let refused = put(&journal, &stream, &"x".repeat(3000));
            assert!(matches!(refused, Err(AppendError::Storage { .. })), "{refused:?}");
            let (_journal, recovery, stream) = reopen(&disk, journal);
            assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "{recovery:?}");
            assert_eq!(all(&stream), texts(&[(0, "a")]));
        }
    }
}

#[test]
fn write_failed_that_cannot_be_wiped_is_unknown() {
    for second in [Fault::Write, Fault::Sync] {
        let disk = FaultyDisk::new(3);
        let (journal, _, stream) = open(&disk);
        put(&journal, &stream, "a").unwrap();
        disk.fail_next(&[Fault::Write, second]);
        assert!(matches!(put(&journal, &stream, "x"), Err(AppendError::Unknown)));
        assert_eq!(put(&journal, &stream, "b").unwrap(), 2);
        assert_eq!(journal.stats().failed_writes, 1);
    }
}

#[test]
fn disk_full_refuses_records_but_takes_what_frees_space() {
    let disk = FaultyDisk::new(4);
    let (journal, _, stream) = open(&disk);
    disk.set_capacity(disk.used() + 2 * FILE + 100);
    let text = "x".repeat(3000);
    let mut count = 0;
    let error = loop {
        match put(&journal, &stream, &text) {
            Ok(offset) => assert_eq!(offset, count),
            Err(error) => break error,
        }
        count += 1;
        assert!(count < 100, "the disk never gets full");
    };
    assert!(matches!(error, AppendError::Storage { .. }), "{error:?}");
    assert!(matches!(put(&journal, &stream, &text), Err(AppendError::Storage { .. })));
    assert_eq!(all(&stream).len() as u64, count);
    // Entries and checkpoints have the last file for themselves; records stay refused meanwhile.
    let entry = journal.drive(stream.entry(EntryKind::Outcome, 0..1, text.clone())).unwrap();
    assert_eq!(stream.read_entry(entry).unwrap(), text.as_bytes());
    assert!(matches!(put(&journal, &stream, "y"), Err(AppendError::Storage { .. })));
    journal.drive(stream.checkpoint("done", count, stream.journal_end(), true)).unwrap();
    // The checkpoint freed files: no restart, no other space.
    assert_eq!(put(&journal, &stream, "z").unwrap(), count);
    let (_journal, recovery, stream) = reopen(&disk, journal);
    assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "{recovery:?}");
    assert_eq!(all(&stream).last().unwrap(), &(count, "z".to_owned()));
}

#[test]
fn disk_full_recovers_without_restart_once_space_is_back() {
    let disk = FaultyDisk::new(5);
    let (journal, _, stream) = open(&disk);
    disk.set_capacity(disk.used());
    let text = "x".repeat(3000);
    let mut count = 0;
    while put(&journal, &stream, &text).is_ok() {
        count += 1;
    }
    let failures = journal.stats().failed_writes;
    assert!(matches!(put(&journal, &stream, "y"), Err(AppendError::Storage { .. })));
    assert!(journal.stats().failed_writes > failures);
    disk.set_capacity(u64::MAX);
    assert_eq!(put(&journal, &stream, "z").unwrap(), count);
    assert_eq!(all(&stream).len() as u64, count + 1);
}

#[test]
fn disk_that_was_full_is_asked_again_by_who_wants_to_know() {
    let disk = FaultyDisk::new(5);
    let (journal, _, stream) = open(&disk);
    let takes = || journal.drive(journal.check_takes_appends());
    takes().unwrap();
    disk.set_capacity(disk.used());
    let text = "x".repeat(3000);
    let refused = (0..100).find_map(|_| put(&journal, &stream, &text).err()).unwrap();
    assert_eq!(refused.to_string(), "the disk is full");
    for _ in 0..3 {
        let error = takes().unwrap_err();
        assert_eq!(error.to_string(), "the disk is full");
    }
    disk.set_capacity(u64::MAX);
    takes().unwrap();
    put(&journal, &stream, "z").unwrap();
    takes().unwrap();
}

#[test]
fn journal_opened_on_a_full_disk_is_readable_and_accepts_once_space_is_back() {
    let disk = FaultyDisk::new(6);
    let (journal, _, stream) = open(&disk);
    put(&journal, &stream, "a").unwrap();
    disk.set_capacity(0);
    drop(journal);
    let (journal, recovery, stream) = open(&disk);
    assert!(recovery.lost.is_empty());
    drop(journal);
    // The last spare went to the first open; now there is no file to write to at all.
    let (journal, _, stream) = {
        drop(stream);
        open(&disk)
    };
    assert_eq!(all(&stream), texts(&[(0, "a")]));
    assert!(matches!(put(&journal, &stream, "x"), Err(AppendError::Storage { .. })));
    disk.set_capacity(u64::MAX);
    assert_eq!(put(&journal, &stream, "b").unwrap(), 1);
}

#[test]
fn what_only_the_cache_holds_is_not_believed_at_open() {
    let mut found = [0, 0];
    for seed in 0..60 {
        let disk = FaultyDisk::new(seed);
        let (journal, _, stream) = open(&disk);
        put(&journal, &stream, "a").unwrap();
        disk.fail_next(&[Fault::Sync]);
        assert!(matches!(put(&journal, &stream, &"x".repeat(3000)), Err(AppendError::Unknown)));
        // The process ends here: its cache still shows what the failed sync did not store.
        disk.crash();
        drop(journal);
        disk.restart();
        let (journal, recovery, stream) = open(&disk);
        assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "{recovery:?}");
        let seen = all(&stream);
        found[seen.len() - 1] += 1;
        let (_journal, recovery, stream) = reopen(&disk, journal);
        assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "seed {seed}: {recovery:?}");
        assert_eq!(all(&stream), seen, "seed {seed}");
    }
    // Both fates occur, or this shows nothing.
    assert!(found[0] > 5 && found[1] > 5, "{found:?}");
}

/// A stream whose journal has more spares than it needs: none has to be made to find out whether the disk takes appends.
fn open_with_spares(disk: &FaultyDisk) -> (Journal, Stream) {
    let (journal, _, stream) = open(disk);
    let text = "x".repeat(3000);
    let last = (0..60).map(|_| put(&journal, &stream, &text).unwrap()).last().unwrap();
    journal.drive(stream.checkpoint("", last + 1, stream.journal_end(), true)).unwrap();
    let names = disk.list(Path::new("/data/journal")).unwrap();
    assert!(names.iter().filter(|name| name.starts_with("spare-")).count() >= 3, "{names:?}");
    (journal, stream)
}

/// Makes an append that the journal refuses or cannot tell of.
type Refused = fn(&FaultyDisk, &Journal, &Stream) -> AppendError;

const REFUSED: [Refused; 3] = [
    // The file is given up.
    |disk, journal, stream| {
        disk.fail_next(&[Fault::Write]);
        put(journal, stream, "x").unwrap_err()
    },
    // The file is full, and the next one cannot be begun.
    |disk, journal, stream| {
        let text = "x".repeat(15_000);
        put(journal, stream, &text).unwrap();
        disk.fail_next(&[Fault::Write]);
        put(journal, stream, &text).unwrap_err()
    },
    // Nobody knows.
    |disk, journal, stream| {
        disk.fail_next(&[Fault::Sync]);
        let error = put(journal, stream, "x").unwrap_err();
        assert!(matches!(error, AppendError::Unknown), "{error:?}");
        error
    },
];

#[test]
fn disk_that_refused_is_well_again_only_when_it_has_taken_something() {
    for (which, refused) in REFUSED.into_iter().enumerate() {
        let disk = FaultyDisk::new(8);
        let (journal, stream) = open_with_spares(&disk);
        let takes = || journal.drive(journal.check_takes_appends());
        takes().unwrap();
        refused(&disk, &journal, &stream);
        for fault in [Fault::Write, Fault::Sync, Fault::Write] {
            // As somebody does who has let go of something.
            journal.step();
            disk.fail_next(&[fault]);
            let answer = takes();
            assert!(matches!(answer, Err(AppendError::Storage { .. })), "{which}, {fault:?}: {answer:?}");
        }
        takes().unwrap();
        put(&journal, &stream, "y").unwrap();
        let (journal, recovery, stream) = reopen(&disk, journal);
        assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "{which}: {recovery:?}");
        assert_eq!(all(&stream).last().unwrap().1, "y", "{which}");
        drop(journal);
    }
}

#[test]
fn who_asks_whether_the_disk_is_well_again_is_answered_also_while_other_things_are_written() {
    for refused in REFUSED {
        let disk = FaultyDisk::new(9);
        let (journal, stream) = open_with_spares(&disk);
        refused(&disk, &journal, &stream);
        let mut context = Context::from_waker(Waker::noop());
        let mut takes = pin!(journal.check_takes_appends());
        let mut entry = pin!(stream.entry(EntryKind::Outcome, 0..1, "outcome"));
        assert!(takes.as_mut().poll(&mut context).is_pending());
        assert!(entry.as_mut().poll(&mut context).is_pending());
        journal.step();
        let answer = takes.poll(&mut context);
        assert!(matches!(answer, Poll::Ready(Ok(()))), "{answer:?}");
        assert!(matches!(entry.poll(&mut context), Poll::Ready(Ok(_))));
    }
}

#[test]
fn closed_journal_answers_nobody_and_touches_no_file_any_more() {
    let disk = FaultyDisk::new(10);
    let (journal, stream) = open_with_spares(&disk);
    put(&journal, &stream, &"x".repeat(15_000)).unwrap();
    disk.fail_next(&[Fault::Write]);
    put(&journal, &stream, &"x".repeat(15_000)).unwrap_err();
    journal.drive(journal.close()).unwrap();
    let operations = disk.operations();
    let answer = journal.drive(journal.check_takes_appends());
    assert!(matches!(answer, Err(AppendError::Closed)), "{answer:?}");
    journal.step();
    assert_eq!(disk.operations(), operations);
}
