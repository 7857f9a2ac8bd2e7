//! Keyed state, for a plugin whose manifest asks for it (`"grants": {"state": true}`): tables of bytes that the host keeps,
//! exactly once with what becomes of the records, whatever crashes or runs again.
//!
//! Tables are declared in `configure` ([`Setup::table`](crate::Setup::table)) and read and written in `process`. Reads see what
//! this slice has written. What a chunk wrote that fails is taken back; so is what was written for a record that fails, there
//! or in a later transform: the rest of its chunk runs again without it.
//!
//! Outside a component state is kept in memory, for the thread: [`crate::testing::Run`] begins with none, and takes back what
//! the host would.
//!
//! ```
//! use wasmill_sdk::state::{Keys, Table};
//! use wasmill_sdk::{Chunk, Field, IntColumn, Plugin, Setup, testing};
//!
//! /// Numbers the records of each user.
//! struct Count { user: Field, n: Field, counts: Table }
//!
//! impl Plugin for Count {
//!     fn configure(_config: &str, setup: &mut Setup) -> Result<Self, String> {
//!         let counts = setup.table("counts", 1, None)?;
//!         Ok(Count { user: setup.top("user"), n: setup.top("n"), counts })
//!     }
//!     fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
//!         let users = rows.text(self.user);
//!         let keys = Keys::of((0..rows.len()).map(|row| users.get(row).unwrap_or_default()));
//!         let mut column = IntColumn::new();
//!         for count in self.counts.add(&keys, &vec![1; keys.len()]) {
//!             column.push(count);
//!         }
//!         rows.set_ints(self.n, &column);
//!         Ok(())
//!     }
//! }
//!
//! let outcome = testing::run::<Count>("{}", &[r#"{"user":"a"}"#, r#"{"user":"b"}"#, r#"{"user":"a"}"#]);
//! assert_eq!(outcome.rows()[2], r#"{"user":"a","n":2}"#);
//! ```

use crate::{Strings, Text, TextColumn};

/// A table that the plugin declared in `configure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    pub(crate) number: u32,
    /// Layout version of its values.
    pub(crate) version: u32,
}

/// Keys of entries, each with its key group: an entry is known by both.
#[derive(Debug, Default)]
pub struct Keys {
    groups: Vec<u8>,
    keys: Strings,
}

impl Keys {
    /// Keys, each in the group that is its own.
    pub fn of<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Keys {
        let mut all = Strings::new();
        keys.into_iter().for_each(|key| all.push_bytes(key.as_ref()));
        Keys { groups: face::group_of(&all), keys: all }
    }

    /// Keys in these groups, such as those of [`Chunk::groups`](crate::Chunk::groups): one for each.
    pub fn in_groups<K: AsRef<[u8]>>(groups: Vec<u8>, keys: impl IntoIterator<Item = K>) -> Keys {
        let mut all = Strings::new();
        keys.into_iter().for_each(|key| all.push_bytes(key.as_ref()));
        Keys { groups, keys: all }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// An entry of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key group.
    pub group: u8,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// Which entries a scan is for; [`Scan::default`] is for all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan<'a> {
    /// Of each group keys from here on
    pub from: &'a [u8],
    /// and before this one; empty = to the end.
    pub to: &'a [u8],
    /// Behind this group and key: the last ones of the scan before.
    pub after: Option<(u8, &'a [u8])>,
}

impl Table {
    /// The values; [`Cell::Missing`](crate::Cell::Missing) where there is none.
    #[must_use]
    pub fn get(self, keys: &Keys) -> Text {
        Text(face::get(self.number, &keys.groups, &keys.keys))
    }

    /// The values in this version's layout: `upgrade` makes one out of a value of an older layout, whose version it is told.
    /// What it made is stored once the plugin puts it.
    #[must_use]
    pub fn get_upgraded(self, keys: &Keys, mut upgrade: impl FnMut(u32, &[u8]) -> Vec<u8>) -> Text {
        let values = self.get(keys);
        let versions = self.versions(keys);
        if versions.iter().all(|version| *version == self.version || *version == 0) {
            return values;
        }
        let mut upgraded = TextColumn::new();
        for (row, version) in versions.into_iter().enumerate() {
            match values.get(row) {
                None => upgraded.push_missing(),
                Some(value) if version < self.version => upgraded.push_bytes(&upgrade(version, value)),
                Some(value) => upgraded.push_bytes(value),
            }
        }
        Text(upgraded.0)
    }

    /// The layout versions that the values were written with; 0 where there is none.
    #[must_use]
    pub fn versions(self, keys: &Keys) -> Vec<u32> {
        face::versions(self.number, &keys.groups, &keys.keys)
    }

    /// Writes one value for each key; `push_missing` leaves alone, `push_remove` removes. The last of a key stays.
    pub fn put(self, keys: &Keys, values: &TextColumn) {
        face::put(self.number, &keys.groups, &keys.keys, &values.0);
    }

    /// Adds to sums, which are kept as eight bytes, little-endian; saturating. What the sums are, in order.
    pub fn add(self, keys: &Keys, deltas: &[i64]) -> Vec<i64> {
        face::add(self.number, &keys.groups, &keys.keys, deltas)
    }

    /// Entries group by group, in the order of their keys, at most `limit` and what the host hands over at once; none only
    /// where there are no more.
    #[must_use]
    pub fn scan(self, scan: Scan<'_>, limit: u32) -> Vec<Entry> {
        face::scan(self.number, scan, limit)
    }
}

#[cfg(target_arch = "wasm32")]
mod face {
    use super::{Entry, Scan};
    use crate::bindings::wasmill::plugin::state;
    use crate::column::raw;
    use crate::{Payloads, Strings};

    pub(super) fn group_of(keys: &Strings) -> Vec<u8> {
        state::group_of(&keys.0)
    }

    pub(super) fn get(table: u32, groups: &[u8], keys: &Strings) -> raw::Cells {
        state::get(table, groups, &keys.0)
    }

    pub(super) fn versions(table: u32, groups: &[u8], keys: &Strings) -> Vec<u32> {
        state::versions(table, groups, &keys.0)
    }

    pub(super) fn put(table: u32, groups: &[u8], keys: &Strings, values: &raw::Cells) {
        state::put(table, groups, &keys.0, values);
    }

    pub(super) fn add(table: u32, groups: &[u8], keys: &Strings, deltas: &[i64]) -> Vec<i64> {
        state::add(table, groups, &keys.0, deltas)
    }

    pub(super) fn scan(table: u32, scan: Scan<'_>, limit: u32) -> Vec<Entry> {
        let after = scan.after.map(|(group, key)| state::Place { group, key: key.to_vec() });
        let state::Entries { groups, keys, values } =
            state::scan(table, scan.from, scan.to, after.as_ref(), limit);
        let (keys, values) = (Payloads(keys), Payloads(values));
        let entries = groups.into_iter().zip(keys.iter().zip(values.iter()));
        entries
            .map(|(group, (key, value))| Entry { group, key: key.to_vec(), value: value.to_vec() })
            .collect()
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use face::{begin, declare, forget, has_written, rollback};

#[cfg(not(target_arch = "wasm32"))]
mod face {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use xxhash_rust::xxh3::xxh3_64;

    use super::{Entry, Scan};
    use crate::Strings;
    use crate::column::raw;

    type Place = (u32, u8, Vec<u8>);
    type Entries = BTreeMap<Place, Stored>;

    #[derive(Clone)]
    struct Stored {
        written: i64,
        version: u32,
        value: Vec<u8>,
    }

    #[derive(Default)]
    struct Memory {
        /// Names, versions and times to live.
        tables: Vec<(String, u32, u64)>,
        entries: Entries,
        /// As they were when the call began, once it has written.
        before: Option<Entries>,
        now: i64,
    }

    impl Memory {
        fn live(&self, table: u32, written: i64) -> bool {
            let ttl = self.tables.get(table as usize).map_or(0, |(_, _, ttl)| *ttl);
            ttl == 0 || i128::from(self.now) - i128::from(written) < i128::from(ttl)
        }

        fn find(&self, place: &Place) -> Option<&Stored> {
            self.entries.get(place).filter(|stored| self.live(place.0, stored.written))
        }

        fn write(&mut self, place: Place, value: Option<&[u8]>) {
            if self.before.is_none() {
                self.before = Some(self.entries.clone());
            }
            match value {
                Some(value) => {
                    let version = self.tables.get(place.0 as usize).map_or(0, |(_, version, _)| *version);
                    self.entries.insert(place, Stored { written: self.now, version, value: value.to_vec() })
                }
                None => self.entries.remove(&place),
            };
        }
    }

    thread_local! {
        static MEMORY: RefCell<Memory> = RefCell::default();
    }

    /// All state of the thread is gone.
    pub(crate) fn forget() {
        MEMORY.take();
    }

    /// A call begins at this time.
    pub(crate) fn begin(now: i64) {
        MEMORY.with_borrow_mut(|memory| {
            memory.now = now;
            memory.before = None;
        });
    }

    pub(crate) fn has_written() -> bool {
        MEMORY.with_borrow(|memory| memory.before.is_some())
    }

    /// What the call wrote is taken back.
    pub(crate) fn rollback() {
        MEMORY.with_borrow_mut(|memory| {
            if let Some(before) = memory.before.take() {
                memory.entries = before;
            }
        });
    }

    /// `number` tables were declared before by the same instance.
    pub(crate) fn declare(number: usize, name: &str, version: u32, ttl_ns: u64) -> Result<u32, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(format!("{name:?} is no name of a table: 1 to 64 letters, digits, `-`, `_` and `.`"));
        }
        MEMORY.with_borrow_mut(|memory| {
            if memory.tables.iter().take(number).any(|(known, ..)| known == name) {
                return Err(format!("the table {name:?} is declared twice"));
            }
            memory.tables.truncate(number);
            memory.tables.push((name.to_owned(), version, ttl_ns));
            Ok(u32::try_from(number).unwrap_or(u32::MAX))
        })
    }

    pub(super) fn group_of(keys: &Strings) -> Vec<u8> {
        // The top byte.
        values(&keys.0).map(|key| xxh3_64(key).to_be_bytes()[0]).collect()
    }

    fn values(column: &raw::Column) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&column.ends);
        starts.zip(&column.ends).map(|(start, end)| &column.data[*start as usize..*end as usize])
    }

    fn places<'a>(table: u32, groups: &'a [u8], keys: &'a Strings) -> impl Iterator<Item = Place> + 'a {
        assert_eq!(groups.len(), keys.len(), "the host would trap this plugin: lists of different lengths");
        groups.iter().zip(values(&keys.0)).map(move |(group, key)| (table, *group, key.to_vec()))
    }

    pub(super) fn get(table: u32, groups: &[u8], keys: &Strings) -> raw::Cells {
        let mut cells = raw::Cells::default();
        MEMORY.with_borrow(|memory| {
            places(table, groups, keys).for_each(|place| {
                cells.push_option(memory.find(&place).map(|stored| &stored.value[..]));
            });
        });
        cells
    }

    pub(super) fn versions(table: u32, groups: &[u8], keys: &Strings) -> Vec<u32> {
        MEMORY.with_borrow(|memory| {
            let version = |place: Place| memory.find(&place).map_or(0, |stored| stored.version);
            places(table, groups, keys).map(version).collect()
        })
    }

    pub(super) fn put(table: u32, groups: &[u8], keys: &Strings, cells: &raw::Cells) {
        assert_eq!(
            keys.len(),
            cells.state.len(),
            "the host would trap this plugin: lists of different lengths"
        );
        let cells = cells.state.iter().zip(values(&cells.values));
        MEMORY.with_borrow_mut(|memory| {
            for (place, (state, value)) in places(table, groups, keys).zip(cells) {
                match state {
                    0 => {}
                    2 => memory.write(place, None),
                    3 => memory.write(place, Some(value)),
                    _ => panic!("the host would trap this plugin: state has no null"),
                }
            }
        });
    }

    pub(super) fn add(table: u32, groups: &[u8], keys: &Strings, deltas: &[i64]) -> Vec<i64> {
        assert_eq!(keys.len(), deltas.len(), "the host would trap this plugin: lists of different lengths");
        MEMORY.with_borrow_mut(|memory| {
            let mut sums = Vec::with_capacity(deltas.len());
            for (place, delta) in places(table, groups, keys).zip(deltas) {
                let before = memory.find(&place).map_or([0; 8], |stored| match stored.value[..].try_into() {
                    Ok(value) => value,
                    Err(_) => panic!(
                        "the host would trap this plugin: a value of {} bytes where a sum has 8",
                        stored.value.len()
                    ),
                });
                let sum = i64::from_le_bytes(before).saturating_add(*delta);
                memory.write(place, Some(&sum.to_le_bytes()));
                sums.push(sum);
            }
            sums
        })
    }

    pub(super) fn scan(table: u32, scan: Scan<'_>, limit: u32) -> Vec<Entry> {
        MEMORY.with_borrow(|memory| {
            let wanted = memory.entries.iter().filter(|((of, group, key), stored)| {
                *of == table
                    && memory.live(table, stored.written)
                    && scan.from <= &key[..]
                    && (scan.to.is_empty() || &key[..] < scan.to)
                    && scan.after.is_none_or(|after| after < (*group, &key[..]))
            });
            let entry = |((_, group, key), stored): (&Place, &Stored)| Entry {
                group: *group,
                key: key.clone(),
                value: stored.value.clone(),
            };
            wanted.take(limit as usize).map(entry).collect()
        })
    }
}
