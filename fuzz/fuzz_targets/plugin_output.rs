//! libFuzzer's way into [`wasmill_fuzz::plugin_output`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::plugin_output(data));
