//! The detectors over keyed state: each key's values go through each detector in the order in which they come.
//!
//! State is read and written once per chunk and key. What a detector keeps is found again by its name and definition:
//! a config with other detectors leaves those that stayed as they were.

use serde::{Deserialize, Serialize};
use wasmill_keyed::state::{decode, encode};
use wasmill_keyed::{Address, Places, State, StateFault, Table};

use crate::alarm::{Alarm, Raised, Rule};
use crate::detect::{Judged, Memory, Method};

/// A detector of the config.
#[derive(Clone, Debug)]
pub struct Detector {
    /// A fingerprint of name and definition.
    pub print: u32,
    /// How it judges.
    pub method: Method,
    /// When that is an alarm.
    pub rule: Rule,
}

/// What is kept of a key.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept(Vec<(u32, Memory, Alarm)>);

impl Kept {
    /// In the order of the config: what it no longer has goes, what is new starts.
    fn fit(self, detectors: &[Detector]) -> Self {
        let mut old = self.0;
        let each = detectors.iter().map(|detector| {
            let same = |(print, memory, _): &(u32, Memory, Alarm)| {
                *print == detector.print && detector.method.fits(memory)
            };
            match old.iter().position(same) {
                Some(at) => old.swap_remove(at),
                None => (detector.print, detector.method.start(), Alarm::default()),
            }
        });
        Self(each.collect())
    }
}

/// A record of a chunk.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its address.
    pub address: Address,
    /// Its time in nanoseconds.
    pub time: i64,
    /// The values for each detector; none where the record lacks one.
    pub values: Vec<Option<Vec<f64>>>,
}

/// What a detector says of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Said {
    /// The score, where there was enough to compare with.
    pub judged: Option<Judged>,
    /// Whether that is an alarm.
    pub raised: Raised,
}

/// Takes a chunk of records; for each what each detector says.
pub fn process(
    detectors: &[Detector],
    table: Table,
    state: &mut impl State,
    records: &[Record],
) -> Result<Vec<Vec<Said>>, StateFault> {
    let Places { addresses, of_records } = Places::of(records.iter().map(|record| &record.address));
    let mut kept = Vec::with_capacity(addresses.len());
    for bytes in state.get(table, &addresses) {
        let read = bytes.map(|bytes| decode::<Kept>(table, &bytes)).transpose()?;
        kept.push(read.unwrap_or_default().fit(detectors));
    }
    let mut said = Vec::with_capacity(records.len());
    for (record, place) in records.iter().zip(of_records) {
        let Some(Kept(memories)) = kept.get_mut(place) else { continue };
        let each = detectors.iter().zip(memories).zip(&record.values);
        said.push(
            each.map(|((detector, (_, memory, alarm)), values)| {
                // A record without the value changes nothing, not even a row of anomalies.
                let Some(values) = values else { return Said::default() };
                let judged = detector.method.take(memory, record.time, values, detector.rule.limit);
                let score = judged.map(|judged| judged.score);
                Said { judged, raised: alarm.take(score, record.time, &detector.rule) }
            })
            .collect(),
        );
    }
    let mut changes = Vec::with_capacity(kept.len());
    for (address, kept) in addresses.into_iter().zip(kept) {
        changes.push((address, Some(encode(table, &kept)?)));
    }
    if !changes.is_empty() {
        state.put(table, changes);
    }
    Ok(said)
}
