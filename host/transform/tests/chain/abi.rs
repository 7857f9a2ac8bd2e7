//! Contract of the host functions: misuse traps with a text that names the function.

use std::sync::Arc;

use wasmill_transform::{ChainError, ChainOptions, Grants, Manifest, PluginFault, Sample, TransformSpec};

use crate::support::{Bench, Guest, picky, refusal, spec, text_of};

const SETUP: &str = r#"
  (import "wasmill:plugin/setup@0.1.3" "field" (func $field (param i32 i32) (result i32)))
  (import "wasmill:plugin/setup@0.1.3" "output" (func $output (param i32 i32 i32)))
  (import "wasmill:plugin/setup@0.1.3" "secret" (func $secret (param i32 i32 i32)))
  (import "wasmill:plugin/setup@0.1.3" "file" (func $file (param i32 i32 i64 i32 i32)))"#;

const TEXT: &str = r#"
  (import "wasmill:plugin/records@0.1.3" "[method]chunk.get-text" (func $get-text (param i32 i32 i32)))
  (import "wasmill:plugin/records@0.1.3" "[method]chunk.set-text" (func $set-text (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasmill:plugin/setup@0.1.3" "field" (func $field (param i32 i32) (result i32)))"#;

/// Declares the field `a`: a list of one string at 1040, whose text is at 1024.
const FIELD_A: &str = r#"
  (data (i32.const 1024) "a")
  (data (i32.const 1040) "\00\04\00\00\01\00\00\00")"#;

fn reason(guest: &Guest) -> String {
    let mut bench = Bench::new(&[guest]);
    let (rows, report) = bench.run(&["a"]);
    assert!(rows.is_empty());
    assert_eq!(report.failures.len(), 1);
    assert_eq!(&*report.failures[0].transform, "t0");
    assert!(report.failures[0].digest.is_some());
    report.failures[0].reason.clone()
}

#[test]
fn chain_of_two_guests_passes_and_drops() {
    let mut bench = Bench::new(&[&picky(), &picky()]);
    let (rows, report) = bench.run(&["a", "drop", "", "b"]);
    assert_eq!(rows, ["100:a", "102:", "103:b"]);
    assert_eq!((report.passed, report.dropped, report.emitted), (3, 1, 3));
    assert_eq!(report.chunks, 1);
    assert!(report.transforms.iter().all(|transform| transform.calls == 1));
}

#[test]
fn chain_without_transforms_passes_everything() {
    let mut bench = Bench::new(&[]);
    let (rows, report) = bench.run(&["a", "b"]);
    assert_eq!(rows, ["100:a", "101:b"]);
    assert_eq!(report.passed, 2);
}

#[test]
fn setup_outside_configure_traps() {
    let guest = Guest {
        imports: SETUP,
        items: FIELD_A,
        process: "(if (call $len (local.get $rows)) (then (drop (call $field (i32.const 1040) (i32.const 1)))))",
        ..Guest::default()
    };
    assert_eq!(reason(&guest), "bad output: setup.field: may be called inside configure only");
}

#[test]
fn chunk_inside_configure_traps() {
    let guest = Guest {
        imports: r#"(import "wasmill:plugin/records@0.1.3" "[static]chunk.fresh" (func $fresh (param i32) (result i32)))"#,
        configure: "(drop (call $fresh (i32.const 1)))",
        ..Guest::default()
    };
    assert!(refusal(&guest).contains("chunk.fresh: there is no chunk outside process"));
}

#[test]
fn unknown_slot_traps() {
    let guest = Guest {
        imports: TEXT,
        items: FIELD_A,
        configure: "(drop (call $field (i32.const 1040) (i32.const 1)))",
        process: "(if (call $len (local.get $rows)) (then (call $get-text (local.get $rows) (i32.const 7) (i32.const 32))))",
        ..Guest::default()
    };
    let text = reason(&guest);
    assert!(text.contains("chunk.get-text") && text.contains("slot 7"), "{text}");
}

#[test]
fn wrong_lengths_trap() {
    let guest = Guest::process(
        "(if (call $len (local.get $rows)) (then (call $keep (local.get $rows) (i32.const 1024) (i32.const 9))))",
    );
    let text = reason(&guest);
    assert!(text.contains("chunk.keep") && text.contains('9'), "{text}");
}

#[test]
fn field_is_read_and_written() {
    // Reads field a as text and writes it back twice as field b: {"a":"x"} -> state 3.
    let guest = Guest {
        imports: TEXT,
        items: r#"
          (data (i32.const 1024) "ab")
          (data (i32.const 1040) "\00\04\00\00\01\00\00\00")
          (data (i32.const 1048) "\01\04\00\00\01\00\00\00")
          (global $a (mut i32) (i32.const 0))
          (global $b (mut i32) (i32.const 0))"#,
        configure: "(global.set $a (call $field (i32.const 1040) (i32.const 1)))
                    (global.set $b (call $field (i32.const 1048) (i32.const 1)))",
        process: "(call $get-text (local.get $rows) (global.get $a) (i32.const 32))
                  (call $set-text (local.get $rows) (global.get $b)
                    (i32.load (i32.const 32)) (i32.load (i32.const 36))
                    (i32.load (i32.const 40)) (i32.load (i32.const 44))
                    (i32.load (i32.const 48)) (i32.load (i32.const 52)))",
        ..Guest::default()
    };
    let mut bench = Bench::new(&[&guest]);
    let (rows, report) = bench.run(&[r#"{"a":"x\n\"y"}"#, r#"{"c":1}"#]);
    assert_eq!(rows, [r#"100:{"a":"x\n\"y","b":"x\n\"y"}"#, r#"101:{"c":1}"#], "{:?}", report.failures);
}

#[test]
fn secret_file_and_output_are_given_by_name_only() {
    // Logs every answer: secret key, secret nope, file table, output side, output nope.
    let guest = Guest {
        imports: SETUP,
        items: r#"
          (data (i32.const 1024) "key")
          (data (i32.const 1030) "nope")
          (data (i32.const 1040) "table")
          (data (i32.const 1050) "side")
          (func $say (call $log (i32.const 1) (i32.load (i32.const 36)) (i32.load (i32.const 40))))"#,
        configure: "(call $secret (i32.const 1024) (i32.const 3) (i32.const 32)) (call $say)
                    (call $secret (i32.const 1030) (i32.const 4) (i32.const 32)) (call $say)
                    (call $file (i32.const 1040) (i32.const 5) (i64.const 7) (i32.const 100) (i32.const 32)) (call $say)
                    (call $file (i32.const 1030) (i32.const 4) (i64.const 0) (i32.const 100) (i32.const 32)) (call $say)
                    (call $output (i32.const 1030) (i32.const 4) (i32.const 32)) (call $say)
                    (call $output (i32.const 1050) (i32.const 4) (i32.const 32))
                    (if (i32.or (i32.load8_u (i32.const 32)) (i32.ne (i32.load (i32.const 36)) (i32.const 1))) (then unreachable))",
        ..Guest::default()
    };
    let bench = Bench::new(&[&guest]);
    let text = bench.log.text();
    // The words of the Rust SDK's in-memory `Setup`; it has the same test.
    let denied = "no file `nope` is granted\nno output is named `nope`; the stream has `main`, `side`\n";
    assert_eq!(text, format!("hush\nno secret `nope` is granted\n789\n{denied}"));
}

#[test]
fn route_to_an_output_nobody_declared_traps() {
    let guest = Guest {
        imports: r#"(import "wasmill:plugin/records@0.1.3" "[method]chunk.route" (func $route (param i32 i32 i32)))"#,
        process: "(i32.store (i32.const 1024) (i32.const 2))
                  (call $route (local.get $rows) (i32.const 1024) (call $len (local.get $rows)))",
        ..Guest::default()
    };
    assert!(reason(&guest).contains("chunk.route"));
    let guest = Guest {
        process: "(i32.store (i32.const 1024) (i32.const 1))
                  (call $route (local.get $rows) (i32.const 1024) (call $len (local.get $rows)))",
        ..guest
    };
    let (rows, _) = Bench::new(&[&guest]).run(&["a"]);
    assert_eq!(rows, ["1>100:a"]);
}

#[test]
fn derived_handle_of_an_earlier_call_traps() {
    // Keeps a derived chunk from the first call and emits it in the second.
    let guest = Guest {
        imports: r#"
          (import "wasmill:plugin/records@0.1.3" "[static]chunk.fresh" (func $fresh (param i32) (result i32)))
          (import "wasmill:plugin/records@0.1.3" "emit" (func $emit (param i32)))"#,
        items: "(global $kept (mut i32) (i32.const -1))",
        process: "(if (call $len (local.get $rows)) (then
                    (if (i32.eq (global.get $kept) (i32.const -1))
                      (then (global.set $kept (call $fresh (i32.const 1))))
                      (else
                        (drop (call $fresh (i32.const 1)))
                        (call $emit (global.get $kept))))))",
        ..Guest::default()
    };
    let mut bench = Bench::new(&[&guest]);
    assert_eq!(bench.run(&["a"]).1.failures.len(), 0);
    let (rows, report) = bench.run(&["b"]);
    // The old handle traps; the fresh instance that tries the record alone has none.
    assert_eq!(report.faults.len(), 1, "{report:?}");
    assert!(matches!(&report.faults[0].1, PluginFault::BadOutput { message } if message.contains("emit")));
    assert_eq!(rows, ["100:b"]);
}

#[test]
fn configure_declares_other_fields_next_time_is_seen() {
    // Declares a field only if the config asks for it.
    let guest = Guest {
        imports: SETUP,
        items: FIELD_A,
        configure: "(if (i32.gt_u (local.get $config-len) (i32.const 2)) (then (drop (call $field (i32.const 1040) (i32.const 1)))))",
        ..Guest::default()
    };
    // Within one chain it is the same; two specs with other configs are two steps.
    let mut with = guest.spec("with");
    with.config = r#"{"a":1}"#.to_owned();
    let mut bench = Bench::try_new(vec![with, guest.spec("without")], ChainOptions::default()).unwrap();
    assert_eq!(bench.run(&["{}"]).0, ["100:{}"]);
}

#[test]
fn manifest_does_not_ask_for_a_grant_is_refused() {
    let manifest = Manifest { name: "picky".to_owned(), version: "1.0.0".to_owned(), ..Manifest::default() };
    let plugin = picky().load(manifest.clone()).unwrap();
    let error = Bench::try_new(vec![spec("t0", plugin)], ChainOptions::default()).err().unwrap();
    let text = text_of(&error);
    assert!(text.contains("grants the file \"table\""), "{text}");
    let grants =
        Grants { files: vec!["table".to_owned()], secrets: vec!["key".to_owned()], ..Grants::default() };
    let plugin = picky().load(Manifest { grants, ..manifest }).unwrap();
    assert!(Bench::try_new(vec![spec("t0", plugin)], ChainOptions::default()).is_ok());
}

#[test]
fn config_that_the_plugin_takes_and_its_schema_does_not_is_refused_as_a_config() {
    let schema =
        serde_json::json!({ "properties": { "n": { "type": "integer" } }, "additionalProperties": false });
    let manifest = Manifest { config_schema: Some(schema), ..Manifest::default() };
    let plugin = picky().load(manifest).unwrap();
    let build = |config: &str| {
        let spec = TransformSpec { config: config.to_owned(), ..spec("t0", Arc::clone(&plugin)) };
        Bench::try_new(vec![spec], ChainOptions::default())
    };
    assert!(build(r#"{"n":1}"#).is_ok());
    let Err(ChainError::Transforms(errors)) = build(r#"{"n":"1","m":2}"#) else { panic!("it was taken") };
    assert!(errors[0].of_config);
    let reason = errors[0].fault.to_string();
    assert!(reason.contains("does not fit the plugin's schema") && reason.contains("/n: \"1\""), "{reason}");
}

#[test]
fn manifest_sample_fails_is_refused() {
    let manifest = |records: &[&str]| Manifest {
        sample: Some(Sample {
            config: serde_json::Value::Null,
            records: records.iter().map(|&record| record.to_owned()).collect(),
        }),
        ..Manifest::default()
    };
    let build = |manifest| {
        let plugin = picky().load(manifest).unwrap();
        Bench::try_new(vec![spec("t0", plugin)], ChainOptions::default())
    };
    assert!(build(manifest(&["fine", "too"])).is_ok());
    let text = text_of(&build(manifest(&["fine", "xyz"])).err().unwrap());
    assert!(text.contains("sample"), "{text}");
}

#[test]
fn same_records_give_the_same_seed_and_others_another() {
    // Logs the seed's eight bytes as letters.
    let guest = Guest {
        imports: r#"(import "wasmill:plugin/records@0.1.3" "[method]chunk.seed" (func $seed (param i32) (result i64)))"#,
        process: "(i64.store (i32.const 1024)
                    (i64.or (i64.const 0x4040404040404040)
                      (i64.and (call $seed (local.get $rows)) (i64.const 0x0f0f0f0f0f0f0f0f))))
                  (if (call $len (local.get $rows)) (then (call $log (i32.const 1) (i32.const 1024) (i32.const 8))))",
        ..Guest::default()
    };
    let seeds = |times| {
        let mut bench = Bench::new(&[&guest, &guest]);
        for _ in 0..times {
            bench.run(&["a"]);
        }
        bench.log.text().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let twice = seeds(2);
    assert_eq!(twice.len(), 4, "{twice:?}");
    assert_ne!(twice[0], twice[1]);
    assert_eq!(twice[..2], twice[2..]);
    assert_eq!(twice[..2], seeds(1));
}
