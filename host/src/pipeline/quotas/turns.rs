//! So many at a time, of which the number can change: who has a turn keeps it, and counts among those of the new number.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Turns {
    permits: Arc<Semaphore>,
    size: Mutex<Size>,
    /// How many there are; who waits for more than that looks again.
    max: watch::Sender<usize>,
}

#[derive(Debug)]
struct Size {
    max: usize,
    /// Permits that are in use beyond it: they are of nobody when they come back.
    beyond: usize,
}

/// For as long as it lives.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    permit: Option<OwnedSemaphorePermit>,
}

fn permits(max: Option<u64>) -> usize {
    let max = max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    max.clamp(1, Semaphore::MAX_PERMITS)
}

impl Turns {
    /// `None`: without bound.
    pub(super) fn new(max: Option<u64>) -> Arc<Turns> {
        let max = permits(max);
        Arc::new(Turns {
            permits: Arc::new(Semaphore::new(max)),
            size: Mutex::new(Size { max, beyond: 0 }),
            max: watch::Sender::new(max),
        })
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, max: Option<u64>) {
        let max = permits(max);
        let mut size = self.size();
        if max > size.max {
            let more = max - size.max;
            let used = more.min(size.beyond);
            size.beyond -= used;
            self.permits.add_permits(more - used);
        } else {
            size.beyond += size.max - max;
        }
        size.max = max;
        self.settle(&mut size);
        self.max.send_replace(max);
    }

    /// What lies there beyond the number is of nobody: one that waited and went away gives back what it had already.
    fn settle(&self, size: &mut Size) {
        size.beyond -= self.permits.forget_permits(size.beyond);
    }

    /// Those that are in use.
    pub(super) fn used(&self) -> u64 {
        let size = self.size();
        (size.max + size.beyond).saturating_sub(self.permits.available_permits()) as u64
    }

    /// Waits for so many, or for all where there are fewer.
    pub(super) async fn take(self: &Arc<Self>, wanted: u64) -> Turn {
        let mut changed = self.max.subscribe();
        loop {
            self.settle(&mut self.size());
            let max = *changed.borrow_and_update();
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).clamp(1, max);
            let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
            tokio::select! {
                permit = Arc::clone(&self.permits).acquire_many_owned(wanted) => {
                    // Never closed.
                    return Turn { turns: Arc::clone(self), permit: permit.ok() };
                }
                // What it waits for may never be there now. The sender is ours.
                _changed = changed.changed() => {}
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut size = self.turns.size();
        if let Some(mut permit) = self.permit.take() {
            let beyond = size.beyond.min(permit.num_permits());
            size.beyond -= beyond;
            if let Some(beyond) = permit.split(beyond) {
                beyond.forget();
            }
            // Within the lock, so that nobody sees neither.
            drop(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn waits(turns: &Arc<Turns>, wanted: u64) -> bool {
        tokio::time::timeout(Duration::from_millis(20), turns.take(wanted)).await.is_err()
    }

    #[tokio::test]
    async fn those_in_use_count_among_the_new_number() {
        let turns = Turns::new(Some(3));
        let mut held = vec![turns.take(1).await, turns.take(1).await, turns.take(1).await];
        turns.change(Some(2));
        assert_eq!(turns.used(), 3);
        held.pop();
        assert!(waits(&turns, 1).await, "two are in use, of two");
        held.pop();
        held.push(turns.take(1).await);
        assert!(waits(&turns, 1).await);
        turns.change(Some(4));
        held.extend([turns.take(1).await, turns.take(1).await]);
        assert!(waits(&turns, 1).await);
        assert_eq!(turns.used(), 4);
        // To one and back, with four in use: nothing is won by it.
        turns.change(Some(1));
        turns.change(Some(4));
        assert!(waits(&turns, 1).await);
        turns.change(None);
        held.push(turns.take(100).await);
        turns.change(Some(1));
        held.clear();
        assert_eq!(turns.used(), 0);
        let one = turns.take(9).await;
        assert!(waits(&turns, 1).await);
        drop(one);
    }

    async fn until(holds: impl Fn() -> bool) {
        let wait = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_for_more_than_there_will_be_is_let_in_with_all_there_is() {
        let turns = Turns::new(Some(10));
        let held = turns.take(4).await;
        let waiting = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take(10).await }
        });
        until(|| turns.permits.available_permits() == 0).await;
        turns.change(Some(5));
        // What it had of the ten is given back, and of nobody.
        until(|| turns.used() == 5).await;
        assert!(!waiting.is_finished());
        drop(held);
        let all = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
        assert_eq!(turns.used(), 5);
        drop(all);
        assert_eq!(turns.used(), 0);
    }
}
