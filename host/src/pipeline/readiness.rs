//! Whether the data directory is where it was, for whoever asks whether the host is ready.
//!
//! Owns the thread that looks: a disk that does not answer holds up that one alone, however often somebody asks, and no
//! thread of the async runtime. How long an answer is waited for is the caller's.

use std::io;
use std::sync::Arc;

use tokio::sync::Mutex;

/// One look at a time.
#[derive(Default)]
pub(super) struct Looks {
    looking: Arc<Mutex<()>>,
}

impl Looks {
    /// Runs a look that may block. If the one before has not ended, waits for that first.
    pub(super) async fn look<F>(&self, look: F) -> io::Result<()>
    where
        F: FnOnce() -> io::Result<()> + Send + 'static,
    {
        let one = Arc::clone(&self.looking).lock_owned().await;
        let looked = tokio::task::spawn_blocking(move || {
            // Until it ends, also when nobody waits for it any more.
            let _one = one;
            look()
        });
        looked.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn disk_that_does_not_answer_holds_up_one_thread_and_not_the_runtime() {
        let looks = Looks::default();
        let begun = Arc::new(AtomicUsize::new(0));
        let (let_go, stuck) = mpsc::sync_channel::<()>(1);
        let first = {
            let begun = Arc::clone(&begun);
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                // A bound, so that the test ends where it fails.
                stuck.recv_timeout(Duration::from_secs(10)).map_err(io::Error::other)
            }
        };
        assert!(
            tokio::time::timeout(SOON, looks.look(first)).await.is_err(),
            "the runtime's thread was held up"
        );
        for _ in 0..3 {
            let begun = Arc::clone(&begun);
            let again = move || {
                begun.fetch_add(1, Ordering::SeqCst);
                Ok(())
            };
            assert!(tokio::time::timeout(SOON, looks.look(again)).await.is_err(), "two looks at a time");
        }
        let_go.send(()).unwrap();
        looks.look(|| Ok(())).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        let error = looks.look(|| Err(io::Error::other("gone"))).await.unwrap_err();
        assert_eq!(error.to_string(), "gone");
    }
}
