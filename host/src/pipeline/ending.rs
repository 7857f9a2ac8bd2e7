//! The end of a host: that it has come by itself, that it cannot come by itself, and the way to it.
//!
//! A stop goes in this order: sources and listener first, then every stream until it is drained, then the journal. A stop
//! past its deadline ends like a crash: nothing that was acknowledged is lost. A stop that leaves something behind says
//! what, of which stream and why, and is never a success.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::host::Host;
use super::stats::StreamStats;

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
        let mut running = self.inner.running.clone();
        // The sender lives as long as some stream does.
        let _all_gone = running.wait_for(Vec::is_empty).await;
    }

    /// Waits until nothing has moved for `patience` although every stream that is left has read its source to the end:
    /// each is paused or has an output that stopped, and nobody has helped. `seen` is called when that begins.
    /// Pushes and connections never end, so such a stream is never given up.
    pub async fn held_up(&self, patience: Duration, seen: impl Fn(&str)) {
        let mut since: Option<(Instant, u64)> = None;
        loop {
            let running = self.inner.running.borrow().clone();
            let left: Vec<&StreamStats> = self
                .inner
                .streams
                .iter()
                .map(AsRef::as_ref)
                .filter(|stream| running.contains(&stream.name))
                .collect();
            let held_up =
                |stream: &&StreamStats| stream.source_ended.load(Ordering::Relaxed) && stream.is_held_up();
            if left.is_empty() || !left.iter().all(held_up) {
                since = None;
            } else {
                let done = left.iter().map(|stream| stream.done()).sum();
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
        inner.stop_intake.cancel();
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
        inner.pushes_over.cancel();
        let drained = tokio::time::timeout_at(end, self.ended()).await;
        inner.stop.cancel();
        let waiting = self.waiting();
        let mut tasks = std::mem::take(&mut *inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        if drained.is_err() {
            tasks.abort_all();
        }
        while tasks.join_next().await.is_some() {}
        // They wait in the store: their destination must not hold up the stop.
        let now = tokio::time::Instant::now();
        self.end_letters(if drained.is_ok() { end.min(now + LETTERS_END) } else { now }).await;
        let reloader = inner.reloader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if tokio::task::spawn_blocking(move || drop(reloader)).await.is_err() {
            tracing::error!("the reloader panicked");
        }
        inner.journal.close().await.map_err(DrainError::Journal)?;
        if drained.is_err() {
            return Err(DrainError::Deadline { after: deadline, waiting });
        }
        let failures = self.failures();
        if !failures.is_empty() {
            return Err(DrainError::Streams { streams: failures.join("; ") });
        }
        let left: Vec<String> = inner
            .streams
            .iter()
            .filter(|stream| stream.unprocessed.get() > 0)
            .filter_map(|stream| unprocessed(stream))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(DrainError::Left { left: left.join(", ") }) }
    }

    /// Gives deliveries of dead letters a last chance until `end`.
    async fn end_letters(&self, end: tokio::time::Instant) {
        let inner = &self.inner;
        let mut tasks =
            std::mem::take(&mut *inner.letters_tasks.lock().unwrap_or_else(PoisonError::into_inner));
        inner.letters_until.last.cancel();
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout_at(end, ended).await.is_err() {
            inner.letters_until.now.cancel();
        }
        while tasks.join_next().await.is_some() {}
    }

    /// What is not delivered yet and why, for people.
    pub fn waiting(&self) -> String {
        let running = self.inner.running.borrow().clone();
        let of_outputs = |stream: &StreamStats| {
            let outputs = stream.outputs.iter().filter(|output| output.pending.get() > 0);
            let texts = outputs.map(|output| {
                let error = output.last_error().map(|error| format!(" ({error})")).unwrap_or_default();
                format!("{} records for {}/{}{error}", output.pending.get(), stream.name, output.name)
            });
            texts.collect::<Vec<_>>()
        };
        let mut texts = Vec::new();
        for stream in &self.inner.streams {
            texts.extend(of_outputs(stream));
            texts.extend(unprocessed(stream).filter(|_| running.contains(&stream.name)));
        }
        match (texts.is_empty(), running.is_empty()) {
            (true, true) => "nothing".to_owned(),
            (true, false) => format!("streams {}", running.join(", ")),
            _ => texts.join(", "),
        }
    }
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
    Some(format!("{what}stream {} not processed{why}", stream.name))
}
