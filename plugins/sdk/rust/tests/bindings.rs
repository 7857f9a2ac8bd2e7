//! `src/bindings.rs` is what wit-bindgen makes of `wit/plugin.wit`. After a change there,
//! `BLESS=1 cargo test -p wasmill-sdk --test bindings` writes it anew.

use std::path::Path;

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_bindgen_rust::Opts;

const HEAD: &str = "//! What `wit/plugin.wit` imports and exports, by wit-bindgen; `tests/bindings.rs` keeps it true and writes it anew.\n";

#[test]
fn bindings_are_what_the_generator_makes_of_the_wit() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolve = Resolve::default();
    let (package, _files) = resolve.push_path(here.join("../../../wit")).unwrap();
    let world = resolve.select_world(&[package], Some("importer")).unwrap();
    let options = Opts {
        format: true,
        pub_export_macro: true,
        default_bindings_module: Some("wasmill_sdk::bindings".to_owned()),
        ..Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files).unwrap();
    let (_name, generated) = files.iter().next().unwrap();
    let generated = format!("{HEAD}\n{}", std::str::from_utf8(generated).unwrap());

    let file = here.join("src/bindings.rs");
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
