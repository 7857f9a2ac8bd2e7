//! What is kept of a key, and what comes of a call's records. Knows nothing of columns.

use serde::{Deserialize, Serialize};
use wasmill_keyed::state::{decode, encode};
use wasmill_keyed::{Address, Places, State, StateFault, Table};

use crate::config::Feature;

/// What is kept of a record: its time, and of each field the bits of a number, or the print of a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Nanoseconds since 1970.
    pub time: i64,
    values: Vec<Option<Bits>>,
}

/// Numbers have their bits at the front, where a variable length saves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bits([u8; 8]);

impl Kept {
    /// A record.
    #[must_use]
    pub fn new(time: i64, values: Vec<Option<u64>>) -> Self {
        Self { time, values: values.into_iter().map(|value| Some(Bits(value?.to_le_bytes()))).collect() }
    }

    /// The print of a value, or a number's bits.
    #[must_use]
    pub fn value(&self, field: usize) -> Option<u64> {
        self.values.get(field).copied().flatten().map(|Bits(bits)| u64::from_le_bytes(bits))
    }

    /// A number.
    #[must_use]
    pub fn number(&self, field: usize) -> Option<f64> {
        self.value(field).map(f64::from_bits)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Past {
    /// Of the fields that are kept: what was kept under others says nothing.
    print: u32,
    records: Vec<Kept>,
}

/// What the engine has to know.
#[derive(Debug)]
pub struct Spec {
    /// Where it keeps.
    pub table: Table,
    /// What it computes.
    pub features: Vec<Feature>,
    /// Of the fields that are kept.
    pub print: u32,
    /// Most records of a key.
    pub keep: u32,
}

impl Spec {
    /// How many records, and of which age in nanoseconds, the next one may look at.
    fn horizon(&self) -> (usize, Option<i64>) {
        let by_count = self.features.iter().filter(|feature| feature.reach.ns.is_none());
        let records = by_count.map(|feature| feature.reach.needs()).max().unwrap_or(0);
        (records as usize, self.features.iter().filter_map(|feature| feature.reach.ns).max())
    }
}

/// A record of a call.
#[derive(Debug)]
pub struct Record {
    /// Of its key.
    pub address: Address,
    /// What is kept of it.
    pub kept: Kept,
}

/// The features of each record, in their order.
///
/// # Errors
/// State that cannot be read or kept.
pub fn process(
    spec: &Spec,
    state: &mut impl State,
    records: Vec<Record>,
) -> Result<Vec<Vec<Option<f64>>>, StateFault> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let places = Places::of(records.iter().map(|record| &record.address));
    let mut pasts = Vec::with_capacity(places.addresses.len());
    for value in state.get(spec.table, &places.addresses) {
        let past: Option<Past> = value.map(|bytes| decode(spec.table, &bytes)).transpose()?;
        let past = past.filter(|past| past.print == spec.print);
        pasts.push(past.unwrap_or_else(|| Past { print: spec.print, records: Vec::new() }));
    }
    let horizon = spec.horizon();
    let mut all = Vec::with_capacity(records.len());
    for (record, place) in records.into_iter().zip(places.of_records) {
        let Some(past) = pasts.get_mut(place) else { continue };
        past.records.push(record.kept);
        all.push(
            spec.features.iter().map(|feature| feature.measure.of(feature.reach, &past.records)).collect(),
        );
        forget(past, spec.keep as usize, horizon);
    }
    let mut changes = Vec::with_capacity(pasts.len());
    for (address, past) in places.addresses.into_iter().zip(pasts) {
        changes.push((address, Some(encode(spec.table, &past)?)));
    }
    state.put(spec.table, changes);
    Ok(all)
}

/// Takes away what no later record looks at. The last one stays: the next looks back at it.
fn forget(past: &mut Past, keep: usize, (records, ns): (usize, Option<i64>)) {
    let len = past.records.len();
    let Some(last) = past.records.last().map(|record| record.time) else { return };
    let is_needed = |(at, record): (usize, &Kept)| {
        // One more comes before it is looked at again.
        len - at < records.max(2) || ns.is_some_and(|ns| last.saturating_sub(record.time) < ns)
    };
    let old = past.records.iter().enumerate().take_while(|entry| !is_needed(*entry)).count();
    let excess = (len + 1).saturating_sub(keep.max(2));
    past.records.drain(..old.max(excess));
}
