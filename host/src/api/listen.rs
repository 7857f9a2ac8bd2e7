//! Accepts connections and serves them, within bounds: connections at a time, handshakes, and the time in which a request's
//! head must come.
//!
//! It ends in order: no more connections, then every request that has begun is answered.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::access::Peer;
use super::tls::Tls;
use super::unread;

/// How long to wait after a failed accept (out of descriptors, say) instead of spinning.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenLimits {
    /// More wait in the system's queue.
    pub max_connections: u32,
    /// Longest wait for a request's head; an idle connection is closed after it too.
    pub head_timeout: Duration,
}

/// Serves until `stop` is ready, then finishes the requests that have begun.
pub async fn serve(
    listener: TcpListener,
    limits: ListenLimits,
    router: Router,
    tls: Option<Arc<Tls>>,
    stop: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(limits.max_connections.max(1) as usize));
    let graceful = GracefulShutdown::new();
    let router = router.layer(axum::middleware::from_fn(unread::let_go));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
    let mut stop = std::pin::pin!(stop);
    let mut keep_current = std::pin::pin!(async {
        match &tls {
            Some(tls) => tls.keep_current().await,
            None => std::future::pending().await,
        }
    });
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            listener.accept().await.map(|(stream, peer)| (stream, peer, permit))
        };
        let (stream, peer, permit) = tokio::select! {
            biased;
            () = &mut stop => break,
            () = &mut keep_current => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            },
        };
        // Answers are small; waiting to fill a packet would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "cannot disable packet delay");
        }
        let connection =
            Connection { http: http.clone(), router: router.clone(), peer, watcher: graceful.watcher() };
        let tls = tls.clone();
        tokio::spawn(async move {
            connection.run(stream, tls).await;
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

struct Connection {
    http: http1::Builder,
    router: Router,
    peer: SocketAddr,
    watcher: Watcher,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Arc<Tls>>) {
        let address = self.peer.ip();
        let Some(tls) = tls else {
            return self.answer(stream, Peer { address, certificate: None }).await;
        };
        if let Some((stream, shown)) = tls.handshake(stream).await {
            let peer = Peer { address, certificate: shown.map(Arc::new) };
            self.answer(stream, peer).await;
        }
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let service = TowerToHyperService::new(self.router.layer(Extension(peer)));
        let served = self.watcher.watch(self.http.serve_connection(TokioIo::new(stream), service));
        if let Err(error) = served.await {
            tracing::debug!(%error, peer = %self.peer, "connection ended early");
        }
    }
}
