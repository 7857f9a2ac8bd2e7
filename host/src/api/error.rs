//! From what went wrong to a status code: one exhaustive match, no wildcard.
//!
//! It owns the error body `{"error":{"code","message"}}`. It refuses to show anything but what the
//! client can act on.

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use wasmill_encode::DecodeError;
use wasmill_ingest::{AppendError, BodyError, ContentTypeError};

/// Everything that a request can be refused with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    #[error("no such route")]
    NoRoute,
    #[error("method not allowed")]
    Method,
    #[error("no stream {name:?} takes records over HTTP")]
    NoStream { name: String },
    #[error(transparent)]
    ContentType(#[from] ContentTypeError),
    #[error("content encoding {found:?} is not supported, expected gzip, zstd or identity")]
    ContentEncoding { found: String },
    #[error("header {name} is there twice")]
    HeaderTwice { name: String },
    #[error("body has more than {limit} bytes")]
    BodyTooLarge { limit: u64 },
    #[error("decompressed body has more than {limit} bytes")]
    DecompressedTooLarge { limit: u64 },
    #[error("{reason}")]
    Corrupt { reason: String },
    #[error("body broke off")]
    BrokenBody,
    #[error("no piece of the body came within {wait:?}")]
    SlowBody { wait: Duration },
    #[error("{message}")]
    Query { message: String },
    #[error("{message}")]
    NotFound { code: &'static str, message: String },
    #[error("{message}")]
    Conflict { message: String },
    /// Right in itself, and against how things stand.
    #[error("{message}")]
    NotNow { code: &'static str, message: String },
    #[error("{message}")]
    Unfit { message: String },
    #[error(
        "plugin files are not taken over HTTP, as \"plugin_uploads\" in [http] of the configuration says; put the file into the plugin directory and name its digest"
    )]
    UploadsOff,
    #[error("{message}")]
    Failed { message: String },
    #[error("{reason}")]
    Producer { reason: String },
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl ApiError {
    pub(super) fn decode(error: DecodeError) -> ApiError {
        match error {
            DecodeError::TooLarge { cap } => ApiError::DecompressedTooLarge { limit: cap as u64 },
            DecodeError::Corrupt { .. } => ApiError::Corrupt { reason: error.to_string() },
        }
    }

    /// Status and the code for programs.
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            ApiError::NoRoute => (StatusCode::NOT_FOUND, "no_route"),
            ApiError::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            ApiError::NoStream { .. } => (StatusCode::NOT_FOUND, "no_stream"),
            ApiError::ContentType(ContentTypeError::Kind { .. } | ContentTypeError::Missing) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type")
            }
            ApiError::ContentType(ContentTypeError::Charset { .. }) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "charset")
            }
            ApiError::ContentEncoding { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding"),
            ApiError::HeaderTwice { .. } => (StatusCode::BAD_REQUEST, "header_twice"),
            ApiError::BodyTooLarge { .. } | ApiError::DecompressedTooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large")
            }
            ApiError::Corrupt { .. } => (StatusCode::BAD_REQUEST, "corrupt_body"),
            ApiError::BrokenBody => (StatusCode::BAD_REQUEST, "broken_body"),
            ApiError::SlowBody { .. } => (StatusCode::REQUEST_TIMEOUT, "slow_body"),
            ApiError::Query { .. } => (StatusCode::BAD_REQUEST, "bad_query"),
            ApiError::NotFound { code, .. } => (StatusCode::NOT_FOUND, code),
            ApiError::Conflict { .. } => (StatusCode::CONFLICT, "busy"),
            ApiError::NotNow { code, .. } => (StatusCode::CONFLICT, code),
            ApiError::UploadsOff => (StatusCode::FORBIDDEN, "uploads_off"),
            ApiError::Unfit { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
            ApiError::Failed { .. } => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
            ApiError::Producer { .. } => (StatusCode::BAD_REQUEST, "bad_producer"),
            ApiError::Body(BodyError::RecordTooLarge { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "record_too_large")
            }
            ApiError::Body(BodyError::TooManyRecords { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_many_records")
            }
            ApiError::Body(BodyError::BodyTooLarge { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large")
            }
            ApiError::Body(BodyError::NoJsonArray { .. }) => (StatusCode::BAD_REQUEST, "no_json_array"),
            ApiError::Body(BodyError::Truncated { .. }) => (StatusCode::BAD_REQUEST, "truncated_body"),
            ApiError::Append(AppendError::Full { .. }) => (StatusCode::TOO_MANY_REQUESTS, "buffer_full"),
            ApiError::Append(AppendError::Conflict { .. }) => (StatusCode::CONFLICT, "sequence_conflict"),
            ApiError::Append(AppendError::Forgotten { .. }) => (StatusCode::CONFLICT, "sequence_forgotten"),
            ApiError::Append(AppendError::Producers { .. }) => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_producers")
            }
            ApiError::Append(AppendError::Unavailable { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            ApiError::Append(AppendError::Unknown) => (StatusCode::SERVICE_UNAVAILABLE, "unknown"),
            ApiError::Append(AppendError::Closed) => (StatusCode::SERVICE_UNAVAILABLE, "closed"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = self.status();
        let body = serde_json::json!({ "error": { "code": code, "message": self.to_string() } });
        let mut response = (status, axum::Json(body)).into_response();
        if let ApiError::Append(error) = self
            && let Some(seconds) = error.retry_after_seconds()
        {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
