//! A directory as destination: a synced body is renamed into place, and the rename is synced.
//!
//! Bodies are staged in a hidden directory inside the root, so that the move is one rename that
//! cannot replace anything (`RENAME_NOREPLACE`, else link and unlink). What already stands under the
//! name is ours only if it has the length and the digest of the body; everything else is foreign and
//! an error. Every step below the root is resolved beneath it: a symbolic link that leads out of
//! the root is refused, as are names that try to.
//!
//! A missing root is an error too, and not made anew after `open`: it may be a disk that is not mounted. When the root is
//! there again without its staging directory, that is made anew only on the disk that the root was on before: an empty
//! directory on another one may be the place where a disk is to be mounted, and filling it would hide what was written.
//! Another root that has one was put there by somebody, and is taken; nothing in it is taken for durable.

mod place;
#[cfg(test)]
mod tests;
mod threads;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinError;

use crate::destination::Capabilities;
use crate::fault::{DeliverError, Fault, Retry};
use crate::object::{Delivered, Object};

pub use threads::DirectoryThreads;

/// The staging directory inside the root. No object name may start with it.
pub const STAGING_NAME: &str = ".wasmill-staging";

/// Checked settings of a directory destination.
#[derive(Clone, Debug)]
pub struct DirectoryConfig {
    pub root: PathBuf,
    /// Counts the syncs that deliveries cost; share one between outputs to sum them up.
    pub syncs: SyncCount,
    /// Those of its tenant.
    pub threads: DirectoryThreads,
}

/// How many times a file or directory was synced.
#[derive(Clone, Debug, Default)]
pub struct SyncCount(Arc<AtomicU64>);

impl SyncCount {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An open directory destination. Clones share it.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
    durable: Arc<place::DurableWays>,
    syncs: SyncCount,
    threads: DirectoryThreads,
}

impl Directory {
    /// Makes the root and the staging directory where they are missing.
    pub(crate) async fn open(config: &DirectoryConfig) -> Result<Directory, DeliverError> {
        let (config, threads) = (config.clone(), config.threads.clone());
        done(threads.run(move || Directory::open_blocking(&config)).await)
    }

    /// Makes the root and the staging directory where they are missing.
    pub fn open_blocking(config: &DirectoryConfig) -> Result<Directory, DeliverError> {
        let failed = |what: &str, error: std::io::Error| {
            DeliverError::later(
                format!("the destination directory cannot be {what}"),
                format!("{}: {error}", config.root.display()),
            )
        };
        make_durable(&config.root.join(STAGING_NAME), &config.syncs)
            .map_err(|error| failed("made", error))?;
        let root = fs::canonicalize(&config.root).map_err(|error| failed("opened", error))?;
        let durable = Arc::new(place::DurableWays::below(place::open_root(&root)?.id));
        Ok(Directory { root, durable, syncs: config.syncs.clone(), threads: config.threads.clone() })
    }

    /// Makes the staging directory anew in a root that was made anew: `true` if it did. See the head of this file.
    pub(crate) fn restage(&self) -> Result<bool, DeliverError> {
        let root = place::open_root(&self.root)?;
        if self.staging().is_dir() {
            return Ok(false);
        }
        let failed = |error: std::io::Error| {
            let message = format!("the destination directory's {STAGING_NAME} cannot be made anew: {error}");
            DeliverError::later(message, self.staging().display().to_string())
        };
        if root.id.device != self.durable.root().device {
            return Err(DeliverError::later(
                format!(
                    "the destination directory is on another disk than before and has no {STAGING_NAME} (is its \
                     own disk mounted?)"
                ),
                format!("make {} if this is the right disk", self.staging().display()),
            ));
        }
        // Whatever was durable below the old root is not below this one.
        self.durable.forget(root.id);
        // Whoever made the root anew need not have made its own entry durable. Before the staging directory is there:
        // then it is not asked for again.
        if let Some(above) = self.root.parent() {
            fs::File::open(above).and_then(|above| above.sync_all()).map_err(|error| {
                DeliverError::later(
                    format!("the directory above the destination directory cannot be synced: {error}"),
                    above.display().to_string(),
                )
            })?;
            self.syncs.add_one();
        }
        match rustix::fs::mkdirat(&root.file, STAGING_NAME, rustix::fs::Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        if let Err(error) = root.file.sync_all() {
            // Else the next call would find it and take it for durable.
            let _left = rustix::fs::unlinkat(&root.file, STAGING_NAME, rustix::fs::AtFlags::REMOVEDIR);
            return Err(failed(error));
        }
        self.syncs.add_one();
        tracing::info!(root = %self.root.display(), "destination directory is there again");
        Ok(true)
    }

    /// Where whatever touches its files runs.
    pub(crate) fn threads(&self) -> &DirectoryThreads {
        &self.threads
    }

    /// Where bodies must be written: same file system as the root.
    pub fn staging(&self) -> PathBuf {
        self.root.join(STAGING_NAME)
    }

    pub(crate) async fn probe(&self) -> Result<Capabilities, DeliverError> {
        let this = self.clone();
        let looked = self.threads.run(move || {
            place::open_root(&this.root)?;
            Ok(Capabilities { conditional_create: true, conditional_multipart: true, warnings: Vec::new() })
        });
        done(looked.await)
    }

    pub(crate) async fn deliver(&self, object: &Object<'_>) -> Result<Delivered, DeliverError> {
        let (this, meta, body) = (self.clone(), object.meta.clone(), object.body.to_owned());
        done(self.threads.run(move || this.deliver_one(&Object { meta: &meta, body: &body })).await)
    }

    /// Delivers all `objects` on this thread. Each directory among them is synced once, after all
    /// its renames; an object counts as delivered only when that sync succeeded.
    pub fn deliver_blocking(&self, objects: &[Object<'_>]) -> Vec<Result<Delivered, DeliverError>> {
        place::place_all(&self.root, objects, &self.durable, &self.syncs)
    }

    fn deliver_one(&self, object: &Object<'_>) -> Result<Delivered, DeliverError> {
        let mut results = self.deliver_blocking(std::slice::from_ref(object));
        results.pop().unwrap_or_else(|| {
            Err(DeliverError::new(Fault::Host, Retry::Never, "no result", "place_all gave no result"))
        })
    }
}

/// Runs work on files of the host's own off the runtime's threads.
pub(crate) async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DeliverError> + Send + 'static,
) -> Result<T, DeliverError> {
    done(tokio::task::spawn_blocking(work).await)
}

/// What became of work on another thread.
pub(crate) fn done<T>(joined: Result<Result<T, DeliverError>, JoinError>) -> Result<T, DeliverError> {
    match joined {
        Ok(result) => result,
        Err(error) => Err(DeliverError::new(
            Fault::Host,
            Retry::Later { after: None },
            "the delivery was interrupted",
            error.to_string(),
        )),
    }
}

/// Makes a directory and its missing ancestors, and syncs every directory that got a new entry.
fn make_durable(path: &Path, syncs: &SyncCount) -> std::io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|part| !part.exists()).collect();
    for part in missing.into_iter().rev().filter(|part| !part.as_os_str().is_empty()) {
        match fs::create_dir(part) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
        let parent = part.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        syncs.add_one();
    }
    Ok(())
}
