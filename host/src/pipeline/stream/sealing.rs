//! Batches that are encoded beside the commits, of a stream whose clients wait for answers.
//!
//! An outcome that seals a large batch comes when that is encoded, and with it whatever else it makes durable. So such a batch is
//! set aside when it is due: the commit of that moment carries its rows like those of an open batch, a worker encodes it
//! meanwhile, and a commit after that only names it. Recovery takes the rows of a batch that no outcome names for those of an
//! open one, and forgets them up to the last one when an outcome does; so of one key (of one output, where its destination
//! takes batches in order) they are named in the order in which they were due.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use wasmill_buffer::Position;

use crate::pipeline::batch::OpenBatch;
use crate::pipeline::context::StreamContext;
use crate::pipeline::due::Due;
use crate::pipeline::outcome::BatchKey;

/// Rows of batches that are set aside; past it commits wait for them.
const ASIDE_BYTES_MAX: u64 = 64 << 20;
/// The same by number.
const ASIDE_MAX: usize = 64;

/// A batch that is set aside.
pub(super) struct Aside {
    pub(super) due: Arc<Due>,
    /// The oldest outcome that carries rows of it, or an earlier position.
    pub(super) needs_from: Position,
    /// What keeps its order.
    place: BatchKey,
    encoded: Arc<AtomicBool>,
}

/// What the next commit does with batches that are due.
#[derive(Default)]
pub(super) struct Turn {
    /// It names these.
    pub(super) named: Vec<Aside>,
    /// It seals these.
    pub(super) sealed: Vec<(BatchKey, OpenBatch)>,
    /// It carries the rows of these.
    pub(super) set_aside: Vec<(BatchKey, OpenBatch)>,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Sealing {
    /// In the order in which they were due.
    aside: Vec<Aside>,
    news: Arc<Notify>,
}

impl Sealing {
    pub(super) fn is_empty(&self) -> bool {
        self.aside.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.aside.len()
    }

    /// Whether the next commit has one to name.
    pub(super) fn has_next(&self) -> bool {
        let mut held = HashSet::new();
        self.aside.iter().any(|aside| aside.is_next(&mut held))
    }

    /// Waits until another batch is encoded.
    pub(super) async fn encoded(&self) {
        self.news.notified().await;
    }

    /// The oldest outcome that some batch needs.
    pub(super) fn needed_from(&self) -> Option<Position> {
        self.aside.iter().map(|aside| aside.needs_from).min()
    }

    /// Arrival of the oldest record.
    pub(super) fn first_arrival(&self) -> Option<i64> {
        self.aside.iter().map(|aside| aside.due.batch.first_arrival).min()
    }

    /// Shares out batches that are `due`. `all`: nothing is left over, and the commit waits for what is being encoded.
    pub(super) fn turn(
        &mut self,
        context: &StreamContext,
        due: Vec<(BatchKey, OpenBatch)>,
        all: bool,
    ) -> Turn {
        let is_large = |(key, batch): &(BatchKey, OpenBatch)| {
            batch.raw_bytes > context.outputs[key.output as usize].seal.inline_bytes_max
        };
        let bytes =
            |batches: &[(BatchKey, OpenBatch)]| batches.iter().map(|(_, batch)| batch.raw_bytes).sum::<u64>();
        let before = self.aside.iter().map(|aside| aside.due.batch.raw_bytes).sum::<u64>();
        let is_much = self.len() + due.len() > ASIDE_MAX || before + bytes(&due) > ASIDE_BYTES_MAX;
        let may_set_aside = context.decides && !all && (!is_much || self.is_empty());
        if !may_set_aside {
            return Turn { named: std::mem::take(&mut self.aside), sealed: due, ..Turn::default() };
        }
        let mut turn = Turn::default();
        // Places at which a batch stays aside: no later one may pass it.
        let mut held = HashSet::new();
        for aside in std::mem::take(&mut self.aside) {
            #[cfg(test)]
            if context.mutant == crate::pipeline::simulation::Mutant::AsidePassed {
                held.clear();
            }
            match aside.is_next(&mut held) {
                true => turn.named.push(aside),
                false => self.aside.push(aside),
            }
        }
        for batch in due {
            let place = place(context, &batch.0);
            #[cfg(test)]
            if context.mutant == crate::pipeline::simulation::Mutant::AsidePassed {
                held.clear();
            }
            if is_large(&batch) || held.contains(&place) {
                held.insert(place);
                turn.set_aside.push(batch);
            } else {
                turn.sealed.push(batch);
            }
        }
        turn
    }

    /// Has batches encoded whose rows the commit carries that begins now, behind `journal_end`.
    pub(super) fn begin(
        &mut self,
        context: &Arc<StreamContext>,
        batches: Vec<(BatchKey, OpenBatch)>,
        journal_end: Position,
    ) {
        for (key, batch) in batches {
            let needs_from = batch.oldest_outcome().unwrap_or(journal_end);
            let encoded = Arc::new(AtomicBool::new(false));
            let (done, news) = (Arc::clone(&encoded), Arc::clone(&self.news));
            let place = place(context, &key);
            let due = Due::begun(context, key, batch, move || {
                done.store(true, Ordering::Release);
                news.notify_one();
            });
            self.aside.push(Aside { due, needs_from, place, encoded });
        }
    }
}

impl Aside {
    /// Whether it can be named: it is encoded, and nothing before it is at a place that is `held`. Else it holds its own.
    fn is_next(&self, held: &mut HashSet<BatchKey>) -> bool {
        let is_next = self.encoded.load(Ordering::Acquire) && !held.contains(&self.place);
        if !is_next {
            held.insert(self.place.clone());
        }
        is_next
    }
}

/// What keeps its order.
fn place(context: &StreamContext, key: &BatchKey) -> BatchKey {
    match context.outputs[key.output as usize].destination.ordered() {
        true => BatchKey { output: key.output, partition: Vec::new() },
        false => key.clone(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;
    use crate::pipeline::batch::{Piece, Rows};

    fn aside(partition: &str, encoded: bool) -> Aside {
        let key = BatchKey { output: 0, partition: vec![("p".to_owned(), partition.to_owned())] };
        let rows = Rows::Pending(Bytes::from_static(b"x"));
        let piece = Piece { rows, records: 1, first_offset: 0, first_arrival: 0 };
        Aside {
            due: Due::new(key.clone(), OpenBatch::of(piece, Instant::now())),
            needs_from: Position::default(),
            place: key,
            encoded: Arc::new(AtomicBool::new(encoded)),
        }
    }

    #[test]
    fn batch_behind_one_of_its_place_that_is_not_encoded_is_nothing_to_commit_for() {
        let mut sealing = Sealing::default();
        assert!(!sealing.has_next());
        sealing.aside = vec![aside("a", false), aside("a", true)];
        assert!(!sealing.has_next(), "a commit would name nothing, and the next one would begin at once");
        sealing.aside.push(aside("b", true));
        assert!(sealing.has_next());
        sealing.aside = vec![aside("a", true), aside("a", false)];
        assert!(sealing.has_next());
    }
}
