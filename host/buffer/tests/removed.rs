//! Files that somebody takes away, under a running journal or between two runs: nothing is acknowledged into a file that
//! nobody will find, and what is missing is said.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use wasmill_buffer::{
    AppendError, Durability, Journal, Numbered, Options, Position, Records, Recovery, Stream, StreamKey,
    StreamOptions,
};

const FILE: u64 = 16 << 10;

async fn open_as(dir: &Path, durability: Durability) -> (Journal, Recovery, Stream) {
    let options = Options { file_bytes: FILE, max_journal_bytes: 1 << 30, durability, ..Options::default() };
    let (journal, recovery) = Journal::open(dir, options).unwrap();
    let key = StreamKey { tenant: "t".into(), name: "s".into() };
    let stream = journal.stream(&key, StreamOptions { max_bytes: 1 << 30, retention: None }).await.unwrap();
    (journal, recovery, stream)
}

async fn open(dir: &Path) -> (Journal, Recovery, Stream) {
    open_as(dir, Durability::Fsync).await
}

async fn put(stream: &Stream, text: &str) -> Result<u64, AppendError> {
    stream.append(Records::one(text.to_owned(), 1)).await.map(|receipt| receipt.first_offset)
}

fn all(stream: &Stream) -> Vec<String> {
    let found = stream.try_frames(0, usize::MAX).unwrap();
    let text = |frame: &wasmill_buffer::Frame| String::from_utf8(frame.record(0).unwrap().to_vec()).unwrap();
    found.frames.iter().map(|frame| text(frame)).collect()
}

/// Journal files, oldest first; the spares beside them have other names.
fn files(dir: &Path, folder: &str, extension: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn data_directory_removed_under_the_journal_acknowledges_nothing_any_more() {
    for durability in [Durability::Fsync, Durability::Os] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("data");
        let (journal, _, stream) = open_as(&dir, durability).await;
        let numbered = Numbered { producer: "p".into(), sequence: 1, digest: [1; 16] };
        let request = Records { numbered: Some(numbered), ..Records::one("a", 1) };
        stream.append(request.clone()).await.unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        // What it wrote then is gone or was moved with the directory: it cannot tell.
        assert!(matches!(put(&stream, "b").await, Err(AppendError::Unknown)));
        let takes = journal.check_takes_appends().await;
        assert!(matches!(takes, Err(AppendError::Storage { .. })), "{takes:?}");
        for _ in 0..3 {
            match put(&stream, "c").await {
                Err(AppendError::Storage { source }) => {
                    assert!(source.to_string().contains("was removed, moved or replaced"), "{source}");
                }
                other => panic!("{other:?}"),
            }
        }
        // Nor is an old receipt given out again.
        let again = stream.append(request).await;
        assert!(matches!(again, Err(AppendError::Storage { .. })), "{again:?}");
        assert!(stream.checkpoint("", 1, Position(0), true).await.is_err());
        assert_eq!(all(&stream), ["a"], "what was stored stays readable");
        assert!(!dir.exists(), "the directory is not made anew");
        drop(journal);
    }
}

#[tokio::test]
async fn data_directory_moved_away_is_used_again_once_it_is_back() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, elsewhere) = (scratch.path().join("data"), scratch.path().join("elsewhere"));
    let (journal, _, stream) = open(&dir).await;
    assert_eq!(put(&stream, "a").await.unwrap(), 0);
    std::fs::rename(&dir, &elsewhere).unwrap();
    assert!(matches!(put(&stream, "b").await, Err(AppendError::Unknown)));
    assert!(matches!(put(&stream, "c").await, Err(AppendError::Storage { .. })));
    assert!(journal.check_takes_appends().await.is_err());
    std::fs::rename(&elsewhere, &dir).unwrap();
    journal.check_takes_appends().await.unwrap();
    // The unknown append has used up its offset.
    assert_eq!(put(&stream, "d").await.unwrap(), 2);
    drop(journal);
    let (_journal, recovery, stream) = open(&dir).await;
    assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "{recovery:?}");
    assert_eq!(all(&stream), ["a", "d"]);
}

#[tokio::test]
async fn data_directory_of_another_journal_in_the_old_place_is_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, elsewhere) = (scratch.path().join("data"), scratch.path().join("elsewhere"));
    let (old, _, stream) = open(&dir).await;
    put(&stream, "old").await.unwrap();
    std::fs::rename(&dir, &elsewhere).unwrap();
    let (new, recovery, other) = open(&dir).await;
    assert!(recovery.streams.is_empty(), "{recovery:?}");
    put(&other, "new").await.unwrap();
    let before = files(&dir, "journal", "wmj");
    assert!(matches!(put(&stream, "x").await, Err(AppendError::Unknown)));
    let text = "y".repeat(2000);
    for _ in 0..20 {
        assert!(matches!(put(&stream, &text).await, Err(AppendError::Storage { .. })));
    }
    drop(old);
    assert_eq!(files(&dir, "journal", "wmj"), before);
    put(&other, "newer").await.unwrap();
    drop(new);
    let (_new, recovery, other) = open(&dir).await;
    assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "{recovery:?}");
    assert_eq!(all(&other), ["new", "newer"]);
    let (_old, recovery, stream) = open(&elsewhere).await;
    assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "{recovery:?}");
    assert_eq!(all(&stream)[0], "old");
}

#[tokio::test]
async fn journal_file_removed_alone_is_noticed_and_a_new_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "a").await.unwrap();
    std::fs::remove_file(files(dir.path(), "journal", "wmj").pop().unwrap()).unwrap();
    // The spare beside it, too.
    for entry in std::fs::read_dir(dir.path().join("journal")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("spare-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert!(matches!(put(&stream, "b").await, Err(AppendError::Unknown)));
    assert_eq!(put(&stream, "c").await.unwrap(), 2);
    assert_eq!(all(&stream), ["a", "c"]);
    drop(journal);
    // The next run finds what came later, and says what is missing.
    let (_journal, recovery, stream) = open(dir.path()).await;
    assert_eq!(recovery.lost, [(stream.key().clone(), 0..1)], "{recovery:?}");
    assert_eq!(all(&stream), ["c"]);
}

#[tokio::test]
async fn journal_file_missing_at_open_is_reported_as_lost_offsets_and_reading_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    let text = |n: u64| format!("{n:03} {}", "x".repeat(1500));
    for n in 0..40 {
        assert_eq!(put(&stream, &text(n)).await.unwrap(), n);
    }
    journal.close().await.unwrap();
    drop(journal);
    let all_files = files(dir.path(), "journal", "wmj");
    assert!(all_files.len() >= 4, "{all_files:?}");
    let gone = std::fs::read(&all_files[1]).unwrap();
    std::fs::remove_file(&all_files[1]).unwrap();
    // Its first record stands behind its head; a file's records are consecutive.
    let has = |n: &u64| {
        let text = text(*n);
        gone.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let lost: Vec<u64> = (0..40).filter(has).collect();
    assert!(lost.len() > 3 && lost[0] > 0 && *lost.last().unwrap() < 39, "{lost:?}");
    let range = lost[0]..lost.last().unwrap() + 1;
    let (_journal, recovery, stream) = open(dir.path()).await;
    assert_eq!(recovery.lost, [(stream.key().clone(), range.clone())], "{recovery:?}");
    let found = stream.try_frames(0, usize::MAX).unwrap();
    assert_eq!(found.lost, std::slice::from_ref(&range));
    assert_eq!(all(&stream), (0..40).filter(|n| !range.contains(n)).map(text).collect::<Vec<_>>());
    assert_eq!(put(&stream, "next").await.unwrap(), 40);
}

#[tokio::test]
async fn segment_missing_at_open_is_reported_as_lost_offsets_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { file_bytes: FILE, max_journal_bytes: 4 * FILE, ..Options::default() };
    let text = |n: u64| format!("{n:03} {}", "x".repeat(1500));
    let key = StreamKey { tenant: "t".into(), name: "s".into() };
    {
        let (journal, _) = Journal::open(dir.path(), options.clone()).unwrap();
        let stream =
            journal.stream(&key, StreamOptions { max_bytes: 1 << 30, retention: None }).await.unwrap();
        for n in 0..100 {
            put(&stream, &text(n)).await.unwrap();
        }
        journal.close().await.unwrap();
    }
    let segments = files(dir.path(), "segments", "wms");
    let bytes = std::fs::read(segments.first().expect("frames were moved")).unwrap();
    std::fs::remove_file(&segments[0]).unwrap();
    let has = |n: &u64| {
        let text = text(*n);
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let (_journal, recovery) = Journal::open(dir.path(), options).unwrap();
    let stream = _journal.stream(&key, StreamOptions { max_bytes: 1 << 30, retention: None }).await.unwrap();
    let lost: Vec<u64> = recovery.lost.iter().flat_map(|(_, range)| range.clone()).collect();
    // A frame may be in the journal still, if its file was not freed yet.
    assert!(lost.len() > 3 && lost.iter().all(has), "{lost:?}");
    assert_eq!(all(&stream), (0..100).filter(|n| !lost.contains(n)).map(text).collect::<Vec<_>>());
    assert_eq!(put(&stream, "next").await.unwrap(), 100);
}

#[tokio::test]
async fn clock_that_goes_backwards_gives_arrivals_that_never_decrease_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    for arrival in [100, 50, 120, -7] {
        stream.append(Records::one("r", arrival)).await.unwrap();
    }
    let arrivals = |stream: &Stream| {
        let found = stream.try_frames(0, usize::MAX).unwrap();
        found.frames.iter().map(|frame| frame.arrival).collect::<Vec<_>>()
    };
    assert_eq!(arrivals(&stream), [100, 100, 120, 120]);
    drop(journal);
    let (journal, _, stream) = open(dir.path()).await;
    stream.append(Records::one("r", 3)).await.unwrap();
    // Everything is released and its files are freed: the last arrival is still known.
    let end = stream.durable_end();
    stream.checkpoint("", end, stream.journal_end(), true).await.unwrap();
    let text = "x".repeat(3000);
    for _ in 0..20 {
        let at = stream.append(Records::one(text.clone(), 1)).await.unwrap().first_offset;
        stream.checkpoint("", at, stream.journal_end(), true).await.unwrap();
    }
    drop(journal);
    let (_journal, _, stream) = open(dir.path()).await;
    stream.append(Records::one("r", 5)).await.unwrap();
    assert!(arrivals(&stream).iter().all(|arrival| *arrival == 120), "{:?}", arrivals(&stream));
}
