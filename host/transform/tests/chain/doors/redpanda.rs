//! Data Transforms by hand, one of which does to each record what the first byte of its value asks for. Those of the SDK
//! run in the tests of the whole.

use wasmill_transform::{ChainOptions, Limits, TransformSpec, inspect};

use super::{door, module};
use crate::support::{Bench, text_of};

const IMPORTS: &str = r#"
  (import "redpanda_transform" "check_abi_version_2" (func $check))
  (import "redpanda_transform" "read_batch_header" (func $header (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "redpanda_transform" "read_next_record" (func $next (param i32 i32 i32 i32 i32) (result i32)))
  (import "redpanda_transform" "write_record" (func $write (param i32 i32) (result i32)))
  (import "redpanda_transform" "write_record_with_options" (func $write-to (param i32 i32 i32 i32) (result i32)))
  (import "redpanda_schema_registry" "get_schema_definition_len" (func $schema (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 512) "\01\08side")
  (data (i32.const 520) "\01\06far")
  (data (i32.const 528) "\02\08side")
  (data (i32.const 536) "\01\ff\ff\ff\ff\0f")
  (data (i32.const 544) "\02k\02v\02\02h\02w")"#;

/// A program that goes through batches, with `body` for each record: its `$len` bytes are at 4096, `$first` is the first
/// byte of its value, `$calls` counts the records of this instance.
fn transform(body: &str) -> Vec<u8> {
    module(&format!(
        r#"(module {IMPORTS}
          (global $calls (mut i32) (i32.const 0))
          (func (export "_start") (local $left i32) (local $len i32) (local $first i32)
            (call $check)
            (loop $batch
              (if (i32.lt_s (call $header (i32.const 8) (i32.const 16) (i32.const 24) (i32.const 32) (i32.const 40) (i32.const 48) (i32.const 56) (i32.const 64) (i32.const 72) (i32.const 80)) (i32.const 0)) (then unreachable))
              (local.set $left (i32.load (i32.const 16)))
              (block $done (loop $record
                (br_if $done (i32.eqz (local.get $left)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (local.set $len (call $next (i32.const 96) (i32.const 104) (i32.const 112) (i32.const 4096) (i32.const 60000)))
                (if (i32.lt_s (local.get $len) (i32.const 0)) (then unreachable))
                (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                (local.set $first (i32.load8_u (i32.const 4098)))
                {body}
                (br $record)))
              (br $batch))))"#
    ))
}

/// `d` writes nothing, `t` twice, `s` to the output `side`, `f` to one that is not there, `x` traps, `l` loops, `b` asks for
/// the next batch although this one is not over, `k` writes a key, others are written as they are.
const PICKY: &str = r#"
  (if (i32.eq (local.get $first) (i32.const 100)) (then (br $record)))
  (if (i32.eq (local.get $first) (i32.const 115)) (then
    (if (i32.ne (call $write-to (i32.const 4096) (local.get $len) (i32.const 512) (i32.const 6)) (local.get $len)) (then unreachable))
    (br $record)))
  (if (i32.eq (local.get $first) (i32.const 102)) (then
    (drop (call $write-to (i32.const 4096) (local.get $len) (i32.const 520) (i32.const 5)))
    (br $record)))
  (if (i32.eq (local.get $first) (i32.const 120)) (then unreachable))
  (if (i32.eq (local.get $first) (i32.const 108)) (then (loop $ever (br $ever))))
  (if (i32.eq (local.get $first) (i32.const 98)) (then (br $done)))
  (if (i32.eq (local.get $first) (i32.const 107)) (then
    (if (i32.ne (call $write (i32.const 544) (i32.const 9)) (i32.const 9)) (then unreachable))
    (br $record)))
  (if (i32.eq (local.get $first) (i32.const 116)) (then (drop (call $write (i32.const 4096) (local.get $len)))))
  (if (i32.ne (call $write (i32.const 4096) (local.get $len)) (local.get $len)) (then unreachable))"#;

fn bench(wasm: &[u8], config: &str) -> Bench {
    Bench::try_new(vec![door(wasm, config)], ChainOptions::default()).unwrap()
}

fn refused(wasm: &[u8]) -> String {
    let built = Bench::try_new(vec![door(wasm, "{}")], ChainOptions::default());
    text_of(&built.err().expect("a refused chain"))
}

#[test]
fn transform_is_recognised_with_the_version_of_its_abi() {
    let two = transform(PICKY);
    assert_eq!(inspect(&two).unwrap().door.unwrap().to_string(), "redpanda-transform-2");
    let one = module(
        r#"(module
          (import "redpanda_transform" "check_abi_version_1" (func))
          (memory (export "memory") 1) (func (export "_start")))"#,
    );
    let inspection = inspect(&one).unwrap();
    assert_eq!(inspection.door.unwrap().to_string(), "redpanda-transform-1");
    assert_eq!(inspection.refused, [""; 0]);
    let three = module(
        r#"(module
          (import "redpanda_transform" "check_abi_version_3" (func))
          (memory (export "memory") 1))"#,
    );
    let refused = inspect(&three).unwrap().refused.join("; ");
    for part in ["no check of the ABI's version 1 or 2", "exports no _start", "\"check_abi_version_3\""] {
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn transform_is_suspended_between_chunks_and_goes_on_with_what_it_has() {
    let count = r#"
      (i32.store8 (i32.const 4098) (i32.add (i32.const 48) (global.get $calls)))
      (drop (call $write (i32.const 4096) (local.get $len)))"#;
    let mut bench = bench(&transform(count), "{}");
    assert_eq!(bench.run(&["a", "b"]).0, ["100:1", "101:2"]);
    let (rows, report) = bench.run(&["c"]);
    assert_eq!((rows, report.transforms[0].instances), (vec!["100:3".to_owned()], 0));
    // A worker may go on on another thread.
    let mut bench = std::thread::spawn(move || {
        assert_eq!(bench.run(&["d"]).0, ["100:4"]);
        bench
    })
    .join()
    .unwrap();
    assert_eq!(bench.run(&["e"]).0, ["100:5"]);
}

#[test]
fn transform_writes_none_one_or_several_and_to_outputs_by_name() {
    let (rows, report) = bench(&transform(PICKY), "{}").run(&["a", "d", "t", "s", "far", "k", "z"]);
    assert_eq!(rows, ["100:a", "102:t", "102:t", "1>103:s", "105:v", "106:z"]);
    assert_eq!((report.passed, report.dropped, report.failures.len()), (5, 1, 1));
    assert_eq!(
        report.failures[0].reason,
        "wrote to the topic `far`, and no output is named so; the stream has `main`, `side`"
    );
    assert_eq!(report.chunks_bisected, 0);
}

#[test]
fn transform_that_traps_loops_or_skips_costs_the_record_that_made_it() {
    for (record, reason) in [
        ("x", "trap: the plugin panicked or aborted"),
        ("l", "deadline: used more than"),
        ("b", "bad output: read "),
    ] {
        let mut bench = bench(&transform(PICKY), "{}");
        let (rows, report) = bench.run(&["a", record, "c", "e"]);
        // Asking for the next batch too early is only seen where records were left.
        if record == "b" {
            assert_eq!(rows, ["100:a", "102:c", "103:e"]);
            assert_eq!((report.dropped, report.failures.len()), (1, 0));
            assert!(report.faults[0].1.to_string().starts_with(reason), "{:?}", report.faults);
        } else {
            assert_eq!(rows, ["100:a", "102:c", "103:e"]);
            assert_eq!((report.failures[0].offset, report.failures.len()), (101, 1));
            assert!(report.failures[0].reason.starts_with(reason), "{}", report.failures[0].reason);
        }
        // The next chunk finds a fresh instance.
        assert_eq!(bench.run(&["f2", "g"]).0, ["101:g"]);
    }
}

#[test]
fn transform_with_wrong_pointers_lengths_and_options_is_told_so() {
    let told = r#"
      ;; Records that are not there, or are none; options that are none.
      (if (i32.ne (call $write (i32.const -1) (i32.const 4)) (i32.const -2)) (then unreachable))
      (if (i32.ne (call $write (i32.const 4096) (i32.const -1)) (i32.const -2)) (then unreachable))
      (if (i32.ne (call $write (i32.const 4096) (i32.const 1)) (i32.const -2)) (then unreachable))
      (if (i32.ne (call $write (i32.const 536) (i32.const 6)) (i32.const -2)) (then unreachable))
      (if (i32.ne (call $write (i32.const 4096) (i32.add (local.get $len) (i32.const 1))) (i32.const -2)) (then unreachable))
      (if (i32.ne (call $write-to (i32.const 4096) (local.get $len) (i32.const 528) (i32.const 6)) (i32.const -2)) (then unreachable))
      (if (i32.ne (call $write-to (i32.const 4096) (local.get $len) (i32.const 512) (i32.const 5)) (i32.const -2)) (then unreachable))
      (if (i32.ne (call $write-to (i32.const 4096) (local.get $len) (i32.const -1) (i32.const 6)) (i32.const -2)) (then unreachable))
      (if (i32.ne (call $next (i32.const 96) (i32.const 104) (i32.const 112) (i32.const 4096) (i32.const 60000)) (i32.const -1)) (then unreachable))
      (if (i32.ne (call $schema (i32.const 1) (i32.const 8)) (i32.const -1)) (then unreachable))
      (if (i32.ne (i32.wrap_i64 (i64.load (i32.const 112))) (i32.const 100)) (then unreachable))
      (if (i64.ne (i64.load (i32.const 104)) (i64.const 1700000000000)) (then unreachable))
      (if (i32.ne (call $write-to (i32.const 4096) (local.get $len) (i32.const 0) (i32.const 0)) (local.get $len)) (then unreachable))"#;
    assert_eq!(bench(&transform(told), "{}").run(&["a"]).0, ["100:a"]);
    let pointers = module(&format!(
        r#"(module {IMPORTS}
          (func (export "_start")
            (call $check)
            (if (i32.ne (call $next (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 100)) (i32.const -1)) (then unreachable))
            (if (i32.ne (call $write (i32.const 544) (i32.const 9)) (i32.const -1)) (then unreachable))
            (if (i32.ne (call $header (i32.const -4) (i32.const 16) (i32.const 24) (i32.const 32) (i32.const 40) (i32.const 48) (i32.const 56) (i32.const 64) (i32.const 72) (i32.const 80)) (i32.const -2)) (then unreachable))
            (if (i32.ne (call $write (i32.const 544) (i32.const 9)) (i32.const -1)) (then unreachable))
            (if (i32.ne (call $next (i32.const 96) (i32.const 104) (i32.const 112) (i32.const 4096) (i32.const 2)) (i32.const -2)) (then unreachable))
            (if (i32.ne (call $next (i32.const 96) (i32.const 104) (i32.const 112) (i32.const -2) (i32.const 60000)) (i32.const -2)) (then unreachable))
            (if (i32.ne (call $next (i32.const 96) (i32.const 104) (i32.const 112) (i32.const 4096) (i32.const 60000)) (i32.const 4)) (then unreachable))
            (drop (call $write (i32.const 544) (i32.const 9)))
            (drop (call $header (i32.const 8) (i32.const 16) (i32.const 24) (i32.const 32) (i32.const 40) (i32.const 48) (i32.const 56) (i32.const 64) (i32.const 72) (i32.const 80)))))"#
    ));
    let (rows, report) = bench(&pointers, "{}").run(&["a"]);
    assert_eq!(rows, ["100:v"], "{:?}", report.failures);
}

#[test]
fn transform_that_writes_without_end_or_takes_memory_without_end_fails_its_record() {
    let reason = |body: &str| bench(&transform(body), "{}").run(&["a"]).1.failures[0].reason.clone();
    let writes = "(loop $more (drop (call $write (i32.const 4096) (local.get $len))) (br $more))";
    assert!(reason(writes).starts_with("output too large: more than 16777216 bytes written"));
    let bomb = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    assert!(reason(bomb).starts_with("memory limit of 33554432 bytes reached"));
}

#[test]
fn transform_that_ends_or_never_asks_is_refused_before_it_is_used() {
    let program = |body: &str| module(&format!(r#"(module {IMPORTS} (func (export "_start") {body}))"#));
    assert!(refused(&program("(call $check)")).contains("returned from _start"));
    assert!(refused(&program("unreachable")).contains("panicked or aborted"));
    let limits = Limits { configure_deadline: std::time::Duration::from_millis(100), ..Limits::default() };
    let spec = TransformSpec { limits, ..door(&program("(loop $ever (br $ever))"), "{}") };
    let built = Bench::try_new(vec![spec], ChainOptions::default());
    assert!(text_of(&built.err().unwrap()).contains("used more than 100ms of CPU time"));
}
