//! What SQLite asks a system for: there is none. Time and chance are not to be had, so that the same records give the same.

#![allow(
    unsafe_code,
    reason = "the names that the C library is linked with, and the memory that it hands over"
)]

use sqlite_wasm_rs::host::{Error, LocalTime};

#[unsafe(no_mangle)]
extern "C" fn rust_sqlite_wasm_host_sleep(_seconds: u64, _nanoseconds: u32) {}

/// Nothing is written: the seeds of SQLite's own generator stay what they are. No function of a query reaches it.
#[unsafe(no_mangle)]
extern "C" fn rust_sqlite_wasm_host_random(_buffer: *mut u8, _length: usize) -> usize {
    0
}

#[unsafe(no_mangle)]
extern "C" fn rust_sqlite_wasm_host_epoch_timestamp_in_ms(_out: *mut i64) -> i32 {
    Error::Unsupported as i32
}

#[unsafe(no_mangle)]
extern "C" fn rust_sqlite_wasm_host_fill_entropy(_buffer: *mut u8, _length: usize) -> i32 {
    Error::Unsupported as i32
}

#[unsafe(no_mangle)]
extern "C" fn rust_sqlite_wasm_host_localtime(_seconds: i64, _out: *mut LocalTime) -> i32 {
    Error::Unsupported as i32
}
