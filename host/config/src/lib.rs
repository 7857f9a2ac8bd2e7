//! What the user wrote, turned into checked settings.
//!
//! The text goes through three steps: a TOML tree with positions, a structural check of that tree
//! against the JSON Schema that is derived from the raw types (unknown keys, types, ranges, units),
//! and semantic checks that resolve every default and path. Only a syntax error ends it early: what is
//! bad gives way to a stand-in, so that each step sees all the rest ([`Draft`]). Each problem names file,
//! line and column and, for a misspelt name, the nearest valid one. The schema and the reference page come
//! from the same descriptions.
//!
//! It refuses to open sockets, to read anything but granted secret files, and to know other crates:
//! [`Settings`] is plain data which the pipeline maps onto the stages' own types.

mod access;
mod authority;
mod columns;
mod decide;
mod defined;
mod describe;
mod draft;
mod event_time;
mod files;
mod firehose;
mod kinesis;
mod limits;
mod listeners;
mod models;
mod names;
mod network;
mod outputs;
mod parallel;
mod place;
mod policy;
mod problem;
mod quota;
mod raw;
mod redshift;
mod reference;
mod requests;
mod resolve;
mod secret;
mod settings;
mod sources;
mod state;
mod structure;
mod tables;
mod tree;
mod units;

pub use authority::{HttpReach, Policy};
pub use defined::{Defined, Flaw, masked};
pub use draft::Draft;
pub use place::Complaint;
pub use problem::{Invalid, LoadError, Problem};
pub use secret::{Secret, masked_url};
pub use settings::{
    Action, Auth, Buffer, CatalogTable, Codec, Compression, CopyAuthorization, DEFAULT_TENANT, DeadLetters,
    Decide, Destination, Directory, Durability, Endpoint, EventTime, FileAt, FileSource, Firehose,
    FirehoseErrors, FirehoseNames, Format, GrantPolicy, HostHeaders, Http, HttpPost, Iceberg, Isolation,
    Jwks, Jwt, KinesisPlace, KinesisSource, KinesisStart, Late, LettersOutput, Limits, ObjectAt, ObjectName,
    OpenSearch, Output, Parallel, Parquet, PluginHttp, PluginRef, Quota, Redshift, RestCatalog, Retention,
    Retry, Rotation, S3, SchemaSource, Settings, Signing, Source, SourceBuffer, Splunk, SplunkEndpoint,
    Start, Stream, StreamSource, TcpSource, Tenant, TimeFormat, TimeSource, Tls, TlsClient, TlsMode,
    Transform, Unreadable,
};

/// JSON Schema of the configuration, pretty-printed, for editors.
pub fn schema() -> String {
    let mut text = format!("{:#}", describe::schema());
    text.push('\n');
    text
}

/// The reference page `docs/config.md`, generated from the schema's descriptions.
pub fn reference() -> String {
    reference::page(describe::schema())
}
