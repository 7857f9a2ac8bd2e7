//! Snappy in blocks, in the two framings that the JVM's tools have.
//!
//! *snappy-java* (the stream of `SnappyOutputStream` in xerial's library): a header of 16 bytes, then for each block
//! the length of its compressed bytes, four bytes with the high one first, and these. *Hadoop* (`BlockCompressorStream`
//! of Hadoop's `SnappyCodec`): no header, and before each block's compressed length, in the same form, its
//! uncompressed one; the format would allow several compressed parts in a block, here it is always one. Both
//! hold snappy's raw format (`format_description.txt` of Google's library). No stream has a mark for its end.

use std::io::{self, Write};

use snap::raw::{Encoder, max_compress_len};

/// Uncompressed bytes of a block: what snappy-java takes for both, far below the 256 KiB that Hadoop's readers have room for.
const BLOCK_BYTES: usize = 32 << 10;
/// `\x82SNAPPY\0`, version 1, readable since version 1.
const HEADER: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    SnappyJava,
    Hadoop,
}

/// Buffers and table of one thread.
pub(crate) struct SnappyBlocks {
    framing: Framing,
    encoder: Encoder,
    /// A block that is not full yet.
    pending: Vec<u8>,
    compressed: Vec<u8>,
}

impl SnappyBlocks {
    /// The slot's context, with the start of a new stream written.
    pub(crate) fn start<'a>(
        slot: &'a mut Option<SnappyBlocks>,
        framing: Framing,
        out: &mut impl Write,
    ) -> io::Result<&'a mut SnappyBlocks> {
        let context = slot.get_or_insert_with(|| SnappyBlocks {
            framing,
            encoder: Encoder::new(),
            pending: Vec::with_capacity(BLOCK_BYTES),
            compressed: vec![0; max_compress_len(BLOCK_BYTES)],
        });
        context.framing = framing;
        context.pending.clear();
        if framing == Framing::SnappyJava {
            out.write_all(HEADER)?;
        }
        Ok(context)
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
        while self.pending.len() + bytes.len() >= BLOCK_BYTES {
            let (now, later) = bytes.split_at(BLOCK_BYTES - self.pending.len());
            bytes = later;
            if self.pending.is_empty() {
                self.block(now, out)?;
            } else {
                self.pending.extend_from_slice(now);
                self.pending_block(out)?;
            }
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.pending_block(out) }
    }

    fn pending_block(&mut self, out: &mut impl Write) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.pending);
        let written = self.block(&block, out);
        block.clear();
        self.pending = block;
        written
    }

    fn block(&mut self, block: &[u8], out: &mut impl Write) -> io::Result<()> {
        let size = self.encoder.compress(block, &mut self.compressed).map_err(io::Error::other)?;
        if self.framing == Framing::Hadoop {
            out.write_all(&length(block.len()))?;
        }
        out.write_all(&length(size))?;
        out.write_all(self.compressed.get(..size).unwrap_or_default())
    }
}

/// Blocks and what they compress to are far below 4 GiB.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}
