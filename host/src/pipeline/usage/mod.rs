//! Usage: what each tenant, stream and plugin has used, by time, for who writes bills.
//!
//! Every ten seconds, and at the stop, what was counted since the last time is appended to files (`store`). So each thing
//! that is counted counts once; what a process that is killed has counted since the last time is not counted. The
//! counters of `stats` are the one source: nothing is counted for usage alone.

mod row;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use wasmill_buffer::{Disk as _, RealDisk, StreamKey};
use wasmill_tenant::TenantName;

pub use self::row::UsageBy;

use self::row::{Counts, Of, Row, Rows, shown};
use self::store::Store;
use super::quotas::TenantQuota;
use super::stats::{StreamStats, TransformStats, wall_clock_ns};

/// How often it is stored what was counted.
pub(super) const FLUSH_EVERY: Duration = Duration::from_secs(10);
/// Who asks gets what is at most so old.
const FRESH_S: u64 = 1;
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct UsageQuery {
    /// Seconds since 1970: from the span in which it is, to before this moment.
    pub from: u64,
    pub to: u64,
    pub by: UsageBy,
    /// Length of a span: a minute, an hour or a day.
    pub seconds: u64,
}

/// A stream as it was counted last.
struct Seen {
    stats: Arc<StreamStats>,
    counts: Counts,
    transforms: Vec<Counts>,
}

#[derive(Default)]
struct State {
    streams: HashMap<StreamKey, Seen>,
    /// CPU time of workers and compiler.
    tenants: HashMap<String, Counts>,
    /// What was counted and is not stored, by tenant; its disk took nothing.
    pending: BTreeMap<String, Rows>,
    flushed_s: u64,
    rolled_hour: u64,
    failing: bool,
}

/// See the head of this file.
pub(super) struct Usage {
    dir: PathBuf,
    state: Mutex<State>,
    /// So that each part has a number of its own.
    parts: AtomicU64,
}

/// Rows of a tenant that its disk does not take; more are dropped, and told.
const PENDING_MAX: usize = 100_000;

fn counts_of(stats: &StreamStats) -> Counts {
    let outputs = &stats.outputs;
    Counts {
        records_in: stats.records_in.get(),
        bytes_in: stats.bytes_in.get(),
        records_out: outputs.iter().map(|output| output.delivered.get()).sum(),
        bytes_out: outputs.iter().map(|output| output.bytes.get()).sum(),
        dead_letters: stats.dead_letters.get(),
        buffered_bytes_max: stats.buffered_bytes.get(),
        ..Counts::default()
    }
}

fn counts_of_transform(transform: &TransformStats) -> Counts {
    Counts {
        calls: transform.calls,
        cpu_ns: transform.cpu_ns,
        traps: transform.traps,
        memory_bytes_max: transform.memory_bytes_peak,
        ..Counts::default()
    }
}

/// What was counted since `before`; what is no sum stands as it is.
fn since(now: &Counts, before: &Counts) -> Counts {
    Counts {
        records_in: now.records_in.saturating_sub(before.records_in),
        bytes_in: now.bytes_in.saturating_sub(before.bytes_in),
        records_out: now.records_out.saturating_sub(before.records_out),
        bytes_out: now.bytes_out.saturating_sub(before.bytes_out),
        dead_letters: now.dead_letters.saturating_sub(before.dead_letters),
        calls: now.calls.saturating_sub(before.calls),
        cpu_ns: now.cpu_ns.saturating_sub(before.cpu_ns),
        traps: now.traps.saturating_sub(before.traps),
        worker_cpu_ns: now.worker_cpu_ns.saturating_sub(before.worker_cpu_ns),
        compile_cpu_ns: now.compile_cpu_ns.saturating_sub(before.compile_cpu_ns),
        memory_bytes_max: now.memory_bytes_max,
        buffered_bytes_max: now.buffered_bytes_max,
    }
}

impl Seen {
    fn new(stats: Arc<StreamStats>) -> Seen {
        Seen { stats, counts: Counts::default(), transforms: Vec::new() }
    }

    /// Adds what was counted since the last time.
    fn count(&mut self, minute: u64, rows: &mut Rows) {
        let of = Of { stream: self.stats.name.clone(), ..Of::default() };
        let counts = counts_of(&self.stats);
        let new = since(&counts, &self.counts);
        // What waits is of interest where nothing else happens, too.
        if new != Counts::default() {
            rows.add(minute, of.clone(), &new);
        }
        self.counts = counts;
        let transforms = self.stats.with_transforms(|transforms| transforms.clone());
        self.transforms.resize(transforms.len(), Counts::default());
        for (transform, before) in transforms.iter().zip(&mut self.transforms) {
            let counts = counts_of_transform(transform);
            let new = since(&counts, before);
            if new.calls > 0 {
                let of =
                    Of { transform: transform.name.clone(), plugin: transform.plugin.clone(), ..of.clone() };
                rows.add(minute, of, &new);
            }
            *before = counts;
        }
    }
}

fn now_s() -> u64 {
    u64::try_from(wall_clock_ns() / 1_000_000_000).unwrap_or(0)
}

impl Usage {
    pub(super) fn new(data_dir: &Path) -> Usage {
        Usage { dir: data_dir.join("usage"), state: Mutex::default(), parts: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, tenant: &str) -> Store {
        Store::new(self.dir.join(tenant))
    }

    /// A number that no other part has, in this run or another one.
    fn draw(&self) -> u64 {
        let mut random = [0; 8];
        match RealDisk.entropy(&mut random) {
            Ok(()) => u64::from_be_bytes(random),
            Err(_none) => {
                let nanos = u64::try_from(wall_clock_ns()).unwrap_or(0);
                nanos.wrapping_add(self.parts.fetch_add(1, Ordering::Relaxed))
            }
        }
    }

    /// Stores what was counted since the last time, of the streams that run and of those that did. Blocks on the disk.
    pub(super) fn flush(&self, streams: &[Arc<StreamStats>], tenants: &[Arc<TenantQuota>]) {
        self.flush_at(streams, tenants, now_s());
    }

    fn flush_at(&self, streams: &[Arc<StreamStats>], tenants: &[Arc<TenantQuota>], now: u64) {
        let mut state = self.state();
        let State { streams: seen, tenants: seen_tenants, pending, .. } = &mut *state;
        // Most of what is counted now was done before this moment.
        let minute = now.saturating_sub(FLUSH_EVERY.as_secs() / 2) / 60 * 60;
        let key = |stats: &StreamStats| StreamKey { tenant: stats.tenant.clone(), name: stats.name.clone() };
        for stats in streams {
            let seen = seen.entry(key(stats)).or_insert_with(|| Seen::new(Arc::clone(stats)));
            let rows = pending.entry(stats.tenant.clone()).or_default();
            if !Arc::ptr_eq(&seen.stats, stats) {
                // It was opened anew: what the one before has counted to its end.
                seen.count(minute, rows);
                *seen = Seen::new(Arc::clone(stats));
            }
            seen.count(minute, rows);
        }
        let runs: std::collections::HashSet<StreamKey> = streams.iter().map(|stats| key(stats)).collect();
        for (gone, mut seen) in seen.extract_if(|key, _| !runs.contains(key)) {
            seen.count(minute, pending.entry(gone.tenant).or_default());
        }
        for quota in tenants.iter().filter(|quota| !quota.tenant().is_empty()) {
            let counts = Counts {
                worker_cpu_ns: quota.cpu_used(),
                compile_cpu_ns: quota.compile_used(),
                ..Counts::default()
            };
            let before = seen_tenants.entry(quota.tenant().to_owned()).or_default();
            let new = since(&counts, before);
            if new != Counts::default() {
                pending.entry(quota.tenant().to_owned()).or_default().add(minute, Of::default(), &new);
            }
            *before = counts;
        }
        state.flushed_s = now;
        self.store_pending(&mut state);
        if state.rolled_hour != now / HOUR_S {
            state.rolled_hour = now / HOUR_S;
            self.roll(now);
        }
    }

    fn store_pending(&self, state: &mut State) {
        let mut failed: Option<io::Error> = None;
        state.pending.retain(|tenant, rows| match self.append(tenant, rows) {
            Ok(()) => false,
            Err(error) => {
                failed = Some(error);
                if rows.0.len() > PENDING_MAX {
                    tracing::error!(tenant, rows = rows.0.len(), "usage that cannot be stored is given up");
                    return false;
                }
                true
            }
        });
        match &failed {
            Some(error) if !state.failing => {
                tracing::error!(%error, dir = %self.dir.display(), "usage cannot be stored, trying again");
            }
            None if state.failing => tracing::info!("usage is stored again"),
            _ => {}
        }
        state.failing = failed.is_some();
    }

    /// By hour; what is stored is taken out of `rows`.
    fn append(&self, tenant: &str, rows: &mut Rows) -> io::Result<()> {
        let store = self.store(tenant);
        while let Some(((from, _), _)) = rows.0.first_key_value() {
            let hour = from / HOUR_S * HOUR_S;
            let later = rows.0.split_off(&(hour + HOUR_S, Of::default()));
            let of_hour: Vec<Row> = rows.clone().into_rows().collect();
            match store.append(hour, &of_hour, || self.draw()) {
                Ok(()) => rows.0 = later,
                Err(error) => {
                    rows.0.extend(later);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn roll(&self, now: u64) {
        let rolled = store::tenants(&self.dir)
            .and_then(|tenants| tenants.iter().try_for_each(|tenant| self.store(tenant).roll(now)));
        if let Err(error) = rolled {
            tracing::warn!(%error, dir = %self.dir.display(), "usage cannot be added up, trying again in an hour");
        }
    }

    /// Whether what is stored is old enough to be worth a flush before an answer.
    pub(super) fn is_stale(&self) -> bool {
        now_s() >= self.state().flushed_s + FRESH_S
    }

    /// Of a tenant, or of all one after another.
    pub(super) fn answer_of(
        &self,
        tenant: Option<&TenantName>,
        query: &UsageQuery,
        mut each: impl FnMut(Vec<Value>) -> bool,
    ) -> io::Result<Option<u64>> {
        if let Some(tenant) = tenant {
            return self.answer(tenant.as_str(), query, each);
        }
        for tenant in store::tenants(&self.dir)? {
            if let Some(stopped) = self.answer(&tenant, query, &mut each)? {
                return Ok(Some(stopped));
            }
        }
        Ok(None)
    }

    /// Another tenant of this name begins with nothing; what the one before has used stays for who writes bills.
    pub(super) fn put_aside(&self, tenant: &str) -> io::Result<()> {
        let aside = self.dir.join(format!("{tenant}.removed-{}", now_s()));
        match std::fs::rename(self.dir.join(tenant), aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        }
    }

    /// Calls `each` with rows as they are answered, all of one span after those of the one before, until it says false: then
    /// the beginning of the span in which it was called last. Blocks on the disk.
    pub(super) fn answer(
        &self,
        tenant: &str,
        query: &UsageQuery,
        mut each: impl FnMut(Vec<Value>) -> bool,
    ) -> io::Result<Option<u64>> {
        let seconds = query.seconds;
        let from = query.from / seconds * seconds;
        let mut open = Rows::default();
        let mut stopped = None;
        let mut emit = |rows: Rows, stopped: &mut Option<u64>| {
            let mut rows = rows.into_rows().peekable();
            while let Some(span) = rows.peek().map(|row| row.from) {
                let mut of_span = Vec::new();
                while let Some(row) = rows.next_if(|row| row.from == span) {
                    of_span.push(shown(tenant, seconds, &row));
                }
                if !each(of_span) {
                    *stopped = Some(span);
                    return false;
                }
            }
            true
        };
        self.store(tenant).each(from, query.to, |rows| {
            let latest = rows.iter().map(|row| row.from / seconds * seconds).max();
            for row in rows {
                if let Some(of) = query.by.key(&row.of) {
                    open.add(row.from / seconds * seconds, of, &row.counts);
                }
            }
            // Spans that nothing is added to any more: all before the one at hand.
            let Some(latest) = latest else { return true };
            let still = open.0.split_off(&(latest, Of::default()));
            let done = std::mem::replace(&mut open.0, still);
            emit(Rows(done), &mut stopped)
        })?;
        if stopped.is_none() {
            emit(open, &mut stopped);
        }
        Ok(stopped)
    }
}

/// Of what is kept, how it may be asked for.
pub(crate) fn spans(text: &str) -> Option<u64> {
    match text {
        "minute" => Some(60),
        "hour" => Some(HOUR_S),
        "day" => Some(DAY_S),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(tenant: &str, name: &str) -> Arc<StreamStats> {
        let key = StreamKey { tenant: tenant.to_owned(), name: name.to_owned() };
        Arc::new(StreamStats::new(&key, ["out".to_owned()]))
    }

    fn ask(usage: &Usage, tenant: &str, by: UsageBy, seconds: u64) -> Vec<Value> {
        let query = UsageQuery { from: 0, to: u64::MAX / 2, by, seconds };
        let mut found = Vec::new();
        let stopped = usage.answer(tenant, &query, |rows| {
            found.extend(rows);
            true
        });
        assert_eq!(stopped.unwrap(), None);
        found
    }

    fn sum(rows: &[Value], field: &str) -> u64 {
        rows.iter().map(|row| row[field].as_u64().unwrap()).sum()
    }

    #[test]
    fn what_is_counted_counts_once_through_streams_that_are_opened_anew_and_hosts_that_start_again() {
        let dir = tempfile::tempdir().unwrap();
        let usage = Usage::new(dir.path());
        let stream = stats("team", "s");
        stream.records_in.add(5);
        usage.flush_at(std::slice::from_ref(&stream), &[], 1000);
        usage.flush_at(std::slice::from_ref(&stream), &[], 1010);
        stream.records_in.add(2);
        // Counted after the last flush of the one before, and by the next one.
        let anew = stats("team", "s");
        anew.records_in.add(10);
        usage.flush_at(std::slice::from_ref(&anew), &[], 1020);
        anew.records_in.add(100);
        usage.flush_at(&[], &[], 1030);
        anew.records_in.add(1000);
        usage.flush_at(&[], &[], 1040);
        let rows = ask(&usage, "team", UsageBy::Stream, 60);
        assert_eq!(sum(&rows, "records_in"), 117);
        assert_eq!((rows.len(), rows[0]["stream"].as_str()), (2, Some("s")));
        let again = Usage::new(dir.path());
        let stream = stats("team", "s");
        stream.records_in.add(3);
        again.flush_at(std::slice::from_ref(&stream), &[], 3 * HOUR_S);
        assert_eq!(sum(&ask(&again, "team", UsageBy::Stream, HOUR_S), "records_in"), 120);
        assert_eq!(sum(&ask(&again, "team", UsageBy::Tenant, DAY_S), "records_in"), 120);
        assert!(ask(&again, "other", UsageBy::Tenant, DAY_S).is_empty());
    }

    #[test]
    fn plugins_add_up_over_streams_and_memory_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let usage = Usage::new(dir.path());
        let streams = [stats("team", "a"), stats("team", "b")];
        for (stream, memory) in streams.iter().zip([100, 70]) {
            stream.with_transforms(|transforms| {
                transforms.push(TransformStats {
                    name: "t".to_owned(),
                    plugin: "parse".to_owned(),
                    calls: 3,
                    cpu_ns: 7,
                    memory_bytes_peak: memory,
                    ..TransformStats::default()
                });
            });
        }
        let quota = TenantQuota::without_limits();
        quota.charge_cpu(5, 0);
        usage.flush_at(&streams, &[quota], 1000);
        let rows = ask(&usage, "team", UsageBy::Plugin, HOUR_S);
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        let of = |field: &str| row[field].as_u64().unwrap();
        assert_eq!((of("calls"), of("cpu_ns"), of("memory_bytes_max"), of("seconds")), (6, 14, 100, 3600));
        assert_eq!(
            (row["plugin"].as_str(), row["from"].as_str()),
            (Some("parse"), Some("1970-01-01T00:00:00Z"))
        );
        assert_eq!(store::tenants(&usage.dir).unwrap(), ["team"], "nobody's usage is of no tenant");
    }

    #[test]
    fn answer_stops_between_spans_and_goes_on_there() {
        let dir = tempfile::tempdir().unwrap();
        let usage = Usage::new(dir.path());
        let stream = stats("team", "s");
        for hour in 1..6 {
            stream.records_in.add(hour);
            usage.flush_at(std::slice::from_ref(&stream), &[], hour * HOUR_S + 30);
        }
        let mut query = UsageQuery { from: 0, to: u64::MAX / 2, by: UsageBy::Stream, seconds: HOUR_S };
        let mut found = Vec::new();
        loop {
            let mut left = 2;
            let stopped = usage.answer("team", &query, |rows| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                found.push(sum(&rows, "records_in"));
                true
            });
            let Some(stopped) = stopped.unwrap() else { break };
            query.from = stopped;
        }
        assert_eq!(found, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn usage_that_the_disk_does_not_take_is_stored_when_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let usage = Usage::new(dir.path());
        std::fs::write(dir.path().join("usage"), "in the way").unwrap();
        let stream = stats("team", "s");
        stream.records_in.add(1);
        usage.flush_at(std::slice::from_ref(&stream), &[], 1000);
        stream.records_in.add(1);
        usage.flush_at(std::slice::from_ref(&stream), &[], 1010);
        std::fs::remove_file(dir.path().join("usage")).unwrap();
        usage.flush_at(std::slice::from_ref(&stream), &[], 8000);
        assert_eq!(sum(&ask(&usage, "team", UsageBy::Tenant, HOUR_S), "records_in"), 2);
    }
}
