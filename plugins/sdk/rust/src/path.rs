//! How a config names a field of the record: `"user.email"` (keys separated by dots) or `["user.email"]` (keys
//! verbatim, outermost first, for keys that contain dots).
//!
//! Refuses an empty path and empty keys, which are nearly always slips.

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// The object keys that lead to a field, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(pub Vec<String>);

impl Path {
    /// The keys joined by dots, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        self.0.join(".")
    }
}

struct PathVisitor;

impl<'de> Visitor<'de> for PathVisitor {
    type Value = Path;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a field: \"outer.inner\" or a list of keys")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Path, E> {
        checked(text.split('.').map(str::to_owned).collect())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Path, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = sequence.next_element::<String>()? {
            keys.push(key);
        }
        checked(keys)
    }
}

fn checked<E: Error>(keys: Vec<String>) -> Result<Path, E> {
    if keys.is_empty() || keys.iter().any(String::is_empty) {
        return Err(E::custom("a field path has at least one key and no empty keys"));
    }
    Ok(Path(keys))
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PathVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_text_splits_at_dots_and_list_does_not() {
        let text: Path = serde_json::from_str(r#""a.b""#).unwrap();
        assert_eq!(text.0, ["a", "b"]);
        let list: Path = serde_json::from_str(r#"["a.b"]"#).unwrap();
        assert_eq!(list.0, ["a.b"]);
    }

    #[test]
    fn path_empty_keys_are_refused() {
        for wrong in [r#""""#, r#""a..b""#, "[]", r#"[""]"#] {
            assert!(serde_json::from_str::<Path>(wrong).is_err(), "{wrong}");
        }
    }
}
