//! Event time, in streams whose configuration says where their records have it (`event_time`): the host reads the time of each
//! record, and keeps the watermark, the moment before which all records have come as far as the stream waits for them.
//!
//! Each chunk comes with times and watermarks of its rows ([`Chunk::event_times`](crate::Chunk::event_times),
//! [`Chunk::watermarks`](crate::Chunk::watermarks)). Whatever is due by a row's watermark was due before the row, so a plugin that
//! goes by them gives the same however the stream is cut into chunks. What is due behind the last row is given in
//! [`Plugin::on_watermark`](crate::Plugin::on_watermark), which is called when no records come, too. Such a plugin ends with
//! [`export_windower!`](crate::export_windower).

pub use face::more;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use face::{Call, begin, time, tracked, watermark};

#[cfg(target_arch = "wasm32")]
mod face {
    /// Inside `on_watermark`: more is due than one call does. It is called again with the same watermark.
    pub fn more() {
        crate::bindings::wasmill::plugin::event_clock::more();
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod face {
    use std::cell::RefCell;

    /// What a call sees of event time.
    #[derive(Debug, Default)]
    pub(crate) struct Call {
        /// By record of the chunk.
        pub(crate) times: Vec<Option<i64>>,
        pub(crate) watermarks: Vec<i64>,
        /// Behind the chunk.
        pub(crate) after: i64,
        pub(crate) more: bool,
    }

    thread_local! {
        static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
    }

    /// A call begins, of a stream with event time or without; what the one before has left.
    pub(crate) fn begin(call: Option<Call>) -> Option<Call> {
        CALL.replace(call)
    }

    pub(crate) fn tracked() -> bool {
        CALL.with_borrow(Option::is_some)
    }

    fn of<T>(read: impl FnOnce(&mut Call) -> T) -> T {
        CALL.with_borrow_mut(|call| match call {
            Some(call) => read(call),
            None => panic!("the host would trap this plugin: the stream has no event time"),
        })
    }

    pub(crate) fn time(record: u32) -> Option<i64> {
        of(|call| call.times.get(record as usize).copied().flatten())
    }

    pub(crate) fn watermark(record: u32) -> i64 {
        of(|call| call.watermarks.get(record as usize).copied().unwrap_or(call.after))
    }

    /// Inside `on_watermark`: more is due than one call does. It is called again with the same watermark.
    pub fn more() {
        of(|call| call.more = true);
    }
}
