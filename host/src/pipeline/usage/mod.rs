//! Usage: what each tenant, stream and plugin has used, by time, for who writes bills.
//!
//! Every ten seconds, at the stop, and when somebody asks, what was counted since the last time is appended to files
//! (`store`); a stream that ends is counted when it does. So each thing that is counted counts once (`counted`); what a
//! process that is killed has counted since the last time is not counted. The counters of `stats` are the one source:
//! nothing is counted for usage alone. One writes at a time, and no thread waits for that.

mod counted;
mod row;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use wasmill_buffer::{Disk as _, RealDisk};

pub(super) use self::counted::Counted;
pub use self::row::UsageBy;

use self::counted::{count, since};
use self::row::{Counts, Of, Row, Rows, shown};
use self::store::Store;
use super::quotas::TenantQuota;
use super::stats::{StreamStats, wall_clock_ns};

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

/// Whole spans of an answer.
#[derive(Debug)]
pub struct UsagePage {
    pub rows: Vec<Value>,
    /// The beginning of the span behind them, if there is one.
    pub next: Option<u64>,
}

/// What counts: streams, and tenants with what workers and compiler do for them.
type Counting = (Vec<Arc<StreamStats>>, Vec<Arc<TenantQuota>>);

/// What was counted and is not stored. Held for no longer than counting takes.
#[derive(Default)]
struct Pending {
    /// By tenant.
    rows: BTreeMap<String, Rows>,
    /// CPU time of workers and compiler that was counted already.
    tenants: HashMap<String, Counts>,
}

/// Who has it writes.
#[derive(Default)]
struct Writing {
    flushed_s: u64,
    /// Tenants that were stored alone since then.
    alone_s: HashMap<String, u64>,
    rolled_hour: u64,
    failing: bool,
}

impl Writing {
    /// Whether what is stored of a tenant is old enough to be worth a flush before an answer.
    fn is_stale(&self, tenant: Option<&str>, now: u64) -> bool {
        let alone = tenant.and_then(|tenant| self.alone_s.get(tenant));
        // Whichever way the clock went.
        [Some(&self.flushed_s), alone].into_iter().flatten().all(|at| now.abs_diff(*at) >= FRESH_S)
    }
}

/// See the head of this file.
pub(super) struct Usage {
    dir: PathBuf,
    pending: Mutex<Pending>,
    writing: Arc<tokio::sync::Mutex<Writing>>,
    /// So that each part has a number of its own.
    parts: AtomicU64,
}

/// Rows of a tenant that its disk does not take; more are dropped, and told.
const PENDING_MAX: usize = 100_000;

fn now_s() -> u64 {
    u64::try_from(wall_clock_ns() / 1_000_000_000).unwrap_or(0)
}

impl Usage {
    pub(super) fn new(data_dir: &Path) -> Usage {
        Usage {
            dir: data_dir.join("usage"),
            pending: Mutex::default(),
            writing: Arc::default(),
            parts: AtomicU64::new(0),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Does something with the disk, once nobody else does.
    async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Usage, &mut Writing) -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let mut writing = Arc::clone(&self.writing).lock_owned().await;
        let usage = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&usage, &mut writing)).await
    }

    /// Stores what was counted since the last time.
    pub(super) async fn flush(self: &Arc<Self>, (streams, tenants): Counting) {
        let done = self.write(move |usage, writing| usage.flush_at(writing, &streams, &tenants, now_s()));
        if let Err(error) = done.await {
            tracing::error!(%error, "storing usage ended early");
        }
    }

    /// The same before an answer about all, unless that was done just now.
    pub(super) async fn refresh_all(self: &Arc<Self>, (streams, tenants): Counting) {
        let done = self.write(move |usage, writing| {
            let now = now_s();
            if writing.is_stale(None, now) {
                usage.flush_at(writing, &streams, &tenants, now);
            }
        });
        if let Err(error) = done.await {
            tracing::error!(%error, "storing usage ended early");
        }
    }

    /// The same of one tenant alone, however many there are.
    pub(super) async fn refresh(self: &Arc<Self>, tenant: &str, (streams, tenants): Counting) {
        let tenant = tenant.to_owned();
        let done = self.write(move |usage, writing| {
            let now = now_s();
            if writing.is_stale(Some(&tenant), now) {
                usage.count_at(&streams, &tenants, now);
                usage.store_pending(writing, Some(&tenant));
                writing.alone_s.insert(tenant, now);
            }
        });
        if let Err(error) = done.await {
            tracing::error!(%error, "storing usage ended early");
        }
    }

    /// A stream has ended: what it has done since the last time counts.
    pub(super) fn ended(&self, stream: &Arc<StreamStats>) {
        self.count_at(std::slice::from_ref(stream), &[], now_s());
    }

    /// In memory.
    fn count_at(&self, streams: &[Arc<StreamStats>], tenants: &[Arc<TenantQuota>], now: u64) {
        let mut pending = self.pending();
        let Pending { rows, tenants: before } = &mut *pending;
        // Most of what is counted now was done before this moment.
        let minute = now.saturating_sub(FLUSH_EVERY.as_secs() / 2) / 60 * 60;
        for stats in streams {
            count(stats, minute, rows.entry(stats.tenant.clone()).or_default());
        }
        for quota in tenants.iter().filter(|quota| !quota.tenant().is_empty()) {
            let counts = Counts {
                worker_cpu_ns: quota.cpu_used(),
                compile_cpu_ns: quota.compile_used(),
                ..Counts::default()
            };
            let before = before.entry(quota.tenant().to_owned()).or_default();
            let new = since(&counts, before);
            if new != Counts::default() {
                rows.entry(quota.tenant().to_owned()).or_default().add(minute, Of::default(), &new);
            }
            *before = counts;
        }
    }

    fn flush_at(
        &self,
        writing: &mut Writing,
        streams: &[Arc<StreamStats>],
        tenants: &[Arc<TenantQuota>],
        now: u64,
    ) {
        self.count_at(streams, tenants, now);
        self.store_pending(writing, None);
        writing.flushed_s = now;
        writing.alone_s.clear();
        if writing.rolled_hour != now / HOUR_S {
            writing.rolled_hour = now / HOUR_S;
            self.roll(now);
        }
    }

    /// Of a tenant, or of all. What the disk does not take stays for the next time.
    fn store_pending(&self, writing: &mut Writing, tenant: Option<&str>) {
        let taken: BTreeMap<String, Rows> = {
            let mut pending = self.pending();
            match tenant {
                Some(tenant) => pending.rows.remove_entry(tenant).into_iter().collect(),
                None => std::mem::take(&mut pending.rows),
            }
        };
        let mut failed: Option<io::Error> = None;
        for (tenant, mut rows) in taken {
            let Err(error) = self.append(&tenant, &mut rows) else { continue };
            failed = Some(error);
            if rows.0.len() > PENDING_MAX {
                tracing::error!(tenant, rows = rows.0.len(), "usage that cannot be stored is given up");
                continue;
            }
            let mut pending = self.pending();
            let there = pending.rows.entry(tenant).or_default();
            rows.into_rows().for_each(|row| there.add(row.from, row.of, &row.counts));
        }
        match &failed {
            Some(error) if !writing.failing => {
                tracing::error!(%error, dir = %self.dir.display(), "usage cannot be stored, trying again");
            }
            None if writing.failing => tracing::info!("usage is stored again"),
            _ => {}
        }
        writing.failing = failed.is_some();
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

    /// The tenants of whom something is stored, those that are gone among them. Blocks on the disk.
    pub(super) fn tenants(&self) -> io::Result<Vec<String>> {
        store::tenants(&self.dir)
    }

    /// Another tenant of this name begins with nothing; what the one before has used stays for who writes bills.
    pub(super) async fn put_aside(self: &Arc<Self>, tenant: &str) -> io::Result<()> {
        let tenant = tenant.to_owned();
        let aside = self.write(move |usage, writing| {
            usage.store_pending(writing, Some(&tenant));
            if usage.pending().rows.remove(&tenant).is_some() {
                tracing::error!(tenant, "usage of a tenant that is gone cannot be stored, and is given up");
            }
            writing.alone_s.remove(&tenant);
            let aside = usage.dir.join(format!("{tenant}.removed-{}", now_s()));
            match std::fs::rename(usage.dir.join(&tenant), aside) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                renamed => renamed,
            }
        });
        aside.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// As many whole spans as have so many rows together, and at least one. Blocks on the disk.
    pub(super) fn page(&self, tenant: &str, query: &UsageQuery, rows_max: usize) -> io::Result<UsagePage> {
        let mut rows = Vec::new();
        let next = self.answer(tenant, query, |of_span| {
            let room = rows.is_empty() || rows.len() + of_span.len() <= rows_max;
            if room {
                rows.extend(of_span);
            }
            room
        })?;
        Ok(UsagePage { rows, next })
    }

    /// Calls `each` with rows as they are answered, all of one span after those of the one before, until it says false: then
    /// the beginning of the span in which it was called last.
    fn answer(
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
    use super::super::stats::TransformStats;
    use super::*;
    use wasmill_buffer::StreamKey;

    fn stats(tenant: &str, name: &str) -> Arc<StreamStats> {
        let key = StreamKey { tenant: tenant.to_owned(), name: name.to_owned() };
        Arc::new(StreamStats::new(&key, ["out".to_owned()]))
    }

    /// As `Usage::flush`, at a moment of one's own.
    fn flush_at(usage: &Usage, streams: &[Arc<StreamStats>], tenants: &[Arc<TenantQuota>], now: u64) {
        usage.flush_at(&mut usage.writing.try_lock().unwrap(), streams, tenants, now);
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
        flush_at(&usage, std::slice::from_ref(&stream), &[], 1000);
        flush_at(&usage, std::slice::from_ref(&stream), &[], 1010);
        stream.records_in.add(2);
        usage.count_at(std::slice::from_ref(&stream), &[], 1020);
        let anew = stats("team", "s");
        anew.records_in.add(10);
        flush_at(&usage, std::slice::from_ref(&anew), &[], 1020);
        anew.records_in.add(100);
        flush_at(&usage, &[], &[], 1030);
        // It has ended, and its last records came while it did.
        usage.count_at(std::slice::from_ref(&anew), &[], 1030);
        flush_at(&usage, &[], &[], 1040);
        let rows = ask(&usage, "team", UsageBy::Stream, 60);
        assert_eq!(sum(&rows, "records_in"), 117);
        assert_eq!((rows.len(), rows[0]["stream"].as_str()), (2, Some("s")));
        let again = Usage::new(dir.path());
        let stream = stats("team", "s");
        stream.records_in.add(3);
        flush_at(&again, std::slice::from_ref(&stream), &[], 3 * HOUR_S);
        assert_eq!(sum(&ask(&again, "team", UsageBy::Stream, HOUR_S), "records_in"), 120);
        assert_eq!(sum(&ask(&again, "team", UsageBy::Tenant, DAY_S), "records_in"), 120);
        assert!(ask(&again, "other", UsageBy::Tenant, DAY_S).is_empty());
    }

    #[test]
    fn stream_that_ends_between_two_flushes_counts_once_whoever_counts_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let usage = Usage::new(dir.path());
        let stream = stats("team", "s");
        stream.records_in.add(5);
        flush_at(&usage, std::slice::from_ref(&stream), &[], 1000);
        stream.records_in.add(7);
        flush_at(&usage, &[], &[], 1010);
        usage.ended(&stream);
        // Three of a name come and go, and one flush comes late, with an older list.
        for records in [10, 100, 1000] {
            let short = stats("team", "s");
            short.records_in.add(records);
            short.with_transforms(|transforms| {
                transforms.push(TransformStats {
                    plugin: "p".to_owned(),
                    calls: records,
                    ..TransformStats::default()
                });
            });
            usage.ended(&short);
            flush_at(&usage, std::slice::from_ref(&short), &[], 1012);
        }
        flush_at(&usage, std::slice::from_ref(&stream), &[], 1014);
        flush_at(&usage, &[], &[], 1020);
        let day = ask(&usage, "team", UsageBy::Stream, DAY_S);
        assert_eq!(
            (sum(&day, "records_in"), sum(&ask(&usage, "team", UsageBy::Plugin, DAY_S), "calls")),
            (1122, 1110)
        );
    }

    #[tokio::test]
    async fn who_asks_again_and_again_has_his_own_tenant_stored_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let usage = Arc::new(Usage::new(dir.path()));
        let (own, other) = (stats("own", "s"), stats("other", "s"));
        own.records_in.add(1);
        other.records_in.add(1);
        usage.ended(&other);
        usage.refresh("own", (vec![Arc::clone(&own)], Vec::new())).await;
        assert_eq!(usage.tenants().unwrap(), ["own"]);
        {
            let writing = usage.writing.lock().await;
            let at = writing.alone_s["own"];
            assert!(!writing.is_stale(Some("own"), at) && writing.is_stale(Some("other"), at));
        }
        usage.flush((vec![own, other], Vec::new())).await;
        assert_eq!(usage.tenants().unwrap(), ["other", "own"]);
        for tenant in ["own", "other"] {
            assert_eq!(sum(&ask(&usage, tenant, UsageBy::Tenant, HOUR_S), "records_in"), 1, "{tenant}");
        }
        usage.put_aside("own").await.unwrap();
        assert!(
            ask(&usage, "own", UsageBy::Tenant, HOUR_S).is_empty() && usage.tenants().unwrap().len() == 2
        );
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
        flush_at(&usage, &streams, &[quota], 1000);
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
            flush_at(&usage, std::slice::from_ref(&stream), &[], hour * HOUR_S + 30);
        }
        let mut query = UsageQuery { from: 0, to: u64::MAX / 2, by: UsageBy::Stream, seconds: HOUR_S };
        let mut found = Vec::new();
        loop {
            let page = usage.page("team", &query, 2).unwrap();
            assert!(page.rows.len() <= 2);
            found.extend(page.rows.iter().map(|row| row["records_in"].as_u64().unwrap()));
            let Some(next) = page.next else { break };
            query.from = next;
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
        flush_at(&usage, std::slice::from_ref(&stream), &[], 1000);
        stream.records_in.add(1);
        flush_at(&usage, std::slice::from_ref(&stream), &[], 1010);
        std::fs::remove_file(dir.path().join("usage")).unwrap();
        flush_at(&usage, std::slice::from_ref(&stream), &[], 8000);
        assert_eq!(sum(&ask(&usage, "team", UsageBy::Tenant, HOUR_S), "records_in"), 2);
    }
}
