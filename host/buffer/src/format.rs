//! The bytes on disk, version 1, in enough detail to write another reader.
//!
//! # Files
//! `DATA/journal/NNNNNNNN.wmj`: the journal, decimal numbers growing with time. A *journal position* is a
//! byte's place in the journal as a whole. A file's first frame is a [`Kind::FileStart`], whose position is
//! the file's start; the byte at `x` in a file with start `s` has position `s + x`. Of file `k` everything
//! from the start of file `k + 1` on is void, whatever its checksums say: this is how a recycled file's old
//! content, a torn tail and what followed a failed sync are ruled out. A frame is part of the journal only
//! where its own position field equals the place where it was found, and its journal id is that of the
//! directory. `spare-*` files hold nothing; `*.tmp` files are unfinished.
//!
//! `DATA/segments/NNNNNNNN.wms`: segments: frames of records and entries that streams still needed or kept as history
//! when the journal grew too long, copied verbatim out of the oldest journal files, which were then freed, one behind the other with
//! growing positions. Numbers say nothing. Small or sparse segments are copied together into new ones. A frame
//! that is in two files (the program ended before the older was freed) is the same in both; if it is corrupt in one, the
//! other counts. Everything in a
//! segment was durable; frames of unknown streams belong to deleted ones. Ranges of zeros are to be passed over.
//!
//! `DATA/set-aside/`: copies of corrupt ranges. `DATA/journal/lock`: locked with `flock` while open, holds the
//! process id and the machine's name.
//!
//! # Frame
//! A header, a body, and zeros up to a multiple of 64 bytes. Numbers are little-endian.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `wmFr` |
//! | 4 | 2 | version, 1 |
//! | 6 | 2 | header length, variable part and its padding included; a multiple of 8 |
//! | 8 | 4 | CRC-32C of the header with this field as zero |
//! | 12 | 4 | CRC-32C of the body |
//! | 16 | 8 | body length |
//! | 24 | 2 | required flags: a reader that knows not every bit must refuse the journal (none defined) |
//! | 26 | 2 | optional flags: bit 0 = the producer fields are set; unknown bits are ignored |
//! | 28 | 1 | kind, see [`Kind`] |
//! | 29 | 1 | codec of the columns (0 = none) |
//! | 30 | 2 | number of columns |
//! | 32 | 8 | journal id, random, made with the data directory |
//! | 40 | 8 | journal position of this frame; it and offsets are at most 2^62 |
//! | 48 | 8 | durable-up-to: everything before this position, which is never behind the frame's own, was durable when the frame was written |
//! | 56 | 4 | stream id (0 = the journal itself); never reused, also not where only a frame with it is left of the stream |
//! | 60 | 4 | epoch; grows by 1 to 16,384 at each unclean open, at random, so that a directory that was put back to an earlier state does not count the same way again |
//! | 64 | 16 | incarnation: random, made with the stream |
//! | 80 | 8 | base: offset of the first record; entries: first input offset; checkpoint: records needed from |
//! | 88 | 8 | until: offset behind the last record; entries: end of the input range; checkpoint: journal position that entries are needed from |
//! | 96 | 4 | record count |
//! | 100 | 4 | partition of the source |
//! | 104 | 8 | arrival of the first record, ns since 1970, signed; never decreases in a stream |
//! | 112 | 8 | producer id, where a protocol numbers its producers; see column 8 for those that have a name |
//! | 120 | 2 | producer epoch |
//! | 122 | 2 | length of the source's name |
//! | 124 | 4 | producer's sequence number of the first record |
//! | 128 | 2 | length of the source position |
//! | 130 | 2 | zero |
//! | 132 | 4 | schema id (0 = none) |
//! | 136 | 4 | id of the key that the columns are encrypted with (0 = plain) |
//! | 140 | 12 | nonce |
//! | 152 | 8 | records: offset behind the stream's last durable record before these, see *Offsets* |
//! | 160 | 8 each | column table: column id u16, flags u16 (bit 0 = a reader must know this column), length u32 |
//! | .. | | source name, source position (empty: that of the partition stays), zeros up to a multiple of 8 |
//!
//! # Body
//! Columns in the order of the table, each followed by zeros up to a multiple of 8. `n` = record count.
//!
//! | id | column | content |
//! |---|---|---|
//! | 1 | ends | n x u32: end of each record in the payload, never decreasing |
//! | 2 | payload | bytes |
//! | 3 | arrival deltas | n x u32: ns after the frame's arrival |
//! | 4 | keys | cells: n x u32 ends, n state bytes, then the values |
//! | 5 | attributes | u32 number; each: u32 length + name, u32 length + cells |
//! | 6 | event times | n x i64: ns since 1970 |
//! | 7 | content | of every kind but records: see the kind |
//! | 8 | numbered | u64 sequence of the request that these are the records of, 16 bytes digest of them, then the producer's name (1 to 128 bytes, UTF-8); not marked required |
//!
//! A codec or key other than 0 comes with a required flag. A kind or column that a reader does not know, and
//! that is not marked required, is passed over.
//!
//! # Kinds
//! - 1 file start: first of a file. Content: u64 file number, u32 next unused stream id, u32 how many
//!   snapshots follow at once, u64 length of the whole file (missing in older ones). Together they are synced before
//!   the file gets its name.
//! - 2 stream created: u32 length + tenant, u32 length + name.
//! - 3 records.
//! - 4 outcome, 6 mark: content opaque; base..until is the input range.
//! - 5 checkpoint: content opaque; the stream's records before `base` and its entries before journal
//!   position `until` are needed no more. Such records may be there all the same: as history, with gaps, or because
//!   their file is not freed yet.
//! - 7 stream deleted: empty.
//! - 8 snapshot of one stream: what all files before say of it, but for its records and entries: u32 length +
//!   tenant, u32 length + name, u64 end of the durable records, u64 next offset, u32 number of sources, each u32 length + name, u32 partition,
//!   u32 length + position; u8 1 + u32 length + content if there is a checkpoint (whose numbers are in base
//!   and until), else u8 0. Then, unless it ends here, what is known of producers: u32 number of them, each u32
//!   length + name, i64 arrival of the last request, u8 1 + u64 floor if there is one, else u8 0 + u64 0, u32 number
//!   of requests, each u64 sequence, 16 bytes digest, u64 first offset, u32 count, u64 journal position. The arrival
//!   field holds the last frame's.
//! - 9 closed: the journal was closed in order here; empty.
//!
//! # Offsets
//! An offset is given away once. When a write or sync fails, the records of that group are void (they lie behind
//! the next file's start), but their offsets are passed over: in the stream's next frame the field at 152 is less
//! than the base, and in a snapshot the end is less than the next offset. What lies between was never
//! acknowledged. Offsets that are missing elsewhere, from the end of one frame to the field at 152 of the next,
//! were acknowledged and are lost.
//!
//! # Reading
//! Read the frames of each file in order. At a bad frame (magic, checksum, position, length beyond the file)
//! with a position below the greatest durable-up-to of all valid frames (and file starts), the file is
//! corrupt: skip the frame if its header is sound, else look for the next valid frame in steps of 64 bytes.
//! At or beyond that position it is a torn tail, and the journal ends there. A *closed* frame is durable with
//! all before it. What was acknowledged in the last group before a crash is covered by no later frame: damage
//! to it cannot be told from a torn tail. But files are never cut: one that is shorter than its start says lost its end
//! to somebody else, and so what is missing or broken there is corrupt, unless it lies behind a *closed* frame. That
//! the newest file was removed is seen where no file is left but segments, or spares with a past, or where a segment
//! holds positions behind the journal's end.

use crate::limits;
use crate::wire::{u16_at, u32_at, u64_at};

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"wmFr";
/// The newest version that this program reads, and the one that it writes.
pub const VERSION: u16 = 1;
/// Header without column table, source name and source position.
pub const HEADER_FIXED_BYTES: usize = 160;
/// Required flags that this program knows.
pub const REQUIRED_KNOWN: u16 = 0;
/// Optional flag: the producer fields are set.
pub const OPTIONAL_PRODUCER: u16 = 1;
/// Column flag: a reader must know this column.
pub const COLUMN_REQUIRED: u16 = 1;

/// Column ids.
pub mod column {
    pub const ENDS: u16 = 1;
    pub const PAYLOAD: u16 = 2;
    pub const ARRIVAL_DELTAS: u16 = 3;
    pub const KEYS: u16 = 4;
    pub const ATTRIBUTES: u16 = 5;
    pub const EVENT_TIMES: u16 = 6;
    pub const CONTENT: u16 = 7;
    pub const NUMBERED: u16 = 8;
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A kind of a later version that need not be understood: passed over.
    Other = 0,
    FileStart = 1,
    StreamCreated = 2,
    Records = 3,
    Outcome = 4,
    Checkpoint = 5,
    Mark = 6,
    StreamDeleted = 7,
    Snapshot = 8,
    Closed = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Kind {
        match byte {
            1 => Kind::FileStart,
            2 => Kind::StreamCreated,
            3 => Kind::Records,
            4 => Kind::Outcome,
            5 => Kind::Checkpoint,
            6 => Kind::Mark,
            7 => Kind::StreamDeleted,
            8 => Kind::Snapshot,
            9 => Kind::Closed,
            _ => Kind::Other,
        }
    }
}

/// A column's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnEntry {
    pub id: u16,
    pub flags: u16,
    pub len: u32,
}

/// A frame's header. Fields as in the table above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub body_crc: u32,
    pub body_len: u64,
    pub required: u16,
    pub optional: u16,
    pub kind: Kind,
    pub codec: u8,
    pub journal: u64,
    pub position: u64,
    pub durable: u64,
    pub stream: u32,
    pub epoch: u32,
    pub incarnation: [u8; 16],
    pub base: u64,
    pub until: u64,
    pub count: u32,
    pub partition: u32,
    pub arrival: i64,
    pub producer_id: u64,
    pub producer_epoch: u16,
    pub producer_sequence: u32,
    pub schema: u32,
    pub key: u32,
    pub nonce: [u8; 12],
    pub after: u64,
    pub columns: Vec<ColumnEntry>,
    pub source_name: Vec<u8>,
    pub source_position: Vec<u8>,
}

/// Why bytes are not a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("no frame")]
    Magic,
    #[error("frame cut short")]
    Short,
    #[error("header checksum differs")]
    Checksum,
    #[error("header contradicts itself")]
    Inconsistent,
    /// The header is sound, but a newer program wrote it.
    #[error("format version {0}")]
    Version(u16),
    /// As above.
    #[error("unknown required features {0:#06x}")]
    Features(u16),
    /// As above.
    #[error("unknown required column {0}")]
    Column(u16),
}

impl Header {
    /// A header with every field zero but the kind.
    pub fn new(kind: Kind) -> Header {
        Header {
            body_crc: 0,
            body_len: 0,
            required: 0,
            optional: 0,
            kind,
            codec: 0,
            journal: 0,
            position: 0,
            durable: 0,
            stream: 0,
            epoch: 0,
            incarnation: [0; 16],
            base: 0,
            until: 0,
            count: 0,
            partition: 0,
            arrival: 0,
            producer_id: 0,
            producer_epoch: 0,
            producer_sequence: 0,
            schema: 0,
            key: 0,
            nonce: [0; 12],
            after: 0,
            columns: Vec::new(),
            source_name: Vec::new(),
            source_position: Vec::new(),
        }
    }

    /// Bytes of the header.
    pub fn header_len(&self) -> usize {
        (HEADER_FIXED_BYTES + self.columns.len() * 8 + self.source_name.len() + self.source_position.len())
            .next_multiple_of(8)
    }

    /// Bytes of the whole frame, padding included.
    pub fn frame_len(&self) -> u64 {
        (self.header_len() as u64 + self.body_len).next_multiple_of(limits::ALIGN)
    }

    /// Appends the header with its checksum. Callers keep the variable part within the limits.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let short = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&short(self.header_len()));
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.body_crc.to_le_bytes());
        out.extend_from_slice(&self.body_len.to_le_bytes());
        out.extend_from_slice(&self.required.to_le_bytes());
        out.extend_from_slice(&self.optional.to_le_bytes());
        out.push(self.kind as u8);
        out.push(self.codec);
        out.extend_from_slice(&short(self.columns.len()));
        out.extend_from_slice(&self.journal.to_le_bytes());
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.durable.to_le_bytes());
        out.extend_from_slice(&self.stream.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.incarnation);
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&self.until.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.partition.to_le_bytes());
        out.extend_from_slice(&self.arrival.to_le_bytes());
        out.extend_from_slice(&self.producer_id.to_le_bytes());
        out.extend_from_slice(&self.producer_epoch.to_le_bytes());
        out.extend_from_slice(&short(self.source_name.len()));
        out.extend_from_slice(&self.producer_sequence.to_le_bytes());
        out.extend_from_slice(&short(self.source_position.len()));
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.schema.to_le_bytes());
        out.extend_from_slice(&self.key.to_le_bytes());
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.after.to_le_bytes());
        for column in &self.columns {
            out.extend_from_slice(&column.id.to_le_bytes());
            out.extend_from_slice(&column.flags.to_le_bytes());
            out.extend_from_slice(&column.len.to_le_bytes());
        }
        out.extend_from_slice(&self.source_name);
        out.extend_from_slice(&self.source_position);
        out.resize(start + self.header_len(), 0);
        let crc = out.get(start..).map_or(0, crc32c::crc32c);
        if let Some(field) = out.get_mut(start + 8..start + 12) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
    }

    /// Reads a header from the start of `bytes`, which may hold more.
    pub fn read(bytes: &[u8]) -> Result<Header, HeaderError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(HeaderError::Magic);
        }
        // Version, header length and checksum have their place in every version.
        let version = u16_at(bytes, 4).ok_or(HeaderError::Short)?;
        let header_len = usize::from(u16_at(bytes, 6).ok_or(HeaderError::Short)?);
        if !(16..=limits::HEADER_BYTES_MAX).contains(&header_len) {
            return Err(HeaderError::Inconsistent);
        }
        let bytes = bytes.get(..header_len).ok_or(HeaderError::Short)?;
        let (head, tail) = (bytes.get(..8).unwrap_or_default(), bytes.get(12..).unwrap_or_default());
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(head), &[0; 4]), tail);
        if u32_at(bytes, 8) != Some(crc) {
            return Err(HeaderError::Checksum);
        }
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let header = Header::fields(bytes).ok_or(HeaderError::Inconsistent)?;
        let unknown = header.required & !REQUIRED_KNOWN;
        if unknown != 0 {
            return Err(HeaderError::Features(unknown));
        }
        let known = column::ENDS..=column::NUMBERED;
        let newer = |c: &&ColumnEntry| c.flags & COLUMN_REQUIRED != 0 && !known.contains(&c.id);
        if let Some(column) = header.columns.iter().find(newer) {
            return Err(HeaderError::Column(column.id));
        }
        let columns: u64 = header.columns.iter().map(|c| u64::from(c.len).next_multiple_of(8)).sum();
        if header.header_len() != header_len
            || header.body_len != columns
            || header.body_len > limits::BODY_BYTES_MAX
            || header.count as usize > limits::RECORDS_MAX
            || (header.kind == Kind::Records
                && (header.base.checked_add(u64::from(header.count)) != Some(header.until)
                    || header.after > header.base))
            || header.base.max(header.until) > limits::PLACE_MAX
            || header.position % limits::ALIGN != 0
            || header.position > limits::PLACE_MAX
            || header.durable > header.position
        {
            return Err(HeaderError::Inconsistent);
        }
        Ok(header)
    }

    fn fields(bytes: &[u8]) -> Option<Header> {
        let required = u16_at(bytes, 24)?;
        let mut header = Header {
            body_crc: u32_at(bytes, 12)?,
            body_len: u64_at(bytes, 16)?,
            required,
            optional: u16_at(bytes, 26)?,
            kind: Kind::from_byte(*bytes.get(28)?),
            codec: *bytes.get(29)?,
            journal: u64_at(bytes, 32)?,
            position: u64_at(bytes, 40)?,
            durable: u64_at(bytes, 48)?,
            stream: u32_at(bytes, 56)?,
            epoch: u32_at(bytes, 60)?,
            incarnation: *bytes.get(64..)?.first_chunk()?,
            base: u64_at(bytes, 80)?,
            until: u64_at(bytes, 88)?,
            count: u32_at(bytes, 96)?,
            partition: u32_at(bytes, 100)?,
            arrival: u64_at(bytes, 104)?.cast_signed(),
            producer_id: u64_at(bytes, 112)?,
            producer_epoch: u16_at(bytes, 120)?,
            producer_sequence: u32_at(bytes, 124)?,
            schema: u32_at(bytes, 132)?,
            key: u32_at(bytes, 136)?,
            nonce: *bytes.get(140..)?.first_chunk()?,
            after: u64_at(bytes, 152)?,
            columns: Vec::new(),
            source_name: Vec::new(),
            source_position: Vec::new(),
        };
        if header.required & !REQUIRED_KNOWN != 0 {
            return Some(header);
        }
        let columns = usize::from(u16_at(bytes, 30)?);
        if columns > limits::COLUMNS_MAX {
            return None;
        }
        let mut at = HEADER_FIXED_BYTES;
        for _ in 0..columns {
            header.columns.push(ColumnEntry {
                id: u16_at(bytes, at)?,
                flags: u16_at(bytes, at + 2)?,
                len: u32_at(bytes, at + 4)?,
            });
            at += 8;
        }
        let name_end = at + usize::from(u16_at(bytes, 122)?);
        let position_end = name_end + usize::from(u16_at(bytes, 128)?);
        header.source_name = bytes.get(at..name_end)?.to_vec();
        header.source_position = bytes.get(name_end..position_end)?.to_vec();
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn headers()(
            (kind, optional, codec, partition) in (1u8..=9, any::<u16>(), any::<u8>(), any::<u32>()),
            (journal, durable, position, base) in (any::<u64>(), any::<u64>(), 0u64..1 << 50, 0u64..1 << 60),
            (count, stream, epoch, arrival) in (0u32..1000, any::<u32>(), any::<u32>(), any::<i64>()),
            (incarnation, nonce, skipped) in (any::<[u8; 16]>(), any::<[u8; 12]>(), 0u64..100),
            lens in prop::collection::vec((1u16..=8, any::<u16>(), 0u32..100_000), 0..8),
            (source_name, source_position) in (
                prop::collection::vec(any::<u8>(), 0..200), prop::collection::vec(any::<u8>(), 0..200)),
        ) -> Header {
            Header {
                optional, codec, partition, journal, stream, epoch, arrival, incarnation, nonce,
                position: position * 64, durable: durable.min(position * 64), base, after: base.saturating_sub(skipped), count, until: base + u64::from(count),
                body_len: lens.iter().map(|l| u64::from(l.2).next_multiple_of(8)).sum(),
                columns: lens.into_iter().map(|(id, flags, len)| ColumnEntry { id, flags, len }).collect(),
                source_name, source_position,
                ..Header::new(Kind::from_byte(kind))
            }
        }
    }

    proptest! {
        #[test]
        fn header_written_reads_back(header in headers(), tail in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            prop_assert_eq!(bytes.len(), header.header_len());
            bytes.extend(tail);
            prop_assert_eq!(Header::read(&bytes), Ok(header));
        }

        #[test]
        fn header_with_one_bit_flipped_is_refused(header in headers(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Header::read(&bytes).is_err());
        }

        #[test]
        fn header_cut_short_is_refused(header in headers(), at in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            bytes.truncate(at.index(bytes.len()));
            prop_assert!(Header::read(&bytes).is_err());
        }

        #[test]
        fn header_from_garbage_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..400), magic: bool) {
            if magic && bytes.len() >= 8 {
                bytes[..4].copy_from_slice(&MAGIC);
                bytes[4..8].copy_from_slice(&[1, 0, 160, 0]);
            }
            prop_assert!(Header::read(&bytes).is_err());
        }
    }

    #[test]
    fn header_with_numbers_that_nobody_wrote_is_refused() {
        let read = |change: &dyn Fn(&mut Header)| {
            let mut header = Header { durable: 128, position: 128, ..Header::new(Kind::Records) };
            change(&mut header);
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            Header::read(&bytes).map(drop)
        };
        assert_eq!(read(&|_| ()), Ok(()));
        let refused = Err(HeaderError::Inconsistent);
        assert_eq!(read(&|header| header.durable = 192), refused, "durable before it was written");
        assert_eq!(read(&|header| header.position = u64::MAX - 63), refused);
        assert_eq!(read(&|header| (header.base, header.until) = (u64::MAX, u64::MAX)), refused);
        assert_eq!(read(&|header| header.after = 1), refused, "behind what comes first");
    }

    #[test]
    fn header_of_a_newer_program_is_told_from_damage() {
        let mut bytes = Vec::new();
        Header { required: 0x8000, ..Header::new(Kind::Records) }.write(&mut bytes);
        assert_eq!(Header::read(&bytes), Err(HeaderError::Features(0x8000)));
    }
}
