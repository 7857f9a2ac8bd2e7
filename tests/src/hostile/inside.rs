//! Attacks from inside a call: time, stack, memory, tables, traps, and waiting.

use super::core::{Core, with_rows};
use super::{Answer, Case};

const LOOP: &str = "(loop $ever (br $ever))";
/// Of CPU time, or on a busy machine of time.
const CPU: &str = "deadline";

/// Exports a resource of its own whose destructor does this, and drops one with every chunk.
fn destructor(body: &str) -> Core {
    Core {
        world: "export things: interface { resource thing; }".to_owned(),
        packages: vec![],
        imports: r#"
          (import "[export]things" "[resource-new]thing" (func $new (param i32) (result i32)))
          (import "[export]things" "[resource-drop]thing" (func $drop-thing (param i32)))"#
            .to_owned(),
        items: format!("(func (export \"things#[dtor]thing\") (param i32) {body})"),
        ..Core::rows("(call $drop-thing (call $new (i32.const 7)))")
    }
}

/// WASI's clocks and poll.
fn sleeper(wait: &str) -> Core {
    let packages = [
        "package wasi:io@0.2.12;
         interface poll {
           resource pollable { ready: func() -> bool; block: func(); }
           poll: func(in: list<borrow<pollable>>) -> list<u32>;
         }",
        "package wasi:clocks@0.2.12;
         interface monotonic-clock {
           use wasi:io/poll@0.2.12.{pollable};
           subscribe-duration: func(when: u64) -> pollable;
         }",
    ];
    Core {
        packages: packages.map(str::to_owned).to_vec(),
        world: "import wasi:io/poll@0.2.12; import wasi:clocks/monotonic-clock@0.2.12;".to_owned(),
        imports: r#"
          (import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $after (param i64) (result i32)))
          (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
          (import "wasi:io/poll@0.2.12" "poll" (func $poll (param i32 i32 i32)))"#
            .to_owned(),
        ..Core::rows(wait)
    }
}

fn random() -> Core {
    Core {
        packages: vec![
            "package wasi:random@0.2.12; interface random { get-random-bytes: func(len: u64) -> list<u8>; }"
                .to_owned(),
        ],
        world: "import wasi:random/random@0.2.12;".to_owned(),
        imports: r#"(import "wasi:random/random@0.2.12" "get-random-bytes" (func $random (param i64 i32)))"#
            .to_owned(),
        ..Core::rows("(call $random (i64.const 1000000000) (i32.const 64))")
    }
}

/// A WASI preview 1 program.
fn program(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 8)
          (func (export "_start")
            (i32.store (i32.const 0) (i32.const 65536))
            (i32.store (i32.const 4) (i32.const 65536))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (if (i32.load (i32.const 8)) (then {body}))))"#
    );
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn cases() -> Vec<Case> {
    use Answer::{Harmless, Letter, Refused, Unfit};
    let case = |name: &str, answer, core: Core| Case::new(name, answer, core.wasm());
    let realloc_in_process = Core {
        items: "(global $evil (mut i32) (i32.const 0))".to_owned(),
        realloc: format!("(if (global.get $evil) (then {LOOP})) (call $alloc (local.get $size))"),
        ..Core::rows("(global.set $evil (i32.const 1)) (call $payloads (local.get $rows) (i32.const 32))")
    };
    let post_return_of_process = Core {
        items: format!(
            "(global $had (mut i32) (i32.const 0))
             (func (export \"cabi_post_wasmill:plugin/transform@0.1.3#process\") (param i32)
               (if (global.get $had) (then {LOOP})))"
        ),
        ..Core::rows("(global.set $had (i32.const 1))")
    };
    vec![
        case("loop-in-process", Letter(CPU), Core::rows(LOOP)),
        case("loop-in-every-process", Unfit(CPU), Core { process: LOOP.to_owned(), ..Core::default() }),
        case("loop-in-configure", Unfit(CPU), Core::configure("", LOOP)),
        case("loop-in-start", Unfit(CPU), Core::items(format!("(func $begin {LOOP}) (start $begin)"))),
        case("loop-in-realloc", Letter(CPU), realloc_in_process),
        case("loop-in-first-realloc", Unfit(CPU), Core { realloc: format!("{LOOP} unreachable"), ..Core::default() }),
        case(
            "loop-in-post-return-of-configure",
            Unfit(CPU),
            Core::items(format!(
                "(func (export \"cabi_post_wasmill:plugin/transform@0.1.3#configure\") (param i32) {LOOP})"
            )),
        ),
        case("loop-in-post-return-of-process", Letter(CPU), post_return_of_process),
        case("loop-in-destructor", Letter(CPU), destructor(LOOP)),
        case("trap-in-destructor", Letter("unreachable"), destructor("unreachable")),
        case("trap-in-process", Letter("unreachable"), Core::rows("unreachable")),
        case("trap-in-configure", Unfit("unreachable"), Core::configure("", "unreachable")),
        case("trap-in-start", Unfit("unreachable"), Core::items("(func $begin unreachable) (start $begin)")),
        case("trap-in-realloc", Unfit("unreachable"), Core { realloc: "unreachable".to_owned(), ..Core::default() }),
        case(
            "realloc-out-of-memory",
            Unfit("beyond end of memory"),
            Core { realloc: "(i32.const -16)".to_owned(), ..Core::default() },
        ),
        case("realloc-unaligned", Letter("align"), {
            let realloc = "(if (global.get $evil) (then (return (i32.const 131073)))) (call $alloc (local.get $size))";
            Core {
                items: "(global $evil (mut i32) (i32.const 0))".to_owned(),
                realloc: realloc.to_owned(),
                ..Core::rows("(global.set $evil (i32.const 1)) (call $payloads (local.get $rows) (i32.const 32))")
            }
        }),
        case(
            "recursion-without-end",
            Letter("call stack exhausted"),
            Core::rows_with(
                "(func $deep (param i32) (result i32)
                   (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))",
                "(drop (call $deep (i32.const 0)))",
            ),
        ),
        case(
            "recursion-with-huge-frames",
            Letter("call stack exhausted"),
            Core::rows_with(
                &format!(
                    "(func $deep (param i64) (result i64) {} {} (call $deep (local.get 0)) {})",
                    "(local i64)".repeat(2000),
                    (1..2000).map(|n| format!("(local.set {n} (i64.mul (local.get 0) (i64.const {n})))")).collect::<String>(),
                    (1..2000).map(|n| format!("(i64.add (local.get {n}))")).collect::<String>(),
                ),
                "(drop (call $deep (i64.const 3)))",
            ),
        ),
        case(
            "memory-at-once",
            Letter("memory limit of 8388608 bytes"),
            Core::rows("(if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then unreachable))"),
        ),
        case(
            "memory-page-by-page",
            Letter("memory limit of 8388608 bytes"),
            Core::rows("(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"),
        ),
        case(
            "memory-kept-from-call-to-call",
            Harmless,
            Core::rows("(if (i32.eq (memory.grow (i32.const 70)) (i32.const -1)) (then unreachable))"),
        ),
        case(
            "memory-in-several-memories",
            Letter("memory limit of 8388608 bytes"),
            Core::rows_with(
                "(memory $second 0) (memory $third 1)",
                "(loop $more
                   (drop (memory.grow $third (i32.const 1)))
                   (br_if $more (i32.ne (memory.grow $second (i32.const 16)) (i32.const -1))))
                 unreachable",
            ),
        ),
        case("memories-too-many", Refused("memories count"), Core::items("(memory 0)".repeat(8))),
        case(
            "memory-larger-than-the-limit-from-the-start",
            Unfit("memory"),
            Core { memory: "(memory (export \"memory\") 1000)".to_owned(), ..Core::default() },
        ),
        case(
            "table-grown-without-end",
            Harmless,
            Core::rows_with(
                "(table $t 0 funcref)",
                "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 5000)) (i32.const -1))))",
            ),
        ),
        case("table-huge-from-the-start", Refused("minimum element size"), Core::items("(table 9000000 funcref)")),
        case("tables-a-few", Harmless, Core::items("(table 1000 funcref)".repeat(6))),
        case("tables-too-many", Refused("tables count"), Core::items("(table 1 funcref)".repeat(90))),
        case(
            "sleep-in-block",
            Letter("may not wait or sleep"),
            sleeper("(call $block (call $after (i64.const 3600000000000)))"),
        ),
        case(
            "sleep-in-poll",
            Letter("may not wait or sleep"),
            sleeper(
                "(i32.store (i32.const 1024) (call $after (i64.const 3600000000000)))
                 (call $poll (i32.const 1024) (i32.const 1) (i32.const 32))",
            ),
        ),
        case(
            "timers-without-end",
            Letter("trap"),
            sleeper("(loop $more (drop (call $after (i64.const 3600000000000))) (br $more))"),
        ),
        case("randomness-by-the-gigabyte", Letter("random bytes"), random()),
        Case::new("program-sleeps", Letter("wrote 0 lines"), {
            program(
                "(memory.fill (i32.const 2048) (i32.const 0) (i32.const 96))
                 (i64.store (i32.const 2072) (i64.const 3600000000000))
                 (drop (call $poll (i32.const 2048) (i32.const 3000) (i32.const 1) (i32.const 8)))",
            )
        }),
        Case::new(
            "program-writes-without-end",
            Letter("output"),
            program("(i32.store (i32.const 4) (i32.const 65536)) (loop $more (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $more))"),
        ),
        Case::new(
            "program-floods-its-log",
            Harmless,
            program(
                "(i32.store (i32.const 16) (i32.const 65536)) (i32.store (i32.const 20) (i32.load (i32.const 8)))
                 (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 8)))
                 (i32.store (i32.const 4) (i32.const 65536))
                 (i32.store (i32.const 24) (i32.const 2000))
                 (loop $more
                   (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
                   (i32.store (i32.const 24) (i32.sub (i32.load (i32.const 24)) (i32.const 1)))
                   (br_if $more (i32.load (i32.const 24))))",
            ),
        ),
        case(
            "probe-passes-and-second-call-loops",
            Letter(CPU),
            Core {
                items: "(global $calls (mut i32) (i32.const 0))".to_owned(),
                process: format!(
                    "(if (global.get $calls) (then {LOOP})) (global.set $calls (i32.const 1)) {}",
                    with_rows(LOOP)
                ),
                ..Core::default()
            },
        ),
    ]
}
