//! What one turn of a guest has staged: writes per target, derived and fresh rows.
//!
//! Owns the rows of a turn ("groups": the chunk itself is group 0) and their pending writes. Refuses to apply
//! them: `apply` does, when the export has returned ok.

use std::sync::Arc;

use crate::store::Store;
use crate::verdict::NO_INPUT;

/// Pending writes on the rows of one group; the last call per target is the one that stays.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub(crate) clear: Option<Vec<u8>>,
    pub(crate) payloads: Option<Store>,
    /// `clear` was called after `set-payloads`: it wins where both name a row.
    pub(crate) clear_last: bool,
    /// By slot.
    pub(crate) fields: Vec<(u32, Store)>,
    pub(crate) keys: Option<Store>,
    pub(crate) attributes: Vec<(Arc<str>, Store)>,
    pub(crate) partitions: Vec<(Arc<str>, Store)>,
    pub(crate) route: Option<Vec<u32>>,
    pub(crate) keep: Option<Vec<u8>>,
    pub(crate) fails: Vec<(u32, String)>,
}

/// What becomes of a row's base text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Same,
    Empty,
    /// The row of `payloads`.
    Payload,
}

impl Staged {
    pub(crate) fn base(&self, row: usize) -> Base {
        let clear = self.clear.as_ref().is_some_and(|marks| marks[row] == 1);
        let payload = self.payloads.as_ref().is_some_and(|store| store.state[row] == crate::write::VALUE);
        match (clear, payload) {
            (true, true) if self.clear_last => Base::Empty,
            (_, true) => Base::Payload,
            (true, false) => Base::Empty,
            (false, false) => Base::Same,
        }
    }

    pub(crate) fn changes_base(&self) -> bool {
        self.clear.is_some() || self.payloads.is_some()
    }

    pub(crate) fn field(&self, slot: u32) -> Option<&Store> {
        self.fields.iter().find(|(known, _)| *known == slot).map(|(_, store)| store)
    }

    fn reset(&mut self, pool: &mut Vec<Store>) {
        self.clear = None;
        pool.extend(self.payloads.take());
        self.clear_last = false;
        pool.extend(self.fields.drain(..).map(|(_, store)| store));
        pool.extend(self.keys.take());
        pool.extend(self.attributes.drain(..).map(|(_, store)| store));
        pool.extend(self.partitions.drain(..).map(|(_, store)| store));
        self.route = None;
        self.keep = None;
        self.fails.clear();
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Life {
    #[default]
    Open,
    Emitted,
    Gone,
}

/// Rows of one turn.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) life: Life,
    pub(crate) rows: u32,
    /// The group that it was derived from, and the row there of each row; `None`: fresh, or the chunk itself.
    pub(crate) parent: Option<usize>,
    pub(crate) sources: Vec<u32>,
    /// Row of the chunk of which each row is a copy; [`NO_INPUT`]: none.
    pub(crate) roots: Vec<u32>,
    pub(crate) staged: Staged,
}

/// All groups of a turn. Keeps its buffers.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) transform: usize,
    pub(crate) seed: u64,
    pub(crate) groups: Vec<Group>,
    /// Groups in use.
    pub(crate) count: usize,
    /// Emitted groups in order of calls.
    pub(crate) emitted: Vec<usize>,
    /// Id of group 1; grows from turn to turn, so that ids are never used again.
    pub(crate) first_id: u32,
    /// Rows derived and made.
    pub(crate) derived_rows: u32,
    /// Bytes staged.
    pub(crate) bytes: usize,
}

impl Turn {
    /// Forgets everything staged and starts with the chunk alone.
    pub(crate) fn reset(&mut self, rows: u32, pool: &mut Vec<Store>) {
        for group in &mut self.groups[..self.count] {
            group.staged.reset(pool);
        }
        self.first_id = self.first_id.wrapping_add(self.count.saturating_sub(1) as u32).max(1);
        self.count = 0;
        self.emitted.clear();
        self.derived_rows = 0;
        self.bytes = 0;
        self.add(rows, None);
    }

    /// A group without sources.
    pub(crate) fn add(&mut self, rows: u32, parent: Option<usize>) -> usize {
        if self.groups.len() == self.count {
            self.groups.push(Group::default());
        }
        let group = &mut self.groups[self.count];
        group.life = Life::Open;
        group.rows = rows;
        group.parent = parent;
        group.sources.clear();
        group.roots.clear();
        if self.count > 0 && parent.is_none() {
            group.roots.resize(rows as usize, NO_INPUT);
        }
        self.count += 1;
        self.count - 1
    }
}
