//! Records as they pass: what came in and what came of it, for whoever asks, and only while somebody asks.
//!
//! A slice that is run while somebody waits is traced; its first records are the answer. Nobody waits for it but who
//! asked; what is asked is bounded, and so is what is shown of a record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::fate::{Rows, Side, failed, shown};
use super::slice::{Cut, Done};

/// Records of one answer.
pub(crate) const SAMPLE_RECORDS_MAX: usize = 100;
/// Longest wait for records.
pub(crate) const SAMPLE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Of one stream, at a time.
const ASKING_MAX: usize = 8;

/// Why there are no records to look at.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    #[error("no stream {stream:?}")]
    NoStream { stream: String },
    #[error("{ASKING_MAX} others wait for records of this stream already; ask again later")]
    TooMany,
}

/// What one slice made of its first records.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SampledSlice {
    /// What ran it: digests by transform.
    pub versions: BTreeMap<String, String>,
    pub records: Vec<SampledRecord>,
}

/// A record, before and after.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SampledRecord {
    pub offset: i64,
    pub before: String,
    #[serde(flatten)]
    pub after: Side,
}

struct Asking {
    records: usize,
    reply: oneshot::Sender<SampledSlice>,
}

/// Those who wait for records of one stream.
#[derive(Default)]
pub(crate) struct Samples {
    /// Read once per slice.
    count: AtomicUsize,
    asking: Mutex<Vec<Asking>>,
}

impl Samples {
    fn locked(&self) -> MutexGuard<'_, Vec<Asking>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next records that are run within `wait`; none if there are none.
    pub(crate) async fn next(&self, records: usize, wait: Duration) -> Result<SampledSlice, SampleError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut asking = self.locked();
            asking.retain(|asking| !asking.reply.is_closed());
            if asking.len() >= ASKING_MAX {
                return Err(SampleError::TooMany);
            }
            asking.push(Asking { records: records.min(SAMPLE_RECORDS_MAX), reply });
            self.count.store(asking.len(), Ordering::Relaxed);
        }
        let answer = tokio::time::timeout(wait.min(SAMPLE_WAIT_MAX), answer).await;
        Ok(answer.ok().and_then(Result::ok).unwrap_or_default())
    }

    /// Whether a slice that is about to run should be traced.
    pub(crate) fn wanted(&self) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut asking = self.locked();
        asking.retain(|asking| !asking.reply.is_closed());
        self.count.store(asking.len(), Ordering::Relaxed);
        !asking.is_empty()
    }

    /// Answers everybody with a slice that ran. One that was not traced, or could not run, answers nobody.
    pub(crate) fn answer(&self, cut: &Cut, done: &Done) {
        let Some(trace) = done.trace.as_ref().filter(|_| done.unrunnable.is_none()) else { return };
        let asking = {
            let mut asking = self.locked();
            self.count.store(0, Ordering::Relaxed);
            std::mem::take(&mut *asking)
        };
        let Some(most) = asking.iter().map(|asking| asking.records).max() else { return };
        let failed = failed(done);
        let mut rows = Rows::new(trace, &failed);
        let records = cut.records().take(most).map(|(offset, before)| SampledRecord {
            offset,
            before: shown(before),
            after: rows.fate(offset).side(),
        });
        let slice = SampledSlice { versions: done.version.by_transform(), records: records.collect() };
        for Asking { records, reply } in asking {
            let mut slice = slice.clone();
            slice.records.truncate(records);
            // Who asked may be gone.
            drop(reply.send(slice));
        }
    }
}
