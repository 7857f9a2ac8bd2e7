//! What S3's refusals mean: whose fault, and whether to try again.
//!
//! The table is by status and error code, because endpoints other than AWS agree on little else.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use super::S3;
use crate::fault::{DeliverError, Fault, Retry};
use crate::retry_after::retry_after;

/// What a request came to, as far as deliveries tell answers apart.
pub(super) enum Refusal {
    /// 412, or 409 on a conditional request: something is there, or was just being made.
    Exists,
    /// 501: the endpoint does not know the condition.
    NotImplemented,
    /// 404 without word of the bucket.
    Missing,
    /// 401 or 403.
    Denied(DeliverError),
    Error(DeliverError),
}

impl Refusal {
    /// The error where the answer has no special meaning.
    pub(super) fn error(self, what: &str) -> DeliverError {
        match self {
            Refusal::Denied(error) | Refusal::Error(error) => error,
            Refusal::Exists => DeliverError::new(
                Fault::Destination,
                Retry::Later { after: None },
                format!("S3 answered that it conflicts: {what}"),
                "",
            ),
            Refusal::NotImplemented => DeliverError::new(
                Fault::Client,
                Retry::Never,
                format!("the endpoint does not implement it: {what}"),
                "",
            ),
            Refusal::Missing => DeliverError::later(format!("S3 answered that it is not there: {what}"), ""),
        }
    }
}

impl S3 {
    /// Reads an SDK error. `what` is a verb phrase such as "put object".
    pub(super) fn refusal<E>(&self, what: &str, error: SdkError<E, HttpResponse>) -> Refusal
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let place = format!("{what} in bucket {}", self.config.bucket);
        let Some(response) = error.raw_response() else {
            let message = match &error {
                SdkError::TimeoutError(_) => "S3 did not answer in time",
                SdkError::DispatchFailure(failure) if failure.is_timeout() => "S3 did not answer in time",
                SdkError::DispatchFailure(failure) if failure.is_io() => "S3 cannot be reached",
                SdkError::DispatchFailure(_) => "S3 cannot be reached or gave no credentials",
                // No credentials, no region: set right outside, without a restart.
                _ => "the request to S3 could not be made",
            };
            return Refusal::Error(DeliverError::later(
                message,
                format!("{place}: {}", DisplayErrorContext(&error)),
            ));
        };
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after").and_then(retry_after);
        let code = error.code().unwrap_or_default();
        let text = error.message().unwrap_or_default();
        let detail = format!("{place}: {status} {code} {}", text.escape_debug());
        let later = Retry::Later { after };
        let (fault, retry, message) = match (status, code) {
            (412, _) | (409, "ConditionalRequestConflict") => return Refusal::Exists,
            (501, _) => return Refusal::NotImplemented,
            (_, "NoSuchBucket") => (Fault::Destination, later, "the bucket does not exist".to_owned()),
            (404, _) => return Refusal::Missing,
            (401 | 403, _) => {
                let message = format!(
                    "S3 denies access{}; check credentials, bucket policy and clock",
                    in_brackets(code)
                );
                return Refusal::Denied(DeliverError::new(Fault::Destination, later, message, detail));
            }
            (301 | 307 | 308, _) => {
                (Fault::Client, later, "the bucket is in another region or at another endpoint".to_owned())
            }
            // The body did not arrive whole; the next one may.
            (400, "RequestTimeout" | "IncompleteBody" | "BadDigest" | "XAmzContentSHA256Mismatch") => {
                (Fault::Destination, later, "the body did not reach S3 whole".to_owned())
            }
            // Credentials that ran out; the chain fetches new ones.
            (400, "ExpiredToken" | "InvalidToken") => {
                (Fault::Destination, later, "S3 says that the credentials have run out".to_owned())
            }
            // An answer without a body (HEAD) does not say which of them it is.
            (400, "") => {
                (Fault::Destination, later, "S3 refuses the request and does not say why".to_owned())
            }
            (408 | 409 | 425 | 429, _) | (500.., _) => {
                (Fault::Destination, later, format!("S3 is busy or down: {status}{}", in_brackets(code)))
            }
            // An answer of 200 that does not hold what it should: a proxy, or a failure while completing.
            (200..=299, _) => (Fault::Destination, later, "S3 gave an answer that cannot be read".to_owned()),
            _ => (
                Fault::Client,
                Retry::Never,
                format!("S3 refuses the request: {status}{}", in_brackets(code)),
            ),
        };
        Refusal::Error(DeliverError::new(fault, retry, message, detail))
    }
}

fn in_brackets(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(" ({})", code.escape_debug()) }
}
