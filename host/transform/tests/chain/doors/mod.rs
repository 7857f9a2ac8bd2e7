//! Plain WASI programs and plugins made for other systems: what becomes of records, and of hostile guests.

mod command;
mod fluent_bit;
mod fluvio;
mod redpanda;

use std::path::Path;
use std::sync::Arc;

use wasmill_transform::{
    CompileError, CompileLimits, Digest, Inspection, Kind, Manifest, Plugin, TransformSpec, compile_in_child,
    inspect,
};

use crate::support::{ENGINE, compiled, spec};

pub(crate) fn plugin(wasm: &[u8]) -> Arc<Plugin> {
    ENGINE.load(&compiled(wasm), Manifest::default(), Digest::of(wasm)).unwrap()
}

/// A transform `t0` of the module, with this config.
pub(crate) fn door(wasm: &[u8], config: &str) -> TransformSpec {
    TransformSpec { config: config.to_owned(), ..spec("t0", plugin(wasm)) }
}

pub(crate) fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn looked(text: &str) -> Inspection {
    inspect(&module(text)).unwrap()
}

#[test]
fn module_is_recognised_by_its_imports_and_exports() {
    let command = looked(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "_start")))"#,
    );
    assert_eq!(command.kind, Kind::Door);
    assert_eq!(command.door.unwrap().to_string(), "wasi-command");
    assert_eq!(command.refused, [""; 0]);
    assert_eq!(command.imports[0].interface, "wasi_snapshot_preview1");
    assert_eq!(command.imports[0].functions, ["fd_write"]);
    let json = serde_json::to_value(&command).unwrap();
    assert_eq!(json["door"], "wasi-command");
    assert_eq!(json["kind"], "door");
}

#[test]
fn module_that_wants_more_than_its_door_has_is_refused_by_name() {
    let foreign = looked(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_teleport" (func))
          (import "env" "gl_clear" (func (param i32)))
          (func (export "_start")))"#,
    );
    let refused = foreign.refused.join("; ");
    for part in ["exports no memory", "\"fd_teleport\"", "\"gl_clear\" of \"env\""] {
        assert!(refused.contains(part), "{refused}");
    }
    // The same when the shape alone is wrong: found by the linker.
    let wasm = module(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i64)))
            (memory (export "memory") 1) (func (export "_start")))"#,
    );
    let error = ENGINE.load(&compiled(&wasm), Manifest::default(), Digest::of(&wasm)).unwrap_err();
    assert!(error.to_string().contains("fd_write"), "{error}");
}

#[test]
fn module_without_a_door_is_told_what_would_be_one() {
    let error = inspect(&module(r#"(module (func (export "start")))"#)).unwrap_err().to_string();
    assert!(error.contains("WASI preview 1 program exports _start"), "{error}");
}

#[test]
fn compile_child_compiles_a_module_for_a_door_as_it_is() {
    let child = Path::new(env!("CARGO_BIN_EXE_compile-child"));
    let wasm = module(r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    let code = compile_in_child(child, &wasm, &CompileLimits::default()).unwrap();
    assert_eq!(code, std::fs::read(compiled(&wasm)).unwrap());
    let bare = module("(module)");
    let error = compile_in_child(child, &bare, &CompileLimits::default()).unwrap_err();
    assert!(matches!(&error, CompileError::Refused(reason) if reason.contains("_start")), "{error}");
}

#[test]
fn every_function_of_wasi_preview_1_is_there_with_its_type() {
    // Names and parameters as the specification has them: `i` 32 bits, `l` 64.
    let functions = "args_get ii args_sizes_get ii environ_get ii environ_sizes_get ii clock_res_get ii \
        clock_time_get ili fd_advise illi fd_allocate ill fd_close i fd_datasync i fd_fdstat_get ii \
        fd_fdstat_set_flags ii fd_fdstat_set_rights ill fd_filestat_get ii fd_filestat_set_size il \
        fd_filestat_set_times illi fd_pread iiili fd_prestat_get ii fd_prestat_dir_name iii fd_pwrite iiili \
        fd_read iiii fd_readdir iiili fd_renumber ii fd_seek ilii fd_sync i fd_tell ii fd_write iiii \
        path_create_directory iii path_filestat_get iiiii path_filestat_set_times iiiilli path_link iiiiiii \
        path_open iiiiillii path_readlink iiiiii path_remove_directory iii path_rename iiiiii path_symlink iiiii \
        path_unlink_file iii poll_oneoff iiii proc_raise i random_get ii sock_accept iii sock_recv iiiiii \
        sock_send iiiii sock_shutdown ii sched_yield .";
    let words: Vec<&str> = functions.split_whitespace().collect();
    assert_eq!(words.len(), 2 * 45);
    let mut imports = r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#.to_owned();
    for pair in words.chunks(2) {
        let params: Vec<&str> =
            pair[1].chars().filter(|c| *c != '.').map(|c| if c == 'l' { "i64" } else { "i32" }).collect();
        let params = params.join(" ");
        imports.push_str(&format!(
            r#"(import "wasi_snapshot_preview1" "{}" (func (param {params}) (result i32)))"#,
            pair[0]
        ));
    }
    let wasm =
        module(&format!(r#"(module {imports} (memory (export "memory") 1) (func (export "_start")))"#));
    assert_eq!(inspect(&wasm).unwrap().refused, [""; 0]);
    plugin(&wasm);
}
