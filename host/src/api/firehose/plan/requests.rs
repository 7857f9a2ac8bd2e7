//! Destinations that records are sent to one by one, as outputs; what they do not take goes to the bucket beside them.

use serde_json::{Map, Value, json};
use wasmill_firehose::wire::{
    ExtendedS3, HttpEndpoint, OpenSearch, Processing, Refusal, RetryOptions, S3, Secret, SecretsManager,
    Splunk,
};

use super::{
    FirehoseSettings, Names, Steps, backup_output, bucket, buffer, letters, names, no_kms, not_here,
    steps_are_names, whole,
};

/// For an answer.
const ANSWERED_WITHIN: &str = "180s";

/// What all of them have.
struct Common<'a> {
    processing: Option<&'a Processing>,
    backup_mode: Option<&'a str>,
    s3: Option<&'a S3>,
    retry: Option<&'a RetryOptions>,
    version: u64,
}

impl Common<'_> {
    /// The stream with this output, once it has what they have in common. Where records are text, what stands behind each
    /// follows from the processors.
    fn stream(
        self,
        mut output: Map<String, Value>,
        is_text: bool,
        firehose: &FirehoseSettings,
    ) -> Result<Value, Refusal> {
        let s3 = ExtendedS3::from(self.s3.cloned().unwrap_or_default());
        no_kms(&s3)?;
        steps_are_names(&s3, "S3Configuration.")?;
        let bucket = bucket(s3.bucket_arn.as_deref().unwrap_or_default())?;
        let steps = Steps::of(self.processing)?;
        if is_text {
            output.insert("format".to_owned(), steps.format().into());
        }
        let seconds = self.retry.and_then(|retry| retry.duration_in_seconds).unwrap_or(300);
        output.insert("timeout".to_owned(), ANSWERED_WITHIN.into());
        let retry = json!({ "initial": "1s", "max": "120s", "for": format!("{seconds}s") });
        output.insert("retry".to_owned(), retry);
        let hints = s3.buffering_hints.clone().unwrap_or_default();
        let interval = format!("{}s", hints.interval_in_seconds.unwrap_or(300)).into();
        let Names { errors, .. } = names(&s3, self.version);
        let mut stream = whole(steps, output, letters(bucket, errors, interval, firehose));
        // AllData, AllEvents, AllDocuments: all that came in, beside what failed.
        if self.backup_mode.is_some_and(|mode| mode.starts_with("All")) {
            stream["backup"] = backup_output(&s3, self.version, firehose)?;
        }
        Ok(stream)
    }
}

pub(super) fn no_manager(manager: Option<&SecretsManager>, instead: &str) -> Result<(), Refusal> {
    match manager.is_some_and(|manager| manager.enabled == Some(true)) {
        true => Err(not_here("SecretsManagerConfiguration", instead)),
        false => Ok(()),
    }
}

fn secret(secret: Option<&Secret>) -> Option<Value> {
    secret.filter(|secret| !secret.0.is_empty()).map(|secret| secret.0.as_str().into())
}

pub(super) fn http_endpoint(
    http: &HttpEndpoint,
    version: u64,
    firehose: &FirehoseSettings,
) -> Result<Value, Refusal> {
    no_manager(http.secrets_manager.as_ref(), "give AccessKey")?;
    let (place, request) =
        (http.endpoint.clone().unwrap_or_default(), http.request.clone().unwrap_or_default());
    let mut output = Map::new();
    output.insert("type".to_owned(), "http".into());
    output.insert("protocol".to_owned(), "firehose".into());
    output.insert("url".to_owned(), place.url.unwrap_or_default().into());
    if let Some(key) = secret(place.access_key.as_ref()) {
        output.insert("access_key".to_owned(), key);
    }
    let attributes: Map<String, Value> = request
        .common_attributes
        .into_iter()
        .flatten()
        .map(|attribute| (attribute.name.unwrap_or_default(), attribute.value.unwrap_or_default().into()))
        .collect();
    output.insert("common_attributes".to_owned(), attributes.into());
    let is_packed = request.content_encoding.as_deref() == Some("GZIP");
    output.insert("compression".to_owned(), if is_packed { "gzip" } else { "none" }.into());
    buffer(&mut output, &http.buffering_hints.clone().unwrap_or_default());
    let common = Common {
        processing: http.processing.as_ref(),
        backup_mode: http.backup_mode.as_deref(),
        s3: http.s3.as_ref(),
        retry: http.retry.as_ref(),
        version,
    };
    common.stream(output, true, firehose)
}

pub(super) fn splunk(splunk: &Splunk, version: u64, firehose: &FirehoseSettings) -> Result<Value, Refusal> {
    no_manager(splunk.secrets_manager.as_ref(), "give HECToken")?;
    let mut output = Map::new();
    output.insert("type".to_owned(), "splunk".into());
    output.insert("url".to_owned(), splunk.hec_endpoint.clone().unwrap_or_default().into());
    let is_raw = splunk.hec_endpoint_type.as_deref() == Some("Raw");
    output.insert("endpoint".to_owned(), if is_raw { "raw" } else { "event" }.into());
    output.insert("token".to_owned(), secret(splunk.hec_token.as_ref()).unwrap_or_default());
    let seconds = splunk.acknowledgment_timeout.unwrap_or(180);
    output.insert("acknowledged_within".to_owned(), format!("{seconds}s").into());
    buffer(&mut output, &splunk.buffering_hints.clone().unwrap_or_default());
    let common = Common {
        processing: splunk.processing.as_ref(),
        backup_mode: splunk.backup_mode.as_deref(),
        s3: splunk.s3.as_ref(),
        retry: splunk.retry.as_ref(),
        version,
    };
    common.stream(output, true, firehose)
}

pub(super) fn opensearch(
    cluster: &OpenSearch,
    version: u64,
    firehose: &FirehoseSettings,
) -> Result<Value, Refusal> {
    let Some(url) = &cluster.cluster_endpoint else {
        return Err(not_here("DomainARN", "give ClusterEndpoint, with user and password if it has them"));
    };
    if cluster.vpc.is_some() {
        return Err(not_here("VpcConfiguration", "the host is where it is"));
    }
    let mut output = Map::new();
    output.insert("type".to_owned(), "opensearch".into());
    output.insert("url".to_owned(), url.as_str().into());
    output.insert("index".to_owned(), cluster.index_name.clone().unwrap_or_default().into());
    let rotation = match cluster.index_rotation_period.as_deref() {
        Some("NoRotation") => "none",
        Some("OneHour") => "hour",
        Some("OneWeek") => "week",
        Some("OneMonth") => "month",
        _ => "day",
    };
    output.insert("rotation".to_owned(), rotation.into());
    let format = cluster.document_id.as_ref().and_then(|document| document.default_format.as_deref());
    output.insert("document_ids".to_owned(), (format != Some("NO_DOCUMENT_ID")).into());
    buffer(&mut output, &cluster.buffering_hints.clone().unwrap_or_default());
    let common = Common {
        processing: cluster.processing.as_ref(),
        backup_mode: cluster.backup_mode.as_deref(),
        s3: cluster.s3.as_ref(),
        retry: cluster.retry.as_ref(),
        version,
    };
    common.stream(output, false, firehose)
}

#[cfg(test)]
mod tests {
    use wasmill_firehose::description::Definition;
    use wasmill_firehose::wire;

    use super::*;

    fn planned(kind: &str, members: Value) -> Result<Value, Refusal> {
        let mut destination = members;
        destination["S3Configuration"] = json!({
            "RoleARN": "arn:aws:iam::1:role/r", "BucketARN": "arn:aws:s3:::lake", "ErrorOutputPrefix": "bad/",
        });
        let request = json!({ "DeliveryStreamName": "clicks", kind: destination });
        let request = wire::parse(request.to_string().as_bytes())?;
        let firehose = FirehoseSettings {
            region: "eu-west-1".to_owned(),
            account: "123456789012".to_owned(),
            endpoint: None,
            path_style: false,
            kinesis_endpoint: None,
            encrypted_disk: false,
            schemas: [].into(),
        };
        super::super::stream(&Definition::create(request, 1)?, &firehose)
    }

    #[test]
    fn http_endpoint_is_an_http_output_in_its_protocol_and_a_bucket_of_what_failed() {
        let planned = planned(
            "HttpEndpointDestinationConfiguration",
            json!({
                "EndpointConfiguration": { "Url": "https://a.example/in", "Name": "a", "AccessKey": "k" },
                "RequestConfiguration": { "ContentEncoding": "GZIP", "CommonAttributes": [
                    { "AttributeName": "deployment", "AttributeValue": "pre" },
                ] },
                "RetryOptions": { "DurationInSeconds": 0 },
                "ProcessingConfiguration": { "Enabled": true, "Processors": [{ "Type": "AppendDelimiterToRecord" }] },
            }),
        )
        .unwrap();
        assert_eq!(
            planned["outputs"],
            json!([{
                "type": "http", "protocol": "firehose", "url": "https://a.example/in", "access_key": "k",
                "common_attributes": { "deployment": "pre" }, "compression": "gzip", "format": "raw", "size": "5MiB",
                "interval": "300s", "timeout": "180s", "retry": { "initial": "1s", "max": "120s", "for": "0s" },
            }])
        );
        let letters = &planned["dead_letters"]["output"];
        assert_eq!((letters["bucket"].as_str(), letters["prefix"].as_str()), (Some("lake"), Some("bad/")));
    }

    #[test]
    fn splunk_and_opensearch_are_outputs_of_their_types() {
        let splunk = planned(
            "SplunkDestinationConfiguration",
            json!({ "HECEndpoint": "https://s.example:8088", "HECEndpointType": "Raw", "HECToken": "t" }),
        )
        .unwrap();
        assert_eq!(
            splunk["outputs"],
            json!([{
                "type": "splunk", "url": "https://s.example:8088", "endpoint": "raw", "token": "t",
                "acknowledged_within": "180s", "format": "verbatim", "size": "5MiB", "interval": "60s",
                "timeout": "180s", "retry": { "initial": "1s", "max": "120s", "for": "300s" },
            }])
        );
        let cluster = |more: Value| {
            let mut members = json!({
                "RoleARN": "arn:aws:iam::1:role/r", "ClusterEndpoint": "https://u:p@o.example", "IndexName": "logs",
            });
            members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            planned("AmazonopensearchserviceDestinationConfiguration", members)
        };
        let whole = cluster(json!({ "IndexRotationPeriod": "OneWeek" })).unwrap();
        assert_eq!(
            whole["outputs"],
            json!([{
                "type": "opensearch", "url": "https://u:p@o.example", "index": "logs", "rotation": "week",
                "document_ids": true, "size": "5MiB", "interval": "300s", "timeout": "180s",
                "retry": { "initial": "1s", "max": "120s", "for": "300s" },
            }])
        );
        let elasticsearch = planned(
            "ElasticsearchDestinationConfiguration",
            json!({
                "RoleARN": "arn:aws:iam::1:role/r", "ClusterEndpoint": "https://u:p@o.example", "IndexName": "logs",
                "IndexRotationPeriod": "OneWeek",
            }),
        );
        assert_eq!(elasticsearch.unwrap(), whole);
        let plain =
            cluster(json!({ "DocumentIdOptions": { "DefaultDocumentIdFormat": "NO_DOCUMENT_ID" } })).unwrap();
        assert_eq!(
            (plain["outputs"][0]["rotation"].as_str(), plain["outputs"][0]["document_ids"].as_bool()),
            (Some("day"), Some(false))
        );
        let all = cluster(json!({ "S3BackupMode": "AllDocuments" })).unwrap();
        assert_eq!(
            all["backup"],
            json!({
                "type": "s3", "bucket": "lake", "prefix": "", "region": "eu-west-1", "path_style": false,
                "firehose": { "prefix": "", "version": 1 }, "format": "verbatim", "compression": "none",
                "size": "5MiB", "interval": "300s", "retry": { "for": "24h" },
            })
        );
        assert_eq!(whole.get("backup"), None);
        for (wrong, part) in [
            (json!({ "VpcConfiguration": { "SubnetIds": ["a"] } }), "VpcConfiguration"),
            (
                json!({ "ClusterEndpoint": null, "DomainARN": "arn:aws:es:eu-west-1:1:domain/d" }),
                "ClusterEndpoint",
            ),
        ] {
            let refusal = cluster(wrong.clone()).unwrap_err();
            assert!(refusal.message.contains(part), "{wrong}: {refusal}");
        }
    }
}
