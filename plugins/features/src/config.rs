//! What the transform's config says: the features in the order of the vector, and how the vector is written.
//!
//! Only shapes are checked here; numbers that make no sense are refused in `plan`.

use serde::Deserialize;

use wasmill_sdk::path::Path;

/// The whole config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// In the order of the vector.
    pub features: Vec<Feature>,
    /// The field that gets the vector.
    #[serde(default = "output")]
    pub output: Path,
    /// How the vector is written.
    #[serde(default)]
    pub form: Form,
    /// How exactly numbers are written.
    #[serde(default)]
    pub precision: Precision,
    /// What stands for a value that is not there, where the feature says nothing.
    #[serde(default)]
    pub missing: Missing,
}

fn output() -> Path {
    Path(vec!["features".to_owned()])
}

/// How the vector is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// `[0.5,0,1]`.
    #[default]
    Dense,
    /// `{"size":3,"indices":[0,2],"values":[0.5,1]}`.
    Sparse,
    /// `{"bytes":0.5,"method=GET":0,"method=POST":1}`.
    Named,
}

/// How exactly numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The shortest text that reads back as the same 64-bit number.
    #[default]
    F64,
    /// Rounded to 32 bits: half the text.
    F32,
}

/// What stands for a value that is not there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Missing {
    /// This number, as it stands in the vector.
    Number(f64),
    /// JSON null in the vector.
    Null,
    /// The record becomes a dead letter.
    Fail,
}

impl Default for Missing {
    fn default() -> Self {
        Missing::Number(0.0)
    }
}

impl<'de> Deserialize<'de> for Missing {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Missing;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a number, \"null\" or \"fail\"")
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Missing, E> {
                Ok(Missing::Number(number))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Missing, E> {
                Ok(Missing::Number(number as f64))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Missing, E> {
                Ok(Missing::Number(number as f64))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Missing, E> {
                match text {
                    "null" => Ok(Missing::Null),
                    "fail" => Ok(Missing::Fail),
                    _ => Err(E::unknown_variant(text, &["null", "fail"])),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// One feature.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Feature {
    /// A number, perhaps scaled.
    Number {
        /// By default the field's name.
        name: Option<String>,
        /// Where the number is.
        field: Path,
        /// Done in order.
        #[serde(default)]
        steps: Vec<Step>,
        /// Instead of the config's.
        missing: Option<Missing>,
        /// Adds a second position: 1 where the value is missing.
        #[serde(default)]
        flag: bool,
    },
    /// One position per known value, 1 for the record's.
    OneHot {
        /// By default the field's name.
        name: Option<String>,
        /// Where the category is.
        field: Path,
        /// The known values: strings, numbers, booleans.
        values: Vec<serde_json::Value>,
        /// What an unknown value does.
        #[serde(default)]
        other: Other,
    },
    /// Categories and numbers hashed into so many positions (scikit-learn's `FeatureHasher`).
    Hash {
        /// By default `hash`.
        name: Option<String>,
        /// Hashed as `name=value` if strings, as `name` weighted with the value if numbers.
        fields: Vec<Path>,
        /// Positions.
        size: u32,
        /// Half of the tokens count negative, so that collisions cancel on average.
        #[serde(default = "yes")]
        signed: bool,
    },
    /// Pieces of a text hashed into so many positions (scikit-learn's `HashingVectorizer`).
    Ngrams {
        /// By default the field's name.
        name: Option<String>,
        /// Where the text is.
        field: Path,
        /// What the pieces are made of.
        #[serde(default)]
        unit: Unit,
        /// Fewest units of a piece.
        #[serde(default = "one")]
        min: usize,
        /// Most units of a piece; by default `min`.
        max: Option<usize>,
        /// Positions.
        size: u32,
        /// Half of the tokens count negative.
        #[serde(default = "yes")]
        signed: bool,
        /// Upper and lower case alike.
        #[serde(default = "yes")]
        lowercase: bool,
        /// How the counts of a text are scaled.
        #[serde(default)]
        norm: Norm,
        /// Text behind so many characters does not count.
        #[serde(default = "max_chars")]
        max_chars: usize,
    },
    /// Time as points on circles: sine and cosine.
    Time {
        /// By default the field's name, or `arrival`.
        name: Option<String>,
        /// A time (RFC 3339 text, or a number since the epoch); by default the arrival time.
        field: Option<Path>,
        /// The unit of numbers.
        #[serde(default)]
        unit: TimeUnit,
        /// Which circles.
        parts: Vec<Part>,
        /// A fixed distance from UTC, such as `+02:00`.
        zone: Option<String>,
        /// Instead of the config's.
        missing: Option<Missing>,
    },
    /// One number over another.
    Ratio {
        /// By default `numerator/denominator`.
        name: Option<String>,
        /// Above.
        numerator: Path,
        /// Below.
        denominator: Path,
        /// The ratio where the denominator is 0.
        #[serde(default)]
        on_zero: f64,
        /// Done in order.
        #[serde(default)]
        steps: Vec<Step>,
        /// Instead of the config's.
        missing: Option<Missing>,
    },
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn max_chars() -> usize {
    4096
}

/// One step from a number to a feature.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The natural logarithm; of 0 and less: missing.
    Log,
    /// `ln(1 + x)`; of -1 and less: missing.
    Log1p,
    /// The logarithm to base 10.
    Log10,
    /// The square root; of less than 0: missing.
    Sqrt,
    /// Without the sign.
    Abs,
    /// Into a range.
    Clip(Range),
    /// `(x - min) / (max - min)`.
    Minmax(Range),
    /// `(x - mean) / std`.
    Zscore(Statistics),
}

/// From `min` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The lower end.
    pub min: f64,
    /// The upper end.
    pub max: f64,
}

/// Statistics of the training data.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub std: f64,
}

/// What an unknown value of a one-hot feature does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Other {
    /// All positions are 0.
    #[default]
    Ignore,
    /// One more position is 1, also where the value is missing.
    Column,
    /// The record becomes a dead letter.
    Fail,
}

/// What pieces of a text are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Words of at least two letters, digits or underscores.
    #[default]
    Word,
    /// Characters.
    Char,
    /// Characters within words, with a space on both sides.
    CharWb,
}

/// How the counts of a text are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// The sum of squares is 1.
    #[default]
    L2,
    /// The sum of absolute values is 1.
    L1,
    /// Not at all.
    None,
}

/// The unit of numbers that are times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Seconds.
    #[default]
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

/// A circle of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Midnight to midnight.
    TimeOfDay,
    /// Monday 0:00 to the next.
    DayOfWeek,
    /// 1 January 0:00 to the next.
    DayOfYear,
}
