//! What becomes of rows: identity and destination of those that leave, verdicts of the records they came from.

use std::sync::Arc;

/// The input row of a row that has none (made by `fresh`).
pub const NO_INPUT: u32 = u32::MAX;

/// Partition names and values, in the order in which the row first got them. Empty for most rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partition {
    pub values: Vec<(Arc<str>, Vec<u8>)>,
}

/// Identity and destination of a row that leaves.
#[derive(Clone, Copy, Debug)]
pub struct RowMeta<'a> {
    /// Of the record that it came from; -1 for a fresh row.
    pub offset: i64,
    /// Position among the rows that leave of the same record (or among the fresh rows of the chunk).
    pub child: u32,
    /// Nanoseconds since the epoch.
    pub arrival: i64,
    /// The number that a plugin routed it to; 0 = default output.
    pub route: u32,
    pub partition: &'a Partition,
    pub key: Option<&'a [u8]>,
}

/// Takes the rows that leave. The caller gathers them per output and partition.
pub trait RowSink {
    /// The buffer to which the chunk appends the payload of the row.
    fn begin(&mut self, row: &RowMeta<'_>) -> &mut Vec<u8>;
    /// The payload is complete.
    fn end(&mut self, row: &RowMeta<'_>);
}

/// What outputs ask of the rows that leave, besides being JSON.
pub trait RowCheck {
    /// Why this row is not what the output behind this route takes.
    ///
    /// # Errors
    /// The reason, for people.
    fn check(&mut self, route: u32, row: &[u8]) -> Result<(), String>;
}

/// Why a record failed. One per record, with the first reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Counted from the first row that was put into the chunk; [`NO_INPUT`] for a fresh row.
    pub input_row: u32,
    /// -1 for a fresh row.
    pub offset: i64,
    /// Which of the rows of the record failed.
    pub child: u32,
    /// Place in the chain; the number of transforms if it failed after the last one.
    pub transform: usize,
    /// The number of the output that the row was on its way to; 0 = default output.
    pub route: u32,
    /// At most 1 KiB.
    pub reason: String,
    /// Of a fresh row, which no input has: its bytes as the transform read it that failed it. Where it failed in the turn that
    /// made it, as it was made. Empty for all others.
    pub payload: Vec<u8>,
}

/// What became of the records of a chunk: in = passed + dropped + failed (failures without fresh rows).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Records of which at least one row leaves.
    pub passed: u64,
    /// Records of which no row leaves and none failed.
    pub dropped: u64,
    pub failed: Vec<Failure>,
    /// Rows that leave, fresh ones included.
    pub emitted: u64,
    /// Bytes of these rows.
    pub bytes: u64,
}
