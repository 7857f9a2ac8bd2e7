//! Definitions of delivery streams, and the streams that are made of them.

use wasmill_firehose::wire;

use super::*;
use crate::pipeline::SchemaSource;

fn settings() -> FirehoseSettings {
    FirehoseSettings {
        region: "eu-west-1".to_owned(),
        account: "123456789012".to_owned(),
        endpoint: Some("http://127.0.0.1:9000".to_owned()),
        path_style: true,
        kinesis_endpoint: None,
        encrypted_disk: false,
        schemas: [
            ("lake.clicks".to_owned(), SchemaSource::Columns("n: int64".to_owned())),
            ("lake.any".to_owned(), SchemaSource::Infer),
        ]
        .into(),
    }
}

fn planned(extended: Value) -> Result<Value, Refusal> {
    let mut bucket = json!({ "RoleARN": "arn:aws:iam::1:role/r", "BucketARN": "arn:aws:s3:::lake" });
    for (name, value) in extended.as_object().unwrap() {
        bucket[name] = value.clone();
    }
    let request = json!({ "DeliveryStreamName": "clicks", "ExtendedS3DestinationConfiguration": bucket });
    let request = wire::parse(request.to_string().as_bytes())?;
    stream(&Definition::create(request, 1)?, &settings())
}

#[test]
fn source_in_kinesis_begins_at_the_creation_and_is_taken_apart_first() {
    let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/in";
    let asked = |processors: Value| {
        let bucket = json!({
            "RoleARN": "arn:aws:iam::1:role/r",
            "BucketARN": "arn:aws:s3:::lake",
            "ProcessingConfiguration": { "Enabled": true, "Processors": processors },
        });
        let request = json!({
            "DeliveryStreamName": "clicks",
            "DeliveryStreamType": "KinesisStreamAsSource",
            "KinesisStreamSourceConfiguration": { "KinesisStreamARN": arn, "RoleARN": "arn:aws:iam::1:role/r" },
            "ExtendedS3DestinationConfiguration": bucket,
        });
        let request = wire::parse(request.to_string().as_bytes()).unwrap();
        let kinesis_endpoint = Some("http://127.0.0.1:4568".to_owned());
        let firehose = FirehoseSettings { kinesis_endpoint, ..settings() };
        stream(&Definition::create(request, 1_783_952_116_250).unwrap(), &firehose).unwrap()
    };
    let planned = asked(json!([]));
    let source = json!({
        "type": "kinesis", "stream": arn, "endpoint": "http://127.0.0.1:4568",
        "from": "at-timestamp", "timestamp": "2026-07-13T14:15:16.25Z",
    });
    assert_eq!(planned["source"], source);
    let unpack = |steps: Value| json!({ "plugin": "unpack", "config": { "steps": steps } });
    assert_eq!(planned["transforms"], json!([unpack(json!([{ "kpl": {} }]))]));
    let planned = asked(json!([{ "Type": "RecordDeAggregation", "Parameters": [
        { "ParameterName": "SubRecordType", "ParameterValue": "JSON" },
    ]}]));
    assert_eq!(planned["transforms"][0]["config"]["steps"][0], json!({ "kpl": {} }));
    assert_eq!(planned["transforms"][0]["config"]["steps"].as_array().map(Vec::len), Some(2));
}

#[test]
fn plain_stream_is_a_bucket_with_firehose_names_and_its_errors_below() {
    let planned = planned(json!({ "Prefix": "raw/clicks-" })).unwrap();
    assert_eq!(planned["transforms"], json!([]));
    let output = &planned["outputs"][0];
    assert_eq!(
        output,
        &json!({
            "type": "s3", "bucket": "lake", "prefix": "raw/", "region": "eu-west-1", "path_style": true,
            "endpoint": "http://127.0.0.1:9000", "firehose": { "prefix": "clicks-", "version": 1 },
            "format": "verbatim", "compression": "none", "size": "5MiB", "interval": "300s",
            "retry": { "for": "24h" },
        })
    );
    let letters = &planned["dead_letters"]["output"];
    assert_eq!((letters["prefix"].as_str(), letters["bucket"].as_str()), (Some("raw/"), Some("lake")));
    assert_eq!(letters["firehose"]["prefix"], "clicks-");
}

#[test]
fn processors_run_in_the_order_of_firehose_whatever_theirs_is() {
    let processor = |kind: &str, parameters: Value| {
        let parameters: Vec<Value> = parameters
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| json!({ "ParameterName": name, "ParameterValue": value }))
            .collect();
        json!({ "Type": kind, "Parameters": parameters })
    };
    let digest = "ab".repeat(32);
    let lambda = format!("arn:aws:lambda:eu-west-1:1:function:enrich-it:sha256-{digest}");
    let planned = planned(json!({
        "Prefix": "c=!{partitionKeyFromQuery:c}/!{timestamp:yyyy}/",
        "ErrorOutputPrefix": "bad/!{firehose:error-output-type}/",
        "BufferingHints": { "SizeInMBs": 64, "IntervalInSeconds": 60 },
        "CompressionFormat": "HADOOP_SNAPPY",
        "CustomTimeZone": "Europe/Berlin",
        "FileExtension": ".txt",
        "DynamicPartitioningConfiguration": { "Enabled": true },
        "ProcessingConfiguration": { "Enabled": true, "Processors": [
            processor("MetadataExtraction", json!({ "MetadataExtractionQuery": "{c:.c}", "JsonParsingEngine": "JQ-1.6" })),
            processor("Lambda", json!({ "LambdaArn": lambda })),
            processor("AppendDelimiterToRecord", json!({})),
            processor("RecordDeAggregation", json!({ "SubRecordType": "DELIMITED", "Delimiter": "fHw=" })),
        ] },
    }))
    .unwrap();
    assert_eq!(
        planned["transforms"],
        json!([
            { "plugin": "unpack", "config": { "steps": [
                { "delimited": { "delimiter": "||", "leave_whole_beyond": 500 } },
            ] } },
            { "plugin": format!("enrich-it@sha256:{digest}"), "name": "enrich-it", "config": {
                "function_name": "enrich-it", "stream_arn": "arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks",
            } },
            { "plugin": "jq", "name": "partition", "config": { "partition": "{c:.c}" } },
        ])
    );
    let output = &planned["outputs"][0];
    assert_eq!(
        (output["format"].as_str(), output["compression"].as_str()),
        (Some("raw"), Some("hadoop-snappy"))
    );
    assert_eq!(
        output["firehose"],
        json!({
            "prefix": "c=!{partitionKeyFromQuery:c}/!{timestamp:yyyy}/", "version": 1,
            "time_zone": "Europe/Berlin", "extension": ".txt",
        })
    );
    assert_eq!((output["prefix"].as_str(), output["size"].as_str()), (Some(""), Some("64MiB")));
    let letters = &planned["dead_letters"]["output"];
    assert_eq!(letters["prefix"], "bad/");
    assert_eq!(letters["firehose"]["prefix"], "!{firehose:error-output-type}/");
    assert_eq!(letters["firehose"]["functions"], json!({ "enrich-it": lambda }));
}

fn converted(more: &Value) -> Value {
    let mut conversion = json!({
        "SchemaConfiguration": { "DatabaseName": "lake", "TableName": "clicks" },
        "InputFormatConfiguration": { "Deserializer": { "OpenXJsonSerDe": {} } },
        "OutputFormatConfiguration": { "Serializer": { "ParquetSerDe": {} } },
    });
    for (name, value) in more.as_object().unwrap() {
        conversion[name] = value.clone();
    }
    json!({ "DataFormatConversionConfiguration": conversion })
}

#[test]
fn conversion_is_an_output_of_columns() {
    let output = &planned(converted(&json!({}))).unwrap()["outputs"][0];
    assert_eq!(
        (output["format"].as_str(), output["compression"].as_str()),
        (Some("parquet"), Some("snappy"))
    );
    assert_eq!((output["size"].as_str(), output["interval"].as_str()), (Some("128MiB"), Some("300s")));
    assert_eq!(
        output["parquet"],
        json!({
            "schema": "n: int64", "row_group": "268435456", "page": "1048576", "version": "v1",
            "case_insensitive": true, "dots_to_underscores": false, "keys": {},
        })
    );
    let errors = |planned: &Value| planned["dead_letters"]["output"]["firehose"]["table"].clone();
    assert_eq!(
        errors(&planned(converted(&json!({}))).unwrap()),
        json!({
            "catalog": "123456789012", "database": "lake", "table": "clicks", "region": "eu-west-1", "version": "LATEST",
        })
    );
    let more = converted(&json!({
        "SchemaConfiguration": { "DatabaseName": "lake", "TableName": "any", "VersionId": "LATEST", "CatalogId": "7", "Region": "us-west-2" },
        "InputFormatConfiguration": { "Deserializer": { "HiveJsonSerDe": { "TimestampFormats": ["millis"] } } },
        "OutputFormatConfiguration": { "Serializer": { "ParquetSerDe": {
            "Compression": "GZIP", "BlockSizeBytes": 67_108_864, "PageSizeBytes": 65_536, "WriterVersion": "V2",
        } } },
    }));
    let planned_more = planned(more).unwrap();
    let output = &planned_more["outputs"][0];
    assert_eq!(
        (errors(&planned_more)["catalog"].as_str(), errors(&planned_more)["region"].as_str()),
        (Some("7"), Some("us-west-2"))
    );
    assert_eq!(output["compression"], "gzip");
    assert_eq!(
        output["parquet"],
        json!({
            "infer": true, "row_group": "67108864", "page": "65536", "version": "v2", "case_insensitive": true,
            "timestamps": ["millis"],
        })
    );
    let x = converted(&json!({ "InputFormatConfiguration": { "Deserializer": { "OpenXJsonSerDe": {
        "CaseInsensitive": false, "ConvertDotsInJsonKeysToUnderscores": true, "ColumnToJsonKeyMappings": { "n": "count" },
    } } } }));
    let output = &planned(x).unwrap()["outputs"][0]["parquet"];
    assert_eq!(
        (output["keys"]["n"].as_str(), output["dots_to_underscores"].as_bool()),
        (Some("count"), Some(true))
    );
    assert_eq!(output["case_insensitive"], false);
    let off = planned(converted(&json!({ "Enabled": false }))).unwrap();
    assert_eq!(off["outputs"][0]["format"], "verbatim");
}

#[test]
fn conversion_that_cannot_be_is_refused_by_what_is_missing() {
    for (wrong, part) in [
        (json!({ "OutputFormatConfiguration": { "Serializer": { "OrcSerDe": {} } } }), "OrcSerDe"),
        (json!({ "SchemaConfiguration": { "TableName": "clicks" } }), "DatabaseName"),
        (
            json!({ "SchemaConfiguration": { "DatabaseName": "lake", "TableName": "visits" } }),
            "[firehose.schemas]",
        ),
        (
            json!({ "SchemaConfiguration": { "DatabaseName": "lake", "TableName": "clicks", "VersionId": "3" } }),
            "LATEST",
        ),
        (
            json!({ "OutputFormatConfiguration": { "Serializer": { "ParquetSerDe": { "BlockSizeBytes": 2_147_483_648_u64 } } } }),
            "BlockSizeBytes",
        ),
    ] {
        let refusal = planned(converted(&wrong)).unwrap_err();
        assert!(refusal.message.contains(part), "{wrong}: {refusal}");
    }
}

#[test]
fn backup_is_a_place_of_its_own_for_records_as_they_came_in() {
    let backup = json!({
        "RoleARN": "arn:aws:iam::1:role/r", "BucketARN": "arn:aws:s3:::cellar", "Prefix": "source/",
        "CompressionFormat": "GZIP", "BufferingHints": { "SizeInMBs": 7, "IntervalInSeconds": 60 },
    });
    let planned = planned(json!({ "S3BackupMode": "Enabled", "S3BackupConfiguration": backup })).unwrap();
    assert_eq!(
        planned["backup"],
        json!({
            "type": "s3", "bucket": "cellar", "prefix": "source/", "region": "eu-west-1", "path_style": true,
            "endpoint": "http://127.0.0.1:9000", "firehose": { "prefix": "", "version": 1 },
            "format": "verbatim", "compression": "gzip", "size": "7MiB", "interval": "60s",
            "retry": { "for": "24h" },
        })
    );
    assert_eq!(planned["outputs"][0]["bucket"], "lake");
    let refusal = self::planned(json!({ "S3BackupMode": "Enabled" })).unwrap_err();
    assert!(refusal.message.contains("S3BackupConfiguration"), "{refusal}");
}

#[test]
fn what_is_not_there_is_refused_by_its_name() {
    let lambda = |arn: &str| {
        json!({ "ProcessingConfiguration": { "Enabled": true, "Processors": [
            { "Type": "Lambda", "Parameters": [{ "ParameterName": "LambdaArn", "ParameterValue": arn }] },
        ] } })
    };
    for (wrong, part) in [
        (json!({ "BucketARN": "arn:aws:s3:::" }), "BucketARN"),
        (json!({ "Prefix": "a/../b" }), "Prefix \"a/../b\" has the step \"..\""),
        (json!({ "Prefix": "a/", "ErrorOutputPrefix": "./e" }), "ErrorOutputPrefix"),
        (
            json!({ "EncryptionConfiguration": { "KMSEncryptionConfig": { "AWSKMSKeyARN": "arn:aws:kms:eu-west-1:1:key/k" } } }),
            "KMSEncryptionConfig",
        ),
        (lambda("arn:aws:lambda:eu-west-1:123456789012:function:f:prod"), "sha256-<64 hex digits"),
    ] {
        let refusal = planned(wrong.clone()).unwrap_err();
        assert!(refusal.message.contains(part), "{wrong}: {refusal}");
    }
    let latest = planned(lambda("arn:aws:lambda:eu-west-1:123456789012:function:f:$LATEST")).unwrap();
    assert_eq!(
        (&latest["transforms"][0]["plugin"], &latest["transforms"][0]["config"]["function_name"]),
        (&json!("f"), &json!("f"))
    );
}

#[test]
fn plugin_that_is_no_function_is_not_told_what_functions_are() {
    let function = |name: &str| {
        let arn = format!("arn:aws:lambda:eu-west-1:123456789012:function:{name}");
        json!({ "Type": "Lambda", "Parameters": [{ "ParameterName": "LambdaArn", "ParameterValue": arn }] })
    };
    let mut planned = planned(json!({ "ProcessingConfiguration": { "Enabled": true, "Processors": [
        function("a"), function("a"), function("b"),
        { "Type": "Decompression", "Parameters": [{ "ParameterName": "CompressionFormat", "ParameterValue": "GZIP" }] },
    ] } }))
    .unwrap();
    let names = |planned: &Value| -> Vec<Value> {
        planned["transforms"].as_array().unwrap().iter().map(|transform| transform["name"].clone()).collect()
    };
    assert_eq!(names(&planned), [json!(null), json!("a"), json!("a-2"), json!("b")]);
    let functions = &planned["dead_letters"]["output"]["firehose"]["functions"];
    assert_eq!(functions["a-2"], "arn:aws:lambda:eu-west-1:123456789012:function:a");
    assert!(!leave_untold(&mut planned, &[]));
    // A step that is no function keeps its config, whoever refuses it.
    assert!(!leave_untold(&mut planned, &[0]));
    assert!(leave_untold(&mut planned, &[0, 2]));
    let has_config: Vec<bool> = planned["transforms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|transform| transform["config"].is_object())
        .collect();
    assert_eq!(has_config, [true, true, false, true]);
    assert!(!leave_untold(&mut planned, &[2]), "it has none any more");
}

#[test]
fn keys_of_query_and_function_of_one_name_are_two() {
    let of = |prefix: &str, query: &str| {
        let arn = "arn:aws:lambda:eu-west-1:123456789012:function:f";
        let partitioned = planned(json!({
            "Prefix": prefix, "ErrorOutputPrefix": "bad/",
            "BufferingHints": { "SizeInMBs": 64, "IntervalInSeconds": 60 },
            "DynamicPartitioningConfiguration": { "Enabled": true },
            "ProcessingConfiguration": { "Enabled": true, "Processors": [
                { "Type": "MetadataExtraction", "Parameters": [
                    { "ParameterName": "MetadataExtractionQuery", "ParameterValue": query },
                    { "ParameterName": "JsonParsingEngine", "ParameterValue": "JQ-1.6" },
                ] },
                { "Type": "Lambda", "Parameters": [{ "ParameterName": "LambdaArn", "ParameterValue": arn }] },
            ] },
        }))
        .unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&partitioned["outputs"][0]["firehose"]["prefix"]),
            text(&partitioned["transforms"][1]["config"]["partition"]),
        )
    };
    let apart = "!{partitionKeyFromQuery:q}/!{partitionKeyFromLambda:k}/";
    assert_eq!(of(apart, "{q:.q}"), (apart.to_owned(), "{q:.q}".to_owned()));
    assert_eq!(
        of(
            "!{partitionKeyFromQuery:k}/!{partitionKeyFromQuery:q}/!{partitionKeyFromLambda:k}/",
            "{k:.k,q:.q}"
        ),
        (
            "!{partitionKeyFromQuery:query.k}/!{partitionKeyFromQuery:query.q}/!{partitionKeyFromLambda:k}/"
                .to_owned(),
            "({k:.k,q:.q}\n) | with_entries(.key = \"query.\" + .key)".to_owned(),
        )
    );
    let (prefix, _) = of(
        "!{partitionKeyFromQuery:k}/!{partitionKeyFromLambda:k}/!{partitionKeyFromLambda:query.k}/",
        "{k:.k}",
    );
    assert!(prefix.starts_with("!{partitionKeyFromQuery:-query.k}/"), "{prefix}");
}

#[test]
fn messages_of_cloudwatch_logs_are_lines() {
    let of = |more: Value| {
        let mut processors = vec![
            json!({ "Type": "CloudWatchLogProcessing", "Parameters": [
                { "ParameterName": "DataMessageExtraction", "ParameterValue": "true" },
            ] }),
            json!({ "Type": "Decompression", "Parameters": [
                { "ParameterName": "CompressionFormat", "ParameterValue": "GZIP" },
            ] }),
        ];
        processors.extend(more.as_array().unwrap().clone());
        planned(json!({ "ProcessingConfiguration": { "Enabled": true, "Processors": processors } })).unwrap()
    };
    let logs = [json!({ "decompress": "gzip" }), json!({ "cloudwatch_logs": { "messages": true } })];
    let alone = of(json!([]));
    let append = json!({ "append": "\n" });
    assert_eq!(alone["transforms"][0]["config"]["steps"], json!([logs[0], logs[1], append]));
    assert_eq!(alone["outputs"][0]["format"], "verbatim");
    // A line feed behind whatever leaves does for messages, too.
    let delimited = of(json!([{ "Type": "AppendDelimiterToRecord" }]));
    assert_eq!(delimited["transforms"][0]["config"]["steps"], json!([logs[0], logs[1]]));
    assert_eq!(delimited["outputs"][0]["format"], "raw");
    let taken_apart = of(json!([{ "Type": "RecordDeAggregation", "Parameters": [
        { "ParameterName": "SubRecordType", "ParameterValue": "JSON" },
    ] }]));
    assert_eq!(taken_apart["transforms"][0]["config"]["steps"][3]["json"]["leave_whole_beyond"], 500);
    let envelopes = planned(json!({ "ProcessingConfiguration": { "Enabled": true, "Processors": [
        { "Type": "Decompression", "Parameters": [{ "ParameterName": "CompressionFormat", "ParameterValue": "GZIP" }] },
    ] } }))
    .unwrap();
    assert_eq!(envelopes["transforms"][0]["config"]["steps"], json!([logs[0]]));
}
