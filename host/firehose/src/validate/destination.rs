//! Constraints of destinations, member by member.

use super::member::{arn, one_line};
use super::violation::Pattern;
use super::{At, Given, Violations, conversion, processing};
use crate::wire::{
    BufferingHints, CloudWatchLoggingOptions, Encryption, ExtendedS3, HttpEndpoint, RetryOptions, S3,
    SecretsManager,
};

const LOG_GROUP: Pattern = Pattern {
    shown: r"[\.\-_/#A-Za-z0-9]*",
    matches: |text| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte)),
};
const LOG_STREAM: Pattern = Pattern { shown: "[^:*]*", matches: |text| !text.contains([':', '*']) };
const EXTENSION: Pattern = Pattern {
    shown: r"^$|\.[0-9a-z!\-_.*'()]+",
    matches: |text| {
        let allowed =
            |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || b"!-_.*'()".contains(&byte);
        text.is_empty()
            || text.strip_prefix('.').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(allowed))
    },
};
const TIME_ZONE: Pattern = Pattern {
    shown: "^$|[a-zA-Z/_]+",
    matches: |text| text.bytes().all(|byte| byte.is_ascii_alphabetic() || b"/_".contains(&byte)),
};
const URL: Pattern =
    Pattern { shown: "https://.*", matches: |text| one_line(text) && text.starts_with("https://") };
const NOT_BLANK: Pattern =
    Pattern { shown: r"^(?!\s*$).+", matches: |text| one_line(text) && !text.trim().is_empty() };

const COMPRESSIONS: &[&str] = &["UNCOMPRESSED", "GZIP", "ZIP", "Snappy", "HADOOP_SNAPPY"];

pub(super) fn s3(violations: &mut Violations, at: At<'_>, s3: &S3, given: Given) {
    required(violations, at.member("RoleARN"), s3.role_arn.is_some(), given);
    required(violations, at.member("BucketARN"), s3.bucket_arn.is_some(), given);
    arn(violations, at.member("RoleARN"), s3.role_arn.as_deref(), 512);
    arn(violations, at.member("BucketARN"), s3.bucket_arn.as_deref(), 2048);
    for (name, prefix) in [("Prefix", &s3.prefix), ("ErrorOutputPrefix", &s3.error_output_prefix)] {
        if let Some(prefix) = prefix {
            violations.length(at.member(name), prefix, 0, 1024);
        }
    }
    hints(violations, at, s3.buffering_hints.as_ref(), 128);
    if let Some(format) = &s3.compression_format {
        violations.one_of(at.member("CompressionFormat"), format, COMPRESSIONS);
    }
    if let Some(encryption) = &s3.encryption {
        encryption_constraints(violations, at.member("EncryptionConfiguration"), encryption);
    }
    logging(violations, at, s3.logging.as_ref());
}

pub(super) fn extended_s3(violations: &mut Violations, at: At<'_>, extended: &ExtendedS3, given: Given) {
    s3(violations, at, &extended.plain(), given);
    if let Some(processing) = &extended.processing {
        processing::constraints(violations, at.member("ProcessingConfiguration"), processing);
    }
    if let Some(mode) = &extended.backup_mode {
        violations.one_of(at.member("S3BackupMode"), mode, &["Disabled", "Enabled"]);
    }
    match given {
        Given::Whole => {
            if let Some(backup) = &extended.backup {
                s3(violations, at.member("S3BackupConfiguration"), backup, Given::Whole);
            }
        }
        Given::Part => {
            if let Some(backup) = &extended.backup_update {
                s3(violations, at.member("S3BackupUpdate"), backup, Given::Part);
            }
        }
    }
    if let Some(conversion) = &extended.conversion {
        conversion::constraints(violations, at.member("DataFormatConversionConfiguration"), conversion);
    }
    if let Some(partitioning) = &extended.partitioning {
        retry(violations, at.member("DynamicPartitioningConfiguration"), partitioning.retry.as_ref());
    }
    if let Some(extension) = &extended.file_extension {
        let at = at.member("FileExtension");
        violations.length(at, extension, 0, 128);
        violations.pattern(at, extension, &EXTENSION);
    }
    if let Some(zone) = &extended.custom_time_zone {
        let at = at.member("CustomTimeZone");
        violations.length(at, zone, 0, 50);
        violations.pattern(at, zone, &TIME_ZONE);
    }
}

pub(super) fn http_endpoint(violations: &mut Violations, at: At<'_>, http: &HttpEndpoint, given: Given) {
    let place_at = at.member("EndpointConfiguration");
    required(violations, place_at, http.endpoint.is_some(), given);
    if let Some(place) = &http.endpoint {
        let url_at = place_at.member("Url");
        violations.required(url_at, place.url.is_some());
        if let Some(url) = &place.url {
            violations.length(url_at, url, 1, 1000);
            violations.pattern(url_at, url, &URL);
        }
        if let Some(name) = &place.name {
            let at = place_at.member("Name");
            violations.length(at, name, 1, 256);
            violations.pattern(at, name, &NOT_BLANK);
        }
        if let Some(key) = &place.access_key {
            violations.length_of_secret(place_at.member("AccessKey"), &key.0, 4096);
        }
    }
    hints(violations, at, http.buffering_hints.as_ref(), 64);
    logging(violations, at, http.logging.as_ref());
    if let Some(request) = &http.request {
        let at = at.member("RequestConfiguration");
        if let Some(encoding) = &request.content_encoding {
            violations.one_of(at.member("ContentEncoding"), encoding, &["NONE", "GZIP"]);
        }
        let list = at.member("CommonAttributes");
        let attributes = request.common_attributes.as_deref().unwrap_or_default();
        violations.count(list, attributes.len(), 0, 50);
        for (index, attribute) in attributes.iter().enumerate().take(50) {
            let at = list.item(index);
            let (name_at, value_at) = (at.member("AttributeName"), at.member("AttributeValue"));
            violations.required(name_at, attribute.name.is_some());
            violations.required(value_at, attribute.value.is_some());
            if let Some(name) = &attribute.name {
                violations.length(name_at, name, 1, 256);
                violations.pattern(name_at, name, &NOT_BLANK);
            }
            if let Some(value) = &attribute.value {
                violations.length(value_at, value, 0, 1024);
            }
        }
    }
    if let Some(processing) = &http.processing {
        processing::constraints(violations, at.member("ProcessingConfiguration"), processing);
    }
    arn(violations, at.member("RoleARN"), http.role_arn.as_deref(), 512);
    retry(violations, at, http.retry.as_ref());
    if let Some(mode) = &http.backup_mode {
        violations.one_of(at.member("S3BackupMode"), mode, &["FailedDataOnly", "AllData"]);
    }
    beside(violations, at, (http.s3.as_ref(), http.s3_update.as_ref()), given);
    secrets_manager(violations, at, http.secrets_manager.as_ref());
}

pub(super) fn secrets_manager(violations: &mut Violations, at: At<'_>, manager: Option<&SecretsManager>) {
    let Some(manager) = manager else { return };
    let at = at.member("SecretsManagerConfiguration");
    violations.required(at.member("Enabled"), manager.enabled.is_some());
    arn(violations, at.member("SecretARN"), manager.secret_arn.as_deref(), 2048);
    arn(violations, at.member("RoleARN"), manager.role_arn.as_deref(), 512);
}

/// The bucket beside a destination, which an update calls otherwise.
pub(super) fn beside(
    violations: &mut Violations,
    at: At<'_>,
    (configuration, update): (Option<&S3>, Option<&S3>),
    given: Given,
) {
    match given {
        Given::Whole => {
            let at = at.member("S3Configuration");
            violations.required(at, configuration.is_some());
            if let Some(configuration) = configuration {
                s3(violations, at, configuration, Given::Whole);
            }
        }
        Given::Part => {
            if let Some(update) = update {
                s3(violations, at.member("S3Update"), update, Given::Part);
            }
        }
    }
}

pub(super) fn required(violations: &mut Violations, at: At<'_>, is_there: bool, given: Given) {
    violations.required(at, is_there || given == Given::Part);
}

fn hints(violations: &mut Violations, at: At<'_>, hints: Option<&BufferingHints>, mebibytes_max: i64) {
    buffer(violations, at, hints, (mebibytes_max, 900));
}

/// Most mebibytes and seconds.
pub(super) fn buffer(
    violations: &mut Violations,
    at: At<'_>,
    hints: Option<&BufferingHints>,
    (mebibytes_max, seconds_max): (i64, i64),
) {
    let at = at.member("BufferingHints");
    if let Some(size) = hints.and_then(|hints| hints.size_in_mbs) {
        violations.range(at.member("SizeInMBs"), size, 1, mebibytes_max);
    }
    if let Some(interval) = hints.and_then(|hints| hints.interval_in_seconds) {
        violations.range(at.member("IntervalInSeconds"), interval, 0, seconds_max);
    }
}

fn encryption_constraints(violations: &mut Violations, at: At<'_>, encryption: &Encryption) {
    if let Some(none) = &encryption.none {
        violations.one_of(at.member("NoEncryptionConfig"), none, &["NoEncryption"]);
    }
    if let Some(kms) = &encryption.kms {
        let kms_at = at.member("KMSEncryptionConfig");
        let key_at = kms_at.member("AWSKMSKeyARN");
        violations.required(key_at, kms.key_arn.is_some());
        arn(violations, key_at, kms.key_arn.as_deref(), 512);
    }
}

pub(super) fn logging(violations: &mut Violations, at: At<'_>, logging: Option<&CloudWatchLoggingOptions>) {
    let Some(logging) = logging else { return };
    let at = at.member("CloudWatchLoggingOptions");
    let names = [
        ("LogGroupName", &logging.log_group_name, &LOG_GROUP),
        ("LogStreamName", &logging.log_stream_name, &LOG_STREAM),
    ];
    for (member, name, pattern) in names {
        if let Some(name) = name {
            violations.length(at.member(member), name, 0, 512);
            violations.pattern(at.member(member), name, pattern);
        }
    }
}

pub(super) fn retry(violations: &mut Violations, at: At<'_>, retry: Option<&RetryOptions>) {
    if let Some(seconds) = retry.and_then(|retry| retry.duration_in_seconds) {
        violations.range(at.member("RetryOptions").member("DurationInSeconds"), seconds, 0, 7200);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    fn message(check: impl FnOnce(&mut Violations)) -> String {
        let mut violations = Violations::default();
        check(&mut violations);
        violations.finish().map_or_else(|refusal| refusal.message, |()| String::new())
    }

    #[test]
    fn a_configuration_must_have_what_an_update_may_leave_out() {
        let empty = ExtendedS3::default();
        let told = message(|v| extended_s3(v, At::Root, &empty, Given::Whole));
        assert!(
            told.starts_with("2 validation errors")
                && told.contains("'roleARN'")
                && told.contains("'bucketARN'"),
            "{told}"
        );
        assert_eq!(message(|v| extended_s3(v, At::Root, &empty, Given::Part)), "");
        let told = message(|v| http_endpoint(v, At::Root, &HttpEndpoint::default(), Given::Whole));
        assert!(told.contains("'endpointConfiguration'") && told.contains("'s3Configuration'"), "{told}");
        assert_eq!(message(|v| http_endpoint(v, At::Root, &HttpEndpoint::default(), Given::Part)), "");
    }

    #[test]
    fn each_member_of_a_bucket_has_its_constraint() {
        let long = "x".repeat(1025);
        for (members, expected) in [
            (r#""RoleARN":"role""#, "pattern: arn:.*"),
            (
                r#""BucketARN":"""#,
                "'bucketARN' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ),
            (&format!(r#""Prefix":"{long}""#), "less than or equal to 1024"),
            (&format!(r#""ErrorOutputPrefix":"{long}""#), "at 'errorOutputPrefix'"),
            (r#""BufferingHints":{"SizeInMBs":0}"#, "greater than or equal to 1"),
            (r#""BufferingHints":{"SizeInMBs":129}"#, "less than or equal to 128"),
            (r#""BufferingHints":{"IntervalInSeconds":901}"#, "less than or equal to 900"),
            (r#""BufferingHints":{"IntervalInSeconds":-1}"#, "greater than or equal to 0"),
            (
                r#""CompressionFormat":"gzip""#,
                "enum value set: [UNCOMPRESSED, GZIP, ZIP, Snappy, HADOOP_SNAPPY]",
            ),
            (r#""EncryptionConfiguration":{"NoEncryptionConfig":"No"}"#, "enum value set: [NoEncryption]"),
            (r#""EncryptionConfiguration":{"KMSEncryptionConfig":{}}"#, "not be null"),
            (r#""CloudWatchLoggingOptions":{"LogGroupName":"a b"}"#, r"pattern: [\.\-_/#A-Za-z0-9]*"),
            (r#""CloudWatchLoggingOptions":{"LogStreamName":"a:b"}"#, "pattern: [^:*]*"),
            (r#""S3BackupMode":"AllData""#, "enum value set: [Disabled, Enabled]"),
            (r#""S3BackupUpdate":{"RoleARN":"x"}"#, "at 's3BackupUpdate.roleARN'"),
            (
                r#""DynamicPartitioningConfiguration":{"RetryOptions":{"DurationInSeconds":7201}}"#,
                "less than or equal to 7200",
            ),
            (r#""FileExtension":"json""#, "at 'fileExtension'"),
            (r#""FileExtension":".""#, "at 'fileExtension'"),
            (r#""FileExtension":".JSON""#, "at 'fileExtension'"),
            (r#""FileExtension":".json.gz""#, ""),
            (r#""FileExtension":"""#, ""),
            (r#""CustomTimeZone":"UTC+1""#, "at 'customTimeZone'"),
            (r#""CustomTimeZone":"Europe/Berlin""#, ""),
        ] {
            let body = format!("{{{members}}}");
            let s3: ExtendedS3 = parse(body.as_bytes()).unwrap();
            let told = message(|v| extended_s3(v, At::Root, &s3, Given::Part));
            assert_eq!(told.is_empty(), expected.is_empty(), "{members}: {told}");
            assert!(told.contains(expected), "{members}: {told}");
        }
    }

    #[test]
    fn each_member_of_an_http_endpoint_has_its_constraint() {
        for (members, expected) in [
            (r#""EndpointConfiguration":{}"#, "'endpointConfiguration.url' failed"),
            (r#""EndpointConfiguration":{"Url":"http://a"}"#, "pattern: https://.*"),
            (r#""EndpointConfiguration":{"Url":"https://a","Name":" "}"#, "'endpointConfiguration.name'"),
            (r#""BufferingHints":{"SizeInMBs":65}"#, "less than or equal to 64"),
            (r#""RequestConfiguration":{"ContentEncoding":"gzip"}"#, "[NONE, GZIP]"),
            (
                r#""RequestConfiguration":{"CommonAttributes":[{"AttributeName":"","AttributeValue":""}]}"#,
                "commonAttributes.1.member.attributeName",
            ),
            (r#""RetryOptions":{"DurationInSeconds":-1}"#, "greater than or equal to 0"),
            (r#""S3BackupMode":"Enabled""#, "[FailedDataOnly, AllData]"),
            (r#""S3Update":{"BufferingHints":{"SizeInMBs":0}}"#, "'s3Update.bufferingHints.sizeInMBs'"),
            (r#""SecretsManagerConfiguration":{}"#, "'secretsManagerConfiguration.enabled'"),
        ] {
            let body = format!("{{{members}}}");
            let http: HttpEndpoint = parse(body.as_bytes()).unwrap();
            let told = message(|v| http_endpoint(v, At::Root, &http, Given::Part));
            assert!(told.contains(expected), "{members}: {told}");
        }
        let key = "s3cr3t".repeat(700);
        let http: HttpEndpoint = parse(
            format!(r#"{{"EndpointConfiguration":{{"Url":"https://a","AccessKey":"{key}"}}}}"#).as_bytes(),
        )
        .unwrap();
        let told = message(|v| http_endpoint(v, At::Root, &http, Given::Part));
        assert!(told.contains("less than or equal to 4096") && !told.contains("s3cr3t"), "{told}");
        assert!(!format!("{http:?}").contains("s3cr3t"));
    }
}
