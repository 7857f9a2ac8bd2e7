//! What became of each record of a slice: the rows that came of it, and where they go, or why it failed.
//!
//! It is what people look at, so the texts are bounded; it decides nothing.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::sink::{Row, Trace};
use super::slice::Done;

/// Rows of a record that are shown.
const ROWS_MAX: usize = 3;
/// Bytes of one text that are shown.
pub(super) const TEXT_BYTES_MAX: usize = 500;

/// What became of a record under one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// kept, dropped or failed.
    pub fate: String,
    /// The first rows that came of it: `OUTPUT: TEXT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The rows of a slice by record.
pub(super) struct Rows<'a> {
    trace: &'a Trace,
    /// In order of offsets; rows of one record in the order in which they came.
    rows: Vec<Row>,
    next: usize,
    failed: HashMap<i64, &'a str>,
}

/// What became of one record.
pub(super) struct Fate<'a> {
    pub(super) trace: &'a Trace,
    pub(super) rows: &'a [Row],
    pub(super) reason: Option<&'a str>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(trace: &'a Trace, failed: &'a [(i64, String)]) -> Rows<'a> {
        let mut rows = trace.rows.clone();
        rows.sort_by_key(|row| row.offset);
        let next = rows.partition_point(|row| row.offset < 0);
        let failed = failed.iter().map(|(offset, reason)| (*offset, reason.as_str())).collect();
        Rows { trace, rows, next, failed }
    }

    /// Rows that no record stands behind.
    pub(super) fn own(&self) -> u64 {
        self.rows.partition_point(|row| row.offset < 0) as u64
    }

    /// Must be asked in order of offsets.
    pub(super) fn fate(&mut self, offset: i64) -> Fate<'_> {
        let first = self.next + self.rows[self.next..].partition_point(|row| row.offset < offset);
        let last = first + self.rows[first..].partition_point(|row| row.offset == offset);
        self.next = last;
        Fate { trace: self.trace, rows: &self.rows[first..last], reason: self.failed.get(&offset).copied() }
    }
}

impl Fate<'_> {
    pub(super) fn side(&self) -> Side {
        let fate = match (self.reason, self.rows) {
            (Some(_), _) => "failed",
            (None, []) => "dropped",
            (None, _) => "kept",
        };
        let rows = self.rows.iter().take(ROWS_MAX).map(|row| {
            let text = shown(self.trace.bytes(row));
            let place: Vec<String> =
                self.trace.key(row).partition.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
            format!("{}{place}: {text}", self.trace.output(row))
        });
        Side {
            fate: fate.to_owned(),
            rows: rows.collect(),
            reason: self.reason.map(|reason| shown(reason.as_bytes())),
        }
    }
}

/// What failed of a slice, by offset.
pub(super) fn failed(done: &Done) -> Vec<(i64, String)> {
    let of_records = done.letters.iter().map(|(letter, _)| letter).filter(|letter| letter.offset >= 0);
    let text = |transform: &str, reason: &str| match transform {
        "" => reason.to_owned(),
        transform => format!("{transform}: {reason}"),
    };
    of_records.map(|letter| (letter.offset, text(&letter.transform, &letter.reason))).collect()
}

/// The beginning of bytes as text.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)]);
    if bytes.len() > TEXT_BYTES_MAX {
        format!("{text}… ({} bytes)", bytes.len())
    } else {
        text.into_owned()
    }
}
