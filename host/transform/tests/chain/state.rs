//! What a guest can do wrong with state: it is trapped with a text that names the function, and nothing is written.

use wasmill_transform::{ChainOptions, Grants, Manifest, TransformSpec};

use crate::support::{Bench, Guest, spec, text_of};

const IMPORTS: &str = r#"
  (import "wasmill:plugin/state@0.1.3" "table" (func $table (param i32 i32 i32 i64 i32)))
  (import "wasmill:plugin/state@0.1.3" "get" (func $get (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasmill:plugin/state@0.1.3" "put" (func $put (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasmill:plugin/state@0.1.3" "add" (func $add (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasmill:plugin/state@0.1.3" "scan" (func $scan (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;

/// 1024: the name `t`; 1040: groups, zeros; 1056: ends 1, 1; 1072: states 3, 1; 1088: deltas; 1104: ends 2, 1; 1120: ends 5000.
const DATA: &str = r#"
  (data (i32.const 1024) "t no name")
  (data (i32.const 1056) "\01\00\00\00\01\00\00\00")
  (data (i32.const 1072) "\03\01")
  (data (i32.const 1104) "\02\00\00\00\01\00\00\00")
  (data (i32.const 1120) "\88\13\00\00")"#;

const DECLARE: &str =
    "(call $table (i32.const 1024) (i32.const 1) (i32.const 1) (i64.const 0) (i32.const 48))";

fn keeper(configure: &'static str, process: &'static str) -> Guest {
    Guest {
        world_imports: vec!["wasmill:plugin/state@0.1.3"],
        imports: IMPORTS,
        items: DATA,
        configure,
        process,
        ..Guest::default()
    }
}

fn spec_of(guest: &Guest) -> TransformSpec {
    let manifest = Manifest {
        name: "keeper".to_owned(),
        version: "1.0.0".to_owned(),
        grants: Grants {
            state: true,
            files: vec!["table".to_owned()],
            secrets: vec!["key".to_owned()],
            ..Grants::default()
        },
        ..Manifest::default()
    };
    spec("t0", guest.load(manifest).unwrap())
}

/// The reason of the one record's letter.
fn reason(process: &'static str) -> String {
    let mut bench =
        Bench::try_new(vec![spec_of(&keeper(DECLARE, process))], ChainOptions::default()).unwrap();
    let (rows, report) = bench.run(&["a"]);
    assert!(rows.is_empty() && report.failures.len() == 1, "{rows:?} {report:?}");
    report.failures[0].reason.clone()
}

#[test]
fn misuse_of_state_traps_and_names_the_function() {
    for (process, expected) in [
        (
            "(if (call $len (local.get $rows)) (then (call $get (i32.const 7) (i32.const 1040) (i32.const 1)
               (i32.const 1024) (i32.const 1) (i32.const 1056) (i32.const 1) (i32.const 48))))",
            "state.get: a number that state.table did not return",
        ),
        (
            "(if (call $len (local.get $rows)) (then (call $get (i32.const 0) (i32.const 1040) (i32.const 2)
               (i32.const 1024) (i32.const 1) (i32.const 1056) (i32.const 1) (i32.const 48))))",
            "state.get: lists of different lengths",
        ),
        (
            "(if (call $len (local.get $rows)) (then (call $get (i32.const 0) (i32.const 1040) (i32.const 2)
               (i32.const 1024) (i32.const 1) (i32.const 1104) (i32.const 2) (i32.const 48))))",
            "state.get: column ends fall",
        ),
        (
            "(if (call $len (local.get $rows)) (then (call $get (i32.const 0) (i32.const 1040) (i32.const 1)
               (i32.const 2048) (i32.const 5000) (i32.const 1120) (i32.const 1) (i32.const 48))))",
            "state.get: a key of 5000 bytes; at most 4096",
        ),
        (
            "(if (call $len (local.get $rows)) (then (call $put (i32.const 0) (i32.const 1040) (i32.const 2)
               (i32.const 1024) (i32.const 1) (i32.const 1056) (i32.const 2)
               (i32.const 1072) (i32.const 2) (i32.const 1024) (i32.const 1) (i32.const 1056) (i32.const 2))))",
            "state.put: state has no null",
        ),
        (
            "(if (call $len (local.get $rows)) (then
               (call $put (i32.const 0) (i32.const 1040) (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 1056) (i32.const 1)
                 (i32.const 1072) (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 1056) (i32.const 1))
               (call $add (i32.const 0) (i32.const 1040) (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 1056) (i32.const 1)
                 (i32.const 1088) (i32.const 1) (i32.const 48))))",
            "state.add: a value of 1 bytes where a sum has 8",
        ),
        (
            "(if (call $len (local.get $rows)) (then (call $add (i32.const 0) (i32.const 1040) (i32.const 1)
               (i32.const 1024) (i32.const 1) (i32.const 1056) (i32.const 1) (i32.const 1088) (i32.const 0) (i32.const 48))))",
            "state.add: lists of different lengths",
        ),
        (
            "(if (call $len (local.get $rows)) (then (call $scan (i32.const 0) (i32.const 2048) (i32.const 4097)
               (i32.const 2048) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1)
               (i32.const 48))))",
            "state.scan: a key of 4097 bytes",
        ),
        (
            "(if (call $len (local.get $rows)) (then
               (call $table (i32.const 1024) (i32.const 1) (i32.const 1) (i64.const 0) (i32.const 48))))",
            "state.table: may be called inside configure only",
        ),
    ] {
        let reason = reason(process);
        assert!(reason.contains(expected), "{expected}: {reason}");
    }
}

#[test]
fn configure_that_declares_what_is_no_table_or_reads_state_is_refused() {
    let refusal = |configure: &'static str| {
        let refused = Bench::try_new(vec![spec_of(&keeper(configure, ""))], ChainOptions::default());
        text_of(&refused.err().expect("a refused chain"))
    };
    // The answer of a declaration is for the guest, which goes on here; what was declared shows.
    let declared = |configure: &'static str| {
        Bench::try_new(vec![spec_of(&keeper(configure, ""))], ChainOptions::default())
            .unwrap()
            .worker
            .chain()
            .keeps_state()
    };
    assert!(declared(DECLARE));
    assert!(!declared(
        "(call $table (i32.const 1024) (i32.const 9) (i32.const 1) (i64.const 0) (i32.const 48))"
    ));
    assert!(!declared(
        "(call $table (i32.const 1024) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 48))"
    ));
    let text = refusal(
        "(call $get (i32.const 0) (i32.const 1040) (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 1056) (i32.const 1)
           (i32.const 48))",
    );
    assert!(text.contains("state.get: may be called inside process only"), "{text}");
}
