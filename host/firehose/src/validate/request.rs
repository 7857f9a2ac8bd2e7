//! Constraints of whole requests.

use super::member::{self, optional_name, stream_name, tag_key, tags};
use super::{At, Given, Violations, destination, redshift, requests};
use crate::wire::{
    CreateDeliveryStream, DeleteDeliveryStream, DescribeDeliveryStream, ListDeliveryStreams,
    ListTagsForDeliveryStream, Refusal, StartDeliveryStreamEncryption, StopDeliveryStreamEncryption,
    TagDeliveryStream, UntagDeliveryStream, UpdateDestination,
};

const STREAM_TYPES: &[&str] = &["DirectPut", "KinesisStreamAsSource", "MSKAsSource", "DatabaseAsSource"];

/// # Errors
/// `ValidationException`: constraints. `InvalidArgumentException`: a source that is neither `DirectPut` nor a stream of
/// Kinesis, or that does not fit the type, or not exactly one destination of those that are supported.
pub fn create(request: &CreateDeliveryStream) -> Result<(), Refusal> {
    let mut violations = Violations::default();
    let at = At::Root;
    stream_name(&mut violations, at, request.name.as_deref());
    if let Some(stream_type) = &request.stream_type {
        violations.one_of(at.member("DeliveryStreamType"), stream_type, STREAM_TYPES);
    }
    if let Some(hint) = request.direct_put.as_ref().and_then(|source| source.throughput_hint_in_mbs) {
        violations.range(
            at.member("DirectPutSourceConfiguration").member("ThroughputHintInMBs"),
            hint,
            1,
            100,
        );
    }
    if let Some(source) = &request.kinesis_source {
        member::kinesis_source(&mut violations, at.member("KinesisStreamSourceConfiguration"), source);
    }
    if let Some(input) = &request.encryption {
        member::encryption(&mut violations, at.member("DeliveryStreamEncryptionConfigurationInput"), input);
    }
    if let Some(given) = &request.tags {
        tags(&mut violations, at.member("Tags"), given);
    }
    if let Some(s3) = &request.s3 {
        destination::s3(&mut violations, at.member("S3DestinationConfiguration"), s3, Given::Whole);
    }
    if let Some(s3) = &request.extended_s3 {
        destination::extended_s3(
            &mut violations,
            at.member("ExtendedS3DestinationConfiguration"),
            s3,
            Given::Whole,
        );
    }
    if let Some(http) = &request.http_endpoint {
        destination::http_endpoint(
            &mut violations,
            at.member("HttpEndpointDestinationConfiguration"),
            http,
            Given::Whole,
        );
    }
    if let Some(splunk) = &request.splunk {
        let at = at.member("SplunkDestinationConfiguration");
        requests::splunk(&mut violations, at, splunk, Given::Whole);
    }
    for (name, cluster) in [
        ("AmazonopensearchserviceDestinationConfiguration", &request.opensearch),
        ("ElasticsearchDestinationConfiguration", &request.elasticsearch),
    ] {
        if let Some(cluster) = cluster {
            requests::opensearch(&mut violations, at.member(name), cluster, Given::Whole);
        }
    }
    if let Some(given) = &request.redshift {
        redshift::redshift(
            &mut violations,
            at.member("RedshiftDestinationConfiguration"),
            given,
            Given::Whole,
        );
    }
    violations.finish()?;
    one_source(request)?;
    let is_known = request.s3.is_some()
        || request.extended_s3.is_some()
        || request.http_endpoint.is_some()
        || request.splunk.is_some()
        || request.opensearch.is_some()
        || request.elasticsearch.is_some()
        || request.redshift.is_some();
    one_destination(&request.destinations(), is_known, "Configuration")
}

fn one_source(request: &CreateDeliveryStream) -> Result<(), Refusal> {
    let stream_type = request.stream_type.as_deref().unwrap_or("DirectPut");
    if request.kafka_source.is_some()
        || request.database_source.is_some()
        || !["DirectPut", "KinesisStreamAsSource"].contains(&stream_type)
    {
        return Err(Refusal::invalid(
            "only streams of type DirectPut or KinesisStreamAsSource, without another source, are supported here",
        ));
    }
    let wrong = match (stream_type, request.kinesis_source.is_some()) {
        ("DirectPut", true) => "KinesisStreamSourceConfiguration is not applicable for DirectPut type.",
        ("DirectPut", false) => return Ok(()),
        (_, false) => "KinesisStreamSourceConfiguration must be given for KinesisStreamAsSource type.",
        (_, true) if request.direct_put.is_some() => {
            "DirectPutSourceConfiguration is not applicable for KinesisStreamAsSource type."
        }
        (_, true) if request.encryption.is_some() => {
            "DeliveryStreamEncryptionConfigurationInput is not applicable for KinesisStreamAsSource type."
        }
        (_, true) => return Ok(()),
    };
    Err(Refusal::invalid(wrong))
}

/// Only constraints; rules look at what comes of the merge.
///
/// # Errors
/// As [`create`].
pub fn update(request: &UpdateDestination) -> Result<(), Refusal> {
    let mut violations = Violations::default();
    let at = At::Root;
    stream_name(&mut violations, at, request.name.as_deref());
    member::version(&mut violations, at.member("CurrentDeliveryStreamVersionId"), request.version.as_deref());
    let id_at = at.member("DestinationId");
    violations.required(id_at, request.destination.is_some());
    if let Some(id) = &request.destination {
        member::destination_id(&mut violations, id_at, id);
    }
    if let Some(s3) = &request.s3 {
        destination::s3(&mut violations, at.member("S3DestinationUpdate"), s3, Given::Part);
    }
    if let Some(s3) = &request.extended_s3 {
        destination::extended_s3(&mut violations, at.member("ExtendedS3DestinationUpdate"), s3, Given::Part);
    }
    if let Some(http) = &request.http_endpoint {
        destination::http_endpoint(
            &mut violations,
            at.member("HttpEndpointDestinationUpdate"),
            http,
            Given::Part,
        );
    }
    if let Some(splunk) = &request.splunk {
        let at = at.member("SplunkDestinationUpdate");
        requests::splunk(&mut violations, at, splunk, Given::Part);
    }
    for (name, cluster) in [
        ("AmazonopensearchserviceDestinationUpdate", &request.opensearch),
        ("ElasticsearchDestinationUpdate", &request.elasticsearch),
    ] {
        if let Some(cluster) = cluster {
            requests::opensearch(&mut violations, at.member(name), cluster, Given::Part);
        }
    }
    if let Some(given) = &request.redshift {
        redshift::redshift(&mut violations, at.member("RedshiftDestinationUpdate"), given, Given::Part);
    }
    violations.finish()?;
    let is_known = request.s3.is_some()
        || request.extended_s3.is_some()
        || request.http_endpoint.is_some()
        || request.splunk.is_some()
        || request.opensearch.is_some()
        || request.elasticsearch.is_some()
        || request.redshift.is_some();
    one_destination(&request.destinations(), is_known, "Update")
}

fn one_destination(given: &[&str], is_known: bool, what: &str) -> Result<(), Refusal> {
    match given {
        [_] if is_known => Ok(()),
        [other] => Err(Refusal::invalid(format!(
            "{other} is not supported here, expected S3Destination{what}, ExtendedS3Destination{what}, \
             HttpEndpointDestination{what}, SplunkDestination{what}, AmazonopensearchserviceDestination{what}, \
             ElasticsearchDestination{what} or RedshiftDestination{what}"
        ))),
        _ => Err(Refusal::invalid("Exactly one destination configuration is supported for a Firehose")),
    }
}

/// # Errors
/// `ValidationException`.
pub fn describe(request: &DescribeDeliveryStream) -> Result<(), Refusal> {
    let mut violations = Violations::default();
    let at = At::Root;
    stream_name(&mut violations, at, request.name.as_deref());
    limit(&mut violations, request.limit, 10_000);
    if let Some(id) = &request.exclusive_start {
        member::destination_id(&mut violations, at.member("ExclusiveStartDestinationId"), id);
    }
    violations.finish()
}

/// # Errors
/// `ValidationException`.
pub fn list(request: &ListDeliveryStreams) -> Result<(), Refusal> {
    let mut violations = Violations::default();
    let at = At::Root;
    limit(&mut violations, request.limit, 10_000);
    if let Some(stream_type) = &request.stream_type {
        violations.one_of(at.member("DeliveryStreamType"), stream_type, STREAM_TYPES);
    }
    if let Some(name) = &request.exclusive_start {
        optional_name(&mut violations, at.member("ExclusiveStartDeliveryStreamName"), name);
    }
    violations.finish()
}

/// # Errors
/// `ValidationException`.
pub fn delete(request: &DeleteDeliveryStream) -> Result<(), Refusal> {
    let mut violations = Violations::default();
    stream_name(&mut violations, At::Root, request.name.as_deref());
    violations.finish()
}

/// # Errors
/// `ValidationException`.
pub fn tag(request: &TagDeliveryStream) -> Result<(), Refusal> {
    let mut violations = Violations::default();
    let at = At::Root;
    stream_name(&mut violations, at, request.name.as_deref());
    violations.required(at.member("Tags"), request.tags.is_some());
    if let Some(given) = &request.tags {
        tags(&mut violations, at.member("Tags"), given);
    }
    violations.finish()
}

/// # Errors
/// `ValidationException`.
pub fn untag(request: &UntagDeliveryStream) -> Result<(), Refusal> {
    let mut violations = Violations::default();
    let at = At::Root;
    stream_name(&mut violations, at, request.name.as_deref());
    let list = at.member("TagKeys");
    violations.required(list, request.keys.is_some());
    if let Some(keys) = &request.keys {
        violations.count(list, keys.len(), 1, member::TAGS_MAX);
        for (index, key) in keys.iter().enumerate().take(member::TAGS_MAX) {
            tag_key(&mut violations, At::Item(&list, index), key);
        }
    }
    violations.finish()
}

/// # Errors
/// `ValidationException`.
pub fn list_tags(request: &ListTagsForDeliveryStream) -> Result<(), Refusal> {
    let mut violations = Violations::default();
    let at = At::Root;
    stream_name(&mut violations, at, request.name.as_deref());
    limit(&mut violations, request.limit, 50);
    if let Some(key) = &request.exclusive_start {
        tag_key(&mut violations, at.member("ExclusiveStartTagKey"), key);
    }
    violations.finish()
}

/// # Errors
/// `ValidationException`.
pub fn start_encryption(request: &StartDeliveryStreamEncryption) -> Result<(), Refusal> {
    let mut violations = Violations::default();
    let at = At::Root;
    stream_name(&mut violations, at, request.name.as_deref());
    if let Some(input) = &request.encryption {
        member::encryption(&mut violations, at.member("DeliveryStreamEncryptionConfigurationInput"), input);
    }
    violations.finish()
}

/// # Errors
/// `ValidationException`.
pub fn stop_encryption(request: &StopDeliveryStreamEncryption) -> Result<(), Refusal> {
    let mut violations = Violations::default();
    stream_name(&mut violations, At::Root, request.name.as_deref());
    violations.finish()
}

fn limit(violations: &mut Violations, limit: Option<i64>, max: i64) {
    if let Some(limit) = limit {
        violations.range(At::Root.member("Limit"), limit, 1, max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Kind, parse};

    const PLACE: &str = r#""RoleARN":"arn:aws:iam::1:role/r","BucketARN":"arn:aws:s3:::b""#;

    fn created(members: &str) -> Result<(), Refusal> {
        create(&parse(format!(r#"{{"DeliveryStreamName":"clicks",{members}}}"#).as_bytes()).unwrap())
    }

    #[test]
    fn a_stream_has_exactly_one_destination() {
        let s3 = format!(r#""ExtendedS3DestinationConfiguration":{{{PLACE}}}"#);
        assert_eq!(created(&s3), Ok(()));
        for members in [
            r#""Tags":[{"Key":"a"}]"#.to_owned(),
            format!(r#"{s3},"S3DestinationConfiguration":{{{PLACE}}}"#),
            format!(r#"{s3},"IcebergDestinationConfiguration":{{}}"#),
        ] {
            let refusal = created(&members).unwrap_err();
            assert_eq!(
                refusal.message, "Exactly one destination configuration is supported for a Firehose",
                "{members}"
            );
        }
        let refusal = created(r#""IcebergDestinationConfiguration":{"RoleARN":"arn:x"}"#).unwrap_err();
        assert_eq!(refusal.kind, Kind::InvalidArgument);
        assert!(
            refusal.message.starts_with("IcebergDestinationConfiguration is not supported here, expected S3"),
            "{refusal}"
        );
    }

    #[test]
    fn other_sources_are_refused() {
        let s3 = format!(r#""S3DestinationConfiguration":{{{PLACE}}}"#);
        assert_eq!(created(&format!(r#"{s3},"DeliveryStreamType":"DirectPut""#)), Ok(()));
        for members in [r#""DeliveryStreamType":"MSKAsSource""#, r#""DatabaseSourceConfiguration":{}"#] {
            let refusal = created(&format!("{s3},{members}")).unwrap_err();
            assert!(refusal.message.contains("DirectPut"), "{refusal}");
        }
        assert_eq!(
            created(&format!(r#"{s3},"DeliveryStreamType":"Put""#)).unwrap_err().kind,
            Kind::Validation
        );
    }

    #[test]
    fn source_in_kinesis_fits_the_type_of_the_stream() {
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/in";
        let source = format!(
            r#""KinesisStreamSourceConfiguration":{{"KinesisStreamARN":"{arn}","RoleARN":"arn:aws:iam::1:role/r"}}"#
        );
        let of_kinesis = r#""DeliveryStreamType":"KinesisStreamAsSource""#;
        let asked =
            |members: &str| created(&format!(r#""S3DestinationConfiguration":{{{PLACE}}},{members}"#));
        assert_eq!(asked(&format!("{of_kinesis},{source}")), Ok(()));
        let encrypted = r#""DeliveryStreamEncryptionConfigurationInput":{"KeyType":"AWS_OWNED_CMK"}"#;
        for (members, part) in [
            (source.clone(), "not applicable for DirectPut"),
            (of_kinesis.to_owned(), "must be given"),
            (format!("{of_kinesis},{source},{encrypted}"), "not applicable for KinesisStreamAsSource"),
            (
                format!(r#"{of_kinesis},{source},"DirectPutSourceConfiguration":{{}}"#),
                "not applicable for Kinesis",
            ),
        ] {
            let refusal = asked(&members).unwrap_err();
            assert_eq!(refusal.kind, Kind::InvalidArgument);
            assert!(refusal.message.contains(part), "{members}: {refusal}");
        }
        for wrong in
            ["arn:aws:kinesis:eu-west-1:1:stream/in", "arn:aws:kinesis::123456789012:stream/in", "in"]
        {
            let refusal = asked(&format!("{of_kinesis},{}", source.replace(arn, wrong))).unwrap_err();
            assert_eq!(refusal.kind, Kind::Validation, "{wrong}: {refusal}");
        }
        let refusal = asked(&format!(r#"{of_kinesis},"KinesisStreamSourceConfiguration":{{}}"#)).unwrap_err();
        assert!(refusal.message.starts_with("2 validation errors"), "{refusal}");
    }

    #[test]
    fn constraints_of_a_request_are_told_together_and_before_rules() {
        let refusal = created(
            r#""Tags":[],"DeliveryStreamEncryptionConfigurationInput":{"KeyType":"X","KeyARN":"y"},
               "DirectPutSourceConfiguration":{"ThroughputHintInMBs":0},"HttpEndpointDestinationConfiguration":{}"#,
        )
        .unwrap_err();
        assert_eq!(refusal.kind, Kind::Validation);
        for at in [
            "'tags'",
            "'deliveryStreamEncryptionConfigurationInput.keyType'",
            "'deliveryStreamEncryptionConfigurationInput.keyARN'",
            "'directPutSourceConfiguration.throughputHintInMBs'",
            "'httpEndpointDestinationConfiguration.endpointConfiguration'",
        ] {
            assert!(refusal.message.contains(at), "{at}: {refusal}");
        }
    }

    #[test]
    fn an_update_names_stream_version_and_destination() {
        let refusal = update(&UpdateDestination::default()).unwrap_err();
        assert!(refusal.message.starts_with("3 validation errors"), "{refusal}");
        let named = r#""DeliveryStreamName":"a","CurrentDeliveryStreamVersionId":"1","DestinationId":"destinationId-000000000001""#;
        let ask = |members: &str| update(&parse(format!("{{{named}{members}}}").as_bytes()).unwrap());
        assert_eq!(ask(r#","ExtendedS3DestinationUpdate":{}"#), Ok(()));
        assert!(ask("").unwrap_err().message.starts_with("Exactly one"));
        assert!(
            ask(r#","IcebergDestinationUpdate":{}"#).unwrap_err().message.contains("is not supported here")
        );
        let version = UpdateDestination { version: Some("v1".to_owned()), ..UpdateDestination::default() };
        assert!(update(&version).unwrap_err().message.contains("pattern: [0-9]+"));
    }

    #[test]
    fn pages_have_a_size() {
        for (limit, fits) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
            let request = ListDeliveryStreams { limit: Some(limit), ..ListDeliveryStreams::default() };
            assert_eq!(list(&request).is_ok(), fits, "{limit}");
        }
        let name = Some("a".to_owned());
        for (limit, fits) in [(0, false), (50, true), (51, false)] {
            let request =
                ListTagsForDeliveryStream { name: name.clone(), limit: Some(limit), exclusive_start: None };
            assert_eq!(list_tags(&request).is_ok(), fits, "{limit}");
        }
        let request =
            DescribeDeliveryStream { name, limit: Some(0), exclusive_start: Some("a b".to_owned()) };
        assert!(describe(&request).unwrap_err().message.starts_with("2 validation errors"));
    }

    #[test]
    fn every_request_about_a_stream_names_it() {
        let refusals = [
            delete(&DeleteDeliveryStream::default()),
            tag(&TagDeliveryStream::default()),
            untag(&UntagDeliveryStream::default()),
            list_tags(&ListTagsForDeliveryStream::default()),
            start_encryption(&StartDeliveryStreamEncryption::default()),
            stop_encryption(&StopDeliveryStreamEncryption::default()),
            describe(&DescribeDeliveryStream::default()),
        ];
        for refusal in refusals {
            assert!(refusal.unwrap_err().message.contains("Value null at 'deliveryStreamName'"));
        }
    }
}
