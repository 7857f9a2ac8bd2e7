//! What no case folder can say: outputs, and results that depend on the chunks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use wasmill_sdk::testing::Run;
use wasmill_window::Window;

fn config(more: &str) -> String {
    let windows = r#""window":{"kind":"tumbling","size":"10s"},"time":"t","time_format":"s""#;
    format!(r#"{{{windows},"aggregates":{{"n":{{"op":"count"}}}}{more}}}"#)
}

#[test]
fn late_records_go_to_their_output() {
    let config = config(r#","late":"keep","late_output":"late""#);
    let run = Run::new(&config).output("late");
    let outcome = run.records::<Window>(&[r#"{"t":3}"#, r#"{"t":12}"#, r#"{"t":4}"#]).unwrap();
    let routed: Vec<(i64, u32)> = outcome.emitted.iter().map(|row| (row.offset, row.route)).collect();
    assert_eq!(routed, [(2, 1), (-1, 0)]);
    assert_eq!(outcome.emitted[1].payload.matches("\"n\":1").count(), 1);
    let refused = Run::new(&config).records::<Window>(&[""; 0]).unwrap_err();
    assert!(refused.contains("no output is named `late`"), "{refused}");
}

#[test]
fn updates_come_with_each_chunk() {
    let records = [r#"{"t":1}"#, r#"{"t":2}"#, r#"{"t":3}"#, r#"{"t":12}"#];
    let config = config(r#","emit":"update","timing":"why""#);
    let counts = |rows: usize| -> Vec<String> {
        let outcome = Run::new(&config).chunk_rows(rows).records::<Window>(&records).unwrap();
        let count = |row: &&str| row.split("\"n\":").nth(1).unwrap().chars().take(1).collect();
        outcome.rows().iter().map(count).collect()
    };
    assert_eq!(counts(1), ["1", "2", "3", "1"]);
    assert_eq!(counts(3), ["3", "1"]);
    assert_eq!(counts(4), ["3", "1"]);
}

#[test]
fn a_record_that_fails_counts_nowhere() {
    let config = config("").replace(r#"{"op":"count"}"#, r#"{"op":"sum","field":"x"}"#);
    let records = [r#"{"t":1,"x":5}"#, r#"{"t":90,"x":"wrong"}"#, r#"{"t":2,"x":6}"#, r#"{"t":10,"x":0}"#];
    let outcome = Run::new(&config).records::<Window>(&records).unwrap();
    assert_eq!(outcome.reasons(), [(1, "the value of `x` is no number")]);
    assert_eq!(outcome.rows().len(), 1);
    assert!(outcome.rows()[0].contains("\"n\":11"), "{}", outcome.rows()[0]);
}

const SECOND: i64 = 1_000_000_000;

/// Windows by the stream's event time, as `start count` in the order in which they left, and whether a window was given twice.
fn by_stream(times: &[Option<i64>], delay: i64, rows: usize) -> Vec<String> {
    let config =
        r#"{"window":{"kind":"tumbling","size":"10s"},"time_format":"s","aggregates":{"n":{"op":"count"}}}"#;
    let ns = times.iter().map(|time| time.map(|time| time * SECOND)).collect();
    let run = Run::new(config).chunk_rows(rows).event_time(ns, delay * SECOND);
    let outcome = run.records::<Window>(&vec!["{}"; times.len()]).unwrap();
    outcome.rows().iter().map(|row| (*row).to_owned()).collect()
}

#[test]
fn windows_by_the_streams_watermark_are_the_same_however_it_is_cut_and_close_behind_the_last_record() {
    let times: Vec<Option<i64>> = (0..200).map(|n| Some(n - n * 7_919 % 13)).collect();
    let whole = by_stream(&times, 13, 4000);
    // The newest time is 199 at most, and 13 seconds less are waited for: 170 to 180 is the last one that can be over.
    assert!(whole.len() >= 18, "{whole:?}");
    let count =
        |row: &String| row.split("\"n\":").nth(1).unwrap().trim_end_matches('}').parse::<u64>().unwrap();
    let whole_ones = whole.iter().filter(|row| count(row) == 10).count();
    assert!(whole_ones >= 15, "nothing is late: {whole:?}");
    for rows in [1, 3, 64] {
        assert_eq!(by_stream(&times, 13, rows), whole, "{rows} records at a time");
    }
    assert!(whole[0].contains("\"window_start\":-10,"), "in the format that is asked for: {}", whole[0]);
    // Closed by the watermark behind the last record, not by one that comes later.
    assert_eq!(by_stream(&[Some(3), Some(20)], 5, 10).len(), 1);
}

#[test]
fn results_by_arrival_have_the_format_that_is_asked_for() {
    let config = r#"{"window":{"kind":"tumbling","size":"10s"},"time_format":"ms","emit":"update","aggregates":{"n":{"op":"count"}}}"#;
    let outcome = Run::new(config).records::<Window>(&["{}"]).unwrap();
    let [row] = outcome.rows()[..] else { panic!("{:?}", outcome.rows()) };
    let row: serde_json::Value = serde_json::from_str(row).unwrap();
    assert_eq!(row["window_start"].as_i64().map(|start| start + 10_000), row["window_end"].as_i64(), "{row}");
}

#[test]
fn record_without_a_time_of_the_stream_fails_and_its_own_delay_is_refused() {
    let config = r#"{"window":{"kind":"tumbling","size":"10s"},"aggregates":{"n":{"op":"count"}}}"#;
    let run = Run::new(config).event_time(vec![Some(0), None], 0);
    let outcome = run.records::<Window>(&["{}", "{}"]).unwrap();
    assert_eq!(outcome.reasons(), [(1, "it has no event time")]);
    let delayed = config.replace("\"aggregates\"", "\"delay\":\"1s\",\"aggregates\"");
    let refused = Run::new(&delayed).event_time(vec![], 0).records::<Window>(&[""; 0]).unwrap_err();
    assert!(refused.contains("`delay` is that of the stream's `event_time`"), "{refused}");
}
