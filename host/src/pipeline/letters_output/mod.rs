//! Takes the dead letters of one stream to a destination of their own.
//!
//! One task beside the stream's. It reads the store from the cursor on, makes an object of the next letters when they are
//! enough or old enough, and sends it until it is there: for ever, because letters are never given up. A destination that
//! is down holds up nobody; its letters wait in the store. In this order, so that each letter leaves once:
//!
//! 1. the object is made and synced, then the cursor names it, durably (`dead_letters::Cursor`);
//! 2. objects that could not be delivered, and whose letters are in it, are sent, then it is, under names that nothing else
//!    ever has;
//! 3. its letters are removed, if the stream is to do that;
//! 4. the cursor moves behind them.
//!
//! A crash before the end of 1 leaves nothing; after it the next start goes on with 2, with the same bytes. It refuses to
//! know outcomes and plugins, and touches no journal.

mod firehose;
mod object;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmill_config as config;
use wasmill_deliver::{
    Backoff, BatchOwner, DeliverError, Destination, Fault, Object, ObjectMeta, RetryPolicy, Step,
};

use self::object::Gathered;
use super::context::{Output, StreamContext};
use super::dead_letters::{Change, Changes, Cursor, StoreError, Underway};
use super::delivery::host_error;
use super::probe::abort_orphans;
use super::stats::{LettersOutputStats, wall_clock_ns};

/// In batch ids. No output of a stream can have this name.
const OWNER: &str = "dead letters";
/// The store is looked into at most so often while letters come and no object is due.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long to wait before the store, or a destination that refused, is tried again.
const REFUSED_RETRY_MIN: Duration = Duration::from_millis(10);
const REFUSED_RETRY_MAX: Duration = Duration::from_secs(30);
const STORE_RETRY: Duration = Duration::from_secs(1);

/// See the head of this file.
pub(crate) struct LettersOutput {
    pub(crate) output: Output,
    remove: bool,
    firehose: config::FirehoseErrors,
    cursor: Mutex<Cursor>,
    changed: Notify,
}

impl LettersOutput {
    pub(crate) fn new(output: Output, letters: &config::LettersOutput, cursor: Cursor) -> LettersOutput {
        let output = Output { retry: RetryPolicy { for_: None, ..output.retry }, ..output };
        LettersOutput {
            output,
            remove: letters.remove,
            firehose: letters.firehose.clone(),
            cursor: Mutex::new(cursor),
            changed: Notify::new(),
        }
    }

    /// Letters have come or gone.
    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Letters up to this number have been delivered.
    pub(crate) fn delivered_to(&self) -> u64 {
        self.cursor().delivered_to()
    }

    /// Whether what could not be delivered leaves with its letter.
    fn takes_objects(&self) -> bool {
        matches!(*self.output.destination, Destination::Directory(_) | Destination::S3(_))
    }

    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose objects and uploads are those of a stream's dead letters.
pub(crate) fn owner(context: &StreamContext) -> BatchOwner {
    BatchOwner::new(context.buffer.incarnation(), OWNER)
}

/// Delivers until `last` is cancelled, because no letter comes any more: what there is leaves then, and the first failure ends
/// it. `own` is that of the stream.
pub(crate) async fn run(context: Arc<StreamContext>, own: Arc<LettersOutput>, last: CancellationToken) {
    Task { context, own, last, failing: false }.run().await;
}

struct Task {
    context: Arc<StreamContext>,
    own: Arc<LettersOutput>,
    last: CancellationToken,
    failing: bool,
}

/// The last pass met a failure: nothing more is tried.
struct Ended;

impl Task {
    async fn run(&mut self) {
        self.clean().await;
        self.context.settled().await;
        // What an earlier run had decided leaves first.
        if self.deliver().await.is_err() {
            return;
        }
        let mut seen: Option<(u64, Instant)> = None;
        loop {
            let Ok(gathered) = self.gather().await else { return };
            self.stats().oldest_undelivered(gathered.as_ref().map(|gathered| gathered.failed));
            let Some(gathered) = gathered else {
                if self.last.is_cancelled() {
                    return;
                }
                tokio::select! {
                    () = self.own.changed.notified() => {}
                    () = self.last.cancelled() => {}
                }
                continue;
            };
            if seen.is_none_or(|(first, _)| first != gathered.first) {
                seen = Some((gathered.first, Instant::now()));
            }
            let waited = seen.map_or(Duration::ZERO, |(_, since)| since.elapsed());
            let wait = self.wait(&gathered, waited);
            if !wait.is_zero() {
                // What has been read is not kept meanwhile.
                drop(gathered);
                self.rest(wait).await;
                continue;
            }
            if self.decide(gathered).await.is_err() || self.deliver().await.is_err() {
                return;
            }
        }
    }

    /// How long the letters may wait for others; `waited` counts where the wall clock was put back.
    fn wait(&self, gathered: &Gathered, waited: Duration) -> Duration {
        if gathered.full || self.last.is_cancelled() {
            return Duration::ZERO;
        }
        let age = u64::try_from(wall_clock_ns().saturating_sub(gathered.failed)).unwrap_or(0);
        self.own.output.seal.interval.saturating_sub(Duration::from_nanos(age).max(waited))
    }

    /// Until it is time, or more letters have come and it is worth looking again.
    async fn rest(&self, wait: Duration) {
        let more = async {
            self.own.changed.notified().await;
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = more => {}
            () = self.last.cancelled() => {}
        }
    }

    fn stats(&self) -> &LettersOutputStats {
        &self.context.stats.letters_output
    }

    /// Removes what a crash left at the destination: copies of objects, unfinished uploads.
    async fn clean(&self) {
        let (context, own) = (self.context.clone(), self.own.clone());
        let owner = owner(&context);
        let job_owner = owner.clone();
        let cleaned = self.context.off_runtime(move || {
            let needed = own.cursor().underway().map(|object| own.output.staging.path(&object.meta.batch_id));
            own.output.staging.clean(&[job_owner], &needed.into_iter().collect(), |path, error| {
                tracing::warn!(
                    stream = %context.label(), path = %path.display(), %error,
                    "cannot remove what is left of an object of dead letters"
                );
            });
        });
        if let Err(error) = cleaned.await {
            tracing::warn!(stream = %self.context.label(), %error, "cleaning up was interrupted");
        }
        abort_orphans(&self.context.label(), &self.own.output, &owner).await;
    }

    /// The next letters. A store that cannot be read is tried again.
    async fn gather(&mut self) -> Result<Option<Gathered>, Ended> {
        loop {
            let (context, own) = (self.context.clone(), self.own.clone());
            let gathered = self.context.off_runtime(move || object::gather(&context, &own)).await;
            match gathered {
                Ok(Ok(gathered)) => return Ok(gathered),
                Ok(Err(error)) => self.store_failed(&error),
                Err(error) => {
                    tracing::error!(stream = %self.context.label(), %error, "reading dead letters panicked");
                }
            }
            self.pause(STORE_RETRY).await?;
        }
    }

    /// Makes an object of the letters and notes that it is the next one to leave. They are gathered anew when that fails.
    async fn decide(&mut self, gathered: Gathered) -> Result<(), Ended> {
        let (context, own) = (self.context.clone(), self.own.clone());
        match self.context.off_runtime(move || object::decide(&context, &own, &gathered)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => self.store_failed(&error),
            Err(error) => {
                tracing::error!(stream = %self.context.label(), %error, "making an object of dead letters panicked");
            }
        }
        self.pause(STORE_RETRY).await
    }

    /// Sends the object that is on its way, if there is one, until it is there and noted.
    async fn deliver(&mut self) -> Result<(), Ended> {
        let Some(object) = self.own.cursor().underway().cloned() else { return Ok(()) };
        self.stats().oldest_undelivered(Some(object.failed));
        for kept in &object.objects {
            let body = self.own.cursor().kept(kept);
            self.send(&kept.meta, &body, true).await?;
        }
        let body = self.own.cursor().body(&object.meta.batch_id);
        self.send(&object.meta, &body, false).await?;
        loop {
            let (context, own, arrived) = (self.context.clone(), self.own.clone(), object.clone());
            match self.context.off_runtime(move || settle(&context, &own, &arrived)).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => self.store_failed(&error),
                Err(error) => {
                    tracing::error!(stream = %self.context.label(), %error, "noting delivered dead letters panicked");
                }
            }
            self.pause(STORE_RETRY).await?;
        }
        self.stats().delivered.add(object.meta.records);
        self.stats().error(None);
        if std::mem::take(&mut self.failing) {
            tracing::info!(stream = %self.context.label(), "dead letters are delivered again");
        }
        tracing::debug!(
            stream = %self.context.label(), batch = object.meta.batch_id, object = object.meta.name,
            letters = object.meta.records, first = object.first, last = object.last, "dead letters delivered"
        );
        Ok(())
    }

    /// Sends one object until it is there, or gone if it `may_go`: with its letter, which was replayed or purged meanwhile.
    async fn send(&mut self, meta: &ObjectMeta, body: &Path, may_go: bool) -> Result<(), Ended> {
        let mut backoff = Backoff::new(self.own.output.retry.clone());
        while let Err(error) = try_send(&self.context, &self.own, meta, body).await {
            let path = body.to_owned();
            if may_go && matches!(self.context.off_runtime(move || path.try_exists()).await, Ok(Ok(false))) {
                return Ok(());
            }
            let wait = match backoff.failed(error.retry, Instant::now()) {
                Step::Wait(wait) => wait,
                Step::Refused | Step::Expired => {
                    self.own.output.retry.max.clamp(REFUSED_RETRY_MIN, REFUSED_RETRY_MAX)
                }
            };
            self.stats().retries.add(1);
            self.delivery_failed(meta, &error);
            self.pause(wait).await?;
        }
        self.stats().objects.add(1);
        Ok(())
    }

    fn delivery_failed(&mut self, meta: &ObjectMeta, error: &DeliverError) {
        self.stats().error(Some(error.to_string()));
        if std::mem::replace(&mut self.failing, true) {
            return;
        }
        let (stream, batch, name) = (self.context.label(), &meta.batch_id, &meta.name);
        if error.fault == Fault::Foreign {
            tracing::error!(
                %stream, %batch, object = %name, %error, detail = %error.detail,
                "dead letters are not delivered: an object that is not ours stands where theirs belongs; nothing is \
                 overwritten, and they stay in the store"
            );
        } else {
            tracing::warn!(
                %stream, %batch, object = %name, %error, detail = %error.detail,
                "dead letters cannot be delivered, trying again; they stay in the store"
            );
        }
    }

    fn store_failed(&mut self, error: &StoreError) {
        self.stats().error(Some(super::with_causes(error)));
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                stream = %self.context.label(), error = error as &dyn std::error::Error,
                "dead letters cannot be made ready for delivery, trying again"
            );
        }
    }

    /// Waits after a failure; there is one more try when the last pass begins, and none after a failure in it.
    async fn pause(&self, wait: Duration) -> Result<(), Ended> {
        if self.last.is_cancelled() {
            return Err(Ended);
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.last.cancelled() => {}
        }
        Ok(())
    }
}

/// One attempt.
async fn try_send(
    context: &StreamContext,
    own: &LettersOutput,
    meta: &ObjectMeta,
    body: &Path,
) -> Result<(), DeliverError> {
    let destination = &own.output.destination;
    let _turn = context.delivery_turn(destination).await;
    if !destination.consumes_body() {
        return destination.deliver(&Object { meta, body }).await.map(|_created_or_ours| ());
    }
    let staging = own.output.staging.clone();
    let (job_destination, job_staging) = (destination.clone(), staging.clone());
    let (job_body, staged) = (body.to_owned(), meta.batch_id.clone());
    let fetch = move || match job_staging.fetch(&job_body, &staged) {
        // Its directory may be there again, without what was in it.
        Err(error) => match job_destination.restage()? {
            true => job_staging.fetch(&job_body, &staged),
            false => Err(error),
        },
        fetched => fetched,
    };
    let fetched = context.off_runtime_to(destination, fetch).await;
    fetched.map_err(|error| host_error("the delivery was interrupted", error.to_string()))??;
    let sent = destination.deliver(&Object { meta, body: &staging.path(&meta.batch_id) }).await;
    if sent.is_ok() {
        let file = meta.batch_id.clone();
        let discarded = context.off_runtime_to(destination, move || staging.discard(&file)).await;
        if let Ok(Err((path, error))) = discarded {
            tracing::warn!(stream = %context.label(), path = %path.display(), %error, "staged object cannot be removed");
        }
    }
    sent.map(|_created_or_ours| ())
}

/// The object is there. Blocks.
fn settle(context: &StreamContext, own: &LettersOutput, object: &Underway) -> Result<(), StoreError> {
    if own.remove {
        let mut changes = Changes::new();
        let before = object.first.saturating_sub(1);
        // All of them are in one file.
        let file = context.letters.lock().unwrap_or_else(PoisonError::into_inner).snapshot(before)?;
        if let Some(file) = file {
            file.each(before, |_line, letter| {
                let delivered = letter.number <= object.last;
                let left =
                    letter.object.is_none_or(|kept| object.objects.iter().any(|o| o.file == kept.file));
                if delivered && left {
                    changes.insert(letter.number, Change::Removed);
                }
                delivered
            })?;
        }
        context.change_letters(&changes)?;
    }
    own.cursor().arrived()
}
