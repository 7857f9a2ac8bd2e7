//! The config: the key, and which features of which fields over which records.

use serde::Deserialize;
use serde::de::Error;
use wasmill_keyed::{Span, TimeFormat};
use wasmill_sdk::path::Path;

use crate::measure::{Measure, Reach};

/// Most records that are kept of a key.
pub const RECORDS_MAX: u32 = 4096;
/// Most features of a transform.
pub const FEATURES_MAX: usize = 512;
/// Most fields that are kept of a record.
pub const FIELDS_MAX: usize = 128;
/// Most values that are kept of a key: what an entry of state has room for, with a quarter to spare.
pub const VALUES_MAX: usize = 81_920;

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
    /// What is written.
    pub features: Vec<Group>,
    /// The object that gets it.
    #[serde(default = "into")]
    pub into: Path,
    /// Most records that are kept of a key.
    #[serde(default = "keep")]
    pub keep: u32,
    /// A key of which nothing came for so long, by arrival, is forgotten.
    #[serde(default = "forget")]
    pub forget: Span,
}

fn into() -> Path {
    Path(vec!["rolling".to_owned()])
}

fn keep() -> u32 {
    256
}

fn forget() -> Span {
    Span::from_ns(30 * 24 * 3_600_000_000_000)
}

/// Features that look at the same records: each of `ops` of each of `of`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What is computed.
    pub ops: Vec<Op>,
    /// The fields; of `distance` latitude and longitude, in degrees.
    #[serde(default)]
    pub of: Vec<Path>,
    /// Over the last so many records,
    pub records: Option<u32>,
    /// or over so long.
    pub within: Option<Written>,
    /// Without the record itself.
    #[serde(default)]
    pub before: bool,
}

/// A length of time, with the text that stands in the config: it is part of names.
#[derive(Clone, Debug)]
pub struct Written {
    span: Span,
    text: String,
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let from = serde::de::value::StrDeserializer::<D::Error>::new(&text);
        let span = Span::deserialize(from)?;
        if span.is_zero() {
            return Err(D::Error::custom("`within` must not be 0"));
        }
        Ok(Self { span, text })
    }
}

/// What can be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Records, or with a field those that have a value there.
    Count,
    /// Sum of numbers; 0 of none.
    Sum,
    /// Their mean.
    Mean,
    /// Their sample standard deviation.
    Std,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// Slope of the least-squares line over the records, per record.
    Slope,
    /// How many different values.
    Distinct,
    /// Seconds since the record before.
    Elapsed,
    /// The number in the record before.
    Previous,
    /// Kilometres from where the record before was.
    Distance,
}

impl Op {
    fn name(self) -> &'static str {
        match self {
            Op::Count => "count",
            Op::Sum => "sum",
            Op::Mean => "mean",
            Op::Std => "std",
            Op::Min => "min",
            Op::Max => "max",
            Op::Slope => "slope",
            Op::Distinct => "distinct",
            Op::Elapsed => "elapsed",
            Op::Previous => "previous",
            Op::Distance => "distance",
        }
    }

    /// Looks at the record before and nothing else.
    fn is_of_pair(self) -> bool {
        matches!(self, Op::Elapsed | Op::Previous | Op::Distance)
    }
}

/// A feature as it is asked for.
#[derive(Debug)]
pub struct Feature {
    /// Its name in the object.
    pub name: String,
    /// What is measured.
    pub measure: Measure,
    /// Over which records.
    pub reach: Reach,
}

/// All of them, and the fields that are kept: whether as numbers, or as what tells values apart.
#[derive(Debug, Default)]
pub struct Plan {
    /// The features, in their order.
    pub features: Vec<Feature>,
    /// The fields that are kept; `true`: a print of the value and not a number.
    pub fields: Vec<(Path, bool)>,
}

impl Plan {
    fn place(&mut self, path: &Path, is_print: bool) -> usize {
        let known = self.fields.iter().position(|(known, print)| known.0 == path.0 && *print == is_print);
        known.unwrap_or_else(|| {
            self.fields.push((Path(path.0.clone()), is_print));
            self.fields.len() - 1
        })
    }

    fn add(&mut self, group: &Group, op: Op, field: Option<&Path>, reach: Reach) -> Result<(), String> {
        let mut number = |path: &Path| self.place(path, false);
        let measure = match (op, field) {
            (Op::Count, None) => Measure::Records,
            (Op::Elapsed, None) => Measure::Elapsed,
            (Op::Distance, None) => match &group.of[..] {
                [latitude, longitude] => {
                    Measure::Distance { latitude: number(latitude), longitude: number(longitude) }
                }
                _ => return Err("`distance` wants two fields in `of`: latitude and longitude".to_owned()),
            },
            (Op::Distinct, Some(field)) => Measure::Distinct(self.place(field, true)),
            // Anything that is there counts, numbers or not.
            (Op::Count, Some(field)) => Measure::Count(self.place(field, true)),
            (Op::Sum, Some(field)) => Measure::Sum(number(field)),
            (Op::Mean, Some(field)) => Measure::Mean(number(field)),
            (Op::Std, Some(field)) => Measure::Std(number(field)),
            (Op::Min, Some(field)) => Measure::Min(number(field)),
            (Op::Max, Some(field)) => Measure::Max(number(field)),
            (Op::Slope, Some(field)) => Measure::Slope(number(field)),
            (Op::Previous, Some(field)) => Measure::Previous(number(field)),
            (op, _) => return Err(format!("`{}` wants fields in `of`", op.name())),
        };
        let mut parts: Vec<String> = field.map(|field| field.0.join("_")).into_iter().collect();
        parts.push(op.name().to_owned());
        match (group.records, &group.within) {
            _ if op.is_of_pair() => {}
            (Some(records), _) => parts.push(records.to_string()),
            (None, Some(within)) => parts.push(within.text.clone()),
            (None, None) => {}
        }
        if group.before {
            parts.push("before".to_owned());
        }
        let name = parts.join("_");
        if self.features.iter().any(|known| known.name == name) {
            return Err(format!("two features are called `{name}`"));
        }
        self.features.push(Feature { name, measure, reach });
        Ok(())
    }
}

impl Group {
    fn reach(&self) -> Result<Option<Reach>, String> {
        let before = self.before;
        match (self.records, &self.within) {
            (Some(0), _) => Err("`records` must not be 0".to_owned()),
            (Some(records), None) => Ok(Some(Reach { records, ns: None, before })),
            (None, Some(within)) => Ok(Some(Reach { records: u32::MAX, ns: Some(within.span.ns()), before })),
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err("`records` and `within` exclude each other".to_owned()),
        }
    }
}

impl Config {
    /// What is to be computed and kept.
    ///
    /// # Errors
    /// What contradicts itself, or is too much.
    pub fn plan(&self) -> Result<Plan, String> {
        let mut plan = Plan::default();
        for (at, group) in self.features.iter().enumerate() {
            let told = |what: String| format!("config: `features` {}: {what}", at + 1);
            let reach = group.reach().map_err(told)?;
            if group.ops.is_empty() {
                return Err(told("`ops` names nothing".to_owned()));
            }
            for op in &group.ops {
                let reach = match (op.is_of_pair(), reach) {
                    (true, None) if !group.before => Reach { records: 2, ns: None, before: false },
                    (true, _) => {
                        return Err(told(format!(
                            "`{}` looks at the record before: it takes no `records`, `within` or `before`",
                            op.name()
                        )));
                    }
                    (false, Some(reach)) => reach,
                    (false, None) => {
                        return Err(told(format!("`{}` wants `records` or `within`", op.name())));
                    }
                };
                let of_all =
                    matches!(op, Op::Elapsed | Op::Distance) || (*op == Op::Count && group.of.is_empty());
                let fields = if of_all { vec![None] } else { group.of.iter().map(Some).collect() };
                if fields.is_empty() {
                    return Err(told(format!("`{}` wants fields in `of`", op.name())));
                }
                for field in fields {
                    plan.add(group, *op, field, reach).map_err(told)?;
                }
            }
        }
        self.check(&plan)?;
        Ok(plan)
    }

    fn check(&self, plan: &Plan) -> Result<(), String> {
        if plan.features.is_empty() || plan.features.len() > FEATURES_MAX {
            return Err(format!(
                "config: `features` makes {} features, 1 to {FEATURES_MAX} are allowed",
                plan.features.len()
            ));
        }
        if plan.fields.len() > FIELDS_MAX {
            return Err(format!(
                "config: `features` looks at {} fields, at most {FIELDS_MAX} are allowed",
                plan.fields.len()
            ));
        }
        let longest = plan.features.iter().filter(|feature| feature.reach.ns.is_none());
        let longest = longest.map(|feature| feature.reach.needs()).max().unwrap_or(0);
        if longest > self.keep {
            return Err(format!(
                "config: features look at {longest} records, and `keep` is {}: raise it",
                self.keep
            ));
        }
        if self.keep > RECORDS_MAX || self.keep as usize * (plan.fields.len() + 1) > VALUES_MAX {
            return Err(format!(
                "config: `keep` is {}: at most {RECORDS_MAX} records of a key are kept, and {VALUES_MAX} values of \
                 their {} fields and their time",
                self.keep,
                plan.fields.len()
            ));
        }
        if self.forget.is_zero() {
            return Err("config: `forget` must not be 0".to_owned());
        }
        Ok(())
    }
}
