//! `src/bindings.rs` is what wit-bindgen makes of `wit/plugin.wit`, `src/nn.rs` what it makes of `wit/inference`. After a change there,
//! `BLESS=1 cargo test -p wasmill-sdk --test bindings` writes it anew.

use std::path::Path;

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_bindgen_rust::Opts;

#[test]
fn bindings_are_what_the_generator_makes_of_the_wit() {
    let options = Opts {
        pub_export_macro: true,
        default_bindings_module: Some("wasmill_sdk::bindings".to_owned()),
        ..Opts::default()
    };
    check(("wit", "wit/plugin.wit"), "importer", "src/bindings.rs", options);
    check(
        ("wit/inference", "wit/inference"),
        "scorer",
        "src/nn.rs",
        Opts { generate_all: true, ..Opts::default() },
    );
}

fn check((path, shown): (&str, &str), world: &str, file: &str, options: Opts) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolve = Resolve::default();
    let (package, _files) = resolve.push_path(here.join("../../..").join(path)).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let options = Opts { format: true, ..options };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files).unwrap();
    let (_name, generated) = files.iter().next().unwrap();
    let head = format!(
        "//! What `{shown}` imports and exports, by wit-bindgen; `tests/bindings.rs` keeps it true and writes it anew.\n"
    );
    let generated = format!("{head}\n{}", std::str::from_utf8(generated).unwrap());

    let file = here.join(file);
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
