//! Is the bucket there, may we write, and does the endpoint honour "create only"?
//!
//! The probe writes one small object below our prefix, under a name that only this output of this stream
//! uses, tries to create it again, tries the same with an upload in parts, and removes it. Credentials
//! that may not delete leave that one object behind; the next probe finds it and needs no other. An
//! upload that a probe left open when its host was killed is aborted by the next one.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use super::answer::Refusal;
use super::multipart::{abort, abort_orphans};
use super::{Condition, S3};
use crate::batch_id::BatchOwner;
use crate::destination::Capabilities;
use crate::fault::DeliverError;

pub(super) async fn probe(s3: &S3, owner: &BatchOwner) -> Result<Capabilities, DeliverError> {
    let key = s3.key(&owner.probe_name());
    // Whoever may not list uploads cannot know of any.
    if let Err(error) = abort_orphans(s3, &key, |found| found == key).await {
        tracing::debug!(%error, detail = error.detail, "uploads of an earlier probe cannot be looked for");
    }
    let put = put_twice(s3, &key).await?;
    s3.put_condition.set(put);
    let complete = complete_over(s3, &key).await?;
    s3.complete_condition.set(complete);
    // Left behind where deleting is not allowed; see above.
    let deleted = s3.client.delete_object().bucket(&s3.config.bucket).key(&key).send().await;
    let mut warnings = Vec::new();
    if let Err(error) = deleted.map_err(|error| s3.refusal("delete object", error).error("delete object")) {
        warnings.push(format!("the probe's object {key} could not be deleted: {error}"));
    }
    for (condition, what) in [(put, "objects"), (complete, "uploads in parts")] {
        if condition != Condition::Honoured {
            warnings.push(format!(
                "the endpoint does not honour conditional create for {what}: a second writer of the same name \
                 could overwrite one in the moment between look and write"
            ));
        }
    }
    Ok(Capabilities {
        conditional_create: put == Condition::Honoured,
        conditional_multipart: complete == Condition::Honoured,
        warnings,
    })
}

/// Creates the probe's object until "exists" is the answer, or is not when it should be.
async fn put_twice(s3: &S3, key: &str) -> Result<Condition, DeliverError> {
    let put = |conditional: bool| {
        s3.client
            .put_object()
            .bucket(&s3.config.bucket)
            .key(key)
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .body(ByteStream::from_static(b"wasmill"))
            .send()
    };
    for _ in 0..2 {
        match put(true).await.map_err(|error| s3.refusal("put object", error)) {
            Ok(_) => {}
            Err(Refusal::Exists) => return Ok(Condition::Honoured),
            Err(Refusal::NotImplemented) => {
                put(false).await.map_err(|error| s3.refusal("put object", error).error("put object"))?;
                return Ok(Condition::Refused);
            }
            Err(refusal) => return Err(refusal.error("put object")),
        }
    }
    Ok(Condition::Ignored)
}

/// Completes an upload over the probe's object, which should be refused.
async fn complete_over(s3: &S3, key: &str) -> Result<Condition, DeliverError> {
    let bucket = &s3.config.bucket;
    let created = s3.client.create_multipart_upload().bucket(bucket).key(key).send().await;
    let created = created.map_err(|error| s3.refusal("create upload", error).error("create upload"))?;
    let upload = created.upload_id().unwrap_or_default();
    let condition = async {
        let part = s3
            .client
            .upload_part()
            .bucket(bucket)
            .key(key)
            .upload_id(upload)
            .part_number(1)
            .body(ByteStream::from_static(b"wasmill"))
            .send()
            .await
            .map_err(|error| s3.refusal("upload part", error).error("upload part"))?;
        let part = CompletedPart::builder()
            .part_number(1)
            .set_e_tag(part.e_tag().map(str::to_owned))
            .set_checksum_crc32(part.checksum_crc32().map(str::to_owned))
            .build();
        let completed = s3
            .client
            .complete_multipart_upload()
            .bucket(bucket)
            .key(key)
            .upload_id(upload)
            .if_none_match("*")
            .multipart_upload(CompletedMultipartUpload::builder().parts(part).build())
            .send()
            .await;
        match completed.map_err(|error| s3.refusal("complete upload", error)) {
            Ok(_) => Ok(Condition::Ignored),
            Err(Refusal::Exists) => Ok(Condition::Honoured),
            Err(Refusal::NotImplemented) => Ok(Condition::Refused),
            Err(refusal) => Err(refusal.error("complete upload")),
        }
    }
    .await;
    if !matches!(condition, Ok(Condition::Ignored)) {
        abort(s3, key, upload).await;
    }
    condition
}
