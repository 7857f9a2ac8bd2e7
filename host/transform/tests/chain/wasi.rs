//! WASI guests: a log, a clock and a generator, and nothing else.

use std::time::Instant;

use crate::support::{Bench, Guest};

const POLL: &str = "package wasi:io@0.2.12;
interface poll {
  resource pollable { ready: func() -> bool; block: func(); }
  poll: func(in: list<borrow<pollable>>) -> list<u32>;
}";
const CLOCKS: &str = "package wasi:clocks@0.2.12;
interface monotonic-clock {
  use wasi:io/poll@0.2.12.{pollable};
  now: func() -> u64;
  subscribe-instant: func(when: u64) -> pollable;
  subscribe-duration: func(when: u64) -> pollable;
}
interface wall-clock {
  record datetime { seconds: u64, nanoseconds: u32 }
  now: func() -> datetime;
}";
const RANDOM: &str = "package wasi:random@0.2.12;
interface random { get-random-bytes: func(len: u64) -> list<u8>; get-random-u64: func() -> u64; }";

fn sleeper(wait: &'static str) -> Guest {
    Guest {
        packages: vec![POLL, CLOCKS],
        world_imports: vec!["wasi:io/poll@0.2.12", "wasi:clocks/monotonic-clock@0.2.12"],
        imports: r#"
          (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $after (param i64) (result i32)))
          (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-instant" (func $at (param i64) (result i32)))
          (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
          (import "wasi:io/poll@0.2.12" "poll" (func $poll (param i32 i32 i32)))"#,
        process: wait,
        ..Guest::default()
    }
}

#[test]
fn guest_that_sleeps_is_stopped_at_once() {
    for wait in [
        "(if (call $len (local.get $rows)) (then (call $block (call $after (i64.const 3600000000000)))))",
        "(if (call $len (local.get $rows)) (then
           (i32.store (i32.const 1024) (call $after (i64.const 3600000000000)))
           (call $poll (i32.const 1024) (i32.const 1) (i32.const 32))))",
    ] {
        let mut bench = Bench::new(&[&sleeper(wait)]);
        let started = Instant::now();
        let (rows, report) = bench.run(&["a"]);
        assert!(rows.is_empty());
        assert!(report.failures[0].reason.contains("may not wait or sleep"), "{}", report.failures[0].reason);
        assert!(started.elapsed().as_secs() < 5);
    }
}

#[test]
fn guest_that_waits_for_what_is_ready_goes_on() {
    let guest = sleeper("(call $block (call $at (i64.const 0)))");
    let mut bench = Bench::new(&[&guest]);
    assert_eq!(bench.run(&["a"]).0, ["100:a"]);
}

#[test]
fn clock_and_randomness_depend_on_the_records_alone() {
    // Logs seconds of the wall clock as a letter sum, and 8 random bytes as letters.
    let guest = Guest {
        packages: vec![POLL, CLOCKS, RANDOM],
        world_imports: vec!["wasi:clocks/wall-clock@0.2.12", "wasi:random/random@0.2.12"],
        imports: r#"
          (import "wasi:clocks/wall-clock@0.2.12" "now" (func $now (param i32)))
          (import "wasi:random/random@0.2.12" "get-random-u64" (func $random (result i64)))
          (import "wasi:random/random@0.2.12" "get-random-bytes" (func $random-bytes (param i64 i32)))"#,
        items: r#"(func $letters (param $at i32) (param $value i64)
                    (i64.store (local.get $at) (i64.or (i64.const 0x4040404040404040)
                      (i64.and (local.get $value) (i64.const 0x0f0f0f0f0f0f0f0f)))))"#,
        process: "(if (call $len (local.get $rows)) (then
                    (call $now (i32.const 48))
                    (if (i64.ne (i64.load (i32.const 48)) (i64.const 1700000000)) (then unreachable))
                    (call $letters (i32.const 1024) (call $random))
                    (call $random-bytes (i64.const 8) (i32.const 64))
                    (call $letters (i32.const 1032) (i64.load (i32.load (i32.const 64))))
                    (call $log (i32.const 1) (i32.const 1024) (i32.const 16))))",
        ..Guest::default()
    };
    let lines = |runs| {
        let mut bench = Bench::new(&[&guest]);
        for _ in 0..runs {
            let (rows, report) = bench.run(&["a"]);
            assert_eq!(rows.len(), 1, "{:?}", report.failures);
        }
        bench.log.text().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let twice = lines(2);
    assert_eq!(twice.len(), 2);
    assert_eq!(twice[0], twice[1]);
    assert_eq!(twice[0].len(), 16);
    assert_ne!(twice[0][..8], twice[0][8..]);
    assert_eq!(lines(1), twice[..1]);
}

#[test]
fn random_request_over_the_limit_traps() {
    let guest = Guest {
        packages: vec![RANDOM],
        world_imports: vec!["wasi:random/random@0.2.12"],
        imports: r#"(import "wasi:random/random@0.2.12" "get-random-bytes" (func $random-bytes (param i64 i32)))"#,
        process: "(if (call $len (local.get $rows)) (then (call $random-bytes (i64.const 1000000000) (i32.const 64))))",
        ..Guest::default()
    };
    let (_, report) = Bench::new(&[&guest]).run(&["a"]);
    assert!(report.failures[0].reason.contains("random bytes"), "{}", report.failures[0].reason);
}

#[test]
fn guest_sees_no_directories_no_environment_and_no_arguments() {
    let guest = Guest {
        packages: vec![
            "package wasi:filesystem@0.2.12;
             interface types { resource descriptor; }
             interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }",
            "package wasi:cli@0.2.12;
             interface environment {
               get-environment: func() -> list<tuple<string, string>>;
               get-arguments: func() -> list<string>;
             }",
        ],
        world_imports: vec!["wasi:filesystem/preopens@0.2.12", "wasi:cli/environment@0.2.12"],
        imports: r#"
          (import "wasi:filesystem/preopens@0.2.12" "get-directories" (func $directories (param i32)))
          (import "wasi:cli/environment@0.2.12" "get-environment" (func $environment (param i32)))
          (import "wasi:cli/environment@0.2.12" "get-arguments" (func $arguments (param i32)))"#,
        process: "(call $directories (i32.const 48)) (if (i32.load (i32.const 52)) (then unreachable))
                  (call $environment (i32.const 48)) (if (i32.load (i32.const 52)) (then unreachable))
                  (call $arguments (i32.const 48)) (if (i32.load (i32.const 52)) (then unreachable))",
        ..Guest::default()
    };
    let (rows, report) = Bench::new(&[&guest]).run(&["a"]);
    assert_eq!(rows, ["100:a"], "{:?}", report.faults);
}

#[test]
fn guest_that_opens_a_socket_is_denied() {
    // error-code 1 is access-denied.
    let guest = Guest {
        packages: vec![
            "package wasi:sockets@0.2.12;
             interface network {
               enum error-code { unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
                 concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit,
                 address-not-bindable, address-in-use, remote-unreachable, connection-refused, connection-reset,
                 connection-aborted, datagram-too-large, name-unresolvable, temporary-resolver-failure,
                 permanent-resolver-failure }
               enum ip-address-family { ipv4, ipv6 }
             }
             interface tcp { resource tcp-socket; }
             interface tcp-create-socket {
               use network.{error-code, ip-address-family};
               use tcp.{tcp-socket};
               create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
             }",
        ],
        world_imports: vec!["wasi:sockets/tcp-create-socket@0.2.12"],
        imports: r#"(import "wasi:sockets/tcp-create-socket@0.2.12" "create-tcp-socket" (func $socket (param i32 i32)))"#,
        process: "(call $socket (i32.const 0) (i32.const 48))
                  (if (i32.eqz (i32.load8_u (i32.const 48))) (then unreachable))
                  (if (i32.ne (i32.load8_u (i32.const 52)) (i32.const 1)) (then unreachable))",
        ..Guest::default()
    };
    let (rows, report) = Bench::new(&[&guest]).run(&["a"]);
    assert_eq!(rows, ["100:a"], "{:?}", report.faults);
}

#[test]
fn guest_that_imports_preview_1_is_adapted_and_its_stderr_is_kept() {
    // fd_write(2, iovec at 1024, 1, result at 1100): what a C program's printf does.
    let guest = Guest {
        imports: r#"(import "wasi_snapshot_preview1" "fd_write" (func $fd-write (param i32 i32 i32 i32) (result i32)))"#,
        items: r#"(data (i32.const 1024) "\10\04\00\00\12\00\00\00") (data (i32.const 1040) "something is wrong")"#,
        process: "(if (call $len (local.get $rows)) (then
                    (drop (call $fd-write (i32.const 2) (i32.const 1024) (i32.const 1) (i32.const 1100)))
                    unreachable))",
        ..Guest::default()
    };
    let mut bench = Bench::new(&[&guest]);
    let (_, report) = bench.run(&["a"]);
    assert!(report.failures[0].reason.contains("something is wrong"), "{}", report.failures[0].reason);
    assert!(bench.log.text().contains("something is wrong"));
    assert!(report.faults[0].1.detail().contains("something is wrong"), "{:?}", report.faults);
}
