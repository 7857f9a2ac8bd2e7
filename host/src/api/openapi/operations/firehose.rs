//! Of the Firehose API, which has one route, and of what Firehose delivers to.

use super::{Body, JSON, SOURCE, Said};
use crate::api::openapi::shapes::Shape::{Any, List, Number, Object, Text};

pub(super) const TAG: &str = "firehose";
const AMZ_JSON: &str = "application/x-amz-json-1.1";

pub(super) const OPERATIONS: &[Said] = &[
    Said {
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
    },
    Said {
        text: "As any HTTP endpoint that Amazon Data Firehose delivers to. The access key that Firehose is given is a key of the \
           tenant, with the scope push. A request is stored once, however often it is sent; records are durable when the answer \
           comes. A refusal has the members requestId, timestamp and errorMessage, which begins with the code.",
        query: &[SOURCE],
        headers: &[
            ("X-Amz-Firehose-Access-Key", "the key, in the place of Authorization"),
            ("X-Amz-Firehose-Request-Id", "the same as in the body"),
            ("X-Amz-Firehose-Common-Attributes", "checked, and not stored"),
        ],
        bodies: &[Body {
            kind: JSON,
            shape: Object(&[
                ("requestId", Text, ""),
                ("timestamp", Number, "milliseconds since the Unix epoch"),
                ("records", List(&Object(&[("data", Text, "base64")])), "at most 10000"),
            ]),
        }],
        answer: (
            200,
            JSON,
            Object(&[
                ("requestId", Text, "that of the request"),
                ("timestamp", Number, "milliseconds since the Unix epoch"),
            ]),
            "durable",
        ),
        refusals: &[
            (400, "corrupt_body"),
            (400, "broken_body"),
            (400, "body_too_large"),
            (400, "duplicate_header"),
            (400, "bad_query"),
            (404, "no_stream"),
            (404, "no_source"),
            (408, "slow_body"),
            (409, "producer_conflict"),
            (415, "content_encoding"),
            (429, "over_quota"),
            (429, "buffer_full"),
            (429, "too_many_producers"),
            (503, "unavailable"),
            (503, "unknown"),
            (503, "closed"),
            (503, "changing"),
            (503, "not_running"),
        ],
        plain_refusals: true,
        ..Said::new(
            "POST",
            "/v1/streams/{name}/firehose",
            ("deliverRecords", TAG),
            "Records that Firehose delivers",
            Any,
        )
    },
];
