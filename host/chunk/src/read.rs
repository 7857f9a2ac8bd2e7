//! What a guest reads of the rows: the reading calls of the WIT interface.
//!
//! Rows that were derived read what their source rows have. Refuses to see pending writes: those are in `stage`.

use crate::cells::{Cells, CellsRef, Column, ColumnRef, Floats, FloatsRef, Ints, IntsRef, state};
use crate::chunk::{Chunk, RowsId};
use crate::error::Misuse;
use crate::input::ChunkLimits;
use crate::table::Row;
use crate::verdict::NO_INPUT;

/// Results of reads that are not kept.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    cells: Cells,
    column: Column,
    floats: Floats,
    ints: Ints,
}

impl Chunk {
    pub fn len(&self, rows: RowsId) -> Result<u32, Misuse> {
        Ok(self.turn.groups[self.group(rows)?].rows)
    }

    pub fn is_empty(&self, rows: RowsId) -> Result<bool, Misuse> {
        Ok(self.len(rows)? == 0)
    }

    /// What one turn may write.
    pub fn limits(&self) -> ChunkLimits {
        self.limits
    }

    pub fn seed(&self) -> u64 {
        self.turn.seed
    }

    pub fn offsets(&mut self, rows: RowsId) -> Result<&[i64], Misuse> {
        self.times(rows, -1, |row| row.offset)
    }

    pub fn arrival_times(&mut self, rows: RowsId) -> Result<&[i64], Misuse> {
        self.times(rows, self.arrival, |row| row.arrival)
    }

    fn times(&mut self, rows: RowsId, fresh: i64, of: impl Fn(&Row) -> i64) -> Result<&[i64], Misuse> {
        let group = self.group(rows)?;
        self.times.clear();
        if group == 0 {
            self.times.extend(self.table.rows.iter().map(of));
        } else {
            let (rows, roots) = (&self.table.rows, &self.turn.groups[group].roots);
            self.times.extend(roots.iter().map(|&root| rows.get(root as usize).map_or(fresh, &of)));
        }
        Ok(&self.times)
    }

    /// Which record of the chunk stands behind each row, counted from 0; [`NO_INPUT`] behind rows that were made.
    pub fn records(&self, rows: RowsId) -> Result<Vec<u32>, Misuse> {
        let group = self.group(rows)?;
        if group == 0 {
            return Ok(self.table.rows.iter().map(|row| row.input).collect());
        }
        let of_root = |&root: &u32| self.table.rows.get(root as usize).map_or(NO_INPUT, |row| row.input);
        Ok(self.turn.groups[group].roots.iter().map(of_root).collect())
    }

    pub fn keys(&mut self, rows: RowsId) -> Result<CellsRef<'_>, Misuse> {
        let group = self.group(rows)?;
        self.side(group, None)
    }

    pub fn attributes(&mut self, rows: RowsId, name: &str) -> Result<CellsRef<'_>, Misuse> {
        let group = self.group(rows)?;
        self.side(group, Some(name))
    }

    fn side(&mut self, group: usize, name: Option<&str>) -> Result<CellsRef<'_>, Misuse> {
        let store = match name {
            None => self.table.keys.as_ref(),
            Some(name) => {
                self.table.attributes.iter().find(|(known, _)| **known == *name).map(|(_, store)| store)
            }
        };
        let cells = &mut self.scratch.cells;
        cells.clear();
        let of = |row: usize| store.and_then(|store| store.cells().get(self.table.mapped(store.epoch, row)?));
        if group == 0 {
            (0..self.table.rows.len()).for_each(|row| cells.push_option(of(row)));
            return Ok(cells.as_ref());
        }
        for &root in &self.turn.groups[group].roots {
            // As with payloads.
            if cells.values.data.len() > self.limits.output_bytes {
                return Err(Misuse::TooLarge { limit: self.limits.output_bytes });
            }
            cells.push_option(if root == NO_INPUT { None } else { of(root as usize) });
        }
        Ok(cells.as_ref())
    }

    pub fn payloads(&mut self, rows: RowsId) -> Result<ColumnRef<'_>, Misuse> {
        let group = self.group(rows)?;
        let all = self.table.payloads(&self.layout);
        if group == 0 {
            return Ok(all);
        }
        let column = &mut self.scratch.column;
        column.clear();
        for &root in &self.turn.groups[group].roots {
            // Sources may be named many times; what a guest can take in bounds what it can ask for.
            if column.data.len() > self.limits.output_bytes {
                return Err(Misuse::TooLarge { limit: self.limits.output_bytes });
            }
            column.push(if root == NO_INPUT { b"{}" } else { all.get(root as usize) });
        }
        Ok(column.as_ref())
    }

    /// Unescaped text of JSON strings.
    pub fn get_text(&mut self, rows: RowsId, slot: u32) -> Result<CellsRef<'_>, Misuse> {
        let (group, column) = (self.group(rows)?, self.column(slot)?);
        let all = self.table.text(&self.layout, column);
        if group == 0 {
            return Ok(all);
        }
        gather(all, &self.turn.groups[group].roots, &mut self.scratch.cells, self.limits.output_bytes)
    }

    /// JSON text of any value; state 1 without text for `null`.
    pub fn get_raw(&mut self, rows: RowsId, slot: u32) -> Result<CellsRef<'_>, Misuse> {
        let (group, column) = (self.group(rows)?, self.column(slot)?);
        let all = self.table.raw(&self.layout, column);
        if group == 0 {
            return Ok(all);
        }
        gather(all, &self.turn.groups[group].roots, &mut self.scratch.cells, self.limits.output_bytes)
    }

    /// The nearest float of JSON numbers; beyond the largest float the state is 2.
    pub fn get_floats(&mut self, rows: RowsId, slot: u32) -> Result<FloatsRef<'_>, Misuse> {
        let (group, column) = (self.group(rows)?, self.column(slot)?);
        let all = self.table.floats(&self.layout, column);
        if group == 0 {
            return Ok(all);
        }
        let floats = &mut self.scratch.floats;
        floats.state.clear();
        floats.values.clear();
        for &root in &self.turn.groups[group].roots {
            floats.state.push(all.state.get(root as usize).copied().unwrap_or(state::MISSING));
            floats.values.push(all.values.get(root as usize).copied().unwrap_or_default());
        }
        Ok(floats.as_ref())
    }

    /// JSON numbers that are exactly an s64, in whatever form they are written; others have state 2.
    pub fn get_ints(&mut self, rows: RowsId, slot: u32) -> Result<IntsRef<'_>, Misuse> {
        let (group, column) = (self.group(rows)?, self.column(slot)?);
        let all = self.table.ints(&self.layout, column);
        if group == 0 {
            return Ok(all);
        }
        let ints = &mut self.scratch.ints;
        ints.state.clear();
        ints.values.clear();
        for &root in &self.turn.groups[group].roots {
            ints.state.push(all.state.get(root as usize).copied().unwrap_or(state::MISSING));
            ints.values.push(all.values.get(root as usize).copied().unwrap_or_default());
        }
        Ok(ints.as_ref())
    }
}

fn gather<'a>(
    all: CellsRef<'_>,
    roots: &[u32],
    cells: &'a mut Cells,
    limit: usize,
) -> Result<CellsRef<'a>, Misuse> {
    cells.clear();
    for &root in roots {
        if cells.values.data.len() > limit {
            return Err(Misuse::TooLarge { limit });
        }
        match root {
            NO_INPUT => cells.push(state::MISSING, b""),
            root => cells.push(all.state[root as usize], all.values.get(root as usize)),
        }
    }
    Ok(cells.as_ref())
}
