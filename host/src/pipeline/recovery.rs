//! Where a stream stands when its host starts: read from the entries that its checkpoint still needs.
//!
//! Outcomes are replayed in order: what they sealed is delivered again unless a mark says that it was, rows of
//! batches that are still open wait again, dead letters are stored again (the store drops what it has). Staged
//! files that no outcome names are removed; changes of state that the store does not have are applied. Nothing here runs a
//! plugin.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use tokio::time::Instant;
use wasmill_buffer::{EntryKind, Position};
use wasmill_deliver::BatchOwner;
use wasmill_state::Layer;

use super::batch::{OpenBatches, Piece, Rows};
use super::columns::ColumnsError;
use super::commit::{Ready, dead_letter};
use super::context::{Output, StreamContext};
use super::dead_letters::{Changes, Store};
use super::ledger::{CheckpointBody, Mark};
use super::outcome::{self, BatchKey, Outcome, OutcomeError, OutputThen};
use super::sources::with_causes;
use super::state::{StateTrouble, StreamState, is_full};
use super::stream::{Standing, StateBehind};

type Partition = Vec<(String, String)>;

/// What a stream has noted of its batches.
enum Entry {
    Mark(Mark),
    /// Blobs begin at this byte of the body.
    Outcome {
        outcome: Box<Outcome>,
        blobs_at: usize,
        body: Bytes,
    },
}

/// Why a stream cannot go on from what its journal says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    #[error("read the entry at journal position {}", .position.0)]
    Read {
        position: Position,
        #[source]
        error: wasmill_buffer::ReadError,
    },
    #[error("understand the outcome at journal position {}", .position.0)]
    Outcome {
        position: Position,
        #[source]
        error: OutcomeError,
    },
    #[error("apply what the outcome at journal position {} has changed of state", .position.0)]
    State {
        position: Position,
        #[source]
        error: StateTrouble,
    },
    #[error("understand what the outcome at journal position {} has changed of state", .position.0)]
    Layer {
        position: Position,
        #[source]
        error: wasmill_state::LayerError,
    },
    #[error("read the state of the stream")]
    StateStore(#[source] StateTrouble),
    #[error("understand the {what}")]
    Body {
        what: &'static str,
        #[source]
        error: serde_json::Error,
    },
    #[error(
        "the columns that output {output:?} took from its first batch do not go with what the configuration says of them now"
    )]
    Columns {
        output: String,
        #[source]
        error: ColumnsError,
    },
    #[error("the outcome at journal position {} has records for the output {output:?}, which the configuration no longer has; put the output back until they are delivered", .position.0)]
    OutputGone { position: Position, output: String },
    #[error("the outcome at journal position {} has records for the output {output:?} that wait as {format}; set its format back until they are delivered", .position.0)]
    OtherFormat { position: Position, output: String, format: String },
}

/// What was found.
pub(crate) struct Recovered {
    pub(crate) standing: Standing,
    /// Records whose outcome is gone to corruption: they ran, and what of them was not delivered is lost.
    pub(crate) lost: Vec<Range<u64>>,
}

/// Reads the journal's entries of one stream, and applies what of its state the store does not have.
pub(crate) fn recover(
    buffer: &wasmill_buffer::Stream,
    outputs: &[Output],
    state: &StreamState,
) -> Result<Recovered, RecoveryError> {
    with_room(state.check(buffer.journal_end().0)).map_err(RecoveryError::StateStore)?;
    let mut behind = StateBehind::default();
    let CheckpointBody { mut processed, columns: mut pinned, mut watermark, mut watermarks } =
        checkpoint(buffer)?;
    let mut open = OpenBatches::new(outputs.iter().map(|output| output.seal).collect());
    // In the order in which they were sealed, which is that of deliveries: partitions of one slice differ in nothing else.
    let mut undelivered: Vec<Ready> = Vec::new();
    let mut delivered: HashSet<String> = HashSet::new();
    let mut letters = Vec::new();
    let mut replayed = Changes::new();
    let mut lost = Vec::new();
    let mut covered: Option<u64> = None;
    let now = Instant::now();
    for entry in entries(buffer) {
        let (position, entry) = entry?;
        let (outcome, blobs_at, body) = match entry {
            Entry::Mark(mark) => {
                delivered.extend(mark.delivered);
                continue;
            }
            Entry::Outcome { outcome, blobs_at, body } => (*outcome, blobs_at, body),
        };
        if let Some(changes) = outcome.replay {
            replayed.extend(changes);
        } else {
            processed = processed.max(outcome.to);
            // Outcomes follow one another without a gap.
            lost.extend(covered.filter(|end| *end < outcome.from).map(|end| end..outcome.from));
            covered = Some(outcome.to);
        }
        watermark = watermark.max(outcome.watermark);
        for (source, reached) in outcome.watermarks {
            let known = watermarks.entry(source).or_insert(reached);
            *known = reached.max(*known);
        }
        for then in &outcome.outputs {
            if let Some(columns) = &then.columns {
                pinned.insert(then.name.clone(), columns.clone());
            }
        }
        for sealed in outcome.sealed {
            let mut sealed = sealed;
            sealed.key.output = today(position, &outcome.outputs, outputs, sealed.key.output, false)?;
            if !sealed.replayed {
                open.forget(&sealed.key, sealed.last_offset);
            }
            if sealed.records > 0 {
                undelivered.push(Ready { at: position, sealed, inline: None });
            }
        }
        for rows in outcome.open {
            let mut key = rows.key;
            key.output = today(position, &outcome.outputs, outputs, key.output, true)?;
            let blob = rows.blob.start + blobs_at..rows.blob.end + blobs_at;
            let piece = Piece {
                rows: Rows::Durable { at: position, blob, memory: None },
                records: rows.records,
                first_offset: rows.first_offset,
                first_arrival: rows.first_arrival,
            };
            open.restore(key, piece, now);
        }
        if let Some(written) = &outcome.state {
            let layer = Layer::read(written, &body[blobs_at..]);
            let layer = layer.map_err(|error| RecoveryError::Layer { position, error })?;
            apply(state, position, layer, &mut behind)?;
        }
        for letter in &outcome.letters {
            let blob = letter.blob.start + blobs_at..letter.blob.end + blobs_at;
            letters.push(dead_letter(outcome.from, letter, &body.slice(blob)));
        }
    }
    // From here on the journal may let go of them.
    if behind.unwritten.is_some()
        && let Some(_) = with_room(state.write_behind()).map_err(RecoveryError::StateStore)?
    {
        behind.unwritten = None;
    }
    pin(outputs, &pinned)?;
    undelivered.retain(|ready| !delivered.contains(&ready.sealed.batch_id));
    lost.extend(covered.filter(|end| *end < processed).map(|end| end..processed));
    let standing =
        Standing { open, undelivered, processed, letters, replayed, watermark, watermarks, state: behind };
    Ok(Recovered { standing, lost })
}

/// `None` where the disk is too full for it, which ends: no reason not to start.
fn with_room<T>(done: Result<T, StateTrouble>) -> Result<Option<T>, StateTrouble> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(full) if is_full(&full) => {
            tracing::warn!(
                error = with_causes(&full),
                "the disk is too full for the state store; what it cannot take stays in memory and in the journal until there is room"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Gives the store what an outcome has changed, or what it could not take to `behind`.
fn apply(
    state: &StreamState,
    position: Position,
    layer: Layer,
    behind: &mut StateBehind,
) -> Result<(), RecoveryError> {
    let failed = |error| RecoveryError::State { position, error };
    // In their order, or not at all.
    if !behind.unapplied.is_empty()
        || with_room(state.apply(position.0, &[&layer])).map_err(failed)?.is_none()
    {
        behind.unapplied.push((position, layer));
        return Ok(());
    }
    behind.unwritten.get_or_insert(position);
    if state.held().presses() {
        let written = with_room(state.write_behind()).map_err(RecoveryError::StateStore)?;
        behind.unwritten = behind.unwritten.filter(|_| written.is_none());
    }
    Ok(())
}

/// How many records of a stream that does not run are not delivered, as far as its journal tells: a batch of which nobody
/// has noted yet that it was delivered counts.
pub(crate) fn undelivered(buffer: &wasmill_buffer::Stream) -> Result<u64, RecoveryError> {
    let mut processed = checkpoint(buffer)?.processed;
    // By output and partition, with the offset of the first record.
    let mut open: Vec<((String, Partition), u64, u64)> = Vec::new();
    let mut sealed: BTreeMap<String, u64> = BTreeMap::new();
    let mut delivered: HashSet<String> = HashSet::new();
    for entry in entries(buffer) {
        let outcome = match entry?.1 {
            Entry::Mark(mark) => {
                delivered.extend(mark.delivered);
                continue;
            }
            Entry::Outcome { outcome, .. } => *outcome,
        };
        if outcome.replay.is_none() {
            processed = processed.max(outcome.to);
        }
        let place = |key: BatchKey| {
            let output = outcome.outputs.get(key.output as usize).map(|output| output.name.clone());
            (output.unwrap_or_default(), key.partition)
        };
        for batch in outcome.sealed {
            let place = place(batch.key);
            if !batch.replayed {
                open.retain(|(of, first_offset, _)| *of != place || *first_offset > batch.last_offset);
            }
            sealed.insert(batch.batch_id, batch.records);
        }
        open.extend(outcome.open.into_iter().map(|rows| (place(rows.key), rows.first_offset, rows.records)));
    }
    let waiting = sealed.into_iter().filter(|(batch, _)| !delivered.contains(batch));
    let waiting = waiting.map(|(_, records)| records).sum::<u64>();
    let open = open.into_iter().map(|(_, _, records)| records).sum::<u64>();
    Ok(buffer.next_offset().saturating_sub(processed) + waiting + open)
}

fn entries(
    buffer: &wasmill_buffer::Stream,
) -> impl Iterator<Item = Result<(Position, Entry), RecoveryError>> {
    buffer.entries().into_iter().map(|entry| {
        let position = entry.position;
        let body = buffer.read_entry(position).map_err(|error| RecoveryError::Read { position, error })?;
        let entry = if entry.kind == EntryKind::Mark {
            Entry::Mark(Mark::read(&body).map_err(|error| RecoveryError::Body { what: "mark", error })?)
        } else {
            let read = outcome::read(&body).map_err(|error| RecoveryError::Outcome { position, error });
            let (outcome, blobs_at) = read?;
            Entry::Outcome { outcome: Box::new(outcome), blobs_at, body }
        };
        Ok((position, entry))
    })
}

/// What the checkpoint says.
fn checkpoint(buffer: &wasmill_buffer::Stream) -> Result<CheckpointBody, RecoveryError> {
    let body = buffer.latest_checkpoint().filter(|body| !body.is_empty());
    let Some(body) = body else { return Ok(CheckpointBody::default()) };
    serde_json::from_slice(&body).map_err(|error| RecoveryError::Body { what: "checkpoint", error })
}

/// Columns that were taken from first batches, by the name of the output.
pub(crate) fn pinned(buffer: &wasmill_buffer::Stream) -> Result<BTreeMap<String, String>, RecoveryError> {
    let mut pinned = checkpoint(buffer)?.columns;
    for entry in entries(buffer) {
        if let Entry::Outcome { outcome, .. } = entry?.1 {
            let columns = outcome.outputs.into_iter().filter_map(|then| Some((then.name, then.columns?)));
            pinned.extend(columns);
        }
    }
    Ok(pinned)
}

/// Outputs that take their columns from a first batch have those of one that was sealed before.
pub(crate) fn pin(outputs: &[Output], pinned: &BTreeMap<String, String>) -> Result<(), RecoveryError> {
    for output in outputs {
        let Some((columns, text)) = output.columns.as_ref().zip(pinned.get(&output.name)) else { continue };
        // Columns that the configuration gives are there already, and stay.
        columns.pin(text).map_err(|error| RecoveryError::Columns { output: output.name.clone(), error })?;
    }
    Ok(())
}

/// Today's number of an output that had another when the outcome was written. Rows that are framed already need the
/// same format still.
fn today(
    position: Position,
    then: &[OutputThen],
    outputs: &[Output],
    number: u32,
    framed: bool,
) -> Result<u32, RecoveryError> {
    let gone = |output: &str| RecoveryError::OutputGone { position, output: output.to_owned() };
    let then = then.get(number as usize).ok_or_else(|| gone("?"))?;
    let found = outputs.iter().position(|output| output.name == then.name);
    let found = found.ok_or_else(|| gone(&then.name))?;
    let content_type = outputs[found].format.content_type();
    if framed && content_type != then.content_type {
        let (output, format) = (then.name.clone(), then.content_type.clone());
        return Err(RecoveryError::OtherFormat { position, output, format });
    }
    u32::try_from(found).map_err(|_too_many| gone(&then.name))
}

/// Takes out batches whose object is among the dead letters already: a crash came before that was noted.
pub(crate) fn settle_given_up(undelivered: &mut Vec<Ready>, letters: &mut Store) {
    undelivered.retain(|ready| !letters.had_batch(&ready.sealed.batch_id));
    letters.forget_batches();
}

/// Removes staged files of this stream that no outcome names: a crash left them before their outcome was durable, or
/// among the files of the fallback output.
pub(crate) fn clean_staging(context: &StreamContext, undelivered: &[Ready]) {
    let owners: Vec<BatchOwner> = context
        .outputs
        .iter()
        .map(|output| BatchOwner::new(context.buffer.incarnation(), &output.name))
        .collect();
    let needed: HashSet<PathBuf> = undelivered
        .iter()
        .filter(|ready| ready.sealed.inline.is_none())
        .map(|ready| context.outputs[ready.sealed.key.output as usize].staging.made(&ready.sealed))
        .collect();
    for output in &context.outputs {
        output.staging.clean(&owners, &needed, |path, error| {
            tracing::warn!(
                stream = %context.label(), path = %path.display(), %error,
                "staged objects of an earlier run cannot be removed"
            );
        });
    }
}
