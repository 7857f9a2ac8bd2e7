//! Sources over real files and sockets, against a buffer in memory that can refuse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wasmill_ingest::{
    Append, AppendError, FileError, FileOptions, FileSource, LineSource, Receipt, RecordBatch, Start,
    TcpOptions, TcpSource,
};

#[derive(Default)]
struct Inner {
    records: Vec<String>,
    positions: HashMap<u32, Vec<u8>>,
    refuse: u32,
}

/// A buffer in memory; `refuse` counts appends that are still to be refused as full.
struct Memory {
    inner: Mutex<Inner>,
    count: watch::Sender<usize>,
}

impl Memory {
    fn new() -> Arc<Memory> {
        Arc::new(Memory { inner: Mutex::default(), count: watch::Sender::new(0) })
    }

    fn records(&self) -> Vec<String> {
        self.inner.lock().unwrap().records.clone()
    }

    async fn wait_for(&self, count: usize) -> Vec<String> {
        let mut watch = self.count.subscribe();
        let done = tokio::time::timeout(Duration::from_secs(20), watch.wait_for(|have| *have >= count)).await;
        assert!(done.is_ok(), "only {:?}", self.records());
        self.records()
    }
}

impl Append for Memory {
    fn append(
        &self,
        batch: RecordBatch,
    ) -> impl Future<Output = Result<Receipt, AppendError>> + Send + 'static {
        let mut inner = self.inner.lock().unwrap();
        let result = if inner.refuse > 0 {
            inner.refuse -= 1;
            Err(AppendError::Full { retry_after: Duration::from_millis(1) })
        } else {
            let first_offset = inner.records.len() as u64;
            let mut start = 0;
            for end in &batch.ends {
                let record = &batch.payload[start..*end as usize];
                inner.records.push(String::from_utf8_lossy(record).into_owned());
                start = *end as usize;
            }
            if let Some(source) = &batch.source {
                inner.positions.insert(source.partition, source.position.clone());
            }
            self.count.send_replace(inner.records.len());
            Ok(Receipt { first_offset, count: u32::try_from(batch.len()).unwrap(), duplicate: false })
        };
        std::future::ready(result)
    }

    fn position(&self, _: &str, partition: u32) -> Result<Option<Vec<u8>>, AppendError> {
        Ok(self.inner.lock().unwrap().positions.get(&partition).cloned())
    }
}

fn options(folder: &Path, pattern: &str, follow: bool) -> FileOptions {
    FileOptions {
        name: "files".to_owned(),
        paths: vec![folder.join(pattern).display().to_string()],
        follow,
        from: Start::Start,
        max_record: 100,
        poll_interval: Duration::from_millis(20),
    }
}

async fn read_once(folder: &Path, memory: &Arc<Memory>) {
    let source = FileSource::new(options(folder, "*.log", false), Arc::clone(memory));
    source.run(CancellationToken::new()).await.unwrap();
}

fn append_to(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A followed source in the background.
struct Followed {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), FileError>>,
}

impl Followed {
    fn start(options: FileOptions, memory: &Arc<Memory>) -> Followed {
        let stop = CancellationToken::new();
        let task = tokio::spawn(FileSource::new(options, Arc::clone(memory)).run(stop.clone()));
        Followed { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn files_read_once_are_read_in_order_and_not_again() {
    let folder = tempfile::tempdir().unwrap();
    append_to(&folder.path().join("b.log"), "three\nlast without line feed");
    append_to(&folder.path().join("a.log"), "one\r\n\ntwo\n");
    append_to(&folder.path().join("empty.log"), "");
    let memory = Memory::new();
    read_once(folder.path(), &memory).await;
    assert_eq!(memory.records(), ["one", "two", "three", "last without line feed"]);
    read_once(folder.path(), &memory).await;
    assert_eq!(memory.records().len(), 4);
    append_to(&folder.path().join("a.log"), "more\n");
    read_once(folder.path(), &memory).await;
    assert_eq!(memory.records()[4..], ["more"]);
}

#[tokio::test]
async fn nothing_to_read_once_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let source = FileSource::new(options(folder.path(), "*.log", false), Memory::new());
    let result = source.run(CancellationToken::new()).await;
    assert!(matches!(result, Err(FileError::NothingMatches { .. })));
}

#[tokio::test]
async fn line_over_the_limit_is_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    append_to(&folder.path().join("a.log"), &format!("one\n{}\ntwo\n", "x".repeat(3 << 20)));
    let memory = Memory::new();
    let source = FileSource::new(options(folder.path(), "*.log", false), Arc::clone(&memory));
    let stats = source.stats();
    source.run(CancellationToken::new()).await.unwrap();
    assert_eq!(memory.records(), ["one", "two"]);
    assert_eq!((stats.too_long(), stats.records()), (1, 2));
}

#[tokio::test]
async fn full_buffer_delays_but_loses_and_reorders_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..200_000).map(|number| format!("line {number}")).collect();
    append_to(&folder.path().join("a.log"), &(lines.join("\n") + "\n"));
    let memory = Memory::new();
    memory.inner.lock().unwrap().refuse = 5;
    read_once(folder.path(), &memory).await;
    assert_eq!(memory.records(), lines);
}

#[tokio::test]
async fn followed_file_gives_lines_when_they_are_complete_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    append_to(&path, "one\ntw");
    let memory = Memory::new();
    let source = Followed::start(options(folder.path(), "*.log", true), &memory);
    assert_eq!(memory.wait_for(1).await, ["one"]);
    append_to(&path, "o\nthree\npart");
    assert_eq!(memory.wait_for(3).await, ["one", "two", "three"]);
    append_to(&folder.path().join("new.log"), "new\n");
    assert_eq!(memory.wait_for(4).await[3], "new");
    source.stop().await;
    append_to(&path, "ial\n");
    let source = Followed::start(options(folder.path(), "*.log", true), &memory);
    assert_eq!(memory.wait_for(5).await[4], "partial");
    source.stop().await;
    assert_eq!(memory.records().len(), 5);
}

#[tokio::test]
async fn rotated_file_is_read_to_its_end_before_it_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    append_to(&path, "one\n");
    let memory = Memory::new();
    let source = Followed::start(options(folder.path(), "*.log", true), &memory);
    memory.wait_for(1).await;
    append_to(&path, "two\nunfinished");
    std::fs::rename(&path, folder.path().join("a.log.1")).unwrap();
    append_to(&path, "three\n");
    let mut records = memory.wait_for(4).await;
    source.stop().await;
    records.sort();
    assert_eq!(records, ["one", "three", "two", "unfinished"]);
}

#[tokio::test]
async fn truncated_file_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    append_to(&path, "one\ntwo\n");
    let memory = Memory::new();
    let source = Followed::start(options(folder.path(), "*.log", true), &memory);
    memory.wait_for(2).await;
    std::fs::write(&path, "3\n").unwrap();
    assert_eq!(memory.wait_for(3).await, ["one", "two", "3"]);
    source.stop().await;
}

#[tokio::test]
async fn followed_from_the_end_skips_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    append_to(&path, "old\n");
    let memory = Memory::new();
    let source = FileSource::new(
        FileOptions { from: Start::End, ..options(folder.path(), "*.log", true) },
        Arc::clone(&memory),
    );
    let (stats, stop) = (source.stats(), CancellationToken::new());
    let task = tokio::spawn(source.run(stop.clone()));
    while stats.open() == 0 {
        tokio::task::yield_now().await;
    }
    append_to(&path, "new\n");
    assert_eq!(memory.wait_for(1).await, ["new"]);
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn reader_of_lines_ends_with_its_last_partial_line() {
    let memory = Memory::new();
    let source = LineSource::new(10, Arc::clone(&memory));
    let stats = source.stats();
    source.run(&b"one\n12345678901\ntwo"[..], CancellationToken::new()).await.unwrap();
    assert_eq!(memory.records(), ["one", "two"]);
    assert_eq!(stats.too_long(), 1);
}

#[tokio::test]
async fn tcp_line_that_is_half_there_at_a_stop_is_no_record() {
    let memory = Memory::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = TcpOptions { max_record: 100, max_connections: 8 };
    let source = TcpSource::new(listener, limits, Arc::clone(&memory));
    let address = source.local_address().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(source.run(stop.clone()));
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    // In one piece, so that the half line was read when the whole one is there.
    client.write_all(b"whole\nhal").await.unwrap();
    assert_eq!(memory.wait_for(1).await, ["whole"]);
    stop.cancel();
    task.await.unwrap();
    assert_eq!(memory.records(), ["whole"]);
}

#[tokio::test]
async fn tcp_connection_gives_lines_and_is_closed_over_the_limit() {
    let memory = Memory::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = TcpOptions { max_record: 10, max_connections: 8 };
    let source = TcpSource::new(listener, limits, Arc::clone(&memory));
    let (address, stats) = (source.local_address().unwrap(), source.stats());
    let stop = CancellationToken::new();
    let task = tokio::spawn(source.run(stop.clone()));

    let mut first = tokio::net::TcpStream::connect(address).await.unwrap();
    first.write_all(b"one\ntwo\nlast").await.unwrap();
    first.shutdown().await.unwrap();
    assert_eq!(memory.wait_for(3).await, ["one", "two", "last"]);

    let mut second = tokio::net::TcpStream::connect(address).await.unwrap();
    second.write_all(b"12345678901\n").await.unwrap();
    let mut rest = Vec::new();
    // The other side closes; whether that is seen as an end or as a reset is up to the system.
    drop(tokio::io::AsyncReadExt::read_to_end(&mut second, &mut rest).await);
    assert_eq!(stats.too_long(), 1);
    stop.cancel();
    task.await.unwrap();
    assert_eq!(memory.records().len(), 3);
}
