//! What kind of stream a seed runs, and what clients send to it.

use std::time::Duration;

use wasmill_config as config;

use super::plugin::{self, Class};
use super::world::World;
use crate::pipeline::event_time::EventTime;
use crate::pipeline::strands::Parallel;

pub(super) const SOURCES: [&str; 2] = ["live", "slow"];
/// By so many milliseconds the second one lags behind the first.
const LAG: i64 = 10_000;
/// Of event time, in milliseconds.
pub(super) const DELAY: i64 = 50;
pub(super) const LATENESS: i64 = 30;
const IDLE_TIMEOUT: Duration = Duration::from_millis(400);
/// Nanoseconds.
pub(super) const MS: i64 = 1_000_000;

/// Which event time a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    None,
    OfRecords,
    /// It goes on while no records come.
    Idle,
    /// Of [`SOURCES`], which both are waited for.
    OfSources,
}

impl World {
    /// Half of the seeds run a chain that keeps state: its slices run one by one.
    pub(super) fn keeps(&self) -> bool {
        self.plan.seed.is_multiple_of(2)
    }

    /// Whether clients may wait for answers: large batches are encoded beside the commits then.
    pub(super) fn decides(&self) -> bool {
        (self.plan.seed / 2).is_multiple_of(2)
    }

    /// Whether they may be answered before their records are durable: some are.
    pub(super) fn decides_early(&self) -> bool {
        self.decides() && (self.plan.seed / 4).is_multiple_of(2)
    }

    /// Whether somebody waits for an answer, in half of these.
    pub(super) fn asks(&self) -> bool {
        self.decides_early() && (self.plan.seed / 64).is_multiple_of(2)
    }

    /// Half of those that keep state run in strands.
    pub(super) fn parallel(&self) -> Option<Parallel> {
        let parted = self.keeps() && !(self.plan.seed / 8).is_multiple_of(2);
        let key = plugin::KEY.to_owned();
        let written = config::Parallel { path: vec![key.clone()], key, strands: 3 };
        let mut parallel = parted.then(|| Parallel::new(&written).unwrap())?;
        parallel.mutant = self.plan.mutant;
        Some(parallel)
    }

    pub(super) fn time(&self) -> Time {
        match self.plan.seed / 16 % 4 {
            0 => Time::None,
            1 => Time::OfRecords,
            2 => Time::Idle,
            _ => Time::OfSources,
        }
    }

    /// Late records go to the second output as they came.
    pub(super) fn event_time(&self) -> Option<EventTime> {
        let span = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        let written = config::EventTime {
            source: config::TimeSource::Field(vec![plugin::TIME.to_owned()]),
            format: config::TimeFormat::Number(MS),
            delay: span(DELAY),
            idle_timeout: (self.time() == Time::Idle).then_some(IDLE_TIMEOUT),
            lateness: span(LATENESS),
            late: config::Late::Route(1),
            unreadable: config::Unreadable::Fail,
            ahead: None,
        };
        let mut rules = (self.time() != Time::None).then(|| EventTime::new(&written).unwrap())?;
        if self.time() == Time::OfSources {
            rules.sources = SOURCES.map(str::to_owned).into();
        }
        Some(rules)
    }

    /// What clients send. Where it matters to others that a record ran, it is to be seen.
    pub(super) fn classes(&self) -> &'static [Class] {
        let all = self.keeps() || self.time() == Time::None;
        if all { &Class::ALL } else { &[Class::Keep, Class::Fail, Class::Partition, Class::Twice] }
    }

    /// Goes on with records and with the clock; some records are behind, and some ahead, so that others are late.
    pub(super) fn time_of(&self, n: u64, source: Option<usize>) -> i64 {
        let (before, begin) = self.lived;
        let gone = i64::try_from((before + begin.elapsed()).as_millis()).unwrap();
        let apart = match self.random(10) {
            0 => self.random(300).cast_signed(),
            1 | 2 => -self.random(400).cast_signed(),
            _ => -self.random(30).cast_signed(),
        };
        let lag = if source == Some(0) { 0 } else { LAG };
        2 * LAG + gone + 20 * n.cast_signed() - lag + apart
    }
}
