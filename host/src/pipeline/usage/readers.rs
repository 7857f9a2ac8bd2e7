//! How many read usage at a time: each reads whole hours from the disk into memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::UsageError;

/// Of one tenant, and of all.
const OF_TENANT_MAX: usize = 4;
const OF_HOST_MAX: usize = 16;
/// How long one that does not wait for his own waits for those of others.
const OTHERS_END: Duration = Duration::from_secs(5);

/// Who reads.
#[derive(Clone, Debug)]
pub struct UsageReader {
    /// His own tenant, whoever's usage he reads.
    pub tenant: String,
    /// He has begun, and goes on when it is his turn.
    pub waits: bool,
}

/// See the head of this file.
pub(super) struct Readers {
    host: Arc<Semaphore>,
    tenants: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// As long as it lives, somebody reads.
pub(in crate::pipeline) struct ReadTurn {
    _host: OwnedSemaphorePermit,
    _tenant: OwnedSemaphorePermit,
}

impl Default for Readers {
    fn default() -> Readers {
        Readers { host: Arc::new(Semaphore::new(OF_HOST_MAX)), tenants: Mutex::default() }
    }
}

impl Readers {
    fn of(&self, tenant: &str) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = tenants.get(tenant).and_then(Weak::upgrade) {
            return there;
        }
        tenants.retain(|_, of| of.strong_count() > 0);
        let new = Arc::new(Semaphore::new(OF_TENANT_MAX));
        tenants.insert(tenant.to_owned(), Arc::downgrade(&new));
        new
    }

    /// # Errors
    /// As many read as may, and the reader does not wait.
    pub(super) async fn turn(&self, reader: &UsageReader) -> Result<ReadTurn, UsageError> {
        let (host, tenant) = (Arc::clone(&self.host), self.of(&reader.tenant));
        let too_many = || UsageError::TooMany;
        if reader.waits {
            // Nobody closes them.
            let tenant = tenant.acquire_owned().await.map_err(|_closed| too_many())?;
            let host = host.acquire_owned().await.map_err(|_closed| too_many())?;
            return Ok(ReadTurn { _host: host, _tenant: tenant });
        }
        let tenant = tenant.try_acquire_owned().map_err(|_full| too_many())?;
        let host = tokio::time::timeout(OTHERS_END, host.acquire_owned()).await;
        let host = host.map_err(|_elapsed| too_many())?.map_err(|_closed| too_many())?;
        Ok(ReadTurn { _host: host, _tenant: tenant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_of_a_tenant_read_at_a_time_and_few_of_all() {
        let readers = Readers::default();
        let reader = |tenant: &str, waits| UsageReader { tenant: tenant.to_owned(), waits };
        let mut turns = Vec::new();
        for tenant in ["a", "b", "c", "d"] {
            for _ in 0..OF_TENANT_MAX {
                turns.push(readers.turn(&reader(tenant, false)).await.unwrap());
            }
        }
        assert!(matches!(readers.turn(&reader("a", false)).await, Err(UsageError::TooMany)), "of his own");
        assert!(matches!(readers.turn(&reader("e", false)).await, Err(UsageError::TooMany)), "of all");
        let (own, others) = (reader("a", true), reader("e", true));
        let soon = Duration::from_secs(60);
        assert!(tokio::time::timeout(soon, readers.turn(&own)).await.is_err());
        turns.remove(0);
        let next = readers.turn(&own).await.unwrap();
        assert!(tokio::time::timeout(soon, readers.turn(&others)).await.is_err());
        drop(next);
        drop(readers.turn(&others).await.unwrap());
        drop(turns);
        assert!(readers.turn(&reader("e", false)).await.is_ok());
        assert_eq!(readers.tenants.lock().unwrap().len(), 1, "those who read no more are forgotten");
    }
}
