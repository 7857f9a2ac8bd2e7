//! The order of a table's entries in memory: of each key group a list of places.
//!
//! Most tables are walked over seldom, and then a few entries at a time: what was added to a group since somebody asked for
//! its order is sorted and merged into it when somebody asks again. Places of which nothing is left stay in the list, with
//! their addresses, until they are more than a fourth of it.

use super::slots::{DEAD, Slots};
use crate::pair::Pair;

/// So few places of which nothing is left are no reason to go through a list.
const DEAD_LEAST: usize = 64;

#[derive(Default)]
struct Group {
    places: Vec<u32>,
    /// So many of them are in order.
    sorted: usize,
    dead: usize,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Order {
    /// Up to the last that has ever had an entry.
    groups: Vec<Group>,
}

impl Order {
    pub(super) fn add(&mut self, group: u8, place: u32) {
        let number = usize::from(group);
        if self.groups.len() <= number {
            self.groups.resize_with(number + 1, Group::default);
        }
        if let Some(group) = self.groups.get_mut(number) {
            group.places.push(place);
        }
    }

    /// Nothing is left of one of the group; the pairs that are let go of.
    pub(super) fn died(&mut self, group: u8, slots: &mut Slots, released: impl FnMut(Pair)) {
        let Some(group) = self.groups.get_mut(usize::from(group)) else { return };
        group.dead += 1;
        if group.dead * 4 > group.places.len() + DEAD_LEAST {
            group.compact(slots, released);
        }
    }

    /// Lets go of all places of which nothing is left.
    pub(super) fn compact(&mut self, slots: &mut Slots, mut released: impl FnMut(Pair)) {
        self.groups.iter_mut().for_each(|group| group.compact(slots, &mut released));
    }

    pub(super) fn arrange(&mut self, group: usize, slots: &Slots) {
        if let Some(group) = self.groups.get_mut(group) {
            group.arrange(slots);
        }
    }

    /// Behind the last group that has something.
    pub(super) fn end(&self) -> usize {
        self.groups.len()
    }

    /// The places of a group from an address on, in order; `None` where they are not arranged.
    pub(super) fn places(&self, group: usize, from: &[u8], slots: &Slots) -> Option<&[u32]> {
        let Some(group) = self.groups.get(group) else { return Some(&[]) };
        if group.sorted < group.places.len() {
            return None;
        }
        let first = group.places.partition_point(|place| slots.address(*place) < from);
        group.places.get(first..)
    }
}

impl Group {
    fn compact(&mut self, slots: &mut Slots, mut released: impl FnMut(Pair)) {
        let (mut number, sorted) = (0, self.sorted);
        self.places.retain(|place| {
            let dead = slots.get(*place).is_none_or(|slot| slot.is(DEAD));
            if dead {
                slots.release(*place).into_iter().for_each(&mut released);
                self.sorted -= usize::from(number < sorted);
            }
            number += 1;
            !dead
        });
        self.dead = 0;
        if self.places.len() * 4 < self.places.capacity() {
            self.places.shrink_to(self.places.len() * 2);
        }
    }

    fn arrange(&mut self, slots: &Slots) {
        if self.sorted == self.places.len() {
            return;
        }
        let mut new = self.places.split_off(self.sorted);
        new.sort_unstable_by(|a, b| slots.address(*a).cmp(slots.address(*b)));
        let (mut end, mut free) = (self.places.len(), self.places.len() + new.len());
        self.places.resize(free, 0);
        // From the last on, what lies behind each is moved at once to where it belongs.
        for place in new.into_iter().rev() {
            let address = slots.address(place);
            let behind = |known: &u32| slots.address(*known) <= address;
            let at = self.places.get(..end).map_or(0, |known| known.partition_point(behind));
            self.places.copy_within(at..end, free - (end - at));
            free -= end - at + 1;
            end = at;
            if let Some(to) = self.places.get_mut(free) {
                *to = place;
            }
        }
        self.sorted = self.places.len();
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::Slot;
    use super::*;

    #[test]
    fn what_is_added_between_questions_comes_in_its_place_and_what_is_gone_goes() {
        let (mut slots, mut order) = (Slots::default(), Order::default());
        let mut there = std::collections::BTreeSet::new();
        let mut number = 1_u32;
        for round in 1..50_u32 {
            for _ in 0..(round * 7) % 30 {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let address = [&[9][..], &number.to_be_bytes()].concat();
                let place = slots.add(Slot { pair: Pair::removed(&address), hash: 0, flags: 0 });
                order.add(9, place);
                there.insert((address, place));
            }
            let gone: Vec<_> = there.iter().filter(|(_, place)| place % 5 == round % 5).cloned().collect();
            for entry in gone {
                slots.get_mut(entry.1).unwrap().flags = DEAD;
                order.died(9, &mut slots, drop);
                there.remove(&entry);
            }
            order.arrange(9, &slots);
            let from = [9, (round * 37 % 256) as u8];
            let found = order.places(9, &from, &slots).unwrap();
            let alive = found.iter().filter(|place| !slots.get(**place).unwrap().is(DEAD));
            let expected: Vec<u32> =
                there.iter().filter(|(address, _)| **address >= from[..]).map(|(_, place)| *place).collect();
            assert_eq!(alive.copied().collect::<Vec<_>>(), expected, "{round}");
            assert!(order.groups[9].dead <= order.groups[9].places.len() / 4 + DEAD_LEAST / 4);
        }
        assert!(order.places(3, b"", &slots).unwrap().is_empty());
    }
}
