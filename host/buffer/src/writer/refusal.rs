//! Appends that the disk refuses: told once when that begins and once when it is over, with how many there were.
//!
//! It refuses a line per append: clients that push against a full disk must not fill the log as well. Somebody who asks
//! whether appends are taken gets an answer from the disk, not from memory.

use std::io;
use std::sync::Arc;

use super::Writer;
use crate::error::AppendError;

/// What the disk says, and to how many appends.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) error: Arc<io::Error>,
    pub(crate) appends: u64,
}

impl Writer {
    /// So many appends were refused, or the disk still says no.
    pub(super) fn refuses(&self, error: &Arc<io::Error>, appends: u64) {
        self.shared.refusal.send_modify(|refusal| match refusal {
            Some(refusal) => {
                refusal.appends += appends;
                refusal.error = Arc::clone(error);
            }
            None => {
                let storage = AppendError::Storage { source: Arc::clone(error) };
                tracing::warn!(
                    error = &storage as &dyn std::error::Error, dir = %self.shared.dir.display(),
                    "journal cannot be written: appends are refused until it can be again"
                );
                *refusal = Some(Refusal { error: Arc::clone(error), appends });
            }
        });
    }

    /// Records were written, or there is room for them.
    pub(super) fn accepts(&self) {
        if self.shared.refusal.borrow().is_none() {
            return;
        }
        if let Some(over) = self.shared.refusal.send_replace(None) {
            tracing::info!(refused = over.appends, "journal can be written again: appends are taken");
        }
    }

    /// Asks the disk again, if it refused appends: whether it has room for a file to write and one in reserve.
    pub(super) fn try_again(&mut self) {
        if self.shared.refusal.borrow().is_none() {
            return;
        }
        while self.shared.state().spares.len() < 2 {
            if let Err(error) = self.create_spare() {
                return self.refuses(&Arc::new(error), 0);
            }
        }
        self.lean = false;
        self.accepts();
    }
}
