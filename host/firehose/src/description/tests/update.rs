//! Updates: what is merged, what is replaced, and what is refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn an_update_needs_the_version_and_the_destination_that_are_there() {
    let definition = extended(json!({}));
    let next = updated(&definition, "ExtendedS3DestinationUpdate", json!({"Prefix": "a/"})).unwrap();
    assert_eq!((next.version_id().as_str(), next.updated_at), ("2", Some(CREATED + 1000)));
    assert_eq!(described(&next)["LastUpdateTimestamp"], json!(1_783_952_117.25));
    let mut request: UpdateDestination = parse(
        json!({"DeliveryStreamName": "clicks", "CurrentDeliveryStreamVersionId": "1", "DestinationId": DESTINATION_ID,
               "ExtendedS3DestinationUpdate": {}})
        .to_string()
        .as_bytes(),
    )
    .unwrap();
    refused(
        next.update(request.clone(), 0),
        Kind::ConcurrentModification,
        "current version id: 2 and specified version id: 1",
    );
    request.destination = Some("destinationId-000000000002".to_owned());
    refused(definition.update(request, 0), Kind::InvalidArgument, DESTINATION_ID);
}

#[test]
fn the_same_type_is_merged_member_by_member() {
    let definition = extended(json!({"Prefix": "a/", "CompressionFormat": "GZIP", "FileExtension": ".json"}));
    let next = updated(
        &definition,
        "ExtendedS3DestinationUpdate",
        json!({"Prefix": "b/", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0}}),
    )
    .unwrap();
    let description = shown(&next, "ExtendedS3DestinationDescription");
    assert_eq!(description["Prefix"], "b/");
    assert_eq!(description["CompressionFormat"], "GZIP");
    assert_eq!(description["FileExtension"], ".json");
    assert_eq!(description["BufferingHints"], json!({"SizeInMBs": 1, "IntervalInSeconds": 0}));
    refused(
        updated(&definition, "ExtendedS3DestinationUpdate", json!({"BufferingHints": {"SizeInMBs": 1}})),
        Kind::InvalidArgument,
        "both SizeInMBs and IntervalInSeconds",
    );
    // By its deprecated name too, which keeps what that does not know.
    let next = updated(&definition, "S3DestinationUpdate", json!({"Prefix": "c/"})).unwrap();
    let description = shown(&next, "ExtendedS3DestinationDescription");
    assert_eq!((&description["Prefix"], &description["FileExtension"]), (&json!("c/"), &json!(".json")));
    let plain = created(json!({"S3DestinationConfiguration": bucket(json!({"Prefix": "a"}))})).unwrap();
    let next = updated(&plain, "ExtendedS3DestinationUpdate", json!({"FileExtension": ".x"})).unwrap();
    assert_eq!(shown(&next, "ExtendedS3DestinationDescription")["Prefix"], "a");
}

#[test]
fn conversion_is_merged_within_and_omitted_means_enabled() {
    let conversion = json!({
        "SchemaConfiguration": {"TableName": "t"},
        "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
        "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
    });
    let definition = extended(json!({"DataFormatConversionConfiguration": conversion}));
    let description = shown(&definition, "ExtendedS3DestinationDescription");
    assert_eq!(description["DataFormatConversionConfiguration"]["Enabled"], true);
    assert_eq!(description["BufferingHints"]["SizeInMBs"], 128);
    let update = json!({"DataFormatConversionConfiguration": {"SchemaConfiguration": {"TableName": "u"}, "Enabled": false}});
    let off = updated(&definition, "ExtendedS3DestinationUpdate", update).unwrap();
    let merged = &shown(&off, "ExtendedS3DestinationDescription")["DataFormatConversionConfiguration"];
    assert_eq!(
        (&merged["SchemaConfiguration"]["TableName"], &merged["Enabled"]),
        (&json!("u"), &json!(false))
    );
    assert_eq!(merged["OutputFormatConfiguration"], conversion["OutputFormatConfiguration"]);
    let update = json!({"DataFormatConversionConfiguration": {"SchemaConfiguration": {"TableName": "v"}}});
    let on = updated(&off, "ExtendedS3DestinationUpdate", update).unwrap();
    assert_eq!(
        shown(&on, "ExtendedS3DestinationDescription")["DataFormatConversionConfiguration"]["Enabled"],
        true
    );
}

#[test]
fn processing_is_replaced_whole_and_omitted_means_disabled() {
    let lambda = json!({"Enabled": true, "Processors": [
        {"Type": "Lambda", "Parameters": [{"ParameterName": "LambdaArn", "ParameterValue": "arn:x"},
                                          {"ParameterName": "NumberOfRetries", "ParameterValue": "1"}]},
        {"Type": "AppendDelimiterToRecord"}]});
    let definition = extended(json!({"ProcessingConfiguration": lambda}));
    let processing = &shown(&definition, "ExtendedS3DestinationDescription")["ProcessingConfiguration"];
    assert_eq!(
        processing["Processors"][0]["Parameters"],
        json!([
            {"ParameterName": "LambdaArn", "ParameterValue": "arn:x"},
            {"ParameterName": "NumberOfRetries", "ParameterValue": "1"},
            {"ParameterName": "RoleArn", "ParameterValue": "arn:aws:iam::1:role/r"},
            {"ParameterName": "BufferSizeInMBs", "ParameterValue": "1"},
            {"ParameterName": "BufferIntervalInSeconds", "ParameterValue": "60"},
        ])
    );
    let update = json!({"ProcessingConfiguration": {"Processors": []}});
    let next = updated(&definition, "ExtendedS3DestinationUpdate", update).unwrap();
    let processing = &shown(&next, "ExtendedS3DestinationDescription")["ProcessingConfiguration"];
    assert_eq!(*processing, json!({"Enabled": false, "Processors": []}));
}

#[test]
fn backup_can_be_enabled_and_never_disabled() {
    let definition = extended(json!({}));
    let on = json!({"S3BackupMode": "Enabled"});
    refused(
        updated(&definition, "ExtendedS3DestinationUpdate", on),
        Kind::InvalidArgument,
        "S3BackupConfiguration must be given",
    );
    let part = json!({"S3BackupMode": "Enabled", "S3BackupUpdate": {"Prefix": "raw/"}});
    refused(
        updated(&definition, "ExtendedS3DestinationUpdate", part),
        Kind::InvalidArgument,
        "needs RoleARN and BucketARN",
    );
    let whole = json!({"S3BackupMode": "Enabled", "S3BackupUpdate": bucket(json!({"Prefix": "raw/"}))});
    let definition = updated(&definition, "ExtendedS3DestinationUpdate", whole).unwrap();
    let update = json!({"S3BackupUpdate": {"CompressionFormat": "GZIP"}});
    let definition = updated(&definition, "ExtendedS3DestinationUpdate", update).unwrap();
    let backup = &shown(&definition, "ExtendedS3DestinationDescription")["S3BackupDescription"];
    assert_eq!((&backup["Prefix"], &backup["CompressionFormat"]), (&json!("raw/"), &json!("GZIP")));
    let off = json!({"S3BackupMode": "Disabled"});
    refused(
        updated(&definition, "ExtendedS3DestinationUpdate", off),
        Kind::InvalidArgument,
        "once it is Enabled",
    );
    // What only configurations have is ignored in an update.
    let update = json!({"S3BackupConfiguration": {"Prefix": "x/"}});
    let same = updated(&definition, "ExtendedS3DestinationUpdate", update).unwrap();
    assert_eq!(same.destination, definition.destination);
}

#[test]
fn partitioning_is_fixed_at_creation() {
    let members = json!({
        "Prefix": "!{partitionKeyFromQuery:k}/",
        "ErrorOutputPrefix": "!{firehose:error-output-type}/",
        "DynamicPartitioningConfiguration": {"Enabled": true},
        "ProcessingConfiguration": {"Enabled": true, "Processors": [{"Type": "MetadataExtraction", "Parameters": [
            {"ParameterName": "MetadataExtractionQuery", "ParameterValue": "{k:.k}"},
            {"ParameterName": "JsonParsingEngine", "ParameterValue": "JQ-1.6"}]}]},
    });
    let partitioned = extended(members);
    let description = shown(&partitioned, "ExtendedS3DestinationDescription");
    assert_eq!(description["BufferingHints"], json!({"SizeInMBs": 128, "IntervalInSeconds": 300}));
    assert_eq!(
        description["DynamicPartitioningConfiguration"],
        json!({"Enabled": true, "RetryOptions": {"DurationInSeconds": 300}})
    );
    let off = json!({"DynamicPartitioningConfiguration": {"Enabled": false}});
    refused(
        updated(&partitioned, "ExtendedS3DestinationUpdate", off.clone()),
        Kind::InvalidArgument,
        "only when a stream is created",
    );
    let retry = json!({"DynamicPartitioningConfiguration": {"RetryOptions": {"DurationInSeconds": 9}}});
    let next = updated(&partitioned, "ExtendedS3DestinationUpdate", retry).unwrap();
    let partitioning = &shown(&next, "ExtendedS3DestinationDescription")["DynamicPartitioningConfiguration"];
    assert_eq!(*partitioning, json!({"Enabled": true, "RetryOptions": {"DurationInSeconds": 9}}));
    let plain = extended(json!({}));
    let on = json!({"DynamicPartitioningConfiguration": {"Enabled": true}});
    refused(
        updated(&plain, "ExtendedS3DestinationUpdate", on),
        Kind::InvalidArgument,
        "only when a stream is created",
    );
    assert!(updated(&plain, "ExtendedS3DestinationUpdate", off).is_ok());
}

#[test]
fn another_type_replaces_and_must_be_whole() {
    let definition = extended(json!({"Prefix": "a/"}));
    let part = json!({"EndpointConfiguration": {"Url": "https://b"}});
    refused(
        updated(&definition, "HttpEndpointDestinationUpdate", part),
        Kind::InvalidArgument,
        "EndpointConfiguration and S3Update",
    );
    let whole = json!({"EndpointConfiguration": {"Url": "https://b"}, "S3Update": bucket(json!({}))});
    let next = updated(&definition, "HttpEndpointDestinationUpdate", whole).unwrap();
    assert_eq!(shown(&next, "ExtendedS3DestinationDescription"), Value::Null);
    assert_eq!(
        shown(&next, "HttpEndpointDestinationDescription")["EndpointConfiguration"]["Url"],
        "https://b"
    );
    refused(
        updated(&next, "ExtendedS3DestinationUpdate", json!({})),
        Kind::InvalidArgument,
        "RoleARN and BucketARN",
    );
    refused(updated(&next, "S3DestinationUpdate", json!({})), Kind::InvalidArgument, "RoleARN and BucketARN");
    let back = updated(&next, "ExtendedS3DestinationUpdate", bucket(json!({}))).unwrap();
    assert_eq!(shown(&back, "ExtendedS3DestinationDescription")["Prefix"], Value::Null);
    assert_eq!(back.version, 3);
}

#[test]
fn an_endpoint_is_merged_with_its_bucket() {
    let definition = http();
    let update = json!({"S3Update": {"Prefix": "failed/"}, "S3BackupMode": "AllData"});
    let next = updated(&definition, "HttpEndpointDestinationUpdate", update).unwrap();
    let description = shown(&next, "HttpEndpointDestinationDescription");
    assert_eq!(description["EndpointConfiguration"]["Name"], "a");
    assert_eq!(description["S3DestinationDescription"]["Prefix"], "failed/");
    assert_eq!(description["S3DestinationDescription"]["BucketARN"], "arn:aws:s3:::b");
    let update = json!({"S3BackupMode": "FailedDataOnly"});
    refused(
        updated(&next, "HttpEndpointDestinationUpdate", update),
        Kind::InvalidArgument,
        "once it is AllData",
    );
}

#[test]
fn splunk_that_gets_all_events_kept_gets_them_kept_for_ever() {
    let definition = created(json!({"SplunkDestinationConfiguration": {
        "HECEndpoint": "https://a.example:8088", "HECEndpointType": "Raw", "HECToken": "t0ken",
        "S3Configuration": bucket(json!({})),
    }}))
    .unwrap();
    let failed = json!({"S3BackupMode": "FailedEventsOnly"});
    let same = updated(&definition, "SplunkDestinationUpdate", failed.clone()).unwrap();
    let all = updated(&same, "SplunkDestinationUpdate", json!({"S3BackupMode": "AllEvents"})).unwrap();
    assert_eq!(shown(&all, "SplunkDestinationDescription")["S3BackupMode"], "AllEvents");
    refused(
        updated(&all, "SplunkDestinationUpdate", failed),
        Kind::InvalidArgument,
        "cannot be changed to FailedEventsOnly once it is AllEvents",
    );
    // What does not speak of it leaves it as it is.
    let other = updated(&all, "SplunkDestinationUpdate", json!({"S3Update": {"Prefix": "all/"}})).unwrap();
    let description = shown(&other, "SplunkDestinationDescription");
    assert_eq!(
        (&description["S3BackupMode"], &description["S3DestinationDescription"]["Prefix"]),
        (&json!("AllEvents"), &json!("all/"))
    );
}

fn any_update() -> impl Strategy<Value = Value> {
    let member = prop_oneof![
        "[a-z/]{0,5}".prop_map(|text| ("Prefix", json!(text))),
        "[a-z/]{0,5}".prop_map(|text| ("ErrorOutputPrefix", json!(text))),
        (1..128i64, 0..900i64).prop_map(|(size, seconds)| {
            ("BufferingHints", json!({"SizeInMBs": size, "IntervalInSeconds": seconds}))
        }),
        prop::sample::select(vec!["GZIP", "ZIP", "Snappy"])
            .prop_map(|text| ("CompressionFormat", json!(text))),
        any::<bool>().prop_map(|on| ("CloudWatchLoggingOptions", json!({"Enabled": on}))),
        Just(("S3BackupMode", json!("Enabled"))),
        "[a-z]{1,3}".prop_map(|text| ("S3BackupUpdate", json!({"Prefix": text}))),
        any::<Option<bool>>()
            .prop_map(|on| ("ProcessingConfiguration", json!({"Enabled": on, "Processors": []}))),
        Just((
            "DataFormatConversionConfiguration",
            json!({"Enabled": false, "SchemaConfiguration": {"Region": "r"}})
        )),
        Just(("DynamicPartitioningConfiguration", json!({"RetryOptions": {"DurationInSeconds": 5}}))),
        prop::sample::select(vec!["", "Asia/Tokyo"]).prop_map(|text| ("CustomTimeZone", json!(text))),
    ];
    prop::collection::vec(member, 0..6).prop_map(|members| {
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Value>()
    })
}

proptest! {
    #[test]
    fn the_same_update_twice_is_that_update_once(update in any_update()) {
        let start = extended(json!({"S3BackupConfiguration": bucket(json!({})), "Prefix": "start/"}));
        let once = updated(&start, "ExtendedS3DestinationUpdate", update.clone()).unwrap();
        let twice = updated(&once, "ExtendedS3DestinationUpdate", update.clone()).unwrap();
        prop_assert_eq!(&once.destination, &twice.destination);
        let read: Definition = serde_json::from_value(serde_json::to_value(&twice).unwrap()).unwrap();
        prop_assert_eq!(read, twice);
        for (name, value) in update.as_object().unwrap() {
            if name == "Prefix" || name == "BufferingHints" || name == "CompressionFormat" {
                prop_assert_eq!(&shown(&once, "ExtendedS3DestinationDescription")[name], value);
            }
        }
    }
}
