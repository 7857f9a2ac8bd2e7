//! Rebuilding the state from segments and journal files: scan, verify, cut a torn tail, set corruption aside.
//!
//! Holds one journal file in memory at a time. Changes nothing on disk but copies under `set-aside/` and whole
//! files that are no journal.

mod files;
mod merge;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use self::files::{Input, closed_at, file_start, in_order, is_ahead, number_of, read_from, was_used};
use crate::disk::{Disk, read_full, write_full};
use crate::error::OpenError;
use crate::format::{Header, HeaderError, Kind, MAGIC};
use crate::frame::{content, numbered};
use crate::journal::{Corrupt, Damage, Recovery, Torn};
use crate::records::Numbered;
use crate::scan::{Event, Newer, Scan};
use crate::state::{FrameRef, Segment, State, Store, StreamCore, StreamState};
use crate::wire::{Take, u64_at};
use crate::{limits, segment, snapshot};

/// What opening continues from.
pub(crate) struct Found {
    pub(crate) state: State,
    pub(crate) recovery: Recovery,
    pub(crate) journal_id: Option<u64>,
    pub(crate) epoch: u32,
    pub(crate) end: u64,
    pub(crate) next_number: u64,
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
        if let Some(number) = name.strip_suffix(".wmj").and_then(|name| number_of(name, 8)) {
            numbered.insert(number, path);
        } else if name.ends_with(".tmp") {
            disk.remove(&path).map_err(failed("remove", &path))?;
        } else if let Some(number) = name.strip_prefix("spare-").and_then(|name| number_of(name, 1)) {
            let file = disk.open(&path).map_err(failed("open", &path))?;
            found.state.next_spare = found.state.next_spare.max(number + 1);
            if file.len().map_err(failed("open", &path))? == file_bytes {
                found.state.spares.push_back(Store::new(path, file, 0, file_bytes));
            } else {
                disk.remove(&path).map_err(failed("remove", &path))?;
            }
        }
    }
    // A file becomes a spare only after its successor has its name: there was one, and there must be one.
    let removed = numbered.is_empty() && found.state.spares.iter().any(|spare| was_used(spare.file.as_ref()));
    if !numbered.is_empty() {
        // As with their content: what only the cache holds is made durable before it is believed.
        disk.sync_dir(&journal).map_err(failed("sync", &journal))?;
    }
    let mut pass = Pass {
        disk,
        dir,
        found,
        tombs: HashSet::new(),
        orphans: BTreeMap::new(),
        moved: Vec::new(),
        closed: false,
    };
    let mut inputs: Vec<Input> = Vec::new();
    let last_number = numbered.keys().next_back().copied();
    for (number, path) in numbered {
        pass.found.next_number = number + 1;
        if let Some(input) = pass.open(number, path, Some(number) == last_number)? {
            inputs.push(input);
        }
    }
    if removed {
        pass.missing(&journal, 0, 0);
    }
    let (inputs, misplaced) = in_order(inputs);
    for Input { store, .. } in misplaced {
        // Read where it is, its frames would be taken for others.
        let data = read_from(store.file.as_ref(), u64::MAX).map_err(failed("read", &store.path))?;
        pass.discard(store.path.clone(), &data, store.bytes)?;
    }
    pass.segments()?;
    for index in 0..inputs.len() {
        let next = inputs.get(index + 1).map(|next| next.store.start);
        if let Some(input) = inputs.get(index) {
            let file = input.store.file.as_ref();
            let journal = pass.found.journal_id.unwrap_or(0);
            // Of a journal that was closed in order, what lies behind its end need not be read.
            let end = match next {
                None => {
                    closed_at(file, input.store.start, journal).map_err(failed("read", &input.store.path))?
                }
                Some(_) => None,
            };
            let data = read_from(file, end.unwrap_or(u64::MAX)).map_err(failed("read", &input.store.path))?;
            pass.file(input, &data, next)?;
            pass.found.state.files.push_back(Arc::clone(&input.store));
        }
    }
    // What is in a segment stood in a file that had a successor.
    let moved = pass.found.state.segments.iter().map(|segment| segment.until).max().unwrap_or(0);
    if moved > pass.found.end {
        let (end, behind) = (pass.found.end, moved.next_multiple_of(limits::ALIGN));
        pass.missing(&journal, end, behind - end);
        pass.found.end = behind;
    }
    pass.spares()?;
    Ok(pass.finish())
}

/// Copies a range that cannot be used to `set-aside/`, for a human to look at.
pub(crate) fn set_aside(disk: &dyn Disk, dir: &Path, path: &Path, at: u64, bytes: &[u8]) -> Option<PathBuf> {
    let dir = dir.join("set-aside");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let copy = dir.join(format!("{name}-{at}"));
    let done = disk.create_dir(&dir).and_then(|()| {
        let file = disk.create(&copy, 0, false)?;
        write_full(file.as_ref(), &mut [std::io::IoSlice::new(bytes)], 0)?;
        file.sync()?;
        disk.sync_dir(&dir)
    });
    match done {
        Ok(()) => Some(copy),
        Err(error) => {
            tracing::warn!(error = %error, path = %copy.display(), "cannot set corrupt bytes aside");
            None
        }
    }
}

struct Pass<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    found: Found,
    tombs: HashSet<u32>,
    /// Frames of streams whose name is not known (yet).
    orphans: BTreeMap<u32, Vec<(Header, FrameRef, Option<Numbered>)>>,
    /// Frames in segments, with their streams.
    moved: Vec<(u32, FrameRef)>,
    closed: bool,
}

impl Pass<'_> {
    /// Finds a file's start. `None` if it holds nothing of this journal.
    fn open(&mut self, number: u64, path: PathBuf, last: bool) -> Result<Option<Input>, OpenError> {
        let file = self.disk.open(&path).map_err(failed("open", &path))?;
        if last {
            // What only the page cache holds must be durable before it is believed.
            file.sync().map_err(failed("sync", &path))?;
            file.forget_cache().map_err(failed("read", &path))?;
        }
        let bytes = file.len().map_err(failed("read", &path))?;
        let mut data =
            read_from(file.as_ref(), limits::HEADER_BYTES_MAX as u64 * 2).map_err(failed("read", &path))?;
        let mut at = 0;
        if Header::read(&data).is_err() {
            data = read_from(file.as_ref(), u64::MAX).map_err(failed("read", &path))?;
        }
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
            // A file gets its name with its head in it: one without any frame was damaged.
            self.discard(path, &data, bytes)?;
            return Ok(None);
        };
        let (mut made, mut named) = (None, false);
        if at == 0 && first.kind == Kind::FileStart {
            let start = file_start(&first, &data);
            made = start.as_ref().and_then(|start| start.bytes);
            named = start.is_some();
            if start.is_some_and(|start| start.number != number) {
                // A spare whose new name was not durable yet: nothing in it was acknowledged.
                self.disk.remove(&path).map_err(failed("remove", &path))?;
                return Ok(None);
            }
        }
        if *self.found.journal_id.get_or_insert(first.journal) != first.journal {
            return Err(OpenError::Foreign { file: path });
        }
        let start = first.position - at as u64;
        Ok(Some(Input { number, store: Store::new(path, file, start, bytes), named, made }))
    }

    /// Sets a whole file aside that is of no use where it is, and removes it once there is a copy of what it holds.
    fn discard(&mut self, file: PathBuf, data: &[u8], bytes: u64) -> Result<(), OpenError> {
        let empty = data.iter().all(|byte| *byte == 0);
        let set_aside = if empty { None } else { set_aside(self.disk, self.dir, &file, 0, data) };
        if empty || set_aside.is_some() {
            self.disk.remove(&file).map_err(failed("remove", &file))?;
        }
        let damage = Damage::Content;
        self.corrupt(Corrupt { damage, file, at: 0, bytes, set_aside, stream: None, offsets: None });
        Ok(())
    }

    /// Indexes what was moved out of files that may be gone.
    fn segments(&mut self) -> Result<(), OpenError> {
        let dir = self.dir.join("segments");
        let names = self.disk.list(&dir).map_err(failed("list", &dir))?;
        if !names.is_empty() {
            // A name that only the cache holds must be durable before anything is freed on its account.
            self.disk.sync_dir(&dir).map_err(failed("sync", &dir))?;
        }
        for name in names {
            let path = dir.join(&name);
            if name.ends_with(".tmp") {
                self.disk.remove(&path).map_err(failed("remove", &path))?;
            }
            let Some(number) = name.strip_suffix(".wms").and_then(|name| number_of(name, 8)) else {
                continue;
            };
            let state = &mut self.found.state;
            state.next_segment = state.next_segment.max(number + 1);
            // Without a journal nobody knows the streams: the file is left for a human.
            let Some(journal) = self.found.journal_id else {
                if self.found.recovery.corrupt.is_empty() {
                    self.missing(&self.dir.join("journal"), 0, 0);
                }
                continue;
            };
            let file = self.disk.open(&path).map_err(failed("open", &path))?;
            let segment = segment::read(&path, file, journal)?;
            for bad in segment.bad {
                let mut bytes = vec![0; usize::try_from(bad.end - bad.start).unwrap_or(0)];
                let len = read_full(segment.store.file.as_ref(), &mut bytes, bad.start).unwrap_or(0);
                bytes.truncate(len);
                let set_aside = set_aside(self.disk, self.dir, &path, bad.start, &bytes);
                let (file, bytes) = (path.clone(), bad.end - bad.start);
                let (damage, at) = (Damage::Content, bad.start);
                self.corrupt(Corrupt { damage, file, at, bytes, set_aside, stream: None, offsets: None });
            }
            segment.frames.iter().for_each(|(stream, _)| self.given(*stream));
            self.moved.extend(segment.frames);
            self.found.state.segments.push(Segment { store: segment.store, until: segment.until });
        }
        Ok(())
    }

    fn file(&mut self, input: &Input, data: &Bytes, next: Option<u64>) -> Result<(), OpenError> {
        let start = input.store.start;
        let journal = self.found.journal_id.unwrap_or(0);
        let end = next.map_or(data.len() as u64, |next| next.saturating_sub(start));
        let newer = |Newer(at, needs)| OpenError::Newer { file: input.store.path.clone(), at, needs };
        // Of the last file the end is not known: everything was durable that a later frame says was.
        let known = match next {
            Some(next) => next,
            None => {
                let mut known = start;
                let mut scan = Scan::new(data, start, journal, end);
                while let Some(event) = scan.step().map_err(newer)? {
                    if let Some(header) = &event.header {
                        known = known.max(header.durable);
                        if event.ok && header.kind == Kind::Closed {
                            known = known.max(start + event.at + event.len);
                        }
                    }
                }
                known
            }
        };
        self.closed = false;
        // Only of the last file its end counts.
        let cut = if next.is_none() { input.cut() } else { 0 };
        let mut told = false;
        let mut valid = start;
        let mut torn: Option<Torn> = None;
        let mut scan = Scan::new(data, start, journal, end);
        while let Some(event) = scan.step().map_err(newer)? {
            let stop = (event.at + event.len).min(data.len() as u64);
            let records = event.header.as_ref().map(|header| u64::from(header.count));
            if let Some(torn) = &mut torn {
                torn.bytes = stop - torn.at;
                torn.records = torn.records.zip(records).map(|(a, b)| a + b);
            } else if !event.ok && start + event.at >= known && cut == 0 {
                let file = input.store.path.clone();
                torn = Some(Torn { file, at: event.at, bytes: stop - event.at, records });
            } else {
                // Where a file was cut, its last frame may end anywhere.
                valid = start + (event.at + event.len).next_multiple_of(limits::ALIGN);
                told = !event.ok;
                self.event(input, data, &event);
            }
        }
        let tail = scan.at;
        if let Some(torn) = torn {
            self.found.recovery.torn.push(torn);
        } else if next.is_some() && tail < end {
            self.damaged(input, data, tail, end - tail, None);
        } else if cut > 0 && !self.closed {
            if !told {
                self.damaged(input, data, tail, (data.len() as u64 + cut).saturating_sub(tail), None);
            }
        } else if next.is_none() {
            let rest = data.get(usize::try_from(tail).unwrap_or(usize::MAX)..).unwrap_or_default();
            let ours = u64_at(rest, 40).is_none_or(|position| position == start + tail);
            if start + tail < known {
                self.damaged(input, data, tail, known - start - tail, None);
            } else if ours && (rest.starts_with(&MAGIC) || rest.len() < 64) {
                let bytes = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
                let file = input.store.path.clone();
                if bytes > 0 {
                    self.found.recovery.torn.push(Torn { file, at: tail, bytes, records: None });
                }
            }
        }
        self.found.end = self.found.end.max(valid).max(known);
        tracing::debug!(number = input.number, start, end = self.found.end, "journal file read");
        Ok(())
    }

    fn event(&mut self, input: &Input, data: &Bytes, event: &Event) {
        if let Some(header) = &event.header {
            self.given(header.stream);
        }
        let Some(header) = event.header.as_ref().filter(|_| event.ok) else {
            return self.damaged(input, data, event.at, event.len, event.header.as_ref());
        };
        self.closed = header.kind == Kind::Closed;
        self.found.epoch = self.found.epoch.max(header.epoch);
        let from = usize::try_from(event.at).unwrap_or(0) + header.header_len();
        let body = data.slice(from..from + usize::try_from(header.body_len).unwrap_or(0));
        let content = content(header, &body);
        if self.tombs.contains(&header.stream) {
            return;
        }
        match header.kind {
            Kind::FileStart => {
                if let Some(start) = snapshot::read_file_start(&content) {
                    self.found.state.next_stream = self.found.state.next_stream.max(start.next_stream);
                }
            }
            Kind::StreamCreated | Kind::Snapshot => {
                let Some(key) = snapshot::take_key(&mut Take(&content)) else { return };
                let id = header.stream;
                let streams = &mut self.found.state.streams;
                let stream = streams.entry(id).or_insert_with(|| {
                    StreamState::new(Arc::new(StreamCore::new(id, key.clone(), header.incarnation, 0)))
                });
                self.found.state.names.insert(key, id);
                if header.kind == Kind::Snapshot {
                    let _known = snapshot::apply(header, &content, stream);
                }
                for (header, frame, numbered) in self.orphans.remove(&id).unwrap_or_default() {
                    stream.found(&header, frame, &Bytes::new(), numbered);
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
                let numbered = numbered(header, &body);
                match self.found.state.streams.get_mut(&header.stream) {
                    Some(stream) => stream.found(header, frame, &content, numbered),
                    None => {
                        self.orphans.entry(header.stream).or_default().push((
                            header.clone(),
                            frame,
                            numbered,
                        ));
                    }
                }
            }
            Kind::Closed | Kind::Other => {}
        }
    }

    /// No other stream gets this id, even if nobody knows whose it was: it would get its records too.
    fn given(&mut self, stream: u32) {
        self.found.state.next_stream = self.found.state.next_stream.max(stream.saturating_add(1));
    }

    fn damaged(&mut self, input: &Input, data: &Bytes, at: u64, len: u64, header: Option<&Header>) {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(data.len());
        let to = usize::try_from(at + len).unwrap_or(usize::MAX).min(data.len());
        let bytes = data.get(from..to).filter(|bytes| !bytes.is_empty());
        let set_aside = bytes.and_then(|bytes| set_aside(self.disk, self.dir, &input.store.path, at, bytes));
        let stream = header.and_then(|h| self.found.state.streams.get_mut(&h.stream));
        let offsets = header.filter(|h| h.kind == Kind::Records).map(|h| h.base..h.until);
        let key = stream.map(|stream| {
            if let Some(offsets) = &offsets {
                // These offsets were given away.
                stream.end = stream.end.max(offsets.end);
                stream.next_offset = stream.next_offset.max(offsets.end);
            }
            stream.core.key.clone()
        });
        let (damage, file) = (input.damage(), input.store.path.clone());
        self.corrupt(Corrupt { damage, file, at, bytes: len, set_aside, stream: key, offsets });
    }

    fn missing(&mut self, dir: &Path, at: u64, bytes: u64) {
        let (damage, file) = (Damage::Missing, dir.to_owned());
        self.corrupt(Corrupt { damage, file, at, bytes, set_aside: None, stream: None, offsets: None });
    }

    /// Who opens the journal says it to people.
    fn corrupt(&mut self, corrupt: Corrupt) {
        self.found.recovery.corrupt.push(corrupt);
    }

    /// Keeps only spares whose old content lies before the journal's end: any other would be read as what follows.
    fn spares(&mut self) -> Result<(), OpenError> {
        let doubtful = !self.found.recovery.corrupt.is_empty();
        for spare in std::mem::take(&mut self.found.state.spares) {
            if doubtful || is_ahead(spare.file.as_ref(), self.found.end) {
                self.disk.remove(&spare.path).map_err(failed("remove", &spare.path))?;
            } else {
                self.found.state.spares.push_back(spare);
            }
        }
        Ok(())
    }
}
