//! Random documents and random turns, against a small tree model that is obviously right.
//!
//! `tree` is the model of one document, `rows` that of a chunk. What the chunk reads, writes and decides
//! must be what the model says; its output is compared as a tree that keeps order and duplicates.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod rows;
mod tree;

use std::sync::Arc;

use proptest::prelude::*;
use serde::de::IgnoredAny;
use wasmill_chunk::{Chunk, ChunkLimits, Column, FinishOptions, Input, Layout, RowMeta, RowSink, Verdicts};

use rows::Rng;

#[derive(Default)]
struct Payloads(Vec<Vec<u8>>);

impl RowSink for Payloads {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        self.0.push(Vec::new());
        self.0.last_mut().unwrap()
    }

    fn end(&mut self, _row: &RowMeta<'_>) {}
}

/// Which payloads the chunk takes for JSON.
fn valid(payloads: &[Vec<u8>], fields: &[&[&str]]) -> Vec<bool> {
    let fields = fields.iter().map(|path| path.iter().map(|key| key.to_string()).collect()).collect();
    let mut chunk = Chunk::new(Arc::new(Layout::new(&[fields]).unwrap()), ChunkLimits::default());
    let mut column = Column::default();
    payloads.iter().for_each(|payload| column.push(payload));
    let input = Input::of_payloads(0, column.as_ref());
    chunk.begin(&input, input.rows()).unwrap();
    let (mut sink, mut verdicts) = (Payloads::default(), Verdicts::default());
    chunk.finish(&FinishOptions { require_json: true, ..FinishOptions::default() }, &mut sink, &mut verdicts);
    let mut valid = vec![true; payloads.len()];
    verdicts.failed.iter().for_each(|failure| valid[failure.input_row as usize] = false);
    valid
}

fn serde_valid(payload: &[u8]) -> bool {
    std::str::from_utf8(payload).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn chain_random_turns_agree_with_the_model(seed: u64) {
        rows::run(&mut Rng::new(seed));
    }

    #[test]
    fn scan_mutated_documents_agrees_with_serde_json(seed: u64) {
        let mut rng = Rng::new(seed);
        let mut payloads = Vec::new();
        for _ in 0..8 {
            let mut text = Vec::new();
            tree::random(&mut rng, 3).write(&mut rng, &mut text);
            for _ in 0..rng.below(4) {
                let at = rng.below(text.len() + 1);
                let bytes: &[&[u8]] = &[
                    b"\"", b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b"-", b".", b"e", b"\x00", b"\x1f",
                    b" ", b"\n", b"\xff", b"\xc3", b"\xa9", b"\xc3\xa9", b"\\u12", b"\\ud800", b"t", b"null", b"01",
                ];
                match rng.below(3) {
                    0 if at < text.len() => { text.remove(at); }
                    1 => text.truncate(at),
                    _ => { text.splice(at..at, bytes[rng.below(bytes.len())].iter().copied()); }
                }
            }
            payloads.push(text);
        }
        let wanted: Vec<bool> = payloads.iter().map(|payload| serde_valid(payload)).collect();
        let shown: Vec<_> = payloads.iter().map(|payload| String::from_utf8_lossy(payload)).collect();
        prop_assert_eq!(&valid(&payloads, &[]), &wanted, "no field: {:?}", shown);
        let fields: &[&[&str]] = &[&["a"], &["b"], &["c", "d"]];
        prop_assert_eq!(&valid(&payloads, fields), &wanted, "fields: {:?}", shown);
    }

    #[test]
    fn scan_any_bytes_agrees_with_serde_json(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..24), 1..8)) {
        let wanted: Vec<bool> = payloads.iter().map(|payload| serde_valid(payload)).collect();
        prop_assert_eq!(valid(&payloads, &[&["a"]]), wanted);
    }
}
