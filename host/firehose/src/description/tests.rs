//! Definitions from their creation to their description.

mod update;

use serde_json::{Value, json};

use super::*;
use crate::prefix::{Context, PartitionKeys, Seeded};
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
fn redshift_has_the_defaults_of_the_service_shows_no_password_and_is_merged() {
    let redshift = created(json!({"RedshiftDestinationConfiguration": {
        "RoleARN": "arn:aws:iam::1:role/r", "ClusterJDBCURL": "jdbc:redshift://w.example:5439/dev",
        "CopyCommand": {"DataTableName": "t", "CopyOptions": "CSV"}, "Username": "u", "Password": "s3cr3t1",
        "S3Configuration": bucket(json!({})),
    }}))
    .unwrap();
    let description = shown(&redshift, "RedshiftDestinationDescription");
    assert_eq!(description["RetryOptions"]["DurationInSeconds"], 3600);
    assert_eq!((&description["S3BackupMode"], &description["Username"]), (&json!("Disabled"), &json!("u")));
    assert_eq!(description["S3DestinationDescription"]["BufferingHints"]["SizeInMBs"], 5);
    assert!(
        !described(&redshift).to_string().contains("s3cr3t1") && !format!("{redshift:?}").contains("s3cr3t1")
    );
    let update = json!({"CopyCommand": {"DataTableName": "t2"}, "S3Update": {"Prefix": "in/"}});
    let next = updated(&redshift, "RedshiftDestinationUpdate", update).unwrap();
    let description = shown(&next, "RedshiftDestinationDescription");
    assert_eq!(description["CopyCommand"], json!({"DataTableName": "t2"}));
    assert_eq!(description["S3DestinationDescription"]["Prefix"], "in/");
    let Destination::Redshift(merged) = &next.destination else { panic!() };
    assert_eq!(merged.password.as_ref().map(|password| password.0.as_str()), Some("s3cr3t1"));
    let other = json!({"Username": "u", "Password": "s3cr3t1"});
    refused(updated(&http(), "RedshiftDestinationUpdate", other), Kind::InvalidArgument, "needs RoleARN");
}

#[test]
fn splunk_and_opensearch_have_the_defaults_of_the_service_and_show_no_secret() {
    let splunk = created(json!({"SplunkDestinationConfiguration": {
        "HECEndpoint": "https://s.example:8088", "HECEndpointType": "Event", "HECToken": "s3cr3t",
        "S3Configuration": bucket(json!({})),
    }}))
    .unwrap();
    let description = shown(&splunk, "SplunkDestinationDescription");
    assert_eq!(description["BufferingHints"], json!({"SizeInMBs": 5, "IntervalInSeconds": 60}));
    assert_eq!(description["HECAcknowledgmentTimeoutInSeconds"], 180);
    assert_eq!(description["S3BackupMode"], "FailedEventsOnly");
    assert_eq!(description["S3DestinationDescription"]["BucketARN"], "arn:aws:s3:::b");
    assert!(!described(&splunk).to_string().contains("s3cr3t") && !format!("{splunk:?}").contains("s3cr3t"));
    let update = json!({"HECEndpointType": "Raw", "S3Update": {"Prefix": "failed/"}});
    let next = updated(&splunk, "SplunkDestinationUpdate", update).unwrap();
    let Destination::Splunk(merged) = &next.destination else { panic!() };
    assert_eq!(merged.hec_token.as_ref().map(|token| token.0.as_str()), Some("s3cr3t"));
    assert_eq!(shown(&next, "SplunkDestinationDescription")["S3DestinationDescription"]["Prefix"], "failed/");
    let other = json!({"HECEndpoint": "https://s.example:8088"});
    refused(updated(&http(), "SplunkDestinationUpdate", other), Kind::InvalidArgument, "needs HECEndpoint");

    let cluster = created(json!({"AmazonopensearchserviceDestinationConfiguration": {
        "RoleARN": "arn:aws:iam::1:role/r", "ClusterEndpoint": "https://u:s3cr3t@o.example", "IndexName": "logs",
        "S3Configuration": bucket(json!({})),
    }}))
    .unwrap();
    let description = shown(&cluster, "AmazonopensearchserviceDestinationDescription");
    assert_eq!(description["ClusterEndpoint"], "https://o.example");
    assert_eq!(description["IndexRotationPeriod"], "OneDay");
    assert_eq!(description["DocumentIdOptions"], json!({"DefaultDocumentIdFormat": "FIREHOSE_DEFAULT"}));
    assert_eq!(description["RetryOptions"], json!({"DurationInSeconds": 300}));
    let update = json!({"IndexName": "other", "S3BackupMode": "AllDocuments"});
    let next = updated(&cluster, "AmazonopensearchserviceDestinationUpdate", update).unwrap();
    let description = shown(&next, "AmazonopensearchserviceDestinationDescription");
    assert_eq!(
        (&description["IndexName"], &description["S3BackupMode"]),
        (&json!("other"), &json!("FailedDocumentsOnly"))
    );
    for (definition, member, update) in [
        (&cluster, "ExtendedS3DestinationUpdate", bucket(json!({}))),
        (&splunk, "AmazonopensearchserviceDestinationUpdate", json!({"IndexName": "a"})),
    ] {
        refused(updated(definition, member, update), Kind::InvalidArgument, "OpenSearch cannot be changed");
    }
    let stored = serde_json::to_value(&cluster).unwrap();
    assert_eq!(serde_json::from_value::<Definition>(stored).unwrap(), cluster);
}

#[test]
fn elasticsearch_is_a_cluster_under_its_own_name_and_stays_one() {
    let cluster = created(json!({"ElasticsearchDestinationConfiguration": {
        "RoleARN": "arn:aws:iam::1:role/r", "ClusterEndpoint": "https://u:s3cr3t@e.example", "IndexName": "logs",
        "TypeName": "log", "S3Configuration": bucket(json!({})),
    }}))
    .unwrap();
    let description = shown(&cluster, "ElasticsearchDestinationDescription");
    assert_eq!(description["ClusterEndpoint"], "https://e.example");
    assert_eq!(
        (&description["TypeName"], &description["IndexRotationPeriod"]),
        (&json!("log"), &json!("OneDay"))
    );
    assert_eq!(description["S3DestinationDescription"]["BucketARN"], "arn:aws:s3:::b");
    let update = json!({"IndexName": "other", "S3Update": {"Prefix": "failed/"}});
    let next = updated(&cluster, "ElasticsearchDestinationUpdate", update).unwrap();
    let description = shown(&next, "ElasticsearchDestinationDescription");
    assert_eq!(
        (&description["IndexName"], &description["S3DestinationDescription"]["Prefix"]),
        (&json!("other"), &json!("failed/"))
    );
    let opensearch = created(json!({"AmazonopensearchserviceDestinationConfiguration": {
        "RoleARN": "arn:aws:iam::1:role/r", "ClusterEndpoint": "https://o.example", "IndexName": "logs",
        "S3Configuration": bucket(json!({})),
    }}))
    .unwrap();
    for (definition, member, update) in [
        (&cluster, "AmazonopensearchserviceDestinationUpdate", json!({"IndexName": "a"})),
        (&opensearch, "ElasticsearchDestinationUpdate", json!({"IndexName": "a"})),
        (&http(), "ElasticsearchDestinationUpdate", json!({"IndexName": "a"})),
        (&cluster, "ExtendedS3DestinationUpdate", bucket(json!({}))),
    ] {
        refused(updated(definition, member, update), Kind::InvalidArgument, "nor can one of Elasticsearch");
    }
    let stored = serde_json::to_value(&cluster).unwrap();
    assert_eq!(serde_json::from_value::<Definition>(stored).unwrap(), cluster);
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
        list(&request, names.iter().map(|name| (name.as_str(), name.starts_with("kinesis")))).unwrap()
    };
    let first = page(None, None, None);
    assert_eq!((first.names.len(), first.names[0].as_str(), first.has_more), (10, "s00", true));
    let rest = page(Some("s09"), Some(15), Some("DirectPut"));
    assert_eq!((rest.names.len(), rest.names[14].as_str(), rest.has_more), (15, "s24", false));
    assert!(page(None, None, Some("MSKAsSource")).names.is_empty());
    let of_kinesis = ["a", "kinesis-b", "kinesis-c"].map(|name| (name, name.starts_with("kinesis")));
    for (stream_type, names) in
        [("KinesisStreamAsSource", &["kinesis-b", "kinesis-c"][..]), ("DirectPut", &["a"])]
    {
        let request = ListDeliveryStreams {
            stream_type: Some(stream_type.to_owned()),
            ..ListDeliveryStreams::default()
        };
        assert_eq!(list(&request, of_kinesis.into_iter()).unwrap().names, names);
    }
}

#[test]
fn source_in_kinesis_is_kept_and_shown_with_when_reading_it_began() {
    let source = json!({
        "KinesisStreamARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/in",
        "RoleARN": "arn:aws:iam::123456789012:role/reader",
    });
    let mut definition = created(json!({
        "DeliveryStreamType": "KinesisStreamAsSource",
        "KinesisStreamSourceConfiguration": source,
        "ExtendedS3DestinationConfiguration": bucket(json!({})),
    }))
    .unwrap();
    let stored = serde_json::to_value(&definition).unwrap();
    assert_eq!(serde_json::from_value::<Definition>(stored).unwrap(), definition);
    let description = described(&definition);
    assert_eq!(description["DeliveryStreamType"], "KinesisStreamAsSource");
    let mut shown = source;
    shown["DeliveryStartTimestamp"] = json!(1_783_952_116.25);
    assert_eq!(description["Source"], json!({ "KinesisStreamSourceDescription": shown }));
    let refusal = definition.start_encryption(None, 0).unwrap_err();
    assert_eq!(refusal.kind, Kind::InvalidArgument);
    // Those that clients put to say nothing of it, stored or shown.
    let direct = extended(json!({}));
    assert!(described(&direct)["Source"].is_null());
    assert!(serde_json::to_value(&direct).unwrap()["source"].is_null());
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

#[test]
fn objects_are_named_as_the_definition_says() {
    let name = |definition: &Definition, is_backup: bool| {
        let naming = definition.destination.naming().unwrap();
        let context = Context {
            at: "2026-07-13T20:15:16Z".parse().unwrap(),
            zone: &naming.zone,
            stream: &definition.name,
            version: definition.version,
            keys: PartitionKeys::default(),
        };
        let layout = if is_backup { naming.backup.unwrap() } else { naming.objects };
        let name = layout.object(&context, &mut Seeded(1)).unwrap();
        name.replace("910a2dec-8902-4cc1-beeb-8da1658eec67", "ID")
    };
    let mut members = json!({
        "CustomTimeZone": "Asia/Tokyo",
        "CompressionFormat": "GZIP",
        "S3BackupMode": "Enabled",
        "S3BackupConfiguration": bucket(json!({"Prefix": "raw/", "CompressionFormat": "Snappy"})),
    });
    let definition = extended(members.clone());
    assert_eq!(name(&definition, false), "2026/07/14/05/clicks-1-2026-07-14-05-15-16-ID.gz");
    assert_eq!(name(&definition, true), "raw/2026/07/14/05/clicks-1-2026-07-14-05-15-16-ID.snappy");
    members["CompressionFormat"] = json!("UNCOMPRESSED");
    for (serializer, extension) in [("ParquetSerDe", ".parquet"), ("OrcSerDe", ".orc")] {
        members["DataFormatConversionConfiguration"] = json!({
            "SchemaConfiguration": {},
            "InputFormatConfiguration": {"Deserializer": {"HiveJsonSerDe": {}}},
            "OutputFormatConfiguration": {"Serializer": {serializer: {}}},
        });
        assert!(name(&extended(members.clone()), false).ends_with(extension));
    }
    members["FileExtension"] = json!(".x");
    assert!(name(&extended(members), false).ends_with("ID.x"));
    assert_eq!(name(&http(), false), "2026/07/13/20/clicks-1-2026-07-13-20-15-16-ID");
}

#[test]
fn a_hint_of_throughput_is_shown_again() {
    let definition = created(json!({
        "S3DestinationConfiguration": bucket(json!({})),
        "DirectPutSourceConfiguration": {"ThroughputHintInMBs": 7},
    }))
    .unwrap();
    assert_eq!(
        described(&definition)["Source"],
        json!({"DirectPutSourceDescription": {"ThroughputHintInMBs": 7}})
    );
}
