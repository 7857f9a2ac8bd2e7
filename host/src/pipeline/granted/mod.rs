//! What transforms are granted by name, by content: files, objects and models. Read when a chain is built, and followed while it
//! runs.
//!
//! A chain has what it was built with; what changes makes the reloader build another one. An object is a file, too: the copy that
//! `objects` keeps of it. What ran last is kept in the data directory (`kept`), for a start at which something is bad.

mod kept;
mod objects;
mod reading;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wasmill_config::{FileAt, ObjectAt, Transform};
use wasmill_transform::{
    Chain, Digest, Engine, GrantError, GrantedFile, GrantedModel, MODEL_BYTES_MAX, OpenFile,
};

pub(crate) use self::kept::Kept;
pub(crate) use self::objects::{Followed, follow_objects, remove_unused};
pub(super) use self::watch::GrantWatch;
use super::sources::with_causes;

/// Largest granted file or object; all chains of a process that have the same one share a copy.
const FILE_BYTES_MAX: u64 = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Model,
}

impl Kind {
    fn bytes_max(self) -> u64 {
        match self {
            Kind::File => FILE_BYTES_MAX,
            Kind::Model => MODEL_BYTES_MAX,
        }
    }
}

/// Something that a transform is granted by a name.
struct Grant<'a> {
    kind: Kind,
    transform: &'a Transform,
    name: &'a str,
    /// Of an object, its copy.
    path: PathBuf,
    object: Option<&'a ObjectAt>,
}

impl<'a> Grant<'a> {
    /// Files and objects of a transform.
    fn files(transform: &'a Transform, data_dir: &Path) -> impl Iterator<Item = Grant<'a>> {
        transform.files.iter().map(move |(name, at)| {
            let (path, object) = match at {
                FileAt::Path(path) => (path.clone(), None),
                FileAt::Object(object) => (objects::copy_of(data_dir, object), Some(object)),
            };
            Grant { kind: Kind::File, transform, name, path, object }
        })
    }

    fn models(transform: &'a Transform) -> impl Iterator<Item = Grant<'a>> {
        transform.models.iter().map(move |(name, path)| Grant {
            kind: Kind::Model,
            transform,
            name,
            path: path.clone(),
            object: None,
        })
    }

    /// Of all transforms, in the order in which outcomes name them.
    fn all(transforms: &'a [Transform], data_dir: &Path) -> Vec<Grant<'a>> {
        let files = transforms.iter().flat_map(|transform| Grant::files(transform, data_dir));
        files.chain(transforms.iter().flat_map(Grant::models)).collect()
    }

    /// Of a tenant that does not own the host nothing is read outside of its directory.
    fn open(&self) -> Result<OpenFile, GrantError> {
        match (&self.transform.policy, self.kind, self.path.parent()) {
            (Some(_), Kind::Model, Some(directory)) => OpenFile::open_below(directory, &self.path),
            (Some(policy), Kind::File, _) if self.object.is_none() => {
                OpenFile::open_below(&policy.root, &self.path)
            }
            _ => OpenFile::open(&self.path),
        }
    }

    fn content(&self) -> Result<GrantedFile, GrantError> {
        reading::content(&mut self.open()?, self.kind.bytes_max())
    }

    /// As an outcome names it.
    fn shown(&self, digest: Digest) -> String {
        match self.kind {
            Kind::File => format!("{}={digest}", self.name),
            Kind::Model => format!("{}={digest}", file_name(&self.path)),
        }
    }

    /// Where it comes from.
    fn place(&self) -> String {
        match self.object {
            Some(object) => objects::place(object),
            None => self.path.display().to_string(),
        }
    }

    /// Why it cannot be had, with its key.
    fn refused(&self, reason: &str) -> (String, String) {
        let (key, name) = (&self.transform.key, self.name);
        match self.kind {
            Kind::File => (format!("{key}.files.{name}"), format!("granted file {name:?}: {reason}")),
            Kind::Model => {
                (format!("{key}.models.{name}"), format!("model {name:?}: {}: {reason}", self.path.display()))
            }
        }
    }

    /// The same, of a file that was looked for.
    fn unread(&self, error: &GrantError) -> (String, String) {
        match self.object {
            // Its copy is nobody's business.
            Some(object) => {
                self.refused(&format!("{}: {}", objects::place(object), objects::failure(&self.path)))
            }
            None => self.refused(&with_causes(error)),
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What a transform is granted by content.
pub(super) struct Contents {
    pub(super) files: BTreeMap<String, GrantedFile>,
    pub(super) models: BTreeMap<String, GrantedModel>,
}

/// What ran last, where that is asked for and kept, else what there is. An error has its key.
pub(super) fn contents(
    engine: &Engine,
    transform: &Transform,
    data_dir: &Path,
    kept: Option<&Kept>,
) -> Result<Contents, (String, String)> {
    let content = |grant: &Grant<'_>| match kept.and_then(|kept| kept.find(grant)) {
        Some(content) => Ok(content),
        None => grant.content().map_err(|error| grant.unread(&error)),
    };
    let mut contents = Contents { files: BTreeMap::new(), models: BTreeMap::new() };
    for grant in Grant::files(transform, data_dir) {
        contents.files.insert(grant.name.to_owned(), content(&grant)?);
    }
    for grant in Grant::models(transform) {
        let model = engine.model(&file_name(&grant.path), &content(&grant)?);
        let model = model.map_err(|error| grant.refused(&error.to_string()))?;
        contents.models.insert(grant.name.to_owned(), model);
    }
    Ok(contents)
}

/// As outcomes name what a chain was built with, in the order of [`There::shown`].
pub(super) fn shown(chain: &Chain) -> Vec<String> {
    let files = chain.files().map(|(_, name, file)| format!("{name}={}", file.digest));
    files.chain(chain.models().map(|(file, digest)| format!("{file}={digest}"))).collect()
}

/// What there is now.
pub(super) struct There {
    /// Names and digests, or why something cannot be read.
    pub(super) shown: Vec<String>,
    /// Something was written so lately that it may not be whole. The watch tells when it has rested.
    pub(super) unsettled: bool,
    /// Nothing is read twice while this is held.
    _held: Vec<GrantedFile>,
}

impl There {
    /// Reads what changed since it was read last.
    pub(super) fn now(transforms: &[Transform], data_dir: &Path) -> There {
        let mut there = There { shown: Vec::new(), unsettled: false, _held: Vec::new() };
        for grant in Grant::all(transforms, data_dir) {
            let looked = grant.open().and_then(|mut file| {
                there.unsettled |= !reading::has_rested(&file.state()?);
                reading::digest(&mut file, grant.kind.bytes_max())
            });
            match looked {
                Ok((digest, content)) => {
                    there.shown.push(grant.shown(digest));
                    there._held.extend(content);
                }
                Err(error) => there.shown.push(format!("{}: {}", grant.name, with_causes(&error))),
            }
        }
        there
    }
}

/// Whether these transforms are granted anything that could change.
pub(super) fn is_any(transforms: &[Transform]) -> bool {
    transforms.iter().any(|transform| !transform.files.is_empty() || !transform.models.is_empty())
}

/// What has to be watched for these transforms.
pub(super) fn paths(transforms: &[Transform], data_dir: &Path) -> Vec<PathBuf> {
    Grant::all(transforms, data_dir).into_iter().map(|grant| grant.path).collect()
}

/// Whether all its objects were read some time. Others are read when they are looked for.
pub(super) fn has_objects(transform: &Transform, data_dir: &Path) -> bool {
    Grant::files(transform, data_dir).all(|grant| grant.object.is_none() || grant.path.is_file())
}
