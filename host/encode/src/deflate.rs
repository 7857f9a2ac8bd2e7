//! Deflate, bare or as one gzip member, from a context that is reset, not rebuilt, between objects.
//!
//! A member's header holds no time and no name, so that equal input gives equal bytes.

use std::io::{self, Write};

use flate2::{Compress, FlushCompress, Status};

use crate::compression::GZIP_LEVELS;

/// Window of 32 KiB, the largest that the format has.
const WINDOW_BITS: u8 = 15;

/// What stands around the deflated bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrapper {
    /// A gzip header and trailer.
    Gzip,
    Nothing,
}

pub(crate) struct DeflateContext {
    compress: Compress,
    made_of: (Wrapper, u32),
}

impl DeflateContext {
    /// The slot's context, reset for new content.
    pub(crate) fn ready(
        slot: &mut Option<DeflateContext>,
        wrapper: Wrapper,
        level: u32,
    ) -> &mut DeflateContext {
        let made_of = (wrapper, level.clamp(*GZIP_LEVELS.start(), *GZIP_LEVELS.end()));
        if slot.as_ref().is_some_and(|context| context.made_of != made_of) {
            *slot = None;
        }
        let context = slot.get_or_insert_with(|| {
            let level = flate2::Compression::new(made_of.1);
            let compress = match wrapper {
                Wrapper::Gzip => Compress::new_gzip(level, WINDOW_BITS),
                Wrapper::Nothing => Compress::new(level, false),
            };
            DeflateContext { compress, made_of }
        });
        context.compress.reset();
        context
    }

    /// Bytes taken and written since the context was reset.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.compress.total_in(), self.compress.total_out())
    }

    pub(crate) fn write(
        &mut self,
        mut bytes: &[u8],
        buffer: &mut [u8],
        out: &mut impl Write,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let (read, _) = self.step(bytes, buffer, FlushCompress::None, out)?;
            bytes = bytes.get(read..).unwrap_or_default();
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self, buffer: &mut [u8], out: &mut impl Write) -> io::Result<()> {
        while self.step(&[], buffer, FlushCompress::Finish, out)?.1 != Status::StreamEnd {}
        Ok(())
    }

    /// One call of the compressor: bytes read, and its status.
    fn step(
        &mut self,
        bytes: &[u8],
        buffer: &mut [u8],
        flush: FlushCompress,
        out: &mut impl Write,
    ) -> io::Result<(usize, Status)> {
        let (read_before, written_before) = (self.compress.total_in(), self.compress.total_out());
        let status = self.compress.compress(bytes, buffer, flush).map_err(io::Error::other)?;
        let read = to_length(self.compress.total_in() - read_before);
        let written = to_length(self.compress.total_out() - written_before);
        if status == Status::BufError && read == 0 && written == 0 {
            return Err(io::Error::other("deflate made no progress"));
        }
        out.write_all(buffer.get(..written).unwrap_or_default())?;
        Ok((read, status))
    }
}

/// Bytes of one call: never more than the slice that was passed.
fn to_length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
