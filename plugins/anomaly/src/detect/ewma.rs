//! The control chart of exponentially weighted moving averages (Roberts: "Control chart tests based on geometric moving
//! averages", Technometrics 1, 1959), with limits at `L` standard deviations of the average as in Lucas and Saccucci
//! ("Exponentially weighted moving average control schemes", Technometrics 32, 1990).
//!
//! `z = lambda x + (1 - lambda) z`; its deviation is `sigma sqrt(lambda / (2 - lambda))`, and the score is how many of
//! these `z` is from the mean. Small `lambda` finds small lasting shifts, `lambda = 1` is Shewhart's chart. Mean and
//! sigma come from the config, or from the first values, and with `adapt` follow slowly while all is in control.

use serde::{Deserialize, Serialize};

use super::Spread;

/// What is charted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chart {
    /// Weight of the newest value, above 0 to 1.
    pub lambda: f64,
    /// Values from which mean and deviation are taken before anything is judged; 0 where both are given.
    pub warmup: u64,
    /// Mean and deviation where they are known.
    pub known: Option<(f64, f64)>,
    /// Weight of the newest value in mean and deviation after that; 0 = they stay.
    pub adapt: f64,
    /// The deviation is taken to be at least this.
    pub floor: f64,
}

/// The chart so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ewma {
    seen: Spread,
    average: Option<f64>,
}

impl Ewma {
    /// Takes a value. Score and what was expected; `None` while warming up. `limit`: the score past which the value
    /// is out of control and changes neither mean nor deviation.
    pub fn take(&mut self, value: f64, chart: &Chart, limit: f64) -> Option<(f64, f64)> {
        if chart.known.is_none() && self.seen.count < chart.warmup {
            self.seen.add(value);
            return None;
        }
        let (mean, deviation) = chart.known.unwrap_or((self.seen.mean, self.seen.deviation()));
        let deviation = deviation.max(chart.floor);
        let average = chart.lambda * value + (1.0 - chart.lambda) * self.average.unwrap_or(mean);
        self.average = Some(average);
        let score = super::ratio(average - mean, deviation * (chart.lambda / (2.0 - chart.lambda)).sqrt());
        if chart.known.is_none() && chart.adapt > 0.0 && score.abs() <= limit {
            self.seen.follow(value, chart.adapt);
        }
        Some((score, mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::Normal;

    /// Records until the first alarm, on average, when the mean has moved by `shift` deviations.
    fn run_length(lambda: f64, limit: f64, shift: f64, runs: u32) -> f64 {
        let chart = Chart { lambda, warmup: 0, known: Some((0.0, 1.0)), adapt: 0.0, floor: 0.0 };
        let mut normal = Normal::new(7);
        let mut records = 0_u64;
        for _ in 0..runs {
            let mut ewma = Ewma::default();
            loop {
                records += 1;
                let (score, _) = ewma.take(normal.next() + shift, &chart, limit).unwrap();
                if score.abs() > limit {
                    break;
                }
            }
        }
        records as f64 / f64::from(runs)
    }

    /// Lucas and Saccucci, table 3 (also Montgomery, "Introduction to statistical quality control", table 9.11): average
    /// run lengths of charts that give a false alarm in 500 records.
    #[test]
    fn run_lengths_are_the_published_ones() {
        for (lambda, limit, shifts) in [
            (0.4, 3.054, [(0.0, 500.0), (0.5, 71.2), (1.0, 14.3), (2.0, 3.5)]),
            (0.2, 2.962, [(0.0, 500.0), (0.5, 41.8), (1.0, 10.5), (2.0, 3.7)]),
            (0.1, 2.814, [(0.0, 500.0), (0.5, 31.3), (1.0, 10.3), (2.0, 4.4)]),
        ] {
            for (shift, published) in shifts {
                let runs = if shift == 0.0 { 3000 } else { 6000 };
                let found = run_length(lambda, limit, shift, runs);
                // The mean of n run lengths, which are nearly geometric, is off by 1 / sqrt(n) of itself.
                let off = (found / published - 1.0).abs();
                assert!(off < 0.06, "lambda {lambda}, shift {shift}: {found}, published is {published}");
            }
        }
    }

    #[test]
    fn values_out_of_control_do_not_change_what_is_normal() {
        let chart = Chart { lambda: 1.0, warmup: 100, known: None, adapt: 0.1, floor: 0.0 };
        let (mut ewma, mut normal) = (Ewma::default(), Normal::new(1));
        for _ in 0..200 {
            let _ = ewma.take(normal.next(), &chart, 4.0);
        }
        let before = ewma.seen.clone();
        assert!(ewma.take(50.0, &chart, 4.0).unwrap().0 > 4.0);
        assert_eq!(ewma.seen, before);
        let _ = ewma.take(0.1, &chart, 4.0);
        assert_ne!(ewma.seen, before);
    }

    #[test]
    fn nothing_is_judged_while_warming_up() {
        let chart = Chart { lambda: 0.2, warmup: 3, known: None, adapt: 0.0, floor: 1.0 };
        let mut ewma = Ewma::default();
        let judged: Vec<bool> = (0..5).map(|_| ewma.take(1.0, &chart, 3.0).is_some()).collect();
        assert_eq!(judged, [false, false, false, true, true]);
    }
}
