//! Tables of a transform, and the addresses of their entries.
//!
//! A table belongs to a transform's place in a stream and has a name: a plugin's next version finds what the one before
//! wrote, whatever the order in which it declares its tables.
//!
//! An entry's address is its key group and its key. There are 256 groups, and which one a key is in is part of the format: the
//! top byte of the XXH3-64 of the key with seed 0.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::strand::{MARK, Strand, Strands};

/// The key group of a key.
pub fn group_of(key: &[u8]) -> u8 {
    // The top byte.
    xxh3_64(key).to_be_bytes()[0]
}

/// Group and key, in the order in which tables are scanned.
pub(crate) type Address = Box<[u8]>;

pub(crate) fn address(group: u8, key: &[u8]) -> Address {
    let mut address = Vec::with_capacity(1 + key.len());
    address.push(group);
    address.extend_from_slice(key);
    address.into()
}

/// A table of a stream, by name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// Length and name of the transform, length and name of the table: as in the store's keys.
    encoded: Arc<[u8]>,
}

impl TableId {
    /// `None` where a name is longer than 255 bytes.
    pub fn new(transform: &str, table: &str) -> Option<TableId> {
        let mut encoded = Vec::with_capacity(2 + transform.len() + table.len());
        for name in [transform, table] {
            encoded.push(u8::try_from(name.len()).ok()?);
            encoded.extend_from_slice(name.as_bytes());
        }
        Some(TableId { encoded: encoded.into() })
    }

    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The table whose names `bytes` begin with.
    pub(crate) fn decode(bytes: &[u8]) -> Option<TableId> {
        let transform = usize::from(*bytes.first()?);
        let table = usize::from(*bytes.get(1 + transform)?);
        let encoded = bytes.get(..2 + transform + table)?;
        let id = TableId { encoded: encoded.into() };
        id.split().map(|_| id.clone())
    }

    fn split(&self) -> Option<(&str, &str)> {
        let (len, rest) = self.encoded.split_first()?;
        let (transform, rest) = rest.split_at_checked(usize::from(*len))?;
        let (_len, table) = rest.split_first()?;
        Some((std::str::from_utf8(transform).ok()?, std::str::from_utf8(table).ok()?))
    }

    /// The transform's name in its stream.
    pub fn transform(&self) -> &str {
        self.split().map_or("", |(transform, _)| transform)
    }

    /// The name that the plugin declares.
    pub fn table(&self) -> &str {
        self.parts().0
    }

    /// Its name with its strand, if it is one strand's: as it is stored.
    pub fn name(&self) -> &str {
        self.split().map_or("", |(_, table)| table)
    }

    /// The table of a strand that a plugin declares by this name; `None` where that is longer than 255 bytes.
    pub fn in_strand(&self, strand: &Strand) -> Option<TableId> {
        let Strand { number, of } = strand;
        TableId::new(self.transform(), &format!("{}{MARK}{number}/{}", self.table(), of.ending()))
    }

    /// The strand whose it is.
    pub fn strand(&self) -> Option<Strand> {
        let (_, number, ending) = self.parts();
        Some(Strand { number: number.parse().ok()?, of: Strands::read(ending?)? })
    }

    /// What its name says of how the stream is parted.
    pub(crate) fn ending(&self) -> Option<&str> {
        self.parts().2
    }

    /// What the plugin declares, number of the strand, and how the stream is parted.
    fn parts(&self) -> (&str, &str, Option<&str>) {
        let name = self.name();
        match name.split_once(MARK).map(|(table, strand)| (table, strand.split_once('/'))) {
            Some((table, Some((number, ending)))) => (table, number, Some(ending)),
            _ => (name, "", None),
        }
    }
}

impl fmt::Debug for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.transform(), self.name())
    }
}

/// What a plugin declares of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSpec {
    /// Of the layout of its values: a plugin that declares a lower one than what is stored cannot read it.
    pub version: u32,
    /// Entries that were not written for so long are gone; 0 = they stay.
    pub ttl_ns: u64,
}

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was written, by the time of its slice: nanoseconds since the epoch.
    pub written: i64,
    /// Layout version of its value: that of the table when it was written.
    pub version: u32,
    pub value: Arc<[u8]>,
}

impl Entry {
    /// Whether it is still there at this time.
    pub(crate) fn is_live(&self, ttl_ns: u64, now: i64) -> bool {
        is_live(self.written, ttl_ns, now)
    }
}

/// Whether an entry that was written then is still there at this time.
pub(crate) fn is_live(written: i64, ttl_ns: u64, now: i64) -> bool {
    ttl_ns == 0 || i128::from(now) - i128::from(written) < i128::from(ttl_ns)
}

/// What an entry counts against quotas, and in metrics, by the lengths of its address and its value.
pub(crate) fn counted_bytes(address: usize, value: usize) -> i64 {
    i64::try_from(address + value + crate::limits::ENTRY_BYTES).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_those_that_the_format_names() {
        // The top bytes of XXH3-64 as its specification's implementation gives them.
        assert_eq!(group_of(b""), 0x2d);
        assert_eq!(group_of(b"a"), 0xe6);
        let mut seen = [false; 256];
        for number in 0..10_000_u32 {
            seen[usize::from(group_of(&number.to_le_bytes()))] = true;
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn table_names_are_read_back_and_none_runs_into_the_next() {
        let id = TableId::new("count", "a").unwrap();
        assert_eq!((id.transform(), id.table()), ("count", "a"));
        assert_eq!(TableId::decode(&[id.encoded(), b"\x07key"].concat()), Some(id.clone()));
        assert_ne!(TableId::new("ab", "c"), TableId::new("a", "bc"));
        assert_eq!(TableId::new("t", &"x".repeat(256)), None);
        for len in 0..id.encoded().len() {
            assert_eq!(TableId::decode(&id.encoded()[..len]), None);
        }
    }

    #[test]
    fn table_of_a_strand_is_another_one_with_the_same_name_to_people() {
        let id = TableId::new("count", "a").unwrap();
        assert_eq!((id.strand(), id.ending()), (None, None));
        let strand = Strand { number: 3, of: Strands::new(4, "user.id") };
        let of_strand = id.in_strand(&strand).unwrap();
        assert_ne!(of_strand, id);
        assert_eq!((of_strand.transform(), of_strand.table()), ("count", "a"));
        assert_eq!((of_strand.name(), of_strand.ending()), ("a~3/4/user.id", Some("4/user.id")));
        assert_eq!(of_strand.strand(), Some(strand.clone()));
        assert_eq!(TableId::decode(of_strand.encoded()), Some(of_strand.clone()));
        // However often it is asked for.
        assert_eq!(of_strand.in_strand(&strand), Some(of_strand));
        let long = TableId::new("count", &"x".repeat(250)).unwrap();
        assert_eq!(long.in_strand(&Strand { number: 3, of: Strands::new(4, "user.id") }), None);
    }

    #[test]
    fn entry_lives_until_it_was_not_written_for_its_time() {
        let entry = Entry { written: 100, version: 1, value: Arc::from(&b""[..]) };
        assert!(entry.is_live(10, 109) && !entry.is_live(10, 110) && entry.is_live(0, i64::MAX));
        assert!(entry.is_live(10, i64::MIN));
    }
}
