//! A request's body: decompressed under its cap, split into records under its limits, against a splitter that is
//! obviously right.

use bytes::Bytes;
use wasmill_encode::{Compression, DecodeError, Encoder, Encoding, Format, decompress};
use wasmill_ingest::{BodyError, BodyLimits, Framing, split_body};

use crate::draw::Draw;

const FRAMINGS: [Framing; 4] = [Framing::Ndjson, Framing::JsonArray, Framing::Raw, Framing::LengthDelimited];
const ENCODINGS: [Encoding; 3] = [Encoding::Identity, Encoding::Gzip, Encoding::Zstd];

/// `data`: framing (and 4: compress the body first), encoding, most bytes of a record, most records, cap of the body
/// (two bytes), then the body.
pub fn push_body(data: &[u8]) {
    let mut draw = Draw(data);
    let manner = draw.byte();
    let framing = FRAMINGS[usize::from(manner % 4)];
    let encoding = draw.pick(&ENCODINGS);
    let limits = BodyLimits { max_record: u64::from(draw.byte()), max_records: u32::from(draw.byte()) };
    let cap = usize::from(draw.short());
    let sent = if manner & 4 == 0 { draw.0.to_vec() } else { compressed(encoding, draw.0) };
    if let Ok(name) = std::str::from_utf8(draw.0)
        && let Ok(named) = Framing::of_content_type(name)
    {
        assert!(FRAMINGS.contains(&named));
    }
    let mut body = Vec::new();
    match decompress(encoding, &sent, cap, &mut body) {
        Ok(()) => assert!(body.len() <= cap, "{} bytes under a cap of {cap}", body.len()),
        Err(error) => {
            assert!(body.is_empty(), "a refused body left bytes");
            if manner & 4 != 0 {
                assert_eq!(error, DecodeError::TooLarge { cap }, "own output of {} bytes", sent.len());
            }
            return;
        }
    }
    if manner & 4 != 0 {
        assert_eq!(body, framed(draw.0), "what was compressed came back as something else");
    }
    let wanted = records(framing, &body, &limits);
    match split_body(framing, Bytes::from(body.clone()), &limits) {
        Ok(split) => {
            assert_eq!(split.ends.last().map_or(0, |end| *end as usize), split.payload.len());
            assert!(split.payload.len() <= body.len());
            let mut start = 0;
            let found = split.ends.iter().map(|end| {
                let record = &split.payload[start..*end as usize];
                start = *end as usize;
                record
            });
            assert_eq!(Some(found.collect::<Vec<_>>()), wanted, "{framing:?} of {body:?}");
        }
        Err(error) => {
            assert_eq!(wanted, None, "{framing:?} refused {body:?}: {error}");
            match error {
                BodyError::RecordTooLarge { size, limit, .. } => assert!(size > limit),
                BodyError::Truncated { needed, left, .. } => assert!(needed > left),
                BodyError::TooManyRecords { limit } => assert_eq!(limit, limits.max_records),
                BodyError::NoJsonArray { .. } => assert_eq!(framing, Framing::JsonArray),
                BodyError::BodyTooLarge { .. } => panic!("{} bytes are too many?", body.len()),
            }
        }
    }
}

/// The encoder wants whole rows.
fn framed(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [] => Vec::new(),
        bytes => [bytes, b"\n"].concat(),
    }
}

fn compressed(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    let compression = match encoding {
        Encoding::Identity => Compression::None,
        Encoding::Gzip => Compression::Gzip { level: 1 },
        Encoding::Zstd => Compression::Zstd { level: 1 },
    };
    let mut sent = Vec::new();
    Encoder::new().encode(Format::Raw, compression, None, [Ok(framed(bytes))], &mut sent).unwrap();
    sent
}

/// The records of a body; `None`: it is to be refused.
fn records<'a>(framing: Framing, body: &'a [u8], limits: &BodyLimits) -> Option<Vec<&'a [u8]>> {
    let records: Vec<&[u8]> = match framing {
        Framing::Raw => vec![body],
        Framing::Ndjson => {
            let lines = body.split(|byte| *byte == b'\n');
            lines
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
                .filter(|line| !line.is_empty())
                .collect()
        }
        Framing::JsonArray => elements(body)?,
        Framing::LengthDelimited => {
            let (mut records, mut rest) = (Vec::new(), body);
            while !rest.is_empty() {
                let (head, behind) = rest.split_first_chunk::<4>()?;
                let (record, behind) = behind.split_at_checked(u32::from_be_bytes(*head) as usize)?;
                records.push(record);
                rest = behind;
            }
            records
        }
    };
    let within = records.len() <= limits.max_records as usize
        && records.iter().all(|record| record.len() as u64 <= limits.max_record);
    within.then_some(records)
}

/// The elements of a JSON array: where it is one, commas outside of strings and brackets part them.
fn elements(body: &[u8]) -> Option<Vec<&[u8]>> {
    serde_json::from_str::<Vec<serde::de::IgnoredAny>>(std::str::from_utf8(body).ok()?).ok()?;
    let inner = body.trim_ascii().strip_prefix(b"[")?.strip_suffix(b"]")?;
    if inner.trim_ascii().is_empty() {
        return Some(Vec::new());
    }
    let (mut elements, mut start, mut depth) = (Vec::new(), 0, 0);
    let (mut inside, mut escaped) = (false, false);
    for (at, byte) in inner.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            _ if inside => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                elements.push(inner[start..at].trim_ascii());
                start = at + 1;
            }
            _ => {}
        }
    }
    elements.push(inner[start..].trim_ascii());
    Some(elements)
}
