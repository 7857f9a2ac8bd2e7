//! The entries that one call works with: fetched together, changed in memory, written together.
//!
//! An entry says when something has to be done with it next. Fetching also brings the entries that are due, [`DUE_MAX`] and
//! about [`DUE_BYTES`] at most, so that one call stays bounded however far time has jumped. They are found by timers that stand
//! in a table of their own, or by the moments that their own keys begin with ([`Front`]).

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::front::Front;
use crate::state::{Address, State, StateFault, Table, decode, encode_to};
use crate::watermark::Timer;

/// Most entries that are due which one call takes up; what is left is taken up by the next.
pub const DUE_MAX: u32 = 4096;
/// Bytes of entries behind timers that are due, past which a call takes up no further ones: what they give must fit in an
/// instance, and in what a call may write.
pub const DUE_BYTES: usize = 4 << 20;
/// Such entries that are read together: each may have a megabyte.
const DUE_READ: usize = 8;

/// What is kept under an address.
pub trait Entry: Serialize + DeserializeOwned + Default {
    /// Whether nothing is left to be kept.
    fn is_empty(&self) -> bool;
}

#[derive(Deserialize)]
struct Kept<E> {
    timer: Option<i64>,
    entry: E,
}

#[derive(Serialize)]
struct Keeps<'e, E> {
    timer: Option<i64>,
    entry: &'e E,
}

/// Which entries are fetched besides those that were asked for.
#[derive(Debug, Default)]
pub struct Due<'f> {
    /// Those whose timers are due at this watermark.
    pub timers: Option<i64>,
    /// Those that these fronts have not found, up to a moment.
    pub fronts: Vec<(&'f mut Front, i64)>,
}

impl Due<'_> {
    /// By their timers.
    #[must_use]
    pub fn timers(watermark: Option<i64>) -> Self {
        Self { timers: watermark, fronts: Vec::new() }
    }
}

struct Loaded<E> {
    address: Address,
    hash: u64,
    entry: E,
    /// The timer as it is in state.
    timer: Option<i64>,
    /// When it is due.
    wake: Option<i64>,
    /// It is in state.
    was: bool,
    is_changed: bool,
}

/// The entries of one call.
pub struct Working<E> {
    entries: Table,
    timers: Table,
    hasher: DefaultHashBuilder,
    slots: HashTable<usize>,
    loaded: Vec<Loaded<E>>,
    /// By the moment for which they were queued; those that are due at another one by now are passed over.
    queue: BTreeMap<i64, Vec<usize>>,
    /// Timers without an entry that knows them.
    stray: Vec<Timer>,
}

impl<E: Entry> Working<E> {
    /// None yet. `timers` is a table of its own.
    #[must_use]
    pub fn new(entries: Table, timers: Table) -> Self {
        Self {
            entries,
            timers,
            hasher: DefaultHashBuilder::default(),
            slots: HashTable::new(),
            loaded: Vec::new(),
            queue: BTreeMap::new(),
            stray: Vec::new(),
        }
    }

    /// The place of an address in this call.
    pub fn slot(&mut self, address: Address) -> usize {
        let hash = self.hasher.hash_one((address.group, address.key.as_slice()));
        let loaded = &mut self.loaded;
        let is = |slot: &usize| loaded.get(*slot).is_some_and(|loaded| loaded.address == address);
        if let Some(slot) = self.slots.find(hash, is) {
            return *slot;
        }
        let slot = loaded.len();
        loaded.push(Loaded {
            address,
            hash,
            entry: E::default(),
            timer: None,
            wake: None,
            was: false,
            is_changed: false,
        });
        let hash_of = |slot: &usize| loaded.get(*slot).map_or(0, |loaded| loaded.hash);
        self.slots.insert_unique(hash, slot, hash_of);
        slot
    }

    /// Fetches the entries of all places and those that are due. `wake` says when an entry is due. Whether more is due than
    /// was fetched.
    pub fn load(
        &mut self,
        state: &mut impl State,
        due: Due<'_>,
        mut wake: impl FnMut(&mut E) -> Option<i64>,
    ) -> Result<bool, StateFault> {
        let timers = match due.timers {
            Some(watermark) => Timer::due(state, self.timers, watermark, DUE_MAX)?,
            None => Vec::new(),
        };
        let mut left = DUE_MAX.saturating_sub(u32::try_from(timers.len()).unwrap_or(u32::MAX));
        for (front, moment) in due.fronts {
            let found = front.advance(state, self.entries, moment, left);
            left = left.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            for (address, value) in found {
                let slot = self.slot(address);
                self.take(slot, &value, &mut wake)?;
            }
        }
        self.fetch(state, 0, &mut wake)?;
        let (mut taken, mut bytes) = (0, 0);
        for part in timers.chunks(DUE_READ) {
            if bytes >= DUE_BYTES {
                break;
            }
            let from = self.loaded.len();
            for timer in part {
                self.slot(timer.of.clone());
            }
            bytes += self.fetch(state, from, &mut wake)?;
            taken += part.len();
        }
        let is_all = taken == timers.len();
        for timer in timers.into_iter().take(taken) {
            let slot = self.slot(timer.of.clone());
            if self.loaded.get(slot).is_none_or(|loaded| loaded.timer != Some(timer.at)) {
                self.stray.push(timer);
            }
        }
        Ok(left == 0 || !is_all)
    }

    /// Reads the entries from this place on that were not, and says how many bytes they have.
    fn fetch(
        &mut self,
        state: &mut impl State,
        from: usize,
        wake: &mut impl FnMut(&mut E) -> Option<i64>,
    ) -> Result<usize, StateFault> {
        let missing = self.loaded.iter().enumerate().skip(from).filter(|(_, loaded)| !loaded.was);
        let (slots, addresses): (Vec<usize>, Vec<&Address>) =
            missing.map(|(slot, loaded)| (slot, &loaded.address)).unzip();
        if slots.is_empty() {
            return Ok(0);
        }
        let (mut read, mut size) = (Vec::new(), 0);
        let mut decoded = Ok(());
        state.read(self.entries, &addresses, &mut |number, bytes| {
            size += bytes.len();
            match (slots.get(number), decode::<Kept<E>>(self.entries, bytes)) {
                (Some(slot), Ok(kept)) => read.push((*slot, kept)),
                (_, Err(fault)) => decoded = Err(fault),
                (None, _) => {}
            }
        });
        decoded?;
        for (slot, kept) in read {
            self.keep(slot, kept, wake);
        }
        Ok(size)
    }

    /// An entry was read.
    fn take(
        &mut self,
        slot: usize,
        bytes: &[u8],
        wake: &mut impl FnMut(&mut E) -> Option<i64>,
    ) -> Result<(), StateFault> {
        if self.loaded.get(slot).is_some_and(|loaded| !loaded.was) {
            let kept = decode(self.entries, bytes)?;
            self.keep(slot, kept, wake);
        }
        Ok(())
    }

    fn keep(&mut self, slot: usize, kept: Kept<E>, wake: &mut impl FnMut(&mut E) -> Option<i64>) {
        let Some(loaded) = self.loaded.get_mut(slot) else { return };
        (loaded.timer, loaded.entry, loaded.was) = (kept.timer, kept.entry, true);
        let at = wake(&mut loaded.entry);
        self.queue(slot, at);
    }

    /// An entry and its address, as it is now.
    #[must_use]
    pub fn get(&self, slot: usize) -> Option<(&Address, &E)> {
        self.loaded.get(slot).map(|loaded| (&loaded.address, &loaded.entry))
    }

    /// An entry to be changed.
    pub fn change(&mut self, slot: usize) -> Option<(&Address, &mut E)> {
        self.loaded.get_mut(slot).map(|loaded| {
            loaded.is_changed = true;
            (&loaded.address, &mut loaded.entry)
        })
    }

    /// All entries that were changed.
    pub fn changed(&mut self) -> impl Iterator<Item = (&Address, &mut E)> {
        let changed = self.loaded.iter_mut().filter(|loaded| loaded.is_changed);
        changed.map(|loaded| (&loaded.address, &mut loaded.entry))
    }

    /// An entry is due at this moment, or not at all.
    pub fn queue(&mut self, slot: usize, wake: Option<i64>) {
        let Some(loaded) = self.loaded.get_mut(slot) else { return };
        if wake == loaded.wake {
            return;
        }
        loaded.wake = wake;
        if let Some(at) = wake {
            self.queue.entry(at).or_default().push(slot);
        }
    }

    /// The entries that are due first, if they are by this watermark, and when: in the order of groups and keys. They are not
    /// due any more, until they are queued again.
    pub fn due(&mut self, watermark: i64) -> Option<(i64, Vec<usize>)> {
        loop {
            let first = self.queue.first_entry().filter(|first| *first.key() <= watermark)?;
            let (at, mut slots) = first.remove_entry();
            let loaded = &mut self.loaded;
            slots.retain(|slot| {
                let due = loaded.get_mut(*slot).filter(|loaded| loaded.wake == Some(at));
                due.is_some_and(|loaded| loaded.wake.take().is_some())
            });
            if !slots.is_empty() {
                let address = |slot: &usize| loaded.get(*slot).map(|loaded| &loaded.address);
                slots.sort_unstable_by(|a, b| address(a).cmp(&address(b)));
                return Some((at, slots));
            }
        }
    }

    /// Writes what changed. `timer` says for which moment an entry that is due has a timer, where it has one.
    pub fn finish(
        self,
        state: &mut impl State,
        timer: impl Fn(&E, i64) -> Option<i64>,
    ) -> Result<(), StateFault> {
        let (mut entries, mut addresses) = (Vec::new(), Vec::new());
        let mut timers: Vec<_> = self.stray.into_iter().map(|timer| (timer.address(), None)).collect();
        for loaded in self.loaded.iter().filter(|loaded| loaded.is_changed) {
            let Loaded { address, entry, timer: before, wake, was, .. } = loaded;
            let is_kept = !entry.is_empty();
            let timer = wake.filter(|_| is_kept).and_then(|at| timer(entry, at));
            if *before != timer {
                let place = |at| Timer { at, of: address.clone() }.address();
                timers.extend(before.map(|at| (place(at), None)));
                timers.extend(timer.map(|at| (place(at), Some(Vec::new()))));
            }
            // What began and ended within this call was never kept.
            if is_kept || *was {
                addresses.push(address);
                entries.push(is_kept.then_some(Keeps { timer, entry }));
            }
        }
        let table = self.entries;
        if !addresses.is_empty() {
            state.write(table, &addresses, &mut |number, to| match entries.get(number) {
                Some(Some(keeps)) => encode_to(table, keeps, to).map(|()| true),
                _ => Ok(false),
            })?;
        }
        if !timers.is_empty() {
            state.put(self.timers, timers);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;
    use crate::state::encode;

    #[derive(Default, Serialize, Deserialize)]
    struct Times(Vec<i64>);

    impl Entry for Times {
        fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }

    const ENTRIES: Table = Table(0);
    const TIMERS: Table = Table(1);

    fn set(state: &mut Memory, key: &str, due: &[i64]) {
        let mut working = Working::<Times>::new(ENTRIES, TIMERS);
        let slot = working.slot(Address::new(0, key));
        working.load(state, Due::default(), |entry| entry.0.iter().min().copied()).unwrap();
        working.change(slot).unwrap().1.0 = due.to_vec();
        working.queue(slot, due.iter().min().copied());
        working.finish(state, |_, at| Some(at)).unwrap();
    }

    #[test]
    fn timer_moves_with_its_entry_and_goes_with_it() {
        let mut state = Memory::default();
        set(&mut state, "a", &[7, 5]);
        set(&mut state, "a", &[7]);
        assert_eq!((state.len(ENTRIES), state.len(TIMERS)), (1, 1));
        assert_eq!(Timer::due(&mut state, TIMERS, 6, 9).unwrap(), []);
        assert_eq!(Timer::due(&mut state, TIMERS, 7, 9).unwrap().len(), 1);
        set(&mut state, "a", &[]);
        assert!(state.is_empty());
    }

    #[test]
    fn due_entries_come_by_time_without_being_asked_for() {
        let mut state = Memory::default();
        set(&mut state, "b", &[5]);
        set(&mut state, "a", &[9]);
        set(&mut state, "c", &[20]);
        let mut working = Working::<Times>::new(ENTRIES, TIMERS);
        assert!(!working.load(&mut state, Due::timers(Some(10)), |entry| entry.0.first().copied()).unwrap());
        let mut order = Vec::new();
        while let Some((_, slots)) = working.due(10) {
            for slot in slots {
                let (address, entry) = working.change(slot).unwrap();
                order.push(address.key.clone());
                entry.0.clear();
            }
        }
        assert_eq!(order, [b"b", b"a"]);
        working.finish(&mut state, |_, at| Some(at)).unwrap();
        assert_eq!((state.len(ENTRIES), state.len(TIMERS)), (1, 1));
    }

    #[test]
    fn entries_whose_keys_begin_with_moments_are_found_without_timers() {
        let mut state = Memory::default();
        let at = |moment: i64| Address::new(3, [&crate::ordered(moment)[..], b"k"].concat());
        let mut working = Working::<Times>::new(ENTRIES, TIMERS);
        for moment in [20, -4, 7] {
            let slot = working.slot(at(moment));
            working.change(slot).unwrap().1.0.push(moment);
        }
        working.finish(&mut state, |_, _| None).unwrap();
        assert_eq!((state.len(ENTRIES), state.len(TIMERS)), (3, 0));
        let mut front = Front::default();
        let mut working = Working::<Times>::new(ENTRIES, TIMERS);
        // One that is asked for is the same one.
        let asked = working.slot(at(7));
        let due = Due { timers: None, fronts: vec![(&mut front, 10)] };
        assert!(!working.load(&mut state, due, |entry| entry.0.first().copied()).unwrap());
        let due: Vec<i64> = std::iter::from_fn(|| working.due(10)).map(|(at, _)| at).collect();
        assert_eq!(due, [-4, 7]);
        working.change(asked).unwrap().1.0.clear();
        working.finish(&mut state, |_, _| None).unwrap();
        assert_eq!((state.len(ENTRIES), front.to()), (2, 10));
    }

    #[test]
    fn large_entries_that_are_due_come_a_few_at_a_time_and_each_once() {
        let mut state = Memory::default();
        let many: Vec<i64> = vec![i64::MAX / 2; 60_000];
        for key in 0..40 {
            set(&mut state, &format!("{key:02}"), &many);
        }
        let (mut keys, mut calls) = (Vec::new(), 0);
        loop {
            let mut working = Working::<Times>::new(ENTRIES, TIMERS);
            let more =
                working.load(&mut state, Due::timers(Some(i64::MAX)), |entry| entry.0.first().copied());
            let mut bytes = 0;
            while let Some((_, slots)) = working.due(i64::MAX) {
                for slot in slots {
                    let (address, entry) = working.change(slot).unwrap();
                    keys.push(String::from_utf8(address.key.clone()).unwrap());
                    bytes += encode(ENTRIES, entry).unwrap().len();
                    entry.0.clear();
                }
            }
            assert!(bytes < DUE_BYTES + DUE_READ * crate::state::VALUE_MAX, "{bytes} bytes at once");
            working.finish(&mut state, |_, at| Some(at)).unwrap();
            calls += 1;
            if !more.unwrap() {
                break;
            }
        }
        assert_eq!(keys, (0..40).map(|key| format!("{key:02}")).collect::<Vec<_>>());
        assert!(calls > 2 && state.is_empty(), "{calls} calls");
    }

    #[test]
    fn timer_without_its_entry_is_removed() {
        let mut state = Memory::default();
        set(&mut state, "a", &[5]);
        state.put(ENTRIES, vec![(Address::new(0, "a"), None)]);
        let mut working = Working::<Times>::new(ENTRIES, TIMERS);
        working.load(&mut state, Due::timers(Some(5)), |_| None).unwrap();
        working.finish(&mut state, |_, at| Some(at)).unwrap();
        assert!(state.is_empty());
    }
}
