//! What members may hold, and what may stand together.
//!
//! There are two kinds, and they are different exceptions. A constraint is of one member: its length, pattern, range or set
//! of values; all that are violated are told at once in one `ValidationException`. A rule is of several members, and looks
//! at a destination as it will be stored, after an update was merged; the first that is broken is an
//! `InvalidArgumentException`.
//!
//! Source of constraints: Amazon Data Firehose API Reference. Texts of rules that the service is known to send are as it
//! sends them; others are Wasmill's own.

mod conversion;
mod destination;
mod member;
mod processing;
mod redshift;
mod request;
mod requests;
mod rule;
mod violation;

pub use redshift::{Cluster, redshift_rules};
pub use request::{
    create, delete, describe, list, list_tags, start_encryption, stop_encryption, tag, untag, update,
};
pub use requests::{opensearch_rules, splunk_rules};
pub use rule::{extended_s3, http_endpoint, s3};
pub use violation::{At, Violations};

pub(crate) use member::{TAGS_MAX, stream_name};

/// Whether members that a destination cannot do without must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// A configuration: it is all there is.
    Whole,
    /// An update: what is not given stays as it was.
    Part,
}
