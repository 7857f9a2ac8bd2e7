//! The end of a host: that it has come by itself, that it cannot come by itself, and the way to it.
//!
//! A stop goes in this order: sources and listener first, then every stream until it is drained, then the journal. A stop
//! past its deadline ends like a crash: nothing that was acknowledged is lost. A stop that leaves something behind says
//! what, of which stream and why, and is never a success.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::host::Host;
use super::launch::Activity;
use super::live::{LiveStream, join_until};
use super::stats::{StreamStats, label};

/// How long a stop waits for requests that have begun.
const REQUESTS_END: Duration = Duration::from_secs(5);
/// How long a stop, when everything else is done, waits for dead letters to reach a destination of their own.
const LETTERS_END: Duration = Duration::from_secs(5);
/// How often it is looked whether streams are held up.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why a host did not stop in order. Nothing that was acknowledged is lost.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    #[error("not everything is delivered after {after:?}: {waiting}")]
    Deadline { after: Duration, waiting: String },
    /// Streams stopped in order, and have records that could not be processed.
    #[error("not everything is delivered: {left}")]
    Left { left: String },
    #[error("close the journal")]
    Journal(#[source] wasmill_buffer::AppendError),
    #[error("streams that ended early: {streams}")]
    Streams { streams: String },
}

impl Host {
    /// Waits until every source has ended by itself and everything is delivered. Pushes and connections never end.
    pub async fn ended(&self) {
        let mut activity = self.inner.reports.activity.subscribe();
        // One whose streams were all removed waits for others.
        let ended = |activity: &Activity| {
            activity.running.is_empty() && activity.changing == 0 && !self.inner.streams.is_empty()
        };
        // The sender is ours.
        let _never_gone = activity.wait_for(ended).await;
    }

    /// Waits until nothing has moved for `patience` although every stream that is left has read its source to the end:
    /// each is paused or has an output that stopped, and nobody has helped. `seen` is called when that begins.
    /// Pushes and connections never end, so such a stream is never given up.
    pub async fn held_up(&self, patience: Duration, seen: impl Fn(&str)) {
        let mut since: Option<(Instant, u64)> = None;
        loop {
            let changing = self.inner.reports.activity.borrow().changing > 0;
            let running = self.running();
            let mut left = self.inner.streams.all();
            left.retain(|stream| running.contains(&stream.key));
            let held_up = |stream: &Arc<LiveStream>| {
                stream.stats.source_ended.load(Ordering::Relaxed) && stream.stats.is_held_up()
            };
            if changing || left.is_empty() || !left.iter().all(held_up) {
                since = None;
            } else {
                let done = left.iter().map(|stream| stream.stats.done()).sum();
                match since {
                    Some((when, before)) if before == done => {
                        if when.elapsed() >= patience {
                            return;
                        }
                    }
                    moved => {
                        if moved.is_none() {
                            seen(&self.waiting());
                        }
                        since = Some((Instant::now(), done));
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops: no more intake, then everything that is stored is processed, delivered and checkpointed.
    ///
    /// # Errors
    /// The deadline has passed, something ended early, or records are left behind a pause; the journal is closed in
    /// order all the same.
    pub async fn drain(&self, deadline: Duration) -> Result<(), DrainError> {
        let inner = &self.inner;
        let end = tokio::time::Instant::now() + deadline;
        inner.stops.intake.cancel();
        let listener = inner.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut listener) = listener
            && tokio::time::timeout(deadline.min(REQUESTS_END), &mut listener).await.is_err()
        {
            tracing::warn!("requests that had begun are cut off; what they sent is not acknowledged");
            listener.abort();
        }
        // A replay can run again; what is live comes first.
        inner.replays.stop().await;
        // Each stream drains once its source has ended; for pushes that is now.
        inner.stops.pushes.cancel();
        let mut activity = inner.reports.activity.subscribe();
        let tenants = inner.tenants.all();
        let (mut no_tenant, mut unchanging) = (None, Vec::with_capacity(tenants.len()));
        let gone = async {
            let all_gone = |activity: &Activity| activity.running.is_empty();
            // The sender is ours.
            drop(activity.wait_for(all_gone).await);
            // Nor does one come: whatever change is under way is done, or refused.
            no_tenant = Some(inner.tenants.opening.lock().await);
            for tenant in &tenants {
                unchanging.push(tenant.changing.lock().await);
            }
            drop(activity.wait_for(all_gone).await);
        };
        let drained = tokio::time::timeout_at(end, gone).await;
        inner.stops.deliveries.cancel();
        let waiting = self.waiting();
        let streams = inner.streams.all();
        for stream in &streams {
            // They have ended, or are cut off.
            join_until(&stream.tasks.run, end, &stream.stops.hurry).await;
        }
        // They wait in the store: their destination must not hold up the stop.
        let now = tokio::time::Instant::now();
        self.end_letters(if drained.is_ok() { end.min(now + LETTERS_END) } else { now }).await;
        drop((no_tenant, unchanging));
        let stopped = tokio::task::spawn_blocking(move || tenants.iter().for_each(|tenant| tenant.stop()));
        if stopped.await.is_err() {
            tracing::error!("a reloader panicked");
        }
        self.flush_usage().await;
        let state = Arc::clone(&inner.opening.state);
        if tokio::task::spawn_blocking(move || state.close()).await.is_err() {
            tracing::error!("closing the state store panicked");
        }
        inner.opening.journal.close().await.map_err(DrainError::Journal)?;
        if drained.is_err() {
            return Err(DrainError::Deadline { after: deadline, waiting });
        }
        let failures = self.failures();
        if !failures.is_empty() {
            return Err(DrainError::Streams { streams: failures.join("; ") });
        }
        let left: Vec<String> = streams
            .iter()
            .filter(|stream| stream.stats.unprocessed.get() > 0)
            .filter_map(|stream| unprocessed(&stream.stats))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(DrainError::Left { left: left.join(", ") }) }
    }

    /// Gives deliveries of dead letters a last chance until `end`.
    async fn end_letters(&self, end: tokio::time::Instant) {
        let inner = &self.inner;
        inner.stops.letters.cancel();
        for stream in inner.streams.all() {
            join_until(&stream.tasks.letters, end, &stream.stops.hurry).await;
        }
    }

    /// What is not delivered yet and why, for people.
    pub fn waiting(&self) -> String {
        let running = self.running();
        let mut texts = Vec::new();
        for stream in self.inner.streams.all() {
            texts.extend(undelivered(&stream.stats));
            texts.extend(unprocessed(&stream.stats).filter(|_| running.contains(&stream.key)));
        }
        match (texts.is_empty(), running.is_empty()) {
            (true, true) => "nothing".to_owned(),
            (true, false) => {
                let names: Vec<String> = running.iter().map(|key| label(&key.tenant, &key.name)).collect();
                format!("streams {}", names.join(", "))
            }
            _ => texts.join(", "),
        }
    }
}

/// What of a stream is not delivered yet and why, for people.
pub(super) fn waiting_of(stream: &StreamStats) -> String {
    undelivered(stream).into_iter().chain(unprocessed(stream)).collect::<Vec<_>>().join(", ")
}

fn undelivered(stream: &StreamStats) -> Vec<String> {
    let outputs = stream.outputs.iter().filter(|output| output.pending.get() > 0);
    let texts = outputs.map(|output| {
        let error = output.last_error().map(|error| format!(" ({error})")).unwrap_or_default();
        format!("{} records for {}/{}{error}", output.pending.get(), stream.label(), output.name)
    });
    texts.collect()
}

/// Records of a stream that no outcome covers, and why.
fn unprocessed(stream: &StreamStats) -> Option<String> {
    let (records, paused) = (stream.unprocessed.get(), stream.paused());
    if records == 0 && paused.is_none() {
        return None;
    }
    let why = paused.map(|reason| format!(" (paused: {reason})")).unwrap_or_default();
    // How many it holds is counted now and then only.
    let what = if records == 0 { String::new() } else { format!("{records} records of ") };
    Some(format!("{what}stream {} not processed{why}", stream.label()))
}
