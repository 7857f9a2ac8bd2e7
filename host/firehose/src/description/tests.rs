//! Definitions from their creation to their description.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wire::{
    CreateDeliveryStream, DescribeDeliveryStream, Kind, ListDeliveryStreams, ListTagsForDeliveryStream,
    Refusal, Tag, UpdateDestination, parse,
};

const CREATED: u64 = 1_783_952_116_250;

fn created(members: Value) -> Result<Definition, Refusal> {
    let mut body = members;
    body["DeliveryStreamName"] = json!("clicks");
    let request: CreateDeliveryStream = parse(body.to_string().as_bytes())?;
    Definition::create(request, CREATED)
}

fn bucket(members: Value) -> Value {
    let mut bucket = json!({"RoleARN": "arn:aws:iam::1:role/r", "BucketARN": "arn:aws:s3:::b"});
    for (name, value) in members.as_object().unwrap() {
        bucket[name] = value.clone();
    }
    bucket
}

fn extended(members: Value) -> Definition {
    created(json!({"ExtendedS3DestinationConfiguration": bucket(members)})).unwrap()
}

fn http() -> Definition {
    created(json!({"HttpEndpointDestinationConfiguration": {
        "EndpointConfiguration": {"Url": "https://a.example/in", "Name": "a", "AccessKey": "s3cr3t"},
        "S3Configuration": bucket(json!({})),
    }}))
    .unwrap()
}

fn updated(definition: &Definition, member: &str, update: Value) -> Result<Definition, Refusal> {
    let body = json!({
        "DeliveryStreamName": "clicks",
        "CurrentDeliveryStreamVersionId": definition.version_id(),
        "DestinationId": DESTINATION_ID,
        member: update,
    });
    let request: UpdateDestination = parse(body.to_string().as_bytes())?;
    definition.update(request, CREATED + 1000)
}

fn described(definition: &Definition) -> Value {
    let seen = Seen { region: "eu-west-1", account: "123456789012", status: Status::Active, failure: None };
    definition.describe(&DescribeDeliveryStream::default(), &seen)["DeliveryStreamDescription"].clone()
}

fn shown(definition: &Definition, description: &str) -> Value {
    described(definition)["Destinations"][0][description].clone()
}

fn refused(result: Result<Definition, Refusal>, kind: Kind, message: &str) {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.kind, kind, "{refusal}");
    assert!(refusal.message.contains(message), "{message}: {refusal}");
}

#[test]
fn a_new_stream_is_described_with_the_defaults_of_the_service() {
    let definition = extended(json!({}));
    let plain = json!({
        "RoleARN": "arn:aws:iam::1:role/r",
        "BucketARN": "arn:aws:s3:::b",
        "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
        "CompressionFormat": "UNCOMPRESSED",
        "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
        "CloudWatchLoggingOptions": {"Enabled": false},
    });
    let mut whole = plain.clone();
    whole["S3BackupMode"] = json!("Disabled");
    assert_eq!(
        described(&definition),
        json!({
            "DeliveryStreamName": "clicks",
            "DeliveryStreamARN": "arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks",
            "DeliveryStreamStatus": "ACTIVE",
            "DeliveryStreamType": "DirectPut",
            "VersionId": "1",
            "CreateTimestamp": 1_783_952_116.25,
            "DeliveryStreamEncryptionConfiguration": {"Status": "DISABLED"},
            "Destinations": [{
                "DestinationId": "destinationId-000000000001",
                "S3DestinationDescription": plain,
                "ExtendedS3DestinationDescription": whole,
            }],
            "HasMoreDestinations": false,
        })
    );
}

#[test]
fn the_deprecated_destination_is_described_as_itself() {
    let definition = created(json!({"S3DestinationConfiguration": bucket(json!({"Prefix": "a"}))})).unwrap();
    assert_eq!(shown(&definition, "S3DestinationDescription")["Prefix"], "a");
    assert_eq!(shown(&definition, "ExtendedS3DestinationDescription"), Value::Null);
}

#[test]
fn names_change_on_the_way_out_and_secrets_stay_in() {
    let definition = http();
    let description = shown(&definition, "HttpEndpointDestinationDescription");
    assert_eq!(description["EndpointConfiguration"], json!({"Url": "https://a.example/in", "Name": "a"}));
    assert_eq!(description["S3DestinationDescription"]["BucketARN"], "arn:aws:s3:::b");
    assert_eq!(description["S3Configuration"], Value::Null);
    assert_eq!(description["BufferingHints"], json!({"SizeInMBs": 5, "IntervalInSeconds": 300}));
    assert_eq!(description["RetryOptions"], json!({"DurationInSeconds": 300}));
    assert_eq!(description["S3BackupMode"], "FailedDataOnly");
    assert!(!described(&definition).to_string().contains("s3cr3t"));
    assert!(!format!("{definition:?}").contains("s3cr3t"));
    let definition = extended(
        json!({"S3BackupMode": "Enabled", "S3BackupConfiguration": bucket(json!({"Prefix": "raw/"}))}),
    );
    let description = shown(&definition, "ExtendedS3DestinationDescription");
    assert_eq!(description["S3BackupDescription"]["Prefix"], "raw/");
    assert_eq!(description["S3BackupConfiguration"], Value::Null);
}

#[test]
fn a_definition_is_read_as_it_was_stored_and_other_formats_are_refused() {
    let mut definition = http();
    definition.tag(vec![Tag { key: Some("team".to_owned()), value: None }]).unwrap();
    let stored = serde_json::to_value(&definition).unwrap();
    assert_eq!(serde_json::from_value::<Definition>(stored.clone()).unwrap(), definition);
    assert!(stored.to_string().contains("s3cr3t"), "deliveries need it");
    let mut later = stored;
    later["format"] = json!(2);
    let error = serde_json::from_value::<Definition>(later).unwrap_err();
    assert!(error.to_string().contains("format 2, this version reads 1"), "{error}");
}

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
fn at_most_fifty_tags_stay_in_pages() {
    let mut definition = extended(json!({}));
    let tag = |number: usize| Tag { key: Some(format!("k{number:02}")), value: Some(number.to_string()) };
    definition.tag((0..50).map(tag).collect()).unwrap();
    let before = definition.clone();
    assert_eq!(definition.tag(vec![tag(1), tag(50)]).unwrap_err().kind, Kind::LimitExceeded);
    assert_eq!(definition, before);
    definition.tag(vec![Tag { key: Some("k01".to_owned()), value: None }]).unwrap();
    assert_eq!(definition.tags["k01"], None);
    definition.untag(&["k00".to_owned(), "unknown".to_owned()]);
    let page = |start: Option<&str>, limit| {
        let request = ListTagsForDeliveryStream {
            name: Some("clicks".to_owned()),
            exclusive_start: start.map(str::to_owned),
            limit,
        };
        let reply = definition.list_tags(&request).unwrap();
        let keys: Vec<String> = reply.tags.into_iter().filter_map(|tag| tag.key).collect();
        (keys, reply.has_more)
    };
    assert_eq!(page(None, Some(2)), (vec!["k01".to_owned(), "k02".to_owned()], true));
    assert_eq!(page(Some("k47"), Some(2)), (vec!["k48".to_owned(), "k49".to_owned()], false));
    assert_eq!(page(None, None).0.len(), 49);
}

#[test]
fn names_come_in_pages_of_ten_in_alphabetical_order() {
    let names: Vec<String> = (0..25).rev().map(|number| format!("s{number:02}")).collect();
    let page = |start: Option<&str>, limit, stream_type: Option<&str>| {
        let request = ListDeliveryStreams {
            limit,
            stream_type: stream_type.map(str::to_owned),
            exclusive_start: start.map(str::to_owned),
        };
        list(&request, names.iter().map(String::as_str)).unwrap()
    };
    let first = page(None, None, None);
    assert_eq!((first.names.len(), first.names[0].as_str(), first.has_more), (10, "s00", true));
    let rest = page(Some("s09"), Some(15), Some("DirectPut"));
    assert_eq!((rest.names.len(), rest.names[14].as_str(), rest.has_more), (15, "s24", false));
    assert!(page(None, None, Some("MSKAsSource")).names.is_empty());
}

#[test]
fn encryption_is_started_stopped_and_bounded_by_the_day() {
    let mut definition = extended(json!({}));
    let input = |body: Value| parse(body.to_string().as_bytes()).unwrap();
    let managed = input(json!({"KeyType": "CUSTOMER_MANAGED_CMK"}));
    assert!(
        definition.start_encryption(Some(&managed), 0).unwrap_err().message.contains("KeyARN must be given")
    );
    let owned = input(json!({"KeyType": "AWS_OWNED_CMK", "KeyARN": "arn:k"}));
    assert!(definition.start_encryption(Some(&owned), 0).unwrap_err().message.contains("only when KeyType"));
    let managed = input(json!({"KeyType": "CUSTOMER_MANAGED_CMK", "KeyARN": "arn:k"}));
    definition.start_encryption(Some(&managed), 0).unwrap();
    let shown =
        |definition: &Definition| described(definition)["DeliveryStreamEncryptionConfiguration"].clone();
    assert_eq!(
        shown(&definition),
        json!({"Status": "ENABLED", "KeyType": "CUSTOMER_MANAGED_CMK", "KeyARN": "arn:k"})
    );
    definition.stop_encryption(1).unwrap();
    assert_eq!(shown(&definition), json!({"Status": "DISABLED"}));
    for call in 2..25 {
        definition.start_encryption(None, call).unwrap();
    }
    assert_eq!(definition.stop_encryption(25).unwrap_err().kind, Kind::LimitExceeded);
    assert_eq!(definition.version, 1);
    definition.stop_encryption(24 * 3600 * 1000).unwrap();
    let definition = created(json!({
        "S3DestinationConfiguration": bucket(json!({})),
        "DeliveryStreamEncryptionConfigurationInput": {"KeyType": "AWS_OWNED_CMK"},
    }))
    .unwrap();
    assert_eq!(shown(&definition), json!({"Status": "ENABLED", "KeyType": "AWS_OWNED_CMK"}));
}

#[test]
fn the_life_of_a_stream_is_told_by_the_caller() {
    let definition = extended(json!({}));
    let seen = Seen {
        region: "r",
        account: "1",
        status: Status::CreatingFailed,
        failure: Some(("UNKNOWN_ERROR", "no disk")),
    };
    let request =
        DescribeDeliveryStream { exclusive_start: Some(DESTINATION_ID.to_owned()), ..Default::default() };
    let description = definition.describe(&request, &seen)["DeliveryStreamDescription"].clone();
    assert_eq!(description["DeliveryStreamStatus"], "CREATING_FAILED");
    assert_eq!(description["FailureDescription"], json!({"Type": "UNKNOWN_ERROR", "Details": "no disk"}));
    assert_eq!(description["Destinations"], json!([]));
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
