//! When a stream cuts nothing: its plugins fail too much or cannot run, or records cannot be read back. And what ends that.
//!
//! What a version did that is judged bad is forgotten before anything of it is durable. The pause is over only when
//! records come through again, not already when they are tried.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use wasmill_transform::PluginFault;

use super::{RETRY_AFTER, StreamTask};
use crate::pipeline::outcome::{Counts, Letter};
use crate::pipeline::plan::ChainVersion;
use crate::pipeline::reload::Blame;
use crate::pipeline::slice::Done;
use crate::pipeline::stats::Pause;

/// Why nothing is cut at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    No,
    /// Until there is another version.
    BadVersion,
    /// A plugin or the buffer did not work just now.
    Until(Instant),
}

impl StreamTask {
    /// Says whether the reason is news.
    pub(super) fn halt_for(&mut self, wait: Duration, reason: &str) -> bool {
        self.halt = Halt::Until(Instant::now() + wait);
        self.context.stats.pause(Pause::Intake, reason)
    }

    /// Records came through, or there are none left to come.
    pub(super) fn goes_on(&self) {
        if self.context.stats.resume(Pause::Intake) {
            tracing::info!(stream = %self.context.label(), from = self.gathered, "stream goes on after a pause");
        }
    }

    /// A version that cannot even be started: its slices run again, under the version before if there is one.
    pub(super) fn unrunnable(&mut self, version: &ChainVersion, transform: usize, fault: &PluginFault) {
        self.withdraw();
        if version.generation == self.current.generation {
            let reason = format!("transform {:?} cannot run: {fault}", version.transform(transform));
            if self.halt_for(RETRY_AFTER, &reason) {
                tracing::error!(stream = %self.context.label(), reason, "stream cannot run now, trying again; no record is lost");
            }
            let blame = Blame { transform: Some(transform), reason: fault.to_string(), lasting: false };
            self.demoter.demote(version.generation, blame);
        }
    }

    /// Judges the version that ran by its failure rate; when it is too bad, its uncommitted results are withdrawn
    /// and the version before takes over, or the stream pauses until there is another one.
    pub(super) fn judged_bad(&mut self, done: &Done) -> bool {
        let (records, failed) = (done.counts.records, done.plugin_failed);
        let Some(reason) = self.judge.slice(done.version.generation, records, failed) else { return false };
        self.withdraw();
        if done.version.generation == self.current.generation {
            let help = "another version of the plugin in the plugin directory, or one that is promoted, goes on by \
                        itself, a higher max_failed_percent or a mended config after a restart";
            tracing::error!(
                stream = %self.context.label(), reason, help, plugins = self.current.digests.join(", "), example = example(&done.letters),
                "plugins fail too many records: the version before takes over; without one the stream pauses, and no record is lost"
            );
            self.halt = Halt::BadVersion;
            self.context.stats.pause(Pause::Intake, &format!("{reason}: {help}"));
            let transform = most_failing(&done.version, &done.letters);
            self.demoter.demote(done.version.generation, Blame { transform, reason, lasting: true });
        }
        true
    }

    /// Forgets every result that no outcome covers or is about to cover; the records are read and run again.
    fn withdraw(&mut self) {
        let floor = self.commit.as_ref().map_or(self.committed, |running| running.commit.to);
        self.intake.restart(floor);
        self.open.withdraw_pending(floor);
        self.letters.clear();
        self.keeping.withdraw();
        self.clock_withdraw();
        self.letter_bytes = 0;
        self.answers.clear();
        self.context.stats.backlog_bytes.fetch_add(self.slice_bytes.cast_signed(), Ordering::Relaxed);
        self.slice_bytes = 0;
        self.ran.clear();
        self.counts = Counts::default();
        self.rows.fill(0);
        self.gathered = floor;
        self.uncommitted_since = None;
    }

    /// Whether all records that ran are durable: of others no outcome may speak.
    pub(super) fn gathered_is_durable(&self) -> bool {
        // What is void was void before others became durable.
        let buffer = &self.context.buffer;
        !self.context.reads_early || (self.gathered <= buffer.durable_end() && buffer.voided() == self.voided)
    }

    /// An outcome is on its way that becomes durable with records of it, or not at all.
    pub(super) fn commits_with_records(&self) -> bool {
        self.commit.as_ref().is_some_and(|running| running.commit.seen.is_some())
    }

    /// Records that ran before they were durable, and will never be, have not run.
    pub(super) fn take_back_void(&mut self) {
        let voided = self.context.buffer.voided();
        #[cfg_attr(not(test), expect(unused_mut, reason = "a planted bug changes it"))]
        let mut unknown = self.commits_with_records();
        #[cfg(test)]
        if self.context.mutant == crate::pipeline::simulation::Mutant::VoidTakenBackAtOnce {
            unknown = false;
        }
        // Whether an outcome is among what is lost is known when it has come back.
        if voided == self.voided || unknown {
            return;
        }
        self.context.decisions.lost();
        let (records, bytes) = (voided.records - self.voided.records, voided.bytes - self.voided.bytes);
        self.voided = voided;
        self.withdraw();
        // What was to be told was reached by them.
        self.replay_waits.take_if(|request| request.tell.is_some());
        self.context.stats.backlog_bytes.fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
        let which = if self.context.decides_durably { "" } else { " that may have been answered early" };
        tracing::error!(
            stream = %self.context.label(), records,
            "records{which} are lost: the journal's disk did not take them; who waits is told that nobody knows"
        );
    }

    pub(super) fn take_chain(&mut self) {
        let next = self.chains.borrow_and_update().clone();
        if next.generation == self.current.generation {
            return;
        }
        if let Some(reason) = &next.withdrawn {
            // What it did and is not durable is as if it had not been.
            self.withdraw();
            self.halt = Halt::BadVersion;
            self.context.stats.pause(Pause::Intake, reason);
            tracing::error!(
                stream = %self.context.label(), reason,
                "plugins may not be used any more: the stream pauses until there are others, and no record is lost"
            );
            self.current = next;
            return;
        }
        self.halt = Halt::No;
        self.context.stats.with_transforms(|transforms| next.name_transforms(transforms));
        self.context.stats.reloads.add(1);
        tracing::info!(stream = %self.context.label(), plugins = next.digests.join(", "), from = self.intake.uncut(), "plugins reloaded");
        self.current = next;
        self.clock_of_version();
    }
}

/// Place of the transform that failed most of these records.
fn most_failing(version: &ChainVersion, letters: &[(Letter, Bytes)]) -> Option<usize> {
    let failed_by = |name: &str| letters.iter().filter(|(letter, _)| letter.transform == name).count();
    let counts = version.chain.transforms().enumerate().map(|(place, (name, _))| (failed_by(name), place));
    counts.filter(|(failed, _)| *failed > 0).max_by_key(|(failed, _)| *failed).map(|(_, place)| place)
}

/// A reason out of the letters of plugins, to say what kind of failure it is.
fn example(letters: &[(Letter, Bytes)]) -> &str {
    let mut of_plugins = letters.iter().filter(|(letter, _)| !letter.transform.is_empty());
    of_plugins.next().map_or("", |(letter, _)| &letter.reason)
}
