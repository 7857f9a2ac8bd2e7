//! Strands: parts of a stream's keys that run beside each other, each with state of its own.
//!
//! Which strand a key is in is part of the format, as its group is: the XXH3-64 of the key with seed 0, modulo the number of
//! strands. A table of a strand is a table by itself, whose name has what no plugin's table can have:
//!
//! ```text
//! counts~3/4/card     table "counts" of strand 3, of 4 strands by the field "card"
//! ```
//!
//! So no two strands touch the same entry, and from its name alone it is known how a table was parted.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

/// Stands in front of the strand in the name of a table.
pub(crate) const MARK: char = '~';

/// How a stream's keys are parted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strands {
    count: u8,
    /// The field that has the key, as it is written.
    key: Arc<str>,
}

/// One of the strands of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strand {
    pub number: u8,
    pub of: Strands,
}

impl Strands {
    /// So many, at least one, by this field.
    pub fn new(count: u8, key: &str) -> Strands {
        Strands { count: count.max(1), key: key.into() }
    }

    pub fn count(&self) -> u8 {
        self.count
    }

    /// The number of the strand that has this key.
    pub fn number_of(&self, key: &[u8]) -> u8 {
        // Less than the count.
        (xxh3_64(key) % u64::from(self.count)) as u8
    }

    pub fn each(&self) -> impl Iterator<Item = Strand> + '_ {
        (0..self.count).map(|number| Strand { number, of: self.clone() })
    }

    /// As names of tables end.
    pub(crate) fn ending(&self) -> String {
        format!("{}/{}", self.count, self.key)
    }

    /// What a name says that ends so.
    pub(crate) fn read(ending: &str) -> Option<Strands> {
        let (count, key) = ending.split_once('/')?;
        Some(Strands { count: count.parse().ok().filter(|count| *count > 0)?, key: key.into() })
    }
}

impl fmt::Display for Strands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} strands by {:?}", self.count, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_strands_that_the_format_names_and_all_strands_have_some() {
        let strands = Strands::new(4, "card");
        // XXH3-64 of "" and "a", as its specification's implementation gives them, end in c2 and 1f.
        assert_eq!((strands.number_of(b""), strands.number_of(b"a")), (2, 3));
        let mut seen = [0_u32; 4];
        (0..10_000_u32).for_each(|n| seen[usize::from(strands.number_of(&n.to_le_bytes()))] += 1);
        assert!(seen.iter().all(|seen| (2_300..2_700).contains(seen)), "{seen:?}");
        assert_eq!(strands.each().map(|strand| strand.number).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn what_a_name_says_is_read_back() {
        let strands = Strands::new(64, r"a/b.c\.d");
        assert_eq!(Strands::read(&strands.ending()), Some(strands));
        for wrong in ["", "4", "0/card", "x/card", "256/card"] {
            assert_eq!(Strands::read(wrong), None, "{wrong}");
        }
    }
}
