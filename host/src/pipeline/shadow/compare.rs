//! One slice under two versions: the fate of each record, side by side.
//!
//! What it compares is what would leave the stream: the rows as their output's format wants them, and where they go. The
//! order of rows of one record counts, the order of records does not differ.

use super::report::{Difference, Sample, ShadowReport};
use crate::pipeline::fate::{Fate, Rows, shown};
use crate::pipeline::sink::Trace;

/// What one version made of a slice.
pub(super) struct Made<'a> {
    pub(super) trace: &'a Trace,
    /// By offset: what failed, and why.
    pub(super) failed: &'a [(i64, String)],
}

fn difference(live: &Fate<'_>, candidate: &Fate<'_>) -> Option<Difference> {
    match (live.reason, candidate.reason) {
        (Some(_), Some(_)) => return None,
        (None, Some(_)) => return Some(Difference::Failed),
        (Some(_), None) => return Some(Difference::Mended),
        (None, None) => {}
    }
    if live.rows.is_empty() != candidate.rows.is_empty() {
        return Some(if live.rows.is_empty() { Difference::Kept } else { Difference::Dropped });
    }
    let mut pairs = live.rows.iter().zip(candidate.rows);
    let same_bytes = live.rows.len() == candidate.rows.len()
        && pairs.clone().all(|(one, other)| live.trace.bytes(one) == candidate.trace.bytes(other));
    if !same_bytes {
        return Some(Difference::Changed);
    }
    let same_place = pairs.all(|(one, other)| live.trace.key(one) == candidate.trace.key(other));
    (!same_place).then_some(Difference::Elsewhere)
}

/// Adds a slice to the report. `records` are its offsets and bytes, in order.
pub(super) fn compare<'a>(
    report: &mut ShadowReport,
    records: impl Iterator<Item = (i64, &'a [u8])>,
    live: &Made<'_>,
    candidate: &Made<'_>,
) {
    let (mut live, mut candidate) =
        (Rows::new(live.trace, live.failed), Rows::new(candidate.trace, candidate.failed));
    report.own_rows_live += live.own();
    report.own_rows_candidate += candidate.own();
    for (offset, before) in records {
        let (live, candidate) = (live.fate(offset), candidate.fate(offset));
        report.records += 1;
        match difference(&live, &candidate) {
            None => report.same += 1,
            Some(difference) => report.differs(difference, || Sample {
                difference,
                offset,
                before: shown(before),
                live: live.side(),
                candidate: candidate.side(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmill_transform::Digest;

    use super::{Difference, Made, ShadowReport, Trace, compare};

    /// Rows `(offset, output, text)`.
    fn trace(rows: &[(i64, u32, &str)]) -> Trace {
        Trace::of(["a", "b"].map(str::to_owned).into(), rows)
    }

    /// Rows, and what failed.
    type Side<'a> = (&'a [(i64, u32, &'a str)], &'a [(i64, String)]);

    fn compared(records: i64, live: Side<'_>, candidate: Side<'_>) -> ShadowReport {
        let mut report = ShadowReport::new("s", "p", Digest([0; 32]), Digest([1; 32]), 100);
        let (one, other) = (trace(live.0), trace(candidate.0));
        let records: Vec<(i64, Vec<u8>)> =
            (7..7 + records).map(|n| (n, format!("record {n}").into())).collect();
        compare(
            &mut report,
            records.iter().map(|(offset, bytes)| (*offset, &bytes[..])),
            &Made { trace: &one, failed: live.1 },
            &Made { trace: &other, failed: candidate.1 },
        );
        report
    }

    fn counts(report: &ShadowReport) -> Vec<u64> {
        report.differences.values().copied().collect()
    }

    #[test]
    fn record_with_the_same_rows_in_the_same_place_is_the_same() {
        let rows = [(7, 0, "x"), (8, 1, "y"), (8, 0, "z")];
        let report = compared(3, (&rows, &[]), (&rows, &[]));
        assert_eq!((report.records, report.same, counts(&report)), (3, 3, vec![0; 6]));
        assert!(report.samples.is_empty());
    }

    #[test]
    fn every_kind_of_difference_is_counted_and_shown_once() {
        let no = |offset| vec![(offset, "no".to_owned())];
        let live: &[_] = &[(8, 0, "dropped"), (9, 0, "old"), (10, 0, "moved"), (11, 0, "fails")];
        let candidate: &[_] = &[(7, 0, "kept"), (9, 0, "new"), (10, 1, "moved"), (12, 0, "mended")];
        let report = compared(6, (live, &no(12)), (candidate, &no(11)));
        assert_eq!((report.same, counts(&report)), (0, vec![1; 6]));
        let kinds: Vec<_> = report.samples.iter().map(|sample| (sample.difference, sample.offset)).collect();
        use Difference::*;
        assert_eq!(
            kinds,
            [(Kept, 7), (Dropped, 8), (Changed, 9), (Elsewhere, 10), (Failed, 11), (Mended, 12)]
        );
        let changed = &report.samples[2];
        assert_eq!(
            (&*changed.before, &changed.live.rows, &changed.candidate.rows),
            ("record 9", &vec!["a: old".to_owned()], &vec!["a: new".to_owned()])
        );
        assert_eq!(report.samples[4].candidate.reason.as_deref(), Some("no"));
    }

    #[test]
    fn more_or_other_rows_of_one_record_are_a_change_and_their_order_counts() {
        let report = compared(
            2,
            (&[(7, 0, "x"), (7, 0, "y"), (8, 0, "x")], &[]),
            (&[(7, 0, "y"), (7, 0, "x"), (8, 0, "x"), (8, 0, "x")], &[]),
        );
        assert_eq!(report.differences[&Difference::Changed], 2);
    }

    #[test]
    fn rows_of_their_own_are_counted_apart() {
        let report = compared(
            1,
            (&[(-1, 0, "sum"), (7, 0, "x")], &[]),
            (&[(7, 0, "x"), (-1, 0, "sum"), (-1, 0, "sum")], &[]),
        );
        assert_eq!((report.same, report.own_rows_live, report.own_rows_candidate), (1, 1, 2));
    }

    #[test]
    fn samples_are_bounded_in_number_and_length() {
        let long = "x".repeat(100_000);
        let rows: Vec<_> = (7..107).map(|n| (n, 0, &*long)).collect();
        let report = compared(100, (&rows, &[]), (&[], &[]));
        assert_eq!((report.samples.len(), report.differences[&Difference::Dropped]), (5, 100));
        assert!(serde_json::to_string(&report).unwrap().len() < 10_000);
    }
}
