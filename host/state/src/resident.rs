//! Tables that are kept in memory besides, so that a read need not ask the database.
//!
//! While everything of a table is here, what is not here is not there either, which is what most reads of new keys ask. A table
//! that is too large is forgotten; from then on what is read and written of it is kept until it is too much again.
//!
//! What is here is what the database has, of which it is a copy: [`Resident::write`] comes after the batch is in it, and before
//! anybody who does not see the changes by other means reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashTable;

use crate::changes::Wanted;
use crate::limits::{RESIDENT_BYTES, RESIDENT_ENTRY_BYTES, RESIDENT_TABLE_BYTES};

/// An address behind its length (u16 LE), and the value as it is stored.
type Pair = Box<[u8]>;

struct Copied {
    hash: u64,
    pair: Pair,
}

fn pair(address: &[u8], value: &[u8]) -> Pair {
    let mut pair = Vec::with_capacity(2 + address.len() + value.len());
    // Keys are far below 64 KiB.
    pair.extend_from_slice(&u16::try_from(address.len()).unwrap_or(u16::MAX).to_le_bytes());
    pair.extend_from_slice(address);
    pair.extend_from_slice(value);
    pair.into()
}

fn parts(pair: &[u8]) -> (&[u8], &[u8]) {
    let Some((len, rest)) = pair.split_first_chunk::<2>() else { return (&[], &[]) };
    rest.split_at_checked(usize::from(u16::from_le_bytes(*len))).unwrap_or_default()
}

fn bytes(pair: &Pair) -> usize {
    RESIDENT_ENTRY_BYTES + pair.len()
}

/// What of a table is in memory.
pub(crate) struct Resident {
    copied: HashTable<Copied>,
    /// Everything of the table is here.
    whole: bool,
    bytes: usize,
    /// Of all tables of the store.
    all: Arc<AtomicUsize>,
}

/// What is known of an entry.
pub(crate) enum Found {
    Value(Vec<u8>),
    Missing,
    /// The database must be asked.
    Unknown,
}

impl Resident {
    /// Of a table that has no entries.
    pub(crate) fn new(all: Arc<AtomicUsize>) -> Resident {
        Resident { copied: HashTable::new(), whole: true, bytes: 0, all }
    }

    pub(crate) fn get(&self, wanted: Wanted<'_>) -> Found {
        match self.copied.find(wanted.hash, |copied| parts(&copied.pair).0 == wanted.address) {
            Some(copied) => Found::Value(parts(&copied.pair).1.to_vec()),
            None if self.whole => Found::Missing,
            None => Found::Unknown,
        }
    }

    /// The entry is written, or removed, or was read.
    pub(crate) fn write(&mut self, wanted: Wanted<'_>, value: Option<&[u8]>) {
        let found = self.copied.find_entry(wanted.hash, |copied| parts(&copied.pair).0 == wanted.address);
        let (mut less, mut more) = (0, 0);
        match (found, value) {
            (Ok(mut known), Some(value)) => {
                less = bytes(&known.get().pair);
                known.get_mut().pair = pair(wanted.address, value);
                more = bytes(&known.get().pair);
            }
            (Ok(known), None) => less = bytes(&known.remove().0.pair),
            (Err(_), Some(value)) => {
                let copied = Copied { hash: wanted.hash, pair: pair(wanted.address, value) };
                more = bytes(&copied.pair);
                self.copied.insert_unique(wanted.hash, copied, |copied| copied.hash);
            }
            (Err(_), None) => {}
        }
        self.bytes = self.bytes + more - less;
        let all = self.all.fetch_add(more, Ordering::Relaxed) + more;
        self.all.fetch_sub(less, Ordering::Relaxed);
        if more > less && (self.bytes > RESIDENT_TABLE_BYTES || all - less > RESIDENT_BYTES) {
            self.forget();
        }
    }

    /// Nothing is known of the table.
    pub(crate) fn forget(&mut self) {
        self.copied = HashTable::new();
        self.whole = false;
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(resident: &Resident, address: &[u8]) -> Option<Option<Vec<u8>>> {
        match resident.get(Wanted::new(address)) {
            Found::Value(value) => Some(Some(value)),
            Found::Missing => Some(None),
            Found::Unknown => None,
        }
    }

    #[test]
    fn whole_table_knows_what_is_missing_until_it_is_too_large() {
        let all = Arc::new(AtomicUsize::new(0));
        let mut resident = Resident::new(Arc::clone(&all));
        assert_eq!(get(&resident, b"a"), Some(None));
        resident.write(Wanted::new(b"a"), Some(b"1"));
        resident.write(Wanted::new(b"a"), Some(b"22"));
        assert_eq!(get(&resident, b"a"), Some(Some(b"22".to_vec())));
        assert_eq!(all.load(Ordering::Relaxed), RESIDENT_ENTRY_BYTES + 5);
        resident.write(Wanted::new(b"a"), None);
        assert_eq!((get(&resident, b"a"), all.load(Ordering::Relaxed)), (Some(None), 0));
        let large = vec![0; 1 << 20];
        let mut number = 0_u32;
        resident.write(Wanted::new(b"b"), Some(b"1"));
        while get(&resident, b"b").is_some() {
            resident.write(Wanted::new(&number.to_le_bytes()), Some(&large));
            number += 1;
        }
        assert_eq!(number as usize, RESIDENT_TABLE_BYTES >> 20);
        assert_eq!((get(&resident, b"a"), all.load(Ordering::Relaxed)), (None, 0));
        // What is read of it is kept again; what is not here may be there.
        resident.write(Wanted::new(b"b"), Some(b"1"));
        assert_eq!((get(&resident, b"b"), get(&resident, b"c")), (Some(Some(b"1".to_vec())), None));
    }

    #[test]
    fn tables_share_what_all_may_take() {
        let all = Arc::new(AtomicUsize::new(RESIDENT_BYTES - 200));
        let (mut one, mut other) = (Resident::new(Arc::clone(&all)), Resident::new(Arc::clone(&all)));
        one.write(Wanted::new(b"a"), Some(&[0; 100]));
        other.write(Wanted::new(b"a"), Some(&[0; 100]));
        assert!(get(&one, b"a").is_some() && get(&other, b"a").is_none());
        drop(one);
        other.write(Wanted::new(b"a"), Some(&[0; 100]));
        assert!(get(&other, b"a").is_some());
    }
}
