//! Models of transforms: read when a chain is built, and followed while it runs.
//!
//! A chain has the models that it was built with; a file that changes makes the reloader build another one. What ran last is kept
//! in the data directory by content, for a start at which a file is bad.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use wasmill_catalog::Catalog;
use wasmill_config::Transform;
use wasmill_transform::{Chain, Engine, GrantError, GrantedFile, GrantedModel, MODEL_BYTES_MAX};

use super::sources::with_causes;

/// The models of a transform: those that ran last, where these are asked for and kept. An error has its key.
pub(super) fn granted(
    engine: &Engine,
    transform: &Transform,
    kept: Option<&Kept>,
) -> Result<BTreeMap<String, GrantedModel>, (String, String)> {
    let mut models = BTreeMap::new();
    for (name, path) in &transform.models {
        let refused = |reason: String| {
            (
                format!("{}.models.{name}", transform.key),
                format!("model {name:?}: {}: {reason}", path.display()),
            )
        };
        let last = kept.and_then(|kept| kept.find(transform, name));
        let content = match last {
            Some(content) => content,
            None => read(transform, path).map_err(|error| refused(with_causes(&error)))?,
        };
        let model = engine.model(&file_name(path), &content).map_err(|error| refused(error.to_string()))?;
        models.insert(name.clone(), model);
    }
    Ok(models)
}

/// Which files are there now, with their digests, in the order in which a chain has its models.
pub(super) fn there(transforms: &[Transform]) -> Vec<String> {
    let files =
        transforms.iter().flat_map(|transform| transform.models.values().map(move |path| (transform, path)));
    files
        .map(|(transform, path)| match read(transform, path) {
            Ok(content) => shown(&file_name(path), content.digest),
            Err(error) => format!("{}: {}", path.display(), with_causes(&error)),
        })
        .collect()
}

/// As an outcome names a model.
pub(super) fn shown(file: &str, digest: wasmill_transform::Digest) -> String {
    format!("{file}={digest}")
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Of a tenant that does not own the host nothing is read outside of its directory.
fn read(transform: &Transform, path: &Path) -> Result<GrantedFile, GrantError> {
    match path.parent() {
        Some(directory) if transform.policy.is_some() => {
            GrantedFile::read_below(directory, path, MODEL_BYTES_MAX)
        }
        _ => GrantedFile::read(path, MODEL_BYTES_MAX),
    }
}

/// Copies of the models that a stream ran last: one of each content, and a note for each place.
#[derive(Clone)]
pub(crate) struct Kept {
    directory: PathBuf,
    stream: String,
}

impl Kept {
    pub(super) fn of(catalog: &Catalog, stream: &str) -> Kept {
        Kept { directory: catalog.data_dir().join("models"), stream: stream.to_owned() }
    }

    /// Names have no `+`.
    fn note(&self, transform: &Transform, name: &str) -> PathBuf {
        self.directory.join(format!("{}+{}+{name}.last", self.stream, transform.name))
    }

    fn copy(&self, digest: &str) -> PathBuf {
        self.directory.join(format!("{}.onnx", digest.replace(':', "-")))
    }

    /// What this place ran last, whole.
    fn find(&self, transform: &Transform, name: &str) -> Option<GrantedFile> {
        let digest = fs::read_to_string(self.note(transform, name)).ok()?;
        let content = GrantedFile::read(&self.copy(&digest), MODEL_BYTES_MAX).ok()?;
        (content.digest.to_string() == digest).then_some(content)
    }

    /// Keeps what a chain of these transforms runs. A file that has changed again by now is kept with the next chain.
    pub(super) fn keep(&self, transforms: &[Transform], chain: &Chain) -> io::Result<()> {
        if transforms.iter().all(|transform| transform.models.is_empty()) {
            return Ok(());
        }
        fs::create_dir_all(&self.directory)?;
        let places = transforms
            .iter()
            .flat_map(|transform| transform.models.iter().map(move |model| (transform, model)));
        for ((transform, (name, path)), (_, digest)) in places.zip(chain.models()) {
            let digest = digest.to_string();
            let copy = self.copy(&digest);
            if !copy.exists() {
                let Ok(content) = read(transform, path) else { continue };
                if content.digest.to_string() != digest {
                    continue;
                }
                write(&copy, &content.bytes)?;
            }
            write(&self.note(transform, name), digest.as_bytes())?;
        }
        self.sweep()
    }

    /// A stream of this name is removed.
    pub(super) fn forget(&self) -> io::Result<()> {
        let prefix = format!("{}+", self.stream);
        for file in self.files()? {
            if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) {
                fs::remove_file(file)?;
            }
        }
        self.sweep()
    }

    /// Removes copies that no note names.
    fn sweep(&self) -> io::Result<()> {
        let files = self.files()?;
        let ends = |file: &Path, ending: &str| file.extension().is_some_and(|found| found == ending);
        let notes = files.iter().filter(|file| ends(file, "last"));
        let named: BTreeSet<PathBuf> =
            notes.flat_map(fs::read_to_string).map(|digest| self.copy(&digest)).collect();
        for file in files.iter().filter(|file| ends(file, "onnx") && !named.contains(*file)) {
            fs::remove_file(file)?;
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(&self.directory) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// Whole or not at all, also after a crash.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(part, path)
}

/// Watches directories of models. Ends when dropped.
pub(super) struct ModelWatch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl ModelWatch {
    /// Calls `changed` whenever something of what is followed did.
    pub(super) fn new(changed: impl Fn() + Send + 'static) -> ModelWatch {
        let handler = move |event: notify::Result<Event>| match event {
            Ok(event) if !matters(&event) => {}
            Ok(_) => changed(),
            Err(error) => {
                tracing::warn!(%error, "an event of a model directory was lost");
                changed();
            }
        };
        let watcher = notify::recommended_watcher(handler);
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "model directories cannot be watched; models change at the next start");
        });
        ModelWatch { watcher: watcher.ok(), watched: BTreeSet::new() }
    }

    /// Follows the directories of these transforms' models from now on.
    pub(super) fn follow(&mut self, transforms: &[Transform]) {
        let paths = transforms.iter().flat_map(|transform| transform.models.values());
        for directory in paths.filter_map(|path| path.parent()) {
            let Some(watcher) = self.watcher.as_mut().filter(|_| !self.watched.contains(directory)) else {
                continue;
            };
            match watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(directory.to_owned());
                }
                Err(error) => {
                    let directory = directory.display();
                    tracing::warn!(%error, %directory, "a model directory cannot be watched; its models change at the next start");
                }
            }
        }
    }
}

/// Whether a file may be another one now: it was closed behind a writer, moved, linked or removed.
fn matters(event: &Event) -> bool {
    let settled = match &event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => true,
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Any | EventKind::Other => true,
        // A file that is there at once is a link; one that is written is empty at first.
        EventKind::Create(_) => {
            event.paths.iter().any(|path| path.metadata().is_ok_and(|file| file.len() > 0))
        }
        EventKind::Access(_) | EventKind::Modify(_) => false,
    };
    settled || event.need_rescan()
}
