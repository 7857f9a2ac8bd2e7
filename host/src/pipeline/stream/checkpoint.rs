//! What a stream looks after now and then: the checkpoint, staged files that have served, counters that others read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use wasmill_buffer::{AppendError, EntryKind, Position};

use super::{CHECKPOINT_RIDES_MAX, EXPIRE_EVERY, LOOK_AFTER_EVERY, Reached, StreamError, StreamTask};
use crate::pipeline::context::StreamContext;
use crate::pipeline::event_time::NO_TIME;
use crate::pipeline::ledger::CheckpointBody;
use crate::pipeline::stats::wall_clock_ns;

/// A mark and a checkpoint on their way.
pub(super) struct Checkpointing {
    /// Batches of the mark.
    batches: usize,
    /// Nothing: a mark alone.
    said: Option<Said>,
    task: JoinHandle<Written>,
}

/// What a checkpoint says.
struct Said {
    next: (u64, Position),
    durable: bool,
    /// How far event time has come.
    reached: Option<Reached>,
    /// Outcomes of the stream that were durable.
    commits: u64,
    columns: BTreeMap<String, String>,
    /// Staged files that are removed once it is durable.
    files: Vec<(usize, String)>,
}

/// What became of both.
pub(super) struct Written {
    marked: bool,
    checkpoint: Result<(), AppendError>,
}

impl Checkpointing {
    /// How far event time has come, as it says.
    pub(super) fn reached(&self) -> Option<&Reached> {
        self.said.as_ref()?.reached.as_ref()
    }
}

impl StreamTask {
    /// The oldest outcome that is still needed.
    pub(super) fn entries_needed_from(&self) -> Position {
        let commit = self.commit.as_ref().map(|running| running.needs_from);
        #[cfg_attr(not(test), expect(unused_mut, reason = "a planted bug changes it"))]
        let mut undelivered = self.ledger.oldest_outcome();
        #[cfg(test)]
        if self.context.mutant == crate::pipeline::simulation::Mutant::CheckpointBeforeDelivery {
            undelivered = None;
        }
        let replay = self.replay.as_ref().map(|running| running.needs_from);
        #[cfg_attr(not(test), expect(unused_mut, reason = "a planted bug changes it"))]
        let mut state = self.keeping.needed_from();
        #[cfg(test)]
        if self.context.mutant == crate::pipeline::simulation::Mutant::StateLost {
            state = None;
        }
        #[cfg_attr(not(test), expect(unused_mut, reason = "a planted bug changes it"))]
        let mut aside = self.sealing.needed_from();
        #[cfg(test)]
        if self.context.mutant == crate::pipeline::simulation::Mutant::AsideLost {
            aside = None;
        }
        let needed = [commit, replay, undelivered, state, self.open.oldest_outcome(), aside];
        // Where nothing is kept, nothing has to be said again because others have written meanwhile.
        needed.into_iter().flatten().min().unwrap_or_else(|| match self.context.buffer.has_entries() {
            true => self.context.buffer.journal_end(),
            false => self.checkpoint.1,
        })
    }

    /// Now and then: counters that others read, and what the buffer need not keep. What fails is tried again.
    /// Nothing may be let go of before the letters of earlier runs are kept.
    pub(super) fn look_after(&mut self, may_let_go: bool) {
        let now = Instant::now();
        if now < self.looked_after + LOOK_AFTER_EVERY {
            return;
        }
        self.looked_after = now;
        self.context.buffer.expire(wall_clock_ns());
        self.observe();
        self.expire_letters(now);
        // What has drained writes its last one.
        if !may_let_go || self.checkpointing.is_some() || self.drained() {
            return;
        }
        let next = (self.committed, self.entries_needed_from());
        // A quiet stream writes nothing that it could ride along with; without it, a crash much later would deliver
        // again what has long been taken away.
        let durable = self.riding_since.is_some_and(|since| now >= since + CHECKPOINT_RIDES_MAX);
        self.start_checkpoint(next, durable);
    }

    /// Now and then removes letters that are too old, off this thread.
    fn expire_letters(&mut self, now: Instant) {
        let Some(max_age) = self.context.letters_max_age else { return };
        if now < self.expired + EXPIRE_EVERY.min(max_age / 4) {
            return;
        }
        self.expired = now;
        let context = self.context.clone();
        drop(tokio::task::spawn_blocking(move || context.expire_letters(max_age)));
    }

    pub(super) async fn write_last_checkpoint(&mut self) -> Result<(), StreamError> {
        self.observe();
        let (stats, left) = (&self.context.stats, self.context.stats.unprocessed.get());
        if left > 0 {
            tracing::warn!(
                stream = %self.context.label(), records = left, paused = stats.paused(),
                "records are left for the next start"
            );
        }
        let next = (self.committed, self.entries_needed_from());
        self.start_checkpoint(next, true);
        let written = join(&mut self.checkpointing).await;
        self.checkpointed(written).map_err(StreamError::Checkpoint)
    }

    /// Writes a mark and a checkpoint, where they say anything new, beside whatever else the stream does: the disk may take its
    /// time. There is one at a time.
    fn start_checkpoint(&mut self, next: (u64, Position), durable: bool) {
        self.ledger.settle(next.1);
        let (mark, batches) = self.ledger.mark().unzip();
        // Files that have served wait for a durable checkpoint, whether or not it says anything else.
        let says = durable || self.checkpoint != next || self.ledger.has_files();
        if mark.is_none() && !says {
            return;
        }
        let (columns, reached) = (self.inferred_columns(), self.durable_clock());
        #[cfg_attr(not(test), expect(unused_mut, reason = "a planted bug changes it"))]
        let mut body = CheckpointBody {
            processed: next.0,
            columns: columns.clone(),
            watermark: reached.as_ref().map(|reached| reached.watermark).filter(|ns| *ns != NO_TIME),
            watermarks: reached.as_ref().map(Reached::by_source).unwrap_or_default(),
        };
        #[cfg(test)]
        if self.context.mutant == crate::pipeline::simulation::Mutant::WatermarkForgotten {
            (body.watermark, body.watermarks) = (None, BTreeMap::new());
        }
        let files = if durable { self.ledger.take_files() } else { Vec::new() };
        let said = says.then_some(Said {
            next,
            durable,
            reached,
            commits: self.context.stats.commits.get(),
            columns,
            files: files.clone(),
        });
        let (context, at) = (self.context.clone(), self.committed..self.committed);
        let task = tokio::spawn(async move {
            if let Some(mark) = mark
                && let Err(error) = context.buffer.entry(EntryKind::Mark, at, mark).await
            {
                return Written { marked: false, checkpoint: Err(error) };
            }
            if says {
                let body = serde_json::to_vec(&body).map(Bytes::from).unwrap_or_default();
                if let Err(error) = context.buffer.checkpoint(body, next.0, next.1, durable).await {
                    return Written { marked: true, checkpoint: Err(error) };
                }
                context.discard_files(files).await;
            }
            Written { marked: true, checkpoint: Ok(()) }
        });
        self.checkpointing = Some(Checkpointing { batches: batches.unwrap_or(0), said, task });
    }

    /// What became of it. An error is also told.
    pub(super) fn checkpointed(&mut self, written: Result<Written, JoinError>) -> Result<(), AppendError> {
        let Some(running) = self.checkpointing.take() else { return Ok(()) };
        let Ok(Written { marked, checkpoint }) = written else {
            tracing::error!(stream = %self.context.label(), "writing a checkpoint panicked, trying again");
            self.ledger.keep_files(running.said.map(|said| said.files).unwrap_or_default());
            return Err(AppendError::Closed);
        };
        if marked {
            self.ledger.marked(running.batches);
        }
        if let Err(error) = &checkpoint {
            tracing::warn!(
                stream = %self.context.label(), error = error as &dyn std::error::Error,
                "checkpoint refused, trying again"
            );
            self.ledger.keep_files(running.said.map(|said| said.files).unwrap_or_default());
            return checkpoint;
        }
        let Some(said) = running.said else { return Ok(()) };
        // An outcome that has become durable since says more.
        if said.commits == self.context.stats.commits.get() {
            self.clock_checkpointed(said.reached);
        }
        if said.durable {
            self.note_columns(&said.columns);
        }
        self.checkpoint = said.next;
        self.riding_since =
            if said.durable { None } else { self.riding_since.or_else(|| Some(Instant::now())) };
        Ok(())
    }

    /// Columns of outputs that took them from a first batch.
    fn inferred_columns(&self) -> BTreeMap<String, String> {
        let outputs = self.context.outputs.iter();
        let inferred = outputs.filter_map(|output| Some((output, output.columns.as_ref()?.inferred()?)));
        inferred.map(|(output, columns)| (output.name.clone(), columns.to_owned())).collect()
    }

    /// Outcomes need no longer carry them.
    fn note_columns(&self, noted: &BTreeMap<String, String>) {
        for output in self.context.outputs.iter().filter(|output| noted.contains_key(&output.name)) {
            output.columns.iter().for_each(|columns| columns.note());
        }
    }

    /// Copies what this task knows into the counters that others read.
    pub(super) fn observe(&self) {
        let stats = &self.context.stats;
        stats.unprocessed.set(self.context.buffer.durable_end().saturating_sub(self.committed));
        stats.open_batches.set((self.open.len() + self.sealing.len()) as u64);
        stats.overflowed.set(self.open.overflowed);
        stats.buffered_bytes.set(self.context.buffer.buffered_bytes());
        stats.retained_bytes.set(self.context.buffer.retained_bytes());
        stats.oldest_retained.store(self.context.buffer.oldest_retained().unwrap_or(0), Ordering::Relaxed);
        self.observe_clock();
        let open = [self.open.first_arrival(), self.sealing.first_arrival()].into_iter().flatten().min();
        stats.oldest_open_batch.store(open.unwrap_or(0), Ordering::Relaxed);
        let unread = self.context.buffer.oldest_arrival(self.gathered);
        let sealing = self.commit.as_ref().and_then(|running| running.first_arrival);
        let oldest = [open, sealing, self.ledger.first_arrival(), unread].into_iter().flatten().min();
        stats.oldest_undelivered.store(oldest.unwrap_or(0), Ordering::Relaxed);
    }
}

impl StreamContext {
    /// Removes staged files of batches that are done; until that was durable, a crash would have needed them again.
    async fn discard_files(self: &Arc<Self>, files: Vec<(usize, String)>) {
        if files.is_empty() {
            return;
        }
        let context = Arc::clone(self);
        let discarding = self.off_runtime(move || {
            for (output, file) in files {
                if let Err((path, error)) = context.outputs[output].staging.discard(&file) {
                    tracing::warn!(
                        stream = %context.label(), path = %path.display(), %error,
                        "staged object cannot be removed; the next start tries again"
                    );
                }
            }
        });
        if let Err(error) = discarding.await {
            tracing::error!(stream = %self.label(), %error, "removing staged objects panicked");
        }
    }
}

/// Waits for the one on its way; never ends without one.
pub(super) async fn join(running: &mut Option<Checkpointing>) -> Result<Written, JoinError> {
    match running {
        Some(running) => (&mut running.task).await,
        None => std::future::pending().await,
    }
}
