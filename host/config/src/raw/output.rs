//! The keys of outputs: destinations, batching, retry; those of a stream and those of its dead letters.
//!
//! A destination's own keys stand once, whoever delivers to it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FirehoseErrors, IcebergOutput, Parquet, RedshiftOutput, SecretSource, default};
use crate::units::{Size, Span};

/// One destination of a stream.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[schemars(title = "output", inline)]
pub(crate) enum Output {
    /// Files in a directory: written under a temporary name, synced, renamed.
    #[schemars(title = "directory output")]
    Directory(DirectoryOutput),
    /// Objects in S3 or a store with its interface. Credentials come from the usual places (environment, profile, instance).
    #[schemars(title = "s3 output")]
    S3(S3Output),
    /// One POST request per batch.
    #[schemars(title = "http output")]
    Http(HttpOutput),
    /// Splunk's HTTP event collector, with indexer acknowledgement. `url` has no path: `https://splunk.example:8088`.
    #[schemars(title = "splunk output")]
    Splunk(SplunkOutput),
    /// Documents in OpenSearch or Elasticsearch, by `_bulk`. `url` is that of the cluster, with a user and password if it has one: `https://user:password@search.example`.
    #[serde(rename = "opensearch")]
    #[schemars(title = "opensearch output")]
    OpenSearch(OpenSearchOutput),
    /// Rows in a table of Amazon Redshift: objects in S3 as the s3 output writes them, each loaded once by a COPY.
    #[schemars(title = "redshift output")]
    Redshift(Box<RedshiftOutput>),
    /// Rows appended to an Apache Iceberg table, each batch in one commit. `format` is `"parquet"`.
    #[schemars(title = "iceberg output")]
    Iceberg(Box<IcebergOutput>),
    /// Standard output.
    #[schemars(title = "stdout output")]
    Stdout(StdoutOutput),
}

/// Files in a directory.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct DirectoryOutput {
    #[serde(flatten)]
    pub(crate) place: DirectoryPlace,
    /// Name of an object below `path`. Must contain `{batch}`. Also: `{stream}`, `{output}`, `{year}`, `{month}`, `{day}`, `{hour}`, `{minute}` (arrival time, UTC), `{partition.NAME}` (set by a plugin), `{extension}`.
    #[serde(default = "default::object")]
    pub(crate) object: String,
    /// Names of objects as Amazon Data Firehose gives them, in the place of `object`.
    #[serde(default)]
    pub(crate) firehose: Option<FirehoseNames>,
    /// How rows become columns, where `format` is `"parquet"`.
    #[serde(default)]
    pub(crate) parquet: Option<Parquet>,
    #[serde(flatten)]
    pub(crate) batching: Batching,
}

/// Names of objects as Amazon Data Firehose gives them: the evaluated prefix, then `<stream>-<version>-<time>-<uuid>`.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct FirehoseNames {
    /// Text and expressions of Firehose: `!{timestamp:PATTERN}`, `!{firehose:random-string}`, `!{partitionKeyFromQuery:NAME}` and `!{partitionKeyFromLambda:NAME}` (partitions that plugins set), of dead letters `!{firehose:error-output-type}`. Without any, `yyyy/MM/dd/HH/` follows.
    #[serde(default)]
    pub(crate) prefix: String,
    /// Zone of the times, by its name in the IANA database. By default UTC.
    #[schemars(extend("examples" = ["Europe/Berlin"]))]
    pub(crate) time_zone: Option<String>,
    /// What names end with. By default the extension of the compression.
    #[schemars(extend("examples" = [".json"]))]
    pub(crate) extension: Option<String>,
    /// Version of the stream in the names.
    #[serde(default = "default::one")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_992u64))]
    pub(crate) version: u64,
}

/// Which directory.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct DirectoryPlace {
    /// The directory; it is created if missing at the start. `.wasmill-staging` in it is where objects are made. Relative to this file.
    pub(crate) path: String,
}

/// Objects in S3.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct S3Output {
    #[serde(flatten)]
    pub(crate) place: S3Place,
    /// Name of an object; the same names as in a directory output.
    #[serde(default = "default::object")]
    pub(crate) object: String,
    /// Names of objects as Amazon Data Firehose gives them, in the place of `object`.
    #[serde(default)]
    pub(crate) firehose: Option<FirehoseNames>,
    /// How rows become columns, where `format` is `"parquet"`.
    #[serde(default)]
    pub(crate) parquet: Option<Parquet>,
    #[serde(flatten)]
    pub(crate) batching: Batching,
}

/// Where in S3.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct S3Place {
    /// Name of the bucket.
    pub(crate) bucket: String,
    /// Put in front of every object name.
    #[serde(default)]
    pub(crate) prefix: String,
    /// URL of a store other than AWS.
    #[schemars(extend("format" = "url", "examples" = ["http://127.0.0.1:9000"]))]
    pub(crate) endpoint: Option<String>,
    /// Region. By default from the environment.
    pub(crate) region: Option<String>,
    /// Put the bucket into the path instead of the host name; most stores other than AWS want it.
    #[serde(default)]
    pub(crate) path_style: bool,
    /// Objects from this compressed size on are uploaded in parts.
    #[serde(default = "default::multipart_threshold")]
    pub(crate) multipart_threshold: Size,
}

/// One POST request per batch.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct HttpOutput {
    #[serde(flatten)]
    pub(crate) place: HttpPlace,
    /// How the endpoint is spoken to.
    #[serde(default)]
    pub(crate) protocol: HttpProtocol,
    /// Of the protocol `firehose`: what the endpoint knows its clients by, sent in each request.
    pub(crate) access_key: Option<HeaderValue>,
    /// Of the protocol `firehose`: texts by name that hold for all records, sent in each request. At most 50.
    #[serde(default)]
    pub(crate) common_attributes: BTreeMap<String, String>,
    /// Of the protocol `firehose`: by which the stream is named in each request. By default its ARN in the Firehose API.
    #[schemars(extend("examples" = ["arn:aws:firehose:us-east-1:000000000000:deliverystream/events"]))]
    pub(crate) source_arn: Option<String>,
    #[serde(flatten)]
    pub(crate) batching: Batching,
}

/// How an HTTP endpoint is spoken to.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HttpProtocol {
    /// The object is the body of the request.
    #[default]
    Plain,
    /// As Amazon Data Firehose delivers to HTTP endpoints: records one by one in a JSON body, and an answer that says which request it is about. Formats are verbatim, raw and ndjson; compression none or gzip.
    Firehose,
}

/// Splunk's HTTP event collector.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct SplunkOutput {
    #[serde(flatten)]
    pub(crate) place: HttpPlace,
    /// What records are to Splunk.
    #[serde(default)]
    pub(crate) endpoint: SplunkEndpoint,
    /// Token of the collector; it must have indexer acknowledgement.
    pub(crate) token: HeaderValue,
    /// How long to wait until Splunk says that records are indexed; then they are sent again.
    #[serde(default = "default::acknowledged_within")]
    pub(crate) acknowledged_within: Span,
    #[serde(flatten)]
    pub(crate) batching: Batching,
}

/// What records are to Splunk.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SplunkEndpoint {
    /// Events with their metadata, in the collector's JSON.
    #[default]
    Event,
    /// Text of any kind, which Splunk cuts into events.
    Raw,
}

/// Documents in OpenSearch or Elasticsearch.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct OpenSearchOutput {
    #[serde(flatten)]
    pub(crate) place: HttpPlace,
    /// Name of the index, before the date that `rotation` puts behind it.
    pub(crate) index: String,
    /// How often documents go to another index, by the arrival (UTC) of the oldest record of their batch.
    #[serde(default)]
    pub(crate) rotation: Rotation,
    /// What is done with a document.
    #[serde(default)]
    pub(crate) action: Action,
    /// Whether documents have ids made of their batch and row, so that one that is sent again is the same one. Without them, retries make duplicates.
    #[serde(default = "default::yes")]
    pub(crate) document_ids: bool,
    #[serde(flatten)]
    pub(crate) batching: Batching,
}

/// How often documents go to another index.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rotation {
    /// Never.
    #[default]
    None,
    /// `index-2016-02-25-13`.
    Hour,
    /// `index-2016-02-25`.
    Day,
    /// `index-2016-w09`: weeks begin on Sunday, and the first of a year has its first Saturday.
    Week,
    /// `index-2016-02`.
    Month,
}

/// What is done with a document.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// It takes the place of one with its id.
    #[default]
    Index,
    /// It is made where there is none with its id; data streams want this.
    Create,
}

/// Where and how to post.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct HttpPlace {
    /// Where to post to.
    #[schemars(extend("format" = "url", "examples" = ["https://collector.example/in"]))]
    pub(crate) url: String,
    /// Headers of every request, by name. Where an object is the body, `content-type` is the format's unless it is here.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, HeaderValue>,
    /// Certificates (PEM) of authorities that the server's certificate is checked with, in place of those of the machine.
    pub(crate) ca: Option<HeaderValue>,
    /// Longest time of one request.
    #[serde(default = "default::timeout")]
    pub(crate) timeout: Span,
}

/// Standard output.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct StdoutOutput {
    #[serde(flatten)]
    pub(crate) batching: Batching,
}

/// A header's value: text, or a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(crate) enum HeaderValue {
    /// The value itself.
    Plain(String),
    /// The value is a secret.
    Secret(SecretSource),
}

/// What every output has.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Batching {
    /// Name that plugins route to, unique in the stream. By default `default` for the first output and the type for others.
    pub(crate) name: Option<String>,
    /// How records stand in an object.
    #[serde(default)]
    pub(crate) format: Format,
    #[serde(flatten)]
    pub(crate) packing: Packing,
    /// Uncompressed bytes that make a batch due.
    #[serde(default = "default::size")]
    pub(crate) size: Size,
    /// Age that makes a batch due; `"0s"` delivers at once.
    #[serde(default = "default::interval")]
    pub(crate) interval: Span,
    /// Most partitions that are open at a time; rows of more go to the partition `_overflow` and are counted.
    #[serde(default = "default::max_partitions")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) max_partitions: u32,
    /// How a failing delivery is tried again.
    #[serde(default)]
    pub(crate) retry: Retry,
}

/// How small objects are made.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Packing {
    /// How objects are compressed, of Parquet the pages in them. By default zstd for directory and s3 outputs, gzip for redshift, snappy for Parquet, none for others.
    pub(crate) compression: Option<Codec>,
    /// Compression level: 1 to 9 for gzip (default 6), 1 to 19 for zstd (default 3).
    pub(crate) level: Option<i32>,
}

/// How records stand in an object.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// Any bytes, one record after another with nothing between them, as Amazon Data Firehose does by default.
    Verbatim,
    /// Any bytes, each record followed by a line feed.
    Raw,
    /// One JSON value per line.
    #[default]
    Ndjson,
    /// One JSON array.
    JsonArray,
    /// A Parquet file, `.parquet`; each record is a JSON object. For directory and s3 outputs.
    Parquet,
}

/// How objects are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Codec {
    /// Not at all.
    None,
    /// One gzip member, `.gz`.
    Gzip,
    /// One zstd frame, `.zst`.
    Zstd,
    /// Snappy's framing format, `.sz`.
    Snappy,
    /// The stream of snappy-java, `.snappy`: what Amazon Data Firehose calls Snappy.
    SnappyJava,
    /// Hadoop's framing of snappy, `.snappy`: Firehose's HADOOP_SNAPPY.
    HadoopSnappy,
    /// A ZIP archive of one deflated entry, `.zip`.
    Zip,
}

/// How a failing delivery is tried again: after `initial`, then twice as long each time up to `max`, with jitter.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "retry")]
pub(crate) struct Retry {
    #[serde(flatten)]
    pub(crate) pauses: Pauses,
    /// After this time a batch is given up.
    #[serde(rename = "for")]
    #[schemars(extend("default" = default::retry_for()))]
    pub(crate) give_up_after: Span,
    /// What becomes of a batch that is given up or refused, and that no `fallback` took.
    #[schemars(extend("default" = Then::default()))]
    pub(crate) then: Then,
}

/// What becomes of a batch that is given up.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Then {
    /// It becomes a dead letter, and the output goes on.
    #[default]
    DeadLetter,
    /// It stays, and the output stops with an alarm until it can be delivered; pushes get 429 when the buffer is full.
    Pause,
}

impl Default for Retry {
    fn default() -> Retry {
        let pauses = Pauses::default();
        Retry { pauses, give_up_after: default::retry_for(), then: Then::default() }
    }
}

/// The pauses before another try: `initial`, then twice as long each time up to `max`, with jitter.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "retry")]
pub(crate) struct Pauses {
    /// First pause.
    #[schemars(extend("default" = default::retry_initial()))]
    pub(crate) initial: Span,
    /// Longest pause.
    #[schemars(extend("default" = default::retry_max()))]
    pub(crate) max: Span,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { initial: default::retry_initial(), max: default::retry_max() }
    }
}

/// A destination of the records of a stream as they came in.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[schemars(title = "backup", inline)]
pub(crate) enum BackupOutput {
    /// Files in a directory: written under a temporary name, synced, renamed.
    #[schemars(title = "directory backup")]
    Directory {
        #[serde(flatten)]
        place: DirectoryPlace,
        /// Name of an object below `path`. Must contain `{batch}`. Also: `{stream}`, `{output}` (`backup`), `{year}`, `{month}`, `{day}`, `{hour}`, `{minute}` (arrival time, UTC), `{extension}`.
        #[serde(default = "default::backup_object")]
        object: String,
        /// Names of objects as Amazon Data Firehose gives them, in the place of `object`.
        #[serde(default)]
        firehose: Option<FirehoseNames>,
        #[serde(flatten)]
        batching: BackupBatching,
    },
    /// Objects in S3 or a store with its interface. Credentials come from the usual places (environment, profile, instance).
    #[schemars(title = "s3 backup")]
    S3 {
        #[serde(flatten)]
        place: S3Place,
        /// Name of an object; the same names as in a directory.
        #[serde(default = "default::backup_object")]
        object: String,
        /// Names of objects as Amazon Data Firehose gives them, in the place of `object`.
        #[serde(default)]
        firehose: Option<FirehoseNames>,
        #[serde(flatten)]
        batching: BackupBatching,
    },
}

/// What every backup has.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct BackupBatching {
    /// How records stand in an object.
    #[serde(default)]
    pub(crate) format: BackupFormat,
    #[serde(flatten)]
    pub(crate) packing: Packing,
    /// Uncompressed bytes that make a batch due.
    #[serde(default = "default::size")]
    pub(crate) size: Size,
    /// Age that makes a batch due; `"0s"` delivers at once.
    #[serde(default = "default::interval")]
    pub(crate) interval: Span,
    /// How a failing delivery is tried again.
    #[serde(default)]
    pub(crate) retry: Retry,
}

/// How records stand in an object of a backup.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BackupFormat {
    /// Each record followed by a line feed.
    #[default]
    Raw,
    /// One record after another with nothing between them, as Amazon Data Firehose does by default.
    Verbatim,
}

/// A destination of a stream's dead letters: each leaves once, in the order of their numbers, as a line of NDJSON.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[schemars(title = "dead_letters.output", inline)]
pub(crate) enum LettersOutput {
    /// Files in a directory: written under a temporary name, synced, renamed.
    #[schemars(title = "directory output of dead letters")]
    Directory {
        #[serde(flatten)]
        place: DirectoryPlace,
        /// Name of an object below `path`. Must contain `{batch}`. Also: `{stream}`, `{output}` (`dead-letters`), `{year}`, `{month}`, `{day}`, `{hour}`, `{minute}` (when the first letter was kept, UTC), `{extension}`.
        #[serde(default = "default::letters_object")]
        object: String,
        /// Names of objects as Amazon Data Firehose gives those of records that failed, in the place of `object`; the lines are Firehose's, too.
        #[serde(default)]
        firehose: Option<FirehoseErrors>,
        #[serde(flatten)]
        batching: LettersBatching,
    },
    /// Objects in S3 or a store with its interface. Credentials come from the usual places (environment, profile, instance).
    #[schemars(title = "s3 output of dead letters")]
    S3 {
        #[serde(flatten)]
        place: S3Place,
        /// Name of an object; the same names as in a directory output.
        #[serde(default = "default::letters_object")]
        object: String,
        /// Names of objects as Amazon Data Firehose gives those of records that failed, in the place of `object`; the lines are Firehose's, too.
        #[serde(default)]
        firehose: Option<FirehoseErrors>,
        #[serde(flatten)]
        batching: LettersBatching,
    },
    /// One POST request per object.
    #[schemars(title = "http output of dead letters")]
    Http {
        #[serde(flatten)]
        place: HttpPlace,
        #[serde(flatten)]
        batching: LettersBatching,
    },
}

/// What every output of dead letters has.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct LettersBatching {
    /// What becomes of a letter that has been delivered.
    #[serde(default)]
    pub(crate) then: LettersThen,
    #[serde(flatten)]
    pub(crate) packing: Packing,
    /// Bytes of letters that make an object due, at most 8MiB; a letter that is larger has an object of its own.
    #[serde(default = "default::size")]
    pub(crate) size: Size,
    /// Age of the oldest letter that makes an object due; `"0s"` delivers at once.
    #[serde(default = "default::interval")]
    pub(crate) interval: Span,
    /// How a failing delivery is tried again, for ever.
    #[serde(default)]
    pub(crate) retry: Pauses,
}

/// What becomes of a letter that has been delivered.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LettersThen {
    /// It stays, to be listed and replayed, until it is purged or too old.
    #[default]
    Keep,
    /// It is removed, so that the store never fills while the destination is up. With http, letters of the delivery stage stay: their object does not leave with them.
    Remove,
}
