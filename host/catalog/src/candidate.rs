//! A plugin file that somebody handed over instead of putting it into the directory: one more version, which nothing takes
//! by itself.
//!
//! It is examined as a file of the directory is, under the sidecar of its name. It refuses what that would refuse.

use wasmill_transform::{Digest, read_manifest};

use crate::catalog::{load_kept, store_error};
use crate::error::{AddError, FindError};
use crate::load::chain;
use crate::shared::Shared;

/// See the head of this file. Parsers of plugin files recurse: for a thread with a stack for it.
pub(crate) fn add(
    shared: &Shared,
    name: &str,
    wasm: &[u8],
    signature: Option<&[u8]>,
) -> Result<Digest, AddError> {
    let refused = |reason: String| AddError::Refused { reason };
    let digest = Digest::of(wasm);
    // Before anything looks into the file.
    let signature = match shared.signing() {
        Some(policy) => {
            policy.check(digest, signature).map_err(|error| refused(error.to_string()))?;
            signature
        }
        None => None,
    };
    let manifest = read_manifest(wasm).map_err(|error| refused(chain(&error)))?;
    if let Some(manifest) = manifest.as_ref().filter(|manifest| manifest.name != name) {
        return Err(AddError::OtherName { name: name.to_owned(), actual: manifest.name.clone() });
    }
    let was_known = shared.known().versions.get(&digest).is_some_and(|version| version.names.contains(name));
    if !was_known {
        // Refused without a trace in the store.
        let manifest = manifest.clone().unwrap_or_default();
        shared.loader.load(wasm, digest, manifest, name).map_err(|refusal| match refusal.passing {
            true => AddError::Compile { reason: refusal.reason },
            false => refused(refusal.reason),
        })?;
    }
    let version = manifest.map(|manifest| manifest.version);
    {
        // Over both, so that expiry does not take the copy away in between.
        let _storing = shared.storing();
        if let Some(signature) = signature {
            let kept = shared.store.put_signature(digest, signature);
            kept.map_err(|error| AddError::Store(store_error(error)))?;
        }
        shared
            .store
            .put(digest, wasm, name, version.as_deref())
            .map_err(|error| AddError::Store(store_error(error)))?;
        shared.known().add(digest, name, version.clone(), wasm.len() as u64);
    }
    // Under the sidecar of the name.
    load_kept(shared, name, Some(digest)).map_err(|error| {
        let reason = match error {
            FindError::Refused { reason, .. } => reason,
            error => error.to_string(),
        };
        shared.known().tried(digest, Some(&reason));
        refused(reason)
    })?;
    tracing::info!(plugin = name, version, %digest, "plugin file handed over as a candidate");
    shared.changed();
    Ok(digest)
}
