//! How a table's changes come to the database: those that were there at one moment, while others are made.
//!
//! What is changed meanwhile is changed in its place, and what was there is saved for the write. Nothing counts as written before
//! all of it is durable; if it does not become so, it is as if the write had not begun.

use std::sync::atomic::Ordering;

use super::slots::{CHANGED, REMOVED, STORED, Slots};
use super::{Amount, Resident, bytes};
use crate::limits::BLOCK_BYTES;
use crate::pair::Pair;

/// What was changed when a write began.
pub(super) struct Frozen {
    pub(super) amount: Amount,
    /// The table is emptied first.
    wipes: bool,
    /// The first place that was not handed over.
    next: usize,
    /// What was changed since before it was handed over.
    saved: Vec<Pair>,
}

impl Frozen {
    /// Whether what is at this place is still to be handed over.
    pub(super) fn needs(&self, at: u32) -> bool {
        at as usize >= self.next
    }

    pub(super) fn save(&mut self, pair: Pair) {
        self.saved.push(pair);
    }
}

/// What a write takes of a table at a time.
pub(crate) struct HandedOver {
    pub(crate) entries: Vec<Pair>,
    pub(crate) more: bool,
}

impl Resident {
    /// A write begins: of what is changed now, if anything is.
    pub(crate) fn freeze(&mut self) -> Option<Amount> {
        if self.changed.entries == 0 && !self.wipes {
            return None;
        }
        let amount = std::mem::take(&mut self.changed);
        let wipes = std::mem::take(&mut self.wipes);
        self.frozen = Some(Frozen { amount, wipes, next: 0, saved: Vec::new() });
        self.turn = 1 - self.turn;
        Some(amount)
    }

    /// Whether the write that began empties the table first; `None` where there is no write any more.
    pub(crate) fn wipes_now(&self) -> Option<bool> {
        self.frozen.as_ref().map(|frozen| frozen.wipes)
    }

    /// Some of it, of as many places at most; `None` where there is no write any more.
    pub(crate) fn hand_over(&mut self, most: usize) -> Option<HandedOver> {
        let frozen = self.frozen.as_mut()?;
        let was = CHANGED[1 - self.turn];
        let (mut entries, mut read) = (Vec::new(), 0);
        // All of them are fetched at once: counting who has one would wait for each.
        let changed = |slots: &mut Slots| {
            let slots = slots.some_mut(frozen.next, most).filter(|(_, slot)| slot.is(was));
            slots.fold(0_u8, |sum, (_, slot)| sum.wrapping_add(slot.pair.first()))
        };
        let _ = std::hint::black_box(changed(&mut self.slots));
        let mut next = frozen.next.saturating_add(most);
        for (at, slot) in self.slots.some_mut(frozen.next, most).filter(|(_, slot)| slot.is(was)) {
            read += slot.pair.len();
            entries.push(slot.pair.clone());
            if read >= BLOCK_BYTES {
                next = at as usize + 1;
                break;
            }
        }
        frozen.next = next.min(self.slots.end());
        let behind = frozen.next < self.slots.end();
        let mut less = 0;
        if !behind {
            while entries.len() < most
                && read < BLOCK_BYTES
                && let Some(pair) = frozen.saved.pop()
            {
                less += bytes(&pair);
                read += pair.len();
                entries.push(pair);
            }
        }
        let more = behind || !frozen.saved.is_empty();
        if !behind {
            // What comes from here on is of no concern to it.
            frozen.next = usize::MAX;
        }
        self.shrink(less);
        Some(HandedOver { entries, more })
    }

    /// What is at these places and was written is durable; where to go on, until all of it is told.
    pub(crate) fn written(&mut self, from: usize, most: usize) -> Option<usize> {
        self.frozen.as_ref()?;
        let was = CHANGED[1 - self.turn];
        let mut gone = Vec::new();
        for (at, slot) in self.slots.some_mut(from, most).filter(|(_, slot)| slot.is(was)) {
            slot.flags = (slot.flags & !was) | STORED;
            if slot.is(REMOVED) {
                gone.push(at);
            }
        }
        self.forgotten += u64::from(!gone.is_empty());
        gone.into_iter().for_each(|at| self.drop_at(at));
        if from + most < self.slots.end() {
            return Some(from + most);
        }
        self.end_write();
        self.bound();
        None
    }

    /// Nobody knows what of it was written: all of it is to be written again.
    pub(crate) fn thaw(&mut self) {
        let Some(frozen) = &self.frozen else { return };
        self.wipes |= frozen.wipes;
        let (was, now) = (CHANGED[1 - self.turn], CHANGED[self.turn]);
        let (end, mut again) = (self.slots.end(), Amount::default());
        for (_, slot) in self.slots.some_mut(0, end).filter(|(_, slot)| slot.is(was)) {
            slot.flags = (slot.flags & !was) | STORED | now;
            again.add(bytes(&slot.pair));
        }
        self.end_write();
        self.changed.entries += again.entries;
        self.changed.bytes += again.bytes;
        self.held.changed.fetch_add(again.bytes, Ordering::Relaxed);
    }

    fn end_write(&mut self) {
        let Some(frozen) = self.frozen.take() else { return };
        self.held.changed.fetch_sub(frozen.amount.bytes, Ordering::Relaxed);
        self.shrink(frozen.saved.iter().map(bytes).sum());
    }
}
