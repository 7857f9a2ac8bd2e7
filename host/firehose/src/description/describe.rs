//! `DescribeDeliveryStream`: a definition as clients see it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{DESTINATION_ID, Definition, Destination, EncryptionStatus};
use crate::wire::{DescribeDeliveryStream, S3};

/// Where a stream is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    Creating,
    CreatingFailed,
    Deleting,
    DeletingFailed,
    Active,
}

/// What a description says that is no part of the definition.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub region: &'a str,
    pub account: &'a str,
    pub status: Status,
    /// Why creating or deleting failed: a type of the API's `DeliveryStreamFailureType`, and details.
    pub failure: Option<(&'a str, &'a str)>,
}

/// The name of a stream over all of AWS.
pub fn arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:aws:firehose:{region}:{account}:deliverystream/{name}")
}

impl Definition {
    /// The reply to `DescribeDeliveryStream`. Secrets are not in it.
    pub fn describe(&self, request: &DescribeDeliveryStream, seen: &Seen<'_>) -> Value {
        let mut description = json!({
            "DeliveryStreamName": self.name,
            "DeliveryStreamARN": arn(seen.region, seen.account, &self.name),
            "DeliveryStreamStatus": seen.status,
            "DeliveryStreamType": self.stream_type(),
            "VersionId": self.version_id(),
            "CreateTimestamp": seconds(self.created_at),
            "DeliveryStreamEncryptionConfiguration": self.describe_encryption(),
            "Destinations": [],
            "HasMoreDestinations": false,
        });
        if let Some(updated_at) = self.updated_at {
            description["LastUpdateTimestamp"] = seconds(updated_at);
        }
        if let Some(hint) = self.throughput_hint {
            description["Source"] = json!({"DirectPutSourceDescription": {"ThroughputHintInMBs": hint}});
        }
        if let Some(source) = &self.source {
            // Records are read from what came into Kinesis at that moment on.
            let mut source = object(source);
            source["DeliveryStartTimestamp"] = seconds(self.created_at);
            description["Source"] = json!({"KinesisStreamSourceDescription": source});
        }
        if let Some((failure, details)) = seen.failure {
            description["FailureDescription"] = json!({"Type": failure, "Details": details});
        }
        let is_before = request.exclusive_start.as_deref().is_none_or(|start| start < DESTINATION_ID);
        if is_before {
            let mut destination = self.destination.describe();
            destination.insert("DestinationId".to_owned(), Value::from(DESTINATION_ID));
            description["Destinations"] = json!([destination]);
        }
        json!({"DeliveryStreamDescription": description})
    }

    fn describe_encryption(&self) -> Value {
        let state = &self.encryption;
        match (&state.status, &state.key_type) {
            (EncryptionStatus::Disabled, _) | (_, None) => json!({"Status": state.status}),
            (EncryptionStatus::Enabled, Some(key_type)) => {
                let mut shown = json!({"Status": state.status, "KeyType": key_type});
                if let Some(key_arn) = &state.key_arn {
                    shown["KeyARN"] = Value::from(key_arn.as_str());
                }
                shown
            }
        }
    }
}

impl Destination {
    fn describe(&self) -> Map<String, Value> {
        let mut shown = Map::new();
        match self {
            Destination::S3(s3) => {
                shown.insert("S3DestinationDescription".to_owned(), object(s3));
            }
            Destination::ExtendedS3(extended) => {
                let mut whole = object(extended);
                rename(&mut whole, "S3BackupConfiguration", "S3BackupDescription");
                shown.insert("S3DestinationDescription".to_owned(), object::<S3>(&extended.plain()));
                shown.insert("ExtendedS3DestinationDescription".to_owned(), whole);
            }
            Destination::HttpEndpoint(http) => {
                let mut whole = object(http);
                rename(&mut whole, "S3Configuration", "S3DestinationDescription");
                if let Some(Value::Object(endpoint)) = whole.get_mut("EndpointConfiguration") {
                    endpoint.remove("AccessKey");
                }
                shown.insert("HttpEndpointDestinationDescription".to_owned(), whole);
            }
            Destination::Splunk(splunk) => {
                let mut whole = object(splunk);
                rename(&mut whole, "S3Configuration", "S3DestinationDescription");
                if let Value::Object(members) = &mut whole {
                    members.remove("HECToken");
                }
                shown.insert("SplunkDestinationDescription".to_owned(), whole);
            }
            Destination::OpenSearch(cluster) | Destination::Elasticsearch(cluster) => {
                let mut whole = object(cluster);
                rename(&mut whole, "S3Configuration", "S3DestinationDescription");
                rename(&mut whole, "VpcConfiguration", "VpcConfigurationDescription");
                if let Some(Value::String(url)) = whole.get_mut("ClusterEndpoint") {
                    *url = without_user(url);
                }
                let name = match self {
                    Destination::Elasticsearch(_) => "ElasticsearchDestinationDescription",
                    _ => "AmazonopensearchserviceDestinationDescription",
                };
                shown.insert(name.to_owned(), whole);
            }
            Destination::Redshift(redshift) => {
                let mut whole = object(redshift);
                rename(&mut whole, "S3Configuration", "S3DestinationDescription");
                rename(&mut whole, "S3BackupConfiguration", "S3BackupDescription");
                if let Value::Object(members) = &mut whole {
                    members.remove("Password");
                }
                shown.insert("RedshiftDestinationDescription".to_owned(), whole);
            }
        }
        shown
    }
}

/// A URL without the user and password that it may have.
fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.rsplit_once('@').map_or(url, |(_, rest)| rest).to_owned(),
    }
}

/// Structures of texts and numbers are always objects.
fn object<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Value::Object(members) = object
        && let Some(value) = members.remove(from)
    {
        members.insert(to.to_owned(), value);
    }
}

/// Milliseconds as the number of seconds that JSON of AWS has.
fn seconds(millis: u64) -> Value {
    // Exact for all moments of the next thousand years: they need 45 bits.
    Value::from(millis as f64 / 1000.0)
}
