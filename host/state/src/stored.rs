//! How it stands in the database.
//!
//! Keys in the space of entries: incarnation of the stream (16 bytes), length and name of the transform, length and name of
//! the table, key group (1 byte), key. Values: when the entry was written (i64 LE, nanoseconds since the epoch), layout
//! version of its value (u32 LE), value.
//!
//! Keys in the space that says what there is: incarnation, and for a table `t` and its names. Values of streams: format
//! (u8 1), journal position (u64 LE) behind which nothing is applied, clock (i64 LE). Values of tables: format (u8 1), layout
//! version of its values (u32 LE), time to live (u64 LE, ns), entries (u64 LE), counted bytes (u64 LE).
//!
//! While a write takes several batches there is a key `w` of the stream besides: format (u8 1), journal position (u64 LE) of the mark
//! that it will write. Where it is found, entries are of any time between that mark and the one that is there.

use crate::error::StoreError;
use crate::store::{Mark, TableUse};
use crate::table::{Entry, TableId, TableSpec};

const FORMAT: u8 = 1;

/// The first key behind all that begin so. What all keys begin with, an incarnation, is never all ones.
pub(crate) fn above(prefix: &[u8]) -> Vec<u8> {
    let mut above = prefix.to_vec();
    while let Some(last) = above.pop() {
        if last < u8::MAX {
            above.push(last + 1);
            return above;
        }
    }
    vec![u8::MAX; prefix.len() + 1]
}

pub(crate) fn mark(value: &[u8]) -> Option<Mark> {
    let [FORMAT, rest @ ..] = value else { return None };
    let (position, rest) = rest.split_first_chunk::<8>()?;
    let (clock, []) = rest.split_first_chunk::<8>()? else { return None };
    Some(Mark { position: u64::from_le_bytes(*position), clock: i64::from_le_bytes(*clock) })
}

pub(crate) fn table_use(id: TableId, value: &[u8]) -> Option<TableUse> {
    let [FORMAT, rest @ ..] = value else { return None };
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let mut numbers = rest.chunks_exact(8).map(|number| number.first_chunk::<8>().copied());
    let mut number = || numbers.next().flatten().map(u64::from_le_bytes);
    let (ttl_ns, entries, bytes) = (number()?, number()?, number()?);
    (rest.len() == 24).then_some(())?;
    let spec = TableSpec { version: u32::from_le_bytes(*version), ttl_ns };
    Some(TableUse { id, spec, entries, bytes })
}

/// The key that says that a write is on its way.
pub(crate) fn writing_key(incarnation: &[u8; 16]) -> Vec<u8> {
    [&incarnation[..], b"w"].concat()
}

pub(crate) fn writing_value(position: u64) -> Vec<u8> {
    [&[FORMAT][..], &position.to_le_bytes()].concat()
}

pub(crate) fn writing(value: &[u8]) -> Option<u64> {
    let [FORMAT, position @ ..] = value else { return None };
    Some(u64::from_le_bytes(position.try_into().ok()?))
}

pub(crate) fn mark_value(mark: Mark) -> Vec<u8> {
    [&[FORMAT][..], &mark.position.to_le_bytes(), &mark.clock.to_le_bytes()].concat()
}

pub(crate) fn about_table(table: &TableUse) -> Vec<u8> {
    let TableUse { spec: TableSpec { version, ttl_ns }, entries, bytes, .. } = table;
    let mut value = vec![FORMAT];
    value.extend_from_slice(&version.to_le_bytes());
    [ttl_ns, entries, bytes].iter().for_each(|number| value.extend_from_slice(&number.to_le_bytes()));
    value
}

/// When it was written, its layout version, and the value itself.
pub(crate) fn split(value: &[u8]) -> Option<(i64, u32, &[u8])> {
    let (written, rest) = value.split_first_chunk::<8>()?;
    let (version, value) = rest.split_first_chunk::<4>()?;
    Some((i64::from_le_bytes(*written), u32::from_le_bytes(*version), value))
}

pub(crate) fn entry(value: &[u8]) -> Result<Entry, StoreError> {
    let (written, version, value) = split(value).ok_or(StoreError::Damaged { what: "an entry" })?;
    Ok(Entry { written, version, value: value.into() })
}
