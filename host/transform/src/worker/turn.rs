//! The turn of one transform at a chunk, and how transforms are told how far event time has come.
//!
//! They are told in the order of the chain: what one gives at a watermark has gone through the next before that one is told.
//! There is no record to blame when that fails, so the slice has no outcome then.

use std::sync::Arc;
use std::time::Duration;

use wasmill_chunk::{Chunk, ColumnRef, Input};

use super::flow::Level;
use super::{ChainWorker, Failed, Run};
use crate::clock::thread_cpu;
use crate::event_time::{CallClock, NO_TIME, Times};
use crate::fault::PluginFault;
use crate::instance::Call;
use crate::limits::TELLINGS_MAX;
use crate::seed;

/// Whose turn it is, and at what.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    /// Place in the chain.
    pub(super) index: usize,
    /// First offset of the chunk, or the watermark: for the seed.
    pub(super) offset: u64,
    /// What clocks show, nanoseconds since the epoch.
    pub(super) now: u64,
    pub(super) deadline_max: Option<Duration>,
    /// The call is one of `on-watermark`.
    pub(super) on_watermark: Option<i64>,
}

/// Which watermark the transforms of a run know.
pub(super) struct Telling {
    /// None where nobody is told anything.
    known: Option<i64>,
    due: bool,
    /// They have more to do than this run did.
    pub(super) owed: bool,
}

impl Telling {
    /// The slice has run up to this place, or to its end: tells the transforms if that has moved the watermark.
    pub(super) fn reached(
        &mut self,
        worker: &mut ChainWorker,
        run: &mut Run<'_>,
        place: Option<(usize, usize)>,
    ) {
        let (Some(known), Some(times)) = (self.known, run.times) else { return };
        let watermark = times.watermark_at(run.slice, place);
        if watermark == NO_TIME || (watermark <= known && !self.due) {
            return;
        }
        self.known = Some(watermark.max(known));
        (self.due, self.owed) = (false, false);
        for number in 1.. {
            // Something before has stopped the slice.
            if run.report.unrunnable.is_some() {
                return;
            }
            match worker.tell(run, &times, watermark) {
                Ok(false) => return,
                // The next slice goes on.
                Ok(true) if number >= TELLINGS_MAX => {
                    self.owed = true;
                    return;
                }
                Ok(true) => {}
                Err(failed) => {
                    let transform = run.report.transforms.get_mut(failed.step);
                    if let Some(transform) = transform.filter(|_| failed.fault.is_of_state_quota()) {
                        transform.state_refused += 1;
                    }
                    run.report.unrunnable = Some((failed.step, failed.fault));
                }
            }
        }
    }
}

impl ChainWorker {
    /// How the transforms are told of event time in a slice that has it.
    pub(super) fn telling(&self, times: Option<&Times<'_>>) -> Telling {
        let times = times.filter(|_| self.chain.takes_watermarks());
        Telling {
            known: times.map(|times| times.before),
            due: times.is_some_and(|times| times.due),
            owed: false,
        }
    }

    /// Tells all transforms once. Whether one has more to do.
    fn tell(&mut self, run: &mut Run<'_>, times: &Times<'_>, watermark: i64) -> Result<bool, Failed> {
        if let Some(keeping) = &mut run.keeping {
            keeping.begin();
        }
        let mut chunk = self.spare_chunk();
        let nothing =
            Input { arrival: times.arrival, ..Input::of_payloads(0, ColumnRef { data: &[], ends: &[] }) };
        let begun = chunk.begin(&nothing, nothing.rows());
        begun.map_err(|misuse| Failed::broken(0, format!("no columns: {misuse}")))?;
        run.clock = Some(Box::new(CallClock::on_watermark(watermark)));
        let chain = Arc::clone(&self.chain);
        run.begin_flows(chain.steps.len());
        let mut cpu = thread_cpu();
        for (index, step) in chain.steps.iter().enumerate() {
            let mut turn = Turn {
                index,
                offset: watermark.cast_unsigned(),
                now: u64::try_from(times.arrival).unwrap_or(0),
                deadline_max: None,
                on_watermark: None,
            };
            if chunk.rows_left() > 0 {
                chunk = self.turn(run, chunk, turn, &mut cpu)?;
            }
            if step.plugin.takes_watermarks() {
                turn.on_watermark = Some(watermark);
                chunk = self.turn(run, chunk, turn, &mut cpu)?;
            }
        }
        self.finish(run, chunk, &[]);
        Ok(run.clock.take().is_some_and(|clock| clock.more))
    }

    /// One call of one transform, and what it staged.
    pub(super) fn turn(
        &mut self,
        run: &mut Run<'_>,
        mut chunk: Box<Chunk>,
        turn: Turn,
        cpu: &mut Duration,
    ) -> Result<Box<Chunk>, Failed> {
        let Turn { index, offset, now, deadline_max, on_watermark } = turn;
        let chain = Arc::clone(&self.chain);
        let step = &chain.steps[index];
        if let Some(position) = &self.position {
            position.mark(index);
        }
        let sending = self.sending(step, index, &run.report);
        let report = &mut run.report.transforms[index];
        let instance = match self.instance(index, report) {
            Ok(instance) => instance,
            Err(fault) => {
                self.chunk = Some(chunk);
                return Err(Failed { step: index, fault, unrunnable: true });
            }
        };
        let seed = seed::of_call(run.slice.stream_seed, run.slice.id, step.name_seed, offset);
        chunk.enter(index, seed);
        if let Some(keeping) = &mut run.keeping {
            keeping.enter(step, instance.declared());
        }
        if let Some(clock) = &mut run.clock {
            clock.is_on_watermark = on_watermark.is_some();
        }
        let deadline = deadline_max.map_or(step.limits.deadline, |max| max.min(step.limits.deadline));
        let fuel = step.engine.fuel().then(|| instance.fuel_left());
        let call = Call { seed, now, deadline, cpu_start: *cpu, sending };
        let before = Level::of(&chunk);
        let (back, result) = match on_watermark {
            None => instance.process(chunk, &mut run.keeping, &mut run.clock, call),
            Some(ns) => instance.on_watermark(chunk, &mut run.keeping, &mut run.clock, call, ns),
        };
        report.http.add(instance.http_used());
        report.fuel += fuel.map_or(0, |before| before.saturating_sub(instance.fuel_left()));
        let Some(back) = back else {
            return Err(Failed::broken(index, "the chunk was lost in a call".to_owned()));
        };
        chunk = back;
        let result = result.and_then(|()| {
            chunk.apply().map_err(|over| PluginFault::OutputTooLarge { message: over.to_string() })
        });
        let end = thread_cpu();
        report.calls += 1;
        report.cpu += end.saturating_sub(*cpu);
        *cpu = end;
        if let Some(keeping) = &mut run.keeping {
            keeping.leave(index);
        }
        if let Err(fault) = result {
            chunk.discard();
            if let Some(keeping) = &mut run.keeping {
                keeping.state.rollback();
            }
            report.traps += 1;
            self.retire(index, report);
            self.chunk = Some(chunk);
            return Err(Failed { step: index, unrunnable: matches!(fault, PluginFault::Host { .. }), fault });
        }
        let after = Level::of(&chunk);
        match run.flows.get_mut(index) {
            Some(flow) if on_watermark.is_some() => flow.told(before, after),
            Some(flow) => flow.processed(before, after),
            None => {}
        }
        Ok(chunk)
    }
}
