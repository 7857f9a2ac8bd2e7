//! Batch in, rows out: what becomes of each record by the query's result.

use wasmill_sdk::{Chunk, Field, Plugin, Setup};

use crate::config::Config;
use crate::database::{Database, Lookup};
use crate::read::Reader;
use crate::results::{Picks, Results};
use crate::table::Rows;

/// The configured plugin.
pub struct Sql {
    reader: Reader,
    database: Database,
    outputs: Vec<Field>,
    keep: bool,
}

impl Plugin for Sql {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config = Config::read(config)?;
        let mut lookups = Vec::new();
        for (name, table) in &config.tables {
            let rows = Rows::read(table, |file| setup.file(file));
            let rows = rows.map_err(|what| format!("table `{name}`: {what}"))?;
            lookups.push(Lookup { name: name.clone(), rows, key: table.key.clone() });
        }
        let columns: Vec<_> =
            config.columns.0.iter().map(|(name, column)| (name.clone(), column.kind)).collect();
        let database = Database::new(&config.query, &columns, &lookups, &config.types)?;
        if config.keep && !database.is_linked {
            return Err(
                "config: `keep`: the rows of this query are of the whole batch, no record with other fields stands behind \
                 them (GROUP BY, DISTINCT, UNION and aggregates make such rows)"
                    .to_owned(),
            );
        }
        // Fields of a result stand in the order in which they are declared.
        let outputs = database.names().map(|name| setup.top(name)).collect();
        let reader = Reader::new(&config.columns, setup);
        Ok(Self { reader, database, outputs, keep: config.keep })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let Some(results) = self.database.run(&self.reader, rows)? else { return Ok(()) };
        if self.database.is_linked {
            self.linked(rows, &results);
        } else {
            self.fresh(rows, &results);
        }
        Ok(())
    }
}

impl Sql {
    /// A record that one row comes of becomes that row; of several rows each is derived of it; one without is dropped.
    fn linked(&self, rows: &Chunk<'_>, results: &Results) {
        let mut of_record: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
        for (at, source) in results.sources.iter().enumerate() {
            if let Some(of_record) = of_record.get_mut(*source) {
                of_record.push(at);
            }
        }
        let keep: Vec<u8> = of_record.iter().map(|results| u8::from(!results.is_empty())).collect();
        let mut picks = Picks::with_capacity(rows.len());
        let (mut sources, mut derived_picks) = (Vec::new(), Picks::new());
        for (row, results) in (0_u32..).zip(&of_record) {
            picks.push(match results.as_slice() {
                [one] => Some(*one),
                _ => None,
            });
            if results.len() > 1 {
                sources.extend(std::iter::repeat_n(row, results.len()));
                derived_picks.extend(results.iter().copied().map(Some));
            }
        }
        if !self.keep {
            let ones: Vec<u8> = picks.iter().map(|pick| u8::from(pick.is_some())).collect();
            rows.clear(&ones);
        }
        results.write(rows, &self.outputs, &picks);
        rows.keep(&keep);
        if !sources.is_empty() {
            let derived = rows.derive(&sources);
            if !self.keep {
                derived.clear(&vec![1; sources.len()]);
            }
            results.write(&derived, &self.outputs, &derived_picks);
            rows.emit(derived);
        }
    }

    /// Rows of the batch; its records end here.
    fn fresh(&self, rows: &Chunk<'_>, results: &Results) {
        rows.keep(&vec![0; rows.len()]);
        if results.rows() == 0 {
            return;
        }
        let fresh = rows.fresh(u32::try_from(results.rows()).unwrap_or(u32::MAX));
        results.write(&fresh, &self.outputs, &(0..results.rows()).map(Some).collect());
        rows.emit(fresh);
    }
}
