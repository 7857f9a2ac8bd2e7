//! Why a delivery failed: whose fault it is and whether trying again can help, both as data.
//!
//! `message` may be shown to anyone who may see the stream; `detail` is for the operator and may
//! name endpoints and paths. Neither holds credentials, headers or payload.

use std::time::Duration;

/// Who has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The destination is down, slow, full or denies.
    Destination,
    /// The request itself is wrong: the settings of this output, or this object, cannot succeed.
    Client,
    /// This host: its disk, its memory, a body that has gone.
    Host,
    /// Whoever put something that is not ours where an object belongs: the output stops until it is gone.
    Foreign,
}

/// Whether and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// At once: the cause is known to be gone (a conflicting upload that has ended).
    Now,
    /// With back-off; `after` is the destination's own wish (`Retry-After`) and a lower bound.
    Later { after: Option<Duration> },
    /// Never: the same request gets the same answer.
    Never,
}

/// A delivery that did not happen, or whose success is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DeliverError {
    pub fault: Fault,
    pub retry: Retry,
    /// For everyone who may see the stream.
    pub message: String,
    /// For the operator.
    pub detail: String,
}

impl DeliverError {
    pub fn new(fault: Fault, retry: Retry, message: impl Into<String>, detail: impl Into<String>) -> Self {
        DeliverError { fault, retry, message: message.into(), detail: detail.into() }
    }

    /// The destination may do better later.
    pub(crate) fn later(message: impl Into<String>, detail: impl Into<String>) -> Self {
        DeliverError::new(Fault::Destination, Retry::Later { after: None }, message, detail)
    }

    /// Something stands where the object should go and is not ours.
    pub(crate) fn foreign(name: &str, detail: impl Into<String>) -> Self {
        DeliverError::new(
            Fault::Foreign,
            Retry::Never,
            format!("a foreign object stands at {name}; it was neither overwritten nor skipped"),
            detail,
        )
    }
}
