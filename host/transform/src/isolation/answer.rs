//! What a process answered, checked before it is believed: it may be anybody who speaks there.
//!
//! What can be checked is everything that the host builds on: which rows and records there are, and where they go. What is
//! in the rows is the tenant's own in any case.

use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use wasmill_chunk::{NO_INPUT, Partition, RowMeta, RowSink};

use super::messages::{Clock, Letter, PartitionValues, Report, RowsHead};
use super::wire::Body;
use crate::chain::Chain;
use crate::fault::{PluginFault, REASON_BYTES_MAX, cut_text};
use crate::http::HttpUse;
use crate::limits::TELLINGS_MAX;
use crate::report::{DeadLetter, Slice, SliceReport, TransformReport};
use crate::worker::Part;

/// Of a row's numbers.
const ROW_BYTES: usize = 36;
/// Names and values of one partition.
const PARTITION_BYTES_MAX: usize = 1 << 20;
const PARTITION_VALUES_MAX: usize = 256;
/// Letters of rows that no record stands behind.
const FRESH_LETTERS_MAX: u64 = 1 << 16;

/// What an answer must be about.
pub(super) struct Asked<'a> {
    pub(super) chain: &'a Chain,
    pub(super) slice: &'a Slice<'a>,
    /// Rows of the slice that were sent, one part for each input that was.
    pub(super) parts: &'a [Part],
    pub(super) outputs: usize,
    /// Of a stream that has event time.
    pub(super) clock: Option<Clock>,
}

/// Rows of one frame.
pub(super) struct Rows {
    ends: Vec<u32>,
    payload: Vec<u8>,
    offsets: Vec<i64>,
    children: Vec<u32>,
    arrivals: Vec<i64>,
    routes: Vec<u32>,
    partition_of: Vec<u32>,
    partitions: Vec<Partition>,
}

impl Rows {
    pub(super) fn read(head: RowsHead, body: Vec<u8>, asked: &Asked<'_>) -> Option<Rows> {
        let (count, length) = (head.rows as usize, head.payload_bytes as usize);
        let mut left = Body(body.get(length..)?);
        let ends = left.ends(count, length)?;
        let offsets = left.i64s(count)?;
        let children = left.u32s(count)?;
        let arrivals = left.i64s(count)?;
        let routes = left.u32s(count)?;
        let partition_of = left.u32s(count)?;
        // A partition that no row is in would be memory for nothing.
        let partitions = (head.partitions <= head.rows).then_some(head.partitions)?;
        let partitions = (0..partitions).map(|_| partition(&mut left)).collect::<Option<Vec<_>>>()?;
        let (was_sent, arrived) = (asked.was_sent(), asked.arrivals()?);
        let fits = left.0.is_empty()
            && routes.iter().all(|route| (*route as usize) < asked.outputs)
            && partition_of.iter().all(|at| (*at as usize) < partitions.len())
            && offsets.iter().all(|offset| *offset == -1 || was_sent(*offset))
            && arrivals.iter().all(|at| arrived.contains(at));
        let mut payload = body;
        payload.truncate(length);
        fits.then_some(Rows { ends, payload, offsets, children, arrivals, routes, partition_of, partitions })
    }

    /// About what they take in memory.
    pub(super) fn bytes(&self) -> usize {
        let values = self.partitions.iter().flat_map(|partition| &partition.values);
        let of_partitions: usize = values.map(|(name, value)| 64 + name.len() + value.len()).sum();
        self.payload.len() + self.ends.len() * ROW_BYTES + of_partitions
    }

    pub(super) fn count(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Bytes of their payloads.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.payload.len() as u64
    }

    /// Hands the rows on, in order.
    pub(super) fn pour(&self, sink: &mut dyn RowSink) {
        let mut start = 0;
        for (row, end) in self.ends.iter().enumerate() {
            let meta = RowMeta {
                offset: self.offsets[row],
                child: self.children[row],
                arrival: self.arrivals[row],
                route: self.routes[row],
                partition: &self.partitions[self.partition_of[row] as usize],
                key: None,
            };
            let end = *end as usize;
            sink.begin(&meta).extend_from_slice(&self.payload[start..end]);
            sink.end(&meta);
            start = end;
        }
    }
}

fn partition(body: &mut Body<'_>) -> Option<Partition> {
    let length = *body.u32s(1)?.first()? as usize;
    let bytes = body.bytes((length <= PARTITION_BYTES_MAX).then_some(length)?)?;
    let values: PartitionValues = postcard::from_bytes(bytes).ok()?;
    let values = (values.len() <= PARTITION_VALUES_MAX).then_some(values)?;
    Some(Partition { values: values.into_iter().map(|(name, value)| (Arc::from(name), value)).collect() })
}

impl Asked<'_> {
    /// About the memory that rows of honest guests take at most: what went in, and what each call may write.
    pub(super) fn rows_max(&self) -> usize {
        let options = &self.chain.options;
        let bytes: usize = self.parts.iter().map(|part| self.bytes(part)).sum();
        let rows: usize = self.parts.iter().map(|part| part.rows.len()).sum();
        let chunks = self.chunks();
        let calls = chunks.saturating_add(self.tellings());
        let each = self.chain.steps.iter().map(|step| step.limits.output_bytes).max().unwrap_or(0);
        let written = usize::try_from(each).unwrap_or(usize::MAX).saturating_mul(2).saturating_mul(calls);
        let rows = rows.saturating_add(options.chunk_rows.saturating_mul(calls));
        bytes.saturating_add(written).saturating_add(rows.saturating_mul(ROW_BYTES))
    }

    /// Chunks that these rows are cut into at most.
    pub(super) fn chunks(&self) -> usize {
        let options = &self.chain.options;
        let each = self.parts.iter().map(|part| {
            let (bytes, rows) = (self.bytes(part), part.rows.len());
            1 + bytes / options.chunk_bytes.max(1) + rows / options.chunk_rows.max(1)
        });
        // A record that does not fit into a chunk ends it early.
        each.sum::<usize>().saturating_mul(2)
    }

    /// How often transforms may be told of a watermark: behind each chunk.
    pub(super) fn tellings(&self) -> usize {
        match self.clock {
            Some(_) if self.chain.takes_watermarks() => {
                (self.chunks() + 1).saturating_mul(TELLINGS_MAX as usize)
            }
            _ => 0,
        }
    }

    fn bytes(&self, part: &Part) -> usize {
        let Some(input) = self.slice.inputs.get(part.input) else { return 0 };
        let end = |row: usize| {
            row.checked_sub(1).and_then(|row| input.payloads.ends.get(row)).map_or(0, |end| *end)
        };
        end(part.rows.end).saturating_sub(end(part.rows.start)) as usize
    }

    /// Records that were sent.
    pub(super) fn records(&self) -> u64 {
        self.parts.iter().map(|part| part.rows.len() as u64).sum()
    }

    /// Whether an offset may be one of those that were sent: it lies between the lowest and the highest, and where offsets are
    /// told one by one it is among them.
    fn was_sent(&self) -> impl Fn(i64) -> bool {
        let inputs =
            || self.parts.iter().filter_map(|part| Some((self.slice.inputs.get(part.input)?, &part.rows)));
        let each = inputs().map(|(input, rows)| {
            let at = |row: usize| i64::try_from(input.offset(row)).unwrap_or(i64::MAX);
            at(rows.start)..at(rows.end.saturating_sub(1).max(rows.start)).saturating_add(1)
        });
        let all: Range<i64> =
            each.reduce(|all, part| all.start.min(part.start)..all.end.max(part.end)).unwrap_or(0..0);
        let told = inputs().any(|(input, _)| input.offsets.is_some()).then(|| {
            let rows = inputs().flat_map(|(input, rows)| rows.clone().map(|row| input.offset(row)));
            rows.map(u64::cast_signed).collect::<HashSet<i64>>()
        });
        move |offset| all.contains(&offset) && told.as_ref().is_none_or(|told| told.contains(&offset))
    }

    /// Those of the records, and that of rows that are made when time has come.
    fn arrivals(&self) -> Option<RangeInclusive<i64>> {
        let made = self.clock.map(|clock| (clock.arrival, clock.arrival));
        let inputs = self.parts.iter().filter_map(|part| self.slice.inputs.get(part.input));
        let each = inputs.map(|input| {
            let last = input.arrival_deltas.and_then(|deltas| deltas.iter().max()).copied().unwrap_or(0);
            (input.arrival, input.arrival.saturating_add(i64::from(last)))
        });
        let (first, last) = each
            .chain(made)
            .reduce(|(first, last), (from, to)| (i64::min(first, from), i64::max(last, to)))?;
        Some(first..=last)
    }

    /// The report in the slice's own places; `came` are the rows, and their bytes, that really came, `cpu` what the process
    /// really used.
    pub(super) fn report(
        &self,
        report: Report,
        letters: &[u8],
        came: (u64, u64),
        cpu: Duration,
    ) -> Option<SliceReport> {
        let (emitted, _) = came;
        let letters = self.letters(report.letters, letters)?;
        let steps = self.chain.steps.len();
        let at_step = |step: &usize| *step < steps.max(1);
        let places_fit = report.transforms.len() == steps
            && report.faults.len() <= steps
            && report.faults.iter().all(|(step, _)| at_step(step))
            && report.unrunnable.iter().all(|(step, _)| at_step(step));
        let failed = letters.iter().filter(|letter| letter.offset >= 0).count() as u64;
        let verdicts = report.passed.checked_add(report.dropped)?.checked_add(failed)?;
        // One letter is one record's: whichever of its rows failed first.
        let mut seen = HashSet::new();
        let once = letters.iter().all(|letter| letter.offset < 0 || seen.insert(letter.offset));
        let counts_fit = once && report.emitted == emitted && verdicts == self.records();
        if !places_fit || report.unrunnable.is_none() && !counts_fit {
            return None;
        }
        let failures = letters.into_iter().map(|letter| {
            let step = match self.chain.steps.get(letter.step) {
                Some(step) => Some(step),
                None if letter.step == steps => None,
                None => return None,
            };
            let (input, row) = match self.parts.get(letter.input) {
                Some(part) if (letter.row as usize) < part.rows.len() => {
                    let row = part.rows.start + letter.row as usize;
                    let offset = self.slice.inputs.get(part.input)?.offset(row);
                    (i64::try_from(offset).ok()? == letter.offset).then_some(())?;
                    (part.input, u32::try_from(row).ok()?)
                }
                // A row that no record stands behind.
                _ if letter.offset == -1 => (usize::MAX, NO_INPUT),
                _ => return None,
            };
            ((letter.route as usize) < self.outputs).then_some(())?;
            Some(DeadLetter {
                input,
                row,
                offset: letter.offset,
                child: letter.child,
                transform: step.map_or_else(|| Arc::from(""), |step| Arc::clone(&step.name)),
                digest: step.map(|step| step.plugin.digest),
                route: letter.route,
                reason: cut_text(&letter.reason, REASON_BYTES_MAX),
                payload: if input == usize::MAX { letter.payload } else { Vec::new() },
            })
        });
        Some(SliceReport {
            passed: report.passed,
            dropped: report.dropped,
            emitted,
            failures: failures.collect::<Option<Vec<_>>>()?,
            transforms: self.believable(report.transforms, came, cpu),
            chunks: report.chunks.min(self.chunks() as u64),
            chunks_bisected: report.chunks_bisected.min(self.chunks() as u64),
            faults: report.faults.into_iter().map(bounded).collect(),
            unrunnable: report.unrunnable.map(bounded),
            cpu_elsewhere: cpu,
        })
    }

    fn letters(&self, count: u32, mut bytes: &[u8]) -> Option<Vec<Letter>> {
        // One a record, and some of rows that no record stands behind.
        if u64::from(count) > self.records() + FRESH_LETTERS_MAX {
            return None;
        }
        let mut letters = Vec::new();
        for _ in 0..count {
            let (letter, left) = postcard::take_from_bytes(bytes).ok()?;
            letters.push(letter);
            bytes = left;
        }
        bytes.is_empty().then_some(letters)
    }

    /// What the transforms used, within what their process did and may.
    fn believable(
        &self,
        mut transforms: Vec<TransformReport>,
        (rows, bytes): (u64, u64),
        cpu: Duration,
    ) -> Vec<TransformReport> {
        let said: f64 = transforms.iter().map(|transform| transform.cpu.as_secs_f64()).sum();
        let share = if said > cpu.as_secs_f64() { cpu.as_secs_f64() / said } else { 1.0 };
        for (transform, step) in transforms.iter_mut().zip(&self.chain.steps) {
            transform.cpu = Duration::from_secs_f64(transform.cpu.as_secs_f64() * share).min(cpu);
            transform.memory_bytes_peak = transform.memory_bytes_peak.min(step.limits.memory_bytes);
            transform.state_refused = transform.state_refused.min(self.records().max(1));
            for count in [&mut transform.records_in, &mut transform.records_out] {
                *count = (*count).min((self.rows_max() / ROW_BYTES) as u64);
            }
            for count in [&mut transform.bytes_in, &mut transform.bytes_out] {
                *count = (*count).min(self.rows_max() as u64);
            }
        }
        // What went in and what came out is known here.
        if let Some(first) = transforms.first_mut() {
            let bytes: usize = self.parts.iter().map(|part| self.bytes(part)).sum();
            (first.records_in, first.bytes_in) = (self.records(), bytes as u64);
        }
        if let Some(last) = transforms.last_mut() {
            (last.records_out, last.bytes_out) = (rows, bytes);
        }
        transforms
    }
}

fn bounded((step, fault): (usize, PluginFault)) -> (usize, PluginFault) {
    (step, fault.bounded())
}

/// Adds what a part of a slice came to.
pub(super) fn add(whole: &mut SliceReport, part: SliceReport) {
    let SliceReport {
        passed,
        dropped,
        emitted,
        failures,
        transforms,
        chunks,
        chunks_bisected,
        faults,
        unrunnable,
        cpu_elsewhere,
    } = part;
    whole.passed += passed;
    whole.dropped += dropped;
    whole.emitted += emitted;
    whole.failures.extend(failures);
    for (sum, transform) in whole.transforms.iter_mut().zip(transforms) {
        // What was sent is what the host sent: counted where it is. Letters of the whole slice are counted once it is whole.
        sum.add(TransformReport { http: HttpUse::default(), dead_letters: 0, ..transform });
    }
    whole.chunks += chunks;
    whole.chunks_bisected += chunks_bisected;
    for (step, fault) in faults {
        whole.note(step, fault);
    }
    whole.unrunnable = whole.unrunnable.take().or(unrunnable);
    whole.cpu_elsewhere += cpu_elsewhere;
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use wasmill_chunk::{ColumnRef, Input};

    use super::super::messages::Letter;
    use super::super::wire::{put_i64s, put_u32s};
    use super::*;
    use crate::chain::ChainOptions;
    use crate::engine::{Engine, EngineOptions};
    use crate::fault::PluginFault;
    use crate::log::NullLog;

    static CHAIN: LazyLock<Arc<Chain>> = LazyLock::new(|| {
        let engine = Engine::new(EngineOptions { pooling: false, ..EngineOptions::default() }).unwrap();
        Chain::build(&engine, Vec::new(), &[], ChainOptions::default(), Arc::new(NullLog)).unwrap()
    });

    /// Asks about records 100 and 101 of three, in a chain without transforms and a stream with two outputs.
    fn asked<T>(check: impl FnOnce(&Asked<'_>) -> T) -> T {
        let payloads = ColumnRef { data: b"abc", ends: &[1, 2, 3] };
        let input =
            Input { arrival: 50, arrival_deltas: Some(&[0, 3, 9]), ..Input::of_payloads(99, payloads) };
        let slice = Slice { id: 99, stream_seed: 0, inputs: &[input] };
        let parts = [Part { input: 0, rows: 1..3 }];
        check(&Asked { chain: &CHAIN, slice: &slice, parts: &parts, outputs: 2, clock: None })
    }

    /// One row, of these numbers.
    fn rows(ends: u32, offset: i64, arrival: i64, route: u32, partition: u32) -> bool {
        let mut body = b"row".to_vec();
        put_u32s(&mut body, [ends]);
        put_i64s(&mut body, [offset]);
        put_u32s(&mut body, [0]);
        put_i64s(&mut body, [arrival]);
        put_u32s(&mut body, [route, partition]);
        // One partition without values.
        put_u32s(&mut body, [1]);
        body.push(0);
        let head = || RowsHead { rows: 1, payload_bytes: 3, partitions: 1 };
        let cut = body[..body.len() - 1].to_vec();
        let longer = [body.as_slice(), b"x"].concat();
        asked(|asked| {
            assert!(Rows::read(head(), cut, asked).is_none());
            assert!(Rows::read(head(), longer, asked).is_none());
            assert!(Rows::read(RowsHead { rows: 2, ..head() }, body.clone(), asked).is_none());
            assert!(Rows::read(RowsHead { partitions: 2, ..head() }, body.clone(), asked).is_none());
            assert!(Rows::read(RowsHead { partitions: u32::MAX, ..head() }, body.clone(), asked).is_none());
            assert!(Rows::read(RowsHead { payload_bytes: 900, ..head() }, body.clone(), asked).is_none());
            Rows::read(head(), body, asked).is_some()
        })
    }

    #[test]
    fn rows_are_believed_only_where_they_can_be_of_what_was_sent() {
        assert!(rows(3, 100, 53, 1, 0));
        assert!(rows(3, -1, 59, 0, 0));
        for (ends, offset, arrival, route, partition) in [
            (2, 100, 53, 1, 0),
            (4, 100, 53, 1, 0),
            (3, 99, 53, 1, 0),
            (3, 102, 53, 1, 0),
            (3, -2, 53, 1, 0),
            (3, 100, 49, 1, 0),
            (3, 100, 60, 1, 0),
            (3, 100, 53, 2, 0),
            (3, 100, 53, 1, 1),
        ] {
            assert!(
                !rows(ends, offset, arrival, route, partition),
                "{ends} {offset} {arrival} {route} {partition}"
            );
        }
    }

    #[test]
    fn offsets_that_are_told_one_by_one_are_believed_only_where_they_were_sent() {
        let payloads = ColumnRef { data: b"abc", ends: &[1, 2, 3] };
        let input = Input { arrival: 50, offsets: Some(&[7, 9, 30]), ..Input::of_payloads(7, payloads) };
        let slice = Slice { id: 7, stream_seed: 0, inputs: &[input] };
        let parts = [Part { input: 0, rows: 1..3 }];
        let asked = Asked { chain: &CHAIN, slice: &slice, parts: &parts, outputs: 2, clock: None };
        let was_sent = asked.was_sent();
        assert_eq!((0..40).filter(|offset| was_sent(*offset)).collect::<Vec<i64>>(), [9, 30]);
        let told = |offset| {
            let (report, letters) = report(1, 0, &[(0, 1, offset)]);
            asked.report(report, &letters, (1, 0), Duration::from_secs(1)).is_some()
        };
        assert!(told(30) && !told(10) && !told(9));
    }

    fn report(passed: u64, dropped: u64, letters: &[(usize, u32, i64)]) -> (Report, Vec<u8>) {
        let letter = |&(input, row, offset): &(usize, u32, i64)| Letter {
            input,
            row,
            offset,
            child: 0,
            step: 0,
            route: 0,
            reason: "r".repeat(5000),
            payload: b"of a record it is not believed".to_vec(),
        };
        let bytes: Vec<Vec<u8>> =
            letters.iter().map(|numbers| postcard::to_stdvec(&letter(numbers)).unwrap()).collect();
        let report = Report {
            passed,
            dropped,
            emitted: passed,
            letters: u32::try_from(letters.len()).unwrap(),
            letter_bytes: u32::try_from(bytes.concat().len()).unwrap(),
            owed: false,
            transforms: Vec::new(),
            chunks: 1,
            chunks_bisected: 0,
            faults: Vec::new(),
            unrunnable: None,
        };
        (report, bytes.concat())
    }

    fn read((report, letters): (Report, Vec<u8>), emitted: u64) -> Option<SliceReport> {
        asked(|asked| asked.report(report, &letters, (emitted, 0), Duration::from_secs(1)))
    }

    #[test]
    fn report_is_believed_only_if_every_record_has_one_verdict() {
        assert!(read(report(2, 0, &[]), 2).is_some());
        assert!(read(report(1, 1, &[]), 1).is_some());
        let whole = read(report(1, 0, &[(0, 1, 101)]), 1).unwrap();
        let letter = &whole.failures[0];
        assert_eq!((letter.input, letter.row, letter.reason.len()), (0, 2, REASON_BYTES_MAX));
        for (report, emitted) in [
            (report(2, 0, &[]), 1),
            (report(1, 0, &[]), 1),
            (report(2, 1, &[]), 2),
            (report(u64::MAX, 3, &[]), u64::MAX),
            (report(1, 0, &[(0, 1, 100)]), 1),
            (report(1, 0, &[(0, 2, 102)]), 1),
            (report(1, 0, &[(1, 0, 100)]), 1),
        ] {
            let told = format!("{} {} {}", report.0.passed, report.0.dropped, report.0.letters);
            assert!(read(report, emitted).is_none(), "{told}");
        }
        let changed = |change: fn(&mut Report)| {
            let (mut report, letters) = report(1, 0, &[(0, 1, 101)]);
            change(&mut report);
            read((report, letters), 1).is_none()
        };
        assert!(!changed(|_| ()));
        assert!(changed(|report| report.faults.push((1, PluginFault::Returned { message: String::new() }))));
        assert!(changed(|report| report.transforms.push(TransformReport::default())));
        assert!(changed(|report| report.letters = 0) && changed(|report| report.letters = 2));
        assert!(changed(|report| report.letters = u32::MAX));
    }

    #[test]
    fn report_with_one_verdict_too_many_for_a_record_is_not_believed() {
        assert!(read(report(0, 0, &[(0, 0, 100), (0, 1, 101)]), 0).is_some());
        assert!(read(report(0, 0, &[(0, 0, 100), (0, 0, 100)]), 0).is_none());
    }
}
