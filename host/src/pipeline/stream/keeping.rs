//! State on its way: what slices have changed and no outcome carries, what outcomes carry and the store has not applied, and
//! what it has applied and a crash could take from it.
//!
//! A slice sees all of it, the newest first. The journal keeps every outcome whose changes are not durable in the store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use wasmill_buffer::Position;
use wasmill_state::{Layer, TableUse};

use super::{COMMIT_RETRY_MAX, RETRY_AFTER, StreamTask};
use crate::pipeline::sources::with_causes;
use crate::pipeline::state::{StateBelow, StateTrouble, StreamState};
use crate::pipeline::stats::Pause;

/// What was applied is written and made durable after this time,
const WRITE_EVERY: Duration = Duration::from_secs(10);
/// or when the journal keeps so many bytes of it, of all streams,
const WRITE_BYTES: u64 = 128 << 20;
/// or when the stream's buffer, or that of all streams, is full to this part, with whatever, or the journal from the oldest of
/// it on nears its bound: then as often as this.
const WRITE_FROM_PART: u64 = 4;
const WRITE_PRESSED_EVERY: Duration = Duration::from_secs(1);
/// Changes of several outcomes are applied at once up to this.
const APPLIED_BYTES: usize = 8 << 20;
/// Where clients wait for answers there are outcomes by the millisecond: those of this time are applied at once,
const APPLY_AFTER_DECIDING: Duration = Duration::from_millis(10);
/// or so many, as each slice looks through them.
const APPLY_FROM_DECIDING: usize = 16;
/// Changes of durable outcomes that the store has not applied; past it no outcome is written.
const UNAPPLIED_BYTES_MAX: usize = 64 << 20;
/// The same by their number: each read of a slice looks through all of them.
const UNAPPLIED_MAX: usize = 256;

/// What a start could not give the store, as its disk was full.
#[derive(Default)]
pub(crate) struct StateBehind {
    /// Changes of outcomes that it could not apply, the oldest first.
    pub(crate) unapplied: Vec<(Position, Layer)>,
    /// The oldest outcome that it has applied and could not write.
    pub(crate) unwritten: Option<Position>,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Keeping {
    /// Of gathered slices.
    pending: Arc<Layer>,
    /// Of durable outcomes, the oldest first.
    unapplied: VecDeque<Unapplied>,
    /// The oldest outcome that was applied and may not be durable in the store, and since when there is one.
    unwritten: Option<Applied>,
    /// The same of those that were applied since a write began.
    unwritten_behind: Option<Applied>,
    apply: Option<Apply>,
    write: Option<Task<Option<u64>>>,
    /// The last write did not come through.
    write_failed: bool,
    failures: u32,
    retry: Option<Instant>,
}

struct Unapplied {
    at: Position,
    layer: Arc<Layer>,
    since: Instant,
}

#[derive(Clone, Copy)]
struct Applied {
    at: Position,
    since: Instant,
}

type Task<T> = JoinHandle<Result<T, StateTrouble>>;

struct Apply {
    /// So many of the oldest outcomes.
    outcomes: usize,
    task: Task<Vec<TableUse>>,
}

/// What the store has done, or not.
pub(super) enum Worked {
    Applied(Result<Vec<TableUse>, StateTrouble>),
    Written(Result<Option<u64>, StateTrouble>),
}

impl Keeping {
    /// What a start leaves to do.
    pub(super) fn of(behind: StateBehind) -> Keeping {
        let since = Instant::now();
        let unapplied = behind.unapplied.into_iter();
        Keeping {
            unapplied: unapplied.map(|(at, layer)| Unapplied { at, layer: Arc::new(layer), since }).collect(),
            unwritten: behind.unwritten.map(|at| Applied { at, since }),
            ..Keeping::default()
        }
    }

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
        let unapplied = self.unapplied.iter().rev().map(|unapplied| &unapplied.layer);
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
            self.unapplied.push_back(Unapplied { at, layer: Arc::clone(layer), since: Instant::now() });
        }
    }

    /// Whether more outcomes may be written.
    pub(super) fn has_room(&self) -> bool {
        self.unapplied.len() < UNAPPLIED_MAX
            && self.unapplied.iter().map(|unapplied| unapplied.layer.bytes()).sum::<usize>()
                < UNAPPLIED_BYTES_MAX
    }

    /// The oldest outcomes that the store has not applied, as many as are applied at once, and where the last of them is.
    fn next_applied(&self) -> Option<(Position, Vec<Arc<Layer>>)> {
        let (mut last, mut layers, mut bytes) = (None, Vec::new(), 0);
        for Unapplied { at, layer, .. } in &self.unapplied {
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
        let unapplied = self.unapplied.front().map(|unapplied| unapplied.at);
        let written = [self.unwritten, self.unwritten_behind].into_iter().flatten().map(|applied| applied.at);
        written.chain(unapplied).min()
    }

    /// Whether the store has applied every outcome.
    pub(super) fn is_applied(&self) -> bool {
        self.unapplied.is_empty()
    }

    /// Whether everything is durable in the store.
    pub(super) fn settled(&self) -> bool {
        self.needed_from().is_none() && !self.works()
    }

    /// When to try again, or to write what was applied, although nothing happened.
    fn due(&self) -> Option<Instant> {
        let retry = self.retry.filter(|_| !self.unapplied.is_empty() || self.unwritten.is_some());
        let write =
            self.unwritten.filter(|_| self.write.is_none()).map(|applied| applied.since + WRITE_EVERY);
        retry.or(write)
    }

    pub(super) fn works(&self) -> bool {
        self.apply.is_some() || self.write.is_some()
    }

    /// Waits for what the store is doing; the caller makes sure that it does something.
    pub(super) async fn done(&mut self) -> Worked {
        let applied = async {
            match &mut self.apply {
                Some(apply) => (&mut apply.task).await,
                None => std::future::pending().await,
            }
        };
        let written = async {
            match &mut self.write {
                Some(task) => task.await,
                None => std::future::pending().await,
            }
        };
        // A task that panicked is tried again, as after any failure.
        tokio::select! {
            biased;
            applied = applied => Worked::Applied(applied.unwrap_or(Err(StateTrouble::Panicked))),
            written = written => Worked::Written(written.unwrap_or(Err(StateTrouble::Panicked))),
        }
    }
}

impl StreamTask {
    /// Gives the store the next things to do, off this thread.
    pub(super) fn start_state_work(&mut self) {
        let now = Instant::now();
        if self.keeping.retry.is_some_and(|retry| now < retry) {
            return;
        }
        self.keeping.retry = None;
        if self.keeping.write.is_none() && self.write_is_due(now) {
            let context = Arc::clone(&self.context);
            self.keeping.write = Some(self.off_runtime(move || context.state.write_behind()));
        }
        if self.keeping.apply.is_some() || self.context.state.held().is_full() {
            return;
        }
        if self.apply_due().is_some_and(|at| now < at) {
            return;
        }
        let Some((at, layers)) = self.keeping.next_applied() else { return };
        let (context, outcomes) = (Arc::clone(&self.context), layers.len());
        let task = self.off_runtime(move || {
            let layers: Vec<&Layer> = layers.iter().map(Arc::as_ref).collect();
            context.state.apply(at.0, &layers)
        });
        self.keeping.apply = Some(Apply { outcomes, task });
    }

    /// When the outcomes that there are are applied, if more are waited for until then.
    fn apply_due(&self) -> Option<Instant> {
        let waits = self.context.decides
            && !self.drain.is_cancelled()
            && self.keeping.unapplied.len() < APPLY_FROM_DECIDING;
        self.keeping.unapplied.front().filter(|_| waits).map(|first| first.since + APPLY_AFTER_DECIDING)
    }

    /// When to look again although nothing happened.
    pub(super) fn state_due(&self) -> Option<Instant> {
        let may_apply = self.keeping.apply.is_none()
            && self.keeping.retry.is_none()
            && !self.context.state.held().is_full();
        let apply = self.apply_due().filter(|_| may_apply);
        [self.keeping.due(), apply].into_iter().flatten().min()
    }

    fn write_is_due(&self, now: Instant) -> bool {
        let Some(Applied { at, since }) = self.keeping.unwritten else { return false };
        if self.drain.is_cancelled() && self.keeping.unapplied.is_empty() && self.keeping.apply.is_none() {
            return true;
        }
        let (buffer, held) = (&self.context.buffer, self.context.state.held());
        let pressed = || {
            buffer.is_full_to(WRITE_FROM_PART)
                || buffer.buffered_bytes() > self.context.buffer_bytes_max / WRITE_FROM_PART
                || buffer.is_long_behind(at)
        };
        let bytes = WRITE_BYTES.min(self.context.buffer_bytes_max / WRITE_FROM_PART);
        now >= since + WRITE_EVERY
            || held.behind() >= bytes
            || held.presses()
            || now >= since + WRITE_PRESSED_EVERY && pressed()
    }

    fn off_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StateTrouble> + Send + 'static,
    ) -> Task<T> {
        let context = Arc::clone(&self.context);
        tokio::spawn(async move { context.off_runtime(work).await.unwrap_or(Err(StateTrouble::Panicked)) })
    }

    /// The store has done something, or not.
    pub(super) fn state_worked(&mut self, worked: Worked) {
        let keeping = &mut self.keeping;
        let failed = match worked {
            Worked::Applied(applied) => {
                let Some(Apply { outcomes, .. }) = keeping.apply.take() else { return };
                applied.map(|tables| {
                    let newer = keeping.write.is_some();
                    let unwritten =
                        if newer { &mut keeping.unwritten_behind } else { &mut keeping.unwritten };
                    for Unapplied { at, .. } in
                        keeping.unapplied.drain(..outcomes.min(keeping.unapplied.len()))
                    {
                        unwritten.get_or_insert_with(|| Applied { at, since: Instant::now() });
                    }
                    self.context.stats.keeps(tables);
                })
            }
            Worked::Written(written) => {
                keeping.write = None;
                let behind = keeping.unwritten_behind.take();
                // It may have more than what was applied when it began, and has nothing more where a table was emptied meanwhile.
                let has = |applied: &Applied, to: Option<u64>| to.is_some_and(|to| applied.at.0 <= to);
                keeping.write_failed = written.is_err();
                written
                    .map(|to| {
                        keeping.unwritten = match keeping.unwritten {
                            Some(applied) if !has(&applied, to) => Some(applied),
                            _ => behind,
                        };
                    })
                    .inspect_err(|_| keeping.unwritten = keeping.unwritten.or(behind))
            }
        };
        match failed {
            // What is applied to memory alone says nothing of the store.
            Ok(()) if keeping.write_failed => {}
            Ok(()) => {
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
