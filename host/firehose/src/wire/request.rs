//! Requests of the control operations.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::destination::{ExtendedS3, HttpEndpoint, OpenSearch, Redshift, S3, Splunk};
use super::members::members;

members! {
    /// A label of a stream.
    Tag {
        key: String = "Key",
        value: String = "Value",
    }
}

members! {
    /// How records are encrypted at rest.
    EncryptionInput {
        key_arn: String = "KeyARN",
        key_type: String = "KeyType",
    }
}

members! {
    DirectPutSource {
        throughput_hint_in_mbs: i64 = "ThroughputHintInMBs",
    }
}

members! {
    /// A stream of Kinesis Data Streams that records are read from.
    KinesisSource {
        stream_arn: String = "KinesisStreamARN",
        role_arn: String = "RoleARN",
    }
}

/// Destinations of a request: those that are read, and whether one of those is there that are not.
macro_rules! with_destinations {
    (
        $(#[$meta:meta])* $name:ident {
            $($member:ident: $type:ty = $wire:literal,)+
        }
        known { $($known:ident: $known_type:ty = $known_wire:literal,)+ }
        others { $($other:ident = $other_wire:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, Deserialize)]
        pub struct $name {
            $(#[serde(rename = $wire)] pub $member: Option<$type>,)+
            $(#[serde(rename = $known_wire)] pub $known: Option<$known_type>,)+
            $(#[serde(rename = $other_wire)] pub $other: Option<IgnoredAny>,)+
        }

        impl $name {
            /// Names of the destinations that are given.
            pub fn destinations(&self) -> Vec<&'static str> {
                let mut given = Vec::new();
                $(if self.$known.is_some() { given.push($known_wire); })+
                $(if self.$other.is_some() { given.push($other_wire); })+
                given
            }
        }
    };
}

with_destinations! {
    /// See the API Reference.
    CreateDeliveryStream {
        name: String = "DeliveryStreamName",
        stream_type: String = "DeliveryStreamType",
        direct_put: DirectPutSource = "DirectPutSourceConfiguration",
        encryption: EncryptionInput = "DeliveryStreamEncryptionConfigurationInput",
        tags: Vec<Tag> = "Tags",
        kinesis_source: KinesisSource = "KinesisStreamSourceConfiguration",
        kafka_source: IgnoredAny = "MSKSourceConfiguration",
        database_source: IgnoredAny = "DatabaseSourceConfiguration",
    }
    known {
        s3: S3 = "S3DestinationConfiguration",
        extended_s3: ExtendedS3 = "ExtendedS3DestinationConfiguration",
        http_endpoint: HttpEndpoint = "HttpEndpointDestinationConfiguration",
        splunk: Splunk = "SplunkDestinationConfiguration",
        opensearch: OpenSearch = "AmazonopensearchserviceDestinationConfiguration",
        elasticsearch: OpenSearch = "ElasticsearchDestinationConfiguration",
        redshift: Redshift = "RedshiftDestinationConfiguration",
    }
    others {
        opensearch_serverless = "AmazonOpenSearchServerlessDestinationConfiguration",
        snowflake = "SnowflakeDestinationConfiguration",
        iceberg = "IcebergDestinationConfiguration",
    }
}

with_destinations! {
    /// See the API Reference.
    UpdateDestination {
        name: String = "DeliveryStreamName",
        version: String = "CurrentDeliveryStreamVersionId",
        destination: String = "DestinationId",
    }
    known {
        s3: S3 = "S3DestinationUpdate",
        extended_s3: ExtendedS3 = "ExtendedS3DestinationUpdate",
        http_endpoint: HttpEndpoint = "HttpEndpointDestinationUpdate",
        splunk: Splunk = "SplunkDestinationUpdate",
        opensearch: OpenSearch = "AmazonopensearchserviceDestinationUpdate",
        elasticsearch: OpenSearch = "ElasticsearchDestinationUpdate",
        redshift: Redshift = "RedshiftDestinationUpdate",
    }
    others {
        opensearch_serverless = "AmazonOpenSearchServerlessDestinationUpdate",
        snowflake = "SnowflakeDestinationUpdate",
        iceberg = "IcebergDestinationUpdate",
    }
}

members! {
    /// See the API Reference.
    DescribeDeliveryStream {
        name: String = "DeliveryStreamName",
        limit: i64 = "Limit",
        exclusive_start: String = "ExclusiveStartDestinationId",
    }
}

members! {
    /// See the API Reference.
    ListDeliveryStreams {
        limit: i64 = "Limit",
        stream_type: String = "DeliveryStreamType",
        exclusive_start: String = "ExclusiveStartDeliveryStreamName",
    }
}

members! {
    /// See the API Reference.
    DeleteDeliveryStream {
        name: String = "DeliveryStreamName",
        allow_force: bool = "AllowForceDelete",
    }
}

members! {
    /// See the API Reference.
    TagDeliveryStream {
        name: String = "DeliveryStreamName",
        tags: Vec<Tag> = "Tags",
    }
}

members! {
    /// See the API Reference.
    UntagDeliveryStream {
        name: String = "DeliveryStreamName",
        keys: Vec<String> = "TagKeys",
    }
}

members! {
    /// See the API Reference.
    ListTagsForDeliveryStream {
        name: String = "DeliveryStreamName",
        exclusive_start: String = "ExclusiveStartTagKey",
        limit: i64 = "Limit",
    }
}

members! {
    /// See the API Reference.
    StartDeliveryStreamEncryption {
        name: String = "DeliveryStreamName",
        encryption: EncryptionInput = "DeliveryStreamEncryptionConfigurationInput",
    }
}

members! {
    /// See the API Reference.
    StopDeliveryStreamEncryption {
        name: String = "DeliveryStreamName",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Kind, parse};

    #[test]
    fn every_destination_of_the_api_is_recognised() {
        for kind in [
            "S3",
            "ExtendedS3",
            "HttpEndpoint",
            "Redshift",
            "Elasticsearch",
            "Amazonopensearchservice",
            "AmazonOpenSearchServerless",
            "Splunk",
            "Snowflake",
            "Iceberg",
        ] {
            let body = format!(r#"{{"{kind}DestinationConfiguration":{{}}}}"#);
            let create: CreateDeliveryStream = parse(body.as_bytes()).unwrap();
            assert_eq!(create.destinations(), [format!("{kind}DestinationConfiguration")]);
            let body = format!(r#"{{"{kind}DestinationUpdate":{{}}}}"#);
            let update: UpdateDestination = parse(body.as_bytes()).unwrap();
            assert_eq!(update.destinations(), [format!("{kind}DestinationUpdate")]);
        }
    }

    #[test]
    fn null_is_absent_and_an_empty_body_is_an_empty_object() {
        let list: ListDeliveryStreams = parse(br#"{"Limit":null,"Unknown":1}"#).unwrap();
        assert_eq!(list, ListDeliveryStreams::default());
        assert_eq!(parse::<ListDeliveryStreams>(b" \n").unwrap(), ListDeliveryStreams::default());
        let create: CreateDeliveryStream = parse(br#"{"SplunkDestinationConfiguration":null}"#).unwrap();
        assert!(create.destinations().is_empty());
    }

    #[test]
    fn members_of_another_type_are_refused() {
        for body in
            [r#"{"Limit":"10"}"#, r#"{"Limit":1.5}"#, r#"{"Limit":true}"#, r#"{"DeliveryStreamType":[]}"#]
        {
            let refusal = parse::<ListDeliveryStreams>(body.as_bytes()).unwrap_err();
            assert_eq!(refusal.kind, Kind::Serialization, "{body}");
        }
    }
}
