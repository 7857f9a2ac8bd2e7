//! The conformance plugin as filters of JSON, a function for each task. The ABI has no errors: what fails panics.

use std::ffi::{CString, c_char};

use wasmill_guest_conformance::{Outcome, Task};

/// # Safety
/// `record` points to `len` bytes.
unsafe fn filter(task: Task, record: *const u8, len: u32) -> *const c_char {
    let record = unsafe { std::slice::from_raw_parts(record, len as usize) };
    let text = match task.record(record) {
        Outcome::Same => record.to_vec(),
        Outcome::Rows(rows) => match rows.into_iter().next() {
            Some(row) => row,
            None => return std::ptr::null(),
        },
        Outcome::Failed(reason) => panic!("{reason}"),
    };
    CString::new(text).map_or(std::ptr::null(), |text| text.into_raw().cast_const())
}

macro_rules! filters {
    ($($function:ident $name:literal $task:ident),*) => {$(
        /// # Safety
        /// The host hands in valid pointers.
        #[unsafe(export_name = $name)]
        pub unsafe extern "C" fn $function(
            _tag: *const u8,
            _tag_len: u32,
            _seconds: u32,
            _nanoseconds: u32,
            record: *const u8,
            record_len: u32,
        ) -> *const c_char {
            unsafe { filter(Task::$task, record, record_len) }
        }
    )*};
}

filters!(
    pass "pass" Pass, keep "filter" Filter, map "map" Map, check "check" Check, raise "raise" Raise, trap "trap" Trap,
    turn "loop" Loop, hoard "hoard" Hoard, flood "flood" Flood
);
