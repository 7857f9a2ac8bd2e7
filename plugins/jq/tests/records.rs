//! What the case folders do not show: partitions, time, order, and records that leave in several pieces.

use wasmill_jq::Jq;
use wasmill_sdk::testing::{ARRIVAL, Run, run};

fn config(key: &str, program: &str) -> String {
    serde_json::json!({ key: program }).to_string()
}

#[test]
fn partition_values_are_set_by_name_and_the_record_stays_as_it_is() {
    let program = r#"{customer_id: .customer_id, year: (.ts | strftime("%Y")), n: .n, live: .live}"#;
    let records = [
        r#"{"customer_id":"c/1", "ts":1431849903,"n":1.50,"live":false}"#,
        r#"{"customer_id":"é","ts":0,"n":7,"live":true}"#,
    ];
    let outcome = run::<Jq>(&config("partition", program), &records);
    assert_eq!(outcome.reasons(), []);
    assert_eq!(outcome.rows(), records);
    let of = |row: usize| -> Vec<(&str, &str)> {
        let values = outcome.emitted[row].partition.iter();
        values.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    };
    assert_eq!(of(0), [("customer_id", "c/1"), ("year", "2015"), ("n", "1.50"), ("live", "false")]);
    assert_eq!(of(1), [("customer_id", "é"), ("year", "1970"), ("n", "7"), ("live", "true")]);
}

#[test]
fn partition_names_may_differ_from_record_to_record() {
    let program = "if .a then {a: .a} else {b: .b} end";
    let records = [r#"{"a":1}"#, "x", r#"{"b":2}"#, r#"{"a":3}"#];
    let outcome = run::<Jq>(&config("partition", program), &records);
    let partitions: Vec<String> = outcome.emitted.iter().map(|row| format!("{:?}", row.partition)).collect();
    assert_eq!(partitions, [r#"[("a", "1")]"#, r#"[("b", "2")]"#, r#"[("a", "3")]"#]);
    assert_eq!(outcome.reasons().len(), 1);
}

#[test]
fn partition_of_fifty_keys_passes_and_of_one_more_fails() {
    let program = r#"[range(.n)] | map({("k\(.)"): .}) | add"#;
    let outcome = run::<Jq>(&config("partition", program), &[r#"{"n":50}"#, r#"{"n":51}"#]);
    assert_eq!(outcome.emitted.len(), 1);
    assert_eq!(outcome.emitted[0].partition.len(), 50);
    assert_eq!(outcome.reasons(), [(1, "partition: 51 keys, at most 50 are taken")]);
}

#[test]
fn partition_names_of_a_chunk_are_more_than_the_host_takes_in_one_call() {
    let program = r#"{("k\(.n)"): 1}"#;
    let records: Vec<String> = (0..300).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let outcome = run::<Jq>(&config("partition", program), &records);
    assert_eq!((outcome.emitted.len(), outcome.reasons().len()), (300, 0));
}

#[test]
fn now_is_the_arrival_of_the_record_on_every_attempt() {
    let records = ["{}", "{}"];
    let outcome = run::<Jq>(&config("map", "now"), &records);
    let first = ARRIVAL as f64 / 1e9;
    let seconds: Vec<f64> = outcome.rows().iter().map(|row| row.parse().unwrap()).collect();
    assert_eq!(seconds, [first, (ARRIVAL + 1_000_000) as f64 / 1e9]);
    let cut = Run::new(&config("map", "now")).chunk_rows(1).fresh().records::<Jq>(&records).unwrap();
    assert_eq!(cut.rows(), outcome.rows());
    let outcome = run::<Jq>(&config("map", r#"now | strftime("%Y-%m-%d")"#), &["{}"]);
    assert_eq!(outcome.rows(), [r#""2026-11-22""#]);
}

#[test]
fn order_of_records_stays_where_some_become_several_and_some_none() {
    let outcome = run::<Jq>(&config("map", ".[]"), &["[1]", "[2,3]", "[]", "x", "[4]", "[5,6]"]);
    assert_eq!(outcome.rows(), ["1", "2", "3", "4", "5", "6"]);
    let places: Vec<(i64, u32)> = outcome.emitted.iter().map(|row| (row.offset, row.child)).collect();
    assert_eq!(places, [(0, 0), (1, 0), (1, 1), (4, 0), (5, 0), (5, 1)]);
    assert_eq!(outcome.reasons().len(), 1);
}

#[test]
fn ten_thousand_outputs_of_a_large_record_leave() {
    let text = r#"{"text":"a hundred bytes or so of text that makes the record large, as batches are"}"#;
    let record = format!("[{}]", vec![text; 10_000].join(","));
    let outcome = run::<Jq>(&config("map", ".[]"), &[&record]);
    assert_eq!((outcome.emitted.len(), outcome.reasons().len()), (10_000, 0));
}

#[test]
fn error_of_a_program_is_short_however_long_the_record_is() {
    let record = format!(r#"{{"a":"{}"}}"#, "x".repeat(100_000));
    let outcome = run::<Jq>(&config("map", ".a + 1"), &[record]);
    let reason = outcome.reasons()[0].1;
    assert!(reason.starts_with("map: cannot calculate \"xxx") && reason.len() < 400, "{reason}");
}
