//! Of the definitions of streams.

use super::{Body, JSON, STREAMS, Said};
use crate::api::openapi::shapes::Shape::{Any, Flag, List, Named, Number, Object, Open, Text};

const CONDITIONS: &[(&str, &str)] = &[
    (
        "If-Match",
        "the ETag of the version that is to be replaced, or *: one that is there, whatever its version",
    ),
    ("If-None-Match", "*: only if there is none"),
];
pub(super) const OPERATIONS: &[Said] = &[
    Said::new(
        "GET",
        "/v1/streams",
        ("listStreams", STREAMS),
        "State of every stream",
        List(&Open(&[("name", Text, "")])),
    ),
    Said {
        query: &[("version", Number, "one of those that are kept, in place of what holds")],
        refusals: &[(400, "bad_query"), (404, "no_stream"), (404, "no_version"), (503, "failed")],
        ..Said::new(
            "GET",
            "/v1/streams/{name}",
            ("getStream", STREAMS),
            "The definition of a stream, and how it is",
            Named("Stream"),
        )
    },
    Said {
        text: "The body is what the table [streams.NAME] of the configuration has, and is checked as that is. A stream that is \
               replaced delivers what it has stored first. 201 where the stream is new.",
        query: &[
            ("dry_run", Flag, "true: only check"),
            (
                "within",
                Text,
                "how long to wait for what is stored to be delivered: 30s unless given, at most 600s",
            ),
        ],
        headers: CONDITIONS,
        bodies: &[Body {
            kind: JSON,
            shape: Open(&[("source?", Any, ""), ("sources?", Any, ""), ("outputs", List(&Any), "")]),
        }],
        refusals: &[
            (409, "owned_by_file"),
            (409, "not_drained"),
            (409, "too_many_streams"),
            (409, "quota_full"),
            (409, "too_many_files"),
            (412, "stale"),
            (422, "bad_definition"),
            (422, "refused"),
            (428, "condition_needed"),
            (503, "changing"),
            (503, "failed"),
        ],
        ..Said::new(
            "PUT",
            "/v1/streams/{name}",
            ("putStream", STREAMS),
            "Make or replace a stream",
            Named("Stream"),
        )
    },
    Said {
        query: &[
            ("force", Flag, "true: with what is not delivered, and its dead letters"),
            (
                "within",
                Text,
                "how long to wait for what is stored to be delivered: 30s unless given, 2s with force",
            ),
        ],
        headers: &[("If-Match", "the ETag of the version that is to be removed")],
        refusals: &[
            (400, "bad_query"),
            (404, "no_stream"),
            (409, "owned_by_file"),
            (409, "not_drained"),
            (409, "has_dead_letters"),
            (409, "not_running"),
            (412, "stale"),
            (503, "changing"),
            (503, "failed"),
        ],
        ..Said::new(
            "DELETE",
            "/v1/streams/{name}",
            ("deleteStream", STREAMS),
            "Remove a stream with everything that is stored of it",
            Object(&[("deleted", Text, "its name"), ("forced", Flag, "")]),
        )
    },
    Said {
        refusals: &[(404, "no_stream"), (503, "failed"), (503, "changing")],
        ..Said::new(
            "GET",
            "/v1/streams/{name}/versions",
            ("listStreamVersions", STREAMS),
            "The last ten definitions, the newest first",
            Object(&[("versions", List(&Named("StreamVersion")), "")]),
        )
    },
];
