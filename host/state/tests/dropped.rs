//! Tables and streams that were dropped: nothing is left of them, and the next plugin may have any layout.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use wasmill_state::{Crashing, Layer, SliceState, StreamStore, TableId, TableSpec, View};

const INCARNATION: [u8; 16] = [7; 16];

/// A slice that puts `k` in this table, or removes it.
fn slice(stream: &StreamStore, name: &str, version: u32, value: Option<&[u8]>) -> Layer {
    let mut state = SliceState::new(View::new([], Arc::new(stream.clone())), 1, Some(Arc::default()));
    let table = state.table(&TableId::new("count", name).unwrap(), TableSpec { version, ttl_ns: 0 });
    state.put(table, 0, b"k", value).unwrap();
    state.finish()
}

fn names(stream: &StreamStore) -> Vec<(String, u32, u64)> {
    let tables = stream.tables().into_iter();
    tables.map(|table| (table.id.table().to_owned(), table.spec.version, table.entries)).collect()
}

fn named(all: &[(&str, u32, u64)]) -> Vec<(String, u32, u64)> {
    all.iter().map(|(name, version, entries)| ((*name).to_owned(), *version, *entries)).collect()
}

#[test]
fn dropped_table_is_not_there_any_more_and_takes_a_lower_layout() {
    let machine = Crashing::default();
    let stream = machine.store().stream(INCARNATION, Arc::default()).unwrap();
    for (position, name) in [(1, "a"), (2, "b")] {
        let layer = slice(&stream, name, 3, Some(b"three"));
        stream.apply(position, &[&layer]).unwrap();
    }
    // What a plugin has emptied itself is its table still.
    let emptied = slice(&stream, "b", 3, None);
    stream.apply(3, &[&emptied]).unwrap();
    let clearing = || {
        let spec = TableSpec::default();
        Layer::clearing([(TableId::new("count", "a").unwrap(), spec)])
    };
    stream.apply(4, &[&clearing()]).unwrap();
    assert_eq!(names(&stream), named(&[("b", 3, 0)]));
    stream.write_behind().unwrap();
    drop(stream);
    let stream = machine.crashed(|_| 0).store().stream(INCARNATION, Arc::default()).unwrap();
    assert_eq!(names(&stream), named(&[("b", 3, 0)]));
    let id = TableId::new("count", "a").unwrap();
    let mut state = SliceState::new(View::new([], Arc::new(stream.clone())), 1, None);
    assert_eq!(state.version(&id), None);
    let table = state.table(&id, TableSpec::default());
    assert_eq!(state.get(table, 0, b"k").unwrap(), None);
    // Dropped and written again before the store has applied either.
    let again = slice(&stream, "a", 1, Some(b"one"));
    stream.apply(6, &[&clearing(), &again]).unwrap();
    assert_eq!(names(&stream), named(&[("a", 1, 1), ("b", 3, 0)]));
    let again = slice(&stream, "a", 1, Some(b"other"));
    stream.apply(8, &[&again, &clearing()]).unwrap();
    assert_eq!(names(&stream), named(&[("b", 3, 0)]));
    let mut state = SliceState::new(View::new([], Arc::new(stream.clone())), 1, None);
    let table = state.table(&id, TableSpec::default());
    assert_eq!(state.get(table, 0, b"k").unwrap(), None);
}

#[test]
fn dropped_stream_leaves_nothing_and_its_neighbours_as_they_were() {
    let store = Crashing::default().store();
    let id = TableId::new("t", "a").unwrap();
    let incarnations = [[1; 16], [2; 16], [0xff; 16]];
    for incarnation in incarnations {
        let stream = store.stream(incarnation, Arc::default()).unwrap();
        let mut state = SliceState::new(View::new([], Arc::new(stream.clone())), 1, None);
        let table = state.table(&id, TableSpec { version: 1, ttl_ns: 0 });
        for key in 0..9000_u32 {
            state.put(table, 255, &key.to_be_bytes(), Some(b"v")).unwrap();
        }
        stream.apply(5, &[&state.finish()]).unwrap();
        stream.write_behind().unwrap();
    }
    assert_eq!(store.incarnations().unwrap(), incarnations);
    for (left, incarnation) in incarnations.iter().enumerate().skip(1).rev() {
        store.drop_stream(*incarnation).unwrap();
        assert_eq!(store.incarnations().unwrap(), incarnations[..left]);
        assert_eq!(store.mark(*incarnation).unwrap(), None);
    }
    let left = store.stream(incarnations[0], Arc::default()).unwrap();
    assert_eq!((left.tables()[0].entries, left.mark().unwrap().position), (9000, 5));
}
