//! Rules: what of a destination may stand together. They look at what will be stored.

use super::requests::secret;
use super::{conversion, processing};
use crate::prefix::{self, Partitioning};
use crate::wire::{BufferingHints, ExtendedS3, HttpEndpoint, Processing, Refusal, S3};

/// Buffers of a backup are never delivered at once.
const BACKUP_INTERVAL_MIN: i64 = 60;

/// The deprecated destination.
///
/// # Errors
/// `InvalidArgumentException`.
pub fn s3(s3: &S3) -> Result<(), Refusal> {
    both_or_neither(s3.buffering_hints.as_ref())?;
    encryption(s3)?;
    prefix::check(s3.prefix.as_deref(), s3.error_output_prefix.as_deref(), Partitioning::default())?;
    Ok(())
}

/// # Errors
/// `InvalidArgumentException`.
pub fn extended_s3(extended: &ExtendedS3) -> Result<(), Refusal> {
    both_or_neither(extended.buffering_hints.as_ref())?;
    encryption(&extended.plain())?;
    prefix::time_zone(extended.custom_time_zone.as_deref())?;
    if let Some(processing) = &extended.processing {
        processing::rules(processing)?;
    }
    let (prefix, _errors) = prefix::check(
        extended.prefix.as_deref(),
        extended.error_output_prefix.as_deref(),
        Partitioning::of(extended),
    )?;
    if extended.is_partitioned() {
        partitioned_buffer(extended.buffering_hints.as_ref())?;
        for query in extended.processing.iter().flat_map(Processing::queries) {
            prefix::check_query(&prefix, query)?;
        }
    }
    conversion::rules(extended)?;
    let is_backed_up = extended.backup_mode.as_deref() == Some("Enabled");
    match &extended.backup {
        Some(given) => backup(given, "S3BackupConfiguration"),
        None if is_backed_up => {
            Err(Refusal::invalid("S3BackupConfiguration must be given when S3BackupMode is Enabled"))
        }
        None => Ok(()),
    }
}

/// # Errors
/// `InvalidArgumentException`.
pub fn http_endpoint(http: &HttpEndpoint) -> Result<(), Refusal> {
    both_or_neither(http.buffering_hints.as_ref())?;
    if let Some(processing) = &http.processing {
        processing::rules(processing)?;
        no_partition_keys(processing)?;
    }
    secret(http.secrets_manager.as_ref())?;
    match &http.s3 {
        Some(given) => backup(given, "S3Configuration"),
        None => Ok(()),
    }
}

pub(super) fn both_or_neither(hints: Option<&BufferingHints>) -> Result<(), Refusal> {
    let Some(hints) = hints else { return Ok(()) };
    match hints.size_in_mbs.is_some() == hints.interval_in_seconds.is_some() {
        true => Ok(()),
        false => {
            Err(Refusal::invalid("BufferingHints must have both SizeInMBs and IntervalInSeconds, or neither"))
        }
    }
}

fn encryption(s3: &S3) -> Result<(), Refusal> {
    match &s3.encryption {
        Some(encryption) if encryption.none.is_some() == encryption.kms.is_some() => Err(Refusal::invalid(
            "EncryptionConfiguration must have exactly one of NoEncryptionConfig and KMSEncryptionConfig",
        )),
        _ => Ok(()),
    }
}

fn partitioned_buffer(hints: Option<&BufferingHints>) -> Result<(), Refusal> {
    let Some(hints) = hints else { return Ok(()) };
    if hints.size_in_mbs.is_some_and(|size| size < 64) {
        return Err(Refusal::invalid(
            "BufferingHints.SizeInMBs must be at least 64 when Dynamic Partitioning is enabled.",
        ));
    }
    if hints.interval_in_seconds.is_some_and(|seconds| seconds < 60) {
        return Err(Refusal::invalid(
            "BufferingHints.IntervalInSeconds must be at least 60 seconds when Dynamic Partitioning is enabled.",
        ));
    }
    Ok(())
}

/// Buckets beside the destination: for source records, and for records that could not be delivered.
pub(super) fn backup(given: &S3, name: &str) -> Result<(), Refusal> {
    let broken = |refusal: Refusal| Refusal::invalid(format!("{name}: {}", refusal.message));
    s3(given).map_err(broken)?;
    let interval = given.buffering_hints.as_ref().and_then(|hints| hints.interval_in_seconds);
    match interval {
        Some(seconds) if seconds < BACKUP_INTERVAL_MIN => {
            let least =
                format!("BufferingHints.IntervalInSeconds must be at least {BACKUP_INTERVAL_MIN} seconds");
            Err(broken(Refusal::invalid(least)))
        }
        _ => Ok(()),
    }
}

pub(super) fn no_partition_keys(processing: &Processing) -> Result<(), Refusal> {
    match processing.has("MetadataExtraction") {
        true => Err(Refusal::invalid(
            "MetadataExtraction processor is of destinations with dynamic partitioning, which is S3",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    const QUERY: &str = r#""ProcessingConfiguration":{"Enabled":true,"Processors":[{"Type":"MetadataExtraction","Parameters":[
        {"ParameterName":"MetadataExtractionQuery","ParameterValue":"{k:.k}"},
        {"ParameterName":"JsonParsingEngine","ParameterValue":"JQ-1.6"}]}]},
        "Prefix":"!{partitionKeyFromQuery:k}/","ErrorOutputPrefix":"!{firehose:error-output-type}/",
        "DynamicPartitioningConfiguration":{"Enabled":true}"#;

    fn check(result: Result<(), Refusal>, broken: &str, body: &str) {
        match result {
            Ok(()) => assert_eq!(broken, "", "{body}"),
            Err(refusal) => {
                assert!(!broken.is_empty() && refusal.message.contains(broken), "{body}: {refusal}")
            }
        }
    }

    #[test]
    fn members_of_a_bucket_must_agree() {
        for (body, broken) in [
            ("{}".to_owned(), ""),
            (r#"{"BufferingHints":{}}"#.to_owned(), ""),
            (r#"{"BufferingHints":{"SizeInMBs":5}}"#.to_owned(), "both SizeInMBs and IntervalInSeconds"),
            (
                r#"{"BufferingHints":{"IntervalInSeconds":0}}"#.to_owned(),
                "both SizeInMBs and IntervalInSeconds",
            ),
            (r#"{"BufferingHints":{"SizeInMBs":5,"IntervalInSeconds":0}}"#.to_owned(), ""),
            (r#"{"EncryptionConfiguration":{}}"#.to_owned(), "exactly one of NoEncryptionConfig"),
            (r#"{"EncryptionConfiguration":{"NoEncryptionConfig":"NoEncryption"}}"#.to_owned(), ""),
            (r#"{"CustomTimeZone":"Nowhere/Land"}"#.to_owned(), "is no time zone"),
            (r#"{"Prefix":"!{timestamp:yyyy}"}"#.to_owned(), "ErrorOutputPrefix cannot be null"),
            (r#"{"S3BackupMode":"Enabled"}"#.to_owned(), "S3BackupConfiguration must be given"),
            (r#"{"S3BackupMode":"Enabled","S3BackupConfiguration":{}}"#.to_owned(), ""),
            (
                r#"{"S3BackupConfiguration":{"BufferingHints":{"SizeInMBs":5,"IntervalInSeconds":59}}}"#
                    .to_owned(),
                "S3BackupConfiguration: BufferingHints.IntervalInSeconds must be at least 60",
            ),
            (
                r#"{"S3BackupConfiguration":{"Prefix":"!{x}"}}"#.to_owned(),
                "S3BackupConfiguration: Prefix at position 0",
            ),
            (format!("{{{QUERY}}}"), ""),
            (
                format!(r#"{{{QUERY},"BufferingHints":{{"SizeInMBs":63,"IntervalInSeconds":60}}}}"#),
                "SizeInMBs must be at least 64",
            ),
            (
                format!(r#"{{{QUERY},"BufferingHints":{{"SizeInMBs":64,"IntervalInSeconds":0}}}}"#),
                "at least 60 seconds when Dynamic",
            ),
            (format!(r#"{{{QUERY},"BufferingHints":{{"SizeInMBs":64,"IntervalInSeconds":60}}}}"#), ""),
        ] {
            check(extended_s3(&parse(body.as_bytes()).unwrap()), broken, &body);
        }
    }

    #[test]
    fn members_of_an_http_endpoint_must_agree() {
        for (body, broken) in [
            (r#"{"BufferingHints":{"SizeInMBs":5}}"#.to_owned(), "both SizeInMBs"),
            (r#"{"SecretsManagerConfiguration":{"Enabled":true}}"#.to_owned(), "must have SecretARN"),
            (r#"{"SecretsManagerConfiguration":{"Enabled":false}}"#.to_owned(), ""),
            (
                r#"{"S3Configuration":{"BufferingHints":{"SizeInMBs":5}}}"#.to_owned(),
                "S3Configuration: BufferingHints must",
            ),
            (format!("{{{QUERY}}}"), "which is S3"),
        ] {
            check(http_endpoint(&parse(body.as_bytes()).unwrap()), broken, &body);
        }
    }
}
