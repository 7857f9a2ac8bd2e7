//! The composition root: one host, from settings to running streams.
//!
//! Start, in this order: plugins and chains (what is wrong with the configuration shows here, before anything on disk
//! changes but what a removed tenant has left), journal, streams, sources, HTTP. The way back is in `ending`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use wasmill_buffer::{Journal, StreamKey};
use wasmill_catalog::{Catalog, CatalogStats, PluginState};
use wasmill_config::{self as config, DEFAULT_TENANT, Settings};
use wasmill_control::{AuditLog, Control};
use wasmill_deliver::SyncCount;
use wasmill_tenant::TenantName;

use super::access;
use super::define::Idle;
use super::follow::{Filed, taken_text};
use super::history::{Replays, Shop};
use super::journal::{journal_options, report};
use super::launch::{ReadyStream, Reports};
use super::leftovers::put_gone_aside;
use super::live::{Stops, Streams};
use super::opening::{
    Opening, StartError, first_chains, in_order, make_directory, on_guest_thread, open_catalog, open_plugins,
};
use super::output_problems::output_problems;
use super::plan::GivenPlugins;
use super::quotas::Quotas;
use super::readiness::Looks;
use super::shadow;
use super::sources::with_causes;
use super::state::StateHouse;
use super::stats::StreamStats;
use super::tenants::{OpenedWith, Tenant, Tenants, has_plugins};
use super::usage::{FLUSH_EVERY, Usage};
use super::warm::WarmBounds;
use super::workers::Workers;
use crate::api;

/// What a host needs besides its settings.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The program that has the hidden subcommand `compile-plugin`: usually this one.
    pub compiler: PathBuf,
}

/// A running host. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) opening: Opening,
    pub(super) streams: Streams,
    pub(super) doors: access::Doors,
    pub(super) audit: Arc<AuditLog>,
    pub(super) tenants: Tenants,
    /// Tenants, and streams that are defined over HTTP.
    pub(super) control: Arc<Control>,
    /// What of the configuration file holds.
    pub(super) filed: Filed,
    /// Those of them that do not run.
    pub(super) idle: Idle,
    pub(super) replays: Replays,
    pub(super) looks: Looks,
    pub(super) usage: Arc<Usage>,
    http: OnceLock<SocketAddr>,
    pub(super) stops: Stops,
    pub(super) reports: Reports,
    pub(super) listener: Mutex<Option<JoinHandle<()>>>,
}

impl Host {
    /// Opens everything and starts it. When it returns, sources are being read and pushes are taken.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start(settings: Settings, options: HostOptions) -> Result<Host, StartError> {
        Host::start_with(settings, options, GivenPlugins::default()).await
    }

    /// The same, with plugins that are handed in: those names are not looked for in the plugin directory.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start_with(
        settings: Settings,
        options: HostOptions,
        given: GivenPlugins,
    ) -> Result<Host, StartError> {
        make_directory(&settings.data_dir)?;
        make_plugin_directories(&settings)?;
        put_gone_aside(&settings)?;
        let mut problems = output_problems(&settings, &|_| true);
        let (job_settings, job_options, job_given) = (settings.clone(), options.clone(), Arc::clone(&given));
        let quotas = Arc::new(Quotas::new(&settings));
        let job_quotas = Arc::clone(&quotas);
        let (engine, catalogs, apart, chains) = on_guest_thread(move || {
            let data_dir = &job_settings.data_dir;
            let (engine, catalogs, apart) = {
                // As the last run left them; once the directory is locked they are read again.
                for (tenant, set) in wasmill_control::stored_quotas(data_dir) {
                    job_quotas.set(tenant.as_str(), &set);
                }
                open_plugins(&job_settings, data_dir, &job_options, &job_given, &job_quotas)?
            };
            let chains = first_chains(&job_settings, &engine, &catalogs, &job_given, &job_quotas);
            Ok::<_, StartError>((engine, catalogs, apart, chains))
        })
        .await??;
        let chains = match chains {
            Ok(chains) => chains,
            Err(StartError::Invalid(found)) => {
                problems.extend(found);
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        if !problems.is_empty() {
            return Err(StartError::Invalid(in_order(problems)));
        }
        let (dir, buffer) = (settings.data_dir.clone(), settings.buffer.clone());
        let opened = tokio::task::spawn_blocking(move || Journal::open(&dir, journal_options(&buffer))).await;
        let (journal, recovery) =
            opened.map_err(|error| StartError::Thread(std::io::Error::other(error)))??;
        let access = access::open(&settings).await?;
        for (tenant, set) in &access.quotas {
            quotas.set(tenant.as_str(), set);
        }
        let bounds =
            WarmBounds { instances: u64::from(settings.warm_instances), bytes: settings.warm_memory };
        let workers = Workers::start(settings.workers, Arc::clone(&quotas), bounds);
        report(&recovery, &settings, &|stream| {
            let tenant = TenantName::new(&stream.tenant);
            tenant.is_ok_and(|tenant| access.control.definitions().has(&tenant, &stream.name))
        });
        let opening = Opening {
            workers: Arc::new(workers.map_err(StartError::Thread)?),
            quotas,
            syncs: SyncCount::default(),
            shadows: shadow::start().map_err(StartError::Thread)?,
            state: Arc::new(StateHouse::of(&settings.data_dir, settings.buffer.durability)),
            lanes: AtomicU64::new(0),
            settings,
            options,
            engine,
            apart,
            given,
            journal,
        };
        opening.remove_state_of_nobody().await?;
        opening.remove_spool_of_nobody().await?;
        let control = Arc::clone(&access.control);
        // Defined over HTTP before the file had it, a stream goes on as it was.
        let is_free = |stream: &config::Stream| {
            let tenant = TenantName::new(&stream.tenant);
            !tenant.is_ok_and(|tenant| control.definitions().has(&tenant, &stream.name))
        };
        let refused = opening.settings.streams.iter().filter(|stream| !is_free(stream)).map(taken_text);
        let refused: Vec<String> = refused.collect();
        refused
            .iter()
            .for_each(|what| tracing::error!(what, "a part of the configuration file is not applied"));
        let (streams, chains): (Vec<config::Stream>, Vec<_>) = opening
            .settings
            .streams
            .iter()
            .cloned()
            .zip(chains)
            .filter(|(stream, _)| is_free(stream))
            .unzip();
        let mut filed = opening.settings.clone();
        filed.streams.clone_from(&streams);
        let mut opened = Vec::with_capacity(streams.len());
        for stream in &streams {
            opened.push(opening.stream(stream).await?);
        }
        let tenants = Tenants::default();
        for (name, catalog) in catalogs {
            let opened_with = OpenedWith::of(&opening.settings, &name);
            let tenant = Tenant::new(&name, &opening.engine, catalog, opened_with);
            tenants.insert(tenant.map_err(StartError::Thread)?);
        }
        let stops = Stops::default();
        let mut ready: Vec<(ReadyStream, Arc<Tenant>)> = Vec::with_capacity(streams.len());
        for ((stream, open), chain) in streams.iter().zip(opened).zip(chains) {
            let Some(tenant) = tenants.get(&stream.tenant) else { continue };
            let prepared = opening.prepare(stream, open, chain, &tenant, stops.child()).await?;
            ready.push((prepared, tenant));
        }
        let listener = match opening.settings.http.listen {
            Some(address) => Some(TcpListener::bind(address).await.map_err(|error| StartError::Listen {
                what: "HTTP".to_owned(),
                address,
                error,
            })?),
            None => None,
        };
        for tenant in tenants.all() {
            if opening.settings.plugin_dir_of(&tenant.name).is_none() {
                continue;
            }
            let watching = tokio::task::spawn_blocking(move || tenant.catalog.start_watching()).await;
            watching.map_err(|error| StartError::Thread(std::io::Error::other(error)))??;
        }
        let replays = Replays::new(Shop {
            settings: opening.settings.clone(),
            engine: opening.engine.clone(),
            workers: Arc::clone(&opening.workers),
            syncs: opening.syncs.clone(),
            quotas: Arc::clone(&opening.quotas),
        });
        let data_dir = opening.settings.data_dir.clone();
        let inner = Inner {
            opening,
            streams: Streams::default(),
            tenants,
            control,
            filed: Filed::new(filed, refused),
            doors: access::Doors::of(&access),
            audit: Arc::clone(&access.audit),
            idle: Idle::default(),
            replays,
            looks: Looks::default(),
            usage: Arc::new(Usage::new(&data_dir)),
            http: OnceLock::new(),
            stops,
            reports: Reports::default(),
            listener: Mutex::new(None),
        };
        for (prepared, tenant) in ready {
            inner.streams.insert(prepared.launch(&tenant, &inner.reports).await);
        }
        let host = Host { inner: Arc::new(inner) };
        tokio::spawn(keep_usage(Arc::downgrade(&host.inner)));
        host.open_uploads().await;
        host.start_defined();
        if let Some(listener) = listener {
            host.serve(listener, access);
        }
        Ok(host)
    }

    fn serve(&self, listener: TcpListener, opened: access::Opened) {
        let config::Http {
            max_body,
            max_record,
            max_records,
            max_connections,
            read_timeout,
            plugin_uploads,
            ..
        } = self.inner.opening.settings.http;
        if let Ok(address) = listener.local_addr() {
            // A new cell: nobody else sets it.
            let _first = self.inner.http.set(address);
        }
        let limits = api::ApiLimits {
            max_body,
            max_record,
            max_records,
            read_timeout,
            max_plugin: self.catalog().map_or(0, |catalog| catalog.wasm_bytes_max()),
            plugin_uploads,
        };
        let router = api::router(Arc::new(self.clone()), limits, opened.access);
        let stop = self.inner.stops.intake.clone().cancelled_owned();
        let limits = api::ListenLimits { max_connections, head_timeout: read_timeout };
        let served =
            tokio::spawn(opened.used.kept_during(api::serve(listener, limits, router, opened.tls, stop)));
        *self.inner.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(served);
    }

    /// Where pushes are taken; `None` when the listener is off.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.inner.http.get().copied()
    }

    /// Where a TCP source listens.
    pub fn tcp_address(&self, stream: &str) -> Option<SocketAddr> {
        self.inner.streams.get(DEFAULT_TENANT, stream)?.tcp
    }

    /// Counters of every stream, in the order of their tenants and names.
    pub fn stats(&self) -> Vec<Arc<StreamStats>> {
        self.inner.streams.all().iter().map(|stream| Arc::clone(&stream.stats)).collect()
    }

    pub fn journal_stats(&self) -> wasmill_buffer::Stats {
        self.inner.opening.journal.stats()
    }

    /// Syncs of staged files and destination directories.
    pub fn destination_syncs(&self) -> u64 {
        self.inner.opening.syncs.get()
    }

    /// Opens what a tenant has of its own, if that was not done before.
    pub(super) async fn tenant(&self, name: &str) -> Result<Arc<Tenant>, StartError> {
        let inner = &self.inner;
        if let Some(tenant) = inner.tenants.get(name) {
            return Ok(tenant);
        }
        let _one = inner.tenants.opening.lock().await;
        if let Some(tenant) = inner.tenants.get(name) {
            return Ok(tenant);
        }
        let settings = self.inner.filed.settings();
        Ok(inner.tenants.insert(self.open_tenant(&settings, name).await?))
    }

    /// Opens what a tenant has of its own, as these settings say; whoever holds `opening` makes it known, or drops it.
    pub(super) async fn open_tenant(&self, settings: &Settings, name: &str) -> Result<Tenant, StartError> {
        let Opening { engine, apart, options, given, quotas, .. } = &self.inner.opening;
        let opened_with = OpenedWith::of(settings, name);
        apart.decide(name, opened_with.isolation);
        let quotas = Arc::clone(quotas);
        let watched = settings.plugin_dir_of(name).map(Path::to_owned);
        let (job_engine, settings, options, given) =
            (engine.clone(), settings.clone(), options.clone(), Arc::clone(given));
        let job_name = name.to_owned();
        let catalog = on_guest_thread(move || {
            watched.as_deref().map_or(Ok(()), make_directory)?;
            let tenant = (job_name.as_str(), quotas.as_ref());
            let catalog = open_catalog(&job_engine, &settings, &settings.data_dir, &options, &given, tenant)?;
            watched.map_or(Ok(()), |_| catalog.start_watching())?;
            Ok::<_, StartError>(catalog)
        })
        .await??;
        Tenant::new(name, engine, catalog, opened_with).map_err(StartError::Thread)
    }

    /// Opens the tenants that have plugins and that no configuration knows: they may have no stream that would do it.
    async fn open_uploads(&self) {
        let data_dir = &self.inner.opening.settings.data_dir;
        for tenant in self.inner.control.tenants(0) {
            let name = tenant.name.as_str();
            if !has_plugins(data_dir, name) {
                continue;
            }
            if let Err(error) = self.tenant(name).await {
                let error = with_causes(&error);
                tracing::error!(tenant = name, error, "plugins of a tenant cannot be opened");
            }
        }
    }

    /// Of the first tenant.
    fn catalog(&self) -> Option<Catalog> {
        Some(self.inner.tenants.get(DEFAULT_TENANT)?.catalog.clone())
    }

    /// Of the first tenant.
    pub fn plugins(&self) -> Vec<PluginState> {
        self.catalog().map(|catalog| catalog.plugins()).unwrap_or_default()
    }

    /// Of the first tenant.
    pub fn catalog_stats(&self) -> CatalogStats {
        self.catalog().map(|catalog| catalog.counters()).unwrap_or_default()
    }

    /// Sources and streams that ended with an error, as text.
    pub fn failures(&self) -> Vec<String> {
        self.inner.reports.failures()
    }

    /// Stores what was counted since the last time.
    pub(super) async fn flush_usage(&self) {
        self.inner.usage.flush((self.stats(), self.inner.opening.quotas.all())).await;
    }

    /// Streams whose task has not ended.
    pub(super) fn running(&self) -> BTreeSet<StreamKey> {
        self.inner.reports.activity.borrow().running.clone()
    }
}

/// Stores now and then what was counted, for as long as the host is there.
async fn keep_usage(host: Weak<Inner>) {
    let mut tick = tokio::time::interval(FLUSH_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(inner) = host.upgrade() else { return };
        Host { inner }.flush_usage().await;
    }
}

/// Nobody misses a directory from which nobody wants anything.
fn make_plugin_directories(settings: &Settings) -> Result<(), StartError> {
    let tenants = settings.tenants.iter().map(|tenant| tenant.name.as_str());
    for tenant in tenants.chain([DEFAULT_TENANT]) {
        let mut streams = settings.streams.iter().filter(|stream| stream.tenant == tenant);
        if streams.all(|stream| stream.transforms.is_empty()) {
            settings.plugin_dir_of(tenant).map_or(Ok(()), make_directory)?;
        }
    }
    Ok(())
}
