//! A process that appends under load is killed at some moment, on a real disk: what it acknowledged is there.
//!
//! The child is this test binary again; it writes one line to its output for each acknowledgement.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use wasmill_buffer::{
    AppendError, Durability, EntryKind, Journal, Options, Position, Records, Stream, StreamKey, StreamOptions,
};

const CHILD: &str = "WASMILL_BUFFER_KILL_CHILD";
const STREAMS: u64 = 3;
const KILLS: u64 = 12;

async fn open(dir: &Path) -> (Journal, Vec<Stream>) {
    let options = Options {
        file_bytes: 64 << 10,
        max_journal_bytes: 256 << 10,
        memory_bytes: 32 << 10,
        // What survives a kill does not hang on syncs, and without them there is more load.
        durability: if dir.ends_with("os") { Durability::Os } else { Durability::Fsync },
        ..Options::default()
    };
    let (journal, recovery) = Journal::open(dir, options).unwrap();
    assert!(recovery.corrupt.is_empty() && recovery.lost.is_empty(), "{recovery:?}");
    let mut streams = Vec::new();
    for i in 0..STREAMS {
        let key = StreamKey { tenant: "t".into(), name: i.to_string() };
        streams
            .push(journal.stream(&key, StreamOptions { max_bytes: 1 << 20, retention: None }).await.unwrap());
    }
    (journal, streams)
}

fn payload(stream: u64, offset: u64, len: usize) -> String {
    format!("{stream} {offset} {}", "p".repeat(len))
}

/// Appends to all streams for ever. The offset is known before it is given: one appender per stream.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn child(dir: &Path) {
    let (_journal, streams) = open(dir).await;
    let out = Arc::new(std::sync::Mutex::new(std::io::stdout()));
    let mut tasks = Vec::new();
    for (i, stream) in (0..).zip(streams) {
        let out = Arc::clone(&out);
        tasks.push(tokio::spawn(async move {
            // Ends only by an error.
            let mut random = SmallRng::seed_from_u64(i);
            loop {
                let offset = stream.next_offset();
                let text = payload(i, offset, random.random_range(0..8000));
                let receipt = stream.append(Records::one(text, 1)).await?;
                assert_eq!(receipt.first_offset, offset);
                let entry = stream.entry(EntryKind::Outcome, 0..offset, offset.to_string()).await?;
                writeln!(out.lock().unwrap(), "{i} record {offset} {}", entry.0).unwrap();
                // The first stream is slow, so that its records move to segments.
                let lag = if i == 0 { 60 } else { 5 };
                if let Some(from) = offset.checked_sub(lag).filter(|_| offset % 4 == 0) {
                    let body = from.to_string();
                    stream.checkpoint(body, from, Position(0), offset % 8 == 0).await?;
                    if offset % 8 == 0 {
                        writeln!(out.lock().unwrap(), "{i} checkpoint {from} 0").unwrap();
                    }
                }
            }
        }));
    }
    for task in tasks {
        let result: Result<(), AppendError> = task.await.unwrap();
        result.unwrap();
    }
}

#[derive(Default, Clone)]
struct Told {
    end: u64,
    checkpoint: u64,
    entries: BTreeMap<u64, u64>,
}

#[tokio::test]
async fn killed_under_load_keeps_what_was_acknowledged() {
    if let Some(dir) = std::env::var_os(CHILD) {
        std::thread::spawn(move || child(Path::new(&dir))).join().unwrap();
        return;
    }
    for mode in ["fsync", "os"] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join(mode);
        let mut random = SmallRng::seed_from_u64(9);
        let mut told = vec![Told::default(); STREAMS as usize];
        for kill in 0..KILLS {
            let mut process = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "killed_under_load_keeps_what_was_acknowledged", "--nocapture"])
                .env(CHILD, &dir)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let (sender, lines) = sync_channel(1000);
            let output = BufReader::new(process.stdout.take().unwrap());
            let reader = std::thread::spawn(move || {
                output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
            let most = random.random_range(1..120);
            let mut seen = 0;
            loop {
                let line = match lines.recv_timeout(Duration::from_secs(30)) {
                    Ok(line) => line,
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        process.kill().unwrap();
                        panic!("the child stands still after {seen} lines");
                    }
                };
                if take(&mut told, &line) {
                    seen += 1;
                    if seen == most {
                        // SIGKILL; what it still printed is read to the end.
                        process.kill().unwrap();
                    }
                }
            }
            assert!(seen >= most, "the child ended of itself: {:?}", process.wait());
            process.wait().unwrap();
            assert!(reader.join().unwrap().is_ok());
            check(&dir, &mut told, kill).await;
        }
    }
}

/// A line that the child wrote whole.
fn take(told: &mut [Told], line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let [stream, what, number, position] = words[..] else { return false };
    let (Ok(stream), Ok(number)) = (stream.parse::<usize>(), number.parse::<u64>()) else { return false };
    let Some(told) = told.get_mut(stream) else { return false };
    match (what, position.parse()) {
        ("record", Ok(position)) => {
            assert!(number >= told.end, "offset {number} again");
            told.end = number + 1;
            told.entries.insert(number, position);
        }
        ("checkpoint", Ok(0)) => told.checkpoint = number,
        _ => return false,
    }
    true
}

async fn check(dir: &Path, told: &mut [Told], kill: u64) {
    let (journal, streams) = open(dir).await;
    for (i, (stream, told)) in (0..).zip(streams.iter().zip(told)) {
        let body =
            stream.latest_checkpoint().map_or(0, |b| std::str::from_utf8(&b).unwrap().parse().unwrap());
        assert!(body >= told.checkpoint, "kill {kill}: checkpoint {body} < {}", told.checkpoint);
        assert!(stream.durable_end() >= told.end, "kill {kill}: {} < {}", stream.durable_end(), told.end);
        let mut at = body;
        while at < stream.durable_end() {
            let found = stream.try_frames(at, 50_000).unwrap();
            assert!(found.lost.is_empty() && !found.frames.is_empty(), "kill {kill}: {:?}", found.lost);
            for frame in &found.frames {
                assert_eq!(frame.base_offset, at);
                let start = payload(i, at, 0);
                assert!(frame.record(0).unwrap().starts_with(start.as_bytes()), "kill {kill}: {at}");
                at += 1;
            }
        }
        for (offset, position) in &told.entries {
            let body = stream.read_entry(Position(*position)).unwrap();
            assert_eq!(body, offset.to_string(), "kill {kill}");
        }
        told.end = stream.durable_end();
    }
    // Half of the time the next child finds an orderly end.
    if kill.is_multiple_of(2) {
        journal.close().await.unwrap();
    }
}
