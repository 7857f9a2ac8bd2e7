//! What Amazon Data Firehose writes of records that failed, and what its processors make of the others, as its own client finds
//! them in the bucket.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use super::{Rig, component, ended, script, texts};

/// The table that a stream's columns are of.
const VISITS: &str = "[firehose.schemas]\n\"lake.visits\" = \"n: bigint required\"\n";

/// What all objects below a prefix hold together.
fn text(lake: &TempDir, prefix: &str) -> String {
    texts(lake, prefix).into_values().collect()
}

/// Lines of errors by the bytes of their record, which are told apart.
fn failed(lake: &TempDir, prefix: &str) -> BTreeMap<Vec<u8>, Value> {
    let text = text(lake, &format!("failed/{prefix}"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = lines.len();
    let raw = |line: &Value| STANDARD.decode(line["rawData"].as_str().unwrap()).unwrap();
    let found: BTreeMap<Vec<u8>, Value> = lines.into_iter().map(|line| (raw(&line), line)).collect();
    assert_eq!(found.len(), count, "{prefix}: {text}");
    found
}

/// The line of this record has exactly these members.
#[track_caller]
fn line<'a>(lines: &'a BTreeMap<Vec<u8>, Value>, record: &[u8], members: &[&str]) -> &'a Value {
    let line = lines.get(record).unwrap_or_else(|| panic!("nothing of {record:?} in {lines:#?}"));
    let found: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, members.iter().copied().collect::<BTreeSet<&str>>(), "{line}");
    let (arrived, ended) = (line["arrivalTimestamp"].as_i64(), line["attemptEndingTimestamp"].as_i64());
    assert!(arrived.is_some_and(|at| at > 1_700_000_000_000 && ended >= Some(at)), "{line}");
    assert!(line["attemptsMade"].as_u64() >= Some(1), "{line}");
    line
}

const PROCESSED: &[&str] = &[
    "attemptsMade",
    "arrivalTimestamp",
    "errorCode",
    "errorMessage",
    "attemptEndingTimestamp",
    "rawData",
    // Beside what is documented.
    "transform",
    "plugin",
];

#[test]
fn records_that_fail_are_in_the_files_that_the_service_documents_and_others_in_the_bucket() {
    let plugins = ["unpack", "jq"].map(|name| component("WASMILL_PLUGINS", name));
    let [Some(unpack), Some(jq)] = plugins else { return };
    let Some(lambda) = component("WASMILL_GUESTS", "lambda") else { return };
    let (Some(mut client), Some(mut looker)) = (script("failures.py"), script("objects.py")) else { return };
    let plugins = [("unpack", &*unpack), ("jq", &*jq), ("lambda", &*lambda)];
    let Some(rig) = Rig::start_with(VISITS, &plugins) else { return };
    rig.run(&mut client);
    looker.envs(rig.store());
    // What is still gathered is delivered, and so is what it fails.
    rig.program.stop();
    ended(&mut looker).unwrap_or_else(|told| panic!("{told}"));
    let lake = &rig.lake;

    // The function.
    let passed = text(lake, "functions");
    let [passed] = &passed.lines().collect::<Vec<_>>()[..] else { panic!("{passed}") };
    let passed: Value = serde_json::from_str(passed).unwrap();
    assert_eq!(passed["n"], 4);
    let event = &passed["event"];
    assert_eq!(event["stream"], "arn:aws:firehose:eu-west-1:123456789012:deliverystream/functions");
    assert_eq!(
        (event["region"].as_str(), event["invocation"].as_str().map(str::len)),
        (Some("eu-west-1"), Some(36))
    );
    assert!(event["function"].as_str().unwrap().ends_with(":function:lambda"), "{event}");
    let lines = failed(lake, "functions/processing-failed");
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let members: Vec<&str> = PROCESSED.iter().copied().chain(["lambdaArn"]).collect();
    for (record, code) in [
        (&br#"{"n": 1, "answer": "ProcessingFailed"}"#[..], "Lambda.ProcessingFailedStatus"),
        (br#"{"n": 2, "answer": "nothing"}"#, "Lambda.MissingRecordId"),
        (br#"{"n": 3, "answer": "throw"}"#, "Lambda.FunctionError"),
    ] {
        let line = line(&lines, record, &members);
        assert_eq!(line["errorCode"], code);
        assert_eq!(line["lambdaArn"], "arn:aws:lambda:eu-west-1:123456789012:function:lambda:$LATEST");
        assert_eq!(line["transform"], "lambda");
    }

    // Columns.
    let lines = failed(lake, "visits/format-conversion-failed");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for (record, code) in [
        (&br#"{"n":"many"}"#[..], "DataFormatConversion.MalformedData"),
        (b"no json", "DataFormatConversion.ParseError"),
    ] {
        let line = line(
            &lines,
            record,
            &[
                "attemptsMade",
                "arrivalTimestamp",
                "lastErrorCode",
                "lastErrorMessage",
                "attemptEndingTimestamp",
                "rawData",
                "sequenceNumber",
                "subSequenceNumber",
                "dataCatalogTable",
            ],
        );
        assert_eq!(line["lastErrorCode"], code);
        assert_eq!(
            line["dataCatalogTable"],
            serde_json::json!({
                "catalogId": "123456789012", "databaseName": "lake", "tableName": "visits", "region": "eu-west-1",
                "versionId": "LATEST", "catalogArn": null,
            })
        );
    }

    // Partitions.
    let lines = failed(lake, "parted/metadata-extraction-failed");
    let line_of_null = line(&lines, br#"{"n":2,"area":"of-function","k":null}"#, PROCESSED);
    assert_eq!(
        (lines.len(), &line_of_null["errorCode"]),
        (1, &"DynamicPartitioning.MetadataExtractionFailed".into())
    );
    let message = line_of_null["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("partitionKeys values must not be null or empty"), "{message}");
    let parted = text(lake, "parted/of-query/of-function");
    assert_eq!(serde_json::from_str::<Value>(&parted).unwrap()["n"], 1, "{parted}");

    // Nobody was there.
    let lines = failed(lake, "posted/http-endpoint-failed");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for record in [&b"one"[..], b"\xff\x00two"] {
        let members: Vec<&str> =
            PROCESSED.iter().copied().filter(|member| !["transform", "plugin"].contains(member)).collect();
        let members: Vec<&str> = members.into_iter().chain(["subsequenceNumber", "dataId"]).collect();
        assert_eq!(line(&lines, record, &members)["errorCode"], "HttpEndpoint.ConnectionFailed");
    }

    // Messages of logs.
    assert_eq!(text(lake, "logs"), "first\n{\"second\":2}\nthird\n");
    let lines = failed(lake, "logs/processing-failed");
    let codes: Vec<&Value> = lines.values().map(|line| &line["transform"]).collect();
    assert_eq!(codes, ["unpack"], "gzip of something else");
}
