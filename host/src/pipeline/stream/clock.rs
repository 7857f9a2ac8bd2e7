//! The watermark of a stream that has event time: as gathered slices have it, as outcomes have it, and how it goes on while no
//! records come.
//!
//! A slice moves it, and its outcome makes that durable. When none have come for the idle timeout, or none but late ones and such
//! without a time, it goes on at the pace of the clock, from where it was when the last one came that counts; the time while the host was down does not count. Transforms are told of
//! that in a run of its own between two slices, as a replay is one, and its outcome carries what they made of it. A run of which
//! nothing came has no outcome: then nothing depends on how far the watermark was.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::halt::Halt;
use super::{COMMIT_RETRY_MAX, RETRY_AFTER, StreamTask};
use crate::pipeline::event_time::{LateCounts, NO_TIME, Progress, SliceClock};
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
    /// As durable outcomes have it.
    durable: i64,
    /// Of gathered slices.
    late: LateCounts,
    /// Transforms are to be told of the watermark although it has not moved: the stream begins, or another version does, or they
    /// have more to do.
    due: bool,
    /// When the last record came, and the watermark then.
    since: (Instant, i64),
    /// When they were told last, or tried to be.
    told: Option<Instant>,
    failures: u32,
}

/// What an outcome makes durable of event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) watermark: i64,
    pub(crate) late: LateCounts,
}

impl Clock {
    pub(super) fn new(idle_timeout: Option<Duration>, watermark: Option<i64>) -> Clock {
        let watermark = watermark.unwrap_or(NO_TIME);
        Clock {
            idle_timeout,
            watermark,
            durable: watermark,
            late: LateCounts::default(),
            due: true,
            since: (Instant::now(), watermark),
            told: None,
            failures: 0,
        }
    }

    fn reach(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
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
        if self.watermark == NO_TIME {
            return None;
        }
        let idle = self.idle_timeout.map(|timeout| self.since.0 + timeout);
        let first = if self.due { Some(self.since.0) } else { idle };
        first.map(|first| self.told.map_or(first, |told| first.max(told + self.pause())))
    }

    /// How far it has come by now, if no record comes.
    fn idle_watermark(&self, now: Instant) -> i64 {
        let (since, then) = self.since;
        let gone = now.saturating_duration_since(since);
        if self.idle_timeout.is_none_or(|timeout| gone < timeout) {
            return self.watermark;
        }
        let gone = i64::try_from(gone.as_nanos()).unwrap_or(i64::MAX);
        self.watermark.max(then.saturating_add(gone))
    }
}

impl StreamTask {
    /// What the next slice is judged by; there is no other one on its way.
    pub(super) fn slice_clock(&self) -> Option<SliceClock> {
        let (rules, clock) = self.context.event_time.as_ref().zip(self.clock.as_ref())?;
        Some(SliceClock { rules: rules.clone(), watermark: clock.watermark, due: clock.due, frozen: false })
    }

    /// A slice was gathered.
    pub(super) fn clock_gather(&mut self, progress: Option<Progress>) {
        let (Some(clock), Some(progress)) = (&mut self.clock, progress) else { return };
        clock.reach(progress.watermark);
        clock.late += progress.late;
        clock.due = progress.owed;
        if progress.timely {
            clock.since = (Instant::now(), clock.watermark);
            clock.told = None;
        }
        clock.failures = 0;
        self.tells_again();
    }

    /// What no outcome covers is forgotten; `floor` is what the commit on its way has.
    pub(super) fn clock_withdraw(&mut self) {
        let floor = self.commit.as_ref().and_then(|running| running.commit.event_time);
        let Some(clock) = &mut self.clock else { return };
        clock.watermark = floor.map_or(clock.durable, |reached| reached.watermark);
        clock.late = LateCounts::default();
        clock.since.1 = clock.watermark;
    }

    /// For the next outcome.
    pub(super) fn clock_commit(&mut self) -> Option<Reached> {
        let clock = self.clock.as_mut()?;
        Some(Reached { watermark: clock.watermark, late: std::mem::take(&mut clock.late) })
    }

    /// An outcome is durable.
    pub(super) fn clock_durable(&mut self, reached: Option<Reached>) {
        let (Some(clock), Some(Reached { watermark, late })) = (&mut self.clock, reached) else { return };
        clock.durable = clock.durable.max(watermark);
        let stats = &self.context.stats.event_time;
        stats.late_kept.add(late.kept);
        stats.late_dropped.add(late.dropped);
        stats.late_routed.add(late.routed);
        stats.unreadable.add(late.unreadable);
    }

    /// For checkpoints. While every record that ran has an outcome, idle time counts too: nothing else has moved it.
    pub(super) fn durable_watermark(&self) -> Option<i64> {
        let clock = self.clock.as_ref()?;
        let all = self.commit.is_none() && self.gathered == self.committed;
        Some(if all { clock.watermark } else { clock.durable }).filter(|watermark| *watermark != NO_TIME)
    }

    /// A checkpoint says so.
    pub(super) fn clock_checkpointed(&mut self, watermark: Option<i64>) {
        if let Some((clock, watermark)) = self.clock.as_mut().zip(watermark) {
            clock.durable = clock.durable.max(watermark);
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
        if let Some(clock) = self.clock.as_ref().filter(|clock| clock.watermark != NO_TIME) {
            self.context.stats.event_time.reached(clock.watermark);
        }
    }

    /// When to look again although nothing happens.
    pub(super) fn clock_wakes(&self, now: Instant) -> Option<Instant> {
        // What waits for something else is not waited for here.
        self.clock.as_ref()?.next().filter(|next| *next > now)
    }

    /// Lets the watermark go on while no records come.
    pub(super) fn start_telling(&mut self) {
        let now = Instant::now();
        let Some(clock) = self.clock.as_ref().filter(|clock| clock.next().is_some_and(|next| next <= now))
        else {
            return;
        };
        let watermark = clock.idle_watermark(now);
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
                if let Some(committed) = committed {
                    self.keeping.durable(committed.at, &committed.state);
                    self.clock_durable(committed.event_time);
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
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn watermark_goes_on_with_the_clock_once_no_record_has_come_for_the_timeout() {
        let mut clock = Clock::new(Some(Duration::from_secs(8)), Some(100 * S));
        clock.due = false;
        let begin = Instant::now();
        assert_eq!(clock.next(), Some(begin + Duration::from_secs(8)));
        assert_eq!(clock.idle_watermark(begin + Duration::from_secs(7)), 100 * S);
        assert_eq!(clock.idle_watermark(begin + Duration::from_secs(8)), 108 * S);
        clock.told = Some(begin + Duration::from_secs(8));
        assert_eq!(clock.next(), Some(begin + Duration::from_secs(10)));
        // It never falls.
        clock.reach(500 * S);
        assert_eq!(clock.idle_watermark(begin + Duration::from_secs(20)), 500 * S);
    }

    #[tokio::test(start_paused = true)]
    async fn watermark_waits_for_records_without_a_timeout_and_before_the_first_one() {
        let mut clock = Clock::new(None, Some(5 * S));
        let begin = Instant::now();
        assert_eq!(clock.next(), Some(begin), "a new start tells once");
        (clock.due, clock.told) = (false, Some(begin));
        assert_eq!(clock.next(), None);
        assert_eq!(clock.idle_watermark(begin + Duration::from_secs(1_000)), 5 * S);
        assert_eq!(Clock::new(Some(Duration::from_secs(1)), None).next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_later_and_later() {
        let mut clock = Clock::new(Some(Duration::from_millis(10)), Some(0));
        let begin = Instant::now();
        clock.told = Some(begin);
        let mut last = Duration::ZERO;
        for failures in 1..20 {
            clock.failures = failures;
            let wait = clock.next().unwrap().saturating_duration_since(begin);
            assert!(wait >= last && wait >= RETRY_AFTER && wait <= COMMIT_RETRY_MAX, "{wait:?}");
            last = wait;
        }
        assert_eq!(last, COMMIT_RETRY_MAX);
    }
}
