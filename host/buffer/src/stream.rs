//! The handle of one stream: appending, reading, entries, checkpoints.
//!
//! Encodes on the caller's thread and queues for the writer; reads only what is durable.

use std::ops::Range;
use std::sync::Arc;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::disk::read_full;
use crate::error::{AppendError, ReadError};
use crate::format::{Header, Kind};
use crate::frame::{Body, Frame};
use crate::limits;
use crate::producers::Judgement;
use crate::queue::{Charge, Item, Reply, Room, Work};
use crate::records::{Receipt, Records};
use crate::retention::Retention;
use crate::state::{FrameRef, Shared, StreamCore, charge_of};

/// A stream's name inside its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    pub tenant: String,
    pub name: String,
}

#[derive(Debug, Clone, Copy)]
pub struct StreamOptions {
    /// Most buffered bytes (frames as on disk, each counted as at least 2 KiB).
    pub max_bytes: u64,
    /// What is kept of records that the checkpoint needs no more; `None`: nothing.
    pub retention: Option<Retention>,
}

/// A place in the journal; grows with time, never reused for something else that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// What a read found.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    pub frames: Vec<Arc<Frame>>,
    /// Offsets that were acknowledged but cannot be read any more: corrupt, set aside, reported.
    pub lost: Vec<Range<u64>>,
    /// Where the next read starts. Offsets between that are in no frame and not lost were never acknowledged.
    pub next_offset: u64,
}

/// An append that was submitted and is not yet known to be durable.
pub struct Pending {
    answer: oneshot::Receiver<Result<Receipt, AppendError>>,
}

impl Pending {
    fn new() -> (impl FnOnce(Result<Receipt, AppendError>) + Send + 'static, Pending) {
        let (reply, answer) = oneshot::channel();
        // If nobody waits any more, the append stands all the same.
        (move |what| drop(reply.send(what)), Pending { answer })
    }

    /// Waits for durability.
    pub async fn wait(self) -> Result<Receipt, AppendError> {
        self.answer.await.unwrap_or(Err(AppendError::Unknown))
    }
}

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct Stream {
    pub(crate) shared: Arc<Shared>,
    pub(crate) core: Arc<StreamCore>,
}

/// A frame to read, and the frame itself if it is in memory.
pub(crate) type Picked = (FrameRef, Option<Arc<Frame>>);

/// Queues a frame that counts against no bound, and waits until it is durable.
pub(crate) async fn send(
    shared: &Arc<Shared>,
    core: Option<&Arc<StreamCore>>,
    kind: Kind,
    (base, until): (u64, u64),
    content: Bytes,
    work: Work,
) -> Result<Receipt, AppendError> {
    if content.len() as u64 > limits::BODY_BYTES_MAX - 8 {
        return Err(AppendError::Invalid { what: "content too long" });
    }
    let room = shared.queue.room(core.map_or("", |core| &core.key.tenant), content.len() as u64).await?;
    let (told, pending) = Pending::new();
    let mut item = item(shared, core, kind, (base, until), content, work);
    item.reply = Some(Reply::new(told));
    item.room = Some(room);
    shared.queue.push(item)?;
    pending.wait().await
}

fn item(
    shared: &Arc<Shared>,
    core: Option<&Arc<StreamCore>>,
    kind: Kind,
    (base, until): (u64, u64),
    content: Bytes,
    work: Work,
) -> Item {
    let mut header = Header { base, until, ..Header::new(kind) };
    let body = Body::of_content(&mut header, content);
    let charge = match (&work, core) {
        (Work::Entry(_), Some(core)) => Some(Charge::new(shared, core, charge_of(header.frame_len()))),
        _ => None,
    };
    Item { stream: core.cloned(), header, body, work, reply: None, charge, room: None }
}

/// Says what was not queued.
fn refused(pushed: &Result<(), AppendError>, reply: Option<Reply>) {
    if let (Err(error), Some(reply)) = (pushed, reply) {
        reply.say(Err(error.clone()));
    }
}

/// While it lives, a stream wakes nobody before it has so many bytes.
struct Patience<'a>(&'a StreamCore);

impl Patience<'_> {
    fn begin(core: &StreamCore, bytes: u64) -> Patience<'_> {
        core.patient_to.store(bytes, Ordering::SeqCst);
        Patience(core)
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        self.0.patient_to.store(0, Ordering::SeqCst);
    }
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, core: Arc<StreamCore>) -> Stream {
        Stream { shared, core }
    }

    pub fn key(&self) -> &StreamKey {
        &self.core.key
    }

    /// 128 random bits, made when the stream was created.
    pub fn incarnation(&self) -> [u8; 16] {
        self.core.incarnation
    }

    /// Grows at each open that was not clean.
    pub fn epoch(&self) -> u32 {
        self.shared.epoch
    }

    /// Offset that the next record gets, unless a write fails before: offsets of appends whose fate is unknown
    /// are passed over.
    pub fn next_offset(&self) -> u64 {
        self.shared.state().streams.get(&self.core.id).map_or(self.durable_end(), |stream| stream.next_offset)
    }

    /// Offset behind the last durable record.
    pub fn durable_end(&self) -> u64 {
        *self.core.durable_end.borrow()
    }

    /// Changes whenever records become durable (and when the stream or journal ends).
    pub fn watch_durable_end(&self) -> watch::Receiver<u64> {
        self.core.durable_end.subscribe()
    }

    /// Waits until a record at or after `offset` is durable: `durable_end() > offset`.
    ///
    /// It also returns, once, if the stream or the journal ends during the wait. If it has ended before, and
    /// nothing is durable past `offset`, it never returns, so that a loop around it cannot spin: wait beside
    /// something else, or ask [`Stream::has_ended`] first.
    pub async fn durable_past(&self, offset: u64) {
        self.wait_until(|end| end > offset).await;
    }

    /// As [`Stream::durable_past`] does, for what is so at some end of the durable records.
    pub(crate) async fn wait_until(&self, is: impl Fn(u64) -> bool) {
        let mut end = self.watch_durable_end();
        loop {
            let durable = *end.borrow_and_update();
            if is(durable) {
                return;
            }
            // Marked ended before it wakes us, so that a wake-up from now on is seen below.
            if self.has_ended() {
                return std::future::pending().await;
            }
            if end.changed().await.is_err() || self.has_ended() {
                return;
            }
        }
    }

    /// Bytes of the payloads that became durable since the stream was opened.
    pub fn durable_bytes(&self) -> u64 {
        self.core.durable_bytes.load(Ordering::SeqCst)
    }

    /// Waits until [`Stream::durable_bytes`] is `bytes`: for a reader that has what to do with less at another time. Until then,
    /// records of this stream that become durable wake nobody, whoever else waits for some; so a stream has one such reader, and
    /// what is woken is one task once instead of once for each append.
    ///
    /// Returns or waits for ever as [`Stream::durable_past`] does if the stream or the journal ends.
    pub async fn durable_bytes_at(&self, bytes: u64) {
        let _patient = Patience::begin(&self.core, bytes);
        self.wait_until(|_end| self.durable_bytes() >= bytes).await;
    }

    /// True once the stream is deleted or the journal closed: nothing becomes durable any more.
    pub fn has_ended(&self) -> bool {
        self.core.deleted.load(Ordering::Acquire) || self.shared.closed.load(Ordering::Acquire)
    }

    /// Arrival of the oldest frame that holds records at or after `from_offset`, ns since 1970; `None` if no
    /// such record is durable.
    pub fn oldest_arrival(&self, from_offset: u64) -> Option<i64> {
        let state = self.shared.state();
        let records = &state.streams.get(&self.core.id)?.records;
        let first = records.partition_point(|frame| frame.until <= from_offset);
        records.get(first).map(|frame| frame.arrival)
    }

    /// Journal position behind everything that is durable now, and before everything that becomes durable
    /// later: a checkpoint that needs no entry any more states it as `entries_needed_from`.
    pub fn journal_end(&self) -> Position {
        Position(self.shared.state().end)
    }

    /// Whether the buffers of all streams together are full to one part of so many.
    pub fn is_full_to(&self, parts: u64) -> bool {
        self.shared.buffered.load(Ordering::Relaxed) > self.shared.options.max_total_bytes / parts
    }

    /// Whether what is written from a position on nears the journal's bound: past it, what is needed there is copied out of the way.
    pub fn is_long_behind(&self, position: Position) -> bool {
        let options = &self.shared.options;
        let most = options.max_journal_bytes.saturating_sub(options.file_bytes).max(options.file_bytes);
        self.journal_end().0.saturating_sub(position.0) > most / 4 * 3
    }

    /// What counts against `max_bytes`: frames as on disk, waiting ones included, each at least 2 KiB.
    pub fn buffered_bytes(&self) -> u64 {
        self.core.buffered.load(Ordering::Relaxed)
    }

    /// The durable position in a partition of a source.
    pub fn source_position(&self, source: &str, partition: u32) -> Option<Vec<u8>> {
        let state = self.shared.state();
        state.streams.get(&self.core.id)?.sources.get(&(source.to_owned(), partition)).cloned()
    }

    /// Waits for room in the queue, then for durability.
    pub async fn append(&self, records: Records) -> Result<Receipt, AppendError> {
        self.enqueue(records).await?.wait().await
    }

    /// Waits for room in the queue only: several appends in flight, in this order.
    pub async fn enqueue(&self, records: Records) -> Result<Pending, AppendError> {
        let (told, pending) = Pending::new();
        self.enqueue_then(records, told).await?;
        Ok(pending)
    }

    /// The same with `told` in place of who would wait: it is called once with what becomes of the append, also with the error that is
    /// returned. It must be quick, and block for nothing: others' receipts wait.
    pub async fn enqueue_then(
        &self,
        records: Records,
        told: impl FnOnce(Result<Receipt, AppendError>) + Send + 'static,
    ) -> Result<(), AppendError> {
        let mut reply = Some(Reply::new(told));
        let room = self.shared.queue.room(&self.core.key.tenant, records.payload.len() as u64);
        let pushed = match records.check() {
            Ok(()) => room.await.and_then(|room| self.push(records, room, &mut reply)),
            Err(error) => Err(error),
        };
        refused(&pushed, reply);
        pushed
    }

    /// Waits for nothing: `AppendError::Busy` if the queue is full.
    pub fn submit(&self, records: Records) -> Result<Pending, AppendError> {
        let (told, pending) = Pending::new();
        self.submit_then(records, told)?;
        Ok(pending)
    }

    /// The same with `told` as in [`Stream::enqueue_then`].
    pub fn submit_then(
        &self,
        records: Records,
        told: impl FnOnce(Result<Receipt, AppendError>) + Send + 'static,
    ) -> Result<(), AppendError> {
        let mut reply = Some(Reply::new(told));
        let room = || self.shared.queue.try_room(&self.core.key.tenant, records.payload.len() as u64);
        let pushed = records.check().and_then(|()| room());
        let pushed = pushed.and_then(|room| self.push(records, room, &mut reply));
        refused(&pushed, reply);
        pushed
    }

    /// Queues records with their `reply`, or says at once what is known.
    fn push(&self, records: Records, room: Room, reply: &mut Option<Reply>) -> Result<(), AppendError> {
        self.alive()?;
        if let Some(source) = records.source.as_ref().filter(|source| !source.position.is_empty()) {
            let state = self.shared.state();
            let sources = state.streams.get(&self.core.id).map(|stream| &stream.sources);
            if sources.is_some_and(|known| {
                known.len() >= limits::SOURCES_MAX
                    && !known.contains_key(&(source.name.clone(), source.partition))
            }) {
                return Err(AppendError::Invalid { what: "too many partitions of sources" });
            }
        }
        if let Some(known) = self.known(&records) {
            let known = known?;
            reply.take().into_iter().for_each(|reply| reply.say(Ok(known)));
            return Ok(());
        }
        let mut header = Header::new(Kind::Records);
        let body = Body::of_records(&mut header, &records);
        if header.body_len > limits::BODY_BYTES_MAX {
            return Err(AppendError::Invalid { what: "records exceed 1 GiB" });
        }
        let cost = charge_of(header.frame_len());
        // Counted first, then checked, so that two callers cannot both take the last of it.
        let charge = Charge::new(&self.shared, &self.core, cost);
        let (buffered, max) = (self.buffered_bytes(), self.core.max_bytes.load(Ordering::Relaxed));
        if buffered > max {
            self.shared.queue.kick();
            return Err(AppendError::StreamFull { buffered: buffered - cost, max });
        }
        let (buffered, max) =
            (self.shared.buffered.load(Ordering::Relaxed), self.shared.options.max_total_bytes);
        if buffered > max {
            self.shared.queue.kick();
            return Err(AppendError::Full { buffered: buffered.saturating_sub(cost), max });
        }
        let early = records.early;
        if early {
            self.shared.beside.want();
        }
        self.shared.queue.push(Item {
            stream: Some(Arc::clone(&self.core)),
            header,
            body,
            work: Work::Records(records),
            reply: reply.take(),
            charge: Some(charge),
            room: Some(room),
        })?;
        if early && self.shared.threaded {
            self.shared.beside.call(&self.shared);
        }
        Ok(())
    }

    /// What is to be answered without a write, however full the buffer is. The writer asks again.
    fn known(&self, records: &Records) -> Option<Result<Receipt, AppendError>> {
        let numbered = records.numbered.as_ref().filter(|_| !self.shared.gone.load(Ordering::Acquire))?;
        let state = self.shared.state();
        let stream = state.streams.get(&self.core.id)?;
        match stream.producers.judge(numbered, records.arrival.max(stream.last_arrival)) {
            Judgement::New => None,
            Judgement::Stored(receipt) => Some(Ok(receipt)),
            Judgement::Refused(error) => Some(Err(error)),
        }
    }

    pub(crate) fn alive(&self) -> Result<(), AppendError> {
        if self.core.deleted.load(Ordering::Acquire) { Err(AppendError::Deleted) } else { Ok(()) }
    }

    /// Waits until a durable record at or after `from_offset` can be read, or is known to be lost.
    pub async fn frames(&self, from_offset: u64, max_bytes: usize) -> Result<Frames, ReadError> {
        let mut end = self.watch_durable_end();
        loop {
            end.borrow_and_update();
            let found = self.try_frames(from_offset, max_bytes)?;
            if !found.frames.is_empty() || !found.lost.is_empty() {
                return Ok(found);
            }
            if self.shared.closed.load(Ordering::Acquire) || end.changed().await.is_err() {
                return Err(ReadError::Closed);
            }
        }
    }

    /// The same without waiting: empty if there is nothing. At least one frame, then up to `max_bytes`; behind those that are durable
    /// what can be read before it is ([`Records::early`]).
    pub fn try_frames(&self, from_offset: u64, max_bytes: usize) -> Result<Frames, ReadError> {
        let mut picked = Vec::new();
        let (expected, stop, early) = {
            let state = self.shared.state();
            let stream = state.streams.get(&self.core.id).ok_or(ReadError::Deleted)?;
            let first = stream.records.partition_point(|frame| frame.until <= from_offset);
            let mut bytes = 0usize;
            let mut stop = stream.end;
            for frame in stream.records.range(first..) {
                bytes = bytes.saturating_add(frame.len as usize);
                if bytes > max_bytes && !picked.is_empty() {
                    stop = frame.after;
                    break;
                }
                picked.push((frame.clone(), state.cache.get(frame.position)));
            }
            // While they are looked at, they do not become durable.
            let early = if stop == stream.end {
                self.core.early().frames(from_offset, max_bytes.saturating_sub(bytes), picked.is_empty())
            } else {
                Vec::new()
            };
            (from_offset.max(stream.records_from), stop, early)
        };
        let mut found = self.read(picked, expected, stop)?;
        found.add_early(early);
        Ok(found)
    }

    /// Reads these frames, and says what is lost of the offsets from `expected` to `stop`.
    pub(crate) fn read(&self, picked: Vec<Picked>, expected: u64, stop: u64) -> Result<Frames, ReadError> {
        let mut expected = expected;
        let mut found = Frames::default();
        let mut frames = Vec::with_capacity(picked.len());
        let mut lose = |lost: Range<u64>| {
            if !lost.is_empty() {
                found.lost.push(lost);
            }
        };
        for (place, cached) in picked {
            lose(expected..place.after);
            let frame = match cached {
                Some(frame) => Some(frame),
                None => {
                    self.load(&place)?.and_then(|(header, body)| Frame::decode(&header, &body)).map(Arc::new)
                }
            };
            let Some(frame) = frame else {
                tracing::error!(
                    position = place.position,
                    base = place.base,
                    until = place.until,
                    "frame is corrupt"
                );
                lose(expected.max(place.base)..place.until);
                expected = expected.max(place.until);
                continue;
            };
            expected = expected.max(place.until);
            frames.push(frame);
        }
        lose(expected..stop);
        found.next_offset = expected.max(stop);
        found.frames = frames;
        Ok(found)
    }

    /// Reads a frame from its file; `None` if it does not pass its checksums.
    pub(crate) fn load(&self, place: &FrameRef) -> Result<Option<(Header, Bytes)>, ReadError> {
        let mut bytes = vec![0; place.len as usize];
        let len = read_full(place.store.file.as_ref(), &mut bytes, place.at)
            .map_err(|source| ReadError::Disk { path: place.store.path.clone(), at: place.at, source })?;
        bytes.truncate(len);
        let Ok(header) = Header::read(&bytes) else { return Ok(None) };
        let from = header.header_len();
        let to = from + usize::try_from(header.body_len).unwrap_or(usize::MAX / 2);
        if header.position != place.position || to > bytes.len() {
            return Ok(None);
        }
        let body = Bytes::from(bytes).slice(from..to);
        Ok((crc32c::crc32c(&body) == header.body_crc).then_some((header, body)))
    }

    /// States what is needed no more, and replaces the checkpoint before. Without `durable` it returns at once
    /// and rides along with the next group; a later one of the stream replaces it there.
    pub async fn checkpoint(
        &self,
        body: impl Into<Bytes>,
        records_needed_from: u64,
        entries_needed_from: Position,
        durable: bool,
    ) -> Result<(), AppendError> {
        self.alive()?;
        let content = body.into();
        // Nothing that is still to come can be settled.
        let range =
            (records_needed_from.min(self.next_offset()), entries_needed_from.0.min(limits::PLACE_MAX));
        let work = Work::Checkpoint(content.clone());
        if durable {
            send(&self.shared, Some(&self.core), Kind::Checkpoint, range, content, work).await?;
            return Ok(());
        }
        let item = item(&self.shared, Some(&self.core), Kind::Checkpoint, range, content, work);
        self.shared.queue.ride(self.core.id, item)
    }

    pub fn latest_checkpoint(&self) -> Option<Bytes> {
        self.shared.state().streams.get(&self.core.id)?.checkpoint.clone()
    }

    /// Discards the stream and all that it holds; leaves a tombstone in the journal.
    pub async fn delete(&self) -> Result<(), AppendError> {
        if self.core.deleted.swap(true, Ordering::AcqRel) {
            return Err(AppendError::Deleted);
        }
        let sent =
            send(&self.shared, Some(&self.core), Kind::StreamDeleted, (0, 0), Bytes::new(), Work::Delete);
        let result = sent.await;
        if result.is_err() {
            self.core.deleted.store(false, Ordering::Release);
        }
        result.map(|_| ())
    }
}
