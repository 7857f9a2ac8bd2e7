//! Everything that the catalog knows: files of the directory, names and their current versions, versions by digest.
//!
//! Pure bookkeeping under one lock: no file is touched and nothing is compiled here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use wasmill_transform::{Digest, Plugin};

use crate::control::Control;
use crate::load::Refusal;
use crate::scan::Stamps;
use crate::sidecar::Sidecar;
use crate::store::Kept;

/// Versions per name that expiry leaves whatever happens.
pub(crate) const VERSIONS_KEPT: usize = 16;
/// Streams whose failed probes are remembered, per version.
const PROBES_MAX: usize = 1024;

/// A file of the plugin directory as it was last looked at.
pub(crate) struct FileState {
    /// Absent if it could not even be read.
    pub(crate) stamps: Option<Stamps>,
    pub(crate) digest: Option<Digest>,
    /// Of its signature file, where signatures are looked at.
    pub(crate) signature: Option<Digest>,
    pub(crate) beside: Beside,
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) version: Option<String>,
    pub(crate) refused: Option<Refused>,
}

/// Why a file is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) because: Because,
}

/// The sidecar of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    Sidecar(Digest, Sidecar),
    /// Nobody knows what it was meant to say. The digest is absent if it could not be read.
    Bad(Option<Digest>),
}

impl Beside {
    pub(crate) fn digest(&self) -> Option<Digest> {
        match self {
            Beside::Nothing => None,
            Beside::Sidecar(digest, _) => Some(*digest),
            Beside::Bad(digest) => *digest,
        }
    }

    /// As it narrows a version; a bad one narrows nothing.
    pub(crate) fn narrowing(&self) -> Option<(Digest, Sidecar)> {
        match self {
            Beside::Sidecar(digest, sidecar) => Some((*digest, sidecar.clone())),
            Beside::Nothing | Beside::Bad(_) => None,
        }
    }
}

/// What has to change before the file is worth another look by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// The file or its sidecar.
    File,
    /// Its signatures, or what is asked of them.
    Signature,
    /// Another file has the name.
    Holder,
}

/// A name and what it stands for.
pub(crate) struct Name {
    pub(crate) plugin: Arc<Plugin>,
    /// The file that it came from; `None` once that has gone or has another name.
    pub(crate) holder: Option<OsString>,
    pub(crate) sidecar: Option<(Digest, Sidecar)>,
}

/// A version that was accepted at some time.
pub(crate) struct Version {
    pub(crate) names: BTreeSet<String>,
    pub(crate) version: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) accepted: SystemTime,
    /// As last loaded for a pin, and the sidecar that narrowed it. Streams keep it alive, the catalog does not.
    pub(crate) pinned: Option<(Weak<Plugin>, Option<Digest>)>,
    pub(crate) loaded_at: Option<SystemTime>,
    pub(crate) compile: Option<Duration>,
    pub(crate) probe_failures: BTreeMap<String, String>,
    /// Why it was no candidate when it was last to be one.
    pub(crate) refused: Option<String>,
}

/// The version under each name that one stream ran last.
pub(crate) type Ran = BTreeMap<String, Digest>;

/// What [`Known::look_up`] found.
pub(crate) enum LookUp {
    Found(Arc<Plugin>),
    /// There is a copy; load it with this sidecar.
    Load(Option<(Digest, Sidecar)>),
    OtherName(String),
    /// There is a file, which is refused: its stem and the reason.
    Refused(OsString, String),
    Missing,
}

#[derive(Default)]
pub(crate) struct Known {
    pub(crate) files: BTreeMap<OsString, FileState>,
    pub(crate) names: BTreeMap<String, Name>,
    pub(crate) versions: BTreeMap<Digest, Version>,
    /// Every file of the first scan has been looked at.
    pub(crate) scanned: bool,
    /// The thread has ended.
    pub(crate) stopped: bool,
    pub(crate) polling: bool,
    /// Which versions each stream ran last, by plugin name; also of streams that are not there now.
    pub(crate) ran: BTreeMap<String, Ran>,
    /// By plugin name; of one that is not there nothing was decided.
    pub(crate) controls: BTreeMap<String, Control>,
    /// Streams that [`Known::ran`] has from this process.
    pub(crate) running: BTreeSet<String>,
    /// The plugin directory could not be looked at when last asked for, and why.
    pub(crate) missing: Option<String>,
    pub(crate) reloads: u64,
    pub(crate) refusals: u64,
}

/// A version that is about to become current.
pub(crate) struct Accepted {
    pub(crate) stamps: Stamps,
    pub(crate) digest: Digest,
    pub(crate) signature: Option<Digest>,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) beside: Beside,
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) compile: Option<Duration>,
}

/// What [`Known::accept`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The name had no version.
    New,
    /// It took over from this version, which may be the same under another sidecar.
    Over(Digest),
    /// The very same plugin: its file was away.
    Same,
}

impl Version {
    fn new(version: Option<String>, bytes: u64) -> Version {
        Version {
            names: BTreeSet::new(),
            version,
            bytes,
            accepted: SystemTime::now(),
            pinned: None,
            loaded_at: None,
            compile: None,
            probe_failures: BTreeMap::new(),
            refused: None,
        }
    }
}

impl Name {
    pub(crate) fn narrowed_by(&self) -> Option<Digest> {
        self.sidecar.as_ref().map(|(digest, _)| *digest)
    }
}

impl Known {
    pub(crate) fn remember(&mut self, kept: Vec<Kept>) {
        for kept in kept {
            let version = Version::new(kept.note.version, kept.bytes);
            let version = Version { names: kept.note.names, accepted: kept.accepted, ..version };
            self.versions.insert(kept.digest, version);
        }
    }

    /// The file that has `name`, if it is another one.
    pub(crate) fn holder_other_than(&self, stem: &OsStr, name: &str) -> Option<OsString> {
        self.names.get(name)?.holder.clone().filter(|holder| holder != stem)
    }

    /// The plugin under `name` if it is this very version under this sidecar.
    pub(crate) fn same_as_current(
        &self,
        name: &str,
        digest: Digest,
        sidecar: Option<Digest>,
    ) -> Option<Arc<Plugin>> {
        let current = self.names.get(name)?;
        let same = current.plugin.digest == digest && current.narrowed_by() == sidecar;
        same.then(|| Arc::clone(&current.plugin))
    }

    /// A version was tried as a candidate: `refused` says why it cannot be one.
    pub(crate) fn tried(&mut self, digest: Digest, refused: Option<&str>) {
        if let Some(version) = self.versions.get_mut(&digest) {
            version.refused = refused.map(str::to_owned);
        }
    }

    /// Makes a version current.
    pub(crate) fn accept(&mut self, stem: &OsStr, accepted: Accepted) -> Taken {
        let Accepted { stamps, digest, signature, name, version, bytes, beside, plugin, compile } = accepted;
        self.release_names(stem, Some(&name));
        let before = self
            .names
            .get(&name)
            .map(|name| (name.plugin.digest, Arc::downgrade(&name.plugin), name.narrowed_by()));
        let known = self.versions.entry(digest).or_insert_with(|| Version::new(version.clone(), bytes));
        known.names.insert(name.clone());
        known.accepted = SystemTime::now();
        known.loaded_at = Some(known.accepted);
        known.compile = compile.or(known.compile);
        // A version that comes back is probed anew.
        known.probe_failures.clear();
        known.refused = None;
        let sidecar = beside.narrowing();
        let file = FileState {
            stamps: Some(stamps),
            digest: Some(digest),
            signature,
            beside,
            name: name.clone(),
            bytes,
            version,
            refused: None,
        };
        self.files.insert(stem.to_owned(), file);
        let same = before.as_ref().is_some_and(|(_, before, _)| before.as_ptr() == Arc::as_ptr(&plugin));
        self.names.insert(name, Name { plugin, holder: Some(stem.to_owned()), sidecar });
        if same {
            return Taken::Same;
        }
        if self.scanned {
            self.reloads += 1;
        }
        let Some((before, plugin, narrowed_by)) = before else { return Taken::New };
        if before != digest
            && let Some(version) = self.versions.get_mut(&before)
        {
            version.pinned = Some((plugin, narrowed_by));
        }
        Taken::Over(before)
    }

    /// Remembers a version that came from no file of the directory.
    pub(crate) fn add(&mut self, digest: Digest, name: &str, version: Option<String>, bytes: u64) {
        let known = self.versions.entry(digest).or_insert_with(|| Version::new(version, bytes));
        known.names.insert(name.to_owned());
        known.accepted = SystemTime::now();
    }

    /// Notes that a file is refused. Returns whether that is news.
    pub(crate) fn refuse(&mut self, stem: &OsStr, file: FileState) -> bool {
        let same = |before: &FileState| match (&before.refused, &file.refused) {
            (Some(before), Some(now)) => {
                let passing = before.refusal.passing && now.refusal.passing;
                before.because == now.because && (passing || before.refusal == now.refusal)
            }
            (before, now) => before.is_none() && now.is_none(),
        };
        let news = self.files.get(stem).is_none_or(|before| before.digest != file.digest || !same(before));
        if news {
            self.refusals += 1;
        }
        self.files.insert(stem.to_owned(), file);
        news
    }

    /// Forgets a file. Returns the name that lost it.
    pub(crate) fn gone(&mut self, stem: &OsStr) -> Option<String> {
        self.files.remove(stem)?;
        self.release_names(stem, None)
    }

    /// Takes from a file the names that it holds, but for one.
    fn release_names(&mut self, stem: &OsStr, but: Option<&str>) -> Option<String> {
        let mut released = None;
        for (name, state) in &mut self.names {
            if state.holder.as_deref() == Some(stem) && but != Some(name) {
                state.holder = None;
                released = Some(name.clone());
            }
        }
        released
    }

    /// As [`Known::gone`] for a file that is still there but has another name now.
    pub(crate) fn release(&mut self, name: &str) {
        if let Some(state) = self.names.get_mut(name) {
            state.holder = None;
        }
    }

    /// Files that were refused because another one had their name.
    pub(crate) fn waiting_for_a_name(&self) -> Vec<OsString> {
        let waits = |file: &FileState| {
            let waits = file.refused.as_ref().is_some_and(|refused| refused.because == Because::Holder);
            waits && self.names.get(&file.name).is_none_or(|name| name.holder.is_none())
        };
        self.files.iter().filter(|(_, file)| waits(file)).map(|(stem, _)| stem.clone()).collect()
    }

    pub(crate) fn look_up(&self, name: &str, digest: Option<Digest>) -> LookUp {
        let current = self.names.get(name);
        let refused = self.refused_file(|file| file.name == name);
        let Some(digest) = digest else {
            return match (current, refused) {
                (Some(current), _) => LookUp::Found(Arc::clone(&current.plugin)),
                (None, Some((stem, reason))) => LookUp::Refused(stem, reason),
                (None, None) => LookUp::Missing,
            };
        };
        if let Some(current) = current.filter(|current| current.plugin.digest == digest) {
            return LookUp::Found(Arc::clone(&current.plugin));
        }
        let Some(version) = self.versions.get(&digest) else {
            return match self.refused_file(|file| file.name == name && file.digest == Some(digest)) {
                Some((stem, reason)) => LookUp::Refused(stem, reason),
                None => LookUp::Missing,
            };
        };
        if !version.names.contains(name) {
            return LookUp::OtherName(version.names.iter().next().cloned().unwrap_or_default());
        }
        let sidecar = match current {
            Some(current) => current.sidecar.clone(),
            // What is in the directory may be bad, but how the operator narrows the name holds all the same.
            None => match self.beside(name) {
                Ok(sidecar) => sidecar,
                Err((stem, reason)) => return LookUp::Refused(stem, reason),
            },
        };
        if let Some((plugin, narrowed_by)) = &version.pinned
            && let Some(plugin) = plugin.upgrade()
            && *narrowed_by == sidecar.as_ref().map(|(digest, _)| *digest)
            && plugin.name == name
        {
            return LookUp::Found(plugin);
        }
        LookUp::Load(sidecar)
    }

    /// The sidecar of a name without a current version. A bad one is an error: then no version of the name gets anything.
    fn beside(&self, name: &str) -> Result<Option<(Digest, Sidecar)>, (OsString, String)> {
        let bad = |file: &FileState| file.name == name && matches!(file.beside, Beside::Bad(_));
        match self.refused_file(bad) {
            Some(refused) => Err(refused),
            None => {
                let mut files = self.files.values().filter(|file| file.name == name);
                Ok(files.find_map(|file| file.beside.narrowing()))
            }
        }
    }

    fn refused_file(&self, wanted: impl Fn(&FileState) -> bool) -> Option<(OsString, String)> {
        self.files
            .iter()
            .filter(|(_, file)| wanted(file))
            .find_map(|(stem, file)| Some((stem.clone(), file.refused.as_ref()?.refusal.reason.clone())))
    }

    /// The known name that is nearest to a misspelt one.
    pub(crate) fn nearest(&self, name: &str) -> Option<String> {
        // An edit distance costs the product of the lengths; nobody misspells a name of 100 characters.
        if name.len() > 100 {
            return None;
        }
        self.names
            .keys()
            .map(|known| (strsim::damerau_levenshtein(name, known), known))
            .filter(|(distance, known)| *distance <= known.len().max(name.len()).div_ceil(3))
            .min()
            .map(|(_, known)| known.clone())
    }

    /// Nothing is known of a stream any more.
    pub(crate) fn forget_stream(&mut self, stream: &str) {
        self.ran.remove(stream);
        self.running.remove(stream);
        for version in self.versions.values_mut() {
            version.probe_failures.remove(stream);
        }
    }

    pub(crate) fn note_probe(&mut self, digest: Digest, stream: &str, result: Result<(), String>) {
        let Some(version) = self.versions.get_mut(&digest) else { return };
        let failures = &mut version.probe_failures;
        match result {
            Ok(()) => {
                failures.remove(stream);
            }
            Err(reason) if failures.len() < PROBES_MAX || failures.contains_key(stream) => {
                failures.insert(stream.to_owned(), reason);
            }
            Err(_) => {}
        }
    }

    /// Versions that nobody needs: not among the newest of any of their names, not `needed`, not current, not in use.
    pub(crate) fn expired(&self, needed: &HashSet<Digest>) -> Vec<Digest> {
        let mut by_name: BTreeMap<&str, Vec<(SystemTime, Digest)>> = BTreeMap::new();
        for (digest, version) in &self.versions {
            for name in &version.names {
                by_name.entry(name).or_default().push((version.accepted, *digest));
            }
        }
        let mut kept: HashSet<Digest> = self.names.values().map(|name| name.plugin.digest).collect();
        kept.extend(self.ran.values().flat_map(BTreeMap::values));
        kept.extend(self.controls.values().flat_map(Control::needed));
        for versions in by_name.values_mut() {
            versions.sort_unstable_by(|a, b| b.cmp(a));
            kept.extend(versions.iter().take(VERSIONS_KEPT).map(|(_, digest)| *digest));
        }
        let in_use =
            |version: &Version| version.pinned.as_ref().is_some_and(|(plugin, _)| plugin.strong_count() > 0);
        let expired = self.versions.iter().filter(|(digest, version)| {
            !kept.contains(digest) && !needed.contains(digest) && !in_use(version)
        });
        expired.map(|(digest, _)| *digest).collect()
    }
}
