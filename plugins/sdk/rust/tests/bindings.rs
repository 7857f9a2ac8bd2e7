//! `src/bindings.rs` and `src/watermark_bindings.rs` are what wit-bindgen makes of `wit/plugin.wit`, and
//! `src/nn.rs` what it makes of `wit/inference`. After a change there,
//! `BLESS=1 cargo test -p wasmill-sdk --test bindings` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_bindgen_rust::Opts;

/// What of a world is checked in as `src/MODULE.rs`.
fn check(wit: &str, world: &str, module: &str, what: &str, options: Opts) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolve = Resolve::default();
    let (package, _files) = resolve.push_path(here.join("../../..").join(wit)).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let options = Opts { format: true, ..options };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files).unwrap();
    let (_name, generated) = files.iter().next().unwrap();
    let head = format!("//! {what}, by wit-bindgen; `tests/bindings.rs` keeps it true and writes it anew.\n");
    let generated = format!("{head}\n{}", std::str::from_utf8(generated).unwrap());

    let file = here.join(format!("src/{module}.rs"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        checked_in == generated,
        "{} is not what wit-bindgen makes of wit/: BLESS=1 cargo test -p wasmill-sdk --test bindings",
        file.display()
    );
}

/// For worlds that export something.
fn exports(module: &str) -> Opts {
    let default_bindings_module = Some(format!("wasmill_sdk::{module}"));
    Opts { pub_export_macro: true, default_bindings_module, ..Opts::default() }
}

#[test]
fn bindings_of_models_are_what_the_generator_makes_of_the_wit() {
    let options = Opts { generate_all: true, ..Opts::default() };
    check("wit/inference", "scorer", "nn", "What `wit/inference` imports and exports", options);
}

#[test]
fn bindings_are_what_the_generator_makes_of_the_wit() {
    check("wit", "importer", "bindings", "What `wit/plugin.wit` imports and exports", exports("bindings"));
}

#[test]
fn bindings_of_the_optional_export_are_what_the_generator_makes_of_the_wit() {
    let what = "The optional export `event-time` of `wit/plugin.wit`";
    check("wit", "watermark-taker", "watermark_bindings", what, exports("watermark_bindings"));
}
