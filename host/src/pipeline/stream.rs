//! The task of one stream: slices out to the workers, results gathered in order, commits started, deliveries noted,
//! checkpoints moved.
//!
//! One task owns all of the stream's state, so nothing here is locked. It never blocks and never computes: guests
//! and encoders run on the workers, files are touched on blocking threads. What it holds is bounded: slices in
//! flight, rows that no outcome carries yet, batches that are sealed and not delivered.

mod checkpoint;
mod clock;
mod committing;
mod halt;
mod keeping;
mod replaying;
mod sealing;

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmill_buffer::{AppendError, Position, ReadError, Voided};

use super::batch::OpenBatches;
use super::commit::{Commit, CommitError, Committed, Ready};
use super::context::StreamContext;
use super::dead_letters::{Changes, DeadLetter};
use super::decide::SliceAnswers;
use super::delivery::Finished;
use super::intake::Intake;
use super::judge::Judge;
use super::ledger::Ledger;
use super::outcome::{Counts, Letter, Ran};
use super::plan::ChainVersion;
use super::reload::Demoter;
use super::replay::{self, ReplayError};
use super::slice::Done;
use super::unfit::Unfit;
use clock::Clock;
pub(crate) use clock::Reached;
use halt::Halt;
use keeping::Keeping;
pub(crate) use keeping::StateBehind;
use sealing::Sealing;

/// Records of a slice take at most this many bytes.
const SLICE_BYTES: usize = 4 << 20;
/// A slice that is not full waits for more, unless an output delivers at once: for a part of the shortest interval, within these
/// bounds. Each slice costs a turn of a thread, and with many streams that have little each, turns are what there is to save. It
/// is no time besides the interval: a batch is as old as the wait for its first slice.
const SLICE_WAIT: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);
/// That part.
const SLICE_WAITS_OF_INTERVAL: u32 = 5;
/// Rows that no outcome carries; past it an outcome is written although no batch is due.
const PENDING_BYTES_MAX: usize = 24 << 20;
/// Rows of open batches kept in memory besides the journal.
const OPEN_BYTES_MEMORY: usize = 64 << 20;
/// Batches sealed and not delivered, per output; past it the stream waits for the destination.
const UNDELIVERED_BATCHES_MAX: u64 = 10_000;
/// Their encoded bytes, per output.
const UNDELIVERED_BYTES_MAX: u64 = 2 << 30;
/// Of these, how many small objects are kept in memory besides the journal, per output.
const UNDELIVERED_BYTES_MEMORY: u64 = 16 << 20;
/// How often the checkpoint is written and gauges are set.
const LOOK_AFTER_EVERY: Duration = Duration::from_millis(250);
/// How long a checkpoint may wait for something to ride along with.
const CHECKPOINT_RIDES_MAX: Duration = Duration::from_secs(1);
/// How often letters that are too old are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// How long to wait before a commit, a read or a chain is tried again that failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The longest wait between two attempts of one commit.
const COMMIT_RETRY_MAX: Duration = Duration::from_secs(10);

/// Where a stream stands after recovery.
pub(crate) struct Standing {
    pub(crate) open: OpenBatches,
    pub(crate) undelivered: Vec<Ready>,
    pub(crate) processed: u64,
    /// Letters of outcomes that are needed still: kept before any record runs.
    pub(crate) letters: Vec<DeadLetter>,
    /// What replays of such outcomes did to letters: done again before that.
    pub(crate) replayed: Changes,
    /// How far event time had come, as outcomes and the checkpoint have it.
    pub(crate) watermark: Option<i64>,
    /// The same of each source, of a stream with several.
    pub(crate) watermarks: BTreeMap<String, i64>,
    pub(crate) state: StateBehind,
}

/// See the head of this file.
pub(crate) struct StreamTask {
    context: Arc<StreamContext>,
    chains: watch::Receiver<Arc<ChainVersion>>,
    demoter: Demoter,
    current: Arc<ChainVersion>,
    /// To the delivery tasks, by output.
    outputs: Vec<mpsc::Sender<Ready>>,
    /// What the delivery tasks have no room for yet, by output.
    queued: Vec<VecDeque<Ready>>,
    finished: mpsc::Receiver<Finished>,
    drain: CancellationToken,
    stopping: CancellationToken,
    intake: Intake,

    /// Letters of outcomes of earlier runs, which perhaps are not in the store, and what replays did.
    earlier_letters: (Changes, Vec<DeadLetter>),
    replays: mpsc::Receiver<replay::Request>,
    replay: Option<replay::Running>,
    /// One that changes state, and waits until no slice and no outcome is on its way.
    replay_waits: Option<replay::Request>,
    expired: Instant,
    open: OpenBatches,
    sealing: Sealing,
    letters: Vec<(Letter, Bytes)>,
    /// Of these letters, in memory.
    letter_bytes: usize,
    /// Bytes of the records that were gathered since the last commit began.
    slice_bytes: u64,
    /// For clients that wait, once an outcome covers them.
    answers: Vec<SliceAnswers>,
    counts: Counts,
    /// Rows gathered since the last commit began, by output.
    rows: Vec<u64>,
    ran: Vec<Ran>,
    /// Results are gathered up to here.
    gathered: u64,
    uncommitted_since: Option<Instant>,
    /// Outcomes are durable up to here.
    committed: u64,
    commit: Option<Running>,
    ledger: Ledger,
    keeping: Keeping,
    /// Of a stream that has event time.
    clock: Option<Clock>,
    checkpoint: (u64, Position),
    checkpointing: Option<checkpoint::Checkpointing>,
    /// When the checkpoint was written that nobody has made durable; it rides along with whatever is written next.
    riding_since: Option<Instant>,
    looked_after: Instant,
    judge: Judge,
    unfit: Unfit,
    halt: Halt,
    /// As far as results of such records were taken back.
    voided: Voided,
}

/// A commit on its way; kept until it is durable, to be tried again.
struct Running {
    commit: Arc<Commit>,
    /// Where the outcomes begin that it needs: those of rows that it seals, else its own.
    needs_from: Position,
    /// Arrival of the oldest record that it seals.
    first_arrival: Option<i64>,
    answers: Vec<SliceAnswers>,
    /// Of the records that it covers.
    bytes: u64,
    /// Attempts that failed.
    failures: u32,
    task: JoinHandle<Result<Committed, CommitError>>,
}

/// Why a stream ended other than by draining.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("a slice was lost: its worker panicked")]
    SliceLost,
    #[error("slice {from}..{to} does not balance: {counts:?}, {rows} rows")]
    Unbalanced { from: u64, to: u64, counts: Counts, rows: u64 },
    #[error("slice {from}..{to} runs records again that have a verdict, up to {gathered}")]
    Repeated { from: u64, to: u64, gathered: u64 },
    #[error("write the last checkpoint")]
    Checkpoint(#[source] AppendError),
    #[error("the buffer is closed")]
    Closed,
}

/// What a stream task is made from.
pub(crate) struct Parts {
    pub(crate) context: Arc<StreamContext>,
    pub(crate) chains: watch::Receiver<Arc<ChainVersion>>,
    pub(crate) demoter: Demoter,
    pub(crate) outputs: Vec<mpsc::Sender<Ready>>,
    pub(crate) finished: mpsc::Receiver<Finished>,
    /// No more records come: what there is is to be finished.
    pub(crate) drain: CancellationToken,
    /// The host stops: what cannot run now is left for the next start.
    pub(crate) stopping: CancellationToken,
    pub(crate) slices_max: usize,
    pub(crate) replays: mpsc::Receiver<replay::Request>,
}

impl StreamTask {
    pub(crate) fn new(parts: Parts, standing: Standing) -> StreamTask {
        let context = parts.context;
        let smallest = context.outputs.iter().map(|output| output.seal.size).min().unwrap_or(0);
        let interval = context.outputs.iter().map(|output| output.seal.interval).min().unwrap_or_default();
        // A batch is over its size by a slice at most, and records that wait for a slice leave room for others.
        let smallest = smallest.min(context.buffer_bytes_max);
        let slice_bytes = usize::try_from(smallest / 4).unwrap_or(SLICE_BYTES).clamp(64 << 10, SLICE_BYTES);
        let slice_wait = match interval {
            Duration::ZERO => Duration::ZERO,
            interval => (interval / SLICE_WAITS_OF_INTERVAL).clamp(*SLICE_WAIT.start(), *SLICE_WAIT.end()),
        };
        let mut seed = [0; 8];
        seed.copy_from_slice(&context.buffer.incarnation()[..8]);
        let seed = u64::from_le_bytes(seed);
        let current = parts.chains.borrow().clone();
        context.stats.with_transforms(|transforms| current.name_transforms(transforms));
        let mut task = StreamTask {
            intake: Intake::new(standing.processed, slice_bytes, slice_wait, parts.slices_max, seed),
            judge: Judge::new(f64::from(context.failed_percent_max) / 100.0),
            current,
            chains: parts.chains,
            demoter: parts.demoter,
            queued: parts.outputs.iter().map(|_| VecDeque::new()).collect(),
            rows: vec![0; parts.outputs.len()],
            outputs: parts.outputs,
            finished: parts.finished,
            drain: parts.drain,
            stopping: parts.stopping,
            earlier_letters: (standing.replayed, standing.letters),
            replays: parts.replays,
            replay: None,
            replay_waits: None,
            expired: Instant::now(),
            open: standing.open,
            sealing: Sealing::default(),
            letters: Vec::new(),
            letter_bytes: 0,
            slice_bytes: 0,
            answers: Vec::new(),
            counts: Counts::default(),
            ran: Vec::new(),
            gathered: standing.processed,
            uncommitted_since: None,
            committed: standing.processed,
            commit: None,
            ledger: Ledger::default(),
            keeping: Keeping::of(standing.state),
            clock: context
                .event_time
                .as_ref()
                .map(|rules| Clock::of(rules, standing.watermark, &standing.watermarks)),
            checkpoint: (0, Position::default()),
            checkpointing: None,
            riding_since: None,
            looked_after: Instant::now(),
            unfit: Unfit::default(),
            halt: Halt::No,
            voided: context.buffer.voided(),
            context,
        };
        task.take_over(standing.undelivered);
        task
    }

    /// What outcomes before this start have left to deliver.
    fn take_over(&mut self, undelivered: Vec<Ready>) {
        for (number, output) in self.context.stats.outputs.iter().enumerate() {
            let waiting = self.open.records(u32::try_from(number).unwrap_or(u32::MAX));
            output.emitted.add(waiting);
            output.pending.add(waiting);
        }
        for ready in undelivered {
            let output = &self.context.stats.outputs[ready.sealed.key.output as usize];
            output.emitted.add(ready.sealed.records);
            output.pending.add(ready.sealed.records);
            self.sealed(ready);
        }
    }

    /// Runs until the stream is drained: everything durable is processed, sealed, delivered and checkpointed.
    pub(crate) async fn run(mut self) -> Result<(), StreamError> {
        self.observe_clock();
        // Before any checkpoint: until then they are in their outcomes only. A full store pauses this stream alone, and a
        // replay can make room in it.
        let (replayed, letters) = std::mem::take(&mut self.earlier_letters);
        let context = self.context.clone();
        let mut earlier = Some(tokio::spawn(async move {
            context.settle_replay(&replayed).await;
            if context.over.is_cancelled() {
                return;
            }
            context.settled.send_replace(true);
            context.store_letters(letters).await;
        }));
        loop {
            self.take_back_void();
            if earlier.is_none() {
                self.start_slices()?;
                self.start_commit();
                self.start_telling();
                self.start_waiting_replay();
                self.start_state_work();
            }
            self.refuse_stuck_replay();
            self.look_after(earlier.is_none());
            self.hand_over();
            if earlier.is_none() && self.checkpointing.is_none() && self.drained() {
                return self.write_last_checkpoint().await;
            }
            let waits = self.commit_waits();
            let (wake, read) = (self.wake(waits), self.intake.read());
            let full_at =
                self.intake.full_at().filter(|_| !self.context.decides && !self.drain.is_cancelled());
            let may_read = self.halt == Halt::No && self.intake.may_read() && self.has_room();
            let may_read = may_read && earlier.is_none();
            let early = self.context.reads_early;
            let made = waits.then_some(self.gathered);
            // What is lost is taken back when the outcome has come back that speaks of it.
            let seen = if self.commits_with_records() { self.context.buffer.voided() } else { self.voided };
            let may_replay = self.may_replay() && self.has_room() && !self.drain.is_cancelled();
            // What ran goes on ahead of what is durable: an outcome that waits for that would wait for ever.
            let may_gather = self.uncommitted_bytes() < 2 * PENDING_BYTES_MAX && !waits;
            // What makes room comes first; the rest cannot starve it, and it is bounded by what the rest lets in.
            tokio::select! {
                biased;
                committed = join(&mut self.commit), if self.commit.is_some() => self.committed(committed),
                written = checkpoint::join(&mut self.checkpointing), if self.checkpointing.is_some() => {
                    // Tried again with the next one.
                    drop(self.checkpointed(written));
                }
                () = self.sealing.encoded(), if !self.sealing.is_empty() => {}
                Some(finished) = self.finished.recv() => self.finished(&finished),
                _stored = join_earlier(&mut earlier), if earlier.is_some() => earlier = None,
                replayed = join_replay(&mut self.replay), if self.replay.is_some() => {
                    self.replayed(replayed);
                }
                worked = self.keeping.done(), if self.keeping.works() => self.state_worked(worked),
                Some(request) = self.replays.recv(), if may_replay => self.take_replay(request),
                Ok(()) = self.chains.changed() => self.take_chain(),
                done = self.intake.next_done(), if may_gather && self.intake.has_slices() => {
                    let (since, done) = done.ok_or(StreamError::SliceLost)?;
                    self.gather(since, done)?;
                }
                () = more_durable(&self.context, read, full_at), if may_read && !early => {}
                () = self.context.buffer.early_past(may_read.then_some(read), made, seen), if early => {}
                () = self.drain.cancelled(), if !self.drain.is_cancelled() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Whether every output can take more: one that is down holds up the others only when its quota is full.
    fn has_room(&self) -> bool {
        self.context.stats.outputs.iter().all(|output| {
            output.undelivered_batches.get() < UNDELIVERED_BATCHES_MAX
                && output.undelivered_bytes.get() < UNDELIVERED_BYTES_MAX
        })
    }

    fn start_slices(&mut self) -> Result<(), StreamError> {
        match self.halt {
            Halt::No => {}
            Halt::Until(when) if Instant::now() >= when => self.halt = Halt::No,
            Halt::Until(_) | Halt::BadVersion => return Ok(()),
        }
        if self.replay_has_state() {
            return Ok(());
        }
        let hurry = self.drain.is_cancelled() || self.context.decisions.wanted() || self.pressed();
        let room = self.has_room();
        let (context, keeping, clock) = (&self.context, &self.keeping, self.slice_clock());
        let committing = self.commit.as_ref().map(|running| &running.commit.state);
        let below = || keeping.below(committing, &context.state);
        match self.intake.start_slices(context, &self.current, room, hurry, clock.as_ref(), below) {
            Ok(()) => {
                if self.intake_done() {
                    self.goes_on();
                }
                Ok(())
            }
            Err(ReadError::Closed | ReadError::Deleted) => Err(StreamError::Closed),
            Err(error) => {
                let reason = super::sources::with_causes(&error);
                if self.halt_for(RETRY_AFTER, &reason) {
                    tracing::error!(stream = %self.context.label(), reason, "buffer cannot be read, trying again");
                }
                Ok(())
            }
        }
    }

    /// Takes a slice's result; its records have waited `since` then.
    fn gather(&mut self, since: Instant, mut done: Done) -> Result<(), StreamError> {
        self.count_transforms(&done);
        if let Some((transform, fault)) = done.unrunnable.take() {
            self.unrunnable(&done.version, transform, &fault);
            return Ok(());
        }
        if done.from < self.gathered {
            return Err(StreamError::Repeated { from: done.from, to: done.to, gathered: self.gathered });
        }
        let rows = done.pieces.iter().map(|(_, piece)| piece.records).sum();
        if !done.counts.balanced() || done.counts.emitted + done.backed_up != rows {
            return Err(StreamError::Unbalanced { from: done.from, to: done.to, counts: done.counts, rows });
        }
        if self.judged_bad(&done) {
            return Ok(());
        }
        self.goes_on();
        self.count_flows(&done);
        let now = Instant::now();
        self.unfit.note(&self.context.label(), &done.letters, now);
        self.uncommitted_since.get_or_insert(now);
        self.counts.add(&done.counts);
        self.gathered = done.to;
        match self.ran.last_mut().filter(|ran| ran.digests == done.version.digests) {
            Some(ran) => ran.to = done.to,
            None => self.ran.push(Ran { to: done.to, digests: done.version.digests.clone() }),
        }
        if let Some(layer) = done.state.take().filter(|layer| !layer.is_empty()) {
            self.keeping.gather(layer);
        }
        self.clock_gather(done.event_time);
        self.letter_bytes += done.letters.iter().map(letter_bytes).sum::<usize>();
        self.letters.append(&mut done.letters);
        self.slice_bytes += done.bytes;
        self.context.stats.backlog_bytes.fetch_sub(done.bytes.cast_signed(), Ordering::Relaxed);
        match done.answers {
            Some(answers) if self.context.decides_durably => self.answers.push(answers),
            Some(answers) => self.context.decisions.publish([answers]),
            None => {}
        }
        for (key, piece) in done.pieces {
            self.rows[key.output as usize] += piece.records;
            self.open.add(key, piece, since);
        }
        Ok(())
    }

    fn count_transforms(&self, done: &Done) {
        let stats = &self.context.stats;
        self.context.quota.state_refused(&done.transforms);
        stats.slices.add(1);
        stats.chunks_bisected.add(done.chunks_bisected);
        stats.with_transforms(|transforms| {
            for (stats, report) in transforms.iter_mut().zip(&done.transforms) {
                stats.calls += report.calls;
                stats.cpu_ns += u64::try_from(report.cpu.as_nanos()).unwrap_or(u64::MAX);
                stats.memory_bytes_peak = stats.memory_bytes_peak.max(report.memory_bytes_peak);
                stats.traps += report.traps;
                stats.instances += report.instances;
                stats.http.add(report.http);
            }
        });
        for (transform, fault) in &done.faults {
            tracing::warn!(
                stream = %self.context.label(), transform = done.version.transform(*transform), error = %fault,
                detail = fault.detail(), from = done.from,
                "plugin failed; the records that it fails on become dead letters"
            );
        }
    }

    /// What went through the transforms, of a slice that will have an outcome.
    fn count_flows(&self, done: &Done) {
        self.context.stats.with_transforms(|transforms| {
            for (stats, report) in transforms.iter_mut().zip(&done.transforms) {
                stats.records_in += report.records_in;
                stats.bytes_in += report.bytes_in;
                stats.records_out += report.records_out;
                stats.bytes_out += report.bytes_out;
                stats.dead_letters += report.dead_letters;
            }
        });
    }

    /// Whether everything that is durable in the buffer has been gathered, or cannot be now.
    fn intake_done(&self) -> bool {
        (self.halt == Halt::BadVersion && self.stopping.is_cancelled())
            || self.intake.is_done(self.context.buffer.durable_end())
    }

    fn drained(&self) -> bool {
        self.drain.is_cancelled()
            && self.commit.is_none()
            && self.replay.is_none()
            && self.replay_waits.is_none()
            && self.keeping.settled()
            && self.intake_done()
            && self.gathered == self.committed
            && self.open.is_empty()
            && self.sealing.is_empty()
            && self.ledger.is_empty()
    }

    /// When to look again although nothing happened; an outcome may be due that `waits` until its records are durable.
    fn wake(&self, waits: bool) -> Instant {
        let now = Instant::now();
        let due = if self.commit.is_none() && !waits { self.open.next_due() } else { None };
        let halt = if let Halt::Until(when) = self.halt { Some(when) } else { None };
        let slice = if self.replay_has_state() { None } else { self.intake.due() };
        // What is due and cannot be yet is waited for elsewhere.
        let outcome = self.uncommitted_since.map(|since| since + self.commit_wait()).filter(|at| *at > now);
        [
            slice,
            due,
            outcome,
            halt,
            self.state_due(),
            self.clock_wakes(now),
            Some(self.looked_after + LOOK_AFTER_EVERY),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now)
    }
}

/// What a letter takes in memory, about.
fn letter_bytes((letter, payload): &(Letter, Bytes)) -> usize {
    size_of::<(Letter, Bytes)>() + payload.len() + letter.reason.len() + letter.plugin.len()
}

/// Waits for records past `read`, or for so many bytes that a slice is full.
async fn more_durable(context: &StreamContext, read: u64, full_at: Option<u64>) {
    match full_at {
        Some(bytes) => context.buffer.durable_bytes_at(bytes).await,
        None => context.buffer.durable_past(read).await,
    }
}

/// The same of the running replay.
async fn join_replay(
    running: &mut Option<replay::Running>,
) -> Result<Result<replay::Ran, ReplayError>, JoinError> {
    match running {
        Some(running) => (&mut running.task).await,
        None => std::future::pending().await,
    }
}

/// The same of the task that keeps the letters of earlier runs.
async fn join_earlier(task: &mut Option<JoinHandle<()>>) -> Result<(), JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Waits for the running commit; the caller makes sure that there is one.
async fn join(running: &mut Option<Running>) -> Result<Result<Committed, CommitError>, JoinError> {
    match running {
        Some(running) => (&mut running.task).await,
        None => std::future::pending().await,
    }
}
