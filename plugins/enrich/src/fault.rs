//! What can be wrong with a table, and where.
//!
//! Texts name the line, the column and the cell, shortened; they never repeat a whole row.

use crate::cidr::NetworkFault;
use crate::csv::{CsvFault, Place};
use crate::table::ROW_MAX;

/// What is wrong with a table.
#[derive(Debug, thiserror::Error)]
pub enum TableFault {
    /// It could not be read.
    #[error("{0}")]
    Read(String),
    /// It is longer than allowed.
    #[error("longer than {max} bytes (`max_bytes`)")]
    TooLong {
        /// The bound.
        max: u64,
    },
    /// No header line.
    #[error("no header line; give `columns` if the table has none")]
    NoHeader,
    /// A column that the config names is not there.
    #[error("no column `{name}`{hint}")]
    NoColumn {
        /// The name.
        name: String,
        /// A name that is there.
        hint: String,
    },
    /// Something at a place.
    #[error("line {}, column {}: {fault}", .place.line, .place.column)]
    At {
        /// Where.
        place: Place,
        /// What.
        fault: RowFault,
    },
}

/// What is wrong with a row.
#[derive(Debug, thiserror::Error)]
pub enum RowFault {
    /// A row longer than [`ROW_MAX`].
    #[error("the row is longer than {ROW_MAX} bytes")]
    TooLong,
    /// No CSV.
    #[error("{0}")]
    Csv(CsvFault),
    /// More or fewer fields than columns.
    #[error("the row has {found} fields, the table has {expected} columns")]
    Fields {
        /// Fields of the row.
        found: usize,
        /// Columns of the table.
        expected: usize,
    },
    /// A column name twice.
    #[error("column `{0}` is there twice")]
    ColumnTwice(String),
    /// Bytes that are no UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// No JSON object.
    #[error("{0}")]
    Json(String),
    /// A cell is not of its column's type.
    #[error("`{text}` in column `{column}` is no {kind}")]
    Type {
        /// The cell, shortened.
        text: String,
        /// The column's name.
        column: String,
        /// What was expected.
        kind: &'static str,
    },
    /// A row without a key.
    #[error("no key: `{0}` is missing or neither a string, a number nor a boolean")]
    NoKey(String),
    /// A key that is no network.
    #[error("`{text}`: {fault}")]
    Network {
        /// The key, shortened.
        text: String,
        /// Why.
        fault: NetworkFault,
    },
    /// The same key again.
    #[error("key `{key}` is already on line {line} (`duplicates` says what to do)")]
    Duplicate {
        /// The key, shortened.
        key: String,
        /// Where it was first.
        line: u32,
    },
    /// More than a table can hold.
    #[error("more rows or bytes than a table can hold")]
    Full,
}

impl RowFault {
    pub(crate) fn at(self, place: Place) -> TableFault {
        TableFault::At { place, fault: self }
    }
}
