//! Every metric that there is: its name, its kind and what it says, in one table.
//!
//! Names are stable: a dashboard that reads one goes on reading it. Labels are names from the configuration or the
//! plugin directory, never values of records.

/// Whether a metric only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Since the start of the process.
    Counter,
    /// At present.
    Gauge,
}

macro_rules! table {
    ($($metric:ident $kind:ident $name:literal $help:literal)*) => {
        /// A metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric {
            $(#[doc = $help] $metric,)*
        }

        impl Metric {
            /// All of them, in the order in which they are written.
            pub const ALL: &[Metric] = &[$(Metric::$metric,)*];

            /// As Prometheus knows it.
            pub fn name(self) -> &'static str {
                match self { $(Metric::$metric => $name,)* }
            }

            /// What it counts.
            pub fn help(self) -> &'static str {
                match self { $(Metric::$metric => $help,)* }
            }

            pub fn kind(self) -> Kind {
                match self { $(Metric::$metric => Kind::$kind,)* }
            }
        }
    };
}

table! {
    BuildInfo Gauge "wasmill_build_info" "Always 1; the program's version is a label."

    // A stream: label `stream`.
    RecordsIn Counter "wasmill_stream_records_in_total" "Records that were accepted and are durable."
    BytesIn Counter "wasmill_stream_bytes_in_total" "Payload bytes that were accepted and are durable."
    RecordsDuplicate Counter "wasmill_stream_records_duplicate_total" "Records of requests that producers sent again; stored once, not counted as accepted again."
    RecordsProcessed Counter "wasmill_stream_records_processed_total" "Records with a durable verdict: passed + dropped + failed + absorbed."
    RecordsPassed Counter "wasmill_stream_records_passed_total" "Records that passed all transforms."
    RecordsDropped Counter "wasmill_stream_records_dropped_total" "Records that a plugin dropped."
    RecordsFailed Counter "wasmill_stream_records_failed_total" "Records that could not be transformed."
    RecordsAbsorbed Counter "wasmill_stream_records_absorbed_total" "Records that a plugin took into its state."
    RecordsLate Counter "wasmill_stream_records_late_total" "Records that were late by the stream's event time; the fate is a label: kept, dropped or routed."
    TimesUnreadable Counter "wasmill_stream_event_times_unreadable_total" "Records whose event time could not be read, whatever became of them."
    Watermark Gauge "wasmill_stream_watermark_seconds" "How far the stream's event time has come, in seconds since 1970, once that is known."
    WatermarkLag Gauge "wasmill_stream_watermark_lag_seconds" "How far it is behind the clock."
    RecordsEmitted Counter "wasmill_stream_records_emitted_total" "Records that left the transforms, for all outputs."
    DeadLetters Counter "wasmill_stream_dead_letters_total" "Dead letters that were written; the stage is a label: transform, encode or delivery."
    DeadLettersReplayed Counter "wasmill_stream_dead_letters_replayed_total" "Dead letters that a replay was done with."
    DeadLettersPurged Counter "wasmill_stream_dead_letters_purged_total" "Dead letters that were removed on request."
    DeadLettersExpired Counter "wasmill_stream_dead_letters_expired_total" "Dead letters that were removed because they were older than `dead_letters.max_age`."
    DeadLettersKept Gauge "wasmill_stream_dead_letters_kept" "Dead letters that are kept."
    DeadLetterBytes Gauge "wasmill_stream_dead_letter_bytes" "Bytes of dead letters that are kept, objects included."
    LettersDelivered Counter "wasmill_stream_dead_letters_delivered_total" "Dead letters that reached `dead_letters.output`."
    LettersObjects Counter "wasmill_stream_dead_letters_objects_total" "Objects or requests that took them there."
    LettersRetries Counter "wasmill_stream_dead_letters_retries_total" "Deliveries of dead letters that were tried again."
    LettersUndelivered Gauge "wasmill_stream_dead_letters_undelivered_seconds" "Time since the oldest dead letter was kept that has not reached `dead_letters.output`, 0 without one."
    Overflowed Gauge "wasmill_stream_overflowed_records" "Records that went to an overflow partition because too many partitions were open."
    LostToCorruption Counter "wasmill_stream_records_lost_to_corruption_total" "Acknowledged records that corrupt bytes on disk took."
    Slices Counter "wasmill_stream_slices_total" "Slices that were taken through the transforms."
    Commits Counter "wasmill_stream_commits_total" "Outcomes that were made durable."
    CommitRetries Counter "wasmill_stream_commit_retries_total" "Outcomes that could not be made durable and were tried again; the stream is paused meanwhile."
    ChunksBisected Counter "wasmill_stream_chunks_bisected_total" "Chunks that failed as a whole and were split to find the record to blame."
    StreamDecisions Counter "wasmill_stream_decisions_total" "Requests whose client waited for what becomes of its records."
    StreamDecisionsLate Counter "wasmill_stream_decisions_late_total" "Requests whose client had no answer in time, and got the fallback or 504."
    StreamReloads Counter "wasmill_stream_reloads_total" "Times that a new version of a plugin took over in the stream."
    StreamReloadsRefused Counter "wasmill_stream_reloads_refused_total" "Times that a new version of a plugin, a granted file or a model was refused, or bad or missing at the start, and the one before went on."
    StreamDemotions Counter "wasmill_stream_demotions_total" "Times that a fresh version of a plugin failed too many records of the stream, which went back to the one before."
    Paused Gauge "wasmill_stream_paused" "1 while the stream is paused."
    BufferedBytes Gauge "wasmill_stream_buffered_bytes" "Bytes of the stream that the buffer must keep."
    RetainedBytes Gauge "wasmill_stream_retained_bytes" "Bytes of delivered records that are kept for a replay."
    RetainedAge Gauge "wasmill_stream_retained_seconds" "Time since the oldest of these arrived, 0 without one."
    OpenBatches Gauge "wasmill_stream_open_batches" "Batches that are being gathered."
    BatchAge Gauge "wasmill_stream_batch_age_seconds" "Time since the oldest record of an open batch arrived, 0 without one."
    Freshness Gauge "wasmill_stream_freshness_seconds" "Time since the oldest record arrived that is not delivered, 0 without one."
    SourceRecords Counter "wasmill_source_records_total" "Records of one of several sources of a stream that have a receipt; its name is a label, of all these metrics."
    SourceBytes Counter "wasmill_source_bytes_total" "Bytes of these records."
    SourceWatermark Gauge "wasmill_source_watermark_seconds" "How far the event time of one of several sources has come, in seconds since 1970, once that is known."
    SourceTooLong Counter "wasmill_source_records_too_long_total" "Lines over the limit of a file, stdin or TCP source."
    SourceRetries Counter "wasmill_source_retries_total" "Appends that a source had to try again because the buffer was full or in trouble."
    SourceOpen Gauge "wasmill_source_open" "Files, connections or shards that a source has open."
    SourceRefused Counter "wasmill_source_connections_refused_total" "Connections that were refused because too many were open."
    SourceThrottled Counter "wasmill_source_requests_throttled_total" "Requests to Kinesis that it put off, because a shard was asked for too much."
    SourceFailed Counter "wasmill_source_requests_failed_total" "Requests to Kinesis that failed for another reason; they are sent again."
    SourceBehind Gauge "wasmill_source_behind_seconds" "How far the last answer of Kinesis was behind the newest record, of the shard that is most behind."

    // An output of a stream: labels `stream`, `output`.
    OutputEmitted Counter "wasmill_output_records_emitted_total" "Records for this output: delivered + failed + pending."
    OutputDelivered Counter "wasmill_output_records_delivered_total" "Records that were delivered."
    OutputFailed Counter "wasmill_output_records_failed_total" "Records that could not be delivered."
    OutputFallenBack Counter "wasmill_output_records_fallen_back_total" "Of the failed ones, those that the fallback output took."
    OutputPending Gauge "wasmill_output_records_pending" "Records that are not delivered yet."
    OutputUndeliveredBytes Gauge "wasmill_output_undelivered_bytes" "Encoded bytes that are ready and not delivered."
    OutputUndeliveredBatches Gauge "wasmill_output_undelivered_batches" "Batches that are ready and not delivered."
    OutputObjects Counter "wasmill_output_objects_total" "Objects or requests that were delivered."
    OutputRawBytes Counter "wasmill_output_raw_bytes_total" "Delivered bytes before compression."
    OutputBytes Counter "wasmill_output_bytes_total" "Delivered bytes."
    OutputRetries Counter "wasmill_output_retries_total" "Deliveries that were tried again."
    OutputStopped Gauge "wasmill_output_stopped" "1 when the output has stopped and needs a human: a foreign object has the name of one of ours, or a batch was given up and the output is to pause."

    // A transform of a stream: labels `stream`, `transform`, `plugin`.
    TransformCalls Counter "wasmill_transform_calls_total" "Calls of the plugin, one per chunk."
    TransformCpu Counter "wasmill_transform_cpu_seconds_total" "CPU time of these calls."
    TransformRecords Counter "wasmill_transform_records_total" "Rows that went into the plugin (the direction in) and came out of it (out), of slices that have an outcome."
    TransformBytes Counter "wasmill_transform_bytes_total" "Bytes of these rows' texts; values that were set by column count when they leave the chain."
    TransformDeadLetters Counter "wasmill_transform_dead_letters_total" "Records that failed in the plugin, rows that no record stands behind included."
    TransformMemory Gauge "wasmill_transform_memory_peak_bytes" "Largest linear memory of any instance so far."
    TransformTraps Counter "wasmill_transform_traps_total" "Calls that ended in a trap, in time or memory run out, or in nonsense."
    TransformInstances Counter "wasmill_transform_instances_total" "Instances that were made."
    HttpRequests Counter "wasmill_plugin_http_requests_total" "Requests of the plugin; the result is a label: answered (whatever the status), failed (no answer) or refused (not sent)."
    HttpBytes Counter "wasmill_plugin_http_bytes_total" "Bytes of URLs, headers and bodies of these requests (the direction out) and of their answers (in)."
    HttpWaited Counter "wasmill_plugin_http_wait_seconds_total" "Time for which calls of the plugin waited for answers."
    TransformInfo Gauge "wasmill_transform_info" "Always 1; version and digest of the plugin in use are labels."

    // A table of state of a transform: labels `stream`, `transform`, `table`.
    StateEntries Gauge "wasmill_state_entries" "Entries of the table that are stored, those included that are too old and not yet removed."
    StateBytes Gauge "wasmill_state_bytes" "Bytes of these entries, as the quota `state_bytes` counts them."
    // A delivery stream of Firehose: label `stream`. Names are Firehose's, as Prometheus writes them.
    FirehoseIncomingRecords Counter "firehose_incoming_records_total" "IncomingRecords: records that were accepted, by whichever API."
    FirehoseIncomingBytes Counter "firehose_incoming_bytes_total" "IncomingBytes: payload bytes of these."
    FirehoseIncomingPutRequests Counter "firehose_incoming_put_requests_total" "IncomingPutRequests: PutRecord and PutRecordBatch requests of which something was stored."
    FirehosePutRecordRequests Counter "firehose_put_record_requests_total" "PutRecord.Requests: those that were stored."
    FirehosePutRecordBytes Counter "firehose_put_record_bytes_total" "PutRecord.Bytes."
    FirehosePutRecordLatency Counter "firehose_put_record_latency_seconds_total" "PutRecord.Latency: the sum, from the whole body to the answer."
    FirehosePutRecordBatchRequests Counter "firehose_put_record_batch_requests_total" "PutRecordBatch.Requests: those of which something was stored."
    FirehosePutRecordBatchRecords Counter "firehose_put_record_batch_records_total" "PutRecordBatch.Records: those that were stored."
    FirehosePutRecordBatchBytes Counter "firehose_put_record_batch_bytes_total" "PutRecordBatch.Bytes: of these."
    FirehosePutRecordBatchLatency Counter "firehose_put_record_batch_latency_seconds_total" "PutRecordBatch.Latency: the sum, from the whole body to the answer."
    FirehoseKinesisRecords Counter "firehose_data_read_from_kinesis_stream_records_total" "DataReadFromKinesisStream.Records: records of the Kinesis stream that were stored."
    FirehoseKinesisBytes Counter "firehose_data_read_from_kinesis_stream_bytes_total" "DataReadFromKinesisStream.Bytes: payload bytes of these."
    FirehoseKinesisBehind Gauge "firehose_kinesis_millis_behind_latest" "KinesisMillisBehindLatest: how far the last answer was behind the newest record, of the shard that is most behind."
    FirehoseThrottledRecords Counter "firehose_throttled_records_total" "ThrottledRecords: records that were told to come again, because of a quota or a full buffer."
    FirehoseSucceedProcessing Counter "firehose_succeed_processing_records_total" "SucceedProcessing.Records: records that passed all transforms, were dropped or were absorbed."
    FirehoseFailedConversion Counter "firehose_failed_conversion_records_total" "FailedConversion.Records: records that could not be written in the format of their output."
    FirehoseDeliveryRecords Counter "firehose_delivery_to_s3_records_total" "DeliveryToS3.Records: records in objects that are in the bucket."
    FirehoseDeliveryBytes Counter "firehose_delivery_to_s3_bytes_total" "DeliveryToS3.Bytes: of these, before compression."
    FirehoseDeliveryObjects Counter "firehose_delivery_to_s3_object_count_total" "DeliveryToS3.ObjectCount."
    FirehoseDeliverySuccess Gauge "firehose_delivery_to_s3_success" "DeliveryToS3.Success: deliveries that succeeded over all that were tried since the start, 1 without any."
    FirehoseDataFreshness Gauge "firehose_delivery_to_s3_data_freshness_seconds" "DeliveryToS3.DataFreshness: age of the oldest record that is not delivered."
    FirehoseHttpEndpointRecords Counter "firehose_delivery_to_http_endpoint_records_total" "DeliveryToHttpEndpoint.Records: records that the endpoint took."
    FirehoseHttpEndpointBytes Counter "firehose_delivery_to_http_endpoint_bytes_total" "DeliveryToHttpEndpoint.Bytes: of these, before compression and encoding."
    FirehoseHttpEndpointSuccess Gauge "firehose_delivery_to_http_endpoint_success" "DeliveryToHttpEndpoint.Success: requests that the endpoint took over all that were sent, 1 without any."
    FirehoseHttpEndpointFreshness Gauge "firehose_delivery_to_http_endpoint_data_freshness_seconds" "DeliveryToHttpEndpoint.DataFreshness: age of the oldest record that is not delivered."
    FirehoseHttpEndpointProcessedRecords Counter "firehose_delivery_to_http_endpoint_processed_records_total" "DeliveryToHttpEndpoint.ProcessedRecords: records of all requests that were sent, again and again included."
    FirehoseHttpEndpointProcessedBytes Counter "firehose_delivery_to_http_endpoint_processed_bytes_total" "DeliveryToHttpEndpoint.ProcessedBytes: of these."
    FirehoseSplunkRecords Counter "firehose_delivery_to_splunk_records_total" "DeliveryToSplunk.Records: records that were acknowledged."
    FirehoseSplunkBytes Counter "firehose_delivery_to_splunk_bytes_total" "DeliveryToSplunk.Bytes: of these, before compression and encoding."
    FirehoseSplunkSuccess Gauge "firehose_delivery_to_splunk_success" "DeliveryToSplunk.Success: requests that were acknowledged over all that were sent, 1 without any."
    FirehoseSplunkFreshness Gauge "firehose_delivery_to_splunk_data_freshness_seconds" "DeliveryToSplunk.DataFreshness: age of the oldest record that is not delivered."
    FirehoseSplunkRequests Counter "firehose_delivery_to_splunk_requests_total" "Requests that were acknowledged: of DataAckLatency, the count."
    FirehoseSplunkAckLatency Counter "firehose_delivery_to_splunk_data_ack_latency_seconds_total" "DeliveryToSplunk.DataAckLatency: the sum, from the answer to a request to its acknowledgement."
    FirehoseOpenSearchRecords Counter "firehose_delivery_to_amazon_open_search_service_records_total" "DeliveryToAmazonOpenSearchService.Records: documents that the cluster took."
    FirehoseOpenSearchBytes Counter "firehose_delivery_to_amazon_open_search_service_bytes_total" "DeliveryToAmazonOpenSearchService.Bytes: of these, before compression and encoding."
    FirehoseOpenSearchSuccess Gauge "firehose_delivery_to_amazon_open_search_service_success" "DeliveryToAmazonOpenSearchService.Success: documents that the cluster took over all that were sent, 1 without any."
    FirehoseOpenSearchFreshness Gauge "firehose_delivery_to_amazon_open_search_service_data_freshness_seconds" "DeliveryToAmazonOpenSearchService.DataFreshness: age of the oldest record that is not delivered."
    FirehoseRedshiftRecords Counter "firehose_delivery_to_redshift_records_total" "DeliveryToRedshift.Records: records that were loaded."
    FirehoseRedshiftBytes Counter "firehose_delivery_to_redshift_bytes_total" "DeliveryToRedshift.Bytes: of these, before compression."
    FirehoseRedshiftSuccess Gauge "firehose_delivery_to_redshift_success" "DeliveryToRedshift.Success: loads that succeeded over all that were tried since the start, 1 without any."
    FirehoseRedshiftFreshness Gauge "firehose_delivery_to_redshift_data_freshness_seconds" "DeliveryToRedshift.DataFreshness: age of the oldest record that is not loaded."
    FirehoseIcebergIncoming Counter "firehose_delivery_to_iceberg_incoming_row_count_total" "DeliveryToIceberg.IncomingRowCount: rows for the table in durable outcomes."
    FirehoseIcebergSuccessful Counter "firehose_delivery_to_iceberg_successful_row_count_total" "DeliveryToIceberg.SuccessfulRowCount: rows that were committed."
    FirehoseIcebergFailed Counter "firehose_delivery_to_iceberg_failed_row_count_total" "DeliveryToIceberg.FailedRowCount: rows that were given up."
    FirehoseIcebergBytes Counter "firehose_delivery_to_iceberg_bytes_total" "DeliveryToIceberg.Bytes: of rows that were committed, before they were columns."
    FirehoseIcebergSuccess Gauge "firehose_delivery_to_iceberg_success" "DeliveryToIceberg.Success: commits that succeeded over all that were tried since the start, 1 without any."
    FirehoseIcebergFreshness Gauge "firehose_delivery_to_iceberg_data_freshness_seconds" "DeliveryToIceberg.DataFreshness: age of the oldest record that is not committed."
    FirehoseBackupRecords Counter "firehose_backup_to_s3_records_total" "BackupToS3.Records: records that failed and are in objects below the error prefix, and source records that are backed up."
    FirehoseBackupObjects Counter "firehose_backup_to_s3_object_count_total" "Objects of these."
    FirehoseBackupSuccess Gauge "firehose_backup_to_s3_success" "BackupToS3.Success: deliveries of them that succeeded over all that were tried since the start, 1 without any."
    FirehoseBackupFreshness Gauge "firehose_backup_to_s3_data_freshness_seconds" "BackupToS3.DataFreshness: age of the oldest of them that is not delivered; with a backup of source records, of the oldest record of which anything is not."
    FirehosePartitionCount Gauge "firehose_partition_count" "PartitionCount: batches that are being gathered."

    // The plugin directory.
    PluginInfo Gauge "wasmill_plugin_info" "1 per version that is loaded or refused; its state is a label."
    PluginPinned Gauge "wasmill_plugin_pinned" "1 per plugin that is pinned to a version, which is a label: new files of it do not go live."
    PluginReloads Counter "wasmill_plugin_reloads_total" "Plugin versions that became current since the start."
    PluginRefusals Counter "wasmill_plugin_refusals_total" "Plugin files or versions that were refused."
    PluginCompiles Counter "wasmill_plugin_compiles_total" "Runs of the compiler."
    PluginCacheHits Counter "wasmill_plugin_cache_hits_total" "Plugins whose compiled code was in the cache."
    PluginsCurrent Gauge "wasmill_plugins_current" "Names that have a version in use."
    PluginsRefused Gauge "wasmill_plugins_refused" "Files in the plugin directory that are refused."

    // Processes that run plugins of tenants with `isolation = "process"`, of all tenants together.
    PluginProcesses Counter "wasmill_plugin_processes_started_total" "Processes for plugins that were started."
    PluginProcessesLost Counter "wasmill_plugin_processes_lost_total" "Processes for plugins that ended by themselves, or were ended because of what they did."

    // A candidate that runs beside the live version of a plugin: labels `stream`, `plugin`.
    ShadowRecords Counter "wasmill_shadow_records_total" "Records that were compared since the shadow began, by their fate under the candidate, which is a label: same, or kept, dropped, changed, elsewhere, failed or mended, other than under the live version."
    ShadowSlices Counter "wasmill_shadow_slices_total" "Slices that were to be compared; the label says whether they were compared, skipped for want of time, or unfinished by the candidate."
    ShadowStopped Gauge "wasmill_shadow_stopped" "1 when the candidate cannot run, or was stopped because it did not finish its slices."

    // A tenant: label `tenant`.
    TenantCpu Counter "wasmill_tenant_cpu_seconds_total" "CPU time of the workers, for plugins and encoders of the tenant."
    TenantCompile Counter "wasmill_tenant_compile_cpu_seconds_total" "CPU time of the compiler for plugins of the tenant."
    TenantWarmInstances Gauge "wasmill_tenant_warm_instances" "Instances of plugins that are kept for the next slice."
    TenantWarmBytes Gauge "wasmill_tenant_warm_bytes" "Linear memory of these instances."

    // What a tenant may use: labels `tenant`, `quota`.
    QuotaRefusals Counter "wasmill_quota_refusals_total" "Requests, records and the like that were not let through because the tenant was past the quota that the label names; of `state_bytes` records that fail for it."

    // The journal of the data directory.
    JournalSyncs Counter "wasmill_journal_syncs_total" "Syncs to disk."
    JournalFailedSyncs Counter "wasmill_journal_failed_syncs_total" "Syncs that failed."
    JournalFailedWrites Counter "wasmill_journal_failed_writes_total" "Writes that failed."
    JournalCorruptions Counter "wasmill_journal_corruptions_total" "Places where journal or segments are damaged, cut or missing, those found at the start included."
    JournalBytesWritten Counter "wasmill_journal_written_bytes_total" "Bytes that were written."
    JournalGroups Counter "wasmill_journal_groups_total" "Groups of frames that shared one write and one sync."
    JournalFrames Counter "wasmill_journal_frames_total" "Frames that were written."
    JournalRecords Counter "wasmill_journal_records_total" "Records that were written."
    JournalFiles Gauge "wasmill_journal_files" "Journal files."
    JournalBytes Gauge "wasmill_journal_bytes" "Bytes of the journal files."
    JournalSegmentBytes Gauge "wasmill_journal_segment_bytes" "Bytes of the streams' segments."
    JournalBuffered Gauge "wasmill_journal_buffered_bytes" "Bytes that the buffer must keep, of all streams."
    JournalRetained Gauge "wasmill_journal_retained_bytes" "Bytes of delivered records that are kept for replays, of all streams, those included that no configuration has."
    JournalCached Gauge "wasmill_journal_cached_bytes" "Bytes of recent frames in memory."
    DestinationSyncs Counter "wasmill_destination_syncs_total" "Syncs of staged objects and of destination directories."

    // The process, under the names that every Prometheus client uses.
    ProcessCpu Counter "process_cpu_seconds_total" "CPU time of the process."
    ProcessMemory Gauge "process_resident_memory_bytes" "Memory of the process that is in RAM."
    ProcessFiles Gauge "process_open_fds" "Open file descriptors."
    ProcessThreads Gauge "process_threads" "Threads."
    ProcessStart Gauge "process_start_time_seconds" "When the process started, in seconds since 1970."
}
