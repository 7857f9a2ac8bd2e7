//! The column of a time stamp: converts as the config asks, and keeps the last conversion for the next line.

use std::ops::Range;

use serde::Deserialize;
use wasmill_sdk::time::Stamp;
use wasmill_sdk::{Chunk, Field, IntColumn, SpanColumn};

use crate::unparsable::Unparsable;

/// How a time stamp is written into the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TimeAs {
    /// As it stands in the line.
    Text,
    /// `2015-05-17T10:05:03Z`, with the offset of the line.
    #[default]
    Rfc3339,
    /// An integer: milliseconds since 1970-01-01T00:00:00Z.
    EpochMs,
}

/// Stamps longer than this are converted anew each time.
const KEPT: usize = 40;

/// A time stamp per row.
pub(crate) struct StampColumn {
    field: Field,
    time_as: TimeAs,
    texts: SpanColumn,
    ints: IntColumn,
    kept_from: Vec<u8>,
    kept_text: Vec<u8>,
    kept_ms: i64,
}

impl StampColumn {
    pub(crate) fn new(field: Field, time_as: TimeAs) -> Self {
        Self {
            field,
            time_as,
            texts: SpanColumn::new(),
            ints: IntColumn::new(),
            kept_from: Vec::new(),
            kept_text: Vec::new(),
            kept_ms: 0,
        }
    }

    pub(crate) fn start(&mut self, rows: usize) {
        match self.time_as {
            TimeAs::EpochMs => self.ints.start(rows),
            TimeAs::Text | TimeAs::Rfc3339 => self.texts.start(rows),
        }
    }

    /// Sets one row from the text at `span`, which `read` understands.
    #[inline(always)]
    pub(crate) fn write(
        &mut self,
        row: usize,
        data: &[u8],
        span: &Range<usize>,
        read: impl Fn(&[u8]) -> Option<Stamp>,
    ) -> Result<(), Unparsable> {
        if self.time_as == TimeAs::Text {
            self.texts.set(row, data, span.start, span.end);
            return Ok(());
        }
        let text = &data[span.clone()];
        if self.kept_from != text {
            self.convert(text, span.start, read)?;
        }
        match self.time_as {
            TimeAs::EpochMs => self.ints.set(row, self.kept_ms),
            TimeAs::Text | TimeAs::Rfc3339 => self.texts.set_bytes(row, &self.kept_text),
        }
        Ok(())
    }

    #[inline(never)]
    fn convert(
        &mut self,
        text: &[u8],
        at: usize,
        read: impl Fn(&[u8]) -> Option<Stamp>,
    ) -> Result<(), Unparsable> {
        self.kept_from.clear();
        let stamp = read(text).ok_or(Unparsable::Bad { what: "time", at })?;
        self.kept_text.clear();
        stamp.write_rfc3339(&mut self.kept_text);
        self.kept_ms = stamp.epoch_ms();
        if text.len() <= KEPT {
            self.kept_from.extend_from_slice(text);
        }
        Ok(())
    }

    /// The kept conversion may depend on more than the text (a year from the arrival time): forget it.
    pub(crate) fn forget(&mut self) {
        self.kept_from.clear();
    }

    pub(crate) fn null(&mut self, row: usize) {
        match self.time_as {
            TimeAs::EpochMs => self.ints.set_null(row),
            TimeAs::Text | TimeAs::Rfc3339 => self.texts.set_null(row),
        }
    }

    pub(crate) fn missing(&mut self, row: usize) {
        match self.time_as {
            TimeAs::EpochMs => self.ints.set_missing(row),
            TimeAs::Text | TimeAs::Rfc3339 => self.texts.set_missing(row),
        }
    }

    pub(crate) fn set(&mut self, rows: &Chunk<'_>) {
        match self.time_as {
            TimeAs::EpochMs => rows.set_ints(self.field, &self.ints),
            TimeAs::Text | TimeAs::Rfc3339 => rows.set_text(self.field, self.texts.column()),
        }
    }
}
