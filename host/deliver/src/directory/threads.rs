//! How many threads are in directories at a time: one on a network may hang, and with it every thread that is in it.
//!
//! They are of the pool that keys are verified on and other files are read, so that there is a bound over all tenants, below
//! the size of the pool, and one over the directories of each, so that one tenant does not take all of that.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinError;

/// Of all tenants; the pool has 512.
const OF_HOST_MAX: usize = 384;
/// Of one tenant.
const OF_TENANT_MAX: usize = 64;

/// Those of one tenant. Clones are the same.
#[derive(Clone, Debug)]
pub struct DirectoryThreads {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Default for DirectoryThreads {
    /// Of the first tenant of a host.
    fn default() -> DirectoryThreads {
        DirectoryThreads {
            own: Arc::new(Semaphore::new(OF_TENANT_MAX)),
            all: Arc::new(Semaphore::new(OF_HOST_MAX)),
        }
    }
}

impl DirectoryThreads {
    /// Of another tenant of the same host.
    #[must_use]
    pub fn of_another(&self) -> DirectoryThreads {
        DirectoryThreads { all: Arc::clone(&self.all), ..DirectoryThreads::default() }
    }

    /// Runs file work off the runtime's threads once there is room. Its thread counts until it is back, also where nobody
    /// waits for it any more.
    ///
    /// # Errors
    /// The work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // The tenant's first, so that few of one that hangs stand in the queue of all. Neither is ever closed.
        let own = Arc::clone(&self.own).acquire_owned().await;
        let all = Arc::clone(&self.all).acquire_owned().await;
        let held = (own, all);
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(held);
            done
        });
        done.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    /// A directory that hangs until it is told to answer.
    #[derive(Default)]
    struct Hanging {
        answers: Mutex<bool>,
        told: Condvar,
        inside: AtomicUsize,
    }

    impl Hanging {
        fn enter(&self) {
            self.inside.fetch_add(1, Ordering::SeqCst);
            let answers = self.answers.lock().unwrap();
            drop(self.told.wait_while(answers, |answers| !*answers).unwrap());
            self.inside.fetch_sub(1, Ordering::SeqCst);
        }

        fn answer(&self) {
            *self.answers.lock().unwrap() = true;
            self.told.notify_all();
        }

        fn inside(&self) -> usize {
            self.inside.load(Ordering::SeqCst)
        }
    }

    fn deliveries(
        threads: &DirectoryThreads,
        directory: &Arc<Hanging>,
        number: usize,
    ) -> JoinSet<Result<(), JoinError>> {
        let mut set = JoinSet::new();
        for _ in 0..number {
            let (threads, directory) = (threads.clone(), Arc::clone(directory));
            set.spawn(async move { threads.run(move || directory.enter()).await });
        }
        set
    }

    async fn within<T>(what: &str, done: impl Future<Output = T>) -> T {
        let done = tokio::time::timeout(Duration::from_secs(20), done).await;
        done.unwrap_or_else(|_elapsed| panic!("{what}: not within 20 s"))
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let looking = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        within(what, looking).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn directory_that_hangs_holds_its_tenant_s_threads_and_nobody_else_s() {
        let hanging = Arc::new(Hanging::default());
        let first = DirectoryThreads::default();
        let mut waiting = vec![deliveries(&first, &hanging, 1000)];
        until("its threads hang", || hanging.inside() == OF_TENANT_MAX).await;
        let healthy = first.of_another();
        for _ in 0..100 {
            assert!(within("another tenant's directory", healthy.run(|| true)).await.unwrap());
        }
        // As many tenants as the bound over all takes, and some more.
        waiting.extend((0..9).map(|_| deliveries(&first.of_another(), &hanging, 1000)));
        until("all of theirs hang", || hanging.inside() == OF_HOST_MAX).await;
        // Keys are verified so, and files read.
        assert!(within("the rest of the pool", tokio::task::spawn_blocking(|| true)).await.unwrap());
        assert_eq!(hanging.inside(), OF_HOST_MAX, "past the bound");
        hanging.answer();
        let mut done = 0;
        for mut set in waiting {
            while let Some(ended) = within("it answers again", set.join_next()).await {
                ended.unwrap().unwrap();
                done += 1;
            }
        }
        assert_eq!((done, hanging.inside()), (10_000, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn thread_that_hangs_counts_although_nobody_waits_for_it() {
        let hanging = Arc::new(Hanging::default());
        let threads = DirectoryThreads::default();
        let mut waiting = deliveries(&threads, &hanging, OF_TENANT_MAX);
        until("its threads hang", || hanging.inside() == OF_TENANT_MAX).await;
        // The stream was removed by force.
        waiting.abort_all();
        while waiting.join_next().await.is_some() {}
        let next = threads.run(|| ());
        tokio::pin!(next);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut next).await.is_err(), "past the bound");
        hanging.answer();
        within("it answers again", next).await.unwrap();
    }
}
