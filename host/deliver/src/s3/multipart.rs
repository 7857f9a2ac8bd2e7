//! One object in parts: created, filled by a bounded number of parts at once, completed under the
//! condition that nothing stands there yet, aborted when anything fails.
//!
//! A completion whose answer never came may have succeeded: the next try finds the object and knows
//! it as ours. Uploads of a run that crashed are aborted at the next start.

use std::io::SeekFrom;
use std::path::Path;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::answer::Refusal;
use super::put::{Found, before_write, exists, look, metadata};
use super::{Condition, PARTS_MAX, S3, body_mismatch};
use crate::destination::body_error;
use crate::fault::{DeliverError, Fault, Retry};
use crate::object::{Delivered, Object};

/// Uploads looked at per start; more orphans than this wait for the next one.
const ORPHAN_PAGES_MAX: usize = 100;

/// One part: its number from 1, where it starts, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) number: i32,
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// Cuts `bytes` into parts of `part_bytes`, or larger ones where there would be too many.
pub(super) fn parts(bytes: u64, part_bytes: u64) -> impl Iterator<Item = Part> {
    let part_bytes = part_bytes.max(bytes.div_ceil(PARTS_MAX)).max(1);
    (1_i32..).zip(0..bytes.div_ceil(part_bytes)).map(move |(number, index)| {
        let start = index * part_bytes;
        Part { number, start, bytes: part_bytes.min(bytes - start) }
    })
}

pub(super) async fn deliver(s3: &S3, object: &Object<'_>) -> Result<Delivered, DeliverError> {
    let meta = object.meta;
    let length =
        tokio::fs::metadata(object.body).await.map_err(|error| body_error(object.body, &error))?.len();
    if length != meta.bytes {
        return Err(body_mismatch(&meta.name));
    }
    // Parts cost much; a look first costs little, and tells "already ours" without sending them.
    if look(s3, meta).await? == Found::Ours {
        return Ok(Delivered::AlreadyOurs);
    }
    let created = s3
        .client
        .create_multipart_upload()
        .bucket(&s3.config.bucket)
        .key(s3.key(&meta.name))
        .content_type(s3.content_type(meta))
        .set_content_encoding(meta.content_encoding.clone())
        .set_metadata(Some(metadata(meta)))
        .send()
        .await
        .map_err(|error| s3.refusal("create upload", error).error("create upload"))?;
    let Some(upload) = created.upload_id() else {
        return Err(DeliverError::later(
            "S3 gave an answer that cannot be read",
            "create upload: no upload id",
        ));
    };
    let delivered = fill_and_complete(s3, object, upload).await;
    if !matches!(delivered, Ok(Delivered::Created)) {
        abort(s3, &s3.key(&meta.name), upload).await;
    }
    delivered
}

async fn fill_and_complete(s3: &S3, object: &Object<'_>, upload: &str) -> Result<Delivered, DeliverError> {
    let meta = object.meta;
    let mut completed: Vec<CompletedPart> = stream::iter(parts(meta.bytes, s3.config.part_bytes))
        .map(|part| send_part(s3, object, upload, part))
        .buffer_unordered(s3.config.part_concurrency)
        .try_collect()
        .await?;
    completed.sort_by_key(CompletedPart::part_number);
    loop {
        let condition = s3.complete_condition.get();
        if before_write(s3, meta, condition).await? == Found::Ours {
            return Ok(Delivered::AlreadyOurs);
        }
        let conditional = condition != Condition::Refused;
        let sent = s3
            .client
            .complete_multipart_upload()
            .bucket(&s3.config.bucket)
            .key(s3.key(&meta.name))
            .upload_id(upload)
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(completed.clone())).build())
            .send()
            .await;
        match sent.map_err(|error| s3.refusal("complete upload", error)) {
            Ok(_) => return Ok(Delivered::Created),
            Err(Refusal::Exists) => return exists(s3, meta).await,
            Err(Refusal::NotImplemented) if conditional => s3.complete_condition.set(Condition::Refused),
            // The upload is gone: aborted by someone, or completed by a request that was cut off.
            Err(Refusal::Missing) => {
                return match look(s3, meta).await? {
                    Found::Ours => Ok(Delivered::AlreadyOurs),
                    Found::Nothing => Err(DeliverError::new(
                        Fault::Destination,
                        Retry::Later { after: None },
                        "the upload vanished before it was complete",
                        meta.name.clone(),
                    )),
                };
            }
            Err(refusal) => return Err(refusal.error("complete upload")),
        }
    }
}

async fn send_part(
    s3: &S3,
    object: &Object<'_>,
    upload: &str,
    part: Part,
) -> Result<CompletedPart, DeliverError> {
    let body = read_part(object.body, part).await?;
    let sent = s3
        .client
        .upload_part()
        .bucket(&s3.config.bucket)
        .key(s3.key(&object.meta.name))
        .upload_id(upload)
        .part_number(part.number)
        .body(ByteStream::from(body))
        .send()
        .await
        .map_err(|error| s3.refusal("upload part", error).error("upload part"))?;
    Ok(CompletedPart::builder()
        .part_number(part.number)
        .set_e_tag(sent.e_tag().map(str::to_owned))
        .set_checksum_crc32(sent.checksum_crc32().map(str::to_owned))
        .build())
}

async fn read_part(body: &Path, part: Part) -> Result<Vec<u8>, DeliverError> {
    let read = async {
        let mut file = tokio::fs::File::open(body).await?;
        file.seek(SeekFrom::Start(part.start)).await?;
        let mut bytes = vec![0; usize::try_from(part.bytes).map_err(std::io::Error::other)?];
        file.read_exact(&mut bytes).await?;
        Ok(bytes)
    };
    read.await.map_err(|error: std::io::Error| body_error(body, &error))
}

/// Aborts an upload. One that stays is aborted at the next start.
pub(super) async fn abort(s3: &S3, key: &str, upload: &str) {
    let aborted =
        s3.client.abort_multipart_upload().bucket(&s3.config.bucket).key(key).upload_id(upload).send().await;
    match aborted.map_err(|error| s3.refusal("abort upload", error)) {
        Ok(_) | Err(Refusal::Missing) => {}
        Err(refusal) => {
            let error = refusal.error("abort upload");
            tracing::warn!(%error, detail = error.detail, "an unfinished upload stays behind");
        }
    }
}

/// Aborts unfinished uploads to keys that begin with `prefix` and that `owns`; gives how many.
pub(super) async fn abort_orphans(
    s3: &S3,
    prefix: &str,
    owns: impl Fn(&str) -> bool,
) -> Result<u64, DeliverError> {
    let (mut aborted, mut key_marker, mut upload_marker) = (0, None, None);
    for _ in 0..ORPHAN_PAGES_MAX {
        let listed = s3
            .client
            .list_multipart_uploads()
            .bucket(&s3.config.bucket)
            .prefix(prefix)
            .set_key_marker(key_marker)
            .set_upload_id_marker(upload_marker)
            .send()
            .await;
        let page = match listed.map_err(|error| s3.refusal("list uploads", error)) {
            Ok(page) => page,
            // Endpoints without the call cannot tell what is left behind.
            Err(Refusal::NotImplemented) => return Ok(aborted),
            Err(refusal) => return Err(refusal.error("list uploads")),
        };
        for upload in page.uploads() {
            let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
            if key.starts_with(prefix) && owns(key) {
                abort(s3, key, id).await;
                aborted += 1;
            }
        }
        if page.is_truncated() != Some(true) {
            break;
        }
        key_marker = page.next_key_marker().map(str::to_owned);
        upload_marker = page.next_upload_id_marker().map(str::to_owned);
        if key_marker.is_none() {
            break;
        }
    }
    Ok(aborted)
}
