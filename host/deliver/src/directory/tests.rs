//! Moves into place: ours, foreign, vanished, out of the root, and what each costs in syncs.

use super::*;
use crate::staged::{meta, object_in};

struct Case {
    _directory: tempfile::TempDir,
    root: PathBuf,
    syncs: SyncCount,
    destination: Directory,
}

fn case() -> Case {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("deep/out");
    let syncs = SyncCount::default();
    let destination = Directory::open_blocking(&DirectoryConfig {
        root: root.clone(),
        syncs: syncs.clone(),
        threads: DirectoryThreads::default(),
    })
    .unwrap();
    Case { _directory: directory, root, syncs, destination }
}

impl Case {
    fn stage(&self, name: &str, body: &[u8]) -> (crate::ObjectMeta, PathBuf) {
        object_in(&self.destination.staging(), name, body)
    }

    fn deliver(&self, name: &str, body: &[u8]) -> Result<Delivered, DeliverError> {
        let (meta, path) = self.stage(name, body);
        self.destination.deliver_one(&Object { meta: &meta, body: &path })
    }
}

#[tokio::test]
async fn deliver_new_object_moves_body_and_makes_parents() {
    let case = case();
    let (meta, path) = case.stage("access/2026/a.ndjson", b"one\n");
    let delivered = case.destination.deliver(&Object { meta: &meta, body: &path }).await;
    assert_eq!(delivered, Ok(Delivered::Created));
    assert_eq!(fs::read(case.root.join("access/2026/a.ndjson")).unwrap(), b"one\n");
    assert!(!path.exists());
}

#[test]
fn deliver_syncs_new_parents_once_and_then_one_directory_per_object() {
    let case = case();
    let count = |names: &[&str]| {
        let before = case.syncs.get();
        for name in names {
            case.deliver(name, b"x").unwrap();
        }
        case.syncs.get() - before
    };
    // The root for `a`, `a` for `a/b`, `a/b` for the object.
    assert_eq!(count(&["a/b/1"]), 3);
    assert_eq!(count(&["a/b/2"]), 1);
    // `a` for `a/c`, and `a/c` for the object.
    assert_eq!(count(&["a/c/3"]), 2);
    assert_eq!(count(&["top"]), 1);
}

#[test]
fn deliver_parents_made_by_a_run_that_crashed_are_synced() {
    let case = case();
    fs::create_dir_all(case.root.join("a/b")).unwrap();
    let before = case.syncs.get();
    case.deliver("a/b/1", b"x").unwrap();
    assert_eq!(case.syncs.get() - before, 3);
}

#[test]
fn deliver_group_in_one_directory_shares_the_sync() {
    let case = case();
    case.deliver("a/0", b"x").unwrap();
    let staged: Vec<_> = (1..=10).map(|n| case.stage(&format!("a/{n}"), format!("{n}").as_bytes())).collect();
    let objects: Vec<_> = staged.iter().map(|(meta, body)| Object { meta, body }).collect();
    let before = case.syncs.get();
    let results = case.destination.deliver_blocking(&objects);
    assert!(results.iter().all(|result| *result == Ok(Delivered::Created)), "{results:?}");
    assert_eq!(case.syncs.get() - before, 1);
}

#[test]
fn deliver_group_with_one_bad_object_delivers_the_others() {
    let case = case();
    fs::write(case.root.join("b"), "foreign").unwrap();
    let staged: Vec<_> = ["a", "b", "../c", "d"].iter().map(|name| case.stage(name, b"mine")).collect();
    let objects: Vec<_> = staged.iter().map(|(meta, body)| Object { meta, body }).collect();
    let results = case.destination.deliver_blocking(&objects);
    assert_eq!(results[0], Ok(Delivered::Created));
    assert!(results[1].is_err() && results[2].is_err());
    assert_eq!(results[3], Ok(Delivered::Created));
}

#[test]
fn deliver_again_after_crash_before_mark_is_already_ours() {
    let case = case();
    let (meta, path) = case.stage("a/1", b"body");
    let object = Object { meta: &meta, body: &path };
    assert_eq!(case.destination.deliver_one(&object), Ok(Delivered::Created));
    assert_eq!(case.destination.deliver_one(&object), Ok(Delivered::AlreadyOurs));
    fs::write(&path, b"body").unwrap();
    assert_eq!(case.destination.deliver_one(&object), Ok(Delivered::AlreadyOurs));
    assert!(!path.exists(), "the second body is removed from staging");
}

#[test]
fn deliver_foreign_object_is_neither_overwritten_nor_skipped() {
    for foreign in ["other", "bodY"] {
        let case = case();
        fs::write(case.root.join("a"), foreign).unwrap();
        let error = case.deliver("a", b"body").unwrap_err();
        assert_eq!((error.fault, error.retry), (Fault::Foreign, Retry::Never));
        assert!(error.message.contains("foreign object"), "{error}");
        assert_eq!(fs::read_to_string(case.root.join("a")).unwrap(), foreign);
        assert!(case.destination.staging().join("a").exists(), "the body stays");
    }
}

#[test]
fn deliver_directory_or_link_under_the_name_is_foreign() {
    let case = case();
    fs::create_dir(case.root.join("a")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", case.root.join("b")).unwrap();
    fs::write(case.root.join("file"), "").unwrap();
    for name in ["a", "b", "file/c"] {
        let error = case.deliver(name, b"body").unwrap_err();
        assert_eq!(error.retry, Retry::Never, "{error:?}");
        assert!(error.message.contains("foreign"), "{error}");
    }
}

#[test]
fn deliver_body_gone_and_nothing_there_is_host_fault() {
    let case = case();
    let object_meta = meta("a", b"body");
    let body = case.destination.staging().join("never-written");
    let error = case.destination.deliver_one(&Object { meta: &object_meta, body: &body }).unwrap_err();
    assert_eq!((error.fault, error.retry), (Fault::Host, Retry::Never));
}

#[test]
fn deliver_link_out_of_the_root_refused_and_nothing_written() {
    let case = case();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), case.root.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../..", case.root.join("upward")).unwrap();
    for name in ["absolute/a", "upward/a", "absolute/new/a"] {
        let error = case.deliver(name, b"body").unwrap_err();
        assert_eq!(error.retry, Retry::Never, "{error:?}");
        assert!(error.message.contains("symbolic link"), "{error}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn deliver_link_inside_the_root_is_followed() {
    let case = case();
    fs::create_dir(case.root.join("real")).unwrap();
    std::os::unix::fs::symlink("real", case.root.join("link")).unwrap();
    case.deliver("link/a", b"body").unwrap();
    assert_eq!(fs::read(case.root.join("real/a")).unwrap(), b"body");
}

#[test]
fn deliver_names_that_lead_elsewhere_refused() {
    let case = case();
    let long = "x/".repeat(3000) + "y";
    for name in ["", "/etc/x", "../x", "a/../../x", "a//b", "a/", "./a", "a\0b", ".wasmill-staging/x", &long]
    {
        let object_meta = meta(name, b"body");
        let body = case.destination.staging().join("body");
        fs::write(&body, b"body").unwrap();
        let error = case.destination.deliver_one(&Object { meta: &object_meta, body: &body }).unwrap_err();
        assert_eq!((error.fault, error.retry), (Fault::Client, Retry::Never), "{name:?}");
        assert!(body.exists());
    }
}

#[test]
fn deliver_root_gone_waits_and_does_not_make_it_anew() {
    let case = case();
    let (meta, _) = case.stage("a", b"body");
    let away = case.root.with_file_name("unmounted");
    fs::rename(&case.root, &away).unwrap();
    let body = case.destination.staging().join("a");
    let error = case.destination.deliver_one(&Object { meta: &meta, body: &body }).unwrap_err();
    assert_eq!((error.fault, error.retry), (Fault::Destination, Retry::Later { after: None }));
    assert!(!case.root.exists());
    fs::rename(&away, &case.root).unwrap();
    assert_eq!(
        case.destination.deliver_one(&Object { meta: &meta, body: &body }),
        Ok(Delivered::Created),
        "it goes on without a restart"
    );
}

#[test]
fn deliver_directory_removed_by_someone_is_made_again() {
    let case = case();
    case.deliver("a/b/1", b"x").unwrap();
    fs::remove_dir_all(case.root.join("a")).unwrap();
    assert_eq!(case.deliver("a/b/2", b"x"), Ok(Delivered::Created));
}

#[test]
fn staging_directory_is_made_anew_with_its_root_on_the_same_disk_and_nowhere_else() {
    let case = case();
    case.deliver("a/b/1", b"one").unwrap();
    assert_eq!(case.destination.restage(), Ok(false));
    fs::remove_dir_all(&case.root).unwrap();
    let gone = case.destination.restage().unwrap_err();
    assert!(gone.message.contains("is missing") && gone.message.contains("No such file"), "{gone}");
    assert!(!case.root.exists());
    fs::create_dir(&case.root).unwrap();
    // The place where another disk is to be mounted.
    let device = case.destination.durable.root().device;
    case.destination.durable.were_on(device + 1);
    let elsewhere = case.destination.restage().unwrap_err();
    assert!(
        elsewhere.message.contains("another disk") && !case.destination.staging().exists(),
        "{elsewhere}"
    );
    case.destination.durable.were_on(device);
    let before = case.syncs.get();
    assert_eq!(case.destination.restage(), Ok(true));
    // The root's own entry, and that of the staging directory.
    assert_eq!(case.syncs.get() - before, 2);
    // Nothing below the new root is taken for durable: `a`, `a/b` and the object.
    let before = case.syncs.get();
    case.deliver("a/b/2", b"two").unwrap();
    assert_eq!(case.syncs.get() - before, 3);
}

#[test]
fn root_that_somebody_replaced_is_taken_with_its_staging_directory_and_nothing_in_it_for_durable() {
    let case = case();
    case.deliver("a/b/1", b"one").unwrap();
    let old = case.root.with_file_name("old");
    fs::rename(&case.root, &old).unwrap();
    fs::create_dir_all(case.root.join("a/b")).unwrap();
    // Without one the body cannot have come from it, and it may be the wrong directory.
    let (meta, body) = object_in(&old, "c/2", b"two");
    let error = case.destination.deliver_one(&Object { meta: &meta, body: &body }).unwrap_err();
    assert_eq!((error.fault, error.retry), (Fault::Destination, Retry::Later { after: None }), "{error}");
    assert!(error.message.contains("another than before") && !case.root.join("c").exists(), "{error}");
    fs::create_dir(case.destination.staging()).unwrap();
    let count = |name: &str| {
        let before = case.syncs.get();
        case.deliver(name, b"x").unwrap();
        case.syncs.get() - before
    };
    // The root for `a`, `a` for `a/b`, `a/b` for the object.
    assert_eq!((count("a/b/3"), count("a/b/4")), (3, 1));
    // And back: what was known of it has been forgotten.
    fs::rename(&case.root, case.root.with_file_name("new")).unwrap();
    fs::rename(&old, &case.root).unwrap();
    assert_eq!((count("a/b/5"), count("a/b/6")), (3, 1));
    // A disk that is known now is one on which the staging directory is made anew.
    fs::remove_dir(case.destination.staging()).unwrap();
    assert_eq!(case.destination.restage(), Ok(true));
}
