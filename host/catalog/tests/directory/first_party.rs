//! The components that `cargo xtask plugins` builds. `WASMILL_PLUGINS` names their directory.

use std::fs;
use std::path::PathBuf;

use wasmill_transform::Digest;

use crate::support::{Bench, wait_for_digest};

#[test]
#[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
fn first_party_plugins_load_and_reload() {
    let Some(directory) = std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS names no directory; `cargo xtask plugins` builds one");
        return;
    };
    let bench = Bench::new(&[]);
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(stem) = name.strip_suffix(".wasm").filter(|stem| !stem.starts_with('.')) {
            fs::copy(&path, bench.path(name)).unwrap();
            names.push(stem.to_owned());
        }
    }
    assert!(names.iter().any(|name| name == "parse"), "{} has no parse.wasm", directory.display());
    let catalog = bench.watching();
    for name in &names {
        let wasm = fs::read(bench.path(&format!("{name}.wasm"))).unwrap();
        assert_eq!(catalog.find(name, None).unwrap().digest, Digest::of(&wasm));
    }
    assert_eq!(catalog.counters().refused, 0, "{:#?}", catalog.plugins());

    // The same code under another manifest is another plugin file.
    let wasm = fs::read(bench.path("parse.wasm")).unwrap();
    let manifest = catalog.find("parse", None).unwrap().manifest.clone();
    let newer = wasmill_transform::Manifest { version: "99.0.0".to_owned(), ..manifest };
    let newer = wasmill_transform::embed_manifest(&wasm, &newer).unwrap();
    bench.replace("parse.wasm", &newer);
    assert_eq!(wait_for_digest(&catalog, "parse", &newer).manifest.version, "99.0.0");
}
