//! What the user writes, key by key: the one description that feeds the parser, the structural check,
//! the JSON Schema and the reference page. A doc comment here is text that users read.
//!
//! It owns names, types and defaults of keys. It refuses relations between keys; `resolve` checks
//! those.

mod access;
mod authority;
mod columns;
mod event_time;
mod files;
mod firehose;
mod kinesis;
mod limits;
mod output;
mod parallel;
mod policy;
mod quota;
mod redshift;
mod tables;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::access::{Auth, AuthMode, ClientScope, Jwt, MetricsAccess, Tls, TlsClient};
pub(crate) use self::authority::Policy;
pub(crate) use self::columns::{Parquet, ParquetVersion, TableSchema, TableSchemaSource};
pub(crate) use self::event_time::{EventTime, Late, Unreadable};
pub(crate) use self::files::{FileSource, ObjectSource};
pub(crate) use self::firehose::{CatalogTable, Firehose, FirehoseErrors};
pub(crate) use self::kinesis::{Kinesis, KinesisFrom, PolicyKinesis};
pub(crate) use self::limits::Limits;
pub(crate) use self::output::{
    Action, BackupBatching, BackupFormat, BackupOutput, Batching, Codec, DirectoryPlace, FirehoseNames,
    Format, HeaderValue, HttpOutput, HttpPlace, HttpProtocol, LettersOutput, LettersThen, OpenSearchOutput,
    Output, Packing, Pauses, Retry, Rotation, S3Place, SplunkEndpoint, SplunkOutput, Then,
};
pub(crate) use self::parallel::Parallel;
pub(crate) use self::policy::{Grants, HttpHost, Signing};
pub(crate) use self::quota::Quota;
pub(crate) use self::redshift::{RedshiftOutput, TlsMode};
pub(crate) use self::tables::{Catalog, IcebergOutput, RestCatalog};
use crate::units::{Size, Span};

const fn mib(count: u64) -> Size {
    Size(count << 20)
}

const fn seconds(count: u64) -> Span {
    Span(std::time::Duration::from_secs(count))
}

/// Defaults that are values; each is named after its key.
mod default {
    use super::{Size, Span, mib, seconds};

    pub(super) fn data_dir() -> String {
        "data".to_owned()
    }
    pub(super) fn model_dir() -> String {
        "models".to_owned()
    }
    pub(super) fn plugin_dir() -> String {
        "plugins".to_owned()
    }
    pub(super) fn warm_instances() -> u32 {
        2000
    }
    pub(super) fn warm_memory() -> Size {
        Size(2 << 30)
    }
    pub(super) fn listen() -> String {
        "127.0.0.1:7070".to_owned()
    }
    pub(super) fn max_body() -> Size {
        mib(16)
    }
    pub(super) fn max_record() -> Size {
        mib(1)
    }
    pub(super) fn max_records() -> u32 {
        100_000
    }
    pub(super) fn max_connections() -> u32 {
        1024
    }
    pub(super) fn read_timeout() -> Span {
        seconds(30)
    }
    pub(super) fn max_bytes() -> Size {
        Size(8 << 30)
    }
    pub(super) fn journal_file() -> Size {
        mib(64)
    }
    pub(super) fn memory() -> Size {
        mib(64)
    }
    pub(super) fn deadline() -> Span {
        seconds(1)
    }
    pub(super) fn configure_deadline() -> Span {
        seconds(10)
    }
    pub(super) fn http_deadline() -> Span {
        seconds(10)
    }
    pub(super) fn output() -> Size {
        mib(16)
    }
    pub(super) fn log() -> Size {
        Size(16 << 10)
    }
    pub(super) fn object() -> String {
        "{stream}/{year}/{month}/{day}/{hour}/{batch}{extension}".to_owned()
    }
    pub(super) fn backup_object() -> String {
        "{stream}/backup/{year}/{month}/{day}/{hour}/{batch}{extension}".to_owned()
    }
    pub(super) fn letters_object() -> String {
        "{stream}/dead-letters/{year}/{month}/{day}/{batch}{extension}".to_owned()
    }
    pub(super) fn size() -> Size {
        mib(5)
    }
    pub(super) fn interval() -> Span {
        seconds(60)
    }
    pub(super) fn max_partitions() -> u32 {
        10_000
    }
    pub(super) fn retry_initial() -> Span {
        Span(std::time::Duration::from_millis(200))
    }
    pub(super) fn retry_max() -> Span {
        seconds(30)
    }
    pub(super) fn retry_for() -> Span {
        seconds(24 * 3600)
    }
    pub(super) fn one() -> u64 {
        1
    }
    pub(super) fn multipart_threshold() -> Size {
        mib(16)
    }
    pub(super) fn max_failed_percent() -> u32 {
        5
    }
    pub(super) fn retention_age() -> Span {
        seconds(7 * 24 * 3600)
    }
    pub(super) fn retention_size() -> Size {
        Size(10 << 30)
    }
    pub(super) fn decide_deadline() -> Span {
        seconds(1)
    }
    pub(super) fn timeout() -> Span {
        seconds(30)
    }
    pub(super) fn acknowledged_within() -> Span {
        seconds(180)
    }
    pub(super) fn redshift_port() -> u16 {
        5439
    }
    pub(super) fn batches_table() -> String {
        "wasmill_batches".to_owned()
    }
    pub(super) fn batches_kept() -> Span {
        seconds(90 * 86_400)
    }
    pub(super) fn statement_timeout() -> Span {
        seconds(900)
    }
    pub(super) fn yes() -> bool {
        true
    }
}

/// The configuration of one Wasmill host.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "configuration")]
pub(crate) struct Config {
    /// Directory of everything durable: journal, segments, compile cache, dead letters. Relative to this file.
    #[serde(default = "default::data_dir")]
    pub(crate) data_dir: String,
    /// Directory of `.wasm` plugins. It is watched: a changed file takes over between two slices. Relative to this file.
    #[serde(default = "default::plugin_dir")]
    pub(crate) plugin_dir: String,
    /// Directory of models, `.onnx` files that transforms name. It is watched: a changed model takes over between two slices. Relative to this file.
    #[serde(default = "default::model_dir")]
    pub(crate) model_dir: String,
    /// Threads that run transforms. By default one per core.
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) workers: Option<u32>,
    /// Instances of plugins that all threads together keep for the next slice; those that were not needed for longest go first.
    #[serde(default = "default::warm_instances")]
    #[schemars(range(min = 1, max = 9_000))]
    pub(crate) warm_instances: u32,
    /// Linear memory of these instances.
    #[serde(default = "default::warm_memory")]
    pub(crate) warm_memory: Size,
    /// Where plugins run, of every tenant that does not say otherwise.
    #[serde(default)]
    #[schemars(extend("default" = Isolation::Thread))]
    pub(crate) isolation: Isolation,
    /// The HTTP listener: push, metrics, health, state.
    #[serde(default)]
    pub(crate) http: Http,
    /// The durable buffer in front of the transforms.
    #[serde(default)]
    pub(crate) buffer: Buffer,
    /// The API of Amazon Data Firehose, at `POST /` of the listener.
    #[serde(default)]
    pub(crate) firehose: Firehose,
    /// Who must have signed the plugins in `plugin_dir`. By default signatures are not looked at.
    pub(crate) signing: Option<Signing>,
    /// What streams of the tenant `default` that are made over HTTP may use.
    pub(crate) policy: Option<Policy>,
    /// Streams by name: 1 to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or a digit.
    #[serde(default)]
    pub(crate) streams: BTreeMap<String, Stream>,
    /// What each tenant may use of which its own `quota` says nothing, `default` included.
    #[serde(default)]
    pub(crate) quota: Quota,
    /// Tenants by name, beside `default`, whose streams and plugins are those above, so that it has nothing but a `quota` here.
    #[serde(default)]
    pub(crate) tenants: BTreeMap<String, Tenant>,
}

/// A tenant: streams and plugins that have nothing in common with those of others.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "tenant")]
pub(crate) struct Tenant {
    /// Directory of this tenant's `.wasm` plugins, watched as the other is. By default the directory named like the tenant inside `plugin_dir`. Relative to this file.
    pub(crate) plugin_dir: Option<String>,
    /// Directory of its models. By default the one named like the tenant inside `model_dir`. Relative to this file.
    pub(crate) model_dir: Option<String>,
    /// What this tenant may use.
    #[serde(default)]
    pub(crate) quota: Quota,
    /// Who must have signed this tenant's plugins. By default signatures are not looked at.
    pub(crate) signing: Option<Signing>,
    /// What this tenant's plugins may be given. By default nothing.
    pub(crate) grants: Option<Grants>,
    /// What streams of this tenant that are made over HTTP may use.
    pub(crate) policy: Option<Policy>,
    /// Where this tenant's plugins run. By default as `isolation` above says.
    pub(crate) isolation: Option<Isolation>,
    /// Streams of this tenant by name; the keys are those of `[streams.NAME]`.
    #[serde(default)]
    pub(crate) streams: BTreeMap<String, Stream>,
}

/// Where plugins run. Takes effect at the next start.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Isolation {
    /// On the host's worker threads, in the WebAssembly sandbox.
    #[default]
    Thread,
    /// In the same sandbox, in a process of the tenant's own without rights and secrets: an escape or a crash of the sandbox costs that tenant the slice in flight. Costs memory and some speed. Linux only.
    Process,
}

impl From<Isolation> for crate::settings::Isolation {
    fn from(written: Isolation) -> Self {
        match written {
            Isolation::Thread => Self::Thread,
            Isolation::Process => Self::Process,
        }
    }
}

/// The HTTP listener: push, metrics, health, state.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "http")]
pub(crate) struct Http {
    /// Address and port, or `"off"`. Port 0 takes a free one.
    #[schemars(extend("format" = "listen", "default" = default::listen()))]
    pub(crate) listen: String,
    /// Longest request body, before and after decompression.
    #[schemars(extend("default" = default::max_body()))]
    pub(crate) max_body: Size,
    /// Longest record.
    #[schemars(extend("default" = default::max_record()))]
    pub(crate) max_record: Size,
    /// Most records in one request.
    #[schemars(range(min = 1, max = 10_000_000), extend("default" = default::max_records()))]
    pub(crate) max_records: u32,
    /// Most connections at a time; more wait to be accepted.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = default::max_connections()))]
    pub(crate) max_connections: u32,
    /// Longest wait for a request's headers, and between two pieces of its body.
    #[schemars(extend("default" = default::read_timeout()))]
    pub(crate) read_timeout: Span,
    /// Whether plugins, and candidates for a shadow, may be uploaded: code that gets what the plugin is granted. Default: on loopback.
    pub(crate) plugin_uploads: Option<bool>,
    /// Who may use it.
    #[serde(default)]
    pub(crate) auth: Auth,
    /// TLS on the listener. Without, it speaks plain HTTP.
    pub(crate) tls: Option<Tls>,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            listen: default::listen(),
            max_body: default::max_body(),
            max_record: default::max_record(),
            max_records: default::max_records(),
            max_connections: default::max_connections(),
            read_timeout: default::read_timeout(),
            plugin_uploads: None,
            auth: Auth::default(),
            tls: None,
        }
    }
}

/// The durable buffer in front of the transforms.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "buffer")]
pub(crate) struct Buffer {
    /// What an acknowledgement means.
    #[schemars(extend("default" = "fsync"))]
    pub(crate) durability: Durability,
    /// Most bytes that wait in one stream. When it is full, pushes get 429 and other sources wait.
    #[schemars(extend("default" = default::max_bytes()))]
    pub(crate) max_bytes: Size,
    /// Size of one journal file.
    #[schemars(extend("default" = default::journal_file()))]
    pub(crate) journal_file: Size,
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer {
            durability: Durability::Fsync,
            max_bytes: default::max_bytes(),
            journal_file: default::journal_file(),
        }
    }
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Durability {
    /// The records are synced to disk: they survive a power cut.
    Fsync,
    /// The operating system has the records: they survive the process, not a power cut.
    Os,
}

/// One stream: a source or several, transforms one after another, and one or more outputs.
// A table of which nothing can be made is `None`, so that its neighbours keep their places.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "stream")]
pub(crate) struct Stream {
    /// Where records come from. Exactly one of `source` and `sources` is wanted.
    pub(crate) source: Option<Source>,
    /// Several of them by name, at most 16: tables as `source` has them. Each record knows the name of its source (attribute `wasmill.source`). Of several of type `http`, a request says with `?source=NAME` which it means.
    pub(crate) sources: Option<BTreeMap<String, Source>>,
    /// Name of the output that takes objects whose own output gave them up. By default they become dead letters.
    pub(crate) fallback: Option<String>,
    /// Percentage of records that plugins fail, of at least 1,000, past which the plugins before take over again, or else the stream pauses until there is another version; 100 = never. Records that do not fit the format of their output do not count.
    #[serde(default = "default::max_failed_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub(crate) max_failed_percent: u32,
    /// How dead letters are kept: records that could not be transformed, encoded or delivered.
    #[serde(default)]
    pub(crate) dead_letters: DeadLetters,
    /// Keeps delivered records for `wasmill replay` until the first of its bounds is reached. By default nothing is kept.
    pub(crate) retention: Option<Retention>,
    /// Lets clients ask what becomes of a record while they wait (`POST /v1/streams/{name}/decide`). By default nobody may.
    pub(crate) decide: Option<Decide>,
    /// Where the records have their time. The host then keeps the stream's watermark, and hands it to the plugins. By default it knows of none.
    pub(crate) event_time: Option<EventTime>,
    /// Runs records of different keys on several cores, where plugins keep state or records have times: such a stream runs on one at a time by default.
    pub(crate) parallel: Option<Parallel>,
    /// Plugins that the records pass, in this order.
    #[serde(default)]
    #[schemars(with = "Vec<Transform>")]
    pub(crate) transforms: Vec<Option<Transform>>,
    /// Where records go. Plugins route rows to outputs by name; the first output is the default.
    #[schemars(with = "Vec<Output>", length(min = 1))]
    pub(crate) outputs: Vec<Option<Output>>,
    /// Where every record goes once as it came in, whatever becomes of it in the plugins. Replays do not send it again.
    pub(crate) backup: Option<BackupOutput>,
}

/// How the dead letters of a stream are kept.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "dead_letters")]
pub(crate) struct DeadLetters {
    /// Most bytes of letters and their objects. When they are full the stream pauses until some are replayed, exported or purged; nothing is evicted.
    pub(crate) max_bytes: Size,
    /// Age at which a letter is removed for good, and counted; with an `output`, only when it has been delivered. By default letters stay.
    pub(crate) max_age: Option<Span>,
    /// A destination of their own, to which each letter is delivered once. By default letters are only kept.
    pub(crate) output: Option<LettersOutput>,
}

impl Default for DeadLetters {
    fn default() -> DeadLetters {
        DeadLetters { max_bytes: Size(1 << 30), max_age: None, output: None }
    }
}

/// How long delivered records are kept for `wasmill replay`; whichever bound is reached first counts.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "retention")]
pub(crate) struct Retention {
    /// Since they arrived.
    #[schemars(extend("default" = default::retention_age()))]
    pub(crate) age: Span,
    /// Most bytes on disk, besides what waits (`max_bytes`); the oldest go first.
    #[schemars(extend("default" = default::retention_size()))]
    pub(crate) size: Size,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { age: default::retention_age(), size: default::retention_size() }
    }
}

/// How clients are answered that ask what becomes of a record while they wait.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "decide")]
pub(crate) struct Decide {
    /// Longest wait for an answer, 1ms to 60s; a request may ask for less.
    #[schemars(extend("default" = default::decide_deadline()))]
    pub(crate) deadline: Span,
    /// What an answer rests on.
    pub(crate) answer: Answer,
    /// The answer when the deadline has passed: any table, handed to the client as it is, such as `{ action = "pass" }`. By default the client gets 504. The records are stored, run and delivered all the same.
    pub(crate) fallback: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Default for Decide {
    fn default() -> Decide {
        Decide { deadline: default::decide_deadline(), answer: Answer::Durable, fallback: None }
    }
}

/// What an answer rests on.
#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// What became of the record is durable: it is what is delivered, whatever happens.
    Durable,
    /// The plugins have run; the record is durable, what became of it is not yet. After a crash they run again, and a plugin that then decides otherwise is not found out.
    Computed,
    /// The plugins have run; nothing is durable yet. What a crash of the machine, or a disk that fails, takes within the next milliseconds was answered and never happens: it is not delivered, and is in no state. For answers that must not wait for a disk.
    Early,
}

/// Where records come from.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[schemars(title = "source", inline)]
pub(crate) enum Source {
    /// Pushed to `POST /v1/streams/NAME/records`.
    #[schemars(title = "http source")]
    Http {},
    /// Lines of files.
    #[schemars(title = "file source")]
    File {
        /// Glob patterns. Relative to this file.
        #[schemars(length(min = 1), extend("examples" = [["logs/*.log"]]))]
        paths: Vec<String>,
        /// Keep reading what is appended, created and rotated. Otherwise each file is read once and the stream ends.
        #[serde(default)]
        follow: bool,
        /// Where to begin in files that exist when the stream starts for the first time.
        #[serde(default)]
        from: Start,
        /// Whether records are copied into the buffer although the files could be read again.
        #[serde(default)]
        buffer: SourceBuffer,
        /// Longest line; a longer one is skipped, counted and logged with its place.
        #[serde(default = "default::max_record")]
        max_record: Size,
    },
    /// Lines of standard input. The stream ends with it.
    #[schemars(title = "stdin source")]
    Stdin {
        /// Longest line; a longer one is skipped, counted and logged.
        #[serde(default = "default::max_record")]
        max_record: Size,
    },
    /// Lines of TCP connections.
    #[schemars(title = "tcp source")]
    Tcp {
        /// Address and port. Port 0 takes a free one.
        #[schemars(extend("format" = "address", "examples" = ["127.0.0.1:5140"]))]
        listen: String,
        /// Longest line; a longer one ends its connection.
        #[serde(default = "default::max_record")]
        max_record: Size,
        /// Most connections at a time; more are closed at once.
        #[serde(default = "default::max_connections")]
        #[schemars(range(min = 1, max = 1_000_000))]
        max_connections: u32,
    },
    /// Records of a stream of Kinesis Data Streams, each exactly once. Credentials come from the usual places (environment, profile, instance).
    #[schemars(title = "kinesis source")]
    Kinesis(Kinesis),
}

/// Where to begin in files that exist when the stream starts for the first time.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Start {
    /// At the first line.
    #[default]
    Start,
    /// Behind the last line.
    End,
}

/// Whether records of a source that can be read again are copied into the buffer.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourceBuffer {
    /// What the host thinks best; so far it copies every source.
    #[default]
    Auto,
    /// Always.
    Forced,
}

/// A plugin's place in a stream.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "transform")]
pub(crate) struct Transform {
    /// Name of a plugin in `plugin_dir`, or `NAME@sha256:DIGEST` to pin one version.
    #[schemars(extend("format" = "plugin", "examples" = ["parse"]))]
    pub(crate) plugin: String,
    /// Name of the transform in metrics, logs and dead letters, unique in the stream. By default the plugin's name, then with `-2`, `-3`.
    pub(crate) name: Option<String>,
    /// Passed to the plugin's `configure` as JSON; the plugin's README has its keys.
    #[serde(default)]
    pub(crate) config: serde_json::Map<String, serde_json::Value>,
    /// Files that the plugin may read, by the name under which it asks for them: paths, relative to this file, or objects in S3; for tenants other than `default` the name of a file in `[tenants.NAME.grants.files]`. One that changes takes over between two slices.
    #[serde(default)]
    #[schemars(extend("examples" = [{"table": "tables/users.csv"}]))]
    pub(crate) files: BTreeMap<String, FileSource>,
    /// Secrets that the plugin may read, by the name under which it asks for them; for tenants other than `default` as `{ granted = ".." }`.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    /// Models that the plugin may run, by the name under which it loads them: names of files in `model_dir`, without `.onnx`.
    #[serde(default)]
    pub(crate) models: BTreeMap<String, String>,
    /// Hosts to which the plugin may send requests: names, addresses or networks, each with a port or for all, as text or with headers that the host sets. A name stands for its public addresses; others must be listed, too. For tenants other than `default` only what `[tenants.NAME.grants]` has.
    #[serde(default)]
    #[schemars(extend("examples" = [["scores.example", "10.1.2.3:8080"]]))]
    pub(crate) http: Vec<HttpHost>,
    /// Fields whose values say in which of 256 key groups of the plugin's state a record is: records that share state have the same. Names, with dots between those of objects that a field is in; a dot that is part of a name stands as `\\.`.
    #[serde(default)]
    #[schemars(extend("examples" = [["user.id"]]))]
    pub(crate) key: Vec<String>,
    /// What one instance of the plugin may use.
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// Where a secret comes from. The value itself never stands in the configuration.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(title = "secret", inline)]
pub(crate) enum SecretSource {
    /// Name of an environment variable.
    #[schemars(title = "secret")]
    Env(String),
    /// A file whose whole text, without a line feed at its end, is the secret. Relative to this file.
    #[schemars(title = "secret")]
    File(String),
    /// Name of a secret in `[tenants.NAME.grants.secrets]`, for streams of that tenant.
    #[schemars(title = "secret")]
    Granted(String),
    /// Name of a secret in the tenant's policy: of streams that are made over HTTP, the only way.
    #[schemars(title = "secret")]
    Secret(String),
}
