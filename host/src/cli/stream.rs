//! `wasmill stream apply|get|list|delete`: the streams of a running host that are made over HTTP.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use super::host_client::{AtHost, HostClient, Refused, stream_path};
use super::{input, output};

/// A host takes no longer one.
const BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a stream, or replace it by another definition
    #[command(
        after_help = "The definition is JSON of what the table [streams.NAME] of the configuration would have. A stream \
        that is replaced delivers what it has stored first. Somebody else's change in between is not overwritten: the \
        command fails then, and can be run again.\n\n\
        Examples:\n  \
        wasmill stream apply events events.json\n  \
        wasmill stream get events --definition | jq '.outputs[0].interval = \"10s\"' | wasmill stream apply events -\n  \
        wasmill stream apply --dry-run events events.json --host https://wasmill:7070"
    )]
    Apply {
        name: String,
        /// The definition (JSON); - for standard input
        file: PathBuf,
        /// Only check it
        #[arg(long)]
        dry_run: bool,
        /// How long to wait for what is stored to be delivered, such as 30s, 5m
        #[arg(long, value_name = "TIME", default_value = "30s")]
        within: String,
        #[command(flatten)]
        at: AtHost,
    },
    /// Show a stream: its definition, whose it is and how it is
    Get {
        name: String,
        /// Only the definition
        #[arg(long)]
        definition: bool,
        #[command(flatten)]
        at: AtHost,
    },
    /// List the streams
    List {
        #[command(flatten)]
        at: AtHost,
    },
    /// Remove a stream, once everything is delivered and no dead letter is kept
    Delete {
        name: String,
        /// With what is not delivered, and its dead letters
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        at: AtHost,
    },
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Apply { name, file, dry_run, within, at } => {
            let definition = read(file)?;
            let ask = async |client: &HostClient| apply(client, name, &definition, *dry_run, within).await;
            at.with(ask, |answer| {
                Ok(match answer["would"].as_str() {
                    Some("nothing") => format!("stream {} is defined so already\n", output::plain(name)),
                    Some(would) => format!("stream {} can be applied: {would}\n", output::plain(name)),
                    None => line(answer),
                })
            })
        }
        Command::Get { name, definition, at } => at.with(
            async |client: &HostClient| client.ask(Method::GET, &stream_path(name), &[]).await,
            |answer| {
                let shown = if *definition { &answer["definition"] } else { answer };
                Ok(format!("{shown:#}\n"))
            },
        ),
        Command::List { at } => at.with(
            async |client: &HostClient| client.ask(Method::GET, "/v1/streams", &[]).await,
            |answer| Ok(answer.as_array().into_iter().flatten().map(line).collect()),
        ),
        Command::Delete { name, force, at } => {
            let pairs: Vec<(&str, String)> =
                force.then(|| ("force", "true".to_owned())).into_iter().collect();
            at.with(
                async |client: &HostClient| client.ask(Method::DELETE, &stream_path(name), &pairs).await,
                |_deleted: &Value| Ok(format!("stream {} is removed\n", output::plain(name))),
            )
        }
    }
}

async fn apply(
    client: &HostClient,
    name: &str,
    definition: &Value,
    dry_run: bool,
    within: &str,
) -> Result<Value> {
    let path = stream_path(name);
    let before: Option<Value> = match client.ask(Method::GET, &path, &[]).await {
        Ok(before) => Some(before),
        Err(error) if error.downcast_ref::<Refused>().is_some_and(|why| why.code == "no_stream") => None,
        Err(error) => return Err(error),
    };
    let version = before.as_ref().map(|before| before["version"].clone());
    let condition = match version {
        None => ("if-none-match", "*".to_owned()),
        Some(version) => ("if-match", format!("\"{version}\"")),
    };
    let mut pairs = vec![("within", within.to_owned())];
    pairs.extend(dry_run.then(|| ("dry_run", "true".to_owned())));
    client.put(&path, &pairs, &condition, definition).await
}

fn read(file: &Path) -> Result<Value> {
    let text = input::read(file, BYTES_MAX)?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()))
}

fn line(stream: &Value) -> String {
    let version =
        stream["version"].as_u64().map(|version| format!(", version {version}")).unwrap_or_default();
    let reason = stream["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    output::plain(&format!(
        "{:<20} {} (of the {}{version}){reason}",
        stream["name"].as_str().unwrap_or("-"),
        stream["state"].as_str().unwrap_or("-"),
        if stream["owner"] == "file" { "file" } else { "API" },
    )) + "\n"
}
