//! The `sql` plugin: a query over the records of each batch, run by SQLite inside the plugin's own sandbox.
//!
//! The table `batch` has the columns that the config declares. Where each row of the result comes of one record, it stays
//! that record: `WHERE` drops it, and what fails in it makes a dead letter of it alone. Aggregates are rows of the batch.
//!
//! What it refuses: everything but one query; functions whose result is not the same for the same records; columns that
//! nobody declared. A value that is not of its column's type fails its record.

mod config;
mod database;
#[cfg(target_arch = "wasm32")]
mod host;
mod kind;
mod lineage;
mod plugin;
mod read;
mod results;
mod table;
mod tokens;

pub use plugin::Sql;

wasmill_sdk::export!(Sql);
