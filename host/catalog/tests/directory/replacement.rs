//! A file changes while the catalog watches.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use wasmill_catalog::{FindError, VersionState};
use wasmill_transform::Digest;

use crate::support::{
    Bench, let_pass, opened, plugin, refusal, state, wait, wait_for_digest, wait_for_refusal,
};

#[test]
fn file_renamed_over_another_takes_over() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    let catalog = bench.watching();
    let before = catalog.find("a", None).unwrap();
    bench.replace("a.wasm", &new);
    let after = wait_for_digest(&catalog, "a", &new);
    assert_eq!((before.digest, after.manifest.version.as_str()), (Digest::of(&old), "1.1.0"));
    assert_eq!(state(&catalog, Digest::of(&new)).state, VersionState::Current);
    assert_eq!(state(&catalog, Digest::of(&old)).state, VersionState::Kept);
    let counters = catalog.counters();
    assert_eq!((counters.reloads, counters.refusals, counters.compiles), (1, 0, 2));
    assert!(!counters.polling);
}

#[test]
fn file_that_appears_is_found() {
    let bench = Bench::new(&[]);
    let catalog = bench.watching();
    assert!(matches!(catalog.find("a", None), Err(FindError::Missing { .. })));
    let wasm = plugin("a", "1.0.0");
    bench.write("a.wasm", &wasm);
    wait_for_digest(&catalog, "a", &wasm);
}

#[test]
fn file_written_in_place_slowly_is_taken_when_it_is_closed() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    let catalog = bench.watching();
    let mut file = opened(&bench.path("a.wasm"));
    for (number, piece) in new.chunks(new.len().div_ceil(4)).enumerate() {
        file.write_all(piece).unwrap();
        file.flush().unwrap();
        let_pass(&bench, &catalog, &format!("m{number}"));
        assert_eq!(catalog.find("a", None).unwrap().digest, Digest::of(&old));
    }
    drop(file);
    wait_for_digest(&catalog, "a", &new);
}

#[test]
fn file_closed_half_written_is_refused_until_it_is_whole() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    let catalog = bench.watching();
    let mut written = 0;
    for piece in new.chunks(new.len().div_ceil(3)) {
        // As `cat piece >> a.wasm` does.
        written += piece.len();
        bench.write("a.wasm", &new[..written]);
        if written < new.len() {
            let wanted = Digest::of(&new[..written]);
            wait(&catalog, "the piece is refused", |catalog| {
                let refused = |state: &VersionState| matches!(state, VersionState::Refused { .. });
                catalog.plugins().into_iter().find(|is| is.digest == Some(wanted) && refused(&is.state))
            });
            assert_eq!(catalog.find("a", None).unwrap().digest, Digest::of(&old));
        }
    }
    wait_for_digest(&catalog, "a", &new);
    assert_eq!(refusal(&catalog, &bench.path("a.wasm")), None);
}

#[test]
fn two_hundred_quick_replacements_end_on_the_last() {
    let versions: Vec<_> = (0..200).map(|number| plugin("a", &format!("1.0.{number}"))).collect();
    let bench = Bench::new(&[("a.wasm", &versions[0])]);
    let catalog = bench.watching();
    for (number, wasm) in versions.iter().enumerate() {
        if number % 2 == 0 {
            bench.replace("a.wasm", wasm);
        } else {
            bench.write("a.wasm", wasm);
        }
    }
    wait_for_digest(&catalog, "a", versions.last().unwrap());
    let_pass(&bench, &catalog, "marker");
    assert_eq!(catalog.find("a", None).unwrap().digest, Digest::of(versions.last().unwrap()));
    assert_eq!(refusal(&catalog, &bench.path("a.wasm")), None);
    // The marker is one; that not every step was compiled is the point of waiting for a file to settle.
    assert!(catalog.counters().reloads < 100, "{:?}", catalog.counters());
}

#[test]
fn file_rewritten_with_the_same_bytes_changes_nothing() {
    let wasm = plugin("a", "1.0.0");
    let bench = Bench::new(&[("a.wasm", &wasm)]);
    let catalog = bench.watching();
    let before = catalog.find("a", None).unwrap();
    bench.write("a.wasm", &wasm);
    bench.replace("a.wasm", &wasm);
    let_pass(&bench, &catalog, "marker");
    assert!(Arc::ptr_eq(&before, &catalog.find("a", None).unwrap()));
    assert_eq!(catalog.counters().reloads, 1);
}

#[test]
fn file_removed_stays_in_use_until_the_next_start() {
    let wasm = plugin("parse", "1.0.0");
    let bench = Bench::new(&[("parse.wasm", &wasm)]);
    let catalog = bench.watching();
    fs::remove_file(bench.path("parse.wasm")).unwrap();
    let digest = Digest::of(&wasm);
    wait(&catalog, "the removal is seen", |catalog| {
        (state(catalog, digest).state == VersionState::Removed).then_some(())
    });
    let before = catalog.find("parse", None).unwrap();
    assert_eq!(before.digest, digest);
    // Put back, it is the same plugin as before.
    bench.replace("parse.wasm", &wasm);
    wait(&catalog, "the file is back", |catalog| {
        (state(catalog, digest).state == VersionState::Current).then_some(())
    });
    assert!(Arc::ptr_eq(&before, &catalog.find("parse", None).unwrap()));
    assert_eq!(catalog.counters().reloads, 0);

    fs::remove_file(bench.path("parse.wasm")).unwrap();
    let catalog = bench.open();
    assert!(matches!(catalog.find("parse", None), Err(FindError::Missing { .. })));
    assert_eq!(state(&catalog, digest).state, VersionState::Kept);
    assert_eq!(catalog.find("parse", Some(digest)).unwrap().digest, digest);
}

#[test]
fn directory_deleted_and_made_again_is_followed() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    let catalog = bench.watching();
    fs::remove_dir_all(&bench.options.plugin_dir).unwrap();
    wait(&catalog, "the removal is seen", |catalog| {
        (state(catalog, Digest::of(&old)).state == VersionState::Removed).then_some(())
    });
    assert_eq!(catalog.find("a", None).unwrap().digest, Digest::of(&old));
    fs::create_dir(&bench.options.plugin_dir).unwrap();
    bench.write("a.wasm", &new);
    wait_for_digest(&catalog, "a", &new);
    // And it is watched again.
    bench.replace("a.wasm", &old);
    wait_for_digest(&catalog, "a", &old);
    assert!(!catalog.counters().polling);
}

#[test]
fn directory_replaced_by_another_is_followed() {
    let (old, new, newest) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"), plugin("a", "1.2.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    let catalog = bench.watching();
    let staged = bench.beside("staged");
    fs::create_dir(&staged).unwrap();
    fs::write(staged.join("a.wasm"), &new).unwrap();
    fs::rename(&bench.options.plugin_dir, bench.beside("old")).unwrap();
    fs::rename(&staged, &bench.options.plugin_dir).unwrap();
    wait_for_digest(&catalog, "a", &new);
    // What happens in the directory that was moved away does not count.
    fs::write(bench.beside("old").join("b.wasm"), plugin("b", "1.0.0")).unwrap();
    bench.replace("a.wasm", &newest);
    wait_for_digest(&catalog, "a", &newest);
    assert!(matches!(catalog.find("b", None), Err(FindError::Missing { .. })));
}

#[test]
fn directory_as_a_symbolic_link_that_is_switched_is_followed() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let mut bench = Bench::new(&[("a.wasm", &old)]);
    let link = bench.beside("link");
    std::os::unix::fs::symlink(&bench.options.plugin_dir, &link).unwrap();
    bench.options.plugin_dir = link.clone();
    let catalog = bench.watching();
    let release = bench.beside("release-2");
    fs::create_dir(&release).unwrap();
    fs::write(release.join("a.wasm"), &new).unwrap();
    std::os::unix::fs::symlink(&release, bench.beside("link.new")).unwrap();
    fs::rename(bench.beside("link.new"), &link).unwrap();
    wait_for_digest(&catalog, "a", &new);
}

#[test]
fn polling_sees_replacements_too() {
    let (old, new) = (plugin("a", "1.0.0"), plugin("a", "1.1.0"));
    let bench = Bench::new(&[("a.wasm", &old)]);
    let catalog = bench.open();
    catalog.start_polling().unwrap();
    assert!(catalog.counters().polling);
    bench.write("a.wasm", &new);
    wait_for_digest(&catalog, "a", &new);
    bench.write("b.wasm", b"no plugin");
    wait_for_refusal(&catalog, &bench.path("b.wasm"));
    fs::remove_file(bench.path("b.wasm")).unwrap();
    wait(&catalog, "the removal is seen", |catalog| {
        refusal(catalog, &bench.path("b.wasm")).is_none().then_some(())
    });
}
