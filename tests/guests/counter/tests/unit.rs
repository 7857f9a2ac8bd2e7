//! The guest as its author would test it: state in memory.

use wasmill_guest_counter::Counter;
use wasmill_sdk::testing::{Run, Verdict};

#[test]
fn counts_go_on_and_what_fails_was_never_counted() {
    let records = [
        r#"{"user":"a"}"#,
        r#"{"user":"b","do":"fail"}"#,
        r#"{"user":"a","do":"trap-not"}"#,
        r#"{"user":"b"}"#,
        r#"{"user":"a","do":"err"}"#,
        r#"{"user":"a","do":"list"}"#,
        r#"{"user":"a","do":"last"}"#,
    ];
    let whole = Run::new(r#"{"key":"user"}"#);
    let outcome = whole.records::<Counter>(&records).unwrap();
    assert_eq!(
        outcome.rows(),
        [
            r#"{"user":"a","count":1}"#,
            r#"{"user":"a","do":"trap-not","count":2}"#,
            r#"{"user":"b","count":1}"#,
            r#"{"user":"a","do":"list","count":3,"keys":2}"#,
            r#"{"user":"a","do":"last","count":4,"before":"3"}"#,
        ]
    );
    assert_eq!(outcome.verdicts[1], Verdict::Failed("said so".to_owned()));
    assert_eq!(outcome.verdicts[4], Verdict::Failed("said so".to_owned()));
    for way in [whole.clone().chunk_rows(1), whole.clone().chunk_rows(2).fresh()] {
        assert_eq!(way.records::<Counter>(&records).unwrap(), outcome);
    }
    // Each run begins with none.
    assert_eq!(whole.records::<Counter>(&records[..1]).unwrap().rows(), [r#"{"user":"a","count":1}"#]);
}
