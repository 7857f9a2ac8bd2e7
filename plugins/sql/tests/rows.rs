//! What becomes of records: which row stays which record, and what is of the whole batch.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;
use wasmill_sdk::testing::{Run, Verdict, refusal, run};
use wasmill_sql::Sql;

const RECORDS: [&str; 4] =
    [r#"{"a":"x","v":1,"other":0}"#, r#"{"a":"y","v":2}"#, r#"{"a":"x","v":"wrong"}"#, r#"{"a":"x","v":4}"#];

fn config(query: &str) -> String {
    json!({ "query": query, "columns": { "a": "text", "v": "bigint" } }).to_string()
}

#[test]
fn rows_stay_the_records_that_they_come_of() {
    let outcome = run::<Sql>(&config("SELECT v FROM batch WHERE v <> 2 ORDER BY v DESC"), &RECORDS);
    let rows: Vec<_> = outcome.emitted.iter().map(|row| (row.offset, row.payload.as_str())).collect();
    assert_eq!(rows, [(0, r#"{"v":1}"#), (3, r#"{"v":4}"#)]);
    assert_eq!(outcome.verdicts[1], Verdict::Dropped);
    assert_eq!(outcome.reasons(), [(2, "column `v`: the value is no whole number that fits bigint")]);
}

#[test]
fn aggregates_are_rows_of_the_batch_without_records_that_fail() {
    let query = "SELECT a, count(*) AS n, sum(v) AS s FROM batch GROUP BY a ORDER BY a";
    let outcome = run::<Sql>(&config(query), &RECORDS);
    assert_eq!(outcome.rows(), [r#"{"a":"x","n":2,"s":5}"#, r#"{"a":"y","n":1,"s":2}"#]);
    assert!(outcome.emitted.iter().all(|row| row.offset == -1), "{:?}", outcome.emitted);
    assert_eq!(outcome.verdicts[0], Verdict::Dropped);
    assert_eq!(outcome.reasons().len(), 1);
    // Nothing is left over from the batch before.
    let outcome = Run::new(&config(query)).chunk_rows(1).records::<Sql>(&RECORDS).unwrap();
    assert_eq!(outcome.rows().len(), 3, "{:?}", outcome.rows());
}

#[test]
fn join_that_pairs_all_with_all_fails_with_the_count() {
    let hundred: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let config = json!({
        "query": "SELECT b.v FROM batch AS b, t AS x, t AS y, t AS z",
        "columns": { "v": "bigint" },
        "tables": { "t": { "csv": format!("n\n{}\n", hundred.join("\n")) } },
    });
    let outcome = run::<Sql>(&config.to_string(), &RECORDS[..1]);
    let told = "more than 1000000 rows come of 1 records: a join pairs too many with each other";
    assert_eq!(outcome.reasons(), [(0, told)]);
    assert!(outcome.emitted.is_empty());
}

#[test]
fn values_that_json_has_nothing_for_fail_their_record() {
    let query = "SELECT CASE a WHEN 'y' THEN 9e999 ELSE v END AS v FROM batch";
    let outcome = run::<Sql>(&config(query), &RECORDS[..2]);
    assert_eq!(outcome.rows(), [r#"{"v":1}"#]);
    assert_eq!(outcome.reasons(), [(1, "column `v` of the result: the number is infinite")]);
    let outcome = run::<Sql>(&config("SELECT CAST(a AS BLOB) AS b FROM batch"), &RECORDS[..1]);
    assert!(outcome.reasons()[0].1.contains("use hex()"), "{:?}", outcome.reasons());
}

#[test]
fn what_sqlite_takes_by_mistake_is_refused_when_it_is_configured() {
    for (query, told) in [
        ("SELECT a COLLATE nope AS a FROM batch", "no such collation sequence: nope"),
        ("SELECT a COLLATE 'nope' AS a FROM batch", "no such collation sequence: nope"),
        ("SELECT a FROM batch ORDER BY a COLLATE [nope]", "no such collation sequence: nope"),
        ("SELECT a FROM batch WHERE NOT a MATCH 'x'", "function match is not to be had"),
        ("SELECT bm25(a) AS b FROM batch", "function bm25 is not to be had"),
        ("SELECT fts5_source_id() AS b FROM batch", "function fts5_source_id is not to be had"),
        ("SELECT a FROM batch\0", "a NUL character"),
        ("SELECT a || '\0' AS a FROM batch", "a NUL character"),
    ] {
        let refused = refusal::<Sql>(&config(query));
        assert!(refused.contains(told), "{query}: {refused}");
    }
    let query =
        "SELECT a COLLATE \"nocase\" AS a FROM batch WHERE a = 'X' COLLATE NoCase ORDER BY a COLLATE rtrim";
    assert_eq!(run::<Sql>(&config(query), &RECORDS[..2]).rows(), [r#"{"a":"x"}"#]);
}
