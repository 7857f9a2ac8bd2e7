//! Request bodies, opened under a cap.
//!
//! Refused: output past the cap, zstd windows past `ZSTD_WINDOW_LOG_MAX`, bodies that end inside a
//! frame or member, and anything behind the last one. Several gzip members or zstd frames in a row
//! are one body. Memory grows with what was really decompressed, never with what a header claims.

use std::io::{self, Read};

use flate2::bufread::GzDecoder;
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
        // Where the frame at hand begins; `None` between two.
        let mut frame = Some(0);
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
            let hint = step.map_err(|code| {
                let start = frame.unwrap_or(read_before);
                misplaced(Encoding::Zstd, body, start).unwrap_or_else(|| corrupt(code))
            })?;
            if out.len() > end {
                return Err(DecodeError::TooLarge { cap });
            }
            let stalled = written == 0 && input.pos() == read_before;
            if hint == 0 {
                frame = None;
            } else if !stalled {
                frame = frame.or(Some(read_before));
            }
            let over = input.pos() == body.len() && (hint == 0 || written < room);
            if over && frame.is_none() {
                return Ok(());
            }
            if over || (stalled && hint != 0) {
                let start = frame.unwrap_or(read_before);
                return Err(
                    misplaced(Encoding::Zstd, body, start).unwrap_or_else(|| truncated(Encoding::Zstd))
                );
            }
        }
    }
}

fn gzip(body: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let end = out.len().saturating_add(cap);
    let mut rest = body;
    loop {
        let start = body.len() - rest.len();
        let mut decoder = GzDecoder::new(rest);
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
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    return Err(misplaced(Encoding::Gzip, body, start).unwrap_or_else(|| {
                        match error.kind() {
                            io::ErrorKind::UnexpectedEof => truncated(Encoding::Gzip),
                            _ => DecodeError::Corrupt { encoding: Encoding::Gzip, reason: error.to_string() },
                        }
                    }));
                }
            }
        }
        rest = decoder.into_inner();
        if rest.is_empty() {
            return Ok(());
        }
    }
}

fn truncated(encoding: Encoding) -> DecodeError {
    DecodeError::Corrupt { encoding, reason: "it ends too early".to_owned() }
}

/// The error of a body in which no frame or member begins at `start`, where one was looked for.
fn misplaced(encoding: Encoding, body: &[u8], start: usize) -> Option<DecodeError> {
    let found = body.get(start..).unwrap_or_default();
    let magics: &[&[u8]] = match encoding {
        Encoding::Identity => return None,
        Encoding::Gzip => &[&[0x1f, 0x8b]],
        // Of a skippable frame the low half of the first byte is free.
        Encoding::Zstd => &[&[0x28, 0xb5, 0x2f, 0xfd], &[0x50, 0x2a, 0x4d, 0x18]],
    };
    let like = |magic: &[u8]| {
        let skippable = magic.first() == Some(&0x50);
        let same = |(at, (a, b)): (usize, (&u8, &u8))| a == b || (skippable && at == 0 && a & 0xf0 == *b);
        found.iter().zip(magic).enumerate().all(same)
    };
    let reason = if body.is_empty() {
        "it is empty".to_owned()
    } else if magics.iter().any(|magic| like(magic)) {
        return None;
    } else if start == 0 {
        let shown: Vec<String> = found.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("it does not begin as {} does, but with the bytes {}", codec(&encoding), shown.join(" "))
    } else {
        format!("bytes follow its end, which is at byte {start} of {}", body.len())
    };
    Some(DecodeError::Corrupt { encoding, reason })
}
