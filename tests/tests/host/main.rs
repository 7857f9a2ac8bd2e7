//! Whole hosts from outside: what goes in over a source comes out at a destination, whatever happens on the way.
//!
//! Most hosts run inside the test's process, on a runtime of their own that can be torn down like a crash; `program`
//! runs the real binary. One test binary, because linking a host takes longer than testing it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says why it skips"
)]

mod access;
mod access_matrix;
mod alarms;
mod authoring;
mod certificates;
mod columns;
mod control;
mod decide;
mod destinations;
mod dev;
mod disk;
mod doors;
mod duckdb;
mod ending;
mod endpoints;
mod event_time;
mod event_time_sources;
mod firehose;
mod firehose_sdks;
mod follow;
mod granted;
mod grants;
mod history;
mod hostile;
mod http_faults;
mod iceberg;
mod invariants;
mod isolation;
mod kinesis;
mod letters;
mod letters_output;
mod listener;
mod memory;
mod memory_columns;
mod models;
mod named_sources;
mod opensearch;
mod partitions;
mod plugin_http;
mod plugin_logs;
mod plugins;
mod producers;
mod program;
mod quotas;
mod quotas_cpu;
mod quotas_set;
mod redshift;
mod replay;
mod s3;
mod s3_faults;
mod shadow;
mod shuttle;
mod signing;
mod sources;
mod sql;
mod staging;
mod start;
mod state;
mod state_layouts;
mod state_letters;
mod strands;
mod streaming;
mod tenants;
mod uploads;
mod usage;
mod versions;

/// The program with the compile child.
const COMPILER: &str = env!("CARGO_BIN_EXE_tests-compile-child");
