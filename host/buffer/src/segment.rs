//! Segments: frames that slow streams still need or that are kept as history, copied out of the oldest journal files so that these can be
//! freed. One round of copying, and reading a segment at open.
//!
//! A segment is complete and synced before it gets its name, and what it was copied from is freed only after
//! that. The writer frees files; nothing here removes more than an unfinished copy.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::disk::{DiskFile, read_full, write_full};
use crate::error::OpenError;
use crate::format::{Header, HeaderError, Kind};
use crate::limits;
use crate::recovery::set_aside;
use crate::state::{FrameRef, Segment, Shared, State, Store};

/// A file that frames are copied out of, and the position behind all that it holds.
struct Source {
    store: Arc<Store>,
    until: u64,
}

/// The journal as it would be after one more file, against its bound.
fn exceeds(shared: &Shared, journal_bytes: u64) -> bool {
    journal_bytes + shared.options.file_bytes > shared.options.max_journal_bytes
}

/// True if the journal is to be made shorter, or segments hold too much that nobody needs.
pub(crate) fn is_due(shared: &Shared) -> bool {
    let state = shared.state();
    (state.files.len() > 1 && exceeds(shared, state.journal_bytes())) || is_sparse(shared, &state)
}

fn is_sparse(shared: &Shared, state: &State) -> bool {
    let live: u64 = state.segments.iter().map(|segment| segment.store.live()).sum();
    state.segment_bytes() > 2 * live + shared.options.file_bytes
}

/// What to copy next: live frames of the oldest journal files, together with the newest segments while these are
/// small, or else the segment that holds the least.
fn choose(shared: &Shared, state: &State) -> Vec<Source> {
    let most = shared.options.file_bytes;
    let mut sources = Vec::new();
    let mut journal_bytes = state.journal_bytes();
    let mut live = 0;
    for (file, next) in state.files.iter().zip(state.files.iter().skip(1)) {
        if !exceeds(shared, journal_bytes) || (live > 0 && live + file.live() > most) {
            break;
        }
        journal_bytes -= file.bytes;
        live += file.live();
        sources.push(Source { store: Arc::clone(file), until: next.start });
    }
    let source = |segment: &Segment| Source { store: Arc::clone(&segment.store), until: segment.until };
    if live > 0 {
        // Only such as are not much larger than what is new, so that a frame is not copied often.
        for segment in state.segments.iter().rev() {
            let more = segment.store.live();
            if more > 2 * live || live + more > most {
                break;
            }
            live += more;
            sources.push(source(segment));
        }
    } else if is_sparse(shared, state) {
        let share = |segment: &&Segment| segment.store.live() * 1000 / segment.store.bytes.max(1);
        return state.segments.iter().min_by_key(share).map(source).into_iter().collect();
    }
    sources
}

/// The frames in these files that are needed, by position.
fn needed(state: &State, sources: &[Source]) -> Vec<(u32, FrameRef)> {
    let mut frames = Vec::new();
    for (id, stream) in &state.streams {
        for queue in [&stream.retained, &stream.records, &stream.entries] {
            for source in sources {
                let first = queue.partition_point(|frame| frame.position < source.store.start);
                let range = queue.range(first..).take_while(|frame| frame.position < source.until);
                let inside = range.filter(|frame| Arc::ptr_eq(&frame.store, &source.store));
                frames.extend(inside.map(|frame| (*id, frame.clone())));
            }
        }
    }
    frames.sort_unstable_by_key(|(_, frame)| frame.position);
    frames
}

/// Copies once. `false` if there was nothing to copy.
pub(crate) fn round(shared: &Shared) -> io::Result<bool> {
    let (sources, frames, number) = {
        let mut state = shared.state();
        let sources = choose(shared, &state);
        let frames = needed(&state, &sources);
        if frames.is_empty() {
            return Ok(false);
        }
        state.next_segment += 1;
        (sources, frames, state.next_segment - 1)
    };
    let dir = shared.dir.join("segments");
    shared.disk.create_dir(&dir)?;
    let (unfinished, path) = (dir.join(format!("{number:08}.tmp")), dir.join(format!("{number:08}.wms")));
    let copied = copy(shared, &unfinished, &frames).and_then(|(file, places)| {
        shared.disk.rename(&unfinished, &path)?;
        shared.disk.sync_dir(&dir)?;
        Ok((file, places))
    });
    let (file, places) = match copied {
        Ok(copied) => copied,
        Err(error) => {
            // One that stays is found at the next open, and does no harm.
            if let Err(error) = shared.disk.remove(&unfinished).or_else(|_| shared.disk.remove(&path)) {
                tracing::debug!(error = %error, path = %unfinished.display(), "cannot remove an unfinished copy");
            }
            return Err(error);
        }
    };
    let bytes = places.iter().flatten().zip(&frames).map(|(_, (_, frame))| u64::from(frame.len)).sum();
    let start = frames.first().map_or(0, |(_, frame)| frame.position);
    let until = frames.last().map_or(0, |(_, frame)| frame.position + 1);
    let store = Store::new(path, file, start, bytes);
    tracing::debug!(
        number,
        bytes,
        sources = sources.len(),
        frames = frames.len(),
        "frames moved to a segment"
    );
    let mut state = shared.state();
    for ((id, frame), place) in frames.iter().zip(places) {
        replace(shared, &mut state, *id, frame, &store, place);
    }
    state.segments.push(Segment { store, until });
    Ok(true)
}

/// Lets a frame be read from its new place; one without a place is lost. What was released meanwhile stays so.
fn replace(
    shared: &Shared,
    state: &mut State,
    id: u32,
    old: &FrameRef,
    store: &Arc<Store>,
    place: Option<u64>,
) {
    let Some(stream) = state.streams.get_mut(&id) else { return };
    let is_in =
        |queue: &VecDeque<FrameRef>| queue.binary_search_by_key(&old.position, |frame| frame.position);
    let retained = is_in(&stream.retained);
    let queue = match old.kind {
        Kind::Records if retained.is_ok() => &mut stream.retained,
        Kind::Records => &mut stream.records,
        _ => &mut stream.entries,
    };
    let Ok(index) = is_in(queue) else { return };
    match (queue.get_mut(index), place) {
        (Some(frame), Some(at)) => {
            frame.at = at;
            frame.store = Arc::clone(store);
            store.live.fetch_add(u64::from(old.len), Ordering::Relaxed);
            old.store.live.fetch_sub(u64::from(old.len), Ordering::Relaxed);
        }
        (_, None) => {
            queue.remove(index);
            let core = Arc::clone(&stream.core);
            if retained.is_ok() {
                core.retained.fetch_sub(old.charge(), Ordering::Relaxed);
                old.store.live.fetch_sub(u64::from(old.len), Ordering::Relaxed);
            } else {
                shared.forget(&mut state.cache, &core, old);
            }
        }
        (None, _) => {}
    }
}

/// A new segment's file, and where in it each frame lies; `None` if it is corrupt.
type Copied = (Arc<dyn DiskFile>, Vec<Option<u64>>);

/// Writes the frames one behind the other and syncs them.
fn copy(shared: &Shared, path: &Path, frames: &[(u32, FrameRef)]) -> io::Result<Copied> {
    let reserve = frames.iter().map(|(_, frame)| u64::from(frame.len)).sum();
    let file = shared.disk.create(path, reserve, false)?;
    let mut places = Vec::with_capacity(frames.len());
    let mut buffer: Vec<u8> = Vec::new();
    let mut written = 0;
    for (_, frame) in frames {
        let start = buffer.len();
        buffer.resize(start + frame.len as usize, 0);
        let bytes = buffer.get_mut(start..).unwrap_or_default();
        let len = read_full(frame.store.file.as_ref(), bytes, frame.at)?;
        if is_intact(bytes.get(..len).unwrap_or_default(), frame) {
            places.push(Some(written + start as u64));
        } else {
            let aside = set_aside(shared.disk.as_ref(), &shared.dir, &frame.store.path, frame.at, bytes);
            shared.counters.corruptions.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                file = %frame.store.path.display(), at = frame.at, bytes = frame.len,
                set_aside = aside.as_ref().map(|copy| tracing::field::display(copy.display())),
                "corrupt bytes in the journal were set aside"
            );
            places.push(None);
            buffer.truncate(start);
        }
        if buffer.len() >= limits::COPY_BYTES {
            write_full(file.as_ref(), &mut [IoSlice::new(&buffer)], written)?;
            written += buffer.len() as u64;
            buffer.clear();
        }
    }
    write_full(file.as_ref(), &mut [IoSlice::new(&buffer)], written)?;
    file.sync()?;
    Ok((file, places))
}

/// True if the frame can be read from where it is said to be.
pub(crate) fn is_stored(frame: &FrameRef) -> bool {
    let mut bytes = vec![0; frame.len as usize];
    let len = read_full(frame.store.file.as_ref(), &mut bytes, frame.at).unwrap_or(0);
    is_intact(bytes.get(..len).unwrap_or_default(), frame)
}

fn is_intact(bytes: &[u8], frame: &FrameRef) -> bool {
    let Ok(header) = Header::read(bytes) else { return false };
    let from = header.header_len();
    let body = usize::try_from(header.body_len).ok().and_then(|len| bytes.get(from..from + len));
    header.position == frame.position
        && header.frame_len() == u64::from(frame.len)
        && body.is_some_and(|body| crc32c::crc32c(body) == header.body_crc)
}

/// What a segment holds, by its headers; bodies are checked when they are read.
pub(crate) struct Found {
    pub(crate) store: Arc<Store>,
    pub(crate) until: u64,
    pub(crate) frames: Vec<(u32, FrameRef)>,
    /// Where no frame is.
    pub(crate) bad: Vec<Range<u64>>,
}

/// Reads all headers of a segment.
pub(crate) fn read(path: &Path, file: Arc<dyn DiskFile>, journal: u64) -> Result<Found, OpenError> {
    let failed = |source| OpenError::Disk { action: "read", path: path.to_owned(), source };
    let bytes = file.len().map_err(failed)?;
    let mut headers = Vec::new();
    let mut bad: Vec<Range<u64>> = Vec::new();
    let mut window = Window { file: file.as_ref(), at: 0, bytes: Vec::new() };
    let (mut at, mut until) = (0, 0);
    while at < bytes {
        let here = window.get(at).map_err(failed)?;
        if here.get(..limits::ALIGN as usize).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0)) {
            // Room of a frame that was corrupt before it was copied.
            at += limits::ALIGN;
            continue;
        }
        match Header::read(here) {
            Ok(header)
                if header.journal == journal
                    && header.position >= until
                    && at + header.frame_len() <= bytes =>
            {
                until = header.position + 1;
                let place = at;
                at += header.frame_len();
                // Nothing else is ever moved: what a journal file holds besides is no entry of a stream.
                if matches!(header.kind, Kind::Records | Kind::Outcome | Kind::Mark) {
                    headers.push((header, place));
                }
            }
            Err(error @ (HeaderError::Version(_) | HeaderError::Features(_) | HeaderError::Column(_))) => {
                return Err(OpenError::Newer { file: path.to_owned(), at, needs: error });
            }
            _ => {
                let next = at + limits::ALIGN;
                match bad.last_mut().filter(|bad| bad.end == at) {
                    Some(bad) => bad.end = next,
                    None => bad.push(at..next),
                }
                at = next;
            }
        }
    }
    let start = headers.first().map_or(0, |(header, _)| header.position);
    let store = Store::new(path.to_owned(), file, start, bytes);
    let frames =
        headers.iter().map(|(header, at)| (header.stream, FrameRef::new(header, &store, *at))).collect();
    Ok(Found { store, until, frames, bad })
}

/// A piece of a file that holds at least the longest header, if the file does.
struct Window<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    fn get(&mut self, at: u64) -> io::Result<&[u8]> {
        let inside = at.checked_sub(self.at).and_then(|from| usize::try_from(from).ok());
        let from = inside.filter(|from| from + limits::HEADER_BYTES_MAX <= self.bytes.len());
        if let Some(from) = from {
            return Ok(self.bytes.get(from..).unwrap_or_default());
        }
        self.bytes.resize(limits::HEADER_BYTES_MAX * 4, 0);
        let len = read_full(self.file, &mut self.bytes, at)?;
        // Short only at the end of the file: zeros are no frame.
        self.bytes.get_mut(len..).unwrap_or_default().fill(0);
        self.at = at;
        Ok(&self.bytes)
    }
}
