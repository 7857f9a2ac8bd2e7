//! The interface `state`: tables that a guest declares inside `configure`, and what it reads and writes of them inside
//! `process`.

use wasmill_chunk::{Cells, Column, ColumnRef, Misuse, RowsId, write};
use wasmill_state::{Scan, StateError, TABLES_MAX, group_of};
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Resource, WasmList};
use wasmtime::{AsContext, StoreContext, StoreContextMut};

use super::shapes::{CellsIn, ColumnIn, EntriesOut};
use super::{AbiCause, AbiError, Rows, configuring};
use crate::instance::Guest;
use crate::limits::{KEYS_PER_CALL_MAX, KEYS_PER_LOOK, TABLE_NAME_BYTES_MAX};
use crate::state::{self, Keeping};
use crate::step::Table;

type Store<'a> = StoreContextMut<'a, Guest>;

pub(super) const FUNCTIONS: &[&str] =
    &["table", "groups", "group-of", "get", "versions", "put", "add", "scan"];

#[derive(ComponentType, Lift)]
#[component(record)]
struct PlaceIn {
    group: u8,
    key: WasmList<u8>,
}

pub(super) fn add_to_linker(linker: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    linker.func_wrap("table", |mut store: Store<'_>, (name, version, ttl): (String, u32, u64)| {
        let guest = configuring(&mut store, "state.table")?;
        Ok((declare(guest, name, version, ttl),))
    })?;
    linker.func_wrap("groups", |mut store: Store<'_>, (rows,): (Resource<Rows>,)| {
        let guest = store.data_mut();
        // Behind the guest's own slots.
        let first = u32::try_from(guest.declared.fields.len()).unwrap_or(u32::MAX);
        let fields = u32::try_from(guest.grants.state.key.len()).unwrap_or(u32::MAX);
        let trap = |cause| AbiError::trap("state.groups", cause);
        let Some(chunk) = guest.chunk.as_deref_mut() else { return Err(trap(AbiCause::NoChunk)) };
        let groups = state::groups(chunk, RowsId(rows.rep()), first, fields);
        let groups = groups.map_err(|misuse| trap(AbiCause::Misuse(misuse)))?;
        Ok((guest.out.byte_list(&groups),))
    })?;
    linker.func_wrap("group-of", |mut store: Store<'_>, (keys,): (ColumnIn,)| {
        let groups: Vec<u8> = {
            let store = store.as_context();
            let keys = keys.view(&store);
            let checked = keys.check(keys.len());
            checked.map_err(|misuse| AbiError::trap("state.group-of", AbiCause::Misuse(misuse)))?;
            keys.iter().map(group_of).collect()
        };
        Ok((store.data_mut().out.byte_list(&groups),))
    })?;
    linker.func_wrap("get", |mut store: Store<'_>, asked: (u32, WasmList<u8>, ColumnIn)| {
        let (table, groups, keys) = asked;
        let mut cells = Cells::default();
        keeping(&mut store, "state.get", table, |keeping, table, store, limit| {
            let places = places(groups.as_le_slice(store), keys.view(store))?;
            keeping.state.fetch(table, places.clone()).map_err(AbiCause::State)?;
            keeping.state.get_many(table, places, |value| {
                in_time(store, cells.state.len())?;
                cells.push_option(value);
                bounded(cells.values.data.len(), limit)
            })
        })?;
        Ok((store.data_mut().out.cells(cells.as_ref()),))
    })?;
    linker.func_wrap("versions", |mut store: Store<'_>, asked: (u32, WasmList<u8>, ColumnIn)| {
        let (table, groups, keys) = asked;
        let mut versions = Vec::new();
        keeping(&mut store, "state.versions", table, |keeping, table, store, _| {
            let places = places(groups.as_le_slice(store), keys.view(store))?;
            keeping.state.fetch(table, places.clone()).map_err(AbiCause::State)?;
            for (number, (group, key)) in places.enumerate() {
                in_time(store, number)?;
                let version = keeping.state.version_of(table, group, key).map_err(AbiCause::State)?;
                versions.push(version.unwrap_or(0));
            }
            Ok(())
        })?;
        Ok((versions,))
    })?;
    linker.func_wrap("put", |mut store: Store<'_>, asked: (u32, WasmList<u8>, ColumnIn, CellsIn)| {
        let (table, groups, keys, values) = asked;
        keeping(&mut store, "state.put", table, |keeping, table, store, _| {
            let keys = keys.view(store);
            let values = values.view(store);
            values.check(keys.len()).map_err(AbiCause::Misuse)?;
            let places = places(groups.as_le_slice(store), keys)?;
            // What is written is only looked at to count it.
            if keeping.state.room().is_some() {
                keeping.state.fetch(table, places.clone()).map_err(AbiCause::State)?;
            }
            let rows = places.zip(values.state).zip(values.values.iter());
            let change = |(number, (((group, key), what), value)): (usize, (((u8, _), &u8), _))| {
                let value = match *what {
                    write::LEAVE => return in_time(store, number).err().map(Err),
                    write::REMOVE => None,
                    write::VALUE => Some(value),
                    _ => {
                        let text = "state has no null: 3 put, 2 remove, 0 leave alone";
                        return Some(Err(AbiCause::Text(text)));
                    }
                };
                Some(in_time(store, number).map(|()| (group, key, value)))
            };
            keeping.state.put_many(table, rows.enumerate().filter_map(change))
        })
    })?;
    linker.func_wrap(
        "add",
        |mut store: Store<'_>, asked: (u32, WasmList<u8>, ColumnIn, WasmList<i64>)| {
            let (table, groups, keys, deltas) = asked;
            let mut sums = Vec::new();
            keeping(&mut store, "state.add", table, |keeping, table, store, _| {
                let (keys, deltas) = (keys.view(store), deltas.as_le_slice(store));
                same_length(keys.len(), deltas.len())?;
                let places = places(groups.as_le_slice(store), keys)?;
                keeping.state.fetch(table, places.clone()).map_err(AbiCause::State)?;
                let rows = places.zip(deltas);
                for (number, ((group, key), delta)) in rows.enumerate() {
                    in_time(store, number)?;
                    sums.push(keeping.state.add(table, group, key, *delta).map_err(AbiCause::State)?);
                }
                Ok(())
            })?;
            Ok((store.data_mut().out.int_list(&sums),))
        },
    )?;
    type Asked = (u32, WasmList<u8>, WasmList<u8>, Option<PlaceIn>, u32);
    linker.func_wrap("scan", |mut store: Store<'_>, (table, from, to, after, limit): Asked| {
        let mut found = None;
        keeping(&mut store, "state.scan", table, |keeping, table, store, _| {
            let after = after.as_ref().map(|place| (place.group, place.key.as_le_slice(store)));
            let scan = Scan {
                from: from.as_le_slice(store),
                to: to.as_le_slice(store),
                after,
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            };
            let keys = [Some(scan.from), Some(scan.to), after.map(|(_, key)| key)];
            let too_long =
                keys.into_iter().flatten().map(<[u8]>::len).find(|len| *len > wasmill_state::KEY_BYTES_MAX);
            if let Some(bytes) = too_long {
                return Err(AbiCause::State(StateError::KeyTooLong { bytes }));
            }
            let mut overdue = None;
            let scanned = keeping.state.scan(table, scan, || {
                overdue = store.data().in_time().err();
                overdue.is_none()
            });
            found = Some(scanned.map_err(|error| overdue.map_or(AbiCause::State(error), AbiCause::Overdue))?);
            Ok(())
        })?;
        let found = found.unwrap_or_default();
        let (mut keys, mut values) = (Column::default(), Column::default());
        found.keys.iter().for_each(|key| keys.push(key));
        found.values.iter().for_each(|value| values.push(value));
        Ok((EntriesOut::new(found.groups, keys, values),))
    })
}

/// A refusal is a text for whoever wrote the config.
fn declare(guest: &mut Guest, name: String, version: u32, ttl_ns: u64) -> Result<u32, String> {
    if !guest.asked.manifest.grants.state {
        return Err(
            "no state is granted: the plugin's manifest does not ask for it (\"grants\": {\"state\": true})"
                .to_owned(),
        );
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !(1..=TABLE_NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
        let name = crate::fault::cut_text(&name, TABLE_NAME_BYTES_MAX);
        return Err(format!(
            "{name:?} is no name of a table: 1 to {TABLE_NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"
        ));
    }
    let tables = &mut guest.declared.tables;
    if tables.iter().any(|table| table.name == name) {
        return Err(format!("the table {name:?} is declared twice"));
    }
    if tables.len() >= TABLES_MAX {
        return Err(format!("more than {TABLES_MAX} tables are declared"));
    }
    tables.push(Table { name, version, ttl_ns });
    Ok(u32::try_from(tables.len() - 1).unwrap_or(u32::MAX))
}

/// Runs a call on a table: state leaves the store for the time of it, so that guest memory can be read in place.
fn keeping(
    store: &mut Store<'_>,
    function: &'static str,
    table: u32,
    call: impl FnOnce(&mut Keeping, usize, &StoreContext<'_, Guest>, usize) -> Result<(), AbiCause>,
) -> wasmtime::Result<()> {
    let limit = store.data().output_bytes();
    let Some(mut keeping) = store.data_mut().keeping.take() else {
        return Err(AbiError::trap(function, AbiCause::Text("may be called inside process only")));
    };
    let result = match keeping.table(table) {
        Some(table) => call(&mut keeping, table, &store.as_context(), limit),
        None => Err(AbiCause::Text("a number that state.table did not return")),
    };
    store.data_mut().keeping = Some(keeping);
    result.map_err(|cause| AbiError::trap(function, cause))
}

/// Group and key of each entry.
fn places<'a>(
    groups: &'a [u8],
    keys: ColumnRef<'a>,
) -> Result<impl Iterator<Item = (u8, &'a [u8])> + Clone, AbiCause> {
    keys.check(keys.len()).map_err(AbiCause::Misuse)?;
    same_length(keys.len(), groups.len())?;
    if keys.len() > KEYS_PER_CALL_MAX {
        return Err(AbiCause::TooManyKeys { keys: keys.len(), limit: KEYS_PER_CALL_MAX });
    }
    let too_long = keys.iter().map(<[u8]>::len).find(|bytes| *bytes > wasmill_state::KEY_BYTES_MAX);
    if let Some(bytes) = too_long {
        return Err(AbiCause::State(StateError::KeyTooLong { bytes }));
    }
    Ok(groups.iter().copied().zip(keys.iter()))
}

fn same_length(one: usize, other: usize) -> Result<(), AbiCause> {
    if one == other { Ok(()) } else { Err(AbiCause::Lengths) }
}

/// A call on the host is not interrupted, so it looks at the clock itself.
fn in_time(store: &StoreContext<'_, Guest>, number: usize) -> Result<(), AbiCause> {
    if number % KEYS_PER_LOOK == KEYS_PER_LOOK - 1 {
        store.data().in_time().map_err(AbiCause::Overdue)?;
    }
    Ok(())
}

fn bounded(bytes: usize, limit: usize) -> Result<(), AbiCause> {
    if bytes <= limit { Ok(()) } else { Err(AbiCause::Misuse(Misuse::TooLarge { limit })) }
}
