//! Records that are no text: gzip, aggregates of the Kinesis Producer Library, and what stands behind their fields.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};
use wasmill_chunk::{
    Cells, Chunk, ChunkLimits, Column, FinishOptions, Input, Layout, RowMeta, RowSink, RowsId, Verdicts,
};
use wasmill_sdk::log::Level;
use wasmill_sdk::native::{Grants, Native};
use wasmill_sdk::testing::{Outcome, Row, run, take_log};
use wasmill_unpack::Unpack;

const GZIP: &str = r#"{"steps":[{"decompress":"gzip"}]}"#;
const KPL: &str = r#"{"steps":[{"kpl":{}}]}"#;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn reason(outcome: &Outcome) -> &str {
    assert_eq!(outcome.emitted, []);
    outcome.reasons()[0].1
}

#[test]
fn gzip_of_one_member_and_of_several_is_decompressed_in_order() {
    let members = [gzip(b"one, "), gzip(b""), gzip(b"two")].concat();
    let outcome = run::<Unpack>(GZIP, &[gzip(b"alone"), members, gzip(b"")]);
    assert_eq!(outcome.reasons(), []);
    assert_eq!(outcome.rows(), ["alone", "one, two", ""]);
}

#[test]
fn gzip_that_is_damaged_fails_and_its_neighbours_pass() {
    let whole = gzip(&b"a text of some length, not too short".repeat(20));
    let mut checksum = whole.clone();
    let at = checksum.len() - 8;
    checksum[at] ^= 1;
    let trailing = [whole.as_slice(), b"more"].concat();
    let cut = whole[..whole.len() / 2].to_vec();
    let outcome = run::<Unpack>(GZIP, &[whole, checksum, trailing, cut, gzip(b"last")]);
    let failed: Vec<usize> = outcome.reasons().iter().map(|(row, _)| *row).collect();
    assert_eq!(failed, [1, 2, 3]);
    for (_, reason) in outcome.reasons() {
        assert!(reason.starts_with("decompress: the gzip is corrupt or cut short: "), "{reason}");
    }
    assert_eq!(outcome.rows().len(), 2);
}

#[test]
fn gzip_is_bounded_by_bytes_and_by_ratio() {
    let config = |more: &str| format!(r#"{{"steps":[{{"decompress":"gzip"}}],{more}}}"#);
    let zeros = gzip(&[b'0'; 100_000]);
    assert!(zeros.len() < 500, "{}", zeros.len());
    let small = run::<Unpack>(&config(r#""max_bytes":99999"#), &[&zeros]);
    assert_eq!(reason(&small), "decompress: more than 99999 bytes come of one record (`max_bytes`)");
    let ratio = run::<Unpack>(&config(r#""max_ratio":50"#), &[&zeros]);
    assert_eq!(reason(&ratio), "decompress: the record grows more than 50 times (`max_ratio`)");
    let fits = run::<Unpack>(&config(r#""max_bytes":100000"#), &[&zeros]);
    assert_eq!(fits.rows()[0].len(), 100_000);
    // What is allowed if nothing is said.
    let bomb = run::<Unpack>(
        r#"{"steps":[{"decompress":"gzip"}],"max_ratio":2000}"#,
        &[gzip(&vec![b'0'; (10 << 20) + 1])],
    );
    assert!(reason(&bomb).contains("more than 10485760 bytes"), "{}", reason(&bomb));
}

#[test]
fn records_that_are_too_large_together_are_done_one_by_one() {
    let record = gzip(&b"0123456789abcdef".repeat(9 << 16));
    let outcome = run::<Unpack>(GZIP, &[&record, &record, &record]);
    assert_eq!(outcome.reasons(), []);
    assert_eq!(outcome.rows().iter().map(|row| row.len()).collect::<Vec<_>>(), [9 << 20; 3]);
}

#[test]
fn ten_thousand_pieces_of_a_large_record_leave_and_one_more_fails() {
    let line = format!("{}\n", "x".repeat(150));
    let config = r#"{"steps":[{"decompress":"gzip"},{"delimited":{}}]}"#;
    let outcome = run::<Unpack>(config, &[gzip(line.repeat(10_000).as_bytes())]);
    assert_eq!(outcome.reasons(), []);
    assert_eq!(outcome.rows().len(), 10_000);
    let outcome = run::<Unpack>(config, &[gzip(line.repeat(10_001).as_bytes())]);
    assert_eq!(reason(&outcome), "delimited: more than 10000 records come of one (`max_records`)");
    // And when it came as it is: each piece is much smaller than the record.
    let outcome = run::<Unpack>(r#"{"steps":[{"delimited":{}}]}"#, &[line.repeat(10_000)]);
    assert_eq!((outcome.rows().len(), outcome.reasons().len()), (10_000, 0));
}

#[test]
fn order_of_records_stays_where_some_become_several() {
    let config = r#"{"steps":[{"delimited":{"delimiter":","}}]}"#;
    let outcome = run::<Unpack>(config, &["1", "2,3", ",", "4", "5,6"]);
    assert_eq!(outcome.rows(), ["1", "2", "3", "4", "5", "6"]);
    let place = |row: &Row| (row.offset, row.child);
    let places: Vec<(i64, u32)> = outcome.emitted.iter().map(place).collect();
    assert_eq!(places, [(0, 0), (1, 0), (1, 1), (3, 0), (4, 0), (4, 1)]);
}

/// A field of a protobuf message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![(number << 3) | 2];
    let mut len = content.len();
    while len > 127 {
        out.push((len & 127) as u8 | 128);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(content);
    out
}

/// An aggregate of records: number of the partition key, of the explicit hash key, and data.
fn aggregate(keys: &[&str], hashes: &[&str], records: &[(u8, Option<u8>, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    keys.iter().for_each(|key| message.extend(field(1, key.as_bytes())));
    hashes.iter().for_each(|key| message.extend(field(2, key.as_bytes())));
    for (key, hash, data) in records {
        let mut record = vec![1 << 3, *key];
        hash.iter().for_each(|hash| record.extend([2 << 3, *hash]));
        record.extend(field(3, data));
        record.extend(field(4, &field(1, b"a tag")));
        message.extend(field(3, &record));
    }
    sealed(&message)
}

fn sealed(message: &[u8]) -> Vec<u8> {
    [&[0xf3, 0x89, 0x9a, 0xc2], message, Md5::digest(message).as_slice()].concat()
}

#[test]
fn aggregate_is_taken_apart_with_its_keys_and_other_records_pass() {
    let records: [(u8, Option<u8>, &[u8]); 3] = [(1, None, b"one"), (0, Some(0), b"two"), (1, None, b"")];
    let packed = aggregate(&["ann", "bob"], &["1234"], &records);
    let outcome = run::<Unpack>(KPL, &[packed, b"plain".to_vec(), vec![], vec![0xf3, 0x89]]);
    assert_eq!(outcome.reasons(), []);
    let row = |row: &Row| (row.offset, row.child, row.payload.clone(), row.key.clone());
    let rows: Vec<(i64, u32, String, Option<String>)> = outcome.emitted.iter().map(row).collect();
    let wanted = |offset, child, payload: &str, key: Option<&str>| {
        (offset, child, payload.to_owned(), key.map(str::to_owned))
    };
    assert_eq!(rows[0], wanted(0, 0, "one", Some("bob")));
    assert_eq!(rows[1], wanted(0, 1, "two", Some("ann")));
    assert_eq!(rows[2], wanted(0, 2, "", Some("bob")));
    assert_eq!(rows[3], wanted(1, 0, "plain", None));
    assert_eq!(rows[4], wanted(2, 0, "", None));
    assert_eq!(rows.len(), 6);
}

#[test]
fn aggregate_in_gzip_of_several_objects_keeps_its_keys_on_each() {
    let config = r#"{"steps":[{"decompress":"gzip"},{"kpl":{}},{"json":{}}]}"#;
    let records: [(u8, Option<u8>, &[u8]); 2] = [(1, None, b"{\"a\":1}{\"a\":2}"), (0, None, b"{\"a\":3}")];
    let outcome = run::<Unpack>(config, &[gzip(&aggregate(&["ann", "bob"], &[], &records))]);
    let rows: Vec<(&str, Option<&str>)> =
        outcome.emitted.iter().map(|row| (row.payload.as_str(), row.key.as_deref())).collect();
    assert_eq!(rows, [("{\"a\":1}", Some("bob")), ("{\"a\":2}", Some("bob")), ("{\"a\":3}", Some("ann"))]);
}

#[test]
fn aggregate_that_is_damaged_says_how() {
    let good = aggregate(&["ann"], &[], &[(0, None, b"one")]);
    let mut flipped = good.clone();
    flipped[8] ^= 1;
    let no_key = aggregate(&["ann"], &[], &[(0, None, b"one"), (1, None, b"two")]);
    let no_hash = aggregate(&["ann"], &[], &[(0, Some(0), b"one")]);
    let cut = sealed(&[(3 << 3) | 2, 100, 1]);
    let bad = [flipped, good[..10].to_vec(), no_key, no_hash, cut];
    let outcome = run::<Unpack>(KPL, &bad);
    let reasons: Vec<&str> = outcome.reasons().iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons[0], "kpl: the aggregate is damaged: its MD5 is another");
    assert_eq!(reasons[1], "kpl: 10 bytes with the magic of an aggregate are too few for one");
    assert_eq!(reasons[2], "kpl: record 2 has the partition key 1 of a table of 1");
    assert_eq!(reasons[3], "kpl: record 1 has the explicit hash key 0 of a table of 0");
    assert!(reasons[4].starts_with("kpl: the aggregate is damaged: "), "{}", reasons[4]);
    assert_eq!((reasons.len(), outcome.emitted.len()), (5, 0));
}

#[test]
fn aggregate_of_too_many_records_or_keys_is_refused_before_it_is_built() {
    let config = r#"{"steps":[{"kpl":{}}],"max_records":3}"#;
    for field in [1, 2, 3] {
        let message: Vec<u8> = [(field << 3) | 2, 0].repeat(1 << 18);
        let outcome = run::<Unpack>(config, &[sealed(&message)]);
        assert_eq!(reason(&outcome), "kpl: more than 3 records come of one (`max_records`)");
    }
}

/// Rows that leave, with what rows of the test kit do not show.
#[derive(Default)]
struct Gather {
    buffer: Vec<u8>,
    arrivals: Vec<i64>,
}

impl RowSink for Gather {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        &mut self.buffer
    }

    fn end(&mut self, row: &RowMeta<'_>) {
        self.arrivals.push(row.arrival);
    }
}

#[test]
fn pieces_keep_arrival_and_attributes_and_get_the_explicit_hash_key() {
    let mut plugin = Native::<Unpack>::configure(KPL, &Grants::default()).unwrap();
    let records: [(u8, Option<u8>, &[u8]); 2] = [(0, Some(0), b"one"), (0, None, b"two")];
    let mut payloads = Column::default();
    payloads.push(&aggregate(&["ann"], &["1234"], &records));
    let mut from = Cells::default();
    from.push(3, b"shard-1");
    let attributes = [("from".to_owned(), from.as_ref())];
    let mut input = Input::of_payloads(7, payloads.as_ref());
    input.attributes = &attributes;
    input.arrival = 42;
    let layout = Layout::new(&[plugin.fields().to_vec(), vec![]]).unwrap();
    let mut chunk = Chunk::new(Arc::new(layout), ChunkLimits::default());
    chunk.begin(&input, 0..1).unwrap();
    chunk.enter(0, 0);
    plugin.process(&mut chunk).unwrap();
    chunk.apply().unwrap();
    chunk.enter(1, 0);
    let attribute = |chunk: &mut Chunk, name: &str| -> Vec<Option<String>> {
        let cells = chunk.attributes(RowsId::MAIN, name).unwrap();
        (0..2).map(|row| cells.get(row).map(|value| String::from_utf8_lossy(value).into_owned())).collect()
    };
    assert_eq!(attribute(&mut chunk, "explicit_hash_key"), [Some("1234".to_owned()), None]);
    assert_eq!(attribute(&mut chunk, "from"), [Some("shard-1".to_owned()), Some("shard-1".to_owned())]);
    chunk.apply().unwrap();
    let mut gather = Gather::default();
    chunk.finish(&FinishOptions::default(), &mut gather, &mut Verdicts::default());
    assert_eq!((gather.buffer.as_slice(), gather.arrivals), (b"onetwo".as_slice(), vec![42, 42]));
}

#[test]
fn record_of_too_many_records_is_left_whole_and_said_in_the_log() {
    for (step, record) in [
        (r#"{"json":{"leave_whole_beyond":2}}"#, r#"{"n":1}{"n":2}{"n":3}"#),
        (r#"{"delimited":{"delimiter":"|","leave_whole_beyond":2}}"#, "1|2||3"),
    ] {
        let fits = record.rsplit_once(['{', '|']).unwrap().0;
        drop(take_log());
        let outcome = run::<Unpack>(&format!(r#"{{"steps":[{step}]}}"#), &[record, fits]);
        assert_eq!((outcome.reasons().len(), outcome.rows().len()), (0, 3), "{step}");
        assert_eq!(outcome.rows()[0], record);
        let log = take_log();
        let [(Level::Warn, line)] = &log[..] else { panic!("{log:?}") };
        assert!(line.starts_with("DynamicPartitioning.DeAggregationRecordCountLimitExceeded: "), "{line}");
    }
}
