//! The two headers by which a client makes a request safe to send again.
//!
//! `Wasmill-Producer` names who sends, `Wasmill-Sequence` numbers the request; both or none. It owns their syntax and
//! the digest by which a request that is sent again is told from another one with its number: over the records, so
//! that framing and compression may differ. What was stored before is the buffer's to know.

use std::sync::Arc;

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};
use wasmill_ingest::{Numbered, SplitBody};

use super::error::ApiError;

const PRODUCER: &str = "wasmill-producer";
const SEQUENCE: &str = "wasmill-sequence";
/// Longest name of a producer.
const PRODUCER_BYTES_MAX: usize = 128;
/// Longest number: 2^64 - 1.
const SEQUENCE_DIGITS_MAX: usize = 20;

/// What the headers say of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim {
    producer: Arc<str>,
    sequence: u64,
}

impl Claim {
    /// Of a request's headers; `None` if it has neither.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Claim>, ApiError> {
        let wrong = |reason: String| Err(ApiError::Producer { reason });
        let one = |name: &str| {
            let mut values = headers.get_all(name).iter();
            (values.next(), values.next().is_some())
        };
        let ((producer, producer_twice), (sequence, sequence_twice)) = (one(PRODUCER), one(SEQUENCE));
        if producer_twice || sequence_twice {
            let name = if producer_twice { "Wasmill-Producer" } else { "Wasmill-Sequence" };
            return wrong(format!("header {name} is there twice"));
        }
        let (producer, sequence) = match (producer, sequence) {
            (None, None) => return Ok(None),
            (Some(producer), Some(sequence)) => (producer.as_bytes(), sequence.as_bytes()),
            (Some(_), None) => {
                return wrong("header Wasmill-Producer needs Wasmill-Sequence beside it".to_owned());
            }
            (None, Some(_)) => {
                return wrong("header Wasmill-Sequence needs Wasmill-Producer beside it".to_owned());
            }
        };
        let is_name =
            (1..=PRODUCER_BYTES_MAX).contains(&producer.len()) && producer.iter().all(u8::is_ascii_graphic);
        let producer = match std::str::from_utf8(producer) {
            Ok(producer) if is_name => producer.into(),
            _ => {
                return wrong(format!(
                    "header Wasmill-Producer has to be 1 to {PRODUCER_BYTES_MAX} printable ASCII characters without \
                     spaces, it has {} bytes",
                    producer.len()
                ));
            }
        };
        let digits = sequence.len() <= SEQUENCE_DIGITS_MAX && sequence.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(sequence).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        match number {
            Some(sequence) => Ok(Some(Claim { producer, sequence })),
            None => wrong(format!(
                "header Wasmill-Sequence has to be a decimal number from 0 to {}, found {:?}",
                u64::MAX,
                String::from_utf8_lossy(sequence.get(..SEQUENCE_DIGITS_MAX * 2).unwrap_or(sequence))
            )),
        }
    }

    /// The claim on these records.
    pub(super) fn on(self, split: &SplitBody) -> Numbered {
        let digest = digest(&split.payload, &split.ends);
        Numbered { producer: self.producer, sequence: self.sequence, digest, once: false }
    }
}

/// The claim of a request that has a name of its own.
pub(super) fn once(request: &str, payload: &[u8], ends: &[u32]) -> Numbered {
    Numbered { producer: request.into(), sequence: 0, digest: digest(payload, ends), once: true }
}

fn digest(payload: &[u8], ends: &[u32]) -> [u8; 16] {
    let mut digest = Sha256::new();
    for end in ends {
        digest.update(end.to_le_bytes());
    }
    // The last end says how long the payload is.
    digest.update(payload);
    let mut half = [0; 16];
    half.iter_mut().zip(digest.finalize()).for_each(|(to, from)| *to = from);
    half
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn claim(lines: &[(&'static str, &[u8])]) -> Result<Option<Claim>, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        Claim::of(&headers).map_err(|error| error.to_string())
    }

    #[test]
    fn headers_give_name_and_number() {
        assert_eq!(claim(&[]), Ok(None));
        let found = claim(&[(PRODUCER, b"edge-7/a"), (SEQUENCE, b"18446744073709551615")]);
        assert_eq!(found, Ok(Some(Claim { producer: "edge-7/a".into(), sequence: u64::MAX })));
        assert!(claim(&[(PRODUCER, &[b'n'; 128]), (SEQUENCE, b"0")]).unwrap().is_some());
    }

    #[test]
    fn headers_that_are_wrong_are_named() {
        for (producer, sequence, what) in [
            (&b""[..], &b"1"[..], "Wasmill-Producer"),
            (b"a b", b"1", "Wasmill-Producer"),
            ("\u{e4}".as_bytes(), b"1", "Wasmill-Producer"),
            (&[b'n'; 129], b"1", "129 bytes"),
            (b"a", b"", "Wasmill-Sequence"),
            (b"a", b"-1", "Wasmill-Sequence"),
            (b"a", b"+1", "Wasmill-Sequence"),
            (b"a", b"1.5", "\"1.5\""),
            (b"a", b"18446744073709551616", "Wasmill-Sequence"),
            (b"a", &[b'1'; 5000], "Wasmill-Sequence"),
        ] {
            let error = claim(&[(PRODUCER, producer), (SEQUENCE, sequence)]).unwrap_err();
            assert!(error.contains(what) && error.len() < 300, "{error}");
        }
        assert!(claim(&[(PRODUCER, b"a")]).unwrap_err().contains("needs Wasmill-Sequence"));
        assert!(claim(&[(SEQUENCE, b"1")]).unwrap_err().contains("needs Wasmill-Producer"));
        let twice = claim(&[(PRODUCER, b"a"), (SEQUENCE, b"1"), (SEQUENCE, b"1")]).unwrap_err();
        assert!(twice.contains("Wasmill-Sequence is there twice"), "{twice}");
    }

    #[test]
    fn digest_tells_records_apart_also_where_only_the_cuts_differ() {
        let on = |payload: &'static [u8], ends: &[u32]| {
            let claim = Claim { producer: "p".into(), sequence: 1 };
            claim.on(&SplitBody { payload: payload.into(), ends: ends.to_vec() }).digest
        };
        assert_eq!(on(b"abc", &[1, 3]), on(b"abc", &[1, 3]));
        assert_ne!(on(b"abc", &[1, 3]), on(b"abc", &[2, 3]));
        assert_ne!(on(b"abc", &[1, 3]), on(b"abd", &[1, 3]));
    }
}
