//! From what went wrong to a status code: one exhaustive match, no wildcard.
//!
//! It owns the error body `{"error":{"code","message"}}`. It refuses to show anything but what the
//! client can act on.

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use wasmill_control::ControlError;
use wasmill_encode::DecodeError;
use wasmill_ingest::{AppendError, BodyError, ContentTypeError};
use wasmill_tenant::Scope;

use super::Absence;
use crate::pipeline::Flaw;
use crate::pipeline::{Past, QuotaRefusal};

/// Everything that a request can be refused with.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("no such route")]
    NoRoute,
    #[error("method not allowed")]
    Method,
    #[error("a valid key is needed here, as the header Authorization: Bearer wm_...")]
    Unauthorized,
    #[error("the key has not the scope {scope}, which is needed here")]
    Forbidden { scope: Scope },
    #[error("too many requests from this address had no valid key")]
    TooManyKeys { after: Duration },
    #[error(
        "too many keys wait to be verified that this host has not seen since its start; the request was not read"
    )]
    KeysWait,
    #[error(
        "keys and tenants are managed over HTTP only where \"mode\" in [http.auth] of the configuration is \"keys\"; without a host, `wasmill key create` makes one"
    )]
    AuthOff,
    #[error("{}", crate::pipeline::with_causes(.0))]
    Control(ControlError),
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
        "as many plugin files of this tenant are on their way as may be at a time, or wait for the compiler: try again in a moment"
    )]
    TooManyUploads,
    #[error("as many of this tenant's requests read usage as may at a time: try again in a moment")]
    TooManyReads,
    #[error(
        "plugin files are not taken over HTTP, as \"plugin_uploads\" in [http] of the configuration says; put the file into the plugin directory and name its digest"
    )]
    UploadsOff,
    #[error("{message}")]
    Late { message: String },
    /// It may be right in a moment.
    #[error("{message}")]
    Changing { message: String },
    #[error("{message}")]
    Idle { message: String },
    #[error("{message}")]
    NoCondition { message: String },
    #[error("{message}")]
    Stale { message: String },
    #[error("{message}")]
    Definition { message: String, flaws: Vec<Flaw> },
    #[error("{message}")]
    Failed { message: String },
    #[error("{reason}")]
    Producer { reason: String },
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Quota(#[from] QuotaRefusal),
}

/// The code of an answer that is a refusal; an extension of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErrorCode(pub(super) &'static str);

impl ApiError {
    pub(super) fn decode(error: DecodeError) -> ApiError {
        match error {
            DecodeError::TooLarge { cap } => ApiError::DecompressedTooLarge { limit: cap as u64 },
            DecodeError::Corrupt { .. } => ApiError::Corrupt { reason: error.to_string() },
        }
    }

    pub(super) fn absent(why: Absence, name: String) -> ApiError {
        match why {
            Absence::None => ApiError::NoStream { name },
            Absence::Changing => {
                ApiError::Changing { message: format!("stream {name:?} is being changed: try again") }
            }
            Absence::Idle => {
                let message =
                    format!("stream {name:?} cannot run as it is defined: GET /v1/streams/{name} tells why");
                ApiError::Idle { message }
            }
        }
    }

    /// Status and the code for programs.
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            ApiError::NoRoute => (StatusCode::NOT_FOUND, "no_route"),
            ApiError::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            ApiError::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            ApiError::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden"),
            ApiError::TooManyKeys { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_failures"),
            ApiError::KeysWait => (StatusCode::SERVICE_UNAVAILABLE, "keys_wait"),
            ApiError::AuthOff => (StatusCode::FORBIDDEN, "auth_off"),
            ApiError::Control(error) => match error {
                ControlError::NoTenant { .. } => (StatusCode::NOT_FOUND, "no_tenant"),
                ControlError::TenantExists { .. } => (StatusCode::CONFLICT, "tenant_exists"),
                ControlError::DefaultTenant { .. } => (StatusCode::CONFLICT, "default_tenant"),
                ControlError::TenantOfFile { .. } => (StatusCode::CONFLICT, "owned_by_file"),
                ControlError::NotDisabled { .. } => (StatusCode::CONFLICT, "not_disabled"),
                ControlError::HasStreams { .. } => (StatusCode::CONFLICT, "has_streams"),
                ControlError::TooManyTenants { .. } => (StatusCode::CONFLICT, "too_many_tenants"),
                ControlError::NoStream { .. } => (StatusCode::NOT_FOUND, "no_stream"),
                ControlError::BadStreamName { .. } => (StatusCode::BAD_REQUEST, "bad_query"),
                ControlError::TooManyStreams { .. } => (StatusCode::CONFLICT, "too_many_streams"),
                ControlError::NoKey { .. } => (StatusCode::NOT_FOUND, "no_key"),
                ControlError::TooManyKeys { .. } => (StatusCode::CONFLICT, "too_many_keys"),
                ControlError::KeyEnded { .. } => (StatusCode::CONFLICT, "key_ended"),
                ControlError::Past { .. }
                | ControlError::NoScope
                | ControlError::BadLabel { .. }
                | ControlError::Quota(_) => (StatusCode::BAD_REQUEST, "bad_query"),
                ControlError::Changed { .. } => (StatusCode::PRECONDITION_FAILED, "changed"),
                ControlError::Draw { .. } | ControlError::Store(_) => {
                    (StatusCode::SERVICE_UNAVAILABLE, "failed")
                }
            },
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
            ApiError::Late { .. } => (StatusCode::GATEWAY_TIMEOUT, "no_answer"),
            ApiError::Changing { .. } => (StatusCode::SERVICE_UNAVAILABLE, "changing"),
            ApiError::Idle { .. } => (StatusCode::SERVICE_UNAVAILABLE, "not_running"),
            ApiError::NoCondition { .. } => (StatusCode::PRECONDITION_REQUIRED, "condition_needed"),
            ApiError::Stale { .. } => (StatusCode::PRECONDITION_FAILED, "stale"),
            ApiError::Definition { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad_definition"),
            ApiError::TooManyUploads => (StatusCode::TOO_MANY_REQUESTS, "too_many_uploads"),
            ApiError::TooManyReads => (StatusCode::TOO_MANY_REQUESTS, "too_many_reads"),
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
            ApiError::Quota(QuotaRefusal { why: Past::Now { .. }, .. }) => {
                (StatusCode::TOO_MANY_REQUESTS, "over_quota")
            }
            ApiError::Quota(QuotaRefusal { why: Past::Ever { .. }, .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "larger_than_quota")
            }
            ApiError::Quota(QuotaRefusal { why: Past::Full { .. }, .. }) => {
                (StatusCode::CONFLICT, "quota_full")
            }
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
        let mut body = serde_json::json!({ "error": { "code": code, "message": self.to_string() } });
        if let ApiError::Definition { flaws, .. } = &self {
            let told = |Flaw { key, message }: &Flaw| serde_json::json!({ "key": key, "message": message });
            body["error"]["problems"] = flaws.iter().map(told).collect();
        }
        let mut response = (status, axum::Json(body)).into_response();
        response.extensions_mut().insert(ErrorCode(code));
        let seconds = match &self {
            ApiError::Append(error) => error.retry_after_seconds(),
            ApiError::Quota(refusal) => refusal.retry_after_seconds(),
            ApiError::Changing { .. }
            | ApiError::TooManyUploads
            | ApiError::TooManyReads
            | ApiError::KeysWait => Some(1),
            ApiError::Idle { .. } => Some(10),
            ApiError::TooManyKeys { after } => Some(after.as_secs() + u64::from(after.subsec_nanos() > 0)),
            _ => None,
        };
        if let Some(seconds) = seconds {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if matches!(self, ApiError::Unauthorized) {
            let bearer = header::HeaderValue::from_static("Bearer realm=\"wasmill\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}
