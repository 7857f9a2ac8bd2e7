//! What a run has gone through, so that a test can tell that it has simulated something.

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) trace: u64,
    /// Operations of the disk in the first life.
    pub(super) operations: u64,
    pub(super) crashes: u64,
    pub(super) acknowledged: u64,
    pub(super) objects: u64,
    pub(super) staged: u64,
    pub(super) letters: u64,
    /// Records that the state has counted.
    pub(super) counted: u64,
    /// Those of them that ran in strands.
    pub(super) in_strands: u64,
    pub(super) late: u64,
    /// Lives that began with a watermark.
    pub(super) resumed: u64,
    /// Those that had an early receipt and did not become durable.
    pub(super) voided: u64,
    pub(super) restored: bool,
}
