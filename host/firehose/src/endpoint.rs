//! The protocol in which Firehose delivers to an HTTP endpoint: headers, bodies, and answers, for both sides.
//!
//! Source: Developer Guide, "HTTP endpoint delivery request and response specifications". A request is a POST with a JSON
//! body, perhaps compressed with gzip:
//!
//! ```json
//! {"requestId":"ed4acda5-034f-9f42-bba1-f29aea6d7d8f","timestamp":1578090901599,"records":[{"data":"aGVsbG8="}]}
//! ```
//!
//! and the answer, within 3 minutes, in status 200, repeats its id: `{"requestId":"…","timestamp":…}`. Others may have an
//! `errorMessage` besides. Not certain, and decided here: an answer without `Content-Length` counts all the same, as long as
//! it is no longer than permitted.

mod receive;
mod send;

pub use receive::{Delivery, Undelivered, answer, common_attributes_of};
pub use send::{Unfit, body_bytes, check, common_attributes, record_bytes, request_id, write_body};

/// Version 1.0 of this protocol, in each request.
pub const VERSION_HEADER: &str = "x-amz-firehose-protocol-version";
pub const VERSION: &str = "1.0";
/// The same in all tries of one request.
pub const REQUEST_ID_HEADER: &str = "x-amz-firehose-request-id";
/// ARN of the stream.
pub const SOURCE_ARN_HEADER: &str = "x-amz-firehose-source-arn";
/// Whatever the endpoint knows its clients by.
pub const ACCESS_KEY_HEADER: &str = "x-amz-firehose-access-key";
/// `{"commonAttributes":{"name":"value"}}`, of all records of all requests.
pub const COMMON_ATTRIBUTES_HEADER: &str = "x-amz-firehose-common-attributes";
pub const CONTENT_TYPE: &str = "application/json";

/// Of one request.
pub const RECORDS_MAX: usize = 10_000;
/// Of a request's body before compression.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Of an answer's body.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Of an `errorMessage`.
pub const ERROR_MESSAGE_CHARS_MAX: usize = 8192;
/// Of one set of common attributes.
pub const COMMON_ATTRIBUTES_MAX: usize = 50;
