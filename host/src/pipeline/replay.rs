//! Replay: letters of records run again through a chain, objects are sent again.
//!
//! Exactly once, whenever the process ends. The store is a source that can be read again, so records need no second
//! copy in the journal: a replay is a slice whose input is the letters, and its **outcome** is one journal entry that
//! carries both what they became (batches of their own, sealed in it) and what becomes of the letters: removed, or
//! failed again. In this order:
//!
//! 1. the letters run through the chain; nothing of it is durable, and a crash leaves letters and destinations as they
//!    were;
//! 2. the outcome is appended. From here on the batches will be delivered, and
//! 3. the letters are changed in the store. A crash between 2 and 3 is healed by recovery, which changes them again
//!    (doing it twice does nothing) before anything is replayed; no checkpoint lets go of the outcome before 3 is done.
//!
//! One replay of a stream at a time, so that no letter is in two of them. Replayed rows never join an open batch: their
//! offsets lie in the past, and batches are named and recovered by offsets. Their batch ids have the journal's end as a
//! further part of the partition's hash, so they are never used again either.
//!
//! Letters of the delivery stage have no records to run: what they hold is sent to its output again (`resend`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wasmill_buffer::Position;
use wasmill_chunk::{ColumnRef, Input};
use wasmill_transform::{PluginFault, Slice};

mod resend;

pub(crate) use self::resend::resend;
use super::batch::{OpenBatch, Piece};
use super::commit::{Commit, CommitError, Committed};
use super::context::StreamContext;
use super::dead_letters::{Change, Changes, DeadLetter, Stage};
use super::fit;
use super::outcome::{BatchKey, Counts, Ran};
use super::plan::ChainVersion;
use super::sink::SliceSink;
use super::slice::finish_options;
use super::workers::{LaneId, WorkerState};

/// Lanes of replays: they neither take the streams' warm instances nor their turn.
pub(crate) const LANE: LaneId = 1 << 63;

/// What became of the letters that were tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Replayed {
    pub tried: u64,
    /// Left for their outputs, or delivered.
    pub passed: u64,
    /// A plugin dropped the record.
    pub dropped: u64,
    /// Stay, with one attempt more.
    pub failed: u64,
}

impl Replayed {
    pub(crate) fn add(&mut self, other: &Replayed) {
        self.tried += other.tried;
        self.passed += other.passed;
        self.dropped += other.dropped;
        self.failed += other.failed;
    }
}

/// Why letters were not tried, or nothing of it counts: they are as they were.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the stream has ended or is stopping")]
    Ended,
    #[error("transform {transform:?} cannot run: {fault}")]
    Unrunnable { transform: String, fault: PluginFault },
    #[error("transform {transform:?} failed on a row of its own, which no letter stands for: {reason}")]
    Rowless { transform: String, reason: String },
    #[error("the outcome of the replay cannot be kept: {reason}")]
    Commit { reason: String },
    #[error("a worker gave up on the replay")]
    Worker,
}

/// Letters of records for the stream's task.
pub(crate) struct Request {
    pub(crate) letters: Vec<DeadLetter>,
    pub(crate) version: Arc<ChainVersion>,
    pub(crate) reply: oneshot::Sender<Result<Replayed, ReplayError>>,
}

/// A replay on its way.
pub(crate) struct Running {
    /// Where the journal ended when it began: its outcome lies behind.
    pub(crate) needs_from: Position,
    pub(crate) task: JoinHandle<Result<(Committed, Replayed), ReplayError>>,
    pub(crate) reply: oneshot::Sender<Result<Replayed, ReplayError>>,
}

impl Running {
    /// `processed` is where the stream's outcomes end.
    pub(crate) fn start(
        request: Request,
        context: &Arc<StreamContext>,
        processed: u64,
        seed: u64,
    ) -> Running {
        let Request { letters, version, reply } = request;
        let needs_from = context.buffer.journal_end();
        let task = tokio::spawn(run(context.clone(), letters, version, processed, needs_from, seed));
        Running { needs_from, task, reply }
    }
}

async fn run(
    context: Arc<StreamContext>,
    letters: Vec<DeadLetter>,
    version: Arc<ChainVersion>,
    processed: u64,
    journal_end: Position,
    stream_seed: u64,
) -> Result<(Committed, Replayed), ReplayError> {
    let (reply, done) = oneshot::channel();
    let (job_context, job_version) = (context.clone(), version.clone());
    let lane = LANE | context.lane;
    context.workers.submit_slice(&context.tenant, lane, &version.chain, &context.over, move |worker| {
        let ran = transform(&job_context, &job_version, &letters, stream_seed, worker);
        worker.forget(lane);
        // The host may have been stopped meanwhile; then nobody waits.
        drop(reply.send(ran));
    });
    let ran = done.await;
    // Of the threads on which slices wait, the stream's own have its part.
    context.workers.retire(lane);
    // What its plugins waited for was cut off.
    if context.over.is_cancelled() {
        return Err(ReplayError::Ended);
    }
    let ran = ran.map_err(|_gone| ReplayError::Worker)??;
    let now = Instant::now();
    let mut rows = vec![0; context.outputs.len()];
    for (key, piece) in &ran.pieces {
        rows[key.output as usize] += piece.records;
    }
    let commit = Arc::new(Commit {
        from: processed,
        to: processed,
        chain: vec![Ran { to: processed, digests: version.digests.clone() }],
        counts: Counts { emitted: ran.emitted, ..Counts::default() },
        rows,
        due: ran.pieces.into_iter().map(|(key, piece)| (key, OpenBatch::of(piece, now))).collect(),
        open: Vec::new(),
        pieces: Vec::new(),
        blobs: Vec::new(),
        letters: Vec::new(),
        replay: Some(super::commit::Replay { journal_end: journal_end.0, changes: ran.changes }),
    });
    let committed = commit
        .run(context)
        .await
        .map_err(|error: CommitError| ReplayError::Commit { reason: super::sources::with_causes(&error) })?;
    Ok((committed, ran.replayed))
}

struct Transformed {
    pieces: Vec<(BatchKey, Piece)>,
    emitted: u64,
    changes: Changes,
    replayed: Replayed,
}

/// Runs on a worker thread.
fn transform(
    context: &StreamContext,
    version: &ChainVersion,
    letters: &[DeadLetter],
    stream_seed: u64,
    worker: &mut WorkerState,
) -> Result<Transformed, ReplayError> {
    let payloads: Vec<(Vec<u8>, [u32; 1])> = letters
        .iter()
        .map(|letter| {
            let payload = letter.payload_bytes();
            // A record is far shorter than 4 GiB.
            let end = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            (payload, [end])
        })
        .collect();
    let inputs: Vec<Input<'_>> = letters
        .iter()
        .zip(&payloads)
        .map(|(letter, (data, ends))| Input {
            arrival: letter.arrival,
            ..Input::of_payloads(u64::try_from(letter.offset).unwrap_or(0), ColumnRef { data, ends })
        })
        .collect();
    let id = inputs.first().map_or(0, |input| input.first_offset);
    let formats: Vec<_> = context.outputs.iter().map(|output| output.format).collect();
    let options = finish_options(&formats);
    let mut sink = SliceSink::new(formats, id, 0);
    let columns: Vec<_> = context.outputs.iter().map(|output| output.columns.clone()).collect();
    if columns.iter().any(Option::is_some) {
        sink = sink.traced();
    }
    let slice = Slice { id, stream_seed, inputs: &inputs };
    let report = worker.run(LANE | context.lane, &version.chain, &slice, &options, &mut sink);
    context.stats.with_transforms(|transforms| {
        let sent = report.transforms.iter().map(|transform| transform.http);
        transforms.iter_mut().zip(sent).for_each(|(stats, sent)| stats.http.add(sent));
    });
    if let Some((transform, fault)) = report.unrunnable {
        return Err(ReplayError::Unrunnable { transform: version.transform(transform).to_owned(), fault });
    }
    let mut changes: Changes = letters.iter().map(|letter| (letter.number, Change::Removed)).collect();
    let mut failed = 0;
    for failure in &report.failures {
        let Some(letter) = letters.get(failure.input) else {
            // Nobody could keep a letter of it: then all stay as they are.
            return Err(ReplayError::Rowless {
                transform: failure.transform.to_string(),
                reason: failure.reason.clone(),
            });
        };
        let output = context.outputs.get(failure.route as usize).filter(|_| failure.transform.is_empty());
        failed += 1;
        let again = Change::Again {
            stage: if output.is_some() { Stage::Encode } else { Stage::Transform },
            transform: failure.transform.to_string(),
            plugin: failure.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
            output: output.map(|output| output.name.clone()),
            reason: failure.reason.clone(),
            attempts: letter.attempts.saturating_add(1),
        };
        changes.insert(letter.number, again);
    }
    let withdrawn = fit::withdraw(&mut sink, &columns);
    let mut unfit = 0;
    for found in withdrawn.unfit {
        let output = context.outputs.get(found.route as usize).map(|output| output.name.clone());
        if found.offset < 0 {
            return Err(ReplayError::Rowless { transform: output.unwrap_or_default(), reason: found.reason });
        }
        // Letters can have an offset in common; rows of all of them were withdrawn.
        for letter in letters.iter().filter(|letter| letter.offset == found.offset) {
            let again = Change::Again {
                stage: Stage::Encode,
                transform: String::new(),
                plugin: String::new(),
                output: output.clone(),
                reason: found.reason.clone(),
                attempts: letter.attempts.saturating_add(1),
            };
            if matches!(changes.insert(letter.number, again), Some(Change::Removed)) {
                unfit += 1;
            }
        }
    }
    let tried = letters.len() as u64;
    let failed = failed + unfit;
    // What neither passed nor failed was dropped.
    let passed = report.passed.saturating_sub(unfit);
    let replayed = Replayed { tried, passed, dropped: tried.saturating_sub(passed + failed), failed };
    let emitted = report.emitted - withdrawn.rows;
    Ok(Transformed { pieces: sink.into_pieces(), emitted, changes, replayed })
}
