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
use wasmill_buffer::{EntryKind, Position, Voided};
use wasmill_state::{Layer, Written};

use super::batch::PieceId;
use super::columns::ColumnsError;
use super::context::{Output, StreamContext};
use super::dead_letters::{Changes, DeadLetter};
use super::due::{Apart, Due};
use super::outcome::{self, Counts, Letter, OpenRows, Outcome, OutcomeError, Ran, Sealed};
use super::stream::Reached;

/// Changes of state of so many bytes are put into the outcome where that is made; more of them would hold up others.
const STATE_BYTES_AT_ONCE: usize = 64 << 10;

/// What the stream has decided to make durable.
pub(crate) struct Commit {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) chain: Vec<Ran>,
    pub(crate) counts: Counts,
    /// Rows that this outcome is the first to carry, by output.
    pub(crate) rows: Vec<u64>,
    pub(crate) due: Vec<Arc<Due>>,
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
    /// Its records may not be durable: what was void when they ran. It becomes durable with them, or not at all.
    pub(crate) seen: Option<Voided>,
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

impl Commit {
    /// Makes it durable. After an error it may be run again: nothing outside has seen anything of it.
    pub(crate) async fn run(self: Arc<Self>, context: Arc<StreamContext>) -> Result<Committed, CommitError> {
        let mut encoding = Vec::with_capacity(self.due.len());
        let apart = self
            .replay
            .as_ref()
            .map(|replay| Apart { journal_end: replay.journal_end, of_letters: replay.told.is_none() });
        for due in &self.due {
            encoding.push(due.take_begun().unwrap_or_else(|| due.encode(&context, apart, false)));
        }
        let mut sealed = Vec::with_capacity(encoding.len());
        let mut unsynced = Vec::new();
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
                let place = (staged.sealed.key.output, staged.sealed.spooled);
                unsynced.extend((!staged.synced).then_some(place));
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
        sync_staging(&context, unsynced).await?;
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
            watermark: self.event_time.as_ref().map(|reached| reached.watermark),
            watermarks: self.event_time.as_ref().map(Reached::by_source).unwrap_or_default(),
        };
        let (body, blobs_at) = outcome::write(&outcome, &self.blobs, &blobs.parts)?;
        let at = context
            .buffer
            .entry_over(EntryKind::Outcome, self.from..self.to, body, self.seen)
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
        let (state, event_time) = (Arc::clone(&self.state), self.event_time.clone());
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
        let write = move || {
            let mut bytes = Vec::new();
            let written = state.write(&mut bytes, base);
            (written, bytes)
        };
        let (written, bytes) = if self.state.bytes() <= STATE_BYTES_AT_ONCE {
            write()
        } else {
            context.off_runtime(write).await.map_err(|_panicked| CommitError::Worker)?
        };
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
            let _applied = context.state.apply(context.buffer.journal_end().0, &[&self.state]);
            let _written = context.state.write_behind();
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
        source: letter.source.clone(),
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

/// Makes the names of staged files durable, by output and whether they are in the spool.
async fn sync_staging(
    context: &Arc<StreamContext>,
    mut directories: Vec<(u32, bool)>,
) -> Result<(), CommitError> {
    #[cfg(test)]
    if context.mutant == super::simulation::Mutant::StagedNotSynced {
        return Ok(());
    }
    directories.sort_unstable();
    directories.dedup();
    for (output, spooled) in directories {
        let job_context = context.clone();
        let sync = move || job_context.outputs[output as usize].staging.sync(spooled);
        let synced = context.off_runtime_to(&context.outputs[output as usize].destination, sync);
        match synced.await {
            Ok(Ok(())) => {}
            Ok(Err((path, error))) => return Err(CommitError::Stage { path, error }),
            Err(_panicked) => return Err(CommitError::Worker),
        }
    }
    Ok(())
}
