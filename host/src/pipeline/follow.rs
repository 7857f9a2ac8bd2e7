//! The configuration file, read again while the host runs: streams, tenants and policies that came, changed or went.
//!
//! A file that is bad is refused as a whole, and everything goes on as it was. One that is good is applied stream by stream
//! through the same changes as everything else; what could not be applied (a stream that does not drain) goes on as it was,
//! is said, and is tried again. What cannot change while the host runs is said, too. It owns what of the file holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher};
use serde::Serialize;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use wasmill_config::{self as config, DEFAULT_TENANT, Draft, LoadError, Problem, Settings};
use wasmill_tenant::TenantName;

use super::access;
use super::changes::ChangeError;
use super::host::Host;
use super::opening::{in_order, key_of, on_guest_thread};
use super::output_problems::problems_of;
use super::plan::ChainPlan;
use super::sources::with_causes;
use super::stats::{label, wall_clock_ns};
use super::tenants::{OpenedWith, Tenant};

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

    fn note(&self, note: impl FnOnce(&mut FileReport)) {
        note(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn now_ms() -> u64 {
    u64::try_from(wall_clock_ns()).unwrap_or(0) / 1_000_000
}

/// What is to be done about the streams of a file.
#[derive(Default)]
struct Plan {
    new: Vec<config::Stream>,
    changed: Vec<config::Stream>,
    gone: Vec<config::Stream>,
    /// As before.
    same: Vec<config::Stream>,
    /// As before, and to be started again: they were lost.
    lost: Vec<config::Stream>,
}

impl Plan {
    /// `lives`: whether there is a stream of this name, be it of another definition.
    fn of(
        before: &[config::Stream],
        now: &[config::Stream],
        lives: &dyn Fn(&config::Stream) -> bool,
    ) -> Plan {
        let mut plan = Plan::default();
        for stream in now {
            match before.iter().find(|known| same_name(known, stream)) {
                Some(known) if known == stream && lives(stream) => plan.same.push(stream.clone()),
                Some(known) if known == stream => plan.lost.push(stream.clone()),
                Some(_) if lives(stream) => plan.changed.push(stream.clone()),
                _ => plan.new.push(stream.clone()),
            }
        }
        let gone = before.iter().filter(|known| !now.iter().any(|stream| same_name(stream, known)));
        plan.gone = gone.cloned().collect();
        plan
    }
}

fn same_name(a: &config::Stream, b: &config::Stream) -> bool {
    (&a.tenant, &a.name) == (&b.tenant, &b.name)
}

/// Keys whose new value the running host does not take. Tenants are what they were `opened` with, whatever the file said
/// since then; one that is not open will be what the file says now.
fn at_next_start(held: &Settings, opened: &BTreeMap<String, OpenedWith>, file: &Settings) -> Vec<String> {
    let mut keys = Vec::new();
    let mut differs = |key: &str, differs: bool| {
        if differs {
            keys.push(key.to_owned());
        }
    };
    let ours = opened.get(DEFAULT_TENANT).cloned().unwrap_or_else(|| OpenedWith::of(file, DEFAULT_TENANT));
    differs("data_dir", held.data_dir != file.data_dir);
    differs("plugin_dir", ours.plugin_dir.as_ref() != Some(&file.plugin_dir));
    differs("workers", held.workers != file.workers);
    differs("http", held.http != file.http);
    differs("buffer", held.buffer != file.buffer);
    differs("signing", ours.signing != file.signing);
    // Of every tenant that is open and has none of its own, too.
    let of_no_table = opened.iter().filter(|(name, _)| file.tenants.iter().all(|known| known.name != **name));
    let mut isolated = of_no_table.map(|(_, opened)| opened.isolation);
    differs("isolation", isolated.any(|isolation| isolation != file.isolation));
    differs("warm_instances", held.warm_instances != file.warm_instances);
    differs("warm_memory", held.warm_memory != file.warm_memory);
    differs("quota", held.quota != file.quota);
    let with_quota: BTreeSet<&String> = held.quotas.keys().chain(file.quotas.keys()).collect();
    for tenant in with_quota {
        differs(&format!("tenants.{tenant}.quota"), held.quotas.get(tenant) != file.quotas.get(tenant));
    }
    for (name, opened) in opened.iter().filter(|(name, _)| *name != DEFAULT_TENANT) {
        let wanted = OpenedWith::of(file, name);
        differs(&format!("tenants.{name}.plugin_dir"), opened.plugin_dir != wanted.plugin_dir);
        differs(&format!("tenants.{name}.signing"), opened.signing != wanted.signing);
        let in_table = file.tenants.iter().any(|known| known.name == *name);
        differs(&format!("tenants.{name}.isolation"), in_table && opened.isolation != wanted.isolation);
    }
    keys
}

/// The file, with what cannot change as it is. What tenants are opened with stays as it is written: of those that are open
/// nobody looks at it again.
fn with_held(held: &Settings, mut file: Settings) -> Settings {
    file.data_dir.clone_from(&held.data_dir);
    file.workers = held.workers;
    file.http.clone_from(&held.http);
    file.buffer.clone_from(&held.buffer);
    (file.warm_instances, file.warm_memory) = (held.warm_instances, held.warm_memory);
    file.quota.clone_from(&held.quota);
    file.quotas.clone_from(&held.quotas);
    file
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
        for stream in &plan.gone {
            match self.retire_stream(&stream.tenant, &stream.name, WITHIN).await {
                Ok(()) | Err(ChangeError::NoStream { .. }) => {
                    self.forget_idle(stream);
                    // One that was lost ended with an error that is nobody's now.
                    self.inner.reports.forget(&key_of(stream));
                    replace(&mut streams, stream, None);
                }
                Err(error) => pending.push(self.pending(stream, "go", &error)),
            }
        }
        for stream in &plan.changed {
            match self.replace_stream(stream.clone(), WITHIN).await {
                Ok(()) => replace(&mut streams, stream, Some(stream)),
                Err(error) => pending.push(self.pending(stream, "change", &error)),
            }
        }
        for stream in plan.lost.iter().chain(&plan.new) {
            match self.add_stream(stream.clone()).await {
                Ok(()) => {
                    self.forget_idle(stream);
                    replace(&mut streams, stream, Some(stream));
                }
                Err(error) => pending.push(self.pending(stream, "come", &error)),
            }
        }
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
    fn pending(&self, stream: &config::Stream, what: &str, error: &ChangeError) -> String {
        let lives = self.inner.streams.get(&stream.tenant, &stream.name).is_some();
        let held = self.inner.filed.settings().streams.iter().any(|known| same_name(known, stream));
        let text = with_causes(error);
        if held && !lives {
            self.set_idle(&key_of(stream), text.clone());
        }
        format!("{} is to {what}: {text}", stream.key)
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
            let plan = ChainPlan::of(stream, &opening.given);
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
        let (control, data_dir) = (Arc::clone(&self.inner.control), settings.data_dir.clone());
        let tenants = settings.tenants.clone();
        let known = move || {
            let audit = wasmill_control::AuditLog::new(&data_dir);
            access::know(&control, &audit, &tenants).map_err(|error| with_causes(&error))
        };
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

fn replace(streams: &mut Vec<config::Stream>, old: &config::Stream, new: Option<&config::Stream>) {
    streams.retain(|known| !same_name(known, old));
    streams.extend(new.cloned());
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

    fn settings(text: &str) -> Settings {
        Settings::from_toml(text, Path::new("/nowhere/wasmill.toml")).unwrap()
    }

    fn stream(name: &str, path: &str) -> String {
        format!(
            "[streams.{name}]\nsource = {{ type = \"http\" }}\noutputs = [{{ type = \"directory\", path = \"{path}\" }}]\n"
        )
    }

    #[test]
    fn streams_that_came_changed_and_went_are_told_apart() {
        let before = settings(&[stream("a", "1"), stream("b", "1"), stream("c", "1")].concat());
        let now = settings(&[stream("a", "1"), stream("b", "2"), stream("d", "1")].concat());
        let plan = Plan::of(&before.streams, &now.streams, &|_| true);
        let names =
            |streams: &[config::Stream]| -> Vec<String> { streams.iter().map(|s| s.name.clone()).collect() };
        assert_eq!(names(&plan.same), ["a"]);
        assert_eq!(names(&plan.changed), ["b"]);
        assert_eq!(names(&plan.gone), ["c"]);
        assert_eq!(names(&plan.new), ["d"]);
        // One that was lost is started again, be it changed or not.
        let plan = Plan::of(&before.streams, &now.streams, &|stream| stream.name == "c");
        assert_eq!(
            (names(&plan.lost), names(&plan.new)),
            (vec!["a".to_owned()], vec!["b".into(), "d".into()])
        );
        assert!(plan.same.is_empty() && plan.changed.is_empty() && names(&plan.gone) == ["c"]);
    }

    fn opened(settings: &Settings, tenants: &[&str]) -> BTreeMap<String, OpenedWith> {
        tenants.iter().map(|name| ((*name).to_owned(), OpenedWith::of(settings, name))).collect()
    }

    #[test]
    fn what_cannot_change_is_named_and_stays() {
        let held = settings(&format!("data_dir = \"a\"\nworkers = 1\n{}", stream("a", "1")));
        let file = settings(&format!(
            "data_dir = \"b\"\nworkers = 2\n[http]\nmax_records = 7\n[buffer]\ndurability = \"os\"\n{}",
            stream("a", "1")
        ));
        let opened = opened(&held, &[DEFAULT_TENANT]);
        assert_eq!(at_next_start(&held, &opened, &file), ["data_dir", "workers", "http", "buffer"]);
        let merged = with_held(&held, file);
        assert_eq!((merged.workers, &merged.data_dir), (1, &held.data_dir));
        assert!(at_next_start(&held, &opened, &held).is_empty());
    }

    #[test]
    fn tenant_that_is_open_stays_what_it_was_opened_with_whatever_was_in_a_file_since() {
        let held = settings(&format!("{}[tenants.old]\n", stream("a", "1")));
        // Made over HTTP and open, no file knew `made`; `closed` is not open.
        let opened = opened(&held, &[DEFAULT_TENANT, "old", "made"]);
        let tables =
            ["old", "made", "closed"].map(|name| format!("[tenants.{name}]\nisolation = \"process\"\n"));
        let file = settings(&format!("{}{}", stream("a", "1"), tables.concat()));
        let expected = ["tenants.made.plugin_dir", "tenants.made.isolation", "tenants.old.isolation"];
        assert_eq!(at_next_start(&held, &opened, &file), expected);
        // It holds, and is still not in effect.
        let holds = with_held(&held, file.clone());
        assert_eq!(at_next_start(&holds, &opened, &file), expected);
        assert_eq!(OpenedWith::of(&holds, "closed").isolation, config::Isolation::Process);
        let file = settings(&format!("isolation = \"process\"\n{}[tenants.old]\n", stream("a", "1")));
        assert_eq!(at_next_start(&held, &opened, &file), ["isolation", "tenants.old.isolation"]);
    }

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
