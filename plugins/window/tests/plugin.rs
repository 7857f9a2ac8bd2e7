//! What no case folder can say: outputs, and results that depend on the chunks.

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
