//! Copies of every plugin file that was accepted, by digest, so that pins and unfinished streams find it later.
//!
//! `sha256-<hex>.wasm` is the file, byte for byte; `sha256-<hex>.json` says under which names it was accepted, and its
//! time of modification when last; `sha256-<hex>.sig`, if there is one, its signatures. They come by temporary file, sync and rename, the note first. What is read is checked
//! against its digest: a damaged copy counts as missing. `stream-<name>.json` says which versions a stream ran last,
//! `versions-<name>.json` what was decided about the versions of a plugin. It never removes anything by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use wasmill_transform::Digest;

use crate::control::Control;
use crate::known::Ran;
use crate::signing::SIGNATURE_BYTES_MAX;

const PREFIX: &str = "sha256-";
const RAN_PREFIX: &str = "stream-";
const CONTROL_PREFIX: &str = "versions-";
const TEMPORARY: &str = ".new-";
const NOTE_BYTES_MAX: u64 = 64 << 10;
const CONTROL_BYTES_MAX: u64 = 1 << 20;
/// A temporary file of this age was left by a process that died.
const TEMPORARY_AGE: Duration = Duration::from_secs(3600);

/// What is known of a copy without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// More than one only for files without a manifest.
    pub(crate) names: BTreeSet<String>,
    /// The manifest's.
    pub(crate) version: Option<String>,
}

/// One kept copy.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) digest: Digest,
    pub(crate) note: Note,
    pub(crate) bytes: u64,
    pub(crate) accepted: SystemTime,
}

/// The directory of copies.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
}

/// Why a copy could not be kept, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}")]
pub(crate) struct StoreError {
    pub(crate) action: &'static str,
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError { action, path: path.to_owned(), source }
}

impl Store {
    pub(crate) fn open(directory: PathBuf) -> Result<Store, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed("create directory", &directory))?;
        Ok(Store { directory })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn path(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{PREFIX}{}.wasm", digest.hex()))
    }

    fn note_path(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{PREFIX}{}.json", digest.hex()))
    }

    fn signature_path(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{PREFIX}{}.sig", digest.hex()))
    }

    /// Keeps the signatures of a copy. Durable when it returns.
    pub(crate) fn put_signature(&self, digest: Digest, signature: &[u8]) -> Result<(), StoreError> {
        if self.signature(digest)?.as_deref() == Some(signature) {
            return Ok(());
        }
        self.publish(&self.signature_path(digest), signature)?;
        let directory = &self.directory;
        File::open(directory).and_then(|file| file.sync_all()).map_err(failed("sync", directory))
    }

    /// The signatures that were kept with a copy.
    pub(crate) fn signature(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.signature_path(digest);
        match File::open(&path) {
            Ok(file) => {
                let mut signature = Vec::new();
                let read = file.take(SIGNATURE_BYTES_MAX + 1).read_to_end(&mut signature);
                read.map(|_| Some(signature)).map_err(failed("read", &path))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", &path)(error)),
        }
    }

    /// Every copy that has a note. Also sweeps what dead processes left.
    pub(crate) fn list(&self) -> Result<Vec<Kept>, StoreError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed("list", &self.directory))? {
            let entry = entry.map_err(failed("list", &self.directory))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(TEMPORARY) {
                sweep(&entry.path());
                continue;
            }
            let digest = name
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.strip_suffix(".wasm"))
                .and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let Some(digest) = digest else { continue };
            let (Ok(wasm), Ok((note, accepted))) = (entry.metadata(), self.note(digest)) else { continue };
            found.push(Kept { digest, note, bytes: wasm.len(), accepted });
        }
        Ok(found)
    }

    fn note(&self, digest: Digest) -> io::Result<(Note, SystemTime)> {
        let file = File::open(self.note_path(digest))?;
        let accepted = file.metadata()?.modified()?;
        let mut json = Vec::new();
        file.take(NOTE_BYTES_MAX).read_to_end(&mut json)?;
        Ok((serde_json::from_slice(&json)?, accepted))
    }

    /// Keeps a copy and notes the name. Durable when it returns.
    pub(crate) fn put(
        &self,
        digest: Digest,
        wasm: &[u8],
        name: &str,
        version: Option<&str>,
    ) -> Result<(), StoreError> {
        let note_path = self.note_path(digest);
        let note = self.note(digest).map(|(note, _)| note).unwrap_or_default();
        let whole = fs::metadata(self.path(digest)).is_ok_and(|metadata| metadata.len() == wasm.len() as u64)
            && self.get(digest).is_ok_and(|copy| copy.is_some());
        if whole && note.names.contains(name) {
            // Only newer than before; the order of versions survives a crash or it does not.
            return File::open(&note_path)
                .and_then(|file| file.set_modified(SystemTime::now()))
                .map_err(failed("set the time of", &note_path));
        }
        let mut note = Note { version: version.map(str::to_owned), ..note };
        note.names.insert(name.to_owned());
        let json = serde_json::to_vec(&note)
            .map_err(|error| failed("write", &note_path)(io::Error::other(error)))?;
        self.publish(&note_path, &json)?;
        if !whole {
            self.publish(&self.path(digest), wasm)?;
        }
        let directory = &self.directory;
        File::open(directory).and_then(|file| file.sync_all()).map_err(failed("sync", directory))
    }

    /// Notes which versions a stream runs. Durable when it returns.
    pub(crate) fn put_ran(&self, stream: &str, ran: &Ran) -> Result<(), StoreError> {
        let path = self.directory.join(format!("{RAN_PREFIX}{stream}.json"));
        self.put_note(&path, ran)
    }

    /// Forgets which versions a stream ran. Durable when it returns.
    pub(crate) fn remove_ran(&self, stream: &str) -> Result<(), StoreError> {
        let path = self.directory.join(format!("{RAN_PREFIX}{stream}.json"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.map_err(failed("remove", &path))?,
        }
        let directory = &self.directory;
        File::open(directory).and_then(|file| file.sync_all()).map_err(failed("sync", directory))
    }

    /// Notes what was decided about a plugin's versions. Durable when it returns.
    pub(crate) fn put_control(&self, name: &str, control: &Control) -> Result<(), StoreError> {
        self.put_note(&self.control_path(name), control)
    }

    pub(crate) fn control_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{CONTROL_PREFIX}{name}.json"))
    }

    fn put_note(&self, path: &Path, note: &impl Serialize) -> Result<(), StoreError> {
        let json =
            serde_json::to_vec(note).map_err(|error| failed("write", path)(io::Error::other(error)))?;
        self.publish(path, &json)?;
        let directory = &self.directory;
        File::open(directory).and_then(|file| file.sync_all()).map_err(failed("sync", directory))
    }

    /// What was decided about the versions of each plugin. Without it a version could go live that nobody wants, so one
    /// that cannot be read is an error.
    pub(crate) fn controls(&self) -> Result<BTreeMap<String, Control>, StoreError> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.directory).map_err(failed("list", &self.directory))? {
            let entry = entry.map_err(failed("list", &self.directory))?;
            let name = entry.file_name();
            let plugin =
                name.to_str().and_then(|name| name.strip_prefix(CONTROL_PREFIX)?.strip_suffix(".json"));
            let Some(plugin) = plugin else { continue };
            let path = entry.path();
            let control = read_json(&path, CONTROL_BYTES_MAX).map_err(failed(
                "read which versions are pinned or demoted (without this file none is) in",
                &path,
            ))?;
            found.insert(plugin.to_owned(), control);
        }
        Ok(found)
    }

    /// Which versions each stream ran last. A note that cannot be read counts as missing.
    pub(crate) fn ran(&self) -> Result<BTreeMap<String, Ran>, StoreError> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.directory).map_err(failed("list", &self.directory))? {
            let entry = entry.map_err(failed("list", &self.directory))?;
            let name = entry.file_name();
            let stream = name.to_str().and_then(|name| name.strip_prefix(RAN_PREFIX)?.strip_suffix(".json"));
            let Some(stream) = stream else { continue };
            match read_json::<Ran>(&entry.path(), NOTE_BYTES_MAX) {
                Ok(ran) => drop(found.insert(stream.to_owned(), ran)),
                Err(error) => tracing::warn!(
                    file = %entry.path().display(), %error,
                    "which plugin versions a stream ran last cannot be read"
                ),
            }
        }
        Ok(found)
    }

    fn publish(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let written = (|| {
            let mut file = File::create_new(&temporary).map_err(failed("create", &temporary))?;
            file.write_all(bytes).map_err(failed("write", &temporary))?;
            file.sync_data().map_err(failed("sync", &temporary))?;
            fs::rename(&temporary, path).map_err(failed("rename to", path))
        })();
        if written.is_err() {
            // Whatever is left is only in the way; the error that counts is the first.
            let _ignored = fs::remove_file(&temporary);
        }
        written
    }

    /// The copy; `None` if there is none or it is damaged.
    pub(crate) fn get(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(digest);
        match fs::read(&path) {
            Ok(wasm) if Digest::of(&wasm) == digest => Ok(Some(wasm)),
            Ok(_) => {
                tracing::warn!(file = %path.display(), "kept plugin file is damaged");
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// The copy first: a note without a copy means nothing.
    pub(crate) fn remove(&self, digest: Digest) -> Result<(), StoreError> {
        for path in [self.path(digest), self.note_path(digest), self.signature_path(digest)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path, bytes_max: u64) -> io::Result<T> {
    let mut json = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

fn sweep(path: &Path) {
    let age = fs::metadata(path).and_then(|metadata| metadata.modified()).map(|modified| modified.elapsed());
    if matches!(age, Ok(Ok(age)) if age > TEMPORARY_AGE) {
        // Somebody else may have been quicker.
        let _gone = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn put_is_listed_and_read_back_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("plugins")).unwrap();
        let digest = Digest::of(b"wasm");
        store.put(digest, b"wasm", "a", Some("1.0.0")).unwrap();
        store.put(digest, b"wasm", "b", Some("1.0.0")).unwrap();
        assert!(store.signature(digest).unwrap().is_none());
        store.put_signature(digest, b"signed").unwrap();
        assert_eq!(store.signature(digest).unwrap().as_deref(), Some(&b"signed"[..]));
        let listed = store.list().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].digest, digest);
        assert_eq!(listed[0].bytes, 4);
        assert_eq!(listed[0].note.names, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert_eq!(listed[0].note.version.as_deref(), Some("1.0.0"));
        assert_eq!(store.get(digest).unwrap().as_deref(), Some(&b"wasm"[..]));
        store.remove(digest).unwrap();
        assert!(store.list().unwrap().is_empty());
        assert!(store.get(digest).unwrap().is_none());
        assert_eq!(fs::read_dir(store.directory()).unwrap().count(), 0);
    }

    #[test]
    fn versions_that_streams_ran_are_read_back_and_a_damaged_note_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_owned()).unwrap();
        let ran = Ran::from([("a".to_owned(), Digest::of(b"1")), ("b".to_owned(), Digest::of(b"2"))]);
        store.put_ran("one", &Ran::new()).unwrap();
        store.put_ran("one", &ran).unwrap();
        store.put_ran("two", &ran).unwrap();
        fs::write(directory.path().join("stream-two.json"), "{\"a\":\"sha256:1\"}").unwrap();
        assert_eq!(store.ran().unwrap(), BTreeMap::from([("one".to_owned(), ran)]));
        assert!(store.list().unwrap().is_empty());
        store.remove_ran("one").unwrap();
        store.remove_ran("one").unwrap();
        assert!(store.ran().unwrap().is_empty());
    }

    #[test]
    fn decisions_are_read_back_and_a_damaged_note_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_owned()).unwrap();
        let mut control = Control { pinned: Some(Digest::of(b"1")), ..Control::default() };
        control.went_live(Digest::of(b"1"), 7);
        store.put_control("a", &Control::default()).unwrap();
        store.put_control("a", &control).unwrap();
        assert_eq!(store.controls().unwrap(), BTreeMap::from([("a".to_owned(), control)]));
        fs::write(store.control_path("b"), "{\"pinned\":\"sha256:1\"}").unwrap();
        let error = store.controls().unwrap_err();
        assert!(error.to_string().contains("versions-b.json"), "{error}");
    }

    #[test]
    fn get_damaged_copy_is_missing_and_put_mends_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_owned()).unwrap();
        let digest = Digest::of(b"wasm");
        store.put(digest, b"wasm", "a", None).unwrap();
        fs::write(store.path(digest), b"wasn").unwrap();
        assert!(store.get(digest).unwrap().is_none());
        store.put(digest, b"wasm", "a", None).unwrap();
        assert!(store.get(digest).unwrap().is_some());
    }
}
