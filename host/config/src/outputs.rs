//! The outputs of a stream: destinations, object templates, compression levels, collisions.
//!
//! It owns what can be said about an output without opening it. The full syntax of templates and
//! everything about endpoints belong to `deliver`, which has the last word.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::names;
use crate::raw;
use crate::redshift;
use crate::requests;
use crate::resolve::Resolver;
use crate::settings::{
    CatalogTable, Codec, Compression, Destination, Directory, FirehoseErrors, FirehoseNames, Format,
    LettersOutput, ObjectName, Output, Retry, S3,
};
use crate::tables;
use crate::tree;
use crate::units::Span;

/// Largest object of dead letters: about what one of their files holds.
const LETTERS_SIZE_MAX: u64 = 8 << 20;

const PLACEHOLDERS: [&str; 9] =
    ["stream", "output", "year", "month", "day", "hour", "minute", "batch", "extension"];

/// Resolves output `index` of a stream.
pub(crate) fn output(resolver: &mut Resolver<'_>, key: String, index: usize, output: raw::Output) -> Output {
    let (destination, parquet, batching) = match output {
        raw::Output::Directory(of) => {
            let object = object(resolver, &key, of.object, of.firehose, Partitions::Set);
            (directory_destination(resolver, &key, &of.place, object), of.parquet, of.batching)
        }
        raw::Output::S3(of) => {
            let object = object(resolver, &key, of.object, of.firehose, Partitions::Set);
            (s3_destination(resolver, &key, of.place, object), of.parquet, of.batching)
        }
        raw::Output::Http(of) => {
            let (destination, batching) = requests::http(resolver, &key, of);
            (destination, None, batching)
        }
        raw::Output::Splunk(of) => {
            let (destination, batching) = requests::splunk(resolver, &key, of);
            (destination, None, batching)
        }
        raw::Output::OpenSearch(of) => {
            let (destination, batching) = requests::open_search(resolver, &key, of);
            (destination, None, batching)
        }
        raw::Output::Redshift(of) => {
            let (destination, batching) = redshift::destination(resolver, &key, *of);
            (destination, None, batching)
        }
        raw::Output::Iceberg(of) => tables::iceberg(resolver, &key, *of),
        raw::Output::Stdout(of) => (Destination::Stdout, None, of.batching),
    };
    let format = match batching.format {
        raw::Format::Verbatim => Format::Verbatim,
        raw::Format::Raw => Format::Raw,
        raw::Format::Ndjson => Format::Ndjson,
        raw::Format::JsonArray => Format::JsonArray,
        raw::Format::Parquet => Format::Parquet,
    };
    let format = tables::format(resolver, &key, &destination, format);
    let parquet = resolver.parquet(&key, format, &destination, parquet);
    let compression = compression(resolver, &key, default_codec(format, &destination), &batching.packing);
    requests::fits(resolver, &key, &destination, (format, compression, batching.size.0));
    if format == Format::Parquet {
        resolver.parquet_codec(&key, compression);
    }
    size(resolver, &key, batching.size.0);
    interval(resolver, &key, batching.interval);
    let name = match batching.name {
        Some(name) => {
            resolver.name(&format!("{key}.name"), "output", &name);
            name
        }
        None if index == 0 => "default".to_owned(),
        None => destination.kind().to_owned(),
    };
    let mut output = Output {
        name,
        destination,
        format,
        parquet,
        compression,
        size: batching.size.0,
        interval: batching.interval.0,
        max_partitions: batching.max_partitions,
        retry: retry(resolver, &key, &batching.retry),
        key: key.clone(),
    };
    redshift::settle(resolver, &key, &mut output);
    output
}

/// Resolves where the records of a stream go as they came in.
pub(crate) fn backup(resolver: &mut Resolver<'_>, key: String, output: raw::BackupOutput) -> Output {
    let (destination, batching) = match output {
        raw::BackupOutput::Directory { place, object: written, firehose, batching } => {
            let object = object(resolver, &key, written, firehose, Partitions::NoneOf("a backup has"));
            (directory_destination(resolver, &key, &place, object), batching)
        }
        raw::BackupOutput::S3 { place, object: written, firehose, batching } => {
            let object = object(resolver, &key, written, firehose, Partitions::NoneOf("a backup has"));
            (s3_destination(resolver, &key, place, object), batching)
        }
    };
    let raw::BackupBatching {
        format,
        packing,
        size: size_written,
        interval: interval_written,
        retry: written,
    } = batching;
    let format = match format {
        raw::BackupFormat::Raw => Format::Raw,
        raw::BackupFormat::Verbatim => Format::Verbatim,
    };
    size(resolver, &key, size_written.0);
    interval(resolver, &key, interval_written);
    Output {
        name: Output::BACKUP.to_owned(),
        compression: compression(resolver, &key, default_codec(format, &destination), &packing),
        destination,
        format,
        parquet: None,
        size: size_written.0,
        interval: interval_written.0,
        max_partitions: 1,
        retry: retry(resolver, &key, &written),
        key,
    }
}

/// Resolves where the dead letters of a stream go; `transforms` are the names of the stream's, where they are known.
pub(crate) fn letters(
    resolver: &mut Resolver<'_>,
    key: String,
    output: raw::LettersOutput,
    transforms: Option<&[&str]>,
) -> LettersOutput {
    let mut told = FirehoseErrors::default();
    let mut named = |resolver: &mut Resolver<'_>, firehose: Option<raw::FirehoseErrors>| {
        let raw::FirehoseErrors { names, functions, table } = firehose?;
        told = errors(resolver, &key, functions, table, transforms);
        Some(names)
    };
    let (destination, batching) = match output {
        raw::LettersOutput::Directory { place, object: written, firehose, batching } => {
            let names = named(resolver, firehose);
            let object = object(resolver, &key, written, names, Partitions::NoneOf("dead letters have"));
            (directory_destination(resolver, &key, &place, object), batching)
        }
        raw::LettersOutput::S3 { place, object: written, firehose, batching } => {
            let names = named(resolver, firehose);
            let object = object(resolver, &key, written, names, Partitions::NoneOf("dead letters have"));
            (s3_destination(resolver, &key, place, object), batching)
        }
        raw::LettersOutput::Http { place, batching } => {
            (Destination::Http(requests::post(resolver, &key, place)), batching)
        }
    };
    let codec = default_codec(Format::Ndjson, &destination);
    let compression = compression(resolver, &key, codec, &batching.packing);
    if !(1..=LETTERS_SIZE_MAX).contains(&batching.size.0) {
        resolver.problem(&format!("{key}.size"), "\"size\" of dead letters must be from 1 byte to 8MiB");
    }
    interval(resolver, &key, batching.interval);
    let (initial, max) = pauses(resolver, &key, batching.retry);
    LettersOutput {
        remove: matches!(batching.then, raw::LettersThen::Remove),
        firehose: told,
        output: Output {
            name: LettersOutput::NAME.to_owned(),
            destination,
            format: Format::Ndjson,
            parquet: None,
            compression,
            size: batching.size.0,
            interval: batching.interval.0,
            max_partitions: 1,
            retry: Retry { initial, max, give_up_after: Duration::MAX, pause: true },
            key,
        },
    }
}

/// What lines of records that failed say beside the letter.
fn errors(
    resolver: &mut Resolver<'_>,
    key: &str,
    functions: BTreeMap<String, String>,
    table: Option<raw::CatalogTable>,
    transforms: Option<&[&str]>,
) -> FirehoseErrors {
    let transforms = transforms.into_iter();
    let unknown = transforms.flat_map(|known| {
        let keys = functions.keys().filter(move |transform| !known.contains(&transform.as_str()));
        keys.map(move |transform| (transform, names::suggestion(transform, known)))
    });
    for (transform, hint) in unknown {
        let key = format!("{key}.firehose.functions.{}", tree::segment(transform));
        resolver
            .problem(&key, format!("function of {transform:?}, which is no transform of this stream{hint}"));
    }
    let table = table.map(|written| {
        let raw::CatalogTable { catalog, database, table, region, version } = written;
        CatalogTable { catalog, database, table, region, version }
    });
    FirehoseErrors { functions, table }
}

/// Stands for an output of which nothing can be made, so that the names of a stream's outputs are whole.
pub(crate) fn stand_in(resolver: &Resolver<'_>, key: String, index: usize) -> Output {
    let written = tree::value(resolver.root, &format!("{key}.name"), resolver.aliases);
    let written = written.and_then(|name| name.get_ref().as_str());
    let otherwise = if index == 0 { "default".to_owned() } else { format!("output-{index}") };
    Output {
        name: written.map_or(otherwise, str::to_owned),
        destination: Destination::Stdout,
        format: Format::Raw,
        parquet: None,
        compression: Compression { codec: Codec::None, level: 0 },
        size: 1,
        interval: Duration::ZERO,
        max_partitions: 1,
        retry: Retry {
            initial: Duration::ZERO,
            max: Duration::ZERO,
            give_up_after: Duration::ZERO,
            pause: false,
        },
        key,
    }
}

/// Two outputs that write under the same names would meet.
pub(crate) fn collisions(resolver: &mut Resolver<'_>, outputs: &[&Output]) {
    fn place(output: &Output) -> Option<(String, &str)> {
        let bucket = match &output.destination {
            Destination::S3(s3) => Some(s3),
            Destination::Redshift(redshift) => Some(&redshift.s3),
            _ => None,
        };
        let object = match &output.destination {
            Destination::Directory(Directory { object, .. }) => object,
            _ => &bucket?.object,
        };
        // Names of the other kind have something of their own each.
        let ObjectName::Template(object) = object else { return None };
        match &output.destination {
            Destination::Directory(directory) => {
                let normal: std::path::PathBuf = directory
                    .path
                    .components()
                    .filter(|component| !matches!(component, std::path::Component::CurDir))
                    .collect();
                Some((normal.display().to_string(), object))
            }
            _ => bucket.map(|s3| {
                let endpoint = s3.endpoint.as_deref().unwrap_or_default();
                (format!("{endpoint} {} {}", s3.bucket, s3.prefix), object.as_str())
            }),
        }
    }
    for (index, output) in outputs.iter().enumerate() {
        let Some((path, object)) = place(output) else { continue };
        if !resolver.sound(&output.key) {
            continue;
        }
        let other = outputs.iter().take(index).find(|earlier| {
            place(earlier).is_some_and(|(other_path, other_object)| {
                other_path == path && other_object == object && !object.contains("{output}")
            })
        });
        if let Some(other) = other {
            resolver.problem(
                &format!("{}.object", output.key),
                format!(
                    "outputs \"{}\" and \"{}\" write to the same place; put {{output}} into \"object\" or change one",
                    other.name, output.name
                ),
            );
        }
    }
}

/// Whether plugins may set partitions, or what has none.
#[derive(Clone, Copy)]
pub(crate) enum Partitions {
    Set,
    NoneOf(&'static str),
}

/// One of the two ways to name objects.
pub(crate) fn object(
    resolver: &mut Resolver<'_>,
    key: &str,
    written: String,
    firehose: Option<raw::FirehoseNames>,
    partitions: Partitions,
) -> ObjectName {
    let object_key = format!("{key}.object");
    let Some(firehose) = firehose else {
        template(resolver, &object_key, &written, partitions);
        return ObjectName::Template(written);
    };
    if tree::value(resolver.root, &object_key, resolver.aliases).is_some() {
        resolver
            .problem(&object_key, "\"object\" has no effect beside \"firehose\": take one of the two away");
    }
    let raw::FirehoseNames { prefix, time_zone, extension, version } = firehose;
    let extension_key = format!("{key}.firehose.extension");
    if let Some(extension) = extension.as_deref().filter(|extension| !extension.is_empty()) {
        let allowed =
            |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || b"!-_.*'()".contains(&byte);
        let is_one =
            extension.strip_prefix('.').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(allowed));
        if !is_one || extension.len() > 128 {
            resolver.problem(
                &extension_key,
                format!(
                    "extension {extension:?} is not valid, expected a dot and up to 127 lower-case letters, digits and !-_.*'()"
                ),
            );
        }
    }
    let is_outside = |step: &str| step == "." || step == "..";
    if prefix.starts_with('/') || prefix.split('/').any(is_outside) {
        let message = "\"prefix\" must not begin with / or have the step . or ..";
        resolver.problem(&format!("{key}.firehose.prefix"), message);
    }
    ObjectName::Firehose(FirehoseNames { prefix, time_zone, extension, version })
}

fn directory_destination(
    resolver: &mut Resolver<'_>,
    key: &str,
    place: &raw::DirectoryPlace,
    object: ObjectName,
) -> Destination {
    let path = resolver.directory(&format!("{key}.path"), &place.path);
    Destination::Directory(Directory { path, object })
}

/// What is wrong with the name of a bucket.
pub(crate) fn bucket_problem(bucket: &str) -> Option<String> {
    let characters =
        bucket.bytes().all(|b| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_'));
    (!(3..=255).contains(&bucket.len()) || !characters).then(|| {
        format!("bucket name {bucket:?} is not valid, expected at least 3 letters, digits, `-`, `.` and `_`")
    })
}

pub(crate) fn s3_destination(
    resolver: &mut Resolver<'_>,
    key: &str,
    s3: raw::S3Place,
    object: ObjectName,
) -> Destination {
    if let Some(message) = bucket_problem(&s3.bucket) {
        resolver.problem(&format!("{key}.bucket"), message);
    }
    let prefix_key = format!("{key}.prefix");
    if s3.prefix.starts_with('/') || s3.prefix.split('/').any(|part| part == "..") {
        resolver.problem(&prefix_key, "\"prefix\" must not begin with / or contain ..");
    }
    if s3.prefix.contains(['{', '}']) {
        resolver.problem(&prefix_key, "\"prefix\" is plain text; placeholders belong into \"object\"");
    }
    // S3 itself allows parts of 5 MiB to 5 GiB.
    if !(5 << 20..=5 << 30).contains(&s3.multipart_threshold.0) {
        resolver.problem(
            &format!("{key}.multipart_threshold"),
            "\"multipart_threshold\" must be from 5MiB to 5GiB",
        );
    }
    let mut prefix = s3.prefix;
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    Destination::S3(S3 {
        bucket: s3.bucket,
        prefix,
        object,
        endpoint: s3.endpoint,
        region: s3.region,
        path_style: s3.path_style,
        multipart_threshold: s3.multipart_threshold.0,
    })
}

fn size(resolver: &mut Resolver<'_>, key: &str, size: u64) {
    if !(1..=4 << 30).contains(&size) {
        resolver.problem(&format!("{key}.size"), "\"size\" must be from 1 byte to 4GiB");
    }
}

fn interval(resolver: &mut Resolver<'_>, key: &str, interval: Span) {
    if interval.0.as_secs() > 7 * 86_400 {
        resolver.problem(&format!("{key}.interval"), "\"interval\" must be at most 7d");
    }
}

fn default_codec(format: Format, destination: &Destination) -> raw::Codec {
    match destination {
        _ if format == Format::Parquet => raw::Codec::Snappy,
        Destination::Directory(_) | Destination::S3(_) => raw::Codec::Zstd,
        Destination::Redshift(_) => raw::Codec::Gzip,
        Destination::Http(_)
        | Destination::Endpoint(_)
        | Destination::Splunk(_)
        | Destination::OpenSearch(_)
        | Destination::Iceberg(_)
        | Destination::Stdout => raw::Codec::None,
    }
}

fn compression(
    resolver: &mut Resolver<'_>,
    key: &str,
    default: raw::Codec,
    packing: &raw::Packing,
) -> Compression {
    let level = packing.level;
    let codec = packing.compression.unwrap_or(default);
    let (codec, default, levels, name) = match codec {
        raw::Codec::None => (Codec::None, 0, None, "none"),
        raw::Codec::Snappy => (Codec::Snappy, 0, None, "snappy"),
        raw::Codec::SnappyJava => (Codec::SnappyJava, 0, None, "snappy-java"),
        raw::Codec::HadoopSnappy => (Codec::HadoopSnappy, 0, None, "hadoop-snappy"),
        raw::Codec::Zip => (Codec::Zip, 0, None, "zip"),
        raw::Codec::Gzip => (Codec::Gzip, 6, Some(1..=9), "gzip"),
        raw::Codec::Zstd => (Codec::Zstd, 3, Some(1..=19), "zstd"),
    };
    match (level, levels) {
        _ if !resolver.sound(&format!("{key}.compression")) => {}
        (Some(_), None) => {
            resolver.problem(&format!("{key}.level"), format!("compression \"{name}\" has no levels"));
        }
        (Some(level), Some(levels)) if !levels.contains(&level) => {
            let message =
                format!("level {level} is out of range, {name} has {} to {}", levels.start(), levels.end());
            resolver.problem(&format!("{key}.level"), message);
        }
        _ => {}
    }
    Compression { codec, level: level.unwrap_or(default) }
}

/// The first pause and the longest.
fn pauses(resolver: &mut Resolver<'_>, key: &str, pauses: raw::Pauses) -> (Duration, Duration) {
    let raw::Pauses { initial, max } = pauses;
    if initial.0.as_millis() < 1 {
        resolver.problem(&format!("{key}.retry.initial"), "\"initial\" must be at least 1ms");
    }
    let sound = resolver.sound(&format!("{key}.retry"));
    if max < initial && sound {
        resolver.problem(
            &format!("{key}.retry.max"),
            format!("\"max\" ({max}) is below \"initial\" ({initial})"),
        );
    }
    (initial.0, max.0)
}

fn retry(resolver: &mut Resolver<'_>, key: &str, retry: &raw::Retry) -> Retry {
    let (initial, max) = pauses(resolver, key, retry.pauses);
    Retry {
        initial,
        max,
        give_up_after: retry.give_up_after.0,
        pause: matches!(retry.then, raw::Then::Pause),
    }
}

/// The obvious things about an object template.
fn template(resolver: &mut Resolver<'_>, key: &str, object: &str, partitions: Partitions) {
    let mut batch = false;
    let mut rest = object;
    while let Some(open) = rest.find(['{', '}']) {
        let (_, from) = rest.split_at(open);
        let Some((inside, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}')) else {
            resolver.problem(key, format!("object name {object:?} has a brace without its partner"));
            return;
        };
        rest = after;
        batch |= inside == "batch";
        let partition = inside.strip_prefix("partition.");
        if let (Some(_), Partitions::NoneOf(what)) = (partition, partitions) {
            resolver.problem(key, format!("{what} no partitions, {{{inside}}} would have no value"));
        } else if partition.is_some_and(|name| !names::is_name(name)) {
            resolver.problem(
                key,
                format!("{{{inside}}} is no valid partition name, expected {}", names::NAME_EXPECTED),
            );
        } else if partition.is_none() && !PLACEHOLDERS.contains(&inside) {
            let mut valid = PLACEHOLDERS.to_vec();
            if matches!(partitions, Partitions::Set) {
                valid.push("partition.NAME");
            }
            let hint = names::suggestion(inside, &valid);
            resolver.problem(key, format!("unknown placeholder {{{inside}}} in \"object\"{hint}"));
        }
    }
    if !batch {
        resolver.problem(key, "\"object\" must contain {batch}, or objects would overwrite each other");
    }
    if object.starts_with('/') || object.split('/').any(|part| matches!(part, "" | "." | "..")) {
        resolver.problem(key, "\"object\" must be a relative name without empty parts, `.` and `..`");
    }
}
