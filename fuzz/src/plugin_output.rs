//! A plugin that lies, behind the boundary: any calls of the chunk in any order, with ends, states, rows and text that need
//! not be true. It drives `wasmill-chunk` alone, as the transform host does; `guest_calls` drives that one.
//!
//! Whatever it does, a call is refused or checked, nothing panics, what leaves is JSON where it must be, and every record
//! has one verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wasmill_chunk::{
    Cells, CellsRef, Chunk, ChunkLimits, Column, FinishOptions, Floats, Input, Ints, Layout, Misuse,
    NO_INPUT, RowMeta, RowSink, RowsId, Verdicts,
};

use crate::draw::Draw;

/// Most calls of one turn.
const CALLS_MAX: usize = 48;
const PLAIN: &[&[&str]] =
    &[&["a"], &["b"], &["c", "d"], &["c", "e"], &["f.g"], &["longer-than-eight"], &["d", "d", "d"]];
const OVERLAPPING: &[&[&str]] = &[&["a"], &["c"], &["c", "d"], &["a", "a"], &["b"]];
pub(crate) const DOCUMENTS: [&[u8]; 12] = [
    b"{}",
    b"",
    br#"{"a":1,"b":"x","c":{"d":[1,2],"e":null}}"#,
    br#"{"a":"\u00e4\n","a":2,"longer-than-eight":1e300}"#,
    br#"{"f.g":"\ud800","c":7}"#,
    b"not json",
    b"\"\xff\"",
    b" [1, {\"a\": 2}] ",
    br#"{"d":{"d":{"d":true}},"b":-0.0}"#,
    b"null",
    b"{\"a\":1",
    b"\"\\\"\"",
];
pub(crate) const NAMES: [&str; 4] = ["", "name", "other", "\u{e4}"];

/// `data`: see the code; the first bytes choose the chain, then the records, then the calls.
pub fn plugin_output(data: &[u8]) {
    let mut draw = Draw(data);
    let pool = if draw.one_in(3) { OVERLAPPING } else { PLAIN };
    let transforms = 1 + draw.below(3);
    let mut fields = Vec::new();
    for _ in 0..transforms {
        let declared = draw.byte();
        let chosen = pool.iter().enumerate().filter(|(at, _)| declared >> at & 1 == 0);
        fields.push(chosen.map(|(_, path)| path.iter().map(|key| (*key).to_owned()).collect()).collect());
    }
    let limits = ChunkLimits {
        output_bytes: draw.pick(&[16 << 10, 512, 64]),
        derived_rows: u32::from(draw.pick(&[64_u8, 3])),
    };
    let layout = Arc::new(Layout::new(&fields).unwrap());
    let mut chunk = Chunk::new(layout, limits);
    // The second chunk in the buffers of the first, as on a worker.
    for _ in 0..2 {
        let records: Vec<Vec<u8>> = (0..draw.below(6)).map(|_| document(&mut draw)).collect();
        begin(&mut draw, &mut chunk, &records);
        for transform in 0..transforms {
            turn(&mut draw, &mut chunk, transform);
        }
        finish(&mut draw, &mut chunk, &records, limits);
    }
}

pub(crate) fn document(draw: &mut Draw<'_>) -> Vec<u8> {
    if draw.one_in(3) { draw.bytes(60).to_vec() } else { draw.pick(&DOCUMENTS).to_vec() }
}

/// Puts the records in: honest, as they come from the buffer.
fn begin(draw: &mut Draw<'_>, chunk: &mut Chunk, records: &[Vec<u8>]) {
    let (mut payloads, mut keys) = (Column::default(), Cells::default());
    for record in records {
        payloads.push(record);
        keys.push_option(draw.one_in(2).then_some(b"key"));
    }
    let attributes = [("name".to_owned(), keys.as_ref())];
    let mut input = Input::of_payloads(0, payloads.as_ref());
    if draw.one_in(2) {
        input.keys = Some(keys.as_ref());
        input.attributes = &attributes;
    }
    let half = draw.below(records.len() + 1);
    chunk.begin(&input, 0..half).unwrap();
    chunk.extend(&input, half..records.len()).unwrap();
}

/// One call of the guest: what it stages, and how it ends.
fn turn(draw: &mut Draw<'_>, chunk: &mut Chunk, transform: usize) {
    chunk.enter(transform, draw.long());
    let before = payloads(chunk);
    let mut handles = vec![RowsId::MAIN];
    let mut trapped = false;
    for _ in 0..CALLS_MAX {
        let call = draw.below(24);
        if call == 0 {
            break;
        }
        let misused = call_one(draw, chunk, &mut handles, call).is_err();
        // The host ends the call at the first misuse. Going on must be as harmless.
        trapped |= misused;
        if misused && draw.one_in(2) {
            break;
        }
    }
    let applied = !(trapped && draw.one_in(2)) && chunk.apply().is_ok();
    if !applied {
        chunk.discard();
        assert!(payloads(chunk) == before, "a call that failed changed something");
    }
    let left = chunk.rows_left() as usize;
    chunk.payloads(RowsId::MAIN).unwrap().check(left).unwrap();
    for handle in handles.into_iter().filter(|handle| *handle != RowsId::MAIN) {
        assert_eq!(chunk.len(handle), Err(Misuse::Handle), "{handle:?} lives on");
    }
}

fn payloads(chunk: &mut Chunk) -> Vec<Vec<u8>> {
    chunk.payloads(RowsId::MAIN).unwrap().iter().map(<[u8]>::to_vec).collect()
}

fn call_one(
    draw: &mut Draw<'_>,
    chunk: &mut Chunk,
    handles: &mut Vec<RowsId>,
    call: usize,
) -> Result<(), Misuse> {
    let handle = match draw.below(handles.len() + 1) {
        at if at < handles.len() => handles[at],
        _ => RowsId(u32::from(draw.short())),
    };
    let rows = chunk.len(handle).unwrap_or(0) as usize;
    // Mostly as many as there are, or nearly nothing would get far.
    let len = if draw.one_in(16) { draw.below(80) } else { rows };
    let slot = if draw.one_in(16) { u32::from(draw.short()) } else { draw.below(7) as u32 };
    match call {
        1 => chunk.set_payloads(handle, cells(draw, len, true).as_ref()),
        2 => chunk.clear(handle, &marks(draw, len)),
        3 | 4 => {
            let values = cells(draw, len, false);
            chunk.set_text(handle, slot, values.as_ref())
        }
        5 | 6 => {
            let values = cells(draw, len, true);
            chunk.set_raw(handle, slot, values.as_ref())
        }
        7 => {
            let values = (0..some(draw, len)).map(|_| float(draw)).collect();
            chunk.set_floats(handle, slot, Floats { state: states(draw, len), values }.as_ref())
        }
        8 => {
            let values = (0..some(draw, len)).map(|_| draw.long().cast_signed()).collect();
            chunk.set_ints(handle, slot, Ints { state: states(draw, len), values }.as_ref())
        }
        9 => chunk.set_keys(handle, cells(draw, len, false).as_ref()),
        10 => chunk.set_attributes(handle, draw.pick(&NAMES), cells(draw, len, false).as_ref()),
        11 => chunk.partition(handle, draw.pick(&NAMES), cells(draw, len, false).as_ref()),
        12 => {
            let routes: Vec<u32> = (0..len).map(|_| u32::from(draw.byte())).collect();
            chunk.route(handle, &routes)
        }
        13 => chunk.keep(handle, &marks(draw, len)),
        14 => {
            let failing: Vec<u32> = (0..draw.below(4)).map(|_| row(draw, rows)).collect();
            let reasons = column(draw, failing.len(), |draw| draw.bytes(2048).to_vec());
            chunk.fail(handle, &failing, reasons.as_ref())
        }
        15..=17 => {
            let sources: Vec<u32> = (0..draw.below(6)).map(|_| row(draw, rows)).collect();
            handles.push(chunk.derive(handle, &sources)?);
            Ok(())
        }
        18 => {
            let count = if draw.one_in(8) { u32::MAX - u32::from(draw.byte()) } else { draw.below(4) as u32 };
            handles.push(chunk.fresh(count)?);
            Ok(())
        }
        19 | 20 => chunk.emit(handle),
        21 => {
            chunk.drop_rows(handle);
            Ok(())
        }
        _ => read(draw, chunk, handle, slot, rows),
    }
}

/// What a guest reads has the shape that was promised.
fn read(
    draw: &mut Draw<'_>,
    chunk: &mut Chunk,
    handle: RowsId,
    slot: u32,
    rows: usize,
) -> Result<(), Misuse> {
    let shaped = |cells: CellsRef<'_>| {
        cells.check(rows).unwrap();
        for row in (0..rows).filter(|row| cells.get(*row).is_none()) {
            assert!(cells.values.get(row).is_empty(), "a value where the state says none");
        }
    };
    match draw.below(8) {
        0 => chunk.payloads(handle)?.check(rows).unwrap(),
        1 => {
            let text = chunk.get_text(handle, slot)?;
            shaped(text);
            assert!(text.iter().flatten().all(|text| std::str::from_utf8(text).is_ok()), "text is no UTF-8");
        }
        2 => {
            let raw = chunk.get_raw(handle, slot)?;
            shaped(raw);
            assert!(raw.iter().flatten().all(is_json), "raw is no JSON");
        }
        3 => {
            let floats = chunk.get_floats(handle, slot)?;
            assert_eq!((floats.state.len(), floats.values.len()), (rows, rows));
            assert!(floats.values.iter().all(|value| value.is_finite()));
        }
        4 => {
            let ints = chunk.get_ints(handle, slot)?;
            assert_eq!((ints.state.len(), ints.values.len()), (rows, rows));
        }
        5 => shaped(chunk.keys(handle)?),
        6 => shaped(chunk.attributes(handle, draw.pick(&NAMES))?),
        _ => {
            assert_eq!(chunk.offsets(handle)?.len(), rows);
            assert_eq!(chunk.arrival_times(handle)?.len(), rows);
        }
    }
    Ok(())
}

fn some(draw: &mut Draw<'_>, len: usize) -> usize {
    if draw.one_in(16) { draw.below(80) } else { len }
}

pub(crate) fn row(draw: &mut Draw<'_>, rows: usize) -> u32 {
    if draw.one_in(16) { u32::from(draw.short()) } else { draw.below(rows) as u32 }
}

pub(crate) fn marks(draw: &mut Draw<'_>, len: usize) -> Vec<u8> {
    let most = if draw.one_in(16) { 256 } else { 2 };
    (0..len).map(|_| draw.below(most) as u8).collect()
}

pub(crate) fn states(draw: &mut Draw<'_>, len: usize) -> Vec<u8> {
    let any = draw.one_in(16);
    let len = some(draw, len);
    (0..len).map(|_| if any { draw.byte() } else { 3 - draw.below(4) as u8 }).collect()
}

pub(crate) fn float(draw: &mut Draw<'_>) -> f64 {
    let value = f64::from_bits(draw.long());
    // Not every second one is absurd.
    if draw.one_in(2) { value } else { f64::from(draw.byte()) / 4.0 }
}

fn value(draw: &mut Draw<'_>) -> Vec<u8> {
    if draw.one_in(3) { draw.bytes(100).to_vec() } else { draw.pick(&DOCUMENTS).to_vec() }
}

pub(crate) fn column(
    draw: &mut Draw<'_>,
    len: usize,
    mut value: impl FnMut(&mut Draw<'_>) -> Vec<u8>,
) -> Column {
    let mut column = Column::default();
    (0..some(draw, len)).for_each(|_| column.push(&value(draw)));
    if draw.one_in(12) {
        for end in &mut column.ends {
            *end = if draw.one_in(2) { draw.long() as u32 } else { u32::from(draw.byte()) };
        }
    }
    column
}

/// Cells of any states and values. `documents`: values that are mostly JSON.
pub(crate) fn cells(draw: &mut Draw<'_>, len: usize, documents: bool) -> Cells {
    let state = if documents && draw.one_in(2) { vec![3; len] } else { states(draw, len) };
    Cells { state, values: column(draw, len, |draw| if documents { document(draw) } else { value(draw) }) }
}

#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) rows: Vec<(i64, u32, u32, Vec<u8>)>,
    open: bool,
    buffer: Vec<u8>,
}

impl RowSink for Sink {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        assert!(!self.open, "two rows at once");
        self.open = true;
        &mut self.buffer
    }

    fn end(&mut self, row: &RowMeta<'_>) {
        assert!(self.open, "the end of no row");
        self.open = false;
        self.rows.push((row.offset, row.child, row.route, std::mem::take(&mut self.buffer)));
    }
}

pub(crate) fn is_json(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text);
    text.is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

/// The end of the chain, and its books.
fn finish(draw: &mut Draw<'_>, chunk: &mut Chunk, records: &[Vec<u8>], limits: ChunkLimits) {
    let options = FinishOptions { require_json: draw.one_in(2), byte_routes: draw.long() };
    let left = chunk.rows_left();
    let (mut sink, mut verdicts) = (Sink::default(), Verdicts::default());
    chunk.finish(&options, &mut sink, &mut verdicts);
    assert!(!sink.open, "a row without an end");
    assert_eq!(verdicts.emitted, sink.rows.len() as u64);
    assert!(verdicts.emitted <= u64::from(left));
    let mut children: BTreeMap<i64, u32> = BTreeMap::new();
    for (offset, child, route, payload) in &sink.rows {
        let next = children.entry(*offset).or_default();
        assert_eq!(child, next, "the place of a row of {offset}");
        *next += 1;
        let any = *route < 64 && options.byte_routes >> route & 1 == 1;
        assert!(
            any || !options.require_json || is_json(payload),
            "no JSON: {}",
            String::from_utf8_lossy(payload)
        );
    }
    let passed: BTreeSet<i64> = children.into_keys().filter(|offset| *offset >= 0).collect();
    assert!(passed.iter().all(|offset| *offset < records.len() as i64));
    assert_eq!(verdicts.passed, passed.len() as u64);
    let mut failed = BTreeSet::new();
    for failure in verdicts.failed.iter().filter(|failure| failure.input_row != NO_INPUT) {
        assert_eq!(failure.offset, i64::from(failure.input_row));
        assert!(failure.reason.len() <= 1024);
        assert!(failed.insert(failure.offset), "record {} failed twice", failure.offset);
        assert!(!passed.contains(&failure.offset), "record {} passed and failed", failure.offset);
    }
    let settled = verdicts.passed + verdicts.dropped + failed.len() as u64;
    assert_eq!(settled, records.len() as u64, "{verdicts:?}");
    // Six bytes for one that is escaped, and the keys.
    let put_in: usize = records.iter().map(Vec::len).sum();
    let taken: usize = sink.rows.iter().map(|row| row.3.len()).sum();
    assert!(taken <= 8 * (put_in + limits.output_bytes), "{taken} bytes came of {put_in}");
}
