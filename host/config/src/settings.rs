//! The checked settings: plain data in which every default and path is resolved.
//!
//! Sizes are bytes, times are [`Duration`]s, paths are absolute or relative to the working directory
//! (no longer to the file). It refuses to hold anything that was not checked: values of these types
//! come out of a [`Draft`] without problems, or are built by tests.

mod columns;
mod event_time;
mod firehose;
mod kinesis;
mod objects;
mod output;
mod parallel;
mod redshift;
mod requests;
mod tables;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::authority::{HttpReach, Policy};
use crate::draft::Draft;
use crate::problem::{Invalid, LoadError, Problem};
use crate::secret::Secret;
use crate::tree::{self, Aliases, Found};

pub use columns::{Parquet, SchemaSource};
pub use event_time::{EventTime, Late, TimeFormat, TimeSource, Unreadable};
pub use firehose::Firehose;
pub use kinesis::{KinesisPlace, KinesisSource, KinesisStart};
pub use objects::{CatalogTable, Directory, FileAt, FirehoseErrors, FirehoseNames, ObjectAt, ObjectName, S3};
pub use output::{Codec, Compression, Destination, Format, Output, Retry};
pub use parallel::Parallel;
pub use redshift::{CopyAuthorization, Redshift, TlsMode};
pub use requests::{Action, Endpoint, HttpPost, OpenSearch, Rotation, Splunk, SplunkEndpoint};
pub use tables::{Iceberg, RestCatalog};

/// The text of a configuration; not shown by `Debug`, because it is long.
#[derive(Clone)]
pub(crate) struct Text(pub(crate) Arc<str>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file it came from, as the user named it.
    pub file: PathBuf,
    /// What was written, for [`Settings::problem`].
    pub(crate) text: Text,
    pub(crate) aliases: Aliases,
    /// Where the journal, segments, caches and dead letters live.
    pub data_dir: PathBuf,
    /// The watched directory of `.wasm` files.
    pub plugin_dir: PathBuf,
    /// The watched directory of `.onnx` models.
    pub model_dir: PathBuf,
    /// Transform worker threads, at least 1.
    pub workers: usize,
    /// The HTTP listener.
    pub http: Http,
    /// The durable buffer.
    pub buffer: Buffer,
    /// Of [`DEFAULT_TENANT`]; `None`: signatures are not looked at.
    pub signing: Option<Signing>,
    /// Streams, in the order of their tenants and names.
    pub streams: Vec<Stream>,
    /// Tenants beside [`DEFAULT_TENANT`], in the order of their names.
    pub tenants: Vec<Tenant>,
    /// Instances of plugins that are kept for the next slice.
    pub warm_instances: u32,
    /// Bytes of their linear memory.
    pub warm_memory: u64,
    /// Of every tenant, where its own quota says nothing.
    pub quota: Quota,
    /// By tenant, of those that have one.
    pub quotas: BTreeMap<String, Quota>,
    /// Of [`DEFAULT_TENANT`].
    pub policy: Policy,
    /// Where plugins of tenants run that are not among these.
    pub isolation: Isolation,
    pub firehose: Firehose,
}

/// Where plugins run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// On the host's own worker threads.
    Thread,
    /// In a process of their tenant's own.
    Process,
}

/// The tenant of streams that name none.
pub const DEFAULT_TENANT: &str = "default";

/// What a tenant may use, as far as the configuration says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    pub records_per_second: Option<u64>,
    pub bytes_per_second: Option<u64>,
    pub requests: Option<u64>,
    pub body_bytes: Option<u64>,
    pub buffered_bytes: Option<u64>,
    /// Thousandths of processor cores.
    pub cpu_thousandths: Option<u32>,
    pub plugin_memory: Option<u64>,
    pub warm_memory: Option<u64>,
    pub plugins: Option<u64>,
    pub plugin_bytes: Option<u64>,
    pub streams: Option<u64>,
    pub dead_letter_bytes: Option<u64>,
    pub state_bytes: Option<u64>,
    pub compile_seconds: Option<u64>,
    pub deliveries: Option<u64>,
}

/// What a tenant has beside its streams.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub name: String,
    /// The watched directory of its `.wasm` files.
    pub plugin_dir: PathBuf,
    /// The watched directory of its `.onnx` models.
    pub model_dir: PathBuf,
    pub signing: Option<Signing>,
    pub policy: Policy,
    pub isolation: Isolation,
}

/// Who must have signed plugin files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    /// Whether one without a signature is refused.
    pub required: bool,
    /// Ed25519.
    pub keys: Vec<[u8; 32]>,
}

/// What a tenant lets plugins have: where its files lie, and the names of what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantPolicy {
    /// Nothing outside is opened.
    pub root: PathBuf,
    pub files: Vec<String>,
    pub secrets: Vec<String>,
    /// Hosts, as they are written.
    pub http: Vec<String>,
}

impl Settings {
    /// Who must have signed the plugins of a tenant.
    pub fn signing_of(&self, tenant: &str) -> Option<&Signing> {
        if tenant == DEFAULT_TENANT {
            return self.signing.as_ref();
        }
        self.tenants.iter().find(|known| known.name == tenant)?.signing.as_ref()
    }

    /// Where the plugins of a tenant run.
    pub fn isolation_of(&self, tenant: &str) -> Isolation {
        let found = self.tenants.iter().find(|known| known.name == tenant);
        found.map_or(self.isolation, |tenant| tenant.isolation)
    }

    /// The watched plugin directory of a tenant, if this configuration knows it.
    pub fn plugin_dir_of(&self, tenant: &str) -> Option<&Path> {
        if tenant == DEFAULT_TENANT {
            return Some(&self.plugin_dir);
        }
        let found = self.tenants.iter().find(|known| known.name == tenant);
        found.map(|tenant| tenant.plugin_dir.as_path())
    }

    /// The watched directory of a tenant's models, if this configuration knows it.
    pub fn model_dir_of(&self, tenant: &str) -> Option<&Path> {
        if tenant == DEFAULT_TENANT {
            return Some(&self.model_dir);
        }
        let found = self.tenants.iter().find(|known| known.name == tenant);
        found.map(|tenant| tenant.model_dir.as_path())
    }

    /// What was written.
    pub fn text(&self) -> &str {
        &self.text.0
    }

    /// Reads, parses and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, or every problem in it.
    pub fn load(file: &Path) -> Result<Settings, LoadError> {
        Ok(Draft::load(file)?.finish()?)
    }

    /// Parses and checks `text`. `file` names it in problems, and its directory is what relative
    /// paths are resolved against.
    ///
    /// # Errors
    /// Every problem in it.
    pub fn from_toml(text: &str, file: &Path) -> Result<Settings, Invalid> {
        Settings::from_toml_with(text, file, &|name| std::env::var(name).ok())
    }

    /// As [`Settings::from_toml`], with an environment other than the process's.
    ///
    /// # Errors
    /// Every problem in it.
    pub fn from_toml_with(
        text: &str,
        file: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Settings, Invalid> {
        Draft::parse(text, file, environment)?.finish()
    }

    /// A problem at a key of this configuration, for checks that happen later (a missing plugin, an
    /// object template): `settings.problem(&format!("{}.plugin", transform.key), "...")`.
    /// A key that is not in the text is located at its nearest table.
    pub fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        let place = tree::parse(&self.text.0).map_or(0, |root| tree::locate(&root, key, &self.aliases));
        at(&self.file, &self.text.0, Found { at: place, message: message.into() })
    }
}

pub(crate) fn at(file: &Path, text: &str, found: Found) -> Problem {
    let (line, column) = tree::line_and_column(text, found.at);
    Problem { file: file.to_owned(), line, column, message: found.message }
}

/// The HTTP listener: push, metrics, health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `None`: `listen = "off"`.
    pub listen: Option<SocketAddr>,
    /// Bytes of one request body, before and after decompression.
    pub max_body: u64,
    /// Bytes of one record.
    pub max_record: u64,
    /// Records of one request.
    pub max_records: u32,
    /// Connections at a time.
    pub max_connections: u32,
    /// For the headers, and between two pieces of a body.
    pub read_timeout: Duration,
    /// Whether plugin files are taken.
    pub plugin_uploads: bool,
    pub auth: Auth,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
}

/// TLS on the HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
    pub clients: Vec<TlsClient>,
}

/// Whose a client's certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsClient {
    /// Either this or the name.
    pub uri: Option<String>,
    pub name: Option<String>,
    /// A valid name.
    pub tenant: String,
    /// As they are written; never empty.
    pub scopes: Vec<&'static str>,
}

/// Who may use the HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Auth {
    /// Whether requests need a key.
    pub keys: bool,
    /// Whether metrics need none all the same.
    pub metrics_open: bool,
    /// Tokens that are taken too.
    pub jwt: Option<Jwt>,
}

/// Bearer tokens of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    pub jwks: Jwks,
    pub issuer: String,
    pub audience: String,
    pub tenant_claim: String,
    pub scope_claim: String,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwks {
    File(PathBuf),
    Url(String),
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The records survive a power cut.
    Fsync,
    /// The records survive the process, not the machine.
    Os,
}

/// The durable buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub durability: Durability,
    /// Bytes per stream.
    pub max_bytes: u64,
    /// Bytes of one journal file.
    pub journal_file: u64,
}

/// How a stream's dead letters are kept, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// Bytes at which the stream pauses.
    pub max_bytes: u64,
    /// Age at which a letter is removed; `None`: never.
    pub max_age: Option<Duration>,
    pub output: Option<LettersOutput>,
}

/// A destination of a stream's dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LettersOutput {
    /// Retries for ever; never partitioned.
    pub output: Output,
    /// Letters that have been delivered are removed.
    pub remove: bool,
    /// Has an effect where objects have Firehose's names.
    pub firehose: FirehoseErrors,
}

impl LettersOutput {
    /// Its name wherever outputs have one.
    pub const NAME: &str = "dead-letters";
}

/// sources -> buffer -> transforms -> outputs, under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub tenant: String,
    pub name: String,
    /// Where it stands in the text, for [`Settings::problem`].
    pub key: String,
    /// Never empty: one without a name, or those that have one, in the order of their names.
    pub sources: Vec<StreamSource>,
    /// Index into `outputs`: where objects go that their own output gave up.
    pub fallback: Option<usize>,
    /// Index into `outputs`, the last one: where every record goes as it came in. Plugins cannot route to it.
    pub backup: Option<usize>,
    /// Of records, past which a plugin version is a bad one; 100 = never.
    pub max_failed_percent: u32,
    /// How dead letters are kept.
    pub dead_letters: DeadLetters,
    /// What is kept of delivered records; `None`: nothing.
    pub retention: Option<Retention>,
    /// How clients are answered that wait for what becomes of a record; `None`: not at all.
    pub decide: Option<Decide>,
    /// Where records have their time; `None`: the host does not look.
    pub event_time: Option<EventTime>,
    /// How its keys run in strands; `None`: all in one.
    pub parallel: Option<Parallel>,
    pub transforms: Vec<Transform>,
    /// Never empty; the first is the default.
    pub outputs: Vec<Output>,
}

impl Stream {
    /// Outputs that plugins route to.
    pub fn routes(&self) -> impl Iterator<Item = &Output> {
        self.outputs.iter().take(self.backup.unwrap_or(self.outputs.len()))
    }
}

/// How long delivered records are kept; whichever bound is reached first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub age: Duration,
    /// Bytes on disk.
    pub size: u64,
}

/// What an answer rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecideAnswer {
    /// The outcome is durable.
    #[default]
    Durable,
    /// The record is durable.
    Computed,
    /// Nothing is durable yet.
    Early,
}

/// How clients are answered that wait for what becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decide {
    /// Longest wait.
    pub deadline: Duration,
    /// What an answer rests on.
    pub answer: DecideAnswer,
    /// The answer past the deadline.
    pub fallback: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Decide {
    /// Answers wait for the outcome to be durable.
    pub fn durable(&self) -> bool {
        self.answer == DecideAnswer::Durable
    }

    /// Records run before they are durable: answers wait for nothing, or for the outcome, which is durable no sooner than they are.
    pub fn reads_early(&self) -> bool {
        self.answer != DecideAnswer::Computed
    }
}

/// One of the sources of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSource {
    /// Of one of several, unique in the stream; `None`: the stream has this one alone.
    pub name: Option<String>,
    /// Where it stands in the text, for [`Settings::problem`].
    pub key: String,
    pub source: Source,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Pushed to `/v1/streams/{name}/records`.
    Http,
    File(FileSource),
    Stdin {
        max_record: u64,
    },
    Tcp(TcpSource),
    Kinesis(KinesisSource),
}

impl Source {
    /// Its type, as it is written.
    pub fn kind(&self) -> &'static str {
        match self {
            Source::Http => "http",
            Source::File(_) => "file",
            Source::Stdin { .. } => "stdin",
            Source::Tcp(_) => "tcp",
            Source::Kinesis(_) => "kinesis",
        }
    }
}

/// Where to begin in files that are there at the first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Start,
    End,
}

/// Whether records of a source that can be read again are copied into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceBuffer {
    /// Only if the source cannot be read again.
    Auto,
    /// Always.
    Forced,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSource {
    /// Glob patterns, resolved.
    pub paths: Vec<String>,
    /// Keep reading what is appended, created and rotated; else read once.
    pub follow: bool,
    pub from: Start,
    pub buffer: SourceBuffer,
    /// Bytes of one line.
    pub max_record: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSource {
    pub listen: SocketAddr,
    /// Bytes of one line.
    pub max_record: u64,
    pub max_connections: u32,
}

/// A plugin by name and, when pinned, by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRef {
    pub name: String,
    /// `sha256:<64 lower-case hex digits>`.
    pub digest: Option<String>,
}

/// A plugin's place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    /// Unique in the stream.
    pub name: String,
    /// Where it stands in the text, for [`Settings::problem`].
    pub key: String,
    pub plugin: PluginRef,
    /// JSON text for the plugin's `configure`; `{}` if nothing was written.
    pub config: String,
    /// Granted files by name.
    pub files: BTreeMap<String, FileAt>,
    /// Granted secrets by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Where its plugin may send requests; `None`: nowhere.
    pub http: Option<PluginHttp>,
    /// Files of models, by the names under which the plugin loads them.
    pub models: BTreeMap<String, PathBuf>,
    /// Paths of the fields that say in which key group of its state a record is, outermost keys first.
    pub state_key: Vec<Vec<String>>,
    /// Why its plugin may keep no state; `None`: it may.
    pub state_denied: Option<String>,
    /// What the tenant could grant; `None`: the operator's own stream, which says itself.
    pub policy: Option<GrantPolicy>,
    pub limits: Limits,
}

/// What one instance of a plugin may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory.
    pub memory: u64,
    /// CPU time of one call.
    pub deadline: Duration,
    /// CPU time of `configure`.
    pub configure_deadline: Duration,
    /// Bytes that one call may hand over.
    pub output: u64,
    /// Bytes of log text per call.
    pub log: u64,
    /// Time that one call may wait for answers.
    pub http_deadline: Duration,
}

/// Where a plugin may send requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginHttp {
    /// As they are written; never empty.
    pub hosts: Vec<String>,
    /// The same.
    pub reach: HttpReach,
    /// Addresses beside public ones that a name may stand for.
    pub networks: Vec<(std::net::IpAddr, u8, Option<u16>)>,
    pub headers: Vec<HostHeaders>,
}

/// Headers that every request to some hosts gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostHeaders {
    pub reach: HttpReach,
    pub headers: Vec<(String, Secret)>,
}
