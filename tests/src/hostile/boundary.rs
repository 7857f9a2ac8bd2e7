//! Lies at the boundary: lengths, offsets, text, numbers and handles that are not what they claim to be.

use super::core::{Core, error, with_rows};
use super::{Answer, Case};

/// One state, one end and four bytes of data, at 1024, 1032 and 1040; a path with the key `a` at 1056, bytes that are no
/// UTF-8 at 1072, an infinite and a not-a-number at 1080.
const TEXTS: &str = r#"
  (data (i32.const 1024) "\03\03\00\00") (data (i32.const 1032) "\04\00\00\00") (data (i32.const 1040) "true")
  (data (i32.const 1056) "\28\04\00\00\01\00\00\00a") (data (i32.const 1064) "a")
  (data (i32.const 1072) "\ff\fe\80a") (data (i32.const 1080) "\00\00\00\00\00\00\f0\7f\00\00\00\00\00\00\f8\7f")"#;
const FIELD: &str = "(drop (call $field (i32.const 1056) (i32.const 1)))";

/// Does this with chunks that have rows, with a field `a` in slot 0.
fn lie(body: &str) -> Core {
    Core { configure: FIELD.to_owned(), ..Core::rows_with(TEXTS, body) }
}

/// Hands over payloads: states, data and ends, each with its address and length.
fn payloads(states: [i64; 2], data: [i64; 2], ends: [i64; 2]) -> Core {
    let numbers: Vec<String> =
        [states, data, ends].iter().flatten().map(|number| format!("(i32.const {number})")).collect();
    lie(&format!("(call $set-payloads (local.get $rows) {})", numbers.join(" ")))
}

/// A call of a function that takes cells, with those of [`TEXTS`].
fn cells(call: &str) -> String {
    format!(
        "({call} (i32.const 1024) (i32.const 1) (i32.const 1040) (i32.const 4) (i32.const 1032) (i32.const 1))"
    )
}

/// Cells whose value is these many bytes of one kind.
fn huge(call: &str, bytes: u32, byte: u8) -> String {
    format!(
        "(local.set $j (call $alloc (i32.const {bytes})))
         (memory.fill (local.get $j) (i32.const {byte}) (i32.const {bytes}))
         (i32.store (i32.const 1032) (i32.const {bytes}))
         ({call} (i32.const 1024) (i32.const 1) (local.get $j) (i32.const {bytes}) (i32.const 1032) (i32.const 1))"
    )
}

fn wasi(package: &str, import: &str, function: &str, body: &str) -> Core {
    Core {
        packages: vec![package.to_owned()],
        world: format!("import {import};"),
        imports: function.to_owned(),
        ..Core::rows(body)
    }
}

fn columns() -> Vec<(&'static str, Answer, Core)> {
    use Answer::Letter;
    let deep = 40_000;
    let nested = format!(
        "(local.set $j (call $alloc (i32.const {0})))
         (memory.fill (local.get $j) (i32.const 91) (i32.const {deep}))
         (memory.fill (i32.add (local.get $j) (i32.const {deep})) (i32.const 93) (i32.const {deep}))
         (i32.store (i32.const 1032) (i32.const {0}))
         (call $set-raw (local.get $rows) (i32.const 0) (i32.const 1024) (i32.const 1) (local.get $j) (i32.const {0}) (i32.const 1032) (i32.const 1))",
        2 * deep
    );
    vec![
        (
            "ends-descend",
            Letter("chunk.set-payloads"),
            lie("(i64.store (i32.const 1100) (i64.const 0))
                 (local.set $n (call $derive (local.get $rows) (i32.const 1100) (i32.const 2)))
                 (i64.store (i32.const 1100) (i64.const 0x200000004))
                 (call $set-payloads (local.get $n) (i32.const 1024) (i32.const 2)
                   (i32.const 1040) (i32.const 4) (i32.const 1100) (i32.const 2))"),
        ),
        ("ends-past-the-data", Letter("chunk.set-payloads"), payloads([1024, 1], [1040, 2], [1032, 1])),
        ("ends-short-of-the-data", Letter("chunk.set-payloads"), payloads([1024, 1], [1040, 40], [1032, 1])),
        ("ends-outside-memory", Letter("out of bounds"), payloads([1024, 1], [1040, 4], [-16, 8])),
        ("ends-whose-size-overflows", Letter("trap"), payloads([1024, 1], [1040, 4], [1032, 0x4000_0001])),
        ("ends-unaligned", Letter("align"), payloads([1024, 1], [1040, 4], [1033, 1])),
        ("data-outside-memory", Letter("out of bounds"), payloads([1024, 1], [1040, 0x7fff_ffff], [1032, 1])),
        (
            "data-longer-than-all-addresses",
            Letter("out of bounds"),
            payloads([1024, 1], [1040, -1], [1032, 1]),
        ),
        ("states-too-few", Letter("chunk.set-payloads"), payloads([1024, 0], [1040, 4], [1032, 1])),
        ("states-too-many", Letter("chunk.set-payloads"), payloads([1024, 2], [1040, 4], [1032, 1])),
        ("states-unknown", Letter("state"), payloads([1032, 1], [1040, 4], [1032, 1])),
        (
            "payload-over-the-limit",
            Letter("output too large"),
            lie(&huge("call $set-payloads (local.get $rows)", 2 << 20, b'x')),
        ),
        (
            "json-that-is-none",
            Letter("JSON"),
            lie(&huge("call $set-raw (local.get $rows) (i32.const 0)", 9, b'{')),
        ),
        ("json-nested-without-end", Letter("JSON"), lie(&nested)),
        (
            "floats-infinite",
            Letter("number"),
            lie(
                "(call $set-floats (local.get $rows) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1080) (i32.const 1))",
            ),
        ),
        (
            "floats-not-a-number",
            Letter("number"),
            lie(
                "(call $set-floats (local.get $rows) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1088) (i32.const 1))",
            ),
        ),
        (
            "floats-by-the-gigabyte",
            Letter("out of bounds"),
            lie(
                "(call $set-floats (local.get $rows) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1080) (i32.const 0x0fffffff))",
            ),
        ),
    ]
}

fn texts() -> Vec<(&'static str, Answer, Core)> {
    use Answer::{Harmless, Letter, Unfit};
    let bad_name =
        |call: &str| lie(&cells(&format!("call {call} (local.get $rows) (i32.const 1072) (i32.const 4)")));
    vec![
        (
            "text-no-utf8-in-a-field",
            Letter("UTF-8"),
            lie(
                "(call $set-text (local.get $rows) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1072) (i32.const 4) (i32.const 1032) (i32.const 1))",
            ),
        ),
        ("text-no-utf8-in-an-attribute", Letter("utf-8"), bad_name("$set-attributes")),
        ("text-no-utf8-in-a-partition", Letter("utf-8"), bad_name("$partition")),
        (
            "text-no-utf8-asked-for",
            Letter("utf-8"),
            lie("(call $attributes (local.get $rows) (i32.const 1072) (i32.const 4) (i32.const 32))"),
        ),
        (
            "text-no-utf8-in-the-log",
            Letter("utf-8"),
            lie("(call $log (i32.const 1) (i32.const 1072) (i32.const 4))"),
        ),
        (
            "text-no-utf8-in-an-error",
            Letter("utf-8"),
            lie(&format!("(call $drop (local.get $rows)) {}", error(1072, 4))),
        ),
        ("text-no-utf8-in-a-refusal", Unfit("utf-8"), Core::configure(TEXTS, &error(1072, 4))),
        ("text-no-utf8-in-a-path", Unfit("utf-8"), {
            Core::configure(
                TEXTS,
                "(i32.store (i32.const 1056) (i32.const 1072)) (drop (call $field (i32.const 1056) (i32.const 1)))",
            )
        }),
        (
            "text-no-utf8-in-a-secret",
            Unfit("utf-8"),
            Core::configure(TEXTS, "(call $secret (i32.const 1072) (i32.const 4) (i32.const 48))"),
        ),
        ("text-no-utf8-in-a-file", Unfit("utf-8"), {
            Core::configure(
                TEXTS,
                "(call $file (i32.const 1072) (i32.const 4) (i64.const 0) (i32.const 9) (i32.const 48))",
            )
        }),
        ("text-no-utf8-in-a-reason", Letter(""), {
            lie(
                "(call $fail (local.get $rows) (i32.const 1100) (i32.const 1) (i32.const 1072) (i32.const 4) (i32.const 1032) (i32.const 1))",
            )
        }),
        (
            "error-outside-memory",
            Letter("out of bounds"),
            lie(&format!("(call $drop (local.get $rows)) {}", error(-16, 100))),
        ),
        ("error-of-megabytes", Letter("xxxxxxxx"), {
            lie(
                "(local.set $j (call $alloc (i32.const 4194304)))
                 (memory.fill (local.get $j) (i32.const 120) (i32.const 4194304))
                 (call $drop (local.get $rows))
                 (i32.store (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (local.get $j))
                 (i32.store (i32.const 24) (i32.const 500000)) (return (i32.const 16))"
            )
        }),
        (
            "answer-of-no-kind",
            Letter("trap"),
            lie(
                "(call $drop (local.get $rows)) (i32.store (i32.const 16) (i32.const 7)) (return (i32.const 16))",
            ),
        ),
        (
            "answer-outside-memory",
            Letter("out of bounds"),
            lie("(call $drop (local.get $rows)) (return (i32.const -16))"),
        ),
        ("answer-unaligned", Letter("align"), lie("(call $drop (local.get $rows)) (return (i32.const 17))")),
        ("log-of-many-lines", Harmless, {
            lie("(loop $more
                   (call $log (i32.const 2) (i32.const 1040) (i32.const 4))
                   (local.set $i (i32.add (local.get $i) (i32.const 1)))
                   (br_if $more (i32.lt_u (local.get $i) (i32.const 5000))))")
        }),
        ("log-of-a-huge-line", Harmless, {
            lie("(local.set $j (call $alloc (i32.const 500000)))
                 (memory.fill (local.get $j) (i32.const 120) (i32.const 500000))
                 (call $log (i32.const 3) (local.get $j) (i32.const 500000))")
        }),
        ("log-of-no-level", Letter("trap"), lie("(call $log (i32.const 77) (i32.const 1040) (i32.const 4))")),
        ("partition-that-climbs-out", Harmless, {
            Core {
                items: format!("{TEXTS} (data (i32.const 1200) \"../../../../../../../../tmp/escaped\") (data (i32.const 1240) \"\\22\\00\\00\\00\")"),
                ..lie("(call $partition (local.get $rows) (i32.const 1200) (i32.const 34) (i32.const 1024) (i32.const 1)
                         (i32.const 1200) (i32.const 34) (i32.const 1240) (i32.const 1))")
            }
        }),
        (
            "partition-of-a-huge-value",
            Harmless,
            lie(&huge("call $partition (local.get $rows) (i32.const 1064) (i32.const 1)", 300_000, b'x')),
        ),
        (
            "attribute-of-a-huge-value",
            Harmless,
            lie(&huge(
                "call $set-attributes (local.get $rows) (i32.const 1064) (i32.const 1)",
                300_000,
                b'x',
            )),
        ),
        (
            "attributes-without-end",
            Letter("chunk.set-attributes"),
            lie(&format!(
                "(loop $more
                   (i32.store (i32.const 1100) (i32.add (i32.const 0x41414141)
                     (i32.or (i32.and (local.get $i) (i32.const 15))
                       (i32.shl (i32.and (i32.shr_u (local.get $i) (i32.const 4)) (i32.const 15)) (i32.const 8)))))
                   (local.set $i (i32.add (local.get $i) (i32.const 1)))
                   {} (br $more))",
                huge("call $set-attributes (local.get $rows) (i32.const 1100) (i32.const 4)", 8192, b'x')
            )),
        ),
    ]
}

fn numbers_and_handles() -> Vec<(&'static str, Answer, Core)> {
    use Answer::{Harmless, Letter, Unfit};
    let ones = "(i32.store (i32.const 1100) (i32.const 99999))";
    vec![
        (
            "slot-unknown",
            Letter("slot"),
            lie("(call $get-text (local.get $rows) (i32.const 4000000000) (i32.const 32))"),
        ),
        (
            "slot-unknown-written",
            Letter("slot"),
            lie(&cells("call $set-raw (local.get $rows) (i32.const 1)")),
        ),
        ("row-unknown-failed", Letter("chunk.fail"), {
            lie(&format!(
                "{ones} (call $fail (local.get $rows) (i32.const 1100) (i32.const 1) (i32.const 1040) (i32.const 4) (i32.const 1032) (i32.const 1))"
            ))
        }),
        (
            "row-unknown-derived",
            Letter("chunk.derive"),
            lie(&format!("{ones} (drop (call $derive (local.get $rows) (i32.const 1100) (i32.const 1)))")),
        ),
        (
            "row-marks-too-many",
            Letter("chunk.keep"),
            lie("(call $keep (local.get $rows) (i32.const 1024) (i32.const 60000))"),
        ),
        (
            "output-unknown",
            Letter("chunk.route"),
            lie(&format!("{ones} (call $route (local.get $rows) (i32.const 1100) (i32.const 1))")),
        ),
        ("rows-by-the-billion", Letter("output too large"), lie("(drop (call $fresh (i32.const -1)))")),
        (
            "rows-without-end",
            Letter("output too large"),
            lie("(loop $more (call $emit (call $fresh (i32.const 4096))) (br $more))"),
        ),
        ("rows-derived-without-end", Letter("output too large"), {
            lie("(local.set $j (call $alloc (i32.const 1048576)))
                 (memory.fill (local.get $j) (i32.const 0) (i32.const 1048576))
                 (loop $more (drop (call $derive (local.get $rows) (local.get $j) (i32.const 262144))) (br $more))")
        }),
        (
            "handles-without-end",
            Letter(""),
            lie("(loop $more (drop (call $fresh (i32.const 1))) (br $more))"),
        ),
        ("handles-by-the-thousand", Harmless, {
            lie("(loop $more (drop (call $fresh (i32.const 1)))
                   (local.set $i (i32.add (local.get $i) (i32.const 1)))
                   (br_if $more (i32.lt_u (local.get $i) (i32.const 2000))))")
        }),
        ("handle-forged", Letter("handle"), lie("(drop (call $count (i32.const 12345)))")),
        (
            "handle-dropped-twice",
            Letter("handle"),
            lie("(call $drop (local.get $rows)) (call $drop (local.get $rows))"),
        ),
        ("handle-used-after-it-was-given-away", Letter("handle"), {
            lie(
                "(local.set $n (call $fresh (i32.const 1))) (call $emit (local.get $n)) (drop (call $count (local.get $n)))",
            )
        }),
        ("handle-borrowed-given-away", Letter("trap"), lie("(call $emit (local.get $rows))")),
        (
            "handle-borrowed-kept",
            Letter("borrow"),
            lie("(i32.store (i32.const 16) (i32.const 0)) (return (i32.const 16))"),
        ),
        ("handle-of-a-call-before", Letter("handle"), {
            Core {
                items: "(global $kept (mut i32) (i32.const 0))".to_owned(),
                process: format!(
                    "{} (global.set $kept (local.get $rows)) (call $drop (local.get $rows))
                     (i32.store (i32.const 16) (i32.const 0)) (return (i32.const 16))",
                    with_rows("(call $drop (local.get $rows)) (drop (call $count (global.get $kept)))")
                ),
                ..Core::default()
            }
        }),
        ("setup-late", Letter("inside configure only"), lie(FIELD)),
        (
            "fields-too-many",
            Unfit("more than 4096 fields"),
            Core::configure(TEXTS, &format!("(loop $more {FIELD} (br $more))")),
        ),
        (
            "field-too-deep",
            Unfit("keys"),
            Core::configure(TEXTS, "(drop (call $field (i32.const 2048) (i32.const 5000)))"),
        ),
        (
            "field-of-no-key",
            Unfit("keys"),
            Core::configure(TEXTS, "(drop (call $field (i32.const 2048) (i32.const 0)))"),
        ),
        ("asks-for-what-others-have", Harmless, {
            Core::configure(
                TEXTS,
                "(loop $more
                   (call $secret (i32.const 1040) (i32.const 4) (i32.const 48))
                   (if (i32.eqz (i32.load8_u (i32.const 48))) (then unreachable))
                   (call $file (i32.const 1040) (i32.const 4) (i64.const -1) (i32.const -1) (i32.const 48))
                   (if (i32.eqz (i32.load8_u (i32.const 48))) (then unreachable))
                   (local.set $i (i32.add (local.get $i) (i32.const 1)))
                   (br_if $more (i32.lt_u (local.get $i) (i32.const 100))))",
            )
        }),
        ("exits", Letter("exit"), {
            wasi(
                "package wasi:cli@0.2.12; interface exit { exit: func(status: result); }",
                "wasi:cli/exit@0.2.12",
                r#"(import "wasi:cli/exit@0.2.12" "exit" (func $exit (param i32)))"#,
                "(call $exit (i32.const 1))",
            )
        }),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let all = [columns(), texts(), numbers_and_handles()].into_iter().flatten();
    all.map(|(name, answer, core)| Case::new(name, answer, core.wasm())).collect()
}
