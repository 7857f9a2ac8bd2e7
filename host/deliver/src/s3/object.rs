//! An object that somebody else writes, read again whenever it is another one.

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::answer::Refusal;
use super::{S3, S3Config};
use crate::fault::{DeliverError, Fault, Retry};

/// One object of a bucket.
#[derive(Debug)]
pub struct S3Object {
    s3: S3,
    key: String,
}

/// What of an object was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRead {
    /// By which the next read knows whether it is another one by then.
    pub e_tag: Option<String>,
    pub bytes: u64,
}

impl S3Object {
    /// Builds the client, as for a destination. Touches no network.
    ///
    /// # Errors
    /// Settings with which no request could succeed.
    pub async fn open(config: &S3Config, key: &str) -> Result<S3Object, DeliverError> {
        Ok(S3Object { s3: S3::open(config).await?, key: key.to_owned() })
    }

    /// Writes all of it into `sink`, at most `max` bytes; `None`: it is still the one whose tag is `known`.
    ///
    /// # Errors
    /// Why it cannot be read; what was written then is a part of it.
    pub async fn read(
        &self,
        known: Option<&str>,
        max: u64,
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Option<ObjectRead>, DeliverError> {
        let place = || format!("object {:?} in bucket {}", self.key, self.s3.config.bucket);
        let too_large = || {
            let message = format!("the object has more than {max} bytes");
            DeliverError::new(Fault::Client, Retry::Later { after: None }, message, place())
        };
        let get = self.s3.client.get_object().bucket(&self.s3.config.bucket).key(&self.key);
        let got = get.set_if_none_match(known.map(str::to_owned)).send().await;
        let mut found = match got {
            Ok(found) => found,
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 304) => {
                return Ok(None);
            }
            Err(error) => {
                return Err(match self.s3.refusal("get object", error) {
                    Refusal::Missing => DeliverError::later("there is no such object", place()),
                    refusal => refusal.error("get object"),
                });
            }
        };
        let e_tag = found.e_tag().map(str::to_owned);
        // An endpoint that does not know the condition.
        if known.is_some() && e_tag.as_deref() == known {
            return Ok(None);
        }
        if found
            .content_length()
            .and_then(|length| u64::try_from(length).ok())
            .is_some_and(|length| length > max)
        {
            return Err(too_large());
        }
        let mut bytes = 0;
        while let Some(part) = found.body.next().await {
            let part: Bytes = part.map_err(|error| {
                DeliverError::later("S3 cut an answer off", format!("{}: {error}", place()))
            })?;
            bytes += part.len() as u64;
            if bytes > max {
                return Err(too_large());
            }
            sink.write_all(&part).await.map_err(|error| unwritten(&error))?;
        }
        sink.flush().await.map_err(|error| unwritten(&error))?;
        Ok(Some(ObjectRead { e_tag, bytes }))
    }
}

fn unwritten(error: &std::io::Error) -> DeliverError {
    let message = "the object cannot be written to the disk";
    DeliverError::new(Fault::Host, Retry::Later { after: None }, message, error.to_string())
}
