//! Outputs: how objects are made, and where they go.

use std::time::Duration;

use super::{Directory, Endpoint, HttpPost, Iceberg, OpenSearch, Parquet, Redshift, S3, Splunk};
use crate::secret::masked_url;
use crate::tree;

/// One destination of a stream with its batching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Unique in the stream; what `route` names.
    pub name: String,
    /// Where it stands in the text, for [`crate::Settings::problem`].
    pub key: String,
    pub destination: Destination,
    pub format: Format,
    /// Where the format is [`Format::Parquet`], of whose pages `compression` is then.
    pub parquet: Option<Parquet>,
    pub compression: Compression,
    /// Raw bytes that seal a batch.
    pub size: u64,
    /// Age that seals a batch; zero delivers at once.
    pub interval: Duration,
    /// Open partitions at a time; more go to the overflow partition.
    pub max_partitions: u32,
    pub retry: Retry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Records one after another.
    Verbatim,
    /// Records one after another, each followed by a line feed.
    Raw,
    Ndjson,
    JsonArray,
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Zstd,
    Snappy,
    SnappyJava,
    HadoopSnappy,
    Zip,
}

/// How an object is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    pub codec: Codec,
    /// In the codec's own range; 0 for codecs without levels.
    pub level: i32,
}

/// How long and how often a delivery is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub initial: Duration,
    pub max: Duration,
    /// After this long a batch is given up.
    pub give_up_after: Duration,
    /// A batch that is given up stops its output instead of becoming a dead letter.
    pub pause: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Directory(Directory),
    S3(S3),
    Http(HttpPost),
    /// HTTP in the protocol of Firehose.
    Endpoint(Endpoint),
    Splunk(Splunk),
    OpenSearch(OpenSearch),
    /// Objects in S3 that are loaded into a table.
    Redshift(Box<Redshift>),
    Iceberg(Box<Iceberg>),
    Stdout,
}

impl Destination {
    /// As the configuration names its type.
    pub fn kind(&self) -> &'static str {
        match self {
            Destination::Directory(_) => "directory",
            Destination::S3(_) => "s3",
            Destination::Http(_) | Destination::Endpoint(_) => "http",
            Destination::Splunk(_) => "splunk",
            Destination::OpenSearch(_) => "opensearch",
            Destination::Redshift(_) => "redshift",
            Destination::Iceberg(_) => "iceberg",
            Destination::Stdout => "stdout",
        }
    }

    /// Where it is, for people, with nothing that may be secret. The only way in which a destination is shown.
    pub fn shown(&self) -> String {
        match self {
            Destination::Directory(directory) => directory.path.display().to_string(),
            Destination::S3(s3) => format!("{}/{}", s3.bucket, s3.prefix),
            Destination::OpenSearch(cluster) => {
                format!("{} {}", masked_url(&cluster.post.url), cluster.index)
            }
            Destination::Iceberg(table) => {
                let place = masked_url(&table.catalog.post.url);
                format!("{place} {}.{}", table.namespace.join("."), table.table)
            }
            Destination::Http(post)
            | Destination::Endpoint(Endpoint { post, .. })
            | Destination::Splunk(Splunk { post, .. }) => masked_url(&post.url),
            Destination::Redshift(redshift) => {
                let Redshift { host, port, database, table, .. } = &**redshift;
                format!("{host}:{port}/{database} {table}")
            }
            Destination::Stdout => String::new(),
        }
    }

    /// Whether it takes records one by one: what another output gives up is nothing for it, nor the other way round.
    pub fn takes_records(&self) -> bool {
        matches!(self, Destination::Endpoint(_) | Destination::Splunk(_) | Destination::OpenSearch(_))
    }
}

impl Output {
    /// Name of the output of records as they came in.
    pub const BACKUP: &str = "backup";

    /// Where a header of an HTTP destination stands, for [`crate::Settings::problem`].
    pub fn header_key(&self, name: &str) -> String {
        format!("{}.headers.{}", self.key, tree::segment(name))
    }
}
