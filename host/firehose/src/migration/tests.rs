//! Streams as AWS shows them, made anew.

use super::*;
use crate::description::Definition;

fn described(destination: &Value) -> Value {
    json!({ "DeliveryStreamDescription": {
        "DeliveryStreamName": "clicks",
        "DeliveryStreamARN": "arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks",
        "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamEncryptionConfiguration": { "Status": "DISABLED" },
        "DeliveryStreamType": "DirectPut",
        "VersionId": "7",
        "CreateTimestamp": 1_700_000_000.25,
        "Destinations": [destination],
        "HasMoreDestinations": false,
    } })
}

fn bucket(more: &Value) -> Value {
    let mut bucket = json!({
        "RoleARN": "arn:aws:iam::123456789012:role/firehose", "BucketARN": "arn:aws:s3:::lake",
        "BufferingHints": { "SizeInMBs": 64, "IntervalInSeconds": 60 }, "CompressionFormat": "GZIP",
        "EncryptionConfiguration": { "NoEncryptionConfig": "NoEncryption" },
        "CloudWatchLoggingOptions": { "Enabled": false },
    });
    for (name, value) in more.as_object().unwrap() {
        bucket[name] = value.clone();
    }
    bucket
}

fn extended(more: &Value) -> Value {
    described(&json!({
        "DestinationId": "destinationId-000000000001",
        "S3DestinationDescription": bucket(&json!({})),
        "ExtendedS3DestinationDescription": bucket(more),
    }))
}

fn migrated(description: &Value, functions: &[(&str, &str)]) -> Migration {
    let functions = functions.iter().map(|(name, plugin)| ((*name).to_owned(), (*plugin).to_owned()));
    let made = Migration::of(description.to_string().as_bytes(), &functions.collect()).unwrap();
    // What it asks for can be made.
    let request = parse(made.request.to_string().as_bytes()).unwrap();
    Definition::create(request, 1).unwrap();
    made
}

fn left(made: &Migration) -> Vec<&str> {
    made.left.iter().map(|left| left.what.as_str()).collect()
}

fn processors(list: &[(&str, &[(&str, &str)])]) -> Value {
    let parameters = |pairs: &[(&str, &str)]| -> Vec<Value> {
        pairs.iter().map(|(name, value)| json!({ "ParameterName": name, "ParameterValue": value })).collect()
    };
    let list: Vec<Value> =
        list.iter().map(|(kind, pairs)| json!({ "Type": kind, "Parameters": parameters(pairs) })).collect();
    json!({ "ProcessingConfiguration": { "Enabled": true, "Processors": list } })
}

#[test]
fn bucket_is_asked_for_as_it_was_and_its_role_is_said_to_be_nobodys() {
    let made = migrated(&extended(&json!({ "Prefix": "clicks/", "FileExtension": ".ndjson.gz" })), &[]);
    assert_eq!((made.name.as_str(), made.region()), ("clicks", Some("eu-west-1")));
    let asked = &made.request["ExtendedS3DestinationConfiguration"];
    assert_eq!((&asked["Prefix"], &asked["FileExtension"]), (&json!("clicks/"), &json!(".ndjson.gz")));
    assert_eq!(asked["BufferingHints"], json!({ "SizeInMBs": 64, "IntervalInSeconds": 60 }));
    assert_eq!(left(&made), ["RoleARN arn:aws:iam::123456789012:role/firehose"]);
    // Without its envelope, and of the deprecated type.
    let plain = described(&json!({ "S3DestinationDescription": bucket(&json!({})) }));
    let made = migrated(&plain["DeliveryStreamDescription"], &[]);
    assert_eq!(made.request["S3DestinationConfiguration"]["BucketARN"], "arn:aws:s3:::lake");
}

#[test]
fn whatever_only_aws_has_is_taken_out_and_said() {
    let more = json!({
        "EncryptionConfiguration": { "KMSEncryptionConfig": { "AWSKMSKeyARN": "arn:aws:kms:eu-west-1:1:key/k" } },
        "CloudWatchLoggingOptions": { "Enabled": true, "LogGroupName": "/aws/kinesisfirehose/clicks" },
        "S3BackupMode": "Enabled",
        "S3BackupDescription": bucket(&json!({
            "BucketARN": "arn:aws:s3:::raw",
            "EncryptionConfiguration": { "KMSEncryptionConfig": { "AWSKMSKeyARN": "k2" } },
        })),
        "NewMember": 1,
    });
    let mut description = extended(&more);
    let shown = &mut description["DeliveryStreamDescription"];
    shown["DeliveryStreamType"] = "KinesisStreamAsSource".into();
    shown["DeliveryStreamEncryptionConfiguration"] =
        json!({ "Status": "ENABLED", "KeyType": "AWS_OWNED_CMK" });
    let made = migrated(&description, &[]);
    assert_eq!(
        left(&made),
        [
            "DeliveryStreamType KinesisStreamAsSource",
            "DeliveryStreamEncryptionConfiguration AWS_OWNED_CMK",
            "NewMember",
            "RoleARN arn:aws:iam::123456789012:role/firehose",
            "KMSEncryptionConfig arn:aws:kms:eu-west-1:1:key/k",
            "CloudWatchLoggingOptions /aws/kinesisfirehose/clicks",
            "S3BackupConfiguration.RoleARN arn:aws:iam::123456789012:role/firehose",
            "S3BackupConfiguration.KMSEncryptionConfig k2",
        ]
    );
    let asked = made.request["ExtendedS3DestinationConfiguration"].as_object().unwrap();
    assert_eq!(asked["EncryptionConfiguration"], json!({ "NoEncryptionConfig": "NoEncryption" }));
    for gone in ["S3BackupDescription", "CloudWatchLoggingOptions", "NewMember"] {
        assert!(!asked.contains_key(gone), "{gone}");
    }
    assert_eq!(asked["S3BackupMode"], "Enabled");
    let backup = &asked["S3BackupConfiguration"];
    assert_eq!(
        (&backup["BucketARN"], &backup["CompressionFormat"]),
        (&json!("arn:aws:s3:::raw"), &json!("GZIP"))
    );
    assert_eq!(backup["EncryptionConfiguration"], json!({ "NoEncryptionConfig": "NoEncryption" }));
}

#[test]
fn source_in_kinesis_is_asked_for_as_it_was() {
    let mut description = extended(&json!({}));
    let shown = &mut description["DeliveryStreamDescription"];
    shown["DeliveryStreamType"] = "KinesisStreamAsSource".into();
    let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/in";
    let role = "arn:aws:iam::123456789012:role/reader";
    shown["Source"] = json!({ "KinesisStreamSourceDescription": {
        "KinesisStreamARN": arn, "RoleARN": role, "DeliveryStartTimestamp": 1.5,
    }});
    let made = migrated(&description, &[]);
    assert_eq!(
        made.request["KinesisStreamSourceConfiguration"],
        json!({ "KinesisStreamARN": arn, "RoleARN": role })
    );
    assert_eq!(made.request["DeliveryStreamType"], "KinesisStreamAsSource");
    let left = left(&made);
    let (role, start) = (format!("Source.RoleARN {role}"), "Source.DeliveryStartTimestamp".to_owned());
    assert!(left.contains(&role.as_str()) && left.contains(&start.as_str()), "{left:?}");
    let request = made.request.to_string();
    let request = crate::wire::parse(request.as_bytes()).unwrap();
    assert!(crate::description::Definition::create(request, 1).is_ok());
}

#[test]
fn conversion_is_asked_for_as_it_was() {
    let conversion = json!({
        "Enabled": true,
        "SchemaConfiguration": { "DatabaseName": "lake", "TableName": "clicks" },
        "InputFormatConfiguration": { "Deserializer": { "OpenXJsonSerDe": {} } },
        "OutputFormatConfiguration": { "Serializer": { "ParquetSerDe": {} } },
    });
    let more = json!({
        "DataFormatConversionConfiguration": conversion, "CompressionFormat": "UNCOMPRESSED",
        "BufferingHints": { "SizeInMBs": 128, "IntervalInSeconds": 300 },
    });
    let made = migrated(&extended(&more), &[]);
    let asked = &made.request["ExtendedS3DestinationConfiguration"];
    assert_eq!(asked["DataFormatConversionConfiguration"], conversion);
    assert_eq!(left(&made), ["RoleARN arn:aws:iam::123456789012:role/firehose"]);
}

#[test]
fn functions_become_plugins_of_their_names_or_of_others_or_are_left_out() {
    let arn = "arn:aws:lambda:eu-west-1:123456789012:function:Enrich_Clicks";
    let description = extended(&processors(&[
        (
            "Lambda",
            &[
                ("LambdaArn", &format!("{arn}:prod")),
                ("NumberOfRetries", "5"),
                ("BufferSizeInMBs", "1.0"),
                ("RoleArn", "r"),
            ],
        ),
        ("AppendDelimiterToRecord", &[]),
    ]));
    let function = |made: &Migration| {
        let all =
            &made.request["ExtendedS3DestinationConfiguration"]["ProcessingConfiguration"]["Processors"];
        all[0]["Parameters"][0]["ParameterValue"].as_str().map(str::to_owned)
    };
    let made = migrated(&description, &[]);
    assert_eq!(
        function(&made).as_deref(),
        Some("arn:aws:lambda:eu-west-1:123456789012:function:enrich-clicks")
    );
    assert_eq!(left(&made)[1..], ["Lambda.NumberOfRetries 5", "Lambda alias or version Enrich_Clicks prod"]);
    let made = migrated(&description, &[("Enrich_Clicks", "enrich")]);
    assert_eq!(function(&made).as_deref(), Some("arn:aws:lambda:eu-west-1:123456789012:function:enrich"));
    let made = migrated(&description, &[("Enrich_Clicks", "")]);
    assert_eq!(function(&made), None);
    assert!(left(&made).contains(&format!("Lambda {arn}:prod").as_str()), "{made:?}");
    let alone = extended(&processors(&[("Lambda", &[("LambdaArn", arn)])]));
    let made = migrated(&alone, &[("Enrich_Clicks", "")]);
    assert_eq!(made.request["ExtendedS3DestinationConfiguration"].get("ProcessingConfiguration"), None);
}

#[test]
fn http_endpoint_is_asked_for_with_its_bucket_and_without_its_key() {
    let made = migrated(
        &described(&json!({ "HttpEndpointDestinationDescription": {
            "EndpointConfiguration": { "Url": "https://logs.example/take", "Name": "logs" },
            "RoleARN": "arn:aws:iam::123456789012:role/firehose",
            "S3BackupMode": "FailedDataOnly",
            "S3DestinationDescription": bucket(&json!({})),
        } })),
        &[],
    );
    let asked = &made.request["HttpEndpointDestinationConfiguration"];
    assert_eq!(asked["S3Configuration"]["BucketARN"], "arn:aws:s3:::lake");
    assert_eq!(left(&made)[0], "EndpointConfiguration.AccessKey");
}

#[test]
fn collector_is_asked_for_with_its_token_or_something_that_cannot_work() {
    let splunk = |more: Value| {
        let mut members = json!({
            "HECEndpoint": "https://splunk.example:8088", "HECEndpointType": "Raw", "HECToken": "t0k3n",
            "HECAcknowledgmentTimeoutInSeconds": 300, "RetryOptions": { "DurationInSeconds": 60 },
            "S3BackupMode": "AllEvents", "S3DestinationDescription": bucket(&json!({})),
            "BufferingHints": { "IntervalInSeconds": 60, "SizeInMBs": 5 },
            "CloudWatchLoggingOptions": { "Enabled": true, "LogGroupName": "/aws/kinesisfirehose/clicks" },
        });
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        migrated(&described(&json!({ "SplunkDestinationDescription": members })), &[])
    };
    let made = splunk(json!({}));
    let asked = &made.request["SplunkDestinationConfiguration"];
    assert_eq!((&asked["HECToken"], &asked["S3BackupMode"]), (&json!("t0k3n"), &json!("AllEvents")));
    assert_eq!(asked["S3Configuration"]["BucketARN"], "arn:aws:s3:::lake");
    let told = left(&made);
    assert!(told.contains(&"CloudWatchLoggingOptions /aws/kinesisfirehose/clicks"), "{told:?}");
    let managed = json!({
        "HECToken": null, "SecretsManagerConfiguration": { "Enabled": true, "SecretARN": "arn:aws:secretsmanager:x" },
    });
    let made = splunk(managed);
    assert_eq!(made.request["SplunkDestinationConfiguration"]["HECToken"], "set-it-again");
    let told = left(&made);
    assert!(
        told.contains(&"HECToken") && told.contains(&"SecretsManagerConfiguration arn:aws:secretsmanager:x")
    );
}

#[test]
fn cluster_is_asked_for_whatever_it_is_called_and_its_domain_has_no_address() {
    for kind in ["Amazonopensearchservice", "Elasticsearch"] {
        let made = migrated(
            &described(&json!({ format!("{kind}DestinationDescription"): {
                "RoleARN": "arn:aws:iam::123456789012:role/firehose",
                "DomainARN": "arn:aws:es:eu-west-1:123456789012:domain/logs",
                "IndexName": "clicks", "TypeName": "click", "IndexRotationPeriod": "OneHour",
                "BufferingHints": { "IntervalInSeconds": 60, "SizeInMBs": 50 },
                "RetryOptions": { "DurationInSeconds": 600 }, "S3BackupMode": "FailedDocumentsOnly",
                "S3DestinationDescription": bucket(&json!({})),
                "VpcConfigurationDescription": {
                    "SubnetIds": ["subnet-1"], "RoleARN": "arn:aws:iam::1:role/v", "SecurityGroupIds": ["sg-1"], "VpcId": "vpc-1",
                },
                "DocumentIdOptions": { "DefaultDocumentIdFormat": "NO_DOCUMENT_ID" },
            } })),
            &[],
        );
        let asked = &made.request[format!("{kind}DestinationConfiguration")];
        assert_eq!(
            (&asked["IndexName"], &asked["IndexRotationPeriod"]),
            (&json!("clicks"), &json!("OneHour")),
            "{kind}"
        );
        assert_eq!(asked["ClusterEndpoint"], "https://set-it-again.invalid");
        assert_eq!(asked["DocumentIdOptions"], json!({ "DefaultDocumentIdFormat": "NO_DOCUMENT_ID" }));
        let told = left(&made);
        for what in [
            "DomainARN arn:aws:es:eu-west-1:123456789012:domain/logs",
            "TypeName click",
            "VpcConfiguration vpc-1",
        ] {
            assert!(told.contains(&what), "{what}: {told:?}");
        }
    }
}

#[test]
fn table_is_asked_for_without_the_password_that_is_not_shown() {
    let made = migrated(
        &described(&json!({ "RedshiftDestinationDescription": {
            "RoleARN": "arn:aws:iam::123456789012:role/firehose",
            "ClusterJDBCURL": "jdbc:redshift://w.abc.eu-west-1.redshift.amazonaws.com:5439/dev",
            "CopyCommand": { "DataTableName": "clicks", "CopyOptions": "JSON 'auto' GZIP" }, "Username": "loader",
            "RetryOptions": { "DurationInSeconds": 3600 }, "S3DestinationDescription": bucket(&json!({})),
            "S3BackupMode": "Enabled", "S3BackupDescription": bucket(&json!({ "Prefix": "raw/" })),
            "CloudWatchLoggingOptions": { "Enabled": false },
        } })),
        &[],
    );
    let asked = &made.request["RedshiftDestinationConfiguration"];
    assert_eq!((&asked["Username"], &asked["Password"]), (&json!("loader"), &json!("set-it-again")));
    assert_eq!(asked["CopyCommand"]["CopyOptions"], "JSON 'auto' GZIP");
    assert_eq!(asked["S3BackupConfiguration"]["Prefix"], "raw/");
    assert!(left(&made).contains(&"Password"), "{:?}", left(&made));
}

#[test]
fn what_cannot_be_a_stream_is_refused_with_the_reason() {
    for (text, kind, part) in [
        ("{", Kind::Serialization, "EOF"),
        ("[]", Kind::Serialization, "must be a JSON object"),
        ("{}", Kind::Serialization, "describe-delivery-stream"),
        (r#"{"DeliveryStreamName":"a"}"#, Kind::InvalidArgument, "Destinations is empty"),
        (
            r#"{"DeliveryStreamName":"a","Destinations":[{"SnowflakeDestinationDescription":{}}]}"#,
            Kind::InvalidArgument,
            "destination Snowflake is not available",
        ),
        (
            r#"{"DeliveryStreamName":"a","Destinations":[{"DestinationId":"d"}]}"#,
            Kind::InvalidArgument,
            "none that is known",
        ),
    ] {
        let refusal = Migration::of(text.as_bytes(), &Functions::new()).unwrap_err();
        assert_eq!(refusal.kind, kind, "{text}: {refusal}");
        assert!(refusal.message.contains(part), "{text}: {refusal}");
    }
}
