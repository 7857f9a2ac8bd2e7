//! What a client knows of its records: never sent, sent without an answer, or acknowledged, and at which offsets.
//!
//! Two bits a record, so that millions fit. It does not know where records are found; that is the checker's.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::record::Id;

/// What the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It may be nowhere.
    Unsent,
    /// It may be in or not, but never twice.
    Unknown,
    /// It must be in.
    Acknowledged,
}

#[derive(Debug, Default)]
struct Entries {
    known: Vec<Known>,
    acknowledged: u64,
    /// Of requests by the number of their first record: how many records, and the offset of the first.
    receipts: BTreeMap<u32, (u32, u64)>,
    duplicates: u64,
}

/// The account of one client.
#[derive(Debug)]
pub struct Account {
    pub client: u8,
    /// The stream that it sends to.
    pub stream: &'static str,
    entries: Mutex<Entries>,
}

impl Account {
    pub fn new(client: u8, stream: &'static str) -> Account {
        Account { client, stream, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is known of `records` records from `first` on, which were sent together. What is acknowledged stays
    /// so. What was known before.
    pub fn note(&self, first: u32, records: u32, known: Known) -> Known {
        let mut entries = self.entries();
        let (from, to) = (first as usize, first as usize + records as usize);
        if entries.known.len() < to {
            entries.known.resize(to, Known::Unsent);
        }
        let before = entries.known.get(from).copied().unwrap_or(Known::Unsent);
        let mut newly = 0;
        for entry in entries.known.get_mut(from..to).unwrap_or_default() {
            if *entry != Known::Acknowledged {
                newly += u64::from(known == Known::Acknowledged);
                *entry = known;
            }
        }
        entries.acknowledged += newly;
        before
    }

    /// Notes an acknowledgement that names offsets; a `duplicate` is one of a request that was stored before.
    pub fn receipt(&self, first: u32, records: u32, offset: u64, duplicate: bool) {
        self.note(first, records, Known::Acknowledged);
        let mut entries = self.entries();
        entries.receipts.insert(first, (records, offset));
        entries.duplicates += u64::from(duplicate);
    }

    /// Requests that were sent again although they were stored.
    pub fn duplicates(&self) -> u64 {
        self.entries().duplicates
    }

    pub fn acknowledged(&self) -> u64 {
        self.entries().acknowledged
    }

    /// What is known of each record, in order.
    pub fn all(&self) -> Vec<Known> {
        self.entries().known.clone()
    }

    /// The offset that a record was acknowledged with.
    pub fn offset(&self, number: u32) -> Option<u64> {
        let entries = self.entries();
        let (first, (records, offset)) = entries.receipts.range(..=number).next_back()?;
        (number - first < *records).then(|| offset + u64::from(number - first))
    }

    /// Ranges of offsets that were acknowledged, each with the id of its first record.
    pub fn ranges(&self) -> Vec<(u64, u64, Id)> {
        let id = |number: u32| Id { client: self.client, number };
        let entries = self.entries();
        let ranges = entries.receipts.iter();
        ranges
            .map(|(first, (records, offset))| (*offset, *offset + u64::from(*records), id(*first)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledged_stays_acknowledged_and_offsets_are_found() {
        let account = Account::new(1, "push");
        assert_eq!(account.note(0, 10, Known::Unknown), Known::Unsent);
        account.receipt(4, 3, 100, false);
        assert_eq!(account.note(0, 10, Known::Unknown), Known::Unknown);
        let mut expected = vec![Known::Unknown; 10];
        expected[4..7].fill(Known::Acknowledged);
        assert_eq!(account.all(), expected);
        assert_eq!((account.acknowledged(), account.offset(6), account.offset(7)), (3, Some(102), None));
        assert_eq!(account.ranges(), [(100, 103, Id { client: 1, number: 4 })]);
    }
}
