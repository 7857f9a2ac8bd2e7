//! Updates: what of a destination stays, and what is replaced.

use super::{DESTINATION_ID, Definition, Destination};
use crate::validate;
use crate::wire::{
    ExtendedS3, HttpEndpoint, Kind, OpenSearch, Overlay, Redshift, Refusal, S3, Splunk, UpdateDestination,
};

impl Definition {
    /// The definition in its next version; this one stays as it is. `now` in milliseconds since the Unix epoch.
    ///
    /// The same type of destination is merged: members that are given replace those that are stored, except that
    /// `DataFormatConversionConfiguration` and the bucket beside the destination are merged in turn, member by member.
    /// Another type replaces everything.
    ///
    /// # Errors
    /// `ConcurrentModificationException`: it is in another version. `ValidationException` and `InvalidArgumentException`:
    /// the request, or what would come of it.
    pub fn update(&self, request: UpdateDestination, now: u64) -> Result<Definition, Refusal> {
        validate::update(&request)?;
        if request.version.as_deref() != Some(self.version_id().as_str()) {
            let message = format!(
                "Cannot update firehose: {} since the current version id: {} and specified version id: {} do not match",
                self.name,
                self.version,
                request.version.as_deref().unwrap_or_default()
            );
            return Err(Refusal::new(Kind::ConcurrentModification, message));
        }
        if request.destination.as_deref() != Some(DESTINATION_ID) {
            return Err(Refusal::invalid(format!(
                "the stream has no other destination than {DESTINATION_ID}"
            )));
        }
        let UpdateDestination {
            s3,
            extended_s3,
            http_endpoint,
            splunk,
            opensearch,
            elasticsearch,
            redshift,
            ..
        } = request;
        let of_cluster = (opensearch.is_some(), elasticsearch.is_some());
        let is_cluster = match self.destination {
            Destination::OpenSearch(_) => (true, false),
            Destination::Elasticsearch(_) => (false, true),
            _ => (false, false),
        };
        if is_cluster != of_cluster {
            return Err(Refusal::invalid(
                "a destination of OpenSearch cannot be changed to another one, nor another one to it; nor can one of \
                 Elasticsearch",
            ));
        }
        let cluster = opensearch.or(elasticsearch);
        let mut destination = match (s3, extended_s3, http_endpoint, splunk, cluster, redshift) {
            (Some(s3), ..) => self.destination.with_s3(s3)?,
            (_, Some(extended), ..) => self.destination.with_extended_s3(extended)?,
            (_, _, Some(http), ..) => self.destination.with_http_endpoint(http)?,
            (_, _, _, Some(splunk), ..) => self.destination.with_splunk(splunk)?,
            (.., Some(cluster), _) => self.destination.with_cluster(cluster)?,
            (.., Some(redshift)) => self.destination.with_redshift(redshift)?,
            // `validate` lets nothing else through.
            _ => {
                return Err(Refusal::invalid(
                    "Exactly one destination configuration is supported for a Firehose",
                ));
            }
        };
        destination.settle()?;
        Ok(Definition { version: self.version + 1, updated_at: Some(now), destination, ..self.clone() })
    }
}

impl Destination {
    fn with_s3(&self, update: S3) -> Result<Destination, Refusal> {
        match self {
            Destination::S3(stored) => Ok(Destination::S3(Box::new(merged_s3((**stored).clone(), update)))),
            Destination::ExtendedS3(stored) => {
                let mut merged = stored.clone();
                merged.overlay(ExtendedS3::from(merged_s3(stored.plain(), update)));
                Ok(Destination::ExtendedS3(merged))
            }
            Destination::HttpEndpoint(_)
            | Destination::Splunk(_)
            | Destination::OpenSearch(_)
            | Destination::Elasticsearch(_)
            | Destination::Redshift(_) => {
                whole(update.role_arn.is_some() && update.bucket_arn.is_some(), "RoleARN and BucketARN")?;
                Ok(Destination::S3(Box::new(update)))
            }
        }
    }

    fn with_extended_s3(&self, mut update: ExtendedS3) -> Result<Destination, Refusal> {
        // A member of configurations, which an update does not know.
        update.backup = update.backup_update.take();
        let stored = match self {
            Destination::S3(stored) => ExtendedS3::from((**stored).clone()),
            Destination::ExtendedS3(stored) => (**stored).clone(),
            Destination::HttpEndpoint(_)
            | Destination::Splunk(_)
            | Destination::OpenSearch(_)
            | Destination::Elasticsearch(_)
            | Destination::Redshift(_) => {
                whole(update.role_arn.is_some() && update.bucket_arn.is_some(), "RoleARN and BucketARN")?;
                if update.is_partitioned() {
                    return Err(partitioning_is_fixed());
                }
                if let Some(backup) = &update.backup {
                    whole_backup(backup)?;
                }
                return Ok(Destination::ExtendedS3(Box::new(update)));
            }
        };
        if stored.backup_mode.as_deref() == Some("Enabled")
            && update.backup_mode.as_deref() == Some("Disabled")
        {
            return Err(Refusal::invalid("S3BackupMode cannot be changed to Disabled once it is Enabled"));
        }
        let is_given =
            update.partitioning.as_ref().is_some_and(|partitioning| partitioning.enabled.is_some());
        if is_given && update.is_partitioned() != stored.is_partitioned() {
            return Err(partitioning_is_fixed());
        }
        let mut merged = stored.clone();
        let (backup, conversion, partitioning) =
            (update.backup.take(), update.conversion.take(), update.partitioning.take());
        merged.overlay(update);
        if let Some(backup) = backup {
            merged.backup = Some(merged_backup(stored.backup, backup)?);
        }
        if let Some(mut conversion) = conversion {
            conversion.enabled.get_or_insert(true);
            merged.conversion.get_or_insert_default().overlay(conversion);
        }
        if let Some(partitioning) = partitioning {
            merged.partitioning.get_or_insert_default().overlay(partitioning);
        }
        Ok(Destination::ExtendedS3(Box::new(merged)))
    }

    fn with_http_endpoint(&self, mut update: HttpEndpoint) -> Result<Destination, Refusal> {
        update.s3 = update.s3_update.take();
        let Destination::HttpEndpoint(stored) = self else {
            whole(update.endpoint.is_some() && update.s3.is_some(), "EndpointConfiguration and S3Update")?;
            if let Some(s3) = &update.s3 {
                whole_backup(s3)?;
            }
            return Ok(Destination::HttpEndpoint(Box::new(update)));
        };
        if stored.backup_mode.as_deref() == Some("AllData")
            && update.backup_mode.as_deref() == Some("FailedDataOnly")
        {
            return Err(Refusal::invalid(
                "S3BackupMode cannot be changed to FailedDataOnly once it is AllData",
            ));
        }
        let mut merged = (**stored).clone();
        let s3 = update.s3.take();
        merged.overlay(update);
        if let Some(s3) = s3 {
            merged.s3 = Some(merged_backup(stored.s3.clone(), s3)?);
        }
        Ok(Destination::HttpEndpoint(Box::new(merged)))
    }
}

impl Destination {
    fn with_splunk(&self, mut update: Splunk) -> Result<Destination, Refusal> {
        update.s3 = update.s3_update.take();
        let Destination::Splunk(stored) = self else {
            let is_whole =
                update.hec_endpoint.is_some() && update.hec_endpoint_type.is_some() && update.s3.is_some();
            whole(is_whole, "HECEndpoint, HECEndpointType, HECToken and S3Update")?;
            if let Some(s3) = &update.s3 {
                whole_backup(s3)?;
            }
            return Ok(Destination::Splunk(Box::new(update)));
        };
        if stored.backup_mode.as_deref() == Some("AllEvents")
            && update.backup_mode.as_deref() == Some("FailedEventsOnly")
        {
            return Err(Refusal::invalid(
                "S3BackupMode cannot be changed to FailedEventsOnly once it is AllEvents",
            ));
        }
        let mut merged = (**stored).clone();
        let s3 = update.s3.take();
        merged.overlay(update);
        if let Some(s3) = s3 {
            merged.s3 = Some(merged_backup(stored.s3.clone(), s3)?);
        }
        Ok(Destination::Splunk(Box::new(merged)))
    }

    fn with_cluster(&self, mut update: OpenSearch) -> Result<Destination, Refusal> {
        let (stored, kind): (_, fn(Box<OpenSearch>) -> Destination) = match self {
            Destination::OpenSearch(stored) => (stored, Destination::OpenSearch),
            Destination::Elasticsearch(stored) => (stored, Destination::Elasticsearch),
            _ => return Err(Refusal::invalid("only a destination of a cluster can be changed to one")),
        };
        // Members of configurations, which an update does not know.
        (update.backup_mode, update.vpc) = (None, None);
        update.s3 = update.s3_update.take();
        let mut merged = (**stored).clone();
        // One takes the place of the other.
        if update.cluster_endpoint.is_some() != update.domain_arn.is_some() {
            (merged.cluster_endpoint, merged.domain_arn) = (None, None);
        }
        let s3 = update.s3.take();
        merged.overlay(update);
        if let Some(s3) = s3 {
            merged.s3 = Some(merged_backup(stored.s3.clone(), s3)?);
        }
        Ok(kind(Box::new(merged)))
    }
}

impl Destination {
    fn with_redshift(&self, mut update: Redshift) -> Result<Destination, Refusal> {
        update.s3 = update.s3_update.take();
        update.backup = update.backup_update.take();
        let Destination::Redshift(stored) = self else {
            let is_whole = update.role_arn.is_some()
                && update.jdbc_url.is_some()
                && update.copy_command.is_some()
                && update.s3.is_some();
            whole(is_whole, "RoleARN, ClusterJDBCURL, CopyCommand, Username, Password and S3Update")?;
            for s3 in [&update.s3, &update.backup].into_iter().flatten() {
                whole_backup(s3)?;
            }
            return Ok(Destination::Redshift(Box::new(update)));
        };
        if stored.backup_mode.as_deref() == Some("Enabled")
            && update.backup_mode.as_deref() == Some("Disabled")
        {
            return Err(Refusal::invalid("S3BackupMode cannot be changed to Disabled once it is Enabled"));
        }
        let mut merged = (**stored).clone();
        let (s3, backup) = (update.s3.take(), update.backup.take());
        merged.overlay(update);
        if let Some(s3) = s3 {
            merged.s3 = Some(merged_backup(stored.s3.clone(), s3)?);
        }
        if let Some(backup) = backup {
            merged.backup = Some(merged_backup(stored.backup.clone(), backup)?);
        }
        Ok(Destination::Redshift(Box::new(merged)))
    }
}

fn merged_s3(mut stored: S3, update: S3) -> S3 {
    stored.overlay(update);
    stored
}

/// The bucket beside a destination: merged, or whole where there was none.
fn merged_backup(stored: Option<S3>, update: S3) -> Result<S3, Refusal> {
    match stored {
        Some(stored) => Ok(merged_s3(stored, update)),
        None => {
            whole_backup(&update)?;
            Ok(update)
        }
    }
}

fn whole_backup(s3: &S3) -> Result<(), Refusal> {
    whole(s3.role_arn.is_some() && s3.bucket_arn.is_some(), "RoleARN and BucketARN of the bucket beside it")
}

fn whole(is_there: bool, what: &str) -> Result<(), Refusal> {
    match is_there {
        true => Ok(()),
        false => {
            Err(Refusal::invalid(format!("another destination replaces the one before, and needs {what}")))
        }
    }
}

fn partitioning_is_fixed() -> Refusal {
    Refusal::invalid(
        "Dynamic Partitioning can be enabled only when a stream is created, and not be disabled after",
    )
}
