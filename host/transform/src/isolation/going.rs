//! A slice on its way through processes: what is told of event time, and what has come back.

use wasmill_chunk::{FinishOptions, RowCheck};

use super::messages::Clock;
use super::requests::Sent;
use super::state::Held;
use crate::chain::Chain;
use crate::event_time::{NO_TIME, Times};
use crate::report::{Slice, SliceReport};
use crate::worker::Part;

/// A slice on its way.
pub(super) struct Going<'a, 'k> {
    pub(super) chain: &'a Chain,
    pub(super) slice: &'a Slice<'a>,
    pub(super) options: &'a FinishOptions,
    pub(super) times: Option<Times<'a>>,
    /// The watermark of which the transforms know;
    pub(super) known: i64,
    /// they are told of the next one even where it has not moved.
    pub(super) due: bool,
    pub(super) owed: bool,
    pub(super) held: Option<Held>,
    pub(super) check: Option<&'k mut dyn RowCheck>,
    pub(super) sent: Sent,
    pub(super) whole: SliceReport,
}

impl Going<'_, '_> {
    /// Event time of these rows; of none, at the slice's end.
    pub(super) fn clock(&self, parts: &[Part]) -> Option<Clock> {
        let times = self.times.as_ref()?;
        let place = parts.last().map(|part| (part.input, part.rows.end));
        let after = times.watermark_at(self.slice, place);
        Some(Clock { before: self.known, after, due: self.due, arrival: times.arrival })
    }

    /// The transforms were told of what there was to tell.
    pub(super) fn told(&mut self, clock: Option<Clock>, owed: bool) {
        let Some(Clock { before, after, due, .. }) = clock else { return };
        if after != NO_TIME && (after > before || due) {
            (self.known, self.due, self.owed) = (after.max(before), false, owed);
        }
    }

    pub(super) fn is_to_be_told(&self) -> bool {
        let after = self.times.map_or(NO_TIME, |times| times.after);
        self.chain.takes_watermarks() && after != NO_TIME && (after > self.known || self.due)
    }
}
