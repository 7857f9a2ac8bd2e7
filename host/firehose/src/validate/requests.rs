//! Constraints and rules of destinations that records are sent to one by one: Splunk, OpenSearch.

use super::destination::{beside, buffer, logging, required, retry, secrets_manager};
use super::member::{arn, one_line};
use super::rule::{backup, both_or_neither, no_partition_keys};
use super::violation::Pattern;
use super::{At, Given, Violations, processing};
use crate::wire::{OpenSearch, Processing, Refusal, S3, SecretsManager, Splunk};

const HTTPS: Pattern =
    Pattern { shown: "https:.*", matches: |text| one_line(text) && text.starts_with("https:") };

pub(super) fn splunk(violations: &mut Violations, at: At<'_>, splunk: &Splunk, given: Given) {
    let endpoint_at = at.member("HECEndpoint");
    required(violations, endpoint_at, splunk.hec_endpoint.is_some(), given);
    if let Some(endpoint) = &splunk.hec_endpoint {
        violations.length(endpoint_at, endpoint, 0, 2048);
    }
    let type_at = at.member("HECEndpointType");
    required(violations, type_at, splunk.hec_endpoint_type.is_some(), given);
    if let Some(kind) = &splunk.hec_endpoint_type {
        violations.one_of(type_at, kind, &["Raw", "Event"]);
    }
    if let Some(token) = &splunk.hec_token {
        violations.length_of_secret(at.member("HECToken"), &token.0, 2048);
    }
    if let Some(seconds) = splunk.acknowledgment_timeout {
        violations.range(at.member("HECAcknowledgmentTimeoutInSeconds"), seconds, 180, 600);
    }
    if let Some(mode) = &splunk.backup_mode {
        violations.one_of(at.member("S3BackupMode"), mode, &["FailedEventsOnly", "AllEvents"]);
    }
    buffer(violations, at, splunk.buffering_hints.as_ref(), (5, 60));
    logging(violations, at, splunk.logging.as_ref());
    if let Some(processing) = &splunk.processing {
        processing::constraints(violations, at.member("ProcessingConfiguration"), processing);
    }
    retry(violations, at, splunk.retry.as_ref());
    beside(violations, at, (splunk.s3.as_ref(), splunk.s3_update.as_ref()), given);
    secrets_manager(violations, at, splunk.secrets_manager.as_ref());
}

pub(super) fn opensearch(violations: &mut Violations, at: At<'_>, cluster: &OpenSearch, given: Given) {
    required(violations, at.member("RoleARN"), cluster.role_arn.is_some(), given);
    arn(violations, at.member("RoleARN"), cluster.role_arn.as_deref(), 512);
    arn(violations, at.member("DomainARN"), cluster.domain_arn.as_deref(), 512);
    if let Some(endpoint) = &cluster.cluster_endpoint {
        let at = at.member("ClusterEndpoint");
        violations.length(at, endpoint, 1, 512);
        violations.pattern(at, endpoint, &HTTPS);
    }
    let index_at = at.member("IndexName");
    required(violations, index_at, cluster.index_name.is_some(), given);
    if let Some(index) = &cluster.index_name {
        violations.length(index_at, index, 1, 80);
    }
    if let Some(name) = &cluster.type_name {
        violations.length(at.member("TypeName"), name, 0, 100);
    }
    if let Some(period) = &cluster.index_rotation_period {
        let periods = &["NoRotation", "OneHour", "OneDay", "OneWeek", "OneMonth"];
        violations.one_of(at.member("IndexRotationPeriod"), period, periods);
    }
    if let Some(mode) = &cluster.backup_mode {
        violations.one_of(at.member("S3BackupMode"), mode, &["FailedDocumentsOnly", "AllDocuments"]);
    }
    if let Some(document) = &cluster.document_id {
        let options = at.member("DocumentIdOptions");
        let at = options.member("DefaultDocumentIdFormat");
        violations.required(at, document.default_format.is_some());
        if let Some(format) = &document.default_format {
            violations.one_of(at, format, &["FIREHOSE_DEFAULT", "NO_DOCUMENT_ID"]);
        }
    }
    buffer(violations, at, cluster.buffering_hints.as_ref(), (100, 900));
    logging(violations, at, cluster.logging.as_ref());
    if let Some(processing) = &cluster.processing {
        processing::constraints(violations, at.member("ProcessingConfiguration"), processing);
    }
    retry(violations, at, cluster.retry.as_ref());
    beside(violations, at, (cluster.s3.as_ref(), cluster.s3_update.as_ref()), given);
}

/// # Errors
/// `InvalidArgumentException`.
pub fn splunk_rules(splunk: &Splunk) -> Result<(), Refusal> {
    both_or_neither(splunk.buffering_hints.as_ref())?;
    let manager = splunk.secrets_manager.as_ref();
    secret(manager)?;
    if splunk.hec_token.is_none() && manager.is_none_or(|manager| manager.enabled != Some(true)) {
        return Err(Refusal::invalid("HECToken must be given unless SecretsManagerConfiguration is enabled"));
    }
    of_all(splunk.processing.as_ref(), splunk.s3.as_ref())
}

/// # Errors
/// `InvalidArgumentException`.
pub fn opensearch_rules(cluster: &OpenSearch) -> Result<(), Refusal> {
    both_or_neither(cluster.buffering_hints.as_ref())?;
    if cluster.domain_arn.is_some() == cluster.cluster_endpoint.is_some() {
        return Err(Refusal::invalid("exactly one of DomainARN and ClusterEndpoint must be given"));
    }
    of_all(cluster.processing.as_ref(), cluster.s3.as_ref())
}

fn of_all(processing: Option<&Processing>, s3: Option<&S3>) -> Result<(), Refusal> {
    if let Some(processing) = processing {
        processing::rules(processing)?;
        no_partition_keys(processing)?;
    }
    s3.map_or(Ok(()), |given| backup(given, "S3Configuration"))
}

pub(super) fn secret(manager: Option<&SecretsManager>) -> Result<(), Refusal> {
    match manager {
        Some(manager) if manager.enabled == Some(true) && manager.secret_arn.is_none() => {
            Err(Refusal::invalid("SecretsManagerConfiguration must have SecretARN when it is enabled"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    fn told(check: impl FnOnce(&mut Violations)) -> String {
        let mut violations = Violations::default();
        check(&mut violations);
        violations.finish().map_or_else(|refusal| refusal.message, |()| String::new())
    }

    #[test]
    fn each_member_of_a_collector_has_its_constraint() {
        let whole = told(|v| splunk(v, At::Root, &Splunk::default(), Given::Whole));
        for part in ["3 validation errors", "'hECEndpoint'", "'hECEndpointType'", "'s3Configuration'"] {
            assert!(whole.contains(part), "{part}: {whole}");
        }
        assert_eq!(told(|v| splunk(v, At::Root, &Splunk::default(), Given::Part)), "");
        for (members, expected) in [
            (r#""HECEndpointType":"raw""#, "[Raw, Event]"),
            (r#""HECAcknowledgmentTimeoutInSeconds":179"#, "greater than or equal to 180"),
            (r#""HECAcknowledgmentTimeoutInSeconds":601"#, "less than or equal to 600"),
            (r#""BufferingHints":{"SizeInMBs":6}"#, "less than or equal to 5"),
            (r#""BufferingHints":{"IntervalInSeconds":61}"#, "less than or equal to 60"),
            (r#""RetryOptions":{"DurationInSeconds":7201}"#, "less than or equal to 7200"),
            (r#""S3BackupMode":"AllData""#, "[FailedEventsOnly, AllEvents]"),
            (r#""S3Update":{"BufferingHints":{"SizeInMBs":0}}"#, "'s3Update.bufferingHints.sizeInMBs'"),
        ] {
            let parsed: Splunk = parse(format!("{{{members}}}").as_bytes()).unwrap();
            let told = told(|v| splunk(v, At::Root, &parsed, Given::Part));
            assert!(told.contains(expected), "{members}: {told}");
        }
    }

    #[test]
    fn each_member_of_a_cluster_has_its_constraint() {
        let whole = told(|v| opensearch(v, At::Root, &OpenSearch::default(), Given::Whole));
        for part in ["3 validation errors", "'roleARN'", "'indexName'", "'s3Configuration'"] {
            assert!(whole.contains(part), "{part}: {whole}");
        }
        let long = format!(r#""IndexName":"{}""#, "x".repeat(81));
        for (members, expected) in [
            (long.as_str(), "less than or equal to 80"),
            (r#""ClusterEndpoint":"http://a""#, "pattern: https:.*"),
            (r#""IndexRotationPeriod":"Daily""#, "[NoRotation, OneHour, OneDay, OneWeek, OneMonth]"),
            (r#""DocumentIdOptions":{}"#, "not be null"),
            (r#""DocumentIdOptions":{"DefaultDocumentIdFormat":"x"}"#, "[FIREHOSE_DEFAULT, NO_DOCUMENT_ID]"),
            (r#""BufferingHints":{"SizeInMBs":101}"#, "less than or equal to 100"),
            (r#""S3BackupMode":"AllData""#, "[FailedDocumentsOnly, AllDocuments]"),
        ] {
            let parsed: OpenSearch = parse(format!("{{{members}}}").as_bytes()).unwrap();
            let told = told(|v| opensearch(v, At::Root, &parsed, Given::Part));
            assert!(told.contains(expected), "{members}: {told}");
        }
    }

    #[test]
    fn members_must_agree() {
        let of = |members: &str| splunk_rules(&parse(format!("{{{members}}}").as_bytes()).unwrap());
        assert_eq!(of(r#""HECToken":"t""#), Ok(()));
        assert!(of("").unwrap_err().message.contains("HECToken must be given"));
        let managed = r#""SecretsManagerConfiguration":{"Enabled":true}"#;
        assert!(of(managed).unwrap_err().message.contains("must have SecretARN"));
        let of = |members: &str| opensearch_rules(&parse(format!("{{{members}}}").as_bytes()).unwrap());
        assert_eq!(of(r#""ClusterEndpoint":"https://a""#), Ok(()));
        for members in ["", r#""ClusterEndpoint":"https://a","DomainARN":"arn:x""#] {
            assert!(of(members).unwrap_err().message.contains("exactly one of DomainARN"), "{members}");
        }
    }
}
