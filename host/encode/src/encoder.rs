//! One object from framed rows: format around it, compression through it, digests beside it.
//!
//! An `Encoder` belongs to one thread and keeps its compressor contexts and its output buffer, so
//! that an object costs no large allocation. It refuses pieces whose rows are not framed and
//! pieces that do not add up to the announced size; after an error the next object starts clean.

use std::io::{self, Write};

use xxhash_rust::xxh3::Xxh3;

use crate::deflate::{DeflateContext, Wrapper};
use crate::snappy_blocks::{Framing, SnappyBlocks};
use crate::zip::ZipContext;
use crate::zstandard::ZstdContext;
use crate::{Compression, Format};

/// Objects of at least this many framed bytes may be compressed by several zstd jobs.
pub const PARALLEL_BYTES_MIN: u64 = 8 << 20;
/// Bytes that a compressor hands over at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Size of the uncompressed object, in bytes.
    pub raw_bytes: u64,
    /// Size of what was written, in bytes.
    pub bytes: u64,
    /// xxh3-128 of the uncompressed object.
    pub digest: u128,
    /// xxh3-128 of what was written: lets a destination recognise the object without decompressing it.
    pub body_digest: u128,
}

/// Reusable contexts of one thread.
pub struct Encoder {
    buffer: Vec<u8>,
    workers: u32,
    gzip: Option<DeflateContext>,
    zstd: Option<ZstdContext>,
    snappy_blocks: Option<SnappyBlocks>,
    zip: Option<ZipContext>,
    raw_digest: Xxh3,
    body_digest: Xxh3,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder::new()
    }
}

impl Encoder {
    /// An encoder that compresses on the calling thread only.
    pub fn new() -> Encoder {
        Encoder::with_workers(0)
    }

    /// An encoder that gives objects of `PARALLEL_BYTES_MIN` and more to `workers` zstd threads
    /// (0 = the calling thread only). The result is still one frame.
    pub fn with_workers(workers: u32) -> Encoder {
        Encoder {
            buffer: Vec::new(),
            workers,
            gzip: None,
            zstd: None,
            snappy_blocks: None,
            zip: None,
            raw_digest: Xxh3::new(),
            body_digest: Xxh3::new(),
        }
    }

    /// Writes one object to `out`.
    ///
    /// Every non-empty piece holds whole rows, each followed by `format.separator()` if there is one.
    /// `framed_bytes`, where known, is the sum of the pieces' lengths: it goes into the zstd frame
    /// header, sizes the compressor's tables and saves a small ZIP archive the structures of large
    /// ones; pieces that add up to something else are an error.
    pub fn encode<P, W>(
        &mut self,
        format: Format,
        compression: Compression,
        framed_bytes: Option<u64>,
        pieces: impl IntoIterator<Item = io::Result<P>>,
        out: &mut W,
    ) -> io::Result<Encoded>
    where
        P: AsRef<[u8]>,
        W: Write + ?Sized,
    {
        if format == Format::Parquet {
            return Err(invalid("rows of columns are not encoded here"));
        }
        self.buffer.resize(BUFFER_BYTES, 0);
        self.raw_digest.reset();
        self.body_digest.reset();
        let mut out = Counted { out, digest: &mut self.body_digest, bytes: 0 };
        let raw_bytes = framed_bytes.map(|framed| format.object_bytes(framed));
        let codec = match compression {
            Compression::None => Codec::Plain(out),
            Compression::Gzip { level } => {
                let context = DeflateContext::ready(&mut self.gzip, Wrapper::Gzip, level);
                Codec::Gzip { context, buffer: &mut self.buffer, out }
            }
            Compression::Zstd { level } => {
                let parallel = framed_bytes.is_some_and(|framed| framed >= PARALLEL_BYTES_MIN);
                let workers = if parallel { self.workers } else { 0 };
                let context = ZstdContext::ready(&mut self.zstd, level, workers, raw_bytes)?;
                Codec::Zstd { context, buffer: &mut self.buffer, out }
            }
            Compression::Snappy => Codec::Snappy(Box::new(snap::write::FrameEncoder::new(out))),
            Compression::SnappyJava | Compression::HadoopSnappy => {
                let java = compression == Compression::SnappyJava;
                let framing = if java { Framing::SnappyJava } else { Framing::Hadoop };
                let context = SnappyBlocks::start(&mut self.snappy_blocks, framing, &mut out)?;
                Codec::SnappyBlocks { context, out }
            }
            Compression::Zip => {
                let context = ZipContext::ready(&mut self.zip, raw_bytes);
                Codec::Zip { context, buffer: &mut self.buffer, out }
            }
        };
        let mut body = Body { codec, digest: &mut self.raw_digest, raw_bytes: 0 };
        body.write(format.prefix())?;
        write_rows(format, pieces, &mut body)?;
        body.write(format.suffix())?;
        if raw_bytes.is_some_and(|expected| expected != body.raw_bytes) {
            return Err(invalid("pieces do not add up to the announced size"));
        }
        let raw_bytes = body.raw_bytes;
        let Body { codec, digest, .. } = body;
        let (bytes, body_digest) = codec.finish()?;
        Ok(Encoded { raw_bytes, bytes, digest: digest.digest128(), body_digest })
    }
}

/// Passes the pieces on, without the very last separator where the format has none there.
fn write_rows<P: AsRef<[u8]>, W: Write + ?Sized>(
    format: Format,
    pieces: impl IntoIterator<Item = io::Result<P>>,
    body: &mut Body<'_, '_, W>,
) -> io::Result<()> {
    let separator = format.separator();
    let mut held = false;
    for piece in pieces {
        let piece = piece?;
        let Some((&last, rows)) = piece.as_ref().split_last() else { continue };
        if separator.is_some_and(|separator| last != separator) {
            return Err(invalid("a piece does not end with the format's separator"));
        }
        if format.keeps_last_separator() {
            body.write(piece.as_ref())?;
            continue;
        }
        if held {
            body.write(separator.as_slice())?;
        }
        body.write(rows)?;
        held = true;
    }
    Ok(())
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// The uncompressed side.
struct Body<'a, 'd, W: Write + ?Sized> {
    codec: Codec<'a, W>,
    digest: &'d mut Xxh3,
    raw_bytes: u64,
}

impl<W: Write + ?Sized> Body<'_, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.digest.update(bytes);
        self.raw_bytes += bytes.len() as u64;
        self.codec.write(bytes)
    }
}

enum Codec<'a, W: Write + ?Sized> {
    Plain(Counted<'a, W>),
    Gzip { context: &'a mut DeflateContext, buffer: &'a mut [u8], out: Counted<'a, W> },
    Zstd { context: &'a mut ZstdContext, buffer: &'a mut [u8], out: Counted<'a, W> },
    Snappy(Box<snap::write::FrameEncoder<Counted<'a, W>>>),
    SnappyBlocks { context: &'a mut SnappyBlocks, out: Counted<'a, W> },
    Zip { context: &'a mut ZipContext, buffer: &'a mut [u8], out: Counted<'a, W> },
}

impl<W: Write + ?Sized> Codec<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Codec::Plain(out) => out.write_all(bytes),
            Codec::Gzip { context, buffer, out } => context.write(bytes, buffer, out),
            Codec::Zstd { context, buffer, out } => context.write(bytes, buffer, out),
            Codec::Snappy(encoder) => encoder.write_all(bytes),
            Codec::SnappyBlocks { context, out } => context.write(bytes, out),
            Codec::Zip { context, buffer, out } => context.write(bytes, buffer, out),
        }
    }

    /// Ends the stream; size and digest of what was written.
    fn finish(self) -> io::Result<(u64, u128)> {
        match self {
            Codec::Plain(out) => Ok(out.ended()),
            Codec::Gzip { context, buffer, mut out } => {
                context.finish(buffer, &mut out)?;
                Ok(out.ended())
            }
            Codec::Zstd { context, buffer, mut out } => {
                context.finish(buffer, &mut out)?;
                Ok(out.ended())
            }
            Codec::SnappyBlocks { context, mut out } => {
                context.finish(&mut out)?;
                Ok(out.ended())
            }
            Codec::Zip { context, buffer, mut out } => {
                context.finish(buffer, &mut out)?;
                Ok(out.ended())
            }
            Codec::Snappy(encoder) => {
                let mut encoder = *encoder;
                encoder.flush()?;
                if encoder.get_ref().bytes == 0 {
                    // The library writes its stream header with the first byte of data only.
                    encoder.get_mut().write_all(SNAPPY_STREAM_HEADER)?;
                }
                Ok(encoder.get_ref().ended())
            }
        }
    }
}

/// Chunk type 0xff, length 6, "sNaPpY": how every snappy framed stream starts.
const SNAPPY_STREAM_HEADER: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// The compressed side.
struct Counted<'a, W: Write + ?Sized> {
    out: &'a mut W,
    digest: &'a mut Xxh3,
    bytes: u64,
}

impl<W: Write + ?Sized> Counted<'_, W> {
    fn ended(&self) -> (u64, u128) {
        (self.bytes, self.digest.digest128())
    }
}

impl<W: Write + ?Sized> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
