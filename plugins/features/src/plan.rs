//! From the config to features that know their place in the vector: checked numbers, declared fields, names.
//!
//! Names are the features' own, in order: a number is `name` (and `name_missing`), one-hot `name=value` (and
//! `name=other`), hashed ones `name_0`, `name_1`, ..., circles `name_day_sin` and so on.

use wasmill_sdk::{Field, Setup};

use crate::config::{Config, Feature, Form, Missing, Norm, Other, Part, Step, TimeUnit, Unit};
use crate::text::Ngrams;
use crate::time;
use wasmill_sdk::path::Path;

/// Most positions of a vector that is written in full.
pub const DENSE_MAX: u32 = 4096;
/// Most positions of a sparse vector.
pub const SPARSE_MAX: u32 = i32::MAX as u32;
/// Most features, and most values of a one-hot feature.
pub const FEATURES_MAX: usize = 4096;
/// Longest n-gram, in units.
pub const GRAM_MAX: usize = 8;
/// Most characters of a text that count.
pub const CHARS_MAX: usize = 65_536;

/// A feature that knows its first position.
#[derive(Debug)]
pub struct Ready {
    /// First position.
    pub base: u32,
    /// For reasons.
    pub name: String,
    /// What it does.
    pub kind: Kind,
}

/// What a feature does.
#[derive(Debug)]
pub enum Kind {
    /// A number.
    Number {
        /// Where.
        field: Field,
        /// Done in order.
        steps: Vec<Step>,
        /// Instead of a value.
        missing: Missing,
        /// Whether the next position says that the value is missing.
        flag: bool,
    },
    /// A category.
    OneHot {
        /// Where.
        field: Field,
        /// Values, sorted, with their positions.
        values: Vec<(Vec<u8>, u32)>,
        /// What an unknown one does; its column lies behind the values.
        other: Other,
    },
    /// Hashed categories and numbers.
    Hash {
        /// Where, and what stands before a value in its token.
        fields: Vec<(Field, String)>,
        /// Positions.
        size: u32,
        /// Whether half of the tokens count negative.
        signed: bool,
    },
    /// A hashed text.
    Ngrams {
        /// Where.
        field: Field,
        /// How.
        ngrams: Ngrams,
    },
    /// Circles of time.
    Time {
        /// Where; by default the arrival time.
        field: Option<Field>,
        /// The unit of numbers.
        unit: TimeUnit,
        /// Which circles.
        parts: Vec<Part>,
        /// Seconds east of UTC.
        offset: i64,
        /// Instead of a value.
        missing: Missing,
    },
    /// One number over another.
    Ratio {
        /// Above.
        numerator: Field,
        /// Below.
        denominator: Field,
        /// Where the denominator is 0.
        on_zero: f64,
        /// Done in order.
        steps: Vec<Step>,
        /// Instead of a value.
        missing: Missing,
    },
}

/// All features of a transform.
#[derive(Debug)]
pub struct Plan {
    /// In the order of the vector.
    pub features: Vec<Ready>,
    /// Positions.
    pub size: u32,
    /// The name of each position; empty where there are more than [`DENSE_MAX`].
    pub names: Vec<String>,
}

/// Checks the config and declares the fields.
pub fn plan(config: &Config, setup: &mut Setup) -> Result<Plan, String> {
    if config.features.is_empty() || config.features.len() > FEATURES_MAX {
        return Err(format!("config: `features` needs 1 to {FEATURES_MAX} entries"));
    }
    let mut plan = Plan { features: Vec::new(), size: 0, names: Vec::new() };
    let sparse = config.form == Form::Sparse;
    check_missing(config.missing, sparse).map_err(|what| format!("config: {what}"))?;
    let max = if sparse { SPARSE_MAX } else { DENSE_MAX };
    let mut complete = true;
    for (number, feature) in config.features.iter().enumerate() {
        let at = |what: String| format!("feature {}: {what}", number + 1);
        let (name, kind) = ready(feature, config, setup).map_err(at)?;
        let base = plan.size;
        plan.size = base
            .checked_add(kind.size())
            .filter(|size| *size <= max)
            .ok_or_else(|| at(format!("the vector has more than {max} positions; `sparse` allows more")))?;
        complete = complete && plan.size <= DENSE_MAX;
        if complete {
            kind.names(&name, &mut plan.names);
        }
        plan.features.push(Ready { base, name, kind });
    }
    if !complete {
        plan.names.clear();
    }
    let mut sorted: Vec<&String> = plan.names.iter().collect();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("two positions are named `{}`; give one of the features a `name`", twice[0]));
    }
    Ok(plan)
}

fn check_missing(missing: Missing, sparse: bool) -> Result<(), String> {
    match missing {
        Missing::Null if sparse => Err("a sparse vector has no place for null".to_owned()),
        Missing::Number(number) if !number.is_finite() => Err("`missing` is not finite".to_owned()),
        _ => Ok(()),
    }
}

fn ready(feature: &Feature, config: &Config, setup: &mut Setup) -> Result<(String, Kind), String> {
    let named = |name: &Option<String>, otherwise: String| name.clone().unwrap_or(otherwise);
    let filled = |missing: &Option<Missing>| {
        let missing = missing.unwrap_or(config.missing);
        check_missing(missing, config.form == Form::Sparse).map(|()| missing)
    };
    Ok(match feature {
        Feature::Number { name, field, steps, missing, flag } => {
            check_steps(steps)?;
            let (steps, missing) = (steps.clone(), filled(missing)?);
            let kind = Kind::Number { field: setup.field(&field.0), steps, missing, flag: *flag };
            (named(name, field.shown()), kind)
        }
        Feature::OneHot { name, field, values, other } => {
            let kind =
                Kind::OneHot { field: setup.field(&field.0), values: categories(values)?, other: *other };
            (named(name, field.shown()), kind)
        }
        Feature::Hash { name, fields, size, signed } => {
            check_size(*size)?;
            if fields.is_empty() {
                return Err("`fields` is empty".to_owned());
            }
            let declared = |path: &Path| (setup.field(&path.0), path.shown());
            let fields = fields.iter().map(declared).collect();
            (named(name, "hash".to_owned()), Kind::Hash { fields, size: *size, signed: *signed })
        }
        Feature::Ngrams { name, field, unit, min, max, size, signed, lowercase, norm, max_chars } => {
            let ngrams = ngrams(*unit, *min, max.unwrap_or(*min), *size, *norm, *max_chars)?;
            let ngrams = Ngrams { signed: *signed, lowercase: *lowercase, ..ngrams };
            (named(name, field.shown()), Kind::Ngrams { field: setup.field(&field.0), ngrams })
        }
        Feature::Time { name, field, unit, parts, zone, missing } => {
            let zone = zone.as_deref().unwrap_or("+00:00");
            let offset =
                time::zone(zone.as_bytes()).ok_or_else(|| format!("zone `{zone}` is not like `+02:00`"))?;
            if parts.is_empty() || (1..parts.len()).any(|at| parts[..at].contains(&parts[at])) {
                return Err("`parts` needs one or more different parts".to_owned());
            }
            let (parts, missing) = (parts.clone(), filled(missing)?);
            let shown = field.as_ref().map_or_else(|| "arrival".to_owned(), Path::shown);
            let field = field.as_ref().map(|field| setup.field(&field.0));
            (named(name, shown), Kind::Time { field, unit: *unit, parts, offset, missing })
        }
        Feature::Ratio { name, numerator, denominator, on_zero, steps, missing } => {
            check_steps(steps)?;
            let shown = format!("{}/{}", numerator.shown(), denominator.shown());
            let (numerator, denominator) = (setup.field(&numerator.0), setup.field(&denominator.0));
            let (steps, missing) = (steps.clone(), filled(missing)?);
            (named(name, shown), Kind::Ratio { numerator, denominator, on_zero: *on_zero, steps, missing })
        }
    })
}

fn ngrams(
    unit: Unit,
    min: usize,
    max: usize,
    size: u32,
    norm: Norm,
    max_chars: usize,
) -> Result<Ngrams, String> {
    check_size(size)?;
    if min == 0 || min > max || max > GRAM_MAX {
        return Err(format!("n-grams need 1 <= `min` <= `max` <= {GRAM_MAX}"));
    }
    if max_chars == 0 || max_chars > CHARS_MAX {
        return Err(format!("`max_chars` is from 1 to {CHARS_MAX}"));
    }
    Ok(Ngrams { unit, min, max, size, signed: true, lowercase: true, norm, max_chars })
}

fn check_size(size: u32) -> Result<(), String> {
    let valid = (1..=SPARSE_MAX).contains(&size);
    if valid { Ok(()) } else { Err(format!("`size` is from 1 to {SPARSE_MAX}")) }
}

fn check_steps(steps: &[Step]) -> Result<(), String> {
    for step in steps {
        let valid = match step {
            Step::Clip(range) => range.min <= range.max,
            Step::Minmax(range) => range.min < range.max && (range.max - range.min).is_finite(),
            Step::Zscore(statistics) => statistics.mean.is_finite() && statistics.std > 0.0,
            _ => true,
        };
        if !valid {
            return Err("`clip` and `minmax` need min below max, `zscore` needs a std above 0".to_owned());
        }
    }
    Ok(())
}

fn categories(values: &[serde_json::Value]) -> Result<Vec<(Vec<u8>, u32)>, String> {
    let mut sorted = Vec::with_capacity(values.len());
    for (value, position) in values.iter().zip(0u32..) {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Number(_) | serde_json::Value::Bool(_) => value.to_string(),
            _ => return Err(format!("`{value}` in `values` is neither a string, a number nor a boolean")),
        };
        sorted.push((text.into_bytes(), position));
    }
    sorted.sort_unstable();
    if sorted.is_empty() || sorted.len() > FEATURES_MAX {
        return Err(format!("`values` needs 1 to {FEATURES_MAX} entries"));
    }
    match sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(twice) => Err(format!("`{}` is in `values` twice", String::from_utf8_lossy(&twice[0].0))),
        None => Ok(sorted),
    }
}

impl Kind {
    /// Positions.
    fn size(&self) -> u32 {
        match self {
            Kind::Number { flag, .. } => 1 + u32::from(*flag),
            // Both lengths are bounded by the plan.
            Kind::OneHot { values, other, .. } => values.len() as u32 + u32::from(*other == Other::Column),
            Kind::Hash { size, .. } => *size,
            Kind::Ngrams { ngrams, .. } => ngrams.size,
            Kind::Time { parts, .. } => 2 * parts.len() as u32,
            Kind::Ratio { .. } => 1,
        }
    }

    fn names(&self, name: &str, names: &mut Vec<String>) {
        match self {
            Kind::Number { flag, .. } => {
                names.push(name.to_owned());
                names.extend(flag.then(|| format!("{name}_missing")));
            }
            Kind::Ratio { .. } => names.push(name.to_owned()),
            Kind::OneHot { values, other, .. } => {
                let mut ordered: Vec<_> = values.iter().collect();
                ordered.sort_unstable_by_key(|(_, position)| *position);
                let named =
                    |(value, _): &&(Vec<u8>, u32)| format!("{name}={}", String::from_utf8_lossy(value));
                names.extend(ordered.iter().map(named));
                names.extend((*other == Other::Column).then(|| format!("{name}=other")));
            }
            Kind::Hash { size, .. } => names.extend((0..*size).map(|at| format!("{name}_{at}"))),
            Kind::Ngrams { ngrams, .. } => names.extend((0..ngrams.size).map(|at| format!("{name}_{at}"))),
            Kind::Time { parts, .. } => {
                for part in parts {
                    let part = match part {
                        Part::TimeOfDay => "day",
                        Part::DayOfWeek => "week",
                        Part::DayOfYear => "year",
                    };
                    names.extend([format!("{name}_{part}_sin"), format!("{name}_{part}_cos")]);
                }
            }
        }
    }
}
