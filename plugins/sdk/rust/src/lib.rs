//! The Rust SDK for Wasmill plugins.
//!
//! A plugin implements [`Plugin`] over the columns of a chunk (fast) or [`RecordPlugin`] over one record at a
//! time (simple) and ends with `wasmill_sdk::export!(MyPlugin);`. For `wasm32` that builds the component's
//! exports from `wit/plugin.wit`; for every other target the same [`Chunk`] and [`Setup`] are backed by
//! `wasmill-chunk`, the host's own implementation, so that ordinary unit tests ([`testing`]) and native
//! pipelines ([`native`]) run the same code with the same semantics.
//!
//! What it refuses: it never hides a failure. A panic is written to the plugin's log and ends the call; an
//! `Err` makes the host look for the guilty record; a record that cannot be understood is failed by name.

pub mod column;
pub mod config;
pub mod event_time;
pub mod http;
pub mod lambda;
pub mod log;
pub mod path;
mod record;
mod span;
pub mod state;
pub mod time;

#[cfg(target_arch = "wasm32")]
#[path = "guest.rs"]
mod face;
#[cfg(not(target_arch = "wasm32"))]
#[path = "memory.rs"]
mod face;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use column::{Cell, FloatColumn, Floats, IntColumn, Ints, Payloads, Strings, Text, TextColumn};
pub use face::{Chunk, Setup};
pub use record::{ByRecord, RecordMeta, RecordPlugin};
pub use span::SpanColumn;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use face::{bindings, glue, watermark_bindings};

/// A plugin over columns.
///
/// The host makes one instance per worker and calls [`Plugin::configure`] once and [`Plugin::process`] once per
/// chunk. Memory of the plugin is a cache, never state: the host may use a fresh instance at any call.
/// What is to stay is kept in [`state`].
pub trait Plugin: Sized {
    /// Reads the transform's config (JSON text) and declares every field and output that `process` will use.
    /// Every instance must declare the same, in the same order. An `Err` refuses the plugin with this text.
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String>;

    /// Transforms one chunk. Writes are staged and applied together when this returns `Ok`. On `Err` nothing of
    /// the chunk is applied, and the host splits it until the guilty record is alone.
    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String>;

    /// Event time has come to `ns` (nanoseconds since the epoch): called in streams that have [`event_time`], after the
    /// chunk that moved the watermark, and by the stream's idle timeout when no records come. `rows` is empty; what is
    /// due is made with [`Chunk::fresh`] and given with [`Chunk::emit`]. Only of plugins that end with
    /// [`export_windower!`]. On `Err` the records that ran with it run again later.
    fn on_watermark(&mut self, ns: i64, rows: &mut Chunk<'_>) -> Result<(), String> {
        let _nothing_is_due = (ns, rows);
        Ok(())
    }
}

/// A field that the plugin declared in `configure`: the handle by which it reads and writes that field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field(pub(crate) u32);

/// An output of the stream, for [`Chunk::route`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Output(pub(crate) u32);

impl Output {
    /// The stream's first output, where rows go that nobody routed.
    pub const DEFAULT: Output = Output(0);

    /// The number that [`Chunk::route`] takes.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

/// A granted file is read in pieces of this many bytes: below the host's cap on what one call may lift.
const FILE_PIECE: u32 = 1 << 20;

impl Setup {
    /// The whole content of a granted file.
    pub fn file(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        loop {
            let piece = self.file_part(name, content.len() as u64, FILE_PIECE)?;
            if piece.is_empty() {
                return Ok(content);
            }
            content.extend_from_slice(&piece);
        }
    }

    /// Declares a table of state by its name (1 to 64 letters, digits, `-`, `_`, `.`). `version` is that of the layout of its
    /// values: a plugin with a lower one than what is stored is refused. Entries that were not written for `ttl` are missing.
    ///
    /// # Errors
    /// Why the host refuses it.
    pub fn table(
        &mut self,
        name: &str,
        version: u32,
        ttl: Option<std::time::Duration>,
    ) -> Result<state::Table, String> {
        let ttl_ns = ttl.map_or(0, |ttl| u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX).max(1));
        let number = self.declare_table(name, version, ttl_ns)?;
        Ok(state::Table { number, version })
    }

    /// Declares a top-level field.
    pub fn top(&mut self, name: &str) -> Field {
        self.field(&[name])
    }
}

/// Makes `$plugin` (a [`Plugin`]) the component's export. Does nothing on targets other than `wasm32`.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        $crate::export_with!($plugin,);
    };
}

/// The same of a plugin that is told how far event time has come ([`Plugin::on_watermark`]).
#[macro_export]
macro_rules! export_windower {
    ($plugin:ty) => {
        $crate::export_with!($plugin, {
            impl $crate::watermark_bindings::exports::wasmill::plugin::event_time::Guest for Component {
                fn on_watermark(ns: i64) -> ::std::result::Result<(), ::std::string::String> {
                    PLUGIN.with(|slot| slot.on_watermark(ns))
                }
            }
            $crate::watermark_bindings::export!(Component with_types_in $crate::watermark_bindings);
        });
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! export_with {
    ($plugin:ty, $({ $($more:tt)* })?) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the component's exports are generated by wit-bindgen")]
        const _: () = {
            struct Component;
            ::std::thread_local! {
                static PLUGIN: $crate::glue::Slot<$plugin> = const { $crate::glue::Slot::new() };
            }
            impl $crate::bindings::exports::wasmill::plugin::transform::Guest for Component {
                fn configure(
                    config: ::std::string::String,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    PLUGIN.with(|slot| slot.configure(&config))
                }
                fn process(
                    rows: &$crate::bindings::wasmill::plugin::records::Chunk,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    PLUGIN.with(|slot| slot.process(rows))
                }
            }
            $crate::bindings::export!(Component with_types_in $crate::bindings);
            $($($more)*)?
        };
    };
}
