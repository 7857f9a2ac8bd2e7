//! The fields that expressions name, and their values in one chunk, fetched in as few views as the use allows.

use wasmill_sdk::{Cell, Chunk, Field, Floats, Ints, Setup, Text};

use crate::parser::Names;
use crate::value::Value;

/// The attribute that says which of a stream's sources a record came from.
pub(crate) const SOURCE: &str = "wasmill.source";

/// In which views a field is needed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Use {
    pub(crate) text: bool,
    pub(crate) number: bool,
    pub(crate) raw: bool,
    /// Any type may come and must be told apart.
    pub(crate) any: bool,
}

/// The fields of all expressions of one transform.
#[derive(Debug, Default)]
pub struct Fields {
    pub(crate) paths: Vec<Vec<String>>,
    pub(crate) uses: Vec<Use>,
    handles: Vec<Field>,
    pub(crate) times: bool,
    pub(crate) offsets: bool,
    attributes: Vec<String>,
}

impl Names for Fields {
    fn number(&mut self, path: Vec<String>) -> usize {
        if let Some(known) = self.paths.iter().position(|known| *known == path) {
            return known;
        }
        self.paths.push(path);
        self.uses.push(Use::default());
        self.paths.len() - 1
    }
}

impl Fields {
    /// No fields yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that an attribute is read.
    pub(crate) fn attribute(&mut self, name: &str) {
        if !self.attributes.iter().any(|known| known == name) {
            self.attributes.push(name.to_owned());
        }
    }

    /// Declares the fields to the host, once all expressions are compiled.
    pub fn declare(&mut self, setup: &mut Setup) {
        self.handles = self.paths.iter().map(|path| setup.field(path)).collect();
    }

    /// The number of a field by path, if an expression names it.
    #[must_use]
    pub fn find(&self, path: &[String]) -> Option<usize> {
        self.paths.iter().position(|known| known == path)
    }

    /// Paths of the fields that expressions name, in the order of their numbers.
    #[must_use]
    pub fn paths(&self) -> &[Vec<String>] {
        &self.paths
    }

    /// Fetches the fields' columns of a chunk.
    #[must_use]
    pub fn load(&self, rows: &Chunk<'_>) -> Columns {
        let views =
            self.handles.iter().zip(&self.uses).map(|(field, wanted)| View::load(rows, *field, *wanted));
        Columns {
            rows: rows.len(),
            views: views.collect(),
            times: if self.times { rows.arrival_times() } else { Vec::new() },
            offsets: if self.offsets { rows.offsets() } else { Vec::new() },
            attributes: self.attributes.iter().map(|name| (name.clone(), rows.attributes(name))).collect(),
        }
    }
}

/// The values of the fields in one chunk.
#[derive(Debug)]
pub struct Columns {
    pub(crate) rows: usize,
    pub(crate) views: Vec<View>,
    pub(crate) times: Vec<i64>,
    pub(crate) offsets: Vec<i64>,
    attributes: Vec<(String, Text)>,
}

#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) text: Option<Text>,
    pub(crate) ints: Option<Ints>,
    pub(crate) floats: Option<Floats>,
    raw: Option<Text>,
    /// Set by an earlier assignment of the same transform.
    pub(crate) computed: Option<Vec<Value<'static>>>,
}

const OTHER: u8 = 2;

fn has_other(states: &[u8]) -> bool {
    states.contains(&OTHER)
}

impl View {
    fn load(rows: &Chunk<'_>, field: Field, wanted: Use) -> Self {
        let mut view = View::default();
        let state_only = !(wanted.text || wanted.number || wanted.raw || wanted.any);
        if wanted.text || wanted.any || state_only {
            view.text = Some(rows.text(field));
        }
        let text_others = view.text.as_ref().is_some_and(|text| has_other(text.states()));
        if wanted.number || (wanted.any && text_others) {
            let ints = rows.ints(field);
            if has_other(ints.states()) {
                view.floats = Some(rows.floats(field));
            }
            view.ints = Some(ints);
        }
        if wanted.raw || (wanted.any && view.unknown_left()) {
            view.raw = Some(rows.raw_json(field));
        }
        view
    }

    /// Whether some row is neither text nor number.
    fn unknown_left(&self) -> bool {
        let (Some(text), Some(floats)) = (&self.text, &self.floats) else { return false };
        text.states().iter().zip(floats.states()).any(|states| states == (&OTHER, &OTHER))
    }
}

impl Columns {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Replaces a field's values by computed ones: expressions evaluated after this see them.
    pub fn assign(&mut self, field: usize, values: Vec<Value<'static>>) {
        self.views[field] = View { computed: Some(values), ..View::default() };
    }

    /// An attribute, where the row has it.
    pub(crate) fn attribute(&self, name: &str, row: usize) -> Option<Value<'_>> {
        let (_, values) = self.attributes.iter().find(|(known, _)| known == name)?;
        values.get(row).map(|value| Value::Text(String::from_utf8_lossy(value)))
    }

    pub(crate) fn value(&self, field: usize, row: usize) -> Value<'_> {
        let view = &self.views[field];
        if let Some(computed) = &view.computed {
            return computed[row].clone();
        }
        if let Some(text) = &view.text {
            match text.cell(row) {
                Cell::Missing => return Value::Missing,
                Cell::Null => return Value::Null,
                Cell::Value(text) => return Value::Text(String::from_utf8_lossy(text)),
                Cell::Other => {}
            }
        }
        if let Some(ints) = &view.ints {
            match ints.cell(row) {
                Cell::Missing => return Value::Missing,
                Cell::Null => return Value::Null,
                Cell::Value(number) => return Value::Int(number),
                Cell::Other => {}
            }
        }
        if let Some(Cell::Value(number)) = view.floats.as_ref().map(|floats| floats.cell(row)) {
            return Value::float(number);
        }
        match view.raw.as_ref().map(|raw| raw.cell(row)) {
            Some(Cell::Missing) => Value::Missing,
            Some(Cell::Null) => Value::Null,
            Some(Cell::Value(b"true")) => Value::Bool(true),
            Some(Cell::Value(b"false")) => Value::Bool(false),
            Some(Cell::Value(json)) => Value::Json(json),
            Some(Cell::Other) | None => Value::Json(b""),
        }
    }
}
