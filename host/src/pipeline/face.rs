//! What the HTTP routes see of a host.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use wasmill_buffer::StreamKey;
use wasmill_tenant::{Quotas, TenantName};
use wasmill_transform::Digest;

use super::decide::Decider;
use super::define::{DefineAnswer, DefineError, DefineRequest};
use super::history::HistoryError;
use super::host::Host;
use super::inlet::Inlet;
use super::leftovers::LeftError;
use super::letters::LettersError;
use super::live::LiveStream;
use super::quotas::TenantQuota;
use super::samples::{SampleError, SampledSlice};
use super::shadow::ShadowReport;
use super::sources::with_causes;
use super::stats::{StreamStats, wall_clock_ns};
use super::tables::{StateDeskError, StateRequest};
use super::usage::{UsageError, UsagePage, UsageQuery, UsageReader};
use super::versions::{self, PluginFile, VersionsDesk, VersionsError, VersionsRequest};
use crate::api::{self, Absence, LettersRequest, ReplaysRequest};
use crate::telemetry::metrics;

/// How long the data disk has to answer who asks whether the host is ready.
const DISK_ANSWERS: Duration = Duration::from_secs(1);
/// How long the removal of a plugin's version waits for a change of the tenant's streams.
const CHANGES_END: Duration = Duration::from_secs(30);

impl api::Host for Host {
    type Append = Inlet;

    fn quota(&self, tenant: &TenantName) -> Arc<TenantQuota> {
        self.inner.opening.quotas.of(tenant.as_str())
    }

    fn quotas_of_file(&self, tenant: &TenantName) -> Quotas {
        self.inner.opening.quotas.of_file(tenant.as_str())
    }

    fn set_quotas(&self, tenant: &TenantName, quotas: &Quotas) {
        let of = &self.inner.opening.quotas;
        let before = of.of(tenant.as_str()).limits();
        let after = of.set(tenant.as_str(), quotas).limits();
        self.inner.opening.workers.look_again();
        let reloader = self.inner.tenants.get(tenant.as_str()).and_then(|tenant| tenant.reloader());
        if let Some(reloader) = reloader.filter(|_| before.plugin_memory != after.plugin_memory) {
            reloader.rebuild();
        }
    }

    fn quotas_used(&self, tenant: &TenantName) -> Value {
        let quota = self.inner.opening.quotas.of(tenant.as_str());
        let plugins = self.inner.tenants.get(tenant.as_str());
        json!({
            "requests": quota.requests(),
            "body_bytes": quota.bodies(),
            "buffered_bytes": quota.buffered_bytes(),
            "warm_memory": quota.warm().1,
            "plugins": plugins.map_or(0, |tenant| tenant.catalog.counters().current),
            "streams": self.streams_of(tenant),
            "dead_letter_bytes": quota.dead_letter_bytes(),
            "state_bytes": quota.state_bytes(),
            "deliveries": quota.deliveries(),
        })
    }

    fn file_of(&self, tenant: &TenantName) -> Option<String> {
        let settings = self.inner.filed.settings();
        let named = settings.tenants.iter().any(|known| known.name == tenant.as_str());
        named.then(|| settings.file.display().to_string())
    }

    async fn usage(
        &self,
        tenant: String,
        query: UsageQuery,
        rows: usize,
        reader: UsageReader,
    ) -> Result<UsagePage, UsageError> {
        let inner = &self.inner;
        let turn = inner.usage.turn(&reader).await?;
        let streams = inner.streams.of(&tenant).iter().map(|stream| Arc::clone(&stream.stats)).collect();
        let quotas = inner.opening.quotas.all().into_iter().filter(|quota| quota.tenant() == tenant);
        inner.usage.read(&tenant, (streams, quotas.collect()), query, rows, turn).await
    }

    async fn usage_tenants(&self) -> Result<Vec<String>, UsageError> {
        self.inner.usage.read_tenants((self.stats(), self.inner.opening.quotas.all())).await
    }

    async fn forget_streams(&self, tenant: &TenantName, force: bool) -> Result<(), LeftError> {
        self.remove_left(tenant, force).await
    }

    async fn forget_usage(&self, tenant: &TenantName) -> Result<(), LeftError> {
        self.put_usage_aside(tenant).await
    }

    async fn forget_plugins(&self, tenant: &TenantName) -> Result<(), LeftError> {
        self.put_plugins_aside(tenant).await
    }

    fn stream(&self, tenant: &TenantName, name: &str) -> Result<Arc<Inlet>, Absence> {
        let streams = &self.inner.streams;
        let find = || streams.get(tenant.as_str(), name);
        if let Some(live) = find() {
            return live.inlet.clone().ok_or(Absence::None);
        }
        if streams.is_changing(tenant.as_str(), name) {
            return Err(Absence::Changing);
        }
        // A change may have ended between the two looks.
        match find() {
            Some(live) => live.inlet.clone().ok_or(Absence::None),
            None if self.is_idle(tenant, name) => Err(Absence::Idle),
            None => Err(Absence::None),
        }
    }

    fn decider(&self, tenant: &TenantName, name: &str) -> Option<Decider> {
        let live = self.inner.streams.get(tenant.as_str(), name)?;
        let settings = live.settings.decide.as_ref()?;
        Some(Decider::new(settings, &live.letters.context.decisions, &live.stats))
    }

    fn counted(&self, tenant: &TenantName, name: &str) -> Option<Arc<StreamStats>> {
        self.inner.streams.get(tenant.as_str(), name).map(|stream| Arc::clone(&stream.stats))
    }

    fn firehose(&self) -> wasmill_config::Firehose {
        self.inner.filed.settings().firehose.clone()
    }

    fn origin(&self, tenant: &TenantName, name: &str) -> Option<Arc<Value>> {
        self.inner.control.definitions().get(tenant, name)?.origin
    }

    fn is_changing(&self, tenant: &TenantName, name: &str) -> bool {
        self.inner.streams.is_changing(tenant.as_str(), name)
    }

    fn has_stream(&self, tenant: &TenantName, name: &str) -> bool {
        let streams = &self.inner.streams;
        let there = || streams.get(tenant.as_str(), name).is_some();
        there() || streams.is_changing(tenant.as_str(), name) || there() || self.is_idle(tenant, name)
    }

    fn has_plugin(&self, tenant: &TenantName, name: &str) -> bool {
        let tenant = self.inner.tenants.get(tenant.as_str());
        tenant.is_some_and(|tenant| tenant.catalog.knows(name).is_ok())
    }

    fn streams_of(&self, tenant: &TenantName) -> usize {
        // Whether or not they run: those that are defined over HTTP, and those of the file.
        let defined = self.inner.control.definitions();
        let (live, filed) = (self.inner.streams.of(tenant.as_str()), self.inner.filed.settings());
        let filed = filed.streams.iter().filter(|stream| stream.tenant == tenant.as_str());
        let names = live.iter().map(|stream| &stream.key.name).chain(filed.map(|stream| &stream.name));
        // What the file has no more is as good as gone.
        let leaves = |name: &str| {
            let key = StreamKey { tenant: tenant.as_str().to_owned(), name: name.to_owned() };
            self.inner.filed.is_leaving(&key)
        };
        let others: HashSet<&String> =
            names.filter(|name| !defined.has(tenant, name) && !leaves(name)).collect();
        others.len() + defined.count(tenant)
    }

    async fn define(
        &self,
        tenant: TenantName,
        stream: String,
        request: DefineRequest,
    ) -> Result<DefineAnswer, DefineError> {
        self.answer_define(tenant, stream, request).await
    }

    fn streams(&self, tenant: &TenantName) -> Value {
        let now = wall_clock_ns();
        let defined = self.inner.control.definitions();
        let streams = self.inner.streams.of(tenant.as_str());
        let live = streams.iter().map(|stream| {
            let mut told = describe(&stream.stats, now);
            told["owner"] = if defined.has(tenant, &stream.key.name) { "api" } else { "file" }.into();
            told["state"] = self.state(&stream.key).0.into();
            told
        });
        let owner = |name: &str| if defined.has(tenant, name) { "api" } else { "file" };
        let idle = self.inner.idle.of(tenant.as_str());
        // Neither runs what is just being ended or opened.
        let filed = self.inner.filed.settings();
        let filed = filed.streams.iter().filter(|stream| stream.tenant == tenant.as_str());
        let mut changing: BTreeSet<String> = filed.map(|stream| stream.name.clone()).collect();
        changing.extend(defined.names_of(tenant));
        for name in streams.iter().map(|live| &live.key.name).chain(idle.iter().map(|(name, _)| name)) {
            changing.remove(name);
        }
        let changing = changing.into_iter().map(|name| {
            let key = StreamKey { tenant: tenant.as_str().to_owned(), name };
            json!({ "name": key.name, "owner": owner(&key.name), "state": self.state(&key).0 })
        });
        let failed = idle.iter().map(|(name, reason)| {
            json!({ "name": name, "owner": owner(name), "state": "failed", "reason": reason })
        });
        Value::Array(live.chain(failed).chain(changing).collect())
    }

    fn plugins(&self, tenant: &TenantName) -> Value {
        let tenant = self.inner.tenants.get(tenant.as_str());
        serde_json::to_value(tenant.map(|tenant| tenant.catalog.plugins()).unwrap_or_default())
            .unwrap_or_default()
    }

    async fn state(
        &self,
        tenant: TenantName,
        stream: String,
        request: StateRequest,
    ) -> Result<Value, StateDeskError> {
        let Some(live) = self.inner.streams.get(tenant.as_str(), &stream) else {
            return Err(StateDeskError::NoStream { stream });
        };
        let state = Arc::clone(&live.state);
        // It holds the stream no longer than need be.
        drop(live);
        match request {
            StateRequest::Tables => Ok(json!({ "tables": state.tables() })),
            StateRequest::Entries(wanted) => {
                Ok(serde_json::to_value(state.entries(wanted).await?).unwrap_or_default())
            }
            StateRequest::Drop(of) => Ok(json!({ "dropped": state.empty(of).await? })),
        }
    }

    async fn dead_letters(
        &self,
        tenant: TenantName,
        stream: String,
        request: LettersRequest,
    ) -> Result<Value, LettersError> {
        let Some(live) = self.inner.streams.get(tenant.as_str(), &stream) else {
            return Err(LettersError::NoStream { stream });
        };
        let letters = Arc::clone(&live.letters);
        match request {
            LettersRequest::Page(wanted) => {
                let page = letters.page(wanted).await?;
                let stats = &letters.context.stats;
                Ok(json!({
                    "letters": page.letters,
                    "next": page.next,
                    "count": stats.dead_letters.kept.get(),
                    "bytes": stats.dead_letter_bytes.get(),
                }))
            }
            LettersRequest::Get(number) => {
                Ok(serde_json::to_value(letters.get(number).await?).unwrap_or_default())
            }
            LettersRequest::Remove(filter) => Ok(json!({ "removed": letters.remove(filter).await? })),
            LettersRequest::Replay { wanted, plugins } => {
                let (replayed, next) = letters.replay(wanted, plugins).await?;
                Ok(json!({
                    "tried": replayed.tried,
                    "passed": replayed.passed,
                    "dropped": replayed.dropped,
                    "failed": replayed.failed,
                    "skipped": replayed.skipped,
                    "next": next,
                }))
            }
        }
    }

    async fn replays(
        &self,
        tenant: TenantName,
        stream: String,
        request: ReplaysRequest,
    ) -> Result<Value, HistoryError> {
        let replays = &self.inner.replays;
        let Some(live) = self.inner.streams.get(tenant.as_str(), &stream) else {
            return Err(HistoryError::NoStream { stream });
        };
        let progress = match request {
            ReplaysRequest::Start(plan) => replays.start(&live.history, plan, wall_clock_ns()).await?,
            ReplaysRequest::List => return Ok(json!({ "replays": replays.list(&live.key) })),
            ReplaysRequest::Get(id) => replays.progress(&live.key, &id)?,
            ReplaysRequest::Cancel(id) => replays.cancel(&live.key, &id)?,
        };
        Ok(serde_json::to_value(progress).unwrap_or_default())
    }

    async fn sample(
        &self,
        tenant: TenantName,
        stream: String,
        records: usize,
        wait: Duration,
    ) -> Result<SampledSlice, SampleError> {
        let Some(live) = self.inner.streams.get(tenant.as_str(), &stream) else {
            return Err(SampleError::NoStream { stream });
        };
        tokio::select! {
            slice = live.letters.context.samples.next(records, wait) => slice,
            // A host, or a stream, that stops waits for its requests.
            () = live.stops.intake.cancelled() => Ok(SampledSlice::default()),
        }
    }

    async fn versions(
        &self,
        tenant: TenantName,
        plugin: String,
        request: VersionsRequest,
    ) -> Result<Value, VersionsError> {
        let held = self.inner.tenants.get(tenant.as_str());
        // A stream that names the version may be on its way.
        let _unchanging = match &held {
            Some(held) if matches!(request, VersionsRequest::Remove(_)) => {
                let lock = tokio::time::timeout(CHANGES_END, held.changing.lock()).await;
                Some(lock.map_err(|_elapsed| VersionsError::Changing)?)
            }
            _ => None,
        };
        self.desk(&tenant, &plugin)?.answer(plugin, request).await
    }

    async fn upload(
        &self,
        tenant: TenantName,
        name: Option<String>,
        file: PluginFile,
        signature: Option<Vec<u8>>,
    ) -> Result<Value, VersionsError> {
        let opened = self.tenant(tenant.as_str()).await;
        let tenant = opened.map_err(|error| {
            let error = with_causes(&error);
            tracing::error!(%tenant, error, "plugins of a tenant cannot be opened");
            VersionsError::Closed
        })?;
        let quota = self.inner.opening.quotas.of(&tenant.name);
        versions::upload(&tenant.catalog, &quota, name, file, signature).await
    }

    fn file(&self) -> Value {
        serde_json::to_value(self.file_report()).unwrap_or_default()
    }

    async fn ready(&self) -> Result<(), String> {
        let mut failures = self.failures();
        let (journal, looks) = (&self.inner.opening.journal, &self.inner.looks);
        let until = tokio::time::Instant::now() + DISK_ANSWERS;
        let place = journal.place();
        match tokio::time::timeout_at(until, looks.look(move || place.check())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failures.push(error.to_string()),
            Err(_elapsed) => failures.push("the disk of the data directory does not answer".to_owned()),
        }
        match tokio::time::timeout_at(until, journal.check_takes_appends()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failures.push(format!("records are refused: {}", with_causes(&error))),
            Err(_elapsed) => failures.push("records are refused, and the disk does not answer".to_owned()),
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
    }

    fn metrics(&self) -> String {
        let tenants = self.inner.tenants.all();
        let catalogs = tenants.iter().map(|tenant| metrics::TenantPlugins {
            tenant: tenant.name.clone(),
            plugins: tenant.catalog.plugins(),
            catalog: tenant.catalog.counters(),
        });
        let catalogs: Vec<_> = catalogs.collect();
        metrics::render(&metrics::Counted {
            streams: &self.stats(),
            journal: &self.journal_stats(),
            catalogs: &catalogs,
            shadows: &self.shadow_reports(),
            quotas: &self.inner.opening.quotas.all(),
            destination_syncs: self.destination_syncs(),
            processes: self.inner.opening.engine.process_stats(),
            now_ns: wall_clock_ns(),
        })
    }
}

impl Host {
    /// Of all tenants.
    fn shadow_reports(&self) -> Vec<(String, ShadowReport)> {
        let of = |stream: &Arc<LiveStream>| {
            let tenant = stream.key.tenant.clone();
            stream.shadows.reports().into_iter().map(move |report| (tenant.clone(), report))
        };
        self.inner.streams.all().iter().flat_map(of).collect()
    }

    /// Whether a stream of this name is defined, wherever, and does not run.
    fn is_idle(&self, tenant: &TenantName, name: &str) -> bool {
        let key = || StreamKey { tenant: tenant.as_str().to_owned(), name: name.to_owned() };
        self.inner.control.definitions().has(tenant, name) || self.inner.idle.reason(&key()).is_some()
    }

    fn desk(&self, name: &TenantName, plugin: &str) -> Result<VersionsDesk, VersionsError> {
        let missing = || VersionsError::NoPlugin { name: plugin.to_owned(), nearest: None };
        let tenant = self.inner.tenants.get(name.as_str()).ok_or_else(missing)?;
        let reloader = tenant.reloader().ok_or(VersionsError::Stopping)?;
        let streams = self.inner.streams.of(&tenant.name);
        let shadows = streams.iter().map(|stream| Arc::clone(&stream.shadows)).collect();
        let named = self.named_by_streams(name);
        let quota = self.inner.opening.quotas.of(&tenant.name);
        Ok(VersionsDesk { catalog: tenant.catalog.clone(), quota, reloader, shadows, named })
    }

    /// Versions of plugins that a tenant's streams name by their digests: those that run, those of the file, and those that
    /// are defined over HTTP and may not run just now.
    fn named_by_streams(&self, tenant: &TenantName) -> HashSet<Digest> {
        let live = self.inner.streams.of(tenant.as_str());
        let filed = self.inner.filed.settings();
        let filed = filed.streams.iter().filter(|stream| stream.tenant == tenant.as_str());
        let transforms = live.iter().map(|live| &live.settings).chain(filed).flat_map(|of| &of.transforms);
        let named = transforms.filter_map(|transform| transform.plugin.digest.clone());
        let definitions = self.inner.control.definitions();
        let defined = definitions.all().into_iter().filter(|(of, _)| of == tenant);
        let defined = defined.filter_map(|(of, name)| definitions.get(&of, &name));
        let defined = defined.flat_map(|defined| digests_named(&defined.definition));
        named.chain(defined).filter_map(|digest| digest.parse().ok()).collect()
    }
}

/// What a definition's transforms have behind the `@` of `name@sha256:…`.
fn digests_named(definition: &Value) -> Vec<String> {
    let transforms = definition["transforms"].as_array().into_iter().flatten();
    let digest = |transform: &Value| Some(transform["plugin"].as_str()?.split_once('@')?.1.to_owned());
    transforms.filter_map(digest).collect()
}

fn describe(stream: &StreamStats, now: i64) -> Value {
    let outputs: Vec<Value> = stream
        .outputs
        .iter()
        .map(|output| {
            json!({
                "name": output.name,
                "emitted": output.emitted.get(),
                "delivered": output.delivered.get(),
                "delivery_failed": output.delivery_failed.get(),
                "pending": output.pending.get(),
                "objects": output.objects.get(),
                "bytes": output.bytes.get(),
                "retries": output.retries.get(),
                "stopped": output.stopped.load(Ordering::Relaxed),
                "last_error": output.last_error(),
                "columns": output.columns.get(),
            })
        })
        .collect();
    let letters = &stream.letters_output;
    let letters_output = letters.configured().then(|| {
        json!({
            "delivered": letters.delivered.get(),
            "objects": letters.objects.get(),
            "retries": letters.retries.get(),
            "undelivered_seconds": letters.undelivered_age_s(now),
            "last_error": letters.last_error(),
        })
    });
    let event_time = stream.event_time.is_tracked().then(|| {
        let [kept, dropped, routed] = stream.event_time.late().map(|(_, count)| count);
        json!({
            "watermark_ns": stream.event_time.watermark(),
            "lag_seconds": stream.event_time.lag_s(now),
            "late": { "kept": kept, "dropped": dropped, "routed": routed },
            "unreadable": stream.event_time.unreadable.get(),
            "sources": stream.event_time.sources(),
        })
    });
    let sources: Vec<Value> = stream
        .sources()
        .map(|source| {
            json!({
                "name": source.name,
                "type": source.kind,
                "records": source.records.get(),
                "bytes": source.bytes.get(),
            })
        })
        .collect();
    json!({
        "name": stream.name,
        "sources": sources,
        "records_in": stream.records_in.get(),
        "bytes_in": stream.bytes_in.get(),
        "records_duplicate": stream.records_duplicate.get(),
        "processed": stream.processed.get(),
        "passed": stream.passed.get(),
        "dropped": stream.dropped.get(),
        "failed": stream.failed.get(),
        "absorbed": stream.absorbed.get(),
        "emitted": stream.emitted.get(),
        "dead_letters": stream.dead_letters.get(),
        "dead_letters_kept": stream.dead_letters.kept.get(),
        "dead_letter_bytes": stream.dead_letter_bytes.get(),
        "dead_letters_by_stage": {
            "transform": stream.dead_letters.transform.get(),
            "encode": stream.dead_letters.encode.get(),
            "delivery": stream.dead_letters.delivery.get(),
        },
        "dead_letters_output": letters_output,
        "event_time": event_time,
        "buffered_bytes": stream.buffered_bytes.get(),
        "retained_bytes": stream.retained_bytes.get(),
        "retained_seconds": stream.retained_age_s(now),
        "open_batches": stream.open_batches.get(),
        "freshness_seconds": stream.freshness_s(now),
        "batch_age_seconds": stream.batch_age_s(now),
        "reloads": stream.reloads.get(),
        "decisions": stream.decisions.get(),
        "decisions_late": stream.decisions_late.get(),
        "reloads_refused": stream.reloads_refused.get(),
        "demotions": stream.demotions.get(),
        "paused": stream.paused(),
        "transforms": stream.with_transforms(|transforms| serde_json::to_value(transforms).unwrap_or_default()),
        "outputs": outputs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_a_definition_are_those_behind_the_at() {
        let definition = json!({"transforms": [
            {"plugin": "follows"}, {"plugin": "mine@sha256:12"}, {"plugin": 7}, {}, {"plugin": "b@sha256:34"},
        ]});
        assert_eq!(digests_named(&definition), ["sha256:12", "sha256:34"]);
        assert!(digests_named(&json!({"source": {}})).is_empty());
    }
}
