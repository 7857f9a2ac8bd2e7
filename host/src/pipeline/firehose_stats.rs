//! What is counted of a stream for those who know Amazon Data Firehose's metrics, and nowhere else.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use wasmill_deliver::Sent;

use super::stats::Counter;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct FirehoseStats {
    pub record: PutStats,
    pub batch: PutStats,
    /// Records that were told to come again.
    pub throttled: Counter,
    /// Places of the outputs into buckets whose objects have Firehose's names.
    pub outputs: OnceLock<Vec<usize>>,
    /// Places of the outputs into tables of Iceberg.
    pub tables: OnceLock<Vec<usize>>,
    /// Place of an output into a bucket that takes records as they came in.
    pub backup: OnceLock<usize>,
    /// What the outputs have sent that records are sent to one by one.
    pub receivers: OnceLock<Vec<(Receiver, Arc<Sent>)>>,
}

/// Destinations of which it is told what they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    HttpEndpoint,
    Splunk,
    OpenSearch,
    Redshift,
}

/// Puts that were stored, wholly or in part.
#[derive(Debug, Default)]
pub struct PutStats {
    pub requests: Counter,
    pub records: Counter,
    pub bytes: Counter,
    /// From the whole body to the answer.
    pub latency_us: Counter,
}

impl FirehoseStats {
    /// Whether anybody who knows Firehose has to do with the stream.
    pub fn is_told(&self) -> bool {
        let asked = self.record.requests.get() + self.batch.requests.get() + self.throttled.get() > 0;
        let receives = self.receivers.get().is_some_and(|receivers| !receivers.is_empty());
        let mut places = [&self.outputs, &self.tables].into_iter().filter_map(OnceLock::get);
        asked || receives || places.any(|places| !places.is_empty())
    }
}

impl PutStats {
    pub fn stored(&self, records: u64, bytes: u64, latency: Duration) {
        self.requests.add(1);
        self.records.add(records);
        self.bytes.add(bytes);
        self.latency_us.add(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }
}
