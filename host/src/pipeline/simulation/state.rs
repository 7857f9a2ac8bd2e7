//! What the state has counted when everything has ended: by record, by key and in all, in the strand of its key where the stream
//! has strands.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmill_state::{
    Crashing, Incarnation, SliceState, StateError, Strands, TableId, TableSpec, View, group_of,
};

use super::plugin;
use super::world::Sent;

/// How often each record is counted, or what does not agree.
pub(super) fn counted(
    state: &Crashing,
    incarnation: Incarnation,
    strands: Option<&Strands>,
    sent: &BTreeMap<u64, Sent>,
) -> Result<BTreeMap<u64, i64>, String> {
    let text = |error: StateError| error.to_string();
    let store = state.store().stream(incarnation, Arc::default()).map_err(|error| error.to_string())?;
    let mut state = SliceState::new(View::new([], Arc::new(store)), 0, None);
    let table = TableId::new("dice", plugin::SEEN).ok_or("no table")?;
    let tables: Vec<TableId> = match strands {
        Some(strands) => strands.each().filter_map(|strand| table.in_strand(&strand)).collect(),
        None => vec![table],
    };
    let tables: Vec<usize> = tables.iter().map(|table| state.table(table, TableSpec::default())).collect();
    let strand_of = |key: &str| strands.map_or(0, |strands| usize::from(strands.number_of(key.as_bytes())));
    let mut count = |strand: usize, key: &[u8]| -> Result<i64, String> {
        let value = state.get(tables[strand], group_of(key), key).map_err(text)?;
        Ok(value.and_then(|value| value[..].try_into().ok()).map_or(0, i64::from_le_bytes))
    };
    let (mut by_record, mut by_key) = (BTreeMap::new(), BTreeMap::<String, i64>::new());
    for (n, sent) in sent {
        let (name, key) = (plugin::name(sent.class, *n), plugin::key_of(*n));
        let own = strand_of(&key);
        for strand in 0..tables.len() {
            let counted = count(strand, name.as_bytes())?;
            if strand != own && counted != 0 {
                return Err(format!("record {name} of strand {own} is counted in strand {strand}"));
            }
            if strand == own {
                by_record.insert(*n, counted);
                *by_key.entry(key.clone()).or_default() += counted;
            }
        }
    }
    for (key, counted) in &by_key {
        let total = count(strand_of(key), &plugin::all_of(key.as_bytes()))?;
        if total != *counted {
            return Err(format!("the state has counted {total} records of the key {key:?}, not {counted}"));
        }
    }
    let mut total = 0;
    for strand in 0..tables.len() {
        total += count(strand, plugin::ALL)?;
    }
    let all: i64 = by_record.values().sum();
    if total != all {
        return Err(format!("the state has counted {total} records, and {all} of them by name"));
    }
    Ok(by_record)
}
