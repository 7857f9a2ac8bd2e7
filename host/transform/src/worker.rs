//! One thread's warm instances of a chain, and the way of a slice through them.
//!
//! Owns cutting a slice into chunks, the turn of each transform, and when an instance is replaced. What a guest does
//! wrong ends in the report; nothing that it staged is applied unless its call returned ok.

pub(crate) mod flow;
mod turn;

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wasmill_chunk::{Chunk, Failure, FinishOptions, NO_INPUT, RowCheck, RowSink, Verdicts};
use wasmill_state::{Layer, SliceState};

use crate::bisect::Bisection;
use crate::chain::Chain;
use crate::clock::thread_cpu;
use crate::event_time::{CallClock, Times};
use crate::fault::PluginFault;
use crate::http::{Sending, requests_max, wait_max};
use crate::instance::Instance;
use crate::limits::RUNS_WITHOUT_MAX;
use crate::report::{DeadLetter, Slice, SliceReport, TransformReport};
use crate::seed::Generator;
use crate::state::{self, Keeping};
use crate::step::Step;
use flow::Flow;
use turn::Turn;

/// Runs slices through a chain on one thread; keeps warm instances and buffers.
pub struct ChainWorker {
    chain: Arc<Chain>,
    chunk: Option<Box<Chunk>>,
    warm: Vec<Option<Warm>>,
    /// Draws when instances are replaced, so that workers do not do it all at once.
    recycle: Generator,
    verdicts: Verdicts,
    parts: Vec<Part>,
    position: Option<Arc<Position>>,
    /// For answers, elsewhere, in the slice that it is about to run a part of.
    waited: Duration,
}

/// Where a process says which transform it is about to call: whoever finds it dead reads it there.
pub(crate) struct Position {
    file: File,
    last: AtomicU32,
}

impl Position {
    pub(crate) fn new(file: File) -> Position {
        Position { file, last: AtomicU32::new(u32::MAX) }
    }

    pub(crate) fn mark(&self, step: usize) {
        let step = u32::try_from(step).unwrap_or(u32::MAX);
        if self.last.swap(step, Ordering::Relaxed) != step {
            // Whoever reads it then blames another transform of the same chain.
            let _unmarked = self.file.write_at(&step.to_le_bytes(), 0);
        }
    }
}

struct Warm {
    instance: Instance,
    calls_max: u64,
}

/// Consecutive rows of one of the slice's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) input: usize,
    pub(crate) rows: Range<usize>,
}

/// Why a chunk did not come through.
pub(crate) struct Failed {
    /// Place in the chain.
    pub(crate) step: usize,
    pub(crate) fault: PluginFault,
    /// The plugin could not even be started: no record is to blame.
    pub(crate) unrunnable: bool,
}

impl Failed {
    /// The host itself is at fault.
    fn broken(step: usize, message: String) -> Failed {
        Failed { step, fault: PluginFault::Host { message }, unrunnable: true }
    }
}

/// Records that took the state of their chunk with them.
struct FailedRows {
    /// Of the chunk.
    rows: Vec<u32>,
    letters: Vec<DeadLetter>,
}

/// What a slice of a chain that keeps state runs over.
pub struct Kept<'a> {
    pub state: SliceState,
    /// Records of which a row is refused fail like those that a transform fails: what was changed of state for them does not
    /// count.
    pub check: Option<&'a mut dyn RowCheck>,
}

/// What all runs of one slice share.
pub(crate) struct Run<'a> {
    pub(crate) slice: &'a Slice<'a>,
    pub(crate) options: &'a FinishOptions,
    pub(crate) sink: &'a mut dyn RowSink,
    pub(crate) report: SliceReport,
    /// Of a chain that keeps state.
    pub(crate) keeping: Option<Box<Keeping>>,
    /// Asked where state was written.
    pub(crate) check: Option<&'a mut dyn RowCheck>,
    /// Of a stream that has event time.
    pub(crate) times: Option<Times<'a>>,
    /// What the call that comes next sees of it.
    pub(crate) clock: Option<Box<CallClock>>,
    /// Of the attempt that is made.
    pub(crate) flows: Vec<Flow>,
}

impl Run<'_> {
    fn begin_flows(&mut self, steps: usize) {
        self.flows.clear();
        self.flows.resize(steps, Flow::default());
    }
}

// A worker is made on one thread and runs on another.
const _: fn() = || {
    fn assert_send<T: Send>() {}
    assert_send::<ChainWorker>();
};

impl ChainWorker {
    /// A worker without instances; they are made when first needed.
    pub fn new(chain: Arc<Chain>) -> ChainWorker {
        let chunk = Chunk::new(Arc::clone(&chain.layout), chain.chunk_limits);
        let recycle = Generator::new(thread_cpu().as_nanos() as u64 ^ Arc::as_ptr(&chain) as u64);
        ChainWorker {
            warm: chain.steps.iter().map(|_| None).collect(),
            chunk: Some(Box::new(chunk)),
            chain,
            recycle,
            verdicts: Verdicts::default(),
            parts: Vec::new(),
            position: None,
            waited: Duration::ZERO,
        }
    }

    /// With marks of where it is.
    pub(crate) fn marking(self, position: Arc<Position>) -> ChainWorker {
        ChainWorker { position: Some(position), ..self }
    }

    /// So long was waited for answers already in the slice that comes next.
    pub(crate) fn has_waited(&mut self, waited: Duration) {
        self.waited = waited;
    }

    /// The chain that it runs.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// How many instances it keeps, and bytes of their linear memory.
    pub fn warm(&self) -> (u64, u64) {
        let warm = self.warm.iter().flatten();
        warm.fold((0, 0), |(count, bytes), warm| (count + 1, bytes + warm.instance.memory_bytes_peak()))
    }

    /// Cuts the slice into chunks and takes each through the chain. Rows that survive go to `sink` in order.
    /// Never panics or errs because of a guest: what fails is in the report. If the report says `unrunnable`, rows
    /// already in the sink must be thrown away: the slice has no outcome.
    /// A chain that keeps state begins with none, and what it keeps is thrown away: see [`ChainWorker::run_keeping`].
    pub fn run(&mut self, slice: &Slice<'_>, options: &FinishOptions, sink: &mut dyn RowSink) -> SliceReport {
        let time = slice.inputs.first().map_or(0, |input| input.arrival);
        let scratch = || Kept { state: SliceState::scratch(time), check: None };
        let kept = self.chain.keeps_state().then(scratch);
        self.run_keeping(slice, options, sink, kept).0
    }

    /// The same over the state of a stream; what the slice has changed of it comes back, where it has an outcome. Without
    /// state a plugin that wants some is trapped.
    pub fn run_keeping(
        &mut self,
        slice: &Slice<'_>,
        options: &FinishOptions,
        sink: &mut dyn RowSink,
        kept: Option<Kept<'_>>,
    ) -> (SliceReport, Option<Layer>) {
        let (report, layer, _) = self.run_timed(slice, None, options, sink, kept);
        (report, layer)
    }

    /// The same with event time: transforms that export `on-watermark` are told of it after each chunk that has moved it. Also
    /// says whether they have more to do at this watermark than one run does.
    pub fn run_timed(
        &mut self,
        slice: &Slice<'_>,
        times: Option<Times<'_>>,
        options: &FinishOptions,
        sink: &mut dyn RowSink,
        kept: Option<Kept<'_>>,
    ) -> (SliceReport, Option<Layer>, bool) {
        if let Some(remote) = &self.chain.elsewhere {
            return remote.run(&self.chain, slice, times, options, sink, kept);
        }
        let report = SliceReport {
            transforms: vec![TransformReport::default(); self.chain.steps.len()],
            ..SliceReport::default()
        };
        let (state, mut check) = kept.map_or((None, None), |Kept { state, check }| (Some(state), check));
        let keeping = state.map(|state| Box::new(Keeping::new(state)));
        let unreadable = keeping.as_ref().and_then(|keeping| {
            let steps = self.chain.steps.iter().zip(self.chain.declared());
            keeping.unreadable(steps)
        });
        let check = check_again(&mut check);
        let flows = Vec::with_capacity(self.chain.steps.len());
        let mut run = Run { slice, options, sink, report, keeping, check, times, clock: None, flows };
        if let Some((step, message)) = unreadable {
            run.report.unrunnable = Some((step, PluginFault::Refused { message }));
        }
        let mut parts = std::mem::take(&mut self.parts);
        let mut cutter = Cutter { slice, input: 0, row: 0 };
        let mut telling = self.telling(times.as_ref());
        while run.report.unrunnable.is_none()
            && cutter.next(&mut parts, self.chain.options.chunk_bytes, self.chain.options.chunk_rows)
        {
            if let Some(over) = self.over_time(&run.report) {
                run.report.unrunnable = Some(over);
                break;
            }
            run.report.chunks += 1;
            self.chunk(&mut run, &parts);
            let place = cutter.place();
            telling.reached(self, &mut run, Some(place));
        }
        telling.reached(self, &mut run, None);
        self.parts = parts;
        for (transform, warm) in run.report.transforms.iter_mut().zip(&self.warm) {
            if let Some(warm) = warm {
                transform.memory_bytes_peak =
                    transform.memory_bytes_peak.max(warm.instance.memory_bytes_peak());
            }
        }
        run.report.count_letters(&self.chain.steps);
        let layer = match &run.report.unrunnable {
            None => run.keeping.map(|keeping| keeping.state.finish()),
            Some(_) => None,
        };
        (run.report, layer, telling.owed)
    }

    /// The transform that took most of the slice's CPU time, if that is used up.
    fn over_time(&self, report: &SliceReport) -> Option<(usize, PluginFault)> {
        let max = self.chain.options.slice_cpu_max?;
        let (most, _) = report.transforms.iter().enumerate().max_by_key(|(_, transform)| transform.cpu)?;
        let spent: Duration = report.transforms.iter().map(|transform| transform.cpu).sum();
        let message = format!("used more than {max:?} of CPU time for one slice");
        (spent > max).then_some((most, PluginFault::Deadline { message }))
    }

    fn chunk(&mut self, run: &mut Run<'_>, parts: &[Part]) {
        let Err(failed) = self.attempt(run, parts, None) else { return };
        if failed.unrunnable {
            run.report.unrunnable = Some((failed.step, failed.fault));
            return;
        }
        run.report.chunks_bisected += 1;
        Bisection::new(&self.chain, &failed).run(self, run, parts, failed);
    }

    /// Takes rows through the whole chain, and into the sink if every transform agrees. `deadline_max` shortens the
    /// transforms' own deadlines. Records that fail where state was written for them take it with them: the others run again
    /// without them, from the state as it was before.
    pub(crate) fn attempt(
        &mut self,
        run: &mut Run<'_>,
        parts: &[Part],
        deadline_max: Option<Duration>,
    ) -> Result<(), Failed> {
        let mut without: Option<Vec<Part>> = None;
        let mut letters: Vec<DeadLetter> = Vec::new();
        for _ in 0..RUNS_WITHOUT_MAX {
            let parts = without.as_deref().unwrap_or(parts);
            match self.attempt_once(run, parts, deadline_max)? {
                None => {
                    for letter in &letters {
                        let place = self.chain.steps.iter().position(|step| step.name == letter.transform);
                        let bytes = run.slice.bytes_of(letter.input, letter.row as usize);
                        let place = place.unwrap_or(self.chain.steps.len());
                        flow::count_failed(&mut run.report.transforms, place, bytes);
                    }
                    run.report.failures.append(&mut letters);
                    return Ok(());
                }
                Some(mut failed) => {
                    without = Some(state::without(parts, &failed.rows));
                    letters.append(&mut failed.letters);
                }
            }
        }
        // Who runs its halves finds again what failed here.
        let message = "other records fail each time they run without those that failed before".to_owned();
        let step = self.chain.steps.len().saturating_sub(1);
        Err(Failed { step, fault: PluginFault::BadOutput { message }, unrunnable: false })
    }

    /// One such attempt. Says which rows of the chunk failed if nothing of it counts because of them.
    fn attempt_once(
        &mut self,
        run: &mut Run<'_>,
        parts: &[Part],
        deadline_max: Option<Duration>,
    ) -> Result<Option<FailedRows>, Failed> {
        let Some(first) = parts.first() else { return Ok(None) };
        if let Some(keeping) = &mut run.keeping {
            keeping.begin();
        }
        let mut chunk = self.spare_chunk();
        for (index, part) in parts.iter().enumerate() {
            let Some(input) = run.slice.inputs.get(part.input) else { continue };
            let rows = part.rows.clone();
            let taken = if index == 0 { chunk.begin(input, rows) } else { chunk.extend(input, rows) };
            taken.map_err(|misuse| Failed::broken(0, format!("input columns: {misuse}")))?;
        }
        let (offset, now) = origin(run.slice, first);
        let chain = Arc::clone(&self.chain);
        run.clock = run.times.as_ref().map(|times| Box::new(times.of_chunk(run.slice, parts)));
        run.begin_flows(chain.steps.len());
        let mut cpu = thread_cpu();
        for index in 0..chain.steps.len() {
            if chunk.rows_left() == 0 {
                break;
            }
            let turn = Turn { index, offset, now, deadline_max, on_watermark: None };
            chunk = self.turn(run, chunk, turn, &mut cpu)?;
        }
        if let Some(keeping) = &mut run.keeping
            && let Some(wrote) = keeping.wrote
        {
            let failures = chunk.failures_of(run.options, check_again(&mut run.check));
            let of_records = failures.iter().filter(|failure| failure.input_row != NO_INPUT);
            if of_records.clone().any(|failure| failure.transform >= wrote) {
                keeping.state.rollback();
                let rows = of_records.clone().map(|failure| failure.input_row).collect();
                let letters =
                    of_records.cloned().map(|failure| dead_letter(&chain, parts, failure)).collect();
                self.chunk = Some(chunk);
                return Ok(Some(FailedRows { rows, letters }));
            }
        }
        self.finish(run, chunk, parts);
        Ok(None)
    }

    fn spare_chunk(&mut self) -> Box<Chunk> {
        match self.chunk.take() {
            Some(chunk) => chunk,
            None => Box::new(Chunk::new(Arc::clone(&self.chain.layout), self.chain.chunk_limits)),
        }
    }

    /// Rows that have come through all transforms leave.
    fn finish(&mut self, run: &mut Run<'_>, mut chunk: Box<Chunk>, parts: &[Part]) {
        self.verdicts.passed = 0;
        self.verdicts.dropped = 0;
        self.verdicts.emitted = 0;
        self.verdicts.bytes = 0;
        self.verdicts.failed.clear();
        chunk.finish(run.options, run.sink, &mut self.verdicts);
        self.chunk = Some(chunk);
        run.report.passed += self.verdicts.passed;
        run.report.dropped += self.verdicts.dropped;
        run.report.emitted += self.verdicts.emitted;
        flow::count(&mut run.report, &mut run.flows, &self.verdicts);
        for failure in self.verdicts.failed.drain(..) {
            run.report.failures.push(dead_letter(&self.chain, parts, failure));
        }
    }

    /// What the next call of a transform may send.
    fn sending(&self, step: &Step, index: usize, report: &SliceReport) -> Sending {
        let Chain { steps, options, .. } = &*self.chain;
        if !options.sends {
            return Sending::BESIDE;
        }
        if step.grants.http.is_none() {
            return Sending::Slice { wait: Duration::ZERO, requests: 0 };
        }
        let sent = report.transforms.get(index).map_or(0, |transform| transform.http.requests());
        Sending::Slice {
            wait: wait_max(steps).saturating_sub(self.waited).saturating_sub(report.waited()),
            requests: requests_max(options, report.chunks).saturating_sub(sent),
        }
    }

    /// The warm instance of a transform; a fresh one if there is none or its time has come.
    fn instance(&mut self, index: usize, report: &mut TransformReport) -> Result<&mut Instance, PluginFault> {
        let options = &self.chain.options;
        if self.warm[index].as_ref().is_some_and(|warm| {
            warm.instance.calls() >= warm.calls_max
                || warm.instance.memory_over(options.memory_watermark_percent)
        }) {
            self.retire(index, report);
        }
        if self.warm[index].is_none() {
            let step = &self.chain.steps[index];
            let instance = Instance::start(step)?;
            report.instances += 1;
            let calls = self.chain.options.calls_per_instance.max(2);
            self.warm[index] = Some(Warm { instance, calls_max: calls / 2 + self.recycle.next() % calls });
        }
        match &mut self.warm[index] {
            Some(warm) => Ok(&mut warm.instance),
            None => Err(PluginFault::Host { message: "no instance".to_owned() }),
        }
    }

    fn retire(&mut self, index: usize, report: &mut TransformReport) {
        if let Some(warm) = self.warm[index].take() {
            report.memory_bytes_peak = report.memory_bytes_peak.max(warm.instance.memory_bytes_peak());
        }
    }
}

fn check_again<'a>(check: &'a mut Option<&mut dyn RowCheck>) -> Option<&'a mut dyn RowCheck> {
    match check {
        Some(check) => Some(&mut **check),
        None => None,
    }
}

/// First offset and arrival time of a chunk.
fn origin(slice: &Slice<'_>, first: &Part) -> (u64, u64) {
    let Some(input) = slice.inputs.get(first.input) else { return (0, 0) };
    let delta = input.arrival_deltas.and_then(|deltas| deltas.get(first.rows.start)).copied().unwrap_or(0);
    let now = input.arrival.saturating_add(i64::from(delta));
    (input.offset(first.rows.start), u64::try_from(now).unwrap_or(0))
}

fn dead_letter(chain: &Chain, parts: &[Part], failure: Failure) -> DeadLetter {
    let (input, row) = locate(parts, failure.input_row);
    let step = chain.steps.get(failure.transform);
    DeadLetter {
        input,
        row,
        offset: failure.offset,
        child: failure.child,
        transform: step.map_or_else(|| Arc::from(""), |step| Arc::clone(&step.name)),
        digest: step.map(|step| step.plugin.digest),
        route: failure.route,
        reason: failure.reason,
        payload: failure.payload,
    }
}

/// Input and row of a chunk's row; [`NO_INPUT`] for rows that no record stands behind.
fn locate(parts: &[Part], row: u32) -> (usize, u32) {
    let mut left = row as usize;
    for part in parts {
        if left < part.rows.len() {
            return (part.input, u32::try_from(part.rows.start + left).unwrap_or(NO_INPUT));
        }
        left -= part.rows.len();
    }
    (usize::MAX, NO_INPUT)
}

/// Cuts a slice into chunks; a chunk may span inputs, so that small frames share one.
struct Cutter<'a> {
    slice: &'a Slice<'a>,
    input: usize,
    row: usize,
}

impl Cutter<'_> {
    /// Input and row behind the chunk that was cut last.
    fn place(&self) -> (usize, usize) {
        (self.input, self.row)
    }

    /// Fills `parts` with the next chunk; false at the end of the slice.
    fn next(&mut self, parts: &mut Vec<Part>, bytes_max: usize, rows_max: usize) -> bool {
        parts.clear();
        let (mut bytes, mut rows) = (0, 0);
        while let Some(input) = self.slice.inputs.get(self.input) {
            let ends = input.payloads.ends;
            if self.row >= ends.len() {
                self.input += 1;
                self.row = 0;
                continue;
            }
            let start = if self.row == 0 { 0 } else { ends[self.row - 1] as usize };
            let until = start.saturating_add(bytes_max - bytes);
            let fitting = ends[self.row..].partition_point(|&end| end as usize <= until);
            // A record larger than a chunk is a chunk of its own.
            let take = fitting.min(rows_max - rows).max(usize::from(rows == 0));
            if take == 0 {
                break;
            }
            let end = self.row + take;
            parts.push(Part { input: self.input, rows: self.row..end });
            bytes += ends[end - 1] as usize - start;
            rows += take;
            self.row = end;
            if bytes >= bytes_max || rows >= rows_max || self.row < ends.len() {
                break;
            }
        }
        !parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use wasmill_chunk::{ColumnRef, Input};

    use super::*;

    fn cut(inputs: &[&[u32]], bytes: usize, rows: usize) -> Vec<Vec<Part>> {
        let data = vec![0u8; 1000];
        let inputs: Vec<_> = inputs
            .iter()
            .map(|ends| {
                let len = ends.last().map_or(0, |&end| end as usize);
                Input::of_payloads(0, ColumnRef { data: &data[..len], ends })
            })
            .collect();
        let slice = Slice { id: 0, stream_seed: 0, inputs: &inputs };
        let mut cutter = Cutter { slice: &slice, input: 0, row: 0 };
        let mut parts = Vec::new();
        let mut out = Vec::new();
        while cutter.next(&mut parts, bytes, rows) {
            out.push(parts.clone());
        }
        out
    }

    fn part(input: usize, rows: Range<usize>) -> Part {
        Part { input, rows }
    }

    #[test]
    fn cut_by_bytes_keeps_every_row_once_and_in_order() {
        assert_eq!(
            cut(&[&[10, 20, 30, 40, 50]], 25, 100),
            [vec![part(0, 0..2)], vec![part(0, 2..4)], vec![part(0, 4..5)]]
        );
    }

    #[test]
    fn cut_small_inputs_share_a_chunk() {
        assert_eq!(
            cut(&[&[10], &[], &[10, 20], &[30, 60]], 40, 100),
            [vec![part(0, 0..1), part(2, 0..2)], vec![part(3, 0..1)], vec![part(3, 1..2)]]
        );
    }

    #[test]
    fn cut_record_over_the_limit_is_a_chunk_of_its_own() {
        assert_eq!(
            cut(&[&[5, 105, 110]], 25, 100),
            [vec![part(0, 0..1)], vec![part(0, 1..2)], vec![part(0, 2..3)]]
        );
    }

    #[test]
    fn cut_empty_records_are_bounded_by_rows() {
        assert_eq!(
            cut(&[&[0, 0, 0, 0, 0]], 25, 2),
            [vec![part(0, 0..2)], vec![part(0, 2..4)], vec![part(0, 4..5)]]
        );
    }

    #[test]
    fn locate_row_of_a_chunk_finds_its_input() {
        let parts = [part(1, 3..5), part(2, 0..2)];
        assert_eq!(locate(&parts, 0), (1, 3));
        assert_eq!(locate(&parts, 1), (1, 4));
        assert_eq!(locate(&parts, 3), (2, 1));
        assert_eq!(locate(&parts, 4), (usize::MAX, NO_INPUT));
    }
}
