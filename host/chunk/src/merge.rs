//! Columns of a turn become columns of the table: moved where that is right, merged where it is not.
//!
//! Owns the maps from rows that are left to rows of earlier turns. Refuses to touch base texts.

use std::sync::Arc;

use crate::cells::{state, write};
use crate::chunk::Chunk;
use crate::staged::Staged;
use crate::store::{Kind, Store, Value, bit};
use crate::table::NO_ROW;
use crate::verdict::NO_INPUT;

/// Where a row that goes on comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picked {
    pub(crate) group: u32,
    /// In the group.
    pub(crate) row: u32,
    /// Row of the chunk that it is, or is a copy of; [`NO_INPUT`]: none.
    pub(crate) root: u32,
}

impl Chunk {
    /// `picked`: the rows that go on; `None`: all rows of the chunk, in place.
    pub(crate) fn merge_field(&mut self, groups: &[usize], slot: u32, picked: Option<&[Picked]>) {
        let column = self.layout.slots[self.turn.transform][slot as usize] as usize;
        let written =
            |staged: &Staged| staged.field(slot).is_some_and(|store| store.mask & !bit(write::LEAVE) != 0);
        if !groups.iter().any(|&group| written(&self.turn.groups[group].staged)) {
            return;
        }
        let turn = self.table.turn();
        let old = self.table.overlays[column].is_some();
        let staged = &mut self.turn.groups[0].staged;
        let covers = staged.field(slot).is_some_and(|store| store.mask & bit(write::LEAVE) == 0);
        let merged = if groups.len() == 1 && (!old || covers) {
            let Some(at) = staged.fields.iter().position(|(known, _)| *known == slot) else { return };
            let (_, mut store) = staged.fields.swap_remove(at);
            store.epoch = turn;
            store
        } else {
            let mut merged = self.table.store();
            let stores = groups.iter().filter_map(|&group| self.turn.groups[group].staged.field(slot));
            let stores = stores.chain(self.table.overlays[column].as_ref());
            let mut kind = None;
            let mut clean = true;
            for store in stores {
                clean &= store.clean;
                kind = match kind {
                    None => Some(store.kind),
                    Some(kind) if kind == store.kind => Some(kind),
                    Some(_) => Some(Kind::Raw),
                };
            }
            merged.reset(kind.unwrap_or_default());
            let fields: Vec<(usize, Option<&Store>)> =
                groups.iter().map(|&group| (group, self.turn.groups[group].staged.field(slot))).collect();
            self.merge_rows(&fields, picked, &mut merged, |root| self.table.overlay(column, root));
            merged.clean = clean;
            merged.epoch = turn + 1;
            merged
        };
        match self.table.overlays[column].replace(merged) {
            Some(old) => self.table.pool.push(old),
            None => self.table.order.push(column as u32),
        }
    }

    /// The key (`name` none) or an attribute.
    pub(crate) fn merge_side(
        &mut self,
        groups: &[usize],
        name: Option<&Arc<str>>,
        picked: Option<&[Picked]>,
    ) {
        fn of<'a>(staged: &'a Staged, name: Option<&Arc<str>>) -> Option<&'a Store> {
            match name {
                None => staged.keys.as_ref(),
                Some(name) => {
                    staged.attributes.iter().find(|(known, _)| known == name).map(|(_, store)| store)
                }
            }
        }
        if !groups.iter().any(|&group| of(&self.turn.groups[group].staged, name).is_some()) {
            return;
        }
        let mut merged = self.table.store();
        merged.reset(Kind::Text);
        let at = name.and_then(|name| self.table.attributes.iter().position(|(known, _)| known == name));
        let old = match name {
            None => self.table.keys.as_ref(),
            Some(_) => at.map(|at| &self.table.attributes[at].1),
        };
        let cells: Vec<(usize, Option<&Store>)> =
            groups.iter().map(|&group| (group, of(&self.turn.groups[group].staged, name))).collect();
        self.merge_rows(&cells, picked, &mut merged, |root| {
            let found = old.and_then(|old| Some((old, self.table.mapped(old.epoch, root)?)));
            match found {
                Some((old, at)) if old.state[at] == state::VALUE => (write::VALUE, Some(old.value(at))),
                _ => (write::LEAVE, None),
            }
        });
        merged.only_values();
        merged.epoch = self.table.turn() + 1;
        let replaced = match (name, at) {
            (None, _) => self.table.keys.replace(merged),
            (Some(_), Some(at)) => Some(std::mem::replace(&mut self.table.attributes[at].1, merged)),
            (Some(name), None) => {
                self.table.attributes.push((name.clone(), merged));
                None
            }
        };
        self.table.pool.extend(replaced);
    }

    /// Appends, for every row that goes on, what was staged for it, else what it had.
    fn merge_rows<'a>(
        &'a self,
        staged: &[(usize, Option<&'a Store>)],
        picked: Option<&[Picked]>,
        merged: &mut Store,
        had: impl Fn(usize) -> (u8, Option<Value<'a>>),
    ) {
        let mut push = |store: Option<&'a Store>, row: usize, root: u32| {
            let (op, value) = match store {
                Some(store) if store.state[row] != write::LEAVE => {
                    let op = store.state[row];
                    (op, (op == write::VALUE).then(|| store.value(row)))
                }
                _ if root == NO_INPUT => (write::LEAVE, None),
                _ => had(root as usize),
            };
            merged.push(op, value);
        };
        match picked {
            None => {
                let store = staged.first().and_then(|(_, store)| *store);
                (0..self.turn.groups[0].rows).for_each(|row| push(store, row as usize, row));
            }
            Some(picked) => {
                let mut current = (usize::MAX, None);
                for pick in picked {
                    if current.0 != pick.group as usize {
                        let found = staged.iter().find(|(group, _)| *group == pick.group as usize);
                        current = (pick.group as usize, found.and_then(|(_, store)| *store));
                    }
                    push(current.1, pick.row as usize, pick.root);
                }
            }
        }
    }

    /// Opens the next turn's rows: columns of earlier turns are found through maps.
    pub(crate) fn remap(&mut self, picked: Option<&[Picked]>) {
        let turn = self.table.turn();
        if let Some(picked) = picked {
            let table = &self.table;
            let overlays = table.order.iter().filter_map(|&column| table.overlays[column as usize].as_ref());
            let mut used = vec![false; turn + 2];
            for store in overlays.chain(table.sides()) {
                used[store.epoch] = true;
            }
            for (epoch, _) in used.iter().enumerate().take(turn + 1).filter(|(_, used)| **used) {
                let mut map = Vec::with_capacity(picked.len());
                if epoch == turn {
                    // Columns that were staged are here only if nothing was emitted (else they were merged);
                    // what was gathered by a read belongs to derived rows too.
                    map.extend(picked.iter().map(|pick| pick.root));
                } else {
                    map.extend(picked.iter().map(|pick| match pick.root {
                        NO_INPUT => NO_ROW,
                        root => self.table.mapped(epoch, root as usize).map_or(NO_ROW, |row| row as u32),
                    }));
                }
                self.table.maps[epoch] = Some(map);
            }
        }
        self.table.maps.push(None);
    }
}
