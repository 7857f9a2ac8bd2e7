//! Open batches: what each output and partition has gathered and not yet sealed.
//!
//! Rows arrive as pieces, one per slice. A piece stays in memory until an outcome that carries its bytes is
//! durable; past the memory bound such pieces are let go and read back from the journal when their batch is
//! sealed. Pieces that no outcome covers yet can be withdrawn all at once (a plugin version that fails too
//! much, a restart).

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use bytes::Bytes;
use tokio::time::Instant;
use wasmill_buffer::Position;

use super::outcome::BatchKey;

/// Up to this many raw bytes a batch is carried by its outcome: one sync less until it is visible.
pub(crate) const INLINE_BYTES_MAX: u64 = 256 << 10;
/// Value of every partition key beyond the bound on open partitions.
pub(crate) const OVERFLOW: &str = "_overflow";

/// Raw bytes of batches that one commit seals and that are small enough to travel in its outcome: an outcome is one
/// journal entry, and however many partitions are due at once, the entry stays far below what the journal takes.
const SMALL_SEALED_BYTES_MAX: u64 = 32 << 20;

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

    /// Bytes of its rows, wherever they are.
    fn bytes(&self) -> u64 {
        match &self.rows {
            Rows::Pending(bytes) => bytes.len() as u64,
            Rows::Durable { blob, .. } => blob.len() as u64,
        }
    }

    /// Its rows, while no outcome carries them.
    pub(crate) fn pending(&self) -> &[u8] {
        match &self.rows {
            Rows::Pending(bytes) => bytes,
            Rows::Durable { .. } => &[],
        }
    }

    fn is_pending(&self) -> bool {
        matches!(self.rows, Rows::Pending(_))
    }
}

/// A batch that still gathers.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    pub(crate) pieces: Vec<Gathered>,
    pub(crate) raw_bytes: u64,
    pub(crate) records: u64,
    /// Of the oldest record.
    pub(crate) first_arrival: i64,
    pub(crate) opened: Instant,
}

/// A piece of an open batch, for as long as it is there. Offsets do not tell pieces apart: several partitions whose
/// rows come from one record meet in the overflow partition.
pub(crate) type PieceId = u64;

/// A piece and what its batch knows about it.
#[derive(Debug)]
pub(crate) struct Gathered {
    id: PieceId,
    overflowed: bool,
    pub(crate) piece: Piece,
}

impl OpenBatch {
    fn new(now: Instant) -> OpenBatch {
        OpenBatch { pieces: Vec::new(), raw_bytes: 0, records: 0, first_arrival: i64::MAX, opened: now }
    }

    /// A batch of one piece that joins no other.
    pub(crate) fn of(piece: Piece, now: Instant) -> OpenBatch {
        OpenBatch {
            raw_bytes: piece.bytes(),
            records: piece.records,
            first_arrival: piece.first_arrival,
            opened: now,
            pieces: vec![Gathered { id: 0, overflowed: false, piece }],
        }
    }

    pub(crate) fn first_offset(&self) -> u64 {
        self.pieces.first().map_or(0, |first| first.piece.first_offset)
    }

    /// First offset of its last piece.
    pub(crate) fn last_offset(&self) -> u64 {
        self.pieces.iter().map(|gathered| gathered.piece.first_offset).max().unwrap_or(0)
    }

    /// Pieces that no outcome carries yet.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (PieceId, &Piece, &Bytes)> {
        self.pieces.iter().filter_map(|Gathered { id, piece, .. }| match &piece.rows {
            Rows::Pending(bytes) => Some((*id, piece, bytes)),
            Rows::Durable { .. } => None,
        })
    }

    /// The journal position of the oldest outcome that carries rows of this batch.
    pub(crate) fn oldest_outcome(&self) -> Option<Position> {
        self.pieces
            .iter()
            .filter_map(|gathered| match &gathered.piece.rows {
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
    /// Of a batch up to so many uncompressed bytes the outcome carries the object itself.
    pub(crate) inline_bytes_max: u64,
}

/// All open batches of a stream.
#[derive(Debug)]
pub(crate) struct OpenBatches {
    rules: Vec<SealAt>,
    /// Of each output and partition the batches that are not taken yet: one that gathers, and before it those that
    /// have reached their size while a commit was running.
    batches: BTreeMap<BatchKey, Vec<OpenBatch>>,
    per_output: Vec<usize>,
    held: usize,
    pending: usize,
    /// Rows of all open batches, wherever they are.
    raw: u64,
    next_id: PieceId,
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
            batches: BTreeMap::new(),
            per_output,
            held: 0,
            pending: 0,
            raw: 0,
            next_id: 0,
            full: false,
            due: None,
            overflowed: 0,
        }
    }

    /// Adds a piece to the batch of `key`, opening one if there is none; past the bound on open partitions, to the
    /// overflow partition.
    pub(crate) fn add(&mut self, mut key: BatchKey, piece: Piece, now: Instant) {
        let output = key.output as usize;
        let overflowed = !self.batches.contains_key(&key)
            && !key.partition.is_empty()
            && self.per_output[output] >= self.rules[output].max_partitions;
        if overflowed {
            for (_, value) in &mut key.partition {
                OVERFLOW.clone_into(value);
            }
            self.overflowed += piece.records;
        }
        self.put(key, piece, overflowed, now);
    }

    /// Adds a piece to the batch that its outcome names, whatever the bound is today: later outcomes know the batch
    /// by that key.
    pub(crate) fn restore(&mut self, key: BatchKey, piece: Piece, now: Instant) {
        self.put(key, piece, false, now);
    }

    fn put(&mut self, key: BatchKey, piece: Piece, overflowed: bool, now: Instant) {
        let output = key.output as usize;
        self.held += piece.held();
        if piece.is_pending() {
            self.pending += piece.held();
        }
        let rule = &self.rules[output];
        // Pieces of one slice may meet in the overflow partition with the same first offset, and that names a batch.
        let splits = key.partition.iter().all(|(_, value)| value != OVERFLOW);
        let batches = self.batches.entry(key).or_insert_with(|| {
            self.per_output[output] += 1;
            Vec::with_capacity(1)
        });
        if batches.last().is_none_or(|last| splits && last.raw_bytes >= rule.size) {
            let due = now + rule.interval;
            self.due = Some(self.due.map_or(due, |known| known.min(due)));
            batches.push(OpenBatch::new(now));
        }
        let Some(batch) = batches.last_mut() else { return };
        let bytes = piece.bytes();
        self.raw += bytes;
        batch.raw_bytes += bytes;
        self.full |= batch.raw_bytes >= rule.size;
        batch.records += piece.records;
        batch.first_arrival = batch.first_arrival.min(piece.first_arrival);
        batch.pieces.push(Gathered { id: self.next_id, overflowed, piece });
        self.next_id += 1;
    }

    /// Drops the pieces of `key` up to first offset `last`: a later outcome has sealed them.
    pub(crate) fn forget(&mut self, key: &BatchKey, last: u64) {
        let Some(batches) = self.batches.get_mut(key) else { return };
        for batch in batches.iter_mut() {
            batch.pieces.retain(|Gathered { piece, .. }| {
                let sealed = piece.first_offset <= last;
                if sealed {
                    self.held -= piece.held();
                    self.raw -= piece.bytes();
                    batch.raw_bytes -= piece.bytes();
                    batch.records -= piece.records;
                }
                !sealed
            });
        }
        batches.retain(|batch| !batch.pieces.is_empty());
        self.drop_empty();
    }

    /// The batch is no longer here.
    fn taken(&mut self, batch: &OpenBatch) {
        self.raw -= batch.raw_bytes;
        for Gathered { piece, .. } in &batch.pieces {
            self.held -= piece.held();
            if piece.is_pending() {
                self.pending -= piece.held();
            }
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

    /// Takes out batches that are due: full, old enough, or all of them; the oldest first. So many small ones that one
    /// outcome could not carry them stay, and are due at once.
    pub(crate) fn take_due(&mut self, now: Instant, all: bool) -> Vec<(BatchKey, OpenBatch)> {
        let rules = &self.rules;
        let is_due = |key: &BatchKey, batch: &OpenBatch| {
            let rule = &rules[key.output as usize];
            all || batch.raw_bytes >= rule.size || now >= batch.opened + rule.interval
        };
        // Outputs are told apart by number and batches by offset: the same order on every run.
        let order = |key: &BatchKey, batch: &OpenBatch| (batch.first_offset(), key.clone());
        let mut small = 0;
        let mut left = Vec::new();
        let mut due = Vec::new();
        for (key, batches) in &mut self.batches {
            due.extend(
                batches.extract_if(.., |batch| is_due(key, &*batch)).map(|batch| (key.clone(), batch)),
            );
        }
        due.sort_by_cached_key(|(key, batch)| order(key, batch));
        let fits = due.iter().position(|(_, batch)| {
            if batch.raw_bytes <= INLINE_BYTES_MAX {
                small += batch.raw_bytes;
            }
            small > SMALL_SEALED_BYTES_MAX
        });
        if let Some(fits) = fits {
            left = due.split_off(fits);
        }
        for (_, batch) in &due {
            self.taken(batch);
        }
        let more = !left.is_empty();
        for (key, batch) in left {
            // Taken from the front, they go back to the front, from the last to the first.
            self.batches.entry(key).or_default().push(batch);
        }
        self.drop_empty();
        let open = self.batches.iter();
        let next = open
            .filter_map(|(key, batches)| Some((key, batches.first()?)))
            .map(|(key, oldest)| oldest.opened + self.rules[key.output as usize].interval)
            .min();
        self.due = if more { Some(now) } else { next };
        self.full = more;
        due
    }

    /// Pieces that no outcome carries yet, for the outcome that is being written.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (&BatchKey, (PieceId, &Piece, &Bytes))> {
        self.batches.iter().flat_map(|(key, batches)| {
            batches.iter().flat_map(OpenBatch::pending).map(move |pending| (key, pending))
        })
    }

    /// Partitions without a batch are open no longer.
    fn drop_empty(&mut self) {
        let per_output = &mut self.per_output;
        self.batches.retain(|key, batches| {
            if batches.is_empty() {
                per_output[key.output as usize] -= 1;
            }
            !batches.is_empty()
        });
    }

    /// The outcome at `at` is durable and carries the pending pieces that `blobs` has the ranges of. Keeps at most
    /// `memory` bytes.
    pub(crate) fn made_durable(
        &mut self,
        at: Position,
        blobs: &HashMap<PieceId, Range<usize>>,
        memory: usize,
    ) {
        let mut over = self.held.saturating_sub(memory);
        for batch in self.batches.values_mut().flatten() {
            for Gathered { id, piece, .. } in &mut batch.pieces {
                if let Rows::Pending(bytes) = &piece.rows
                    && let Some(blob) = blobs.get(id)
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
        for batch in self.batches.values_mut().flatten() {
            batch.pieces.retain(|Gathered { overflowed, piece, .. }| {
                if let Rows::Pending(bytes) = &piece.rows
                    && piece.first_offset >= floor
                {
                    self.held -= bytes.len();
                    self.pending -= bytes.len();
                    self.raw -= bytes.len() as u64;
                    batch.raw_bytes -= bytes.len() as u64;
                    batch.records -= piece.records;
                    if *overflowed {
                        self.overflowed -= piece.records;
                    }
                    return false;
                }
                true
            });
        }
        self.batches.values_mut().for_each(|batches| batches.retain(|batch| !batch.pieces.is_empty()));
        self.drop_empty();
    }

    /// Bytes of the rows of all open batches, in memory or in the journal.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.raw
    }

    /// Bytes of rows that no outcome carries.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.values().map(Vec::len).sum()
    }

    /// Rows that wait for the output with this number.
    pub(crate) fn records(&self, output: u32) -> u64 {
        let of_output = self.batches.iter().filter(|(key, _)| key.output == output);
        of_output.flat_map(|(_, batches)| batches).map(|batch| batch.records).sum()
    }

    pub(crate) fn oldest_outcome(&self) -> Option<Position> {
        self.batches.values().flatten().filter_map(OpenBatch::oldest_outcome).min()
    }

    pub(crate) fn first_arrival(&self) -> Option<i64> {
        self.batches.values().flatten().map(|batch| batch.first_arrival).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const AN_HOUR: Duration = Duration::from_secs(3600);

    fn batches(max_partitions: usize) -> OpenBatches {
        OpenBatches::new(vec![SealAt {
            size: 1 << 30,
            interval: AN_HOUR,
            max_partitions,
            inline_bytes_max: INLINE_BYTES_MAX,
        }])
    }

    fn key(value: &str) -> BatchKey {
        BatchKey { output: 0, partition: vec![("country".into(), value.into())] }
    }

    fn piece(first_offset: u64, rows: &[u8]) -> Piece {
        let rows = Rows::Pending(Bytes::copy_from_slice(rows));
        Piece { rows, records: 1, first_offset, first_arrival: 1 }
    }

    fn blobs(open: &OpenBatches) -> (HashMap<PieceId, Range<usize>>, Vec<u8>) {
        let (mut at, mut body) = (HashMap::new(), Vec::new());
        for (_, (id, _, rows)) in open.pending() {
            at.insert(id, body.len()..body.len() + rows.len());
            body.extend_from_slice(rows);
        }
        (at, body)
    }

    #[test]
    fn pieces_of_one_record_that_meet_in_the_overflow_partition_keep_their_own_bytes() {
        let mut open = batches(1);
        let now = Instant::now();
        open.add(key("a"), piece(5, b"first"), now);
        open.add(key("b"), piece(5, b"second"), now);
        open.add(key("c"), piece(5, b"the third"), now);
        assert_eq!(open.overflowed, 2);
        let (at, body) = blobs(&open);
        open.made_durable(Position(64), &at, 0);
        let mut rows = Vec::new();
        for (_, batch) in open.take_due(now, true) {
            for Gathered { piece, .. } in batch.pieces {
                let Rows::Durable { blob, memory: None, .. } = piece.rows else { panic!("{piece:?}") };
                rows.push(body[blob].to_vec());
            }
        }
        assert_eq!(rows, [&b"second"[..], b"the third", b"first"]);
        assert_eq!((open.raw_bytes(), open.pending_bytes(), open.len()), (0, 0, 0));
    }

    /// Names of objects have it.
    #[test]
    fn batch_arrived_with_its_oldest_record() {
        let (mut open, now) = (batches(1), Instant::now());
        for first_arrival in [5, 3, 9] {
            open.add(key("a"), Piece { first_arrival, ..piece(0, b"row") }, now);
        }
        assert_eq!(open.take_due(now, true)[0].1.first_arrival, 3);
    }

    #[test]
    fn restored_batches_keep_their_keys_although_there_may_be_fewer_partitions_today() {
        let mut open = batches(1);
        let now = Instant::now();
        for value in ["a", "b", "c"] {
            open.restore(key(value), piece(0, b"row"), now);
        }
        open.forget(&key("b"), 0);
        assert_eq!((open.len(), open.overflowed, open.raw_bytes()), (2, 0, 6));
    }

    #[test]
    fn batch_that_is_full_is_closed_and_the_next_one_gathers() {
        let mut open = OpenBatches::new(vec![SealAt {
            size: 10,
            interval: AN_HOUR,
            max_partitions: 9,
            inline_bytes_max: INLINE_BYTES_MAX,
        }]);
        let now = Instant::now();
        for offset in 0..5 {
            open.add(key("a"), piece(offset, b"6bytes"), now);
        }
        assert!(open.any_full());
        assert_eq!((open.len(), open.raw_bytes()), (3, 30));
        let due = open.take_due(now, false);
        let offsets = due.iter().map(|(_, batch)| (batch.first_offset(), batch.last_offset()));
        assert_eq!(offsets.collect::<Vec<_>>(), [(0, 1), (2, 3)]);
        assert!(!open.any_full());
        assert_eq!((open.len(), open.raw_bytes(), open.pending_bytes()), (1, 6, 6));
        open.withdraw_pending(0);
        assert!(open.is_empty());
    }

    #[test]
    fn sealing_one_batch_of_a_partition_forgets_only_its_pieces() {
        let mut open = OpenBatches::new(vec![SealAt {
            size: 10,
            interval: AN_HOUR,
            max_partitions: 9,
            inline_bytes_max: INLINE_BYTES_MAX,
        }]);
        let now = Instant::now();
        for offset in 0..4 {
            open.restore(key("a"), piece(offset, b"6bytes"), now);
        }
        open.forget(&key("a"), 1);
        let left = open.take_due(now, true);
        let offsets =
            left.iter().map(|(_, batch)| (batch.first_offset(), batch.last_offset(), batch.raw_bytes));
        assert_eq!(offsets.collect::<Vec<_>>(), [(2, 3, 12)]);
        open.forget(&key("a"), 9);
        assert!(open.is_empty());
    }

    #[test]
    fn overflow_partition_is_never_split() {
        let mut open = OpenBatches::new(vec![SealAt {
            size: 1,
            interval: AN_HOUR,
            max_partitions: 1,
            inline_bytes_max: INLINE_BYTES_MAX,
        }]);
        let now = Instant::now();
        for value in ["a", "b", "c"] {
            open.add(key(value), piece(7, b"row"), now);
        }
        assert_eq!((open.len(), open.overflowed), (2, 2));
    }

    #[test]
    fn withdrawn_pieces_are_no_longer_counted_as_overflowed() {
        let mut open = batches(1);
        let now = Instant::now();
        open.add(key("a"), piece(0, b"kept"), now);
        open.add(key("b"), piece(9, b"withdrawn"), now);
        open.withdraw_pending(9);
        assert_eq!((open.len(), open.overflowed, open.raw_bytes(), open.pending_bytes()), (1, 0, 4, 4));
    }

    #[test]
    fn small_batches_that_no_outcome_could_carry_are_due_again_at_once() {
        let mut open = batches(10_000);
        let now = Instant::now();
        let rows = vec![b'x'; 200 << 10];
        for n in 0..400_u64 {
            open.add(key(&n.to_string()), piece(n, &rows), now);
        }
        let mut taken = Vec::new();
        while !open.is_empty() {
            let due = open.take_due(now, true);
            let bytes: u64 = due.iter().map(|(_, batch)| batch.raw_bytes).sum();
            assert!(!due.is_empty() && bytes <= SMALL_SEALED_BYTES_MAX);
            assert_eq!(open.next_due().is_some(), !open.is_empty());
            taken.extend(due.iter().map(|(_, batch)| batch.first_offset()));
        }
        assert_eq!(taken, (0..400).collect::<Vec<_>>());
    }
}
