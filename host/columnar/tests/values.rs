//! What each type takes, what it refuses and with which words, and that a refused row leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use wasmill_columnar::{Options, ROW_BYTES_MAX, Reason, Timestamps};

mod reading;

use reading::{file, read};

/// Each value alone in a row between two that fit: what is read, or the words of the refusal.
fn each(kind: &str, good: &str, values: &[(&str, Result<Value, &str>)]) {
    let row = |value: &str| format!("{{\"v\":{value}}}");
    let rows: Vec<String> = values.iter().flat_map(|(value, _)| [row(good), row(value)]).collect();
    let (file, report) = file(&format!("v: {kind}"), &Options::default(), &rows);
    let mut read = read(&file).into_iter().map(|row| row["v"].clone());
    let mut rejected = report.rejected.into_iter();
    let expected_good = read.clone().next().unwrap();
    for (index, (value, expected)) in values.iter().enumerate() {
        assert_eq!(read.next().unwrap(), expected_good, "before {value}");
        match expected {
            Ok(expected) => assert_eq!(read.next().unwrap(), *expected, "{value}"),
            Err(words) => {
                let refused = rejected.next().unwrap_or_else(|| panic!("{value} was not refused"));
                assert_eq!(
                    (refused.row, refused.reason.to_string().as_str()),
                    (2 * index as u64 + 1, *words)
                );
            }
        }
    }
    assert_eq!((read.next(), rejected.next()), (None, None));
}

#[test]
fn boolean_takes_true_and_false() {
    each(
        "boolean",
        "true",
        &[
            ("false", Ok(json!(false))),
            ("null", Ok(json!(null))),
            ("\"true\"", Err("field \"v\" takes boolean, found \"true\"")),
            ("1", Err("field \"v\" takes boolean, found 1")),
        ],
    );
}

#[test]
fn integers_take_whole_numbers_in_range() {
    each(
        "int32",
        "7",
        &[
            ("-2147483648", Ok(json!(i32::MIN))),
            ("2147483647", Ok(json!(i32::MAX))),
            ("2147483648", Err("field \"v\" takes int32, found 2147483648")),
            ("1.0", Ok(json!(1))),
            ("1.5", Err("field \"v\" takes int32, found 1.5")),
            ("\"1\"", Err("field \"v\" takes int32, found \"1\"")),
            ("{\"a\":1}", Err("field \"v\" takes int32, found an object")),
        ],
    );
    each(
        "int64",
        "7",
        &[
            ("-9223372036854775808", Ok(json!(i64::MIN))),
            ("9223372036854775807", Ok(json!(i64::MAX))),
            ("9223372036854775808", Err("field \"v\" takes int64, found 9223372036854775808")),
            ("9.223372036854775807e18", Ok(json!(i64::MAX))),
            ("1e3", Ok(json!(1000))),
            ("-0", Ok(json!(0))),
            ("1e999999999", Err("field \"v\" takes int64, found 1e999999999")),
            ("true", Err("field \"v\" takes int64, found true")),
        ],
    );
}

#[test]
fn floats_take_numbers_that_are_finite_there() {
    each(
        "float",
        "1.5",
        &[
            ("0.1", Ok(json!(f64::from(0.1_f32)))),
            ("3", Ok(json!(3.0))),
            ("1e39", Err("field \"v\" takes float, found 1e39")),
            ("\"1\"", Err("field \"v\" takes float, found \"1\"")),
        ],
    );
    each(
        "double",
        "1.5",
        &[
            // Its nearest neighbour is not easy to find.
            ("9007199254740993.00000000000001", Ok(json!(9_007_199_254_740_994.0))),
            ("-1e-320", Ok(json!(-1e-320))),
            ("1e400", Err("field \"v\" takes double, found 1e400")),
            ("[]", Err("field \"v\" takes double, found an array")),
        ],
    );
}

#[test]
fn decimal_is_exact_or_refused() {
    for (kind, most) in [("decimal(5, 2)", "999.99"), ("decimal(18, 2)", "9999999999999999.99")] {
        each(
            kind,
            "1.5",
            &[
                (most, Ok(json!(most))),
                ("\"-12.30\"", Ok(json!("-12.30"))),
                ("1e1", Ok(json!("10.00"))),
                ("1.001", Err(&format!("field \"v\" takes {kind}, found 1.001"))),
                ("1e20", Err(&format!("field \"v\" takes {kind}, found 1e20"))),
                ("\"ten\"", Err(&format!("field \"v\" takes {kind}, found \"ten\""))),
                ("false", Err(&format!("field \"v\" takes {kind}, found false"))),
            ],
        );
    }
    let most = "9".repeat(38);
    each(
        "decimal(38, 0)",
        "1",
        &[(&most, Ok(json!(most))), (&format!("-{most}"), Ok(json!(format!("-{most}"))))],
    );
}

#[test]
fn date_and_timestamps_are_counts() {
    each(
        "date",
        "\"1970-01-02\"",
        &[
            ("\"1969-12-31\"", Ok(json!(-1))),
            ("\"2023-02-29\"", Err("field \"v\" takes date, found \"2023-02-29\"")),
            ("3", Err("field \"v\" takes date, found 3")),
        ],
    );
    for (kind, units) in
        [("timestamp(ms)", 1), ("timestamp(us, utc)", 1_000), ("timestamp(ns, utc)", 1_000_000)]
    {
        each(
            kind,
            "\"1970-01-01T00:00:01Z\"",
            &[
                ("\"1970-01-01T00:00:00.0019Z\"", Ok(json!(if units == 1 { 1 } else { 19 * units / 10 }))),
                ("\"1969-12-31 23:59:59.999\"", Ok(json!(-units))),
                ("\"\\u0031970-01-01T00:00:00.001Z\"", Ok(json!(units))),
                ("1", Ok(json!(1_000 * units))),
                ("1486480381123", Ok(json!(1_486_480_381_123_i64 * units))),
                ("0.0015", Ok(json!(if units == 1 { 1 } else { 15 * units / 10 }))),
                ("\"soon\"", Err(&format!("field \"v\" takes {kind}, found \"soon\""))),
                ("true", Err(&format!("field \"v\" takes {kind}, found true"))),
            ],
        );
    }
    let far = "\"9999-01-01T00:00:00Z\"";
    each(
        "timestamp(ns)",
        "0",
        &[(far, Err("field \"v\" takes timestamp(ns), found \"9999-01-01T00:00:00Z\""))],
    );
}

#[test]
fn timestamps_of_hive_patterns_are_read() {
    let patterns = vec!["dd/MMM/yyyy:HH:mm:ss Z".to_owned(), "millis".to_owned()];
    let options = Options { timestamps: Timestamps::Hive(patterns), ..Options::default() };
    let rows = [r#"{"v":"01/Jan/1970:01:00:02 +0100"}"#, r#"{"v":5}"#, r#"{"v":"1970-01-01T00:00:00Z"}"#];
    let (file, report) = file("v: timestamp", &options, &rows);
    assert_eq!(read(&file), [json!({"v": 2000}), json!({"v": 5})]);
    assert_eq!(report.rejected.len(), 1);
}

#[test]
fn string_takes_anything_as_its_json_text() {
    each(
        "string",
        "\"plain\"",
        &[
            ("\"\"", Ok(json!(""))),
            ("\"\\\"\\u00e9\\ud83d\\ude00\\n\"", Ok(json!("\"é😀\n"))),
            ("1.50", Ok(json!("1.50"))),
            ("true", Ok(json!("true"))),
            ("{\"a\": [1, null]}", Ok(json!("{\"a\": [1, null]}"))),
            ("null", Ok(json!(null))),
            ("\"\\ud83d\"", Err("not JSON: unexpected end of hex escape at line 1 column 8")),
        ],
    );
}

#[test]
fn binary_takes_base64() {
    each(
        "binary",
        "\"AQI=\"",
        &[
            ("\"\"", Ok(json!(""))),
            ("\"/+8=\"", Ok(json!("/+8="))),
            ("\"\\/+8=\"", Ok(json!("/+8="))),
            ("\"AQI\"", Err("field \"v\" takes binary, found \"AQI\"")),
            ("7", Err("field \"v\" takes binary, found 7")),
        ],
    );
}

#[test]
fn nested_values_are_read_and_refused_by_their_path() {
    each(
        "list<int32>",
        "[1]",
        &[
            ("[]", Ok(json!([]))),
            ("[1,null,3]", Ok(json!([1, null, 3]))),
            ("null", Ok(json!(null))),
            ("[1,2,\"x\"]", Err("field \"v[]\" takes int32, found \"x\"")),
            ("5", Err("field \"v\" takes list<int32>, found 5")),
            ("\"[1]\"", Err("field \"v\" takes list<int32>, found \"[1]\"")),
        ],
    );
    each(
        "struct<a: int32, b: struct<c: list<string> required>>",
        r#"{"a":1,"b":{"c":["x"]}}"#,
        &[
            (r#"{"b":{"c":[null]}}"#, Ok(json!({"a": null, "b": {"c": [null]}}))),
            ("{}", Ok(json!({"a": null, "b": null}))),
            ("null", Ok(json!(null))),
            (r#"{"a":1,"a":2}"#, Ok(json!({"a": 2, "b": null}))),
            (r#"{"a":1,"b":{}}"#, Err("field \"v.b.c\" takes list<string>, found nothing")),
            (r#"{"b":{"c":null}}"#, Err("field \"v.b.c\" takes list<string>, found null")),
            (r#"{"b":{"c":["x"]},"a":"y"}"#, Err("field \"v.a\" takes int32, found \"y\"")),
            (
                "[]",
                Err(
                    "field \"v\" takes struct<a: int32, b: struct<c: list<string> required>>, found an array",
                ),
            ),
        ],
    );
    each(
        "map<string, list<double required>>",
        r#"{"a":[1]}"#,
        &[
            ("{}", Ok(json!({}))),
            (r#"{"b":null,"a":[1,2],"":[]}"#, Ok(json!({"": [], "a": [1.0, 2.0], "b": null}))),
            (r#"{"a":[1,null]}"#, Err("field \"v{}[]\" takes double, found null")),
            (
                r#"{"a":[],"b":[],"a":[]}"#,
                Err("field \"v\" takes map<string, list<double required>>, found the key \"a\" twice"),
            ),
        ],
    );
    let many: String = (0..20).map(|n| format!("\"k{}\":1,", n % 19)).collect();
    let many = format!("{{{}}}", many.trim_end_matches(','));
    each(
        "map<string, int32>",
        "{}",
        &[(&many, Err("field \"v\" takes map<string, int32>, found the key \"k0\" twice"))],
    );
}

#[test]
fn row_that_is_no_object_is_refused() {
    let rows = [
        "{\"v\":1}",
        "",
        "[]",
        "null",
        "3",
        "{\"v\":1}{\"v\":2}",
        "{\"v\":1",
        "{\"v\":1,}",
        " { \"v\" : 2 } ",
    ];
    let (file, report) = file("v: int32", &Options::default(), &rows);
    assert_eq!(read(&file), [json!({"v": 1}), json!({"v": 2})]);
    let told: Vec<String> = report.rejected.iter().map(|r| format!("{}: {}", r.row, r.reason)).collect();
    assert_eq!(
        told,
        [
            "1: not JSON: EOF while parsing a value at line 1 column 0",
            "2: a row takes an object, found an array",
            "3: a row takes an object, found null",
            "4: a row takes an object, found 3",
            "5: not JSON: trailing characters at line 1 column 8",
            "6: not JSON: EOF while parsing an object at line 1 column 6",
            "7: not JSON: trailing comma at line 1 column 8",
        ]
    );
}

#[test]
fn bytes_that_are_no_utf8_are_refused() {
    for row in [&b"{\"v\":\"\xff\"}"[..], b"{\"\xff\":1}", b"\xff"] {
        let (file, report) = file("v: string", &Options::default(), &[b"{\"v\":1}", row]);
        assert_eq!(read(&file).len(), 1);
        assert!(matches!(&report.rejected[..], [refused] if matches!(refused.reason, Reason::NotJson(_))));
    }
}

#[test]
fn found_value_is_shortened() {
    let row = format!("{{\"v\":\"{}\"}}", "é".repeat(1000));
    let (_, report) = file("v: int32", &Options::default(), &[row]);
    let Reason::Unfit { found, .. } = &report.rejected[0].reason else { panic!("{report:?}") };
    assert_eq!(*found, format!("\"{}...", "é".repeat(63)));
}

#[test]
fn short_row_that_would_fill_memory_is_refused() {
    let fields: Vec<String> = (0..500).map(|n| format!("c{n}: decimal(38, 0)")).collect();
    let schema = format!("v: list<struct<{}>>", fields.join(", "));
    let row = format!("{{\"v\":[{}{{}}]}}", "{},".repeat(10_000));
    assert!((row.len() as u64) < ROW_BYTES_MAX / 1000);
    let (file, report) = file(&schema, &Options::default(), &[row.as_str(), "{\"v\":[{\"c0\":1}]}"]);
    assert_eq!(report.rejected[0].reason, Reason::TooLarge);
    assert_eq!(read(&file)[0]["v"][0]["c0"], json!("1"));
}

#[test]
fn deep_value_is_passed_over_or_kept_as_text() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let row = format!("{{\"other\":{deep},\"v\":{deep}}}");
    let (file, report) = file("v: string", &Options::default(), &[row]);
    assert!(report.rejected.is_empty());
    assert!(read(&file)[0]["v"] == deep);
}
