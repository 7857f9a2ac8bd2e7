//! One replay from its first record to its last object.
//!
//! History is read frame by frame, cut into slices, run through the chain on the workers in a lane of its own, gathered
//! into batches by size alone, and delivered. What it holds is bounded: two slices in flight, rows up to 64 MiB, four
//! objects on their way. It moves no checkpoint and writes nothing into the journal; what it needs after a crash is the
//! plan, from which the same run makes the same objects.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmill_buffer::{ReadError, Stream};
use wasmill_deliver::DeliverError;
use wasmill_transform::PluginFault;

use super::letters::LettersFile;
use super::progress::{ReplayProgress, ReplayState};
use super::seal;
use crate::pipeline::batch::{OpenBatches, SealAt};
use crate::pipeline::context::Output;
use crate::pipeline::event_time::{EventTime, NO_TIME, SliceClock};
use crate::pipeline::intake::Waiting;
use crate::pipeline::plan::ChainVersion;
use crate::pipeline::slice::{Done, Growth, Route};
use crate::pipeline::stats::{label, wall_clock_ns};
use crate::pipeline::with_causes;
use crate::pipeline::workers::{LaneId, TenantId, Workers};

/// Records of a slice take at most this many bytes, and at least these: a batch is over its size by a slice at most.
const SLICE_BYTES: std::ops::RangeInclusive<usize> = 64 << 10..=1 << 20;
const SLICES_MAX: usize = 2;
/// Rows in batches that are not full; past it all batches are sealed as they are.
const ROWS_BYTES_MAX: usize = 64 << 20;
/// Objects on their way at a time, for destinations that allow it.
const OBJECTS_MAX: usize = 4;
/// Batches are never due by age.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A replay, and what it needs. Shared by its task, its objects and those who ask.
pub(super) struct Replay {
    pub(super) id: String,
    pub(super) incarnation: [u8; 16],
    pub(super) stream: String,
    pub(super) buffer: Stream,
    pub(super) offsets: std::ops::Range<u64>,
    pub(super) version: Arc<ChainVersion>,
    pub(super) outputs: Vec<Output>,
    pub(super) workers: Arc<Workers>,
    pub(super) tenant: TenantId,
    pub(super) lane: LaneId,
    /// Of a stream that has event time.
    pub(super) event_time: Option<Arc<EventTime>>,
    /// Directory of the dead letters.
    pub(super) beside: PathBuf,
    /// Staging directories of its own, gone when it ends.
    pub(super) staging: Vec<PathBuf>,
    pub(super) cancel: CancellationToken,
    pub(super) progress: Mutex<ReplayProgress>,
}

/// Why a replay ended before its last object. What it has delivered is whole, and stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("cancelled")]
    Cancelled,
    #[error("read the history")]
    Read(#[source] ReadError),
    #[error("transform {transform:?} cannot run: {fault}")]
    Unrunnable { transform: String, fault: PluginFault },
    #[error("slice {from}..{to} does not balance; this is a bug")]
    Unbalanced { from: u64, to: u64 },
    #[error("a worker gave up on the replay")]
    Worker,
    #[error("write {path}")]
    Stage {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("write dead letters beside the output")]
    Letters(#[source] std::io::Error),
    #[error("output {output:?} does not take {object}: {error} ({})", .error.detail)]
    Delivery { output: String, object: String, error: DeliverError },
}

impl Replay {
    /// The stream for people: the tenant is told where it is not the first one.
    pub(super) fn label(&self) -> String {
        label(&self.buffer.key().tenant, &self.stream)
    }

    pub(super) fn note<T>(&self, change: impl FnOnce(&mut ReplayProgress) -> T) -> T {
        change(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn state(&self) -> ReplayState {
        self.note(|progress| progress.state)
    }

    /// Runs to the end, whatever it is, and notes it.
    pub(super) async fn run(self: Arc<Self>) {
        let result = self.clone().replay().await;
        let staging = self.staging.clone();
        let removed = tokio::task::spawn_blocking(move || {
            for path in staging {
                // Empty by now, or already gone where several outputs share it.
                let _gone = std::fs::remove_dir_all(path);
            }
        });
        let _panicked = removed.await;
        self.workers.retire(self.lane);
        let progress = self.note(|progress| {
            match &result {
                Ok(letters) => {
                    progress.state = ReplayState::Done;
                    progress.error = None;
                    progress.dead_letters.clone_from(letters);
                }
                Err(RunError::Cancelled) => progress.state = ReplayState::Cancelled,
                Err(error) => {
                    progress.state = ReplayState::Failed;
                    progress.error = Some(with_causes(error));
                }
            }
            progress.clone()
        });
        match result {
            Err(error) if !matches!(error, RunError::Cancelled) => tracing::error!(
                stream = %self.label(), replay = %self.id, error = &error as &dyn std::error::Error, "replay failed"
            ),
            _ => tracing::info!(
                stream = %self.label(), replay = %self.id, state = progress.state.text(), records = progress.records,
                passed = progress.passed, dropped = progress.dropped, failed = progress.failed,
                objects = progress.objects, missing = progress.missing, "replay has ended"
            ),
        }
    }

    async fn replay(self: Arc<Self>) -> Result<Option<PathBuf>, RunError> {
        let rules = self.outputs.iter().map(|output| SealAt { interval: NEVER, ..output.seal }).collect();
        let ordered = self.outputs.iter().any(|output| output.destination.ordered());
        let mut gathering = Gathering {
            open: OpenBatches::new(rules),
            letters: Some(LettersFile::new(&self.beside)),
            objects: JoinSet::new(),
            objects_max: if ordered { 1 } else { OBJECTS_MAX },
            replay: self.clone(),
        };
        let smallest = self.outputs.iter().map(|output| output.seal.size).min().unwrap_or(0);
        let slice_bytes = usize::try_from(smallest / 4).unwrap_or(usize::MAX);
        let slice_bytes = slice_bytes.clamp(*SLICE_BYTES.start(), *SLICE_BYTES.end());
        let mut waiting = Waiting::default();
        let mut in_flight = FuturesOrdered::new();
        let mut read = self.offsets.start;
        loop {
            while in_flight.len() < SLICES_MAX {
                while waiting.bytes() < slice_bytes && read < self.offsets.end {
                    read = self.fill(&mut waiting, read).await?;
                }
                let Some(cut) = waiting.cut(slice_bytes) else { break };
                let (reply, done) = oneshot::channel();
                let route = self.route();
                let (chain, over) = (&self.version.chain, &self.cancel);
                self.workers.submit_slice(&self.tenant, self.lane, chain, over, move |worker| {
                    // Nobody waits when the replay was cancelled.
                    drop(reply.send(cut.run(&route, None, worker)));
                });
                in_flight.push_back(done);
            }
            if in_flight.is_empty() {
                break;
            }
            let done: Option<Result<Done, _>> = tokio::select! {
                // First: what plugins waited for then was cut off.
                biased;
                () = self.cancel.cancelled() => return Err(RunError::Cancelled),
                done = in_flight.next() => done,
            };
            gathering.gather(done.and_then(Result::ok).ok_or(RunError::Worker)?).await?;
        }
        gathering.finish().await
    }

    /// Reads on; files are read on blocking threads.
    async fn fill(self: &Arc<Self>, waiting: &mut Waiting, read: u64) -> Result<u64, RunError> {
        let (replay, wanted) = (self.clone(), read..self.offsets.end);
        let found =
            tokio::task::spawn_blocking(move || replay.buffer.read_history(wanted, *SLICE_BYTES.start()))
                .await;
        let found = found.map_err(|_panicked| RunError::Worker)?.map_err(RunError::Read)?;
        for lost in &found.lost {
            tracing::error!(
                stream = %self.label(), replay = %self.id, from = lost.start, to = lost.end,
                "records of the replay are missing: corrupt, or let go of meanwhile"
            );
            self.note(|progress| progress.missing += lost.end - lost.start);
        }
        for frame in found.frames {
            waiting.push(frame, read);
        }
        Ok(found.next_offset.max(read + 1))
    }

    fn route(&self) -> Route {
        // As live, so that what a plugin draws at random is drawn again.
        let mut seed = [0; 8];
        seed.copy_from_slice(&self.buffer.incarnation()[..8]);
        Route {
            version: self.version.clone(),
            lane: self.lane,
            stream_seed: u64::from_le_bytes(seed),
            traced: false,
            growth: Growth::default(),
            formats: self.outputs.iter().map(|output| output.format).collect(),
            columns: self.outputs.iter().map(|output| output.columns.clone()).collect(),
            // They are in the backup since they came in.
            backup: None,
            outputs: self.outputs.iter().map(|output| output.name.clone()).collect(),
            // How far the stream was then is not known: nobody is late.
            clock: self.event_time.as_ref().map(|rules| SliceClock {
                rules: rules.clone(),
                watermark: NO_TIME,
                marks: None,
                due: false,
                frozen: true,
            }),
            // Its chain keeps no state.
            parallel: None,
        }
    }
}

/// What has come back from the workers and is on its way out.
struct Gathering {
    replay: Arc<Replay>,
    open: OpenBatches,
    letters: Option<LettersFile>,
    objects: JoinSet<Result<(), RunError>>,
    objects_max: usize,
}

impl Gathering {
    async fn gather(&mut self, mut done: Done) -> Result<(), RunError> {
        if let Some((transform, fault)) = done.unrunnable.take() {
            let transform = done.version.transform(transform).to_owned();
            return Err(RunError::Unrunnable { transform, fault });
        }
        let rows: u64 = done.pieces.iter().map(|(_, piece)| piece.records).sum();
        if !done.counts.balanced() || done.counts.emitted != rows {
            return Err(RunError::Unbalanced { from: done.from, to: done.to });
        }
        if !done.letters.is_empty()
            && let Some(mut letters) = self.letters.take()
        {
            let (from, failed) = (done.from, std::mem::take(&mut done.letters));
            let written = tokio::task::spawn_blocking(move || {
                letters.append(from, &failed, wall_clock_ns()).map(|()| letters)
            });
            let written = written.await.map_err(|_panicked| RunError::Worker)?;
            self.letters = Some(written.map_err(RunError::Letters)?);
        }
        self.replay.note(|progress| {
            progress.next_offset = done.to;
            progress.records += done.counts.records;
            progress.passed += done.counts.passed;
            progress.dropped += done.counts.dropped;
            progress.failed += done.counts.failed;
            progress.emitted += done.counts.emitted;
        });
        let now = Instant::now();
        for (key, piece) in done.pieces {
            self.open.add(key, piece, now);
        }
        let all = self.open.pending_bytes() > ROWS_BYTES_MAX;
        if all || self.open.any_full() {
            self.seal(all).await?;
        }
        Ok(())
    }

    async fn seal(&mut self, all: bool) -> Result<(), RunError> {
        for (key, batch) in self.open.take_due(Instant::now(), all) {
            while self.objects.len() >= self.objects_max {
                self.next_object().await?;
            }
            self.objects.spawn(seal::deliver(self.replay.clone(), key, batch));
        }
        Ok(())
    }

    async fn next_object(&mut self) -> Result<(), RunError> {
        match self.objects.join_next().await {
            Some(Ok(delivered)) => delivered,
            Some(Err(_panicked)) => Err(RunError::Worker),
            None => Ok(()),
        }
    }

    async fn finish(mut self) -> Result<Option<PathBuf>, RunError> {
        while !self.open.is_empty() {
            self.seal(true).await?;
        }
        while !self.objects.is_empty() {
            self.next_object().await?;
        }
        let Some(letters) = self.letters.take() else { return Ok(None) };
        let finished = tokio::task::spawn_blocking(move || letters.finish()).await;
        finished.map_err(|_panicked| RunError::Worker)?.map_err(RunError::Letters)
    }
}
