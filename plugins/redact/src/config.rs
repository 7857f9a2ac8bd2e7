//! What the transform's config says: rules, each with where it looks, what it looks for and what it does.
//!
//! Only shapes are checked here; combinations that mean nothing are refused in `plan`.

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use wasmill_sdk::path::Path;

/// The whole config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Done in order.
    pub rules: Vec<Rule>,
    /// The name of the secret that keys hashes.
    pub secret: Option<String>,
    /// Hex digits of a hash.
    #[serde(default = "length_default")]
    pub length: usize,
}

fn length_default() -> usize {
    32
}

/// One rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The field that it looks at.
    pub field: Option<Path>,
    /// The fields that it looks at.
    pub fields: Option<Vec<Path>>,
    /// Look at the whole payload instead.
    pub payload: Option<Payload>,
    /// Patterns inside the text; without them the whole value is meant.
    pub find: Option<Vec<Find>>,
    /// What is done with what was found.
    pub action: Action,
    /// The character that masks.
    pub mask: Option<char>,
    /// Characters at the end that a mask leaves readable.
    pub keep_last: Option<usize>,
    /// Characters of every mask, whatever it hides; by default as many as it hides.
    pub mask_length: Option<usize>,
    /// The text that `replace` puts in.
    pub with: Option<String>,
    /// What stands before a hash.
    pub prefix: Option<String>,
}

/// How the payload is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// As a line of text.
    Text,
    /// As JSON: every string, number and object key in it.
    Json,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Characters are overwritten.
    Mask,
    /// It is removed.
    Drop,
    /// It becomes its keyed hash.
    Hash,
    /// It becomes a fixed text.
    Replace,
}

/// What a rule looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Find {
    /// E-mail addresses.
    Email,
    /// Card numbers with a right check digit.
    Card,
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// A regular expression.
    Regex(String),
}

const KINDS: &[&str] = &["email", "card", "ipv4", "ipv6"];

impl<'de> Deserialize<'de> for Find {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FindVisitor;
        impl<'de> Visitor<'de> for FindVisitor {
            type Value = Find;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("\"email\", \"card\", \"ipv4\", \"ipv6\" or {\"regex\": \"...\"}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Find, E> {
                match text {
                    "email" => Ok(Find::Email),
                    "card" => Ok(Find::Card),
                    "ipv4" => Ok(Find::Ipv4),
                    "ipv6" => Ok(Find::Ipv6),
                    _ => Err(E::unknown_variant(text, KINDS)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Find, A::Error> {
                let mut regex = None;
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "regex" if regex.is_none() => regex = Some(map.next_value()?),
                        "regex" => return Err(A::Error::duplicate_field("regex")),
                        _ => return Err(A::Error::unknown_field(&key, &["regex"])),
                    }
                }
                regex.map(Find::Regex).ok_or_else(|| A::Error::missing_field("regex"))
            }
        }
        deserializer.deserialize_any(FindVisitor)
    }
}
