//! Streams that come, change and go while the host runs.
//!
//! A stream that changes is stopped in order (everything that it has stored is delivered) and opened anew, as a restart of
//! the host with another configuration would do it. What cannot run leaves everything as it was. One change of a tenant's
//! streams at a time; other tenants do not wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmill_buffer::StreamKey;
use wasmill_config as config;

use super::ending::waiting_of;
use super::host::Host;
use super::live::LiveStream;
use super::opening::{StartError, key_of, letters_dir, on_guest_thread};
use super::output_problems::problems_of;
use super::plan::{ChainPlan, FirstChain};
use super::quotas::QuotaRefusal;
use super::sources::with_causes;
use super::stats::label;
use super::tenants::Tenant;

/// Why a change is refused. The stream goes on as it was, where nothing else is said.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no stream {stream:?}")]
    NoStream { stream: String },
    #[error("there is a stream {stream:?} already")]
    Exists { stream: String },
    /// Each with the key of the stream's definition where it is.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    #[error(
        "stream {stream:?} has not delivered everything within {after:?}: {waiting}; it goes on as it was, and what it has stored stays"
    )]
    NotDrained { stream: String, after: Duration, waiting: String },
    #[error(
        "stream {stream:?} keeps {letters} dead letters: replay, export or purge them, or discard them with the stream"
    )]
    Letters { stream: String, letters: u64 },
    #[error(transparent)]
    Quota(#[from] QuotaRefusal),
    #[error(transparent)]
    Start(StartError),
    #[error("the change ended early: {reason}")]
    Interrupted { reason: String },
    /// Neither the new definition nor the one before could be opened.
    #[error("stream {stream:?} does not run any more: {reason}; what it has stored stays")]
    Lost { stream: String, reason: String },
    #[error("what stream {stream:?} has stored cannot be removed: {reason}; it goes on, try again")]
    Remains { stream: String, reason: String },
}

impl From<StartError> for ChangeError {
    fn from(error: StartError) -> ChangeError {
        match error {
            StartError::Invalid(problems) => {
                ChangeError::Invalid(problems.into_iter().map(|problem| problem.message).collect())
            }
            error => ChangeError::Start(error),
        }
    }
}

impl Host {
    /// Opens and starts a stream that is not there.
    ///
    /// # Errors
    /// See [`ChangeError`]; of the stream there is an empty place in the journal at most.
    pub async fn add_stream(&self, stream: config::Stream) -> Result<(), ChangeError> {
        self.whole(async move |host: Host| host.add(stream).await).await
    }

    /// Gives a stream another definition, once everything that it has stored is delivered.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn replace_stream(&self, stream: config::Stream, within: Duration) -> Result<(), ChangeError> {
        self.whole(async move |host: Host| host.replace(stream, within).await).await
    }

    /// Ends a stream and removes what is stored of it: once everything is delivered and no dead letter is kept, or with all
    /// that is there, if that is to be discarded.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn remove_stream(
        &self,
        tenant: &str,
        name: &str,
        within: Duration,
        discard: bool,
    ) -> Result<(), ChangeError> {
        let key = StreamKey { tenant: tenant.to_owned(), name: name.to_owned() };
        self.whole(async move |host: Host| host.remove(key, within, discard).await).await
    }

    /// Whoever asked may go away: a change that has begun is done.
    async fn whole<F>(&self, change: impl FnOnce(Host) -> F) -> Result<(), ChangeError>
    where
        F: Future<Output = Result<(), ChangeError>> + Send + 'static,
    {
        let done = tokio::spawn(change(self.clone())).await;
        done.unwrap_or_else(|error| Err(ChangeError::Interrupted { reason: error.to_string() }))
    }

    async fn add(&self, stream: config::Stream) -> Result<(), ChangeError> {
        let tenant = self.tenant(&stream.tenant).await?;
        let _one = tenant.changing.lock().await;
        let _change = self.inner.reports.change();
        if self.inner.streams.get(&stream.tenant, &stream.name).is_some() {
            return Err(ChangeError::Exists { stream: stream.name });
        }
        let there = self.inner.streams.of(&stream.tenant).len() as u64;
        self.inner.opening.quotas.of(&stream.tenant).takes_another_stream(there)?;
        let chain = self.judged(&tenant, &stream).await?;
        self.open(&tenant, &stream, chain).await?;
        tracing::info!(stream = %label(&stream.tenant, &stream.name), "stream was added");
        Ok(())
    }

    async fn replace(&self, stream: config::Stream, within: Duration) -> Result<(), ChangeError> {
        let tenant = self.tenant(&stream.tenant).await?;
        let _one = tenant.changing.lock().await;
        let _change = self.inner.reports.change();
        // What can be known of it before is said before anything stops.
        let chain = self.judged(&tenant, &stream).await?;
        let before = self.stop(&tenant, &stream.name, within, false).await?;
        match self.open(&tenant, &stream, chain).await {
            Ok(()) => {
                tracing::info!(stream = %label(&stream.tenant, &stream.name), "stream was changed");
                Ok(())
            }
            Err(error) => self.go_on(&tenant, &before, error).await,
        }
    }

    async fn remove(&self, key: StreamKey, within: Duration, discard: bool) -> Result<(), ChangeError> {
        let no_stream = || ChangeError::NoStream { stream: key.name.clone() };
        let tenant = self.inner.tenants.get(&key.tenant).ok_or_else(no_stream)?;
        let _one = tenant.changing.lock().await;
        let _change = self.inner.reports.change();
        let live = self.inner.streams.get(&key.tenant, &key.name).ok_or_else(no_stream)?;
        let (buffer, stats) = (live.history.buffer.clone(), Arc::clone(&live.stats));
        drop(live);
        let kept = || match stats.dead_letters.kept.get() {
            letters if letters > 0 && !discard => {
                Err(ChangeError::Letters { stream: key.name.clone(), letters })
            }
            _ => Ok(()),
        };
        kept()?;
        let before = self.stop(&tenant, &key.name, within, discard).await?;
        // More may have come of what was still to be done.
        if let Err(error) = kept() {
            return self.go_on(&tenant, &before, error).await;
        }
        let letters = letters_dir(&self.inner.opening.settings.data_dir, &before);
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(letters)).await;
        let removed = match removed {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
            Ok(_) => buffer.delete().await.map_err(|error| with_causes(&error)),
        };
        if let Err(reason) = removed {
            let error = ChangeError::Remains { stream: key.name.clone(), reason };
            return self.go_on(&tenant, &before, error).await;
        }
        self.inner.replays.forget(&key);
        self.inner.reports.forget(&key);
        tracing::info!(stream = %label(&key.tenant, &key.name), "stream was removed");
        Ok(())
    }

    /// The chain, or everything that is wrong with a definition and shows without opening anything.
    async fn judged(&self, tenant: &Tenant, stream: &config::Stream) -> Result<FirstChain, ChangeError> {
        let settings = &self.inner.opening.settings;
        let problems = problems_of(settings, std::slice::from_ref(stream), &|_| true);
        let texts: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
        match self.first_chain(tenant, stream).await {
            Ok(chain) if texts.is_empty() => Ok(chain),
            Ok(_) => Err(ChangeError::Invalid(texts)),
            Err(ChangeError::Invalid(more)) => {
                Err(ChangeError::Invalid(texts.into_iter().chain(more).collect()))
            }
            Err(error) => Err(error),
        }
    }

    /// The chain, or every problem of the stream.
    async fn first_chain(&self, tenant: &Tenant, stream: &config::Stream) -> Result<FirstChain, ChangeError> {
        let opening = &self.inner.opening;
        let plan = ChainPlan::of(stream, &opening.given).within(opening.quotas.of(&stream.tenant));
        let (engine, catalog) = (opening.engine.clone(), tenant.catalog.clone());
        let built = on_guest_thread(move || plan.first(&engine, &catalog)).await?;
        built.map_err(|problems| {
            let texts = problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message));
            ChangeError::Invalid(texts.collect())
        })
    }

    async fn open(
        &self,
        tenant: &Tenant,
        stream: &config::Stream,
        chain: FirstChain,
    ) -> Result<(), ChangeError> {
        let inner = &self.inner;
        if inner.stops.intake.is_cancelled() {
            return Err(StartError::Stopping.into());
        }
        let opened = inner.opening.stream(stream).await?;
        let prepared = inner.opening.prepare(stream, opened, chain, tenant, inner.stops.child()).await?;
        inner.streams.insert(prepared.launch(tenant, &inner.reports).await);
        Ok(())
    }

    /// Stops a stream in order and takes it out of the registry; its definition. If that takes too long it goes on, unless
    /// it may be stopped with what waits in it.
    async fn stop(
        &self,
        tenant: &Tenant,
        name: &str,
        within: Duration,
        discard: bool,
    ) -> Result<config::Stream, ChangeError> {
        let live = self.inner.streams.get(&tenant.name, name);
        let live = live.ok_or_else(|| ChangeError::NoStream { stream: name.to_owned() })?;
        let (settings, stats) = (live.settings.clone(), Arc::clone(&live.stats));
        self.inner.streams.remove(&live.key);
        if self.end(tenant, live, within).await || discard {
            return Ok(settings);
        }
        let waiting = waiting_of(&stats);
        let error = ChangeError::NotDrained { stream: name.to_owned(), after: within, waiting };
        self.go_on(tenant, &settings, error).await.map(|()| settings)
    }

    /// `true`: nothing of it waits.
    async fn end(&self, tenant: &Tenant, live: Arc<LiveStream>, within: Duration) -> bool {
        let lane = live.lane;
        let clean = live.end(Instant::now() + within).await;
        if let Some(reloader) = tenant.reloader() {
            reloader.remove(lane);
        }
        clean
    }

    /// Opens a stream again as it was, and says why.
    async fn go_on(
        &self,
        tenant: &Tenant,
        before: &config::Stream,
        why: ChangeError,
    ) -> Result<(), ChangeError> {
        let again = match self.first_chain(tenant, before).await {
            Ok(chain) => self.open(tenant, before, chain).await,
            Err(error) => Err(error),
        };
        match again {
            Ok(()) => Err(why),
            Err(again) => {
                let reason =
                    format!("{}; and opened as it was before: {}", with_causes(&why), with_causes(&again));
                tracing::error!(stream = %label(&before.tenant, &before.name), reason, "stream does not run any more");
                self.inner.reports.fail(
                    &key_of(before),
                    format!("stream {}: {reason}", label(&before.tenant, &before.name)),
                );
                Err(ChangeError::Lost { stream: before.name.clone(), reason })
            }
        }
    }
}
