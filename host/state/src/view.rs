//! What a slice sees: layers over what is stored.

use std::sync::Arc;

use crate::changes::{Ordered, Wanted};
use crate::error::StoreError;
use crate::layer::{Layer, TableChanges};
use crate::limits::{BLOCK_ENTRIES, BLOCK_ENTRIES_FIRST};
use crate::pair::Pair;
use crate::stored;
use crate::strand::Strands;
use crate::table::{Address, Entry, TableId, TableSpec, address};

/// What is stored of one stream.
pub trait Base: Send + Sync {
    /// An entry, by group and key.
    ///
    /// # Errors
    /// The store cannot be read.
    fn get(&self, table: &TableId, wanted: Wanted<'_>) -> Result<Option<Entry>, StoreError>;

    /// Several entries.
    ///
    /// # Errors
    /// The store cannot be read.
    fn get_many(&self, table: &TableId, wanted: &[Wanted<'_>]) -> Result<Vec<Option<Entry>>, StoreError> {
        wanted.iter().map(|wanted| self.get(table, *wanted)).collect()
    }

    /// Shows several entries where they are, by their numbers: those that there are.
    ///
    /// # Errors
    /// The store cannot be read.
    fn show(
        &self,
        table: &TableId,
        wanted: &[Wanted<'_>],
        shown: &mut dyn FnMut(usize, Shown<'_>),
    ) -> Result<(), StoreError> {
        for (number, entry) in self.get_many(table, wanted)?.iter().enumerate() {
            entry.iter().for_each(|entry| shown(number, Shown::of(entry)));
        }
        Ok(())
    }

    /// Whether many cost no more than one.
    fn is_far(&self) -> bool {
        false
    }

    /// Entries in their order, from this address on: some of them, about so many at most.
    ///
    /// # Errors
    /// The store cannot be read.
    fn range(&self, table: &TableId, from: &[u8], most: usize) -> Result<Range, StoreError>;

    /// What was declared last of a table that is stored.
    fn spec(&self, table: &TableId) -> Option<TableSpec>;

    /// A table of which entries are stored and this is so.
    fn find_table(&self, _wanted: &mut dyn FnMut(&TableId) -> bool) -> Option<TableId> {
        None
    }

    /// The time up to which the stream's state has come; what is older never comes back.
    fn clock(&self) -> i64;
}

/// An entry where it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// As in an [`Entry`].
    pub(crate) written: i64,
    pub(crate) value: &'a [u8],
}

impl Shown<'_> {
    pub(crate) fn of(entry: &Entry) -> Shown<'_> {
        Shown { written: entry.written, value: &entry.value }
    }

    /// Of a value as it is stored.
    pub(crate) fn stored(value: &[u8]) -> Result<Shown<'_>, StoreError> {
        let (written, _, value) = stored::split(value).ok_or(StoreError::Damaged { what: "an entry" })?;
        Ok(Shown { written, value })
    }

    /// What a change left there, if it is there.
    pub(crate) fn of_pair(pair: &Pair) -> Option<Shown<'_>> {
        pair.split().map(|(written, _, value)| Shown { written, value })
    }
}

/// Some of a table's entries.
#[derive(Debug, Default)]
pub struct Range {
    pub entries: Vec<(Box<[u8]>, Entry)>,
    /// There may be more behind the last one; then there is a last one.
    pub more: bool,
}

/// Nothing is stored.
pub(crate) struct Nothing;

impl Base for Nothing {
    fn get(&self, _table: &TableId, _wanted: Wanted<'_>) -> Result<Option<Entry>, StoreError> {
        Ok(None)
    }

    fn range(&self, _table: &TableId, _from: &[u8], _most: usize) -> Result<Range, StoreError> {
        Ok(Range::default())
    }

    fn spec(&self, _table: &TableId) -> Option<TableSpec> {
        None
    }

    fn clock(&self) -> i64 {
        i64::MIN
    }
}

/// See the head of this file. Cheap to clone.
#[derive(Clone)]
pub struct View {
    /// The newest first.
    layers: Vec<Arc<Layer>>,
    base: Arc<dyn Base>,
}

impl Default for View {
    fn default() -> Self {
        View { layers: Vec::new(), base: Arc::new(Nothing) }
    }
}

impl View {
    /// `layers` over `base`, the newest first; empty ones are left out.
    pub fn new(layers: impl IntoIterator<Item = Arc<Layer>>, base: Arc<dyn Base>) -> View {
        View { layers: layers.into_iter().filter(|layer| !layer.is_empty()).collect(), base }
    }

    /// The latest time that state was changed at.
    pub fn clock(&self) -> i64 {
        self.layers.iter().map(|layer| layer.clock).fold(self.base.clock(), i64::max)
    }

    /// What was declared of a table when something was last written to it.
    pub fn spec(&self, table: &TableId) -> Option<TableSpec> {
        let of_layer = |layer: &Arc<Layer>| layer.tables.get(table).map(|table| table.spec);
        self.layers.iter().find_map(of_layer).or_else(|| self.base.spec(table))
    }

    /// A table with stored entries that is parted otherwise than the stream. What layers have was changed since it is as it is.
    pub fn parted_otherwise(&self, strands: Option<&Strands>) -> Option<TableId> {
        let ending = strands.map(Strands::ending);
        let cleared = |id: &TableId| {
            self.layers.iter().any(|layer| layer.tables.get(id).is_some_and(|table| table.cleared))
        };
        self.base.find_table(&mut |id| id.ending() != ending.as_deref() && !cleared(id))
    }

    /// The entry, however old it is.
    pub(crate) fn find(&self, table: &TableId, wanted: Wanted<'_>) -> Result<Option<Entry>, StoreError> {
        match self.layers.iter().find_map(|layer| layer.find(table, wanted)) {
            Some(found) => Ok(found.and_then(Pair::entry)),
            None => self.base.get(table, wanted),
        }
    }

    /// Shows those of several entries that there are, however old they are, by their numbers; `numbers` are those that are
    /// meant, at most [`TOGETHER`](crate::places::TOGETHER).
    pub(crate) fn show(
        &self,
        table: &TableId,
        wanted: &[Wanted<'_>],
        mut numbers: Vec<usize>,
        shown: &mut dyn FnMut(usize, Shown<'_>),
    ) -> Result<(), StoreError> {
        let mut left: Vec<Wanted<'_>> =
            numbers.iter().filter_map(|number| wanted.get(*number)).copied().collect();
        for layer in self.layers.iter().filter_map(|layer| layer.tables.get(table)) {
            let found = layer.entries.find_many(&left);
            let mut is_below =
                |number: usize, place: Option<u32>| match place.and_then(|place| layer.entries.at(place)) {
                    Some(pair) => {
                        Shown::of_pair(pair).into_iter().for_each(|entry| shown(number, entry));
                        false
                    }
                    None => !layer.cleared,
                };
            let each = numbers.into_iter().zip(left).zip(found);
            let below = each.filter(|((number, _), place)| is_below(*number, *place));
            (numbers, left) = below.map(|(one, _)| one).unzip();
        }
        if numbers.is_empty() {
            return Ok(());
        }
        self.base.show(table, &left, &mut |index, entry| {
            numbers.get(index).into_iter().for_each(|number| shown(*number, entry));
        })
    }

    /// Whether many entries that no layer has cost no more than one.
    pub(crate) fn is_far(&self) -> bool {
        self.base.is_far()
    }

    /// Several entries, however old they are.
    pub(crate) fn find_many(
        &self,
        table: &TableId,
        wanted: &[Wanted<'_>],
    ) -> Result<Vec<Option<Entry>>, StoreError> {
        match self.layers.is_empty() {
            true => self.base.get_many(table, wanted),
            false => wanted.iter().map(|wanted| self.find(table, *wanted)).collect(),
        }
    }

    /// A walk over a table with `own` changes over all of it, from an address on.
    pub(crate) fn walk<'a>(
        &'a self,
        table: &'a TableId,
        own: Option<&'a TableChanges>,
        from: Address,
    ) -> Walk<'a> {
        let mut changes = Vec::new();
        let mut base = Some(Block::default());
        let layers = self.layers.iter().filter_map(|layer| layer.tables.get(table));
        for layer in own.into_iter().chain(layers) {
            changes.push(layer.entries.ordered());
            if layer.cleared {
                base = None;
                break;
            }
        }
        Walk { view: self, table, changes, base, from: Some(from) }
    }
}

/// Entries that were read from the store.
#[derive(Default)]
struct Block {
    /// So many were asked for.
    asked: usize,
    entries: std::collections::VecDeque<(Address, Entry)>,
    /// Behind the last entry, there may be more from here on; nothing was read yet where it is `None`.
    next: Option<Address>,
    ended: bool,
}

/// Entries of a table in their order, however old they are.
pub(crate) struct Walk<'a> {
    view: &'a View,
    table: &'a TableId,
    /// The newest first.
    changes: Vec<Ordered<'a>>,
    base: Option<Block>,
    /// `None` at the end.
    from: Option<Address>,
}

impl Walk<'_> {
    /// Goes on at an address, which lies behind the last entry.
    pub(crate) fn skip_to(&mut self, from: Address) {
        self.from = Some(from);
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<(Address, Entry)>, StoreError> {
        while let Some(from) = self.from.take() {
            let mut first: Option<&Pair> = None;
            for changes in &mut self.changes {
                // Of the same address the newest.
                if let Some(found) = changes.seek(&from)
                    && first.is_none_or(|first| found.address() < first.address())
                {
                    first = Some(found);
                }
            }
            let stored = self.stored(&from)?;
            let change = match (first, stored) {
                (None, None) => return Ok(None),
                (Some(pair), Some((stored, _))) if *pair.address() <= *stored => {
                    Some((pair.address().into(), pair.entry()))
                }
                (Some(pair), None) => Some((pair.address().into(), pair.entry())),
                (_, Some((address, entry))) => Some((address, Some(entry))),
            };
            let Some((address, entry)) = change else { return Ok(None) };
            let mut after = address.to_vec();
            after.push(0);
            self.from = Some(after.into());
            if let Some(entry) = entry {
                return Ok(Some((address, entry)));
            }
        }
        Ok(None)
    }

    /// The first stored entry from an address on.
    fn stored(&mut self, from: &[u8]) -> Result<Option<(Address, Entry)>, StoreError> {
        let Some(block) = &mut self.base else { return Ok(None) };
        while block.entries.front().is_some_and(|(address, _)| **address < *from) {
            block.entries.pop_front();
        }
        if block.entries.is_empty() && !block.ended {
            let next = match block.next.take() {
                Some(next) if *next >= *from => {
                    block.asked = (block.asked * 4).min(BLOCK_ENTRIES);
                    next
                }
                _ => {
                    block.asked = BLOCK_ENTRIES_FIRST;
                    from.into()
                }
            };
            let read = self.view.base.range(self.table, &next, block.asked)?;
            block.ended = !read.more;
            block.next = read.entries.last().map(|(last, _)| [last, &[0][..]].concat().into());
            block.entries = read.entries.into();
        }
        Ok(block.entries.front().cloned())
    }
}

/// The first address of a group, or `None` behind the last.
pub(crate) fn group_start(group: usize, key: &[u8]) -> Option<Address> {
    u8::try_from(group).ok().map(|group| address(group, key))
}
