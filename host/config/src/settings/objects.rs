//! Places of objects, and their names there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub path: PathBuf,
    pub object: ObjectName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    pub bucket: String,
    /// Prepended to `object`; empty or ending in `/`.
    pub prefix: String,
    pub object: ObjectName,
    /// `None`: AWS itself.
    pub endpoint: Option<String>,
    /// `None`: from the environment.
    pub region: Option<String>,
    pub path_style: bool,
    /// Encoded bytes from which an object is uploaded in parts.
    pub multipart_threshold: u64,
}

/// Where a file is that a plugin reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAt {
    Path(PathBuf),
    Object(ObjectAt),
}

/// An object that is read again and again.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectAt {
    pub bucket: String,
    pub key: String,
    /// `None`: AWS itself.
    pub endpoint: Option<String>,
    /// `None`: from the environment.
    pub region: Option<String>,
    pub path_style: bool,
    pub every: Duration,
}

impl ObjectAt {
    /// One of AWS, with what holds unless something else is written.
    pub(crate) fn of(bucket: &str, key: &str) -> ObjectAt {
        ObjectAt {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            endpoint: None,
            region: None,
            path_style: false,
            every: Duration::from_secs(60),
        }
    }
}

impl std::fmt::Debug for ObjectAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectAt(s3://{}/{})", self.bucket, self.key)
    }
}

/// How objects are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectName {
    /// A template with placeholders.
    Template(String),
    /// As Amazon Data Firehose does it.
    Firehose(FirehoseNames),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirehoseNames {
    /// Text and expressions.
    pub prefix: String,
    /// Of the IANA database; `None`: UTC.
    pub time_zone: Option<String>,
    /// `None`: that of the compression.
    pub extension: Option<String>,
    pub version: u64,
}

/// What lines of records that failed say in Firehose's manner, beside what a dead letter knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirehoseErrors {
    /// ARNs of the functions that transforms stand for, by the name of the transform.
    pub functions: BTreeMap<String, String>,
    /// Whose columns records are converted into.
    pub table: Option<CatalogTable>,
}

/// A table as AWS Glue knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogTable {
    pub catalog: Option<String>,
    pub database: String,
    pub table: String,
    pub region: Option<String>,
    pub version: String,
}
