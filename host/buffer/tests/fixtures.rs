//! Data directories of format version 1, whole and damaged: they stay readable for ever.
//!
//! `WASMILL_WRITE_FIXTURES=DIR` writes the three into a directory that does not exist yet. Those of version 1 are
//! in `tests/fixtures/v1` and are never written again; a new version gets a directory of its own beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use wasmill_buffer::testing::FaultyDisk;
use wasmill_buffer::{
    Cells, Disk, EntryKind, Journal, Options, Position, Producer, Records, Recovery, SourcePosition, Stream,
    StreamKey, StreamOptions,
};

const RECORDS: u64 = 40;
const ENTRY: &str = "outcome of the first two";

fn options() -> Options {
    Options { file_bytes: 16 << 10, max_journal_bytes: 64 << 10, ..Options::default() }
}

fn key(name: &str) -> StreamKey {
    StreamKey { tenant: "tenant".into(), name: name.into() }
}

async fn stream(journal: &Journal, name: &str) -> Stream {
    journal.stream(&key(name), StreamOptions { max_bytes: 1 << 30, retention: None }).await.unwrap()
}

fn cells(rows: [&str; 2]) -> Cells {
    let ends = vec![rows[0].len() as u32, (rows[0].len() + rows[1].len()) as u32];
    Cells { state: vec![0, 2], data: rows.concat().into(), ends }
}

/// The frame with every column there is; its records have offsets 0 and 1.
fn full() -> Records {
    Records {
        arrival_deltas: Some(vec![0, 17]),
        keys: Some(cells(["", "key"])),
        attributes: vec![("a".into(), cells(["", "x"])), ("b".into(), cells(["", "yy"]))],
        event_times: Some(vec![-5, i64::MAX]),
        source: Some(SourcePosition { name: "topic".into(), partition: 7, position: b"offset 2".to_vec() }),
        producer: Some(Producer { id: 11, epoch: 12, first_sequence: 13 }),
        ..Records::new("firstsecond", vec![5, 11], 1_000)
    }
}

fn text(offset: u64) -> String {
    format!("record {offset} {}", "abcdefghij".repeat(offset as usize * 3 % 70))
}

/// What version 1 wrote.
async fn write(dir: &Path) {
    let (journal, _) = Journal::open(dir, options()).unwrap();
    let slow = stream(&journal, "slow").await;
    let fast = stream(&journal, "fast").await;
    let gone = stream(&journal, "gone").await;
    gone.append(Records::one("deleted later", 1)).await.unwrap();
    slow.append(full()).await.unwrap();
    let first = slow.entry(EntryKind::Outcome, 0..2, ENTRY).await.unwrap();
    slow.checkpoint("checkpoint", 0, first, true).await.unwrap();
    for offset in 2..RECORDS {
        slow.append(Records::one(text(offset), 1_000 + offset as i64)).await.unwrap();
        let receipt = fast.append(Records::one("f".repeat(1500), 1)).await.unwrap();
        fast.checkpoint("", receipt.first_offset + 1, Position(0), true).await.unwrap();
        if offset == 20 {
            gone.delete().await.unwrap();
        }
    }
    slow.entry(EntryKind::Mark, 2..3, "").await.unwrap();
    slow.append(Records::one(text(RECORDS), 9_000)).await.unwrap();
}

fn files(dir: &Path, folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    for folder in ["journal", "segments"] {
        std::fs::create_dir_all(to.join(folder)).unwrap();
        for extension in ["wmj", "wms"] {
            for file in files(from, folder, extension) {
                std::fs::copy(&file, to.join(folder).join(file.file_name().unwrap())).unwrap();
            }
        }
    }
}

/// Where this text starts in the newest journal file that has it.
fn find(dir: &Path, text: &str) -> (PathBuf, Vec<u8>, usize) {
    let places = files(dir, "journal", "wmj").into_iter().rev().find_map(|file| {
        let bytes = std::fs::read(&file).unwrap();
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
        Some((file, bytes, at))
    });
    places.expect("the text is in the journal")
}

#[tokio::test]
async fn fixtures_are_written_when_asked_for() {
    let Some(dir) = std::env::var_os("WASMILL_WRITE_FIXTURES").map(PathBuf::from) else { return };
    assert!(!dir.exists(), "{} exists; fixtures are never written again", dir.display());
    let scratch = tempfile::tempdir().unwrap();
    write(scratch.path()).await;
    for name in ["whole", "torn", "corrupt"] {
        copy(scratch.path(), &dir.join(name));
    }
    // The last frame: cut in its middle.
    let (file, mut bytes, at) = find(&dir.join("torn"), &text(RECORDS));
    bytes[at + 50..].fill(0);
    std::fs::write(file, bytes).unwrap();
    // One in the middle: a bit of a letter.
    let (file, mut bytes, at) = find(&dir.join("corrupt"), &text(RECORDS - 2));
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

async fn open(name: &str) -> (tempfile::TempDir, Journal, Recovery, Stream) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let dir = tempfile::tempdir().unwrap();
    copy(&fixtures.join(name), dir.path());
    let (journal, recovery) = Journal::open(dir.path(), options()).unwrap();
    let slow = stream(&journal, "slow").await;
    (dir, journal, recovery, slow)
}

/// Everything but these offsets is there, and they are `lost` or not there yet.
fn check(slow: &Stream, but: &[u64]) {
    let found = slow.try_frames(0, usize::MAX).unwrap();
    let first = &found.frames[0];
    assert_eq!(first.records().collect::<Vec<_>>(), [&b"first"[..], b"second"]);
    assert_eq!((first.arrival, first.base_offset, first.count), (1_000, 0, 2));
    let full = full();
    assert_eq!(first.arrival_deltas, full.arrival_deltas);
    assert_eq!(first.keys, full.keys);
    assert_eq!(first.attributes, full.attributes);
    assert_eq!(first.event_times, full.event_times);
    assert_eq!(first.producer, full.producer);
    let rest: Vec<(u64, String)> = found.frames[1..]
        .iter()
        .map(|frame| (frame.base_offset, String::from_utf8(frame.record(0).unwrap().to_vec()).unwrap()))
        .collect();
    let told: Vec<(u64, String)> =
        (2..=RECORDS).filter(|offset| !but.contains(offset)).map(|offset| (offset, text(offset))).collect();
    assert_eq!(rest, told);
    let entries = slow.entries();
    let kinds: Vec<_> = entries.iter().map(|entry| (entry.kind, entry.input.clone())).collect();
    assert_eq!(kinds, [(EntryKind::Outcome, 0..2), (EntryKind::Mark, 2..3)]);
    assert_eq!(slow.read_entry(entries[0].position).unwrap(), ENTRY);
    assert_eq!(slow.read_entry(entries[1].position).unwrap(), "");
    assert_eq!(slow.latest_checkpoint().unwrap(), "checkpoint");
    assert_eq!(slow.source_position("topic", 7).unwrap(), b"offset 2");
}

#[tokio::test]
async fn version_1_is_readable() {
    let (_dir, journal, recovery, slow) = open("whole").await;
    assert!(
        recovery.torn.is_empty() && recovery.corrupt.is_empty() && recovery.lost.is_empty(),
        "{recovery:?}"
    );
    assert_eq!(recovery.streams, [key("slow"), key("fast")]);
    assert!(journal.stats().segment_bytes > 0, "{:?}", journal.stats());
    check(&slow, &[]);
    assert_eq!(slow.append(Records::one("next", 1)).await.unwrap().first_offset, RECORDS + 1);
}

#[tokio::test]
async fn version_1_among_files_that_are_not_its_own_reads_the_same() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let dir = tempfile::tempdir().unwrap();
    copy(&fixtures.join("whole"), dir.path());
    let journal = dir.path().join("journal/00000005.wmj");
    // A segment holds records and entries; what else is in a journal file is neither.
    std::fs::copy(&journal, dir.path().join("segments/00000009.wms")).unwrap();
    // No file has these numbers, and none could follow.
    let last = u64::MAX;
    for name in
        [format!("journal/{last}.wmj"), format!("journal/spare-{last}"), format!("segments/{last}.wms")]
    {
        std::fs::copy(&journal, dir.path().join(name)).unwrap();
    }
    for next in RECORDS + 1..RECORDS + 3 {
        let (journal, recovery) = Journal::open(dir.path(), options()).unwrap();
        assert!(recovery.corrupt.is_empty() && recovery.lost.is_empty(), "{recovery:?}");
        let slow = stream(&journal, "slow").await;
        assert_eq!(slow.append(Records::one(text(next), 9_001)).await.unwrap().first_offset, next);
        let kinds: Vec<_> = slow.entries().iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [EntryKind::Outcome, EntryKind::Mark]);
        let found = slow.try_frames(2, usize::MAX).unwrap();
        assert!(found.lost.is_empty(), "{:?}", found.lost);
        let read: Vec<&[u8]> = found.frames.iter().flat_map(|frame| frame.records()).collect();
        let told: Vec<String> = (2..=next).map(text).collect();
        assert_eq!(read, told.iter().map(String::as_bytes).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn version_1_torn_loses_only_what_was_never_acknowledged() {
    let (_dir, _journal, recovery, slow) = open("torn").await;
    assert_eq!((recovery.torn.len(), recovery.torn[0].records), (1, Some(1)), "{recovery:?}");
    assert!(recovery.corrupt.is_empty() && recovery.lost.is_empty(), "{recovery:?}");
    check(&slow, &[RECORDS]);
    assert_eq!(slow.append(Records::one("next", 1)).await.unwrap().first_offset, RECORDS);
}

#[tokio::test]
async fn version_1_corrupt_loses_one_frame_and_says_so() {
    let (_dir, _journal, recovery, slow) = open("corrupt").await;
    let gone = RECORDS - 2..RECORDS - 1;
    assert_eq!(recovery.corrupt.len(), 1, "{recovery:?}");
    assert_eq!(recovery.corrupt[0].offsets, Some(gone.clone()));
    assert_eq!(recovery.corrupt[0].stream, Some(key("slow")));
    assert_eq!(recovery.lost, [(key("slow"), gone.clone())]);
    assert!(recovery.torn.is_empty(), "{recovery:?}");
    assert_eq!(slow.try_frames(0, usize::MAX).unwrap().lost, [gone]);
    check(&slow, &[RECORDS - 2]);
}

/// The whole fixture, with one file damaged in one of several ways.
fn damaged(random: &mut SmallRng) -> (FaultyDisk, String) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/whole");
    let mut all = files(&fixture, "journal", "wmj");
    all.extend(files(&fixture, "segments", "wms"));
    let disk = FaultyDisk::new(0);
    let chosen = random.random_range(0..all.len());
    let mut what = String::new();
    for (index, file) in all.iter().enumerate() {
        let mut bytes = std::fs::read(file).unwrap();
        if index == chosen {
            let at = random.random_range(0..bytes.len());
            let end = (at + random.random_range(1..3000)).min(bytes.len());
            let manner = random.random_range(0..6);
            what = format!("{} at {at} to {end}, manner {manner}", file.display());
            match manner {
                0 => bytes[at] ^= 1 << random.random_range(0..8),
                1 => bytes[at..end].fill(0),
                2 => bytes.truncate(at),
                3 => random.fill(&mut bytes[at..end]),
                // What another place holds: sound frames in the wrong place.
                4 => bytes.copy_within(at / 64 * 64..end, end / 64 * 64 / 2),
                _ => bytes.clear(),
            }
        }
        let path = Path::new("/data").join(file.strip_prefix(&fixture).unwrap());
        disk.create_dir(path.parent().unwrap()).unwrap();
        let copy = disk.create(&path, 0, false).unwrap();
        assert_eq!(copy.write_at(&[IoSlice::new(&bytes)], 0).unwrap(), bytes.len());
        copy.sync().unwrap();
    }
    (disk, what)
}

/// The newest journal file holds the records from this offset on.
const LAST_FILE_FROM: u64 = 38;

#[test]
fn version_1_damaged_anywhere_gives_no_wrong_record() {
    let mut random = SmallRng::seed_from_u64(1);
    let (mut whole, mut less) = (0, 0);
    for _ in 0..1000 {
        let (disk, what) = damaged(&mut random);
        let opened = Journal::open_stepped(Arc::new(disk), Path::new("/data"), options());
        let (journal, recovery) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let slow = journal.drive(stream(&journal, "slow"));
        let found = slow.try_frames(0, usize::MAX).unwrap();
        let mut at = 0;
        for frame in &found.frames {
            assert!(frame.base_offset >= at, "{what}: {} before {at}", frame.base_offset);
            at = frame.end_offset();
            if frame.base_offset > 0 {
                let told = text(frame.base_offset);
                assert_eq!(frame.record(0).unwrap(), told.as_bytes(), "{what}");
            }
        }
        for entry in slow.entries() {
            // An error is an answer, a wrong body is not.
            if let Ok(body) = slow.read_entry(entry.position) {
                assert!(body == ENTRY || body.is_empty(), "{what}");
            }
        }
        let next = journal.drive(slow.append(Records::one("next", 1))).unwrap().first_offset;
        assert!(next >= at, "{what}: {next} after {at}");
        let complete = found.frames.len() as u64 == RECORDS && found.lost.is_empty();
        let silent = recovery.corrupt.is_empty() && recovery.torn.is_empty() && found.lost.is_empty();
        // Without a word nothing may be missing, but at the very end, where nothing says that it was durable.
        let last = what.contains("00000007") && at >= LAST_FILE_FROM;
        assert!(complete || !silent || last, "{what}: {recovery:?}");
        *(if complete { &mut whole } else { &mut less }) += 1;
    }
    assert!(whole > 100 && less > 100, "{whole} {less}");
}
