//! Wires the stages of one stream: cuts slices, gathers batches, commits outcomes, notes deliveries.
//!
//! The only place that imports several stages. As a record meets the modules: `inlet` appends it, `intake` cuts it
//! into a slice, `slice` takes that through the chain on one of the `workers`, `sink` gathers rows per output,
//! `fit` withdraws those that do not fit its `columns`, `batch`
//! keeps them until they are due, `commit` makes the outcome durable, `delivery` sends the object, `ledger` says what
//! the journal must keep. What failed on the way is in `dead_letters`; `letters` answers about it, `replay` tries again,
//! `letters_output` takes it to a destination of its own.
//! Beside all this, `history` runs what was delivered once more, `shadow` runs a candidate on the same slices, and
//! `samples` shows records to who asks. `stream` is the task that owns all of it; `host` is the composition root,
//! `ending` the way back. `quotas` has what each tenant may use, `usage` what it
//! has used.

mod access;
mod batch;
mod changes;
mod check;
mod columns;
mod commit;
mod context;
pub mod dead_letters;
mod decide;
mod define;
mod delivery;
mod descriptors;
mod due;
mod ending;
mod event_time;
mod face;
mod fate;
pub mod firehose_stats;
mod fit;
mod follow;
mod granted;
mod history;
mod host;
mod inlet;
mod intake;
mod journal;
mod judge;
mod launch;
mod ledger;
mod leftovers;
mod letters;
mod letters_output;
mod live;
mod network;
mod offline;
mod opening;
mod outcome;
mod output_problems;
mod outputs;
mod plan;
mod probe;
mod quotas;
mod readiness;
mod recovery;
mod reload;
mod replay;
mod samples;
mod shadow;
#[cfg(test)]
mod simulation;
mod sink;
mod slice;
mod sources;
mod staging;
mod state;
pub mod stats;
mod strands;
mod stream;
mod tables;
mod tenants;
mod unfit;
mod ungranted;
mod usage;
mod versions;
mod warm;
mod workers;

pub use access::{OfflineKeyError, create_key_offline};
pub use changes::ChangeError;
pub use check::check;
pub use decide::{Answer, Asking, Decider, Ticket, Verdict};
pub use define::{DefineAnswer, DefineError, DefineRequest, When};
pub use ending::DrainError;
pub use fate::Side;
pub use follow::{FileProblem, FileReport};
pub use history::{
    Alone, AloneError, HistoryError, PlanError, ReplayPlan, ReplayProgress, ReplayState, moment_text, new_id,
    parse_id, parse_moment,
};
pub use host::{Host, HostOptions};
pub use inlet::Inlet;
pub use leftovers::LeftError;
pub use letters::{LettersError, PAGE_LETTERS_MAX, Page, Wanted, page};
pub use offline::{OfflineError, OfflineLetters, open_offline};
pub use opening::StartError;
pub use plan::{GivenPlugins, plugin_version};
pub use quotas::{Admission, InFlight, Past, QuotaRefusal, Quotas, TenantQuota, Turn, Uploading};
pub use replay::{ReplayError, Replayed};
pub(crate) use samples::{SAMPLE_RECORDS_MAX, SAMPLE_WAIT_MAX};
pub use samples::{SampleError, SampledRecord, SampledSlice};
pub use shadow::{Cost, Difference, Sample, ShadowReport, Slices};
pub(crate) use sources::with_causes;
pub use tables::{
    EntriesPage, EntriesWanted, EntryShown, PAGE_ENTRIES_MAX, PlaceOf, StateDeskError, StateRequest,
    TableName, read_cursor,
};
pub(crate) use usage::spans as usage_span;
pub use usage::{UsageBy, UsageError, UsagePage, UsageQuery, UsageReader};
pub use versions::{PluginFile, VersionsError, VersionsRequest};
pub use wasmill_config::{Firehose as FirehoseSettings, Flaw, SchemaSource};
// What requests about versions are made of.
pub use wasmill_catalog::{AddError, FindError, RemoveError, ShadowOf};
pub use wasmill_transform::Digest;
