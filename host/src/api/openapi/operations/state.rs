//! Of what plugins keep.

use super::{STATE, Said};
use crate::api::openapi::shapes::Shape::{Flag, List, Named, Number, Object, Perhaps, Text};

pub(super) const OPERATIONS: &[Said] = &[
    Said {
        refusals: &[(404, "no_stream"), (503, "failed")],
        ..Said::new(
            "GET",
            "/v1/streams/{name}/state",
            ("listTables", STATE),
            "The tables that plugins of a stream keep",
            Object(&[("tables", List(&Named("Table")), "")]),
        )
    },
    Said {
        query: &[("all", Flag, "must be true")],
        refusals: &[(400, "bad_query"), (404, "no_stream"), (503, "failed")],
        ..Said::new(
            "DELETE",
            "/v1/streams/{name}/state",
            ("dropState", STATE),
            "Empty all tables of a stream for good",
            Object(&[("dropped", Number, "entries")]),
        )
    },
    Said {
        query: &[
            ("key", Text, "only of this key"),
            ("key_base64", Text, "the same of any bytes"),
            ("prefix", Text, "keys that begin so"),
            ("after", Text, "next of the page before"),
            ("limit", Number, "at most so many, at most 10000; 100 unless given"),
        ],
        refusals: &[(400, "bad_query"), (404, "no_stream"), (404, "no_table"), (503, "failed")],
        ..Said::new(
            "GET",
            "/v1/streams/{name}/state/{transform}/{table}",
            ("listEntries", STATE),
            "A page of a table's entries, by key group and key",
            Object(&[
                ("entries", List(&Named("Entry")), ""),
                ("next", Perhaps(&Text), "after, for the next page; without one there are no more"),
            ]),
        )
    },
    Said {
        refusals: &[(404, "no_stream"), (404, "no_table"), (503, "failed")],
        ..Said::new(
            "DELETE",
            "/v1/streams/{name}/state/{transform}/{table}",
            ("dropTable", STATE),
            "Empty one table for good",
            Object(&[("dropped", Number, "entries")]),
        )
    },
];
