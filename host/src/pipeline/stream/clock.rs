//! The watermark of a stream that has event time: as gathered slices have it, as outcomes have it, and how it goes on while no
//! records come.
//!
//! A slice moves it, and its outcome makes that durable. When none have come for the idle timeout, or none but late ones and such
//! without a time, it goes on at the pace of the clock, from where it was when the last one came that counts; the time while the host was down does not count. Transforms are told of
//! that in a run of its own between two slices, as a replay is one, and its outcome carries what they made of it. A run of which
//! nothing came has no outcome: then nothing depends on how far the watermark was.
//!
//! Of several sources each has a watermark ([`Marks`]), and one that falls silent while no records come is not waited for from
//! then on. Once all have, the watermark goes on from that of the one that is furthest.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::halt::Halt;
use super::{COMMIT_RETRY_MAX, RETRY_AFTER, StreamTask};
use crate::pipeline::event_time::{EventTime, LateCounts, Marks, NO_TIME, Progress, SliceClock};
use crate::pipeline::reload::Blame;
use crate::pipeline::replay::{self, Ran, ReplayError};
use crate::pipeline::stats::Pause;

/// While no records come, transforms are told so many times in one idle timeout, within these bounds.
const TOLD_PER_TIMEOUT: u32 = 4;
const TOLD_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(10);

/// See the head of this file.
pub(super) struct Clock {
    idle_timeout: Option<Duration>,
    /// As gathered slices and idle time have it.
    watermark: i64,
    /// The same of several sources.
    marks: Option<Marks>,
    /// Both as durable outcomes have it.
    durable: (i64, Option<Marks>),
    /// Of gathered slices.
    late: LateCounts,
    /// Transforms are to be told of the watermark although it has not moved: the stream begins, or another version does, or they
    /// have more to do.
    due: bool,
    /// When the last record came, and the watermark then.
    since: (Instant, i64),
    /// When the last one of each of several sources came.
    spoke: Vec<Instant>,
    /// When they were told last, or tried to be.
    told: Option<Instant>,
    failures: u32,
}

/// What an outcome makes durable of event time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) watermark: i64,
    /// Of several sources, where they have moved.
    pub(crate) marks: Option<Marks>,
    pub(crate) late: LateCounts,
}

impl Reached {
    /// Watermarks of several sources, by name.
    pub(crate) fn by_source(&self) -> BTreeMap<String, i64> {
        self.marks.as_ref().map(Marks::by_name).unwrap_or_default()
    }
}

impl Clock {
    /// Of a stream that has event time, as outcomes and checkpoints have it.
    pub(super) fn of(rules: &EventTime, watermark: Option<i64>, watermarks: &BTreeMap<String, i64>) -> Clock {
        let several = !rules.sources.is_empty();
        let marks = several.then(|| Marks::new(rules.sources.clone(), rules.idle_timeout, watermarks));
        Clock::new(rules.idle_timeout, watermark, marks)
    }

    fn new(idle_timeout: Option<Duration>, watermark: Option<i64>, marks: Option<Marks>) -> Clock {
        let (now, watermark) = (Instant::now(), watermark.unwrap_or(NO_TIME));
        Clock {
            idle_timeout,
            watermark,
            durable: (watermark, marks.clone()),
            late: LateCounts::default(),
            due: true,
            since: (now, watermark),
            spoke: marks.iter().flat_map(Marks::each).map(|_| now).collect(),
            marks,
            told: None,
            failures: 0,
        }
    }

    fn reach(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }

    /// A slice was gathered.
    fn gather(&mut self, progress: Progress, now: Instant) {
        self.reach(progress.watermark);
        self.late += progress.late;
        self.due = progress.owed;
        if let Some(marks) = progress.marks {
            for source in marks.spoke() {
                self.spoke.get_mut(source).into_iter().for_each(|spoke| *spoke = now);
            }
            self.marks = Some(marks);
        }
        if progress.timely {
            self.since = (now, self.watermark);
            self.told = None;
        }
        self.failures = 0;
    }

    fn make_durable(&mut self, watermark: i64, marks: Option<Marks>) {
        let (before, of_sources) = &mut self.durable;
        *before = watermark.max(*before);
        *of_sources = marks.or(of_sources.take());
    }

    /// What those sources that are waited for allow.
    fn least(&self) -> i64 {
        self.marks.as_ref().map_or(NO_TIME, Marks::least)
    }

    /// Back to what is durable, or will be: what a commit on its way has, or else a checkpoint, which may have begun before
    /// outcomes that say more.
    fn take_back(&mut self, commit: Option<&Reached>, checkpoint: Option<&Reached>) {
        // What ran may have been owed more, or have done what was.
        (self.due, self.told) = (true, None);
        let ahead = checkpoint.filter(|reached| reached.watermark > self.durable.0);
        let floor = commit.or(ahead).map(|reached| (reached.watermark, reached.marks.clone()));
        (self.watermark, self.marks) = floor.unwrap_or_else(|| self.durable.clone());
        self.late = LateCounts::default();
        self.since.1 = self.watermark;
    }

    /// How far any record has come.
    fn furthest(&self) -> i64 {
        self.watermark.max(self.marks.as_ref().map_or(NO_TIME, Marks::furthest))
    }

    /// How long to wait after they were told.
    fn pause(&self) -> Duration {
        if self.failures > 0 {
            return RETRY_AFTER.saturating_mul(1 << (self.failures - 1).min(8)).min(COMMIT_RETRY_MAX);
        }
        if self.due {
            return Duration::ZERO;
        }
        let every = self.idle_timeout.unwrap_or_default() / TOLD_PER_TIMEOUT;
        every.clamp(*TOLD_EVERY.start(), *TOLD_EVERY.end())
    }

    /// When they are to be told next, if no record comes.
    fn next(&self) -> Option<Instant> {
        if self.furthest() == NO_TIME {
            return None;
        }
        let due = (self.due && self.watermark != NO_TIME) || self.least() > self.watermark;
        let first = if due { Some(self.since.0) } else { self.silent_at() };
        first.map(|first| self.told.map_or(first, |told| first.max(told + self.pause())))
    }

    /// When the stream, or the first of those sources that are waited for, has been silent for the idle timeout.
    fn silent_at(&self) -> Option<Instant> {
        let waited_for = self.marks.iter().flat_map(Marks::waited_for);
        let spoke = waited_for.filter_map(|source| self.spoke.get(source)).min();
        Some(*spoke.unwrap_or(&self.since.0) + self.idle_timeout?)
    }

    /// How far it has come by now, if no record comes, and which sources are waited for then.
    fn idle(&self, now: Instant) -> (i64, Option<Marks>) {
        let silent = |since: Instant| {
            let gone = now.saturating_duration_since(since);
            self.idle_timeout.is_some_and(|timeout| gone >= timeout).then_some(gone)
        };
        let mut marks = self.marks.clone();
        for (source, _) in self.spoke.iter().enumerate().filter(|(_, spoke)| silent(**spoke).is_some()) {
            marks.iter_mut().for_each(|marks| marks.fall_silent(source));
        }
        let watermark = self.watermark.max(marks.as_ref().map_or(NO_TIME, Marks::least));
        let waits = marks.as_ref().is_some_and(|marks| marks.waited_for().next().is_some());
        let (since, then) = self.since;
        let Some(gone) = silent(since).filter(|_| !waits) else { return (watermark, marks) };
        let then = then.max(marks.as_ref().map_or(NO_TIME, Marks::furthest));
        let gone = i64::try_from(gone.as_nanos()).unwrap_or(i64::MAX);
        (watermark.max(then.saturating_add(gone)), marks)
    }
}

impl StreamTask {
    /// What the next slice is judged by; there is no other one on its way.
    pub(super) fn slice_clock(&self) -> Option<SliceClock> {
        let (rules, clock) = self.context.event_time.as_ref().zip(self.clock.as_ref())?;
        Some(SliceClock {
            rules: rules.clone(),
            watermark: clock.watermark,
            marks: clock.marks.clone(),
            due: clock.due,
            frozen: false,
        })
    }

    /// A slice was gathered.
    pub(super) fn clock_gather(&mut self, progress: Option<Progress>) {
        let (Some(clock), Some(progress)) = (&mut self.clock, progress) else { return };
        clock.gather(progress, Instant::now());
        self.tells_again();
    }

    /// What no outcome covers is forgotten, but for what the commit on its way has, or the checkpoint.
    pub(super) fn clock_withdraw(&mut self) {
        #[cfg_attr(not(test), expect(unused_mut, reason = "a planted bug changes it"))]
        let mut commit = self.commit.as_ref().and_then(|running| running.commit.event_time.as_ref());
        #[cfg(test)]
        if self.context.mutant == crate::pipeline::simulation::Mutant::WatermarkFalls {
            commit = None;
        }
        let checkpoint = self.checkpointing.as_ref().and_then(|running| running.reached());
        if let Some(clock) = &mut self.clock {
            clock.take_back(commit, checkpoint);
        }
    }

    /// For the next outcome.
    pub(super) fn clock_commit(&mut self) -> Option<Reached> {
        let clock = self.clock.as_mut()?;
        Some(Reached {
            watermark: clock.watermark,
            marks: clock.marks.clone(),
            late: std::mem::take(&mut clock.late),
        })
    }

    /// An outcome is durable.
    pub(super) fn clock_durable(&mut self, reached: Option<Reached>) {
        let (Some(clock), Some(reached)) = (&mut self.clock, reached) else { return };
        let Reached { watermark, marks, late } = reached;
        clock.make_durable(watermark, marks);
        let stats = &self.context.stats.event_time;
        stats.late_kept.add(late.kept);
        stats.late_dropped.add(late.dropped);
        stats.late_routed.add(late.routed);
        stats.unreadable.add(late.unreadable);
    }

    /// For checkpoints. While every record that ran has an outcome, idle time counts too: nothing else has moved it.
    pub(super) fn durable_clock(&self) -> Option<Reached> {
        let clock = self.clock.as_ref()?;
        #[cfg_attr(not(test), expect(unused_mut, reason = "a planted bug changes it"))]
        let mut all = self.commit.is_none() && self.gathered == self.committed;
        #[cfg(test)]
        if self.context.mutant == crate::pipeline::simulation::Mutant::WatermarkAhead {
            all = true;
        }
        let now = || (clock.watermark, clock.marks.clone());
        let (watermark, marks) = if all { now() } else { clock.durable.clone() };
        Some(Reached { watermark, marks, late: LateCounts::default() })
    }

    /// A checkpoint says so.
    pub(super) fn clock_checkpointed(&mut self, reached: Option<Reached>) {
        if let Some((clock, reached)) = self.clock.as_mut().zip(reached) {
            clock.make_durable(reached.watermark, reached.marks);
        }
    }

    /// Another version runs: it may have more to do at this watermark, and may do what the one before did not.
    pub(super) fn clock_of_version(&mut self) {
        if let Some(clock) = &mut self.clock {
            clock.due = true;
            (clock.told, clock.failures) = (None, 0);
        }
    }

    pub(super) fn observe_clock(&self) {
        let Some(clock) = &self.clock else { return };
        let stats = &self.context.stats.event_time;
        if clock.watermark != NO_TIME {
            stats.reached(clock.watermark);
        }
        if let Some(marks) = &clock.marks {
            stats.sources_reached(marks);
        }
    }

    /// Sources that have ended are not waited for once all that they brought has run.
    fn note_ended_sources(&mut self) {
        let Some(marks) = self.clock.as_mut().and_then(|clock| clock.marks.as_mut()) else { return };
        for (number, source) in self.context.stats.sources().enumerate() {
            if source.ended.get().is_some_and(|behind| *behind <= self.gathered) {
                marks.end(number);
            }
        }
    }

    /// When to look again although nothing happens.
    pub(super) fn clock_wakes(&self, now: Instant) -> Option<Instant> {
        // What waits for something else is not waited for here.
        self.clock.as_ref()?.next().filter(|next| *next > now)
    }

    /// Lets the watermark go on while no records come.
    pub(super) fn start_telling(&mut self) {
        self.note_ended_sources();
        let now = Instant::now();
        let Some(clock) = self.clock.as_ref().filter(|clock| clock.next().is_some_and(|next| next <= now))
        else {
            return;
        };
        let (watermark, marks) = clock.idle(now);
        let quiet = self.halt == Halt::No
            && !self.drain.is_cancelled()
            && self.may_replay()
            && self.has_room()
            && self.intake.is_done(self.context.buffer.durable_end());
        if !quiet {
            return;
        }
        let takes = self.current.chain.takes_watermarks();
        if let Some(clock) = &mut self.clock {
            clock.told = Some(now);
            clock.marks = marks;
            // A source is silent, and another one is waited for.
            if watermark == NO_TIME || (watermark == clock.watermark && !clock.due) {
                return;
            }
            if !takes {
                clock.due = false;
                clock.reach(watermark);
                return;
            }
        }
        // Nobody waits for the answer.
        let (reply, _) = oneshot::channel();
        self.replay_waits = Some(replay::Request {
            letters: Vec::new(),
            version: self.current.clone(),
            clear: None,
            tell: Some(watermark),
            reply,
        });
    }

    /// Transforms were told of a watermark while no records came.
    pub(super) fn told(&mut self, watermark: i64, result: Result<Ran, ReplayError>) {
        let Some(clock) = &mut self.clock else { return };
        clock.told = Some(Instant::now());
        match result {
            Ok(Ran { committed, owed, .. }) => {
                clock.reach(watermark);
                clock.due = owed;
                clock.failures = 0;
                if let Some(mut committed) = committed {
                    self.keeping.durable(committed.at, &committed.state);
                    self.clock_durable(committed.event_time.take());
                    self.emitted(committed);
                }
                self.tells_again();
            }
            Err(ReplayError::Ended) => {}
            Err(error) => {
                clock.failures += 1;
                // What it would have done is still to be done.
                clock.due = true;
                let reason = format!("its plugins cannot be told of the watermark: {error}");
                if self.context.stats.pause(Pause::Watermark, &reason) {
                    tracing::error!(
                        stream = %self.context.label(), reason,
                        "windows stay open: a watermark was not taken, trying again; nothing is lost"
                    );
                }
                if let ReplayError::Unrunnable { transform, .. } = &error {
                    let mut names = self.current.chain.transforms();
                    let transform = names.position(|(name, _)| name == transform);
                    let blame = Blame { transform, reason: error.to_string(), lasting: false };
                    self.demoter.demote(self.current.generation, blame);
                }
            }
        }
    }

    fn tells_again(&self) {
        if self.context.stats.resume(Pause::Watermark) {
            tracing::info!(stream = %self.context.label(), "plugins take watermarks again");
        }
    }
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
