//! The text that Prometheus reads.
//!
//! Counters belong to the stages; they are copied here when somebody asks, in one pass, so that nothing is counted
//! twice and nothing stays behind of what is gone. It refuses labels without bound: label values are names from the
//! configuration, and what a plugin says of itself is cut.

mod firehose;
mod names;
mod process;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus::TextEncoder;
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};
use wasmill_catalog::{CatalogStats, PluginState, VersionState};
use wasmill_config::DEFAULT_TENANT;
use wasmill_transform::ProcessStats;

pub use names::{Kind, Metric};

use crate::pipeline::stats::{OutputStats, SourceCounters, StreamStats, TableStats, TransformStats};
use crate::pipeline::{Difference, ShadowReport, TenantQuota};

/// Longest label value; plugins choose their versions.
const LABEL_BYTES_MAX: usize = 128;
/// Most plugin versions that are shown; earlier ones may be kept in great numbers.
const PLUGINS_MAX: usize = 1_000;

/// Where the values come from.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    pub streams: &'a [Arc<StreamStats>],
    pub journal: &'a wasmill_buffer::Stats,
    pub catalogs: &'a [TenantPlugins],
    /// With their tenants.
    pub shadows: &'a [(String, ShadowReport)],
    /// Of every tenant.
    pub quotas: &'a [Arc<TenantQuota>],
    pub destination_syncs: u64,
    pub processes: ProcessStats,
    /// Nanoseconds since the epoch, for ages.
    pub now_ns: i64,
}

/// The plugins of a tenant.
#[derive(Clone, Debug, Default)]
pub struct TenantPlugins {
    pub tenant: String,
    pub plugins: Vec<PluginState>,
    pub catalog: CatalogStats,
}

/// All metrics in Prometheus's text format, version 0.0.4.
pub fn render(counted: &Counted<'_>) -> String {
    let mut families = Families::new();
    families.set(Metric::BuildInfo, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    for stream in counted.streams {
        families.stream(stream, counted.now_ns);
        firehose::tell(&mut families, stream, counted.now_ns);
    }
    counted.catalogs.iter().for_each(|catalog| families.plugins(catalog));
    counted.shadows.iter().for_each(|(tenant, shadow)| families.shadow(tenant, shadow));
    counted.quotas.iter().for_each(|quota| families.quota(quota));
    families.journal(counted.journal);
    families.set(Metric::DestinationSyncs, &[], counted.destination_syncs);
    families.set(Metric::PluginProcesses, &[], counted.processes.started);
    families.set(Metric::PluginProcessesLost, &[], counted.processes.lost);
    families.process();
    families.text()
}

type Labels<'a> = [(&'static str, &'a str)];

/// A family per metric, in the order of [`Metric::ALL`].
struct Families(Vec<MetricFamily>);

impl Families {
    fn new() -> Families {
        let family = |metric: &Metric| {
            let mut family = MetricFamily::default();
            family.set_name(metric.name().to_owned());
            family.set_help(metric.help().to_owned());
            family.set_field_type(match metric.kind() {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
            });
            family
        };
        Families(Metric::ALL.iter().map(family).collect())
    }

    fn set(&mut self, metric: Metric, labels: &Labels<'_>, value: u64) {
        // Past 2^53 the last digits are lost; the format has no other numbers.
        self.set_float(metric, labels, value as f64);
    }

    fn set_float(&mut self, metric: Metric, labels: &Labels<'_>, value: f64) {
        let Some(family) = self.0.get_mut(metric as usize) else { return };
        let told = labels.iter().filter(|label| **label != ("tenant", DEFAULT_TENANT));
        let labels = told.map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value[..value.floor_char_boundary(LABEL_BYTES_MAX)].to_owned());
            pair
        });
        let mut sample = proto::Metric::from_label(labels.collect());
        match metric.kind() {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
        }
        family.mut_metric().push(sample);
    }

    fn stream(&mut self, stream: &StreamStats, now_ns: i64) {
        use Metric::*;
        let of @ [tenant, name] = [("tenant", stream.tenant.as_str()), ("stream", stream.name.as_str())];
        let labels = &of;
        for (metric, value) in [
            (RecordsIn, stream.records_in.get()),
            (BytesIn, stream.bytes_in.get()),
            (RecordsDuplicate, stream.records_duplicate.get()),
            (RecordsProcessed, stream.processed.get()),
            (RecordsPassed, stream.passed.get()),
            (RecordsDropped, stream.dropped.get()),
            (RecordsFailed, stream.failed.get()),
            (RecordsAbsorbed, stream.absorbed.get()),
            (RecordsEmitted, stream.emitted.get()),
            (DeadLettersReplayed, stream.dead_letters.replayed.get()),
            (DeadLettersPurged, stream.dead_letters.purged.get()),
            (DeadLettersExpired, stream.dead_letters.expired.get()),
            (DeadLettersKept, stream.dead_letters.kept.get()),
            (DeadLetterBytes, stream.dead_letter_bytes.get()),
            (Overflowed, stream.overflowed.get()),
            (LostToCorruption, stream.records_lost_to_corruption.get()),
            (Slices, stream.slices.get()),
            (Commits, stream.commits.get()),
            (CommitRetries, stream.commit_retries.get()),
            (ChunksBisected, stream.chunks_bisected.get()),
            (StreamReloads, stream.reloads.get()),
            (StreamDecisions, stream.decisions.get()),
            (StreamDecisionsLate, stream.decisions_late.get()),
            (StreamReloadsRefused, stream.reloads_refused.get()),
            (StreamDemotions, stream.demotions.get()),
            (Paused, u64::from(stream.paused().is_some())),
            (BufferedBytes, stream.buffered_bytes.get()),
            (RetainedBytes, stream.retained_bytes.get()),
            (OpenBatches, stream.open_batches.get()),
        ] {
            self.set(metric, labels, value);
        }
        let event_time = &stream.event_time;
        if event_time.is_tracked() {
            for (fate, count) in event_time.late() {
                self.set(RecordsLate, &[tenant, name, ("fate", fate)], count);
            }
            self.set(TimesUnreadable, labels, event_time.unreadable.get());
            if let Some(watermark) = event_time.watermark() {
                self.set_float(Watermark, labels, watermark as f64 / 1e9);
                self.set_float(WatermarkLag, labels, event_time.lag_s(now_ns));
            }
            for source in event_time.sources() {
                if let Some(watermark) = source.watermark_ns {
                    let labels = [tenant, name, ("source", source.name.as_str())];
                    self.set_float(SourceWatermark, &labels, watermark as f64 / 1e9);
                }
            }
        }
        let letters = &stream.dead_letters;
        for (stage, counter) in
            [("transform", &letters.transform), ("encode", &letters.encode), ("delivery", &letters.delivery)]
        {
            self.set(DeadLetters, &[tenant, name, ("stage", stage)], counter.get());
        }
        let letters = &stream.letters_output;
        if letters.configured() {
            self.set(LettersDelivered, labels, letters.delivered.get());
            self.set(LettersObjects, labels, letters.objects.get());
            self.set(LettersRetries, labels, letters.retries.get());
            self.set_float(LettersUndelivered, labels, letters.undelivered_age_s(now_ns));
        }
        self.set_float(BatchAge, labels, stream.batch_age_s(now_ns));
        self.set_float(RetainedAge, labels, stream.retained_age_s(now_ns));
        self.set_float(Freshness, labels, stream.freshness_s(now_ns));
        for source in stream.sources() {
            self.source(of, source);
        }
        for output in &stream.outputs {
            self.output(of, output);
        }
        // Copied first: workers that report must not wait for text.
        for transform in stream.with_transforms(|transforms| transforms.clone()) {
            self.transform(of, &transform);
        }
        for table in stream.kept_whole() {
            self.table(of, &table);
        }
    }

    fn source(&mut self, [tenant, stream]: [(&'static str, &str); 2], source: &SourceCounters) {
        use Metric::*;
        let mut labels = vec![tenant, stream];
        if let Some(name) = &source.name {
            labels.push(("source", name.as_str()));
            self.set(SourceRecords, &labels, source.records.get());
            self.set(SourceBytes, &labels, source.bytes.get());
        }
        if let Some(own) = source.own() {
            self.set(SourceTooLong, &labels, own.too_long());
            self.set(SourceRetries, &labels, own.retries());
            self.set(SourceOpen, &labels, own.open());
            self.set(SourceRefused, &labels, own.refused());
            self.set(SourceThrottled, &labels, own.throttled());
            self.set(SourceFailed, &labels, own.failed());
            self.set_float(SourceBehind, &labels, own.behind_ms() as f64 / 1e3);
        }
    }

    fn table(&mut self, [tenant, stream]: [(&'static str, &str); 2], table: &TableStats) {
        let labels =
            &[tenant, stream, ("transform", table.transform.as_str()), ("table", table.table.as_str())];
        self.set(Metric::StateEntries, labels, table.entries);
        self.set(Metric::StateBytes, labels, table.bytes);
    }

    fn output(&mut self, [tenant, stream]: [(&'static str, &str); 2], output: &OutputStats) {
        use Metric::*;
        let labels = &[tenant, stream, ("output", output.name.as_str())];
        for (metric, value) in [
            (OutputEmitted, output.emitted.get()),
            (OutputDelivered, output.delivered.get()),
            (OutputFailed, output.delivery_failed.get()),
            (OutputFallenBack, output.fallen_back.get()),
            (OutputPending, output.pending.get()),
            (OutputUndeliveredBytes, output.undelivered_bytes.get()),
            (OutputUndeliveredBatches, output.undelivered_batches.get()),
            (OutputObjects, output.objects.get()),
            (OutputRawBytes, output.bytes_raw.get()),
            (OutputBytes, output.bytes.get()),
            (OutputRetries, output.retries.get()),
            (OutputStopped, u64::from(output.stopped.load(Ordering::Relaxed))),
        ] {
            self.set(metric, labels, value);
        }
    }

    fn transform(&mut self, [tenant, stream]: [(&'static str, &str); 2], transform: &TransformStats) {
        use Metric::*;
        let TransformStats { name, plugin, digest, version, .. } = transform;
        let labels = &[tenant, stream, ("transform", name.as_str()), ("plugin", plugin.as_str())];
        self.set(TransformCalls, labels, transform.calls);
        self.set_float(TransformCpu, labels, transform.cpu_ns as f64 / 1e9);
        self.set(TransformMemory, labels, transform.memory_bytes_peak);
        self.set(TransformTraps, labels, transform.traps);
        self.set(TransformInstances, labels, transform.instances);
        self.set(TransformDeadLetters, labels, transform.dead_letters);
        let http = transform.http;
        let records = [("in", transform.records_in), ("out", transform.records_out)];
        let bytes = [("in", transform.bytes_in), ("out", transform.bytes_out)];
        let [_, _, transform, plugin] = *labels;
        for (metric, counts) in [(TransformRecords, records), (TransformBytes, bytes)] {
            for (direction, count) in counts {
                self.set(metric, &[tenant, stream, transform, plugin, ("direction", direction)], count);
            }
        }
        let results = [("answered", http.answered), ("failed", http.failed), ("refused", http.refused)];
        if results.iter().any(|(_, count)| *count > 0) {
            for (result, count) in results {
                self.set(HttpRequests, &[tenant, stream, transform, plugin, ("result", result)], count);
            }
            for (direction, bytes) in [("out", http.bytes_out), ("in", http.bytes_in)] {
                self.set(HttpBytes, &[tenant, stream, transform, plugin, ("direction", direction)], bytes);
            }
            self.set_float(HttpWaited, labels, http.waited.as_secs_f64());
        }
        self.set(
            TransformInfo,
            &[tenant, stream, transform, plugin, ("version", version), ("digest", digest)],
            1,
        );
    }

    fn plugins(&mut self, TenantPlugins { tenant, plugins, catalog }: &TenantPlugins) {
        use Metric::*;
        let tenant = ("tenant", tenant.as_str());
        for plugin in plugins.iter().take(PLUGINS_MAX) {
            let state = match plugin.state {
                VersionState::Current => "current",
                VersionState::Removed => "removed",
                VersionState::Kept => "kept",
                VersionState::Refused { .. } => "refused",
            };
            let version = plugin.version.as_deref().unwrap_or_default();
            // A refused file may have no digest and no name of its own; its path tells it from others.
            let digest = plugin.digest.map(|digest| digest.to_string()).unwrap_or_default();
            let file = plugin.file.to_string_lossy();
            let labels = &[
                tenant,
                ("plugin", plugin.name.as_str()),
                ("version", version),
                ("digest", &digest),
                ("file", &file),
                ("state", state),
            ];
            self.set(PluginInfo, labels, 1);
            if plugin.pinned {
                self.set(PluginPinned, &[tenant, ("plugin", plugin.name.as_str()), ("digest", &digest)], 1);
            }
        }
        self.set(PluginReloads, &[tenant], catalog.reloads);
        self.set(PluginRefusals, &[tenant], catalog.refusals);
        self.set(PluginCompiles, &[tenant], catalog.compiles);
        self.set(PluginCacheHits, &[tenant], catalog.cache_hits);
        self.set(PluginsCurrent, &[tenant], catalog.current);
        self.set(PluginsRefused, &[tenant], catalog.refused);
    }

    fn shadow(&mut self, tenant: &str, shadow: &ShadowReport) {
        use Metric::*;
        let tenant = ("tenant", tenant);
        let [stream, plugin] = [("stream", shadow.stream.as_str()), ("plugin", shadow.plugin.as_str())];
        let of = |kind| shadow.differences.get(&kind).copied().unwrap_or(0);
        for (result, records) in [
            ("same", shadow.same),
            ("kept", of(Difference::Kept)),
            ("dropped", of(Difference::Dropped)),
            ("changed", of(Difference::Changed)),
            ("elsewhere", of(Difference::Elsewhere)),
            ("failed", of(Difference::Failed)),
            ("mended", of(Difference::Mended)),
        ] {
            self.set(ShadowRecords, &[tenant, stream, plugin, ("result", result)], records);
        }
        let slices = shadow.slices;
        for (result, slices) in
            [("compared", slices.compared), ("skipped", slices.skipped), ("unfinished", slices.unfinished)]
        {
            self.set(ShadowSlices, &[tenant, stream, plugin, ("result", result)], slices);
        }
        self.set(ShadowStopped, &[tenant, stream, plugin], u64::from(shadow.stopped.is_some()));
    }

    fn quota(&mut self, tenant: &TenantQuota) {
        let of = &[("tenant", tenant.tenant())];
        let (instances, bytes) = tenant.warm();
        self.set_float(Metric::TenantCpu, of, tenant.cpu_used() as f64 / 1e9);
        self.set_float(Metric::TenantCompile, of, tenant.compile_used() as f64 / 1e9);
        self.set(Metric::TenantWarmInstances, of, instances);
        self.set(Metric::TenantWarmBytes, of, bytes);
        for (quota, refusals) in tenant.refusals().filter(|(_, refusals)| *refusals > 0) {
            let labels = &[("tenant", tenant.tenant()), ("quota", quota.as_str())];
            self.set(Metric::QuotaRefusals, labels, refusals);
        }
    }

    fn journal(&mut self, journal: &wasmill_buffer::Stats) {
        use Metric::*;
        for (metric, value) in [
            (JournalSyncs, journal.syncs),
            (JournalFailedSyncs, journal.failed_syncs),
            (JournalFailedWrites, journal.failed_writes),
            (JournalCorruptions, journal.corruptions),
            (JournalBytesWritten, journal.bytes_written),
            (JournalGroups, journal.groups),
            (JournalFrames, journal.frames),
            (JournalRecords, journal.records),
            (JournalFiles, journal.journal_files),
            (JournalBytes, journal.journal_bytes),
            (JournalSegmentBytes, journal.segment_bytes),
            (JournalBuffered, journal.buffered_bytes),
            (JournalRetained, journal.retained_bytes),
            (JournalCached, journal.cached_bytes),
        ] {
            self.set(metric, &[], value);
        }
    }

    fn process(&mut self) {
        self.set_float(Metric::ProcessCpu, &[], process::cpu_seconds());
        // Only Linux tells the rest.
        let Some(process) = process::read() else { return };
        self.set(Metric::ProcessMemory, &[], process.resident_bytes);
        self.set(Metric::ProcessFiles, &[], process.open_files);
        self.set(Metric::ProcessThreads, &[], process.threads);
        self.set_float(Metric::ProcessStart, &[], process.started_s);
    }

    fn text(self) -> String {
        let families: Vec<_> = self.0.into_iter().filter(|family| !family.get_metric().is_empty()).collect();
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot write the metrics");
        }
        text
    }
}
