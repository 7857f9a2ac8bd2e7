//! Core modules with component metadata in which every part that a hostile author writes can be set: memory, allocation,
//! both exports and what is called after them.

use crate::guest::{ALLOC, assemble};

/// An attack is in one of its parts; the others do as they should.
pub(super) struct Core {
    /// More WIT packages.
    pub(super) packages: Vec<String>,
    /// Items of the world besides those of a transformer.
    pub(super) world: String,
    /// `(import ..)` lines besides those of the ABI.
    pub(super) imports: String,
    pub(super) memory: String,
    /// Globals, data, tables, functions, exports.
    pub(super) items: String,
    /// Body of `cabi_realloc`; `$size` is what is asked for.
    pub(super) realloc: String,
    /// Body of `configure`; `$config` and `$len` are its text.
    pub(super) configure: String,
    /// Body of `process`; `$rows` is the chunk, `$i`, `$j` and `$n` are free.
    pub(super) process: String,
}

impl Default for Core {
    fn default() -> Core {
        Core {
            packages: Vec::new(),
            world: String::new(),
            imports: String::new(),
            memory: "(memory (export \"memory\") 4)".to_owned(),
            items: String::new(),
            realloc: "(call $alloc (local.get $size))".to_owned(),
            configure: String::new(),
            process: String::new(),
        }
    }
}

/// For chunks that have rows: the probe's has none.
pub(super) fn with_rows(body: &str) -> String {
    format!("(if (call $count (local.get $rows)) (then {body}))")
}

/// The text that ends an export with an error of `len` bytes at `at`.
pub(super) fn error(at: i64, len: u32) -> String {
    format!(
        "(i32.store (i32.const 16) (i32.const 1))
         (i32.store (i32.const 20) (i32.const {at}))
         (i32.store (i32.const 24) (i32.const {len}))
         (return (i32.const 16))"
    )
}

impl Core {
    /// Does this with every chunk that has rows.
    pub(super) fn rows(body: &str) -> Core {
        Core { process: with_rows(body), ..Core::default() }
    }

    /// The same with more items.
    pub(super) fn rows_with(items: &str, body: &str) -> Core {
        Core { items: items.to_owned(), ..Core::rows(body) }
    }

    /// Does this in `configure`.
    pub(super) fn configure(items: &str, body: &str) -> Core {
        Core { items: items.to_owned(), configure: body.to_owned(), ..Core::default() }
    }

    /// Only more items.
    pub(super) fn items(items: impl Into<String>) -> Core {
        Core { items: items.into(), ..Core::default() }
    }

    /// The plugin file.
    pub(super) fn wasm(&self) -> Vec<u8> {
        let Core { packages, world, imports, memory, items, realloc, configure, process } = self;
        let text = format!(
            r#"(module
              (import "wasmill:plugin/records@0.1.3" "[resource-drop]chunk" (func $drop (param i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.len" (func $count (param i32) (result i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.payloads" (func $payloads (param i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.attributes" (func $attributes (param i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.get-text" (func $get-text (param i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.set-payloads" (func $set-payloads (param i32 i32 i32 i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.set-text" (func $set-text (param i32 i32 i32 i32 i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.set-raw" (func $set-raw (param i32 i32 i32 i32 i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.set-floats" (func $set-floats (param i32 i32 i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.set-keys" (func $set-keys (param i32 i32 i32 i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.set-attributes" (func $set-attributes (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.partition" (func $partition (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.route" (func $route (param i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.keep" (func $keep (param i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.fail" (func $fail (param i32 i32 i32 i32 i32 i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.derive" (func $derive (param i32 i32 i32) (result i32)))
              (import "wasmill:plugin/records@0.1.3" "[static]chunk.fresh" (func $fresh (param i32) (result i32)))
              (import "wasmill:plugin/records@0.1.3" "emit" (func $emit (param i32)))
              (import "wasmill:plugin/setup@0.1.3" "field" (func $field (param i32 i32) (result i32)))
              (import "wasmill:plugin/setup@0.1.3" "output" (func $output (param i32 i32 i32)))
              (import "wasmill:plugin/setup@0.1.3" "secret" (func $secret (param i32 i32 i32)))
              (import "wasmill:plugin/setup@0.1.3" "file" (func $file (param i32 i32 i64 i32 i32)))
              (import "wasmill:plugin/log@0.1.3" "write" (func $log (param i32 i32 i32)))
              {imports}
              {memory}
              ;; 16: result of the exports; 32: results of imports; 1024 to 65536: texts; from 131072: allocations
              (global $top (mut i32) (i32.const 131072))
              {items}
              {ALLOC}
              (func $realloc (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
                {realloc})
              (func (export "wasmill:plugin/transform@0.1.3#configure") (param $config i32) (param $len i32) (result i32)
                (local $i i32)
                {configure}
                (i32.store (i32.const 16) (i32.const 0))
                (i32.const 16))
              (func (export "wasmill:plugin/transform@0.1.3#process") (param $rows i32) (result i32)
                (local $i i32) (local $j i32) (local $n i32)
                (global.set $top (i32.const 131072))
                {process}
                (call $drop (local.get $rows))
                (i32.store (i32.const 16) (i32.const 0))
                (i32.const 16)))"#
        );
        assemble(&text, packages, world)
    }
}
