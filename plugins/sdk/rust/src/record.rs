//! The simple face: a function from record to record over serde types, wrapped into a [`Plugin`].
//!
//! A payload that is not JSON of the expected shape, and an `Err` of the function, fail that record alone.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Chunk, Plugin, Setup, TextColumn};

/// What is known of a record besides its payload.
#[derive(Clone, Copy, Debug)]
pub struct RecordMeta {
    /// Offset in the stream; -1 for rows that no record stands behind.
    pub offset: i64,
    /// Arrival time in nanoseconds since the epoch.
    pub arrival_time: i64,
    /// The same for every attempt at this record's chunk.
    pub seed: u64,
}

/// A plugin over one record at a time. Export it as `export!(ByRecord<MyPlugin>)`.
pub trait RecordPlugin: Sized {
    /// What a payload is read as.
    type In: DeserializeOwned;
    /// What is written as the new payload.
    type Out: Serialize;

    /// Reads the transform's config (JSON text). An `Err` refuses the plugin with this text.
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String>;

    /// One record: `Some` replaces the payload, `None` drops the record, `Err` fails it with this reason.
    fn record(&mut self, record: Self::In, meta: &RecordMeta) -> Result<Option<Self::Out>, String>;
}

/// Makes a [`RecordPlugin`] a [`Plugin`].
pub struct ByRecord<P> {
    plugin: P,
    payloads: TextColumn,
    keep: Vec<u8>,
}

impl<P: RecordPlugin> Plugin for ByRecord<P> {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let plugin = P::configure(config, setup)?;
        Ok(Self { plugin, payloads: TextColumn::new(), keep: Vec::new() })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let payloads = rows.payloads();
        let (offsets, times, seed) = (rows.offsets(), rows.arrival_times(), rows.seed());
        self.payloads.clear();
        self.keep.clear();
        for (row, payload) in payloads.iter().enumerate() {
            let meta = RecordMeta { offset: offsets[row], arrival_time: times[row], seed };
            let result = serde_json::from_slice(payload)
                .map_err(|error| format!("payload: {error}"))
                .and_then(|record| self.plugin.record(record, &meta))
                .and_then(|record| match record {
                    None => Ok(false),
                    Some(record) => serde_json::to_writer(self.payloads.buffer(), &record)
                        .map(|()| true)
                        .map_err(|error| format!("result: {error}")),
                });
            match result {
                Ok(true) => self.payloads.finish(),
                Ok(false) => self.payloads.push_missing(),
                Err(ref reason) => {
                    self.payloads.push_missing();
                    rows.fail(row, reason);
                }
            }
            self.keep.push(u8::from(result != Ok(false)));
        }
        rows.set_payloads(&self.payloads);
        rows.keep(&self.keep);
        Ok(())
    }
}
