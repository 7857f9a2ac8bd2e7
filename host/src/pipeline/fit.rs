//! Rows that do not fit the columns of their output fail their records, as soon as they leave the chain.
//!
//! A record fails as a whole: its other rows are withdrawn with it, so that it is in its dead letter and nowhere else. Of
//! an output whose columns its first batch will decide, rows must be objects; what does not fit is told when it is sealed
//! (`commit.rs`). Where plugins keep state, they ask the same before their changes of it count ([`RowCheck`]): a record that
//! does not fit was never there for the state.

use std::collections::HashSet;
use std::sync::Arc;

use wasmill_chunk::RowCheck;
use wasmill_columnar::Checker;

use super::columns::Columns;
use super::sink::SliceSink;

/// Longest reason; as plugins have it.
const REASON_MAX: usize = 1024;

/// A record with a row that does not fit, or such a row that no record stands behind.
pub(crate) struct Unfit {
    /// Below 0: no record stands behind it.
    pub(crate) offset: i64,
    pub(crate) child: u32,
    /// Number of the output.
    pub(crate) route: u32,
    pub(crate) arrival: i64,
    pub(crate) reason: String,
    /// The first row that does not fit.
    pub(crate) row: Vec<u8>,
}

/// What was withdrawn.
#[derive(Default)]
pub(crate) struct Withdrawn {
    pub(crate) unfit: Vec<Unfit>,
    pub(crate) rows: u64,
}

/// What outputs ask of their rows, as it was when this was made.
pub(crate) struct Checks<'c> {
    /// By output number.
    of_outputs: Vec<Option<Check<'c>>>,
}

impl<'c> Checks<'c> {
    /// `None` where no output has columns.
    pub(crate) fn of(columns: &'c [Option<Arc<Columns>>]) -> Option<Checks<'c>> {
        columns.iter().any(Option::is_some).then(|| {
            let check = |columns: &'c Option<Arc<Columns>>| columns.as_deref().map(Check::of);
            Checks { of_outputs: columns.iter().map(check).collect() }
        })
    }
}

impl RowCheck for Checks<'_> {
    fn check(&mut self, route: u32, row: &[u8]) -> Result<(), String> {
        let Some(check) = self.of_outputs.get_mut(route as usize).and_then(Option::as_mut) else {
            return Ok(());
        };
        check.row(row).map_err(|mut reason| {
            shorten(&mut reason);
            reason
        })
    }
}

/// For a chain.
pub(crate) fn as_check<'a>(checks: &'a mut Option<Checks<'_>>) -> Option<&'a mut dyn RowCheck> {
    checks.as_mut().map(|checks| checks as &mut dyn RowCheck)
}

/// Withdraws records of which a row does not fit. The sink has an index of its rows.
pub(crate) fn withdraw(sink: &mut SliceSink, checks: Option<Checks<'_>>) -> Withdrawn {
    let Some(mut checks) = checks else { return Withdrawn::default() };
    let mut unfit: Vec<Unfit> = Vec::new();
    // Records that failed, and rows without a record.
    let mut failed: HashSet<i64> = HashSet::new();
    let mut alone: Vec<usize> = Vec::new();
    for (number, row) in sink.indexed().enumerate() {
        if row.offset >= 0 && failed.contains(&row.offset) {
            continue;
        }
        let Err(reason) = checks.check(row.route, row.bytes) else { continue };
        if row.offset < 0 {
            alone.push(number);
        } else {
            failed.insert(row.offset);
        }
        let (offset, child, route, arrival) = (row.offset, row.child, row.route, row.arrival);
        unfit.push(Unfit { offset, child, route, arrival, reason, row: row.bytes.to_vec() });
    }
    if unfit.is_empty() {
        return Withdrawn::default();
    }
    let rows = sink.retain(|number, offset| match offset {
        0.. => !failed.contains(&offset),
        _ => alone.binary_search(&number).is_err(),
    });
    Withdrawn { unfit, rows }
}

/// What an output asks of a row.
enum Check<'c> {
    Columns(Box<Checker<'c>>),
    /// There are no columns yet.
    Object,
}

impl Check<'_> {
    fn of(columns: &Columns) -> Check<'_> {
        columns.checker().map_or(Check::Object, |checker| Check::Columns(Box::new(checker)))
    }

    fn row(&mut self, row: &[u8]) -> Result<(), String> {
        match self {
            Check::Columns(checker) => checker.check(row).map_err(|reason| reason.to_string()),
            // It is JSON.
            Check::Object if row.trim_ascii_start().starts_with(b"{") => Ok(()),
            Check::Object => Err("a row takes an object, found another value".to_owned()),
        }
    }
}

/// As long as reasons may be.
pub(crate) fn shorten(reason: &mut String) {
    if reason.len() > REASON_MAX {
        let end = (0..=REASON_MAX).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        reason.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use wasmill_chunk::{Partition, RowMeta, RowSink as _};
    use wasmill_config::{self as config, SchemaSource};
    use wasmill_encode::Format;

    use super::*;
    use crate::pipeline::batch::Rows;

    fn columns(schema: &str) -> Arc<Columns> {
        let parquet = config::Parquet {
            schema: SchemaSource::Columns(schema.to_owned()),
            schema_key: String::new(),
            row_group: 1 << 20,
            page: 1 << 20,
            v2: false,
            case_insensitive: true,
            dots_to_underscores: false,
            keys: std::collections::BTreeMap::new(),
            timestamps: None,
        };
        let none = config::Compression { codec: config::Codec::None, level: 0 };
        Arc::new(Columns::new(&parquet, none).unwrap())
    }

    fn sink(rows: &[(i64, u32, u32, &str)]) -> SliceSink {
        let mut sink = SliceSink::new(vec![Format::Parquet, Format::Ndjson], 5, 0).traced();
        let partition = Partition::default();
        for (offset, child, route, text) in rows {
            let meta = RowMeta {
                offset: *offset,
                child: *child,
                arrival: 100 + offset,
                route: *route,
                partition: &partition,
                key: None,
            };
            sink.begin(&meta).extend_from_slice(text.as_bytes());
            sink.end(&meta);
        }
        sink
    }

    fn left(sink: SliceSink) -> Vec<(u32, u64, u64, String)> {
        let text = |rows: &Rows| match rows {
            Rows::Pending(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Rows::Durable { .. } => panic!(),
        };
        let pieces = sink.into_pieces().into_iter();
        pieces
            .map(|(key, piece)| (key.output, piece.first_offset, piece.records, text(&piece.rows)))
            .collect()
    }

    #[test]
    fn record_of_which_one_row_does_not_fit_is_withdrawn_from_all_outputs() {
        let mut sink = sink(&[
            (5, 0, 0, r#"{"n":"x"}"#),
            (6, 0, 0, r#"{"n":1}"#),
            (6, 1, 1, r#"{"n":"any"}"#),
            (7, 0, 1, r#"{"n":"kept not"}"#),
            (7, 1, 0, r#"{"n":[]}"#),
            (7, 2, 0, r#"{"n":{}}"#),
            (8, 0, 0, r#"{"n":2}"#),
            (-1, 0, 0, r#"{"n":true}"#),
            (-1, 1, 0, r#"{"n":3}"#),
        ]);
        let withdrawn = withdraw(&mut sink, Checks::of(&[Some(columns("n: int64")), None]));
        assert_eq!(withdrawn.rows, 5);
        let told: Vec<(i64, u32, u32)> =
            withdrawn.unfit.iter().map(|unfit| (unfit.offset, unfit.child, unfit.route)).collect();
        assert_eq!(told, [(5, 0, 0), (7, 1, 0), (-1, 0, 0)]);
        assert_eq!(withdrawn.unfit[0].reason, r#"field "n" takes int64, found "x""#);
        assert_eq!(withdrawn.unfit[2].row, br#"{"n":true}"#);
        assert_eq!(
            left(sink),
            [
                (0, 6, 3, "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n".to_owned()),
                (1, 6, 1, "{\"n\":\"any\"}\n".to_owned()),
            ]
        );
    }

    #[test]
    fn line_feeds_of_json_do_not_end_rows() {
        let mut sink = sink(&[(1, 0, 0, "{\"n\":\n1}\n"), (2, 0, 0, "{\"n\":2}\r\n")]);
        assert_eq!(withdraw(&mut sink, Checks::of(&[Some(columns("n: int64")), None])).rows, 0);
        assert_eq!(left(sink), [(0, 1, 2, "{\"n\": 1}\n{\"n\":2}\n".to_owned())]);
    }
}
