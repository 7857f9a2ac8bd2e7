//! Columns that are filled by row number from pieces of one source: the fastest way to write what a parser found.
//!
//! Short pieces are copied in fixed blocks of 16 bytes, past their end where there is room, because in a guest a
//! `memcpy` of unknown length is a call. The bytes copied too much are overwritten by the next piece.

use crate::column::TextColumn;

const BLOCK: usize = 16;
/// Above this, one `memcpy` is cheaper than blocks.
const BLOCKS_MAX: usize = 4 * BLOCK;
const VALUE: u8 = 3;

/// A text column whose rows are set in order from spans of a source, usually the chunk's payloads.
#[derive(Debug, Default)]
pub struct SpanColumn {
    /// While rows are being set, `data` is longer than what was written: `at` is where the next value goes.
    column: TextColumn,
    at: usize,
}

impl SpanColumn {
    /// An empty column.
    #[must_use]
    pub const fn new() -> Self {
        Self { column: TextColumn::new(), at: 0 }
    }

    /// Starts a chunk of `rows` rows. Every row must then be set once, in order.
    pub fn start(&mut self, rows: usize) {
        let cells = &mut self.column.0;
        cells.state.clear();
        cells.state.resize(rows, VALUE);
        cells.values.ends.clear();
        cells.values.ends.resize(rows, 0);
        self.at = 0;
    }

    /// Row `row` gets `source[start..end]`.
    #[inline(always)]
    pub fn set(&mut self, row: usize, source: &[u8], start: usize, end: usize) {
        let len = end - start;
        let at = self.at;
        if at + len + BLOCKS_MAX > self.column.0.values.data.len() {
            self.grow(len);
        }
        let data = &mut self.column.0.values.data;
        if len <= BLOCK && start + BLOCK <= source.len() {
            data[at..at + BLOCK].copy_from_slice(&source[start..start + BLOCK]);
        } else if len <= 2 * BLOCK && start + 2 * BLOCK <= source.len() {
            data[at..at + 2 * BLOCK].copy_from_slice(&source[start..start + 2 * BLOCK]);
        } else if len <= BLOCKS_MAX && start + BLOCKS_MAX <= source.len() {
            data[at..at + BLOCKS_MAX].copy_from_slice(&source[start..start + BLOCKS_MAX]);
        } else {
            data[at..at + len].copy_from_slice(&source[start..end]);
        }
        self.at = at + len;
        self.column.0.values.ends[row] = end_of(self.at);
    }

    /// Row `row` gets these bytes.
    pub fn set_bytes(&mut self, row: usize, value: &[u8]) {
        self.set(row, value, 0, value.len());
    }

    #[inline(always)]
    fn set_state(&mut self, row: usize, state: u8) {
        self.column.0.state[row] = state;
        self.column.0.values.ends[row] = end_of(self.at);
    }

    /// Row `row`'s field is left alone.
    #[inline(always)]
    pub fn set_missing(&mut self, row: usize) {
        self.set_state(row, 0);
    }

    /// Row `row`'s field becomes JSON null.
    #[inline(always)]
    pub fn set_null(&mut self, row: usize) {
        self.set_state(row, 1);
    }

    /// The filled column, to hand to the chunk.
    pub fn column(&mut self) -> &TextColumn {
        self.column.0.values.data.truncate(self.at);
        &self.column
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, len: usize) {
        let wanted = self.at + len + 4096;
        let data = &mut self.column.0.values.data;
        // Within the buffer's capacity from earlier chunks this is a short fill, not an allocation.
        data.resize(wanted.max(data.len()), 0);
    }
}

fn end_of(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_spans_of_all_lengths_keeps_them_apart() {
        let source: Vec<u8> = (0..200_u8).collect();
        let mut column = SpanColumn::new();
        for _ in 0..3 {
            column.start(150);
            for row in 0..150 {
                if row % 7 == 3 {
                    column.set_null(row);
                } else {
                    column.set(row, &source, row / 3, row / 3 + row);
                }
            }
            let column = column.column();
            for row in 0..150 {
                let expected = (row % 7 != 3).then(|| &source[row / 3..row / 3 + row]);
                assert_eq!(column.get(row), expected, "row {row}");
            }
        }
    }
}
