//! State on its way: what slices have changed and no outcome carries, what outcomes carry and the store has not applied, and
//! what it has applied and a crash could take from it.
//!
//! A slice sees all of it, the newest first. The journal keeps every outcome whose changes are not durable in the store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use wasmill_buffer::Position;
use wasmill_state::{Layer, TableUse};

use super::{COMMIT_RETRY_MAX, RETRY_AFTER, StreamTask};
use crate::pipeline::sources::with_causes;
use crate::pipeline::state::{StateBelow, StateTrouble, StreamState};
use crate::pipeline::stats::Pause;

/// What was applied is made durable after this time,
const PERSIST_EVERY: Duration = Duration::from_secs(2);
/// or when so much of all streams was.
const PERSIST_BYTES: u64 = 16 << 20;
/// Changes of several outcomes are applied at once up to this.
const APPLIED_BYTES: usize = 8 << 20;
/// Changes of durable outcomes that the store has not applied; past it no outcome is written.
const UNAPPLIED_BYTES_MAX: usize = 64 << 20;
/// The same by their number: each read of a slice looks through all of them.
const UNAPPLIED_MAX: usize = 256;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Keeping {
    /// Of gathered slices.
    pending: Arc<Layer>,
    /// Of durable outcomes, the oldest first.
    unapplied: VecDeque<(Position, Arc<Layer>)>,
    /// The oldest outcome that was applied and may not be durable in the store, and since when there is one.
    unpersisted: Option<(Position, Instant)>,
    work: Option<Work>,
    failures: u32,
    retry: Option<Instant>,
}

struct Work {
    /// So many of the oldest outcomes are applied; with none, what was applied is made durable.
    applies: usize,
    task: JoinHandle<Result<Vec<TableUse>, StateTrouble>>,
}

impl Keeping {
    /// What a slice has changed.
    pub(super) fn gather(&mut self, layer: Layer) {
        // Nobody else has it: the next slice is started after this.
        Arc::make_mut(&mut self.pending).add(layer);
    }

    /// What no outcome carries is forgotten.
    pub(super) fn withdraw(&mut self) {
        self.pending = Arc::default();
    }

    /// What the next slice sees, while the changes in `committing` are on their way.
    pub(super) fn below(&self, committing: Option<&Arc<Layer>>, stream: &Arc<StreamState>) -> StateBelow {
        let unapplied = self.unapplied.iter().rev().map(|(_, layer)| layer);
        let layers = std::iter::once(&self.pending).chain(committing).chain(unapplied);
        StateBelow { layers: layers.cloned().collect(), stream: Arc::clone(stream) }
    }

    /// For the next outcome.
    pub(super) fn take_pending(&mut self) -> Arc<Layer> {
        std::mem::take(&mut self.pending)
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// An outcome is durable.
    pub(super) fn durable(&mut self, at: Position, layer: &Arc<Layer>) {
        if !layer.is_empty() {
            self.unapplied.push_back((at, Arc::clone(layer)));
        }
    }

    /// Whether more outcomes may be written.
    pub(super) fn has_room(&self) -> bool {
        self.unapplied.len() < UNAPPLIED_MAX
            && self.unapplied.iter().map(|(_, layer)| layer.bytes()).sum::<usize>() < UNAPPLIED_BYTES_MAX
    }

    /// The oldest outcomes that the store has not applied, as many as are applied at once, and where the last of them is.
    fn next_applied(&self) -> Option<(Position, Vec<Arc<Layer>>)> {
        let (mut last, mut layers, mut bytes) = (None, Vec::new(), 0);
        for (at, layer) in &self.unapplied {
            if !layers.is_empty() && bytes + layer.bytes() > APPLIED_BYTES {
                break;
            }
            bytes += layer.bytes();
            layers.push(Arc::clone(layer));
            last = Some(*at);
        }
        last.map(|at| (at, layers))
    }

    /// The oldest outcome that the journal must keep for the store.
    pub(super) fn needed_from(&self) -> Option<Position> {
        let unapplied = self.unapplied.front().map(|(at, _)| *at);
        self.unpersisted.map(|(at, _)| at).or(unapplied)
    }

    /// Whether everything is durable in the store.
    pub(super) fn settled(&self) -> bool {
        self.unapplied.is_empty() && self.unpersisted.is_none() && self.work.is_none()
    }

    /// When to look again although nothing happened.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.work.is_some() {
            return None;
        }
        let retry = self.retry.filter(|_| !self.unapplied.is_empty() || self.unpersisted.is_some());
        retry.or(self.unpersisted.map(|(_, since)| since + PERSIST_EVERY))
    }

    pub(super) fn works(&self) -> bool {
        self.work.is_some()
    }

    /// Waits for what the store is doing; the caller makes sure that it does something.
    pub(super) async fn done(&mut self) -> Result<Result<Vec<TableUse>, StateTrouble>, JoinError> {
        match &mut self.work {
            Some(work) => (&mut work.task).await,
            None => std::future::pending().await,
        }
    }
}

impl StreamTask {
    /// Gives the store the next thing to do, off this thread.
    pub(super) fn start_state_work(&mut self) {
        let (now, keeping) = (Instant::now(), &mut self.keeping);
        if keeping.work.is_some() || keeping.retry.is_some_and(|retry| now < retry) {
            return;
        }
        let hurry = self.drain.is_cancelled();
        let behind = || self.context.state.behind() >= PERSIST_BYTES;
        let due = keeping.unpersisted.is_some_and(|(_, since)| now >= since + PERSIST_EVERY || behind());
        let idle = hurry && keeping.unapplied.is_empty() && keeping.unpersisted.is_some();
        let context = Arc::clone(&self.context);
        let (applies, task) = if due || idle {
            let persist = move || context.state.persist().map(|()| Vec::new());
            let context = Arc::clone(&self.context);
            (0, tokio::spawn(async move { context.off_runtime(persist).await }))
        } else if let Some((at, layers)) = keeping.next_applied() {
            let count = layers.len();
            let apply = move || {
                let layers: Vec<&Layer> = layers.iter().map(Arc::as_ref).collect();
                context.state.apply(at.0, &layers)
            };
            let context = Arc::clone(&self.context);
            (count, tokio::spawn(async move { context.off_runtime(apply).await }))
        } else {
            return;
        };
        let task = tokio::spawn(async move {
            match task.await {
                Ok(Ok(done)) => done,
                // It is tried again, as after any failure.
                Ok(Err(_)) | Err(_) => Err(StateTrouble::Panicked),
            }
        });
        keeping.work = Some(Work { applies, task });
    }

    /// The store has done it, or not.
    pub(super) fn state_worked(&mut self, result: Result<Result<Vec<TableUse>, StateTrouble>, JoinError>) {
        let Some(work) = self.keeping.work.take() else { return };
        let keeping = &mut self.keeping;
        match result.unwrap_or(Err(StateTrouble::Panicked)) {
            Ok(tables) => {
                if work.applies > 0 {
                    for (at, _) in keeping.unapplied.drain(..work.applies.min(keeping.unapplied.len())) {
                        keeping.unpersisted.get_or_insert_with(|| (at, Instant::now()));
                    }
                    self.context.stats.keeps(tables);
                } else {
                    keeping.unpersisted = None;
                }
                (keeping.failures, keeping.retry) = (0, None);
                if self.context.stats.resume(Pause::State) {
                    tracing::info!(stream = %self.context.label(), "state is stored again, stream goes on");
                }
            }
            Err(error) => {
                keeping.failures += 1;
                let wait =
                    RETRY_AFTER.saturating_mul(1 << (keeping.failures - 1).min(8)).min(COMMIT_RETRY_MAX);
                keeping.retry = Some(Instant::now() + wait);
                let reason = format!("state cannot be stored: {}", with_causes(&error));
                if self.context.stats.pause(Pause::State, &reason) {
                    tracing::error!(
                        stream = %self.context.label(), reason, failures = keeping.failures,
                        "changes of state stay in the journal, trying again; nothing is lost"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmill_state::{SliceState, TableId, TableSpec};

    use super::*;

    fn layer(value: &[u8]) -> Arc<Layer> {
        let mut state = SliceState::scratch(1);
        let table = state.table(&TableId::new("t", "a").unwrap(), TableSpec::default());
        state.put(table, 0, b"k", Some(value)).unwrap();
        Arc::new(state.finish())
    }

    #[test]
    fn outcomes_that_the_store_has_not_applied_are_bounded_by_bytes_and_by_number() {
        let mut keeping = Keeping::default();
        let (mut at, small) = (0, layer(b""));
        while keeping.has_room() {
            keeping.durable(Position(at), &small);
            at += 1;
        }
        assert_eq!((keeping.unapplied.len(), keeping.needed_from()), (UNAPPLIED_MAX, Some(Position(0))));
        let all = keeping.next_applied().map(|(at, layers)| (at, layers.len()));
        assert_eq!(all, Some((Position(at - 1), UNAPPLIED_MAX)));
        let (mut keeping, large) = (Keeping::default(), layer(&vec![0; 1 << 20]));
        let mut at = 0;
        while keeping.has_room() {
            keeping.durable(Position(at), &large);
            at += 1;
        }
        assert_eq!(keeping.unapplied.len(), 64);
        let some = keeping.next_applied().map(|(at, layers)| (at, layers.len()));
        assert_eq!(some, Some((Position(6), 7)));
        // One that changes nothing asks nothing of the store.
        let mut keeping = Keeping::default();
        keeping.durable(Position(0), &Arc::default());
        assert!(keeping.settled() && keeping.needed_from().is_none());
    }
}
