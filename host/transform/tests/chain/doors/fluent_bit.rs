//! Fluent Bit filters by hand, one of which does to each record what its fourth byte asks for (`{"xyz` ..).

use wasmill_transform::{ChainOptions, Limits, TransformSpec, inspect};

use super::{door, module};
use crate::support::{Bench, text_of};

/// What records ask for: `n` null, `e` an empty text, `p` a pointer outside the memory, `u` a text without an end, `a` no
/// object, `x` a trap, `l` a loop, `m` memory without end; others come back as they are. `$i` is free.
const PICKY: &str = r#"
  (local.set $i (i32.load8_u (i32.add (local.get $record) (i32.const 2))))
  (if (i32.eq (local.get $i) (i32.const 110)) (then (return (i32.const 0))))
  (if (i32.eq (local.get $i) (i32.const 101)) (then (return (i32.const 512))))
  (if (i32.eq (local.get $i) (i32.const 112)) (then (return (i32.const -1))))
  (if (i32.eq (local.get $i) (i32.const 117)) (then
    (local.set $i (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)))
    (i32.store (local.get $i) (i32.const -1))
    (return (local.get $i))))
  (if (i32.eq (local.get $i) (i32.const 97)) (then (return (i32.const 520))))
  (if (i32.eq (local.get $i) (i32.const 120)) (then unreachable))
  (if (i32.eq (local.get $i) (i32.const 108)) (then (loop $ever (br $ever))))
  (if (i32.eq (local.get $i) (i32.const 109)) (then
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))
  (local.get $record)"#;

fn filter(body: &str, items: &str) -> Vec<u8> {
    module(&format!(
        r#"(module
          (memory (export "memory") 2)
          (data (i32.const 520) "[1]\00")
          {items}
          (func (export "go") (param $tag i32) (param $tag-len i32) (param $sec i32) (param $nsec i32) (param $record i32) (param $len i32) (result i32)
            (local $i i32)
            {body}))"#
    ))
}

fn bench(wasm: &[u8], config: &str) -> Bench {
    Bench::try_new(vec![door(wasm, config)], ChainOptions::default()).unwrap()
}

fn refused(wasm: &[u8], config: &str) -> String {
    let built = Bench::try_new(vec![door(wasm, config)], ChainOptions::default());
    text_of(&built.err().expect("a refused chain"))
}

/// One bad record among good ones: only it fails.
fn only_bad(record: &str) -> String {
    let (rows, report) = bench(&filter(PICKY, ""), "{}").run(&[r#"{"k":1}"#, record, r#"{"k":2}"#]);
    assert_eq!(rows, [r#"100:{"k":1}"#, r#"102:{"k":2}"#], "{record}");
    assert_eq!(report.failures.len(), 1, "{record}");
    report.failures[0].reason.clone()
}

#[test]
fn filter_keeps_drops_and_is_recognised() {
    let wasm = filter(PICKY, "");
    assert_eq!(inspect(&wasm).unwrap().door.unwrap().to_string(), "fluent-bit-filter");
    let (rows, report) = bench(&wasm, "{}").run(&[r#"{"k":"v"}"#, r#"{"n":1}"#, r#"{"e":1}"#]);
    assert_eq!(rows, [r#"100:{"k":"v"}"#]);
    assert_eq!((report.passed, report.dropped), (1, 2));
}

#[test]
fn filter_that_answers_nonsense_or_traps_costs_the_record_that_made_it() {
    assert!(only_bad(r#"{"p":1}"#).contains("the pointer 4294967295, which is not in its memory"));
    assert!(only_bad(r#"{"u":1}"#).contains("a text without an end"));
    assert!(only_bad(r#"{"a":1}"#).contains("something other than a JSON object"));
    assert!(only_bad(r#"{"x":1}"#).starts_with("trap: "));
    assert!(only_bad(r#"{"l":1}"#).starts_with("deadline: "));
    assert!(only_bad(r#"{"m":1}"#).starts_with("memory limit of 33554432 bytes reached"));
    assert!(only_bad("plain text").contains("no JSON object"));
    assert!(only_bad("[1]").contains("no JSON object"));
    assert!(only_bad(r#"{"k":"#).contains("no JSON object"));
}

/// Writes tag, seconds, nanoseconds and record length as a JSON object: `{"tag":"..","s":1700000000,"n":7}`.
const TELL: &str = r#"
  (memory.copy (i32.const 1024) (i32.const 600) (i32.const 8))
  (memory.copy (i32.const 1032) (local.get $tag) (local.get $tag-len))
  (local.set $i (i32.add (i32.const 1032) (local.get $tag-len)))
  (if (i32.load8_u (i32.add (local.get $tag) (local.get $tag-len))) (then unreachable))
  (if (i32.load8_u (i32.add (local.get $record) (local.get $len))) (then unreachable))
  (if (i32.ne (local.get $sec) (i32.const 1700000000)) (then unreachable))
  (if (local.get $nsec) (then unreachable))
  (i32.store16 (local.get $i) (i32.const 0x7d22))
  (i32.store8 (i32.add (local.get $i) (i32.const 2)) (i32.const 0))
  (i32.const 1024)"#;

#[test]
fn filter_is_told_tag_and_time() {
    let wasm = filter(TELL, r#"(data (i32.const 600) "{\"tag\":\"")"#);
    assert_eq!(bench(&wasm, r#"{"tag": "app.log"}"#).run(&["{}"]).0, [r#"100:{"tag":"app.log"}"#]);
    assert_eq!(bench(&wasm, "{}").run(&["{}"]).0, [r#"100:{"tag":"t0"}"#]);
}

#[test]
fn filter_with_an_allocator_gets_its_records_from_it() {
    let items = r#"
      (global $top (mut i32) (i32.const 65536))
      (func (export "malloc") (param $len i32) (result i32)
        (global.set $top (i32.add (global.get $top) (local.get $len)))
        (i32.sub (global.get $top) (local.get $len)))
      (func (export "free") (param i32))"#;
    let body = "(if (i32.lt_u (local.get $record) (i32.const 65536)) (then unreachable)) (local.get $record)";
    let wasm = filter(body, items);
    let long = format!(r#"{{"k":"{}"}}"#, "v".repeat(3000));
    let (rows, _) = bench(&wasm, "{}").run(&[r#"{"k":1}"#, &long, r#"{"k":2}"#]);
    assert_eq!(rows.len(), 3);
    // One whose allocator has nothing, or something that is no memory.
    for (answer, reason) in [("0", "no room for a record"), ("-16", "are not in its memory")] {
        let items = format!(
            r#"(func (export "malloc") (param i32) (result i32) (i32.const {answer})) (func (export "free") (param i32))"#
        );
        assert!(refused(&filter(body, &items), "{}").contains(reason));
    }
}

#[test]
fn filter_in_msgpack_mode_gets_and_gives_maps() {
    let echo = filter("(local.get $record)", "");
    let text = r#"{"b":[1,-2,3.5,null,true],"a":{"x":"ä"}}"#;
    let (rows, report) = bench(&echo, r#"{"format": "msgpack"}"#).run(&[text, "[1]", "no"]);
    assert_eq!(rows, [format!("100:{text}")]);
    assert_eq!(report.failures.len(), 2);
    // Nothing, an empty text, no map, and a map that goes past the end of the memory.
    let answers = filter(
        r#"(local.set $i (i32.load8_u (i32.add (local.get $record) (i32.const 2))))
           (if (i32.eq (local.get $i) (i32.const 110)) (then (return (i32.const 0))))
           (if (i32.eq (local.get $i) (i32.const 101)) (then (return (i32.const 512))))
           (if (i32.eq (local.get $i) (i32.const 97)) (then (return (i32.const 520))))
           (local.set $i (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 3)))
           (i32.store8 (local.get $i) (i32.const 0xde))
           (i32.store16 (i32.add (local.get $i) (i32.const 1)) (i32.const -1))
           (local.get $i)"#,
        "",
    );
    let mut bench = bench(&answers, r#"{"format": "msgpack"}"#);
    let (rows, report) = bench.run(&[r#"{"n":1}"#, r#"{"e":1}"#, r#"{"a":1}"#, r#"{"z":1}"#]);
    assert_eq!((rows.len(), report.dropped, report.failures.len()), (0, 2, 2));
    assert!(report.failures[0].reason.contains("other than a msgpack map"));
    assert!(report.failures[1].reason.contains("cut off"));
}

#[test]
fn filter_to_call_is_the_only_one_or_the_one_that_is_named() {
    let two = module(
        r#"(module (memory (export "memory") 1)
          (func (export "one") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 0))
          (func (export "two") (param i32 i32 i32 i32 i32 i32) (result i32) (local.get 4)))"#,
    );
    assert_eq!(bench(&two, r#"{"function": "two"}"#).run(&["{}"]).0, ["100:{}"]);
    assert!(refused(&two, "{}").contains("has the filters \"one\", \"two\"; say which one with `function`"));
    let text = refused(&two, r#"{"function": "three"}"#);
    assert!(text.contains(r#"no filter is named "three"; the module has "one", "two""#), "{text}");
    assert!(refused(&two, r#"{"format": "cbor"}"#).contains("unknown variant `cbor`"));
}

#[test]
fn filter_that_leaks_is_replaced_before_its_memory_is_full() {
    // Takes a page for each record.
    let wasm = filter(
        "(if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (local.get $record)",
        "",
    );
    let limits = Limits { memory_bytes: 2 << 20, ..Limits::default() };
    let spec = TransformSpec { limits, ..door(&wasm, "{}") };
    let mut bench = Bench::try_new(vec![spec], ChainOptions::default()).unwrap();
    let mut instances = 0;
    for _ in 0..100 {
        let (rows, report) = bench.run(&["{}"]);
        assert_eq!((rows.len(), report.transforms[0].traps), (1, 0));
        instances += report.transforms[0].instances;
    }
    assert!((3..50).contains(&instances), "{instances}");
}
