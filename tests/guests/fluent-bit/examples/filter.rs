//! Drops records that hold `drop`, panics on those that hold `panic`, and puts tag and time in front of the others' first
//! field. What it returns is never freed, as there.

use std::ffi::{CString, c_char};

/// # Safety
/// The host hands in valid pointers to `tag_len` and `record_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stamp(
    tag: *const c_char,
    tag_len: u32,
    seconds: u32,
    nanoseconds: u32,
    record: *const c_char,
    record_len: u32,
) -> *const c_char {
    let text = |at: *const c_char, len: u32| unsafe {
        String::from_utf8_lossy(std::slice::from_raw_parts(at.cast::<u8>(), len as usize)).into_owned()
    };
    let (tag, record) = (text(tag, tag_len), text(record, record_len));
    if record.contains("drop") {
        return std::ptr::null();
    }
    assert!(!record.contains("panic"), "as asked");
    let known = seconds > 1_600_000_000 && nanoseconds < 1_000_000_000;
    let rest = record.trim_start().trim_start_matches('{');
    let made = format!("{{\"tag\":\"{tag}\",\"timed\":{known},{rest}");
    CString::new(made).map_or(std::ptr::null(), |made| made.into_raw().cast_const())
}
