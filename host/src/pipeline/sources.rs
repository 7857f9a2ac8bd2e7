//! Starts the sources of a stream and tells when each has ended.
//!
//! Ports are bound here, so that a wrong address is an error of the start; what happens later is logged and ends
//! the source, never another one or the host.

pub(crate) mod names;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wasmill_config as config;
use wasmill_ingest::{
    FileOptions, FileSource, KinesisOptions, KinesisSource, KinesisStart, LineSource, SourceStats, Start,
    TcpOptions, TcpSource,
};

use super::context::StreamContext;
use super::inlet::Inlet;
use super::stats::SourceCounters;

/// Name under which a stream's files keep their positions.
const FILES: &str = "files";
/// Name under which positions in the shards of its Kinesis stream are kept.
const SHARDS: &str = "shards";
/// How often globs are expanded again without a notification.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The sources of a stream, ready to run.
pub(crate) struct OpenSources {
    /// For clients that push, of all sources of type `http`.
    pub(crate) pushes: Option<Arc<Inlet>>,
    pub(crate) sources: Vec<OpenSource>,
    pub(crate) counters: Vec<Arc<SourceCounters>>,
}

/// One of them.
pub(crate) struct OpenSource {
    /// Of one of several.
    pub(crate) name: Option<String>,
    pub(crate) opened: Opened,
}

/// A source that is ready to run.
pub(crate) enum Opened {
    /// Served by the HTTP listener.
    Push,
    File(FileSource<Inlet>),
    Stdin(LineSource<Inlet>),
    Tcp(TcpSource<Inlet>, SocketAddr),
    Kinesis(KinesisSource<Inlet>),
}

impl OpenSources {
    /// Binds what the sources of a stream need.
    ///
    /// # Errors
    /// The address that cannot be had.
    pub(crate) async fn open(
        stream: &config::Stream,
        context: &StreamContext,
    ) -> Result<OpenSources, (SocketAddr, std::io::Error)> {
        let counters: Vec<Arc<SourceCounters>> =
            stream.sources.iter().map(|of| Arc::new(SourceCounters::of(of))).collect();
        let (buffer, stats) = (&context.buffer, &context.stats);
        let all = || stream.sources.iter().zip(&counters);
        let pushed = all().filter(|(of, _)| of.source == config::Source::Http);
        let pushed: Vec<Arc<SourceCounters>> = pushed.map(|(_, counters)| Arc::clone(counters)).collect();
        let pushes = (!pushed.is_empty())
            .then(|| Arc::new(Inlet::for_pushes(buffer.clone(), Arc::clone(stats), pushed)));
        let mut sources = Vec::with_capacity(counters.len());
        for (of, counters) in all() {
            let (stats, counters) = (Arc::clone(stats), Arc::clone(counters));
            let own = Arc::clone(&counters);
            let inlet = || Inlet::for_source(buffer.clone(), stats, counters, Arc::clone(&context.quota));
            let opened = open(of, inlet).await.map_err(|error| {
                let address = match &of.source {
                    config::Source::Tcp(tcp) => tcp.listen,
                    _ => SocketAddr::from(([0, 0, 0, 0], 0)),
                };
                (address, error)
            })?;
            if let Some(address) = opened.address() {
                tracing::info!(
                    stream = %context.stats.label(), source = of.name.as_deref().unwrap_or_default(), %address,
                    "source takes connections"
                );
            }
            own.reads(opened.stats());
            sources.push(OpenSource { name: of.name.clone(), opened });
        }
        Ok(OpenSources { pushes, sources, counters })
    }

    /// Where the first of them listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.sources.iter().find_map(|source| source.opened.address())
    }
}

/// Binds what the source needs.
async fn open(of: &config::StreamSource, inlet: impl FnOnce() -> Inlet) -> std::io::Result<Opened> {
    let stored = |positions| names::stored(of.name.as_deref(), positions);
    Ok(match &of.source {
        config::Source::Http => Opened::Push,
        config::Source::File(file) => Opened::File(FileSource::new(
            FileOptions {
                name: stored(FILES),
                paths: file.paths.clone(),
                follow: file.follow,
                from: match file.from {
                    config::Start::Start => Start::Start,
                    config::Start::End => Start::End,
                },
                max_record: file.max_record,
                poll_interval: POLL_INTERVAL,
            },
            Arc::new(inlet()),
        )),
        config::Source::Stdin { max_record } => {
            Opened::Stdin(LineSource::new(*max_record, Arc::new(inlet())))
        }
        config::Source::Tcp(tcp) => {
            let listener = TcpListener::bind(tcp.listen).await?;
            let options = TcpOptions { max_record: tcp.max_record, max_connections: tcp.max_connections };
            let source = TcpSource::new(listener, options, Arc::new(inlet()));
            let address = source.local_address()?;
            Opened::Tcp(source, address)
        }
        config::Source::Kinesis(kinesis) => Opened::Kinesis(KinesisSource::new(
            KinesisOptions {
                name: stored(SHARDS),
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
            Arc::new(inlet()),
        )),
    })
}

impl Opened {
    fn stats(&self) -> Option<Arc<SourceStats>> {
        match self {
            Opened::Push => None,
            Opened::File(source) => Some(source.stats()),
            Opened::Stdin(source) => Some(source.stats()),
            Opened::Tcp(source, _) => Some(source.stats()),
            Opened::Kinesis(source) => Some(source.stats()),
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        match self {
            Opened::Tcp(_, address) => Some(*address),
            Opened::Push | Opened::File(_) | Opened::Stdin(_) | Opened::Kinesis(_) => None,
        }
    }

    pub(crate) fn is_pushed_to(&self) -> bool {
        matches!(self, Opened::Push)
    }

    /// Runs until the source ends by itself or `stop` is cancelled. `Err` says why it ended early.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), String> {
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
