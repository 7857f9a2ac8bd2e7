//! What becomes of what a destination does not take: another output, or dead letters.
//!
//! A batch that is given up is one letter with its object, or with what of the object was not delivered yet. Rows that the
//! destination refused by themselves, while it took others, are letters one by one, with their bytes. They are kept before the
//! delivery goes on, and know their batch and row, so that one that is refused again after a restart is no second letter.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use wasmill_deliver::{DeliverError, GaveUp, Object, RefusedRow, Rest};

use super::{host_error, meta, small, try_output};
use crate::pipeline::commit::Ready;
use crate::pipeline::context::{Output, StreamContext};
use crate::pipeline::dead_letters::{DeadLetter, KeptObject, LetterRow, Stage, StoreError};

/// What became of a batch that its own output gave up.
pub(super) enum Elsewhere {
    /// The fallback output or the dead letters have it, but for so many records that were delivered before.
    Taken { delivered: u64 },
    /// Nobody has it now.
    Refused,
    /// The host stops; nobody has it yet.
    Cancelled,
}

/// Why a batch was given up, and what became of its rows until then.
pub(super) struct GivenUp<'a> {
    pub(super) error: &'a DeliverError,
    pub(super) attempts: u32,
    /// Rows that are letters already.
    pub(super) refused: &'a AtomicU64,
}

/// The fallback output, if there is one that takes it, else the dead letters, unless the output is to pause.
pub(super) async fn give_up(
    context: &Arc<StreamContext>,
    number: usize,
    ready: &Ready,
    given_up: &GivenUp<'_>,
    stop: &CancellationToken,
) -> Elsewhere {
    let output = &context.outputs[number];
    let error = given_up.error;
    let mut last = error.clone();
    // An object of framed rows is nothing that another output could take.
    let fallback =
        context.fallback.filter(|fallback| *fallback != number && !output.destination.takes_records());
    if let Some(fallback) = fallback {
        tracing::error!(
            stream = %context.label(), output = %output.name, batch = %ready.sealed.batch_id, %error,
            detail = %error.detail, fallback = %context.outputs[fallback].name, "batch given up, trying the fallback"
        );
        let tried = try_output(context, fallback, ready, given_up.refused, stop).await;
        context.outputs[fallback]
            .staging
            .discard_copy(&ready.sealed.staged, &output.staging.made(&ready.sealed));
        match tried {
            Ok(()) => {
                context.stats.outputs[number].fallen_back.add(ready.sealed.records);
                return Elsewhere::Taken { delivered: 0 };
            }
            Err(GaveUp::Cancelled) => return Elsewhere::Cancelled,
            Err(GaveUp::Expired { last: error, .. } | GaveUp::Refused(error)) => last = error,
        }
    }
    if output.pause {
        context.stats.outputs[number].stopped.store(true, Ordering::Relaxed);
        tracing::error!(
            stream = %context.label(), output = %output.name, batch = %ready.sealed.batch_id, error = %last,
            detail = %last.detail, records = ready.sealed.records,
            "output paused: a batch was given up; it stays and is tried again"
        );
        return Elsewhere::Refused;
    }
    match keep_as_dead_letter(context, output, ready, &last, given_up).await {
        Ok(delivered) => {
            tracing::error!(
                stream = %context.label(), output = %output.name, batch = %ready.sealed.batch_id, error = %last,
                detail = %last.detail, records = ready.sealed.records, delivered,
                "batch given up, its object is kept as a dead letter"
            );
            Elsewhere::Taken { delivered }
        }
        Err(error) => {
            tracing::error!(
                stream = %context.label(), output = %output.name, batch = %ready.sealed.batch_id,
                error = &error as &dyn std::error::Error, "dead letter cannot be kept, delivering again"
            );
            Elsewhere::Refused
        }
    }
}

/// Keeps rows that an attempt has left behind.
pub(super) async fn keep_refused(
    context: &Arc<StreamContext>,
    output: &Output,
    ready: &Ready,
    object: &Object<'_>,
    refused: &AtomicU64,
) -> Result<(), DeliverError> {
    let rows = output.destination.refused(object.meta);
    if rows.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        stream = %context.label(), output = %output.name, batch = %ready.sealed.batch_id, rows = rows.len(),
        error = rows.first().map(|row| row.message.as_str()).unwrap_or_default(),
        "destination refused rows of a batch; they are dead letters"
    );
    keep_rows(context, output, ready, rows, refused).await
}

async fn keep_rows(
    context: &Arc<StreamContext>,
    output: &Output,
    ready: &Ready,
    rows: Vec<RefusedRow>,
    refused: &AtomicU64,
) -> Result<(), DeliverError> {
    let count = rows.len() as u64;
    let letters = rows.into_iter().map(|row| letter_of_row(output, ready, row)).collect();
    context.store_letters(letters).await;
    if context.over.is_cancelled() {
        return Err(host_error("the stream has ended", String::new()));
    }
    refused.fetch_add(count, Ordering::Relaxed);
    Ok(())
}

fn letter_of_row(output: &Output, ready: &Ready, row: RefusedRow) -> DeadLetter {
    let RefusedRow { row, arrival, message, bytes } = row;
    let child = u32::try_from(row).unwrap_or(u32::MAX);
    let row = LetterRow { batch_id: ready.sealed.batch_id.clone(), row };
    DeadLetter { child, arrival, row: Some(row), ..letter(output, ready, message) }.with_payload(&bytes)
}

fn letter(output: &Output, ready: &Ready, reason: String) -> DeadLetter {
    let sealed = &ready.sealed;
    DeadLetter {
        number: 0,
        slice: sealed.first_offset,
        offset: i64::try_from(sealed.first_offset).unwrap_or(i64::MAX),
        child: 0,
        stage: Stage::Delivery,
        transform: String::new(),
        plugin: String::new(),
        output: Some(output.name.clone()),
        reason,
        source: None,
        arrival: sealed.first_arrival,
        failed: 0,
        attempts: 1,
        payload: None,
        payload_base64: None,
        object: None,
        row: None,
    }
}

/// How many of its records were delivered before.
async fn keep_as_dead_letter(
    context: &Arc<StreamContext>,
    output: &Output,
    ready: &Ready,
    error: &DeliverError,
    given_up: &GivenUp<'_>,
) -> Result<u64, StoreError> {
    // In the spool: what failed may be that the destination's directory cannot be written to.
    let (job_context, job_ready) = (context.clone(), ready.clone());
    let made = context.off_runtime(move || -> Result<PathBuf, StoreError> {
        let own = &job_context.outputs[job_ready.sealed.key.output as usize];
        if job_ready.sealed.inline.is_none() {
            return Ok(own.staging.made(&job_ready.sealed));
        }
        let object = small(&job_context, &job_ready).map_err(|error| failed(Path::new(""), error))?;
        let spooled = own.staging.spool(&object, &job_ready.sealed.staged);
        spooled.map_err(|(path, error)| StoreError::Io { path, error })
    });
    let staged = made.await.map_err(|error| failed(Path::new(""), error))??;
    let mut meta = meta(context, output, ready).map_err(|error| failed(&staged, error))?;
    let whole = Object { meta: &meta, body: &staged };
    let Rest { refused, done: (bytes, rows) } = output.destination.give_up(&whole, error).await;
    if !refused.is_empty() {
        let kept = keep_rows(context, output, ready, refused, given_up.refused).await;
        kept.map_err(|error| failed(&staged, error))?;
    }
    let delivered = rows.saturating_sub(given_up.refused.load(Ordering::Relaxed));
    if rows >= meta.records && rows > 0 {
        // All of it has been delivered, or is a letter row by row.
        return Ok(delivered);
    }
    let mut kept = staged.clone();
    if rows > 0 {
        (meta.first_row, meta.records) = (rows, meta.records - rows);
        (meta.bytes, meta.raw_bytes) = (meta.bytes - bytes, meta.raw_bytes - bytes);
        let (from, file) = (staged.clone(), format!("{}.rest", ready.sealed.staged));
        let staging = output.staging.clone();
        let cut = context.off_runtime(move || {
            let mut object = File::open(&from)?;
            object.seek(SeekFrom::Start(bytes))?;
            staging.spool_from(&mut object, &file).map_err(|(_, error)| error)
        });
        kept = cut
            .await
            .map_err(io::Error::other)
            .and_then(|cut| cut)
            .map_err(|error| failed(&staged, error))?;
    }
    let object = KeptObject { file: String::new(), meta };
    let attempts = given_up.attempts.max(1);
    let letter = DeadLetter { attempts, object: Some(object), ..letter(output, ready, error.to_string()) };
    let stored = context.store_object(letter, kept.clone()).await;
    if kept != staged {
        // The next start removes what cannot be removed now.
        drop(context.off_runtime(move || std::fs::remove_file(kept)).await);
    }
    stored.map(|()| delivered)
}

fn failed(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Io { path: path.to_owned(), error: io::Error::other(error) }
}
