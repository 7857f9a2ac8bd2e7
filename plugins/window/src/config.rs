//! The config: windows, keys, aggregates, and when results are given.

use std::collections::BTreeMap;

use serde::Deserialize;
use wasmill_keyed::{Fate, Span, TimeFormat};
use wasmill_sdk::path::Path;

use crate::aggregate::Aggregate;
use crate::shape::Shape;

/// Most aggregates of a transform.
pub const AGGREGATES_MAX: usize = 64;
/// Most windows that a record belongs to.
pub const WINDOWS_MAX: i64 = 256;
/// Most quantiles of one aggregate.
const PERCENTAGES_MAX: usize = 64;
/// Most counters of `approx_top_k`.
const COUNTERS_MAX: usize = 1000;

/// The transform's config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The windows.
    pub window: WindowConfig,
    /// The field with the event time; none = that of the stream, or of arrival.
    pub time: Option<Path>,
    /// How it stands there.
    #[serde(default)]
    pub time_format: TimeFormat,
    /// The fields that make up the key; none = one key.
    #[serde(default)]
    pub by: Vec<Path>,
    /// What is computed: field of the result -> aggregate.
    pub aggregates: BTreeMap<String, AggregateConfig>,
    /// How much later than newer ones records may come.
    #[serde(default)]
    pub delay: Span,
    /// How long after its end a window takes late records.
    #[serde(default)]
    pub lateness: Span,
    /// When results are given.
    #[serde(default)]
    pub emit: Emit,
    /// Results before the end.
    pub early: Option<Early>,
    /// What happens to late records.
    #[serde(default)]
    pub late: Fate,
    /// The output of late records that are kept.
    pub late_output: Option<String>,
    /// Records that are further ahead of their arrival fail.
    pub ahead: Option<Span>,
    /// Whether records pass too.
    #[serde(default)]
    pub pass: bool,
    /// The field of the result with the window's start.
    #[serde(default = "start_field")]
    pub start: Path,
    /// The field of the result with the window's end.
    #[serde(default = "end_field")]
    pub end: Path,
    /// The field of the result that says why it is given; none = it does not say.
    pub timing: Option<Path>,
}

fn start_field() -> Path {
    Path(vec!["window_start".to_owned()])
}

fn end_field() -> Path {
    Path(vec!["window_end".to_owned()])
}

/// The windows.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum WindowConfig {
    /// One after the other.
    Tumbling {
        /// Their length.
        size: Span,
        /// Moves their beginnings.
        #[serde(default)]
        offset: Span,
    },
    /// Overlapping (hopping).
    Sliding {
        /// Their length.
        size: Span,
        /// From one beginning to the next.
        slide: Span,
        /// Moves their beginnings.
        #[serde(default)]
        offset: Span,
    },
    /// As long as records come.
    Session {
        /// How long none comes at its end.
        gap: Span,
    },
}

/// When results are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Emit {
    /// At the window's end, and again for late records.
    #[default]
    Close,
    /// After each chunk, for the windows that it changed.
    Update,
}

/// Results before the end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Early {
    /// Whenever event time passes a multiple of this.
    pub every: Option<Span>,
    /// After so many records of a window.
    pub records: Option<u64>,
}

/// One aggregate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateConfig {
    /// Which.
    pub op: Op,
    /// The field with the values; `count` may have none.
    pub field: Option<Path>,
    /// For `approx_percentile`: a number from 0 to 1, or a list of them.
    pub percentage: Option<Percentage>,
    /// For `approx_percentile`: the relative error.
    pub error: Option<f64>,
    /// For `approx_top_k`: how many.
    pub k: Option<usize>,
    /// For `approx_top_k`: counters that are kept.
    pub counters: Option<usize>,
}

/// The aggregates by their names in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Rows, or values of the field.
    Count,
    /// Sum.
    Sum,
    /// Smallest.
    Min,
    /// Largest.
    Max,
    /// Mean.
    #[serde(alias = "mean")]
    Avg,
    /// Variance of a sample.
    #[serde(alias = "variance")]
    VarSamp,
    /// Variance of all.
    VarPop,
    /// Standard deviation of a sample.
    #[serde(alias = "stddev")]
    StddevSamp,
    /// Standard deviation of all.
    StddevPop,
    /// Value of the earliest record.
    First,
    /// Value of the latest record.
    Last,
    /// Quantiles.
    ApproxPercentile,
    /// Different values.
    ApproxCountDistinct,
    /// Most frequent values.
    ApproxTopK,
}

/// One quantile or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Percentage {
    /// The result is a number.
    One(f64),
    /// The result is a list.
    List(Vec<f64>),
}

impl WindowConfig {
    /// The shape, if the numbers make one.
    pub fn shape(&self) -> Result<Shape, String> {
        let (size, slide, offset) = match self {
            Self::Session { gap } if gap.is_zero() => return Err("config: `gap` must not be 0".to_owned()),
            Self::Session { gap } => return Ok(Shape::Session { gap: gap.ns() }),
            Self::Tumbling { size, offset } => (size.ns(), size.ns(), offset.ns()),
            Self::Sliding { size, slide, offset } => (size.ns(), slide.ns(), offset.ns()),
        };
        if size == 0 || slide == 0 {
            return Err("config: `size` and `slide` must not be 0".to_owned());
        }
        if slide > size {
            return Err(
                "config: `slide` is longer than `size`, so that records would be in no window".to_owned()
            );
        }
        if (size - 1) / slide >= WINDOWS_MAX {
            return Err(format!(
                "config: a record would be in more than {WINDOWS_MAX} windows; make `slide` longer"
            ));
        }
        Ok(Shape::Aligned { size, slide, offset })
    }
}

impl AggregateConfig {
    /// The aggregate, if it has what it needs and nothing else.
    pub fn aggregate(&self) -> Result<Aggregate, String> {
        let percentile = self.op == Op::ApproxPercentile;
        if !percentile && (self.percentage.is_some() || self.error.is_some()) {
            return Err("`percentage` and `error` are of `approx_percentile`".to_owned());
        }
        if self.op != Op::ApproxTopK && (self.k.is_some() || self.counters.is_some()) {
            return Err("`k` and `counters` are of `approx_top_k`".to_owned());
        }
        if self.field.is_none() && self.op != Op::Count {
            return Err("it needs a `field`".to_owned());
        }
        let variance = |sample, root| Aggregate::Variance { sample, root };
        Ok(match self.op {
            Op::Count => Aggregate::Count,
            Op::Sum => Aggregate::Sum,
            Op::Min => Aggregate::Min,
            Op::Max => Aggregate::Max,
            Op::Avg => Aggregate::Avg,
            Op::VarSamp => variance(true, false),
            Op::VarPop => variance(false, false),
            Op::StddevSamp => variance(true, true),
            Op::StddevPop => variance(false, true),
            Op::First => Aggregate::First,
            Op::Last => Aggregate::Last,
            Op::ApproxPercentile => self.percentile()?,
            Op::ApproxCountDistinct => Aggregate::ApproxCountDistinct,
            Op::ApproxTopK => self.top()?,
        })
    }

    fn percentile(&self) -> Result<Aggregate, String> {
        let (percentages, list) = match &self.percentage {
            None => return Err("it needs a `percentage`".to_owned()),
            Some(Percentage::One(one)) => (vec![*one], false),
            Some(Percentage::List(list)) => (list.clone(), true),
        };
        if percentages.is_empty() || percentages.len() > PERCENTAGES_MAX {
            return Err(format!("`percentage` needs 1 to {PERCENTAGES_MAX} numbers"));
        }
        if let Some(wrong) = percentages.iter().find(|q| !(0.0..=1.0).contains(*q)) {
            return Err(format!("`percentage` {wrong} is not from 0 to 1"));
        }
        let error = self.error.unwrap_or(0.01);
        if !(0.000_1..=0.5).contains(&error) {
            return Err(format!("`error` {error} is not from 0.0001 to 0.5"));
        }
        Ok(Aggregate::ApproxPercentile { percentages, list, error })
    }

    fn top(&self) -> Result<Aggregate, String> {
        let k = self.k.unwrap_or(5);
        let counters = self.counters.unwrap_or(k.saturating_mul(20).max(100));
        if k == 0 || counters < k || counters > COUNTERS_MAX {
            return Err(format!("`k` must be 1 or more, `counters` from `k` to {COUNTERS_MAX}"));
        }
        Ok(Aggregate::ApproxTopK { k, counters })
    }
}
