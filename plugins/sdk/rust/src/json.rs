//! Whether bytes are JSON as the host reads them: where they are not, every field of the record is missing.

use serde::de::IgnoredAny;

/// Levels of nesting that the host reads; what is deeper is no JSON to it.
const DEPTH_MAX: usize = 127;

/// Whether `text` is one JSON value (RFC 8259 in UTF-8), with at most 127 arrays and objects within one another.
#[must_use]
pub fn is_json(text: &[u8]) -> bool {
    // Values that are passed over have no limit of depth in serde_json.
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
        && depth(text) <= DEPTH_MAX
}

/// Whether `text` is one JSON object; otherwise as [`is_json`]. Of a record that is none every field is missing, and no field
/// can be set.
#[must_use]
pub fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'{') && is_json(text)
}

/// How many arrays and objects of valid JSON lie within one another.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(b'\\') = bytes.find(|byte| matches!(byte, b'"' | b'\\')) {
                    bytes.next();
                }
            }
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run;
    use crate::{Chunk, Field, IntColumn, Plugin, Setup};

    /// Sets a field, which the host refuses where there is no object.
    struct Sets(Field);

    impl Plugin for Sets {
        fn configure(_config: &str, setup: &mut Setup) -> Result<Self, String> {
            Ok(Self(setup.top("n")))
        }

        fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
            let mut column = IntColumn::new();
            (0..rows.len()).for_each(|_| column.push(1));
            rows.set_ints(self.0, &column);
            Ok(())
        }
    }

    fn nested(open: &str, close: &str, levels: usize) -> String {
        format!("{}{}", open.repeat(levels), close.repeat(levels))
    }

    #[test]
    fn objects_are_those_of_the_host() {
        let deep = |levels| format!("{{\"a\":{}}}", nested("[", "]", levels));
        let wide = format!("{{\"a\":[{}1]}}", "[],".repeat(200));
        let quoted = format!("{{\"a\":\"\\\"{}\\\\\"}}", "[".repeat(200));
        for (text, is) in [
            ("{}", true),
            (" {\"a\":1}\r\n\t", true),
            ("{\"a\":1e999,\"a\":\"\\ud800\"}", true),
            (&deep(126), true),
            (&wide, true),
            (&quoted, true),
            (&deep(127), false),
            (&nested("{\"a\":", "}", 3).replace(":}", ":1}"), true),
            ("", false),
            ("[{}]", false),
            ("1", false),
            ("{\"a\":1", false),
            ("{\"a\":1} {}", false),
            ("{\"a\":1,}", false),
            ("{\"a\":01}", false),
            ("{\"a\":\"\\x\"}", false),
            ("{\"a\":\"\t\"}", false),
            ("\u{a0}{}", false),
            ("\u{b}{}", false),
            ("\u{c}{}", false),
        ] {
            assert_eq!(is_object(text.as_bytes()), is, "{text}");
            assert_eq!(run::<Sets>("{}", &[text]).reasons().is_empty(), is, "{text}");
        }
        assert!(!is_object(b"{\"a\":\"\xff\"}"));
    }

    #[test]
    fn json_is_any_one_value_that_is_not_too_deep() {
        for text in ["1", " null ", "\"a\"", "[1,{}]", "{}", &nested("[", "]", 127)] {
            assert!(is_json(text.as_bytes()), "{text}");
        }
        for text in ["", "nul", "1 2", "[1", "'a'", &nested("[", "]", 128), &nested("[", "]", 1_000_000)] {
            assert!(!is_json(text.as_bytes()), "{text}");
        }
    }
}
