//! Walking over the bytes of a journal file: frames where they say they are, and what lies between.
//!
//! Judges nothing: whether a bad range is torn or corrupt is for recovery to say.

use bytes::Bytes;

use crate::format::{Header, HeaderError};
use crate::frame::is_sound;
use crate::limits::ALIGN;
use crate::wire::u64_at;

/// A frame, or what stands where one should be (`ok` = false; with its header if that is sound).
pub(crate) struct Event {
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) header: Option<Header>,
    pub(crate) ok: bool,
}

/// All frames and bad ranges of a file in order.
pub(crate) struct Scan<'a> {
    data: &'a Bytes,
    start: u64,
    journal: u64,
    end: u64,
    /// Where the next frame should start.
    pub(crate) at: u64,
}

/// A frame that a newer program wrote, and where.
pub(crate) struct Newer(pub(crate) u64, pub(crate) HeaderError);

impl<'a> Scan<'a> {
    /// Over `data`, a file with this start, up to the byte `end` of it.
    pub(crate) fn new(data: &'a Bytes, start: u64, journal: u64, end: u64) -> Scan<'a> {
        Scan { data, start, journal, end: end.min(data.len() as u64), at: 0 }
    }

    fn slice(&self, at: u64) -> &'a [u8] {
        self.data.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default()
    }

    fn is_place(&self, at: u64) -> bool {
        let bytes = self.slice(at);
        u64_at(bytes, 32) == Some(self.journal) && u64_at(bytes, 40) == Some(self.start + at)
    }

    /// The next one; `None` where no frame follows any more.
    pub(crate) fn step(&mut self) -> Result<Option<Event>, Newer> {
        let (at, end) = (self.at, self.end);
        if at >= end {
            return Ok(None);
        }
        if self.is_place(at) {
            match Header::read(self.slice(at)) {
                Ok(header) => {
                    let len = header.frame_len();
                    let from = usize::try_from(at).unwrap_or(0) + header.header_len();
                    let to = from + usize::try_from(header.body_len).unwrap_or(0);
                    let fits = at + len <= end && to <= self.data.len();
                    let ok = fits && {
                        let body = self.data.slice(from..to);
                        crc32c::crc32c(&body) == header.body_crc && is_sound(&header, &body)
                    };
                    self.at += len;
                    return Ok(Some(Event { at, len: len.min(end - at), header: Some(header), ok }));
                }
                Err(
                    needs @ (HeaderError::Version(_) | HeaderError::Features(_) | HeaderError::Column(_)),
                ) => {
                    return Err(Newer(at, needs));
                }
                Err(_) => {}
            }
        }
        let mut next = at + ALIGN;
        while next < end && !(self.is_place(next) && Header::read(self.slice(next)).is_ok()) {
            next += ALIGN;
        }
        if next >= end {
            return Ok(None);
        }
        self.at = next;
        Ok(Some(Event { at, len: next - at, header: None, ok: false }))
    }
}
