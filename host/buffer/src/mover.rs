//! The thread that moves frames to segments, and how the writer asks for it and waits.
//!
//! Never holds a lock while it copies. Without a thread (a stepped journal) the writer copies itself.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::segment;
use crate::state::{Shared, lock};

#[derive(Default)]
struct Inner {
    wanted: bool,
    busy: bool,
    running: bool,
    stopped: bool,
    /// Rounds that ended.
    rounds: u64,
    error: Option<Arc<io::Error>>,
}

#[derive(Default)]
pub(crate) struct Mover {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Mover {
    /// Starts the thread. Until it is started nothing is copied.
    pub(crate) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
        lock(&shared.mover.inner).running = true;
        std::thread::Builder::new().name("wasmill-segments".into()).spawn(move || {
            let _end = StopOnDrop(&shared.mover);
            while shared.mover.next() {
                let result = once(&shared);
                let more = matches!(result, Ok(true));
                shared.mover.done(result.err().map(Arc::new), more);
                // What was copied can be freed.
                shared.queue.poke();
            }
        })
    }

    fn next(&self) -> bool {
        let mut inner = lock(&self.inner);
        while !inner.wanted && !inner.stopped {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.wanted = false;
        inner.busy = !inner.stopped;
        inner.busy
    }

    fn done(&self, error: Option<Arc<io::Error>>, more: bool) {
        let mut inner = lock(&self.inner);
        inner.busy = false;
        inner.wanted |= more;
        inner.rounds += 1;
        inner.error = error;
        drop(inner);
        self.changed.notify_all();
    }

    /// Asks for rounds until nothing is left to copy.
    pub(crate) fn want(&self) {
        lock(&self.inner).wanted = true;
        self.changed.notify_all();
    }

    /// Asks for a round that begins after now and waits for its end, if the thread runs.
    pub(crate) fn wait(&self) -> Result<(), Arc<io::Error>> {
        let mut inner = lock(&self.inner);
        inner.wanted = true;
        self.changed.notify_all();
        let rounds = inner.rounds + 1 + u64::from(inner.busy);
        while inner.rounds < rounds && inner.running && !inner.stopped {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.error.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn stop(&self) {
        lock(&self.inner).stopped = true;
        self.changed.notify_all();
    }
}

/// One round, if one is due. `false` if there was nothing to copy.
pub(crate) fn once(shared: &Shared) -> io::Result<bool> {
    if !segment::is_due(shared) {
        return Ok(false);
    }
    let result = segment::round(shared);
    if let Err(error) = &result {
        tracing::warn!(error = %error, "cannot move frames to a segment");
    }
    result
}

/// However the thread ends, nobody waits for it in vain.
struct StopOnDrop<'a>(&'a Mover);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
