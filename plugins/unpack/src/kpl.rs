//! Records that the Kinesis Producer Library aggregated: four bytes of magic, a protobuf message, its MD5 (the document
//! "KPL Aggregated Record Format" in the repository of the library).

use md5::{Digest, Md5};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use crate::config::Limits;
use crate::pieces::{Label, Pieces};

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_LEN: usize = 16;
/// The highest number of a field of [`Aggregate`].
const FIELDS: usize = 3;

/// Numbers in records point into the two tables.
#[derive(Clone, PartialEq, Message)]
struct Aggregate {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    hash_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Record>,
}

/// The tags that the format also knows are not read: the library never wrote any.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(uint64, required, tag = "1")]
    partition_key: u64,
    #[prost(uint64, optional, tag = "2")]
    hash_key: Option<u64>,
    #[prost(bytes = "vec", required, tag = "3")]
    data: Vec<u8>,
}

/// Takes an aggregate apart. A record without the magic passes as it is.
pub(crate) fn run(
    limits: &Limits,
    piece: &[u8],
    label: Label,
    names: &mut Vec<String>,
    out: &mut Pieces,
) -> Result<(), String> {
    let Some(rest) = piece.strip_prefix(&MAGIC) else { return out.push(limits, label, &[piece]) };
    let Some((message, digest)) = rest.split_last_chunk::<DIGEST_LEN>() else {
        return Err(format!("{} bytes with the magic of an aggregate are too few for one", piece.len()));
    };
    if Md5::digest(message).as_slice() != digest.as_slice() {
        return Err("the aggregate is damaged: its MD5 is another".to_owned());
    }
    bound(limits, message)?;
    let aggregate =
        Aggregate::decode(message).map_err(|error| format!("the aggregate is damaged: {error}"))?;
    let partition_keys = table(aggregate.partition_keys, names)?;
    let hash_keys = table(aggregate.hash_keys, names)?;
    for (number, record) in aggregate.records.iter().enumerate() {
        let of = |table: &std::ops::Range<u32>, key: u64, what: &str| {
            let at = u32::try_from(key).ok().and_then(|key| table.start.checked_add(key));
            at.filter(|at| *at < table.end).ok_or_else(|| {
                format!("record {} has the {what} {key} of a table of {}", number + 1, table.len())
            })
        };
        let key = of(&partition_keys, record.partition_key, "partition key")?;
        let hash_key = record.hash_key.map(|key| of(&hash_keys, key, "explicit hash key")).transpose()?;
        out.push(limits, Label { key: Some(key), hash_key }, &[&record.data])?;
    }
    Ok(())
}

/// Counts before anything is built: a record of two bytes takes dozens in memory.
fn bound(limits: &Limits, mut message: &[u8]) -> Result<(), String> {
    let mut counts = [0_usize; FIELDS];
    while !message.is_empty() {
        let skipped = decode_key(&mut message).and_then(|(field, wire)| {
            let counted = (field as usize).checked_sub(1).and_then(|at| counts.get_mut(at));
            if let (Some(count), WireType::LengthDelimited) = (counted, wire) {
                *count += 1;
            }
            skip_field(wire, field, &mut message, DecodeContext::default())
        });
        skipped.map_err(|error| format!("the aggregate is damaged: {error}"))?;
        if counts.iter().any(|count| *count > limits.max_records) {
            return Err(limits.too_many());
        }
    }
    Ok(())
}

/// Puts a table behind the names that are there, and says where it stands.
fn table(keys: Vec<String>, names: &mut Vec<String>) -> Result<std::ops::Range<u32>, String> {
    let place = |at: usize| u32::try_from(at).map_err(|_| "too many keys".to_owned());
    let start = place(names.len())?;
    names.extend(keys);
    Ok(start..place(names.len())?)
}
