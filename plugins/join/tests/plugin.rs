//! What no case folder can say: event time of the stream.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;
use wasmill_join::Join;
use wasmill_sdk::testing::Run;

const SECOND: i64 = 1_000_000_000;

fn config(more: &str) -> String {
    let sides = r#""left":{"is":"order","into":"order"},"right":{"is":"payment","into":"payment"}"#;
    format!(r#"{{"streams":{{"on":["id"],"side":"type",{sides},"after":"10s","kind":"full"{more}}}}}"#)
}

/// Orders and payments out of order: `{"id":…,"n":…,"t":…,"type":…}`.
fn records() -> Vec<(i64, String)> {
    let record = |n: i64| {
        let time = n - n * 7_919 % 29;
        let kind = if n % 3 == 0 { "payment" } else { "order" };
        (time, json!({ "id": n % 5, "n": n, "t": time, "type": kind }).to_string())
    };
    (0..300).map(record).collect()
}

/// What leaves by the stream's event time, in the order in which it does.
fn by_stream(records: &[(i64, String)], delay: i64, rows: usize) -> Vec<String> {
    let times = records.iter().map(|(time, _)| Some(time * SECOND)).collect();
    let run = Run::new(&config("")).chunk_rows(rows).event_time(times, delay * SECOND);
    let payloads: Vec<&String> = records.iter().map(|(_, payload)| payload).collect();
    run.records::<Join>(&payloads).unwrap().rows().iter().map(|row| (*row).to_owned()).collect()
}

fn is_alone(row: &str) -> bool {
    row.contains(":null")
}

#[test]
fn join_by_the_streams_watermark_is_the_same_however_it_is_cut_and_that_of_a_watermark_of_its_own() {
    let records = records();
    let own = Run::new(&config(r#","time":"t","time_format":"s","delay":"12s""#));
    let payloads: Vec<&String> = records.iter().map(|(_, payload)| payload).collect();
    let own = own.records::<Join>(&payloads).unwrap();
    let own: Vec<&str> = own.rows();
    let alone = own.iter().filter(|row| is_alone(row)).count();
    assert!(alone > 30 && own.len() > alone + 50, "{alone} of {} rows are alone", own.len());
    for rows in [1, 3, 64, 4000] {
        let found = by_stream(&records, 12, rows);
        // Pairs stand behind what is alone, or in front, as chunks begin and end.
        for is_wanted in [true, false] {
            let of = |row: &&str| is_alone(row) == is_wanted;
            let found: Vec<&str> = found.iter().map(String::as_str).filter(of).collect();
            let own: Vec<&str> = own.iter().copied().filter(of).collect();
            assert_eq!(found, own, "{rows} records at a time");
        }
    }
}

#[test]
fn what_met_nothing_is_given_by_the_watermark_behind_the_last_record() {
    let record = |kind: &str, time: i64| (time, json!({ "id": 1, "type": kind }).to_string());
    let waits = [record("order", 0), record("other", 15)];
    let rows = by_stream(&waits, 5, 10);
    assert_eq!(rows, [waits[1].1.as_str()], "an order of 0 may be paid until 10 and that is not over");
    let over = [record("order", 0), record("other", 16)];
    let rows = by_stream(&over, 5, 10);
    assert!(rows.len() == 2 && rows[1].starts_with("{\"order\":{") && is_alone(&rows[1]), "{rows:?}");
}

#[test]
fn record_without_a_time_of_the_stream_fails_and_its_own_delay_is_refused() {
    let record = r#"{"id":1,"type":"order"}"#;
    let run = Run::new(&config("")).event_time(vec![Some(0), None], 0);
    assert_eq!(run.records::<Join>(&[record, record]).unwrap().reasons(), [(1, "it has no event time")]);
    let refused = Run::new(&config(r#","delay":"1s""#)).event_time(vec![], 0);
    let refused = refused.records::<Join>(&[""; 0]).unwrap_err();
    assert!(refused.contains("`delay` is that of the stream's `event_time`"), "{refused}");
    // With a time of its own it has a watermark of its own.
    let own = config(r#","time":"t","time_format":"s","delay":"1s""#);
    let run = Run::new(&own).event_time(vec![Some(90 * SECOND), Some(0)], 0);
    let records = [r#"{"id":1,"type":"order","t":1}"#, r#"{"id":1,"type":"payment","t":2}"#];
    assert_eq!(run.records::<Join>(&records).unwrap().rows().len(), 1);
}
