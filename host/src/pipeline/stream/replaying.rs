//! Replays of dead letters beside slices, and between them where the chain keeps state: what a replay changes must lie behind
//! what every outcome before it has changed, and before what the next slice sees.

use tokio::task::JoinError;

use super::StreamTask;
use crate::pipeline::replay::{self, Ran, ReplayError};
use crate::pipeline::stats::Pause;

impl StreamTask {
    /// Whether another one may be asked for.
    pub(super) fn may_replay(&self) -> bool {
        self.replay.is_none() && self.replay_waits.is_none()
    }

    pub(super) fn take_replay(&mut self, request: replay::Request) {
        if request.version.chain.keeps_state() || request.clear.is_some() {
            self.replay_waits = Some(request);
            self.start_waiting_replay();
        } else {
            self.start_replay(request);
        }
    }

    /// Whether a replay that changes state runs or waits: no slice is started meanwhile.
    pub(super) fn replay_has_state(&self) -> bool {
        self.replay_waits.is_some() || self.replay.as_ref().is_some_and(|running| running.keeps_state)
    }

    /// Refuses the one that waits for an outcome which itself waits for room among the dead letters, or for a store that does not
    /// take what ran before: nothing would happen for long.
    pub(super) fn refuse_stuck_replay(&mut self) {
        let Some(request) = &self.replay_waits else { return };
        let stats = &self.context.stats;
        let waits_for_store = request.clear.is_some() && !self.keeping.is_applied();
        let error = if stats.is_paused_by(Pause::Letters) {
            ReplayError::NoRoom
        } else if waits_for_store && stats.is_paused_by(Pause::State) {
            ReplayError::Unapplied
        } else {
            return;
        };
        if let Some(request) = self.replay_waits.take() {
            // The client may have gone.
            drop(request.reply.send(Err(error)));
        }
    }

    /// Starts the one that waits, once everything before it has an outcome; one that empties tables once that is applied, too.
    pub(super) fn start_waiting_replay(&mut self) {
        let quiet = self.commit.is_none() && !self.intake.has_slices() && self.gathered == self.committed;
        let empties = self.replay_waits.as_ref().is_some_and(|request| request.clear.is_some());
        let known = !empties || self.keeping.is_applied();
        if quiet
            && known
            && let Some(request) = self.replay_waits.take()
        {
            self.start_replay(request);
        }
    }

    fn start_replay(&mut self, request: replay::Request) {
        let seed = self.intake.stream_seed();
        let state =
            request.version.chain.keeps_state().then(|| self.keeping.below(None, &self.context.state));
        let (clock, processed) = (self.slice_clock(), self.committed);
        self.replay = Some(replay::Running::start(request, &self.context, processed, seed, state, clock));
    }

    pub(super) fn replayed(&mut self, result: Result<Result<Ran, ReplayError>, JoinError>) {
        let Some(running) = self.replay.take() else { return };
        let result = result.unwrap_or(Err(ReplayError::Worker));
        if let Some(watermark) = running.tell {
            self.told(watermark, result);
            return;
        }
        let answer = result.map(|mut ran| {
            if let Some(committed) = ran.committed.take() {
                self.keeping.durable(committed.at, &committed.state);
                self.emitted(committed);
            }
            ran
        });
        // The client may have gone.
        drop(running.reply.send(answer));
    }
}
