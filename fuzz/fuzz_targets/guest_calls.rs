//! libFuzzer's way into [`wasmill_fuzz::guest_calls`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::guest_calls(data));
