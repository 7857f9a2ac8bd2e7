//! The text, read back by a parser that takes nothing but Prometheus's format 0.0.4.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use wasmill_buffer::StreamKey;

use super::*;
use crate::pipeline::firehose_stats::{Receiver, Sent};
use crate::pipeline::stats::Pause;

type Sample = (BTreeMap<String, String>, f64);

/// What a scraper sees: kind and samples by name.
#[derive(Debug, Default)]
struct Scraped(BTreeMap<String, (String, Vec<Sample>)>);

impl Scraped {
    fn value(&self, metric: Metric, labels: &[(&str, &str)]) -> f64 {
        let wanted: BTreeMap<_, _> = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let (_, samples) = self.0.get(metric.name()).unwrap_or_else(|| panic!("no {}", metric.name()));
        let found = samples.iter().find(|(labels, _)| *labels == wanted);
        found.unwrap_or_else(|| panic!("no {wanted:?} among {samples:?}")).1
    }
}

fn is_name(name: &str, also: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || also.contains(c))
}

/// `{a="b",c="d"}` in front of `text`; the rest behind it.
fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut found = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else { return (found, text) };
    loop {
        let (name, value) = rest.split_once("=\"").unwrap();
        assert!(is_name(name, ""), "label {name:?}");
        let mut read = String::new();
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at + 1,
                (_, '\\') => match chars.next().unwrap().1 {
                    'n' => read.push('\n'),
                    c @ ('"' | '\\') => read.push(c),
                    other => panic!("escape {other:?}"),
                },
                (_, '\n') => panic!("line feed in a label"),
                (_, c) => read.push(c),
            }
        };
        assert!(found.insert(name.to_owned(), read).is_none(), "label {name} twice");
        rest = &value[end..];
        match rest.as_bytes()[0] {
            b',' => rest = &rest[1..],
            b'}' => return (found, &rest[1..]),
            other => panic!("{:?} after a label", char::from(other)),
        }
    }
}

fn scrape(text: &str) -> Scraped {
    assert!(text.ends_with('\n'));
    let mut scraped = Scraped::default();
    let mut current = String::new();
    let mut helped = String::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(!text.is_empty());
            name.clone_into(&mut helped);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(is_name(name, ":"), "{name}");
            assert_eq!(name, helped, "HELP and TYPE go together");
            assert!(matches!(kind, "counter" | "gauge"), "{kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            name.clone_into(&mut current);
            let first = scraped.0.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
            assert!(first.is_none(), "{name} stands twice");
        } else {
            let end = line.find(['{', ' ']).unwrap();
            assert_eq!(&line[..end], current, "a sample stands below its TYPE");
            let (labels, rest) = labels(&line[end..]);
            let value = rest.strip_prefix(' ').unwrap().parse::<f64>().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{line}");
            assert!(seen.insert((current.clone(), labels.clone())), "{line} stands twice");
            scraped.0.get_mut(&current).unwrap().1.push((labels, value));
        }
    }
    scraped
}

fn plugin(name: &str, state: VersionState) -> PluginState {
    PluginState {
        name: name.to_owned(),
        file: PathBuf::from(format!("plugins/{name}.wasm")),
        version: Some("1.0.0".to_owned()),
        bytes: 1,
        state,
        ..PluginState::default()
    }
}

fn rendered(streams: &[Arc<StreamStats>], plugins: &[PluginState]) -> Scraped {
    let journal = wasmill_buffer::Stats { syncs: 7, buffered_bytes: 4096, ..Default::default() };
    let catalog = CatalogStats { reloads: 2, ..Default::default() };
    let quota = TenantQuota::without_limits();
    quota.body_gives_way();
    scrape(&render(&Counted {
        streams,
        journal: &journal,
        catalogs: &[TenantPlugins { tenant: "default".to_owned(), plugins: plugins.to_vec(), catalog }],
        shadows: &[],
        quotas: &[quota],
        destination_syncs: 3,
        processes: ProcessStats { started: 5, lost: 2 },
        now_ns: 5_000_000_000,
    }))
}

fn stream() -> StreamStats {
    let stream = StreamStats::new(
        &StreamKey { tenant: "default".to_owned(), name: "access".to_owned() },
        ["default".to_owned(), "errors".to_owned()],
    );
    stream.records_in.add(10);
    stream.dropped.add(3);
    stream.outputs[1].delivered.add(4);
    stream.oldest_undelivered.store(3_500_000_000, Ordering::Relaxed);
    stream.pause(Pause::Letters, "dead letters are full");
    stream.with_transforms(|transforms| {
        transforms.push(TransformStats {
            name: "parse-2".to_owned(),
            plugin: "parse".to_owned(),
            digest: "sha256:ab".to_owned(),
            version: "1.0 \"x\"\\\n".to_owned(),
            calls: 5,
            cpu_ns: 1_250_000_000,
            records_in: 9,
            bytes_out: 80,
            dead_letters: 2,
            ..TransformStats::default()
        });
    });
    stream
}

#[test]
fn metrics_show_what_was_counted() {
    let scraped = rendered(&[Arc::new(stream())], &[plugin("parse", VersionState::Current)]);
    let of_stream = &[("stream", "access")];
    assert_eq!(scraped.value(Metric::RecordsIn, of_stream), 10.0);
    assert_eq!(scraped.value(Metric::RecordsDropped, of_stream), 3.0);
    assert_eq!(scraped.value(Metric::Paused, of_stream), 1.0);
    assert_eq!(scraped.value(Metric::Freshness, of_stream), 1.5);
    assert_eq!(scraped.value(Metric::OutputDelivered, &[("stream", "access"), ("output", "errors")]), 4.0);
    let of_transform = &[("stream", "access"), ("transform", "parse-2"), ("plugin", "parse")];
    assert_eq!(scraped.value(Metric::TransformCpu, of_transform), 1.25);
    assert_eq!(scraped.value(Metric::TransformDeadLetters, of_transform), 2.0);
    let directed = |direction| {
        [("stream", "access"), ("transform", "parse-2"), ("plugin", "parse"), ("direction", direction)]
    };
    assert_eq!(scraped.value(Metric::TransformRecords, &directed("in")), 9.0);
    assert_eq!(scraped.value(Metric::TransformBytes, &directed("out")), 80.0);
    assert_eq!(scraped.value(Metric::JournalSyncs, &[]), 7.0);
    assert_eq!(scraped.value(Metric::PluginReloads, &[]), 2.0);
    assert_eq!(scraped.value(Metric::DestinationSyncs, &[]), 3.0);
    assert_eq!(scraped.value(Metric::QuotaRefusals, &[("tenant", ""), ("quota", "body_bytes")]), 1.0);
    assert_eq!(scraped.value(Metric::PluginProcesses, &[]), 5.0);
    assert_eq!(scraped.value(Metric::PluginProcessesLost, &[]), 2.0);
}

#[test]
fn delivery_stream_is_told_in_the_words_of_firehose_and_no_other_stream_is() {
    let scraped = rendered(&[Arc::new(stream())], &[]);
    assert!(!scraped.0.contains_key(Metric::FirehoseIncomingRecords.name()));
    let delivery = stream();
    delivery.firehose.outputs.set(vec![1]).unwrap();
    delivery.firehose.batch.stored(7, 70, std::time::Duration::from_millis(1500));
    delivery.firehose.record.stored(1, 10, std::time::Duration::ZERO);
    delivery.firehose.throttled.add(2);
    delivery.outputs[1].objects.add(3);
    delivery.outputs[1].retries.add(1);
    delivery.outputs[1].bytes_raw.add(40);
    delivery.bytes_in.add(100);
    delivery.passed.add(5);
    delivery.absorbed.add(1);
    delivery.dead_letters.encode.add(2);
    delivery.open_batches.set(6);
    // Not among those with Firehose's names.
    delivery.outputs[0].delivered.add(50);
    let scraped = rendered(&[Arc::new(delivery)], &[]);
    for (metric, value) in [
        (Metric::FirehoseIncomingRecords, 10.0),
        (Metric::FirehoseIncomingBytes, 100.0),
        (Metric::FirehoseIncomingPutRequests, 2.0),
        (Metric::FirehosePutRecordRequests, 1.0),
        (Metric::FirehosePutRecordBatchRequests, 1.0),
        (Metric::FirehosePutRecordBatchRecords, 7.0),
        (Metric::FirehosePutRecordBatchBytes, 70.0),
        (Metric::FirehosePutRecordBatchLatency, 1.5),
        (Metric::FirehosePutRecordBytes, 10.0),
        (Metric::FirehoseThrottledRecords, 2.0),
        (Metric::FirehoseSucceedProcessing, 9.0),
        (Metric::FirehoseFailedConversion, 2.0),
        (Metric::FirehosePartitionCount, 6.0),
        (Metric::FirehoseDeliveryRecords, 4.0),
        (Metric::FirehoseDeliveryBytes, 40.0),
        (Metric::FirehoseDeliveryObjects, 3.0),
        (Metric::FirehoseDeliverySuccess, 0.75),
        (Metric::FirehoseDataFreshness, 1.5),
    ] {
        assert_eq!(scraped.value(metric, &[("stream", "access")]), value, "{}", metric.name());
    }
    // There is no destination of other kinds.
    assert!(!scraped.0.contains_key(Metric::FirehoseHttpEndpointRecords.name()));
    // There is no output for what failed, and none for source records.
    assert!(!scraped.0.contains_key(Metric::FirehoseBackupRecords.name()));
    let backed_up = stream();
    backed_up.firehose.outputs.set(vec![1]).unwrap();
    backed_up.firehose.backup.set(0).unwrap();
    backed_up.outputs[0].delivered.add(50);
    backed_up.outputs[0].objects.add(1);
    backed_up.outputs[0].retries.add(1);
    let scraped = rendered(&[Arc::new(backed_up)], &[]);
    for (metric, value) in [
        (Metric::FirehoseBackupRecords, 50.0),
        (Metric::FirehoseBackupObjects, 1.0),
        (Metric::FirehoseBackupSuccess, 0.5),
        (Metric::FirehoseBackupFreshness, 1.5),
        (Metric::FirehoseDeliveryRecords, 4.0),
    ] {
        assert_eq!(scraped.value(metric, &[("stream", "access")]), value, "{}", metric.name());
    }
}

#[test]
fn what_is_read_of_kinesis_is_told_of_its_sources_alone() {
    let source = |kind, records: u64, bytes| {
        let mut source = SourceCounters::default();
        (source.name, source.kind) = (Some(format!("of-{records}")), kind);
        source.records.add(records);
        source.bytes.add(bytes);
        source.reads(Some(Arc::default()));
        Arc::new(source)
    };
    let delivery = stream();
    delivery.firehose.outputs.set(vec![1]).unwrap();
    let sources = vec![source("file", 100, 1_000), source("kinesis", 2, 20), source("kinesis", 3, 30)];
    delivery.sources.set(sources).unwrap();
    let scraped = rendered(&[Arc::new(delivery)], &[]);
    for (metric, value) in [
        (Metric::FirehoseKinesisRecords, 5.0),
        (Metric::FirehoseKinesisBytes, 50.0),
        (Metric::FirehoseKinesisBehind, 0.0),
    ] {
        assert_eq!(scraped.value(metric, &[("stream", "access")]), value, "{}", metric.name());
    }
    let files = stream();
    files.firehose.outputs.set(vec![1]).unwrap();
    files.sources.set(vec![source("file", 100, 1_000)]).unwrap();
    let scraped = rendered(&[Arc::new(files)], &[]);
    assert!(!scraped.0.contains_key(Metric::FirehoseKinesisRecords.name()));
}

#[test]
fn destinations_that_take_records_one_by_one_are_told_by_their_kind() {
    let delivery = stream();
    let sent = |tried: &[(u64, u64)], taken: &[(u64, u64)]| {
        let sent = Arc::new(Sent::default());
        tried.iter().for_each(|(records, bytes)| sent.tried(*records, *bytes));
        taken.iter().for_each(|(records, bytes)| sent.taken(*records, *bytes));
        sent
    };
    let splunk = sent(&[(5, 50)], &[(5, 50)]);
    splunk.acknowledged(std::time::Duration::from_millis(2500));
    let receivers = vec![
        (Receiver::HttpEndpoint, sent(&[(10, 100), (10, 100), (1, 7)], &[(10, 100)])),
        (Receiver::HttpEndpoint, sent(&[(2, 20)], &[(2, 20)])),
        (Receiver::Splunk, splunk),
        (Receiver::OpenSearch, sent(&[(4, 40)], &[(3, 30)])),
        (Receiver::Redshift, sent(&[(6, 60), (6, 60)], &[(6, 60)])),
    ];
    delivery.firehose.receivers.set(receivers).unwrap();
    let scraped = rendered(&[Arc::new(delivery)], &[]);
    for (metric, value) in [
        (Metric::FirehoseHttpEndpointRecords, 12.0),
        (Metric::FirehoseHttpEndpointBytes, 120.0),
        (Metric::FirehoseHttpEndpointProcessedRecords, 23.0),
        (Metric::FirehoseHttpEndpointProcessedBytes, 227.0),
        (Metric::FirehoseHttpEndpointSuccess, 0.5),
        (Metric::FirehoseHttpEndpointFreshness, 1.5),
        (Metric::FirehoseSplunkRecords, 5.0),
        (Metric::FirehoseSplunkBytes, 50.0),
        (Metric::FirehoseSplunkRequests, 1.0),
        (Metric::FirehoseSplunkAckLatency, 2.5),
        (Metric::FirehoseSplunkSuccess, 1.0),
        (Metric::FirehoseOpenSearchRecords, 3.0),
        (Metric::FirehoseOpenSearchBytes, 30.0),
        (Metric::FirehoseOpenSearchSuccess, 0.75),
        (Metric::FirehoseRedshiftRecords, 6.0),
        (Metric::FirehoseRedshiftBytes, 60.0),
        (Metric::FirehoseRedshiftSuccess, 0.5),
        (Metric::FirehoseRedshiftFreshness, 1.5),
    ] {
        assert_eq!(scraped.value(metric, &[("stream", "access")]), value, "{}", metric.name());
    }
    assert!(!scraped.0.contains_key(Metric::FirehoseDeliveryRecords.name()));
}

#[test]
fn tables_are_told_by_their_rows_and_no_other_output_is_among_them() {
    let delivery = stream();
    delivery.firehose.tables.set(vec![1]).unwrap();
    let table = &delivery.outputs[1];
    // Beside the four that were delivered.
    table.emitted.add(9);
    table.delivery_failed.add(2);
    table.bytes_raw.add(40);
    table.objects.add(1);
    table.retries.add(3);
    delivery.outputs[0].emitted.add(100);
    let scraped = rendered(&[Arc::new(delivery)], &[]);
    for (metric, value) in [
        (Metric::FirehoseIcebergIncoming, 9.0),
        (Metric::FirehoseIcebergSuccessful, 4.0),
        (Metric::FirehoseIcebergFailed, 2.0),
        (Metric::FirehoseIcebergBytes, 40.0),
        (Metric::FirehoseIcebergSuccess, 0.25),
        (Metric::FirehoseIcebergFreshness, 1.5),
    ] {
        assert_eq!(scraped.value(metric, &[("stream", "access")]), value, "{}", metric.name());
    }
    assert!(!scraped.0.contains_key(Metric::FirehoseDeliveryRecords.name()));
}

#[test]
fn label_with_quotes_and_line_feeds_comes_back_as_it_was() {
    let scraped = rendered(&[Arc::new(stream())], &[]);
    let (_, samples) = &scraped.0[Metric::TransformInfo.name()];
    assert_eq!(samples[0].0["version"], "1.0 \"x\"\\\n");
}

#[test]
fn label_that_a_plugin_made_long_is_cut_at_a_character() {
    let mut long = plugin("parse", VersionState::Refused { reason: "x".repeat(9_999) });
    long.version = Some("ä".repeat(1_000_000));
    let scraped = rendered(&[], &[long]);
    let (_, samples) = &scraped.0[Metric::PluginInfo.name()];
    assert_eq!(samples[0].0["version"], "ä".repeat(LABEL_BYTES_MAX / 2));
    assert_eq!(samples[0].0["state"], "refused");
}

#[test]
fn plugins_kept_in_great_numbers_are_bounded() {
    let many: Vec<_> = (0..2 * PLUGINS_MAX).map(|n| plugin(&format!("p{n}"), VersionState::Kept)).collect();
    let scraped = rendered(&[], &many);
    assert_eq!(scraped.0[Metric::PluginInfo.name()].1.len(), PLUGINS_MAX);
}

#[test]
fn metrics_without_streams_say_what_the_process_uses() {
    let scraped = rendered(&[], &[]);
    assert!(!scraped.0.contains_key(Metric::RecordsIn.name()));
    assert!(scraped.value(Metric::ProcessCpu, &[]) > 0.0);
    if cfg!(target_os = "linux") {
        assert!(scraped.value(Metric::ProcessMemory, &[]) > 1e6);
        assert!(scraped.value(Metric::ProcessFiles, &[]) >= 3.0);
        let now = crate::pipeline::stats::wall_clock_ns() as f64 / 1e9;
        let age = now - scraped.value(Metric::ProcessStart, &[]);
        assert!((-1.0..3600.0).contains(&age), "started {age} s ago");
    }
}

#[test]
fn metric_names_are_unique_and_of_one_form() {
    let names: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
    assert_eq!(names.len(), Metric::ALL.len());
    for metric in Metric::ALL {
        assert_eq!(metric.kind() == Kind::Counter, metric.name().ends_with("_total"), "{}", metric.name());
        let spaces = ["wasmill_", "process_", "firehose_"];
        assert!(spaces.iter().any(|space| metric.name().starts_with(space)), "{}", metric.name());
        assert!(metric.help().ends_with('.'), "{}", metric.help());
    }
}

/// `docs/metrics.md`, generated from the table; `BLESS=1` rewrites it.
#[test]
fn metrics_page_is_the_checked_in_one() {
    let mut page = String::from(
        "# Metrics\n\n`GET /metrics` answers in Prometheus's text format. This page is generated from the table in \
         `host/src/telemetry/metrics/names.rs`.\n\nLabels are names from the configuration (`tenant`, where it is not `default`, `stream`, `output`, \
         `transform`, `plugin`) or from the plugin directory, never values of records, and at most 128 bytes long. \
         Counters begin at 0 with the process, and those of a stream also when [its definition is replaced](control.md): it is opened anew. \
         What was stored before that and is processed behind it counts as processed, and not as accepted: \
         `wasmill_stream_records_processed_total` may pass `wasmill_stream_records_in_total`, after a kill above all. [Usage](quotas.md) goes on over both.\n\n| name | kind | meaning |\n|---|---|---|\n",
    );
    for metric in Metric::ALL {
        let kind = format!("{:?}", metric.kind()).to_lowercase();
        page.push_str(&format!("| `{}` | {kind} | {} |\n", metric.name(), metric.help()));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(expected == page, "{path} is stale; run again with BLESS=1");
}
