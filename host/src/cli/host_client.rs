//! A running host, asked over its HTTP API by commands that need one or give way to it.
//!
//! It owns how long an answer may take and how a refusal reads. It refuses proxies: the host is near.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wasmill_config::{Http, Secret, Settings};

use super::config_file::DEFAULT;
use super::{check, output, runtime};

/// Longest wait for one answer: a replay's start compiles plugins, and a step ends when its outcome is on disk.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// How a host is asked: with which key, and whose certificate it may have.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Access to the host")]
pub(super) struct Access {
    /// The key or token that the host asks for; better in WASMILL_KEY than where others see it
    #[arg(long, env = "WASMILL_KEY", hide_env_values = true, value_name = "KEY", value_parser = secret)]
    key: Option<Secret>,
    /// The tenant that an operator acts for
    #[arg(long, env = "WASMILL_TENANT", value_name = "NAME")]
    tenant: Option<String>,
    /// Certificates (PEM) of who may have signed the host's, besides those that the system knows
    #[arg(long, env = "WASMILL_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate and private key (PEM) to show to the host
    #[arg(long, env = "WASMILL_IDENTITY", value_name = "FILE")]
    identity: Option<PathBuf>,
}

fn secret(text: &str) -> Result<Secret, String> {
    let text = text.trim();
    match text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Err("a key is one word of printable ASCII characters".to_owned()),
        false => Ok(Secret::new(text.to_owned())),
    }
}

impl Access {
    pub(super) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    pub(super) fn has_key(&self) -> bool {
        self.key.is_some() || self.identity.is_some()
    }

    fn client(&self) -> Result<Client> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.key {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", key.reveal())).context("send the key")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(tenant) = &self.tenant {
            let value = HeaderValue::try_from(tenant)
                .context("--tenant: a name of a tenant has no such characters")?;
            headers.insert("wasmill-tenant", value);
        }
        let mut client = Client::builder().no_proxy().timeout(ANSWER_MAX).default_headers(headers);
        // The key goes where it was sent to, and nowhere else.
        client = client.redirect(reqwest::redirect::Policy::none());
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
        if let Some(path) = &self.ca {
            let found = reqwest::Certificate::from_pem_bundle(&read(path)?);
            let found = found.with_context(|| format!("{}: no certificates in PEM", path.display()))?;
            if found.is_empty() {
                bail!("{} has no certificate", path.display());
            }
            for certificate in found {
                client = client.add_root_certificate(certificate);
            }
        }
        if let Some(path) = &self.identity {
            let identity = reqwest::Identity::from_pem(&read(path)?);
            let told = || format!("{}: no certificate with its private key in PEM", path.display());
            client = client.identity(identity.with_context(told)?);
        }
        client.build().context("make an HTTP client")
    }
}

/// Which host is asked.
#[derive(Debug, clap::Args)]
pub(super) struct AtHost {
    /// Address of the running host, where the configuration does not say it: http://127.0.0.1:7070
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    host: Option<String>,
    /// The configuration (TOML) that says where the host listens
    #[arg(long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
    /// What the host answers, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl AtHost {
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    pub(super) fn names_host(&self) -> bool {
        self.host.is_some()
    }

    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Asks; a configuration that is wrong gives the exit code of usage.
    pub(super) fn with(
        &self,
        ask: impl AsyncFnOnce(&HostClient) -> Result<Value>,
        say: impl FnOnce(&Value) -> Result<String>,
    ) -> Result<ExitCode> {
        let client = match &self.host {
            Some(host) => HostClient::new(host, &self.access)?,
            None => {
                let settings = match Settings::load(&self.config) {
                    Ok(settings) => settings,
                    Err(error) => return Ok(check::refuse(&error)),
                };
                HostClient::configured(&settings, &self.config, &self.access)?
            }
        };
        let answer = runtime()?.block_on(ask(&client))?;
        if self.json { output::print_json(&answer) } else { output::print(&say(&answer)?) }
    }
}

/// See the head of this file.
pub(super) struct HostClient {
    client: Client,
    address: String,
}

impl HostClient {
    /// `address` is a URL without a path.
    pub(super) fn new(address: &str, access: &Access) -> Result<HostClient> {
        if !["http://", "https://"].iter().any(|scheme| address.starts_with(scheme)) {
            bail!("{address:?} is no address of a host, which is a URL such as http://127.0.0.1:7070");
        }
        Ok(HostClient { client: access.client()?, address: address.trim_end_matches('/').to_owned() })
    }

    /// The host that holds the data directory, as `running` says. `otherwise` is what to do where the configuration does
    /// not tell its address.
    pub(super) fn listening(
        http: &Http,
        running: &dyn Display,
        otherwise: &str,
        access: &Access,
    ) -> Result<HostClient> {
        match own_address(http) {
            Some(address) => HostClient::new(&address, access),
            None => bail!("{running}, and the configuration does not say where it listens: {otherwise}"),
        }
    }

    /// The host that runs with these settings, which are in the file `config`.
    pub(super) fn configured(settings: &Settings, config: &Path, access: &Access) -> Result<HostClient> {
        match own_address(&settings.http) {
            Some(address) => HostClient::new(&address, access),
            None => bail!(
                "{} does not say where the host listens: give its address with --host URL",
                config.display()
            ),
        }
    }

    /// One request; `pairs` are its query.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        pairs: &[(&str, String)],
    ) -> Result<T> {
        self.answer(self.client.request(method, self.url(path, pairs))).await
    }

    /// One POST with a body of JSON.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body).context("write JSON")?;
        let request = self.client.post(format!("{}{path}", self.address));
        self.answer(request.header("content-type", "application/json").body(body)).await
    }

    /// One operation of the API of Amazon Data Firehose.
    pub(super) async fn firehose(&self, operation: &str, body: &Value) -> Result<Value> {
        let request = self.client.post(format!("{}/", self.address));
        let request = request.header("content-type", "application/x-amz-json-1.1");
        let request = request.header("x-amz-target", format!("Firehose_20150804.{operation}"));
        self.answer(request.body(body.to_string())).await
    }

    /// One GET, with the tag of what was answered.
    pub(super) async fn tagged(&self, path: &str) -> Result<(Value, String)> {
        let answer = self.client.get(self.url(path, &[])).send().await.context("ask the host")?;
        let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok()).unwrap_or("*").to_owned();
        Ok((HostClient::read(answer).await?, tag))
    }

    /// One GET, of which the answer goes to stdout as it comes.
    pub(super) async fn copy(&self, path: &str, pairs: &[(&str, String)]) -> Result<()> {
        let mut answer = self.client.get(self.url(path, pairs)).send().await.context("ask the host")?;
        if !answer.status().is_success() {
            let _refused: Value = HostClient::read(answer).await?;
            return Ok(());
        }
        while let Some(piece) = answer.chunk().await.context("read the host's answer")? {
            output::print_bytes(&piece)?;
        }
        Ok(())
    }

    /// One PUT of JSON, under a condition: the name of its header and the value.
    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        pairs: &[(&str, String)],
        (condition, value): &(&'static str, String),
        body: &impl Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).context("write JSON")?;
        let request = self.client.put(self.url(path, pairs)).header(*condition, value.as_str());
        self.answer(request.header("content-type", "application/json").body(body)).await
    }

    /// One POST of a file.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        pairs: &[(&str, String)],
        kind: &'static str,
        body: Vec<u8>,
    ) -> Result<T> {
        let request = self.client.post(self.url(path, pairs));
        self.answer(request.header("content-type", kind).body(body)).await
    }

    /// The same with one more header, any number of times.
    pub(super) async fn upload_with<T: DeserializeOwned>(
        &self,
        path: &str,
        pairs: &[(&str, String)],
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> Result<T> {
        let mut request = self.client.post(self.url(path, pairs)).header("content-type", "application/wasm");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        self.answer(request.body(body)).await
    }

    fn url(&self, path: &str, pairs: &[(&str, String)]) -> String {
        let query: Vec<String> =
            pairs.iter().map(|(name, text)| format!("{name}={}", encoded(text))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{path}{mark}{}", self.address, query.join("&"))
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T> {
        HostClient::read(request.send().await.context("ask the host")?).await
    }

    async fn read<T: DeserializeOwned>(answer: reqwest::Response) -> Result<T> {
        let status = answer.status();
        let body = answer.bytes().await.context("read the host's answer")?;
        if !status.is_success() {
            let json: Value = serde_json::from_slice(&body).unwrap_or_default();
            // The API of Firehose has its members at the top.
            let message = json["error"]["message"].as_str().or(json["message"].as_str());
            let message = message.unwrap_or("without a reason");
            let problems = json["error"]["problems"].as_array().into_iter().flatten();
            let problems: String = problems
                .map(|problem| {
                    let text = |name: &str| problem[name].as_str().unwrap_or_default();
                    format!("\n  {}: {}", text("key"), text("message"))
                })
                .collect();
            let hint = match status.as_u16() {
                401 => "; give one with --key or WASMILL_KEY",
                _ => "",
            };
            let code =
                json["error"]["code"].as_str().or(json["__type"].as_str()).unwrap_or_default().to_owned();
            return Err(Refused {
                code,
                text: format!("the host answered {status}: {message}{hint}{problems}"),
            }
            .into());
        }
        serde_json::from_slice(&body).context("read the host's answer")
    }
}

/// What a host answered that does not do it.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Refused {
    /// As the HTTP interface names it.
    pub(super) code: String,
    text: String,
}

/// Where a host with these settings is asked on its own machine.
fn own_address(http: &Http) -> Option<String> {
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    http.listen.filter(|address| address.port() != 0).map(|address| format!("{scheme}://{address}"))
}

/// The path of a stream's routes.
pub(super) fn stream_path(stream: &str) -> String {
    format!("/v1/streams/{}", encoded(stream))
}

/// The path of a plugin's routes.
pub(super) fn plugin_path(plugin: &str) -> String {
    format!("/v1/plugins/{}", encoded(plugin))
}

/// Percent-encoded, for a query or a step of a path.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~,".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
