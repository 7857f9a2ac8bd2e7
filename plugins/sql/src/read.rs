//! From the rows of a chunk to rows of the table `batch`. A record that is no object, or has a value of another type than its
//! column, fails here, and the query does not see it.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Statement, ToSql};
use wasmill_sdk::{Cell, Chunk, Field, Floats, Ints, Setup, Text, is_object};

use crate::config::{Column, Named};
use crate::kind::Kind;

/// The fields that records are read from.
pub(crate) struct Reader {
    columns: Vec<(Field, Kind, String)>,
}

/// A column of a chunk.
enum Values {
    Text(Text),
    Ints(Ints),
    Floats(Floats),
    /// With them as they are stored; `None`: of another type.
    Others(Text, Vec<Option<Value>>),
}

/// The state where there is no value.
const MISSING: u8 = 0;
/// The state of a value that is there and of another type.
const OTHER: u8 = 2;

impl Values {
    fn read(rows: &Chunk<'_>, field: Field, kind: Kind) -> Values {
        match kind {
            Kind::Text => Values::Text(rows.text(field)),
            Kind::Int => Values::Ints(rows.ints(field)),
            Kind::Float => Values::Floats(rows.floats(field)),
            Kind::Bool | Kind::Decimal | Kind::Json => {
                let of = |cell: Cell<&[u8]>| match cell {
                    Cell::Value(json) => std::str::from_utf8(json).ok().and_then(|json| match kind {
                        // What the host hands over as a value is one.
                        Kind::Json => Some(Value::Text(json.to_owned())),
                        _ => kind.of_json(json),
                    }),
                    Cell::Missing | Cell::Null | Cell::Other => Some(Value::Null),
                };
                let texts = rows.raw_json(field);
                let values = texts.iter().map(of).collect();
                Values::Others(texts, values)
            }
        }
    }

    fn states(&self) -> &[u8] {
        match self {
            Values::Text(values) | Values::Others(values, _) => values.states(),
            Values::Ints(values) => values.states(),
            Values::Floats(values) => values.states(),
        }
    }

    fn is_missing(&self, row: usize) -> bool {
        self.states().get(row) == Some(&MISSING)
    }

    /// Whether a row has a value of another type.
    fn is_other(&self, row: usize) -> bool {
        match self {
            Values::Others(_, values) => values.get(row).is_some_and(Option::is_none),
            _ => self.states().get(row) == Some(&OTHER),
        }
    }

    fn get(&self, row: usize) -> Given<'_> {
        let value = match self {
            Values::Text(values) => values.get(row).map(ValueRef::Text),
            Values::Ints(values) => values.get(row).map(ValueRef::Integer),
            Values::Floats(values) => values.get(row).map(ValueRef::Real),
            Values::Others(_, values) => values.get(row).and_then(Option::as_ref).map(ValueRef::from),
        };
        Given(value.unwrap_or(ValueRef::Null))
    }
}

/// A value that is bound without a copy.
struct Given<'a>(ValueRef<'a>);

impl ToSql for Given<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

impl Reader {
    pub(crate) fn new(columns: &Named<Column>, setup: &mut Setup) -> Self {
        let of = |(name, column): &(String, Column)| {
            let field = match &column.path {
                Some(path) => setup.field(&path.0),
                None => setup.top(name),
            };
            (field, column.kind, name.clone())
        };
        Self { columns: columns.0.iter().map(of).collect() }
    }

    /// Inserts the rows, each under its number in the chunk; those that are no objects or have values of another type fail. The
    /// count of the others.
    pub(crate) fn insert(&self, rows: &Chunk<'_>, statement: &mut Statement<'_>) -> rusqlite::Result<usize> {
        let columns: Vec<Values> =
            self.columns.iter().map(|(field, kind, _)| Values::read(rows, *field, *kind)).collect();
        let mut inserted = 0;
        // Of a record that is no object every field is missing: payloads are looked at only then.
        let mut payloads = None;
        for row in 0..rows.len() {
            if columns.iter().all(|values| values.is_missing(row))
                && !is_object(payloads.get_or_insert_with(|| rows.payloads()).get(row))
            {
                rows.fail(row, "the record is not a JSON object");
                continue;
            }
            if let Some(wrong) = columns.iter().position(|values| values.is_other(row)) {
                if let Some((_, kind, name)) = self.columns.get(wrong) {
                    rows.fail(row, &format!("column `{name}`: the value is no {}", kind.wanted()));
                }
                continue;
            }
            statement.raw_bind_parameter(1_usize, i64::try_from(row).unwrap_or(i64::MAX))?;
            for (number, values) in (2_usize..).zip(&columns) {
                statement.raw_bind_parameter(number, values.get(row))?;
            }
            statement.raw_execute()?;
            inserted += 1;
        }
        Ok(inserted)
    }
}
