//! Request bodies, opened under a cap.
//!
//! Refused: output past the cap, zstd windows past `ZSTD_WINDOW_LOG_MAX`, bodies that end inside a
//! frame or member, and anything behind the last one. Several gzip members or zstd frames in a row
//! are one body. Memory grows with what was really decompressed, never with what a header claims.

use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

/// Largest zstd window accepted: 8 MiB, what RFC 9659 asks of `Content-Encoding: zstd`.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Output grows by this much at a time.
const STEP_BYTES: usize = 64 << 10;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// The encoding that a `Content-Encoding` header names; `None` for one that is not supported.
    pub fn from_header(value: &str) -> Option<Encoding> {
        let value = value.trim();
        if value.is_empty() || value.eq_ignore_ascii_case("identity") {
            Some(Encoding::Identity)
        } else if value.eq_ignore_ascii_case("gzip") || value.eq_ignore_ascii_case("x-gzip") {
            Some(Encoding::Gzip)
        } else if value.eq_ignore_ascii_case("zstd") {
            Some(Encoding::Zstd)
        } else {
            None
        }
    }
}

/// Why a body was refused. What was already decompressed is taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the decompressed body exceeds {cap} bytes")]
    TooLarge { cap: usize },
    #[error("the body is not valid {}: {reason}", codec(.encoding))]
    Corrupt { encoding: Encoding, reason: String },
}

fn codec(encoding: &Encoding) -> &'static str {
    match encoding {
        Encoding::Identity => "text",
        Encoding::Gzip => "gzip",
        Encoding::Zstd => "zstd",
    }
}

/// Appends the decompressed `body` to `out`, at most `cap` bytes of it.
pub fn decompress(encoding: Encoding, body: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    Decompressor::new().decompress(encoding, body, cap, out)
}

/// A reusable context: saves building one per body where many small bodies come in.
#[derive(Default)]
pub struct Decompressor {
    zstd: Option<DCtx<'static>>,
}

impl Decompressor {
    pub fn new() -> Decompressor {
        Decompressor { zstd: None }
    }

    /// Appends the decompressed `body` to `out`, at most `cap` bytes of it. On error `out` is as before.
    pub fn decompress(
        &mut self,
        encoding: Encoding,
        body: &[u8],
        cap: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let start = out.len();
        let result = match encoding {
            Encoding::Identity if body.len() > cap => Err(DecodeError::TooLarge { cap }),
            Encoding::Identity => {
                out.extend_from_slice(body);
                Ok(())
            }
            Encoding::Gzip => gzip(body, cap, out),
            Encoding::Zstd => self.zstd(body, cap, out),
        };
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn zstd(&mut self, body: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let corrupt = |code| DecodeError::Corrupt {
            encoding: Encoding::Zstd,
            reason: get_error_name(code).to_ascii_lowercase(),
        };
        if self.zstd.is_none() {
            let mut context = DCtx::create();
            context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(corrupt)?;
            self.zstd = Some(context);
        }
        let Some(context) = self.zstd.as_mut() else { return Err(truncated(Encoding::Zstd)) };
        context.reset(ResetDirective::SessionOnly).map_err(corrupt)?;
        let end = out.len().saturating_add(cap);
        let mut input = InBuffer::around(body);
        let mut inside_frame = true;
        loop {
            let filled = out.len();
            // One byte of room past the cap tells "exactly full" from "more to come".
            let room = STEP_BYTES.min(end.saturating_add(1).saturating_sub(filled));
            if room == 0 {
                return Err(DecodeError::TooLarge { cap });
            }
            out.resize(filled + room, 0);
            let space = out.get_mut(filled..).unwrap_or_default();
            let mut output = OutBuffer::around(space);
            let read_before = input.pos();
            let step = context.decompress_stream(&mut output, &mut input);
            let written = output.pos();
            out.truncate(filled + written);
            // 0 = a frame ended and everything of it was handed over.
            let hint = step.map_err(corrupt)?;
            if out.len() > end {
                return Err(DecodeError::TooLarge { cap });
            }
            let stalled = written == 0 && input.pos() == read_before;
            if hint == 0 {
                inside_frame = false;
            } else if !stalled {
                inside_frame = true;
            }
            if input.pos() == body.len() && (hint == 0 || written < room) {
                return if inside_frame { Err(truncated(Encoding::Zstd)) } else { Ok(()) };
            }
            if stalled && hint != 0 {
                return Err(truncated(Encoding::Zstd));
            }
        }
    }
}

fn gzip(body: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let end = out.len().saturating_add(cap);
    let mut decoder = MultiGzDecoder::new(body);
    loop {
        let filled = out.len();
        let room = STEP_BYTES.min(end.saturating_add(1).saturating_sub(filled));
        if room == 0 {
            return Err(DecodeError::TooLarge { cap });
        }
        out.resize(filled + room, 0);
        let read = decoder.read(out.get_mut(filled..).unwrap_or_default());
        out.truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(_) if out.len() > end => return Err(DecodeError::TooLarge { cap }),
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(truncated(Encoding::Gzip));
            }
            Err(error) => {
                return Err(DecodeError::Corrupt { encoding: Encoding::Gzip, reason: error.to_string() });
            }
        }
    }
}

fn truncated(encoding: Encoding) -> DecodeError {
    DecodeError::Corrupt { encoding, reason: "it ends too early".to_owned() }
}
