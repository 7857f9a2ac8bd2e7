//! Fuzz targets: what arrives from outside, from a disk or from a plugin, as any bytes at all.
//!
//! Each target is a function of bytes that panics when a promise is broken, so that libFuzzer (`fuzz_targets`), the
//! replay of the corpora (`tests/replay.rs`) and a debugger run the same. It owns the promises and how bytes become
//! calls; it refuses to know who chooses the bytes.

#![expect(clippy::unwrap_used, reason = "a target fails by panicking")]

mod config;
mod decompress;
mod doors;
mod draw;
mod firehose;
mod guest_calls;
mod plugin_output;
mod push_body;
mod segment_reader;

pub use config::config;
pub use decompress::decompress;
pub use doors::doors;
pub use firehose::firehose;
pub use guest_calls::guest_calls;
pub use plugin_output::plugin_output;
pub use push_body::push_body;
pub use segment_reader::segment_reader;

/// A target: bytes in, a panic when a promise is broken.
pub type Target = fn(&[u8]);

/// Every target with the name of its corpus.
pub const TARGETS: [(&str, Target); 8] = [
    ("config", config),
    ("decompress", decompress),
    ("doors", doors),
    ("firehose", firehose),
    ("guest_calls", guest_calls),
    ("plugin_output", plugin_output),
    ("push_body", push_body),
    ("segment_reader", segment_reader),
];
