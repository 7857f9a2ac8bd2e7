//! The text of a schema, both ways; what is no schema; and schemas made of samples.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use serde_json::json;
use wasmill_columnar::{Field, Names, Options, Schema, SchemaError, Type};

mod reading;

fn wrong(text: &str) -> String {
    Schema::from_config(text).unwrap_err().to_string()
}

#[test]
fn text_of_every_type_reads_back() {
    let text = "a: boolean, b: int32 required, c: int64, d: float, e: double, f: decimal(38, 10), g: date, \
                h: timestamp(ms), i: timestamp(us, utc), j: timestamp(ns, utc) required, k: string, l: binary, \
                m: list<list<int32 required> required>, n: struct<x: int32, y: struct<z: string>>, \
                o: map<string, struct<x: double required>>, \"with space\": int32, \"a\\\"b\": int32, é.ü-1: int32";
    let schema = Schema::from_config(text).unwrap();
    assert_eq!(schema.to_string(), text);
    assert_eq!(schema.fields().len(), 18);
    let value = serde_json::to_value(&schema).unwrap();
    assert_eq!(value, json!(text));
    assert_eq!(serde_json::from_value::<Schema>(value).unwrap(), schema);
}

#[test]
fn text_may_have_space_everywhere_and_hives_words() {
    let text =
        "\n  a :int ,\n  b: bigint,c:array < string >,\n  d: struct<x:int,>, e: map<string,timestamp>,\n";
    let schema = Schema::from_config(text).unwrap();
    let plain =
        "a: int32, b: int64, c: list<string>, d: struct<x: int32>, e: map<string, timestamp(ms, utc)>";
    assert_eq!(schema.to_string(), plain);
}

#[test]
fn text_that_is_no_schema_is_refused_with_its_place() {
    for (text, expected) in [
        ("", "schema: a schema has no fields, expected at least one"),
        (
            "é: strng",
            "schema, at character 3: unknown type \"strng\", expected one of boolean, int32, int64, float, \
          double, decimal(p, s), date, timestamp(ms|us|ns[, utc]), string, binary, list<T>, struct<NAME: T, ...>, \
          map<string, T>",
        ),
        ("a int32", "schema, at character 2: expected `:`"),
        ("a: int32 b: int32", "schema, at character 9: \"b\" after a type, expected `required` or nothing"),
        ("a: int32; b: int32", "schema, at character 3: unknown type \"int32;\", expected one of"),
        ("a: list<int32", "schema, at character 13: expected `>`"),
        ("a: list<int32>>", "schema, at character 14: expected `,` or the end"),
        ("a: map<int32, int32>", "schema, at character 7: a map's keys are `string`"),
        ("a: timestamp(s)", "schema, at character 13: unknown unit \"s\", expected `ms`, `us` or `ns`"),
        ("a: timestamp(ms, gmt)", "schema, at character 17: expected `utc`"),
        ("a: decimal(ten, 2)", "schema, at character 11: expected a number of digits, 0 to 38"),
        ("a: decimal(5)", "schema, at character 12: expected `,`"),
        (", a: int32", "schema, at character 0: expected a name"),
        ("\"a: int32", "schema, at character 0: the name in quotes is no JSON string"),
        ("a: decimal(2, 3)", "schema: decimal(2, 3) of field \"a\" is not possible"),
        ("a: decimal(39, 3)", "schema: decimal(39, 3) of field \"a\" is not possible"),
        ("a: int32, a: int64", "schema: field \"a\" is there twice"),
        ("a: struct<b: struct<>>", "schema: the struct \"a.b\" has no fields, expected at least one"),
        ("\"\": int32", "schema: the name of field \"\" has 0 bytes, expected 1 to 255"),
    ] {
        assert!(wrong(text).starts_with(expected), "{text:?}: {}", wrong(text));
    }
    let deep = format!("a: {}int32{}", "list<".repeat(100_000), ">".repeat(100_000));
    assert!(wrong(&deep).ends_with("nested deeper than 32 levels"));
    let many: Vec<String> = (0..2001).map(|n| format!("c{n}: int32")).collect();
    assert_eq!(wrong(&many.join(",")), "schema: more than 2000 fields");
    let odd = Type::List(Box::new(Field::new("item", Type::Int32)));
    assert!(matches!(Schema::new(vec![Field::new("a", odd)]), Err(SchemaError::Unsound(_))));
}

fn inferred(rows: &[&str]) -> String {
    Schema::infer(rows, &Names::default()).map_or_else(|error| error.to_string(), |schema| schema.to_string())
}

#[test]
fn sample_is_widened_as_the_rule_says() {
    for (rows, expected) in [
        (&[r#"{"a":true}"#, r#"{"a":null}"#][..], "a: boolean"),
        (&[r#"{"a":1}"#, r#"{"a":-9223372036854775808}"#], "a: int64"),
        (&[r#"{"a":1}"#, r#"{"a":9223372036854775808}"#], "a: double"),
        (&[r#"{"a":1.0}"#, r#"{"a":1}"#], "a: double"),
        (&[r#"{"a":1}"#, r#"{"a":true}"#], "a: string"),
        (&[r#"{"a":[1,null]}"#, r#"{"a":[1.5]}"#, r#"{"a":[]}"#], "a: list<double>"),
        (&[r#"{"a":[]}"#, r#"{"b":{}}"#, r#"{"c":null}"#], "a: list<string>, b: string, c: string"),
        (&[r#"{"a":[1]}"#, r#"{"a":{"b":1}}"#], "a: string"),
        (
            &[r#"{"a":{"x":1,"y":[{"z":1}]}}"#, r#"{"a":{"w":"","y":[{"v":2}]}}"#],
            "a: struct<x: int64, y: list<struct<z: int64, v: int64>>, w: string>",
        ),
        (&[r#"{"b":1}"#, r#"{"a":"2017-02-07T15:13:01Z","b":2}"#], "b: int64, a: string"),
        (&[r#"{"A":1}"#, r#"{"a":1.5,"É x":1}"#], "a: double, \"é x\": int64"),
        (&["[]", "1", "{", r#"{"a":1}{}"#, r#"{"b":1,"":2}"#], "b: int64"),
        (&["[]", "{}"], "no row has a field that could be a column"),
    ] {
        assert_eq!(inferred(rows), expected, "{rows:?}");
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    assert_eq!(inferred(&[&deep]), format!("a: {}string{}", "list<".repeat(15), ">".repeat(15)));
}

#[test]
fn sample_is_named_by_the_rules() {
    let keys = BTreeMap::from([("time".to_owned(), "TS".to_owned())]);
    let names = Names { case_insensitive: true, dots_to_underscores: true, keys };
    let schema = Schema::infer([r#"{"ts":1,"Client.IP":{"ts":2}}"#], &names).unwrap();
    assert_eq!(schema.to_string(), "time: int64, client_ip: struct<ts: int64>");
    let options = Options { names, ..Options::default() };
    let (file, _) = reading::file(&schema.to_string(), &options, &[r#"{"ts":1,"Client.IP":{"ts":2}}"#]);
    assert_eq!(reading::read(&file), [json!({"time": 1, "client_ip": {"ts": 2}})]);
    let exact = Names { case_insensitive: false, ..Names::default() };
    assert_eq!(Schema::infer([r#"{"A":1,"a":""}"#], &exact).unwrap().to_string(), "A: int64, a: string");
}

#[test]
fn sample_fits_the_schema_that_it_gave() {
    let rows = [
        r#"{"a":1,"b":[{"c":1}],"d":{"e":"x"},"f":"x","g":18446744073709551615}"#,
        r#"{"a":1.5,"b":[{"c":"y"},null],"d":{"e":null,"E":{"deep":[1]}},"f":[1,{}],"g":1e3}"#,
        r#"{"a":null,"b":[],"d":{},"f":7}"#,
    ];
    let schema = Schema::infer(rows, &Names::default()).unwrap();
    let (file, report) = reading::file(&schema.to_string(), &Options::default(), &rows);
    assert_eq!((report.rejected.len(), reading::read(&file).len()), (0, 3), "{schema}: {report:?}");
}
