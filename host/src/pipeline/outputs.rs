//! Opens the outputs of a stream: from checked settings to destinations, templates and staging directories.
//!
//! What only the destination's own crate can judge (a template, a URL, a header) is reported here as a problem of
//! the configuration, with its place. It sends nothing.

use std::sync::Arc;

use wasmill_buffer::RealDisk;
use wasmill_config as config;
use wasmill_config::{Problem, Settings};
use wasmill_deliver::{
    Action, Authorization, Credentials, Destination, DirectoryConfig, DirectoryThreads, EndpointConfig,
    FirehoseNames, HttpConfig, IcebergConfig, Manner, NameTemplate, OpenSearchConfig, Reach, RedshiftConfig,
    RestConfig, RetryPolicy, Rotation, S3Config, Server, Setting, SplunkConfig, SplunkEndpoint, StoreConfig,
    SyncCount, TlsMode, unfit_for_tables,
};
use wasmill_encode::{Compression, Format, Row};

use super::batch::{INLINE_BYTES_MAX, SealAt};
use super::columns::{Columns, ColumnsError};
use super::context::Output;
use super::staging::{SPOOL_NAME, Staging};

/// Name of what is sent where objects have no name of their own; seen in dead letters and logs.
const REQUEST_TEMPLATE: &str = "{stream}/{output}/{batch}{extension}";

/// Of every object in a bucket that is named as Firehose does it.
const FIREHOSE_CONTENT_TYPE: &str = "application/octet-stream";

/// Why an output cannot be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The configuration is wrong.
    Problem(Problem),
    /// It may be right tomorrow.
    Failed { output: String, message: String },
}

/// The template of an output's object names.
pub(crate) fn template(settings: &Settings, output: &config::Output) -> Result<NameTemplate, Problem> {
    let object = match &output.destination {
        config::Destination::Directory(directory) => Some(&directory.object),
        config::Destination::S3(s3) => Some(&s3.object),
        config::Destination::Redshift(redshift) => Some(&redshift.s3.object),
        config::Destination::Http(_)
        | config::Destination::Endpoint(_)
        | config::Destination::Splunk(_)
        | config::Destination::OpenSearch(_)
        | config::Destination::Iceberg(_)
        | config::Destination::Stdout => None,
    };
    let written = match object {
        Some(config::ObjectName::Template(written)) => written,
        None => REQUEST_TEMPLATE,
        Some(config::ObjectName::Firehose(names)) => {
            let config::FirehoseNames { prefix, time_zone, extension, version } = names;
            let errors = output.name == config::LettersOutput::NAME;
            let extension = if errors { Some(String::new()) } else { extension.clone() };
            let names = FirehoseNames { time_zone: time_zone.clone(), extension, version: *version, errors };
            return NameTemplate::firehose(prefix, &names).map_err(|error| {
                settings.problem(&format!("{}.firehose", output.key), format!("prefix {prefix:?}: {error}"))
            });
        }
    };
    NameTemplate::parse(written).map_err(|error| {
        settings.problem(&format!("{}.object", output.key), format!("object name {written:?}: {error}"))
    })
}

/// What its destination can never take, each at its own key; what is not `sound` is not judged again.
pub(crate) fn wrong_settings(
    settings: &Settings,
    output: &config::Output,
    sound: &dyn Fn(&str) -> bool,
) -> Vec<Problem> {
    let arn = arn(settings, output);
    let (syncs, threads) = (SyncCount::default(), DirectoryThreads::default());
    let found =
        destination(&output.destination, output.compression, &arn, &syncs, &threads).wrong().into_iter();
    let of_catalog = match output.destination {
        config::Destination::Iceberg(_) => ".catalog",
        _ => "",
    };
    let placed = found.map(|wrong| {
        let key = match wrong.at {
            Setting::Url => format!("{}{of_catalog}.url", output.key),
            Setting::Endpoint => format!("{}.endpoint", output.key),
            Setting::SourceArn => format!("{}.source_arn", output.key),
            Setting::AccessKey => format!("{}.access_key", output.key),
            Setting::CommonAttributes => format!("{}.common_attributes", output.key),
            Setting::Token => format!("{}{of_catalog}.token", output.key),
            Setting::Ca => format!("{}{of_catalog}.ca", output.key),
            Setting::Host => format!("{}.host", output.key),
            Setting::Table => format!("{}.table", output.key),
            Setting::Columns => format!("{}.columns", output.key),
            Setting::BatchesTable => format!("{}.batches_table", output.key),
            Setting::Header(_) if !of_catalog.is_empty() => format!("{}{of_catalog}.headers", output.key),
            Setting::Header(name) => output.header_key(&name),
        };
        (key, wrong.message)
    });
    placed.filter(|(key, _)| sound(key)).map(|(key, message)| settings.problem(&key, message)).collect()
}

pub(crate) fn format(output: &config::Output) -> Format {
    let framed = output.destination.takes_records();
    match output.format {
        config::Format::Verbatim if framed => Format::Framed(Row::Verbatim),
        config::Format::Raw if framed => Format::Framed(Row::Line),
        config::Format::Ndjson if framed => Format::Framed(Row::Json),
        config::Format::Verbatim => Format::Verbatim,
        config::Format::Raw => Format::Raw,
        config::Format::Ndjson => Format::Ndjson,
        config::Format::JsonArray => Format::JsonArray,
        config::Format::Parquet => Format::Parquet,
    }
}

/// By which an endpoint is told the stream of an output, unless its settings say: as the Firehose API names the stream.
fn arn(settings: &Settings, output: &config::Output) -> String {
    let of_output = |stream: &&config::Stream| stream.outputs.iter().any(|other| other.key == output.key);
    let stream = settings.streams.iter().find(of_output).map_or("", |stream| stream.name.as_str());
    let config::Firehose { region, account, .. } = &settings.firehose;
    format!("arn:aws:firehose:{region}:{account}:deliverystream/{stream}")
}

fn http(post: &config::HttpPost) -> HttpConfig {
    HttpConfig {
        url: post.url.clone(),
        headers: post.headers.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect(),
        ca: post.ca.as_ref().map(|ca| ca.reveal().to_owned()),
        timeout: post.timeout,
        reach: post.reach.as_ref().map(reach),
    }
}

fn bucket(s3: &config::S3) -> S3Config {
    S3Config {
        prefix: s3.prefix.clone(),
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone(),
        path_style: s3.path_style,
        credentials: Credentials::Chain,
        multipart_threshold: s3.multipart_threshold,
        content_type: matches!(s3.object, config::ObjectName::Firehose(_)).then_some(FIREHOSE_CONTENT_TYPE),
        ..S3Config::new(s3.bucket.clone())
    }
}

fn reach(reach: &config::HttpReach) -> Reach {
    Reach { names: reach.names.clone(), networks: reach.networks.clone() }
}

fn redshift(redshift: &config::Redshift) -> RedshiftConfig {
    let server = Server {
        host: redshift.host.clone(),
        port: redshift.port,
        database: redshift.database.clone(),
        user: redshift.user.clone(),
        password: redshift.password.reveal().to_owned(),
        tls: match redshift.tls {
            config::TlsMode::Disable => TlsMode::Disable,
            config::TlsMode::Require => TlsMode::Require,
            config::TlsMode::VerifyFull => TlsMode::VerifyFull,
        },
        ca: redshift.ca.as_ref().map(|ca| ca.reveal().to_owned()),
        reach: redshift.reach.as_ref().map(reach),
        timeout: redshift.timeout,
    };
    RedshiftConfig {
        s3: bucket(&redshift.s3),
        server,
        table: redshift.table.clone(),
        columns: redshift.columns.clone(),
        authorization: match &redshift.authorization {
            config::CopyAuthorization::DefaultRole => Authorization::DefaultRole,
            config::CopyAuthorization::Role(role) => Authorization::Role(role.clone()),
            config::CopyAuthorization::Credentials(secret) => {
                Authorization::Credentials(secret.reveal().to_owned())
            }
        },
        options: redshift.copy_options.clone(),
        batches: redshift.batches_table.clone(),
        batches_kept: redshift.batches_kept,
    }
}

/// Compression of the object as a whole: none of Parquet, nor of records one by one, of which it is the requests that are
/// compressed.
pub(crate) fn compression(output: &config::Output) -> Compression {
    let compression = output.compression;
    if output.parquet.is_some() || output.destination.takes_records() {
        return Compression::None;
    }
    match compression.codec {
        config::Codec::None => Compression::None,
        config::Codec::Gzip => Compression::Gzip { level: u32::try_from(compression.level).unwrap_or(0) },
        config::Codec::Zstd => Compression::Zstd { level: compression.level },
        config::Codec::Snappy => Compression::Snappy,
        config::Codec::SnappyJava => Compression::SnappyJava,
        config::Codec::HadoopSnappy => Compression::HadoopSnappy,
        config::Codec::Zip => Compression::Zip,
    }
}

/// The columns of an output whose format has some.
pub(crate) fn columns(settings: &Settings, output: &config::Output) -> Result<Option<Arc<Columns>>, Problem> {
    let Some(parquet) = &output.parquet else { return Ok(None) };
    match Columns::new(parquet, output.compression) {
        Ok(columns) => {
            let of_table = matches!(output.destination, config::Destination::Iceberg(_));
            let unfit = columns.without_rows().filter(|_| of_table).and_then(|file| unfit_for_tables(&file));
            match unfit {
                Some(message) => Err(settings.problem(&parquet.schema_key, message)),
                None => Ok(Some(Arc::new(columns))),
            }
        }
        Err(error @ ColumnsError::Schema(_)) => Err(settings.problem(&parquet.schema_key, error.to_string())),
        Err(error @ ColumnsError::Setup(_)) => {
            Err(settings.problem(&format!("{}.parquet", output.key), error.to_string()))
        }
    }
}

fn destination(
    destination: &config::Destination,
    compression: config::Compression,
    arn: &str,
    syncs: &SyncCount,
    threads: &DirectoryThreads,
) -> wasmill_deliver::Config {
    match destination {
        config::Destination::Directory(directory) => wasmill_deliver::Config::Directory(DirectoryConfig {
            root: directory.path.clone(),
            syncs: syncs.clone(),
            threads: threads.clone(),
        }),
        config::Destination::S3(s3) => wasmill_deliver::Config::S3(bucket(s3)),
        config::Destination::Redshift(redshift) => {
            wasmill_deliver::Config::Redshift(Box::new(self::redshift(redshift)))
        }
        config::Destination::Http(post) => wasmill_deliver::Config::Http(http(post)),
        config::Destination::Endpoint(endpoint) => wasmill_deliver::Config::Endpoint(EndpointConfig {
            http: http(&endpoint.post),
            source_arn: endpoint.source_arn.clone().unwrap_or_else(|| arn.to_owned()),
            access_key: endpoint.access_key.as_ref().map(|key| key.reveal().to_owned()),
            common_attributes: endpoint.common_attributes.clone(),
            gzip: match compression.codec {
                config::Codec::Gzip => u32::try_from(compression.level).ok(),
                _ => None,
            },
        }),
        config::Destination::Splunk(splunk) => wasmill_deliver::Config::Splunk(SplunkConfig {
            http: http(&splunk.post),
            endpoint: match splunk.endpoint {
                config::SplunkEndpoint::Event => SplunkEndpoint::Event,
                config::SplunkEndpoint::Raw => SplunkEndpoint::Raw,
            },
            token: splunk.token.reveal().to_owned(),
            acknowledged_within: splunk.acknowledged_within,
        }),
        config::Destination::OpenSearch(cluster) => wasmill_deliver::Config::OpenSearch(OpenSearchConfig {
            http: http(&cluster.post),
            index: cluster.index.clone(),
            rotation: match cluster.rotation {
                config::Rotation::None => Rotation::Never,
                config::Rotation::Hour => Rotation::Hour,
                config::Rotation::Day => Rotation::Day,
                config::Rotation::Week => Rotation::Week,
                config::Rotation::Month => Rotation::Month,
            },
            action: match cluster.action {
                config::Action::Index => Action::Index,
                config::Action::Create => Action::Create,
            },
            ids: cluster.document_ids,
        }),
        config::Destination::Iceberg(table) => wasmill_deliver::Config::Iceberg(Box::new(IcebergConfig {
            catalog: RestConfig {
                http: http(&table.catalog.post),
                warehouse: table.catalog.warehouse.clone(),
                token: table.catalog.token.as_ref().map(|token| token.reveal().to_owned()),
                credential: table.catalog.credential.as_ref().map(|secret| secret.reveal().to_owned()),
                oauth2_url: table.catalog.oauth2_url.clone(),
                scope: table.catalog.scope.clone(),
            },
            namespace: table.namespace.clone(),
            table: table.table.clone(),
            create: table.create,
            store: StoreConfig {
                root: table.path.clone(),
                endpoint: table.endpoint.clone(),
                region: table.region.clone(),
                path_style: table.path_style,
                syncs: syncs.clone(),
                threads: threads.clone(),
            },
            columns: None,
        })),
        config::Destination::Stdout => wasmill_deliver::Config::Stdout,
    }
}

/// Opens one output and makes its staging directory; `threads` are those of its tenant.
pub(crate) async fn open(
    settings: &Settings,
    output: &config::Output,
    syncs: &SyncCount,
    threads: &DirectoryThreads,
) -> Result<Output, OpenError> {
    let template = template(settings, output).map_err(OpenError::Problem)?;
    let columns = columns(settings, output).map_err(OpenError::Problem)?;
    let mut wanted =
        destination(&output.destination, output.compression, &arn(settings, output), syncs, threads);
    if let wasmill_deliver::Config::Iceberg(table) = &mut wanted {
        table.columns = columns.as_ref().and_then(|columns| columns.without_rows());
    }
    let opened = match Destination::open(&wanted).await {
        Ok(opened) => opened,
        Err(error) if error.fault == wasmill_deliver::Fault::Client => {
            return Err(OpenError::Problem(settings.problem(&output.key, error.message)));
        }
        Err(error) => {
            let message = format!("{error} ({})", error.detail);
            return Err(OpenError::Failed { output: output.name.clone(), message });
        }
    };
    let spool = settings.data_dir.join(SPOOL_NAME);
    let directory = opened.staging().unwrap_or_else(|| spool.clone());
    let staging =
        Staging::open(Arc::new(RealDisk), directory, spool, syncs.clone()).map_err(|(path, error)| {
            OpenError::Failed {
                output: output.name.clone(),
                message: format!("cannot make {}: {error}", path.display()),
            }
        })?;
    Ok(Output {
        name: output.name.clone(),
        destination: Arc::new(opened),
        template,
        format: format(output),
        compression: compression(output),
        seal: SealAt {
            size: output.size,
            interval: output.interval,
            max_partitions: output.max_partitions as usize,
            // The columns of a file have a price of their own, however few rows it has: an outcome carries none.
            inline_bytes_max: if columns.is_some() { 0 } else { INLINE_BYTES_MAX },
        },
        retry: RetryPolicy {
            initial: output.retry.initial,
            max: output.retry.max,
            for_: Some(output.retry.give_up_after),
            manner: match output.destination {
                config::Destination::Endpoint(_) => Manner::Near,
                _ => Manner::Full,
            },
        },
        pause: output.retry.pause,
        columns,
        staging: Arc::new(staging),
    })
}
