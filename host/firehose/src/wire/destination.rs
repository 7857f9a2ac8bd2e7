//! Destinations as requests give them. They are also what is stored and what descriptions are made of, so that no member
//! is lost between.
//!
//! A configuration and an update differ in one member each, which has both names here.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::members::members;

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

members! {
    /// When a buffer is delivered: at the size or after the interval, whichever comes first.
    BufferingHints {
        size_in_mbs: i64 = "SizeInMBs",
        interval_in_seconds: i64 = "IntervalInSeconds",
    }
}

members! {
    KmsEncryption {
        key_arn: String = "AWSKMSKeyARN",
    }
}

members! {
    /// Of objects in a bucket.
    Encryption {
        none: String = "NoEncryptionConfig",
        kms: KmsEncryption = "KMSEncryptionConfig",
    }
}

members! {
    CloudWatchLoggingOptions {
        enabled: bool = "Enabled",
        log_group_name: String = "LogGroupName",
        log_stream_name: String = "LogStreamName",
    }
}

members! {
    /// The deprecated destination, the backup of others, and what errors of others go to.
    S3 {
        role_arn: String = "RoleARN",
        bucket_arn: String = "BucketARN",
        prefix: String = "Prefix",
        error_output_prefix: String = "ErrorOutputPrefix",
        buffering_hints: BufferingHints = "BufferingHints",
        compression_format: String = "CompressionFormat",
        encryption: Encryption = "EncryptionConfiguration",
        logging: CloudWatchLoggingOptions = "CloudWatchLoggingOptions",
    }
}

members! {
    ProcessorParameter {
        name: String = "ParameterName",
        value: String = "ParameterValue",
    }
}

members! {
    Processor {
        processor_type: String = "Type",
        parameters: Vec<ProcessorParameter> = "Parameters",
    }
}

impl Processor {
    /// The value of a parameter, the last one if it is there twice.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let parameters = self.parameters.iter().flatten().rev();
        parameters
            .filter(|parameter| parameter.name.as_deref() == Some(name))
            .find_map(|found| found.value.as_deref())
    }
}

members! {
    Processing {
        enabled: bool = "Enabled",
        processors: Vec<Processor> = "Processors",
    }
}

impl Processing {
    /// Whether it is enabled and has a processor of this type.
    pub fn has(&self, processor_type: &str) -> bool {
        self.active().any(|processor| processor.processor_type.as_deref() == Some(processor_type))
    }

    /// Programs that extract partition keys.
    pub fn queries(&self) -> impl Iterator<Item = &str> {
        self.active().filter_map(|processor| processor.parameter("MetadataExtractionQuery"))
    }

    /// Processors that run, in their order.
    pub fn active(&self) -> impl Iterator<Item = &Processor> {
        let enabled = self.enabled == Some(true);
        self.processors.iter().flatten().filter(move |_| enabled)
    }
}

members! {
    RetryOptions {
        duration_in_seconds: i64 = "DurationInSeconds",
    }
}

members! {
    DynamicPartitioning {
        enabled: bool = "Enabled",
        retry: RetryOptions = "RetryOptions",
    }
}

members! {
    /// A table of the catalog.
    Schema {
        role_arn: String = "RoleARN",
        catalog_id: String = "CatalogId",
        database_name: String = "DatabaseName",
        table_name: String = "TableName",
        region: String = "Region",
        version_id: String = "VersionId",
    }
}

members! {
    OpenXJson {
        convert_dots: bool = "ConvertDotsInJsonKeysToUnderscores",
        case_insensitive: bool = "CaseInsensitive",
        column_mappings: BTreeMap<String, String> = "ColumnToJsonKeyMappings",
    }
}

members! {
    HiveJson {
        timestamp_formats: Vec<String> = "TimestampFormats",
    }
}

members! {
    Deserializer {
        open_x_json: OpenXJson = "OpenXJsonSerDe",
        hive_json: HiveJson = "HiveJsonSerDe",
    }
}

members! {
    InputFormat {
        deserializer: Deserializer = "Deserializer",
    }
}

members! {
    Parquet {
        block_size_bytes: i64 = "BlockSizeBytes",
        page_size_bytes: i64 = "PageSizeBytes",
        compression: String = "Compression",
        enable_dictionary_compression: bool = "EnableDictionaryCompression",
        max_padding_bytes: i64 = "MaxPaddingBytes",
        writer_version: String = "WriterVersion",
    }
}

members! {
    Orc {
        stripe_size_bytes: i64 = "StripeSizeBytes",
        block_size_bytes: i64 = "BlockSizeBytes",
        row_index_stride: i64 = "RowIndexStride",
        enable_padding: bool = "EnablePadding",
        padding_tolerance: f64 = "PaddingTolerance",
        compression: String = "Compression",
        bloom_filter_columns: Vec<String> = "BloomFilterColumns",
        bloom_filter_false_positive_probability: f64 = "BloomFilterFalsePositiveProbability",
        dictionary_key_threshold: f64 = "DictionaryKeyThreshold",
        format_version: String = "FormatVersion",
    }
}

members! {
    Serializer {
        parquet: Parquet = "ParquetSerDe",
        orc: Orc = "OrcSerDe",
    }
}

members! {
    OutputFormat {
        serializer: Serializer = "Serializer",
    }
}

members! {
    DataFormatConversion {
        schema: Schema = "SchemaConfiguration",
        input: InputFormat = "InputFormatConfiguration",
        output: OutputFormat = "OutputFormatConfiguration",
        enabled: bool = "Enabled",
    }
}

impl DataFormatConversion {
    /// Omitted means enabled, where there is a configuration at all.
    pub fn is_enabled(&self) -> bool {
        self.enabled != Some(false)
    }
}

members! {
    /// Objects in a bucket.
    ExtendedS3 {
        role_arn: String = "RoleARN",
        bucket_arn: String = "BucketARN",
        prefix: String = "Prefix",
        error_output_prefix: String = "ErrorOutputPrefix",
        buffering_hints: BufferingHints = "BufferingHints",
        compression_format: String = "CompressionFormat",
        encryption: Encryption = "EncryptionConfiguration",
        logging: CloudWatchLoggingOptions = "CloudWatchLoggingOptions",
        processing: Processing = "ProcessingConfiguration",
        backup_mode: String = "S3BackupMode",
        backup: S3 = "S3BackupConfiguration",
        backup_update: S3 = "S3BackupUpdate",
        conversion: DataFormatConversion = "DataFormatConversionConfiguration",
        partitioning: DynamicPartitioning = "DynamicPartitioningConfiguration",
        file_extension: String = "FileExtension",
        custom_time_zone: String = "CustomTimeZone",
    }
}

impl ExtendedS3 {
    /// The members that the deprecated destination has too.
    pub fn plain(&self) -> S3 {
        S3 {
            role_arn: self.role_arn.clone(),
            bucket_arn: self.bucket_arn.clone(),
            prefix: self.prefix.clone(),
            error_output_prefix: self.error_output_prefix.clone(),
            buffering_hints: self.buffering_hints.clone(),
            compression_format: self.compression_format.clone(),
            encryption: self.encryption.clone(),
            logging: self.logging.clone(),
        }
    }

    pub fn is_partitioned(&self) -> bool {
        self.partitioning.as_ref().is_some_and(|partitioning| partitioning.enabled == Some(true))
    }

    pub fn is_converted(&self) -> bool {
        self.conversion.as_ref().is_some_and(DataFormatConversion::is_enabled)
    }
}

impl From<S3> for ExtendedS3 {
    fn from(s3: S3) -> ExtendedS3 {
        ExtendedS3 {
            role_arn: s3.role_arn,
            bucket_arn: s3.bucket_arn,
            prefix: s3.prefix,
            error_output_prefix: s3.error_output_prefix,
            buffering_hints: s3.buffering_hints,
            compression_format: s3.compression_format,
            encryption: s3.encryption,
            logging: s3.logging,
            ..ExtendedS3::default()
        }
    }
}

members! {
    HttpEndpointPlace {
        url: String = "Url",
        name: String = "Name",
        access_key: Secret = "AccessKey",
    }
}

members! {
    CommonAttribute {
        name: String = "AttributeName",
        value: String = "AttributeValue",
    }
}

members! {
    HttpRequest {
        content_encoding: String = "ContentEncoding",
        common_attributes: Vec<CommonAttribute> = "CommonAttributes",
    }
}

members! {
    SecretsManager {
        secret_arn: String = "SecretARN",
        role_arn: String = "RoleARN",
        enabled: bool = "Enabled",
    }
}

members! {
    /// A server that is sent batches.
    HttpEndpoint {
        endpoint: HttpEndpointPlace = "EndpointConfiguration",
        buffering_hints: BufferingHints = "BufferingHints",
        logging: CloudWatchLoggingOptions = "CloudWatchLoggingOptions",
        request: HttpRequest = "RequestConfiguration",
        processing: Processing = "ProcessingConfiguration",
        role_arn: String = "RoleARN",
        retry: RetryOptions = "RetryOptions",
        backup_mode: String = "S3BackupMode",
        s3: S3 = "S3Configuration",
        s3_update: S3 = "S3Update",
        secrets_manager: SecretsManager = "SecretsManagerConfiguration",
    }
}

members! {
    /// Splunk's HTTP event collector.
    Splunk {
        hec_endpoint: String = "HECEndpoint",
        hec_endpoint_type: String = "HECEndpointType",
        hec_token: Secret = "HECToken",
        acknowledgment_timeout: i64 = "HECAcknowledgmentTimeoutInSeconds",
        retry: RetryOptions = "RetryOptions",
        backup_mode: String = "S3BackupMode",
        s3: S3 = "S3Configuration",
        s3_update: S3 = "S3Update",
        processing: Processing = "ProcessingConfiguration",
        logging: CloudWatchLoggingOptions = "CloudWatchLoggingOptions",
        buffering_hints: BufferingHints = "BufferingHints",
        secrets_manager: SecretsManager = "SecretsManagerConfiguration",
    }
}

members! {
    /// What a table is loaded with.
    CopyCommand {
        table_name: String = "DataTableName",
        columns: String = "DataTableColumns",
        options: String = "CopyOptions",
    }
}

members! {
    /// A table of Redshift, loaded out of the bucket beside it.
    Redshift {
        role_arn: String = "RoleARN",
        jdbc_url: String = "ClusterJDBCURL",
        copy_command: CopyCommand = "CopyCommand",
        username: String = "Username",
        password: Secret = "Password",
        retry: RetryOptions = "RetryOptions",
        s3: S3 = "S3Configuration",
        s3_update: S3 = "S3Update",
        processing: Processing = "ProcessingConfiguration",
        backup_mode: String = "S3BackupMode",
        backup: S3 = "S3BackupConfiguration",
        backup_update: S3 = "S3BackupUpdate",
        logging: CloudWatchLoggingOptions = "CloudWatchLoggingOptions",
        secrets_manager: SecretsManager = "SecretsManagerConfiguration",
    }
}

members! {
    Vpc {
        subnet_ids: Vec<String> = "SubnetIds",
        role_arn: String = "RoleARN",
        security_group_ids: Vec<String> = "SecurityGroupIds",
    }
}

members! {
    DocumentId {
        default_format: String = "DefaultDocumentIdFormat",
    }
}

members! {
    /// A cluster of OpenSearch or Elasticsearch, whose members are the same.
    OpenSearch {
        role_arn: String = "RoleARN",
        domain_arn: String = "DomainARN",
        cluster_endpoint: String = "ClusterEndpoint",
        index_name: String = "IndexName",
        type_name: String = "TypeName",
        index_rotation_period: String = "IndexRotationPeriod",
        buffering_hints: BufferingHints = "BufferingHints",
        retry: RetryOptions = "RetryOptions",
        backup_mode: String = "S3BackupMode",
        s3: S3 = "S3Configuration",
        s3_update: S3 = "S3Update",
        processing: Processing = "ProcessingConfiguration",
        logging: CloudWatchLoggingOptions = "CloudWatchLoggingOptions",
        vpc: Vpc = "VpcConfiguration",
        document_id: DocumentId = "DocumentIdOptions",
    }
}
