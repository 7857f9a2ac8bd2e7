//! Which sealed batches are not delivered yet, and what the journal must keep because of them.
//!
//! The checkpoint moves to the oldest outcome that an undelivered or an open batch still needs. Batches that were
//! delivered although an older outcome is still needed are remembered and written into the journal as marks, so
//! that a restart does not deliver them again; so are those whose staged file is to be removed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wasmill_buffer::Position;

use super::commit::Ready;

/// What a checkpoint says beyond what the buffer needs.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CheckpointBody {
    /// Outcomes cover every offset below.
    pub(crate) processed: u64,
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
    /// Delivered, no mark written.
    unmarked: Vec<Unmarked>,
}

#[derive(Debug)]
struct Unmarked {
    at: Position,
    batch_id: String,
    /// The staged file that has served.
    served: Option<PathBuf>,
}

impl Ledger {
    pub(crate) fn sealed(&mut self, ready: &Ready) {
        let batches = self.undelivered.entry(ready.at).or_default();
        batches.insert(ready.sealed.batch_id.clone(), ready.sealed.first_arrival);
    }

    /// The batch reached its destination or the dead letters, and its staged file has served.
    pub(crate) fn finished(&mut self, ready: &Ready, served: Option<PathBuf>) {
        if let Some(batches) = self.undelivered.get_mut(&ready.at) {
            batches.remove(&ready.sealed.batch_id);
            if batches.is_empty() {
                self.undelivered.remove(&ready.at);
            }
        }
        self.unmarked.push(Unmarked { at: ready.at, batch_id: ready.sealed.batch_id.clone(), served });
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

    /// Outcomes below `needed_from` are no longer needed: nobody will ask about their batches, unless a crash loses the
    /// checkpoint that says so, which is not synced by itself. Then the next start finds a staged file, or a mark.
    pub(crate) fn settle(&mut self, needed_from: Position) {
        self.unmarked.retain(|batch| batch.at >= needed_from || batch.served.is_some());
    }

    /// The mark to write for batches that were delivered, if there are any that need one.
    pub(crate) fn mark(&self) -> Option<Bytes> {
        if self.unmarked.is_empty() {
            return None;
        }
        let delivered = self.unmarked.iter().map(|batch| batch.batch_id.clone()).collect();
        serde_json::to_vec(&Mark { delivered }).ok().map(Bytes::from)
    }

    /// That mark is durable: the staged files of its batches, which nobody needs any more.
    pub(crate) fn marked(&mut self) -> Vec<PathBuf> {
        self.unmarked.drain(..).filter_map(|batch| batch.served).collect()
    }
}
