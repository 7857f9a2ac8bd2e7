//! A data directory as a damaged disk may return it: what recovery reads was written, under this offset, or is no record
//! at all.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wasmill_buffer::format::{Header, MAGIC};
use wasmill_buffer::testing::FaultyDisk;
use wasmill_buffer::{
    Disk, Frames, Journal, OpenError, Options, Position, Records, Recovery, Retention, Stream, StreamKey,
    StreamOptions,
};

use crate::draw::Draw;

/// What version 1 wrote: two streams and one that was deleted, three journal files and a segment.
const WHOLE: [(&str, &[u8]); 4] = [
    (
        "journal/00000005.wmj",
        include_bytes!("../../host/buffer/tests/fixtures/v1/whole/journal/00000005.wmj"),
    ),
    (
        "journal/00000006.wmj",
        include_bytes!("../../host/buffer/tests/fixtures/v1/whole/journal/00000006.wmj"),
    ),
    (
        "journal/00000007.wmj",
        include_bytes!("../../host/buffer/tests/fixtures/v1/whole/journal/00000007.wmj"),
    ),
    (
        "segments/00000002.wms",
        include_bytes!("../../host/buffer/tests/fixtures/v1/whole/segments/00000002.wms"),
    ),
];

/// Names that files are given besides.
const NAMES: [&str; 10] = [
    "journal/00000001.wmj",
    "journal/00000006.wmj",
    "journal/00000008.wmj",
    "journal/18446744073709551615.wmj",
    "journal/spare-00000001",
    "journal/spare-18446744073709551615",
    "journal/00000009.tmp",
    "segments/00000001.wms",
    "segments/00000002.wms",
    "segments/18446744073709551615.wms",
];

/// Longest file: a few times the longest of the fixture.
const FILE_MAX: usize = 64 << 10;
/// Frames start at multiples of this.
const ALIGN: usize = 64;

/// Most lost offsets that are counted of one answer: more than the fixture has.
const LOST_MAX: usize = 1 << 10;

type Files = BTreeMap<String, Vec<u8>>;
/// Records by offset.
type Rows = BTreeMap<u64, Vec<u8>>;

/// What can be read of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    records: Rows,
    lost: BTreeSet<u64>,
    /// With the records that are settled.
    history: Rows,
    /// By position.
    entries: BTreeMap<u64, Vec<u8>>,
    checkpoint: Option<Vec<u8>>,
    source: Option<Vec<u8>>,
}

/// `data`: 0 = a file of the bytes that follow, 1 = the fixture with damage, 2 = with damage that passes the checksums,
/// and three times what else happens (see `Manner`); then which, see the code.
pub fn segment_reader(data: &[u8]) {
    let mut draw = Draw(data);
    let first = draw.byte();
    let manner = first % 3;
    let mut files: Files = WHOLE.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    if manner == 0 {
        let name = draw.pick(&NAMES);
        let flags = draw.byte();
        if flags & 1 != 0 {
            files.clear();
        }
        let mut bytes = draw.0[..draw.0.len().min(FILE_MAX)].to_vec();
        if flags & 2 != 0 {
            (0..bytes.len()).step_by(ALIGN).for_each(|at| seal(&mut bytes[at..]));
        }
        files.insert(name.to_owned(), bytes);
    } else {
        for _ in 0..12 {
            if draw.is_empty() || files.is_empty() {
                break;
            }
            strike(&mut draw, &mut files, manner == 2);
        }
    }
    check(&files, Manner((first / 3) << 1 | u8::from(manner == 1)));
}

/// One damage.
fn strike(draw: &mut Draw<'_>, files: &mut Files, forge: bool) {
    let name = files.keys().nth(draw.below(files.len())).unwrap().clone();
    let other = files.values().nth(draw.below(files.len())).unwrap().clone();
    let manner = draw.below(if forge { 12 } else { 10 });
    let bytes = files.get_mut(&name).unwrap();
    let at = draw.below(bytes.len());
    let end = (at + draw.below(4096)).min(bytes.len());
    match manner {
        0 if at < bytes.len() => bytes[at] ^= 1 << draw.below(8),
        1 => bytes[at..end].fill(0),
        2 => bytes.truncate(at),
        // What stands elsewhere: sound frames in the wrong place.
        3 => {
            let from = draw.below(other.len()) / ALIGN * ALIGN;
            let at = at / ALIGN * ALIGN;
            let len = (end - at).min(other.len() - from);
            bytes[at..at + len].copy_from_slice(&other[from..from + len]);
        }
        4 => drop(files.remove(&name)),
        5 => drop(files.insert(draw.pick(&NAMES).to_owned(), other)),
        6 => *bytes = other,
        7 => {
            let new = draw.bytes(255);
            let len = new.len().min(bytes.len() - at);
            bytes[at..at + len].copy_from_slice(&new[..len]);
        }
        // Frames that moved.
        8 => drop(bytes.drain(at / ALIGN * ALIGN..end / ALIGN * ALIGN)),
        9 => {
            let from = draw.below(other.len()) / ALIGN * ALIGN;
            let at = at / ALIGN * ALIGN;
            let piece = other[from..(from + end - at).min(other.len())].to_vec();
            bytes.splice(at..at, piece);
            bytes.truncate(FILE_MAX);
        }
        // Bytes of a header, sealed again; and of a body.
        10 | 11 => {
            let frames: Vec<usize> =
                (0..bytes.len()).step_by(ALIGN).filter(|at| Header::read(&bytes[*at..]).is_ok()).collect();
            let Some(&frame) = frames.get(draw.below(frames.len())) else { return };
            let header = Header::read(&bytes[frame..]).unwrap();
            let (from, len) = match manner {
                10 => (frame, header.header_len()),
                _ => (frame + header.header_len(), header.body_len as usize),
            };
            let at = from + draw.below(len);
            let new = draw.bytes(16);
            let len = new.len().min(bytes.len().saturating_sub(at));
            if len > 0 {
                bytes[at..at + len].copy_from_slice(&new[..len]);
            }
            seal(&mut bytes[frame..]);
        }
        _ => {}
    }
}

/// Makes the checksums of a frame at the start of these bytes right, as far as it has any.
fn seal(bytes: &mut [u8]) {
    if !bytes.starts_with(&MAGIC) || bytes.len() < 24 {
        return;
    }
    let header_len = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
    let body_len = u64::from_le_bytes(*bytes[16..].first_chunk().unwrap());
    let end = usize::try_from(body_len).ok().and_then(|len| header_len.checked_add(len));
    if let Some(body) = end.and_then(|end| bytes.get(header_len..end)) {
        let crc = crc32c::crc32c(body);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    if (16..=bytes.len()).contains(&header_len) {
        bytes[8..12].fill(0);
        let crc = crc32c::crc32c(&bytes[..header_len]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

fn disk(files: &Files) -> FaultyDisk {
    let disk = FaultyDisk::new(0);
    for (name, bytes) in files {
        let path = Path::new("/data").join(name);
        disk.create_dir(path.parent().unwrap()).unwrap();
        let file = disk.create(&path, 0, false).unwrap();
        if !bytes.is_empty() {
            assert_eq!(file.write_at(&[IoSlice::new(bytes)], 0).unwrap(), bytes.len());
        }
        file.sync().unwrap();
    }
    disk
}

/// What happens besides, by the bits of a number.
#[derive(Clone, Copy)]
struct Manner(u8);

impl Manner {
    /// Every checksum is what it was, so that whatever is read must have been written.
    fn told(self) -> bool {
        self.0 & 1 != 0
    }

    /// The journal is closed in order between the two times.
    fn closes(self) -> bool {
        self.0 & 2 != 0
    }

    /// The journal may be so long that nothing is moved to segments.
    fn long(self) -> bool {
        self.0 & 4 != 0
    }

    /// Half of what is there is settled between the two times.
    fn settles(self) -> bool {
        self.0 & 8 != 0
    }

    /// What is settled is kept.
    fn keeps(self) -> bool {
        self.0 & 16 != 0
    }
}

fn open(disk: &FaultyDisk, manner: Manner) -> Option<(Journal, Recovery)> {
    let max_journal_bytes = if manner.long() { 1 << 30 } else { 64 << 10 };
    let options = Options { file_bytes: 16 << 10, max_journal_bytes, ..Options::default() };
    match Journal::open_stepped(Arc::new(disk.clone()), Path::new("/data"), options) {
        Ok(opened) => Some(opened),
        Err(OpenError::Newer { .. } | OpenError::Foreign { .. }) => None,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

/// Opens the directory twice, with an append in between.
fn check(files: &Files, manner: Manner) {
    let told = manner.told();
    let disk = disk(files);
    let Some((journal, recovery)) = open(&disk, manner) else {
        assert!(!told, "damage was taken for the work of another program");
        return;
    };
    let mut found = read(&journal, &recovery, manner);
    for (key, found) in &mut found {
        let Ok(stream) = stream(&journal, key, manner) else { continue };
        match journal.drive(stream.append(Records::one("next", 1))) {
            Ok(receipt) => {
                let given = found.records.keys().chain(&found.lost).chain(found.history.keys()).max();
                assert!(
                    given.is_none_or(|last| *last < receipt.first_offset),
                    "offset {} is given away twice",
                    receipt.first_offset
                );
                found.records.insert(receipt.first_offset, b"next".to_vec());
                if manner.keeps() {
                    found.history.insert(receipt.first_offset, b"next".to_vec());
                }
            }
            Err(error) => assert!(!told, "{error}"),
        }
        if manner.settles() {
            let half = found.records.keys().nth(found.records.len() / 2).copied().unwrap_or(0);
            let settled = journal.drive(stream.checkpoint("half", half, Position(0), true));
            assert!(settled.is_ok() || !told, "{settled:?}");
            found.records.retain(|offset, _| *offset >= half);
            found.lost.retain(|offset| *offset >= half);
            found.checkpoint = Some(b"half".to_vec());
        }
    }
    if manner.closes() {
        let closed = journal.drive(journal.close());
        assert!(closed.is_ok() || !told, "{closed:?}");
    }
    drop(journal);
    disk.restart();
    let Some((journal, recovery)) = open(&disk, manner) else {
        assert!(!told, "opened once, but not again");
        return;
    };
    let again = read(&journal, &recovery, Manner(manner.0 & !1));
    if told {
        assert_eq!(again.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
        for (key, found) in &found {
            let again = &again[key];
            let offsets = |records: &Rows| records.keys().copied().collect::<Vec<_>>();
            assert_eq!(
                offsets(&again.records),
                offsets(&found.records),
                "other records of {key:?} the second time"
            );
            assert_eq!(again.lost, found.lost, "other losses of {key:?} the second time");
            assert_eq!(
                offsets(&again.history),
                offsets(&found.history),
                "another history of {key:?} the second time"
            );
            assert!(again == found, "something else of {key:?} the second time: {again:?} for {found:?}");
        }
    }
}

fn stream(journal: &Journal, key: &StreamKey, manner: Manner) -> Result<Stream, wasmill_buffer::StreamError> {
    let retention = manner.keeps().then_some(Retention { bytes: u64::MAX, age: Duration::MAX });
    journal.drive(journal.stream(key, StreamOptions { max_bytes: 1 << 30, retention }))
}

/// All that can be read.
fn read(journal: &Journal, recovery: &Recovery, manner: Manner) -> BTreeMap<StreamKey, Found> {
    let told = manner.told();
    let mut all = BTreeMap::new();
    let names: BTreeSet<&StreamKey> = recovery.streams.iter().collect();
    for key in names {
        let opened = stream(journal, key, manner);
        assert!(opened.is_ok() || !told, "{key:?} is there, but {:?}", opened.err());
        let Ok(stream) = opened else { continue };
        let mut found = Found::default();
        let mut from = 0;
        // Piece by piece, as a slow reader does.
        while let Ok(frames) = stream.try_frames(from, 4096) {
            take(&mut found.records, key, &frames, told);
            // Numbers that nobody wrote may be far apart.
            found.lost.extend(frames.lost.iter().cloned().flatten().take(LOST_MAX));
            if frames.frames.is_empty() && (frames.next_offset <= from || frames.lost.is_empty()) {
                break;
            }
            assert!(frames.next_offset > from || !told, "reading stands still at {from}");
            if frames.next_offset <= from {
                break;
            }
            from = frames.next_offset;
        }
        let mut from = 0;
        while manner.keeps() && from < stream.durable_end() {
            let Ok(frames) = stream.read_history(from..stream.durable_end(), 4096) else { break };
            take(&mut found.history, key, &frames, told);
            assert!(frames.next_offset > from || !told, "reading history stands still at {from}");
            if frames.next_offset <= from {
                break;
            }
            from = frames.next_offset;
        }
        if told {
            let lost = recovery.lost.iter().filter(|(of, _)| of == key).flat_map(|(_, lost)| lost.clone());
            for offset in lost {
                assert!(found.lost.contains(&offset), "offset {offset} of {key:?} was reported as lost");
            }
        }
        for entry in stream.entries() {
            // An error is an answer, a wrong body is not.
            if let Ok(body) = stream.read_entry(entry.position) {
                let written = body.is_empty() || body == "outcome of the first two";
                assert!(written || !told, "an entry of {body:?}");
                found.entries.insert(entry.position.0, body.to_vec());
            }
        }
        found.checkpoint = stream.latest_checkpoint().map(|body| body.to_vec());
        found.source = stream.source_position("topic", 7);
        if told {
            is_stated(key, found.checkpoint.as_deref(), found.source.as_deref());
        }
        all.insert(key.clone(), found);
    }
    all
}

/// Takes over what was read.
fn take(rows: &mut Rows, key: &StreamKey, frames: &Frames, told: bool) {
    for frame in &frames.frames {
        for (row, record) in frame.records().enumerate() {
            let offset = frame.base_offset + row as u64;
            let before = rows.insert(offset, record.to_vec());
            assert!(before.is_none() || !told, "offset {offset} twice");
            if told {
                is_written(key, offset, record);
            }
        }
    }
}

/// What there is of these was written for this stream, and nothing else ever was.
fn is_stated(key: &StreamKey, checkpoint: Option<&[u8]>, source: Option<&[u8]>) {
    let (checkpoint_written, source_written) = match key.name.as_str() {
        "slow" => (Some("checkpoint"), Some("offset 2")),
        "fast" => (Some(""), None),
        _ => (None, None),
    };
    for (stated, written) in [(checkpoint, checkpoint_written), (source, source_written)] {
        let is = stated.is_none() || stated == written.map(str::as_bytes);
        assert!(is, "{:?} of {key:?}, not {written:?}", stated.map(String::from_utf8_lossy));
    }
}

/// The fixture holds this record.
fn is_written(key: &StreamKey, offset: u64, record: &[u8]) {
    let text = match (key.name.as_str(), offset) {
        ("slow", 0) => "first".to_owned(),
        ("slow", 1) => "second".to_owned(),
        ("slow", 2..=40) => {
            let length = offset as usize * 3 % 70;
            format!("record {offset} {}", "abcdefghij".repeat(length))
        }
        ("fast", 0..38) => "f".repeat(1500),
        ("gone", 0) => "deleted later".to_owned(),
        _ => panic!("nothing was written at {offset} of {key:?}"),
    };
    assert_eq!(String::from_utf8_lossy(record), text, "at {offset} of {key:?}");
}
