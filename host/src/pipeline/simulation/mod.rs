//! Seeded lives of a whole stream: buffer, slices, commits, deliveries, checkpoints, recovery, on a disk that fails and
//! loses power and a clock that the seed moves. After the last crash everything that was acknowledged must be where it
//! belongs, once, and what was late must have been.
//!
//! `WASMILL_SIMULATION_SEEDS=A..B` runs other seeds than the usual ones. A [`Mutant`] plants a bug, to show that the
//! simulation would find it.

mod check;
mod kind;
mod model;
mod plugin;
mod seen;
mod state;
mod store;
mod tests;
mod world;

/// A planted bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mutant {
    #[default]
    None,
    /// The journal lets go of outcomes whose batches are not delivered.
    CheckpointBeforeDelivery,
    /// Objects are sent before their outcome is durable.
    VisibleBeforeOutcome,
    /// Batches are named as before the crash.
    EpochNotRaised,
    /// Staged files are not synced.
    StagedNotSynced,
    /// After a crash, open batches are forgotten.
    OpenRowsForgotten,
    /// Delivered batches are delivered again after a restart, under another name.
    RenamedAfterRestart,
    /// State is changed before the outcome that carries it is durable: a slice that runs again sees what it has made.
    StateAppliedTwice,
    /// The journal lets go of outcomes whose changes of state are not durable in the store.
    StateLost,
    /// The journal lets go of outcomes with rows of batches that are encoded beside the commits.
    AsideLost,
    /// Of such batches a later one is sealed before an earlier one of its partition.
    AsidePassed,
    /// What one strand of a slice has changed of state is not in the outcome.
    StrandStateLost,
    /// One strand of a slice runs twice.
    StrandTwice,
    /// Records go to strands by where they stand, in place of their key.
    StrandsMixed,
    /// After a crash all sources are as far as the one that is furthest.
    SourcesMixed,
    /// Checkpoints do not say how far event time has come.
    WatermarkForgotten,
    /// They say how far records have taken it that have no outcome.
    WatermarkAhead,
    /// What is void takes event time back further than to what an outcome on its way says.
    WatermarkFalls,
    /// What is void is taken back while the outcome is on its way that speaks of it, as if that would become durable.
    VoidTakenBackAtOnce,
}
