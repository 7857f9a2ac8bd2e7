//! Every bound of the buffer in one place, and how they relate.
//!
//! Lengths that come from disk or from a caller are checked against these before they are used.

/// Frames start at multiples of this many bytes, so that a reader can find the next one.
pub(crate) const ALIGN: u64 = 64;
/// Longest header, its variable part included.
pub(crate) const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Longest body of one frame.
pub(crate) const BODY_BYTES_MAX: u64 = 1 << 30;
/// Most records of one frame.
pub(crate) const RECORDS_MAX: usize = 16 * 1024 * 1024;
/// Most columns of one frame.
pub(crate) const COLUMNS_MAX: usize = 64;
/// Longest tenant or stream name.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// Longest name of a source.
pub(crate) const SOURCE_NAME_BYTES_MAX: usize = 4096;
/// Longest opaque position inside a source.
pub(crate) const SOURCE_POSITION_BYTES_MAX: usize = 4096;
/// Most (source, partition) positions that one stream remembers.
pub(crate) const SOURCES_MAX: usize = 65_536;
/// Longest name of a producer.
pub(crate) const PRODUCER_BYTES_MAX: usize = 128;
/// Most producers that one stream remembers.
pub(crate) const PRODUCERS_MAX: usize = 10_000;
/// Most requests that are remembered of a producer.
pub(crate) const PRODUCER_REQUESTS_MAX: usize = 8;
/// A producer that was heard of within this time is not forgotten.
pub(crate) const PRODUCER_AGE_MIN_NS: i64 = 3600 * 1_000_000_000;
/// The same of a producer of one request ([`ONCE_PREFIX`]).
pub(crate) const ONCE_AGE_MIN_NS: i64 = 600 * 1_000_000_000;
/// How names of producers begin that send one request each: the name is the request's own.
pub const ONCE_PREFIX: &str = "once ";
/// Most attributes (names) of one frame.
pub(crate) const ATTRIBUTES_MAX: usize = 256;
/// Most appends that wait for the writer at one time.
pub(crate) const QUEUE_COUNT_MAX: usize = 16 * 1024;
/// What the shortest frame counts for against `max_bytes`, so that the index in memory is bounded too.
pub(crate) const CHARGE_BYTES_MIN: u64 = 2048;
/// Greatest journal position, offset and number of a file: more than ever come, and far from where adding overflows.
pub(crate) const PLACE_MAX: u64 = 1 << 62;
/// Smallest journal file.
pub(crate) const FILE_BYTES_MIN: u64 = 16 * 1024;
/// Slices of one vectored write (`IOV_MAX` on Linux).
pub(crate) const IO_SLICES_MAX: usize = 1024;
/// Free journal files that are kept for the next rotation. The last one is for checkpoints and entries, which
/// free space on a full disk.
pub(crate) const SPARES_MAX: usize = 4;
/// Frames of history that are dropped at a time, before others get the state.
pub(crate) const TRIM_FRAMES_MAX: usize = 4096;
/// Bytes of one write while frames are copied to a segment.
pub(crate) const COPY_BYTES: usize = 1 << 20;

const _: () =
    assert!(SOURCE_NAME_BYTES_MAX + SOURCE_POSITION_BYTES_MAX + COLUMNS_MAX * 8 + 256 <= HEADER_BYTES_MAX);
const _: () = assert!(HEADER_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(RECORDS_MAX < u32::MAX as usize && BODY_BYTES_MAX < u32::MAX as u64);
