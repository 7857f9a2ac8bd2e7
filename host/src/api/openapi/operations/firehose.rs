//! Of the Firehose API, which has one route.

use super::{Body, Said};
use crate::api::openapi::shapes::Shape::Any;

pub(super) const TAG: &str = "firehose";
const AMZ_JSON: &str = "application/x-amz-json-1.1";

pub(super) const OPERATIONS: &[Said] = &[Said {
    text: "CreateDeliveryStream, DescribeDeliveryStream, ListDeliveryStreams, UpdateDestination, DeleteDeliveryStream, \
           PutRecord, PutRecordBatch, tags and encryption; docs/firehose.md says what each does here. A refusal has the member \
           __type with the name of the exception.",
    headers: &[("X-Amz-Target", "Firehose_20150804. and the name of the operation")],
    bodies: &[Body { kind: AMZ_JSON, shape: Any }],
    answer: (200, AMZ_JSON, Any, "as the operation has it"),
    refusals: &[
        (400, "InvalidArgumentException"),
        (400, "ResourceNotFoundException"),
        (400, "ResourceInUseException"),
        (400, "LimitExceededException"),
        (400, "ConcurrentModificationException"),
        (400, "ValidationException"),
        (400, "SerializationException"),
        (400, "UnknownOperationException"),
        (400, "MissingAuthenticationTokenException"),
        (400, "IncompleteSignatureException"),
        (400, "InvalidSignatureException"),
        (400, "UnrecognizedClientException"),
        (400, "AccessDeniedException"),
        (400, "ThrottlingException"),
        (413, "RequestEntityTooLargeException"),
        (500, "ServiceUnavailableException"),
        (500, "InternalFailure"),
    ],
    plain_refusals: true,
    ..Said::new("POST", "/", ("firehose", TAG), "An operation of the Firehose API", Any)
}];
