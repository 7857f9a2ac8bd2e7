//! Every bound on a guest, in one file, and the limiter that enforces memory and tables.

use std::time::Duration;

use crate::manifest::ManifestLimits;

/// Longest single log message, in bytes.
pub(crate) const LOG_MESSAGE_BYTES_MAX: usize = 4096;
/// Most bytes that one `setup.file` call hands over.
pub(crate) const FILE_READ_BYTES_MAX: u32 = 16 << 20;
/// Most bytes of stdout and stderr that one call may write; the rest is dropped and counted.
pub(crate) const STDIO_BYTES_MAX: usize = 64 << 10;
/// Most bytes of one WASI random call.
pub(crate) const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Most buffers of one WASI read or write, and most events that are waited for at once.
pub(crate) const IO_VECTORS_MAX: u32 = 1024;
/// Most bytes of arguments and environment of a WASI program.
pub(crate) const ARGUMENT_BYTES_MAX: usize = 1 << 20;
/// Most handles that a guest holds at once (chunks, WASI resources).
pub(crate) const HANDLES_MAX: usize = 4096;
/// Core instances, memories and tables of one component: CPython's adapters need the most.
pub(crate) const CORE_INSTANCES_MAX: usize = 256;
pub(crate) const MEMORIES_MAX: usize = 4;
pub(crate) const TABLES_MAX: usize = 64;
/// Elements of one table; debug builds of C# need more than 10,000.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Slots and outputs that one `configure` may declare, and the length of one path.
pub(crate) const FIELDS_MAX: usize = 4096;
pub(crate) const PATH_STEPS_MAX: usize = 64;
/// Bytes of all keys that one `configure` may declare: they are kept for as long as the chain is.
pub(crate) const KEYS_BYTES_MAX: usize = 1 << 20;
/// Requests of one `http.send`, and of all within one `process`: about one for each row of a chunk.
pub(crate) const HTTP_PER_CALL_MAX: usize = 256;
pub(crate) const HTTP_PER_PROCESS_MAX: usize = 4096;
/// The guests of a chain wait in one slice at most this many times the longest `http_deadline`, all together: a slice has many
/// chunks, and a thread is held for all of them.
pub(crate) const HTTP_WAITS_PER_SLICE: u32 = 4;
/// Methods, URLs and headers of one `http.send`.
pub(crate) const HTTP_HEADS_BYTES_MAX: usize = 1 << 20;
/// Transforms of a chain that may wait for answers: the host sets instances aside for threads that wait.
pub const WAITING_CHAIN_MAX: usize = 8;
/// Keys of one call on a table of state: some times the rows of a chunk.
pub(crate) const KEYS_PER_CALL_MAX: usize = 65_536;
/// Keys after which it is looked whether the call's time is over.
pub(crate) const KEYS_PER_LOOK: usize = 128;
/// Longest name of a table of state.
pub(crate) const TABLE_NAME_BYTES_MAX: usize = 64;
/// Bytes and rows of a chunk where a plugin asks for slices uncut: the bytes of the largest slice, and as many rows as take an
/// honest plugin less than its deadline.
pub(crate) const SLICE_CHUNK_BYTES_MAX: usize = 4 << 20;
pub(crate) const SLICE_CHUNK_ROWS_MAX: usize = 32_768;
/// A chunk of which other records fail each time it runs without those that failed before is run so many times; then it is
/// halved.
pub(crate) const RUNS_WITHOUT_MAX: usize = 8;
/// A transform that has more to do at a watermark is told of it so many times; then the next slice goes on.
pub(crate) const TELLINGS_MAX: u32 = 16;
/// The wall-clock limit of a call is this many times its CPU deadline: a busy machine must not kill innocents.
pub(crate) const WALL_PER_CPU: u32 = 10;

/// What one transform may use. The operator's config and the manifest both set these; the smaller holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Linear memory of one instance, all memories together.
    pub memory_bytes: u64,
    /// CPU time of one call of `process`.
    pub deadline: Duration,
    /// CPU time of instantiation and `configure` together.
    pub configure_deadline: Duration,
    /// Bytes staged by one call (values, payloads, reasons).
    pub output_bytes: u64,
    /// Bytes of log lines per call; past it lines are dropped and counted.
    pub log_bytes: u64,
    /// Time that one call of `process` may wait for answers to requests, all together.
    pub http_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes: 64 << 20,
            deadline: Duration::from_secs(1),
            configure_deadline: Duration::from_secs(10),
            output_bytes: 16 << 20,
            log_bytes: 16 << 10,
            http_deadline: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// The smaller of these and what a manifest asks for.
    #[must_use]
    pub fn narrowed(mut self, asked: &ManifestLimits) -> Limits {
        let ManifestLimits { memory_bytes, deadline_ms, output_bytes } = *asked;
        self.memory_bytes = self.memory_bytes.min(memory_bytes.unwrap_or(u64::MAX));
        self.output_bytes = self.output_bytes.min(output_bytes.unwrap_or(u64::MAX));
        self.deadline = self.deadline.min(deadline_ms.map_or(Duration::MAX, Duration::from_millis));
        self
    }
}

/// Charges linear memory and tables of one instance; refuses growth past the limit and remembers that it did.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: usize,
    used: usize,
    pub(crate) peak: usize,
    /// The guest asked for more than it may have since this was last cleared.
    pub(crate) refused: bool,
}

impl Limiter {
    pub(crate) fn new(limit_bytes: u64) -> Limiter {
        Limiter {
            limit: usize::try_from(limit_bytes).unwrap_or(usize::MAX),
            used: 0,
            peak: 0,
            refused: false,
        }
    }

    /// The one before has gone, and with it what it used.
    pub(crate) fn begin_instance(&mut self) {
        self.used = 0;
    }

    /// Linear memory now in use. Never falls: memories do not shrink.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}

impl wasmtime::ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.refused = true;
            return Ok(false);
        }
        self.used = used;
        self.peak = self.peak.max(used);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_lowers_limits_and_never_raises_them() {
        let asked =
            ManifestLimits { memory_bytes: Some(2 << 20), deadline_ms: Some(3_600_000), output_bytes: None };
        let expected = Limits { memory_bytes: 2 << 20, ..Limits::default() };
        assert_eq!(Limits::default().narrowed(&asked), expected);
    }
}
