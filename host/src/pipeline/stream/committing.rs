//! When a stream commits, what goes into the commit, and what follows from it: batches handed over, and noted when
//! they are done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::sealing::Turn;
use super::{
    COMMIT_RETRY_MAX, OPEN_BYTES_MEMORY, PENDING_BYTES_MAX, RETRY_AFTER, Running, StreamTask,
    UNDELIVERED_BYTES_MEMORY,
};
use crate::pipeline::commit::{Commit, CommitError, Committed, Ready};
use crate::pipeline::delivery::Finished;
use crate::pipeline::due::Due;
use crate::pipeline::outcome::{Letter, OpenRows};
use crate::pipeline::sources::with_causes;
use crate::pipeline::stats::Pause;

/// The shortest time in which results wait for others, to share an outcome, unless one is needed sooner.
const COMMIT_WAIT: Duration = Duration::from_secs(1);
/// The same where clients wait for answers: while the outcome of seconds is put together and written, nobody gets one.
const COMMIT_WAIT_DECIDING: Duration = Duration::from_millis(50);

impl StreamTask {
    pub(super) fn commit_due(&self, now: Instant) -> bool {
        let last = self.drain.is_cancelled() && self.intake_done();
        if self.gathered == self.committed {
            return (last && !(self.open.is_empty() && self.sealing.is_empty()))
                || self.sealing.has_next()
                || self.open.next_due().is_some_and(|due| now >= due)
                || self.pressed_by_open_batches();
        }
        if self.replay_waits.is_some() {
            return true;
        }
        let stale = self.uncommitted_since.is_some_and(|since| now >= since + self.commit_wait());
        last || stale
            || !self.answers.is_empty()
            || self.open.any_full()
            || self.sealing.has_next()
            || self.open.next_due().is_some_and(|due| now >= due)
            || self.uncommitted_bytes() >= PENDING_BYTES_MAX
            || self.pressed()
    }

    /// How long results may be without an outcome.
    pub(super) fn commit_wait(&self) -> Duration {
        if self.context.decides {
            return COMMIT_WAIT_DECIDING;
        }
        let intervals = self.context.outputs.iter().map(|output| output.seal.interval);
        intervals.min().unwrap_or_default().max(COMMIT_WAIT)
    }

    /// Rows, dead letters and changes of state that no outcome carries.
    pub(super) fn uncommitted_bytes(&self) -> usize {
        self.open.pending_bytes() + self.letter_bytes + self.keeping.pending_bytes()
    }

    /// Whether the buffer fills up, so that what may be let go of has to be: records that ran, by an outcome.
    pub(super) fn pressed(&self) -> bool {
        self.context.buffer.buffered_bytes() > self.context.buffer_bytes_max / 2
    }

    /// Whether it fills up with rows of batches that are not full, which nothing but sealing them takes away.
    pub(super) fn pressed_by_open_batches(&self) -> bool {
        self.pressed() && self.open.raw_bytes() > self.context.buffer_bytes_max / 4
    }

    pub(super) fn start_commit(&mut self) {
        let now = Instant::now();
        // What a replay changes of state lies behind the outcome before it, and before the next one.
        let replaying = self.replay.as_ref().is_some_and(|running| running.keeps_state);
        if self.commit.is_some() || replaying || !self.keeping.has_room() || !self.commit_due(now) {
            return;
        }
        let all = self.seals_all();
        let seen = (!self.gathered_is_durable()).then_some(self.voided);
        if seen.is_some() && !self.may_commit_with_records(now) {
            return;
        }
        // What seals batches waits for their records.
        let turn = match seen {
            Some(_) => Turn::default(),
            None => {
                let due = self.open.take_due(now, all);
                self.sealing.turn(&self.context, due, all)
            }
        };
        let journal_end = self.context.buffer.journal_end();
        let mut blobs = Vec::with_capacity(self.open.pending_bytes());
        let mut open = Vec::new();
        let mut pieces = Vec::new();
        // Those that are set aside come first: recovery puts rows behind one another as it finds them.
        let aside = turn.set_aside.iter();
        let aside = aside.flat_map(|(key, batch)| batch.pending().map(move |pending| (key, pending)));
        for (key, (id, piece, rows)) in aside.chain(self.open.pending()) {
            let start = blobs.len();
            blobs.extend_from_slice(rows);
            pieces.push(id);
            open.push(OpenRows {
                key: key.clone(),
                records: piece.records,
                first_offset: piece.first_offset,
                first_arrival: piece.first_arrival,
                blob: start..blobs.len(),
            });
        }
        let named = turn.named.iter().map(|aside| aside.needs_from);
        let oldest = turn.sealed.iter().filter_map(|(_, batch)| batch.oldest_outcome()).chain(named).min();
        let needs_from = oldest.unwrap_or(journal_end);
        let named = turn.named.into_iter().map(|aside| aside.due);
        let sealed = turn.sealed.into_iter().map(|(key, batch)| Due::new(key, batch));
        let due: Vec<Arc<Due>> = named.chain(sealed).collect();
        let first_arrival = due.iter().map(|due| due.batch.first_arrival).min();
        let rows = self.rows.clone();
        self.rows.fill(0);
        let commit = Arc::new(Commit {
            from: self.committed,
            to: self.gathered,
            chain: std::mem::take(&mut self.ran),
            counts: std::mem::take(&mut self.counts),
            rows,
            due,
            open,
            pieces,
            blobs,
            letters: self.letters_in_order(),
            replay: None,
            state: self.keeping.take_pending(),
            event_time: self.clock_commit(),
            seen,
        });
        self.letter_bytes = 0;
        let bytes = std::mem::take(&mut self.slice_bytes);
        self.uncommitted_since = None;
        let task = tokio::spawn(commit.clone().run(self.context.clone()));
        self.sealing.begin(&self.context, turn.set_aside, journal_end);
        let answers = std::mem::take(&mut self.answers);
        self.commit = Some(Running { commit, needs_from, first_arrival, answers, bytes, failures: 0, task });
    }

    /// Whether an outcome is due that waits until its records are durable.
    pub(super) fn commit_waits(&self) -> bool {
        let now = Instant::now();
        self.commit.is_none()
            && !self.gathered_is_durable()
            && self.commit_due(now)
            && !self.may_commit_with_records(now)
    }

    /// Whether the next outcome seals whatever there is.
    fn seals_all(&self) -> bool {
        (self.drain.is_cancelled() && self.intake_done()) || self.pressed_by_open_batches()
    }

    /// Whether an outcome may be written behind records that are not durable yet, and share their sync. It seals nothing: should
    /// the records be lost, it has not been.
    fn may_commit_with_records(&self, now: Instant) -> bool {
        self.context.buffer.voided() == self.voided
            && !self.seals_all()
            && !self.open.any_full()
            && !self.sealing.has_next()
            && self.open.next_due().is_none_or(|due| now < due)
    }

    /// As the store wants them: keys that grow, each there once.
    fn letters_in_order(&mut self) -> Vec<(Letter, Bytes)> {
        let mut letters = std::mem::take(&mut self.letters);
        letters.sort_by_key(|(letter, _)| (letter.offset, letter.child));
        // Rows that no record stands behind are numbered per chunk only.
        for (child, (letter, _)) in (0..).zip(letters.iter_mut().take_while(|(letter, _)| letter.offset < 0))
        {
            letter.child = child;
        }
        letters
    }

    pub(super) fn committed(&mut self, result: Result<Result<Committed, CommitError>, JoinError>) {
        let Some(running) = self.commit.take() else { return };
        let mut committed = match result {
            Ok(Ok(committed)) => committed,
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => CommitError::Worker,
                };
                if running.commit.seen.is_some_and(|seen| seen != self.context.buffer.voided()) {
                    // Its records are lost, and it with them: what ran is taken back next.
                    self.slice_bytes += running.bytes;
                    self.context.stats.resume(Pause::Commit);
                    return;
                }
                self.commit_again(running, &error);
                return;
            }
        };
        if self.context.stats.resume(Pause::Commit) {
            tracing::info!(stream = %self.context.label(), failures = running.failures, "commit succeeded, stream goes on");
        }
        self.committed = committed.to;
        self.keeping.durable(committed.at, &committed.state);
        self.clock_durable(committed.event_time.take());
        self.context.decisions.publish(running.answers);
        self.open.made_durable(committed.at, &committed.open, OPEN_BYTES_MEMORY);
        let stats = &self.context.stats;
        stats.commits.add(1);
        stats.processed.add(committed.counts.records);
        stats.passed.add(committed.counts.passed);
        stats.dropped.add(committed.counts.dropped);
        stats.failed.add(committed.counts.failed);
        stats.absorbed.add(committed.counts.absorbed);
        self.emitted(committed);
    }

    /// The rows of a durable outcome, and the batches that it sealed.
    pub(super) fn emitted(&mut self, committed: Committed) {
        let stats = &self.context.stats;
        stats.emitted.add(committed.counts.emitted);
        for (output, rows) in stats.outputs.iter().zip(&committed.rows) {
            output.emitted.add(*rows);
            output.pending.add(*rows);
        }
        for (output, refused) in committed.refused {
            let output = &stats.outputs[output as usize];
            output.pending.sub(refused);
            output.delivery_failed.add(refused);
        }
        for ready in committed.sealed {
            self.sealed(ready);
        }
    }

    /// The data directory does not take an outcome: the stream waits, and says so.
    pub(super) fn commit_again(&mut self, running: Running, error: &CommitError) {
        let failures = running.failures + 1;
        let wait = RETRY_AFTER.saturating_mul(1 << (failures - 1).min(8)).min(COMMIT_RETRY_MAX);
        let reason = format!("outcomes cannot be stored: {}", with_causes(error));
        tracing::error!(
            stream = %self.context.label(), reason, from = running.commit.from, to = running.commit.to, failures,
            wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            "commit failed, trying again; nothing is lost"
        );
        self.context.stats.commit_retries.add(1);
        self.context.stats.pause(Pause::Commit, &reason);
        let (commit, context) = (running.commit.clone(), self.context.clone());
        let task = tokio::spawn(async move {
            // Where its records are lost meanwhile it is, too, and who waits for them is told once it has come back.
            let lost = async {
                match commit.seen {
                    Some(seen) => context.buffer.early_past(None, None, seen).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = lost => {}
            }
            commit.run(context).await
        });
        self.commit = Some(Running { task, failures, ..running });
    }

    /// Queues a batch whose outcome is durable for its delivery task.
    pub(super) fn sealed(&mut self, mut ready: Ready) {
        let output = ready.sealed.key.output as usize;
        let counters = &self.context.stats.outputs[output];
        counters.undelivered_batches.add(1);
        counters.undelivered_bytes.add(ready.sealed.bytes);
        if counters.undelivered_bytes.get() > UNDELIVERED_BYTES_MEMORY {
            ready.inline = None;
        }
        self.ledger.sealed(&ready);
        self.queued[output].push_back(ready);
    }

    /// Gives the delivery tasks as much as they have room for.
    pub(super) fn hand_over(&mut self) {
        for (queue, output) in self.queued.iter_mut().zip(&self.outputs) {
            while !queue.is_empty()
                && let Ok(permit) = output.try_reserve()
                && let Some(ready) = queue.pop_front()
            {
                permit.send(ready);
            }
        }
    }

    pub(super) fn finished(&mut self, finished: &Finished) {
        let sealed = &finished.ready.sealed;
        let stats = &self.context.stats.outputs[sealed.key.output as usize];
        stats.undelivered_batches.sub(1);
        stats.undelivered_bytes.sub(sealed.bytes);
        stats.pending.sub(sealed.records);
        stats.delivered.add(sealed.records.saturating_sub(finished.failed));
        stats.delivery_failed.add(finished.failed.min(sealed.records));
        if finished.failed < sealed.records {
            stats.objects.add(1);
            stats.bytes_raw.add(sealed.raw_bytes);
            stats.bytes.add(sealed.bytes);
        }
        if !stats.balanced() {
            tracing::error!(
                stream = %self.context.label(), output = %stats.name,
                "emitted records are not delivered + failed + pending; this is a bug"
            );
        }
        self.ledger.finished(&finished.ready);
    }
}
