//! The config: keys, detectors, and what is written.

use std::collections::BTreeMap;

use serde::Deserialize;
use wasmill_keyed::{Span, TimeFormat};
use wasmill_sdk::path::Path;

use crate::alarm::{Direction, Rule};
use crate::detect::Method;
use crate::detect::ewma::Chart;
use crate::detect::forest::{DEPTH_MAX, Measures};
use crate::detect::robust::WINDOW_MAX;
use crate::detect::seasonal::{Baseline, Season};

/// Most detectors of a transform.
pub const DETECTORS_MAX: usize = 16;
/// Most fields of a forest.
const FIELDS_MAX: usize = 64;
/// Most trees of a forest.
const TREES_MAX: u32 = 200;
/// Most values (records times fields) of a forest's window.
const VALUES_MAX: usize = 65_536;

/// The transform's config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The fields that make up the key; none = one key.
    #[serde(default)]
    pub by: Vec<Path>,
    /// The field with the event time; none = the time of arrival.
    pub time: Option<Path>,
    /// How it stands there.
    pub time_format: Option<TimeFormat>,
    /// The detectors by name.
    pub detectors: BTreeMap<String, DetectorConfig>,
    /// The object that gets what they say.
    #[serde(default = "into")]
    pub into: Path,
    /// Which records pass.
    #[serde(default)]
    pub pass: Pass,
}

fn into() -> Path {
    Path(vec!["anomaly".to_owned()])
}

/// Which records pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// All.
    #[default]
    All,
    /// Those with an alarm.
    Alarms,
    /// Those with which an alarm begins.
    Starts,
}

/// What repeats.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeasonName {
    /// Hours of a day.
    HourOfDay,
    /// Hours of a week.
    HourOfWeek,
    /// Days of a week.
    DayOfWeek,
}

/// One detector.
#[derive(Debug, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
pub enum DetectorConfig {
    /// Chart of exponentially weighted averages.
    Ewma {
        /// The field.
        field: Path,
        /// Weight of the newest value.
        #[serde(default = "Defaults::lambda")]
        lambda: f64,
        /// Values before anything is judged.
        #[serde(default = "Defaults::hundred")]
        warmup: u64,
        /// The mean, where it is known.
        mean: Option<f64>,
        /// The deviation, where it is known.
        deviation: Option<f64>,
        /// Weight of the newest value in mean and deviation.
        #[serde(default)]
        adapt: f64,
        /// Least deviation.
        #[serde(default)]
        floor: f64,
        /// Past which score a value is an anomaly.
        #[serde(default = "Defaults::three")]
        limit: f64,
        /// On which side.
        #[serde(default)]
        direction: Direction,
        /// So many in a row are an alarm.
        #[serde(default = "Defaults::one")]
        records: u64,
        /// Time without alarm after which the next is a new one.
        #[serde(default)]
        quiet: Span,
    },
    /// Modified z-score.
    Robust {
        /// The field.
        field: Path,
        /// Values that are compared with.
        #[serde(default = "Defaults::robust_window")]
        window: usize,
        /// Values before anything is judged; by default a tenth of the window, at least 10.
        warmup: Option<usize>,
        /// Least MAD.
        #[serde(default)]
        floor: f64,
        /// Past which score a value is an anomaly.
        #[serde(default = "Defaults::robust_limit")]
        limit: f64,
        /// On which side.
        #[serde(default)]
        direction: Direction,
        /// So many in a row are an alarm.
        #[serde(default = "Defaults::one")]
        records: u64,
        /// Time without alarm after which the next is a new one.
        #[serde(default)]
        quiet: Span,
    },
    /// Baseline by season.
    Seasonal {
        /// The field.
        field: Path,
        /// What repeats.
        #[serde(default = "Defaults::season")]
        season: SeasonName,
        /// Hours east of UTC; parts of an hour too.
        #[serde(default)]
        utc_offset: f64,
        /// Weight of the newest value.
        #[serde(default = "Defaults::alpha")]
        alpha: f64,
        /// Values of a season before it judges.
        #[serde(default = "Defaults::ten")]
        warmup: u64,
        /// Least deviation.
        #[serde(default)]
        floor: f64,
        /// Past which score a value is an anomaly.
        #[serde(default = "Defaults::four")]
        limit: f64,
        /// On which side.
        #[serde(default)]
        direction: Direction,
        /// So many in a row are an alarm.
        #[serde(default = "Defaults::one")]
        records: u64,
        /// Time without alarm after which the next is a new one.
        #[serde(default)]
        quiet: Span,
    },
    /// Half-space trees.
    Forest {
        /// The fields.
        fields: Vec<Path>,
        /// Trees.
        #[serde(default = "Defaults::trees")]
        trees: u32,
        /// Depth of a tree.
        #[serde(default = "Defaults::depth")]
        depth: u32,
        /// Records of a window.
        #[serde(default = "Defaults::forest_window")]
        window: usize,
        /// Past which score a record is an anomaly.
        #[serde(default = "Defaults::four")]
        limit: f64,
        /// So many in a row are an alarm.
        #[serde(default = "Defaults::one")]
        records: u64,
        /// Time without alarm after which the next is a new one.
        #[serde(default)]
        quiet: Span,
    },
}

/// Values of keys that are left out.
struct Defaults;

impl Defaults {
    fn lambda() -> f64 {
        0.2
    }
    fn alpha() -> f64 {
        0.1
    }
    fn three() -> f64 {
        3.0
    }
    fn four() -> f64 {
        4.0
    }
    fn robust_limit() -> f64 {
        3.5
    }
    fn one() -> u64 {
        1
    }
    fn ten() -> u64 {
        10
    }
    fn hundred() -> u64 {
        100
    }
    fn robust_window() -> usize {
        100
    }
    fn forest_window() -> usize {
        250
    }
    fn trees() -> u32 {
        25
    }
    fn depth() -> u32 {
        15
    }
    fn season() -> SeasonName {
        SeasonName::HourOfDay
    }
}

fn weight(name: &str, value: f64, with_one: bool) -> Result<(), String> {
    if value > 0.0 && (value < 1.0 || with_one && value <= 1.0) {
        return Ok(());
    }
    let most = if with_one { "at most" } else { "below" };
    Err(format!("`{name}` {value} is not above 0 and {most} 1"))
}

fn within<T: PartialOrd + std::fmt::Display>(name: &str, value: T, low: T, high: T) -> Result<(), String> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(format!("`{name}` {value} is not from {low} to {high}"))
}

impl DetectorConfig {
    /// The fields that it reads.
    #[must_use]
    pub fn fields(&self) -> &[Path] {
        match self {
            Self::Ewma { field, .. } | Self::Robust { field, .. } | Self::Seasonal { field, .. } => {
                std::slice::from_ref(field)
            }
            Self::Forest { fields, .. } => fields,
        }
    }

    /// How it judges and when that is an alarm, if the numbers make sense.
    pub fn detector(&self) -> Result<(Method, Rule), String> {
        let rule = self.rule();
        within("limit", rule.limit, f64::MIN_POSITIVE, f64::MAX)?;
        within("records", rule.records, 1, 1_000_000)?;
        let method = match self {
            Self::Ewma { lambda, warmup, mean, deviation, adapt, floor, .. } => {
                weight("lambda", *lambda, true)?;
                within("floor", *floor, 0.0, f64::MAX)?;
                within("adapt", *adapt, 0.0, 0.5)?;
                let known = match (mean, deviation) {
                    (Some(mean), Some(deviation)) if *deviation > 0.0 => Some((*mean, *deviation)),
                    (None, None) => None,
                    _ => {
                        return Err(
                            "`mean` and a `deviation` above 0 are given together, or neither".to_owned()
                        );
                    }
                };
                if known.is_none() {
                    within("warmup", *warmup, 2, 1_000_000)?;
                }
                Method::Ewma(Chart { lambda: *lambda, warmup: *warmup, known, adapt: *adapt, floor: *floor })
            }
            Self::Robust { window, warmup, floor, .. } => {
                within("window", *window, 2, WINDOW_MAX)?;
                within("floor", *floor, 0.0, f64::MAX)?;
                let warmup = warmup.unwrap_or((window / 10).max(10)).min(*window);
                Method::Robust { window: *window, warmup, floor: *floor }
            }
            Self::Seasonal { season, utc_offset, alpha, warmup, floor, .. } => {
                weight("alpha", *alpha, false)?;
                within("utc_offset", *utc_offset, -24.0, 24.0)?;
                within("floor", *floor, 0.0, f64::MAX)?;
                #[expect(clippy::cast_possible_truncation, reason = "at most a day")]
                let offset = (utc_offset * 3600.0).round() as i64 * 1_000_000_000;
                let season = match season {
                    SeasonName::HourOfDay => Season::HourOfDay,
                    SeasonName::HourOfWeek => Season::HourOfWeek,
                    SeasonName::DayOfWeek => Season::DayOfWeek,
                };
                Method::Seasonal(Baseline { season, offset, alpha: *alpha, warmup: *warmup, floor: *floor })
            }
            Self::Forest { fields, trees, depth, window, .. } => {
                within("trees", *trees, 1, TREES_MAX)?;
                within("depth", *depth, 1, DEPTH_MAX)?;
                if fields.is_empty() || fields.len() > FIELDS_MAX {
                    return Err(format!("`fields` needs 1 to {FIELDS_MAX} of them"));
                }
                within("window", *window, 10, VALUES_MAX / fields.len())?;
                let fields = fields.len();
                Method::Forest(Measures { trees: *trees, depth: *depth, window: *window, fields })
            }
        };
        Ok((method, rule))
    }

    fn rule(&self) -> Rule {
        let (limit, direction, records, quiet) = match self {
            Self::Ewma { limit, direction, records, quiet, .. }
            | Self::Robust { limit, direction, records, quiet, .. }
            | Self::Seasonal { limit, direction, records, quiet, .. } => (limit, *direction, records, quiet),
            Self::Forest { limit, records, quiet, .. } => (limit, Direction::High, records, quiet),
        };
        Rule { limit: *limit, direction, records: *records, quiet: quiet.ns() }
    }
}
