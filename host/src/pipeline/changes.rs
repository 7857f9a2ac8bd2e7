//! Streams that come, change and go while the host runs.
//!
//! A stream that changes is stopped in order (everything that it has stored is delivered) and opened anew, as a restart of
//! the host with another configuration would do it. What cannot run leaves everything as it was. One change of a tenant's
//! streams at a time; other tenants do not wait.
//!
//! What makes a definition last is done by a [`Commit`], at the one moment at which a crash before it leaves the old
//! definition with nothing undelivered, and a crash after it the new one: everything that can fail is done before, nothing
//! of the new stream runs yet, and nobody has pushed to it. A removal commits last: a crash before it leaves the old
//! definition, with some or all of what was to be discarded gone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmill_buffer::{StreamKey, StreamOptions};
use wasmill_catalog::CatalogError;
use wasmill_config::{self as config, Defined, Flaw};
use wasmill_control::{ControlError, Discarded};
use wasmill_state::Strands;

use super::descriptors::TooFew;
use super::ending::waiting_of;
use super::host::Host;
use super::live::LiveStream;
use super::opening::{StartError, key_of, letters_place, on_guest_thread};
use super::output_problems::problems_of;
use super::plan::{ChainPlan, ChainProblem, FirstChain};
use super::quotas::QuotaRefusal;
use super::sources::with_causes;
use super::staging::{remove_spooled, remove_staged, staging_dirs};
use super::state::parted_otherwise;
use super::stats::{StreamStats, TableStats, label};
use super::tenants::Tenant;

/// Why a change is refused. The stream goes on as it was, where nothing else is said.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no stream {stream:?}")]
    NoStream { stream: String },
    #[error("there is a stream {stream:?} already")]
    Exists { stream: String },
    #[error("{}", told(.0))]
    Invalid(Vec<Flaw>),
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
    /// The definition could not be made to last.
    #[error(transparent)]
    Control(ControlError),
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    #[error("another change of the tenant's streams has not ended within {after:?}; nothing was changed")]
    Busy { after: Duration },
    #[error(
        "stream {stream:?} does not run, and records or dead letters of it are stored: mend its definition, or discard them with it"
    )]
    Idle { stream: String },
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
                let flaw = |problem: config::Problem| Flaw { key: String::new(), message: problem.message };
                ChangeError::Invalid(problems.into_iter().map(flaw).collect())
            }
            error => ChangeError::Start(error),
        }
    }
}

fn told(flaws: &[Flaw]) -> String {
    let texts = flaws.iter().map(|Flaw { key, message }| match key.as_str() {
        "" => message.clone(),
        key => format!("{key}: {message}"),
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// Makes a change last; see the head of this file. May block. It is told what a removal discards.
pub(super) type Commit = Box<dyn FnOnce(Discarded) -> Result<(), ControlError> + Send>;

/// What a stream is to be.
pub(super) struct Wanted<'a> {
    pub(super) stream: &'a config::Stream,
    /// Where it comes from, if not from the file.
    pub(super) defined: Option<&'a Defined>,
    pub(super) commit: Option<Commit>,
}

impl<'a> Wanted<'a> {
    fn of(stream: &'a config::Stream) -> Wanted<'a> {
        Wanted { stream, defined: None, commit: None }
    }
}

async fn commit(commit: Option<Commit>, discarded: Discarded) -> Result<(), ChangeError> {
    let Some(commit) = commit else { return Ok(()) };
    let done = tokio::task::spawn_blocking(move || commit(discarded)).await;
    let done = done.map_err(|error| ChangeError::Interrupted { reason: error.to_string() })?;
    done.map_err(ChangeError::Control)
}

/// State stays where its keys are: what is stored is not parted anew.
fn keeps_its_strands(stats: &StreamStats, stream: &config::Stream) -> Result<(), ChangeError> {
    let wanted = stream.parallel.as_ref().map(|parallel| Strands::new(parallel.strands, &parallel.key));
    let kept = stats.kept();
    match kept.iter().find(|table| table.entries > 0 && table.parted != wanted) {
        Some(TableStats { transform, table, parted, .. }) => {
            let table = format!("{transform}/{table}");
            let message = parted_otherwise(&table, parted.as_ref(), wanted.as_ref());
            Err(ChangeError::Invalid(vec![Flaw { key: "parallel".to_owned(), message }]))
        }
        None => Ok(()),
    }
}

/// What waits in its destinations, after everything else of a stream that is removed.
async fn discard_staged(
    key: &StreamKey,
    buffer: &wasmill_buffer::Stream,
    directories: Vec<PathBuf>,
) -> Result<(), String> {
    let (incarnation, stream) = (buffer.incarnation(), label(&key.tenant, &key.name));
    let removed = tokio::task::spawn_blocking(move || {
        for directory in directories {
            remove_staged(&directory, incarnation, |path, error| {
                tracing::warn!(stream, path = %path.display(), %error, "staged objects of a removed stream stay");
            });
        }
    });
    removed.await.map_err(|error| error.to_string())
}

/// What a stream that is removed ran, and what failed in it, is nothing to the next one of its name.
async fn forget_versions(tenant: &Tenant, key: &StreamKey) {
    let forgotten = match tenant.reloader() {
        Some(reloader) => reloader.forget(&key.name).await,
        None => Err(CatalogError::Stopped),
    };
    if let Err(error) = forgotten {
        let stream = label(&key.tenant, &key.name);
        let error = with_causes(&error);
        tracing::warn!(%stream, error, "which plugin versions a stream ran that was removed cannot be forgotten");
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

    /// Ends a stream once everything that it has stored is delivered, and leaves what is stored where it is.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn retire_stream(&self, tenant: &str, name: &str, within: Duration) -> Result<(), ChangeError> {
        let key = StreamKey { tenant: tenant.to_owned(), name: name.to_owned() };
        self.whole(async move |host: Host| {
            let no_stream = || ChangeError::NoStream { stream: key.name.clone() };
            let tenant = host.inner.tenants.get(&key.tenant).ok_or_else(no_stream)?;
            let _one = tenant.changing.lock().await;
            let _change = host.inner.reports.change();
            let _changing = host.inner.streams.changing(key.clone());
            let _settings = host.stop(&tenant, &key.name, within, false).await?;
            host.forget(&key);
            tracing::info!(stream = %label(&key.tenant, &key.name), "stream was ended; what is stored of it stays");
            Ok(())
        })
        .await
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
        // Somebody may have been quicker, over HTTP.
        let there = self.inner.streams.get(&stream.tenant, &stream.name).is_some();
        if there || self.is_defined_elsewhere(&stream) {
            return Err(ChangeError::Exists { stream: stream.name });
        }
        self.add_held(&tenant, Wanted::of(&stream)).await
    }

    /// Of a tenant whose lock is held, as all that end so.
    pub(super) async fn add_held(&self, tenant: &Tenant, wanted: Wanted<'_>) -> Result<(), ChangeError> {
        let _changing = self.inner.streams.changing(key_of(wanted.stream));
        let chain = self.judged(tenant, wanted.stream, wanted.defined).await?;
        let stream = wanted.stream;
        self.open(tenant, stream, chain, wanted.commit).await?;
        tracing::info!(stream = %label(&stream.tenant, &stream.name), "stream was added");
        Ok(())
    }

    async fn replace(&self, stream: config::Stream, within: Duration) -> Result<(), ChangeError> {
        let tenant = self.tenant(&stream.tenant).await?;
        let _one = tenant.changing.lock().await;
        let _change = self.inner.reports.change();
        self.replace_held(&tenant, Wanted::of(&stream), within).await
    }

    pub(super) async fn replace_held(
        &self,
        tenant: &Tenant,
        wanted: Wanted<'_>,
        within: Duration,
    ) -> Result<(), ChangeError> {
        // What can be known of it before is said before anything stops.
        let chain = self.judged(tenant, wanted.stream, wanted.defined).await?;
        let stream = wanted.stream;
        let live = self.inner.streams.get(&stream.tenant, &stream.name);
        let stats = live.filter(|_| chain.version.chain.keeps_state()).map(|live| Arc::clone(&live.stats));
        let keeps = || stats.as_ref().map_or(Ok(()), |stats| keeps_its_strands(stats, stream));
        keeps()?;
        let _changing = self.inner.streams.changing(key_of(stream));
        let before = self.stop(tenant, &stream.name, within, false).await?;
        // What was still to be done may have left state.
        if let Err(error) = keeps() {
            return self.go_on(tenant, &before, error).await;
        }
        match self.open(tenant, stream, chain, wanted.commit).await {
            Ok(()) => {
                tracing::info!(stream = %label(&stream.tenant, &stream.name), "stream was changed");
                Ok(())
            }
            Err(error) => self.go_on(tenant, &before, error).await,
        }
    }

    async fn remove(&self, key: StreamKey, within: Duration, discard: bool) -> Result<(), ChangeError> {
        let no_stream = || ChangeError::NoStream { stream: key.name.clone() };
        let tenant = self.inner.tenants.get(&key.tenant).ok_or_else(no_stream)?;
        let _one = tenant.changing.lock().await;
        let _change = self.inner.reports.change();
        self.remove_held(&tenant, &key, within, discard, None).await
    }

    pub(super) async fn remove_held(
        &self,
        tenant: &Tenant,
        key: &StreamKey,
        within: Duration,
        discard: bool,
        lasting: Option<Commit>,
    ) -> Result<(), ChangeError> {
        let no_stream = || ChangeError::NoStream { stream: key.name.clone() };
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
        let _changing = self.inner.streams.changing(key.clone());
        let before = self.stop(tenant, &key.name, within, discard).await?;
        // More may have come of what was still to be done.
        if let Err(error) = kept() {
            return self.go_on(tenant, &before, error).await;
        }
        let discarded = Discarded {
            forced: discard,
            records: stats.unprocessed.get(),
            undelivered: stats.outputs.iter().map(|output| output.pending.get()).sum(),
            dead_letters: stats.dead_letters.kept.get(),
        };
        let mut removed = self.discard_stored(key, &buffer).await;
        if removed.is_ok() {
            removed = discard_staged(key, &buffer, staging_dirs(&before)).await;
        }
        if let Err(reason) = removed {
            let error = ChangeError::Remains { stream: key.name.clone(), reason };
            return self.go_on(tenant, &before, error).await;
        }
        if let Err(error) = commit(lasting, discarded).await {
            return self.go_on(tenant, &before, error).await;
        }
        self.forget(key);
        forget_versions(tenant, key).await;
        tracing::info!(stream = %label(&key.tenant, &key.name), "stream was removed");
        Ok(())
    }

    /// Of a stream that is defined and does not run, and stages objects in these directories: whatever is stored of it goes, if there is nothing or it is to be
    /// discarded.
    pub(super) async fn remove_idle(
        &self,
        tenant: &Tenant,
        key: &StreamKey,
        discard: bool,
        staged: Vec<PathBuf>,
        lasting: Commit,
    ) -> Result<(), ChangeError> {
        let _changing = self.inner.streams.changing(key.clone());
        let opening = &self.inner.opening;
        let options = StreamOptions { max_bytes: opening.settings.buffer.max_bytes, retention: None };
        let opened = opening.journal.stream(key, options).await;
        let buffer = opened.map_err(|error| StartError::Stream { stream: key.name.clone(), error })?;
        let records = buffer.next_offset();
        // What of them is delivered is known to a stream only that runs.
        if !discard && records > 0 {
            return Err(ChangeError::Idle { stream: key.name.clone() });
        }
        let remains = |reason| ChangeError::Remains { stream: key.name.clone(), reason };
        self.discard_stored(key, &buffer).await.map_err(remains)?;
        discard_staged(key, &buffer, staged).await.map_err(remains)?;
        commit(Some(lasting), Discarded { forced: discard, records, ..Discarded::default() }).await?;
        self.forget(key);
        forget_versions(tenant, key).await;
        tracing::info!(stream = %label(&key.tenant, &key.name), "stream that did not run was removed");
        Ok(())
    }

    /// Letters, journal, and what waits for destinations in the spool: for good.
    pub(super) async fn discard_stored(
        &self,
        key: &StreamKey,
        buffer: &wasmill_buffer::Stream,
    ) -> Result<(), String> {
        let data_dir = self.inner.opening.settings.data_dir.clone();
        let letters = letters_place(&data_dir, key);
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(letters)).await;
        match removed {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
            Err(error) => return Err(error.to_string()),
            Ok(_) => buffer.delete().await.map_err(|error| with_causes(&error))?,
        }
        // Last: a stream that could not be deleted goes on, and needs them.
        let (incarnation, stream) = (buffer.incarnation(), label(&key.tenant, &key.name));
        let state = Arc::clone(&self.inner.opening.state);
        let removed = tokio::task::spawn_blocking(move || {
            if let Err(error) = state.remove(incarnation) {
                tracing::warn!(
                    stream,
                    error = with_causes(&error),
                    "state of a removed stream stays until the next start"
                );
            }
            remove_spooled(&data_dir, incarnation, |path, error| {
                tracing::warn!(stream, path = %path.display(), %error, "staged objects of a removed stream stay");
            });
        });
        removed.await.map_err(|error| error.to_string())
    }

    pub(super) fn forget(&self, key: &StreamKey) {
        self.inner.replays.forget(key);
        self.inner.reports.forget(key);
    }

    /// The chain, or everything that is wrong with a definition and shows without opening anything.
    pub(super) async fn judged(
        &self,
        tenant: &Tenant,
        stream: &config::Stream,
        defined: Option<&Defined>,
    ) -> Result<FirstChain, ChangeError> {
        let settings = defined.map_or(&self.inner.opening.settings, |defined| &defined.settings);
        let problems = problems_of(settings, std::slice::from_ref(stream), &|_| true);
        let flaw = |problem: config::Problem| match defined {
            Some(defined) => defined.flaw(&problem),
            None => Flaw { key: String::new(), message: problem.message },
        };
        let mut flaws: Vec<Flaw> = problems.into_iter().map(flaw).collect();
        match self.first_chain(tenant, stream, defined.is_some()).await {
            Ok(chain) if flaws.is_empty() => return Ok(chain),
            Ok(_) => {}
            Err(ChangeError::Invalid(more)) => {
                let key = |key: &str| defined.map_or(key, |defined| defined.key(key)).to_owned();
                flaws.extend(
                    more.into_iter().map(|Flaw { key: at, message }| Flaw { key: key(&at), message }),
                );
            }
            Err(error) => return Err(error),
        }
        Err(ChangeError::Invalid(flaws))
    }

    /// The chain, or every problem of the stream, in the words for its tenant where that is who is told.
    async fn first_chain(
        &self,
        tenant: &Tenant,
        stream: &config::Stream,
        to_tenant: bool,
    ) -> Result<FirstChain, ChangeError> {
        let opening = &self.inner.opening;
        let (engine, catalog) = (opening.engine.clone(), tenant.catalog.clone());
        let plan = ChainPlan::of(stream, &opening.given, &catalog);
        let plan = plan.within(opening.quotas.of(&stream.tenant)).following();
        let built = on_guest_thread(move || plan.first(&engine, &catalog)).await?;
        built.map_err(|problems| {
            let flaws = problems.into_iter().map(|ChainProblem { key, message, told, .. }| {
                let told = told.filter(|_| to_tenant);
                Flaw { key, message: told.unwrap_or(message) }
            });
            ChangeError::Invalid(flaws.collect())
        })
    }

    async fn open(
        &self,
        tenant: &Tenant,
        stream: &config::Stream,
        chain: FirstChain,
        lasting: Option<Commit>,
    ) -> Result<(), ChangeError> {
        let inner = &self.inner;
        if inner.stops.intake.is_cancelled() {
            return Err(StartError::Stopping.into());
        }
        let opened = inner.opening.stream(stream).await?;
        let prepared = inner.opening.prepare(stream, opened, chain, tenant, inner.stops.child()).await?;
        // Of what was prepared nothing runs yet: if this fails, it is dropped.
        commit(lasting, Discarded::default()).await?;
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
        let clean = self.end(tenant, live, within).await;
        // Nobody finds it any more to count it.
        self.inner.usage.ended(&stats);
        if clean || discard {
            return Ok(settings);
        }
        let waiting = waiting_of(&stats);
        let error = ChangeError::NotDrained { stream: name.to_owned(), after: within, waiting };
        self.go_on(tenant, &settings, error).await.map(|()| settings)
    }

    /// `true`: nothing of it waits.
    async fn end(&self, tenant: &Tenant, live: Arc<LiveStream>, within: Duration) -> bool {
        let (lane, name) = (live.lane, live.key.name.clone());
        let clean = live.end(Instant::now() + within).await;
        tenant.catalog.note_ended(&name);
        if let Some(reloader) = tenant.reloader() {
            reloader.remove(lane);
        }
        clean
    }

    /// Opens a stream again as it was, and says why. Of a host that stops it is not opened; that is no failure where the
    /// stream has nothing left to do.
    async fn go_on(
        &self,
        tenant: &Tenant,
        before: &config::Stream,
        why: ChangeError,
    ) -> Result<(), ChangeError> {
        let again = match self.first_chain(tenant, before, false).await {
            Ok(chain) => self.open(tenant, before, chain, None).await,
            Err(error) => Err(error),
        };
        match again {
            Ok(()) => Err(why),
            Err(_stopping)
                if self.inner.stops.intake.is_cancelled()
                    && !matches!(why, ChangeError::NotDrained { .. } | ChangeError::Remains { .. }) =>
            {
                Err(why)
            }
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
