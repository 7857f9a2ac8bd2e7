//! `NAME.json` beside `NAME.wasm`.

use std::fs;
use std::sync::Arc;

use wasmill_catalog::FindError;
use wasmill_transform::Digest;

use crate::support::{Bench, manifest, plugin, refusal, state, wait, wait_for_digest, wait_for_refusal};

const NARROW: &[u8] = br#"{"limits": {"memory_bytes": 1048576}, "grants": {"secrets": []}}"#;

#[test]
fn sidecar_narrows_and_its_changes_are_changes_of_the_plugin() {
    let wasm = plugin("a", "1.0.0");
    let bench = Bench::new(&[("x.wasm", &wasm)]);
    let catalog = bench.watching();
    let wide = catalog.find("a", None).unwrap();
    assert_eq!(wide.manifest, manifest("a", "1.0.0"));

    bench.write("x.json", NARROW);
    let narrow = wait(&catalog, "it is narrowed", |catalog| {
        catalog.find("a", None).ok().filter(|plugin| plugin.manifest.limits.memory_bytes == Some(1 << 20))
    });
    assert!(narrow.manifest.grants.secrets.is_empty());
    assert_eq!(narrow.manifest.grants.files, ["table"]);
    assert_eq!(narrow.digest, wide.digest);
    assert!(state(&catalog, wide.digest).narrowed);

    fs::remove_file(bench.path("x.json")).unwrap();
    let again = wait(&catalog, "it is wide again", |catalog| {
        catalog.find("a", None).ok().filter(|plugin| plugin.manifest == wide.manifest)
    });
    assert!(!Arc::ptr_eq(&narrow, &again));
    assert!(!state(&catalog, wide.digest).narrowed);
    assert_eq!((catalog.counters().compiles, catalog.counters().reloads), (1, 2));
}

#[test]
fn sidecar_that_widens_is_refused_and_the_plugin_before_stays() {
    let wasm = plugin("a", "1.0.0");
    let bench = Bench::new(&[("x.wasm", &wasm), ("x.json", NARROW)]);
    let catalog = bench.watching();
    let before = catalog.find("a", None).unwrap();
    assert_eq!(before.manifest.limits.memory_bytes, Some(1 << 20));
    bench.write("x.json", br#"{"grants": {"secrets": ["key", "root"]}}"#);
    let reason = wait_for_refusal(&catalog, &bench.path("x.wasm"));
    assert!(reason.contains("x.json") && reason.contains("\"root\""), "{reason}");
    assert!(Arc::ptr_eq(&before, &catalog.find("a", None).unwrap()));
    bench.write("x.json", b"{\"limits\":");
    wait(&catalog, "the cut sidecar is refused", |catalog| {
        refusal(catalog, &bench.path("x.wasm")).filter(|reason| reason.contains("EOF"))
    });
    assert!(Arc::ptr_eq(&before, &catalog.find("a", None).unwrap()));
    // A new version waits for a good sidecar too.
    let newer = plugin("a", "1.1.0");
    bench.replace("x.wasm", &newer);
    wait(&catalog, "the new version is refused", |catalog| {
        catalog.plugins().into_iter().find(|state| state.digest == Some(Digest::of(&newer)))
    });
    assert!(Arc::ptr_eq(&before, &catalog.find("a", None).unwrap()));
    bench.write("x.json", b"{}");
    wait_for_digest(&catalog, "a", &newer);
}

#[test]
fn sidecar_narrows_pinned_versions_as_well() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    let catalog = bench.watching();
    bench.replace("a.wasm", &new);
    wait_for_digest(&catalog, "a", &new);
    let pin = Some(Digest::of(&old));
    let wide = catalog.find("a", pin).unwrap();
    assert_eq!(wide.manifest.grants.secrets, ["key"]);
    bench.write("a.json", NARROW);
    let narrow = wait(&catalog, "the pinned version is narrowed", |catalog| {
        catalog.find("a", pin).ok().filter(|plugin| plugin.manifest.grants.secrets.is_empty())
    });
    assert_eq!((narrow.digest, narrow.manifest.version.as_str()), (wide.digest, "1.0.0"));
    // Found again, it is the same one.
    assert!(Arc::ptr_eq(&narrow, &catalog.find("a", pin).unwrap()));
}

#[test]
fn sidecar_bad_at_start_keeps_pinned_versions_back() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    drop(bench.open());
    bench.replace("a.wasm", &new);
    bench.write("a.json", b"[]");
    let catalog = bench.open();
    for digest in [None, Some(Digest::of(&old)), Some(Digest::of(&new))] {
        let error = catalog.find("a", digest).unwrap_err();
        assert!(matches!(&error, FindError::Refused { reason, .. } if reason.contains("a.json")), "{error}");
    }
}

#[test]
fn sidecar_of_a_file_that_is_refused_narrows_pinned_versions_all_the_same() {
    let wasm = plugin("a", "1.0.0");
    let bench = Bench::new(&[("a.wasm", &wasm)]);
    drop(bench.open());
    bench.write("a.json", NARROW);
    let too_large = vec![0; (4 << 20) + 1];
    for garbage in [&b"garbage"[..], &too_large] {
        bench.replace("a.wasm", garbage);
        let found = bench.open().find("a", Some(Digest::of(&wasm))).unwrap();
        assert!(found.manifest.grants.secrets.is_empty());
        assert_eq!(found.manifest.limits.memory_bytes, Some(1 << 20));
    }
}

#[test]
fn sidecar_that_cannot_be_read_is_refused_and_never_passed_over() {
    let wasm = plugin("a", "1.0.0");
    let bench = Bench::new(&[("x.wasm", &wasm)]);
    let catalog = bench.watching();
    bench.write("x.json", &vec![b' '; (1 << 20) + 1]);
    let reason = wait_for_refusal(&catalog, &bench.path("x.wasm"));
    assert!(reason.contains("x.json") && reason.contains("over the limit of 1048576"), "{reason}");
    let catalog = bench.open();
    for digest in [None, Some(Digest::of(&wasm))] {
        assert!(matches!(catalog.find("a", digest), Err(FindError::Refused { .. })));
    }
    fs::remove_file(bench.path("x.json")).unwrap();
    fs::create_dir(bench.path("x.json")).unwrap();
    let reason = refusal(&bench.open(), &bench.path("x.wasm")).unwrap();
    assert!(reason.contains("not a regular file"), "{reason}");
}
