//! A replay without a host: the same code on a data directory that nobody uses, which it locks meanwhile.
//!
//! No source is read, no listener opened, nothing delivered but what the replay makes; what waits for the streams'
//! outputs goes on waiting for the next `wasmill run`.

use std::sync::Arc;

use wasmill_buffer::{Journal, OpenError};
use wasmill_config::Settings;
use wasmill_deliver::SyncCount;

use super::{HistoryError, ReplayPlan, ReplayProgress, Replays, Shop, Source};
use crate::pipeline::host::HostOptions;
use crate::pipeline::journal::{journal_options, report};
use crate::pipeline::opening::{StartError, key_of, on_guest_thread, open_plugins, stream_options};
use crate::pipeline::plan::{ChainPlan, GivenPlugins};
use crate::pipeline::quotas::Quotas;
use crate::pipeline::stats::wall_clock_ns;
use crate::pipeline::warm::WarmBounds;
use crate::pipeline::workers::Workers;

/// See the head of this file.
pub struct Alone {
    replays: Replays,
    source: Source,
    journal: Journal,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    #[error("a host (process {holder}) runs on this data directory")]
    Running { holder: String },
    #[error("nothing has ever run in {path}")]
    NeverRan { path: String },
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl Alone {
    /// Locks the data directory and makes everything ready for replays of one stream of a tenant.
    ///
    /// # Errors
    /// See [`AloneError`].
    pub async fn open(
        settings: Settings,
        tenant: &str,
        stream: &str,
        options: HostOptions,
    ) -> Result<Alone, AloneError> {
        let lock = settings.data_dir.join("journal").join("lock");
        if !lock.exists() {
            return Err(AloneError::NeverRan { path: settings.data_dir.display().to_string() });
        }
        let (dir, buffer) = (settings.data_dir.clone(), journal_options(&settings.buffer));
        let opened = tokio::task::spawn_blocking(move || Journal::open(&dir, buffer)).await;
        let opened = opened.map_err(|error| StartError::Thread(std::io::Error::other(error)))?;
        let (journal, recovery) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Locked { holder, .. }) => return Err(AloneError::Running { holder }),
            Err(error) => return Err(StartError::Journal(error).into()),
        };
        report(&recovery, &settings, &|_stream| false);
        let no_stream = || HistoryError::NoStream { stream: stream.to_owned() };
        let found = settings.streams.iter().find(|known| known.tenant == tenant && known.name == stream);
        let Some(found) = found.filter(|found| recovery.streams.contains(&key_of(found))).cloned() else {
            return Err(no_stream().into());
        };
        let mut settings = settings;
        settings.streams = vec![found.clone()];
        let job_settings = settings.clone();
        let (engine, mut catalogs, _apart) = on_guest_thread(move || {
            let quotas = Quotas::new(&job_settings);
            open_plugins(&job_settings, &job_settings.data_dir, &options, &GivenPlugins::default(), &quotas)
        })
        .await??;
        let buffer = journal.stream(&key_of(&found), stream_options(&settings, &found)).await;
        let buffer = buffer.map_err(|error| StartError::Stream { stream: stream.to_owned(), error })?;
        // As a host has it: what is too old is not part of history any more.
        buffer.expire(wall_clock_ns());
        let workers = Arc::new(
            Workers::start(settings.workers, Arc::default(), WarmBounds::default())
                .map_err(StartError::Thread)?,
        );
        let catalog = catalogs.remove(tenant).ok_or_else(no_stream)?;
        let plan = ChainPlan::of(&found, &GivenPlugins::default(), &catalog);
        let source = Source { settings: found, buffer, plan, catalog };
        let quotas = Arc::new(Quotas::new(&settings));
        let shop = Shop { settings, engine, workers, syncs: SyncCount::default(), quotas };
        Ok(Alone { replays: Replays::new(shop), source, journal })
    }

    /// Starts a replay.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn start(&self, plan: ReplayPlan) -> Result<ReplayProgress, HistoryError> {
        self.replays.start(&self.source, plan, wall_clock_ns()).await
    }

    /// How far it is.
    ///
    /// # Errors
    /// There is no such replay.
    pub fn progress(&self, id: &str) -> Result<ReplayProgress, HistoryError> {
        self.replays.progress(self.source.buffer.key(), id)
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// There is no such replay.
    pub fn cancel(&self, id: &str) -> Result<ReplayProgress, HistoryError> {
        self.replays.cancel(self.source.buffer.key(), id)
    }

    /// Cancels what runs and closes the data directory in order.
    ///
    /// # Errors
    /// The journal cannot be closed; nothing is lost.
    pub async fn close(self) -> Result<(), wasmill_buffer::AppendError> {
        self.replays.stop().await;
        self.journal.close().await
    }
}
