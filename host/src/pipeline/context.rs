//! What the tasks of one stream share: its buffer, its outputs, its lane on the workers, its counters.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wasmill_deliver::{Destination, NameTemplate, RetryPolicy, SyncCount};
use wasmill_encode::{Compression, Format};

use super::batch::SealAt;
use super::dead_letters::{DeadLetter, Store, StoreError};
use super::outcome::OutputThen;
use super::stats::StreamStats;
use super::workers::{LaneId, Workers};

/// How long to wait before dead letters are tried again that could not be stored.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// One output, opened.
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) destination: Arc<Destination>,
    pub(crate) template: NameTemplate,
    pub(crate) format: Format,
    pub(crate) compression: Compression,
    pub(crate) seal: SealAt,
    pub(crate) retry: RetryPolicy,
    /// Where its objects are made; on the destination's filesystem for a directory.
    pub(crate) staging: PathBuf,
}

impl Output {
    /// What an outcome says of it.
    pub(crate) fn then(&self) -> OutputThen {
        OutputThen { name: self.name.clone(), content_type: self.format.content_type().to_owned() }
    }
}

/// See the head of this file.
pub(crate) struct StreamContext {
    pub(crate) name: String,
    pub(crate) buffer: wasmill_buffer::Stream,
    pub(crate) outputs: Vec<Output>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) lane: LaneId,
    pub(crate) stats: Arc<StreamStats>,
    /// Syncs of staged files and directories, all streams together.
    pub(crate) syncs: SyncCount,
    pub(crate) letters: Arc<Mutex<Store>>,
    /// Percentage of failed records past which a plugin version is demoted or the stream pauses.
    pub(crate) failed_percent_max: u32,
    /// What the buffer takes of this stream.
    pub(crate) buffer_bytes_max: u64,
    /// Number of the output that takes what another one gave up.
    pub(crate) fallback: Option<usize>,
}

impl StreamContext {
    /// Keeps letters durably; a full store or disk pauses the stream until there is room.
    pub(crate) async fn store_letters(&self, letters: Vec<DeadLetter>) {
        if letters.is_empty() {
            return;
        }
        let letters = Arc::new(letters);
        let mut paused: Option<String> = None;
        loop {
            let (store, batch) = (self.letters.clone(), letters.clone());
            let appended = tokio::task::spawn_blocking(move || {
                let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                store.append(&batch).map(|new| (new, store.bytes()))
            })
            .await;
            match appended {
                Ok(Ok((new, bytes))) => {
                    for stage in new {
                        self.stats.dead_letters.of(stage).add(1);
                    }
                    self.stats.dead_letter_bytes.set(bytes);
                    if let Some(reason) = paused {
                        self.stats.resume(&reason);
                    }
                    return;
                }
                Ok(Err(error)) => {
                    if paused.is_none() {
                        tracing::error!(
                            stream = %self.name, error = &error as &dyn std::error::Error,
                            "stream paused: dead letters cannot be kept"
                        );
                    }
                    let reason = super::sources::with_causes(&error);
                    self.stats.pause(Some(reason.clone()));
                    paused = Some(reason);
                }
                Err(error) => tracing::error!(stream = %self.name, %error, "storing dead letters panicked"),
            }
            tokio::time::sleep(STORE_RETRY).await;
        }
    }

    /// Keeps the object of a batch that was given up, and the letter that names it.
    pub(crate) async fn store_object(
        &self,
        mut letter: DeadLetter,
        staged: PathBuf,
        batch_id: String,
    ) -> Result<(), StoreError> {
        let store = self.letters.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            letter.object = Some(store.keep_object(&staged, &batch_id)?);
            store.append(&[letter]).map(|new| (new, store.bytes()))
        })
        .await
        .map_err(|error| StoreError::Io { path: PathBuf::new(), error: std::io::Error::other(error) })??;
        self.stats.dead_letters.delivery.add(stored.0.len() as u64);
        self.stats.dead_letter_bytes.set(stored.1);
        Ok(())
    }
}
