//! How far a replay is: plain numbers that its task writes and everybody may read.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a replay stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayState {
    #[default]
    Running,
    Done,
    Failed,
    Cancelled,
}

impl ReplayState {
    pub fn text(self) -> &'static str {
        match self {
            ReplayState::Running => "running",
            ReplayState::Done => "done",
            ReplayState::Failed => "failed",
            ReplayState::Cancelled => "cancelled",
        }
    }
}

/// See the head of this file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayProgress {
    pub id: String,
    pub stream: String,
    pub state: ReplayState,
    /// Why it failed, or what it tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub from: String,
    pub to: String,
    /// Arrival of the first record that is kept, where retention has let go of earlier ones and this is behind `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_from: Option<String>,
    /// Digests of the chain that runs.
    pub plugins: Vec<String>,
    /// Where the objects are.
    pub output: String,
    pub first_offset: u64,
    pub end_offset: u64,
    /// Everything before this offset has its verdict.
    pub next_offset: u64,
    pub records: u64,
    pub passed: u64,
    pub dropped: u64,
    pub failed: u64,
    pub emitted: u64,
    /// Emitted records in objects that are at the destination.
    pub delivered: u64,
    /// Objects that were made, and those that an earlier run of the same replay had made.
    pub objects: u64,
    pub objects_there: u64,
    /// Of both.
    pub raw_bytes: u64,
    pub bytes: u64,
    /// Offsets that could not be read: corrupt, or let go of by retention meanwhile.
    pub missing: u64,
    /// Failed records; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<PathBuf>,
}
