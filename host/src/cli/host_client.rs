//! A running host, asked over its HTTP API by commands that need one or give way to it.
//!
//! It owns how long an answer may take and how a refusal reads. It refuses proxies: the host is near.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wasmill_config::Settings;

/// Longest wait for one answer: a replay's start compiles plugins, and a step ends when its outcome is on disk.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// See the head of this file.
pub(super) struct HostClient {
    client: Client,
    address: String,
}

impl HostClient {
    /// `address` is a URL without a path.
    pub(super) fn new(address: &str) -> Result<HostClient> {
        if !["http://", "https://"].iter().any(|scheme| address.starts_with(scheme)) {
            bail!("{address:?} is no address of a host, which is a URL such as http://127.0.0.1:7070");
        }
        let client =
            Client::builder().no_proxy().timeout(ANSWER_MAX).build().context("make an HTTP client")?;
        Ok(HostClient { client, address: address.trim_end_matches('/').to_owned() })
    }

    /// The host that holds the data directory, as `running` says. `otherwise` is what to do where the configuration does
    /// not tell its address.
    pub(super) fn listening(
        listen: Option<SocketAddr>,
        running: &dyn Display,
        otherwise: &str,
    ) -> Result<HostClient> {
        match listen {
            Some(address) if address.port() != 0 => HostClient::new(&format!("http://{address}")),
            _ => bail!("{running}, and the configuration does not say where it listens: {otherwise}"),
        }
    }

    /// The host that runs with these settings, which are in the file `config`.
    pub(super) fn configured(settings: &Settings, config: &Path) -> Result<HostClient> {
        match settings.http.listen {
            Some(address) if address.port() != 0 => HostClient::new(&format!("http://{address}")),
            _ => bail!(
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

    fn url(&self, path: &str, pairs: &[(&str, String)]) -> String {
        let query: Vec<String> =
            pairs.iter().map(|(name, text)| format!("{name}={}", encoded(text))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{path}{mark}{}", self.address, query.join("&"))
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T> {
        let answer = request.send().await.context("ask the host")?;
        let status = answer.status();
        let body = answer.bytes().await.context("read the host's answer")?;
        if !status.is_success() {
            let json: Value = serde_json::from_slice(&body).unwrap_or_default();
            let message = json["error"]["message"].as_str().unwrap_or("without a reason");
            bail!("the host answered {status}: {message}");
        }
        serde_json::from_slice(&body).context("read the host's answer")
    }
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
fn encoded(text: &str) -> String {
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
