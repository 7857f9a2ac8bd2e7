//! Plugins that were handed over to be used, where the directory has no file of their name: uploaded, listed, removed.
//!
//! A file of the directory goes before an upload of the same name: an upload is refused while there is one, and one that
//! comes later takes over. What stands for a name is noted with the decisions about it, and its bytes are among the kept
//! copies; so both last.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use wasmill_transform::{Digest, Plugin, read_manifest};

use crate::candidate;
use crate::catalog::{Catalog, STACK_BYTES, store_error};
use crate::error::{AddError, CatalogError, FindError, RemoveError};
use crate::known::{Known, LookUp, Name};
use crate::load::chain;
use crate::scan::wasm_path;
use crate::shared::Shared;

impl Catalog {
    /// Takes a plugin file as what stands for its name from now on; durable when it returns. `name` is needed where the
    /// file has no manifest, `signature` (the text of its `.sig` file) where one is asked for. Blocks, up to the limits of compiling.
    ///
    /// # Errors
    /// See [`AddError`]; nothing was changed then.
    pub fn upload(
        &self,
        name: Option<&str>,
        wasm: Vec<u8>,
        signature: Option<Vec<u8>>,
    ) -> Result<(String, Digest), AddError> {
        let (shared, name) = (self.shared(), name.map(str::to_owned));
        let upload = move || upload(&shared, name, &wasm, signature.as_deref());
        let thread =
            thread::Builder::new().name("catalog-upload".to_owned()).stack_size(STACK_BYTES).spawn(upload);
        let thread = thread.map_err(|error| AddError::Store(CatalogError::Thread(error)))?;
        thread.join().unwrap_or(Err(AddError::Store(CatalogError::Stopped)))
    }

    /// Removes a kept version of a plugin. `needed` are those that somebody pins by their digest. Blocks.
    ///
    /// # Errors
    /// See [`RemoveError`]; nothing was changed then.
    pub fn remove(&self, name: &str, digest: Digest, needed: &HashSet<Digest>) -> Result<(), RemoveError> {
        let shared = self.shared();
        let store = |error| RemoveError::Store(store_error(error));
        let _storing = shared.storing();
        let mut control = {
            let known = shared.known();
            let version = known.versions.get(&digest);
            if version.is_none_or(|version| !version.names.contains(name)) {
                return Err(RemoveError::NoVersion { name: name.to_owned(), digest });
            }
            let used = |why: String| Err(RemoveError::InUse { digest, why });
            let running = known
                .running
                .iter()
                .filter(|stream| known.ran.get(*stream).and_then(|ran| ran.get(name)) == Some(&digest));
            let running: Vec<&str> = running.map(String::as_str).collect();
            if !running.is_empty() {
                return used(format!("streams run it: {}", running.join(", ")));
            }
            if needed.contains(&digest) {
                return used("a stream names this digest".to_owned());
            }
            if let Some(Name { holder: Some(stem), plugin, .. }) = known.names.get(name)
                && plugin.digest == digest
            {
                let file = stem.to_string_lossy();
                return used(format!("{file}.wasm in the plugin directory is it, which is the operator's"));
            }
            let control = known.controls.get(name).cloned().unwrap_or_default();
            if control.pinned == Some(digest) {
                return used("it is pinned: unpin it first".to_owned());
            }
            if control.shadow.is_some_and(|shadow| shadow.digest == digest) {
                return used("it runs as a shadow: stop that first".to_owned());
            }
            control
        };
        let before = control.clone();
        control.forget(digest);
        if control != before {
            shared.store.put_control(name, &control).map_err(store)?;
        }
        let last = {
            let mut known = shared.known();
            known.controls.insert(name.to_owned(), control);
            if known.names.get(name).is_some_and(|current| current.plugin.digest == digest) {
                known.names.remove(name);
            }
            let others = known.versions.get_mut(&digest).is_some_and(|version| {
                version.names.remove(name);
                !version.names.is_empty()
            });
            if !others {
                known.versions.remove(&digest);
            }
            !others
        };
        if last {
            shared.store.remove(digest).map_err(store)?;
            shared
                .loader
                .cache
                .remove(digest)
                .map_err(|error| RemoveError::Store(CatalogError::Cache(error)))?;
        }
        shared.changed();
        tracing::info!(plugin = name, %digest, "plugin version removed");
        Ok(())
    }
}

impl Known {
    /// The version that was uploaded under a name, where the directory has no file of that name.
    pub(crate) fn uploaded(&self, name: &str) -> Option<Digest> {
        let uploaded = self.controls.get(name)?.uploaded?;
        let of_file = self.files.values().any(|file| file.name == name);
        (!of_file).then_some(uploaded)
    }

    /// The file of the directory that owns a name: a good one, or a bad one that says that it is that plugin.
    fn owner(&self, name: &str) -> Option<&OsStr> {
        let holder = self.names.get(name).and_then(|name| name.holder.as_deref());
        holder.or_else(|| {
            self.files.iter().find(|(_, file)| file.name == name).map(|(stem, _)| stem.as_os_str())
        })
    }
}

/// Whether an upload may stand for a name: no file owns it, and where it is new, there may be one more.
fn may_stand_for(shared: &Shared, name: &str) -> Result<(), AddError> {
    // A file that nobody has looked at yet may be it.
    let mut known = shared.known();
    while !known.scanned && !known.stopped {
        known = shared.wait_for_news(known);
    }
    match known.owner(name) {
        None if known.names.contains_key(name) => Ok(()),
        None => {
            let there = known.names.len() as u64;
            drop(known);
            shared.loader.gate.takes_another(there).map_err(|reason| AddError::TooMany { reason })
        }
        Some(stem) => {
            let file: PathBuf = wasm_path(&shared.options.plugin_dir, stem);
            Err(AddError::OfFile { name: name.to_owned(), file })
        }
    }
}

/// On a thread with a stack for the parsers of plugin files.
fn upload(
    shared: &Arc<Shared>,
    name: Option<String>,
    wasm: &[u8],
    signature: Option<&[u8]>,
) -> Result<(String, Digest), AddError> {
    // Before anything looks into the file.
    if let Some(policy) = shared.signing() {
        let checked = policy.check(Digest::of(wasm), signature);
        checked.map_err(|error| AddError::Refused { reason: error.to_string() })?;
    }
    let manifest = read_manifest(wasm).map_err(|error| AddError::Refused { reason: chain(&error) })?;
    let name = match (name, manifest) {
        (Some(name), _) => name,
        (None, Some(manifest)) => manifest.name,
        (None, None) => return Err(AddError::Nameless),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
        let reason = format!("name {name:?} is not valid, expected 1 to 64 letters, digits, `-` and `_`");
        return Err(AddError::Refused { reason });
    }
    may_stand_for(shared, &name)?;
    let digest = candidate::add(shared, &name, wasm, signature)?;
    let plugin = loaded(shared, &name, digest)?;
    {
        let _storing = shared.storing();
        may_stand_for(shared, &name)?;
        let mut control = shared.known().controls.get(&name).cloned().unwrap_or_default();
        if control.uploaded != Some(digest) {
            control.uploaded = Some(digest);
            shared.store.put_control(&name, &control).map_err(|error| AddError::Store(store_error(error)))?;
        }
        let mut known = shared.known();
        known.controls.insert(name.clone(), control);
        known.stand_for(&name, plugin);
    }
    tracing::info!(plugin = name, %digest, "plugin uploaded");
    shared.changed();
    Ok((name, digest))
}

fn loaded(shared: &Shared, name: &str, digest: Digest) -> Result<Arc<Plugin>, AddError> {
    if let LookUp::Found(plugin) = shared.known().look_up(name, Some(digest)) {
        return Ok(plugin);
    }
    crate::catalog::load_kept(shared, name, Some(digest)).map_err(|error| match error {
        FindError::Refused { reason, .. } => AddError::Refused { reason },
        error => AddError::Compile { reason: error.to_string() },
    })
}

impl Known {
    fn stand_for(&mut self, name: &str, plugin: Arc<Plugin>) {
        let digest = plugin.digest;
        let before = self.names.insert(name.to_owned(), Name { plugin, holder: None, sidecar: None });
        if let Some(before) = before.filter(|before| before.plugin.digest != digest) {
            self.reloads += 1;
            let narrowed_by = before.narrowed_by();
            if let Some(version) = self.versions.get_mut(&before.plugin.digest) {
                version.pinned = Some((Arc::downgrade(&before.plugin), narrowed_by));
            }
        }
    }
}
