//! Requests that no plugin should send, of plugins that nobody lets: counts, lengths and texts that are not what they claim,
//! and asking all the same. What a plugin that may ask tries beyond that is in `host/deliver/src/http/caller.rs`.

use super::core::{Core, with_rows};
use super::{Answer, Case};
use crate::asker::HTTP;

/// A request at 1024: no method, URL `http://a/` at 1088, no headers, no body.
const REQUEST: &str = r#"(data (i32.const 1088) "http://a/")
  (data (i32.const 1024) "\00\00\00\00\00\00\00\00\40\04\00\00\09\00\00\00")
  (data (i32.const 1104) "\ff\fe\80a")"#;
const ONE: &str = "(call $send (i32.const 1024) (i32.const 1) (i32.const 64))";

fn core(process: String) -> Core {
    let (world, imports) = HTTP;
    Core {
        world: world.to_owned(),
        imports: imports.to_owned(),
        items: REQUEST.to_owned(),
        process,
        ..Core::default()
    }
}

pub(super) fn cases() -> Vec<Case> {
    use Answer::{Harmless, Letter};
    let case = |name: &str, answer, body: &str| Case::new(name, answer, core(with_rows(body)).wasm());
    let refused = "(if (i32.eqz (i32.load8_u (i32.load (i32.const 64)))) (then unreachable))";
    let in_configure = Core { configure: format!("{ONE} {refused}"), ..core(String::new()) };
    vec![
        case(
            "asks-ten-thousand-times-at-once",
            Letter("at most 256"),
            "(local.set $j (call $alloc (i32.const 320000)))
             (memory.fill (local.get $j) (i32.const 0) (i32.const 320000))
             (call $send (local.get $j) (i32.const 10000) (i32.const 64))",
        ),
        case(
            "asks-with-a-body-of-a-gigabyte",
            Letter("out of bounds"),
            &format!("(i32.store (i32.const 1052) (i32.const 0x40000000)) {ONE}"),
        ),
        case(
            "asks-with-headers-past-the-memory",
            Letter("out of bounds"),
            &format!("(i32.store (i32.const 1044) (i32.const 0x0fffffff)) {ONE}"),
        ),
        case(
            "asks-for-what-is-no-text",
            Letter("utf-8"),
            &format!(
                "(i32.store (i32.const 1032) (i32.const 1104)) (i32.store (i32.const 1036) (i32.const 4)) {ONE}"
            ),
        ),
        case(
            "asks-whom-nobody-granted",
            Letter("not granted: a:"),
            &format!(
                "{ONE}
                 (local.set $j (i32.load (i32.const 64)))
                 (if (i32.eqz (i32.load8_u (local.get $j))) (then unreachable))
                 (call $drop (local.get $rows))
                 (i32.store (i32.const 16) (i32.const 1))
                 (i32.store (i32.const 20) (i32.load offset=4 (local.get $j)))
                 (i32.store (i32.const 24) (i32.load offset=8 (local.get $j)))
                 (return (i32.const 16))"
            ),
        ),
        case(
            "asks-without-end",
            Letter("deadline"),
            &format!("(loop $ever (global.set $top (i32.const 131072)) {ONE} (br $ever))"),
        ),
        Case::new("asks-in-configure", Harmless, in_configure.wasm()),
    ]
}
