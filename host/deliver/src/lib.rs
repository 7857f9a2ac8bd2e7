//! Destinations: where finished objects go, under which names, and how often they are tried.
//!
//! The pipeline hands over one `Object` (a synced file and what is known about it) and gets back
//! `Delivered` or a `DeliverError` that says whose fault it is and whether to try again; both are
//! data, so that the policy (`RetryPolicy`, `with_retry`) is the same for every destination.
//! Nothing is ever overwritten: an object that is already there is either provably ours
//! (`Delivered::AlreadyOurs`) or an error.
//!
//! Some destinations take records one by one; objects for them hold framed rows (`records`), of which their requests are
//! made.
//!
//! This crate never runs plugins, never moves checkpoints, compresses nothing but such requests, and never logs a
//! credential, a header or a payload.

mod batch_id;
mod destination;
mod directory;
mod endpoint;
mod fault;
mod http;
mod iceberg;
mod name;
mod object;
mod opensearch;
mod records;
mod redshift;
mod retry;
mod retry_after;
mod s3;
mod sent;
mod splunk;
#[cfg(test)]
mod staged;
mod stdout;

pub use self::iceberg::{Iceberg, IcebergConfig, RestConfig, StoreConfig, unfit_for_tables};
pub use batch_id::{BATCH_ID_LENGTH, BatchOwner, batch_id, incarnation_in};
#[cfg(feature = "testing")]
pub use destination::Scripted;
pub use destination::{Capabilities, Config, Destination, Setting, Wrong};
pub use directory::{Directory, DirectoryConfig, DirectoryThreads, STAGING_NAME, SyncCount};
pub use endpoint::{Endpoint, EndpointConfig};
pub use fault::{DeliverError, Fault, Retry};
pub use http::{Call, Called, Caller, CallerConfig, CallerShare, Http, HttpConfig, Reach, Uncalled};
pub use name::{ErrorOutputType, FirehoseNames, NameContext, NameTemplate, TemplateError, sanitise};
pub use object::{Delivered, Object, ObjectMeta};
pub use opensearch::{Action, OpenSearch, OpenSearchConfig, Rotation};
pub use records::{FRAMED_CONTENT_TYPE, RefusedRow, Rest, each_row};
pub use redshift::{Authorization, Redshift, RedshiftConfig, Server, TlsMode};
pub use retry::{Backoff, GaveUp, Manner, RetryPolicy, Retrying, Step, with_retry};
pub use s3::{Credentials, ObjectRead, S3, S3Config, S3Object};
pub use sent::{Sent, Tally};
pub use splunk::{Splunk, SplunkConfig, SplunkEndpoint};
pub use stdout::Stdout;
