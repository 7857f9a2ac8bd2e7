//! libFuzzer's way into [`wasmill_fuzz::firehose`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::firehose(data));
