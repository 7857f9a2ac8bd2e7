//! [`State`] of the host, through the SDK: what a transform keeps in production, and in tests of the whole plugin.

use std::time::Duration;

use wasmill_sdk::state::{self as sdk, Keys, Scan};
use wasmill_sdk::{Setup, TextColumn};

use crate::state::{Address, Encoded, Range, State, StateFault, Table};

/// Most keys of one call: a quarter of what the host takes.
const KEYS_MAX: usize = 16_384;

/// The tables that a transform has declared.
#[derive(Debug, Default)]
pub struct Host {
    tables: Vec<sdk::Table>,
}

impl Host {
    /// Declares a table whose values have a layout of this version. Entries stay until they are removed.
    ///
    /// # Errors
    /// Why the host refuses it.
    pub fn declare(&mut self, setup: &mut Setup, name: &str, version: u32) -> Result<Table, String> {
        self.declare_for(setup, name, version, None)
    }

    /// The same; entries that were not written for so long, by the arrival of records, are missing and get removed.
    ///
    /// # Errors
    /// Why the host refuses it.
    pub fn declare_for(
        &mut self,
        setup: &mut Setup,
        name: &str,
        version: u32,
        time_to_live: Option<Duration>,
    ) -> Result<Table, String> {
        let table = setup.table(name, version, time_to_live)?;
        let number = u32::try_from(self.tables.len()).unwrap_or(u32::MAX);
        self.tables.push(table);
        Ok(Table(number))
    }

    /// A table by its number. One that was not declared is a mistake of the plugin's, not of a record's.
    fn table(&self, table: Table) -> sdk::Table {
        self.tables[table.0 as usize]
    }
}

fn keys<'a>(addresses: impl Iterator<Item = &'a Address> + Clone) -> Keys {
    let groups = addresses.clone().map(|address| address.group).collect();
    Keys::in_groups(groups, addresses.map(|address| &address.key))
}

impl State for Host {
    fn read(&mut self, table: Table, addresses: &[&Address], each: &mut dyn FnMut(usize, &[u8])) {
        for (part, addresses) in addresses.chunks(KEYS_MAX).enumerate() {
            let values = self.table(table).get(&keys(addresses.iter().copied()));
            for row in 0..values.len() {
                if let Some(value) = values.get(row) {
                    each(part * KEYS_MAX + row, value);
                }
            }
        }
    }

    fn put(&mut self, table: Table, changes: Vec<(Address, Option<Vec<u8>>)>) {
        let mut values = TextColumn::new();
        for changes in changes.chunks(KEYS_MAX) {
            values.clear();
            for (_, value) in changes {
                match value {
                    Some(value) => values.push_bytes(value),
                    None => values.push_remove(),
                }
            }
            self.table(table).put(&keys(changes.iter().map(|(address, _)| address)), &values);
        }
    }

    fn write(
        &mut self,
        table: Table,
        addresses: &[&Address],
        encoded: &mut Encoded<'_>,
    ) -> Result<(), StateFault> {
        let mut values = TextColumn::new();
        for (part, addresses) in addresses.chunks(KEYS_MAX).enumerate() {
            values.clear();
            for number in 0..addresses.len() {
                match encoded(part * KEYS_MAX + number, values.buffer())? {
                    true => values.finish(),
                    false => values.push_remove(),
                }
            }
            self.table(table).put(&keys(addresses.iter().copied()), &values);
        }
        Ok(())
    }

    fn scan(&mut self, table: Table, range: Range<'_>, limit: u32) -> Vec<(Address, Vec<u8>)> {
        let table = self.table(table);
        let Range { from, to, after } = range;
        let mut found: Vec<(Address, Vec<u8>)> = Vec::new();
        // The host hands over a part at a time, and nothing only where there is nothing more.
        loop {
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            let last = found.last().map(|(address, _)| (address.group, address.key.as_slice()));
            let scan = Scan { from, to, after: last.or(after) };
            let entries = if left == 0 { Vec::new() } else { table.scan(scan, left) };
            if entries.is_empty() {
                return found;
            }
            found
                .extend(entries.into_iter().map(|entry| (Address::new(entry.group, entry.key), entry.value)));
        }
    }
}
