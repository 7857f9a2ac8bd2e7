//! History: what is kept of records that were released, beside streams that keep nothing, across restarts and moves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wasmill_buffer::testing::FaultyDisk;
use wasmill_buffer::{
    AppendError, Disk, Journal, Options, Position, Records, Recovery, Retention, Stream, StreamKey,
    StreamOptions,
};

const FILE: u64 = 16 << 10;
const SECOND: i64 = 1_000_000_000;

struct World {
    disk: FaultyDisk,
    retention: Option<Retention>,
    max_bytes: u64,
}

impl World {
    fn new(retention: Option<Retention>) -> World {
        World { disk: FaultyDisk::new(7), retention, max_bytes: 1 << 30 }
    }

    /// The stream with history, and one without.
    fn open(&self) -> (Journal, Recovery, Stream, Stream) {
        let options = Options {
            file_bytes: FILE,
            max_journal_bytes: 4 * FILE,
            memory_bytes: 1 << 12,
            ..Options::default()
        };
        let disk = Arc::new(self.disk.clone());
        let (journal, recovery) = Journal::open_stepped(disk, Path::new("/data"), options).unwrap();
        let stream = |name: &str, retention| {
            let key = StreamKey { tenant: "t".into(), name: name.into() };
            journal
                .drive(journal.stream(&key, StreamOptions { max_bytes: self.max_bytes, retention }))
                .unwrap()
        };
        let (kept, other) = (stream("kept", self.retention), stream("other", None));
        (journal, recovery, kept, other)
    }
}

fn retention(bytes: u64, age_s: u64) -> Option<Retention> {
    Some(Retention { bytes, age: Duration::from_secs(age_s) })
}

fn text(i: u64) -> String {
    format!("{i} {}", "h".repeat(i as usize % 2000))
}

/// Appends records of both streams that arrive a second apart, and releases them at once.
fn load(journal: &Journal, kept: &Stream, other: &Stream, range: std::ops::Range<u64>) {
    for i in range {
        let arrival = i as i64 * SECOND;
        let receipt = journal.drive(kept.append(Records::one(text(i), arrival))).unwrap();
        assert_eq!(receipt.first_offset, i);
        journal.drive(kept.checkpoint("", i + 1, Position(0), true)).unwrap();
        let receipt = journal.drive(other.append(Records::one("o".repeat(3000), arrival))).unwrap();
        journal.drive(other.checkpoint("", receipt.first_offset + 1, Position(0), true)).unwrap();
    }
}

/// Offsets of the history that can be read, whose content is checked.
fn history(stream: &Stream) -> Vec<u64> {
    let mut offsets = Vec::new();
    let (mut at, end) = (0, stream.durable_end());
    while at < end {
        let found = stream.read_history(at..end, 10_000).unwrap();
        for frame in &found.frames {
            assert_eq!(frame.record(0).unwrap(), text(frame.base_offset).as_bytes());
            offsets.push(frame.base_offset);
        }
        assert!(found.next_offset > at);
        at = found.next_offset;
    }
    offsets
}

#[test]
fn history_within_its_size_stays_readable_across_moves_and_restarts_and_the_oldest_goes_first() {
    let world = World::new(retention(100_000, 1_000_000));
    let (journal, _, kept, other) = world.open();
    load(&journal, &kept, &other, 0..200);
    let before = history(&kept);
    assert!(journal.stats().segment_bytes > 0);
    assert_eq!(journal.stats().retained_bytes, kept.retained_bytes());
    // As much as fits, without a gap, up to the newest.
    assert!((95_000..=100_000).contains(&kept.retained_bytes()), "{}", kept.retained_bytes());
    assert_eq!(before, (before[0]..200).collect::<Vec<_>>());
    assert_eq!(kept.oldest_retained(), Some(before[0] as i64 * SECOND));
    assert_eq!((other.retained_bytes(), kept.buffered_bytes()), (0, 0));
    // What is dropped is freed: history, twice over as segments may be sparse, and a few files.
    let stats = journal.stats();
    assert!(stats.segment_bytes <= 2 * 100_000 + 2 * FILE, "{stats:?}");
    drop((journal, kept, other));
    for crash in [false, true] {
        let before_open = before.clone();
        if crash {
            drop(journal_of(&world));
            world.disk.crash();
            world.disk.reboot();
        }
        let (journal, recovery, kept, other) = world.open();
        assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "{recovery:?}");
        assert_eq!(history(&kept), before_open);
        assert_eq!((other.retained_bytes(), kept.buffered_bytes()), (0, 0));
        if !crash {
            journal.drive(journal.close()).unwrap();
        }
    }
    // Without retention everything goes.
    let world = World { retention: None, ..world };
    let (journal, _, kept, other) = world.open();
    assert_eq!((history(&kept), kept.retained_bytes()), (vec![], 0));
    load(&journal, &kept, &other, 200..220);
    assert_eq!(journal.stats().segment_bytes, 0);
}

/// Opened and dropped without an orderly end.
fn journal_of(world: &World) -> Journal {
    world.open().0
}

#[test]
fn history_beside_a_slow_stream_outlives_the_compaction_of_its_segments() {
    let world = World::new(retention(u64::MAX, 1_000_000));
    let (journal, _, kept, other) = world.open();
    // The other stream holds on to its records, so that they share segments, and lets go later.
    for i in 0..60 {
        journal.drive(kept.append(Records::one(text(i), i as i64))).unwrap();
        journal.drive(kept.checkpoint("", i + 1, Position(0), true)).unwrap();
        journal.drive(other.append(Records::one("o".repeat(6000), i as i64))).unwrap();
    }
    let full = journal.stats().segment_bytes;
    assert!(full > 0);
    journal.drive(other.checkpoint("", 60, Position(0), true)).unwrap();
    load(&journal, &kept, &other, 60..200);
    assert_eq!(history(&kept), (0..200).collect::<Vec<_>>());
    let stats = journal.stats();
    assert!(stats.segment_bytes <= 2 * kept.retained_bytes() + 2 * FILE, "{stats:?}");
    drop((journal, kept, other));
    let (_journal, _, kept, _) = world.open();
    assert_eq!(history(&kept), (0..200).collect::<Vec<_>>());
}

#[test]
fn history_older_than_its_age_is_dropped_when_the_time_is_told() {
    let world = World::new(retention(u64::MAX, 50));
    let (journal, _, kept, other) = world.open();
    load(&journal, &kept, &other, 0..100);
    assert_eq!(history(&kept).len(), 100);
    kept.expire(100 * SECOND);
    assert_eq!(history(&kept), (50..100).collect::<Vec<_>>());
    kept.expire(1_000 * SECOND);
    journal.step();
    assert_eq!((history(&kept), kept.retained_bytes(), kept.oldest_retained()), (vec![], 0, None));
    let stats = journal.stats();
    assert!(stats.segment_bytes == 0 && stats.journal_files <= 2, "{stats:?}");
}

#[test]
fn history_does_not_count_against_what_a_stream_may_buffer() {
    let world = World { max_bytes: 50_000, ..World::new(retention(u64::MAX, 1_000_000)) };
    let (journal, _, kept, other) = world.open();
    load(&journal, &kept, &other, 0..100);
    assert!(kept.retained_bytes() > 4 * 50_000 && kept.buffered_bytes() == 0);
    let full = (100..).find_map(|i| journal.drive(kept.append(Records::one(text(i), 0))).err());
    assert!(matches!(full, Some(AppendError::StreamFull { .. })), "{full:?}");
    drop((journal, kept, other));
    let (_journal, _, kept, _) = world.open();
    assert!(kept.retained_bytes() > 4 * 50_000 && kept.buffered_bytes() <= 50_000);
}

#[test]
fn history_is_found_by_arrival_whether_or_not_it_was_released() {
    let world = World::new(retention(u64::MAX, 1_000_000));
    let (journal, _, kept, other) = world.open();
    load(&journal, &kept, &other, 0..50);
    for i in 50..100 {
        journal.drive(kept.append(Records::one(text(i), i as i64 * SECOND))).unwrap();
    }
    let find = |from: i64, to: i64| kept.history(from * SECOND..to * SECOND).unwrap().offsets;
    assert_eq!([find(0, 10), find(40, 60), find(90, 1000), find(-5, 2)], [0..10, 40..60, 90..100, 0..2]);
    assert!(find(7, 7).is_empty() && find(100, 200).is_empty() && find(-9, 0).is_empty());
    let kept_arrivals = kept.history(0..1).unwrap().kept;
    assert_eq!(kept_arrivals, Some((0, 99 * SECOND)));
    // Dropped while somebody reads: what is missing is said.
    kept.expire(1_000_020 * SECOND);
    let found = kept.read_history(0..30, usize::MAX).unwrap();
    assert_eq!(
        (found.lost.as_slice(), found.next_offset),
        (&[std::ops::Range { start: 0, end: 20 }][..], 30)
    );
    assert_eq!(
        found.frames.iter().map(|frame| frame.base_offset).collect::<Vec<_>>(),
        (20..30).collect::<Vec<_>>()
    );
}

#[test]
fn history_is_read_on_behind_frames_that_are_corrupt() {
    let world = World::new(retention(u64::MAX, 1_000_000));
    let (journal, _, kept, other) = world.open();
    load(&journal, &kept, &other, 0..50);
    let mut found = 0;
    for folder in ["/data/journal", "/data/segments"] {
        for name in world.disk.list(Path::new(folder)).unwrap() {
            let Ok(file) = world.disk.open(&Path::new(folder).join(name)) else { continue };
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            let len = file.read_at(&mut bytes, 0).unwrap();
            for text in [text(10), text(11)] {
                if let Some(at) =
                    bytes[..len].windows(text.len()).position(|window| window == text.as_bytes())
                {
                    file.write_at(&[IoSlice::new(b"?")], at as u64).unwrap();
                    found += 1;
                }
            }
        }
    }
    assert!(found >= 2, "{found}");
    // An answer that nothing but corrupt frames fit in is not the end.
    let answer = kept.read_history(10..50, 600).unwrap();
    assert!(answer.frames.is_empty(), "{:?}", answer.frames);
    assert_eq!((&answer.lost[..], answer.next_offset), (&[10..11, 11..12][..], 12));
    assert_eq!(history(&kept), (0..10).chain(12..50).collect::<Vec<_>>());
}

#[test]
fn history_of_a_deleted_stream_leaves_nothing() {
    let world = World::new(retention(u64::MAX, 1_000_000));
    let (journal, _, kept, other) = world.open();
    load(&journal, &kept, &other, 0..100);
    assert!(journal.stats().segment_bytes > 0);
    journal.drive(kept.delete()).unwrap();
    journal.step();
    let stats = journal.stats();
    assert_eq!((stats.segment_bytes, stats.retained_bytes), (0, 0), "{stats:?}");
}

#[test]
fn history_that_fills_the_disk_gives_way_to_smaller_bounds_alone() {
    let mut world = World::new(retention(u64::MAX, 1_000_000));
    let (journal, _, kept, other) = world.open();
    world.disk.set_capacity(world.disk.used() + 12 * FILE);
    let put = |journal: &Journal, stream: &Stream, i: u64| {
        journal.drive(stream.append(Records::one("h".repeat(3000), i as i64 * SECOND)))
    };
    let full = (0..1000).find_map(|i| {
        let refused = put(&journal, &kept, i).err();
        journal.drive(kept.checkpoint("", kept.durable_end(), Position(0), true)).unwrap();
        refused
    });
    assert!(matches!(full, Some(AppendError::Storage { .. })), "{full:?}");
    let held = kept.retained_bytes();
    assert!(held > 8 * FILE, "{held}");
    assert!(journal.drive(journal.check_takes_appends()).is_err());
    assert!(put(&journal, &other, 0).is_err());
    assert_eq!(kept.retained_bytes(), held);
    // Nor a restart, where nobody says what is to be kept of the stream.
    drop(journal);
    let journal = journal_of(&world);
    assert_eq!(journal.stats().retained_bytes, held);
    drop(journal);
    world.retention = retention(2 * FILE, 1_000_000);
    let (journal, _, kept, other) = world.open();
    journal.step();
    assert!((1..=2 * FILE).contains(&kept.retained_bytes()));
    journal.drive(journal.check_takes_appends()).unwrap();
    put(&journal, &kept, 2000).unwrap();
    put(&journal, &other, 2000).unwrap();
}

#[test]
fn history_of_more_frames_than_go_at_a_time_is_within_its_bounds_at_once() {
    const FRAMES: u64 = 10_000;
    let world = World::new(retention(u64::MAX, 1_000_000));
    let (journal, _, kept, _other) = world.open();
    let load = |stream: &Stream| {
        for _ in 0..FRAMES / 1000 {
            let pending: Vec<_> = (0..1000).map(|_| stream.submit(Records::one("r", 1)).unwrap()).collect();
            journal.step();
            for pending in pending {
                journal.drive(pending.wait()).unwrap();
            }
        }
        journal.drive(stream.checkpoint("", stream.durable_end(), Position(0), true)).unwrap();
    };
    let again = |retention| {
        journal.drive(journal.stream(kept.key(), StreamOptions { max_bytes: 1 << 30, retention })).unwrap()
    };
    load(&kept);
    assert_eq!(kept.retained_bytes(), FRAMES * 2048);
    // By a bound that is lowered.
    again(retention(3 * 2048, 1_000_000));
    assert_eq!(kept.retained_bytes(), 3 * 2048);
    // By a checkpoint that lets go of all of them.
    load(&kept);
    assert_eq!(kept.retained_bytes(), 3 * 2048);
    // By age.
    again(retention(u64::MAX, 10));
    load(&kept);
    assert_eq!(kept.retained_bytes(), (FRAMES + 3) * 2048);
    kept.expire(11 * SECOND);
    assert_eq!(kept.retained_bytes(), 0);
    // With the stream: its files are free.
    load(&kept);
    assert_eq!(kept.retained_bytes(), FRAMES * 2048);
    journal.drive(kept.delete()).unwrap();
    journal.step();
    assert_eq!(kept.retained_bytes(), 0);
    let stats = journal.stats();
    assert_eq!((stats.journal_files, stats.segment_bytes), (1, 0), "{stats:?}");
}
