//! The journal on a real disk: what was acknowledged is read back, whatever happens to the files in between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::single_range_in_vec_init,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmill_buffer::{
    AppendError, EntryKind, Journal, OpenError, Options, Position, Records, Recovery, SourcePosition, Stream,
    StreamKey, StreamOptions,
};

fn options() -> Options {
    Options { file_bytes: 64 << 10, ..Options::default() }
}

async fn open(dir: &Path) -> (Journal, Recovery, Stream) {
    let (journal, recovery) = Journal::open(dir, options()).unwrap();
    let key = StreamKey { tenant: "default".into(), name: "access".into() };
    let stream = journal.stream(&key, StreamOptions { max_bytes: 1 << 30, retention: None }).await.unwrap();
    (journal, recovery, stream)
}

async fn put(stream: &Stream, text: &str) -> u64 {
    stream.append(Records::one(text.to_owned(), 7)).await.unwrap().first_offset
}

fn all(stream: &Stream, mut from: u64) -> Vec<String> {
    let mut out = Vec::new();
    loop {
        let found = stream.try_frames(from, 10_000).unwrap();
        if found.next_offset == from {
            return out;
        }
        from = found.next_offset;
        for frame in found.frames {
            out.extend(frame.records().map(|r| String::from_utf8(r.to_vec()).unwrap()));
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(dir.join("journal")).unwrap().map(|e| e.unwrap().path());
    let mut names: Vec<_> = names.filter(|p| p.extension().is_some_and(|e| e == "wmj")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn journal_closed_and_reopened_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, recovery, stream) = open(dir.path()).await;
    assert!(recovery.clean);
    for i in 0..50 {
        assert_eq!(put(&stream, &format!("r{i}")).await, i);
    }
    let entry = stream.entry(EntryKind::Outcome, 0..10, "outcome").await.unwrap();
    stream.checkpoint("point", 10, entry, true).await.unwrap();
    let identity = (stream.incarnation(), stream.epoch());
    journal.close().await.unwrap();
    assert!(matches!(stream.append(Records::one("x", 1)).await, Err(AppendError::Closed)));
    drop(journal);
    let (_journal, recovery, stream) = open(dir.path()).await;
    assert!(recovery.clean, "{recovery:?}");
    assert_eq!((stream.incarnation(), stream.epoch()), identity);
    assert_eq!(all(&stream, 0), (10..50).map(|i| format!("r{i}")).collect::<Vec<_>>());
    assert_eq!(stream.latest_checkpoint().unwrap(), "point");
    assert_eq!(stream.entries().len(), 1);
    assert_eq!(stream.read_entry(entry).unwrap(), "outcome");
    assert_eq!(put(&stream, "next").await, 50);
}

#[tokio::test]
async fn journal_dropped_without_close_keeps_everything_in_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "a").await;
    let epoch = stream.epoch();
    drop(journal);
    let (_journal, recovery, stream) = open(dir.path()).await;
    assert!(!recovery.clean && recovery.corrupt.is_empty() && recovery.torn.is_empty(), "{recovery:?}");
    assert!(stream.epoch() > epoch);
    assert_eq!(all(&stream, 0), ["a"]);
}

#[tokio::test]
async fn files_whose_records_are_released_are_recycled() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    let text = "x".repeat(10_000);
    for i in 0..100 {
        let offset = put(&stream, &format!("{i}{text}")).await;
        stream.checkpoint("", offset, Position(0), i % 3 == 0).await.unwrap();
    }
    assert!(journal.stats().journal_files <= 3, "{:?}", journal.stats());
    drop(journal);
    let (journal, recovery, stream) = open(dir.path()).await;
    assert!(
        recovery.torn.is_empty() && recovery.corrupt.is_empty() && recovery.lost.is_empty(),
        "{recovery:?}"
    );
    let found = all(&stream, 99);
    assert_eq!(found, [format!("99{text}")]);
    journal.close().await.unwrap();
}

#[tokio::test]
async fn tail_cut_at_every_byte_of_the_last_frame_loses_only_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "first").await;
    let at = stream.append(Records::one("second", 7)).await.unwrap().position;
    drop(journal);
    let file = files(dir.path()).pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    // One file so far, which starts at position 0.
    for cut in (at as usize..at as usize + 256).step_by(7) {
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("journal")).unwrap();
        let mut bytes = whole.clone();
        bytes[cut..].fill(0);
        std::fs::write(copy.path().join("journal").join(file.file_name().unwrap()), bytes).unwrap();
        let (_journal, recovery, stream) = open(copy.path()).await;
        let found = all(&stream, 0);
        assert!(found == ["first"] || found == ["first", "second"], "{cut}: {found:?} {recovery:?}");
        assert!(recovery.corrupt.is_empty(), "{cut}: {recovery:?}");
        // Before its position (two bytes of it are not zero) nothing tells it from what an older file left.
        let torn = found.len() == 1 && cut >= at as usize + 42;
        assert_eq!(torn, !recovery.torn.is_empty(), "{cut}: {recovery:?}");
        assert_eq!(put(&stream, "third").await, found.len() as u64);
    }
}

#[tokio::test]
async fn bit_flipped_before_the_durable_position_is_reported_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "first").await;
    let at = stream.append(Records::one("second", 7)).await.unwrap().position;
    put(&stream, "third").await;
    journal.close().await.unwrap();
    drop(journal);
    let file = files(dir.path()).pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    // Header, column table, ends and payload; what follows is padding up to the next frame.
    for flip in (0..168).step_by(8).chain(168..182) {
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("journal")).unwrap();
        let mut bytes = whole.clone();
        bytes[at as usize + flip] ^= 4;
        std::fs::write(copy.path().join("journal").join(file.file_name().unwrap()), bytes).unwrap();
        let (_journal, recovery, stream) = open(copy.path()).await;
        assert_eq!(all(&stream, 0), ["first", "third"], "{flip}: {recovery:?}");
        assert_eq!(recovery.corrupt.len(), 1, "{flip}: {recovery:?}");
        assert!(recovery.corrupt[0].set_aside.as_ref().unwrap().exists());
        assert_eq!(recovery.lost.iter().map(|(_, r)| r.clone()).collect::<Vec<_>>(), [1..2]);
        assert_eq!(stream.try_frames(0, 10_000).unwrap().lost, [1..2]);
    }
}

#[tokio::test]
async fn second_opener_is_refused_with_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let (_journal, _, _stream) = open(dir.path()).await;
    let Err(error @ OpenError::Locked { .. }) = Journal::open(dir.path(), options()) else {
        panic!("opened twice")
    };
    let says = error.to_string();
    let host = rustix::system::uname();
    let holder = format!("in use by process {} on {}", std::process::id(), host.nodename().to_string_lossy());
    assert!(says.contains(&holder) && says.contains(&dir.path().display().to_string()), "{says}");
}

#[tokio::test]
async fn stream_at_its_bound_refuses_until_records_are_released() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, _) = open(dir.path()).await;
    let key = StreamKey { tenant: "t".into(), name: "small".into() };
    let stream = journal.stream(&key, StreamOptions { max_bytes: 4096, retention: None }).await.unwrap();
    put(&stream, "a").await;
    put(&stream, "b").await;
    assert!(matches!(stream.append(Records::one("c", 1)).await, Err(AppendError::StreamFull { .. })));
    stream.checkpoint("", 2, Position(0), true).await.unwrap();
    assert_eq!(put(&stream, "c").await, 2);
}

#[tokio::test]
async fn close_with_a_checkpoint_waiting_is_clean_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "a").await;
    stream.checkpoint("late", 1, Position(0), false).await.unwrap();
    journal.close().await.unwrap();
    drop(journal);
    let (_journal, recovery, stream) = open(dir.path()).await;
    assert!(recovery.clean, "{recovery:?}");
    assert_eq!(stream.latest_checkpoint().unwrap(), "late");
}

#[tokio::test]
async fn deleted_stream_is_gone_after_reopen_and_its_name_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "a").await;
    let old = stream.incarnation();
    stream.delete().await.unwrap();
    assert!(matches!(stream.append(Records::one("b", 1)).await, Err(AppendError::Deleted)));
    drop(journal);
    let (_journal, recovery, stream) = open(dir.path()).await;
    assert!(recovery.streams.is_empty(), "{recovery:?}");
    assert_ne!(stream.incarnation(), old);
    assert_eq!(stream.next_offset(), 0);
}

#[tokio::test]
async fn oldest_arrival_is_that_of_the_first_frame_that_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    assert_eq!(stream.oldest_arrival(0), None);
    for arrival in [10, 20, 30] {
        stream.append(Records::new("ab", vec![1, 2], arrival)).await.unwrap();
    }
    let seen = |stream: &Stream| [0, 1, 2, 5, 6].map(|offset| stream.oldest_arrival(offset));
    assert_eq!(seen(&stream), [Some(10), Some(10), Some(20), Some(30), None]);
    stream.checkpoint("", 3, Position(0), true).await.unwrap();
    drop(journal);
    let (_journal, _, stream) = open(dir.path()).await;
    assert_eq!(seen(&stream), [Some(20), Some(20), Some(20), Some(30), None]);
}

#[tokio::test]
async fn checkpoint_at_the_journal_end_releases_every_entry_before_and_none_after() {
    let dir = tempfile::tempdir().unwrap();
    let (_journal, _, stream) = open(dir.path()).await;
    let before = stream.entry(EntryKind::Outcome, 0..1, "before").await.unwrap();
    let end = stream.journal_end();
    assert!(before < end);
    let after = stream.entry(EntryKind::Mark, 0..1, "after").await.unwrap();
    assert!(after >= end);
    stream.checkpoint("", 0, end, true).await.unwrap();
    assert_eq!(stream.entries().iter().map(|e| e.position).collect::<Vec<_>>(), [after]);
}

#[tokio::test]
async fn durable_past_returns_with_the_record_and_at_the_end_but_not_again() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    let soon = std::time::Duration::from_secs(20);
    let waits = tokio::spawn({
        let stream = stream.clone();
        async move { stream.durable_past(1).await }
    });
    put(&stream, "a").await;
    stream.durable_past(0).await;
    put(&stream, "b").await;
    tokio::time::timeout(soon, waits).await.unwrap().unwrap();
    let mut waits = Box::pin(stream.durable_past(2));
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
    journal.close().await.unwrap();
    tokio::time::timeout(soon, waits).await.unwrap();
    assert!(stream.has_ended());
    // Durable records are still announced; beyond them nothing comes, and a loop around this must not spin.
    stream.durable_past(1).await;
    let mut waits = Box::pin(stream.durable_past(2));
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
}

#[tokio::test]
async fn durable_bytes_at_wakes_once_there_are_so_many_or_the_journal_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    let soon = std::time::Duration::from_secs(20);
    put(&stream, "abc").await;
    assert_eq!(stream.durable_bytes(), 3);
    stream.durable_bytes_at(3).await;
    let polls = Arc::new(AtomicUsize::new(0));
    let waits = tokio::spawn({
        let (stream, polls) = (stream.clone(), Arc::clone(&polls));
        async move {
            let mut waits = Box::pin(stream.durable_bytes_at(6));
            let counted = std::future::poll_fn(|cx| {
                polls.fetch_add(1, Ordering::SeqCst);
                waits.as_mut().poll(cx)
            });
            counted.await;
        }
    });
    while polls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    put(&stream, "de").await;
    put(&stream, "").await;
    assert_eq!((stream.durable_end(), stream.durable_bytes()), (3, 5));
    put(&stream, "f").await;
    tokio::time::timeout(soon, waits).await.unwrap().unwrap();
    assert_eq!(polls.load(Ordering::SeqCst), 2, "what is too little wakes nobody");
    // With it goes its patience.
    let mut waits = Box::pin(stream.durable_bytes_at(100));
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
    drop(waits);
    let waits = tokio::spawn({
        let stream = stream.clone();
        async move { stream.durable_past(4).await }
    });
    put(&stream, "g").await;
    tokio::time::timeout(soon, waits).await.unwrap().unwrap();
    let mut waits = Box::pin(stream.durable_bytes_at(100));
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
    journal.close().await.unwrap();
    tokio::time::timeout(soon, waits).await.unwrap();
    assert!(stream.has_ended());
}

#[tokio::test]
async fn source_stands_with_its_records_and_its_position_only_where_it_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    let put = async |stream: &Stream, name: &str, position: &str| {
        let source = SourcePosition { name: name.into(), partition: 0, position: position.into() };
        let records = Records { source: Some(source), ..Records::one(format!("{name} {position}"), 7) };
        stream.append(records).await.unwrap();
    };
    put(&stream, "logs/files", "at 1").await;
    put(&stream, "logs/files", "").await;
    put(&stream, "web/", "").await;
    stream.append(Records::one("none", 7)).await.unwrap();
    let check = |stream: &Stream| {
        let position =
            |name| stream.source_position(name, 0).map(|position| String::from_utf8(position).unwrap());
        assert_eq!((position("logs/files").as_deref(), position("web/")), (Some("at 1"), None));
        let frames = stream.try_frames(0, 10_000).unwrap().frames;
        let sources: Vec<&str> = frames.iter().map(|frame| frame.source.as_str()).collect();
        assert_eq!(sources, ["logs/files", "logs/files", "web/", ""]);
    };
    check(&stream);
    // From the frames, and from what a clean end has written.
    drop((stream, journal));
    let (journal, _, stream) = open(dir.path()).await;
    check(&stream);
    journal.close().await.unwrap();
    drop((stream, journal));
    let (_journal, recovery, stream) = open(dir.path()).await;
    assert!(recovery.clean);
    check(&stream);
}
