//! What a caller can do wrong. [`Misuse`] traps the guest; [`OverLimit`] fails its call; nothing is applied.

use thiserror::Error;

/// A guest broke the contract of a call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misuse {
    #[error("a list of {got} rows where the chunk has {expected}")]
    Length { expected: usize, got: usize },
    #[error("column ends fall, or the last one is not the length of the data")]
    Ends,
    #[error("unknown state byte {state}")]
    State { state: u8 },
    #[error("unknown slot {slot}")]
    Slot { slot: u32 },
    #[error("row {row} of a chunk of {rows}")]
    Row { row: u32, rows: u32 },
    #[error("a chunk that was emitted, dropped or belongs to another call")]
    Handle,
    #[error("the chunk that the host handed in cannot be emitted")]
    EmitMain,
    #[error("more than {limit} rows derived")]
    TooManyRows { limit: u32 },
    #[error("more than {limit} names of attributes or partitions")]
    TooManyNames { limit: usize },
    #[error("more than {limit} bytes written")]
    TooLarge { limit: usize },
}

/// The result of a call would be larger than the limit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OverLimit {
    #[error("output of more than {limit} bytes")]
    Bytes { limit: usize },
    #[error("output of more than {limit} rows")]
    Rows { limit: u32 },
}

/// The declared fields cannot be laid out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    #[error("transform {transform}, slot {slot}: an empty path")]
    EmptyPath { transform: usize, slot: usize },
    #[error("transform {transform}, slot {slot}: a path deeper than {limit}")]
    TooDeep { transform: usize, slot: usize, limit: usize },
    #[error("more than {limit} fields in the chain")]
    TooMany { limit: usize },
}
