//! Alarms over keyed state: each key's records go through its alarm in the order in which they come.
//!
//! inactive -> pending (the condition holds) -> firing (for long enough, and in enough records) -> resolved (the recovery
//! has held for long enough) -> inactive. Records are all that moves an alarm: a key that falls silent stays as it is. Its
//! clock is the newest time that it has seen, so that a record that comes late moves nothing back. State is read and
//! written once per chunk and key; keys that are inactive have none.

use serde::{Deserialize, Serialize};
use wasmill_keyed::state::{decode, encode};
use wasmill_keyed::{Address, Places, State, StateFault, Table};

use crate::rate::{Rate, Spent};

/// The tables of the state.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// [`Alarm`] by key.
    pub keys: Table,
    /// [`Overall`], under one address.
    pub overall: Table,
}

/// When there is an alarm, and who is told how often. Spans in nanoseconds.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Where it is kept.
    pub tables: Tables,
    /// So long the condition must hold.
    pub pending: i64,
    /// In so many records in a row.
    pub records: u64,
    /// So long the recovery must hold.
    pub keep_firing_for: i64,
    /// After so long an alarm that was told is told again.
    pub repeat_interval: Option<i64>,
    /// Whether the end is told.
    pub send_resolved: bool,
    /// Notices of a key.
    pub key_rate: Option<Rate>,
    /// Notices of all.
    pub overall_rate: Option<Rate>,
}

/// A record of a chunk.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its address.
    pub address: Address,
    /// Its time in nanoseconds.
    pub time: i64,
    /// Whether the condition holds.
    pub holds: bool,
    /// Whether the recovery does; the condition goes before.
    pub recovers: bool,
}

/// Where an alarm stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The condition holds, but not for long enough.
    Pending,
    /// It does.
    Firing,
    /// It has ended with this record.
    Resolved,
}

impl Status {
    /// As it stands in rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// What is told of an alarm. Times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Firing, or resolved.
    pub status: Status,
    /// Of the first record in which the condition held.
    pub starts_at: i64,
    /// When it began to fire.
    pub fired_at: i64,
    /// When it ended.
    pub ends_at: Option<i64>,
    /// The key's clock.
    pub at: i64,
    /// Records in which the condition held.
    pub records: u64,
    /// Of this alarm the how manieth, from 1.
    pub number: u32,
    /// Of the transform the how manieth, from 1.
    pub sequence: u64,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Where the alarm of its key stands; none: nowhere.
    pub status: Option<Status>,
    /// What is told.
    pub notice: Option<Notice>,
    /// Something would be told, if it were not too much.
    pub held_back: bool,
}

/// What is kept of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Alarm {
    phase: Phase,
    spent: Spent,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    #[default]
    Inactive,
    Pending(Course),
    Firing(Course, Told),
}

/// How long it has been going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Course {
    starts_at: i64,
    clock: i64,
    records: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    fired_at: i64,
    /// Since when it recovers.
    recovers_since: Option<i64>,
    notices: u32,
    last: Option<i64>,
}

/// What is kept of all keys together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Overall {
    sequence: u64,
    spent: Spent,
}

fn overall_address() -> Address {
    Address::new(0, *b"overall")
}

impl Alarm {
    fn is_empty(&self) -> bool {
        self.phase == Phase::Inactive && self.spent.is_clear()
    }

    /// Takes a record.
    fn take(&mut self, record: &Record, spec: &Spec, overall: &mut Overall) -> Outcome {
        self.spent.settle(record.time);
        let phase = std::mem::take(&mut self.phase);
        let (course, mut told) = match (phase, record.holds) {
            (Phase::Inactive | Phase::Pending(_), false) => return Outcome::default(),
            (Phase::Firing(mut course, told), holds) => {
                course.clock = course.clock.max(record.time);
                course.records = course.records.saturating_add(u64::from(holds));
                (course, told)
            }
            (phase, true) => {
                let time = record.time;
                let new = Course { starts_at: time, clock: time, records: 0 };
                let mut course = if let Phase::Pending(course) = phase { course } else { new };
                course.clock = course.clock.max(time);
                course.records = course.records.saturating_add(1);
                let held_for = course.clock.saturating_sub(course.starts_at);
                if course.records < spec.records || held_for < spec.pending {
                    self.phase = Phase::Pending(course);
                    return Outcome { status: Some(Status::Pending), ..Outcome::default() };
                }
                (course, Told { fired_at: course.clock, recovers_since: None, notices: 0, last: None })
            }
        };
        if record.holds || !record.recovers {
            told.recovers_since = None;
        } else {
            let since = *told.recovers_since.get_or_insert(course.clock);
            if course.clock.saturating_sub(since) >= spec.keep_firing_for {
                return self.resolve(&course, told, spec, overall);
            }
        }
        let repeats = |interval| told.last.is_none_or(|last| course.clock.saturating_sub(last) >= interval);
        let is_due = told.notices == 0 || spec.repeat_interval.is_some_and(repeats);
        let mut outcome = Outcome { status: Some(Status::Firing), ..Outcome::default() };
        if is_due {
            if self.may_tell(course.clock, spec, overall) {
                told.notices = told.notices.saturating_add(1);
                told.last = Some(course.clock);
                outcome.notice = Some(notice(Status::Firing, &course, told, overall));
            } else {
                outcome.held_back = true;
            }
        }
        self.phase = Phase::Firing(course, told);
        outcome
    }

    /// The end. It is told whatever the rates say, once for an alarm that was told: one that was not had no beginning for
    /// whoever would hear of its end.
    fn resolve(&mut self, course: &Course, mut told: Told, spec: &Spec, overall: &mut Overall) -> Outcome {
        let is_told = spec.send_resolved && told.notices > 0;
        let notice = is_told.then(|| {
            told.notices = told.notices.saturating_add(1);
            overall.sequence = overall.sequence.saturating_add(1);
            notice(Status::Resolved, course, told, overall)
        });
        Outcome { status: Some(Status::Resolved), notice, held_back: false }
    }

    /// Whether another notice may leave; if so it is counted.
    fn may_tell(&mut self, now: i64, spec: &Spec, overall: &mut Overall) -> bool {
        let allows = |rate: Option<Rate>, spent: Spent| rate.is_none_or(|rate| spent.allows(rate, now));
        if !allows(spec.key_rate, self.spent) || !allows(spec.overall_rate, overall.spent) {
            return false;
        }
        for (rate, spent) in [(spec.key_rate, &mut self.spent), (spec.overall_rate, &mut overall.spent)] {
            if let Some(rate) = rate {
                spent.take(rate, now);
            }
        }
        overall.sequence = overall.sequence.saturating_add(1);
        true
    }
}

fn notice(status: Status, course: &Course, told: Told, overall: &Overall) -> Notice {
    Notice {
        status,
        starts_at: course.starts_at,
        fired_at: told.fired_at,
        ends_at: (status == Status::Resolved).then_some(course.clock),
        at: course.clock,
        records: course.records,
        number: told.notices,
        sequence: overall.sequence,
    }
}

/// Takes a chunk of records; for each what became of it.
pub fn process(spec: &Spec, state: &mut impl State, records: &[Record]) -> Result<Vec<Outcome>, StateFault> {
    let Places { addresses, of_records } = Places::of(records.iter().map(|record| &record.address));
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    let mut alarms = Vec::with_capacity(addresses.len());
    for bytes in state.get(spec.tables.keys, &addresses) {
        let was_kept = bytes.is_some();
        let alarm = bytes.map(|bytes| decode::<Alarm>(spec.tables.keys, &bytes)).transpose()?;
        alarms.push((alarm.unwrap_or_default(), was_kept));
    }
    let kept = state.get(spec.tables.overall, &[overall_address()]).into_iter().next().flatten();
    let before: Overall =
        kept.map(|bytes| decode(spec.tables.overall, &bytes)).transpose()?.unwrap_or_default();
    let mut overall = before;
    let mut outcomes = Vec::with_capacity(records.len());
    for (record, place) in records.iter().zip(of_records) {
        let alarm = alarms.get_mut(place);
        outcomes.push(alarm.map(|(alarm, _)| alarm.take(record, spec, &mut overall)).unwrap_or_default());
    }
    // What is kept is written anew, so that a key of which records come is never too old.
    let mut changes = Vec::new();
    for (address, (alarm, was_kept)) in addresses.into_iter().zip(alarms) {
        if !alarm.is_empty() {
            changes.push((address, Some(encode(spec.tables.keys, &alarm)?)));
        } else if was_kept {
            changes.push((address, None));
        }
    }
    if !changes.is_empty() {
        state.put(spec.tables.keys, changes);
    }
    if overall != before {
        let bytes = encode(spec.tables.overall, &overall)?;
        state.put(spec.tables.overall, vec![(overall_address(), Some(bytes))]);
    }
    Ok(outcomes)
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
