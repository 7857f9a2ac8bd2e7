//! State that is written behind, while others read it and change it.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmill_state::{
    Base, Crashing, Layer, SliceState, StreamStore, TableId, TableSpec, Usage, View, group_of,
};

const INCARNATION: [u8; 16] = [7; 16];
const SPEC: fn(u64) -> TableSpec = |ttl_ns| TableSpec { version: 1, ttl_ns };

/// Slices read, outcomes are applied and what they changed is written at the same time; then a crash leaves any part of it.
#[test]
fn state_that_is_written_while_more_is_applied_and_read_is_whole_after_a_crash() {
    let id = TableId::new("t", "a").unwrap();
    let spec = [SPEC(0), SPEC(1000)];
    let slice = |stream: &StreamStore, spec, usage: &Arc<Usage>, number: u64| {
        let now = i64::try_from(number).unwrap();
        let view = View::new([], Arc::new(stream.clone()));
        let mut state = SliceState::new(view, now, Some(Arc::clone(usage)));
        let table = state.table(&id, spec);
        for n in 0..20_u64 {
            let key = (number * 7 + n * n) % 500;
            let group = group_of(&key.to_be_bytes());
            if (number + n).is_multiple_of(3) {
                state.put(table, group, &key.to_be_bytes(), None).unwrap();
            } else {
                state.add(table, group, &key.to_be_bytes(), i64::try_from(n + 1).unwrap()).unwrap();
            }
        }
        let layer = state.finish();
        stream.apply(number, &[&layer]).unwrap();
        layer
    };
    let entries = |stream: &StreamStore| {
        let mut all = BTreeMap::new();
        let mut from = Vec::new();
        loop {
            let range = stream.range(&id, &from, 9).unwrap();
            if let Some((last, _)) = range.entries.last() {
                from = [&last[..], &[0]].concat();
            }
            all.extend(
                range.entries.into_iter().map(|(address, entry)| (address.to_vec(), entry.value.to_vec())),
            );
            if !range.more {
                return all;
            }
        }
    };
    for spec in spec {
        let crashing = Crashing::default();
        let usage = Arc::new(Usage::default());
        let stream = crashing.store().stream(INCARNATION, Arc::clone(&usage)).unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        let layers: Vec<Layer> = std::thread::scope(|scope| {
            let writes = scope.spawn(|| {
                let mut writes = 0;
                while !over.load(std::sync::atomic::Ordering::Acquire) {
                    stream.write_behind().unwrap();
                    writes += 1;
                }
                writes
            });
            let reads = scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Acquire) {
                    let found = entries(&stream);
                    assert!(found.keys().is_sorted() && found.len() <= 500);
                }
            });
            let layers = (1..=1500).map(|number| slice(&stream, spec, &usage, number)).collect();
            over.store(true, std::sync::atomic::Ordering::Release);
            reads.join().unwrap();
            assert!(writes.join().unwrap() > 0);
            layers
        });
        // The last write fails between its batches.
        crashing.succeeds(Some(7));
        let failed = stream.write_behind().is_err();
        let expected = entries(&stream);
        let tables = stream.tables();
        for kept in 0..=7 {
            let crashed = crashing.crashed(|behind| behind * kept / 7);
            let usage = Arc::new(Usage::default());
            let again = crashed.store().stream(INCARNATION, Arc::clone(&usage)).unwrap();
            let mark = again.mark().map_or(0, |mark| mark.position);
            assert!(!failed || mark < 1500);
            for (number, layer) in (1..).zip(&layers).skip(usize::try_from(mark).unwrap()) {
                assert!(again.apply(number, &[layer]).unwrap());
            }
            // Which of those that are too old are gone is another matter.
            if spec.ttl_ns == 0 {
                assert_eq!(again.tables(), tables);
                assert_eq!(entries(&again), expected);
            }
            again.write_behind().unwrap();
            let there = entries(&crashed.store().stream(INCARNATION, Arc::default()).unwrap());
            assert_eq!(there, entries(&again));
            assert_eq!(there.len() as u64, again.tables()[0].entries);
            assert_eq!(usage.stored(), again.tables()[0].bytes);
        }
    }
}
