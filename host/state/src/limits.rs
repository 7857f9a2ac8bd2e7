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
/// Entries that are written to the database, or removed from it, at a time;
pub(crate) const BATCH_ENTRIES: usize = 4096;
/// and their bytes, besides the last one.
pub(crate) const BATCH_BYTES: usize = 4 << 20;
/// Of so many entries of one table and more a write is sorted, and takes the way past the database's journal and its memory: two
/// seconds of CPU time less of a million of them, and some syncs more.
pub(crate) const SORTED_ENTRIES: usize = 65_536;
/// So many entries are asked for first where a walk goes on somewhere else, and four times as many each time that it only goes on.
pub(crate) const BLOCK_ENTRIES_FIRST: usize = 8;
/// What a change takes in memory besides its key and its value: its place among the others, pointers and counts.
pub(crate) const CHANGE_BYTES: usize = 112;
/// The same in an outcome.
pub(crate) const CHANGE_WRITTEN_BYTES: usize = 21;
/// What a slice keeps of what it read, of all tables, so that writing it needs no second read: as much as one chunk asks for.
pub(crate) const SEEN_ENTRIES: usize = 65_536;
/// The same, in bytes.
pub(crate) const SEEN_BYTES: usize = 4 << 20;
/// What is kept in memory of the tables of all streams, and of one table at most, besides what is not written yet.
pub(crate) const RESIDENT_BYTES: usize = 256 << 20;
pub(crate) const RESIDENT_TABLE_BYTES: usize = RESIDENT_BYTES / 2;
/// A stored table of at most so many bytes is read into it at once when it is first asked.
pub(crate) const RESIDENT_READ_BYTES: u64 = 32 << 20;
/// Changes that are made there, and places that are looked at for a write, before somebody who reads has a turn.
pub(crate) const COPIED_ENTRIES: usize = 256;
/// What of it is not written, past which a write begins;
pub(crate) const CHANGED_BYTES: usize = RESIDENT_BYTES / 2;
/// What of it is not written, past which nothing more is applied before it is.
pub(crate) const CHANGED_BYTES_MAX: usize = RESIDENT_BYTES;
/// Times that a table is read as a whole, if something of it is forgotten meanwhile.
pub(crate) const RESIDENT_READS: usize = 2;
/// What an entry takes there besides its address and its value.
pub(crate) const RESIDENT_ENTRY_BYTES: usize = 40;
