//! Every bound of the state in one place.

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4096;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Most tables of one transform.
pub const TABLES_MAX: usize = 64;
/// Memory of the changes of one slice, and of what takes them back: as they are written into its outcome they are less, far
/// below what one entry of the journal takes.
pub const SLICE_BYTES_MAX: usize = 64 << 20;
/// Most entries and bytes that one scan hands over.
pub const SCAN_ENTRIES_MAX: usize = 65_536;
pub const SCAN_BYTES_MAX: usize = 4 << 20;
/// What an entry counts besides its key and its value: where it belongs, and when it was written.
pub(crate) const ENTRY_BYTES: usize = 48;
/// Entries that are read from the store at a time.
pub(crate) const BLOCK_ENTRIES: usize = 512;
/// The same, in bytes.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
/// Of tables with a time to live, entries that are looked at for each that is changed, to remove those that are too old: more than
/// one, so that a round ends in which as many grow old as are written;
pub(crate) const SWEPT_PER_CHANGE: usize = 4;
/// not before so many may be, because each time costs something,
pub(crate) const SWEPT_LEAST: usize = BLOCK_ENTRIES;
/// and at most so many at a time.
pub(crate) const SWEPT_ENTRIES: usize = 2048;
/// Entries that are removed at a time when a table or a stream is dropped.
pub(crate) const DROPPED_ENTRIES: usize = 4096;
/// What a change takes in memory besides its key and its value: its place among the others, pointers and counts.
pub(crate) const CHANGE_BYTES: usize = 112;
/// What a slice keeps of what it read, of all tables, so that writing it needs no second read: as much as one chunk asks for.
pub(crate) const SEEN_ENTRIES: usize = 65_536;
/// The same, in bytes of values.
pub(crate) const SEEN_BYTES: usize = 4 << 20;
/// What is kept in memory of the tables of all streams, and of one table at most, so that reads need not ask the database.
pub(crate) const RESIDENT_BYTES: usize = 256 << 20;
pub(crate) const RESIDENT_TABLE_BYTES: usize = RESIDENT_BYTES / 2;
/// A stored table of at most so many bytes is read into it at once when it is first asked.
pub(crate) const RESIDENT_READ_BYTES: u64 = 32 << 20;
/// Changes that are copied there before somebody who reads has a turn.
pub(crate) const COPIED_ENTRIES: usize = 256;
/// What an entry takes there besides its address and its value.
pub(crate) const RESIDENT_ENTRY_BYTES: usize = 40;
