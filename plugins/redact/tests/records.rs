//! What single cases cannot show: secrets, and duplicates in every place.

use wasmill_redact::Redact;
use wasmill_sdk::testing::{Run, refusal, run};

const SECRET: &str = "an example secret of some length";

#[test]
fn process_hash_is_hmac_sha_256_and_the_same_for_equal_values() {
    let config =
        r#"{"secret":"key","length":40,"rules":[{"fields":["user","id"],"action":"hash","prefix":"u_"}]}"#;
    let run = Run::new(config).secret("key", SECRET);
    let outcome = run.records::<Redact>(&[r#"{"user":"42","id":42}"#, r#"{"user":null}"#]).unwrap();
    // printf 42 | openssl dgst -sha256 -hmac 'an example secret of some length'
    let hash = "u_99e7fca2df7853e47e1ff19c26f21e58e621eedf";
    let want = format!(r#"{{"user":"{hash}","id":"{hash}"}}"#);
    assert_eq!(outcome.rows(), [want.as_str(), r#"{"user":null}"#]);
}

#[test]
fn configure_short_secret_is_refused_without_showing_it() {
    let config = r#"{"secret":"key","rules":[{"field":"a","action":"hash"}]}"#;
    let refused = Run::new(config).secret("key", "tiny").records::<Redact>(&["{}"]).unwrap_err();
    assert!(refused.contains("at least 16") && !refused.contains("tiny"), "{refused}");
}

#[test]
fn process_duplicates_wherever_they_stand_never_leak() {
    let config = r#"{"rules":[{"field":"user.email","find":["email"],"action":"mask"}]}"#;
    for record in [
        r#"{"user":{"email":"ann@example.org","email":"x"}}"#,
        r#"{"user":{"email":"ann@example.org"},"user":{"email":"x"}}"#,
        r#"{"user":{"email":"ann@example.org"},"user":{}}"#,
        r#"{"user":{"email":"ann@example.org"},"user":{"email":null}}"#,
        r#"{"user":{"email":"ann@example.org"},"user":5}"#,
        r#"{"user":{"email":"ann@example.org"},"user":{"email":["x"]}}"#,
    ] {
        let outcome = run::<Redact>(config, &[record]);
        let leaked = outcome.rows().iter().any(|row| row.contains("ann"));
        assert!(!leaked, "{record} -> {:?}", outcome.rows());
    }
}

#[test]
fn process_records_without_the_field_stay_as_they_are() {
    let config = r#"{"rules":[{"field":"user.email","action":"mask"}]}"#;
    for record in [r#"{"a": 1}"#, r#"{"user":{}}"#, "{}"] {
        assert_eq!(run::<Redact>(config, &[record]).rows(), [record]);
    }
}

#[test]
fn process_records_that_the_host_does_not_read_fail_wherever_they_are_cut_or_too_deep() {
    let deep = |levels: usize| {
        format!(
            "{{\"user\":{{\"email\":\"ann@example.org\"}},\"b\":{}{}}}",
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    for (config, told) in [
        (r#"{"rules":[{"field":"user.email","action":"drop"}]}"#, "the record is not a JSON object"),
        (r#"{"rules":[{"payload":"json","find":["email"],"action":"mask"}]}"#, "the payload is not JSON"),
    ] {
        let outcome =
            run::<Redact>(config, &[&deep(126), &deep(127), r#"{"user":{"email":"ann@example.org"}"#]);
        assert_eq!(outcome.reasons(), [(1, told), (2, told)]);
        assert!(!outcome.rows().iter().any(|row| row.contains("ann")), "{:?}", outcome.rows());
    }
}

#[test]
fn configure_combinations_without_sense_are_refused() {
    for (config, want) in [
        (r#"{"rules":[]}"#, "needs 1 to"),
        (r#"{"rules":[{"action":"drop"}]}"#, "exactly one of"),
        (r#"{"rules":[{"payload":"text","action":"mask"}]}"#, "needs `find`"),
        (r#"{"rules":[{"field":"a","action":"drop","mask":"*"}]}"#, "belong to the action `mask`"),
        (r#"{"rules":[{"field":"a","action":"mask","mask":"1"}]}"#, "one of the characters"),
        (r#"{"rules":[{"field":"a","action":"replace"}]}"#, "needs `with`"),
        (
            r#"{"rules":[{"field":"a","action":"replace","find":["ipv4"],"with":"1.1.1.1"}]}"#,
            "itself contains",
        ),
        (r#"{"rules":[{"field":"a","action":"hash"}]}"#, "needs `secret`"),
        (r#"{"rules":[{"field":"a","find":[],"action":"mask"}]}"#, "`find` is empty"),
    ] {
        let refused = refusal::<Redact>(config);
        assert!(refused.contains(want), "{config}: {refused}");
    }
}
