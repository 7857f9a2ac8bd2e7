//! What was used within one span of time, of one stream, one transform of it, or the tenant as a whole; and how such rows
//! add up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::pipeline::moment_text;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

macro_rules! counts {
    ($($(#[doc = $text:literal])+ $field:ident $how:ident;)*) => {
        /// What is counted; each adds up, or is the most that there was.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
        #[serde(default)]
        pub(super) struct Counts {
            $($(#[doc = $text])+
            #[serde(skip_serializing_if = "is_zero")]
            pub(super) $field: u64,)*
        }

        impl Counts {
            pub(super) fn add(&mut self, other: &Counts) {
                $(self.$field = $how(self.$field, other.$field);)*
            }

            fn to_json(self, row: &mut serde_json::Map<String, Value>) {
                $(row.insert(stringify!($field).to_owned(), self.$field.into());)*
            }
        }
    };
}

fn sum(one: u64, other: u64) -> u64 {
    one.saturating_add(other)
}

fn most(one: u64, other: u64) -> u64 {
    one.max(other)
}

counts! {
    /// Records that have a receipt; of a transform, rows that went into it.
    records_in sum;
    /// Bytes of these records.
    bytes_in sum;
    /// Records that were delivered, of all outputs; of a transform, rows that came out of it.
    records_out sum;
    /// Bytes of the objects and requests that were delivered; of a transform, of these rows.
    bytes_out sum;
    /// Dead letters that were written; of a transform, what failed in it.
    dead_letters sum;
    /// Calls of plugins.
    calls sum;
    /// CPU time of these calls.
    cpu_ns sum;
    /// Calls that failed as a whole.
    traps sum;
    /// Of the workers, plugins included; of the tenant as a whole alone.
    worker_cpu_ns sum;
    /// Of the compiler; of the tenant as a whole alone.
    compile_cpu_ns sum;
    /// Largest linear memory of an instance that made calls.
    memory_bytes_max most;
    /// Most bytes that waited, as seen every ten seconds.
    buffered_bytes_max most;
}

/// Whose a row is. Without a stream: of the tenant as a whole; without a plugin: of the stream as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub(super) struct Of {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) stream: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) transform: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) plugin: String,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Row {
    /// Seconds since 1970.
    pub(super) from: u64,
    #[serde(flatten)]
    pub(super) of: Of,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

/// Rows by the beginning of their span, and whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows(pub(super) BTreeMap<(u64, Of), Counts>);

impl Rows {
    pub(super) fn add(&mut self, from: u64, of: Of, counts: &Counts) {
        self.0.entry((from, of)).or_default().add(counts);
    }

    pub(super) fn into_rows(self) -> impl Iterator<Item = Row> {
        self.0.into_iter().map(|((from, of), counts)| Row { from, of, counts })
    }
}

/// What rows are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageBy {
    Tenant,
    Stream,
    Plugin,
}

impl Row {
    /// What it adds to a row that is counted `by` this: records of a transform are the stream's already.
    pub(super) fn part(&self, by: UsageBy) -> Counts {
        if by == UsageBy::Plugin || self.of.plugin.is_empty() {
            return self.counts;
        }
        Counts { records_in: 0, bytes_in: 0, records_out: 0, bytes_out: 0, dead_letters: 0, ..self.counts }
    }
}

impl UsageBy {
    /// Under which key a row counts; `None`: under none.
    pub(super) fn key(self, of: &Of) -> Option<Of> {
        match self {
            UsageBy::Tenant => Some(Of::default()),
            UsageBy::Stream if of.stream.is_empty() => None,
            UsageBy::Stream => Some(Of { stream: of.stream.clone(), ..Of::default() }),
            UsageBy::Plugin if of.plugin.is_empty() => None,
            UsageBy::Plugin => Some(Of { plugin: of.plugin.clone(), ..Of::default() }),
        }
    }
}

/// As it is answered.
pub(super) fn shown(tenant: &str, seconds: u64, row: &Row) -> Value {
    let Row { from, of, counts } = row;
    let nanos = i64::try_from(*from).unwrap_or(i64::MAX / 1_000_000_000).saturating_mul(1_000_000_000);
    let mut shown = json!({ "tenant": tenant, "from": moment_text(nanos), "seconds": seconds });
    if let Value::Object(shown) = &mut shown {
        for (name, value) in [("stream", &of.stream), ("plugin", &of.plugin)] {
            if !value.is_empty() {
                shown.insert(name.to_owned(), value.as_str().into());
            }
        }
        counts.to_json(shown);
    }
    shown
}
