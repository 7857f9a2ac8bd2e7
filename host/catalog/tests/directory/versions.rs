//! Versions by digest, after their file has been replaced.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use wasmill_catalog::{FindError, VersionState};
use wasmill_transform::Digest;

use crate::support::{Bench, nameless, plugin, state, wait_for_digest};

#[test]
fn pinned_version_is_found_after_replacement_and_after_reopening() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    let catalog = bench.watching();
    let before = catalog.find("a", None).unwrap();
    bench.replace("a.wasm", &new);
    wait_for_digest(&catalog, "a", &new);
    let pin = Some(Digest::of(&old));
    // While somebody uses it there is only one.
    assert!(Arc::ptr_eq(&before, &catalog.find("a", pin).unwrap()));
    drop(before);
    assert_eq!(catalog.find("a", pin).unwrap().digest, Digest::of(&old));
    drop(catalog);

    let catalog = bench.open();
    let found = catalog.find("a", pin).unwrap();
    assert_eq!((found.digest, found.manifest.version.as_str()), (Digest::of(&old), "1.0.0"));
    assert_eq!(catalog.find("a", None).unwrap().digest, Digest::of(&new));
    assert_eq!(catalog.counters().compiles, 0);
    // Nothing but the copy is needed.
    fs::remove_dir_all(bench.options.data_dir.join("code")).unwrap();
    let catalog = bench.open();
    assert_eq!(catalog.find("a", pin).unwrap().digest, Digest::of(&old));
    assert_eq!(catalog.counters().compiles, 2);
    assert!(state(&catalog, Digest::of(&old)).compile_ms.is_some());
}

#[test]
fn pin_that_is_nowhere_or_of_another_plugin_is_told_apart() {
    let (a, b) = (plugin("a", "1.0.0"), plugin("b", "1.0.0"));
    let bench = Bench::new(&[("a.wasm", &a), ("b.wasm", &b)]);
    let catalog = bench.open();
    let nowhere = Digest::of(b"nowhere");
    let error = catalog.find("a", Some(nowhere)).unwrap_err();
    assert!(matches!(&error, FindError::NoSuchVersion { .. }));
    let text = error.to_string();
    assert!(text.contains(&nowhere.to_string()) && text.contains("plugins"), "{text}");
    let error = catalog.find("a", Some(Digest::of(&b))).unwrap_err();
    assert!(matches!(&error, FindError::OtherName { actual, .. } if actual == "b"), "{error}");
}

#[test]
fn pinned_copy_that_is_damaged_is_missing_and_never_loaded() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    drop(bench.open());
    bench.replace("a.wasm", &new);
    let copy = bench.options.data_dir.join("plugins").join(format!("sha256-{}.wasm", Digest::of(&old).hex()));
    assert_eq!(fs::read(&copy).unwrap(), old);
    fs::write(&copy, plugin("a", "6.6.6")).unwrap();
    let catalog = bench.open();
    let error = catalog.find("a", Some(Digest::of(&old))).unwrap_err();
    assert!(matches!(error, FindError::NoSuchVersion { .. }), "{error}");
}

#[test]
fn version_without_manifest_is_found_by_both_its_names() {
    let wasm = nameless();
    let bench = Bench::new(&[("a.wasm", &wasm), ("b.wasm", &wasm)]);
    drop(bench.open());
    fs::remove_file(bench.path("a.wasm")).unwrap();
    fs::remove_file(bench.path("b.wasm")).unwrap();
    let catalog = bench.open();
    for name in ["a", "b"] {
        assert_eq!(catalog.find(name, Some(Digest::of(&wasm))).unwrap().name, name);
    }
    assert!(matches!(catalog.find("c", Some(Digest::of(&wasm))), Err(FindError::OtherName { .. })));
}

#[test]
fn expire_keeps_the_newest_and_what_is_needed_or_in_use() {
    let versions: Vec<_> = (0..20).map(|number| plugin("a", &format!("1.0.{number}"))).collect();
    let digest = |number: usize| Digest::of(&versions[number]);
    let bench = Bench::new(&[("a.wasm", &versions[0])]);
    let catalog = bench.watching();
    for wasm in &versions {
        bench.replace("a.wasm", wasm);
        wait_for_digest(&catalog, "a", wasm);
    }
    // 20 versions: 4 to 19 are the newest 16; of the others one is pinned and one is used by a stream.
    let used = catalog.find("a", Some(digest(2))).unwrap();
    let needed = HashSet::from([digest(1)]);
    assert_eq!(catalog.expire(&needed).unwrap(), 2);
    for number in 0..20 {
        let found = catalog.find("a", Some(digest(number)));
        assert_eq!(found.is_ok(), ![0, 3].contains(&number), "{number}");
    }
    assert_eq!(bench.stored("plugins", "wasm").len(), 18);
    assert_eq!(bench.stored("plugins", "json").len(), 18);
    assert_eq!(bench.stored("code", "cwasm").len(), 18);
    drop(used);
    assert_eq!(catalog.expire(&HashSet::new()).unwrap(), 2);
    assert_eq!(catalog.expire(&HashSet::new()).unwrap(), 0);
    // One that was taken away comes back with its file.
    bench.replace("a.wasm", &versions[0]);
    wait_for_digest(&catalog, "a", &versions[0]);
    assert_eq!(state(&catalog, digest(0)).state, VersionState::Current);
}

#[test]
fn probe_that_failed_is_shown_until_it_passes() {
    let wasm = plugin("a", "1.0.0");
    let bench = Bench::new(&[("a.wasm", &wasm)]);
    let catalog = bench.open();
    let digest = Digest::of(&wasm);
    catalog.note_probe(digest, "orders", Err("no such field".to_owned()));
    catalog.note_probe(digest, "clicks", Ok(()));
    catalog.note_probe(Digest::of(b"unknown"), "orders", Err("ignored".to_owned()));
    let failures = state(&catalog, digest).probe_failures;
    assert_eq!(failures.len(), 1);
    assert_eq!((failures[0].stream.as_str(), failures[0].reason.as_str()), ("orders", "no such field"));
    catalog.note_probe(digest, "orders", Ok(()));
    assert!(state(&catalog, digest).probe_failures.is_empty());
    for number in 0..5000 {
        catalog.note_probe(digest, &format!("s{number}"), Err("no".to_owned()));
    }
    assert_eq!(state(&catalog, digest).probe_failures.len(), 1024);
}
