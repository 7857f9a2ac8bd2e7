//! Keyed state: values by (table, key group, key), read and written for many addresses at a time.
//!
//! Refuses nothing by itself but values that cannot be read: what a table holds was written by this plugin, so a
//! value that does not decode is of another layout, and the call fails instead of starting over in silence.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A table that was declared when the transform was configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u32);

/// Where a value is kept within a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The key group, 0 to 255.
    pub group: u8,
    /// The key.
    pub key: Vec<u8>,
}

impl Address {
    /// An address from its parts.
    pub fn new(group: u8, key: impl Into<Vec<u8>>) -> Self {
        Self { group, key: key.into() }
    }
}

/// Keys that are walked over, in each group.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range<'a> {
    /// From here on
    pub from: &'a [u8],
    /// and before this one; empty = to the end.
    pub to: &'a [u8],
    /// Behind this group and key.
    pub after: Option<(u8, &'a [u8])>,
}

/// Appends what is to be kept of an address, by its number, or says that there is nothing.
pub type Encoded<'a> = dyn FnMut(usize, &mut Vec<u8>) -> Result<bool, StateFault> + 'a;

/// The state of one transform. Reads see what was written before, in this call too.
pub trait State {
    /// Tells the values at these addresses by their number, in their order, where something is kept.
    fn read(&mut self, table: Table, addresses: &[&Address], each: &mut dyn FnMut(usize, &[u8]));

    /// The values at these addresses, in their order; `None` where nothing is kept.
    fn get(&mut self, table: Table, addresses: &[Address]) -> Vec<Option<Vec<u8>>> {
        let mut values = vec![None; addresses.len()];
        let addresses: Vec<&Address> = addresses.iter().collect();
        self.read(table, &addresses, &mut |number, value| {
            if let Some(place) = values.get_mut(number) {
                *place = Some(value.to_vec());
            }
        });
        values
    }

    /// Keeps `Some`, removes `None`. The last change of an address wins.
    fn put(&mut self, table: Table, changes: Vec<(Address, Option<Vec<u8>>)>);

    /// Keeps at each of these addresses what `encoded` appends for its number, or removes it where that says that there is
    /// nothing. No address is there twice.
    ///
    /// # Errors
    /// Those of `encoded`.
    fn write(
        &mut self,
        table: Table,
        addresses: &[&Address],
        encoded: &mut Encoded<'_>,
    ) -> Result<(), StateFault> {
        let mut changes = Vec::with_capacity(addresses.len());
        for (number, address) in addresses.iter().enumerate() {
            let mut value = Vec::new();
            let is_kept = encoded(number, &mut value)?;
            changes.push(((*address).clone(), is_kept.then_some(value)));
        }
        self.put(table, changes);
        Ok(())
    }

    /// Entries group by group and within a group in the order of bytes; at most `limit`.
    fn scan(&mut self, table: Table, range: Range<'_>, limit: u32) -> Vec<(Address, Vec<u8>)>;
}

/// Longest value in bytes: what the host takes.
pub const VALUE_MAX: usize = 1 << 20;

/// A value that cannot be read or kept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateFault {
    /// It was written by another version or for another config.
    #[error("state: an entry of table {table} is not of the layout that this version writes")]
    Layout {
        /// The table.
        table: u32,
    },
    /// It is longer than [`VALUE_MAX`].
    #[error("state: what is kept of its key has {bytes} bytes, more than the {VALUE_MAX} of an entry")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

impl StateFault {
    /// An entry of another layout.
    #[must_use]
    pub fn layout(table: Table) -> Self {
        Self::Layout { table: table.0 }
    }
}

/// A value from its bytes.
pub fn decode<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, StateFault> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(StateFault::layout(table)),
    }
}

/// The bytes of a value.
pub fn encode<T: Serialize>(table: Table, value: &T) -> Result<Vec<u8>, StateFault> {
    // Most values are short: one piece of memory, and none that grows.
    let mut bytes = Vec::with_capacity(64);
    encode_to(table, value, &mut bytes)?;
    Ok(bytes)
}

/// Appends the bytes of a value.
pub fn encode_to<T: Serialize>(table: Table, value: &T, to: &mut Vec<u8>) -> Result<(), StateFault> {
    let before = to.len();
    postcard::serialize_with_flavor(value, Appended(&mut *to)).map_err(|_| StateFault::layout(table))?;
    let bytes = to.len() - before;
    if bytes > VALUE_MAX {
        return Err(StateFault::TooLong { bytes });
    }
    Ok(())
}

struct Appended<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appended<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// A signed number as bytes whose order is that of the numbers.
#[must_use]
pub fn ordered(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The number whose [`ordered`] bytes these begin with.
#[must_use]
pub fn number_of(bytes: &[u8]) -> Option<i64> {
    let head = bytes.first_chunk::<8>()?;
    Some((u64::from_be_bytes(*head) ^ (1 << 63)).cast_signed())
}

/// State in memory, for tests and native runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    tables: BTreeMap<Table, BTreeMap<Address, Vec<u8>>>,
}

impl Memory {
    /// Entries in a table.
    #[must_use]
    pub fn len(&self, table: Table) -> usize {
        self.tables.get(&table).map_or(0, BTreeMap::len)
    }

    /// Whether nothing is kept at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(BTreeMap::is_empty)
    }
}

impl State for Memory {
    fn read(&mut self, table: Table, addresses: &[&Address], each: &mut dyn FnMut(usize, &[u8])) {
        let entries = self.tables.entry(table).or_default();
        for (number, address) in addresses.iter().enumerate() {
            if let Some(value) = entries.get(*address) {
                each(number, value);
            }
        }
    }

    fn put(&mut self, table: Table, changes: Vec<(Address, Option<Vec<u8>>)>) {
        let entries = self.tables.entry(table).or_default();
        for (address, value) in changes {
            match value {
                Some(value) => entries.insert(address, value),
                None => entries.remove(&address),
            };
        }
    }

    fn scan(&mut self, table: Table, range: Range<'_>, limit: u32) -> Vec<(Address, Vec<u8>)> {
        let Range { from, to, after } = range;
        let entries = self.tables.entry(table).or_default();
        let mut found = Vec::new();
        for group in after.map_or(0, |(group, _)| group)..=u8::MAX {
            let start = Bound::Included(Address::new(group, from));
            let end = if to.is_empty() {
                group
                    .checked_add(1)
                    .map_or(Bound::Unbounded, |next| Bound::Excluded(Address::new(next, Vec::new())))
            } else if from < to {
                Bound::Excluded(Address::new(group, to))
            } else {
                continue;
            };
            for (address, value) in entries.range((start, end)) {
                if after.is_some_and(|after| (address.group, address.key.as_slice()) <= after) {
                    continue;
                }
                if found.len() >= limit as usize {
                    return found;
                }
                found.push((address.clone(), value.clone()));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table(0);

    #[test]
    fn ordered_bytes_sort_as_the_numbers_do() {
        let numbers = [i64::MIN, -5, -1, 0, 1, 255, 256, i64::MAX];
        assert!(numbers.is_sorted_by(|a, b| ordered(*a) < ordered(*b)));
        for number in numbers {
            assert_eq!(number_of(&ordered(number)), Some(number));
        }
        assert_eq!(number_of(&[0; 7]), None);
    }

    #[test]
    fn memory_scan_goes_group_by_group_within_bounds_and_limit() {
        let mut memory = Memory::default();
        let put = [(1, "a"), (0, "b"), (0, "d"), (255, "c")];
        memory
            .put(TABLE, put.iter().map(|(group, key)| (Address::new(*group, *key), Some(vec![]))).collect());
        let keys = |memory: &mut Memory, from: &str, to: &str, limit| -> Vec<(u8, Vec<u8>)> {
            let range = Range { from: from.as_bytes(), to: to.as_bytes(), after: None };
            let found = memory.scan(TABLE, range, limit);
            found.into_iter().map(|(address, _)| (address.group, address.key)).collect()
        };
        let all = [(0, "b"), (0, "d"), (1, "a"), (255, "c")].map(|(group, key)| (group, key.into()));
        assert_eq!(keys(&mut memory, "", "", 9), all);
        assert_eq!(keys(&mut memory, "", "", 3), all[..3]);
        assert_eq!(keys(&mut memory, "b", "d", 9), [(0, b"b".to_vec()), (255, b"c".to_vec())]);
        assert_eq!(keys(&mut memory, "d", "b", 9), []);
        let behind = Range { after: Some((0, b"b")), ..Range::default() };
        let found = memory.scan(TABLE, behind, 2);
        assert_eq!(found.into_iter().map(|(address, _)| address.key).collect::<Vec<_>>(), [b"d", b"a"]);
    }

    #[test]
    fn decode_of_another_layout_is_a_fault() {
        let bytes = encode(TABLE, &(1_u8, 2_u8)).unwrap();
        assert_eq!(decode::<(u8, u8)>(TABLE, &bytes).unwrap(), (1, 2));
        assert!(decode::<u8>(TABLE, &bytes).is_err());
        assert!(decode::<(u8, u8, u8)>(TABLE, &bytes).is_err());
        assert_eq!(encode(TABLE, &vec![0_u8; VALUE_MAX]), Err(StateFault::TooLong { bytes: VALUE_MAX + 3 }));
    }
}
