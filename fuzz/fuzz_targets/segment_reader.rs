//! libFuzzer's way into [`wasmill_fuzz::segment_reader`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::segment_reader(data));
