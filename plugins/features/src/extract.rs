//! From the columns of a chunk to the vector of one record.
//!
//! Every column is read once per chunk; then record after record fills the vector. A value of another type than the
//! feature wants is a missing value; nothing is coerced.

use wasmill_sdk::{Cell, Chunk, Field, Floats, Text};

use crate::config::{Missing, Other, Step, TimeUnit};
use crate::murmur::place;
use crate::plan::{Kind, Ready};
use crate::text::Scratch;
use crate::time;
use crate::vector::Vector;

/// A column of texts, with the JSON of values of other types where there are any.
pub struct Values {
    text: Text,
    json: Option<Text>,
}

/// A value of a [`Values`] column.
enum Value<'a> {
    None,
    Text(&'a [u8]),
    /// A number or boolean as JSON.
    Json(&'a [u8]),
}

impl Values {
    fn read(rows: &Chunk<'_>, field: Field) -> Self {
        let text = rows.text(field);
        let json = text.states().contains(&2).then(|| rows.raw_json(field));
        Self { text, json }
    }

    fn get(&self, row: usize) -> Value<'_> {
        match (self.text.cell(row), &self.json) {
            (Cell::Value(text), _) => Value::Text(text),
            (Cell::Other, Some(json)) => match json.get(row) {
                Some(json) if !matches!(json.first(), Some(b'[' | b'{')) => Value::Json(json),
                _ => Value::None,
            },
            _ => Value::None,
        }
    }
}

/// What a feature reads of a chunk.
pub enum Columns {
    /// A number.
    One(Floats),
    /// Two numbers.
    Two(Floats, Floats),
    /// A text or category.
    Values(Values),
    /// Several.
    Many(Vec<Values>),
    /// A time: text, and numbers where there are any.
    Time(Text, Option<Floats>),
    /// Nothing but the arrival time.
    Arrival,
}

impl Columns {
    /// Reads what a feature needs.
    pub fn read(rows: &Chunk<'_>, kind: &Kind) -> Self {
        match kind {
            Kind::Number { field, .. } => Columns::One(rows.floats(*field)),
            Kind::Ratio { numerator, denominator, .. } => {
                Columns::Two(rows.floats(*numerator), rows.floats(*denominator))
            }
            Kind::OneHot { field, .. } | Kind::Ngrams { field, .. } => {
                Columns::Values(Values::read(rows, *field))
            }
            Kind::Hash { fields, .. } => {
                Columns::Many(fields.iter().map(|(field, _)| Values::read(rows, *field)).collect())
            }
            Kind::Time { field: Some(field), .. } => {
                let text = rows.text(*field);
                let numbers = text.states().contains(&2).then(|| rows.floats(*field));
                Columns::Time(text, numbers)
            }
            Kind::Time { field: None, .. } => Columns::Arrival,
        }
    }
}

/// What is wrong with a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// A value is missing, and the feature has no number for that.
    Missing,
    /// A category is none of those known.
    Unknown,
}

impl Ready {
    /// Fills this feature's positions for one record.
    pub fn fill(
        &self,
        columns: &Columns,
        row: usize,
        arrival: i64,
        vector: &mut Vector,
        scratch: &mut Scratch,
    ) -> Result<(), Fault> {
        match (&self.kind, columns) {
            (Kind::Number { steps, missing, flag, .. }, Columns::One(numbers)) => {
                let value = numbers.get(row).and_then(|number| stepped(number, steps));
                if *flag && value.is_none() {
                    vector.add(self.base + 1, 1.0);
                }
                put(vector, self.base, value, *missing)
            }
            (Kind::Ratio { on_zero, steps, missing, .. }, Columns::Two(above, below)) => {
                let ratio = above.get(row).zip(below.get(row)).map(|(above, below)| match below {
                    0.0 => *on_zero,
                    below => above / below,
                });
                put(vector, self.base, ratio.and_then(|ratio| stepped(ratio, steps)), *missing)
            }
            (Kind::OneHot { values, other, .. }, Columns::Values(column)) => {
                let known = match column.get(row) {
                    Value::Text(value) | Value::Json(value) => {
                        values.binary_search_by(|(known, _)| known.as_slice().cmp(value)).ok()
                    }
                    Value::None => None,
                };
                match (known, other) {
                    (Some(at), _) => vector.add(self.base + values[at].1, 1.0),
                    // The number of values is bounded by the plan.
                    (None, Other::Column) => vector.add(self.base + values.len() as u32, 1.0),
                    (None, Other::Ignore) => {}
                    (None, Other::Fail) => return Err(Fault::Unknown),
                }
                Ok(())
            }
            (Kind::Hash { fields, size, signed }, Columns::Many(columns)) => {
                for ((_, name), column) in fields.iter().zip(columns) {
                    if let Some((token, weight)) = scratch.token(name, &column.get(row)) {
                        let (at, sign) = place(token, *size, *signed);
                        vector.add(self.base + at, sign * weight);
                    }
                }
                Ok(())
            }
            (Kind::Ngrams { ngrams, .. }, Columns::Values(column)) => {
                if let Value::Text(text) = column.get(row)
                    && let Ok(text) = std::str::from_utf8(text)
                {
                    for (at, weight) in ngrams.pairs(text, scratch) {
                        vector.add(self.base + at, *weight);
                    }
                }
                Ok(())
            }
            (Kind::Time { unit, parts, offset, missing, .. }, columns) => {
                let moment = moment(columns, row, arrival, *unit);
                for (part, at) in parts.iter().zip((self.base..).step_by(2)) {
                    let point = moment
                        .map(|(seconds, nanos)| time::circle(time::fraction(seconds + offset, nanos, *part)));
                    put(vector, at, point.map(|(sine, _)| sine), *missing)?;
                    put(vector, at + 1, point.map(|(_, cosine)| cosine), *missing)?;
                }
                Ok(())
            }
            // `Columns::read` makes the columns of each kind.
            _ => Ok(()),
        }
    }
}

impl Scratch {
    /// The token of a value and its weight, as `FeatureHasher` has them: `name=text` once, `name` as often as a
    /// number says, a boolean as 0 or 1.
    fn token(&mut self, name: &str, value: &Value<'_>) -> Option<(&[u8], f64)> {
        let buffer = self.buffer();
        buffer.clear();
        buffer.extend_from_slice(name.as_bytes());
        let weight = match value {
            Value::None => return None,
            Value::Text(text) => {
                buffer.push(b'=');
                buffer.extend_from_slice(text);
                1.0
            }
            Value::Json(b"true") => 1.0,
            Value::Json(b"false") => 0.0,
            Value::Json(number) => {
                let number: f64 = std::str::from_utf8(number).ok()?.parse().ok()?;
                if !number.is_finite() {
                    return None;
                }
                number
            }
        };
        Some((buffer.as_slice(), weight))
    }
}

fn moment(columns: &Columns, row: usize, arrival: i64, unit: TimeUnit) -> Option<(i64, u32)> {
    match columns {
        Columns::Arrival => {
            // The remainder is below 10^9.
            Some((arrival.div_euclid(1_000_000_000), arrival.rem_euclid(1_000_000_000) as u32))
        }
        Columns::Time(text, numbers) => match text.cell(row) {
            Cell::Value(text) => time::rfc3339(text),
            Cell::Other => time::number(numbers.as_ref()?.get(row)?, unit),
            Cell::Missing | Cell::Null => None,
        },
        _ => None,
    }
}

fn put(vector: &mut Vector, at: u32, value: Option<f64>, missing: Missing) -> Result<(), Fault> {
    match (value, missing) {
        (Some(value), _) | (None, Missing::Number(value)) => vector.add(at, value),
        (None, Missing::Null) => vector.null(at),
        (None, Missing::Fail) => return Err(Fault::Missing),
    }
    Ok(())
}

/// A number after all steps; `None` where the result is not finite, such as the logarithm of 0.
#[must_use]
pub fn stepped(number: f64, steps: &[Step]) -> Option<f64> {
    let value = steps.iter().fold(number, |value, step| match step {
        Step::Log => libm::log(value),
        Step::Log1p => libm::log1p(value),
        Step::Log10 => libm::log10(value),
        Step::Sqrt => libm::sqrt(value),
        Step::Abs => value.abs(),
        Step::Clip(range) => value.max(range.min).min(range.max),
        Step::Minmax(range) => (value - range.min) / (range.max - range.min),
        Step::Zscore(statistics) => (value - statistics.mean) / statistics.std,
    });
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Range, Statistics};

    #[test]
    fn stepped_formulas_agree() {
        let range = Range { min: 10.0, max: 20.0 };
        for (number, steps, want) in [
            (std::f64::consts::E, vec![Step::Log], Some(1.0)),
            (0.0, vec![Step::Log], None),
            (-1.0, vec![Step::Log1p], None),
            (0.0, vec![Step::Log1p], Some(0.0)),
            (1000.0, vec![Step::Log10], Some(3.0)),
            (-4.0, vec![Step::Sqrt], None),
            (-4.0, vec![Step::Abs, Step::Sqrt], Some(2.0)),
            (25.0, vec![Step::Minmax(range)], Some(1.5)),
            (25.0, vec![Step::Clip(range), Step::Minmax(range)], Some(1.0)),
            (7.0, vec![Step::Zscore(Statistics { mean: 5.0, std: 4.0 })], Some(0.5)),
            (1e308, vec![Step::Zscore(Statistics { mean: 0.0, std: 1e-10 })], None),
        ] {
            assert_eq!(stepped(number, &steps), want, "{number} {steps:?}");
        }
    }
}
