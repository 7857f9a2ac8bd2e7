//! A table in memory over a database that is a map: what it says, whatever is changed, written, forgotten and failed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn put(resident: &mut Resident, address: &[u8], value: &[u8]) {
    resident.put(Wanted::new(address), &Pair::put(address, 7, 1, value));
}

fn get(resident: &Resident, address: &[u8]) -> Option<Option<Vec<u8>>> {
    match resident.get(Wanted::new(address)) {
        Found::Value(value) => Some(Some(crate::stored::entry(value).unwrap().value.to_vec())),
        Found::Missing => Some(None),
        Found::Unknown => None,
    }
}

fn held(held: &Held) -> (usize, usize) {
    (held.bytes.load(Ordering::Relaxed), held.changed.load(Ordering::Relaxed))
}

/// Writes all that is changed.
fn write(resident: &mut Resident) -> Vec<Pair> {
    let mut entries = Vec::new();
    if resident.freeze().is_none() {
        return entries;
    }
    let mut more = true;
    while more {
        let handed = resident.hand_over(3).unwrap();
        entries.extend(handed.entries);
        more = handed.more;
    }
    let mut next = Some(0);
    while let Some(from) = next {
        next = resident.written(from, 3);
    }
    entries
}

#[test]
fn what_comes_and_goes_between_two_writes_leaves_nothing_and_what_is_written_a_removal() {
    let all = Arc::new(Held::default());
    let mut resident = Resident::whole(Arc::clone(&all));
    assert_eq!(get(&resident, b"a"), Some(None));
    put(&mut resident, b"a", b"1");
    put(&mut resident, b"a", b"22");
    assert_eq!(get(&resident, b"a"), Some(Some(b"22".to_vec())));
    let bytes = RESIDENT_ENTRY_BYTES + 2 + 1 + 12 + 2;
    assert_eq!(held(&all), (bytes, bytes));
    resident.remove(Wanted::new(b"a"));
    assert_eq!((get(&resident, b"a"), all.changed.load(Ordering::Relaxed)), (Some(None), 0));
    assert!(write(&mut resident).is_empty());
    put(&mut resident, b"a", b"3");
    assert_eq!(write(&mut resident).len(), 1);
    assert_eq!((get(&resident, b"a"), all.changed.load(Ordering::Relaxed)), (Some(Some(b"3".to_vec())), 0));
    resident.remove(Wanted::new(b"a"));
    assert_eq!(get(&resident, b"a"), Some(None));
    assert_eq!(write(&mut resident), [Pair::removed(b"a")]);
    assert!(write(&mut resident).is_empty());
    drop(resident);
    assert_eq!(held(&all), (0, 0));
}

#[test]
fn table_that_is_too_large_keeps_what_is_not_written_and_is_a_cache_from_then_on() {
    let all = Arc::new(Held::default());
    let mut resident = Resident::whole(Arc::clone(&all));
    let large = vec![0; 1 << 20];
    let most = u32::try_from((RESIDENT_TABLE_BYTES >> 20) + 5).unwrap();
    (0..most).for_each(|number| put(&mut resident, &number.to_le_bytes(), &large));
    assert!(resident.is_too_large());
    assert!((0..most).all(|number| get(&resident, &number.to_le_bytes()).unwrap().is_some()));
    assert_eq!(get(&resident, b"none"), Some(None));
    assert_eq!(write(&mut resident).len(), most as usize);
    assert_eq!(held(&all), (0, 0));
    assert_eq!(get(&resident, &1_u32.to_le_bytes()), None);
    // What is not here may be there, and a removal of it has to be written.
    resident.remove(Wanted::new(b"k"));
    assert_eq!(get(&resident, b"k"), Some(None));
    resident.learn(Wanted::new(b"k"), &[0; 12]);
    resident.learn(Wanted::new(b"l"), &[0; 12]);
    assert_eq!((get(&resident, b"k"), get(&resident, b"l")), (Some(None), Some(Some(Vec::new()))));
    let forgotten = resident.forgotten();
    assert_eq!(write(&mut resident), [Pair::removed(b"k")]);
    assert_eq!(get(&resident, b"k"), None);
    assert!(resident.forgotten() > forgotten);
}

#[test]
fn tables_share_what_all_may_take() {
    let all = Arc::new(Held::default());
    all.bytes.store(RESIDENT_BYTES - 200, Ordering::Relaxed);
    let [mut one, mut other] = [0, 1].map(|_| Resident::part(Arc::clone(&all)));
    one.learn(Wanted::new(b"a"), &[0; 112]);
    other.learn(Wanted::new(b"a"), &[0; 112]);
    assert!(get(&one, b"a").is_some() && get(&other, b"a").is_none());
    drop(one);
    other.learn(Wanted::new(b"a"), &[0; 112]);
    assert!(get(&other, b"a").is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Remove(u8),
    Learn(u8),
    Freeze,
    HandOver(usize),
    Written,
    Thaw,
    Forget,
    Empty,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..40_u8;
    prop_oneof![
        8 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        5 => key.clone().prop_map(Step::Remove),
        2 => key.prop_map(Step::Learn),
        3 => Just(Step::Freeze),
        5 => (1..30_usize).prop_map(Step::HandOver),
        3 => Just(Step::Written),
        1 => Just(Step::Thaw),
        1 => Just(Step::Forget),
        1 => Just(Step::Empty),
    ]
}

/// Two groups.
fn address(key: u8) -> [u8; 2] {
    [key % 2, key]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_over_the_database_is_what_was_put_there_and_a_write_what_was_there_when_it_began(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let all = Arc::new(Held::default());
        let mut resident = Resident::whole(Arc::clone(&all));
        let mut model: BTreeMap<[u8; 2], u8> = BTreeMap::new();
        let mut database = model.clone();
        // What the write that is on its way has to leave, and whether all of it was handed over.
        let mut frozen = None;
        let mut all_over = false;
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    put(&mut resident, &address(key), &[value]);
                    model.insert(address(key), value);
                }
                Step::Remove(key) => {
                    resident.remove(Wanted::new(&address(key)));
                    model.remove(&address(key));
                }
                Step::Learn(key) => {
                    // Whoever read it has asked the memory first.
                    if let (None, Some(value)) = (get(&resident, &address(key)), database.get(&address(key))) {
                        let pair = Pair::put(&address(key), 7, 1, &[*value]);
                        resident.learn(Wanted::new(&address(key)), pair.value().unwrap());
                    }
                }
                Step::Freeze if frozen.is_none() => {
                    if resident.freeze().is_some() {
                        if resident.wipes_now().unwrap() {
                            database.clear();
                        }
                        (frozen, all_over) = (Some(model.clone()), false);
                    } else {
                        prop_assert_eq!(&database, &model);
                    }
                }
                Step::HandOver(most) if frozen.is_some() && !all_over => {
                    let handed = resident.hand_over(most).unwrap();
                    for pair in handed.entries {
                        let address = [pair.address()[0], pair.address()[1]];
                        match pair.split() {
                            Some((_, _, value)) => database.insert(address, value[0]),
                            None => database.remove(&address),
                        };
                    }
                    all_over = !handed.more;
                    if all_over {
                        prop_assert_eq!(Some(&database), frozen.as_ref());
                    }
                }
                Step::Written if all_over && frozen.is_some() => {
                    let mut next = Some(0);
                    while let Some(from) = next {
                        next = resident.written(from, 7);
                    }
                    frozen = None;
                }
                Step::Thaw => {
                    resident.thaw();
                    frozen = None;
                }
                Step::Forget if !resident.wipes && resident.wipes_now() != Some(true) => resident.forget(),
                Step::Empty => {
                    resident = Resident::emptied(Arc::clone(&all));
                    model.clear();
                    frozen = None;
                }
                _ => {}
            }
            for key in 0..40 {
                let found = get(&resident, &address(key)).unwrap_or_else(|| database.get(&address(key)).map(|value| vec![*value]));
                prop_assert_eq!(found, model.get(&address(key)).map(|value| vec![*value]), "{}", key);
            }
            // In order, a few at a time.
            let (mut walked, mut from) = (BTreeMap::new(), vec![0]);
            loop {
                let known = match resident.known(&from, 3).unwrap() {
                    Ok(known) => known,
                    Err(group) => {
                        resident.arrange(group);
                        continue;
                    }
                };
                prop_assert!(known.entries.is_sorted_by(|(a, _), (b, _)| a < b));
                for (address, entry) in &known.entries {
                    walked.insert([address[0], address[1]], entry.as_ref().map(|entry| entry.value[0]));
                }
                match known.entries.last().filter(|_| known.more) {
                    Some((last, _)) => from = [&last[..], &[0]].concat(),
                    None => break,
                }
            }
            let mut over = if resident.whole { BTreeMap::new() } else { database.clone() };
            for (address, value) in walked {
                match value {
                    Some(value) => over.insert(address, value),
                    None => over.remove(&address),
                };
            }
            prop_assert_eq!(&over, &model);
        }
        drop(resident);
        prop_assert_eq!(held(&all), (0, 0));
    }
}
