//! New rules for signatures while the catalog is open: what is known is judged again, as at a start.
//!
//! What is not good any more stands for no name from that moment on; what has become good is found once its file was looked
//! at again, which happens behind. Streams that run what is refused are the pipeline's to stop.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use wasmill_transform::Digest;

use crate::catalog::Catalog;
use crate::known::{Because, Known, Refused};
use crate::load::Refusal;
use crate::scan;
use crate::shared::Shared;
use crate::signing::SigningPolicy;

impl Catalog {
    /// Asks this of signatures from now on. Whether that is news. Blocks on the disk.
    pub fn ask_signatures(&self, policy: Option<SigningPolicy>) -> bool {
        let shared = self.shared();
        if !shared.ask_signatures(policy) {
            return false;
        }
        shared.judge_again();
        true
    }

    /// Why this version may not be used, as signatures are asked for now. Blocks on the disk.
    pub fn refuses(&self, digest: Digest) -> Option<String> {
        let shared = self.shared();
        // What stands for a name was judged when it came to, and since.
        let stands = shared.known().names.values().any(|name| name.plugin.digest == digest);
        if stands {
            return None;
        }
        shared.signed_kept(digest, None).err().map(|refusal| refusal.reason)
    }
}

impl Shared {
    /// By what is beside the file that holds it, or else by what was kept.
    fn signed_kept(&self, digest: Digest, holder: Option<&OsStr>) -> Result<(), Refusal> {
        let Some(policy) = self.signing() else { return Ok(()) };
        let beside = holder.and_then(|stem| scan::read_signature(&self.options.plugin_dir, stem));
        let signature = match beside {
            Some(beside) => Some(beside.map_err(|error| Refusal::of_file(error.to_string()))?),
            None => self.store.signature(digest).map_err(|error| Refusal::of_host(&error))?,
        };
        let checked = policy.check(digest, signature.as_deref());
        checked.map_err(|error| Refusal::of_file(error.to_string()))
    }

    fn judge_again(&self) {
        let standing: Vec<(String, Digest, Option<OsString>)> = {
            let known = self.known();
            let names = known.names.iter().map(|(name, of)| {
                let digest = of.plugin.digest;
                // The file may be another one by now, which is refused.
                let holds =
                    |stem: &OsString| known.files.get(stem).is_some_and(|file| file.digest == Some(digest));
                (name.clone(), digest, of.holder.clone().filter(holds))
            });
            names.collect()
        };
        for (name, digest, holder) in standing {
            let Err(refusal) = self.signed_kept(digest, holder.as_deref()) else { continue };
            tracing::warn!(
                plugin = name, %digest, error = refusal.reason,
                "plugin refused: it is not signed as it must be from now on"
            );
            self.known().withdraw(&name, digest, refusal);
        }
        let loaded: Vec<Digest> = {
            let known = self.known();
            let loaded = known.versions.iter().filter(|(_, version)| version.pinned.is_some());
            loaded.map(|(digest, _)| *digest).collect()
        };
        for digest in loaded {
            if self.signed_kept(digest, None).is_err()
                && let Some(version) = self.known().versions.get_mut(&digest)
            {
                version.pinned = None;
            }
        }
        let stems: Vec<OsString> = self.known().files.keys().cloned().collect();
        for stem in stems {
            self.signals.found(&stem, None, Duration::ZERO);
        }
        self.news.notify_all();
        self.changed();
    }
}

impl Known {
    /// What stands for a name does so no more.
    fn withdraw(&mut self, name: &str, digest: Digest, refusal: Refusal) {
        if self.names.get(name).is_none_or(|of| of.plugin.digest != digest) {
            return;
        }
        let holder = self.names.remove(name).and_then(|gone| gone.holder);
        if let Some(file) = holder.and_then(|stem| self.files.get_mut(&stem))
            && file.digest == Some(digest)
        {
            file.refused = Some(Refused { refusal, because: Because::Signature });
        }
        self.refusals += 1;
    }
}
