//! A ZIP archive of one deflated entry, written front to back (PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3).
//!
//! Sizes and checksum follow the content (a data descriptor), because a plain writer cannot go back. The entry has
//! the earliest time that the format knows and a name made of its content, so that equal input gives equal bytes. An
//! object that is known to stay well below 4 GiB has the plain structures that every reader knows; others have those
//! of ZIP64. After an error nothing is written that would make an archive of what there is.

use std::io::{self, Write};

use flate2::Crc;
use xxhash_rust::xxh3::xxh3_128;

use crate::compression::DEFAULT_GZIP_LEVEL;
use crate::deflate::{DeflateContext, Wrapper};

/// The entry's name is made of so many bytes, the first of the content.
const NAMED_BYTES: usize = 64 << 10;
/// Content of at most so many bytes fits the plain structures, even where deflate makes it larger.
const PLAIN_BYTES_MAX: u64 = (4 << 30) - (16 << 20);
/// Versions of the format that a reader must know: for deflate, and for ZIP64.
const VERSION_DEFLATE: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// Made by version 4.5 on Unix, whose file modes are in the external attributes.
const MADE_BY: u16 = 3 << 8 | VERSION_ZIP64;
/// An ordinary file, `rw-r--r--`.
const ATTRIBUTES: u32 = 0o100_644 << 16;
/// Bit 3: sizes and checksum are in the data descriptor.
const FLAGS: u16 = 1 << 3;
const DEFLATED: u16 = 8;
/// Midnight of 1 January 1980.
const TIME_AND_DATE: u32 = (1 << 5 | 1) << 16;
/// "See the ZIP64 field."
const ELSEWHERE: u32 = u32::MAX;
const ZIP64_FIELD: u16 = 1;

pub(crate) struct ZipContext {
    deflate: Option<DeflateContext>,
    crc: Crc,
    /// The first bytes, until there are enough for a name.
    head: Vec<u8>,
    name: Option<[u8; 36]>,
    zip64: bool,
}

impl ZipContext {
    /// The slot's context, reset for a new archive. `raw_bytes`: the content's size, where it is known.
    pub(crate) fn ready(slot: &mut Option<ZipContext>, raw_bytes: Option<u64>) -> &mut ZipContext {
        let context = slot.get_or_insert_with(|| ZipContext {
            deflate: None,
            crc: Crc::new(),
            head: Vec::new(),
            name: None,
            zip64: false,
        });
        DeflateContext::ready(&mut context.deflate, Wrapper::Nothing, DEFAULT_GZIP_LEVEL);
        context.crc.reset();
        context.head.clear();
        context.name = None;
        context.zip64 = raw_bytes.is_none_or(|bytes| bytes > PLAIN_BYTES_MAX);
        context
    }

    pub(crate) fn write(&mut self, bytes: &[u8], buffer: &mut [u8], out: &mut impl Write) -> io::Result<()> {
        if self.name.is_some() {
            return self.deflate(bytes, buffer, out);
        }
        let (first, rest) = bytes.split_at(bytes.len().min(NAMED_BYTES - self.head.len()));
        self.head.extend_from_slice(first);
        if self.head.len() < NAMED_BYTES {
            return Ok(());
        }
        self.start(buffer, out)?;
        self.deflate(rest, buffer, out)
    }

    /// Ends the entry and writes the archive's directory.
    pub(crate) fn finish(&mut self, buffer: &mut [u8], out: &mut impl Write) -> io::Result<()> {
        let name = match self.name {
            Some(name) => name,
            None => self.start(buffer, out)?,
        };
        let zip64 = self.zip64;
        let deflate = self.deflate.as_mut().ok_or_else(not_ready)?;
        deflate.finish(buffer, out)?;
        let (raw, packed) = deflate.totals();
        let crc = self.crc.sum();
        let mut descriptor = Record::default().u32(0x0807_4b50).u32(crc);
        descriptor = match zip64 {
            true => descriptor.u64(packed).u64(raw),
            false => descriptor.u32(plain(packed)?).u32(plain(raw)?),
        };
        let mut entry = Record::default().u32(0x0201_4b50).u16(MADE_BY).u16(self.version()).u16(FLAGS);
        entry = entry.u16(DEFLATED).u32(TIME_AND_DATE).u32(crc);
        entry = match zip64 {
            true => entry.u32(ELSEWHERE).u32(ELSEWHERE),
            false => entry.u32(plain(packed)?).u32(plain(raw)?),
        };
        entry = entry.u16(length(&name)).u16(if zip64 { 20 } else { 0 });
        // No comment; disk 0; not known to be text; attributes; the local header is the first byte of all.
        entry = entry.u16(0).u16(0).u16(0).u32(ATTRIBUTES).u32(0).bytes(&name);
        if zip64 {
            entry = entry.u16(ZIP64_FIELD).u16(16).u64(raw).u64(packed);
        }
        let at = self.local_header(&name).0.len() as u64 + packed + descriptor.0.len() as u64;
        let entry_bytes = entry.0.len();
        let mut end = Record::default();
        if zip64 {
            // The ZIP64 end record: 44 bytes follow its own length; one disk, one entry. Then where it is.
            end = end.u32(0x0606_4b50).u64(44).u16(MADE_BY).u16(VERSION_ZIP64).u32(0).u32(0).u64(1).u64(1);
            end = end.u64(entry_bytes as u64).u64(at);
            end = end.u32(0x0706_4b50).u32(0).u64(at + entry_bytes as u64).u32(1);
        }
        end = end.u32(0x0605_4b50).u16(0).u16(0).u16(1).u16(1);
        end = end.u32(plain(entry_bytes as u64)?).u32(if zip64 { ELSEWHERE } else { plain(at)? }).u16(0);
        [descriptor, entry, end].iter().try_for_each(|record| out.write_all(&record.0))
    }

    /// Writes what stands before the content, and the first of it.
    fn start(&mut self, buffer: &mut [u8], out: &mut impl Write) -> io::Result<[u8; 36]> {
        let name = uuid(xxh3_128(&self.head));
        self.name = Some(name);
        out.write_all(&self.local_header(&name).0)?;
        let head = std::mem::take(&mut self.head);
        let deflated = self.deflate(&head, buffer, out);
        self.head = head;
        deflated.map(|()| name)
    }

    fn deflate(&mut self, bytes: &[u8], buffer: &mut [u8], out: &mut impl Write) -> io::Result<()> {
        self.crc.update(bytes);
        self.deflate.as_mut().ok_or_else(not_ready)?.write(bytes, buffer, out)
    }

    fn version(&self) -> u16 {
        if self.zip64 { VERSION_ZIP64 } else { VERSION_DEFLATE }
    }

    fn local_header(&self, name: &[u8; 36]) -> Record {
        let size = if self.zip64 { ELSEWHERE } else { 0 };
        let header = Record::default().u32(0x0403_4b50).u16(self.version()).u16(FLAGS).u16(DEFLATED);
        let header = header.u32(TIME_AND_DATE).u32(0).u32(size).u32(size).u16(length(name));
        match self.zip64 {
            true => header.u16(20).bytes(name).u16(ZIP64_FIELD).u16(16).u64(0).u64(0),
            false => header.u16(0).bytes(name),
        }
    }
}

/// Numbers of a structure, the low byte first.
#[derive(Default)]
struct Record(Vec<u8>);

impl Record {
    fn bytes(mut self, bytes: &[u8]) -> Record {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(self, number: u16) -> Record {
        self.bytes(&number.to_le_bytes())
    }

    fn u32(self, number: u32) -> Record {
        self.bytes(&number.to_le_bytes())
    }

    fn u64(self, number: u64) -> Record {
        self.bytes(&number.to_le_bytes())
    }
}

/// The digest as a UUID of version 8, whose bits are the maker's own (RFC 9562).
fn uuid(digest: u128) -> [u8; 36] {
    let digest = digest & !(0xf << 76 | 0b11 << 62) | 0x8 << 76 | 0b10 << 62;
    let mut name = [b'-'; 36];
    let digits = format!("{digest:032x}");
    let places = (0..36).filter(|at| ![8, 13, 18, 23].contains(at));
    for (at, digit) in places.zip(digits.bytes()) {
        if let Some(place) = name.get_mut(at) {
            *place = digit;
        }
    }
    name
}

fn length(name: &[u8; 36]) -> u16 {
    u16::try_from(name.len()).unwrap_or(u16::MAX)
}

/// A size in a structure that has four bytes for it.
fn plain(bytes: u64) -> io::Result<u32> {
    let message = "the object is larger than was announced, and than this archive can be";
    u32::try_from(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn not_ready() -> io::Error {
    io::Error::other("the archive was not begun")
}
