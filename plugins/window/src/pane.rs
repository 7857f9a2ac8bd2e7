//! What is kept for a window: its accumulators, and what has become of it so far.

use serde::{Deserialize, Serialize};

use crate::aggregate::{Accumulator, Aggregate, Value};
use crate::engine::Spec;
use crate::shape::Window;

/// A window of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pane {
    start: i64,
    end: i64,
    /// Its result was given at its end.
    pub fired: bool,
    /// Records since a result was given.
    pub unsent: u64,
    /// When an early result is due; `None` where none is.
    pub early_at: Option<i64>,
    /// By the fingerprint of the aggregate, so that a config with other aggregates finds those that stayed.
    accumulators: Vec<(u32, Accumulator)>,
}

impl Pane {
    /// A window without records.
    pub fn new(window: Window, spec: &Spec) -> Self {
        Self {
            start: window.start,
            end: window.end,
            fired: false,
            unsent: 0,
            early_at: None,
            accumulators: spec.aggregates.iter().map(|(print, what)| (*print, what.start())).collect(),
        }
    }

    /// Which one.
    pub fn window(&self) -> Window {
        Window { start: self.start, end: self.end }
    }

    /// Takes a record.
    pub fn add<'v>(&mut self, time: i64, values: impl Iterator<Item = &'v Value>, spec: &Spec) {
        for (((_, aggregate), (_, accumulator)), value) in
            spec.aggregates.iter().zip(&mut self.accumulators).zip(values)
        {
            aggregate.add(accumulator, time, value);
        }
        self.unsent += 1;
        if let Some(every) = spec.early_every
            && self.early_at.is_none()
        {
            self.early_at = next_multiple(time, every);
        }
    }

    /// Takes in a later session that it meets.
    pub fn merge(&mut self, other: Self, spec: &Spec) {
        let window = self.window().cover(other.window());
        (self.start, self.end) = (window.start, window.end);
        for (((_, aggregate), (_, mine)), (_, theirs)) in
            spec.aggregates.iter().zip(&mut self.accumulators).zip(other.accumulators)
        {
            aggregate.merge(mine, theirs);
        }
        self.fired = false;
        self.unsent += other.unsent;
        self.early_at = self.early_at.into_iter().chain(other.early_at).min();
    }

    /// The window is at least this one.
    pub fn widen(&mut self, window: Window) {
        let window = self.window().cover(window);
        (self.start, self.end) = (window.start, window.end);
    }

    /// The results as JSON, one after the other.
    pub fn results(&self, spec: &Spec) -> Vec<Vec<u8>> {
        let each = spec.aggregates.iter().zip(&self.accumulators);
        each.map(|((_, aggregate), (_, accumulator))| {
            let mut out = Vec::new();
            aggregate.write(accumulator, &mut out);
            out
        })
        .collect()
    }

    /// When something has to be done with it next.
    pub fn wake(&self, spec: &Spec) -> i64 {
        if self.fired || spec.updates {
            self.end.saturating_add(spec.lateness)
        } else {
            self.end.min(self.early_at.unwrap_or(i64::MAX))
        }
    }

    /// Puts the accumulators in the order of the config: those of aggregates that it no longer has go, those of new
    /// ones start now.
    fn fit(&mut self, spec: &Spec) {
        let is = |((print, aggregate), (known, kept)): (&(u32, Aggregate), &(u32, Accumulator))| {
            print == known && aggregate.keeps(kept)
        };
        let same = spec.aggregates.len() == self.accumulators.len();
        if same && spec.aggregates.iter().zip(&self.accumulators).all(is) {
            return;
        }
        let mut kept = std::mem::take(&mut self.accumulators);
        for (print, aggregate) in &spec.aggregates {
            let same = |(known, kept): &(u32, Accumulator)| known == print && aggregate.keeps(kept);
            let found = kept.iter().position(same).map(|at| kept.swap_remove(at).1);
            self.accumulators.push((*print, found.unwrap_or_else(|| aggregate.start())));
        }
    }
}

/// The first multiple of `every` after a moment.
pub fn next_multiple(time: i64, every: i64) -> Option<i64> {
    time.checked_sub(time.rem_euclid(every))?.checked_add(every)
}

/// What stands under one address, by start: of tumbling and sliding windows one of a key, of sessions all of a key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Panes(pub Vec<Pane>);

impl wasmill_keyed::Entry for Panes {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Panes {
    /// When something has to be done next.
    pub fn wake(&self, spec: &Spec) -> Option<i64> {
        self.0.iter().map(|pane| pane.wake(spec)).min()
    }

    /// After they were read: fits them to the config.
    pub fn fit(&mut self, spec: &Spec) {
        self.0.iter_mut().for_each(|pane| pane.fit(spec));
    }
}
