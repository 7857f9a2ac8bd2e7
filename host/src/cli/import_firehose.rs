//! `wasmill import-firehose`: a stream of Amazon Data Firehose as a stream of this host.
//!
//! It reads what `aws firehose describe-delivery-stream` prints, and asks nothing of AWS. The stream goes to stdout, as a part
//! of a configuration, or to a running host; what is not carried over goes to stderr, a line each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use wasmill_config::Draft;

use super::host_client::{AtHost, HostClient};
use super::{EXIT_USAGE, check, input, output};
use crate::api::{Functions, Migrated, migrate};
use crate::pipeline::FirehoseSettings;

/// A description is a few kilobytes.
const BYTES_MAX: u64 = 1 << 20;
/// Where the configuration is, if nobody says so.
const CONFIG: &str = "wasmill.toml";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The definition is what AWS's command line prints of a stream; nothing is asked of AWS. It is printed as a table \
    of the configuration, with --json as `wasmill stream apply` takes it, or made on a running host with --create, as if its API \
    were asked by CreateDeliveryStream. What the host does not have is said on stderr, line by line, with the reason. A Lambda \
    function becomes a plugin of its name. The [firehose] table of the configuration, if there is one, says where buckets are, \
    and which columns the tables of record format conversions have.\n\n\
    Examples:\n  \
    aws firehose describe-delivery-stream --delivery-stream-name clicks > clicks.json\n  \
    wasmill import-firehose clicks.json >> wasmill.toml\n  \
    wasmill import-firehose clicks.json --plugin EnrichClicks=enrich-clicks --plugin Audit= > clicks.toml\n  \
    wasmill import-firehose clicks.json --create --host https://wasmill:7070"
)]
pub(super) struct Arguments {
    /// The definition (JSON); - for standard input
    file: PathBuf,
    /// Make it on a running host
    #[arg(long)]
    create: bool,
    /// What the stream is called here
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The plugin that stands for a Lambda function; nothing behind the sign leaves the function out. Several times
    #[arg(long, value_name = "FUNCTION=PLUGIN", value_parser = function)]
    plugin: Vec<(String, String)>,
    #[command(flatten)]
    at: AtHost,
}

fn function(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((function, plugin)) if !function.is_empty() => Ok((function.to_owned(), plugin.to_owned())),
        _ => Err("expected FUNCTION=PLUGIN, or FUNCTION= to leave it out".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let at = &arguments.at;
    if at.names_host() && !arguments.create {
        bail!("--host is asked for nothing without --create");
    }
    let text = input::read(&arguments.file, BYTES_MAX)?;
    let is_there = at.config().exists() || at.config() != Path::new(CONFIG);
    // One that is still without streams is not yet good, and says where buckets are.
    let draft = match is_there && !at.names_host() {
        false => None,
        true => match Draft::load(at.config()) {
            Ok(draft) => Some(draft),
            Err(error) => return Ok(check::refuse(&error)),
        },
    };
    if let Some(draft) = draft.as_ref().filter(|draft| !draft.sound("firehose") || !draft.sound("plugin_dir"))
    {
        check::complain(draft.problems());
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let settings = draft.as_ref().map(Draft::settings);
    let firehose = settings.map_or_else(aws, |settings| settings.firehose.clone());
    let functions: Functions = arguments.plugin.iter().cloned().collect();
    let refused = || format!("{} cannot become a stream of this host", arguments.file.display());
    let mut found = migrate(&text, &functions, arguments.name.as_deref()).with_context(refused)?;
    // A running host knows by itself what it has.
    let definition = match arguments.create {
        true => None,
        false => Some(found.definition(&firehose).with_context(refused)?),
    };
    for left in &found.left {
        tell(&format!("{}: {}", left.what, left.why));
    }
    let Some(definition) = definition else { return create(&found, at) };
    for plugin in missing(&definition, settings.map(|settings| settings.plugin_dir.as_path())) {
        tell(&plugin);
    }
    match at.json() {
        true => output::print_json(&definition),
        false => output::print(&table(&found, &definition)?),
    }
}

/// Buckets of AWS; the region is that of the stream.
fn aws() -> FirehoseSettings {
    FirehoseSettings {
        region: "us-east-1".to_owned(),
        account: "000000000000".to_owned(),
        endpoint: None,
        path_style: false,
        kinesis_endpoint: None,
        encrypted_disk: false,
        schemas: BTreeMap::new(),
    }
}

fn tell(line: &str) {
    output::complain(format_args!("not carried over: {}", output::plain(line)));
}

fn create(found: &Migrated, at: &AtHost) -> Result<ExitCode> {
    let ask = async |client: &HostClient| client.firehose("CreateDeliveryStream", &found.request).await;
    at.with(ask, |answer| {
        Ok(format!(
            "stream {} is made: {}\n",
            output::plain(&found.name),
            output::plain(answer["DeliveryStreamARN"].as_str().unwrap_or_default())
        ))
    })
}

/// Plugins that no file in the directory is named after, where it is known; a running host says so by itself.
fn missing(definition: &Value, dir: Option<&Path>) -> Vec<String> {
    let transforms = definition["transforms"].as_array().into_iter().flatten();
    let named = transforms.filter_map(|transform| transform["plugin"].as_str());
    let names = named.map(|plugin| plugin.split_once('@').map_or(plugin, |(name, _)| name));
    let Some(dir) = dir else { return Vec::new() };
    let absent = names.filter(|name| !dir.join(format!("{name}.wasm")).is_file());
    absent
        .map(|name| {
            format!(
                "plugin {name:?}: there is no {name}.wasm in {}; the stream does not start without it",
                dir.display()
            )
        })
        .collect()
}

/// As a configuration has it.
fn table(found: &Migrated, definition: &Value) -> Result<String> {
    let tables = json!({ "streams": { &found.name: definition } });
    let text = toml::to_string(&tables).context("write TOML")?;
    let from = found.arn.as_deref().map(output::plain).unwrap_or_default();
    Ok(format!("# As {from} was defined.\n{}\n", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use wasmill_config::Settings;

    use super::*;

    const CLICKS: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/firehose-migration/clickstream.json");

    fn example(functions: &[(&str, &str)]) -> (Migrated, Value) {
        let functions = functions.iter().map(|(name, plugin)| ((*name).to_owned(), (*plugin).to_owned()));
        let text = input::read(Path::new(CLICKS), BYTES_MAX).unwrap();
        let mut found = migrate(&text, &functions.collect(), None).unwrap();
        let definition = found.definition(&aws()).unwrap();
        (found, definition)
    }

    #[test]
    fn what_is_printed_is_a_stream_of_a_configuration() {
        let (found, definition) = example(&[("clickstream-mask-addresses", "")]);
        let text = table(&found, &definition).unwrap();
        let settings = Settings::from_toml(&text, Path::new("wasmill.toml")).unwrap();
        let [stream] = &settings.streams[..] else { panic!("{text}") };
        // The bucket of records as they came in is one more.
        assert_eq!((stream.name.as_str(), stream.outputs.len(), stream.backup), ("clickstream", 2, Some(1)));
        let plugins: Vec<&str> =
            stream.transforms.iter().map(|transform| transform.plugin.name.as_str()).collect();
        assert_eq!(plugins, ["unpack", "jq"]);
        assert_eq!(definition["outputs"][0]["region"], "eu-west-1");
        assert_eq!(definition["backup"]["bucket"], "clickstream-raw");
        // Something may follow in the file.
        assert!(text.starts_with("# As arn:aws:firehose:eu-west-1:") && text.ends_with('\n'), "{text}");
    }

    #[test]
    fn plugins_that_are_not_there_are_named_where_that_is_known() {
        let dir = tempfile::tempdir().unwrap();
        for there in ["unpack.wasm", "jq.wasm"] {
            std::fs::write(dir.path().join(there), "").unwrap();
        }
        let (_, definition) = example(&[]);
        let told = missing(&definition, Some(dir.path()));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("plugin \"clickstream-mask-addresses\": there is no"), "{told:?}");
        assert_eq!(missing(&definition, None), [""; 0]);
    }
}
