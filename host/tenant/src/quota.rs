//! What a tenant may use, as plain data: how much is used is counted where it is used.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Thousandths of a processor core; `0.5` as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cores(u32);

impl Cores {
    /// A millionth part of the most cores would be nothing.
    pub const EXPECTED: &str = "a number of cores from 0.001 to 10000, such as 0.5";

    pub fn from_thousandths(thousandths: u32) -> Option<Cores> {
        (1..=10_000_000).contains(&thousandths).then_some(Cores(thousandths))
    }

    /// Rounded to thousandths.
    pub fn new(cores: f64) -> Option<Cores> {
        let thousandths = (cores * 1000.0).round();
        // Not so for what is no number.
        if (1.0..=10_000_000.0).contains(&thousandths) { Some(Cores(thousandths as u32)) } else { None }
    }

    /// Nanoseconds of CPU time in a second.
    pub fn nanos_per_second(self) -> u64 {
        u64::from(self.0) * 1_000_000
    }

    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl Serialize for Cores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cores, D::Error> {
        Cores::new(f64::deserialize(deserializer)?)
            .ok_or_else(|| serde::de::Error::custom(format!("expected {}", Cores::EXPECTED)))
    }
}

macro_rules! quotas {
    ($($(#[doc = $text:literal])+ $kind:ident $field:ident: $type:ty, $unit:literal, $least:literal;)*) => {
        /// A quota.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Quota {
            $($(#[doc = $text])+ $kind,)*
        }

        impl Quota {
            /// All of them, in the order of their declaration.
            pub const ALL: &[Quota] = &[$(Quota::$kind,)*];

            /// As the configuration, the API and metrics name it.
            pub fn as_str(self) -> &'static str {
                match self { $(Quota::$kind => stringify!($field),)* }
            }

            /// What it counts.
            pub fn unit(self) -> &'static str {
                match self { $(Quota::$kind => $unit,)* }
            }
        }

        /// The quotas of a tenant; what is not there is not limited, or limited as something else says.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
        #[serde(deny_unknown_fields)]
        pub struct Quotas {
            $($(#[doc = $text])+
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)*
        }

        impl Quotas {
            /// Those of `self`, and of `other` where `self` has none.
            #[must_use]
            pub fn or(&self, other: &Quotas) -> Quotas {
                Quotas { $($field: self.$field.or(other.$field),)* }
            }

            /// Quotas that both have.
            pub fn common(&self, other: &Quotas) -> Vec<Quota> {
                let both = [$((self.$field.is_some() && other.$field.is_some()).then_some(Quota::$kind),)*];
                both.into_iter().flatten().collect()
            }

            pub fn is_empty(&self) -> bool {
                *self == Quotas::default()
            }

            /// # Errors
            /// A quota is so small that it makes no sense.
            pub fn check(&self) -> Result<(), QuotaTooSmall> {
                $({
                    let least: u64 = $least;
                    if self.$field.is_some_and(|n| n.as_number() < least) {
                        return Err(QuotaTooSmall { quota: Quota::$kind, least });
                    }
                })*
                Ok(())
            }

        }
    };
}

/// A quota that would let nothing through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quota {quota} must be at least {least}")]
pub struct QuotaTooSmall {
    pub quota: Quota,
    pub least: u64,
}

/// So that all quotas can be compared with a bound.
trait AsNumber {
    fn as_number(&self) -> u64;
}

impl AsNumber for u64 {
    fn as_number(&self) -> u64 {
        *self
    }
}

impl AsNumber for Cores {
    fn as_number(&self) -> u64 {
        u64::from(self.0)
    }
}

quotas! {
    /// Records that arrive.
    RecordsPerSecond records_per_second: u64, "records a second", 1;
    /// Bytes of records that arrive.
    BytesPerSecond bytes_per_second: u64, "bytes a second", 1;
    /// Requests with a body at a time.
    Requests requests: u64, "requests at a time", 1;
    /// Bytes of request bodies in memory.
    BodyBytes body_bytes: u64, "bytes", 1024;
    /// Bytes that wait in all streams.
    BufferedBytes buffered_bytes: u64, "bytes", 65536;
    /// CPU time of plugins and encoders.
    Cpu cpu: Cores, "thousandths of a core", 1;
    /// Linear memory of one instance.
    PluginMemory plugin_memory: u64, "bytes", 1048576;
    /// Linear memory of all instances that are kept for the next slice.
    WarmMemory warm_memory: u64, "bytes", 0;
    /// Plugins.
    Plugins plugins: u64, "plugins", 0;
    /// Bytes of one plugin file.
    PluginBytes plugin_bytes: u64, "bytes", 1024;
    /// Streams.
    Streams streams: u64, "streams", 0;
    /// Bytes of dead letters of all streams.
    DeadLetterBytes dead_letter_bytes: u64, "bytes", 65536;
    /// Bytes of state that plugins keep, of all streams.
    StateBytes state_bytes: u64, "bytes", 4096;
    /// CPU time of the compiler within an hour.
    CompileSeconds compile_seconds: u64, "seconds an hour", 1;
    /// Attempts of deliveries over the network at a time.
    Deliveries deliveries: u64, "deliveries at a time", 1;
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nonsense_is_refused() {
        let quotas = Quotas { cpu: Cores::new(0.5), streams: Some(0), ..Quotas::default() };
        let text = serde_json::to_string(&quotas).unwrap();
        assert_eq!(text, r#"{"cpu":0.5,"streams":0}"#);
        assert_eq!(serde_json::from_str::<Quotas>(&text).unwrap(), quotas);
        assert_eq!(quotas.check(), Ok(()));
        for bad in [r#"{"cpu":0}"#, r#"{"cpu":-1}"#, r#"{"cpu":1e9}"#, r#"{"stream":1}"#, r#"{"streams":-1}"#]
        {
            assert!(serde_json::from_str::<Quotas>(bad).is_err(), "{bad}");
        }
        let none = Quotas { records_per_second: Some(0), ..Quotas::default() };
        assert_eq!(none.check().unwrap_err().to_string(), "quota records_per_second must be at least 1");
        assert_eq!(Cores::new(f64::NAN), None);
    }

    #[test]
    fn quotas_give_way_key_by_key() {
        let own = Quotas { streams: Some(1), ..Quotas::default() };
        let other = Quotas { streams: Some(2), plugins: Some(3), ..Quotas::default() };
        let both = own.or(&other);
        assert_eq!((both.streams, both.plugins, both.cpu), (Some(1), Some(3), None));
        assert_eq!(own.common(&other), [Quota::Streams]);
        assert!(Quotas::default().is_empty() && !own.is_empty());
    }
}
