//! Letters of the delivery stage, sent to their output once more.
//!
//! An object goes under the name and batch id that it had, so that a conditional create finds an object that came through
//! after all, and a row with the number that it has in its batch, so that a document of it is the same one. Rows of an object
//! that are refused by themselves become letters of their own.

use std::path::Path;
use std::sync::Arc;

use wasmill_deliver::{Delivered, FRAMED_CONTENT_TYPE, Object, ObjectMeta, RefusedRow};
use wasmill_encode::{Format, Row};

use crate::pipeline::context::{Output, StreamContext};
use crate::pipeline::dead_letters::{Change, DeadLetter, LetterRow, Stage};

/// What becomes of a letter of the delivery stage that is sent once more; `object` is the file of one that has an object.
pub(crate) async fn resend(
    context: &Arc<StreamContext>,
    letter: &DeadLetter,
    object: Option<&Path>,
) -> Change {
    let sent = match (&letter.object, &letter.row) {
        (Some(kept), _) => send(context, letter, kept.meta.clone(), object).await,
        (None, Some(row)) => send(context, letter, meta_of_row(context, letter, row), None).await,
        (None, None) => Err("the letter has no object".to_owned()),
    };
    match sent {
        Ok(()) => Change::Removed,
        Err(reason) => Change::Again {
            stage: Stage::Delivery,
            transform: String::new(),
            plugin: String::new(),
            output: letter.output.clone(),
            reason,
            attempts: letter.attempts.saturating_add(1),
        },
    }
}

fn meta_of_row(context: &StreamContext, letter: &DeadLetter, row: &LetterRow) -> ObjectMeta {
    ObjectMeta {
        name: format!("{}/{}", row.batch_id, row.row),
        content_type: FRAMED_CONTENT_TYPE.to_owned(),
        content_encoding: None,
        batch_id: row.batch_id.clone(),
        // Nobody compares those of requests.
        digest: 0,
        body_digest: 0,
        raw_bytes: 0,
        bytes: 0,
        records: 1,
        stream: context.name.clone(),
        output: letter.output.clone().unwrap_or_default(),
        arrival: letter.arrival,
        first_row: row.row,
    }
}

async fn send(
    context: &Arc<StreamContext>,
    letter: &DeadLetter,
    meta: ObjectMeta,
    object: Option<&Path>,
) -> Result<(), String> {
    let name = &meta.output;
    let output = context.outputs.iter().find(|output| output.name == *name);
    let output = output.ok_or_else(|| format!("the stream has no output {name:?} any more"))?;
    // A directory moves the file away, and only within its file system.
    // Not under the name of the batch's own staged file, which may be needed still.
    let staged = format!("{}.{}.replay", meta.batch_id, meta.first_row);
    let (staging, file) = (output.staging.clone(), staged.clone());
    let (from, row, arrival) = (object.map(Path::to_owned), letter.payload_bytes(), letter.arrival);
    let copied = context.off_runtime_to(&output.destination, move || match from {
        Some(from) => staging.fetch(&from, &file),
        None => staging.materialise(&framed(&row, arrival), &file, false),
    });
    copied
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("cannot stage the object again: {error} ({})", error.detail))?;
    let body = output.staging.path(&staged);
    let sent = deliver(context, output, letter, &Object { meta: &meta, body: &body }).await;
    let staging = output.staging.clone();
    let discarded = context.off_runtime_to(&output.destination, move || staging.discard(&staged)).await;
    if let Ok(Err((path, error))) = discarded {
        tracing::warn!(stream = %context.label(), path = %path.display(), %error, "staged object cannot be removed");
    }
    sent
}

fn framed(row: &[u8], arrival: i64) -> Vec<u8> {
    let format = Format::Framed(Row::Verbatim);
    let mut rows = Vec::new();
    format.open_row(&mut rows);
    let start = rows.len();
    rows.extend_from_slice(row);
    format.close_row(&mut rows, start, arrival);
    rows
}

async fn deliver(
    context: &Arc<StreamContext>,
    output: &Output,
    letter: &DeadLetter,
    object: &Object<'_>,
) -> Result<(), String> {
    let destination = &output.destination;
    loop {
        let attempted = destination.deliver(object).await;
        let refused = destination.refused(object.meta);
        if let (Some(row), true) = (refused.first(), letter.row.is_some()) {
            destination.give_up(object, &row_error(row)).await;
            return Err(row.message.clone());
        }
        if !refused.is_empty() {
            let letters = refused.into_iter().map(|row| of_row(letter, object.meta, row)).collect();
            context.store_letters(letters).await;
        }
        match attempted {
            Ok(Delivered::InPart) => {}
            Ok(Delivered::Created | Delivered::AlreadyOurs) => return Ok(()),
            Err(error) => {
                // The letter keeps all of it: another try begins anew.
                destination.give_up(object, &error).await;
                return Err(error.to_string());
            }
        }
    }
}

fn row_error(row: &RefusedRow) -> wasmill_deliver::DeliverError {
    use wasmill_deliver::{DeliverError, Fault, Retry};
    DeliverError::new(Fault::Client, Retry::Never, row.message.clone(), String::new())
}

/// The letter of a row of another letter's object.
fn of_row(letter: &DeadLetter, meta: &ObjectMeta, row: RefusedRow) -> DeadLetter {
    let RefusedRow { row, arrival, message, bytes } = row;
    DeadLetter {
        number: 0,
        child: u32::try_from(row).unwrap_or(u32::MAX),
        reason: message,
        arrival,
        attempts: 1,
        object: None,
        row: Some(LetterRow { batch_id: meta.batch_id.clone(), row }),
        ..letter.clone()
    }
    .with_payload(&bytes)
}
