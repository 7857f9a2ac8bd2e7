//! Starts the source of a stream and tells when it has ended.
//!
//! Ports are bound here, so that a wrong address is an error of the start; what happens later is logged and ends
//! the source, never the host.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wasmill_config as config;
use wasmill_ingest::{
    FileOptions, FileSource, KinesisOptions, KinesisSource, KinesisStart, LineSource, SourceStats, Start,
    TcpOptions, TcpSource,
};

use super::inlet::Inlet;

/// Name under which a stream's files keep their positions.
const FILES: &str = "files";
/// Name under which positions in the shards of its Kinesis stream are kept.
const SHARDS: &str = "shards";
/// How often globs are expanded again without a notification.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A source that is ready to run.
pub(crate) enum Opened {
    /// Served by the HTTP listener.
    Push,
    File(FileSource<Inlet>),
    Stdin(LineSource<Inlet>),
    Tcp(TcpSource<Inlet>, SocketAddr),
    Kinesis(KinesisSource<Inlet>),
}

/// Binds what the source needs.
pub(crate) async fn open(source: &config::Source, inlet: Arc<Inlet>) -> std::io::Result<Opened> {
    Ok(match source {
        config::Source::Http => Opened::Push,
        config::Source::File(file) => Opened::File(FileSource::new(
            FileOptions {
                name: FILES.to_owned(),
                paths: file.paths.clone(),
                follow: file.follow,
                from: match file.from {
                    config::Start::Start => Start::Start,
                    config::Start::End => Start::End,
                },
                max_record: file.max_record,
                poll_interval: POLL_INTERVAL,
            },
            inlet,
        )),
        config::Source::Stdin { max_record } => Opened::Stdin(LineSource::new(*max_record, inlet)),
        config::Source::Tcp(tcp) => {
            let listener = TcpListener::bind(tcp.listen).await?;
            let options = TcpOptions { max_record: tcp.max_record, max_connections: tcp.max_connections };
            let source = TcpSource::new(listener, options, inlet);
            let address = source.local_address()?;
            Opened::Tcp(source, address)
        }
        config::Source::Kinesis(kinesis) => Opened::Kinesis(KinesisSource::new(
            KinesisOptions {
                name: SHARDS.to_owned(),
                stream: kinesis.place.stream.clone(),
                region: kinesis.place.region.clone(),
                endpoint: kinesis.place.endpoint.clone(),
                from: match kinesis.from {
                    config::KinesisStart::TrimHorizon => KinesisStart::TrimHorizon,
                    config::KinesisStart::Latest => KinesisStart::Latest,
                    config::KinesisStart::AtTimestamp(ms) => KinesisStart::AtTimestamp(ms),
                },
                poll_interval: kinesis.poll_interval,
            },
            inlet,
        )),
    })
}

impl Opened {
    pub(crate) fn stats(&self) -> Option<Arc<SourceStats>> {
        match self {
            Opened::Push => None,
            Opened::File(source) => Some(source.stats()),
            Opened::Stdin(source) => Some(source.stats()),
            Opened::Tcp(source, _) => Some(source.stats()),
            Opened::Kinesis(source) => Some(source.stats()),
        }
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Opened::Tcp(_, address) => Some(*address),
            Opened::Push | Opened::File(_) | Opened::Stdin(_) | Opened::Kinesis(_) => None,
        }
    }

    /// Runs until the source ends by itself or `stop` is cancelled. `Err` says why it ended early.
    pub(crate) fn start(self, stop: CancellationToken) -> JoinHandle<Result<(), String>> {
        tokio::spawn(async move {
            match self {
                Opened::Push => {
                    stop.cancelled().await;
                    Ok(())
                }
                Opened::File(source) => source.run(stop).await.map_err(|error| with_causes(&error)),
                Opened::Stdin(source) => {
                    source.run(tokio::io::stdin(), stop).await.map_err(|error| with_causes(&error))
                }
                Opened::Tcp(source, _) => {
                    source.run(stop).await;
                    Ok(())
                }
                Opened::Kinesis(source) => source.run(stop).await.map_err(|error| with_causes(&error)),
            }
        })
    }
}

/// The error and what it was caused by, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
