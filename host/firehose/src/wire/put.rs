//! Records that come in: `PutRecord` and `PutRecordBatch`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::{Kind, Refusal, Text};
use crate::validate::{At, Violations, stream_name};

/// Bytes of one record, decoded.
pub const RECORD_BYTES_MAX: usize = 1_024_000;
/// Records of one request.
pub const BATCH_RECORDS_MAX: usize = 500;
/// Bytes of all records of one request, decoded.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Bytes of the body of a request, of any operation: the largest batch in base64, with room for members and white space.
pub const BODY_BYTES_MAX: usize = 8 << 20;

const TOO_MUCH: &str = "Records size exceeds 4 MB limit";

/// A record as it came: base64.
#[derive(Debug, Deserialize)]
struct Entry<'a> {
    #[serde(rename = "Data", borrow)]
    data: Option<Text<'a>>,
}

/// See the API Reference.
#[derive(Debug, Deserialize)]
pub struct PutRecord<'a> {
    #[serde(rename = "DeliveryStreamName", borrow)]
    name: Option<Text<'a>>,
    #[serde(rename = "Record", borrow)]
    record: Option<Entry<'a>>,
}

/// See the API Reference.
#[derive(Debug, Deserialize)]
pub struct PutRecordBatch<'a> {
    #[serde(rename = "DeliveryStreamName", borrow)]
    name: Option<Text<'a>>,
    #[serde(rename = "Records", borrow)]
    records: Option<Entries<'a>>,
}

/// Records of a batch. What is past the permitted number is counted and not kept, so that a body of empty records costs no
/// memory.
#[derive(Debug)]
struct Entries<'a> {
    kept: Vec<Option<Entry<'a>>>,
    count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries<'a>, D::Error> {
        struct Keeping;

        impl<'de> Visitor<'de> for Keeping {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of records")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Entries { kept: Vec::with_capacity(BATCH_RECORDS_MAX), count: 0 };
                while entries.kept.len() < BATCH_RECORDS_MAX {
                    let Some(entry) = list.next_element()? else { break };
                    entries.kept.push(entry);
                }
                entries.count = entries.kept.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    entries.count += 1;
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_seq(Keeping)
    }
}

/// Decoded records, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// All of them without anything between.
    pub bytes: Vec<u8>,
    /// Where each ends in `bytes`; at most 4 MiB, so that 32 bits suffice.
    pub ends: Vec<u32>,
}

impl Records {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// In the order of the request.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start as usize..*end as usize])
    }
}

/// Records for a stream, within the limits of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put<'a> {
    pub name: Cow<'a, str>,
    pub records: Records,
}

impl<'a> PutRecord<'a> {
    /// # Errors
    /// `ValidationException`: the name, or the record's size. `SerializationException`: the data is no base64.
    pub fn decode(self) -> Result<Put<'a>, Refusal> {
        let mut violations = Violations::default();
        let at = At::Root;
        stream_name(&mut violations, at, self.name.as_deref());
        let record = at.member("Record");
        violations.required(record, self.record.is_some());
        let mut records = Records::default();
        if let Some(entry) = &self.record {
            decode_into(&mut records, &mut violations, record, entry)?;
        }
        violations.finish()?;
        Ok(Put { name: self.name.map(|name| name.0).unwrap_or_default(), records })
    }
}

impl<'a> PutRecordBatch<'a> {
    /// # Errors
    /// `ValidationException`: the name, the number of records, or the size of one. `InvalidArgumentException`: the size of
    /// all. `SerializationException`: the data of one is no base64.
    pub fn decode(self) -> Result<Put<'a>, Refusal> {
        let mut violations = Violations::default();
        let at = At::Root;
        stream_name(&mut violations, at, self.name.as_deref());
        let list = at.member("Records");
        violations.required(list, self.records.is_some());
        let mut records = Records::default();
        if let Some(entries) = &self.records {
            violations.count(list, entries.count, 1, BATCH_RECORDS_MAX);
            let texts = entries.kept.iter().flatten().filter_map(|entry| entry.data.as_ref());
            records.bytes.reserve(texts.map(|text| text.len() / 4 * 3).sum());
            records.ends.reserve(entries.kept.len());
            for (index, entry) in entries.kept.iter().enumerate() {
                let item = list.item(index);
                match entry {
                    Some(entry) => decode_into(&mut records, &mut violations, item, entry)?,
                    None => violations.required(item, false),
                }
            }
        }
        violations.finish()?;
        if records.bytes.len() > BATCH_BYTES_MAX {
            return Err(Refusal::invalid(TOO_MUCH));
        }
        Ok(Put { name: self.name.map(|name| name.0).unwrap_or_default(), records })
    }
}

fn decode_into(
    records: &mut Records,
    violations: &mut Violations,
    at: At<'_>,
    entry: &Entry<'_>,
) -> Result<(), Refusal> {
    let at = at.member("Data");
    let Some(text) = &entry.data else {
        violations.required(at, false);
        return Ok(());
    };
    let start = records.bytes.len();
    if base64_simd::STANDARD.decode_append(text.as_bytes(), &mut records.bytes).is_err() {
        return Err(Refusal::new(Kind::Serialization, format!("{at} is no base64: {}", what_is_wrong(text))));
    }
    let length = records.bytes.len() - start;
    if length > RECORD_BYTES_MAX {
        violations.blob_too_long(at, length, RECORD_BYTES_MAX);
    }
    // A body is far below 4 GiB; one that is not is refused for its total.
    records.ends.push(u32::try_from(records.bytes.len()).unwrap_or(u32::MAX));
    Ok(())
}

fn what_is_wrong(text: &str) -> String {
    let unpadded = text.trim_end_matches('=');
    let is_digit = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    match unpadded.char_indices().find(|(_, c)| !is_digit(*c)) {
        Some((position, found)) => format!("{found:?} at position {position}"),
        None => "it ends within a group of four characters, or its padding is not zero".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::parse;

    fn batch(texts: &[&str]) -> Vec<u8> {
        let records: Vec<String> = texts.iter().map(|text| format!(r#"{{"Data":"{text}"}}"#)).collect();
        format!(r#"{{"DeliveryStreamName":"clicks","Records":[{}]}}"#, records.join(",")).into_bytes()
    }

    fn decode(body: &[u8]) -> Result<Put<'_>, Refusal> {
        parse::<PutRecordBatch<'_>>(body)?.decode()
    }

    #[test]
    fn records_come_in_order_and_may_be_empty() {
        let body = batch(&["YQ==", "", "YmMK"]);
        let put = decode(&body).unwrap();
        assert_eq!(put.name, "clicks");
        assert_eq!(put.records.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"bc\n"]);
        assert_eq!(put.records.len(), 3);
    }

    #[test]
    fn one_record_is_read_alike_and_unknown_members_are_ignored() {
        let body = br#"{"Record":{"Data":"aGVsbG8=","Later":[1,{}]},"DeliveryStreamName":"a.b-C_9","New":{"x":null}}"#;
        let put = parse::<PutRecord<'_>>(body).unwrap().decode().unwrap();
        assert_eq!((put.name.as_ref(), put.records.bytes.as_slice()), ("a.b-C_9", &b"hello"[..]));
    }

    #[test]
    fn escaped_slashes_are_base64_too() {
        let body = batch(&["\\/\\/8="]);
        assert_eq!(decode(&body).unwrap().records.bytes, [0xff, 0xff]);
    }

    #[test]
    fn texts_of_the_body_are_borrowed() {
        let body = batch(&["YQ=="]);
        let request: PutRecordBatch<'_> = parse(&body).unwrap();
        let entry = request.records.unwrap().kept.pop().unwrap().unwrap();
        assert!(matches!(entry.data, Some(Text(Cow::Borrowed("YQ==")))));
    }

    #[test]
    fn other_types_and_bad_base64_are_serialization_exceptions_that_say_where() {
        for (body, expected) in [
            (
                &br#"{"DeliveryStreamName":"a","Records":[{"Data":5}]}"#[..],
                "invalid type: integer `5`, expected a string",
            ),
            (br#"{"DeliveryStreamName":1}"#, "expected a string"),
            (br#"{"DeliveryStreamName":"a","Records":{}}"#, "expected a list of records"),
            (
                br#"{"DeliveryStreamName":"a","Records":[{"Data":"YQ"}]}"#,
                "records.1.member.data is no base64: it ends within",
            ),
            (
                br#"{"DeliveryStreamName":"a","Records":[{"Data":""},{"Data":"YQ-="}]}"#,
                "records.2.member.data is no base64: '-' at position 2",
            ),
            (b"[]", "must be a JSON object"),
            (b"{", "EOF"),
            (b"{} {}", "trailing"),
        ] {
            let refusal = decode(body).unwrap_err();
            assert_eq!(refusal.kind, Kind::Serialization, "{refusal}");
            assert!(refusal.message.contains(expected), "{refusal}");
        }
    }

    #[test]
    fn what_is_missing_is_said_all_at_once() {
        assert_eq!(
            decode(b"{}").unwrap_err().message,
            "2 validation errors detected: Value null at 'deliveryStreamName' failed to satisfy constraint: Member must not be null; \
             Value null at 'records' failed to satisfy constraint: Member must not be null"
        );
        let refusal = decode(br#"{"DeliveryStreamName":"a b","Records":[{},null]}"#).unwrap_err();
        assert_eq!(refusal.kind, Kind::Validation);
        assert_eq!(
            refusal.message,
            "3 validation errors detected: Value 'a b' at 'deliveryStreamName' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; \
             Value null at 'records.1.member.data' failed to satisfy constraint: Member must not be null; \
             Value null at 'records.2.member' failed to satisfy constraint: Member must not be null"
        );
        let refusal = parse::<PutRecord<'_>>(br#"{"DeliveryStreamName":"a"}"#).unwrap().decode().unwrap_err();
        assert!(refusal.message.contains("Value null at 'record' failed"), "{refusal}");
    }

    #[test]
    fn a_batch_has_one_to_five_hundred_records() {
        assert_eq!(decode(&batch(&["YQ=="; 500])).unwrap().records.len(), 500);
        let refusal = decode(&batch(&["YQ=="; 501])).unwrap_err();
        assert!(
            refusal.message.ends_with(
                "at 'records' failed to satisfy constraint: Member must have length less than or equal to 500"
            ),
            "{refusal}"
        );
        let refusal = decode(&batch(&[])).unwrap_err();
        assert!(refusal.message.ends_with("Member must have length greater than or equal to 1"), "{refusal}");
    }

    #[test]
    fn sizes_are_of_decoded_bytes_and_their_last_byte_counts() {
        let text = |bytes: usize| base64_simd::STANDARD.encode_to_string(vec![b'x'; bytes]);
        let (fits, over) = (text(RECORD_BYTES_MAX), text(RECORD_BYTES_MAX + 1));
        assert_eq!(decode(&batch(&[&fits])).unwrap().records.bytes.len(), RECORD_BYTES_MAX);
        let body = batch(&["", &over]);
        let refusal = decode(&body).unwrap_err();
        assert_eq!(
            refusal.message,
            "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1024001 cap=1024001]' at 'records.2.member.data' \
             failed to satisfy constraint: Member must have length less than or equal to 1024000"
        );
        let rest = text(BATCH_BYTES_MAX - 4 * RECORD_BYTES_MAX);
        let body = batch(&[&fits, &fits, &fits, &fits, &rest]);
        assert!(body.len() < BODY_BYTES_MAX);
        assert_eq!(decode(&body).unwrap().records.bytes.len(), BATCH_BYTES_MAX);
        let refusal = decode(&batch(&[&fits, &fits, &fits, &fits, &rest, "YQ=="])).unwrap_err();
        assert_eq!((refusal.kind, refusal.message.as_str()), (Kind::InvalidArgument, TOO_MUCH));
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_was_sent_and_nothing_else_panics(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20),
            cut in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let texts: Vec<String> =
                records.iter().map(|record| base64_simd::STANDARD.encode_to_string(record)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut body = batch(&texts);
            let put = decode(&body).unwrap();
            prop_assert_eq!(put.records.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(), records);
            let position = cut.index(body.len());
            prop_assert!(position == 0 || decode(&body[..position]).is_err());
            body[position] = byte;
            let _result = decode(&body);
        }
    }
}
