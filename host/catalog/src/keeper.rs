//! The catalog's thread: looks at files that changed, loads them, and decides what is current.
//!
//! One file after the other, so at most one compile runs here. It never holds the lock over what is known while it
//! reads, compiles or syncs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmill_transform::{Digest, Manifest, read_manifest};

use crate::error::CatalogError;
use crate::known::{Accepted, Because, FileState, Refused, Taken};
use crate::load::{Refusal, chain};
use crate::scan::{self, Contents, ListError, ReadError, Stamps};
use crate::shared::Shared;
use crate::sidecar::Sidecar;
use crate::signals::{Due, Mode, SETTLE, SETTLE_OPEN};
use crate::watch::{DirectoryWatch, Identity};

/// How often the directory is asked whether it is still the same one; in poll mode every file is looked at.
const TICK: Duration = Duration::from_secs(1);
/// The same while there is no directory.
const TICK_MISSING: Duration = Duration::from_millis(200);
/// Every so many ticks all files are looked at, events or not: some file systems report nothing.
const TICKS_PER_LOOK: u32 = 10;

pub(crate) struct Keeper {
    shared: Arc<Shared>,
    watch: Option<DirectoryWatch>,
    ticks: u32,
    /// The directory was not there when last looked at.
    missing: bool,
}

/// Tells everybody that the thread has ended, however it ended.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.known().stopped = true;
        self.0.news.notify_all();
        self.0.changed();
    }
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Keeper {
        Keeper { shared, watch: None, ticks: 0, missing: false }
    }

    /// The thread's body. `opened` is told once everything that is `wanted` (all, if `None`) has been looked at.
    pub(crate) fn run(mut self, wanted: Option<&[String]>, opened: &SyncSender<Result<(), CatalogError>>) {
        let _farewell = Farewell(Arc::clone(&self.shared));
        let rest = match self.open(wanted) {
            Ok(rest) => rest,
            Err(error) => {
                // Whoever opens waits for exactly this.
                let _told = opened.send(Err(error));
                return;
            }
        };
        let _told = opened.send(Ok(()));
        for stem in rest {
            if self.shared.signals.stopping() {
                return;
            }
            self.examine(&stem);
        }
        self.shared.known().scanned = true;
        self.shared.news.notify_all();
        self.observe();
    }

    /// Looks at the wanted files of the directory; returns the others.
    fn open(&self, wanted: Option<&[String]>) -> Result<Vec<OsString>, CatalogError> {
        let path = &self.shared.options.plugin_dir;
        let files = scan::list(path).map_err(|error| match error {
            ListError::Io(source) => CatalogError::Directory { path: path.clone(), source },
            ListError::TooMany => CatalogError::TooManyFiles { path: path.clone(), max: scan::FILES_MAX },
        })?;
        let is_wanted = |stem: &OsStr| {
            wanted
                .is_none_or(|wanted| stem.to_str().is_some_and(|stem| wanted.iter().any(|name| name == stem)))
        };
        let (first, rest): (Vec<OsString>, Vec<OsString>) =
            files.into_keys().partition(|stem| is_wanted(stem));
        first.iter().for_each(|stem| self.examine(stem));
        // A name that is not its file's can be in any of the others.
        let found = wanted
            .is_none_or(|wanted| wanted.iter().all(|name| self.shared.known().names.contains_key(name)));
        if found {
            return Ok(rest);
        }
        rest.iter().for_each(|stem| self.examine(stem));
        Ok(Vec::new())
    }

    fn observe(&mut self) {
        let mut tick = Instant::now() + TICK;
        loop {
            let work = self.shared.signals.wait(tick);
            if work.stop {
                return;
            }
            let Some(mode) = work.mode else {
                work.due.iter().for_each(|due| self.settle(due));
                continue;
            };
            let (mut look, mut retry) = (work.look, false);
            if tick <= Instant::now() {
                self.ticks = self.ticks.wrapping_add(1);
                retry = self.ticks.is_multiple_of(TICKS_PER_LOOK);
                look |= retry || mode == Mode::Poll || self.watch.is_none();
                tick = Instant::now() + TICK;
            }
            look |= self.follow_directory(mode);
            // What has gone first, so that its name is free for what came.
            let (gone, there): (Vec<Due>, Vec<Due>) =
                work.due.into_iter().partition(|due| self.stamps(&due.stem).is_none());
            gone.iter().chain(&there).for_each(|due| self.settle(due));
            if look {
                self.look(retry);
            }
            if self.missing {
                tick = Instant::now() + TICK_MISSING;
            }
        }
    }

    fn stamps(&self, stem: &OsStr) -> Option<Stamps> {
        scan::stamps(&self.shared.options.plugin_dir, stem).ok().flatten()
    }

    /// Watches whatever directory the path names now. True if it has to be looked at.
    fn follow_directory(&mut self, mode: Mode) -> bool {
        let directory = &self.shared.options.plugin_dir;
        let identity = match Identity::of(directory) {
            Ok(identity) => identity,
            Err(error) => {
                self.watch = None;
                let news = !std::mem::replace(&mut self.missing, true);
                if news {
                    tracing::warn!(
                        directory = %directory.display(), %error,
                        "plugin directory cannot be reached, its versions stay in use"
                    );
                }
                return news;
            }
        };
        let back = std::mem::take(&mut self.missing);
        if back {
            tracing::info!(directory = %directory.display(), "plugin directory is back");
        }
        if mode == Mode::Poll || self.watch.as_ref().is_some_and(|watch| watch.follows(identity)) {
            return back;
        }
        self.watch = None;
        match DirectoryWatch::start(directory, &self.shared.signals) {
            Ok(watch) => {
                self.watch = Some(watch);
                self.set_polling(false);
            }
            Err(error) => {
                if self.set_polling(true) {
                    tracing::warn!(
                        directory = %directory.display(), %error,
                        "no file events for the plugin directory, looking every second instead"
                    );
                }
            }
        }
        true
    }

    /// Whether that is news.
    fn set_polling(&self, polling: bool) -> bool {
        std::mem::replace(&mut self.shared.known().polling, polling) != polling
    }

    /// Compares all files with what is known and marks those that differ, and with `retry` those that were refused for
    /// trouble of the host's own.
    fn look(&self, retry: bool) {
        let directory = &self.shared.options.plugin_dir;
        let files = match scan::list(directory) {
            Ok(files) => files,
            Err(ListError::Io(_)) if self.missing => BTreeMap::new(),
            Err(ListError::Io(error)) => {
                tracing::warn!(directory = %directory.display(), %error, "plugin directory cannot be listed");
                return;
            }
            Err(ListError::TooMany) => {
                tracing::warn!(
                    directory = %directory.display(), max = scan::FILES_MAX,
                    "plugin directory holds too many plugin files, none of them is looked at"
                );
                return;
            }
        };
        let known = self.shared.known();
        let gone: Vec<OsString> =
            known.files.keys().filter(|stem| !files.contains_key(*stem)).cloned().collect();
        let differs = |stem: &OsString, stamps: &Stamps| {
            known.files.get(stem).is_none_or(|file| {
                let passing = file.refused.as_ref().is_some_and(|refused| refused.refusal.passing);
                (retry && passing) || file.stamps != Some(*stamps)
            })
        };
        let changed: Vec<_> = files.iter().filter(|(stem, stamps)| differs(stem, stamps)).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        for stem in gone {
            self.shared.signals.found(&stem, None, SETTLE);
        }
        for (stem, stamps) in changed {
            // What changed this very second may go on changing.
            let delay = if stamps.changed() + 1 < now { SETTLE } else { SETTLE_OPEN };
            self.shared.signals.found(stem, Some(*stamps), delay);
        }
    }

    fn settle(&self, due: &Due) {
        let now = self.stamps(&due.stem);
        if due.seen.is_some() && now.is_some() && now != due.seen {
            return self.shared.signals.found(&due.stem, now, SETTLE_OPEN);
        }
        self.examine(&due.stem);
    }

    /// Takes one file as it is now.
    fn examine(&self, stem: &OsStr) {
        let shared = &*self.shared;
        let limit = shared.options.compile.wasm_bytes;
        let contents = match scan::read(&shared.options.plugin_dir, stem, limit) {
            Ok(contents) => contents,
            Err(ReadError::Gone) => return self.gone(stem),
            Err(ReadError::Changing) => {
                return shared.signals.found(stem, self.stamps(stem), SETTLE_OPEN);
            }
            Err(error) => {
                let refusal =
                    Refusal { reason: error.to_string(), passing: matches!(error, ReadError::Io { .. }) };
                let file = unread(stem, self.stamps(stem));
                return self.refuse(stem, file, refusal, Because::File);
            }
        };
        let file = FileState {
            stamps: Some(contents.stamps),
            digest: Some(Digest::of(&contents.wasm)),
            sidecar: contents.sidecar.as_deref().map(Digest::of),
            bytes: contents.wasm.len() as u64,
            ..unread(stem, None)
        };
        if !self.unchanged(stem, &file) {
            self.judge(stem, &contents, file);
        }
    }

    /// Only its time changed, or nothing.
    fn unchanged(&self, stem: &OsStr, file: &FileState) -> bool {
        let mut known = self.shared.known();
        let Some(before) = known.files.get_mut(stem) else { return false };
        let retry = before
            .refused
            .as_ref()
            .is_some_and(|refused| refused.refusal.passing || refused.because == Because::Holder);
        if retry || before.digest != file.digest || before.sidecar != file.sidecar {
            return false;
        }
        before.stamps = file.stamps;
        true
    }

    fn judge(&self, stem: &OsStr, contents: &Contents, mut file: FileState) {
        let shared = &*self.shared;
        let manifest = match manifest_of(stem, &contents.wasm) {
            Ok((name, manifest)) => {
                file.name = name;
                file.version = manifest.as_ref().map(|manifest| manifest.version.clone());
                manifest
            }
            Err(refusal) => return self.refuse(stem, file, refusal, Because::File),
        };
        let sidecar = contents.sidecar.as_deref().map(Sidecar::parse).transpose();
        let narrowed = sidecar.and_then(|sidecar| match sidecar {
            Some(sidecar) => Ok((sidecar.narrow(manifest.as_ref())?, Some(sidecar))),
            None => Ok((manifest.unwrap_or_default(), None)),
        });
        let (manifest, sidecar) = match narrowed {
            Ok(narrowed) => narrowed,
            Err(error) => {
                let path = scan::sidecar_path(&shared.options.plugin_dir, stem);
                let refusal = Refusal::of_file(format!("sidecar {}: {error}", path.display()));
                return self.refuse(stem, file, refusal, Because::Sidecar);
            }
        };
        if let Some(holder) = self.other_holder(stem, &file.name) {
            let refusal = Refusal::of_file(format!(
                "{} and {} are both named {:?}; the one loaded before stays",
                scan::wasm_path(&shared.options.plugin_dir, &holder).display(),
                scan::wasm_path(&shared.options.plugin_dir, stem).display(),
                file.name
            ));
            return self.refuse(stem, file, refusal, Because::Holder);
        }
        let Some(digest) = file.digest else { return };
        let same = shared.known().same_as_current(&file.name, digest, file.sidecar);
        let loaded = match same {
            Some(plugin) => Ok((plugin, None)),
            None => shared
                .loader
                .load(&contents.wasm, digest, manifest, &file.name)
                .map(|loaded| (loaded.plugin, loaded.compile)),
        };
        let (plugin, compile) = match loaded {
            Ok(loaded) => loaded,
            Err(refusal) => return self.refuse(stem, file, refusal, Because::File),
        };
        let accepted = Accepted {
            stamps: contents.stamps,
            digest,
            name: file.name.clone(),
            version: file.version.clone(),
            bytes: file.bytes,
            sidecar: file.sidecar.zip(sidecar),
            plugin,
            compile,
        };
        if let Err(refusal) = self.accept(stem, &contents.wasm, accepted) {
            self.refuse(stem, file, refusal, Because::File);
        }
    }

    /// Another file that has this name and still means it.
    fn other_holder(&self, stem: &OsStr, name: &str) -> Option<OsString> {
        let shared = &*self.shared;
        let holder = shared.known().holder_other_than(stem, name)?;
        match scan::read(&shared.options.plugin_dir, &holder, shared.options.compile.wasm_bytes) {
            Err(ReadError::Gone) => {
                self.gone(&holder);
                return None;
            }
            Ok(contents) => {
                let other = manifest_of(&holder, &contents.wasm).is_ok_and(|(now, _)| now != name);
                if other {
                    shared.known().release(name);
                    return None;
                }
            }
            Err(_) => {}
        }
        Some(holder)
    }

    fn accept(&self, stem: &OsStr, wasm: &[u8], accepted: Accepted) -> Result<(), Refusal> {
        let shared = &*self.shared;
        let Accepted { digest, name, version, compile, .. } = &accepted;
        let (digest, name, version, compile) = (*digest, name.clone(), version.clone(), *compile);
        // Over both, so that expiry does not take the copy away in between.
        let _storing = shared.storing();
        shared
            .store
            .put(digest, wasm, &name, version.as_deref())
            .map_err(|error| Refusal::of_host(&error))?;
        let taken = shared.known().accept(stem, accepted);
        let file = scan::wasm_path(&shared.options.plugin_dir, stem);
        if taken == Taken::Same {
            tracing::info!(plugin = name, version, %digest, file = %file.display(), "plugin file is back");
        } else {
            let replaces = if let Taken::Over(before) = taken { Some(before.to_string()) } else { None };
            tracing::info!(
                plugin = name, version, %digest, file = %file.display(), replaces,
                compile_ms = compile.map(|compile| u64::try_from(compile.as_millis()).unwrap_or(u64::MAX)),
                "plugin loaded"
            );
        }
        self.published();
        Ok(())
    }

    fn refuse(&self, stem: &OsStr, mut file: FileState, refusal: Refusal, because: Because) {
        let shared = &*self.shared;
        let (name, digest, reason) = (file.name.clone(), file.digest, refusal.reason.clone());
        file.refused = Some(Refused { refusal, because });
        if shared.known().refuse(stem, file) {
            tracing::warn!(
                plugin = name, digest = digest.map(|digest| digest.to_string()),
                file = %scan::wasm_path(&shared.options.plugin_dir, stem).display(),
                error = reason,
                "plugin refused"
            );
            self.published();
        }
    }

    fn gone(&self, stem: &OsStr) {
        let shared = &*self.shared;
        let (released, was_known) = {
            let mut known = shared.known();
            let was_known = known.files.contains_key(stem);
            (known.gone(stem), was_known)
        };
        if let Some(name) = released
            && !self.missing
        {
            tracing::warn!(
                plugin = name, file = %scan::wasm_path(&shared.options.plugin_dir, stem).display(),
                "plugin file has gone, its version stays in use until the next start"
            );
        }
        if was_known {
            self.published();
        }
    }

    /// Tells who waits, and gives files another chance whose name has become free.
    fn published(&self) {
        for stem in self.shared.known().waiting_for_a_name() {
            self.shared.signals.found(&stem, None, Duration::ZERO);
        }
        self.shared.news.notify_all();
        self.shared.changed();
    }
}

fn unread(stem: &OsStr, stamps: Option<Stamps>) -> FileState {
    FileState {
        stamps,
        digest: None,
        sidecar: None,
        name: stem.to_string_lossy().into_owned(),
        bytes: stamps.map_or(0, |stamps| stamps.wasm.bytes),
        version: None,
        refused: None,
    }
}

/// The plugin's name, and its manifest if there is one.
fn manifest_of(stem: &OsStr, wasm: &[u8]) -> Result<(String, Option<Manifest>), Refusal> {
    let manifest = read_manifest(wasm).map_err(|error| Refusal::of_file(chain(&error)))?;
    if let Some(manifest) = manifest {
        return Ok((manifest.name.clone(), Some(manifest)));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match stem.to_str() {
        Some(name) if (1..=64).contains(&name.len()) && name.bytes().all(plain) => {
            Ok((name.to_owned(), None))
        }
        _ => Err(Refusal::of_file(
            "has no manifest, and so is named after its file, whose name must be 1 to 64 letters, digits, `-` or `_` \
             before `.wasm`",
        )),
    }
}
