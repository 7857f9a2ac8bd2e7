//! Strands of one slice: what each sees, what they share, and state that is parted otherwise.

use super::*;
use crate::strand::Strands;

#[test]
fn strands_of_a_slice_have_tables_of_their_own_and_one_bound_on_their_changes() {
    let (id, changing) = (TableId::new("t", "a").unwrap(), Changing::default());
    let strands: Vec<Strand> = Strands::new(2, "user").each().collect();
    let mut states: Vec<SliceState> = strands
        .iter()
        .map(|strand| SliceState::scratch(1).in_strand(strand.clone(), changing.clone()))
        .collect();
    let large = vec![0; VALUE_BYTES_MAX];
    let mut written = [0; 2];
    let full = (0_u32..).find_map(|n| {
        let of = n as usize % 2;
        let table = states[of].table(&id, TableSpec::default());
        let put = states[of].put(table, 0, &n.to_le_bytes(), Some(&large));
        written[of] += usize::from(put.is_ok());
        put.err()
    });
    assert!(matches!(full, Some(StateError::SliceFull)), "{full:?}");
    let all = SLICE_BYTES_MAX / VALUE_BYTES_MAX;
    assert!((all - 2..=all).contains(&(written[0] + written[1])), "{written:?}");
    // What is taken back is free for the others.
    states[0].rollback();
    let table = states[1].table(&id, TableSpec::default());
    let more = |state: &mut SliceState, key: &[u8]| state.put(table, 0, key, Some(&large));
    let table_of_first = states[0].table(&id, TableSpec::default());
    states[0].put(table_of_first, 0, b"k", Some(b"v")).unwrap();
    assert!((0..10_u8).all(|n| more(&mut states[1], &[n; 9]).is_ok()));
    let mut whole = Layer::default();
    states.into_iter().for_each(|state| whole.add(state.finish()));
    let names: BTreeSet<&str> = whole.entries().map(|(id, ..)| id.name()).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a~0/2/user", "a~1/2/user"]);
    assert_eq!(whole.entries().count(), 1 + written[1] + 10);
}

#[test]
fn strands_of_a_slice_share_what_the_tenant_may_keep() {
    let usage = Arc::new(Usage::default());
    usage.set_limit(Some(1_000));
    let (id, changing) = (TableId::new("t", "a").unwrap(), Changing::default());
    let state = |strand| {
        SliceState::new(View::default(), 1, Some(Arc::clone(&usage))).in_strand(strand, changing.clone())
    };
    let mut states: Vec<SliceState> = Strands::new(2, "user").each().map(state).collect();
    let put = |state: &mut SliceState, n: u8| {
        let table = state.table(&id, TableSpec::default());
        state.put(table, 0, &[n], Some(&[0; 350]))
    };
    states.iter_mut().for_each(SliceState::begin);
    put(&mut states[0], 1).unwrap();
    put(&mut states[1], 2).unwrap();
    assert!(matches!(put(&mut states[1], 3), Err(StateError::Full { limit: 1_000 })));
    assert_eq!((states[0].room(), states[1].room()), (Some(200), Some(200)));
    states[0].rollback();
    put(&mut states[1], 3).unwrap();
    // What is done counts as it does for everybody.
    let layer = states.pop().unwrap().finish();
    assert_eq!((states[0].room(), usage.room(0)), (Some(200), Some(200)));
    drop(layer);
    assert_eq!(states[0].room(), Some(1_000));
}

#[test]
fn tables_that_are_parted_otherwise_are_found_until_they_are_emptied() {
    let id = TableId::new("t", "a").unwrap();
    let (four, three) = (Strands::new(4, "user"), Strands::new(3, "user"));
    let strand = Strand { number: 1, of: four.clone() };
    let mut state = SliceState::scratch(1).in_strand(strand.clone(), Changing::default());
    let table = state.table(&id, TableSpec::default());
    state.put(table, 0, b"k", Some(b"v")).unwrap();
    let layer = state.finish();
    let none = View::default();
    assert_eq!((none.parted_otherwise(None), none.parted_otherwise(Some(&four))), (None, None));
    let store = crate::store::Crashing::default().store().stream([1; 16], Arc::default()).unwrap();
    store.apply(1, &[&layer]).unwrap();
    let view = View::new([], Arc::new(store.clone()));
    let found = id.in_strand(&strand);
    assert_eq!(view.parted_otherwise(Some(&four)), None);
    for other in [None, Some(&three), Some(&Strands::new(4, "card"))] {
        assert_eq!(view.parted_otherwise(other), found);
    }
    let cleared = Layer::clearing([(found.unwrap(), TableSpec::default())]);
    let view = View::new([Arc::new(cleared.clone())], Arc::new(store.clone()));
    assert_eq!(view.parted_otherwise(None), None);
    store.apply(2, &[&cleared]).unwrap();
    assert_eq!(View::new([], Arc::new(store)).parted_otherwise(None), None);
}

#[test]
fn many_keys_at_once_are_what_they_are_one_after_another() {
    let id = TableId::new("t", "a").unwrap();
    let usage = Arc::new(Usage::default());
    let spec = TableSpec { version: 1, ttl_ns: 0 };
    let new = |layers: &[Arc<Layer>]| {
        let view = View::new(layers.to_vec(), Arc::new(crate::view::Nothing));
        let mut state = SliceState::new(view, 5, Some(Arc::clone(&usage)));
        let table = state.table(&id, spec);
        state.begin();
        (state, table)
    };
    let keys: Vec<[u8; 2]> = (0..300_u16).map(|number| (number % 170).to_be_bytes()).collect();
    let value = |number: usize| (!number.is_multiple_of(5)).then(|| vec![7; number % 40]);
    let values: Vec<Option<Vec<u8>>> = (0..keys.len()).map(value).collect();
    // Two layers, of which the second is written over the first.
    let mut layers = Vec::new();
    for round in 0..2 {
        let changes = || keys.iter().zip(&values).skip(round * 90);
        let (mut one, table) = new(&layers);
        changes().for_each(|(key, value)| one.put(table, key[1] / 2, key, value.as_deref()).unwrap());
        let (mut many, table) = new(&layers);
        let mut seen = Vec::new();
        let asked = || keys.iter().map(|key| (key[1] / 2, &key[..]));
        let all = |state: &mut SliceState, seen: &mut Vec<Option<Vec<u8>>>| {
            state.get_many(table, asked(), |value| {
                seen.push(value.map(<[u8]>::to_vec));
                Ok::<_, StateError>(())
            })
        };
        all(&mut many, &mut seen).unwrap();
        let rows = changes().map(|(key, value)| Ok((key[1] / 2, &key[..], value.as_deref())));
        many.put_many::<StateError>(table, rows).unwrap();
        seen.clear();
        all(&mut many, &mut seen).unwrap();
        let expected = asked().map(|(group, key)| one.get(table, group, key).unwrap());
        let expected: Vec<Option<Vec<u8>>> =
            expected.map(|value| value.map(|value| value.to_vec())).collect();
        assert_eq!(seen, expected);
        let (one, many) = (one.finish(), many.finish());
        assert_eq!(
            (&one.tables, one.bytes, one.pending.as_ref().map(Pending::bytes)),
            (&many.tables, many.bytes, many.pending.as_ref().map(Pending::bytes))
        );
        assert!(one.changes() > 2 * crate::places::TOGETHER);
        layers.insert(0, Arc::new(many));
    }
    // What comes before a change that is refused was made, and is taken back.
    let (mut state, table) = new(&layers);
    let long = vec![0; VALUE_BYTES_MAX + 1];
    let rows = [Ok((0, &b"a"[..], Some(&b"v"[..]))), Ok((0, b"b", Some(&long))), Ok((0, b"c", None))];
    let refused = state.put_many::<StateError>(table, rows.into_iter());
    assert!(matches!(refused, Err(StateError::ValueTooLong { .. })), "{refused:?}");
    assert!(state.get(table, 0, b"a").unwrap().is_some() && state.has_written());
    state.rollback();
    assert!(state.get(table, 0, b"a").unwrap().is_none() && state.finish().is_empty());
}
