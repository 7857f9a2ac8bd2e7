//! `wasmill plugin push`: a plugin file, uploaded to a running host.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::signing;

use crate::cli::host_client::{AtHost, HostClient};
use crate::cli::output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Streams that follow the plugin take it between two slices, once it has passed their probes. Where the \
    plugin directory has a file of the name, that goes before, and the upload is refused. Signatures in FILE.sig go along.\n\n\
    Examples:\n  \
    wasmill plugin push parse.wasm\n  \
    wasmill plugin push --name mine mine.wasm --host https://wasmill:7070"
)]
pub(in crate::cli) struct Arguments {
    /// The component
    file: PathBuf,
    /// The plugin's name, of a file without a manifest
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    at: AtHost,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wasm = super::read(&arguments.file)?;
    let pairs: Vec<(&str, String)> = arguments.name.iter().map(|name| ("name", name.clone())).collect();
    let signatures: Vec<(&'static str, String)> = signing::beside(&arguments.file)?
        .lines()
        .map(|line| ("wasmill-signature", line.to_owned()))
        .collect();
    arguments.at.with(
        async |client: &HostClient| client.upload_with("/v1/plugins", &pairs, &signatures, wasm).await,
        |answer| {
            let text = |name: &str| output::plain(answer[name].as_str().unwrap_or("-"));
            Ok(format!("{}@{}\n", text("plugin"), text("digest")))
        },
    )
}
