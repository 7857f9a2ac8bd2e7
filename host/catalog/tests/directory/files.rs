//! What counts as a plugin file, and what a catalog makes of a directory when it opens.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use wasmill_catalog::{Catalog, CatalogError, FindError, VersionState};
use wasmill_transform::Digest;

use crate::support::{Bench, nameless, plugin, refusal, state, wait, wait_for_digest};

#[test]
fn find_without_a_directory_names_it_until_there_is_one() {
    let bench = Bench::new(&[]);
    fs::remove_dir(&bench.options.plugin_dir).unwrap();
    let catalog = bench.open();
    let error = catalog.find("a", None).unwrap_err();
    assert!(matches!(error, FindError::NoDirectory { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(bench.options.plugin_dir.to_str().unwrap()), "{text}");
    assert!(text.contains("does not exist") && text.contains("NAME.wasm"), "{text}");
    catalog.start_watching().unwrap();
    fs::create_dir(&bench.options.plugin_dir).unwrap();
    let a = plugin("a", "1.0.0");
    fs::write(bench.path("a.wasm"), &a).unwrap();
    wait_for_digest(&catalog, "a", &a);
}

#[test]
fn version_that_a_stream_ran_is_remembered_and_kept_after_a_restart() {
    let versions: Vec<_> = (0..20).map(|n| plugin("a", &format!("1.0.{n}"))).collect();
    let bench = Bench::new(&[("a.wasm", &versions[0])]);
    let ran = BTreeMap::from([("a".to_owned(), Digest::of(&versions[0]))]);
    bench.open().note_running("events", &ran).unwrap();
    for version in &versions[1..] {
        fs::write(bench.path("a.wasm"), version).unwrap();
        drop(bench.open());
    }
    fs::write(bench.path("a.wasm"), b"half").unwrap();
    let catalog = bench.open();
    assert_eq!(
        catalog.expire(&HashSet::new()).unwrap(),
        3,
        "of 20: the newest 16 stay, and the one that ran"
    );
    assert!(catalog.find("a", None).is_err());
    assert_eq!(catalog.last_run("events", "a"), Some(ran["a"]));
    assert_eq!((catalog.last_run("events", "b"), catalog.last_run("other", "a")), (None, None));
    let kept = catalog.find("a", catalog.last_run("events", "a")).unwrap();
    assert_eq!(kept.digest, ran["a"]);
    let streams = |catalog: &Catalog| {
        catalog.plugins().into_iter().map(|state| state.streams).collect::<Vec<_>>().concat()
    };
    assert!(streams(&catalog).is_empty(), "it runs nowhere yet");
    catalog.note_running("events", &ran).unwrap();
    assert_eq!(streams(&catalog), ["events"]);
}

#[test]
fn stream_that_is_removed_leaves_nothing_to_the_next_of_its_name() {
    let version = plugin("a", "1.0.0");
    let bench = Bench::new(&[("a.wasm", &version)]);
    let digest = Digest::of(&version);
    let ran = BTreeMap::from([("a".to_owned(), digest)]);
    let catalog = bench.open();
    for stream in ["events", "other"] {
        catalog.note_running(stream, &ran).unwrap();
        catalog.decide("a", |control| control.demote(digest, stream, "fails", 1)).unwrap();
        catalog.note_probe(digest, stream, Err("fails".to_owned()));
    }
    catalog.forget_stream("events").unwrap();
    catalog.forget_stream("never").unwrap();
    let state = catalog.plugins().remove(0);
    assert_eq!(
        (state.streams, state.demoted.len(), state.probe_failures.len()),
        (vec!["other".to_owned()], 1, 1)
    );
    drop(catalog);
    let catalog = bench.open();
    assert_eq!((catalog.last_run("events", "a"), catalog.last_run("other", "a")), (None, Some(digest)));
    let control = catalog.control("a");
    assert!(!control.is_demoted("events", digest) && control.is_demoted("other", digest));
}

#[test]
fn open_loads_every_plugin_and_lists_the_bad_ones() {
    let (a, b) = (plugin("a", "1.0.0"), plugin("b", "2.0.0"));
    let bench =
        Bench::new(&[("a.wasm", &a), ("other.wasm", &b), ("bad.wasm", b"#!/bin/sh"), ("readme.md", b"hi")]);
    let catalog = bench.open();
    assert_eq!(catalog.find("a", None).unwrap().digest, Digest::of(&a));
    // The manifest's name counts, not the file's.
    assert_eq!(catalog.find("b", None).unwrap().digest, Digest::of(&b));
    assert!(matches!(catalog.find("other", None), Err(FindError::Missing { .. })));
    let error = catalog.find("bad", None).unwrap_err();
    assert!(matches!(&error, FindError::Refused { .. }));
    assert!(error.to_string().contains("bad.wasm") && error.to_string().contains("WebAssembly"), "{error}");

    let listed = catalog.plugins();
    let names: Vec<_> = listed.iter().map(|state| (state.name.as_str(), &state.state)).collect();
    assert_eq!(names[0], ("a", &VersionState::Current));
    assert_eq!(names[1], ("b", &VersionState::Current));
    assert!(matches!(names[2], ("bad", VersionState::Refused { .. })));
    assert_eq!(names.len(), 3);
    assert_eq!(listed[1].file, bench.path("other.wasm"));
    assert_eq!(listed[1].version.as_deref(), Some("2.0.0"));
    assert_eq!(listed[1].bytes, b.len() as u64);
    assert!(listed[1].loaded_at_ms.is_some() && listed[1].compile_ms.is_some());
    let counters = catalog.counters();
    assert_eq!((counters.compiles, counters.cache_hits, counters.reloads), (2, 0, 0));
    assert_eq!((counters.current, counters.refused, counters.refusals), (2, 1, 1));
}

#[test]
fn state_is_one_flat_json_object() {
    let a = plugin("a", "1.0.0");
    let bench = Bench::new(&[("a.wasm", &a), ("bad.wasm", b"no")]);
    let json = serde_json::to_value(bench.open().plugins()).unwrap();
    assert_eq!(json[0]["state"], "current");
    assert_eq!(json[0]["digest"], Digest::of(&a).to_string());
    assert_eq!(json[1]["state"], "refused");
    assert!(json[1]["reason"].as_str().unwrap().contains("WebAssembly"), "{json}");
}

#[test]
fn open_second_time_compiles_nothing() {
    let (a, b) = (plugin("a", "1.0.0"), plugin("b", "1.0.0"));
    let bench = Bench::new(&[("a.wasm", &a), ("b.wasm", &b)]);
    assert_eq!(bench.open().counters().compiles, 2);
    let catalog = bench.open();
    assert_eq!((catalog.counters().compiles, catalog.counters().cache_hits), (0, 2));
    assert_eq!(state(&catalog, Digest::of(&a)).compile_ms, None);
    assert!(catalog.find("a", None).is_ok() && catalog.find("b", None).is_ok());
}

#[test]
fn open_for_some_finds_the_others_too() {
    let (a, b, c) = (plugin("a", "1.0.0"), plugin("b", "1.0.0"), plugin("c", "1.0.0"));
    let bench = Bench::new(&[("a.wasm", &a), ("x.wasm", &b), ("c.wasm", &c)]);
    let catalog = bench.open_for(&[("c".to_owned(), None)]);
    for (name, wasm) in [("a", &a), ("b", &b), ("c", &c)] {
        assert_eq!(catalog.find(name, None).unwrap().digest, Digest::of(wasm));
    }
    assert!(matches!(catalog.find("d", None), Err(FindError::Missing { .. })));
    // What is wanted may be in a file of any name.
    let catalog = bench.open_for(&[("b".to_owned(), None)]);
    assert_eq!(catalog.find("b", None).unwrap().digest, Digest::of(&b));
}

#[test]
fn open_damaged_code_is_compiled_again() {
    let a = plugin("a", "1.0.0");
    let bench = Bench::new(&[("a.wasm", &a)]);
    drop(bench.open());
    let code = bench.stored("code", "cwasm").pop().unwrap();
    let mut bytes = fs::read(&code).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&code, &bytes).unwrap();
    let catalog = bench.open();
    assert_eq!((catalog.counters().compiles, catalog.counters().cache_hits), (1, 0));
    assert!(catalog.find("a", None).is_ok());
    drop(catalog);
    let catalog = bench.open();
    assert_eq!((catalog.counters().compiles, catalog.counters().cache_hits), (0, 1));
}

#[test]
fn file_without_manifest_is_named_after_itself() {
    let bench = Bench::new(&[("my_plugin-2.wasm", &nameless()), ("bad name.wasm", &nameless())]);
    let catalog = bench.open();
    let found = catalog.find("my_plugin-2", None).unwrap();
    assert_eq!(found.name, "my_plugin-2");
    // It asks for nothing, so the operator's grants are not checked against it.
    assert!(found.manifest.name.is_empty());
    let reason = refusal(&catalog, &bench.path("bad name.wasm")).unwrap();
    assert!(reason.contains("letters, digits"), "{reason}");
}

#[test]
fn hidden_and_temporary_files_are_no_plugins() {
    let a = plugin("a", "1.0.0");
    let bench =
        Bench::new(&[(".a.wasm", &a), ("a.wasm.tmp", &a), ("a.tmp", &a), ("a.txt", &a), ("a.json", b"{")]);
    let catalog = bench.open();
    assert_eq!(catalog.plugins(), []);
}

#[test]
fn find_misspelt_name_tells_the_directory_and_the_nearest_name() {
    let bench = Bench::new(&[("parse.wasm", &plugin("parse", "1.0.0"))]);
    let catalog = bench.open();
    let error = catalog.find("prase", None).unwrap_err();
    let directory = bench.options.plugin_dir.clone();
    let text = error.to_string();
    assert!(text.contains(directory.to_str().unwrap()) && text.contains("\"parse\""), "{text}");
    let nearest = Some("parse".to_owned());
    assert_eq!(error, FindError::Missing { name: "prase".to_owned(), directory: directory.clone(), nearest });
    let error = catalog.find("filter", None).unwrap_err();
    assert!(matches!(error, FindError::Missing { nearest: None, .. }));
}

#[test]
fn catalog_dropped_ends_its_thread() {
    let bench = Bench::new(&[("a.wasm", &plugin("a", "1.0.0"))]);
    let catalog = bench.watching();
    let (mut changes, clone) = (catalog.changes(), catalog.clone());
    drop(catalog);
    assert!(clone.find("a", None).is_ok());
    drop(clone);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // The last sender is the thread's.
    let ended = async { while changes.changed().await.is_ok() {} };
    let waited = async { tokio::time::timeout(std::time::Duration::from_secs(30), ended).await };
    runtime.block_on(waited).unwrap();
}

#[test]
fn directory_with_too_many_files_is_an_error_at_start_and_bounded_later() {
    let a = plugin("a", "1.0.0");
    let bench = Bench::new(&[("a.wasm", &a)]);
    let catalog = bench.watching();
    for number in 0..4200 {
        bench.write(&format!("f{number}.wasm"), b"");
    }
    wait(&catalog, "the directory is full", |catalog| (catalog.counters().refused >= 4095).then_some(()));
    let error = bench.try_open().err().unwrap();
    assert!(matches!(error, CatalogError::TooManyFiles { max: 4096, .. }), "{error}");
    // A file that is known still changes.
    let newer = plugin("a", "1.1.0");
    bench.replace("a.wasm", &newer);
    wait_for_digest(&catalog, "a", &newer);
    assert_eq!(catalog.counters().refused, 4095);
    // With room again, new ones are taken.
    for number in 0..4200 {
        fs::remove_file(bench.path(&format!("f{number}.wasm"))).unwrap();
    }
    let b = plugin("b", "1.0.0");
    bench.replace("b.wasm", &b);
    wait_for_digest(&catalog, "b", &b);
    wait(&catalog, "the others are forgotten", |catalog| (catalog.counters().refused == 0).then_some(()));
}
