//! Hashing compared with scikit-learn: `fixtures/sklearn.json`, made once by `fixtures/make.py`.

use serde::Deserialize;

use crate::config::{Norm, Unit};
use crate::murmur::{murmur3_32, place};
use crate::text::{Ngrams, Scratch};
use crate::vector::gather;

#[derive(Deserialize)]
struct Fixture {
    murmur3: Vec<Murmur>,
    hasher: Vec<Hasher>,
    text: Vec<Text>,
}

#[derive(Deserialize)]
struct Murmur {
    text: String,
    hash: u32,
}

#[derive(Deserialize)]
struct Hasher {
    record: serde_json::Map<String, serde_json::Value>,
    size: u32,
    signed: bool,
    indices: Vec<u32>,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    unit: Unit,
    min: usize,
    max: usize,
    norm: Norm,
    signed: bool,
    indices: Vec<u32>,
    values: Vec<f64>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../fixtures/sklearn.json")).unwrap()
}

fn assert_close(got: &[(u32, f64)], indices: &[u32], values: &[f64], what: &str) {
    let positions: Vec<u32> = got.iter().map(|(at, _)| *at).collect();
    assert_eq!(positions, indices, "{what}");
    for ((_, got), want) in got.iter().zip(values) {
        assert!((got - want).abs() < 1e-12, "{what}: {got} {want}");
    }
}

#[test]
fn murmur3_scikit_learn_hashes_agree() {
    for case in fixture().murmur3 {
        assert_eq!(murmur3_32(case.text.as_bytes(), 0), case.hash, "{}", case.text);
    }
}

#[test]
fn place_feature_hasher_vectors_agree() {
    for case in fixture().hasher {
        let mut pairs = Vec::new();
        for (name, value) in &case.record {
            let (token, weight) = match value.as_str() {
                Some(text) => (format!("{name}={text}"), 1.0),
                None => (name.clone(), value.as_f64().unwrap()),
            };
            let (at, sign) = place(token.as_bytes(), case.size, case.signed);
            pairs.push((at, sign * weight));
        }
        gather(&mut pairs);
        assert_close(&pairs, &case.indices, &case.values, &format!("{:?} {}", case.record, case.size));
    }
}

#[test]
fn pairs_hashing_vectorizer_vectors_agree() {
    let mut scratch = Scratch::default();
    for case in fixture().text {
        let ngrams = Ngrams {
            unit: case.unit,
            min: case.min,
            max: case.max,
            size: 64,
            signed: case.signed,
            lowercase: true,
            norm: case.norm,
            max_chars: 4096,
        };
        let what = format!("{:?} {:?} {}-{} {:?}", case.text, case.unit, case.min, case.max, case.norm);
        assert_close(ngrams.pairs(&case.text, &mut scratch), &case.indices, &case.values, &what);
    }
}
