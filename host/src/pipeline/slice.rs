//! One slice: consecutive records of durable frames, and what becomes of them in a chain.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use wasmill_buffer::Frame;
use wasmill_chunk::{ColumnRef, FinishOptions, Input};
use wasmill_encode::Format;
use wasmill_state::Layer;
use wasmill_transform::{Kept, PluginFault, Slice, TransformReport};

use super::batch::{Piece, Rows};
use super::columns::Columns;
use super::decide::SliceAnswers;
use super::event_time::{self, Judged, Progress, SliceClock};
use super::fit::{self, Checks, Unfit, as_check};
use super::outcome::{BatchKey, Counts, Letter};
use super::plan::ChainVersion;
use super::sink::{SliceSink, Trace};
use super::sources::names::{SourceColumns, of_stored};
use super::state::{StateBelow, unreadable};
use super::strands::{self, Parallel, Share};
use super::workers::{LaneId, WorkerState};

/// Most that is set aside for a piece before it is there, in thousandths of the slice.
const GROWTH_PERMILLE_MAX: u64 = 4000;

/// Consecutive records of a stream: whole frames, or a part of one frame that is larger than a slice.
pub(crate) struct Cut {
    pub(crate) parts: Vec<Part>,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// Rows `first..last` of a frame.
#[derive(Clone)]
pub(crate) struct Part {
    frame: Arc<Frame>,
    first: usize,
    last: usize,
    /// Ends counted from the first row, where that is not the frame's own.
    ends: Option<Vec<u32>>,
    /// By row, where they are not consecutive.
    offsets: Option<Vec<u64>>,
}

impl Part {
    pub(crate) fn whole(frame: Arc<Frame>) -> Part {
        let last = frame.ends.len();
        Part { frame, first: 0, last, ends: None, offsets: None }
    }

    /// Rows from `first` on that fit into `bytes`, at least one.
    pub(crate) fn from_row(frame: Arc<Frame>, first: usize, bytes: usize) -> Part {
        let start = if first == 0 { 0 } else { frame.ends[first - 1] };
        let fits = frame.ends[first..].partition_point(|end| (end - start) as usize <= bytes);
        let last = first + fits.max(1);
        Part::of_rows(frame, first, last)
    }

    fn of_rows(frame: Arc<Frame>, first: usize, last: usize) -> Part {
        if first == 0 && last == frame.ends.len() {
            return Part::whole(frame);
        }
        let start = if first == 0 { 0 } else { frame.ends[first - 1] };
        let ends = frame.ends[first..last].iter().map(|end| end - start).collect();
        Part { frame, first, last, ends: Some(ends), offsets: None }
    }

    /// Some of its rows, at least one, counted from its own first one.
    pub(crate) fn some(&self, rows: std::ops::Range<usize>) -> Part {
        let offsets = self.offsets.as_ref().map(|offsets| offsets[rows.clone()].to_vec());
        let part = Part::of_rows(self.frame.clone(), self.first + rows.start, self.first + rows.end);
        Part { offsets, ..part }
    }

    /// Those of its rows, at least one, counted from its own first one, as a part of their own.
    pub(crate) fn gathered(&self, rows: &[usize]) -> Part {
        let offsets = rows.iter().map(|row| self.offset(*row)).collect();
        let rows: Vec<usize> = rows.iter().map(|row| self.first + row).collect();
        Part { offsets: Some(offsets), ..Part::whole(Arc::new(self.frame.gathered(&rows))) }
    }

    /// The letter of a row that no plugin has seen.
    pub(crate) fn letter(&self, row: usize, reason: String) -> (Letter, Bytes) {
        let letter = Letter {
            offset: self.offset(row).cast_signed(),
            child: 0,
            arrival: self.arrival(row),
            source: self.source().map(str::to_owned),
            transform: String::new(),
            plugin: String::new(),
            output: None,
            reason,
            blob: 0..0,
        };
        (letter, Bytes::copy_from_slice(self.row(row)))
    }

    /// Name of the source of its records, if it has one.
    pub(crate) fn source(&self) -> Option<&str> {
        of_stored(&self.frame.source)
    }

    pub(crate) fn last(&self) -> usize {
        self.last
    }

    pub(crate) fn ends_frame(&self) -> bool {
        self.last == self.frame.ends.len()
    }

    fn offset(&self, row: usize) -> u64 {
        let told = self.offsets.as_ref().and_then(|offsets| offsets.get(row)).copied();
        told.unwrap_or_else(|| self.frame.base_offset + (self.first + row) as u64)
    }

    pub(crate) fn first_offset(&self) -> u64 {
        self.offset(0)
    }

    pub(crate) fn end_offset(&self) -> u64 {
        let last = self.offsets.as_ref().and_then(|offsets| offsets.last());
        last.map_or_else(|| self.frame.base_offset + self.last as u64, |last| last + 1)
    }

    pub(crate) fn records(&self) -> u64 {
        (self.last - self.first) as u64
    }

    fn payload(&self) -> &[u8] {
        let start = if self.first == 0 { 0 } else { self.frame.ends[self.first - 1] as usize };
        &self.frame.payload[start..self.frame.ends[self.last - 1] as usize]
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payload().len()
    }

    pub(crate) fn arrival(&self, row: usize) -> i64 {
        let delta = self.frame.arrival_deltas.as_ref().map_or(0, |deltas| deltas[self.first + row]);
        self.frame.arrival + i64::from(delta)
    }

    pub(crate) fn input(&self) -> Input<'_> {
        Input {
            first_offset: self.first_offset(),
            offsets: self.offsets.as_deref(),
            payloads: ColumnRef {
                data: self.payload(),
                ends: self.ends.as_deref().unwrap_or(&self.frame.ends),
            },
            arrival: self.frame.arrival,
            arrival_deltas: self.frame.arrival_deltas.as_deref().map(|deltas| &deltas[self.first..self.last]),
            keys: None,
            attributes: &[],
        }
    }

    fn row(&self, row: usize) -> &[u8] {
        let start = if self.first + row == 0 { 0 } else { self.frame.ends[self.first + row - 1] as usize };
        &self.frame.payload[start..self.frame.ends[self.first + row] as usize]
    }
}

/// What became of a slice; nothing of it is durable yet.
pub(crate) struct Done {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// What ran.
    pub(crate) version: Arc<ChainVersion>,
    pub(crate) counts: Counts,
    /// Of the records that failed, those that the transforms failed; the rest did not fit their output.
    pub(crate) plugin_failed: u64,
    pub(crate) pieces: Vec<(BatchKey, Piece)>,
    /// Rows of these that are records as they came in.
    pub(crate) backed_up: u64,
    /// Of the records.
    pub(crate) bytes: u64,
    /// With the original bytes; the letters' blob ranges are set when the outcome is written.
    pub(crate) letters: Vec<(Letter, Bytes)>,
    pub(crate) transforms: Vec<TransformReport>,
    pub(crate) faults: Vec<(usize, PluginFault)>,
    pub(crate) chunks_bisected: u64,
    /// Where it was asked for: which rows came of which record.
    pub(crate) trace: Option<Trace>,
    /// What it has changed of state.
    pub(crate) state: Option<Layer>,
    /// What clients are told that wait for it.
    pub(crate) answers: Option<SliceAnswers>,
    /// How far event time has come, of a stream that has it.
    pub(crate) event_time: Option<Progress>,
    /// The chain could not run: there is no result, and the slice must run again.
    pub(crate) unrunnable: Option<(usize, PluginFault)>,
}

/// What became of late records.
#[derive(Default)]
struct Late {
    passed: u64,
    letters: Vec<(Letter, Bytes)>,
    unrunnable: Option<(usize, PluginFault)>,
}

/// What a slice runs through, and into.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) version: Arc<ChainVersion>,
    pub(crate) lane: LaneId,
    pub(crate) stream_seed: u64,
    pub(crate) growth: Growth,
    pub(crate) traced: bool,
    /// By output number.
    pub(crate) formats: Vec<Format>,
    /// The same.
    pub(crate) columns: Vec<Option<Arc<Columns>>>,
    /// The output that takes records as they came in.
    pub(crate) backup: Option<u32>,
    pub(crate) outputs: Vec<String>,
    /// Of a stream that has event time.
    pub(crate) clock: Option<SliceClock>,
    /// Of a stream whose keys run in strands.
    pub(crate) parallel: Option<Arc<Parallel>>,
}

/// How large the first piece of a slice was for what went in, by the slice that came back last.
#[derive(Clone, Default)]
pub(crate) struct Growth {
    permille: Arc<AtomicU64>,
}

impl Growth {
    /// A little more than the next piece should take, so that it seldom has to be moved.
    fn room(&self, bytes: u64) -> usize {
        let permille = self.permille.load(Ordering::Relaxed);
        usize::try_from(bytes.saturating_mul(permille) / 1000 * 17 / 16).unwrap_or(0)
    }

    fn note(&self, bytes: u64, piece: usize) {
        if let Some(permille) = (piece as u64).saturating_mul(1000).checked_div(bytes) {
            // A plugin that makes much of little must not make the host reserve without end.
            self.permille.store(permille.min(GROWTH_PERMILLE_MAX), Ordering::Relaxed);
        }
    }
}

/// What goes to one output need not be what another one takes.
pub(crate) fn finish_options(formats: &[Format]) -> FinishOptions {
    let require_json = formats.iter().any(|format| format.requires_json());
    let byte_routes = (0..u64::BITS).zip(formats).fold(0, |routes, (number, format)| {
        if format.requires_json() { routes } else { routes | 1 << number }
    });
    FinishOptions { require_json, byte_routes }
}

impl Cut {
    /// Offset and bytes of every record, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = (i64, &[u8])> {
        self.parts.iter().flat_map(|part| {
            let rows = 0..part.last - part.first;
            rows.map(|row| (part.offset(row).cast_signed(), part.row(row)))
        })
    }

    /// The records, whatever becomes of them.
    fn as_it_came(&self, output: u32, route: &Route) -> (BatchKey, Piece) {
        let separator = route.formats.get(output as usize).and_then(|format| format.separator());
        let records: u64 = self.parts.iter().map(Part::records).sum();
        let bytes: usize = self.parts.iter().map(Part::bytes).sum();
        let separators = usize::try_from(records).unwrap_or(0);
        let mut rows = Vec::with_capacity(bytes + if separator.is_some() { separators } else { 0 });
        let mut first_arrival = i64::MAX;
        for part in &self.parts {
            for row in 0..part.last - part.first {
                rows.extend_from_slice(part.row(row));
                rows.extend(separator);
                first_arrival = first_arrival.min(part.arrival(row));
            }
        }
        let piece =
            Piece { rows: Rows::Pending(Bytes::from(rows)), records, first_offset: self.from, first_arrival };
        (BatchKey { output, partition: Vec::new() }, piece)
    }

    /// The letter of a record that does not fit its output: with the record as it came in.
    fn unfit(&self, unfit: Unfit, route: &Route) -> (Letter, Bytes) {
        let Unfit { offset, child, route: output, arrival, reason, row } = unfit;
        let found = u64::try_from(offset).ok().and_then(|offset| {
            let part =
                self.parts.iter().find(|part| (part.first_offset()..part.end_offset()).contains(&offset))?;
            let row = usize::try_from(offset - part.first_offset()).ok()?;
            let source = part.source().map(str::to_owned);
            Some((part.arrival(row), source, Bytes::copy_from_slice(part.row(row))))
        });
        let (arrival, source, payload) = found.unwrap_or_else(|| (arrival, None, Bytes::from(row)));
        let letter = Letter {
            offset,
            child,
            arrival,
            source,
            transform: String::new(),
            plugin: String::new(),
            output: route.outputs.get(output as usize).cloned(),
            reason,
            blob: 0..0,
        };
        (letter, payload)
    }

    /// Runs on a worker thread, over state if the chain keeps some: of that nothing is held any more when this is done.
    pub(crate) fn run(&self, route: &Route, state: Option<&StateBelow>, worker: &mut WorkerState) -> Done {
        let shares = self.shares(route).into_iter();
        let done = shares.map(|share| self.run_share(share, route, state, worker)).collect();
        self.whole(route, done)
    }

    /// What of it runs over state of its own: all of it together, or strand by strand. At least one.
    pub(crate) fn shares(&self, route: &Route) -> Vec<Share<'_>> {
        let mut judged = route.clock.as_ref().map(|clock| clock.judge(&self.parts));
        let parts = match &mut judged {
            Some(judged) => Cow::Owned(std::mem::take(&mut judged.parts)),
            None => Cow::Borrowed(self.parts.as_slice()),
        };
        match &route.parallel {
            Some(parallel) => parallel.part(&parts, judged, route.version.chain.takes_watermarks()),
            None => vec![Share { parts, judged, strand: None }],
        }
    }

    /// What came of the whole slice, of what came of its shares.
    pub(crate) fn whole(&self, route: &Route, shares: Vec<Done>) -> Done {
        #[cfg(test)]
        let shares = strands::plant(route.parallel.as_deref(), shares);
        let mut done = strands::together(shares).unwrap_or_else(|| self.nothing(route));
        done.bytes = self.parts.iter().map(|part| part.bytes() as u64).sum();
        let records = self.parts.iter().map(Part::records).sum();
        if let Some(output) = route.backup.filter(|_| records > 0 && done.unrunnable.is_none()) {
            done.backed_up = records;
            done.pieces.push(self.as_it_came(output, route));
        }
        done
    }

    /// Of no share at all.
    fn nothing(&self, route: &Route) -> Done {
        Done {
            from: self.from,
            to: self.to,
            version: route.version.clone(),
            counts: Counts::default(),
            plugin_failed: 0,
            pieces: Vec::new(),
            backed_up: 0,
            bytes: 0,
            letters: Vec::new(),
            transforms: Vec::new(),
            faults: Vec::new(),
            chunks_bisected: 0,
            trace: None,
            state: None,
            answers: None,
            event_time: None,
            unrunnable: None,
        }
    }

    /// Runs one share on a worker thread; the backup is not its business.
    pub(crate) fn run_share(
        &self,
        share: Share<'_>,
        route: &Route,
        state: Option<&StateBelow>,
        worker: &mut WorkerState,
    ) -> Done {
        let (records, stream_seed) = (share.records(), share.seed(route.stream_seed));
        let Share { parts, mut judged, strand } = share;
        let parts = &*parts;
        let sources = SourceColumns::of(
            parts.iter().map(|part| (part.source(), usize::try_from(part.records()).unwrap_or(0))),
        );
        let attributes = sources.attributes();
        let inputs: Vec<Input<'_>> = parts
            .iter()
            .zip(&attributes)
            .map(|(part, attributes)| Input { attributes, ..part.input() })
            .collect();
        let slice = Slice { id: self.from, stream_seed, inputs: &inputs };
        let bytes = parts.iter().map(|part| part.bytes() as u64).sum();
        let rows = judged.as_ref().map(Judged::rows);
        let times = judged.as_ref().zip(rows.as_ref());
        let mut sink = SliceSink::new(route.formats.clone(), self.from, route.growth.room(bytes));
        if route.traced || route.columns.iter().any(Option::is_some) {
            sink = sink.traced();
        }
        let options = finish_options(&route.formats);
        let time = self.parts.first().map_or(0, |part| part.arrival(0));
        let times = times.map(|(judged, rows)| judged.times(rows, time));
        let chain = &route.version.chain;
        let mut checks = Checks::of(&route.columns);
        let keeps = state.is_some();
        let (report, state, owed) = match state.map(|below| below.over(time, strand)).transpose() {
            Ok(state) => {
                let kept = state.map(|state| Kept { state, check: as_check(&mut checks) });
                worker.run_keeping(route.lane, chain, (&slice, times), &options, &mut sink, kept)
            }
            Err(error) => (unreadable(chain, &error), None, false),
        };
        let mut late = self.route_late(judged.as_ref(), route, &options, &mut sink);
        late.unrunnable = report.unrunnable.clone().or(late.unrunnable.take());
        let growth = sink.first_bytes();
        if !keeps {
            // Columns that were pinned meanwhile count, too; where state was kept, it is kept for what was asked then.
            checks = Checks::of(&route.columns);
        }
        let withdrawn = fit::withdraw(&mut sink, checks);
        let mut letters: Vec<(Letter, Bytes)> = report
            .failures
            .iter()
            .map(|failure| {
                // No record stands behind an aggregate or a notice: its letter has the row itself.
                let part = parts.get(failure.input);
                let row = part.map_or(0, |_| failure.row as usize);
                let after_last = failure.transform.is_empty();
                let letter = Letter {
                    offset: failure.offset,
                    child: failure.child,
                    arrival: part.or(self.parts.first()).map_or(0, |part| part.arrival(row)),
                    source: part.and_then(Part::source).map(str::to_owned),
                    transform: failure.transform.to_string(),
                    plugin: failure.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
                    output: route.outputs.get(failure.route as usize).filter(|_| after_last).cloned(),
                    reason: failure.reason.clone(),
                    blob: 0..0,
                };
                (letter, Bytes::copy_from_slice(part.map_or(&failure.payload, |part| part.row(row))))
            })
            .collect();
        let unfit_records = withdrawn.unfit.iter().filter(|unfit| unfit.offset >= 0).count() as u64;
        letters.extend(withdrawn.unfit.into_iter().map(|unfit| self.unfit(unfit, route)));
        let late_failed = late.letters.len() as u64;
        letters.append(&mut late.letters);
        let untimed = judged.as_mut().map_or(Vec::new(), |judged| std::mem::take(&mut judged.letters));
        let untimed_failed = untimed.len() as u64;
        letters.extend(untimed);
        route.growth.note(bytes, growth);
        // Rows that no record stands behind have no verdict either.
        let failed = || report.failures.iter().filter(|failure| failure.offset >= 0);
        let plugin_failed = failed().filter(|failure| !failure.transform.is_empty()).count() as u64;
        let counts = Counts {
            records,
            passed: report.passed + late.passed - unfit_records,
            dropped: report.dropped + judged.as_ref().map_or(0, |judged| judged.dropped),
            failed: failed().count() as u64 + unfit_records + late_failed + untimed_failed,
            absorbed: 0,
            emitted: report.emitted + late.passed - withdrawn.rows,
        };
        let event_time = judged.map(|Judged { watermark, marks, timely, counts, .. }| Progress {
            watermark,
            marks,
            timely,
            owed,
            late: counts,
        });
        let (pieces, trace) = sink.finish(&route.outputs);
        Done {
            counts,
            plugin_failed,
            pieces,
            event_time,
            trace: trace.filter(|_| route.traced),
            bytes,
            letters,
            transforms: report.transforms,
            faults: report.faults,
            chunks_bisected: report.chunks_bisected,
            state,
            unrunnable: late.unrunnable,
            ..self.nothing(route)
        }
    }

    /// Late records that go to an output of their own: each has one row.
    fn route_late(
        &self,
        judged: Option<&Judged>,
        route: &Route,
        options: &FinishOptions,
        sink: &mut SliceSink,
    ) -> Late {
        let mut late = Late::default();
        let Some((judged, clock)) = judged.zip(route.clock.as_ref()) else { return late };
        let Some(output) = clock.rules.late_output() else { return late };
        match event_time::route_late(&judged.late, output, options, sink) {
            Ok((verdicts, failed)) => {
                late.passed = verdicts.passed;
                late.letters.extend(failed.into_iter().filter_map(|(part, failure)| {
                    let row = usize::try_from(failure.input_row).ok()?;
                    let (mut letter, payload) = judged.late.get(part)?.letter(row, failure.reason);
                    letter.output = route.outputs.get(output as usize).cloned();
                    Some((letter, payload))
                }));
            }
            // The slice runs again: no record is to blame.
            Err(error) => late.unrunnable = Some((0, PluginFault::Host { message: error.to_string() })),
        }
        late
    }
}
