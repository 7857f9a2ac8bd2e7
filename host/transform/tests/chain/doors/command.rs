//! WASI preview 1 programs, one of which does to each line what its first byte asks for.

use std::time::{Duration, Instant};

use wasmill_transform::{ChainOptions, Limits, TransformSpec};

use super::{door, module};
use crate::support::{Bench, text_of};

/// Reads all of standard input to 65536, then goes through the lines: `d` writes an empty line, `t` writes it twice, `s`
/// writes nothing, `x` traps, `l` loops, `e` complains and exits with 3, `w` complains only, `q` exits with 0 at once, `m` asks for memory
/// without end, `o` writes without end, `z` sleeps for an hour first, `p` writes with pointers outside its memory,
/// `v` with more buffers than there may be, `r` asks for a megabyte of randomness; other lines are written as they are.
const PICKY: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 8)
  (data (i32.const 1024) "no e, please\n")
  (func $put (param $fd i32) (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (if (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
  (func (export "_start")
    (local $at i32) (local $end i32) (local $stop i32) (local $first i32)
    (local.set $stop (i32.const 65536))
    (block $eof (loop $more
      (i32.store (i32.const 0) (local.get $stop))
      (i32.store (i32.const 4) (i32.const 1000))
      (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
      (br_if $eof (i32.eqz (i32.load (i32.const 8))))
      (local.set $stop (i32.add (local.get $stop) (i32.load (i32.const 8))))
      (br $more)))
    (local.set $at (i32.const 65536))
    (block $done (loop $line
      (br_if $done (i32.ge_u (local.get $at) (local.get $stop)))
      (local.set $end (local.get $at))
      (block $found (loop $scan
        (local.set $first (i32.load8_u (local.get $end)))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br_if $found (i32.eq (local.get $first) (i32.const 10)))
        (br $scan)))
      (local.set $first (i32.load8_u (local.get $at)))
      (if (i32.eq (local.get $first) (i32.const 120)) (then unreachable))
      (if (i32.eq (local.get $first) (i32.const 108)) (then (loop $ever (br $ever))))
      (if (i32.eq (local.get $first) (i32.const 101)) (then
        (call $put (i32.const 2) (i32.const 1024) (i32.const 13))
        (call $exit (i32.const 3))))
      (if (i32.eq (local.get $first) (i32.const 119)) (then
        (call $put (i32.const 2) (i32.const 1024) (i32.const 13))))
      (if (i32.eq (local.get $first) (i32.const 113)) (then (call $exit (i32.const 0))))
      (if (i32.eq (local.get $first) (i32.const 109)) (then
        (loop $grow (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        unreachable))
      (if (i32.eq (local.get $first) (i32.const 111)) (then
        (loop $bomb (call $put (i32.const 1) (i32.const 65536) (i32.const 65536)) (br $bomb))))
      (if (i32.eq (local.get $first) (i32.const 112)) (then
        (i32.store (i32.const 0) (i32.const -8))
        (i32.store (i32.const 4) (i32.const 100))
        (if (i32.ne (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 21)) (then unreachable))
        (if (i32.ne (call $write (i32.const 1) (i32.const -4) (i32.const 1) (i32.const 8)) (i32.const 21)) (then unreachable))
        (if (i32.ne (call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const -2)) (i32.const 21)) (then unreachable))
        (if (i32.ne (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const -2)) (i32.const 21)) (then unreachable))
        (if (i32.ne (call $poll (i32.const -8) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 21)) (then unreachable))))
      (if (i32.eq (local.get $first) (i32.const 118)) (then
        (if (i32.ne (call $write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8)) (i32.const 28)) (then unreachable))))
      (if (i32.eq (local.get $first) (i32.const 114)) (then
        (drop (call $random (i32.const 65536) (i32.const 1048576)))))
      (if (i32.eq (local.get $first) (i32.const 122)) (then
        (memory.fill (i32.const 2048) (i32.const 0) (i32.const 96))
        (i64.store (i32.const 2072) (i64.const 3600000000000))
        (if (call $poll (i32.const 2048) (i32.const 3000) (i32.const 1) (i32.const 8)) (then unreachable))
        (if (i32.ne (i32.load (i32.const 8)) (i32.const 1)) (then unreachable))))
      (if (i32.eq (local.get $first) (i32.const 100)) (then (local.set $at (i32.sub (local.get $end) (i32.const 1)))))
      (if (i32.ne (local.get $first) (i32.const 115)) (then
        (call $put (i32.const 1) (local.get $at) (i32.sub (local.get $end) (local.get $at)))))
      (if (i32.eq (local.get $first) (i32.const 116)) (then
        (call $put (i32.const 1) (local.get $at) (i32.sub (local.get $end) (local.get $at)))))
      (local.set $at (local.get $end))
      (br $line)))))"#;

fn bench(config: &str) -> Bench {
    Bench::try_new(vec![door(&module(PICKY), config)], ChainOptions::default()).unwrap()
}

/// Runs one bad record among good ones: only it fails. Returns its reason.
fn only_bad(record: &str) -> String {
    let mut bench = bench("{}");
    let (rows, report) = bench.run(&["a", record, "b", "c"]);
    assert_eq!(rows, ["100:a", "102:b", "103:c"], "{record}");
    assert_eq!((report.passed, report.failures.len()), (3, 1), "{record}");
    assert_eq!(report.failures[0].offset, 101);
    report.failures[0].reason.clone()
}

#[test]
fn command_line_for_line_passes_changes_and_drops() {
    let mut bench = bench("{}");
    let (rows, report) = bench.run(&["alpha", "drop me", "z after an hour", "gamma"]);
    assert_eq!(rows, ["100:alpha", "102:z after an hour", "103:gamma"]);
    assert_eq!((report.passed, report.dropped, report.failures.len()), (3, 1, 0));
    let (rows, _) = bench.run(&["p tries bad pointers", "v and too many", "beta"]);
    assert_eq!(rows, ["100:p tries bad pointers", "101:v and too many", "102:beta"]);
}

#[test]
fn command_that_writes_another_number_of_lines_costs_the_record_that_made_it() {
    assert_eq!(
        only_bad("twice"),
        "bad output: wrote 2 lines for 1 record; a command writes one line for each, an empty one to drop it"
    );
    assert!(only_bad("silent").contains("wrote 0 lines for 1 record"));
    // A program that ends early says nothing of what it has not read.
    assert!(only_bad("quits").contains("wrote 0 lines for 1 record"));
}

#[test]
fn command_that_exits_traps_or_goes_too_far_costs_the_record_that_made_it() {
    assert_eq!(only_bad("e"), "exit code 3: no e, please");
    assert!(only_bad("x").starts_with("trap: the plugin panicked or aborted"));
    assert!(only_bad("m").starts_with("memory limit of 33554432 bytes reached"));
    assert!(only_bad("o").contains("output too large: more than 16777216 bytes on standard output"));
    assert!(only_bad("r").contains("random_get: 1048576 bytes"));
    let started = Instant::now();
    assert!(only_bad("l").contains("deadline: used more than"));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn command_standard_error_goes_to_the_log() {
    let mut bench = bench("{}");
    bench.run(&["e"]);
    assert!(bench.log.text().contains("no e, please"), "{}", bench.log.text());
}

#[test]
fn command_record_with_a_newline_is_refused_and_the_others_go_on() {
    let mut bench = bench("{}");
    let (rows, report) = bench.run(&["alpha", "two\nlines", "gamma"]);
    assert_eq!(rows, ["100:alpha", "102:gamma"]);
    assert_eq!(
        report.failures[0].reason,
        "the record holds a newline, and a command reads one record a line"
    );
    assert_eq!(report.chunks_bisected, 0);
    let (rows, report) = bench.run(&["\n", "\n"]);
    assert_eq!((rows.len(), report.failures.len()), (0, 2));
}

#[test]
fn command_with_free_mapping_emits_fresh_rows() {
    let mut bench = bench(r#"{"mapping": "free"}"#);
    let (rows, report) = bench.run(&["alpha", "twice", "s", "d"]);
    assert_eq!(rows, ["-1:alpha", "-1:twice", "-1:twice"]);
    assert_eq!((report.passed, report.dropped, report.emitted), (0, 4, 3));
    let (rows, report) = bench.run(&["alpha", "x", "gamma"]);
    assert_eq!(rows, ["-1:alpha", "-1:gamma"]);
    assert_eq!((report.failures.len(), report.failures[0].offset), (1, 101));
}

#[test]
fn command_gets_its_config_and_arguments_and_nothing_else() {
    // Writes arguments and environment as one line each.
    let wasm = module(
        r#"(module
          (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 64) "\n")
          (func $put (param $at i32) (param $len i32)
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (local.get $len))
            (i32.store (i32.const 8) (i32.const 64))
            (i32.store (i32.const 12) (i32.const 1))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 16))))
          (func (export "_start")
            (if (i32.ne (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 20)) (i32.const 8)) (then unreachable))
            (if (i32.ne (call $prestat (i32.const 3) (i32.const 20)) (i32.const 8)) (then unreachable))
            (drop (call $args_sizes (i32.const 32) (i32.const 36)))
            (drop (call $args (i32.const 1024) (i32.const 2048)))
            (call $put (i32.const 2048) (i32.load (i32.const 36)))
            (drop (call $environ_sizes (i32.const 32) (i32.const 36)))
            (drop (call $environ (i32.const 1024) (i32.const 2048)))
            (call $put (i32.const 2048) (i32.load (i32.const 36)))))"#,
    );
    let config = r#"{"args": ["-v", "x y"], "mapping": "free", "unit": "K"}"#;
    let mut bench = Bench::try_new(vec![door(&wasm, config)], ChainOptions::default()).unwrap();
    let (rows, _) = bench.run(&["a"]);
    assert_eq!(rows, ["-1:plugin\0-v\0x y\0".to_owned(), format!("-1:WASMILL_CONFIG={config}\0")]);
}

#[test]
fn command_clock_and_randomness_come_from_the_call() {
    // Writes eight random bytes and the time as one line of hexadecimal digits would, but raw.
    let wasm = module(
        r#"(module
          (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "_start") (local $i i32)
            (drop (call $random (i32.const 64) (i32.const 8)))
            (drop (call $time (i32.const 0) (i64.const 0) (i32.const 72)))
            ;; No newlines: one byte becomes two letters.
            (loop $next
              (i32.store8 (i32.add (i32.const 128) (i32.mul (local.get $i) (i32.const 2)))
                (i32.add (i32.const 97) (i32.shr_u (i32.load8_u (i32.add (i32.const 64) (local.get $i))) (i32.const 4))))
              (i32.store8 (i32.add (i32.const 129) (i32.mul (local.get $i) (i32.const 2)))
                (i32.add (i32.const 97) (i32.and (i32.load8_u (i32.add (i32.const 64) (local.get $i))) (i32.const 15))))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $next (i32.lt_u (local.get $i) (i32.const 16))))
            (i32.store (i32.const 0) (i32.const 128))
            (i32.store (i32.const 4) (i32.const 32))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#,
    );
    let run = || {
        let spec = door(&wasm, r#"{"mapping": "free"}"#);
        Bench::try_new(vec![spec], ChainOptions::default()).unwrap().run(&["a"]).0
    };
    let first = run();
    assert_eq!(first, run());
    let time: String = first[0].chars().skip("-1:".len() + 16).collect();
    let nibbles: Vec<u64> = time.bytes().map(|byte| u64::from(byte - b'a')).collect();
    let now = nibbles.chunks(2).rev().fold(0, |now, pair| now << 8 | pair[0] << 4 | pair[1]);
    assert_eq!(now, 1_700_000_000_000_000_000);
}

#[test]
fn command_log_lines_are_limited_over_all_runs_and_not_for_each() {
    let limits = Limits { log_bytes: 1 << 20, ..Limits::default() };
    let spec = TransformSpec { limits, ..door(&module(PICKY), "{}") };
    let mut bench = Bench::try_new(vec![spec], ChainOptions::default()).unwrap();
    for _ in 0..1000 {
        assert_eq!(bench.run(&["w"]).0, ["100:w"]);
    }
    let lines = bench.log.lines.lock().unwrap().len();
    assert!((1..1000).contains(&lines), "{lines}");
}

#[test]
fn command_that_fails_on_nothing_or_with_a_bad_config_is_refused_before_it_is_used() {
    let refused = |wasm: &[u8], config: &str| {
        let built = Bench::try_new(vec![door(wasm, config)], ChainOptions::default());
        text_of(&built.err().expect("a refused chain"))
    };
    let trap = module(r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#);
    assert!(refused(&trap, "{}").contains("panicked or aborted"));
    let picky = module(PICKY);
    let text = refused(&picky, r#"{"mapping": "loose"}"#);
    assert!(text.contains("one-to-one") && text.contains("free"), "{text}");
    assert!(refused(&picky, r#"{"args": ["a\u0000b"]}"#).contains("zero byte"));
    let long = format!(r#"{{"args": ["{}"]}}"#, "a".repeat(2 << 20));
    assert!(refused(&picky, &long).contains("a command takes 1048576"));
}
