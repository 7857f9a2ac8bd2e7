//! Event time of a slice's records, as whoever runs the slice has read it, and the part of it that one call sees.
//!
//! Nothing is read or judged here. A watermark never falls within a slice, and what a row sees of it does not depend on
//! how the slice is cut.

use crate::report::Slice;
use crate::worker::Part;

/// Stands for a time that a record does not have, and for a watermark before there is one.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// Event times of one input, a value for each row, nanoseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub struct RowTimes<'a> {
    /// The least number: none.
    pub times: &'a [i64],
    /// The watermark when the record came.
    pub watermarks: &'a [i64],
}

/// Event time of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    /// By input of the slice.
    pub rows: &'a [RowTimes<'a>],
    /// The watermark of which the transforms know.
    pub before: i64,
    /// The watermark behind the last record.
    pub after: i64,
    /// They are told of it even where it has not moved.
    pub due: bool,
    /// Arrival of rows that the transforms make when they are told, nanoseconds since the epoch.
    pub arrival: i64,
}

impl Times<'_> {
    /// The watermark when the record at this place came; behind the last one, that after the slice.
    pub(crate) fn watermark_at(&self, slice: &Slice<'_>, place: Option<(usize, usize)>) -> i64 {
        let Some((input, row)) = place else { return self.after };
        let later = slice.inputs.iter().enumerate().skip(input);
        let mut row = row;
        for (number, input) in later {
            if row < input.payloads.ends.len() {
                let rows = self.rows.get(number).and_then(|rows| rows.watermarks.get(row));
                return rows.copied().unwrap_or(self.after);
            }
            row = 0;
        }
        self.after
    }

    /// What a call on these parts sees.
    pub(crate) fn of_chunk(&self, slice: &Slice<'_>, parts: &[Part]) -> CallClock {
        let mut clock = CallClock::default();
        for part in parts {
            if let Some(rows) = self.rows.get(part.input) {
                clock.times.extend(rows.times.get(part.rows.clone()).unwrap_or_default());
                clock.watermarks.extend(rows.watermarks.get(part.rows.clone()).unwrap_or_default());
            }
        }
        clock.after = self.watermark_at(slice, parts.last().map(|part| (part.input, part.rows.end)));
        clock
    }
}

/// What a call of a guest sees of event time.
#[derive(Debug, Default)]
pub(crate) struct CallClock {
    /// By record of the chunk.
    times: Vec<i64>,
    watermarks: Vec<i64>,
    after: i64,
    /// The call is one of `on-watermark`.
    pub(crate) is_on_watermark: bool,
    /// The guest has more to do at this watermark.
    pub(crate) more: bool,
}

impl CallClock {
    /// Of calls in which the transforms are told of a watermark.
    pub(crate) fn on_watermark(ns: i64) -> CallClock {
        CallClock { after: ns, ..CallClock::default() }
    }

    pub(crate) fn time(&self, record: u32) -> i64 {
        self.times.get(record as usize).copied().unwrap_or(NO_TIME)
    }

    pub(crate) fn watermark(&self, record: u32) -> i64 {
        self.watermarks.get(record as usize).copied().unwrap_or(self.after)
    }
}

#[cfg(test)]
mod tests {
    use wasmill_chunk::{ColumnRef, Input};

    use super::*;

    #[test]
    fn chunk_sees_the_watermark_behind_its_last_record_however_it_is_cut() {
        let ends = [1, 2, 3];
        let input = |first| Input::of_payloads(first, ColumnRef { data: b"abc", ends: &ends });
        let inputs = [input(0), Input::of_payloads(3, ColumnRef { data: b"", ends: &[] }), input(3)];
        let slice = Slice { id: 0, stream_seed: 0, inputs: &inputs };
        let (one, two) = ([10, 20, 30], [40, NO_TIME, 60]);
        let (before, later) = ([0, 10, 20], [30, 40, 40]);
        let none = RowTimes { times: &[], watermarks: &[] };
        let rows = [
            RowTimes { times: &one, watermarks: &before },
            none,
            RowTimes { times: &two, watermarks: &later },
        ];
        let times = Times { rows: &rows, before: 0, after: 60, due: false, arrival: 0 };
        let part = |input, rows| Part { input, rows };
        let clock = times.of_chunk(&slice, &[part(0, 1..3)]);
        assert_eq!((clock.time(0), clock.watermark(0), clock.watermark(1), clock.after), (20, 10, 20, 30));
        let clock = times.of_chunk(&slice, &[part(0, 2..3), part(2, 0..2)]);
        assert_eq!((clock.time(1), clock.time(2), clock.watermark(2), clock.after), (40, NO_TIME, 40, 40));
        let clock = times.of_chunk(&slice, &[part(2, 2..3)]);
        assert_eq!(clock.after, 60);
        // No record stands behind a row.
        assert_eq!((clock.time(u32::MAX), clock.watermark(u32::MAX)), (NO_TIME, 60));
    }
}
