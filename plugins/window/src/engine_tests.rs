//! The engine by hand-written streams, and against a straightforward model on random ones.

use proptest::prelude::*;
use wasmill_keyed::working::DUE_MAX;
use wasmill_keyed::{Memory, Range, Table};

use super::*;

const PRINT: u32 = 1;

fn spec(shape: Shape) -> Spec {
    Spec {
        tables: Tables { entries: Table(0), timers: Table(1), progress: Table(2) },
        shape,
        aggregates: vec![(PRINT, Aggregate::Count)],
        delay: 0,
        lateness: 0,
        updates: false,
        early_every: None,
        early_records: None,
    }
}

fn tumbling(size: i64) -> Spec {
    spec(Shape::Aligned { size, slide: size, offset: 0 })
}

/// What left: key, start, end, count, why.
type Row = (u8, i64, i64, u64, Timing);

/// A stream and what came of it.
struct Stream {
    spec: Spec,
    state: Memory,
    rows: Vec<Row>,
    late: usize,
}

impl Stream {
    fn new(spec: Spec) -> Self {
        Self { spec, state: Memory::default(), rows: Vec::new(), late: 0 }
    }

    fn keep(&mut self, outcome: Outcome) -> bool {
        self.late += outcome.late.len();
        for fired in outcome.fired {
            let count = String::from_utf8(fired.values[0].clone()).unwrap().parse().unwrap();
            self.rows.push((fired.key[0], fired.window.start, fired.window.end, count, fired.timing));
        }
        outcome.more
    }

    fn chunk(&mut self, records: &[(u8, i64)]) {
        let keys: Vec<[u8; 1]> = records.iter().map(|(key, _)| [*key]).collect();
        let records: Vec<Record<'_>> = keys
            .iter()
            .zip(records)
            .enumerate()
            .map(|(row, (key, (_, time)))| Record { group: key[0] % 3, key, time: *time, row, before: None })
            .collect();
        let values = vec![vec![Value::Number(crate::aggregate::number::Number::Int(1)); records.len()]];
        let outcome = process(&self.spec, &mut self.state, &records, &values).unwrap();
        self.keep(outcome);
    }

    fn end(&mut self) {
        loop {
            let outcome = advance(&self.spec, &mut self.state, i64::MAX).unwrap();
            if !self.keep(outcome) {
                return;
            }
        }
    }
}

fn run(spec: Spec, chunks: &[&[(u8, i64)]]) -> Stream {
    let mut stream = Stream::new(spec);
    chunks.iter().for_each(|chunk| stream.chunk(chunk));
    stream
}

use Timing::{Early, Late, OnTime, Update};

#[test]
fn window_closes_when_the_watermark_reaches_its_end_and_not_before() {
    let mut early = tumbling(10);
    early.delay = 5;
    let stream = run(early, &[&[(1, 3), (1, 9), (1, 14)], &[(1, 15)]]);
    assert_eq!(stream.rows, [(1, 0, 10, 2, OnTime)]);
    assert_eq!((stream.state.len(Table(0)), stream.state.len(Table(1))), (1, 0));
}

#[test]
fn record_out_of_order_within_the_delay_counts_and_later_is_late() {
    let mut delayed = tumbling(10);
    delayed.delay = 5;
    let stream = run(delayed, &[&[(1, 3), (1, 14), (1, 4), (1, 15), (1, 5)]]);
    assert_eq!(stream.rows, [(1, 0, 10, 2, OnTime)]);
    assert_eq!(stream.late, 1);
}

#[test]
fn late_records_within_the_lateness_give_the_result_again() {
    let mut late = tumbling(10);
    late.lateness = 20;
    let stream = run(late, &[&[(1, 3), (1, 12), (1, 4), (1, 29), (1, 5), (1, 30), (1, 6)]]);
    let expected = [
        (1, 0, 10, 1, OnTime),
        (1, 0, 10, 2, Late),
        (1, 10, 20, 1, OnTime),
        (1, 0, 10, 3, Late),
        (1, 20, 30, 1, OnTime),
    ];
    assert_eq!(stream.rows, expected);
    assert_eq!(stream.late, 1);
}

#[test]
fn a_window_that_begins_late_within_the_lateness_is_given_as_late() {
    let mut late = tumbling(10);
    late.lateness = 20;
    assert_eq!(run(late, &[&[(1, 25), (2, 8)]]).rows, [(2, 0, 10, 1, Late)]);
}

#[test]
fn record_in_several_windows_is_late_only_when_all_are_closed() {
    let sliding = spec(Shape::Aligned { size: 10, slide: 5, offset: 0 });
    let stream = run(sliding, &[&[(1, 12), (1, 8), (1, 4)]]);
    assert_eq!(stream.late, 1);
    assert_eq!(stream.state.len(Table(0)), 2);
}

#[test]
fn sessions_that_a_record_bridges_become_one() {
    let mut session = spec(Shape::Session { gap: 10 });
    session.delay = 100;
    let mut stream = run(session, &[&[(1, 0), (1, 18), (2, 5)], &[(1, 9)], &[(1, 29)]]);
    stream.end();
    assert_eq!(stream.rows, [(2, 5, 15, 1, OnTime), (1, 0, 28, 3, OnTime), (1, 29, 39, 1, OnTime)]);
    assert!(stream.state.len(Table(0)) == 0 && stream.state.len(Table(1)) == 0);
}

#[test]
fn sessions_that_touch_are_one() {
    let mut session = spec(Shape::Session { gap: 10 });
    session.delay = 100;
    let mut stream = run(session, &[&[(1, 0), (1, 10)]]);
    stream.end();
    assert_eq!(stream.rows, [(1, 0, 20, 2, OnTime)]);
}

#[test]
fn late_record_that_joins_an_open_session_counts() {
    let session = spec(Shape::Session { gap: 10 });
    // The record of 1 would be late alone at 12; the session that it joins ends at 22.
    let stream = run(session.clone(), &[&[(1, 9), (1, 12), (1, 1)]]);
    assert_eq!(stream.late, 0);
    let stream = run(session, &[&[(1, 30), (1, 9)]]);
    assert_eq!(stream.late, 1);
}

#[test]
fn late_record_that_lengthens_a_session_given_before_gives_it_again() {
    let mut session = spec(Shape::Session { gap: 10 });
    session.lateness = 20;
    let mut stream = run(session, &[&[(1, 0), (2, 15), (1, 8), (2, 19)]]);
    assert_eq!(stream.rows, [(1, 0, 10, 1, OnTime), (1, 0, 18, 2, OnTime)]);
    stream.end();
    assert_eq!(stream.rows[2..], [(2, 15, 29, 2, OnTime)]);
}

#[test]
fn early_results_come_by_records_and_by_time() {
    let mut early = tumbling(100);
    early.early_records = Some(2);
    let stream = run(early, &[&[(1, 1), (1, 2), (1, 3)], &[(1, 4), (1, 5), (1, 100)]]);
    assert_eq!(stream.rows, [(1, 0, 100, 2, Early), (1, 0, 100, 4, Early), (1, 0, 100, 5, OnTime)]);
    let mut early = tumbling(100);
    early.early_every = Some(30);
    let stream = run(early, &[&[(1, 1), (1, 29), (1, 30), (1, 31)], &[(1, 95), (2, 96), (1, 130)]]);
    let expected =
        [(1, 0, 100, 3, Early), (1, 0, 100, 5, Early), (1, 0, 100, 5, OnTime), (2, 0, 100, 1, OnTime)];
    assert_eq!(stream.rows, expected);
}

#[test]
fn updates_come_once_a_chunk_for_what_it_changed() {
    let mut update = tumbling(10);
    update.updates = true;
    let mut stream = run(update, &[&[(2, 1), (1, 1), (1, 2)], &[(1, 3)], &[(1, 25)]]);
    stream.end();
    let expected =
        [(1, 0, 10, 2, Update), (2, 0, 10, 1, Update), (1, 0, 10, 3, Update), (1, 20, 30, 1, Update)];
    assert_eq!(stream.rows, expected);
    assert_eq!(stream.state.len(Table(0)), 0);
}

#[test]
fn more_windows_than_a_call_closes_are_closed_by_the_next() {
    let mut stream = Stream::new(tumbling(10));
    stream.spec.delay = 1_000_000;
    let records: Vec<(u8, i64)> = (0..10_000).map(|at| (1, at * 10)).collect();
    records.chunks(1000).for_each(|chunk| stream.chunk(chunk));
    assert_eq!(stream.rows.len(), 0);
    stream.chunk(&[(1, 5_000_000)]);
    assert_eq!(stream.rows.len(), DUE_MAX as usize);
    stream.chunk(&[(1, 5_000_000)]);
    assert_eq!(stream.rows.len(), 2 * DUE_MAX as usize);
    stream.end();
    assert_eq!(stream.rows.len(), 10_001);
    assert!(stream.rows.is_sorted_by_key(|row| row.1));
}

#[test]
fn windows_that_were_forgotten_stay_so_when_the_lateness_becomes_longer() {
    for shape in [Shape::Aligned { size: 10, slide: 10, offset: 0 }, Shape::Session { gap: 7 }] {
        for (before, updates) in [(0, false), (10, false), (0, true), (10, true)] {
            let spec = Spec { lateness: before, updates, ..spec(shape) };
            let mut stream = run(spec, &[&[(1, 3), (1, 12)], &[(1, 35)]]);
            let given = stream.rows.clone();
            stream.spec.lateness = 100;
            // Of the first there would be a part, of another key none was there.
            stream.chunk(&[(1, 4), (2, 4)]);
            assert_eq!((&stream.rows, stream.late), (&given, 2), "{shape:?} {before} {updates}");
            // From then on windows are kept for longer.
            stream.chunk(&[(1, 130), (1, 36)]);
            assert_eq!(stream.late, 2, "{shape:?} {before} {updates}");
            stream.end();
            assert_eq!((stream.state.len(Table(0)), stream.state.len(Table(1))), (0, 0));
        }
    }
}

#[test]
fn windows_that_were_kept_still_are_when_the_lateness_becomes_longer() {
    let mut stream = run(Spec { lateness: 10, ..tumbling(10) }, &[&[(1, 3), (1, 15)]]);
    stream.spec.lateness = 100;
    stream.chunk(&[(1, 90), (1, 4)]);
    let expected = [(1, 0, 10, 1, OnTime), (1, 10, 20, 1, OnTime), (1, 0, 10, 2, Late)];
    assert_eq!((stream.rows.as_slice(), stream.late), (expected.as_slice(), 0));
}

#[test]
fn windows_that_wait_to_be_forgotten_are_once_the_longer_lateness_has_passed() {
    let mut stream = Stream::new(Spec { lateness: 10, ..tumbling(10) });
    stream.spec.delay = 1_000_000;
    let records: Vec<(u8, i64)> = (0..10_000).map(|at| (1, at * 10)).collect();
    stream.chunk(&records);
    stream.chunk(&[(1, 5_000_000)]);
    let kept = stream.state.len(Table(0));
    assert!(kept > DUE_MAX as usize, "{kept} windows wait");
    stream.spec.lateness = 10_000_000;
    stream.chunk(&[(1, 5_000_000)]);
    stream.end();
    assert_eq!((stream.rows.len(), stream.state.len(Table(0))), (10_001, 0));
}

#[test]
fn windows_that_are_kept_when_the_lateness_ends_are_forgotten() {
    let mut stream = run(Spec { lateness: 100, ..tumbling(10) }, &[&[(1, 3), (1, 15)]]);
    stream.spec.lateness = 0;
    stream.end();
    assert_eq!(stream.state.len(Table(0)), 0);
}

#[test]
fn progress_of_before_is_read() {
    let (mut state, old) =
        (Memory::default(), (Progress { watermark: 40, backlog: true }, Front::default(), Front::default()));
    state.put(Table(2), vec![(Reached::address(), Some(encode(Table(2), &old).unwrap()))]);
    let read = Reached::load(&mut state, Table(2)).unwrap();
    assert_eq!(read, Reached { progress: old.0, ..Reached::default() });
}

#[test]
fn a_config_with_other_aggregates_keeps_what_the_old_one_counted() {
    let mut stream = run(tumbling(10), &[&[(1, 1), (1, 2)]]);
    let first = Aggregate::First;
    stream.spec.aggregates = vec![(7, first), (PRINT, Aggregate::Count)];
    let values = vec![vec![Value::Absent], vec![Value::Number(crate::aggregate::number::Number::Int(1))]];
    let record = Record { group: 1, key: &[1], time: 10, row: 0, before: None };
    let outcome = process(&stream.spec, &mut stream.state, &[record], &values).unwrap();
    assert_eq!(outcome.fired[0].values, [b"null".to_vec(), b"2".to_vec()]);
}

/// What must come, computed record by record over lists, without state, timers or chunks.
fn model(spec: &Spec, records: &[(u8, i64)]) -> (Vec<Row>, usize) {
    let (mut rows, mut open, mut late) = (Vec::new(), Vec::<Row>::new(), 0);
    let mut watermark = i64::MIN;
    let fire = |watermark: i64, open: &mut Vec<Row>, rows: &mut Vec<Row>| {
        open.sort_by_key(|row| (row.2, row.0 % 3, row.0, row.1));
        for row in open.iter_mut().filter(|row| row.4 == Early && row.2 <= watermark) {
            row.4 = OnTime;
            rows.push(*row);
        }
        open.retain(|row| row.2.saturating_add(spec.lateness) > watermark);
    };
    for (key, time) in records {
        let mut is_late = true;
        for window in spec.shape.windows(*time) {
            let mut joined = (*key, window.start, window.end, 1, Early);
            let session = matches!(spec.shape, Shape::Session { .. });
            let meets = |row: &Row| {
                let touch = row.1 <= window.end && window.start <= row.2;
                row.0 == *key && if session { touch } else { (row.1, row.2) == (window.start, window.end) }
            };
            for row in open.iter().filter(|row| meets(row)) {
                joined = (*key, joined.1.min(row.1), joined.2.max(row.2), joined.3 + row.3, Early);
            }
            if joined.2.saturating_add(spec.lateness) <= watermark {
                continue;
            }
            is_late = false;
            open.retain(|row| !meets(row));
            if joined.2 <= watermark {
                joined.4 = Late;
                rows.push(joined);
            }
            open.push(joined);
        }
        late += usize::from(is_late);
        watermark = watermark.max(time - spec.delay);
        fire(watermark, &mut open, &mut rows);
    }
    fire(i64::MAX, &mut open, &mut rows);
    (rows, late)
}

fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![
        (1..20_i64).prop_map(|size| Shape::Aligned { size, slide: size, offset: 3 }),
        (1..20_i64, 1..20_i64).prop_map(|(one, other)| Shape::Aligned {
            size: one.max(other),
            slide: one.min(other),
            offset: 0
        }),
        (1..12_i64).prop_map(|gap| Shape::Session { gap }),
    ]
}

proptest! {
    #[test]
    fn every_stream_gives_what_the_model_gives_however_it_is_cut(
        shape in shapes(),
        delay in 0..15_i64,
        lateness in prop_oneof![Just(0), 0..15_i64],
        records in prop::collection::vec((0..5_u8, -40..80_i64), 0..60),
        cut in 1..20_usize,
    ) {
        let spec = Spec { delay, lateness, ..spec(shape) };
        let mut stream = Stream::new(spec.clone());
        records.chunks(cut).for_each(|chunk| stream.chunk(chunk));
        stream.end();
        let (rows, late) = model(&spec, &records);
        prop_assert_eq!(&stream.rows, &rows);
        prop_assert_eq!(stream.late, late);
        prop_assert_eq!((stream.state.len(Table(0)), stream.state.len(Table(1))), (0, 0));
    }
}

/// Counts what is asked of the state, and the entries of scans.
#[derive(Default)]
struct Counting {
    memory: Memory,
    calls: usize,
    scanned: usize,
}

impl State for Counting {
    fn read(&mut self, table: Table, addresses: &[&Address], each: &mut dyn FnMut(usize, &[u8])) {
        self.calls += 1;
        self.memory.read(table, addresses, each);
    }

    fn put(&mut self, table: Table, changes: Vec<(Address, Option<Vec<u8>>)>) {
        self.calls += 1;
        self.memory.put(table, changes);
    }

    fn scan(&mut self, table: Table, range: Range<'_>, limit: u32) -> Vec<(Address, Vec<u8>)> {
        self.calls += 1;
        let found = self.memory.scan(table, range, limit);
        self.scanned += found.len();
        found
    }
}

#[test]
fn a_chunk_costs_a_handful_of_calls_and_closing_reads_only_what_is_due() {
    let (mut state, spec) = (Counting::default(), Spec { delay: 1000, ..tumbling(10) });
    let keys: Vec<[u8; 2]> = (0..1000_u16).map(u16::to_be_bytes).collect();
    let chunk = |state: &mut Counting, time: i64| {
        let rows = keys.iter().enumerate();
        let records: Vec<Record<'_>> =
            rows.map(|(row, key)| Record { group: 0, key, time, row, before: None }).collect();
        let values = vec![vec![Value::Number(crate::aggregate::number::Number::Int(1)); records.len()]];
        let outcome = process(&spec, state, &records, &values).unwrap();
        (std::mem::take(&mut state.calls), std::mem::take(&mut state.scanned), outcome.fired.len())
    };
    for time in 0..30 {
        let (calls, scanned, fired) = chunk(&mut state, time);
        assert!(calls <= 6, "{calls} calls");
        assert_eq!((scanned, fired), (0, 0));
    }
    // 3000 windows are open, a thousand are due.
    let (calls, scanned, fired) = chunk(&mut state, 1010);
    assert!(calls <= 6, "{calls} calls");
    assert_eq!((scanned, fired), (1000, 1000));
}
