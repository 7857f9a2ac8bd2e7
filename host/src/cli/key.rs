//! `wasmill key create|list|rotate|revoke`: the keys of a tenant.
//!
//! A running host is asked over HTTP; the first key of all is made in the data directory, before a host runs that would
//! ask for one. The text of a key goes to stdout, and nowhere else.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};
use wasmill_config::Settings;
use wasmill_tenant::{NewKey, Scope, Scopes, TenantName};

use super::host_client::{AtHost, HostClient, encoded};
use super::{check, output};
use crate::pipeline::stats::wall_clock_ns;
use crate::pipeline::{OfflineKeyError, create_key_offline, moment_text};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key, and print its text: it is shown this once
    #[command(
        after_help = "The first key of a host is made before it starts, in its data directory; all others by asking it.\n\n\
        Examples:\n  \
        wasmill key create --operator --name first > operator.key\n  \
        WASMILL_KEY=$(cat operator.key) wasmill key create --name edge --scope push --expires 90d --host https://wasmill:7070\n  \
        wasmill key create --operator --data-dir /var/lib/wasmill"
    )]
    Create(Create),
    /// List the keys of the tenant: what they may do, and when they were last used
    List {
        #[command(flatten)]
        at: AtHost,
    },
    /// Give a key a new secret, and print its text; the one before is good for a grace time
    #[command(after_help = "Example:\n  wasmill key rotate 7fLsE0aXw31q --grace 24h > edge.key")]
    Rotate {
        /// The id of the key
        id: String,
        /// How long the secret before is good: 0s, 10m, 24h, 7d
        #[arg(long, value_name = "TIME", default_value = "1h")]
        grace: String,
        #[command(flatten)]
        at: AtHost,
    },
    /// End a key, at once and for good
    Revoke {
        /// The id of the key
        id: String,
        #[command(flatten)]
        at: AtHost,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// What people call it
    #[arg(long, default_value = "key")]
    name: String,
    /// What it may do: push, read, plugins, admin; several times or with commas
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', required_unless_present = "operator")]
    scope: Vec<Scope>,
    /// The scope operator: everything on the host
    #[arg(long)]
    operator: bool,
    /// When it ends: 12h, 90d; without, it does not
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<Duration>,
    /// Requests may be signed with it, as AWS's SDKs do: prints lines of an environment, AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY among them
    #[arg(long)]
    signs: bool,
    /// Make it in this data directory, on which no host runs
    #[arg(long, value_name = "DIR", conflicts_with = "host")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    at: AtHost,
}

/// `90s`, `5m`, `12h`, `90d`.
fn lifetime(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("expected a number and a unit, such as 12h or 90d".to_owned()),
    };
    let seconds = number.parse().ok().and_then(|number: u64| number.checked_mul(unit));
    let seconds = seconds.filter(|seconds| (1..=3660 * 86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected 1s to 3660d".to_owned())
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Create(create) => create.run(),
        Command::List { at } => at.with(
            async |client: &HostClient| client.ask(Method::GET, "/v1/keys", &[]).await,
            |answer| Ok(answer["keys"].as_array().into_iter().flatten().map(line).collect()),
        ),
        Command::Rotate { id, grace, at } => {
            let path = format!("/v1/keys/{}/rotate", encoded(id));
            let body = json!({ "grace": grace });
            at.with(async |client: &HostClient| client.post(&path, &body).await, |answer| {
                output::complain(format_args!(
                    "key {id} has a new secret, which is shown this once; the one before is good for {grace}"
                ));
                secret(answer)
            })
        }
        Command::Revoke { id, at } => {
            let path = format!("/v1/keys/{}", encoded(id));
            at.with(
                async |client: &HostClient| client.ask(Method::DELETE, &path, &[]).await,
                |answer| Ok(line(&answer["key"])),
            )
        }
    }
}

impl Create {
    fn scopes(&self) -> Scopes {
        self.scope.iter().copied().chain(self.operator.then_some(Scope::Operator)).collect()
    }

    fn run(&self) -> Result<ExitCode> {
        if let Some(data_dir) = &self.data_dir {
            return self.offline(data_dir)?.map_err(|running| self.ask_instead(&running));
        }
        // Who has a key asks a host.
        if !self.at.names_host() && !self.at.access().has_key() {
            let settings = match Settings::load(self.at.config()) {
                Ok(settings) => settings,
                Err(error) => return Ok(check::refuse(&error)),
            };
            match self.offline(&settings.data_dir)? {
                Ok(code) => return Ok(code),
                Err(running) => return Err(self.ask_instead(&running)),
            }
        }
        let expires_in = self.expires.map(|expires| format!("{}s", expires.as_secs()));
        let body = json!({ "name": self.name, "scopes": self.scopes(), "expires_in": expires_in, "signs": self.signs });
        self.at.with(
            async |client: &HostClient| client.post("/v1/keys", &body).await,
            |answer| {
                told(&answer["key"]);
                secret(answer)
            },
        )
    }

    /// The inner error: a host runs there.
    fn offline(&self, data_dir: &Path) -> Result<Result<ExitCode, OfflineKeyError>> {
        let tenant = match self.at.access().tenant() {
            Some(name) => TenantName::new(name).context("--tenant")?,
            None => TenantName::default_tenant(),
        };
        if self.operator && !tenant.is_default() {
            bail!("keys of operators belong to the tenant default");
        }
        let now = u64::try_from(wall_clock_ns()).unwrap_or(0) / 1_000_000;
        let expires_ms = self.expires.map(|expires| now + expires.as_secs() * 1000);
        let new = NewKey { name: self.name.clone(), scopes: self.scopes(), expires_ms, signs: self.signs };
        let (text, key, signing) = match create_key_offline(data_dir, &tenant, new) {
            Ok(made) => made,
            Err(running @ OfflineKeyError::Running { .. }) => return Ok(Err(running)),
            Err(error) => return Err(error).with_context(|| data_dir.display().to_string()),
        };
        let key = serde_json::to_value(key).context("write JSON")?;
        let code = if self.at.json() {
            let mut answer = json!({ "key": key, "secret": text.reveal() });
            if let Some(signing) = signing {
                answer["signing"] = json!(signing);
            }
            output::print_json(&answer)
        } else {
            told(&key);
            output::print(&secret(&json!({ "secret": text.reveal(), "signing": signing }))?)
        };
        code.map(Ok)
    }

    fn ask_instead(&self, running: &OfflineKeyError) -> anyhow::Error {
        anyhow::anyhow!(
            "{running}: ask it, with a key of an operator or an admin, by `wasmill key create --host URL` and WASMILL_KEY, or \
             by POST /v1/keys with {}",
            json!({ "name": self.name, "scopes": self.scopes() })
        )
    }
}

fn told(key: &Value) {
    output::complain(format_args!(
        "key {} of tenant {} ({}) is made; its text is shown this once",
        text(&key["id"]),
        text(&key["tenant"]),
        scopes(key)
    ));
}

fn secret(answer: &Value) -> Result<String> {
    let secret = answer["secret"].as_str().context("read the host's answer")?;
    let signing = &answer["signing"];
    let Some(id) = signing["access_key_id"].as_str() else {
        return Ok(format!("{}\n", output::plain(secret)));
    };
    Ok(format!(
        "WASMILL_KEY={}\nAWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n",
        output::plain(secret),
        output::plain(id),
        text(&signing["secret_access_key"])
    ))
}

fn text(value: &Value) -> String {
    output::plain(value.as_str().unwrap_or("-"))
}

fn scopes(key: &Value) -> String {
    let scopes: Vec<String> = key["scopes"].as_array().into_iter().flatten().map(text).collect();
    scopes.join(" ")
}

/// One key, as a line of a table.
fn line(key: &Value) -> String {
    let moment = |name: &str| {
        let ms = key[name].as_i64()?;
        Some(moment_text(ms.saturating_mul(1_000_000)))
    };
    let mut line = format!(
        "{}  {:<8} {:<20} {}",
        text(&key["id"]),
        text(&key["state"]),
        text(&key["name"]),
        scopes(key)
    );
    for (name, says) in [
        ("expires_ms", "expires"),
        ("revoked_ms", "revoked"),
        ("last_used_ms", "last used"),
        ("previous_until_ms", "secret before good until"),
    ] {
        if let Some(moment) = moment(name) {
            line.push_str(&format!(", {says} {moment}"));
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetime_has_a_number_a_unit_and_bounds() {
        assert_eq!(lifetime("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for wrong in ["", "0s", "90", "d", "1w", "-1d", "9999999999999999999d", "3661d"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
