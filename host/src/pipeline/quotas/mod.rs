//! What each tenant may use, and how much of it is used.
//!
//! Of each quota the first counts that says something: the tenant's own table in the configuration, what an operator has
//! set over HTTP, the configuration's table for all, the default here. What changes is in effect at once. Who uses something
//! asks [`TenantQuota`]; who has nothing but a name asks [`Quotas`] for it.

mod compiles;
mod rate;
mod refusal;
mod tenant;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use wasmill_config::{self as config, Settings};
use wasmill_deliver::DirectoryThreads;
use wasmill_tenant::{Cores, Quotas as Limits};

pub(crate) use self::compiles::{Compiles, TenantGate};
pub use self::refusal::{Past, QuotaRefusal};
pub use self::tenant::{Admission, InFlight, TenantQuota, Uploading};
pub use self::turns::Turn;

/// Of every tenant, where nothing else is said. What is not here has no bound but those of streams and of the host.
const DEFAULTS: Limits = Limits {
    records_per_second: None,
    bytes_per_second: None,
    requests: Some(256),
    body_bytes: Some(128 << 20),
    buffered_bytes: None,
    cpu: None,
    plugin_memory: None,
    warm_memory: None,
    plugins: None,
    plugin_bytes: Some(64 << 20),
    streams: None,
    dead_letter_bytes: None,
    state_bytes: None,
    compile_seconds: None,
    deliveries: None,
};

/// Nanoseconds of a clock that does not go back.
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// As the configuration says it.
fn limits(quota: &config::Quota) -> Limits {
    Limits {
        records_per_second: quota.records_per_second,
        bytes_per_second: quota.bytes_per_second,
        requests: quota.requests,
        body_bytes: quota.body_bytes,
        buffered_bytes: quota.buffered_bytes,
        cpu: quota.cpu_thousandths.and_then(Cores::from_thousandths),
        plugin_memory: quota.plugin_memory,
        warm_memory: quota.warm_memory,
        plugins: quota.plugins,
        plugin_bytes: quota.plugin_bytes,
        streams: quota.streams,
        dead_letter_bytes: quota.dead_letter_bytes,
        state_bytes: quota.state_bytes,
        compile_seconds: quota.compile_seconds,
        deliveries: quota.deliveries,
    }
}

/// What counts for quotas that are not the defaults.
#[derive(Debug, Default)]
struct Written {
    of_all: Limits,
    of_file: BTreeMap<String, Limits>,
    /// Over HTTP.
    set: BTreeMap<String, Limits>,
}

impl Written {
    fn of(settings: &Settings) -> Written {
        let of_file = settings.quotas.iter().map(|(tenant, quota)| (tenant.clone(), limits(quota)));
        Written { of_all: limits(&settings.quota), of_file: of_file.collect(), set: BTreeMap::new() }
    }

    fn effective(&self, tenant: &str) -> Limits {
        let nothing = Limits::default();
        let of = |map: &BTreeMap<String, Limits>| map.get(tenant).unwrap_or(&nothing).clone();
        of(&self.of_file).or(&of(&self.set)).or(&self.of_all).or(&DEFAULTS)
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Quotas {
    written: RwLock<Written>,
    known: RwLock<BTreeMap<String, Arc<TenantQuota>>>,
    compiles: Arc<Compiles>,
    /// Those of a tenant are made of it.
    directories: DirectoryThreads,
}

impl Quotas {
    pub(crate) fn new(settings: &Settings) -> Quotas {
        Quotas {
            written: RwLock::new(Written::of(settings)),
            known: RwLock::default(),
            compiles: Compiles::new(settings.workers),
            directories: DirectoryThreads::default(),
        }
    }

    fn written(&self) -> RwLockReadGuard<'_, Written> {
        self.written.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the file says now counts from now on. Returns those whose quotas changed, with what they were.
    pub(crate) fn follow(&self, settings: &Settings) -> Vec<(Arc<TenantQuota>, Arc<Limits>)> {
        let mut written = self.written.write().unwrap_or_else(PoisonError::into_inner);
        let set = std::mem::take(&mut written.set);
        *written = Written { set, ..Written::of(settings) };
        let changed = self.all().into_iter().filter_map(|quota| {
            let (before, now) = (quota.limits(), written.effective(quota.tenant()));
            let news = *before != now;
            news.then(|| {
                quota.change(now);
                (quota, before)
            })
        });
        changed.collect()
    }

    /// What the configuration says of this tenant by name, which nobody changes over HTTP.
    pub fn of_file(&self, tenant: &str) -> Limits {
        self.written().of_file.get(tenant).cloned().unwrap_or_default()
    }

    /// Of a tenant that is known to be there.
    pub fn of(&self, tenant: &str) -> Arc<TenantQuota> {
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Arc::clone(known);
        }
        // Held until it is known: what changes meanwhile changes it, too.
        let written = self.written();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            let limits = written.effective(tenant);
            Arc::new(TenantQuota::new(tenant, limits, self.directories.of_another()))
        };
        Arc::clone(known.entry(tenant.to_owned()).or_insert_with(fresh))
    }

    /// What stands before the compiler of a tenant.
    pub(crate) fn gate(&self, tenant: &str) -> Arc<TenantGate> {
        Arc::new(TenantGate { quota: self.of(tenant), compiles: Arc::clone(&self.compiles) })
    }

    /// What was set over HTTP counts from now on.
    pub fn set(&self, tenant: &str, set: &Limits) -> Arc<TenantQuota> {
        let quota = self.of(tenant);
        let mut written = self.written.write().unwrap_or_else(PoisonError::into_inner);
        written.set.insert(tenant.to_owned(), set.clone());
        quota.change(written.effective(tenant));
        quota
    }

    /// In the order of their names.
    pub fn all(&self) -> Vec<Arc<TenantQuota>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().cloned().collect()
    }
}
