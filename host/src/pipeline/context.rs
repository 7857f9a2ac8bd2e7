//! What the tasks of one stream share: its buffer, its outputs, its lane on the workers, its counters.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use wasmill_deliver::{Destination, NameTemplate, RetryPolicy};
use wasmill_encode::{Compression, Format};

use super::batch::SealAt;
use super::columns::Columns;
use super::dead_letters::{Appended, Applied, Bound, Changes, DeadLetter, Store, StoreError};
use super::decide::Decisions;
use super::event_time::EventTime;
use super::letters_output::LettersOutput;
use super::outcome::OutputThen;
use super::quotas::{TenantQuota, Turn};
use super::samples::Samples;
use super::shadow::StreamShadows;
use super::staging::Staging;
use super::state::StreamState;
use super::stats::{Pause, StreamStats, wall_clock_ns};
use super::strands::Parallel;
use super::workers::{LaneId, TenantId, Workers};

/// How long to wait before dead letters are tried again that could not be stored.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// One output, opened.
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) destination: Arc<Destination>,
    pub(crate) template: NameTemplate,
    pub(crate) format: Format,
    /// Where the format has some; compression is inside then.
    pub(crate) columns: Option<Arc<Columns>>,
    pub(crate) compression: Compression,
    pub(crate) seal: SealAt,
    pub(crate) retry: RetryPolicy,
    /// A batch that is given up stops the output instead of becoming a dead letter.
    pub(crate) pause: bool,
    /// Where its objects are made; on the destination's filesystem for a directory.
    pub(crate) staging: Arc<Staging>,
}

impl Output {
    /// What objects' names end with, as Amazon Data Firehose gives them.
    pub(crate) fn codec_extension(&self) -> &'static str {
        if self.columns.is_some() { self.format.extension() } else { self.compression.extension() }
    }

    /// What an outcome says of it.
    pub(crate) fn then(&self) -> OutputThen {
        OutputThen {
            name: self.name.clone(),
            content_type: self.format.content_type().to_owned(),
            columns: self.columns.as_ref().and_then(|columns| columns.unnoted()).map(str::to_owned),
        }
    }
}

/// See the head of this file.
pub(crate) struct StreamContext {
    pub(crate) name: String,
    pub(crate) buffer: wasmill_buffer::Stream,
    pub(crate) outputs: Vec<Output>,
    pub(crate) workers: Arc<Workers>,
    /// Whose share of the workers its lane counts for.
    pub(crate) tenant: TenantId,
    pub(crate) lane: LaneId,
    /// What the tenant may use.
    pub(crate) quota: Arc<TenantQuota>,
    pub(crate) stats: Arc<StreamStats>,
    /// What its transforms keep.
    pub(crate) state: Arc<StreamState>,
    /// Whether the store is as the replays of earlier runs left it: until then a letter may be there that has left.
    pub(crate) settled: watch::Sender<bool>,
    /// Cancelled when the stream's task has ended: what could not be kept is in its outcome, and is kept at the next start.
    pub(crate) over: CancellationToken,
    pub(crate) letters: Mutex<Store>,
    /// Letters that are older are removed.
    pub(crate) letters_max_age: Option<Duration>,
    /// Where letters go besides.
    pub(crate) letters_output: Option<Arc<LettersOutput>>,
    /// Percentage of failed records past which a plugin version is demoted or the stream pauses.
    pub(crate) failed_percent_max: u32,
    /// What the buffer takes of this stream.
    pub(crate) buffer_bytes_max: u64,
    pub(crate) shadows: Arc<StreamShadows>,
    pub(crate) samples: Arc<Samples>,
    pub(crate) decisions: Arc<Decisions>,
    /// Clients may wait for what becomes of a record.
    pub(crate) decides: bool,
    /// They are answered when that is durable, not already when it ran.
    pub(crate) decides_durably: bool,
    /// Records run before they are durable: nobody is answered that waits for that before it is.
    pub(crate) reads_early: bool,
    /// Number of the output that takes what another one gave up.
    pub(crate) fallback: Option<usize>,
    /// Number of the output that takes records as they came in.
    pub(crate) backup: Option<u32>,
    /// Where its records have their time.
    pub(crate) event_time: Option<Arc<EventTime>>,
    /// How its keys run in strands.
    pub(crate) parallel: Option<Arc<Parallel>>,
    #[cfg(test)]
    pub(crate) mutant: super::simulation::Mutant,
}

impl StreamContext {
    /// For people: the tenant is told where it is not the first one.
    pub(crate) fn label(&self) -> String {
        self.stats.label()
    }

    /// Runs what touches files where it holds up no task.
    pub(crate) async fn off_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        #[cfg(test)]
        if self.workers.is_stepped() {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await
    }

    /// The same with what touches files that are on their way to a destination, which may hang where it is a directory.
    pub(crate) async fn off_runtime_to<T: Send + 'static>(
        &self,
        destination: &Destination,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        #[cfg(test)]
        if self.workers.is_stepped() {
            return Ok(work());
        }
        destination.off_runtime(work).await
    }

    /// Takes letters out of the store, or changes them. Blocks.
    pub(crate) fn change_letters(&self, changes: &Changes) -> Result<Applied, StoreError> {
        let mut store = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = store.apply(changes);
        self.count_kept(&store);
        applied
    }

    /// Removes letters that are older than the stream keeps them; those that are still to be delivered stay. Blocks.
    pub(crate) fn expire_letters(&self, max_age: Duration) {
        let age = i64::try_from(max_age.as_nanos()).unwrap_or(i64::MAX);
        let up_to = self.letters_output.as_ref().map_or(u64::MAX, |own| own.delivered_to());
        let mut store = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        match store.expire(wall_clock_ns().saturating_sub(age), up_to) {
            Ok(0) => {}
            Ok(expired) => {
                self.stats.dead_letters.expired.add(expired);
                self.count_kept(&store);
                tracing::warn!(stream = %self.label(), letters = expired, max_age_s = max_age.as_secs(), "dead letters were too old and are gone");
            }
            Err(error) => tracing::warn!(
                stream = %self.label(), error = &error as &dyn std::error::Error, "old dead letters cannot be removed"
            ),
        }
    }

    /// See [`Store::next_sealed_child`]. Blocks.
    pub(crate) fn next_sealed_child(&self, slice: u64) -> u32 {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).next_sealed_child(slice)
    }

    pub(crate) fn count_kept(&self, store: &Store) {
        self.stats.dead_letter_bytes.set(store.bytes());
        self.stats.dead_letters.kept.set(store.count());
        if let Some(own) = &self.letters_output {
            own.changed();
        }
    }

    /// Waits until the store is as the replays of earlier runs left it. Whoever reads letters to do something with them waits.
    pub(crate) async fn settled(&self) {
        // The sender is our own, so that it cannot be gone.
        let mut settled = self.settled.subscribe();
        let _never_gone = settled.wait_for(|settled| *settled).await;
    }

    /// What a durable outcome says of the letters that it replayed; until that is done, no other replay may begin.
    pub(crate) async fn settle_replay(self: &Arc<Self>, changes: &Changes) {
        if changes.is_empty() {
            return;
        }
        let changes = Arc::new(changes.clone());
        loop {
            let (context, job_changes) = (self.clone(), changes.clone());
            let applied = self.off_runtime(move || context.change_letters(&job_changes)).await;
            match applied {
                Ok(Ok(applied)) => return self.stats.dead_letters.replayed.add(applied.removed),
                Ok(Err(error)) => tracing::error!(
                    stream = %self.label(), error = &error as &dyn std::error::Error,
                    "dead letters that were replayed cannot be removed, trying again; nothing runs twice"
                ),
                Err(error) => {
                    tracing::error!(stream = %self.label(), %error, "removing dead letters panicked")
                }
            }
            if self.over.run_until_cancelled(tokio::time::sleep(STORE_RETRY)).await.is_none() {
                return;
            }
        }
    }

    /// Keeps letters durably; a full store or disk pauses the stream until there is room.
    pub(crate) async fn store_letters(self: &Arc<Self>, letters: Vec<DeadLetter>) {
        if letters.is_empty() {
            return;
        }
        let letters = Arc::new(letters);
        loop {
            let (context, batch) = (self.clone(), letters.clone());
            let appended = self
                .off_runtime(move || {
                    let mut store = context.letters.lock().unwrap_or_else(PoisonError::into_inner);
                    let max = context.quota.letters_max(store.bytes());
                    store.leave(max);
                    let new = store.append(&batch, wall_clock_ns());
                    context.count_kept(&store);
                    new
                })
                .await;
            let appended = appended.map(|appended| {
                let Appended { new, full } = appended?;
                for stage in new {
                    self.stats.dead_letters.of(stage).add(1);
                }
                full.map_or(Ok(()), Err)
            });
            match appended {
                Ok(Ok(())) => {
                    if self.stats.resume(Pause::Letters) {
                        tracing::info!(stream = %self.label(), "dead letters are kept again, stream goes on");
                    }
                    return;
                }
                Ok(Err(error)) => {
                    // What it says changes while letters go and come: that is no new pause.
                    let held = self.stats.is_paused_by(Pause::Letters);
                    let reason = super::sources::with_causes(&error);
                    if matches!(error, StoreError::Full { bound: Bound::Quota, .. }) {
                        self.quota.letters_are_full();
                    }
                    self.stats.pause(Pause::Letters, &reason);
                    if !held {
                        tracing::error!(stream = %self.label(), reason, "stream paused: dead letters cannot be kept");
                    }
                }
                Err(error) => {
                    tracing::error!(stream = %self.label(), %error, "storing dead letters panicked")
                }
            }
            if self.over.run_until_cancelled(tokio::time::sleep(STORE_RETRY)).await.is_none() {
                return;
            }
        }
    }

    /// Waits until an attempt to deliver there may begin; it lasts as long as the turn. One into a directory waits for a
    /// thread instead.
    pub(crate) async fn delivery_turn(&self, destination: &Destination) -> Option<Turn> {
        if destination.consumes_body() { None } else { Some(self.quota.delivery_turn().await) }
    }

    /// Keeps the object of a batch that was given up, and the letter that names it.
    pub(crate) async fn store_object(
        self: &Arc<Self>,
        mut letter: DeadLetter,
        staged: PathBuf,
    ) -> Result<(), StoreError> {
        let context = self.clone();
        let stored = self.off_runtime(move || {
            let mut store = context.letters.lock().unwrap_or_else(PoisonError::into_inner);
            let max = context.quota.letters_max(store.bytes());
            store.leave(max);
            if let Some(object) = &mut letter.object {
                object.file = store.keep_object(&staged, &object.meta.batch_id)?;
            }
            let appended = store.append(&[letter], wall_clock_ns());
            context.count_kept(&store);
            appended?.full.map_or(Ok(()), Err)
        });
        stored.await.map_err(|error| StoreError::Io {
            path: PathBuf::new(),
            error: std::io::Error::other(error),
        })??;
        self.stats.dead_letters.delivery.add(1);
        Ok(())
    }
}
