//! How the objects of a stream are named, out of its definition.

use jiff::tz::TimeZone;

use super::Destination;
use crate::prefix::{self, Compression, Layout, Partitioning};
use crate::wire::{ExtendedS3, Refusal, S3};

/// Names of everything that a stream writes into buckets.
#[derive(Clone, Debug)]
pub struct Naming {
    /// The zone of [`Context`](crate::prefix::Context).
    pub zone: TimeZone,
    /// Of delivered records, and of those that failed; where there is a bucket beside the destination, of that.
    pub objects: Layout,
    /// Of source records, where a bucket keeps them.
    pub backup: Option<Layout>,
}

impl Destination {
    /// # Errors
    /// `InvalidArgumentException`: prefixes or zone are not good, which no definition has that was made by this crate.
    pub fn naming(&self) -> Result<Naming, Refusal> {
        match self {
            Destination::S3(s3) => Ok(Naming { zone: TimeZone::UTC, objects: plain(s3)?, backup: None }),
            Destination::ExtendedS3(extended) => {
                let zone = prefix::time_zone(extended.custom_time_zone.as_deref())?;
                let has_backup = extended.backup_mode.as_deref() == Some("Enabled");
                let backup = extended.backup.as_ref().filter(|_| has_backup).map(plain).transpose()?;
                Ok(Naming { zone, objects: whole(extended)?, backup })
            }
            Destination::HttpEndpoint(http) => beside(http.s3.as_ref()),
            Destination::Splunk(splunk) => beside(splunk.s3.as_ref()),
            Destination::OpenSearch(cluster) | Destination::Elasticsearch(cluster) => {
                beside(cluster.s3.as_ref())
            }
            Destination::Redshift(redshift) => {
                let has_backup = redshift.backup_mode.as_deref() == Some("Enabled");
                let backup = redshift.backup.as_ref().filter(|_| has_backup).map(plain).transpose()?;
                Ok(Naming { backup, ..beside(redshift.s3.as_ref())? })
            }
        }
    }
}

fn beside(s3: Option<&S3>) -> Result<Naming, Refusal> {
    let objects = plain(s3.unwrap_or(&S3::default()))?;
    Ok(Naming { zone: TimeZone::UTC, objects, backup: None })
}

fn plain(s3: &S3) -> Result<Layout, Refusal> {
    let (prefix, error_prefix) = (s3.prefix.as_deref(), s3.error_output_prefix.as_deref());
    let (prefix, errors) = prefix::check(prefix, error_prefix, Partitioning::default())?;
    Ok(Layout::new(prefix, errors, compression(s3.compression_format.as_deref()), None))
}

fn whole(extended: &ExtendedS3) -> Result<Layout, Refusal> {
    let (prefix, error_prefix) = (extended.prefix.as_deref(), extended.error_output_prefix.as_deref());
    let (prefix, errors) = prefix::check(prefix, error_prefix, Partitioning::of(extended))?;
    let conversion = extended.conversion.as_ref().filter(|conversion| conversion.is_enabled());
    let serializer = conversion.and_then(|conversion| conversion.output.as_ref()?.serializer.as_ref());
    let compression = match serializer {
        Some(serializer) if serializer.orc.is_some() => Compression::Orc,
        Some(_) => Compression::Parquet,
        None => compression(extended.compression_format.as_deref()),
    };
    Ok(Layout::new(prefix, errors, compression, extended.file_extension.as_deref()))
}

fn compression(format: Option<&str>) -> Compression {
    format.and_then(Compression::of).unwrap_or(Compression::None)
}
