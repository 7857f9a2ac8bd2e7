//! Where the entries of a table stand in memory: places that keep their numbers.

use crate::pair::Pair;

/// Places that are made at a time, so that growing moves none.
const CHUNK: usize = 4096;

/// It is gone, which the database may not know yet.
pub(super) const REMOVED: u8 = 1;
/// The database may have an entry at this address.
pub(super) const STORED: u8 = 2;
/// It was changed since the last write began, or since the one before: they take turns.
pub(super) const CHANGED: [u8; 2] = [4, 8];
/// Nothing is here any more; the order still has it.
pub(super) const DEAD: u8 = 16;
/// Not even that.
pub(super) const FREE: u8 = 32;

pub(super) struct Slot {
    pub(super) pair: Pair,
    /// Half of the address's hash: there are far fewer entries than it tells apart.
    pub(super) hash: u32,
    pub(super) flags: u8,
}

impl Slot {
    pub(super) fn is(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    pub(super) fn address(&self) -> &[u8] {
        self.pair.address()
    }

    /// What is stored there; `None` where it is removed.
    pub(super) fn value(&self) -> Option<&[u8]> {
        self.pair.value()
    }
}

/// See the head of this file. There are fewer than 2^32: their memory is bounded far below.
pub(super) struct Slots {
    chunks: Vec<Vec<Slot>>,
    free: Vec<u32>,
    /// What stands at free places.
    none: Pair,
}

impl Default for Slots {
    fn default() -> Self {
        Slots { chunks: Vec::new(), free: Vec::new(), none: Pair::removed(&[]) }
    }
}

impl Slots {
    /// Behind the last that was ever used.
    pub(super) fn end(&self) -> usize {
        match self.chunks.split_last() {
            Some((last, full)) => full.len() * CHUNK + last.len(),
            None => 0,
        }
    }

    pub(super) fn get(&self, at: u32) -> Option<&Slot> {
        self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Slot> {
        self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)
    }

    pub(super) fn address(&self, at: u32) -> &[u8] {
        self.get(at).map_or(&[], Slot::address)
    }

    pub(super) fn add(&mut self, slot: Slot) -> u32 {
        if let Some(at) = self.free.pop()
            && let Some(free) = self.get_mut(at)
        {
            *free = slot;
            return at;
        }
        let at = u32::try_from(self.end()).unwrap_or(u32::MAX);
        match self.chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => chunk.push(slot),
            None => self.chunks.push(vec![slot]),
        }
        at
    }

    /// Lets go of a place, and of what is there.
    pub(super) fn release(&mut self, at: u32) -> Option<Pair> {
        let none = self.none.clone();
        let slot = self.get_mut(at)?;
        slot.flags = FREE;
        let pair = std::mem::replace(&mut slot.pair, none);
        self.free.push(at);
        Some(pair)
    }

    /// Places from this one on, up to `most`, with their numbers.
    pub(super) fn some_mut(
        &mut self,
        from: usize,
        most: usize,
    ) -> impl Iterator<Item = (u32, &mut Slot)> + use<'_> {
        let chunks = self.chunks.iter_mut().enumerate().skip(from / CHUNK);
        let all = chunks.flat_map(|(number, chunk)| (number * CHUNK..).zip(chunk.iter_mut()));
        let all = all.skip(from % CHUNK).take(most);
        all.map(|(at, slot)| (u32::try_from(at).unwrap_or(u32::MAX), slot))
    }
}
