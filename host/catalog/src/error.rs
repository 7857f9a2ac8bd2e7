//! Why there is no catalog, and why it does not have what was asked for.

use std::io;
use std::path::PathBuf;

use wasmill_transform::{CacheError, Digest};

/// Why a catalog cannot be opened or watched.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("plugin directory {path} holds more than {max} plugin files")]
    TooManyFiles { path: PathBuf, max: usize },
    /// The place for copies of plugin files.
    #[error("{action} {path}")]
    Store {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("open the cache of compiled code")]
    Cache(#[source] CacheError),
    #[error("start the catalog's thread")]
    Thread(#[source] io::Error),
    /// The catalog's thread has ended, which it does only after a bug.
    #[error("the catalog's thread has ended")]
    Stopped,
}

/// Why a plugin was not found. Every text is fit for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    #[error(
        "no plugin {name:?} in {}{}",
        .directory.display(),
        match .nearest {
            Some(nearest) => format!("; did you mean {nearest:?}?"),
            None => format!("; put {name}.wasm there, it is taken as soon as it is whole"),
        }
    )]
    Missing { name: String, directory: PathBuf, nearest: Option<String> },
    /// No plugin at all can be found.
    #[error(
        "plugin directory {} {why}; make it and put plugins there as NAME.wasm, or name another one with plugin_dir",
        .directory.display()
    )]
    NoDirectory { directory: PathBuf, why: String },
    /// There is a file, and no good version from before.
    #[error("plugin {name:?} ({}) is refused: {reason}", .file.display())]
    Refused { name: String, file: PathBuf, reason: String },
    #[error("no version {digest} of plugin {name:?}, neither in {} nor kept in {}", .directory.display(), .store.display())]
    NoSuchVersion { name: String, digest: Digest, directory: PathBuf, store: PathBuf },
    #[error(
        "plugin {name:?} is pinned to {digest}, whose kept copy is gone or damaged; put that file into {}, or remove the pin: {}",
        .directory.display(), .note.display()
    )]
    PinnedGone { name: String, digest: Digest, directory: PathBuf, note: PathBuf },
    #[error("{digest} is a version of plugin {actual:?}, not of {name:?}")]
    OtherName { name: String, digest: Digest, actual: String },
    #[error("the plugin catalog has stopped")]
    Stopped,
}

impl FindError {
    /// The same for those who have plugins and do not see the host's disk.
    pub fn to_tenant(&self) -> String {
        match self {
            FindError::Missing { name, nearest: Some(nearest), .. } => {
                format!("there is no plugin {name:?}; did you mean {nearest:?}?")
            }
            FindError::Missing { name, .. } => {
                format!("there is no plugin {name:?}; push one of this name first")
            }
            FindError::NoDirectory { .. } => "there are no plugins; push one first".to_owned(),
            FindError::Refused { name, reason, .. } => format!("plugin {name:?} is refused: {reason}"),
            FindError::NoSuchVersion { name, digest, .. } => {
                format!("there is no version {digest} of plugin {name:?}")
            }
            FindError::PinnedGone { name, digest, .. } => {
                format!(
                    "plugin {name:?} is pinned to {digest}, which is gone or damaged: push that version, or unpin it"
                )
            }
            FindError::OtherName { .. } | FindError::Stopped => self.to_string(),
        }
    }
}

/// Why a plugin file is no version of a plugin.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error("the file is refused: {reason}")]
    Refused { reason: String },
    #[error("the file says that it is plugin {actual:?}, not {name:?}")]
    OtherName { name: String, actual: String },
    #[error("the file has no manifest, which would name the plugin: give its name")]
    Nameless,
    #[error("plugin {name:?} is {}, which goes before what is uploaded: change it there, or take another name", .file.display())]
    OfFile { name: String, file: PathBuf },
    /// There are as many plugins as may be.
    #[error("{reason}")]
    TooMany { reason: String },
    /// The host's trouble, not the file's.
    #[error("the file cannot be kept")]
    Store(#[source] CatalogError),
    #[error("the file cannot be compiled now: {reason}")]
    Compile { reason: String },
}

/// Why a version is not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error("no version {digest} of plugin {name:?} is kept")]
    NoVersion { name: String, digest: Digest },
    #[error("{digest} is in use: {why}")]
    InUse { digest: Digest, why: String },
    #[error("the version cannot be removed")]
    Store(#[source] CatalogError),
}
