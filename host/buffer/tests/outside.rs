//! What somebody else did to the files: cut or removed them. No crash does this, so it is never called a torn tail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::single_range_in_vec_init,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use wasmill_buffer::format::{Header, Kind};
use wasmill_buffer::{
    Damage, EntryKind, Journal, Options, Position, Records, Recovery, Stream, StreamKey, StreamOptions,
};

const FILE: u64 = 64 << 10;

async fn open(dir: &Path) -> (Journal, Recovery, Stream) {
    open_with(dir, options()).await
}

fn options() -> Options {
    Options { file_bytes: FILE, ..Options::default() }
}

async fn open_with(dir: &Path, options: Options) -> (Journal, Recovery, Stream) {
    let (journal, recovery) = Journal::open(dir, options).unwrap();
    let key = StreamKey { tenant: "default".into(), name: "access".into() };
    let stream = journal.stream(&key, StreamOptions { max_bytes: 1 << 30, retention: None }).await.unwrap();
    (journal, recovery, stream)
}

async fn put(stream: &Stream, text: &str) -> u64 {
    stream.append(Records::one(text.to_owned(), 7)).await.unwrap().position
}

fn all(stream: &Stream) -> Vec<String> {
    let frames = stream.try_frames(0, 1 << 20).unwrap().frames;
    frames
        .iter()
        .flat_map(|frame| frame.records().map(|r| String::from_utf8(r.to_vec()).unwrap()).collect::<Vec<_>>())
        .collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir.join("journal")).unwrap().map(|e| e.unwrap().path());
    let mut names: Vec<_> = names.filter(|p| p.extension().is_some_and(|e| e == "wmj")).collect();
    names.sort();
    names
}

fn cut(file: &Path, bytes: u64) {
    File::options().write(true).open(file).unwrap().set_len(bytes).unwrap();
}

#[tokio::test]
async fn file_cut_anywhere_in_its_last_frames_is_corruption_and_never_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "first").await;
    let second = put(&stream, "second").await;
    let third = put(&stream, "third").await;
    drop(journal);
    let file = files(dir.path()).pop().unwrap();
    let whole = fs::read(&file).unwrap();
    assert_eq!(whole.len() as u64, FILE);
    for at in (second..third + 256).step_by(8).chain([4096, FILE - 1]) {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("journal")).unwrap();
        let name = copy.path().join("journal").join(file.file_name().unwrap());
        fs::write(&name, &whole[..usize::try_from(at).unwrap()]).unwrap();
        let (journal, recovery, stream) = open(copy.path()).await;
        assert!(recovery.torn.is_empty() && !recovery.clean, "{at}: {recovery:?}");
        let [corrupt] = &recovery.corrupt[..] else { panic!("{at}: {recovery:?}") };
        assert_eq!((corrupt.damage, &corrupt.file), (Damage::Cut, &name), "{at}");
        assert_eq!(journal.stats().corruptions, 1);
        let found = all(&stream);
        assert_eq!(found, ["first", "second", "third"][..found.len()], "{at}");
        // A frame whose header is whole says what of it is lost; of others nothing is known.
        if let [(_, lost)] = &recovery.lost[..] {
            let first = found.len() as u64;
            assert_eq!(*lost, first..first + 1, "{at}");
            assert_eq!(stream.durable_end(), first + 1);
            assert_eq!(stream.try_frames(first, 1 << 20).unwrap().lost, [first..first + 1]);
        } else {
            assert!(recovery.lost.is_empty() && stream.durable_end() == found.len() as u64, "{at}");
        }
        put(&stream, "after").await;
        drop(journal);
        let (_journal, recovery, stream) = open(copy.path()).await;
        assert_eq!(all(&stream).last().unwrap(), "after", "{at}: {recovery:?}");
        assert!(recovery.torn.is_empty(), "{at}: {recovery:?}");
    }
}

#[tokio::test]
async fn file_cut_in_a_frame_counts_its_records_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "first").await;
    let second = put(&stream, &"x".repeat(1000)).await;
    drop(journal);
    cut(&files(dir.path())[0], second + 600);
    let (_journal, recovery, _stream) = open(dir.path()).await;
    assert_eq!(recovery.lost.iter().map(|(_, lost)| lost.clone()).collect::<Vec<_>>(), [1..2]);
    assert_eq!(recovery.corrupt[0].offsets, Some(1..2));
    assert!(recovery.corrupt[0].set_aside.as_ref().unwrap().exists());
}

#[tokio::test]
async fn file_cut_behind_its_orderly_end_has_lost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "first").await;
    journal.close().await.unwrap();
    drop(journal);
    cut(&files(dir.path())[0], 8192);
    let (_journal, recovery, stream) = open(dir.path()).await;
    assert!(recovery.clean && recovery.corrupt.is_empty(), "{recovery:?}");
    assert_eq!(all(&stream), ["first"]);
}

#[tokio::test]
async fn file_made_shorter_by_another_setting_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "first").await;
    drop(journal);
    let larger = Options { file_bytes: 4 * FILE, ..Options::default() };
    let (_journal, recovery, stream) = open_with(dir.path(), larger).await;
    assert!(recovery.corrupt.is_empty() && recovery.torn.is_empty(), "{recovery:?}");
    assert_eq!(all(&stream), ["first"]);
}

#[tokio::test]
async fn removed_journal_is_noticed_by_the_spares_that_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    // Files go by, and those whose records are released become spares.
    let text = "x".repeat(20_000);
    for _ in 0..12 {
        let appended = stream.append(Records::one(text.clone(), 7)).await.unwrap();
        stream.checkpoint("", appended.first_offset + 1, Position(appended.position), true).await.unwrap();
    }
    drop(journal);
    let all = files(dir.path());
    assert!(!all.is_empty() && all.iter().all(|file| !file.ends_with("00000001.wmj")), "{all:?}");
    for file in all {
        fs::remove_file(file).unwrap();
    }
    let (journal, recovery, _stream) = open(dir.path()).await;
    let [corrupt] = &recovery.corrupt[..] else { panic!("{recovery:?}") };
    assert_eq!(corrupt.damage, Damage::Missing);
    assert!(!recovery.clean && journal.stats().corruptions == 1);
}

#[tokio::test]
async fn removed_file_is_noticed_by_a_segment_from_behind_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { file_bytes: FILE, max_journal_bytes: 2 * FILE, ..Options::default() };
    let (journal, _, stream) = open_with(dir.path(), options.clone()).await;
    let text = "x".repeat(20_000);
    let first = files(dir.path()).pop().unwrap();
    let kept = fs::read(&first).unwrap();
    while journal.stats().segment_bytes == 0 {
        put(&stream, &text).await;
    }
    drop(journal);
    // All that is left is the oldest file, put back from a copy of before.
    for file in files(dir.path()) {
        fs::remove_file(file).unwrap();
    }
    fs::write(&first, kept).unwrap();
    let (_journal, recovery, stream) = open_with(dir.path(), options).await;
    assert!(recovery.corrupt.iter().any(|corrupt| corrupt.damage == Damage::Missing), "{recovery:?}");
    // What the segment holds is read, and nothing new takes its place.
    let moved = stream.durable_end();
    assert!(moved > 0);
    let appended = stream.append(Records::one("after", 7)).await.unwrap();
    assert_eq!(appended.first_offset, moved);
}

/// Zeros every frame of records in the journal.
fn forget_records(dir: &Path) {
    for file in files(dir) {
        let mut bytes = fs::read(&file).unwrap();
        let mut at = 0;
        while let Ok(header) = Header::read(&bytes[at..]) {
            let end = at + usize::try_from(header.frame_len()).unwrap();
            if header.kind == Kind::Records {
                bytes[at..end].fill(0);
            }
            at = end;
        }
        fs::write(file, bytes).unwrap();
    }
}

#[tokio::test]
async fn offsets_of_records_that_are_gone_but_settled_are_given_to_no_others() {
    for by_checkpoint in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _, stream) = open(dir.path()).await;
        for text in ["first", "second", "third"] {
            put(&stream, text).await;
        }
        let settled = if by_checkpoint {
            stream.checkpoint("", 3, Position(0), true).await.map(drop)
        } else {
            stream.entry(EntryKind::Outcome, 0..3, "outcome").await.map(drop)
        };
        settled.unwrap();
        // What comes later says that all of it was durable.
        stream.entry(EntryKind::Mark, 0..0, "").await.unwrap();
        drop(journal);
        forget_records(dir.path());
        let (journal, recovery, stream) = open(dir.path()).await;
        assert!(!recovery.corrupt.is_empty(), "{recovery:?}");
        assert_eq!(stream.next_offset(), 3, "by checkpoint: {by_checkpoint}");
        let next = stream.append(Records::one("next", 7)).await.unwrap();
        assert_eq!(next.first_offset, 3);
        drop(journal);
        let (_journal, _, stream) = open(dir.path()).await;
        assert_eq!(all(&stream), ["next"], "by checkpoint: {by_checkpoint}");
    }
}

#[tokio::test]
async fn newest_file_cut_in_its_head_is_followed_by_one_that_is_read() {
    for bytes in (0..320).step_by(8) {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _, stream) = open(dir.path()).await;
        put(&stream, "first").await;
        drop(journal);
        // Another open begins another file.
        let (journal, _, _) = open(dir.path()).await;
        drop(journal);
        cut(files(dir.path()).last().unwrap(), bytes);
        let (journal, _, stream) = open(dir.path()).await;
        put(&stream, "next").await;
        drop(journal);
        let (_journal, _, stream) = open(dir.path()).await;
        assert_eq!(all(&stream), ["first", "next"], "cut at {bytes}");
    }
}

#[tokio::test]
async fn newest_file_made_a_spare_is_not_read_again_behind_what_is_written_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "first").await;
    drop(journal);
    let (journal, _, stream) = open(dir.path()).await;
    for text in ["second", "third", "fourth"] {
        put(&stream, text).await;
    }
    drop(journal);
    let spares = fs::read_dir(dir.path().join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let is_spare = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("spare-");
    spares.filter(is_spare).for_each(|spare| fs::remove_file(spare).unwrap());
    fs::rename(files(dir.path()).last().unwrap(), dir.path().join("journal/spare-1")).unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    put(&stream, "other").await;
    drop(journal);
    let (_journal, _, stream) = open(dir.path()).await;
    assert_eq!(all(&stream), ["first", "other"]);
}

#[tokio::test]
async fn records_of_a_stream_that_nobody_knows_are_never_those_of_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _, stream) = open(dir.path()).await;
    let room = StreamOptions { max_bytes: 1 << 30, retention: None };
    let key = |name: &str| StreamKey { tenant: "other".into(), name: name.into() };
    // What is kept for one stream keeps the file for both.
    put(&stream, "first").await;
    put(&journal.stream(&key("old"), room).await.unwrap(), "secret").await;
    drop(journal);
    // Nothing is left of what names the second and counts streams.
    for file in files(dir.path()) {
        let mut bytes = fs::read(&file).unwrap();
        let mut at = 0;
        while let Ok(header) = Header::read(&bytes[at..]) {
            let end = at + usize::try_from(header.frame_len()).unwrap();
            if header.kind != Kind::Records && header.stream != 1 {
                bytes[at..end].fill(0);
            }
            at = end;
        }
        fs::write(file, bytes).unwrap();
    }
    let (journal, recovery) = Journal::open(dir.path(), options()).unwrap();
    assert!(recovery.streams == [stream.key().clone()] && !recovery.corrupt.is_empty(), "{recovery:?}");
    put(&journal.stream(&key("new"), room).await.unwrap(), "its own").await;
    drop(journal);
    let (journal, _) = Journal::open(dir.path(), options()).unwrap();
    let stream = journal.stream(&key("new"), room).await.unwrap();
    assert_eq!(all(&stream), ["its own"]);
}

#[tokio::test]
async fn file_whose_name_has_its_number_written_in_another_way_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { file_bytes: 16 << 10, max_journal_bytes: 64 << 10, ..Options::default() };
    let text = |n: u64| format!("{n} {}", "x".repeat(1500));
    {
        let (journal, _, stream) = open_with(dir.path(), options()).await;
        for n in 0..100 {
            put(&stream, &text(n)).await;
        }
        journal.close().await.unwrap();
    }
    let mut others = Vec::new();
    for folder in ["journal", "segments"] {
        for entry in fs::read_dir(dir.path().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let (number, extension) = match name.split_once('.') {
                Some((number, extension)) => (number, format!(".{extension}")),
                None => continue,
            };
            let short = number.trim_start_matches('0');
            for other in [short.to_owned(), format!("+{short}"), format!("0{number}"), format!("+{number}")] {
                others.push(dir.path().join(folder).join(format!("{other}{extension}")));
            }
        }
    }
    assert!(others.len() >= 4 * 6, "{others:?}");
    for other in &others {
        fs::write(other, "somebody else's").unwrap();
    }
    let (_journal, recovery, stream) = open_with(dir.path(), options()).await;
    assert!(recovery.clean, "{recovery:?}");
    assert!(recovery.lost.is_empty(), "{recovery:?}");
    assert_eq!(all(&stream), (0..100).map(text).collect::<Vec<_>>());
    for other in others {
        assert_eq!(fs::read(&other).unwrap(), b"somebody else's", "{}", other.display());
    }
}
