//! Files that are not what their name says, are cut off or lie about themselves, and imports that no plugin gets.

use std::fmt::Write as _;

use super::core::Core;
use super::{Answer, Case};
use crate::guest::Guest;

/// A plugin that works.
fn good() -> Vec<u8> {
    Guest::pass(4711).wasm()
}

/// A section of a core module: an id, a size as it is claimed, and what is there.
pub(super) fn section(id: u8, claimed: u32, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![id];
    let mut rest = claimed;
    loop {
        let byte = u8::try_from(rest & 0x7f).unwrap_or_default();
        rest >>= 7;
        out.push(if rest == 0 { byte } else { byte | 0x80 });
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(contents);
    out
}

/// A custom section of this name and size, behind a plugin that works.
fn padded(bytes: usize) -> Vec<u8> {
    let mut contents = vec![7];
    contents.extend_from_slice(b"padding");
    contents.resize(bytes, 0);
    let mut wasm = good();
    wasm.extend(section(0, u32::try_from(contents.len()).unwrap_or_default(), &contents));
    wasm
}

/// Imports a function of an interface that no host of plugins has.
fn import(package: &str, interface: &str, function: &str) -> Core {
    Core {
        packages: vec![format!("package {package}; interface {interface} {{ {function}: func() -> u32; }}")],
        world: {
            let (name, version) = package.split_once('@').unwrap_or((package, ""));
            let version = if version.is_empty() { String::new() } else { format!("@{version}") };
            format!("import {name}/{interface}{version};")
        },
        imports: {
            let (name, version) = package.split_once('@').unwrap_or((package, ""));
            let version = if version.is_empty() { String::new() } else { format!("@{version}") };
            format!(r#"(import "{name}/{interface}{version}" "{function}" (func $foreign (result i32)))"#)
        },
        ..Core::rows("(drop (call $foreign))")
    }
}

/// WASI's sockets and directories, which are there and give nothing.
fn denied() -> Core {
    Core {
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
             }"
            .to_owned(),
            "package wasi:filesystem@0.2.12;
             interface types { resource descriptor; }
             interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }"
                .to_owned(),
        ],
        world: "import wasi:sockets/tcp-create-socket@0.2.12; import wasi:filesystem/preopens@0.2.12;".to_owned(),
        imports: r#"
          (import "wasi:sockets/tcp-create-socket@0.2.12" "create-tcp-socket" (func $socket (param i32 i32)))
          (import "wasi:filesystem/preopens@0.2.12" "get-directories" (func $directories (param i32)))"#
            .to_owned(),
        ..Core::rows(
            "(call $socket (i32.const 0) (i32.const 48))
             (if (i32.ne (i32.load8_u (i32.const 52)) (i32.const 1)) (then unreachable))
             (call $directories (i32.const 48))
             (if (i32.load (i32.const 52)) (then unreachable))",
        )
    }
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{}", text.get(..400).unwrap_or(text)))
}

/// Of a core module that is a plugin but for these items.
fn with(items: &str) -> Vec<u8> {
    Core::items(items).wasm()
}

pub(super) fn cases() -> Vec<Case> {
    use Answer::{Harmless, Refused};
    let cut = |part: usize| {
        let mut wasm = good();
        wasm.truncate(wasm.len() * part / 4);
        wasm
    };
    let damaged = |lie: Vec<u8>| [good(), lie].concat();
    let mut noise = b"\0asm\x01\0\0\0".to_vec();
    let mut state = 0x9e37_79b9_u32;
    noise.extend((0..100_000).map(|_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    }));
    let mut imports = String::from("(component");
    for number in 0..900 {
        let name = "x".repeat(200);
        let _infallible = write!(imports, "(import \"evil:package/{name}-n{number}\" (instance))");
    }
    imports.push(')');
    vec![
        Case::new("file-empty", Refused("not a WebAssembly file"), Vec::new()),
        Case::new("file-of-text", Refused("not a WebAssembly file"), b"#!/bin/sh\nrm -rf /\n".to_vec()),
        Case::new("file-of-zeros", Refused("not a WebAssembly file"), vec![0; 1 << 20]),
        Case::new("file-of-four-bytes", Refused("not a WebAssembly file"), b"\0asm".to_vec()),
        Case::new("file-of-a-later-version", Refused(""), b"\0asm\x63\0\0\0".to_vec()),
        Case::new(
            "file-of-machine-code",
            Refused("not a WebAssembly file"),
            [b"\x7fELF\x02\x01\x01".to_vec(), vec![0; 4096]].concat(),
        ),
        Case::new("file-of-noise", Refused(""), noise),
        Case::new("file-cut-off-early", Refused("section"), cut(1)),
        Case::new("file-cut-off-late", Refused("section"), cut(3)),
        Case::new(
            "section-past-the-end",
            Refused("past the end"),
            damaged(section(0, 1_000_000, &[1, b'x'])),
        ),
        Case::new(
            "section-of-four-gigabytes",
            Refused("past the end"),
            damaged(section(0, u32::MAX, &[1, b'x'])),
        ),
        Case::new("section-name-past-its-section", Refused("section"), damaged(section(0, 2, &[0x7f, b'x']))),
        Case::new(
            "section-size-without-end",
            Refused(""),
            damaged(vec![0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        Case::new("section-of-no-kind", Refused(""), damaged(section(99, 4, b"evil"))),
        Case::new("metadata-that-is-none", Refused("component"), {
            [
                wat("(module (memory (export \"memory\") 1))"),
                section(0, 24, b"\x0ecomponent-type\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            ]
            .concat()
        }),
        Case::new("module-without-metadata", Refused("without component metadata"), wat("(module)")),
        Case::new("component-without-exports", Refused("does not export"), wat("(component)")),
        Case::new("padded-to-fifty-megabytes", Harmless, padded(50 << 20)),
        Case::new("padded-over-the-limit", Refused("over the limit of 67108864"), padded(65 << 20)),
        Case::new(
            "wants-the-network",
            Refused("wasi:http/client@0.2.12"),
            import("wasi:http@0.2.12", "client", "fetch").wasm(),
        ),
        Case::new(
            "wants-threads",
            Refused("wasi:thread/spawn"),
            import("wasi:thread", "spawn", "start").wasm(),
        ),
        Case::new(
            "wants-the-unknown",
            Refused("evil:door/back@1.0.0"),
            import("evil:door@1.0.0", "back", "open").wasm(),
        ),
        Case::new("wants-what-a-later-host-has", Refused("wasmill:plugin/filesystem@0.1.3"), {
            let instance = "(instance (export \"open\" (func (result u32))))";
            wat(&format!("(component (import \"wasmill:plugin/filesystem@0.1.3\" {instance}))"))
        }),
        Case::new("wants-nine-hundred-things", Refused("evil:package/"), wat(&imports)),
        Case::new("wants-files-and-sockets-of-wasi", Harmless, denied().wasm()),
        Case::new("memory-of-64-bits", Refused("memory64"), with("(memory $wide i64 1)")),
        Case::new("instructions-of-threads", Refused("thread"), {
            with("(func (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))")
        }),
        Case::new("instructions-of-exceptions", Refused("exception"), with("(tag $e) (func (throw $e))")),
        Case::new("instructions-of-garbage-collection", Refused(""), with("(type $s (struct (field i32)))")),
        Case::new("instructions-of-tail-calls", Refused("tail"), with("(func $f (return_call $f))")),
        Case::new("instructions-that-differ-by-machine", Refused("relaxed"), {
            with("(func (param v128) (result v128) (i32x4.relaxed_trunc_f32x4_s (local.get 0)))")
        }),
        Case::new(
            "data-past-its-memory",
            Answer::Unfit("out of bounds"),
            with("(data (i32.const 1000000000) \"evil\")"),
        ),
        Case::new("elements-past-their-table", Answer::Unfit("out of bounds"), {
            with("(table $t 1 funcref) (func $f) (elem (table $t) (i32.const 1000000) func $f)")
        }),
    ]
}
