//! The task of one stream: frames in, slices out to the workers, results gathered in order, commits started,
//! deliveries noted, checkpoints moved.
//!
//! One task owns all of the stream's state, so nothing here is locked. It never blocks and never computes: guests
//! and encoders run on the workers, files are touched on blocking threads. What it holds is bounded: slices in
//! flight, rows that no outcome carries yet, batches that are sealed and not delivered.

use std::sync::{Arc, PoisonError};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use wasmill_buffer::{EntryKind, Position};

use super::batch::OpenBatches;
use super::commit::{Commit, CommitError, Committed, Ready};
use super::context::StreamContext;
use super::delivery::Finished;
use super::judge::Judge;
use super::ledger::{CheckpointBody, Ledger};
use super::outcome::{Counts, Letter, OpenRows};
use super::reload::ChainVersion;
use super::slice::{Cut, Done, Route, Waiting};

/// Records of a slice take at most this many bytes.
const SLICE_BYTES: usize = 4 << 20;
/// A slice that is not full waits this long for more, unless an output delivers at once.
const SLICE_WAIT: Duration = Duration::from_millis(50);
/// Rows that no outcome carries; past it an outcome is written although no batch is due.
const PENDING_BYTES_MAX: usize = 48 << 20;
/// Rows of open batches kept in memory besides the journal.
const OPEN_BYTES_MEMORY: usize = 64 << 20;
/// Batches sealed and not delivered, per output; past it the stream waits for the destination.
const UNDELIVERED_BATCHES_MAX: u64 = 10_000;
/// Their encoded bytes, per output.
const UNDELIVERED_BYTES_MAX: u64 = 2 << 30;
/// How often the checkpoint is written at most.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);
/// How long to wait before a commit is tried again that failed.
const COMMIT_RETRY: Duration = Duration::from_millis(500);

/// Where a stream stands after recovery.
pub(crate) struct Standing {
    pub(crate) open: OpenBatches,
    pub(crate) undelivered: Vec<Ready>,
    pub(crate) processed: u64,
}

/// See the head of this file.
pub(crate) struct StreamTask {
    context: Arc<StreamContext>,
    chains: watch::Receiver<Arc<ChainVersion>>,
    demote: mpsc::Sender<u64>,
    current: Arc<ChainVersion>,
    stream_seed: u64,
    outputs: Vec<mpsc::Sender<Ready>>,
    finished: mpsc::Receiver<Finished>,
    drain: CancellationToken,
    slice_bytes: usize,
    slice_wait: Duration,
    slices_max: usize,

    /// Next offset to read from the buffer.
    read: u64,
    waiting: Waiting,
    waiting_since: Option<Instant>,
    in_flight: FuturesOrdered<oneshot::Receiver<Done>>,
    open: OpenBatches,
    letters: Vec<(Letter, Bytes)>,
    counts: Counts,
    chain_digests: Vec<String>,
    /// Results are gathered up to here.
    gathered: u64,
    uncommitted_since: Option<Instant>,
    /// Outcomes are durable up to here.
    committed: u64,
    commit: Option<Running>,
    ledger: Ledger,
    checkpoint: (u64, Position),
    checkpoint_at: Instant,
    judge: Judge,
    /// The current version fails too much: nothing is cut until there is another.
    halted: bool,
}

/// A commit on its way; kept until it is durable, to be tried again.
struct Running {
    commit: Arc<Commit>,
    task: JoinHandle<Result<Committed, CommitError>>,
}

/// Why a stream ended other than by draining.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("read the buffer")]
    Read(#[from] wasmill_buffer::ReadError),
    #[error("a slice was lost: its worker panicked")]
    SliceLost,
    #[error("slice {from}..{to} does not balance: {counts:?}")]
    Unbalanced { from: u64, to: u64, counts: Counts },
    #[error("write the checkpoint")]
    Checkpoint(#[source] wasmill_buffer::AppendError),
}

/// What a stream task is made from.
pub(crate) struct Parts {
    pub(crate) context: Arc<StreamContext>,
    pub(crate) chains: watch::Receiver<Arc<ChainVersion>>,
    pub(crate) demote: mpsc::Sender<u64>,
    pub(crate) outputs: Vec<mpsc::Sender<Ready>>,
    pub(crate) finished: mpsc::Receiver<Finished>,
    pub(crate) drain: CancellationToken,
    pub(crate) slices_max: usize,
}

impl StreamTask {
    pub(crate) fn new(parts: Parts, standing: Standing) -> StreamTask {
        let context = parts.context;
        let smallest = context.outputs.iter().map(|output| output.seal.size).min().unwrap_or(0);
        let at_once = context.outputs.iter().any(|output| output.seal.interval.is_zero());
        let current = parts.chains.borrow().clone();
        let incarnation = context.buffer.incarnation();
        let mut seed = [0; 8];
        seed.copy_from_slice(&incarnation[..8]);
        let mut ledger = Ledger::default();
        for ready in &standing.undelivered {
            ledger.sealed(ready);
        }
        StreamTask {
            stream_seed: u64::from_le_bytes(seed),
            slice_bytes: usize::try_from(smallest).unwrap_or(SLICE_BYTES).clamp(64 << 10, SLICE_BYTES),
            slice_wait: if at_once { Duration::ZERO } else { SLICE_WAIT },
            slices_max: parts.slices_max,
            judge: Judge::new(context.failure_rate_max),
            current,
            chains: parts.chains,
            demote: parts.demote,
            outputs: parts.outputs,
            finished: parts.finished,
            drain: parts.drain,
            read: standing.processed,
            waiting: Waiting::default(),
            waiting_since: None,
            in_flight: FuturesOrdered::new(),
            open: standing.open,
            letters: Vec::new(),
            counts: Counts::default(),
            chain_digests: Vec::new(),
            gathered: standing.processed,
            uncommitted_since: None,
            committed: standing.processed,
            commit: None,
            ledger,
            checkpoint: (0, Position::default()),
            checkpoint_at: Instant::now(),
            halted: false,
            context,
        }
    }

    /// Runs until the stream is drained: everything durable is processed, sealed, delivered and checkpointed.
    pub(crate) async fn run(mut self) -> Result<(), StreamError> {
        loop {
            self.start_slices()?;
            self.start_commit();
            self.write_checkpoint(false).await?;
            self.observe();
            if self.drained() {
                return self.write_checkpoint(true).await;
            }
            let wake = self.wake();
            let may_read = self.may_read();
            let may_gather = self.open.pending_bytes() < 2 * PENDING_BYTES_MAX;
            tokio::select! {
                done = self.in_flight.next(), if may_gather && !self.in_flight.is_empty() => {
                    let done = done.ok_or(StreamError::SliceLost)?.map_err(|_gone| StreamError::SliceLost)?;
                    self.gather(done)?;
                }
                committed = join(&mut self.commit), if self.commit.is_some() => self.committed(committed).await,
                Some(finished) = self.finished.recv() => self.finished(finished),
                () = self.context.buffer.durable_past(self.read), if may_read => {}
                Ok(()) = self.chains.changed() => self.take_chain(),
                () = self.drain.cancelled(), if !self.drain.is_cancelled() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    fn may_read(&self) -> bool {
        !self.halted && self.in_flight.len() < self.slices_max && self.waiting.bytes() < self.slice_bytes && self.has_room()
    }

    /// Whether every output can take more: one that is down holds up the others only when its quota is full.
    fn has_room(&self) -> bool {
        self.context.stats.outputs.iter().all(|output| {
            output.undelivered_batches.get() < UNDELIVERED_BATCHES_MAX
                && output.undelivered_bytes.get() < UNDELIVERED_BYTES_MAX
        })
    }

    /// Reads what is durable, cuts it, and gives it to the workers.
    fn start_slices(&mut self) -> Result<(), StreamError> {
        while self.may_read() || (!self.halted && !self.waiting.is_empty() && self.in_flight.len() < self.slices_max) {
            if self.waiting.bytes() < self.slice_bytes && self.has_room() {
                let read = self.context.buffer.try_frames(self.read, self.slice_bytes)?;
                for gap in &read.gaps {
                    tracing::error!(
                        stream = %self.context.name, from = gap.start, to = gap.end,
                        "records are lost to corruption of the buffer; what could be saved is set aside"
                    );
                    self.context.stats.records_lost_to_corruption.add(gap.end - gap.start);
                    self.read = self.read.max(gap.end);
                }
                for frame in read.frames {
                    self.read = frame.base_offset + frame.ends.len() as u64;
                    self.waiting.push(frame);
                }
            }
            if self.waiting.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            let since = *self.waiting_since.get_or_insert(now);
            let full = self.waiting.bytes() >= self.slice_bytes;
            if !full && now < since + self.slice_wait && !self.drain.is_cancelled() {
                return Ok(());
            }
            let Some(cut) = self.waiting.cut(self.slice_bytes) else { return Ok(()) };
            self.waiting_since = (!self.waiting.is_empty()).then_some(now);
            self.start_slice(cut);
        }
        Ok(())
    }

    fn start_slice(&mut self, cut: Cut) {
        let route = Route {
            chain: self.current.chain.clone(),
            generation: self.current.generation,
            stream_seed: self.stream_seed,
            formats: self.context.outputs.iter().map(|output| output.format).collect(),
        };
        let (reply, done) = oneshot::channel();
        self.context.workers.submit(self.context.lane, move |worker| {
            // Nobody waits when the stream was stopped or took its slices back.
            drop(reply.send(cut.run(&route, worker)));
        });
        self.in_flight.push_back(done);
    }

    fn gather(&mut self, done: Done) -> Result<(), StreamError> {
        if !done.counts.balanced() {
            return Err(StreamError::Unbalanced { from: done.from, to: done.to, counts: done.counts });
        }
        let now = Instant::now();
        let stats = &self.context.stats;
        stats.slices.add(1);
        stats.chunks_bisected.add(done.chunks_bisected);
        stats.with_transforms(|transforms| {
            for (stats, report) in transforms.iter_mut().zip(&done.transforms) {
                stats.calls += report.calls;
                stats.cpu_ns += u64::try_from(report.cpu.as_nanos()).unwrap_or(u64::MAX);
                stats.memory_bytes_peak = stats.memory_bytes_peak.max(report.memory_bytes_peak);
                stats.traps += report.traps;
                stats.instances += report.instances;
            }
        });
        for (transform, fault) in &done.faults {
            let name = self.current.transforms.get(*transform).map_or("", |t| t.name.as_str());
            tracing::warn!(
                stream = %self.context.name, transform = name, error = %fault, detail = fault.detail(),
                from = done.from, "plugin failed; the records that it fails on become dead letters"
            );
        }
        if self.judged_bad(&done) {
            return Ok(());
        }
        self.uncommitted_since.get_or_insert(now);
        self.counts.add(&done.counts);
        self.gathered = done.to;
        self.chain_digests.clone_from(&self.current.digests);
        self.letters.extend(done.letters);
        for (key, piece) in done.pieces {
            self.open.add(key, piece, now);
        }
        Ok(())
    }

    /// Judges the version that ran by its failure rate; when it is too bad, its uncommitted results are withdrawn
    /// and the version before takes over, or the stream halts until there is another one.
    fn judged_bad(&mut self, done: &Done) -> bool {
        let Some(reason) = self.judge.slice(done.generation, done.counts.records, done.counts.failed) else {
            return false;
        };
        self.withdraw();
        if done.generation == self.current.generation {
            tracing::error!(
                stream = %self.context.name, %reason, plugins = ?self.current.digests,
                "plugins fail too much: the version before takes over, or the stream halts until there is a better one"
            );
            self.halted = true;
            self.context.stats.pause(Some(reason));
            if self.demote.try_send(done.generation).is_err() {
                tracing::warn!(stream = %self.context.name, "the reloader did not take the demotion");
            }
        }
        true
    }

    /// Forgets every result that no outcome covers or is about to cover; the records are read and run again.
    fn withdraw(&mut self) {
        let floor = self.commit.as_ref().map_or(self.committed, |running| running.commit.to);
        self.in_flight.clear();
        self.waiting.clear();
        self.waiting_since = None;
        self.open.withdraw_pending(floor);
        self.letters.clear();
        self.counts = Counts::default();
        self.gathered = floor;
        self.read = floor;
        self.uncommitted_since = None;
    }

    fn take_chain(&mut self) {
        let next = self.chains.borrow_and_update().clone();
        if next.generation == self.current.generation {
            return;
        }
        if self.halted {
            self.halted = false;
            self.context.stats.pause(None);
        }
        self.context.stats.with_transforms(|transforms| next.name_transforms(transforms));
        self.context.stats.reloads.add(1);
        tracing::info!(stream = %self.context.name, plugins = ?next.digests, "plugins reloaded");
        self.current = next;
    }

    fn commit_due(&self, now: Instant) -> bool {
        if self.gathered == self.committed {
            return self.drain.is_cancelled() && !self.open.is_empty() && self.intake_done();
        }
        let interval = self.context.outputs.iter().map(|output| output.seal.interval).min().unwrap_or_default();
        let stale = self.uncommitted_since.is_some_and(|since| now >= since + interval.max(Duration::from_secs(1)));
        stale
            || self.open.any_full()
            || self.open.next_due().is_some_and(|due| now >= due)
            || self.open.pending_bytes() >= PENDING_BYTES_MAX
            || (self.drain.is_cancelled() && self.intake_done())
    }

    /// Whether everything that is durable in the buffer has been gathered.
    fn intake_done(&self) -> bool {
        self.halted
            || (self.in_flight.is_empty()
                && self.waiting.is_empty()
                && self.read >= self.context.buffer.durable_end())
    }

    fn start_commit(&mut self) {
        let now = Instant::now();
        if self.commit.is_some() || !self.commit_due(now) {
            return;
        }
        let all = self.drain.is_cancelled() && self.intake_done();
        let due = self.open.take_due(now, all);
        let mut blobs = Vec::with_capacity(self.open.pending_bytes());
        let mut open = Vec::new();
        for (key, piece, rows) in self.open.pending() {
            let start = blobs.len();
            blobs.extend_from_slice(rows);
            open.push(OpenRows {
                key: key.clone(),
                records: piece.records,
                first_offset: piece.first_offset,
                first_arrival: piece.first_arrival,
                blob: start..blobs.len(),
            });
        }
        let commit = Commit {
            from: self.committed,
            to: self.gathered,
            chain: self.chain_digests.clone(),
            counts: std::mem::take(&mut self.counts),
            due,
            open,
            blobs,
            letters: std::mem::take(&mut self.letters),
        };
        self.uncommitted_since = None;
        let commit = Arc::new(commit);
        let task = tokio::spawn(commit.clone().run(self.context.clone()));
        self.commit = Some(Running { commit, task });
    }

    async fn committed(&mut self, result: Result<Result<Committed, CommitError>, JoinError>) {
        let Some(running) = self.commit.take() else { return };
        let committed = match result {
            Ok(Ok(committed)) => committed,
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => CommitError::Worker,
                };
                tracing::error!(
                    stream = %self.context.name, error = &error as &dyn std::error::Error,
                    from = running.commit.from, to = running.commit.to,
                    "commit failed, trying again; nothing is lost"
                );
                let (commit, context) = (running.commit.clone(), self.context.clone());
                let task = tokio::spawn(async move {
                    tokio::time::sleep(COMMIT_RETRY).await;
                    commit.run(context).await
                });
                self.commit = Some(Running { commit: running.commit, task });
                return;
            }
        };
        self.committed = committed.to;
        self.open.made_durable(committed.at, &committed.open, OPEN_BYTES_MEMORY);
        let stats = &self.context.stats;
        stats.commits.add(1);
        stats.processed.add(committed.counts.records);
        stats.passed.add(committed.counts.passed);
        stats.dropped.add(committed.counts.dropped);
        stats.failed.add(committed.counts.failed);
        stats.absorbed.add(committed.counts.absorbed);
        stats.emitted.add(committed.counts.emitted);
        for ready in committed.sealed {
            let output = ready.sealed.key.output as usize;
            let counters = &stats.outputs[output];
            counters.undelivered_batches.add(1);
            counters.undelivered_bytes.add(ready.sealed.bytes);
            self.ledger.sealed(&ready);
            if self.outputs[output].send(ready).await.is_err() {
                tracing::warn!(stream = %self.context.name, "a delivery task has ended; the batch waits for the next start");
            }
        }
    }

    fn finished(&mut self, finished: Finished) {
        let sealed = &finished.ready.sealed;
        let stats = &self.context.stats.outputs[sealed.key.output as usize];
        stats.undelivered_batches.sub(1);
        stats.undelivered_bytes.sub(sealed.bytes);
        if finished.delivered {
            stats.delivered.add(sealed.records);
            stats.objects.add(1);
            stats.bytes_raw.add(sealed.raw_bytes);
            stats.bytes.add(sealed.bytes);
        } else {
            stats.delivery_failed.add(sealed.records);
        }
        self.ledger.finished(&finished.ready);
    }

    /// Tells the buffer what is still needed, when that has changed and not too often, or at the end.
    async fn write_checkpoint(&mut self, last: bool) -> Result<(), StreamError> {
        if !last && Instant::now() < self.checkpoint_at + CHECKPOINT_EVERY {
            return Ok(());
        }
        let end = self.context.buffer.journal_end();
        let oldest = [self.ledger.oldest_outcome(), self.open.oldest_outcome()].into_iter().flatten().min();
        let entries_from = match (&self.commit, oldest) {
            (_, Some(oldest)) => oldest,
            // The outcome that is being written is needed and may lie before the end already.
            (Some(_), None) => self.checkpoint.1,
            (None, None) => end,
        };
        self.ledger.settle(entries_from);
        if let Some(mark) = self.ledger.take_mark() {
            let at = self.committed..self.committed;
            self.context.buffer.entry(EntryKind::Mark, at, mark).await.map_err(StreamError::Checkpoint)?;
        }
        if last || self.checkpoint.0 != self.committed || self.checkpoint.1 < entries_from {
            let body = CheckpointBody { processed: self.committed };
            let body = serde_json::to_vec(&body).map(Bytes::from).unwrap_or_default();
            self.context
                .buffer
                .checkpoint(body, self.committed, entries_from, last)
                .await
                .map_err(StreamError::Checkpoint)?;
            self.checkpoint = (self.committed, entries_from);
            let letters = self.context.letters.clone();
            let committed = self.committed;
            letters.lock().unwrap_or_else(PoisonError::into_inner).settle(committed);
        }
        self.checkpoint_at = Instant::now();
        Ok(())
    }

    /// Copies what this task knows into the counters that others read.
    fn observe(&self) {
        let stats = &self.context.stats;
        stats.open_batches.set(self.open.len() as u64);
        stats.overflowed.set(self.open.overflowed);
        stats.buffered_bytes.set(self.context.buffer.buffered_bytes());
        let open = self.open.first_arrival();
        stats.oldest_open_batch.store(open.unwrap_or(0), Ordering::Relaxed);
        let unread = self.context.buffer.oldest_arrival(self.gathered);
        let oldest = [open, self.ledger.first_arrival(), unread].into_iter().flatten().min();
        stats.oldest_undelivered.store(oldest.unwrap_or(0), Ordering::Relaxed);
    }

    fn drained(&self) -> bool {
        self.drain.is_cancelled()
            && self.commit.is_none()
            && self.intake_done()
            && self.gathered == self.committed
            && self.open.is_empty()
            && self.ledger.is_empty()
    }

    /// When to look again although nothing happened.
    fn wake(&self) -> Instant {
        let now = Instant::now();
        let slice = self.waiting_since.filter(|_| !self.waiting.is_empty() && self.in_flight.len() < self.slices_max);
        let due = if self.commit.is_none() { self.open.next_due() } else { None };
        [slice.map(|since| since + self.slice_wait), due, Some(now + CHECKPOINT_EVERY)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now)
    }
}

/// Waits for the running commit; the caller makes sure that there is one.
async fn join(running: &mut Option<Running>) -> Result<Result<Committed, CommitError>, JoinError> {
    match running {
        Some(running) => (&mut running.task).await,
        None => std::future::pending().await,
    }
}
