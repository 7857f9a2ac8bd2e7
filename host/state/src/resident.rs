//! Tables in memory: the first home of every change, over what the database has.
//!
//! A change is made here alone; [`Frozen`] takes what was changed to the database later. While everything of a table is here,
//! what is not here is not anywhere, which is what most reads of new keys ask. Of a table that is too large only what is not
//! written stays, and what is read of it is kept until it is too much again.
//!
//! What the database may have and is removed stays as removed until it is there, too. What came and went in between leaves
//! nothing.

mod order;
mod slots;
mod writing;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::changes::Wanted;
use crate::error::StoreError;
use crate::limits::{
    BLOCK_BYTES, CHANGED_BYTES, CHANGED_BYTES_MAX, RESIDENT_BYTES, RESIDENT_ENTRY_BYTES, RESIDENT_TABLE_BYTES,
};
use crate::pair::Pair;
use crate::places::{Places, TOGETHER};
use crate::table::{Address, Entry};
use order::Order;
use slots::{CHANGED, DEAD, FREE, REMOVED, STORED, Slot, Slots};
use writing::Frozen;
pub(crate) use writing::HandedOver;

/// What all tables of all streams take in memory, whatever becomes of the database.
#[derive(Debug, Default)]
pub struct Held {
    pub(crate) bytes: AtomicUsize,
    /// Of these, what is not in the database.
    pub(crate) changed: AtomicUsize,
    /// Bytes of outcomes that are applied and not durable in the database.
    pub(crate) behind: AtomicU64,
}

impl Held {
    /// About how many bytes of outcomes were applied and are not durable in the store.
    pub fn behind(&self) -> u64 {
        self.behind.load(Ordering::Relaxed)
    }

    /// Whether so much is not written that it should be: what is may be let go of.
    pub fn presses(&self) -> bool {
        self.changed.load(Ordering::Relaxed) > CHANGED_BYTES
    }

    /// Whether nothing more may be applied before something is written.
    pub fn is_full(&self) -> bool {
        self.changed.load(Ordering::Relaxed) > CHANGED_BYTES_MAX
    }
}

/// Some entries, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

impl Amount {
    fn add(&mut self, bytes: usize) {
        self.entries += 1;
        self.bytes += bytes;
    }

    fn sub(&mut self, bytes: usize) {
        self.entries -= 1;
        self.bytes -= bytes;
    }
}

fn bytes(pair: &Pair) -> usize {
    RESIDENT_ENTRY_BYTES + pair.len()
}

/// What of a table is in memory. See the head of this file.
pub(crate) struct Resident {
    slots: Slots,
    /// What is known of an address.
    places: Places,
    order: Order,
    /// Everything of the table is here.
    whole: bool,
    /// Whether all of it was, or is being read from the database, or is too much.
    asked: bool,
    /// Nothing of what the database has is to be left.
    wipes: bool,
    /// Which of [`CHANGED`] is given now.
    turn: usize,
    changed: Amount,
    /// What a write takes to the database.
    frozen: Option<Frozen>,
    /// Counts when something that was known is not any more.
    forgotten: u64,
    bytes: usize,
    held: Arc<Held>,
}

/// What is known of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Value(&'a [u8]),
    Missing,
    /// The database must be asked.
    Unknown,
}

/// What is known of entries from an address on, in order: nothing is left of those that are `None`.
pub(crate) struct Known {
    pub(crate) entries: Vec<(Address, Option<Entry>)>,
    /// There may be more behind the last one; then there is a last one.
    pub(crate) more: bool,
    /// What is not here is not anywhere.
    pub(crate) whole: bool,
}

impl Resident {
    /// Of a table of which the database has nothing.
    pub(crate) fn whole(held: Arc<Held>) -> Resident {
        let mut resident = Resident::part(held);
        (resident.whole, resident.asked) = (true, true);
        resident
    }

    /// Of one of which it may have something.
    pub(crate) fn part(held: Arc<Held>) -> Resident {
        Resident {
            slots: Slots::default(),
            places: Places::default(),
            order: Order::default(),
            whole: false,
            asked: false,
            wipes: false,
            turn: 0,
            changed: Amount::default(),
            frozen: None,
            forgotten: 0,
            bytes: 0,
            held,
        }
    }

    /// Of one that was emptied, whatever the database has.
    pub(crate) fn emptied(held: Arc<Held>) -> Resident {
        let mut resident = Resident::whole(held);
        resident.wipes = true;
        resident
    }

    pub(crate) fn get(&self, wanted: Wanted<'_>) -> Found<'_> {
        match self.find(wanted).and_then(|at| self.slots.get(at)) {
            Some(slot) => slot.value().map_or(Found::Missing, Found::Value),
            None if self.whole => Found::Missing,
            None => Found::Unknown,
        }
    }

    fn find(&self, wanted: Wanted<'_>) -> Option<u32> {
        self.places.find(wanted.hash, |at| self.slots.address(at) == wanted.address)
    }

    /// What is known of several entries, at most [`TOGETHER`].
    pub(crate) fn get_many<'r>(&'r self, wanted: &[Wanted<'_>]) -> impl Iterator<Item = Found<'r>> + use<'r> {
        let whole = self.whole;
        let found = self.find_many(wanted).into_iter().take(wanted.len());
        found.map(move |at| match at.and_then(|at| self.slots.get(at)) {
            Some(slot) => slot.value().map_or(Found::Missing, Found::Value),
            None if whole => Found::Missing,
            None => Found::Unknown,
        })
    }

    fn find_many(&self, wanted: &[Wanted<'_>]) -> [Option<u32>; TOGETHER] {
        self.places.find_many(wanted, |at| self.slots.get(at).map(|slot| &slot.pair))
    }

    /// Whether nobody has asked for the whole table yet.
    pub(crate) fn is_to_be_asked(&self) -> bool {
        !self.asked
    }

    pub(crate) fn asked(&mut self) {
        self.asked = true;
    }

    /// Grows when something that was known is not any more: what is read from the database beside may be too old then.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// What became of several entries, at most [`TOGETHER`]; no address is there twice.
    pub(crate) fn put_many(&mut self, changes: &[(Wanted<'_>, &Pair)]) {
        let wanted: Vec<Wanted<'_>> = changes.iter().map(|(wanted, _)| *wanted).collect();
        let (found, forgotten) = (self.find_many(&wanted), self.forgotten);
        for ((wanted, pair), at) in changes.iter().zip(found) {
            // Nothing is where it was once something is forgotten.
            let at = if self.forgotten == forgotten { at } else { self.find(*wanted) };
            self.put_at(at, *wanted, pair);
        }
    }

    /// What became of an entry.
    #[cfg(test)]
    pub(crate) fn put(&mut self, wanted: Wanted<'_>, pair: &Pair) {
        self.put_many(&[(wanted, pair)]);
    }

    fn put_at(&mut self, at: Option<u32>, wanted: Wanted<'_>, pair: &Pair) {
        match pair.is_removed() {
            true => self.remove_at(at, wanted, || pair.clone()),
            false => self.change(at, wanted, pair.clone(), 0),
        }
    }

    pub(crate) fn remove(&mut self, wanted: Wanted<'_>) {
        self.remove_at(self.find(wanted), wanted, || Pair::removed(wanted.address));
    }

    fn remove_at(&mut self, at: Option<u32>, wanted: Wanted<'_>, removed: impl FnOnce() -> Pair) {
        match at.and_then(|at| Some((at, self.slots.get(at)?))) {
            None if self.whole => {}
            Some((at, slot)) if !slot.is(STORED) && !self.is_frozen(slot) => self.drop_at(at),
            _ => self.change(at, wanted, removed(), REMOVED),
        }
    }

    fn is_frozen(&self, slot: &Slot) -> bool {
        self.frozen.as_ref().is_some_and(|_| slot.is(CHANGED[1 - self.turn]))
    }

    fn change(&mut self, known: Option<u32>, wanted: Wanted<'_>, pair: Pair, removed: u8) {
        let more = bytes(&pair);
        let now = CHANGED[self.turn];
        let frozen = known.and_then(|at| self.slots.get(at)).is_some_and(|slot| self.is_frozen(slot));
        let Some((at, slot)) = known.and_then(|at| Some((at, self.slots.get_mut(at)?))) else {
            let stored = if self.whole { 0 } else { STORED };
            self.add(wanted, pair, removed | stored | now);
            self.changed.add(more);
            self.held.changed.fetch_add(more, Ordering::Relaxed);
            return self.bound();
        };
        let stored = if frozen { STORED } else { slot.flags & STORED };
        let was_changed = slot.is(now);
        slot.flags = removed | stored | now;
        let before = std::mem::replace(&mut slot.pair, pair);
        let less = bytes(&before);
        self.changed.add(more);
        self.grow(more);
        match &mut self.frozen {
            // The write that is on its way takes what was there when it began; it counts there.
            Some(write) if frozen && write.needs(at) => write.save(before),
            _ => self.shrink(less),
        }
        // What is frozen counts until it is written, wherever it is.
        self.held.changed.fetch_add(more, Ordering::Relaxed);
        if was_changed {
            self.changed.sub(less);
            self.held.changed.fetch_sub(less, Ordering::Relaxed);
        }
        self.bound();
    }

    /// What the database has, unless something is known.
    pub(crate) fn learn(&mut self, wanted: Wanted<'_>, value: &[u8]) {
        if self.whole || self.find(wanted).is_some() {
            return;
        }
        self.add(wanted, Pair::stored(wanted.address, value), STORED);
        self.bound();
    }

    /// Everything that the database has was learnt, and nothing that was known forgotten meanwhile.
    pub(crate) fn learnt(&mut self) {
        self.whole = true;
    }

    fn add(&mut self, wanted: Wanted<'_>, pair: Pair, flags: u8) {
        let hash = wanted.hash;
        self.grow(bytes(&pair));
        let at = self.slots.add(Slot { pair, hash, flags });
        self.places.add(hash, at);
        self.order.add(wanted.address.first().copied().unwrap_or(0), at);
    }

    /// Nothing is known of what is here.
    fn drop_at(&mut self, at: u32) {
        let now = CHANGED[self.turn];
        let Some(slot) = self.slots.get_mut(at) else { return };
        if slot.is(now) {
            self.changed.sub(bytes(&slot.pair));
            self.held.changed.fetch_sub(bytes(&slot.pair), Ordering::Relaxed);
        }
        slot.flags = DEAD;
        let group = slot.address().first().copied().unwrap_or(0);
        self.places.remove(slot.hash, at);
        let mut less = 0;
        self.order.died(group, &mut self.slots, |pair| less += bytes(&pair));
        self.shrink(less);
    }

    fn grow(&mut self, more: usize) {
        self.bytes += more;
        self.held.bytes.fetch_add(more, Ordering::Relaxed);
    }

    fn shrink(&mut self, less: usize) {
        self.bytes -= less;
        self.held.bytes.fetch_sub(less, Ordering::Relaxed);
    }

    /// What is not in the database, the write that is on its way included.
    fn unwritten(&self) -> usize {
        self.changed.bytes + self.frozen.as_ref().map_or(0, |frozen| frozen.amount.bytes)
    }

    /// Whether it is too large to be kept as a whole.
    pub(crate) fn is_too_large(&self) -> bool {
        self.bytes > RESIDENT_TABLE_BYTES || self.held.bytes.load(Ordering::Relaxed) > RESIDENT_BYTES
    }

    /// Lets go of what the database has, if it is too much; where that is little, not each time anew.
    fn bound(&mut self) {
        // Of what is to be emptied the database may have something that nobody may see.
        let wipes = self.wipes || self.wipes_now().unwrap_or(false);
        if !wipes && self.is_too_large() && self.unwritten() <= self.bytes - self.bytes / 4 {
            self.forget();
        }
    }

    /// Nothing is known but what the database does not have.
    fn forget(&mut self) {
        self.forgotten += 1;
        self.whole = false;
        if self.changed.entries == 0 && self.frozen.is_none() {
            (self.slots, self.places, self.order) = (Slots::default(), Places::default(), Order::default());
            return self.shrink(self.bytes);
        }
        let end = self.slots.end();
        for (at, slot) in self.slots.some_mut(0, end) {
            if slot.is(CHANGED[0] | CHANGED[1] | DEAD | FREE) {
                // Of what is removed the database may have something from here on.
                continue;
            }
            slot.flags = DEAD;
            self.places.remove(slot.hash, at);
        }
        let mut less = 0;
        self.order.compact(&mut self.slots, |pair| less += bytes(&pair));
        self.shrink(less);
    }

    /// What is known from an address on, up to so many; or the group that must be arranged first.
    pub(crate) fn known(&self, from: &[u8], most: usize) -> Result<Result<Known, usize>, StoreError> {
        let mut known = Known { entries: Vec::new(), more: false, whole: self.whole };
        let first = usize::from(from.first().copied().unwrap_or(0));
        let mut read = 0;
        for group in first..self.order.end() {
            let Some(places) = self.order.places(group, from, &self.slots) else {
                known.more = !known.entries.is_empty();
                return Ok(if known.more { Ok(known) } else { Err(group) });
            };
            for slot in places.iter().filter_map(|at| self.slots.get(*at)).filter(|slot| !slot.is(DEAD)) {
                if known.entries.len() >= most || read >= BLOCK_BYTES {
                    known.more = true;
                    return Ok(Ok(known));
                }
                read += slot.pair.len();
                known.entries.push((slot.address().into(), slot.pair.read()?));
            }
        }
        Ok(Ok(known))
    }

    pub(crate) fn arrange(&mut self, group: usize) {
        self.order.arrange(group, &self.slots);
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.held.changed.fetch_sub(self.unwritten(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
