//! What of a stream was counted already. The mark stands in the stream's own statistics: whoever counts them, however
//! often and in whatever order, each thing counts once.

use std::sync::{Mutex, PoisonError};

use super::super::stats::{StreamStats, TransformStats};
use super::row::{Counts, Of, Rows};

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<Marks>);

#[derive(Debug, Default)]
struct Marks {
    counts: Counts,
    transforms: Vec<Counts>,
}

fn counts_of(stats: &StreamStats) -> Counts {
    let outputs = &stats.outputs;
    Counts {
        records_in: stats.records_in.get(),
        bytes_in: stats.bytes_in.get(),
        records_out: outputs.iter().map(|output| output.delivered.get()).sum(),
        bytes_out: outputs.iter().map(|output| output.bytes.get()).sum(),
        dead_letters: stats.dead_letters.get(),
        buffered_bytes_max: stats.buffered_bytes.get(),
        ..Counts::default()
    }
}

fn counts_of_transform(transform: &TransformStats) -> Counts {
    Counts {
        records_in: transform.records_in,
        bytes_in: transform.bytes_in,
        records_out: transform.records_out,
        bytes_out: transform.bytes_out,
        dead_letters: transform.dead_letters,
        calls: transform.calls,
        cpu_ns: transform.cpu_ns,
        traps: transform.traps,
        memory_bytes_max: transform.memory_bytes_peak,
        ..Counts::default()
    }
}

/// What was counted since `before`; what is no sum stands as it is.
pub(super) fn since(now: &Counts, before: &Counts) -> Counts {
    Counts {
        records_in: now.records_in.saturating_sub(before.records_in),
        bytes_in: now.bytes_in.saturating_sub(before.bytes_in),
        records_out: now.records_out.saturating_sub(before.records_out),
        bytes_out: now.bytes_out.saturating_sub(before.bytes_out),
        dead_letters: now.dead_letters.saturating_sub(before.dead_letters),
        calls: now.calls.saturating_sub(before.calls),
        cpu_ns: now.cpu_ns.saturating_sub(before.cpu_ns),
        traps: now.traps.saturating_sub(before.traps),
        worker_cpu_ns: now.worker_cpu_ns.saturating_sub(before.worker_cpu_ns),
        compile_cpu_ns: now.compile_cpu_ns.saturating_sub(before.compile_cpu_ns),
        memory_bytes_max: now.memory_bytes_max,
        buffered_bytes_max: now.buffered_bytes_max,
    }
}

/// Adds what a stream has counted since the last time.
pub(super) fn count(stats: &StreamStats, minute: u64, rows: &mut Rows) {
    let mut marks = stats.counted.0.lock().unwrap_or_else(PoisonError::into_inner);
    let of = Of { stream: stats.name.clone(), ..Of::default() };
    let counts = counts_of(stats);
    let new = since(&counts, &marks.counts);
    // What waits is of interest where nothing else happens, too.
    if new != Counts::default() {
        rows.add(minute, of.clone(), &new);
    }
    marks.counts = counts;
    let transforms = stats.with_transforms(|transforms| transforms.clone());
    marks.transforms.resize(transforms.len(), Counts::default());
    for (transform, before) in transforms.iter().zip(&mut marks.transforms) {
        let counts = counts_of_transform(transform);
        let new = since(&counts, before);
        // The most memory that there was is no news.
        if new != (Counts { memory_bytes_max: new.memory_bytes_max, ..Counts::default() }) {
            let of = Of { transform: transform.name.clone(), plugin: transform.plugin.clone(), ..of.clone() };
            rows.add(minute, of, &new);
        }
        *before = counts;
    }
}
