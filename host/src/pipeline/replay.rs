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
//! has changed. Where the stream's keys run in strands, each letter runs in the one that has its record's key. Letters that
//! hold a row of plugins in place of a record stay: what was changed of state for that record has counted.
//!
//! One replay of a stream at a time, so that no letter is in two of them. Replayed rows never join an open batch: their
//! offsets lie in the past, and batches are named and recovered by offsets. Their batch ids have the journal's end as a
//! further part of the partition's hash, so they are never used again either.
//!
//! Transforms are told of a watermark in the same way while no records come (`stream/clock.rs`): such a run has no letters, and
//! its outcome has those of rows that fail.
//!
//! Letters of the delivery stage have no records to run: what they hold is sent to its output again (`resend`).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wasmill_buffer::Position;
use wasmill_chunk::{ColumnRef, Input};
use wasmill_state::{Changing, Layer, Strand};
use wasmill_transform::{Kept, PluginFault, RowTimes, Slice, Times};

mod emptying;
mod resend;

pub(crate) use self::emptying::Emptying;
pub(crate) use self::resend::resend;
use super::batch::{OpenBatch, Piece};
use super::commit::{Commit, CommitError, Committed};
use super::context::StreamContext;
use super::dead_letters::{Change, Changes, DeadLetter, Stage};
use super::due::Due;
use super::event_time::{LateCounts, NO_TIME, SliceClock};
use super::fit::{self, Checks, as_check};
use super::outcome::{self, BatchKey, Counts, Letter};
use super::plan::ChainVersion;
use super::sink::SliceSink;
use super::slice::finish_options;
use super::sources::names::SourceColumns;
use super::state::{StateBelow, unreadable};
use super::stats::wall_clock_ns;
use super::strands;
use super::stream::Reached;
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
    /// Stay as they are: no record stands behind them, or what was to be delivered was not kept.
    #[serde(default)]
    pub skipped: u64,
}

impl Replayed {
    pub(crate) fn add(&mut self, other: &Replayed) {
        self.tried += other.tried;
        self.passed += other.passed;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.skipped += other.skipped;
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
    #[error("its state cannot be read: {reason}")]
    State { reason: String },
    #[error(
        "state cannot be stored now, and what ran before the drop has to be: try again when the stream goes on"
    )]
    Unapplied,
}

/// Letters of records for the stream's task.
pub(crate) struct Request {
    pub(crate) letters: Vec<DeadLetter>,
    pub(crate) version: Arc<ChainVersion>,
    /// No letters run: tables are emptied.
    pub(crate) clear: Option<Emptying>,
    /// No letters run: transforms are told of this watermark.
    pub(crate) tell: Option<i64>,
    /// Without what was committed.
    pub(crate) reply: oneshot::Sender<Result<Ran, ReplayError>>,
}

/// A replay on its way.
pub(crate) struct Running {
    /// Where the journal ended when it began: its outcome lies behind.
    pub(crate) needs_from: Position,
    /// It may change state.
    pub(crate) keeps_state: bool,
    pub(crate) tell: Option<i64>,
    pub(crate) task: JoinHandle<Result<Ran, ReplayError>>,
    pub(crate) reply: oneshot::Sender<Result<Ran, ReplayError>>,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Ran {
    /// None where nothing did.
    pub(crate) committed: Option<Committed>,
    pub(crate) replayed: Replayed,
    /// Entries of the tables that were emptied; none where there is no such table.
    pub(crate) emptied: Option<u64>,
    /// Transforms have more to do at the watermark.
    pub(crate) owed: bool,
}

impl Running {
    /// `processed` is where the stream's outcomes end.
    pub(crate) fn start(
        request: Request,
        context: &Arc<StreamContext>,
        processed: u64,
        seed: u64,
        state: Option<StateBelow>,
        clock: Option<SliceClock>,
    ) -> Running {
        let Request { letters, version, clear, tell, reply } = request;
        let needs_from = context.buffer.journal_end();
        let keeps_state = state.is_some() || clear.is_some() || tell.is_some();
        // Letters are not judged, and move nothing.
        let clock = clock.map(|clock| match tell {
            Some(watermark) => SliceClock { watermark, due: true, frozen: false, ..clock },
            None => SliceClock { frozen: true, ..clock },
        });
        let over = Over { seed, state, clear, clock, tell };
        let ran = run(context.clone(), letters, version, processed, needs_from, over);
        Running { needs_from, keeps_state, tell, task: tokio::spawn(ran), reply }
    }
}

/// What a replay runs over.
struct Over {
    /// Of the stream.
    seed: u64,
    /// Of a chain that keeps some.
    state: Option<StateBelow>,
    /// In place of letters: which tables are emptied.
    clear: Option<Emptying>,
    /// Of a stream that has event time.
    clock: Option<SliceClock>,
    /// In place of letters: what transforms are told.
    tell: Option<i64>,
}

async fn run(
    context: Arc<StreamContext>,
    letters: Vec<DeadLetter>,
    version: Arc<ChainVersion>,
    processed: u64,
    journal_end: Position,
    over: Over,
) -> Result<Ran, ReplayError> {
    let Over { seed, state, clear, clock, tell } = over;
    if let Some(emptying) = clear {
        return emptying.run(context, processed, journal_end).await;
    }
    let (reply, done) = oneshot::channel();
    let (job_context, job_version) = (context.clone(), version.clone());
    let lane = LANE | context.lane;
    context.workers.submit_slice(&context.tenant, lane, &version.chain, &context.over, move |worker| {
        let letters = letters.iter().collect();
        let input = Transforming { letters, processed, seed, clock, told: tell.is_some() };
        let ran = transform(&job_context, &job_version, &input, state, worker);
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
    let owed = ran.owed;
    if tell.is_some() && ran.pieces.is_empty() && ran.state.is_empty() && ran.letters.is_empty() {
        return Ok(Ran { replayed: ran.replayed, owed, ..Ran::default() });
    }
    let now = Instant::now();
    let mut rows = vec![0; context.outputs.len()];
    for (key, piece) in &ran.pieces {
        rows[key.output as usize] += piece.records;
    }
    let commit = Arc::new(Commit {
        from: processed,
        to: processed,
        chain: vec![outcome::Ran { to: processed, digests: version.digests.clone() }],
        counts: Counts { emitted: ran.emitted, ..Counts::default() },
        rows,
        due: ran.pieces.into_iter().map(|(key, piece)| Due::new(key, OpenBatch::of(piece, now))).collect(),
        open: Vec::new(),
        pieces: Vec::new(),
        blobs: Vec::new(),
        letters: Vec::new(),
        state: Arc::new(ran.state),
        replay: Some(super::commit::Replay {
            journal_end: journal_end.0,
            changes: ran.changes,
            told: tell.map(|_| ran.letters),
        }),
        event_time: tell.map(|watermark| Reached { watermark, marks: None, late: LateCounts::default() }),
        seen: None,
    });
    let committed = commit
        .run(context)
        .await
        .map_err(|error: CommitError| ReplayError::Commit { reason: super::sources::with_causes(&error) })?;
    Ok(Ran { committed: Some(committed), replayed: ran.replayed, emptied: None, owed })
}

/// What runs.
struct Transforming<'a> {
    letters: Vec<&'a DeadLetter>,
    /// Where the stream's outcomes end.
    processed: u64,
    /// Of the stream.
    seed: u64,
    clock: Option<SliceClock>,
    /// Transforms are told of the clock's watermark, and what of theirs fails becomes letters.
    told: bool,
}

#[derive(Default)]
struct Transformed {
    pieces: Vec<(BatchKey, Piece)>,
    emitted: u64,
    changes: Changes,
    replayed: Replayed,
    /// What has changed of state.
    state: Layer,
    /// Of rows that no record stands behind.
    letters: Vec<(Letter, Bytes)>,
    /// Transforms have more to do at the watermark.
    owed: bool,
}

impl Transformed {
    /// What another strand has made of its letters.
    fn add(&mut self, other: Transformed) {
        let Transformed { pieces, emitted, changes, replayed, state, letters, owed } = other;
        self.pieces.extend(pieces);
        self.emitted += emitted;
        self.changes.extend(changes);
        self.replayed.add(&replayed);
        self.state.add(state);
        self.letters.extend(letters);
        self.owed |= owed;
    }
}

/// Runs on a worker thread. Strands, where the stream's keys run in some, one after another: there is little to do, and in
/// order.
fn transform(
    context: &StreamContext,
    version: &ChainVersion,
    input: &Transforming<'_>,
    state: Option<StateBelow>,
    worker: &mut WorkerState,
) -> Result<Transformed, ReplayError> {
    let parallel = context.parallel.as_ref().filter(|_| state.is_some() || input.clock.is_some());
    let Some(parallel) = parallel else {
        return transform_share(context, version, input, (state.as_ref(), None), worker);
    };
    let payloads: Vec<Vec<u8>> = input.letters.iter().map(|letter| letter.payload_bytes()).collect();
    // A record is far shorter than 4 GiB.
    let ends: Vec<[u32; 1]> =
        payloads.iter().map(|payload| [u32::try_from(payload.len()).unwrap_or(u32::MAX)]).collect();
    let columns = payloads.iter().zip(&ends).map(|(data, ends)| ColumnRef { data, ends });
    let records: Vec<Input<'_>> = columns.map(|column| Input::of_payloads(0, column)).collect();
    let numbers = parallel.numbers(&records);
    let (mut whole, changing) = (Transformed::default(), Changing::default());
    for strand in parallel.strands.each() {
        let letters = input.letters.iter().zip(&numbers).filter(|(_, number)| **number == strand.number);
        let letters: Vec<&DeadLetter> = letters.map(|(letter, _)| *letter).collect();
        if letters.is_empty() && !input.told {
            continue;
        }
        let seed = strands::seed(input.seed, strand.number);
        let share = Transforming { letters, seed, clock: input.clock.clone(), ..*input };
        let over = (state.as_ref(), Some((strand, changing.clone())));
        whole.add(transform_share(context, version, &share, over, worker)?);
    }
    whole.pieces = strands::joined(whole.pieces);
    Ok(whole)
}

/// The letters of one strand, or all.
fn transform_share(
    context: &StreamContext,
    version: &ChainVersion,
    input: &Transforming<'_>,
    (state, strand): (Option<&StateBelow>, Option<(Strand, Changing)>),
    worker: &mut WorkerState,
) -> Result<Transformed, ReplayError> {
    let keeps = state.is_some();
    let Transforming { letters, processed, seed: stream_seed, clock, told } = input;
    let (stream_seed, told) = (*stream_seed, *told);
    let tried = letters.len() as u64;
    let (rows, letters): (Vec<&DeadLetter>, Vec<&DeadLetter>) =
        letters.iter().copied().partition(|letter| keeps && letter.is_row_of_plugins());
    let (letters, times, untimed) = with_times(letters, clock.as_ref());
    let payloads: Vec<(Vec<u8>, [u32; 1])> = letters
        .iter()
        .map(|letter| {
            let payload = letter.payload_bytes();
            // A record is far shorter than 4 GiB.
            let end = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            (payload, [end])
        })
        .collect();
    let sources = SourceColumns::of(letters.iter().map(|letter| (letter.source.as_deref(), 1)));
    let attributes = sources.attributes();
    let inputs: Vec<Input<'_>> = letters
        .iter()
        .zip(&payloads)
        .zip(&attributes)
        .map(|((letter, (data, ends)), attributes)| Input {
            arrival: letter.arrival,
            attributes,
            ..Input::of_payloads(u64::try_from(letter.offset).unwrap_or(0), ColumnRef { data, ends })
        })
        .collect();
    let id = inputs.first().map_or(*processed, |input| input.first_offset);
    let formats: Vec<_> = context.outputs.iter().map(|output| output.format).collect();
    let options = finish_options(&formats);
    let mut sink = SliceSink::new(formats, id, 0);
    let columns: Vec<_> = context.outputs.iter().map(|output| output.columns.clone()).collect();
    if columns.iter().any(Option::is_some) {
        sink = sink.traced();
    }
    let slice = Slice { id, stream_seed, inputs: &inputs };
    let now = if told { wall_clock_ns() } else { 0 };
    let time = inputs.first().map_or(now, |input| input.arrival);
    let watermark = clock.as_ref().map_or(NO_TIME, |clock| clock.watermark);
    let watermarks = [watermark];
    let row_times: Vec<RowTimes<'_>> = times
        .iter()
        .map(|time| RowTimes { times: std::slice::from_ref(time), watermarks: &watermarks })
        .collect();
    let of_rows = clock.as_ref().map(|_| Times {
        rows: &row_times,
        before: watermark,
        after: watermark,
        due: told,
        arrival: time,
    });
    let (chain, lane) = (&version.chain, LANE | context.lane);
    let mut checks = Checks::of(&columns);
    let (report, layer, owed) = match state.map(|below| below.over(time, strand)).transpose() {
        Ok(state) => {
            let kept = state.map(|state| Kept { state, check: as_check(&mut checks) });
            worker.run_keeping(lane, chain, (&slice, of_rows), &options, &mut sink, kept)
        }
        Err(error) => (unreadable(chain, &error), None, false),
    };
    context.quota.state_refused(&report.transforms);
    context.stats.with_transforms(|transforms| {
        let sent = report.transforms.iter().map(|transform| transform.http);
        transforms.iter_mut().zip(sent).for_each(|(stats, sent)| stats.http.add(sent));
    });
    if let Some((transform, fault)) = report.unrunnable {
        return Err(ReplayError::Unrunnable { transform: version.transform(transform).to_owned(), fault });
    }
    let mut changes: Changes = letters.iter().map(|letter| (letter.number, Change::Removed)).collect();
    let mut failed = (rows.len() + untimed.len()) as u64;
    changes.extend(untimed.into_iter().map(|(letter, reason)| (letter.number, again(letter, reason))));
    let mut made: Vec<(Letter, Bytes)> = Vec::new();
    changes.extend(rows.into_iter().map(|letter| (letter.number, stays(letter))));
    for failure in &report.failures {
        let Some(letter) = letters.get(failure.input) else {
            if told {
                let output = context.outputs.get(failure.route as usize);
                let output =
                    output.filter(|_| failure.transform.is_empty()).map(|output| output.name.clone());
                let row = Bytes::copy_from_slice(&failure.payload);
                made.push(of_nobody(time, output, failure.reason.clone(), row, |letter| {
                    letter.transform = failure.transform.to_string();
                    letter.plugin = failure.digest.as_ref().map(ToString::to_string).unwrap_or_default();
                }));
                continue;
            }
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
        if found.offset < 0 && told {
            made.push(of_nobody(found.arrival, output, found.reason, Bytes::from(found.row), |_| ()));
            continue;
        }
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
    let replayed =
        Replayed { tried, passed, dropped: tried.saturating_sub(passed + failed), failed, skipped: 0 };
    let emitted = report.emitted - withdrawn.rows;
    let state = layer.unwrap_or_default();
    Ok(Transformed { pieces: sink.into_pieces(), emitted, changes, replayed, state, letters: made, owed })
}

/// Letters that run, with their event times, and those that cannot, with the reason.
fn with_times<'a>(
    letters: Vec<&'a DeadLetter>,
    clock: Option<&SliceClock>,
) -> (Vec<&'a DeadLetter>, Vec<i64>, Vec<(&'a DeadLetter, String)>) {
    let Some(clock) = clock else { return (letters, Vec::new(), Vec::new()) };
    let (mut run, mut times, mut untimed) = (Vec::new(), Vec::new(), Vec::new());
    for letter in letters {
        // A row of plugins is no record, and has no time of its own.
        if letter.is_row_of_plugins() {
            run.push(letter);
            times.push(NO_TIME);
            continue;
        }
        let data = letter.payload_bytes();
        // A record is far shorter than 4 GiB.
        let ends = [u32::try_from(data.len()).unwrap_or(u32::MAX)];
        let column = ColumnRef { data: &data, ends: &ends };
        let input = Input { arrival: letter.arrival, ..Input::of_payloads(0, column) };
        match clock.rules.of_letter(&input) {
            Ok(time) => {
                run.push(letter);
                times.push(time);
            }
            Err(reason) => untimed.push((letter, reason)),
        }
    }
    (run, times, untimed)
}

/// The letter of a row that no record stands behind.
fn of_nobody(
    arrival: i64,
    output: Option<String>,
    reason: String,
    row: Bytes,
    of: impl FnOnce(&mut Letter),
) -> (Letter, Bytes) {
    let mut letter = Letter {
        offset: -1,
        child: 0,
        arrival,
        source: None,
        transform: String::new(),
        plugin: String::new(),
        output,
        reason,
        blob: 0..0,
    };
    of(&mut letter);
    (letter, row)
}

/// What becomes of a letter that fails again before any transform saw it.
fn again(letter: &DeadLetter, reason: String) -> Change {
    Change::Again {
        stage: letter.stage,
        transform: letter.transform.clone(),
        plugin: letter.plugin.clone(),
        output: letter.output.clone(),
        reason,
        attempts: letter.attempts.saturating_add(1),
    }
}

/// What becomes of a row that plugins made of a record which they have seen: run on it again, they would keep it twice.
fn stays(letter: &DeadLetter) -> Change {
    again(letter, ROW_STAYS.to_owned())
}
