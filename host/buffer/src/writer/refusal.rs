//! Appends that the disk refuses: told once when that begins and once when it is over, with how many there were.
//!
//! It refuses a line per append: clients that push against a full disk must not fill the log as well. Somebody who asks
//! whether appends are taken gets an answer from the disk, not from memory; nobody else makes it over without an append.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::{Writer, count};
use crate::disk::write_full;
use crate::error::AppendError;
use crate::limits;
use crate::state::Shared;

/// What the disk says, and to how many appends.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) error: Arc<io::Error>,
    pub(crate) appends: u64,
}

impl Shared {
    /// So many appends were refused or are unknown, or the disk still says no.
    pub(super) fn refuses(&self, error: &Arc<io::Error>, appends: u64) {
        self.refusal.send_modify(|refusal| match refusal {
            Some(refusal) => {
                refusal.appends += appends;
                refusal.error = Arc::clone(error);
            }
            None => {
                let storage = AppendError::Storage { source: Arc::clone(error) };
                tracing::warn!(
                    error = &storage as &dyn std::error::Error, dir = %self.dir.display(),
                    "journal cannot be written: appends are refused until it can be again"
                );
                *refusal = Some(Refusal { error: Arc::clone(error), appends });
            }
        });
    }
}

impl Writer {
    /// Records were written, or there is room for them.
    pub(super) fn accepts(&self) {
        if self.shared.refusal.borrow().is_none() {
            return;
        }
        if let Some(over) = self.shared.refusal.send_replace(None) {
            tracing::info!(refused = over.appends, "journal can be written again: appends are taken");
        }
    }

    /// Asks the disk again, if it refused appends.
    pub(super) fn try_again(&mut self) {
        if self.shared.refusal.borrow().is_none() {
            return;
        }
        let answer = if self.file.is_none() {
            // With one in reserve behind it.
            self.rotate(0, false).and_then(|()| self.reserve())
        } else {
            self.try_spare()
        };
        match answer {
            Ok(()) => self.accepts(),
            Err(error) => self.shared.refuses(&Arc::new(error), 0),
        }
    }

    /// Whether what the next rotation is to do can be done, without a rotation: that would give up the rest of the file.
    fn try_spare(&mut self) -> io::Result<()> {
        self.shared.check_lock()?;
        self.bound_journal()?;
        // One to write and one in reserve.
        while self.shared.state().spares.len() < 2 {
            self.create_spare()?;
        }
        let spare = self.shared.state().spares.front().cloned();
        if let Some(spare) = spare {
            // At its end, which says nothing to anybody: its start may still tell what it was.
            let zeros = [0; limits::ALIGN as usize];
            let at = spare.bytes.saturating_sub(limits::ALIGN);
            write_full(spare.file.as_ref(), &mut [IoSlice::new(&zeros)], at)?;
            count(&self.shared.counters.syncs, 1);
            spare.file.sync()?;
        }
        self.lean = false;
        Ok(())
    }
}
