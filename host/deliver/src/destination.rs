//! The one match over destinations.
//!
//! A newcomer adds a destination as a file of its own and a variant here; the compiler shows the rest.
//! It holds no rules of any one destination.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinError;

use crate::batch_id::BatchOwner;
use crate::directory::{Directory, DirectoryConfig};
use crate::endpoint::{Endpoint, EndpointConfig};
use crate::fault::{DeliverError, Fault, Retry};
use crate::http::{Http, HttpConfig};
use crate::iceberg::{Iceberg, IcebergConfig};
use crate::object::{Delivered, Object, ObjectMeta};
use crate::opensearch::{OpenSearch, OpenSearchConfig};
use crate::records::{RefusedRow, Rest};
use crate::redshift::{Redshift, RedshiftConfig};
use crate::s3::{S3, S3Config};
use crate::sent::Sent;
use crate::splunk::{Splunk, SplunkConfig};
use crate::stdout::Stdout;

/// Checked settings of one destination.
#[derive(Clone, Debug)]
pub enum Config {
    Directory(DirectoryConfig),
    S3(S3Config),
    Http(HttpConfig),
    /// As Amazon Data Firehose delivers.
    Endpoint(EndpointConfig),
    Splunk(SplunkConfig),
    OpenSearch(OpenSearchConfig),
    Redshift(Box<RedshiftConfig>),
    Iceberg(Box<IcebergConfig>),
    Stdout,
}

/// What can never work in the settings of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub at: Setting,
    pub message: String,
}

/// One of the settings of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    Url,
    Endpoint,
    SourceArn,
    AccessKey,
    CommonAttributes,
    Token,
    Ca,
    Host,
    Table,
    Columns,
    BatchesTable,
    /// Under the name that the settings give it.
    Header(String),
}

impl Config {
    /// Everything for which `Destination::open` would refuse these settings. Touches nothing.
    pub fn wrong(&self) -> Vec<Wrong> {
        match self {
            Config::Http(config) => config.wrong_of_objects(),
            Config::Endpoint(config) => config.wrong(),
            Config::Splunk(config) => config.wrong(),
            Config::OpenSearch(config) => config.wrong(),
            Config::Redshift(config) => config.wrong(),
            Config::S3(config) => config.wrong(),
            Config::Iceberg(config) => config.wrong(),
            Config::Directory(_) | Config::Stdout => Vec::new(),
        }
    }
}

/// A URL that requests can go to, or what is wrong with it; the URL itself may hold secrets and is not told.
pub(crate) fn checked_url(text: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text).map_err(|error| format!("the URL is not valid: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the URL's scheme is {} instead of http or https", url.scheme()));
    }
    Ok(url)
}

/// Settings that are refused, and everything for which they are.
pub(crate) fn refused(wrong: &[Wrong]) -> DeliverError {
    let messages: Vec<&str> = wrong.iter().map(|wrong| wrong.message.as_str()).collect();
    DeliverError::new(Fault::Client, Retry::Never, messages.join("; "), "")
}

/// An open destination. Shared by everything that delivers to one output.
#[derive(Debug)]
pub enum Destination {
    Directory(Directory),
    S3(S3),
    Http(Http),
    Endpoint(Endpoint),
    Splunk(Splunk),
    OpenSearch(OpenSearch),
    Redshift(Box<Redshift>),
    Iceberg(Box<Iceberg>),
    Stdout(Stdout),
    /// A test's own.
    #[cfg(feature = "testing")]
    Scripted(Arc<dyn Scripted>),
}

/// A destination that a test plays.
#[cfg(feature = "testing")]
pub trait Scripted: std::fmt::Debug + Send + Sync {
    /// Takes one object; a success is durable.
    fn deliver<'a>(
        &'a self,
        object: &'a Object<'a>,
    ) -> futures::future::BoxFuture<'a, Result<Delivered, DeliverError>>;
}

/// What a probe found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether the destination itself refuses to replace an existing object. Where it does not,
    /// each delivery looks first, and a second writer of the same name could slip in between.
    pub conditional_create: bool,
    /// The same for objects that are sent in parts.
    pub conditional_multipart: bool,
    /// What the operator should know, one sentence each.
    pub warnings: Vec<String>,
}

impl Destination {
    /// Opens the destination; makes the root of a directory, touches no network.
    pub async fn open(config: &Config) -> Result<Destination, DeliverError> {
        Ok(match config {
            Config::Directory(config) => Destination::Directory(Directory::open(config).await?),
            Config::S3(config) => Destination::S3(S3::open(config).await?),
            Config::Http(config) => Destination::Http(Http::open(config)?),
            Config::Endpoint(config) => Destination::Endpoint(Endpoint::open(config)?),
            Config::Splunk(config) => Destination::Splunk(Splunk::open(config)?),
            Config::OpenSearch(config) => Destination::OpenSearch(OpenSearch::open(config)?),
            Config::Redshift(config) => Destination::Redshift(Box::new(Redshift::open(config).await?)),
            Config::Iceberg(config) => Destination::Iceberg(Box::new(Iceberg::open(config).await?)),
            Config::Stdout => Destination::Stdout(Stdout::open()),
        })
    }

    /// Where bodies must be written and synced before they are delivered: inside the root of a
    /// directory destination (the same file system). The others take them from anywhere.
    pub fn staging(&self) -> Option<PathBuf> {
        match self {
            Destination::Directory(directory) => Some(directory.staging()),
            Destination::S3(_)
            | Destination::Http(_)
            | Destination::Endpoint(_)
            | Destination::Splunk(_)
            | Destination::OpenSearch(_)
            | Destination::Redshift(_)
            | Destination::Iceberg(_)
            | Destination::Stdout(_) => None,
            #[cfg(feature = "testing")]
            Destination::Scripted(_) => None,
        }
    }

    /// Runs what touches files that are on their way there off the runtime's threads: of a directory, which may hang, within
    /// what its tenant may have of them.
    ///
    /// # Errors
    /// The work panicked.
    pub async fn off_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match self {
            Destination::Directory(directory) => directory.threads().run(work).await,
            Destination::S3(_)
            | Destination::Http(_)
            | Destination::Endpoint(_)
            | Destination::Splunk(_)
            | Destination::OpenSearch(_)
            | Destination::Redshift(_)
            | Destination::Iceberg(_)
            | Destination::Stdout(_) => tokio::task::spawn_blocking(work).await,
            #[cfg(feature = "testing")]
            Destination::Scripted(_) => tokio::task::spawn_blocking(work).await,
        }
    }

    /// Makes the place for bodies anew if it has gone and the destination is there again: `true` if it did. Blocks.
    ///
    /// # Errors
    /// The destination is not there, or it cannot be told that it is the one that was opened.
    pub fn restage(&self) -> Result<bool, DeliverError> {
        match self {
            Destination::Directory(directory) => directory.restage(),
            Destination::S3(_)
            | Destination::Http(_)
            | Destination::Endpoint(_)
            | Destination::Splunk(_)
            | Destination::OpenSearch(_)
            | Destination::Redshift(_)
            | Destination::Iceberg(_)
            | Destination::Stdout(_) => Ok(false),
            #[cfg(feature = "testing")]
            Destination::Scripted(_) => Ok(false),
        }
    }

    /// Asks the destination of `owner` whether it is there and what it can do.
    pub async fn probe(&self, owner: &BatchOwner) -> Result<Capabilities, DeliverError> {
        match self {
            Destination::Directory(directory) => directory.probe().await,
            Destination::S3(s3) => s3.probe(owner).await,
            Destination::Redshift(redshift) => redshift.probe(owner).await,
            Destination::Iceberg(table) => table.probe().await,
            Destination::Http(_)
            | Destination::Endpoint(_)
            | Destination::Splunk(_)
            | Destination::OpenSearch(_)
            | Destination::Stdout(_) => Ok(Capabilities::default()),
            #[cfg(feature = "testing")]
            Destination::Scripted(_) => Ok(Capabilities::default()),
        }
    }

    /// Sends one object, once. Its success is durable at the destination.
    pub async fn deliver(&self, object: &Object<'_>) -> Result<Delivered, DeliverError> {
        match self {
            Destination::Directory(directory) => directory.deliver(object).await,
            Destination::S3(s3) => s3.deliver(object).await,
            Destination::Http(http) => http.deliver(object).await,
            Destination::Endpoint(endpoint) => endpoint.deliver(object).await,
            Destination::Splunk(splunk) => splunk.deliver(object).await,
            Destination::OpenSearch(cluster) => cluster.deliver(object).await,
            Destination::Redshift(redshift) => redshift.deliver(object).await,
            Destination::Iceberg(table) => table.deliver(object).await,
            Destination::Stdout(stdout) => stdout.deliver(object).await,
            #[cfg(feature = "testing")]
            Destination::Scripted(scripted) => scripted.deliver(object).await,
        }
    }

    /// Rows of a batch that the destination will never take, since it was asked last: to be asked after each attempt.
    pub fn refused(&self, meta: &ObjectMeta) -> Vec<RefusedRow> {
        match self {
            Destination::OpenSearch(cluster) => cluster.refused(meta),
            _ => Vec::new(),
        }
    }

    /// What is left of a batch that is given up. Another attempt begins anew.
    pub async fn give_up(&self, object: &Object<'_>, error: &DeliverError) -> Rest {
        match self {
            Destination::Endpoint(endpoint) => endpoint.give_up(object.meta),
            Destination::Splunk(splunk) => splunk.give_up(object.meta),
            Destination::OpenSearch(cluster) => cluster.give_up(object, &error.message).await,
            Destination::Redshift(redshift) => {
                redshift.give_up(object).await;
                Rest::default()
            }
            _ => Rest::default(),
        }
    }

    /// Id (if it has one of ours) and index of a row's document, where rows are documents; its record came at `arrival`.
    pub fn document(&self, meta: &ObjectMeta, row: u64, arrival: i64) -> Option<(Option<String>, String)> {
        match self {
            Destination::OpenSearch(cluster) => Some(cluster.document(meta, row, arrival)),
            _ => None,
        }
    }

    /// The bucket that objects go to, if there is one.
    pub fn bucket(&self) -> Option<&S3> {
        match self {
            Destination::S3(s3) => Some(s3),
            Destination::Redshift(redshift) => Some(redshift.bucket()),
            _ => None,
        }
    }

    /// What was sent since it was opened, where that is not told by objects alone.
    pub fn sent(&self) -> Option<&Arc<Sent>> {
        match self {
            Destination::Endpoint(endpoint) => Some(endpoint.sent()),
            Destination::Splunk(splunk) => Some(splunk.sent()),
            Destination::OpenSearch(cluster) => Some(cluster.sent()),
            Destination::Redshift(redshift) => Some(redshift.sent()),
            _ => None,
        }
    }

    /// Whether it takes records one by one, out of objects of framed rows.
    pub fn takes_records(&self) -> bool {
        matches!(self, Destination::Endpoint(_) | Destination::Splunk(_) | Destination::OpenSearch(_))
    }

    /// Sends several objects on the calling thread, one result each, in order; `None` where the
    /// destination needs the runtime (S3, and whatever speaks HTTP). Objects that go into one directory share its sync.
    pub fn deliver_blocking(&self, objects: &[Object<'_>]) -> Option<Vec<Result<Delivered, DeliverError>>> {
        match self {
            Destination::Directory(directory) => Some(directory.deliver_blocking(objects)),
            Destination::Stdout(stdout) => {
                Some(objects.iter().map(|object| stdout.deliver_blocking(object)).collect())
            }
            Destination::S3(_)
            | Destination::Http(_)
            | Destination::Endpoint(_)
            | Destination::Splunk(_)
            | Destination::OpenSearch(_)
            | Destination::Redshift(_)
            | Destination::Iceberg(_) => None,
            #[cfg(feature = "testing")]
            Destination::Scripted(_) => None,
        }
    }

    /// Whether objects must be sent one after another, in the order of their offsets.
    pub fn ordered(&self) -> bool {
        match self {
            // Of a table, each commit looks at what the one before it left.
            Destination::Stdout(_) | Destination::Http(_) | Destination::Iceberg(_) => true,
            Destination::Directory(_)
            | Destination::S3(_)
            | Destination::Endpoint(_)
            | Destination::Splunk(_)
            | Destination::OpenSearch(_)
            | Destination::Redshift(_) => false,
            #[cfg(feature = "testing")]
            Destination::Scripted(_) => false,
        }
    }

    /// Whether a delivered body is moved away (directory), or stays for the caller to remove.
    pub fn consumes_body(&self) -> bool {
        matches!(self, Destination::Directory(_))
    }
}

/// The staged body is gone although its delivery was not recorded.
pub(crate) fn body_error(body: &Path, error: &io::Error) -> DeliverError {
    let (retry, message) = if error.kind() == io::ErrorKind::NotFound {
        (Retry::Never, "the staged body is missing")
    } else {
        (Retry::Later { after: None }, "the staged body cannot be read")
    };
    DeliverError::new(Fault::Host, retry, message, format!("{}: {error}", body.display()))
}
