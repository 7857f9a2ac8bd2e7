//! Records that are read before they are durable: what their client and a reader see while the sync is on its way, and after it,
//! however it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use wasmill_buffer::testing::{Fault, FaultyDisk};
use wasmill_buffer::{
    AppendError, Disk, DiskFile, DiskLock, EntryKind, Journal, Numbered, Options, RealDisk, Records, Stream,
    StreamKey, StreamOptions, Voided,
};

const FILE: u64 = 16 << 10;
const SOON: Duration = Duration::from_secs(20);

/// What becomes of syncs of files.
#[derive(Default)]
struct Gate {
    /// `None`: they happen. Else each waits for its verdict: whether it succeeds.
    verdicts: Mutex<Option<VecDeque<bool>>>,
    changed: Condvar,
    /// Syncs that have come here.
    came: AtomicU64,
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

    fn came(&self) -> u64 {
        self.came.load(Ordering::SeqCst)
    }

    /// Waits until so many have come.
    async fn arrived(&self, count: u64) {
        while self.came() < count {
            tokio::task::yield_now().await;
        }
    }

    fn pass(&self) -> io::Result<()> {
        self.came.fetch_add(1, Ordering::SeqCst);
        let mut verdicts = self.verdicts.lock().unwrap();
        loop {
            match verdicts.as_mut().map(VecDeque::pop_front) {
                None | Some(Some(true)) => return Ok(()),
                Some(Some(false)) => return Err(io::Error::other("the gate says so")),
                // A test that has failed ends, too.
                Some(None) => {
                    let (waited, over) = self.changed.wait_timeout(verdicts, 3 * SOON).unwrap();
                    if over.timed_out() {
                        return Err(io::Error::other("nobody opens the gate"));
                    }
                    verdicts = waited;
                }
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
    let options = Options { file_bytes: FILE, ..Options::default() };
    let (journal, _) = Journal::open_on(disk, dir.path(), options).unwrap();
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
    tokio::time::timeout(SOON, what).await.expect("it comes soon")
}

#[tokio::test(flavor = "multi_thread")]
async fn early_record_has_its_receipt_and_is_read_before_its_sync_and_once_after_it() {
    let World { gate, journal, stream, _dir } = world().await;
    gate.hold();
    let before = gate.came();
    let receipt = soon(stream.append(early("a"))).await.unwrap();
    assert_eq!((receipt.first_offset, stream.durable_end()), (0, 0));
    soon(gate.arrived(before + 1)).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn early_records_are_written_beside_a_sync_that_takes_long_and_are_durable_with_the_next() {
    let World { gate, journal, stream, _dir: dir } = world().await;
    gate.hold();
    let before = gate.came();
    assert_eq!(soon(stream.append(early("a"))).await.unwrap().first_offset, 0);
    soon(gate.arrived(before + 1)).await;
    // Nobody lets that sync end.
    let plain = stream.enqueue(Records::one("b", 1)).await.unwrap();
    assert_eq!(soon(stream.append(early("c"))).await.unwrap().first_offset, 2);
    let one = Numbered { producer: "p".into(), sequence: 1, digest: [0; 16] };
    let numbered = || Records { numbered: Some(one.clone()), ..early("d") };
    assert_eq!(soon(stream.append(numbered())).await.unwrap().first_offset, 3);
    // Whether its number is taken is known once that is durable, and what comes behind it waits with it.
    let again = stream.enqueue(numbered()).await.unwrap();
    let last = stream.enqueue(early("e")).await.unwrap();
    let all: Vec<_> =
        ["a", "b", "c", "d"].iter().zip(0..).map(|(text, at)| (at, (*text).to_owned())).collect();
    assert_eq!((stream.durable_end(), read(&stream, 0)), (0, (all.clone(), 4)));
    assert_eq!(read(&stream, 3), (all[3..].to_vec(), 4));
    let (mut plain, mut again) = (std::pin::pin!(plain.wait()), std::pin::pin!(again.wait()));
    assert!(ready(&mut plain).is_none() && ready(&mut again).is_none());
    gate.let_one(true);
    soon(stream.early_past(None, Some(1), Voided::default())).await;
    assert!(ready(&mut plain).is_none());
    gate.let_one(true);
    assert_eq!(soon(plain).await.unwrap().first_offset, 1);
    let receipt = soon(again).await.unwrap();
    assert_eq!((receipt.first_offset, receipt.duplicate), (3, true));
    assert_eq!(soon(last.wait()).await.unwrap().first_offset, 4);
    gate.open();
    journal.close().await.unwrap();
    assert_eq!((stream.durable_end(), stream.voided()), (5, Voided::default()));
    drop((stream, journal));
    let (journal, recovery) = Journal::open(dir.path(), Options::default()).unwrap();
    assert!(recovery.clean && recovery.lost.is_empty(), "{recovery:?}");
    let key = StreamKey { tenant: "t".into(), name: "s".into() };
    let stream = journal.stream(&key, StreamOptions { max_bytes: 1 << 30, retention: None }).await.unwrap();
    assert_eq!(read(&stream, 0).0[..4], all);
}

#[tokio::test(flavor = "multi_thread")]
async fn early_records_share_a_sync_until_somebody_waits_for_one() {
    let World { gate, journal, stream, _dir } = world().await;
    let (mut shared, mut rounds) = (0, 0);
    while shared < 100 && rounds < 10_000 {
        let (before, durable) = (gate.came(), stream.durable_end());
        let one = soon(stream.append(early("a"))).await.unwrap().first_offset;
        let two = soon(stream.append(early("b"))).await.unwrap().first_offset;
        assert_eq!((one, two), (durable, durable + 1));
        // Whoever waits need not wait for long, and what stands before is durable with it.
        let last = soon(stream.append(Records::one("c", 1))).await.unwrap();
        assert_eq!((last.first_offset, stream.durable_end()), (durable + 2, durable + 3));
        shared += u64::from(gate.came() - before <= 2);
        rounds += 1;
    }
    assert_eq!(shared, 100, "of {rounds}");
    // Nobody waits: it is synced all the same.
    let last = soon(stream.append(early("d"))).await.unwrap().first_offset;
    soon(stream.watch_durable_end().wait_for(|end| *end > last)).await.unwrap();
    assert_eq!((stream.durable_end(), stream.voided()), (last + 1, Voided::default()));
    // Nor does the end of the journal.
    soon(stream.append(early("e"))).await.unwrap();
    soon(journal.close()).await.unwrap();
    assert_eq!(stream.durable_end(), last + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_beside_a_sync_that_fails_was_never_there_either() {
    let World { gate, journal, stream, _dir } = world().await;
    gate.hold();
    let before = gate.came();
    soon(stream.append(early("a"))).await.unwrap();
    soon(gate.arrived(before + 1)).await;
    let plain = stream.enqueue(Records::one("b", 1)).await.unwrap();
    soon(stream.append(early("cc"))).await.unwrap();
    gate.let_one(false);
    assert!(matches!(soon(plain.wait()).await, Err(AppendError::Unknown)));
    assert_eq!(stream.voided(), Voided { records: 2, bytes: 3 });
    assert_eq!((stream.durable_end(), read(&stream, 0)), (0, (vec![], 0)));
    gate.open();
    // Their offsets are nobody's.
    assert_eq!(soon(stream.append(Records::one("kept", 1))).await.unwrap().first_offset, 3);
    assert_eq!(read(&stream, 0), (vec![(3, "kept".to_owned())], 4));
    journal.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn early_record_is_written_behind_the_whole_group_that_a_file_ends_in() {
    let World { gate, journal, stream, _dir } = world().await;
    let key = StreamKey { tenant: "t".into(), name: "other".into() };
    let options = StreamOptions { max_bytes: 1 << 30, retention: None };
    let other = journal.stream(&key, options).await.unwrap();
    gate.hold();
    let before = gate.came();
    soon(stream.append(early("0"))).await.unwrap();
    soon(gate.arrived(before + 1)).await;
    // The next group: its second record needs a file of its own.
    let plain = |text: String| stream.enqueue(Records::one(text, 1));
    let first = plain("a".to_owned()).await.unwrap();
    let large = plain("x".repeat(FILE as usize)).await.unwrap();
    let last = plain("b".to_owned()).await.unwrap();
    gate.let_one(true);
    soon(gate.arrived(before + 2)).await;
    // Of a stream of which nothing is written that nobody may read.
    let behind = other.enqueue(early("c")).await.unwrap();
    let mut behind = std::pin::pin!(behind.wait());
    // It is not there before those are that came before it, however long that takes.
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut behind).await.is_err());
    gate.open();
    let mut positions = Vec::new();
    for pending in [first, large, last] {
        positions.push(soon(pending.wait()).await.unwrap().position);
    }
    positions.push(soon(behind).await.unwrap().position);
    assert!(positions.is_sorted(), "{positions:?}");
    journal.close().await.unwrap();
}

/// On a disk that a test can fail, with every step in its hands.
fn stepped(seed: u64) -> (FaultyDisk, Journal, Stream) {
    let disk = FaultyDisk::new(seed);
    let (journal, stream) = open(&disk);
    (disk, journal, stream)
}

/// Nothing is lost or corrupt.
fn open(disk: &FaultyDisk) -> (Journal, Stream) {
    let options = Options { file_bytes: FILE, ..Options::default() };
    let (journal, recovery) =
        Journal::open_stepped(Arc::new(disk.clone()), Path::new("/data"), options).unwrap();
    assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "{recovery:?}");
    let key = StreamKey { tenant: "t".into(), name: "s".into() };
    let options = StreamOptions { max_bytes: 1 << 30, retention: None };
    let stream = journal.drive(journal.stream(&key, options)).unwrap();
    (journal, stream)
}

/// After the loss of power.
fn reopen(disk: &FaultyDisk, journal: Journal, stream: Stream) -> (Journal, Stream) {
    disk.crash();
    drop((stream, journal));
    disk.reboot();
    open(disk)
}

#[test]
fn early_record_waits_behind_what_nobody_may_read_yet_and_where_the_file_is_full() {
    let (_disk, journal, stream) = stepped(1);
    let sent = |records| Box::pin(stream.submit(records).unwrap().wait());
    assert_eq!(journal.drive(sent(early("0"))).unwrap().first_offset, 0);
    // A reader would pass the first one over.
    let mut plain = sent(Records::one("a", 1));
    journal.step_to_sync();
    let mut behind = sent(early("b"));
    journal.step_to_sync();
    assert!(ready(&mut plain).is_none() && ready(&mut behind).is_none());
    assert_eq!(read(&stream, 1), (vec![], 1));
    journal.step();
    assert_eq!(journal.drive(behind).unwrap().first_offset, 2);
    let mut first = sent(early("c"));
    journal.step_to_sync();
    assert!(ready(&mut first).is_some());
    let mut long = sent(early(&"x".repeat(FILE as usize)));
    journal.step_to_sync();
    assert!(ready(&mut long).is_none());
    assert_eq!(journal.drive(long).unwrap().first_offset, 4);
    assert_eq!((stream.durable_end(), stream.voided()), (5, Voided::default()));
}

#[test]
fn early_record_that_cannot_be_written_beside_a_sync_is_refused_and_the_others_stand() {
    let (disk, journal, stream) = stepped(1);
    let sent = |records| Box::pin(stream.submit(records).unwrap().wait());
    let mut first = sent(early("a"));
    journal.step_to_sync();
    let mut second = sent(early("b"));
    journal.step_to_sync();
    assert!(ready(&mut first).is_some() && ready(&mut second).is_some());
    disk.fail_next(&[Fault::Write]);
    let mut refused = sent(early("c"));
    journal.step_to_sync();
    assert!(matches!(ready(&mut refused), Some(Err(AppendError::Storage { .. }))));
    // The file takes no more.
    let mut next = sent(early("d"));
    journal.step_to_sync();
    assert!(ready(&mut next).is_none());
    assert_eq!(journal.drive(next).unwrap().first_offset, 3);
    let all = vec![(0, "a".to_owned()), (1, "b".to_owned()), (3, "d".to_owned())];
    assert_eq!((read(&stream, 0), stream.voided()), ((all.clone(), 4), Voided::default()));
    let (_journal, stream) = reopen(&disk, journal, stream);
    assert_eq!(read(&stream, 0), (all, 4));
}

#[test]
fn whatever_a_sync_that_fails_takes_along_is_counted_as_refused() {
    let (disk, journal, stream) = stepped(1);
    let sent = |records| Box::pin(stream.submit(records).unwrap().wait());
    let one = Numbered { producer: "p".into(), sequence: 1, digest: [0; 16] };
    let numbered = || Records { numbered: Some(one.clone()), ..Records::one("a", 1) };
    // The second one waits for the first.
    let (mut first, mut again, mut ahead) = (sent(numbered()), sent(numbered()), sent(early("b")));
    journal.step_to_sync();
    assert!(ready(&mut ahead).is_some());
    let (mut plain, mut behind) = (sent(Records::one("c", 1)), sent(early("d")));
    journal.step_to_sync();
    assert!(ready(&mut behind).is_some());
    assert_eq!(journal.refused(), 0);
    disk.fail_next(&[Fault::Sync]);
    journal.step();
    for unknown in [&mut first, &mut again, &mut plain] {
        assert!(matches!(ready(unknown), Some(Err(AppendError::Unknown))));
    }
    assert_eq!((journal.refused(), stream.voided().records), (5, 2));
    assert_eq!(journal.drive(sent(early("e"))).unwrap().first_offset, 4);
    assert_eq!((journal.refused(), stream.voided().records), (0, 2));
}

#[test]
fn early_record_is_void_if_a_sync_failed_beside_its_own_which_then_succeeds() {
    for seed in 0..20 {
        let (disk, journal, stream) = stepped(seed);
        let sent = |records| Box::pin(stream.submit(records).unwrap().wait());
        assert_eq!(journal.drive(sent(early("kept"))).unwrap().first_offset, 0);
        let mut first = sent(early("lost"));
        journal.step_to_sync();
        assert!(ready(&mut first).is_some());
        // That what was written of it is wiped fails: the disk says once that it has lost something.
        disk.fail_next(&[Fault::Write, Fault::Sync]);
        let mut second = sent(early("unknown"));
        journal.step_to_sync();
        assert!(matches!(ready(&mut second), Some(Err(AppendError::Unknown))));
        journal.step();
        assert_eq!((stream.durable_end(), stream.voided()), (1, Voided { records: 1, bytes: 4 }));
        assert_eq!(journal.refused(), 2);
        let last = journal.drive(sent(early("next"))).unwrap().first_offset;
        let all = vec![(0, "kept".to_owned()), (last, "next".to_owned())];
        assert_eq!(read(&stream, 0).0, all);
        let (_journal, stream) = reopen(&disk, journal, stream);
        assert_eq!(read(&stream, 0).0, all);
    }
}

#[test]
fn entry_over_early_records_is_durable_with_them_or_not_at_all() {
    let (disk, journal, stream) = stepped(3);
    let of = stream.clone();
    let sent = |text: &str| Box::pin(of.submit(early(text)).unwrap().wait());
    let over = |input: std::ops::Range<u64>| {
        let (stream, seen) = (of.clone(), of.voided());
        let mut entry = Box::pin(async move {
            let body = format!("of {input:?}");
            stream.entry_over(EntryKind::Outcome, input, body.into_bytes(), Some(seen)).await
        });
        // It waits in the queue.
        assert!(ready(&mut entry).is_none());
        entry
    };
    let kept = || of.entries().iter().map(|entry| (entry.input.start, entry.input.end)).collect::<Vec<_>>();
    let mut first = sent("a");
    journal.step_to_sync();
    assert!(ready(&mut first).is_some());
    let (mut with, mut second) = (over(0..1), sent("b"));
    // Written behind the record, in front of its sync.
    journal.step_to_sync();
    assert!(ready(&mut second).is_some() && ready(&mut with).is_none());
    journal.step();
    assert!(ready(&mut with).unwrap().is_ok());
    assert_eq!((kept().as_slice(), stream.durable_end()), ([(0, 1)].as_slice(), 2));

    // The sync fails, and what was written in front of it goes with it; what was only queued speaks of what is void.
    let mut lost = sent("c");
    journal.step_to_sync();
    assert!(ready(&mut lost).is_some());
    let (mut with, mut behind) = (over(2..3), sent("d"));
    journal.step_to_sync();
    assert!(ready(&mut behind).is_some());
    let (mut late, mut plain) = (over(2..4), Box::pin(of.entry(EntryKind::Mark, 0..0, "mark")));
    assert!(ready(&mut plain).is_none());
    disk.fail_next(&[Fault::Sync]);
    journal.step();
    assert!(matches!(ready(&mut with), Some(Err(AppendError::Unknown))));
    assert!(matches!(ready(&mut late), Some(Err(AppendError::Void))));
    assert!(ready(&mut plain).unwrap().is_ok());
    assert_eq!(kept(), [(0, 1), (0, 0)]);
    // What is known to be void is no reason to refuse.
    let mut known = over(0..2);
    journal.step();
    assert!(ready(&mut known).unwrap().is_ok());
    let (_journal, stream) = reopen(&disk, journal, stream);
    let inputs: Vec<_> = stream.entries().into_iter().map(|entry| entry.input).collect();
    assert_eq!((inputs, read(&stream, 0).0.len()), (vec![0..1, 0..0, 0..2], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn entry_over_an_early_record_shares_its_sync() {
    let World { gate, journal, stream, _dir } = world().await;
    let (mut shared, mut rounds) = (0, 0);
    while shared < 100 && rounds < 10_000 {
        let before = gate.came();
        let at = soon(stream.append(early("a"))).await.unwrap().first_offset;
        let seen = Some(stream.voided());
        soon(stream.entry_over(EntryKind::Outcome, at..at + 1, "x", seen)).await.unwrap();
        assert_eq!(stream.durable_end(), at + 1);
        shared += u64::from(gate.came() - before == 1);
        rounds += 1;
    }
    assert_eq!(shared, 100, "of {rounds}");
    journal.close().await.unwrap();
}

fn ready<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
