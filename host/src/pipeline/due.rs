//! Batches that are due, and their objects.
//!
//! A worker encodes a batch, for the commit that seals it or before: a large one into a synced file of its output's staging
//! directory (or of the spool, when the destination is in trouble), a small one into memory, for the outcome.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use wasmill_buffer::Position;
use wasmill_columnar::{Converter, Rejected, SchemaError};
use wasmill_deliver::{NameContext, batch_id};
use wasmill_encode::{Encoded, Encoder, extension};

use super::batch::{OpenBatch, Rows};
use super::columns::{self, Columns, ColumnsError};
use super::commit::CommitError;
use super::context::{Output, StreamContext};
use super::fit;
use super::outcome::{BatchKey, Letter, Sealed};

/// Of a batch of which no row fits.
const NOTHING: Encoded = Encoded { raw_bytes: 0, bytes: 0, digest: 0, body_digest: 0 };
/// What makes a batch one of a replay: it joins no other.
#[derive(Clone, Copy)]
pub(crate) struct Apart {
    /// Where the journal ended when the replay began; part of the batch's id.
    pub(crate) journal_end: u64,
    /// Letters have the rows: those that do not fit stay there, and nothing is sealed.
    pub(crate) of_letters: bool,
}

/// A batch that a commit seals.
pub(crate) struct Due {
    pub(crate) key: BatchKey,
    pub(crate) batch: OpenBatch,
    /// What comes of its encoding, where that has begun before the commit.
    begun: Mutex<Option<oneshot::Receiver<Result<Staged, CommitError>>>>,
    /// A commit waits for it.
    hurries: AtomicBool,
}

/// A batch as its object.
pub(crate) struct Staged {
    pub(crate) sealed: Sealed,
    /// The object, where it is in no file.
    pub(crate) inline: Option<Vec<u8>>,
    /// The name of its file is durable.
    pub(crate) synced: bool,
    /// Rows that are not in it.
    pub(crate) refused: Vec<(Letter, Bytes)>,
}

impl Due {
    pub(crate) fn new(key: BatchKey, batch: OpenBatch) -> Arc<Due> {
        Arc::new(Due { key, batch, begun: Mutex::default(), hurries: AtomicBool::new(false) })
    }

    /// One that is encoded from now on, and synced; `then` is called when that is done, whatever came of it.
    pub(crate) fn begun(
        context: &Arc<StreamContext>,
        key: BatchKey,
        batch: OpenBatch,
        then: impl FnOnce() + Send + 'static,
    ) -> Arc<Due> {
        let due = Due::new(key, batch);
        let encoding = due.encode(context, None, true);
        let (reply, begun) = oneshot::channel();
        *due.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
        tokio::spawn(async move {
            let staged = encoding.await.unwrap_or(Err(CommitError::Worker));
            then();
            // The stream may have been stopped meanwhile.
            drop(reply.send(staged));
        });
        due
    }

    pub(crate) fn take_begun(&self) -> Option<oneshot::Receiver<Result<Staged, CommitError>>> {
        self.hurries.store(true, Ordering::Release);
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Has it encoded on a worker.
    pub(crate) fn encode(
        self: &Arc<Self>,
        context: &Arc<StreamContext>,
        replay: Option<Apart>,
        synced: bool,
    ) -> oneshot::Receiver<Result<Staged, CommitError>> {
        let (reply, encoded) = oneshot::channel();
        let (due, job_context) = (Arc::clone(self), context.clone());
        context.workers.submit(&context.tenant, context.lane, move |worker| {
            let pace = Pace::new(&due, synced && job_context.workers.count() > 1);
            let staged = stage(&job_context, &due.key, &due.batch, (replay, pace), &mut worker.encoder);
            let staged = if synced { staged.and_then(|staged| staged.synced(&job_context)) } else { staged };
            // The stream may have been stopped meanwhile; then nobody waits.
            drop(reply.send(staged));
        });
        encoded
    }
}

impl Staged {
    /// Makes the name of its file durable. Blocks.
    fn synced(mut self, context: &StreamContext) -> Result<Staged, CommitError> {
        #[cfg(test)]
        if context.mutant == super::simulation::Mutant::StagedNotSynced {
            return Ok(self);
        }
        if self.inline.is_none() && self.sealed.records > 0 {
            let synced = context.outputs[self.sealed.key.output as usize].staging.sync(self.sealed.spooled);
            synced.map_err(|(path, error)| CommitError::Stage { path, error })?;
            self.synced = true;
        }
        Ok(self)
    }
}

/// Lets those have the core who answer clients, while a batch is encoded that no commit waits for: between two pieces, and one
/// such batch of the host at a time, so that other threads of the pool are there for slices.
struct Pace<'a> {
    due: &'a Due,
    /// When it went on; `None`: it stops for nobody.
    since: Option<Instant>,
}

/// There is one.
static PACED: AtomicBool = AtomicBool::new(false);

impl<'a> Pace<'a> {
    /// Goes on for so long at a time.
    const GOES_ON: Duration = Duration::from_millis(1);
    /// Stops for so long.
    const STOPS: Duration = Duration::from_millis(3);

    fn new(due: &'a Due, may: bool) -> Pace<'a> {
        let keeps = may && !PACED.swap(true, Ordering::AcqRel);
        Pace { due, since: keeps.then(Instant::now) }
    }

    fn keep(&mut self) {
        let Some(since) = &mut self.since else { return };
        if since.elapsed() >= Pace::GOES_ON && !self.due.hurries.load(Ordering::Acquire) {
            // Nobody unparks this thread.
            std::thread::park_timeout(Pace::STOPS);
            *since = Instant::now();
        }
    }
}

impl Drop for Pace<'_> {
    fn drop(&mut self) {
        if self.since.is_some() {
            PACED.store(false, Ordering::Release);
        }
    }
}

/// Encodes a batch; runs on a worker thread.
fn stage(
    context: &StreamContext,
    key: &BatchKey,
    batch: &OpenBatch,
    (replay, mut pace): (Option<Apart>, Pace<'_>),
    encoder: &mut Encoder,
) -> Result<Staged, CommitError> {
    let output = &context.outputs[key.output as usize];
    let id = identity(context, output, key, batch, replay.map(|apart| apart.journal_end));
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
        let mut pieces = pieces.iter().map(|piece| {
            pace.keep();
            Ok::<_, io::Error>(&piece[..])
        });
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
                stream = %context.label(), output = %output.name, %error, path = %output.staging.path(&id).display(),
                "object cannot be made at its destination; it waits in the data directory"
            );
        }
        (made.result, made.spooled, None)
    };
    let refused = refused(output, batch, &pieces, rejected).map_err(CommitError::Encode)?;
    if let Some((first, _)) = refused.first().filter(|_| replay.is_some_and(|apart| apart.of_letters)) {
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
    Ok(Staged { sealed, inline, synced: false, refused })
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
            stream = %context.label(), output = %output.name, columns = inferred,
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
                    source: None,
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
