//! What is durable, in memory: the index of every stream, the files it lies in, the cache of recent frames.
//!
//! Changed by the writer only after a sync and by recovery. Nothing here
//! does I/O; the lock around it is held for short, bounded work.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use crate::disk::{Disk, DiskFile, DiskLock};
use crate::early::Early;
use crate::format::{Header, Kind};
use crate::frame::Frame;
use crate::journal::Options;
use crate::limits;
use crate::mover::Mover;
use crate::producers::Producers;
use crate::queue::Queue;
use crate::records::{Numbered, Receipt};
use crate::retention::Retention;
use crate::stream::StreamKey;
use crate::writer::beside::Beside;
use crate::writer::refusal::Refusal;

/// A journal or segment file. Every reference into it is an `Arc`, so it is free when only its list holds it.
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Journal position of its first byte (segments: of its first frame).
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    /// Bytes of the frames in it that are needed.
    pub(crate) live: AtomicU64,
}

impl Store {
    pub(crate) fn new(path: PathBuf, file: Arc<dyn DiskFile>, start: u64, bytes: u64) -> Arc<Store> {
        Arc::new(Store { path, file, start, bytes, live: AtomicU64::new(0) })
    }

    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }
}

/// A segment file.
pub(crate) struct Segment {
    pub(crate) store: Arc<Store>,
    /// Journal position behind the start of its last frame.
    pub(crate) until: u64,
}

/// Where a durable frame lies.
#[derive(Clone)]
pub(crate) struct FrameRef {
    pub(crate) store: Arc<Store>,
    pub(crate) at: u64,
    pub(crate) position: u64,
    /// First offset; of an entry, start of its input.
    pub(crate) base: u64,
    pub(crate) until: u64,
    /// Records: end of the durable records before these.
    pub(crate) after: u64,
    /// Of the first record, ns since 1970.
    pub(crate) arrival: i64,
    pub(crate) len: u32,
    pub(crate) kind: Kind,
}

impl FrameRef {
    pub(crate) fn new(header: &Header, store: &Arc<Store>, at: u64) -> FrameRef {
        FrameRef {
            store: Arc::clone(store),
            at,
            position: header.position,
            base: header.base,
            until: header.until,
            after: header.after,
            arrival: header.arrival,
            len: u32::try_from(header.frame_len()).unwrap_or(u32::MAX),
            kind: header.kind,
        }
    }

    pub(crate) fn charge(&self) -> u64 {
        charge_of(u64::from(self.len))
    }
}

/// What a frame counts for against the bounds.
pub(crate) fn charge_of(frame_len: u64) -> u64 {
    frame_len.max(limits::CHARGE_BYTES_MIN)
}

/// What handles of a stream share; outlives its entry in the state.
pub(crate) struct StreamCore {
    pub(crate) id: u32,
    pub(crate) key: StreamKey,
    pub(crate) incarnation: [u8; 16],
    pub(crate) durable_end: watch::Sender<u64>,
    /// Of payloads, since it was opened.
    pub(crate) durable_bytes: AtomicU64,
    /// Below so many of these bytes nobody is woken by more of them.
    pub(crate) patient_to: AtomicU64,
    pub(crate) buffered: AtomicU64,
    /// Charges of the frames that are kept although the checkpoint needs them no more.
    pub(crate) retained: AtomicU64,
    pub(crate) max_bytes: AtomicU64,
    pub(crate) deleted: AtomicBool,
    pub(crate) early: Mutex<Early>,
}

impl StreamCore {
    pub(crate) fn new(id: u32, key: StreamKey, incarnation: [u8; 16], next_offset: u64) -> StreamCore {
        StreamCore {
            id,
            key,
            incarnation,
            durable_end: watch::Sender::new(next_offset),
            durable_bytes: AtomicU64::new(0),
            patient_to: AtomicU64::new(0),
            buffered: AtomicU64::new(0),
            retained: AtomicU64::new(0),
            max_bytes: AtomicU64::new(u64::MAX),
            deleted: AtomicBool::new(false),
            early: Mutex::default(),
        }
    }

    /// Says that everything before `until` is durable.
    pub(crate) fn durable(&self, until: u64) {
        // After the bytes were counted: whoever asks for more afterwards sees them, or is seen here.
        let wakes = self.durable_bytes.load(Ordering::SeqCst) >= self.patient_to.load(Ordering::SeqCst);
        self.durable_end.send_if_modified(|end| {
            *end = until;
            wakes
        });
    }

    /// Wakes everyone who waits for records, to look again.
    pub(crate) fn wake(&self) {
        self.durable_end.send_modify(|_| {});
    }
}

/// The durable state of one stream.
pub(crate) struct StreamState {
    pub(crate) core: Arc<StreamCore>,
    /// Offset behind the last durable record.
    pub(crate) end: u64,
    /// Offset of the next record: `end`, or behind offsets that a failed group had been given.
    pub(crate) next_offset: u64,
    /// Records before this offset are needed no more.
    pub(crate) records_from: u64,
    /// Entries before this journal position are needed no more.
    pub(crate) entries_from: u64,
    pub(crate) checkpoint: Option<Bytes>,
    pub(crate) last_arrival: i64,
    pub(crate) sources: BTreeMap<(String, u32), Vec<u8>>,
    pub(crate) producers: Producers,
    /// Records that the checkpoint needs no more and that are kept all the same; all before those of `records`.
    pub(crate) retained: VecDeque<FrameRef>,
    /// What of them is kept: everything until somebody who knows asks for the stream.
    pub(crate) retention: Option<Retention>,
    pub(crate) records: VecDeque<FrameRef>,
    pub(crate) entries: VecDeque<FrameRef>,
}

/// What becomes of a frame that a checkpoint releases.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Released {
    Freed,
    Retained,
}

impl StreamState {
    pub(crate) fn new(core: Arc<StreamCore>) -> StreamState {
        StreamState {
            core,
            end: 0,
            next_offset: 0,
            records_from: 0,
            entries_from: 0,
            checkpoint: None,
            last_arrival: i64::MIN,
            sources: BTreeMap::new(),
            producers: Producers::default(),
            retained: VecDeque::new(),
            retention: Some(Retention::ALL),
            records: VecDeque::new(),
            entries: VecDeque::new(),
        }
    }

    /// Takes in a frame that recovery found, in the order of the journal. What counts frames comes later.
    pub(crate) fn found(
        &mut self,
        header: &Header,
        frame: FrameRef,
        content: &Bytes,
        numbered: Option<Numbered>,
    ) {
        match header.kind {
            Kind::Records => {
                self.end = self.end.max(header.until);
                self.next_offset = self.next_offset.max(header.until);
                self.last_arrival = self.last_arrival.max(header.arrival);
                if !header.source_position.is_empty() {
                    let name = String::from_utf8_lossy(&header.source_name).into_owned();
                    self.sources.insert((name, header.partition), header.source_position.clone());
                }
                if let Some(numbered) = numbered {
                    self.producers.remember(&numbered, Receipt::of(header), header.arrival);
                }
                self.records.push_back(frame);
            }
            Kind::Checkpoint => {
                self.checkpoint = Some(Bytes::copy_from_slice(content));
                self.records_from = self.records_from.max(header.base);
                self.entries_from = self.entries_from.max(header.until);
            }
            _ => self.entries.push_back(frame),
        }
        self.release(|_, _| {});
    }

    /// Takes in a frame that has become durable.
    pub(crate) fn push(&mut self, frame: FrameRef) {
        frame.store.live.fetch_add(u64::from(frame.len), Ordering::Relaxed);
        match frame.kind {
            Kind::Records => self.records.push_back(frame),
            _ => self.entries.push_back(frame),
        }
    }

    /// Drops what a checkpoint released, or keeps it as history; calls `released` for each frame.
    pub(crate) fn release(&mut self, mut released: impl FnMut(&FrameRef, Released)) {
        while let Some(frame) = self.records.pop_front_if(|frame| frame.until <= self.records_from) {
            if self.retention.is_some() {
                released(&frame, Released::Retained);
                self.retained.push_back(frame);
            } else {
                released(&frame, Released::Freed);
            }
        }
        while let Some(frame) = self.entries.pop_front_if(|frame| frame.position < self.entries_from) {
            released(&frame, Released::Freed);
        }
    }

    /// Drops the oldest history until the rest is within its bounds and not from before `oldest`, but not all at once:
    /// when that many frames were dropped, there may be more.
    pub(crate) fn trim(&mut self, oldest: i64) -> usize {
        let most = self.retention.map_or(0, |retention| retention.bytes);
        let core = &self.core;
        let mut dropped = 0;
        while dropped < limits::TRIM_FRAMES_MAX
            && let Some(frame) = self
                .retained
                .pop_front_if(|frame| frame.arrival < oldest || core.retained.load(Ordering::Relaxed) > most)
        {
            core.retained.fetch_sub(frame.charge(), Ordering::Relaxed);
            frame.store.live.fetch_sub(u64::from(frame.len), Ordering::Relaxed);
            dropped += 1;
        }
        dropped
    }
}

/// Recent frames, by journal position; the oldest go first.
#[derive(Default)]
pub(crate) struct Cache {
    frames: BTreeMap<u64, Arc<Frame>>,
    pub(crate) bytes: u64,
}

impl Cache {
    pub(crate) fn insert(&mut self, frame: Arc<Frame>, budget: u64) {
        self.bytes += frame.memory_bytes();
        if let Some(old) = self.frames.insert(frame.position, frame) {
            self.bytes -= old.memory_bytes();
        }
        while self.bytes > budget
            && let Some((_, old)) = self.frames.pop_first()
        {
            self.bytes -= old.memory_bytes();
        }
    }

    pub(crate) fn get(&self, position: u64) -> Option<Arc<Frame>> {
        self.frames.get(&position).cloned()
    }

    pub(crate) fn remove(&mut self, position: u64) {
        if let Some(old) = self.frames.remove(&position) {
            self.bytes -= old.memory_bytes();
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) streams: BTreeMap<u32, StreamState>,
    pub(crate) names: HashMap<StreamKey, u32>,
    pub(crate) next_stream: u32,
    /// Journal files, oldest first; the last is being written.
    pub(crate) files: VecDeque<Arc<Store>>,
    /// Files that hold nothing and wait for their next use.
    pub(crate) spares: VecDeque<Arc<Store>>,
    pub(crate) next_spare: u64,
    /// What was moved out of freed journal files, in the order of its making.
    pub(crate) segments: Vec<Segment>,
    pub(crate) next_segment: u64,
    /// Journal position behind everything that is durable.
    pub(crate) end: u64,
    pub(crate) cache: Cache,
    pub(crate) lock: Option<Arc<dyn DiskLock>>,
}

impl State {
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.store.bytes).sum()
    }
}

/// Counters for `Journal::stats`.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) syncs: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) largest_group_frames: AtomicU64,
    pub(crate) failed_syncs: AtomicU64,
    pub(crate) failed_writes: AtomicU64,
    pub(crate) corruptions: AtomicU64,
}

/// Everything that handles and writer share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    /// Its threads do what else a test does step by step.
    pub(crate) threaded: bool,
    pub(crate) journal_id: u64,
    pub(crate) epoch: u32,
    pub(crate) queue: Queue,
    pub(crate) mover: Mover,
    pub(crate) beside: Beside,
    pub(crate) counters: Counters,
    /// Charges of all streams, pending ones included.
    pub(crate) buffered: AtomicU64,
    pub(crate) closed: AtomicBool,
    /// The journal's file was removed by somebody else, and there is no new one yet.
    pub(crate) gone: AtomicBool,
    /// Set while the disk refuses appends.
    pub(crate) refusal: watch::Sender<Option<Refusal>>,
    /// One creation of a stream at a time.
    pub(crate) creating: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        (options, threaded): (Options, bool),
        identity: (u64, u32),
        state: State,
    ) -> Shared {
        let buffered = state.streams.values().map(|s| s.core.buffered.load(Ordering::Relaxed)).sum();
        Shared {
            disk,
            dir: dir.to_owned(),
            queue: Queue::new(options.queue_bytes),
            mover: Mover::default(),
            beside: Beside::default(),
            options,
            threaded,
            journal_id: identity.0,
            epoch: identity.1,
            counters: Counters::default(),
            buffered: AtomicU64::new(buffered),
            closed: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            refusal: watch::Sender::new(None),
            creating: tokio::sync::Mutex::new(()),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Drops the history of a stream that is past its bounds or from before `oldest`; true if there was any. Others get
    /// the state in between.
    pub(crate) fn trim(&self, stream: u32, oldest: i64) -> bool {
        let mut any = false;
        loop {
            let dropped = self.state().streams.get_mut(&stream).map_or(0, |stream| stream.trim(oldest));
            any |= dropped > 0;
            if dropped < limits::TRIM_FRAMES_MAX {
                return any;
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn journal_dir(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// Counts `bytes` against the stream's bound and the total one.
    pub(crate) fn charge(&self, core: &StreamCore, bytes: u64) {
        core.buffered.fetch_add(bytes, Ordering::Relaxed);
        self.buffered.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn discharge(&self, core: &StreamCore, bytes: u64) {
        core.buffered.fetch_sub(bytes, Ordering::Relaxed);
        self.buffered.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A durable frame that its stream's checkpoint has released.
    pub(crate) fn released(&self, cache: &mut Cache, core: &StreamCore, frame: &FrameRef, what: Released) {
        match what {
            Released::Freed => self.forget(cache, core, frame),
            Released::Retained => {
                // The cache is for what is about to be read.
                cache.remove(frame.position);
                self.discharge(core, frame.charge());
                core.retained.fetch_add(frame.charge(), Ordering::Relaxed);
            }
        }
    }

    /// A durable frame that is needed no more, and was taken off its stream's list.
    pub(crate) fn forget(&self, cache: &mut Cache, core: &StreamCore, frame: &FrameRef) {
        cache.remove(frame.position);
        frame.store.live.fetch_sub(u64::from(frame.len), Ordering::Relaxed);
        self.discharge(core, frame.charge());
    }
}

/// A panic elsewhere leaves the data under our locks consistent: they change in single steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FaultyDisk;

    #[test]
    fn frame_takes_no_more_of_memory_than_docs_faults_says() {
        assert_eq!(size_of::<FrameRef>(), 64);
    }

    #[test]
    fn history_is_dropped_a_bounded_number_of_frames_at_a_time() {
        let disk = FaultyDisk::new(0);
        disk.create_dir(Path::new("/data")).unwrap();
        let path = PathBuf::from("/data/file");
        let file = disk.create(&path, 0, false).unwrap();
        let store = Store::new(path, file, 0, 0);
        let key = StreamKey { tenant: "t".into(), name: "s".into() };
        let core = Arc::new(StreamCore::new(1, key, [0; 16], 0));
        let mut stream = StreamState::new(Arc::clone(&core));
        let frame = FrameRef::new(&Header::new(Kind::Records), &store, 0);
        for _ in 0..2 * limits::TRIM_FRAMES_MAX + 3 {
            stream.push(frame.clone());
            core.retained.fetch_add(frame.charge(), Ordering::Relaxed);
        }
        stream.retained.append(&mut stream.records);
        // One is kept.
        stream.retention = Some(Retention { bytes: frame.charge(), ..Retention::ALL });
        let dropped = [(); 4].map(|()| stream.trim(i64::MIN));
        assert_eq!(dropped, [limits::TRIM_FRAMES_MAX, limits::TRIM_FRAMES_MAX, 2, 0]);
        assert_eq!(stream.retained.len(), 1);
        assert_eq!(core.retained.load(Ordering::Relaxed), frame.charge());
        assert_eq!(store.live(), u64::from(frame.len));
    }
}
