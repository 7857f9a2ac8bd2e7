//! What is computed of the records of a window: one [`Accumulator`] for each [`Aggregate`] of the config.
//!
//! An accumulator takes values one after the other, can be joined with another of the same aggregate (sessions that
//! meet), is kept in state, and says its result as JSON at any time. As in SQL, a missing or null value counts for
//! nothing, and where there was no value the result is null (counts: 0).

pub mod ddsketch;
pub mod hyperloglog;
pub mod number;
pub mod spacesaving;

use serde::{Deserialize, Serialize};

use ddsketch::DdSketch;
use hyperloglog::HyperLogLog;
use number::{Moments, Number, Sum, write_float};
use spacesaving::SpaceSaving;

/// A value of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Missing or null.
    Absent,
    /// A number.
    Number(Number),
    /// Any value as JSON text, texts written in one way only.
    Json(Vec<u8>),
}

/// What is computed, by the names of SQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Aggregate {
    /// Rows, or values of a field.
    Count,
    /// Sum of numbers.
    Sum,
    /// Smallest number.
    Min,
    /// Largest number.
    Max,
    /// Mean of numbers.
    Avg,
    /// Variance or, with `root`, standard deviation; of a `sample` or of all.
    Variance {
        /// Divided by n - 1.
        sample: bool,
        /// Its square root.
        root: bool,
    },
    /// The value of the earliest record; of equal times the one that came first.
    First,
    /// The value of the latest record; of equal times the one that came last.
    Last,
    /// Quantiles, to a relative error.
    ApproxPercentile {
        /// Each from 0 to 1.
        percentages: Vec<f64>,
        /// Whether the result is a list.
        list: bool,
        /// The relative error, above 0 and below 1.
        error: f64,
    },
    /// How many different values.
    ApproxCountDistinct,
    /// The most frequent values.
    ApproxTopK {
        /// How many.
        k: usize,
        /// Counters that are kept.
        counters: usize,
    },
}

impl Aggregate {
    /// Whether only numbers are values for it.
    #[must_use]
    pub fn wants_numbers(&self) -> bool {
        matches!(
            self,
            Self::Sum
                | Self::Min
                | Self::Max
                | Self::Avg
                | Self::Variance { .. }
                | Self::ApproxPercentile { .. }
        )
    }

    /// An accumulator without values.
    #[must_use]
    pub fn start(&self) -> Accumulator {
        match self {
            Self::Count => Accumulator::Count(0),
            Self::Sum | Self::Avg => Accumulator::Sum(Sum::default()),
            Self::Min | Self::Max => Accumulator::Extreme(None),
            Self::Variance { .. } => Accumulator::Moments(Moments::default()),
            Self::First | Self::Last => Accumulator::Edge(None),
            Self::ApproxPercentile { .. } => Accumulator::Quantiles(DdSketch::default()),
            Self::ApproxCountDistinct => Accumulator::Distinct(HyperLogLog::default()),
            Self::ApproxTopK { .. } => Accumulator::Top(SpaceSaving::default()),
        }
    }

    /// Whether this accumulator is one of its kind.
    #[must_use]
    pub fn keeps(&self, accumulator: &Accumulator) -> bool {
        match accumulator {
            Accumulator::Count(_) => matches!(self, Self::Count),
            Accumulator::Sum(_) => matches!(self, Self::Sum | Self::Avg),
            Accumulator::Extreme(_) => matches!(self, Self::Min | Self::Max),
            Accumulator::Moments(_) => matches!(self, Self::Variance { .. }),
            Accumulator::Edge(_) => matches!(self, Self::First | Self::Last),
            Accumulator::Quantiles(_) => matches!(self, Self::ApproxPercentile { .. }),
            Accumulator::Distinct(_) => matches!(self, Self::ApproxCountDistinct),
            Accumulator::Top(_) => matches!(self, Self::ApproxTopK { .. }),
        }
    }

    /// Whether a newer edge takes the place of the one that is kept.
    fn is_edge(&self, kept: i64, time: i64) -> bool {
        if matches!(self, Self::First) { time < kept } else { time >= kept }
    }

    /// Whether a number takes the place of the extreme that is kept.
    fn is_extreme(&self, kept: Number, number: Number) -> bool {
        let order = number.order(kept);
        if matches!(self, Self::Min) { order.is_lt() } else { order.is_gt() }
    }

    /// Takes a value of a record of this time (nanoseconds).
    pub fn add(&self, accumulator: &mut Accumulator, time: i64, value: &Value) {
        match (accumulator, value) {
            (_, Value::Absent) => {}
            (Accumulator::Count(count), _) => *count += 1,
            (Accumulator::Sum(sum), Value::Number(number)) => sum.add(*number),
            (Accumulator::Extreme(extreme), Value::Number(number)) => {
                if extreme.is_none_or(|kept| self.is_extreme(kept, *number)) {
                    *extreme = Some(*number);
                }
            }
            (Accumulator::Moments(moments), Value::Number(number)) => moments.add(number.float()),
            (Accumulator::Quantiles(sketch), Value::Number(number)) => {
                if let Self::ApproxPercentile { error, .. } = self {
                    sketch.add(number.float(), *error);
                }
            }
            (Accumulator::Edge(edge), Value::Json(json)) => {
                if edge.as_ref().is_none_or(|(kept, _)| self.is_edge(*kept, time)) {
                    *edge = Some((time, json.clone()));
                }
            }
            (Accumulator::Distinct(sketch), Value::Json(json)) => sketch.add(json),
            (Accumulator::Top(summary), Value::Json(json)) => {
                if let Self::ApproxTopK { counters, .. } = self {
                    summary.add(json, *counters);
                }
            }
            // A value of the wrong kind fails its record before it comes here.
            (_, Value::Number(_) | Value::Json(_)) => {}
        }
    }

    /// Joins what a later accumulator took into an earlier one.
    pub fn merge(&self, into: &mut Accumulator, other: Accumulator) {
        match (into, other) {
            (Accumulator::Count(into), Accumulator::Count(other)) => *into += other,
            (Accumulator::Sum(into), Accumulator::Sum(other)) => into.merge(&other),
            (Accumulator::Extreme(into), Accumulator::Extreme(Some(other)))
                if into.is_none_or(|kept| self.is_extreme(kept, other)) =>
            {
                *into = Some(other);
            }
            (Accumulator::Moments(into), Accumulator::Moments(other)) => into.merge(&other),
            (Accumulator::Edge(into), Accumulator::Edge(Some((time, json))))
                if into.as_ref().is_none_or(|(kept, _)| self.is_edge(*kept, time)) =>
            {
                *into = Some((time, json));
            }
            (Accumulator::Quantiles(into), Accumulator::Quantiles(other)) => into.merge(&other),
            (Accumulator::Distinct(into), Accumulator::Distinct(other)) => into.merge(other),
            (Accumulator::Top(into), Accumulator::Top(other)) => {
                if let Self::ApproxTopK { counters, .. } = self {
                    into.merge(other, *counters);
                }
            }
            // Accumulators of one aggregate are of one kind; of edges and extremes the one that is kept stays.
            _ => {}
        }
    }

    /// Appends the result as JSON.
    pub fn write(&self, accumulator: &Accumulator, out: &mut Vec<u8>) {
        let float = |number: Option<f64>, out: &mut Vec<u8>| match number {
            Some(number) => write_float(number, out),
            None => out.extend_from_slice(b"null"),
        };
        match accumulator {
            Accumulator::Count(count) => out.extend_from_slice(count.to_string().as_bytes()),
            Accumulator::Sum(sum) if sum.count == 0 => float(None, out),
            #[expect(clippy::cast_precision_loss, reason = "counts to 2^53")]
            Accumulator::Sum(sum) if matches!(self, Self::Avg) => {
                write_float(sum.float() / sum.count as f64, out);
            }
            Accumulator::Sum(sum) => sum.write(out),
            Accumulator::Extreme(Some(number)) => number.write(out),
            Accumulator::Edge(Some((_, json))) => out.extend_from_slice(json),
            Accumulator::Extreme(None) | Accumulator::Edge(None) => float(None, out),
            Accumulator::Moments(moments) => {
                if let Self::Variance { sample, root } = self {
                    let variance = moments.variance(*sample);
                    float(if *root { variance.map(f64::sqrt) } else { variance }, out);
                }
            }
            Accumulator::Quantiles(sketch) => {
                if let Self::ApproxPercentile { percentages, list, error } = self {
                    let mut each = percentages.iter().map(|q| sketch.quantile(*q, *error));
                    if *list {
                        listed(each, out, |number, out| float(number, out));
                    } else {
                        float(each.next().flatten(), out);
                    }
                }
            }
            Accumulator::Distinct(sketch) => out.extend_from_slice(sketch.count().to_string().as_bytes()),
            Accumulator::Top(summary) => {
                let k = if let Self::ApproxTopK { k, .. } = self { *k } else { 0 };
                listed(summary.top(k).into_iter(), out, |counter, out| {
                    out.extend_from_slice(b"{\"item\":");
                    out.extend_from_slice(&counter.value);
                    out.extend_from_slice(format!(",\"count\":{}", counter.count).as_bytes());
                    out.extend_from_slice(format!(",\"error\":{}}}", counter.error).as_bytes());
                });
            }
        }
    }
}

fn listed<T>(each: impl Iterator<Item = T>, out: &mut Vec<u8>, write: impl Fn(T, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in each.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// What an aggregate has taken so far. The order of the variants is part of the layout in state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Accumulator {
    /// Rows or values.
    Count(u64),
    /// Sum and count.
    Sum(Sum),
    /// The smallest or largest.
    Extreme(Option<Number>),
    /// Mean and squared deviations.
    Moments(Moments),
    /// The first or last with its time.
    Edge(Option<(i64, Vec<u8>)>),
    /// Quantiles.
    Quantiles(DdSketch),
    /// Different values.
    Distinct(HyperLogLog),
    /// Frequent values.
    Top(SpaceSaving),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(aggregate: &Aggregate, values: &[(i64, Value)]) -> String {
        let mut whole = aggregate.start();
        values.iter().for_each(|(time, value)| aggregate.add(&mut whole, *time, value));
        // However the values are divided and joined again, the result is the same.
        for cut in 0..=values.len() {
            let (mut left, mut right) = (aggregate.start(), aggregate.start());
            values[..cut].iter().for_each(|(time, value)| aggregate.add(&mut left, *time, value));
            values[cut..].iter().for_each(|(time, value)| aggregate.add(&mut right, *time, value));
            aggregate.merge(&mut left, right);
            let (mut one, mut other) = (Vec::new(), Vec::new());
            aggregate.write(&whole, &mut one);
            aggregate.write(&left, &mut other);
            assert_eq!(one, other, "{aggregate:?} cut at {cut}");
        }
        let mut out = Vec::new();
        aggregate.write(&whole, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn numbers(values: &[f64]) -> Vec<(i64, Value)> {
        values.iter().map(|value| (0, Value::Number(Number::Float(*value)))).collect()
    }

    #[test]
    fn results_are_those_of_sql() {
        let values = numbers(&[1.0, 2.5, 4.0, 0.5]);
        for (aggregate, expected) in [
            (Aggregate::Count, "4"),
            (Aggregate::Sum, "8.0"),
            (Aggregate::Min, "0.5"),
            (Aggregate::Max, "4.0"),
            (Aggregate::Avg, "2.0"),
            (Aggregate::Variance { sample: true, root: false }, "2.5"),
            (Aggregate::Variance { sample: false, root: false }, "1.875"),
        ] {
            assert_eq!(result(&aggregate, &values), expected, "{aggregate:?}");
        }
        let whole = [3, i64::MAX].map(|number| (0, Value::Number(Number::Int(number))));
        assert_eq!(result(&Aggregate::Sum, &whole), "9223372036854775810");
    }

    #[test]
    fn results_without_values_are_null_or_zero() {
        let absent = [(0, Value::Absent)];
        for aggregate in [
            Aggregate::Sum,
            Aggregate::Min,
            Aggregate::Avg,
            Aggregate::Variance { sample: true, root: true },
            Aggregate::First,
            Aggregate::ApproxPercentile { percentages: vec![0.5], list: false, error: 0.01 },
        ] {
            assert_eq!(result(&aggregate, &absent), "null", "{aggregate:?}");
        }
        assert_eq!(result(&Aggregate::Count, &absent), "0");
        assert_eq!(result(&Aggregate::ApproxCountDistinct, &absent), "0");
        assert_eq!(result(&Aggregate::ApproxTopK { k: 3, counters: 3 }, &absent), "[]");
    }

    #[test]
    fn first_and_last_go_by_time_and_then_by_arrival() {
        let values = [(5, "\"a\""), (3, "\"b\""), (3, "\"c\""), (9, "\"d\""), (9, "\"e\""), (4, "1")]
            .map(|(time, json)| (time, Value::Json(json.into())));
        assert_eq!(result(&Aggregate::First, &values), "\"b\"");
        assert_eq!(result(&Aggregate::Last, &values), "\"e\"");
    }

    #[test]
    fn top_says_item_count_and_error() {
        let values = ["\"a\"", "2", "\"a\""].map(|json| (0, Value::Json(json.into())));
        let aggregate = Aggregate::ApproxTopK { k: 1, counters: 10 };
        assert_eq!(result(&aggregate, &values), r#"[{"item":"a","count":2,"error":0}]"#);
    }
}
