//! The case folders, natively: warm, with fresh instances, and cut to single records; and what records carry beside their
//! bytes.

use std::path::Path;

use wasmill_sdk::testing::{Run, refusal};

#[test]
fn cases_all_folders_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    wasmill_sdk::testing::cases::<wasmill_join::Join>(&folder);
}

const BY_SOURCE: &str = r#"{"streams": {"on": ["id"], "left": {"source": "orders", "into": "order"},
    "right": {"source": "payments", "into": "payment"}, "after": "1h", "others": "fail"}}"#;

#[test]
fn sides_are_told_by_the_sources_of_the_records() {
    let records = [r#"{"id":1,"a":1}"#, r#"{"id":1,"a":2}"#, r#"{"id":1,"a":3}"#, r#"{"id":1,"a":4}"#];
    let sources = [Some("orders"), Some("payments"), Some("clicks"), None];
    let sources = sources.map(|source| source.map(str::to_owned)).to_vec();
    let run = Run::new(BY_SOURCE).attribute("wasmill.source", sources);
    for run in [run.clone(), run.clone().fresh().chunk_rows(1), run.chunk_rows(2)] {
        let outcome = run.records::<wasmill_join::Join>(&records).unwrap();
        assert_eq!(outcome.rows(), [r#"{"order":{"id":1,"a":1},"payment":{"id":1,"a":2}}"#]);
        assert_eq!(outcome.reasons(), [2, 3].map(|row| (row, "it is of neither side of the join")));
    }
}

#[test]
fn sides_are_told_by_a_field_or_by_sources_and_not_by_both() {
    let config = |side: &str, left: &str, right: &str| {
        format!(
            r#"{{"streams": {{"on": ["id"], {side} "left": {{{left}, "into": "l"}}, "right": {{{right}, "into": "r"}}}}}}"#
        )
    };
    let field = r#""side": "type","#;
    for (side, left, right, told) in [
        ("", r#""is": "a""#, r#""source": "b""#, "`left` needs `source`"),
        ("", r#""source": "a""#, r#""source": "a""#, "need a `source` and an `into` of their own"),
        (field, r#""is": "a""#, r#""source": "b""#, "`right` needs `is`"),
        (field, r#""is": "a", "source": "a""#, r#""is": "b""#, "`left` needs `is`"),
        (field, r#""is": "a""#, r#""is": "a""#, "need an `is` and an `into` of their own"),
    ] {
        let refusal = refusal::<wasmill_join::Join>(&config(side, left, right));
        assert!(refusal.contains(told), "{refusal}");
    }
}
