//! The one thread that writes the journal: groups, syncs, and what follows from failures.
//!
//! A frame is applied to the state and acknowledged only after its group's sync. After a failed write or sync
//! the file is abandoned: the next one starts at the last durable position, which voids what is uncertain. The
//! group's offsets are passed over. The same if the file lost its name meanwhile, because somebody removed, moved or
//! replaced the directory: what is written to it would be found by nobody.

pub(crate) mod beside;
mod group;
pub(crate) mod refusal;
mod rotation;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::group::Aheads;
use crate::disk::is_full;
use crate::early;
use crate::error::AppendError;
use crate::format::Kind;
use crate::frame::Frame;
use crate::journal::Durability;
use crate::producers::Judgement;
use crate::queue::{Item, Reply, Taken, Work};
use crate::records::{Numbered, Receipt};
use crate::state::{FrameRef, Shared, State, Store, StreamState};

/// Groups that are synced and applied before the writer looks at what else waits.
const SYNCS_MAX: u32 = 8;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// None after a failure, until a new file is there.
    file: Option<Arc<Store>>,
    /// Journal position of the next frame.
    end: u64,
    /// Everything before it was synced.
    durable: u64,
    number: u64,
    ahead: Aheads,
    headers: Vec<u8>,
    /// The file was the last spare, and there is no other room: it takes only what frees space.
    lean: bool,
    /// The group waits for its sync, because a test wants to look.
    #[cfg(any(test, feature = "testing"))]
    held: Held,
}

/// See [`Writer::step_to_sync`].
#[cfg(any(test, feature = "testing"))]
#[derive(Default)]
struct Held {
    holds: bool,
    written: Option<Written>,
}

/// Items that are written and not synced.
struct Written {
    file: Arc<Store>,
    items: Vec<Item>,
    repeats: Vec<Repeat>,
    len: u64,
}

/// A request that is sent again while its first copy is in the group that is being written.
struct Repeat {
    /// Index of the first copy in the group.
    first: usize,
    /// With the same records.
    same: bool,
    item: Item,
}

impl Repeat {
    /// Takes the answer that the first copy gets.
    fn answer(self, first: Result<Receipt, AppendError>) {
        let Repeat { same, mut item, .. } = self;
        let result = match (first, numbered(&item)) {
            (Ok(receipt), Some(numbered)) if !same => Err(AppendError::conflict(numbered, receipt)),
            (Ok(receipt), _) => Ok(Receipt { duplicate: true, ..receipt }),
            (Err(error), _) => Err(error),
        };
        answer(item.reply.take(), result);
    }
}

/// The request that an item holds the records of, if its producer numbered it.
fn numbered(item: &Item) -> Option<&Numbered> {
    match &item.work {
        Work::Records(records) => records.numbered.as_ref(),
        _ => None,
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn refuse(items: Vec<Item>, repeats: Vec<Repeat>, error: &AppendError) {
    items.into_iter().for_each(|item| answer(item.reply, Err(error.clone())));
    repeats.into_iter().for_each(|repeat| repeat.answer(Err(error.clone())));
}

fn answer(reply: Option<Reply>, with: Result<Receipt, AppendError>) {
    if let Some(reply) = reply {
        reply.say(with);
    }
}

impl Writer {
    /// Starts a new file behind what recovery found. On a full disk that is left to the first append for which
    /// there is room.
    pub(crate) fn open(shared: Arc<Shared>, end: u64, number: u64) -> io::Result<Writer> {
        let mut writer = Writer {
            shared,
            file: None,
            end,
            durable: end,
            number,
            ahead: Aheads::new(),
            headers: Vec::new(),
            lean: false,
            #[cfg(any(test, feature = "testing"))]
            held: Held::default(),
        };
        writer.shared.state().end = end;
        match writer.rotate(0, true) {
            Err(error) if is_full(&error) => {
                writer.shared.refuses(&Arc::new(error), 0);
            }
            result => result?,
        }
        writer.free_files();
        Ok(writer)
    }

    /// Until the queue is closed.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut taken = Taken::default();
        while shared.queue.take(&mut taken) {
            self.turn(&mut taken);
        }
    }

    /// The same for what waits now, without waiting.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn step(&mut self) {
        self.settle_held();
        let mut taken = Taken::default();
        self.shared.queue.try_take(&mut taken);
        self.turn(&mut taken);
    }

    /// The same up to where the group is written and its sync begins, which the next step does; again, what is written beside it.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn step_to_sync(&mut self) {
        if self.held.written.is_some() {
            return self.shared.beside.write(&self.shared);
        }
        let mut taken = Taken::default();
        self.shared.queue.try_take(&mut taken);
        self.held.holds = true;
        self.commit(&mut taken.items);
        self.held.holds = false;
    }

    #[cfg(any(test, feature = "testing"))]
    fn settle_held(&mut self) {
        if let Some(written) = self.held.written.take() {
            self.finish(written);
        }
    }

    fn turn(&mut self, taken: &mut Taken) {
        if std::mem::take(&mut taken.asked) {
            self.try_again();
        }
        self.commit(&mut taken.items);
        self.free_files();
    }

    fn commit(&mut self, items: &mut Vec<Item>) {
        if items.is_empty() {
            return;
        }
        count(&self.shared.counters.groups, 1);
        self.shared.counters.largest_group_frames.fetch_max(items.len() as u64, Ordering::Relaxed);
        let mut part: Vec<Item> = Vec::with_capacity(items.len());
        let mut len = 0;
        // A group asks for a file in vain only once for each kind of need.
        let mut refused: [Option<Arc<io::Error>>; 2] = [None, None];
        for mut item in items.drain(..) {
            let frees = !matches!(item.work, Work::Records(_) | Work::Create);
            if let Some(error) = &refused[usize::from(frees)] {
                self.shared.refuses(error, 1);
                answer(item.reply.take(), Err(AppendError::Storage { source: Arc::clone(error) }));
                continue;
            }
            let frame = item.header.frame_len();
            let has_room = |w: &Writer, len: u64| {
                w.file.as_ref().is_some_and(|f| w.end - f.start + len + frame <= f.bytes)
            };
            let mut result = if self.lean && !frees { self.reserve() } else { Ok(()) };
            if result.is_ok() && !has_room(self, len) {
                self.write(std::mem::take(&mut part));
                len = 0;
                if !has_room(self, 0) {
                    result = self.rotate(frame, frees);
                }
            }
            if let Err(error) = result {
                count(&self.shared.counters.failed_writes, 1);
                let error = Arc::new(error);
                self.shared.refuses(&error, 1);
                answer(item.reply.take(), Err(AppendError::Storage { source: Arc::clone(&error) }));
                refused[usize::from(frees)] = Some(error);
                continue;
            }
            // Asked last: the deletion may have been written just now, to the file before.
            if self.is_deleted(&item) {
                answer(item.reply.take(), Err(AppendError::Deleted));
                continue;
            }
            if early::is_void(&item) {
                answer(item.reply.take(), Err(AppendError::Void));
                continue;
            }
            len += frame;
            part.push(item);
        }
        let Some(written) = self.put(part) else { return };
        self.begin_sync(&written);
        #[cfg(any(test, feature = "testing"))]
        if self.held.holds {
            self.held.written = Some(written);
            return;
        }
        let written = self.lingered(written);
        self.finish(written);
    }

    /// True of what was queued behind the stream's deletion.
    fn is_deleted(&self, item: &Item) -> bool {
        let unknown = |id: u32| !self.shared.state().streams.contains_key(&id);
        !matches!(item.work, Work::Create) && item.stream.as_ref().is_some_and(|stream| unknown(stream.id))
    }

    /// Writes, syncs, applies and answers items that fit into the current file. Others of their group come behind them: nothing is
    /// written beside the sync.
    fn write(&mut self, items: Vec<Item>) {
        if let Some(written) = self.put(items) {
            self.finish(written);
        }
    }

    /// Writes items that fit into the current file; `None` if nothing is left to be done for any of them.
    fn put(&mut self, mut items: Vec<Item>) -> Option<Written> {
        let repeats = self.sift(&mut items);
        let file = self.file.clone().filter(|_| !items.is_empty())?;
        let len: u64 = items.iter().map(|item| item.header.frame_len()).sum();
        self.ahead.clear();
        group::place(&self.shared, &mut items, (self.end, self.durable), &mut self.ahead);
        if let Err(error) = group::write(&file, &items, &mut self.headers) {
            let error = Arc::new(error);
            self.shared.refuses(&error, (items.len() + repeats.len()) as u64);
            let refused = group::undo(&self.shared, &file, self.end, error);
            self.abandon();
            refuse(items, repeats, &refused);
            return None;
        }
        early::show(&mut items);
        Some(Written { file, items, repeats, len })
    }

    /// Others write beside it from now on, if that is needed.
    fn begin_sync(&self, written: &Written) {
        let ends = |item: &Item| matches!(item.work, Work::Delete | Work::Close);
        let Written { file, items, len, .. } = written;
        if self.shared.options.durability == Durability::Fsync && !self.lean && !items.iter().any(ends) {
            let at = (self.end + len, self.durable);
            self.shared.beside.begin(&self.shared, file, items, at, &self.ahead);
        }
    }

    /// Nobody waits for the sync of what was written: others write behind it until somebody does, or for a while.
    fn lingered(&self, mut written: Written) -> Written {
        let Shared { queue, beside, .. } = &*self.shared;
        let Written { items, repeats, .. } = &written;
        let awaited = !repeats.is_empty() || items.iter().any(|item| item.reply.is_some());
        if awaited || !beside.is_begun() || !self.shared.threaded || queue.is_shared() {
            return written;
        }
        queue.linger(beside::UNSYNCED_MAX);
        if let Some(end) = beside.join(&self.shared, &mut written.items) {
            written.len = end - self.end;
        }
        written
    }

    /// Syncs what was written, applies it, and answers; then the same of what was written beside the sync.
    fn finish(&mut self, mut written: Written) {
        let mut failed = false;
        for syncs in 1.. {
            let Written { file, items, repeats, len } = written;
            let mut synced = self.sync(&file);
            let (mut behind, mut end) = (Vec::new(), 0);
            if let Some(beside) = self.shared.beside.end() {
                (behind, end) = (beside.items, beside.end);
                self.ahead = beside.ahead;
                failed |= beside.failed;
                synced = synced.and(beside.doubt.map_or(Ok(()), Err));
            }
            if let Err(error) = synced {
                self.shared.refuses(&error, (items.len() + repeats.len() + behind.len()) as u64);
                self.abandon();
                early::void(&items);
                early::void(&behind);
                refuse(items, repeats, &AppendError::Unknown);
                return refuse(behind, Vec::new(), &AppendError::Unknown);
            }
            if self.shared.options.durability == Durability::Fsync {
                self.durable = self.end + len;
            }
            self.end += len;
            count(&self.shared.counters.bytes_written, len);
            count(&self.shared.counters.frames, items.len() as u64);
            if items.iter().any(|item| matches!(item.work, Work::Records(_))) {
                self.accepts();
            }
            self.apply(&file, items, repeats);
            if behind.is_empty() {
                break;
            }
            written = Written { file, items: behind, repeats: Vec::new(), len: end - self.end };
            if !failed && syncs < SYNCS_MAX && !self.shared.queue.is_shared() {
                self.begin_sync(&written);
            }
        }
        if failed {
            self.abandon();
        }
    }

    /// Makes a written group durable, in a file that others find.
    fn sync(&self, file: &Store) -> Result<(), Arc<io::Error>> {
        let counters = &self.shared.counters;
        if self.shared.options.durability == Durability::Fsync {
            count(&counters.syncs, 1);
            if let Err(error) = file.file.sync() {
                tracing::error!(error = %error, "journal sync failed; waiting appends are unknown");
                count(&counters.failed_syncs, 1);
                return Err(Arc::new(error));
            }
        }
        if !matches!(file.file.is_at(&file.path), Ok(true)) {
            tracing::error!(
                file = %file.path.display(),
                "journal file was removed, moved or replaced by somebody else; waiting appends are unknown, and what it \
                 held is lost unless it comes back"
            );
            count(&counters.failed_writes, 1);
            self.shared.gone.store(true, Ordering::Release);
            let gone = format!("journal file {} was removed, moved or replaced", file.path.display());
            return Err(Arc::new(io::Error::new(io::ErrorKind::NotFound, gone)));
        }
        Ok(())
    }

    /// Takes out of a group what is not to be written: requests that are durable since an earlier group, or that
    /// contradict one, are answered; those that are in this group twice wait for their first copy.
    fn sift(&self, items: &mut Vec<Item>) -> Vec<Repeat> {
        let mut repeats = Vec::new();
        if !items.iter().any(|item| numbered(item).is_some()) {
            return repeats;
        }
        let mut known = Vec::new();
        let mut firsts: HashMap<(u32, Arc<str>, u64), usize> = HashMap::new();
        let mut kept: Vec<Item> = Vec::with_capacity(items.len());
        let state = self.shared.state();
        for item in items.drain(..) {
            let stream = item.stream.as_ref().and_then(|core| state.streams.get(&core.id));
            let (Some(stream), Some(numbered)) = (stream, numbered(&item)) else {
                kept.push(item);
                continue;
            };
            let judged = stream.producers.judge(numbered, item.header.arrival.max(stream.last_arrival));
            match judged {
                Judgement::Stored(receipt) => known.push((item, Ok(receipt))),
                Judgement::Refused(error) => known.push((item, Err(error))),
                Judgement::New => {
                    let key = (stream.core.id, Arc::clone(&numbered.producer), numbered.sequence);
                    match firsts.entry(key) {
                        Entry::Occupied(first) => {
                            let first = *first.get();
                            let same = kept.get(first).and_then(self::numbered) == Some(numbered);
                            repeats.push(Repeat { first, same, item });
                        }
                        Entry::Vacant(place) => {
                            place.insert(kept.len());
                            kept.push(item);
                        }
                    }
                }
            }
        }
        drop(state);
        for (mut item, result) in known {
            answer(item.reply.take(), result);
        }
        *items = kept;
        repeats
    }

    /// Leaves the file for a new one, and the group's offsets to nobody.
    fn abandon(&mut self) {
        self.file = None;
        let mut state = self.shared.state();
        for (id, ahead) in self.ahead.drain() {
            if let Some(stream) = state.streams.get_mut(&id) {
                stream.next_offset = stream.next_offset.max(ahead.next_offset);
            }
        }
    }

    fn apply(&self, file: &Arc<Store>, items: Vec<Item>, repeats: Vec<Repeat>) {
        let mut answers = Vec::with_capacity(items.len());
        let (mut settled, mut deleted) = (Vec::new(), Vec::new());
        let mut guard = self.shared.state();
        let state = &mut *guard;
        state.end = self.end;
        for item in items {
            let Item { stream, header, work, reply, charge, room, .. } = item;
            let receipt = Receipt::of(&header);
            let mut result = Ok(receipt);
            match (&stream, work) {
                (Some(core), Work::Create) => {
                    state.names.insert(core.key.clone(), core.id);
                    state.streams.insert(core.id, StreamState::new(Arc::clone(core)));
                }
                (Some(core), Work::Delete) => deleted.extend(self.remove(state, core.id)),
                (Some(core), work) => match state.streams.get_mut(&core.id) {
                    None => result = Err(AppendError::Deleted),
                    Some(stream) => {
                        let at = header.position - file.start;
                        match work {
                            Work::Records(records) => {
                                core.early().settle(header.until);
                                stream.push(FrameRef::new(&header, file, at));
                                stream.end = header.until;
                                stream.next_offset = header.until;
                                stream.last_arrival = header.arrival;
                                if let Some(source) =
                                    records.source.as_ref().filter(|source| !source.position.is_empty())
                                {
                                    stream.sources.insert(
                                        (source.name.clone(), source.partition),
                                        source.position.clone(),
                                    );
                                }
                                if let Some(numbered) = &records.numbered {
                                    stream.producers.remember(numbered, receipt, header.arrival);
                                }
                                count(&self.shared.counters.records, u64::from(header.count));
                                let bytes = records.payload.len() as u64;
                                core.durable_bytes.fetch_add(bytes, Ordering::SeqCst);
                                let frame = Arc::new(Frame::from_records(&header, records));
                                state.cache.insert(frame, self.shared.options.memory_bytes);
                            }
                            Work::Entry(_) => stream.push(FrameRef::new(&header, file, at)),
                            Work::Checkpoint(content) => {
                                stream.checkpoint = Some(content);
                                stream.records_from = stream.records_from.max(header.base);
                                stream.entries_from = stream.entries_from.max(header.until);
                                let cache = &mut state.cache;
                                stream.release(|frame, what| self.shared.released(cache, core, frame, what));
                                if !stream.retained.is_empty() {
                                    settled.push(core.id);
                                }
                            }
                            Work::Create | Work::Delete | Work::Close => {}
                        }
                        if let Some(charge) = charge {
                            charge.keep();
                        }
                    }
                },
                (None, _) => {
                    // Closed: nothing may follow, and another process may open the directory.
                    self.shared.closed.store(true, Ordering::Release);
                    state.lock = None;
                }
            }
            answers.push((stream, reply, result, header.until, header.kind, room));
        }
        drop(guard);
        for id in settled {
            self.shared.trim(id, i64::MIN);
        }
        for mut stream in deleted {
            while stream.trim(i64::MAX) > 0 {}
        }
        let repeats: Vec<_> = repeats
            .into_iter()
            .filter_map(|repeat| Some((answers.get(repeat.first)?.2.clone(), repeat)))
            .collect();
        let closed = self.shared.closed.load(Ordering::Acquire);
        // Of each stream the last ones alone say so: all of them are there by now, and who waits is woken once.
        let mut told = HashSet::new();
        for (stream, _, result, until, kind, _) in answers.iter().rev() {
            if let (Kind::Records, Some(stream), Ok(_)) = (kind, stream, result)
                && told.insert(stream.id)
            {
                stream.durable(*until);
            }
        }
        for (_, reply, result, _, _, room) in answers {
            drop(room);
            answer(reply, result);
        }
        for (first, repeat) in repeats {
            repeat.answer(first);
        }
        if closed {
            self.shared.queue.close();
            self.shared.state().streams.values().for_each(|stream| stream.core.wake());
        }
    }

    /// Takes a stream out; its history is still to be dropped.
    fn remove(&self, state: &mut State, id: u32) -> Option<StreamState> {
        let mut stream = state.streams.remove(&id)?;
        state.names.remove(&stream.core.key);
        for frame in stream.records.iter().chain(&stream.entries) {
            self.shared.forget(&mut state.cache, &stream.core, frame);
        }
        stream.retention = None;
        stream.core.deleted.store(true, Ordering::Release);
        stream.core.wake();
        Some(stream)
    }
}
