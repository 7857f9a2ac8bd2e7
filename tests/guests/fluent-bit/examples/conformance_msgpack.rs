//! The conformance plugin as filters of msgpack, a function for each task. The ABI has no errors: what fails panics.

use rmpv::Value;
use wasmill_guest_conformance::{Outcome, Task};

/// # Safety
/// `record` points to `len` bytes.
unsafe fn filter(task: Task, record: *const u8, len: u32) -> *const u8 {
    let record = unsafe { std::slice::from_raw_parts(record, len as usize) };
    let value = rmpv::decode::read_value(&mut &*record).expect("a record is msgpack");
    let text = serde_json::to_vec(&value).expect("a record has what JSON has");
    let made = match task.record(&text) {
        Outcome::Same => record.to_vec(),
        Outcome::Rows(rows) => match rows.first() {
            Some(row) => {
                let value: Value = serde_json::from_slice(row).expect("a row is JSON");
                let mut made = Vec::new();
                rmpv::encode::write_value(&mut made, &value).expect("memory takes it");
                made
            }
            None => return std::ptr::null(),
        },
        Outcome::Failed(reason) => panic!("{reason}"),
    };
    made.leak().as_ptr()
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
        ) -> *const u8 {
            unsafe { filter(Task::$task, record, record_len) }
        }
    )*};
}

filters!(
    pass "pass" Pass, keep "filter" Filter, map "map" Map, check "check" Check, raise "raise" Raise, trap "trap" Trap,
    turn "loop" Loop, hoard "hoard" Hoard, flood "flood" Flood
);
