//! [`Chunk`] and [`Setup`] outside a component, backed by `wasmill-chunk`: the host's own semantics in memory.
//!
//! A wrong use that would trap a component (unknown slot, wrong length) panics here; what the host refuses inside
//! `configure` is refused in the host's words.

use std::cell::RefCell;
use std::collections::BTreeMap;

use wasmill_chunk::{CellsRef, ColumnRef, FloatsRef, IntsRef, Misuse, RowsId};

use crate::column::raw;
use crate::{Field, FloatColumn, Floats, IntColumn, Ints, Output, Payloads, Strings, Text, TextColumn};

/// What the transform's config grants: the native counterpart of the host's `setup`.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Names of the stream's outputs in order; the first is the default (number 0).
    pub outputs: Vec<String>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, String>,
    /// Files by name, with their content.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// What `configure` may ask the host for.
pub struct Setup {
    grants: Grants,
    pub(crate) fields: Vec<Vec<String>>,
    tables: usize,
}

impl Setup {
    pub(crate) fn new(grants: Grants) -> Self {
        Self { grants, fields: Vec::new(), tables: 0 }
    }

    /// Declares a field by its object keys, outermost first, verbatim: keys with dots work.
    pub fn field<S: AsRef<str>>(&mut self, path: &[S]) -> Field {
        let path: Vec<String> = path.iter().map(|key| key.as_ref().to_owned()).collect();
        let slot = self.fields.iter().position(|known| *known == path).unwrap_or_else(|| {
            self.fields.push(path);
            self.fields.len() - 1
        });
        Field(row_number(slot))
    }

    /// An output of the stream by name.
    pub fn output(&mut self, name: &str) -> Result<Output, String> {
        match self.grants.outputs.iter().position(|known| known == name) {
            Some(number) => Ok(Output(row_number(number))),
            None => Err(format!(
                "no output is named `{name}`; the stream has {}",
                self.grants.outputs.iter().map(|output| format!("`{output}`")).collect::<Vec<_>>().join(", ")
            )),
        }
    }

    pub(crate) fn declare_table(&mut self, name: &str, version: u32, ttl_ns: u64) -> Result<u32, String> {
        let table = crate::state::declare(self.tables, name, version, ttl_ns)?;
        self.tables += 1;
        Ok(table)
    }

    /// Whether the stream has [event time](crate::event_time).
    pub fn has_event_time(&self) -> bool {
        crate::event_time::tracked()
    }

    /// A secret that the transform's config grants.
    pub fn secret(&mut self, name: &str) -> Result<String, String> {
        self.grants.secrets.get(name).cloned().ok_or_else(|| format!("no secret `{name}` is granted"))
    }

    /// A piece of a granted file; shorter than `len` at its end, empty behind it.
    pub fn file_part(&mut self, name: &str, offset: u64, len: u32) -> Result<Vec<u8>, String> {
        let file = self.grants.files.get(name).ok_or_else(|| format!("no file `{name}` is granted"))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
        let end = start.saturating_add(len as usize).min(file.len());
        Ok(file[start..end].to_vec())
    }
}

/// The rows of one call. See `wit/plugin.wit` for the contract of each method.
pub struct Chunk<'a> {
    host: &'a RefCell<&'a mut wasmill_chunk::Chunk>,
    rows: RowsId,
}

/// A wrong use traps a component; natively it panics with the same words.
fn trap<T>(result: Result<T, Misuse>) -> T {
    match result {
        Ok(value) => value,
        Err(misuse) => panic!("the host would trap this plugin: {misuse}"),
    }
}

fn row_number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

fn own_column(column: ColumnRef<'_>) -> raw::Column {
    raw::Column { data: column.data.to_vec(), ends: column.ends.to_vec() }
}

fn own_cells(cells: CellsRef<'_>) -> raw::Cells {
    raw::Cells { state: cells.state.to_vec(), values: own_column(cells.values) }
}

fn lend_column(column: &raw::Column) -> ColumnRef<'_> {
    ColumnRef { data: &column.data, ends: &column.ends }
}

fn lend_cells(cells: &raw::Cells) -> CellsRef<'_> {
    CellsRef { state: &cells.state, values: lend_column(&cells.values) }
}

impl<'a> Chunk<'a> {
    pub(crate) fn new(host: &'a RefCell<&'a mut wasmill_chunk::Chunk>, rows: RowsId) -> Self {
        Self { host, rows }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        trap(self.host.borrow().len(self.rows)) as usize
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From slice, transform and first offset: the same on every attempt.
    pub fn seed(&self) -> u64 {
        self.host.borrow().seed()
    }

    /// Offset of each row's record in the stream; -1 for fresh rows.
    pub fn offsets(&self) -> Vec<i64> {
        trap(self.host.borrow_mut().offsets(self.rows)).to_vec()
    }

    /// Arrival time of each row in nanoseconds since the epoch.
    pub fn arrival_times(&self) -> Vec<i64> {
        trap(self.host.borrow_mut().arrival_times(self.rows)).to_vec()
    }

    /// The rows' keys.
    pub fn keys(&self) -> Text {
        Text(own_cells(trap(self.host.borrow_mut().keys(self.rows))))
    }

    /// An attribute of the rows.
    pub fn attributes(&self, name: &str) -> Text {
        Text(own_cells(trap(self.host.borrow_mut().attributes(self.rows, name))))
    }

    /// The key group of each row, by the fields that the transform's config names as its `key`: here it names none, and all are
    /// in group 0.
    pub fn groups(&self) -> Vec<u8> {
        vec![0; self.len()]
    }

    /// The event time of each row in nanoseconds since the epoch; missing where no record stands behind it, or its time
    /// cannot be read. Traps in streams without event time.
    pub fn event_times(&self) -> Ints {
        let records = trap(self.host.borrow().records(self.rows));
        let mut times = IntColumn::default();
        for record in records {
            times.push_option(crate::event_time::time(record));
        }
        Ints(times.0)
    }

    /// The watermark when the record of each row came: what is due by it was due before. `i64::MIN` while there is none.
    /// Traps in streams without event time.
    pub fn watermarks(&self) -> Vec<i64> {
        let records = trap(self.host.borrow().records(self.rows));
        records.into_iter().map(crate::event_time::watermark).collect()
    }

    /// The rows' payloads.
    pub fn payloads(&self) -> Payloads {
        Payloads(own_column(trap(self.host.borrow_mut().payloads(self.rows))))
    }

    /// A field's JSON strings, unescaped.
    pub fn text(&self, field: Field) -> Text {
        Text(own_cells(trap(self.host.borrow_mut().get_text(self.rows, field.0))))
    }

    /// A field's values as their JSON text, of any type, verbatim.
    pub fn raw_json(&self, field: Field) -> Text {
        Text(own_cells(trap(self.host.borrow_mut().get_raw(self.rows, field.0))))
    }

    /// A field's JSON numbers as floats.
    pub fn floats(&self, field: Field) -> Floats {
        let mut host = self.host.borrow_mut();
        let FloatsRef { state, values } = trap(host.get_floats(self.rows, field.0));
        Floats(raw::Floats { state: state.to_vec(), values: values.to_vec() })
    }

    /// A field's JSON numbers as integers; a number that is no `i64` is "other".
    pub fn ints(&self, field: Field) -> Ints {
        let mut host = self.host.borrow_mut();
        let IntsRef { state, values } = trap(host.get_ints(self.rows, field.0));
        Ints(raw::Ints { state: state.to_vec(), values: values.to_vec() })
    }

    /// Replaces payloads; only values and "leave alone" are allowed.
    pub fn set_payloads(&self, values: &TextColumn) {
        trap(self.host.borrow_mut().set_payloads(self.rows, lend_cells(&values.0)));
    }

    /// 1 = the row starts from `{}` and gets only the fields set.
    pub fn clear(&self, rows: &[u8]) {
        trap(self.host.borrow_mut().clear(self.rows, rows));
    }

    /// Writes texts; the host escapes.
    pub fn set_text(&self, field: Field, values: &TextColumn) {
        trap(self.host.borrow_mut().set_text(self.rows, field.0, lend_cells(&values.0)));
    }

    /// Writes JSON values, one each.
    pub fn set_raw(&self, field: Field, values: &TextColumn) {
        trap(self.host.borrow_mut().set_raw(self.rows, field.0, lend_cells(&values.0)));
    }

    /// Writes numbers; NaN or infinite fails that row.
    pub fn set_floats(&self, field: Field, values: &FloatColumn) {
        let values = FloatsRef { state: &values.0.state, values: &values.0.values };
        trap(self.host.borrow_mut().set_floats(self.rows, field.0, values));
    }

    /// Writes integers.
    pub fn set_ints(&self, field: Field, values: &IntColumn) {
        let values = IntsRef { state: &values.0.state, values: &values.0.values };
        trap(self.host.borrow_mut().set_ints(self.rows, field.0, values));
    }

    /// Writes keys.
    pub fn set_keys(&self, values: &TextColumn) {
        trap(self.host.borrow_mut().set_keys(self.rows, lend_cells(&values.0)));
    }

    /// Writes an attribute.
    pub fn set_attributes(&self, name: &str, values: &TextColumn) {
        trap(self.host.borrow_mut().set_attributes(self.rows, name, lend_cells(&values.0)));
    }

    /// Sets a partition value, for object names.
    pub fn partition(&self, name: &str, values: &TextColumn) {
        trap(self.host.borrow_mut().partition(self.rows, name, lend_cells(&values.0)));
    }

    /// Sends each row to an output by [`Output::number`]; 0 is the default.
    pub fn route(&self, outputs: &[u32]) {
        trap(self.host.borrow_mut().route(self.rows, outputs));
    }

    /// One byte per row: 1 keep, 0 drop.
    pub fn keep(&self, rows: &[u8]) {
        trap(self.host.borrow_mut().keep(self.rows, rows));
    }

    /// Fails one row with a reason. Calls add up; the first reason of a row stays.
    pub fn fail(&self, row: usize, reason: &str) {
        let ends = [row_number(reason.len())];
        let reasons = ColumnRef { data: reason.as_bytes(), ends: &ends };
        trap(self.host.borrow_mut().fail(self.rows, &[row_number(row)], reasons));
    }

    /// Fails many rows, one reason each.
    pub fn fail_rows(&self, rows: &[u32], reasons: &Strings) {
        trap(self.host.borrow_mut().fail(self.rows, rows, lend_column(&reasons.0)));
    }

    /// New rows, each a copy of its source row as read. Fill them and [`Chunk::emit`] them.
    pub fn derive(&self, sources: &[u32]) -> Chunk<'a> {
        let rows = trap(self.host.borrow_mut().derive(self.rows, sources));
        Chunk::new(self.host, rows)
    }

    /// New rows without a source.
    pub fn fresh(&self, rows: u32) -> Chunk<'a> {
        let rows = trap(self.host.borrow_mut().fresh(rows));
        Chunk::new(self.host, rows)
    }

    /// Appends derived or fresh rows to what leaves this transform.
    pub fn emit(&self, rows: Chunk<'a>) {
        trap(self.host.borrow_mut().emit(rows.rows));
    }
}

impl Drop for Chunk<'_> {
    /// Rows that were derived or made and not emitted are discarded; of emitted ones the host knows nothing more.
    fn drop(&mut self) {
        if self.rows != RowsId::MAIN {
            self.host.borrow_mut().drop_rows(self.rows);
        }
    }
}

/// Keeps a line of the plugin's log; tests capture it, and a native pipeline drops it.
pub(crate) fn write_log(level: crate::log::Level, message: &str) {
    crate::testing::log_line(level, message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setup_what_is_not_granted_is_refused_in_the_hosts_words() {
        let outputs = vec!["main".to_owned(), "side".to_owned()];
        let mut setup = Setup::new(Grants { outputs, ..Grants::default() });
        assert_eq!(setup.secret("nope").unwrap_err(), "no secret `nope` is granted");
        assert_eq!(setup.file_part("nope", 0, 1).unwrap_err(), "no file `nope` is granted");
        let denied = setup.output("nope").unwrap_err();
        assert_eq!(denied, "no output is named `nope`; the stream has `main`, `side`");
        assert_eq!(setup.output("side"), Ok(Output(1)));
    }
}
