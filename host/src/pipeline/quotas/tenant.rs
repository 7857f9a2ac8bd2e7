//! The quotas of one tenant, with what is used of them at this moment.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use wasmill_deliver::DirectoryThreads;
use wasmill_state::Usage;
use wasmill_tenant::{Bucket, Quota, Quotas as Limits};
use wasmill_transform::TransformReport;

use super::rate::Rate;
use super::turns::{Turn, Turns};
use super::{Past, QuotaRefusal, now};
use crate::pipeline::context::StreamContext;
use crate::pipeline::stats::Counter;

/// What a client is told when too much is on its way or waits: about the time in which some of it leaves.
const SOON: Duration = Duration::from_secs(1);
/// How soon a source of the host's own looks again whether there is room.
const SOURCE_LOOKS: Duration = Duration::from_millis(50);
/// A refusal of a kind is logged once within this time.
const LOG_EVERY_NS: u64 = 60_000_000_000;
/// Bytes of a permit.
const PERMIT_BYTES: u64 = 1024;
/// Plugin files that come over HTTP at a time, or wait for the compiler: each holds a thread and its bytes.
const UPLOADS_MAX: u64 = 4;

/// See the head of this file.
#[derive(Debug)]
pub struct TenantQuota {
    tenant: String,
    limits: RwLock<Arc<Limits>>,
    rate: Mutex<Rate>,
    requests: AtomicU64,
    /// One permit per KiB of body that was announced.
    bodies: Arc<Turns>,
    /// Bytes that were let through and are not in the buffer yet.
    admitted: AtomicU64,
    cpu: Mutex<Option<Bucket>>,
    cpu_used: Counter,
    compile: Mutex<Option<Bucket>>,
    compile_used: Counter,
    deliveries: Arc<Turns>,
    directories: DirectoryThreads,
    uploads: AtomicU64,
    /// Instances that are kept for the next slice, and their linear memory.
    warm: [AtomicU64; 2],
    streams: Mutex<Vec<Weak<StreamContext>>>,
    /// What its plugins keep.
    state: Arc<Usage>,
    refused: [Counter; Quota::ALL.len()],
    logged: [AtomicU64; Quota::ALL.len()],
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn body_permits(limits: &Limits) -> Option<u64> {
    limits.body_bytes.map(|bytes| bytes.div_ceil(PERMIT_BYTES))
}

fn cpu_bucket(before: Option<Bucket>, limits: &Limits, now: u64) -> Option<Bucket> {
    let rate = limits.cpu?.nanos_per_second();
    Some(before.map_or_else(|| Bucket::new(rate, now), |before| before.with_rate(rate, now)))
}

/// What comes in an hour at once, and as much in each hour.
fn compile_bucket(before: Option<Bucket>, limits: &Limits, now: u64) -> Option<Bucket> {
    let in_an_hour = limits.compile_seconds?.saturating_mul(1_000_000_000);
    let full = Bucket::with_burst(in_an_hour / 3600, in_an_hour, now);
    Some(match before {
        Some(before) if before.burst() == full.burst() => before,
        Some(before) => full.spent_as(&before, now),
        None => full,
    })
}

impl TenantQuota {
    pub(super) fn new(tenant: &str, limits: Limits, directories: DirectoryThreads) -> TenantQuota {
        let mut rate = Rate::default();
        rate.change(&limits, now());
        TenantQuota {
            tenant: tenant.to_owned(),
            rate: Mutex::new(rate),
            requests: AtomicU64::new(0),
            bodies: Turns::new(body_permits(&limits)),
            admitted: AtomicU64::new(0),
            cpu: Mutex::new(cpu_bucket(None, &limits, now())),
            cpu_used: Counter::default(),
            compile: Mutex::new(compile_bucket(None, &limits, now())),
            compile_used: Counter::default(),
            deliveries: Turns::new(limits.deliveries),
            directories,
            uploads: AtomicU64::new(0),
            warm: [AtomicU64::new(0), AtomicU64::new(0)],
            streams: Mutex::default(),
            state: {
                let state = Usage::default();
                state.set_limit(limits.state_bytes);
                Arc::new(state)
            },
            refused: array::from_fn(|_| Counter::default()),
            logged: array::from_fn(|_| AtomicU64::new(0)),
            limits: RwLock::new(Arc::new(limits)),
        }
    }

    /// Of nobody in particular.
    pub fn without_limits() -> Arc<TenantQuota> {
        Arc::new(TenantQuota::new("", Limits::default(), DirectoryThreads::default()))
    }

    pub(super) fn change(&self, limits: Limits) {
        locked(&self.rate).change(&limits, now());
        self.bodies.change(body_permits(&limits));
        {
            let mut cpu = locked(&self.cpu);
            *cpu = cpu_bucket(*cpu, &limits, now());
            let mut compile = locked(&self.compile);
            *compile = compile_bucket(*compile, &limits, now());
        }
        self.deliveries.change(limits.deliveries);
        self.state.set_limit(limits.state_bytes);
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    /// What its plugins keep, which slices ask themselves.
    pub(crate) fn state(&self) -> &Arc<Usage> {
        &self.state
    }

    /// Counts what found no room for what it changes of state, of a slice that ran.
    pub(crate) fn state_refused(&self, transforms: &[TransformReport]) {
        let times = transforms.iter().map(|transform| transform.state_refused).sum();
        if times > 0 {
            // It may be another one by now.
            let limit = self.state.limit().unwrap_or(u64::MAX);
            let why = Past::Full { there: self.state_bytes() };
            self.refuse_each(QuotaRefusal { quota: Quota::StateBytes, limit, why }, times);
        }
    }

    /// Bytes of state that are stored.
    pub fn state_bytes(&self) -> u64 {
        self.state.stored()
    }

    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often something was not let through, by quota.
    pub fn refusals(&self) -> impl Iterator<Item = (Quota, u64)> {
        Quota::ALL.iter().zip(&self.refused).map(|(quota, count)| (*quota, count.get()))
    }

    /// Counts a refusal, and logs it now and then.
    pub fn refuse(&self, refusal: QuotaRefusal) -> QuotaRefusal {
        self.refuse_each(refusal, 1)
    }

    /// The same of so many.
    fn refuse_each(&self, refusal: QuotaRefusal, times: u64) -> QuotaRefusal {
        let place = refusal.quota as usize;
        let (Some(count), Some(logged)) = (self.refused.get(place), self.logged.get(place)) else {
            return refusal;
        };
        count.add(times);
        let (last, now) = (logged.load(Ordering::Relaxed), now());
        let due = last == 0 || now.saturating_sub(last) >= LOG_EVERY_NS;
        if due && logged.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(
                tenant = %self.tenant, quota = %refusal.quota, limit = refusal.limit, refused = count.get(),
                "a tenant is past its quota; told once a minute"
            );
        }
        refusal
    }

    fn past(&self, quota: Quota, limit: u64, why: Past) -> QuotaRefusal {
        self.refuse(QuotaRefusal { quota, limit, why })
    }

    /// A request with a body begins.
    ///
    /// # Errors
    /// Too many are on their way.
    pub fn enter(self: &Arc<Self>) -> Result<InFlight, QuotaRefusal> {
        let max = self.limits().requests.unwrap_or(u64::MAX);
        if self.requests.fetch_add(1, Ordering::Relaxed) >= max {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return Err(self.past(Quota::Requests, max, Past::Now { retry_after: SOON }));
        }
        Ok(InFlight { quota: Arc::clone(self) })
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Longest body that is taken, of a host that takes no longer ones than `max`.
    pub fn body_max(&self, max: u64) -> u64 {
        self.limits().body_bytes.map_or(max, |share| share.min(max))
    }

    /// A body that is longer than [`TenantQuota::body_max`], if it is this quota that says so.
    pub fn body_too_large(&self, asked: u64) -> Option<QuotaRefusal> {
        let limit = self.limits().body_bytes.filter(|share| asked > *share)?;
        Some(self.past(Quota::BodyBytes, limit, Past::Ever { asked }))
    }

    /// Bodies of others have no room in memory while this tenant has so much of it.
    pub fn body_gives_way(&self) -> QuotaRefusal {
        let limit = self.limits().body_bytes.unwrap_or(0);
        self.past(Quota::BodyBytes, limit, Past::Now { retry_after: SOON })
    }

    /// Room for a body of so many bytes within the tenant's share; waits for the tenant's own requests only.
    pub async fn body_room(&self, bytes: u64) -> Turn {
        self.bodies.take(bytes.div_ceil(PERMIT_BYTES)).await
    }

    /// Bytes of bodies that have room.
    pub fn bodies(&self) -> u64 {
        self.bodies.used() * PERMIT_BYTES
    }

    /// Lets a request in whose body has so many bytes, as far as is known before it is read.
    ///
    /// # Errors
    /// A quota is used up, or smaller than the request. Nothing is taken then.
    pub fn admit(self: &Arc<Self>, bytes: u64) -> Result<Admission, QuotaRefusal> {
        self.room(bytes)?;
        let now = now();
        let mut rate = locked(&self.rate);
        // How many records there are nobody knows yet, but more than none.
        let records = u64::from(rate.records.is_some());
        let looked = rate.look(records, bytes, now);
        if looked.is_ok() {
            rate.charge(0, bytes, now);
        }
        drop(rate);
        looked.map_err(|refusal| self.refuse(refusal))?;
        self.admitted.fetch_add(bytes, Ordering::Relaxed);
        Ok(Admission { quota: Arc::clone(self), records: 0, bytes, taken: true, used: false })
    }

    /// Whether so many more bytes may wait in the buffer.
    fn room(&self, bytes: u64) -> Result<(), QuotaRefusal> {
        let Some(limit) = self.limits().buffered_bytes else { return Ok(()) };
        if bytes > limit {
            return Err(self.past(Quota::BufferedBytes, limit, Past::Ever { asked: bytes }));
        }
        if !self.has_room(bytes) {
            return Err(self.past(Quota::BufferedBytes, limit, Past::Now { retry_after: SOON }));
        }
        Ok(())
    }

    fn has_room(&self, bytes: u64) -> bool {
        let limit = self.limits().buffered_bytes;
        let waits = || self.buffered_bytes().saturating_add(self.admitted.load(Ordering::Relaxed));
        limit.is_none_or(|limit| waits().saturating_add(bytes) <= limit)
    }

    /// For a source that can wait, and whose batches are as large as they are.
    ///
    /// # Errors
    /// When to ask again. Nothing is taken then.
    pub(crate) fn take_patiently(&self, records: u64, bytes: u64) -> Result<(), Duration> {
        let limits = self.limits();
        if let Some(limit) = limits.buffered_bytes
            && self.buffered_bytes().saturating_add(bytes) > limit.max(bytes)
        {
            return Err(SOURCE_LOOKS);
        }
        if limits.records_per_second.is_none() && limits.bytes_per_second.is_none() {
            return Ok(());
        }
        let now = now();
        let mut rate = locked(&self.rate);
        if let Some(wait) = rate.wait_for_any(records, bytes, now) {
            return Err(wait);
        }
        rate.charge(records, bytes, now);
        Ok(())
    }

    /// What was taken is not needed after all.
    pub(crate) fn give_back(&self, records: u64, bytes: u64) {
        locked(&self.rate).give_back(records, bytes);
    }

    /// A stream of this tenant, for as long as it runs.
    pub(crate) fn watch(&self, stream: &Arc<StreamContext>) {
        let mut streams = locked(&self.streams);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(stream));
    }

    pub(crate) fn sum(&self, of: impl Fn(&StreamContext) -> u64) -> u64 {
        let streams: Vec<Arc<StreamContext>> =
            locked(&self.streams).iter().filter_map(Weak::upgrade).collect();
        streams.iter().map(|stream| of(stream)).sum()
    }

    /// Time until the workers may run something of it again; `None`: they may.
    pub(crate) fn cpu_debt(&self, now: u64) -> Option<Duration> {
        locked(&self.cpu).as_ref()?.debt(now)
    }

    /// The workers have used so many nanoseconds for it.
    pub(crate) fn charge_cpu(&self, spent: u64, now: u64) {
        self.cpu_used.add(spent);
        let mut cpu = locked(&self.cpu);
        let Some(bucket) = cpu.as_mut() else { return };
        let before = bucket.debt(now);
        bucket.charge(spent, now);
        let after = bucket.debt(now);
        drop(cpu);
        if let (None, Some(retry_after)) = (before, after) {
            let limit = self.limits().cpu.map_or(0, |cpu| cpu.nanos_per_second() / 1_000_000);
            self.past(Quota::Cpu, limit, Past::Now { retry_after });
        }
    }

    /// Nanoseconds that the workers have used for it.
    pub fn cpu_used(&self) -> u64 {
        self.cpu_used.get()
    }

    /// Whether the compiler may run for it.
    pub(crate) fn may_compile(&self) -> Result<(), QuotaRefusal> {
        self.compile_refusal().map_or(Ok(()), |refusal| Err(self.refuse(refusal)))
    }

    /// Why it may not, if so. Counts no refusal.
    pub(crate) fn compile_refusal(&self) -> Option<QuotaRefusal> {
        let retry_after = locked(&self.compile).as_ref().and_then(|bucket| bucket.debt(now()))?;
        let limit = self.limits().compile_seconds.unwrap_or(0);
        Some(QuotaRefusal { quota: Quota::CompileSeconds, limit, why: Past::Now { retry_after } })
    }

    /// A plugin file begins to come over HTTP; `None`: so many are on their way that one more has to come later.
    pub fn upload_turn(self: &Arc<Self>) -> Option<Uploading> {
        if self.uploads.fetch_add(1, Ordering::Relaxed) >= UPLOADS_MAX {
            self.uploads.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Uploading { quota: Arc::clone(self) })
    }

    pub(crate) fn charge_compile(&self, cpu: Duration) {
        let spent = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.compile_used.add(spent);
        if let Some(bucket) = locked(&self.compile).as_mut() {
            bucket.charge(spent, now());
        }
    }

    /// Nanoseconds that the compiler has used for it.
    pub fn compile_used(&self) -> u64 {
        self.compile_used.get()
    }

    /// Waits until an attempt of a delivery over the network may begin; it lasts as long as the turn.
    pub(crate) async fn delivery_turn(&self) -> Turn {
        self.deliveries.take(1).await
    }

    /// Where work in its directories runs.
    pub(crate) fn directories(&self) -> &DirectoryThreads {
        &self.directories
    }

    /// Attempts of deliveries at this moment.
    pub fn deliveries(&self) -> u64 {
        self.deliveries.used()
    }

    /// Whether a plugin file of so many bytes is taken.
    ///
    /// # Errors
    /// It is larger than the quota.
    pub fn takes_plugin(&self, bytes: u64) -> Result<(), QuotaRefusal> {
        match self.limits().plugin_bytes {
            Some(limit) if bytes > limit => {
                Err(self.past(Quota::PluginBytes, limit, Past::Ever { asked: bytes }))
            }
            _ => Ok(()),
        }
    }

    /// Whether one more fits beside `there` plugins.
    ///
    /// # Errors
    /// There are as many as the quota lets be.
    pub fn takes_another_plugin(&self, there: u64) -> Result<(), QuotaRefusal> {
        let limit = self.limits().plugins;
        self.takes_another(Quota::Plugins, limit, there)
    }

    /// Whether one more fits beside `there` streams.
    ///
    /// # Errors
    /// There are as many as the quota lets be.
    pub fn takes_another_stream(&self, there: u64) -> Result<(), QuotaRefusal> {
        let limit = self.limits().streams;
        self.takes_another(Quota::Streams, limit, there)
    }

    fn takes_another(&self, quota: Quota, limit: Option<u64>, there: u64) -> Result<(), QuotaRefusal> {
        match limit {
            Some(limit) if there >= limit => Err(self.past(quota, limit, Past::Full { there })),
            _ => Ok(()),
        }
    }

    /// Most linear memory of an instance whose own limit is this.
    pub(crate) fn plugin_memory(&self, own: u64) -> u64 {
        self.limits().plugin_memory.map_or(own, |limit| limit.min(own))
    }

    /// Bytes of dead letters of all streams.
    pub fn dead_letter_bytes(&self) -> u64 {
        self.sum(|stream| stream.stats.dead_letter_bytes.get())
    }

    /// Bytes that the letters of a stream may have, which has `own` of them.
    pub(crate) fn letters_max(&self, own: u64) -> u64 {
        let limit = self.limits().dead_letter_bytes;
        limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.dead_letter_bytes().saturating_sub(own)))
    }

    /// Letters were not kept for want of room within this quota.
    pub(crate) fn letters_are_full(&self) {
        if let Some(limit) = self.limits().dead_letter_bytes {
            self.past(Quota::DeadLetterBytes, limit, Past::Now { retry_after: SOON });
        }
    }

    pub(crate) fn warm_changed(&self, before: (u64, u64), after: (u64, u64)) {
        for (count, before, after) in [(&self.warm[0], before.0, after.0), (&self.warm[1], before.1, after.1)]
        {
            // What is subtracted was added before, so that wrapping in between evens out.
            count.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// Instances that are kept for the next slice, and their linear memory.
    pub fn warm(&self) -> (u64, u64) {
        (self.warm[0].load(Ordering::Relaxed), self.warm[1].load(Ordering::Relaxed))
    }

    pub(crate) fn warm_is_past(&self) -> bool {
        self.limits().warm_memory.is_some_and(|limit| self.warm().1 > limit)
    }

    /// What waits in all streams: in the buffer, and encoded before its delivery.
    pub fn buffered_bytes(&self) -> u64 {
        self.sum(|stream| {
            let encoded = stream.stats.outputs.iter().map(|output| output.undelivered_bytes.get());
            stream.buffer.buffered_bytes() + encoded.sum::<u64>()
        })
    }
}

/// A request on its way.
#[derive(Debug)]
pub struct InFlight {
    quota: Arc<TenantQuota>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.quota.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A plugin file that comes over HTTP, until nobody works on it any more.
#[derive(Debug)]
pub struct Uploading {
    quota: Arc<TenantQuota>,
}

impl Drop for Uploading {
    fn drop(&mut self) {
        self.quota.uploads.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request has taken; given back when it is dropped, unless it is used.
#[derive(Debug)]
pub struct Admission {
    quota: Arc<TenantQuota>,
    records: u64,
    bytes: u64,
    taken: bool,
    used: bool,
}

impl Admission {
    /// Now it is known what the request has.
    ///
    /// # Errors
    /// A quota is used up, or smaller than the request. Everything is given back then.
    pub fn settle(&mut self, records: u64, bytes: u64) -> Result<(), QuotaRefusal> {
        self.release();
        self.quota.room(bytes)?;
        let now = now();
        let looked = {
            let mut rate = locked(&self.quota.rate);
            let looked = rate.look(records, bytes, now);
            if looked.is_ok() {
                rate.charge(records, bytes, now);
            }
            looked
        };
        looked.map_err(|refusal| self.quota.refuse(refusal))?;
        self.quota.admitted.fetch_add(bytes, Ordering::Relaxed);
        (self.records, self.bytes, self.taken) = (records, bytes, true);
        Ok(())
    }

    /// The same of as many of the request's records, from the first on, as there is room for; `ends` is where each ends. How
    /// many these are, and why no more.
    pub fn settle_in_part(&mut self, ends: &[u32]) -> (usize, Option<QuotaRefusal>) {
        let bytes = |count: usize| {
            count.checked_sub(1).and_then(|last| ends.get(last)).map_or(0, |end| u64::from(*end))
        };
        let why = match self.settle(ends.len() as u64, bytes(ends.len())) {
            Ok(()) => return (ends.len(), None),
            Err(why) => why,
        };
        let fits = |count: usize| {
            let of_rate = locked(&self.quota.rate).look(count as u64, bytes(count), now());
            of_rate.is_ok() && self.quota.has_room(bytes(count))
        };
        // The first counts that fit: from none on.
        let (mut least, mut most) = (0, ends.len());
        while most - least > 1 {
            let middle = least.midpoint(most);
            *(if fits(middle) { &mut least } else { &mut most }) = middle;
        }
        // Others may have taken of it meanwhile.
        let settled = least > 0 && self.settle(least as u64, bytes(least)).is_ok();
        (if settled { least } else { 0 }, Some(why))
    }

    /// From now on it counts as used, also where nobody waits for what becomes of the request.
    pub fn hand_over(&mut self) {
        self.used = true;
    }

    /// Nothing was stored: everything is given back.
    pub fn refused(mut self) {
        self.used = false;
    }

    /// It was used, by a body of so many bytes that is of no use.
    pub fn waste(mut self, bytes: u64) {
        let more = bytes.saturating_sub(self.bytes);
        locked(&self.quota.rate).charge(0, more, now());
        self.used = true;
    }

    fn release(&mut self) {
        if self.taken {
            self.taken = false;
            self.quota.admitted.fetch_sub(self.bytes, Ordering::Relaxed);
            if !self.used {
                self.quota.give_back(self.records, self.bytes);
            }
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.release();
    }
}
