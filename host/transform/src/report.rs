//! What goes into a run of a slice and what comes out of it, as plain data.

use std::time::Duration;

use wasmill_chunk::Input;

use crate::fault::PluginFault;
use crate::http::HttpUse;
use crate::plugin::Digest;
use crate::step::Step;

/// Consecutive records of a stream, or those of them that one strand has, taken through the chain together.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    /// The offset of its first record, whichever strand that is in.
    pub id: u64,
    /// Drawn once per stream; together with the slice's id, the transform and the first offset it seeds guests.
    pub stream_seed: u64,
    /// Usually one per durable frame, of a strand those rows of it that it has; they are cut into chunks here.
    pub inputs: &'a [Input<'a>],
}

impl Slice<'_> {
    /// Bytes of one of its records.
    pub(crate) fn bytes_of(&self, input: usize, row: usize) -> u64 {
        let payloads = self.inputs.get(input).map(|input| input.payloads);
        payloads
            .filter(|payloads| row < payloads.ends.len())
            .map_or(0, |payloads| payloads.range(row).len() as u64)
    }
}

/// A record that could not be transformed. Its original bytes are `slice.inputs[input].payloads` at `row`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Index into `Slice::inputs`.
    pub input: usize,
    /// Row of that input.
    pub row: u32,
    pub offset: i64,
    pub child: u32,
    /// The transform's name in the stream; empty when the record failed after the last one.
    pub transform: std::sync::Arc<str>,
    pub digest: Option<Digest>,
    /// The number of the output that the row was on its way to.
    pub route: u32,
    /// At most 1 KiB.
    pub reason: String,
    /// The bytes of a row that no record stands behind; else empty.
    pub payload: Vec<u8>,
}

/// One transform's part in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TransformReport {
    pub calls: u64,
    /// CPU time of the calls, including host functions that they called.
    pub cpu: Duration,
    /// Fuel of the calls, where the engine counts it.
    pub fuel: u64,
    /// Largest linear memory of any instance so far.
    pub memory_bytes_peak: u64,
    pub traps: u64,
    /// Fresh instances made.
    pub instances: u64,
    /// What it sent.
    pub http: HttpUse,
    /// Rows that went into it, and came out of it; and bytes of their texts.
    pub records_in: u64,
    pub bytes_in: u64,
    pub records_out: u64,
    pub bytes_out: u64,
    /// Records, and rows that no record stands behind, that failed in it.
    pub dead_letters: u64,
    /// Records that failed because the tenant's quota of state had no room; and tellings of a watermark.
    pub state_refused: u64,
}

impl TransformReport {
    /// Adds its part in another run.
    pub fn add(&mut self, more: TransformReport) {
        let TransformReport {
            calls,
            cpu,
            fuel,
            memory_bytes_peak,
            traps,
            instances,
            http,
            records_in,
            bytes_in,
            records_out,
            bytes_out,
            dead_letters,
            state_refused,
        } = more;
        self.cpu = self.cpu.saturating_add(cpu);
        self.memory_bytes_peak = self.memory_bytes_peak.max(memory_bytes_peak);
        self.http.add(http);
        for (sum, more) in [
            (&mut self.calls, calls),
            (&mut self.fuel, fuel),
            (&mut self.traps, traps),
            (&mut self.instances, instances),
            (&mut self.records_in, records_in),
            (&mut self.bytes_in, bytes_in),
            (&mut self.records_out, records_out),
            (&mut self.bytes_out, bytes_out),
            (&mut self.dead_letters, dead_letters),
            (&mut self.state_refused, state_refused),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// What became of a slice. `passed + dropped + failures = records in`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceReport {
    pub passed: u64,
    pub dropped: u64,
    /// Rows handed to the sink.
    pub emitted: u64,
    pub failures: Vec<DeadLetter>,
    /// By position in the chain.
    pub transforms: Vec<TransformReport>,
    pub chunks: u64,
    /// Chunks that had to be bisected.
    pub chunks_bisected: u64,
    /// The first fault of each transform (its place in the chain) in this slice, for the log.
    pub faults: Vec<(usize, PluginFault)>,
    /// The transform at this place could not be started, or the host could not run it: the slice has no outcome. The
    /// caller throws away what the sink got and runs the slice again later, or pauses the stream.
    pub unrunnable: Option<(usize, PluginFault)>,
    /// CPU time that was used in another process, by the kernel's account; the calling thread's own does not have it.
    pub cpu_elsewhere: Duration,
}

impl SliceReport {
    /// Once all failures are there: in which transform each was.
    pub(crate) fn count_letters(&mut self, steps: &[Step]) {
        for failure in &self.failures {
            let place = steps.iter().position(|step| *step.name == *failure.transform);
            if let Some(transform) = place.and_then(|place| self.transforms.get_mut(place)) {
                transform.dead_letters += 1;
            }
        }
    }

    /// Time for which guests waited for answers.
    pub(crate) fn waited(&self) -> Duration {
        self.transforms.iter().map(|transform| transform.http.waited).sum()
    }

    /// Keeps the first fault of each transform, for the log.
    pub(crate) fn note(&mut self, step: usize, fault: PluginFault) {
        if self.faults.iter().all(|(known, _)| *known != step) {
            self.faults.push((step, fault));
        }
    }
}
