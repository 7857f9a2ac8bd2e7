//! Tables of a stream's state are emptied, by an outcome of its own.
//!
//! It begins when everything that ran before has an outcome and is applied, and nothing runs until it is durable: so it knows
//! every table that there is, counts what is in them, and nothing of that comes back.

use std::sync::Arc;

use wasmill_buffer::Position;
use wasmill_state::{Layer, TableSpec, TableUse};

use super::{Ran, ReplayError};
use crate::pipeline::commit::{self, Commit};
use crate::pipeline::context::StreamContext;
use crate::pipeline::dead_letters::Changes;
use crate::pipeline::outcome::Counts;
use crate::pipeline::sources::with_causes;
use crate::pipeline::tables::TableName;

/// See the head of this file.
pub(crate) struct Emptying {
    /// This table, or all.
    pub(crate) of: Option<TableName>,
}

impl Emptying {
    /// `processed` is where the stream's outcomes end.
    pub(super) async fn run(
        self,
        context: Arc<StreamContext>,
        processed: u64,
        journal_end: Position,
    ) -> Result<Ran, ReplayError> {
        let job_context = context.clone();
        let stored = context.off_runtime(move || job_context.state.existing()).await;
        let stored = stored.map_err(|_panicked| ReplayError::Worker)?;
        let stored = stored.map_err(|error| ReplayError::State { reason: with_causes(&error) })?;
        let mut tables = stored.map_or_else(Vec::new, |store| store.tables());
        if let Some(of) = &self.of {
            tables.retain(|table| of.is(&table.id));
        }
        let entries = tables.iter().map(|table| table.entries).sum();
        if tables.is_empty() {
            let emptied = self.of.is_none().then_some(entries);
            return Ok(Ran { emptied, ..Ran::default() });
        }
        let committed = Arc::new(commit_of(&context, tables, processed, journal_end)).run(context).await;
        let committed = committed.map_err(|error| ReplayError::Commit { reason: with_causes(&error) })?;
        Ok(Ran { committed: Some(committed), emptied: Some(entries), ..Ran::default() })
    }
}

fn commit_of(
    context: &StreamContext,
    tables: Vec<TableUse>,
    processed: u64,
    journal_end: Position,
) -> Commit {
    // What a plugin writes from here on may have any layout.
    let cleared = tables.into_iter().map(|table| (table.id, TableSpec { version: 0, ..table.spec }));
    Commit {
        from: processed,
        to: processed,
        chain: Vec::new(),
        counts: Counts::default(),
        rows: vec![0; context.outputs.len()],
        due: Vec::new(),
        open: Vec::new(),
        pieces: Vec::new(),
        blobs: Vec::new(),
        letters: Vec::new(),
        replay: Some(commit::Replay { journal_end: journal_end.0, changes: Changes::new(), told: None }),
        state: Arc::new(Layer::clearing(cleared)),
        event_time: None,
        seen: None,
    }
}
