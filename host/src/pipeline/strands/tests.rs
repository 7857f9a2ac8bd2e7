//! Each record in one strand and in order, and what comes of a stream in strands: of each key what comes of it without.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use wasmill_buffer::Frame;
use wasmill_chunk::Cells;
use wasmill_chunk::Column;
use wasmill_encode::Format;
use wasmill_state::{Crashing, Layer, SliceState, group_of};
use wasmill_transform::{
    Chain, ChainOptions, Engine, EngineOptions, NativeInstance, NullLog, Plugin, TransformSpec,
};

use super::*;
use crate::pipeline::event_time::{EventTime, NO_TIME, SliceClock};
use crate::pipeline::plan::ChainVersion;
use crate::pipeline::slice::Growth;
use crate::pipeline::state::StateHouse;
use crate::pipeline::workers::Workers;

const KEYS: u64 = 13;

fn parallel(strands: u8) -> Arc<Parallel> {
    let written = config::Parallel { path: vec!["k".to_owned()], key: "k".to_owned(), strands };
    Arc::new(Parallel::new(&written).unwrap())
}

fn frame(base_offset: u64, records: &[String]) -> Arc<Frame> {
    let mut end = 0;
    let ends = records.iter().map(|record| {
        end += record.len();
        u32::try_from(end).unwrap()
    });
    Arc::new(Frame {
        position: 0,
        base_offset,
        count: u32::try_from(records.len()).unwrap(),
        arrival: 1_000,
        ends: ends.collect(),
        arrival_deltas: Some((0..).take(records.len()).collect()),
        payload: Bytes::from(records.concat()),
        keys: None,
        attributes: Vec::new(),
        event_times: None,
        producer: None,
        source: String::new(),
    })
}

/// Records of random keys: texts, numbers, and none at all. Some say that they fail.
fn records(count: u64) -> Vec<String> {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let record = |n| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let fails = random.is_multiple_of(11);
        match random >> 32 {
            key if key.is_multiple_of(17) => format!(r#"{{"n":{n},"t":{n}}}"#),
            key if key.is_multiple_of(3) => format!(r#"{{"n":{n},"t":{n},"k":{},"f":{fails}}}"#, key % KEYS),
            key => format!(r#"{{"n":{n},"t":{n},"k":"key-{}","f":{fails}}}"#, key % KEYS),
        }
    };
    (0..count).map(record).collect()
}

/// Slices of frames of different lengths, that of one record among them.
fn cuts(records: &[String]) -> Vec<Cut> {
    let (mut cuts, mut from) = (Vec::new(), 0);
    while from < records.len() {
        let mut parts = Vec::new();
        let first = from as u64;
        for length in [1, 40, 7] {
            let rows = &records[from..records.len().min(from + length)];
            if !rows.is_empty() {
                parts.push(Part::whole(frame(from as u64, rows)));
            }
            from += rows.len();
        }
        cuts.push(Cut { parts, from: first, to: from as u64 });
    }
    cuts
}

/// Numbers the records of each key, and gives them as they came with their number. After a hundred it gives a row of its own,
/// which no output takes.
struct Counter(Vec<Vec<String>>);

impl NativeInstance for Counter {
    fn fields(&self) -> &[Vec<String>] {
        &self.0
    }

    fn tables(&self) -> Vec<String> {
        vec!["counts".to_owned()]
    }

    fn process(&mut self, _chunk: &mut Chunk) -> Result<(), String> {
        Err("it keeps state".to_owned())
    }

    fn process_keeping(
        &mut self,
        chunk: &mut Chunk,
        state: &mut SliceState,
        tables: &[usize],
    ) -> Result<(), String> {
        let wrong = |misuse| format!("{misuse:?}");
        let rows = RowsId::MAIN;
        let of_slot = |chunk: &mut Chunk, slot| -> Result<Vec<Vec<u8>>, String> {
            let cells = chunk.get_raw(rows, slot).map_err(wrong)?;
            Ok(cells.iter().map(|cell| cell.unwrap_or_default().to_vec()).collect())
        };
        let (keys, fails) = (of_slot(chunk, 0)?, of_slot(chunk, 1)?);
        let payloads: Vec<Vec<u8>> =
            chunk.payloads(rows).map_err(wrong)?.iter().map(<[u8]>::to_vec).collect();
        let (mut written, mut failed, mut reasons) = (Cells::default(), Vec::new(), Column::default());
        let mut own = 0;
        for (row, key) in (0..).zip(&keys) {
            let count = state.add(tables[0], group_of(key), key, 1).map_err(|error| error.to_string())?;
            if fails[row as usize] == b"true" {
                failed.push(row);
                reasons.push(b"it says so");
            }
            own += u32::from(count == 50);
            let text = String::from_utf8_lossy(&payloads[row as usize]).replacen(
                '{',
                &format!(r#"{{"count":{count},"#),
                1,
            );
            written.push_option(Some(text.as_bytes()));
        }
        chunk.set_payloads(rows, written.as_ref()).map_err(wrong)?;
        chunk.fail(rows, &failed, reasons.as_ref()).map_err(wrong)?;
        if own > 0 {
            let fresh = chunk.fresh(own).map_err(wrong)?;
            let mut nothing = Cells::default();
            (0..own).for_each(|_| nothing.push_option(Some(b"no JSON")));
            chunk.set_payloads(fresh, nothing.as_ref()).map_err(wrong)?;
            chunk.emit(fresh).map_err(wrong)?;
        }
        Ok(())
    }
}

fn version() -> Arc<ChainVersion> {
    let make = || Counter(vec![vec!["k".to_owned()], vec!["f".to_owned()]]);
    let plugin = Plugin::native("counter", Arc::new(move |_| Ok(Box::new(make()))));
    let engine = Engine::new(EngineOptions { instances_max: 64, ..EngineOptions::default() }).unwrap();
    let spec = TransformSpec::new(plugin.clone(), "{}");
    let outputs = ["out".to_owned()];
    // Small chunks, so that strands have several.
    let options = ChainOptions { chunk_rows: 5, ..ChainOptions::default() };
    let chain = Chain::build(&engine, vec![spec], &outputs, options, Arc::new(NullLog)).unwrap();
    Arc::new(ChainVersion::new(1, chain, vec![plugin]))
}

fn route(version: &Arc<ChainVersion>, parallel: Option<Arc<Parallel>>) -> Route {
    Route {
        version: Arc::clone(version),
        lane: 0,
        stream_seed: 7,
        growth: Growth::default(),
        traced: true,
        formats: vec![Format::Ndjson, Format::Raw],
        columns: vec![None, None],
        backup: Some(1),
        outputs: vec!["out".to_owned(), "backup".to_owned()],
        clock: None,
        parallel,
    }
}

fn rows(done: &Done, output: u32) -> Vec<String> {
    let pieces: Vec<&Piece> =
        done.pieces.iter().filter(|(key, _)| key.output == output).map(|(_, piece)| piece).collect();
    assert!(pieces.len() <= 1, "a slice adds to a batch once");
    let text = pieces.iter().map(|piece| String::from_utf8(piece.pending().to_vec()).unwrap());
    text.collect::<String>().lines().map(str::to_owned).collect()
}

fn key(row: &serde_json::Value) -> String {
    row["k"].to_string()
}

/// What came of a stream.
#[derive(Debug, Default, PartialEq)]
struct Came {
    /// Numbers and counts of the rows of each key, in order.
    rows: BTreeMap<String, Vec<(u64, u64)>>,
    /// Offset and payload of each letter of a record.
    letters: BTreeSet<(i64, String)>,
    /// Of rows that no record stands behind.
    own: usize,
    backup: Vec<String>,
    counts: BTreeMap<String, i64>,
}

fn run(slices: &[Cut], strands: Option<u8>) -> Came {
    let house = Arc::new(StateHouse::with(Crashing::default().store()));
    let stream = house.stream([1; 16], Arc::default());
    let (version, mut worker) = (version(), WorkerState::default());
    let route = route(&version, strands.map(parallel));
    let (mut came, mut layers, mut all) = (Came::default(), Vec::new(), Layer::default());
    for cut in slices {
        let below = StateBelow { layers: layers.clone(), stream: Arc::clone(&stream) };
        let done = cut.run(&route, Some(&below), &mut worker);
        assert!(done.unrunnable.is_none(), "{:?}", done.unrunnable);
        assert!(done.counts.balanced() && done.counts.records == cut.to - cut.from, "{:?}", done.counts);
        let records: u64 = done.pieces.iter().map(|(_, piece)| piece.records).sum();
        assert_eq!(records, done.counts.emitted + done.backed_up);
        for row in rows(&done, 0) {
            let row: serde_json::Value = serde_json::from_str(&row).unwrap();
            let counted = (row["n"].as_u64().unwrap(), row["count"].as_u64().unwrap());
            came.rows.entry(key(&row)).or_default().push(counted);
        }
        came.backup.extend(rows(&done, 1));
        let trace = done.trace.as_ref().unwrap();
        for row in trace.rows.iter().filter(|row| row.offset >= 0) {
            let text = String::from_utf8_lossy(trace.bytes(row)).into_owned();
            assert!(text.contains(&format!("\"n\":{},", row.offset)), "{text} of {}", row.offset);
        }
        for (letter, payload) in done.letters {
            match letter.offset {
                -1 => came.own += 1,
                offset => {
                    came.letters.insert((offset, String::from_utf8(payload.to_vec()).unwrap()));
                }
            }
        }
        let layer = done.state.unwrap();
        all.add(layer.clone());
        layers.insert(0, Arc::new(layer));
    }
    let mut of_strands: BTreeMap<Vec<u8>, BTreeSet<String>> = BTreeMap::new();
    for (id, address, value) in all.entries() {
        let tables = of_strands.entry(address.to_vec()).or_default();
        tables.insert(id.name().to_owned());
        let sum = value.and_then(|value| value.try_into().ok()).map(i64::from_le_bytes);
        came.counts.insert(String::from_utf8_lossy(&address[1..]).into_owned(), sum.unwrap());
    }
    assert!(of_strands.values().all(|tables| tables.len() == 1), "{of_strands:?}");
    came
}

#[test]
fn each_record_is_in_the_strand_of_its_key_once_and_in_order() {
    let records = records(700);
    let parallel = parallel(5);
    for cut in cuts(&records) {
        let mut seen = BTreeMap::new();
        let shares = parallel.part(&cut.parts, None, false);
        for share in &shares {
            let number = share.strand.as_ref().unwrap().0.number;
            let of_share = Cut { parts: share.parts.to_vec(), from: cut.from, to: cut.to };
            let mut last = -1;
            for (offset, record) in of_share.records() {
                assert!(offset > last);
                last = offset;
                let row: serde_json::Value = serde_json::from_slice(record).unwrap();
                assert_eq!(records[usize::try_from(offset).unwrap()].as_bytes(), record);
                let key = row["k"].as_str().map_or_else(|| row["k"].to_string(), str::to_owned);
                let key = if key == "null" { String::new() } else { key };
                assert_eq!(parallel.strands.number_of(key.as_bytes()), number);
                assert_eq!(seen.insert(offset, number), None);
            }
            // What a chain is told of rows is what they are.
            for part in share.parts.iter() {
                let input = part.input();
                for row in 0..input.payloads.len() {
                    let n: serde_json::Value = serde_json::from_slice(input.payloads.get(row)).unwrap();
                    assert_eq!(n["n"].as_u64(), Some(input.offset(row)));
                }
            }
        }
        assert!(seen.keys().copied().eq(cut.from.cast_signed()..cut.to.cast_signed()));
    }
}

#[test]
fn each_key_has_the_same_rows_in_the_same_order_in_any_number_of_strands() {
    let records = records(3_000);
    let slices = cuts(&records);
    let whole = run(&slices, None);
    assert_eq!(whole.backup, records);
    assert!(whole.own > 20 && whole.letters.len() > 200 && whole.rows.len() > 20, "{whole:?}");
    for strands in [2, 7, 64] {
        assert_eq!(run(&slices, Some(strands)), whole, "{strands} strands");
    }
}

#[test]
fn times_and_watermarks_stay_with_their_records_and_late_ones_are_told_once() {
    let records: Vec<String> = (0..40_i64)
        .map(|n| format!(r#"{{"n":{n},"k":{},"t":{}}}"#, n % 7, if n % 9 == 8 { 0 } else { n * 10 }))
        .collect();
    let written = config::EventTime {
        source: config::TimeSource::Field(vec!["t".to_owned()]),
        format: config::TimeFormat::Number(1),
        delay: Duration::ZERO,
        idle_timeout: None,
        lateness: Duration::ZERO,
        late: config::Late::Drop,
        unreadable: config::Unreadable::Fail,
        ahead: None,
    };
    let rules = Arc::new(EventTime::new(&written).unwrap());
    let clock = SliceClock { rules, watermark: NO_TIME, marks: None, due: false, frozen: false };
    let parts = [Part::whole(frame(0, &records[..15])), Part::whole(frame(15, &records[15..]))];
    let of_offset = |parts: &[Part], judged: &Judged| {
        let mut found = BTreeMap::new();
        for (part, (times, watermarks)) in parts.iter().zip(&judged.times) {
            let input = part.input();
            for (row, time) in times.iter().enumerate() {
                found.insert(input.offset(row), (*time, watermarks[row]));
            }
            assert_eq!(input.payloads.len(), times.len());
        }
        found
    };
    let whole = clock.judge(&parts);
    let expected = of_offset(&whole.parts, &whole);
    let mut judged = clock.judge(&parts);
    let passed = std::mem::take(&mut judged.parts);
    let dropped = judged.dropped;
    assert!(dropped >= 4);
    // All are told of the watermark, those without a record too.
    let shares = parallel(16).part(&passed, Some(judged), true);
    assert_eq!(shares.len(), 16);
    let mut found = BTreeMap::new();
    for share in &shares {
        let judged = share.judged.as_ref().unwrap();
        assert_eq!(judged.watermark, whole.watermark);
        found.extend(of_offset(&share.parts, judged));
    }
    assert_eq!(found, expected);
    let gone = |share: &Share<'_>| share.judged.as_ref().map_or(0, |judged| judged.dropped);
    assert_eq!(shares.iter().map(gone).collect::<Vec<_>>(), [vec![dropped], vec![0; 15]].concat());
    assert_eq!(shares.iter().map(Share::records).sum::<u64>(), 40);
    // Where nothing is left to run, one of them has what is gone.
    let mut judged = clock.judge(&parts);
    judged.times.clear();
    let shares = parallel(16).part(&[], Some(judged), false);
    assert_eq!(shares.iter().map(Share::records).collect::<Vec<_>>(), [dropped]);
}

#[test]
fn strands_that_run_at_once_come_back_as_one_slice_and_once() {
    let records = records(1_500);
    let workers = Workers::start(2, Arc::default(), Default::default()).unwrap();
    let house = Arc::new(StateHouse::with(Crashing::default().store()));
    let stream = house.stream([1; 16], Arc::default());
    let version = version();
    let expected = run(&cuts(&records), None);
    let (mut came, mut layers) = (BTreeMap::<String, Vec<(u64, u64)>>::new(), Vec::new());
    for cut in cuts(&records) {
        let below = StateBelow { layers: std::mem::take(&mut layers), stream: Arc::clone(&stream) };
        let seen = below.layers.clone();
        let (tx, rx) = sync_channel(4);
        let finish = move |_: &Arc<Cut>, _: &Route, done: Done| tx.send(done).unwrap();
        let together =
            Together::new(Arc::new(cut), route(&version, Some(parallel(7))), Some(below), Box::new(finish));
        let together = Arc::new(together);
        for _ in 0..4 {
            let together = Arc::clone(&together);
            workers.submit(&"a".into(), 1, move |worker| together.work(worker));
        }
        drop(together);
        let mut done: Vec<Done> = rx.iter().collect();
        assert_eq!(done.len(), 1);
        let done = done.remove(0);
        // Nobody else has what it saw: what comes next is put over it without a copy.
        assert!(seen.iter().all(|layer| Arc::strong_count(layer) == 1));
        for row in rows(&done, 0) {
            let row: serde_json::Value = serde_json::from_str(&row).unwrap();
            let counted = (row["n"].as_u64().unwrap(), row["count"].as_u64().unwrap());
            came.entry(key(&row)).or_default().push(counted);
        }
        layers = seen;
        layers.insert(0, Arc::new(done.state.unwrap()));
    }
    assert_eq!(came, expected.rows);
}

#[test]
fn state_that_is_parted_otherwise_is_not_read_and_the_slice_has_no_outcome() {
    let slices = cuts(&records(96));
    let house = Arc::new(StateHouse::with(Crashing::default().store()));
    let stream = house.stream([1; 16], Arc::default());
    let (version, mut worker) = (version(), WorkerState::default());
    let none = StateBelow { layers: Vec::new(), stream: Arc::clone(&stream) };
    let first = slices[0].run(&route(&version, Some(parallel(4))), Some(&none), &mut worker);
    let changed = first.state.unwrap();
    stream.apply(5, &[&changed]).unwrap();
    for strands in [None, Some(3)] {
        let done = slices[1].run(&route(&version, strands.map(parallel)), Some(&none), &mut worker);
        let (place, fault) = done.unrunnable.unwrap();
        let told = fault.to_string();
        assert_eq!(place, 0);
        let wanted = match strands {
            None => "is to run without \"parallel\"",
            Some(_) => "is to run in 3 strands by \"k\"",
        };
        for part in ["\"counter/counts\" was kept in 4 strands by \"k\"", wanted, "wasmill state drop"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(done.state.is_none());
        // As much where strands run at once: who comes last tells, and nothing is left to take.
        let (tx, rx) = sync_channel(4);
        let cut = Cut { parts: slices[1].parts.clone(), from: slices[1].from, to: slices[1].to };
        let finish = move |_: &Arc<Cut>, _: &Route, done: Done| tx.send(done).unwrap();
        let route = route(&version, Some(parallel(3)));
        let together = Together::new(Arc::new(cut), route, Some(none.clone()), Box::new(finish));
        together.work(&mut worker);
        together.work(&mut worker);
        assert!(rx.recv().unwrap().unrunnable.is_some() && rx.try_recv().is_err());
    }
    let goes_on = slices[1].run(&route(&version, Some(parallel(4))), Some(&none), &mut worker);
    assert!(goes_on.unrunnable.is_none());
}

#[test]
fn pieces_of_one_batch_are_one_and_others_stay() {
    let piece = |first_offset, rows: &'static [u8]| Piece {
        rows: Rows::Pending(Bytes::from_static(rows)),
        records: 1,
        first_offset,
        first_arrival: i64::try_from(first_offset).unwrap() * 10,
    };
    let key = |output| BatchKey { output, partition: Vec::new() };
    let pieces = vec![(key(0), piece(7, b"a\n")), (key(1), piece(8, b"b\n")), (key(0), piece(5, b"c\n"))];
    let joined: Vec<_> = joined(pieces)
        .into_iter()
        .map(|(key, piece)| {
            let rows = String::from_utf8(piece.pending().to_vec()).unwrap();
            (key.output, rows, piece.records, piece.first_offset, piece.first_arrival)
        })
        .collect();
    assert_eq!(joined, [(0, "a\nc\n".to_owned(), 2, 5, 50), (1, "b\n".to_owned(), 1, 8, 80)]);
}
