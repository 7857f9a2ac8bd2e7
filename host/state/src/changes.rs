//! What became of the entries of one table: found by their hash, walked over in order.
//!
//! A slice changes each entry about once and walks over few of them, so the order is made when somebody asks for it: it is a
//! list of places beside the changes, and what was added since the last time is sorted and merged into it.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use hashbrown::HashTable;

use crate::limits::CHANGE_BYTES;
use crate::table::{Address, Entry};

/// One for the process, so that an address is hashed once for all layers. Keys come from outside: which of them collide must
/// not be known there.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// An address that is looked for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub(crate) address: &'a [u8],
    pub(crate) hash: u64,
}

impl Wanted<'_> {
    pub(crate) fn new(address: &[u8]) -> Wanted<'_> {
        Wanted { address, hash: HASHER.hash_one(address) }
    }

    /// Key group and key.
    pub fn address(&self) -> &[u8] {
        self.address
    }
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Entry),
    Removed,
}

impl Change {
    pub(crate) fn entry(&self) -> Option<&Entry> {
        match self {
            Change::Put(entry) => Some(entry),
            Change::Removed => None,
        }
    }

    /// About what it takes in memory, which is more than in an outcome.
    pub(crate) fn bytes(&self, address: &[u8]) -> usize {
        CHANGE_BYTES + address.len() + self.entry().map_or(0, |entry| entry.value.len())
    }
}

#[derive(Clone, Debug)]
struct Placed {
    hash: u64,
    address: Address,
    change: Change,
}

/// See the head of this file. There are fewer than 2^32: their memory is bounded far below.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    placed: Vec<Placed>,
    places: HashTable<u32>,
    /// Places in the order of their addresses, of those that were there when it was made.
    order: Vec<u32>,
    bytes: usize,
}

impl PartialEq for Changes {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Changes {}

fn place(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

impl Changes {
    pub(crate) fn len(&self) -> usize {
        self.placed.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.placed.is_empty()
    }

    /// About what they take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn at(&self, place: u32) -> Option<&Placed> {
        self.placed.get(place as usize)
    }

    fn index(&self, wanted: Wanted<'_>) -> Option<u32> {
        let is = |place: &u32| self.at(*place).is_some_and(|placed| *placed.address == *wanted.address);
        self.places.find(wanted.hash, is).copied()
    }

    pub(crate) fn get(&self, wanted: Wanted<'_>) -> Option<&Change> {
        self.index(wanted).and_then(|place| self.at(place)).map(|placed| &placed.change)
    }

    /// Where it is, and what was there before; nothing where it was added, at the end.
    pub(crate) fn insert(&mut self, wanted: Wanted<'_>, change: Change) -> (u32, Option<Change>) {
        if let Some(place) = self.index(wanted)
            && let Some(placed) = self.placed.get_mut(place as usize)
        {
            self.bytes += change.bytes(&placed.address);
            self.bytes -= placed.change.bytes(&placed.address);
            return (place, Some(std::mem::replace(&mut placed.change, change)));
        }
        (self.push(Placed { hash: wanted.hash, address: wanted.address.into(), change }), None)
    }

    fn push(&mut self, placed: Placed) -> u32 {
        let (hash, new) = (placed.hash, place(self.placed.len()));
        self.bytes += placed.change.bytes(&placed.address);
        self.placed.push(placed);
        let all = &self.placed;
        self.places
            .insert_unique(hash, new, |place| all.get(*place as usize).map_or(0, |placed| placed.hash));
        new
    }

    /// Undoes the last [`Changes::insert`] that is not undone.
    pub(crate) fn undo(&mut self, place: u32, before: Option<Change>) {
        if let Some(before) = before {
            if let Some(placed) = self.placed.get_mut(place as usize) {
                self.bytes += before.bytes(&placed.address);
                self.bytes -= placed.change.bytes(&placed.address);
                placed.change = before;
            }
            return;
        }
        let Some(placed) = self.placed.pop() else { return };
        self.bytes -= placed.change.bytes(&placed.address);
        if let Ok(entry) = self.places.find_entry(placed.hash, |known| *known == place) {
            entry.remove();
        }
        if self.order.len() > self.placed.len() {
            self.order.clear();
        }
    }

    /// Puts later changes over these.
    pub(crate) fn add(&mut self, later: Changes) {
        self.placed.reserve(later.len());
        for placed in later.placed {
            let wanted = Wanted { address: &placed.address, hash: placed.hash };
            match self.index(wanted).and_then(|place| self.placed.get_mut(place as usize)) {
                Some(known) => {
                    self.bytes += placed.change.bytes(&known.address);
                    self.bytes -= known.change.bytes(&known.address);
                    known.change = placed.change;
                }
                None => {
                    self.push(placed);
                }
            }
        }
        self.arrange();
    }

    /// Makes the order of what was added since it was made.
    pub(crate) fn arrange(&mut self) {
        if self.order.len() == self.placed.len() {
            return;
        }
        let placed = &self.placed;
        let address = |place: &u32| placed.get(*place as usize).map(|placed| &placed.address);
        let mut new: Vec<u32> = (place(self.order.len())..place(placed.len())).collect();
        new.sort_unstable_by(|a, b| address(a).cmp(&address(b)));
        if self.order.is_empty() {
            self.order = new;
            return;
        }
        let mut all = Vec::with_capacity(placed.len());
        let mut new = new.into_iter().peekable();
        for known in &self.order {
            while let Some(first) = new.next_if(|first| address(first) < address(known)) {
                all.push(first);
            }
            all.push(*known);
        }
        all.extend(new);
        self.order = all;
    }

    /// In order, which was made.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Address, &Change)> {
        debug_assert_eq!(self.order.len(), self.placed.len(), "arranged");
        self.order.iter().filter_map(|place| self.at(*place)).map(|placed| (&placed.address, &placed.change))
    }

    /// With what finds them, in order, which was made.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (Wanted<'_>, &Change)> {
        debug_assert_eq!(self.order.len(), self.placed.len(), "arranged");
        self.order
            .iter()
            .filter_map(|place| self.at(*place))
            .map(|placed| (Wanted { address: &placed.address, hash: placed.hash }, &placed.change))
    }

    /// The number in order of the first that is not before an address; `near` is one of an earlier address.
    pub(crate) fn seek(&self, near: usize, from: &[u8]) -> usize {
        let is_before = |number: usize| self.nth(number).is_some_and(|(address, _)| **address < *from);
        if !is_before(near) {
            return near;
        }
        // Most often the next one; else steps that double, and a search between the last two.
        let mut step = 1;
        let mut low = near;
        while is_before(low + step) {
            low += step;
            step *= 2;
        }
        let (mut low, mut high) = (low + 1, low + step);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// By its number in order.
    pub(crate) fn nth(&self, number: usize) -> Option<(&Address, &Change)> {
        let placed = self.order.get(number).and_then(|place| self.at(*place))?;
        Some((&placed.address, &placed.change))
    }
}
