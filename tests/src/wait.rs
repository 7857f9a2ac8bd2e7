//! Waiting on conditions with a deadline that only a bug reaches.

use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Asks until the answer is something.
///
/// # Panics
/// It was nothing for half a minute.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come true in {DEADLINE:?}");
        // Nobody unparks this thread: it only looks less often.
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// Asks until the condition holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}
