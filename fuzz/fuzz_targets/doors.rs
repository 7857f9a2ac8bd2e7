//! libFuzzer's way into [`wasmill_fuzz::doors`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::doors(data));
