//! A delivery stream in the words of Amazon Data Firehose: the same counters again, under the names that its users know.

use std::sync::OnceLock;

use crate::pipeline::firehose_stats::{Receiver, Sent};
use crate::pipeline::stats::{OutputStats, SourceCounters, StreamStats};

use super::{Families, Metric};

/// Of a stream that has to do with Firehose; all others are told once.
pub(super) fn tell(families: &mut Families, stream: &StreamStats, now_ns: i64) {
    use Metric::*;
    let firehose = &stream.firehose;
    if !firehose.is_told() {
        return;
    }
    let labels = &[("tenant", stream.tenant.as_str()), ("stream", stream.name.as_str())];
    let (record, batch) = (&firehose.record, &firehose.batch);
    for (metric, value) in [
        (FirehoseIncomingRecords, stream.records_in.get()),
        (FirehoseIncomingBytes, stream.bytes_in.get()),
        (FirehoseIncomingPutRequests, record.requests.get() + batch.requests.get()),
        (FirehosePutRecordRequests, record.requests.get()),
        (FirehosePutRecordBytes, record.bytes.get()),
        (FirehosePutRecordBatchRequests, batch.requests.get()),
        (FirehosePutRecordBatchRecords, batch.records.get()),
        (FirehosePutRecordBatchBytes, batch.bytes.get()),
        (FirehoseThrottledRecords, firehose.throttled.get()),
        (FirehoseSucceedProcessing, stream.passed.get() + stream.dropped.get() + stream.absorbed.get()),
        (FirehoseFailedConversion, stream.dead_letters.encode.get()),
        (FirehosePartitionCount, stream.open_batches.get()),
    ] {
        families.set(metric, labels, value);
    }
    for (metric, latency) in [(FirehosePutRecordLatency, record), (FirehosePutRecordBatchLatency, batch)] {
        families.set_float(metric, labels, latency.latency_us.get() as f64 / 1e6);
    }
    let kinesis: Vec<&SourceCounters> = stream.sources().filter(|source| source.kind == "kinesis").collect();
    if !kinesis.is_empty() {
        let behind = kinesis.iter().filter_map(|source| source.own()).map(|own| own.behind_ms()).max();
        families.set(FirehoseKinesisRecords, labels, kinesis.iter().map(|source| source.records.get()).sum());
        families.set(FirehoseKinesisBytes, labels, kinesis.iter().map(|source| source.bytes.get()).sum());
        families.set(FirehoseKinesisBehind, labels, behind.unwrap_or(0));
    }
    let at = |places: &OnceLock<Vec<usize>>| -> Vec<&OutputStats> {
        let places = places.get().map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|place| stream.outputs.get(*place)).collect()
    };
    let tables = at(&firehose.tables);
    if !tables.is_empty() {
        tell_tables(families, stream, &tables, now_ns);
    }
    let outputs = at(&firehose.outputs);
    if !outputs.is_empty() {
        let sum = |of: fn(&OutputStats) -> u64| outputs.iter().map(|o| of(o)).sum();
        let (objects, retries) = (sum(|output| output.objects.get()), sum(|output| output.retries.get()));
        families.set(FirehoseDeliveryRecords, labels, sum(|output| output.delivered.get()));
        families.set(FirehoseDeliveryBytes, labels, sum(|output| output.bytes_raw.get()));
        families.set(FirehoseDeliveryObjects, labels, objects);
        families.set_float(FirehoseDeliverySuccess, labels, success(objects, retries));
        families.set_float(FirehoseDataFreshness, labels, stream.freshness_s(now_ns));
    }
    for receiver in [Receiver::HttpEndpoint, Receiver::Splunk, Receiver::OpenSearch, Receiver::Redshift] {
        tell_receiver(families, stream, receiver, now_ns);
    }
    let letters = Some(&stream.letters_output).filter(|letters| letters.configured());
    let source = firehose.backup.get().and_then(|place| stream.outputs.get(*place));
    if letters.is_some() || source.is_some() {
        let of_letters = letters.map_or([0; 3], |l| [l.delivered.get(), l.objects.get(), l.retries.get()]);
        let of_source = source.map_or([0; 3], |s| [s.delivered.get(), s.objects.get(), s.retries.get()]);
        let [records, objects, retries] = [0, 1, 2].map(|n| of_letters[n] + of_source[n]);
        families.set(FirehoseBackupRecords, labels, records);
        families.set(FirehoseBackupObjects, labels, objects);
        families.set_float(FirehoseBackupSuccess, labels, success(objects, retries));
        let age = letters.map_or(0.0, |letters| letters.undelivered_age_s(now_ns));
        let source_age = source.map_or(0.0, |_| stream.freshness_s(now_ns));
        families.set_float(FirehoseBackupFreshness, labels, age.max(source_age));
    }
}

/// All tables of the stream together.
fn tell_tables(families: &mut Families, stream: &StreamStats, tables: &[&OutputStats], now_ns: i64) {
    use Metric::*;
    let labels = &[("tenant", stream.tenant.as_str()), ("stream", stream.name.as_str())];
    let sum = |of: fn(&OutputStats) -> u64| tables.iter().map(|table| of(table)).sum::<u64>();
    families.set(FirehoseIcebergIncoming, labels, sum(|table| table.emitted.get()));
    families.set(FirehoseIcebergSuccessful, labels, sum(|table| table.delivered.get()));
    families.set(FirehoseIcebergFailed, labels, sum(|table| table.delivery_failed.get()));
    families.set(FirehoseIcebergBytes, labels, sum(|table| table.bytes_raw.get()));
    let (commits, retries) = (sum(|table| table.objects.get()), sum(|table| table.retries.get()));
    families.set_float(FirehoseIcebergSuccess, labels, success(commits, retries));
    families.set_float(FirehoseIcebergFreshness, labels, stream.freshness_s(now_ns));
}

/// Destinations of one kind, together.
fn tell_receiver(families: &mut Families, stream: &StreamStats, receiver: Receiver, now_ns: i64) {
    use Metric::*;
    let labels = &[("tenant", stream.tenant.as_str()), ("stream", stream.name.as_str())];
    let all = stream.firehose.receivers.get().map(Vec::as_slice).unwrap_or_default();
    let sent: Vec<&Sent> =
        all.iter().filter(|(other, _)| *other == receiver).map(|(_, sent)| sent.as_ref()).collect();
    if sent.is_empty() {
        return;
    }
    let sum = |of: fn(&Sent) -> u64| sent.iter().map(|sent| of(sent)).sum::<u64>();
    let requests = (sum(|sent| sent.requests.taken()), sum(|sent| sent.requests.tried()));
    let records = (sum(|sent| sent.records.taken()), sum(|sent| sent.records.tried()));
    let ([of_records, of_bytes, of_success, of_freshness], (done, tried)) = match receiver {
        Receiver::HttpEndpoint => {
            families.set(FirehoseHttpEndpointProcessedRecords, labels, records.1);
            families.set(FirehoseHttpEndpointProcessedBytes, labels, sum(|sent| sent.bytes.tried()));
            let metrics = [
                FirehoseHttpEndpointRecords,
                FirehoseHttpEndpointBytes,
                FirehoseHttpEndpointSuccess,
                FirehoseHttpEndpointFreshness,
            ];
            (metrics, requests)
        }
        Receiver::Splunk => {
            let waited: f64 = sent.iter().map(|sent| sent.acknowledged_after().as_secs_f64()).sum();
            families.set(FirehoseSplunkRequests, labels, requests.0);
            families.set_float(FirehoseSplunkAckLatency, labels, waited);
            let metrics =
                [FirehoseSplunkRecords, FirehoseSplunkBytes, FirehoseSplunkSuccess, FirehoseSplunkFreshness];
            (metrics, requests)
        }
        Receiver::OpenSearch => {
            let metrics = [
                FirehoseOpenSearchRecords,
                FirehoseOpenSearchBytes,
                FirehoseOpenSearchSuccess,
                FirehoseOpenSearchFreshness,
            ];
            (metrics, records)
        }
        Receiver::Redshift => {
            let metrics = [
                FirehoseRedshiftRecords,
                FirehoseRedshiftBytes,
                FirehoseRedshiftSuccess,
                FirehoseRedshiftFreshness,
            ];
            (metrics, requests)
        }
    };
    families.set(of_records, labels, records.0);
    families.set(of_bytes, labels, sum(|sent| sent.bytes.taken()));
    families.set_float(of_success, labels, success(done, tried.saturating_sub(done)));
    families.set_float(of_freshness, labels, stream.freshness_s(now_ns));
}

fn success(done: u64, failed: u64) -> f64 {
    if done + failed == 0 { 1.0 } else { done as f64 / (done + failed) as f64 }
}
