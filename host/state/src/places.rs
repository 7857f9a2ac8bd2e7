//! Places of entries in a list, found by halves of their addresses' hashes. The halves stand beside the places: what is looked
//! for and is not there costs no look at an entry, and neither does growing.
//!
//! Who looks for many addresses at once has the processor fetch what it needs of all of them first ([`Places::find_many`]): each
//! look alone waits for memory several times, one after another, and together they wait as often, but at once.

use std::hint::black_box;

use hashbrown::HashTable;

use crate::changes::Wanted;
use crate::pair::Pair;

/// Addresses that are looked for together: what is fetched for them stays near.
pub(crate) const TOGETHER: usize = 64;

/// Half of a hash, and a whole one of that.
pub(crate) fn half(hash: u64) -> u32 {
    ((hash ^ (hash >> 32)) & 0xffff_ffff) as u32
}

fn spread(half: u32) -> u64 {
    u64::from(half) | u64::from(half) << 32
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(HashTable<(u32, u32)>);

impl Places {
    /// The place of an address with this half, of which the entry says whether it is that one.
    pub(crate) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.0.find(spread(hash), |(half, at)| *half == hash && is(*at)).map(|(_, at)| *at)
    }

    /// The places of addresses, at most [`TOGETHER`]; `pair` is what stands at one.
    pub(crate) fn find_many<'p>(
        &self,
        wanted: &[Wanted<'_>],
        pair: impl Fn(u32) -> Option<&'p Pair>,
    ) -> [Option<u32>; TOGETHER] {
        let mut found = [None; TOGETHER];
        if self.0.is_empty() {
            return found;
        }
        // One that each may be at: most often the right one.
        for (found, wanted) in found.iter_mut().zip(wanted) {
            *found = self.find(wanted.hash, |_| true);
        }
        // Nobody asks for the sums; making them fetches where a pair is, and the pair itself.
        let pairs = || found.iter().flatten().filter_map(|at| pair(*at));
        let _ = black_box(pairs().fold(0_usize, |sum, pair| sum.wrapping_add(pair.len())));
        let _ = black_box(pairs().fold(0_u8, |sum, pair| sum.wrapping_add(pair.first())));
        let is = |at: u32, wanted: &Wanted<'_>| pair(at).is_some_and(|pair| pair.address() == wanted.address);
        for (found, wanted) in found.iter_mut().zip(wanted) {
            if found.is_some_and(|at| !is(at, wanted)) {
                *found = self.find(wanted.hash, |at| is(at, wanted));
            }
        }
        found
    }

    /// A place that is not there.
    pub(crate) fn add(&mut self, hash: u32, at: u32) {
        self.0.insert_unique(spread(hash), (hash, at), |(half, _)| spread(*half));
    }

    pub(crate) fn remove(&mut self, hash: u32, at: u32) {
        if let Ok(known) = self.0.find_entry(spread(hash), |(_, known)| *known == at) {
            known.remove();
        }
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        self.0.reserve(more, |(half, _)| spread(*half));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
