//! From durable frames to slices on the workers: reading ahead, cutting, results in order.
//!
//! It holds a bounded number of slices in flight and at most about one slice of frames that wait. It knows nothing
//! of outcomes: what came back is the stream's to judge, and what the stream withdraws is read again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasmill_buffer::{Frame, ReadError};

use super::context::StreamContext;
use super::decide::SliceAnswers;
use super::event_time::SliceClock;
use super::plan::ChainVersion;
use super::slice::{Cut, Done, Growth, Part, Route};
use super::state::StateBelow;
use super::strands::Together;

/// Frames that are durable and wait to be cut.
#[derive(Default)]
pub(super) struct Waiting {
    frames: VecDeque<Arc<Frame>>,
    /// First row of the first frame that is not cut yet.
    row: usize,
    bytes: usize,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Intake {
    /// Next offset to read from the buffer.
    read: u64,
    waiting: Waiting,
    waiting_since: Option<Instant>,
    /// Bytes of the stream that were durable when it was read from last.
    durable_bytes: u64,
    /// With the time since when the slice waited.
    in_flight: FuturesOrdered<oneshot::Receiver<(Instant, Done)>>,
    slice_bytes: usize,
    slice_wait: Duration,
    slices_max: usize,
    /// The chain keeps state, or the stream has event time: each slice sees what the one before has made of it. Its strands,
    /// if it has some, run at once.
    one_by_one: bool,
    stream_seed: u64,
    growth: Growth,
}

/// Records of a slice of a chain that keeps state take at most this many bytes: what it changes waits in memory.
const KEEPING_SLICE_BYTES: usize = 1 << 20;

impl Intake {
    pub(super) fn new(
        from: u64,
        slice_bytes: usize,
        slice_wait: Duration,
        slices_max: usize,
        stream_seed: u64,
    ) -> Intake {
        Intake {
            read: from,
            waiting: Waiting::default(),
            waiting_since: None,
            durable_bytes: 0,
            in_flight: FuturesOrdered::new(),
            slice_bytes,
            slice_wait,
            slices_max,
            one_by_one: false,
            stream_seed,
            growth: Growth::default(),
        }
    }

    /// Next offset to read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// First offset that is in no slice yet: what waits was read, and runs with whatever version is current when it is cut.
    pub(super) fn uncut(&self) -> u64 {
        self.waiting.first_offset().unwrap_or(self.read)
    }

    fn slices_max(&self) -> usize {
        if self.one_by_one { 1 } else { self.slices_max }
    }

    fn slice_bytes(&self) -> usize {
        if self.one_by_one { self.slice_bytes.min(KEEPING_SLICE_BYTES) } else { self.slice_bytes }
    }

    /// Whether there is room to read more.
    pub(super) fn may_read(&self) -> bool {
        self.in_flight.len() < self.slices_max() && self.waiting.bytes < self.slice_bytes()
    }

    /// Whether everything up to `durable_end` has come back from the workers.
    pub(super) fn is_done(&self, durable_end: u64) -> bool {
        self.in_flight.is_empty() && self.waiting.frames.is_empty() && self.read >= durable_end
    }

    pub(super) fn has_slices(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// The oldest slice's result, and since when its records waited; `None` if its worker panicked.
    pub(super) async fn next_done(&mut self) -> Option<(Instant, Done)> {
        self.in_flight.next().await.and_then(Result::ok)
    }

    /// When a slice is due that is not full.
    pub(super) fn due(&self) -> Option<Instant> {
        let waits = !self.waiting.frames.is_empty() && self.in_flight.len() < self.slices_max();
        self.waiting_since.filter(|_| waits).map(|since| since + self.slice_wait)
    }

    /// With how many durable bytes of the stream the slice that waits is full: fewer change nothing before it is due.
    pub(super) fn full_at(&self) -> Option<u64> {
        let missing = self.slice_bytes().saturating_sub(self.waiting.bytes);
        (self.waiting_since.is_some() && missing > 0).then(|| self.durable_bytes + missing as u64)
    }

    /// Forgets everything that is not gathered: reading goes on at `from`.
    pub(super) fn restart(&mut self, from: u64) {
        self.in_flight.clear();
        self.waiting = Waiting::default();
        self.waiting_since = None;
        self.read = from;
    }

    /// Reads what is durable while `room` allows, cuts it, and gives it to the workers, over `state` where the chain keeps
    /// some, and by `clock` where the stream has event time. Slices that are not full wait a little for more, unless `hurry`.
    pub(super) fn start_slices(
        &mut self,
        context: &StreamContext,
        version: &Arc<ChainVersion>,
        room: bool,
        hurry: bool,
        clock: Option<&SliceClock>,
        state: impl Fn() -> StateBelow,
    ) -> Result<(), ReadError> {
        self.one_by_one = version.chain.keeps_state() || clock.is_some();
        while self.in_flight.len() < self.slices_max() {
            if room && self.waiting.bytes < self.slice_bytes() {
                self.fill(context)?;
            }
            if self.waiting.frames.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            let since = *self.waiting_since.get_or_insert(now);
            let full = self.waiting.bytes >= self.slice_bytes();
            if !full && !hurry && now < since + self.slice_wait {
                return Ok(());
            }
            let Some(cut) = self.waiting.cut(self.slice_bytes()) else { return Ok(()) };
            self.waiting_since = (!self.waiting.frames.is_empty()).then_some(now);
            let state = version.chain.keeps_state().then(&state);
            self.start(context, version, cut, (state, clock.cloned()), since);
        }
        Ok(())
    }

    fn fill(&mut self, context: &StreamContext) -> Result<(), ReadError> {
        // What becomes durable meanwhile is read, and counts once more.
        self.durable_bytes = context.buffer.durable_bytes();
        let found = context.buffer.try_frames(self.read, self.slice_bytes())?;
        for lost in &found.lost {
            tracing::error!(
                stream = %context.label(), from = lost.start, to = lost.end,
                "acknowledged records are lost to corruption of the buffer"
            );
            context.stats.records_lost_to_corruption.add(lost.end - lost.start);
        }
        for frame in found.frames {
            self.waiting.push(frame, self.read);
        }
        self.read = self.read.max(found.next_offset);
        Ok(())
    }

    pub(crate) fn stream_seed(&self) -> u64 {
        self.stream_seed
    }

    fn start(
        &mut self,
        context: &StreamContext,
        version: &Arc<ChainVersion>,
        cut: Cut,
        (state, clock): (Option<StateBelow>, Option<SliceClock>),
        since: Instant,
    ) {
        let shadows = context.shadows.turn(version.generation, cut.from, cut.to);
        let route = Route {
            traced: !shadows.is_empty() || context.samples.wanted() || context.decisions.wanted(),
            version: version.clone(),
            lane: context.lane,
            stream_seed: self.stream_seed,
            growth: self.growth.clone(),
            formats: context.outputs.iter().map(|output| output.format).collect(),
            columns: context.outputs.iter().map(|output| output.columns.clone()).collect(),
            backup: context.backup,
            outputs: context.outputs.iter().map(|output| output.name.clone()).collect(),
            clock,
            parallel: context.parallel.clone().filter(|_| self.one_by_one),
        };
        let (reply, done) = oneshot::channel();
        let (beside, samples) = (Arc::clone(&context.shadows), Arc::clone(&context.samples));
        let decisions = Arc::clone(&context.decisions);
        let finish = move |cut: &Arc<Cut>, route: &Route, mut done: Done| {
            samples.answer(cut, &done);
            done.answers = decisions.wanted().then(|| SliceAnswers::of(&done)).flatten();
            let offer = beside.offer(shadows, cut, route, &mut done);
            // Nobody waits when the stream was stopped or took its slices back.
            drop(reply.send((since, done)));
            offer.send();
        };
        self.in_flight.push_back(done);
        let (cut, lane, over) = (Arc::new(cut), context.lane, &context.over);
        let Some(parallel) = &route.parallel else {
            context.workers.submit_slice(&context.tenant, lane, &version.chain, over, move |worker| {
                let done = cut.run(&route, state.as_ref(), worker);
                drop(state);
                finish(&cut, &route, done);
            });
            return;
        };
        let jobs = usize::from(parallel.strands.count()).min(context.workers.width(&version.chain));
        let together = Arc::new(Together::new(cut, route, state, Box::new(finish)));
        for _ in 0..jobs {
            let together = Arc::clone(&together);
            context.workers.submit_slice(&context.tenant, lane, &version.chain, over, move |worker| {
                together.work(worker);
            });
        }
    }
}

impl Waiting {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn first_offset(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.base_offset + self.row as u64)
    }

    /// Adds a frame, which may begin before what is wanted of it: an outcome can end within a frame.
    pub(super) fn push(&mut self, frame: Arc<Frame>, from: u64) {
        let before = usize::try_from(from.saturating_sub(frame.base_offset)).unwrap_or(usize::MAX);
        let before = before.min(frame.ends.len());
        self.bytes += frame.payload.len();
        if before > 0 && self.frames.is_empty() {
            self.row = before;
            self.bytes -= frame.ends[before - 1] as usize;
        }
        self.frames.push_back(frame);
    }

    /// The next slice of about `bytes`: whole frames as long as they fit, or a part of one that does not. A gap in
    /// the offsets ends a slice, so that it covers what it says.
    pub(super) fn cut(&mut self, bytes: usize) -> Option<Cut> {
        let mut parts: Vec<Part> = Vec::new();
        let mut taken = 0;
        while let Some(frame) = self.frames.front() {
            let start = if self.row == 0 { 0 } else { frame.ends[self.row - 1] as usize };
            let left = frame.payload.len() - start;
            let gap = parts.last().is_some_and(|part| part.end_offset() != frame.base_offset);
            if gap || (taken > 0 && taken + left > bytes) {
                break;
            }
            let part = Part::from_row(frame.clone(), self.row, bytes);
            taken += part.bytes();
            let whole = part.ends_frame();
            if whole {
                self.frames.pop_front();
                self.row = 0;
            } else {
                self.row = part.last();
            }
            parts.push(part);
            if !whole {
                break;
            }
        }
        self.bytes -= taken;
        let from = parts.first()?.first_offset();
        let to = parts.last()?.end_offset();
        Some(Cut { parts, from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn frame(base_offset: u64, lengths: &[usize]) -> Arc<Frame> {
        let mut ends = Vec::new();
        let mut end = 0;
        for length in lengths {
            end += length;
            ends.push(u32::try_from(end).unwrap());
        }
        Arc::new(Frame {
            position: 0,
            base_offset,
            count: u32::try_from(lengths.len()).unwrap(),
            arrival: 0,
            arrival_deltas: None,
            payload: Bytes::from(vec![b'x'; end]),
            ends,
            keys: None,
            attributes: Vec::new(),
            event_times: None,
            producer: None,
            source: String::new(),
        })
    }

    fn cuts(frames: Vec<Arc<Frame>>, bytes: usize) -> Vec<(u64, u64)> {
        cuts_from(0, frames, bytes)
    }

    fn cuts_from(from: u64, frames: Vec<Arc<Frame>>, bytes: usize) -> Vec<(u64, u64)> {
        let mut waiting = Waiting::default();
        for frame in frames {
            waiting.push(frame, from);
        }
        let cuts = std::iter::from_fn(|| waiting.cut(bytes)).map(|cut| (cut.from, cut.to)).collect();
        assert_eq!((waiting.bytes, waiting.frames.len()), (0, 0));
        cuts
    }

    #[test]
    fn cut_takes_whole_frames_as_long_as_they_fit() {
        assert_eq!(cuts(vec![frame(0, &[10, 10]), frame(2, &[10]), frame(3, &[10])], 30), [(0, 3), (3, 4)]);
    }

    #[test]
    fn cut_frame_over_the_limit_is_taken_in_parts_and_a_large_record_alone() {
        assert_eq!(cuts(vec![frame(5, &[10, 10, 90, 10])], 25), [(5, 7), (7, 8), (8, 9)]);
    }

    #[test]
    fn cut_begins_within_a_frame_where_the_outcome_before_ended() {
        let frames = || vec![frame(5, &[10, 0, 90, 10]), frame(9, &[10])];
        for from in 0..=5 {
            assert_eq!(cuts_from(from, frames(), 1000), [(5, 10)]);
        }
        for from in 6..=8 {
            assert_eq!(cuts_from(from, frames(), 1000), [(from, 10)]);
        }
        assert_eq!(cuts_from(6, frames(), 95), [(6, 8), (8, 10)]);
    }

    #[test]
    fn what_was_read_and_waits_is_not_cut_yet() {
        let mut intake = Intake { read: 6, ..Intake::default() };
        assert_eq!(intake.uncut(), 6);
        intake.waiting.push(frame(5, &[10, 10, 90, 10]), 6);
        intake.read = 9;
        // As long as it waits, another version may still run it.
        assert_eq!((intake.uncut(), intake.read()), (6, 9));
        for expected in [7, 8, 9] {
            assert_eq!(intake.waiting.cut(25).map(|cut| cut.to), Some(expected));
            assert_eq!(intake.uncut(), expected);
        }
    }

    #[test]
    fn cut_never_spans_a_gap_in_the_offsets() {
        assert_eq!(cuts(vec![frame(0, &[1]), frame(7, &[1])], 100), [(0, 1), (7, 8)]);
    }

    #[test]
    fn cut_empty_records_count_their_offsets() {
        assert_eq!(cuts(vec![frame(0, &[0, 0, 0]), frame(3, &[4])], 100), [(0, 4)]);
    }
}
