//! The `derive` plugin: computed fields, rename, remove and select, in this order.
//!
//! Assignments are evaluated from first to last, and a later one sees what an earlier one set. A result of null
//! writes null. Renames move a value as it is; a field that is missing is not renamed. `select` keeps only the
//! fields that it names, in its order.

mod config;

use wasmill_expr::{Fields, Program, Results};
use wasmill_sdk::{Chunk, Field, Plugin, Setup, TextColumn};

use config::Config;

struct Assignment {
    path: Vec<String>,
    program: Program,
    target: Field,
    /// The number among the expressions' fields, if a later assignment reads the target.
    read_later: Option<usize>,
    results: Results,
}

struct Rename {
    from: Field,
    to: Field,
    to_path: Vec<String>,
}

/// What a selected field is taken from.
enum Source {
    /// Number of the last assignment to it.
    Assigned(usize),
    Field(Field),
}

/// The plugin.
pub struct Derive {
    fields: Fields,
    assignments: Vec<Assignment>,
    renames: Vec<Rename>,
    removes: Vec<Field>,
    select: Option<Vec<(Field, Source)>>,
    ones: Vec<u8>,
    column: TextColumn,
}

impl Plugin for Derive {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config: Config = wasmill_sdk::config::read(config)?;
        // Keys are written in the order in which their fields are declared: those of `select` come first.
        for name in config.select.iter().flatten() {
            setup.field(&path("select", name)?);
        }
        let mut fields = Fields::new();
        let mut compiled = Vec::new();
        for source in &config.set.0 {
            let (path, program) =
                Program::assignment(source, &mut fields).map_err(|error| format!("set: {error}"))?;
            compiled.push((path, program));
        }
        fields.declare(setup);
        let assignments = assignments(compiled, &fields, setup);
        let mut renames = Vec::new();
        for (from, to) in &config.rename.0 {
            let (from, to) = (path("rename", from)?, path("rename", to)?);
            if assignments.iter().any(|assignment| assignment.path == from) {
                return Err(format!(
                    "rename: `{}` is set by an assignment: give that the new name",
                    from.join(".")
                ));
            }
            renames.push(Rename { from: setup.field(&from), to: setup.field(&to), to_path: to });
        }
        let mut removes = Vec::new();
        for name in &config.remove {
            removes.push(setup.field(&path("remove", name)?));
        }
        let select = config.select.map(|names| select(&names, &assignments, &renames, setup)).transpose()?;
        if assignments.is_empty() && renames.is_empty() && removes.is_empty() && select.is_none() {
            return Err("config: one of `set`, `rename`, `remove` and `select` is needed".to_owned());
        }
        let (ones, column) = (Vec::new(), TextColumn::new());
        Ok(Self { fields, assignments, renames, removes, select, ones, column })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let mut columns = self.fields.load(rows);
        for assignment in &mut self.assignments {
            assignment.program.results(&columns, &mut assignment.results);
            if let Some(field) = assignment.read_later {
                columns.assign(field, assignment.results.values());
            }
        }
        if self.select.is_some() {
            self.write_selected(rows, columns.rows());
            return Ok(());
        }
        for assignment in &mut self.assignments {
            assignment.results.write(rows, assignment.target);
        }
        for rename in &self.renames {
            self.column.clear();
            copy(rows, rename.from, &mut self.column);
            rows.set_raw(rename.to, &self.column);
        }
        self.column.clear();
        for _ in 0..columns.rows() {
            self.column.push_remove();
        }
        for field in self.renames.iter().map(|rename| rename.from).chain(self.removes.iter().copied()) {
            rows.set_raw(field, &self.column);
        }
        Ok(())
    }
}

impl Derive {
    /// Rows start from `{}` and get the selected fields alone.
    fn write_selected(&mut self, rows: &Chunk<'_>, count: usize) {
        self.ones.clear();
        self.ones.resize(count, 1);
        rows.clear(&self.ones);
        for (field, source) in self.select.iter().flatten() {
            match source {
                Source::Assigned(number) => self.assignments[*number].results.write(rows, *field),
                Source::Field(from) => {
                    self.column.clear();
                    copy(rows, *from, &mut self.column);
                    rows.set_raw(*field, &self.column);
                }
            }
        }
    }
}

/// A field's values as they are: missing leaves alone, null stays null.
fn copy(rows: &Chunk<'_>, from: Field, column: &mut TextColumn) {
    let values = rows.raw_json(from);
    for cell in values.iter() {
        match cell {
            wasmill_sdk::Cell::Value(value) => column.push_bytes(value),
            wasmill_sdk::Cell::Null => column.push_null(),
            wasmill_sdk::Cell::Missing | wasmill_sdk::Cell::Other => column.push_missing(),
        }
    }
}

fn path(key: &str, source: &str) -> Result<Vec<String>, String> {
    wasmill_expr::field_path(source).map_err(|error| format!("{key}: {error}"))
}

fn assignments(compiled: Vec<(Vec<String>, Program)>, fields: &Fields, setup: &mut Setup) -> Vec<Assignment> {
    let read_later = |number: usize, path: &[String]| {
        let field = fields.find(path)?;
        compiled.iter().skip(number + 1).any(|(_, program)| program.reads(field)).then_some(field)
    };
    let read_later: Vec<_> =
        compiled.iter().enumerate().map(|(number, (path, _))| read_later(number, path)).collect();
    let assign = |((path, program), read_later): ((Vec<String>, Program), Option<usize>)| Assignment {
        target: setup.field(&path),
        path,
        program,
        read_later,
        results: Results::new(),
    };
    compiled.into_iter().zip(read_later).map(assign).collect()
}

fn select(
    names: &[String],
    assignments: &[Assignment],
    renames: &[Rename],
    setup: &mut Setup,
) -> Result<Vec<(Field, Source)>, String> {
    let mut selected = Vec::new();
    for name in names {
        let path = path("select", name)?;
        let field = setup.field(&path);
        let renamed = renames.iter().rev().find(|rename| rename.to_path == path);
        let assigned = assignments.iter().rposition(|assignment| assignment.path == path);
        let source = match (renamed, assigned) {
            (Some(rename), _) => Source::Field(rename.from),
            (None, Some(number)) => Source::Assigned(number),
            (None, None) => Source::Field(field),
        };
        selected.push((field, source));
    }
    Ok(selected)
}

wasmill_sdk::export!(Derive);
