//! Runs the case folders.

use std::path::Path;

use wasmill_sdk::testing::{Run, refusal};

#[test]
fn cases_give_what_is_expected() {
    wasmill_sdk::testing::cases::<wasmill_derive::Derive>(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("cases"),
    );
}

#[test]
fn source_and_attributes_are_texts_and_null_where_there_are_none() {
    let config = r#"{"set": ["from = source()", "key = upper(attribute('k'))", "is_a = source() == 'a'"]}"#;
    let texts = |values: [Option<&str>; 3]| values.map(|value| value.map(str::to_owned)).to_vec();
    let run = Run::new(config)
        .attribute("wasmill.source", texts([Some("a"), None, Some("b")]))
        .attribute("k", texts([None, Some("x"), Some("y")]));
    let outcome = run.records::<wasmill_derive::Derive>(&["{}", "{}", "{}"]).unwrap();
    assert_eq!(
        outcome.rows(),
        [
            r#"{"from":"a","key":null,"is_a":true}"#,
            r#"{"from":null,"key":"X","is_a":false}"#,
            r#"{"from":"b","key":"Y","is_a":false}"#
        ]
    );
}

#[test]
fn attribute_is_named_by_a_literal() {
    let refusal = refusal::<wasmill_derive::Derive>(r#"{"set": "a = attribute(name)"}"#);
    assert!(refusal.contains("`attribute` takes a name in quotes"), "{refusal}");
}
