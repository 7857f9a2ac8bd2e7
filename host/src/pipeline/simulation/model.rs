//! Event time as it must have been: over all records of which something came, in the order of the stream, whatever crashed.
//!
//! Without idle time the watermark at each record is known, and so is whether it is late. With it, only clocks know; but
//! there must be a watermark that never falls and by which every record was judged as it was.

use std::collections::BTreeMap;

use super::kind::{DELAY, LATENESS, MS, SOURCES, Time};
use crate::pipeline::event_time::NO_TIME;
use crate::pipeline::stream::Standing;

/// A record of which something came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ran {
    pub(super) offset: u64,
    /// Milliseconds.
    pub(super) time: i64,
    pub(super) source: Option<usize>,
    pub(super) late: bool,
}

/// Where a life of the host began.
#[derive(Clone, Debug)]
pub(super) struct Resumed {
    /// Where the stream's records ended.
    pub(super) end: u64,
    processed: u64,
    pub(super) watermark: Option<i64>,
    by_source: BTreeMap<String, i64>,
}

impl Resumed {
    pub(super) fn of(standing: &Standing, end: u64) -> Resumed {
        Resumed {
            end,
            processed: standing.processed,
            watermark: standing.watermark,
            by_source: standing.watermarks.clone(),
        }
    }

    /// What the next record is judged by.
    fn reached(&self) -> i64 {
        let of_sources = SOURCES.map(|source| self.by_source.get(source).copied().unwrap_or(NO_TIME));
        let least = of_sources.into_iter().min().unwrap_or(NO_TIME);
        self.watermark.unwrap_or(NO_TIME).max(least)
    }
}

/// Whether that is so.
pub(super) fn check(time: Time, ran: &[Ran], resumed: &[Resumed]) -> Result<(), String> {
    let in_order = resumed.is_sorted_by_key(|life| life.processed)
        && ran.is_sorted_by(|one, next| one.offset < next.offset);
    if !in_order {
        return Err(format!("the stream went backwards: {resumed:?} {ran:?}"));
    }
    if time == Time::None {
        return Ok(());
    }
    let (mut watermark, mut of_sources) = (NO_TIME, [NO_TIME; SOURCES.len()]);
    let mut lives = resumed.iter().peekable();
    for record in ran.iter().map(Some).chain([None]) {
        // Those that went on with it.
        while let Some(life) =
            lives.next_if(|life| record.is_none_or(|record| life.processed <= record.offset))
        {
            let reached = life.reached();
            if reached < watermark || (time != Time::Idle && reached != watermark) {
                return Err(format!("in front of {record:?} the watermark is {watermark}, and was {life:?}"));
            }
            watermark = reached;
        }
        let Some(record) = record else { break };
        let at = record.time * MS;
        // Below this it is late.
        let bound = watermark.saturating_sub(LATENESS * MS);
        // Idle time may have taken the watermark further.
        let unknown = time == Time::Idle && record.late;
        if !unknown && record.late != (at < bound) {
            return Err(format!("with the watermark at {watermark} this was judged wrongly: {record:?}"));
        }
        let brings = at - DELAY * MS;
        watermark = match (record.source, record.late) {
            (Some(source), _) => {
                of_sources[source] = of_sources[source].max(brings);
                watermark.max(of_sources.into_iter().min().unwrap_or(NO_TIME))
            }
            // It was at least so far that this one was late.
            (None, true) => watermark.max(at + LATENESS * MS + 1),
            (None, false) => watermark.max(brings),
        };
    }
    Ok(())
}
