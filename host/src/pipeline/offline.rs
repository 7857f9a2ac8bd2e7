//! The dead letters of a stream whose host does not run: its files, and the lock of the data directory for as long as they
//! are open.

use std::io;

use wasmill_buffer::{Disk, DiskLock, RealDisk};
use wasmill_config::{Settings, Stream};

use super::dead_letters::{Store, StoreError};
use super::opening::letters_dir;

/// See the head of this file.
pub struct OfflineLetters {
    pub store: Store,
    _lock: Box<dyn DiskLock>,
}

/// Why they cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error("a host (process {pid}) runs on this data directory")]
    Running { pid: String },
    #[error("lock the data directory")]
    Lock(#[source] io::Error),
    #[error("open the dead letters")]
    Store(#[from] StoreError),
}

/// Opens them. `None`: no host has ever run here. Blocks.
///
/// # Errors
/// See [`OfflineError`].
pub fn open_offline(settings: &Settings, stream: &Stream) -> Result<Option<OfflineLetters>, OfflineError> {
    let lock = settings.data_dir.join("journal").join("lock");
    if !lock.exists() {
        return Ok(None);
    }
    let lock =
        RealDisk.lock(&lock).map_err(OfflineError::Lock)?.map_err(|pid| OfflineError::Running { pid })?;
    let dir = letters_dir(&settings.data_dir, stream);
    let store = Store::open(&dir, stream.dead_letters.max_bytes, None)?;
    Ok(Some(OfflineLetters { store, _lock: lock }))
}
