//! The configuration file, read again while the host runs: streams, tenants and policies that came, changed or went.
//!
//! A file that is bad is refused as a whole, and everything goes on as it was. One that is good is applied stream by stream
//! through the same changes as everything else; what could not be applied (a stream that does not drain) goes on as it was,
//! is said, and is tried again. What cannot change while the host runs is said, too. It owns what of the file holds.

mod differences;
mod effects;
mod trail;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher};
use serde::Serialize;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wasmill_buffer::StreamKey;
use wasmill_config::{self as config, Draft, LoadError, Problem, Settings};
use wasmill_tenant::TenantName;

use super::access;
use super::changes::ChangeError;
use super::host::Host;
use super::opening::{in_order, key_of, on_guest_thread};
use super::output_problems::problems_of;
use super::plan::ChainPlan;
use super::sources::with_causes;
use super::stats::{label, wall_clock_ns};
use super::tenants::Tenant;
use differences::{Plan, at_next_start, same_name, with_held};
use effects::Effects;
pub(super) use trail::FileChange;

/// How long a stream that changes or goes may take to deliver what it has stored.
const WITHIN: Duration = Duration::from_secs(30);
/// An editor writes in bursts.
const QUIET: Duration = Duration::from_millis(300);
/// It may be written all the time.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// The file is looked at as often, whatever is told of it.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often what could not be applied is tried again.
const TRY_EVERY: Duration = Duration::from_secs(60);

/// What became of the file, as operators see it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FileReport {
    pub file: String,
    /// `applied`, `partly` (see `pending` and `at_next_start`) or `refused`.
    pub state: &'static str,
    /// When that came to be so, in milliseconds since 1970.
    pub at_ms: u64,
    /// Why the file that is there is refused; what holds is the one before.
    pub problems: Vec<FileProblem>,
    /// What of it is not applied yet, and why.
    pub pending: Vec<String>,
    /// Keys whose change takes effect at the next start.
    pub at_next_start: Vec<String>,
    /// Since the start.
    pub reloads: u64,
    pub refusals: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileProblem {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// See the head of this file.
pub(super) struct Filed {
    settings: RwLock<Arc<Settings>>,
    report: Mutex<FileReport>,
    /// Streams that are gone from the file and run still: they could not deliver what they have stored. Of each, what cuts
    /// short that they are waited for.
    leaving: Mutex<BTreeMap<StreamKey, CancellationToken>>,
    /// Held while it is applied.
    one: tokio::sync::Mutex<()>,
}

impl Filed {
    /// `refused`: streams that were not started because of their name.
    pub(super) fn new(settings: Settings, pending: Vec<String>) -> Filed {
        let report = FileReport {
            file: settings.file.display().to_string(),
            state: if pending.is_empty() { "applied" } else { "partly" },
            at_ms: now_ms(),
            pending,
            ..FileReport::default()
        };
        Filed {
            settings: RwLock::new(Arc::new(settings)),
            report: Mutex::new(report),
            leaving: Mutex::default(),
            one: tokio::sync::Mutex::default(),
        }
    }

    /// What holds of the file.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn report(&self) -> FileReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leaving(&self) -> MutexGuard<'_, BTreeMap<StreamKey, CancellationToken>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a stream runs that the file has no more.
    pub(super) fn is_leaving(&self, key: &StreamKey) -> bool {
        self.leaving().contains_key(key)
    }

    /// Of a tenant, the streams that run and that the file has no more.
    pub(super) fn leaving_of(&self, tenant: &str) -> Vec<StreamKey> {
        self.leaving().keys().filter(|key| key.tenant == tenant).cloned().collect()
    }

    /// Nobody waits any longer for such a stream to deliver what it has stored.
    pub(super) fn hurry(&self, key: &StreamKey) {
        if let Some(hurry) = self.leaving().get(key) {
            hurry.cancel();
        }
    }

    fn left(&self, key: &StreamKey) {
        self.leaving().remove(key);
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let mut without = Settings::clone(&settings);
        without.streams.retain(|stream| key_of(stream) != *key);
        *settings = Arc::new(without);
    }

    fn note(&self, note: impl FnOnce(&mut FileReport)) {
        note(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn now_ms() -> u64 {
    u64::try_from(wall_clock_ns()).unwrap_or(0) / 1_000_000
}

impl Host {
    /// What became of the configuration file.
    pub fn file_report(&self) -> FileReport {
        self.inner.filed.report()
    }

    /// Reads the configuration file again and applies it. See the head of the file for what may come of it.
    pub async fn reload_file(&self) {
        let filed = &self.inner.filed;
        let _one = filed.one.lock().await;
        let held = filed.settings();
        let file = held.file.clone();
        let read =
            tokio::task::spawn_blocking(move || Draft::load(&file)?.finish().map_err(LoadError::from)).await;
        let found = match read {
            Ok(Ok(settings)) => self.applied(&held, settings).await,
            Ok(Err(LoadError::Invalid(invalid))) => Err(invalid.problems),
            Ok(Err(error)) => Err(vec![whole(&held, with_causes(&error))]),
            Err(error) => Err(vec![whole(&held, error.to_string())]),
        };
        if let Err(problems) = found {
            for problem in &problems {
                tracing::error!(%problem, "the configuration file is refused as a whole; what was before goes on");
            }
            let told = |problem: Problem| FileProblem {
                line: problem.line,
                column: problem.column,
                message: problem.message,
            };
            filed.note(|report| {
                report.state = "refused";
                report.at_ms = now_ms();
                report.problems = problems.into_iter().map(told).collect();
                report.refusals += 1;
            });
        }
    }

    async fn applied(&self, held: &Settings, file: Settings) -> Result<(), Vec<Problem>> {
        self.forget_gone(&file).await?;
        // Until it is clear which file holds, nobody is opened by the one before.
        let opening = self.inner.tenants.opening.lock().await;
        let opened = self.inner.tenants.all().into_iter();
        let opened = opened.map(|tenant| (tenant.name.clone(), tenant.opened_with.clone())).collect();
        let at_next_start = at_next_start(held, &opened, &file);
        let settings = with_held(held, file);
        let mut pending = Vec::new();
        let (taken, free): (Vec<config::Stream>, Vec<config::Stream>) =
            settings.streams.iter().cloned().partition(|stream| self.is_defined_elsewhere(stream));
        for stream in &taken {
            pending.push(taken_text(stream));
        }
        let lives = |stream: &config::Stream| self.inner.streams.get(&stream.tenant, &stream.name).is_some();
        let effects = Effects::of(held, &settings).map_err(|problem| vec![problem])?;
        let plan = Plan::of(&held.streams, &free, &lives);
        let mut fresh = BTreeMap::new();
        let mut problems =
            self.problems_of_file(&settings, plan.new.iter().chain(&plan.changed), &mut fresh).await;
        if problems.is_empty()
            && let Err(error) = self.know_tenants(&settings).await
        {
            problems.push(whole(&settings, error));
        }
        if !problems.is_empty() {
            // Those that were opened for a file that is refused are opened anew when they are needed. Their threads end first.
            let dropped = tokio::task::spawn_blocking(move || drop(fresh)).await;
            if let Err(error) = dropped {
                tracing::error!(%error, "closing tenants of a refused file ended early");
            }
            return Err(in_order(problems));
        }
        // Policies and tenants hold from here on; of streams, what runs.
        let mut streams = plan.same.clone();
        streams.extend(held.streams.iter().filter(|known| !plan.same.contains(known)).cloned());
        self.hold(&settings, streams.clone());
        for tenant in fresh.into_values() {
            self.inner.tenants.insert(tenant);
        }
        drop(opening);
        self.take_effect(effects, &settings).await;
        self.note_changes(FileChange::of_tables(held, &settings)).await;
        // One that was deleted until a moment ago.
        if let Err(problems) = self.forget_gone(&settings).await {
            problems.iter().for_each(|problem| tracing::error!(%problem, "a tenant of the file is not made"));
        } else if let Err(error) = self.know_tenants(&settings).await {
            tracing::error!(error, "a tenant of the file is not made");
        }
        if held.tenants.iter().any(|known| settings.tenants.iter().all(|tenant| tenant.name != known.name)) {
            access::tell_left(&self.inner.control, &settings);
        }
        let hurry = |stream: &config::Stream| {
            let live = self.inner.streams.get(&stream.tenant, &stream.name);
            (key_of(stream), live.map(|live| live.stops.hurry.clone()).unwrap_or_default())
        };
        *self.inner.filed.leaving() = plan.gone.iter().map(hurry).collect();
        for stream in &plan.gone {
            match self.retire_stream(&stream.tenant, &stream.name, WITHIN).await {
                Ok(()) | Err(ChangeError::NoStream { .. }) => {
                    self.forget_idle(stream);
                    // One that was lost ended with an error that is nobody's now.
                    self.inner.reports.forget(&key_of(stream));
                    self.inner.filed.leaving().remove(&key_of(stream));
                    self.note_changes(vec![FileChange::of_stream(stream, "REMOVE", None)]).await;
                }
                Err(error) => pending.push(self.pending(stream, ("go", "REMOVE"), &error).await),
            }
        }
        for stream in &plan.changed {
            match self.replace_stream(stream.clone(), WITHIN).await {
                Ok(()) => {
                    replace(&mut streams, stream);
                    self.note_changes(vec![FileChange::of_stream(stream, "CHANGE", None)]).await;
                }
                Err(error) => pending.push(self.pending(stream, ("change", "CHANGE"), &error).await),
            }
        }
        for stream in plan.lost.iter().chain(&plan.new) {
            match self.add_stream(stream.clone()).await {
                Ok(()) => {
                    self.forget_idle(stream);
                    replace(&mut streams, stream);
                    if !plan.lost.contains(stream) {
                        self.note_changes(vec![FileChange::of_stream(stream, "ADD", None)]).await;
                    }
                }
                Err(error) => pending.push(self.pending(stream, ("come", "ADD"), &error).await),
            }
        }
        // Some may have been removed by hand meanwhile.
        let leaving = self.inner.filed.leaving().clone();
        streams.retain(|known| {
            !plan.gone.iter().any(|gone| same_name(gone, known)) || leaving.contains_key(&key_of(known))
        });
        self.hold(&settings, streams);
        for key in &at_next_start {
            tracing::warn!(
                key,
                "this key of the configuration takes effect at the next start; it goes on as it was"
            );
        }
        for what in &pending {
            tracing::warn!(what, "a part of the configuration file is not applied yet");
        }
        let (new, changed, gone) = (plan.new.len(), plan.changed.len(), plan.gone.len());
        tracing::info!(new, changed, gone, pending = pending.len(), "the configuration file was applied");
        self.inner.filed.note(|report| {
            let whole = pending.is_empty() && at_next_start.is_empty();
            report.state = if whole { "applied" } else { "partly" };
            report.at_ms = now_ms();
            report.problems.clear();
            report.pending = pending;
            report.at_next_start = at_next_start;
            report.reloads += 1;
        });
        Ok(())
    }

    /// What is told of a stream that could not be changed; where it runs no more, those who ask for it see that, too.
    async fn pending(
        &self,
        stream: &config::Stream,
        (what, change): (&str, &'static str),
        error: &ChangeError,
    ) -> String {
        let lives = self.inner.streams.get(&stream.tenant, &stream.name).is_some();
        let held = self.inner.filed.settings().streams.iter().any(|known| same_name(known, stream));
        let text = with_causes(error);
        if held && !lives {
            self.set_idle(&key_of(stream), text.clone());
            // It may have been removed by force meanwhile.
            if !self.inner.filed.settings().streams.iter().any(|known| same_name(known, stream)) {
                self.forget_idle(stream);
            }
        }
        let told = format!("{} is to {what}: {text}", stream.key);
        // It is tried again every minute.
        if !self.file_report().pending.contains(&told) {
            self.note_changes(vec![FileChange::of_stream(stream, change, Some(text))]).await;
        }
        told
    }

    /// A stream that the file has no more was removed with what it had stored.
    pub(super) fn has_left(&self, key: &StreamKey) {
        self.inner.filed.left(key);
        // Who was ending it found that it could not, and that it ran no more.
        self.inner.idle.forget(key);
    }

    fn hold(&self, settings: &Settings, mut streams: Vec<config::Stream>) {
        streams.sort_by(|a, b| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)));
        let mut held = settings.clone();
        held.streams = streams;
        *self.inner.filed.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(held);
    }

    /// Whether the name belongs to a stream that was made over HTTP.
    pub(super) fn is_defined_elsewhere(&self, stream: &config::Stream) -> bool {
        let tenant = TenantName::new(&stream.tenant);
        tenant.is_ok_and(|tenant| self.inner.control.definitions().has(&tenant, &stream.name))
    }

    /// Everything that is wrong with streams of a file and shows before anything changes. Tenants that are not open are
    /// opened for it, as the file says, and known to nobody yet; [`Tenants::opening`](super::tenants::Tenants) is held.
    async fn problems_of_file(
        &self,
        settings: &Settings,
        streams: impl Iterator<Item = &config::Stream>,
        fresh: &mut BTreeMap<String, Tenant>,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        for stream in streams {
            problems.extend(problems_of(settings, std::slice::from_ref(stream), &|_| true));
            let catalog = match (self.inner.tenants.get(&stream.tenant), fresh.get(&stream.tenant)) {
                (Some(tenant), _) => tenant.catalog.clone(),
                (None, Some(tenant)) => tenant.catalog.clone(),
                (None, None) => match self.open_tenant(settings, &stream.tenant).await {
                    Ok(tenant) => {
                        let catalog = tenant.catalog.clone();
                        fresh.insert(stream.tenant.clone(), tenant);
                        catalog
                    }
                    Err(error) => {
                        problems.push(settings.problem(&stream.key, with_causes(&error)));
                        continue;
                    }
                },
            };
            let opening = &self.inner.opening;
            let plan = ChainPlan::of(stream, &opening.given, &catalog).following();
            let engine = opening.engine.clone();
            match on_guest_thread(move || plan.first(&engine, &catalog)).await {
                Ok(Ok(_chain)) => {}
                Ok(Err(found)) => {
                    problems.extend(found.into_iter().map(|of| settings.problem(&of.key, of.message)));
                }
                Err(error) => problems.push(settings.problem(&stream.key, with_causes(&error))),
            }
        }
        problems
    }

    async fn know_tenants(&self, settings: &Settings) -> Result<(), String> {
        let (control, audit) = (Arc::clone(&self.inner.control), Arc::clone(&self.inner.audit));
        let tenants = settings.tenants.clone();
        let known = move || access::know(&control, &audit, &tenants).map_err(|error| with_causes(&error));
        tokio::task::spawn_blocking(known).await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Follows the file until the host stops: its changes since it was read for the start, and SIGHUP, which reads it whether
    /// or not it has changed.
    pub async fn follow_file(self, mut hangup: Signal) {
        let settings = self.inner.filed.settings();
        let file = settings.file.clone();
        let (changed, mut changes) = mpsc::channel(1);
        let watcher = watch(&file, changed);
        if watcher.is_none() {
            tracing::warn!(file = %file.display(), "no file events for the configuration, looking every ten seconds instead");
        }
        let mut seen = Some(settings.text().as_bytes().to_vec());
        drop(settings);
        let mut tick = tokio::time::interval(LOOK_EVERY);
        let mut tried = tokio::time::Instant::now();
        let stopping = self.inner.stops.intake.clone();
        loop {
            let forced = tokio::select! {
                () = stopping.cancelled() => return,
                _ = hangup.recv() => true,
                _ = tick.tick() => false,
                // The watcher is ours: without one nothing is sent.
                Some(()) = changes.recv() => tokio::select! {
                    () = stopping.cancelled() => return,
                    _ = hangup.recv() => true,
                    () = quiet(&mut changes) => false,
                },
            };
            let now = text(&file).await;
            let again = !self.file_report().pending.is_empty() && tried.elapsed() >= TRY_EVERY;
            if forced || now != seen || again {
                (seen, tried) = (now, tokio::time::Instant::now());
                self.reload_file().await;
            }
        }
    }
}

/// Whoever writes the file is done with it, or is never done.
async fn quiet(changes: &mut mpsc::Receiver<()>) {
    let until = tokio::time::Instant::now() + QUIET_MAX;
    while tokio::time::Instant::now() < until
        && tokio::time::timeout(QUIET, changes.recv()).await.is_ok_and(|event| event.is_some())
    {}
}

/// What is told of a stream whose name is taken.
pub(super) fn taken_text(stream: &config::Stream) -> String {
    format!(
        "{} is not started: stream {} was made over HTTP before, and goes on; remove one of the two",
        stream.key,
        label(&stream.tenant, &stream.name)
    )
}

fn replace(streams: &mut Vec<config::Stream>, new: &config::Stream) {
    streams.retain(|known| !same_name(known, new));
    streams.push(new.clone());
}

fn whole(settings: &Settings, message: String) -> Problem {
    Problem { file: settings.file.clone(), line: 1, column: 1, message }
}

/// `None`: it cannot be read.
async fn text(file: &Path) -> Option<Vec<u8>> {
    tokio::fs::read(file).await.ok()
}

fn watch(file: &Path, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    // One that is saved is replaced, so that its directory has to be watched.
    let absolute = std::path::absolute(file).ok()?;
    let files: BTreeSet<PathBuf> =
        [Some(absolute.clone()), absolute.canonicalize().ok()].into_iter().flatten().collect();
    let dirs: BTreeSet<PathBuf> = files.iter().filter_map(|file| file.parent().map(Path::to_owned)).collect();
    let told = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| concerns(&event, &files)) {
            // A full queue has one already.
            let _full = changed.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(told).ok()?;
    for dir in dirs {
        watcher.watch(&dir, RecursiveMode::NonRecursive).ok()?;
    }
    Some(watcher)
}

/// Whether an event may be one of these files. Where they are links, what they lead through may be replaced instead.
fn concerns(event: &notify::Event, files: &BTreeSet<PathBuf>) -> bool {
    let named = |path: &PathBuf| files.contains(path) || path.is_symlink();
    !matches!(event.kind, EventKind::Access(_))
        && (event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_of_another_file_does_not_concern_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("other"), "").unwrap();
        std::os::unix::fs::symlink("other", path("link")).unwrap();
        let files = BTreeSet::from([path("wasmill.toml")]);
        let event = |kind, names: &[&str]| {
            names.iter().fold(notify::Event::new(kind), |event, name| event.add_path(path(name)))
        };
        let (any, access) = (EventKind::Any, EventKind::Access(notify::event::AccessKind::Any));
        assert!(concerns(&event(any, &["other", "wasmill.toml"]), &files));
        assert!(concerns(&event(any, &[]), &files) && concerns(&event(any, &["link"]), &files));
        assert!(!concerns(&event(any, &["other"]), &files));
        assert!(!concerns(&event(access, &["wasmill.toml"]), &files));
    }
}
