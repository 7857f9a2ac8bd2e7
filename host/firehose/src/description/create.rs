//! A definition out of a create request, and the defaults that the service fills in.

use super::{Definition, Destination, EncryptionState, FORMAT};
use crate::validate;
use crate::wire::{
    BufferingHints, CloudWatchLoggingOptions, CreateDeliveryStream, DynamicPartitioning, Encryption,
    ExtendedS3, HttpEndpoint, HttpRequest, OpenSearch, Overlay, Processing, ProcessorParameter, Redshift,
    Refusal, RetryOptions, S3, Splunk,
};

/// Mebibytes and seconds of buffers of buckets.
const BUCKET: (i64, i64) = (5, 300);
/// With dynamic partitioning or conversion.
const LARGE: (i64, i64) = (128, 300);
/// Of an HTTP endpoint; the guide has 60 seconds and the API 300.
const HTTP: (i64, i64) = (5, 300);
const SPLUNK: (i64, i64) = (5, 60);
const RETRY_SECONDS: i64 = 300;
const REDSHIFT_RETRY_SECONDS: i64 = 3600;
const ACKNOWLEDGMENT_SECONDS: i64 = 180;

impl Definition {
    /// A stream as it begins, in version 1. `now` in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// `ValidationException` or `InvalidArgumentException`: see [`validate`].
    pub fn create(request: CreateDeliveryStream, now: u64) -> Result<Definition, Refusal> {
        validate::create(&request)?;
        let encryption = match &request.encryption {
            Some(input) => EncryptionState::at_creation(input)?,
            None => EncryptionState::default(),
        };
        // Members of updates are none of a configuration.
        let s3 = request.s3.map(|s3| Destination::S3(Box::new(s3)));
        let extended = request.extended_s3.map(|extended| {
            Destination::ExtendedS3(Box::new(ExtendedS3 { backup_update: None, ..extended }))
        });
        let http = request
            .http_endpoint
            .map(|http| Destination::HttpEndpoint(Box::new(HttpEndpoint { s3_update: None, ..http })));
        let splunk =
            request.splunk.map(|splunk| Destination::Splunk(Box::new(Splunk { s3_update: None, ..splunk })));
        let cluster = |cluster: OpenSearch| Box::new(OpenSearch { s3_update: None, ..cluster });
        let opensearch = request.opensearch.map(cluster).map(Destination::OpenSearch);
        let elasticsearch = request.elasticsearch.map(cluster).map(Destination::Elasticsearch);
        let redshift = request.redshift.map(|redshift| {
            Destination::Redshift(Box::new(Redshift { s3_update: None, backup_update: None, ..redshift }))
        });
        let given = s3.or(extended).or(http).or(splunk).or(opensearch).or(elasticsearch).or(redshift);
        // `validate` lets nothing else through.
        let mut destination = given.ok_or_else(|| {
            Refusal::invalid("Exactly one destination configuration is supported for a Firehose")
        })?;
        destination.settle()?;
        let mut definition = Definition {
            format: FORMAT,
            name: request.name.unwrap_or_default(),
            version: 1,
            created_at: now,
            updated_at: None,
            destination,
            throughput_hint: request.direct_put.and_then(|source| source.throughput_hint_in_mbs),
            source: request.kinesis_source,
            tags: std::collections::BTreeMap::new(),
            encryption,
        };
        definition.tag(request.tags.unwrap_or_default())?;
        Ok(definition)
    }
}

impl Destination {
    /// Holds to the rules, and fills in what was left out. Doing so twice changes nothing.
    pub(super) fn settle(&mut self) -> Result<(), Refusal> {
        match self {
            Destination::S3(s3) => {
                validate::s3(s3)?;
                settle_s3(s3, BUCKET);
            }
            Destination::ExtendedS3(extended) => {
                validate::extended_s3(extended)?;
                settle_extended_s3(extended);
            }
            Destination::HttpEndpoint(http) => {
                validate::http_endpoint(http)?;
                settle_http_endpoint(http);
            }
            Destination::Splunk(splunk) => {
                validate::splunk_rules(splunk)?;
                settle_splunk(splunk);
            }
            Destination::OpenSearch(cluster) | Destination::Elasticsearch(cluster) => {
                validate::opensearch_rules(cluster)?;
                settle_opensearch(cluster);
            }
            Destination::Redshift(redshift) => {
                validate::redshift_rules(redshift)?;
                settle_redshift(redshift);
            }
        }
        Ok(())
    }
}

fn settle_s3(s3: &mut S3, buffer: (i64, i64)) {
    hints(&mut s3.buffering_hints, buffer);
    s3.compression_format.get_or_insert_with(|| "UNCOMPRESSED".to_owned());
    s3.encryption.get_or_insert_with(no_encryption);
    s3.logging.get_or_insert_with(no_logging);
}

fn settle_extended_s3(extended: &mut ExtendedS3) {
    if let Some(conversion) = &mut extended.conversion {
        conversion.enabled.get_or_insert(true);
    }
    let is_large = extended.is_partitioned() || extended.is_converted();
    let mut plain = extended.plain();
    settle_s3(&mut plain, if is_large { LARGE } else { BUCKET });
    extended.overlay(ExtendedS3::from(plain));
    extended.backup_mode.get_or_insert_with(|| "Disabled".to_owned());
    if let Some(backup) = &mut extended.backup {
        settle_s3(backup, BUCKET);
    }
    if let Some(processing) = &mut extended.processing {
        settle_processing(processing, extended.role_arn.as_deref());
    }
    if let Some(partitioning) = &mut extended.partitioning {
        settle_partitioning(partitioning);
    }
}

fn settle_http_endpoint(http: &mut HttpEndpoint) {
    hints(&mut http.buffering_hints, HTTP);
    http.logging.get_or_insert_with(no_logging);
    let request = http.request.get_or_insert_with(HttpRequest::default);
    request.content_encoding.get_or_insert_with(|| "NONE".to_owned());
    retry(&mut http.retry);
    http.backup_mode.get_or_insert_with(|| "FailedDataOnly".to_owned());
    if let Some(s3) = &mut http.s3 {
        settle_s3(s3, BUCKET);
    }
    if let Some(processing) = &mut http.processing {
        settle_processing(processing, http.role_arn.as_deref());
    }
}

fn settle_splunk(splunk: &mut Splunk) {
    hints(&mut splunk.buffering_hints, SPLUNK);
    splunk.acknowledgment_timeout.get_or_insert(ACKNOWLEDGMENT_SECONDS);
    splunk.logging.get_or_insert_with(no_logging);
    retry(&mut splunk.retry);
    splunk.backup_mode.get_or_insert_with(|| "FailedEventsOnly".to_owned());
    if let Some(s3) = &mut splunk.s3 {
        settle_s3(s3, BUCKET);
    }
    if let Some(processing) = &mut splunk.processing {
        settle_processing(processing, None);
    }
}

fn settle_opensearch(cluster: &mut OpenSearch) {
    hints(&mut cluster.buffering_hints, BUCKET);
    cluster.index_rotation_period.get_or_insert_with(|| "OneDay".to_owned());
    cluster.logging.get_or_insert_with(no_logging);
    retry(&mut cluster.retry);
    cluster.backup_mode.get_or_insert_with(|| "FailedDocumentsOnly".to_owned());
    let document = cluster.document_id.get_or_insert_default();
    document.default_format.get_or_insert_with(|| "FIREHOSE_DEFAULT".to_owned());
    if let Some(s3) = &mut cluster.s3 {
        settle_s3(s3, BUCKET);
    }
    if let Some(processing) = &mut cluster.processing {
        settle_processing(processing, cluster.role_arn.as_deref());
    }
}

fn settle_redshift(redshift: &mut Redshift) {
    redshift.logging.get_or_insert_with(no_logging);
    redshift.retry.get_or_insert_default().duration_in_seconds.get_or_insert(REDSHIFT_RETRY_SECONDS);
    redshift.backup_mode.get_or_insert_with(|| "Disabled".to_owned());
    for s3 in [&mut redshift.s3, &mut redshift.backup].into_iter().flatten() {
        settle_s3(s3, BUCKET);
    }
    if let Some(processing) = &mut redshift.processing {
        settle_processing(processing, redshift.role_arn.as_deref());
    }
}

fn settle_partitioning(partitioning: &mut DynamicPartitioning) {
    partitioning.enabled.get_or_insert(false);
    if partitioning.enabled == Some(true) {
        retry(&mut partitioning.retry);
    }
}

/// Omitted means disabled; a Lambda processor is shown with the parameters that it was not given.
fn settle_processing(processing: &mut Processing, role: Option<&str>) {
    processing.enabled.get_or_insert(false);
    for processor in processing.processors.iter_mut().flatten() {
        if processor.processor_type.as_deref() != Some("Lambda") {
            continue;
        }
        let defaults = [
            ("NumberOfRetries", Some("3")),
            ("RoleArn", role),
            ("BufferSizeInMBs", Some("1")),
            ("BufferIntervalInSeconds", Some("60")),
        ];
        for (name, value) in defaults {
            if let Some(value) = value
                && processor.parameter(name).is_none()
            {
                let parameter =
                    ProcessorParameter { name: Some(name.to_owned()), value: Some(value.to_owned()) };
                processor.parameters.get_or_insert_default().push(parameter);
            }
        }
    }
}

fn hints(hints: &mut Option<BufferingHints>, (size, interval): (i64, i64)) {
    let hints = hints.get_or_insert_default();
    hints.size_in_mbs.get_or_insert(size);
    hints.interval_in_seconds.get_or_insert(interval);
}

fn retry(retry: &mut Option<RetryOptions>) {
    retry.get_or_insert_default().duration_in_seconds.get_or_insert(RETRY_SECONDS);
}

fn no_encryption() -> Encryption {
    Encryption { none: Some("NoEncryption".to_owned()), kms: None }
}

fn no_logging() -> CloudWatchLoggingOptions {
    CloudWatchLoggingOptions { enabled: Some(false), ..CloudWatchLoggingOptions::default() }
}
