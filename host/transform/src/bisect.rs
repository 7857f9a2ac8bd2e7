//! Finds the records that make a chunk fail: halves of its input rows run again from the start of the chain.
//!
//! Owns the budget. One poison record costs one record, but a plugin that fails on everything, or loops, must not hold
//! the stream: past the budget the rows not yet cleared all fail with the reason of the part that they were in. After a
//! deadline smaller parts get smaller deadlines, so that finding one endless record costs about two full deadlines
//! and not one per halving.

use std::ops::Range;
use std::time::Duration;

use crate::chain::Chain;
use crate::clock::thread_cpu;
use crate::fault::PluginFault;
use crate::report::{DeadLetter, Slice, SliceReport};
use crate::worker::flow::count_failed;
use crate::worker::{ChainWorker, Failed, Part, Run};

/// No part gets a shorter deadline than this: the ticker is not exact enough.
const DEADLINE_MIN: Duration = Duration::from_millis(20);

pub(crate) struct Bisection {
    budget: Duration,
    started: Duration,
    /// The failing transform's own deadline.
    deadline: Duration,
    slow: bool,
}

/// Rows of the chunk that have no verdict yet.
struct Pending {
    rows: Range<usize>,
    /// These rows fail together (they did, or the half before them did not).
    known: bool,
    /// The same for the two halves that one part was cut into.
    pair: usize,
    step: usize,
    reason: String,
    /// That the tenant's quota of state had no room.
    of_quota: bool,
}

impl Bisection {
    pub(crate) fn new(chain: &Chain, failed: &Failed) -> Bisection {
        let deadline =
            chain.steps.get(failed.step).map_or(Duration::from_secs(1), |step| step.limits.deadline);
        Bisection {
            budget: deadline.saturating_mul(chain.options.bisect_deadlines.max(1)),
            started: thread_cpu(),
            deadline,
            slow: matches!(failed.fault, PluginFault::Deadline { .. }),
        }
    }

    /// Gives every row of the chunk its verdict, in order.
    pub(crate) fn run(mut self, worker: &mut ChainWorker, run: &mut Run<'_>, parts: &[Part], failed: Failed) {
        let total = parts.iter().map(|part| part.rows.len()).sum();
        let mut pairs = 0;
        let whole = Pending {
            rows: 0..total,
            known: true,
            pair: pairs,
            step: failed.step,
            reason: failed.fault.reason(),
            of_quota: failed.fault.is_of_state_quota(),
        };
        run.report.note(failed.step, failed.fault);
        let mut stack = vec![whole];
        let mut some = Vec::new();
        while let Some(pending) = stack.pop() {
            let spent = thread_cpu().saturating_sub(self.started);
            if spent >= self.budget || run.report.unrunnable.is_some() {
                self.give_up(worker, run, parts, &pending);
                continue;
            }
            // A lone row is always tried alone: it may have failed only together with others.
            if pending.known && pending.rows.len() > 1 {
                let middle = pending.rows.start + pending.rows.len() / 2;
                let Pending { rows, step, reason, of_quota, .. } = pending;
                pairs += 1;
                let pair = pairs;
                stack.push(Pending {
                    rows: middle..rows.end,
                    known: false,
                    pair,
                    step,
                    reason: reason.clone(),
                    of_quota,
                });
                stack.push(Pending { rows: rows.start..middle, known: false, pair, step, reason, of_quota });
                continue;
            }
            pick(parts, &pending.rows, &mut some);
            match worker.attempt(run, &some, self.deadline_of(pending.rows.len(), total, spent)) {
                Ok(()) => {
                    // The half after this one is then the one that fails; running it whole would only show that again.
                    if let Some(next) = stack.last_mut().filter(|next| next.pair == pending.pair) {
                        next.known = true;
                    }
                }
                Err(failed) if failed.unrunnable => {
                    run.report.unrunnable = Some((failed.step, failed.fault));
                }
                Err(failed) => {
                    self.slow |= matches!(failed.fault, PluginFault::Deadline { .. });
                    let (reason, of_quota) = (failed.fault.reason(), failed.fault.is_of_state_quota());
                    let step = failed.step;
                    run.report.note(step, failed.fault);
                    if pending.rows.len() == 1 {
                        fail(worker.chain(), run.slice, &mut run.report, &some, step, (&reason, of_quota));
                    } else {
                        stack.push(Pending { known: true, step, reason, of_quota, ..pending });
                    }
                }
            }
        }
    }

    /// Twice the part's share of the deadline, and never past the budget.
    fn deadline_of(&self, rows: usize, total: usize, spent: Duration) -> Option<Duration> {
        if !self.slow {
            return None;
        }
        let share = self.deadline.mul_f64((2.0 * rows as f64 / total.max(1) as f64).min(1.0));
        Some(share.min(self.budget.saturating_sub(spent)).max(DEADLINE_MIN))
    }

    fn give_up(&self, worker: &ChainWorker, run: &mut Run<'_>, parts: &[Part], pending: &Pending) {
        if run.report.unrunnable.is_some() {
            return;
        }
        let mut some = Vec::new();
        pick(parts, &pending.rows, &mut some);
        let reason = format!(
            "{} (in a part of {} records; {}ms of CPU time were not enough to find which)",
            pending.reason,
            pending.rows.len(),
            self.budget.as_millis(),
        );
        let why = (reason.as_str(), pending.of_quota);
        fail(worker.chain(), run.slice, &mut run.report, &some, pending.step, why);
    }
}

/// The parts that hold rows `rows` of all that `parts` have.
pub(crate) fn pick(parts: &[Part], rows: &Range<usize>, out: &mut Vec<Part>) {
    out.clear();
    let mut first = 0;
    for part in parts {
        let len = part.rows.len();
        let from = rows.start.clamp(first, first + len) - first;
        let to = rows.end.clamp(first, first + len) - first;
        if from < to {
            out.push(Part { input: part.input, rows: part.rows.start + from..part.rows.start + to });
        }
        first += len;
    }
}

/// Every row of `parts` becomes a dead letter with this reason, and says whether that is the tenant's quota of state.
pub(crate) fn fail(
    chain: &Chain,
    slice: &Slice<'_>,
    report: &mut SliceReport,
    parts: &[Part],
    step: usize,
    (reason, of_quota): (&str, bool),
) {
    let place = step;
    let Some(step) = chain.steps.get(place) else { return };
    for part in parts {
        let Some(input) = slice.inputs.get(part.input) else { continue };
        for row in part.rows.clone() {
            count_failed(&mut report.transforms, place, slice.bytes_of(part.input, row));
            if let Some(transform) = report.transforms.get_mut(place).filter(|_| of_quota) {
                transform.state_refused += 1;
            }
            report.failures.push(DeadLetter {
                input: part.input,
                row: u32::try_from(row).unwrap_or(u32::MAX),
                offset: i64::try_from(input.offset(row)).unwrap_or(i64::MAX),
                child: 0,
                transform: step.name.clone(),
                digest: Some(step.plugin.digest),
                route: 0,
                reason: crate::fault::cut_text(reason, crate::fault::REASON_BYTES_MAX),
                payload: Vec::new(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pick_range_across_inputs_takes_exactly_its_rows() {
        let parts = [Part { input: 0, rows: 5..8 }, Part { input: 1, rows: 0..4 }];
        let picked = |rows| {
            let mut out = Vec::new();
            pick(&parts, &rows, &mut out);
            out
        };
        assert_eq!(picked(0..7), parts);
        assert_eq!(picked(0..2), [Part { input: 0, rows: 5..7 }]);
        assert_eq!(picked(2..4), [Part { input: 0, rows: 7..8 }, Part { input: 1, rows: 0..1 }]);
        assert_eq!(picked(6..7), [Part { input: 1, rows: 3..4 }]);
    }
}
