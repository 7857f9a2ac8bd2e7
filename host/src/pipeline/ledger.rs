//! Which sealed batches are not delivered yet, and what the journal must keep because of them.
//!
//! The checkpoint moves to the oldest outcome that an undelivered or an open batch still needs. Batches that were
//! delivered although an older outcome is still needed are remembered and written into the journal as marks, so
//! that a restart does not deliver them again.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wasmill_buffer::Position;

use super::commit::Ready;

/// What a checkpoint says beyond what the buffer needs.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CheckpointBody {
    /// Outcomes cover every offset below.
    pub(crate) processed: u64,
    /// Columns that were taken from a first batch, by the name of the output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) columns: BTreeMap<String, String>,
    /// The watermark of durable outcomes, of a stream that has event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) watermark: Option<i64>,
    /// The same of each source, of a stream with several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) watermarks: BTreeMap<String, i64>,
}

/// Batches delivered whose outcomes are still needed, as a journal entry.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) delivered: Vec<String>,
}

impl Mark {
    pub(crate) fn read(body: &[u8]) -> Result<Mark, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Per outcome: batch id and arrival of its oldest record.
    undelivered: BTreeMap<Position, BTreeMap<String, i64>>,
    /// Delivered, their outcomes still needed, no mark written.
    unmarked: Vec<(Position, String)>,
    /// Staged files of batches that are done, by output; a crash now would need them again.
    files: Vec<(usize, String)>,
}

impl Ledger {
    pub(crate) fn sealed(&mut self, ready: &Ready) {
        let batches = self.undelivered.entry(ready.at).or_default();
        batches.insert(ready.sealed.batch_id.clone(), ready.sealed.first_arrival);
    }

    /// The batch reached its destination or the dead letters.
    pub(crate) fn finished(&mut self, ready: &Ready) {
        if let Some(batches) = self.undelivered.get_mut(&ready.at) {
            batches.remove(&ready.sealed.batch_id);
            if batches.is_empty() {
                self.undelivered.remove(&ready.at);
            }
        }
        self.unmarked.push((ready.at, ready.sealed.batch_id.clone()));
        if ready.sealed.inline.is_none() {
            self.files.push((ready.sealed.key.output as usize, ready.sealed.staged.clone()));
        }
    }

    pub(crate) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Staged files that have served, for when it is durable that their batches are done.
    pub(crate) fn take_files(&mut self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.files)
    }

    /// That did not become durable.
    pub(crate) fn keep_files(&mut self, files: Vec<(usize, String)>) {
        self.files.extend(files);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.undelivered.is_empty()
    }

    /// The oldest outcome that an undelivered batch needs.
    pub(crate) fn oldest_outcome(&self) -> Option<Position> {
        self.undelivered.keys().next().copied()
    }

    /// Arrival of the oldest record that is sealed and not delivered.
    pub(crate) fn first_arrival(&self) -> Option<i64> {
        self.undelivered.values().flat_map(BTreeMap::values).min().copied()
    }

    /// Outcomes below `needed_from` are no longer needed: nobody will ask about their batches.
    pub(crate) fn settle(&mut self, needed_from: Position) {
        self.unmarked.retain(|(at, _)| *at >= needed_from);
    }

    /// The mark to write for batches that were delivered although older outcomes are needed, if there are any, and how many
    /// these are.
    pub(crate) fn mark(&self) -> Option<(Bytes, usize)> {
        if self.unmarked.is_empty() {
            return None;
        }
        let delivered = self.unmarked.iter().map(|(_, batch)| batch.clone()).collect();
        let mark = serde_json::to_vec(&Mark { delivered }).ok()?;
        Some((Bytes::from(mark), self.unmarked.len()))
    }

    /// A mark of so many is durable; what was delivered since is behind them.
    pub(crate) fn marked(&mut self, batches: usize) {
        self.unmarked.drain(..batches.min(self.unmarked.len()));
    }
}
