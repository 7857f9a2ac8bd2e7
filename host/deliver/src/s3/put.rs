//! One object in one request, and the look at what stands under its name.

use std::collections::HashMap;

use aws_sdk_s3::primitives::ByteStream;

use super::answer::Refusal;
use super::{Condition, S3, body_mismatch};
use crate::destination::body_error;
use crate::fault::{DeliverError, Fault, Retry};
use crate::object::{Delivered, Object, ObjectMeta};

pub(super) const BATCH: &str = "wasmill-batch";
pub(super) const DIGEST: &str = "wasmill-digest";
pub(super) const RECORDS: &str = "wasmill-records";

/// What the object carries so that it is known as ours.
pub(super) fn metadata(meta: &ObjectMeta) -> HashMap<String, String> {
    HashMap::from([
        (BATCH.to_owned(), meta.batch_id.clone()),
        (DIGEST.to_owned(), meta.digest_text()),
        (RECORDS.to_owned(), meta.records.to_string()),
    ])
}

pub(super) async fn deliver(s3: &S3, object: &Object<'_>) -> Result<Delivered, DeliverError> {
    let meta = object.meta;
    let body = tokio::fs::read(object.body).await.map_err(|error| body_error(object.body, &error))?;
    if body.len() as u64 != meta.bytes {
        return Err(body_mismatch(&meta.name));
    }
    create(s3, meta, bytes::Bytes::from(body)).await
}

/// The same of a body that is in memory.
pub(super) async fn create(
    s3: &S3,
    meta: &ObjectMeta,
    body: bytes::Bytes,
) -> Result<Delivered, DeliverError> {
    loop {
        let condition = s3.put_condition.get();
        if before_write(s3, meta, condition).await? == Found::Ours {
            return Ok(Delivered::AlreadyOurs);
        }
        let conditional = condition != Condition::Refused;
        let sent = s3
            .client
            .put_object()
            .bucket(&s3.config.bucket)
            .key(s3.key(&meta.name))
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .content_type(s3.content_type(meta))
            .set_content_encoding(meta.content_encoding.clone())
            .set_metadata(Some(metadata(meta)))
            .body(ByteStream::from(body.clone()))
            .send()
            .await;
        match sent.map_err(|error| s3.refusal("put object", error)) {
            Ok(_) => return Ok(Delivered::Created),
            Err(Refusal::Exists) => return exists(s3, meta).await,
            Err(Refusal::NotImplemented) if conditional => s3.put_condition.set(Condition::Refused),
            Err(refusal) => return Err(refusal.error("put object")),
        }
    }
}

/// The look before a write, where the endpoint may not look itself.
pub(super) async fn before_write(
    s3: &S3,
    meta: &ObjectMeta,
    condition: Condition,
) -> Result<Found, DeliverError> {
    match condition {
        Condition::Honoured => Ok(Found::Nothing),
        Condition::Ignored | Condition::Refused => look(s3, meta).await,
        Condition::Unknown => match head(s3, meta).await {
            // Credentials that may only write cannot look; the condition may well be honoured.
            Err(Refusal::Denied(_)) => Ok(Found::Nothing),
            looked => looked.map_err(|refusal| refusal.error("head object")),
        },
    }
}

/// After an answer that says "exists".
pub(super) async fn exists(s3: &S3, meta: &ObjectMeta) -> Result<Delivered, DeliverError> {
    match look(s3, meta).await? {
        Found::Ours => Ok(Delivered::AlreadyOurs),
        // A conflicting write that failed, or an object that was just deleted.
        Found::Nothing => Err(DeliverError::new(
            Fault::Destination,
            Retry::Now,
            "what stood under the name has just gone",
            meta.name.clone(),
        )),
    }
}

/// What stands under an object's name, when it is not foreign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Ours,
}

/// Looks under the object's name; something foreign there is an error, and so is not being let look.
pub(super) async fn look(s3: &S3, meta: &ObjectMeta) -> Result<Found, DeliverError> {
    head(s3, meta).await.map_err(|refusal| refusal.error("head object"))
}

async fn head(s3: &S3, meta: &ObjectMeta) -> Result<Found, Refusal> {
    let head = s3.client.head_object().bucket(&s3.config.bucket).key(s3.key(&meta.name)).send().await;
    let found = match head.map_err(|error| s3.refusal("head object", error)) {
        Ok(found) => found,
        Err(Refusal::Missing) => return Ok(Found::Nothing),
        Err(refusal) => return Err(refusal),
    };
    let foreign = |detail: &str| Err(Refusal::Error(DeliverError::foreign(&meta.name, detail)));
    let carried = |name| found.metadata().and_then(|metadata| metadata.get(name)).map(String::as_str);
    let length = found.content_length().and_then(|length| u64::try_from(length).ok());
    if carried(BATCH) != Some(meta.batch_id.as_str()) {
        return foreign("it does not carry our batch id");
    }
    if carried(DIGEST) != Some(meta.digest_text().as_str()) || length != Some(meta.bytes) {
        return foreign("it carries our batch id with another digest or length");
    }
    Ok(Found::Ours)
}
