//! When each key was last used: noted in memory at each use, and stored now and then.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use wasmill_tenant::Moment;

use crate::error::StoreError;
use crate::file;

const FORMAT: u64 = 1;
/// Uses that are closer together are one.
const STEP_MS: Moment = 1000;

#[derive(Deserialize, Serialize, Clone, Default)]
struct Stored {
    keys: HashMap<String, Moment>,
}

pub(crate) struct LastUsed {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    stored: Stored,
    changed: bool,
}

impl LastUsed {
    pub(crate) fn open(path: PathBuf) -> LastUsed {
        let stored = file::read(&path, FORMAT).unwrap_or_else(|error| {
            // Nothing hangs on it.
            tracing::warn!(error = &error as &dyn std::error::Error, "when keys were last used is not known");
            None
        });
        let stored = stored.unwrap_or_default();
        LastUsed { path, state: Mutex::new(State { stored, changed: false }) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, id: &str, now: Moment) {
        let mut state = self.state();
        match state.stored.keys.get_mut(id) {
            Some(at) if now < at.saturating_add(STEP_MS) => return,
            Some(at) => *at = now,
            None => {
                state.stored.keys.insert(id.to_owned(), now);
            }
        }
        state.changed = true;
    }

    pub(crate) fn of(&self, id: &str) -> Option<Moment> {
        self.state().stored.keys.get(id).copied()
    }

    /// Stores what has changed, of keys that are there.
    pub(crate) fn store(&self, is_there: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let stored = {
            let mut state = self.state();
            if !std::mem::take(&mut state.changed) {
                return Ok(());
            }
            state.stored.keys.retain(|id, _| is_there(id));
            state.stored.clone()
        };
        let made = self.path.parent().map_or(Ok(()), file::make_directory);
        let written = made.and_then(|()| file::write(&self.path, FORMAT, &stored));
        if written.is_err() {
            self.state().changed = true;
        }
        written
    }
}
