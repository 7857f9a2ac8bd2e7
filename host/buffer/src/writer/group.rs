//! The frames of a group: where they go, their write, and how a write that failed is undone.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use super::count;
use crate::disk::write_full;
use crate::error::AppendError;
use crate::frame::Body;
use crate::limits;
use crate::queue::{Item, Work};
use crate::state::{Shared, Store};

/// Where a stream's next records go.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    end: u64,
    pub(super) next_offset: u64,
    arrival: i64,
}

/// Streams as they will be once all that is written is durable.
pub(super) type Aheads = HashMap<u32, Ahead>;

/// Gives every item its position, offsets and arrival, behind `end`.
pub(super) fn place(shared: &Shared, items: &mut [Item], (end, durable): (u64, u64), ahead: &mut Aheads) {
    let state = shared.state();
    let mut position = end;
    for item in items {
        let header = &mut item.header;
        header.journal = shared.journal_id;
        header.epoch = shared.epoch;
        header.durable = durable;
        header.position = position;
        position += header.frame_len();
        if let Some(stream) = &item.stream {
            header.stream = stream.id;
            header.incarnation = stream.incarnation;
            if matches!(item.work, Work::Records(_)) {
                let ahead = ahead.entry(stream.id).or_insert_with(|| match state.streams.get(&stream.id) {
                    Some(s) => Ahead { end: s.end, next_offset: s.next_offset, arrival: s.last_arrival },
                    None => Ahead { end: 0, next_offset: 0, arrival: i64::MIN },
                });
                header.after = ahead.end;
                header.base = ahead.next_offset;
                header.until = header.base + u64::from(header.count);
                header.arrival = header.arrival.max(ahead.arrival);
                *ahead = Ahead { end: header.until, next_offset: header.until, arrival: header.arrival };
            }
        }
    }
}

/// Writes the frames of items at the journal position that the first one has.
pub(super) fn write(file: &Store, items: &[Item], headers: &mut Vec<u8>) -> io::Result<()> {
    headers.clear();
    let mut ends = Vec::with_capacity(items.len());
    for item in items {
        item.header.write(headers);
        ends.push(headers.len());
    }
    let mut slices = Vec::with_capacity(items.len() * 4);
    let mut start = 0;
    for (item, end) in items.iter().zip(ends) {
        slices.push(IoSlice::new(headers.get(start..end).unwrap_or_default()));
        start = end;
        let Body { head, payload, tail } = &item.body;
        for part in [head.as_slice(), payload, tail.as_slice()] {
            if !part.is_empty() {
                slices.push(IoSlice::new(part));
            }
        }
    }
    let at = items.first().map_or(0, |item| item.header.position);
    write_full(file.file.as_ref(), &mut slices, at - file.start)
}

/// What to tell those whose group was not written.
pub(super) fn undo(shared: &Shared, file: &Store, position: u64, error: Arc<io::Error>) -> AppendError {
    count(&shared.counters.failed_writes, 1);
    match wipe(shared, file, position) {
        Ok(()) => AppendError::Storage { source: error },
        Err(error) => {
            tracing::error!(error = %error, "cannot wipe a refused frame; waiting appends are unknown");
            AppendError::Unknown
        }
    }
}

/// Wipes the start of a refused group durably: should the process end before the next file voids the
/// group, nothing of it is found again.
fn wipe(shared: &Shared, file: &Store, position: u64) -> io::Result<()> {
    let zeros = [0; limits::ALIGN as usize];
    write_full(file.file.as_ref(), &mut [IoSlice::new(&zeros)], position - file.start)?;
    count(&shared.counters.syncs, 1);
    file.file.sync()
}
