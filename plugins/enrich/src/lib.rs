//! The `enrich` plugin: adds columns of look-up tables to records, by exact key, by network of an IP address, or by
//! the longest prefix.
//!
//! Tables come with the config or from a granted file and are read once, when the transform is configured. Every
//! cell is prepared then, so that a record costs one look-up and a few copies. A table with a mistake refuses the
//! transform; a record never sees half a table. All look-ups of a transform read the record as it came in: one that
//! needs the result of another belongs into a transform of its own.

pub mod cidr;
pub mod config;
pub mod exact;
pub mod fault;
pub mod prefix;
pub mod table;
pub mod values;

pub use wasmill_csv as csv;

use config::{Config, Format, LOOKUPS_MAX, Lookup, Otherwise, Source};
use exact::NONE;
use table::{PART, Table};
use values::Scratch;
use wasmill_sdk::path::Path;
use wasmill_sdk::{Cell, Chunk, Field, Plugin, Setup};

/// The configured plugin.
pub struct Enrich {
    lookups: Vec<Ready>,
    hits: Vec<u32>,
    scratch: Scratch,
}

/// A look-up with its table.
struct Ready {
    field: Field,
    table: Table,
    targets: Vec<Field>,
    /// The reason that fails records without a match.
    fail: Option<String>,
    /// Whether a record without a match stays as it is.
    leave: bool,
}

impl Plugin for Enrich {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config: Config = wasmill_sdk::config::read(config)?;
        if config.lookups.is_empty() || config.lookups.len() > LOOKUPS_MAX {
            return Err(format!("config: `lookups` needs 1 to {LOOKUPS_MAX} entries"));
        }
        let mut written: Vec<Path> = Vec::new();
        let mut lookups = Vec::with_capacity(config.lookups.len());
        for lookup in &config.lookups {
            let name = lookup.name.clone().unwrap_or_else(|| lookup.field.shown());
            lookups.push(
                ready(lookup, &name, &mut written, setup)
                    .map_err(|what| format!("lookup `{name}`: {what}"))?,
            );
        }
        Ok(Self { lookups, hits: Vec::new(), scratch: Scratch::default() })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        for lookup in &mut self.lookups {
            self.hits.clear();
            if lookup.find(rows, &mut self.hits) {
                for (values, field) in lookup.table.columns.iter().zip(&lookup.targets) {
                    values.write(&self.hits, *field, rows, &mut self.scratch);
                }
            }
        }
        Ok(())
    }
}

impl Ready {
    /// Fills in the row that each record hits; `false` if there is nothing to write.
    fn find(&mut self, rows: &Chunk<'_>, hits: &mut Vec<u32>) -> bool {
        let text = rows.text(self.field);
        // Numbers and booleans are looked up by their JSON text; nearly no chunk has any.
        let raw = text.states().contains(&2).then(|| rows.raw_json(self.field));
        let mut found = false;
        for row in 0..text.len() {
            let hit = match text.cell(row) {
                Cell::Value(value) => self.table.find(value),
                Cell::Other => match raw.as_ref().and_then(|raw| raw.get(row)) {
                    Some(value) if !matches!(value.first(), Some(b'{' | b'[')) => self.table.find(value),
                    _ => NONE,
                },
                Cell::Missing | Cell::Null => NONE,
            };
            if hit == NONE {
                if let Some(reason) = &self.fail {
                    rows.fail(row, reason);
                }
                hits.push(self.table.otherwise);
            } else {
                found = true;
                hits.push(hit);
            }
        }
        found || !self.leave
    }
}

fn ready(lookup: &Lookup, name: &str, written: &mut Vec<Path>, setup: &mut Setup) -> Result<Ready, String> {
    let format = check(lookup)?;
    let field = setup.field(&lookup.field.0);
    let mut targets = Vec::new();
    for (_, target) in &lookup.copy.0 {
        let mut path = lookup.into.clone().map_or_else(Vec::new, |into| into.0);
        path.extend_from_slice(&target.0);
        let clash = |other: &&Path| other.0.starts_with(&path) || path.starts_with(&other.0);
        if let Some(other) = written.iter().find(clash) {
            return Err(format!("field `{}` is written twice (also as `{}`)", path.join("."), other.shown()));
        }
        targets.push(setup.field(&path));
        written.push(Path(path));
    }
    let table = match &lookup.table {
        Source { file: Some(file), .. } => {
            table::load(lookup, format, &mut |offset| setup.file_part(file, offset, PART))
        }
        Source { csv: Some(text), .. } | Source { ndjson: Some(text), .. } => inline(lookup, format, text),
        Source { rows: Some(rows), .. } => {
            // A value may be written over several lines in the config; as NDJSON it is one.
            let flat = |row: &serde_json::value::RawValue| row.get().replace(['\n', '\r'], " ");
            let lines: Vec<String> = rows.iter().map(|row| flat(row)).collect();
            inline(lookup, format, &lines.join("\n"))
        }
        Source { .. } => return Err(SOURCE.to_owned()),
    }
    .map_err(|fault| format!("table: {fault}"))?;
    let fail = (lookup.otherwise == Otherwise::Fail)
        .then(|| format!("lookup `{name}`: the value of `{}` is not in the table", lookup.field.shown()));
    let leave = matches!(lookup.otherwise, Otherwise::Leave | Otherwise::Fail);
    Ok(Ready { field, table, targets, fail, leave })
}

fn inline(lookup: &Lookup, format: Format, text: &str) -> Result<Table, fault::TableFault> {
    table::load(lookup, format, &mut |offset| {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        let end = start.saturating_add(PART as usize).min(text.len());
        Ok(text.as_bytes()[start..end].to_vec())
    })
}

const SOURCE: &str = "`table` needs exactly one of `file`, `csv`, `ndjson`, `rows`";

/// Refuses combinations that mean nothing and says which format the table has.
fn check(lookup: &Lookup) -> Result<Format, String> {
    let table = &lookup.table;
    let sources = [table.file.is_some(), table.csv.is_some(), table.ndjson.is_some(), table.rows.is_some()];
    if sources.iter().filter(|given| **given).count() != 1 {
        return Err(SOURCE.to_owned());
    }
    if table.format.is_some() && table.file.is_none() {
        return Err("`format` belongs to `file`".to_owned());
    }
    let format = match (&table.csv, &table.file) {
        (Some(_), _) => Format::Csv,
        (None, Some(_)) => table.format.unwrap_or(Format::Csv),
        (None, None) => Format::Ndjson,
    };
    if format == Format::Ndjson {
        if lookup.key.is_none() {
            return Err("`key` must name the column of the keys, since rows are objects".to_owned());
        }
        if table.separator.is_some() || table.columns.is_some() || !table.types.is_empty() {
            return Err("`separator`, `columns` and `types` belong to CSV".to_owned());
        }
    }
    if let Some(separator) = table.separator
        && (!separator.is_ascii() || matches!(separator, '"' | '\n' | '\r'))
    {
        return Err("`separator` is one ASCII character and neither a quote nor a line end".to_owned());
    }
    if table.columns.as_ref().is_some_and(Vec::is_empty) {
        return Err("`columns` is empty".to_owned());
    }
    if lookup.copy.0.is_empty() && lookup.otherwise != Otherwise::Fail {
        return Err("`copy` is empty, so the look-up would do nothing".to_owned());
    }
    if !lookup.defaults.is_empty() && lookup.otherwise != Otherwise::Default {
        return Err("`defaults` belongs to `otherwise = \"default\"`".to_owned());
    }
    Ok(format)
}

wasmill_sdk::export!(Enrich);
