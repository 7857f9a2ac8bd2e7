//! `wasmill tenant create|list|delete`: the tenants of a running host, for operators.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::host_client::{AtHost, HostClient, Refused, encoded};
use super::output;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a tenant
    #[command(after_help = "Examples:\n  \
        wasmill tenant create team-a --host https://wasmill:7070\n  \
        wasmill key create --tenant team-a --name boss --scope admin --host https://wasmill:7070")]
    Create {
        /// 1 to 64 letters, digits, - and _
        name: String,
        #[command(flatten)]
        at: AtHost,
    },
    /// List the tenants
    List {
        #[command(flatten)]
        at: AtHost,
    },
    /// Remove a tenant with its keys; one that has streams is refused, and its keys stay disabled
    Delete {
        name: String,
        #[command(flatten)]
        at: AtHost,
    },
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Create { name, at } => {
            let body = json!({ "name": name });
            at.with(
                async |client: &HostClient| client.post("/v1/tenants", &body).await,
                |answer| Ok(line(&answer["tenant"])),
            )
        }
        Command::List { at } => at.with(
            async |client: &HostClient| client.ask(Method::GET, "/v1/tenants", &[]).await,
            |answer| Ok(answer["tenants"].as_array().into_iter().flatten().map(line).collect()),
        ),
        Command::Delete { name, at } => {
            let path = format!("/v1/tenants/{}", encoded(name));
            let ask = async |client: &HostClient| {
                // One that may not be removed is not cut off either.
                match client.ask(Method::DELETE, &path, &[]).await {
                    Err(error)
                        if error.downcast_ref::<Refused>().is_some_and(|why| why.code == "not_disabled") =>
                    {
                        let _disabled: Value =
                            client.ask(Method::POST, &format!("{path}/disable"), &[]).await?;
                        client.ask(Method::DELETE, &path, &[]).await
                    }
                    answer => answer,
                }
            };
            at.with(ask, |_deleted: &Value| Ok(format!("tenant {} is removed\n", output::plain(name))))
        }
    }
}

fn line(tenant: &Value) -> String {
    format!(
        "{:<20} {} active keys{}\n",
        output::plain(tenant["name"].as_str().unwrap_or("-")),
        tenant["keys"],
        if tenant["disabled"] == true { ", disabled" } else { "" }
    )
}
