//! Records that are read before they are durable: what their client and a reader see while the sync is on its way, and after it,
//! however it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use wasmill_buffer::{
    AppendError, Disk, DiskFile, DiskLock, Journal, Options, RealDisk, Records, Stream, StreamKey,
    StreamOptions, Voided,
};

/// What becomes of syncs of files.
#[derive(Default)]
struct Gate {
    /// `None`: they happen. Else each waits for its verdict: whether it succeeds.
    verdicts: Mutex<Option<VecDeque<bool>>>,
    changed: Condvar,
}

impl Gate {
    fn hold(&self) {
        *self.verdicts.lock().unwrap() = Some(VecDeque::new());
    }

    fn let_one(&self, succeed: bool) {
        self.verdicts.lock().unwrap().as_mut().unwrap().push_back(succeed);
        self.changed.notify_all();
    }

    fn open(&self) {
        *self.verdicts.lock().unwrap() = None;
        self.changed.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        let mut verdicts = self.verdicts.lock().unwrap();
        loop {
            match verdicts.as_mut().map(VecDeque::pop_front) {
                None | Some(Some(true)) => return Ok(()),
                Some(Some(false)) => return Err(io::Error::other("the gate says so")),
                Some(None) => verdicts = self.changed.wait(verdicts).unwrap(),
            }
        }
    }
}

/// A real disk behind a gate.
struct Gated(Arc<Gate>);

struct GatedFile(Arc<dyn DiskFile>, Arc<Gate>);

impl Gated {
    fn file(&self, file: io::Result<Arc<dyn DiskFile>>) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(GatedFile(file?, Arc::clone(&self.0))))
    }
}

impl Disk for Gated {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.file(RealDisk.open(path))
    }
    fn create(&self, path: &Path, bytes: u64, zeroed: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.file(RealDisk.create(path, bytes, zeroed))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Result<Box<dyn DiskLock>, String>> {
        RealDisk.lock(path)
    }
    fn entropy(&self, bytes: &mut [u8]) -> io::Result<()> {
        RealDisk.entropy(bytes)
    }
}

impl DiskFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(bytes, at)
    }
    fn write_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        self.0.write_at(slices, at)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.pass()?;
        self.0.sync()
    }
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.0.is_at(path)
    }
    fn forget_cache(&self) -> io::Result<()> {
        self.0.forget_cache()
    }
}

struct World {
    gate: Arc<Gate>,
    journal: Journal,
    stream: Stream,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let disk = Arc::new(Gated(Arc::clone(&gate)));
    let (journal, _) = Journal::open_on(disk, dir.path(), Options::default()).unwrap();
    let key = StreamKey { tenant: "t".into(), name: "s".into() };
    let stream = journal.stream(&key, StreamOptions { max_bytes: 1 << 30, retention: None }).await.unwrap();
    World { gate, journal, stream, _dir: dir }
}

fn early(text: &str) -> Records {
    Records { early: true, ..Records::one(text.to_owned(), 1) }
}

fn read(stream: &Stream, from: u64) -> (Vec<(u64, String)>, u64) {
    let found = stream.try_frames(from, usize::MAX).unwrap();
    assert!(found.lost.is_empty(), "{:?}", found.lost);
    let text = |frame: &Arc<wasmill_buffer::Frame>| String::from_utf8(frame.payload.to_vec()).unwrap();
    (found.frames.iter().map(|frame| (frame.base_offset, text(frame))).collect(), found.next_offset)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it comes soon")
}

#[tokio::test(flavor = "multi_thread")]
async fn early_record_has_its_receipt_and_is_read_before_its_sync_and_once_after_it() {
    let World { gate, journal, stream, _dir } = world().await;
    gate.hold();
    let receipt = soon(stream.append(early("a"))).await.unwrap();
    assert_eq!((receipt.first_offset, stream.durable_end()), (0, 0));
    soon(stream.early_past(Some(0), None, Voided::default())).await;
    assert_eq!(read(&stream, 0), (vec![(0, "a".to_owned())], 1));
    assert_eq!(read(&stream, 1), (vec![], 1));
    // The next group: of one stream, in order; who does not ask for it early has no receipt before the sync.
    let plain = stream.enqueue(Records::one("b", 1)).await.unwrap();
    let late = stream.enqueue(early("c")).await.unwrap();
    gate.let_one(true);
    assert_eq!(soon(late.wait()).await.unwrap().first_offset, 2);
    soon(stream.early_past(None, Some(1), Voided::default())).await;
    assert_eq!(stream.durable_end(), 1);
    let all = vec![(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())];
    assert_eq!(read(&stream, 0), (all.clone(), 3));
    assert_eq!(read(&stream, 2), (all[2..].to_vec(), 3));
    let mut plain = std::pin::pin!(plain.wait());
    assert!(ready(&mut plain).is_none());
    gate.let_one(true);
    assert_eq!(soon(plain).await.unwrap().first_offset, 1);
    assert_eq!((stream.durable_end(), read(&stream, 0)), (3, (all, 3)));
    assert_eq!(stream.voided(), Voided::default());
    gate.open();
    journal.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn early_record_whose_sync_fails_was_never_there_and_who_has_read_it_is_told() {
    let World { gate, journal, stream, _dir } = world().await;
    gate.hold();
    assert_eq!(soon(stream.append(early("lost"))).await.unwrap().first_offset, 0);
    assert_eq!(read(&stream, 0).1, 1);
    let told = {
        let stream = stream.clone();
        tokio::spawn(async move { stream.early_past(Some(1), Some(1), Voided::default()).await })
    };
    gate.let_one(false);
    soon(told).await.unwrap();
    let voided = Voided { records: 1, bytes: 4 };
    assert_eq!((stream.voided(), stream.durable_end(), read(&stream, 0)), (voided, 0, (vec![], 0)));
    gate.open();
    // Its offset is nobody's.
    let next = soon(stream.append(Records::one("kept", 1))).await.unwrap();
    assert_eq!((next.first_offset, stream.durable_end()), (1, 2));
    assert_eq!(read(&stream, 0), (vec![(1, "kept".to_owned())], 2));
    assert_eq!(stream.voided(), voided);
    // Of a plain one nothing is void: nobody could read it.
    gate.hold();
    let plain = stream.enqueue(Records::one("unknown", 1)).await.unwrap();
    gate.let_one(false);
    assert!(matches!(soon(plain.wait()).await, Err(AppendError::Unknown)));
    assert_eq!(stream.voided(), voided);
    gate.open();
    journal.close().await.unwrap();
}

fn ready<F: Future>(future: &mut std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
