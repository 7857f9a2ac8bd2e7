//! What becomes of one file of the plugin directory: current, refused, forgotten.
//!
//! Runs on the catalog's thread alone. The lock over what is known is never held while a file is read, compiled or
//! synced.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use wasmill_transform::{Digest, Manifest, read_manifest};

use crate::known::{Accepted, Because, Beside, FileState, Refused, Taken};
use crate::load::{Refusal, chain};
use crate::scan::{self, Contents, ReadError, Stamps};
use crate::shared::Shared;
use crate::sidecar::Sidecar;
use crate::signals::SETTLE_OPEN;

impl Shared {
    /// Takes one file as it is now.
    pub(crate) fn examine(&self, stem: &OsStr) {
        {
            let known = self.known();
            if known.files.len() >= scan::FILES_MAX && !known.files.contains_key(stem) {
                // Looking at the directory says so, once.
                return self.signals.look();
            }
        }
        let directory = &self.options.plugin_dir;
        let contents = match scan::read(directory, stem, self.options.compile.wasm_bytes) {
            Ok(contents) => contents,
            Err(ReadError::Gone) => return self.gone(stem),
            Err(ReadError::Changing) => {
                return self.signals.found(stem, self.stamps(stem), SETTLE_OPEN);
            }
            Err(error) => {
                let sidecar = scan::read_sidecar(directory, stem);
                let file = unread(stem, self.stamps(stem), beside(sidecar.as_ref()).0);
                return self.refuse(stem, file, refusal_of(&error), Because::File);
            }
        };
        let (beside, complaint) = beside(contents.sidecar.as_ref());
        let digest = Digest::of(&contents.wasm);
        let mut file = FileState {
            digest: Some(digest),
            bytes: contents.wasm.len() as u64,
            ..unread(stem, Some(contents.stamps), beside)
        };
        // Before anything looks into the file.
        let signed = self.signed(digest, contents.signature.as_ref());
        file.signature = signed.as_ref().ok().and_then(|signature| Some(Digest::of(signature.as_ref()?)));
        match signed {
            Ok(_) if self.unchanged(stem, &file) => {}
            Ok(signature) => self.judge(stem, &contents, file, complaint, signature),
            Err(refusal) => self.refuse(stem, file, refusal, Because::Signature),
        }
    }

    /// The signatures with which a file of this digest may be used, where there are any and they are looked at.
    fn signed<'a>(
        &self,
        digest: Digest,
        signature: Option<&'a Result<Vec<u8>, ReadError>>,
    ) -> Result<Option<&'a [u8]>, Refusal> {
        let Some(policy) = self.signing() else { return Ok(None) };
        let signature = match signature {
            Some(Ok(signature)) => Some(signature.as_slice()),
            Some(Err(error)) => return Err(refusal_of(error)),
            None => None,
        };
        policy.check(digest, signature).map_err(|error| Refusal::of_file(error.to_string()))?;
        Ok(signature)
    }

    /// As a file and what is beside it are now.
    pub(crate) fn stamps(&self, stem: &OsStr) -> Option<Stamps> {
        scan::stamps(&self.options.plugin_dir, stem).ok().flatten()
    }

    /// Only its time changed, or nothing.
    fn unchanged(&self, stem: &OsStr, file: &FileState) -> bool {
        let mut known = self.known();
        let Some(before) = known.files.get_mut(stem) else { return false };
        // That its signatures were not good is over: it would not be asked whether it changed.
        let retry = before.refused.as_ref().is_some_and(|refused| {
            refused.refusal.passing || matches!(refused.because, Because::Holder | Because::Signature)
        });
        let unreadable = file.beside == Beside::Bad(None);
        if retry
            || unreadable
            || before.digest != file.digest
            || before.signature != file.signature
            || before.beside.digest() != file.beside.digest()
        {
            return false;
        }
        before.stamps = file.stamps;
        true
    }

    /// `complaint` is about the sidecar.
    fn judge(
        &self,
        stem: &OsStr,
        contents: &Contents,
        mut file: FileState,
        complaint: Option<Refusal>,
        signature: Option<&[u8]>,
    ) {
        let manifest = match manifest_of(stem, &contents.wasm) {
            Ok((name, manifest)) => {
                file.name = name;
                file.version = manifest.as_ref().map(|manifest| manifest.version.clone());
                manifest
            }
            Err(refusal) => return self.refuse(stem, file, refusal, Because::File),
        };
        let narrowed = match (&file.beside, complaint) {
            (_, Some(complaint)) => Err(complaint),
            (Beside::Sidecar(_, sidecar), None) => {
                sidecar.narrow(manifest.as_ref()).map_err(|error| Refusal::of_file(error.to_string()))
            }
            _ => Ok(manifest.unwrap_or_default()),
        };
        let manifest = match narrowed {
            Ok(manifest) => manifest,
            Err(mut refusal) => {
                let path = scan::sidecar_path(&self.options.plugin_dir, stem);
                refusal.reason = format!("sidecar {}: {}", path.display(), refusal.reason);
                file.beside = Beside::Bad(file.beside.digest());
                return self.refuse(stem, file, refusal, Because::File);
            }
        };
        if let Some(holder) = self.other_holder(stem, &file.name) {
            let refusal = Refusal::of_file(format!(
                "{} and {} are both named {:?}; the one loaded before stays",
                scan::wasm_path(&self.options.plugin_dir, &holder).display(),
                scan::wasm_path(&self.options.plugin_dir, stem).display(),
                file.name
            ));
            return self.refuse(stem, file, refusal, Because::Holder);
        }
        let Some(digest) = file.digest else { return };
        let same = self.known().same_as_current(&file.name, digest, file.beside.digest());
        let loaded = match same {
            Some(plugin) => Ok((plugin, None)),
            None => self
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
            signature: file.signature,
            name: file.name.clone(),
            version: file.version.clone(),
            bytes: file.bytes,
            beside: file.beside.clone(),
            plugin,
            compile,
        };
        if let Err(refusal) = self.accept(stem, &contents.wasm, signature, accepted) {
            self.refuse(stem, file, refusal, Because::File);
        }
    }

    /// Another file that has this name and still means it.
    fn other_holder(&self, stem: &OsStr, name: &str) -> Option<OsString> {
        let holder = self.known().holder_other_than(stem, name)?;
        match scan::read(&self.options.plugin_dir, &holder, self.options.compile.wasm_bytes) {
            Err(ReadError::Gone) => {
                self.gone(&holder);
                return None;
            }
            Ok(contents) => {
                let other = manifest_of(&holder, &contents.wasm).is_ok_and(|(now, _)| now != name);
                if other {
                    self.known().release(name);
                    return None;
                }
            }
            Err(_) => {}
        }
        Some(holder)
    }

    fn accept(
        &self,
        stem: &OsStr,
        wasm: &[u8],
        signature: Option<&[u8]>,
        accepted: Accepted,
    ) -> Result<(), Refusal> {
        let Accepted { digest, name, version, compile, .. } = &accepted;
        let (digest, name, version, compile) = (*digest, name.clone(), version.clone(), *compile);
        // Over both, so that expiry does not take the copy away in between.
        let _storing = self.storing();
        if let Some(signature) = signature {
            self.store.put_signature(digest, signature).map_err(|error| Refusal::of_host(&error))?;
        }
        self.store.put(digest, wasm, &name, version.as_deref()).map_err(|error| Refusal::of_host(&error))?;
        let taken = self.known().accept(stem, accepted);
        let file = scan::wasm_path(&self.options.plugin_dir, stem);
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
        let uploaded = self.known().controls.get(&name).and_then(|control| control.uploaded);
        if let Some(uploaded) = uploaded {
            tracing::warn!(
                plugin = name, file = %file.display(), %uploaded,
                "a file has the name of a plugin that was uploaded, and goes before it"
            );
        }
        self.published();
        Ok(())
    }

    fn refuse(&self, stem: &OsStr, mut file: FileState, refusal: Refusal, because: Because) {
        let (name, digest, reason) = (file.name.clone(), file.digest, refusal.reason.clone());
        file.refused = Some(Refused { refusal, because });
        if self.known().refuse(stem, file) {
            tracing::warn!(
                plugin = name, digest = digest.map(|digest| digest.to_string()),
                file = %scan::wasm_path(&self.options.plugin_dir, stem).display(),
                error = reason,
                "plugin refused"
            );
            self.published();
        }
    }

    fn gone(&self, stem: &OsStr) {
        let (released, was_known, missing) = {
            let mut known = self.known();
            let was_known = known.files.contains_key(stem);
            (known.gone(stem), was_known, known.missing.is_some())
        };
        // Of a directory that has gone with all its files there was a word already.
        if let Some(name) = released
            && !missing
        {
            tracing::warn!(
                plugin = name, file = %scan::wasm_path(&self.options.plugin_dir, stem).display(),
                "plugin file has gone, its version stays in use until the next start"
            );
        }
        if was_known {
            self.published();
        }
    }

    /// Tells who waits, and gives files another chance whose name has become free.
    fn published(&self) {
        for stem in self.known().waiting_for_a_name() {
            self.signals.found(&stem, None, Duration::ZERO);
        }
        self.news.notify_all();
        self.changed();
    }
}

/// A file of which nothing is known but what the directory says.
fn unread(stem: &OsStr, stamps: Option<Stamps>, beside: Beside) -> FileState {
    FileState {
        stamps,
        digest: None,
        signature: None,
        beside,
        name: stem.to_string_lossy().into_owned(),
        bytes: stamps.map_or(0, |stamps| stamps.wasm.bytes),
        version: None,
        refused: None,
    }
}

fn refusal_of(error: &ReadError) -> Refusal {
    Refusal { reason: error.to_string(), passing: matches!(error, ReadError::Io { .. }) }
}

/// The sidecar that was read, and what is wrong with it.
fn beside(sidecar: Option<&Result<Vec<u8>, ReadError>>) -> (Beside, Option<Refusal>) {
    match sidecar {
        None => (Beside::Nothing, None),
        Some(Err(error)) => (Beside::Bad(None), Some(refusal_of(error))),
        Some(Ok(json)) => match Sidecar::parse(json) {
            Ok(sidecar) => (Beside::Sidecar(Digest::of(json), sidecar), None),
            Err(error) => (Beside::Bad(Some(Digest::of(json))), Some(Refusal::of_file(error.to_string()))),
        },
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
