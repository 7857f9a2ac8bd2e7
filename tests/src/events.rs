//! Moments that a kill can aim at, counted by whoever sees them.

use std::sync::atomic::{AtomicU64, Ordering};

/// What can be seen from outside of what the host is about to do or has just done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A single PUT has come whole; nothing is stored.
    PutCame,
    /// It is stored; the answer is on its way.
    PutStored,
    UploadCreated,
    PartStored,
    /// The last request of an upload has come.
    CompletionCame,
    UploadCompleted,
    /// The receiver has taken a request.
    RequestTaken,
    PluginReplaced,
}

impl Event {
    pub const ALL: [Event; 8] = [
        Event::PutCame,
        Event::PutStored,
        Event::UploadCreated,
        Event::PartStored,
        Event::CompletionCame,
        Event::UploadCompleted,
        Event::RequestTaken,
        Event::PluginReplaced,
    ];
}

/// How often each event has happened.
#[derive(Debug, Default)]
pub struct Events([AtomicU64; Event::ALL.len()]);

impl Events {
    pub fn happened(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, event: Event) -> u64 {
        self.0[event as usize].load(Ordering::Relaxed)
    }
}
