//! Objects of framed rows, read part by part for destinations that take records one by one.
//!
//! Each row stands behind its length, a little-endian u32, and the arrival of its record, a little-endian i64 of nanoseconds
//! since the Unix epoch. What is held is one part: what a request takes. How far a batch
//! has come is remembered until it is done, so that another try begins with the part that failed; after a restart it begins
//! anew, with the same parts.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::destination::body_error;
use crate::fault::{DeliverError, Fault, Retry};
use crate::object::{Delivered, Object, ObjectMeta};
use crate::sent::Sent;

const HEAD_BYTES: usize = 4 + 8;
const BUFFER_BYTES: usize = 256 << 10;
/// Bodies from this size on are made off the async threads.
const BLOCKING_BYTES_MIN: usize = 64 << 10;
/// Batches whose progress is remembered; far more than are on their way at a time.
const REMEMBERED_MAX: usize = 256;
/// How content types of framed rows begin.
pub const FRAMED_CONTENT_TYPE: &str = "application/vnd.wasmill.records";

/// What fits into one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fit {
    pub(crate) records: usize,
    /// Of all records, by what each costs.
    pub(crate) bytes: usize,
    pub(crate) cost: fn(usize) -> usize,
}

/// Rows of a batch that leave together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Number of the first within its batch.
    pub(crate) row: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    arrivals: Vec<i64>,
    /// What they cost.
    pub(crate) cost: usize,
    /// Where the next part begins in the object.
    pub(crate) next: u64,
}

impl Part {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Of all records.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }

    /// The same with their numbers and arrivals.
    pub(crate) fn rows(&self) -> impl Iterator<Item = PartRow<'_>> {
        let rows = (self.row..).zip(&self.arrivals).zip(self.iter());
        rows.map(|((row, arrival), bytes)| PartRow { row, arrival: *arrival, bytes })
    }

    /// Of all records, without what stands between them.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// One record of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartRow<'a> {
    /// Within its batch.
    pub(crate) row: u64,
    /// In nanoseconds since the Unix epoch.
    pub(crate) arrival: i64,
    pub(crate) bytes: &'a [u8],
}

/// The part that begins at `from` bytes; empty at the end of the object. Blocks.
pub(crate) fn read_part(path: &Path, (from, row): (u64, u64), fit: Fit) -> io::Result<Part> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
    reader.seek(SeekFrom::Start(from))?;
    let mut part = Part { row, next: from, ..Part::default() };
    while part.next < length && part.len() < fit.records {
        let (mut of_length, mut of_arrival) = ([0; 4], [0; 8]);
        reader.read_exact(&mut of_length)?;
        reader.read_exact(&mut of_arrival)?;
        let bytes = u32::from_le_bytes(of_length);
        let next = part.next + HEAD_BYTES as u64 + u64::from(bytes);
        if next > length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a row is longer than its object"));
        }
        let bytes = bytes as usize;
        let cost = part.cost.saturating_add((fit.cost)(bytes));
        // One that is too large for every request goes alone: the endpoint may take it.
        if cost > fit.bytes && !part.is_empty() {
            break;
        }
        let start = part.bytes.len();
        part.bytes.resize(start + bytes, 0);
        reader.read_exact(part.bytes.get_mut(start..).unwrap_or_default())?;
        part.ends.push(part.bytes.len());
        part.arrivals.push(i64::from_le_bytes(of_arrival));
        part.cost = cost;
        part.next = next;
    }
    Ok(part)
}

/// The rows of an object, one by one, each with its arrival (nanoseconds since the Unix epoch): for whoever wants them as
/// records. Blocks.
///
/// # Errors
/// The object cannot be read, or is none of framed rows.
pub fn each_row(path: &Path, mut row: impl FnMut(i64, &[u8])) -> io::Result<()> {
    let fit = Fit { records: usize::MAX, bytes: BUFFER_BYTES, cost: |bytes| bytes };
    let mut from = 0;
    loop {
        let part = read_part(path, (from, 0), fit)?;
        if part.is_empty() {
            return Ok(());
        }
        part.rows().for_each(|found| row(found.arrival, found.bytes));
        from = part.next;
    }
}

/// A row that the destination will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// Its number within the batch.
    pub row: u64,
    /// Of its record, in nanoseconds since the Unix epoch.
    pub arrival: i64,
    pub message: String,
    pub bytes: Vec<u8>,
}

/// How far a batch has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Where its next part begins, in bytes and rows; no row: at the beginning.
    pub(crate) at: Option<(u64, u64)>,
    /// Of the next part, rows that were taken.
    pub(crate) taken: Vec<u64>,
    /// Rows for which nobody has a place yet.
    pub(crate) refused: Vec<RefusedRow>,
}

/// What is left of a batch that was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Rows that were refused by themselves.
    pub refused: Vec<RefusedRow>,
    /// Bytes of the object, and rows, that need no other try: what stands behind them is left.
    pub done: (u64, u64),
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Underway(Mutex<HashMap<(String, u64), Progress>>);

impl Underway {
    fn locked(&self) -> MutexGuard<'_, HashMap<(String, u64), Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(meta: &ObjectMeta) -> (String, u64) {
        (meta.batch_id.clone(), meta.first_row)
    }

    /// Where the batch goes on.
    pub(crate) fn at(&self, meta: &ObjectMeta) -> (u64, u64) {
        let found = self.locked().get(&Underway::key(meta)).and_then(|progress| progress.at);
        found.unwrap_or((0, meta.first_row))
    }

    /// Works on what is remembered of the batch.
    pub(crate) fn with<T>(&self, meta: &ObjectMeta, work: impl FnOnce(&mut Progress) -> T) -> T {
        let mut all = self.locked();
        let key = Underway::key(meta);
        if all.len() >= REMEMBERED_MAX && !all.contains_key(&key) {
            // What is forgotten is sent again; rows that were refused are held nowhere else.
            all.retain(|_, progress| !progress.refused.is_empty());
        }
        work(all.entry(key).or_default())
    }

    pub(crate) fn done(&self, meta: &ObjectMeta) {
        self.locked().remove(&Underway::key(meta));
    }

    /// Rows that were refused since it was asked last.
    pub(crate) fn refused(&self, meta: &ObjectMeta) -> Vec<RefusedRow> {
        self.locked()
            .get_mut(&Underway::key(meta))
            .map(|progress| std::mem::take(&mut progress.refused))
            .unwrap_or_default()
    }

    /// What is left of a batch that is given up.
    pub(crate) fn give_up(&self, meta: &ObjectMeta) -> Rest {
        let progress = self.locked().remove(&Underway::key(meta)).unwrap_or_default();
        let done = progress.at.map_or((0, 0), |(bytes, row)| (bytes, row.saturating_sub(meta.first_row)));
        Rest { refused: progress.refused, done }
    }
}

/// Sends what is left of a batch, one part after another: `send` comes back when the destination has all of a part.
pub(crate) async fn deliver_parts<F>(
    object: &Object<'_>,
    underway: &Underway,
    sent: &Sent,
    fit: Fit,
    send: impl Fn(Part) -> F,
) -> Result<Delivered, DeliverError>
where
    F: Future<Output = Result<(), DeliverError>>,
{
    let meta = object.meta;
    loop {
        let part = next_part(object, underway.at(meta), fit).await?;
        if part.is_empty() {
            underway.done(meta);
            return Ok(Delivered::Created);
        }
        let next = (part.next, part.row + part.len() as u64);
        let (records, bytes) = (part.len() as u64, part.payload_bytes());
        sent.tried(records, bytes);
        send(part).await?;
        sent.taken(records, bytes);
        underway.with(meta, |progress| progress.at = Some(next));
    }
}

/// Makes a request's body, off the async threads if it is of many bytes.
pub(crate) async fn make_body<T: Send + 'static>(
    bytes: usize,
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeliverError> {
    if bytes < BLOCKING_BYTES_MIN {
        return Ok(make());
    }
    let made = tokio::task::spawn_blocking(make).await;
    made.map_err(|error| unmade(&error))
}

/// The request cannot be made.
pub(crate) fn unmade(error: &dyn std::error::Error) -> DeliverError {
    let retry = Retry::Later { after: None };
    DeliverError::new(Fault::Host, retry, "the request cannot be made", error.to_string())
}

/// The next part of an object.
pub(crate) async fn next_part(object: &Object<'_>, at: (u64, u64), fit: Fit) -> Result<Part, DeliverError> {
    let meta = object.meta;
    if !meta.content_type.starts_with(FRAMED_CONTENT_TYPE) {
        return Err(DeliverError::new(
            Fault::Host,
            Retry::Never,
            "the object was made for another kind of destination",
            format!("{}: {}", meta.name, meta.content_type),
        ));
    }
    let path = object.body.to_owned();
    let read = tokio::task::spawn_blocking(move || read_part(&path, at, fit)).await;
    let read = read.map_err(io::Error::other).and_then(|read| read);
    read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => DeliverError::new(
            Fault::Host,
            Retry::Never,
            "the staged body is damaged",
            format!("{}: {error}", object.body.display()),
        ),
        _ => body_error(object.body, &error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staged::{Staged, framed};

    const FIT: Fit = Fit { records: 3, bytes: 10, cost: |bytes| bytes + 1 };

    fn parts(body: &[u8]) -> Vec<(u64, Vec<Vec<u8>>)> {
        let staged = Staged::new();
        let (_, path) = staged.object("a", body);
        let (mut at, mut row, mut parts) = (0, 5, Vec::new());
        loop {
            let part = read_part(&path, (at, row), FIT).unwrap();
            if part.is_empty() {
                return parts;
            }
            parts.push((part.row, part.iter().map(<[u8]>::to_vec).collect()));
            (at, row) = (part.next, row + part.len() as u64);
        }
    }

    #[test]
    fn part_ends_where_a_request_is_full() {
        assert_eq!(parts(b""), []);
        let rows: [&[u8]; 7] = [b"a", b"", b"b", b"123456", b"7890", b"longer than a request", b"z"];
        let found = parts(&framed(&rows));
        let expected: [(u64, &[&[u8]]); 5] = [
            (5, &[b"a", b"", b"b"]),
            (8, &[b"123456"]),
            (9, &[b"7890"]),
            (10, &[b"longer than a request"]),
            (11, &[b"z"]),
        ];
        let expected: Vec<(u64, Vec<Vec<u8>>)> = expected
            .iter()
            .map(|(row, rows)| (*row, rows.iter().map(|row| row.to_vec()).collect()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn forgetting_what_is_underway_loses_no_row_that_was_refused() {
        let underway = Underway::default();
        let of = |n: usize| crate::staged::meta(&n.to_string(), b"");
        let row = RefusedRow { row: 3, arrival: 0, message: String::new(), bytes: Vec::new() };
        underway.with(&of(0), |progress| progress.refused.push(row.clone()));
        for n in 1..=2 * REMEMBERED_MAX {
            underway.with(&of(n), |progress| progress.at = Some((1, 1)));
        }
        assert!(underway.locked().len() <= REMEMBERED_MAX);
        assert_eq!(underway.refused(&of(0)), [row]);
    }

    #[test]
    fn damaged_object_is_told_and_costs_no_memory() {
        let staged = Staged::new();
        for damaged in [
            &b"\xff\xff\xff\xff\0\0\0\0\0\0\0\0abc"[..],
            b"\x01\0\0",
            b"\x01\0\0\0\0",
            b"\x02\0\0\0\0\0\0\0\0\0\0\0a",
        ] {
            let (_, path) = staged.object("a", damaged);
            let error = read_part(&path, (0, 0), FIT).unwrap_err();
            assert!(
                matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
                "{error:?}"
            );
        }
    }
}
