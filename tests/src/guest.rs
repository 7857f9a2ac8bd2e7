//! Small plugins out of WebAssembly text: the ones that misbehave, and the ones whose effect is plain to see.
//!
//! They are core modules that carry component metadata, as ordinary toolchains make them. Each is parsed anew per call,
//! which takes a millisecond; compiling one takes a few.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use wit_component::StringEncoding;
use wit_parser::Resolve;

const WIT: &str = include_str!("../../wit/plugin.wit");

/// `$alloc` of a guest: from `$top` on, which is put back at each call.
pub(crate) const ALLOC: &str = "(func $alloc (param $size i32) (result i32)
                (local $at i32)
                (local.set $at (global.get $top))
                (global.set $top (i32.and (i32.add (i32.add (global.get $top) (local.get $size)) (i32.const 15)) (i32.const -16)))
                (block $fits (loop $grow
                  (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
                  (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
                  (br $grow)))
                (local.get $at))";

/// A core module with the metadata of a transformer that also has `world` (of these packages) in its world.
pub(crate) fn assemble(text: &str, packages: &[String], world: &str) -> Vec<u8> {
    let parsed = wat::parse_str(text);
    let mut module = parsed.map_err(|error| format!("{error}\n{text}")).expect("text of a guest");
    let mut resolve = Resolve::default();
    resolve.push_str("plugin.wit", WIT).expect("plugin.wit");
    for (index, package) in packages.iter().enumerate() {
        resolve.push_str(format!("package-{index}.wit"), package).expect("a package of the guest's");
    }
    let world =
        format!("package test:guest;\nworld guest {{ include wasmill:plugin/transformer@0.1.3; {world} }}");
    let package = resolve.push_str("guest.wit", &world).expect("the guest's world");
    let world = resolve.select_world(&[package], Some("guest")).expect("the guest's world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("component metadata");
    module
}

/// The parts of a core module that differ between plugins.
#[derive(Clone, Default)]
pub struct Guest {
    /// What it imports beside the ABI's first version: items of the world, and `(import ..)` lines.
    pub(crate) imports: (&'static str, &'static str),
    /// Globals, data, functions.
    pub(crate) items: String,
    /// Body of `configure`.
    pub(crate) configure: String,
    /// Body of `process`: `$rows` is the chunk, `$n` its length, its payloads lie at 32 (data), 40 (ends); `$i` and
    /// `$j` are free.
    pub(crate) process: String,
}

/// The body is run for every row, `$i`.
pub(crate) fn each(body: &str) -> String {
    format!(
        "(local.set $i (i32.const 0))
         (block $done (loop $next
           (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
           {body}
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br $next)))"
    )
}

/// Ends the call with an error text of `len` bytes at `at`.
fn error(at: i32, len: i32) -> String {
    format!(
        "(call $drop (local.get $rows))
         (i32.store (i32.const 16) (i32.const 1))
         (i32.store (i32.const 20) (i32.const {at}))
         (i32.store (i32.const 24) (i32.const {len}))
         (return (i32.const 16))"
    )
}

impl Guest {
    /// Does nothing: every record passes. Plugins with different `salt` have different digests.
    pub fn pass(salt: u32) -> Guest {
        Guest::default().salted(salt)
    }

    /// By the first byte of a record: `x` traps, `l` loops for ever, `m` takes memory until there is none, `z` gives an
    /// answer that points nowhere, `e` returns an error; `d` drops the record; everything else passes.
    pub fn picky() -> Guest {
        let when = |byte: char, body: &str| {
            let byte = u32::from(byte);
            format!("(if (i32.eq (call $first (local.get $i)) (i32.const {byte})) (then {body}))")
        };
        let body = [
            when('x', "unreachable"),
            when('l', "(loop $ever (br $ever))"),
            when('m', "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable"),
            when('z', &error(-16, 100)),
            when('e', &error(1024, 12)),
            "(i32.store8 (i32.add (local.get $j) (local.get $i)) (i32.ne (call $first (local.get $i)) (i32.const 100)))"
                .to_owned(),
        ];
        Guest {
            items: "(data (i32.const 1024) \"no e, please\")".to_owned(),
            process: format!(
                "(local.set $j (call $alloc (local.get $n)))
                 {}
                 (call $keep (local.get $rows) (local.get $j) (local.get $n))",
                each(&body.join("\n"))
            ),
            ..Guest::default()
        }
    }

    /// Writes `version` over the seventh byte of every record: `{"v":"-"` becomes `{"v":"7"`.
    pub fn stamp(version: char) -> Guest {
        let body = format!(
            "(i32.store8 (i32.add (i32.add (i32.load (i32.const 32)) (call $start (local.get $i))) (i32.const 6)) (i32.const {}))
             (i32.store8 (i32.add (local.get $j) (local.get $i)) (i32.const 3))",
            u32::from(version)
        );
        Guest {
            process: format!(
                "(local.set $j (call $alloc (local.get $n)))
                 {}
                 (call $set-payloads (local.get $rows) (local.get $j) (local.get $n)
                   (i32.load (i32.const 32)) (i32.load (i32.const 36)) (i32.load (i32.const 40)) (local.get $n))",
                each(&body)
            ),
            ..Guest::default()
        }
    }

    /// Every record fails with the reason `no`.
    pub fn reject_all() -> Guest {
        let body = "
            (i32.store (i32.add (local.get $j) (i32.mul (local.get $i) (i32.const 4))) (local.get $i))
            (i32.store (i32.add (local.get $k) (i32.mul (local.get $i) (i32.const 4)))
              (i32.mul (i32.add (local.get $i) (i32.const 1)) (i32.const 2)))
            (i32.store16 (i32.add (local.get $m) (i32.mul (local.get $i) (i32.const 2))) (i32.const 28526))";
        Guest {
            process: format!(
                "(local.set $j (call $alloc (i32.mul (local.get $n) (i32.const 4))))
                 (local.set $k (call $alloc (i32.mul (local.get $n) (i32.const 4))))
                 (local.set $m (call $alloc (i32.mul (local.get $n) (i32.const 2))))
                 {}
                 (call $fail (local.get $rows) (local.get $j) (local.get $n)
                   (local.get $m) (i32.mul (local.get $n) (i32.const 2)) (local.get $k) (local.get $n))",
                each(body)
            ),
            ..Guest::default()
        }
    }

    /// The whole record is its value of the partition key `k`.
    pub fn partition_by_payload() -> Guest {
        let body = "(i32.store8 (i32.add (local.get $j) (local.get $i)) (i32.const 3))";
        Guest {
            items: "(data (i32.const 1024) \"k\")".to_owned(),
            process: format!(
                "(local.set $j (call $alloc (local.get $n)))
                 {}
                 (call $partition (local.get $rows) (i32.const 1024) (i32.const 1) (local.get $j) (local.get $n)
                   (i32.load (i32.const 32)) (i32.load (i32.const 36)) (i32.load (i32.const 40)) (local.get $n))",
                each(body)
            ),
            ..Guest::default()
        }
    }

    /// Every record is replaced by three derived ones.
    pub fn triple() -> Guest {
        let store = |more: i32| {
            format!(
                "(i32.store (i32.add (local.get $j) (i32.add (i32.mul (local.get $i) (i32.const 12)) (i32.const {more}))) (local.get $i))"
            )
        };
        Guest {
            process: format!(
                "(local.set $j (call $alloc (i32.mul (local.get $n) (i32.const 12))))
                 {}
                 (call $emit (call $derive (local.get $rows) (local.get $j) (i32.mul (local.get $n) (i32.const 3))))",
                each(&[store(0), store(4), store(8)].join("\n"))
            ),
            ..Guest::default()
        }
    }

    /// Besides the records, one row of its own per chunk, whose payload is no JSON.
    pub fn row_of_its_own() -> Guest {
        Guest {
            items: r#"(data (i32.const 1024) "\03\00\00\00none\04\00\00\00")"#.to_owned(),
            process: "(if (local.get $n) (then
                   (local.set $i (call $fresh (i32.const 1)))
                   (call $set-payloads (local.get $i) (i32.const 1024) (i32.const 1)
                     (i32.const 1028) (i32.const 4) (i32.const 1032) (i32.const 1))
                   (call $emit (local.get $i))))"
                .to_owned(),
            ..Guest::default()
        }
    }

    /// Records that begin with `a` go to the output `a`, those with `b` to `b`, all others to the default.
    pub fn route_by_first_byte() -> Guest {
        let output = |at: i32, global: &str| {
            format!(
                "(call $output (i32.const {at}) (i32.const 1) (i32.const 48))
                 (if (i32.load8_u (i32.const 48)) (then unreachable))
                 (global.set {global} (i32.load (i32.const 52)))"
            )
        };
        let body = "
            (i32.store (i32.add (local.get $j) (i32.mul (local.get $i) (i32.const 4)))
              (if (result i32) (i32.eq (call $first (local.get $i)) (i32.const 97))
                (then (global.get $a))
                (else (if (result i32) (i32.eq (call $first (local.get $i)) (i32.const 98))
                  (then (global.get $b)) (else (i32.const 0))))))";
        Guest {
            items: "(data (i32.const 1024) \"ab\") (global $a (mut i32) (i32.const 0)) (global $b (mut i32) (i32.const 0))"
                .to_owned(),
            configure: format!("{}{}", output(1024, "$a"), output(1025, "$b")),
            process: format!(
                "(local.set $j (call $alloc (i32.mul (local.get $n) (i32.const 4))))
                 {}
                 (call $route (local.get $rows) (local.get $j) (local.get $n))",
                each(body)
            ),
            ..Guest::default()
        }
    }

    /// Every record says what becomes of it, in the byte at `at`: `d` drops it, `f` fails it with the reason `no`, `x`
    /// traps, `e` returns an error; everything else passes.
    pub fn obey(at: u32) -> Guest {
        Guest::obey_and_fail(at, "f")
    }

    /// As [`Guest::obey`], and fails `m` as well as `f`.
    pub fn obey_strictly(at: u32) -> Guest {
        Guest::obey_and_fail(at, "fm")
    }

    fn obey_and_fail(at: u32, failing: &str) -> Guest {
        let when = |byte: char, body: &str| {
            let byte = u32::from(byte);
            format!("(if (i32.eq (global.get $byte) (i32.const {byte})) (then {body}))")
        };
        let fail = "
            (i32.store (i32.add (local.get $k) (i32.mul (local.get $m) (i32.const 4))) (local.get $i))
            (i32.store16 (i32.add (global.get $texts) (i32.mul (local.get $m) (i32.const 2))) (i32.const 28526))
            (local.set $m (i32.add (local.get $m) (i32.const 1)))
            (i32.store (i32.add (global.get $ends) (i32.mul (i32.sub (local.get $m) (i32.const 1)) (i32.const 4)))
              (i32.mul (local.get $m) (i32.const 2)))";
        let body = [
            format!("(global.set $byte (call $at (local.get $i) (i32.const {at})))"),
            when('x', "unreachable"),
            when('e', &error(1024, 12)),
            failing.chars().map(|byte| when(byte, fail)).collect::<String>(),
            "(i32.store8 (i32.add (local.get $j) (local.get $i)) (i32.ne (global.get $byte) (i32.const 100)))"
                .to_owned(),
        ];
        Guest {
            items: "(data (i32.const 1024) \"no e, please\")
              (global $byte (mut i32) (i32.const 0))
              (global $texts (mut i32) (i32.const 0)) (global $ends (mut i32) (i32.const 0))"
                .to_owned(),
            process: format!(
                "(local.set $j (call $alloc (local.get $n)))
                 (local.set $k (call $alloc (i32.mul (local.get $n) (i32.const 4))))
                 (global.set $texts (call $alloc (i32.mul (local.get $n) (i32.const 2))))
                 (global.set $ends (call $alloc (i32.mul (local.get $n) (i32.const 4))))
                 {}
                 (call $keep (local.get $rows) (local.get $j) (local.get $n))
                 (call $fail (local.get $rows) (local.get $k) (local.get $m)
                   (global.get $texts) (i32.mul (local.get $m) (i32.const 2)) (global.get $ends) (local.get $m))",
                each(&body.join("\n"))
            ),
            ..Guest::default()
        }
    }

    /// Every record says where it goes: in the byte at `to` the output, one of `outputs` or else the default, whose rows
    /// have the byte at `key` as their value of the partition key `k`.
    pub fn place(to: u32, key: u32, outputs: &str) -> Guest {
        let (mut globals, mut configure, mut choose) =
            (String::new(), String::new(), "(i32.const 0)".to_owned());
        for (number, (name, at)) in outputs.bytes().zip(1024..).enumerate() {
            globals.push_str(&format!("(global $output-{number} (mut i32) (i32.const 0))"));
            configure.push_str(&format!(
                "(call $output (i32.const {at}) (i32.const 1) (i32.const 48))
                 (if (i32.load8_u (i32.const 48)) (then unreachable))
                 (global.set $output-{number} (i32.load (i32.const 52)))"
            ));
            choose = format!(
                "(if (result i32) (i32.eq (call $at (local.get $i) (i32.const {to})) (i32.const {name}))
                   (then (global.get $output-{number})) (else {choose}))"
            );
        }
        let body = format!(
            "(i32.store (i32.add (local.get $j) (i32.mul (local.get $i) (i32.const 4))) {choose})
             (i32.store8 (i32.add (local.get $k) (local.get $i))
               (select (i32.const 0) (i32.const 3)
                 (i32.load (i32.add (local.get $j) (i32.mul (local.get $i) (i32.const 4))))))
             (if (i32.eqz (i32.load (i32.add (local.get $j) (i32.mul (local.get $i) (i32.const 4)))))
               (then
                 (i32.store8 (i32.add (local.get $m) (global.get $keys)) (call $at (local.get $i) (i32.const {key})))
                 (global.set $keys (i32.add (global.get $keys) (i32.const 1)))))
             (i32.store (i32.add (global.get $ends) (i32.mul (local.get $i) (i32.const 4))) (global.get $keys))"
        );
        Guest {
            items: format!(
                "(data (i32.const 1024) \"{outputs}\") (data (i32.const 1056) \"k\")
                 (global $keys (mut i32) (i32.const 0)) (global $ends (mut i32) (i32.const 0)) {globals}"
            ),
            configure,
            process: format!(
                "(local.set $j (call $alloc (i32.mul (local.get $n) (i32.const 4))))
                 (local.set $k (call $alloc (local.get $n)))
                 (local.set $m (call $alloc (local.get $n)))
                 (global.set $ends (call $alloc (i32.mul (local.get $n) (i32.const 4))))
                 (global.set $keys (i32.const 0))
                 {}
                 (call $route (local.get $rows) (local.get $j) (local.get $n))
                 (call $partition (local.get $rows) (i32.const 1056) (i32.const 1) (local.get $k) (local.get $n)
                   (local.get $m) (global.get $keys) (global.get $ends) (local.get $n))",
                each(&body)
            ),
            ..Guest::default()
        }
    }

    /// The same plugin as another version: with another digest.
    #[must_use]
    pub fn salted(mut self, salt: u32) -> Guest {
        self.items.push_str(&format!("(data (i32.const 2048) \"{salt}\")"));
        self
    }

    /// Every record passes, and each call logs `I was here`.
    pub fn talkative() -> Guest {
        Guest {
            imports: ("", r#"(import "wasmill:plugin/log@0.1.3" "write" (func $log (param i32 i32 i32)))"#),
            items: "(data (i32.const 1024) \"I was here\")".to_owned(),
            process: "(if (local.get $n) (then (call $log (i32.const 1) (i32.const 1024) (i32.const 10))))"
                .to_owned(),
            ..Guest::default()
        }
    }

    /// Every record passes; so many functions beside it take the compiler long.
    pub fn heavy(functions: u32) -> Guest {
        let mut items = String::new();
        for function in 0..functions {
            items.push_str("(func (param i32) (result i32) (local i32)");
            for step in 0..400 {
                items.push_str(&format!(
                    "(local.set 1 (i32.add (i32.mul (local.get 0) (i32.const {})) (i32.xor (local.get 1) (i32.const {step}))))",
                    function + step
                ));
            }
            items.push_str("(local.get 1))");
        }
        Guest { items, ..Guest::default() }
    }

    /// Refuses every configuration.
    pub fn unconfigurable() -> Guest {
        let configure = "
            (i32.store (i32.const 16) (i32.const 1))
            (i32.store (i32.const 20) (i32.const 1024))
            (i32.store (i32.const 24) (i32.const 15))
            (return (i32.const 16))";
        Guest {
            items: "(data (i32.const 1024) \"I have had none\")".to_owned(),
            configure: configure.to_owned(),
            ..Guest::default()
        }
    }

    /// Traps in every call, whatever is in it.
    pub fn trap_at_once() -> Guest {
        Guest { process: "unreachable".to_owned(), ..Guest::default() }
    }

    /// The plugin file.
    pub fn wasm(&self) -> Vec<u8> {
        let Guest { imports: (world, imports), items, configure, process } = self;
        let text = format!(
            r#"(module
              (import "wasmill:plugin/records@0.1.3" "[resource-drop]chunk" (func $drop (param i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.len" (func $len (param i32) (result i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.payloads" (func $payloads (param i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.set-payloads" (func $set-payloads (param i32 i32 i32 i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.partition" (func $partition (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.route" (func $route (param i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.keep" (func $keep (param i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.fail" (func $fail (param i32 i32 i32 i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.derive" (func $derive (param i32 i32 i32) (result i32)))
              (import "wasmill:plugin/records@0.1.3" "[static]chunk.fresh" (func $fresh (param i32) (result i32)))
              (import "wasmill:plugin/records@0.1.3" "emit" (func $emit (param i32)))
              (import "wasmill:plugin/setup@0.1.3" "output" (func $output (param i32 i32 i32)))
              {imports}
              (memory (export "memory") 4)
              ;; 16: result of the exports; 32: payloads; 48: result of $output; 1024: texts; from 131072: allocations
              (global $top (mut i32) (i32.const 131072))
              {items}
              {ALLOC}
              (func $end (param $row i32) (result i32)
                (i32.load (i32.add (i32.load (i32.const 40)) (i32.mul (local.get $row) (i32.const 4)))))
              (func $start (param $row i32) (result i32)
                (if (result i32) (local.get $row)
                  (then (call $end (i32.sub (local.get $row) (i32.const 1)))) (else (i32.const 0))))
              ;; the byte at $offset of a row, 0 behind its end
              (func $at (param $row i32) (param $offset i32) (result i32)
                (local.set $offset (i32.add (local.get $offset) (call $start (local.get $row))))
                (if (i32.ge_u (local.get $offset) (call $end (local.get $row))) (then (return (i32.const 0))))
                (i32.load8_u (i32.add (i32.load (i32.const 32)) (local.get $offset))))
              (func $first (param $row i32) (result i32)
                (call $at (local.get $row) (i32.const 0)))
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (call $alloc (local.get 3)))
              (func (export "wasmill:plugin/transform@0.1.3#configure") (param $config i32) (param $config-len i32) (result i32)
                {configure}
                (i32.store (i32.const 16) (i32.const 0))
                (i32.const 16))
              (func (export "wasmill:plugin/transform@0.1.3#process") (param $rows i32) (result i32)
                (local $i i32) (local $j i32) (local $k i32) (local $m i32) (local $n i32)
                (global.set $top (i32.const 131072))
                (local.set $n (call $len (local.get $rows)))
                (call $payloads (local.get $rows) (i32.const 32))
                {process}
                (call $drop (local.get $rows))
                (i32.store (i32.const 16) (i32.const 0))
                (i32.const 16)))"#
        );
        assemble(&text, &[], world)
    }
}
