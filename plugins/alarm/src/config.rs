//! The config: what is watched, when that is an alarm, who is told how often and in which words.

use serde::Deserialize;
use wasmill_keyed::{Span, TimeFormat};
use wasmill_sdk::path::Path;

use crate::rate::Rate;

/// Most notices that a rate may allow in its span.
const NOTICES_MAX: i64 = 1_000_000;
/// Longest name of an alarm, in bytes.
const NAME_BYTES: usize = 64;

/// The transform's config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the alarm is called in its notices.
    #[serde(default = "name")]
    pub name: String,
    /// The condition, in the expression language.
    pub condition: String,
    /// The fields that make up the key; none = one key.
    #[serde(default)]
    pub by: Vec<Path>,
    /// The field with the event time; none = the time of arrival.
    pub time: Option<Path>,
    /// How it stands there.
    pub time_format: Option<TimeFormat>,
    /// So long the condition must hold before the alarm fires.
    #[serde(default, rename = "for")]
    pub pending: Span,
    /// In so many records in a row it must hold.
    #[serde(default = "one")]
    pub records: u64,
    /// The condition under which a firing alarm ends; by default that of `condition` does not hold.
    pub recovery: Option<String>,
    /// So long that must be so.
    #[serde(default)]
    pub keep_firing_for: Span,
    /// After so long a firing alarm is told again; none = never.
    pub repeat_interval: Option<Span>,
    /// Whether the end of an alarm is told.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    /// How many notices leave.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// The output of the notices; none = the default one.
    pub output: Option<String>,
    /// Whether each notice is an object, or a request, of its own.
    #[serde(default = "yes")]
    pub separate: bool,
    /// The template of a notice; none = an object with everything that is known of the alarm.
    pub body: Option<String>,
    /// What a template makes.
    #[serde(default)]
    pub body_format: BodyFormat,
    /// A field of the records that says where the alarm of their key stands.
    pub mark: Option<Path>,
    /// Whether records pass.
    #[serde(default = "yes")]
    pub pass: bool,
    /// A key of which nothing came for so long, by arrival, is forgotten.
    #[serde(default = "month")]
    pub forget: Span,
}

fn name() -> String {
    "alarm".to_owned()
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}

fn month() -> Span {
    Span::from_ns(30 * 86_400_000_000_000)
}

/// What a template makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyFormat {
    /// JSON: values are escaped for the place in which they stand.
    #[default]
    Json,
    /// Any text: values stand as they are.
    Text,
}

/// How many notices leave.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Of each key.
    pub key: Option<RateConfig>,
    /// Of all together.
    pub overall: Option<RateConfig>,
}

/// So many in a span.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// At once, and then as many in each `per`.
    pub notices: i64,
    /// The span.
    pub per: Span,
}

impl RateConfig {
    /// The rate, if its numbers make sense.
    fn rate(&self, of: &str) -> Result<Rate, String> {
        if self.notices < 1 || self.notices > NOTICES_MAX {
            return Err(format!(
                "config: `notices` {} of `rate_limit.{of}` is not from 1 to {NOTICES_MAX}",
                self.notices
            ));
        }
        Rate::new(self.notices, self.per.ns()).ok_or_else(|| {
            format!("config: `per` of `rate_limit.{of}` is shorter than a nanosecond for each notice")
        })
    }
}

impl RateLimit {
    /// The rates of a key and of all.
    pub fn rates(&self) -> Result<(Option<Rate>, Option<Rate>), String> {
        let rate =
            |config: &Option<RateConfig>, of| config.as_ref().map(|config| config.rate(of)).transpose();
        Ok((rate(&self.key, "key")?, rate(&self.overall, "overall")?))
    }
}

impl Config {
    /// What no single key shows.
    pub fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES {
            return Err(format!("config: `name` has 1 to {NAME_BYTES} bytes"));
        }
        if self.records == 0 {
            return Err("config: `records` must not be 0".to_owned());
        }
        if self.repeat_interval.is_some_and(Span::is_zero) {
            return Err(
                "config: `repeat_interval` must not be 0: leave it out, and an alarm is told once".to_owned()
            );
        }
        if self.forget.is_zero() {
            return Err("config: `forget` must not be 0".to_owned());
        }
        if self.body.is_none() && self.body_format == BodyFormat::Text {
            return Err("config: `body_format` needs `body`".to_owned());
        }
        Ok(())
    }
}
