//! Windows over keyed state: takes a chunk of records, gives the results that are due.
//!
//! Records are taken in their order, and the watermark moves with each: what is late and what is due does not depend
//! on how the stream is cut. State is read and written once per chunk: the windows that the chunk's records belong to
//! and those that the chunk's last watermark closes are fetched together, everything happens in memory, and what
//! changed is written together. Closing reads what is due and nothing else: tumbling and sliding windows stand in the
//! order of their ends, sessions and early results have timers.

use serde::{Deserialize, Serialize};
use wasmill_keyed::state::{decode, encode};
use wasmill_keyed::watermark::crosses;
use wasmill_keyed::{Address, Due, Front, Progress, State, StateFault, Table, Working, ordered};

use crate::aggregate::{Aggregate, Value};
use crate::pane::{Pane, Panes, next_multiple};
use crate::shape::{Shape, Window};

/// End and start of a window in front of its key.
const ENDS_BYTES: usize = 16;
/// Most open sessions of a key.
pub const SESSIONS_MAX: usize = 1000;

/// The tables of the state.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// [`Panes`]: of tumbling and sliding windows by end, start and key, of sessions by key.
    pub entries: Table,
    /// Timers of sessions, and of early results.
    pub timers: Table,
    /// [`Reached`].
    pub progress: Table,
}

/// How far the windows have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reached {
    progress: Progress,
    /// Which tumbling and sliding windows were found, by their ends: as closed,
    ended: Front,
    /// and as to be forgotten.
    over: Front,
    /// Windows that ended by this moment are forgotten, also where `lateness` would keep them by now: what a late record made of
    /// one would be a part of it.
    forgotten: i64,
}

impl Default for Reached {
    fn default() -> Self {
        Self {
            progress: Progress::default(),
            ended: Front::default(),
            over: Front::default(),
            forgotten: i64::MIN,
        }
    }
}

impl Reached {
    fn address() -> Address {
        Address::new(0, *b"reached")
    }

    fn load(state: &mut impl State, table: Table) -> Result<Self, StateFault> {
        match state.get(table, &[Self::address()]).into_iter().next().flatten() {
            Some(bytes) => decode(table, &bytes).or_else(|_| {
                // As it was kept before `forgotten` was.
                let (progress, ended, over): (_, _, Front) = decode(table, &bytes)?;
                Ok(Self { forgotten: over.to(), progress, ended, over })
            }),
            None => Ok(Self::default()),
        }
    }

    fn store(&self, state: &mut impl State, table: Table) -> Result<(), StateFault> {
        state.put(table, vec![(Self::address(), Some(encode(table, self)?))]);
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.progress.backlog || self.ended.has_more() || self.over.has_more()
    }
}

/// What is computed, and when it is given.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Where it is kept.
    pub tables: Tables,
    /// The windows.
    pub shape: Shape,
    /// What is computed, each with a fingerprint of its definition.
    pub aggregates: Vec<(u32, Aggregate)>,
    /// How much later than newer ones records may come, in nanoseconds.
    pub delay: i64,
    /// How long after its end a window takes records that come too late, in nanoseconds.
    pub lateness: i64,
    /// Results whenever a chunk changed them, in place of those at the end.
    pub updates: bool,
    /// Early results whenever event time passes a multiple of this, in nanoseconds.
    pub early_every: Option<i64>,
    /// Early results after so many records.
    pub early_records: Option<u64>,
}

impl Spec {
    /// What is looked for when the watermark has come from one moment to another; nothing where nothing can be due.
    fn due<'r>(&self, reached: &'r mut Reached, to: i64) -> Option<Due<'r>> {
        let Reached { progress, ended, over, .. } = reached;
        let Shape::Aligned { size, slide, offset } = self.shape else {
            let is_due = progress.watermark < to || progress.backlog;
            return is_due.then(|| Due::timers(Some(to)));
        };
        let early = self.early_every.is_some_and(|every| crosses(progress.watermark, to, 0, every));
        let mut due = Due::timers((early || progress.backlog).then_some(to));
        // Windows end at known moments.
        let ends = offset.saturating_add(size);
        let forgets = to.saturating_sub(self.lateness);
        // Also those that stayed when there was a lateness.
        let stays = self.lateness > 0 || self.updates || over.to() > i64::MIN;
        for (front, moment, is_meant) in [(ended, to, !self.updates), (over, forgets, stays)] {
            if is_meant && (front.has_more() || crosses(front.to(), moment, ends, slide)) {
                due.fronts.push((front, moment));
            }
        }
        (due.timers.is_some() || !due.fronts.is_empty()).then_some(due)
    }

    /// The timer of what is due at a moment. The end of a tumbling or sliding window has none.
    fn timer(&self, panes: &Panes, at: i64) -> Option<i64> {
        let Shape::Aligned { .. } = self.shape else { return Some(at) };
        panes.0.first().filter(|pane| at < pane.window().end).map(|_| at)
    }
}

/// Why a result is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Before the window ended.
    Early,
    /// When it ended.
    OnTime,
    /// After it ended, because a late record changed it.
    Late,
    /// A chunk changed it.
    Update,
}

impl Timing {
    /// As it stands in rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::OnTime => "on_time",
            Self::Late => "late",
            Self::Update => "update",
        }
    }
}

/// A result.
#[derive(Clone, Debug, PartialEq)]
pub struct Fired {
    /// The key.
    pub key: Vec<u8>,
    /// The window.
    pub window: Window,
    /// Why now.
    pub timing: Timing,
    /// One JSON value for each aggregate.
    pub values: Vec<Vec<u8>>,
}

/// A record of a chunk.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Its key group.
    pub group: u8,
    /// Its key.
    pub key: &'a [u8],
    /// Its time in nanoseconds.
    pub time: i64,
    /// Its row in the columns of values.
    pub row: usize,
    /// The watermark when it came, where the stream keeps one; else it moves the plugin's own.
    pub before: Option<i64>,
}

/// What became of a chunk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Results in the order in which they became due.
    pub fired: Vec<Fired>,
    /// Rows that came too late for every window of theirs.
    pub late: Vec<usize>,
    /// Rows whose key has too many open sessions.
    pub crowded: Vec<usize>,
    /// More is due: call [`advance`] again, or wait for the next chunk.
    pub more: bool,
}

/// Takes a chunk of records; `values` has a column for each aggregate.
pub fn process(
    spec: &Spec,
    state: &mut impl State,
    records: &[Record<'_>],
    values: &[Vec<Value>],
) -> Result<Outcome, StateFault> {
    let mut reached = Reached::load(state, spec.tables.progress)?;
    let mut progress = reached.progress;
    let mut last = progress;
    records.iter().for_each(|record| match record.before {
        Some(watermark) => last.reach(watermark),
        None => last.see(record.time, spec.delay),
    });

    let mut run = Run::new(spec, &reached);
    let mut targets: Vec<(usize, Window)> = Vec::new();
    let mut ends = Vec::with_capacity(records.len());
    for record in records {
        for window in spec.shape.windows(record.time) {
            targets.push((run.working.slot(address(spec, record, window)), window));
        }
        ends.push(targets.len());
    }
    run.load(state, spec.due(&mut reached, last.watermark).unwrap_or_default())?;
    // What an earlier call left over is done before anything new is taken.
    run.fire(progress.watermark);
    let mut from = 0;
    for (record, to) in records.iter().zip(ends) {
        if let Some(watermark) = record.before {
            progress.reach(watermark);
            run.fire(progress.watermark);
        }
        let row = values.iter().map(|column| column.get(record.row).unwrap_or(&Value::Absent));
        run.take(record, targets.get(from..to).unwrap_or_default(), row);
        from = to;
        if record.before.is_none() {
            progress.see(record.time, spec.delay);
            run.fire(progress.watermark);
        }
    }
    reached.progress = progress;
    run.finish(state, reached)
}

/// The watermark has come to `watermark` without a record.
pub fn advance(spec: &Spec, state: &mut impl State, watermark: i64) -> Result<Outcome, StateFault> {
    let mut reached = Reached::load(state, spec.tables.progress)?;
    let had_more = reached.has_more();
    let to = reached.progress.watermark.max(watermark);
    if to == reached.progress.watermark && !had_more {
        return Ok(Outcome::default());
    }
    // Nothing is written where nothing is due: what is kept may be behind, and then more is looked at.
    let mut run = Run::new(spec, &reached);
    let Some(due) = spec.due(&mut reached, to) else { return Ok(Outcome::default()) };
    run.load(state, due)?;
    run.fire(to);
    if !had_more && !run.outcome.more && run.working.changed().next().is_none() {
        return Ok(Outcome::default());
    }
    reached.progress.reach(to);
    run.finish(state, reached)
}

fn address(spec: &Spec, record: &Record<'_>, window: Window) -> Address {
    let mut key = Vec::with_capacity(ENDS_BYTES + record.key.len());
    if let Shape::Aligned { .. } = spec.shape {
        key.extend_from_slice(&ordered(window.end));
        key.extend_from_slice(&ordered(window.start));
    }
    key.extend_from_slice(record.key);
    Address::new(record.group, key)
}

/// One call.
struct Run<'s> {
    spec: &'s Spec,
    watermark: i64,
    /// See [`Reached`].
    forgotten: i64,
    working: Working<Panes>,
    outcome: Outcome,
}

impl<'s> Run<'s> {
    fn new(spec: &'s Spec, reached: &Reached) -> Self {
        let working = Working::new(spec.tables.entries, spec.tables.timers);
        let Reached { progress, forgotten, .. } = *reached;
        Self { spec, watermark: progress.watermark, forgotten, working, outcome: Outcome::default() }
    }

    /// Fetches all entries, and those that are due.
    fn load(&mut self, state: &mut impl State, due: Due<'_>) -> Result<(), StateFault> {
        self.outcome.more = self.working.load(state, due, |panes| {
            panes.fit(self.spec);
            panes.wake(self.spec)
        })?;
        Ok(())
    }

    /// Queues an entry for when it is due.
    fn queue(&mut self, slot: usize) {
        let wake = self.working.get(slot).and_then(|(_, panes)| panes.wake(self.spec));
        self.working.queue(slot, wake);
    }

    /// Takes a record into its windows.
    fn take<'v>(
        &mut self,
        record: &Record<'_>,
        targets: &[(usize, Window)],
        values: impl Iterator<Item = &'v Value> + Clone,
    ) {
        let mut is_late = true;
        for (slot, window) in targets {
            let Some((_, Panes(panes))) = self.working.get(*slot) else { continue };
            let (window, met) = match self.spec.shape {
                Shape::Aligned { .. } => (*window, !panes.is_empty()),
                Shape::Session { .. } => {
                    let met = panes.iter().map(Pane::window).filter(|other| other.meets(*window));
                    met.fold((*window, false), |(window, _), other| (window.cover(other), true))
                }
            };
            let is_over = window.end.saturating_add(self.spec.lateness) <= self.watermark;
            if is_over || window.end <= self.forgotten {
                continue;
            }
            is_late = false;
            if !met && panes.len() >= SESSIONS_MAX {
                self.outcome.crowded.push(record.row);
                continue;
            }
            let Some((address, Panes(panes))) = self.working.change(*slot) else { continue };
            let at = place(panes, window, self.spec);
            let Some(pane) = panes.get_mut(at) else { continue };
            pane.add(record.time, values.clone(), self.spec);
            let timing = if pane.window().end <= self.watermark {
                pane.fired = true;
                Some(Timing::Late)
            } else if self.spec.early_records.is_some_and(|records| pane.unsent >= records) {
                Some(Timing::Early)
            } else {
                None
            };
            if let Some(timing) = timing.filter(|_| !self.spec.updates) {
                pane.unsent = 0;
                self.outcome.fired.push(fired(address, pane, timing, self.spec));
            }
            self.queue(*slot);
        }
        if is_late {
            self.outcome.late.push(record.row);
        }
    }

    /// Gives and removes what is due at `watermark`, in order of time.
    fn fire(&mut self, watermark: i64) {
        self.watermark = watermark;
        while let Some((at, slots)) = self.working.due(watermark) {
            for slot in slots {
                self.wake(slot, at);
                self.queue(slot);
            }
        }
    }

    /// Does what is due for an entry at this moment. Afterwards nothing of it is.
    fn wake(&mut self, slot: usize, at: i64) {
        let (spec, watermark) = (self.spec, self.watermark);
        let Some((address, Panes(panes))) = self.working.change(slot) else { return };
        for pane in panes.iter_mut() {
            if pane.wake(spec) > at {
                continue;
            }
            let is_over = pane.window().end <= at;
            let timing = match (spec.updates, is_over) {
                (true, _) => Timing::Update,
                (false, true) => Timing::OnTime,
                (false, false) => Timing::Early,
            };
            let is_new = if timing == Timing::OnTime { !pane.fired } else { pane.unsent > 0 };
            if is_new {
                pane.unsent = 0;
                self.outcome.fired.push(fired(address, pane, timing, spec));
            }
            pane.fired |= is_over;
            pane.early_at = spec.early_every.and_then(|every| next_multiple(watermark, every));
        }
        panes.retain(|pane| pane.window().end.saturating_add(spec.lateness) > at);
    }

    /// Writes what changed.
    fn finish(mut self, state: &mut impl State, mut reached: Reached) -> Result<Outcome, StateFault> {
        if self.spec.updates {
            self.update();
        }
        self.working.finish(state, |panes, at| self.spec.timer(panes, at))?;
        reached.progress.backlog = self.outcome.more;
        let forgotten = reached.progress.watermark.saturating_sub(self.spec.lateness);
        reached.forgotten = reached.forgotten.max(forgotten);
        reached.store(state, self.spec.tables.progress)?;
        Ok(self.outcome)
    }

    /// Gives every window that changed, by window and key.
    fn update(&mut self) {
        let mut changed = Vec::new();
        for (address, Panes(panes)) in self.working.changed() {
            for pane in panes.iter_mut().filter(|pane| pane.unsent > 0) {
                pane.unsent = 0;
                changed.push(fired(address, pane, Timing::Update, self.spec));
            }
        }
        changed.sort_by(|left, right| (left.window, &left.key).cmp(&(right.window, &right.key)));
        self.outcome.fired.append(&mut changed);
    }
}

/// The place of the pane of a window, which takes in every session that it meets.
fn place(panes: &mut Vec<Pane>, window: Window, spec: &Spec) -> usize {
    let Some(at) = panes.iter().position(|pane| pane.window().meets(window)) else {
        let at = panes.partition_point(|pane| pane.window() < window);
        panes.insert(at, Pane::new(window, spec));
        return at;
    };
    while let Some(next) = panes.get(at + 1)
        && next.window().meets(window)
    {
        let next = panes.remove(at + 1);
        if let Some(pane) = panes.get_mut(at) {
            pane.merge(next, spec);
        }
    }
    if let Some(pane) = panes.get_mut(at)
        && pane.window() != window
    {
        pane.widen(window);
        pane.fired = false;
    }
    at
}

/// A result of a pane.
fn fired(address: &Address, pane: &Pane, timing: Timing, spec: &Spec) -> Fired {
    let before = if let Shape::Aligned { .. } = spec.shape { ENDS_BYTES } else { 0 };
    let key = address.key.get(before..).unwrap_or_default().to_vec();
    Fired { key, window: pane.window(), timing, values: pane.results(spec) }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
