//! An object store in memory that creates conditionally, and in every other way is as bad as a real one.
//!
//! What it answers with success is there for good. It may fail before or after it has stored something, and take its
//! time. When the machine that the host runs on is off, nothing reaches it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use wasmill_buffer::Disk;
use wasmill_buffer::testing::FaultyDisk;
use wasmill_deliver::{DeliverError, Delivered, Fault, Object, ObjectMeta, Retry, Scripted};

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) batch_id: String,
    pub(super) digest: u128,
    pub(super) body: Vec<u8>,
    pub(super) output: String,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) stored: Mutex<BTreeMap<String, Stored>>,
    /// What can only come of a bug.
    pub(super) wrong: Mutex<Vec<String>>,
}

/// A way to the objects, from the machine with this disk.
pub(super) struct Way {
    pub(super) disk: FaultyDisk,
    pub(super) objects: Arc<Objects>,
    /// How many of 1,000 requests go wrong.
    pub(super) trouble: u64,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("simulated")
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Way {
    /// The machine is off: whoever waits, waits for ever.
    async fn alive(&self) {
        if self.disk.is_off() {
            std::future::pending::<()>().await;
        }
    }

    async fn take(&self, meta: &ObjectMeta, path: &std::path::Path) -> Result<Delivered, DeliverError> {
        self.alive().await;
        let trouble = self.disk.random(1000) < self.trouble;
        let kind = self.disk.random(4);
        if kind == 3 {
            tokio::time::sleep(Duration::from_millis(self.disk.random(700))).await;
            self.alive().await;
        }
        let later =
            |what: &str| DeliverError::new(Fault::Destination, Retry::Later { after: None }, what, "");
        if trouble && kind < 2 {
            return Err(later("request failed"));
        }
        let body = self.body(path, meta)?;
        if xxhash_rust::xxh3::xxh3_128(&body) != meta.body_digest {
            locked(&self.objects.wrong).push(format!("body of {} is not what its outcome says", meta.name));
        }
        let stored = Stored {
            batch_id: meta.batch_id.clone(),
            digest: meta.digest,
            body,
            output: meta.output.clone(),
        };
        let created = {
            let mut objects = locked(&self.objects.stored);
            match objects.get(&meta.name) {
                None => {
                    objects.insert(meta.name.clone(), stored);
                    Delivered::Created
                }
                Some(there) if there.batch_id == stored.batch_id && there.digest == stored.digest => {
                    Delivered::AlreadyOurs
                }
                Some(there) => {
                    let detail = format!("{} is there as {}", meta.name, there.batch_id);
                    locked(&self.objects.wrong).push(format!("two batches with one name: {detail}"));
                    return Err(DeliverError::new(Fault::Foreign, Retry::Never, "not ours", detail));
                }
            }
        };
        if trouble { Err(later("answer lost")) } else { Ok(created) }
    }

    fn body(&self, path: &std::path::Path, meta: &ObjectMeta) -> Result<Vec<u8>, DeliverError> {
        let failed = |error: std::io::Error| {
            DeliverError::new(Fault::Host, Retry::Later { after: None }, "no body", error.to_string())
        };
        let file = self.disk.open(path).map_err(failed)?;
        let mut body = vec![0; usize::try_from(meta.bytes).unwrap_or(0)];
        let mut at = 0;
        while at < body.len() {
            match file.read_at(&mut body[at..], at as u64).map_err(failed)? {
                0 => break,
                read => at += read,
            }
        }
        Ok(body)
    }
}

impl Scripted for Way {
    fn deliver<'a>(&'a self, object: &'a Object<'a>) -> BoxFuture<'a, Result<Delivered, DeliverError>> {
        self.take(object.meta, object.body).boxed()
    }
}
