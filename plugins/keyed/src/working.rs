//! The entries that one call works with: fetched together, changed in memory, written together, each with a timer.
//!
//! An entry says when something has to be done with it next; that moment is its timer. Fetching also brings the
//! entries whose timers are due, [`DUE_MAX`] at most, so that one call stays bounded however far time has jumped.

use std::collections::{BTreeSet, HashMap};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::state::{Address, State, StateFault, Table, decode, encode};
use crate::watermark::Timer;

/// Most timers that one call takes up; what is left is taken up by the next.
pub const DUE_MAX: u32 = 4096;

/// What is kept under an address.
pub trait Entry: Serialize + DeserializeOwned + Default {
    /// Whether nothing is left to be kept.
    fn is_empty(&self) -> bool;
}

#[derive(Serialize, Deserialize)]
struct Kept<E> {
    timer: Option<i64>,
    entry: E,
}

struct Loaded<E> {
    address: Address,
    entry: E,
    /// The timer as it is in state.
    timer: Option<i64>,
    /// The moment for which it is in the queue.
    wake: Option<i64>,
    is_changed: bool,
}

/// The entries of one call.
pub struct Working<E> {
    entries: Table,
    timers: Table,
    slots: HashMap<Address, usize>,
    loaded: Vec<Loaded<E>>,
    queue: BTreeSet<(i64, Address, usize)>,
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
            slots: HashMap::new(),
            loaded: Vec::new(),
            queue: BTreeSet::new(),
            stray: Vec::new(),
        }
    }

    /// The place of an address in this call.
    pub fn slot(&mut self, address: Address) -> usize {
        if let Some(slot) = self.slots.get(&address) {
            return *slot;
        }
        let slot = self.loaded.len();
        self.slots.insert(address.clone(), slot);
        self.loaded.push(Loaded { address, entry: E::default(), timer: None, wake: None, is_changed: false });
        slot
    }

    /// Fetches the entries of all places, and with `due` those whose timers are due at that watermark. `wake` says when an
    /// entry is due. Whether more is due than was fetched.
    pub fn load(
        &mut self,
        state: &mut impl State,
        due: Option<i64>,
        mut wake: impl FnMut(&mut E) -> Option<i64>,
    ) -> Result<bool, StateFault> {
        let timers = match due {
            Some(watermark) => Timer::due(state, self.timers, watermark, DUE_MAX)?,
            None => Vec::new(),
        };
        for timer in &timers {
            self.slot(timer.of.clone());
        }
        if self.loaded.is_empty() {
            return Ok(false);
        }
        let addresses: Vec<Address> = self.loaded.iter().map(|loaded| loaded.address.clone()).collect();
        let values = state.get(self.entries, &addresses);
        for (slot, bytes) in values.into_iter().enumerate() {
            if let (Some(bytes), Some(loaded)) = (bytes, self.loaded.get_mut(slot)) {
                let kept: Kept<E> = decode(self.entries, &bytes)?;
                (loaded.timer, loaded.entry) = (kept.timer, kept.entry);
                let at = wake(&mut loaded.entry);
                self.queue(slot, at);
            }
        }
        let more = timers.len() >= DUE_MAX as usize;
        for timer in timers {
            let known = self.slots.get(&timer.of).and_then(|slot| self.loaded.get(*slot));
            if known.is_none_or(|loaded| loaded.timer != Some(timer.at)) {
                self.stray.push(timer);
            }
        }
        Ok(more)
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
        if let Some(before) = loaded.wake {
            self.queue.remove(&(before, loaded.address.clone(), slot));
        }
        loaded.wake = wake;
        if let Some(at) = wake {
            self.queue.insert((at, loaded.address.clone(), slot));
        }
    }

    /// The entry that is due first, if it is by this watermark, and when: by time, then by group and key.
    #[must_use]
    pub fn due(&self, watermark: i64) -> Option<(i64, usize)> {
        self.queue.first().filter(|(at, ..)| *at <= watermark).map(|(at, _, slot)| (*at, *slot))
    }

    /// Writes what changed, with its timers.
    pub fn finish(self, state: &mut impl State) -> Result<(), StateFault> {
        let mut entries = Vec::new();
        let mut timers: Vec<_> = self.stray.into_iter().map(|timer| (timer.address(), None)).collect();
        for loaded in self.loaded.into_iter().filter(|loaded| loaded.is_changed) {
            let Loaded { address, entry, timer: before, wake, .. } = loaded;
            let timer = wake.filter(|_| !entry.is_empty());
            if before != timer {
                let place = |at| Timer { at, of: address.clone() }.address();
                timers.extend(before.map(|at| (place(at), None)));
                timers.extend(timer.map(|at| (place(at), Some(Vec::new()))));
            }
            let value =
                if entry.is_empty() { None } else { Some(encode(self.entries, &Kept { timer, entry })?) };
            // What began and ended within this call was never kept.
            if value.is_some() || before.is_some() {
                entries.push((address, value));
            }
        }
        if !entries.is_empty() {
            state.put(self.entries, entries);
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

    #[derive(Default, Serialize, Deserialize)]
    struct Due(Vec<i64>);

    impl Entry for Due {
        fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }

    const ENTRIES: Table = Table(0);
    const TIMERS: Table = Table(1);

    fn set(state: &mut Memory, key: &str, due: &[i64]) {
        let mut working = Working::<Due>::new(ENTRIES, TIMERS);
        let slot = working.slot(Address::new(0, key));
        working.load(state, None, |entry| entry.0.iter().min().copied()).unwrap();
        working.change(slot).unwrap().1.0 = due.to_vec();
        working.queue(slot, due.iter().min().copied());
        working.finish(state).unwrap();
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
        let mut working = Working::<Due>::new(ENTRIES, TIMERS);
        assert!(!working.load(&mut state, Some(10), |entry| entry.0.first().copied()).unwrap());
        let mut order = Vec::new();
        while let Some((_, slot)) = working.due(10) {
            let (address, entry) = working.change(slot).unwrap();
            order.push(address.key.clone());
            entry.0.clear();
            working.queue(slot, None);
        }
        assert_eq!(order, [b"b", b"a"]);
        working.finish(&mut state).unwrap();
        assert_eq!((state.len(ENTRIES), state.len(TIMERS)), (1, 1));
    }

    #[test]
    fn timer_without_its_entry_is_removed() {
        let mut state = Memory::default();
        set(&mut state, "a", &[5]);
        state.put(ENTRIES, vec![(Address::new(0, "a"), None)]);
        let mut working = Working::<Due>::new(ENTRIES, TIMERS);
        working.load(&mut state, Some(5), |_| None).unwrap();
        working.finish(&mut state).unwrap();
        assert!(state.is_empty());
    }
}
