//! Rebuilding the state from the journal's files: scan, verify, cut a torn tail, set corruption aside.
//!
//! Changes nothing on disk but copies under `set-aside/` and whole files that are no journal.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::disk::{Disk, read_full};
use crate::error::OpenError;
use crate::format::{Header, HeaderError, Kind, MAGIC};
use crate::frame::{content, is_sound};
use crate::journal::{Corrupt, Recovery, Torn};
use crate::snapshot;
use crate::state::{FrameRef, State, Store, StreamCore, StreamState};
use crate::wire::{Take, u64_at};

/// What opening continues from.
pub(crate) struct Found {
    pub(crate) state: State,
    pub(crate) recovery: Recovery,
    pub(crate) journal_id: Option<u64>,
    pub(crate) epoch: u32,
    pub(crate) end: u64,
    pub(crate) next_number: u64,
}

/// A frame, or what stands where one should be (`ok` = false; with its header if that is sound).
struct Event {
    at: u64,
    len: u64,
    header: Option<Header>,
    ok: bool,
}

struct Input {
    number: u64,
    store: Arc<Store>,
    data: Bytes,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Disk { action, path, source }
}

pub(crate) fn recover(disk: &dyn Disk, dir: &Path, file_bytes: u64) -> Result<Found, OpenError> {
    let journal = dir.join("journal");
    let mut found = Found {
        state: State { next_stream: 1, ..State::default() },
        recovery: Recovery::default(),
        journal_id: None,
        epoch: 0,
        end: 0,
        next_number: 1,
    };
    let names = disk.list(&journal).map_err(failed("list", &journal))?;
    let mut numbered: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for name in &names {
        let path = journal.join(name);
        if let Some(number) = name.strip_suffix(".wmj").and_then(|n| n.parse().ok()) {
            numbered.insert(number, path);
        } else if name.ends_with(".tmp") {
            disk.remove(&path).map_err(failed("remove", &path))?;
        } else if let Some(number) = name.strip_prefix("spare-").and_then(|n| n.parse::<u64>().ok()) {
            let file = disk.open(&path).map_err(failed("open", &path))?;
            found.state.next_spare = found.state.next_spare.max(number + 1);
            if file.len().map_err(failed("open", &path))? == file_bytes {
                found.state.spares.push(Arc::new(Store { path, file, start: 0, bytes: file_bytes }));
            } else {
                disk.remove(&path).map_err(failed("remove", &path))?;
            }
        }
    }
    let mut pass = Pass { disk, dir, found, tombs: HashSet::new(), orphans: BTreeMap::new(), closed: false };
    let mut inputs: Vec<Input> = Vec::new();
    let last_number = numbered.keys().next_back().copied();
    for (number, path) in numbered {
        pass.found.next_number = number + 1;
        if let Some(input) = pass.open(number, path, Some(number) == last_number)? {
            inputs.push(input);
        }
    }
    for index in 0..inputs.len() {
        let next = inputs.get(index + 1).map(|next| next.store.start);
        if let Some(input) = inputs.get(index) {
            pass.file(input, next)?;
        }
        // Its bytes are needed no more; the file stays listed.
        if let Some(input) = inputs.get_mut(index) {
            input.data = Bytes::new();
            pass.found.state.files.push_back(Arc::clone(&input.store));
        }
    }
    Ok(pass.finish())
}

struct Pass<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    found: Found,
    tombs: HashSet<u32>,
    /// Frames of streams whose name is not known (yet).
    orphans: BTreeMap<u32, Vec<(Header, FrameRef)>>,
    closed: bool,
}

impl Pass<'_> {
    /// Reads a file and finds its start. `None` if it holds nothing of this journal.
    fn open(&mut self, number: u64, path: PathBuf, last: bool) -> Result<Option<Input>, OpenError> {
        let file = self.disk.open(&path).map_err(failed("open", &path))?;
        if last {
            // What only the page cache holds must be durable before it is believed.
            file.sync().map_err(failed("sync", &path))?;
            file.forget_cache().map_err(failed("read", &path))?;
        }
        let bytes = file.len().map_err(failed("read", &path))?;
        let mut data = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        let len = read_full(file.as_ref(), &mut data, 0).map_err(failed("read", &path))?;
        data.truncate(len);
        let data = Bytes::from(data);
        let mut at = 0;
        let first = loop {
            match data.get(at..).map(Header::read) {
                None => break None,
                Some(Ok(header)) if header.position >= at as u64 => break Some(header),
                Some(Err(
                    needs @ (HeaderError::Version(_) | HeaderError::Features(_) | HeaderError::Column(_)),
                )) if at == 0 => {
                    return Err(OpenError::Newer { file: path, at: 0, needs });
                }
                _ => at += 64,
            }
        };
        let Some(first) = first else {
            if data.iter().any(|byte| *byte != 0) {
                let set_aside = self.set_aside(&path, 0, &data);
                if set_aside.is_some() {
                    self.disk.remove(&path).map_err(failed("remove", &path))?;
                }
                self.corrupt(Corrupt {
                    file: path,
                    at: 0,
                    bytes: len as u64,
                    set_aside,
                    stream: None,
                    offsets: None,
                });
            } else {
                self.disk.remove(&path).map_err(failed("remove", &path))?;
            }
            return Ok(None);
        };
        if at == 0 && first.kind == Kind::FileStart {
            let end = first.header_len() + usize::try_from(first.body_len).unwrap_or(0);
            let body = data.slice(first.header_len().min(len)..end.min(len));
            let start = snapshot::read_file_start(&content(&first, &body));
            if start.is_some_and(|(own, _)| own != number) {
                // A spare whose new name was not durable yet: nothing in it was acknowledged.
                self.disk.remove(&path).map_err(failed("remove", &path))?;
                return Ok(None);
            }
        }
        if *self.found.journal_id.get_or_insert(first.journal) != first.journal {
            return Err(OpenError::Foreign { file: path });
        }
        let start = first.position - at as u64;
        Ok(Some(Input { number, store: Arc::new(Store { path, file, start, bytes }), data }))
    }

    fn file(&mut self, input: &Input, next: Option<u64>) -> Result<(), OpenError> {
        let start = input.store.start;
        let journal = self.found.journal_id.unwrap_or(0);
        let end = next.map_or(input.data.len() as u64, |next| next.saturating_sub(start));
        let (events, tail) = scan(&input.data, start, journal, end)
            .map_err(|(at, needs)| OpenError::Newer { file: input.store.path.clone(), at, needs })?;
        let mut known = start;
        for event in events.iter() {
            if let Some(header) = &event.header {
                known = known.max(header.durable);
                if event.ok && header.kind == Kind::Closed {
                    known = known.max(start + event.at + event.len);
                }
            }
        }
        let known = next.unwrap_or(known);
        self.closed = false;
        let mut valid = start;
        let mut cut = None;
        for (index, event) in events.iter().enumerate() {
            if !event.ok && start + event.at >= known {
                cut = Some(index);
                break;
            }
            valid = start + event.at + event.len;
            self.event(input, event);
        }
        if let Some(index) = cut {
            let torn = events.get(index..).unwrap_or_default();
            let at = torn.first().map_or(0, |event| event.at);
            let stop = torn.last().map_or(at, |event| event.at + event.len).min(input.data.len() as u64);
            let records = torn.iter().map(|e| e.header.as_ref().map(|h| u64::from(h.count))).sum();
            self.found.recovery.torn.push(Torn {
                file: input.store.path.clone(),
                at,
                bytes: stop - at,
                records,
            });
        } else if next.is_some() && tail < end {
            self.damaged(input, tail, end - tail, None);
        } else if next.is_none() {
            let rest = input.data.get(usize::try_from(tail).unwrap_or(usize::MAX)..).unwrap_or_default();
            let ours = u64_at(rest, 40).is_none_or(|position| position == start + tail);
            let bytes = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
            if start + tail < known {
                self.damaged(input, tail, known - start - tail, None);
            } else if bytes > 0 && ours && (rest.starts_with(&MAGIC) || rest.len() < 64) {
                let file = input.store.path.clone();
                self.found.recovery.torn.push(Torn { file, at: tail, bytes, records: None });
            }
        }
        self.found.end = self.found.end.max(valid).max(known);
        tracing::debug!(number = input.number, start, end = self.found.end, "journal file read");
        Ok(())
    }

    fn event(&mut self, input: &Input, event: &Event) {
        let Some(header) = event.header.as_ref().filter(|_| event.ok) else {
            return self.damaged(input, event.at, event.len, event.header.as_ref());
        };
        self.closed = header.kind == Kind::Closed;
        self.found.epoch = self.found.epoch.max(header.epoch);
        let from = usize::try_from(event.at).unwrap_or(0) + header.header_len();
        let body = input.data.slice(from..from + usize::try_from(header.body_len).unwrap_or(0));
        let content = content(header, &body);
        if self.tombs.contains(&header.stream) {
            return;
        }
        match header.kind {
            Kind::FileStart => {
                if let Some((_, next)) = snapshot::read_file_start(&content) {
                    self.found.state.next_stream = self.found.state.next_stream.max(next);
                }
            }
            Kind::StreamCreated | Kind::Snapshot => {
                let Some(key) = snapshot::take_key(&mut Take(&content)) else { return };
                let id = header.stream;
                self.found.state.next_stream = self.found.state.next_stream.max(id + 1);
                let streams = &mut self.found.state.streams;
                let stream = streams.entry(id).or_insert_with(|| {
                    StreamState::new(Arc::new(StreamCore::new(id, key.clone(), header.incarnation, 0)))
                });
                self.found.state.names.insert(key, id);
                if header.kind == Kind::Snapshot {
                    let _known = snapshot::apply(header, &content, stream);
                }
                for (header, frame) in self.orphans.remove(&id).unwrap_or_default() {
                    index(stream, &header, frame, &Bytes::new());
                }
            }
            Kind::StreamDeleted => {
                self.tombs.insert(header.stream);
                self.orphans.remove(&header.stream);
                if let Some(stream) = self.found.state.streams.remove(&header.stream) {
                    self.found.state.names.remove(&stream.core.key);
                }
            }
            Kind::Records | Kind::Outcome | Kind::Mark | Kind::Checkpoint => {
                let frame = FrameRef::new(header, &input.store, event.at);
                match self.found.state.streams.get_mut(&header.stream) {
                    Some(stream) => index(stream, header, frame, &content),
                    None => {
                        self.orphans.entry(header.stream).or_default().push((header.clone(), frame));
                    }
                }
            }
            Kind::Closed | Kind::Other => {}
        }
    }

    fn damaged(&mut self, input: &Input, at: u64, len: u64, header: Option<&Header>) {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(input.data.len());
        let to = usize::try_from(at + len).unwrap_or(usize::MAX).min(input.data.len());
        let set_aside = self.set_aside(&input.store.path, at, input.data.get(from..to).unwrap_or_default());
        let stream = header.and_then(|h| self.found.state.streams.get_mut(&h.stream));
        if let (Some(header), Some(stream)) = (header, &stream)
            && header.kind == Kind::Records
        {
            debug_assert_eq!(header.stream, stream.core.id);
        }
        let offsets = header.filter(|h| h.kind == Kind::Records).map(|h| h.base..h.until);
        let key = stream.map(|stream| {
            if let Some(offsets) = &offsets {
                // These offsets were given away.
                stream.next_offset = stream.next_offset.max(offsets.end);
            }
            stream.core.key.clone()
        });
        let file = input.store.path.clone();
        self.corrupt(Corrupt { file, at, bytes: len, set_aside, stream: key, offsets });
    }

    fn corrupt(&mut self, corrupt: Corrupt) {
        tracing::error!(file = %corrupt.file.display(), at = corrupt.at, bytes = corrupt.bytes, "journal is corrupt");
        self.found.recovery.corrupt.push(corrupt);
    }

    fn set_aside(&self, path: &Path, at: u64, bytes: &[u8]) -> Option<PathBuf> {
        let dir = self.dir.join("set-aside");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let copy = dir.join(format!("{name}-{at}"));
        let done = self.disk.create_dir(&dir).and_then(|()| {
            let file = self.disk.create(&copy, 0, false)?;
            crate::disk::write_full(file.as_ref(), &mut [std::io::IoSlice::new(bytes)], 0)?;
            file.sync()?;
            self.disk.sync_dir(&dir)
        });
        done.ok().map(|()| copy)
    }

    fn finish(mut self) -> Found {
        for (_, frames) in std::mem::take(&mut self.orphans) {
            for (header, frame) in frames {
                let mut bytes = vec![0; frame.len as usize];
                let len = read_full(frame.store.file.as_ref(), &mut bytes, frame.at).unwrap_or(0);
                let set_aside =
                    self.set_aside(&frame.store.path, frame.at, bytes.get(..len).unwrap_or_default());
                let offsets = (header.kind == Kind::Records).then_some(header.base..header.until);
                let (file, bytes) = (frame.store.path.clone(), u64::from(frame.len));
                self.corrupt(Corrupt { file, at: frame.at, bytes, set_aside, stream: None, offsets });
            }
        }
        let Found { state, recovery, .. } = &mut self.found;
        for stream in state.streams.values_mut() {
            let mut expected = stream.records_from;
            for frame in &stream.records {
                if frame.base > expected {
                    recovery.lost.push((stream.core.key.clone(), expected..frame.base));
                }
                expected = expected.max(frame.until);
            }
            if stream.next_offset > expected {
                recovery.lost.push((stream.core.key.clone(), expected..stream.next_offset));
            }
            let charge = stream.records.iter().chain(&stream.entries).map(FrameRef::charge).sum();
            stream.core.buffered.store(charge, Ordering::Relaxed);
            stream.core.durable_end.send_replace(stream.next_offset);
            recovery.streams.push(stream.core.key.clone());
        }
        let first = self.found.journal_id.is_none();
        let whole = self.found.recovery.torn.is_empty() && self.found.recovery.corrupt.is_empty();
        self.found.recovery.clean = (self.closed || first) && whole;
        if !self.found.recovery.clean || first {
            self.found.epoch += 1;
        }
        self.found
    }
}

fn index(stream: &mut StreamState, header: &Header, frame: FrameRef, content: &Bytes) {
    match header.kind {
        Kind::Records => {
            stream.next_offset = stream.next_offset.max(header.until);
            stream.last_arrival = stream.last_arrival.max(header.arrival);
            if !header.source_name.is_empty() || !header.source_position.is_empty() {
                let name = String::from_utf8_lossy(&header.source_name).into_owned();
                stream.sources.insert((name, header.partition), header.source_position.clone());
            }
            stream.records.push_back(frame);
        }
        Kind::Checkpoint => {
            stream.checkpoint = Some(Bytes::copy_from_slice(content));
            stream.records_from = stream.records_from.max(header.base);
            stream.entries_from = stream.entries_from.max(header.until);
        }
        _ => stream.entries.push_back(frame),
    }
    stream.release(|_| {});
}

/// All frames and bad ranges up to `end`, and where the last one ended.
fn scan(data: &Bytes, start: u64, journal: u64, end: u64) -> Result<(Vec<Event>, u64), (u64, HeaderError)> {
    let slice = |at: u64| data.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
    let place = |at: u64| u64_at(slice(at), 32) == Some(journal) && u64_at(slice(at), 40) == Some(start + at);
    let mut events = Vec::new();
    let mut at = 0;
    while at < end.min(data.len() as u64) {
        if place(at) {
            match Header::read(slice(at)) {
                Ok(header) => {
                    let len = header.frame_len();
                    let from = usize::try_from(at).unwrap_or(0) + header.header_len();
                    let to = from + usize::try_from(header.body_len).unwrap_or(0);
                    let fits = at + len <= end && to <= data.len();
                    let ok = fits
                        && crc32c::crc32c(&data[from..to]) == header.body_crc
                        && is_sound(&header, &data.slice(from..to));
                    events.push(Event { at, len: len.min(end - at), header: Some(header), ok });
                    at += len;
                    continue;
                }
                Err(
                    needs @ (HeaderError::Version(_) | HeaderError::Features(_) | HeaderError::Column(_)),
                ) => {
                    return Err((at, needs));
                }
                Err(_) => {}
            }
        }
        let mut next = at + 64;
        while next < end && next < data.len() as u64 && !(place(next) && Header::read(slice(next)).is_ok()) {
            next += 64;
        }
        if next >= end || next >= data.len() as u64 {
            break;
        }
        events.push(Event { at, len: next - at, header: None, ok: false });
        at = next;
    }
    Ok((events, at))
}
