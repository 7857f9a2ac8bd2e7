//! How far a table has been looked through whose keys begin with moments.
//!
//! Where an entry's moment stands in front of its key ([`ordered`]), what is due is found without timers: it is what lies
//! between the moment up to which everything was found and the one that time has come to. Nothing is looked at twice, also
//! where entries stay in the table after they were found, or leave marks of their removal in the store.

use serde::{Deserialize, Serialize};

use crate::state::{Address, Range, State, Table, ordered};

/// See the head of this file. Kept by the transform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Front {
    /// Every entry of this moment (nanoseconds) or an earlier one was found.
    to: i64,
    part: Option<Part>,
}

/// Entries up to a later moment, of which those up to a place were found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    to: i64,
    group: u8,
    key: Vec<u8>,
}

impl Default for Front {
    fn default() -> Self {
        Self { to: i64::MIN, part: None }
    }
}

impl Front {
    /// The moment up to which everything was found.
    #[must_use]
    pub fn to(&self) -> i64 {
        self.to
    }

    /// Whether more was there than one call looks at: the next one goes on.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.part.is_some()
    }

    /// Finds the entries up to `moment`, at most `limit`: group by group, in each by moment and key. None where what is left of
    /// an earlier call is of a later moment.
    pub fn advance(
        &mut self,
        state: &mut impl State,
        table: Table,
        moment: i64,
        limit: u32,
    ) -> Vec<(Address, Vec<u8>)> {
        let mut all = Vec::new();
        loop {
            let left = limit.saturating_sub(u32::try_from(all.len()).unwrap_or(u32::MAX));
            let to = self.part.as_ref().map_or(moment, |part| part.to);
            if to <= self.to || to > moment || left == 0 {
                return all;
            }
            // The end is excluded: at the end of time itself nothing is due.
            let (first, end) = (ordered(self.to.saturating_add(1)), ordered(to.saturating_add(1)));
            let after = self.part.as_ref().map(|part| (part.group, part.key.as_slice()));
            let found = state.scan(table, Range { from: &first, to: &end, after }, left);
            let is_all = found.len() < left as usize;
            match found.last().filter(|_| !is_all) {
                Some((last, _)) => {
                    self.part = Some(Part { to, group: last.group, key: last.key.clone() });
                }
                None => *self = Self { to, part: None },
            }
            all.extend(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    const TABLE: Table = Table(0);

    fn put(state: &mut Memory, entries: &[(i64, u8)]) {
        let address =
            |(moment, group): &(i64, u8)| Address::new(*group, [&ordered(*moment)[..], b"k"].concat());
        state.put(TABLE, entries.iter().map(|entry| (address(entry), Some(Vec::new()))).collect());
    }

    fn found(front: &mut Front, state: &mut Memory, moment: i64, limit: u32) -> Vec<(i64, u8)> {
        let entries = front.advance(state, TABLE, moment, limit);
        entries.iter().map(|(address, _)| (crate::number_of(&address.key).unwrap(), address.group)).collect()
    }

    #[test]
    fn entries_are_found_once_although_they_stay() {
        let (mut state, mut front) = (Memory::default(), Front::default());
        put(&mut state, &[(-5, 0), (3, 1), (9, 0)]);
        assert_eq!(found(&mut front, &mut state, 3, 9), [(-5, 0), (3, 1)]);
        assert_eq!(found(&mut front, &mut state, 3, 9), []);
        assert_eq!(found(&mut front, &mut state, 9, 9), [(9, 0)]);
        assert_eq!(found(&mut front, &mut state, 2, 9), []);
    }

    #[test]
    fn what_a_call_leaves_over_is_found_by_the_next_before_what_is_later() {
        let (mut state, mut front) = (Memory::default(), Front::default());
        put(&mut state, &[(1, 0), (2, 0), (1, 1), (7, 0), (8, 1)]);
        assert_eq!(found(&mut front, &mut state, 5, 2), [(1, 0), (2, 0)]);
        assert!(front.has_more());
        assert_eq!(found(&mut front, &mut state, 4, 2), []);
        // What is of the later moment lies before the place, and waits for its turn.
        assert_eq!(found(&mut front, &mut state, 9, 2), [(1, 1), (7, 0)]);
        assert_eq!(found(&mut front, &mut state, 9, 2), [(8, 1)]);
        assert!(!front.has_more() && front.to() == 9);
        assert_eq!(found(&mut front, &mut state, i64::MAX, 2), []);
    }
}
