//! Lambda functions of Firehose: the cases that all SDKs share, and a function as they are written everywhere.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::cell::RefCell;
use std::task::Poll;

use serde_json::{Value, json};
use wasmill_sdk::lambda::{
    Base64Data, Error, KinesisFirehoseEvent, KinesisFirehoseResponse, KinesisFirehoseResponseRecord,
    KinesisFirehoseResponseRecordMetadata, LambdaEvent,
};
use wasmill_sdk::testing::{self, Outcome, Run, Verdict};

const TABLE: &str = include_str!("../../conformance/lambda.json");

fn cases() -> Vec<Value> {
    let table: Value = serde_json::from_str(TABLE).unwrap();
    let cases = table["cases"].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

thread_local! {
    static CASE: RefCell<Value> = const { RefCell::new(Value::Null) };
    static EVENTS: RefCell<Vec<Value>> = const { RefCell::new(Vec::new()) };
}

/// With the ids that stand for `#0` and so on.
fn with_ids(value: &Value, records: &[Value]) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix('#') {
            Some(number) => records[number.parse::<usize>().unwrap()]["recordId"].clone(),
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(|item| with_ids(item, records)).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, item)| (key.clone(), with_ids(item, records))).collect()
        }
        _ => value.clone(),
    }
}

/// Waits once, as functions do.
async fn pause() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn untyped(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (mut event, context) = event.into_parts();
    EVENTS.with_borrow_mut(|events| events.push(event.clone()));
    assert_eq!(event["invocationId"], context.request_id.as_str());
    pause().await;
    let case = CASE.with_borrow(Clone::clone);
    let records = event["records"].as_array_mut().unwrap();
    let Some(guilty) = case["throws_at"].as_str() else {
        return Ok(with_ids(&case["answer"], records));
    };
    for record in records {
        let data: Base64Data = serde_json::from_value(record["data"].clone())?;
        if *data == guilty.as_bytes() {
            return Err(format!("cannot work on {guilty}").into());
        }
        record["result"] = json!("Ok");
    }
    Ok(event)
}

wasmill_sdk::lambda_plugin!(Untyped, untyped);

fn run(case: &Value) -> Outcome {
    let config = case.get("config").map_or_else(|| "{}".to_owned(), Value::to_string);
    let records: Vec<&str> =
        case["records"].as_array().unwrap().iter().map(|record| record.as_str().unwrap()).collect();
    let rows = case["chunk_rows"].as_u64().unwrap_or(500);
    Run::new(&config).chunk_rows(usize::try_from(rows).unwrap()).records::<Untyped>(&records).unwrap()
}

#[test]
fn every_case_that_the_sdks_share_holds() {
    for case in cases() {
        let name = &case["name"];
        CASE.set(case.clone());
        EVENTS.take();
        let outcome = run(&case);
        let events = EVENTS.take();
        if let Some(expected) = case.get("events") {
            assert_eq!(*expected, Value::from(events), "{name}");
        }
        let rows: Value = outcome
            .emitted
            .iter()
            .map(|row| {
                let mut one = vec![json!(row.offset), json!(row.payload)];
                if !row.partition.is_empty() {
                    one.push(row.partition.iter().map(|(key, value)| (key.clone(), json!(value))).collect());
                }
                Value::from(one)
            })
            .collect();
        assert_eq!(rows, case.get("rows").cloned().unwrap_or(json!([])), "{name}");
        let reasons = outcome.reasons();
        let failed = case["failed"].as_object().cloned().unwrap_or_default();
        assert_eq!(reasons.len(), failed.len(), "{name}: {reasons:?}");
        for (row, reason) in reasons {
            let expected = failed[&row.to_string()].as_str().unwrap();
            match expected.strip_suffix("...") {
                Some(start) => {
                    let start = format!("{start}cannot work on {}", case["throws_at"].as_str().unwrap());
                    assert_eq!(reason, start, "{name}");
                }
                None => assert_eq!(reason, expected, "{name}"),
            }
        }
    }
}

/// A function as most are: decode, change, encode.
async fn clean(event: LambdaEvent<KinesisFirehoseEvent>) -> Result<KinesisFirehoseResponse, Error> {
    let name = &event.context.env_config.function_name;
    let mut response = KinesisFirehoseResponse { records: Vec::with_capacity(event.payload.records.len()) };
    for record in event.payload.records {
        let mut transformed = KinesisFirehoseResponseRecord {
            record_id: record.record_id,
            result: Some("Ok".to_owned()),
            data: record.data.clone(),
            metadata: KinesisFirehoseResponseRecordMetadata::default(),
        };
        match serde_json::from_slice::<Value>(&record.data) {
            Err(_) => transformed.result = Some("ProcessingFailed".to_owned()),
            Ok(visit) if visit["internal"] == true => transformed.result = Some("Dropped".to_owned()),
            Ok(mut visit) => {
                visit["by"] = json!(name);
                visit["seen"] = json!(record.approximate_arrival_timestamp.0);
                let mut text = serde_json::to_vec(&visit)?;
                text.push(b'\n');
                transformed.data = Base64Data(text);
                transformed.metadata.partition_keys.insert("by".to_owned(), name.clone());
            }
        }
        response.records.push(transformed);
    }
    Ok(response)
}

wasmill_sdk::export_lambda!(clean);

#[test]
fn function_as_they_are_runs_unchanged() {
    let records = [r#"{"n":1}"#, r#"{"internal":true}"#, "nonsense"];
    let outcome = testing::run::<Lambda>(r#"{"function_name":"clean"}"#, &records);
    assert_eq!(outcome.rows(), ["{\"by\":\"clean\",\"n\":1,\"seen\":1795305600000}\n"]);
    assert_eq!(outcome.emitted[0].partition, [("by".to_owned(), "clean".to_owned())]);
    assert_eq!(outcome.verdicts[1], Verdict::Dropped);
    let reason = "Lambda.ProcessingFailedStatus: ProcessingFailed status set for record";
    assert_eq!(outcome.reasons(), [(2, reason)]);
}

#[test]
fn config_is_read_strictly() {
    let refusal = testing::refusal::<Lambda>(r#"{"stream_anr":"x"}"#);
    assert!(refusal.contains("did you mean `stream_arn`?"), "{refusal}");
}

async fn never(_event: LambdaEvent<Value>) -> Result<Value, Error> {
    std::future::pending().await
}

async fn other(event: LambdaEvent<Vec<String>>) -> Result<Vec<String>, String> {
    Ok(event.payload)
}

wasmill_sdk::lambda_plugin!(Never, never);
wasmill_sdk::lambda_plugin!(Other, other);

#[test]
fn what_never_comes_and_what_is_no_event_are_errors_of_the_function() {
    let outcome = testing::run::<Never>("", &["a"]);
    let reason = outcome.reasons()[0].1.to_owned();
    assert!(reason.starts_with("Lambda.FunctionError: the function waits for something"), "{reason}");
    let outcome = testing::run::<Other>("", &["a"]);
    let reason = outcome.reasons()[0].1.to_owned();
    assert!(reason.starts_with("Lambda.FunctionError: invalid type: map"), "{reason}");
}
