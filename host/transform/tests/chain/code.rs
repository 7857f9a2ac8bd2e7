//! From a file to loaded code: componentizing, inspection, cache, compile child.

use std::path::Path;
use std::time::Duration;

use wasmill_transform::{
    CacheError, ChainOptions, CodeCache, CompileError, CompileLimits, ComponentizeError, Digest, Kind,
    LoadError, Manifest, compile_in_child, componentize, embed_manifest, inspect,
};

use crate::support::{Bench, ENGINE, Guest, compiled, load, picky, spec};

const CHILD: &str = env!("CARGO_BIN_EXE_compile-child");

#[test]
fn core_module_with_metadata_becomes_a_component() {
    let core = picky().core();
    let component = componentize(&core).unwrap();
    assert!(inspect(&component).unwrap().refused.is_empty());
    // A component stays what it is.
    assert_eq!(*componentize(&component).unwrap(), *component);
}

#[test]
fn file_that_is_no_plugin_is_refused_with_the_reason() {
    let bare = wat::parse_str("(module)").unwrap();
    assert!(matches!(componentize(&bare), Err(ComponentizeError::NoMetadata)));
    assert!(matches!(componentize(b"#!/bin/sh"), Err(ComponentizeError::NotWasm)));
    assert!(matches!(componentize(b""), Err(ComponentizeError::Empty)));
    let mut damaged = picky().core();
    let middle = damaged.len() / 2;
    damaged.truncate(middle);
    assert!(componentize(&damaged).is_err());
}

#[test]
fn compiled_code_as_upload_is_refused_everywhere() {
    let code = std::fs::read(compiled(&picky().core())).unwrap();
    assert!(matches!(componentize(&code), Err(ComponentizeError::Precompiled)));
    assert!(ENGINE.precompile(&code).is_err());
    assert!(inspect(&code).unwrap_err().to_string().contains("already compiled"));
    let error = compile_in_child(Path::new(CHILD), &code, &CompileLimits::default()).unwrap_err();
    assert!(
        matches!(&error, CompileError::Refused(reason) if reason.contains("already compiled")),
        "{error}"
    );
}

#[test]
fn inspect_tells_imports_exports_and_manifest() {
    let manifest = Manifest { name: "picky".to_owned(), version: "0.3.0".to_owned(), ..Manifest::default() };
    let wasm = embed_manifest(&picky().core(), &manifest).unwrap();
    let inspection = inspect(&wasm).unwrap();
    assert_eq!(inspection.kind, Kind::CoreModule);
    assert_eq!(inspection.digest, Digest::of(&wasm));
    assert_eq!(inspection.manifest, Some(manifest));
    assert!(inspection.refused.is_empty(), "{:?}", inspection.refused);
    let records = inspection.imports.iter().find(|item| item.interface.contains("records")).unwrap();
    assert!(records.functions.iter().any(|function| function == "[method]chunk.keep"));
    assert!(inspection.exports.iter().any(|item| item.interface == "wasmill:plugin/transform@0.1.3"));
    let json = serde_json::to_string(&inspection).unwrap();
    assert!(json.contains("sha256:"), "{json}");
    // The manifest survives componentizing only in the file itself, which is what the digest covers.
    assert!(inspect(&componentize(&wasm).unwrap()).is_ok());
}

#[test]
fn import_that_the_host_does_not_have_is_named() {
    let guest = Guest {
        packages: vec!["package wasi:http@0.2.12;\ninterface client { fetch: func() -> u32; }"],
        world_imports: vec!["wasi:http/client@0.2.12"],
        imports: r#"(import "wasi:http/client@0.2.12" "fetch" (func $fetch (result i32)))"#,
        process: "(drop (call $fetch))",
        ..Guest::default()
    };
    let refused = inspect(&guest.core()).unwrap().refused;
    assert!(refused[0].contains("wasi:http/client@0.2.12"), "{refused:?}");
    let error = guest.load(Manifest::default()).unwrap_err();
    assert!(matches!(&error, LoadError::Link(_)));
    assert!(error.to_string().contains("wasi:http/client@0.2.12"), "{error}");
}

#[test]
fn function_of_a_later_host_is_named() {
    // What a plugin for a later version of the package would import.
    let guest = Guest {
        packages: vec!["package wasi:cli@0.2.12;\ninterface stdin { get-stdin2: func() -> u32; }"],
        world_imports: vec!["wasi:cli/stdin@0.2.12"],
        imports: r#"(import "wasi:cli/stdin@0.2.12" "get-stdin2" (func $stdin2 (result i32)))"#,
        process: "(drop (call $stdin2))",
        ..Guest::default()
    };
    let error = guest.load(Manifest::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("get-stdin2") && text.contains("wasi:cli/stdin"), "{text}");
}

/// Versions of one line differ by what they add: what a component was built for need not be what the host has.
#[test]
fn component_of_another_version_of_the_same_line_runs() {
    let core = picky().core_for("0.1.7");
    let inspection = inspect(&core).unwrap();
    assert!(inspection.exports.iter().any(|item| item.interface == "wasmill:plugin/transform@0.1.7"));
    assert!(inspection.refused.is_empty(), "{:?}", inspection.refused);
    let specs = vec![spec("t0", load(&core, Manifest::default()).unwrap())];
    let (rows, report) = Bench::try_new(specs, ChainOptions::default()).unwrap().run(&["a", "d", "c"]);
    assert_eq!(rows, ["100:a", "102:c"]);
    assert!(report.failures.is_empty());
}

#[test]
fn component_of_another_line_is_refused() {
    let core = picky().core_for("0.2.0");
    let refused = inspect(&core).unwrap().refused.join("; ");
    assert!(refused.contains("wasmill:plugin/transform@0.1.3"), "{refused}");
    assert!(matches!(load(&core, Manifest::default()), Err(LoadError::Link(_))));
}

#[test]
fn cache_damaged_file_is_refused_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(&directory.path().join("code")).unwrap();
    let core = picky().core();
    let digest = Digest::of(&core);
    assert!(cache.get(&ENGINE, digest).unwrap().is_none());
    let code = ENGINE.precompile(&componentize(&core).unwrap()).unwrap();
    let path = cache.put(&ENGINE, digest, &code).unwrap();
    assert_eq!(cache.get(&ENGINE, digest).unwrap().as_deref(), Some(path.as_path()));
    assert!(ENGINE.load(&path, Manifest::default(), digest).is_ok());

    for at in [0, code.len() / 2, code.len() - 1] {
        let mut damaged = code.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let error = ENGINE.load(&path, Manifest::default(), digest).unwrap_err();
        assert!(matches!(error, LoadError::Verify(CacheError::Corrupt { .. })), "{error:?}");
    }
    assert!(matches!(cache.get(&ENGINE, digest), Err(CacheError::Corrupt { .. })));
    assert!(cache.get(&ENGINE, digest).unwrap().is_none());
    assert!(!path.exists());
}

#[test]
fn cache_file_of_another_name_is_never_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let code = std::fs::read(compiled(&picky().core())).unwrap();
    let path = directory.path().join("uploaded.cwasm");
    std::fs::write(&path, code).unwrap();
    let error = ENGINE.load(&path, Manifest::default(), Digest([0; 32])).unwrap_err();
    assert!(matches!(error, LoadError::Verify(CacheError::Corrupt { .. })), "{error:?}");
}

#[test]
fn compile_child_makes_the_code_that_this_engine_loads() {
    let core = picky().core();
    let code = compile_in_child(Path::new(CHILD), &core, &CompileLimits::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(directory.path()).unwrap();
    let path = cache.put(&ENGINE, Digest::of(&core), &code).unwrap();
    assert!(ENGINE.load(&path, Manifest::default(), Digest::of(&core)).is_ok());
}

/// A plugin of many functions that take long to compile together.
fn heavy(functions: usize) -> Vec<u8> {
    let mut body = String::new();
    for function in 0..functions {
        body.push_str("(func (param i32) (result i32) (local i32)");
        for step in 0..400 {
            body.push_str(&format!(
                "(local.set 1 (i32.add (i32.mul (local.get 0) (i32.const {})) (i32.xor (local.get 1) (i32.const {step}))))",
                function + step
            ));
        }
        body.push_str("(local.get 1))");
    }
    Guest { items: body.leak(), ..Guest::default() }.core()
}

#[test]
fn compile_child_is_stopped_at_each_of_its_limits() {
    let bomb = heavy(3000);
    let limits = |change: fn(&mut CompileLimits)| {
        let mut limits = CompileLimits::default();
        change(&mut limits);
        compile_in_child(Path::new(CHILD), &bomb, &limits).unwrap_err()
    };
    let error = limits(|limits| limits.wall = Duration::from_millis(200));
    assert!(matches!(error, CompileError::Wall { .. }), "{error}");
    let error = limits(|limits| limits.cpu = Duration::from_secs(1));
    assert!(matches!(error, CompileError::Cpu { .. }), "{error}");
    let error = limits(|limits| limits.memory_bytes = 96 << 20);
    assert!(matches!(error, CompileError::Crashed { .. } | CompileError::Refused(_)), "{error}");
    let error = limits(|limits| limits.wasm_bytes = 1 << 10);
    assert!(matches!(error, CompileError::TooLarge { .. }), "{error}");
}

#[test]
fn compile_child_without_arguments_says_how_it_is_used() {
    let output = std::process::Command::new(CHILD).arg("compile-plugin").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("usage"));
}

#[test]
fn wasm_features_that_are_off_are_refused() {
    for module in [
        "(memory i64 1)",
        "(memory 1 1 shared)",
        "(type (struct))",
        "(tag)",
        "(func (param v128) (result v128) (i32x4.relaxed_trunc_f32x4_s (local.get 0)))",
    ] {
        let wasm = wat::parse_str(format!("(component (core module {module}))")).unwrap();
        assert!(ENGINE.precompile(&wasm).is_err(), "{module}");
    }
    let simd = "(component (core module (func (param v128) (result v128) (i32x4.neg (local.get 0)))))";
    assert!(ENGINE.precompile(&wat::parse_str(simd).unwrap()).is_ok());
}

#[test]
fn components_that_are_composed_of_others_compile() {
    // A string passes from the memory of one into that of the other.
    let composed = r#"
      (component
        (component $says
          (core module $m
            (memory (export "memory") 1)
            (data (i32.const 8) "\10\00\00\00\05\00\00\00hello")
            (func (export "says") (result i32) (i32.const 8)))
          (core instance $i (instantiate $m))
          (func (export "says") (result string)
            (canon lift (core func $i "says") (memory $i "memory"))))
        (component $hears
          (import "says" (func $says (result string)))
          (core module $libc
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64)))
          (core instance $libc (instantiate $libc))
          (core func $says (canon lower (func $says) (memory $libc "memory") (realloc (func $libc "realloc"))))
          (core module $m
            (import "" "says" (func $says (param i32)))
            (func (export "hears") (call $says (i32.const 8))))
          (core instance $i (instantiate $m (with "" (instance (export "says" (func $says))))))
          (func (export "hears") (canon lift (core func $i "hears"))))
        (instance $says (instantiate $says))
        (instance $hears (instantiate $hears (with "says" (func $says "says"))))
        (export "hears" (func $hears "hears")))"#;
    let code = ENGINE.precompile(&wat::parse_str(composed).unwrap()).unwrap();
    assert!(!code.is_empty());
}
