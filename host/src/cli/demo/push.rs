//! Pushes bodies over HTTP as any client would: several connections, and a refusal for now is waited out.
//!
//! It refuses to send a body again of which it cannot know whether it was stored: a demo that counts must not count
//! twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

use super::input::Body;

/// Connections that push at the same time.
pub(super) const CONNECTIONS: usize = 4;
/// Longest wait for one answer: the host acknowledges when the records are on disk.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The pause where the host names none, and the longest one.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A host that refuses for so long will not come round.
const REFUSED_MAX: u32 = 120;

/// What has been acknowledged so far.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    records: AtomicU64,
    bytes: AtomicU64,
    /// Requests that were refused for now and sent again.
    refused: AtomicU64,
}

impl Acknowledged {
    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Pushes every body; late ones only after `go_on` is true.
pub(super) async fn push_all(
    url: String,
    bodies: mpsc::Receiver<Body>,
    go_on: watch::Receiver<bool>,
    acknowledged: Arc<Acknowledged>,
) -> Result<()> {
    let client = Client::builder().no_proxy().timeout(ANSWER_MAX).build().context("make an HTTP client")?;
    let bodies = Arc::new(Mutex::new(bodies));
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (client, url, acknowledged) = (client.clone(), url.clone(), Arc::clone(&acknowledged));
        let (bodies, mut go_on) = (Arc::clone(&bodies), go_on.clone());
        connections.spawn(async move {
            loop {
                let next = bodies.lock().await.recv().await;
                let Some(body) = next else { return Ok::<_, anyhow::Error>(()) };
                if body.late {
                    go_on.wait_for(|go_on| *go_on).await.context("the demo was given up")?;
                }
                push(&client, &url, body, &acknowledged).await?;
            }
        });
    }
    while let Some(ended) = connections.join_next().await {
        // The first error ends the others with the set.
        ended.context("push")??;
    }
    Ok(())
}

async fn push(client: &Client, url: &str, body: Body, acknowledged: &Acknowledged) -> Result<()> {
    for _ in 0..REFUSED_MAX {
        let request = client.post(url).header(CONTENT_TYPE, "application/x-ndjson").body(body.lines.clone());
        let answer = request.send().await.context("push records")?;
        let status = answer.status();
        let pause = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = answer.bytes().await.context("read the answer to a push")?;
        let json: Value = serde_json::from_slice(&text).unwrap_or_default();
        match status {
            StatusCode::OK => {
                let records = json["records"].as_u64();
                if records != Some(body.records) {
                    bail!("the host acknowledged {records:?} of {} records", body.records);
                }
                acknowledged.records.fetch_add(body.records, Ordering::Relaxed);
                acknowledged.bytes.fetch_add(body.lines.len() as u64, Ordering::Relaxed);
                return Ok(());
            }
            // Nothing of it is stored.
            StatusCode::TOO_MANY_REQUESTS => {}
            StatusCode::SERVICE_UNAVAILABLE if json["error"]["code"] == "unavailable" => {}
            _ => bail!("push was answered with {status}: {}", json["error"]["message"]),
        }
        acknowledged.refused.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause.map_or(PAUSE, Duration::from_secs).min(PAUSE_MAX)).await;
    }
    bail!("the host refused a push {REFUSED_MAX} times")
}

#[cfg(test)]
mod tests;
