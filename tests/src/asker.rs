//! A plugin that asks servers: every record is a URL as a JSON string, and becomes what was answered, or fails with why not.

use crate::guest::{Guest, each};

/// What a guest imports that sends requests.
pub(crate) const HTTP: (&str, &str) = (
    "import wasmill:plugin/http@0.1.3;",
    r#"(import "wasmill:plugin/http@0.1.3" "send" (func $send (param i32 i32 i32)))"#,
);

impl Guest {
    /// See the head of this file. All records of a chunk are asked for at once, by GET.
    pub fn asker() -> Guest {
        // A request: method, URL, headers, body, each with its length.
        let ask = "
            (local.set $m (i32.add (local.get $j) (i32.mul (local.get $i) (i32.const 32))))
            (i32.store (local.get $m) (i32.const 1024))
            (i32.store offset=4 (local.get $m) (i32.const 3))
            (i32.store offset=8 (local.get $m)
              (i32.add (i32.add (i32.load (i32.const 32)) (call $start (local.get $i))) (i32.const 1)))
            (i32.store offset=12 (local.get $m)
              (i32.sub (i32.sub (call $end (local.get $i)) (call $start (local.get $i))) (i32.const 2)))
            (i64.store offset=16 (local.get $m) (i64.const 0))
            (i64.store offset=24 (local.get $m) (i64.const 0))";
        // An answer: whether it is an error; its text, or status, headers and body.
        let take = "
            (local.set $m (i32.add (local.get $k) (i32.mul (local.get $i) (i32.const 24))))
            (if (i32.load8_u (local.get $m))
              (then
                (i32.store8 (i32.add (global.get $states) (local.get $i)) (i32.const 0))
                (i32.store (i32.add (global.get $rows) (i32.mul (global.get $failed) (i32.const 4))) (local.get $i))
                (memory.copy (i32.add (global.get $reasons) (global.get $reason))
                  (i32.load offset=4 (local.get $m)) (i32.load offset=8 (local.get $m)))
                (global.set $reason (i32.add (global.get $reason) (i32.load offset=8 (local.get $m))))
                (i32.store (i32.add (global.get $reason-ends) (i32.mul (global.get $failed) (i32.const 4)))
                  (global.get $reason))
                (global.set $failed (i32.add (global.get $failed) (i32.const 1))))
              (else
                (i32.store8 (i32.add (global.get $states) (local.get $i)) (i32.const 3))
                (memory.copy (i32.add (global.get $bodies) (global.get $body))
                  (i32.load offset=16 (local.get $m)) (i32.load offset=20 (local.get $m)))
                (global.set $body (i32.add (global.get $body) (i32.load offset=20 (local.get $m))))))
            (i32.store (i32.add (global.get $ends) (i32.mul (local.get $i) (i32.const 4))) (global.get $body))";
        let globals =
            ["states", "ends", "bodies", "body", "rows", "failed", "reasons", "reason", "reason-ends"];
        let globals = globals.map(|name| format!("(global ${name} (mut i32) (i32.const 0))"));
        let process = format!(
            "(if (local.get $n) (then
               (local.set $j (call $alloc (i32.mul (local.get $n) (i32.const 32))))
               {}
               (call $send (local.get $j) (local.get $n) (i32.const 48))
               (local.set $k (i32.load (i32.const 48)))
               (global.set $states (call $alloc (local.get $n)))
               (global.set $ends (call $alloc (i32.mul (local.get $n) (i32.const 4))))
               (global.set $rows (call $alloc (i32.mul (local.get $n) (i32.const 4))))
               (global.set $reason-ends (call $alloc (i32.mul (local.get $n) (i32.const 4))))
               (global.set $bodies (call $alloc (i32.const 1048576)))
               (global.set $reasons (call $alloc (i32.const 1048576)))
               (global.set $body (i32.const 0))
               (global.set $reason (i32.const 0))
               (global.set $failed (i32.const 0))
               {}
               (call $set-payloads (local.get $rows) (global.get $states) (local.get $n)
                 (global.get $bodies) (global.get $body) (global.get $ends) (local.get $n))
               (call $fail (local.get $rows) (global.get $rows) (global.get $failed)
                 (global.get $reasons) (global.get $reason) (global.get $reason-ends) (global.get $failed))))",
            each(ask),
            each(take),
        );
        Guest {
            imports: HTTP,
            items: format!("(data (i32.const 1024) \"GET\") {}", globals.join(" ")),
            process,
            ..Guest::default()
        }
    }
}
