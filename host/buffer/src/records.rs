//! What a caller appends and what it gets back: flat columns in, a receipt out.
//!
//! Checks that columns agree with each other. Never looks inside a payload.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::AppendError;
use crate::format::Header;
use crate::limits;

/// Records of one append, as columns. Record `i` is `payload[ends[i-1]..ends[i]]`.
///
/// The payload is kept as it is, without a copy: hand over a buffer that holds little else.
#[derive(Debug, Clone, Default)]
pub struct Records {
    pub payload: Bytes,
    /// End of each record in `payload`; never decreasing, the last one is `payload.len()`.
    pub ends: Vec<u32>,
    /// Nanoseconds since 1970 of the first record. An arrival before that of the stream's last append is
    /// raised to it.
    pub arrival: i64,
    /// Nanoseconds after `arrival`, one per record; `None` = all the same.
    pub arrival_deltas: Option<Vec<u32>>,
    pub keys: Option<Cells>,
    pub attributes: Vec<(String, Cells)>,
    /// Nanoseconds since 1970, one per record.
    pub event_times: Option<Vec<i64>>,
    /// Which source these are of, and where reading it goes on after them.
    pub source: Option<SourcePosition>,
    pub producer: Option<Producer>,
    /// The request that these are the records of: appended once, however often it is sent.
    pub numbered: Option<Numbered>,
    /// The receipt comes, and they can be read, as soon as they are written, before they are durable.
    pub early: bool,
}

/// One optional cell per record: a state byte (0 = missing; other values are the caller's) and a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cells {
    pub state: Vec<u8>,
    pub data: Bytes,
    pub ends: Vec<u32>,
}

impl Cells {
    /// Those of these rows.
    pub(crate) fn gathered(&self, rows: &[usize]) -> Cells {
        let (mut state, mut data, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let end = |row: usize| self.ends.get(row).map_or(0, |end| *end as usize);
            let start = row.checked_sub(1).map_or(0, end);
            state.push(self.state.get(*row).copied().unwrap_or_default());
            data.extend_from_slice(self.data.get(start..end(*row)).unwrap_or_default());
            // No longer than the frame's own.
            ends.push(data.len() as u32);
        }
        Cells { state, data: data.into(), ends }
    }
}

/// An opaque position in a partition of a source, durable together with the records that lead to it. Empty: the records are
/// of this source, and the position of its partition stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourcePosition {
    pub name: String,
    pub partition: u32,
    pub position: Vec<u8>,
}

/// Who numbered these records, where a protocol has numbers for its producers. Kept, not checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Producer {
    pub id: u64,
    pub epoch: u16,
    pub first_sequence: u32,
}

/// A request as its producer knows it. What follows from it stands at the head of `producers.rs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// 1 to 128 bytes.
    pub producer: Arc<str>,
    /// Used for one request only, and greater for later ones.
    pub sequence: u64,
    /// Of the records, by which the same request is told from another one with its number.
    pub digest: [u8; 16],
}

/// The durable place of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub first_offset: u64,
    pub count: u32,
    /// Journal position of the frame.
    pub position: u64,
    /// The request was stored before; this is what was answered then.
    pub duplicate: bool,
}

impl Receipt {
    /// Of a frame of records that is durable.
    pub(crate) fn of(header: &Header) -> Receipt {
        let Header { base, count, position, .. } = *header;
        Receipt { first_offset: base, count, position, duplicate: false }
    }
}

impl Records {
    /// Records all of the same arrival, without any optional column.
    pub fn new(payload: impl Into<Bytes>, ends: Vec<u32>, arrival: i64) -> Records {
        Records { payload: payload.into(), ends, arrival, ..Records::default() }
    }

    /// One record.
    pub fn one(payload: impl Into<Bytes>, arrival: i64) -> Records {
        let payload = payload.into();
        // A payload beyond u32 fails `check`, because the end then differs from its length.
        let end = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Records { payload, ends: vec![end], arrival, ..Records::default() }
    }

    pub(crate) fn check(&self) -> Result<(), AppendError> {
        let count = self.ends.len();
        if count == 0 {
            return Err(AppendError::Invalid { what: "an append needs at least one record" });
        }
        if count > limits::RECORDS_MAX {
            return Err(AppendError::Invalid { what: "too many records in one append" });
        }
        check_ends(&self.ends, self.payload.len(), "ends do not match the payload")?;
        if self.arrival_deltas.as_ref().is_some_and(|deltas| deltas.len() != count) {
            return Err(AppendError::Invalid { what: "arrival deltas differ in number from the records" });
        }
        if self.event_times.as_ref().is_some_and(|times| times.len() != count) {
            return Err(AppendError::Invalid { what: "event times differ in number from the records" });
        }
        if self.attributes.len() > limits::ATTRIBUTES_MAX {
            return Err(AppendError::Invalid { what: "too many attributes" });
        }
        for cells in self.keys.iter().chain(self.attributes.iter().map(|(_, cells)| cells)) {
            if cells.state.len() != count || cells.ends.len() != count {
                return Err(AppendError::Invalid { what: "cells differ in number from the records" });
            }
            check_ends(&cells.ends, cells.data.len(), "cell ends do not match their data")?;
        }
        if self.attributes.iter().any(|(name, _)| name.len() > limits::NAME_BYTES_MAX) {
            return Err(AppendError::Invalid { what: "attribute name too long" });
        }
        if self.numbered.as_ref().is_some_and(|numbered| {
            numbered.producer.is_empty() || numbered.producer.len() > limits::PRODUCER_BYTES_MAX
        }) {
            return Err(AppendError::Invalid { what: "a producer's name has 1 to 128 bytes" });
        }
        if let Some(source) = &self.source
            && (source.name.len() > limits::SOURCE_NAME_BYTES_MAX
                || source.position.len() > limits::SOURCE_POSITION_BYTES_MAX)
        {
            return Err(AppendError::Invalid { what: "source name or position too long" });
        }
        Ok(())
    }
}

fn check_ends(ends: &[u32], len: usize, what: &'static str) -> Result<(), AppendError> {
    let ordered = ends.windows(2).all(|pair| pair[0] <= pair[1]);
    let last = ends.last().copied().unwrap_or(0);
    if ordered && last as usize == len { Ok(()) } else { Err(AppendError::Invalid { what }) }
}
