//! Which items a group takes where more wait than it is to hold: start-time fair queueing over tenants by the bytes of their
//! frames (Goyal, Vin, Cheng 1996).
//!
//! Items of one tenant keep their order. A tenant that appended nothing for a while begins where the others are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use super::Item;

/// What tenants have had written.
#[derive(Default)]
pub(super) struct Turns {
    /// By tenant, where that is past the clock.
    spent: HashMap<String, u64>,
    /// What the tenant had whose item was taken last.
    clock: u64,
}

impl Turns {
    /// Moves items until they are `bytes` long, at least one; the others stay in their order.
    pub(super) fn take(&mut self, items: &mut Vec<Item>, bytes: u64, into: &mut Vec<Item>) {
        let lengths: Vec<u64> = items.iter().map(|item| item.header.frame_len()).collect();
        if lengths.iter().sum::<u64>() <= bytes {
            into.append(items);
            return;
        }
        let mut queues: Vec<(&str, VecDeque<usize>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            let place = *places.entry(item.tenant()).or_insert_with(|| {
                queues.push((item.tenant(), VecDeque::new()));
                queues.len() - 1
            });
            if let Some((_, queue)) = queues.get_mut(place) {
                queue.push_back(index);
            }
        }
        // By where they begin; of several that begin at the same place, the one whose item is oldest.
        let mut waiting: BinaryHeap<Reverse<(u64, usize, usize)>> = BinaryHeap::with_capacity(queues.len());
        for (place, (tenant, queue)) in queues.iter_mut().enumerate() {
            let start = self.spent.get(*tenant).copied().unwrap_or(0).max(self.clock);
            waiting.extend(queue.pop_front().map(|index| Reverse((start, index, place))));
        }
        let mut taken = vec![false; items.len()];
        let mut sum = 0;
        while sum < bytes
            && let Some(Reverse((start, index, place))) = waiting.pop()
        {
            let length = lengths.get(index).copied().unwrap_or(0);
            taken.iter_mut().skip(index).take(1).for_each(|taken| *taken = true);
            sum += length;
            self.clock = start;
            if let Some((tenant, queue)) = queues.get_mut(place) {
                self.spent.insert((*tenant).to_owned(), start + length);
                waiting.extend(queue.pop_front().map(|index| Reverse((start + length, index, place))));
            }
        }
        self.spent.retain(|_, spent| *spent > self.clock);
        for (item, taken) in std::mem::take(items).into_iter().zip(taken) {
            if taken { into.push(item) } else { items.push(item) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::format::{Header, Kind};
    use crate::frame::Body;
    use crate::queue::Work;
    use crate::state::StreamCore;
    use crate::stream::StreamKey;

    /// Of a tenant, so long, recognised by its number.
    fn item(tenant: &str, bytes: usize, number: u64) -> Item {
        let key = StreamKey { tenant: tenant.to_owned(), name: "events".to_owned() };
        let mut header = Header { base: number, ..Header::new(Kind::Outcome) };
        let body = Body::of_content(&mut header, Bytes::from(vec![0; bytes]));
        let stream = Some(Arc::new(StreamCore::new(1, key, [0; 16], 0)));
        Item { stream, header, body, work: Work::Entry(None), reply: None, charge: None, room: None }
    }

    fn taken(turns: &mut Turns, items: &mut Vec<Item>, bytes: u64) -> Vec<(String, u64)> {
        let mut into = Vec::new();
        turns.take(items, bytes, &mut into);
        into.iter().map(|item| (item.tenant().to_owned(), item.header.base)).collect()
    }

    #[test]
    fn what_fits_is_taken_whole_and_in_order() {
        let mut items: Vec<Item> = (0..4).map(|n| item(["a", "b"][n as usize % 2], 100, n)).collect();
        let taken = taken(&mut Turns::default(), &mut items, 1 << 20);
        assert_eq!(taken.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(items.is_empty());
    }

    #[test]
    fn small_items_behind_large_ones_of_another_are_in_the_next_group() {
        let mut turns = Turns::default();
        let mut items: Vec<Item> = (0..8).map(|n| item("flood", 1 << 20, n)).collect();
        items.push(item("victim", 100, 100));
        let first = taken(&mut turns, &mut items, 1 << 20);
        assert_eq!(first, [("flood".to_owned(), 0)], "the oldest, which is long enough by itself");
        items.push(item("victim", 100, 101));
        let second = taken(&mut turns, &mut items, 1 << 20);
        assert_eq!(second, [("flood", 1), ("victim", 100), ("victim", 101)].map(|(t, n)| (t.to_owned(), n)));
        assert_eq!(items.len(), 6);
        assert!(items.iter().map(|item| item.header.base).eq(2..8), "in their order");
    }

    #[test]
    fn shares_of_those_who_always_wait_are_equal_whatever_their_items_are() {
        let mut turns = Turns::default();
        let mut items = Vec::new();
        let mut bytes = HashMap::new();
        for round in 0..400 {
            while items.iter().filter(|item: &&Item| item.tenant() == "large").count() < 2 {
                items.push(item("large", 512 << 10, round));
            }
            while items.iter().filter(|item: &&Item| item.tenant() == "small").count() < 200 {
                items.push(item("small", 10 << 10, round));
            }
            let mut into = Vec::new();
            turns.take(&mut items, 1 << 20, &mut into);
            for item in into {
                *bytes.entry(item.tenant().to_owned()).or_insert(0) += item.header.frame_len();
            }
        }
        let share = bytes["large"] as f64 / bytes["small"] as f64;
        assert!((0.95..1.05).contains(&share), "{bytes:?}");
        assert!(turns.spent.len() <= 2);
    }
}
