//! From raw keys to destinations that requests are sent to, and what such destinations cannot have.

use std::time::Duration;

use crate::raw;
use crate::resolve::Resolver;
use crate::secret::Secret;
use crate::settings::{
    Action, Codec, Compression, Destination, Endpoint, Format, HttpPost, OpenSearch, Output, Rotation,
    Splunk, SplunkEndpoint,
};
use crate::tables;
use crate::tree;

/// Of all records of a request; so many Firehose has.
const COMMON_ATTRIBUTES_MAX: usize = 50;
const ATTRIBUTE_NAME_MAX: usize = 256;
const ATTRIBUTE_VALUE_MAX: usize = 1024;
/// Longest name of an index, with room for a date behind it.
const INDEX_BYTES_MAX: usize = 240;
const ACKNOWLEDGED_WITHIN_MAX: Duration = Duration::from_secs(3600);

pub(crate) fn post(resolver: &mut Resolver<'_>, key: &str, http: raw::HttpPlace) -> HttpPost {
    let mut headers = Vec::with_capacity(http.headers.len());
    for (name, value) in http.headers {
        let key = format!("{key}.headers.{}", tree::segment(&name));
        let value = secret(resolver, &key, value);
        resolver.header(&key, &name, &value);
        headers.push((name, value));
    }
    if http.timeout.0.is_zero() || http.timeout.0.as_secs() > 3600 {
        resolver.problem(&format!("{key}.timeout"), "\"timeout\" must be above zero and at most 1h");
    }
    let ca = http.ca.map(|value| secret(resolver, &format!("{key}.ca"), value));
    HttpPost { url: http.url, headers, ca, timeout: http.timeout.0, reach: None }
}

pub(crate) fn secret(resolver: &mut Resolver<'_>, key: &str, value: raw::HeaderValue) -> Secret {
    match value {
        raw::HeaderValue::Plain(text) => Secret::new(text),
        raw::HeaderValue::Secret(source) => resolver.secret(key, &source),
    }
}

/// A POST as it is, or in the protocol of Firehose.
pub(crate) fn http(
    resolver: &mut Resolver<'_>,
    key: &str,
    of: raw::HttpOutput,
) -> (Destination, raw::Batching) {
    let raw::HttpOutput { place, protocol, access_key, common_attributes, source_arn, batching } = of;
    let post = post(resolver, key, place);
    let raw::HttpProtocol::Firehose = protocol else {
        let given = [
            ("access_key", access_key.is_some()),
            ("common_attributes", !common_attributes.is_empty()),
            ("source_arn", source_arn.is_some()),
        ];
        for (name, _) in given.iter().filter(|(_, is_given)| *is_given) {
            let message = format!("\"{name}\" has an effect with protocol = \"firehose\" alone");
            resolver.problem(&format!("{key}.{name}"), message);
        }
        return (Destination::Http(post), batching);
    };
    if common_attributes.len() > COMMON_ATTRIBUTES_MAX {
        let found = common_attributes.len();
        let message = format!("{found} common attributes, the limit is {COMMON_ATTRIBUTES_MAX}");
        resolver.problem(&format!("{key}.common_attributes"), message);
    }
    for (name, value) in &common_attributes {
        if !(1..=ATTRIBUTE_NAME_MAX).contains(&name.chars().count())
            || value.chars().count() > ATTRIBUTE_VALUE_MAX
        {
            let message = format!(
                "a common attribute has a name of 1 to {ATTRIBUTE_NAME_MAX} characters and a value of at most {ATTRIBUTE_VALUE_MAX}"
            );
            resolver.problem(&format!("{key}.common_attributes.{}", tree::segment(name)), message);
        }
    }
    let access_key = access_key.map(|value| secret(resolver, &format!("{key}.access_key"), value));
    let endpoint = Endpoint { post, source_arn, access_key, common_attributes };
    (Destination::Endpoint(endpoint), batching)
}

pub(crate) fn splunk(
    resolver: &mut Resolver<'_>,
    key: &str,
    of: raw::SplunkOutput,
) -> (Destination, raw::Batching) {
    let raw::SplunkOutput { place, endpoint, token, acknowledged_within, batching } = of;
    let post = post(resolver, key, place);
    let token = secret(resolver, &format!("{key}.token"), token);
    if acknowledged_within.0.is_zero() || acknowledged_within.0 > ACKNOWLEDGED_WITHIN_MAX {
        resolver.problem(
            &format!("{key}.acknowledged_within"),
            "\"acknowledged_within\" must be above zero and at most 1h",
        );
    }
    let endpoint = match endpoint {
        raw::SplunkEndpoint::Event => SplunkEndpoint::Event,
        raw::SplunkEndpoint::Raw => SplunkEndpoint::Raw,
    };
    let acknowledged_within = acknowledged_within.0;
    (Destination::Splunk(Splunk { post, endpoint, token, acknowledged_within }), batching)
}

pub(crate) fn open_search(
    resolver: &mut Resolver<'_>,
    key: &str,
    of: raw::OpenSearchOutput,
) -> (Destination, raw::Batching) {
    let raw::OpenSearchOutput { place, index, rotation, action, document_ids, batching } = of;
    let post = post(resolver, key, place);
    let allowed =
        |c: char| !c.is_uppercase() && !c.is_control() && !c.is_whitespace() && !"\\/*?\"<>|,#:".contains(c);
    let begins = |index: &str| !index.starts_with(['-', '_', '+']) && ![".", ".."].contains(&index);
    if !(1..=INDEX_BYTES_MAX).contains(&index.len()) || !index.chars().all(allowed) || !begins(&index) {
        let message = format!(
            "{index:?} is no name of an index, expected 1 to {INDEX_BYTES_MAX} characters, no upper case, none of \
             \\/*?\"<>|,#: and spaces, and not - _ + at the beginning"
        );
        resolver.problem(&format!("{key}.index"), message);
    }
    let rotation = match rotation {
        raw::Rotation::None => Rotation::None,
        raw::Rotation::Hour => Rotation::Hour,
        raw::Rotation::Day => Rotation::Day,
        raw::Rotation::Week => Rotation::Week,
        raw::Rotation::Month => Rotation::Month,
    };
    let action = match action {
        raw::Action::Index => Action::Index,
        raw::Action::Create => Action::Create,
    };
    (Destination::OpenSearch(OpenSearch { post, index, rotation, action, document_ids }), batching)
}

/// Whether this output can take what others give up.
pub(crate) fn as_fallback(resolver: &mut Resolver<'_>, key: &str, output: &Output) {
    tables::as_fallback(resolver, key, output);
    if output.destination.takes_records() {
        let name = &output.name;
        let message =
            format!("output {name:?} takes records one by one, and cannot take what others give up");
        resolver.problem(key, message);
    }
    if matches!(output.destination, Destination::Redshift(_)) {
        let name = &output.name;
        let message =
            format!("output {name:?} loads objects of its own format, and cannot take what others give up");
        resolver.problem(key, message);
    }
}

/// What destinations that take records one by one cannot have.
pub(crate) fn fits(
    resolver: &mut Resolver<'_>,
    key: &str,
    destination: &Destination,
    (format, compression, size): (Format, Compression, u64),
) {
    let (what, formats, codecs, size_max): (_, &[Format], &[Codec], u64) = match destination {
        Destination::Endpoint(_) => (
            "protocol \"firehose\"",
            &[Format::Verbatim, Format::Raw, Format::Ndjson],
            &[Codec::None, Codec::Gzip],
            64 << 20,
        ),
        Destination::Splunk(_) => {
            ("output \"splunk\"", &[Format::Verbatim, Format::Raw, Format::Ndjson], &[Codec::None], 64 << 20)
        }
        Destination::OpenSearch(_) => ("output \"opensearch\"", &[Format::Ndjson], &[Codec::None], 100 << 20),
        Destination::Directory(_)
        | Destination::S3(_)
        | Destination::Http(_)
        | Destination::Redshift(_)
        | Destination::Iceberg(_)
        | Destination::Stdout => return,
    };
    if !formats.contains(&format) {
        let message = match formats {
            [Format::Ndjson] => format!("{what} takes documents, expected format \"ndjson\""),
            _ => format!(
                "{what} takes records one by one, expected format \"verbatim\", \"raw\" or \"ndjson\""
            ),
        };
        resolver.problem(&format!("{key}.format"), message);
    }
    if !codecs.contains(&compression.codec) {
        let message = match codecs {
            [Codec::None] => format!("{what} sends requests that are not compressed"),
            _ => format!("{what} knows compression \"gzip\" and \"none\" alone"),
        };
        resolver.problem(&format!("{key}.compression"), message);
    }
    if size > size_max {
        resolver.problem(
            &format!("{key}.size"),
            format!("\"size\" must be at most {}MiB for {what}", size_max >> 20),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Settings;

    fn read(output: &str) -> Result<Settings, String> {
        let text = format!("[streams.s]\nsource = {{ type = \"http\" }}\noutputs = [{{ {output} }}]\n");
        let environment = |name: &str| (name == "SET").then(|| "sesame".to_owned());
        Settings::from_toml_with(&text, Path::new("wasmill.toml"), &environment)
            .map_err(|error| error.to_string())
    }

    fn destination(output: &str) -> Destination {
        read(output).unwrap().streams[0].outputs[0].destination.clone()
    }

    #[test]
    fn http_output_speaks_the_protocol_of_firehose_where_it_is_told_to() {
        let place = "type = \"http\", url = \"https://a.example/x?token=s3cr3t\"";
        let Destination::Endpoint(endpoint) = destination(&format!(
            "{place}, protocol = \"firehose\", access_key = {{ env = \"SET\" }}, common_attributes = {{ a = \"b\" }}, \
             compression = \"gzip\", format = \"verbatim\""
        )) else {
            panic!()
        };
        assert_eq!(endpoint.access_key.as_ref().map(Secret::reveal), Some("sesame"));
        assert_eq!((endpoint.source_arn.as_ref(), endpoint.common_attributes["a"].as_str()), (None, "b"));
        let shown = format!("{endpoint:?}");
        assert!(!shown.contains("sesame") && !shown.contains("s3cr3t"), "{shown}");
        assert!(matches!(destination(place), Destination::Http(_)));
        let long = "v".repeat(1025);
        for (more, part) in [
            ("access_key = \"k\"", "protocol = \"firehose\" alone"),
            ("common_attributes = { a = \"b\" }", "protocol = \"firehose\" alone"),
            ("source_arn = \"arn:x\"", "protocol = \"firehose\" alone"),
            ("protocol = \"fire\"", "protocol"),
            ("protocol = \"firehose\", format = \"json-array\"", "one by one"),
            ("protocol = \"firehose\", compression = \"zstd\"", "gzip"),
            ("protocol = \"firehose\", size = \"65MiB\"", "at most 64MiB"),
            (&format!("protocol = \"firehose\", common_attributes = {{ a = \"{long}\" }}"), "at most 1024"),
        ] {
            let told = read(&format!("{place}, {more}")).unwrap_err();
            assert!(told.contains(part), "{more}: {told}");
        }
    }

    #[test]
    fn splunk_has_a_token_and_waits_for_acknowledgements() {
        let place = "type = \"splunk\", url = \"https://splunk.example:8088\"";
        let Destination::Splunk(splunk) =
            destination(&format!("{place}, endpoint = \"raw\", token = {{ env = \"SET\" }}"))
        else {
            panic!()
        };
        assert_eq!((splunk.endpoint, splunk.token.reveal()), (SplunkEndpoint::Raw, "sesame"));
        assert_eq!(splunk.acknowledged_within, Duration::from_secs(180));
        for (more, part) in [
            ("format = \"raw\"", "token"),
            ("token = \"t\", endpoint = \"event2\"", "endpoint"),
            ("token = \"t\", acknowledged_within = \"0s\"", "above zero"),
            ("token = \"t\", compression = \"gzip\"", "not compressed"),
        ] {
            let told = read(&format!("{place}, {more}")).unwrap_err();
            assert!(told.contains(part), "{more}: {told}");
        }
    }

    #[test]
    fn opensearch_has_an_index_of_a_name_that_clusters_take() {
        let place = "type = \"opensearch\", url = \"https://search.example\"";
        let Destination::OpenSearch(cluster) = destination(&format!(
            "{place}, index = \"logs.app-1\", rotation = \"week\", action = \"create\", document_ids = false"
        )) else {
            panic!()
        };
        assert_eq!(
            (cluster.rotation, cluster.action, cluster.document_ids),
            (Rotation::Week, Action::Create, false)
        );
        for (more, part) in [
            ("rotation = \"day\"", "index"),
            ("index = \"Logs\"", "no upper case"),
            ("index = \"_logs\"", "at the beginning"),
            ("index = \"a b\"", "spaces"),
            ("index = \"..\"", "no name of an index"),
            ("index = \"a\", format = \"raw\"", "ndjson"),
            ("index = \"a\", rotation = \"year\"", "rotation"),
        ] {
            let told = read(&format!("{place}, {more}")).unwrap_err();
            assert!(told.contains(part), "{more}: {told}");
        }
    }
}
