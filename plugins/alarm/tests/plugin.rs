//! What no case folder can say: outputs, partitions, the log.

use wasmill_alarm::Alarm;
use wasmill_sdk::testing::{Run, take_log};

const RECORDS: [&str; 4] =
    [r#"{"m":"a","v":9}"#, r#"{"m":"b","v":9}"#, r#"{"m":"a","v":1}"#, r#"{"m":"b","v":9}"#];

fn config(more: &str) -> String {
    format!(r#"{{"condition":"v > 5","by":["m"],"output":"alarms","body":"{{\"a\":{{{{m}}}}}}"{more}}}"#)
}

#[test]
fn notices_go_to_their_output_each_on_its_own_and_in_order() {
    for rows in [1, 2, 4] {
        let run = Run::new(&config("")).output("alarms").chunk_rows(rows);
        let outcome = run.records::<Alarm>(&RECORDS).unwrap();
        let (notices, records): (Vec<_>, Vec<_>) = outcome.emitted.iter().partition(|row| row.route == 1);
        let told: Vec<(&str, &str)> = notices
            .iter()
            .map(|row| {
                assert_eq!((row.offset, row.partition[0].0.as_str(), row.partition.len()), (-1, "notice", 1));
                (row.partition[0].1.as_str(), row.payload.as_str())
            })
            .collect();
        assert_eq!(
            told,
            [
                ("00000000000000000001", r#"{"a":"a"}"#),
                ("00000000000000000002", r#"{"a":"b"}"#),
                ("00000000000000000003", r#"{"a":"a"}"#),
            ]
        );
        assert_eq!(records.iter().map(|row| row.payload.as_str()).collect::<Vec<_>>(), RECORDS);
        assert!(records.iter().all(|row| row.route == 0 && row.partition.is_empty()));
    }
}

#[test]
fn notices_that_are_not_separate_have_no_partition_and_records_may_stay() {
    let run = Run::new(&config(r#","separate":false,"pass":false"#)).output("alarms");
    let outcome = run.records::<Alarm>(&RECORDS).unwrap();
    assert_eq!(outcome.emitted.len(), 3);
    assert!(outcome.emitted.iter().all(|row| row.partition.is_empty() && row.route == 1));
}

#[test]
fn output_that_is_not_there_is_refused() {
    let refused = Run::new(&config("")).records::<Alarm>(&RECORDS).unwrap_err();
    assert!(refused.contains("no output is named `alarms`"), "{refused}");
}

#[test]
fn format_of_a_time_that_no_field_has_is_refused() {
    let refused = Run::new(&config(r#","time_format":"s""#)).output("alarms");
    let refused = refused.records::<Alarm>(&RECORDS).unwrap_err();
    assert!(refused.contains("`time_format` says how the time stands in the field `time`"), "{refused}");
}

#[test]
fn what_is_held_back_is_logged() {
    let limited = config(r#","rate_limit":{"overall":{"notices":1,"per":"1h"}}"#);
    drop(take_log());
    let outcome = Run::new(&limited).output("alarms").records::<Alarm>(&RECORDS).unwrap();
    // Both of the first machine: its end is told.
    assert_eq!(outcome.emitted.iter().filter(|row| row.route == 1).count(), 2);
    let log = take_log();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].1, "alarm: 2 notices held back by `rate_limit`");
}

#[test]
fn a_record_that_fails_moves_no_alarm() {
    let timed = config(r#","time":"t","time_format":"s","records":2"#);
    let records = [r#"{"m":"a","v":9,"t":1}"#, r#"{"m":"a","v":9,"t":"soon"}"#, r#"{"m":"a","v":9,"t":3}"#];
    let outcome = Run::new(&timed).output("alarms").records::<Alarm>(&records).unwrap();
    assert_eq!(outcome.reasons(), [(1, "the time in `t` is no number (`time_format`)")]);
    assert_eq!(outcome.emitted.iter().filter(|row| row.route == 1).count(), 1);
}
