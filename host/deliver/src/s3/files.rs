//! Single objects by key, for a destination whose files name each other. None of them is an object of a batch.

use std::ops::Range;

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};

use super::S3;
use super::answer::Refusal;
use crate::fault::{DeliverError, Fault, Retry};

impl S3 {
    /// Writes an object whose key nobody else has.
    pub(crate) async fn write(&self, key: &str, bytes: Bytes) -> Result<(), DeliverError> {
        let put = self.client.put_object().bucket(&self.config.bucket).key(key).body(ByteStream::from(bytes));
        let sent = put.send().await.map_err(|error| self.refusal("put object", error).error("put object"));
        sent.map(drop)
    }

    /// The object, or this part of it, of at most `max` bytes.
    pub(crate) async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        max: u64,
    ) -> Result<Bytes, DeliverError> {
        let range = range.map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let get = self.client.get_object().bucket(&self.config.bucket).key(key).set_range(range);
        let mut found =
            get.send().await.map_err(|error| self.refusal("get object", error).error("get object"))?;
        let mut read = BytesMut::new();
        while let Some(part) = found.body.next().await {
            let part =
                part.map_err(|error| DeliverError::later("S3 cut an answer off", format!("{key}: {error}")))?;
            read.extend_from_slice(&part);
            if read.len() as u64 > max {
                let message = format!("an object has more than {max} bytes");
                return Err(DeliverError::new(Fault::Client, Retry::Later { after: None }, message, key));
            }
        }
        Ok(read.freeze())
    }

    /// Its size; `None`: there is none.
    pub(crate) async fn size(&self, key: &str) -> Result<Option<u64>, DeliverError> {
        let head = self.client.head_object().bucket(&self.config.bucket).key(key).send().await;
        match head.map_err(|error| self.refusal("head object", error)) {
            Ok(found) => {
                Ok(Some(found.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(0)))
            }
            Err(Refusal::Missing) => Ok(None),
            Err(refusal) => Err(refusal.error("head object")),
        }
    }
}
