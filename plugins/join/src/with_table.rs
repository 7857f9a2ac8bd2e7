//! Records with the rows of a table: each record once for every row of its key.

use wasmill_keyed::key::{Part, part};
use wasmill_sdk::path::Path;
use wasmill_sdk::{Chunk, Field, Setup, Text, TextColumn};

use crate::config::{Format, Kind, TableConfig};
use crate::table::{Table, push_key};

/// The configured join.
#[derive(Debug)]
pub struct WithTable {
    table: Table,
    on: Vec<Field>,
    into: Field,
    keeps: bool,
}

impl WithTable {
    /// Reads the table.
    pub fn new(config: &TableConfig, setup: &mut Setup) -> Result<Self, String> {
        if config.on.is_empty() {
            return Err("config: `on` needs a field".to_owned());
        }
        let keeps = match config.kind {
            Kind::Inner => false,
            Kind::Left => true,
            Kind::Right | Kind::Full => {
                return Err(
                    "config: a table is joined `inner` or `left`: a stream has no end at which its rows without a record \
                     could be given"
                        .to_owned(),
                );
            }
        };
        if !config.separator.is_ascii() || matches!(config.separator, '"' | '\n' | '\r') {
            return Err("config: `separator` is one ASCII character, no quote and no line end".to_owned());
        }
        let (text, format) = match (&config.file, &config.csv, &config.ndjson) {
            (Some(file), None, None) => (setup.file(file)?, config.format),
            (None, Some(csv), None) => (csv.clone().into_bytes(), Format::Csv),
            (None, None, Some(ndjson)) => (ndjson.clone().into_bytes(), Format::Ndjson),
            _ => return Err("config: exactly one of `file`, `csv` and `ndjson` is needed".to_owned()),
        };
        if text.len() > config.max_bytes {
            return Err(format!("table: longer than {} bytes (`max_bytes`)", config.max_bytes));
        }
        let table = match format {
            Format::Csv => Table::csv(&text, config),
            Format::Ndjson => Table::ndjson(&text, config),
        };
        let mut on = Vec::new();
        for name in config.on.keys() {
            let path = Path(name.split('.').map(str::to_owned).collect());
            if path.0.iter().any(String::is_empty) {
                return Err(format!("config: `on`: {name:?} is no field: it has an empty key"));
            }
            on.push(setup.field(&path.0));
        }
        Ok(Self {
            table: table.map_err(|fault| format!("table: {fault}"))?,
            on,
            into: setup.field(&config.into.0),
            keeps,
        })
    }

    /// Joins a chunk.
    pub fn process(&self, rows: &Chunk<'_>) {
        if rows.is_empty() {
            return;
        }
        let columns: Vec<(Text, Option<Text>)> = self
            .on
            .iter()
            .map(|field| {
                let text = rows.text(*field);
                let raw = text.states().contains(&2).then(|| rows.raw_json(*field));
                (text, raw)
            })
            .collect();
        let (mut first, mut keep) = (TextColumn::new(), Vec::with_capacity(rows.len()));
        let (mut sources, mut all) = (Vec::new(), TextColumn::new());
        let mut key = Vec::new();
        for row in 0..rows.len() {
            key.clear();
            let has_key = columns.iter().all(|(text, raw)| match part(text, raw.as_ref(), row) {
                Part::Text(value) => {
                    push_key(&mut key, value);
                    true
                }
                Part::Json(value) if !matches!(value.first(), Some(b'{' | b'[')) => {
                    push_key(&mut key, value);
                    true
                }
                _ => false,
            });
            let found = self.table.find(if has_key { &key } else { &[] });
            keep.push(u8::from(self.keeps || found.len() > 0));
            match found.len() {
                0 => first.push_null(),
                1 => found.for_each(|row| first.push_bytes(row)),
                _ => {
                    first.push_missing();
                    for found in found {
                        sources.push(u32::try_from(row).unwrap_or(u32::MAX));
                        all.push_bytes(found);
                    }
                }
            }
        }
        rows.set_raw(self.into, &first);
        rows.keep(&keep);
        if !sources.is_empty() {
            let derived = rows.derive(&sources);
            derived.set_raw(self.into, &all);
            rows.emit(derived);
        }
    }
}
