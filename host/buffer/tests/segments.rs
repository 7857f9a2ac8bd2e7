//! A slow stream beside a fast one: disk use stays bounded, and what the slow one holds stays readable.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, Instant};

use wasmill_buffer::{
    EntryKind, Journal, Options, Position, Records, Recovery, Stream, StreamKey, StreamOptions,
};

const FILE: u64 = 64 << 10;
const BOUND: u64 = 4 * FILE;

async fn open(dir: &Path, max_journal_bytes: u64) -> (Journal, Recovery, Stream, Stream) {
    let options =
        Options { file_bytes: FILE, max_journal_bytes, memory_bytes: 1 << 12, ..Options::default() };
    let (journal, recovery) = Journal::open(dir, options).unwrap();
    let stream = |name: &str| StreamKey { tenant: "t".into(), name: name.into() };
    let room = StreamOptions { max_bytes: 1 << 30, retention: None };
    let slow = journal.stream(&stream("slow"), room).await.unwrap();
    let fast = journal.stream(&stream("fast"), room).await.unwrap();
    (journal, recovery, slow, fast)
}

fn record(i: u64) -> String {
    format!("{i} {}", "s".repeat(i as usize % 3000))
}

/// One slow record and an outcome for a few, then fast ones that are released at once.
async fn load(slow: &Stream, fast: &Stream, range: std::ops::Range<u64>) -> Vec<Position> {
    let mut entries = Vec::new();
    for i in range {
        assert_eq!(slow.append(Records::one(record(i), 1)).await.unwrap().first_offset, i);
        if i % 7 == 0 {
            entries.push(slow.entry(EntryKind::Outcome, i..i + 1, record(i)).await.unwrap());
        }
        let receipt = fast.append(Records::one("f".repeat(20_000), 1)).await.unwrap();
        fast.checkpoint("", receipt.first_offset + 1, Position(0), false).await.unwrap();
    }
    entries
}

fn check(slow: &Stream, from: u64, count: u64) {
    let mut at = from;
    while at < count {
        let found = slow.try_frames(at, 100_000).unwrap();
        assert!(found.lost.is_empty() && !found.frames.is_empty(), "at {at}: {:?}", found.lost);
        for frame in &found.frames {
            assert_eq!(frame.base_offset, at);
            assert_eq!(frame.record(0).unwrap(), record(at).as_bytes());
            at += 1;
        }
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn disk_bytes(dir: &Path, folder: &str) -> u64 {
    let Ok(files) = std::fs::read_dir(dir.join(folder)) else { return 0 };
    // One may be removed while we look.
    files.filter_map(|file| file.unwrap().metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[tokio::test]
async fn position_is_long_behind_some_time_before_what_stands_there_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, slow, fast) = open(dir.path(), BOUND).await;
    let at = slow.entry(EntryKind::Outcome, 0..0, record(1)).await.unwrap();
    let mut loaded = 0;
    while !slow.is_long_behind(at) {
        assert_eq!(disk_bytes(dir.path(), "segments"), 0);
        load(&slow, &fast, loaded..loaded + 1).await;
        loaded += 1;
    }
    assert!(loaded > 4, "{loaded}");
    assert!(!slow.is_long_behind(slow.journal_end()));
    // There is time to write elsewhere what stands there.
    load(&slow, &fast, loaded..loaded + 2).await;
    assert_eq!(disk_bytes(dir.path(), "segments"), 0);
    load(&slow, &fast, loaded + 2..loaded + 20).await;
    until("it is copied", || disk_bytes(dir.path(), "segments") > 0);
    drop((slow, fast));
    journal.close().await.unwrap();
}

#[tokio::test]
async fn slow_stream_leaves_the_journal_bounded_and_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, slow, fast) = open(dir.path(), BOUND).await;
    let entries = load(&slow, &fast, 0..150).await;
    let stats = journal.stats();
    assert!(stats.journal_bytes <= BOUND + BOUND / 2 + 2 * FILE, "{stats:?}");
    assert!(stats.segment_bytes > 0, "{stats:?}");
    // Four spares may wait beside the journal.
    let on_disk = disk_bytes(dir.path(), "journal");
    assert!(on_disk <= BOUND + BOUND / 2 + 6 * FILE, "{on_disk}");
    assert!(stats.segment_bytes <= 2 * slow.buffered_bytes() + FILE, "{stats:?}");
    check(&slow, 0, 150);
    for (entry, i) in entries.iter().zip((0..).step_by(7)) {
        assert_eq!(slow.read_entry(*entry).unwrap(), record(i).as_bytes());
    }
    let buffered = slow.buffered_bytes();
    journal.close().await.unwrap();
    drop(journal);
    let (journal, recovery, slow, fast) = open(dir.path(), BOUND).await;
    assert!(recovery.clean && recovery.lost.is_empty(), "{recovery:?}");
    assert_eq!(slow.buffered_bytes(), buffered);
    check(&slow, 0, 150);
    assert_eq!(slow.entries().iter().map(|e| e.position).collect::<Vec<_>>(), entries);
    assert_eq!(slow.read_entry(entries[0]).unwrap(), record(0).as_bytes());
    // Half of it is released, then all of it.
    slow.checkpoint("half", 75, entries[11], true).await.unwrap();
    load(&slow, &fast, 150..200).await;
    check(&slow, 75, 200);
    slow.checkpoint("all", 200, slow.journal_end(), true).await.unwrap();
    until("segments are removed", || {
        journal.stats().segment_bytes == 0 && disk_bytes(dir.path(), "segments") == 0
    });
    assert_eq!(slow.buffered_bytes(), 0);
}

#[tokio::test]
async fn files_left_from_before_are_moved_and_freed_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, slow, fast) = open(dir.path(), 1 << 30).await;
    load(&slow, &fast, 0..60).await;
    assert!(journal.stats().journal_bytes > 2 * BOUND && journal.stats().segment_bytes == 0);
    drop(journal);
    let (journal, recovery, slow, fast) = open(dir.path(), BOUND).await;
    assert!(recovery.lost.is_empty(), "{recovery:?}");
    until("the journal is short again", || journal.stats().journal_bytes <= BOUND);
    check(&slow, 0, 60);
    fast.checkpoint("", fast.durable_end(), Position(0), true).await.unwrap();
    slow.checkpoint("", 60, slow.journal_end(), true).await.unwrap();
    drop(journal);
    let (journal, ..) = open(dir.path(), BOUND).await;
    until("nothing is left", || {
        let stats = journal.stats();
        stats.segment_bytes == 0 && stats.journal_files <= 2
    });
}

#[tokio::test]
async fn segment_with_a_flipped_bit_costs_one_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, slow, fast) = open(dir.path(), BOUND).await;
    load(&slow, &fast, 0..60).await;
    until("frames are moved", || journal.stats().journal_bytes <= BOUND);
    drop(journal);
    // A frame starts at most a header before its payload; byte 20 is part of the body's length.
    let text = record(33);
    let segments = std::fs::read_dir(dir.path().join("segments")).unwrap().map(|entry| entry.unwrap().path());
    let found = segments.into_iter().find_map(|name| {
        let whole = std::fs::read(&name).unwrap();
        let payload = whole.windows(text.len()).position(|w| w == text.as_bytes())?;
        Some((name, whole, payload))
    });
    let (name, whole, payload) = found.expect("record 33 is in a segment");
    let start = (0..payload).rev().find(|at| at % 64 == 0 && whole[*at..].starts_with(b"wmFr")).unwrap();
    for flip in [start + 20, payload] {
        let mut bytes = whole.clone();
        bytes[flip] ^= 1;
        std::fs::write(&name, bytes).unwrap();
        let (_journal, recovery, slow, _) = open(dir.path(), 1 << 30).await;
        assert_eq!(recovery.corrupt.len(), usize::from(flip != payload), "{recovery:?}");
        let found = slow.try_frames(0, usize::MAX).unwrap();
        assert_eq!(found.lost, [std::ops::Range { start: 33, end: 34 }]);
        assert_eq!(found.frames.len(), 59);
    }
}

#[tokio::test]
async fn frame_corrupt_in_a_segment_is_read_from_the_journal_file_that_was_not_freed_yet() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, slow, fast) = open(dir.path(), 1 << 30).await;
    load(&slow, &fast, 0..60).await;
    drop(journal);
    let files = |folder: &str| {
        let paths = std::fs::read_dir(dir.path().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    let before = files("journal");
    let (journal, ..) = open(dir.path(), BOUND).await;
    until("frames are moved", || journal.stats().journal_bytes <= BOUND);
    drop(journal);
    // As if the program had ended before anything was freed.
    for (path, bytes) in before.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "wmj")) {
        std::fs::write(path, bytes).unwrap();
    }
    let text = record(33);
    let mut found = 0;
    for (path, mut bytes) in files("segments") {
        let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) else {
            continue;
        };
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
        found += 1;
    }
    assert_eq!(found, 1, "record 33 is in a segment");
    // The second time is after its segment was copied, the third after its file was.
    for bound in [1 << 30, BOUND, BOUND] {
        let (journal, recovery, slow, _) = open(dir.path(), bound).await;
        assert!(recovery.corrupt.is_empty() && recovery.lost.is_empty(), "{recovery:?}");
        check(&slow, 0, 60);
        until("the journal is short", || journal.stats().journal_bytes <= bound);
        check(&slow, 0, 60);
    }
}

#[tokio::test]
async fn deleted_stream_leaves_no_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, slow, fast) = open(dir.path(), BOUND).await;
    load(&slow, &fast, 0..60).await;
    until("frames are moved", || journal.stats().segment_bytes > 0);
    slow.delete().await.unwrap();
    until("segments are removed", || disk_bytes(dir.path(), "segments") == 0);
    drop((slow, fast));
    drop(journal);
    let (_journal, recovery, ..) = open(dir.path(), BOUND).await;
    assert!(recovery.corrupt.is_empty() && recovery.lost.is_empty(), "{recovery:?}");
}
