//! What one slice, or several one after another, have changed and nobody has stored yet.
//!
//! A layer is also what an outcome carries: [`Layer::write`] and [`Layer::read`] are its form there.
//!
//! ```text
//! of each table, one after another, each address once:
//!   u32 LE   length of the address
//!   bytes    address: key group, key
//!   u8       1 put, 0 removed
//! of those that were put:
//!   i64 LE   when, by the time of the slice, nanoseconds since the epoch
//!   u32 LE   layout version of the value
//!   u32 LE   length of the value
//!   bytes    value
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::changes::{Changes, Wanted};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::pair::Pair;
use crate::table::{TableId, TableSpec};
use crate::usage::Pending;

/// By how much a table grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    pub entries: i64,
    /// As they are counted.
    pub bytes: i64,
}

impl Growth {
    pub(crate) fn add(&mut self, more: Growth) {
        self.entries += more.entries;
        self.bytes += more.bytes;
    }
}

/// What became of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableChanges {
    pub(crate) spec: TableSpec,
    /// Nothing is left of what was in it before.
    pub(crate) cleared: bool,
    pub(crate) entries: Changes,
    /// Over what the slices saw; `None` where they did not count.
    pub(crate) growth: Option<Growth>,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// The latest time of its slices.
    pub(crate) clock: i64,
    pub(crate) tables: BTreeMap<TableId, TableChanges>,
    pub(crate) bytes: usize,
    pub(crate) pending: Option<Pending>,
}

/// A table in an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenTable {
    pub transform: String,
    /// With its strand, if it is one strand's.
    pub table: String,
    pub version: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ttl_ns: u64,
    /// Nothing is left of what was in it before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cleared: bool,
    pub entries: u64,
    /// Of the table by these changes, where it was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// Where its entries are, within what the outcome calls its blobs.
    pub blob: Range<usize>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What an outcome says of the changes that it carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The latest time of its slices, nanoseconds since the epoch.
    pub clock: i64,
    pub tables: Vec<WrittenTable>,
}

/// The changes in an outcome are not what this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the changes of state in it are not readable")]
pub struct LayerError;

impl Layer {
    /// A layer that empties these tables.
    pub fn clearing(tables: impl IntoIterator<Item = (TableId, TableSpec)>) -> Layer {
        let growth = Some(Growth::default());
        let cleared = |spec| TableChanges { spec, cleared: true, entries: Changes::default(), growth };
        let tables = tables.into_iter().map(|(id, spec)| (id, cleared(spec))).collect();
        Layer { clock: i64::MIN, tables, bytes: 0, pending: None }
    }

    /// Whether nothing has changed, not even the time.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// About what it takes in memory, which is more than in an outcome.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many entries were put or removed.
    pub fn changes(&self) -> usize {
        self.tables.values().map(|table| table.entries.len()).sum()
    }

    /// What became of each entry: its table, its address, and its value where it has one.
    pub fn entries(&self) -> impl Iterator<Item = (&TableId, &[u8], Option<&[u8]>)> {
        self.tables.iter().flat_map(|(id, table)| {
            table
                .entries
                .iter()
                .map(move |pair| (id, pair.address(), pair.split().map(|(_, _, value)| value)))
        })
    }

    /// Puts the changes of a later slice over these.
    pub fn add(&mut self, later: Layer) {
        let Layer { clock, tables, bytes, pending } = later;
        if self.is_empty() {
            *self = Layer { clock, tables, bytes, pending };
            return;
        }
        self.clock = self.clock.max(clock);
        for (id, later) in tables {
            let table = match self.tables.entry(id) {
                MapEntry::Vacant(none) => {
                    self.bytes += later.entries.bytes();
                    none.insert(later);
                    continue;
                }
                MapEntry::Occupied(table) => table.into_mut(),
            };
            table.spec = later.spec;
            self.bytes -= table.entries.bytes();
            if later.cleared {
                *table = later;
                self.bytes += table.entries.bytes();
                continue;
            }
            table.entries.add(later.entries);
            self.bytes += table.entries.bytes();
            table.growth = table.growth.zip(later.growth).map(|(mut growth, more)| {
                growth.add(more);
                growth
            });
        }
        match (&mut self.pending, pending) {
            (Some(pending), Some(more)) => pending.add(more.bytes()),
            (none, more) => *none = none.take().or(more),
        }
    }

    /// Appends the entries to `blobs`, and says what an outcome has to say of them. Ranges count from `base`.
    pub fn write(&self, blobs: &mut Vec<u8>, base: usize) -> Written {
        let mut tables = Vec::with_capacity(self.tables.len());
        for (id, table) in &self.tables {
            let start = base + blobs.len();
            for pair in table.entries.iter() {
                write_bytes(blobs, pair.address());
                let Some((written, version, value)) = pair.split() else {
                    blobs.push(0);
                    continue;
                };
                blobs.push(1);
                blobs.extend_from_slice(&written.to_le_bytes());
                blobs.extend_from_slice(&version.to_le_bytes());
                write_bytes(blobs, value);
            }
            tables.push(WrittenTable {
                transform: id.transform().to_owned(),
                table: id.name().to_owned(),
                version: table.spec.version,
                ttl_ns: table.spec.ttl_ns,
                cleared: table.cleared,
                entries: table.entries.len() as u64,
                growth: table.growth,
                blob: start..base + blobs.len(),
            });
        }
        Written { clock: self.clock, tables }
    }

    /// What an outcome carries.
    ///
    /// # Errors
    /// It is not what [`Layer::write`] makes.
    pub fn read(written: &Written, blobs: &[u8]) -> Result<Layer, LayerError> {
        let mut layer = Layer { clock: written.clock, ..Layer::default() };
        for table in &written.tables {
            let id = TableId::new(&table.transform, &table.table).ok_or(LayerError)?;
            let mut left = blobs.get(table.blob.clone()).ok_or(LayerError)?;
            let mut changes = TableChanges {
                spec: TableSpec { version: table.version, ttl_ns: table.ttl_ns },
                cleared: table.cleared,
                entries: Changes::default(),
                growth: table.growth,
            };
            while !left.is_empty() {
                let pair = read_change(&mut left).ok_or(LayerError)?;
                changes.entries.insert(Wanted::new(pair.address()), pair.clone());
            }
            if changes.entries.len() as u64 != table.entries {
                return Err(LayerError);
            }
            layer.bytes += changes.entries.bytes();
            layer.tables.insert(id, changes);
        }
        Ok(layer)
    }

    /// What it says of an entry: nothing, or what became of it; `None` in that of one that a table was cleared of.
    pub(crate) fn find(&self, table: &TableId, wanted: Wanted<'_>) -> Option<Option<&Pair>> {
        let table = self.tables.get(table)?;
        match table.entries.get(wanted) {
            Some(pair) => Some(Some(pair)),
            None => table.cleared.then_some(None),
        }
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // Keys and values are far below 4 GiB.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn read_change(left: &mut &[u8]) -> Option<Pair> {
    let address = read_bytes(left, 1 + KEY_BYTES_MAX)?;
    if address.is_empty() {
        return None;
    }
    let (kind, rest) = left.split_first()?;
    *left = rest;
    match kind {
        0 => Some(Pair::removed(address)),
        1 => {
            let (written, rest) = left.split_first_chunk::<8>()?;
            let (version, rest) = rest.split_first_chunk::<4>()?;
            *left = rest;
            let value = read_bytes(left, VALUE_BYTES_MAX)?;
            Some(Pair::put(address, i64::from_le_bytes(*written), u32::from_le_bytes(*version), value))
        }
        _ => None,
    }
}

fn read_bytes<'a>(left: &mut &'a [u8], max: usize) -> Option<&'a [u8]> {
    let (len, rest) = left.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok().filter(|len| *len <= max)?;
    let (bytes, rest) = rest.split_at_checked(len)?;
    *left = rest;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::address;

    fn put(value: &[u8]) -> Option<&[u8]> {
        Some(value)
    }

    fn layer(cleared: bool, entries: &[(&[u8], Option<&[u8]>)]) -> Layer {
        let mut changes = Changes::default();
        for (key, value) in entries {
            let address = address(3, key);
            let pair =
                value.map_or_else(|| Pair::removed(&address), |value| Pair::put(&address, 7, 2, value));
            changes.insert(Wanted::new(&address), pair);
        }
        let growth = Some(Growth { entries: 1, bytes: -7 });
        let table =
            TableChanges { spec: TableSpec { version: 2, ttl_ns: 5 }, cleared, entries: changes, growth };
        let bytes = table.entries.bytes();
        let tables = [(TableId::new("t", "a").unwrap(), table)].into();
        Layer { clock: 9, tables, bytes, pending: None }
    }

    fn same(a: &Layer, b: &Layer) -> bool {
        (a.clock, &a.tables, a.bytes) == (b.clock, &b.tables, b.bytes)
    }

    #[test]
    fn layer_written_and_read_is_the_same() {
        let before = layer(true, &[(b"k", put(b"value")), (b"", put(b"")), (b"gone", None)]);
        let mut blobs = b"rows".to_vec();
        let written = before.write(&mut blobs, 0);
        assert_eq!((written.tables[0].entries, written.tables[0].blob.start), (3, 4));
        assert!(same(&Layer::read(&written, &blobs).unwrap(), &before));
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<Written>(&text).unwrap(), written);
    }

    #[test]
    fn layer_that_is_cut_or_counts_otherwise_is_refused() {
        let before = layer(false, &[(b"k", put(b"value")), (b"gone", None)]);
        let mut blobs = Vec::new();
        let written = before.write(&mut blobs, 0);
        for end in 0..blobs.len() {
            let mut cut = written.clone();
            cut.tables[0].blob.end = end;
            assert!(Layer::read(&cut, &blobs).is_err(), "{end}");
            assert!(Layer::read(&written, &blobs[..end]).is_err(), "{end}");
        }
        let mut more = written.clone();
        more.tables[0].entries = 3;
        assert!(Layer::read(&more, &blobs).is_err());
    }

    #[test]
    fn later_changes_win_and_a_cleared_table_forgets_what_was_before() {
        let mut layers = layer(false, &[(b"a", put(b"1")), (b"b", put(b"1"))]);
        layers.add(layer(false, &[(b"a", None), (b"c", put(b"2"))]));
        let mut whole = layer(false, &[(b"a", None), (b"b", put(b"1")), (b"c", put(b"2"))]);
        for table in whole.tables.values_mut() {
            table.growth = Some(Growth { entries: 2, bytes: -14 });
        }
        assert!(same(&layers, &whole));
        layers.add(layer(true, &[(b"d", put(b"3"))]));
        assert!(same(&layers, &layer(true, &[(b"d", put(b"3"))])));
        let id = TableId::new("t", "a").unwrap();
        assert_eq!(layers.find(&id, Wanted::new(&address(3, b"a"))), Some(None));
        assert_eq!(layer(false, &[]).find(&id, Wanted::new(&address(3, b"a"))), None);
    }
}
