//! Columns whose names come from the config: texts that are converted to the type that the config gives them.

use std::collections::BTreeMap;

use serde::Deserialize;
use wasmill_sdk::{Chunk, Field, FloatColumn, IntColumn, Setup, TextColumn};

use crate::unparsable::Unparsable;

/// What a text is converted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Type {
    #[default]
    Text,
    Int,
    Float,
    Bool,
    /// Any JSON value, written as it stands.
    Json,
}

/// Names to types.
pub(crate) type Types = BTreeMap<String, Type>;

enum Values {
    Text(TextColumn),
    Int(IntColumn),
    Float(FloatColumn),
    Raw(TextColumn),
}

struct Column {
    name: String,
    field: Field,
    ty: Type,
    values: Values,
}

/// One column per name.
pub(crate) struct Typed {
    columns: Vec<Column>,
    rows: usize,
}

impl Typed {
    /// Declares the names as fields. A type for a name that is not there is refused with the nearest one.
    pub(crate) fn new(names: &[String], types: &Types, setup: &mut Setup) -> Result<Self, String> {
        for name in types.keys() {
            if !names.contains(name) {
                let nearest = wasmill_sdk::config::nearest(name, names.iter().map(String::as_str));
                let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
                return Err(format!("config: types: no field is named `{name}`{hint}"));
            }
        }
        for (number, name) in names.iter().enumerate() {
            if names.iter().take(number).any(|known| known == name) {
                return Err(format!("config: the name `{name}` occurs twice"));
            }
        }
        let column = |name: &String| {
            let ty = types.get(name).copied().unwrap_or_default();
            let values = match ty {
                Type::Text => Values::Text(TextColumn::new()),
                Type::Int => Values::Int(IntColumn::new()),
                Type::Float => Values::Float(FloatColumn::new()),
                Type::Bool | Type::Json => Values::Raw(TextColumn::new()),
            };
            Column { name: name.clone(), field: setup.top(name), ty, values }
        };
        Ok(Self { columns: names.iter().map(column).collect(), rows: 0 })
    }

    /// Number of columns.
    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    /// The number of the column with this name. Few enough names that a search beats a hash.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        self.columns.iter().position(|column| column.name.as_bytes() == name)
    }

    pub(crate) fn start(&mut self) {
        self.rows = 0;
        for column in &mut self.columns {
            match &mut column.values {
                Values::Text(values) | Values::Raw(values) => values.clear(),
                Values::Int(values) => values.clear(),
                Values::Float(values) => values.clear(),
            }
        }
    }

    /// Sets a column of the current row; the first value of a row stays. An empty text is null unless the type is
    /// text. `at` is for the message.
    pub(crate) fn set(&mut self, number: usize, text: &[u8], at: usize) -> Result<(), Unparsable> {
        let rows = self.rows;
        let column = &mut self.columns[number];
        let bad = |wanted: &'static str| Unparsable::Type {
            field: column.name.clone(),
            wanted,
            value: String::from_utf8_lossy(text).into_owned(),
            at,
        };
        let utf8 = || std::str::from_utf8(text).ok();
        match &mut column.values {
            Values::Text(values) if values.len() == rows => values.push_bytes(text),
            Values::Int(values) if values.len() == rows => match (text, utf8()) {
                (b"" | b"-", _) => values.push_null(),
                (_, text) => {
                    values.push(text.and_then(|text| text.parse().ok()).ok_or_else(|| bad("integer"))?)
                }
            },
            Values::Float(values) if values.len() == rows => match (text, utf8()) {
                (b"" | b"-", _) => values.push_null(),
                (_, text) => {
                    let number =
                        text.and_then(|text| text.parse().ok()).filter(|number: &f64| number.is_finite());
                    values.push(number.ok_or_else(|| bad("number"))?);
                }
            },
            Values::Raw(values) if values.len() == rows => match (column.ty, text) {
                (_, b"" | b"-") => values.push_null(),
                (Type::Bool, b"true" | b"True" | b"TRUE" | b"1" | b"yes" | b"on") => values.push("true"),
                (Type::Bool, b"false" | b"False" | b"FALSE" | b"0" | b"no" | b"off") => values.push("false"),
                (Type::Bool, _) => return Err(bad("truth value")),
                _ => values.push_bytes(text),
            },
            _ => {}
        }
        Ok(())
    }

    /// Sets a column of the current row to null.
    pub(crate) fn set_null(&mut self, number: usize) {
        let rows = self.rows;
        match &mut self.columns[number].values {
            Values::Text(values) | Values::Raw(values) if values.len() == rows => values.push_null(),
            Values::Int(values) if values.len() == rows => values.push_null(),
            Values::Float(values) if values.len() == rows => values.push_null(),
            _ => {}
        }
    }

    /// Ends the row: what was not set is missing.
    pub(crate) fn end_row(&mut self) {
        self.rows += 1;
        for column in &mut self.columns {
            match &mut column.values {
                Values::Text(values) | Values::Raw(values) => values.pad(self.rows),
                Values::Int(values) => values.pad(self.rows),
                Values::Float(values) => values.pad(self.rows),
            }
        }
    }

    /// Ends the row with nothing in it.
    pub(crate) fn void_row(&mut self) {
        let rows = self.rows;
        for column in &mut self.columns {
            match &mut column.values {
                Values::Text(values) | Values::Raw(values) if values.len() > rows => values.pop(),
                Values::Int(values) if values.len() > rows => values.pop(),
                Values::Float(values) if values.len() > rows => values.pop(),
                _ => {}
            }
        }
        self.end_row();
    }

    /// Hands the columns to the host.
    pub(crate) fn write(&self, rows: &Chunk<'_>) {
        for column in &self.columns {
            match &column.values {
                Values::Text(values) => rows.set_text(column.field, values),
                Values::Raw(values) => rows.set_raw(column.field, values),
                Values::Int(values) => rows.set_ints(column.field, values),
                Values::Float(values) => rows.set_floats(column.field, values),
            }
        }
    }
}
