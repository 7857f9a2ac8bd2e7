//! The most frequent values: `SpaceSaving` (Metwally, Agrawal, El Abbadi: "Efficient computation of frequent and top-k
//! elements in data streams", ICDT 2005).
//!
//! With `m` counters over `n` values, a count is never too small and at most `n / m` too large, which `error` bounds for each, and
//! every value with more than `n / m` occurrences has a counter. Merging adds counts, and the smallest count of a side
//! that lacks a value (Agarwal et al.: "Mergeable summaries", PODS 2012); the bounds hold for the sum.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A value with how often it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The value, as its JSON text.
    pub value: Vec<u8>,
    /// Occurrences, at least as many as there were.
    pub count: u64,
    /// How many of them may not have been.
    pub error: u64,
}

/// Counters of the most frequent values, without order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceSaving {
    counters: Vec<Counter>,
}

impl SpaceSaving {
    /// Counts a value with at most `capacity` counters.
    pub fn add(&mut self, value: &[u8], capacity: usize) {
        if let Some(known) = self.counters.iter_mut().find(|counter| counter.value == value) {
            known.count += 1;
            return;
        }
        if self.counters.len() < capacity {
            self.counters.push(Counter { value: value.to_vec(), count: 1, error: 0 });
            return;
        }
        // Of equal counts the first stays the one that goes, so that the order of calls decides and nothing else.
        if let Some(least) = self.counters.iter_mut().min_by_key(|counter| counter.count) {
            *least = Counter { value: value.to_vec(), count: least.count + 1, error: least.count };
        }
    }

    /// What a value that has no counter may have had.
    fn floor(&self, capacity: usize) -> u64 {
        if self.counters.len() < capacity {
            return 0;
        }
        self.counters.iter().map(|counter| counter.count).min().unwrap_or(0)
    }

    /// Adds what another counted with the same capacity.
    pub fn merge(&mut self, other: Self, capacity: usize) {
        let (mine, theirs) = (self.floor(capacity), other.floor(capacity));
        let mut all: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
        let known: BTreeMap<&[u8], &Counter> =
            other.counters.iter().map(|counter| (counter.value.as_slice(), counter)).collect();
        for counter in &self.counters {
            let (count, error) = known
                .get(counter.value.as_slice())
                .map_or((theirs, theirs), |other| (other.count, other.error));
            all.insert(counter.value.clone(), (counter.count + count, counter.error + error));
        }
        for counter in &other.counters {
            all.entry(counter.value.clone()).or_insert((counter.count + mine, counter.error + mine));
        }
        self.counters =
            all.into_iter().map(|(value, (count, error))| Counter { value, count, error }).collect();
        self.counters.sort_by(order);
        self.counters.truncate(capacity);
    }

    /// The `k` values with the largest counts, the largest first; of equal ones in the order of their bytes.
    #[must_use]
    pub fn top(&self, k: usize) -> Vec<&Counter> {
        let mut top: Vec<&Counter> = self.counters.iter().collect();
        top.sort_by(|left, right| order(left, right));
        top.truncate(k);
        top
    }
}

fn order(left: &Counter, right: &Counter) -> std::cmp::Ordering {
    right.count.cmp(&left.count).then_with(|| left.value.cmp(&right.value))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn summary(values: &[u8], capacity: usize) -> SpaceSaving {
        let mut summary = SpaceSaving::default();
        values.iter().for_each(|value| summary.add(&[*value], capacity));
        summary
    }

    fn holds(summary: &SpaceSaving, values: &[u8], capacity: usize) -> Result<(), TestCaseError> {
        let mut exact: HashMap<u8, u64> = HashMap::new();
        values.iter().for_each(|value| *exact.entry(*value).or_default() += 1);
        let bound = values.len() as u64 / capacity as u64;
        prop_assert!(summary.counters.len() <= capacity);
        for counter in &summary.counters {
            let exact = exact.get(&counter.value[0]).copied().unwrap_or(0);
            prop_assert!(counter.count >= exact && counter.count - counter.error <= exact);
            prop_assert!(counter.error <= bound);
        }
        for (value, count) in exact {
            let found = summary.counters.iter().any(|counter| counter.value == [value]);
            prop_assert!(found || count <= bound, "{value} came {count} times of {}", values.len());
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn counts_keep_the_papers_bounds(values in prop::collection::vec(0..40_u8, 0..600), capacity in 1..30_usize) {
            holds(&summary(&values, capacity), &values, capacity)?;
        }

        #[test]
        fn merged_counts_keep_the_bounds_of_the_sum(
            left in prop::collection::vec(0..40_u8, 0..300),
            right in prop::collection::vec(10..50_u8, 0..300),
            capacity in 1..30_usize,
        ) {
            let mut merged = summary(&left, capacity);
            merged.merge(summary(&right, capacity), capacity);
            holds(&merged, &[left, right].concat(), capacity)?;
        }
    }

    #[test]
    fn top_is_largest_first_and_equal_ones_by_value() {
        let summary = summary(b"cabbac", 10);
        let top: Vec<u8> = summary.top(2).iter().map(|counter| counter.value[0]).collect();
        assert_eq!(top, b"ab");
    }
}
