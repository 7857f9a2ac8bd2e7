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

/// Bytes of an access-log stamp.
const ACCESS: usize = 26;

/// Whether date and zone are the same. The kept stamp was converted, so its form is right.
#[inline(always)]
fn same_day(text: &[u8; ACCESS], kept: &[u8; ACCESS]) -> bool {
    text.first_chunk::<12>() == kept.first_chunk::<12>() && text.last_chunk::<6>() == kept.last_chunk::<6>()
}

/// Seconds of `hh:mm:ss` behind the date, if that is a time of the day.
#[inline(always)]
fn clock(text: &[u8; ACCESS]) -> Option<i64> {
    let digit = |at: usize| text[at].wrapping_sub(b'0');
    let (h1, h2, m1, m2, s1, s2) = (digit(12), digit(13), digit(15), digit(16), digit(18), digit(19));
    let digits = h1 <= 2 && h2 <= 9 && m1 <= 5 && m2 <= 9 && s1 <= 5 && s2 <= 9;
    let hour = h1 * 10 + h2;
    if !digits || hour > 23 || text[14] != b':' || text[17] != b':' {
        return None;
    }
    Some((i64::from(hour) * 60 + i64::from(m1 * 10 + m2)) * 60 + i64::from(s1 * 10 + s2))
}

/// A time stamp per row.
pub(crate) struct StampColumn {
    field: Field,
    time_as: TimeAs,
    texts: SpanColumn,
    ints: IntColumn,
    kept_from: Vec<u8>,
    /// RFC 3339 text in a buffer long enough to be copied in whole blocks.
    kept_text: [u8; 64],
    kept_len: usize,
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
            kept_text: [0; 64],
            kept_len: 0,
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
            TimeAs::Text | TimeAs::Rfc3339 => self.texts.set(row, &self.kept_text, 0, self.kept_len),
        }
        Ok(())
    }

    /// [`StampColumn::write`] for RFC 3339: where that is asked for the text is only checked, so that no digit of
    /// its fraction is lost.
    pub(crate) fn write_rfc3339(
        &mut self,
        row: usize,
        data: &[u8],
        span: &Range<usize>,
    ) -> Result<(), Unparsable> {
        if self.time_as != TimeAs::Rfc3339 {
            return self.write(row, data, span, wasmill_sdk::time::rfc3339);
        }
        match wasmill_sdk::time::rfc3339(&data[span.clone()]) {
            Some(_) => {
                self.texts.set(row, data, span.start, span.end);
                Ok(())
            }
            None => Err(Unparsable::Bad { what: "time", at: span.start }),
        }
    }

    /// [`StampColumn::write`] for `17/May/2015:10:05:03 +0000`: of a stamp on the same day and in the same zone as
    /// the one before only the clock is converted.
    #[inline(always)]
    pub(crate) fn write_access(
        &mut self,
        row: usize,
        data: &[u8],
        span: &Range<usize>,
    ) -> Result<(), Unparsable> {
        if self.time_as == TimeAs::Text {
            self.texts.set(row, data, span.start, span.end);
            return Ok(());
        }
        if let (Some(text), Some(kept)) = (data[span.clone()].first_chunk(), self.kept_from.first_chunk_mut())
            && span.len() == ACCESS
            && same_day(text, kept)
            && let (Some(seconds), Some(kept_seconds)) = (clock(text), clock(kept))
        {
            // The kept text is `2015-05-17T10:05:03Z`: the clock begins at 11.
            self.kept_text[11..19].copy_from_slice(&text[12..20]);
            self.kept_ms += (seconds - kept_seconds) * 1000;
            kept[12..20].copy_from_slice(&text[12..20]);
            match self.time_as {
                TimeAs::EpochMs => self.ints.set(row, self.kept_ms),
                TimeAs::Text | TimeAs::Rfc3339 => self.texts.set(row, &self.kept_text, 0, self.kept_len),
            }
            return Ok(());
        }
        self.write(row, data, span, wasmill_sdk::time::access)
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
        let mut shown = Vec::with_capacity(KEPT);
        stamp.write_rfc3339(&mut shown);
        self.kept_len = shown.len().min(self.kept_text.len());
        self.kept_text[..self.kept_len].copy_from_slice(&shown[..self.kept_len]);
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
