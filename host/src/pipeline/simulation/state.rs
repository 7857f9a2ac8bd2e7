//! What the state must be when everything has ended: each record that had an outcome is counted once, and those that failed
//! were never there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use wasmill_state::{Crashing, Incarnation, SliceState, StateError, TableId, TableSpec, View, group_of};

use super::plugin::{self, Class};
use super::world::Sent;

/// How many records are counted, or what is wrong.
pub(super) fn check(
    state: &Crashing,
    incarnation: Incarnation,
    sent: &BTreeMap<u64, Sent>,
    found: &HashMap<String, u64>,
    failed: &HashMap<String, u64>,
) -> Result<u64, String> {
    let text = |error: StateError| error.to_string();
    let store = state.store().stream(incarnation, Arc::default()).map_err(|error| error.to_string())?;
    let mut state = SliceState::new(View::new([], Arc::new(store)), 0, None);
    let table = TableId::new("dice", plugin::SEEN).ok_or("no table")?;
    let table = state.table(&table, TableSpec::default());
    let mut count = |key: &[u8]| -> Result<i64, String> {
        let value = state.get(table, group_of(key), key).map_err(text)?;
        Ok(value.and_then(|value| value[..].try_into().ok()).map_or(0, i64::from_le_bytes))
    };
    let mut all = 0;
    for (n, sent) in sent {
        let base = format!("{}{n}", sent.class.letter());
        let counted = count(base.as_bytes())?;
        all += counted;
        // What is dropped leaves nothing else to see.
        let was_there = found.contains_key(&base) || failed.contains_key(&base);
        let right = match sent {
            Sent { forgotten: true, .. } => true,
            Sent { class: Class::Fail, .. } => counted == 0,
            Sent { acknowledged: true, .. } => counted == 1,
            _ => counted == 1 || counted == 0 && !was_there,
        };
        if !right {
            return Err(format!("record {base} ({sent:?}) is counted {counted} times in the state"));
        }
    }
    let total = count(plugin::ALL)?;
    if total != all {
        return Err(format!("the state has counted {total} records, and {all} of them by name"));
    }
    Ok(all.unsigned_abs())
}
