//! libFuzzer's way into [`wasmill_fuzz::push_body`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::push_body(data));
