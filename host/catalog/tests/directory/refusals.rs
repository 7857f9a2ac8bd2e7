//! Versions that are not used, and why.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use wasmill_catalog::{AddError, CompileGate, FindError};
use wasmill_transform::{Digest, Manifest, embed_manifest};

use crate::support::{
    Bench, COMPILER, core, let_pass, plugin, refusal, wait, wait_for_digest, wait_for_refusal,
};

#[test]
fn garbage_is_refused_and_the_version_before_stays() {
    let wasm = plugin("a", "1.0.0");
    let bench = Bench::new(&[("a.wasm", &wasm)]);
    let catalog = bench.watching();
    let mut changes = catalog.changes();
    changes.mark_unchanged();
    for (garbage, part) in [(&b"\x7fELF"[..], "not a WebAssembly file"), (b"", "not a WebAssembly file")] {
        bench.replace("a.wasm", garbage);
        wait(&catalog, "the garbage is refused", |catalog| {
            catalog.plugins().into_iter().find(|state| state.digest == Some(Digest::of(garbage)))
        });
        let reason = refusal(&catalog, &bench.path("a.wasm")).unwrap();
        assert!(reason.contains(part), "{reason}");
        assert_eq!(catalog.find("a", None).unwrap().digest, Digest::of(&wasm));
        assert_eq!(catalog.find("a", Some(Digest::of(&wasm))).unwrap().digest, Digest::of(&wasm));
    }
    assert!(changes.has_changed().unwrap());
    assert_eq!((catalog.counters().refusals, catalog.counters().refused), (2, 1));
    // The same garbage again is no news.
    bench.write("a.wasm", b"");
    let_pass(&bench, &catalog, "marker");
    assert_eq!(catalog.counters().refusals, 2);
    // Mended, it is the plugin that it was.
    bench.replace("a.wasm", &wasm);
    wait(&catalog, "the file is mended", |catalog| {
        refusal(catalog, &bench.path("a.wasm")).is_none().then_some(())
    });
    assert_eq!(catalog.counters().compiles, 2);
}

#[test]
fn import_that_the_host_does_not_have_is_named() {
    let core = core(
        "import wasi:http/client@0.2.12;",
        r#"(import "wasi:http/client@0.2.12" "fetch" (func (result i32)))"#,
    );
    let manifest = Manifest { name: "net".to_owned(), version: "1.0.0".to_owned(), ..Manifest::default() };
    let bench = Bench::new(&[("x.wasm", &embed_manifest(&core, &manifest).unwrap())]);
    let catalog = bench.open();
    let error = catalog.find("net", None).unwrap_err();
    assert!(matches!(&error, FindError::Refused { .. }));
    assert!(
        error.to_string().contains("wasi:http/client@0.2.12") && error.to_string().contains("x.wasm"),
        "{error}"
    );
    // The compile child looked into it, nobody else.
    assert_eq!(catalog.counters().compiles, 1);
}

#[test]
fn damaged_component_is_refused_by_the_compiler_or_before() {
    let wasm = plugin("a", "1.0.0");
    let bench = Bench::new(&[]);
    for at in (8..wasm.len()).step_by(wasm.len() / 40) {
        let mut damaged = wasm.clone();
        damaged[at] ^= 0x55;
        bench.write(&format!("f{at}.wasm"), &damaged);
    }
    // Whatever becomes of each file, the catalog lives.
    let catalog = bench.watching();
    assert!(catalog.counters().refused > 5, "{:?}", catalog.counters());
    let_pass(&bench, &catalog, "marker");
}

#[test]
fn file_over_the_limit_is_refused_unread() {
    let bench = Bench::new(&[("big.wasm", &vec![0; (4 << 20) + 1])]);
    let catalog = bench.open();
    let reason = refusal(&catalog, &bench.path("big.wasm")).unwrap();
    assert!(reason.contains("4194305") && reason.contains("4194304"), "{reason}");
    assert_eq!(catalog.plugins()[0].digest, None);
}

#[test]
fn two_files_of_one_name_name_both_and_the_first_stays() {
    let (first, second) = (plugin("a", "1.0.0"), plugin("a", "2.0.0"));
    let bench = Bench::new(&[("m.wasm", &first)]);
    let catalog = bench.watching();
    bench.write("b.wasm", &second);
    let reason = wait_for_refusal(&catalog, &bench.path("b.wasm"));
    for path in [bench.path("m.wasm"), bench.path("b.wasm")] {
        assert!(reason.contains(path.to_str().unwrap()), "{reason}");
    }
    assert_eq!(catalog.find("a", None).unwrap().digest, Digest::of(&first));
    // A new version of the first is still the first.
    let newer = plugin("a", "1.1.0");
    bench.replace("m.wasm", &newer);
    wait_for_digest(&catalog, "a", &newer);
    assert!(refusal(&catalog, &bench.path("b.wasm")).is_some());
    // With the first gone, the second is good.
    fs::remove_file(bench.path("m.wasm")).unwrap();
    wait_for_digest(&catalog, "a", &second);
    assert_eq!(refusal(&catalog, &bench.path("b.wasm")), None);
}

#[test]
fn file_renamed_within_the_directory_keeps_its_name() {
    let wasm = plugin("a", "1.0.0");
    let bench = Bench::new(&[("z.wasm", &wasm)]);
    let catalog = bench.watching();
    fs::rename(bench.path("z.wasm"), bench.path("b.wasm")).unwrap();
    wait(&catalog, "the new file is current", |catalog| {
        catalog.plugins().into_iter().find(|state| state.file == bench.path("b.wasm"))
    });
    assert_eq!((catalog.counters().refusals, catalog.counters().refused), (0, 0));
}

#[test]
fn files_that_swap_their_names_both_stay() {
    let (x, y) = (plugin("x", "1.0.0"), plugin("y", "1.0.0"));
    let bench = Bench::new(&[("a.wasm", &x), ("b.wasm", &y)]);
    let catalog = bench.watching();
    bench.replace("a.wasm", &y);
    bench.replace("b.wasm", &x);
    wait(&catalog, "both are where they are now", |catalog| {
        let at = |name: &str, file: &str| {
            let path = bench.path(file);
            catalog.plugins().iter().any(|state| state.name == name && state.file == path)
        };
        (at("x", "b.wasm") && at("y", "a.wasm") && catalog.counters().refused == 0).then_some(())
    });
    assert!(catalog.find("x", None).is_ok() && catalog.find("y", None).is_ok());
}

#[test]
fn trouble_of_the_host_passes_by_itself() {
    let wasm = plugin("a", "1.0.0");
    let mut bench = Bench::new(&[("a.wasm", &wasm)]);
    bench.options.compiler = bench.beside("compiler");
    let catalog = bench.watching();
    let error = catalog.find("a", None).unwrap_err().to_string();
    assert!(error.contains("compile process"), "{error}");
    symlink(COMPILER, bench.beside("compiler")).unwrap();
    // Nothing happens to the file: it is tried again every ten seconds.
    wait_for_digest(&catalog, "a", &wasm);
    assert_eq!(catalog.counters().refusals, 1);
}

/// Counts turns, takes no large files, and is shut when it is told to be.
#[derive(Debug, Default)]
struct Counting {
    turns: AtomicU64,
    over: AtomicU64,
    shut: AtomicBool,
}

impl CompileGate for Counting {
    fn takes(&self, bytes: u64) -> Result<(), String> {
        if bytes > 100_000 { Err(format!("{bytes} bytes are too many")) } else { Ok(()) }
    }

    fn takes_another(&self, there: u64) -> Result<(), String> {
        if there >= 1 { Err(format!("{there} are enough")) } else { Ok(()) }
    }

    fn begin(&self) -> Result<(), String> {
        if self.shut.load(Ordering::Relaxed) {
            return Err("no time is left".to_owned());
        }
        self.turns.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn end(&self, _cpu: Duration) {
        self.over.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_the_compiler_refused_costs_it_nothing_under_another_name() {
    let mut bench = Bench::new(&[("a.wasm", &plugin("a", "1.0.0"))]);
    let gate = Arc::new(Counting::default());
    bench.options.gate = gate.clone();
    bench.options.compile.wall = Duration::from_nanos(1);
    let catalog = bench.watching();
    assert!(wait_for_refusal(&catalog, &bench.path("a.wasm")).contains("took longer"));
    fs::remove_file(bench.path("a.wasm")).unwrap();
    bench.replace("b.wasm", &plugin("a", "1.0.0"));
    assert!(wait_for_refusal(&catalog, &bench.path("b.wasm")).contains("took longer"));
    assert_eq!((gate.turns.load(Ordering::Relaxed), gate.over.load(Ordering::Relaxed)), (1, 1));
}

#[test]
fn gate_that_is_shut_is_tried_again_and_a_file_that_it_does_not_take_is_not_compiled() {
    let mut large = plugin("large", "1.0.0");
    // A custom section of no meaning.
    large.extend([0, 0xc1, 0x9a, 0x0c, 1, b'x']);
    large.resize(large.len() + 200_000 - 1, 0);
    let mut bench = Bench::new(&[("large.wasm", &large), ("a.wasm", &plugin("a", "1.0.0"))]);
    let gate = Arc::new(Counting { shut: true.into(), ..Counting::default() });
    bench.options.gate = gate.clone();
    let catalog = bench.watching();
    let reason = wait_for_refusal(&catalog, &bench.path("large.wasm"));
    assert!(reason.contains("are too many"), "{reason}");
    assert!(wait_for_refusal(&catalog, &bench.path("a.wasm")).contains("no time is left"));
    gate.shut.store(false, Ordering::Relaxed);
    wait_for_digest(&catalog, "a", &plugin("a", "1.0.0"));
    assert_eq!(gate.turns.load(Ordering::Relaxed), gate.over.load(Ordering::Relaxed));
    assert_eq!(catalog.counters().compiles, 1);
}

#[test]
fn upload_of_one_plugin_more_than_the_gate_takes_is_refused_before_it_is_compiled() {
    let mut bench = Bench::new(&[]);
    let gate = Arc::new(Counting::default());
    bench.options.gate = gate.clone();
    let catalog = bench.watching();
    catalog.upload(None, plugin("a", "1.0.0"), None).unwrap();
    let more = catalog.upload(None, plugin("b", "1.0.0"), None).unwrap_err();
    assert!(matches!(&more, AddError::TooMany { reason } if reason == "1 are enough"), "{more}");
    assert_eq!(gate.turns.load(Ordering::Relaxed), 1);
    // Another version of one that is there is no further plugin.
    catalog.upload(None, plugin("a", "1.0.1"), None).unwrap();
}
