//! `wasmill tenant create|list|quota|disable|enable|delete`: the tenants of a running host, for operators.

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
        /// Discard records of former streams of this name that were not delivered
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        at: AtHost,
    },
    /// List the tenants
    List {
        #[command(flatten)]
        at: AtHost,
    },
    /// Show or change what a tenant may use
    #[command(after_help = "Examples:\n  \
        wasmill tenant quota team-a --host https://wasmill:7070\n  \
        wasmill tenant quota team-a --set records_per_second=10000 --set cpu=0.5 --unset streams --host https://wasmill:7070")]
    Quota {
        name: String,
        /// A quota and its number, in the units of docs/quotas.md; others stay as they are
        #[arg(long, value_name = "QUOTA=NUMBER", value_parser = pair)]
        set: Vec<(String, Value)>,
        /// A quota that is to be as the configuration says
        #[arg(long, value_name = "QUOTA")]
        unset: Vec<String>,
        #[command(flatten)]
        at: AtHost,
    },
    /// Let a tenant's keys be of no use until it is enabled again; its streams go on
    Disable {
        name: String,
        #[command(flatten)]
        at: AtHost,
    },
    /// Let the keys of a disabled tenant be of use again
    Enable {
        name: String,
        #[command(flatten)]
        at: AtHost,
    },
    /// Remove a tenant with its keys; one that has streams is refused, and stays as it was
    Delete {
        name: String,
        /// With records of former streams that were not delivered
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        at: AtHost,
    },
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Create { name, force, at } => {
            let body = json!({ "name": name });
            let path = if *force { "/v1/tenants?force=true" } else { "/v1/tenants" };
            at.with(
                async |client: &HostClient| client.post(path, &body).await,
                |answer| Ok(line(&answer["tenant"])),
            )
        }
        Command::List { at } => at.with(
            async |client: &HostClient| client.ask(Method::GET, "/v1/tenants", &[]).await,
            |answer| Ok(answer["tenants"].as_array().into_iter().flatten().map(line).collect()),
        ),
        Command::Quota { name, set, unset, at } => {
            let path = format!("/v1/tenants/{}/quotas", encoded(name));
            let ask = async |client: &HostClient| {
                if set.is_empty() && unset.is_empty() {
                    return client.ask(Method::GET, &path, &[]).await;
                }
                // What another operator changes meanwhile is not undone.
                let (there, tag) = client.tagged(&path).await?;
                let mut quotas = there["quotas"].as_object().cloned().unwrap_or_default();
                quotas.extend(set.iter().cloned());
                unset.iter().for_each(|quota| drop(quotas.remove(quota)));
                client.put(&path, &[], &("if-match", tag), &Value::Object(quotas)).await
            };
            at.with(ask, |answer| Ok(quotas(answer)))
        }
        Command::Disable { name, at } => at.with(
            async |client: &HostClient| set_disabled(client, name, true).await,
            |answer| Ok(line(&answer["tenant"])),
        ),
        Command::Enable { name, at } => at.with(
            async |client: &HostClient| set_disabled(client, name, false).await,
            |answer| Ok(line(&answer["tenant"])),
        ),
        Command::Delete { name, force, at } => {
            let path = format!("/v1/tenants/{}", encoded(name));
            let pairs: Vec<(&str, String)> =
                force.then(|| ("force", "true".to_owned())).into_iter().collect();
            let ask = async |client: &HostClient| {
                // One that may not be removed is not cut off either.
                match client.ask(Method::DELETE, &path, &pairs).await {
                    Err(error)
                        if error.downcast_ref::<Refused>().is_some_and(|why| why.code == "not_disabled") =>
                    {
                        let _disabled = set_disabled(client, name, true).await?;
                        let deleted = client.ask(Method::DELETE, &path, &pairs).await;
                        if deleted.is_err() {
                            // The reason for the refusal is what is to be told.
                            let _enabled = set_disabled(client, name, false).await;
                        }
                        deleted
                    }
                    answer => answer,
                }
            };
            at.with(ask, |_deleted: &Value| Ok(format!("tenant {} is removed\n", output::plain(name))))
        }
    }
}

async fn set_disabled(client: &HostClient, name: &str, disabled: bool) -> Result<Value> {
    let what = if disabled { "disable" } else { "enable" };
    client.ask(Method::POST, &format!("/v1/tenants/{}/{what}", encoded(name)), &[]).await
}

/// `cpu=0.5`.
fn pair(text: &str) -> Result<(String, Value), String> {
    let (name, number) = text.split_once('=').ok_or("expected QUOTA=NUMBER, such as streams=10")?;
    let whole = number.parse::<u64>().map(Value::from);
    let number = whole.or_else(|_fraction| number.parse::<f64>().map(Value::from));
    let number = number.map_err(|_no_number| format!("{text:?}: expected a number behind the ="))?;
    Ok((name.to_owned(), number))
}

fn quotas(answer: &Value) -> String {
    let set = answer["quotas"].as_object().into_iter().flatten();
    let lines: String = set.map(|(quota, number)| format!("{quota:<20} {number}\n")).collect();
    match lines.is_empty() {
        true => "nothing is set: the configuration says it all\n".to_owned(),
        false => lines,
    }
}

fn line(tenant: &Value) -> String {
    let whose = match (tenant["owner"].as_str(), tenant["left_file"].as_bool()) {
        (Some("file"), _) => ", of the file",
        (_, Some(true)) => ", no longer in the file",
        _ => "",
    };
    format!(
        "{:<20} {} active keys{}{whose}\n",
        output::plain(tenant["name"].as_str().unwrap_or("-")),
        tenant["keys"],
        if tenant["disabled"] == true { ", disabled" } else { "" }
    )
}
