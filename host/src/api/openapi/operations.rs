//! What the OpenAPI document says of each route.

mod access;
mod firehose;
mod state;
mod streams;

use super::shapes::Shape::{self, Any, Bytes, Flag, List, Named, Number, Object, OneOf, Open, Perhaps, Text};

/// A body that may be sent.
pub(super) struct Body {
    pub(super) kind: &'static str,
    pub(super) shape: Shape,
}

/// Of one method of one path.
pub(super) struct Said {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) text: &'static str,
    pub(super) query: &'static [(&'static str, Shape, &'static str)],
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) bodies: &'static [Body],
    /// Status, content type, shape, meaning.
    pub(super) answer: (u16, &'static str, Shape, &'static str),
    /// Besides those that every route has.
    pub(super) refusals: &'static [(u16, &'static str)],
    /// Whether a refusal is a line of text.
    pub(super) plain_refusals: bool,
}

impl Said {
    pub(super) const fn new(
        method: &'static str,
        path: &'static str,
        (id, tag): (&'static str, &'static str),
        summary: &'static str,
        answer: Shape,
    ) -> Said {
        Said {
            method,
            path,
            id,
            tag,
            summary,
            text: "",
            query: &[],
            headers: &[],
            bodies: &[],
            answer: (200, JSON, answer, "done"),
            refusals: &[],
            plain_refusals: false,
        }
    }
}

pub(super) const JSON: &str = "application/json";
const PLAIN: &str = "text/plain";
const STREAMS: &str = "streams";
const LETTERS: &str = "dead letters";
const STATE: &str = "state";
const REPLAYS: &str = "replays";
const PLUGINS: &str = "plugins";
pub(super) const ACCESS: &str = "access";
const HOST: &str = "host";

pub(super) const TAGS: &[(&str, &str)] = &[
    (STREAMS, "Push records, and see how streams are."),
    (LETTERS, "Records that could not be transformed, encoded or delivered."),
    (STATE, "What plugins keep by key."),
    (REPLAYS, "History, run again."),
    (PLUGINS, "Which version of a plugin is live."),
    (ACCESS, "Tenants, keys and the audit log."),
    (HOST, "The host as a whole."),
    (firehose::TAG, "The API of Amazon Data Firehose, for whatever speaks it."),
];

type Query = &'static [(&'static str, Shape, &'static str)];

const CHOSEN: Query = &[
    ("number", Text, "numbers and spans of numbers: 7,9-12"),
    ("stage", Text, "transform, encode or delivery"),
    ("at", Text, "name of a transform or output"),
    ("source", Text, "name of the source that the record came from"),
    ("from_offset", Number, ""),
    ("to_offset", Number, ""),
    ("older_than", Text, "such as 2h"),
    ("newer_than", Text, "such as 2h"),
    ("reason", Text, "part of the reason"),
    ("after", Number, "only letters above this number"),
    ("limit", Number, "letters at most"),
];
const REMOVED: Query = &[
    ("number", Text, "numbers and spans of numbers: 7,9-12"),
    ("stage", Text, "transform, encode or delivery"),
    ("at", Text, "name of a transform or output"),
    ("source", Text, "name of the source that the record came from"),
    ("from_offset", Number, ""),
    ("to_offset", Number, ""),
    ("older_than", Text, "such as 2h"),
    ("newer_than", Text, "such as 2h"),
    ("reason", Text, "part of the reason"),
    ("all", Flag, "true, where no other condition is given"),
];
const REPLAYED: Query = &[
    ("number", Text, "numbers and spans of numbers: 7,9-12"),
    ("stage", Text, "transform, encode or delivery"),
    ("at", Text, "name of a transform or output"),
    ("source", Text, "name of the source that the record came from"),
    ("from_offset", Number, ""),
    ("to_offset", Number, ""),
    ("older_than", Text, "such as 2h"),
    ("newer_than", Text, "such as 2h"),
    ("reason", Text, "part of the reason"),
    ("after", Number, "only letters above this number"),
    ("limit", Number, "letters at most"),
    ("plugin", Text, "NAME@sha256:... in place of the version that is live; any number of times"),
];

const OF_STREAM: &[(u16, &str)] = &[(404, "no_stream"), (400, "bad_query"), (503, "failed")];
const OF_LETTER: &[(u16, &str)] =
    &[(404, "no_stream"), (404, "no_dead_letter"), (400, "bad_query"), (503, "failed")];
const OF_REPLAY: &[(u16, &str)] =
    &[(404, "no_stream"), (404, "no_replay"), (400, "bad_query"), (503, "failed")];
const OF_PLUGIN: &[(u16, &str)] = &[
    (404, "no_plugin"),
    (404, "no_version"),
    (404, "no_shadow"),
    (409, "busy"),
    (409, "no_version_before"),
    (409, "already_live"),
    (409, "versions_differ"),
    (409, "no_usable_version"),
    (422, "refused"),
    (503, "failed"),
];
const WHICH: &[Body] = &[Body { kind: JSON, shape: Named("Which") }];

/// All of them, by noun.
pub(super) const OPERATIONS: [&[Said]; 5] =
    [DATA, streams::OPERATIONS, state::OPERATIONS, access::OPERATIONS, firehose::OPERATIONS];

const RECORDS: &[Body] = &[
    Body { kind: "application/x-ndjson", shape: Bytes },
    Body { kind: "application/json", shape: List(&Any) },
    Body { kind: "text/plain", shape: Bytes },
    Body { kind: "application/octet-stream", shape: Bytes },
    Body { kind: "application/vnd.wasmill.length-delimited", shape: Bytes },
];
const SOURCE: (&str, Shape, &str) =
    ("source", Text, "which of the stream's sources these are of; wanted where there are several to push to");
const VERDICT: Shape = Object(&[
    ("offset", Number, ""),
    ("verdict", OneOf(&["kept", "dropped", "failed"]), ""),
    ("reason?", Text, "why it failed"),
    ("rows?", List(&ROW), "what leaves for it"),
]);
const ROW: Shape = Object(&[
    ("output", Text, "where it goes"),
    ("record?", Any, "where it is JSON"),
    ("text?", Text, "where it is UTF-8"),
    ("base64?", Text, "where it is neither"),
    ("omitted?", Flag, "the answer would be too long"),
]);

const DATA: &[Said] = &[
    Said {
        text: "A request is stored as a whole or not at all; the answer comes when its records are durable.",
        headers: &[
            ("Content-Encoding", "gzip, zstd or identity"),
            (
                "Wasmill-Producer",
                "who sends; with Wasmill-Sequence, the request is stored once however often it is sent",
            ),
            ("Wasmill-Sequence", "the number of this request"),
        ],
        query: &[SOURCE],
        bodies: RECORDS,
        refusals: &[
            (400, "bad_query"),
            (400, "no_json_array"),
            (400, "truncated_body"),
            (400, "corrupt_body"),
            (400, "bad_producer"),
            (404, "no_stream"),
            (404, "no_source"),
            (409, "sequence_conflict"),
            (409, "sequence_forgotten"),
            (413, "record_too_large"),
            (413, "too_many_records"),
            (415, "content_type"),
            (415, "charset"),
            (415, "content_encoding"),
            (413, "larger_than_quota"),
            (429, "over_quota"),
            (429, "buffer_full"),
            (429, "too_many_producers"),
            (503, "unavailable"),
            (503, "unknown"),
            (503, "closed"),
            (503, "changing"),
            (503, "not_running"),
        ],
        ..Said::new(
            "POST",
            "/v1/streams/{name}/records",
            ("pushRecords", STREAMS),
            "Push records",
            Named("Receipt"),
        )
    },
    Said {
        query: &[("deadline_ms", Number, "longest wait; the stream's own by default, and at most"), SOURCE],
        bodies: RECORDS,
        refusals: &[
            (400, "bad_query"),
            (400, "no_json_array"),
            (400, "truncated_body"),
            (400, "corrupt_body"),
            (400, "bad_producer"),
            (404, "no_stream"),
            (404, "no_source"),
            (409, "no_decisions"),
            (413, "record_too_large"),
            (413, "too_many_records"),
            (415, "content_type"),
            (415, "charset"),
            (415, "content_encoding"),
            (413, "larger_than_quota"),
            (429, "over_quota"),
            (429, "buffer_full"),
            (503, "unavailable"),
            (503, "unknown"),
            (503, "closed"),
            (503, "changing"),
            (503, "not_running"),
            (504, "no_answer"),
        ],
        ..Said::new(
            "POST",
            "/v1/streams/{name}/decide",
            ("decide", STREAMS),
            "Push records, and wait for what becomes of them",
            Object(&[
                ("fallback", Flag, "there was no answer in time"),
                ("durable?", Flag, "what was answered is what is delivered, whatever happens"),
                ("records?", List(&VERDICT), "in the order of the request"),
                ("answer?", Any, "the fallback of the stream's definition"),
            ]),
        )
    },
    Said {
        query: &[("records", Number, "1 to 100"), ("wait", Text, "such as 10s, at most 60s")],
        refusals: &[(400, "bad_query"), (404, "no_stream"), (409, "busy")],
        ..Said::new(
            "GET",
            "/v1/streams/{name}/sample",
            ("sampleRecords", STREAMS),
            "The next records, before and after the transforms",
            Object(&[("versions", Any, "digests by transform"), ("records", List(&Any), "")]),
        )
    },
    Said {
        query: CHOSEN,
        refusals: OF_STREAM,
        ..Said::new(
            "GET",
            "/v1/streams/{name}/dead-letters",
            ("listLetters", LETTERS),
            "A page of dead letters",
            Object(&[
                ("letters", List(&Named("Letter")), ""),
                ("next", Perhaps(&Number), "after, for the next page"),
                ("count", Number, "of all that are kept"),
                ("bytes", Number, "of all that are kept"),
            ]),
        )
    },
    Said {
        query: REMOVED,
        refusals: OF_STREAM,
        ..Said::new(
            "DELETE",
            "/v1/streams/{name}/dead-letters",
            ("removeLetters", LETTERS),
            "Remove dead letters for good",
            Object(&[("removed", Number, "")]),
        )
    },
    Said {
        query: REPLAYED,
        refusals: &[(404, "no_stream"), (400, "bad_query"), (409, "busy"), (503, "failed")],
        ..Said::new(
            "POST",
            "/v1/streams/{name}/dead-letters/replay",
            ("replayLetters", LETTERS),
            "Run dead letters through the transforms again",
            Object(&[
                ("tried", Number, ""),
                ("passed", Number, ""),
                ("dropped", Number, ""),
                ("failed", Number, ""),
                (
                    "skipped",
                    Number,
                    "rows that no record stands behind, and objects that were not kept: they stay as they are",
                ),
                ("next", Perhaps(&Number), "after, for the next step"),
            ]),
        )
    },
    Said {
        refusals: OF_LETTER,
        ..Said::new(
            "GET",
            "/v1/streams/{name}/dead-letters/{number}",
            ("getLetter", LETTERS),
            "One dead letter",
            Named("Letter"),
        )
    },
    Said {
        refusals: OF_LETTER,
        ..Said::new(
            "DELETE",
            "/v1/streams/{name}/dead-letters/{number}",
            ("removeLetter", LETTERS),
            "Remove one dead letter for good",
            Object(&[("removed", Number, "")]),
        )
    },
    Said {
        refusals: OF_STREAM,
        ..Said::new(
            "GET",
            "/v1/streams/{name}/replays",
            ("listReplays", REPLAYS),
            "Replays that run, and the last that have ended",
            Object(&[("replays", List(&Named("Replay")), "")]),
        )
    },
    Said {
        bodies: &[Body {
            kind: JSON,
            shape: Open(&[("from", Text, "a moment, such as -2h"), ("to", Text, "a moment, such as now")]),
        }],
        answer: (202, JSON, Named("Replay"), "it runs"),
        refusals: &[(404, "no_stream"), (404, "no_records"), (409, "busy"), (503, "failed")],
        ..Said::new(
            "POST",
            "/v1/streams/{name}/replays",
            ("startReplay", REPLAYS),
            "Run the history of a stream again",
            Named("Replay"),
        )
    },
    Said {
        refusals: OF_REPLAY,
        ..Said::new(
            "GET",
            "/v1/streams/{name}/replays/{id}",
            ("getReplay", REPLAYS),
            "How far a replay is",
            Named("Replay"),
        )
    },
    Said {
        refusals: OF_REPLAY,
        ..Said::new(
            "DELETE",
            "/v1/streams/{name}/replays/{id}",
            ("cancelReplay", REPLAYS),
            "Cancel a replay",
            Named("Replay"),
        )
    },
    Said::new(
        "GET",
        "/v1/plugins",
        ("listPlugins", PLUGINS),
        "Plugins that are loaded or refused",
        List(&Open(&[("name", Text, ""), ("state", Text, "")])),
    ),
    Said {
        text: "It stands for the name in its manifest from now on, where the plugin directory has no file of that name; \
               streams take it between two slices. A plugin file is code that runs with what the configuration grants.",
        query: &[("name", Text, "of a file without a manifest")],
        headers: &[("Wasmill-Signature", "a line of the file's .sig; any number of times")],
        bodies: &[Body { kind: "application/wasm", shape: Bytes }],
        answer: (201, JSON, Named("Versions"), "it is kept, and used"),
        refusals: &[
            (400, "bad_query"),
            (403, "uploads_off"),
            (408, "slow_body"),
            (409, "owned_by_file"),
            (409, "quota_full"),
            (413, "body_too_large"),
            (413, "larger_than_quota"),
            (422, "refused"),
            (429, "over_quota"),
            (429, "too_many_uploads"),
            (503, "failed"),
        ],
        ..Said::new("POST", "/v1/plugins", ("pushPlugin", PLUGINS), "Upload a plugin", Named("Versions"))
    },
    Said {
        refusals: &[
            (400, "bad_query"),
            (404, "no_plugin"),
            (404, "no_version"),
            (409, "in_use"),
            (503, "changing"),
            (503, "failed"),
        ],
        ..Said::new(
            "DELETE",
            "/v1/plugins/{name}/versions/{digest}",
            ("removeVersion", PLUGINS),
            "Remove a kept version that nobody uses",
            Named("Versions"),
        )
    },
    Said {
        refusals: &[(404, "no_plugin"), (503, "failed")],
        ..Said::new(
            "GET",
            "/v1/plugins/{name}",
            ("getPlugin", PLUGINS),
            "The versions of a plugin",
            Named("Versions"),
        )
    },
    Said {
        bodies: WHICH,
        refusals: OF_PLUGIN,
        ..Said::new(
            "POST",
            "/v1/plugins/{name}/pin",
            ("pinPlugin", PLUGINS),
            "Keep a version live",
            Named("Versions"),
        )
    },
    Said {
        refusals: OF_PLUGIN,
        ..Said::new(
            "DELETE",
            "/v1/plugins/{name}/pin",
            ("unpinPlugin", PLUGINS),
            "Make live what the plugin directory has",
            Named("Versions"),
        )
    },
    Said {
        bodies: WHICH,
        refusals: OF_PLUGIN,
        ..Said::new(
            "POST",
            "/v1/plugins/{name}/rollback",
            ("rollbackPlugin", PLUGINS),
            "Make the version live that was live before",
            Named("Versions"),
        )
    },
    Said {
        bodies: WHICH,
        refusals: OF_PLUGIN,
        ..Said::new(
            "POST",
            "/v1/plugins/{name}/promote",
            ("promotePlugin", PLUGINS),
            "Make a version live: the shadow, if none is named",
            Named("Versions"),
        )
    },
    Said {
        text: "A plugin file is code that runs with what the configuration grants to the plugin.",
        query: &[("sample_percent", Number, "of the slices, 1 to 100; of a file")],
        bodies: &[
            Body {
                kind: JSON,
                shape: Object(&[
                    ("digest", Text, "of a version that is known"),
                    ("sample_percent?", Number, "of the slices, 1 to 100"),
                ]),
            },
            Body { kind: "application/wasm", shape: Bytes },
        ],
        refusals: &[
            (403, "uploads_off"),
            (404, "no_plugin"),
            (404, "no_version"),
            (409, "busy"),
            (413, "larger_than_quota"),
            (422, "refused"),
            (429, "over_quota"),
            (429, "too_many_uploads"),
            (503, "failed"),
        ],
        ..Said::new(
            "POST",
            "/v1/plugins/{name}/shadow",
            ("startShadow", PLUGINS),
            "Run a candidate beside the live version",
            Named("Versions"),
        )
    },
    Said {
        refusals: OF_PLUGIN,
        ..Said::new(
            "GET",
            "/v1/plugins/{name}/shadow",
            ("getShadow", PLUGINS),
            "What the candidate did differently",
            Named("Shadow"),
        )
    },
    Said {
        refusals: OF_PLUGIN,
        ..Said::new(
            "DELETE",
            "/v1/plugins/{name}/shadow",
            ("stopShadow", PLUGINS),
            "End it, and report for the last time",
            Named("Shadow"),
        )
    },
    Said::new(
        "GET",
        "/v1/config",
        ("getConfig", HOST),
        "What became of the configuration file",
        Open(&[
            ("file", Text, ""),
            ("state", Text, "applied, partly or refused"),
            ("problems", List(&Any), "of a file that is refused: line, column and message"),
            ("pending", List(&Text), "what is not applied yet, and why"),
            ("at_next_start", List(&Text), "keys whose change needs one"),
        ]),
    ),
    Said {
        answer: (200, "text/plain; version=0.0.4", Text, "Prometheus text"),
        text: "Open to everybody where [http.auth] metrics is \"open\".",
        ..Said::new("GET", "/metrics", ("metrics", HOST), "Metrics", Text)
    },
    Said {
        answer: (200, PLAIN, Text, "ok"),
        ..Said::new("GET", "/healthz", ("health", HOST), "Whether the process serves", Text)
    },
    Said {
        answer: (200, PLAIN, Text, "ready"),
        refusals: &[(503, "not ready")],
        plain_refusals: true,
        ..Said::new("GET", "/readyz", ("ready", HOST), "Whether the host takes records", Text)
    },
    Said::new("GET", "/v1/openapi.json", ("openapi", HOST), "This document", Open(&[("openapi", Text, "")])),
];
