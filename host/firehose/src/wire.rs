//! The wire protocol, AWS JSON 1.1: which operation is asked, its request, its reply, and refusals.
//!
//! Every operation is `POST /` with the target in a header and a JSON object as its body. Members that are unknown are
//! ignored and members that are null count as absent, as AWS does; a member of another type is a
//! `SerializationException`. Whether a required member is there is up to `validate`, so that requests hold options.
//!
//! Source of names and shapes: Amazon Data Firehose API Reference, version 2015-08-04.

mod destination;
mod members;
mod operation;
mod put;
mod refusal;
mod reply;
mod request;
mod text;

pub use destination::{
    BufferingHints, CloudWatchLoggingOptions, CommonAttribute, CopyCommand, DataFormatConversion,
    Deserializer, DocumentId, DynamicPartitioning, Encryption, ExtendedS3, HiveJson, HttpEndpoint,
    HttpEndpointPlace, HttpRequest, InputFormat, KmsEncryption, OpenSearch, OpenXJson, Orc, OutputFormat,
    Parquet, Processing, Processor, ProcessorParameter, Redshift, RetryOptions, S3, Schema, Secret,
    SecretsManager, Serializer, Splunk, Vpc,
};
pub(crate) use members::Overlay;
pub use operation::{CONTENT_TYPE, Operation, TARGET_HEADER};
pub use put::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BODY_BYTES_MAX, Put, PutRecord, PutRecordBatch, RECORD_BYTES_MAX,
    Records,
};
pub use refusal::{Kind, Refusal};
pub use reply::{
    CreateReply, EntryError, ListReply, ListTagsReply, PutRecordBatchReply, PutRecordReply, PutResult,
    RecordId, json,
};
pub use request::{
    CreateDeliveryStream, DeleteDeliveryStream, DescribeDeliveryStream, DirectPutSource, EncryptionInput,
    KinesisSource, ListDeliveryStreams, ListTagsForDeliveryStream, StartDeliveryStreamEncryption,
    StopDeliveryStreamEncryption, Tag, TagDeliveryStream, UntagDeliveryStream, UpdateDestination,
};
pub use text::Text;

/// The request of an operation out of its body. An empty body is an empty object.
///
/// # Errors
/// `SerializationException`: the body is no JSON object, or a member has another type.
pub fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    let body: &[u8] = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Refusal::new(Kind::Serialization, "the body of a request must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| Refusal::new(Kind::Serialization, error.to_string()))
}
