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
//! A chain that keeps state runs letters between two slices, over the state of that moment, and the outcome carries what it
//! has changed. Letters that hold a row of plugins in place of a record stay: what was changed of state for that record has
//! counted.
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
use wasmill_state::Layer;
use wasmill_transform::{Kept, PluginFault, Slice};

mod resend;

pub(crate) use self::resend::resend;
use super::batch::{OpenBatch, Piece};
use super::commit::{Commit, CommitError, Committed};
use super::context::StreamContext;
use super::dead_letters::{Change, Changes, DeadLetter, Stage};
use super::due::Due;
use super::fit::{self, Checks, as_check};
use super::outcome::{BatchKey, Counts, Ran};
use super::plan::ChainVersion;
use super::sink::SliceSink;
use super::slice::finish_options;
use super::state::{StateBelow, unreadable};
use super::workers::{LaneId, WorkerState};

/// Lanes of replays: they neither take the streams' warm instances nor their turn.
pub(crate) const LANE: LaneId = 1 << 63;

/// Why a letter stays that is a row of plugins which keep state.
const ROW_STAYS: &str = "the plugins of this stream keep state, and have seen the record that this row is of: they cannot run on \
    it again; export it, and send the row on";

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
    #[error(
        "its plugins keep state, so this waits for an outcome whose dead letters have no room: purge some, or raise \"max_bytes\""
    )]
    NoRoom,
}

/// Letters of records for the stream's task.
pub(crate) struct Request {
    pub(crate) letters: Vec<DeadLetter>,
    pub(crate) version: Arc<ChainVersion>,
    /// No letters run: this is what changes of state.
    pub(crate) clear: Option<Layer>,
    pub(crate) reply: oneshot::Sender<Result<Replayed, ReplayError>>,
}

/// A replay on its way.
pub(crate) struct Running {
    /// Where the journal ended when it began: its outcome lies behind.
    pub(crate) needs_from: Position,
    /// It may change state.
    pub(crate) keeps_state: bool,
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
        state: Option<StateBelow>,
    ) -> Running {
        let Request { letters, version, clear, reply } = request;
        let needs_from = context.buffer.journal_end();
        let keeps_state = state.is_some() || clear.is_some();
        let over = Over { seed, state, clear };
        let ran = run(context.clone(), letters, version, processed, needs_from, over);
        Running { needs_from, keeps_state, task: tokio::spawn(ran), reply }
    }
}

/// What a replay runs over.
struct Over {
    /// Of the stream.
    seed: u64,
    /// Of a chain that keeps some.
    state: Option<StateBelow>,
    /// In place of what letters change.
    clear: Option<Layer>,
}

async fn run(
    context: Arc<StreamContext>,
    letters: Vec<DeadLetter>,
    version: Arc<ChainVersion>,
    processed: u64,
    journal_end: Position,
    over: Over,
) -> Result<(Committed, Replayed), ReplayError> {
    let Over { seed, state, clear } = over;
    if let Some(layer) = clear {
        let commit = Commit {
            from: processed,
            to: processed,
            chain: Vec::new(),
            counts: Counts::default(),
            rows: vec![0; context.outputs.len()],
            due: Vec::new(),
            open: Vec::new(),
            pieces: Vec::new(),
            blobs: Vec::new(),
            letters: Vec::new(),
            replay: Some(super::commit::Replay { journal_end: journal_end.0, changes: Changes::new() }),
            state: Arc::new(layer),
        };
        let committed = Arc::new(commit).run(context).await;
        let failed = |error: CommitError| ReplayError::Commit { reason: super::sources::with_causes(&error) };
        return Ok((committed.map_err(failed)?, Replayed::default()));
    }
    let (reply, done) = oneshot::channel();
    let (job_context, job_version) = (context.clone(), version.clone());
    let lane = LANE | context.lane;
    context.workers.submit_slice(&context.tenant, lane, &version.chain, &context.over, move |worker| {
        let ran = transform(&job_context, &job_version, &letters, (seed, state), worker);
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
        due: ran.pieces.into_iter().map(|(key, piece)| Due::new(key, OpenBatch::of(piece, now))).collect(),
        open: Vec::new(),
        pieces: Vec::new(),
        blobs: Vec::new(),
        letters: Vec::new(),
        state: Arc::new(ran.state),
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
    /// What has changed of state.
    state: Layer,
}

/// Runs on a worker thread.
fn transform(
    context: &StreamContext,
    version: &ChainVersion,
    letters: &[DeadLetter],
    (stream_seed, state): (u64, Option<StateBelow>),
    worker: &mut WorkerState,
) -> Result<Transformed, ReplayError> {
    let keeps = state.is_some();
    let tried = letters.len() as u64;
    let (rows, letters): (Vec<&DeadLetter>, Vec<&DeadLetter>) =
        letters.iter().partition(|letter| keeps && letter.is_row_of_plugins());
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
    let time = inputs.first().map_or(0, |input| input.arrival);
    let (chain, lane) = (&version.chain, LANE | context.lane);
    let mut checks = Checks::of(&columns);
    let (report, layer) = match state.map(|below| below.over(time)).transpose() {
        Ok(state) => {
            let kept = state.map(|state| Kept { state, check: as_check(&mut checks) });
            worker.run_keeping(lane, chain, &slice, &options, &mut sink, kept)
        }
        Err(error) => (unreadable(chain, &error), None),
    };
    context.stats.with_transforms(|transforms| {
        let sent = report.transforms.iter().map(|transform| transform.http);
        transforms.iter_mut().zip(sent).for_each(|(stats, sent)| stats.http.add(sent));
    });
    if let Some((transform, fault)) = report.unrunnable {
        return Err(ReplayError::Unrunnable { transform: version.transform(transform).to_owned(), fault });
    }
    let mut changes: Changes = letters.iter().map(|letter| (letter.number, Change::Removed)).collect();
    let mut failed = rows.len() as u64;
    changes.extend(rows.into_iter().map(|letter| (letter.number, stays(letter))));
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
    let withdrawn = fit::withdraw(&mut sink, checks);
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
    let failed = failed + unfit;
    // What neither passed nor failed was dropped.
    let passed = report.passed.saturating_sub(unfit);
    let replayed = Replayed { tried, passed, dropped: tried.saturating_sub(passed + failed), failed };
    let emitted = report.emitted - withdrawn.rows;
    let state = layer.unwrap_or_default();
    Ok(Transformed { pieces: sink.into_pieces(), emitted, changes, replayed, state })
}

/// What becomes of a row that plugins made of a record which they have seen: run on it again, they would keep it twice.
fn stays(letter: &DeadLetter) -> Change {
    Change::Again {
        stage: letter.stage,
        transform: letter.transform.clone(),
        plugin: letter.plugin.clone(),
        output: letter.output.clone(),
        reason: ROW_STAYS.to_owned(),
        attempts: letter.attempts.saturating_add(1),
    }
}
