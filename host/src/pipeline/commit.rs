//! One commit: due batches become staged objects, the outcome becomes durable.
//!
//! In this order, and nothing outside sees any of it before the last step is done:
//!
//! 1. every due batch is encoded on the worker threads; a large one into a synced file of its output's
//!    staging directory (or of the spool, when the destination is in trouble), a small one into the outcome itself;
//! 2. the staging directories are synced;
//! 3. the outcome is appended to the journal (one sync, shared with whoever appends at that moment);
//! 4. its dead letters are copied into the stream's store, or those that it replayed are taken out.
//!
//! A crash before 3 leaves files that recovery removes; after 3 recovery finishes from the outcome.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use wasmill_buffer::{EntryKind, Position};
use wasmill_columnar::{Converter, Rejected, SchemaError};
use wasmill_deliver::{NameContext, batch_id};
use wasmill_encode::{Encoded, Encoder, extension};
use wasmill_state::{Layer, Written};

use super::batch::{OpenBatch, PieceId, Rows};
use super::columns::{self, Columns, ColumnsError};
use super::context::{Output, StreamContext};
use super::dead_letters::{Changes, DeadLetter};
use super::fit;
use super::outcome::{self, BatchKey, Counts, Letter, OpenRows, Outcome, OutcomeError, Ran, Sealed};
use super::stream::Reached;

/// Of a batch of which no row fits.
const NOTHING: Encoded = Encoded { raw_bytes: 0, bytes: 0, digest: 0, body_digest: 0 };
/// What the stream has decided to make durable.
pub(crate) struct Commit {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) chain: Vec<Ran>,
    pub(crate) counts: Counts,
    /// Rows that this outcome is the first to carry, by output.
    pub(crate) rows: Vec<u64>,
    pub(crate) due: Vec<(BatchKey, OpenBatch)>,
    /// Rows of batches that stay open; ranges are within `blobs`.
    pub(crate) open: Vec<OpenRows>,
    /// Of `open`, one by one.
    pub(crate) pieces: Vec<PieceId>,
    pub(crate) blobs: Vec<u8>,
    pub(crate) letters: Vec<(Letter, Bytes)>,
    pub(crate) replay: Option<Replay>,
    /// What has changed of state.
    pub(crate) state: Arc<Layer>,
    /// Of a stream that has event time.
    pub(crate) event_time: Option<Reached>,
}

/// What makes a commit that of a replay.
pub(crate) struct Replay {
    /// Where the journal ended when it began; part of the batch ids.
    pub(crate) journal_end: u64,
    pub(crate) changes: Changes,
    /// No letters ran: transforms were told of a watermark. Rows of theirs that fail become letters, those here first.
    pub(crate) told: Option<Vec<(Letter, Bytes)>>,
}

/// What is durable now.
pub(crate) struct Committed {
    pub(crate) at: Position,
    pub(crate) to: u64,
    pub(crate) counts: Counts,
    pub(crate) rows: Vec<u64>,
    pub(crate) sealed: Vec<Ready>,
    /// Rows that were sealed and did not fit the columns of their output, by its number: they are dead letters.
    pub(crate) refused: Vec<(u32, u64)>,
    pub(crate) state: Arc<Layer>,
    pub(crate) event_time: Option<Reached>,
    /// Where the rows of open batches lie in the outcome's body.
    pub(crate) open: HashMap<PieceId, Range<usize>>,
}

/// A sealed batch whose outcome is durable.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub(crate) at: Position,
    pub(crate) sealed: Sealed,
    /// The object, if the outcome carries it; else it is in the staged file.
    pub(crate) inline: Option<Bytes>,
}

/// Why nothing became durable. Everything may be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("write {path} into staging")]
    Stage {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("encode a batch")]
    Encode(#[source] io::Error),
    #[error("read back rows of an open batch")]
    Read(#[source] wasmill_buffer::ReadError),
    #[error("append the outcome")]
    Append(#[source] wasmill_buffer::AppendError),
    #[error(transparent)]
    Outcome(#[from] OutcomeError),
    #[error("output {output:?} gets no columns: give it some in the configuration")]
    Columns {
        output: String,
        #[source]
        error: ColumnsError,
    },
    #[error("{rows} rows do not fit the columns of output {output:?}: {reason}")]
    Unfit { output: String, rows: usize, reason: String },
    #[error("a worker thread gave up on a batch")]
    Worker,
}

struct Staged {
    sealed: Sealed,
    inline: Option<Vec<u8>>,
    /// Rows that are not in it.
    refused: Vec<(Letter, Bytes)>,
}

impl Commit {
    /// Makes it durable. After an error it may be run again: nothing outside has seen anything of it.
    pub(crate) async fn run(self: Arc<Self>, context: Arc<StreamContext>) -> Result<Committed, CommitError> {
        let mut encoding = Vec::with_capacity(self.due.len());
        for index in 0..self.due.len() {
            let (reply, done) = oneshot::channel();
            let (commit, job_context) = (self.clone(), context.clone());
            context.workers.submit(&context.tenant, context.lane, move |worker| {
                let (key, batch) = &commit.due[index];
                let staged = stage(&job_context, key, batch, commit.replay.as_ref(), &mut worker.encoder);
                // The stream may have been stopped meanwhile; then nobody waits.
                drop(reply.send(staged));
            });
            encoding.push(done);
        }
        let mut sealed = Vec::with_capacity(encoding.len());
        let mut blobs = Blobs::after(&self.blobs);
        let mut inline = Vec::new();
        let (mut refused, mut unfit) = (Vec::new(), Vec::new());
        let told = self.replay.as_ref().and_then(|replay| replay.told.as_ref());
        unfit.extend(told.into_iter().flatten().cloned());
        for done in encoding {
            let mut staged = done.await.map_err(|_gone| CommitError::Worker)??;
            if let Some(object) = staged.inline {
                let object = Bytes::from(object);
                staged.sealed.inline = Some(blobs.push(object.clone()));
                inline.push(Some(object));
            } else {
                inline.push(None);
            }
            if !staged.refused.is_empty() {
                refused.push((staged.sealed.key.output, staged.refused.len() as u64));
                unfit.append(&mut staged.refused);
            }
            sealed.push(staged.sealed);
        }
        let state = self.write_state(&context, &mut blobs).await?;
        #[cfg(test)]
        self.plant(&context, &sealed, &inline).await;
        sync_staging(&context, &sealed).await?;
        let all_letters = self.with_unfit(&context, unfit).await?;
        let letters: Vec<DeadLetter> =
            all_letters.iter().map(|(letter, payload)| dead_letter(self.from, letter, payload)).collect();
        let replay = self.replay.as_ref().map(|replay| replay.changes.clone());
        let outcome = Outcome {
            version: outcome::version(replay.is_some(), state.is_some(), self.event_time.is_some()),
            from: self.from,
            to: self.to,
            chain: self.chain.clone(),
            counts: self.counts,
            outputs: context.outputs.iter().map(Output::then).collect(),
            sealed,
            open: self.open.clone(),
            letters: all_letters
                .iter()
                .map(|(letter, payload)| Letter { blob: blobs.push(payload.clone()), ..letter.clone() })
                .collect(),
            replay,
            state,
            watermark: self.event_time.map(|reached| reached.watermark),
        };
        let (body, blobs_at) = outcome::write(&outcome, &self.blobs, &blobs.parts)?;
        let at = context
            .buffer
            .entry(EntryKind::Outcome, self.from..self.to, body)
            .await
            .map_err(CommitError::Append)?;
        if let Some(changes) = &outcome.replay {
            context.settle_replay(changes).await;
        }
        context.store_letters(letters).await;
        let open = outcome
            .open
            .into_iter()
            .zip(&self.pieces)
            .map(|(rows, id)| (*id, rows.blob.start + blobs_at..rows.blob.end + blobs_at))
            .collect();
        let sealed = outcome
            .sealed
            .into_iter()
            .zip(inline)
            .filter(|(sealed, _)| sealed.records > 0)
            .map(|(sealed, inline)| Ready { at, sealed, inline })
            .collect();
        let (counts, rows) = (outcome.counts, self.rows.clone());
        let (state, event_time) = (Arc::clone(&self.state), self.event_time);
        Ok(Committed { at, to: self.to, counts, rows, sealed, refused, state, event_time, open })
    }
}

impl Commit {
    /// The changes of state as the outcome carries them. There may be many.
    async fn write_state(
        &self,
        context: &Arc<StreamContext>,
        blobs: &mut Blobs,
    ) -> Result<Option<Written>, CommitError> {
        if self.state.is_empty() {
            return Ok(None);
        }
        let (state, base) = (Arc::clone(&self.state), blobs.end);
        let writing = context.off_runtime(move || {
            let mut bytes = Vec::new();
            let written = state.write(&mut bytes, base);
            (written, bytes)
        });
        let (written, bytes) = writing.await.map_err(|_panicked| CommitError::Worker)?;
        blobs.push(Bytes::from(bytes));
        Ok(Some(written))
    }

    /// Those of rows that did not fit when they were sealed, and the letters: keys that grow, each there once.
    async fn with_unfit(
        &self,
        context: &Arc<StreamContext>,
        unfit: Vec<(Letter, Bytes)>,
    ) -> Result<Cow<'_, [(Letter, Bytes)]>, CommitError> {
        if unfit.is_empty() {
            return Ok(Cow::Borrowed(&self.letters));
        }
        let (store, slice) = (context.clone(), self.from);
        let first = context.off_runtime(move || store.next_sealed_child(slice)).await;
        let numbered = (first.map_err(|_panicked| CommitError::Worker)?..).zip(unfit);
        let mut letters: Vec<_> =
            numbered.map(|(child, (letter, payload))| (Letter { child, ..letter }, payload)).collect();
        letters.extend_from_slice(&self.letters);
        Ok(Cow::Owned(letters))
    }
}

#[cfg(test)]
impl Commit {
    /// A bug, if the simulation asks for one.
    async fn plant(&self, context: &Arc<StreamContext>, sealed: &[Sealed], inline: &[Option<Bytes>]) {
        if context.mutant == super::simulation::Mutant::StateAppliedTwice && !self.state.is_empty() {
            let _applied = context.state.apply(context.buffer.journal_end().0, &self.state);
        }
        if context.mutant != super::simulation::Mutant::VisibleBeforeOutcome {
            return;
        }
        for (sealed, inline) in sealed.iter().zip(inline) {
            let mut sealed = sealed.clone();
            sealed.inline = inline.as_ref().map(|_| 0..0);
            let ready = Ready { at: Position::default(), sealed, inline: inline.clone() };
            super::delivery::send_once(context, &ready).await;
        }
    }
}

/// What follows the rows of open batches in the body.
struct Blobs {
    parts: Vec<Bytes>,
    end: usize,
}

impl Blobs {
    fn after(rows: &[u8]) -> Blobs {
        Blobs { parts: Vec::new(), end: rows.len() }
    }

    fn push(&mut self, bytes: Bytes) -> Range<usize> {
        let start = self.end;
        self.end += bytes.len();
        self.parts.push(bytes);
        start..self.end
    }
}

/// The letter as the store keeps it.
pub(crate) fn dead_letter(slice: u64, letter: &Letter, payload: &[u8]) -> DeadLetter {
    DeadLetter {
        number: 0,
        slice,
        offset: letter.offset,
        child: letter.child,
        stage: letter.stage(),
        transform: letter.transform.clone(),
        plugin: letter.plugin.clone(),
        output: letter.output.clone(),
        reason: letter.reason.clone(),
        arrival: letter.arrival,
        failed: 0,
        attempts: 1,
        payload: None,
        payload_base64: None,
        object: None,
        row: None,
    }
    .with_payload(payload)
}

/// Encodes a batch; runs on a worker thread.
fn stage(
    context: &StreamContext,
    key: &BatchKey,
    batch: &OpenBatch,
    replay: Option<&Replay>,
    encoder: &mut Encoder,
) -> Result<Staged, CommitError> {
    let output = &context.outputs[key.output as usize];
    let id = identity(context, output, key, batch, replay.map(|replay| replay.journal_end));
    let name = name(&context.name, output, key, batch.first_arrival, &id);
    let pieces = pieces(context, batch)?;
    let framed = Some(batch.raw_bytes);
    let converter = match &output.columns {
        None => None,
        Some(columns) => converter(context, output, key.output, columns, &pieces)?,
    };
    let mut encode = |to: &mut (dyn io::Write + Send)| {
        if let Some(converter) = converter {
            return columns::write(converter, &pieces, to);
        }
        let mut pieces = pieces.iter().map(|piece| Ok::<_, io::Error>(&piece[..]));
        let encoded = encoder.encode(output.format, output.compression, framed, &mut pieces, to)?;
        Ok((encoded, Vec::new()))
    };
    let ((encoded, rejected), spooled, inline) = if output.columns.is_some() && converter.is_none() {
        let all = columns::all_without_fields(&pieces).map_err(CommitError::Encode)?;
        ((NOTHING, all), false, None)
    } else if batch.raw_bytes <= output.seal.inline_bytes_max {
        let mut object = Vec::new();
        let encoded = encode(&mut object).map_err(CommitError::Encode)?;
        (encoded, false, Some(object))
    } else {
        let made = output
            .staging
            .make(&id, |file| encode(file))
            .map_err(|(path, error)| CommitError::Stage { path, error })?;
        if let Some(error) = made.error {
            let stats = &context.stats.outputs[key.output as usize];
            stats.error(Some(format!("nothing can be written to the destination: {error}")));
            tracing::warn!(
                stream = %context.name, output = %output.name, %error, path = %output.staging.path(&id).display(),
                "object cannot be made at its destination; it waits in the data directory"
            );
        }
        (made.result, made.spooled, None)
    };
    let refused = refused(output, batch, &pieces, rejected).map_err(CommitError::Encode)?;
    if let Some((first, _)) = refused.first().filter(|_| replay.is_some_and(|replay| replay.told.is_none())) {
        // The letters that are replayed have them, and stay. What cannot be removed now is at the next start.
        drop(output.staging.discard(&id));
        let (rows, reason) = (refused.len(), first.reason.clone());
        return Err(CommitError::Unfit { output: output.name.clone(), rows, reason });
    }
    let records = batch.records - refused.len() as u64;
    if records == 0 {
        // Nothing is delivered; the next start removes what cannot be removed now.
        drop(output.staging.discard(&id));
    }
    let sealed = Sealed {
        name,
        staged: id.clone(),
        spooled,
        batch_id: id,
        content_type: output.format.content_type().to_owned(),
        content_encoding: output.compression.content_encoding().map(str::to_owned),
        records,
        raw_bytes: encoded.raw_bytes,
        bytes: encoded.bytes,
        digest: format!("{:032x}", encoded.digest),
        body_digest: format!("{:032x}", encoded.body_digest),
        first_offset: batch.first_offset(),
        last_offset: batch.last_offset(),
        first_arrival: batch.first_arrival,
        inline: None,
        replayed: replay.is_some(),
        key: key.clone(),
    };
    Ok(Staged { sealed, inline, refused })
}

/// The converter of an output; the first batch decides, if it is to. `None`: no row of it has a field.
fn converter<'c>(
    context: &StreamContext,
    output: &Output,
    number: u32,
    columns: &'c Columns,
    pieces: &[Bytes],
) -> Result<Option<&'c Converter>, CommitError> {
    let converter = match columns.converter(pieces) {
        Ok(converter) => converter,
        // Another batch may be the first one that says something.
        Err(ColumnsError::Schema(SchemaError::Empty)) => return Ok(None),
        Err(error) => return Err(CommitError::Columns { output: output.name.clone(), error }),
    };
    if let Some(inferred) = columns.inferred()
        && context.stats.outputs[number as usize].columns.set(inferred.to_owned()).is_ok()
    {
        tracing::info!(
            stream = %context.name, output = %output.name, columns = inferred,
            "columns were taken from the first batch"
        );
    }
    Ok(Some(converter))
}

/// Letters of rows that did not fit, with the rows: the records that they came of may be gone.
fn refused(
    output: &Output,
    batch: &OpenBatch,
    pieces: &[Bytes],
    rejected: Vec<Rejected>,
) -> io::Result<Vec<(Letter, Bytes)>> {
    if rejected.is_empty() {
        return Ok(Vec::new());
    }
    tracing::warn!(
        output = %output.name, rows = rejected.len(),
        "rows that were gathered before do not fit the columns; they become dead letters"
    );
    let mut rejected = rejected.into_iter().peekable();
    let mut letters = Vec::new();
    let (mut number, mut bytes) = (0, 0);
    for (gathered, piece) in batch.pieces.iter().zip(pieces) {
        for row in columns::rows(std::slice::from_ref(piece)) {
            if let Some(found) = rejected.next_if(|rejected| rejected.row == number) {
                bytes += row.len();
                if bytes > columns::REFUSED_BYTES_MAX {
                    return Err(columns::too_many());
                }
                let mut reason = found.reason.to_string();
                fit::shorten(&mut reason);
                let letter = Letter {
                    offset: gathered.piece.first_offset.cast_signed(),
                    child: 0,
                    arrival: gathered.piece.first_arrival,
                    transform: String::new(),
                    plugin: String::new(),
                    output: Some(output.name.clone()),
                    reason,
                    blob: 0..0,
                };
                letters.push((letter, Bytes::copy_from_slice(row)));
            }
            number += 1;
        }
    }
    Ok(letters)
}

fn identity(
    context: &StreamContext,
    output: &Output,
    key: &BatchKey,
    batch: &OpenBatch,
    replay: Option<u64>,
) -> String {
    let (incarnation, epoch) = (context.buffer.incarnation(), context.buffer.epoch());
    #[cfg(test)]
    let epoch = if context.mutant == super::simulation::Mutant::EpochNotRaised { 0 } else { epoch };
    let Some(replay) = replay else {
        return batch_id(incarnation, epoch, &output.name, batch.first_offset(), &key.partition);
    };
    // The offset of a replayed record may have named a batch before.
    let mut partition = key.partition.clone();
    partition.push(("\0replay".to_owned(), replay.to_string()));
    batch_id(incarnation, epoch, &output.name, batch.first_offset(), &partition)
}

/// The object's name; dates are those of its oldest record.
pub(crate) fn name(stream: &str, output: &Output, key: &BatchKey, arrival: i64, id: &str) -> String {
    let partition: Vec<(&str, &[u8])> =
        key.partition.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    output.template.render(&NameContext {
        stream,
        output: &output.name,
        arrival,
        partition: &partition,
        batch_id: id,
        extension: &extension(output.format, output.compression),
        codec_extension: output.codec_extension(),
        error: None,
    })
}

/// The rows of a batch in order, read back from the journal where they are no longer in memory.
fn pieces(context: &StreamContext, batch: &OpenBatch) -> Result<Vec<Bytes>, CommitError> {
    let mut body: Option<(Position, Bytes)> = None;
    let mut pieces = Vec::with_capacity(batch.pieces.len());
    for gathered in &batch.pieces {
        pieces.push(match &gathered.piece.rows {
            Rows::Pending(bytes) | Rows::Durable { memory: Some(bytes), .. } => bytes.clone(),
            Rows::Durable { at, blob, memory: None } => {
                let whole = match body.take() {
                    Some((position, bytes)) if position == *at => bytes,
                    _ => context.buffer.read_entry(*at).map_err(CommitError::Read)?,
                };
                let rows = whole.slice(blob.clone());
                body = Some((*at, whole));
                rows
            }
        });
    }
    Ok(pieces)
}

/// Makes the names of staged files durable.
async fn sync_staging(context: &Arc<StreamContext>, sealed: &[Sealed]) -> Result<(), CommitError> {
    #[cfg(test)]
    if context.mutant == super::simulation::Mutant::StagedNotSynced {
        return Ok(());
    }
    let staged = sealed.iter().filter(|sealed| sealed.inline.is_none());
    let mut directories: Vec<(u32, bool)> =
        staged.map(|sealed| (sealed.key.output, sealed.spooled)).collect();
    directories.sort_unstable();
    directories.dedup();
    for (output, spooled) in directories {
        let job_context = context.clone();
        let synced = context.off_runtime(move || job_context.outputs[output as usize].staging.sync(spooled));
        match synced.await {
            Ok(Ok(())) => {}
            Ok(Err((path, error))) => return Err(CommitError::Stage { path, error }),
            Err(_panicked) => return Err(CommitError::Worker),
        }
    }
    Ok(())
}
