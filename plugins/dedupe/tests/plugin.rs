//! What no case folder can say: outputs, and event time of the stream.

use wasmill_dedupe::Dedupe;
use wasmill_sdk::testing::Run;

#[test]
fn duplicates_and_late_records_go_to_their_outputs() {
    let config = r#"{"by":["id"],"within":"10s","time":"t","time_format":"s","duplicates":"keep",
        "duplicates_output":"again","late_output":"late"}"#;
    let run = Run::new(config).output("again").output("late");
    let records = [r#"{"id":1,"t":100}"#, r#"{"id":1,"t":105}"#, r#"{"id":2,"t":50}"#];
    let outcome = run.records::<Dedupe>(&records).unwrap();
    let routes: Vec<u32> = outcome.emitted.iter().map(|row| row.route).collect();
    assert_eq!(routes, [0, 1, 2]);
}

const SECOND: i64 = 1_000_000_000;

#[test]
fn duplicates_by_the_streams_event_time_are_those_by_the_same_time_of_its_own_however_it_is_cut() {
    let times: Vec<i64> = (0..400).map(|n| n - n * 17 % 37).collect();
    let record = |(n, time): (usize, &i64)| format!(r#"{{"id":{},"t":{time}}}"#, n * 31 % 11);
    let records: Vec<String> = times.iter().enumerate().map(record).collect();
    let config = |more: &str| {
        let fates = r#""duplicates":"keep","mark":"again","late":"fail""#;
        format!(r#"{{"by":["id"],"within":"10s",{fates}{more}}}"#)
    };
    let own = Run::new(&config(r#","time":"t","time_format":"s","delay":"20s""#));
    let own = own.records::<Dedupe>(&records).unwrap();
    let again = own.rows().iter().filter(|row| row.contains("again")).count();
    let late = own.reasons().len();
    assert!(again > 20 && late > 20 && again + late < 350, "{again} duplicates and {late} that are late");
    for rows in [1, 3, 64, 4000] {
        let ns = times.iter().map(|time| Some(time * SECOND)).collect();
        let run = Run::new(&config("")).chunk_rows(rows).event_time(ns, 20 * SECOND);
        let found = run.records::<Dedupe>(&records).unwrap();
        assert_eq!(found.rows(), own.rows(), "{rows} records at a time");
        assert_eq!(found.reasons(), own.reasons(), "{rows} records at a time");
    }
}

#[test]
fn record_without_a_time_of_the_stream_fails_and_its_own_delay_is_refused() {
    let run = Run::new(r#"{"within":"10s"}"#).event_time(vec![Some(0), None], 0);
    assert_eq!(run.records::<Dedupe>(&["a", "b"]).unwrap().reasons(), [(1, "it has no event time")]);
    let refused = Run::new(r#"{"within":"10s","delay":"1s"}"#).event_time(vec![], 0);
    let refused = refused.records::<Dedupe>(&[""; 0]).unwrap_err();
    assert!(refused.contains("`delay` is that of the stream's `event_time`"), "{refused}");
    let refused = Run::new(r#"{"within":"10s","time_format":"s"}"#).event_time(vec![], 0);
    let refused = refused.records::<Dedupe>(&[""; 0]).unwrap_err();
    assert!(refused.contains("`time_format` says how the time stands in the field `time`"), "{refused}");
}

#[test]
fn what_becomes_of_late_records_is_refused_by_arrival_behind_which_none_is_late() {
    for (name, value) in [("delay", "1s"), ("late", "drop"), ("late_output", "late")] {
        let refused = Run::new(&format!(r#"{{"within":"10s","{name}":"{value}"}}"#));
        let refused = refused.records::<Dedupe>(&[""; 0]).unwrap_err();
        assert!(refused.contains(&format!("`{name}` has no effect by the time of arrival")), "{refused}");
        let more = if name == "delay" { r#","time":"t","time_format":"s""# } else { "" };
        let taken = Run::new(&format!(r#"{{"within":"10s","{name}":"{value}"{more}}}"#)).output("late");
        let taken = if more.is_empty() { taken.event_time(vec![], 0) } else { taken };
        assert_eq!(taken.records::<Dedupe>(&[""; 0]).err(), None, "{name}");
    }
}
