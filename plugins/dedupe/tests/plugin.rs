//! What no case folder can say: outputs.

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
