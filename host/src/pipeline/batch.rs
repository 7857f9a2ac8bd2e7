//! Open batches: what each output and partition has gathered and not yet sealed.
//!
//! Rows arrive as pieces, one per slice. A piece stays in memory until an outcome that carries its bytes is
//! durable; past the memory bound such pieces are let go and read back from the journal when their batch is
//! sealed. Pieces that no outcome covers yet can be withdrawn all at once (a plugin version that fails too
//! much, a restart).

use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use wasmill_buffer::Position;

use super::outcome::BatchKey;

/// Value of every partition key beyond the bound on open partitions.
pub(crate) const OVERFLOW: &str = "_overflow";

/// Rows of one batch from one slice, framed for the output's format.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) rows: Rows,
    pub(crate) records: u64,
    pub(crate) first_offset: u64,
    pub(crate) first_arrival: i64,
}

/// Where the bytes of a piece are.
#[derive(Debug)]
pub(crate) enum Rows {
    /// In memory; in no durable outcome yet.
    Pending(Bytes),
    /// In the blobs of a durable outcome, perhaps in memory too.
    Durable { at: Position, blob: Range<usize>, memory: Option<Bytes> },
}

impl Piece {
    /// Bytes held in memory.
    fn held(&self) -> usize {
        match &self.rows {
            Rows::Pending(bytes) => bytes.len(),
            Rows::Durable { memory, .. } => memory.as_ref().map_or(0, Bytes::len),
        }
    }

    fn is_pending(&self) -> bool {
        matches!(self.rows, Rows::Pending(_))
    }
}

/// A batch that still gathers.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) raw_bytes: u64,
    pub(crate) records: u64,
    /// Of the oldest record.
    pub(crate) first_arrival: i64,
    pub(crate) opened: Instant,
}

impl OpenBatch {
    pub(crate) fn first_offset(&self) -> u64 {
        self.pieces.first().map_or(0, |piece| piece.first_offset)
    }

    /// The journal position of the oldest outcome that carries rows of this batch.
    pub(crate) fn oldest_outcome(&self) -> Option<Position> {
        self.pieces
            .iter()
            .filter_map(|piece| match &piece.rows {
                Rows::Durable { at, .. } => Some(*at),
                Rows::Pending(_) => None,
            })
            .min()
    }
}

/// When the batches of an output are sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealAt {
    /// Uncompressed bytes.
    pub(crate) size: u64,
    pub(crate) interval: std::time::Duration,
    pub(crate) max_partitions: usize,
}

/// All open batches of a stream.
#[derive(Debug)]
pub(crate) struct OpenBatches {
    rules: Vec<SealAt>,
    batches: HashMap<BatchKey, OpenBatch>,
    per_output: Vec<usize>,
    held: usize,
    pending: usize,
    /// Some batch has reached its size.
    full: bool,
    /// When the next batch is due by its interval, or earlier.
    due: Option<Instant>,
    /// Rows that went to an overflow partition.
    pub(crate) overflowed: u64,
}

impl OpenBatches {
    pub(crate) fn new(rules: Vec<SealAt>) -> OpenBatches {
        let per_output = vec![0; rules.len()];
        OpenBatches {
            rules,
            batches: HashMap::new(),
            per_output,
            held: 0,
            pending: 0,
            full: false,
            due: None,
            overflowed: 0,
        }
    }

    /// Adds a piece to the batch of `key`, opening one if there is none.
    pub(crate) fn add(&mut self, mut key: BatchKey, piece: Piece, now: Instant) {
        let output = key.output as usize;
        if !self.batches.contains_key(&key)
            && !key.partition.is_empty()
            && self.per_output[output] >= self.rules[output].max_partitions
        {
            for (_, value) in &mut key.partition {
                OVERFLOW.clone_into(value);
            }
            self.overflowed += piece.records;
        }
        self.held += piece.held();
        if piece.is_pending() {
            self.pending += piece.held();
        }
        let batch = self.batches.entry(key).or_insert_with(|| {
            self.per_output[output] += 1;
            let due = now + self.rules[output].interval;
            self.due = Some(self.due.map_or(due, |known| known.min(due)));
            OpenBatch { pieces: Vec::new(), raw_bytes: 0, records: 0, first_arrival: i64::MAX, opened: now }
        });
        batch.raw_bytes += match &piece.rows {
            Rows::Pending(bytes) => bytes.len() as u64,
            Rows::Durable { blob, .. } => blob.len() as u64,
        };
        self.full |= batch.raw_bytes >= self.rules[output].size;
        batch.records += piece.records;
        batch.first_arrival = batch.first_arrival.min(piece.first_arrival);
        batch.pieces.push(piece);
    }

    /// Drops the open batch of `key`: a later outcome has sealed it.
    pub(crate) fn forget(&mut self, key: &BatchKey) {
        if let Some(batch) = self.batches.remove(key) {
            self.per_output[key.output as usize] -= 1;
            self.held -= batch.pieces.iter().map(Piece::held).sum::<usize>();
        }
    }

    /// Whether some batch has reached its size.
    pub(crate) fn any_full(&self) -> bool {
        self.full
    }

    /// When the next batch is due by its interval; exact after each `take_due`, else it may be early.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes out every batch that is due: full, old enough, or all of them.
    pub(crate) fn take_due(&mut self, now: Instant, all: bool) -> Vec<(BatchKey, OpenBatch)> {
        let rules = &self.rules;
        let mut due: Vec<_> = self
            .batches
            .extract_if(|key, batch| {
                let rule = &rules[key.output as usize];
                all || batch.raw_bytes >= rule.size || now >= batch.opened + rule.interval
            })
            .collect();
        // Outputs are told apart by number and batches by offset: the same order on every run.
        due.sort_by(|a, b| (a.1.first_offset(), &a.0).cmp(&(b.1.first_offset(), &b.0)));
        for (key, batch) in &due {
            self.per_output[key.output as usize] -= 1;
            for piece in &batch.pieces {
                self.held -= piece.held();
                if piece.is_pending() {
                    self.pending -= piece.held();
                }
            }
        }
        let left = self.batches.iter();
        self.due = left.map(|(key, batch)| batch.opened + rules[key.output as usize].interval).min();
        self.full = false;
        due
    }

    /// Pieces that no outcome carries yet, for the outcome that is being written.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (&BatchKey, &Piece, &Bytes)> {
        self.batches.iter().flat_map(|(key, batch)| {
            batch.pieces.iter().filter_map(move |piece| match &piece.rows {
                Rows::Pending(bytes) => Some((key, piece, bytes)),
                Rows::Durable { .. } => None,
            })
        })
    }

    /// The outcome at `at` is durable and carries every pending piece whose first offset lies below `to`;
    /// `blobs` gives the range of each in the order of `pending`. Keeps at most `memory` bytes.
    pub(crate) fn made_durable(
        &mut self,
        at: Position,
        blobs: &HashMap<(BatchKey, u64), Range<usize>>,
        memory: usize,
    ) {
        let mut over = self.held.saturating_sub(memory);
        for (key, batch) in &mut self.batches {
            for piece in &mut batch.pieces {
                if let Rows::Pending(bytes) = &piece.rows
                    && let Some(blob) = blobs.get(&(key.clone(), piece.first_offset))
                {
                    self.pending -= bytes.len();
                    piece.rows = Rows::Durable { at, blob: blob.clone(), memory: Some(bytes.clone()) };
                }
                if over > 0
                    && let Rows::Durable { memory, .. } = &mut piece.rows
                    && let Some(bytes) = memory.take()
                {
                    over = over.saturating_sub(bytes.len());
                    self.held -= bytes.len();
                }
            }
        }
    }

    /// Withdraws every piece from `floor` on that no outcome carries.
    pub(crate) fn withdraw_pending(&mut self, floor: u64) {
        self.batches.retain(|key, batch| {
            batch.pieces.retain(|piece| {
                if let Rows::Pending(bytes) = &piece.rows
                    && piece.first_offset >= floor
                {
                    self.held -= bytes.len();
                    self.pending -= bytes.len();
                    batch.raw_bytes -= bytes.len() as u64;
                    batch.records -= piece.records;
                    return false;
                }
                true
            });
            if batch.pieces.is_empty() {
                self.per_output[key.output as usize] -= 1;
            }
            !batch.pieces.is_empty()
        });
    }

    /// Bytes of rows that no outcome carries.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Rows that wait for the output with this number.
    pub(crate) fn records(&self, output: u32) -> u64 {
        self.batches.iter().filter(|(key, _)| key.output == output).map(|(_, batch)| batch.records).sum()
    }

    pub(crate) fn oldest_outcome(&self) -> Option<Position> {
        self.batches.values().filter_map(OpenBatch::oldest_outcome).min()
    }

    pub(crate) fn first_arrival(&self) -> Option<i64> {
        self.batches.values().map(|batch| batch.first_arrival).min()
    }
}
