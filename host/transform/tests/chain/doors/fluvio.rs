//! SmartModules by hand: what their outputs may claim, and what that costs. Those of the SDK run in the tests of the whole.

use wasmill_transform::{ChainOptions, Limits, TransformSpec, inspect};

use super::{door, module};
use crate::support::{Bench, text_of};

/// A module that exports `name`: its input is at `$at`, `$n` records in `$raw` bytes; `data` lies at 1024.
fn smart(name: &str, data: &[u8], body: &str) -> Vec<u8> {
    let data: String = data.iter().map(|byte| format!("\\{byte:02x}")).collect();
    module(&format!(
        r#"(module
          (import "env" "copy_records" (func $copy (param i32 i32)))
          (memory (export "memory") 4)
          (data (i32.const 1024) "{data}")
          (global $top (mut i32) (i32.const 65536))
          (func (export "alloc") (param $len i32) (result i32)
            (local $at i32)
            (local.set $at (global.get $top))
            (global.set $top (i32.add (global.get $top) (i32.add (local.get $len) (i32.const 16))))
            (block $fits (loop $grow
              (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
              (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
              (br $grow)))
            (local.get $at))
          (func $swap (param $at i32) (result i32)
            (local $x i32)
            (local.set $x (i32.load (local.get $at)))
            (i32.or
              (i32.or (i32.shl (local.get $x) (i32.const 24)) (i32.shr_u (local.get $x) (i32.const 24)))
              (i32.or
                (i32.and (i32.shl (local.get $x) (i32.const 8)) (i32.const 0xff0000))
                (i32.and (i32.shr_u (local.get $x) (i32.const 8)) (i32.const 0xff00)))))
          (func (export "{name}") (param $at i32) (param $len i32) (param $version i32) (result i32)
            (local $n i32) (local $raw i32) (local $end i32)
            (local.set $raw (call $swap (i32.add (local.get $at) (i32.const 8))))
            (local.set $n (call $swap (i32.add (local.get $at) (i32.const 12))))
            {body}))"#
    ))
}

/// Hands the records back: what an input holds of them is an output's own encoding, but for a zero that says no error.
const ECHO: &str = r#"
  (local.set $end (i32.add (i32.add (local.get $at) (i32.const 12)) (local.get $raw)))
  (i32.store8 (local.get $end) (i32.const 0))
  (call $copy (i32.add (local.get $at) (i32.const 12)) (i32.add (local.get $raw) (i32.const 1)))
  (local.get $n)"#;

fn bench(wasm: &[u8], config: &str) -> Bench {
    Bench::try_new(vec![door(wasm, config)], ChainOptions::default()).unwrap()
}

fn refused(wasm: &[u8], config: &str) -> String {
    let built = Bench::try_new(vec![door(wasm, config)], ChainOptions::default());
    text_of(&built.err().expect("a refused chain"))
}

/// What three records fail with when the module hands over these bytes whatever it gets.
fn handed_over(output: &[u8]) -> String {
    let body = format!("(call $copy (i32.const 1024) (i32.const {})) (i32.const 0)", output.len());
    let (rows, report) = bench(&smart("map", output, &body), "{}").run(&["a", "b", "c"]);
    assert_eq!((rows.len(), report.failures.len()), (0, 3), "{rows:?}");
    report.failures[0].reason.clone()
}

#[test]
fn smartmodule_that_hands_back_what_it_gets_changes_nothing() {
    let mut bench = bench(&smart("map", b"", ECHO), "{}");
    let (rows, report) = bench.run(&["one", "", "three"]);
    assert_eq!(rows, ["100:one", "101:", "102:three"]);
    assert_eq!((report.passed, report.transforms[0].instances), (3, 1));
}

#[test]
fn smartmodule_is_recognised_by_what_it_imports_and_exports() {
    for (export, name) in [
        ("filter", "fluvio-filter"),
        ("map", "fluvio-map"),
        ("filter_map", "fluvio-filter-map"),
        ("array_map", "fluvio-array-map"),
    ] {
        let inspection = inspect(&smart(export, b"", ECHO)).unwrap();
        assert_eq!(inspection.door.unwrap().to_string(), name);
        assert_eq!(inspection.refused, [""; 0]);
    }
    let aggregate = inspect(&smart("aggregate", b"", "unreachable")).unwrap();
    assert_eq!(aggregate.door.unwrap().to_string(), "fluvio-aggregate");
    let aggregate = aggregate.refused;
    assert!(aggregate[0].contains("no keyed state to keep it in yet"), "{aggregate:?}");
    let none = inspect(&smart("reduce", b"", "unreachable")).unwrap().refused;
    assert!(none[0].contains("exports 0 of filter, map, filter_map and array_map"), "{none:?}");
}

#[test]
fn smartmodule_that_lies_about_its_output_fails_its_records() {
    let unreadable = "bad output: the SmartModule handed over records that cannot be read";
    // Cut off; more records than bytes; a length past the end; a length below zero; no word on errors.
    for output in [
        &b""[..],
        &b"\0\0\0"[..],
        b"\xff\xff\xff\xff\0",
        b"\0\0\0\x01\x7e\0\0\0\0\x02a\0\0",
        b"\0\0\0\x01\x01\0\0\0\0\x02a\0\0",
        b"\0\0\0\x01\x0e\0\0\0\0\x02a\0",
        // An error whose text is longer than what there is.
        b"\0\0\0\0\x01\xff\xffno",
    ] {
        assert_eq!(handed_over(output), unreadable, "{output:?}");
    }
    let outside = |at: &str, len: &str| {
        let body = format!("(call $copy (i32.const {at}) (i32.const {len})) (i32.const 0)");
        bench(&smart("map", b"", &body), "{}").run(&["a"]).1.failures[0].reason.clone()
    };
    assert!(outside("-1", "5").contains("copy_records: 5 bytes at 4294967295 are not in its memory"));
    assert!(outside("0", "-1").contains("output too large: copy_records: 4294967295 bytes"));
    assert!(outside("262140", "8").contains("not in its memory"));
    let silent = bench(&smart("map", b"", "(i32.const 1)"), "{}").run(&["a"]).1;
    assert!(silent.failures[0].reason.contains("returned without handing records over"));
}

#[test]
fn smartmodule_whose_offsets_tell_nothing_gets_one_record_a_call() {
    // Always one record `z` at offset 0, as an array-map makes them.
    let one = b"\0\0\0\x01\x0e\0\0\0\0\x02z\0\0";
    let body = format!("(call $copy (i32.const 1024) (i32.const {})) (i32.const 1)", one.len());
    let (rows, _) = bench(&smart("array_map", one, &body), "{}").run(&["a", "b"]);
    assert_eq!(rows, ["100:z", "101:z"]);
    // Twice the same offset in one batch: then each record is asked about alone.
    let two = b"\0\0\0\x02\x0e\0\0\0\0\x02y\0\x0e\0\0\0\0\x02z\0\0";
    let body = format!("(call $copy (i32.const 1024) (i32.const {})) (i32.const 2)", two.len());
    let (rows, report) = bench(&smart("map", two, &body), "{}").run(&["a", "b"]);
    assert_eq!(rows, ["100:y", "100:z", "101:y", "101:z"]);
    assert_eq!((report.passed, report.emitted, report.chunks_bisected), (2, 4, 0));
}

#[test]
fn smartmodule_error_fails_its_record_and_the_rest_is_asked_again() {
    // An error `no` at the offset that the input begins with, and nothing made.
    let error = b"\0\0\0\0\x01\0\x02no\0\0\0\0\0\0\0\x64\0\0\0";
    let body = format!(
        r#"
        ;; Its own base offset, so that every call fails its first record.
        (i64.store (i32.const 1033) (i64.load (local.get $at)))
        (if (i32.gt_u (local.get $n) (i32.const 2)) (then
          (call $copy (i32.const 1024) (i32.const {})) (return (i32.const 0))))
        {ECHO}"#,
        error.len()
    );
    let (rows, report) = bench(&smart("map", error, &body), "{}").run(&["a", "b", "c", "d", "e"]);
    let failed: Vec<_> =
        report.failures.iter().map(|failure| (failure.offset, failure.reason.as_str())).collect();
    assert_eq!(failed, [(100, "no")]);
    assert_eq!(rows, ["101:b", "102:c", "103:d", "104:e"]);
    assert_eq!(report.chunks_bisected, 0);
}

#[test]
fn smartmodule_status_trap_loop_and_memory_cost_the_records_that_made_them() {
    let reason = |body: &str| {
        let spec = door(&smart("map", b"", body), "{}");
        let mut bench = Bench::try_new(vec![spec], ChainOptions::default()).unwrap();
        bench.run(&["a"]).1.failures[0].reason.clone()
    };
    assert_eq!(
        reason("(i32.const -22)"),
        "the SmartModule cannot read the records of its input (status -22)"
    );
    assert_eq!(reason("(i32.const -77)"), "the SmartModule failed (status -77)");
    assert!(reason("unreachable").starts_with("trap: "));
    assert!(reason("(loop $ever (br $ever)) (i32.const 0)").starts_with("deadline: "));
    let bomb = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    assert!(reason(bomb).starts_with("memory limit of 33554432 bytes reached"));
}

#[test]
fn smartmodule_that_leaks_is_replaced_before_its_memory_is_full() {
    let limits = Limits { memory_bytes: 2 << 20, ..Limits::default() };
    let spec = TransformSpec { limits, ..door(&smart("map", b"", ECHO), "{}") };
    let mut bench = Bench::try_new(vec![spec], ChainOptions::default()).unwrap();
    let record = "x".repeat(100_000);
    let mut instances = 0;
    for _ in 0..100 {
        let (rows, report) = bench.run(&[&record]);
        assert_eq!((rows.len(), report.failures.len(), report.transforms[0].traps), (1, 0, 0));
        instances += report.transforms[0].instances;
    }
    assert!(instances >= 5, "{instances}");
}

#[test]
fn smartmodule_init_is_told_its_params_and_may_refuse_them() {
    let with_init = |body: &str, hint: &[u8]| {
        let data: String = hint.iter().map(|byte| format!("\\{byte:02x}")).collect();
        module(&format!(
            r#"(module
              (import "wbg" "copy_records" (func $copy (param i32 i32)))
              (memory (export "memory") 1)
              (data (i32.const 1024) "{data}")
              (func (export "alloc") (param i32) (result i32) (i32.const 4096))
              (func (export "init") (param $at i32) (param $len i32) (param $version i32) (result i32) {body})
              (func (export "filter") (param i32 i32 i32) (result i32) unreachable))"#
        ))
    };
    // Count, name, value, no look back: 2 + 2 + 1 + 2 + 3 + 1 bytes in version 22, or it says what it got.
    let picky = with_init(
        r#"(if (i32.and (i32.eq (local.get $len) (i32.const 11)) (i32.eq (local.get $version) (i32.const 22))) (then (return (i32.const 0))))
           (call $copy (i32.const 1024) (i32.const 8))
           (i32.const -2)"#,
        b"\0\x06no way",
    );
    assert!(
        Bench::try_new(vec![door(&picky, r#"{"params": {"k": "val"}}"#)], ChainOptions::default()).is_ok()
    );
    assert!(refused(&picky, "{}").ends_with("no way"));
    let silent = with_init("(i32.const -10)", b"");
    assert!(refused(&silent, "{}").contains("init failed with status -10"));
    assert!(refused(&silent, r#"{"parms": {}}"#).contains("unknown field `parms`"));
    let long = format!(r#"{{"params": {{"k": "{}"}}}}"#, "v".repeat(70_000));
    assert!(refused(&silent, &long).contains("65535 are allowed"));
}
