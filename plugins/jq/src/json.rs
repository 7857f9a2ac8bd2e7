//! Between records and values: strict JSON (RFC 8259) on both sides.
//!
//! jaq reads and writes more than JSON (comments, bytes, NaN, keys that are no strings). Nothing of that comes in, and
//! what a program makes of that kind does not leave.

use jaq_json::{Val, read, write};
use serde::de::IgnoredAny;

/// Arrays and objects within one another, as the host has it: jaq reads by recursion.
const DEPTH_MAX: usize = 127;

/// Reads one value. The error says what is wrong and where.
pub(crate) fn read(record: &[u8]) -> Result<Val, String> {
    let text = std::str::from_utf8(record)
        .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    if depth(record) > DEPTH_MAX {
        return Err(format!("more than {DEPTH_MAX} arrays and objects within one another"));
    }
    read::parse_single(record).map_err(|error| error.to_string())
}

/// How deep values stand within one another in a text that is JSON.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Appends a value. The error says what is no JSON.
pub(crate) fn write(value: &Val, out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    write::write(out, &write::Pp::default(), 0, value).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&out[start..]).map_err(|_| "it is not UTF-8")?;
    serde_json::from_str::<IgnoredAny>(text).map(|IgnoredAny| ()).map_err(|error| {
        // It is one line; a column counts its bytes.
        let at = start + error.column().saturating_sub(1);
        let there: String =
            String::from_utf8_lossy(out.get(at..).unwrap_or_default()).chars().take(20).collect();
        format!("`{there}` is none")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_jaq_reads_is_refused() {
        for text in ["", "# comment\n1", "NaN", "b\"x\"", "{1: 2}", "+1", "{}{}", "1 2", "[1,]", "\"\u{1}\""]
        {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read(b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_is_bounded_and_counts_no_brackets_of_texts() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(read(nested(DEPTH_MAX + 1).as_bytes()).unwrap_err().contains("more than 127"));
        let text = format!(r#"{{"a":"\"{}","b":"\\"}}"#, "[".repeat(1000));
        assert!(read(text.as_bytes()).is_ok());
    }

    #[test]
    fn numbers_and_texts_leave_as_exactly_as_they_came() {
        for text in [
            r#"{"a":1.10,"b":123456789012345678901234567890,"c":1e400,"d":-0.0}"#,
            r#"["é","\n","\\","\""]"#,
            "9007199254740993",
        ] {
            let mut out = Vec::new();
            write(&read(text.as_bytes()).unwrap(), &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
