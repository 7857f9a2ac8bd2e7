//! The same in msgpack mode: a map of at most 14 fields gets one more, `stamped`.

/// # Safety
/// The host hands in valid pointers to `tag_len` and `record_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stamp(
    _tag: *const u8,
    _tag_len: u32,
    _seconds: u32,
    _nanoseconds: u32,
    record: *const u8,
    record_len: u32,
) -> *const u8 {
    let record = unsafe { std::slice::from_raw_parts(record, record_len as usize) };
    let holds = |word: &[u8]| record.windows(word.len()).any(|part| part == word);
    if holds(b"drop") {
        return std::ptr::null();
    }
    assert!(!holds(b"panic"), "as asked");
    let (&[head], rest) = record.split_at(1) else { return std::ptr::null() };
    assert!((0x80..0x8f).contains(&head), "a small map");
    let mut made = vec![head + 1, 0xa0 + 7];
    made.extend_from_slice(b"stamped\xc3");
    made.extend_from_slice(rest);
    made.push(0);
    made.leak().as_ptr()
}
