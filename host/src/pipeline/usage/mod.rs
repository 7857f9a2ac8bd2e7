//! Usage: what each tenant, stream and plugin has used, by time, for who writes bills.
//!
//! Every ten seconds, and at the stop, what was counted since the last time is appended to files (`store`); a stream that
//! ends is counted when it does. So each thing that is counted counts once (`counted`); what a process that is killed has
//! counted since the last time is not counted. Who asks gets what is stored and what is not yet, and has nothing written.
//! The counters of `stats` are the one source: nothing is counted for usage alone. One writes at a time, few read
//! (`readers`), and no thread of the runtime waits for that.

mod counted;
mod readers;
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
pub use self::readers::UsageReader;
pub use self::row::UsageBy;

use self::counted::{count, since};
use self::readers::{ReadTurn, Readers};
use self::row::{Counts, Of, Row, Rows, shown};
use self::store::Store;
use super::leftovers::put_aside;
use super::quotas::TenantQuota;
use super::stats::{StreamStats, wall_clock_ns};

/// How often it is stored what was counted.
pub(super) const FLUSH_EVERY: Duration = Duration::from_secs(10);
/// Minutes this old stay what they are for longer than anybody takes from one page to the next.
const MINUTES_STAY_S: u64 = 2 * DAY_S;
/// How often an answer is read anew because what is counted was stored meanwhile; then it is of what is stored alone.
const READS_MAX: usize = 3;
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;

fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("usage")
}

/// Where the usage of a tenant is.
pub(super) fn dir_of(data_dir: &Path, tenant: &str) -> PathBuf {
    directory(data_dir).join(tenant)
}

/// Under which it is once the tenant is gone.
pub(super) fn name_aside(tenant: &str, now_ms: u64) -> String {
    format!("{tenant}.removed-{now_ms}")
}

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
    /// The beginning of what is behind them, if there is anything.
    pub next: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error("as many of this tenant's requests read usage as may at a time: try again in a moment")]
    TooMany,
    #[error("usage cannot be read: {reason}")]
    Failed { reason: String },
}

impl UsageError {
    fn failed(error: &dyn std::fmt::Display) -> UsageError {
        UsageError::Failed { reason: error.to_string() }
    }
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
    /// How often rows were taken to be stored.
    taken: u64,
}

/// Who has it writes.
#[derive(Default)]
struct Writing {
    rolled_hour: u64,
    failing: bool,
}

/// See the head of this file.
pub(super) struct Usage {
    dir: PathBuf,
    pending: Mutex<Pending>,
    writing: Arc<tokio::sync::Mutex<Writing>>,
    readers: Readers,
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
            dir: directory(data_dir),
            pending: Mutex::default(),
            writing: Arc::default(),
            readers: Readers::default(),
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

    /// Whoever reads does so while he has it.
    pub(super) async fn turn(&self, reader: &UsageReader) -> Result<ReadTurn, UsageError> {
        self.readers.turn(reader).await
    }

    /// What a tenant has used, as `page`, up to this moment.
    pub(super) async fn read(
        self: &Arc<Self>,
        tenant: &str,
        (streams, tenants): Counting,
        query: UsageQuery,
        rows_max: usize,
        turn: ReadTurn,
    ) -> Result<UsagePage, UsageError> {
        self.count_at(&streams, &tenants, now_s());
        let (usage, tenant) = (Arc::clone(self), tenant.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            // Until it is read, also when nobody waits for it any more.
            let _turn = turn;
            usage.page(&tenant, &query, rows_max, now_s())
        });
        let read = read.await.map_err(|error| UsageError::failed(&error))?;
        read.map_err(|error| UsageError::failed(&error))
    }

    /// The tenants who have used something, those that are gone among them.
    pub(super) async fn read_tenants(
        self: &Arc<Self>,
        (streams, tenants): Counting,
    ) -> Result<Vec<String>, UsageError> {
        self.count_at(&streams, &tenants, now_s());
        let usage = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || usage.tenants()).await;
        read.map_err(|error| UsageError::failed(&error))?.map_err(|error| UsageError::failed(&error))
    }

    /// A stream has ended: what it has done since the last time counts.
    pub(super) fn ended(&self, stream: &Arc<StreamStats>) {
        self.count_at(std::slice::from_ref(stream), &[], now_s());
    }

    /// In memory.
    fn count_at(&self, streams: &[Arc<StreamStats>], tenants: &[Arc<TenantQuota>], now: u64) {
        let mut pending = self.pending();
        let Pending { rows, tenants: before, .. } = &mut *pending;
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
        if writing.rolled_hour != now / HOUR_S {
            writing.rolled_hour = now / HOUR_S;
            self.roll(now);
        }
    }

    /// Of a tenant, or of all. What the disk does not take stays for the next time.
    fn store_pending(&self, writing: &mut Writing, tenant: Option<&str>) {
        let taken: BTreeMap<String, Rows> = {
            let mut pending = self.pending();
            pending.taken += 1;
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

    /// Blocks on the disk.
    fn tenants(&self) -> io::Result<Vec<String>> {
        let mut tenants = store::tenants(&self.dir)?;
        let pending = self.pending();
        tenants.extend(pending.rows.iter().filter(|(_, rows)| !rows.0.is_empty()).map(|(of, _)| of.clone()));
        tenants.sort();
        tenants.dedup();
        Ok(tenants)
    }

    /// Another tenant of this name begins with nothing; what the one before has used stays for who writes bills.
    pub(super) async fn put_aside(self: &Arc<Self>, tenant: &str, now_ms: u64) -> io::Result<()> {
        let tenant = tenant.to_owned();
        let aside = self.write(move |usage, writing| {
            usage.store_pending(writing, Some(&tenant));
            if usage.pending().rows.remove(&tenant).is_some() {
                tracing::error!(tenant, "usage of a tenant that is gone cannot be stored, and is given up");
            }
            put_aside(&usage.dir.join(&tenant), name_aside(&tenant, now_ms))
        });
        aside.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// As many whole spans as have so many rows together, and at least one. Blocks on the disk.
    fn page(&self, tenant: &str, query: &UsageQuery, rows_max: usize, now: u64) -> io::Result<UsagePage> {
        let from = query.from / query.seconds * query.seconds;
        for _ in 1..READS_MAX {
            let (taken, mut pending) = {
                // Nothing is on its way to the disk.
                let _writing = self.writing.blocking_lock();
                let pending = self.pending();
                (pending.taken, pending.rows.get(tenant).cloned().unwrap_or_default())
            };
            pending.0.retain(|(at, _), _| (from..query.to).contains(at));
            let stored_alone = pending.0.is_empty();
            let page = self.page_with(tenant, query, rows_max, now, pending)?;
            // What was pending and is stored meanwhile may have been counted twice.
            if stored_alone || self.pending().taken == taken {
                return Ok(page);
            }
        }
        self.page_with(tenant, query, rows_max, now, Rows::default())
    }

    fn page_with(
        &self,
        tenant: &str,
        query: &UsageQuery,
        rows_max: usize,
        now: u64,
        pending: Rows,
    ) -> io::Result<UsagePage> {
        // Minutes may be added up to hours before the next page is asked for: then it begins with a whole one.
        let whole = |span: u64| match span < now.saturating_sub(MINUTES_STAY_S) {
            true => span / query.seconds.max(HOUR_S) * query.seconds.max(HOUR_S),
            false => span,
        };
        let mut rows = Vec::new();
        let mut last = None;
        let next = self.answer(tenant, query, pending, |span, of_span| {
            let goes_on = last.is_none_or(|last| last == whole(span));
            let room = goes_on || rows.len() + of_span.len() <= rows_max;
            if room {
                last = Some(whole(span));
                rows.extend(of_span);
            }
            room
        })?;
        Ok(UsagePage { rows, next: next.map(whole) })
    }

    /// Calls `each` with the beginning of a span and its rows as they are answered, one span after the other, until it says
    /// false: then the beginning of the span for which it was called last. What is stored and what is `pending` counts.
    fn answer(
        &self,
        tenant: &str,
        query: &UsageQuery,
        mut pending: Rows,
        mut each: impl FnMut(u64, Vec<Value>) -> bool,
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
                if !each(span, of_span) {
                    *stopped = Some(span);
                    return false;
                }
            }
            true
        };
        let add = |open: &mut Rows, row: Row| {
            if let Some(of) = query.by.key(&row.of) {
                open.add(row.from / seconds * seconds, of, &row.part(query.by));
            }
        };
        self.store(tenant).each(from, query.to, |rows| {
            let Some(latest) = rows.iter().map(|row| row.from).max() else { return true };
            let later = pending.0.split_off(&(latest / HOUR_S * HOUR_S + HOUR_S, Of::default()));
            let of_hour = std::mem::replace(&mut pending.0, later);
            let latest = of_hour.last_key_value().map_or(latest, |((at, _), _)| latest.max(*at));
            rows.into_iter().chain(Rows(of_hour).into_rows()).for_each(|row| add(&mut open, row));
            // Spans that nothing is added to any more: all before the one at hand.
            let still = open.0.split_off(&(latest / seconds * seconds, Of::default()));
            let done = std::mem::replace(&mut open.0, still);
            emit(Rows(done), &mut stopped)
        })?;
        if stopped.is_none() {
            pending.into_rows().for_each(|row| add(&mut open, row));
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
mod tests;
