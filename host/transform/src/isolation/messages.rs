//! What the host asks of a process that runs plugins, and what that answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chain::ChainOptions;
use crate::fault::PluginFault;
use crate::limits::Limits;
use crate::log::Level;
use crate::manifest::Manifest;
use crate::plugin::Digest;
use crate::report::TransformReport;
use crate::step::Table;

/// From the host.
#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    /// The body is compiled code, which the host has verified.
    Code {
        digest: Digest,
        manifest: Vec<u8>,
        module: bool,
    },
    /// Build a chain of plugins whose code is there. The body has the granted files in their order, and then the models.
    Load(Box<Load>),
    /// Let go of a chain, and of code that no chain needs.
    Unload {
        chain: u64,
    },
    Run(Run),
    /// To what a guest sent, in order; the body has the answers' bodies one after another.
    Answers(Vec<Result<AnswerHead, String>>),
    /// What was asked of state, in the body: see [`super::state`].
    Entries {
        more: bool,
    },
    /// Why a row does not fit its output, if it does not.
    Checked(Option<String>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) chain: u64,
    pub(super) transforms: Vec<Transform>,
    pub(super) outputs: Vec<String>,
    pub(super) options: ChainOptions,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Transform {
    pub(super) name: String,
    pub(super) plugin: Digest,
    pub(super) config: String,
    /// Names and lengths.
    pub(super) files: Vec<(String, u32)>,
    pub(super) secrets: Vec<(String, String)>,
    /// Hosts that it may send to; the host judges it.
    pub(super) http: Option<Vec<String>>,
    /// Paths of the fields of its key.
    pub(super) key: Vec<Vec<String>>,
    pub(super) models: Vec<ModelHead>,
    pub(super) limits: Limits,
}

/// A model's file, which is behind all granted files in the body.
#[derive(Serialize, Deserialize)]
pub(super) struct ModelHead {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) bytes: u32,
}

/// A slice, or a part of one. The body has the columns of the inputs in their order.
#[derive(Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) chain: u64,
    pub(super) slice: u64,
    pub(super) stream_seed: u64,
    pub(super) require_json: bool,
    pub(super) byte_routes: u64,
    /// For answers, in other parts of the slice.
    pub(super) waited: Duration,
    pub(super) inputs: Vec<InputHead>,
    /// Of a stream that has event time: then each input has its times and watermarks.
    pub(super) clock: Option<Clock>,
    /// Of a chain that keeps state.
    pub(super) keeps: Option<Keeps>,
}

/// Event time of the rows that are sent; see [`crate::Times`].
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Clock {
    pub(super) before: i64,
    pub(super) after: i64,
    pub(super) due: bool,
    pub(super) arrival: i64,
}

/// State as the process sees it through the host.
#[derive(Serialize, Deserialize)]
pub(super) struct Keeps {
    /// The slice's time.
    pub(super) now: i64,
    /// How many bytes more the tenant may keep.
    pub(super) room: Option<u64>,
    /// What was declared of the tables that something was written to: version and time to live.
    pub(super) stored: Vec<(Place, u32, u64)>,
    /// Rows of records for which state was written are shown to the host.
    pub(super) checks: bool,
}

/// A table by the places of its transform in the chain and of its declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) step: u32,
    pub(super) table: u32,
}

/// Payloads and their ends; offsets, arrival deltas, keys and attributes where there are any.
#[derive(Serialize, Deserialize)]
pub(super) struct InputHead {
    pub(super) first_offset: u64,
    pub(super) arrival: i64,
    pub(super) rows: u32,
    pub(super) payload_bytes: u32,
    /// They are not consecutive.
    pub(super) offsets: bool,
    pub(super) deltas: bool,
    /// Bytes of all keys.
    pub(super) keys: Option<u32>,
    /// Name, and bytes of all values.
    pub(super) attributes: Vec<(String, u32)>,
    /// Times and watermarks follow.
    pub(super) timed: bool,
}

/// From the process.
#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
    /// The code is there.
    Taken,
    /// It cannot be loaded.
    NotTaken(String),
    /// The chain passed its probe. What each transform declared.
    Loaded(Vec<LoadedStep>),
    Refused(Refused),
    /// A chain was let go of.
    Gone,
    /// Some rows; the body has payloads, ends, offsets, children, arrivals, routes, places of partitions, partitions (each
    /// with its length in front).
    Rows(RowsHead),
    Line {
        transform: String,
        level: Level,
        message: String,
    },
    Dropped {
        transform: String,
        lines: u64,
    },
    /// A guest sends requests, and waits; the body has their bodies one after another.
    Http(HttpAsk),
    /// A guest reads state, and waits; the body says which entries.
    State(StateAsk),
    /// Whether the row in the body fits the output behind this route.
    Check {
        route: u32,
    },
    /// The end of a run; the body has the letters, and behind them what became of state.
    Done(Box<Report>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct LoadedStep {
    /// Of all that it declared: every process must see the same.
    pub(super) declared: Digest,
    pub(super) tables: Vec<Table>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StateAsk {
    pub(super) place: Place,
    /// The entries of these addresses, as many as fit an answer; without any, those from the one address in the body on.
    pub(super) addresses: Option<u32>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HttpAsk {
    /// Place of its transform.
    pub(super) step: u32,
    /// How long it waits.
    pub(super) wait: Duration,
    /// So many bytes of answers it can still get.
    pub(super) answer_bytes: u64,
    pub(super) requests: Vec<RequestHead>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RequestHead {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    /// Of its body.
    pub(super) bytes: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AnswerHead {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// Of its body.
    pub(super) bytes: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RowsHead {
    pub(super) rows: u32,
    pub(super) payload_bytes: u32,
    /// How many of them the rows name by their place.
    pub(super) partitions: u32,
}

/// Names and values of a partition.
pub(super) type PartitionValues = Vec<(String, Vec<u8>)>;

#[derive(Serialize, Deserialize)]
pub(super) enum Refused {
    Transforms(Vec<RefusedTransform>),
    Layout(String),
}

#[derive(Serialize, Deserialize)]
pub(super) struct RefusedTransform {
    pub(super) index: usize,
    pub(super) of_config: bool,
    pub(super) fault: PluginFault,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) passed: u64,
    pub(super) dropped: u64,
    pub(super) emitted: u64,
    pub(super) letters: u32,
    /// Bytes of the letters.
    pub(super) letter_bytes: u32,
    /// The transforms have more to do at the watermark that they were told last.
    pub(super) owed: bool,
    pub(super) transforms: Vec<TransformReport>,
    pub(super) chunks: u64,
    pub(super) chunks_bisected: u64,
    pub(super) faults: Vec<(usize, PluginFault)>,
    pub(super) unrunnable: Option<(usize, PluginFault)>,
}

/// A record that failed, counted in what was sent.
#[derive(Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) input: usize,
    pub(super) row: u32,
    pub(super) offset: i64,
    pub(super) child: u32,
    /// Place in the chain; their number if it failed after the last one.
    pub(super) step: usize,
    pub(super) route: u32,
    pub(super) reason: String,
    /// Of a row that no record stands behind.
    pub(super) payload: Vec<u8>,
}

/// The manifest as it goes over: a format that describes itself, since fields of it are any JSON.
pub(super) fn manifest_bytes(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec(manifest).unwrap_or_default()
}
