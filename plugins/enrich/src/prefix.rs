//! Look-up of the longest key that is the beginning of a value.
//!
//! Keys are sorted; each knows the longest other key that is its own beginning. Every key that begins the value
//! sorts at or before it, and the greatest key at or before the value begins with all of them, so one binary search
//! and a short walk along the chain finds the longest.

use crate::exact::{Keys, NONE};

/// Value -> row of the longest key that it begins with.
#[derive(Debug)]
pub struct Prefix {
    /// The beginning that all keys share.
    common: Vec<u8>,
    /// The eight bytes of each key behind that as a big-endian number: decides most comparisons.
    heads: Vec<u64>,
    rows: Vec<u32>,
    /// Position of the longest key that begins this one, or [`NONE`].
    outer: Vec<u32>,
}

impl Prefix {
    /// Sorts the rows by their keys, which must be distinct.
    #[must_use]
    pub fn new(keys: &Keys, mut rows: Vec<u32>) -> Self {
        rows.sort_unstable_by(|left, right| keys.get(*left as usize).cmp(keys.get(*right as usize)));
        let mut outer = Vec::with_capacity(rows.len());
        let mut open: Vec<u32> = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let key = keys.get(*row as usize);
            while let Some(last) = open.last() {
                if key.starts_with(keys.get(rows[*last as usize] as usize)) {
                    break;
                }
                open.pop();
            }
            outer.push(open.last().copied().unwrap_or(NONE));
            open.push(at as u32);
        }
        // Of sorted keys, the first and the last share what all share.
        let ends = rows.first().zip(rows.last());
        let common = ends.map_or(&[][..], |(first, last)| {
            let (first, last) = (keys.get(*first as usize), keys.get(*last as usize));
            &first[..shared(first, last)]
        });
        let heads = rows.iter().map(|row| head(&keys.get(*row as usize)[common.len()..])).collect();
        Self { common: common.to_vec(), heads, rows, outer }
    }

    /// The row of the longest key that begins `value`, or [`NONE`].
    #[must_use]
    pub fn find(&self, keys: &Keys, value: &[u8]) -> u32 {
        let Some(behind) = value.strip_prefix(self.common.as_slice()) else { return NONE };
        let wanted = head(behind);
        let (mut low, mut high) = (0, self.rows.len());
        while low < high {
            let middle = low.midpoint(high);
            let before = match self.heads[middle].cmp(&wanted) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Greater => false,
                std::cmp::Ordering::Equal => keys.get(self.rows[middle] as usize) <= value,
            };
            (low, high) = if before { (middle + 1, high) } else { (low, middle) };
        }
        let Some(nearest) = low.checked_sub(1) else { return NONE };
        let key = keys.get(self.rows[nearest] as usize);
        let common = shared(key, value);
        let mut at = nearest as u32;
        while at != NONE {
            if keys.get(self.rows[at as usize] as usize).len() <= common {
                return self.rows[at as usize];
            }
            at = self.outer[at as usize];
        }
        NONE
    }
}

/// Bytes that two texts have in common at their beginnings.
fn shared(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

fn head(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(head)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn find_agrees_with_trying_every_key(
            list in prop::collection::btree_set("[ab\u{0}/]{0,12}", 0..60),
            values in prop::collection::vec("[ab\u{0}/]{0,16}", 30),
        ) {
            let list: Vec<String> = list.into_iter().rev().collect();
            let mut keys = Keys::default();
            for key in &list {
                prop_assert!(keys.push(key.as_bytes()));
            }
            let prefix = Prefix::new(&keys, (0..list.len() as u32).collect());
            for value in values.iter().chain(&list) {
                let want = list
                    .iter()
                    .enumerate()
                    .filter(|(_, key)| value.starts_with(*key))
                    .max_by_key(|(_, key)| key.len())
                    .map_or(NONE, |(row, _)| row as u32);
                prop_assert_eq!(prefix.find(&keys, value.as_bytes()), want, "{:?}", value);
            }
        }
    }
}
