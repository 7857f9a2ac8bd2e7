//! Threads that stand by: what a plugin does is not interrupted, so jobs may hold every thread of the pool for as long as
//! deadlines let them. Then the jobs of tenants of whom nothing runs run here, one of each at a time, where they take less
//! than what holds the threads has taken already; the system shares the cores out.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Next, Shared, Taken, WorkerState, quotas, run};

/// How often one of them looks while jobs wait and all threads are held.
const LOOK: Duration = Duration::from_millis(1);

pub(super) fn stand_by(shared: &Shared) {
    while let Some(taken) = needed(shared) {
        run(shared, &mut WorkerState::new(&shared.warm), taken);
        // A thread of the pool may have left a job to this one while it was busy.
        shared.ready.notify_one();
    }
}

/// Waits for a job that no other thread can take; nothing once the pool ends.
fn needed(shared: &Shared) -> Option<Taken> {
    let mut queues = shared.lock();
    while !queues.closed {
        if !queues.is_waited_for() {
            queues = shared.needed.wait(queues).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        if let Next::Run(taken) = queues.next(quotas::now(), true) {
            // There may be more, which another one looks after.
            shared.needed.notify_one();
            return Some(taken);
        }
        if queues.watched {
            queues = shared.needed.wait(queues).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        queues.watched = true;
        let waited = shared.needed.wait_timeout(queues, LOOK);
        queues = waited.unwrap_or_else(PoisonError::into_inner).0;
        queues.watched = false;
    }
    None
}
