//! The handle that the host holds.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::SystemTime;

use tokio::sync::watch;
use wasmill_transform::{CodeCache, CompileLimits, Digest, Engine, Plugin, read_manifest};

use crate::candidate;
use crate::control::Control;
use crate::error::{AddError, CatalogError, FindError};
use crate::gate::CompileGate;
use crate::keeper::Keeper;
use crate::known::{Known, LookUp};
use crate::load::{Loader, Refusal};
use crate::scan::wasm_path;
use crate::shared::Shared;
use crate::sidecar::Sidecar;
use crate::signals::Mode;
use crate::signing::SigningPolicy;
use crate::state::{CatalogStats, PluginState};
use crate::store::{Store, StoreError};
use crate::view;

/// Parsers of plugin files recurse.
pub(crate) const STACK_BYTES: usize = 8 << 20;

/// Where plugins are and how they are compiled.
#[derive(Clone, Debug)]
pub struct CatalogOptions {
    /// Searched for `NAME.wasm`, and `NAME.json` and `NAME.wasm.sig` beside it. Not searched deeper.
    pub plugin_dir: PathBuf,
    /// Compiled code goes to `code/` below it, copies of accepted plugin files to `plugins/`.
    pub data_dir: PathBuf,
    /// The program that has the hidden subcommand `compile-plugin`.
    pub compiler: PathBuf,
    pub compile: CompileLimits,
    /// What stands before the compiler.
    pub gate: Arc<dyn CompileGate>,
    /// What is asked of signatures of plugin files at first ([`Catalog::ask_signatures`]); `None`: they are not looked at.
    pub signing: Option<SigningPolicy>,
}

/// The plugin directory. Cheap to clone; its thread ends with the last clone, after the compile at hand.
#[derive(Clone)]
pub struct Catalog {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.signals.stop();
    }
}

impl Catalog {
    /// Scans the directory and loads everything in it; compiles what is not cached. Blocks. A bad plugin is no error,
    /// it is listed as refused; nor is a missing directory, it is for `find` to say.
    pub fn open(engine: Engine, options: CatalogOptions) -> Result<Catalog, CatalogError> {
        start(engine, options, None)
    }

    /// As [`Catalog::open`], but only what is `wanted` is loaded before it returns; the rest follows behind, and
    /// [`Catalog::find`] waits for it. That one of these is missing or refused is for `find` to say.
    pub fn open_for(
        engine: Engine,
        options: CatalogOptions,
        wanted: &[(String, Option<Digest>)],
    ) -> Result<Catalog, CatalogError> {
        let names = wanted.iter().map(|(name, _)| name.clone()).collect();
        let catalog = start(engine, options, Some(names))?;
        for (name, digest) in wanted {
            // Loads it if it is not the current version; an error comes again when it is asked for.
            let _loaded = digest.map(|digest| catalog.find(name, Some(digest)));
        }
        Ok(catalog)
    }

    /// The current version under a name, or the version with this digest, whether or not its file is still in the
    /// directory. Blocks, up to the limits of compiling, if that version is not loaded yet: not for threads that drive
    /// an async runtime.
    ///
    /// Compare what it returns with [`Arc::ptr_eq`] rather than by digest: a changed sidecar makes a new plugin of the
    /// same digest. A name goes on being found after its file was removed, until the process restarts.
    pub fn find(&self, name: &str, digest: Option<Digest>) -> Result<Arc<Plugin>, FindError> {
        let shared = &self.handle.shared;
        let mut known = shared.known();
        loop {
            match known.look_up(name, digest) {
                LookUp::Found(plugin) => return Ok(plugin),
                LookUp::Load(_) => {
                    drop(known);
                    return self.load_kept(name, digest);
                }
                LookUp::OtherName(actual) => {
                    let digest = digest.unwrap_or(Digest([0; 32]));
                    return Err(FindError::OtherName { name: name.to_owned(), digest, actual });
                }
                LookUp::Refused(..) | LookUp::Missing if !known.scanned && !known.stopped => {
                    known = shared.wait_for_news(known);
                }
                LookUp::Refused(stem, reason) => {
                    let file = wasm_path(&shared.options.plugin_dir, &stem);
                    return Err(FindError::Refused { name: name.to_owned(), file, reason });
                }
                LookUp::Missing => match known.uploaded(name).filter(|_| digest.is_none()) {
                    Some(uploaded) => {
                        drop(known);
                        return self.find(name, Some(uploaded));
                    }
                    None => return Err(missing(shared, &known, name, digest)),
                },
            }
        }
    }

    /// The version under a name that a stream takes: the pinned one, or the current one, or the one before if that one is
    /// demoted in the stream. Blocks as [`Catalog::find`] does.
    pub fn find_live(&self, stream: &str, name: &str) -> Result<Arc<Plugin>, FindError> {
        let control = self.control(name);
        // What is pinned or was live is there before the directory has been looked at.
        if let Some(pinned) = control.pinned
            && !control.is_demoted(stream, pinned)
        {
            return self.find_pinned(name, pinned);
        }
        let newest = match control.pinned {
            Some(_) => None,
            None => Some(self.find(name, None)?),
        };
        let choice = control.choice(stream, newest.as_ref().map(|newest| newest.digest));
        match (choice, newest) {
            (Some(choice), Some(newest)) if newest.digest == choice => Ok(newest),
            (Some(choice), _) if control.pinned == Some(choice) => self.find_pinned(name, choice),
            (choice, _) => self.find(name, choice),
        }
    }

    fn find_pinned(&self, name: &str, pinned: Digest) -> Result<Arc<Plugin>, FindError> {
        self.find(name, Some(pinned)).map_err(|error| match error {
            FindError::NoSuchVersion { name, digest, directory, store: _ } => {
                let note = self.handle.shared.store.control_path(&name);
                FindError::PinnedGone { name, digest, directory, note }
            }
            error => error,
        })
    }

    /// What was decided about the versions of a plugin.
    pub fn control(&self, name: &str) -> Control {
        self.handle.shared.known().controls.get(name).cloned().unwrap_or_default()
    }

    /// Decides about the versions of a plugin that is known; durable when it returns. Blocks.
    pub fn decide(&self, name: &str, change: impl FnOnce(&mut Control)) -> Result<Control, CatalogError> {
        let shared = &self.handle.shared;
        let _storing = shared.storing();
        let before = shared.known().controls.get(name).cloned().unwrap_or_default();
        let mut control = before.clone();
        change(&mut control);
        if control != before {
            shared.store.put_control(name, &control).map_err(store_error)?;
            shared.known().controls.insert(name.to_owned(), control.clone());
        }
        Ok(control)
    }

    /// Whether any version or file has this name; if none, the nearest name.
    pub fn knows(&self, name: &str) -> Result<(), Option<String>> {
        let known = self.handle.shared.known();
        let versions = known.versions.values().any(|version| version.names.contains(name));
        if versions || known.files.values().any(|file| file.name == name) {
            Ok(())
        } else {
            Err(known.nearest(name))
        }
    }

    /// Examines, compiles and keeps a plugin file that is in no directory, as one more version of `name`; nothing goes
    /// live. Blocks, up to the limits of compiling.
    pub fn add(&self, name: &str, wasm: Vec<u8>) -> Result<Digest, AddError> {
        self.add_signed(name, wasm, None)
    }

    /// As [`Catalog::add`], of a file that came with these signatures: the text of its `.sig` file.
    pub fn add_signed(
        &self,
        name: &str,
        wasm: Vec<u8>,
        signature: Option<Vec<u8>>,
    ) -> Result<Digest, AddError> {
        let (shared, name) = (Arc::clone(&self.handle.shared), name.to_owned());
        let add = move || candidate::add(&shared, &name, &wasm, signature.as_deref());
        let thread =
            thread::Builder::new().name("catalog-candidate".to_owned()).stack_size(STACK_BYTES).spawn(add);
        let thread = thread.map_err(|error| AddError::Store(CatalogError::Thread(error)))?;
        thread.join().unwrap_or(Err(AddError::Store(CatalogError::Stopped)))
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.handle.shared)
    }

    /// Where what is kept of its tenant's plugins lies; what goes with them may lie beside.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.handle.shared.options.data_dir
    }

    /// Most bytes of a plugin file.
    pub fn wasm_bytes_max(&self) -> u64 {
        self.handle.shared.options.compile.wasm_bytes
    }

    /// Goes up whenever the current version of some name changed, appeared, lost its file or was refused.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.handle.shared.subscribe()
    }

    /// Every version that is known and every refused file, by name; the current version of a name first.
    pub fn plugins(&self) -> Vec<PluginState> {
        view::plugins(&self.handle.shared)
    }

    /// A version was to be a candidate and could not for this reason; or could.
    pub fn note_candidate(&self, digest: Digest, result: Result<(), &str>) {
        self.handle.shared.known().tried(digest, result.err());
    }

    /// Remembers whether a version passed its probe in a stream, for [`Catalog::plugins`].
    pub fn note_probe(&self, digest: Digest, stream: &str, result: Result<(), String>) {
        self.handle.shared.known().note_probe(digest, stream, result);
    }

    /// Remembers, also over a restart, which version of each plugin a stream runs now; these copies are kept. Blocks
    /// if that is news.
    pub fn note_running(
        &self,
        stream: &str,
        versions: &BTreeMap<String, Digest>,
    ) -> Result<(), CatalogError> {
        let shared = &self.handle.shared;
        let _storing = shared.storing();
        let (news, lives) = {
            let mut known = shared.known();
            known.running.insert(stream.to_owned());
            (known.ran.get(stream) != Some(versions), lives(&known, stream, versions))
        };
        for (name, control) in lives {
            shared.store.put_control(&name, &control).map_err(store_error)?;
            shared.known().controls.insert(name, control);
        }
        if news {
            shared.store.put_ran(stream, versions).map_err(store_error)?;
            shared.known().ran.insert(stream.to_owned(), versions.clone());
        }
        Ok(())
    }

    /// A stream has ended: it runs nothing any more.
    pub fn note_ended(&self, stream: &str) {
        self.handle.shared.known().running.remove(stream);
    }

    /// A stream is removed: what it ran last is needed no more on its account, and the next one of its name has failed with
    /// nothing. Durable when it returns. Blocks.
    pub fn forget_stream(&self, stream: &str) -> Result<(), CatalogError> {
        let shared = &self.handle.shared;
        let _storing = shared.storing();
        let controls: Vec<(String, Control)> = {
            let known = shared.known();
            let failed = |control: &&Control| control.demoted.iter().any(|of| of.stream == stream);
            let failed = known.controls.iter().filter(|(_, control)| failed(control));
            failed.map(|(name, control)| (name.clone(), control.clone())).collect()
        };
        for (name, mut control) in controls {
            control.demoted.retain(|demotion| demotion.stream != stream);
            shared.store.put_control(&name, &control).map_err(store_error)?;
            shared.known().controls.insert(name, control);
        }
        shared.store.remove_ran(stream).map_err(store_error)?;
        shared.known().forget_stream(stream);
        Ok(())
    }

    /// Which version of a plugin a stream ran last, in this process or one before: one that is good.
    pub fn last_run(&self, stream: &str, name: &str) -> Option<Digest> {
        self.handle.shared.known().ran.get(stream)?.get(name).copied()
    }

    /// From now on, changes in the directory take effect by themselves. Where the system gives no file events, the
    /// directory is looked at every second, and the log says so.
    pub fn start_watching(&self) -> Result<(), CatalogError> {
        self.observe(Mode::Watch)
    }

    /// As [`Catalog::start_watching`], but by looking every second: for file systems that report no changes made
    /// elsewhere.
    pub fn start_polling(&self) -> Result<(), CatalogError> {
        self.handle.shared.known().polling = true;
        self.observe(Mode::Poll)
    }

    fn observe(&self, mode: Mode) -> Result<(), CatalogError> {
        let shared = &self.handle.shared;
        if shared.known().stopped {
            return Err(CatalogError::Stopped);
        }
        shared.signals.observe(mode);
        Ok(())
    }

    /// Removes kept copies and their compiled code: of each name all but the newest 16, and never one that is `needed`
    /// (pinned by a config, or by an outcome that is not delivered), current, or in use. Returns how many.
    pub fn expire(&self, needed: &HashSet<Digest>) -> Result<usize, CatalogError> {
        let shared = &self.handle.shared;
        let _storing = shared.storing();
        let expired = shared.known().expired(needed);
        for digest in &expired {
            shared.store.remove(*digest).map_err(store_error)?;
            shared.known().versions.remove(digest);
            shared.loader.cache.remove(*digest).map_err(CatalogError::Cache)?;
        }
        Ok(expired.len())
    }

    pub fn counters(&self) -> CatalogStats {
        view::stats(&self.handle.shared)
    }

    /// Loads a version from its copy, on a thread of its own.
    fn load_kept(&self, name: &str, digest: Option<Digest>) -> Result<Arc<Plugin>, FindError> {
        let shared = Arc::clone(&self.handle.shared);
        let name = name.to_owned();
        let load = move || load_kept(&shared, &name, digest);
        let thread =
            thread::Builder::new().name("catalog-kept".to_owned()).stack_size(STACK_BYTES).spawn(load);
        thread.map_or(Err(FindError::Stopped), |thread| thread.join().unwrap_or(Err(FindError::Stopped)))
    }
}

/// What changes in the memory of live versions by what a stream runs now. That streams run different versions of a name
/// is no news at every start.
fn lives(known: &Known, stream: &str, versions: &BTreeMap<String, Digest>) -> Vec<(String, Control)> {
    let ran = known.ran.get(stream);
    let now = now_ms();
    let changed = versions.iter().filter_map(|(name, digest)| {
        let before = known.controls.get(name);
        let ran = ran.and_then(|ran| ran.get(name));
        let remembered = before.is_some_and(|before| before.live.iter().any(|live| live.digest == *digest));
        if remembered && ran == Some(digest) {
            return None;
        }
        let mut control = before.cloned().unwrap_or_default();
        if let Some(ran) = ran.filter(|_| control.live.is_empty()) {
            control.went_live(*ran, 0);
        }
        if ran.is_some_and(|ran| control.is_demoted(stream, *ran)) {
            control.took_over(*digest, now);
        } else {
            control.went_live(*digest, now);
        }
        (before != Some(&control)).then(|| (name.clone(), control))
    });
    changed.collect()
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn start(
    engine: Engine,
    options: CatalogOptions,
    wanted: Option<Vec<String>>,
) -> Result<Catalog, CatalogError> {
    let store = Store::open(options.data_dir.join("plugins")).map_err(store_error)?;
    let cache = CodeCache::open(&options.data_dir.join("code")).map_err(CatalogError::Cache)?;
    let mut known = Known::default();
    known.remember(store.list().map_err(store_error)?);
    known.ran = store.ran().map_err(store_error)?;
    known.controls = store.controls().map_err(store_error)?;
    let loader = Loader {
        engine,
        cache,
        compiler: options.compiler.clone(),
        limits: options.compile,
        gate: Arc::clone(&options.gate),
        refused: Mutex::default(),
        compiles: AtomicU64::new(0),
        cache_hits: AtomicU64::new(0),
    };
    let shared = Arc::new(Shared::new(options, loader, store, known));
    // From here on the thread is stopped if opening fails.
    let catalog = Catalog { handle: Arc::new(Handle { shared: Arc::clone(&shared) }) };
    let (opened, told) = sync_channel(1);
    thread::Builder::new()
        .name("catalog".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || Keeper::new(shared).run(wanted.as_deref(), &opened))
        .map_err(CatalogError::Thread)?;
    told.recv().unwrap_or(Err(CatalogError::Stopped))?;
    Ok(catalog)
}

pub(crate) fn store_error(error: StoreError) -> CatalogError {
    CatalogError::Store { action: error.action, path: error.path, source: error.source }
}

fn missing(shared: &Shared, known: &Known, name: &str, digest: Option<Digest>) -> FindError {
    let (name, directory) = (name.to_owned(), shared.options.plugin_dir.clone());
    if known.stopped {
        return FindError::Stopped;
    }
    match digest {
        Some(digest) => {
            FindError::NoSuchVersion { name, digest, directory, store: shared.store.directory().to_owned() }
        }
        None if known.missing.is_some() => {
            FindError::NoDirectory { directory, why: known.missing.clone().unwrap_or_default() }
        }
        None => FindError::Missing { nearest: known.nearest(&name), name, directory },
    }
}

pub(crate) fn load_kept(
    shared: &Shared,
    name: &str,
    digest: Option<Digest>,
) -> Result<Arc<Plugin>, FindError> {
    let _one_at_a_time = shared.loading_kept();
    // Somebody else may have loaded it while this waited.
    let (sidecar, digest) = {
        let known = shared.known();
        match (known.look_up(name, digest), digest) {
            (LookUp::Found(plugin), _) => return Ok(plugin),
            (LookUp::Load(sidecar), Some(digest)) => (sidecar, digest),
            _ => return Err(missing(shared, &known, name, digest)),
        }
    };
    let path = shared.store.path(digest);
    let refused = |refusal: Refusal| FindError::Refused {
        name: name.to_owned(),
        file: path.clone(),
        reason: refusal.reason,
    };
    let wasm = shared.store.get(digest).map_err(|error| refused(Refusal::of_host(&error)))?;
    let Some(wasm) = wasm else { return Err(missing(shared, &shared.known(), name, Some(digest))) };
    if let Some(policy) = shared.signing() {
        // Keys may have gone since it was accepted.
        let signature = shared.store.signature(digest).map_err(|error| refused(Refusal::of_host(&error)))?;
        let signed = policy.check(digest, signature.as_deref());
        signed.map_err(|error| refused(Refusal::of_file(error.to_string())))?;
    }
    let manifest =
        read_manifest(&wasm).map_err(|error| refused(Refusal::of_host(&error)))?.unwrap_or_default();
    let (narrowed_by, sidecar): (Option<Digest>, Option<Sidecar>) = sidecar.unzip();
    let manifest = match sidecar {
        Some(sidecar) => sidecar.restrict(manifest),
        None => manifest,
    };
    let loaded = shared.loader.load(&wasm, digest, manifest, name).map_err(refused)?;
    if let Some(version) = shared.known().versions.get_mut(&digest) {
        let weak: Weak<Plugin> = Arc::downgrade(&loaded.plugin);
        version.pinned = Some((weak, narrowed_by));
        version.loaded_at = Some(SystemTime::now());
        version.compile = loaded.compile.or(version.compile);
    }
    Ok(loaded.plugin)
}
