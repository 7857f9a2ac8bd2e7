//! Formats, compression and capped decompression.
//!
//! `Encoder` turns framed rows into one object: one zstd frame, one gzip member, one snappy
//! stream or one archive of one entry, because readers stumble over several. Compressor contexts live as long as the encoder
//! and are reused between objects. `decompress` opens request bodies under a cap that holds for
//! the output, for the zstd window and for the number of bytes that may follow the last frame (none).
//!
//! It knows nothing of tenants, streams or destinations, and opens no files.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod compression;
mod decompress;
mod deflate;
mod encoder;
mod format;
mod snappy_blocks;
mod zip;
mod zstandard;

pub use compression::{
    Compression, DEFAULT_GZIP_LEVEL, DEFAULT_ZSTD_LEVEL, GZIP_LEVELS, LevelOutOfRange, ZSTD_LEVELS, extension,
};
pub use decompress::{DecodeError, Decompressor, Encoding, ZSTD_WINDOW_LOG_MAX, decompress};
pub use encoder::{Encoded, Encoder, PARALLEL_BYTES_MIN};
pub use format::{FRAME_HEAD_BYTES, Format, Row};
