//! Watermarks and timers: how far event time has come, and what is due by then.
//!
//! The watermark is the newest time seen, less the delay: records older than it are late. It moves with every
//! record, never back, so that it does not depend on how a stream is cut into chunks. What is due at a moment has an
//! entry in a table ordered by time, `ordered(moment)` before the key of what is due: finding it reads nothing else.

use serde::{Deserialize, Serialize};

use crate::state::{Address, Range, State, StateFault, Table, decode, encode, number_of, ordered};

/// How far a transform has come. Kept in its state under one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Everything before this moment (nanoseconds) has been seen, as far as is waited for.
    pub watermark: i64,
    /// More was due than one call does: the next one goes on.
    pub backlog: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { watermark: i64::MIN, backlog: false }
    }
}

impl Progress {
    fn address() -> Address {
        Address::new(0, *b"progress")
    }

    /// Reads it.
    pub fn load(state: &mut impl State, table: Table) -> Result<Self, StateFault> {
        match state.get(table, &[Self::address()]).into_iter().next().flatten() {
            Some(bytes) => decode(table, &bytes),
            None => Ok(Self::default()),
        }
    }

    /// Keeps it.
    pub fn store(&self, state: &mut impl State, table: Table) -> Result<(), StateFault> {
        let bytes = encode(table, self)?;
        state.put(table, vec![(Self::address(), Some(bytes))]);
        Ok(())
    }

    /// A record of this time was seen; `delay` in nanoseconds.
    pub fn see(&mut self, time: i64, delay: i64) {
        self.reach(time.saturating_sub(delay));
    }

    /// The watermark is at least here.
    pub fn reach(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }
}

/// Whether one of the moments `start + n step` (n any whole number) is behind `from` and not behind `to`.
#[must_use]
pub fn crosses(from: i64, to: i64, start: i64, step: i64) -> bool {
    let (from, to, start, step) =
        (i128::from(from), i128::from(to), i128::from(start), i128::from(step.max(1)));
    (to - start).div_euclid(step) > (from - start).div_euclid(step)
}

/// Something that is due at a moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// When, in nanoseconds.
    pub at: i64,
    /// What: its address in the table that it is kept in.
    pub of: Address,
}

impl Timer {
    /// Its address in the table of timers.
    #[must_use]
    pub fn address(&self) -> Address {
        let mut key = ordered(self.at).to_vec();
        key.extend_from_slice(&self.of.key);
        Address::new(self.of.group, key)
    }

    /// Those that are due at `watermark`, the earliest of each group first; at most `limit`.
    pub fn due(
        state: &mut impl State,
        table: Table,
        watermark: i64,
        limit: u32,
    ) -> Result<Vec<Self>, StateFault> {
        // The end is excluded. At the end of time itself nothing is due.
        let end = ordered(watermark.saturating_add(1));
        let found = state.scan(table, Range { to: &end, ..Range::default() }, limit);
        found
            .into_iter()
            .map(|(address, _)| {
                let at = number_of(&address.key).ok_or(StateFault::layout(table))?;
                let key = address.key.get(8..).unwrap_or_default();
                Ok(Self { at, of: Address::new(address.group, key) })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    const META: Table = Table(0);
    const TIMERS: Table = Table(1);

    #[test]
    fn progress_never_goes_back_and_is_kept() {
        let mut state = Memory::default();
        let mut progress = Progress::load(&mut state, META).unwrap();
        progress.see(100, 10);
        progress.see(50, 10);
        progress.store(&mut state, META).unwrap();
        assert_eq!(Progress::load(&mut state, META).unwrap().watermark, 90);
    }

    #[test]
    fn crosses_is_true_where_a_moment_lies_between() {
        assert!(
            crosses(9, 10, 0, 5) && crosses(4, 10, 0, 5) && crosses(-1, 0, 0, 5) && crosses(12, 13, 3, 5)
        );
        assert!(!crosses(10, 14, 0, 5) && !crosses(10, 10, 0, 5) && !crosses(13, 17, 3, 5));
        assert!(crosses(i64::MIN, i64::MAX, i64::MAX, i64::MAX));
    }

    #[test]
    fn timers_due_are_those_at_or_before_the_watermark() {
        let mut state = Memory::default();
        let timers = [(30, 0, "c"), (-10, 0, "a"), (20, 7, "b"), (21, 0, "d")];
        let timers = timers.map(|(at, group, key)| Timer { at, of: Address::new(group, key) });
        state.put(TIMERS, timers.iter().map(|timer| (timer.address(), Some(Vec::new()))).collect());
        let due = |state: &mut Memory, watermark, limit| Timer::due(state, TIMERS, watermark, limit).unwrap();
        assert_eq!(due(&mut state, 20, 9), [timers[1].clone(), timers[2].clone()]);
        assert_eq!(due(&mut state, 30, 2), [timers[1].clone(), timers[3].clone()]);
        assert_eq!(due(&mut state, i64::MIN, 9), []);
    }
}
