//! The one thread that writes the journal: groups, syncs, rotation, and what follows from failures.
//!
//! A frame is applied to the state and acknowledged only after its group's sync. After a failed write or sync
//! the file is abandoned: the next one starts at the last durable position, which voids what is uncertain.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::write_full;
use crate::error::AppendError;
use crate::format::{Header, Kind};
use crate::frame::{Body, Frame};
use crate::journal::Durability;
use crate::limits;
use crate::queue::{Item, Reply, Work};
use crate::records::Receipt;
use crate::snapshot;
use crate::state::{FrameRef, Shared, State, Store, StreamState};

pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// None after a failure, until a new file is there.
    file: Option<Arc<Store>>,
    /// Journal position of the next frame.
    end: u64,
    /// Everything before it was synced.
    durable: u64,
    number: u64,
    /// Next offset and last arrival of streams in the group that is being built.
    ahead: HashMap<u32, (u64, i64)>,
    headers: Vec<u8>,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn answer(reply: Option<Reply>, with: Result<Receipt, AppendError>) {
    if let Some(reply) = reply {
        // Nobody waits any more: the append stands all the same.
        drop(reply.send(with));
    }
}

impl Writer {
    /// Starts a new file behind what recovery found.
    pub(crate) fn open(shared: Arc<Shared>, end: u64, number: u64) -> io::Result<Writer> {
        let mut writer = Writer {
            shared,
            file: None,
            end,
            durable: end,
            number,
            ahead: HashMap::new(),
            headers: Vec::new(),
        };
        writer.rotate(0)?;
        Ok(writer)
    }

    /// Until the queue is closed.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut items = Vec::new();
        while shared.queue.take(&mut items) {
            self.commit(&mut items);
            self.free_files();
        }
    }

    fn commit(&mut self, items: &mut Vec<Item>) {
        count(&self.shared.counters.groups, 1);
        self.shared.counters.largest_group_frames.fetch_max(items.len() as u64, Ordering::Relaxed);
        let mut part: Vec<Item> = Vec::with_capacity(items.len());
        let mut len = 0;
        let mut failed = None;
        for mut item in items.drain(..) {
            if let Some(error) = &failed {
                answer(item.reply.take(), Err(AppendError::Storage { source: Arc::clone(error) }));
                continue;
            }
            let frame = item.header.frame_len();
            let fits = |w: &Writer| w.file.as_ref().is_some_and(|f| w.end - f.start + len + frame <= f.bytes);
            if !fits(self) {
                self.write(std::mem::take(&mut part), len);
                len = 0;
                let room = |w: &Writer| w.file.as_ref().is_some_and(|f| w.end - f.start + frame <= f.bytes);
                if !room(self)
                    && let Err(error) = self.rotate(frame)
                {
                    tracing::warn!(error = %error, "cannot start a journal file");
                    count(&self.shared.counters.failed_writes, 1);
                    let error = Arc::new(error);
                    answer(item.reply.take(), Err(AppendError::Storage { source: Arc::clone(&error) }));
                    failed = Some(error);
                    continue;
                }
            }
            len += frame;
            part.push(item);
        }
        self.write(part, len);
    }

    /// Writes, syncs, applies and answers items that fit into the current file.
    fn write(&mut self, mut items: Vec<Item>, len: u64) {
        let Some(file) = self.file.clone().filter(|_| !items.is_empty()) else { return };
        self.place(&mut items);
        let result = self.write_group(&file, &items);
        if let Err(error) = result {
            tracing::warn!(error = %error, "journal write failed; going on in a new file");
            count(&self.shared.counters.failed_writes, 1);
            self.void(&file);
            let error = Arc::new(error);
            for item in items {
                answer(item.reply, Err(AppendError::Storage { source: Arc::clone(&error) }));
            }
            return;
        }
        if self.shared.options.durability == Durability::Fsync {
            count(&self.shared.counters.syncs, 1);
            if let Err(error) = file.file.sync() {
                tracing::error!(error = %error, "journal sync failed; waiting appends are unknown");
                count(&self.shared.counters.failed_syncs, 1);
                self.file = None;
                for item in items {
                    answer(item.reply, Err(AppendError::Unknown));
                }
                return;
            }
            self.durable = self.end + len;
        }
        self.end += len;
        count(&self.shared.counters.bytes_written, len);
        count(&self.shared.counters.frames, items.len() as u64);
        self.apply(&file, items);
    }

    /// Gives every item its position, offsets and arrival.
    fn place(&mut self, items: &mut [Item]) {
        self.ahead.clear();
        let state = self.shared.state();
        let mut position = self.end;
        for item in items {
            let header = &mut item.header;
            header.journal = self.shared.journal_id;
            header.epoch = self.shared.epoch;
            header.durable = self.durable;
            header.position = position;
            position += header.frame_len();
            if let Some(stream) = &item.stream {
                header.stream = stream.id;
                header.incarnation = stream.incarnation;
                if matches!(item.work, Work::Records(_)) {
                    let known = state.streams.get(&stream.id).map(|s| (s.next_offset, s.last_arrival));
                    let ahead = self.ahead.entry(stream.id).or_insert(known.unwrap_or((0, i64::MIN)));
                    header.base = ahead.0;
                    header.until = ahead.0 + u64::from(header.count);
                    header.arrival = header.arrival.max(ahead.1);
                    *ahead = (header.until, header.arrival);
                }
            }
        }
    }

    fn write_group(&mut self, file: &Store, items: &[Item]) -> io::Result<()> {
        self.headers.clear();
        let mut ends = Vec::with_capacity(items.len());
        for item in items {
            item.header.write(&mut self.headers);
            ends.push(self.headers.len());
        }
        let mut slices = Vec::with_capacity(items.len() * 4);
        let mut start = 0;
        for (item, end) in items.iter().zip(ends) {
            slices.push(IoSlice::new(self.headers.get(start..end).unwrap_or_default()));
            start = end;
            let Body { head, payload, tail } = &item.body;
            for part in [head.as_slice(), payload, tail.as_slice()] {
                if !part.is_empty() {
                    slices.push(IoSlice::new(part));
                }
            }
        }
        write_full(file.file.as_ref(), &mut slices, self.end - file.start)
    }

    /// Abandons the file, and wipes the start of what was refused in case the process ends before the next
    /// file voids it.
    fn void(&mut self, file: &Store) {
        self.file = None;
        if let Err(error) = write_full(
            file.file.as_ref(),
            &mut [IoSlice::new(&[0; limits::ALIGN as usize])],
            self.end - file.start,
        ) {
            tracing::debug!(error = %error, "cannot wipe a refused frame");
        }
    }

    fn apply(&self, file: &Arc<Store>, items: Vec<Item>) {
        let mut answers = Vec::with_capacity(items.len());
        let mut guard = self.shared.state();
        let state = &mut *guard;
        state.end = self.end;
        for item in items {
            let Item { stream, header, work, reply, charge, room, .. } = item;
            let receipt =
                Receipt { first_offset: header.base, count: header.count, position: header.position };
            let mut result = Ok(receipt);
            match (&stream, work) {
                (Some(core), Work::Create) => {
                    state.names.insert(core.key.clone(), core.id);
                    state.streams.insert(core.id, StreamState::new(Arc::clone(core)));
                }
                (Some(core), Work::Delete) => self.remove(state, core.id),
                (Some(core), work) => match state.streams.get_mut(&core.id) {
                    None => result = Err(AppendError::Deleted),
                    Some(stream) => {
                        let at = header.position - file.start;
                        match work {
                            Work::Records(records) => {
                                stream.records.push_back(FrameRef::new(&header, file, at));
                                stream.next_offset = header.until;
                                stream.last_arrival = header.arrival;
                                if let Some(source) = &records.source {
                                    stream.sources.insert(
                                        (source.name.clone(), source.partition),
                                        source.position.clone(),
                                    );
                                }
                                count(&self.shared.counters.records, u64::from(header.count));
                                let frame = Arc::new(Frame::from_records(&header, records));
                                state.cache.insert(frame, self.shared.options.memory_bytes);
                            }
                            Work::Entry => stream.entries.push_back(FrameRef::new(&header, file, at)),
                            Work::Checkpoint(content) => {
                                stream.checkpoint = Some(content);
                                stream.records_from = stream.records_from.max(header.base);
                                stream.entries_from = stream.entries_from.max(header.until);
                                let cache = &mut state.cache;
                                stream.release(|frame| {
                                    cache.remove(frame.position);
                                    self.shared.discharge(core, frame.charge());
                                });
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
        let closed = self.shared.closed.load(Ordering::Acquire);
        for (stream, reply, result, until, kind, room) in answers {
            drop(room);
            if let (Kind::Records, Some(stream), Ok(_)) = (kind, &stream, &result) {
                stream.durable_end.send_replace(until);
            }
            answer(reply, result);
        }
        if closed {
            self.shared.queue.close();
            self.shared.state().streams.values().for_each(|stream| stream.core.wake());
        }
    }

    fn remove(&self, state: &mut State, id: u32) {
        if let Some(stream) = state.streams.remove(&id) {
            state.names.remove(&stream.core.key);
            for frame in stream.records.iter().chain(&stream.entries) {
                state.cache.remove(frame.position);
                self.shared.discharge(&stream.core, frame.charge());
            }
            stream.core.deleted.store(true, Ordering::Release);
            stream.core.wake();
        }
    }

    /// Puts a new file in place, whose start voids everything from `self.end` on in the one before.
    fn rotate(&mut self, need: u64) -> io::Result<()> {
        if let Some(old) = &self.file
            && self.durable < self.end
        {
            count(&self.shared.counters.syncs, 1);
            if let Err(error) = old.file.sync() {
                tracing::error!(error = %error, "sync of a full journal file failed");
                count(&self.shared.counters.failed_syncs, 1);
            }
        }
        self.durable = self.end;
        let head = self.head();
        let least = self.shared.options.file_bytes;
        let bytes = least.max((head.len() as u64 + need).next_multiple_of(4096));
        let dir = self.shared.journal_dir();
        let spare = if bytes == least { self.shared.state().spares.pop() } else { None };
        let (path, file) = match spare {
            Some(spare) => (spare.path.clone(), Arc::clone(&spare.file)),
            None => {
                let path = dir.join("new.tmp");
                let file = self.shared.disk.create(&path, bytes, false)?;
                (path, file)
            }
        };
        write_full(file.as_ref(), &mut [IoSlice::new(&head)], 0)?;
        file.sync()?;
        let name = dir.join(format!("{:08}.wmj", self.number));
        self.shared.disk.rename(&path, &name)?;
        self.number += 1;
        self.shared.disk.sync_dir(&dir)?;
        count(&self.shared.counters.syncs, 2);
        count(&self.shared.counters.bytes_written, head.len() as u64);
        let store = Arc::new(Store { path: name, file, start: self.end, bytes });
        self.end += head.len() as u64;
        self.durable = self.end;
        let mut state = self.shared.state();
        state.files.push_back(Arc::clone(&store));
        state.end = self.end;
        drop(state);
        self.file = Some(store);
        Ok(())
    }

    /// A file's first frames.
    fn head(&self) -> Vec<u8> {
        let state = self.shared.state();
        let mut start = Header::new(Kind::FileStart);
        let content = snapshot::file_start(self.number, state.next_stream, state.streams.len());
        let body = Body::of_content(&mut start, content.into());
        let frames = std::iter::once((start, body)).chain(state.streams.values().map(snapshot::of_stream));
        let mut out = Vec::new();
        for (mut header, body) in frames {
            header.journal = self.shared.journal_id;
            header.epoch = self.shared.epoch;
            header.position = self.end + out.len() as u64;
            header.durable = self.end;
            header.write(&mut out);
            out.extend_from_slice(&body.head);
            out.extend_from_slice(&body.payload);
            out.extend_from_slice(&body.tail);
        }
        out
    }

    /// Recycles or removes the oldest files while nothing in them is needed.
    fn free_files(&mut self) {
        loop {
            let mut state = self.shared.state();
            let free = state.files.len() > 1
                && self.file.is_some()
                && state.files.front().is_some_and(|file| Arc::strong_count(file) == 1);
            if !free {
                return;
            }
            // The checkpoint that released them must be durable first.
            drop(state);
            if self.durable < self.end
                && let Some(current) = &self.file
            {
                count(&self.shared.counters.syncs, 1);
                if current.file.sync().is_err() {
                    return;
                }
                self.durable = self.end;
            }
            state = self.shared.state();
            let Some(old) = state.files.pop_front() else { return };
            let keep = old.bytes == self.shared.options.file_bytes && state.spares.len() < limits::SPARES_MAX;
            let path = self.shared.journal_dir().join(format!("spare-{}", state.next_spare));
            state.next_spare += 1;
            drop(state);
            let done = if keep {
                self.shared.disk.rename(&old.path, &path).map(|()| {
                    let spare = Store { path, file: Arc::clone(&old.file), start: 0, bytes: old.bytes };
                    self.shared.state().spares.push(Arc::new(spare));
                })
            } else {
                self.shared.disk.remove(&old.path)
            };
            if let Err(error) = done {
                tracing::warn!(error = %error, path = %old.path.display(), "cannot free a journal file");
            }
        }
    }
}
