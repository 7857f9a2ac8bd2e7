//! Streams that are defined at run time: the definition that holds, those before it, and who made each.
//!
//! One file a stream, replaced as a whole. A stream that was removed leaves its file behind with a tombstone: who removed
//! it and what was discarded with it; so the next one of the name goes on counting versions, and what a client remembers
//! of the one before never fits it. Only what holds is in memory. It knows nothing of what a definition means.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmill_tenant::{Moment, TenantName, is_stream_name};

use crate::audit::Actor;
use crate::error::{ControlError, StoreError};
use crate::file;

const FORMAT: u64 = 1;
/// Versions of a definition that are kept, the present one among them.
pub const VERSIONS_KEPT: usize = 10;
/// Of one tenant.
const STREAMS_MAX: usize = 1000;
/// Of one tenant; of more, the oldest are forgotten.
const TOMBSTONES_MAX: usize = 1000;

/// What a definition is made of.
#[derive(Clone, Debug)]
pub struct Definition {
    pub value: Value,
    /// What it was made from, where it was told in the words of another interface.
    pub origin: Option<Value>,
    pub by: Actor,
    pub at_ms: Moment,
}

/// One version of a definition.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Version {
    /// Counts from 1; a removal counts, too.
    pub version: u64,
    pub at_ms: Moment,
    pub by: Actor,
    /// `None`: it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Value>,
    /// Of a removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discarded: Option<Discarded>,
}

/// What was there when a stream was removed, and went with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Discarded {
    /// Whether it was to go, whatever it was.
    pub forced: bool,
    /// Records that were not processed, as far as was known.
    pub records: u64,
    /// Rows that were not delivered.
    pub undelivered: u64,
    pub dead_letters: u64,
}

/// The definition that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Defined {
    pub version: u64,
    pub at_ms: Moment,
    pub by: Actor,
    pub definition: Arc<Value>,
    pub origin: Option<Arc<Value>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    tenant: TenantName,
    stream: String,
    /// The newest first; never empty.
    versions: Vec<Version>,
}

/// What is known of a stream without its file.
#[derive(Clone)]
enum Known {
    Live(Defined),
    Removed { at_ms: Moment },
}

type Streams = BTreeMap<(TenantName, String), Known>;

/// See the head of this file. What changes something is [`crate::Control`]'s to call, and blocks on the disk.
pub struct Definitions {
    dir: PathBuf,
    known: RwLock<Streams>,
}

impl Definitions {
    /// Reads all of them.
    pub(crate) fn open(dir: PathBuf) -> Result<Definitions, StoreError> {
        let mut known = Streams::new();
        for tenant_dir in file::directories(&dir)? {
            for path in file::list(&tenant_dir)? {
                let Some(stored) = file::read::<Stored>(&path, FORMAT)? else { continue };
                let unreadable = |reason: String| StoreError::Unreadable { path: path.clone(), reason };
                let Stored { tenant, stream, mut versions } = stored;
                if path != place(&dir, &tenant, &stream) {
                    return Err(unreadable(format!("it is about stream {stream:?} of tenant {tenant}")));
                }
                if versions.is_empty() {
                    return Err(unreadable("it has no version".to_owned()));
                }
                known.insert((tenant, stream), Known::of(versions.swap_remove(0)));
            }
        }
        Ok(Definitions { dir, known: RwLock::new(known) })
    }

    fn known(&self) -> RwLockReadGuard<'_, Streams> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Streams> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What holds of a stream, unless it is not defined here.
    pub fn get(&self, tenant: &TenantName, stream: &str) -> Option<Defined> {
        match self.known().get(&(tenant.clone(), stream.to_owned()))? {
            Known::Live(defined) => Some(defined.clone()),
            Known::Removed { .. } => None,
        }
    }

    pub fn has(&self, tenant: &TenantName, stream: &str) -> bool {
        matches!(self.known().get(&(tenant.clone(), stream.to_owned())), Some(Known::Live(_)))
    }

    /// All streams that are defined, by tenant and name.
    pub fn all(&self) -> Vec<(TenantName, String)> {
        let known = self.known();
        let live = known.iter().filter(|(_, known)| matches!(known, Known::Live(_)));
        live.map(|(key, _)| key.clone()).collect()
    }

    pub fn count(&self, tenant: &TenantName) -> usize {
        self.names_of(tenant).len()
    }

    /// Of the streams of a tenant that are defined.
    pub fn names_of(&self, tenant: &TenantName) -> Vec<String> {
        let live = self.of(tenant, |known| matches!(known, Known::Live(_)));
        live.into_iter().map(|(_, name)| name).collect()
    }

    fn of(&self, tenant: &TenantName, which: impl Fn(&Known) -> bool) -> Vec<(Moment, String)> {
        let known = self.known();
        let of_tenant = known.iter().filter(|((owner, _), known)| owner == tenant && which(known));
        let named = of_tenant.map(|((_, stream), known)| match known {
            Known::Live(defined) => (defined.at_ms, stream.clone()),
            Known::Removed { at_ms } => (*at_ms, stream.clone()),
        });
        named.collect()
    }

    /// What is kept of a stream's versions, the newest first. Blocks.
    ///
    /// # Errors
    /// There is none of this name, or its file cannot be read.
    pub fn versions(&self, tenant: &TenantName, stream: &str) -> Result<Vec<Version>, ControlError> {
        if !self.has(tenant, stream) {
            return Err(ControlError::NoStream { name: stream.to_owned() });
        }
        Ok(self.read(tenant, stream)?.map(|stored| stored.versions).unwrap_or_default())
    }

    fn read(&self, tenant: &TenantName, stream: &str) -> Result<Option<Stored>, StoreError> {
        file::read(&place(&self.dir, tenant, stream), FORMAT)
    }

    pub(crate) fn put(
        &self,
        tenant: &TenantName,
        stream: &str,
        definition: Definition,
    ) -> Result<Defined, ControlError> {
        // It becomes a file's name, with more behind it.
        if !is_stream_name(stream) {
            return Err(ControlError::BadStreamName { name: stream.chars().take(65).collect() });
        }
        if !self.has(tenant, stream) && self.count(tenant) >= STREAMS_MAX {
            return Err(ControlError::TooManyStreams { name: tenant.clone(), max: STREAMS_MAX });
        }
        let Definition { value, origin, by, at_ms } = definition;
        let version = Version { version: 0, at_ms, by, definition: Some(value), origin, discarded: None };
        let stored = self.write(tenant, stream, version)?;
        match stored {
            Known::Live(defined) => Ok(defined),
            Known::Removed { .. } => Err(ControlError::NoStream { name: stream.to_owned() }),
        }
    }

    pub(crate) fn end(
        &self,
        tenant: &TenantName,
        stream: &str,
        by: Actor,
        discarded: Discarded,
        now: Moment,
    ) -> Result<(), ControlError> {
        if !self.has(tenant, stream) {
            return Err(ControlError::NoStream { name: stream.to_owned() });
        }
        let version = Version {
            version: 0,
            at_ms: now,
            by,
            definition: None,
            origin: None,
            discarded: Some(discarded),
        };
        self.write(tenant, stream, version)?;
        let mut tombstones = self.of(tenant, |known| matches!(known, Known::Removed { .. }));
        if tombstones.len() > TOMBSTONES_MAX {
            tombstones.sort();
            for (_, stream) in tombstones.drain(..tombstones.len() - TOMBSTONES_MAX) {
                file::remove(&place(&self.dir, tenant, &stream))?;
                self.known_mut().remove(&(tenant.clone(), stream));
            }
        }
        Ok(())
    }

    /// On disk first, then in use.
    fn write(&self, tenant: &TenantName, stream: &str, newest: Version) -> Result<Known, StoreError> {
        let before = self.read(tenant, stream)?;
        let mut versions = before.map(|stored| stored.versions).unwrap_or_default();
        let last = versions.first().map_or(0, |last| last.version);
        versions.insert(0, Version { version: last + 1, ..newest });
        versions.truncate(VERSIONS_KEPT);
        self.store(Stored { tenant: tenant.clone(), stream: stream.to_owned(), versions })
    }

    /// Puts another origin in the place of that of the version which holds, if that is this one.
    pub(crate) fn amend(
        &self,
        tenant: &TenantName,
        stream: &str,
        version: u64,
        origin: Value,
    ) -> Result<(), ControlError> {
        let stored = self.read(tenant, stream)?.filter(|_| self.has(tenant, stream));
        let mut stored = stored.ok_or_else(|| ControlError::NoStream { name: stream.to_owned() })?;
        match stored.versions.first_mut() {
            Some(holds) if holds.version == version => holds.origin = Some(origin),
            _ => return Err(ControlError::Changed { what: format!("stream {stream:?}") }),
        }
        self.store(stored)?;
        Ok(())
    }

    fn store(&self, stored: Stored) -> Result<Known, StoreError> {
        let (tenant, stream) = (&stored.tenant, &stored.stream);
        file::make_directory(&self.dir.join(tenant.as_str()))?;
        file::write(&place(&self.dir, tenant, stream), FORMAT, &stored)?;
        let Stored { tenant, stream, mut versions } = stored;
        let known = Known::of(versions.swap_remove(0));
        self.known_mut().insert((tenant, stream), known.clone());
        Ok(known)
    }

    /// Everything of a tenant that has no streams any more: whoever gets the name next finds nothing of it.
    pub(crate) fn forget(&self, tenant: &TenantName) -> Result<(), StoreError> {
        for (_, stream) in self.of(tenant, |_| true) {
            file::remove(&place(&self.dir, tenant, &stream))?;
            self.known_mut().remove(&(tenant.clone(), stream));
        }
        Ok(())
    }
}

impl Known {
    fn of(newest: Version) -> Known {
        let Version { version, at_ms, by, definition, origin, discarded: _ } = newest;
        match definition {
            Some(definition) => Known::Live(Defined {
                version,
                at_ms,
                by,
                definition: Arc::new(definition),
                origin: origin.map(Arc::new),
            }),
            None => Known::Removed { at_ms },
        }
    }
}

fn place(dir: &Path, tenant: &TenantName, stream: &str) -> PathBuf {
    dir.join(tenant.as_str()).join(format!("{stream}.json"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Control;

    fn definition(n: u64) -> Definition {
        Definition { value: json!({ "n": n }), origin: None, by: Actor::default(), at_ms: n }
    }

    fn team() -> TenantName {
        TenantName::default_tenant()
    }

    #[test]
    fn definition_is_there_after_the_next_start_with_those_before() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        for n in 1..=12 {
            assert_eq!(control.define(&team(), "events", definition(n)).unwrap().version, n);
        }
        let control = Control::open(dir.path()).unwrap();
        let held = control.definitions().get(&team(), "events").unwrap();
        assert_eq!((held.version, &*held.definition), (12, &json!({"n": 12})));
        let kept = control.definitions().versions(&team(), "events").unwrap();
        let numbers: Vec<u64> = kept.iter().map(|version| version.version).collect();
        assert_eq!(numbers, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]);
        assert_eq!(control.definitions().all(), [(team(), "events".to_owned())]);
    }

    #[test]
    fn removed_stream_leaves_a_tombstone_and_the_next_of_its_name_goes_on_counting() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        control.define(&team(), "events", definition(1)).unwrap();
        let discarded = Discarded { forced: true, records: 7, ..Discarded::default() };
        control.undefine(&team(), "events", Actor::default(), discarded, 2).unwrap();
        assert_eq!(control.definitions().get(&team(), "events"), None);
        let stored = std::fs::read_to_string(dir.path().join("control/streams/default/events.json")).unwrap();
        assert!(stored.contains("\"records\":7"), "{stored}");
        let again = control.undefine(&team(), "events", Actor::default(), discarded, 2);
        assert!(matches!(again, Err(ControlError::NoStream { .. })));
        let control = Control::open(dir.path()).unwrap();
        assert_eq!(control.definitions().count(&team()), 0);
        assert_eq!(control.define(&team(), "events", definition(3)).unwrap().version, 3);
    }

    #[test]
    fn origin_is_kept_with_its_version_and_amended_only_while_that_holds() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        let told = Definition { origin: Some(json!({ "told": 1 })), ..definition(1) };
        control.define(&team(), "events", told).unwrap();
        control.amend(&team(), "events", 1, json!({ "told": 2 })).unwrap();
        let control = Control::open(dir.path()).unwrap();
        let held = control.definitions().get(&team(), "events").unwrap();
        assert_eq!((held.version, held.origin.as_deref()), (1, Some(&json!({ "told": 2 }))));
        control.define(&team(), "events", definition(2)).unwrap();
        assert_eq!(control.definitions().get(&team(), "events").unwrap().origin, None);
        let stale = control.amend(&team(), "events", 1, json!({}));
        assert!(matches!(stale, Err(ControlError::Changed { .. })));
        let nobody = control.amend(&team(), "nothing", 1, json!({}));
        assert!(matches!(nobody, Err(ControlError::NoStream { .. })));
    }

    #[test]
    fn name_that_would_leave_its_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        for name in ["", ".", "..", ".a", "../x", "a/b", "a\\b", "\0", "a.b/c"] {
            let refused = control.define(&team(), name, definition(1));
            assert!(matches!(refused, Err(ControlError::BadStreamName { .. })), "{name:?}");
        }
        let nobody = TenantName::new("nobody").unwrap();
        assert!(matches!(control.define(&nobody, "a", definition(1)), Err(ControlError::NoTenant { .. })));
    }

    #[test]
    fn names_with_dots_are_streams_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        // Also those that are like files which are kept beside.
        let names = ["a", "a.json", "a.json.new", "a.b", "a.b.c", "a..b"];
        for (number, name) in (1..).zip(names) {
            control.define(&team(), name, definition(number)).unwrap();
        }
        let control = Control::open(dir.path()).unwrap();
        for (number, name) in (1..).zip(names) {
            let held = control.definitions().get(&team(), name).unwrap();
            assert_eq!(*held.definition, definition(number).value, "{name}");
        }
    }

    #[test]
    fn file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        control.define(&team(), "events", definition(1)).unwrap();
        let path = dir.path().join("control/streams/default/events.json");
        for (text, says) in [("{\"format\":1,\"tenant\"", "events.json"), ("{\"format\":9}", "newer version")]
        {
            std::fs::write(&path, text).unwrap();
            let error = Control::open(dir.path()).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
        std::fs::write(&path, "{\"format\":1,\"tenant\":\"default\",\"stream\":\"other\",\"versions\":[]}")
            .unwrap();
        let error = Control::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("about stream \"other\""), "{error}");
    }

    #[test]
    fn tenant_with_streams_stays_and_one_that_goes_takes_their_tombstones_along() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        let (audit, name) = (crate::AuditLog::new(dir.path()), TenantName::new("t").unwrap());
        control.create_tenant(&audit, &name, 1).unwrap();
        control.define(&name, "events", definition(1)).unwrap();
        control.disable_tenant(&name, true, 2).unwrap();
        assert!(matches!(
            control.delete_tenant(&name, 0, || None, || ()),
            Err(ControlError::HasStreams { streams: 1, .. })
        ));
        control.undefine(&name, "events", Actor::default(), Discarded::default(), 3).unwrap();
        control.delete_tenant(&name, 0, || None, || ()).unwrap();
        assert!(!dir.path().join("control/streams/t/events.json").exists());
    }
}
