//! libFuzzer's way into [`wasmill_fuzz::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::config(data));
