//! One zstd frame from a context that is reset, not rebuilt, between objects.
//!
//! Frames carry a checksum of their content and, where it is known, their content's size. An object of moderate size is
//! compressed in one piece: fed in parts, the compressor copies everything into a ring of its own, and matches that
//! reach across its seam cost a quarter more time. The frame is the same either way.

use std::io::{self, Write};

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{
    CCtx, CParameter, ErrorCode, InBuffer, OutBuffer, ResetDirective, compress_bound, get_error_name,
};

use crate::compression::ZSTD_LEVELS;

/// Objects of up to so many bytes are compressed in one piece.
const WHOLE_BYTES_MAX: usize = 16 << 20;

pub(crate) struct ZstdContext {
    context: CCtx<'static>,
    settings: Option<(i32, u32)>,
    way: Way,
    /// What there is of an object that is compressed in one piece.
    gathered: Vec<u8>,
    compressed: Vec<u8>,
}

/// How the object at hand is compressed.
#[derive(Clone, Copy)]
enum Way {
    InParts,
    /// In one piece of this size, once it is there.
    Whole(usize),
    Done,
}

impl ZstdContext {
    /// The slot's context, reset for a new frame. `workers` threads take its jobs (0 = the caller).
    pub(crate) fn ready(
        slot: &mut Option<ZstdContext>,
        level: i32,
        workers: u32,
        raw_bytes: Option<u64>,
    ) -> io::Result<&mut ZstdContext> {
        let level = level.clamp(*ZSTD_LEVELS.start(), *ZSTD_LEVELS.end());
        let context = slot.get_or_insert_with(|| ZstdContext {
            context: CCtx::create(),
            settings: None,
            way: Way::InParts,
            gathered: Vec::new(),
            compressed: Vec::new(),
        });
        context.context.reset(ResetDirective::SessionOnly).map_err(error)?;
        if context.settings != Some((level, workers)) {
            context.settings = None;
            context.set(CParameter::CompressionLevel(level))?;
            context.set(CParameter::ChecksumFlag(true))?;
            context.set(CParameter::NbWorkers(workers))?;
            context.settings = Some((level, workers));
        }
        context.context.set_pledged_src_size(raw_bytes).map_err(error)?;
        context.gathered.clear();
        let whole = raw_bytes.filter(|_| workers == 0).and_then(|bytes| usize::try_from(bytes).ok());
        context.way = whole.filter(|bytes| *bytes <= WHOLE_BYTES_MAX).map_or(Way::InParts, Way::Whole);
        Ok(context)
    }

    fn set(&mut self, parameter: CParameter) -> io::Result<()> {
        self.context.set_parameter(parameter).map(|_| ()).map_err(error)
    }

    pub(crate) fn write(&mut self, bytes: &[u8], buffer: &mut [u8], out: &mut impl Write) -> io::Result<()> {
        match self.way {
            Way::InParts => {}
            Way::Whole(size) if self.gathered.len() + bytes.len() > size => return Err(too_much()),
            Way::Whole(size) if bytes.len() == size => return self.compress(bytes, out),
            Way::Whole(_) => {
                self.gathered.extend_from_slice(bytes);
                return Ok(());
            }
            Way::Done => return Err(too_much()),
        }
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            self.step(&mut input, buffer, ZSTD_EndDirective::ZSTD_e_continue, out)?;
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self, buffer: &mut [u8], out: &mut impl Write) -> io::Result<()> {
        match self.way {
            Way::InParts => {}
            Way::Whole(_) => {
                let whole = std::mem::take(&mut self.gathered);
                let compressed = self.compress(&whole, out);
                self.gathered = whole;
                return compressed;
            }
            Way::Done => return Ok(()),
        }
        let mut input = InBuffer::around(&[]);
        while self.step(&mut input, buffer, ZSTD_EndDirective::ZSTD_e_end, out)? > 0 {}
        Ok(())
    }

    /// The whole object at once.
    fn compress(&mut self, whole: &[u8], out: &mut impl Write) -> io::Result<()> {
        self.way = Way::Done;
        self.compressed.clear();
        // Room for the worst case; pages that nothing is written to are not there.
        self.compressed.reserve(compress_bound(whole.len()));
        self.context.compress2(&mut self.compressed, whole).map_err(error)?;
        out.write_all(&self.compressed)
    }

    /// One call of the compressor: at least how many bytes it still holds back.
    fn step(
        &mut self,
        input: &mut InBuffer<'_>,
        buffer: &mut [u8],
        directive: ZSTD_EndDirective,
        out: &mut impl Write,
    ) -> io::Result<usize> {
        let mut output = OutBuffer::around(buffer);
        let remaining = self.context.compress_stream2(&mut output, input, directive).map_err(error)?;
        let written = output.pos();
        out.write_all(buffer.get(..written).unwrap_or_default())?;
        Ok(remaining)
    }
}

fn too_much() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "pieces are larger than the announced size")
}

/// What the library calls the error.
pub(crate) fn error(code: ErrorCode) -> io::Error {
    io::Error::other(get_error_name(code))
}
