//! Pins, demotions and candidates: what a stream takes, also after the catalog is opened again.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use wasmill_catalog::{AddError, FindError, ShadowOf};
use wasmill_transform::Digest;

use crate::support::{Bench, plugin, state, wait_for_digest};

fn ran(wasm: &[u8]) -> BTreeMap<String, Digest> {
    BTreeMap::from([("a".to_owned(), Digest::of(wasm))])
}

#[test]
fn pinned_version_is_live_whatever_the_directory_has_also_after_reopening() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    let catalog = bench.watching();
    let pin = Digest::of(&old);
    catalog.decide("a", |control| control.pinned = Some(pin)).unwrap();
    bench.replace("a.wasm", &new);
    wait_for_digest(&catalog, "a", &new);
    assert_eq!(catalog.find_live("s", "a").unwrap().digest, pin);
    assert!(state(&catalog, pin).pinned && !state(&catalog, Digest::of(&new)).pinned);
    drop(catalog);

    let catalog = bench.open();
    assert_eq!(catalog.find_live("s", "a").unwrap().digest, pin);
    catalog.decide("a", |control| control.pinned = None).unwrap();
    drop(catalog);
    assert_eq!(bench.open().find_live("s", "a").unwrap().digest, Digest::of(&new));
}

#[test]
fn pinned_copy_that_is_gone_is_told_with_the_ways_out() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    let catalog = bench.open();
    catalog.decide("a", |control| control.pinned = Some(Digest::of(&old))).unwrap();
    drop(catalog);
    bench.replace("a.wasm", &new);
    let kept = bench.options.data_dir.join("plugins");
    fs::remove_file(kept.join(format!("sha256-{}.wasm", Digest::of(&old).hex()))).unwrap();
    let error = bench.open().find_live("s", "a").unwrap_err();
    assert!(matches!(&error, FindError::PinnedGone { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("versions-a.json") && text.contains("damaged"), "{text}");
    // One of the ways.
    bench.replace("a.wasm", &old);
    assert_eq!(bench.open().find_live("s", "a").unwrap().digest, Digest::of(&old));
}

#[test]
fn demoted_version_is_not_taken_again_by_its_stream_after_reopening() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    let catalog = bench.watching();
    catalog.note_running("s", &ran(&old)).unwrap();
    bench.replace("a.wasm", &new);
    wait_for_digest(&catalog, "a", &new);
    catalog.note_running("s", &ran(&new)).unwrap();
    catalog.decide("a", |control| control.demote(Digest::of(&new), "s", "it fails", 7)).unwrap();
    drop(catalog);

    let catalog = bench.open();
    assert_eq!(catalog.find_live("s", "a").unwrap().digest, Digest::of(&old));
    assert_eq!(catalog.find_live("other", "a").unwrap().digest, Digest::of(&new));
    let demoted = state(&catalog, Digest::of(&new)).demoted;
    assert_eq!((demoted[0].stream.as_str(), demoted[0].reason.as_str()), ("s", "it fails"));
    catalog.decide("a", |control| control.pardon(Digest::of(&new))).unwrap();
    assert_eq!(catalog.find_live("s", "a").unwrap().digest, Digest::of(&new));
}

#[test]
fn versions_that_streams_took_are_remembered_once_each_and_not_anew_at_every_start() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &new)]);
    for _ in 0..3 {
        let catalog = bench.open();
        // A stream that could not take the new one goes on with the old one.
        catalog.note_running("s", &ran(&old)).unwrap();
        catalog.note_running("t", &ran(&new)).unwrap();
        let live: Vec<Digest> = catalog.control("a").live.iter().map(|live| live.digest).collect();
        assert_eq!(live, [Digest::of(&old), Digest::of(&new)]);
        assert_eq!(catalog.control("a").rollback(), Some(Digest::of(&old)));
    }
}

#[test]
fn expire_keeps_what_is_pinned_or_shadowed_or_was_live() {
    let versions: Vec<Vec<u8>> = (0..24).map(|n| plugin("a", &format!("1.{n}.0"))).collect();
    let bench = Bench::new(&[("a.wasm", &versions[23])]);
    let catalog = bench.open();
    for version in &versions[..23] {
        catalog.add("a", version.clone()).unwrap();
    }
    let digest = |n: usize| Digest::of(&versions[n]);
    catalog
        .decide("a", |control| {
            control.pinned = Some(digest(0));
            control.shadow = Some(ShadowOf { digest: digest(1), sample_percent: 10 });
            control.went_live(digest(2), 1);
        })
        .unwrap();
    // Sixteen of the newest stay, and the current one; of the others none but those.
    assert_eq!(catalog.expire(&HashSet::new()).unwrap(), 24 - 16 - 1 - 3);
    for n in 0..3 {
        assert_eq!(catalog.find("a", Some(digest(n))).unwrap().digest, digest(n));
    }
    assert!(catalog.find("a", Some(digest(3))).is_err());
}

#[test]
fn candidate_is_one_more_version_and_nothing_takes_it() {
    let (current, candidate) = (plugin("a", "1.0.0"), plugin("a", "2.0.0"));
    let bench = Bench::new(&[("a.wasm", &current)]);
    let catalog = bench.open();
    let digest = catalog.add("a", candidate.clone()).unwrap();
    assert_eq!(digest, Digest::of(&candidate));
    assert_eq!(catalog.find_live("s", "a").unwrap().digest, Digest::of(&current));
    drop(catalog);
    assert_eq!(bench.open().find("a", Some(digest)).unwrap().manifest.version, "2.0.0");
}

#[test]
fn candidate_that_is_no_plugin_or_another_one_is_refused_without_a_trace() {
    let bench = Bench::new(&[("a.wasm", &plugin("a", "1.0.0"))]);
    let catalog = bench.open();
    let stored = bench.stored("plugins", "wasm").len();
    let garbage = catalog.add("a", b"#!/bin/sh".to_vec()).unwrap_err();
    assert!(matches!(&garbage, AddError::Refused { reason } if reason.contains("WebAssembly")), "{garbage}");
    let other = catalog.add("a", plugin("b", "1.0.0")).unwrap_err();
    assert!(matches!(&other, AddError::OtherName { actual, .. } if actual == "b"), "{other}");
    assert_eq!(bench.stored("plugins", "wasm").len(), stored);
    assert_eq!((catalog.knows("a"), catalog.knows("aa")), (Ok(()), Err(Some("a".to_owned()))));
}
