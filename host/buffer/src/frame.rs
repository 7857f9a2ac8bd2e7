//! A frame of records in memory.

use bytes::Bytes;

use crate::records::{Cells, Producer};

/// Consecutive records of a stream, as appended.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Journal position.
    pub position: u64,
    pub base_offset: u64,
    pub count: u32,
    /// Nanoseconds since 1970; never decreases from frame to frame of a stream.
    pub arrival: i64,
    pub arrival_deltas: Option<Vec<u32>>,
    pub payload: Bytes,
    pub ends: Vec<u32>,
    pub keys: Option<Cells>,
    pub attributes: Vec<(String, Cells)>,
    pub event_times: Option<Vec<i64>>,
    pub producer: Option<Producer>,
}

impl Frame {
    /// Offset behind the last record.
    pub fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }
}
