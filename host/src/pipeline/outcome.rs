//! The outcome of consecutive slices as it stands in the journal: write, read, round trip, reject.
//!
//! An outcome is one journal entry whose body is
//!
//! ```text
//! u32 LE   length of the header
//! bytes    header: JSON (`Outcome`)
//! bytes    blobs: rows of batches that are still open, small objects, payloads of dead letters, changes of state; the
//!          header has their ranges
//! ```
//!
//! It fixes everything that later steps may not decide again: which input it covers, which chain ran, the
//! names and staged files of the batches that it seals, the rows that wait in open batches, the dead letters.
//! Once it is durable, plugins never run again on its input.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use wasmill_state::Written;

use super::dead_letters::{Changes, Stage};

/// Raised when a field changes its meaning; readers keep every older number. 2: an outcome may be that of a replay. 3: it may
/// carry changes of state. 4: it may say how far event time has come.
pub(crate) const VERSION: u32 = 4;
/// What an outcome with changes of state and without event time is written as.
const VERSION_STATE: u32 = 3;
/// What an outcome of a replay without changes of state is written as.
const VERSION_REPLAY: u32 = 2;
/// What an outcome with neither is written as.
const VERSION_PLAIN: u32 = 1;

/// The lowest version that has what an outcome carries: older hosts read it then.
pub(crate) fn version(replay: bool, state: bool, event_time: bool) -> u32 {
    match (replay, state, event_time) {
        (_, _, true) => VERSION,
        (_, true, false) => VERSION_STATE,
        (true, false, false) => VERSION_REPLAY,
        (false, false, false) => VERSION_PLAIN,
    }
}

/// Where rows go: an output of the stream and the values of its partition keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct BatchKey {
    pub(crate) output: u32,
    pub(crate) partition: Vec<(String, String)>,
}

/// A batch that is complete: its object lies in the staging directory, synced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    pub(crate) key: BatchKey,
    pub(crate) batch_id: String,
    /// Name of the object, dates and partition values filled in.
    pub(crate) name: String,
    /// File in the staging directory of the output, or in the spool.
    pub(crate) staged: String,
    /// In the spool, because nothing could be made in the staging directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) spooled: bool,
    pub(crate) content_type: String,
    pub(crate) content_encoding: Option<String>,
    /// 0: none of its rows became one of the object, and there is nothing to deliver.
    pub(crate) records: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) bytes: u64,
    /// XXH3-128 of the uncompressed object, hexadecimal.
    pub(crate) digest: String,
    /// XXH3-128 of the object as it is sent, hexadecimal.
    pub(crate) body_digest: String,
    pub(crate) first_offset: u64,
    /// First offset of the last of its pieces: rows of its partition up to there are no longer open.
    pub(crate) last_offset: u64,
    /// Arrival of the oldest record, nanoseconds since the epoch.
    pub(crate) first_arrival: i64,
    /// The object itself within the blobs, if it is small; else it is the staged file.
    pub(crate) inline: Option<Range<usize>>,
    /// Made of rows of a replay only: it says nothing about open batches.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) replayed: bool,
}

/// Rows that an open batch got since the outcome before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenRows {
    pub(crate) key: BatchKey,
    pub(crate) records: u64,
    pub(crate) first_offset: u64,
    pub(crate) first_arrival: i64,
    /// Range within the blobs.
    pub(crate) blob: Range<usize>,
}

/// A record that could not be transformed, or not be written in the format of its output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) offset: i64,
    pub(crate) child: u32,
    pub(crate) arrival: i64,
    /// Name of the source that it came from, of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// Empty where it failed after the last transform.
    pub(crate) transform: String,
    pub(crate) plugin: String,
    /// The output whose format the record did not fit, after the last transform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<String>,
    pub(crate) reason: String,
    pub(crate) blob: Range<usize>,
}

impl Letter {
    pub(crate) fn stage(&self) -> Stage {
        if self.output.is_some() { Stage::Encode } else { Stage::Transform }
    }
}

/// How the input of an outcome was disposed of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) records: u64,
    pub(crate) passed: u64,
    pub(crate) dropped: u64,
    pub(crate) failed: u64,
    pub(crate) absorbed: u64,
    pub(crate) emitted: u64,
}

impl Counts {
    /// The invariant of every slice: each input record has exactly one verdict.
    pub(crate) fn balanced(&self) -> bool {
        self.records == self.passed + self.dropped + self.failed + self.absorbed
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.records += other.records;
        self.passed += other.passed;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.absorbed += other.absorbed;
        self.emitted += other.emitted;
    }
}

/// Which chain a part of the input ran through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ran {
    /// Offset behind the last record of it.
    pub(crate) to: u64,
    /// Digests of the plugins in the order of the chain, then of granted files as `name=digest`.
    pub(crate) digests: Vec<String>,
}

/// An output as it was when the outcome was written: its number may be another after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutputThen {
    pub(crate) name: String,
    /// Content type of the format that open rows are framed for.
    pub(crate) content_type: String,
    /// Columns that were taken from its first batch, until a checkpoint has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) columns: Option<String>,
}

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) version: u32,
    /// Offsets covered: `from..to`.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// What ran, from first to last.
    pub(crate) chain: Vec<Ran>,
    pub(crate) counts: Counts,
    /// By number.
    pub(crate) outputs: Vec<OutputThen>,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) open: Vec<OpenRows>,
    pub(crate) letters: Vec<Letter>,
    /// What becomes of dead letters that ran again. Such an outcome covers no input: `from` is `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replay: Option<Changes>,
    /// What has changed of the state of its transforms; ranges are within the blobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<Written>,
    /// The watermark behind its input, of a stream that has event time; nanoseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) watermark: Option<i64>,
    /// The same of each source, of a stream with several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) watermarks: BTreeMap<String, i64>,
}

/// Why an entry is no outcome that this version can read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutcomeError {
    #[error("outcome of {len} bytes is shorter than its header")]
    Short { len: usize },
    #[error("outcome header is not valid")]
    Header(#[from] serde_json::Error),
    #[error("outcome has version {found}, this host reads up to {VERSION}")]
    Version { found: u32 },
    #[error("outcome names bytes {start}..{end} of {len}")]
    Blob { start: usize, end: usize, len: usize },
}

/// Header and blobs (`rows`, then `more`) as one body, and where in it the blobs begin.
pub(crate) fn write(outcome: &Outcome, rows: &[u8], more: &[Bytes]) -> Result<(Bytes, usize), OutcomeError> {
    let header = serde_json::to_vec(outcome)?;
    let len = u32::try_from(header.len()).map_err(|_too_long| OutcomeError::Short { len: header.len() })?;
    let mut body =
        Vec::with_capacity(4 + header.len() + rows.len() + more.iter().map(Bytes::len).sum::<usize>());
    body.extend_from_slice(&len.to_le_bytes());
    body.extend_from_slice(&header);
    let blobs_at = body.len();
    body.extend_from_slice(rows);
    for blob in more {
        body.extend_from_slice(blob);
    }
    Ok((Bytes::from(body), blobs_at))
}

/// The outcome and where in the body its blobs begin; every range in it lies within the blobs.
pub(crate) fn read(body: &Bytes) -> Result<(Outcome, usize), OutcomeError> {
    let short = || OutcomeError::Short { len: body.len() };
    let len = body.first_chunk::<4>().map(|n| u32::from_le_bytes(*n)).ok_or_else(short)?;
    let end = usize::try_from(len).ok().and_then(|len| len.checked_add(4)).ok_or_else(short)?;
    let header = body.get(4..end).ok_or_else(short)?;
    let outcome: Outcome = serde_json::from_slice(header)?;
    if outcome.version > VERSION {
        return Err(OutcomeError::Version { found: outcome.version });
    }
    let blobs = body.slice(end..);
    let ranges = outcome.open.iter().map(|o| &o.blob).chain(outcome.letters.iter().map(|l| &l.blob));
    let ranges = ranges.chain(outcome.sealed.iter().filter_map(|s| s.inline.as_ref()));
    let tables = outcome.state.iter().flat_map(|state| &state.tables);
    let ranges = ranges.chain(tables.map(|table| &table.blob));
    for range in ranges {
        if blobs.get(range.clone()).is_none() {
            return Err(OutcomeError::Blob { start: range.start, end: range.end, len: blobs.len() });
        }
    }
    Ok((outcome, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Outcome {
        Outcome {
            version: VERSION,
            from: 10,
            to: 20,
            chain: vec![Ran { to: 20, digests: vec!["sha256:aa".into()] }],
            counts: Counts { records: 10, passed: 7, dropped: 2, failed: 1, absorbed: 0, emitted: 8 },
            outputs: vec![],
            sealed: vec![],
            open: vec![OpenRows {
                key: BatchKey { output: 1, partition: vec![("country".into(), "ch".into())] },
                records: 2,
                first_offset: 11,
                first_arrival: 5,
                blob: 0..6,
            }],
            letters: vec![Letter {
                offset: 12,
                child: 0,
                arrival: 6,
                source: Some("web".into()),
                transform: "parse".into(),
                plugin: "sha256:aa".into(),
                output: None,
                reason: "no quote".into(),
                blob: 6..9,
            }],
            replay: None,
            state: None,
            watermark: Some(-7),
            watermarks: BTreeMap::from([("web".into(), -7), ("files".into(), 3)]),
        }
    }

    #[test]
    fn outcome_without_watermarks_of_sources_is_written_and_read_as_ever() {
        let plain = Outcome { watermarks: BTreeMap::new(), ..sample() };
        let (body, _) = write(&plain, b"{}\n{}\n", &[Bytes::from_static(b"bad")]).unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("watermarks"));
        assert_eq!(read(&body).unwrap().0, plain);
    }

    #[test]
    fn outcome_written_and_read_is_the_same() {
        let (body, blobs_at) = write(&sample(), b"{}\n{}\n", &[Bytes::from_static(b"bad")]).unwrap();
        assert_eq!(read(&body).unwrap(), (sample(), blobs_at));
        assert_eq!(&body[blobs_at..], b"{}\n{}\nbad");
    }

    #[test]
    fn outcome_cut_anywhere_is_refused() {
        let (body, _) = write(&sample(), b"{}\n{}\n", &[Bytes::from_static(b"bad")]).unwrap();
        for len in 0..body.len() {
            assert!(read(&body.slice(..len)).is_err(), "{len} bytes were accepted");
        }
    }

    #[test]
    fn outcome_with_state_that_lies_beyond_its_blobs_is_refused() {
        let table = |blob| wasmill_state::WrittenTable {
            transform: "count".into(),
            table: "counts".into(),
            version: 1,
            ttl_ns: 0,
            cleared: false,
            entries: 1,
            growth: None,
            blob,
        };
        let with =
            |blob| Outcome { state: Some(Written { clock: 1, tables: vec![table(blob)] }), ..sample() };
        let (body, _) = write(&with(6..9), b"{}\n{}\n", &[Bytes::from_static(b"bad")]).unwrap();
        assert_eq!(read(&body).unwrap().0, with(6..9));
        let (body, _) = write(&with(6..10), b"{}\n{}\n", &[Bytes::from_static(b"bad")]).unwrap();
        assert!(matches!(read(&body), Err(OutcomeError::Blob { .. })));
    }

    #[test]
    fn outcome_of_a_later_version_is_refused() {
        let (body, _) =
            write(&Outcome { version: VERSION + 1, ..sample() }, b"{}\n{}\n", &[Bytes::from_static(b"bad")])
                .unwrap();
        assert!(matches!(read(&body), Err(OutcomeError::Version { found: 5 })));
    }

    #[test]
    fn counts_balance_only_when_every_record_has_one_verdict() {
        assert!(sample().counts.balanced());
        assert!(!Counts { dropped: 3, ..sample().counts }.balanced());
    }
}
