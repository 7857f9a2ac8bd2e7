//! One zstd frame from a context that is reset, not rebuilt, between objects.
//!
//! Frames carry a checksum of their content and, where it is known, their content's size.

use std::io::{self, Write};

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, ErrorCode, InBuffer, OutBuffer, ResetDirective, get_error_name};

use crate::compression::ZSTD_LEVELS;

pub(crate) struct ZstdContext {
    context: CCtx<'static>,
    settings: Option<(i32, u32)>,
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
        let context = slot.get_or_insert_with(|| ZstdContext { context: CCtx::create(), settings: None });
        context.context.reset(ResetDirective::SessionOnly).map_err(error)?;
        if context.settings != Some((level, workers)) {
            context.settings = None;
            context.set(CParameter::CompressionLevel(level))?;
            context.set(CParameter::ChecksumFlag(true))?;
            context.set(CParameter::NbWorkers(workers))?;
            context.settings = Some((level, workers));
        }
        context.context.set_pledged_src_size(raw_bytes).map_err(error)?;
        Ok(context)
    }

    fn set(&mut self, parameter: CParameter) -> io::Result<()> {
        self.context.set_parameter(parameter).map(|_| ()).map_err(error)
    }

    pub(crate) fn write(&mut self, bytes: &[u8], buffer: &mut [u8], out: &mut impl Write) -> io::Result<()> {
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            self.step(&mut input, buffer, ZSTD_EndDirective::ZSTD_e_continue, out)?;
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self, buffer: &mut [u8], out: &mut impl Write) -> io::Result<()> {
        let mut input = InBuffer::around(&[]);
        while self.step(&mut input, buffer, ZSTD_EndDirective::ZSTD_e_end, out)? > 0 {}
        Ok(())
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

/// What the library calls the error.
pub(crate) fn error(code: ErrorCode) -> io::Error {
    io::Error::other(get_error_name(code))
}
