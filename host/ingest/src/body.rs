//! Request bodies, split into records.
//!
//! It owns the framings, what Content-Type asks for which, and the limits of one request. It refuses a
//! body as a whole: over a limit or with a syntax error nothing of it is handed out.

use bytes::Bytes;
use serde_json::value::RawValue;

/// How the records of a request body are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `application/x-ndjson`: lines; `\r` before `\n` is not part of the record; empty lines are skipped.
    /// Lines are bytes: whether they are JSON is the transforms' concern.
    Ndjson,
    /// `application/json`: an array; each element's exact text is a record.
    JsonArray,
    /// `application/octet-stream`, `text/plain`: the whole body is one record.
    Raw,
    /// `application/vnd.wasmill.length-delimited`: u32 big-endian length, then so many bytes, repeated.
    LengthDelimited,
}

/// Charsets of a Content-Type whose bytes can be taken as they are.
const CHARSETS: [&str; 2] = ["utf-8", "us-ascii"];

const KINDS: &str = "application/x-ndjson, application/json, text/plain, application/octet-stream or application/vnd.wasmill.length-delimited";

/// Why a Content-Type is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentTypeError {
    #[error("content type {found:?} is not supported, expected {KINDS}")]
    Kind { found: String },
    #[error("header content-type is missing, expected {KINDS}")]
    Missing,
    #[error("charset {found:?} is not supported, expected {}", CHARSETS.join(" or "))]
    Charset { found: String },
}

/// What one request may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of one record.
    pub max_record: u64,
    /// Records of one request.
    pub max_records: u32,
}

/// The records of a body: record `i` is `payload[ends[i - 1]..ends[i]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitBody {
    pub payload: Bytes,
    pub ends: Vec<u32>,
}

/// Why a body was refused. Nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Over `max_record`.
    #[error("record {index} has {size} bytes, the limit is {limit}")]
    RecordTooLarge { index: u32, size: u64, limit: u64 },
    /// Over `max_records`.
    #[error("request has more than {limit} records")]
    TooManyRecords { limit: u32 },
    /// Over what offsets of 32 bits can address.
    #[error("body has {size} bytes, the limit is {limit}")]
    BodyTooLarge { size: u64, limit: u64 },
    /// Not a JSON array.
    #[error("body is no JSON array: {reason}")]
    NoJsonArray { reason: String },
    /// Length-delimited, cut short.
    #[error("record {index} needs {needed} bytes, the body has {left} left")]
    Truncated { index: u32, needed: u64, left: u64 },
}

impl Framing {
    /// The framing that a Content-Type asks for. Of its parameters only the charset counts: bytes are not converted,
    /// so that text in another one would be taken for what it is not.
    ///
    /// # Errors
    /// A kind or charset that is not taken.
    pub fn of_content_type(content_type: &str) -> Result<Framing, ContentTypeError> {
        let mut parts = content_type.split(';');
        let kind = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let framing = match kind.as_str() {
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Framing::Ndjson,
            "application/json" => Framing::JsonArray,
            "application/octet-stream" | "text/plain" => Framing::Raw,
            "application/vnd.wasmill.length-delimited" => Framing::LengthDelimited,
            "" if content_type.is_empty() => return Err(ContentTypeError::Missing),
            _ => return Err(ContentTypeError::Kind { found: content_type.to_owned() }),
        };
        for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            let charset = value.trim().trim_matches('"');
            let taken = CHARSETS.iter().any(|taken| charset.eq_ignore_ascii_case(taken));
            if name.trim().eq_ignore_ascii_case("charset") && !taken {
                return Err(ContentTypeError::Charset { found: charset.to_owned() });
            }
        }
        Ok(framing)
    }
}

/// Splits a body into records.
///
/// # Errors
/// The first limit or syntax error; nothing of the body may then be stored.
pub fn split_body(framing: Framing, body: Bytes, limits: &BodyLimits) -> Result<SplitBody, BodyError> {
    if u32::try_from(body.len()).is_err() {
        return Err(BodyError::BodyTooLarge { size: body.len() as u64, limit: u64::from(u32::MAX) });
    }
    if framing == Framing::Raw {
        let mut raw = Columns::new(limits, 0);
        raw.check(body.len())?;
        raw.ends.push(u32::try_from(body.len()).unwrap_or(u32::MAX));
        return Ok(SplitBody { payload: body, ends: raw.ends });
    }
    let mut columns = Columns::new(limits, body.len());
    match framing {
        Framing::Raw => {}
        Framing::Ndjson => {
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', &body).chain([body.len()]) {
                let line = body.get(start..end).unwrap_or_default();
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if !line.is_empty() {
                    columns.push(line)?;
                }
                start = end + 1;
            }
        }
        Framing::JsonArray => {
            let items: Vec<&RawValue> = serde_json::from_slice(&body)
                .map_err(|error| BodyError::NoJsonArray { reason: error.to_string() })?;
            for item in items {
                columns.push(item.get().as_bytes())?;
            }
        }
        Framing::LengthDelimited => {
            let mut rest: &[u8] = &body;
            while !rest.is_empty() {
                let index = columns.index();
                let Some((length, behind)) = rest.split_first_chunk::<4>() else {
                    return Err(BodyError::Truncated { index, needed: 4, left: rest.len() as u64 });
                };
                let length = u32::from_be_bytes(*length) as usize;
                columns.check(length)?;
                let Some((record, behind)) = behind.split_at_checked(length) else {
                    let left = behind.len() as u64;
                    return Err(BodyError::Truncated { index, needed: length as u64, left });
                };
                columns.push(record)?;
                rest = behind;
            }
        }
    }
    Ok(SplitBody { payload: columns.payload.into(), ends: columns.ends })
}

struct Columns<'a> {
    limits: &'a BodyLimits,
    payload: Vec<u8>,
    ends: Vec<u32>,
}

impl Columns<'_> {
    fn new(limits: &BodyLimits, bytes: usize) -> Columns<'_> {
        Columns { limits, payload: Vec::with_capacity(bytes), ends: Vec::new() }
    }

    fn index(&self) -> u32 {
        u32::try_from(self.ends.len()).unwrap_or(u32::MAX)
    }

    fn check(&self, size: usize) -> Result<(), BodyError> {
        let (size, limit) = (size as u64, self.limits.max_record);
        if size > limit {
            return Err(BodyError::RecordTooLarge { index: self.index(), size, limit });
        }
        if self.index() >= self.limits.max_records {
            return Err(BodyError::TooManyRecords { limit: self.limits.max_records });
        }
        Ok(())
    }

    fn push(&mut self, record: &[u8]) -> Result<(), BodyError> {
        self.check(record.len())?;
        self.payload.extend_from_slice(record);
        // The payload is never longer than the body, which fits 32 bits.
        self.ends.push(u32::try_from(self.payload.len()).unwrap_or(u32::MAX));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BodyLimits = BodyLimits { max_record: 10, max_records: 3 };

    fn records(framing: Framing, body: &[u8]) -> Result<Vec<Vec<u8>>, BodyError> {
        let split = split_body(framing, Bytes::copy_from_slice(body), &LIMITS)?;
        let mut start = 0;
        Ok(split
            .ends
            .iter()
            .map(|end| {
                let record = split.payload[start..*end as usize].to_vec();
                start = *end as usize;
                record
            })
            .collect())
    }

    #[test]
    fn content_type_with_another_charset_is_refused() {
        let of = Framing::of_content_type;
        for charset in ["utf-8", "UTF-8", "\"utf-8\"", "us-ascii"] {
            assert_eq!(of(&format!("text/plain; charset={charset}")), Ok(Framing::Raw), "{charset}");
        }
        assert_eq!(of("Application/JSON ;Charset=utf-8; x"), Ok(Framing::JsonArray));
        for charset in ["utf-16", "iso-8859-1", ""] {
            let refused = of(&format!("application/x-ndjson; a=b;CHARSET = {charset}"));
            assert_eq!(refused, Err(ContentTypeError::Charset { found: charset.into() }));
        }
        let said = of("text/plain; charset=utf-16").unwrap_err().to_string();
        assert_eq!(said, "charset \"utf-16\" is not supported, expected utf-8 or us-ascii");
        assert!(matches!(of("text/html"), Err(ContentTypeError::Kind { .. })));
        assert!(of("").unwrap_err().to_string().starts_with("header content-type is missing, expected app"));
    }

    #[test]
    fn ndjson_body_becomes_lines_without_empty_ones() {
        let split = records(Framing::Ndjson, b"{}\r\n\n\r\nno json\n3").unwrap();
        assert_eq!(split, [&b"{}"[..], b"no json", b"3"]);
        assert!(records(Framing::Ndjson, b"").unwrap().is_empty());
    }

    #[test]
    fn json_array_keeps_the_exact_text_of_each_element() {
        let split = records(Framing::JsonArray, b" [ {\"a\": 1.0} ,\n\"\\u00e4\", 1e400 ] ").unwrap();
        assert_eq!(split, [&b"{\"a\": 1.0}"[..], b"\"\\u00e4\"", b"1e400"]);
        for bad in [&b"{}"[..], b"[1,]", b"[1] x", b"[", b"", b"[\"\xff\"]"] {
            assert!(
                matches!(records(Framing::JsonArray, bad), Err(BodyError::NoJsonArray { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn length_delimited_cut_short_is_refused() {
        assert_eq!(records(Framing::LengthDelimited, b"\0\0\0\x01a\0\0\0\0").unwrap(), [&b"a"[..], b""]);
        let cut = records(Framing::LengthDelimited, b"\0\0\0\x01a\0\0\0\x05bc");
        assert_eq!(cut, Err(BodyError::Truncated { index: 1, needed: 5, left: 2 }));
        let head = records(Framing::LengthDelimited, b"\0\0");
        assert_eq!(head, Err(BodyError::Truncated { index: 0, needed: 4, left: 2 }));
    }

    #[test]
    fn body_over_a_limit_names_record_and_size() {
        let large = records(Framing::Ndjson, b"a\n12345678901\n");
        assert_eq!(large, Err(BodyError::RecordTooLarge { index: 1, size: 11, limit: 10 }));
        assert_eq!(records(Framing::Ndjson, b"1\n2\n3\n4"), Err(BodyError::TooManyRecords { limit: 3 }));
        let claimed = records(Framing::LengthDelimited, b"\xff\xff\xff\xff");
        assert!(matches!(claimed, Err(BodyError::RecordTooLarge { index: 0, .. })));
        assert!(matches!(records(Framing::Raw, b"12345678901"), Err(BodyError::RecordTooLarge { .. })));
    }
}
