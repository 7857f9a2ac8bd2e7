//! CPU time of this thread, interleaved runs, medians and spreads.
//!
//! Owns no workload. Refuses wall-clock time: the machine is shared.

use std::time::Duration;

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Something that can be run again and again.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    /// Input records and bytes of one run.
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) run: Box<dyn FnMut() -> Result<()>>,
}

/// CPU seconds per run of one variant, one sample per round.
#[derive(Clone, Debug)]
pub(crate) struct Samples(Vec<f64>);

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Warms every variant up, then measures them in turn, `rounds` times, for about `span` of CPU time each.
pub(crate) fn interleaved(variants: &mut [Variant], rounds: usize, span: Duration) -> Result<Vec<Samples>> {
    let mut samples = vec![Samples(Vec::new()); variants.len()];
    for variant in variants.iter_mut() {
        measure(variant, span / 4)?;
    }
    for _ in 0..rounds {
        for (variant, samples) in variants.iter_mut().zip(&mut samples) {
            samples.0.push(measure(variant, span)?);
        }
    }
    Ok(samples)
}

fn measure(variant: &mut Variant, span: Duration) -> Result<f64> {
    let start = thread_cpu();
    let mut runs = 0u32;
    loop {
        (variant.run)()?;
        runs += 1;
        let spent = thread_cpu().saturating_sub(start);
        if spent >= span {
            return Ok(spent.as_secs_f64() / f64::from(runs));
        }
    }
}

impl Samples {
    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Samples {
        Samples(self.0.iter().map(|&sample| f(sample)).collect())
    }

    /// Sample by sample, so that what slows both down at the same time cancels out.
    pub(crate) fn over(&self, other: &Samples) -> Samples {
        Samples(self.0.iter().zip(&other.0).map(|(above, below)| above / below).collect())
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            len if len % 2 == 1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        }
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    pub(crate) fn figure(&self) -> Value {
        json!({ "median": self.median(), "least": self.least(), "most": self.most() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts_is_the_middle() {
        assert_eq!(Samples(vec![3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Samples(vec![4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(Samples(vec![4.0, 1.0, 9.0]).over(&Samples(vec![2.0, 1.0, 3.0])).median(), 2.0);
    }
}
