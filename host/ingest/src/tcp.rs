//! Newline-delimited records over TCP.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::append::Append;
use crate::stats::SourceStats;

/// Bounds of a TCP source.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// Bytes of one line; a longer one ends its connection.
    pub max_record: u64,
    /// Connections at a time; more are closed at once.
    pub max_connections: u32,
}

/// Reads lines of connections into a stream.
pub struct TcpSource<A> {
    _append: Arc<A>,
}

impl<A: Append> TcpSource<A> {
    /// Takes a bound listener, so that the caller reports what went wrong with the address.
    pub fn new(_listener: TcpListener, _options: TcpOptions, append: Arc<A>) -> TcpSource<A> {
        TcpSource { _append: append }
    }

    /// The bound address.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        unimplemented!()
    }

    /// Counters, readable while it runs.
    pub fn stats(&self) -> Arc<SourceStats> {
        unimplemented!()
    }

    /// Runs until `stop` is cancelled; complete lines that were read by then are appended.
    pub async fn run(self, _stop: CancellationToken) {
        unimplemented!()
    }
}
