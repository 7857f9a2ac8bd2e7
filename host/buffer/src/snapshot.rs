//! The contents of the journal's own frames: file starts, stream creations, snapshots. Write and read.

use bytes::Bytes;

use crate::format::{Header, Kind};
use crate::frame::Body;
use crate::limits;
use crate::producers::Producers;
use crate::state::StreamState;
use crate::stream::StreamKey;
use crate::wire::{Take, put_bytes, put_u32, put_u64};

pub(crate) fn put_key(out: &mut Vec<u8>, key: &StreamKey) {
    put_bytes(out, key.tenant.as_bytes());
    put_bytes(out, key.name.as_bytes());
}

pub(crate) fn take_key(take: &mut Take<'_>) -> Option<StreamKey> {
    let tenant = String::from_utf8(take.prefixed()?.to_vec()).ok()?;
    let name = String::from_utf8(take.prefixed()?.to_vec()).ok()?;
    Some(StreamKey { tenant, name })
}

/// What a file says of itself.
pub(crate) struct FileStart {
    pub(crate) number: u64,
    pub(crate) next_stream: u32,
    /// The file's length when it got its name, if the file says so: from then on it never gets shorter.
    pub(crate) bytes: Option<u64>,
}

pub(crate) fn file_start(number: u64, next_stream: u32, snapshots: usize, bytes: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_u64(&mut out, number);
    put_u32(&mut out, next_stream);
    put_u32(&mut out, u32::try_from(snapshots).unwrap_or(u32::MAX));
    put_u64(&mut out, bytes);
    out
}

pub(crate) fn read_file_start(content: &[u8]) -> Option<FileStart> {
    let mut take = Take(content);
    let (number, next_stream) = (take.u64()?, take.u32()?);
    let bytes = take.u32().and_then(|_snapshots| take.u64());
    Some(FileStart { number, next_stream, bytes })
}

pub(crate) fn of_stream(state: &StreamState) -> (Header, Body) {
    let mut header = Header::new(Kind::Snapshot);
    header.stream = state.core.id;
    header.incarnation = state.core.incarnation;
    header.base = state.records_from;
    header.until = state.entries_from;
    header.arrival = state.last_arrival;
    let mut out = Vec::new();
    put_key(&mut out, &state.core.key);
    put_u64(&mut out, state.end);
    put_u64(&mut out, state.next_offset);
    put_u32(&mut out, u32::try_from(state.sources.len()).unwrap_or(0));
    for ((name, partition), position) in &state.sources {
        put_bytes(&mut out, name.as_bytes());
        put_u32(&mut out, *partition);
        put_bytes(&mut out, position);
    }
    match &state.checkpoint {
        Some(content) => {
            out.push(1);
            put_bytes(&mut out, content);
        }
        None => out.push(0),
    }
    if !state.producers.is_empty() {
        state.producers.put(&mut out);
    }
    let body = Body::of_content(&mut header, out.into());
    (header, body)
}

/// Takes over what a snapshot says of an already known stream.
pub(crate) fn apply(header: &Header, content: &[u8], state: &mut StreamState) -> Option<()> {
    let mut take = Take(content);
    take_key(&mut take)?;
    let (end, next_offset) = (take.u64()?, take.u64()?);
    if end.max(next_offset) > limits::PLACE_MAX {
        return None;
    }
    state.end = state.end.max(end);
    state.next_offset = state.next_offset.max(next_offset).max(state.end);
    for _ in 0..take.u32()? {
        let name = String::from_utf8(take.prefixed()?.to_vec()).ok()?;
        let partition = take.u32()?;
        state.sources.insert((name, partition), take.prefixed()?.to_vec());
    }
    state.records_from = state.records_from.max(header.base);
    state.entries_from = state.entries_from.max(header.until);
    state.last_arrival = state.last_arrival.max(header.arrival);
    if take.bytes(1)? == [1] {
        state.checkpoint = Some(Bytes::copy_from_slice(take.prefixed()?));
    }
    if !take.0.is_empty() {
        state.producers = Producers::take(&mut take)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::state::StreamCore;

    fn state() -> StreamState {
        let key = StreamKey { tenant: "tenant".into(), name: "name".into() };
        StreamState::new(Arc::new(StreamCore::new(1, key, [0; 16], 0)))
    }

    #[test]
    fn snapshot_written_reads_back() {
        let mut written = state();
        (written.end, written.next_offset) = (limits::PLACE_MAX - 1, limits::PLACE_MAX);
        written.sources.insert(("source".into(), 3), b"position".to_vec());
        written.checkpoint = Some("checkpoint".into());
        let (header, body) = of_stream(&written);
        let mut read = state();
        apply(&header, &body.payload, &mut read).unwrap();
        assert_eq!((read.end, read.next_offset), (written.end, written.next_offset));
        assert_eq!((read.sources, read.checkpoint), (written.sources, written.checkpoint));
    }

    #[test]
    fn snapshot_with_offsets_that_nobody_gave_away_changes_none() {
        let mut written = state();
        written.next_offset = limits::PLACE_MAX + 1;
        let (header, body) = of_stream(&written);
        let mut read = state();
        assert!(apply(&header, &body.payload, &mut read).is_none());
        assert_eq!((read.end, read.next_offset), (0, 0));
    }
}
