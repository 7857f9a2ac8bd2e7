//! The config: what makes two records the same, within which time, and what becomes of the second.

use serde::Deserialize;
use wasmill_keyed::{Fate, Span, TimeFormat};
use wasmill_sdk::path::Path;

/// The transform's config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The fields that make up the key; none = the whole payload, byte for byte.
    #[serde(default)]
    pub by: Vec<Path>,
    /// Records of one key that are less than this apart are duplicates.
    pub within: Span,
    /// The field with the event time; none = that of the stream, or of arrival.
    pub time: Option<Path>,
    /// How it stands there.
    pub time_format: Option<TimeFormat>,
    /// How much later than newer ones records may come.
    #[serde(default)]
    pub delay: Span,
    /// Whether a duplicate begins the time anew.
    #[serde(default)]
    pub extend: bool,
    /// What becomes of duplicates.
    #[serde(default)]
    pub duplicates: Fate,
    /// The output of duplicates that are kept.
    pub duplicates_output: Option<String>,
    /// A field that is true in duplicates that are kept.
    pub mark: Option<Path>,
    /// What becomes of late records; they pass unless this says otherwise.
    pub late: Option<Fate>,
    /// The output of late records that are kept.
    pub late_output: Option<String>,
}

impl Config {
    /// What becomes of late records.
    pub fn late(&self) -> Fate {
        self.late.unwrap_or(Fate::Keep)
    }

    /// What contradicts itself, or has no effect in a stream with or without event time.
    pub fn check(&self, of_stream: bool) -> Result<(), String> {
        let of_lateness = [
            ("delay", !self.delay.is_zero()),
            ("late", self.late.is_some()),
            ("late_output", self.late_output.is_some()),
        ];
        let of_lateness = of_lateness.into_iter().find(|(_, is_given)| *is_given);
        if let (None, false, Some((name, _))) = (&self.time, of_stream, of_lateness) {
            return Err(format!(
                "config: `{name}` has no effect by the time of arrival, behind which nothing is late: name a field in `time`, or give \
                 the stream an `event_time`, which has a delay of its own"
            ));
        }
        if self.within.is_zero() {
            return Err("config: `within` must not be 0".to_owned());
        }
        let told = self.duplicates_output.is_some() || self.mark.is_some();
        if self.duplicates == Fate::Keep && !told {
            return Err(
                "config: duplicates that are kept need a `mark` or a `duplicates_output`, or nothing is done"
                    .to_owned(),
            );
        }
        if self.duplicates != Fate::Keep && told {
            return Err("config: `mark` and `duplicates_output` need `duplicates = \"keep\"`".to_owned());
        }
        if self.late() != Fate::Keep && self.late_output.is_some() {
            return Err("config: `late_output` needs `late = \"keep\"`".to_owned());
        }
        Ok(())
    }
}
