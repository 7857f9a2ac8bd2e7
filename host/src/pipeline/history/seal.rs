//! From a batch of a replay to an object at its destination: encoded into a staged file, sent until it is there.
//!
//! The batch id has the replay's own incarnation, so that its objects can neither meet those of the stream nor those of
//! another replay; the same replay run again makes the same names, and finds what is there to be its own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use wasmill_deliver::{
    DeliverError, Delivered, Fault, GaveUp, Object, ObjectMeta, Retry, batch_id, with_retry,
};
use wasmill_encode::Encoder;

use super::run::{Replay, RunError};
use crate::pipeline::batch::{OpenBatch, Rows};
use crate::pipeline::columns;
use crate::pipeline::context::Output;
use crate::pipeline::due::name;
use crate::pipeline::outcome::BatchKey;
use crate::pipeline::staging::Staging;

/// An encoded batch; its file is gone with it, wherever it is dropped.
struct Staged {
    meta: ObjectMeta,
    file: StagedFile,
}

/// Encodes a batch on a worker and delivers it.
pub(super) async fn deliver(replay: Arc<Replay>, key: BatchKey, batch: OpenBatch) -> Result<(), RunError> {
    let (reply, done) = oneshot::channel();
    let number = key.output as usize;
    let job = replay.clone();
    replay.workers.submit(&replay.tenant, replay.lane, move |worker| {
        let output = &job.outputs[number];
        // Nobody waits when the replay was cancelled.
        drop(reply.send(stage(&job, output, &key, &batch, &mut worker.encoder)));
    });
    let output = &replay.outputs[number];
    let Staged { meta, file } = done.await.map_err(|_gone| RunError::Worker)??;
    let on_retry = |retrying: wasmill_deliver::Retrying<'_>| {
        replay.note(|progress| progress.error = Some(format!("trying again: {}", retrying.error)));
        tracing::warn!(
            stream = %replay.label(), replay = %replay.id, output = %output.name, error = %retrying.error,
            detail = %retrying.error.detail, failures = retrying.failures, "delivery of a replay failed, trying again"
        );
    };
    let body = file.path();
    let attempt = || async {
        let attempted = output.destination.deliver(&Object { meta: &meta, body: &body }).await;
        match output.destination.refused(&meta).first() {
            // A replay keeps no letters of what leaves.
            Some(row) => {
                let message = format!("row {} of the batch was refused: {}", row.row, row.message);
                Err(DeliverError::new(Fault::Client, Retry::Never, message, String::new()))
            }
            None => attempted,
        }
    };
    let delivered = with_retry(&output.retry, replay.cancel.cancelled(), on_retry, attempt).await;
    let delivered = delivered.map_err(|gave_up| match gave_up {
        GaveUp::Cancelled => RunError::Cancelled,
        GaveUp::Expired { last, .. } | GaveUp::Refused(last) => {
            RunError::Delivery { output: output.name.clone(), object: meta.name.clone(), error: last }
        }
    })?;
    replay.note(|progress| {
        match delivered {
            Delivered::Created | Delivered::InPart => progress.objects += 1,
            Delivered::AlreadyOurs => progress.objects_there += 1,
        }
        progress.error = None;
        progress.delivered += meta.records;
        progress.raw_bytes += meta.raw_bytes;
        progress.bytes += meta.bytes;
    });
    Ok(())
}

/// Whatever becomes of it: a directory has moved the file away, others leave it.
struct StagedFile {
    staging: Arc<Staging>,
    file: String,
}

impl StagedFile {
    fn path(&self) -> PathBuf {
        self.staging.path(&self.file)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Err((path, error)) = self.staging.discard(&self.file) {
            tracing::warn!(path = %path.display(), %error, "cannot remove a staged object");
        }
    }
}

/// Runs on a worker thread.
fn stage(
    replay: &Replay,
    output: &Output,
    key: &BatchKey,
    batch: &OpenBatch,
    encoder: &mut Encoder,
) -> Result<Staged, RunError> {
    if replay.cancel.is_cancelled() {
        return Err(RunError::Cancelled);
    }
    let id = batch_id(replay.incarnation, 0, &output.name, batch.first_offset(), &key.partition);
    let file = StagedFile { staging: output.staging.clone(), file: id.clone() };
    let staged = encode(output, batch, encoder, &file)
        .map_err(|error| RunError::Stage { path: file.path(), error })?;
    let name = name(&replay.stream, output, key, batch.first_arrival, &id);
    let meta = ObjectMeta {
        name,
        content_type: output.format.content_type().to_owned(),
        content_encoding: output.compression.content_encoding().map(str::to_owned),
        batch_id: id,
        digest: staged.digest,
        body_digest: staged.body_digest,
        raw_bytes: staged.raw_bytes,
        bytes: staged.bytes,
        records: batch.records,
        stream: replay.stream.clone(),
        output: output.name.clone(),
        arrival: batch.first_arrival,
        first_row: 0,
    };
    Ok(Staged { meta, file })
}

fn encode(
    output: &Output,
    batch: &OpenBatch,
    encoder: &mut Encoder,
    file: &StagedFile,
) -> io::Result<wasmill_encode::Encoded> {
    let rows = batch.pieces.iter().map(|gathered| match &gathered.piece.rows {
        // No outcome ever carries a replay's rows: all of them are in memory.
        Rows::Pending(bytes) | Rows::Durable { memory: Some(bytes), .. } => Ok(bytes.clone()),
        Rows::Durable { .. } => Err(io::Error::other("rows are not in memory")),
    });
    let rows = rows.collect::<io::Result<Vec<Bytes>>>()?;
    if let Some(columns) = &output.columns {
        let converter = columns.converter(&rows).map_err(io::Error::other)?;
        let (encoded, refused) =
            output.staging.make_in_place(&file.file, |file| columns::write(converter, &rows, file))?;
        // Every row was looked at when it left the chain, with the same columns.
        return match refused.first() {
            None => Ok(encoded),
            Some(refused) => Err(io::Error::other(format!("row {}: {}", refused.row, refused.reason))),
        };
    }
    output.staging.make_in_place(&file.file, |file| {
        let mut pieces = rows.iter().map(|piece| Ok::<_, io::Error>(&piece[..]));
        encoder.encode(output.format, output.compression, Some(batch.raw_bytes), &mut pieces, file)
    })
}
