//! Look-up by exact key: an open-addressed hash table over flat arrays, at most half full.
//!
//! A slot holds 32 bits of the hash beside the row, so that a wrong slot is nearly always passed without touching
//! the key. Keys come from the operator's table only; a record can look up but never add, so a fixed hash is safe.

/// Says that no row was found.
pub const NONE: u32 = u32::MAX;

/// Byte strings one after the other.
#[derive(Debug, Default)]
pub struct Keys {
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl Keys {
    /// Keys so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends a key; `false` if all keys together would exceed 4 GiB.
    #[must_use]
    pub fn push(&mut self, key: &[u8]) -> bool {
        self.data.extend_from_slice(key);
        match u32::try_from(self.data.len()) {
            Ok(end) => self.ends.push(end),
            Err(_) => return false,
        }
        true
    }

    /// One key.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.data[start..self.ends[row] as usize]
    }
}

/// What became of an insertion.
#[derive(Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The key is new.
    New,
    /// The key stood there already, for this row.
    Before(u32),
}

/// Key -> row.
#[derive(Debug)]
pub struct Exact {
    /// `hash << 32 | row + 1`; 0 is free.
    slots: Vec<u64>,
    mask: usize,
}

impl Exact {
    /// A table for so many keys.
    #[must_use]
    pub fn with_capacity(keys: usize) -> Self {
        let slots = (keys.saturating_mul(2)).next_power_of_two().max(4);
        Self { slots: vec![0; slots], mask: slots - 1 }
    }

    /// Adds the key of a row. If it stands there already it stays for its row, unless `replace`.
    pub fn insert(&mut self, keys: &Keys, row: u32, replace: bool) -> Inserted {
        let key = keys.get(row as usize);
        let hash = hash(key);
        let entry = (hash & 0xffff_ffff_0000_0000) | (u64::from(row) + 1);
        let mut at = hash as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                self.slots[at] = entry;
                return Inserted::New;
            }
            let before = (slot as u32) - 1;
            if slot >> 32 == hash >> 32 && keys.get(before as usize) == key {
                if replace {
                    self.slots[at] = entry;
                }
                return Inserted::Before(before);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// The row of a key, or [`NONE`].
    #[inline]
    #[must_use]
    pub fn find(&self, keys: &Keys, key: &[u8]) -> u32 {
        let hash = hash(key);
        let mut at = hash as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return NONE;
            }
            let row = (slot as u32) - 1;
            if slot >> 32 == hash >> 32 && same(keys.get(row as usize), key) {
                return row;
            }
            at = (at + 1) & self.mask;
        }
    }
}

/// Equality by words: keys are short, and a call to `memcmp` costs more than they do.
#[inline]
fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut difference = 0;
    let (mut a, mut b) = (left.chunks_exact(8), right.chunks_exact(8));
    for (a, b) in (&mut a).zip(&mut b) {
        difference |= word(a) ^ word(b);
    }
    difference |= word(a.remainder()) ^ word(b.remainder());
    difference == 0
}

/// Up to eight bytes as a number, shorter ones filled with zeros.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            (Some(first), Some(last)) => {
                let shift = (bytes.len() as u32 - 4) * 8;
                u64::from(u32::from_le_bytes(*first)) | (u64::from(u32::from_le_bytes(*last)) << shift)
            }
            _ => bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte)),
        },
    }
}

/// Multiply and fold, eight bytes a step. Both halves of the result are well mixed.
#[inline]
fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        hash = (hash ^ word(chunk)).wrapping_mul(FACTOR);
        hash ^= hash >> 32;
    }
    hash = (hash ^ word(chunks.remainder())).wrapping_mul(FACTOR);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exact_agrees_with_a_map(
            keys in prop::collection::hash_set("[a-c0-9]{0,20}", 0..200),
            probes in prop::collection::vec("[a-c0-9]{0,20}", 0..50),
        ) {
            let list: Vec<String> = keys.into_iter().collect();
            let mut flat = Keys::default();
            let mut exact = Exact::with_capacity(list.len());
            for (row, key) in list.iter().enumerate() {
                prop_assert!(flat.push(key.as_bytes()));
                prop_assert_eq!(exact.insert(&flat, row as u32, false), Inserted::New);
            }
            for probe in list.iter().chain(&probes) {
                let want = list.iter().position(|key| key == probe).map_or(NONE, |row| row as u32);
                prop_assert_eq!(exact.find(&flat, probe.as_bytes()), want);
            }
        }
    }

    #[test]
    fn exact_duplicate_keeps_or_replaces_as_told() {
        let mut keys = Keys::default();
        assert!(keys.push(b"x") && keys.push(b"x"));
        let mut exact = Exact::with_capacity(2);
        assert_eq!(exact.insert(&keys, 0, false), Inserted::New);
        assert_eq!(exact.insert(&keys, 1, false), Inserted::Before(0));
        assert_eq!(exact.find(&keys, b"x"), 0);
        assert_eq!(exact.insert(&keys, 1, true), Inserted::Before(0));
        assert_eq!(exact.find(&keys, b"x"), 1);
    }

    #[test]
    fn word_of_every_length_is_little_endian() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        for length in 0..=8 {
            let mut padded = [0; 8];
            padded[..length].copy_from_slice(&bytes[..length]);
            assert_eq!(word(&bytes[..length]), u64::from_le_bytes(padded), "{length}");
        }
    }
}
