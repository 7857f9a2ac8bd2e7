//! From raw keys to a table of Redshift, and what such an output cannot have.
//!
//! Whether names of tables are names is said by `deliver`, which makes statements of them.

use std::time::Duration;

use crate::outputs::{object, s3_destination};
use crate::raw;
use crate::requests::secret;
use crate::resolve::Resolver;
use crate::secret::Secret;
use crate::settings::{
    Codec, Compression, CopyAuthorization, Destination, Format, Output, Redshift, TlsMode,
};

/// As long as those that Firehose takes.
const COPY_OPTIONS_MAX: usize = 204_800;
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
const COLUMNS_MAX: usize = 1600;
const TEXT_MAX: usize = 256;

pub(crate) fn destination(
    resolver: &mut Resolver<'_>,
    key: &str,
    of: raw::RedshiftOutput,
) -> (Destination, raw::Batching) {
    let named = object(resolver, key, of.object, of.firehose, crate::outputs::Partitions::Set);
    let placed = s3_destination(resolver, key, of.place, named);
    let Destination::S3(s3) = placed else { return (Destination::Stdout, of.batching) };
    if !is_plain(&s3.prefix) {
        resolver.problem(
            &format!("{key}.prefix"),
            "\"prefix\" must have no backslashes and control characters here",
        );
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if of.host.is_empty() || of.host.len() > TEXT_MAX || !of.host.chars().all(is_host) {
        let message = format!("{:?} is no name or address of a host; the port has a key of its own", of.host);
        resolver.problem(&format!("{key}.host"), message);
    }
    for (name, text) in [("database", &of.database), ("user", &of.user)] {
        if text.is_empty() || text.len() > TEXT_MAX || text.contains('\0') {
            let message = format!("{name:?} must have 1 to {TEXT_MAX} characters");
            resolver.problem(&format!("{key}.{name}"), message);
        }
    }
    let password = secret(resolver, &format!("{key}.password"), of.password);
    let ca = of.ca.map(|value| secret(resolver, &format!("{key}.ca"), value));
    if of.columns.len() > COLUMNS_MAX {
        resolver.problem(
            &format!("{key}.columns"),
            format!("more than {COLUMNS_MAX} columns, which no table has"),
        );
    }
    let credentials = of.credentials.map(|value| secret(resolver, &format!("{key}.credentials"), value));
    let authorization = authorization(resolver, key, of.iam_role, credentials);
    if of.timeout.0 < Duration::from_secs(1) || of.timeout.0 > TIMEOUT_MAX {
        resolver.problem(&format!("{key}.timeout"), "\"timeout\" must be from 1s to 24h");
    }
    let kept = of.batches_kept;
    if kept <= of.batching.retry.give_up_after && resolver.sound(&format!("{key}.retry")) {
        let message = format!(
            "\"batches_kept\" ({kept}) must be longer than a batch is tried, \"for\" of \"retry\" ({})",
            of.batching.retry.give_up_after
        );
        resolver.problem(&format!("{key}.batches_kept"), message);
    }
    let redshift = Redshift {
        s3,
        host: of.host,
        port: of.port,
        database: of.database,
        user: of.user,
        password,
        tls: match of.tls {
            raw::TlsMode::VerifyFull => TlsMode::VerifyFull,
            raw::TlsMode::Require => TlsMode::Require,
            raw::TlsMode::Disable => TlsMode::Disable,
        },
        ca,
        table: of.table,
        columns: of.columns,
        copy_options: of.copy_options,
        authorization,
        batches_table: of.batches_table,
        batches_kept: of.batches_kept.0,
        timeout: of.timeout.0,
        reach: None,
    };
    (Destination::Redshift(Box::new(redshift)), of.batching)
}

/// One of the two ways in which Redshift may read the bucket. Both become literals of SQL.
fn authorization(
    resolver: &mut Resolver<'_>,
    key: &str,
    role: Option<String>,
    credentials: Option<Secret>,
) -> CopyAuthorization {
    match (role, credentials) {
        (Some(role), None) if role.eq_ignore_ascii_case("default") => CopyAuthorization::DefaultRole,
        (Some(role), None) => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || ":/+=,.@_-".contains(c);
            if !role.starts_with("arn:") || !role.chars().all(allowed) {
                let message = format!(
                    "{role:?} is no ARN of a role, expected arn:aws:iam::ACCOUNT:role/NAME or default"
                );
                resolver.problem(&format!("{key}.iam_role"), message);
            }
            CopyAuthorization::Role(role)
        }
        (None, Some(credentials)) => {
            if !is_plain(credentials.reveal()) {
                let message =
                    "\"credentials\" has a backslash or a control character, which no credentials have";
                resolver.problem(&format!("{key}.credentials"), message);
            }
            CopyAuthorization::Credentials(credentials)
        }
        (Some(role), Some(_)) => {
            resolver.problem(
                &format!("{key}.credentials"),
                "\"credentials\" and \"iam_role\": take one of the two away",
            );
            CopyAuthorization::Role(role)
        }
        (None, None) => {
            if resolver.sound(key) {
                let message = "Redshift needs \"iam_role\" or \"credentials\" to read the bucket";
                resolver.problem(key, message);
            }
            CopyAuthorization::DefaultRole
        }
    }
}

/// Whether it can stand in a literal that all servers read alike.
fn is_plain(text: &str) -> bool {
    !text.contains('\\') && !text.chars().any(char::is_control)
}

/// The options of COPY as a whole, and what objects for it cannot be.
pub(crate) fn settle(resolver: &mut Resolver<'_>, key: &str, output: &mut Output) {
    let (format, compression) = (output.format, output.compression);
    let Destination::Redshift(redshift) = &mut output.destination else { return };
    if !matches!(format, Format::Verbatim | Format::Raw | Format::Ndjson) {
        let message = "output \"redshift\" loads text, expected format \"ndjson\", \"raw\" or \"verbatim\"";
        resolver.problem(&format!("{key}.format"), message);
    }
    if !matches!(compression.codec, Codec::None | Codec::Gzip | Codec::Zstd) {
        let message = "COPY reads compression \"none\", \"gzip\" and \"zstd\"";
        resolver.problem(&format!("{key}.compression"), message);
    }
    let written = redshift.copy_options.trim();
    let options_key = format!("{key}.copy_options");
    if written.contains(';') {
        let message = "\"copy_options\" must not have ; in it: it would end the statement; as a delimiter write it '\\073'";
        resolver.problem(&options_key, message);
    }
    if written.len() > COPY_OPTIONS_MAX || written.contains('\0') {
        resolver.problem(
            &options_key,
            format!("\"copy_options\" must have at most {COPY_OPTIONS_MAX} characters"),
        );
    }
    let words = words(written);
    let has = |word: &str| words.iter().any(|other| other.eq_ignore_ascii_case(word));
    if has("noload") {
        let message = "NOLOAD checks rows and loads none: the records would be lost";
        resolver.problem(&options_key, message);
    }
    if has("manifest") {
        resolver.problem(&options_key, "MANIFEST is there already: every COPY is of a manifest");
    }
    for word in ["iam_role", "credentials", "access_key_id"].into_iter().filter(|word| has(word)) {
        let message = format!(
            "{} has no place in \"copy_options\": set \"iam_role\" or \"credentials\"",
            word.to_uppercase()
        );
        resolver.problem(&options_key, message);
    }
    let compressed = compressed(compression);
    for word in ["gzip", "zstd", "bzip2", "lzop"].into_iter().filter(|word| has(word)) {
        if compressed.is_none_or(|own| !own.eq_ignore_ascii_case(word)) {
            let message = format!("{} does not fit the compression of the objects", word.to_uppercase());
            resolver.problem(&options_key, message);
        }
    }
    let mut options = Vec::new();
    options.extend(compressed.filter(|own| !has(own)));
    match written {
        "" if format == Format::Ndjson => options.push("JSON 'auto'"),
        "" => {}
        written => options.push(written),
    }
    redshift.copy_options = options.join(" ");
}

fn compressed(compression: Compression) -> Option<&'static str> {
    match compression.codec {
        Codec::Gzip => Some("GZIP"),
        Codec::Zstd => Some("ZSTD"),
        _ => None,
    }
}

/// What stands outside of quotes.
fn words(options: &str) -> Vec<&str> {
    let outside = options.split('\'').step_by(2);
    outside.flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_')).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Settings;

    const PLACE: &str = "type = \"redshift\", bucket = \"lake\", host = \"w.example\", database = \"dev\", \
        user = \"u\", table = \"public.events\"";

    fn read(more: &str) -> Result<Redshift, String> {
        let text =
            format!("[streams.s]\nsource = {{ type = \"http\" }}\noutputs = [{{ {PLACE}, {more} }}]\n");
        let environment = |name: &str| (name == "SET").then(|| "sesame".to_owned());
        let settings = Settings::from_toml_with(&text, Path::new("wasmill.toml"), &environment);
        match settings.map_err(|error| error.to_string())?.streams[0].outputs[0].destination.clone() {
            Destination::Redshift(redshift) => Ok(*redshift),
            other => panic!("{other:?}"),
        }
    }

    const LOG_IN: &str = "password = { env = \"SET\" }, iam_role = \"arn:aws:iam::1:role/r\"";

    #[test]
    fn options_of_copy_say_format_and_compression() {
        for (more, options) in [
            ("", "GZIP JSON 'auto'"),
            ("compression = \"zstd\"", "ZSTD JSON 'auto'"),
            ("compression = \"none\", copy_options = \" JSON 'noshred' \"", "JSON 'noshred'"),
            ("format = \"raw\", copy_options = \"csv gzip\"", "csv gzip"),
            ("format = \"raw\", copy_options = \"DELIMITER ' gzip '\"", "GZIP DELIMITER ' gzip '"),
            ("format = \"raw\"", "GZIP"),
        ] {
            assert_eq!(read(&format!("{LOG_IN}, {more}")).unwrap().copy_options, options, "{more}");
        }
        let read = read(LOG_IN).unwrap();
        assert_eq!((read.port, read.tls, read.password.reveal()), (5439, TlsMode::VerifyFull, "sesame"));
        assert_eq!(
            (read.batches_table.as_str(), read.timeout),
            ("wasmill_batches", Duration::from_secs(900))
        );
        assert!(!format!("{read:?}").contains("sesame"));
    }

    #[test]
    fn port_is_one_from_1_to_65535() {
        let of = |port: &str| read(&format!("{LOG_IN}, port = {port}"));
        assert_eq!(of("5440").unwrap().port, 5440);
        for wrong in ["0", "70000", "-1"] {
            let told = of(wrong).unwrap_err();
            let wanted = format!("\"port\" is the integer {wrong}, expected an integer from 1 to 65535");
            assert!(told.contains(&wanted), "{told}");
        }
    }

    #[test]
    fn what_cannot_be_loaded_is_refused() {
        for (more, part) in [
            ("iam_role = \"default\"", "password"),
            ("password = \"p\"", "needs \"iam_role\" or \"credentials\""),
            ("password = \"p\", iam_role = \"role'; DROP TABLE a; --\"", "no ARN of a role"),
            (&format!("{LOG_IN}, credentials = \"c\""), "take one of the two away"),
            ("password = \"p\", credentials = \"a\\\\b\"", "backslash"),
            (&format!("{LOG_IN}, copy_options = \"CSV; DROP TABLE a\""), "must not have ;"),
            (&format!("{LOG_IN}, copy_options = \"NOLOAD\""), "would be lost"),
            (&format!("{LOG_IN}, copy_options = \"JSON 'auto' manifest\""), "MANIFEST is there already"),
            (&format!("{LOG_IN}, copy_options = \"IAM_ROLE 'x'\""), "no place"),
            (&format!("{LOG_IN}, copy_options = \"BZIP2\""), "does not fit the compression"),
            (
                &format!("{LOG_IN}, compression = \"none\", copy_options = \"GZIP\""),
                "does not fit the compression",
            ),
            (&format!("{LOG_IN}, format = \"json-array\""), "loads text"),
            (&format!("{LOG_IN}, format = \"parquet\""), "redshift"),
            (&format!("{LOG_IN}, compression = \"zip\""), "COPY reads"),
            (&format!("{LOG_IN}, tls = \"prefer\""), "tls"),
            (&format!("{LOG_IN}, timeout = \"0s\""), "from 1s to 24h"),
            (&format!("{LOG_IN}, batches_kept = \"1h\""), "longer than a batch is tried"),
        ] {
            let told = read(more).unwrap_err();
            assert!(told.contains(part), "{more}: {told}");
        }
        let text =
            format!("[streams.s]\nsource = {{ type = \"http\" }}\noutputs = [{{ {PLACE}, {LOG_IN} }}]\n");
        let text = text.replace("w.example", "w.example/dev");
        let told =
            Settings::from_toml_with(&text, Path::new("w.toml"), &|_| Some("x".to_owned())).unwrap_err();
        assert!(told.to_string().contains("no name or address of a host"), "{told}");
    }
}
