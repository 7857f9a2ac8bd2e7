//! Newline-delimited records over TCP.
//!
//! It owns accepting, the bound on connections, and back-pressure: a connection is not read while its
//! lines wait for the buffer. A line over the limit ends its connection with a logged reason; a last
//! line without a line feed is a record when the client ends the connection in order, and is left out when the
//! connection breaks or the host stops. It never answers, because the protocol has no answers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::append::{Append, RecordBatch};
use crate::lane::{Lane, OnUnknown, now};
use crate::lines::Splitter;
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
    listener: TcpListener,
    options: TcpOptions,
    append: Arc<A>,
    stats: Arc<SourceStats>,
}

impl<A: Append> TcpSource<A> {
    /// Takes a bound listener, so that the caller reports what went wrong with the address.
    pub fn new(listener: TcpListener, options: TcpOptions, append: Arc<A>) -> TcpSource<A> {
        TcpSource { listener, options, append, stats: Arc::default() }
    }

    /// The bound address.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Counters, readable while it runs.
    pub fn stats(&self) -> Arc<SourceStats> {
        Arc::clone(&self.stats)
    }

    /// Runs until `stop` is cancelled; what was read by then is appended.
    pub async fn run(self, stop: CancellationToken) {
        let most = self.options.max_connections.max(1) as usize;
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {
                    SourceStats::set(&self.stats.open, connections.len() as u64);
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((_, peer)) if connections.len() >= most => {
                    SourceStats::add(&self.stats.refused, 1);
                    tracing::warn!(%peer, limit = most, "too many connections, closed");
                }
                Ok((socket, peer)) => {
                    let lane = Lane::new(
                        Arc::clone(&self.append),
                        Arc::clone(&self.stats),
                        stop.clone(),
                        OnUnknown::Retry,
                        1,
                    );
                    let stats = Arc::clone(&self.stats);
                    connections.spawn(read(socket, peer, self.options.max_record, lane, stats, stop.clone()));
                    SourceStats::set(&self.stats.open, connections.len() as u64);
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    // Out of descriptors, say: wait until one may be free instead of spinning.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
        while connections.join_next().await.is_some() {}
        SourceStats::set(&self.stats.open, 0);
    }
}

async fn read<A: Append>(
    mut socket: TcpStream,
    peer: SocketAddr,
    max_record: u64,
    mut lane: Lane<A>,
    stats: Arc<SourceStats>,
    stop: CancellationToken,
) {
    let mut splitter = Splitter::new(max_record, 0);
    loop {
        // Only the client's own end makes a record of a line without a line feed: where we stop or the connection
        // breaks, it may be the first half of one.
        let read = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            read = socket.read(splitter.space()) => read,
        };
        let (lines, last) = match read {
            Ok(0) => (splitter.finish(), true),
            Ok(read) => (splitter.take(read), false),
            Err(error) => {
                tracing::debug!(%peer, %error, "connection failed");
                return;
            }
        };
        let too_long = lines.too_long.first().copied();
        let batch = RecordBatch {
            payload: lines.payload.into(),
            ends: lines.ends,
            arrival: now(),
            source: None,
            numbered: None,
            early: false,
        };
        let sent = match lane.send(batch).await {
            Ok(()) => lane.flush().await,
            Err(end) => Err(end),
        };
        if sent.is_err() || last {
            return;
        }
        if let Some(at) = too_long {
            SourceStats::add(&stats.too_long, 1);
            tracing::warn!(%peer, at, limit = max_record, "line over the limit, connection closed");
            return;
        }
    }
}
